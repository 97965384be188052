/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/ps2.h"

#include <string.h>

#include "util/canary.h"
#include "util/macros.h"

/* Commands and answers of keyboard and mouse (IBM PS/2 Technical Reference, Keyboard and Mouse). */
#define ACK 0xfa
#define RESEND 0xfe
#define ECHO 0xee
#define BAT_OK 0xaa
#define KBD_SET_LEDS 0xed
#define KBD_ECHO 0xee
#define KBD_SET 0xf0
#define KBD_ID 0xf2
#define KBD_RATE 0xf3
#define KBD_ENABLE 0xf4
#define KBD_DISABLE 0xf5
#define KBD_DEFAULTS 0xf6
#define KBD_RESEND 0xfe
#define KBD_RESET 0xff
#define AUX_SCALE11 0xe6
#define AUX_SCALE21 0xe7
#define AUX_RESOLUTION 0xe8
#define AUX_STATUS 0xe9
#define AUX_STREAM 0xea
#define AUX_READ 0xeb
#define AUX_UNWRAP 0xec
#define AUX_WRAP 0xee
#define AUX_REMOTE 0xf0
#define AUX_ID 0xf2
#define AUX_RATE 0xf3
#define AUX_ENABLE 0xf4
#define AUX_DISABLE 0xf5
#define AUX_DEFAULTS 0xf6
#define AUX_RESET 0xff
#define ID_WHEEL 3
#define ID_FIVE_BUTTONS 4

#define EXTENDED 0xe000
#define PAUSE 0xe11d
#define MOVE_MAX 255
#define SUM_MAX 32767

/* Set 1 make codes 00-58 in set 2. */
static const uint8_t set2[] = {
	0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66,
	0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14,
	0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a,
	0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05,
	0x06, 0x04, 0x0c, 0x03, 0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b,
	0x6b, 0x73, 0x74, 0x79, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07,
};
/* Set 1 make codes 59-7F (Windows, application and further function keys have e0 or are rare). */
static const uint8_t set2_high[] = {
	0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10,
	0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f, 0x13, 0x19, 0x39,
	0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

static size_t room(const struct ps2_queue *q)
{
	return PS2_QUEUE - (size_t)q->count;
}

static void push(struct ps2_queue *q, uint8_t byte)
{
	if (q->count < PS2_QUEUE)
		q->bytes[(q->head + q->count++) % PS2_QUEUE] = byte;
}

/* All or nothing: half a key would change the meaning of the next one. */
static void push_all(struct ps2_queue *q, const uint8_t *bytes, size_t n)
{
	if (n > room(q) && !CANARY)
		return;
	for (size_t i = 0; i < n; i++)
		q->bytes[(q->head + q->count + i) % PS2_QUEUE] = bytes[i];
	q->count = (uint8_t)(q->count + n);
}

uint8_t ps2_queue_pop(struct ps2_queue *q)
{
	uint8_t byte = q->bytes[q->head];

	q->head = (uint8_t)((q->head + 1) % PS2_QUEUE);
	q->count--;
	return byte;
}

/* --- keyboard --- */

static void keyboard_defaults(struct ps2_keyboard *k)
{
	k->set = 2;
	k->command = 0;
	k->scanning = true;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	bool translate = k->translate;

	memset(k, 0, sizeof(*k));
	k->translate = translate;
	keyboard_defaults(k);
}

/* What translation makes of the bytes by which a keyboard names itself and its set. */
static void push_id(struct ps2_keyboard *k)
{
	push(&k->out, 0xab);
	push(&k->out, k->translate ? 0x41 : 0x83);
}

static void push_set(struct ps2_keyboard *k)
{
	static const uint8_t translated[] = { 0, 0x43, 0x41 };

	push(&k->out, k->translate ? translated[k->set] : k->set);
}

static void keyboard_operand(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->command;

	k->command = 0;
	if (command == KBD_SET && byte > 2) {
		push(&k->out, RESEND); /* there is no set 3 */
		return;
	}
	push(&k->out, ACK);
	if (command == KBD_SET_LEDS)
		k->leds = byte & 7;
	else if (command == KBD_SET && byte == 0)
		push_set(k);
	else if (command == KBD_SET)
		k->set = byte;
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
	if (k->command && byte < KBD_SET_LEDS) {
		keyboard_operand(k, byte);
		return;
	}
	k->command = 0;
	if (byte != KBD_RESEND)
		k->out.count = 0; /* a command ends what the keyboard was saying */
	switch (byte) {
	case KBD_SET_LEDS:
	case KBD_SET:
	case KBD_RATE:
		k->command = byte;
		push(&k->out, ACK);
		break;
	case KBD_ECHO:
		push(&k->out, ECHO);
		break;
	case KBD_ID:
		push(&k->out, ACK);
		push_id(k);
		break;
	case KBD_ENABLE:
	case KBD_DISABLE:
	case KBD_DEFAULTS:
		if (byte != KBD_ENABLE)
			keyboard_defaults(k);
		k->scanning = byte != KBD_DISABLE;
		push(&k->out, ACK);
		break;
	case KBD_RESEND:
		push(&k->out, k->last);
		break;
	case KBD_RESET:
		ps2_keyboard_reset(k);
		push(&k->out, ACK);
		push(&k->out, BAT_OK);
		break;
	default:
		push(&k->out, RESEND);
	}
}

void ps2_keyboard_key(struct ps2_keyboard *k, uint16_t scancode, bool down)
{
	static const uint8_t pause1[] = { 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5 };
	static const uint8_t pause2[] = { 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77 };
	bool set1 = k->set == 1 || k->translate;
	uint8_t code = scancode & 0x7f, bytes[4];
	size_t n = 0;

	if (!k->scanning)
		return;
	if (scancode == PAUSE) {
		if (down && set1)
			push_all(&k->out, pause1, sizeof(pause1));
		else if (down)
			push_all(&k->out, pause2, sizeof(pause2));
		return;
	}
	if (code == 0 || ((scancode & 0xff00) && (scancode & 0xff00) != EXTENDED))
		return;
	if (scancode & 0xff00)
		bytes[n++] = 0xe0;
	if (set1) {
		bytes[n++] = (uint8_t)(code | (down ? 0 : 0x80));
	} else {
		if (!down)
			bytes[n++] = 0xf0;
		bytes[n++] =
			code < ARRAY_LEN(set2) ? set2[code] : set2_high[code - ARRAY_LEN(set2)];
	}
	push_all(&k->out, bytes, n);
}

/* --- mouse --- */

static void mouse_defaults(struct ps2_mouse *m)
{
	m->command = 0;
	m->rate = 100;
	m->resolution = 2;
	m->reporting = m->remote = m->wrap = m->scaling = false;
	m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	memset(m, 0, sizeof(*m));
	mouse_defaults(m);
}

static int clamp(int v, int limit)
{
	return v < -limit ? -limit : v > limit ? limit : v;
}

static void push_packet(struct ps2_mouse *m)
{
	int dx = clamp(m->dx, MOVE_MAX), dy = clamp(m->dy, MOVE_MAX);
	int dz = clamp(m->dz, 7);
	uint8_t bytes[4] = {
		(uint8_t)(0x08 | (m->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)),
		(uint8_t)dx, (uint8_t)dy,
		(uint8_t)(m->id == ID_FIVE_BUTTONS ? (dz & 0xf) | (m->buttons & 0x30) : dz)
	};

	push_all(&m->out, bytes, m->id >= ID_WHEEL ? 4 : 3);
	m->dx -= dx;
	m->dy -= dy;
	m->dz -= dz;
	m->sent_buttons = m->buttons;
}

void ps2_mouse_flush(struct ps2_mouse *m)
{
	if (!m->reporting || m->remote || m->wrap)
		return;
	if (m->id < ID_WHEEL)
		m->dz = 0;
	while ((m->dx || m->dy || m->dz || m->buttons != m->sent_buttons) && room(&m->out) >= 4)
		push_packet(m);
}

/* Screen coordinates grow downwards, the mouse's upwards. */
void ps2_mouse_move(struct ps2_mouse *m, int x, int y, unsigned int buttons)
{
	unsigned int pressed = buttons & ~m->held;

	if (m->position_known) {
		m->dx = clamp(m->dx + x - m->x, SUM_MAX);
		m->dy = clamp(m->dy + m->y - y, SUM_MAX);
	}
	m->x = x;
	m->y = y;
	m->position_known = true;
	m->held = buttons;
	if (pressed & BIT(3))
		m->dz = clamp(m->dz - 1, SUM_MAX);
	if (pressed & BIT(4))
		m->dz = clamp(m->dz + 1, SUM_MAX);
	/* left, right, middle; back and forward as in the fourth byte */
	m->buttons = (uint8_t)((buttons & 1) | (buttons & 4) >> 1 | (buttons & 2) << 1);
	if (m->id == ID_FIVE_BUTTONS)
		m->buttons |= (uint8_t)(buttons >> 3 & 0x30);
	ps2_mouse_flush(m);
}

static void push_status(struct ps2_mouse *m)
{
	push(&m->out, (uint8_t)((m->remote ? 0x40 : 0) | (m->reporting ? 0x20 : 0) |
				(m->scaling ? 0x10 : 0) | (m->buttons & 7)));
	push(&m->out, m->resolution);
	push(&m->out, m->rate);
}

/* 200, 100, 80 asks for a wheel; 200, 200, 80 for five buttons as well. */
static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	m->rate = rate;
	m->knock[0] = m->knock[1];
	m->knock[1] = m->knock[2];
	m->knock[2] = rate;
	if (m->knock[0] != 200 || m->knock[2] != 80)
		return;
	if (m->knock[1] == 100)
		m->id = ID_WHEEL;
	else if (m->knock[1] == 200 && m->id == ID_WHEEL)
		m->id = ID_FIVE_BUTTONS;
}

static void mouse_set_mode(struct ps2_mouse *m, uint8_t byte)
{
	switch (byte) {
	case AUX_SCALE11:
	case AUX_SCALE21:
		m->scaling = byte == AUX_SCALE21;
		break;
	case AUX_STREAM:
	case AUX_REMOTE:
		m->remote = byte == AUX_REMOTE;
		break;
	case AUX_WRAP:
		m->wrap = true;
		break;
	case AUX_ENABLE:
	case AUX_DISABLE:
		m->reporting = byte == AUX_ENABLE;
		break;
	case AUX_DEFAULTS:
		mouse_defaults(m);
		break;
	case AUX_RATE:
	case AUX_RESOLUTION:
		m->command = byte;
		break;
	default:
		break;
	}
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t command = m->command;

	if (m->wrap && byte != AUX_RESET && byte != AUX_UNWRAP) {
		push(&m->out, byte);
		return;
	}
	m->command = 0;
	m->out.count = 0;
	push(&m->out, ACK);
	if (command == AUX_RATE) {
		set_rate(m, byte);
		return;
	}
	if (command == AUX_RESOLUTION) {
		m->resolution = byte & 3;
		return;
	}
	switch (byte) {
	case AUX_STATUS:
		push_status(m);
		break;
	case AUX_READ:
		push_packet(m);
		break;
	case AUX_UNWRAP:
		m->wrap = false;
		break;
	case AUX_ID:
		push(&m->out, m->id);
		break;
	case AUX_RESET:
		ps2_mouse_reset(m);
		push(&m->out, ACK);
		push(&m->out, BAT_OK);
		push(&m->out, 0);
		break;
	default:
		if (byte < AUX_SCALE11 || (byte > AUX_DEFAULTS && byte < AUX_RESET)) {
			m->out.count = 0;
			push(&m->out, RESEND);
			break;
		}
		mouse_set_mode(m, byte);
	}
}
