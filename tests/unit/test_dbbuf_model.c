/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "util/macros.h"

/*
 * Shadow doorbells: every interleaving of a guest that submits, and a controller that takes and goes to sleep, as
 * doc/nvme-dbbuf.md has it. Each side has a store buffer that may empty at any time, as on x86 and worse; a fence waits
 * until it is empty. A state in which nobody can go on and something was not taken is a submission that was lost.
 *
 * The completion queue is the same race with other names: the guest moves the head, the controller wants room.
 */
#define SIZE 3 /* entries of the ring: it wraps */

/* What may be left out, to see that it matters. */
enum flaw { NONE, NO_GUEST_FENCE, NO_FENCE, NO_RECHECK, ARM_FIRST };

struct world {
	/* shared */
	uint16_t shadow, event;
	bool kicked, awake, posted;
	/* store buffers: one place each */
	bool guest_stored, ctrl_stored;
	uint16_t guest_value, ctrl_value;
	/* the guest */
	uint8_t left; /* steps of the tail still to make */
	uint8_t gpc;
	uint16_t tail, seen_event;
	/* the controller */
	uint8_t cpc;
	uint16_t taken;
	bool more;
};

struct search {
	enum flaw flaw;
	struct world *seen;
	uint64_t *used;
	size_t n, lost;
};

#define SEEN_MAX (1u << 18)

static uint16_t step(uint16_t v)
{
	return (uint16_t)((v + 1) % SIZE);
}

static bool guest_can_read(const struct world *w, const struct search *s)
{
	return s->flaw == NO_GUEST_FENCE || !w->guest_stored;
}

/* The guest's next step. False: it must wait, or has nothing to do. */
static bool guest(struct world *w, const struct search *s)
{
	uint16_t next = step(w->tail);

	switch (w->gpc) {
	case 0: /* store the new tail */
		if (!w->left || w->guest_stored || next == w->taken)
			return false;
		w->guest_stored = true;
		w->guest_value = next;
		w->gpc = 1;
		return true;
	case 1: /* fence, load the event index */
		if (!guest_can_read(w, s))
			return false;
		w->seen_event = w->event;
		w->gpc = 2;
		return true;
	case 2: /* ring, or not; a ring is a store to a register, behind all others */
		if ((uint16_t)(next - w->seen_event - 1) < (uint16_t)(next - w->tail)) {
			if (w->guest_stored)
				return false;
			w->kicked = true;
			w->gpc = 3;
		} else {
			w->gpc = 0;
		}
		w->tail = next;
		w->left--;
		return true;
	default: /* the register's handler: wake the loop */
		if (!w->awake) {
			w->awake = true;
			w->posted = true;
		}
		w->gpc = 0;
		return true;
	}
}

/* The controller's own view of what it stored is never asked for. */
static bool ctrl_fence(const struct world *w, const struct search *s)
{
	return s->flaw == NO_FENCE || !w->ctrl_stored;
}

static bool ctrl_arm(struct world *w)
{
	if (w->ctrl_stored)
		return false;
	w->ctrl_stored = true;
	w->ctrl_value = w->taken;
	return true;
}

/* The controller's next step. False: it sleeps, or must wait. */
static bool ctrl(struct world *w, const struct search *s)
{
	bool early = s->flaw == ARM_FIRST;

	switch (w->cpc) {
	case 0: /* the loop runs the post */
		if (!w->posted)
			return false;
		w->posted = false;
		w->awake = true;
		w->cpc = 1;
		return true;
	case 1:
		w->kicked = false;
		w->cpc = early ? 2 : 3;
		return true;
	case 2: /* ARM_FIRST: before it has looked at the queue */
		if (!ctrl_arm(w))
			return false;
		w->cpc = 3;
		return true;
	case 3: /* take everything */
		if (w->shadow != w->taken)
			w->taken = step(w->taken);
		else
			w->cpc = 4;
		return true;
	case 4:
		w->awake = false;
		w->cpc = early ? 6 : 5;
		return true;
	case 5:
		if (!ctrl_arm(w))
			return false;
		w->cpc = 6;
		return true;
	case 6: /* fence, look once more */
		if (!ctrl_fence(w, s))
			return false;
		w->more = s->flaw != NO_RECHECK && w->shadow != w->taken;
		w->cpc = 7;
		return true;
	case 7:
		w->more |= w->kicked;
		w->cpc = w->more ? 8 : 0;
		return true;
	default:
		w->awake = true;
		w->posted = true;
		w->cpc = 0;
		return true;
	}
}

static bool drain_guest(struct world *w)
{
	if (!w->guest_stored)
		return false;
	w->guest_stored = false;
	w->shadow = w->guest_value;
	return true;
}

static bool drain_ctrl(struct world *w)
{
	if (!w->ctrl_stored)
		return false;
	w->ctrl_stored = false;
	w->event = w->ctrl_value;
	return true;
}

/* What does not count any more is made equal, so that fewer states differ. */
static void tidy(struct world *w)
{
	if (!w->guest_stored)
		w->guest_value = 0;
	if (!w->ctrl_stored)
		w->ctrl_value = 0;
	if (w->gpc != 2)
		w->seen_event = 0;
	if (w->cpc != 7)
		w->more = false;
}

/* True if it was not there. */
static bool remember(struct search *s, const struct world *w)
{
	uint32_t h = 2166136261u;
	const uint8_t *p = (const uint8_t *)w;

	for (size_t i = 0; i < sizeof(*w); i++)
		h = (h ^ p[i]) * 16777619u;
	for (h %= SEEN_MAX; s->used[h / 64] >> (h % 64) & 1; h = (h + 1) % SEEN_MAX)
		if (memcmp(&s->seen[h], w, sizeof(*w)) == 0)
			return false;
	s->used[h / 64] |= 1ull << (h % 64);
	s->seen[h] = *w;
	s->n++;
	CHECK(s->n < SEEN_MAX / 2);
	return true;
}

static void explore(struct search *s, const struct world *from)
{
	bool moved = false;

	for (int who = 0; who < 4; who++) {
		struct world w;

		memcpy(&w, from, sizeof(w));
		if (!(who == 0	 ? guest(&w, s)
		      : who == 1 ? ctrl(&w, s)
		      : who == 2 ? drain_guest(&w)
				 : drain_ctrl(&w)))
			continue;
		moved = true;
		tidy(&w);
		if (remember(s, &w))
			explore(s, &w);
	}
	if (!moved && (from->left || from->tail != from->taken))
		s->lost++;
}

/* All that can happen while the guest makes `steps` steps, from each place of the ring. Returns how often it ends badly. */
static size_t lost(enum flaw flaw, unsigned int steps)
{
	struct search s = { .flaw = flaw };

	s.seen = calloc(SEEN_MAX, sizeof(*s.seen));
	s.used = calloc(SEEN_MAX / 64, sizeof(*s.used));
	for (uint16_t place = 0; place < SIZE; place++) {
		struct world w;

		memset(&w, 0, sizeof(w));
		w.left = (uint8_t)steps;
		w.shadow = w.event = w.tail = w.taken = place;
		if (remember(&s, &w))
			explore(&s, &w);
	}
	printf("%u steps, flaw %d: %zu states, %zu of them lose\n", steps, flaw, s.n, s.lost);
	free(s.seen);
	free(s.used);
	return s.lost;
}

static void nothing_is_lost(void)
{
	for (unsigned int steps = 1; steps <= 7; steps++)
		CHECK_EQ(lost(NONE, steps), 0);
}

/* Each part is needed: without it the search finds a submission that nobody takes. */
static void flaws_are_found(void)
{
	CHECK(lost(NO_GUEST_FENCE, 4) > 0);
	CHECK(lost(NO_FENCE, 4) > 0);
	CHECK(lost(NO_RECHECK, 4) > 0);
	CHECK(lost(ARM_FIRST, 4) > 0);
}

/* When the index is the last value stored, every step asks for the register: any size, any place, any length. */
static void armed_always_rings(void)
{
	for (uint32_t old = 0; old < 65536; old += 251)
		for (uint32_t new = 0; new < 65536; new += 13)
			CHECK_EQ((uint16_t)(new - old - 1) < (uint16_t)(new - old), new != old);
}

static const struct test_case cases[] = {
	{ "nothing_is_lost", nothing_is_lost },
	{ "flaws_are_found", flaws_are_found },
	{ "armed_always_rings", armed_always_rings },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
