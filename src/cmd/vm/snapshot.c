/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "manager/guestconf.h"
#include "manager/nat.h"
#include "manager/plan.h"
#include "manager/progress.h"
#include "manager/snapshot.h"
#include "util/str.h"

/* NAME or NAME@SNAP of the command line. *snap is NULL without @. 0, or reported. */
static int find(const struct vm *vm, const char *word, struct guest *g, const char **snap)
{
	char name[STORE_NAME_MAX + 1];
	size_t len = strcspn(word, "@");

	*snap = word[len] ? word + len + 1 : NULL;
	if (len > STORE_NAME_MAX || snprintf(name, sizeof(name), "%.*s", (int)len, word) < 0)
		return ui_error(K(010) "%s doesn't appear to be a valid virtual machine", word);
	return vm_find(vm, name, g);
}

int vm_hold(const struct guest *g, int *lock)
{
	struct run_state state;

	*lock = run_lock_supervisor(g);
	if (*lock < 0 && *lock != -EAGAIN)
		return ui_error("%s: %s", g->dir, strerror(-*lock));
	run_query(g, &state);
	if (*lock >= 0 && state.kind == RUN_STOPPED)
		return 0;
	run_unlock_supervisor(g, lock);
	if (state.kind == RUN_LOCKED)
		return ui_error(K(022) "%s appears to be running on %s (locked)", g->name,
				state.host);
	return ui_error(K(020) "%s must be powered off first", g->name);
}

void vm_warn_custom(const struct guest *g, const char *what)
{
	struct gconf *conf;

	if (gconf_load(g->conf, &conf, NULL) < 0)
		return;
	for (unsigned n = 0; n < PLAN_DISKS_MAX && gconf_getf(conf, "disk%u_type", n); n++) {
		const char *dev = gconf_getf(conf, "disk%u_dev", n);
		const char *type = gconf_getf(conf, "disk%u_type", n);

		if (dev && strcmp(dev, "custom") == 0 && strcmp(type, "ahci-cd") != 0)
			ui_warning("disk%u is not in the guest's folder: %s", n, what);
	}
	gconf_free(conf);
}

static int snapshot(const struct vm *vm, const struct guest *g, const char *name, bool force)
{
	struct progress progress;
	struct run_state state;
	struct err err = { "" };
	int lock = -1, r;

	run_query(g, &state);
	if (state.kind == RUN_RUNNING && !force)
		return ui_error(K(020) "%s must be powered off first (use -f to override)",
				g->name);
	if (state.kind != RUN_RUNNING && vm_hold(g, &lock))
		return VM_FAILED;
	vm_warn_custom(g, "it is not in the snapshot");
	r = snapshot_make(g, name, state.kind == RUN_RUNNING, ui_progress(&progress, g->name),
			  &err);
	if (lock >= 0)
		run_unlock_supervisor(g, &lock);
	return vm_done(vm, r, &err, "make the snapshot %s@%s", g->name, name);
}

int verb_snapshot(struct vm *vm, int argc, char **argv)
{
	char now_text[UI_TIME_SIZE];
	time_t now = time(NULL);
	bool force = false;
	const char *name;
	struct guest g;
	struct tm tm;
	int c;

	while ((c = ui_option(argc, argv, "f")) != -1) {
		if (c != 'f')
			return ui_usage(vm);
		force = true;
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	if (find(vm, argv[optind], &g, &name))
		return VM_FAILED;
	if (!name && (!localtime_r(&now, &tm) ||
		      !strftime(now_text, sizeof(now_text), "%Y-%m-%d-%H:%M:%S", &tm)))
		return ui_error("cannot tell the time; give the snapshot a name");
	return snapshot(vm, &g, name ? name : now_text, force);
}

int verb_rollback(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" }, warning;
	struct progress progress;
	bool newer = false;
	const char *name;
	struct guest g;
	int c, lock, r;

	while ((c = ui_option(argc, argv, "r")) != -1) {
		if (c != 'r')
			return ui_usage(vm);
		newer = true;
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	if (!strchr(argv[optind], '@'))
		return ui_error(K(006) "a snapshot name must be provided in guest@snapshot format");
	if (find(vm, argv[optind], &g, &name) || vm_protected(&g) || vm_hold(&g, &lock))
		return VM_FAILED;
	vm_warn_custom(&g, "it stays as it is");
	r = snapshot_rollback(&g, name, newer, ui_progress(&progress, g.name), &err);
	/* The lock's file has gone with the old folder; one in the new folder is somebody else's. */
	if (r < 0)
		run_unlock_supervisor(&g, &lock);
	else
		close(lock);
	if (r == 0 && geteuid() == 0 && !vm->dry_run)
		r = nat_sync_guest(&vm->store, &warning, &err);
	return vm_done(vm, r, &err, "take %s back to the snapshot %s", g.name, name);
}

int verb_clone(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" };
	struct progress progress;
	const char *name;
	struct guest g;
	int lock = -1, r;

	if (ui_option(argc, argv, "") != -1 || argc - optind != 2)
		return ui_usage(vm);
	if (find(vm, argv[optind], &g, &name) || (!name && vm_hold(&g, &lock)))
		return VM_FAILED;
	vm_warn_custom(&g, "both guests have the same one");
	r = snapshot_clone(&vm->store, &g, name, argv[optind + 1],
			   ui_progress(&progress, argv[optind + 1]), &err);
	if (lock >= 0)
		run_unlock_supervisor(&g, &lock);
	return vm_done(vm, r, &err, "make %s as a copy of %s", argv[optind + 1], argv[optind]);
}

int vm_destroy_snapshot(struct vm *vm, const char *word)
{
	struct err err = { "" };
	const char *name;
	struct guest g;

	if (find(vm, word, &g, &name) || vm_protected(&g))
		return VM_FAILED;
	return vm_done(vm, snapshot_remove(&g, name, &err), &err, "remove the snapshot %s", word);
}

void info_snapshots(const struct guest *g)
{
	char used[64], created[UI_TIME_SIZE];
	struct snapshot *list;
	size_t count;

	if (snapshot_list(g, &list, &count) < 0)
		return;
	if (count)
		puts("\n  snapshots");
	for (size_t i = 0; i < count; i++) {
		ui_bytes(list[i].used, used, sizeof(used));
		ui_time(list[i].created.tv_sec, created);
		printf("    %s\t%s\t%s\n", list[i].name, used, created);
	}
	free(list);
}

struct json_t *info_snapshots_json(const struct guest *g)
{
	json_t *array = json_array();
	char created[UI_TIME_SIZE];
	struct snapshot *list;
	size_t count;

	if (snapshot_list(g, &list, &count) < 0)
		return array;
	for (size_t i = 0; i < count; i++) {
		ui_time(list[i].created.tv_sec, created);
		json_array_append_new(array, json_pack("{s:s, s:I, s:s}", "name", list[i].name,
						       "bytes-used", (json_int_t)list[i].used,
						       "created", created));
	}
	free(list);
	return array;
}
