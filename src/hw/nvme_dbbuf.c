/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include "mem/mem.h"

/* Shadow doorbells (s5.7): doc/nvme-dbbuf.md has the order of all loads and stores, and why none is lost. */

#define ARM_TRIES 8

/* s5.7: as the registers, from 1000h on. */
static unsigned int place(unsigned int id, bool completion)
{
	return 2 * id + completion;
}

static void sq_attach(struct nvme *n, struct nvme_sq *sq, uint32_t tail)
{
	sq->shadow = &n->shadows[place(sq->id, false)];
	sq->event = &n->events[place(sq->id, false)];
	ring_store32(sq->shadow, tail);
	ring_store32(sq->event, tail);
	n->shadowed |= BIT64(sq->id);
}

static void cq_attach(struct nvme *n, struct nvme_cq *cq, uint32_t head)
{
	unsigned int id = (unsigned int)__builtin_ctzll(cq->bit);

	cq->shadow = &n->shadows[place(id, true)];
	cq->event = &n->events[place(id, true)];
	ring_store32(cq->shadow, head);
	ring_store32(cq->event, head);
}

void nvme_dbbuf_sq(struct nvme *n, struct nvme_sq *sq)
{
	if (n->shadows && sq->id)
		sq_attach(n, sq, 0);
}

void nvme_dbbuf_cq(struct nvme *n, struct nvme_cq *cq)
{
	if (n->shadows && cq->bit != 1)
		cq_attach(n, cq, 0);
}

void nvme_dbbuf_drop(struct nvme *n)
{
	n->shadows = n->events = NULL;
	n->shadowed = 0;
	for (unsigned int i = 0; i < n->nqueues; i++) {
		n->sq[i].shadow = n->sq[i].event = NULL;
		n->cq[i].shadow = n->cq[i].event = NULL;
	}
}

uint16_t nvme_dbbuf_config(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint32_t *shadows, *events;

	if (cmd->prp1 % NVME_PAGE || cmd->prp2 % NVME_PAGE || cmd->prp1 == cmd->prp2)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	shadows = dma_ring(&n->fn.dma, cmd->prp1, NVME_PAGE, NVME_PAGE);
	events = dma_ring(&n->fn.dma, cmd->prp2, NVME_PAGE, NVME_PAGE);
	if (!shadows || !events)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	n->shadows = shadows;
	n->events = events;
	for (unsigned int i = 1; i < n->nqueues; i++) {
		if (n->sq[i].size)
			sq_attach(n, &n->sq[i],
				  __atomic_load_n(&n->sq[i].tail_db, __ATOMIC_SEQ_CST));
		if (n->cq[i].size)
			cq_attach(n, &n->cq[i],
				  __atomic_load_n(&n->cq[i].head_db, __ATOMIC_SEQ_CST));
	}
	return NVME_SC_OK;
}

void nvme_dbbuf_arm(struct nvme *n)
{
	uint64_t left;

	for (left = n->shadowed; left; left &= left - 1) {
		struct nvme_sq *sq = &n->sq[__builtin_ctzll(left)];

		ring_store32(sq->event, sq->tail);
	}
	ring_fence();
	for (left = n->shadowed; left; left &= left - 1) {
		struct nvme_sq *sq = &n->sq[__builtin_ctzll(left)];

		if (ring_load32(sq->shadow) != sq->tail && !sq->deleting)
			__atomic_fetch_or(&n->kicked, BIT64(sq->id), __ATOMIC_SEQ_CST);
	}
}

bool nvme_dbbuf_arm_cq(struct nvme_cq *cq)
{
	for (int i = 0; i < ARM_TRIES; i++) {
		uint32_t head = ring_load32(cq->shadow);

		ring_store32(cq->event, head);
		ring_fence();
		if (ring_load32(cq->shadow) == head)
			return true;
	}
	return false;
}
