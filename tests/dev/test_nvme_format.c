/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dev/test_nvme.h"
#include "util/bytes.h"

/* Format NVM, with other work beside it and what may come between. */

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)
#define INVALID_FORMAT (NVME_SC_INVALID_FORMAT | NVME_DNR)
#define INVALID_NS (NVME_SC_INVALID_NS | NVME_DNR)
#define BUSY NVME_SC_FORMAT_IN_PROGRESS
#define BLOCKS (8 * MIB / 512)
#define SES(n) ((n) << 9)

/* Three namespaces: 1 and 2 of 8 MiB and 1 MiB, and 4, read-only if ro. */
static void fix_start(struct fix *f, bool ro)
{
	fix_open(f, LOOP_FAKE,
		 ro ? "ns.2.path=mem:1M\nns.4.path=mem:1M\nns.4.ro=true\n"
		    : "ns.2.path=mem:1M\nns.2.on_nospace=error\nns.4.path=mem:1M\n",
		 64);
}

static uint16_t io(struct fix *f, uint8_t opcode, uint32_t nsid, uint64_t lba)
{
	struct nvme_sqe cmd = tb_nvme_rw(opcode, lba, 1, 0x20000, 0);

	cmd.nsid = nsid;
	return tb_nvme_do(&f->nv, 1, &cmd, NULL);
}

static uint16_t format(struct fix *f, uint32_t nsid, uint32_t cdw10)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_FORMAT, nsid, 0, cdw10, 0);

	return tb_nvme_do(&f->nv, 0, &cmd, NULL);
}

/* Starts one and does not wait for it. */
static void format_start(struct fix *f, uint32_t nsid)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_FORMAT, nsid, 0, 0, 0);

	tb_nvme_push(&f->nv, 0, &cmd);
	tb_nvme_ring(&f->nv, 0);
	tb_run(f->tb);
}

/* The status of a command that was started, TB_NVME_NONE: it has not ended. */
static uint16_t ended(struct fix *f)
{
	struct nvme_cqe e;

	if (!tb_nvme_pop(&f->nv, 0, &e))
		return TB_NVME_NONE;
	tb_nvme_ack(&f->nv, 0);
	return e.status >> 1;
}

static const uint8_t *identify(struct fix *f, uint32_t nsid)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_IDENTIFY, nsid, 0x10000, 0, 0);

	CHECK_EQ(tb_nvme_do(&f->nv, 0, &cmd, NULL), 0);
	return tb_mem(f->tb, 0x10000, 4096);
}

static struct blk_stats stats(struct fix *f, unsigned int disk)
{
	struct blk_stats s;

	blk_stats_get(tb_disk(f->tb, disk), &s);
	return s;
}

static void fault(struct fix *f, unsigned int disk, int op, int error)
{
	const struct blk_fault b = { .fail_op = op, .fail_nth = 1, .fail_errno = error };

	tb_fault(f->tb, disk, &b);
}

static void hold(struct fix *f, unsigned int disk)
{
	const struct blk_fault b = { .fail_op = -1, .hold = true };

	tb_fault(f->tb, disk, &b);
}

/* Something else than zeroes in the first block of each namespace. */
static void fill(struct fix *f)
{
	memset(tb_mem(f->tb, 0x20000, 4096), 0xa5, 4096);
	for (uint32_t id = 1; id <= 4; id += id)
		CHECK_EQ(io(f, NVME_CMD_WRITE, id, 0), 0);
}

/* Of the first block; -1: it cannot be read. */
static int first_byte(struct fix *f, uint32_t nsid)
{
	uint8_t *p = tb_mem(f->tb, 0x20000, 4096);

	memset(p, 0xee, 4096);
	return io(f, NVME_CMD_READ, nsid, 0) ? -1 : *p;
}

static void one_namespace(void)
{
	struct fix f;

	fix_start(&f, false);
	for (uint32_t ses = 0; ses <= 1; ses++) {
		uint64_t flushes = stats(&f, 1).flushes;

		fill(&f);
		CHECK_EQ(format(&f, 2, SES(ses)), 0);
		CHECK_EQ(first_byte(&f, 1), 0xa5);
		CHECK_EQ(first_byte(&f, 2), 0);
		CHECK_EQ(first_byte(&f, 4), 0xa5);
		CHECK_EQ(stats(&f, 1).flushes, flushes + 1);
		CHECK_EQ(stats(&f, 0).flushes + stats(&f, 2).flushes, 0);
	}
	fix_end(&f);
}

static void all_namespaces(void)
{
	struct fix f;

	fix_start(&f, false);
	fill(&f);
	CHECK_EQ(format(&f, NVME_NSID_ALL, SES(1)), 0);
	for (uint32_t id = 1; id <= 4; id += id)
		CHECK_EQ(first_byte(&f, id), 0);
	fix_end(&f);
}

static void refused(void)
{
	struct fix f;

	fix_start(&f, false);
	fill(&f);
	CHECK_EQ(format(&f, 0, 0), INVALID_NS);
	CHECK_EQ(format(&f, 3, 0), INVALID_FIELD);
	CHECK_EQ(format(&f, 5, 0), INVALID_NS);
	CHECK_EQ(format(&f, 0xfffffffe, 0), INVALID_NS);
	/* cryptographic erase, and what is reserved */
	for (uint32_t ses = 2; ses < 8; ses++)
		CHECK_EQ(format(&f, 1, SES(ses)), INVALID_FIELD);
	/* formats that there are not, and protection information */
	for (uint32_t lbaf = 2; lbaf < 16; lbaf++)
		CHECK_EQ(format(&f, 1, lbaf), INVALID_FORMAT);
	for (uint32_t pi = 1; pi < 8; pi++)
		CHECK_EQ(format(&f, 1, pi << 5), INVALID_FORMAT);
	for (uint32_t id = 1; id <= 4; id += id)
		CHECK_EQ(first_byte(&f, id), 0xa5);
	fix_end(&f);
}

/* A read-only one is refused, and with it all, before anything is touched. */
static void read_only(void)
{
	struct fix f;

	fix_start(&f, true);
	memset(tb_mem(f.tb, 0x20000, 4096), 0xa5, 4096);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 1, 0), 0);
	CHECK_EQ(format(&f, 4, 0), NVME_SC_WRITE_PROTECTED | NVME_DNR);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 0), NVME_SC_WRITE_PROTECTED | NVME_DNR);
	CHECK_EQ(first_byte(&f, 1), 0xa5);
	CHECK_EQ(stats(&f, 2).accepted, 0);
	CHECK_EQ(format(&f, 1, 0), 0);
	CHECK_EQ(first_byte(&f, 1), 0);
	fix_end(&f);
}

/* Blocks of 4096 bytes and back; it stays so across resets. */
static void block_size(void)
{
	const uint8_t *p;
	struct fix f;

	fix_start(&f, false);
	p = identify(&f, 1);
	CHECK_EQ(p[25], 1);
	CHECK_EQ(p[26], 0);
	CHECK_EQ(get_le32(p + 128), 9 << 16);
	CHECK_EQ(get_le32(p + 132), 12 << 16);
	fill(&f);
	CHECK_EQ(format(&f, 1, 1), 0);
	p = identify(&f, 1);
	CHECK_EQ(p[26], 1);
	CHECK_EQ(get_le64(p), BLOCKS / 8);
	CHECK_EQ(get_le64(p + 8), BLOCKS / 8);
	CHECK_EQ(identify(&f, 2)[26], 0);
	CHECK_EQ(io(&f, NVME_CMD_READ, 1, BLOCKS / 8), NVME_SC_LBA_RANGE | NVME_DNR);
	memset(tb_mem(f.tb, 0x20000, 4096), 0x5a, 4096);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 1, BLOCKS / 8 - 1), 0);
	CHECK(tb_nvme_disable(&f.nv));
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(identify(&f, 1)[26], 1);
	memset(tb_mem(f.tb, 0x20000, 4096), 0, 4096);
	CHECK_EQ(io(&f, NVME_CMD_READ, 1, BLOCKS / 8 - 1), 0);
	CHECK_EQ(*(uint8_t *)tb_mem(f.tb, 0x20fff, 1), 0x5a);
	CHECK_EQ(format(&f, 1, 0), 0);
	CHECK_EQ(get_le64(identify(&f, 1)), BLOCKS);
	CHECK_EQ(io(&f, NVME_CMD_READ, 1, BLOCKS - 1), 0);
	CHECK_EQ(*(uint8_t *)tb_mem(f.tb, 0x201ff, 1), 0);
	fix_end(&f);
	/* one that does not divide, and one that has 4096 already */
	fix_open(&f, LOOP_FAKE, "path=mem:1536\nns.2.path=mem:1M\nns.2.sectorsize=4096\n", 64);
	CHECK_EQ(identify(&f, 1)[25], 0);
	CHECK_EQ(identify(&f, 2)[25], 0);
	CHECK_EQ(identify(&f, 2)[130], 12);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 1), INVALID_FORMAT);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 0), 0);
	fix_end(&f);
}

/* s5.23: while it runs its namespace is busy and the others are not; one at a time. */
static void busy(void)
{
	static const uint8_t opcodes[] = { NVME_CMD_FLUSH,	  NVME_CMD_WRITE, NVME_CMD_READ,
					   NVME_CMD_WRITE_ZEROES, NVME_CMD_DSM,	  NVME_CMD_COMPARE,
					   NVME_CMD_VERIFY };
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = NVME_NSID_ALL };
	struct fix f;

	fix_start(&f, false);
	fill(&f);
	hold(&f, 1);
	format_start(&f, 2);
	CHECK_EQ(ended(&f), TB_NVME_NONE);
	for (size_t i = 0; i < ARRAY_LEN(opcodes); i++)
		CHECK_EQ(io(&f, opcodes[i], 2, 0), BUSY);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), BUSY);
	CHECK_EQ(io(&f, 0x19, 2, 0), NVME_SC_INVALID_OPCODE | NVME_DNR);
	CHECK_EQ(format(&f, 2, 0), BUSY);
	CHECK_EQ(format(&f, 1, 0), BUSY);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 0), BUSY);
	CHECK_EQ(format(&f, 3, 0), INVALID_FIELD);
	CHECK_EQ(get_le64(identify(&f, 2)), MIB / 512);
	CHECK_EQ(first_byte(&f, 1), 0xa5);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, 4, 0), 0);
	tb_release_all(f.tb);
	CHECK_EQ(ended(&f), 0);
	tb_fault(f.tb, 1, NULL);
	CHECK_EQ(first_byte(&f, 2), 0);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), 0);
	/* of all: those whose turn is to come are busy too */
	hold(&f, 0);
	format_start(&f, NVME_NSID_ALL);
	CHECK_EQ(io(&f, NVME_CMD_READ, 1, 0), BUSY);
	CHECK_EQ(io(&f, NVME_CMD_READ, 4, 0), BUSY);
	CHECK_EQ(io(&f, NVME_CMD_READ, 3, 0), INVALID_FIELD);
	tb_release_all(f.tb);
	CHECK_EQ(ended(&f), 0);
	tb_fault(f.tb, 0, NULL);
	CHECK_EQ(first_byte(&f, 4), 0);
	fix_end(&f);
}

/* s5.23: commands in flight come first. */
static void commands_in_flight(void)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);
	struct nvme_cqe e;
	struct fix f;

	fix_start(&f, false);
	fill(&f);
	hold(&f, 0);
	tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	CHECK_EQ(format(&f, 1, 0), NVME_SC_SEQUENCE);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 0), NVME_SC_SEQUENCE);
	CHECK_EQ(format(&f, 2, 0), 0);
	tb_release_all(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 1, &e));
	tb_nvme_ack(&f.nv, 1);
	tb_fault(f.tb, 0, NULL);
	CHECK_EQ(first_byte(&f, 1), 0xa5);
	CHECK_EQ(first_byte(&f, 2), 0);
	/* fetched in the same turn, not yet at the disk */
	cmd.nsid = 4;
	tb_nvme_push(&f.nv, 1, &cmd);
	tb_nvme_ring(&f.nv, 1);
	format_start(&f, 4);
	CHECK_EQ(ended(&f), 0); /* the admin queue has its turn first */
	CHECK(tb_nvme_pop(&f.nv, 1, &e));
	CHECK_EQ(e.status >> 1, BUSY);
	tb_nvme_ack(&f.nv, 1);
	fix_end(&f);
}

static void failures(void)
{
	struct fix f;

	fix_start(&f, false);
	fill(&f);
	fault(&f, 1, BLK_WRITE_ZEROES, ENOSPC);
	CHECK_EQ(format(&f, 2, 1), NVME_SC_CAPACITY);
	CHECK_EQ(identify(&f, 2)[26], 0);
	CHECK_EQ(first_byte(&f, 2), 0xa5);
	fault(&f, 1, BLK_WRITE_ZEROES, EIO);
	CHECK_EQ(format(&f, NVME_NSID_ALL, 0), NVME_SC_WRITE_FAULT);
	CHECK_EQ(first_byte(&f, 1), 0);
	CHECK_EQ(first_byte(&f, 2), 0xa5);
	CHECK_EQ(first_byte(&f, 4), 0xa5);
	/* a flush that fails: the blocks keep their size, and nothing is written any more */
	fault(&f, 1, BLK_FLUSH, EIO);
	CHECK_EQ(format(&f, 2, 1), NVME_SC_WRITE_FAULT);
	CHECK_EQ(identify(&f, 2)[26], 0);
	CHECK_EQ(format(&f, 2, 0), NVME_SC_WRITE_FAULT);
	CHECK_EQ(format(&f, 4, 0), 0);
	fix_end(&f);
}

/* The controller, the function or the machine is reset meanwhile. */
static void resets(void)
{
	struct fix f;

	fix_start(&f, false);
	for (int how = 0; how < 3; how++) {
		fill(&f);
		hold(&f, 1);
		format_start(&f, NVME_NSID_ALL);
		if (how == 0) {
			CHECK(!tb_nvme_disable(&f.nv));
		} else if (how == 1) {
			tb_cfg_write(f.dev, tb_cap(f.dev, 0x10, 0) + 8, 2, 0x8000);
		} else {
			CHECK(!tb_pause(f.tb));
		}
		tb_release_all(f.tb);
		tb_fault(f.tb, 1, NULL);
		if (how == 2) {
			CHECK(tb_pause(f.tb));
			tb_resume(f.tb);
			tb_run(f.tb);
			CHECK_EQ(ended(&f), 0);
			hold(&f, 1);
			format_start(&f, 2);
			CHECK(!tb_reset(f.tb));
			tb_release_all(f.tb);
			tb_fault(f.tb, 1, NULL);
			CHECK(tb_reset(f.tb));
		}
		tb_nvme_start(&f.nv, f.dev, 64);
		CHECK_EQ(ended(&f), TB_NVME_NONE);
		CHECK_EQ(first_byte(&f, 2), 0);
		/* what had not had its turn was left alone */
		CHECK_EQ(first_byte(&f, 4), how == 2 ? 0 : 0xa5);
		CHECK_EQ(format(&f, 2, 0), 0);
	}
	fix_end(&f);
}

/* A pause comes between two steps; then the controller is disabled, or shut down and goes on. */
static void paused(void)
{
	struct fix f;

	fix_start(&f, false);
	for (int how = 0; how < 3; how++) {
		fill(&f);
		hold(&f, 1);
		format_start(&f, 2);
		CHECK(!tb_pause(f.tb));
		if (how == 2)
			tb_w32(f.dev, 0, NVME_REG_CC,
			       tb_r32(f.dev, 0, NVME_REG_CC) | 1 << NVME_CC_SHN_SHIFT);
		tb_release_all(f.tb);
		CHECK(tb_pause(f.tb));
		CHECK_EQ(stats(&f, 1).accepted, stats(&f, 1).completed);
		CHECK_EQ(ended(&f), TB_NVME_NONE);
		tb_fault(f.tb, 1, NULL);
		if (how == 0) {
			tb_w32(f.dev, 0, NVME_REG_CC, 0);
			CHECK_EQ(tb_nvme_csts(&f.nv), 0);
		}
		tb_resume(f.tb);
		tb_run(f.tb);
		CHECK_EQ(ended(&f), how == 0 ? TB_NVME_NONE : 0);
		if (how == 2) {
			CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
			CHECK_EQ(stats(&f, 2).flushes, 1);
		}
		CHECK(how == 0 || tb_nvme_disable(&f.nv));
		tb_nvme_start(&f.nv, f.dev, 64);
		CHECK_EQ(first_byte(&f, 2), 0);
	}
	fix_end(&f);
}

/* An image: one block size, and its space is given back unless the person wants to keep it. */
static void image(void)
{
	const uint64_t size = 200 * MIB; /* some steps */

	for (int keep = 0; keep < 2; keep++) {
		char path[] = "/tmp/khyve-test-XXXXXX", conf[128];
		int fd = mkstemp(path);
		struct stat st;
		struct fix f;

		CHECK(fd >= 0);
		CHECK_EQ(ftruncate(fd, (off_t)size), 0);
		CHECK_EQ(pwrite(fd, path, 4, (off_t)size - 4), 4);
		CHECK_EQ(pwrite(fd, path, 4, 64 * MIB), 4);
		snprintf(conf, sizeof(conf), "path=%s\n%s", path, keep ? "nodelete=true\n" : "");
		fix_open(&f, LOOP_EPOLL, conf, 64);
		unlink(path);
		CHECK_EQ(identify(&f, 1)[25], 0);
		CHECK_EQ(format(&f, 1, 1), INVALID_FORMAT);
		CHECK_EQ(format(&f, 1, SES(1)), 0);
		CHECK_EQ(stats(&f, 0).accepted, 4 + 1);
		CHECK_EQ(pread(fd, conf, 4, (off_t)size - 4), 4);
		CHECK_EQ(get_le32(conf), 0);
		CHECK_EQ(pread(fd, conf, 4, 64 * MIB), 4);
		CHECK_EQ(get_le32(conf), 0);
		CHECK_EQ(fstat(fd, &st), 0);
		CHECK_EQ(st.st_size, size);
		if (!keep)
			CHECK(st.st_blocks < 256);
		close(fd);
		fix_end(&f);
	}
}

static const struct test_case cases[] = {
	{ "one_namespace", one_namespace },
	{ "all_namespaces", all_namespaces },
	{ "refused", refused },
	{ "read_only", read_only },
	{ "block_size", block_size },
	{ "busy", busy },
	{ "commands_in_flight", commands_in_flight },
	{ "failures", failures },
	{ "resets", resets },
	{ "paused", paused },
	{ "image", image },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
