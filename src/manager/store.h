/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_STORE_H
#define MANAGER_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct err;

/*
 * Names of guests: 2 to 231 letters, digits, dots, dashes and underscores, first and last a letter
 * or digit.
 */
#define STORE_NAME_MAX 231
#define STORE_DEFAULT "default"

/*
 * A datastore: a folder in vm-bhyve's layout. .trash holds what is being made or removed; each
 * entry is locked by the process at work on it, and what nobody holds is removed by the next
 * command that changes the store.
 */
struct datastore;

struct store {
	char name[STORE_NAME_MAX + 1]; /* "default", else that of another datastore */
	char dir[PATH_MAX];
	char home[PATH_MAX]; /* the default datastore's folder, which has switches and templates */
	char share[PATH_MAX]; /* the folder of the templates that come with the program */
	struct datastore *others; /* the other datastores (datastore.h), of the default one only */
	size_t other_count;
	char *list; /* vm_list */
	unsigned delay; /* vm_delay, seconds */
	bool dry_run; /* what changes something checks all it can and returns before it does so */
};

struct guest {
	char name[STORE_NAME_MAX + 1];
	char store[STORE_NAME_MAX + 1]; /* the datastore's name */
	char home[PATH_MAX]; /* the default datastore's folder */
	char dir[PATH_MAX];
	char conf[PATH_MAX];
	bool dry_run; /* the store's */
};

/*
 * Finds out where the store is: the environment's VM_DIR, else vm_dir of khyve.conf (KHYVE_CONF
 * names another file), else the default of the user. Touches nothing.
 */
int store_open(struct store *s, struct err *err);
void store_close(struct store *s);
/*
 * Makes the store and its folders; with_parents also makes the folder itself. Finishes interrupted
 * removals.
 */
int store_make(const struct store *s, bool with_parents, struct err *err);
/* 0, or an error that says what to do when there is no store. */
int store_check(const struct store *s, struct err *err);

bool store_name_valid(const char *name);
/*
 * Looks in all datastores, as store_each does. -ENOENT if none has such a guest; -EACCES if it is not
 * ours to look at.
 */
int store_find(const struct store *s, const char *name, struct guest *out);
/* Fills paths for a name, whether the guest exists or not. -ENAMETOOLONG. */
int store_guest(const struct store *s, const char *name, struct guest *out);
/* The default datastore of a guest, as far as folders go: share and settings are empty. */
int store_of(const struct guest *g, struct store *out);
/* The same for the datastore that the guest is in. */
void store_around(const struct guest *g, struct store *out);
/* A datastore by its name, as such a struct store. -ENOENT: unknown, or not mounted. */
int store_view(const struct store *s, const char *name, struct store *out, struct err *err);
/* Calls fn for the default datastore and for all others that guests can be in and that are there. */
int store_each_view(const struct store *s, int (*fn)(void *arg, const struct store *view),
		    void *arg);
/*
 * All guests, datastore by datastore, in the order of their names; stops at the first non-zero and returns it. -EACCES:
 * some are hidden.
 */
int store_each(const struct store *s, int (*fn)(void *arg, const struct guest *g), void *arg);
/* The place in vm_list, from 1; 0: not in it. */
unsigned store_autostart(const struct store *s, const char *name);

/* The template of that name: the store's, else the one that comes with the program. */
int store_template(const struct store *s, const char *name, char *out, size_t size,
		   struct err *err);
/*
 * An ISO given by absolute path, relative to the working folder, or by its name in .iso. -ENOENT.
 */
int store_find_iso(const struct store *s, const char *name, char *out, size_t size);
/* The same for a disk image, by its name in .img. */
int store_find_img(const struct store *s, const char *name, char *out, size_t size);

/*
 * A new, empty, locked folder in .trash. *lock keeps it; close it when the folder was moved away
 * or is to go.
 */
int store_stage(const struct store *s, const char *name, char *out, size_t size, int *lock,
		struct err *err);
/* Moves the guest's folder to .trash of its datastore and removes it there. */
int store_remove(const struct store *around, const struct guest *g, struct err *err);
/* Removes what interrupted commands left in .trash of all datastores. */
void store_purge(const struct store *s);

#endif
