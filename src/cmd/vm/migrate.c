/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/prog.h"
#include "manager/removed.h"
#include "manager/run.h"
#include "util/macros.h"
#include "util/str.h"

/* What the other host's vm answers with, and the folder in its datastore that a guest comes into. */
#define GREETING "khyve-receive 1 "
#define INCOMING ".incoming-"
#define OFF_MS 120000u

struct migrate {
	struct guest g;
	const char *host, *name, *datastore; /* of the guest there; NULL: as here, the default */
	bool first_only, second_only, no_start, remove, again;
	bool was_running;
	char path[PATH_MAX]; /* the folder there */
};

/* vm _receive WORD... on the other host. */
static int ask(const struct migrate *m, const char *what, const char *extra, char **out,
	       struct err *err)
{
	const char *argv[16] = { "ssh", m->host, "vm", "_receive", what };
	size_t n = 5;

	if (m->datastore) {
		argv[n++] = "-d";
		argv[n++] = m->datastore;
	}
	argv[n++] = m->name;
	if (extra)
		argv[n++] = extra;
	return prog_run(argv, NULL, out, err);
}

/* What cannot go along is refused before anything is sent. */
static int check_guest(const struct migrate *m)
{
	struct gconf *conf;
	struct err err;
	const char *dev;
	int r = 0;

	if (gconf_load(m->g.conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	for (unsigned n = 0; r == 0 && gconf_getf(conf, "disk%u_type", n); n++) {
		dev = gconf_getf(conf, "disk%u_dev", n);
		if (dev && strcmp(dev, "file") != 0)
			r = ui_error("migration is not supported for this guest (disk%u is not a "
				     "file in its folder)",
				     n);
	}
	gconf_free(conf);
	return r;
}

static int find_remote(struct migrate *m)
{
	char *text = NULL;
	struct err err;
	int r;

	printf("Attempting to send %s to %s\n", m->g.name, m->host);
	fflush(stdout);
	if (ask(m, "begin", NULL, &text, &err) < 0)
		return ui_error("unable to get config from %s: %s", m->host, err.text);
	text[strcspn(text, "\n")] = '\0';
	r = str_starts(text, GREETING) && text[strlen(GREETING)] == '/' &&
			    file_path(m->path, sizeof(m->path), "%s", text + strlen(GREETING)) == 0
		    ? 0
		    : ui_error(K(043) "unable to get config from %s: its vm does not answer as one",
			       m->host);
	free(text);
	if (r == 0)
		printf("  * remote folder %s\n", m->path);
	return r;
}

/* Sends what differs. What belongs to a run stays here. */
static int send_files(const struct migrate *m, unsigned stage)
{
	char from[PATH_MAX + 1], to[PATH_MAX + 300];
	const char *const argv[] = { "rsync",
				     "-aHSs",
				     "--inplace",
				     "--delete",
				     "--exclude=*.lock",
				     "--exclude=*.sock",
				     "--exclude=*.ctl",
				     "--exclude=/" RUN_CONSOLE,
				     "--exclude=/" RUN_CONF,
				     "--exclude=/" RUN_PASSWORD,
				     "--exclude=/" RUN_RESTART,
				     "--exclude=/" RUN_OFF,
				     isatty(STDOUT_FILENO) ? "--info=progress2" : "--quiet",
				     from,
				     to,
				     NULL };
	struct err err;
	int r;

	if (file_path(from, sizeof(from), "%s/", m->g.dir) < 0 ||
	    file_path(to, sizeof(to), "%s:%s/", m->host, m->path) < 0)
		return ui_error(K(053) "%s: the path is too long", m->g.dir);
	printf("  * stage %u: sending %s\n", stage, m->g.dir);
	fflush(stdout);
	r = prog_show(argv, &err);
	/* 24: files went away meanwhile, as a running guest's do. */
	if (r == 24 && stage == 1)
		r = 0;
	if (r < 0)
		return ui_error("%s: apt-get install rsync, on both hosts", err.text);
	if (r)
		return ui_error("rsync ended with status %d; the same command goes on from here",
				r);
	printf("  * stage %u: sent\n", stage);
	return 0;
}

/* The guest is off when this returns, and nobody can start it as long as the lock is held. */
static int take_off(struct migrate *m, int *lock)
{
	struct run_state state;
	int r;

	run_query(&m->g, &state);
	if (state.kind == RUN_RUNNING) {
		puts("  * stage 2: attempting to stop guest");
		fflush(stdout);
		if (vm_press(&m->g))
			return VM_FAILED;
		if (run_wait_stopped(&m->g, OFF_MS) < 0)
			return ui_error("%s is still running after %u s; it stays here", m->g.name,
					OFF_MS / 1000);
		puts("  * stage 2: guest powered off");
	}
	r = run_lock_supervisor(&m->g);
	*lock = r;
	return r < 0 ? ui_error(K(023) "%s appears to be starting or stopping", m->g.name) : 0;
}

static int finish(struct migrate *m, int *lock)
{
	struct err err;

	if (ask(m, "end", m->g.name, NULL, &err) < 0)
		return ui_error("%s: %s; the guest is here as it was", m->host, err.text);
	/* It is there now: what fails from here on is no reason to have it twice. */
	if (m->remove) {
		if (removed_add(&m->g, &err) < 0)
			return ui_error("%s is on %s, and here too: %s", m->g.name, m->host,
					err.text);
		close(*lock);
		*lock = -1;
		puts("  * source guest moved to the trash");
	}
	if (!m->was_running || m->no_start)
		return 0;
	printf("  * starting %s on %s\n", m->name, m->host);
	fflush(stdout);
	return ask(m, "start", NULL, NULL, &err) < 0
		       ? ui_error("%s is on %s, but does not start: %s", m->name, m->host, err.text)
		       : 0;
}

static int migrate(const struct vm *vm, struct migrate *m)
{
	struct run_state state;
	int lock = -1, r;

	run_query(&m->g, &state);
	if (state.kind == RUN_LOCKED)
		return ui_error(K(022) "%s appears to be running on %s (locked)", m->g.name,
				state.host);
	m->was_running = state.kind == RUN_RUNNING;
	r = check_guest(m);
	if (r == 0 && vm_would(vm, "send %s to %s as %s", m->g.name, m->host, m->name))
		return 0;
	if (r == 0)
		r = find_remote(m);
	if (r)
		return r;
	if (m->was_running)
		printf("  * source guest is powered on (#%d)\n", (int)state.pid);
	if (!m->second_only && (m->was_running || m->first_only))
		r = send_files(m, 1);
	if (r == 0 && m->again && !m->second_only)
		r = send_files(m, 1);
	if (r || m->first_only)
		return r;
	r = take_off(m, &lock);
	if (r == 0)
		r = send_files(m, 2);
	if (r == 0)
		r = finish(m, &lock);
	if (lock >= 0)
		run_unlock_supervisor(&m->g, &lock);
	if (r == 0)
		puts("  * done");
	return r;
}

int verb_migrate(struct vm *vm, int argc, char **argv)
{
	struct migrate m = { .host = NULL };
	int c;

	while ((c = ui_option(argc, argv, "12txnr:d:")) != -1) {
		if (c == '1')
			m.first_only = true;
		else if (c == '2')
			m.second_only = true;
		else if (c == 't')
			m.again = true;
		else if (c == 'x')
			m.remove = true;
		else if (c == 'n')
			m.no_start = true;
		else if (c == 'r')
			m.name = optarg;
		else if (c == 'd')
			m.datastore = optarg;
		else
			return ui_usage(vm);
	}
	if (argc - optind != 2 || (m.first_only && m.second_only))
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &m.g))
		return VM_FAILED;
	m.host = argv[optind + 1];
	if (!m.name)
		m.name = m.g.name;
	if (!store_name_valid(m.name))
		return ui_error(K(005) "invalid virtual machine name - '%s'", m.name);
	if (m.datastore && !store_name_valid(m.datastore))
		return ui_error(K(005) "invalid datastore name - '%s'", m.datastore);
	/* ssh and rsync would take such a host for something else. */
	if (m.host[0] == '-' || strpbrk(m.host, " /:"))
		return ui_error(K(004) "'%s' is not the name of a host", m.host);
	return migrate(vm, &m);
}

/* --- the other host's side --- */

static int begin(const struct guest *g, const char *incoming)
{
	if (access(g->dir, F_OK) == 0)
		return ui_error(K(024) "virtual machine already exists in %s", g->dir);
	if (mkdir(incoming, 0700) < 0 && errno != EEXIST)
		return ui_error("cannot make %s: %s", incoming, strerror(errno));
	printf(GREETING "%s\n", incoming);
	return 0;
}

/* The guest's file gets the guest's name, then the folder. */
static int end(const struct guest *g, const char *incoming, const char *old)
{
	char from[PATH_MAX], to[PATH_MAX];
	struct err err;

	if (!store_name_valid(old) ||
	    file_path(from, sizeof(from), "%s/%s.conf", incoming, old) < 0 ||
	    file_path(to, sizeof(to), "%s/%s.conf", incoming, g->name) < 0)
		return ui_error(K(005) "invalid virtual machine name - '%s'", old);
	if (strcmp(from, to) != 0 && access(from, F_OK) == 0 && rename(from, to) < 0)
		return ui_error("cannot rename %s: %s", from, strerror(errno));
	if (access(to, F_OK) < 0)
		return ui_error("%s: %s", to, strerror(errno));
	sync();
	return guest_move(incoming, g, &err) < 0 ? ui_error("%s", err.text) : 0;
}

int verb_receive(struct vm *vm, int argc, char **argv)
{
	const char *datastore = STORE_DEFAULT, *what = argc > 1 ? argv[1] : "";
	char incoming[PATH_MAX];
	struct store view;
	struct guest g;
	struct err err;
	int c;

	argc--;
	argv++;
	while ((c = ui_option(argc, argv, "d:")) != -1) {
		if (c != 'd')
			return ui_usage(vm);
		datastore = optarg;
	}
	if (argc - optind < 1 || !store_name_valid(argv[optind]))
		return ui_usage(vm);
	if (strcmp(what, "start") == 0)
		return vm_start(vm, argv[optind]);
	if (store_view(&vm->store, datastore, &view, &err) < 0)
		return ui_error("%s", err.text);
	if (store_find(&vm->store, argv[optind], &g) == 0)
		return ui_error(K(024) "virtual machine already exists in %s", g.dir);
	if (store_guest(&view, argv[optind], &g) < 0 ||
	    file_path(incoming, sizeof(incoming), "%s/" INCOMING "%s", view.dir, g.name) < 0)
		return ui_error(K(053) "%s: the path is too long", view.dir);
	if (strcmp(what, "begin") == 0)
		return begin(&g, incoming);
	if (strcmp(what, "end") == 0 && argc - optind == 2)
		return end(&g, incoming, argv[optind + 1]);
	return ui_usage(vm);
}
