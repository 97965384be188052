/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cmd/khyve-vnc/keysym.h"
#include "manager/ctl.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/*
 * vm type and vm key: chords for the guest's keyboard, as a US keyboard has them. khyve takes one when the guest has
 * fetched the one before; the gap is for guests whose own buffers are small.
 */
#define ANSWER_MS 5000
#define TAKE_MS 5000
#define RETRY_MS 5
#define GAP_MS 10
#define CHORD_MAX 8
#define TEXT_MAX 65536 /* of standard input */

struct chord {
	uint16_t keys[CHORD_MAX];
	unsigned int count;
	bool letter; /* alone, or with Shift: Caps Lock turns it round */
};

struct typing {
	const struct guest *g;
	bool caps;
};

/* X11's keysyms of keys by the names that people have for them. F1 to F12 are not here. */
static const struct {
	const char *name;
	uint16_t keysym;
} names[] = {
	{ "ctrl", 0xffe3 },	 { "control", 0xffe3 },	 { "rctrl", 0xffe4 },
	{ "alt", 0xffe9 },	 { "altgr", 0xffea },	 { "ralt", 0xffea },
	{ "shift", 0xffe1 },	 { "rshift", 0xffe2 },	 { "super", 0xffeb },
	{ "win", 0xffeb },	 { "meta", 0xffeb },	 { "menu", 0xff67 },
	{ "enter", 0xff0d },	 { "return", 0xff0d },	 { "esc", 0xff1b },
	{ "escape", 0xff1b },	 { "tab", 0xff09 },	 { "space", 0x20 },
	{ "backspace", 0xff08 }, { "del", 0xffff },	 { "delete", 0xffff },
	{ "ins", 0xff63 },	 { "insert", 0xff63 },	 { "home", 0xff50 },
	{ "end", 0xff57 },	 { "pgup", 0xff55 },	 { "pageup", 0xff55 },
	{ "pgdn", 0xff56 },	 { "pagedown", 0xff56 }, { "up", 0xff52 },
	{ "down", 0xff54 },	 { "left", 0xff51 },	 { "right", 0xff53 },
	{ "print", 0xff61 },	 { "sysrq", 0xff15 },	 { "pause", 0xff13 },
	{ "capslock", 0xffe5 },	 { "numlock", 0xff7f },	 { "scrolllock", 0xff14 },
};

static bool add_key(struct chord *c, uint32_t keysym)
{
	struct keysym_key key;

	if (!keysym_find(keysym, &key))
		return false;
	if (key.level == KEYSYM_SHIFTED && !add_key(c, 0xffe1))
		return false;
	if (c->count == CHORD_MAX)
		return false;
	c->keys[c->count++] = key.scancode;
	c->letter = key.letter;
	return true;
}

static bool add_named(struct chord *c, const char *name, size_t len)
{
	unsigned int n = 0;

	if (len == 1)
		return add_key(c, (uint32_t)tolower((unsigned char)*name));
	if (len <= 3 && tolower((unsigned char)*name) == 'f') {
		for (size_t i = 1; i < len; i++)
			n = isdigit((unsigned char)name[i]) ? 10 * n + (unsigned)(name[i] - '0')
							    : 99;
		return n >= 1 && n <= 12 && add_key(c, 0xffbd + n);
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strncasecmp(names[i].name, name, len) == 0 && !names[i].name[len])
			return add_key(c, names[i].keysym);
	}
	return false;
}

/* "ctrl-alt-del". Caps Lock means nothing to it. */
static int parse_chord(const char *text, struct chord *c)
{
	const char *p = text;

	*c = (struct chord){ .count = 0 };
	do {
		size_t len = 1 + strcspn(*p ? p + 1 : p, "-");

		if (!*p || !add_named(c, p, len))
			return ui_error(
				K(004) "'%s' is not a chord such as ctrl-alt-del, f2, up or enter",
				text);
		p += len;
	} while (*p++);
	c->letter = false;
	return 0;
}

/* One character of a text. False: it is not on the keyboard. */
static bool char_chord(char ch, struct chord *c)
{
	*c = (struct chord){ .count = 0 };
	if (ch == '\n' || ch == '\t')
		return add_key(c, ch == '\n' ? 0xff0d : 0xff09);
	return ch >= 0x20 && ch < 0x7f && add_key(c, (uint32_t)ch);
}

/* Sends a chord, or with NULL asks whether all was fetched, until khyve takes it. -ETIMEDOUT. */
static int send_chord(struct typing *t, const struct chord *c, struct err *err)
{
	uint64_t end = clock_mono_ns() + TAKE_MS * NS_PER_MS;
	char command[16 + 5 * CHORD_MAX] = "key", reply[64], caps[8];
	size_t len = strlen(command);
	unsigned int first = 0;
	int r;

	/* Caps Lock is on: Shift is wanted where it was not, and not where it was. */
	if (c && c->letter && t->caps && c->count > 1)
		first = 1;
	else if (c && c->letter && t->caps)
		len += (size_t)snprintf(command + len, sizeof(command) - len, " %x",
					KEY_LEFT_SHIFT);
	for (unsigned int i = first; c && i < c->count; i++)
		len += (size_t)snprintf(command + len, sizeof(command) - len, " %x", c->keys[i]);
	for (;;) {
		r = ctl_command(t->g, command, ANSWER_MS, reply, sizeof(reply), err);
		if (r == 0 && ctl_value(reply, "caps", caps, sizeof(caps)) == 0)
			t->caps = strcmp(caps, "on") == 0;
		if (r != -EREMOTEIO || !strstr(err->text, "try again"))
			return r;
		if (clock_mono_ns() >= end)
			return -ETIMEDOUT;
		poll(NULL, 0, RETRY_MS);
	}
}

static int report(const struct typing *t, int r, const struct err *err, size_t done, size_t all)
{
	if (r == -ETIMEDOUT && strstr(err->text, "try again"))
		return ui_error(K(044) "%s has not taken the key in time: %zu of %zu are typed",
				t->g->name, done, all);
	return ui_error("%s: %s: %zu of %zu keys are typed", t->g->name, err->text, done, all);
}

/* All chords, one after the other; fn makes the n-th. */
static int type_all(const struct guest *g, size_t all,
		    bool (*fn)(const void *, size_t, struct chord *), const void *arg)
{
	struct typing t = { .g = g };
	struct err err = { "" };
	struct chord c;
	int r = send_chord(&t, NULL, &err);

	if (r < 0)
		return report(&t, r, &err, 0, all);
	for (size_t i = 0; i < all; i++) {
		(void)fn(arg, i, &c);
		r = send_chord(&t, &c, &err);
		if (r < 0)
			return report(&t, r, &err, i, all);
		poll(NULL, 0, GAP_MS);
	}
	r = send_chord(&t, NULL, &err);
	/* A key may have ended the guest, or paused it: then it was taken. */
	return r == -ETIMEDOUT ? report(&t, r, &err, all - 1, all) : 0;
}

static bool nth_char(const void *arg, size_t n, struct chord *c)
{
	return char_chord(((const char *)arg)[n], c);
}

static bool nth_chord(const void *arg, size_t n, struct chord *c)
{
	*c = ((const struct chord *)arg)[n];
	return true;
}

static int check_text(const char *text)
{
	struct chord c;

	for (const char *p = text; *p; p++) {
		int len = 1;

		if (char_chord(*p, &c))
			continue;
		/* The whole character in UTF-8. */
		while (((unsigned char)p[len] & 0xc0) == 0x80)
			len++;
		if (iscntrl((unsigned char)*p))
			return ui_error(
				K(006) "invalid text - a US keyboard has no control character %d "
				       "(the %td. of the text); 'vm key' presses keys",
				*p, p - text + 1);
		return ui_error(K(006) "invalid text - '%.*s' is not on a US keyboard", len, p);
	}
	return *text ? 0 : ui_error(K(006) "invalid text - there is nothing to type");
}

/* All of standard input. text has TEXT_MAX bytes and one for its end. */
static int read_text(char *text)
{
	size_t len = fread(text, 1, TEXT_MAX, stdin);

	text[len] = '\0';
	if (ferror(stdin))
		return ui_error("cannot read standard input: %s", strerror(errno));
	if (len == TEXT_MAX && getchar() != EOF)
		return ui_error(K(006) "invalid text - it is longer than %d characters", TEXT_MAX);
	if (strlen(text) < len)
		return ui_error(K(006) "invalid text - a US keyboard has no control character 0 "
				       "(the %zu. of the text)",
				strlen(text) + 1);
	return 0;
}

/* Nothing of it is left in memory: it may be a password. */
static int type_input(const struct guest *g)
{
	char *text = malloc(TEXT_MAX + 1);
	int status;

	if (!text)
		return ui_error(K(080) "out of memory");
	setvbuf(stdin, NULL, _IONBF, 0);
	status = read_text(text);
	if (status == 0)
		status = check_text(text);
	if (status == 0)
		status = type_all(g, strlen(text), nth_char, text);
	explicit_bzero(text, TEXT_MAX);
	free(text);
	return status;
}

int verb_type(struct vm *vm, int argc, char **argv)
{
	struct guest g;

	/* The text may begin with a dash. */
	if (ui_option(argc, argv, "+") != -1 || argc - optind != 2)
		return ui_usage(vm);
	if (vm_find_running(vm, argv[optind], &g))
		return VM_FAILED;
	argv += optind + 1;
	if (strcmp(*argv, "-") == 0)
		return type_input(&g);
	return check_text(*argv) ? VM_FAILED : type_all(&g, strlen(*argv), nth_char, *argv);
}

#define CHORDS_MAX 64

int verb_key(struct vm *vm, int argc, char **argv)
{
	struct chord chords[CHORDS_MAX];
	struct guest g;
	int n;

	if (ui_option(argc, argv, "+") != -1 || argc - optind < 2)
		return ui_usage(vm);
	if (vm_find_running(vm, argv[optind], &g))
		return VM_FAILED;
	argv += optind + 1;
	for (n = 0; argv[n]; n++) {
		if (n == CHORDS_MAX)
			return ui_error(K(006) "invalid number of chords: at most %d", CHORDS_MAX);
		if (parse_chord(argv[n], &chords[n]))
			return VM_FAILED;
	}
	return type_all(&g, (size_t)n, nth_chord, chords);
}
