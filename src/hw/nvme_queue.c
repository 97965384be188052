/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <assert.h>
#include <string.h>

#include "mem/mem.h"

/* --- doorbells: any vCPU, no lock --- */

/* Wakes the loop unless it is going to look anyway. What to look at has been stored before. */
static void bell_wake(struct nvme *n)
{
	if (!__atomic_exchange_n(&n->awake, true, __ATOMIC_SEQ_CST))
		dev_post(&n->kick);
}

static void bell_error(struct nvme *n, enum nvme_event event)
{
	__atomic_fetch_or(&n->bell_errors, BIT(event), __ATOMIC_SEQ_CST);
	bell_wake(n);
}

static void bell_sq(struct nvme *n, unsigned int id, uint32_t tail)
{
	__atomic_store_n(&n->sq[id].tail_db, tail, __ATOMIC_RELEASE);
	__atomic_fetch_or(&n->kicked, BIT64(id), __ATOMIC_SEQ_CST);
	bell_wake(n);
}

static void bell_cq(struct nvme *n, unsigned int id, uint32_t head)
{
	struct nvme_cq *cq = &n->cq[id];

	__atomic_store_n(&cq->head_db, head, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&cq->stalled, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&cq->stalled, false, __ATOMIC_SEQ_CST)) {
		uint64_t sqs = __atomic_load_n(&cq->sqs, __ATOMIC_SEQ_CST);

		__atomic_fetch_or(&n->kicked, sqs, __ATOMIC_SEQ_CST);
		bell_wake(n);
	}
	/* The wire falls when the queue is empty: before this write returns, or the guest sees it again. */
	if (__atomic_load_n(&n->pin, __ATOMIC_RELAXED)) {
		dev_lock(&n->fn.dev);
		nvme_pin_update(n);
		dev_unlock(&n->fn.dev);
	}
}

/* s3.1.24: doorbells read as zero. */
uint64_t nvme_bell_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)d;
	(void)offset;
	(void)size;
	return 0;
}

/* s3.1.24, s3.1.25, CAP.DSTRD 0. Only whole doorbells count. */
void nvme_bell_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct nvme *n = container_of(pci_fn_of(d), struct nvme, fn);
	unsigned int id = (unsigned int)(offset >> 3);
	bool completion = offset & 4;
	uint32_t entries = 0;

	if (size != 4 || offset & 3)
		return;
	if (id < n->nqueues)
		entries = __atomic_load_n(completion ? &n->cq[id].size : &n->sq[id].size,
					  __ATOMIC_ACQUIRE);
	if (!entries)
		bell_error(n, NVME_EVENT_BAD_REGISTER);
	else if (value >= entries)
		bell_error(n, NVME_EVENT_BAD_VALUE);
	else if (completion)
		bell_cq(n, id, (uint32_t)value);
	else
		bell_sq(n, id, (uint32_t)value);
}

/* --- opening and closing --- */

void nvme_cq_open(struct nvme *n, unsigned int id, struct nvme_cqe *ring, uint32_t entries)
{
	struct nvme_cq *cq = &n->cq[id];

	cq->ring = ring;
	cq->bit = BIT64(id);
	cq->head = 0;
	cq->tail = 0;
	cq->room = entries - 1;
	cq->told = 0;
	cq->nsqs = 0;
	cq->phase = true;
	nvme_dbbuf_cq(n, cq);
	__atomic_store_n(&cq->sqs, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&cq->head_db, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&cq->stalled, false, __ATOMIC_RELAXED);
	__atomic_store_n(&cq->size, entries, __ATOMIC_RELEASE);
}

void nvme_sq_open(struct nvme *n, unsigned int id, const struct nvme_sqe *ring, uint32_t entries,
		  struct nvme_cq *cq)
{
	struct nvme_sq *sq = &n->sq[id];

	sq->ring = ring;
	sq->head = 0;
	sq->tail = 0;
	sq->id = (uint16_t)id;
	sq->cq = cq;
	sq->inflight = 0;
	sq->deleting = false;
	memset(sq->cids, 0, 65536 / 8);
	nvme_dbbuf_sq(n, sq);
	cq->nsqs++;
	__atomic_fetch_or(&cq->sqs, BIT64(id), __ATOMIC_SEQ_CST);
	__atomic_store_n(&sq->tail_db, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&sq->size, entries, __ATOMIC_RELEASE);
}

void nvme_sq_close(struct nvme *n, struct nvme_sq *sq)
{
	uint64_t bit = BIT64(sq->id);

	assert(sq->inflight == 0);
	__atomic_store_n(&sq->size, 0, __ATOMIC_RELEASE);
	__atomic_fetch_and(&sq->cq->sqs, ~bit, __ATOMIC_SEQ_CST);
	sq->cq->nsqs--;
	sq->cq = NULL;
	sq->deleting = false;
	sq->shadow = sq->event = NULL;
	n->shadowed &= ~bit;
	n->ready &= ~bit;
	n->starved &= ~bit;
}

void nvme_cq_close(struct nvme_cq *cq)
{
	assert(cq->nsqs == 0);
	__atomic_store_n(&cq->size, 0, __ATOMIC_RELEASE);
	cq->irq_on = false;
	cq->shadow = cq->event = NULL;
}

void nvme_queues_close(struct nvme *n)
{
	nvme_dbbuf_drop(n);
	for (unsigned int i = 0; i < n->nqueues; i++)
		if (n->sq[i].cq)
			nvme_sq_close(n, &n->sq[i]);
	for (unsigned int i = 0; i < n->nqueues; i++)
		nvme_cq_close(&n->cq[i]);
	n->posted = 0;
	n->held = 0;
	nvme_pin_update(n);
}

/* --- completions --- */

static uint32_t ring_distance(uint32_t from, uint32_t to, uint32_t size)
{
	return to >= from ? to - from : to + size - from;
}

/* The head as the guest has written it last. */
static uint32_t cq_head_now(const struct nvme *n, const struct nvme_cq *cq)
{
	return cq->shadow && n->fn.dma.on ? ring_load32(cq->shadow)
					  : __atomic_load_n(&cq->head_db, __ATOMIC_SEQ_CST);
}

/* Takes over the guest's head if it lies within what was posted. */
static void cq_update_head(struct nvme *n, struct nvme_cq *cq)
{
	uint32_t head = cq_head_now(n, cq), freed;

	if (head == cq->head)
		return;
	freed = ring_distance(cq->head, head, cq->size);
	if (head >= cq->size || freed > ring_distance(cq->head, cq->tail, cq->size)) {
		__atomic_store_n(&cq->head_db, cq->head, __ATOMIC_SEQ_CST);
		if (cq->shadow)
			ring_store32(cq->shadow, cq->head);
		nvme_event(n, NVME_EVENT_BAD_VALUE);
		return;
	}
	cq->head = head;
	cq->room += freed;
}

/* True if an entry can be promised to a command. If not, moving the head will start the queue's turn again. */
static bool cq_has_room(struct nvme *n, struct nvme_cq *cq)
{
	cq_update_head(n, cq);
	if (cq->room)
		return true;
	__atomic_store_n(&cq->stalled, true, __ATOMIC_SEQ_CST);
	if (cq->shadow) {
		ring_store32(cq->event, cq->head);
		ring_fence();
	}
	cq_update_head(n, cq);
	if (!cq->room)
		return false;
	__atomic_store_n(&cq->stalled, false, __ATOMIC_SEQ_CST);
	return true;
}

/* s4.6. The phase bit goes out last. */
static inline void cq_post(struct nvme *n, struct nvme_cq *cq, const struct nvme_sq *sq,
			   uint32_t dw0, uint16_t cid, uint16_t status)
{
	struct nvme_cqe *e = &cq->ring[cq->tail];

	e->dw0 = dw0;
	e->dw1 = 0;
	e->sq_head = (uint16_t)sq->head;
	e->sq_id = sq->id;
	ring_store32((uint32_t *)(void *)&e->cid,
		     cid | (uint32_t)status << 17 | (uint32_t)cq->phase << 16);
	if (++cq->tail == cq->size) {
		cq->tail = 0;
		cq->phase = !cq->phase;
	}
	n->posted |= cq->bit;
}

/*
 * What is rare: a command that failed, or the last one of a queue that is to go. Kept apart, so that the others save no
 * registers.
 */
__attribute__((noinline)) static void complete_rest(struct nvme *n, struct nvme_sq *sq,
						    uint16_t cid, uint16_t status)
{
	if (status && n->state != NVME_RESETTING)
		nvme_log_error(n, sq->id, cid, status);
	if (!sq->deleting || sq->inflight)
		return;
	assert(sq != &n->sq[0]); /* never deleted */
	cid = sq->delete_cid;
	nvme_sq_close(n, sq);
	nvme_complete(n, &n->sq[0], cid, NVME_SC_OK, 0);
}

void nvme_complete(struct nvme *n, struct nvme_sq *sq, uint16_t cid, uint16_t status, uint32_t dw0)
{
	sq->cids[cid / 64] &= ~BIT64(cid % 64);
	sq->inflight--;
	/*
	 * While resetting nobody is told, and all the rest is as ever. Bus master off: the entry cannot be written, as
	 * with any write of this function.
	 */
	if (n->state != NVME_RESETTING && n->fn.dma.on)
		cq_post(n, sq->cq, sq, dw0, cid, status);
	if (status || sq->deleting)
		complete_rest(n, sq, cid, status);
}

bool nvme_complete_event(struct nvme *n, uint16_t cid, uint32_t dw0)
{
	struct nvme_sq *sq = &n->sq[0];

	if (!n->fn.dma.on || !cq_has_room(n, sq->cq))
		return false;
	sq->cids[cid / 64] &= ~BIT64(cid % 64);
	sq->cq->room--;
	cq_post(n, sq->cq, sq, dw0, cid, NVME_SC_OK);
	return true;
}

/* True if the guest has not taken all entries of a queue that interrupts. */
static bool cq_unread(const struct nvme *n, const struct nvme_cq *cq)
{
	return cq->size && cq->irq_on && cq_head_now(n, cq) != cq->tail;
}

/* s7.5.1.1: the wire is high while there are entries that the guest has not taken. */
void nvme_pin_update(struct nvme *n)
{
	bool level = false;

	/* Every step of a head is wanted. */
	for (unsigned int i = 1; n->pin && n->shadows && n->fn.dma.on && i < n->nqueues; i++)
		if (n->cq[i].shadow && !nvme_dbbuf_arm_cq(&n->cq[i]))
			dev_post(&n->kick);
	for (unsigned int i = 0; i < n->nqueues && !level; i++)
		level = cq_unread(n, &n->cq[i]);
	pci_intx_set(&n->fn, level && n->pin && !(n->intms & 1));
}

void nvme_mark_unread(struct nvme *n)
{
	for (unsigned int i = 0; i < n->nqueues; i++)
		if (cq_unread(n, &n->cq[i]))
			n->posted |= BIT64(i);
}

void nvme_signal(struct nvme *n)
{
	uint64_t queues = n->posted, vectors = 0;

	if (!queues)
		return;
	n->posted = 0;
	if (n->pin) {
		nvme_pin_update(n);
		return;
	}
	for (; queues; queues &= queues - 1) {
		struct nvme_cq *cq = &n->cq[__builtin_ctzll(queues)];

		if (cq->irq_on)
			vectors |= BIT64(cq->vector);
	}
	if (n->feat.coalescing)
		vectors = nvme_coalesce(n, vectors);
	for (; vectors; vectors &= vectors - 1)
		pci_msix_fire(&n->fn, (unsigned int)__builtin_ctzll(vectors));
}

/* --- submissions --- */

void nvme_submit(struct nvme *n)
{
	for (struct nvme_ns *ns = n->ns; ns < n->ns + n->nn; ns++) {
		if (!ns->nbatch)
			continue;
		blk_submit(ns->blk, ns->batch, ns->nbatch);
		ns->nbatch = 0;
	}
}

/*
 * The tail to fetch up to. One that takes back entries not yet fetched, or is from before the queue was made anew and
 * smaller, is refused.
 */
static uint32_t sq_tail(struct nvme *n, struct nvme_sq *sq)
{
	uint32_t tail = sq->shadow ? ring_load32(sq->shadow)
				   : __atomic_load_n(&sq->tail_db, __ATOMIC_SEQ_CST);

	if (tail == sq->tail)
		return tail;
	if (tail < sq->size && ring_distance(sq->head, tail, sq->size) >=
				       ring_distance(sq->head, sq->tail, sq->size)) {
		sq->tail = tail;
	} else {
		__atomic_store_n(&sq->tail_db, sq->tail, __ATOMIC_SEQ_CST);
		if (sq->shadow)
			ring_store32(sq->shadow, sq->tail);
		nvme_event(n, NVME_EVENT_BAD_VALUE);
	}
	return sq->tail;
}

static void sq_execute(struct nvme *n, struct nvme_sq *sq, const struct nvme_sqe *cmd)
{
	uint16_t cid = nvme_cid(cmd), status;
	uint64_t *word = &sq->cids[cid / 64];
	uint32_t dw0 = 0;

	sq->cq->room--;
	if (*word & BIT64(cid % 64)) {
		nvme_log_error(n, sq->id, cid, NVME_SC_CID_CONFLICT);
		cq_post(n, sq->cq, sq, 0, cid, NVME_SC_CID_CONFLICT | NVME_DNR);
		return;
	}
	*word |= BIT64(cid % 64);
	sq->inflight++;
	/* Fused operations, SGLs and reserved bits (s4.2). */
	if (cmd->cdw0 & 0xff00)
		status = NVME_SC_INVALID_FIELD | NVME_DNR;
	else if (sq->id)
		status = nvme_io_command(n, sq, cmd);
	else
		status = nvme_admin_command(n, cmd, &dw0);
	if (status != NVME_LATER)
		nvme_complete(n, sq, cid, status, dw0);
}

/*
 * Fetches at most max commands of one queue. Returns how many; the queue leaves n->ready when it is empty or waits. The
 * tail is looked at once, and again when all up to there is done.
 */
static unsigned int sq_run(struct nvme *n, struct nvme_sq *sq, unsigned int max)
{
	uint64_t bit = BIT64(sq->id);
	unsigned int done = 0;

	if (!sq->size || sq->deleting) {
		n->ready &= ~bit;
		return 0;
	}
	cq_update_head(n, sq->cq);
	sq_tail(n, sq);
	while (done < max) {
		struct nvme_sqe cmd;

		if ((sq->head == sq->tail && sq->head == sq_tail(n, sq)) ||
		    (!sq->cq->room && !cq_has_room(n, sq->cq))) {
			n->ready &= ~bit;
			break;
		}
		if (sq->id && !nvme_io_ready(n)) {
			n->ready &= ~bit;
			n->starved |= bit;
			break;
		}
		memcpy(&cmd, &sq->ring[sq->head], sizeof(cmd));
		sq->head = sq->head + 1 == sq->size ? 0 : sq->head + 1;
		done++;
		sq_execute(n, sq, &cmd);
	}
	return done;
}

/* Round robin over the queues that hold commands (s4.13.1). */
static void run_queues(struct nvme *n)
{
	unsigned int budget = NVME_RUN_BUDGET;

	while (n->ready && budget) {
		uint64_t later = n->ready & ~(BIT64(n->turn) - 1);
		unsigned int id = (unsigned int)__builtin_ctzll(later ? later : n->ready);

		n->turn = (id + 1) % NVME_MAX_QUEUES;
		budget -= sq_run(n, &n->sq[id], MIN(budget, (unsigned int)NVME_BURST));
	}
}

static void take_bell_errors(struct nvme *n)
{
	uint32_t errors = __atomic_exchange_n(&n->bell_errors, 0, __ATOMIC_SEQ_CST);

	if (errors & BIT(NVME_EVENT_BAD_REGISTER))
		nvme_event(n, NVME_EVENT_BAD_REGISTER);
	if (errors & BIT(NVME_EVENT_BAD_VALUE))
		nvme_event(n, NVME_EVENT_BAD_VALUE);
}

/*
 * Nothing is fetched while paused, not ready or not bus master; doorbells stay noted. Before it sleeps, the loop says
 * so and looks once more: a doorbell that came before saw "awake", one that comes after posts.
 */
void nvme_run(struct dev *d)
{
	struct nvme *n = container_of(pci_fn_of(d), struct nvme, fn);
	bool more;

	if (!dev_is_running(d))
		return;
	__atomic_store_n(&n->awake, true, __ATOMIC_SEQ_CST);
	n->ready |= __atomic_exchange_n(&n->kicked, 0, __ATOMIC_SEQ_CST) | n->shadowed;
	if (n->state != NVME_READY) {
		n->ready = 0;
		__atomic_store_n(&n->bell_errors, 0, __ATOMIC_SEQ_CST);
	} else if (n->fn.dma.on) {
		take_bell_errors(n);
		run_queues(n);
		nvme_events_send(n);
		nvme_submit(n);
	}
	nvme_signal(n);
	more = n->ready && n->fn.dma.on;
	if (!more) {
		__atomic_store_n(&n->awake, false, __ATOMIC_SEQ_CST);
		if (n->shadowed && n->fn.dma.on && n->state == NVME_READY)
			nvme_dbbuf_arm(n);
		more = n->fn.dma.on && (__atomic_load_n(&n->kicked, __ATOMIC_SEQ_CST) ||
					__atomic_load_n(&n->bell_errors, __ATOMIC_SEQ_CST));
	}
	if (more) {
		__atomic_store_n(&n->awake, true, __ATOMIC_SEQ_CST);
		dev_post(&n->kick);
	}
}
