/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef DEV_DEV_PRIV_H
#define DEV_DEV_PRIV_H

#include "dev/dev.h"

/* The hooks around the completions of one disk; freed with the device. */
struct dev_batch {
	struct dev *dev;
	void (*end)(struct dev *d);
	struct list link;
};

/* As dev_lock, for callers that know that they are on the loop's thread. */
void dev_lock_on_loop(struct dev *d);

#endif
