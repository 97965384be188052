/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "conf/conf.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf_priv.h"
#include "util/err.h"

struct conf *conf_new(void)
{
	struct conf *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->root.name = strdup("");
	if (!c->root.name) {
		free(c);
		return NULL;
	}
	return c;
}

static void node_fini(struct conf_node *n)
{
	for (size_t i = 0; i < n->nkids; i++) {
		node_fini(n->kids[i]);
		free(n->kids[i]);
	}
	free(n->kids);
	free(n->name);
	free(n->value);
	free(n->where);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	node_fini(&c->root);
	free(c);
}

/* One component of a path: its length, and whether it is a plain decimal number. */
static size_t component(const char *path, bool *number)
{
	size_t n = strcspn(path, ".");

	*number = n > 0 && strspn(path, "0123456789") >= n;
	return n;
}

/* Numbers come before names; numbers by value (then length, so that 07 differs from 7), names by bytes. */
static int compare_names(const char *a, size_t na, const char *b, size_t nb)
{
	bool a_num = strspn(a, "0123456789") >= na && na,
	     b_num = strspn(b, "0123456789") >= nb && nb;
	size_t za = 0, zb = 0;
	int r;

	if (a_num != b_num)
		return a_num ? -1 : 1;
	if (a_num) {
		while (za + 1 < na && a[za] == '0')
			za++;
		while (zb + 1 < nb && b[zb] == '0')
			zb++;
		if (na - za != nb - zb)
			return na - za < nb - zb ? -1 : 1;
	}
	r = memcmp(a + za, b + zb, na - za < nb - zb ? na - za : nb - zb);
	if (r)
		return r;
	return (na > nb) - (na < nb);
}

/* Index of the child with that name, or where it belongs. */
static size_t child_index(const struct conf_node *n, const char *name, size_t len, bool *found)
{
	size_t lo = 0, hi = n->nkids;

	*found = false;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const char *other = n->kids[mid]->name;
		int r = compare_names(name, len, other, strlen(other));

		if (r == 0) {
			*found = true;
			return mid;
		}
		if (r < 0)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The child with that name, made if needed; NULL when out of memory. */
static struct conf_node *child_get(struct conf_node *n, const char *name, size_t len)
{
	struct conf_node *kid, **kids;
	bool found;
	size_t i = child_index(n, name, len, &found);

	assert(!found || n->kids);
	if (found)
		return n->kids[i];
	if (n->nkids == n->room) {
		size_t room = n->room ? n->room * 2 : 4;

		kids = realloc(n->kids, room * sizeof(void *));
		if (!kids)
			return NULL;
		n->kids = kids;
		n->room = room;
	}
	kid = calloc(1, sizeof(*kid));
	if (!kid)
		return NULL;
	kid->name = strndup(name, len);
	kid->parent = n;
	if (!kid->name) {
		free(kid);
		return NULL;
	}
	memmove(n->kids + i + 1, n->kids + i, (n->nkids - i) * sizeof(void *));
	n->kids[i] = kid;
	n->nkids++;
	return kid;
}

const struct conf_node *conf_find(const struct conf_node *from, const char *path)
{
	bool found, number;

	while (*path) {
		size_t len = component(path, &number);
		size_t i = child_index(from, path, len, &found);

		if (!found)
			return NULL;
		from = from->kids[i];
		path += len;
		if (*path == '.' && !*++path)
			return NULL;
	}
	return from;
}

void conf_key_of(const struct conf_node *n, char *buf)
{
	const struct conf_node *chain[CONF_DEPTH_MAX] = { NULL };
	size_t depth = 0, len = 0;

	for (; n->parent && depth < CONF_DEPTH_MAX; n = n->parent)
		chain[depth++] = n;
	buf[0] = '\0';
	while (depth--) {
		size_t part = strlen(chain[depth]->name);

		memcpy(buf + len, chain[depth]->name, part);
		len += part;
		buf[len++] = depth ? '.' : '\0';
	}
}

void conf_place(const struct conf_node *n, size_t offset, char *buf)
{
	int r;

	if (!n->where)
		r = snprintf(buf, CONF_PLACE_MAX, "built in");
	else if (!n->where_stem)
		r = snprintf(buf, CONF_PLACE_MAX, "%s", n->where);
	else
		r = snprintf(buf, CONF_PLACE_MAX, "%.*s%zu", (int)n->where_stem, n->where,
			     n->column + offset);
	if (r >= CONF_PLACE_MAX)
		memcpy(buf + CONF_PLACE_MAX - 4, "...", 4);
}

bool conf_check_key(const char *key, struct conf_fault *f)
{
	size_t parts = 1, i;

	for (i = 0; key[i]; i++) {
		unsigned char ch = (unsigned char)key[i];

		f->at = i;
		if (ch == '.') {
			f->why = "a name is missing next to the dot";
			if (i == 0 || key[i + 1] == '.' || !key[i + 1])
				return false;
			f->why = "the key has too many parts";
			if (++parts > CONF_DEPTH_MAX)
				return false;
		} else if (!isalnum(ch) && ch != '_' && ch != '-') {
			f->why = ch == ' ' || ch == '\t'
					 ? "blanks are not allowed around or in a key"
					 : "a key has only letters, digits, _ and -";
			return false;
		}
		f->why = "the key is longer than 255 bytes";
		if (i >= CONF_KEY_MAX)
			return false;
	}
	f->at = 0;
	f->why = "the key is empty";
	return i > 0;
}

static bool is_blank(char ch)
{
	return ch == ' ' || ch == '\t';
}

bool conf_check_value(const char *value, struct conf_fault *f)
{
	size_t i;

	f->at = 0;
	f->why = "the value is empty";
	if (!*value)
		return false;
	f->why = "blanks are not allowed in front of a value";
	if (is_blank(*value))
		return false;
	for (i = 0; value[i]; i++) {
		f->at = i;
		f->why = "control character in the value";
		if ((value[i] > 0 && value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f)
			return false;
		f->why = "the value is longer than 65535 bytes";
		if (i >= CONF_VALUE_MAX)
			return false;
	}
	f->why = "blanks are not allowed behind a value";
	return !is_blank(value[i - 1]);
}

/* Finds or makes the nodes of a checked key. -EEXIST: a part of the path holds a value; *out is that node. */
static int make_path(struct conf *c, const char *key, struct conf_node **out)
{
	struct conf_node *n = &c->root;
	bool number;

	while (*key) {
		size_t len = component(key, &number);

		if (n->value) {
			*out = n;
			return -EEXIST;
		}
		n = child_get(n, key, len);
		if (!n)
			return -ENOMEM;
		key += len + (key[len] == '.');
	}
	*out = n;
	return 0;
}

int conf_store(struct conf *c, const char *key, const char *value, const char *where,
	       struct conf_node **out, struct err *err)
{
	char *copy = NULL, *where_copy = NULL, other[CONF_KEY_MAX + 1];
	const char *at = where ? where : "built in";
	struct conf_node *n = NULL;
	int r;

	if (c->frozen)
		return err_set(err, -EPERM, "%s: %s: the configuration can no longer be changed",
			       at, key);
	r = make_path(c, key, &n);
	if (r == -EEXIST) {
		conf_key_of(n, other);
		return err_set(err, -EEXIST,
			       "%s: %s: %s has a value already (%s), so nothing can be below it",
			       at, key, other, n->where ? n->where : "built in");
	}
	if (r == 0 && n->nkids)
		return err_set(err, -EISDIR, "%s: %s is a group of keys and takes no value (%s)",
			       at, key, conf_where(c, key));
	copy = strdup(value);
	where_copy = where ? strdup(where) : NULL;
	if (r < 0 || !copy || (where && !where_copy)) {
		free(copy);
		free(where_copy);
		return err_set(err, -ENOMEM, "%s: %s: out of memory", at, key);
	}
	free(n->value);
	free(n->where);
	n->value = copy;
	n->where = where_copy;
	n->where_stem = n->column = 0;
	if (out)
		*out = n;
	return 0;
}

int conf_set(struct conf *c, const char *key, const char *value, const char *where, struct err *err)
{
	const char *at = where ? where : "built in";
	struct conf_fault f;

	if (!conf_check_key(key, &f))
		return err_set(err, -EINVAL, "%.200s: bad key \"%.200s\": %s", at, key, f.why);
	if (!conf_check_value(value, &f))
		return err_set(err, -EINVAL, "%.200s: %s: %s", at, key, f.why);
	return conf_store(c, key, value, where, NULL, err);
}

int conf_setf(struct conf *c, const char *where, struct err *err, const char *key, const char *fmt,
	      ...)
{
	char *value;
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vasprintf(&value, fmt, ap);
	va_end(ap);
	if (r < 0)
		return err_set(err, -ENOMEM, "%s: out of memory", key);
	r = conf_set(c, key, value, where, err);
	free(value);
	return r;
}

int conf_set_assignment(struct conf *c, const char *text, const char *where, struct err *err)
{
	const char *eq = strchr(text, '=');
	char *key;
	int r;

	if (!eq)
		return err_set(err, -EINVAL, "%.200s: \"%.200s\" is not KEY=VALUE",
			       where ? where : "built in", text);
	key = strndup(text, (size_t)(eq - text));
	if (!key)
		return err_set(err, -ENOMEM, "out of memory");
	r = conf_set(c, key, eq + 1, where, err);
	free(key);
	return r;
}

const char *conf_get(const struct conf *c, const char *key)
{
	const struct conf_node *n = conf_find(&c->root, key);

	return n ? n->value : NULL;
}

const char *conf_where(const struct conf *c, const char *key)
{
	const struct conf_node *n = conf_find(&c->root, key);

	while (n && !n->value && n->nkids)
		n = n->kids[0];
	return n && n->where ? n->where : "built in";
}

/* A failed conf_set can leave nodes that hold nothing; they do not count. */
static bool holds_value(const struct conf_node *n)
{
	if (n->value)
		return true;
	for (size_t i = 0; i < n->nkids; i++)
		if (holds_value(n->kids[i]))
			return true;
	return false;
}

bool conf_has(const struct conf *c, const char *node)
{
	const struct conf_node *n = conf_find(&c->root, node);

	return n && holds_value(n);
}

int conf_each(const struct conf *c, const char *node, int (*fn)(void *arg, const char *name),
	      void *arg)
{
	const struct conf_node *n = conf_find(&c->root, node);
	int r = 0;

	for (size_t i = 0; n && i < n->nkids && r == 0; i++)
		if (holds_value(n->kids[i]))
			r = fn(arg, n->kids[i]->name);
	return r;
}

static void dump_node(const struct conf_node *n, FILE *f)
{
	char key[CONF_KEY_MAX + 1];

	if (n->value) {
		conf_key_of(n, key);
		fprintf(f, "%s=%s\n", key, n->value);
	}
	for (size_t i = 0; i < n->nkids; i++)
		dump_node(n->kids[i], f);
}

void conf_dump(const struct conf *c, FILE *f)
{
	dump_node(&c->root, f);
}
