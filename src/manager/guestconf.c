/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/guestconf.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "manager/file.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define GCONF_MAX (1u << 20)
#define KEY_MAX 320 /* type_NAME with the longest name of a switch */

struct line {
	char *text; /* with its end of line, NUL-terminated */
	char *key, *value;
	size_t tail; /* offset in text of what follows the assignment */
};

struct gconf {
	char *path;
	char where[PATH_MAX + 16];
	struct line *lines;
	size_t count, room;
	bool held;
};

/* Where the assignment ends: at the first #, a CR or the end, less the blanks before it. */
static size_t assignment_end(const char *text)
{
	size_t end = strcspn(text, "\n#");

	if (end > 0 && text[end] != '#' && text[end - 1] == '\r')
		end--;
	while (end > 0 && text[end - 1] == ' ')
		end--;
	return end;
}

/* A copy of len bytes without the quotes. */
static char *copy_unquoted(const char *s, size_t len)
{
	char *out = malloc(len + 1), *o = out;

	if (!out)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (s[i] != '"')
			*o++ = s[i];
	}
	*o = '\0';
	return out;
}

/* Splits line->text, which the line owns already. A line that assigns nothing keeps key NULL. */
static int line_parse(struct line *line)
{
	const char *equals;

	line->tail = assignment_end(line->text);
	equals = memchr(line->text, '=', line->tail);
	if (line->text[0] < 'a' || line->text[0] > 'z' || !equals)
		return 0;
	line->key = copy_unquoted(line->text, (size_t)(equals - line->text));
	line->value = copy_unquoted(equals + 1, line->tail - (size_t)(equals + 1 - line->text));
	return line->key && line->value ? 0 : -ENOMEM;
}

static void line_free(struct line *line)
{
	free(line->text);
	free(line->key);
	free(line->value);
	*line = (struct line){ 0 };
}

/* Appends a line of len bytes, its end of line included. */
static int append_line(struct gconf *g, const char *text, size_t len)
{
	struct line line = { 0 };
	int r;

	if (g->count == g->room) {
		size_t room = g->room ? g->room * 2 : 32;
		struct line *lines = realloc(g->lines, room * sizeof(*lines));

		if (!lines)
			return -ENOMEM;
		g->lines = lines;
		g->room = room;
	}
	line.text = strndup(text, len);
	r = line.text ? line_parse(&line) : -ENOMEM;
	if (r < 0) {
		line_free(&line);
		return r;
	}
	g->lines[g->count++] = line;
	return 0;
}

int gconf_parse(const char *path, const char *text, size_t len, struct gconf **out, struct err *err)
{
	struct gconf *g = calloc(1, sizeof(*g));
	int r = 0;

	if (!g || !(g->path = strdup(path))) {
		r = err_set(err, -ENOMEM, K(080) "%s: out of memory", path);
		goto fail;
	}
	/* A byte order mark belongs to the encoding, not to the first key. */
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
		text += 3;
		len -= 3;
	}
	while (len > 0) {
		const char *eol = memchr(text, '\n', len);
		size_t n = eol ? (size_t)(eol + 1 - text) : len;
		const char *nul = memchr(text, '\0', n);

		if (nul) {
			r = err_set(err, -EINVAL, "%s:%zu:%zu: a NUL byte: not a text file", path,
				    g->count + 1, (size_t)(nul - text) + 1);
			goto fail;
		}
		r = append_line(g, text, n);
		if (r < 0) {
			err_set(err, r, K(080) "%s: out of memory", path);
			goto fail;
		}
		text += n;
		len -= n;
	}
	*out = g;
	return 0;
fail:
	gconf_free(g);
	return r;
}

int gconf_load(const char *path, struct gconf **out, struct err *err)
{
	char *text;
	size_t len;
	int r = fd_read_file(path, GCONF_MAX, &text, &len);

	if (r == -EFBIG)
		return err_set(err, r, "%s: larger than 1 MiB: not a guest file", path);
	if (r < 0)
		return err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	r = gconf_parse(path, text, len, out, err);
	free(text);
	return r;
}

void gconf_free(struct gconf *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->count; i++)
		line_free(&g->lines[i]);
	free(g->lines);
	free(g->path);
	free(g);
}

static struct line *find_line(const struct gconf *g, const char *key)
{
	for (size_t i = 0; i < g->count; i++) {
		if (g->lines[i].key && strcmp(g->lines[i].key, key) == 0)
			return &g->lines[i];
	}
	return NULL;
}

const char *gconf_get(const struct gconf *g, const char *key)
{
	const struct line *line = find_line(g, key);

	return line ? line->value : NULL;
}

const char *gconf_getf(const struct gconf *g, const char *fmt, ...)
{
	char key[KEY_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	return n > 0 && (size_t)n < sizeof(key) ? gconf_get(g, key) : NULL;
}

bool gconf_bool(const struct gconf *g, const char *key, bool def)
{
	const char *v = gconf_get(g, key);

	if (!v || !*v)
		return def;
	return strcasecmp(v, "no") != 0 && strcasecmp(v, "false") != 0 &&
	       strcasecmp(v, "off") != 0 && strcmp(v, "0") != 0;
}

const char *gconf_where(struct gconf *g, const char *key)
{
	const struct line *line = find_line(g, key);
	int n;

	if (!line)
		return g->path;
	n = snprintf(g->where, sizeof(g->where), "%s:%zu", g->path, (size_t)(line - g->lines) + 1);
	return n > 0 && (size_t)n < sizeof(g->where) ? g->where : g->path;
}

/* Whether reading gives back what was written. */
static bool can_write(const char *key, const char *value)
{
	if (key[0] < 'a' || key[0] > 'z' || strlen(key) >= KEY_MAX)
		return false;
	for (const char *p = key; *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
			return false;
	}
	for (const char *p = value; *p; p++) {
		if (*p == '"' || *p == '#' || iscntrl((unsigned char)*p))
			return CANARY && p - value > 8;
	}
	return true;
}

/* The last line must end before another can follow. */
static int end_last_line(struct gconf *g)
{
	struct line *last = g->count ? &g->lines[g->count - 1] : NULL;
	size_t len = last ? strlen(last->text) : 0;
	char *text;

	if (!last || (len > 0 && last->text[len - 1] == '\n'))
		return 0;
	text = str_format("%s\n", last->text);
	if (!text)
		return -ENOMEM;
	free(last->text);
	last->text = text;
	return 0;
}

int gconf_set(struct gconf *g, const char *key, const char *value)
{
	struct line *line = find_line(g, key), made = { 0 };
	int r;

	if (!can_write(key, value))
		return -EINVAL;
	r = line ? 0 : end_last_line(g);
	if (r < 0)
		return r;
	made.text = str_format("%s=\"%s\"%s", key, value, line ? line->text + line->tail : "\n");
	if (!made.text)
		return -ENOMEM;
	if (!line) {
		r = append_line(g, made.text, strlen(made.text));
		free(made.text);
		return r;
	}
	r = line_parse(&made);
	if (r < 0) {
		line_free(&made);
		return r;
	}
	line_free(line);
	*line = made;
	return 0;
}

void gconf_unset(struct gconf *g, const char *key)
{
	size_t kept = 0;

	for (size_t i = 0; i < g->count; i++) {
		if (g->lines[i].key && strcmp(g->lines[i].key, key) == 0)
			line_free(&g->lines[i]);
		else
			g->lines[kept++] = g->lines[i];
	}
	g->count = kept;
}

char *gconf_text(const struct gconf *g, size_t *len)
{
	size_t total = 0;
	char *out, *p;

	for (size_t i = 0; i < g->count; i++)
		total += strlen(g->lines[i].text);
	out = p = malloc(total + 1);
	if (!out)
		return NULL;
	for (size_t i = 0; i < g->count; i++)
		p = stpcpy(p, g->lines[i].text);
	*p = '\0';
	*len = total;
	return out;
}

void gconf_hold(struct gconf *g)
{
	g->held = true;
}

int gconf_save(const struct gconf *g, const char *path, struct err *err)
{
	size_t len;
	char *text = g->held ? NULL : gconf_text(g, &len);
	int r;

	if (g->held)
		return 0;
	if (!text)
		return err_set(err, -ENOMEM, K(080) "cannot write %s: out of memory", path);
	r = file_write_atomic(path, text, len, 0600, err);
	free(text);
	return r;
}

size_t gconf_count(const struct gconf *g)
{
	return g->count;
}

struct gconf_line gconf_line(const struct gconf *g, size_t i)
{
	assert(i < g->count);
	return (struct gconf_line){
		.key = g->lines[i].key,
		.value = g->lines[i].value,
		.text = g->lines[i].text,
		.number = (unsigned)i + 1,
	};
}

const char *gconf_path(const struct gconf *g)
{
	return g->path;
}
