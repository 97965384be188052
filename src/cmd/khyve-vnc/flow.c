/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/flow.h"

#include <errno.h>
#include <string.h>

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/rfb.h"
#include "util/bytes.h"

void flow_fences(struct client *c)
{
	c->caps.fence = true;
	if (!c->flow.fence_told) {
		c->flow.fence_told = c->flow.fence_due = true;
		client_kick(c);
	}
}

void flow_continuous(struct client *c)
{
	if (!c->flow.continuous_told) {
		c->flow.continuous_told = c->flow.end_due = true;
		client_kick(c);
	}
}

static void take_answer(struct client *c)
{
	struct flow *f = &c->flow;

	if (f->unanswered == 0)
		return;
	f->answered_at = f->at[f->head];
	f->head = (f->head + 1) % FLOW_FENCES;
	f->unanswered--;
	client_kick(c);
}

ssize_t flow_handle_fence(struct client *c, const uint8_t *in, size_t len)
{
	struct flow *f = &c->flow;
	uint32_t flags;

	if (len < 9)
		return 0;
	if (in[8] > FLOW_PAYLOAD_MAX)
		return -EPROTO;
	if (len < 9u + in[8])
		return 0;
	flags = get_be32(in + 4);
	if (!(flags & RFB_FENCE_REQUEST)) {
		take_answer(c);
		return 9 + in[8];
	}
	if (f->fence == FLOW_SYNC_NEXT) {
		/* A fence as the message that one waits for: first things first. */
		f->fence = FLOW_DUE;
		client_kick(c);
		return 0;
	}
	f->fence = FLOW_NEW;
	f->fence_flags = flags & RFB_FENCE_FLAGS;
	f->fence_len = in[8];
	memcpy(f->payload, in + 9, in[8]);
	return 9 + in[8];
}

ssize_t flow_handle_enable(struct client *c, const uint8_t *in, size_t len)
{
	struct flow *f = &c->flow;

	/* Only after our word that we know it. */
	if (!f->continuous_told)
		return -EPROTO;
	if (len < 10)
		return 0;
	f->continuous = in[1] != 0;
	f->region = (struct rect){ .x = get_be16(in + 2),
				   .y = get_be16(in + 4),
				   .w = get_be16(in + 6),
				   .h = get_be16(in + 8) };
	if (!f->continuous)
		f->end_due = true;
	client_kick(c);
	return 10;
}

void flow_handled(struct client *c, bool whole)
{
	struct flow *f = &c->flow;

	if (f->fence == FLOW_NEW)
		f->fence = f->fence_flags & RFB_FENCE_SYNC_NEXT ? FLOW_SYNC_NEXT : FLOW_DUE;
	else if (f->fence == FLOW_SYNC_NEXT && whole)
		f->fence = FLOW_DUE;
	if (f->fence == FLOW_DUE)
		client_kick(c);
}

bool flow_blocked(const struct client *c)
{
	return c->flow.fence == FLOW_DUE;
}

bool flow_open(const struct client *c, struct rect *region)
{
	const struct flow *f = &c->flow;
	struct rect screen = { .w = c->width, .h = c->height };

	if (!f->continuous || f->unanswered == FLOW_FENCES)
		return false;
	if (f->unanswered && f->last_at - f->answered_at >= FLOW_BYTES)
		return false;
	*region = f->region;
	return rect_clip(region, &screen);
}

static void put_fence(struct client *c, uint32_t flags, const uint8_t *payload, size_t len)
{
	client_put_u8(c, RFB_FENCE);
	client_put(c, "\0\0\0", 3);
	client_put_u32(c, flags);
	client_put_u8(c, (uint8_t)len);
	client_put(c, payload, len);
}

static void ask(struct client *c)
{
	struct flow *f = &c->flow;

	if (f->unanswered == FLOW_FENCES)
		return;
	put_fence(c, RFB_FENCE_REQUEST | RFB_FENCE_BLOCK_BEFORE, f->payload, 0);
	f->last_at = c->sent + c->out_len;
	if (f->unanswered == 0)
		f->answered_at = f->last_at;
	f->at[(f->head + f->unanswered++) % FLOW_FENCES] = f->last_at;
}

bool flow_put(struct client *c)
{
	struct flow *f = &c->flow;

	if (!f->fence_due && !f->end_due && f->fence != FLOW_DUE)
		return false;
	if (f->fence_due)
		ask(c);
	if (f->end_due)
		client_put_u8(c, RFB_CONTINUOUS_UPDATES);
	if (f->fence == FLOW_DUE) {
		put_fence(c, f->fence_flags, f->payload, f->fence_len);
		f->fence = FLOW_NO_FENCE;
	}
	f->fence_due = f->end_due = false;
	return true;
}

void flow_update_done(struct client *c)
{
	if (c->flow.continuous && c->caps.fence)
		ask(c);
}
