/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_PS2_H
#define HW_PS2_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A PS/2 keyboard and a PS/2 mouse as the i8042 controller drives them: bytes in, bytes out through a bounded queue.
 * Plain state, no locks; the controller's lock protects them.
 */
#define PS2_QUEUE 64

struct ps2_queue {
	uint8_t bytes[PS2_QUEUE];
	uint8_t head, count;
};

struct ps2_keyboard {
	struct ps2_queue out;
	uint8_t command; /* waiting for its operand, 0: none */
	uint8_t set; /* scan code set 1 or 2 */
	uint8_t leds, last;
	bool scanning;
	bool translate; /* the controller turns set 2 into set 1 */
};

struct ps2_mouse {
	struct ps2_queue out;
	uint8_t command, id, rate, resolution;
	uint8_t knock[3]; /* the last three sample rates: how a wheel is found out */
	bool reporting, remote, wrap, scaling;
	int x, y; /* last position on the screen */
	bool position_known;
	int dx, dy, dz; /* moved since the last packet */
	uint8_t buttons, sent_buttons;
	unsigned int held; /* buttons as last told, with the wheel's bits */
};

void ps2_keyboard_reset(struct ps2_keyboard *k);
/* A byte from the host system (port 60). */
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
/* A key as in struct screen_msg_key. Lost if the queue is full or scanning is off. */
void ps2_keyboard_key(struct ps2_keyboard *k, uint16_t scancode, bool down);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
/* Position in pixels and buttons as in struct screen_msg_pointer; movement that does not fit is kept and sent later. */
void ps2_mouse_move(struct ps2_mouse *m, int x, int y, unsigned int buttons);
/* Puts what has moved into the queue, as far as there is room. */
void ps2_mouse_flush(struct ps2_mouse *m);

/* Takes the oldest byte. The queue must not be empty. */
uint8_t ps2_queue_pop(struct ps2_queue *q);

#endif
