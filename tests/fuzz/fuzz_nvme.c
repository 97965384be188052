/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <string.h>

#include "bench/tb_nvme.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Queues and buffers have fixed places, so that a script of any length fits into memory. A zero byte, which is also
 * what a script that has ended reads, always stands for the well-formed choice.
 */
#define QUEUES 5 /* used by the script: admin and four more; the controller has three */
#define ENTRIES 32
#define RINGS 0x800000u
#define RING_STEP 0x2000u

static void open_ring(struct tb_nvme *n, unsigned int q, uint32_t sq_size, uint32_t cq_size)
{
	n->q[q] = (struct tb_nvme_queue){
		.sq = RINGS + q * RING_STEP,
		.cq = RINGS + q * RING_STEP + 0x1000,
		.sq_size = sq_size,
		.cq_size = cq_size,
		.phase = true,
	};
	memset(tb_mem(n->tb, n->q[q].cq, 0x1000), 0, 0x1000);
}

static void enable(struct tb_nvme *n, struct fz *f)
{
	uint32_t sq = ENTRIES - fz_pick(f, ENTRIES - 1), cq = ENTRIES - fz_pick(f, ENTRIES - 1);

	open_ring(n, 0, sq, cq);
	tb_w32(n->dev, 0, NVME_REG_AQA, (cq - 1) << 16 | (sq - 1));
	tb_w64(n->dev, 0, NVME_REG_ASQ, n->q[0].sq);
	tb_w64(n->dev, 0, NVME_REG_ACQ, n->q[0].cq);
	tb_w32(n->dev, 0, NVME_REG_CC, NVME_CC_EN | 6 << 16 | 4 << 20);
}

/* A data pointer: a page of the arena, sometimes at an offset, sometimes anything. */
static uint64_t pointer(struct fz_script *s, struct fz *f)
{
	uint64_t page = s->arena + 4096 * fz_pick(f, FZ_ARENA / 4096);

	switch (fz_pick(f, 8)) {
	case 6:
		return fz_value(f);
	case 7:
		return page + 4 * fz_u8(f);
	default:
		return page;
	}
}

/* One field of a command gets another value. */
static void mutate(struct nvme_sqe *cmd, struct fz *f)
{
	uint32_t words[16];

	if (fz_u8(f) % 4 != 3)
		return;
	memcpy(words, cmd, sizeof(words));
	words[fz_pick(f, 16)] = (uint32_t)fz_value(f);
	memcpy(cmd, words, sizeof(words));
}

static void push(struct tb_nvme *n, unsigned int q, struct nvme_sqe *cmd, struct fz *f)
{
	if (!n->q[q].sq_size)
		return;
	mutate(cmd, f);
	if (fz_u8(f) % 16 != 15)
		tb_nvme_push(n, q, cmd);
	else
		tb_nvme_push_as(n, q, cmd);
	if (fz_u8(f) % 4 != 3)
		tb_nvme_ring(n, q);
}

/* An I/O queue, mostly one of those that bring_up() makes. */
static unsigned int any_queue(struct fz *f)
{
	uint8_t v = fz_u8(f);

	return 1 + (v < 240 ? v % 3 : v % (QUEUES - 1));
}

/* Mostly one that is there: 1, 2 and 4. 3 is inactive, 5 is none. */
static uint32_t namespace(uint8_t choice)
{
	static const uint32_t ids[] = { 1, 2, 1, 4, 2, 3, 5, NVME_NSID_ALL, 0 };

	return ids[choice % ARRAY_LEN(ids)];
}

static void io_command(struct fz_script *s, struct fz *f)
{
	static const uint8_t opcodes[] = {
		NVME_CMD_READ,	NVME_CMD_READ,	  NVME_CMD_WRITE,
		NVME_CMD_WRITE, NVME_CMD_FLUSH,	  NVME_CMD_WRITE_ZEROES,
		NVME_CMD_DSM,	NVME_CMD_COMPARE, NVME_CMD_VERIFY,
	};
	uint8_t choice = fz_u8(f), length = fz_u8(f);
	uint8_t opcode = opcodes[choice % ARRAY_LEN(opcodes)];
	/* one page, some pages, up to more than is allowed */
	uint32_t blocks = 1 + (length < 192   ? length % 8
			       : length < 248 ? length
					      : fz_pick(f, 5000));
	struct nvme_sqe cmd =
		tb_nvme_rw(opcode, fz_pick(f, 2100), blocks, pointer(s, f), pointer(s, f));

	cmd.nsid = namespace(choice / ARRAY_LEN(opcodes));
	if (opcode == NVME_CMD_DSM) {
		cmd.cdw10 = fz_bool(f) ? fz_pick(f, 4) : fz_u8(f);
		cmd.cdw11 = fz_u8(f) % 8 != 7 ? NVME_DSM_AD : fz_u8(f);
	}
	push(s->arg, any_queue(f), &cmd, f);
}

static void admin_command(struct fz_script *s, struct fz *f)
{
	static const uint8_t opcodes[] = {
		NVME_ADM_GET_LOG,      NVME_ADM_IDENTIFY,    NVME_ADM_ABORT, NVME_ADM_SET_FEATURES,
		NVME_ADM_GET_FEATURES, NVME_ADM_ASYNC_EVENT, NVME_ADM_DBBUF,
	};
	uint8_t choice = fz_u8(f), nsid = fz_u8(f);
	uint8_t opcode = choice < 192 ? opcodes[choice % ARRAY_LEN(opcodes)] : NVME_ADM_FORMAT;
	struct nvme_sqe cmd =
		tb_nvme_admin(opcode, nsid < 64 ? nsid % 3 : namespace(nsid), pointer(s, f),
			      fz_pick(f, 16) | (uint32_t)fz_u8(f) << 16, fz_u8(f));

	cmd.prp2 = pointer(s, f);
	if (opcode == NVME_ADM_FORMAT)
		cmd.cdw10 = fz_u8(f) % 8 != 7 ? cmd.cdw10 & 0x201 : cmd.cdw10;
	if (opcode == NVME_ADM_GET_LOG)
		cmd.cdw12 = fz_bool(f) ? 4u * fz_u8(f) : (uint32_t)fz_value(f);
	push(s->arg, 0, &cmd, f);
}

static struct nvme_sqe create_cq(struct tb_nvme *n, unsigned int q, unsigned int vector)
{
	return tb_nvme_admin(NVME_ADM_CREATE_CQ, 0, n->q[q].cq, (n->q[q].cq_size - 1) << 16 | q,
			     vector << 16 | 3);
}

static struct nvme_sqe create_sq(struct tb_nvme *n, unsigned int q, unsigned int cq)
{
	return tb_nvme_admin(NVME_ADM_CREATE_SQ, 0, n->q[q].sq, (n->q[q].sq_size - 1) << 16 | q,
			     cq << 16 | 1);
}

/* The controller and all its queues as a driver leaves them. */
static void bring_up(struct tb_nvme *n, struct fz *f)
{
	struct nvme_sqe cmd;

	enable(n, f);
	for (unsigned int q = 1; q < QUEUES - 1; q++) {
		uint32_t entries = ENTRIES - fz_pick(f, ENTRIES - 1);
		struct nvme_cqe e;

		open_ring(n, q, entries, entries);
		cmd = create_cq(n, q, fz_bool(f) ? q : 0);
		tb_nvme_push(n, 0, &cmd);
		tb_nvme_ring(n, 0);
		tb_run(n->tb);
		cmd = create_sq(n, q, q);
		tb_nvme_push(n, 0, &cmd);
		tb_nvme_ring(n, 0);
		tb_run(n->tb);
		while (tb_nvme_pop(n, 0, &e))
			;
		tb_nvme_ack(n, 0);
	}
}

/* An input before this one may have left blocks of 4096 bytes. */
static void first_formats(struct tb_nvme *n)
{
	gpa_t at = tb_alloc(n->tb, 4096, 4096);

	tb_nvme_enable(n, 8, 8);
	for (uint32_t id = 1; id <= 4; id++) {
		struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_IDENTIFY, id, at, 0, 0);
		const uint8_t *page = tb_mem(n->tb, at, 4096);

		tb_nvme_do(n, 0, &cmd, NULL);
		cmd = tb_nvme_admin(NVME_ADM_FORMAT, id, 0, 0, 0);
		if (page[26])
			tb_nvme_do(n, 0, &cmd, NULL);
	}
	tb_nvme_disable(n);
}

/* Creates or deletes one queue, in any order. */
static void queue_command(struct fz_script *s, struct fz *f)
{
	struct tb_nvme *n = s->arg;
	unsigned int q = any_queue(f), how = fz_pick(f, 4);
	uint32_t entries = ENTRIES - fz_pick(f, ENTRIES - 1);
	struct nvme_sqe cmd;

	switch (how) {
	case 0:
		open_ring(n, q, entries, entries);
		cmd = create_cq(n, q, fz_pick(f, 5));
		push(n, 0, &cmd, f);
		cmd = create_sq(n, q, fz_u8(f) % 8 != 7 ? q : fz_pick(f, 5));
		push(n, 0, &cmd, f);
		break;
	default:
		cmd = tb_nvme_admin(how == 1 ? NVME_ADM_DELETE_CQ : NVME_ADM_DELETE_SQ, 0, 0, q, 0);
		push(n, 0, &cmd, f);
		break;
	}
}

/* A page of the arena becomes a PRP list of its pages, or ranges to deallocate. */
static void fill_page(struct fz_script *s, struct fz *f)
{
	uint64_t *page = tb_mem(s->tb, s->arena + 4096 * fz_pick(f, FZ_ARENA / 4096), 4096);
	bool list = fz_bool(f);

	for (unsigned int i = 0; i < 512; i += 2) {
		uint64_t next = s->arena + 4096 * ((i / 2) % (FZ_ARENA / 4096));

		page[i] = list ? next : 8ull << 32;
		page[i + 1] = list ? next + 4096 : i * 8;
	}
	page[fz_pick(f, 512)] = list ? pointer(s, f) : fz_value(f);
	if (list)
		page[511] = pointer(s, f);
}

static void take_completions(struct fz_script *s, struct fz *f)
{
	struct tb_nvme *n = s->arg;
	unsigned int q = fz_pick(f, QUEUES);
	struct nvme_cqe e;

	tb_run(s->tb);
	if (!n->q[q].cq_size)
		return;
	for (uint32_t i = 0; i < n->q[q].cq_size && tb_nvme_pop(n, q, &e); i++)
		;
	if (fz_u8(f) % 8 != 7)
		tb_nvme_ack(n, q);
}

static void control(struct fz_script *s, struct fz *f)
{
	struct tb_nvme *n = s->arg;
	uint32_t cc = tb_r32(n->dev, 0, NVME_REG_CC);

	switch (fz_pick(f, 7)) {
	case 0:
		tb_w32(n->dev, 0, NVME_REG_CC, 0);
		break;
	case 6:
		tb_cfg_write(n->dev, tb_cap(n->dev, 0x10, 0) + 8, 2, 0x8000);
		tb_release_all(s->tb);
		tb_run(s->tb);
		tb_pci_enable(n->dev);
		bring_up(n, f);
		break;
	case 1:
		tb_w32(n->dev, 0, NVME_REG_CC, cc | 1 << NVME_CC_SHN_SHIFT);
		break;
	case 2:
		tb_w32(n->dev, 0, fz_bool(f) ? NVME_REG_INTMS : NVME_REG_INTMC, fz_u8(f));
		break;
	case 3:
		tb_nvme_bell(n, fz_pick(f, QUEUES), fz_bool(f), (uint32_t)fz_value(f));
		break;
	default:
		tb_w32(n->dev, 0, NVME_REG_CC, 0);
		tb_release_all(s->tb);
		tb_run(s->tb);
		if (fz_u8(f) % 4 != 3)
			bring_up(n, f);
		else
			enable(n, f);
		break;
	}
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	static void (*const ops[])(struct fz_script *, struct fz *) = {
		io_command,    io_command,	 io_command,	   io_command, admin_command,
		queue_command, take_completions, take_completions, fill_page,  control,
	};

	ops[fz_pick(f, ARRAY_LEN(ops))](s, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct tb_nvme nv;
	struct fz_script s;

	fz_start(&s, &nvme_ops,
		 "maxq=3\nioslots=8\ndsm=enable\nns.2.path=mem:1M\nns.4.path=mem:1M\n"
		 "ns.4.sectorsize=4096\n",
		 one_operation);
	tb_nvme_init(&nv, s.d, fz_u8(&f) % 4 != 3);
	s.arg = &nv;
	first_formats(&nv);
	bring_up(&nv, &f);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
