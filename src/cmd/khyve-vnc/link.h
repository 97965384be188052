/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_LINK_H
#define CMD_KHYVE_VNC_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "back/screen.h"
#include "cmd/khyve-vnc/keysym.h"
#include "loop/loop.h"

/*
 * The control socket to khyve. Sending never blocks and queues nothing without bound: while khyve does not read, key
 * presses are dropped, releases are remembered as one bit per key, and of pointer events only the last is kept.
 */
struct link {
	struct loop_fd watch;
	void (*on_frame)(struct link *l, const struct screen_msg_frame *f);
	void (*on_leds)(struct link *l, uint32_t leds);
	/* The link is over: 0 khyve closed it, or -errno. Called once; the descriptor is not watched any more. */
	void (*on_end)(struct link *l, int error);

	bool refresh_out; /* asked for a frame that has not come yet */
	bool refresh_due, clients_due, pointer_due;
	uint32_t clients;
	struct screen_msg_pointer pointer;
	uint64_t release_due[KEY_INDEX_MAX / 64];
};

/* The callbacks are set by the caller before. 0 or -errno; the descriptor stays the caller's. */
int link_init(struct link *l, struct loop *loop, int ctl_fd);
void link_fini(struct link *l);

/* Asks for a frame unless one is under way. */
void link_refresh(struct link *l);
void link_clients(struct link *l, uint32_t count);
void link_key(struct link *l, uint16_t scancode, bool down);
void link_pointer(struct link *l, uint16_t x, uint16_t y, uint16_t buttons);

#endif
