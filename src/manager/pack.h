/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PACK_H
#define MANAGER_PACK_H

#include <stdbool.h>

struct err;
struct progress;

/* A tar file (pax, with holes) that is being written to fd, packed by zstd if compress. */
struct archive;

int pack_open(int fd, bool compress, struct archive **out, struct err *err);
/* Adds a file under a name. progress counts the bytes that are not holes; it may be NULL. */
int pack_add(struct archive *a, const char *path, const char *name, struct progress *progress,
	     struct err *err);
/* Writes the rest and frees; fd stays open. a may be NULL. */
int pack_close(struct archive *a, struct err *err);

#endif
