/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "conf/conf.h"
#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/limit.h"
#include "manager/nft.h"
#include "manager/plan.h"
#include "manager/rtnl.h"
#include "manager/super.h"
#include "manager/switch.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/* The number that vm _run finds its report pipe at. */
#define REPORT_FD 3
/* More than all that the supervisor waits for. */
#define REPORT_MS 120000

struct start {
	bool foreground, interactive, print, wait;
	unsigned seconds;
	const char *iso;
};

int vm_khyve(char *out, size_t size, struct err *err)
{
	char self[PATH_MAX], *full;
	const char *env = getenv("KHYVE");
	ssize_t n;
	int r;

	if (env && *env) {
		full = realpath(env, NULL);
		r = full ? file_path(out, size, "%s", full) : -errno;
		free(full);
	} else {
		n = readlink("/proc/self/exe", self, sizeof(self) - 1);
		self[n > 0 ? n : 0] = '\0';
		r = file_path(out, size, "%.*s", (int)(file_base(self) - self), self);
		if (r == 0)
			r = file_path(out, size, "%.*skhyve", (int)(file_base(self) - self), self);
	}
	if (r == 0 && access(out, X_OK) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r,
			       K(042) "cannot run khyve (%s): %s; it belongs beside vm, or set KHYVE",
			       env && *env ? env : out, strerror(-r))
		     : 0;
}

/* Its own session, nothing open but the report pipe: it outlives the terminal. */
static int spawn_supervisor(char **argv, int report)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	pid_t pid;
	int r = posix_spawn_file_actions_init(&fa);

	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r == 0) {
		r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID);
		for (int fd = 0; r == 0 && fd < 3; fd++)
			r = posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
		if (r == 0)
			r = posix_spawn_file_actions_adddup2(&fa, report, REPORT_FD);
		/*
		 * What the caller's shell left open, a lock perhaps, must not stay open as long as
		 * a guest runs.
		 */
		if (r == 0)
			r = posix_spawn_file_actions_addclosefrom_np(&fa, REPORT_FD + 1);
		if (r == 0)
			r = posix_spawn_file_actions_addchdir_np(&fa, "/");
		if (r == 0)
			r = posix_spawn(&pid, "/proc/self/exe", &fa, &attr, argv, environ);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&fa);
	return -r;
}

/* What a spawn that failed may have failed at: it does not tell. */
static const char *spawn_culprit(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return "/dev/null: ";
	close(fd);
	return "";
}

/* The supervisor works elsewhere, where a relative path in KHYVE names nothing. */
static int settle_khyve(struct err *err)
{
	const char *env = getenv("KHYVE");
	char path[PATH_MAX];
	int r;

	if (!env || !*env)
		return 0;
	r = vm_khyve(path, sizeof(path), err);
	if (r == 0 && setenv("KHYVE", path, 1) < 0)
		r = err_set(err, -errno, K(080) "out of memory");
	return r;
}

int vm_spawn(const struct guest *g, const char *iso, bool adopt, struct err *err)
{
	char fd_text[16];
	char *argv[8] = { (char *)"vm", (char *)"_run", (char *)"-r", fd_text };
	int pipe_fd[2], moved, argc = 4, r = settle_khyve(err);

	if (r < 0)
		return r;
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	/* Above the number it is to get, so that dup2 clears close-on-exec for sure. */
	moved = fcntl(pipe_fd[1], F_DUPFD_CLOEXEC, REPORT_FD + 1);
	close(pipe_fd[1]);
	if (adopt)
		argv[argc++] = (char *)"-a";
	argv[argc++] = (char *)g->name;
	argv[argc] = (char *)iso;
	r = moved < 0 ? -errno : file_path(fd_text, sizeof(fd_text), "%d", REPORT_FD);
	if (r == 0)
		r = spawn_supervisor(argv, moved);
	fd_close(&moved);
	if (r < 0) {
		close(pipe_fd[0]);
		return err_set(err, r, "cannot start the supervisor: %s%s", spawn_culprit(),
			       strerror(-r));
	}
	return pipe_fd[0];
}

/* The supervisor's one line; "" when it died without a word. -ETIMEDOUT. */
static int read_report(int fd, char *out, size_t size)
{
	uint64_t end = clock_mono_ns() + REPORT_MS * NS_PER_MS;
	size_t len = 0;

	while (len + 1 < size) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = 0;

		if (clock_mono_ns() >= end)
			return -ETIMEDOUT;
		if (poll(&p, 1, 1000) <= 0)
			continue;
		n = read(fd, out + len, size - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	while (len > 0 && out[len - 1] == '\n')
		len--;
	out[len] = '\0';
	return 0;
}

static int show_report(int fd)
{
	char line[1024];
	int r = read_report(fd, line, sizeof(line));

	close(fd);
	if (r == -ETIMEDOUT)
		return ui_failure(
			K(042) "no word from the supervisor for %d s, which goes on; see vm list, "
			       "and vm-bhyve.log in the guest's folder",
			REPORT_MS / 1000);
	if (str_starts(line, "up waiting "))
		printf("  * waiting for a VNC client on %s\n", line + 11);
	else if (strcmp(line, "running") == 0)
		return ui_failure(K(020) "guest appears to be running already");
	else if (str_starts(line, "failed "))
		return ui_failure("%s", line + 7);
	else if (strcmp(line, "up") != 0)
		return ui_failure(
			K(042) "the supervisor died; see vm-bhyve.log in the guest's folder");
	return 0;
}

static void warn_text(void *arg, const char *text)
{
	(void)arg;
	ui_warning("%s", text);
}

/* Bridges whose frames the host's packet filter drops; none of them is there before its first guest. */
static void warn_bridges(const struct plan *p)
{
	struct rtnl_link bridge;
	struct err warning;
	struct rtnl *r;

	if (geteuid() != 0 || rtnl_open(&r, NULL) < 0)
		return;
	for (size_t i = 0; i < p->net_count; i++) {
		const struct switch_conf *c = &p->nets[i].network;

		if (p->nets[i].kind != PLAN_NET_TAP || !c->name[0] || c->type == SWITCH_NAT ||
		    switch_bridge(r, c, &bridge) < 0)
			continue;
		nft_check_bridge(bridge.name, &warning);
		if (warning.text[0])
			ui_warning("%s", warning.text);
	}
	rtnl_close(r);
}

static void show_warnings(const struct guest *g, struct gconf *conf, const struct plan *p)
{
	struct err warning;

	keys_check(conf, warn_text, NULL);
	limit_probe(conf, &warning);
	if (warning.text[0])
		ui_warning("%s: %s", g->name, warning.text);
	if (p->screen_open)
		ui_warning("%s: the screen on %s is open to everybody who can reach this host; set "
			   "vnc_password, or graphics_listen=\"127.0.0.1\"",
			   g->name, p->screen);
	warn_bridges(p);
}

/* Compiles the guest's file, so that what is wrong with it is said here. */
static int check_guest(const struct guest *g, const struct start *st, bool quiet)
{
	struct plan_opts opts = { .iso = st->iso, .first = true, .foreground = st->foreground };
	struct gconf *conf;
	struct plan plan;
	struct err err;

	if (gconf_load(g->conf, &conf, &err) < 0)
		return ui_failure("%s", err.text);
	if (plan_make(&plan, g, conf, &opts, &err) < 0) {
		gconf_free(conf);
		return ui_failure(K(040) "incomplete virtual machine configuration: %s", err.text);
	}
	if (!quiet)
		show_warnings(g, conf, &plan);
	plan_fini(&plan);
	gconf_free(conf);
	return 0;
}

static int print_config(const struct guest *g)
{
	struct plan_opts opts = { 0 };
	struct gconf *conf;
	struct plan plan;
	struct err err;

	if (gconf_load(g->conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	if (plan_make(&plan, g, conf, &opts, &err) < 0) {
		gconf_free(conf);
		return ui_error(K(040) "incomplete virtual machine configuration: %s", err.text);
	}
	show_warnings(g, conf, &plan);
	printf("# khyve runs in %s\n", g->dir);
	if (plan.options)
		printf("# with the options %s\n", plan.options);
	conf_dump(plan.conf, stdout);
	plan_fini(&plan);
	gconf_free(conf);
	return 0;
}

/* The terminal is the guest's, and khyve's own words go to its log: how it failed is told here. */
static int start_foreground(const struct vm *vm, const struct guest *g, const struct start *st,
			    const char *khyve)
{
	struct super_opts opts = {
		.store = &vm->store, .khyve = khyve, .iso = st->iso, .foreground = true
	};
	char line[1024] = "";
	int fds[2], status;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return ui_error("cannot make a pipe: %s", strerror(errno));
	opts.report = fds[1];
	fflush(stdout);
	status = super_run(g, &opts);
	n = read(fds[0], line, sizeof(line) - 1);
	line[n > 0 ? strcspn(line, "\n") : 0] = '\0';
	close(fds[0]);
	if (str_starts(line, "failed "))
		ui_failure("%s", line + 7);
	else if (strcmp(line, "running") == 0)
		ui_failure(K(020) "guest appears to be running already");
	else if (status > 2)
		ui_failure(K(042) "khyve ended with status %d; see khyve.log in %s", status,
			   g->dir);
	return status;
}

static int start_guest(struct vm *vm, const char *name, const struct start *st)
{
	char khyve[PATH_MAX];
	struct run_state state;
	struct guest g;
	struct err err;
	char near[VM_NEAR_SIZE];
	int fd, r;

	printf("Starting %s\n", name);
	if (store_find(&vm->store, name, &g) < 0)
		return ui_failure(K(010) "%s does not seem to be a valid virtual machine%s", name,
				  vm_near(vm, name, near));
	printf("  * found guest in %s\n", g.dir);
	run_query(&g, &state);
	if (state.kind == RUN_LOCKED)
		return ui_failure(K(022) "guest appears to be running on %s (locked)", state.host);
	if (state.kind == RUN_RUNNING)
		return ui_failure(K(020) "guest appears to be running already");
	if (check_guest(&g, st, false))
		return VM_FAILED;
	if (vm_khyve(khyve, sizeof(khyve), &err) < 0)
		return ui_failure("%s", err.text);
	if (vm_would(vm, "start %s", g.name))
		return 0;
	puts("  * booting...");
	fflush(stdout);
	if (st->foreground)
		return start_foreground(vm, &g, st, khyve);
	fd = vm_spawn(&g, st->iso, false, &err);
	if (fd < 0)
		return ui_failure("%s", err.text);
	r = show_report(fd);
	if (r == 0 && st->wait) {
		puts("  * waiting until it has booted...");
		fflush(stdout);
		r = vm_wait(vm, name, "booted", st->seconds);
	}
	if (r == 0 && st->interactive)
		r = vm_attach(&g, NULL);
	return r;
}

int vm_start(struct vm *vm, const char *name)
{
	struct start st = { .wait = false };

	return start_guest(vm, name, &st);
}

/* Starts guests one after the other with vm_delay between them. Returns how many failed. */
static int start_all(struct vm *vm, char **names, int count, const struct start *st)
{
	struct start one = *st;
	int failed = 0;

	if (count > 1)
		one.foreground = one.interactive = false;
	for (int i = 0; i < count; i++) {
		if (i > 0 && vm->store.delay && !vm->dry_run) {
			struct timespec t = { .tv_sec = vm->store.delay };

			printf("Waiting %u second(s)\n", vm->store.delay);
			fflush(stdout);
			nanosleep(&t, NULL);
		}
		failed += start_guest(vm, names[i], &one) != 0;
	}
	return MIN(failed, 125);
}

static int parse_options(struct vm *vm, int argc, char **argv, const char *options,
			 struct start *st)
{
	static const struct option longs[] = { { "wait", no_argument, NULL, 'w' },
					       { "timeout", required_argument, NULL, 't' },
					       { 0 } };
	uint64_t seconds = VM_WAIT_SECONDS;
	int c;

	while ((c = ui_options(argc, argv, options, longs)) != -1) {
		if (c == 'f')
			st->foreground = true;
		else if (c == 'i')
			st->interactive = true;
		else if (c == 'n')
			st->print = true;
		else if (c == 'w')
			st->wait = true;
		else if (c == 't' && (str_u64(optarg, &seconds) < 0 || seconds > 86400))
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
		else if (c != 't')
			return ui_usage(vm);
	}
	st->seconds = (unsigned)seconds;
	return st->wait && (st->foreground || st->print) ? ui_usage(vm) : 0;
}

int verb_start(struct vm *vm, int argc, char **argv)
{
	struct start st = { 0 };
	struct guest g;
	int r = parse_options(vm, argc, argv, "fin", &st);

	if (r)
		return r;
	if (optind == argc || (st.print && argc - optind != 1))
		return ui_usage(vm);
	if (st.print)
		return vm_find(vm, argv[optind], &g) ? VM_FAILED : print_config(&g);
	if (argc - optind == 1)
		return start_guest(vm, argv[optind], &st);
	return start_all(vm, argv + optind, argc - optind, &st);
}

int verb_startall(struct vm *vm, int argc, char **argv)
{
	struct start st = { 0 };
	char *names[1024], *list = vm->store.list;
	int count = 0;

	(void)argv;
	if (argc > 1)
		return ui_usage(vm);
	for (; list && *(list += strspn(list, " \t,")) && count < (int)ARRAY_LEN(names);) {
		names[count++] = list;
		list += strcspn(list, " \t,");
		if (*list)
			*list++ = '\0';
	}
	return start_all(vm, names, count, &st);
}

int verb_install(struct vm *vm, int argc, char **argv)
{
	struct start st = { 0 };
	char iso[PATH_MAX];
	struct guest g;
	int r = parse_options(vm, argc, argv, "fi", &st);

	if (r)
		return r;
	if (argc - optind != 2)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	if (store_find_iso(&vm->store, argv[optind + 1], iso, sizeof(iso)) < 0)
		return ui_error(K(013) "unable to locate iso file - '%s'; 'vm iso' lists them",
				argv[optind + 1]);
	st.iso = iso;
	return start_guest(vm, argv[optind], &st);
}

/* Status when a report descriptor cannot be told from a typing error: none is kept open. */
static int parse_fd(const char *text)
{
	uint64_t n;

	return str_u64(text, &n) == 0 && n > 2 && n < 1024 && fcntl((int)n, F_GETFD) >= 0 ? (int)n
											  : -1;
}

int verb_run(struct vm *vm, int argc, char **argv)
{
	struct super_opts opts = { .store = &vm->store, .report = -1 };
	char khyve[PATH_MAX];
	struct guest g;
	struct err err;
	int c;

	while ((c = ui_option(argc, argv, "far:")) != -1) {
		if (c == 'f')
			opts.foreground = true;
		else if (c == 'a')
			opts.adopt = true;
		else if (c == 'r')
			opts.report = parse_fd(optarg);
		else
			return ui_usage(vm);
	}
	if (argc - optind < 1 || argc - optind > 2)
		return ui_usage(vm);
	if (opts.report >= 0)
		fcntl(opts.report, F_SETFD, FD_CLOEXEC);
	if (store_find(&vm->store, argv[optind], &g) < 0) {
		vm_find(vm, argv[optind], &g);
		return SUPER_EXIT_NOT_FOUND;
	}
	opts.iso = argv[optind + 1];
	if (vm_khyve(khyve, sizeof(khyve), &err) < 0) {
		ui_error("%s", err.text);
		return SUPER_EXIT_CONFIG;
	}
	opts.khyve = khyve;
	return super_run(&g, &opts);
}
