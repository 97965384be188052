/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "manager/nat.h"
#include "manager/removed.h"
#include "manager/table.h"
#include "ui_json.h"

static int list(const struct vm *vm, bool json)
{
	char when[UI_TIME_SIZE], until[UI_TIME_SIZE];
	json_t *guests = json ? json_array() : NULL;
	struct table *t = table_new(3);
	struct removed *entries;
	size_t count;
	int r = removed_list(&vm->store, &entries, &count);

	if (r < 0 || !t) {
		json_decref(guests);
		table_free(t);
		return ui_error("cannot read the trash of %s: %s", vm->store.dir, strerror(-r));
	}
	table_add(t, "NAME");
	table_add(t, "DESTROYED");
	table_add(t, "KEPT UNTIL");
	for (size_t i = 0; i < count; i++) {
		ui_time(entries[i].when, when);
		ui_time(entries[i].when + REMOVED_DAYS * 86400, until);
		table_add(t, "%s", entries[i].name);
		table_add(t, "%s", when);
		table_add(t, "%s", until);
		if (json)
			json_array_append_new(guests,
					      json_pack("{s:s, s:s, s:s}", "name", entries[i].name,
							"destroyed", when, "kept-until", until));
	}
	if (!json)
		table_print(t, stdout);
	table_free(t);
	free(entries);
	return json ? ui_json_print(json_pack("{s:o}", "guests", guests)) : 0;
}

static int restore(const struct vm *vm, const char *name)
{
	struct err err = { "" }, warning;
	int r = removed_restore(&vm->store, name, &err);

	if (r == 0 && geteuid() == 0 && !vm->dry_run)
		r = nat_sync_guest(&vm->store, &warning, &err);
	return vm_done(vm, r, &err, "bring %s back", name);
}

static int empty(const struct vm *vm, const char *name, bool force)
{
	struct err err = { "" };
	int c = force || vm->dry_run
			? 0
			: ui_ask("Are you sure you want to remove for good what is in the trash");

	if (c)
		return c == UI_NO ? 0 : c;
	/* Also what was said to be later than it was. */
	c = removed_empty(&vm->store, name, time(NULL) + 86400, &err);
	if (c == 0 && name)
		return ui_error(K(016) "%s is not in the trash; 'vm trash list' shows it", name);
	return vm_done(vm, c, &err, "remove %d for good", c);
}

int verb_trash(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false, force = false;
	const char *word;
	int c;

	while ((c = ui_options(argc, argv, "f", longs)) != -1) {
		if (c != 'j' && c != 'f')
			return ui_usage(vm);
		json |= c == 'j';
		force |= c == 'f';
	}
	argc -= optind;
	argv += optind;
	word = argc ? argv[0] : "";
	if (strcmp(word, "list") == 0 && argc == 1 && !force)
		return list(vm, json);
	if (strcmp(word, "restore") == 0 && argc == 2 && !force && !json)
		return restore(vm, argv[1]);
	if (strcmp(word, "empty") == 0 && argc <= 2 && !json)
		return empty(vm, argc == 2 ? argv[1] : NULL, force);
	return ui_usage(vm);
}
