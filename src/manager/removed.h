/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_REMOVED_H
#define MANAGER_REMOVED_H

#include <stddef.h>
#include <time.h>

#include "manager/store.h"

struct err;

/*
 * Guests that were destroyed and can still be brought back: whole folders .removed/TIME-NAME. What is
 * older than REMOVED_DAYS goes with the next command that changes the store.
 */
#define REMOVED_DAYS 7

struct removed {
	char name[STORE_NAME_MAX + 1];
	char store[STORE_NAME_MAX + 1]; /* the datastore's name */
	time_t when;
};

/* Of all datastores, from the oldest to the newest, malloc'ed. */
int removed_list(const struct store *s, struct removed **out, size_t *count);
/* Puts a guest there. Only with the supervisor's lock, whose file goes with it. */
int removed_add(const struct guest *g, struct err *err);
/* Brings the last guest of that name back. -ENOENT; -EEXIST: there is another one by now. */
int removed_restore(const struct store *s, const char *name, struct err *err);
/* Removes those that went before that time, of one name or, with NULL, of all. Returns how many. */
int removed_empty(const struct store *s, const char *name, time_t before, struct err *err);

#endif
