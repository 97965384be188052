/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_INPUT_H
#define BACK_INPUT_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Where key presses and pointer moves of the person meet the input models. Each model adds its sink at init. An event
 * goes to the first sink that takes it: one that the guest does not use now leaves it to the next (a tablet to the
 * PS/2 mouse). Main loop's thread only.
 */
enum input_state {
	INPUT_DEAF, /* it would not be taken */
	INPUT_READY,
	INPUT_BUSY, /* the guest has not fetched those before */
};

struct input_sink {
	/* Either may be NULL. False: not taken. scancode as in struct screen_msg_key */
	bool (*key)(void *arg, uint16_t scancode, int down);
	/* What a key would meet now. NULL: always INPUT_READY. With key only. */
	enum input_state (*state)(void *arg);
	/* x, y in pixels of a width x height screen; buttons as in struct screen_msg_pointer */
	bool (*pointer)(void *arg, int x, int y, int width, int height, unsigned int buttons);
	void *arg;
	struct input_sink *next; /* the rest belongs to the input */
	bool added;
};

#define INPUT_KEYS 256

struct input {
	struct input_sink *sinks;
	struct input_sink *holders[INPUT_KEYS]; /* who took the press of each key that is down */
	struct input_sink *pointing; /* who took the last pointer event */
	/* Set by whoever shows the screen: the guest changed the keyboard LEDs. Any thread. May be NULL. */
	void (*leds)(void *arg, unsigned int leds);
	void *leds_arg;
};

/* first: before all others, else behind them. The sink must stay where it is until it is removed. */
void input_add(struct input *in, struct input_sink *sink, bool first);
/* One that was never added (zeroed) is fine. */
void input_remove(struct input *in, struct input_sink *sink);
/* A key goes up where it went down. False: the guest listens to no keyboard now. */
bool input_key(struct input *in, uint16_t scancode, int down);
/* Who would take the next key has others that wait for the guest to fetch them. */
bool input_busy(const struct input *in);
/* Whether there may be such a key: set 1 make codes, those with prefix, and Pause. */
bool input_key_valid(uint16_t scancode);
/* Buttons that are held when another sink takes over go up at the old one. */
void input_pointer(struct input *in, int x, int y, int width, int height, unsigned int buttons);

#endif
