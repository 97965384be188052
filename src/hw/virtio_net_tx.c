/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "hw/virtio_net_priv.h"

/*
 * Sending. A stream of small frames is looked at from time to time (look_ns, hw/pace.h) rather than kicked for.
 *
 * No frame is left behind: whoever sets look_ns arms the timer, the timer is set again for queues whose time has not
 * come, and for the others it ends in vnet_tx_start, which leaves a queue only with a batch at the line, with a new
 * look_ns, or empty after notifications were switched on (virtio_set_notify looks after the barrier). Pause and reset
 * need no more: resume and the next driver's start look at every queue.
 */

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
	pace_reset(&t->pace);
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
	pace_frame(&t->pace, c->read_len);
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

void vnet_tx_look_at(struct vnet *n, uint64_t at)
{
	if (!dev_timer_armed(&n->look) || at < n->look.deadline_ns)
		dev_timer_set(&n->look, at);
}

/* The queue is empty. True: a look will be taken at it, and the guest need not kick. */
static bool tx_hold(struct vnet *n, struct vnet_txq *t)
{
	uint64_t at = pace_empty(&t->pace, now_of(n));

	if (!at || !virtio_queue_ready(&n->v, vnet_tx_index(t->pair)))
		return false;
	t->look_ns = at;
	vnet_tx_look_at(n, at);
	return true;
}

void vnet_tx_forget(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];

	t->look_ns = 0;
	pace_reset(&t->pace);
}

void vnet_tx_start(struct vnet *n, unsigned int pair)
{
	struct vnet_txq *t = &n->tx[pair];
	unsigned int q = vnet_tx_index(pair);

	if (t->in_flight)
		return;
	t->look_ns = 0;
	t->generation = n->v.generation;
	pace_begin(&t->pace, now_of(n));
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
	pace_end(&t->pace, now_of(n), t->nheads);
	t->nheads = t->nreqs = t->niov = 0;
	virtio_flush(&n->v, q);
	return true;
}
