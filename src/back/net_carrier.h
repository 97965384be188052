/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_NET_CARRIER_H
#define BACK_NET_CARRIER_H

#include <stdbool.h>

#include "loop/loop.h"

/* Watches an interface of the host: is it up, does it exist? Loop's thread. */
struct net_carrier {
	void (*changed)(struct net_carrier *c); /* up or gone changed */
	int fd; /* rtnetlink; -1: not watched */
	struct loop_fd watch;
	int index;
	bool up, gone;
};

/*
 * Finds the interface and its state. mtu (may be NULL) is stored. 0; -ENODEV: there is none of this name here; -errno.
 * c->fd must be -1 or closed before.
 */
int net_carrier_open(struct net_carrier *c, struct loop *l, const char *name, unsigned int *mtu);
/* Brings up and gone up to date at once, without a call of changed. */
void net_carrier_refresh(struct net_carrier *c);
/* Accepts one that is not open (fd -1). */
void net_carrier_close(struct net_carrier *c);

#endif
