/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/conf_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define FILE_MAX (1u << 20)
#define LINE_MAX_BYTES (CONF_KEY_MAX + 1u + CONF_VALUE_MAX)

/* The line that is being read, terminated, without its end-of-line bytes. */
struct line {
	const char *path;
	size_t number; /* from 1 */
	char *text;
	size_t len;
};

static int line_error(const struct line *l, size_t column, struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "%.300s:%zu:%zu: %s", l->path, l->number, column + 1, why);
}

static bool line_is_empty(const struct line *l)
{
	size_t i = strspn(l->text, " \t");

	return i == l->len || l->text[i] == '#';
}

static int load_line(struct conf *c, struct line *l, struct err *err)
{
	struct conf_node *n;
	struct conf_fault f;
	size_t column;
	char *eq, *where;
	int r;

	if (strlen(l->text) != l->len)
		return line_error(l, strlen(l->text), err, "NUL byte: this is not a text file");
	if (line_is_empty(l))
		return 0;
	eq = strchr(l->text, '=');
	if (!eq)
		return line_error(l, 0, err, "not key=value: there is no =");
	*eq = '\0';
	column = (size_t)(eq + 1 - l->text);
	if (!conf_check_key(l->text, &f))
		return line_error(l, f.at, err, f.why);
	if (!conf_check_value(eq + 1, &f))
		return line_error(l, column + f.at, err, f.why);
	where = str_format("%s:%zu:1", l->path, l->number);
	if (!where)
		return err_set(err, -ENOMEM, "%.300s: out of memory", l->path);
	r = conf_store(c, l->text, eq + 1, where, &n, err);
	if (r == 0) {
		n->where_stem = strlen(where) - 1;
		n->column = column + 1;
	}
	free(where);
	return r;
}

/* Cuts the next line out of [*at, end) into l; end is writable (a terminator goes there). */
static int next_line(struct line *l, char **at, char *end, struct err *err)
{
	char *nl = memchr(*at, '\n', (size_t)(end - *at));

	l->number++;
	l->text = *at;
	l->len = (size_t)((nl ? nl : end) - *at);
	*at = nl ? nl + 1 : end;
	if (l->len && l->text[l->len - 1] == '\r')
		l->len--;
	l->text[l->len] = '\0';
	if (l->len > LINE_MAX_BYTES)
		return line_error(l, LINE_MAX_BYTES, err, "the line is too long");
	return 0;
}

/* Loads text[0..len); text[len] is writable and is overwritten, as are the line ends. */
static int load_lines(struct conf *c, const char *path, char *text, size_t len, struct err *err)
{
	static const char bom[] = "\xef\xbb\xbf";
	struct line l = { .path = path };
	char *at = text, *end = text + len;
	int r = 0;

	if (len >= 3 && memcmp(text, bom, 3) == 0)
		at += 3;
	while (at < end && r == 0) {
		r = next_line(&l, &at, end, err);
		if (r == 0)
			r = load_line(c, &l, err);
	}
	return r;
}

int conf_load_text(struct conf *c, const char *name, const char *text, size_t len, struct err *err)
{
	char *copy;
	int r;

	if (len > FILE_MAX)
		return err_set(err, -EFBIG, "%.300s: longer than 1 MiB", name);
	copy = malloc(len + 1);
	if (!copy)
		return err_set(err, -ENOMEM, "%.300s: out of memory", name);
	memcpy(copy, text, len);
	r = load_lines(c, name, copy, len, err);
	free(copy);
	return r;
}

int conf_load_file(struct conf *c, const char *path, struct err *err)
{
	char *text;
	size_t len;
	int r = fd_read_file(path, FILE_MAX, &text, &len);

	if (r == -EFBIG)
		return err_set(err, r,
			       "%.300s: longer than 1 MiB: this is not a configuration file", path);
	if (r < 0)
		return err_set(err, r, "%.300s: cannot read: %s", path,
			       r == -EINVAL ? "not a regular file" : strerror(-r));
	r = load_lines(c, path, text, len, err);
	free(text);
	return r;
}
