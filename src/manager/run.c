/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/lock.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define MACHINE_ID "/etc/machine-id"
#define POLL_MS 10

static void sleep_ms(unsigned ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

int run_path(const struct guest *g, const char *file, char *out, size_t size)
{
	return file_path(out, size, "%s/%s", g->dir, file);
}

/* What tells hosts apart that share a store: a host's name may change while it runs. */
static void machine_id(char *out, size_t size)
{
	char *text, host[256] = "";
	size_t len;

	if (fd_read_file(MACHINE_ID, 256, &text, &len) == 0) {
		text[strcspn(text, "\n")] = '\0';
		if (text[0] && str_copy(out, size, text) == 0) {
			free(text);
			return;
		}
		free(text);
	}
	if (gethostname(host, sizeof(host) - 1) < 0 || str_copy(out, size, host) < 0)
		out[0] = '\0';
}

/*
 * Field 22 of /proc/PID/stat: the start time in clock ticks, which tells a reused pid. 0: no such
 * process.
 */
static uint64_t start_time(pid_t pid)
{
	char path[64], *text, *p;
	size_t len;
	uint64_t ticks = 0;

	if (snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid) < 0 ||
	    fd_read_file(path, 4096, &text, &len) < 0)
		return 0;
	/* The name in parentheses may hold anything; field 3 follows the last one. */
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		ticks = strtoull(p + 1, NULL, 10);
	free(text);
	return ticks;
}

/*
 * Host on the first line, as vm-bhyve has it, then our own lines. False if the owner has not
 * written it yet.
 */
static bool read_owner(const char *path, struct run_state *out)
{
	char *text, value[32], machine[256], mine[256];
	size_t len;

	if (fd_read_file(path, 4096, &text, &len) < 0)
		return false;
	if (ctl_value(text, "machine", machine, sizeof(machine)) < 0 ||
	    file_path(out->host, sizeof(out->host), "%.*s", (int)strcspn(text, "\n"), text) < 0) {
		free(text);
		return false;
	}
	if (ctl_value(text, "pid", value, sizeof(value)) == 0)
		out->pid = (pid_t)strtol(value, NULL, 10);
	if (ctl_value(text, "start", value, sizeof(value)) == 0)
		out->start = strtoull(value, NULL, 10);
	free(text);
	machine_id(mine, sizeof(mine));
	if (strcmp(machine, mine) != 0)
		out->kind = RUN_LOCKED;
	return true;
}

void run_query(const struct guest *g, struct run_state *out)
{
	char path[PATH_MAX];

	*out = (struct run_state){ .kind = RUN_STOPPED };
	if (run_path(g, RUN_LOCK, path, sizeof(path)) < 0 || !lock_held(path))
		return;
	/* Between taking the lock and writing the owner there is a moment. */
	for (int tries = 0; tries < 20; tries++) {
		out->kind = RUN_RUNNING;
		if (read_owner(path, out))
			return;
		sleep_ms(1);
	}
}

int run_lock_supervisor(const struct guest *g)
{
	char path[PATH_MAX];
	int r = run_path(g, RUN_SUPERVISOR, path, sizeof(path));

	if (r == 0 && g->dry_run) {
		r = lock_held(path) ? -EAGAIN : open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		return r == -1 ? -errno : r;
	}
	return r < 0 ? r : lock_take(path);
}

void run_unlock_supervisor(const struct guest *g, int *fd)
{
	char path[PATH_MAX];

	if (!g->dry_run && run_path(g, RUN_SUPERVISOR, path, sizeof(path)) == 0)
		lock_drop(path, fd);
	fd_close(fd);
}

bool run_supervised(const struct guest *g)
{
	char path[PATH_MAX];

	return run_path(g, RUN_SUPERVISOR, path, sizeof(path)) == 0 && lock_held(path);
}

int run_lock_guest(const struct guest *g)
{
	char path[PATH_MAX];
	int r = run_path(g, RUN_LOCK, path, sizeof(path)), fd;

	fd = r < 0 ? r : lock_take(path);
	if (fd >= 0 && ftruncate(fd, 0) < 0) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int run_write_owner(int lock)
{
	char host[256] = "", machine[256], text[1024];
	int n;

	if (gethostname(host, sizeof(host) - 1) < 0)
		return -errno;
	machine_id(machine, sizeof(machine));
	n = snprintf(text, sizeof(text), "%s\npid=%d\nstart=%llu\nmachine=%s\n", host,
		     (int)getpid(), (unsigned long long)start_time(getpid()), machine);
	if (n < 0 || (size_t)n >= sizeof(text))
		return -ENAMETOOLONG;
	return fd_pwrite_full(lock, text, (size_t)n, 0);
}

void run_remove_files(const struct guest *g)
{
	static const char *const files[] = { RUN_CONSOLE, RUN_CONF,    RUN_CONTROL, RUN_PASSWORD,
					     RUN_OFF,	  "com1.sock", "com2.sock", "com3.sock",
					     "com4.sock", RUN_LOCK };

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char path[PATH_MAX];

		if (run_path(g, files[i], path, sizeof(path)) == 0)
			unlink(path);
	}
	/* The guest's own file belongs to those who edit it. */
	file_clear_temps(g->dir, ".conf", false);
	for (unsigned i = 0; i < 2 * RUN_NETS_MAX; i++) {
		char path[PATH_MAX];

		if (file_path(path, sizeof(path), "%s/net%u.%s", g->dir, i / 2,
			      i % 2 ? "ctl" : "sock") == 0)
			unlink(path);
	}
}

void run_clean(const struct guest *g)
{
	char path[PATH_MAX];
	int fd;

	if (g->dry_run || run_path(g, RUN_LOCK, path, sizeof(path)) < 0)
		return;
	if (access(path, F_OK) < 0) {
		if (run_path(g, RUN_SUPERVISOR, path, sizeof(path)) < 0 || access(path, F_OK) < 0)
			return;
	} else if (lock_held(path)) {
		return;
	}
	fd = run_lock_supervisor(g);
	if (fd < 0)
		return;
	/* Nobody can start a khyve now, so a free run.lock stays free. */
	if (run_path(g, RUN_LOCK, path, sizeof(path)) == 0 && !lock_held(path))
		run_remove_files(g);
	run_unlock_supervisor(g, &fd);
}

int run_wait_stopped(const struct guest *g, unsigned milliseconds)
{
	uint64_t end = clock_mono_ns() + milliseconds * NS_PER_MS;
	char path[PATH_MAX];
	int r = run_path(g, RUN_LOCK, path, sizeof(path));

	while (r == 0 && (lock_held(path) || run_supervised(g))) {
		if (clock_mono_ns() >= end)
			return -ETIMEDOUT;
		sleep_ms(POLL_MS);
	}
	return r;
}

int run_kill(const struct run_state *state)
{
	int fd, r = 0;

	if (state->kind != RUN_RUNNING || state->pid <= 1)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, state->pid, 0);
	if (fd < 0)
		return -errno;
	/*
	 * The descriptor holds on to one process: now the start time can be compared without a
	 * race.
	 */
	if (start_time(state->pid) != state->start)
		r = -ESRCH;
	else if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
		r = -errno;
	close(fd);
	return r;
}

int run_console(const struct guest *g, const char *what, char *out, size_t size)
{
	char path[PATH_MAX], *text = NULL;
	size_t len;
	int r = run_path(g, RUN_CONSOLE, path, sizeof(path));

	if (r == 0)
		r = fd_read_file(path, 65536, &text, &len);
	if (r < 0)
		return r;
	r = ctl_value(text, what, out, size);
	free(text);
	return r;
}

int run_usage(pid_t pid, struct run_usage *out)
{
	unsigned long long user, sys, start, pages;
	long hz = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
	struct timespec now;
	char path[64], *text, *p;
	size_t len;
	int n;

	if (snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid) < 0 ||
	    fd_read_file(path, 4096, &text, &len) < 0)
		return -ESRCH;
	p = strrchr(text, ')');
	/* Fields 14, 15, 22 and 24 of proc(5). */
	n = p ? sscanf(p + 1,
		       " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d"
		       " %*d %llu %*u %llu",
		       &user, &sys, &start, &pages)
	      : 0;
	free(text);
	if (n != 4 || clock_gettime(CLOCK_BOOTTIME, &now) < 0)
		return -ESRCH;
	out->resident = pages * (uint64_t)page;
	out->cpu_seconds = (double)(user + sys) / (double)hz;
	out->age_seconds =
		(double)now.tv_sec + (double)now.tv_nsec / 1e9 - (double)start / (double)hz;
	return 0;
}
