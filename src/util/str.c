/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "util/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "util/checked.h"
#include "util/macros.h"

/* Longer names are never suggested: bounds the work and the stack of edit_distance(). */
#define NEAREST_MAX 63

/* Reads a number without sign or blanks; *end is the first byte behind it. */
static int parse_u64(const char *s, const char **end, uint64_t *out)
{
	unsigned long long v;
	char *e;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	v = strtoull(s, &e, 0);
	if (errno == ERANGE)
		return -ERANGE;
	*end = e;
	*out = v;
	return 0;
}

int str_u64(const char *s, uint64_t *out)
{
	const char *end;
	uint64_t v;
	int r = parse_u64(s, &end, &v);

	if (r < 0)
		return r;
	if (*end)
		return -EINVAL;
	*out = v;
	return 0;
}

int str_i64(const char *s, int64_t *out)
{
	bool negative = *s == '-';
	uint64_t v;
	int r = str_u64(s + negative, &v);

	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX + negative)
		return -ERANGE;
	*out = negative ? (int64_t)(0 - v) : (int64_t)v;
	return 0;
}

int str_size(const char *s, uint64_t unit, uint64_t *out)
{
	static const char suffixes[] = "KMGT";
	const char *end, *at;
	uint64_t v;
	int r = parse_u64(s, &end, &v);

	if (r < 0)
		return r;
	if (*end) {
		at = strchr(suffixes, toupper((unsigned char)*end));
		if (!at || end[1])
			return -EINVAL;
		unit = 1ull << (10 * (at - suffixes + 1));
	}
	if (!checked_mul(v, unit, &v))
		return -ERANGE;
	*out = v;
	return 0;
}

int str_bool(const char *s, bool *out)
{
	static const char *const yes[] = { "true", "on", "yes", "1" };
	static const char *const no[] = { "false", "off", "no", "0" };

	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		bool is_yes = strcasecmp(s, yes[i]) == 0;

		if (is_yes || strcasecmp(s, no[i]) == 0) {
			*out = is_yes;
			return 0;
		}
	}
	return -EINVAL;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int str_mac(const char *s, uint8_t mac[6])
{
	for (int i = 0; i < 6; i++, s += 2) {
		int high, low;

		if (i && *s != ':' && *s != '-')
			return -EINVAL;
		s += i > 0;
		high = hex_digit(s[0]);
		low = high < 0 ? -1 : hex_digit(s[1]);
		if (low < 0)
			return -EINVAL;
		mac[i] = (uint8_t)(high << 4 | low);
	}
	return *s ? -EINVAL : 0;
}

int str_copy(char *dst, size_t size, const char *src)
{
	size_t len = strnlen(src, size);

	if (len < size) {
		memcpy(dst, src, len + 1);
		return 0;
	}
	if (size) {
		memcpy(dst, src, size - 1);
		dst[size - 1] = '\0';
	}
	return -ENAMETOOLONG;
}

char *str_format(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *end)
{
	size_t len = strlen(s), tail = strlen(end);

	return len >= tail && strcmp(s + len - tail, end) == 0;
}

/* Insertions, deletions, substitutions and swaps of neighbours that turn a into b; case does not count. */
static size_t edit_distance(const char *a, size_t na, const char *b, size_t nb)
{
	unsigned char rows[3][NEAREST_MAX + 1];

	for (size_t j = 0; j <= nb; j++)
		rows[0][j] = (unsigned char)j;
	for (size_t i = 1; i <= na; i++) {
		unsigned char *cur = rows[i % 3], *up = rows[(i + 2) % 3], *up2 = rows[(i + 1) % 3];

		cur[0] = (unsigned char)i;
		for (size_t j = 1; j <= nb; j++) {
			int ca = tolower((unsigned char)a[i - 1]);
			int cb = tolower((unsigned char)b[j - 1]);
			size_t best = MIN(up[j], cur[j - 1]) + 1u;

			best = MIN(best, up[j - 1] + (ca != cb ? 1u : 0u));
			if (i > 1 && j > 1 && ca == tolower((unsigned char)b[j - 2]) &&
			    cb == tolower((unsigned char)a[i - 2]))
				best = MIN(best, up2[j - 2] + 1u);
			cur[j] = (unsigned char)best;
		}
	}
	return rows[na % 3][nb];
}

const char *str_nearest(const char *s, const char *const *candidates, size_t n)
{
	size_t len = strlen(s), limit = (len + 2) / 3, best = limit + 1;
	const char *found = NULL;

	if (len < 2 || len > NEAREST_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t clen = strlen(candidates[i]), d;

		if (clen > NEAREST_MAX)
			continue;
		d = edit_distance(s, len, candidates[i], clen);
		if (d < best && d < clen) {
			best = d;
			found = candidates[i];
		}
	}
	return found;
}
