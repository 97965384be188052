/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BUS_MAP_PRIV_H
#define BUS_MAP_PRIV_H

#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

/*
 * One address space. Writers hold the bus's mutex; readers take nothing: they retry when the sequence counter moved.
 * Every field that both sides touch is accessed with atomics, so that a reader that loses the race reads old or new
 * numbers, never torn ones, and throws them away.
 */
#define MAP_MAX_SPANS (2 * BUS_MAX_REGIONS)

/* An interval of addresses owned by one region: overlaps are resolved when the map changes, not at lookup. */
struct map_span {
	uint64_t first, last; /* inclusive: the space ends at 2^64 - 1 */
	uint64_t base, end; /* first and last address of the whole region */
	struct bus_region *region;
};

struct map {
	uint64_t limit; /* last address of the space */
	size_t nregions;
	struct bus_region *regions[BUS_MAX_REGIONS]; /* in the order they were mapped */
	uint32_t seq; /* odd while the spans change */
	size_t nspans;
	struct map_span spans[MAP_MAX_SPANS]; /* ascending, apart */
};

/* Under the bus's mutex. 0, -ENOSPC or -EINVAL. */
int map_add(struct map *m, struct bus_region *r, uint64_t base);
void map_del(struct map *m, struct bus_region *r);
/* Any thread. The span that holds addr; false: nobody's. */
bool map_find(const struct map *m, uint64_t addr, struct map_span *out);

#endif
