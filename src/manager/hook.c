/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/hook.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guestconf.h"
#include "manager/run.h"
#include "util/clock.h"
#include "util/fd.h"

#define POLL_MS 10

/* In the child, which is a group of its own. Returns only on failure. */
static void become(const struct guest *g, const char *path)
{
	const char *const argv[] = { path, g->name, g->dir, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), log;
	char log_path[PATH_MAX];
	sigset_t none;

	if (null < 0 || run_path(g, GLOG_FILE, log_path, sizeof(log_path)) < 0 || chdir(g->dir) < 0)
		return;
	log = open(log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	setsid();
	if (log < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0)
		return;
	fd_inherit_none();
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(path, (char *const *)argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", path, strerror(errno));
}

/* Its status as waitpid gives it; killed when it takes too long. */
static int wait_for(const struct guest *g, const char *which, pid_t pid)
{
	uint64_t end = clock_mono_ns() + HOOK_SECONDS * NS_PER_SEC;
	int status = 0;

	for (;;) {
		pid_t r = waitpid(pid, &status, WNOHANG);

		if (r == pid || (r < 0 && errno != EINTR))
			return status;
		if (end && clock_mono_ns() >= end) {
			glog_write(g, "warning; %s has not ended within %d s and is killed", which,
				   HOOK_SECONDS);
			kill(-pid, SIGKILL);
			end = 0;
		}
		poll(NULL, 0, POLL_MS);
	}
}

void hook_run(const struct guest *g, const char *which)
{
	char path[PATH_MAX] = "";
	struct gconf *conf;
	const char *value;
	int status;
	pid_t pid;

	if (gconf_load(g->conf, &conf, NULL) < 0)
		return;
	value = gconf_get(conf, which);
	if (value && value[0] == '/')
		(void)file_path(path, sizeof(path), "%s", value);
	else if (value && *value)
		(void)run_path(g, value, path, sizeof(path));
	gconf_free(conf);
	if (!path[0])
		return;
	glog_write(g, "running %s script %s", which, path);
	pid = fork();
	if (pid == 0) {
		become(g, path);
		_exit(127);
	}
	if (pid < 0) {
		glog_write(g, "warning; cannot run %s: %s", path, strerror(errno));
		return;
	}
	status = wait_for(g, which, pid);
	if (WIFSIGNALED(status))
		glog_write(g, "warning; %s ended by signal %d", which, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		glog_write(g, "warning; %s ended with status %d", which, WEXITSTATUS(status));
}
