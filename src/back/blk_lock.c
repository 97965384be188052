/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back/blk_priv.h"
#include "util/clock.h"
#include "util/err.h"

/* How long the requests of a process that was killed may keep its lock. */
#define ORPHAN_NS (3 * NS_PER_SEC)
#define ORPHAN_POLL_US 10000

/* True if /proc/PID/fdinfo/FD shows a lock of an open file description. */
static bool fdinfo_has_lock(const char *pid, const char *fd)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	if (snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid, fd) >= (int)sizeof(path))
		return false;
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "lock:", 5) && strstr(line, "OFDLCK");
	fclose(f);
	return found;
}

static bool pid_holds(const char *pid, const struct stat *image, int own_fd)
{
	char path[64];
	struct dirent *e;
	bool found = false;
	DIR *dir;

	if (snprintf(path, sizeof(path), "/proc/%.20s/fd", pid) >= (int)sizeof(path))
		return false;
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (e = readdir(dir))) {
		struct stat st;

		if (!isdigit((unsigned char)e->d_name[0]) ||
		    fstatat(dirfd(dir), e->d_name, &st, 0) < 0)
			continue;
		if (st.st_dev != image->st_dev || st.st_ino != image->st_ino)
			continue;
		if (strtol(pid, NULL, 10) == getpid() && strtol(e->d_name, NULL, 10) == own_fd)
			continue;
		found = fdinfo_has_lock(pid, e->d_name);
	}
	closedir(dir);
	return found;
}

/* The kernel does not tell who holds such a lock, but /proc shows it to those who may look. 0: unknown. */
static pid_t lock_holder(int fd)
{
	struct stat st;
	struct dirent *e;
	pid_t holder = 0;
	DIR *proc;

	if (fstat(fd, &st) < 0)
		return 0;
	proc = opendir("/proc");
	if (!proc)
		return 0;
	while (!holder && (e = readdir(proc)))
		if (isdigit((unsigned char)e->d_name[0]) && pid_holds(e->d_name, &st, fd))
			holder = (pid_t)strtol(e->d_name, NULL, 10);
	closedir(proc);
	return holder;
}

/*
 * 0 or -errno. A lock that no process seems to hold may be that of one that was killed: io_uring gives the file up when
 * the last request has ended. So that a guest can be started at once after its end, that is waited for.
 */
static int take(int fd, bool read_only, pid_t *holder)
{
	struct flock lock = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	uint64_t end = clock_mono_ns() + ORPHAN_NS;

	while (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		int rc = -errno;

		if (rc != -EAGAIN && rc != -EACCES)
			return rc;
		*holder = lock_holder(fd);
		if (*holder || clock_mono_ns() >= end)
			return rc;
		usleep(ORPHAN_POLL_US);
	}
	return 0;
}

int blk_lock(int fd, const char *path, bool read_only, struct err *err)
{
	pid_t holder = 0;
	int rc = take(fd, read_only, &holder);

	if (rc == 0)
		return 0;
	if (rc != -EAGAIN && rc != -EACCES)
		return err_set(err, rc, "%s: cannot lock it: %s", path, strerror(-rc));
	if (holder == getpid())
		return err_set(err, -EBUSY, "%s: another disk of this guest uses the same image",
			       path);
	if (holder)
		return err_set(err, -EBUSY, "%s: in use by process %d; stop that one first", path,
			       (int)holder);
	return err_set(err, -EBUSY, "%s: in use by another process; stop that one first", path);
}
