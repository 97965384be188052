/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_LISTEN_H
#define BACK_LISTEN_H

#include <stddef.h>

#include "loop/loop.h"

struct err;

/*
 * Opens a listening stream socket (non-blocking, close-on-exec) for an address that a person wrote:
 * PORT, ADDR:PORT, NAME:PORT, [V6ADDR]:PORT, [V6ADDR%ZONE]:PORT or unix:PATH (mode 0600; a socket file without a
 * listener is replaced). Without ADDR it is 127.0.0.1. [::] also takes IPv4. Returns the descriptor or -errno with a
 * text that names the address. text gets the address in canonical form, with the port the kernel chose for port 0.
 */
int listen_open(const char *addr, char *text, size_t size, struct err *err);
/*
 * The same for a SOCK_SEQPACKET socket at a path, whose packets are frames or messages. Returns the descriptor or
 * -errno.
 */
int listen_open_packets(const char *path, struct err *err);
/* Removes the file of a unix:PATH address; nothing for others. */
void listen_unlink(const char *text);

/*
 * Connections of a listening socket. When this process or the host has no descriptor or memory for one more, the socket
 * is left alone for a second instead of being asked again and again. Loop's thread.
 */
struct listener {
	struct loop_fd watch;
	struct loop_timer retry;
	/* fd (non-blocking, close-on-exec) is the callee's from then on. It may call listener_del. */
	void (*accepted)(struct listener *l, int fd);
};

/* Calls accepted for each connection to fd, which stays the caller's. 0 or -errno. */
int listener_add(struct loop *loop, struct listener *l, int fd,
		 void (*accepted)(struct listener *l, int fd));
/* One never added (zeroed) is fine. */
void listener_del(struct listener *l);

#endif
