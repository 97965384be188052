/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_DAMAGE_H
#define CMD_KHYVE_VNC_DAMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "back/screen.h"

/* The screen in tiles, one bit each: what changed, and what is still to be sent to one viewer. */
#define TILE_WIDTH 64
#define TILE_HEIGHT 16
#define TILE_COLS (SCREEN_MAX_WIDTH / TILE_WIDTH)
#define TILE_ROWS (SCREEN_MAX_HEIGHT / TILE_HEIGHT)
_Static_assert(SCREEN_MAX_WIDTH % TILE_WIDTH == 0 && TILE_COLS <= 64, "a tile row is one word");
_Static_assert(SCREEN_MAX_HEIGHT % TILE_HEIGHT == 0, "whole tile rows");

/* A piece is what is encoded in one go: at most 8 x 4 tiles, so that no viewer waits long for another's. */
#define PIECE_MAX_COLS 8
#define PIECE_MAX_ROWS 4
#define PIECE_MAX_PIXELS (PIECE_MAX_COLS * TILE_WIDTH * PIECE_MAX_ROWS * TILE_HEIGHT)

/* In pixels. All rectangles below lie inside SCREEN_MAX_WIDTH x SCREEN_MAX_HEIGHT. */
struct rect {
	unsigned int x, y, w, h;
};

struct damage {
	uint64_t row[TILE_ROWS];
};

/* Clips r to b. False (r is then 0 x 0) if they do not meet. */
bool rect_clip(struct rect *r, const struct rect *b);
/* Grows r to hold b too. An empty r becomes b. */
void rect_join(struct rect *r, const struct rect *b);

/* Marks every tile that r touches. */
void damage_add_rect(struct damage *d, const struct rect *r);
void damage_add(struct damage *d, const struct damage *more);
bool damage_empty(const struct damage *d);

/*
 * Copies the tiles of d that touch region to todo and takes those from d that region covers wholly, as far as they
 * lie on a screen of the size of bounds. region lies inside bounds, which starts at 0,0.
 */
void damage_split(struct damage *d, const struct rect *region, const struct rect *bounds,
		  struct damage *todo);

/* Takes the next piece out of d. False: nothing is left. The piece may reach beyond the screen's right and bottom. */
bool damage_next(struct damage *d, struct rect *piece);
/* Number of pieces that damage_next() would return. */
unsigned int damage_count(const struct damage *d);

#endif
