/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/server.h"

static bool is_down(const struct client *c, uint16_t scancode)
{
	unsigned int i = key_index(scancode);

	return c->keys_down[i / 64] & BIT64(i % 64);
}

void input_scancode(struct client *c, uint16_t scancode, bool down)
{
	unsigned int i = key_index(scancode);

	if (i == 0 || (!down && !is_down(c, scancode)))
		return;
	if (down)
		c->keys_down[i / 64] |= BIT64(i % 64);
	else
		c->keys_down[i / 64] &= ~BIT64(i % 64);
	server_key(c->server, scancode, down);
}

static bool is_modifier(uint16_t scancode)
{
	switch (scancode) {
	case KEY_LEFT_SHIFT:
	case KEY_RIGHT_SHIFT:
	case KEY_LEFT_CTRL:
	case KEY_RIGHT_CTRL:
	case KEY_LEFT_ALT:
	case KEY_RIGHT_ALT:
	case KEY_LEFT_META:
	case KEY_RIGHT_META:
		return true;
	default:
		return false;
	}
}

static void release(struct client *c, bool modifiers)
{
	for (unsigned int i = 1; i < KEY_INDEX_MAX; i++)
		if (c->keys_down[i / 64] & BIT64(i % 64) &&
		    (modifiers || !is_modifier(key_from_index(i))))
			input_scancode(c, key_from_index(i), false);
}

/* Types a key whose character needs the other position of Shift than the viewer's. */
static void press_shifted(struct client *c, uint16_t scancode, bool shift)
{
	bool left = is_down(c, KEY_LEFT_SHIFT), right = is_down(c, KEY_RIGHT_SHIFT);

	if (shift) {
		server_key(c->server, KEY_LEFT_SHIFT, true);
		input_scancode(c, scancode, true);
		server_key(c->server, KEY_LEFT_SHIFT, false);
		return;
	}
	if (left)
		server_key(c->server, KEY_LEFT_SHIFT, false);
	if (right)
		server_key(c->server, KEY_RIGHT_SHIFT, false);
	input_scancode(c, scancode, true);
	if (left)
		server_key(c->server, KEY_LEFT_SHIFT, true);
	if (right)
		server_key(c->server, KEY_RIGHT_SHIFT, true);
}

void input_keysym(struct client *c, uint32_t keysym, bool down)
{
	struct keysym_key key;
	bool held, want;

	if (!keysym_find(keysym, &key)) {
		/* A viewer with another layout let go of Shift first: its release names another character. */
		if (!down)
			release(c, false);
		return;
	}
	if (!down) {
		if (is_down(c, key.scancode))
			input_scancode(c, key.scancode, false);
		else if (!is_modifier(key.scancode))
			release(c, false);
		return;
	}
	held = is_down(c, KEY_LEFT_SHIFT) || is_down(c, KEY_RIGHT_SHIFT);
	want = key.level == KEYSYM_SHIFTED;
	if (key.letter && server_caps_lock(c->server))
		want = !want;
	if (key.level == KEYSYM_ANY || held == want)
		input_scancode(c, key.scancode, true);
	else
		press_shifted(c, key.scancode, want);
}

void input_pointer(struct client *c, uint16_t x, uint16_t y, uint16_t buttons)
{
	c->pointer_x = x;
	c->pointer_y = y;
	/* Horizontal wheels (bits 5 and 6) are on no model. */
	c->buttons = buttons & 0x19f;
	server_pointer(c->server, x, y, c->buttons);
}

void input_release_all(struct client *c)
{
	release(c, true);
	if (c->buttons)
		input_pointer(c, c->pointer_x, c->pointer_y, 0);
}
