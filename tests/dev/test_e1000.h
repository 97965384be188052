/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_DEV_TEST_E1000_H
#define TESTS_DEV_TEST_E1000_H

#include "bench/tb_e1000.h"
#include "hw/table.h"
#include "run.h"

/* What the tests of sending share: a card with its rings, and frames as drivers prepare them. */

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

static inline struct fix *fix_opts(const struct tb_opts *opts)
{
	static struct fix f;

	memset(&f, 0, sizeof(f));
	f.tb = tb_new(opts);
	f.d = tb_add(f.tb, hw_find("e1000"), "mac=58:9c:fc:01:02:03\n", NULL);
	CHECK(f.d);
	tb_e1000_start(&f.e, f.d);
	return &f;
}

static inline struct fix *fix_start(void)
{
	return fix_opts(NULL);
}

static inline void fix_end(struct fix *f)
{
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static inline uint32_t r(struct fix *f, unsigned int reg)
{
	return tb_e1000_r(&f->e, reg);
}

static inline void w(struct fix *f, unsigned int reg, uint32_t v)
{
	tb_e1000_w(&f->e, reg, v);
}

static inline int next(struct fix *f)
{
	return tb_net_next(f->tb, 0, &f->hdr, f->out, sizeof(f->out));
}

/* A plain frame still gets through: whatever came before did no harm. */
static inline void check_alive(struct fix *f)
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

static inline void push_ctx(struct fix *f, const struct ctx *c)
{
	uint64_t low = c->ipcss | (uint64_t)c->ipcso << 8 | (uint64_t)c->ipcse << 16 |
		       (uint64_t)c->tucss << 32 | (uint64_t)c->tucso << 40 |
		       (uint64_t)c->tucse << 48;

	tb_e1000_push(&f->e, low, c->paylen | E1000_TXD_DEXT | E1000_TXD_RS | c->cmd,
		      (uint32_t)c->hdrlen << 8 | (uint32_t)c->mss << 16);
}

/* Ethernet, IP and TCP headers at f->e.frame as a driver prepares them, payload behind. Returns the context. */
static inline struct ctx make_tcp(struct fix *f, bool ip6, uint32_t payload, uint16_t mss)
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
static inline uint32_t send_data(struct fix *f, uint32_t len, uint32_t bits, uint32_t popts)
{
	uint32_t i = tb_e1000_push(&f->e, f->e.frame, len | DATA | END | bits, popts);

	tb_e1000_ring(&f->e);
	return i;
}

static inline uint32_t send_tso(struct fix *f, const struct ctx *c, uint32_t len)
{
	push_ctx(f, c);
	return send_data(f, len, E1000_TXD_TSE, BOTH_SUMS);
}

/* Context and frame: nothing comes out, the descriptors come back, and the card goes on. */
static inline void check_dropped(struct fix *f, const struct ctx *c, uint32_t len)
{
	uint32_t i = send_tso(f, c, len);

	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(r(f, E1000_TDH), f->e.tx_tail);
	CHECK_EQ(next(f), -11);
}

/* One's complement sum over bytes, folded. */
static inline uint16_t sum(const uint8_t *p, size_t len, uint32_t s)
{
	for (size_t i = 0; i < len; i++)
		s += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return (uint16_t)s;
}

#endif
