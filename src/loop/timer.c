/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdlib.h>

#include "loop/loop_priv.h"

/* A binary min-heap of armed timers; each knows its place in it. */

static void heap_put(struct loop *l, size_t i, struct loop_timer *t)
{
	l->heap[i] = t;
	t->heap_index = (int)i;
}

static void heap_up(struct loop *l, size_t i, struct loop_timer *t)
{
	while (i > 0) {
		size_t parent = (i - 1) / 2;

		if (l->heap[parent]->deadline_ns <= t->deadline_ns)
			break;
		heap_put(l, i, l->heap[parent]);
		i = parent;
	}
	heap_put(l, i, t);
}

static void heap_down(struct loop *l, size_t i, struct loop_timer *t)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= l->ntimers)
			break;
		if (child + 1 < l->ntimers &&
		    l->heap[child + 1]->deadline_ns < l->heap[child]->deadline_ns)
			child++;
		if (t->deadline_ns <= l->heap[child]->deadline_ns)
			break;
		heap_put(l, i, l->heap[child]);
		i = child;
	}
	heap_put(l, i, t);
}

/* Puts t where it belongs, given that place i is vacant. */
static void heap_settle(struct loop *l, size_t i, struct loop_timer *t)
{
	if (i > 0 && l->heap[(i - 1) / 2]->deadline_ns > t->deadline_ns)
		heap_up(l, i, t);
	else
		heap_down(l, i, t);
}

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	t->fn = fn;
	t->loop = l;
	t->deadline_ns = 0;
	t->heap_index = -1;
}

void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns)
{
	struct loop *l = t->loop;

	t->deadline_ns = deadline_ns;
	if (t->heap_index >= 0) {
		heap_settle(l, (size_t)t->heap_index, t);
		return;
	}
	if (l->ntimers == l->heap_cap) {
		size_t cap = l->heap_cap ? l->heap_cap * 2 : 64;
		struct loop_timer **heap = realloc(l->heap, cap * sizeof(struct loop_timer *));

		assert(heap); /* a few hundred bytes, and no caller could go on without its timer */
		l->heap = heap;
		l->heap_cap = cap;
	}
	l->ntimers++;
	heap_up(l, l->ntimers - 1, t);
}

void loop_timer_cancel(struct loop_timer *t)
{
	struct loop *l = t->loop;
	size_t i = (size_t)t->heap_index;
	struct loop_timer *last;

	if (!l || t->heap_index < 0)
		return;
	t->heap_index = -1;
	last = l->heap[--l->ntimers];
	if (last != t)
		heap_settle(l, i, last);
}

uint64_t loop_timers_next(const struct loop *l)
{
	return l->ntimers ? l->heap[0]->deadline_ns : UINT64_MAX;
}

int loop_timers_run(struct loop *l, uint64_t now)
{
	size_t budget = l->ntimers;
	int ran = 0;

	while (budget-- > 0 && l->ntimers && l->heap[0]->deadline_ns <= now) {
		struct loop_timer *t = l->heap[0];

		loop_timer_cancel(t);
		l->stats.callbacks++;
		t->fn(t);
		ran++;
	}
	return ran;
}
