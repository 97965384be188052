/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/super.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/conf.h"
#include "manager/cert.h"
#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/hook.h"
#include "manager/keys.h"
#include "manager/limit.h"
#include "manager/lock.h"
#include "manager/nat.h"
#include "manager/plan.h"
#include "manager/port.h"
#include "manager/rtnl.h"
#include "manager/run.h"
#include "manager/seed.h"
#include "manager/switch.h"
#include "manager/tap.h"
#include "manager/usernet.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/* The descriptor number that khyve finds its lock at. */
#define LOCK_FD 3
#define ARGS_MAX 64
#define READY_MS 15000
#define READY_POLL_MS 5
/* How long an early death can still be reported to whoever typed the command. */
#define EARLY_MS 250
#define BUSY_MS 5000
/* How often khyve's log is looked at: what a guest can make khyve write is slow, but for months. */
#define LOG_LOOK_MS 10000
/* A guest that is not our child sends no signal when it ends. */
#define ADOPT_POLL_MS 500
/* on_fault="restart" gives up after this many faults in this time. */
#define FAULTS_MAX 3
#define FAULTS_NS (60 * NS_PER_SEC)
/* Descriptors of taps wait here, out of the way of the numbers that khyve finds them at. */
#define SPARE_FD 64

struct super {
	const struct guest *g;
	const struct super_opts *opts;
	int lock, signals, report;
	pid_t khyve;
	unsigned run, terms;
	unsigned port; /* of the screen, 0: none */
	int status; /* of the last run, as a shell would give it */
	uint64_t log_start;
	uint64_t faults[FAULTS_MAX];
	bool again_on_reset, again_on_fault;
	struct tap taps[PLAN_NETS_MAX]; /* as long as the guest runs; fd is -1 then */
	struct usernet usernet; /* programs of the cards with user-mode networking */
	bool watches; /* one of them gets copies of a switch's frames */
	int limits; /* the control group's; -1: it has none */
};

static void report(struct super *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void report(struct super *s, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	if (s->report < 0)
		return;
	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n >= 0) {
		size_t len = MIN((size_t)n, sizeof(line) - 2);

		line[len++] = '\n';
		(void)fd_write_full(s->report, line, len);
	}
	fd_close(&s->report);
}

static void log_warning(void *arg, const char *text)
{
	glog_write(arg, "warning; %s", text);
}

/* Takes the supervisor's lock. Somebody who is only cleaning up is waited for. */
static int take_lock(struct super *s)
{
	uint64_t end = clock_mono_ns() + BUSY_MS * NS_PER_MS;
	char path[PATH_MAX];
	int r = run_path(s->g, RUN_LOCK, path, sizeof(path));

	while (r == 0) {
		s->lock = run_lock_supervisor(s->g);
		if (s->lock != -EAGAIN)
			return s->lock < 0 ? s->lock : 0;
		if (!s->opts->adopt && lock_held(path))
			return -EAGAIN;
		if (clock_mono_ns() >= end)
			return -EAGAIN;
		poll(NULL, 0, READY_POLL_MS);
	}
	return r;
}

/* Each guest has its own variable store, copied once from the firmware's empty one. */
static int make_vars(const struct plan *p, struct err *err)
{
	char *data;
	size_t len;
	int r;

	if (!p->vars[0] || (!p->vars_fresh && access(p->vars, F_OK) == 0))
		return 0;
	r = fd_read_file(p->vars_template, 64 * MIB, &data, &len);
	if (r < 0)
		return err_set(err, r, "cannot read %s: %s", p->vars_template, strerror(-r));
	r = file_write_atomic(p->vars, data, len, 0600, err);
	free(data);
	return r;
}

static int write_plan(const struct super *s, const struct plan *p, struct err *err)
{
	char path[PATH_MAX], *text = NULL;
	size_t len = 0;
	FILE *f;
	int r = run_path(s->g, RUN_PASSWORD, path, sizeof(path));

	if (r == 0 && p->password)
		r = file_write_atomic(path, p->password, strlen(p->password), 0600, err);
	if (r == 0 && p->screen_tls)
		r = run_path(s->g, RUN_TLS, path, sizeof(path));
	if (r == 0 && p->screen_tls)
		r = cert_ensure(path, s->g->name, err);
	if (r == 0)
		r = run_path(s->g, RUN_CONF, path, sizeof(path));
	if (r < 0)
		return r;
	f = open_memstream(&text, &len);
	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	conf_dump(p->conf, f);
	r = fclose(f) == 0 ? file_write_atomic(path, text, len, 0600, err)
			   : err_set(err, -ENOMEM, K(080) "out of memory");
	free(text);
	return r;
}

static void log_plan(const struct super *s, const struct gconf *conf, const struct plan *p)
{
	static const char *const keys[] = { "loader", "cpu", "memory", "comports", "uuid" };
	static const char *const names[] = { "loader", "cpu", "memory", "com ports", "uuid" };

	glog_write(s->g, "initialising");
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *value = gconf_get(conf, keys[i]);

		glog_write(s->g, " [%s: %s]", names[i], value ? value : i == 3 ? "com1" : "-");
	}
	if (gconf_get(conf, "disk0_name"))
		glog_write(s->g, " [primary disk: %s]", gconf_get(conf, "disk0_name"));
	keys_check(conf, log_warning, (void *)s->g);
	for (size_t i = 0; i < p->net_count; i++) {
		if (p->nets[i].why)
			glog_write(s->g, "network%u has user networking: %s", p->nets[i].number,
				   p->nets[i].why);
	}
	if (p->screen[0] && !gconf_get(conf, "graphics_port"))
		glog_write(s->g, "dynamically allocated port %s for vnc connections",
			   strrchr(p->screen, ':') + 1);
	if (p->screen_open)
		glog_write(s->g, "warning; the screen on %s needs no password", p->screen);
}

/* NAME/console, where vm list, vm info and vm console find addresses. */
static int write_console(const struct super *s, const struct plan *p, struct err *err)
{
	char path[PATH_MAX], text[4 * PATH_MAX];
	size_t len = 0;
	int n, r = run_path(s->g, RUN_CONSOLE, path, sizeof(path));

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(p->com) && p->com[i][0]; i++) {
		if (s->opts->foreground && i == 0)
			continue;
		n = snprintf(text + len, sizeof(text) - len, "%s=%s/%s.sock\n", p->com[i],
			     s->g->dir, p->com[i]);
		len += n > 0 ? (size_t)n : 0;
	}
	if (p->screen[0]) {
		n = snprintf(text + len, sizeof(text) - len, "vnc=%s\n", p->screen);
		len += n > 0 ? (size_t)n : 0;
	}
	return r < 0 ? r : file_write_atomic(path, text, MIN(len, sizeof(text) - 1), 0644, err);
}

/* Splits bhyve_options at blanks; nothing is ever given to a shell. */
static int split_options(const char *options, char *copy, size_t size, char **argv, int argc)
{
	if (!options)
		return argc;
	if (str_copy(copy, size, options) < 0)
		return -E2BIG;
	for (char *p = copy; *(p += strspn(p, " \t"));) {
		if (argc >= ARGS_MAX)
			return -E2BIG;
		argv[argc++] = p;
		p += strcspn(p, " \t");
		if (*p)
			*p++ = '\0';
	}
	return argc;
}

static int open_tap(struct super *s, struct rtnl *r, const struct plan_net *n, struct tap *t,
		    struct err *err)
{
	int e = tap_open(r, s->g, n, t, err), fd;

	if (e < 0)
		return e;
	fd = fcntl(t->fd, F_DUPFD_CLOEXEC, SPARE_FD);
	e = -errno;
	close(t->fd);
	t->fd = fd;
	if (fd < 0)
		return err_set(err, e, "%s: %s", t->name, strerror(-e));
	glog_write(s->g, "initialising network device %s", t->name);
	if (t->bridge[0] && !n->span)
		glog_write(s->g, "adding %s -> %s (%s addm)", t->name, t->bridge, n->network.name);
	if (t->bridge[0])
		glog_write(s->g, "bring up %s -> %s (%s %s)", t->name, t->bridge, n->network.name,
			   n->span ? "span" : "addm");
	s->watches |= n->span;
	return 0;
}

/* Lets go of the taps: those that khyve does not have are gone then. */
static void close_taps(struct super *s)
{
	for (size_t i = 0; i < ARRAY_LEN(s->taps); i++)
		fd_close(&s->taps[i].fd);
}

/* A NAT switch has to know its guests. One that does not may still let them out. */
static void sync_nat(const struct super *s)
{
	struct err warning = { "" }, err = { "" };

	(void)nat_sync_guest(s->opts->store, &warning, &err);
	if (err.text[0])
		glog_write(s->g, "warning; %s", err.text);
	if (warning.text[0])
		glog_write(s->g, "warning; %s", warning.text);
}

/* Makes the taps of a plan, while nobody changes switches. */
static int open_taps(struct super *s, const struct plan *p, struct err *err)
{
	struct switch_edit e;
	struct switch_conf now;
	struct rtnl *rtnl = NULL;
	bool any = false;
	int r;

	for (size_t i = 0; i < p->net_count; i++)
		any |= p->nets[i].kind == PLAN_NET_TAP;
	if (!any)
		return 0;
	r = switch_edit_begin(s->opts->store, &e, err);
	if (r < 0)
		return r;
	r = rtnl_open(&rtnl, err);
	for (size_t i = 0; r == 0 && i < p->net_count; i++) {
		/* It may have been destroyed since the plan was made. */
		if (p->nets[i].kind == PLAN_NET_TAP && p->nets[i].network.name[0])
			r = switch_read(e.conf, p->nets[i].network.name, &now, err);
		if (r == 0 && p->nets[i].kind == PLAN_NET_TAP)
			r = open_tap(s, rtnl, &p->nets[i], &s->taps[i], err);
	}
	rtnl_close(rtnl);
	(void)switch_edit_end(&e, false, NULL);
	if (r < 0)
		close_taps(s);
	else
		sync_nat(s);
	return r;
}

/* After the guest's end. What its taps watched must not be copied to nowhere. */
static void forget_taps(struct super *s)
{
	struct rtnl *r;

	for (size_t i = 0; i < ARRAY_LEN(s->taps); i++) {
		if (s->taps[i].name[0])
			glog_write(s->g, "destroying network device %s", s->taps[i].name);
		s->taps[i] = (struct tap){ .fd = -1 };
	}
	if (s->watches && rtnl_open(&r, NULL) == 0) {
		tap_sweep(r);
		rtnl_close(r);
	}
	s->watches = false;
}

/* In the child: becomes khyve. Returns only on failure. */
static void become_khyve(const struct super *s, const struct plan *p, int lock, char **argv)
{
	char path[PATH_MAX];
	sigset_t none;
	int log, null;

	if (run_write_owner(lock) < 0 || chdir(s->g->dir) < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || run_path(s->g, RUN_LOG, path, sizeof(path)) < 0)
		return;
	log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (log < 0 || dup2(log, STDERR_FILENO) < 0)
		return;
	if (!s->opts->foreground && (dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0))
		return;
	if (lock == LOCK_FD ? fd_set_inherit(lock) < 0 : dup2(lock, LOCK_FD) < 0)
		return;
	for (int i = 0; i < PLAN_NETS_MAX; i++) {
		if (s->taps[i].fd >= 0 && dup2(s->taps[i].fd, PLAN_NET_FD + i) < 0)
			return;
	}
	if (s->limits >= 0)
		limit_join(s->limits);
	if (p->priority)
		setpriority(PRIO_PROCESS, 0, p->priority);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(s->opts->khyve, argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", s->opts->khyve, strerror(errno));
}

/*
 * Starts khyve. The guest's lock is taken here and handed over: from now on khyve alone keeps it.
 */
static int start_khyve(struct super *s, const struct plan *p, struct err *err)
{
	char lock_arg[32], copy[4096], name[STORE_NAME_MAX + 1];
	char *argv[ARGS_MAX + 2] = { (char *)"khyve", (char *)"-k", (char *)RUN_CONF, (char *)"-o",
				     lock_arg };
	int argc = split_options(p->options, copy, sizeof(copy), argv, 5), lock;

	if (argc < 0)
		return err_set(err, argc, K(053) "%s: bhyve_options is too long", s->g->conf);
	if (file_path(lock_arg, sizeof(lock_arg), "lock.fd=%d", LOCK_FD) < 0 ||
	    file_path(name, sizeof(name), "%s", s->g->name) < 0)
		return -EOVERFLOW;
	argv[argc] = name;
	lock = run_lock_guest(s->g);
	if (lock < 0)
		return err_set(err, lock, "cannot lock %s/" RUN_LOCK ": %s", s->g->dir,
			       strerror(-lock));
	s->khyve = fork();
	if (s->khyve == 0) {
		become_khyve(s, p, lock, argv);
		_exit(127);
	}
	close(lock);
	return s->khyve < 0 ? err_set(err, -errno, K(042) "cannot start khyve: %s", strerror(errno))
			    : 0;
}

/* True if khyve has ended; status as a shell gives it. */
static bool reap(struct super *s)
{
	int status;
	pid_t r;

	do {
		r = waitpid(s->khyve, &status, WNOHANG);
	} while (r < 0 && errno == EINTR);
	if (r != s->khyve)
		return false;
	s->status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	s->khyve = 0;
	return true;
}

/* SIGTERM: the power button, then the switch. */
static void on_term(struct super *s)
{
	const char *command = s->terms++ ? "quit" : "poweroff";

	glog_write(s->g, "signal received, %s", command);
	if (s->terms == 1)
		hook_run(s->g, HOOK_PRESTOP);
	if (ctl_command(s->g, command, 2000, NULL, 0, NULL) < 0 && s->khyve > 0)
		kill(s->khyve, s->terms > 1 ? SIGKILL : SIGTERM);
}

/* Waits up to ms for a signal and acts on it. */
static void wait_signal(struct super *s, int ms)
{
	struct pollfd p = { .fd = s->signals, .events = POLLIN };
	struct signalfd_siginfo si;

	if (poll(&p, 1, ms) > 0 && read(s->signals, &si, sizeof(si)) == sizeof(si) &&
	    si.ssi_signo != SIGCHLD)
		on_term(s);
}

/* Waits up to ms for khyve's end. True if it has ended. */
static bool wait_khyve(struct super *s, int ms)
{
	uint64_t end = clock_mono_ns() + (uint64_t)ms * NS_PER_MS;

	for (;;) {
		uint64_t now = clock_mono_ns();

		if (reap(s))
			return true;
		if (now >= end)
			return false;
		wait_signal(s, usernet_tend(&s->usernet, (int)((end - now) / NS_PER_MS) + 1));
	}
}

/* What khyve's end means, for a person. */
static void report_death(struct super *s)
{
	char line[512];

	glog_last_line(s->g, RUN_LOG, s->log_start, line, sizeof(line));
	report(s, "failed %skhyve ended with status %d%s%s",
	       strstr(line, "KVM") || strstr(line, "/dev/kvm") ? K(030) : K(042), s->status,
	       line[0] ? ": " : "", line);
}

/* Waits until khyve answers on its control socket; tells whoever waits. True if it has ended. */
static bool wait_ready(struct super *s, const struct plan *p, struct err *err)
{
	uint64_t end = clock_mono_ns() + READY_MS * NS_PER_MS;
	char reply[4096], state[32] = "";

	while (clock_mono_ns() < end) {
		if (wait_khyve(s, READY_POLL_MS))
			return true;
		if (ctl_command(s->g, "status", 1000, reply, sizeof(reply), NULL) == 0 &&
		    ctl_value(reply, "state", state, sizeof(state)) == 0)
			break;
	}
	if (write_console(s, p, err) < 0)
		glog_write(s->g, "warning; %s", err->text);
	if (strcmp(state, "waiting") == 0) {
		report(s, "up waiting %s", p->screen);
		return false;
	}
	if (wait_khyve(s, EARLY_MS))
		return true;
	report(s, "up");
	return false;
}

static void note_log_start(struct super *s)
{
	char path[PATH_MAX];
	struct stat st;

	glog_rotate(s->g, RUN_LOG);
	s->log_start = run_path(s->g, RUN_LOG, path, sizeof(path)) == 0 && stat(path, &st) == 0
			       ? (uint64_t)st.st_size
			       : 0;
}

static int start_usernets(struct super *s, const struct plan *p, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->net_count; i++) {
		if (p->nets[i].kind == PLAN_NET_USER)
			r = usernet_start(&s->usernet, p->nets[i].number, err);
	}
	if (r < 0)
		usernet_stop(&s->usernet);
	return r;
}

/* Makes ready what a plan needs and starts khyve. */
static int run_plan(struct super *s, const struct plan *p, struct err *err)
{
	int r = make_vars(p, err);

	if (r == 0)
		r = write_plan(s, p, err);
	if (r == 0)
		r = open_taps(s, p, err);
	if (r < 0)
		return r;
	glog_mark(s->g, "run %u", s->run);
	note_log_start(s);
	glog_write(s->g, "booting");
	r = start_usernets(s, p, err);
	if (r == 0) {
		glog_write(s->g, "starting khyve (run %u)", s->run);
		r = start_khyve(s, p, err);
	}
	close_taps(s);
	return r;
}

static unsigned port_of(const char *screen)
{
	uint64_t port;

	if (!screen[0] || str_starts(screen, "unix:"))
		return 0;
	return str_u64(strrchr(screen, ':') + 1, &port) == 0 ? (unsigned)port : 0;
}

/* The control group that khyve joins before it is khyve. */
static void open_limits(struct super *s, struct gconf *conf)
{
	struct err warning;

	s->limits = limit_open(s->g, conf, &warning);
	if (warning.text[0])
		glog_write(s->g, "warning; %s", warning.text);
	else if (s->limits >= 0)
		glog_write(s->g, "applying limits");
}

/* Reads the guest's file and runs it once. Negative: it could not be started. */
static int run_once(struct super *s, int port_lock, struct err *err)
{
	struct plan_opts opts = { .iso = s->opts->iso,
				  .first = s->run == 1,
				  .foreground = s->opts->foreground,
				  .port = s->port };
	struct gconf *conf = NULL;
	struct plan plan;
	bool ended = false;
	int r = guest_need_uuid(s->g, err);

	if (r == 0)
		r = guest_need_macs(s->g, err);
	if (r == 0)
		r = gconf_load(s->g->conf, &conf, err);
	if (r < 0) {
		fd_close(&port_lock);
		return r;
	}
	r = seed_make(s->g, conf, err);
	if (r == 0)
		r = plan_make(&plan, s->g, conf, &opts, err);
	if (r == 0) {
		const char *reset = gconf_get(conf, "on_restart"),
			   *fault = gconf_get(conf, "on_fault");

		/* Without a screen, it has no port for the next guest to keep away from. */
		if (!plan.screen[0])
			fd_close(&port_lock);
		s->again_on_reset = !reset || strcmp(reset, "restart") == 0;
		s->again_on_fault = fault && strcmp(fault, "restart") == 0;
		s->port = port_of(plan.screen);
		if (s->run == 1)
			log_plan(s, conf, &plan);
		open_limits(s, conf);
		r = run_plan(s, &plan, err);
		fd_close(&s->limits);
		if (r == 0)
			ended = wait_ready(s, &plan, err);
		plan_fini(&plan);
	}
	/* Its port is bound now: the next guest may look for one. */
	fd_close(&port_lock);
	gconf_free(conf);
	if (r == 0 && !ended)
		hook_run(s->g, HOOK_POSTSTART);
	while (r == 0 && !ended && !wait_khyve(s, LOG_LOOK_MS))
		note_log_start(s);
	if (r == 0 && s->report >= 0)
		report_death(s);
	return r;
}

/* True the third time in a minute: a guest that faults at once is not started for ever. */
static bool too_many_faults(struct super *s)
{
	memmove(s->faults, s->faults + 1, sizeof(s->faults) - sizeof(s->faults[0]));
	s->faults[FAULTS_MAX - 1] = clock_mono_ns();
	return s->faults[0] && s->faults[FAULTS_MAX - 1] - s->faults[0] < FAULTS_NS;
}

/* Takes a flag that another command has left: RUN_RESTART or RUN_OFF. */
static bool take_flag(const struct super *s, const char *flag)
{
	char path[PATH_MAX];

	return run_path(s->g, flag, path, sizeof(path)) == 0 && unlink(path) == 0;
}

/* Whether what ended is to be started again. */
static bool is_again(struct super *s)
{
	bool flag = take_flag(s, RUN_RESTART), off = take_flag(s, RUN_OFF);

	if (s->terms || off)
		return false;
	switch (s->status) {
	case 0:
		return s->again_on_reset;
	case 1:
	case 2:
		return flag;
	default:
		if (!s->again_on_fault)
			return false;
		if (!too_many_faults(s))
			return true;
		glog_write(s->g, "fatal; %d faults within a minute, giving up", FAULTS_MAX);
		return false;
	}
}

/* The ports of two guests that start at the same time are chosen one after the other. */
static int lock_ports(const struct super *s)
{
	char path[PATH_MAX];

	return file_path(path, sizeof(path), "%s/../.config", s->g->dir) == 0 ? lock_dir(path, true)
									      : -1;
}

/* Removes what a run has left, and says that it has ended. */
static void end_run(struct super *s)
{
	usernet_stop(&s->usernet);
	forget_taps(s);
	run_remove_files(s->g);
	limit_remove(s->g);
	hook_run(s->g, HOOK_POSTSTOP);
}

static int run_until_off(struct super *s)
{
	struct err err = { "" };
	int r;

	for (bool again = true; again;) {
		s->run++;
		hook_run(s->g, HOOK_PRESTART);
		r = run_once(s, lock_ports(s), &err);
		if (r < 0) {
			glog_write(s->g, "fatal; %s", err.text);
			report(s, "failed %s", err.text);
			end_run(s);
			return s->run == 1 ? SUPER_EXIT_CONFIG : s->status;
		}
		glog_write(s->g, "khyve exited with status %d", s->status);
		again = is_again(s);
		end_run(s);
		if (again)
			glog_write(s->g, "restarting");
	}
	return s->status;
}

static void adopt_usernets(struct super *s)
{
	struct gconf *conf;

	if (gconf_load(s->g->conf, &conf, NULL) < 0)
		return;
	for (unsigned n = 0; n < PLAN_NETS_MAX; n++) {
		if (port_is_user(s->g, conf, n))
			usernet_adopt(&s->usernet, n);
	}
	gconf_free(conf);
}

/* Looks after a guest whose supervisor died, until it is off. True if it is to be started again. */
static bool adopt(struct super *s)
{
	char path[PATH_MAX];

	glog_write(s->g, "adopting a guest without supervisor");
	if (run_path(s->g, RUN_LOCK, path, sizeof(path)) < 0)
		return false;
	adopt_usernets(s);
	while (lock_held(path))
		wait_signal(s, usernet_tend(&s->usernet, ADOPT_POLL_MS));
	end_run(s);
	return take_flag(s, RUN_RESTART) && !s->terms;
}

static int open_signals(void)
{
	static const int handled[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(handled); i++)
		sigaddset(&set, handled[i]);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int super_run(const struct guest *g, const struct super_opts *opts)
{
	struct super s = { .g = g, .opts = opts, .lock = -1, .limits = -1, .report = opts->report };
	char path[PATH_MAX];
	bool start = true;
	int r;

	forget_taps(&s);
	usernet_init(&s.usernet, g);
	s.signals = open_signals();
	r = take_lock(&s);
	if (r < 0 || s.signals < 0) {
		if (r == -EAGAIN)
			report(&s, "running");
		else
			report(&s, "failed cannot lock %s: %s", g->dir, strerror(-r));
		return r == -EAGAIN ? SUPER_EXIT_RUNNING : SUPER_EXIT_CONFIG;
	}
	glog_rotate(g, GLOG_FILE);
	if (run_path(g, RUN_LOCK, path, sizeof(path)) == 0 && lock_held(path)) {
		report(&s, opts->adopt ? "up" : "running");
		start = opts->adopt && adopt(&s);
		s.status = opts->adopt ? 0 : SUPER_EXIT_RUNNING;
	} else {
		run_remove_files(g);
		(void)take_flag(&s, RUN_RESTART);
		(void)take_flag(&s, RUN_OFF);
	}
	r = start ? run_until_off(&s) : s.status;
	if (start)
		glog_write(g, "stopped");
	run_unlock_supervisor(g, &s.lock);
	fd_close(&s.signals);
	return r;
}
