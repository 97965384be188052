/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/xhci_priv.h"

int xhci_ring_peek(struct xhci *x, struct xhci_ring *ring, struct xhci_trb *out)
{
	for (unsigned int links = 0; links < XHCI_LINKS_MAX; links++) {
		struct xhci_trb trb;

		if (dma_read(&x->fn.dma, ring->deq, &trb, sizeof(trb)) < 0)
			return -1;
		if ((trb.control & XHCI_TRB_CYCLE) != ring->cycle)
			return 0;
		if (XHCI_TRB_TYPE(trb.control) != XHCI_TR_LINK) {
			*out = trb;
			return 1;
		}
		/* s6.4.4.1 */
		ring->deq = trb.param & ~0xfull;
		if (trb.control & XHCI_TRB_TC)
			ring->cycle = !ring->cycle;
	}
	return -1;
}

/* s4.9.4: the ring starts at the first use after its base was written; what the registers say later does not count. */
static bool open_events(struct xhci *x)
{
	struct {
		le64 base;
		le32 size, reserved;
	} entry;

	if (x->events.valid)
		return true;
	if (!(x->erstsz & 0xffff) ||
	    dma_read(&x->fn.dma, x->erstba & ~0x3full, &entry, sizeof(entry)) < 0)
		return false;
	entry.size &= 0xffff;
	if (entry.size < XHCI_SEGMENT_MIN || entry.size > XHCI_SEGMENT_MAX || entry.base & 0x3f ||
	    !dma_ring(&x->fn.dma, entry.base, (uint64_t)entry.size * XHCI_TRB_SIZE, 64))
		return false;
	x->events = (struct xhci_events){
		.valid = true, .base = entry.base, .size = entry.size, .cycle = true
	};
	return true;
}

bool xhci_event_room(struct xhci *x)
{
	const struct xhci_events *e = &x->events;
	uint64_t at = x->erdp & ~0xfull, deq;

	if (!open_events(x)) {
		xhci_fail(x, "no event ring where ERSTBA says");
		return false;
	}
	deq = (at - e->base) / XHCI_TRB_SIZE;
	/* A dequeue pointer that is not in the ring leaves no room. */
	if (at < e->base || deq >= e->size)
		return false;
	return (deq + e->size - e->enq - 1) % e->size >= XHCI_EVENTS_MAX;
}

void xhci_event(struct xhci *x, uint64_t param, uint32_t status, uint32_t control)
{
	struct xhci_events *e = &x->events;
	struct xhci_trb trb = { .param = param,
				.status = status,
				.control = control | (e->cycle ? XHCI_TRB_CYCLE : 0) };
	uint64_t at = e->base + e->enq * XHCI_TRB_SIZE;
	uint32_t *word = dma_ring(&x->fn.dma, at, sizeof(trb), XHCI_TRB_SIZE);

	if (!word) {
		xhci_fail(x, "the event ring is gone");
		return;
	}
	/* The cycle bit comes last: with it the event is the guest's. */
	memcpy(word, &trb, sizeof(trb) - sizeof(trb.control));
	ring_store32(word + 3, trb.control);
	if (++e->enq == e->size) {
		e->enq = 0;
		e->cycle = !e->cycle;
	}
	if (x->ehb)
		return;
	x->ehb = true;
	x->iman |= XHCI_IMAN_IP;
	x->sts |= XHCI_STS_EINT;
	xhci_interrupt_update(x);
}
