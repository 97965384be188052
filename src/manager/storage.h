/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_STORAGE_H
#define MANAGER_STORAGE_H

struct err;
struct progress;

/*
 * How a datastore keeps a second version of a file. reflink: the file system shares what is equal,
 * at once (FICLONE: XFS, btrfs, bcachefs). plain: the bytes are copied, holes stay holes.
 */
struct storage {
	const char *kind;
	/* Copies a whole file to an empty one, without syncing it; p may be NULL. -errno. */
	int (*copy)(int from, int to, struct progress *p);
};

/* The same for files that may be on different file systems: the better way that works. */
int storage_copy(int from, int to, struct progress *p);

/* Finds out, by trying, which kind the folder is on. It must be one that may be written. */
int storage_probe(const char *dir, const struct storage **out, struct err *err);

#endif
