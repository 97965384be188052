/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_nvme.h"
#include "hw/table.h"
#include "run.h"
#include "util/err.h"

/* Registers and queues of the NVMe controller; see also test_nvme_admin.c and test_nvme_io.c. */

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)
#define INVALID_OPCODE (NVME_SC_INVALID_OPCODE | NVME_DNR)
#define CC_GOOD (NVME_CC_EN | NVME_SQES << NVME_CC_IOSQES_SHIFT | NVME_CQES << NVME_CC_IOCQES_SHIFT)

struct fix {
	struct tb *tb;
	struct dev *dev;
	struct tb_nvme nv;
};

/* A controller that is not yet enabled. */
static void fix_make(struct fix *f, const char *conf)
{
	struct err err = { .text = "" };

	f->tb = tb_new(NULL);
	f->dev = tb_add(f->tb, hw_find("nvme"), conf, &err);
	if (!f->dev)
		CHECK_FAIL("%s", err.text);
	tb_nvme_init(&f->nv, f->dev, true);
}

/* One that runs, with an I/O queue pair of 64. */
static void fix_start(struct fix *f, const char *conf)
{
	fix_make(f, conf);
	tb_nvme_start(&f->nv, f->dev, 64);
}

static void fix_end(struct fix *f)
{
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static uint16_t admin(struct fix *f, uint8_t opcode, uint32_t cdw10, uint32_t cdw11)
{
	struct nvme_sqe cmd = tb_nvme_admin(opcode, 0, 0x10000, cdw10, cdw11);

	return tb_nvme_do(&f->nv, 0, &cmd, NULL);
}

static void reset_values(void)
{
	struct fix f;

	fix_make(&f, NULL);
	CHECK_EQ(tb_cfg_read(f.dev, 8, 4) >> 8, 0x010802);
	CHECK_EQ(tb_bar_size(f.dev, 0), NVME_BAR_SIZE);
	/* MQES 2047, CQR, TO 30 s, NVM command set, 4 KiB pages */
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_CAP), 0x000000203c0107ffull);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_VS), 0x00010400);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_CC), 0);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_INTMS), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_AQA), 0);
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_ASQ), 0);
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_ACQ), 0);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_DOORBELLS), 0);
	fix_end(&f);
}

/* The halves of ASQ and ACQ may be written apart; reserved bits stay zero. */
static void register_writes(void)
{
	struct fix f;

	fix_make(&f, "qsz=64\n");
	CHECK_EQ(tb_r16(f.dev, 0, NVME_REG_CAP), 63);
	tb_w32(f.dev, 0, NVME_REG_ASQ, 0x12345fff);
	tb_w32(f.dev, 0, NVME_REG_ASQ + 4, 0x1);
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_ASQ), 0x112345000ull);
	tb_w64(f.dev, 0, NVME_REG_ACQ, UINT64_MAX);
	CHECK_EQ(tb_r64(f.dev, 0, NVME_REG_ACQ), ~0xfffull);
	tb_w32(f.dev, 0, NVME_REG_AQA, UINT32_MAX);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_AQA), 0x0fff0fff);
	tb_w32(f.dev, 0, NVME_REG_INTMS, 5);
	tb_w32(f.dev, 0, NVME_REG_INTMC, 1);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_INTMC), 4);
	fix_end(&f);
}

static void nv01_enable_refused(void)
{
	static const struct {
		uint32_t cc, aqa;
		uint64_t asq, acq;
	} cases[] = {
		{ CC_GOOD, 0, 0x100000, 0x101000 },
		{ CC_GOOD, 0x001f0000, 0x100000, 0x101000 },
		{ CC_GOOD, 0x0000001f, 0x100000, 0x101000 },
		{ CC_GOOD, 0x001f001f, 0x40000000, 0x101000 },
		{ CC_GOOD, 0x001f001f, 0x100000, TB_MMIO },
		{ CC_GOOD, 0x001f001f, 0xfffffffffffff000, 0x101000 },
		{ CC_GOOD, 0x0fff001f, 0x100000, TB_RAM - 0x1000 },
		{ CC_GOOD | 1 << NVME_CC_MPS_SHIFT, 0x001f001f, 0x100000, 0x101000 },
		{ CC_GOOD | 1 << NVME_CC_CSS_SHIFT, 0x001f001f, 0x100000, 0x101000 },
		{ CC_GOOD | 1 << NVME_CC_AMS_SHIFT, 0x001f001f, 0x100000, 0x101000 },
		{ CC_GOOD ^ 1 << NVME_CC_IOSQES_SHIFT, 0x001f001f, 0x100000, 0x101000 },
		{ CC_GOOD ^ 1 << NVME_CC_IOCQES_SHIFT, 0x001f001f, 0x100000, 0x101000 },
	};
	struct fix f;

	fix_make(&f, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		tb_w32(f.dev, 0, NVME_REG_AQA, cases[i].aqa);
		tb_w64(f.dev, 0, NVME_REG_ASQ, cases[i].asq);
		tb_w64(f.dev, 0, NVME_REG_ACQ, cases[i].acq);
		tb_w32(f.dev, 0, NVME_REG_CC, cases[i].cc);
		tb_run(f.tb);
		CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_CFS);
		tb_nvme_bell(&f.nv, 0, false, 1);
		tb_run(f.tb);
		CHECK(tb_nvme_disable(&f.nv));
	}
	tb_bus_master(f.dev, false);
	CHECK(!tb_nvme_enable(&f.nv, 32, 32));
	CHECK(tb_nvme_disable(&f.nv));
	tb_bus_master(f.dev, true);
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	fix_end(&f);
}

/* --- asynchronous events --- */

/* Runs; true with dw0 if an async event request was answered. */
static bool event_came(struct fix *f, uint32_t *dw0)
{
	struct nvme_cqe e;

	tb_run(f->tb);
	if (!tb_nvme_pop(&f->nv, 0, &e))
		return false;
	tb_nvme_ack(&f->nv, 0);
	CHECK_EQ(e.status >> 1, 0);
	*dw0 = e.dw0;
	return true;
}

static void event_request(struct fix *f)
{
	struct nvme_sqe cmd = { .cdw0 = NVME_ADM_ASYNC_EVENT };

	tb_nvme_push(&f->nv, 0, &cmd);
	tb_nvme_ring(&f->nv, 0);
	tb_run(f->tb);
}

/* Reading it lets the next event through. */
static void read_error_log(struct fix *f)
{
	CHECK_EQ(admin(f, NVME_ADM_GET_LOG, NVME_LOG_ERROR | 63 << 16, 0), 0);
}

static void nv02_doorbells_ignored(void)
{
	uint32_t dw0;
	struct fix f;

	fix_make(&f, NULL);
	/* before ready */
	for (unsigned int q = 0; q < 64; q++) {
		tb_nvme_bell(&f.nv, q, false, 1);
		tb_nvme_bell(&f.nv, q, true, 1);
	}
	tb_run(f.tb);
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	event_request(&f);
	CHECK(!event_came(&f, &dw0));
	/* queues that do not exist, up to the end of the BAR */
	for (uint64_t at = NVME_DOORBELLS + 8; at < NVME_BAR_SIZE; at += 4)
		tb_w32(f.dev, 0, at, 1);
	CHECK(event_came(&f, &dw0));
	CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_REGISTER << 8);
	/* no second event until the log was read */
	event_request(&f);
	tb_nvme_bell(&f.nv, 5, false, 1);
	CHECK(!event_came(&f, &dw0));
	tb_nvme_pair(&f.nv, 1, 16, 1);
	tb_nvme_bell(&f.nv, 5, false, 1);
	fix_end(&f);
}

static void nv02_doorbells_of_the_gone(void)
{
	uint32_t dw0;
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(admin(&f, NVME_ADM_DELETE_SQ, 1, 0), 0);
	event_request(&f);
	tb_nvme_bell(&f.nv, 1, false, 1);
	CHECK(event_came(&f, &dw0));
	CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_REGISTER << 8);
	read_error_log(&f);
	/* after shutdown */
	event_request(&f);
	tb_w32(f.dev, 0, NVME_REG_CC, CC_GOOD | 1 << NVME_CC_SHN_SHIFT);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY | NVME_CSTS_SHST_DONE);
	tb_nvme_bell(&f.nv, 9, false, 1);
	CHECK(!event_came(&f, &dw0));
	fix_end(&f);
}

/* Bus master off: the error stays noted, nobody is woken for it, and it is told of when that can be. */
static void nv02_doorbells_without_bus_master(void)
{
	uint32_t dw0;
	struct fix f;

	fix_start(&f, NULL);
	event_request(&f);
	tb_bus_master(f.dev, false);
	tb_nvme_bell(&f.nv, 9, false, 1);
	CHECK(!event_came(&f, &dw0));
	CHECK_EQ(tb_run(f.tb), 0);
	tb_bus_master(f.dev, true);
	CHECK(event_came(&f, &dw0));
	CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_REGISTER << 8);
	fix_end(&f);
}

static void nv03_bad_doorbell_values(void)
{
	static const struct {
		bool completion;
		uint32_t value;
	} cases[] = {
		{ false, 64 }, { false, 0x10000 }, { false, UINT32_MAX },
		{ true, 64 },  { true, 1u << 31 },
	};
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	uint32_t dw0;
	struct fix f;

	fix_start(&f, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		event_request(&f);
		tb_nvme_bell(&f.nv, 1, cases[i].completion, cases[i].value);
		CHECK(event_came(&f, &dw0));
		CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_VALUE << 8);
		read_error_log(&f);
		CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), 0);
	}
	/* writes that are not a whole doorbell */
	event_request(&f);
	tb_w16(f.dev, 0, NVME_DOORBELLS + 8, 99);
	tb_w8(f.dev, 0, NVME_DOORBELLS + 9, 99);
	tb_w64(f.dev, 0, NVME_DOORBELLS + 8, UINT64_MAX);
	tb_w32(f.dev, 0, NVME_DOORBELLS + 10, 99);
	CHECK(!event_came(&f, &dw0));
	fix_end(&f);
}

/* I/O queue 1 with 4 completion and 64 submission entries. */
static void short_completion_queue(struct fix *f)
{
	struct nvme_sqe create;

	fix_make(f, NULL);
	CHECK(tb_nvme_enable(&f->nv, 32, 32));
	CHECK_EQ(tb_nvme_pair(&f->nv, 1, 4, 1), 0);
	CHECK_EQ(admin(f, NVME_ADM_DELETE_SQ, 1, 0), 0);
	f->nv.q[1].sq = tb_alloc(f->tb, 64 * sizeof(create), NVME_PAGE);
	f->nv.q[1].sq_size = 64;
	f->nv.q[1].tail = 0;
	create = tb_nvme_admin(NVME_ADM_CREATE_SQ, 0, f->nv.q[1].sq, 63 << 16 | 1, 1 << 16 | 1);
	CHECK_EQ(tb_nvme_do(&f->nv, 0, &create, NULL), 0);
}

/* A tail that takes back entries which wait for room in the completion queue. */
static void nv03_tail_backwards(void)
{
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	struct nvme_cqe e;
	uint32_t dw0;
	unsigned int n = 0;
	struct fix f;

	short_completion_queue(&f);
	for (int i = 0; i < 10; i++)
		tb_nvme_push(&f.nv, 1, &flush);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	event_request(&f);
	tb_nvme_bell(&f.nv, 1, false, 5);
	while (tb_nvme_pop(&f.nv, 1, &e)) {
		n++;
		tb_nvme_ack(&f.nv, 1);
		tb_run(f.tb);
	}
	CHECK_EQ(n, 10);
	CHECK(event_came(&f, &dw0));
	CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_VALUE << 8);
	fix_end(&f);
}

/* A full completion queue: commands wait, and nothing is overwritten. */
static void nv18_completion_queue_full(void)
{
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	struct nvme_cqe e;
	struct fix f;

	short_completion_queue(&f);
	for (int i = 0; i < 63; i++)
		tb_nvme_push(&f.nv, 1, &flush);
	tb_nvme_ring(&f.nv, 1);
	tb_run(f.tb);
	for (uint16_t i = 0; i < 3; i++)
		CHECK(tb_nvme_pop(&f.nv, 1, &e));
	CHECK(!tb_nvme_pop(&f.nv, 1, &e));
	CHECK_EQ(tb_irqs(f.dev, 1), 1);
	/* one entry taken: one more comes */
	tb_nvme_bell(&f.nv, 1, true, 1);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 1, &e));
	CHECK(!tb_nvme_pop(&f.nv, 1, &e));
	tb_nvme_ack(&f.nv, 1);
	tb_run(f.tb);
	for (int i = 4; i < 63; i++) {
		CHECK(tb_nvme_pop(&f.nv, 1, &e));
		tb_nvme_ack(&f.nv, 1);
		tb_run(f.tb);
	}
	CHECK(!tb_nvme_pop(&f.nv, 1, &e));
	fix_end(&f);
}

/* A head that takes more than was posted is refused. */
static void nv18_head_beyond_tail(void)
{
	struct nvme_sqe flush = { .cdw0 = NVME_CMD_FLUSH, .nsid = 1 };
	uint32_t dw0;
	struct fix f;

	fix_start(&f, NULL);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), 0);
	event_request(&f);
	tb_nvme_bell(&f.nv, 1, true, 40);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &flush, NULL), 0);
	CHECK(event_came(&f, &dw0));
	CHECK_EQ(dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_VALUE << 8);
	fix_end(&f);
}

static void nv05_queue_errors(void)
{
	enum { CQ = NVME_ADM_CREATE_CQ, SQ = NVME_ADM_CREATE_SQ };
	static const struct {
		uint8_t opcode;
		uint32_t cdw10, cdw11;
		uint64_t prp1;
		uint16_t status;
	} cases[] = {
		{ CQ, 63 << 16 | 0, 3, 0x200000, NVME_SC_QUEUE_ID },
		{ CQ, 63 << 16 | 17, 3, 0x200000, NVME_SC_QUEUE_ID },
		{ CQ, 63 << 16 | 0xffff, 3, 0x200000, NVME_SC_QUEUE_ID },
		{ CQ, 63 << 16 | 1, 3, 0x200000, NVME_SC_QUEUE_ID }, /* exists */
		{ CQ, 0 << 16 | 2, 3, 0x200000, NVME_SC_QUEUE_SIZE },
		{ CQ, 2048u << 16 | 2, 3, 0x200000, NVME_SC_QUEUE_SIZE },
		{ CQ, 0xffffu << 16 | 2, 3, 0x200000, NVME_SC_QUEUE_SIZE },
		{ CQ, 63 << 16 | 2, 2, 0x200000, NVME_SC_INVALID_FIELD },
		{ CQ, 63 << 16 | 2, 17 << 16 | 3, 0x200000, NVME_SC_VECTOR },
		{ CQ, 63 << 16 | 2, 0xffffu << 16 | 3, 0x200000, NVME_SC_VECTOR },
		{ CQ, 63 << 16 | 2, 3, 0x200010, NVME_SC_PRP_OFFSET },
		{ CQ, 63 << 16 | 2, 3, TB_MMIO, NVME_SC_DATA_TRANSFER },
		{ CQ, 2047 << 16 | 2, 3, TB_RAM - NVME_PAGE, NVME_SC_DATA_TRANSFER },
		{ SQ, 63 << 16 | 0, 1 << 16 | 1, 0x200000, NVME_SC_QUEUE_ID },
		{ SQ, 63 << 16 | 17, 1 << 16 | 1, 0x200000, NVME_SC_QUEUE_ID },
		{ SQ, 63 << 16 | 1, 1 << 16 | 1, 0x200000, NVME_SC_QUEUE_ID }, /* exists */
		{ SQ, 63 << 16 | 2, 0 << 16 | 1, 0x200000, NVME_SC_QUEUE_ID },
		{ SQ, 63 << 16 | 2, 17 << 16 | 1, 0x200000, NVME_SC_QUEUE_ID },
		{ SQ, 63 << 16 | 2, 3 << 16 | 1, 0x200000, NVME_SC_CQ_INVALID },
		{ SQ, 0 << 16 | 2, 1 << 16 | 1, 0x200000, NVME_SC_QUEUE_SIZE },
		{ SQ, 2048u << 16 | 2, 1 << 16 | 1, 0x200000, NVME_SC_QUEUE_SIZE },
		{ SQ, 63 << 16 | 2, 1 << 16 | 0, 0x200000, NVME_SC_INVALID_FIELD },
		{ SQ, 63 << 16 | 2, 1 << 16 | 1, 0x200800, NVME_SC_PRP_OFFSET },
		{ SQ, 63 << 16 | 2, 1 << 16 | 1, 0, 0 },
		{ SQ, 63 << 16 | 3, 1 << 16 | 1, UINT64_MAX << 12, NVME_SC_DATA_TRANSFER },
		{ NVME_ADM_DELETE_CQ, 0, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_CQ, 5, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_CQ, 0xffff, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_CQ, 1, 0, 0, NVME_SC_QUEUE_DELETION },
		{ NVME_ADM_DELETE_SQ, 0, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_SQ, 5, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_SQ, 64, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_SQ, 0xffff, 0, 0, NVME_SC_QUEUE_ID },
		{ NVME_ADM_DELETE_SQ, 1, 0, 0, 0 },
		{ NVME_ADM_DELETE_SQ, 1, 0, 0, NVME_SC_QUEUE_ID }, /* twice */
		{ NVME_ADM_DELETE_SQ, 2, 0, 0, 0 },
		{ NVME_ADM_DELETE_CQ, 1, 0, 0, 0 },
		{ NVME_ADM_DELETE_CQ, 1, 0, 0, NVME_SC_QUEUE_ID }, /* twice */
	};
	struct fix f;

	fix_start(&f, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct nvme_sqe cmd = tb_nvme_admin(cases[i].opcode, 0, cases[i].prp1,
						    cases[i].cdw10, cases[i].cdw11);
		uint16_t want = cases[i].status, got = tb_nvme_do(&f.nv, 0, &cmd, NULL);

		if (got != (want ? want | NVME_DNR : 0))
			CHECK_FAIL("case %zu: status %x, not %x", i, got, want);
	}
	/* and all of it again */
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 2048, 1), 0);
	CHECK_EQ(tb_nvme_pair(&f.nv, 16, 2, 16), 0);
	fix_end(&f);
}

static uint16_t create(struct fix *f, uint8_t opcode, unsigned int id, uint32_t entries,
		       uint32_t cdw11)
{
	struct nvme_sqe cmd =
		tb_nvme_admin(opcode, 0, 0x400000, (entries - 1) << 16 | id, cdw11 << 16 | 3);

	return tb_nvme_do(&f->nv, 0, &cmd, NULL);
}

/* As many queues as there can be, each with a vector of its own, and none more. */
static void nv05_all_queues(void)
{
	const unsigned int last = TB_NVME_QUEUES - 1;
	struct nvme_sqe read = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);
	struct fix f;
	uint32_t dw0;
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, 0, 0, NVME_FEAT_QUEUES, 0);

	fix_make(&f, "maxq=63\nqsz=4096\n");
	CHECK(tb_nvme_enable(&f.nv, 256, 256));
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &get, &dw0), 0);
	CHECK_EQ(dw0, (last - 1) << 16 | (last - 1));
	for (unsigned int id = last + 1; id <= last + 2; id++) {
		CHECK_EQ(create(&f, NVME_ADM_CREATE_CQ, id, 16, 1), NVME_SC_QUEUE_ID | NVME_DNR);
		CHECK_EQ(create(&f, NVME_ADM_CREATE_SQ, id, 16, 1), NVME_SC_QUEUE_ID | NVME_DNR);
		CHECK_EQ(admin(&f, NVME_ADM_DELETE_SQ, id, 0), NVME_SC_QUEUE_ID | NVME_DNR);
		CHECK_EQ(admin(&f, NVME_ADM_DELETE_CQ, id, 0), NVME_SC_QUEUE_ID | NVME_DNR);
	}
	CHECK_EQ(create(&f, NVME_ADM_CREATE_CQ, last, 16, last + 1), NVME_SC_VECTOR | NVME_DNR);
	CHECK_EQ(create(&f, NVME_ADM_CREATE_CQ, last, 4097, 1), NVME_SC_QUEUE_SIZE | NVME_DNR);
	CHECK_EQ(create(&f, NVME_ADM_CREATE_CQ, last, 4096, last), 0);
	CHECK_EQ(create(&f, NVME_ADM_CREATE_SQ, last, 4097, last), NVME_SC_QUEUE_SIZE | NVME_DNR);
	CHECK_EQ(create(&f, NVME_ADM_CREATE_SQ, last, 4096, last), 0);
	CHECK_EQ(admin(&f, NVME_ADM_DELETE_SQ, last, 0), 0);
	CHECK_EQ(admin(&f, NVME_ADM_DELETE_CQ, last, 0), 0);
	for (unsigned int id = 1; id <= last; id++)
		CHECK_EQ(tb_nvme_pair(&f.nv, id, 16, (uint16_t)(last + 1 - id)), 0);
	for (unsigned int id = 1; id <= last; id++) {
		CHECK_EQ(tb_nvme_do(&f.nv, id, &read, NULL), 0);
		for (unsigned int v = 1; v <= last; v++)
			CHECK_EQ(tb_irqs(f.dev, v), v == last + 1 - id);
	}
	fix_end(&f);
}

/* All of them are deleted while their commands are with the disk: each waits for its own. */
static void delete_all_queues(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct nvme_sqe read = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0), del;
	const unsigned int last = TB_NVME_QUEUES - 1;
	struct nvme_cqe e;
	struct fix f;

	f.tb = tb_new(&opts);
	f.dev = tb_add(f.tb, hw_find("nvme"), "maxq=63\n", NULL);
	CHECK(f.dev);
	tb_nvme_init(&f.nv, f.dev, true);
	CHECK(tb_nvme_enable(&f.nv, 256, 256));
	for (unsigned int id = 1; id <= last; id++)
		CHECK_EQ(tb_nvme_pair(&f.nv, id, 8, 5), 0);
	tb_fault(f.tb, 0, &hold);
	for (unsigned int id = 1; id <= last; id++) {
		for (int i = 0; i < 3; i++)
			tb_nvme_push(&f.nv, id, &read);
		tb_nvme_ring(&f.nv, id);
	}
	tb_run(f.tb);
	for (unsigned int id = 1; id <= last; id++) {
		del = tb_nvme_admin(NVME_ADM_DELETE_SQ, 0, 0, id, 0);
		tb_nvme_push(&f.nv, 0, &del);
	}
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	for (unsigned int id = 1; id <= last; id++)
		CHECK_EQ(admin(&f, NVME_ADM_DELETE_CQ, id, 0), NVME_SC_QUEUE_DELETION | NVME_DNR);
	/* the oldest three are those of queue 1 */
	blk_fault_release(tb_disk(f.tb, 0), 0, 3);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.status >> 1, 0);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	tb_release_all(f.tb);
	for (unsigned int id = 2; id <= last; id++) {
		CHECK(tb_nvme_pop(&f.nv, 0, &e));
		CHECK_EQ(e.status >> 1, 0);
	}
	tb_nvme_ack(&f.nv, 0);
	for (unsigned int id = 1; id <= last; id++) {
		for (int i = 0; i < 3; i++)
			CHECK(tb_nvme_pop(&f.nv, id, &e));
		CHECK_EQ(admin(&f, NVME_ADM_DELETE_CQ, id, 0), 0);
	}
	fix_end(&f);
}

static void nv10_limits(void)
{
	struct nvme_sqe aer = { .cdw0 = NVME_ADM_ASYNC_EVENT };
	struct fix f;

	fix_make(&f, NULL);
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	for (int i = 0; i < NVME_AER_MAX; i++)
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &aer, NULL), TB_NVME_NONE);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &aer, NULL), NVME_SC_AER_LIMIT | NVME_DNR);
	CHECK_EQ(admin(&f, NVME_ADM_SET_FEATURES, NVME_FEAT_QUEUES, 0xffff), INVALID_FIELD);
	CHECK_EQ(admin(&f, NVME_ADM_SET_FEATURES, NVME_FEAT_QUEUES, 0xffff0000), INVALID_FIELD);
	CHECK_EQ(admin(&f, NVME_ADM_SET_FEATURES, NVME_FEAT_QUEUES, 0), 0);
	CHECK_EQ(tb_nvme_pair(&f.nv, 1, 16, 1), 0);
	CHECK_EQ(admin(&f, NVME_ADM_SET_FEATURES, NVME_FEAT_QUEUES, 0),
		 NVME_SC_SEQUENCE | NVME_DNR);
	fix_end(&f);
}

/* Events wait for room in the admin completion queue; a reset forgets the requests for them. */
static void events_wait_for_room(void)
{
	struct nvme_sqe aer = { .cdw0 = NVME_ADM_ASYNC_EVENT };
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, 0, 0, NVME_FEAT_QUEUES, 0);
	struct nvme_cqe e;
	struct fix f;

	fix_make(&f, NULL);
	CHECK(tb_nvme_enable(&f.nv, 32, 2));
	tb_nvme_push(&f.nv, 0, &aer);
	tb_nvme_push(&f.nv, 0, &get);
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	tb_nvme_bell(&f.nv, 9, false, 1);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.cid, 1);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	tb_nvme_ack(&f.nv, 0);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.cid, 0);
	tb_nvme_ack(&f.nv, 0);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &aer, NULL), TB_NVME_NONE);
	CHECK(tb_nvme_disable(&f.nv));
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	for (int i = 0; i < NVME_AER_MAX; i++)
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &aer, NULL), TB_NVME_NONE);
	fix_end(&f);
}

static void nv11_cid_conflict_and_abort(void)
{
	struct nvme_sqe aer = { .cdw0 = NVME_ADM_ASYNC_EVENT | 7u << 16 };
	struct nvme_sqe get = tb_nvme_admin(NVME_ADM_GET_FEATURES, 0, 0, NVME_FEAT_QUEUES, 0);
	struct nvme_sqe abort = tb_nvme_admin(NVME_ADM_ABORT, 0, 0, 7u << 16, 0);
	struct nvme_cqe e;
	uint32_t dw0 = 0;
	struct fix f;

	get.cdw0 |= 7u << 16;
	fix_make(&f, NULL);
	CHECK(tb_nvme_enable(&f.nv, 32, 32));
	f.nv.next_cid = 100;
	tb_nvme_push_as(&f.nv, 0, &aer);
	tb_nvme_push_as(&f.nv, 0, &get);
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.status >> 1, NVME_SC_CID_CONFLICT | NVME_DNR);
	CHECK(!tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &abort, &dw0), 0);
	CHECK_EQ(dw0, 1);
	/* an unknown one, and its own */
	abort.cdw10 = 0xffffffff;
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &abort, &dw0), 0);
	CHECK_EQ(dw0, 1);
	abort.cdw10 = (uint32_t)f.nv.next_cid << 16;
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &abort, &dw0), 0);
	CHECK_EQ(dw0, 1);
	fix_end(&f);
}

static void nv13_opcodes(void)
{
	struct fix f;

	fix_start(&f, NULL);
	for (unsigned int op = 0; op < 256; op++) {
		struct nvme_sqe cmd = { .cdw0 = op, .nsid = 1 };
		bool io = op <= NVME_CMD_READ || op == NVME_CMD_COMPARE ||
			  op == NVME_CMD_WRITE_ZEROES || op == NVME_CMD_DSM ||
			  op == NVME_CMD_VERIFY;
		bool adm = op <= 2 || (op >= 4 && op <= 6) || (op >= 8 && op <= 10) || op == 12 ||
			   op == NVME_ADM_DBBUF || op == NVME_ADM_FORMAT;

		if (!io)
			CHECK_EQ(tb_nvme_do(&f.nv, 1, &cmd, NULL), INVALID_OPCODE);
		if (!adm)
			CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), INVALID_OPCODE);
	}
	fix_end(&f);
}

/* Every offset and width of both BARs; registers that are read-only stay. */
static void nv19_bar_widths(void)
{
	struct fix f;

	fix_start(&f, NULL);
	for (uint64_t at = 0; at < 0x40; at++) {
		for (unsigned int size = 1; size <= 4; size *= 2)
			CHECK_EQ(tb_read(f.tb, tb_bar(f.dev, 0) + at, size) >> (8 * size), 0);
		tb_read(f.tb, tb_bar(f.dev, 0) + at, 8);
	}
	CHECK_EQ(tb_r8(f.dev, 0, NVME_REG_VS + 2), 1);
	for (uint64_t at = 0x40; at < NVME_BAR_SIZE - 8; at++)
		for (unsigned int size = 1; size <= 8; size *= 2)
			CHECK_EQ(tb_read(f.tb, tb_bar(f.dev, 0) + at, size), 0);
	for (uint64_t at = 0; at < tb_bar_size(f.dev, 4); at++)
		for (unsigned int size = 1; size <= 8; size *= 2)
			tb_read(f.tb, tb_bar(f.dev, 4) + at, size);
	for (uint64_t at = 0; at < 8; at++)
		tb_w8(f.dev, 0, NVME_REG_CAP + at, 0xff);
	tb_w64(f.dev, 0, NVME_REG_CAP, UINT64_MAX);
	tb_w32(f.dev, 0, NVME_REG_CSTS, UINT32_MAX);
	tb_w64(f.dev, 0, NVME_DOORBELLS - 4, UINT64_MAX);
	tb_run(f.tb);
	CHECK_EQ(tb_r32(f.dev, 0, NVME_REG_CAP), 0x3c0107ff);
	CHECK_EQ(tb_nvme_csts(&f.nv), NVME_CSTS_RDY);
	fix_end(&f);
}

static void bad_settings(void)
{
	static const struct {
		const char *conf, *text;
	} cases[] = {
		{ "sectsz=1024\n", "sectsz" },
		{ "maxq=0\n", "maxq" },
		{ "maxq=64\n", "maxq" },
		{ "qsz=1\n", "qsz" },
		{ "qsz=65537\n", "qsz" },
		{ "ioslots=0\n", "ioslots" },
		{ "ser=123456789012345678901\n", "ser" },
		{ "ser=a\tb\n", "ser" },
		{ "path=mem:1M\nram=1\n", "ram" },
		{ "dsm=maybe\n", "dsm" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct tb *tb = tb_new(NULL);
		struct err err = { .text = "" };

		CHECK(!tb_add(tb, hw_find("nvme"), cases[i].conf, &err));
		if (!strstr(err.text, cases[i].text))
			CHECK_FAIL("%s: \"%s\" does not name %s", cases[i].conf, err.text,
				   cases[i].text);
		tb_free(tb);
	}
}

/* A controller reset while Delete I/O Submission Queue waits for the queue's commands ends both. */
static void disable_during_delete(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct nvme_sqe read = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x10000, 0);
	struct fix f = { .tb = tb_new(&opts) };

	f.dev = tb_add(f.tb, hw_find("nvme"), NULL, NULL);
	tb_nvme_start(&f.nv, f.dev, 64);
	tb_fault(f.tb, 0, &hold);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &read, NULL), TB_NVME_NONE);
	CHECK_EQ(admin(&f, NVME_ADM_DELETE_SQ, 1, 0), TB_NVME_NONE);
	tb_w32(f.dev, 0, NVME_REG_CC, 0);
	tb_run(f.tb);
	CHECK(tb_nvme_csts(&f.nv) & NVME_CSTS_RDY);
	tb_fault(f.tb, 0, NULL);
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_csts(&f.nv), 0);
	tb_nvme_start(&f.nv, f.dev, 64);
	CHECK_EQ(tb_nvme_do(&f.nv, 1, &read, NULL), 0);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "reset_values", reset_values },
	{ "register_writes", register_writes },
	{ "nv01_enable_refused", nv01_enable_refused },
	{ "nv02_doorbells_ignored", nv02_doorbells_ignored },
	{ "nv02_doorbells_of_the_gone", nv02_doorbells_of_the_gone },
	{ "nv02_doorbells_without_bus_master", nv02_doorbells_without_bus_master },
	{ "nv03_bad_doorbell_values", nv03_bad_doorbell_values },
	{ "nv03_tail_backwards", nv03_tail_backwards },
	{ "nv05_queue_errors", nv05_queue_errors },
	{ "nv05_all_queues", nv05_all_queues },
	{ "delete_all_queues", delete_all_queues },
	{ "nv10_limits", nv10_limits },
	{ "events_wait_for_room", events_wait_for_room },
	{ "nv11_cid_conflict_and_abort", nv11_cid_conflict_and_abort },
	{ "nv13_opcodes", nv13_opcodes },
	{ "nv18_completion_queue_full", nv18_completion_queue_full },
	{ "nv18_head_beyond_tail", nv18_head_beyond_tail },
	{ "nv19_bar_widths", nv19_bar_widths },
	{ "disable_during_delete", disable_during_delete },
	{ "bad_settings", bad_settings },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
