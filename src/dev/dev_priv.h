/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef DEV_DEV_PRIV_H
#define DEV_DEV_PRIV_H

#include "dev/dev.h"

/* The hooks around the completions of one disk or line; freed with the device. */
struct dev_batch {
	struct dev *dev;
	void (*end)(struct dev *d);
	struct dev_net_events net; /* of a line */
	struct blk *disk; /* NULL: a line, */
	struct net *line; /* which is this */
	struct list link;
};

/* As dev_lock, for callers that know that they are on the loop's thread. */
void dev_lock_on_loop(struct dev *d);
/* arg is a struct dev_batch. */
void dev_batch_enter(void *arg);
void dev_batch_leave(void *arg);

#endif
