/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "codes.h"

/* Columns of a line of text. */
#define WIDTH 80

/* The exit status that the first message asked for; 0: none has. */
static int *status_said(void)
{
	static int status;

	return &status;
}

int ui_status(int status)
{
	return status == VM_FAILED && *status_said() ? *status_said() : status;
}

static bool has_colours(FILE *f)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return (!no || !*no) && term && strcmp(term, "dumb") != 0 && isatty(fileno(f));
}

/* One line, its code behind it. */
__attribute__((format(printf, 4, 0))) static void say(FILE *f, const char *who, const char *kind,
						      const char *fmt, va_list ap)
{
	bool colours = has_colours(f);
	char *text, name[ERR_CODE_SIZE];
	const struct code *c;

	if (vasprintf(&text, fmt, ap) < 0)
		return;
	err_take_code(text, name);
	c = name[0] ? code_find(name) : code_of_system(text);
	if (c && c->status != VM_FAILED && !*status_said())
		*status_said() = c->status;
	fprintf(f, "%s%s%s%s%s%s%s%s\n", who, colours ? "\033[31m" : "", kind,
		colours ? "\033[0m" : "", text, c ? " [" : "", c ? c->name : "", c ? "]" : "");
	free(text);
}

int ui_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	say(stderr, "vm: ", "ERROR: ", fmt, ap);
	va_end(ap);
	return VM_FAILED;
}

void ui_warning(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	va_start(ap, fmt);
	say(stderr, "vm: ", "WARNING: ", fmt, ap);
	va_end(ap);
}

int ui_failure(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(stdout, "  ", "! ", fmt, ap);
	va_end(ap);
	fflush(stdout);
	return VM_FAILED;
}

int ui_ask(const char *fmt, ...)
{
	char line[256];
	va_list ap;

	for (;;) {
		va_start(ap, fmt);
		vprintf(fmt, ap);
		va_end(ap);
		fputs(" (y/n)? ", stdout);
		fflush(stdout);
		if (!fgets(line, sizeof(line), stdin)) {
			putchar('\n');
			return ui_error(K(003) "nobody answered, so nothing was done; -f does it "
					       "without asking");
		}
		if (line[0] == 'y')
			return 0;
		if (line[0] == 'n')
			return UI_NO;
	}
}

int ui_option(int argc, char **argv, const char *options)
{
	int c;

	opterr = 0;
	c = getopt(argc, argv, options);
	if (c == '?' && strchr(options, optopt) && optopt != ':')
		ui_error(K(002) "option -%c needs a value", optopt);
	else if (c == '?')
		ui_error(K(002) "Illegal option -%c", optopt ? optopt : '-');
	return c;
}

int ui_options(int argc, char **argv, const char *options, const struct option *longs)
{
	int c;

	opterr = 0;
	c = getopt_long(argc, argv, options, longs, NULL);
	if (c == ':' || (c == '?' && optopt && optopt != ':' && strchr(options, optopt)))
		ui_error(K(002) "option -%c needs a value", optopt);
	else if (c == '?')
		ui_error(K(002) "Illegal option %s", argv[optind - 1]);
	return c;
}

/* Up to the next blank outside brackets. */
static int word_length(const char *text)
{
	int depth = 0, n = 0;

	for (; text[n] && text[n] != '\n' && (text[n] != ' ' || depth > 0); n++)
		depth += text[n] == '[' ? 1 : text[n] == ']' ? -1 : 0;
	return n;
}

void ui_wrap(FILE *f, const char *first, int hang, const char *text)
{
	int column = (int)strlen(first);
	bool begins = true;

	fputs(first, f);
	while (*text && *text != '\n') {
		int len = word_length(text);

		if (!begins && column + 1 + len > WIDTH) {
			fprintf(f, "\n%*s", hang, "");
			column = hang;
			begins = true;
		}
		column += fprintf(f, "%s%.*s", begins ? "" : " ", len, text);
		begins = false;
		text += len;
		text += *text == ' ';
	}
	fputc('\n', f);
}

size_t ui_columns(void)
{
	struct winsize w;

	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0 ? 0 : w.ws_col;
}

int ui_json_option(int argc, char **argv, bool *json)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	*json = false;
	while ((c = ui_options(argc, argv, "", longs)) != -1) {
		if (c != 'j')
			return -1;
		*json = true;
	}
	return 0;
}

void ui_time(time_t t, char out[UI_TIME_SIZE])
{
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(out, UI_TIME_SIZE, "%FT%T%z", &tm))
		out[0] = '\0';
}

void ui_bytes(uint64_t bytes, char *out, size_t size)
{
	const char *units = "BKMGT";
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i < 4; i++)
		v /= 1024;
	if (snprintf(out, size, "%llu (%.3f%c)", (unsigned long long)bytes, v, units[i]) < 0)
		out[0] = '\0';
}
