/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_VM_UI_JSON_H
#define CMD_VM_UI_JSON_H

#include <jansson.h>

/* Of all --json output (doc/json): changes when the meaning of a field does, not when one is added. */
#define UI_JSON_VERSION 1

/* The text, or null if it is NULL or empty. */
json_t *ui_json_text(const char *text);
/* Sets a member to that. */
void ui_json_set(json_t *o, const char *key, const char *text);
/* Each byte that is not part of UTF-8 becomes '?': JSON has no other text. */
void ui_json_clean(char *text);
/* Adds the version, prints the object and drops it; NULL: out of memory. Returns the exit status. */
int ui_json_print(json_t *root);

#endif
