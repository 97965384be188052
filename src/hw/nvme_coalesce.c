/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

/*
 * Interrupt coalescing (s5.21.1.8): a vector of I/O queues waits until more than a threshold of entries are new, or some
 * time has passed since the first of them. The admin queue's entries are told at once, and so is what shares its vector.
 */
#define TIME_UNIT_NS 100000u

/* Entries of all queues of the vector that no interrupt has told of. */
static uint32_t untold(const struct nvme *n, unsigned int vector)
{
	uint32_t sum = 0;

	for (unsigned int i = 1; i < n->nqueues; i++) {
		const struct nvme_cq *cq = &n->cq[i];

		if (cq->size && cq->irq_on && cq->vector == vector)
			sum += cq->tail >= cq->told ? cq->tail - cq->told
						    : cq->tail + cq->size - cq->told;
	}
	return sum;
}

static void mark_told(struct nvme *n, uint64_t vectors)
{
	for (unsigned int i = 1; i < n->nqueues; i++)
		if (n->cq[i].size && vectors & BIT64(n->cq[i].vector))
			n->cq[i].told = n->cq[i].tail;
}

uint64_t nvme_coalesce(struct nvme *n, uint64_t vectors)
{
	uint32_t threshold = n->feat.coalescing & 0xff, time = n->feat.coalescing >> 8 & 0xff;
	uint64_t now = vectors & (n->feat.no_coalescing | BIT64(n->cq[0].vector));
	uint64_t later = vectors & ~now;

	for (; threshold && time && later; later &= later - 1) {
		unsigned int vector = (unsigned int)__builtin_ctzll(later);

		if (untold(n, vector) > threshold)
			now |= BIT64(vector);
		else
			n->held |= BIT64(vector);
	}
	now |= later;
	mark_told(n, now);
	n->held &= ~now;
	if (n->held && !dev_timer_armed(&n->held_timer))
		dev_timer_set(&n->held_timer,
			      loop_now(n->fn.dev.env.loop) + (uint64_t)time * TIME_UNIT_NS);
	return now;
}

void nvme_coalesce_flush(struct nvme *n)
{
	uint64_t vectors = n->held;

	n->held = 0;
	mark_told(n, vectors);
	for (; vectors; vectors &= vectors - 1)
		pci_msix_fire(&n->fn, (unsigned int)__builtin_ctzll(vectors));
}

/* A paused controller says nothing: resume flushes. */
static void held_too_long(struct dev *d)
{
	struct nvme *n = container_of(pci_fn_of(d), struct nvme, fn);

	if (dev_is_running(d))
		nvme_coalesce_flush(n);
}

void nvme_coalesce_init(struct nvme *n)
{
	dev_timer_init(&n->held_timer, &n->fn.dev, held_too_long);
}
