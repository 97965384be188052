/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_DEV_TEST_NVME_H
#define TESTS_DEV_TEST_NVME_H

#include <string.h>

#include "bench/tb_nvme.h"
#include "hw/table.h"
#include "run.h"
#include "util/err.h"

/* A controller that was started, for the tests of its parts. */
struct fix {
	struct tb *tb;
	struct dev *dev;
	struct tb_nvme nv;
};

/* depth: entries of its I/O queue */
static inline void fix_open(struct fix *f, enum loop_engine engine, const char *conf,
			    unsigned int depth)
{
	const struct tb_opts opts = { .engine = engine, .faults = true };
	struct err err = { .text = "" };

	f->tb = tb_new(&opts);
	f->dev = tb_add(f->tb, hw_find("nvme"), conf, &err);
	if (!f->dev)
		CHECK_FAIL("%s", err.text);
	tb_nvme_start(&f->nv, f->dev, depth);
}

static inline void fix_end(struct fix *f)
{
	tb_release_all(f->tb);
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static inline uint16_t fix_rw(struct fix *f, uint8_t opcode, uint64_t lba, uint32_t blocks,
			      gpa_t prp1, gpa_t prp2)
{
	struct nvme_sqe cmd = tb_nvme_rw(opcode, lba, blocks, prp1, prp2);

	return tb_nvme_do(&f->nv, 1, &cmd, NULL);
}

static inline uint16_t fix_admin(struct fix *f, uint8_t opcode, uint32_t nsid, uint32_t cdw10,
				 uint32_t cdw11)
{
	struct nvme_sqe cmd = tb_nvme_admin(opcode, nsid, 0x10000, cdw10, cdw11);

	return tb_nvme_do(&f->nv, 0, &cmd, NULL);
}

/* A command with a data page; returns the page. */
static inline const uint8_t *fix_page(struct fix *f, uint8_t opcode, uint32_t nsid, uint32_t cdw10)
{
	uint8_t *p = tb_mem(f->tb, 0x10000, NVME_PAGE);

	memset(p, 0xee, NVME_PAGE);
	CHECK_EQ(fix_admin(f, opcode, nsid, cdw10, 0), 0);
	return p;
}

#endif
