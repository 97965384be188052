/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SNAPSHOT_H
#define MANAGER_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "manager/store.h"

struct err;
struct progress;

/*
 * Snapshots of a guest: folders NAME/.snap/SNAP with its file, its disks and its firmware's
 * variables, as they were at one instant. They never change, so that folders may share their files by
 * hard links. What makes or removes one works in .trash and moves it with one rename. Copies show how
 * far they are by progress, which may be NULL.
 */
#define SNAPSHOT_NAME_MAX 231

struct snapshot {
	char name[SNAPSHOT_NAME_MAX + 1];
	struct timespec created;
	uint64_t used; /* bytes that its files have on disk, shared ones included */
};

/* 1 to 231 letters, digits and . _ : -, the first a letter or digit. */
bool snapshot_name_valid(const char *name);
/* The guest's snapshots from the oldest to the newest, malloc'ed. */
int snapshot_list(const struct guest *g, struct snapshot **out, size_t *count);

/*
 * Makes a snapshot. live: the guest runs and is paused for it; else the caller holds the
 * supervisor's lock. -EEXIST.
 */
int snapshot_make(const struct guest *g, const char *name, bool live, struct progress *p,
		  struct err *err);
/* -ENOENT. */
int snapshot_remove(const struct guest *g, const char *name, struct err *err);
/*
 * Gives the guest back what it was, in one step. Only with the supervisor's lock. Snapshots that are
 * newer go if newer, else there must be none: -EBUSY, and the text names them. Logs stay, and so do
 * images that the snapshot does not know.
 */
int snapshot_rollback(const struct guest *g, const char *name, bool newer, struct progress *p,
		      struct err *err);
/*
 * Makes a guest from a snapshot, or, with name NULL, from the guest as it is: then only with the
 * supervisor's lock. The new one has no UUID and no MAC addresses so far, and no forwarded ports.
 */
int snapshot_clone(const struct store *s, const struct guest *g, const char *name, const char *to,
		   struct progress *p, struct err *err);

#endif
