/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "manager/file.h"
#include "manager/progress.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define PIECE (1u << 20)
/* What the kernel copies before progress is shown again. */
#define RANGE (64 << 20)
#define PROBE_SIZE 4096

static int copy_reflink(int from, int to, struct progress *p)
{
	(void)p;
	return ioctl(to, FICLONE, from) < 0 ? -errno : 0;
}

/* The plain way, for pairs of files that the kernel does not copy by itself. */
static int copy_by_hand(int from, int to, off_t at, off_t end, struct progress *p)
{
	char *buf = malloc(PIECE);
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && at < end) {
		ssize_t n = pread(from, buf, (size_t)MIN(end - at, (off_t)PIECE), at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			r = n < 0 ? -errno : -EIO;
		else
			r = fd_pwrite_full(to, buf, (size_t)n, (uint64_t)at);
		at += n > 0 ? n : 0;
		progress_to(p, (uint64_t)at);
	}
	free(buf);
	return r;
}

static int copy_range(int from, int to, off_t at, off_t end, struct progress *p)
{
	off_t out = at;

	while (at < end) {
		ssize_t n = copy_file_range(from, &at, to, &out,
					    (size_t)MIN(end - at, (off_t)RANGE), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
			return -errno;
		if (n <= 0)
			return copy_by_hand(from, to, at, end, p);
		progress_to(p, (uint64_t)at);
	}
	return 0;
}

static int copy_plain(int from, int to, struct progress *p)
{
	struct stat st;
	off_t at = 0;
	int r = 0;

	if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	progress_begin(p, 0, (uint64_t)st.st_size);
	while (r == 0 && at < st.st_size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			data = at;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole <= data)
			hole = st.st_size;
		r = copy_range(from, to, data, MIN(hole, st.st_size), p);
		at = hole;
	}
	return r;
}

int storage_copy(int from, int to, struct progress *p)
{
	return copy_reflink(from, to, p) == 0 ? 0 : copy_plain(from, to, p);
}

static const struct storage reflink = { .kind = "reflink", .copy = copy_reflink };
static const struct storage plain = { .kind = "plain", .copy = copy_plain };

/* A file without a name. */
static int open_nameless(const char *dir)
{
	char path[PATH_MAX];
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	if (file_path(path, sizeof(path), "%s/.probe.XXXXXX", dir) < 0)
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

int storage_probe(const char *dir, const struct storage **out, struct err *err)
{
	char block[PROBE_SIZE] = { 1 };
	int from = open_nameless(dir), to = from < 0 ? from : open_nameless(dir);
	int r = MIN(to, 0);

	if (r == 0)
		r = fd_pwrite_full(from, block, sizeof(block), 0);
	if (r == 0)
		*out = ioctl(to, FICLONE, from) == 0 ? &reflink : &plain;
	fd_close(&to);
	fd_close(&from);
	return r < 0 ? err_set(err, r, "cannot write in %s: %s", dir, strerror(-r)) : 0;
}
