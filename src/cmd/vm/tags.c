/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "manager/file.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"

#define SEPARATORS " \t,"
#define TAGS_SIZE 4096

const char *vm_next_tag(const char **tags, size_t *len)
{
	const char *tag = *tags;

	if (!tag)
		return NULL;
	tag += strspn(tag, SEPARATORS);
	*len = strcspn(tag, SEPARATORS);
	*tags = tag + *len;
	return *len ? tag : NULL;
}

bool vm_has_tag(const char *tags, const char *tag)
{
	const char *word;
	size_t len;

	while ((word = vm_next_tag(&tags, &len))) {
		if (len == strlen(tag) && strncmp(word, tag, len) == 0)
			return true;
	}
	return false;
}

json_t *vm_tags_json(const char *tags)
{
	json_t *array = json_array();
	const char *word;
	size_t len;

	while ((word = vm_next_tag(&tags, &len)))
		json_array_append_new(array, json_stringn(word, len));
	return array;
}

/* The words of tags without the given ones, with one blank between. */
static int copy_tags(const char *tags, char **without, int count, char *out, size_t size)
{
	const char *word;
	size_t len, n = 0;

	out[0] = '\0';
	while ((word = vm_next_tag(&tags, &len))) {
		bool keep = true;

		for (int i = 0; i < count; i++)
			keep &= strlen(without[i]) != len || strncmp(word, without[i], len) != 0;
		if (keep &&
		    file_path(out + n, size - n, "%s%.*s", n ? " " : "", (int)len, word) < 0)
			return -E2BIG;
		n += strlen(out + n);
	}
	return 0;
}

static int change_tags(struct gconf *conf, bool add, int count, char **tags)
{
	char text[TAGS_SIZE];
	size_t n;
	int r = copy_tags(gconf_get(conf, "tags"), tags, add ? 0 : count, text, sizeof(text));

	for (int i = 0; r == 0 && add && i < count; i++) {
		n = strlen(text);
		if (!vm_has_tag(text, tags[i]))
			r = file_path(text + n, sizeof(text) - n, "%s%s", n ? " " : "", tags[i]);
	}
	if (r == 0 && text[0])
		r = gconf_set(conf, "tags", text);
	else if (r == 0)
		gconf_unset(conf, "tags");
	return r;
}

static int change(struct vm *vm, bool add, int argc, char **argv)
{
	struct gconf *conf;
	struct guest g;
	struct err err;
	int lock, r, status = 0;

	if (argc < 2)
		return ui_usage(vm);
	for (int i = 1; i < argc; i++) {
		if (!store_name_valid(argv[i]))
			return ui_error(K(005) "invalid tag name - '%s'", argv[i]);
	}
	if (vm_find(vm, argv[0], &g))
		return VM_FAILED;
	if (guest_edit_begin(&g, &conf, &lock, &err) < 0)
		return ui_error("%s", err.text);
	for (int i = 1; !add && status == 0 && i < argc; i++) {
		if (!vm_has_tag(gconf_get(conf, "tags"), argv[i]))
			status = ui_error(K(017) "%s has no tag '%s'", g.name, argv[i]);
	}
	if (status == 0) {
		r = change_tags(conf, add, argc - 1, argv + 1);
		if (r < 0)
			status = ui_error("%s: too many tags", g.name);
		else if (gconf_save(conf, g.conf, &err) < 0)
			status = ui_error("%s", err.text);
	}
	guest_edit_end(conf, lock);
	for (int i = 1; status == 0 && i < argc; i++)
		(void)vm_would(vm, add ? "give %s the tag %s" : "take from %s the tag %s", g.name,
			       argv[i]);
	return status;
}

static int list(struct vm *vm, bool json, int argc, char **argv)
{
	char text[TAGS_SIZE];
	struct gconf *conf;
	struct guest g;
	struct err err;
	int status = 0;

	if (argc != 1)
		return ui_usage(vm);
	if (vm_find(vm, argv[0], &g))
		return VM_FAILED;
	if (gconf_load(g.conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	if (json)
		status = ui_json_print(json_pack("{s:s, s:o}", "name", g.name, "tags",
						 vm_tags_json(gconf_get(conf, "tags"))));
	else if (copy_tags(gconf_get(conf, "tags"), NULL, 0, text, sizeof(text)) == 0)
		puts(text);
	gconf_free(conf);
	return status;
}

struct search {
	const char *tag;
	json_t *names; /* NULL: for a person */
	bool any;
};

static int look_at(void *arg, const struct guest *g)
{
	struct search *s = arg;
	struct gconf *conf;

	if (gconf_load(g->conf, &conf, NULL) < 0)
		return 0;
	if (vm_has_tag(gconf_get(conf, "tags"), s->tag)) {
		if (s->names)
			json_array_append_new(s->names, json_string(g->name));
		else
			printf("%s%s", s->any ? " " : "", g->name);
		s->any = true;
	}
	gconf_free(conf);
	return 0;
}

static int find(struct vm *vm, bool json, int argc, char **argv)
{
	struct search s = { 0 };
	int r;

	if (argc != 1)
		return ui_usage(vm);
	s.tag = argv[0];
	if (!store_name_valid(s.tag))
		return ui_error(K(005) "invalid tag name - '%s'", s.tag);
	s.names = json ? json_array() : NULL;
	r = store_each(&vm->store, look_at, &s);
	if (s.any && !json)
		putchar('\n');
	if (r < 0 && r != -EACCES) {
		json_decref(s.names);
		return ui_error("%s: %s", vm->store.dir, strerror(-r));
	}
	return json ? ui_json_print(json_pack("{s:s, s:o}", "tag", s.tag, "guests", s.names)) : 0;
}

int verb_tags(struct vm *vm, int argc, char **argv)
{
	static const char *const words[] = { "add", "remove", "list", "find" };
	size_t len, which = ARRAY_LEN(words);
	bool json;

	if (ui_json_option(argc, argv, &json) < 0 || optind == argc)
		return ui_usage(vm);
	argc -= optind;
	argv += optind;
	len = strlen(argv[0]);
	for (size_t i = 0; len > 0 && i < ARRAY_LEN(words); i++) {
		if (strncmp(argv[0], words[i], len) == 0)
			which = i;
	}
	if (which == 2)
		return list(vm, json, argc - 1, argv + 1);
	if (which == 3)
		return find(vm, json, argc - 1, argv + 1);
	if (which > 1 || json)
		return ui_usage(vm);
	return change(vm, which == 0, argc - 1, argv + 1);
}
