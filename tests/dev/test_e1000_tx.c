/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "test_e1000.h"
#include "util/clock.h"

/* Sending with the e1000 card: descriptors, limits, tags; see also test_e1000_tso.c and test_e1000.c. */

#define GSI (16 + 1)

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

/* Time passes, in which the line sends a frame in a microsecond. */
static void pass(struct fix *f, unsigned int us)
{
	while (us--) {
		tb_advance(f->tb, NS_PER_US);
		net_fault_release(tb_net(f->tb, 0), 1);
		tb_run(f->tb);
	}
}

/* Small frames in a stream wait for the next look, all at once; nothing else does. */
static void stream(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	struct fix *f = fix_opts(&opts);
	unsigned int waited = 0;
	uint32_t i;

	tb_net_fault(f->tb, 0, &hold);
	for (unsigned int n = 0; n < 200; n++) {
		tb_e1000_push(&f->e, f->e.frame, 64 | END, 0);
		tb_e1000_ring(&f->e);
		pass(f, 4);
		while (next(f) >= 0)
			;
	}
	for (unsigned int n = 0; n < 40; n++) {
		i = tb_e1000_push(&f->e, f->e.frame, 64 | END, 0);
		tb_e1000_ring(&f->e);
		net_fault_release(tb_net(f->tb, 0), 1);
		tb_run(f->tb);
		waited += !tb_e1000_status(&f->e, i);
		pass(f, 4);
	}
	CHECK(waited > 20);
	pass(f, 100);
	CHECK_EQ(tb_e1000_status(&f->e, i), E1000_TXD_DD);
	CHECK_EQ(tb_net_stats(f->tb, 0).tx_frames, 240);
	/* a look that found nothing */
	tb_net_fault(f->tb, 0, NULL);
	check_alive(f);
	fix_end(f);
}

/* Each waits for an answer, which takes as long as a few frames do: each is sent at once. */
static void no_stream(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	struct fix *f = fix_opts(&opts);

	tb_net_fault(f->tb, 0, &hold);
	for (unsigned int n = 0; n < 200; n++) {
		tb_e1000_push(&f->e, f->e.frame, 64 | END, 0);
		tb_e1000_ring(&f->e);
		pass(f, 1);
		CHECK_EQ(tb_net_stats(f->tb, 0).tx_frames, n + 1);
		pass(f, 9);
		while (next(f) >= 0)
			;
	}
	tb_net_fault(f->tb, 0, NULL);
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
	{ "stream", stream },
	{ "no_stream", no_stream },
	{ "no_report", no_report },
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
