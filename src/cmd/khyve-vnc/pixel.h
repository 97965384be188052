/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_PIXEL_H
#define CMD_KHYVE_VNC_PIXEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIXEL_FORMAT_SIZE 16 /* RFC 6143 s7.4 */

/* How pixels of the screen (0x00RRGGBB) become the bytes one viewer asked for. */
struct pixel_conv {
	unsigned int bytes; /* per pixel: 1, 2 or 4 */
	unsigned int cpixel_bytes,
		cpixel_skip; /* RFC 6143 s7.7.5: part of the pixel that is sent */
	bool native; /* the viewer's pixels are the screen's */
	bool tpixel; /* Tight sends red, green and blue (rfbproto 7.7.7) */
	uint32_t table[3][256]; /* red, green, blue: bits in wire order, ready to be or-ed */
};

/* The format of the screen itself: 32 bit little endian, as ServerInit announces it. */
void pixel_format_native(uint8_t wire[PIXEL_FORMAT_SIZE]);
/* Reads a pixel format from the wire. -EINVAL, p untouched: not true colour, or no possible layout. */
int pixel_conv_init(struct pixel_conv *p, const uint8_t wire[PIXEL_FORMAT_SIZE]);

/* Converts n pixels; returns the number of bytes written, n * p->bytes. */
size_t pixel_write(const struct pixel_conv *p, const uint32_t *src, size_t n, uint8_t *dst);
/* Writes one compressed pixel of ZRLE: p->cpixel_bytes. */
void pixel_write_cpixel(const struct pixel_conv *p, uint32_t rgb, uint8_t *dst);

#endif
