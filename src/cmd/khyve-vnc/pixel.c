/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/pixel.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/macros.h"

/* Offsets in PIXEL_FORMAT, RFC 6143 s7.4. */
enum {
	PF_BITS_PER_PIXEL = 0,
	PF_DEPTH = 1,
	PF_BIG_ENDIAN = 2,
	PF_TRUE_COLOUR = 3,
	PF_MAX = 4, /* three of two bytes */
	PF_SHIFT = 10, /* three of one byte */
};

void pixel_format_native(uint8_t wire[PIXEL_FORMAT_SIZE])
{
	static const uint8_t native[PIXEL_FORMAT_SIZE] = {
		[PF_BITS_PER_PIXEL] = 32, [PF_DEPTH] = 24,    [PF_TRUE_COLOUR] = 1,
		[PF_MAX + 1] = 255,	  [PF_MAX + 3] = 255, [PF_MAX + 5] = 255,
		[PF_SHIFT] = 16,	  [PF_SHIFT + 1] = 8,
	};

	memcpy(wire, native, sizeof(native));
}

/* The bits of one colour in a pixel, or 0 if it does not fit: a maximum is 2^n - 1, n > 0. */
static uint32_t colour_mask(const uint8_t *wire, int colour)
{
	uint32_t max = get_be16(wire + PF_MAX + 2 * colour);
	unsigned int shift = wire[PF_SHIFT + colour];
	uint64_t mask;

	if (max == 0 || (max & (max + 1)) != 0 || shift > 31)
		return 0;
	mask = (uint64_t)max << shift;
	return mask >> wire[PF_BITS_PER_PIXEL] ? 0 : (uint32_t)mask;
}

static uint32_t wire_order(uint32_t v, unsigned int bytes, bool big_endian)
{
	if (!big_endian || bytes == 1)
		return v;
	return bytes == 2 ? __builtin_bswap16((uint16_t)v) : __builtin_bswap32(v);
}

/* RFC 6143 s7.7.5: three bytes suffice when depth <= 24 and one end byte of the pixel holds no colour. */
static void choose_cpixel(struct pixel_conv *p, const uint8_t *wire, uint32_t used)
{
	bool low = (used & 0xff000000) == 0, high = (used & 0xff) == 0;
	bool be = wire[PF_BIG_ENDIAN] != 0;

	p->cpixel_bytes = p->bytes;
	p->cpixel_skip = 0;
	if (p->bytes != 4 || wire[PF_DEPTH] > 24 || (!low && !high))
		return;
	p->cpixel_bytes = 3;
	p->cpixel_skip = (low && !be) || (high && be) ? 0 : 1;
}

int pixel_conv_init(struct pixel_conv *p, const uint8_t wire[PIXEL_FORMAT_SIZE])
{
	unsigned int bpp = wire[PF_BITS_PER_PIXEL], depth = wire[PF_DEPTH];
	uint8_t native[PIXEL_FORMAT_SIZE];
	uint32_t mask[3];

	if ((bpp != 8 && bpp != 16 && bpp != 32) || depth == 0 || depth > bpp)
		return -EINVAL;
	if (!wire[PF_TRUE_COLOUR])
		return -EINVAL;
	for (int c = 0; c < 3; c++)
		mask[c] = colour_mask(wire, c);
	if (!mask[0] || !mask[1] || !mask[2])
		return -EINVAL;
	if ((mask[0] & mask[1]) || (mask[0] & mask[2]) || (mask[1] & mask[2]))
		return -EINVAL;
	p->bytes = bpp / 8;
	for (int c = 0; c < 3; c++) {
		uint32_t max = get_be16(wire + PF_MAX + 2 * c);
		unsigned int shift = wire[PF_SHIFT + c];

		for (uint32_t v = 0; v < 256; v++)
			p->table[c][v] = wire_order(((v * max + 127) / 255) << shift, p->bytes,
						    wire[PF_BIG_ENDIAN] != 0);
	}
	choose_cpixel(p, wire, mask[0] | mask[1] | mask[2]);
	pixel_format_native(native);
	p->tpixel = bpp == 32 && depth == 24 && memcmp(wire + PF_MAX, native + PF_MAX, 6) == 0;
	p->native =
		bpp == 32 && !wire[PF_BIG_ENDIAN] && memcmp(wire + PF_MAX, native + PF_MAX, 9) == 0;
	return 0;
}

static uint32_t convert(const struct pixel_conv *p, uint32_t rgb)
{
	return p->table[0][rgb >> 16 & 0xff] | p->table[1][rgb >> 8 & 0xff] |
	       p->table[2][rgb & 0xff];
}

size_t pixel_write(const struct pixel_conv *p, const uint32_t *src, size_t n, uint8_t *dst)
{
	if (p->native) {
		memcpy(dst, src, n * 4);
		return n * 4;
	}
	for (size_t i = 0; i < n; i++) {
		uint32_t v = convert(p, src[i]);

		if (p->bytes == 4)
			put_le32(dst + i * 4, v);
		else if (p->bytes == 2)
			put_le16(dst + i * 2, (uint16_t)v);
		else
			dst[i] = (uint8_t)v;
	}
	return n * p->bytes;
}

void pixel_write_cpixel(const struct pixel_conv *p, uint32_t rgb, uint8_t *dst)
{
	uint32_t v = convert(p, rgb) >> (8 * p->cpixel_skip);

	for (unsigned int i = 0; i < p->cpixel_bytes; i++)
		dst[i] = (uint8_t)(v >> (8 * i));
}
