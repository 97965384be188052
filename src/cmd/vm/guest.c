/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/nat.h"
#include "manager/plan.h"
#include "manager/progress.h"
#include "manager/removed.h"
#include "manager/seed.h"
#include "manager/switch.h"
#include "util/macros.h"
#include "util/str.h"

struct names {
	char **all;
	size_t count;
};

static int note_name(void *arg, const struct guest *g)
{
	struct names *n = arg;
	char **all = realloc(n->all, (n->count + 1) * sizeof(*all));

	if (!all)
		return -ENOMEM;
	n->all = all;
	n->all[n->count] = strdup(g->name);
	return n->all[n->count] ? (n->count++, 0) : -ENOMEM;
}

const char *vm_near(const struct vm *vm, const char *name, char out[VM_NEAR_SIZE])
{
	struct names n = { NULL };
	const char *near;

	(void)store_each(&vm->store, note_name, &n);
	near = str_nearest(name, (const char *const *)n.all, n.count);
	if (!near || snprintf(out, VM_NEAR_SIZE, " (did you mean '%s'?)", near) < 0)
		out[0] = '\0';
	while (n.count > 0)
		free(n.all[--n.count]);
	free(n.all);
	return out;
}

int vm_find(const struct vm *vm, const char *name, struct guest *out)
{
	int r = store_find(&vm->store, name, out);
	char near[VM_NEAR_SIZE];

	if (r == -EACCES)
		return ui_error(K(034) "%s belongs to somebody else; run as root", name);
	return r < 0 ? ui_error(K(010) "%s doesn't appear to be a valid virtual machine%s", name,
				vm_near(vm, name, near))
		     : 0;
}

int vm_find_running(const struct vm *vm, const char *name, struct guest *out)
{
	struct run_state state;

	if (vm_find(vm, name, out))
		return VM_FAILED;
	run_query(out, &state);
	if (state.kind == RUN_LOCKED)
		return ui_error(K(022) "%s appears to be running on %s (locked)", name, state.host);
	return state.kind == RUN_RUNNING ? 0 : ui_error(K(021) "%s is not running", name);
}

/* What is only for guests with cloud-init. */
static int check_cloud(bool cloud, const struct seed_spec *seed)
{
	const char *what = seed->key	     ? "injecting public key"
			   : seed->user_data ? "user-data file"
			   : seed->network   ? "network config"
					     : NULL;

	return cloud || !what
		       ? 0
		       : ui_error(K(006) "cloud-init is required for %s. Use -C to enable it.",
				  what);
}

/* What vm create is given. */
struct create {
	struct guest_spec spec;
	struct seed_spec seed;
	const char *image;
};

/* 0, or the exit status. */
static int parse_create(struct vm *vm, int argc, char **argv, struct create *a)
{
	struct err err;
	int c;

	while ((c = ui_option(argc, argv, "t:s:c:m:d:i:Ck:u:n:")) != -1) {
		if (c == 't')
			a->spec.template = optarg;
		else if (c == 's' && guest_disk_size(optarg, &a->spec.disk_size, &err) < 0)
			return ui_error("%s", err.text);
		else if (c == 'c')
			a->spec.cpu = optarg;
		else if (c == 'm')
			a->spec.memory = optarg;
		else if (c == 'd')
			a->spec.datastore = optarg;
		else if (c == 'i')
			a->image = optarg;
		else if (c == 'C')
			a->spec.seed = &a->seed;
		else if (c == 'k')
			a->seed.key = optarg;
		else if (c == 'u')
			a->seed.user_data = optarg;
		else if (c == 'n')
			a->seed.network = optarg;
		else if (c == '?')
			return ui_usage(vm);
	}
	return argc - optind == 1 ? check_cloud(a->spec.seed, &a->seed) : ui_usage(vm);
}

int verb_create(struct vm *vm, int argc, char **argv)
{
	struct create a = { .image = NULL };
	struct progress progress;
	char path[PATH_MAX];
	struct err err;
	int r = parse_create(vm, argc, argv, &a);

	if (r)
		return r;
	if (a.image && store_find_img(&vm->store, a.image, path, sizeof(path)) < 0)
		return ui_error(K(013) "unable to locate img file - '%s'; 'vm img' lists them",
				a.image);
	if (a.image) {
		a.spec.image = path;
		a.spec.progress = ui_progress(&progress, file_base(path));
	}
	if (guest_create(&vm->store, argv[optind], &a.spec, &err) < 0)
		return ui_error("%s", err.text);
	(void)vm_would(vm, "create %s from the template %s", argv[optind],
		       a.spec.template ? a.spec.template : "default");
	return 0;
}

/* A running guest, or one that is about to be, is in nobody's way only for reading. */
static int refuse_running(const struct guest *g)
{
	struct run_state state;

	run_query(g, &state);
	if (state.kind == RUN_LOCKED)
		ui_warning(K(022) "%s appears to be running on %s (locked)", g->name, state.host);
	else if (state.kind == RUN_RUNNING)
		ui_warning(K(020) "%s appears to be running locally (pid %d)", g->name,
			   (int)state.pid);
	else
		return 0;
	return VM_FAILED;
}

int verb_destroy(struct vm *vm, int argc, char **argv)
{
	struct err err, warning;
	struct store around;
	bool force = false;
	struct guest g;
	int c, lock;

	while ((c = ui_option(argc, argv, "f")) != -1) {
		if (c != 'f')
			return ui_usage(vm);
		force = true;
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	if (strchr(argv[optind], '@'))
		return vm_destroy_snapshot(vm, argv[optind]);
	if (vm_find(vm, argv[optind], &g) || vm_protected(&g) || refuse_running(&g))
		return VM_FAILED;
	if (vm_would(vm, force ? "remove %s and its disks for good" : "move %s to the trash",
		     g.name))
		return 0;
	c = force ? 0 : ui_ask("Are you sure you want to completely remove this virtual machine");
	if (c)
		return c == UI_NO ? 0 : c;
	lock = run_lock_supervisor(&g);
	if (lock == -EAGAIN) {
		ui_warning(K(023) "%s appears to be starting or stopping", g.name);
		return VM_FAILED;
	}
	if (lock < 0)
		return ui_error("%s: %s", g.dir, strerror(-lock));
	/*
	 * It may have been started while the question stood; with the lock it cannot be any more.
	 */
	if (refuse_running(&g)) {
		run_unlock_supervisor(&g, &lock);
		return VM_FAILED;
	}
	store_around(&g, &around);
	c = force ? store_remove(&around, &g, &err) : removed_add(&g, &err);
	if (c == 0 && !force && ui_columns())
		printf("%s is in the trash for %d days; 'vm trash restore %s' brings it back\n",
		       g.name, REMOVED_DAYS, g.name);
	if (c < 0)
		run_unlock_supervisor(&g, &lock);
	else
		close(lock);
	/* Its name and its ports are free. */
	if (c == 0 && geteuid() == 0)
		c = nat_sync_guest(&vm->store, &warning, &err);
	return c < 0 ? ui_error("%s", err.text) : 0;
}

int verb_rename(struct vm *vm, int argc, char **argv)
{
	struct err err, warning;
	struct guest g, to;
	int lock, r;

	if (ui_option(argc, argv, "") != -1 || argc - optind != 2)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g) || refuse_running(&g))
		return VM_FAILED;
	lock = run_lock_supervisor(&g);
	if (lock < 0 || refuse_running(&g)) {
		run_unlock_supervisor(&g, &lock);
		return ui_error(K(020) "%s must be stopped to be renamed", g.name);
	}
	to = g;
	r = guest_rename(&vm->store, &g, argv[optind + 1], &to, &err);
	run_unlock_supervisor(&to, &lock);
	if (r < 0 || vm->dry_run)
		return vm_done(vm, r, &err, "rename %s to %s", g.name, argv[optind + 1]);
	if (store_autostart(&vm->store, g.name))
		ui_warning("vm_list still names %s: 'vm startall' will not find it", g.name);
	if (geteuid() == 0 && nat_sync_guest(&vm->store, &warning, &err) < 0)
		return ui_error("%s", err.text);
	return 0;
}

static int add_disk(const struct vm *vm, const struct guest *g, const char *size_text)
{
	struct err err;
	uint64_t size;
	int r = guest_disk_size(size_text, &size, &err);

	if (r == 0)
		r = guest_add_disk(g, size, &err);
	return vm_done(vm, r, &err, "add a disk of %s to %s", size_text, g->name);
}

/* A switch may be made later, but perhaps it is a typing error. */
static void check_switch(const struct vm *vm, const char *name)
{
	struct switch_conf c;
	struct gconf *system;
	struct err err = { "" };

	if (strcmp(name, PLAN_NET_USER_NAME) == 0 || switch_load(&vm->store, &system, NULL) < 0)
		return;
	if (gconf_get(system, "switch_list") && switch_read(system, name, &c, &err) == -ENOENT)
		ui_warning("%s", err.text);
	gconf_free(system);
}

static int add_network(struct vm *vm, const struct guest *g, const char *name)
{
	struct err err;
	int r = guest_add_network(g, name, &err);

	if (r == 0)
		check_switch(vm, name);
	return vm_done(vm, r, &err, "add a network card on %s to %s", name, g->name);
}

int verb_add(struct vm *vm, int argc, char **argv)
{
	const char *kind = NULL, *size = NULL;
	struct guest g;
	int c;

	while ((c = ui_option(argc, argv, "d:s:t:")) != -1) {
		if (c == 'd')
			kind = optarg;
		else if (c == 's')
			size = optarg;
		else if (c == '?')
			return ui_usage(vm);
		else if (strcmp(optarg, "file") != 0)
			return ui_error(K(006) "device type must be one of the following: file");
	}
	if (argc - optind != 1 || !kind || !size)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	if (strcmp(kind, "disk") == 0)
		return add_disk(vm, &g, size);
	if (strcmp(kind, "network") != 0)
		return ui_error("device must be one of the following: disk network");
	return add_network(vm, &g, size);
}

int verb_remove(struct vm *vm, int argc, char **argv)
{
	const char *kind = NULL;
	struct guest g;
	struct err err;
	uint64_t n;
	int c, lock;

	while ((c = ui_option(argc, argv, "d:")) != -1) {
		if (c != 'd')
			return ui_usage(vm);
		kind = optarg;
	}
	if (argc - optind != 2 || !kind)
		return ui_usage(vm);
	if (strcmp(kind, "network") != 0)
		return ui_error("device must be one of the following: network");
	if (str_u64(argv[optind], &n) < 0 || n >= PLAN_NETS_MAX)
		return ui_error(K(004) "'%s' is not the number of a network interface",
				argv[optind]);
	if (vm_find(vm, argv[optind + 1], &g))
		return VM_FAILED;
	lock = run_lock_supervisor(&g);
	if (lock < 0 || refuse_running(&g)) {
		run_unlock_supervisor(&g, &lock);
		return ui_error(K(020) "%s must be stopped to remove a network interface", g.name);
	}
	c = guest_remove_network(&g, (unsigned)n, &err);
	run_unlock_supervisor(&g, &lock);
	return vm_done(vm, c, &err, "remove network card %s of %s", argv[optind], g.name);
}
