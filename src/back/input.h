/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_INPUT_H
#define BACK_INPUT_H

#include <stdint.h>

/*
 * Where key presses and pointer moves of the person meet the input models. A model installs its sink at init; the
 * last one installed gets the events (a tablet takes over from the PS/2 mouse). Main loop's thread only.
 */
struct input_key_sink {
	void (*key)(void *arg, uint16_t scancode,
		    int down); /* scancode as in struct screen_msg_key */
	void *arg;
};

struct input_pointer_sink {
	/* x, y in pixels of a width x height screen; buttons as in struct screen_msg_pointer */
	void (*pointer)(void *arg, int x, int y, int width, int height, unsigned int buttons);
	void *arg;
};

struct input {
	struct input_key_sink key;
	struct input_pointer_sink pointer;
	/* Set by whoever shows the screen: the guest changed the keyboard LEDs. Any thread. May be NULL. */
	void (*leds)(void *arg, unsigned int leds);
	void *leds_arg;
};

static inline void input_key(const struct input *in, uint16_t scancode, int down)
{
	if (in->key.key)
		in->key.key(in->key.arg, scancode, down);
}

#endif
