/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/plan.h"
#include "manager/switch.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"

#define KEY_SIZE 128
#define TEXT_SIZE 512

/* Keys of .config/system.conf that vm-bhyve's users set. None of them has an effect here. */
static const char *const settings[] = { "console", "compress", "decompress", "suspend" };

static bool is_setting(const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		if (strcmp(key, settings[i]) == 0)
			return true;
	}
	return false;
}

/* A word of the command line as key and value. NULL: reported. */
static const char *split(const char *word, char *key, size_t size)
{
	const char *equals = strchr(word, '=');

	if (!equals || equals == word) {
		ui_error(K(004) "'%s' is not KEY=VALUE", word);
		return NULL;
	}
	if (snprintf(key, size, "%.*s", (int)(equals - word), word) >= (int)size) {
		ui_error(K(041) "unknown key '%.64s...'", word);
		return NULL;
	}
	return equals + 1;
}

static int refuse_setting(const char *key)
{
	const char *near = str_nearest(key, settings, ARRAY_LEN(settings));
	char text[TEXT_SIZE];

	if (keys_find(key, text, sizeof(text)) != KEYS_UNKNOWN)
		return ui_error(
			K(006) "invalid configuration setting - '%s': it is a key of guests: "
			       "vm %s NAME %s",
			key, "set", key);
	if (near)
		return ui_error(K(006) "invalid configuration setting - '%s' (did you mean '%s'?)",
				key, near);
	if (strncmp(key, "vm_", 3) == 0)
		return ui_error(K(006) "invalid configuration setting - '%s': it stands in "
				       "khyve.conf, see khyve.conf(5)",
				key);
	return ui_error(K(006) "invalid configuration setting - '%s'; 'vm get all' shows them",
			key);
}

/* An empty value removes the key. */
static int put(struct gconf *conf, const char *key, const char *value)
{
	int r = 0;

	if (*value)
		r = gconf_set(conf, key, value);
	else
		gconf_unset(conf, key);
	if (r == -EINVAL)
		return ui_error("%s: a value cannot hold \", # or control characters", key);
	return r < 0 ? ui_error("%s: %s", key, strerror(-r)) : 0;
}

static int set_settings(struct vm *vm, int count, char **words)
{
	struct switch_edit e;
	struct err err;
	char key[KEY_SIZE];
	int status = 0;

	for (int i = 0; i < count; i++) {
		if (!split(words[i], key, sizeof(key)))
			return VM_FAILED;
		if (!is_setting(key))
			return refuse_setting(key);
	}
	if (switch_edit_begin(&vm->store, &e, &err) < 0)
		return ui_error("%s", err.text);
	for (int i = 0; status == 0 && i < count; i++) {
		const char *value = split(words[i], key, sizeof(key));

		status = put(e.conf, key, value);
		if (status == 0 && *value)
			ui_warning("'%s' has no effect", key);
	}
	if (switch_edit_end(&e, status == 0, &err) < 0)
		status = ui_error("%s", err.text);
	for (int i = 0; status == 0 && i < count; i++)
		(void)vm_would(vm, "set %s", words[i]);
	return status;
}

/* Whether khyve could be started with the file as it is; err says why not. */
static bool is_whole(const struct guest *g, struct gconf *conf, struct err *err)
{
	struct plan_opts opts = { 0 };
	struct plan plan;

	if (plan_make(&plan, g, conf, &opts, err) < 0)
		return false;
	plan_fini(&plan);
	return true;
}

struct changed {
	struct gconf *conf;
	char **words;
	int count;
};

/* Of what is wrong with the whole file, only what is about the keys that were set. */
static void warn_changed(void *arg, const char *text)
{
	struct changed *c = arg;

	for (int i = 0; i < c->count; i++) {
		char key[KEY_SIZE];
		const char *where;

		if (!split(c->words[i], key, sizeof(key)) || !gconf_get(c->conf, key))
			continue;
		where = gconf_where(c->conf, key);
		if (str_starts(text, where) && text[strlen(where)] == ':') {
			ui_warning("%s", text);
			return;
		}
	}
}

static int check_keys(int count, char **words)
{
	char key[KEY_SIZE], text[TEXT_SIZE];
	const char *value;

	for (int i = 0; i < count; i++) {
		value = split(words[i], key, sizeof(key));
		if (!value)
			return VM_FAILED;
		/* A key that should not be there can still be removed. */
		if (*value && keys_find(key, text, sizeof(text)) == KEYS_UNKNOWN)
			return ui_error("%s", text);
	}
	return 0;
}

static int change_guest(const struct vm *vm, const struct guest *g, struct gconf *conf, int count,
			char **words)
{
	struct changed changed = { .conf = conf, .words = words, .count = count };
	struct err before = { "" }, after = { "" };
	bool was_whole = is_whole(g, conf, &before);
	char key[KEY_SIZE];
	int status = 0;

	for (int i = 0; status == 0 && i < count; i++) {
		const char *value = split(words[i], key, sizeof(key));

		status = put(conf, key, value);
	}
	if (status)
		return status;
	if (!is_whole(g, conf, &after)) {
		if (was_whole)
			return ui_error(K(040) "%s; nothing was changed", after.text);
		ui_warning(K(040) "the guest cannot start so: %s", after.text);
	}
	keys_check(conf, warn_changed, &changed);
	for (int i = 0; vm->dry_run && i < count; i++)
		(void)vm_would(vm, "set %s of %s", words[i], g->name);
	return gconf_save(conf, g->conf, &after) < 0 ? ui_error("%s", after.text) : 0;
}

static int set_guest(const struct vm *vm, const struct guest *g, int count, char **words)
{
	struct run_state state;
	struct gconf *conf;
	struct err err;
	int lock, status = check_keys(count, words);

	if (status)
		return status;
	if (guest_edit_begin(g, &conf, &lock, &err) < 0)
		return ui_error("%s", err.text);
	status = change_guest(vm, g, conf, count, words);
	guest_edit_end(conf, lock);
	run_query(g, &state);
	if (status == 0 && !vm->dry_run && state.kind != RUN_STOPPED)
		printf("%s is running: this counts from its next start\n", g->name);
	return status;
}

int verb_set(struct vm *vm, int argc, char **argv)
{
	struct guest g;

	if (ui_option(argc, argv, "") != -1 || optind == argc)
		return ui_usage(vm);
	if (strchr(argv[optind], '='))
		return set_settings(vm, argc - optind, argv + optind);
	if (argc - optind == 1)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	return set_guest(vm, &g, argc - optind - 1, argv + optind + 1);
}

/* --- vm get --- */

struct listing {
	json_t *values; /* NULL: for a person */
};

static void show(struct listing *l, const char *key, const char *value)
{
	if (l->values)
		json_object_set_new(l->values, key, ui_json_text(value));
	else
		printf("%-20s%s\n", key, value && *value ? value : "-");
}

static int get_settings(struct vm *vm, struct listing *l, int count, char **keys)
{
	struct gconf *conf;
	struct err err;
	bool all = strcmp(keys[0], "all") == 0;

	for (int i = 0; !all && i < count; i++) {
		if (!is_setting(keys[i]))
			return refuse_setting(keys[i]);
	}
	if (switch_load(&vm->store, &conf, &err) < 0)
		return ui_error("%s", err.text);
	for (size_t i = 0; all && i < ARRAY_LEN(settings); i++)
		show(l, settings[i], gconf_get(conf, settings[i]));
	for (int i = 0; !all && i < count; i++)
		show(l, keys[i], gconf_get(conf, keys[i]));
	gconf_free(conf);
	return 0;
}

static int get_guest(struct listing *l, const struct guest *g, int count, char **keys)
{
	bool all = count == 0 || strcmp(keys[0], "all") == 0;
	char text[TEXT_SIZE];
	struct gconf *conf;
	struct err err;

	if (gconf_load(g->conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	for (int i = 0; !all && i < count; i++) {
		if (!gconf_get(conf, keys[i]) &&
		    keys_find(keys[i], text, sizeof(text)) == KEYS_UNKNOWN) {
			gconf_free(conf);
			return ui_error("%s", text);
		}
	}
	for (size_t i = 0; all && i < gconf_count(conf); i++) {
		struct gconf_line line = gconf_line(conf, i);

		/* Only the first line of a key counts. */
		if (line.key && gconf_get(conf, line.key) == line.value)
			show(l, line.key, line.value);
	}
	for (int i = 0; !all && i < count; i++)
		show(l, keys[i], gconf_get(conf, keys[i]));
	gconf_free(conf);
	return 0;
}

int verb_get(struct vm *vm, int argc, char **argv)
{
	struct listing l = { NULL };
	bool json, system;
	struct guest g;
	int status;

	if (ui_json_option(argc, argv, &json) < 0 || optind == argc)
		return ui_usage(vm);
	argc -= optind;
	argv += optind;
	system = strcmp(argv[0], "all") == 0 || is_setting(argv[0]);
	if (!system && vm_find(vm, argv[0], &g))
		return VM_FAILED;
	if (json)
		l.values = json_object();
	else
		printf("%-20s%s\n", "SETTING", "VALUE");
	status = system ? get_settings(vm, &l, argc, argv) : get_guest(&l, &g, argc - 1, argv + 1);
	if (status == 0 && json)
		return ui_json_print(json_pack("{s:o?, s:o}", "name",
					       system ? json_null() : json_string(g.name), "values",
					       l.values));
	json_decref(l.values);
	return status;
}
