/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "conf/conf_priv.h"
#include "util/err.h"
#include "util/str.h"

/* How many names an "unknown key" message may have to choose from. */
#define CANDIDATES_MAX 256

struct binding {
	const struct conf *c;
	const struct conf_node *node; /* NULL: nothing is set below it */
	const char *name; /* of the node, dotted */
	const struct conf_key *keys;
	const char *const *skip;
	struct err *err;
};

/* "node.key", or the key alone at the root. */
static void full_key(const struct binding *b, const char *key, char *buf, size_t size)
{
	int r = snprintf(buf, size, "%s%s%s", b->name, *b->name ? "." : "", key);

	if (r < 0 || (size_t)r >= size)
		buf[size - 1] = '\0';
}

static bool is_pattern(const struct conf_key *k)
{
	return strchr(k->name, '#');
}

/* True if the dotted key fits the name, where a # component stands for a decimal number. */
static bool key_matches(const char *name, const char *key)
{
	while (*name && *key) {
		if (*name == '#' && isdigit((unsigned char)*key)) {
			name++;
			key += strspn(key, "0123456789");
		} else if (*name++ != *key++) {
			return false;
		}
	}
	return !*name && !*key;
}

static const struct conf_key *lookup(const struct conf_key *keys, const char *key)
{
	for (; keys->name; keys++)
		if (key_matches(keys->name, key) || (keys->alias && key_matches(keys->alias, key)))
			return keys;
	return NULL;
}

static bool is_skipped(const char *const *skip, const char *key)
{
	for (; skip && *skip; skip++) {
		size_t n = strlen(*skip);

		if (strncmp(*skip, key, n) == 0 && (key[n] == '.' || !key[n]))
			return true;
	}
	return false;
}

/* The limits of a key as text: "1 to 64", "at least 512". */
static void describe_range(const struct conf_key *k, char *buf, size_t size)
{
	int r;

	if (k->max)
		r = snprintf(buf, size, " from %llu to %llu", (unsigned long long)k->min,
			     (unsigned long long)k->max);
	else if (k->min)
		r = snprintf(buf, size, " of at least %llu", (unsigned long long)k->min);
	else
		r = snprintf(buf, size, "%s", "");
	assert(r >= 0 && (size_t)r < size);
}

/* The choices of a CONF_ENUM: "a, b, c". */
static void describe_choices(const struct conf_key *k, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; k->choices[i] && len < size; i++) {
		int r = snprintf(buf + len, size - len, "%s%s", i ? ", " : "", k->choices[i]);

		len += r < 0 ? 0 : (size_t)r;
	}
}

/* What a value of this key must be, for messages. */
static void describe(const struct conf_key *k, char *buf, size_t size)
{
	char detail[160];
	int r;

	describe_range(k, detail, sizeof(detail));
	switch (k->type) {
	case CONF_BOOL:
		r = snprintf(buf, size, "true or false");
		break;
	case CONF_U64:
		r = snprintf(buf, size, "a number%s", detail);
		break;
	case CONF_SIZE:
		r = snprintf(buf, size, "a size%s bytes (K, M, G and T may follow the number)",
			     *detail ? detail : " in");
		break;
	case CONF_ENUM:
		describe_choices(k, detail, sizeof(detail));
		r = snprintf(buf, size, "one of %s", detail);
		break;
	case CONF_STR:
	default:
		r = snprintf(buf, size, "at most %llu bytes long", (unsigned long long)k->max);
		break;
	}
	assert(r >= 0);
}

static bool in_range(const struct conf_key *k, uint64_t v)
{
	return v >= k->min && (!k->max || v <= k->max);
}

/* A value of any type, before it goes into the typed struct. */
union slot {
	char *s;
	bool b;
	uint64_t u;
	int e;
};

/* Reads text as the key's type. False: it is not one. A CONF_STR is not copied here. */
static bool parse_value(const struct conf_key *k, const char *text, union slot *out)
{
	switch (k->type) {
	case CONF_STR:
		return !k->max || strlen(text) <= k->max;
	case CONF_BOOL:
		return str_bool(text, &out->b) == 0;
	case CONF_U64:
		return str_u64(text, &out->u) == 0 && in_range(k, out->u);
	case CONF_SIZE:
		return str_size(text, k->unit ? k->unit : 1, &out->u) == 0 && in_range(k, out->u);
	case CONF_ENUM:
		for (out->e = 0; k->choices[out->e]; out->e++)
			if (strcmp(k->choices[out->e], text) == 0)
				return true;
		return false;
	default:
		return false;
	}
}

/* Puts a parsed value into the typed struct; text becomes the struct's if it is a string. */
static void store_value(const struct conf_key *k, void *out, const union slot *v, char *text)
{
	char *at = (char *)out + k->offset;

	switch (k->type) {
	case CONF_STR:
		memcpy(at, &text, sizeof(text));
		return;
	case CONF_BOOL:
		memcpy(at, &v->b, sizeof(v->b));
		break;
	case CONF_U64:
	case CONF_SIZE:
		memcpy(at, &v->u, sizeof(v->u));
		break;
	case CONF_ENUM:
		memcpy(at, &v->e, sizeof(v->e));
		break;
	}
	free(text);
}

static int value_error(const struct binding *b, const struct conf_key *k, const struct conf_node *n,
		       const char *text)
{
	char place[CONF_PLACE_MAX], key[CONF_KEY_MAX + 1], want[256];

	conf_place(n, 0, place);
	conf_key_of(n, key);
	describe(k, want, sizeof(want));
	return err_set(b->err, -EINVAL, "%.200s: %.80s: \"%.48s\" is not %s", place, key, text,
		       want);
}

/* Checks the value of one set key and stores it, if it is one that is stored. */
static int bind_value(const struct binding *b, const struct conf_key *k, const struct conf_node *n,
		      void *out)
{
	union slot v;
	char *text;
	int r = conf_expand(b->c, n, &text, b->err);

	if (r < 0)
		return r;
	if (!parse_value(k, text, &v)) {
		r = value_error(b, k, n, text);
		free(text);
		return r;
	}
	if (out)
		store_value(k, out, &v, text);
	else
		free(text);
	return 0;
}

static int bind_default(const struct binding *b, const struct conf_key *k, void *out)
{
	char key[CONF_KEY_MAX + 1], *text;
	union slot v = { 0 };

	if (k->required) {
		full_key(b, k->name, key, sizeof(key));
		err_set(b->err, -EINVAL, "%.200s is missing%s%.150s", key, k->help ? ": " : "",
			k->help ? k->help : "");
		if (!*b->name || !b->node)
			return -EINVAL; /* no line is to blame */
		return err_prefix(b->err, -EINVAL, "%.200s", conf_where(b->c, b->name));
	}
	if (!k->def)
		return 0;
	text = strdup(k->def);
	if (!text)
		return err_set(b->err, -ENOMEM, "out of memory");
	if (!parse_value(k, text, &v))
		assert(!"a default must fit its own key");
	store_value(k, out, &v, text);
	return 0;
}

static int bind_key(const struct binding *b, const struct conf_key *k, void *out)
{
	const struct conf_node *n = b->node ? conf_find(b->node, k->name) : NULL;

	if ((!n || !n->value) && k->alias && b->node)
		n = conf_find(b->node, k->alias);
	if (n && n->value)
		return bind_value(b, k, n, out);
	return bind_default(b, k, out);
}

/* name with its # replaced by i. */
static void number_name(const char *name, unsigned int i, char *buf, size_t size)
{
	const char *at = strchr(name, '#');
	int r = snprintf(buf, size, "%.*s%u%s", (int)(at - name), name, i, at + 1);

	assert(r >= 0 && (size_t)r < size);
}

/* One value for each number below k->count. */
static int bind_array(const struct binding *b, const struct conf_key *k, void *out)
{
	int r = 0;

	assert(!k->def && !k->required);
	for (unsigned int i = 0; i < k->count && r == 0; i++) {
		char name[CONF_KEY_MAX + 1], alias[CONF_KEY_MAX + 1];
		struct conf_key one = *k;

		number_name(k->name, i, name, sizeof(name));
		one.name = name;
		if (k->alias) {
			number_name(k->alias, i, alias, sizeof(alias));
			one.alias = alias;
		}
		one.offset += i * k->stride;
		r = bind_key(b, &one, out);
	}
	return r;
}

/* Copies the numbers of key over the # of the name, so that a suggestion can be typed as it stands. */
static void fill_numbers(const char *name, const char *key, char *buf, size_t size)
{
	size_t len = 0;

	for (; *name && len + 1 < size; name++) {
		if (*name != '#') {
			buf[len++] = *name;
			continue;
		}
		key += strcspn(key, "0123456789");
		if (!*key)
			buf[len++] = '0';
		while (isdigit((unsigned char)*key) && len + 1 < size)
			buf[len++] = *key++;
	}
	buf[len] = '\0';
}

/* Replaces the number components of a key by #. */
static void hide_numbers(const char *key, char *buf)
{
	bool start = true;
	size_t digits;

	while (*key) {
		digits = strspn(key, "0123456789");
		if (start && digits && (key[digits] == '.' || !key[digits])) {
			*buf++ = '#';
			key += digits;
		} else {
			start = *key == '.';
			*buf++ = *key++;
		}
	}
	*buf = '\0';
}

/* The valid name nearest to an unknown key, or NULL. */
static const char *suggest(const struct binding *b, const char *key)
{
	const char *names[CANDIDATES_MAX] = { NULL }, *found;
	char plain[CONF_KEY_MAX + 1];
	size_t n = 0;

	for (const struct conf_key *k = b->keys; k->name && n < CANDIDATES_MAX; k++)
		if (!k->ignored)
			names[n++] = k->name;
	found = str_nearest(key, names, n);
	if (!found) {
		hide_numbers(key, plain);
		found = str_nearest(plain, names, n);
	}
	for (n = 0; !found && b->skip && b->skip[n] && n < CANDIDATES_MAX; n++)
		names[n] = b->skip[n];
	if (found || !n)
		return found;
	plain[0] = '\0';
	strncat(plain, key, strcspn(key, "."));
	return str_nearest(plain, names, n);
}

/* The names that are valid at a node, as far as they fit: "path, ro, ser". */
static void list_names(const struct conf_key *keys, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (; keys->name; keys++) {
		int r;

		if (keys->ignored)
			continue;
		r = snprintf(buf + len, size - len, "%s%s", len ? ", " : "", keys->name);
		if (r < 0 || (size_t)r >= size - len) {
			buf[len] = '\0';
			return;
		}
		len += (size_t)r;
	}
}

static int unknown_key(const struct binding *b, const struct conf_node *n, const char *key)
{
	char full[CONF_KEY_MAX + 1], other[CONF_KEY_MAX + 1], near[CONF_KEY_MAX + 1], names[160];
	const char *found = suggest(b, key), *where = n->where ? n->where : "built in";

	conf_key_of(n, full);
	if (found) {
		fill_numbers(found, key, other, sizeof(other));
		full_key(b, other, near, sizeof(near));
		return err_set(b->err, -EINVAL, "%.200s: unknown key %.120s: did you mean %.120s?",
			       where, full, near);
	}
	list_names(b->keys, names, sizeof(names));
	if (!*names)
		return err_set(b->err, -EINVAL,
			       "%.200s: unknown key %.120s: there is nothing to set here", where,
			       full);
	return err_set(b->err, -EINVAL, "%.200s: unknown key %.120s: known here are %s", where,
		       full, names);
}

/* The number in a key that matched k must be below k->count, if that is set. */
static int check_number(const struct binding *b, const struct conf_key *k,
			const struct conf_node *n, const char *key)
{
	const char *at = key + (strchr(k->name, '#') - k->name);

	if (strtoull(at, NULL, 10) < k->count && (*at != '0' || !isdigit((unsigned char)at[1])))
		return 0;
	return err_set(b->err, -EINVAL, "%.200s: %.200s: the number must be from 0 to %u",
		       n->where ? n->where : "built in", key, k->count - 1);
}

/* Checks every value below n: its name must be in the table; values that are not stored are checked too. */
static int check_names(const struct binding *b, const struct conf_node *n)
{
	char full[CONF_KEY_MAX + 1];
	const struct conf_key *k;
	const char *key;
	int r = 0;

	if (n->value) {
		conf_key_of(n, full);
		if (n == b->node)
			return err_set(b->err, -EISDIR,
				       "%.200s: %.200s is a group of keys and takes no value",
				       n->where ? n->where : "built in", full);
		key = full + (*b->name ? strlen(b->name) + 1 : 0);
		if (is_skipped(b->skip, key))
			return 0;
		k = lookup(b->keys, key);
		if (!k)
			return unknown_key(b, n, key);
		if (k->count)
			return check_number(b, k, n, key);
		return is_pattern(k) && !k->ignored ? bind_value(b, k, n, NULL) : 0;
	}
	for (size_t i = 0; i < n->nkids && r == 0; i++)
		r = check_names(b, n->kids[i]);
	return r;
}

int conf_bind(const struct conf *c, const char *node, const struct conf_key *keys, void *out,
	      const char *const *skip, struct err *err)
{
	struct binding b = {
		.c = c,
		.node = conf_find(&c->root, node),
		.name = node,
		.keys = keys,
		.skip = skip,
		.err = err,
	};
	int r = b.node ? check_names(&b, b.node) : 0;

	for (const struct conf_key *k = keys; k->name && r == 0; k++) {
		if (k->count)
			r = bind_array(&b, k, out);
		else if (!is_pattern(k) && !k->ignored)
			r = bind_key(&b, k, out);
	}
	if (r < 0)
		conf_unbind(keys, out);
	return r;
}

static void unbind_string(char *at)
{
	char *s;

	memcpy(&s, at, sizeof(s));
	free(s);
	s = NULL;
	memcpy(at, &s, sizeof(s));
}

void conf_unbind(const struct conf_key *keys, void *out)
{
	for (const struct conf_key *k = keys; k->name; k++) {
		unsigned int n = k->count ? k->count : is_pattern(k) ? 0 : 1;

		if (k->type != CONF_STR || k->ignored)
			continue;
		for (unsigned int i = 0; i < n; i++)
			unbind_string((char *)out + k->offset + i * k->stride);
	}
}

static void print_key(const struct conf_key *k, FILE *f)
{
	static const char *const types[] = {
		[CONF_STR] = "text",  [CONF_BOOL] = "true|false", [CONF_U64] = "number",
		[CONF_SIZE] = "size", [CONF_ENUM] = "",
	};
	char kind[96] = "";

	for (size_t i = 0, len = 0; k->choices && k->choices[i] && len < sizeof(kind); i++) {
		int r = snprintf(kind + len, sizeof(kind) - len, "%s%s", i ? "|" : "",
				 k->choices[i]);

		len += r < 0 ? 0 : (size_t)r;
	}
	fprintf(f, "%-20s %-14s %-12s %s\n", k->name, *kind ? kind : types[k->type],
		k->required ? "(required)"
		: k->def    ? k->def
			    : "-",
		k->help ? k->help : "");
}

void conf_print_keys(const struct conf_key *keys, FILE *f)
{
	fprintf(f, "%-20s %-14s %-12s %s\n", "KEY", "TYPE", "DEFAULT", "MEANING");
	for (; keys->name; keys++)
		if (!keys->ignored)
			print_key(keys, f);
}
