/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_TABLE_H
#define HW_TABLE_H

struct dev_ops;

/* Every model, NULL-terminated. */
extern const struct dev_ops *const hw_table[];
/* The model of that name, or NULL. */
const struct dev_ops *hw_find(const char *model);

#endif
