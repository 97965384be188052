/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/err.h"
#include "util/fd.h"

/* Deeper trees are nobody's guest: the bound keeps a hostile tree from using up the stack. */
#define TREE_DEPTH 64
/* Behind the name of a file that is being written. */
#define FILE_TEMP ".new-XXXXXX"

int file_path(char *out, size_t size, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(out, size, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < size)
		return 0;
	out[0] = '\0';
	return -ENAMETOOLONG;
}

const char *file_base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int file_sync_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	/* Some network file systems cannot sync a folder, and then need not. */
	if (fsync(fd) < 0 && errno != EINVAL)
		r = -errno;
	close(fd);
	return r;
}

int file_settle(const char *dir, const char *path, struct err *err)
{
	int r = file_sync_dir(dir);

	return r < 0 ? err_set(err, r,
			       "%s is there, but a power cut may still undo it: cannot sync %s: %s",
			       path, dir, strerror(-r))
		     : 0;
}

/* The folder that path is in, for opening. */
static int parent_of(const char *path, char *out, size_t size)
{
	const char *base = file_base(path);

	if (base == path)
		return file_path(out, size, ".");
	return file_path(out, size, "%.*s", (int)(base - path), path);
}

static int write_temp(int fd, const void *buf, size_t len, mode_t mode)
{
	int r = fd_write_full(fd, buf, len);

	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, struct err *err)
{
	char temp[PATH_MAX], dir[PATH_MAX];
	int fd, r;

	r = parent_of(path, dir, sizeof(dir));
	if (r == 0)
		r = file_path(temp, sizeof(temp), "%s/.%s" FILE_TEMP, dir, file_base(path));
	if (r < 0)
		return err_set(err, r, "%s: %s", path, strerror(-r));
	fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return err_set(err, -errno, "cannot write in %s: %s", dir, strerror(errno));
	r = write_temp(fd, buf, len, mode);
	close(fd);
	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(temp);
		return err_set(err, r, "cannot write %s: %s", path, strerror(-r));
	}
	return file_settle(dir, path, err);
}

/* Whether file_write_atomic gives such a name to what it writes, and to a file that ends so. */
static bool is_temp(const char *name, const char *ends, bool *is_such)
{
	size_t len = strlen(name), temp = strlen(FILE_TEMP), end = strlen(ends);

	if (name[0] != '.' || len <= temp + 1 ||
	    strncmp(name + len - temp, FILE_TEMP, temp - strlen("XXXXXX")) != 0)
		return false;
	*is_such = len - temp > end && strncmp(name + len - temp - end, ends, end) == 0;
	return true;
}

void file_clear_temps(const char *dir, const char *ends, bool such)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	bool is_such;

	while (d && (e = readdir(d))) {
		if (is_temp(e->d_name, ends, &is_such) && is_such == such)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

int file_write_new(const char *path, const void *buf, size_t len, mode_t mode, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode), r;

	if (fd < 0)
		return err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	r = write_temp(fd, buf, len, mode);
	close(fd);
	if (r < 0) {
		unlink(path);
		err_set(err, r, "cannot write %s: %s", path, strerror(-r));
	}
	return r;
}

int file_move_new(const char *from, const char *to)
{
	int r = 0;

	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
		r = -errno;
	/*
	 * File systems without that flag refuse it. Their rename replaces at most an empty folder.
	 */
	if (r == -EINVAL || r == -ENOSYS)
		r = rename(from, to) < 0 ? -errno : 0;
	return r == -ENOTEMPTY ? -EEXIST : r;
}

int file_make_dirs(const char *path, mode_t mode, struct err *err)
{
	char part[PATH_MAX];
	int r = file_path(part, sizeof(part), "%s", path);

	if (r < 0)
		return err_set(err, r, "%s: %s", path, strerror(-r));
	for (char *p = part + 1;; p++) {
		char was = *p;

		if (was != '/' && was != '\0')
			continue;
		*p = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return err_set(err, -errno, "cannot make folder %s: %s", part,
				       strerror(errno));
		*p = was;
		if (was == '\0')
			return 0;
	}
}

static int remove_tree(int dirfd, const char *name, int depth);

static int remove_entries(int fd, int depth)
{
	struct dirent *e;
	DIR *d = fdopendir(fd);
	int r = 0;

	if (!d) {
		r = -errno;
		close(fd);
		return r;
	}
	while (r == 0 && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_tree(fd, e->d_name, depth + 1);
	}
	closedir(d);
	return r;
}

static int remove_tree(int dirfd, const char *name, int depth)
{
	int fd, r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth > TREE_DEPTH)
		return -ELOOP;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = remove_entries(fd, depth);
	if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int file_remove_tree(int dirfd, const char *name)
{
	return remove_tree(dirfd, name, 0);
}

int file_make_sparse(const char *path, uint64_t size, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int r = 0;

	if (fd < 0)
		return err_set(err, -errno, "cannot make disk image %s: %s", path, strerror(errno));
	if (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0)
		r = err_set(err, -errno, "failed to create sparse file for disk image %s: %s", path,
			    strerror(errno));
	close(fd);
	if (r < 0)
		unlink(path);
	return r;
}
