/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/guest.h"
#include "manager/table.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"
#include "vm.h"

#define ANSWER_MS 5000

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

/* Whether what khyve tells of a disk, "SIZE PATH" or "SIZE PATH: TROUBLE", is about this image. */
static bool is_about(char *told, const struct stat *image)
{
	char *path = strchr(told, ' '), *end;
	struct stat st;

	if (!path++)
		return false;
	while (stat(path, &st) < 0) {
		end = strstr(path, ": ");
		if (!end)
			return false;
		*end = '\0';
	}
	return st.st_dev == image->st_dev && st.st_ino == image->st_ino;
}

/* khyve's name of a disk. -ENOENT: it does not have it; it was added since the start. */
static int find_running(const struct guest *g, unsigned n, char *out, size_t size, struct err *err)
{
	struct guest_disk disks[GUEST_DISKS_MAX];
	int count = guest_disks(g, disks, err), i = 0, r;
	char reply[16384], *save = NULL;
	struct stat image;

	while (i < count && disks[i].number != n)
		i++;
	if (count < 0)
		return count;
	/* That there is none is said by who makes it larger. */
	if (i == count || stat(disks[i].path, &image) < 0)
		return -ENOENT;
	r = ctl_command(g, "disk", ANSWER_MS, reply, sizeof(reply), err);
	if (r < 0)
		return r;
	for (char *line = strtok_r(reply, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (is_about(line, &image))
			return file_path(out, size, "%.*s", (int)strcspn(line, "="), line);
	}
	return -ENOENT;
}

/* The guest runs: khyve is told, which tells it. */
static int grow_running(const struct guest *g, unsigned n, uint64_t size)
{
	char name[64], command[128], reply[128];
	struct err err = { "" };
	int found = find_running(g, n, name, sizeof(name), &err), r;

	if (found < 0 && found != -ENOENT)
		return ui_error("%s", err.text);
	if (guest_resize_disk(g, n, size, &err) < 0)
		return ui_error("%s", err.text);
	if (g->dry_run)
		return 0;
	if (found < 0) {
		ui_warning("%s was started without disk %u and has it from its next start on",
			   g->name, n);
		return 0;
	}
	r = file_path(command, sizeof(command), "disk %s grow", name);
	if (r == 0)
		r = ctl_command(g, command, ANSWER_MS, reply, sizeof(reply), &err);
	return r < 0 ? ui_error(
			       "disk %u is larger, but %s does not see it before its next start: %s",
			       n, g->name, err.text)
		     : 0;
}

static int resize(const struct guest *g, unsigned n, const char *size_text)
{
	struct run_state state;
	uint64_t size = 0;
	struct err err;
	int lock, status;

	lock = run_lock_supervisor(g);
	if (lock < 0 && lock != -EAGAIN)
		return ui_error("%s: %s", g->dir, strerror(-lock));
	run_query(g, &state);
	if (state.kind == RUN_LOCKED)
		status = ui_error(K(022) "%s appears to be running on %s (locked)", g->name,
				  state.host);
	else if (lock < 0 && state.kind == RUN_STOPPED)
		status = ui_error(K(023) "%s appears to be starting or stopping: try again",
				  g->name);
	else if (parse_size(g, n, size_text, &size))
		status = VM_FAILED;
	else if (state.kind == RUN_RUNNING)
		status = grow_running(g, n, size);
	else
		status = guest_resize_disk(g, n, size, &err) < 0 ? ui_error("%s", err.text) : 0;
	run_unlock_supervisor(g, &lock);
	return status;
}

/* The guest stays off meanwhile. */
static int remove_stopped(const struct guest *g, unsigned n)
{
	struct err err;
	int lock, r;

	if (vm_hold(g, &lock))
		return VM_FAILED;
	r = guest_remove_disk(g, n, &err);
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
	return remove_stopped(g, n);
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
	c = remove ? remove_disk(&g, (unsigned)n, force || vm->dry_run)
		   : resize(&g, (unsigned)n, argv[3]);
	if (c == 0)
		(void)vm_would(
			vm, "%s disk %s of %s%s%s", remove ? "remove" : "make", argv[2], g.name,
			remove ? " and all that is on it" : " larger: ", remove ? "" : argv[3]);
	return c;
}
