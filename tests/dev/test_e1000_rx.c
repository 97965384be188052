/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_e1000.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"

/* Receiving with the e1000 card: filters, buffers, tags, checksum results; see also test_e1000.c. */

#define STATUS(info) ((uint32_t)((info) >> 32 & 0xff))
#define ERRORS(info) ((uint32_t)((info) >> 40 & 0xff))
#define LENGTH(info) ((uint32_t)((info)&0xffff))
#define SPECIAL(info) ((uint32_t)((info) >> 48))
#define DONE (E1000_RXD_DD | E1000_RXD_EOP)
#define ON (E1000_RCTL_EN | E1000_RCTL_BAM)
#define BSIZE(n) ((uint32_t)(n) << E1000_RCTL_BSIZE_SHIFT)

struct fix {
	struct tb *tb;
	struct dev *d;
	struct tb_e1000 e;
	uint8_t frame[66000];
};

static struct fix *fix_opts(const struct tb_opts *opts)
{
	static struct fix f;

	memset(&f, 0, sizeof(f));
	f.tb = tb_new(opts);
	f.d = tb_add(f.tb, hw_find("e1000"), "mac=58:9c:fc:01:02:03\n", NULL);
	CHECK(f.d);
	tb_e1000_start(&f.e, f.d);
	/* To this card, and bytes that tell places apart. */
	for (size_t i = 0; i < sizeof(f.frame); i++)
		f.frame[i] = (uint8_t)(i * 7 + (i >> 8));
	memcpy(f.frame, "\x58\x9c\xfc\x01\x02\x03\x02\x02\x02\x02\x02\x02\x90\x00", 14);
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

static void put(struct fix *f, size_t len)
{
	CHECK_EQ(tb_net_put(f->tb, 0, f->frame, len), 0);
}

/* The next descriptor holds this frame with an FCS of zeroes, all of it. */
static void check_frame(struct fix *f, uint32_t len)
{
	const uint8_t *buf = tb_e1000_buf(&f->e, f->e.rx_seen);
	uint64_t info;

	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(STATUS(info) & DONE, DONE);
	CHECK_EQ(ERRORS(info), 0);
	CHECK_EQ(LENGTH(info), len + E1000_FCS);
	CHECK(memcmp(buf, f->frame, len) == 0);
	CHECK_EQ(get_le32(buf + len), 0);
}

static bool arrives(struct fix *f)
{
	uint64_t info;

	put(f, 100);
	if (!tb_e1000_pop(&f->e, &info))
		return false;
	tb_e1000_give(&f->e, 1);
	return true;
}

/* Takes whatever comes. */
static void drain(struct fix *f)
{
	uint64_t info;

	tb_run(f->tb);
	while (tb_e1000_pop(&f->e, &info)) {
		tb_e1000_give(&f->e, 1);
		tb_run(f->tb);
	}
}

static void check_alive(struct fix *f)
{
	drain(f);
	put(f, 100);
	check_frame(f, 100);
	tb_e1000_give(&f->e, 1);
}

/* --- plain frames --- */

static void one_frame(void)
{
	struct fix *f = fix_start();
	uint64_t info;

	put(f, 1514);
	check_frame(f, 1514);
	CHECK(tb_intx(f->d));
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
	CHECK_EQ(r(f, E1000_RDH), 1);
	CHECK(!tb_e1000_pop(&f->e, &info));
	/* Without FCS. */
	w(f, E1000_RCTL, ON | E1000_RCTL_SECRC);
	put(f, 200);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(LENGTH(info), 200);
	fix_end(f);
}

static void many_frames(void)
{
	struct fix *f = fix_start();

	for (uint32_t i = 0; i < 1000; i++) {
		f->frame[20] = (uint8_t)i;
		put(f, 60 + i);
		check_frame(f, 60 + i);
		tb_e1000_give(&f->e, 1);
	}
	fix_end(f);
}

/* Frames that wait on the line come in as many batches as it takes, in order. */
static void burst(void)
{
	struct fix *f = fix_start();

	for (uint32_t i = 0; i < 200; i++) {
		f->frame[20] = (uint8_t)i;
		CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 100), 0);
	}
	for (uint32_t i = 0; i < 200; i++) {
		f->frame[20] = (uint8_t)i;
		tb_run(f->tb);
		check_frame(f, 100);
		tb_e1000_give(&f->e, 1);
	}
	fix_end(f);
}

/* Requests follow traffic: few when frames come one by one, many in a burst. */
static void batch_sizes(void)
{
	struct fix *f = fix_start();
	uint64_t before;

	for (int i = 0; i < 20; i++)
		put(f, 100);
	before = tb_net_stats(f->tb, 0).accepted;
	put(f, 100);
	CHECK_EQ(tb_net_stats(f->tb, 0).accepted - before, 2);
	before += 2;
	CHECK(tb_pause(f->tb));
	for (int i = 0; i < 30; i++)
		CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 100), 0);
	tb_resume(f->tb);
	tb_run(f->tb);
	CHECK_EQ(r(f, E1000_RDH), 51);
	CHECK(tb_net_stats(f->tb, 0).accepted - before <= 2 + 4 + 8 + 16 + 12);
	fix_end(f);
}

static void no_buffers(void)
{
	struct fix *f = fix_start();
	uint64_t info;

	for (int i = 0; i < 70; i++)
		CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 100), 0);
	tb_run(f->tb);
	CHECK_EQ(r(f, E1000_RDH), 63);
	r(f, E1000_ICR);
	/* The rest waits; what comes meanwhile does not make the loop spin. */
	put(f, 100);
	CHECK_EQ(tb_run(f->tb), 0);
	for (int i = 0; i < 63; i++)
		CHECK(tb_e1000_pop(&f->e, &info));
	CHECK(!tb_e1000_pop(&f->e, &info));
	tb_e1000_give(&f->e, 63);
	tb_run(f->tb);
	for (int i = 0; i < 8; i++)
		check_frame(f, 100);
	CHECK(!tb_e1000_pop(&f->e, &info));
	fix_end(f);
}

/* RXO and RNBC when a frame comes and there never was a buffer. */
static void overrun(void)
{
	struct fix *f = fix_start();

	w(f, E1000_RDT, 0);
	put(f, 100);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXO);
	CHECK_EQ(r(f, E1000_STATS + 0xa0), 1);
	put(f, 120);
	CHECK_EQ(r(f, E1000_ICR), 0);
	w(f, E1000_RDT, 1);
	tb_run(f->tb);
	CHECK_EQ(r(f, E1000_RDH), 1);
	CHECK_EQ(r(f, E1000_ICR) & E1000_INT_RXT0, E1000_INT_RXT0);
	check_frame(f, 100);
	w(f, E1000_RDT, 63);
	tb_run(f->tb);
	check_frame(f, 120);
	fix_end(f);
}

static void disabled(void)
{
	struct fix *f = fix_start();

	w(f, E1000_RCTL, 0);
	put(f, 100);
	CHECK_EQ(r(f, E1000_RDH), 0);
	w(f, E1000_RCTL, ON);
	tb_run(f->tb);
	check_frame(f, 100);
	tb_bus_master(f->d, false);
	put(f, 120);
	CHECK_EQ(r(f, E1000_RDH), 1);
	tb_bus_master(f->d, true);
	tb_run(f->tb);
	check_frame(f, 120);
	fix_end(f);
}

/* Receiving is on before there is a ring: it begins with the last register that was missing, whichever it is. */
static void ring_after_enable(void)
{
	static const unsigned int regs[] = { E1000_RDBAL, E1000_RDLEN, E1000_RDT };
	static const uint32_t none[] = { 0xfffff000, 0, 0 };

	for (unsigned int order = 0; order < 9; order++) {
		unsigned int first = order / 3, last = order % 3;
		uint32_t value[3];
		struct fix *f;

		if (first == last)
			continue;
		f = fix_start();
		for (unsigned int i = 0; i < 3; i++)
			value[i] = r(f, regs[i]);
		for (unsigned int i = 0; i < 3; i++)
			w(f, regs[i], none[i]);
		put(f, 100);
		for (unsigned int i = 0; i < 3; i++) {
			unsigned int at = i == 0 ? first : i == 2 ? last : 3 - first - last;

			w(f, regs[at], value[at]);
			tb_run(f->tb);
		}
		check_frame(f, 100);
		fix_end(f);
	}
}

static void e10_runts(void)
{
	struct fix *f = fix_start();
	const uint8_t *buf;
	uint64_t info;

	for (uint32_t len = 14; len < 60; len++) {
		buf = tb_e1000_buf(&f->e, f->e.rx_seen);
		memset(tb_mem(f->tb, f->e.bufs + f->e.rx_seen * TB_E1000_BUF, 80), 0xee, 80);
		put(f, len);
		CHECK(tb_e1000_pop(&f->e, &info));
		CHECK_EQ(LENGTH(info), 64);
		CHECK(memcmp(buf, f->frame, len) == 0);
		for (uint32_t i = len; i < 64; i++)
			CHECK_EQ(buf[i], 0);
		CHECK_EQ(buf[64], 0xee);
		tb_e1000_give(&f->e, 1);
	}
	fix_end(f);
}

/* --- filters --- */

static void unicast_filter(void)
{
	struct fix *f = fix_start();

	CHECK(arrives(f));
	f->frame[5] = 4;
	CHECK(!arrives(f));
	/* Any of the sixteen. */
	for (unsigned int i = 1; i < E1000_RAS; i++) {
		f->frame[5] = (uint8_t)(0x10 + i);
		CHECK(!arrives(f));
		w(f, E1000_RA + 8 * i, 0x01fc9c58);
		w(f, E1000_RA + 8 * i + 4, 0x80000002 | (0x10 + i) << 8);
		CHECK(arrives(f));
		/* Not valid; for sources, not destinations. */
		w(f, E1000_RA + 8 * i + 4, 0x00000002 | (0x10 + i) << 8);
		CHECK(!arrives(f));
		w(f, E1000_RA + 8 * i + 4, 0x80010002 | (0x10 + i) << 8);
		CHECK(!arrives(f));
	}
	w(f, E1000_RCTL, ON | E1000_RCTL_UPE);
	CHECK(arrives(f));
	w(f, E1000_RCTL, ON | E1000_RCTL_MPE);
	CHECK(!arrives(f));
	fix_end(f);
}

static void broadcast_filter(void)
{
	struct fix *f = fix_start();

	memset(f->frame, 0xff, 6);
	CHECK(arrives(f));
	w(f, E1000_RCTL, E1000_RCTL_EN);
	CHECK(!arrives(f));
	w(f, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_UPE);
	CHECK(!arrives(f));
	w(f, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_MPE);
	CHECK(arrives(f));
	fix_end(f);
}

static void multicast_filter(void)
{
	static const uint8_t mdns[] = { 0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb };
	static const unsigned int shifts[] = { 4, 3, 2, 0 };
	struct fix *f = fix_start();

	memcpy(f->frame, mdns, sizeof(mdns));
	CHECK(!arrives(f));
	w(f, E1000_RCTL, ON | E1000_RCTL_MPE);
	CHECK(arrives(f));
	for (uint32_t mo = 0; mo < 4; mo++) {
		uint32_t hash = (0xfb00u >> shifts[mo]) & 0xfff;

		w(f, E1000_RCTL, ON | mo << E1000_RCTL_MO_SHIFT);
		CHECK(!arrives(f));
		for (uint32_t i = 0; i < 128; i++)
			w(f, E1000_MTA + 4 * i, i == hash >> 5 ? ~(1u << (hash & 31)) : 0xffffffff);
		CHECK(!arrives(f));
		for (uint32_t i = 0; i < 128; i++)
			w(f, E1000_MTA + 4 * i, i == hash >> 5 ? 1u << (hash & 31) : 0);
		CHECK(arrives(f));
		w(f, E1000_MTA + 4 * (hash >> 5), 0);
	}
	/* Exact entries may be groups. */
	w(f, E1000_RA + 8, 0x005e0001);
	w(f, E1000_RA + 12, 0x8000fb00);
	CHECK(arrives(f));
	fix_end(f);
}

static void vlan_filter(void)
{
	struct fix *f = fix_start();

	put_be32(f->frame + 12, 0x8100000a);
	CHECK(arrives(f));
	w(f, E1000_RCTL, ON | E1000_RCTL_VFE);
	CHECK(!arrives(f));
	w(f, E1000_VFTA, 1u << 10);
	CHECK(arrives(f));
	put_be32(f->frame + 12, 0x81006fff);
	CHECK(!arrives(f));
	w(f, E1000_VFTA + 4 * 127, 1u << 31);
	CHECK(arrives(f));
	/* CFI */
	w(f, E1000_RCTL, ON | E1000_RCTL_VFE | E1000_RCTL_CFIEN);
	CHECK(arrives(f));
	put_be32(f->frame + 12, 0x81007fff);
	CHECK(!arrives(f));
	w(f, E1000_RCTL, ON | E1000_RCTL_VFE | E1000_RCTL_CFIEN | E1000_RCTL_CFI);
	CHECK(arrives(f));
	/* Frames without a tag pass. */
	put_be32(f->frame + 12, 0x08000000);
	CHECK(arrives(f));
	fix_end(f);
}

/* Frames for others between those for the guest: the descriptors have no holes, whatever comes in one batch. */
static void rejected_between(void)
{
	struct fix *f = fix_start();

	for (uint32_t pattern = 0; pattern < 256; pattern++) {
		for (uint32_t i = 0; i < 8; i++) {
			f->frame[5] = pattern & 1u << i ? 3 : 4;
			f->frame[20] = (uint8_t)i;
			CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 100 + i), 0);
		}
		tb_run(f->tb);
		f->frame[5] = 3;
		for (uint32_t i = 0; i < 8; i++) {
			f->frame[20] = (uint8_t)i;
			if (!(pattern & 1u << i))
				continue;
			check_frame(f, 100 + i);
			tb_e1000_give(&f->e, 1);
		}
		CHECK_EQ(r(f, E1000_RDH), f->e.rx_seen);
	}
	fix_end(f);
}

/* --- tags --- */

static void vlan_strip(void)
{
	struct fix *f = fix_start();
	uint64_t info;
	const uint8_t *buf;

	put_be32(f->frame + 12, 0x8100200a);
	put(f, 100);
	check_frame(f, 100);
	w(f, E1000_CTRL, E1000_CTRL_RESET | E1000_CTRL_VME);
	buf = tb_e1000_buf(&f->e, f->e.rx_seen);
	put(f, 100);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(LENGTH(info), 100);
	CHECK(STATUS(info) & E1000_RXD_VP);
	CHECK_EQ(SPECIAL(info), 0x200a);
	CHECK(memcmp(buf, f->frame, 12) == 0);
	CHECK(memcmp(buf + 12, f->frame + 16, 84) == 0);
	/* The longest one with a tag. */
	put(f, 1518);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(LENGTH(info), 1518);
	/* Too short for one; none; another type. */
	put(f, 17);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK(!(STATUS(info) & E1000_RXD_VP));
	w(f, E1000_VET, 0x88a8);
	put(f, 100);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK(!(STATUS(info) & E1000_RXD_VP));
	CHECK_EQ(SPECIAL(info), 0);
	fix_end(f);
}

/* --- sizes --- */

static void e09_long_frames(void)
{
	struct fix *f = fix_start();
	uint64_t info;

	put(f, 1518);
	check_frame(f, 1518);
	put(f, 1519);
	put(f, 2044);
	put(f, 2045);
	put(f, 16380);
	put(f, 65549);
	CHECK(!tb_e1000_pop(&f->e, &info));
	CHECK_EQ(r(f, E1000_STATS + 0xac), 5); /* ROC */
	/* Bad packets are not made good by SBP. */
	w(f, E1000_RCTL, ON | 4);
	put(f, 1519);
	CHECK(!tb_e1000_pop(&f->e, &info));
	w(f, E1000_RCTL, ON | E1000_RCTL_LPE);
	put(f, 16381);
	put(f, 65549);
	CHECK(!tb_e1000_pop(&f->e, &info));
	CHECK_EQ(r(f, E1000_STATS + 0xac), 3);
	check_alive(f);
	fix_end(f);
}

/* The buffers of the next frame hold it, with FCS, in pieces of size. Returns the pieces. */
static uint32_t check_split(struct fix *f, uint32_t len, uint32_t size)
{
	uint32_t total = len + E1000_FCS, done = 0, n = 0;
	uint64_t info;

	memset(f->frame + len, 0, E1000_FCS);
	for (; done < total; n++) {
		uint32_t want = total - done < size ? total - done : size;
		const uint8_t *buf = tb_mem(f->tb, f->e.bufs + f->e.rx_seen * TB_E1000_BUF, 1);

		CHECK(tb_e1000_pop(&f->e, &info));
		CHECK_EQ(LENGTH(info), want);
		CHECK_EQ(STATUS(info) & DONE, done + want == total ? DONE : E1000_RXD_DD);
		CHECK(memcmp(buf, f->frame + done, want) == 0);
		done += want;
	}
	return n;
}

static void e09_all_sizes(void)
{
	static const uint32_t lens[] = { 60, 251, 252, 253, 256, 508, 1020, 1514, 1518 };
	struct fix *f = fix_start();

	for (uint32_t bsex = 0; bsex < 2; bsex++) {
		for (uint32_t bsize = 0; bsize < 4; bsize++) {
			uint32_t size = 2048u >> bsize;

			if (bsex && bsize)
				size *= 16;
			if (size > TB_E1000_BUF)
				size = TB_E1000_BUF; /* the frame is shorter than that */
			for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
				for (uint32_t lpe = 0; lpe < 2; lpe++) {
					w(f, E1000_RCTL,
					  ON | BSIZE(bsize) | (bsex ? E1000_RCTL_BSEX : 0) |
						  (lpe ? E1000_RCTL_LPE : 0));
					put(f, lens[i]);
					tb_e1000_give(&f->e, check_split(f, lens[i], size));
				}
			}
		}
	}
	fix_end(f);
}

static void e09_jumbo(void)
{
	struct fix *f = fix_start();

	w(f, E1000_RCTL, ON | E1000_RCTL_LPE);
	for (int i = 0; i < 50; i++) {
		put(f, 9014);
		CHECK_EQ(check_split(f, 9014, 2048), 5);
		tb_e1000_give(&f->e, 5);
		put(f, 60);
		tb_e1000_give(&f->e, check_split(f, 60, 2048));
	}
	put(f, 16380);
	CHECK_EQ(check_split(f, 16380, 2048), 8);
	tb_e1000_give(&f->e, 8);
	/* 256-byte buffers: 63 of them are not enough for the longest. */
	w(f, E1000_RCTL, ON | E1000_RCTL_LPE | BSIZE(3));
	put(f, 16380);
	CHECK_EQ(r(f, E1000_STATS + 0x10), 1); /* MPC */
	put(f, 63 * 256 - 4);
	CHECK_EQ(check_split(f, 63 * 256 - 4, 256), 63);
	fix_end(f);
}

/* A burst of long frames: as many as there are buffers for, whole ones only. */
static void e09_jumbo_burst(void)
{
	struct fix *f = fix_start();
	uint32_t got = 0;
	uint64_t info;

	w(f, E1000_RCTL, ON | E1000_RCTL_LPE);
	for (int i = 0; i < 30; i++)
		CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 9014), 0);
	tb_run(f->tb);
	while (tb_e1000_pop(&f->e, &info)) {
		got++;
		CHECK_EQ(!!(STATUS(info) & E1000_RXD_EOP), got % 5 == 0);
	}
	CHECK_EQ(got, 60);
	fix_end(f);
}

static void e09_bad_buffers(void)
{
	static const uint64_t addrs[] = { 0, TB_MMIO, TB_RAM, TB_RAM - 63, UINT64_MAX, 1ull << 63 };
	struct fix *f = fix_start();
	uint64_t info;

	for (int lpe = 0; lpe < 2; lpe++) {
		w(f, E1000_RCTL, ON | (lpe ? E1000_RCTL_LPE : 0));
		for (size_t i = 0; i < ARRAY_LEN(addrs); i++) {
			struct e1000_rx_desc *d =
				tb_mem(f->tb, f->e.rx + f->e.rx_seen * 16, sizeof(*d));
			uint64_t good = d->addr;

			d->addr = addrs[i];
			put(f, 100);
			CHECK(tb_e1000_pop(&f->e, &info));
			CHECK_EQ(LENGTH(info), 0);
			CHECK_EQ(ERRORS(info), E1000_RXD_ERR_RXE);
			d->addr = good;
			tb_e1000_give(&f->e, 1);
			check_alive(f);
		}
	}
	/* The second piece of a frame. */
	for (uint32_t i = 1; i < 3; i++) {
		struct e1000_rx_desc *d =
			tb_mem(f->tb, f->e.rx + (f->e.rx_seen + i) % f->e.rx_n * 16, sizeof(*d));
		uint64_t good = d->addr;

		d->addr = TB_MMIO;
		put(f, 9014);
		d->addr = good;
		CHECK_EQ(r(f, E1000_RDH), (f->e.rx_seen + i + 1) % f->e.rx_n);
		check_alive(f);
	}
	fix_end(f);
}

/* A buffer across two regions of memory works, piece by piece. */
static void two_regions(void)
{
	const struct tb_opts opts = { .high_ram = true };
	struct fix *f = fix_opts(&opts);
	uint8_t got[100];
	uint64_t info;

	((struct e1000_rx_desc *)tb_mem(f->tb, f->e.rx, 16))->addr = TB_RAM - 50;
	w(f, E1000_RDH, 0);
	put(f, 100);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(LENGTH(info), 104);
	CHECK_EQ(mem_read(tb_memory(f->tb), TB_RAM - 50, got, 100), 0);
	CHECK(memcmp(got, f->frame, 100) == 0);
	fix_end(f);
}

/* --- rings --- */

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
				w(f, E1000_RDLEN, lens[l]);
				w(f, E1000_RDH, values[i]);
				w(f, E1000_RDT, values[j]);
				put(f, 100);
				w(f, E1000_RDH, values[j]);
				tb_run(f->tb);
				CHECK(r(f, E1000_RDH) <= 0xffff);
			}
		}
	}
	/* What found no room is still on the line; a reset and a ring that makes sense bring it in. */
	w(f, E1000_CTRL, E1000_CTRL_RST);
	tb_e1000_start(&f->e, f->d);
	check_alive(f);
	fix_end(f);
}

static void e06_ring_elsewhere(void)
{
	static const uint64_t bases[] = { TB_MMIO, TB_RAM,	TB_RAM - 512, 0xfee00000,
					  ~0xfull, 0x100000000, TB_RAM - 16 };
	struct fix *f = fix_start();
	uint64_t good = f->e.rx;

	for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
		w(f, E1000_RDBAL, (uint32_t)bases[i]);
		w(f, E1000_RDBAH, (uint32_t)(bases[i] >> 32));
		w(f, E1000_RDH, 0);
		w(f, E1000_RDT, 63);
		put(f, 100);
		CHECK_EQ(r(f, E1000_RDH), 0);
	}
	w(f, E1000_RDBAL, (uint32_t)good);
	w(f, E1000_RDBAH, 0);
	w(f, E1000_RDT, 63);
	w(f, E1000_RCTL, 0);
	w(f, E1000_RCTL, ON);
	tb_run(f->tb);
	for (size_t i = 0; i < ARRAY_LEN(bases); i++)
		check_frame(f, 100);
	fix_end(f);
}

/* Everything that changes while frames are on their way from the line. */
static void changes_in_flight(void)
{
	static const struct {
		uint32_t reg, value;
	} cases[] = {
		{ E1000_RCTL, 0 },
		{ E1000_RCTL, ON | BSIZE(3) },
		{ E1000_RCTL, ON | E1000_RCTL_LPE },
		{ E1000_RDLEN, 128 },
		{ E1000_RDH, 5 },
		{ E1000_RDBAL, 0x200000 },
		{ E1000_CTRL, E1000_CTRL_RST },
	};
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fix *f = fix_opts(&opts);
		uint64_t info;

		tb_net_fault(f->tb, 0, &hold);
		put(f, 1500);
		w(f, cases[i].reg, cases[i].value);
		tb_net_fault(f->tb, 0, NULL);
		tb_run(f->tb);
		CHECK(!tb_e1000_pop(&f->e, &info));
		CHECK_EQ(r(f, E1000_RDH), cases[i].reg == E1000_RDH ? 5 : 0);
		CHECK(tb_balanced(f->tb));
		w(f, E1000_CTRL, E1000_CTRL_RST);
		tb_e1000_start(&f->e, f->d);
		check_alive(f);
		fix_end(f);
	}
}

static void line_fails(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault fail = { .fail_nth = -1, .fail_errno = 5 };
	struct fix *f = fix_opts(&opts);
	uint64_t info;

	tb_net_fault(f->tb, 0, &fail);
	CHECK_EQ(tb_net_queue(f->tb, 0, 0, NULL, f->frame, 100), 0);
	for (int i = 0; i < 50; i++)
		loop_step(tb_loop(f->tb), false);
	CHECK(!tb_e1000_pop(&f->e, &info));
	tb_net_fault(f->tb, 0, NULL);
	check_alive(f);
	fix_end(f);
}

/* --- interrupts --- */

static void delayed_interrupt(void)
{
	struct fix *f = fix_start();

	w(f, E1000_RDTR, 10);
	put(f, 100);
	CHECK_EQ(r(f, E1000_RDH), 1);
	CHECK_EQ(r(f, E1000_ICR), 0);
	tb_advance(f->tb, 9 * 1024);
	put(f, 100);
	tb_advance(f->tb, 9 * 1024);
	CHECK_EQ(r(f, E1000_ICR), 0);
	tb_advance(f->tb, 1024);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
	/* RADV bounds it. */
	w(f, E1000_RADV, 25);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(r(f, E1000_ICR), 0);
		put(f, 100);
		tb_advance(f->tb, 8 * 1024);
	}
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
	/* Flush. */
	put(f, 100);
	r(f, E1000_ICR);
	w(f, E1000_RDTR, 10 | E1000_DELAY_FLUSH);
	CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
	CHECK_EQ(r(f, E1000_RDTR), 10);
	fix_end(f);
}

static void few_buffers(void)
{
	static const uint32_t left[] = { 32, 16, 8 };
	struct fix *f = fix_start();

	for (uint32_t rdmts = 0; rdmts < 3; rdmts++) {
		uint64_t info;

		w(f, E1000_RCTL, ON | rdmts << E1000_RCTL_RDMTS_SHIFT);
		for (uint32_t i = 63; i > left[rdmts] + 1; i--) {
			put(f, 100);
			CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
		}
		put(f, 100);
		CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0 | E1000_INT_RXDMT0);
		put(f, 100);
		CHECK_EQ(r(f, E1000_ICR), E1000_INT_RXT0);
		while (tb_e1000_pop(&f->e, &info))
			tb_e1000_give(&f->e, 1);
	}
	fix_end(f);
}

/* --- checksum results --- */

static uint32_t status_of(struct fix *f, const struct net_hdr *h, size_t len)
{
	uint64_t info;

	CHECK_EQ(tb_net_queue(f->tb, 0, 0, h, f->frame, len), 0);
	tb_run(f->tb);
	CHECK(tb_e1000_pop(&f->e, &info));
	CHECK_EQ(ERRORS(info), 0);
	tb_e1000_give(&f->e, 1);
	return STATUS(info) & ~DONE;
}

static void checksum_results(void)
{
	const struct net_hdr valid = { .flags = NET_HDR_DATA_VALID }, none = { .flags = 0 };
	const uint32_t tcp = E1000_RXD_TCPCS, udp = E1000_RXD_TCPCS | E1000_RXD_UDPCS;
	struct fix *f = fix_start();
	uint8_t *ip = f->frame + 14;

	/* 45 00 .. protocol 6, header checksum right */
	memset(ip, 0, 40);
	put_be16(f->frame + 12, 0x0800);
	ip[0] = 0x45;
	ip[9] = 6;
	put_be16(ip + 10, 0xbaf9);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	w(f, E1000_RXCSUM, E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL);
	CHECK_EQ(status_of(f, &none, 100), E1000_RXD_IXSM);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IPCS | tcp);
	w(f, E1000_RXCSUM, E1000_RXCSUM_TUOFL);
	CHECK_EQ(status_of(f, &valid, 100), tcp);
	w(f, E1000_RXCSUM, E1000_RXCSUM_IPOFL);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IPCS);
	w(f, E1000_RXCSUM, E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL);
	ip[9] = 17;
	put_be16(ip + 10, 0xbaee);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IPCS | udp);
	/* A fragment, another protocol. */
	put_be16(ip + 6, 0x2000);
	put_be16(ip + 10, 0x9aee);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IPCS);
	put_be16(ip + 6, 0);
	ip[9] = 1;
	put_be16(ip + 10, 0xbafe);
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IPCS);
	/* Headers that are none: the guest looks itself. */
	ip[11] ^= 1;
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	ip[0] = 0x44;
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	ip[0] = 0x4f;
	CHECK_EQ(status_of(f, &valid, 60), E1000_RXD_IXSM);
	ip[0] = 0x55;
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	/* IPv6 */
	put_be16(f->frame + 12, 0x86dd);
	ip[0] = 0x60;
	ip[6] = 6;
	CHECK_EQ(status_of(f, &valid, 100), tcp);
	ip[6] = 17;
	CHECK_EQ(status_of(f, &valid, 100), udp);
	ip[6] = 0;
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	/* Behind a tag that stays, nothing is known; behind one that goes, all is. */
	memmove(f->frame + 16, f->frame + 12, 80);
	put_be32(f->frame + 12, 0x8100000a);
	ip[4 + 6] = 6;
	CHECK_EQ(status_of(f, &valid, 100), E1000_RXD_IXSM);
	w(f, E1000_CTRL, E1000_CTRL_RESET | E1000_CTRL_VME);
	CHECK_EQ(status_of(f, &valid, 100), tcp | E1000_RXD_VP);
	fix_end(f);
}

/* Frames of this host come without a checksum: it is made here, and the guest is told that it is good. */
static void checksum_made(void)
{
	struct net_hdr h = { .flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 };
	struct fix *f = fix_start();
	uint8_t *ip = f->frame + 14;
	uint64_t info;

	memset(ip, 0, 86);
	put_be16(f->frame + 12, 0x0800);
	ip[0] = 0x45;
	ip[9] = 6;
	put_be16(ip + 10, 0xbaf9);
	ip[36] = 0x12; /* the pseudo header's sum */
	ip[37] = 0x34;
	ip[40] = 0x01;
	ip[84] = 0x80; /* the last byte of an odd length */
	w(f, E1000_RXCSUM, E1000_RXCSUM_TUOFL);
	for (int lpe = 0; lpe < 2; lpe++) {
		const uint8_t *buf = tb_e1000_buf(&f->e, f->e.rx_seen);

		w(f, E1000_RCTL, ON | (lpe ? E1000_RCTL_LPE : 0));
		CHECK_EQ(status_of(f, &h, 99), E1000_RXD_TCPCS);
		CHECK_EQ(get_be16(buf + 50), 0xffff - 0x9334);
	}
	/* One that comes out as zero is written as ones. */
	put_be16(ip + 36, 0x7eff);
	CHECK_EQ(status_of(f, &h, 99), E1000_RXD_TCPCS);
	CHECK_EQ(get_be16(tb_e1000_buf(&f->e, f->e.rx_seen - 1) + 50), 0xffff);
	CHECK(!tb_e1000_pop(&f->e, &info));
	fix_end(f);
}

/* --- statistics --- */

static void statistics(void)
{
	struct fix *f = fix_start();

	put(f, 40);
	put(f, 60);
	put(f, 61);
	put(f, 1514);
	memset(f->frame, 0xff, 6);
	put(f, 1000);
	f->frame[5] = 0;
	put(f, 1000); /* not wanted */
	w(f, E1000_RCTL, ON | E1000_RCTL_MPE);
	put(f, 1020);
	CHECK_EQ(r(f, E1000_STATS + 0x74), 6); /* GPRC */
	CHECK_EQ(r(f, E1000_STATS + 0xd0), 7); /* TPR */
	CHECK_EQ(r(f, E1000_STATS + 0x78), 1);
	CHECK_EQ(r(f, E1000_STATS + 0x7c), 1);
	CHECK_EQ(r(f, E1000_STATS + 0x88), 64 + 64 + 65 + 1518 + 1004 + 1024);
	CHECK_EQ(r(f, E1000_STATS + 0xc0), 64 + 64 + 65 + 1518 + 1004 + 1024 + 1004);
	CHECK_EQ(r(f, E1000_STATS + 0x5c), 2);
	CHECK_EQ(r(f, E1000_STATS + 0x60), 1);
	CHECK_EQ(r(f, E1000_STATS + 0x6c), 1);
	CHECK_EQ(r(f, E1000_STATS + 0x70), 2);
	CHECK_EQ(r(f, E1000_STATS + 0x74), 0);
	fix_end(f);
}

static const struct test_case cases[] = {
	{ "one_frame", one_frame },
	{ "many_frames", many_frames },
	{ "burst", burst },
	{ "batch_sizes", batch_sizes },
	{ "no_buffers", no_buffers },
	{ "overrun", overrun },
	{ "disabled", disabled },
	{ "ring_after_enable", ring_after_enable },
	{ "e10_runts", e10_runts },
	{ "unicast_filter", unicast_filter },
	{ "broadcast_filter", broadcast_filter },
	{ "multicast_filter", multicast_filter },
	{ "vlan_filter", vlan_filter },
	{ "rejected_between", rejected_between },
	{ "vlan_strip", vlan_strip },
	{ "e09_long_frames", e09_long_frames },
	{ "e09_all_sizes", e09_all_sizes },
	{ "e09_jumbo", e09_jumbo },
	{ "e09_jumbo_burst", e09_jumbo_burst },
	{ "e09_bad_buffers", e09_bad_buffers },
	{ "two_regions", two_regions },
	{ "e05_indices", e05_indices },
	{ "e06_ring_elsewhere", e06_ring_elsewhere },
	{ "changes_in_flight", changes_in_flight },
	{ "line_fails", line_fails },
	{ "delayed_interrupt", delayed_interrupt },
	{ "few_buffers", few_buffers },
	{ "checksum_results", checksum_results },
	{ "checksum_made", checksum_made },
	{ "statistics", statistics },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
