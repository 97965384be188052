/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_JPEG_H
#define CMD_KHYVE_VNC_JPEG_H

#include <stddef.h>
#include <stdint.h>

#define JPEG_LEVELS 10 /* of quality, rfbproto: JPEG Quality Level Pseudo-encoding */

/*
 * Compresses w x h pixels (0x00RRGGBB) as a JFIF stream. Returns its length, or 0 if it does not fit or cannot be
 * made: send them as they are then. level: 0 to JPEG_LEVELS - 1, the best.
 */
size_t jpeg_write(const uint32_t *px, unsigned int w, unsigned int h, unsigned int level,
		  uint8_t *dst, size_t room);

#endif
