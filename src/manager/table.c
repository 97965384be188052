/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/table.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"

struct table {
	size_t columns, count, room;
	char **cells;
};

struct table *table_new(size_t columns)
{
	struct table *t = calloc(1, sizeof(*t));

	assert(columns > 0);
	if (t)
		t->columns = columns;
	return t;
}

void table_free(struct table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	free(t);
}

int table_add(struct table *t, const char *fmt, ...)
{
	va_list ap;
	char *cell;
	int n;

	if (t->count == t->room) {
		size_t room = t->room ? t->room * 2 : 64;
		char **cells = realloc(t->cells, room * sizeof(*cells));

		if (!cells)
			return -ENOMEM;
		t->cells = cells;
		t->room = room;
	}
	va_start(ap, fmt);
	n = vasprintf(&cell, fmt, ap);
	va_end(ap);
	if (n < 0)
		return -ENOMEM;
	t->cells[t->count++] = cell;
	return 0;
}

/* Columns on a terminal: UTF-8 continuation bytes take none. */
static size_t width_of(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

/* Whether nothing but empty cells follow in the row. */
static bool is_row_over(const struct table *t, size_t i)
{
	while (++i % t->columns) {
		if (*t->cells[i])
			return false;
	}
	return true;
}

void table_print(const struct table *t, FILE *f)
{
	size_t *widths = calloc(t->columns, sizeof(*widths));

	if (!widths)
		return;
	for (size_t i = 0; i < t->count; i++) {
		size_t *w = &widths[i % t->columns];

		*w = MAX(*w, width_of(t->cells[i]));
	}
	for (size_t i = 0; i < t->count; i++) {
		size_t column = i % t->columns;

		fputs(t->cells[i], f);
		if (column + 1 == t->columns)
			fputc('\n', f);
		else if (!is_row_over(t, i))
			fprintf(f, "%*s", (int)(widths[column] - width_of(t->cells[i]) + 2), "");
	}
	free(widths);
}
