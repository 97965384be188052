/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_nvme.h"

#include <assert.h>
#include <string.h>

#include "mem/mem.h"

void tb_nvme_init(struct tb_nvme *n, struct dev *d, bool msix)
{
	memset(n, 0, sizeof(*n));
	n->tb = tb_of(d);
	n->dev = d;
	tb_pci_enable(d);
	if (msix)
		tb_msix_enable(d);
}

uint32_t tb_nvme_csts(struct tb_nvme *n)
{
	return tb_r32(n->dev, 0, NVME_REG_CSTS);
}

static void queue_new(struct tb_nvme *n, unsigned int id, uint32_t sq_size, uint32_t cq_size)
{
	n->q[id] = (struct tb_nvme_queue){
		.sq = tb_alloc(n->tb, sq_size * sizeof(struct nvme_sqe), NVME_PAGE),
		.cq = tb_alloc(n->tb, cq_size * sizeof(struct nvme_cqe), NVME_PAGE),
		.sq_size = sq_size,
		.cq_size = cq_size,
		.phase = true,
	};
}

bool tb_nvme_enable(struct tb_nvme *n, uint32_t sq_size, uint32_t cq_size)
{
	n->shadows = n->events = 0;
	queue_new(n, 0, sq_size, cq_size);
	tb_w32(n->dev, 0, NVME_REG_AQA, (cq_size - 1) << 16 | (sq_size - 1));
	tb_w64(n->dev, 0, NVME_REG_ASQ, n->q[0].sq);
	tb_w64(n->dev, 0, NVME_REG_ACQ, n->q[0].cq);
	tb_w32(n->dev, 0, NVME_REG_CC,
	       NVME_CC_EN | NVME_SQES << NVME_CC_IOSQES_SHIFT | NVME_CQES << NVME_CC_IOCQES_SHIFT);
	tb_run(n->tb);
	return tb_nvme_csts(n) == NVME_CSTS_RDY;
}

bool tb_nvme_disable(struct tb_nvme *n)
{
	tb_w32(n->dev, 0, NVME_REG_CC, 0);
	tb_run(n->tb);
	return tb_nvme_csts(n) == 0;
}

uint16_t tb_nvme_pair(struct tb_nvme *n, unsigned int id, uint32_t entries, uint16_t vector)
{
	struct nvme_sqe cmd;
	uint16_t status;

	queue_new(n, id, entries, entries);
	cmd = tb_nvme_admin(NVME_ADM_CREATE_CQ, 0, n->q[id].cq, (entries - 1) << 16 | id,
			    (uint32_t)vector << 16 | 3);
	status = tb_nvme_do(n, 0, &cmd, NULL);
	if (status)
		return status;
	cmd = tb_nvme_admin(NVME_ADM_CREATE_SQ, 0, n->q[id].sq, (entries - 1) << 16 | id,
			    id << 16 | 1);
	return tb_nvme_do(n, 0, &cmd, NULL);
}

void tb_nvme_start(struct tb_nvme *n, struct dev *d, uint32_t entries)
{
	bool ready;
	uint16_t status;

	tb_nvme_init(n, d, true);
	ready = tb_nvme_enable(n, 32, 32);
	assert(ready);
	status = tb_nvme_pair(n, 1, entries, 1);
	assert(status == 0);
}

void tb_nvme_push_as(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd)
{
	struct tb_nvme_queue *q = &n->q[queue];
	uint64_t at = q->sq + q->tail * sizeof(*cmd);

	memcpy(tb_mem(n->tb, at, sizeof(*cmd)), cmd, sizeof(*cmd));
	q->tail = (q->tail + 1) % q->sq_size;
}

uint16_t tb_nvme_push(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd)
{
	struct nvme_sqe c = *cmd;
	uint16_t cid = n->next_cid++;

	c.cdw0 = (c.cdw0 & 0xffff) | (uint32_t)cid << 16;
	tb_nvme_push_as(n, queue, &c);
	return cid;
}

void tb_nvme_bell(struct tb_nvme *n, unsigned int queue, bool completion, uint32_t value)
{
	tb_w32(n->dev, 0, NVME_DOORBELLS + 8 * queue + 4 * completion, value);
}

/* As Linux does it: doc/nvme-dbbuf.md. */
static void tell(struct tb_nvme *n, unsigned int queue, bool completion, uint32_t value)
{
	gpa_t at = 8 * queue + 4 * completion;
	uint32_t *shadow, old, event;

	if (n->shadows && queue) {
		shadow = tb_mem(n->tb, n->shadows + at, 4);
		old = ring_load32(shadow);
		ring_store32(shadow, value);
		ring_fence();
		event = ring_load32(tb_mem(n->tb, n->events + at, 4));
		if ((uint16_t)(value - event - 1) >= (uint16_t)(value - old))
			return;
	}
	if (queue)
		__atomic_fetch_add(&n->rings, 1, __ATOMIC_RELAXED);
	tb_nvme_bell(n, queue, completion, value);
}

uint16_t tb_nvme_dbbuf(struct tb_nvme *n)
{
	gpa_t pages = tb_alloc(n->tb, 2 * NVME_PAGE, NVME_PAGE);
	struct nvme_sqe cmd = tb_nvme_admin(NVME_ADM_DBBUF, 0, pages, 0, 0);
	uint16_t status;

	cmd.prp2 = pages + NVME_PAGE;
	status = tb_nvme_do(n, 0, &cmd, NULL);
	if (!status) {
		n->shadows = pages;
		n->events = pages + NVME_PAGE;
	}
	return status;
}

void tb_nvme_ring(struct tb_nvme *n, unsigned int queue)
{
	tell(n, queue, false, n->q[queue].tail);
}

bool tb_nvme_pop(struct tb_nvme *n, unsigned int queue, struct nvme_cqe *out)
{
	struct tb_nvme_queue *q = &n->q[queue];
	uint64_t at = q->cq + q->head * sizeof(*out);
	struct nvme_cqe *e = tb_mem(n->tb, at, sizeof(*e));

	/* id and status, as they are written: at once */
	if ((ring_load32((uint32_t *)(void *)&e->cid) >> 16 & 1) != q->phase)
		return false;
	*out = *e;
	if (++q->head == q->cq_size) {
		q->head = 0;
		q->phase = !q->phase;
	}
	return true;
}

void tb_nvme_ack(struct tb_nvme *n, unsigned int queue)
{
	tell(n, queue, true, n->q[queue].head);
}

uint16_t tb_nvme_do(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd,
		    uint32_t *dw0)
{
	uint16_t cid = tb_nvme_push(n, queue, cmd);
	struct nvme_cqe e;

	tb_nvme_ring(n, queue);
	tb_run(n->tb);
	if (!tb_nvme_pop(n, queue, &e))
		return TB_NVME_NONE;
	tb_nvme_ack(n, queue);
	assert(e.cid == cid && e.sq_id == queue && e.sq_head == n->q[queue].tail);
	if (dw0)
		*dw0 = e.dw0;
	return e.status >> 1;
}

struct nvme_sqe tb_nvme_rw(uint8_t opcode, uint64_t lba, uint32_t blocks, gpa_t prp1, gpa_t prp2)
{
	return (struct nvme_sqe){
		.cdw0 = opcode,
		.nsid = 1,
		.prp1 = prp1,
		.prp2 = prp2,
		.cdw10 = (uint32_t)lba,
		.cdw11 = (uint32_t)(lba >> 32),
		.cdw12 = blocks - 1,
	};
}

struct nvme_sqe tb_nvme_admin(uint8_t opcode, uint32_t nsid, gpa_t prp1, uint32_t cdw10,
			      uint32_t cdw11)
{
	return (struct nvme_sqe){
		.cdw0 = opcode,
		.nsid = nsid,
		.prp1 = prp1,
		.cdw10 = cdw10,
		.cdw11 = cdw11,
	};
}
