/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_FREEZE_H
#define MANAGER_FREEZE_H

#include "manager/run.h"

struct err;

/*
 * A running guest stands still: its processors are paused and its disks have no request in flight,
 * so that all of its files are of one instant. A process of its own lets it go on if the command is
 * killed meanwhile.
 */
struct freeze {
	const struct guest *g;
	struct run_state state;
	int pipe; /* its other end belongs to the process that watches; -1: it was paused before */
	pid_t watcher;
};

int freeze_begin(struct freeze *f, const struct guest *g, struct err *err);
/* Lets the guest go on. -EAGAIN: it has not stood still all the time, what was copied is no good. */
int freeze_end(struct freeze *f, struct err *err);

#endif
