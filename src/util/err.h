/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_ERR_H
#define UTIL_ERR_H

/*
 * Start-time errors travel up as a negative errno plus one line of text for a person: the cause, the
 * place and the next step, without a trailing newline. Only cmd prints it.
 */
struct err {
	char text[512];
};

/* Formats the text (err may be NULL) and returns code, which must be a negative errno. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " in front of the text that is already there; keeps code. */
int err_prefix(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * In front of a format, the code that vm shows behind a message (cmd/vm/codes.c says what it stands
 * for): err_set(err, -ENOENT, K(011) "there is no switch '%s'", name). It travels within the text, in
 * whatever that is put into, until somebody shows it. Only vm and the manager give codes.
 */
#define K(code) "\001K" #code
#define ERR_CODE_SIZE 5

/* Takes the codes out of a text. The last one, which is the cause's, goes to code; "": there is none. */
void err_take_code(char *text, char code[ERR_CODE_SIZE]);

/* The analyser looks at one file at a time: tell it that an error is an error. */
#ifdef __clang_analyzer__
#define err_negative_(call)                      \
	({                                       \
		int code_ = (call);              \
		if (code_ >= 0)                  \
			__builtin_unreachable(); \
		code_;                           \
	})
#define err_set(...) err_negative_((err_set)(__VA_ARGS__))
#define err_prefix(...) err_negative_((err_prefix)(__VA_ARGS__))
#endif

#endif
