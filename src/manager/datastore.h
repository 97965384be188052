/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_DATASTORE_H
#define MANAGER_DATASTORE_H

#include <limits.h>
#include <stdbool.h>

#include "manager/store.h"

struct err;

/*
 * Datastores besides the default one, as system.conf has them: datastore_list names them, path_NAME
 * is a folder, iso:FOLDER or img:FOLDER for media only, or zfs:DATASET. One for guests is there if
 * it has the folder .trash, which datastore_add made: else its file system is not mounted, and an
 * empty folder is not to be taken for it.
 */
enum datastore_kind { DATASTORE_GUESTS, DATASTORE_ISO, DATASTORE_IMG };

struct datastore {
	char name[STORE_NAME_MAX + 1];
	char path[PATH_MAX];
	char dataset[256]; /* of ZFS, or "" */
	enum datastore_kind kind;
};

/* Fills s->others; a file that is missing names none. */
int datastore_load(struct store *s, struct err *err);
bool datastore_is_there(const struct datastore *d);
/* Adds one to system.conf; spec is FOLDER or zfs:DATASET. -EEXIST, -EINVAL, -ENOENT. */
int datastore_add(const struct store *s, enum datastore_kind kind, const char *name,
		  const char *spec, struct err *err);
/* Takes it out of system.conf; nothing in it is touched. -EBUSY: guests in it run. */
int datastore_remove(const struct store *s, const char *name, struct err *err);

#endif
