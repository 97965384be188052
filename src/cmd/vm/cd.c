/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "manager/ctl.h"
#include "util/clock.h"
#include "util/err.h"

/* vm cd: the disc in the first CD drive of a guest that runs. Its file is not changed: the next start has what that says. */

#define ANSWER_MS 5000
#define BUSY_MS 5000 /* how long a guest that is just reading is waited for */
#define RETRY_MS 100

/* A guest that reads at this moment is not an error: a little later it does not. */
static int cd_command(const struct guest *g, const char *command, char *reply, size_t size,
		      struct err *err)
{
	uint64_t end = clock_mono_ns() + BUSY_MS * NS_PER_MS;
	int r;

	for (;;) {
		r = ctl_command(g, command, ANSWER_MS, reply, size, err);
		if (r != -EREMOTEIO || !strstr(err->text, "try again") || clock_mono_ns() >= end)
			return r;
		poll(NULL, 0, RETRY_MS);
	}
}

static int cd_run(const struct vm *vm, const struct guest *g, int argc, char **argv, bool force)
{
	char path[PATH_MAX], command[PATH_MAX + 32], reply[256], medium[8];
	const char *what = argc ? argv[0] : "look";
	bool insert = strcmp(what, "insert") == 0;
	struct err err = { "" };
	int r;

	if (insert && store_find_iso(&vm->store, argv[1], path, sizeof(path)) < 0)
		return ui_error(K(013) "unable to locate iso file - '%s'; 'vm iso' lists them",
				argv[1]);
	r = snprintf(command, sizeof(command), "cd 0 %s%s%s", force && !insert ? "force" : what,
		     insert ? " " : "", insert ? path : "");
	if (r < 0 || (size_t)r >= sizeof(command))
		return ui_error(K(053) "the file's name is too long");
	if (insert && vm_would(vm, "put %s into the drive of %s", path, g->name))
		return 0;
	if (argc && vm_would(vm, "eject the disc of %s", g->name))
		return 0;
	r = cd_command(g, command, reply, sizeof(reply), &err);
	if (r < 0)
		return ui_error("%s: %s", g->name, err.text[0] ? err.text : strerror(-r));
	if (!argc && ctl_value(reply, "medium", medium, sizeof(medium)) == 0)
		puts(strcmp(medium, "yes") == 0 ? "there is a disc in the drive"
						: "the drive is empty");
	return 0;
}

int verb_cd(struct vm *vm, int argc, char **argv)
{
	struct run_state state;
	bool force = false;
	struct guest g;
	int c;

	while ((c = getopt(argc, argv, "+f")) != -1) {
		if (c != 'f')
			return ui_usage(vm);
		force = true;
	}
	argc -= optind;
	argv += optind;
	if (argc < 1 || (argc == 2 && strcmp(argv[1], "eject") != 0) ||
	    (argc == 3 && strcmp(argv[1], "insert") != 0) || argc > 3)
		return ui_usage(vm);
	if (vm_find(vm, argv[0], &g))
		return VM_FAILED;
	run_query(&g, &state);
	if (state.kind != RUN_RUNNING)
		return ui_error("%s does not run; set its disks with 'vm configure %s'", g.name,
				g.name);
	return cd_run(vm, &g, argc - 1, argv + 1, force);
}
