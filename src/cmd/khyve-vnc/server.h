/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_SERVER_H
#define CMD_KHYVE_VNC_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/khyve-vnc/auth.h"
#include "cmd/khyve-vnc/link.h"
#include "cmd/khyve-vnc/tls.h"
#include "cmd/khyve-vnc/view.h"
#include "loop/loop.h"
#include "util/clock.h"
#include "util/list.h"

struct client;
struct err;
struct sockaddr_storage;

#define SERVER_MAX_LISTEN 8
#define SERVER_VIEWERS_DEFAULT 8
#define SERVER_VIEWERS_MAX 32
#define SERVER_HANDSHAKES_MAX 8 /* beyond the viewers; one more throws out the oldest */
#define SERVER_NAME_MAX 64

/* Times between two looks at the screen: the first while it changes, then longer and longer while it does not. */
#define SERVER_REFRESH_MIN_NS (NS_PER_SEC / 60)
#define SERVER_REFRESH_MAX_NS (250 * NS_PER_MS)
#define SERVER_REFRESH_PATIENCE 8 /* frames without a change before the time doubles, each time */
#define SERVER_ACCEPT_RETRY_NS \
	NS_PER_SEC /* after accept failed for want of descriptors or memory */

struct server_listener {
	struct loop_fd watch;
	struct server *server;
};

/* The RFB server: the screen, the link to khyve and the viewers. One thread, one loop. */
struct server {
	struct loop *loop;
	struct view view;
	struct link link;
	struct auth auth;
	struct tls *tls; /* NULL: viewers need none */
	struct list clients; /* struct client, oldest first */
	unsigned int viewers, handshakes, max_viewers;
	struct server_listener listeners[SERVER_MAX_LISTEN];
	size_t n_listeners;
	struct loop_timer accept_retry, refresh;
	uint64_t refresh_interval_ns, refresh_last_ns;
	uint64_t frame_ns; /* when khyve told last how the screen is */
	unsigned int unchanged; /* frames in a row */
	uint32_t leds; /* as in struct screen_msg_leds */
	bool ended; /* the link to khyve is gone */
	int end_error; /* why: 0 khyve closed it */
	char name[SERVER_NAME_MAX + 1];
};

struct server_config {
	int screen_fd, ctl_fd;
	const int *listen_fds; /* bound and listening; made non-blocking */
	size_t n_listen;
	const char *password; /* NULL: none */
	int tls_fd; /* private key and certificate; <= 0: no TLS */
	const char *name; /* what viewers show in their title */
	unsigned int max_viewers;
};

/* All descriptors stay the caller's. When the link to khyve ends, the loop is stopped. */
int server_init(struct server *s, struct loop *loop, const struct server_config *conf,
		struct err *err);
void server_fini(struct server *s);

/* Starts to serve a connection; takes over the descriptor, which is non-blocking. NULL: it was closed. */
struct client *server_add(struct server *s, int fd, const struct sockaddr_storage *from);
/* Ends it. */
void server_drop(struct server *s, struct client *c);
/* The client has authenticated. False: there are enough viewers. */
bool server_admit(struct server *s, struct client *c);

/* Asks khyve for a frame, now or when it is time, if some viewer waits for one. */
void server_schedule(struct server *s);
/* False: the copy of the screen may be old; a frame is asked for at the next occasion. */
bool server_frame_is_new(struct server *s);

void server_key(struct server *s, uint16_t scancode, bool down);
void server_pointer(struct server *s, uint16_t x, uint16_t y, uint16_t buttons);
bool server_caps_lock(const struct server *s);

#endif
