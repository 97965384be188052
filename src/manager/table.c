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

static size_t column_width(const struct table *t, size_t column)
{
	size_t width = 0;

	for (size_t i = column; i < t->count; i += t->columns)
		width = MAX(width, width_of(t->cells[i]));
	return width;
}

static bool is_uniform(const struct table *t, size_t column)
{
	for (size_t i = column + 2 * t->columns; i < t->count; i += t->columns) {
		if (strcmp(t->cells[i], t->cells[column + t->columns]) != 0)
			return false;
	}
	return true;
}

static void drop(struct table *t, size_t column)
{
	size_t kept = 0;

	assert(t->columns > 1);
	for (size_t i = 0; i < t->count; i++) {
		if (i % t->columns == column)
			free(t->cells[i]);
		else
			t->cells[kept++] = t->cells[i];
	}
	t->count = kept;
	t->columns--;
}

void table_fit(struct table *t, size_t width, const size_t *columns, size_t count)
{
	while (count-- > 0) {
		size_t needs = 2 * (t->columns - 1);

		for (size_t i = 0; i < t->columns; i++)
			needs += column_width(t, i);
		if (needs <= width)
			return;
		if (is_uniform(t, columns[count]))
			drop(t, columns[count]);
	}
}

void table_print(const struct table *t, FILE *f)
{
	size_t *widths = calloc(t->columns, sizeof(*widths));

	if (!widths)
		return;
	for (size_t i = 0; i < t->columns; i++)
		widths[i] = column_width(t, i);
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
