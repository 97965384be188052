/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"

#define ANSWER_MS 5000
#define STILL_MS 10000
#define LOOK_MS 2

static int read_state(const struct guest *g, char *out, size_t size, struct err *err)
{
	char reply[4096];
	int r = ctl_command(g, "status", ANSWER_MS, reply, sizeof(reply), err);

	if (r == 0 && ctl_value(reply, "state", out, size) < 0)
		r = err_set(err, -EPROTO, "%s: its khyve does not say how it is", g->name);
	return r;
}

/* In the child: whatever happens to the command, the guest goes on. */
static void watch(const struct guest *g, int fd)
{
	int null = open("/dev/null", O_RDWR);
	char done;
	ssize_t n;

	setsid();
	for (int i = 0; null >= 0 && i < 3; i++)
		(void)dup2(null, i);
	do {
		n = read(fd, &done, 1);
	} while (n < 0 && errno == EINTR);
	if (n != 1)
		(void)ctl_command(g, "resume", ANSWER_MS, NULL, 0, NULL);
	_exit(0);
}

static int start_watcher(struct freeze *f, struct err *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	f->watcher = fork();
	if (f->watcher == 0) {
		close(fds[1]);
		watch(f->g, fds[0]);
	}
	close(fds[0]);
	if (f->watcher < 0) {
		int r = -errno;

		close(fds[1]);
		return err_set(err, r, "cannot start a process: %s", strerror(-r));
	}
	f->pipe = fds[1];
	return 0;
}

/* Lets the watcher end; without a word it resumes the guest first. */
static void end_watcher(struct freeze *f, bool resumed)
{
	if (f->pipe < 0)
		return;
	if (resumed)
		(void)fd_write_full(f->pipe, "", 1);
	fd_close(&f->pipe);
	while (waitpid(f->watcher, NULL, 0) < 0 && errno == EINTR)
		;
}

static int await_still(const struct guest *g, struct err *err)
{
	uint64_t end = clock_mono_ns() + STILL_MS * NS_PER_MS;
	char state[32] = "";
	int r;

	for (;;) {
		r = read_state(g, state, sizeof(state), err);
		if (r < 0 || strcmp(state, "paused") == 0)
			return r;
		if (clock_mono_ns() >= end)
			return err_set(err, -ETIMEDOUT,
				       K(043) "%s does not stand still: a disk of the host is slow",
				       g->name);
		poll(NULL, 0, LOOK_MS);
	}
}

int freeze_begin(struct freeze *f, const struct guest *g, struct err *err)
{
	char state[32] = "";
	int r;

	*f = (struct freeze){ .g = g, .pipe = -1 };
	run_query(g, &f->state);
	r = read_state(g, state, sizeof(state), err);
	if (r < 0 || strcmp(state, "paused") == 0)
		return r;
	if (strcmp(state, "running") != 0)
		return err_set(err, -EBUSY, "%s cannot be paused while it is %s%s", g->name, state,
			       strcmp(state, "waiting") == 0 ? " for a VNC client" : "");
	r = start_watcher(f, err);
	if (r == 0)
		r = ctl_command(g, "pause", ANSWER_MS, NULL, 0, err);
	if (r == 0)
		r = await_still(g, err);
	if (r < 0)
		end_watcher(f, false);
	return r;
}

int freeze_end(struct freeze *f, struct err *err)
{
	struct run_state now;
	char state[32] = "";
	int r = read_state(f->g, state, sizeof(state), err);

	run_query(f->g, &now);
	if (r == 0 && (strcmp(state, "paused") != 0 || now.pid != f->state.pid ||
		       now.start != f->state.start))
		r = err_set(err, -EAGAIN, "%s was resumed or ended meanwhile; try again",
			    f->g->name);
	if (f->pipe >= 0 && ctl_command(f->g, "resume", ANSWER_MS, NULL, 0, NULL) == 0)
		end_watcher(f, true);
	else
		end_watcher(f, false);
	return r;
}
