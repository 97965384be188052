/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "dev/test_nvme.h"
#include "util/bytes.h"

/* I/O commands of the NVMe controller and what may happen while they are in flight. */

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)
#define INVALID_NS (NVME_SC_INVALID_NS | NVME_DNR)
#define BAD_RANGE (NVME_SC_LBA_RANGE | NVME_DNR)
#define BAD_PRP (NVME_SC_PRP_OFFSET | NVME_DNR)
#define BAD_TRANSFER (NVME_SC_DATA_TRANSFER | NVME_DNR)
#define BLOCKS (8 * MIB / 512) /* of the bench's disk */

static void fix_start(struct fix *f, const char *conf)
{
	fix_open(f, LOOP_FAKE, conf, 512);
}

static void fill(struct fix *f, gpa_t gpa, uint64_t len, uint32_t seed)
{
	uint8_t *p = tb_mem(f->tb, gpa, len);

	for (uint64_t i = 0; i < len; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void hold(struct fix *f, bool on)
{
	const struct blk_fault fault = { .fail_op = -1, .hold = true };

	tb_fault(f->tb, 0, on ? &fault : NULL);
}

static struct blk_stats stats(struct fix *f)
{
	struct blk_stats s;

	blk_stats_get(tb_disk(f->tb, 0), &s);
	return s;
}

/* --- data --- */

static void read_write(void)
{
	struct fix f;
	gpa_t a, b;

	fix_start(&f, NULL);
	a = tb_alloc(f.tb, 8192, 4096);
	b = tb_alloc(f.tb, 8192, 4096);
	fill(&f, a, 8192, 1);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 100, 16, a, a + 4096), 0);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 100, 16, b, b + 4096), 0);
	CHECK(memcmp(tb_mem(f.tb, a, 8192), tb_mem(f.tb, b, 8192), 8192) == 0);
	/* one block in the middle, at a dword offset */
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 101, 1, b + 0x104, 0), 0);
	CHECK(memcmp(tb_mem(f.tb, a + 512, 512), tb_mem(f.tb, b + 0x104, 512), 512) == 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, BLOCKS - 1, 1, b, 0), 0);
	fix_end(&f);
}

/* Builds a PRP list for the pages after the first of [gpa, gpa + len), itself starting at list; chained if need be. */
static void prp_list(struct fix *f, gpa_t list, gpa_t gpa, uint64_t len, bool backwards)
{
	uint64_t pages = (gpa % 4096 + len + 4095) / 4096 - 1;
	gpa_t page = (gpa & ~0xfffull) + 4096;

	for (uint64_t i = 0; i < pages; i++) {
		uint64_t *e = tb_mem(f->tb, list, 8);

		if (list % 4096 == 4088 && i + 1 < pages) {
			list = tb_alloc(f->tb, 4096, 4096);
			*e = list;
			e = tb_mem(f->tb, list, 8);
		}
		*e = page + 4096 * (backwards ? pages - 1 - i : i);
		list += 8;
	}
}

/* 2 MiB, the most that MDTS allows: pages in order (one piece), and in reverse order with a chained list. */
static void large_transfers(void)
{
	uint64_t len = 2 * MIB;
	gpa_t a, b, list;
	struct fix f;

	fix_start(&f, NULL);
	a = tb_alloc(f.tb, len, 4096);
	b = tb_alloc(f.tb, len + 4096, 4096);
	list = tb_alloc(f.tb, 4096, 4096);
	fill(&f, a, len, 2);
	prp_list(&f, list, a, len, false);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 4096, a, list), 0);
	/* from offset 0x800 of the first page: 513 pages, and a list that starts near the end of its page */
	prp_list(&f, list + 4080, b + 0x800, len, true);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 4096, b + 0x800, list + 4080), 0);
	CHECK(memcmp(tb_mem(f.tb, a, 0x800), tb_mem(f.tb, b + 0x800, 0x800), 0x800) == 0);
	for (uint64_t i = 1; i < 512; i++) {
		const uint8_t *want = tb_mem(f.tb, a + i * 4096 - 0x800, 4096);

		CHECK(memcmp(want, tb_mem(f.tb, b + (513 - i) * 4096, 4096), 4096) == 0);
	}
	CHECK(memcmp(tb_mem(f.tb, a + len - 0x800, 0x800), tb_mem(f.tb, b + 4096, 0x800), 0x800) ==
	      0);
	fix_end(&f);
}

static void nv06_prp_errors(void)
{
	gpa_t page, list;
	uint64_t *e;
	struct fix f;

	fix_start(&f, NULL);
	page = tb_alloc(f.tb, 16 * 4096, 4096);
	list = tb_alloc(f.tb, 8192, 4096);
	e = tb_mem(f.tb, list, 8192);
	for (unsigned int low = 1; low < 4; low++)
		CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, page + low, 0), BAD_PRP);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, 0, 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, TB_MMIO, 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, TB_RAM, 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, tb_bar(f.dev, 0), 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, UINT64_MAX - 4095, 0), BAD_TRANSFER);
	/* PRP2 as a page: with offset, zero, outside of memory */
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 16, page, page + 4096 + 8), BAD_PRP);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 16, page, 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 16, page, TB_MMIO), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 16, UINT64_MAX - 4095, 0), BAD_TRANSFER);
	/* PRP2 as a list: not aligned, zero, outside, entries bad in each position */
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list + 4), BAD_PRP);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, 0), BAD_TRANSFER);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, TB_MMIO), BAD_TRANSFER);
	for (int bad = 0; bad < 2; bad++) {
		e[0] = e[1] = page + 4096;
		e[bad] = page + 8;
		CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list), BAD_PRP);
		e[bad] = 0;
		CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list), BAD_TRANSFER);
		e[bad] = TB_RAM;
		CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list), BAD_TRANSFER);
	}
	/* the chain: pointer with offset, into nowhere, to itself */
	e[511] = list + 4096 + 8;
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list + 4088), BAD_PRP);
	e[511] = TB_RAM;
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list + 4088), BAD_TRANSFER);
	e[511] = list;
	e[0] = e[1] = page + 4096;
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, list + 4088), 0);
	/* the list at the very end of memory: two pages fit, with three its last entry is a chain into nowhere */
	e = tb_mem(f.tb, TB_RAM - 16, 16);
	e[0] = page;
	e[1] = page + 4096;
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 24, page, TB_RAM - 16), 0);
	e[1] = TB_RAM;
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 32, page, TB_RAM - 16), BAD_TRANSFER);
	fix_end(&f);
}

static void nv07_ranges(void)
{
	static const struct {
		uint64_t lba;
		uint32_t blocks;
		uint16_t status;
	} cases[] = {
		{ BLOCKS - 1, 2, BAD_RANGE },	 { BLOCKS, 1, BAD_RANGE },
		{ BLOCKS - 8, 9, BAD_RANGE },	 { UINT64_MAX, 1, BAD_RANGE },
		{ UINT64_MAX, 4096, BAD_RANGE }, { 1ull << 55, 1, BAD_RANGE },
		{ 1ull << 63, 8, BAD_RANGE },	 { 0, 4097, INVALID_FIELD },
		{ 0, 65536, INVALID_FIELD },	 { BLOCKS - 8, 8, 0 },
	};
	struct fix f;
	gpa_t page;

	fix_start(&f, NULL);
	page = tb_alloc(f.tb, 4096, 4096);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CHECK_EQ(fix_rw(&f, NVME_CMD_READ, cases[i].lba, cases[i].blocks, page, 0),
			 cases[i].status);
		CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, cases[i].lba, cases[i].blocks, page, 0),
			 cases[i].status);
		if (cases[i].status == BAD_RANGE)
			CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE_ZEROES, cases[i].lba, cases[i].blocks, 0,
					0),
				 BAD_RANGE);
	}
	CHECK_EQ(stats(&f).accepted, 2);
	fix_end(&f);
}

static void write_zeroes(void)
{
	struct fix f;
	gpa_t a;

	fix_start(&f, NULL);
	a = tb_alloc(f.tb, 4096, 4096);
	fill(&f, a, 4096, 3);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 8, 8, a, 0), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE_ZEROES, 9, 2, 0, 0), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 8, 8, a, 0), 0);
	CHECK(*(uint8_t *)tb_mem(f.tb, a + 511, 1) != 0 || *(uint8_t *)tb_mem(f.tb, a, 1) != 0);
	for (int i = 512; i < 1536; i++)
		CHECK_EQ(*(uint8_t *)tb_mem(f.tb, a + i, 1), 0);
	/* more than MDTS is allowed: nothing is transferred */
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE_ZEROES, 0, BLOCKS, 0, 0), 0);
	fix_end(&f);
}

/* --- Dataset Management --- */

static uint16_t dsm(struct fix *f, gpa_t ranges, unsigned int count, uint32_t attributes)
{
	struct nvme_sqe cmd = { .cdw0 = NVME_CMD_DSM,
				.nsid = 1,
				.prp1 = ranges,
				.cdw10 = count - 1,
				.cdw11 = attributes };

	return tb_nvme_do(&f->nv, 1, &cmd, NULL);
}

static void nv12_dsm(void)
{
	struct nvme_dsm_range *r;
	uint64_t before;
	gpa_t ranges;
	struct fix f;

	fix_start(&f, "dsm=enable\n");
	ranges = tb_alloc(f.tb, 8192, 4096);
	r = tb_mem(f.tb, ranges, 4096);
	for (unsigned int i = 0; i < 256; i++)
		r[i] = (struct nvme_dsm_range){ .lba = i * 8, .blocks = 8 };
	before = stats(&f).accepted;
	CHECK_EQ(dsm(&f, ranges, 256, NVME_DSM_AD), 0);
	CHECK_EQ(stats(&f).accepted - before, 256);
	/* zero length does nothing, overlap is allowed, hints alone do nothing */
	r[0].blocks = 0;
	r[1].lba = 16;
	before = stats(&f).accepted;
	CHECK_EQ(dsm(&f, ranges, 3, NVME_DSM_AD), 0);
	CHECK_EQ(stats(&f).accepted - before, 2);
	CHECK_EQ(dsm(&f, ranges, 1, NVME_DSM_AD), 0);
	CHECK_EQ(dsm(&f, ranges, 256, 3), 0);
	CHECK_EQ(stats(&f).accepted - before, 2);
	/* one bad range: nothing is done, whichever it is */
	for (unsigned int bad = 0; bad < 4; bad++) {
		r[bad].lba = bad & 1 ? BLOCKS - 4 : UINT64_MAX - 3;
		r[bad].blocks = bad & 1 ? 5 : 8;
		CHECK_EQ(dsm(&f, ranges, 4, NVME_DSM_AD), BAD_RANGE);
		r[bad] = (struct nvme_dsm_range){ .lba = 0, .blocks = 8 };
	}
	CHECK_EQ(dsm(&f, TB_MMIO, 1, NVME_DSM_AD), BAD_TRANSFER);
	CHECK_EQ(dsm(&f, ranges + 1, 1, NVME_DSM_AD), BAD_PRP);
	CHECK_EQ(stats(&f).accepted - before, 2);
	fix_end(&f);
}

static void dsm_disabled_or_failing(void)
{
	const struct blk_fault fail = { .fail_nth = 2, .fail_errno = EIO, .fail_op = BLK_DISCARD };
	const struct blk_fault refuse = { .fail_nth = -1,
					  .fail_errno = EOPNOTSUPP,
					  .fail_op = BLK_DISCARD };
	struct nvme_dsm_range *r;
	struct fix f;

	fix_start(&f, "dsm=disable\n");
	CHECK_EQ(dsm(&f, 0x20000, 1, NVME_DSM_AD), NVME_SC_INVALID_OPCODE | NVME_DNR);
	fix_end(&f);
	fix_start(&f, "dsm=enable\n");
	r = tb_mem(f.tb, 0x20000, 4096);
	r[0] = r[1] = r[2] = (struct nvme_dsm_range){ .lba = 8, .blocks = 8 };
	tb_fault(f.tb, 0, &fail);
	CHECK_EQ(dsm(&f, 0x20000, 3, NVME_DSM_AD), NVME_SC_WRITE_FAULT);
	CHECK_EQ(stats(&f).accepted, 2);
	/* a disk that cannot: advice not taken */
	tb_fault(f.tb, 0, &refuse);
	CHECK_EQ(dsm(&f, 0x20000, 3, NVME_DSM_AD), 0);
	fix_end(&f);
}

static void read_only_disk(void)
{
	uint16_t want = NVME_SC_WRITE_PROTECTED | NVME_DNR;
	struct nvme_sqe identify = tb_nvme_admin(NVME_ADM_IDENTIFY, 1, 0x20000, 0, 0);
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	struct fix f;

	fix_start(&f, "ro=true\ndsm=enable\n");
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &identify, NULL), 0);
	CHECK_EQ(*(uint8_t *)tb_mem(f.tb, 0x20000 + 99, 1), 1);
	memset(tb_mem(f.tb, 0x20000, 16), 0, 16);
	put_le32(tb_mem(f.tb, 0x20004, 4), 8);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, 0x21000, 0), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 8, 0x21000, 0), want);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE_ZEROES, 0, 8, 0, 0), want);
	CHECK_EQ(dsm(&f, 0x20000, 1, NVME_DSM_AD), want);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), 0);
	fix_end(&f);
}

/* --- the back end's errors --- */

static void backend_errors(void)
{
	static const struct {
		uint8_t opcode;
		int error;
		uint16_t status;
	} cases[] = {
		{ NVME_CMD_READ, EIO, NVME_SC_READ_ERROR },
		{ NVME_CMD_WRITE, EIO, NVME_SC_WRITE_FAULT },
		{ NVME_CMD_FLUSH, EIO, NVME_SC_WRITE_FAULT },
		{ NVME_CMD_WRITE_ZEROES, EIO, NVME_SC_WRITE_FAULT },
		{ NVME_CMD_WRITE, ENOSPC, NVME_SC_CAPACITY },
		{ NVME_CMD_WRITE_ZEROES, EDQUOT, NVME_SC_CAPACITY },
		{ NVME_CMD_WRITE, EROFS, NVME_SC_WRITE_PROTECTED | NVME_DNR },
		{ NVME_CMD_READ, EINVAL, NVME_SC_INTERNAL },
		{ NVME_CMD_WRITE_ZEROES, EOPNOTSUPP, NVME_SC_INVALID_OPCODE | NVME_DNR },
	};
	struct fix f;

	fix_start(&f, "on_nospace=error\n");
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct blk_fault fail = { .fail_nth = 1,
						.fail_errno = cases[i].error,
						.fail_op = -1 };

		tb_fault(f.tb, 0, &fail);
		CHECK_EQ(fix_rw(&f, cases[i].opcode, 0, 8, 0x20000, 0), cases[i].status);
		tb_fault(f.tb, 0, NULL);
		blk_clear_error(tb_disk(f.tb, 0));
		CHECK_EQ(fix_rw(&f, cases[i].opcode, 0, 8, 0x20000, 0), 0);
	}
	fix_end(&f);
}

/* Each of the calls of one batch fails in turn: exactly that command has the error. */
static void each_call_fails(void)
{
	struct fix f;

	fix_start(&f, NULL);
	for (int nth = 1; nth <= 16; nth++) {
		const struct blk_fault fail = { .fail_nth = nth, .fail_errno = EIO, .fail_op = -1 };
		struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 8, 0x20000, 0);
		uint16_t first = f.nv.next_cid;
		struct nvme_cqe e;

		tb_fault(f.tb, 0, &fail);
		for (int i = 0; i < 16; i++)
			tb_nvme_push(&f.nv, 1, &cmd);
		tb_nvme_ring(&f.nv, 1);
		tb_run(f.tb);
		for (int i = 0; i < 16; i++) {
			CHECK(tb_nvme_pop(&f.nv, 1, &e));
			CHECK_EQ(e.status >> 1, e.cid == first + nth - 1 ? NVME_SC_READ_ERROR : 0);
		}
		tb_nvme_ack(&f.nv, 1);
	}
	fix_end(&f);
}

/*
 * True if the host was asked to make this write durable: only then does the disk, when the write fails, refuse later
 * flushes.
 */
static bool is_durable(struct fix *f, const struct nvme_sqe *write)
{
	const struct blk_fault fail = { .fail_nth = 1, .fail_errno = EIO, .fail_op = -1 };
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	bool durable;

	tb_fault(f->tb, 0, &fail);
	CHECK_EQ(tb_nvme_do(&f->nv, 1, write, NULL), NVME_SC_WRITE_FAULT);
	tb_fault(f->tb, 0, NULL);
	durable = tb_nvme_do(&f->nv, 1, &flush, NULL) != 0;
	blk_clear_error(tb_disk(f->tb, 0));
	return durable;
}

/* FUA where the command says so or the cache is off, Flush as a flush. */
static void nv22_durability(void)
{
	struct nvme_sqe write = tb_nvme_rw(NVME_CMD_WRITE, 0, 8, 0x20000, 0);
	struct nvme_sqe zero = tb_nvme_rw(NVME_CMD_WRITE_ZEROES, 0, 8, 0, 0);
	struct nvme_sqe off = tb_nvme_admin(NVME_ADM_SET_FEATURES, 0, 0, NVME_FEAT_WRITE_CACHE, 0);
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	struct nvme_cqe e;
	struct fix f;

	fix_start(&f, NULL);
	CHECK(!is_durable(&f, &write));
	CHECK(!is_durable(&f, &zero));
	write.cdw12 |= NVME_RW_FUA;
	zero.cdw12 |= NVME_RW_FUA;
	CHECK(is_durable(&f, &write));
	CHECK(is_durable(&f, &zero));
	write.cdw12 &= ~NVME_RW_FUA;
	zero.cdw12 &= ~NVME_RW_FUA;
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &off, NULL), 0);
	CHECK(is_durable(&f, &write));
	CHECK(is_durable(&f, &zero));
	/* nothing is reported as done before the host has said so */
	hold(&f, true);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), TB_NVME_NONE);
	hold(&f, false);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 1, &e));
	CHECK_EQ(e.status >> 1, 0);
	fix_end(&f);
}

/* --- many commands --- */

static void push_reads(struct fix *f, unsigned int queue, int count)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 8, 0x20000, 0);

	for (int i = 0; i < count; i++)
		tb_nvme_push(&f->nv, queue, &cmd);
	tb_nvme_ring(&f->nv, queue);
}

static int pop_all(struct fix *f, unsigned int queue)
{
	struct nvme_cqe e;
	int n = 0;

	while (tb_nvme_pop(&f->nv, queue, &e))
		n++;
	tb_nvme_ack(&f->nv, queue);
	return n;
}

/* One message per vector and batch, and no more requests with the back end than slots. */
static void batches_and_slots(void)
{
	struct fix f;

	fix_start(&f, "ioslots=16\n");
	hold(&f, true);
	push_reads(&f, 1, 100);
	tb_run(f.tb);
	CHECK_EQ(stats(&f).accepted, 16);
	tb_irqs(f.dev, 1);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 100);
	CHECK(tb_irqs(f.dev, 1) <= 8);
	fix_end(&f);
}

/* More large transfers than there are lists for them: the rest waits its turn. */
static void buffers_run_out(void)
{
	struct nvme_sqe cmd;
	gpa_t list, page;
	struct fix f;

	fix_start(&f, NULL);
	list = tb_alloc(f.tb, 4096, 4096);
	page = tb_alloc(f.tb, 16 * 4096, 4096);
	prp_list(&f, list, page, 16 * 4096, true);
	cmd = tb_nvme_rw(NVME_CMD_READ, 0, 128, page, list);
	hold(&f, true);
	for (int i = 0; i < 100; i++)
		tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	CHECK_EQ(stats(&f).accepted, 64);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 100);
	fix_end(&f);
}

/* A queue that is kept full leaves room for the others. */
static void nv04_fair_turns(void)
{
	struct nvme_cqe e;
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(tb_nvme_pair(&f.nv, 2, 16, 2), 0);
	push_reads(&f, 1, 500);
	push_reads(&f, 2, 1);
	loop_step(tb_loop(f.tb), false);
	for (int i = 0; i < 20 && !tb_nvme_pop(&f.nv, 2, &e); i++) {
		CHECK(i < 4);
		loop_step(tb_loop(f.tb), false);
		push_reads(&f, 1, pop_all(&f, 1));
	}
	tb_run(f.tb);
	fix_end(&f);
}

/* The 64 bytes are copied once: what the guest writes there afterwards is not seen. */
static void nv20_entry_copied_once(void)
{
	struct nvme_cqe e;
	gpa_t a;
	struct fix f;

	fix_start(&f, NULL);
	a = tb_alloc(f.tb, 4096, 4096);
	memset(tb_mem(f.tb, a, 4096), 0xee, 4096);
	hold(&f, true);
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 8, a, 0);
	uint16_t cid = tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	memset(tb_mem(f.tb, f.nv.q[1].sq, 64), 0xff, 64);
	hold(&f, false);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 1, &e));
	CHECK_EQ(e.cid, cid);
	CHECK_EQ(e.status >> 1, 0);
	CHECK_EQ(*(uint8_t *)tb_mem(f.tb, a + 4095, 1), 0);
	fix_end(&f);
}

/* --- interrupts --- */

static void wire_interrupts(void)
{
	const struct tb_opts opts = { .faults = true };
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, 0, 0, 7, 0);
	struct nvme_cqe e;
	struct fix f;

	f.tb = tb_new(&opts);
	f.dev = tb_add(f.tb, hw_find("nvme"), NULL, NULL);
	tb_nvme_init(&f.nv, f.dev, false);
	CHECK(tb_nvme_enable(&f.nv, 16, 16));
	CHECK(!tb_intx(f.dev));
	tb_nvme_push(&f.nv, 0, &get);
	tb_nvme_push(&f.nv, 0, &get);
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	CHECK(tb_intx(f.dev));
	tb_w32(f.dev, 0, NVME_REG_INTMS, 1);
	CHECK(!tb_intx(f.dev));
	tb_w32(f.dev, 0, NVME_REG_INTMC, 1);
	CHECK(tb_intx(f.dev));
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	tb_nvme_ack(&f.nv, 0);
	CHECK(tb_intx(f.dev));
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	/* low before the doorbell's write has returned: nothing runs in between */
	tb_nvme_ack(&f.nv, 0);
	CHECK(!tb_intx(f.dev));
	/* other vectors than 0 do not exist on a wire */
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 16, 1), NVME_SC_VECTOR | NVME_DNR);
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 16, 0), 0);
	/* unread entries are told again by message when MSI-X comes on */
	push_reads(&f, 1, 1);
	tb_run(f.tb);
	CHECK(tb_intx(f.dev));
	tb_msix_enable(f.dev);
	CHECK(!tb_intx(f.dev));
	CHECK_EQ(tb_irqs(f.dev, 0), 1);
	fix_end(&f);
}

static void masked_vectors(void)
{
	struct fix f;

	fix_start(&f, NULL);
	tb_irqs(f.dev, 1);
	tb_msix_mask(f.dev, 1, true);
	push_reads(&f, 1, 4);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 4);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	CHECK(tb_msix_pending(f.dev, 1));
	tb_msix_mask(f.dev, 1, false);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	fix_end(&f);
}

/* A completion queue made without interrupts. */
static void queue_without_interrupts(void)
{
	struct nvme_sqe cmd;
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(tb_nvme_pair(&f.nv, 2, 16, 2), 0);
	cmd = tb_nvme_admin(NVME_ADM_DELETE_SQ, 0, 0, 2, 0);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
	cmd = tb_nvme_admin(NVME_ADM_DELETE_CQ, 0, 0, 2, 0);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
	cmd = tb_nvme_admin(NVME_ADM_CREATE_CQ, 0, f.nv.q[2].cq, 15 << 16 | 2, 2 << 16 | 1);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
	cmd = tb_nvme_admin(NVME_ADM_CREATE_SQ, 0, f.nv.q[2].sq, 15 << 16 | 2, 2 << 16 | 1);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
	memset(tb_mem(f.tb, f.nv.q[2].cq, 256), 0, 256);
	push_reads(&f, 2, 4);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 2), 4);
	CHECK_EQ(tb_irqs(f.dev, 2), 0);
	fix_end(&f);
}

/* --- in flight --- */

/* CC.EN = 0: RDY falls when the back end is done, nothing is posted, and the controller works again. */
static void nv15_disable_in_flight(void)
{
	const uint8_t *cq;
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 200);
	tb_run(f.tb);
	tb_irqs(f.dev, 1);
	tb_w32(f.dev, 0, NVME_REG_CC, 0);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY);
	push_reads(&f, 1, 1);
	tb_run(f.tb);
	CHECK_EQ(stats(&f).accepted, 200);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	cq = tb_mem(f.tb, f.nv.q[1].cq, 512 * 16);
	for (int i = 0; i < 512 * 16; i++)
		CHECK_EQ(cq[i], 0);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	tb_nvme_start(&f.nv, f.dev, 16);
	push_reads(&f, 1, 3);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 3);
	fix_end(&f);
}

/* The guest does not wait for RDY to fall: it comes up again once the old requests are gone. */
static void nv15_enable_too_early(void)
{
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 5);
	tb_run(f.tb);
	tb_w32(f.dev, 0, NVME_REG_CC, 0);
	CHECK(tb_nvme_enable(&f.nv, 8, 8));
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY);
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 16, 1), 0);
	push_reads(&f, 1, 3);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 3);
	fix_end(&f);
}

static void nv15_shutdown_in_flight(void)
{
	uint32_t cc;
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 20);
	tb_run(f.tb);
	cc = tb_r32(f.dev, 0, NVME_REG_CC);
	tb_w32(f.dev, 0, NVME_REG_CC, cc | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_BUSY);
	tb_release_all(f.tb);
	tb_run(f.tb);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	CHECK_EQ(pop_all(&f, 1), 20);
	CHECK_EQ(stats(&f).flushes, 1);
	/* nothing runs after it, until a reset */
	push_reads(&f, 1, 1);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 0);
	CHECK(tb_nvme_disable(&f.nv));
	/* shutting down what is off is done at once */
	tb_w32(f.dev, 0, NVME_REG_CC, 1 << NVME_CC_SHN_SHIFT);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_SHST_DONE);
	tb_nvme_start(&f.nv, f.dev, 16);
	fix_end(&f);
}

static void disable_during_shutdown(void)
{
	uint32_t cc;
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	cc = tb_r32(f.dev, 0, NVME_REG_CC);
	tb_w32(f.dev, 0, NVME_REG_CC, cc | 2 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	tb_w32(f.dev, 0, NVME_REG_CC, 0);
	tb_run(f.tb);
	CHECK(tb_nvme_csts(&f.nv) & NVME_CSTS_RDY);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	tb_nvme_start(&f.nv, f.dev, 16);
	fix_end(&f);
}

/* Delete I/O Submission Queue completes after the commands of the queue. */
static void delete_queue_in_flight(void)
{
	struct nvme_sqe del = tb_nvme_admin(NVME_ADM_DELETE_SQ, 0, 0, 1, 0);
	struct nvme_cqe e;
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 10);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &del, NULL), TB_NVME_NONE);
	/* a second one, and a new queue of that number, have to wait for the first */
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &del, NULL), NVME_SC_QUEUE_ID | NVME_DNR);
	push_reads(&f, 1, 1);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 10);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.status >> 1, 0);
	tb_nvme_ack(&f.nv, 0);
	fix_end(&f);
}

/* Pause waits for what is in flight; what comes meanwhile is only noted; resume goes on by itself. */
static void pause_in_flight(void)
{
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 10);
	tb_run(f.tb);
	CHECK(!tb_pause(f.tb));
	push_reads(&f, 1, 5);
	tb_run(f.tb);
	CHECK_EQ(stats(&f).accepted, 10);
	hold(&f, false);
	CHECK(tb_pause(f.tb));
	CHECK_EQ(pop_all(&f, 1), 10);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	tb_resume(f.tb);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 5);
	fix_end(&f);
}

static void pause_during_shutdown(void)
{
	uint32_t cc;
	struct fix f;

	fix_start(&f, NULL);
	hold(&f, true);
	push_reads(&f, 1, 4);
	tb_run(f.tb);
	cc = tb_r32(f.dev, 0, NVME_REG_CC);
	tb_w32(f.dev, 0, NVME_REG_CC, cc | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	CHECK(!tb_pause(f.tb));
	hold(&f, false);
	CHECK(tb_pause(f.tb));
	CHECK_EQ(stats(&f).flushes, 0);
	tb_resume(f.tb);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	CHECK_EQ(stats(&f).flushes, 1);
	fix_end(&f);
}

static void machine_reset(void)
{
	struct fix f;

	fix_start(&f, NULL);
	push_reads(&f, 1, 10);
	CHECK(tb_reset(f.tb));
	tb_pci_enable(f.dev);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_CC), 0);
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_ASQ), 0);
	tb_nvme_start(&f.nv, f.dev, 16);
	push_reads(&f, 1, 3);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 3);
	fix_end(&f);
}

/* Bus master off: nothing is fetched and nothing is written; on again: what waited is done. */
static void bus_master_off(void)
{
	struct fix f;

	fix_start(&f, NULL);
	tb_bus_master(f.dev, false);
	push_reads(&f, 1, 3);
	tb_run(f.tb);
	CHECK_EQ(stats(&f).accepted, 0);
	tb_bus_master(f.dev, true);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 3);
	/* in flight: completes inside, but the guest is not written to */
	hold(&f, true);
	push_reads(&f, 1, 2);
	tb_run(f.tb);
	tb_bus_master(f.dev, false);
	hold(&f, false);
	tb_run(f.tb);
	CHECK_EQ(pop_all(&f, 1), 0);
	CHECK(tb_balanced(f.tb));
	fix_end(&f);
}

static void sector_sizes(void)
{
	static const struct {
		const char *conf;
		unsigned int shift;
	} cases[] = { { "sectsz=512\n", 9 }, { "sectsz=4096\n", 12 }, { "sectsz=8192\n", 13 } };
	struct nvme_sqe identify = tb_nvme_admin(NVME_ADM_IDENTIFY, 1, 0x20000, 0, 0);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fix f;

		fix_start(&f, cases[i].conf);
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &identify, NULL), 0);
		CHECK_EQ(*(uint8_t *)tb_mem(f.tb, 0x20000 + 130, 1), cases[i].shift);
		CHECK_EQ(get_le64(tb_mem(f.tb, 0x20000, 8)), 8 * MIB >> cases[i].shift);
		CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 1, 1, 0x20000, 0x21000), 0);
		CHECK_EQ(stats(&f).write_bytes, 1u << cases[i].shift);
		fix_end(&f);
	}
}

/* A disk whose physical sectors are larger says so. */
static void physical_sectors(void)
{
	struct nvme_sqe identify = tb_nvme_admin(NVME_ADM_IDENTIFY, 1, 0x20000, 0, 0);
	const uint8_t *p;
	struct fix f;

	fix_start(&f, "path=mem:4M\nsectorsize=512/4096\n");
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &identify, NULL), 0);
	p = tb_mem(f.tb, 0x20000, 4096);
	CHECK_EQ(p[24], 1 << 4);
	for (int at = 64; at < 72; at += 2)
		CHECK_EQ(get_le16(p + at), 7);
	fix_end(&f);
}

/* Write Zeroes that may deallocate. */
static void write_zeroes_deallocating(void)
{
	struct nvme_sqe zero = tb_nvme_rw(NVME_CMD_WRITE_ZEROES, 0, 8, 0, 0);
	struct fix f;

	fix_start(&f, "dsm=enable\n");
	fill(&f, 0x20000, 4096, 5);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 8, 0x20000, 0), 0);
	zero.cdw12 |= NVME_WZ_DEAC;
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &zero, NULL), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 8, 0x20000, 0), 0);
	for (unsigned int i = 0; i < 4096; i++)
		CHECK_EQ(*(uint8_t *)tb_mem(f.tb, 0x20000 + i, 1), 0);
	fix_end(&f);
}

/* The flush of a shutdown fails: the shutdown ends all the same, and the error is counted. */
static void shutdown_flush_fails(void)
{
	const struct blk_fault fail = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };
	uint32_t cc;
	struct fix f;

	fix_start(&f, NULL);
	tb_fault(f.tb, 0, &fail);
	cc = tb_r32(f.dev, 0, NVME_REG_CC);
	tb_w32(f.dev, 0, NVME_REG_CC, cc | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	CHECK_EQ(stats(&f).failed, 1);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "physical_sectors", physical_sectors },
	{ "write_zeroes_deallocating", write_zeroes_deallocating },
	{ "shutdown_flush_fails", shutdown_flush_fails },
	{ "read_write", read_write },
	{ "large_transfers", large_transfers },
	{ "nv06_prp_errors", nv06_prp_errors },
	{ "nv07_ranges", nv07_ranges },
	{ "write_zeroes", write_zeroes },
	{ "nv12_dsm", nv12_dsm },
	{ "dsm_disabled_or_failing", dsm_disabled_or_failing },
	{ "read_only_disk", read_only_disk },
	{ "backend_errors", backend_errors },
	{ "each_call_fails", each_call_fails },
	{ "nv22_durability", nv22_durability },
	{ "batches_and_slots", batches_and_slots },
	{ "buffers_run_out", buffers_run_out },
	{ "nv04_fair_turns", nv04_fair_turns },
	{ "nv20_entry_copied_once", nv20_entry_copied_once },
	{ "wire_interrupts", wire_interrupts },
	{ "masked_vectors", masked_vectors },
	{ "queue_without_interrupts", queue_without_interrupts },
	{ "nv15_disable_in_flight", nv15_disable_in_flight },
	{ "nv15_enable_too_early", nv15_enable_too_early },
	{ "nv15_shutdown_in_flight", nv15_shutdown_in_flight },
	{ "disable_during_shutdown", disable_during_shutdown },
	{ "delete_queue_in_flight", delete_queue_in_flight },
	{ "pause_in_flight", pause_in_flight },
	{ "pause_during_shutdown", pause_during_shutdown },
	{ "machine_reset", machine_reset },
	{ "bus_master_off", bus_master_off },
	{ "sector_sizes", sector_sizes },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
