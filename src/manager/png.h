/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PNG_H
#define MANAGER_PNG_H

#include <stddef.h>
#include <stdint.h>

/* A picture as it lies in memory: four bytes a pixel, blue, green, red and one that means nothing. */
struct png_picture {
	const uint8_t *pixels;
	uint32_t width, height; /* not 0 */
	size_t stride; /* bytes from one line to the next */
};

/*
 * Makes a PNG file of it, RGB with 8 bits. The picture may change meanwhile. The caller frees *out. -ENOMEM, -EFBIG.
 */
int png_encode(const struct png_picture *p, uint8_t **out, size_t *len);

#endif
