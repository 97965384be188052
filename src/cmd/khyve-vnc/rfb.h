/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_RFB_H
#define CMD_KHYVE_VNC_RFB_H

/* Numbers of the RFB protocol: RFC 6143, and the community's extensions to it (rfbproto). */
enum {
	RFB_SECURITY_NONE = 1, /* RFC 6143 s7.1.2 */
	RFB_SECURITY_VNC = 2,
	RFB_SECURITY_VENCRYPT = 19, /* rfbproto */
};

/* Viewer to server, RFC 6143 s7.5. */
enum {
	RFB_SET_PIXEL_FORMAT = 0,
	RFB_SET_ENCODINGS = 2,
	RFB_UPDATE_REQUEST = 3,
	RFB_KEY = 4,
	RFB_POINTER = 5,
	RFB_CUT_TEXT = 6,
	RFB_CONTINUOUS_UPDATES = 150, /* from the server: their end */
	RFB_FENCE = 248, /* both ways */
	RFB_SET_DESKTOP_SIZE = 251,
	RFB_QEMU = 255,
};

enum { RFB_FRAMEBUFFER_UPDATE = 0 }; /* server to viewer, s7.6.1 */

enum {
	RFB_ENC_RAW = 0, /* s7.7.1 */
	RFB_ENC_HEXTILE = 5, /* s7.7.4 */
	RFB_ENC_ZLIB = 6,
	RFB_ENC_TIGHT = 7,
	RFB_ENC_ZRLE = 16, /* s7.7.6 */
	RFB_ENC_QUALITY_WORST = -32, /* to -23, the best */
	RFB_ENC_QUALITY_BEST = -23,
	RFB_ENC_DESKTOP_SIZE = -223, /* s7.8.2 */
	RFB_ENC_CURSOR = -239, /* s7.8.1 */
	RFB_ENC_QEMU_KEYS = -258,
	RFB_ENC_QEMU_LEDS = -261,
	RFB_ENC_DESKTOP_NAME = -307,
	RFB_ENC_EXT_DESKTOP_SIZE = -308,
	RFB_ENC_FENCE = -312,
	RFB_ENC_CONTINUOUS_UPDATES = -313,
	RFB_ENC_EXT_BUTTONS = -316,
};

/* Flags of fences; those of RFB_FENCE_FLAGS are kept in an answer. */
#define RFB_FENCE_BLOCK_BEFORE 1u
#define RFB_FENCE_SYNC_NEXT 4u
#define RFB_FENCE_FLAGS 7u
#define RFB_FENCE_REQUEST 0x80000000u

#endif
