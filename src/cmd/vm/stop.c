/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/hook.h"
#include "util/clock.h"
#include "util/macros.h"
#include "util/str.h"

#define ANSWER_MS 3000
#define OFF_MS 10000
#define RETRY_MS 20
/* As long as systems give their services to end. */
#define STOPALL_SECONDS 90

/* The guest that runs here, or the words that say that it does not. */
static int find_running(const struct vm *vm, const char *name, struct guest *g,
			struct run_state *state)
{
	if (vm_find(vm, name, g))
		return VM_FAILED;
	run_query(g, state);
	if (state->kind == RUN_RUNNING)
		return 0;
	run_clean(g);
	if (state->kind == RUN_LOCKED)
		return ui_error(K(022) "%s appears to be running on %s (locked)", name,
				state->host);
	return ui_error(K(021) "%s doesn't appear to be a running virtual machine", name);
}

/* Sends a command. A khyve that is only just starting gets the time to open its socket. */
static int command(const struct guest *g, const char *text, struct err *err)
{
	uint64_t end = clock_mono_ns() + ANSWER_MS * NS_PER_MS;
	struct run_state state = { 0 };
	int r;

	for (;;) {
		r = ctl_command(g, text, ANSWER_MS, NULL, 0, err);
		if ((r != -ENOENT && r != -ECONNREFUSED) || clock_mono_ns() >= end)
			return r;
		run_query(g, &state);
		if (state.kind != RUN_RUNNING)
			return r;
		poll(NULL, 0, RETRY_MS);
	}
}

/* Leaves an empty file for the supervisor. */
static int leave_flag(const struct guest *g, const char *flag)
{
	char path[PATH_MAX];
	int fd;

	if (run_path(g, flag, path, sizeof(path)) < 0)
		return ui_error(K(053) "%s: the path is too long", g->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return ui_error("cannot make %s: %s", path, strerror(errno));
	close(fd);
	return 0;
}

/* Takes the guest's power, and waits until nothing of it is left. */
static int switch_off(const struct guest *g, const struct run_state *state)
{
	struct err err = { "" };
	int r;

	/* Off is off, whatever on_fault and an earlier restart say. */
	if (leave_flag(g, RUN_OFF))
		return VM_FAILED;
	/* A khyve that does not answer is ended by the kernel. */
	if (command(g, "quit", &err) < 0) {
		r = run_kill(state);
		if (r < 0 && r != -ESRCH)
			return ui_error("%s, and it cannot be killed: %s", err.text, strerror(-r));
	} else if (run_wait_stopped(g, OFF_MS / 2) < 0) {
		(void)run_kill(state);
	}
	r = run_wait_stopped(g, OFF_MS);
	run_clean(g);
	return r < 0 ? ui_error(K(043) "%s (pid %d) does not end", g->name, (int)state->pid) : 0;
}

int vm_press(const struct guest *g)
{
	char flag[PATH_MAX];
	struct err err;

	/* A restart that the guest has not followed so far is off. */
	if (run_path(g, RUN_RESTART, flag, sizeof(flag)) == 0)
		unlink(flag);
	hook_run(g, HOOK_PRESTOP);
	if (command(g, "poweroff", &err) < 0)
		return ui_error("%s; 'vm poweroff %s' ends it", err.text, g->name);
	return 0;
}

static int stop_one(const struct vm *vm, const char *name)
{
	struct run_state state = { 0 };
	struct guest g;

	if (vm_find(vm, name, &g))
		return VM_FAILED;
	run_query(&g, &state);
	if (state.kind != RUN_RUNNING) {
		run_clean(&g);
		ui_warning(K(021) "%s doesn't appear to be a running virtual machine", name);
		return 0;
	}
	if (vm_would(vm, "press the power button of %s", name))
		return 0;
	printf("Sending ACPI shutdown to %s\n", name);
	fflush(stdout);
	return vm_press(&g);
}

/* Waits until the end of time_ns for a guest that was told to stop. */
static int await_off(const struct vm *vm, const char *name, uint64_t end_ns, bool force)
{
	uint64_t now = clock_mono_ns();
	struct run_state state = { 0 };
	struct guest g;

	if (store_find(&vm->store, name, &g) < 0 ||
	    run_wait_stopped(&g, now < end_ns ? (unsigned)((end_ns - now) / NS_PER_MS) : 0) == 0)
		return 0;
	if (!force)
		return ui_error(K(044) "%s is still running; 'vm poweroff %s' ends it", name, name);
	run_query(&g, &state);
	printf("Switching off %s\n", name);
	fflush(stdout);
	return state.kind == RUN_RUNNING ? switch_off(&g, &state) : 0;
}

int verb_stop(struct vm *vm, int argc, char **argv)
{
	uint64_t seconds = 0, end;
	bool wait = false, force = false;
	int c, status = 0;

	while ((c = ui_option(argc, argv, "t:f")) != -1) {
		if (c == 'f')
			force = true;
		else if (c == 't' && str_u64(optarg, &seconds) == 0 && seconds <= 86400)
			wait = true;
		else if (c == 't')
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
		else
			return ui_usage(vm);
	}
	if (optind == argc || (force && !wait))
		return ui_usage(vm);
	for (int i = optind; i < argc; i++)
		status |= stop_one(vm, argv[i]);
	end = clock_mono_ns() + seconds * NS_PER_SEC;
	for (int i = optind; wait && !vm->dry_run && i < argc; i++)
		status |= await_off(vm, argv[i], end, force);
	return status ? VM_FAILED : 0;
}

/* --- vm stopall --- */

/* Guests that run, those of vm_list in its order and behind them the others. */
struct fleet {
	const struct vm *vm;
	struct member {
		char *name;
		pid_t pid;
		unsigned place; /* in vm_list; 0: not in it */
	} * members;
	size_t count;
};

static int note_running(void *arg, const struct guest *g)
{
	struct fleet *f = arg;
	struct run_state state;
	struct member *members;

	run_query(g, &state);
	if (state.kind != RUN_RUNNING) {
		run_clean(g);
		return 0;
	}
	members = realloc(f->members, (f->count + 1) * sizeof(*members));
	if (!members)
		return -ENOMEM;
	f->members = members;
	members[f->count] = (struct member){ .name = strdup(g->name),
					     .pid = state.pid,
					     .place = store_autostart(&f->vm->store, g->name) };
	return members[f->count].name ? (f->count++, 0) : -ENOMEM;
}

/* The last ones of vm_list first; what is not in it before all of them, in the order of names. */
static int compare_members(const void *a, const void *b)
{
	const struct member *x = a, *y = b;
	unsigned px = x->place ? x->place : UINT_MAX, py = y->place ? y->place : UINT_MAX;

	if (px != py)
		return px < py ? 1 : -1;
	return strcmp(x->name, y->name);
}

static int press_named(const struct vm *vm, const char *name)
{
	struct guest g;

	return store_find(&vm->store, name, &g) < 0 ? 0 : vm_press(&g);
}

static int press_all(const struct fleet *f, bool force)
{
	size_t parallel = 0;
	int status = 0;

	while (parallel < f->count && (force || !f->members[parallel].place))
		parallel++;
	if (parallel) {
		printf("  * parallel shutdown of non-ordered guests:");
		for (size_t i = 0; i < parallel; i++)
			printf(" %s", f->members[i].name);
		putchar('\n');
		fflush(stdout);
	}
	for (size_t i = 0; i < parallel; i++)
		status |= press_named(f->vm, f->members[i].name);
	for (size_t i = parallel; i < f->count; i++) {
		printf("  * stopping %s\n", f->members[i].name);
		if (i + 1 < f->count)
			printf("  * waiting %u second(s)\n", f->vm->store.delay);
		fflush(stdout);
		status |= press_named(f->vm, f->members[i].name);
		if (i + 1 < f->count)
			poll(NULL, 0, (int)f->vm->store.delay * 1000);
	}
	return status;
}

static int stop_fleet(const struct fleet *f, bool force, uint64_t seconds, bool off)
{
	uint64_t end;
	int status;

	puts("Beginning shutdown process");
	status = press_all(f, force);
	printf("\nWaiting for PIDS:");
	for (size_t i = 0; i < f->count; i++)
		printf(" %d", (int)f->members[i].pid);
	puts(".");
	fflush(stdout);
	end = clock_mono_ns() + seconds * NS_PER_SEC;
	for (size_t i = 0; i < f->count; i++)
		status |= await_off(f->vm, f->members[i].name, end, off);
	return status ? VM_FAILED : 0;
}

int verb_stopall(struct vm *vm, int argc, char **argv)
{
	struct fleet f = { .vm = vm };
	bool force = false, off = false;
	uint64_t seconds = STOPALL_SECONDS;
	int c, r;

	while ((c = ui_option(argc, argv, "ft:k")) != -1) {
		if (c == 'f')
			force = true;
		else if (c == 'k')
			off = true;
		else if (c == 't' && (str_u64(optarg, &seconds) < 0 || seconds > 86400))
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
		else if (c != 't')
			return ui_usage(vm);
	}
	if (optind < argc)
		return ui_usage(vm);
	r = store_each(&vm->store, note_running, &f);
	if (f.count)
		qsort(f.members, f.count, sizeof(*f.members), compare_members);
	if (r == -ENOMEM)
		r = ui_error(K(080) "out of memory");
	else
		r = f.count && !vm->dry_run ? stop_fleet(&f, force, seconds, off) : 0;
	for (size_t i = 0; r == 0 && i < f.count; i++)
		(void)vm_would(vm, "press the power button of %s", f.members[i].name);
	for (size_t i = 0; i < f.count; i++)
		free(f.members[i].name);
	free(f.members);
	return r;
}

/* Makes the supervisor start the guest again, and makes sure that there is one. */
static int flag_restart(const struct guest *g)
{
	char line[64];
	struct err err;
	int fd;

	if (leave_flag(g, RUN_RESTART))
		return VM_FAILED;
	if (run_supervised(g))
		return 0;
	fd = vm_spawn(g, NULL, true, &err);
	if (fd < 0)
		return ui_error("%s", err.text);
	if (read(fd, line, sizeof(line)) < 0)
		line[0] = '\0';
	close(fd);
	return 0;
}

int verb_restart(struct vm *vm, int argc, char **argv)
{
	struct run_state state = { 0 };
	struct guest g;
	char near[VM_NEAR_SIZE];
	struct err err;

	if (argc != 2)
		return ui_usage(vm);
	if (store_find(&vm->store, argv[1], &g) < 0)
		return ui_error(K(010) "unable to locate specified guest: %s%s", argv[1],
				vm_near(vm, argv[1], near));
	if (find_running(vm, argv[1], &g, &state))
		return VM_FAILED;
	if (vm_would(vm, "press the power button of %s and start it again", g.name))
		return 0;
	puts("Setting guest restart flag");
	if (flag_restart(&g))
		return VM_FAILED;
	printf("Sending ACPI shutdown to %s\n", g.name);
	fflush(stdout);
	hook_run(&g, HOOK_PRESTOP);
	if (command(&g, "poweroff", &err) < 0)
		return ui_error("%s; 'vm poweroff %s' ends it", err.text, g.name);
	return 0;
}

/* The beginning that reset and poweroff share. Returns UI_NO when there is nothing to do. */
static int begin_forced(struct vm *vm, int argc, char **argv, struct guest *g,
			struct run_state *state)
{
	bool force = false;
	int c;

	while ((c = ui_option(argc, argv, "f")) != -1) {
		if (c != 'f')
			return ui_usage(vm);
		force = true;
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	if (find_running(vm, argv[optind], g, state))
		return VM_FAILED;
	if (vm_would(vm, "%s %s at once", vm->verb->name, g->name))
		return UI_NO;
	return force ? 0
		     : ui_ask("Are you sure you want to forcefully %s this virtual machine",
			      vm->verb->name);
}

int verb_reset(struct vm *vm, int argc, char **argv)
{
	struct run_state state = { 0 };
	struct guest g;
	struct err err;
	int r = begin_forced(vm, argc, argv, &g, &state);

	if (r)
		return r == UI_NO ? 0 : r;
	return command(&g, "reset", &err) < 0 ? ui_error("%s", err.text) : 0;
}

int verb_poweroff(struct vm *vm, int argc, char **argv)
{
	struct run_state state = { 0 };
	struct guest g;
	int r = begin_forced(vm, argc, argv, &g, &state);

	if (r)
		return r == UI_NO ? 0 : r;
	return switch_off(&g, &state);
}
