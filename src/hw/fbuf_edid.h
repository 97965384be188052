/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_FBUF_EDID_H
#define HW_FBUF_EDID_H

#include <stdint.h>

#define EDID_SIZE 128

/* Writes the EDID 1.4 block of a digital monitor whose preferred mode is width x height (at most 4095) at 60 Hz. */
void edid_make(uint8_t edid[EDID_SIZE], unsigned int width, unsigned int height);

#endif
