/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_KEYS_H
#define MANAGER_KEYS_H

struct gconf;

/*
 * Looks for what a person would want to know about a guest file before the guest starts: unknown
 * keys with the nearest known one, lines that are ignored, keys given twice, keys without effect,
 * gaps in numbered keys. Calls warn with one line of text for each.
 */
void keys_check(const struct gconf *g, void (*warn)(void *arg, const char *text), void *arg);

#endif
