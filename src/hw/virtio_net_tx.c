/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "hw/virtio_net_priv.h"
#include "util/clock.h"

/*
 * Sending. A kick costs the guest an exit and us a turn of the loop, more than a small frame does. So once small frames
 * follow each other so fast that several more are to be expected soon, the guest is not asked for kicks: a timer looks
 * at the queue instead (hold). How soon is measured in what we take to send a frame, so that a guest that waits for an
 * answer to each of its frames never gets there, however fast the machine. A look that finds nothing ends it.
 *
 * No frame is left behind: whoever sets hold arms the timer, and the timer ends in vnet_tx_start, which leaves a queue
 * only with a batch at the line, held again, or empty after notifications were switched on (virtio_set_notify looks
 * after the barrier). Pause and reset need no more: resume and the next driver's start look at every queue.
 */
#define LOOK_COST 32u /* the delay at most: what so many frames take us */
#define LOOK_MAX_NS (2 * NS_PER_MS) /* ... and no longer than this, on a very slow machine */
#define LOOK_MIN 4u /* frames to be expected meanwhile, or kicks are better */
#define LOOK_FRAMES \
	64u /* the delay is over when so many are to be expected: the guest's queue has an end */
#define SMALL_FRAME \
	2048u /* longer ones are worth a kick, and their sender may wait for them to be sent */

static void tx_done(struct net_req *req, int res)
{
	struct vnet_txq *t = container_of(req, struct vnet_tx_req, req)->queue;

	(void)res; /* a frame that cannot be sent is lost, as on a wire */
	t->in_flight--;
	t->net->in_flight--;
}

void vnet_tx_init(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];

	t->net = n;
	t->pair = pair;
	t->gap_ns = LOOK_MAX_NS;
	for (unsigned int i = 0; i < VNET_TX_BATCH; i++) {
		t->reqs[i].queue = t;
		t->reqs[i].req.done = tx_done;
		t->list[i] = &t->reqs[i].req;
	}
}

/* Adds the chain to the batch. One without a frame, or for which there is no way out, is only given back. */
static void tx_take(struct vnet *n, struct vnet_txq *t)
{
	const struct virtq_chain *c = &n->chain;
	struct net_req *r;

	t->heads[t->nheads++] = c->head;
	if (c->read_len < VNET_FRAME_MIN || c->read_len > NET_FRAME_MAX || !n->link ||
	    t->pair >= n->active)
		return;
	memcpy(&t->iov[t->niov], c->iov, c->nread * sizeof(*c->iov));
	t->longest = MAX(t->longest, c->read_len);
	r = t->list[t->nreqs++];
	r->iov = &t->iov[t->niov];
	r->iovcnt = c->nread;
	t->niov += c->nread;
}

static void tx_collect(struct vnet *n, struct vnet_txq *t, unsigned int q)
{
	while (t->nheads < VNET_TX_BATCH && t->niov <= VNET_IOVS - VIRTQ_MAX_IOV &&
	       virtio_pop(&n->v, q, &n->chain))
		tx_take(n, t);
}

static uint64_t now_of(const struct vnet *n)
{
	return loop_now(n->v.fn.dev.env.loop);
}

/* How far apart frames are, measured whenever the queue is found empty. */
static void tx_measure_gap(struct vnet_txq *t, uint64_t now)
{
	uint64_t gap = MIN(now - t->empty_ns, 2 * LOOK_MAX_NS) / MAX(t->frames, 1);

	t->gap_ns = t->longest > SMALL_FRAME ? LOOK_MAX_NS : (3 * t->gap_ns + gap) / 4;
	t->empty_ns = now;
	t->frames = 0;
	t->longest = 0;
}

/* What a frame takes from here to the line and back. That we had to wait for a processor is not a frame's cost. */
static void tx_measure_cost(struct vnet_txq *t, uint64_t now)
{
	uint64_t cost = MIN(now - t->began_ns, LOOK_MAX_NS) / t->nheads;

	t->cost_ns = cost < t->cost_ns ? (t->cost_ns + cost) / 2 : (15 * t->cost_ns + cost) / 16;
}

/* The queue is empty. True: a look will be taken at it, and the guest need not kick. */
static bool tx_hold(struct vnet *n, struct vnet_txq *t)
{
	uint64_t now = now_of(n), delay = MIN(t->cost_ns * LOOK_COST, LOOK_MAX_NS), at;
	bool found = t->frames;

	if (!virtio_queue_ready(&n->v, vnet_tx_index(t->pair)))
		return false;
	tx_measure_gap(t, now);
	if (!found || t->gap_ns * LOOK_MIN >= delay)
		return false;
	t->hold = true;
	at = now + MIN(delay, t->gap_ns * LOOK_FRAMES);
	if (!dev_timer_armed(&n->look) || at < n->look.deadline_ns)
		dev_timer_set(&n->look, at);
	return true;
}

void vnet_tx_forget(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];

	t->hold = false;
	t->gap_ns = LOOK_MAX_NS;
}

void vnet_tx_start(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];
	unsigned int q = vnet_tx_index(pair);

	if (t->in_flight)
		return;
	t->hold = false;
	t->generation = n->v.generation;
	t->began_ns = now_of(n);
	do {
		virtio_set_notify(&n->v, q, false);
		tx_collect(n, t, q);
		if (t->nreqs) {
			t->in_flight = t->nreqs;
			n->in_flight += t->nreqs;
			net_send(n->line, pair, t->list, t->nreqs);
			return;
		}
		if (t->nheads) {
			/* nothing but garbage: other work of the loop first */
			vnet_tx_finish(n, pair);
			virtio_kick_again(&n->v, q);
			return;
		}
	} while (!tx_hold(n, t) && virtio_set_notify(&n->v, q, true));
}

bool vnet_tx_finish(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];
	unsigned int q = vnet_tx_index(pair);

	if (t->in_flight || !t->nheads)
		return false;
	for (unsigned int i = 0; i < t->nheads; i++)
		virtio_push(&n->v, q, t->generation, t->heads[i], 0);
	tx_measure_cost(t, now_of(n));
	t->frames += t->nheads;
	t->nheads = t->nreqs = t->niov = 0;
	virtio_flush(&n->v, q);
	return true;
}
