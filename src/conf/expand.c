/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/conf_priv.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/str.h"

/* One expansion: where the bytes go (NULL only counts them) and the keys that are being expanded. */
struct expansion {
	const struct conf *c;
	char *out;
	size_t len;
	const struct conf_node *chain[CONF_DEPTH_MAX];
	size_t depth;
	struct err *err;
};

static int fault(struct expansion *x, int code, size_t at, const char *why)
{
	const struct conf_node *n = x->chain[x->depth - 1];
	char place[CONF_PLACE_MAX], key[CONF_KEY_MAX + 1];

	conf_place(n, at, place);
	conf_key_of(n, key);
	return err_set(x->err, code, "%s: %s: %s", place, key, why);
}

static int put_byte(struct expansion *x, size_t at, char ch)
{
	if (x->len >= CONF_VALUE_MAX)
		return fault(x, -EFBIG, at, "the expanded value is longer than 65535 bytes");
	if (x->out)
		x->out[x->len] = ch;
	x->len++;
	return 0;
}

/* Reads the name of the reference at value + at, "%(name)". Returns the length of the whole reference or -errno. */
static int read_name(struct expansion *x, const char *value, size_t at, char *name)
{
	const char *start = value + at + 2, *end = strchr(start, ')');
	size_t len;

	if (!end)
		return fault(x, -EINVAL, at, "%( has no closing )");
	len = (size_t)(end - start);
	if (len == 0 || (len > CONF_KEY_MAX && !CANARY))
		return fault(x, -EINVAL, at, "%() needs the name of a key");
	memcpy(name, start, len);
	name[len] = '\0';
	return (int)len + 3;
}

/* Makes the key named by the reference at value + at the one being expanded. */
static int enter(struct expansion *x, const char *name, size_t at)
{
	const struct conf_node *n = conf_find(&x->c->root, name);
	char why[CONF_KEY_MAX + 64];

	if (!n || !n->value) {
		snprintf(why, sizeof(why), "%%(%s) is not set", name);
		return fault(x, -EINVAL, at, why);
	}
	for (size_t i = 0; i < x->depth; i++) {
		if (x->chain[i] != n)
			continue;
		snprintf(why, sizeof(why), "%%(%s) leads back to itself", name);
		return fault(x, -ELOOP, at, why);
	}
	if (x->depth == CONF_DEPTH_MAX)
		return fault(x, -ELOOP, at, "%(name) is nested more than 16 deep");
	x->chain[x->depth++] = n;
	return 0;
}

/* Appends the expanded value of the innermost key. Recursion ends at CONF_DEPTH_MAX; every level adds bytes. */
static int expand_value(struct expansion *x)
{
	const char *value = x->chain[x->depth - 1]->value;
	char name[CONF_KEY_MAX + 1];
	size_t i = 0;
	int r, used;

	while (value[i]) {
		if (value[i] != '%' || value[i + 1] == '%') {
			r = put_byte(x, i, value[i]);
			i += value[i] == '%' ? 2 : 1;
		} else if (value[i + 1] == '(') {
			used = read_name(x, value, i, name);
			r = used < 0 ? used : enter(x, name, i);
			if (r == 0) {
				r = expand_value(x);
				x->depth -= r == 0;
			}
			i += used < 0 ? 0 : (size_t)used;
		} else {
			r = fault(x, -EINVAL, i, "% must be %(name), or %% for a percent sign");
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* Expands into out (NULL: only counts); *len is the number of bytes. */
static int expand_to(const struct conf *c, const struct conf_node *n, char *out, size_t *len,
		     struct err *err)
{
	struct expansion x = { .c = c, .out = out, .chain = { n }, .depth = 1, .err = err };
	int r = expand_value(&x);

	if (r < 0)
		return r;
	*len = x.len;
	return 0;
}

int conf_expand(const struct conf *c, const struct conf_node *n, char **out, struct err *err)
{
	size_t len;
	char *buf;
	int r = expand_to(c, n, NULL, &len, err);

	if (r < 0)
		return r;
	buf = malloc(len + 1);
	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	r = expand_to(c, n, buf, &len, err);
	if (r < 0) {
		free(buf);
		return r;
	}
	buf[len] = '\0';
	*out = buf;
	return 0;
}

/* The expanded value of a key, malloc'ed. -ENOENT without a text when it is not set. */
static int get_text(const struct conf *c, const char *key, char **out, struct err *err)
{
	const struct conf_node *n = conf_find(&c->root, key);

	return n && n->value ? conf_expand(c, n, out, err) : -ENOENT;
}

static int bad_value(const struct conf *c, const char *key, const char *text, const char *what,
		     struct err *err)
{
	char place[CONF_PLACE_MAX];

	conf_place(conf_find(&c->root, key), 0, place);
	return err_set(err, -EINVAL, "%s: %s: \"%.64s\" is not %s", place, key, text, what);
}

int conf_get_str(const struct conf *c, const char *key, char *out, size_t size, struct err *err)
{
	char *text;
	int r = get_text(c, key, &text, err);

	if (r < 0)
		return r;
	if (strlen(text) < size)
		r = str_copy(out, size, text);
	else
		r = err_set(err, -ENAMETOOLONG, "%s: %s is longer than %zu bytes",
			    conf_where(c, key), key, size - 1);
	free(text);
	return r;
}

int conf_get_bool(const struct conf *c, const char *key, bool *out, struct err *err)
{
	char *text;
	int r = get_text(c, key, &text, err);

	if (r < 0)
		return r;
	if (str_bool(text, out) < 0)
		r = bad_value(c, key, text, "true or false", err);
	free(text);
	return r;
}

int conf_get_u64(const struct conf *c, const char *key, uint64_t *out, struct err *err)
{
	char *text;
	int r = get_text(c, key, &text, err);

	if (r < 0)
		return r;
	if (str_u64(text, out) < 0)
		r = bad_value(c, key, text, "a number", err);
	free(text);
	return r;
}

static int check_node(const struct conf *c, const struct conf_node *n, struct err *err)
{
	size_t len;
	int r = n->value ? expand_to(c, n, NULL, &len, err) : 0;

	for (size_t i = 0; i < n->nkids && r == 0; i++)
		r = check_node(c, n->kids[i], err);
	return r;
}

int conf_freeze(struct conf *c, struct err *err)
{
	int r = check_node(c, &c->root, err);

	if (r < 0)
		return r;
	c->frozen = true;
	return 0;
}
