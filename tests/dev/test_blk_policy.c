/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "bench/tb_nvme.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"

/* on_nospace and on_error: what a guest sees, and what its owner is told, when the host fails requests. */

#define DATA 0x20000u
#define BACK 0x30000u

struct fix {
	struct tb *tb;
	struct dev *dev;
	struct tb_nvme nv;
	struct blk *disk;
};

static void fix_start(struct fix *f, const char *conf)
{
	const struct tb_opts opts = { .faults = true };
	struct err err = { .text = "" };

	f->tb = tb_new(&opts);
	f->dev = tb_add(f->tb, hw_find("nvme"), conf, &err);
	if (!f->dev)
		CHECK_FAIL("%s", err.text);
	f->disk = dev_disk(f->dev, 0);
	CHECK(f->disk == tb_disk(f->tb, 0) && !dev_disk(f->dev, 1));
	tb_nvme_start(&f->nv, f->dev, 64);
}

static void fix_end(struct fix *f)
{
	tb_release_all(f->tb);
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static void fault(struct fix *f, int op, int nth, int error)
{
	const struct blk_fault b = { .fail_op = op, .fail_nth = nth, .fail_errno = error };

	tb_fault(f->tb, 0, &b);
}

static void push(struct fix *f, uint8_t opcode, uint64_t lba, gpa_t at)
{
	struct nvme_sqe cmd = tb_nvme_rw(opcode, lba, 8, at, 0);

	tb_nvme_push(&f->nv, 1, &cmd);
	tb_nvme_ring(&f->nv, 1);
	tb_run(f->tb);
}

/* The next completion's status, TB_NVME_NONE: there is none. */
static uint16_t answer(struct fix *f)
{
	struct nvme_cqe e;

	tb_run(f->tb);
	if (!tb_nvme_pop(&f->nv, 1, &e))
		return TB_NVME_NONE;
	tb_nvme_ack(&f->nv, 1);
	return e.status >> 1;
}

static uint16_t run(struct fix *f, uint8_t opcode, uint64_t lba, gpa_t at)
{
	push(f, opcode, lba, at);
	return answer(f);
}

/* 0: no trouble, else its errno; the text must have these words. */
static int trouble(struct fix *f, const char *words)
{
	struct blk_trouble t;

	if (!blk_trouble_get(f->disk, &t))
		return 0;
	if (!strstr(t.text, words))
		CHECK_FAIL("\"%s\" without \"%s\"", t.text, words);
	return t.error;
}

/* A write waits until there is space, is tried every two seconds, and is then done whole. */
static void nospace_waits(void)
{
	struct fix f;

	fix_start(&f, NULL);
	memset(tb_mem(f.tb, DATA, 4096), 0x7e, 4096);
	fault(&f, BLK_WRITE, -1, ENOSPC);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 8, DATA), TB_NVME_NONE);
	CHECK_EQ(trouble(&f, "no space on the host for memory"), ENOSPC);
	CHECK_EQ(tb_troubles(f.tb), 1);
	CHECK_EQ(run(&f, NVME_CMD_READ, 0, BACK), 0);
	for (int i = 0; i < 5; i++)
		tb_advance(f.tb, BLK_RETRY_NS);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	CHECK_EQ(trouble(&f, "no space"), ENOSPC);
	CHECK_EQ(tb_troubles(f.tb), 0);
	fault(&f, BLK_WRITE, 0, 0);
	tb_advance(f.tb, BLK_RETRY_NS - 1);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	tb_advance(f.tb, 1);
	CHECK_EQ(answer(&f), 0);
	CHECK_EQ(trouble(&f, ""), 0);
	CHECK_EQ(tb_troubles(f.tb), 1);
	CHECK_EQ(run(&f, NVME_CMD_READ, 8, BACK), 0);
	CHECK(memcmp(tb_mem(f.tb, DATA, 4096), tb_mem(f.tb, BACK, 4096), 4096) == 0);
	fix_end(&f);
}

/* Of many that wait some fail again; a person need not wait for the timer. */
static void nospace_some_fail_again(void)
{
	int done = 0;
	struct fix f;

	fix_start(&f, NULL);
	fault(&f, -1, -1, ENOSPC);
	for (uint64_t i = 0; i < 10; i++)
		push(&f, i % 2 ? NVME_CMD_WRITE_ZEROES : NVME_CMD_WRITE, 8 * i, DATA);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	fault(&f, BLK_WRITE, 3, ENOSPC);
	blk_retry(f.disk);
	while (answer(&f) == 0)
		done++;
	CHECK_EQ(done, 9);
	CHECK_EQ(trouble(&f, "no space"), ENOSPC);
	blk_retry(f.disk);
	CHECK_EQ(answer(&f), 0);
	CHECK_EQ(trouble(&f, ""), 0);
	CHECK_EQ(tb_troubles(f.tb), 2);
	/* no timer is left behind */
	tb_advance(f.tb, 10 * NS_PER_SEC);
	CHECK_EQ(tb_troubles(f.tb), 0);
	fix_end(&f);
}

/* A durable write that waited loses nothing: flushes go well afterwards. */
static void nospace_durable_write(void)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_WRITE, 0, 8, DATA, 0);
	struct fix f;

	fix_start(&f, NULL);
	fault(&f, BLK_WRITE, 1, ENOSPC);
	cmd.cdw12 |= NVME_RW_FUA;
	tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	tb_advance(f.tb, BLK_RETRY_NS);
	CHECK_EQ(answer(&f), 0);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), 0);
	/* but a flush that finds none has lost something, and says so at once */
	fault(&f, BLK_FLUSH, 1, ENOSPC);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), NVME_SC_CAPACITY);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), NVME_SC_WRITE_FAULT);
	CHECK_EQ(trouble(&f, ""), 0);
	fix_end(&f);
}

static void nospace_error(void)
{
	struct fix f;

	fix_start(&f, "on_nospace=error\n");
	fault(&f, BLK_WRITE, 1, ENOSPC);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 8, DATA), NVME_SC_CAPACITY);
	CHECK_EQ(trouble(&f, ""), 0);
	CHECK_EQ(tb_troubles(f.tb), 0);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 8, DATA), 0);
	fix_end(&f);
}

/* What is kept is in flight: a pause waits for it, an end gives it up, and after a reset all is as before. */
static void given_up(void)
{
	struct fix f;

	fix_start(&f, NULL);
	fault(&f, BLK_WRITE, -1, ENOSPC);
	push(&f, NVME_CMD_WRITE, 0, DATA);
	push(&f, NVME_CMD_WRITE, 8, DATA);
	CHECK(!tb_pause(f.tb));
	tb_advance(f.tb, 3 * NS_PER_SEC);
	CHECK(!tb_pause(f.tb));
	blk_give_up(f.disk);
	CHECK(tb_pause(f.tb));
	CHECK_EQ(trouble(&f, ""), 0);
	tb_resume(f.tb);
	CHECK_EQ(answer(&f), NVME_SC_CAPACITY);
	CHECK_EQ(answer(&f), NVME_SC_CAPACITY);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 0, DATA), NVME_SC_CAPACITY);
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 0, DATA), TB_NVME_NONE);
	fault(&f, BLK_WRITE, 0, 0);
	tb_advance(f.tb, BLK_RETRY_NS);
	CHECK_EQ(answer(&f), 0);
	fix_end(&f);
}

static void error_pause(void)
{
	struct fix f;

	fix_start(&f, "on_error=pause\n");
	fault(&f, BLK_READ, 1, EIO);
	CHECK_EQ(run(&f, NVME_CMD_READ, 0, BACK), TB_NVME_NONE);
	CHECK_EQ(trouble(&f, "reading memory failed: Input/output error"), EIO);
	/* nobody but a person can know that it is mended */
	tb_advance(f.tb, 60 * NS_PER_SEC);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	blk_retry(f.disk);
	CHECK_EQ(answer(&f), 0);
	CHECK_EQ(trouble(&f, ""), 0);
	/* requests of the guest that make no sense are its own trouble */
	CHECK_EQ(run(&f, NVME_CMD_READ, 8 * MIB / 512, BACK), NVME_SC_LBA_RANGE | NVME_DNR);
	CHECK_EQ(trouble(&f, ""), 0);
	fix_end(&f);
}

/* A failed flush pauses, but is never tried again: the kernel would call it a success. */
static void error_pause_flush(void)
{
	struct fix f;

	fix_start(&f, "on_error=pause\n");
	fault(&f, BLK_FLUSH, 1, EIO);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), TB_NVME_NONE);
	CHECK_EQ(trouble(&f, "flushing"), EIO);
	blk_retry(f.disk);
	CHECK_EQ(answer(&f), NVME_SC_WRITE_FAULT);
	CHECK_EQ(trouble(&f, ""), 0);
	/* from here on the disk is broken, which is told at once */
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), NVME_SC_WRITE_FAULT);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 0, DATA), NVME_SC_WRITE_FAULT);
	CHECK_EQ(run(&f, NVME_CMD_READ, 0, BACK), 0);
	CHECK_EQ(tb_troubles(f.tb), 2);
	fix_end(&f);
}

/* A write that was kept while a flush failed beside it fails too. */
static void flush_fails_beside_kept_write(void)
{
	struct fix f;

	fix_start(&f, NULL);
	fault(&f, BLK_WRITE, 1, ENOSPC);
	push(&f, NVME_CMD_WRITE, 0, DATA);
	CHECK_EQ(answer(&f), TB_NVME_NONE);
	fault(&f, BLK_FLUSH, 1, EIO);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), NVME_SC_WRITE_FAULT);
	tb_advance(f.tb, BLK_RETRY_NS);
	CHECK_EQ(answer(&f), NVME_SC_CAPACITY);
	CHECK_EQ(trouble(&f, ""), 0);
	fix_end(&f);
}

/* cache=unsafe: flushes and durable writes promise nothing, so nothing of theirs can fail. */
static void cache_unsafe(void)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_WRITE, 0, 8, DATA, 0);
	struct blk_stats s;
	struct fix f;

	cmd.cdw12 |= NVME_RW_FUA;
	fix_start(&f, "path=mem:8M\ncache=unsafe\n");
	fault(&f, BLK_FLUSH, -1, EIO);
	CHECK_EQ(run(&f, NVME_CMD_FLUSH, 0, 0), 0);
	fault(&f, BLK_WRITE, 1, EIO);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), 0);
	blk_stats_get(f.disk, &s);
	CHECK_EQ(s.failed, 1);
	fix_end(&f);
	/* the default: the same failed write is for good */
	fix_start(&f, NULL);
	fault(&f, BLK_WRITE, 1, EIO);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), NVME_SC_WRITE_FAULT);
	fix_end(&f);
}

static void cache_contradiction(void)
{
	struct tb *tb = tb_new(NULL);
	struct err err = { .text = "" };

	CHECK(!tb_add(tb, hw_find("nvme"), "path=mem:8M\ncache=unsafe\nsync=true\n", &err));
	CHECK(strstr(err.text, "sync and cache=unsafe exclude each other"));
	CHECK(!tb_add(tb, hw_find("nvme"), "path=mem:8M\ncache=maybe\n", &err));
	CHECK(strstr(err.text, "writeback, none, unsafe"));
	tb_free(tb);
}

static void error_stop(void)
{
	struct blk_trouble t;
	struct fix f;

	fix_start(&f, "on_error=stop\n");
	fault(&f, BLK_WRITE, 1, EIO);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 0, DATA), NVME_SC_WRITE_FAULT);
	CHECK(blk_trouble_get(f.disk, &t));
	CHECK(t.stop);
	CHECK_EQ(t.error, EIO);
	CHECK_EQ(tb_troubles(f.tb), 1);
	/* want of space is another policy */
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(trouble(&f, ""), 0);
	fault(&f, BLK_WRITE, 1, ENOSPC);
	CHECK_EQ(run(&f, NVME_CMD_WRITE, 0, DATA), TB_NVME_NONE);
	CHECK(blk_trouble_get(f.disk, &t));
	CHECK(!t.stop);
	tb_advance(f.tb, BLK_RETRY_NS);
	CHECK_EQ(answer(&f), 0);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "nospace_waits", nospace_waits },
	{ "nospace_some_fail_again", nospace_some_fail_again },
	{ "nospace_durable_write", nospace_durable_write },
	{ "nospace_error", nospace_error },
	{ "given_up", given_up },
	{ "error_pause", error_pause },
	{ "error_pause_flush", error_pause_flush },
	{ "flush_fails_beside_kept_write", flush_fails_beside_kept_write },
	{ "error_stop", error_stop },
	{ "cache_unsafe", cache_unsafe },
	{ "cache_contradiction", cache_contradiction },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
