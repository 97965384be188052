/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/damage.h"

#include "util/macros.h"

bool rect_clip(struct rect *r, const struct rect *b)
{
	unsigned int x1 = MIN(r->x + r->w, b->x + b->w), y1 = MIN(r->y + r->h, b->y + b->h);
	unsigned int x0 = MAX(r->x, b->x), y0 = MAX(r->y, b->y);

	if (x0 >= x1 || y0 >= y1) {
		*r = (struct rect){ 0 };
		return false;
	}
	*r = (struct rect){ .x = x0, .y = y0, .w = x1 - x0, .h = y1 - y0 };
	return true;
}

void rect_join(struct rect *r, const struct rect *b)
{
	unsigned int x1 = MAX(r->x + r->w, b->x + b->w), y1 = MAX(r->y + r->h, b->y + b->h);

	if (r->w == 0 || r->h == 0) {
		*r = *b;
		return;
	}
	r->x = MIN(r->x, b->x);
	r->y = MIN(r->y, b->y);
	r->w = x1 - r->x;
	r->h = y1 - r->y;
}

/* Bits of the tile columns first to end - 1. */
static uint64_t col_mask(unsigned int first, unsigned int end)
{
	return first >= end ? 0 : (BIT64(end - first) - 1) << first;
}

void damage_add_rect(struct damage *d, const struct rect *r)
{
	uint64_t mask;

	if (r->w == 0 || r->h == 0)
		return;
	mask = col_mask(r->x / TILE_WIDTH, (r->x + r->w - 1) / TILE_WIDTH + 1);
	for (unsigned int y = r->y / TILE_HEIGHT; y <= (r->y + r->h - 1) / TILE_HEIGHT; y++)
		d->row[y] |= mask;
}

void damage_add(struct damage *d, const struct damage *more)
{
	for (unsigned int y = 0; y < TILE_ROWS; y++)
		d->row[y] |= more->row[y];
}

bool damage_empty(const struct damage *d)
{
	uint64_t any = 0;

	for (unsigned int y = 0; y < TILE_ROWS; y++)
		any |= d->row[y];
	return any == 0;
}

void damage_split(struct damage *d, const struct rect *region, const struct rect *bounds,
		  struct damage *todo)
{
	unsigned int x1 = region->x + region->w, y1 = region->y + region->h;
	uint64_t touched = col_mask(region->x / TILE_WIDTH, (x1 + TILE_WIDTH - 1) / TILE_WIDTH);
	uint64_t covered = col_mask((region->x + TILE_WIDTH - 1) / TILE_WIDTH,
				    (x1 == bounds->w ? x1 + TILE_WIDTH - 1 : x1) / TILE_WIDTH);

	*todo = (struct damage){ 0 };
	for (unsigned int r = region->y / TILE_HEIGHT; r * TILE_HEIGHT < y1; r++) {
		unsigned int top = r * TILE_HEIGHT, bottom = MIN(top + TILE_HEIGHT, bounds->h);

		todo->row[r] = d->row[r] & touched;
		if (top >= region->y && bottom <= y1)
			d->row[r] &= ~covered;
	}
}

bool damage_next(struct damage *d, struct rect *piece)
{
	unsigned int r = 0, rows = 1, col, cols;
	uint64_t mask;

	while (r < TILE_ROWS && d->row[r] == 0)
		r++;
	if (r == TILE_ROWS)
		return false;
	col = (unsigned int)__builtin_ctzll(d->row[r]);
	cols = (unsigned int)__builtin_ctzll(~(d->row[r] >> col));
	cols = MIN(cols, (unsigned int)PIECE_MAX_COLS);
	mask = col_mask(col, col + cols);
	while (rows < PIECE_MAX_ROWS && r + rows < TILE_ROWS && (d->row[r + rows] & mask) == mask)
		rows++;
	for (unsigned int i = 0; i < rows; i++)
		d->row[r + i] &= ~mask;
	*piece = (struct rect){ .x = col * TILE_WIDTH,
				.y = r * TILE_HEIGHT,
				.w = cols * TILE_WIDTH,
				.h = rows * TILE_HEIGHT };
	return true;
}

unsigned int damage_count(const struct damage *d)
{
	struct damage copy = *d;
	struct rect piece;
	unsigned int n = 0;

	while (damage_next(&copy, &piece))
		n++;
	return n;
}
