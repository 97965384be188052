/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "manager/file.h"
#include "manager/lazy.h"
#include "manager/progress.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define BLOCK (1u << 16)
/* Zeroes of this size, and aligned to it, are not written. */
#define HOLE 4096u

/* The filters end a name, .tar may stand before them. */
static const struct {
	const char *end;
	bool tar;
} ends[] = {
	{ ".tar", true },    { ".tgz", true },	   { ".txz", true },	 { ".tar.xz", true },
	{ ".tar.gz", true }, { ".tar.bz2", true }, { ".tar.zst", true }, { ".tar.lz4", true },
	{ ".xz", false },    { ".gz", false },	   { ".bz2", false },	 { ".zst", false },
	{ ".lz4", false },
};

/* The end of a packed file's name, NULL if it is not packed. */
static const char *find_end(const char *name, bool *tar)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		size_t n = strlen(ends[i].end);

		if (len > n && strcasecmp(name + len - n, ends[i].end) == 0) {
			*tar = ends[i].tar;
			return name + len - n;
		}
	}
	return NULL;
}

static bool is_gz(const char *name)
{
	size_t len = strlen(name);

	return len > 4 &&
	       (strcasecmp(name + len - 3, ".gz") == 0 || strcasecmp(name + len - 4, ".tgz") == 0);
}

bool unpack_is_packed(const char *name)
{
	bool tar;

	return find_end(name, &tar) != NULL;
}

bool unpack_stem(const char *name, char *out, size_t size)
{
	bool tar = false;
	const char *end = find_end(name, &tar);

	return end && !tar && file_path(out, size, "%.*s", (int)(end - name), name) == 0;
}

/* --- gzip: libarchive does not look at its checksums, zlib does --- */

struct gz {
	gzFile file;
	char buf[BLOCK];
};

static la_ssize_t gz_read(struct archive *a, void *arg, const void **out)
{
	struct gz *z = arg;
	int n = gzread(z->file, z->buf, sizeof(z->buf)), code = Z_OK;
	const char *text = gzerror(z->file, &code);

	*out = z->buf;
	if (n >= 0 && code == Z_OK)
		return n;
	LAZY(archive_set_error)(a, EINVAL, "%s", code == Z_ERRNO ? strerror(errno) : text);
	return -1;
}

static int gz_close(struct archive *a, void *arg)
{
	struct gz *z = arg;

	(void)a;
	gzclose(z->file);
	free(z);
	return ARCHIVE_OK;
}

static int open_gz(struct archive *a, const char *from)
{
	struct gz *z = malloc(sizeof(*z));
	int r = ARCHIVE_FATAL;

	if (!z) {
		LAZY(archive_set_error)(a, ENOMEM, "out of memory");
		return r;
	}
	z->file = gzopen(from, "rbe");
	if (z->file && !gzdirect(z->file))
		return LAZY(archive_read_open)(a, z, NULL, gz_read, gz_close);
	LAZY(archive_set_error)
	(a, z->file ? EINVAL : errno, "%s", z->file ? "it is not packed" : strerror(errno));
	if (z->file)
		gzclose(z->file);
	free(z);
	return r;
}

/* --- */

/* Opens the file and goes to what is in it. */
static int open_packed(const char *from, struct archive **out, struct archive_entry **entry,
		       struct err *err)
{
	bool tar = false, gz = is_gz(from);
	struct archive *a;
	int r = lazy_load(LAZY_ARCHIVE, err);

	if (r < 0)
		return r;
	a = LAZY(archive_read_new)();
	if (!a)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	(void)find_end(from, &tar);
	LAZY(archive_read_support_filter_xz)(a);
	LAZY(archive_read_support_filter_bzip2)(a);
	LAZY(archive_read_support_filter_zstd)(a);
	LAZY(archive_read_support_filter_lz4)(a);
	if (tar)
		LAZY(archive_read_support_format_tar)(a);
	else
		LAZY(archive_read_support_format_raw)(a);
	r = gz ? open_gz(a, from) : LAZY(archive_read_open_filename)(a, from, BLOCK);
	if (r == ARCHIVE_OK)
		do {
			r = LAZY(archive_read_next_header)(a, entry);
		} while (tar && r == ARCHIVE_OK &&
			 LAZY(archive_entry_filetype)(*entry) != AE_IFREG);
	if (r == ARCHIVE_OK && (tar || gz || LAZY(archive_filter_count)(a) > 1)) {
		*out = a;
		return 0;
	}
	r = r == ARCHIVE_OK || r == ARCHIVE_EOF || LAZY(archive_errno)(a) != ENOENT ? -EBADMSG
										    : -ENOENT;
	err_set(err, r, "cannot unpack %s: %s", from,
		LAZY(archive_error_string)(a) ? LAZY(archive_error_string)(a)
					      : "there is nothing in it, or it is not packed");
	LAZY(archive_read_free)(a);
	return r;
}

int unpack_name(const char *from, const char *name, char *out, size_t size, struct err *err)
{
	struct archive_entry *entry;
	struct archive *a;
	const char *inside, *dot = "";
	bool tar;
	int len = (int)(find_end(name, &tar) - name), r;

	if (unpack_stem(name, out, size))
		return 0;
	r = open_packed(from, &a, &entry, err);
	if (r < 0)
		return r;
	inside = LAZY(archive_entry_pathname)(entry);
	inside = inside ? strrchr(file_base(inside), '.') : NULL;
	if (inside && strlen(inside) < 8)
		dot = inside;
	/* A name that says already what it is needs no second end. */
	if (len > (int)strlen(dot) && strncasecmp(name + len - strlen(dot), dot, strlen(dot)) == 0)
		dot = "";
	r = file_path(out, size, "%.*s%s", len, name, dot);
	while (r == 0 && LAZY(archive_read_next_header)(a, &entry) == ARCHIVE_OK) {
		if (LAZY(archive_entry_filetype)(entry) == AE_IFREG)
			r = err_set(err, -EINVAL,
				    "%s holds more than one file: unpack it and give the image",
				    from);
	}
	LAZY(archive_read_free)(a);
	return r;
}

static bool is_zero(const char *p, size_t len)
{
	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static int write_sparse(int fd, const char *data, size_t len, uint64_t at)
{
	int r = 0;

	while (r == 0 && len > 0) {
		size_t n = MIN(len, (size_t)(HOLE - at % HOLE));

		if (n != HOLE || !is_zero(data, n))
			r = fd_pwrite_full(fd, data, n, at);
		data += n;
		len -= n;
		at += n;
	}
	return r;
}

/* Writes what the archive stands at. */
static int unpack_entry(struct archive *a, struct archive_entry *entry, const char *from, int fd,
			struct progress *progress, struct err *err)
{
	const void *data;
	la_int64_t at;
	uint64_t end = 0;
	size_t len;
	int code, r = 0;

	while ((code = LAZY(archive_read_data_block)(a, &data, &len, &at)) == ARCHIVE_OK &&
	       r == 0) {
		r = write_sparse(fd, data, len, (uint64_t)at);
		end = MAX(end, (uint64_t)at + len);
		progress_to(progress, (uint64_t)LAZY(archive_filter_bytes)(a, -1));
	}
	if (r < 0)
		return err_set(err, r, "cannot unpack %s: %s", from, strerror(-r));
	if (code != ARCHIVE_EOF)
		return err_set(err, -EBADMSG, "cannot unpack %s: %s", from,
			       LAZY(archive_error_string)(a));
	if (LAZY(archive_entry_size_is_set)(entry))
		end = MAX(end, (uint64_t)LAZY(archive_entry_size)(entry));
	if (ftruncate(fd, (off_t)end) < 0)
		return err_set(err, -errno, "cannot unpack %s: %s", from, strerror(errno));
	return 0;
}

static void begin(const char *from, struct progress *progress)
{
	struct stat st = { 0 };

	(void)stat(from, &st);
	/* Of gzip only what comes out can be counted. */
	progress_begin(progress, 0, is_gz(from) ? 0 : (uint64_t)st.st_size);
}

int unpack_file(const char *from, int fd, struct progress *progress, struct err *err)
{
	struct archive_entry *entry;
	struct archive *a;
	int r = open_packed(from, &a, &entry, err);

	if (r < 0)
		return r;
	begin(from, progress);
	r = unpack_entry(a, entry, from, fd, progress, err);
	LAZY(archive_read_free)(a);
	if (r == 0)
		progress_end(progress);
	return r;
}

struct folder {
	const char *from, *dir;
	bool (*want)(const char *name);
};

static int unpack_into(const struct folder *f, struct archive *a, struct archive_entry *entry,
		       struct progress *progress, struct err *err)
{
	const char *name = LAZY(archive_entry_pathname)(entry);
	char path[PATH_MAX];
	int fd, r;

	if (!name || !name[0] || strchr(name, '/') || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0 || LAZY(archive_entry_filetype)(entry) != AE_IFREG ||
	    !f->want(name))
		return err_set(err, -EINVAL, "%s: '%.64s' has no place in it", f->from,
			       name ? name : "");
	if (file_path(path, sizeof(path), "%s/%s", f->dir, name) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", f->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	r = unpack_entry(a, entry, f->from, fd, progress, err);
	if (r == 0 && fsync(fd) < 0)
		r = err_set(err, -errno, "cannot write %s: %s", path, strerror(errno));
	close(fd);
	return r;
}

int unpack_folder(const char *from, const char *dir, bool (*want)(const char *name),
		  struct progress *progress, struct err *err)
{
	const struct folder f = { .from = from, .dir = dir, .want = want };
	struct archive_entry *entry;
	struct archive *a;
	int code = ARCHIVE_OK, r = open_packed(from, &a, &entry, err);

	if (r < 0)
		return r;
	begin(from, progress);
	while (r == 0 && code == ARCHIVE_OK) {
		r = unpack_into(&f, a, entry, progress, err);
		code = LAZY(archive_read_next_header)(a, &entry);
	}
	if (r == 0 && code != ARCHIVE_EOF)
		r = err_set(err, -EBADMSG, "cannot unpack %s: %s", from,
			    LAZY(archive_error_string)(a));
	LAZY(archive_read_free)(a);
	if (r == 0)
		progress_end(progress);
	return r;
}
