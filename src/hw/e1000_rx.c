/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hw/e1000_priv.h"

#define HEAD_BYTES 78u /* Ethernet, tag and the longest IPv4 header */
#define ETHERTYPE_IP4 0x0800u
#define ETHERTYPE_IP6 0x86ddu
#define PROTO_TCP 6u
#define PROTO_UDP 17u

/* --- filters (s3.2.1, s10.6.3) --- */

static bool exact_match(const struct e1000 *e, const uint8_t *frame)
{
	uint32_t low = get_le32(frame), high = get_le16(frame + 4);

	for (unsigned int i = 0; i < E1000_RAS; i++) {
		uint32_t rah = e->ra[2 * i + 1];

		/* AS: only those that stand for destinations */
		if (rah & E1000_RAH_AV && !(rah >> E1000_RAH_AS_SHIFT & 3) && e->ra[2 * i] == low &&
		    (rah & 0xffff) == high)
			return true;
	}
	return false;
}

/* Twelve bits of the destination, which ones RCTL.MO says, name a bit of the table. */
static bool hash_match(const struct e1000 *e, const uint8_t *frame)
{
	static const uint8_t shifts[] = { 4, 3, 2, 0 };
	unsigned int shift = shifts[e->rctl >> E1000_RCTL_MO_SHIFT & 3];
	unsigned int hash = get_le16(frame + 4) >> shift & 0xfff;

	return e->mta[hash >> 5] & BIT(hash & 31);
}

static bool vlan_match(const struct e1000 *e, uint16_t tci)
{
	if (!(e->rctl & E1000_RCTL_VFE))
		return true;
	if (e->rctl & E1000_RCTL_CFIEN && !!(tci & 0x1000) != !!(e->rctl & E1000_RCTL_CFI))
		return false;
	return e->vfta[(tci & 0xfff) >> 5] & BIT(tci & 31);
}

static bool is_wanted(const struct e1000 *e, const uint8_t *frame, size_t len)
{
	enum e1000_dest dest = e1000_dest_of(frame);

	if (len >= NET_ETH_LEN + E1000_VLAN_TAG && get_be16(frame + 12) == e->vet &&
	    !vlan_match(e, get_be16(frame + 14)))
		return false;
	if (dest == E1000_UNICAST)
		return e->rctl & E1000_RCTL_UPE || exact_match(e, frame);
	if (dest == E1000_BROADCAST && e->rctl & E1000_RCTL_BAM)
		return true;
	return e->rctl & E1000_RCTL_MPE || hash_match(e, frame) || exact_match(e, frame);
}

/* --- status --- */

/* A frame from this host may lack its checksum: the card's guest must find it. False: the header makes no sense. */
static bool complete_sum(const struct net_hdr *h, uint8_t *frame, uint32_t len)
{
	uint32_t start = h->csum_start, at = start + h->csum_offset;
	uint16_t sum;

	if (start < NET_ETH_LEN || at + 2 > len)
		return false;
	sum = (uint16_t)~e1000_sum(frame + start, len - start, 0);
	put_be16(frame + at, sum ? sum : 0xffff);
	return true;
}

/*
 * Checksum results (s3.2.9) of a frame whose checksum the line vouches for, or which was made here; of all others
 * the guest is told to look itself. head: the first bytes of the frame as the guest gets it.
 */
static uint32_t sum_status(const struct e1000 *e, const struct net_hdr *h, const uint8_t *head,
			   size_t len)
{
	bool tcpudp = e->rxcsum & E1000_RXCSUM_TUOFL;
	uint32_t status = 0, proto = 0;
	size_t ip_len;

	if (!(h->flags & (NET_HDR_DATA_VALID | NET_HDR_NEEDS_CSUM)) || len < NET_ETH_LEN + 20)
		return E1000_RXD_IXSM;
	if (get_be16(head + 12) == ETHERTYPE_IP4) {
		ip_len = (head[NET_ETH_LEN] & 15u) * 4;
		if (head[NET_ETH_LEN] >> 4 != 4 || ip_len < 20 || NET_ETH_LEN + ip_len > len ||
		    e1000_sum(head + NET_ETH_LEN, ip_len, 0) != 0xffff)
			return E1000_RXD_IXSM;
		if (e->rxcsum & E1000_RXCSUM_IPOFL)
			status |= E1000_RXD_IPCS;
		/* Fragments have no checksum of their own. */
		if (!(get_be16(head + NET_ETH_LEN + 6) & 0x3fff))
			proto = head[NET_ETH_LEN + 9];
	} else if (get_be16(head + 12) == ETHERTYPE_IP6 && len >= NET_ETH_LEN + 40) {
		proto = head[NET_ETH_LEN + 6];
	}
	if (tcpudp && proto == PROTO_TCP)
		status |= E1000_RXD_TCPCS;
	if (tcpudp && proto == PROTO_UDP)
		status |= E1000_RXD_TCPCS | E1000_RXD_UDPCS;
	return status ? status : E1000_RXD_IXSM;
}

/* --- storing --- */

static uint32_t buffer_size(const struct e1000 *e)
{
	uint32_t size = 2048u >> (e->rctl >> E1000_RCTL_BSIZE_SHIFT & 3);

	/* BSEX: 16, 8 or 4 KiB; with 2048 it is reserved */
	return e->rctl & E1000_RCTL_BSEX && size < 2048 ? size * 16 : size;
}

/* True if frames may not fit into one buffer: they are received elsewhere and copied. */
static bool is_split(const struct e1000 *e)
{
	return e->rctl & E1000_RCTL_LPE || buffer_size(e) < E1000_RX_DIRECT_MIN;
}

static uint32_t buffers(const struct e1000 *e)
{
	uint32_t n = e1000_ring_entries(&e->rx);
	uint32_t tail = __atomic_load_n(&e->rx.tail, __ATOMIC_SEQ_CST);

	if (tail >= n || e->rx.head >= n)
		return 0;
	return tail >= e->rx.head ? tail - e->rx.head : tail + n - e->rx.head;
}

/* What the guest finds in a descriptor, apart from status and length. */
struct rx_result {
	const uint8_t *data;
	uint32_t len;
	uint32_t status;
	uint16_t tci;
	bool in_place; /* data is the buffer of the descriptor at rx.head */
};

static void write_back(struct e1000 *e, struct e1000_rx_desc *desc, uint32_t len, uint32_t status,
		       uint32_t errors, uint16_t tci)
{
	__atomic_store_n(&desc->info,
			 len | (uint64_t)(status | E1000_RXD_DD) << 32 | (uint64_t)errors << 40 |
				 (uint64_t)tci << 48,
			 __ATOMIC_RELEASE);
	e->rx.head = e->rx.head + 1 == e1000_ring_entries(&e->rx) ? 0 : e->rx.head + 1;
}

/* True if the frame is in the guest's memory, in as many descriptors as it takes. */
static bool store(struct e1000 *e, const struct rx_result *r)
{
	struct e1000_rx_desc *ring = e1000_ring_map(e, &e->rx);
	uint32_t size = buffer_size(e), done = 0;

	if (!ring || (r->len + size - 1) / size > buffers(e)) {
		e1000_count(e, E1000_STAT_MPC, 1);
		return false;
	}
	while (done < r->len) {
		struct e1000_rx_desc *desc = &ring[e->rx.head];
		uint32_t n = MIN(size, r->len - done), status = r->status;
		uint64_t addr = desc->addr;

		/* A buffer that is none: the frame ends there. */
		if (!r->in_place && (!addr || dma_write(&e->fn.dma, addr, r->data + done, n) < 0)) {
			e1000_count(e, E1000_STAT_MPC, 1);
			write_back(e, desc, 0, E1000_RXD_EOP | E1000_RXD_IXSM, E1000_RXD_ERR_RXE,
				   0);
			return false;
		}
		done += n;
		if (done == r->len)
			status |= E1000_RXD_EOP;
		write_back(e, desc, n, status, 0, r->tci);
	}
	return true;
}

static void count_frame(struct e1000 *e, const uint8_t *head, uint32_t wire)
{
	enum e1000_dest dest = e1000_dest_of(head);

	e1000_count(e, E1000_STAT_GPRC, 1);
	e1000_count64(e, E1000_STAT_GORC, wire);
	e1000_count_size(e, E1000_STAT_PRC64, wire, 1);
	if (dest == E1000_BROADCAST)
		e1000_count(e, E1000_STAT_BPRC, 1);
	if (dest == E1000_MULTICAST)
		e1000_count(e, E1000_STAT_MPRC, 1);
}

/* Takes the tag out of the frame if the guest wants it in the descriptor (s9.2). Returns the new length. */
static uint32_t strip_tag(const struct e1000 *e, uint8_t *frame, uint32_t len, struct rx_result *r)
{
	if (!(e->ctrl & E1000_CTRL_VME) || len < NET_ETH_LEN + E1000_VLAN_TAG ||
	    get_be16(frame + 12) != e->vet)
		return len;
	r->tci = get_be16(frame + 14);
	r->status |= E1000_RXD_VP;
	memmove(frame + 12, frame + 16, len - 16);
	return len - E1000_VLAN_TAG;
}

/* One frame of len bytes in s->buf, which has room for the shortest one and its FCS in any case. */
static void deliver(struct e1000 *e, struct e1000_rx_slot *s, uint32_t len)
{
	uint32_t wire = MAX(len, E1000_FRAME_MIN) + E1000_FCS;
	struct rx_result r = { .status = 0 };
	uint8_t head[HEAD_BYTES];

	e1000_count(e, E1000_STAT_TPR, 1);
	e1000_count64(e, E1000_STAT_TOR, wire);
	if (wire > (e->rctl & E1000_RCTL_LPE ? E1000_WIRE_LONG_MAX : E1000_WIRE_MAX)) {
		e1000_count(e, E1000_STAT_ROC, 1);
		return;
	}
	memcpy(head, s->buf, MIN(len, HEAD_BYTES));
	if (len < NET_ETH_LEN || !is_wanted(e, head, len))
		return;
	if (s->hdr.flags & NET_HDR_NEEDS_CSUM && !complete_sum(&s->hdr, s->buf, len))
		return;
	len = strip_tag(e, s->buf, len, &r);
	memcpy(head, s->buf, MIN(len, HEAD_BYTES));
	r.status |= sum_status(e, &s->hdr, head, MIN(len, HEAD_BYTES));
	/* Padding; no FCS comes with frames, so that it reads as zeroes. */
	if (len < E1000_FRAME_MIN) {
		memset(s->buf + len, 0, E1000_FRAME_MIN - len);
		len = E1000_FRAME_MIN;
	}
	if (!(e->rctl & E1000_RCTL_SECRC)) {
		memset(s->buf + len, 0, E1000_FCS);
		len += E1000_FCS;
	}
	r.data = s->buf;
	r.len = len;
	r.in_place = s->direct && s->index == e->rx.head;
	/* A frame before it was not wanted: it moves up, by way of a buffer that overlaps no other. */
	if (s->direct && !r.in_place)
		r.data = memcpy(s->own, s->buf, len);
	if (!store(e, &r))
		return;
	count_frame(e, head, wire);
	pace_answer(&e->pace);
	e->rx_stored++;
}

static void rx_done(struct net_req *req, int res)
{
	struct e1000_rx_slot *s = container_of(req, struct e1000_rx_slot, req);
	struct e1000 *e = s->e;

	e->rx_inflight--;
	if (res < 0 && res != -EMSGSIZE)
		e->rx_empty = true;
	else
		e->rx_got++;
	if (s->gen != e->rx.gen)
		return;
	if (res == -EMSGSIZE)
		e1000_count(e, E1000_STAT_ROC, 1);
	else if (res >= (int)NET_HDR_LEN)
		deliver(e, s, (uint32_t)res - NET_HDR_LEN);
}

/* --- interrupts (s3.2.7) --- */

void e1000_rx_timer(struct dev *d)
{
	struct e1000 *e = container_of(pci_fn_of(d), struct e1000, fn);

	dev_timer_cancel(&e->rx_timer);
	e->rx_abs_ns = 0;
	e1000_interrupt(e, E1000_INT_RXT0);
}

/* RDTR runs from the newest frame, RADV from the oldest one not told of. */
static void delay_interrupt(struct e1000 *e)
{
	uint64_t now = loop_now(e->fn.dev.env.loop);
	uint64_t at = now + (uint64_t)e->rdtr * E1000_DELAY_NS;

	if (e->radv && !e->rx_abs_ns)
		e->rx_abs_ns = now + (uint64_t)e->radv * E1000_DELAY_NS;
	if (e->rx_abs_ns)
		at = MIN(at, e->rx_abs_ns);
	dev_timer_set(&e->rx_timer, at);
}

void e1000_rx_batch_end(struct e1000 *e)
{
	uint32_t n = e1000_ring_entries(&e->rx);
	bool above;

	if (!e->rx_stored)
		return;
	e->rx_stored = 0;
	/* RCTL.RDMTS: half, a quarter, an eighth of the ring is left. */
	above = buffers(e) > n >> (1 + (e->rctl >> E1000_RCTL_RDMTS_SHIFT & 3));
	if (e->rx_above && !above)
		e1000_interrupt(e, E1000_INT_RXDMT0);
	e->rx_above = above;
	if (e->rdtr)
		delay_interrupt(e);
	else
		e1000_rx_timer(&e->fn.dev);
}

/* --- asking for frames --- */

void e1000_rx_forget(struct e1000 *e)
{
	e->rx.gen++;
	e->rx_stored = 0;
	e->rx_above = false;
	e->rx_abs_ns = 0;
	dev_timer_cancel(&e->rx_timer);
}

static void prepare(struct e1000 *e, struct e1000_rx_slot *s, uint64_t addr, uint32_t size)
{
	uint8_t *guest = addr && size ? dma_ring(&e->fn.dma, addr, size, 1) : NULL;

	s->gen = e->rx.gen;
	s->direct = guest;
	s->buf = guest ? guest : s->own;
	s->iov[0] = (struct iovec){ .iov_base = &s->hdr, .iov_len = NET_HDR_LEN };
	s->iov[1] = (struct iovec){ .iov_base = s->buf,
				    .iov_len = (guest ? size : E1000_RX_BUF) - E1000_FCS };
	s->req.iov = s->iov;
	s->req.iovcnt = 2;
}

/* Asks for twice as many frames as came last, if there are buffers: a request that finds none costs as well. */
static void ask(struct e1000 *e, const struct e1000_rx_desc *ring, uint32_t available)
{
	uint32_t size = buffer_size(e), n = e1000_ring_entries(&e->rx), at = e->rx.head;
	struct net_req *reqs[E1000_RX_SLOTS];
	uint32_t count = available;
	bool split = is_split(e);

	if (split)
		count = MAX(1, available / (E1000_WIRE_LONG_MAX / size));
	count = MIN(count, MIN(2 * MAX(e->rx_got, 1), E1000_RX_SLOTS));
	e->rx_got = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct e1000_rx_slot *s = &e->rx_slots[i];

		s->index = at;
		prepare(e, s, split ? 0 : ring[at].addr, size);
		at = at + 1 == n ? 0 : at + 1;
		reqs[i] = &s->req;
	}
	e->rx_inflight = count;
	net_recv(e->line, 0, reqs, count);
}

static bool is_receiving(const struct e1000 *e)
{
	return e->rctl & E1000_RCTL_EN && e->link && !e1000_loopback(e);
}

/* True if there are buffers. Else write_rdt() will say when. */
static bool find_buffers(struct e1000 *e)
{
	if (buffers(e))
		return true;
	__atomic_store_n(&e->rx_starved, true, __ATOMIC_SEQ_CST);
	return buffers(e) > 0;
}

void e1000_rx_run(struct e1000 *e)
{
	const struct e1000_rx_desc *ring = e1000_ring_map(e, &e->rx);

	/* Frames that cannot be taken now must not wake the loop again and again. */
	if (!dev_is_running(&e->fn.dev) || e->resetting || e->rx_inflight || !ring ||
	    !is_receiving(e) || !find_buffers(e)) {
		net_want(e->line, 0, false);
		return;
	}
	__atomic_store_n(&e->rx_starved, false, __ATOMIC_SEQ_CST);
	if (e->rx_empty)
		net_want(e->line, 0, true);
	else
		ask(e, ring, buffers(e));
}

void e1000_rx_readable(struct e1000 *e)
{
	e->rx_empty = false;
	if (is_receiving(e) && !buffers(e)) {
		e1000_count(e, E1000_STAT_RNBC, 1);
		e1000_interrupt(e, E1000_INT_RXO);
	}
	e1000_rx_run(e);
}

int e1000_rx_init(struct e1000 *e)
{
	e->rx_bufs = malloc(E1000_RX_SLOTS * (size_t)E1000_RX_BUF);
	if (!e->rx_bufs)
		return -1;
	for (unsigned int i = 0; i < E1000_RX_SLOTS; i++) {
		e->rx_slots[i].e = e;
		e->rx_slots[i].own = e->rx_bufs + i * (size_t)E1000_RX_BUF;
		e->rx_slots[i].req.done = rx_done;
	}
	e->rx_empty = true;
	return 0;
}

void e1000_rx_fini(struct e1000 *e)
{
	free(e->rx_bufs);
}
