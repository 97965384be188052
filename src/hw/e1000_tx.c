/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>
#include <string.h>

#include "hw/e1000_priv.h"
#include "util/canary.h"

#define TCP_CWR 0x80u
#define PROTO_TCP 6u

/* --- slots --- */

static struct e1000_tx_slot *newest_slot(struct e1000 *e)
{
	return &e->slots[(e->first_slot + e->nslots - 1) % E1000_TX_SLOTS];
}

static void tx_done(struct net_req *r, int res)
{
	struct e1000_tx_slot *s = container_of(r, struct e1000_tx_slot, req);
	struct e1000 *e = s->e;
	static const enum e1000_stat dest[] = {
		[E1000_MULTICAST] = E1000_STAT_MPTC, [E1000_BROADCAST] = E1000_STAT_BPTC
	};

	s->done = true;
	e->tx_inflight--;
	if (res < 0 || s->gen != e->tx.gen)
		return;
	e1000_count(e, E1000_STAT_GPTC, s->frames);
	e1000_count(e, E1000_STAT_TPT, s->frames);
	e1000_count64(e, E1000_STAT_GOTC, s->bytes);
	e1000_count64(e, E1000_STAT_TOT, s->bytes);
	e1000_count_size(e, E1000_STAT_PTC64, s->bytes / s->frames, s->frames);
	if (s->dest != E1000_UNICAST)
		e1000_count(e, dest[s->dest], s->frames);
}

/* The slot that gathers, or a fresh one. NULL: all are in flight. */
static struct e1000_tx_slot *open_slot(struct e1000 *e)
{
	struct e1000_tx_slot *s;

	if (e->tx_open)
		return newest_slot(e);
	if (e->nslots == E1000_TX_SLOTS)
		e1000_tx_retire(e);
	if (e->nslots == E1000_TX_SLOTS)
		return NULL;
	e->nslots++;
	e->tx_open = true;
	s = newest_slot(e);
	s->gen = e->tx.gen;
	s->first = e->tx_next;
	s->ndescs = s->npieces = 0;
	s->len = 0;
	memset(s->rs, 0, sizeof(s->rs));
	s->delay = true;
	s->drop = s->done = s->started = false;
	return s;
}

/* Ends gathering without a frame. */
static void drop_slot(struct e1000 *e, struct e1000_tx_slot *s)
{
	s->done = true;
	e->tx_open = false;
}

/* --- giving back (s3.3.3.2, s3.4.3) --- */

static bool write_status(struct e1000 *e, const struct e1000_tx_slot *s)
{
	uint8_t *ring = e1000_ring_map(e, &e->tx);
	uint32_t n = e1000_ring_entries(&e->tx);
	bool any = false;

	for (unsigned int i = 0; i < ARRAY_LEN(s->rs); i++) {
		for (uint64_t bits = s->rs[i]; bits; bits &= bits - 1) {
			uint32_t at = (s->first + 64 * i + (uint32_t)__builtin_ctzll(bits)) % n;

			any = true;
			if (ring)
				__atomic_store_n(&ring[16u * at + E1000_TXD_STATUS_AT],
						 E1000_TXD_DD, __ATOMIC_RELEASE);
		}
	}
	return any;
}

/* TIDV runs from the newest frame, TADV from the oldest one not told of (s3.4.3.1). */
static void delay_interrupt(struct e1000 *e)
{
	uint64_t now = loop_now(e->fn.dev.env.loop);
	uint64_t at = now + (uint64_t)e->tidv * E1000_DELAY_NS;

	if (e->tadv && !e->tx_abs_ns)
		e->tx_abs_ns = now + (uint64_t)e->tadv * E1000_DELAY_NS;
	if (e->tx_abs_ns)
		at = MIN(at, e->tx_abs_ns);
	dev_timer_set(&e->tx_timer, at);
}

void e1000_tx_timer(struct dev *d)
{
	struct e1000 *e = container_of(pci_fn_of(d), struct e1000, fn);

	dev_timer_cancel(&e->tx_timer);
	e->tx_abs_ns = 0;
	e1000_interrupt(e, E1000_INT_TXDW);
}

void e1000_tx_retire(struct e1000 *e)
{
	bool now = false, later = false, moved = false;

	while (e->nslots && e->slots[e->first_slot].done) {
		struct e1000_tx_slot *s = &e->slots[e->first_slot];

		if (s->gen == e->tx.gen) {
			bool told = write_status(e, s);

			now |= told && !(s->delay && e->tidv);
			later |= told && s->delay && e->tidv;
			e->tx.head = (s->first + s->ndescs) % e1000_ring_entries(&e->tx);
			moved = true;
		}
		e->first_slot = (e->first_slot + 1) % E1000_TX_SLOTS;
		e->nslots--;
	}
	if (e->tx_batch && !e->tx_inflight) {
		pace_end(&e->pace, loop_now(e->fn.dev.env.loop), e->tx_batch);
		e->tx_batch = 0;
	}
	if (later && !now)
		delay_interrupt(e);
	if (now)
		e1000_tx_timer(&e->fn.dev);
	if (moved && e->tx.head == __atomic_load_n(&e->tx.tail, __ATOMIC_RELAXED))
		e1000_interrupt(e, E1000_INT_TXQE);
}

void e1000_tx_forget(struct e1000 *e)
{
	e->tx.gen++;
	if (e->tx_open)
		drop_slot(e, newest_slot(e));
	e->tx_skip = false;
	e->tx_next = e->tx.head;
	e->tx_abs_ns = 0;
	dev_timer_cancel(&e->tx_timer);
	pace_reset(&e->pace);
}

/* --- headers --- */

/* Moves the first bytes of the frame behind the net_hdr; the rest stays where the guest has it. */
static void take_head(struct e1000_tx_slot *s, uint32_t bytes)
{
	struct iovec *v = &s->iov[1];
	uint32_t done = 0;

	while (done < bytes) {
		size_t n = MIN(v->iov_len, (size_t)(bytes - done));

		memcpy(&s->head[NET_HDR_LEN + done], v->iov_base, n);
		v->iov_base = (uint8_t *)v->iov_base + n;
		v->iov_len -= n;
		done += (uint32_t)n;
		if (!v->iov_len)
			v++;
	}
	v--;
	v->iov_base = s->head;
	v->iov_len = NET_HDR_LEN + bytes;
	s->req.iov = v;
	s->req.iovcnt = (unsigned int)(&s->iov[1 + s->npieces] - v);
}

/* The IP checksum that the context asks for (s3.5.1): frame holds bytes up to IPCSE. */
static bool insert_ip_sum(const struct e1000_ctx *c, uint8_t *frame)
{
	if (c->ipcss < NET_ETH_LEN || c->ipcso < c->ipcss || c->ipcso + 1 > c->ipcse)
		return false;
	put_be16(&frame[c->ipcso],
		 (uint16_t)~e1000_sum(&frame[c->ipcss], c->ipcse - c->ipcss + 1u, 0));
	return true;
}

/* The line computes a checksum from start to the end of the frame. */
static bool ask_sum(struct net_hdr *h, uint32_t len, unsigned int start, unsigned int at)
{
	if (start < NET_ETH_LEN || at < start || at + 2 > len)
		return false;
	h->flags = NET_HDR_NEEDS_CSUM;
	h->csum_start = (uint16_t)start;
	h->csum_offset = (uint16_t)(at - start);
	return true;
}

/* Header fields and context of a frame to segment agree (s3.5.2). */
static bool tso_agrees(const struct e1000_tx_slot *s, const uint8_t *frame)
{
	const struct e1000_ctx *c = &s->ctx;
	unsigned int ip_min = c->ip4 ? 20 : 40;
	const uint8_t *ip = &frame[c->ipcss];

	if (!c->tcp || c->paylen != s->len - c->hdrlen || !c->paylen)
		return false;
	if (c->ipcss < NET_ETH_LEN || c->ipcss + ip_min > c->tucss || c->tucss + 20 > c->hdrlen ||
	    c->tucso != c->tucss + 16)
		return false;
	if ((frame[c->tucss + 12] >> 4) * 4 != c->hdrlen - c->tucss)
		return false;
	if (c->ip4)
		return ip[0] >> 4 == 4 && (ip[0] & 15) * 4 == c->tucss - c->ipcss &&
		       ip[9] == PROTO_TCP && s->len - c->ipcss <= UINT16_MAX;
	return ip[0] >> 4 == 6 && s->len - c->ipcss - 40 <= UINT16_MAX;
}

/*
 * One large frame for the line to segment. What the card would write into each segment is made for the whole: lengths,
 * IP checksum and the pseudo header's sum, which the guest gives without a length.
 */
static bool prepare_tso(struct e1000 *e, struct e1000_tx_slot *s, uint8_t *frame, struct net_hdr *h)
{
	const struct e1000_ctx *c = &s->ctx;
	uint8_t *ip = &frame[c->ipcss];
	uint32_t len = s->len - c->ipcss, sum;

	if (!tso_agrees(s, frame) || (c->mss < E1000_MSS_MIN && !CANARY) ||
	    !ask_sum(h, s->len, c->tucss, c->tucso))
		return false;
	if (c->ip4) {
		put_be16(&ip[2], (uint16_t)len);
		put_be16(&ip[10], 0);
		put_be16(&ip[10], (uint16_t)~e1000_sum(ip, (ip[0] & 15u) * 4, 0));
		sum = e1000_sum(&ip[12], 8, PROTO_TCP);
	} else {
		put_be16(&ip[4], (uint16_t)(len - 40));
		sum = e1000_sum(&ip[8], 32, PROTO_TCP);
	}
	put_be16(&frame[c->tucso], e1000_fold(sum + s->len - c->tucss));
	h->hdr_len = c->hdrlen;
	s->frames = (c->paylen + c->mss - 1) / c->mss;
	s->bytes = c->paylen + s->frames * (c->hdrlen + E1000_FCS);
	if (s->frames > 1) {
		h->gso_size = c->mss;
		h->gso_type = c->ip4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6;
		if (frame[c->tucss + 13] & TCP_CWR)
			h->gso_type |= NET_GSO_ECN;
	}
	e1000_count(e, E1000_STAT_TSCTC, 1);
	return true;
}

/* s3.5.1: the offsets count from the frame's start; an end is the frame's or not given. */
static bool prepare_sums(const struct e1000_tx_slot *s, uint8_t *frame, struct net_hdr *h)
{
	const struct e1000_ctx *c = &s->ctx;

	if (s->popts & E1000_TXD_IXSM && !insert_ip_sum(c, frame))
		return false;
	if (!(s->popts & E1000_TXD_TXSM))
		return true;
	return (!c->tucse || c->tucse + 1u == s->len) && ask_sum(h, s->len, c->tucss, c->tucso);
}

/* Bytes of the frame's start that are looked at or changed. */
static uint32_t head_bytes(const struct e1000_tx_slot *s)
{
	if (s->tse)
		return MAX(s->ctx.hdrlen, NET_ETH_LEN);
	if (s->popts & E1000_TXD_IXSM)
		return MAX(s->ctx.ipcse + 1u, NET_ETH_LEN);
	return NET_ETH_LEN;
}

static void insert_tag(const struct e1000 *e, struct e1000_tx_slot *s, struct net_hdr *h,
		       uint16_t tci)
{
	uint8_t *at = &s->head[NET_HDR_LEN + 12];

	memmove(at + E1000_VLAN_TAG, at, s->req.iov[0].iov_len - NET_HDR_LEN - 12);
	put_be16(at, (uint16_t)e->vet);
	put_be16(at + 2, tci);
	s->req.iov[0].iov_len += E1000_VLAN_TAG;
	s->len += E1000_VLAN_TAG;
	s->bytes += s->frames * E1000_VLAN_TAG;
	if (h->flags)
		h->csum_start = (uint16_t)(h->csum_start + E1000_VLAN_TAG);
	if (h->hdr_len)
		h->hdr_len = (uint16_t)(h->hdr_len + E1000_VLAN_TAG);
}

/* TCTL.PSP: nothing shorter than Ethernet allows goes out. */
static void pad(struct e1000_tx_slot *s)
{
	static uint8_t zeros[E1000_FRAME_MIN];
	struct iovec *v = &s->req.iov[s->req.iovcnt++];

	v->iov_base = zeros;
	v->iov_len = E1000_FRAME_MIN - s->len;
	s->bytes = E1000_FRAME_MIN + E1000_FCS;
}

/* Makes the request of a frame whose last descriptor is d. False: what the guest asks for makes no sense. */
static bool build_frame(struct e1000 *e, struct e1000_tx_slot *s, const struct e1000_tx_desc *d)
{
	uint8_t *frame = &s->head[NET_HDR_LEN];
	uint32_t bytes = head_bytes(s);
	struct net_hdr h = { .num_buffers = 0 };
	bool ok = true;

	if (bytes > s->len || bytes > E1000_HEAD_MAX)
		return false;
	take_head(s, bytes);
	s->frames = 1;
	s->bytes = s->len + E1000_FCS;
	if (s->tse)
		ok = prepare_tso(e, s, frame, &h);
	else if (d->lower & E1000_TXD_DEXT)
		ok = prepare_sums(s, frame, &h);
	else if (d->lower & E1000_TXD_IC) /* one that does not fit is not applied */
		(void)ask_sum(&h, s->len, d->upper >> 8 & 0xff, d->lower >> 16 & 0xff);
	if (!ok)
		return false;
	s->dest = (uint8_t)e1000_dest_of(frame);
	if (d->lower & E1000_TXD_VLE && e->ctrl & E1000_CTRL_VME) {
		insert_tag(e, s, &h, (uint16_t)(d->upper >> 16));
		if (s->len > E1000_TX_LEN_MAX)
			return false;
	}
	if (s->len < E1000_FRAME_MIN && e->tctl & E1000_TCTL_PSP)
		pad(s);
	memcpy(s->head, &h, NET_HDR_LEN);
	return true;
}

/* --- descriptors --- */

static void take_context(struct e1000 *e, const struct e1000_tx_desc *d)
{
	e->ctx = (struct e1000_ctx){
		.ipcss = (uint8_t)d->addr,
		.ipcso = (uint8_t)(d->addr >> 8),
		.ipcse = (uint16_t)(d->addr >> 16),
		.tucss = (uint8_t)(d->addr >> 32),
		.tucso = (uint8_t)(d->addr >> 40),
		.tucse = (uint16_t)(d->addr >> 48),
		.paylen = d->lower & E1000_TXD_LEN_MASK,
		.tcp = d->lower & E1000_TUCMD_TCP,
		.ip4 = d->lower & E1000_TUCMD_IP,
		.hdrlen = (uint8_t)(d->upper >> 8),
		.mss = (uint16_t)(d->upper >> 16),
	};
}

/* What a frame is told at its first descriptor holds for all of it, whatever context comes meanwhile. */
static void start_frame(const struct e1000 *e, struct e1000_tx_slot *s,
			const struct e1000_tx_desc *d)
{
	bool dext = d->lower & E1000_TXD_DEXT;

	s->started = true;
	s->ctx = e->ctx;
	s->tse = dext && d->lower & E1000_TXD_TSE;
	s->popts = dext ? d->upper & (E1000_TXD_IXSM | E1000_TXD_TXSM) : 0;
}

static bool gather(struct e1000 *e, struct e1000_tx_slot *s, const struct e1000_tx_desc *d)
{
	uint32_t len = d->lower & E1000_TXD_LEN_MASK, type = d->lower >> E1000_TXD_DTYP_SHIFT & 15;
	int n;

	if (!(d->lower & E1000_TXD_DEXT))
		len &= 0xffff;
	else if (type != E1000_TXD_DTYP_DATA)
		return false;
	if (len > E1000_TX_LEN_MAX - s->len)
		return false;
	n = dma_iov(&e->fn.dma, d->addr, len, &s->iov[1 + s->npieces],
		    (int)(E1000_TX_PIECES - s->npieces));
	if (n < 0)
		return false;
	s->npieces += (unsigned int)n;
	s->len += len;
	return true;
}

static void end_frame(struct e1000 *e, struct e1000_tx_slot *s, const struct e1000_tx_desc *d)
{
	if (!s->drop && !e->link)
		e1000_count(e, E1000_STAT_TNCRS, 1);
	if (s->drop || !e->link || e1000_loopback(e) || !build_frame(e, s, d)) {
		if (s->tse)
			e1000_count(e, E1000_STAT_TSCTFC, 1);
		drop_slot(e, s);
		return;
	}
	e->tx_open = false;
	e->tx_inflight++;
	pace_frame(&e->pace, s->len);
	e->batch[e->nbatch++] = &s->req;
}

static void take_desc(struct e1000 *e, struct e1000_tx_slot *s, const struct e1000_tx_desc *d)
{
	unsigned int i = s->ndescs++;

	if (d->lower & E1000_TXD_RS) {
		s->rs[i / 64] |= BIT64(i % 64);
		s->delay &= !!(d->lower & E1000_TXD_IDE);
	}
	if (d->lower & E1000_TXD_DEXT && !(d->lower >> E1000_TXD_DTYP_SHIFT & 15)) {
		take_context(e, d);
	} else {
		if (!s->started)
			start_frame(e, s, d);
		if (e->tx_skip || (!s->drop && !gather(e, s, d)))
			s->drop = true;
		if (d->lower & E1000_TXD_EOP) {
			e->tx_skip = false;
			end_frame(e, s, d);
			return;
		}
	}
	if (s->ndescs < E1000_TX_DESCS)
		return;
	/* Too many: the rest up to the end of the frame is dropped as well. */
	e->tx_skip |= s->started;
	drop_slot(e, s);
}

bool e1000_tx_run(struct e1000 *e)
{
	uint32_t n = e1000_ring_entries(&e->tx);
	uint32_t tail = __atomic_load_n(&e->tx.tail, __ATOMIC_SEQ_CST);
	const struct e1000_tx_desc *ring = e1000_ring_map(e, &e->tx);
	unsigned int budget = E1000_TX_BUDGET;
	struct e1000_tx_slot *s;

	if (!(e->tctl & E1000_TCTL_EN) || !ring || tail >= n || e->tx_next >= n)
		return false;
	while (e->tx_next != tail && budget && (s = open_slot(e))) {
		struct e1000_tx_desc d;

		memcpy(&d, &ring[e->tx_next], sizeof(d));
		e->tx_next = e->tx_next + 1 == n ? 0 : e->tx_next + 1;
		budget--;
		take_desc(e, s, &d);
	}
	/* Context descriptors are done also without a frame behind them. */
	if (e->tx_next == tail && e->tx_open && !newest_slot(e)->started)
		drop_slot(e, newest_slot(e));
	if (e->nbatch && !e->tx_batch)
		pace_begin(&e->pace, loop_now(e->fn.dev.env.loop));
	e->tx_batch += e->nbatch;
	if (e->nbatch)
		net_send(e->line, 0, e->batch, e->nbatch);
	e->nbatch = 0;
	e1000_tx_retire(e);
	return !budget;
}

int e1000_tx_init(struct e1000 *e)
{
	e->slots = calloc(E1000_TX_SLOTS, sizeof(*e->slots));
	if (!e->slots)
		return -1;
	for (unsigned int i = 0; i < E1000_TX_SLOTS; i++) {
		e->slots[i].e = e;
		e->slots[i].req.done = tx_done;
	}
	return 0;
}

void e1000_tx_fini(struct e1000 *e)
{
	free(e->slots);
}
