/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_USAGE_H
#define MANAGER_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/run.h"

/* What a guest uses, from /proc and from its khyve. Counters begin with the run. */
#define USAGE_IO_MAX 40

struct usage_io {
	bool disk; /* else a network card */
	char name[48]; /* khyve's: "nvme-0:4.0" */
	uint64_t in, out; /* bytes read or received, and written or sent, by the guest */
};

struct usage {
	char guest[STORE_NAME_MAX + 1];
	struct run_state run;
	struct run_usage process; /* of khyve; all 0 if unknown */
	bool answers; /* khyve does; else nothing is known of what follows */
	char state[16]; /* "running", "paused", "waiting", "busy" */
	char reason[600]; /* which disk keeps it from going on, or "" */
	uint64_t cpus, memory, exits;
	struct usage_io io[USAGE_IO_MAX];
	unsigned int count;
};

/* Takes at most four seconds if khyve does not answer. */
void usage_get(const struct guest *g, struct usage *out);
/* Of all guests, in their order, if running only of those that run here. The caller frees *out. -EACCES: some are hidden; *out has the others. */
int usage_list(const struct store *s, bool running, struct usage **out, size_t *count);
/* The sum over disks, or over network cards. */
struct usage_io usage_sum(const struct usage *u, bool disk);

#endif
