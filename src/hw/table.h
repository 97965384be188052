/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_TABLE_H
#define HW_TABLE_H

#include <stdio.h>

struct dev_ops;

/* Every model that can be put into a PCI slot, NULL-terminated. */
extern const struct dev_ops *const hw_table[];
/* The model of that name, or NULL. */
const struct dev_ops *hw_find(const char *model);
/* Name and one line for each, for `khyve -s help`. */
void hw_print(FILE *f);

#endif
