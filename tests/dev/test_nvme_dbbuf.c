/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "bench/tb_nvme.h"
#include "hw/table.h"
#include "mem/mem.h"
#include "run.h"
#include "util/err.h"

/* Shadow doorbells of the NVMe controller (NV-17). The races are tried in test_nvme_threads and tests/unit. */

struct fix {
	struct tb *tb;
	struct dev *dev;
	struct tb_nvme nv;
};

static void fix_make(struct fix *f, bool msix)
{
	const struct tb_opts opts = { .faults = true };

	f->tb = tb_new(&opts);
	f->dev = tb_add(f->tb, hw_find("nvme"), NULL, NULL);
	CHECK(f->dev);
	tb_nvme_init(&f->nv, f->dev, msix);
	CHECK(tb_nvme_enable(&f->nv, 32, 32));
	CHECK_EQ(tb_nvme_pair(&f->nv, 1, 8, msix), 0);
}

static void fix_start(struct fix *f)
{
	fix_make(f, true);
	CHECK_EQ(tb_nvme_dbbuf(&f->nv), 0);
}

static void fix_end(struct fix *f)
{
	tb_release_all(f->tb);
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static void push_read(struct fix *f, unsigned int queue)
{
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);

	tb_nvme_push(&f->nv, queue, &cmd);
	tb_nvme_ring(&f->nv, queue);
}

/* Completions of queue 1 that are there. */
static unsigned int take(struct fix *f)
{
	unsigned int n = 0;
	struct nvme_cqe e;

	tb_run(f->tb);
	while (tb_nvme_pop(&f->nv, 1, &e)) {
		CHECK_EQ(e.status >> 1, 0);
		n++;
	}
	return n;
}

/* One ring for a burst, and one for the next after sleep; around the end of the ring many times. */
static void few_rings(void)
{
	unsigned int before;
	struct fix f;

	fix_start(&f);
	for (int round = 0; round < 50; round++) {
		before = f.nv.rings;
		for (int i = 0; i < 5; i++)
			push_read(&f, 1);
		CHECK_EQ(f.nv.rings, before + 1);
		CHECK_EQ(take(&f), 5);
		tb_nvme_ack(&f.nv, 1);
	}
	fix_end(&f);
}

/* Completions make the controller look at the queues: what the guest has stored meanwhile needs no ring. */
static void looks_when_completing(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, 0, 1, 0x20000, 0);
	uint32_t *shadow;
	struct fix f;

	fix_start(&f);
	shadow = tb_mem(f.tb, f.nv.shadows + 8, 4);
	tb_fault(f.tb, 0, &hold);
	push_read(&f, 1);
	tb_run(f.tb);
	tb_nvme_push(&f.nv, 1, &cmd);
	*shadow = f.nv.q[1].tail;
	CHECK_EQ(take(&f), 0);
	tb_fault(f.tb, 0, NULL);
	CHECK_EQ(take(&f), 2);
	fix_end(&f);
}

/* The completion queue is full: the head in the shadow makes room, and is asked for. */
static void waits_for_room(void)
{
	struct fix f;

	fix_make(&f, true);
	CHECK_EQ(tb_nvme_pair(&f.nv, 2, 32, 1), 0);
	CHECK_EQ(tb_nvme_dbbuf(&f.nv), 0);
	for (int round = 0; round < 20; round++) {
		for (int i = 0; i < 7; i++)
			push_read(&f, 1);
		CHECK_EQ(take(&f), 7);
		for (int i = 0; i < 3; i++)
			push_read(&f, 1);
		CHECK_EQ(take(&f), 0);
		tb_nvme_ack(&f.nv, 1);
		CHECK_EQ(take(&f), 3);
		tb_nvme_ack(&f.nv, 1);
	}
	fix_end(&f);
}

static void wire_falls(void)
{
	struct fix f;

	fix_make(&f, false);
	CHECK_EQ(tb_nvme_dbbuf(&f.nv), 0);
	for (int round = 0; round < 20; round++) {
		push_read(&f, 1);
		push_read(&f, 1);
		CHECK_EQ(take(&f), 2);
		CHECK(tb_intx(f.dev));
		tb_nvme_ack(&f.nv, 1);
		tb_run(f.tb);
		CHECK(!tb_intx(f.dev));
	}
	fix_end(&f);
}

/* Refused once, put right, told; the queue goes on. */
static void bad_values(void)
{
	static const uint32_t bad[] = { 8, 9, 0x10003, UINT32_MAX };
	struct nvme_sqe aer = tb_nvme_admin(NVME_ADM_ASYNC_EVENT, 0, 0, 0, 0);
	struct nvme_cqe e;
	uint32_t *shadow;
	struct fix f;

	fix_start(&f);
	shadow = tb_mem(f.tb, f.nv.shadows + 8, 8);
	tb_nvme_push(&f.nv, 0, &aer);
	tb_nvme_ring(&f.nv, 0);
	tb_run(f.tb);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		shadow[0] = bad[i];
		tb_nvme_bell(&f.nv, 1, false, 0);
		CHECK_EQ(take(&f), 0);
		CHECK_EQ(shadow[0], 0);
	}
	CHECK(tb_nvme_pop(&f.nv, 0, &e));
	CHECK_EQ(e.dw0, NVME_LOG_ERROR << 16 | NVME_EVENT_BAD_VALUE << 8);
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	/* a head beyond what was posted */
	shadow[1] = 5;
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	CHECK_EQ(shadow[1], 0);
	tb_nvme_ack(&f.nv, 1);
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	fix_end(&f);
}

/* What the pages held before a queue was made does not count. */
static void old_values_do_not_count(void)
{
	struct nvme_sqe cmd;
	uint32_t *shadow;
	struct fix f;

	fix_start(&f);
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	tb_nvme_ack(&f.nv, 1);
	shadow = tb_mem(f.tb, f.nv.shadows + 16, 8);
	shadow[0] = shadow[1] = 3;
	CHECK_EQ(tb_nvme_pair(&f.nv, 2, 8, 1), 0);
	CHECK_EQ(shadow[0] | shadow[1], 0);
	tb_run(f.tb);
	cmd = tb_nvme_admin(NVME_ADM_DELETE_SQ, 0, 0, 2, 0);
	CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), 0);
	shadow[0] = 1;
	tb_run(f.tb);
	CHECK_EQ(tb_nvme_dbbuf(&f.nv), 0);
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	fix_end(&f);
}

/* After every kind of reset the pages are the guest's again: registers count, and nothing is written. */
static void dropped_at_reset(void)
{
	for (int kind = 0; kind < 3; kind++) {
		gpa_t shadows, events;
		uint32_t *page;
		struct fix f;

		fix_start(&f);
		push_read(&f, 1);
		CHECK_EQ(take(&f), 1);
		shadows = f.nv.shadows;
		events = f.nv.events;
		if (kind == 0)
			CHECK(tb_nvme_disable(&f.nv));
		else if (kind == 1)
			tb_cfg_write(f.dev, tb_cap(f.dev, 0x10, 0) + 8, 2, 0x8000);
		else
			CHECK(tb_reset(f.tb));
		memset(tb_mem(f.tb, shadows, 4096), 0x55, 4096);
		memset(tb_mem(f.tb, events, 4096), 0x55, 4096);
		tb_nvme_start(&f.nv, f.dev, 8);
		for (int i = 0; i < 20; i++) {
			push_read(&f, 1);
			CHECK_EQ(take(&f), 1);
			tb_nvme_ack(&f.nv, 1);
		}
		page = tb_mem(f.tb, shadows, 4096);
		for (int i = 0; i < 1024; i++)
			CHECK_EQ(page[i], 0x55555555);
		page = tb_mem(f.tb, events, 4096);
		for (int i = 0; i < 1024; i++)
			CHECK_EQ(page[i], 0x55555555);
		fix_end(&f);
	}
}

static void refused(void)
{
	static const struct {
		uint64_t prp1, prp2;
		uint16_t status;
	} cases[] = {
		{ 0x20000, 0x20000, NVME_SC_INVALID_FIELD },
		{ 0x20004, 0x30000, NVME_SC_INVALID_FIELD },
		{ 0x20000, 0x30800, NVME_SC_INVALID_FIELD },
		{ 0xf0000000, 0x30000, NVME_SC_DATA_TRANSFER },
		{ 0x20000, TB_RAM, NVME_SC_DATA_TRANSFER },
		{ 0x20000, ~0xfffull, NVME_SC_DATA_TRANSFER },
	};
	struct fix f;

	fix_make(&f, true);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_DBBUF, 0, cases[i].prp1, 0, 0);

		cmd.prp2 = cases[i].prp2;
		CHECK_EQ(tb_nvme_do(&f.nv, 0, &cmd, NULL), cases[i].status | NVME_DNR);
	}
	push_read(&f, 1);
	CHECK_EQ(take(&f), 1);
	fix_end(&f);
}

/* Bus master off: neither page is read or written; on: what was stored meanwhile is seen. */
static void bus_master_off(void)
{
	uint32_t *shadow, *event;
	struct fix f;

	fix_start(&f);
	shadow = tb_mem(f.tb, f.nv.shadows + 8, 4);
	event = tb_mem(f.tb, f.nv.events + 8, 4);
	tb_bus_master(f.dev, false);
	push_read(&f, 1);
	*event = 77;
	CHECK_EQ(take(&f), 0);
	CHECK_EQ(*event, 77);
	CHECK_EQ(*shadow, 1);
	tb_bus_master(f.dev, true);
	CHECK_EQ(take(&f), 1);
	CHECK_EQ(*event, 1);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "few_rings", few_rings },
	{ "looks_when_completing", looks_when_completing },
	{ "waits_for_room", waits_for_room },
	{ "wire_falls", wire_falls },
	{ "bad_values", bad_values },
	{ "old_values_do_not_count", old_values_do_not_count },
	{ "dropped_at_reset", dropped_at_reset },
	{ "refused", refused },
	{ "bus_master_off", bus_master_off },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
