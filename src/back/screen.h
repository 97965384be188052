/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_SCREEN_H
#define BACK_SCREEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/macros.h"

/*
 * The link between the display and input models in khyve and the program that shows the screen (khyve-vnc): a memfd
 * with the pixels, which that program maps read-only, and a SOCK_SEQPACKET pair with the messages below. Each side
 * treats the other's messages as untrusted: wrong type, size or value closes the link.
 *
 * Pixels are 32 bit XRGB little endian (blue in the lowest byte), `stride` bytes per line, starting at `offset`.
 */
#define SCREEN_MAX_WIDTH 3840
#define SCREEN_MAX_HEIGHT 2160
#define SCREEN_MIN_WIDTH 640
#define SCREEN_MIN_HEIGHT 480
#define SCREEN_VRAM_SIZE (32 * MIB) /* holds SCREEN_MAX_WIDTH x SCREEN_MAX_HEIGHT x 4 */
#define SCREEN_PAGES (SCREEN_VRAM_SIZE / 4096)

enum screen_msg_type {
	/* khyve-vnc to khyve */
	SCREEN_MSG_REFRESH =
		1, /* "tell me what changed since the last FRAME"; answered by exactly one FRAME */
	SCREEN_MSG_KEY, /* one key went down or up */
	SCREEN_MSG_POINTER, /* position and buttons */
	SCREEN_MSG_CLIENTS, /* number of authenticated viewers changed */
	/* khyve to khyve-vnc */
	SCREEN_MSG_FRAME = 64, /* mode and dirty pages */
	SCREEN_MSG_LEDS, /* keyboard LEDs as the guest set them */
};

struct screen_msg_hdr {
	uint32_t type;
	uint32_t size; /* of the whole message */
};

struct screen_msg_key {
	struct screen_msg_hdr hdr;
	uint16_t
		scancode; /* PC/XT set 1 make code; 0xe000 | code for extended keys; 0xe11d is Pause */
	uint16_t down; /* 1 or 0 */
	uint32_t reserved;
};

struct screen_msg_pointer {
	struct screen_msg_hdr hdr;
	uint16_t x, y; /* pixels; clamped to the mode by the receiver */
	uint16_t
		buttons; /* bit 0 left, 1 middle, 2 right, 3 wheel up, 4 wheel down, 7 back, 8 forward */
	uint16_t reserved;
};

struct screen_msg_clients {
	struct screen_msg_hdr hdr;
	uint32_t count;
	uint32_t reserved;
};

struct screen_msg_leds {
	struct screen_msg_hdr hdr;
	uint32_t leds; /* bit 0 scroll, 1 num, 2 caps (as PS/2 command 0xED) */
	uint32_t reserved;
};

struct screen_msg_frame {
	struct screen_msg_hdr hdr;
	uint32_t width, height; /* 0 x 0: the screen is off */
	uint32_t stride, offset; /* bytes; offset + stride * height <= SCREEN_VRAM_SIZE */
	uint32_t mode_serial; /* changes with every mode change: everything is dirty then */
	uint32_t reserved;
	uint64_t dirty[SCREEN_PAGES / 64]; /* bit n: the 4 KiB page n of the memfd changed */
};

_Static_assert(sizeof(struct screen_msg_key) == 16, "wire format");
_Static_assert(sizeof(struct screen_msg_frame) == 32 + SCREEN_PAGES / 8, "wire format");

/*
 * khyve's side of the link. The machine makes one screen and hands it to the display model in its env; whoever starts
 * the viewer attaches its socket. Main loop's thread unless noted.
 */
struct err;
struct input;
struct loop;
struct screen;

struct screen_mode {
	uint32_t width, height; /* 0 x 0: off */
	uint32_t stride, offset; /* bytes into the video memory */
};

/* Makes the memfd (SCREEN_VRAM_SIZE, zeroed, sealed against resizing). Keys and pointer events go to input. */
struct screen *screen_new(struct loop *l, struct input *input, struct err *err);
/* Detaches. NULL is fine. */
void screen_free(struct screen *s);
/* The video memory, and its descriptor for the viewer. */
void *screen_vram(const struct screen *s);
int screen_memfd(const struct screen *s);

/* The guest set a mode; the next FRAME says that everything changed. -EINVAL if it does not fit. Any thread. */
int screen_set_mode(struct screen *s, const struct screen_mode *mode);
/* The mode as it is, and the keyboard's LEDs as in struct screen_msg_leds. Any thread. */
struct screen_mode screen_get_mode(struct screen *s);
unsigned int screen_leds(struct screen *s);
/* fn sets the bits of the 4 KiB pages of video memory that changed since it was last called. -EBUSY: there is one. */
int screen_set_dirty_source(struct screen *s, void (*fn)(void *arg, uint64_t *bitmap), void *arg);

/* Takes over the socket (closed on detach). gone is called once when the viewer has closed it or broke the rules. */
int screen_attach(struct screen *s, int sock, void (*gone)(void *arg), void *arg);
void screen_detach(struct screen *s);
/* fn is called when the number of viewers' clients changes; 0 after a detach. */
void screen_on_clients(struct screen *s, void (*fn)(void *arg, unsigned int count), void *arg);
unsigned int screen_clients(const struct screen *s);

#endif
