/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_USERNET_H
#define MANAGER_USERNET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "manager/plan.h"

struct err;
struct guest;

/*
 * The khyve-net of each card of a guest that has user-mode networking: started before khyve, started again when it
 * dies, with the ports that the guest's file names at that time, and ended with the guest. It listens on netN.sock
 * and is told of changes on netN.ctl, in the guest's folder. One whose supervisor was killed stays with its khyve.
 */
struct usernet {
	const struct guest *g;
	char program[PATH_MAX]; /* "": not looked for yet */
	struct usernet_net {
		bool wanted;
		pid_t pid; /* 0: not running, or not our child */
		bool adopted; /* looks after itself until it is found missing */
		uint64_t started_ns, delay_ns;
		uint64_t due_ns; /* when to look again or start it again; 0: nothing is due */
	} nets[PLAN_NETS_MAX];
};

#define USERNET_SOCKET "net%u.sock"
#define USERNET_CONTROL "net%u.ctl"

void usernet_init(struct usernet *u, const struct guest *g);
/* Starts it for card n and waits until it is ready. */
int usernet_start(struct usernet *u, unsigned int n, struct err *err);
/* The guest runs already: looks after card n from now on. */
void usernet_adopt(struct usernet *u, unsigned int n);
/* After SIGCHLD, and when due: starts again what died. Milliseconds until it is to be called again, at most max. */
int usernet_tend(struct usernet *u, int max);
/* Ends all of them, and waits for those that are our children. */
void usernet_stop(struct usernet *u);

#endif
