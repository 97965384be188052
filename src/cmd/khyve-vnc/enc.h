/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_ENC_H
#define CMD_KHYVE_VNC_ENC_H

#include <stddef.h>
#include <stdint.h>

#include "cmd/khyve-vnc/damage.h"

struct pixel_conv;
struct tight;
struct view;
struct zlib;
struct zrle;

/* Space that any encoder needs at most for the data of one piece: no encoding is longer than raw by more than this. */
#define ENC_MAX_SIZE (PIECE_MAX_PIXELS * 4 + 8192)

/* Raw (RFC 6143 s7.7.1): returns the bytes written to dst, which holds ENC_MAX_SIZE. */
size_t enc_raw(const struct view *v, const struct pixel_conv *p, const struct rect *r,
	       uint8_t *dst);

/* Hextile (RFC 6143 s7.7.4): the same. */
size_t enc_hextile(const struct view *v, const struct pixel_conv *p, const struct rect *r,
		   uint8_t *dst);

/* One stream per viewer: its history goes on from piece to piece. NULL when out of memory. */
struct zrle *zrle_new(void);
void zrle_free(struct zrle *z);
/* ZRLE (RFC 6143 s7.7.6) with its length in front; dst holds ENC_MAX_SIZE. Bytes written, or -EIO if zlib fails. */
int zrle_encode(struct zrle *z, const struct view *v, const struct pixel_conv *p,
		const struct rect *r, uint8_t *dst);

/* The same for zlib (rfbproto 7.7.6). */
struct zlib *zlib_new(void);
void zlib_free(struct zlib *z);
int zlib_encode(struct zlib *z, const struct view *v, const struct pixel_conv *p,
		const struct rect *r, uint8_t *dst);

/* The same for Tight (rfbproto 7.7.7). quality: of JPEG for pieces of many colours, 0 to 9; -1: nothing is lost. */
struct tight *tight_new(void);
void tight_free(struct tight *t);
int tight_encode(struct tight *t, const struct view *v, const struct pixel_conv *p,
		 const struct rect *r, int quality, uint8_t *dst);

#endif
