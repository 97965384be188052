/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_VIEWER_H
#define MACHINE_VIEWER_H

#include <stdbool.h>

struct dev;
struct err;
struct loop;

/*
 * khyve-vnc as a child of khyve: binds the listening sockets, starts the program with the screen's memfd and one end
 * of a socket pair, and starts it again when it dies. Every function accepts NULL for "no screen".
 */
struct viewer;

/* For the frame buffer model d. Binds now, so that a port that is taken is refused before the guest runs. */
int viewer_new(struct loop *l, const char *guest, struct dev *d, struct viewer **out,
	       struct err *err);
/* Ends the program and waits for it. */
void viewer_free(struct viewer *v);
/* SIGCHLD arrived. */
void viewer_reap(struct viewer *v);
/* Called with the number of viewers whenever it changes. Main loop. */
void viewer_on_clients(struct viewer *v, void (*fn)(void *arg, unsigned int count), void *arg);
bool viewer_wants_wait(const struct viewer *v);
unsigned int viewer_clients(const struct viewer *v);
/* "127.0.0.1:5900", "[::]:5900" or "unix:PATH". */
const char *viewer_address(const struct viewer *v);

#endif
