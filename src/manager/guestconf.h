/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_GUESTCONF_H
#define MANAGER_GUESTCONF_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/*
 * A file of key="value" lines in vm-bhyve's grammar: guest files, templates, khyve.conf. Only
 * lines whose first byte is a-z count; # starts a comment even inside quotes; all quotes are
 * deleted; the first line of a key wins. Edits change that line and keep every other byte.
 */
struct gconf;

struct gconf_line {
	const char *key, *value; /* NULL: the line assigns nothing */
	const char *text; /* as in the file, without the end of line */
	unsigned number; /* from 1 */
};

/* path is for messages. -EINVAL: the file holds a NUL byte, -ENOMEM. */
int gconf_parse(const char *path, const char *text, size_t len, struct gconf **out,
		struct err *err);
int gconf_load(const char *path, struct gconf **out, struct err *err);
void gconf_free(struct gconf *g);

/* NULL if the key is missing. Valid until the next edit. */
const char *gconf_get(const struct gconf *g, const char *key);
/* The same for a key made by printf, such as "disk%u_type". */
const char *gconf_getf(const struct gconf *g, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Missing or empty: def. no, false, off, 0 in any case: false. Anything else: true. */
bool gconf_bool(const struct gconf *g, const char *key, bool def);
/* "PATH:LINE" of the line that counts, or PATH. Valid until the next call. */
const char *gconf_where(struct gconf *g, const char *key);

/* -EINVAL if the value cannot be written in this grammar (quotes, #, control characters). */
int gconf_set(struct gconf *g, const char *key, const char *value);
/* Removes all lines of the key. */
void gconf_unset(struct gconf *g, const char *key);
/* From here on gconf_save of this one writes nothing: for a dry run. */
void gconf_hold(struct gconf *g);
int gconf_save(const struct gconf *g, const char *path, struct err *err);
/* The file's bytes, malloc'ed. */
char *gconf_text(const struct gconf *g, size_t *len);

size_t gconf_count(const struct gconf *g);
struct gconf_line gconf_line(const struct gconf *g, size_t i);
const char *gconf_path(const struct gconf *g);

#endif
