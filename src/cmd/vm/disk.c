/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "manager/guest.h"
#include "manager/table.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"
#include "vm.h"

static void add_json(json_t *disks, const struct guest_disk *d)
{
	json_t *o = json_pack("{s:i, s:s}", "number", (int)d->number, "emulation", d->type);

	ui_json_set(o, "system-path", d->path);
	json_object_set_new(o, "bytes-size",
			    d->there ? json_integer((json_int_t)d->size) : json_null());
	json_object_set_new(o, "bytes-used",
			    d->there ? json_integer((json_int_t)d->used) : json_null());
	json_array_append_new(disks, o);
}

static void add_row(struct table *t, const struct guest_disk *d)
{
	char size[64] = "-", used[64] = "-";

	if (d->there) {
		ui_bytes(d->size, size, sizeof(size));
		ui_bytes(d->used, used, sizeof(used));
	}
	table_add(t, "%u", d->number);
	table_add(t, "%s", d->type);
	table_add(t, "%s", size);
	table_add(t, "%s", used);
	table_add(t, "%s", d->path[0] ? d->path : "-");
}

static int list(const struct guest *g, bool json)
{
	static const char *const heading[] = { "NUMBER", "TYPE", "SIZE", "USED", "PATH" };
	struct guest_disk disks[GUEST_DISKS_MAX];
	json_t *array = json ? json_array() : NULL;
	struct table *t = table_new(ARRAY_LEN(heading));
	struct err err;
	int n = guest_disks(g, disks, &err);

	if (n < 0 || !t) {
		json_decref(array);
		table_free(t);
		return ui_error("%s", n < 0 ? err.text : K(080) "out of memory");
	}
	for (size_t i = 0; i < ARRAY_LEN(heading); i++)
		table_add(t, "%s", heading[i]);
	for (int i = 0; i < n; i++) {
		if (json)
			add_json(array, &disks[i]);
		else
			add_row(t, &disks[i]);
	}
	if (!json)
		table_print(t, stdout);
	table_free(t);
	return json ? ui_json_print(json_pack("{s:s, s:o}", "guest", g->name, "disks", array)) : 0;
}

/* SIZE, or +SIZE from what the disk has. */
static int parse_size(const struct guest *g, unsigned n, const char *text, uint64_t *out)
{
	struct guest_disk disks[GUEST_DISKS_MAX];
	struct err err;
	int count, i = 0;

	if (guest_disk_size(text + (*text == '+'), out, &err) < 0)
		return ui_error("%s", err.text);
	if (*text != '+')
		return 0;
	count = guest_disks(g, disks, &err);
	while (i < count && disks[i].number != n)
		i++;
	if (count < 0)
		return ui_error("%s", err.text);
	/* That there is none is said by who looks for it next. */
	if (i < count && (disks[i].size > INT64_MAX - *out))
		return ui_error(K(006) "invalid disk size - '%s': it is too much", text);
	*out += i < count ? disks[i].size : 0;
	return 0;
}

/* The guest stays off meanwhile. size: NULL removes the disk. */
static int change(const struct guest *g, unsigned n, const char *size_text)
{
	struct run_state state;
	uint64_t size = 0;
	struct err err;
	int lock, r;

	lock = run_lock_supervisor(g);
	if (lock < 0 && lock != -EAGAIN)
		return ui_error("%s: %s", g->dir, strerror(-lock));
	run_query(g, &state);
	if (lock < 0 || state.kind != RUN_STOPPED) {
		run_unlock_supervisor(g, &lock);
		return ui_error(K(020) "%s must be stopped to change its disks", g->name);
	}
	if (size_text && parse_size(g, n, size_text, &size)) {
		run_unlock_supervisor(g, &lock);
		return VM_FAILED;
	}
	r = size_text ? guest_resize_disk(g, n, size, &err) : guest_remove_disk(g, n, &err);
	run_unlock_supervisor(g, &lock);
	return r < 0 ? ui_error("%s", err.text) : 0;
}

static int remove_disk(const struct guest *g, unsigned n, bool force)
{
	int c = force ? 0
		      : ui_ask("Are you sure you want to remove disk %u of %s and all that is on it",
			       n, g->name);

	if (c)
		return c == UI_NO ? 0 : c;
	return change(g, n, NULL);
}

int verb_disk(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false, force = false, remove;
	struct guest g;
	uint64_t n;
	int c;

	while ((c = ui_options(argc, argv, "f", longs)) != -1) {
		if (c != 'j' && c != 'f')
			return ui_usage(vm);
		json |= c == 'j';
		force |= c == 'f';
	}
	argc -= optind;
	argv += optind;
	if (argc == 2 && strcmp(argv[0], "list") == 0 && !force)
		return vm_find(vm, argv[1], &g) ? VM_FAILED : list(&g, json);
	remove = argc == 3 && strcmp(argv[0], "remove") == 0;
	if (json || (!remove && (argc != 4 || force || strcmp(argv[0], "resize") != 0)))
		return ui_usage(vm);
	if (vm_find(vm, argv[1], &g))
		return VM_FAILED;
	if (str_u64(argv[2], &n) < 0 || n >= GUEST_DISKS_MAX)
		return ui_error(K(004) "'%s' is not the number of a disk", argv[2]);
	if (remove && vm_protected(&g))
		return VM_FAILED;
	return remove ? remove_disk(&g, (unsigned)n, force) : change(&g, (unsigned)n, argv[3]);
}
