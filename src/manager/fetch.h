/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_FETCH_H
#define MANAGER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct progress;

struct fetch_opts {
	const char *url, *path;
	const char *checksum; /* [sha256:|sha512:]HEX, NULL: none */
	int ip; /* 4 or 6: by that protocol only; 0: either */
	struct progress *progress; /* may be NULL */
};

/* True if text is something that fetch_url takes. */
bool fetch_is_url(const char *text);
/*
 * The file name of a URL: last part of the path without query, decoded. -EINVAL if it has none
 * that is usable.
 */
int fetch_name(const char *url, char *out, size_t size);

/*
 * Downloads to path. Until all of it is there and the checksum is right, the bytes are in
 * .NAME.part beside it, from where the next try goes on if the server still has the same file.
 * -EEXIST: somebody else is at it.
 */
int fetch_url(const struct fetch_opts *o, struct err *err);
/* Copies a local file to path, under a temporary name first. */
int fetch_file(const char *from, const struct fetch_opts *o, struct err *err);
/* What o->url has, at most max bytes, malloc'ed and NUL-terminated behind len. -ENOENT: nothing. */
int fetch_text(const struct fetch_opts *o, size_t max, char **out, size_t *len, struct err *err);
/* "sha256:HEX" of a file. */
int fetch_digest(const char *path, char *out, size_t size, struct err *err);
/* -EBADMSG if the file does not have that checksum; -EINVAL if it is none. */
int fetch_check(const char *path, const char *checksum, struct err *err);

#endif
