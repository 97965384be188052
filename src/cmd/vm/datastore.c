/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/datastore.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "manager/storage.h"
#include "ui_json.h"
#include "util/macros.h"
#include "vm.h"

static const char *type_of(const struct datastore *d)
{
	static const char *const types[] = {
		[DATASTORE_GUESTS] = "directory", [DATASTORE_ISO] = "iso", [DATASTORE_IMG] = "img"
	};

	return d->dataset[0] ? "zfs" : types[d->kind];
}

static void show(const struct datastore *d, json_t *stores)
{
	bool there = datastore_is_there(d);
	const struct storage *st = NULL;
	json_t *o;

	if (!stores) {
		printf("%-15s %-11s %-25s %s\n", d->name, type_of(d), d->path,
		       d->dataset[0] ? d->dataset : "-");
		return;
	}
	if (there && d->kind == DATASTORE_GUESTS)
		(void)storage_probe(d->path, &st, NULL);
	o = json_pack("{s:s, s:s, s:s, s:b}", "name", d->name, "type", type_of(d), "path", d->path,
		      "mounted", there);
	ui_json_set(o, "dataset", d->dataset);
	ui_json_set(o, "storage", st ? st->kind : NULL);
	json_array_append_new(stores, o);
}

static int list(const struct vm *vm, bool json)
{
	struct datastore first = { .name = STORE_DEFAULT };
	json_t *stores = json ? json_array() : NULL;

	memcpy(first.path, vm->store.dir, sizeof(first.path));
	if (!json)
		printf("%-15s %-11s %-25s %s\n", "NAME", "TYPE", "PATH", "ZFS DATASET");
	show(&first, stores);
	for (size_t i = 0; i < vm->store.other_count; i++)
		show(&vm->store.others[i], stores);
	return json ? ui_json_print(json_pack("{s:o}", "datastores", stores)) : 0;
}

/* A subcommand by its name or a unique prefix. NULL: none, or several. */
static const char *find_sub(const char *word)
{
	static const char *const subs[] = { "list", "add", "iso", "img", "remove" };
	const char *found = NULL;

	for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
		if (strcasecmp(word, subs[i]) == 0)
			return subs[i];
		if (!*word || strncasecmp(word, subs[i], strlen(word)) != 0)
			continue;
		if (found)
			return NULL;
		found = subs[i];
	}
	return found;
}

int verb_datastore(struct vm *vm, int argc, char **argv)
{
	const char *sub = argc > 1 ? find_sub(argv[1]) : NULL;
	enum datastore_kind kind = DATASTORE_GUESTS;
	struct err err;
	int r;

	if (!sub)
		return ui_usage(vm);
	if (strcmp(sub, "list") == 0) {
		if (argc > 3 || (argc == 3 && strcmp(argv[2], "--json") != 0))
			return ui_usage(vm);
		return list(vm, argc == 3);
	}
	if (argc != (strcmp(sub, "remove") == 0 ? 3 : 4) || argv[2][0] == '-')
		return ui_usage(vm);
	if (strcmp(sub, "iso") == 0)
		kind = DATASTORE_ISO;
	else if (strcmp(sub, "img") == 0)
		kind = DATASTORE_IMG;
	if (strcmp(sub, "remove") == 0)
		r = datastore_remove(&vm->store, argv[2], &err);
	else
		r = datastore_add(&vm->store, kind, argv[2], argv[3], &err);
	return vm_done(vm, r, &err, "%s the datastore %s",
		       strcmp(sub, "remove") == 0 ? "forget" : "add", argv[2]);
}
