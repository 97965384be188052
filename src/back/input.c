/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/input.h"

#include <stddef.h>

#define PAUSE 0xe11d

void input_add(struct input *in, struct input_sink *sink, bool first)
{
	struct input_sink **at = &in->sinks;

	while (!first && *at)
		at = &(*at)->next;
	sink->next = *at;
	sink->added = true;
	*at = sink;
}

void input_remove(struct input *in, struct input_sink *sink)
{
	struct input_sink **at = &in->sinks;

	if (!sink->added)
		return;
	while (*at != sink)
		at = &(*at)->next;
	*at = sink->next;
	sink->added = false;
	if (in->pointing == sink)
		in->pointing = NULL;
	for (int i = 0; i < INPUT_KEYS; i++)
		if (in->holders[i] == sink)
			in->holders[i] = NULL;
}

static struct input_sink **holder_of(struct input *in, uint16_t scancode)
{
	/* No other key has the number 0. */
	if (scancode == PAUSE)
		return &in->holders[0];
	return &in->holders[(scancode & 0x7f) | (scancode & 0xff00 ? 0x80 : 0)];
}

bool input_key(struct input *in, uint16_t scancode, int down)
{
	struct input_sink **holder = holder_of(in, scancode), *s = *holder;
	bool taken = false;

	if (s) {
		taken = s->key(s->arg, scancode, down);
		*holder = down ? s : NULL;
		return taken;
	}
	for (s = in->sinks; s; s = s->next) {
		if (!s->key || !s->key(s->arg, scancode, down))
			continue;
		*holder = down ? s : NULL;
		return true;
	}
	return false;
}

bool input_busy(const struct input *in)
{
	enum input_state state = INPUT_DEAF;

	for (struct input_sink *s = in->sinks; s && state == INPUT_DEAF; s = s->next)
		if (s->key)
			state = s->state ? s->state(s->arg) : INPUT_READY;
	return state == INPUT_BUSY;
}

bool input_key_valid(uint16_t scancode)
{
	uint16_t prefix = scancode & 0xff00, low = scancode & 0xff;

	return scancode == PAUSE || ((!prefix || prefix == 0xe000) && low >= 1 && low <= 0x7f);
}

void input_pointer(struct input *in, int x, int y, int width, int height, unsigned int buttons)
{
	struct input_sink *s = in->sinks, *old = in->pointing;

	while (s && !(s->pointer && s->pointer(s->arg, x, y, width, height, buttons)))
		s = s->next;
	if (old && old != s)
		(void)old->pointer(old->arg, x, y, width, height, 0);
	in->pointing = s;
}
