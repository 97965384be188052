/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_KEYSYM_H
#define CMD_KHYVE_VNC_KEYSYM_H

#include <stdbool.h>
#include <stdint.h>

/* Where an X11 keysym lies on a US keyboard, for viewers that do not send the key's own code. */
struct keysym_key {
	uint16_t scancode; /* as in struct screen_msg_key */
	enum {
		KEYSYM_ANY,
		KEYSYM_PLAIN,
		KEYSYM_SHIFTED
	} level; /* ANY: Shift makes no difference */
	bool letter; /* Caps Lock works on it */
};

/* False: no such key. */
bool keysym_find(uint32_t keysym, struct keysym_key *out);

/*
 * The key number of QEMU's extended key event (an XT code, 0x80 added where it has the prefix e0) as a scancode;
 * 0 if there is no such key.
 */
uint16_t keysym_from_qemu(uint32_t keycode);

/* Scancodes as small numbers, for bit sets: 1 .. KEY_INDEX_MAX - 1, or 0 if it is no scancode. */
#define KEY_INDEX_MAX 256
unsigned int key_index(uint16_t scancode);
uint16_t key_from_index(unsigned int index);

enum {
	KEY_LEFT_SHIFT = 0x2a,
	KEY_RIGHT_SHIFT = 0x36,
	KEY_LEFT_CTRL = 0x1d,
	KEY_RIGHT_CTRL = 0xe01d,
	KEY_LEFT_ALT = 0x38,
	KEY_RIGHT_ALT = 0xe038,
	KEY_LEFT_META = 0xe05b,
	KEY_RIGHT_META = 0xe05c,
	KEY_PRINT = 0xe037,
	KEY_PAUSE = 0xe11d,
};

#endif
