/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "back/net.h"
#include "frame.h"
#include "load_tap.h"
#include "loop/loop.h"
#include "util/macros.h"

/*
 * net_load send|recv small|large uring|epoll: frames through a tap in a name space of its own, a batch at a time, for
 * bench/net_count. Small ones have 64 bytes, large ones 64 KiB to be segmented by whoever comes next. Prints the number
 * of frames and the loop's system calls.
 */
#define SMALL_BATCH 64
#define LARGE_BATCH 16
#define ROUNDS 50

struct load {
	struct loop *l;
	struct net *n;
	int packet;
	bool recv;
	unsigned int batch, done;
	size_t len; /* of a frame with header */
	uint8_t frame[66000];
	struct net_req *list[SMALL_BATCH];
	struct slot {
		struct net_req req;
		struct iovec iov[2]; /* the last one is the line's */
		struct load *load;
		uint8_t buf[66000];
	} slots[SMALL_BATCH];
};

static void on_done(struct net_req *r, int res)
{
	struct load *t = container_of(r, struct slot, req)->load;

	if (res != (t->recv ? (int)t->len : 0))
		errx(1, "a frame failed: %d", res);
	t->done++;
}

static void on_readable(void *arg, unsigned int q)
{
	struct load *t = arg;

	net_recv(t->n, q, t->list, t->batch);
	net_want(t->n, q, false);
}

/* All that khyve does for a batch, from the guest's kick or the host's frames on. Counted by name. */
void khyve_side(struct load *t);
__attribute__((noinline)) void khyve_side(struct load *t)
{
	t->done = 0;
	if (t->recv)
		net_want(t->n, 0, true);
	else
		net_send(t->n, 0, t->list, t->batch);
	while (t->done < t->batch)
		loop_step(t->l, true);
}

static void set_up_load(struct load *t, bool large, bool uring)
{
	static const struct net_events events = { .readable = on_readable };
	const struct net_spec spec = { .backend = (char[]){ "tap0" } };
	const struct frame_kind k = { .tcp_flags = 0x10 };
	struct net_hdr h = { 0 };
	struct frame f;

	t->l = loop_new(uring ? LOOP_URING : LOOP_EPOLL, NULL);
	t->n = t->l ? net_open(t->l, &spec, NULL) : NULL;
	if (!t->n)
		errx(1, "cannot open the tap");
	net_set_offloads(t->n, NET_O_ALL);
	net_set_events(t->n, &events, t);
	t->batch = large ? LARGE_BATCH : SMALL_BATCH;
	frame_make(&f, t->frame + NET_HDR_LEN, &k, large ? 65480 : 10);
	if (large)
		h = (struct net_hdr){ .flags = NET_HDR_NEEDS_CSUM,
				      .gso_type = NET_GSO_TCPV4,
				      .gso_size = 1448,
				      .hdr_len = (uint16_t)f.payload,
				      .csum_start = (uint16_t)f.l4,
				      .csum_offset = 16 };
	memcpy(t->frame, &h, sizeof(h));
	t->len = NET_HDR_LEN + f.len;
	for (unsigned int i = 0; i < t->batch; i++) {
		struct slot *s = &t->slots[i];

		memcpy(s->buf, t->frame, t->len);
		s->load = t;
		s->iov[0] = (struct iovec){ s->buf, t->len };
		s->req = (struct net_req){ .iov = s->iov, .iovcnt = 1, .done = on_done };
		t->list[i] = &s->req;
	}
}

/* The packet socket's header lacks the last field, num_buffers. */
static void host_sends(struct load *t)
{
	struct iovec iov[2] = { { t->frame, NET_HDR_LEN - 2 },
				{ t->frame + NET_HDR_LEN, t->len - NET_HDR_LEN } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

	for (unsigned int i = 0; i < t->batch; i++)
		if (sendmsg(t->packet, &m, 0) < 0)
			err(1, "cannot send through the packet socket");
}

int main(int argc, char **argv)
{
	struct load *t = calloc(1, sizeof(*t));
	struct loop_stats before, after;

	if (!t || argc != 4)
		errx(2, "usage: net_load send|recv small|large uring|epoll");
	t->recv = strcmp(argv[1], "recv") == 0;
	t->packet = load_tap();
	set_up_load(t, strcmp(argv[2], "large") == 0, strcmp(argv[3], "uring") == 0);
	while (loop_step(t->l, false))
		;
	loop_stats_get(t->l, &before);
	for (int i = 0; i < ROUNDS; i++) {
		if (t->recv)
			host_sends(t);
		khyve_side(t);
	}
	loop_stats_get(t->l, &after);
	printf("%u %llu\n", ROUNDS * t->batch, (unsigned long long)(after.waits - before.waits));
	net_close(t->n);
	loop_free(t->l);
	free(t);
	return 0;
}
