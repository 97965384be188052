/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_GUEST_PRIV_H
#define MANAGER_GUEST_PRIV_H

#include <stddef.h>

struct err;
struct gconf;

/* A random UUID as text; size is at least 37. */
int guest_make_uuid(char *out, size_t size);

/*
 * Removes all keys of kind n ("disk", "network"). If others follow, the number stays free, so that
 * none of them moves to another slot.
 */
int guest_free_number(struct gconf *conf, const char *kind, unsigned int n, struct err *err);

#endif
