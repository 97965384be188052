/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "ui_json.h"

#include <stdio.h>
#include <string.h>

#include "vm.h"

json_t *ui_json_text(const char *text)
{
	return text && *text ? json_string(text) : json_null();
}

void ui_json_clean(char *text)
{
	size_t n;

	for (; *text; text += n) {
		unsigned char c = (unsigned char)*text;
		json_t *s = NULL;

		n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
		if (strnlen(text, n) == n)
			s = json_stringn(text, n);
		json_decref(s);
		if (s)
			continue;
		*text = '?';
		n = 1;
	}
}

void ui_json_set(json_t *o, const char *key, const char *text)
{
	json_object_set_new(o, key, ui_json_text(text));
}

int ui_json_print(json_t *root)
{
	int r = -1;

	if (root && json_object_set_new(root, "version", json_integer(UI_JSON_VERSION)) == 0)
		r = json_dumpf(root, stdout, JSON_INDENT(2));
	json_decref(root);
	if (r < 0)
		return ui_error(K(080) "out of memory");
	putchar('\n');
	return 0;
}
