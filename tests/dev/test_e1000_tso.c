/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "test_e1000.h"

/* Checksums and segmentation with the e1000 card; see also test_e1000_tx.c. */

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

static const struct test_case cases[] = {
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
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
