/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_CATALOGUE_H
#define MANAGER_CATALOGUE_H

#include <stddef.h>

#include "manager/store.h"

struct err;

/* A disk image that is known by a name: share/catalogue, and the store's own .config/catalogue. */
struct catalogue_image {
	char name[64], user[64], url[1024];
	char checksum[160]; /* as fetch_opts has it; "": none */
};

/* -ENOENT: there is no such name, and the text says which there are; -EINVAL: a line makes no sense. */
int catalogue_find(const struct store *s, const char *name, struct catalogue_image *out,
		   struct err *err);

#endif
