/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <ctype.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "codes.h"
#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/removed.h"
#include "manager/snapshot.h"
#include "manager/switch.h"
#include "util/macros.h"
#include "util/str.h"
#include "vm.h"

/*
 * What a shell may complete a command with. Everything is read from the verbs' own synopses: words
 * in small letters are typed as they are, those in capitals say what is meant. Prints one candidate
 * a line; those that do not begin with what was typed are left out.
 */
struct wish {
	const struct vm *vm;
	const char *verb;
	const char *typed; /* of the word that is completed */
};

static void offer(const struct wish *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void offer(const struct wish *w, const char *fmt, ...)
{
	char text[2 * STORE_NAME_MAX];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n > 0 && (size_t)n < sizeof(text) && str_starts(text, w->typed))
		puts(text);
}

/* Commands that are for guests that run, or for those that do not. */
static bool fits(const struct wish *w, const struct guest *g)
{
	static const char *const on[] = { "stop",	"restart", "reset", "poweroff",
					  "console",	"ssh",	   "exec",  "suspend",
					  "screenshot", "type",	   "key" };
	static const char *const off[] = { "start", "install", "rename", "destroy", "rollback" };
	struct run_state state;

	run_query(g, &state);
	for (size_t i = 0; i < ARRAY_LEN(on); i++) {
		if (strcmp(w->verb, on[i]) == 0)
			return state.kind == RUN_RUNNING;
	}
	for (size_t i = 0; i < ARRAY_LEN(off); i++) {
		if (strcmp(w->verb, off[i]) == 0)
			return state.kind == RUN_STOPPED;
	}
	return true;
}

static int offer_guest(void *arg, const struct guest *g)
{
	const struct wish *w = arg;

	if (fits(w, g))
		offer(w, "%s", g->name);
	return 0;
}

static int offer_snapshots(void *arg, const struct guest *g)
{
	const struct wish *w = arg;
	struct snapshot *list;
	size_t count;

	/* Only of the guest whose name is there already. */
	if (strncmp(w->typed, g->name, strlen(g->name)) != 0 || w->typed[strlen(g->name)] != '@' ||
	    snapshot_list(g, &list, &count) < 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		offer(w, "%s@%s", g->name, list[i].name);
	free(list);
	return 0;
}

static void offer_switches(const struct wish *w)
{
	struct gconf *conf;
	const char *p;

	if (switch_load(&w->vm->store, &conf, NULL) < 0)
		return;
	for (p = gconf_get(conf, "switch_list"); p && *(p += strspn(p, " "));) {
		int len = (int)strcspn(p, " ");

		offer(w, "%.*s", len, p);
		p += len;
	}
	gconf_free(conf);
}

/* Files of a folder, without the end of their names that stands in all of them. */
static void offer_files(const struct wish *w, const char *dir, const char *end)
{
	struct dirent *e;
	DIR *d = opendir(dir);

	while (d && (e = readdir(d))) {
		size_t len = strlen(e->d_name), tail = strlen(end);

		if (e->d_name[0] != '.' && len > tail && strcmp(e->d_name + len - tail, end) == 0)
			offer(w, "%.*s", (int)(len - tail), e->d_name);
	}
	if (d)
		closedir(d);
}

static void offer_folder(const struct wish *w, const char *name, const char *end)
{
	char path[PATH_MAX];

	if (file_path(path, sizeof(path), "%s/%s", w->vm->store.dir, name) == 0)
		offer_files(w, path, end);
}

static void offer_removed(const struct wish *w)
{
	struct removed *list;
	size_t count;

	if (removed_list(&w->vm->store, &list, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++)
		offer(w, "%s", list[i].name);
	free(list);
}

static void offer_keys(const struct wish *w, const char *end)
{
	const char *key;

	for (size_t i = 0; (key = keys_name(i)); i++) {
		const char *hash = strchr(key, '#');

		if (hash)
			offer(w, "%.*s0%s%s", (int)(hash - key), key, hash + 1, end);
		else
			offer(w, "%s%s", key, end);
	}
}

/* What a word of a synopsis stands for, less brackets and dots. */
static void offer_meant(const struct wish *w, const char *word)
{
	if (str_starts(word, "NAME") && strcmp(w->verb, "switch") == 0)
		offer_switches(w);
	else if (str_starts(word, "NAME") && strcmp(w->verb, "trash") == 0)
		offer_removed(w);
	else if (strcmp(word, "NAME") == 0 || str_starts(word, "NAME...") ||
		 str_starts(word, "NAME@") || str_starts(word, "NAME["))
		(void)store_each(&w->vm->store, offer_guest, (void *)w);
	if (str_starts(word, "NAME@") || str_starts(word, "NAME[@"))
		(void)store_each(&w->vm->store, offer_snapshots, (void *)w);
	else if (str_starts(word, "SWITCH"))
		offer_switches(w);
	else if (str_starts(word, "ISO"))
		offer_folder(w, ".iso", "");
	else if (str_starts(word, "IMAGE"))
		offer_folder(w, ".img", "");
	else if (str_starts(word, "KEY"))
		offer_keys(w, strchr(word, '=') ? "=" : "");
	else if (strcmp(word, "TEMPLATE") == 0) {
		offer_folder(w, ".templates", ".conf");
		offer_files(w, w->vm->store.share, ".conf");
	} else if (strcmp(word, "CODE") == 0) {
		for (const struct code *c = code_next(NULL); c; c = code_next(c))
			offer(w, "%s", c->name);
	}
}

/* The words of "on|off". */
static void offer_words(const struct wish *w, const char *word)
{
	while (*word) {
		size_t len = strcspn(word, "|");

		offer(w, "%.*s", (int)len, word);
		word += len + (word[len] == '|');
	}
}

static bool is_one_of(const char *typed, const char *word)
{
	while (*word) {
		size_t len = strcspn(word, "|");

		if (strlen(typed) == len && strncmp(typed, word, len) == 0)
			return true;
		word += len + (word[len] == '|');
	}
	return false;
}

/*
 * The next word of a synopsis, less the brackets of what may be left out: "[-fi]" is "-fi",
 * "[NAME...]" is "NAME...". False at the end of the line.
 */
static bool next_word(const char **p, char *out, size_t size)
{
	size_t n = 0, depth = 0;

	*p += strspn(*p, " ");
	if (!**p || **p == '\n')
		return false;
	if (**p == '[') {
		depth = 1;
		(*p)++;
	}
	for (; **p && **p != '\n' && (depth || **p != ' '); (*p)++) {
		depth += **p == '[' && depth ? 1 : 0;
		if (**p == ']' && depth && --depth == 0) {
			(*p)++;
			break;
		}
		if (n + 1 < size)
			out[n++] = **p;
	}
	out[n] = '\0';
	return true;
}

/* What the value of an option stands for, from the lines about options: "TEMPLATE". "": none. */
static void option_value(const struct verb *v, const char *option, char *out, size_t size)
{
	const char *p = v->options;

	out[0] = '\0';
	for (; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		size_t len = strcspn(p, " \n");

		if (strlen(option) == len && strncmp(p, option, len) == 0 && p[len] == ' ' &&
		    isupper((unsigned char)p[len + 1])) {
			p += len + 1;
			len = strcspn(p, " \n");
			if (file_path(out, size, "%.*s", (int)len, p) < 0)
				out[0] = '\0';
			return;
		}
	}
}

static void offer_options(const struct wish *w, const struct verb *v)
{
	for (const char *p = v->options; p && *p;
	     p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		if (*p == '-')
			offer(w, "%.*s", (int)strcspn(p, " \n"), p);
	}
}

/* One form of a verb, from behind the verb: offers what may stand where the typed words end. */
static void follow(const struct wish *w, const char *p, char *const *typed, int count)
{
	char word[128] = "", value[128];
	int at = 0;

	while (next_word(&p, word, sizeof(word))) {
		/* Options may stand anywhere; "-d disk" has a value that is no word of its own. */
		if (word[0] == '-') {
			if (strlen(word) == 2 && *p == ' ' && p[1] != '[' && p[1] != '\n')
				(void)next_word(&p, value, sizeof(value));
			continue;
		}
		if (at == count) {
			if (isupper((unsigned char)word[0]))
				offer_meant(w, word);
			else
				offer_words(w, word);
			return;
		}
		if (!isupper((unsigned char)word[0]) && !is_one_of(typed[at], word))
			return;
		at++;
	}
	if (strstr(word, "..."))
		offer_meant(w, word);
}

static void complete_verb(struct wish *w, const struct verb *v, int argc, char **argv)
{
	char value[128], *words[64];
	int count = 0;

	w->verb = v->name;
	w->typed = argv[argc - 1];
	/* Behind the verb, without options and their values. */
	for (int i = 1; i < argc - 1 && count < (int)ARRAY_LEN(words); i++) {
		option_value(v, argv[i], value, sizeof(value));
		if (argv[i][0] != '-')
			words[count++] = argv[i];
		else if (value[0] && i + 1 == argc - 1) {
			if (strcmp(value, "KIND") == 0)
				offer_words(w, "disk|network");
			if (strcmp(v->name, "add") == 0 && strcmp(value, "SIZE") == 0)
				offer_switches(w);
			offer_meant(w, value);
			return;
		} else
			i += value[0] != '\0';
	}
	if (w->typed[0] == '-') {
		offer_options(w, v);
		return;
	}
	for (const char *p = v->synopsis; p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		follow(w, p + strcspn(p, " \n"), words, count);
}

int verb_complete(struct vm *vm, int argc, char **argv)
{
	struct wish w = { .vm = vm, .verb = "" };
	const struct verb *v = NULL;

	/* Behind "--" the words as they were typed, the last one perhaps empty. */
	argc -= argc > 1;
	argv += argc > 0;
	w.typed = argc > 1 ? argv[1] : "";

	for (size_t i = 0; (v = vm_verb(i)); i++) {
		if (argc > 2 && strcasecmp(argv[1], v->name) == 0)
			break;
		if (argc <= 2 && v->kind != VERB_HIDDEN)
			offer(&w, "%s", v->name);
	}
	if (v)
		complete_verb(&w, v, argc - 1, argv + 1);
	else if (argc > 2)
		return VM_FAILED;
	return 0;
}
