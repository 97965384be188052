/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_IMAGE_H
#define MANAGER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store.h"

struct err;
struct progress;

/*
 * Images of guests to make others of: images/UUID.manifest and a tar file of the guest's parts in
 * the default datastore, the same whatever file system they come from or go to.
 */
struct image {
	char uuid[40];
	char name[STORE_NAME_MAX + 1]; /* of the guest that it was made of */
	char created[64]; /* as date(1) prints it */
	char description[512];
	uint64_t bytes; /* of the tar file */
};

struct image_spec {
	const char *description; /* NULL: none */
	bool compress;
	bool live; /* the guest runs and is paused for it; else the caller holds the supervisor's lock */
	struct progress *progress; /* may be NULL */
};

/* Makes one; uuid gets its name. */
int image_create(const struct store *s, const struct guest *g, const struct image_spec *spec,
		 char uuid[40], struct err *err);
/* In the order of their UUIDs, malloc'ed. */
int image_list(const struct store *s, struct image **out, size_t *count);
/* Makes a guest in a datastore (NULL: the default one); it gets its own UUID and MAC addresses. */
int image_provision(const struct store *s, const char *uuid, const char *datastore,
		    const char *name, struct progress *progress, struct err *err);
int image_destroy(const struct store *s, const char *uuid, struct err *err);

#endif
