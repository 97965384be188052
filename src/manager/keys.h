/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_KEYS_H
#define MANAGER_KEYS_H

#include <stddef.h>

struct gconf;

/* What a key of a guest file is good for. */
enum keys_kind { KEYS_USED, KEYS_QUIET, KEYS_LATER, KEYS_UNKNOWN };

/*
 * Looks a key up. KEYS_QUIET: accepted, nothing to decide here; KEYS_LATER: a key of vm-bhyve whose
 * effect is missing. For these and KEYS_UNKNOWN text says so, with the nearest known key.
 */
enum keys_kind keys_find(const char *key, char *text, size_t size);

/* The keys that have an effect, # for a number; NULL behind the last. */
const char *keys_name(size_t i);

/*
 * Looks for what a person would want to know about a guest file before the guest starts: unknown
 * keys with the nearest known one, lines that are ignored, keys given twice, keys without effect,
 * gaps in numbered keys. Calls warn with one line of text for each.
 */
void keys_check(const struct gconf *g, void (*warn)(void *arg, const char *text), void *arg);

#endif
