/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;

/*
 * The configuration tree of bhyve_config(5): dotted names, string values, last write wins, %(name) expands
 * another variable and %% is a percent sign. Every value remembers where it came from, so that complaints
 * name the place. A key is 1 to 16 names of letters, digits, _ and -, with dots between; a key with a value has no
 * keys below it. A value is not empty and does not begin or end with a blank. One thread at a time uses a tree.
 */
struct conf;

struct conf *conf_new(void);
void conf_free(struct conf *c);

/* Where a value was given: "FILE:LINE:COLUMN" or "-o" or "-s 3,nvme,..."; copied. NULL: built in. */
int conf_set(struct conf *c, const char *key, const char *value, const char *where,
	     struct err *err);
int conf_setf(struct conf *c, const char *where, struct err *err, const char *key, const char *fmt,
	      ...) __attribute__((format(printf, 5, 6)));
/* "KEY=VALUE" as -o takes it; the value must not be empty. */
int conf_set_assignment(struct conf *c, const char *text, const char *where, struct err *err);
/* key=value lines as -k takes them: no blanks around =, # lines and empty lines skipped. All errors name path:line:column. */
int conf_load_file(struct conf *c, const char *path, struct err *err);
/* The same from memory (the control socket); name stands for the path in messages. */
int conf_load_text(struct conf *c, const char *name, const char *text, size_t len, struct err *err);

/* The unexpanded value or NULL. Valid until the next conf_set of that key. */
const char *conf_get(const struct conf *c, const char *key);
/* Where the key (or the first key below this node) was given, for messages; "built in" if nowhere. */
const char *conf_where(const struct conf *c, const char *key);
/* True if the node has a value or children. */
bool conf_has(const struct conf *c, const char *node);
/* Typed reads of one key with expansion. 0, -ENOENT when unset (out untouched), or an error that names the place. */
int conf_get_str(const struct conf *c, const char *key, char *out, size_t size, struct err *err);
int conf_get_bool(const struct conf *c, const char *key, bool *out, struct err *err);
int conf_get_u64(const struct conf *c, const char *key, uint64_t *out, struct err *err);

/* Calls fn for each direct child name of node ("" = root) in the order numbers-then-names; stops at the first non-zero. */
int conf_each(const struct conf *c, const char *node, int (*fn)(void *arg, const char *name),
	      void *arg);

/* After this conf_set fails; expansion of every value has been checked. */
int conf_freeze(struct conf *c, struct err *err);
/* Writes key=value lines that conf_load_file accepts and that give the same tree. */
void conf_dump(const struct conf *c, FILE *f);

enum conf_type {
	CONF_STR, /* char *, malloc'ed by conf_bind; NULL when unset and without default */
	CONF_BOOL, /* bool */
	CONF_U64, /* uint64_t, min..max */
	CONF_SIZE, /* uint64_t bytes, min..max; a bare number is bytes times unit */
	CONF_ENUM, /* int, index in choices */
};

/* One setting of a model or of the machine. Tables end with an entry whose name is NULL. */
struct conf_key {
	/*
	 * Below the node. In "vcpu.#.cpuset" # is any decimal number: such keys are checked, and stored only if count
	 * is set. Then there is one #, it is below count, and the value of number i is at offset + i * stride.
	 */
	const char *name;
	enum conf_type type;
	size_t offset; /* in the typed struct */
	const char *def; /* text of the default, NULL: zero or unset */
	uint64_t min, max; /* max 0: no limit; CONF_STR: max is in bytes */
	uint64_t unit; /* CONF_SIZE; 0 means 1 */
	const char *const *choices; /* CONF_ENUM, NULL-terminated */
	bool required;
	bool ignored; /* accepted for compatibility, has no effect: not stored */
	const char *alias; /* old name accepted as well, or NULL */
	unsigned int count; /* see name; no default, not required */
	size_t stride;
	const char *help; /* one line */
};

#define CONF_KEY_END         \
	{                    \
		.name = NULL \
	}

/*
 * Fills the typed struct from the children of node: defaults, then values, checked against the table. Names that
 * the table does not list are an error that names the place and the nearest valid name, except those in skip
 * (NULL-terminated, may be NULL): nodes that somebody else binds. out is zeroed by the caller; it owns its strings, which
 * conf_unbind frees; after a failure there is nothing to free.
 */
int conf_bind(const struct conf *c, const char *node, const struct conf_key *keys, void *out,
	      const char *const *skip, struct err *err);
void conf_unbind(const struct conf_key *keys, void *out);

/* Prints the table for a person: name, type or choices, default, help. */
void conf_print_keys(const struct conf_key *keys, FILE *f);

#endif
