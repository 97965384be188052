/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PLAN_H
#define MANAGER_PLAN_H

#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store.h"
#include "manager/switch.h"

struct conf;
struct err;
struct gconf;

/* What a network card is connected to. */
enum plan_net_kind {
	PLAN_NET_TAP, /* a tap that the supervisor opens and hands over as descriptor PLAN_NET_FD + its place in nets */
	PLAN_NET_USER, /* user-mode networking: a khyve-net of the supervisor's behind netN.sock in the guest's folder */
};

struct plan_net {
	unsigned int number; /* N of networkN_* */
	enum plan_net_kind kind;
	char name[IF_NAMESIZE]; /* of the tap; "": any */
	bool device; /* name is an interface that exists */
	struct switch_conf network; /* name "": connected to nothing */
	bool span;
	unsigned int vlan; /* 0: none */
	uint64_t limit_in, limit_out; /* bits per second, seen from the guest; 0: none */
	const char *why; /* why it has user-mode networking, if nobody asked for that; or NULL */
};

/* What a guest file compiles to: khyve's configuration and what has to be made ready for it. */
struct plan {
	struct conf *conf;
	char com[2][8]; /* "com1", "com2": those in use, the user's choice first; "" */
	char screen[PATH_MAX]; /* ADDR:PORT, [v6]:PORT or unix:PATH; "": no screen */
	bool screen_open; /* reachable from other hosts without a password */
	bool screen_tls; /* RUN_TLS is to be made */
	bool screen_wait;
	const char *password; /* in the guest file's memory, or NULL */
	char vars[PATH_MAX], vars_template[PATH_MAX]; /* UEFI variables; "": none */
	bool vars_fresh; /* a new copy at each start */
	int priority; /* nice value */
	struct plan_net *nets;
	size_t net_count;
	const char *options; /* extra options for khyve, or NULL */
};

struct plan_opts {
	const char *iso; /* installation medium, NULL: none */
	bool first; /* the first run of an installation */
	bool foreground; /* the first serial port is the terminal */
	unsigned port; /* that the screen of the run before had, 0: none */
};

/*
 * Places on PCI bus 0, fixed per class of device, so that adding one never renumbers another: 0
 * host bridge, 3 installation medium, 4-11 disks (disk 8 is function 1 of slot 4, and so on),
 * 12-19 network, 20-23 passthrough, 24 random numbers, 25 screen, 26 USB, 27 sound, 28 console, 31
 * LPC.
 */
#define PLAN_SLOT_INSTALL 3
#define PLAN_SLOT_DISK 4
#define PLAN_SLOT_NET 12
#define PLAN_SLOT_RANDOM 24
#define PLAN_SLOT_SCREEN 25
#define PLAN_SLOT_USB 26
#define PLAN_SLOT_LPC 31
#define PLAN_DISKS_MAX 64
#define PLAN_NETS_MAX 8
/* khyve finds the descriptor of the first tap here. */
#define PLAN_NET_FD 4
/* networkN_switch of those who ask for user-mode networking; no switch can have this name. */
#define PLAN_NET_USER_NAME "user"

/*
 * Compiles. Reads the host (firmware, free ports, whether disks exist) and changes nothing. g must
 * outlive p. Errors name file and line.
 */
int plan_make(struct plan *p, const struct guest *guest, struct gconf *g,
	      const struct plan_opts *opts, struct err *err);
void plan_fini(struct plan *p);

/*
 * What network card n of a guest file is connected to, without the rest of the plan. -ENOENT: there is no such card,
 * or its place is kept free with type none.
 */
int plan_net(const struct guest *guest, struct gconf *g, unsigned int n, struct plan_net *out,
	     struct err *err);

#endif
