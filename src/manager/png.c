/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/png.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "util/bytes.h"
#include "util/checked.h"

/* Portable Network Graphics (ISO/IEC 15948): one IDAT chunk; each line as its difference to the one above. */

#define FILTER_UP 2
#define CHUNK_MORE 12 /* length, name and sum around a chunk's data (s5.3) */
#define LEVEL 6

static const uint8_t signature[] = { 0x89, 'P', 'N', 'G', 13, 10, 26, 10 };

/* Puts length, name and sum around data that lies at at + 8 already. Returns the end. */
static uint8_t *close_chunk(uint8_t *at, const char *name, size_t len)
{
	put_be32(at, (uint32_t)len);
	memcpy(at + 4, name, 4);
	put_be32(at + 8 + len, (uint32_t)crc32(crc32(0, NULL, 0), at + 4, (uInt)len + 4));
	return at + len + CHUNK_MORE;
}

/* One line: its filter, then RGB less what the line above had, which is replaced. */
static void filter_line(const uint8_t *pixels, uint32_t width, uint8_t *above, uint8_t *out)
{
	*out++ = FILTER_UP;
	for (uint32_t x = 0; x < width; x++, pixels += 4) {
		for (unsigned c = 0; c < 3; c++) {
			uint8_t value = pixels[2 - c];

			*out++ = (uint8_t)(value - *above);
			*above++ = value;
		}
	}
}

/* above and line have a picture's line each. Returns zlib's verdict; *len is how much is left, then was written. */
static int deflate_lines(const struct png_picture *p, uint8_t *above, uint8_t *line, uint8_t *to,
			 size_t *len)
{
	z_stream z = { .next_out = to, .avail_out = (uInt)*len };
	int r = deflateInit(&z, LEVEL);

	for (uint32_t y = 0; r == Z_OK && y < p->height; y++) {
		filter_line(p->pixels + y * p->stride, p->width, above, line);
		z.next_in = line;
		z.avail_in = 1 + 3 * p->width;
		r = deflate(&z, Z_NO_FLUSH);
	}
	if (r == Z_OK)
		r = deflate(&z, Z_FINISH);
	*len = z.total_out;
	deflateEnd(&z);
	return r;
}

int png_encode(const struct png_picture *p, uint8_t **out, size_t *len)
{
	size_t line = 1 + 3 * (size_t)p->width, room;
	uint64_t raw;
	uint8_t *lines, *png = NULL, *at;
	int r;

	if (!checked_mul(line, p->height, &raw) || raw > INT32_MAX)
		return -EFBIG;
	room = compressBound(raw);
	lines = calloc(2, line);
	png = malloc(sizeof(signature) + 13 + room + 3 * CHUNK_MORE);
	if (!lines || !png) {
		free(lines);
		free(png);
		return -ENOMEM;
	}
	memcpy(png, signature, sizeof(signature));
	at = png + sizeof(signature);
	put_be32(at + 8, p->width);
	put_be32(at + 12, p->height);
	memcpy(at + 16, "\x08\x02\0\0\0",
	       5); /* 8 bits, RGB, the one way to compress and to filter, no interlace */
	at = close_chunk(at, "IHDR", 13);
	r = deflate_lines(p, lines, lines + line, at + 8, &room);
	free(lines);
	if (r != Z_STREAM_END) {
		free(png);
		return r == Z_MEM_ERROR ? -ENOMEM : -EIO;
	}
	at = close_chunk(at, "IDAT", room);
	at = close_chunk(at, "IEND", 0);
	*out = png;
	*len = (size_t)(at - png);
	return 0;
}
