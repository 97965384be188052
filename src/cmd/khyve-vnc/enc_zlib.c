/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/enc.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#include "util/bytes.h"

#define ZLIB_LEVEL 2

struct zlib {
	z_stream z;
	uint8_t plain[PIECE_MAX_PIXELS * 4];
};

struct zlib *zlib_new(void)
{
	struct zlib *z = calloc(1, sizeof(*z));

	if (z && deflateInit(&z->z, ZLIB_LEVEL) != Z_OK) {
		free(z);
		return NULL;
	}
	return z;
}

void zlib_free(struct zlib *z)
{
	if (!z)
		return;
	deflateEnd(&z->z);
	free(z);
}

int zlib_encode(struct zlib *z, const struct view *v, const struct pixel_conv *p,
		const struct rect *r, uint8_t *dst)
{
	z->z.next_in = z->plain;
	z->z.avail_in = (uInt)enc_raw(v, p, r, z->plain);
	z->z.next_out = dst + 4;
	z->z.avail_out = ENC_MAX_SIZE - 4;
	if (deflate(&z->z, Z_SYNC_FLUSH) != Z_OK || z->z.avail_in || !z->z.avail_out)
		return -EIO;
	put_be32(dst, (uint32_t)(ENC_MAX_SIZE - 4 - z->z.avail_out));
	return (int)(ENC_MAX_SIZE - z->z.avail_out);
}
