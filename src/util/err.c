/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "util/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Marks a text that did not fit, so that nobody takes half a path for a whole one. */
static void mark_cut(char *text, size_t size, int wanted)
{
	if (wanted >= (int)size)
		memcpy(text + size - 4, "...", 4);
}

int(err_set)(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	int n;

	assert(code < 0);
	if (!err)
		return code;
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	mark_cut(err->text, sizeof(err->text), n);
	return code;
}

int(err_prefix)(struct err *err, int code, const char *fmt, ...)
{
	struct err old;
	va_list ap;
	size_t len;
	int n;

	assert(code < 0);
	if (!err)
		return code;
	old = *err;
	va_start(ap, fmt);
	n = vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	mark_cut(err->text, sizeof(err->text), n);
	len = strlen(err->text);
	n = snprintf(err->text + len, sizeof(err->text) - len, ": %s", old.text);
	mark_cut(err->text, sizeof(err->text), (int)len + n);
	return code;
}

void err_take_code(char *text, char code[ERR_CODE_SIZE])
{
	size_t len;

	code[0] = '\0';
	while ((text = strstr(text, "\001K"))) {
		/* Shorter: cut off by the end of the text. */
		len = strnlen(text + 1, ERR_CODE_SIZE - 1);
		memcpy(code, text + 1, len);
		code[len] = '\0';
		memmove(text, text + 1 + len, strlen(text + 1 + len) + 1);
	}
}
