/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_MEDIA_H
#define MANAGER_MEDIA_H

#include <stdbool.h>

struct err;
struct progress;

/* What goes into .iso or .img: from where, and how it is to be checked. */
struct media {
	const char *dir; /* the folder it goes to */
	const char *source; /* URL or file */
	const char *checksum; /* as fetch_opts has it, or NULL */
	const char *keyring; /* NULL: the distribution's */
	int ip; /* 4, 6 or 0 */
	bool dry_run; /* only look whether it may be got and made */
	bool disk; /* a disk image: other formats become raw */
	struct progress *progress; /* may be NULL */
	/* Lines for a person, such as how the file was checked; warning: what was not. */
	void (*say)(bool warning, const char *text);
};

/*
 * Fetches or copies, checks, unpacks, and makes raw disk images of others. Only what is whole and
 * right gets its final name; what is left of an interrupted fetch is gone on from. -EEXIST: it is
 * there already.
 */
int media_add(const struct media *m, struct err *err);

#endif
