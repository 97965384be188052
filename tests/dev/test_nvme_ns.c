/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dev/test_nvme.h"
#include "util/bytes.h"

/* Several namespaces behind one controller: 1, 2 and 5, so that 3 and 4 are inactive and 6 is none. */

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)
#define INVALID_NS (NVME_SC_INVALID_NS | NVME_DNR)
#define THREE "ns.2.path=mem:1M\nns.2.sectorsize=4096\nns.5.path=mem:2M\n"

static void fix_start(struct fix *f, const char *conf)
{
	fix_open(f, LOOP_FAKE, conf, 64);
}

static uint16_t io(struct fix *f, uint8_t opcode, uint32_t nsid, uint64_t lba, gpa_t at)
{
	struct nvme_sqe cmd = tb_nvme_rw(opcode, lba, 1, at, 0);

	cmd.nsid = nsid;
	if (opcode == NVME_CMD_DSM)
		cmd.cdw10 = 0;
	return tb_nvme_do(&f->nv, 1, &cmd, NULL);
}

static struct blk_stats stats(struct fix *f, unsigned int disk)
{
	struct blk_stats s;

	blk_stats_get(tb_disk(f->tb, disk), &s);
	return s;
}

static void fault(struct fix *f, unsigned int disk, int op, int nth)
{
	const struct blk_fault b = { .fail_op = op, .fail_nth = nth, .fail_errno = EIO };

	tb_fault(f->tb, disk, &b);
}

static void hold(struct fix *f, unsigned int disk)
{
	const struct blk_fault b = { .fail_op = -1, .hold = true };

	tb_fault(f->tb, disk, &b);
}

/* The numbers of a list page, up to the first zero, one digit each. */
static const char *list(struct fix *f, uint8_t opcode, uint32_t nsid, uint32_t cdw10)
{
	const uint8_t *p = fix_page(f, opcode, nsid, cdw10);
	static char text[32];
	unsigned int i;

	for (i = 0; i < 31 && get_le32(p + 4 * i); i++)
		text[i] = (char)('0' + get_le32(p + 4 * i));
	text[i] = '\0';
	for (; i < 1024; i++)
		CHECK_EQ(get_le32(p + 4 * i), 0);
	return text;
}

static void identify(void)
{
	static const uint64_t sizes[] = { 8 * MIB / 512, 1 * MIB / 4096, 0, 0, 2 * MIB / 512 };
	uint64_t names[6] = { 0 };
	struct fix f;

	fix_start(&f, THREE "ns.5.eui64=0x1122334455667788\n");
	CHECK_EQ(get_le32(fix_page(&f, NVME_ADM_IDENTIFY, 0, 1) + 516), 5);
	for (uint32_t id = 1; id <= 5; id++) {
		const uint8_t *p = fix_page(&f, NVME_ADM_IDENTIFY, id, 0);

		CHECK_EQ(get_le64(p), sizes[id - 1]);
		CHECK_EQ(p[130], sizes[id - 1] ? id == 2 ? 12 : 9 : 0);
		names[id] = get_be64(p + 120);
		if (!sizes[id - 1]) {
			for (int i = 0; i < 4096; i++)
				CHECK_EQ(p[i], 0);
			CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, id, 3, 0), INVALID_FIELD);
			continue;
		}
		CHECK_EQ(get_be64(fix_page(&f, NVME_ADM_IDENTIFY, id, 3) + 4), names[id]);
	}
	CHECK_EQ(names[5], 0x1122334455667788);
	CHECK(names[1] != names[2] && names[1]);
	CHECK_STR(list(&f, NVME_ADM_IDENTIFY, 0, 2), "125");
	CHECK_STR(list(&f, NVME_ADM_IDENTIFY, 1, 2), "25");
	CHECK_STR(list(&f, NVME_ADM_IDENTIFY, 3, 2), "5");
	CHECK_STR(list(&f, NVME_ADM_IDENTIFY, 5, 2), "");
	CHECK_STR(list(&f, NVME_ADM_IDENTIFY, 0xfffffffd, 2), "");
	for (uint32_t cns = 0; cns < 4; cns += 3) {
		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 0, cns, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, 6, cns, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_IDENTIFY, NVME_NSID_ALL, cns, 0), INVALID_NS);
	}
	fix_end(&f);
}

/* Each command reaches the disk of its namespace, in that one's blocks, and no other. */
static void right_disk(void)
{
	static const uint32_t ids[] = { 1, 2, 5 };
	struct fix f;
	uint8_t *p;

	fix_start(&f, THREE);
	p = tb_mem(f.tb, 0x20000, 4096);
	for (unsigned int i = 0; i < 3; i++) {
		memset(p, (int)ids[i], 4096);
		CHECK_EQ(io(&f, NVME_CMD_WRITE, ids[i], 7, 0x20000), 0);
	}
	for (unsigned int i = 0; i < 3; i++) {
		CHECK_EQ(stats(&f, i).write_bytes, ids[i] == 2 ? 4096 : 512);
		memset(p, 0, 4096);
		CHECK_EQ(io(&f, NVME_CMD_READ, ids[i], 7, 0x20000), 0);
		CHECK_EQ(p[0], ids[i]);
		CHECK_EQ(p[ids[i] == 2 ? 4095 : 511], ids[i]);
		CHECK_EQ(io(&f, NVME_CMD_COMPARE, ids[i], 7, 0x20000), 0);
		CHECK_EQ(io(&f, NVME_CMD_WRITE_ZEROES, ids[i], 7, 0), 0);
		CHECK_EQ(io(&f, NVME_CMD_COMPARE, ids[i], 7, 0x20000), NVME_SC_COMPARE_FAILURE);
		CHECK_EQ(io(&f, NVME_CMD_VERIFY, ids[i], 7, 0), 0);
	}
	/* the end of each is its own */
	CHECK_EQ(io(&f, NVME_CMD_READ, 1, 8 * MIB / 512, 0x20000), NVME_SC_LBA_RANGE | NVME_DNR);
	CHECK_EQ(io(&f, NVME_CMD_READ, 2, 1 * MIB / 4096 - 1, 0x20000), 0);
	CHECK_EQ(io(&f, NVME_CMD_READ, 2, 1 * MIB / 4096, 0x20000), NVME_SC_LBA_RANGE | NVME_DNR);
	CHECK_EQ(io(&f, NVME_CMD_READ, 5, 2 * MIB / 512, 0x20000), NVME_SC_LBA_RANGE | NVME_DNR);
	fix_end(&f);
}

static void nv14_wrong_numbers(void)
{
	static const uint8_t opcodes[] = {
		NVME_CMD_FLUSH, NVME_CMD_WRITE,	  NVME_CMD_READ,   NVME_CMD_WRITE_ZEROES,
		NVME_CMD_DSM,	NVME_CMD_COMPARE, NVME_CMD_VERIFY,
	};
	static const struct {
		uint32_t nsid;
		uint16_t status;
	} wrong[] = { { 0, INVALID_NS },	  { 3, INVALID_FIELD },
		      { 4, INVALID_FIELD },	  { 6, INVALID_NS },
		      { 17, INVALID_NS },	  { 0x80000001, INVALID_NS },
		      { 0xfffffffe, INVALID_NS }, { NVME_NSID_ALL, INVALID_FIELD } };
	struct fix f;

	fix_start(&f, THREE);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		for (size_t k = wrong[i].nsid == NVME_NSID_ALL; /* Flush may */
		     k < ARRAY_LEN(opcodes); k++)
			CHECK_EQ(io(&f, opcodes[k], wrong[i].nsid, 0, 0x20000), wrong[i].status);
		CHECK_EQ(io(&f, 0x19, wrong[i].nsid, 0, 0x20000),
			 NVME_SC_INVALID_OPCODE | NVME_DNR);
		if (wrong[i].nsid && wrong[i].nsid != NVME_NSID_ALL)
			CHECK_EQ(fix_admin(&f, NVME_ADM_GET_LOG, wrong[i].nsid, NVME_LOG_SMART, 0),
				 wrong[i].status);
	}
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(stats(&f, i).accepted, 0);
	fix_end(&f);
}

/* Flush of all namespaces: each disk, one after the other; the first failure is told. */
static void flush_all(void)
{
	struct fix f;

	fix_start(&f, THREE);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, 2, 0, 0), 0);
	CHECK_EQ(stats(&f, 0).flushes, 0);
	CHECK_EQ(stats(&f, 1).flushes, 1);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, NVME_NSID_ALL, 0, 0), 0);
	CHECK_EQ(stats(&f, 0).flushes, 1);
	CHECK_EQ(stats(&f, 1).flushes, 2);
	CHECK_EQ(stats(&f, 2).flushes, 1);
	fault(&f, 1, BLK_FLUSH, 1);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, NVME_NSID_ALL, 0, 0), NVME_SC_WRITE_FAULT);
	/* that one takes no more writes, the others do */
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 2, 0, 0x20000), NVME_SC_WRITE_FAULT);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 1, 0, 0x20000), 0);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 5, 0, 0x20000), 0);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, 5, 0, 0), 0);
	/* and a reset of the machine forgets it */
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, NVME_NSID_ALL, 0, 0), 0);
	fix_end(&f);
}

/* Shutdown flushes all, also behind one that fails; a reset in the middle ends it. */
static void shutdown_flushes_all(void)
{
	struct fix f;

	fix_start(&f, THREE);
	fault(&f, 0, BLK_FLUSH, 1);
	hold(&f, 1);
	tb_w32(f.dev, 0, NVME_REG_CC, tb_r32(f.dev, 0, NVME_REG_CC) | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_BUSY);
	CHECK_EQ(stats(&f, 0).failed, 1);
	CHECK_EQ(stats(&f, 2).accepted, 0);
	tb_release_all(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	CHECK_EQ(stats(&f, 1).flushes, 1);
	CHECK_EQ(stats(&f, 2).flushes, 1);
	CHECK(tb_reset(f.tb));
	tb_nvme_start(&f.nv, f.dev, 64);
	hold(&f, 1);
	tb_w32(f.dev, 0, NVME_REG_CC, tb_r32(f.dev, 0, NVME_REG_CC) | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	tb_w32(f.dev, 0, NVME_REG_CC, 0);
	tb_release_all(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	CHECK_EQ(stats(&f, 2).flushes, 1);
	fix_end(&f);
}

static uint32_t feature(struct fix *f, uint32_t nsid, uint32_t id)
{
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, nsid, 0, id, 0);
	uint32_t value = 0xdead;

	CHECK_EQ(tb_nvme_do(&f->nv, 0, &get, &value), 0);
	return value;
}

/* s5.21: Error Recovery is a namespace's, the others are the controller's. */
static void features(void)
{
	static const uint8_t shared[] = { NVME_FEAT_ARBITRATION, NVME_FEAT_POWER,
					  NVME_FEAT_TEMPERATURE, NVME_FEAT_WRITE_CACHE,
					  NVME_FEAT_QUEUES,	 NVME_FEAT_COALESCING,
					  NVME_FEAT_VECTOR,	 NVME_FEAT_ATOMICITY,
					  NVME_FEAT_ASYNC_EVENT };
	const uint32_t er = NVME_FEAT_ERROR_RECOVERY;
	struct fix f;

	fix_start(&f, THREE);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 2, er, 22), 0);
	CHECK_EQ(feature(&f, 1, er), 0);
	CHECK_EQ(feature(&f, 2, er), 22);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, NVME_NSID_ALL, er, 33), 0);
	CHECK_EQ(feature(&f, 1, er), 33);
	CHECK_EQ(feature(&f, 5, er), 33);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, NVME_NSID_ALL, er, 0x10000), INVALID_FIELD);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, er, 1), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 3, er, 1), INVALID_FIELD);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 6, er, 1), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, NVME_NSID_ALL, er, 0), INVALID_FIELD);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 0, er, 0), INVALID_NS);
	CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 4, er, 0), INVALID_FIELD);
	for (size_t i = 0; i < ARRAY_LEN(shared); i++) {
		uint32_t id = shared[i];

		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 2, id, 0),
			 NVME_SC_FEATURE_NOT_NS | NVME_DNR);
		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 3, id, 0), INVALID_FIELD);
		CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 6, id, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 6, id, 0), INVALID_NS);
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, 2, id, 0), 0);
		CHECK_EQ(fix_admin(&f, NVME_ADM_GET_FEATURES, NVME_NSID_ALL, id, 0), 0);
	}
	CHECK(tb_nvme_disable(&f.nv));
	CHECK(tb_nvme_enable(&f.nv, 8, 8));
	CHECK_EQ(feature(&f, 5, er), 0);
	fix_end(&f);
}

/* The health log of one namespace, and of all of them. */
static void health(void)
{
	const uint32_t smart = NVME_LOG_SMART | 127 << 16;
	const uint8_t *p;
	struct fix f;

	fix_start(&f, THREE);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(io(&f, NVME_CMD_WRITE, 2, 0, 0x20000), 0);
	CHECK_EQ(io(&f, NVME_CMD_READ, 5, 0, 0x20000), 0);
	fault(&f, 2, BLK_FLUSH, 1);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, 5, 0, 0), NVME_SC_WRITE_FAULT);
	p = fix_page(&f, NVME_ADM_GET_LOG, 1, smart);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(get_le64(p + 64) + get_le64(p + 80) + get_le64(p + 160), 0);
	p = fix_page(&f, NVME_ADM_GET_LOG, 2, smart);
	CHECK_EQ(p[0], 0);
	CHECK_EQ(get_le64(p + 48), 1);
	CHECK_EQ(get_le64(p + 80), 3);
	p = fix_page(&f, NVME_ADM_GET_LOG, 5, smart);
	CHECK_EQ(p[0], 4);
	CHECK_EQ(get_le64(p + 64), 1);
	CHECK_EQ(get_le64(p + 160), 1);
	for (uint32_t all = 0; all <= 1; all++) {
		p = fix_page(&f, NVME_ADM_GET_LOG, all ? NVME_NSID_ALL : 0, smart);
		CHECK_EQ(p[0], 4);
		CHECK_EQ(get_le64(p + 64), 1);
		CHECK_EQ(get_le64(p + 80), 3);
		CHECK_EQ(get_le64(p + 160), 1);
	}
	fix_end(&f);
}

static void event_request(struct fix *f)
{
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_ASYNC_EVENT, 0, 0, 0, 0);

	tb_nvme_push(&f->nv, 0, &cmd);
	tb_nvme_ring(&f->nv, 0);
	tb_run(f->tb);
}

static bool notice(struct fix *f)
{
	struct nvme_cqe e;

	tb_run(f->tb);
	if (!tb_nvme_pop(&f->nv, 0, &e))
		return false;
	tb_nvme_ack(&f->nv, 0);
	CHECK_EQ(e.dw0, NVME_LOG_CHANGED_NS << 16 | 0 << 8 | 2);
	return true;
}

/* Images that grow: one notice until the list was read, which names all that have grown since. */
static void images_grow(void)
{
	const uint32_t changed = NVME_LOG_CHANGED_NS | 1023u << 16;
	char path[2][32], conf[256];
	struct err err;
	struct fix f;
	int fd[2];

	for (int i = 0; i < 2; i++) {
		snprintf(path[i], sizeof(path[i]), "/tmp/khyve-test-XXXXXX");
		fd[i] = mkstemp(path[i]);
		CHECK(fd[i] >= 0);
		CHECK_EQ(ftruncate(fd[i], MIB), 0);
	}
	snprintf(conf, sizeof(conf), "ns.2.path=%s\nns.3.path=%s\n", path[0], path[1]);
	fix_open(&f, LOOP_EPOLL, conf, 64);
	for (int i = 0; i < 2; i++)
		unlink(path[i]);
	CHECK_EQ(fix_admin(&f, NVME_ADM_SET_FEATURES, 0, NVME_FEAT_ASYNC_EVENT, 0x100), 0);
	event_request(&f);
	event_request(&f);
	CHECK_EQ(ftruncate(fd[1], 2 * MIB), 0);
	CHECK_EQ(dev_grow(f.dev, 2, &err), 0);
	CHECK(notice(&f));
	CHECK_EQ(ftruncate(fd[0], 3 * MIB), 0);
	CHECK_EQ(dev_grow(f.dev, 1, &err), 0);
	CHECK(!notice(&f));
	CHECK_STR(list(&f, NVME_ADM_GET_LOG, NVME_NSID_ALL, changed), "23");
	CHECK_STR(list(&f, NVME_ADM_GET_LOG, NVME_NSID_ALL, changed), "");
	CHECK_EQ(get_le64(fix_page(&f, NVME_ADM_IDENTIFY, 1, 0)), 8 * MIB / 512);
	CHECK_EQ(get_le64(fix_page(&f, NVME_ADM_IDENTIFY, 2, 0)), 3 * MIB / 512);
	CHECK_EQ(get_le64(fix_page(&f, NVME_ADM_IDENTIFY, 3, 0)), 2 * MIB / 512);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 3, 2 * MIB / 512 - 1, 0x20000), 0);
	/* memory does not, and there is no fourth disk */
	CHECK(dev_grow(f.dev, 0, &err) < 0);
	CHECK(dev_grow(f.dev, 3, &err) < 0);
	close(fd[0]);
	close(fd[1]);
	fix_end(&f);
}

/* One namespace is read-only, which is no reason not to offer the others what they can do. */
static void read_only_beside(void)
{
	const uint8_t *p;
	struct fix f;

	fix_start(&f, "ns.2.path=mem:1M\nns.2.ro=true\n");
	p = fix_page(&f, NVME_ADM_IDENTIFY, 0, 1);
	CHECK_EQ(get_le16(p + 520), BIT(0) | BIT(2) | BIT(3) | BIT(7));
	CHECK_EQ(fix_page(&f, NVME_ADM_IDENTIFY, 1, 0)[99], 0);
	CHECK_EQ(fix_page(&f, NVME_ADM_IDENTIFY, 2, 0)[99], 1);
	CHECK_EQ(io(&f, NVME_CMD_WRITE_ZEROES, 1, 0, 0), 0);
	CHECK_EQ(io(&f, NVME_CMD_WRITE_ZEROES, 2, 0, 0), NVME_SC_WRITE_PROTECTED | NVME_DNR);
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 2, 0, 0x20000), NVME_SC_WRITE_PROTECTED | NVME_DNR);
	CHECK_EQ(io(&f, NVME_CMD_READ, 2, 0, 0x20000), 0);
	CHECK_EQ(io(&f, NVME_CMD_FLUSH, 2, 0, 0), 0);
	fix_end(&f);
	/* deallocation is advice: a disk that has none of it does nothing */
	fix_start(&f, "ns.2.path=mem:1M\nns.2.nodelete=true\n");
	memset(tb_mem(f.tb, 0x20000, 4096), 0, 4096);
	put_le32(tb_mem(f.tb, 0x20004, 4), 1);
	struct nvme_sqe dsm = {
		.cdw0 = NVME_CMD_DSM, .nsid = 2, .prp1 = 0x20000, .cdw11 = NVME_DSM_AD
	};

	CHECK_EQ(tb_nvme_do(&f.nv, 1, &dsm, NULL), 0);
	CHECK_EQ(stats(&f, 1).failed, 1);
	fix_end(&f);
}

/* Commands of several namespaces in one turn, held by two disks, while the controller pauses and is reset. */
static void in_flight_on_several(void)
{
	static const uint32_t ids[] = { 1, 2, 5 };
	struct nvme_cqe e;
	struct fix f;
	int n = 0;

	fix_start(&f, THREE);
	hold(&f, 0);
	hold(&f, 2);
	for (int i = 0; i < 9; i++) {
		struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);

		cmd.nsid = ids[i % 3];
		tb_nvme_push(&f.nv, 1, &cmd);
	}
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	while (tb_nvme_pop(&f.nv, 1, &e))
		n++;
	CHECK_EQ(n, 3);
	CHECK(!tb_pause(f.tb));
	tb_fault(f.tb, 0, NULL);
	tb_run(f.tb);
	CHECK(!tb_pause(f.tb));
	tb_release_all(f.tb);
	CHECK(tb_pause(f.tb));
	while (tb_nvme_pop(&f.nv, 1, &e))
		n++;
	CHECK_EQ(n, 9);
	tb_resume(f.tb);
	tb_nvme_ack(&f.nv, 1);
	hold(&f, 1);
	for (int i = 0; i < 3; i++) {
		struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_FLUSH, 0, 1, 0, 0);

		cmd.nsid = NVME_NSID_ALL;
		tb_nvme_push(&f.nv, 1, &cmd);
	}
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	CHECK(!tb_nvme_disable(&f.nv));
	tb_release_all(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	CHECK_EQ(stats(&f, 2).flushes, 0);
	fix_end(&f);
}

static void bad_settings(void)
{
	static const struct {
		const char *conf, *text;
	} cases[] = {
		{ "ns.0.path=mem:1M\n", "namespace 1 is the disk of path" },
		{ "ns.1.path=mem:1M\n", "ns.1: namespace 1 is the disk of path" },
		{ "ns.1.ro=true\n", "number further ones from 2" },
		{ "ns.17.path=mem:1M\n", "ns.17" },
		{ "ns.x.path=mem:1M\n", "ns.x" },
		{ "ns.2.ro=true\n", "set ns.2.path" },
		{ "ns.2.eui64=5\n", "set ns.2.path" },
		{ "ns.2.ser=X\n", "ns.2.ser" },
		{ "ns.2.path=/nonexistent/image\n", "/nonexistent/image" },
		{ "ns.2.path=mem:1M\nns.2.sectorsize=100\n", "sectorsize" },
		{ "eui64=7\nns.2.path=mem:1M\nns.2.eui64=7\n",
		  "namespace 2 has the eui64 of namespace 1" },
		{ "ns.3.path=mem:1M\nns.3.eui64=9\nns.9.path=mem:1M\nns.9.eui64=9\n",
		  "namespace 9 has the eui64 of namespace 3" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tb *tb = tb_new(NULL);
		struct err err = { .text = "" };

		CHECK(!tb_add(tb, hw_find("nvme"), cases[i].conf, &err));
		if (!strstr(err.text, cases[i].text))
			CHECK_FAIL("%s: \"%s\" does not say \"%s\"", cases[i].conf, err.text,
				   cases[i].text);
		tb_free(tb);
	}
}

/* As many as there can be. */
static void sixteen(void)
{
	char conf[1024] = "";
	size_t at = 0;
	struct fix f;

	for (int id = 2; id <= 16; id++)
		at += (size_t)snprintf(conf + at, sizeof(conf) - at, "ns.%d.path=mem:%dK\n", id,
				       id * 4);
	fix_start(&f, conf);
	CHECK_EQ(get_le32(fix_page(&f, NVME_ADM_IDENTIFY, 0, 1) + 516), 16);
	for (uint32_t id = 2; id <= 16; id++) {
		CHECK_EQ(get_le64(fix_page(&f, NVME_ADM_IDENTIFY, id, 0)), id * 8);
		CHECK_EQ(io(&f, NVME_CMD_WRITE, id, id * 8 - 1, 0x20000), 0);
		CHECK_EQ(stats(&f, id - 1).write_bytes, 512);
	}
	CHECK_EQ(io(&f, NVME_CMD_WRITE, 17, 0, 0x20000), INVALID_NS);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "identify", identify },
	{ "right_disk", right_disk },
	{ "nv14_wrong_numbers", nv14_wrong_numbers },
	{ "flush_all", flush_all },
	{ "shutdown_flushes_all", shutdown_flushes_all },
	{ "features", features },
	{ "health", health },
	{ "images_grow", images_grow },
	{ "read_only_beside", read_only_beside },
	{ "in_flight_on_several", in_flight_on_several },
	{ "bad_settings", bad_settings },
	{ "sixteen", sixteen },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
