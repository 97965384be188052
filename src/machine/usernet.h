/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_USERNET_H
#define MACHINE_USERNET_H

#include <stdint.h>

#include "util/list.h"

struct conf;
struct err;
struct loop;

/*
 * khyve-net as a child of khyve, one for each network card whose back end is "slirp". The socket between them is
 * khyve's own and has no file, so that nothing stays behind; a program that dies is started again. Main thread.
 */
struct usernet {
	struct list link;
};

#define USERNET_BACKEND "slirp"
#define USERNET_ADDRESS_MAX 64

/* What a card connects to, for net_open: the socket of the card in this place. */
void usernet_address(uint8_t devfn, char *out);
/*
 * Starts it as the settings below node say: hostfwd, open, mtu. Waits until it is ready. Forwards that cannot be
 * opened are an error.
 */
int usernet_new(struct loop *l, const struct conf *conf, const char *node, uint8_t devfn,
		struct usernet **out, struct err *err);
/* Ends the program and waits for it. */
void usernet_free(struct usernet *u);
/* SIGCHLD arrived. */
void usernet_reap(struct usernet *u);

#endif
