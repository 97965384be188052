/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/prog.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "util/err.h"
#include "util/fd.h"

#define SYSTEM_PATH "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

static int find_in(const char *dirs, const char *name, char *out, size_t size)
{
	while (dirs && *dirs) {
		size_t len = strcspn(dirs, ":");

		if (len > 0 && dirs[0] == '/' &&
		    file_path(out, size, "%.*s/%s", (int)len, dirs, name) == 0 &&
		    access(out, X_OK) == 0)
			return 0;
		dirs += len + (dirs[len] == ':');
	}
	return -ENOENT;
}

int prog_find(const char *name, char *out, size_t size)
{
	int r = find_in(getenv("PATH"), name, out, size);

	return r < 0 ? find_in(SYSTEM_PATH, name, out, size) : r;
}

/* All bytes of a file from its start, NUL-terminated. */
static char *read_all(int fd)
{
	struct stat st;
	char *text;

	if (fstat(fd, &st) < 0)
		return NULL;
	text = calloc(1, (size_t)st.st_size + 1);
	if (text && fd_pread_full(fd, text, (size_t)st.st_size, 0) < 0) {
		free(text);
		return NULL;
	}
	return text;
}

static void become(const char *path, const char *const *argv, const int *fds)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0)
			_exit(127);
	}
	execv(path, (char *const *)argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

/* What a program that failed has said, less where in its standard input. */
static void set_failure(const char *name, int fd, struct err *err)
{
	char *text = read_all(fd), *line = text;

	if (text) {
		text[strcspn(text, "\n")] = '\0';
		line = strstr(text, "Error: ");
		line = line ? line + strlen("Error: ") : text;
	}
	err_set(err, -EIO, "%s: %s", name, line && *line ? line : "it failed and does not say why");
	free(text);
}

int prog_status(const char *const *argv, const char *input, char **out, struct err *err)
{
	int fds[3] = { -1, -1, -1 }, r;
	char path[PATH_MAX], *text;
	pid_t pid;

	r = prog_find(argv[0], path, sizeof(path));
	if (r < 0)
		return err_set(err, r, K(031) "the program %s is not installed", argv[0]);
	for (int i = 0; i < 3; i++) {
		/* Above the standard descriptors, whatever of these is closed here. */
		fds[i] = memfd_create(argv[0], MFD_CLOEXEC);
		if (fds[i] < 0)
			r = -errno;
	}
	if (r == 0 && input)
		r = fd_pwrite_full(fds[0], input, strlen(input), 0);
	pid = r < 0 ? -1 : fork();
	if (pid == 0)
		become(path, argv, fds);
	if (r == 0 && pid < 0)
		r = -errno;
	if (r < 0)
		err_set(err, r, "cannot run %s: %s", argv[0], strerror(-r));
	if (pid > 0) {
		r = wait_for(pid);
		if (r)
			set_failure(argv[0], fds[2], err);
	}
	if (r >= 0 && out) {
		text = read_all(fds[1]);
		if (text)
			*out = text;
		else
			r = err_set(err, -ENOMEM, K(080) "%s: out of memory", argv[0]);
	}
	for (int i = 0; i < 3; i++)
		fd_close(&fds[i]);
	return r;
}

int prog_run(const char *const *argv, const char *input, char **out, struct err *err)
{
	char *text = NULL;
	int r = prog_status(argv, input, out ? &text : NULL, err);

	if (r == 0 && out)
		*out = text;
	else
		free(text);
	return r > 0 ? -EIO : r;
}

int prog_show(const char *const *argv, struct err *err)
{
	char path[PATH_MAX];
	int status, r = prog_find(argv[0], path, sizeof(path));
	pid_t pid;

	if (r < 0)
		return err_set(err, r, K(031) "the program %s is not installed", argv[0]);
	r = posix_spawn(&pid, path, NULL, NULL, (char *const *)argv, environ);
	if (r)
		return err_set(err, -r, "cannot run %s: %s", argv[0], strerror(r));
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return err_set(err, -errno, "cannot wait for %s: %s", argv[0],
				       strerror(errno));
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
