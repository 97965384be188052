/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/lazy.h"
#include "manager/progress.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define PIECE (1u << 20)

static int failed(struct archive *a, const char *what, struct err *err)
{
	const char *why = LAZY(archive_error_string)(a);
	int code = LAZY(archive_errno)(a);

	return err_set(err, code > 0 ? -code : -EIO, "cannot pack %s: %s", what,
		       why ? why : "libarchive does not say why");
}

int pack_open(int fd, bool compress, struct archive **out, struct err *err)
{
	struct archive *a;
	int r = lazy_load(LAZY_ARCHIVE, err);

	if (r < 0)
		return r;
	a = LAZY(archive_write_new)();
	if (!a)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	if (LAZY(archive_write_set_format_pax)(a) != ARCHIVE_OK ||
	    (compress && LAZY(archive_write_add_filter_zstd)(a) != ARCHIVE_OK) ||
	    LAZY(archive_write_open_fd)(a, fd) != ARCHIVE_OK) {
		r = failed(a, "an image", err);
		LAZY(archive_write_free)(a);
		return r;
	}
	*out = a;
	return 0;
}

/* Where data begins at or behind at; size: there is none. */
static off_t next_data(int fd, off_t at, off_t size)
{
	off_t data = lseek(fd, at, SEEK_DATA);

	return data >= 0 ? data : errno == ENXIO ? size : at;
}

static off_t next_hole(int fd, off_t data, off_t size)
{
	off_t hole = lseek(fd, data, SEEK_HOLE);

	return hole > data && hole < size ? hole : size;
}

/* Tells the archive where the file has data. */
static void add_extents(struct archive_entry *e, int fd, off_t size)
{
	off_t at = next_data(fd, 0, size);

	if (at == 0 && next_hole(fd, 0, size) == size)
		return;
	for (; at < size; at = next_data(fd, at, size)) {
		off_t hole = next_hole(fd, at, size);

		LAZY(archive_entry_sparse_add_entry)(e, at, hole - at);
		at = hole;
	}
	/* A file that is one hole has to have a piece. */
	if (LAZY(archive_entry_sparse_count)(e) == 0 && size > 0)
		LAZY(archive_entry_sparse_add_entry)(e, size, 0);
}

/* The archive wants all of the file and leaves out the holes by itself: these need not be read. */
static int add_bytes(struct archive *a, int fd, off_t size, char *buf, struct progress *progress)
{
	off_t data = next_data(fd, 0, size), hole = next_hole(fd, data, size);
	bool zero = false;

	for (off_t at = 0; at < size;) {
		size_t n;

		if (at >= hole) {
			data = next_data(fd, at, size);
			hole = next_hole(fd, data, size);
		}
		n = (size_t)MIN((at < data ? data : hole) - at, (off_t)PIECE);
		if (at >= data) {
			if (fd_pread_full(fd, buf, n, (uint64_t)at) < 0)
				return -EIO;
			progress_add(progress, n);
		} else if (!zero) {
			memset(buf, 0, PIECE);
		}
		zero = at < data;
		if (LAZY(archive_write_data)(a, buf, n) < 0)
			return -EPIPE;
		at += (off_t)n;
	}
	return 0;
}

static int add_open(struct archive *a, int fd, const char *name, struct progress *progress,
		    struct err *err)
{
	struct archive_entry *e = LAZY(archive_entry_new)();
	char *buf = malloc(PIECE);
	struct stat st;
	int r = e && buf ? 0 : -ENOMEM;

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0) {
		LAZY(archive_entry_set_pathname)(e, name);
		LAZY(archive_entry_set_filetype)(e, AE_IFREG);
		LAZY(archive_entry_set_perm)(e, 0600);
		LAZY(archive_entry_set_size)(e, st.st_size);
		LAZY(archive_entry_set_mtime)(e, st.st_mtim.tv_sec, 0);
		add_extents(e, fd, st.st_size);
		r = LAZY(archive_write_header)(a, e) < ARCHIVE_WARN
			    ? -EPIPE
			    : add_bytes(a, fd, st.st_size, buf, progress);
	}
	LAZY(archive_entry_free)(e);
	free(buf);
	if (r == -EPIPE)
		return failed(a, name, err);
	return r < 0 ? err_set(err, r, "cannot read %s: %s", name, strerror(-r)) : 0;
}

int pack_add(struct archive *a, const char *path, const char *name, struct progress *progress,
	     struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r;

	if (fd < 0)
		return err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	r = add_open(a, fd, name, progress, err);
	close(fd);
	return r;
}

int pack_close(struct archive *a, struct err *err)
{
	int r = 0;

	if (!a)
		return 0;
	if (LAZY(archive_write_close)(a) != ARCHIVE_OK)
		r = failed(a, "an image", err);
	LAZY(archive_write_free)(a);
	return r;
}
