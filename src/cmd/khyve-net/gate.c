/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/gate.h"

#include "cmd/khyve-net/nat.h"
#include "cmd/khyve-net/neigh.h"
#include "loop/loop.h"

#define ETH_LEN 14u

static void send_out(void *arg, const void *frame, size_t len)
{
	struct gate *g = arg;

	filter_out(&g->filter, loop_now(g->loop), frame, len);
	g->send(g->arg, frame, len);
}

int gate_init(struct gate *g, struct loop *l, const struct nat_config *cfg, struct err *err)
{
	struct nat_config own = *cfg;

	g->loop = l;
	g->send = cfg->send;
	g->arg = cfg->arg;
	g->frame_max = ETH_LEN + cfg->mtu;
	g->filter.host_loopback = cfg->host_loopback;
	g->filter.closed = cfg->closed;
	own.send = send_out;
	own.arg = g;
	return nat_new(l, &own, &g->nat, err);
}

void gate_fini(struct gate *g)
{
	nat_free(g->nat);
	g->nat = NULL;
}

/* Whoever opens something is known before the answer. */
static void introduce(struct gate *g, const uint8_t *frame)
{
	uint8_t neigh[NEIGH_FRAME_MAX];
	size_t len = filter_opens(frame) ? neigh_introduce(frame, neigh) : 0;

	if (len)
		nat_input(g->nat, neigh, len);
}

void gate_in(struct gate *g, uint8_t *frame, size_t len)
{
	enum filter_verdict verdict = FILTER_DROP;
	uint64_t now = loop_now(g->loop);

	if (len <= g->frame_max)
		verdict = filter_in(&g->filter, now, frame, len);
	if (verdict == FILTER_PIECE) {
		frame = frag_add(&g->frag, now, frame, &len);
		if (!frame)
			return;
		verdict = filter_in(&g->filter, now, frame, len);
	}
	/* With no room for more, what is open goes on. */
	if (verdict == FILTER_PASS && nat_flows(g->nat) >= NAT_FLOWS_MAX && filter_opens(frame))
		verdict = FILTER_DROP;
	if (verdict != FILTER_PASS) {
		g->dropped++;
		return;
	}
	introduce(g, frame);
	nat_input(g->nat, frame, len);
}
