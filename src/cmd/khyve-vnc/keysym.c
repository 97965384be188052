/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/keysym.h"

#include <stddef.h>

#include "util/macros.h"

#define S 0x80 /* with Shift */

/* ASCII 0x20 to 0x7e on a US keyboard. */
static const uint8_t ascii_keys[] = {
	/*         !         "         #         $         %         &         ' */
	0x39,
	0x02 | S,
	0x28 | S,
	0x04 | S,
	0x05 | S,
	0x06 | S,
	0x08 | S,
	0x28,
	/* (       )         *         +         ,         -         .         / */
	0x0a | S,
	0x0b | S,
	0x09 | S,
	0x0d | S,
	0x33,
	0x0c,
	0x34,
	0x35,
	/* 0       1         2         3         4         5         6         7 */
	0x0b,
	0x02,
	0x03,
	0x04,
	0x05,
	0x06,
	0x07,
	0x08,
	/* 8       9         :         ;         <         =         >         ? */
	0x09,
	0x0a,
	0x27 | S,
	0x27,
	0x33 | S,
	0x0d,
	0x34 | S,
	0x35 | S,
	/* @       A         B         C         D         E         F         G */
	0x03 | S,
	0x1e | S,
	0x30 | S,
	0x2e | S,
	0x20 | S,
	0x12 | S,
	0x21 | S,
	0x22 | S,
	/* H       I         J         K         L         M         N         O */
	0x23 | S,
	0x17 | S,
	0x24 | S,
	0x25 | S,
	0x26 | S,
	0x32 | S,
	0x31 | S,
	0x18 | S,
	/* P       Q         R         S         T         U         V         W */
	0x19 | S,
	0x10 | S,
	0x13 | S,
	0x1f | S,
	0x14 | S,
	0x16 | S,
	0x2f | S,
	0x11 | S,
	/* X       Y         Z         [         \         ]         ^         _ */
	0x2d | S,
	0x15 | S,
	0x2c | S,
	0x1a,
	0x2b,
	0x1b,
	0x07 | S,
	0x0c | S,
	/* `       a         b         c         d         e         f         g */
	0x29,
	0x1e,
	0x30,
	0x2e,
	0x20,
	0x12,
	0x21,
	0x22,
	/* h       i         j         k         l         m         n         o */
	0x23,
	0x17,
	0x24,
	0x25,
	0x26,
	0x32,
	0x31,
	0x18,
	/* p       q         r         s         t         u         v         w */
	0x19,
	0x10,
	0x13,
	0x1f,
	0x14,
	0x16,
	0x2f,
	0x11,
	/* x       y         z         {         |         }         ~ */
	0x2d,
	0x15,
	0x2c,
	0x1a | S,
	0x2b | S,
	0x1b | S,
	0x29 | S,
};

#undef S

/* Keysyms without a character; the comments have X11's names. */
static const struct {
	uint16_t keysym, scancode;
} named_keys[] = {
	{ 0xfe03, KEY_RIGHT_ALT }, /* ISO_Level3_Shift */
	{ 0xfe20, 0x0f }, /* ISO_Left_Tab */
	{ 0xff08, 0x0e }, /* BackSpace */
	{ 0xff09, 0x0f }, /* Tab */
	{ 0xff0a, 0x1c }, /* Linefeed */
	{ 0xff0d, 0x1c }, /* Return */
	{ 0xff13, KEY_PAUSE }, /* Pause */
	{ 0xff14, 0x46 }, /* Scroll_Lock */
	{ 0xff15, KEY_PRINT }, /* Sys_Req */
	{ 0xff1b, 0x01 }, /* Escape */
	{ 0xff50, 0xe047 }, /* Home */
	{ 0xff51, 0xe04b }, /* Left */
	{ 0xff52, 0xe048 }, /* Up */
	{ 0xff53, 0xe04d }, /* Right */
	{ 0xff54, 0xe050 }, /* Down */
	{ 0xff55, 0xe049 }, /* Page_Up */
	{ 0xff56, 0xe051 }, /* Page_Down */
	{ 0xff57, 0xe04f }, /* End */
	{ 0xff61, KEY_PRINT }, /* Print */
	{ 0xff63, 0xe052 }, /* Insert */
	{ 0xff67, 0xe05d }, /* Menu */
	{ 0xff6b, KEY_PAUSE }, /* Break */
	{ 0xff7e, KEY_RIGHT_ALT }, /* Mode_switch */
	{ 0xff7f, 0x45 }, /* Num_Lock */
	{ 0xff8d, 0xe01c }, /* KP_Enter */
	{ 0xff95, 0x47 }, /* KP_Home */
	{ 0xff96, 0x4b }, /* KP_Left */
	{ 0xff97, 0x48 }, /* KP_Up */
	{ 0xff98, 0x4d }, /* KP_Right */
	{ 0xff99, 0x50 }, /* KP_Down */
	{ 0xff9a, 0x49 }, /* KP_Page_Up */
	{ 0xff9b, 0x51 }, /* KP_Page_Down */
	{ 0xff9c, 0x4f }, /* KP_End */
	{ 0xff9d, 0x4c }, /* KP_Begin */
	{ 0xff9e, 0x52 }, /* KP_Insert */
	{ 0xff9f, 0x53 }, /* KP_Delete */
	{ 0xffaa, 0x37 }, /* KP_Multiply */
	{ 0xffab, 0x4e }, /* KP_Add */
	{ 0xffac, 0x53 }, /* KP_Separator */
	{ 0xffad, 0x4a }, /* KP_Subtract */
	{ 0xffae, 0x53 }, /* KP_Decimal */
	{ 0xffaf, 0xe035 }, /* KP_Divide */
	{ 0xffb0, 0x52 }, /* KP_0 */
	{ 0xffb1, 0x4f },
	{ 0xffb2, 0x50 },
	{ 0xffb3, 0x51 },
	{ 0xffb4, 0x4b },
	{ 0xffb5, 0x4c },
	{ 0xffb6, 0x4d },
	{ 0xffb7, 0x47 },
	{ 0xffb8, 0x48 },
	{ 0xffb9, 0x49 }, /* KP_9 */
	{ 0xffbe, 0x3b }, /* F1 */
	{ 0xffbf, 0x3c },
	{ 0xffc0, 0x3d },
	{ 0xffc1, 0x3e },
	{ 0xffc2, 0x3f },
	{ 0xffc3, 0x40 },
	{ 0xffc4, 0x41 },
	{ 0xffc5, 0x42 },
	{ 0xffc6, 0x43 },
	{ 0xffc7, 0x44 }, /* F10 */
	{ 0xffc8, 0x57 }, /* F11 */
	{ 0xffc9, 0x58 }, /* F12 */
	{ 0xffe1, KEY_LEFT_SHIFT }, /* Shift_L */
	{ 0xffe2, KEY_RIGHT_SHIFT }, /* Shift_R */
	{ 0xffe3, KEY_LEFT_CTRL }, /* Control_L */
	{ 0xffe4, KEY_RIGHT_CTRL }, /* Control_R */
	{ 0xffe5, 0x3a }, /* Caps_Lock */
	{ 0xffe7, KEY_LEFT_ALT }, /* Meta_L */
	{ 0xffe8, KEY_RIGHT_ALT }, /* Meta_R */
	{ 0xffe9, KEY_LEFT_ALT }, /* Alt_L */
	{ 0xffea, KEY_RIGHT_ALT }, /* Alt_R */
	{ 0xffeb, KEY_LEFT_META }, /* Super_L */
	{ 0xffec, KEY_RIGHT_META }, /* Super_R */
	{ 0xffff, 0xe053 }, /* Delete */
};

bool keysym_find(uint32_t keysym, struct keysym_key *out)
{
	uint32_t lower = keysym | 0x20;

	if (keysym >= 0x20 && keysym < 0x20 + ARRAY_LEN(ascii_keys)) {
		uint8_t key = ascii_keys[keysym - 0x20];

		*out = (struct keysym_key){ .scancode = key & 0x7f,
					    .level = key & 0x80 ? KEYSYM_SHIFTED : KEYSYM_PLAIN,
					    .letter = lower >= 'a' && lower <= 'z' };
		if (keysym == ' ')
			out->level = KEYSYM_ANY;
		return true;
	}
	for (size_t i = 0; i < ARRAY_LEN(named_keys); i++) {
		if (named_keys[i].keysym == keysym) {
			*out = (struct keysym_key){ .scancode = named_keys[i].scancode };
			return true;
		}
	}
	return false;
}

uint16_t keysym_from_qemu(uint32_t keycode)
{
	if (keycode == 0x54 || keycode == 0xb7)
		return KEY_PRINT;
	if (keycode == 0xc6)
		return KEY_PAUSE;
	if (keycode == 0 || keycode > 0xff || (keycode & 0x7f) == 0)
		return 0;
	return (uint16_t)(keycode & 0x80 ? 0xe000 | (keycode & 0x7f) : keycode);
}

#define PAUSE_INDEX 0x80 /* e0 00 is no key */

unsigned int key_index(uint16_t scancode)
{
	if (scancode == KEY_PAUSE)
		return PAUSE_INDEX;
	if (scancode >= 1 && scancode <= 0x7f)
		return scancode;
	if (scancode >= 0xe001 && scancode <= 0xe07f)
		return 0x80u | (scancode & 0x7f);
	return 0;
}

uint16_t key_from_index(unsigned int index)
{
	if (index == PAUSE_INDEX)
		return KEY_PAUSE;
	return (uint16_t)(index & 0x80 ? 0xe000 | (index & 0x7f) : index);
}
