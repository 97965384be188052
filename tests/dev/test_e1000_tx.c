/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_e1000.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"

/* Sending with the e1000 card: descriptors, checksums, segmentation, tags; see also test_e1000.c. */

#define GSI (16 + 1)
#define END (E1000_TXD_EOP | E1000_TXD_RS)
#define DATA (E1000_TXD_DEXT | E1000_TXD_DTYP_DATA << E1000_TXD_DTYP_SHIFT)
#define BOTH_SUMS (E1000_TXD_IXSM | E1000_TXD_TXSM)

struct fix {
	struct tb *tb;
	struct dev *d;
	struct tb_e1000 e;
	uint8_t out[70000]; /* what came out, without net_hdr */
	struct net_hdr hdr;
};

/* A context descriptor, as the tests change it. */
struct ctx {
	uint8_t ipcss, ipcso, tucss, tucso, hdrlen;
	uint16_t ipcse, tucse, mss;
	uint32_t paylen, cmd;
};

static struct fix *fix_opts(const struct tb_opts *opts)
{
	static struct fix f;

	memset(&f, 0, sizeof(f));
	f.tb = tb_new(opts);
	f.d = tb_add(f.tb, hw_find("e1000"), "mac=58:9c:fc:01:02:03\n", NULL);
	CHECK(f.d);
	tb_e1000_start(&f.e, f.d);
	return &f;
}

static struct fix *fix_start(void)
{
	return fix_opts(NULL);
}

static void fix_end(struct fix *f)
{
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static uint32_t r(struct fix *f, unsigned int reg)
{
	return tb_e1000_r(&f->e, reg);
}

static void w(struct fix *f, unsigned int reg, uint32_t v)
{
	tb_e1000_w(&f->e, reg, v);
}

static int next(struct fix *f)
{
	return tb_net_next(f->tb, 0, &f->hdr, f->out, sizeof(f->out));
}

/* A plain frame still gets through: whatever came before did no harm. */
static void check_alive(struct fix *f)
{
	uint8_t frame[100];
	uint32_t i;

	while (next(f) >= 0)
		;
	memset(frame, 0x42, sizeof(frame));
	i = tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(next(f), 100);
	CHECK(memcmp(f->out, frame, sizeof(frame)) == 0);
	CHECK_EQ(next(f), -11);
}

static void push_ctx(struct fix *f, const struct ctx *c)
{
	uint64_t low = c->ipcss | (uint64_t)c->ipcso << 8 | (uint64_t)c->ipcse << 16 |
		       (uint64_t)c->tucss << 32 | (uint64_t)c->tucso << 40 |
		       (uint64_t)c->tucse << 48;

	tb_e1000_push(&f->e, low, c->paylen | E1000_TXD_DEXT | E1000_TXD_RS | c->cmd,
		      (uint32_t)c->hdrlen << 8 | (uint32_t)c->mss << 16);
}

/* Ethernet, IP and TCP headers at f->e.frame as a driver prepares them, payload behind. Returns the context. */
static struct ctx make_tcp(struct fix *f, bool ip6, uint32_t payload, uint16_t mss)
{
	unsigned int ip_len = ip6 ? 40 : 20;
	struct ctx c = { .ipcss = 14,
			 .ipcso = 24,
			 .ipcse = ip6 ? 0 : 33,
			 .tucss = (uint8_t)(14 + ip_len),
			 .tucso = (uint8_t)(14 + ip_len + 16),
			 .hdrlen = (uint8_t)(14 + ip_len + 20),
			 .mss = mss,
			 .paylen = payload,
			 .cmd = E1000_TUCMD_TCP | (ip6 ? 0 : E1000_TUCMD_IP) | E1000_TXD_TSE };
	uint8_t *p = tb_mem(f->tb, f->e.frame, c.hdrlen + payload), *ip = p + 14;

	memset(p, 0, c.hdrlen);
	memcpy(p, "\x02\x02\x02\x02\x02\x02\x58\x9c\xfc\x01\x02\x03", 12);
	put_be16(p + 12, ip6 ? 0x86dd : 0x0800);
	if (ip6) {
		ip[0] = 0x60;
		ip[6] = 6;
		ip[7] = 64;
		memset(ip + 8, 0xfd, 32);
	} else {
		ip[0] = 0x45;
		ip[8] = 64;
		ip[9] = 6;
		put_be32(ip + 12, 0x0a000001);
		put_be32(ip + 16, 0x0a000002);
	}
	put_be16(p + c.tucss, 1234);
	put_be16(p + c.tucss + 2, 80);
	p[c.tucss + 12] = 0x50;
	for (uint32_t i = 0; i < payload; i++)
		p[c.hdrlen + i] = (uint8_t)(i * 7);
	return c;
}

/* The frame at f->e.frame in one data descriptor. Returns its index. */
static uint32_t send_data(struct fix *f, uint32_t len, uint32_t bits, uint32_t popts)
{
	uint32_t i = tb_e1000_push(&f->e, f->e.frame, len | DATA | END | bits, popts);

	tb_e1000_ring(&f->e);
	return i;
}

static uint32_t send_tso(struct fix *f, const struct ctx *c, uint32_t len)
{
	push_ctx(f, c);
	return send_data(f, len, E1000_TXD_TSE, BOTH_SUMS);
}

/* Context and frame: nothing comes out, the descriptors come back, and the card goes on. */
static void check_dropped(struct fix *f, const struct ctx *c, uint32_t len)
{
	uint32_t i = send_tso(f, c, len);

	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	CHECK_EQ(next(f), -11);
}

/* One's complement sum over bytes, folded. */
static uint16_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

/* --- plain frames --- */

static void legacy_frame(void)
{
	struct fix *f = fix_start();
	uint8_t frame[1514];
	uint32_t i;

	for (size_t n = 0; n < sizeof(frame); n++)
		frame[n] = (uint8_t)(n * 3);
	i = tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(i, 0);
	CHECK_EQ(tb_e1000_status(&f->e, 0), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_TDH), 1);
	CHECK(tb_intx(f->d));
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_TXDW | E1000_INT_TXQE);
	CHECK_EQ(next(f), sizeof(frame));
	CHECK(memcmp(f->out, frame, sizeof(frame)) == 0);
	CHECK_EQ(f->hdr.flags, 0);
	CHECK_EQ(f->hdr.gso_type, 0);
	fix_end(f);
}

static void pieces_and_wrap(void)
{
	struct fix *f = fix_start();
	uint8_t *p = tb_mem(f->tb, f->e.frame, 1000);

	for (int n = 0; n < 1000; n++)
		p[n] = (uint8_t)(n * 5);
	/* 64 entries, nine of them a frame: it wraps at different places. */
	for (int round = 0; round < 40; round++) {
		uint32_t first = f->e.tx_tail;

		for (uint32_t at = 0; at < 1000; at += 125)
			tb_e1000_push(&f->e, f->e.frame + at, 125 | (at == 875 ? END : 0), 0);
		tb_e1000_push(&f->e, 0, 0, 0); /* the next frame begins with nothing */
		tb_e1000_push(&f->e, f->e.frame, 60 | END, 0);
		tb_e1000_ring(&f->e);
		CHECK_EQ(next(f), 1000);
		CHECK(memcmp(f->out, p, 1000) == 0);
		CHECK_EQ(next(f), 60);
		/* RS was set on the last ones only. */
		CHECK_EQ(tb_e1000_status(&f->e, first), 0);
		CHECK_EQ(tb_e1000_status(&f->e, (first + 7) % 64), E1000_TXD_DD);
		CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	}
	fix_end(f);
}

/* The end of a frame may come with another doorbell. */
static void frame_in_two_turns(void)
{
	struct fix *f = fix_start();

	tb_e1000_push(&f->e, f->e.frame, 100 | E1000_TXD_RS, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	CHECK_EQ(r(f, E1000_TDH), 0);
	CHECK_EQ(tb_e1000_status(&f->e, 0), 0);
	tb_e1000_push(&f->e, f->e.frame + 100, 50 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 150);
	CHECK_EQ(tb_e1000_status(&f->e, 0), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_TDH), 2);
	fix_end(f);
}

static void disabled(void)
{
	struct fix *f = fix_start();

	w(f, E1000_TCTL, 0);
	tb_e1000_push(&f->e, f->e.frame, 60 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(r(f, E1000_TDH), 0);
	w(f, E1000_TCTL, E1000_TCTL_EN);
	tb_run(f->tb);
	CHECK_EQ(r(f, E1000_TDH), 1);
	CHECK_EQ(next(f), 60);
	/* Bus master off: nothing is fetched until it is on. */
	tb_bus_master(f->d, false);
	tb_e1000_push(&f->e, f->e.frame, 60 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(r(f, E1000_TDH), 1);
	tb_bus_master(f->d, true);
	tb_run(f->tb);
	CHECK_EQ(r(f, E1000_TDH), 2);
	CHECK_EQ(next(f), 60);
	fix_end(f);
}

static void many_frames(void)
{
	struct fix *f = fix_start();

	tb_e1000_rings(&f->e, 4096, 64);
	for (int i = 0; i < 1000; i++) {
		put_be16(tb_mem(f->tb, f->e.frame + 128u * (unsigned int)i, 2), (uint16_t)i);
		tb_e1000_push(&f->e, f->e.frame + 128u * (unsigned int)i, 100 | END, 0);
	}
	tb_e1000_ring(&f->e);
	CHECK_EQ(r(f, E1000_TDH), 1000);
	for (int i = 0; i < 1000; i++) {
		CHECK_EQ(next(f), 100);
		CHECK_EQ(get_be16(f->out), i);
	}
	CHECK_EQ(tb_net_stats(f->tb, 0).tx_frames, 1000);
	fix_end(f);
}

static void e10_padding(void)
{
	struct fix *f = fix_start();
	uint8_t frame[60];

	memset(frame, 0x77, sizeof(frame));
	/* Shorter than a header: no frame. */
	for (uint32_t len = 0; len < 14; len++)
		tb_e1000_send(&f->e, frame, len, 0);
	CHECK_EQ(next(f), -11);
	tb_e1000_send(&f->e, frame, 14, 0);
	CHECK_EQ(next(f), 14);
	w(f, E1000_TCTL, E1000_TCTL_EN | E1000_TCTL_PSP);
	for (uint32_t len = 14; len <= 60; len++) {
		tb_e1000_send(&f->e, frame, len, 0);
		CHECK_EQ(next(f), 60);
		for (uint32_t i = 0; i < 60; i++)
			CHECK_EQ(f->out[i], i < len ? 0x77 : 0);
	}
	fix_end(f);
}

static void e10_loopback(void)
{
	static const uint32_t modes[] = { 1u << 6, 3u << 6 };
	struct fix *f = fix_start();
	uint32_t rctl = r(f, E1000_RCTL);
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		w(f, E1000_RCTL, rctl | modes[i]);
		for (int j = 0; j < 100; j++)
			tb_e1000_send(&f->e, frame, sizeof(frame), 0);
		CHECK_EQ(next(f), -11);
		CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
		CHECK_EQ(r(f, E1000_RDH), 0);
	}
	w(f, E1000_RCTL, rctl);
	/* The PHY's loopback as well. */
	w(f, E1000_MDIC, E1000_MDIC_WRITE << 26 | 1u << 21 | 0x5140);
	tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(next(f), -11);
	CHECK_EQ(r(f, E1000_RDH), 0);
	w(f, E1000_MDIC, E1000_MDIC_WRITE << 26 | 1u << 21 | 0x1140);
	check_alive(f);
	fix_end(f);
}

static void link_down(void)
{
	struct fix *f = fix_start();
	uint8_t frame[60] = { 2 };
	uint32_t i;

	tb_net_link(f->tb, 0, false);
	i = tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_STATS + 0x34), 1);
	tb_net_link(f->tb, 0, true);
	check_alive(f);
	fix_end(f);
}

static void line_fails(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault fail = { .fail_nth = -1, .fail_errno = 5 };
	struct fix *f = fix_opts(&opts);
	uint8_t frame[60] = { 2 };
	uint32_t i;

	tb_net_fault(f->tb, 0, &fail);
	i = tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_STATS + 0x80), 0);
	tb_net_fault(f->tb, 0, NULL);
	check_alive(f);
	fix_end(f);
}

/* More frames than fit in flight: they go out in order as completions come, one by one. */
static void held_line(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	struct fix *f = fix_opts(&opts);

	tb_e1000_rings(&f->e, 512, 64);
	tb_net_fault(f->tb, 0, &hold);
	for (int i = 0; i < 400; i++)
		tb_e1000_push(&f->e, f->e.frame, 60 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(tb_net_stats(f->tb, 0).accepted, 64);
	CHECK_EQ(r(f, E1000_TDH), 0);
	for (uint32_t i = 0; i < 100; i++) {
		net_fault_release(tb_net(f->tb, 0), 1);
		tb_run(f->tb);
		CHECK_EQ(r(f, E1000_TDH), i + 1);
		CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
		CHECK_EQ(tb_e1000_status(&f->e, i + 1), 0);
	}
	tb_release_all(f->tb);
	CHECK_EQ(r(f, E1000_TDH), 400);
	fix_end(f);
}

/* --- interrupts --- */

static void delayed_interrupt(void)
{
	struct fix *f = fix_start();
	uint8_t frame[60] = { 2 };

	w(f, E1000_TIDV, 10);
	w(f, E1000_IMC, E1000_INT_TXQE);
	tb_rises(f->tb, GSI);
	tb_e1000_send(&f->e, frame, sizeof(frame), E1000_TXD_IDE);
	CHECK_EQ(tb_e1000_status(&f->e, 0), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_TXQE);
	tb_advance(f->tb, 10 * 1024 - 1);
	CHECK(!tb_intx(f->d));
	tb_advance(f->tb, 1);
	CHECK(tb_intx(f->d));
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_TXDW);
	/* Each frame starts TIDV anew, TADV does not move. */
	w(f, E1000_TADV, 25);
	for (int i = 0; i < 4; i++) {
		tb_e1000_send(&f->e, frame, sizeof(frame), E1000_TXD_IDE);
		tb_advance(f->tb, 8 * 1024);
	}
	CHECK_EQ(r(f, E1000_ICR) & E1000_INT_TXDW, E1000_INT_TXDW);
	CHECK_EQ(tb_rises(f->tb, GSI), 2);
	tb_advance(f->tb, NS_PER_MS);
	r(f, E1000_ICR);
	/* A frame without IDE tells at once, for those before it as well. */
	tb_e1000_send(&f->e, frame, sizeof(frame), E1000_TXD_IDE);
	tb_e1000_send(&f->e, frame, sizeof(frame), 0);
	CHECK_EQ(r(f, E1000_ICR) & E1000_INT_TXDW, E1000_INT_TXDW);
	tb_advance(f->tb, NS_PER_MS);
	CHECK_EQ(r(f, E1000_ICR), 0);
	/* Flush. */
	tb_e1000_send(&f->e, frame, sizeof(frame), E1000_TXD_IDE);
	r(f, E1000_ICR);
	w(f, E1000_TIDV, 10 | E1000_DELAY_FLUSH);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_TXDW);
	CHECK_EQ(r(f, E1000_TIDV), 10);
	fix_end(f);
}

static void no_report(void)
{
	struct fix *f = fix_start();

	tb_e1000_push(&f->e, f->e.frame, 60 | E1000_TXD_EOP, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 60);
	CHECK_EQ(tb_e1000_status(&f->e, 0), 0);
	CHECK_EQ(r(f, E1000_TDH), 1);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_TXQE);
	fix_end(f);
}

/* --- checksums --- */

static void legacy_checksum(void)
{
	struct fix *f = fix_start();
	uint8_t frame[100] = { 2 };

	mem_write(tb_memory(f->tb), f->e.frame, frame, sizeof(frame));
	tb_e1000_push(&f->e, f->e.frame, 100 | END | E1000_TXD_IC | 50u << 16, 34u << 8);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 100);
	CHECK_EQ(f->hdr.flags, NET_HDR_NEEDS_CSUM);
	CHECK_EQ(f->hdr.csum_start, 34);
	CHECK_EQ(f->hdr.csum_offset, 16);
	fix_end(f);
}

static void e08_legacy_checksum_nonsense(void)
{
	struct fix *f = fix_start();
	uint8_t frame[64] = { 2 };

	mem_write(tb_memory(f->tb), f->e.frame, frame, sizeof(frame));
	for (uint32_t css = 0; css < 256; css += 5) {
		for (uint32_t cso = 0; cso < 256; cso += 5) {
			bool fits = css >= 14 && cso >= css && cso + 2 <= 64;

			tb_e1000_push(&f->e, f->e.frame, 64 | END | E1000_TXD_IC | cso << 16,
				      css << 8);
			tb_e1000_ring(&f->e);
			CHECK_EQ(next(f), 64);
			CHECK_EQ(f->hdr.flags, fits ? NET_HDR_NEEDS_CSUM : 0);
		}
	}
	fix_end(f);
}

static void data_checksums(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 200, 0);
	uint32_t i;

	push_ctx(f, &c);
	i = send_data(f, c.hdrlen + 200, 0, BOTH_SUMS);
	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	/* The context's own RS. */
	CHECK_EQ(tb_e1000_status(&f->e, i - 1), E1000_TXD_DD);
	CHECK_EQ(next(f), c.hdrlen + 200);
	CHECK_EQ(f->hdr.flags, NET_HDR_NEEDS_CSUM);
	CHECK_EQ(f->hdr.csum_start, c.tucss);
	CHECK_EQ(f->hdr.csum_offset, 16);
	CHECK_EQ(f->hdr.gso_type, 0);
	CHECK_EQ(sum(f->out + 14, 20, 0), 0xffff);
	/* The guest's memory stays as it was. */
	CHECK_EQ(get_be16(tb_mem(f->tb, f->e.frame + 24, 2)), 0);
	/* The context holds for the frames behind it. */
	send_data(f, c.hdrlen + 200, 0, E1000_TXD_TXSM);
	CHECK_EQ(next(f), c.hdrlen + 200);
	CHECK_EQ(f->hdr.flags, NET_HDR_NEEDS_CSUM);
	CHECK_EQ(get_be16(f->out + 24), 0);
	send_data(f, c.hdrlen + 200, 0, 0);
	CHECK_EQ(next(f), c.hdrlen + 200);
	CHECK_EQ(f->hdr.flags, 0);
	/* UDP: the same with another place. */
	c.tucso = (uint8_t)(c.tucss + 6);
	c.cmd = 0;
	push_ctx(f, &c);
	send_data(f, c.hdrlen + 200, 0, E1000_TXD_TXSM);
	CHECK_EQ(next(f), c.hdrlen + 200);
	CHECK_EQ(f->hdr.csum_offset, 6);
	fix_end(f);
}

static void context_alone(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 200, 0);

	for (int i = 0; i < 300; i++) {
		push_ctx(f, &c);
		tb_e1000_ring(&f->e);
		CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	}
	CHECK_EQ(next(f), -11);
	check_alive(f);
	fix_end(f);
}

/* Each of the six fields at many values, for checksums without segmentation. */
static void e02_checksum_fields(void)
{
	struct fix *f = fix_start();
	const struct ctx good = make_tcp(f, false, 46, 0);
	uint32_t len = good.hdrlen + 46u;

	for (unsigned int field = 0; field < 6; field++) {
		for (uint32_t v = 0; v < 70000; v += v < 260 ? 1 : 5003) {
			struct ctx c = good;
			bool ok = true;

			switch (field) {
			case 0:
				c.ipcss = (uint8_t)v;
				ok = c.ipcss >= 14 && c.ipcss <= c.ipcso;
				break;
			case 1:
				c.ipcso = (uint8_t)v;
				ok = c.ipcso >= 14 && c.ipcso + 1 <= 33;
				break;
			case 2:
				c.ipcse = (uint16_t)v;
				ok = c.ipcse >= 25 && c.ipcse < len;
				break;
			case 3:
				c.tucss = (uint8_t)v;
				ok = c.tucss >= 14 && c.tucss <= c.tucso;
				break;
			case 4:
				c.tucso = (uint8_t)v;
				ok = c.tucso >= c.tucss && c.tucso + 2u <= len;
				break;
			case 5:
				c.tucse = (uint16_t)v;
				ok = !c.tucse || c.tucse == len - 1;
				break;
			}
			push_ctx(f, &c);
			send_data(f, len, 0, BOTH_SUMS);
			CHECK_EQ(next(f), ok ? (int)len : -11);
			CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
		}
	}
	check_alive(f);
	fix_end(f);
}

/* --- segmentation --- */

static void check_tso(struct fix *f, bool ip6, uint32_t payload, uint16_t mss)
{
	struct ctx c = make_tcp(f, ip6, payload, mss);
	uint32_t len = c.hdrlen + payload, tcp = len - c.tucss, seed;

	send_tso(f, &c, len);
	CHECK_EQ(next(f), len);
	CHECK_EQ(f->hdr.flags, NET_HDR_NEEDS_CSUM);
	CHECK_EQ(f->hdr.gso_type, payload <= mss ? 0 : ip6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4);
	CHECK_EQ(f->hdr.gso_size, payload <= mss ? 0 : mss);
	CHECK_EQ(f->hdr.hdr_len, c.hdrlen);
	CHECK_EQ(f->hdr.csum_start, c.tucss);
	CHECK_EQ(f->hdr.csum_offset, 16);
	if (ip6) {
		CHECK_EQ(get_be16(f->out + 18), len - 54);
		seed = sum(f->out + 22, 32, 6 + tcp);
	} else {
		CHECK_EQ(get_be16(f->out + 16), len - 14);
		CHECK_EQ(sum(f->out + 14, 20, 0), 0xffff);
		seed = sum(f->out + 26, 8, 6 + tcp);
	}
	CHECK_EQ(get_be16(f->out + c.tucso), seed);
	CHECK(memcmp(f->out + c.hdrlen, tb_mem(f->tb, f->e.frame + c.hdrlen, payload), payload) ==
	      0);
}

static void tso(void)
{
	struct fix *f = fix_start();

	for (int ip6 = 0; ip6 < 2; ip6++) {
		check_tso(f, ip6, 30000, 1460);
		check_tso(f, ip6, 65535 - 40 - (ip6 ? 20 : 0), 1448);
		check_tso(f, ip6, 1461, 1460);
		check_tso(f, ip6, 1460, 1460);
		check_tso(f, ip6, 1, 1460);
		check_tso(f, ip6, 1000, 8);
	}
	CHECK_EQ(r(f, E1000_STATS + 0xf8), 12);
	CHECK_EQ(r(f, E1000_STATS + 0xfc), 0);
	fix_end(f);
}

/* Header and payload in pieces, as all drivers send it. */
static void tso_in_pieces(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 9000, 1460);

	push_ctx(f, &c);
	tb_e1000_push(&f->e, f->e.frame, 30 | DATA | E1000_TXD_TSE, BOTH_SUMS);
	tb_e1000_push(&f->e, f->e.frame + 30, 24 | DATA | E1000_TXD_TSE, 0);
	tb_e1000_push(&f->e, f->e.frame + 54, 4096 | DATA | E1000_TXD_TSE, 0);
	tb_e1000_push(&f->e, f->e.frame + 4150, 4904 | DATA | END | E1000_TXD_TSE, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 9054);
	CHECK_EQ(f->hdr.gso_type, NET_GSO_TCPV4);
	CHECK_EQ(get_be16(f->out + 16), 9040);
	CHECK(memcmp(f->out + 54, tb_mem(f->tb, f->e.frame + 54, 9000), 9000) == 0);
	fix_end(f);
}

static void tso_ecn(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 3000, 1000);

	((uint8_t *)tb_mem(f->tb, f->e.frame, 64))[c.tucss + 13] = 0x90;
	send_tso(f, &c, c.hdrlen + 3000u);
	CHECK_EQ(next(f), c.hdrlen + 3000);
	CHECK_EQ(f->hdr.gso_type, NET_GSO_TCPV4 | NET_GSO_ECN);
	fix_end(f);
}

static void e01_header_length(void)
{
	static const uint8_t values[] = { 0, 1, 13, 14, 34, 53, 55, 239, 240, 241, 254, 255 };
	struct fix *f = fix_start();
	const struct ctx good = make_tcp(f, false, 3000, 1000);

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct ctx c = good;

		c.hdrlen = values[i];
		c.paylen = 3054u - c.hdrlen;
		check_dropped(f, &c, 3054);
		/* More than the frame. */
		check_dropped(f, &c, c.hdrlen ? c.hdrlen - 1u : 0);
	}
	check_alive(f);
	/* The largest headers that TCP and IP have together do fit. */
	check_tso(f, true, 3000, 1000);
	fix_end(f);
}

static void e02_mss(void)
{
	struct fix *f = fix_start();
	const struct ctx good = make_tcp(f, false, 65000, 1000);

	for (uint16_t mss = 0; mss < E1000_MSS_MIN; mss++) {
		struct ctx c = good;

		c.mss = mss;
		check_dropped(f, &c, c.hdrlen + 65000u);
	}
	CHECK_EQ(r(f, E1000_STATS + 0xfc), E1000_MSS_MIN);
	check_alive(f);
	fix_end(f);
}

static void e02_payload_length(void)
{
	static const uint32_t values[] = { 0, 1, 2999, 3001, 65535, 0xfffff };
	struct fix *f = fix_start();
	const struct ctx good = make_tcp(f, false, 3000, 1000);

	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct ctx c = good;

		c.paylen = values[i];
		check_dropped(f, &c, 3054);
	}
	/* Headers without payload, and no payload at all. */
	check_dropped(f, &good, good.hdrlen);
	check_dropped(f, &good, 0);
	check_alive(f);
	fix_end(f);
}

/* Every value of every offset: only what agrees with the headers goes out. */
static void e02_tso_fields(void)
{
	struct fix *f = fix_start();

	for (int ip6 = 0; ip6 < 2; ip6++) {
		const struct ctx good = make_tcp(f, ip6, 3000, 1000);

		for (uint32_t v = 0; v < 256; v++) {
			struct ctx c = good;

			c.ipcss = (uint8_t)v;
			if (v != 14)
				check_dropped(f, &c, c.hdrlen + 3000u);
			c = good;
			c.tucss = (uint8_t)v;
			if (v != good.tucss)
				check_dropped(f, &c, c.hdrlen + 3000u);
			c = good;
			c.tucso = (uint8_t)v;
			if (v != good.tucso)
				check_dropped(f, &c, c.hdrlen + 3000u);
			/* These have no meaning here: the line makes all sums. */
			c = good;
			c.ipcso = (uint8_t)v;
			c.ipcse = (uint16_t)(v * 257);
			c.tucse = (uint16_t)(v * 257);
			send_tso(f, &c, c.hdrlen + 3000u);
			CHECK_EQ(next(f), c.hdrlen + 3000);
		}
	}
	check_alive(f);
	fix_end(f);
}

/* Headers that contradict the context. */
static void e02_tso_headers(void)
{
	static const struct {
		bool ip6;
		uint8_t at, value;
	} cases[] = {
		{ false, 14, 0x65 }, { false, 14, 0x46 }, { false, 14, 0x44 }, { false, 23, 17 },
		{ false, 46, 0x40 }, { false, 46, 0x60 }, { false, 46, 0xf0 }, { true, 14, 0x40 },
		{ true, 66, 0x00 },  { true, 66, 0xf0 },
	};
	struct fix *f = fix_start();
	struct ctx c;

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		c = make_tcp(f, cases[i].ip6, 3000, 1000);
		*(uint8_t *)tb_mem(f->tb, f->e.frame + cases[i].at, 1) = cases[i].value;
		check_dropped(f, &c, c.hdrlen + 3000u);
	}
	/* UDP is not segmented; IPv4 is not IPv6. */
	c = make_tcp(f, false, 3000, 1000);
	c.cmd &= ~E1000_TUCMD_TCP;
	check_dropped(f, &c, c.hdrlen + 3000u);
	c = make_tcp(f, false, 3000, 1000);
	c.cmd &= ~E1000_TUCMD_IP;
	check_dropped(f, &c, c.hdrlen + 3000u);
	/* More than IP can say. */
	c = make_tcp(f, false, 65496, 1000);
	check_dropped(f, &c, c.hdrlen + 65496u);
	c = make_tcp(f, true, 65516, 1000);
	check_dropped(f, &c, c.hdrlen + 65516u);
	/* No context since the reset. */
	w(f, E1000_CTRL, E1000_CTRL_RST);
	tb_alloc_reset(f->tb);
	tb_e1000_start(&f->e, f->d);
	make_tcp(f, false, 3000, 1000);
	send_data(f, 3054, E1000_TXD_TSE, BOTH_SUMS);
	CHECK_EQ(next(f), -11);
	check_alive(f);
	fix_end(f);
}

static void e03_context_inside(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 9000, 1460), evil = c;

	evil.hdrlen = 255;
	evil.mss = 0;
	evil.paylen = 1;
	evil.tucss = 200;
	push_ctx(f, &c);
	tb_e1000_push(&f->e, f->e.frame, 54 | DATA | E1000_TXD_TSE, BOTH_SUMS);
	push_ctx(f, &evil);
	tb_e1000_push(&f->e, f->e.frame + 54, 9000 | DATA | END | E1000_TXD_TSE, 0);
	tb_e1000_ring(&f->e);
	/* The frame goes out as it began... */
	CHECK_EQ(next(f), 9054);
	CHECK_EQ(f->hdr.gso_size, 1460);
	CHECK_EQ(f->hdr.csum_start, 34);
	/* ...and the context holds for the next one. */
	send_data(f, 9054, E1000_TXD_TSE, BOTH_SUMS);
	CHECK_EQ(next(f), -11);
	check_alive(f);
	fix_end(f);
}

/* --- limits --- */

static void e04_no_end(void)
{
	struct fix *f = fix_start();

	/* Round and round without an end. */
	for (int i = 0; i < 2000; i++) {
		tb_e1000_push(&f->e, f->e.frame, 1 | E1000_TXD_RS, 0);
		if (i % 50 == 49)
			tb_e1000_ring(&f->e);
	}
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	/* The end of it belongs to what was dropped. */
	tb_e1000_push(&f->e, f->e.frame, 100 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	check_alive(f);
	fix_end(f);
}

static void e04_nothing(void)
{
	struct fix *f = fix_start();

	for (int i = 0; i < 1000; i++) {
		tb_e1000_push(&f->e, f->e.frame, i & 1 ? END : 0, 0);
		tb_e1000_push(&f->e, f->e.frame, DATA | (i & 2 ? END : 0), 0);
		tb_e1000_ring(&f->e);
	}
	CHECK_EQ(next(f), -11);
	tb_e1000_push(&f->e, f->e.frame, END, 0);
	check_alive(f);
	fix_end(f);
}

static void e04_too_long(void)
{
	static const uint32_t lens[] = { 65553, 65554, 131072, 0xfffff };
	struct fix *f = fix_start();

	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		tb_e1000_push(&f->e, 0x100000, lens[i] | DATA | END, 0);
		tb_e1000_ring(&f->e);
		CHECK_EQ(next(f), lens[i] <= 65553 ? (int)lens[i] : -11);
	}
	/* The same in pieces. */
	for (int i = 0; i < 9; i++)
		tb_e1000_push(&f->e, 0x100000, 8192 | DATA, 0);
	tb_e1000_push(&f->e, 0x100000, 8192 | DATA | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	/* Lengths whose sum wraps 32 bits. */
	tb_e1000_rings(&f->e, 4096, 64);
	for (int i = 0; i < 4095; i++)
		tb_e1000_push(&f->e, 0x100000, 0xfffff | DATA | (i == 4094 ? END : 0), 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	check_alive(f);
	fix_end(f);
}

static void e04_too_many_pieces(void)
{
	static const int counts[] = { 127, 128, 129, 130, 256, 1025, 3000 };
	struct fix *f = fix_start();

	tb_e1000_rings(&f->e, 4096, 64);
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		for (int j = 1; j < counts[i]; j++)
			tb_e1000_push(&f->e, f->e.frame, 1 | DATA | E1000_TXD_RS, 0);
		tb_e1000_push(&f->e, f->e.frame, 1 | DATA | END, 0);
		tb_e1000_ring(&f->e);
		CHECK_EQ(next(f), counts[i] <= 128 ? counts[i] : -11);
		CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	}
	check_alive(f);
	fix_end(f);
}

static void e04_unknown_type(void)
{
	struct fix *f = fix_start();

	for (uint32_t type = 2; type < 16; type++) {
		tb_e1000_push(&f->e, f->e.frame, 60 | E1000_TXD_DEXT | END | type << 20, 0);
		tb_e1000_ring(&f->e);
		CHECK_EQ(next(f), -11);
	}
	check_alive(f);
	fix_end(f);
}

static void e05_indices(void)
{
	static const uint32_t lens[] = { 0, 16, 127, 128, 1024, 0x100000, 0xffffffff };
	static const uint32_t values[] = {
		0, 1, 7, 8, 63, 64, 65, 0x7fff, 0x8000, 0xffff, 0x10000
	};
	struct fix *f = fix_start();

	for (size_t l = 0; l < ARRAY_LEN(lens); l++) {
		for (size_t i = 0; i < ARRAY_LEN(values); i++) {
			for (size_t j = 0; j < ARRAY_LEN(values); j++) {
				w(f, E1000_TDLEN, lens[l]);
				w(f, E1000_TDH, values[i]);
				w(f, E1000_TDT, values[j]);
				tb_run(f->tb);
				w(f, E1000_TDH, values[j]);
				tb_run(f->tb);
				CHECK(r(f, E1000_TDH) <= 0xffff);
			}
		}
	}
	w(f, E1000_TDLEN, 1024);
	w(f, E1000_TDH, 0);
	w(f, E1000_TDT, 0);
	f->e.tx_tail = 0;
	memset(tb_mem(f->tb, f->e.tx, 1024), 0, 1024);
	check_alive(f);
	fix_end(f);
}

/* A head written while frames are in flight: they leave no trace, and sending starts there. */
static void e05_head_in_flight(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	struct fix *f = fix_opts(&opts);

	tb_net_fault(f->tb, 0, &hold);
	for (int i = 0; i < 4; i++)
		tb_e1000_push(&f->e, f->e.frame, 60 | END, 0);
	tb_e1000_ring(&f->e);
	w(f, E1000_TDH, 3);
	tb_net_fault(f->tb, 0, NULL);
	tb_run(f->tb);
	/* The old ones ended silently; from 3 on it was sent again. */
	CHECK_EQ(tb_e1000_status(&f->e, 0), 0);
	CHECK_EQ(tb_e1000_status(&f->e, 3), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_TDH), 4);
	check_alive(f);
	fix_end(f);
}

static void e06_ring_elsewhere(void)
{
	static const uint64_t bases[] = { 0xc0000000,	TB_MMIO,     TB_RAM,
					  TB_RAM - 512, 0xfee00000,  ~0xfull,
					  0xfffffff0,	0x100000000, TB_RAM - 16 };
	struct fix *f = fix_start();
	uint64_t good = f->e.tx;

	for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
		w(f, E1000_TDBAL, (uint32_t)bases[i]);
		w(f, E1000_TDBAH, (uint32_t)(bases[i] >> 32));
		w(f, E1000_TDH, 0);
		w(f, E1000_TDT, 63);
		tb_run(f->tb);
		CHECK_EQ(r(f, E1000_TDH), 0);
	}
	w(f, E1000_TDBAL, (uint32_t)good);
	w(f, E1000_TDBAH, 0);
	w(f, E1000_TDT, 0);
	check_alive(f);
	fix_end(f);
}

static void e06_data_elsewhere(void)
{
	static const uint64_t addrs[] = { TB_MMIO,    TB_RAM,	  TB_RAM - 59,
					  UINT64_MAX, 0xfee00000, 1ull << 63 };
	struct fix *f = fix_start();

	for (size_t i = 0; i < ARRAY_LEN(addrs); i++) {
		tb_e1000_push(&f->e, addrs[i], 60 | END, 0);
		tb_e1000_push(&f->e, f->e.frame, 60, 0);
		tb_e1000_push(&f->e, addrs[i], 60 | END, 0);
		tb_e1000_ring(&f->e);
		CHECK_EQ(next(f), -11);
		CHECK_EQ(tb_e1000_status(&f->e, 3 * (uint32_t)i), E1000_TXD_DD);
	}
	tb_e1000_push(&f->e, TB_RAM - 60, 60 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 60);
	fix_end(f);
}

/* A piece may lie across two regions of memory. */
static void two_regions(void)
{
	const struct tb_opts opts = { .high_ram = true };
	struct fix *f = fix_opts(&opts);
	uint8_t frame[200];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)i;
	mem_write(tb_memory(f->tb), TB_RAM - 5, frame, sizeof(frame));
	tb_e1000_push(&f->e, TB_RAM - 5, 200 | END, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 200);
	CHECK(memcmp(f->out, frame, 200) == 0);
	fix_end(f);
}

/* --- tags --- */

static void vlan_insert(void)
{
	struct fix *f = fix_start();
	struct ctx c = make_tcp(f, false, 3000, 1000);
	uint8_t frame[64];

	memset(frame, 0x33, sizeof(frame));
	mem_write(tb_memory(f->tb), f->e.frame, frame, sizeof(frame));
	/* Only if the card is in VLAN mode. */
	tb_e1000_push(&f->e, f->e.frame, 64 | END | E1000_TXD_VLE, 0x200au << 16);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 64);
	w(f, E1000_CTRL, E1000_CTRL_RESET | E1000_CTRL_VME);
	tb_e1000_push(&f->e, f->e.frame, 64 | END | E1000_TXD_VLE, 0x200au << 16);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 68);
	CHECK(memcmp(f->out, frame, 12) == 0);
	CHECK_EQ(get_be32(f->out + 12), 0x8100200a);
	CHECK(memcmp(f->out + 16, frame + 12, 52) == 0);
	w(f, E1000_VET, 0x88a8);
	tb_e1000_push(&f->e, f->e.frame, 64 | END | E1000_TXD_VLE, 0x200au << 16);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), 68);
	CHECK_EQ(get_be16(f->out + 12), 0x88a8);
	/* Offsets move with it. */
	c = make_tcp(f, false, 3000, 1000);
	push_ctx(f, &c);
	send_data(f, 3054, E1000_TXD_TSE | E1000_TXD_VLE, BOTH_SUMS | 10u << 16);
	CHECK_EQ(next(f), 3058);
	CHECK_EQ(f->hdr.csum_start, 38);
	CHECK_EQ(f->hdr.hdr_len, 58);
	CHECK_EQ(f->hdr.gso_type, NET_GSO_TCPV4);
	CHECK_EQ(get_be16(f->out + 16), 0x0800);
	CHECK_EQ(sum(f->out + 18, 20, 0), 0xffff);
	fix_end(f);
}

static void e07_vlan_short(void)
{
	struct fix *f = fix_start();
	uint8_t frame[14] = { 2 };

	w(f, E1000_CTRL, E1000_CTRL_RESET | E1000_CTRL_VME);
	for (uint32_t len = 0; len < 14; len++) {
		tb_e1000_send(&f->e, frame, len, E1000_TXD_VLE);
		CHECK_EQ(next(f), -11);
	}
	tb_e1000_send(&f->e, frame, 14, E1000_TXD_VLE);
	CHECK_EQ(next(f), 18);
	/* The longest frame has no room for a tag. */
	tb_e1000_push(&f->e, 0x100000, 65553 | DATA | END | E1000_TXD_VLE, 0);
	tb_e1000_ring(&f->e);
	CHECK_EQ(next(f), -11);
	check_alive(f);
	fix_end(f);
}

/* --- statistics --- */

static void statistics(void)
{
	struct fix *f = fix_start();
	struct ctx c;
	uint8_t frame[1514] = { 2 };

	tb_e1000_send(&f->e, frame, 60, 0);
	tb_e1000_send(&f->e, frame, 1514, 0);
	frame[0] = 1;
	tb_e1000_send(&f->e, frame, 100, 0);
	memset(frame, 0xff, 6);
	tb_e1000_send(&f->e, frame, 300, 0);
	c = make_tcp(f, false, 3000, 1000);
	send_tso(f, &c, 3054);
	CHECK_EQ(r(f, E1000_STATS + 0x80), 7); /* GPTC */
	CHECK_EQ(r(f, E1000_STATS + 0x80), 0);
	CHECK_EQ(r(f, E1000_STATS + 0xd4), 7); /* TPT */
	/* The low half stays until the high one is read. */
	for (int i = 0; i < 2; i++)
		CHECK_EQ(r(f, E1000_STATS + 0x90),
			 60 + 1514 + 100 + 300 + 3000 + 3 * 54 + 7 * E1000_FCS);
	CHECK_EQ(r(f, E1000_STATS + 0x94), 0);
	CHECK_EQ(r(f, E1000_STATS + 0x90), 0);
	CHECK_EQ(r(f, E1000_STATS + 0xf0), 1); /* MPTC */
	CHECK_EQ(r(f, E1000_STATS + 0xf4), 1); /* BPTC */
	CHECK_EQ(r(f, E1000_STATS + 0xf8), 1); /* TSCTC */
	CHECK_EQ(r(f, E1000_STATS + 0xd8), 1); /* 64 */
	CHECK_EQ(r(f, E1000_STATS + 0xdc), 1); /* to 127 */
	CHECK_EQ(r(f, E1000_STATS + 0xe0), 0);
	CHECK_EQ(r(f, E1000_STATS + 0xe4), 1); /* to 511 */
	CHECK_EQ(r(f, E1000_STATS + 0xec), 4); /* more */
	fix_end(f);
}

static const struct test_case cases[] = {
	{ "legacy_frame", legacy_frame },
	{ "pieces_and_wrap", pieces_and_wrap },
	{ "frame_in_two_turns", frame_in_two_turns },
	{ "disabled", disabled },
	{ "many_frames", many_frames },
	{ "e10_padding", e10_padding },
	{ "e10_loopback", e10_loopback },
	{ "link_down", link_down },
	{ "line_fails", line_fails },
	{ "held_line", held_line },
	{ "delayed_interrupt", delayed_interrupt },
	{ "no_report", no_report },
	{ "legacy_checksum", legacy_checksum },
	{ "e08_legacy_checksum_nonsense", e08_legacy_checksum_nonsense },
	{ "data_checksums", data_checksums },
	{ "context_alone", context_alone },
	{ "e02_checksum_fields", e02_checksum_fields },
	{ "tso", tso },
	{ "tso_in_pieces", tso_in_pieces },
	{ "tso_ecn", tso_ecn },
	{ "e01_header_length", e01_header_length },
	{ "e02_mss", e02_mss },
	{ "e02_payload_length", e02_payload_length },
	{ "e02_tso_fields", e02_tso_fields },
	{ "e02_tso_headers", e02_tso_headers },
	{ "e03_context_inside", e03_context_inside },
	{ "e04_no_end", e04_no_end },
	{ "e04_nothing", e04_nothing },
	{ "e04_too_long", e04_too_long },
	{ "e04_too_many_pieces", e04_too_many_pieces },
	{ "e04_unknown_type", e04_unknown_type },
	{ "e05_indices", e05_indices },
	{ "e05_head_in_flight", e05_head_in_flight },
	{ "e06_ring_elsewhere", e06_ring_elsewhere },
	{ "e06_data_elsewhere", e06_data_elsewhere },
	{ "two_regions", two_regions },
	{ "vlan_insert", vlan_insert },
	{ "e07_vlan_short", e07_vlan_short },
	{ "statistics", statistics },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
