/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/enc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cmd/khyve-vnc/pixel.h"
#include "cmd/khyve-vnc/view.h"
#include "util/bytes.h"

#define ZRLE_TILE 64 /* pixels, RFC 6143 s7.7.6 */
#define ZRLE_PIXELS (ZRLE_TILE * ZRLE_TILE)
#define PALETTE_MAX 127
#define PALETTE_HASH 512 /* power of two, > 2 * PALETTE_MAX */
#define ZRLE_LEVEL 2 /* the palettes and runs did the larger part already */

/* Subencodings; 2..16 and 130..255 hold the size of the palette. */
enum { SUB_RAW = 0, SUB_SOLID = 1, SUB_RLE = 128 };

struct run {
	uint32_t rgb;
	uint16_t len; /* 1..4096 */
	uint8_t index; /* in the palette */
};

struct palette {
	unsigned int n; /* PALETTE_MAX + 1: too many colours */
	uint32_t rgb[PALETTE_MAX];
	uint8_t slot[PALETTE_HASH]; /* 0: free, else index + 1 */
};

struct zrle {
	z_stream z;
	unsigned int w, h; /* of the tile in px */
	uint32_t px[ZRLE_PIXELS];
	struct run runs[ZRLE_PIXELS];
	unsigned int n_runs;
	struct palette pal;
	uint8_t tile[ZRLE_PIXELS * 4 + 1]; /* the tile before deflate */
};

struct zrle *zrle_new(void)
{
	struct zrle *z = calloc(1, sizeof(*z));

	if (z && deflateInit(&z->z, ZRLE_LEVEL) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

void zrle_free(struct zrle *z)
{
	if (!z)
		return;
	deflateEnd(&z->z);
	free(z);
}

/* The colour's place in the palette, new if need be; PALETTE_MAX when there is no room. */
static unsigned int palette_index(struct palette *pal, uint32_t rgb)
{
	unsigned int h = (rgb * 2654435761u) >> 23 & (PALETTE_HASH - 1);

	while (pal->slot[h]) {
		if (pal->rgb[pal->slot[h] - 1] == rgb)
			return pal->slot[h] - 1u;
		h = (h + 1) & (PALETTE_HASH - 1);
	}
	if (pal->n >= PALETTE_MAX) {
		pal->n = PALETTE_MAX + 1;
		return PALETTE_MAX;
	}
	pal->rgb[pal->n] = rgb;
	pal->slot[h] = (uint8_t)++pal->n;
	return pal->n - 1;
}

/* Reads the tile and finds its runs and colours. */
static void tile_load(struct zrle *z, const struct view *v, unsigned int x, unsigned int y)
{
	unsigned int n = z->w * z->h;

	for (unsigned int i = 0; i < z->h; i++)
		view_read(v, x, y + i, z->w, z->px + i * z->w);
	z->n_runs = 0;
	z->pal.n = 0;
	memset(z->pal.slot, 0, sizeof(z->pal.slot));
	for (unsigned int i = 0; i < n;) {
		struct run *run = &z->runs[z->n_runs++];
		unsigned int j = i + 1;

		while (j < n && z->px[j] == z->px[i])
			j++;
		run->rgb = z->px[i];
		run->len = (uint16_t)(j - i);
		if (z->pal.n <= PALETTE_MAX)
			run->index = (uint8_t)palette_index(&z->pal, run->rgb);
		i = j;
	}
}

static unsigned int index_bits(unsigned int colours)
{
	if (colours <= 2)
		return 1;
	return colours <= 4 ? 2 : 4;
}

static size_t write_length(uint8_t *dst, unsigned int len)
{
	size_t n = 0;

	for (len--; len >= 255; len -= 255)
		dst[n++] = 255;
	dst[n++] = (uint8_t)len;
	return n;
}

static size_t write_palette(const struct zrle *z, const struct pixel_conv *p, uint8_t *dst)
{
	for (unsigned int i = 0; i < z->pal.n; i++)
		pixel_write_cpixel(p, z->pal.rgb[i], dst + i * p->cpixel_bytes);
	return z->pal.n * p->cpixel_bytes;
}

static size_t write_raw(struct zrle *z, const struct pixel_conv *p)
{
	uint8_t *dst = z->tile;

	*dst++ = SUB_RAW;
	for (unsigned int i = 0; i < z->w * z->h; i++) {
		pixel_write_cpixel(p, z->px[i], dst);
		dst += p->cpixel_bytes;
	}
	return (size_t)(dst - z->tile);
}

static size_t write_packed(struct zrle *z, const struct pixel_conv *p)
{
	unsigned int bits = index_bits(z->pal.n), x = 0, acc = 0, filled = 0;
	uint8_t *dst = z->tile;

	*dst++ = (uint8_t)z->pal.n;
	dst += write_palette(z, p, dst);
	for (unsigned int r = 0; r < z->n_runs; r++) {
		for (unsigned int i = 0; i < z->runs[r].len; i++) {
			acc = acc << bits | z->runs[r].index;
			filled += bits;
			if (++x == z->w) { /* lines end on byte boundaries */
				acc <<= 8 - filled;
				filled = 8;
				x = 0;
			}
			if (filled == 8) {
				*dst++ = (uint8_t)acc;
				acc = filled = 0;
			}
		}
	}
	return (size_t)(dst - z->tile);
}

static size_t write_rle(struct zrle *z, const struct pixel_conv *p)
{
	uint8_t *dst = z->tile;

	*dst++ = SUB_RLE;
	for (unsigned int r = 0; r < z->n_runs; r++) {
		pixel_write_cpixel(p, z->runs[r].rgb, dst);
		dst += p->cpixel_bytes;
		dst += write_length(dst, z->runs[r].len);
	}
	return (size_t)(dst - z->tile);
}

static size_t write_palette_rle(struct zrle *z, const struct pixel_conv *p)
{
	uint8_t *dst = z->tile;

	*dst++ = (uint8_t)(SUB_RLE + z->pal.n);
	dst += write_palette(z, p, dst);
	for (unsigned int r = 0; r < z->n_runs; r++) {
		const struct run *run = &z->runs[r];

		*dst++ = (uint8_t)(run->index | (run->len > 1 ? 0x80 : 0));
		if (run->len > 1)
			dst += write_length(dst, run->len);
	}
	return (size_t)(dst - z->tile);
}

/* Writes the tile in the shortest of the subencodings; returns its size, at most that of the raw one. */
static size_t tile_write(struct zrle *z, const struct pixel_conv *p)
{
	size_t raw = (size_t)z->w * z->h * p->cpixel_bytes, pal = z->pal.n * p->cpixel_bytes;
	size_t rle = 0, pal_rle = pal, packed = SIZE_MAX, best;

	if (z->pal.n == 1) {
		z->tile[0] = SUB_SOLID;
		pixel_write_cpixel(p, z->pal.rgb[0], z->tile + 1);
		return 1 + p->cpixel_bytes;
	}
	for (unsigned int r = 0; r < z->n_runs; r++) {
		size_t len = (z->runs[r].len - 1u) / 255 + 1;

		rle += p->cpixel_bytes + len;
		pal_rle += z->runs[r].len > 1 ? 1 + len : 1;
	}
	if (z->pal.n > PALETTE_MAX)
		pal_rle = SIZE_MAX;
	if (z->pal.n <= 16)
		packed = pal + (size_t)z->h * ((z->w * index_bits(z->pal.n) + 7) / 8);
	best = MIN(MIN(raw, rle), MIN(pal_rle, packed));
	if (best == packed)
		return write_packed(z, p);
	if (best == pal_rle)
		return write_palette_rle(z, p);
	return best == rle && rle < raw ? write_rle(z, p) : write_raw(z, p);
}

static int tile_deflate(struct zrle *z, size_t len, bool last)
{
	int rc;

	z->z.next_in = z->tile;
	z->z.avail_in = (uInt)len;
	rc = deflate(&z->z, last ? Z_SYNC_FLUSH : Z_NO_FLUSH);
	/* Room to spare afterwards is zlib's sign that a flush is complete. */
	return rc == Z_OK && z->z.avail_in == 0 && z->z.avail_out > 0 ? 0 : -EIO;
}

int zrle_encode(struct zrle *z, const struct view *v, const struct pixel_conv *p,
		const struct rect *r, uint8_t *dst)
{
	unsigned int x_end = r->x + r->w, y_end = r->y + r->h;

	z->z.next_out = dst + 4;
	z->z.avail_out = ENC_MAX_SIZE - 4;
	for (unsigned int y = r->y; y < y_end; y += ZRLE_TILE) {
		for (unsigned int x = r->x; x < x_end; x += ZRLE_TILE) {
			bool last = x + ZRLE_TILE >= x_end && y + ZRLE_TILE >= y_end;
			int rc;

			z->w = MIN((unsigned int)ZRLE_TILE, x_end - x);
			z->h = MIN((unsigned int)ZRLE_TILE, y_end - y);
			tile_load(z, v, x, y);
			rc = tile_deflate(z, tile_write(z, p), last);
			if (rc < 0)
				return rc;
		}
	}
	put_be32(dst, (uint32_t)(ENC_MAX_SIZE - 4 - z->z.avail_out));
	return (int)(ENC_MAX_SIZE - z->z.avail_out);
}
