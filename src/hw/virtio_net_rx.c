/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "hw/virtio_net_priv.h"
#include "util/canary.h"
#include "util/clock.h"

/*
 * Receiving. Chains are taken from the guest when the line has frames, and stay here (bufs, in order) until a frame
 * lies in them. With MRG_RXBUF (s5.1.6.4) a frame may take several: a request gets as many as frames of late needed, and
 * behind them an overflow buffer of ours. Only what went there is copied, into more chains, once the guest has them.
 */
#define REFUSED_MAX 64u /* chains too short for a frame, given back in one go */
#define REQ_IOVS (NET_IOV_MAX - VIRTQ_MAX_IOV - 1) /* pieces of a request before its last chain */
#define PEAK_FRAMES 64u /* over which the longest one is looked for */
#define FRUITLESS_MAX (2 * VNET_QUEUE_SIZE) /* batches without a frame, one after the other */
#define STALL_NS (20 * NS_PER_MS) /* how long a frame waits for chains */
#define HEAD_LEN (NET_ETH_LEN + 4u) /* what the filter looks at */

static void rx_done(struct net_req *req, int res)
{
	struct vnet_rx_req *x = container_of(req, struct vnet_rx_req, req);

	x->res = res;
	x->queue->in_flight--;
	x->queue->net->in_flight--;
}

void vnet_rx_init(struct vnet *n, unsigned int pair)
{
	struct vnet_rxq *r = &n->rx[pair];

	r->net = n;
	r->pair = pair;
	r->ask = VNET_RX_BATCH;
	for (unsigned int i = 0; i < VNET_RX_BATCH; i++) {
		r->reqs[i].queue = r;
		r->reqs[i].req.done = rx_done;
		r->reqs[i].overflow = n->overflow + VNET_OVERFLOW * (pair * VNET_RX_BATCH + i);
		r->list[i] = &r->reqs[i].req;
	}
}

static bool rx_mergeable(const struct vnet *n)
{
	return n->features & VNET_F_MRG_RXBUF;
}

static void rx_want(struct vnet *n, struct vnet_rxq *r, bool on)
{
	if (r->wanted == on)
		return;
	r->wanted = on;
	net_want(n->line, r->pair, on);
}

void vnet_rx_pause(struct vnet *n, unsigned int pair)
{
	rx_want(n, &n->rx[pair], false);
}

/* May frames be written for the guest at all? */
static bool rx_usable(const struct vnet *n, unsigned int pair)
{
	return pair < n->active && virtio_queue_ready(&n->v, vnet_rx_index(pair)) &&
	       !(n->v.status & VIRTIO_S_NEEDS_RESET) && n->v.fn.dma.on;
}

static void rx_clear(struct vnet_rxq *r)
{
	r->nbufs = r->niov = r->nreqs = r->next = r->spare = 0;
	r->expect = r->peak = r->frames = 0;
	r->most = 0;
	r->fruitless = 0;
	r->stalled = r->give_up = r->failed = r->flush = r->more = false;
}

void vnet_rx_forget(struct vnet *n, unsigned int pair)
{
	if (!n->rx[pair].in_flight)
		rx_clear(&n->rx[pair]);
}

/* --- the guest's chains --- */

static uint64_t rx_held(const struct vnet *n, const struct vnet_rxq *r)
{
	const struct virtq *vq = &n->v.queues[vnet_rx_index(r->pair)].vq;

	return vq->popped - vq->pushed;
}

static bool rx_full(const struct vnet_rxq *r)
{
	return r->nbufs == VNET_QUEUE_SIZE || r->niov > VNET_IOVS - VIRTQ_MAX_IOV;
}

static void rx_push(struct vnet *n, struct vnet_rxq *r, uint16_t head, uint32_t len)
{
	virtio_push(&n->v, vnet_rx_index(r->pair), n->v.generation, head, len);
	r->flush = true;
}

static void rx_flush(struct vnet *n, struct vnet_rxq *r)
{
	if (r->flush)
		virtio_flush(&n->v, vnet_rx_index(r->pair));
	r->flush = false;
}

/* Takes one more chain. Those without room for the smallest frame go straight back. */
static bool rx_pop(struct vnet *n, struct vnet_rxq *r)
{
	const struct virtq_chain *c = &n->chain;

	for (unsigned int i = 0; i < REFUSED_MAX; i++) {
		if (rx_full(r) || !virtio_pop(&n->v, vnet_rx_index(r->pair), &n->chain))
			return false;
		if (c->write_len >= VNET_FRAME_MIN) {
			memcpy(&r->iov[r->niov], c->iov + c->nread, c->nwrite * sizeof(*c->iov));
			r->niov += c->nwrite;
			r->bufs[r->nbufs++] = (struct vnet_buf){ .head = c->head,
								 .niov = c->nwrite,
								 .len = c->write_len };
			return true;
		}
		rx_push(n, r, c->head, 0);
	}
	return false;
}

/* Drops the chains that were used, and lets the requests that are left follow theirs. */
static void rx_compact(struct vnet_rxq *r)
{
	unsigned int bufs = 0, iovs = 0, from = 0, req = r->next, spare = 0;

	for (unsigned int i = 0; i < r->nbufs; i++) {
		const struct vnet_buf b = r->bufs[i];

		if (i < r->spare)
			spare += !b.used;
		if (req < r->filled && r->reqs[req].first == i)
			r->reqs[req++].first = bufs;
		if (!b.used) {
			memmove(&r->iov[iovs], &r->iov[from], b.niov * sizeof(*r->iov));
			iovs += b.niov;
			r->bufs[bufs++] = b;
		}
		from += b.niov;
	}
	r->nbufs = bufs;
	r->niov = iovs;
	r->spare = spare;
}

/* Chain i did not suffice for a frame: let the next ones have their turn. */
static void rx_rotate(struct vnet_rxq *r, unsigned int i)
{
	const struct vnet_buf b = r->bufs[i];
	struct iovec iov[VIRTQ_MAX_IOV];
	unsigned int from = 0;

	for (unsigned int k = 0; k < i; k++)
		from += r->bufs[k].niov;
	memcpy(iov, &r->iov[from], b.niov * sizeof(*iov));
	memmove(&r->iov[from], &r->iov[from + b.niov], (r->niov - from - b.niov) * sizeof(*iov));
	memcpy(&r->iov[r->niov - b.niov], iov, b.niov * sizeof(*iov));
	memmove(&r->bufs[i], &r->bufs[i + 1], (r->nbufs - i - 1) * sizeof(b));
	r->bufs[r->nbufs - 1] = b;
}

/* --- the start of a batch --- */

/*
 * Gives chains to request x, from number first on, whose pieces begin at from, and writes its own to out. Returns how
 * much of out it takes, with the one behind the last that the line may write to.
 */
static unsigned int rx_arm(struct vnet *n, struct vnet_rxq *r, struct vnet_rx_req *x,
			   const struct iovec *from, struct iovec *out)
{
	unsigned int niov = 0, at = x->first;

	x->len = 0;
	do {
		if (at == r->nbufs && !rx_pop(n, r))
			break;
		if (r->bufs[at].len > UINT32_MAX - x->len)
			break; /* the line takes no request of that size */
		memcpy(&out[niov], &from[niov], r->bufs[at].niov * sizeof(*out));
		niov += r->bufs[at].niov;
		x->len += r->bufs[at++].len;
	} while (rx_mergeable(n) && x->len < r->expect && niov < REQ_IOVS);
	x->nbufs = at - x->first;
	if (x->nbufs && rx_mergeable(n) && x->len < NET_FRAME_MAX)
		out[niov++] = (struct iovec){ x->overflow, VNET_OVERFLOW };
	x->req.iov = out;
	x->req.iovcnt = niov;
	return niov + 1;
}

/*
 * Makes requests of the chains that the guest has. Where they take several each: one more than there were frames last
 * time, so that a batch costs what its frames do, and twice as many after a batch that was full.
 */
static void rx_build(struct vnet *n, struct vnet_rxq *r)
{
	const struct iovec *from = r->iov;
	struct iovec *out = r->req_iov;
	unsigned int first = 0, most = rx_mergeable(n) ? r->ask : VNET_RX_BATCH;

	for (r->nreqs = 0; r->nreqs < most; r->nreqs++) {
		struct vnet_rx_req *x = &r->reqs[r->nreqs];

		x->first = first;
		out += rx_arm(n, r, x, from, out);
		if (!x->nbufs)
			break;
		for (; first < x->first + x->nbufs; first++)
			from += r->bufs[first].niov;
	}
	r->spare = first;
	r->next = 0;
}

void vnet_rx_start(struct vnet *n, unsigned int pair)
{
	struct vnet_rxq *r = &n->rx[pair];
	unsigned int q = vnet_rx_index(pair);

	if (r->nreqs)
		return;
	/* until this batch is over, or the guest has room */
	rx_want(n, r, false);
	r->more = false;
	if (!rx_usable(n, pair))
		return;
	virtio_set_notify(&n->v, q, false);
	rx_build(n, r);
	rx_flush(n, r);
	if (r->nreqs) {
		r->generation = n->v.generation;
		r->most = MAX(r->most, rx_held(n, r));
		r->in_flight = r->nreqs;
		n->in_flight += r->nreqs;
		net_recv(n->line, pair, r->list, r->nreqs);
		return;
	}
	if (virtio_set_notify(&n->v, q, true))
		virtio_kick_again(&n->v, q);
}

/* --- the end of a batch --- */

/* Copies from the pieces of a request. False if they end before. */
static bool rx_peek(const struct vnet_rx_req *x, size_t offset, uint8_t *out, size_t len)
{
	const struct iovec *v = x->req.iov;

	for (unsigned int i = 0; i < x->req.iovcnt && len; i++, v++) {
		size_t part;

		if (offset >= v->iov_len) {
			offset -= v->iov_len;
			continue;
		}
		part = MIN(v->iov_len - offset, len);
		memcpy(out, (const uint8_t *)v->iov_base + offset, part);
		out += part;
		len -= part;
		offset = 0;
	}
	return !len;
}

/* The last field of the header, wherever its two bytes lie (s5.1.6.4.1). */
static void rx_put_count(const struct vnet_rx_req *x, unsigned int count)
{
	size_t offset = offsetof(struct net_hdr, num_buffers);
	const struct iovec *v = x->req.iov;

	for (unsigned int byte = 0; byte < 2; byte++, offset++) {
		while (offset >= v->iov_len)
			offset -= v++->iov_len;
		((uint8_t *)v->iov_base)[offset] = (uint8_t)(count >> 8 * byte);
	}
}

static bool rx_passes(const struct vnet *n, const struct vnet_rx_req *x)
{
	uint8_t head[HEAD_LEN] = { 0 };

	if (x->res < (int)VNET_FRAME_MIN || !n->link || !n->v.fn.dma.on)
		return false;
	if (n->filter.promisc)
		return true;
	rx_peek(x, NET_HDR_LEN, head, MIN((size_t)x->res - NET_HDR_LEN, sizeof(head)));
	return vnet_filter_passes(n, head);
}

/* Keeps an eye on how long frames are. */
static void rx_learn(struct vnet_rxq *r, uint32_t len)
{
	r->peak = MAX(r->peak, len);
	r->expect = MAX(r->expect, len);
	if (++r->frames < PEAK_FRAMES)
		return;
	r->expect = r->peak;
	r->peak = r->frames = 0;
}

/* Are there chains for len bytes of overflow? */
static bool rx_reserve(struct vnet *n, struct vnet_rxq *r, uint32_t len)
{
	for (unsigned int i = r->spare;; i++) {
		if (i == r->nbufs && !rx_pop(n, r))
			return false;
		if (r->bufs[i].len >= len)
			return true;
		len -= r->bufs[i].len;
	}
}

/* Copies len bytes into the spare chain. at: where its pieces are. */
static void rx_spill(const struct vnet_buf *b, const struct iovec *at, const uint8_t *from,
		     uint32_t len)
{
	for (unsigned int i = 0; i < b->niov && len; i++) {
		uint32_t part = (uint32_t)MIN(at[i].iov_len, len);

		memcpy(at[i].iov_base, from, part);
		from += part;
		len -= part;
	}
}

/* Copies the overflow into spare chains, and gives them back. Returns how many there were. */
static unsigned int rx_place(struct vnet *n, struct vnet_rxq *r, const struct vnet_rx_req *x,
			     uint32_t len)
{
	const uint8_t *from = x->overflow;
	const struct iovec *at = r->iov;
	unsigned int count = 0;

	for (unsigned int i = 0; i < r->spare; i++)
		at += r->bufs[i].niov;
	for (; len; count++) {
		struct vnet_buf *b = &r->bufs[r->spare++];
		uint32_t part = MIN(b->len, len);

		rx_spill(b, at, from, part);
		at += b->niov;
		from += part;
		len -= part;
		b->used = true;
		rx_push(n, r, b->head, part);
	}
	return count;
}

/* Gives the frame of request x to the guest. False: it does not have the chains, nothing was done. */
static bool rx_deliver(struct vnet *n, struct vnet_rxq *r, struct vnet_rx_req *x)
{
	uint32_t len = (uint32_t)x->res, over = len > x->len ? len - x->len : 0;
	unsigned int count = 0;

	if (over && !rx_reserve(n, r, over) && !CANARY)
		return false;
	len -= over;
	for (unsigned int i = 0; len; i++, count++) {
		struct vnet_buf *b = &r->bufs[x->first + i];
		uint32_t part = MIN(b->len, len);

		b->used = true;
		rx_push(n, r, b->head, part);
		len -= part;
	}
	if (over)
		count += rx_place(n, r, x, over);
	rx_put_count(x, count);
	rx_learn(r, (uint32_t)x->res);
	pace_answer(&n->tx[r->pair].pace);
	return true;
}

static void rx_look_later(struct vnet *n)
{
	if (!dev_timer_armed(&n->stall))
		dev_timer_set(&n->stall, loop_now(n->v.fn.dev.env.loop) + STALL_NS);
}

/*
 * A line that says that a frame waits and then cannot read it would keep the loop busy. That nothing is there, or that
 * a chain is too short, is usual, but not for ever.
 */
static void rx_look_at_line(struct vnet *n, struct vnet_rxq *r)
{
	int res = r->reqs[0].res;

	if (res >= 0) {
		r->fruitless = 0;
		return;
	}
	if ((res == -EAGAIN || res == -EMSGSIZE) && ++r->fruitless <= FRUITLESS_MAX)
		return;
	r->fruitless = 0;
	r->failed = true;
	rx_look_later(n);
}

/*
 * The guest lacks chains for a frame. Waits if it once had more than now and may only be slow to make them available
 * again, for some time; if not, the frame is dropped.
 */
static bool rx_wait(struct vnet *n, struct vnet_rxq *r)
{
	unsigned int q = vnet_rx_index(r->pair);

	rx_flush(n, r);
	rx_compact(r);
	if (r->give_up || rx_full(r) || rx_held(n, r) >= r->most) {
		r->give_up = false;
		return false;
	}
	r->stalled = true;
	rx_look_later(n);
	if (virtio_set_notify(&n->v, q, true))
		virtio_kick_again(&n->v, q);
	return true;
}

/* A batch without merged buffers: those too short for what came go to the end, back to front. */
static void rx_rotate_short(struct vnet_rxq *r)
{
	for (unsigned int i = r->nreqs; i-- > 0;)
		if (r->reqs[i].res == -EMSGSIZE && r->reqs[i].first + 1 < r->nbufs)
			rx_rotate(r, r->reqs[i].first);
}

/* Those that got nothing, at the end of a batch, do not need their chains: they are spare ones. */
static void rx_trim(struct vnet_rxq *r)
{
	r->filled = r->nreqs;
	while (r->filled && r->reqs[r->filled - 1].res < 0)
		r->spare = r->reqs[--r->filled].first;
}

bool vnet_rx_finish(struct vnet *n, unsigned int pair)
{
	struct vnet_rxq *r = &n->rx[pair];

	if (!r->nreqs || r->in_flight)
		return false;
	if (r->generation != n->v.generation) {
		rx_clear(r);
		return true;
	}
	if (!r->stalled)
		rx_trim(r);
	r->stalled = false;
	for (; r->next < r->filled; r->next++) {
		struct vnet_rx_req *x = &r->reqs[r->next];

		if (rx_passes(n, x) && !rx_deliver(n, r, x) && rx_wait(n, r))
			return false;
	}
	rx_flush(n, r);
	if (!rx_mergeable(n))
		rx_rotate_short(r);
	rx_compact(r);
	r->more = r->reqs[r->nreqs - 1].res >= 0;
	rx_look_at_line(n, r);
	r->ask = MIN(r->more ? 2 * r->nreqs : r->filled + 1, VNET_RX_BATCH);
	r->nreqs = 0;
	return true;
}

void vnet_rx_kick(struct vnet *n, unsigned int pair)
{
	struct vnet_rxq *r = &n->rx[pair];

	if (!rx_usable(n, pair))
		return;
	if (r->stalled)
		vnet_rx_finish(n, pair);
	if (r->nreqs || r->failed)
		return;
	if (r->more)
		vnet_rx_start(n, pair);
	else
		rx_want(n, r, true);
}

void vnet_rx_give_up(struct vnet *n, unsigned int pair)
{
	n->rx[pair].give_up = n->rx[pair].stalled;
	vnet_rx_kick(n, pair);
}
