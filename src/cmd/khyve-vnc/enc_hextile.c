/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/enc.h"

#include <stdbool.h>

#include "cmd/khyve-vnc/pixel.h"
#include "cmd/khyve-vnc/view.h"
#include "util/macros.h"

#define HEXTILE_SIZE 16 /* pixels, RFC 6143 s7.7.4 */
#define SUBRECTS_MAX 255

enum { SUB_RAW = 1, SUB_BACKGROUND = 2, SUB_FOREGROUND = 4, SUB_RECTS = 8, SUB_COLOURED = 16 };

struct tile {
	unsigned int w, h;
	uint32_t px[HEXTILE_SIZE * HEXTILE_SIZE];
	uint32_t background, foreground; /* the last one only if there are two colours */
	unsigned int colours; /* 1, 2, or 3 for more */
};

/* What tiles hand on to the next one of the rectangle. */
struct carry {
	bool background_valid, foreground_valid;
	uint32_t background, foreground;
};

/* The background is the more frequent one of the first two colours. */
static void tile_load(struct tile *t, const struct view *v, unsigned int x, unsigned int y)
{
	unsigned int n = t->w * t->h, first = 0, second = 0;

	for (unsigned int i = 0; i < t->h; i++)
		view_read(v, x, y + i, t->w, t->px + i * t->w);
	t->colours = 1;
	t->background = t->foreground = t->px[0];
	for (unsigned int i = 0; i < n; i++) {
		if (t->px[i] == t->background) {
			first++;
			continue;
		}
		if (t->colours == 1) {
			t->colours = 2;
			t->foreground = t->px[i];
		}
		if (t->px[i] == t->foreground)
			second++;
		else
			t->colours = 3;
	}
	if (second > first) {
		uint32_t rgb = t->background;

		t->background = t->foreground;
		t->foreground = rgb;
	}
}

static bool line_is(const struct tile *t, unsigned int at, unsigned int n, uint32_t rgb)
{
	for (unsigned int i = 0; i < n; i++)
		if (t->px[at + i] != rgb)
			return false;
	return true;
}

/* Takes the subrectangle that begins at pixel number at out of the tile: it is background then. */
static void take_subrect(struct tile *t, unsigned int at, uint8_t wire[2])
{
	unsigned int x = at % t->w, y = at / t->w, w = 1, h = 1;
	uint32_t rgb = t->px[at];

	while (x + w < t->w && t->px[at + w] == rgb)
		w++;
	while (y + h < t->h && line_is(t, at + h * t->w, w, rgb))
		h++;
	for (unsigned int i = 0; i < w * h; i++)
		t->px[at + i / w * t->w + i % w] = t->background;
	wire[0] = (uint8_t)(x << 4 | y);
	wire[1] = (uint8_t)((w - 1) << 4 | (h - 1));
}

/* Writes number and list of the subrectangles. 0: they are longer than room or too many. */
static size_t write_subrects(struct tile *t, const struct pixel_conv *p, uint8_t *dst, size_t room)
{
	size_t each = 2 + (t->colours > 2 ? p->bytes : 0), len = 1;
	unsigned int n = 0;

	for (unsigned int i = 0; i < t->w * t->h; i++) {
		if (t->px[i] == t->background)
			continue;
		if (n == SUBRECTS_MAX || len + each > room)
			return 0;
		if (t->colours > 2)
			len += pixel_write(p, &t->px[i], 1, dst + len);
		take_subrect(t, i, dst + len);
		len += 2;
		n++;
	}
	dst[0] = (uint8_t)n;
	return len;
}

/* 0: as long as raw, or longer. */
static size_t write_tile(struct tile *t, const struct pixel_conv *p, struct carry *c, uint8_t *dst)
{
	size_t raw = 1 + (size_t)t->w * t->h * p->bytes, len = 1, rects;

	dst[0] = 0;
	if (!c->background_valid || c->background != t->background) {
		dst[0] |= SUB_BACKGROUND;
		len += pixel_write(p, &t->background, 1, dst + len);
	}
	if (t->colours == 2 && (!c->foreground_valid || c->foreground != t->foreground)) {
		dst[0] |= SUB_FOREGROUND;
		len += pixel_write(p, &t->foreground, 1, dst + len);
	}
	if (t->colours > 1) {
		dst[0] |= t->colours > 2 ? SUB_RECTS | SUB_COLOURED : SUB_RECTS;
		if (len >= raw)
			return 0;
		rects = write_subrects(t, p, dst + len, raw - len);
		if (rects == 0)
			return 0;
		len += rects;
	}
	c->background_valid = true;
	c->background = t->background;
	if (t->colours > 1) {
		c->foreground_valid = t->colours == 2;
		c->foreground = t->foreground;
	}
	return len;
}

size_t enc_hextile(const struct view *v, const struct pixel_conv *p, const struct rect *r,
		   uint8_t *dst)
{
	unsigned int x_end = r->x + r->w, y_end = r->y + r->h;
	struct carry carry = { 0 };
	struct tile t = { 0 };
	size_t len = 0;

	for (unsigned int y = r->y; y < y_end; y += HEXTILE_SIZE) {
		for (unsigned int x = r->x; x < x_end; x += HEXTILE_SIZE) {
			struct rect tile = { .x = x, .y = y };
			size_t n;

			t.w = tile.w = MIN((unsigned int)HEXTILE_SIZE, x_end - x);
			t.h = tile.h = MIN((unsigned int)HEXTILE_SIZE, y_end - y);
			tile_load(&t, v, x, y);
			n = write_tile(&t, p, &carry, dst + len);
			if (n == 0) {
				carry = (struct carry){ 0 };
				dst[len] = SUB_RAW;
				n = 1 + enc_raw(v, p, &tile, dst + len + 1);
			}
			len += n;
		}
	}
	return len;
}
