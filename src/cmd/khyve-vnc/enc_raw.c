/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/enc.h"

#include "cmd/khyve-vnc/pixel.h"
#include "cmd/khyve-vnc/view.h"

size_t enc_raw(const struct view *v, const struct pixel_conv *p, const struct rect *r, uint8_t *dst)
{
	uint32_t line[PIECE_MAX_COLS * TILE_WIDTH];
	size_t len = 0;

	for (unsigned int y = 0; y < r->h; y++) {
		view_read(v, r->x, r->y + y, r->w, line);
		len += pixel_write(p, line, r->w, dst + len);
	}
	return len;
}
