/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_TAP_H
#define MANAGER_TAP_H

#include <net/if.h>
#include <stdbool.h>

#include "manager/store.h"

struct err;
struct plan_net;
struct rtnl;
struct rtnl_link;

/* How the taps of guests are marked: vmnet/GUEST/N/SWITCH, with - for no switch. */
#define TAP_ALIAS "vmnet/"

/*
 * The host's end of a guest's network card. A tap of our own exists as long as somebody has its descriptor open: when
 * khyve ends, however it ends, it is gone.
 */
struct tap {
	int fd;
	char name[IF_NAMESIZE];
	char bridge[IF_NAMESIZE]; /* "": connected to nothing */
};

/*
 * Makes, or opens, the tap of a network card and connects it to its switch, which is brought up if it is not. Needs
 * CAP_NET_ADMIN. The caller owns fd, which is close-on-exec.
 */
int tap_open(struct rtnl *r, const struct guest *g, const struct plan_net *n, struct tap *out,
	     struct err *err);
/*
 * For an interface that has become a port of the switch: it carries all VLANs if the bridge knows them, and what
 * arrives is copied to the guests that watch.
 */
int tap_settle_port(struct rtnl *r, const char *switch_name, const struct rtnl_link *port);
/* Removes copies to taps that are gone. For all ports of all bridges of switches. */
void tap_sweep(struct rtnl *r);
/* The running guest's tap number n. -ENODEV. */
int tap_find(struct rtnl *r, const struct guest *g, unsigned int n, struct rtnl_link *out);

#endif
