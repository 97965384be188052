/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_VIEW_H
#define CMD_KHYVE_VNC_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "back/screen.h"
#include "cmd/khyve-vnc/damage.h"

struct err;

/*
 * What viewers are shown: a private copy of the guest's frame buffer. The guest writes the memfd at any time; it is
 * compared with the copy and copied, once, where khyve says that pages changed. Encoders see only the copy.
 */
struct view {
	const uint8_t *vram; /* the memfd, read-only, SCREEN_VRAM_SIZE bytes */
	uint32_t *copy; /* width x height pixels without gaps */
	unsigned int width, height; /* never 0 */
	uint32_t stride, offset, serial; /* of the last frame */
	bool on; /* the guest shows a picture; else the copy is black */
	bool stale; /* the copy was dropped: compare everything with the next frame */
};

/* Maps the memfd (which must be of SCREEN_VRAM_SIZE at least) and starts with a black screen. The fd may be closed. */
int view_init(struct view *v, int screen_fd, struct err *err);
void view_fini(struct view *v);

/*
 * Takes over a frame. Sets the tiles that differ from before in *changed: all, if the size is another one. -EPROTO if
 * the message describes no possible screen; v is untouched then.
 */
int view_frame(struct view *v, const struct screen_msg_frame *f, struct damage *changed);

/* Gives the memory of the copy back while nobody looks. The size stays. */
void view_drop(struct view *v);

/* n pixels from x, y to the right, black where they lie outside the screen; the top byte is always 0. */
void view_read(const struct view *v, unsigned int x, unsigned int y, unsigned int n, uint32_t *dst);

#endif
