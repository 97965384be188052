/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/fd.h"

/* True if path still names the file that fd has open. */
static bool is_same_file(const char *path, int fd)
{
	struct stat a, b;

	return stat(path, &a) == 0 && fstat(fd, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int lock_take(const char *path)
{
	for (;;) {
		struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		int r;

		if (fd < 0)
			return -errno;
		if (fcntl(fd, F_OFD_SETLK, &l) < 0) {
			r = errno == EACCES ? -EAGAIN : -errno;
			close(fd);
			return r;
		}
		/* Its former holder may have removed the file between open and lock. */
		if (is_same_file(path, fd))
			return fd;
		close(fd);
	}
}

void lock_drop(const char *path, int *fd)
{
	if (*fd < 0)
		return;
	unlink(path);
	fd_close(fd);
}

bool lock_held(const char *path)
{
	struct flock l = { .l_type = F_RDLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool held;

	if (fd < 0)
		return false;
	held = fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
	close(fd);
	return held;
}

int lock_dir(const char *path, bool wait)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)) < 0) {
		int r = -errno;

		if (r == -EINTR)
			continue;
		close(fd);
		return r == -EWOULDBLOCK ? -EAGAIN : r;
	}
	return fd;
}
