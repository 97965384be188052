/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/fbuf_edid.h"

#include <string.h>

#include "util/bytes.h"
#include "util/macros.h"

/* Reduced blanking (CVT 1.1): what a panel needs between lines and pictures. */
#define H_BLANK 160u
#define H_FRONT 48u
#define H_SYNC 32u
#define V_FRONT 3u
#define V_SYNC 6u

enum aspect { ASPECT_16_10 = 0, ASPECT_5_4 = 2, ASPECT_16_9 = 3 };

/* E-EDID 1.4 s3.9: modes of 60 Hz that the established timings do not name. */
static const struct {
	uint16_t width;
	uint8_t aspect;
} standard_modes[8] = {
	{ 1280, ASPECT_16_9 },	{ 1280, ASPECT_16_10 }, { 1280, ASPECT_5_4 },
	{ 1440, ASPECT_16_10 }, { 1600, ASPECT_16_9 },	{ 1680, ASPECT_16_10 },
	{ 1920, ASPECT_16_9 },	{ 1920, ASPECT_16_10 },
};

static uint8_t low(unsigned int v)
{
	return (uint8_t)(v & 0xff);
}

/* s3.10.2: 18 bytes. */
static void detailed_timing(uint8_t *d, unsigned int width, unsigned int height)
{
	unsigned int v_blank = MAX(height / 36, 20u);
	unsigned int mm_x = width * 254 / 960, mm_y = height * 254 / 960;
	uint64_t clock = (uint64_t)(width + H_BLANK) * (height + v_blank) * 60;

	put_le16(d, (uint16_t)((clock + 9999) / 10000));
	d[2] = low(width);
	d[3] = low(H_BLANK);
	d[4] = low(width >> 8 << 4 | H_BLANK >> 8);
	d[5] = low(height);
	d[6] = low(v_blank);
	d[7] = low(height >> 8 << 4 | v_blank >> 8);
	d[8] = low(H_FRONT);
	d[9] = low(H_SYNC);
	d[10] = low(V_FRONT << 4 | V_SYNC);
	d[12] = low(mm_x);
	d[13] = low(mm_y);
	d[14] = low(mm_x >> 8 << 4 | mm_y >> 8);
	d[17] = 0x1a; /* digital separate sync: horizontal positive, vertical negative */
}

/* s3.10.3: a text or limits descriptor. */
static void descriptor(uint8_t *d, uint8_t tag, const void *data, size_t len)
{
	d[3] = tag;
	memcpy(d + 5, data, len);
}

void edid_make(uint8_t edid[EDID_SIZE], unsigned int width, unsigned int height)
{
	static const uint8_t header[8] = { 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0 };
	/* 50-75 Hz, 30-160 kHz, 660 MHz, no timing formula (s3.10.3.3) */
	static const uint8_t limits[13] = { 50,	  75,	30,   160,  66,	  0x01, 0x0a,
					    0x20, 0x20, 0x20, 0x20, 0x20, 0x20 };
	/* sRGB primaries and white point (s3.7) */
	static const uint8_t colours[10] = { 0xee, 0x91, 0xa3, 0x54, 0x4c,
					     0x99, 0x26, 0x0f, 0x50, 0x54 };
	uint8_t sum = 0;

	memset(edid, 0, EDID_SIZE);
	memcpy(edid, header, sizeof(header));
	edid[8] = ('K' - '@') << 2 | ('H' - '@') >> 3;
	edid[9] = (('H' - '@') & 7) << 5 | ('Y' - '@');
	put_le16(edid + 10, 1);
	edid[17] = 2026 - 1990;
	edid[18] = 1;
	edid[19] = 4;
	edid[20] = 0xa5; /* digital, 8 bits per colour, DisplayPort */
	edid[21] = low(width * 254 / 9600);
	edid[22] = low(height * 254 / 9600);
	edid[23] = 120; /* gamma 2.2 */
	edid[24] = 0x06; /* sRGB; the first detailed timing is the preferred mode */
	memcpy(edid + 25, colours, sizeof(colours));
	edid[35] = 0x21; /* 640x480, 800x600 */
	edid[36] = 0x08; /* 1024x768 */
	for (size_t i = 0; i < ARRAY_LEN(standard_modes); i++) {
		edid[38 + 2 * i] = (uint8_t)(standard_modes[i].width / 8 - 31);
		edid[39 + 2 * i] = (uint8_t)(standard_modes[i].aspect << 6);
	}
	detailed_timing(edid + 54, width, height);
	descriptor(edid + 72, 0xfd, limits, sizeof(limits));
	descriptor(edid + 90, 0xfc, "khyve\n       ", 13);
	descriptor(edid + 108, 0x10, "", 0); /* unused */
	for (int i = 0; i < EDID_SIZE - 1; i++)
		sum = (uint8_t)(sum + edid[i]);
	edid[EDID_SIZE - 1] = (uint8_t)(0x100 - sum);
}
