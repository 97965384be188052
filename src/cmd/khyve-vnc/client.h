/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_CLIENT_H
#define CMD_KHYVE_VNC_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/khyve-vnc/auth.h"
#include "cmd/khyve-vnc/damage.h"
#include "cmd/khyve-vnc/enc.h"
#include "cmd/khyve-vnc/flow.h"
#include "cmd/khyve-vnc/keysym.h"
#include "cmd/khyve-vnc/pixel.h"
#include "cmd/khyve-vnc/tls.h"
#include "loop/loop.h"
#include "util/clock.h"
#include "util/list.h"

struct server;

#define CLIENT_HANDSHAKE_NS (10 * NS_PER_SEC) /* from the connection to ClientInit */
#define CLIENT_STALL_NS (30 * NS_PER_SEC) /* without a byte going out while some wait */
#define CLIENT_LINGER_NS (2 * NS_PER_SEC) /* to read why it was refused */
/* For khyve to tell how the screen is; then what is known has to do. */
#define CLIENT_FRAME_WAIT_NS (250 * NS_PER_MS)

#define CLIENT_IN_SIZE 2048 /* also the most that is read in one callback */
#define CLIENT_OUT_SIZE (ENC_MAX_SIZE + 4096) /* one piece and the small messages around it */

enum client_state {
	CLIENT_VERSION, /* waits for the viewer's protocol version */
	CLIENT_SECURITY, /* for its choice of security type */
	CLIENT_VENCRYPT, /* for its version of VeNCrypt */
	CLIENT_SUBTYPE, /* for its choice of what comes inside TLS */
	CLIENT_TLS, /* for TLS to be agreed on */
	CLIENT_PLAIN, /* for user and password */
	CLIENT_RESPONSE, /* for the answer to the challenge */
	CLIENT_DELAY, /* has the answer; an earlier failure makes it wait */
	CLIENT_INIT, /* for ClientInit */
	CLIENT_FRAME, /* wants ServerInit: waits for khyve to tell the size of the screen */
	CLIENT_RUN,
	CLIENT_CLOSING, /* refused: the reason goes out, what comes in is thrown away */
};

enum client_login { LOGIN_NONE, LOGIN_VNC, LOGIN_PLAIN };

/* What the viewer's SetEncodings allows. */
struct client_caps {
	bool chosen; /* an encoding that we know */
	int32_t encoding; /* the first of those named */
	int quality; /* 0 to 9; -1: pixels are sent as they are */
	bool resize, ext_resize, qemu_keys, leds;
	bool fence, ext_buttons;
};

/* Pseudo rectangles that go out with the next update. */
struct client_notices {
	bool size, size_refused, qemu_keys, leds, cursor, name, ext_buttons;
};

/* One viewer. Functions that return an int return a negative errno when the connection is to be dropped. */
struct client {
	struct list link; /* server's clients, oldest first */
	struct server *server;
	struct loop_fd watch;
	struct loop_timer deadline; /* the handshake's, or the output's */
	struct loop_timer gate; /* CLIENT_DELAY, CLIENT_FRAME and await_frame end here */
	struct loop_post work; /* more to encode or to send */
	enum client_state state;
	bool viewer; /* counted among the authenticated ones */

	unsigned int minor; /* protocol 3.3, 3.7 or 3.8 */
	struct auth_peer peer;
	uint8_t challenge[AUTH_CHALLENGE_SIZE];
	enum client_login login;
	bool password_right; /* the answer is in hand, and counts once it may */
	struct tls_conn *tls; /* NULL: bytes go as they are */
	bool anonymous; /* without certificate */
	bool tls_writes; /* CLIENT_TLS waits for room to write */

	uint8_t in[CLIENT_IN_SIZE];
	size_t in_len;
	uint32_t skip; /* bytes of the current message still to throw away */
	uint32_t encodings_left; /* of the current SetEncodings */

	uint64_t keys_down[KEY_INDEX_MAX / 64];
	uint16_t pointer_x, pointer_y, buttons;

	struct pixel_conv conv, next_conv; /* the next update switches to next_conv */
	struct client_caps caps;
	struct client_notices notices;
	struct zrle *zrle;
	struct tight *tight;
	struct zlib *zlib;

	unsigned int width, height; /* the viewer's idea of the screen */
	struct damage damage; /* differs from what the viewer has */
	struct rect request; /* 0 x 0: none waits */
	bool requested;
	bool await_frame; /* asked for the screen as it is now, not as it was */
	struct damage todo; /* what the current update has still to send */
	struct rect todo_region;
	bool updating;
	struct flow flow;

	uint8_t out[CLIENT_OUT_SIZE];
	size_t out_start, out_len;
	uint64_t sent; /* bytes since the beginning */
};

/* Takes the descriptor over. NULL: out of memory; the descriptor is closed then. The server lists it. */
struct client *client_new(struct server *s, int fd, struct auth_peer peer);
/* Closes the connection at once; releases the keys the viewer held. */
void client_free(struct client *c);

/* khyve told how the screen is: for those who wait for that. */
void client_frame_ready(struct client *c);
/* The picture changed, and perhaps its size. */
void client_damage(struct client *c, const struct damage *d);
void client_leds(struct client *c);
/* Waits for the screen to change. */
bool client_hungry(const struct client *c);

/* --- between client.c and rfb.c, flow.c, input.c, update.c --- */

/* Puts bytes of a small message into the output, which has room for them. */
void client_put(struct client *c, const void *data, size_t len);
void client_put_u8(struct client *c, uint8_t v);
void client_put_u16(struct client *c, uint16_t v);
void client_put_u32(struct client *c, uint32_t v);
/* Runs client_pump() soon. */
void client_kick(struct client *c);
/* Waits CLIENT_FRAME_WAIT_NS at most for client_frame_ready(). */
void client_await_frame(struct client *c);
void client_set_state(struct client *c, enum client_state state);

/* rfb.c: takes in what is complete in c->in. */
int rfb_input(struct client *c);
/* rfb.c: says whether the answer was right, once it may. */
int rfb_check_response(struct client *c);
/* rfb.c: goes on with c->login. */
int rfb_start_login(struct client *c);
void rfb_server_init(struct client *c);

/* vencrypt.c: as the handlers of rfb.c. */
ssize_t vencrypt_handle_version(struct client *c, const uint8_t *in, size_t len);
ssize_t vencrypt_handle_subtype(struct client *c, const uint8_t *in, size_t len);
ssize_t vencrypt_handle_plain(struct client *c, const uint8_t *in, size_t len);
/* vencrypt.c: in CLIENT_TLS, with all sent that is not part of TLS. */
int vencrypt_step(struct client *c);

/* input.c */
void input_keysym(struct client *c, uint32_t keysym, bool down);
void input_scancode(struct client *c, uint16_t scancode, bool down);
void input_pointer(struct client *c, uint16_t x, uint16_t y, uint16_t buttons);
void input_release_all(struct client *c);

/* update.c: a FramebufferUpdateRequest. */
void update_request(struct client *c, bool incremental, struct rect r);
/*
 * update.c: puts the next part of an update into the empty output. 1: call again when that is sent. 0: there is
 * nothing to do until the viewer asks or the screen changes.
 */
int update_step(struct client *c);

#endif
