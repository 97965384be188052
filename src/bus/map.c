/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bus/map_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "util/checked.h"

static uint64_t region_last(const struct bus_region *r)
{
	return r->base + (r->len - 1);
}

static int compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* The region with the highest priority at addr; among equals the one mapped first. */
static struct bus_region *winner_at(const struct map *m, uint64_t addr)
{
	struct bus_region *best = NULL;

	for (size_t i = 0; i < m->nregions; i++) {
		struct bus_region *r = m->regions[i];

		if (addr >= r->base && addr <= region_last(r) &&
		    (!best || r->priority > best->priority))
			best = r;
	}
	return best;
}

/* Ascending addresses at which the owner may change. Returns how many. */
static size_t collect_edges(const struct map *m, uint64_t *edges)
{
	size_t n = 0;

	for (size_t i = 0; i < m->nregions; i++) {
		edges[n++] = m->regions[i]->base;
		if (region_last(m->regions[i]) < m->limit)
			edges[n++] = region_last(m->regions[i]) + 1;
	}
	if (n > 1)
		qsort(edges, n, sizeof(edges[0]), compare_u64);
	return n;
}

/* Readers load with acquire and check seq afterwards; storing with release keeps the odd seq before every field. */
static void store_span(struct map_span *to, const struct map_span *from)
{
	__atomic_store_n(&to->first, from->first, __ATOMIC_RELEASE);
	__atomic_store_n(&to->last, from->last, __ATOMIC_RELEASE);
	__atomic_store_n(&to->base, from->base, __ATOMIC_RELEASE);
	__atomic_store_n(&to->end, from->end, __ATOMIC_RELEASE);
	__atomic_store_n(&to->region, from->region, __ATOMIC_RELEASE);
}

/* Rebuilds the spans from the regions. Rare and small: a guest moves a BAR a few times in its life. */
static void rebuild(struct map *m)
{
	uint64_t edges[MAP_MAX_SPANS];
	size_t nedges = collect_edges(m, edges), n = 0;
	struct map_span span = { .region = NULL };

	__atomic_store_n(&m->seq, m->seq + 1, __ATOMIC_RELAXED);
	for (size_t i = 0; i < nedges; i++) {
		uint64_t last = i + 1 < nedges ? edges[i + 1] - 1 : m->limit;
		struct bus_region *r;

		if (i + 1 < nedges && edges[i + 1] == edges[i])
			continue;
		r = winner_at(m, edges[i]);
		if (r && r == span.region && span.last + 1 == edges[i]) {
			n--;
		} else if (r) {
			span.first = edges[i];
			span.base = r->base;
			span.end = region_last(r);
			span.region = r;
		} else {
			continue;
		}
		span.last = last;
		store_span(&m->spans[n++], &span);
	}
	__atomic_store_n(&m->nspans, n, __ATOMIC_RELEASE);
	__atomic_store_n(&m->seq, m->seq + 1, __ATOMIC_RELEASE);
}

int map_add(struct map *m, struct bus_region *r, uint64_t base)
{
	uint64_t last;

	assert(!r->mapped);
	if (r->len == 0 || !checked_add(base, r->len - 1, &last) || last > m->limit)
		return -EINVAL;
	if (m->nregions == BUS_MAX_REGIONS)
		return -ENOSPC;
	r->base = base;
	r->mapped = true;
	m->regions[m->nregions++] = r;
	rebuild(m);
	return 0;
}

void map_del(struct map *m, struct bus_region *r)
{
	size_t i = 0;

	if (!r->mapped)
		return;
	while (m->regions[i] != r)
		i++;
	m->nregions--;
	for (; i < m->nregions; i++)
		m->regions[i] = m->regions[i + 1];
	r->mapped = false;
	rebuild(m);
}

/* Binary search without a lock: a map that changes meanwhile gives a wrong answer, which the caller discards. */
static bool search(const struct map *m, uint64_t addr, struct map_span *out)
{
	size_t low = 0, high = __atomic_load_n(&m->nspans, __ATOMIC_ACQUIRE);

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct map_span *s = &m->spans[mid];

		if (addr < __atomic_load_n(&s->first, __ATOMIC_ACQUIRE)) {
			high = mid;
		} else if (addr > __atomic_load_n(&s->last, __ATOMIC_ACQUIRE)) {
			low = mid + 1;
		} else {
			out->first = __atomic_load_n(&s->first, __ATOMIC_ACQUIRE);
			out->last = __atomic_load_n(&s->last, __ATOMIC_ACQUIRE);
			out->base = __atomic_load_n(&s->base, __ATOMIC_ACQUIRE);
			out->end = __atomic_load_n(&s->end, __ATOMIC_ACQUIRE);
			out->region = __atomic_load_n(&s->region, __ATOMIC_ACQUIRE);
			return true;
		}
	}
	return false;
}

bool map_find(const struct map *m, uint64_t addr, struct map_span *out)
{
	for (;;) {
		uint32_t seq = __atomic_load_n(&m->seq, __ATOMIC_ACQUIRE);
		struct map_span span;
		bool found;

		if (seq & 1)
			continue;
		found = search(m, addr, &span);
		if (__atomic_load_n(&m->seq, __ATOMIC_RELAXED) != seq)
			continue;
		if (found)
			*out = span;
		return found;
	}
}
