/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CONF_CONF_PRIV_H
#define CONF_CONF_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/* Limits of what a person may write; far above any real use, they bound stacks and work. */
#define CONF_KEY_MAX 255 /* bytes of a dotted key */
#define CONF_DEPTH_MAX 16 /* components of a key; nested %(name) */
#define CONF_VALUE_MAX 65535 /* bytes of a value, before and after expansion */

/* "FILE:LINE:COLUMN" of a value, as far as it is known. */
#define CONF_PLACE_MAX 384

struct conf_node {
	char *name; /* one component; "" for the root */
	char *value; /* NULL: an inner node */
	char *where; /* NULL: built in */
	size_t where_stem; /* length of "FILE:LINE:" in where; 0: where has no column */
	size_t column; /* of the value's first byte, if where_stem */
	struct conf_node *parent;
	struct conf_node **kids; /* sorted: numbers by value, then names */
	size_t nkids, room;
};

struct conf {
	struct conf_node root;
	bool frozen;
};

/* Where a key or a value is wrong: the offset of the byte and the reason. */
struct conf_fault {
	size_t at;
	const char *why;
};

/* True if the text may be a key or a value; else *f says why not. */
bool conf_check_key(const char *key, struct conf_fault *f);
bool conf_check_value(const char *value, struct conf_fault *f);

/* Stores a checked pair; takes no ownership. On success *out (if not NULL) is the node. */
int conf_store(struct conf *c, const char *key, const char *value, const char *where,
	       struct conf_node **out, struct err *err);

/* The node at a dotted path below from ("" is from itself), or NULL. */
const struct conf_node *conf_find(const struct conf_node *from, const char *path);
/* Writes the full dotted key of a node; buf holds CONF_KEY_MAX + 1 bytes. */
void conf_key_of(const struct conf_node *n, char *buf);
/* Writes the place of byte offset of the node's value; buf holds CONF_PLACE_MAX bytes. */
void conf_place(const struct conf_node *n, size_t offset, char *buf);

/* The value with every %(name) replaced, malloc'ed in *out. 0, or an error that names the place. */
int conf_expand(const struct conf *c, const struct conf_node *n, char **out, struct err *err);

#endif
