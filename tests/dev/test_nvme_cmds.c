/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/test_nvme.h"
#include "util/bytes.h"

/* Compare, Verify, interrupt coalescing, health events, function level reset. */

#define COMPARE_FAILURE NVME_SC_COMPARE_FAILURE
#define US 1000ull

static void fix_start(struct fix *f, const char *conf)
{
	fix_open(f, LOOP_FAKE, conf, 64);
}

static void fault(struct fix *f, int op, int nth, int error)
{
	const struct blk_fault b = { .fail_op = op, .fail_nth = nth, .fail_errno = error };

	tb_fault(f->tb, 0, &b);
}

/* --- Compare and Verify --- */

/* 200 KiB in pages that lie apart, read in four pieces. */
static void compare_large(void)
{
	const uint32_t pages = 50;
	struct fix f;
	gpa_t data, list;
	uint64_t *prp;

	fix_start(&f, NULL);
	data = tb_alloc(f.tb, 2 * pages * 4096, 4096);
	list = tb_alloc(f.tb, 4096, 4096);
	prp = tb_mem(f.tb, list, 4096);
	for (uint32_t i = 0; i < pages; i++) {
		memset(tb_mem(f.tb, data + 2 * i * 4096, 4096), (int)i + 1, 4096);
		if (i)
			prp[i - 1] = data + 2 * i * 4096;
	}
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 8, pages * 8, data, list), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 8, pages * 8, data, list), 0);
	/* the last byte of the first and of the last piece */
	for (uint64_t at = 65535; at < 4096 * pages; at = at == 65535 ? 4096 * pages - 1 : at + 1) {
		uint8_t *byte = tb_mem(f.tb, data + 2 * (at / 4096) * 4096 + at % 4096, 1);

		*byte ^= 1;
		CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 8, pages * 8, data, list), COMPARE_FAILURE);
		*byte ^= 1;
	}
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 9, 1, data, 0), 0);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 9, 1, data + 2 * 4096, 0), COMPARE_FAILURE);
	fix_end(&f);
}

static void compare_errors(void)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_COMPARE, 0, 1, 0x20000, 0);
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 8 * MIB / 512, 1, 0x20000, 0),
		 NVME_SC_LBA_RANGE | NVME_DNR);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 0, 4097, 0x20000, 0x30000),
		 NVME_SC_INVALID_FIELD | NVME_DNR);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 0, 1, 0x20002, 0), NVME_SC_PRP_OFFSET | NVME_DNR);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 0, 1, 0xf0000000, 0),
		 NVME_SC_DATA_TRANSFER | NVME_DNR);
	cmd.nsid = 2;
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_INVALID_NS | NVME_DNR);
	fault(&f, BLK_READ, 1, EIO);
	CHECK_EQ(fix_rw(&f, NVME_CMD_COMPARE, 0, 1, 0x20000, 0), NVME_SC_READ_ERROR);
	fix_end(&f);
}

/* All blocks are read, and the third piece's error is told. */
static void verify_reads_all(void)
{
	struct blk_stats s;
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(fix_rw(&f, NVME_CMD_VERIFY, 16, 8 * MIB / 512 - 16, 0, 0), 0);
	blk_stats_get(tb_disk(f.tb, 0), &s);
	CHECK_EQ(s.read_bytes, 8 * MIB - 16 * 512);
	fault(&f, BLK_READ, 3, EIO);
	CHECK_EQ(fix_rw(&f, NVME_CMD_VERIFY, 0, 1000, 0, 0), NVME_SC_READ_ERROR);
	CHECK_EQ(fix_rw(&f, NVME_CMD_VERIFY, 1, 8 * MIB / 512, 0, 0), NVME_SC_LBA_RANGE | NVME_DNR);
	fix_end(&f);
}

/* A reset of the controller ends a Verify at the step it is at. */
static void verify_ends_with_reset(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_VERIFY, 0, 1000, 0, 0);
	struct blk_stats s;
	struct fix f;

	fix_start(&f, NULL);
	tb_fault(f.tb, 0, &hold);
	tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	CHECK(!tb_nvme_disable(&f.nv));
	tb_release_all(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	blk_stats_get(tb_disk(f.tb, 0), &s);
	CHECK_EQ(s.completed, 1);
	fix_end(&f);
}

/* --- interrupt coalescing --- */

static void push_reads(struct fix *f, unsigned int count)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);

	for (unsigned int i = 0; i < count; i++)
		tb_nvme_push(&f->nv, 1, &cmd);
	tb_nvme_ring(&f->nv, 1);
	tb_run(f->tb);
}

static void coalescing(void)
{
	struct fix f;

	fix_start(&f, NULL);
	/* more than 3 entries, or 500 us */
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_COALESCING, 5 << 8 | 3), 0);
	tb_irqs(f.dev, 1);
	push_reads(&f, 3);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	push_reads(&f, 1);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	push_reads(&f, 2);
	tb_advance(f.tb, 400 * US);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	tb_advance(f.tb, 100 * US);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	tb_advance(f.tb, 1000 * US);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	/* what was told does not count again */
	push_reads(&f, 3);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	/* the admin queue never waits, and switching it off tells what is held */
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_COALESCING, 0), 0);
	CHECK_EQ(tb_irqs(f.dev, 0) > 0, true);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	push_reads(&f, 1);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	fix_end(&f);
}

static void coalescing_per_vector(void)
{
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_COALESCING, 5 << 8 | 3), 0);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_VECTOR, 1 << 16 | 1), 0);
	tb_irqs(f.dev, 1);
	push_reads(&f, 1);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_VECTOR, 1), 0);
	push_reads(&f, 1);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	/* a pause holds it, resume tells */
	CHECK(tb_pause(f.tb));
	tb_advance(f.tb, 1000 * US);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	tb_resume(f.tb);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	/* and a reset forgets both the setting and what was held */
	push_reads(&f, 1);
	CHECK(tb_nvme_disable(&f.nv));
	tb_advance(f.tb, 1000 * US);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 64, 1), 0);
	push_reads(&f, 1);
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	fix_end(&f);
}

/* --- events --- */

static void event_request(struct fix *f)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_ASYNC_EVENT, 0, 0, 0, 0);

	tb_nvme_push(&f->nv, 0, &cmd);
	tb_nvme_ring(&f->nv, 0);
	tb_run(f->tb);
}

/* A flush that failed: an event, the critical warning, and all that is written later fails too. */
static void failed_flush_is_told(void)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_FLUSH, 0, 1, 0, 0);
	const uint8_t *page;
	struct nvme_cqe e;
	struct fix f;

	fix_start(&f, NULL);
	page = tb_mem(f.tb, 0x10000, 4096);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_LOG, 1, NVME_LOG_SMART | 127 << 16, 0), 0);
	CHECK_EQ(page[0], 0);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_ASYNC_EVENT, 0x11f), 0);
	event_request(&f);
	event_request(&f);
	fault(&f, BLK_FLUSH, 1, EIO);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 1, 0x20000, 0), NVME_SC_WRITE_FAULT);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 1, 0x20000, 0), 0);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.dw0, NVME_LOG_SMART << 16 | 0 << 8 | 1);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	tb_nvme_ack(&f.nv, 0);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_LOG, 1, NVME_LOG_SMART | 127 << 16, 0), 0);
	CHECK_EQ(page[0], 4);
	/* not again for each command that fails, and not cleared by a reset of the controller */
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 1, 0x20000, 0), NVME_SC_WRITE_FAULT);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	CHECK(tb_nvme_disable(&f.nv));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), 0);
	fix_end(&f);
}

/* The image has grown: a notice, the list of changed namespaces, and more room. */
static void image_grows(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", conf[128];
	int fd = mkstemp(path);
	const uint8_t *page;
	struct nvme_cqe e;
	struct err err;
	struct fix f;

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, MIB), 0);
	snprintf(conf, sizeof(conf), "path=%s\n", path);
	fix_open(&f, LOOP_EPOLL, conf, 64);
	unlink(path);
	page = tb_mem(f.tb, 0x10000, 4096);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_ASYNC_EVENT, 0x100), 0);
	event_request(&f);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, MIB / 512, 1, 0x20000, 0),
		 NVME_SC_LBA_RANGE | NVME_DNR);
	CHECK_EQ(ftruncate(fd, 3 * MIB), 0);
	CHECK_EQ(dev_grow(f.dev, 0, &err), 0);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.dw0, NVME_LOG_CHANGED_NS << 16 | 0 << 8 | 2);
	tb_nvme_ack(&f.nv, 0);
	CHECK_EQ(
		fix_admin(&f, NVME_ADM_GET_LOG, NVME_NSID_ALL, NVME_LOG_CHANGED_NS | 1023 << 16, 0),
		0);
	CHECK_EQ(get_le32(page), 1);
	CHECK_EQ(get_le32(page + 4), 0);
	CHECK_EQ(
		fix_admin(&f, NVME_ADM_GET_LOG, NVME_NSID_ALL, NVME_LOG_CHANGED_NS | 1023 << 16, 0),
		0);
	CHECK_EQ(get_le32(page), 0);
	CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 1, 0, 0), 0);
	CHECK_EQ(get_le64(page), 3 * MIB / 512);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, MIB / 512, 1, 0x20000, 0), 0);
	close(fd);
	fix_end(&f);
}

/* --- function level reset --- */

static unsigned int devctl(struct fix *f)
{
	return tb_cap(f->dev, 0x10, 0) + 8;
}

static void g14_function_reset(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	uint8_t *data;
	struct fix f;

	fix_start(&f, NULL);
	CHECK(tb_cfg_read(f.dev, devctl(&f) - 4, 4) & BIT(28));
	data = tb_mem(f.tb, 0x20000, 512);
	memset(data, 0x5a, 512);
	CHECK_EQ(fix_rw(&f, NVME_CMD_WRITE, 0, 1, 0x20000, 0), 0);
	tb_irqs(f.dev, 1);
	tb_fault(f.tb, 0, &hold);
	push_reads(&f, 5);
	tb_cfg_write(f.dev, devctl(&f), 2, 0x8000 | tb_cfg_read(f.dev, devctl(&f), 2));
	/* not there while reads are on their way, and writes do nothing */
	CHECK_EQ(tb_cfg_read(f.dev, 0, 4), UINT32_MAX);
	CHECK_EQ(tb_cfg_read(f.dev, 4, 2), 0xffff);
	tb_cfg_write(f.dev, 4, 2, 7);
	tb_release_all(f.tb);
	CHECK_EQ(tb_cfg_read(f.dev, 0, 4), 0x0a0afb5d);
	CHECK_EQ(tb_cfg_read(f.dev, 4, 2), 0);
	CHECK_EQ(tb_cfg_read(f.dev, devctl(&f), 2) & 0x8000, 0);
	CHECK_EQ(tb_irqs(f.dev, 1), 0);
	tb_fault(f.tb, 0, NULL);
	tb_nvme_init(&f.nv, f.dev, true);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_CC), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_AQA), 0);
	tb_nvme_start(&f.nv, f.dev, 64);
	memset(data, 0, 512);
	CHECK_EQ(fix_rw(&f, NVME_CMD_READ, 0, 1, 0x20000, 0), 0);
	CHECK_EQ(data[511], 0x5a);
	/* with nothing in flight it is back at once; a pause in the middle of one ends */
	tb_cfg_write(f.dev, devctl(&f) + 1, 1, 0x80);
	CHECK_EQ(tb_cfg_read(f.dev, 0, 4), 0x0a0afb5d);
	tb_nvme_start(&f.nv, f.dev, 64);
	tb_fault(f.tb, 0, &hold);
	push_reads(&f, 2);
	tb_cfg_write(f.dev, devctl(&f), 2, 0x8000);
	CHECK(!tb_pause(f.tb));
	tb_release_all(f.tb);
	CHECK(tb_pause(f.tb));
	tb_resume(f.tb);
	CHECK_EQ(tb_cfg_read(f.dev, 0, 4), 0x0a0afb5d);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "compare_large", compare_large },
	{ "compare_errors", compare_errors },
	{ "verify_reads_all", verify_reads_all },
	{ "verify_ends_with_reset", verify_ends_with_reset },
	{ "coalescing", coalescing },
	{ "coalescing_per_vector", coalescing_per_vector },
	{ "failed_flush_is_told", failed_flush_is_told },
	{ "image_grows", image_grows },
	{ "g14_function_reset", g14_function_reset },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
