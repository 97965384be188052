/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/enc.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "cmd/khyve-vnc/jpeg.h"
#include "cmd/khyve-vnc/pixel.h"
#include "cmd/khyve-vnc/view.h"

/*
 * Tight (rfbproto 7.7.7), for viewers that know no ZRLE and for those that want JPEG. Pieces of up to 256 colours, which
 * text is made of, are never JPEG.
 */
#define COLOURS_MAX 256
#define COLOUR_HASH 1024 /* power of two, > 2 * COLOURS_MAX */
#define TIGHT_LEVEL 2
#define PLAIN_MAX 12 /* less than this many bytes are not compressed */

/* Compression control; stream 0 is the only one used. */
enum { CONTROL_COPY = 0x00, CONTROL_FILTER = 0x40, CONTROL_FILL = 0x80, CONTROL_JPEG = 0x90 };
enum { FILTER_PALETTE = 1 };

struct tight {
	z_stream z;
	unsigned int n_colours; /* COLOURS_MAX + 1: too many */
	uint32_t colours[COLOURS_MAX];
	uint16_t slot[COLOUR_HASH]; /* 0: free, else index + 1 */
	uint32_t px[PIECE_MAX_PIXELS];
	uint8_t plain[PIECE_MAX_PIXELS * 4];
};

struct tight *tight_new(void)
{
	struct tight *t = calloc(1, sizeof(*t));

	if (t && deflateInit(&t->z, TIGHT_LEVEL) != Z_OK) {
		free(t);
		return NULL;
	}
	return t;
}

void tight_free(struct tight *t)
{
	if (!t)
		return;
	deflateEnd(&t->z);
	free(t);
}

/* The colour's place in the palette, new if need be; COLOURS_MAX when there is no room. */
static unsigned int colour_index(struct tight *t, uint32_t rgb)
{
	unsigned int h = (rgb * 2654435761u) >> 22 & (COLOUR_HASH - 1);

	while (t->slot[h]) {
		if (t->colours[t->slot[h] - 1] == rgb)
			return t->slot[h] - 1u;
		h = (h + 1) & (COLOUR_HASH - 1);
	}
	if (t->n_colours >= COLOURS_MAX) {
		t->n_colours = COLOURS_MAX + 1;
		return COLOURS_MAX;
	}
	t->colours[t->n_colours] = rgb;
	t->slot[h] = (uint16_t)++t->n_colours;
	return t->n_colours - 1;
}

static void load(struct tight *t, const struct view *v, const struct rect *r)
{
	for (unsigned int y = 0; y < r->h; y++)
		view_read(v, r->x, r->y + y, r->w, t->px + y * r->w);
	t->n_colours = 0;
	memset(t->slot, 0, sizeof(t->slot));
	for (unsigned int i = 0; i < r->w * r->h && t->n_colours <= COLOURS_MAX; i++)
		if (i == 0 || t->px[i] != t->px[i - 1])
			(void)colour_index(t, t->px[i]);
}

/* TPIXELs: red, green, blue where they have a byte each, else whole pixels. */
static size_t write_pixels(const struct pixel_conv *p, const uint32_t *src, size_t n, uint8_t *dst)
{
	if (!p->tpixel)
		return pixel_write(p, src, n, dst);
	for (size_t i = 0; i < n; i++) {
		dst[3 * i] = (uint8_t)(src[i] >> 16);
		dst[3 * i + 1] = (uint8_t)(src[i] >> 8);
		dst[3 * i + 2] = (uint8_t)src[i];
	}
	return 3 * n;
}

/* Places in the palette: a bit each for two colours, lines ending on byte boundaries, else a byte. */
static size_t write_indexes(struct tight *t, const struct rect *r)
{
	unsigned int bits = t->n_colours == 2 ? 1 : 8, acc = 0, filled = 0;
	uint8_t *dst = t->plain;

	for (unsigned int i = 0, x = 1; i < r->w * r->h; i++, x++) {
		acc = acc << bits | colour_index(t, t->px[i]);
		filled += bits;
		if (x == r->w) {
			acc <<= 8 - filled;
			filled = 8;
			x = 0;
		}
		if (filled == 8) {
			*dst++ = (uint8_t)acc;
			acc = filled = 0;
		}
	}
	return (size_t)(dst - t->plain);
}

/* 7 bits a byte, the lowest first; 8 in the third. */
static size_t write_length(uint8_t *dst, size_t len)
{
	size_t n = 0;

	for (; n < 2 && len > 127; len >>= 7)
		dst[n++] = (uint8_t)(len | 0x80);
	dst[n++] = (uint8_t)len;
	return n;
}

/* Puts the length in front of data that lie behind the longest one; returns the size of both. */
static size_t put_length(uint8_t *dst, size_t len)
{
	size_t head = write_length(dst, len);

	memmove(dst + head, dst + 3, len);
	return head + len;
}

/* The first len bytes of t->plain, with their compressed length in front. */
static int write_data(struct tight *t, size_t len, uint8_t *dst, size_t room)
{
	size_t packed;

	if (len < PLAIN_MAX) {
		memcpy(dst, t->plain, len);
		return (int)len;
	}
	t->z.next_in = t->plain;
	t->z.avail_in = (uInt)len;
	t->z.next_out = dst + 3;
	t->z.avail_out = (uInt)(room - 3);
	if (deflate(&t->z, Z_SYNC_FLUSH) != Z_OK || t->z.avail_in || !t->z.avail_out)
		return -EIO;
	packed = room - 3 - t->z.avail_out;
	return (int)put_length(dst, packed);
}

/* 0: it would be no shorter than the pixels. */
static size_t write_jpeg(struct tight *t, const struct pixel_conv *p, const struct rect *r,
			 int quality, uint8_t *dst)
{
	size_t room = (size_t)r->w * r->h * p->bytes;
	size_t len = jpeg_write(t->px, r->w, r->h, (unsigned int)quality, dst + 4, room);

	if (len == 0)
		return 0;
	dst[0] = CONTROL_JPEG;
	return 1 + put_length(dst + 1, len);
}

int tight_encode(struct tight *t, const struct view *v, const struct pixel_conv *p,
		 const struct rect *r, int quality, uint8_t *dst)
{
	size_t n = 1, len;
	int rc;

	load(t, v, r);
	if (t->n_colours == 1) {
		dst[0] = CONTROL_FILL;
		return (int)(1 + write_pixels(p, t->px, 1, dst + 1));
	}
	if (t->n_colours <= COLOURS_MAX) {
		dst[0] = CONTROL_FILTER;
		dst[1] = FILTER_PALETTE;
		dst[2] = (uint8_t)(t->n_colours - 1);
		n = 3 + write_pixels(p, t->colours, t->n_colours, dst + 3);
		len = write_indexes(t, r);
	} else {
		if (quality >= 0 && p->bytes > 1 && (n = write_jpeg(t, p, r, quality, dst)))
			return (int)n;
		n = 1;
		dst[0] = CONTROL_COPY;
		len = write_pixels(p, t->px, (size_t)r->w * r->h, t->plain);
	}
	rc = write_data(t, len, dst + n, ENC_MAX_SIZE - n);
	return rc < 0 ? rc : (int)n + rc;
}
