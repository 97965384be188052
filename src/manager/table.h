/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_TABLE_H
#define MANAGER_TABLE_H

#include <stddef.h>
#include <stdio.h>

/*
 * A table as vm-bhyve prints it: columns as wide as their widest cell, two blanks between them,
 * nothing behind the last cell. Cells are copied.
 */
struct table;

struct table *table_new(size_t columns);
void table_free(struct table *t);
/* Adds cells from left to right, row after row. -ENOMEM. */
int table_add(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * Leaves out columns that say the same in all rows, until the table is width wide: the last of these
 * count first, whose numbers ascend.
 */
void table_fit(struct table *t, size_t width, const size_t *columns, size_t count);
void table_print(const struct table *t, FILE *f);

#endif
