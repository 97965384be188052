/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "manager/guestconf.h"
#include "manager/keys.h"

static void on_warning(void *arg, const char *text)
{
	size_t *total = arg;

	*total += strlen(text);
}

/* Whatever gconf_set accepts reads back the same, here and after parsing the text again. */
static void edit(struct gconf *g, const char *key, const char *value)
{
	struct gconf *again = NULL;
	const char *got;
	size_t len;
	char *text;

	if (gconf_set(g, key, value) < 0)
		return;
	got = gconf_get(g, key);
	assert(got && strcmp(got, value) == 0);
	text = gconf_text(g, &len);
	assert(text && strlen(text) == len);
	assert(gconf_parse("again", text, len, &again, NULL) == 0);
	got = gconf_get(again, key);
	assert(got && strcmp(got, value) == 0);
	assert(gconf_count(again) == gconf_count(g));
	gconf_free(again);
	free(text);
	gconf_unset(g, key);
	assert(!gconf_get(g, key));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input: a file, and behind the last NUL byte "key=value" to set. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *nul = size ? memrchr(data, 0, size) : NULL;
	size_t len = nul ? (size_t)(nul - data) : size, warned = 0;
	struct gconf *g;
	char *assignment, *value;

	if (gconf_parse("fuzz", (const char *)data, len, &g, NULL) < 0)
		return 0;
	keys_check(g, on_warning, &warned);
	gconf_bool(g, "graphics", true);
	gconf_where(g, "cpu");
	assignment = nul ? strndup((const char *)nul + 1, size - len - 1) : NULL;
	value = assignment ? strchr(assignment, '=') : NULL;
	if (value) {
		*value++ = '\0';
		edit(g, assignment, value);
	}
	free(assignment);
	gconf_free(g);
	return 0;
}
