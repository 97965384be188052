/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/media.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/disk.h"
#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/unpack.h"
#include "manager/verify.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define NAME_SIZE 240
#define QCOW2 ".qcow2"

static void say(const struct media *m, bool warning, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void say(const struct media *m, bool warning, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	if (m->say && vsnprintf(text, sizeof(text), fmt, ap) >= 0)
		m->say(warning, text);
	va_end(ap);
}

static int path_of(const struct media *m, const char *name, char *out, struct err *err)
{
	return file_path(out, PATH_MAX, "%s/%s", m->dir, name) < 0
		       ? err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", m->dir)
		       : 0;
}

static int refuse_existing(const struct media *m, const char *name, struct err *err)
{
	char path[PATH_MAX];
	int r = path_of(m, name, path, err);

	if (r == 0 && access(path, F_OK) == 0)
		return err_set(err, -EEXIST,
			       K(024) "%s exists already; remove it first to get it again", path);
	return r;
}

/* --- getting it --- */

/* The checksum that the file must have, if there is one, and what is said of it in the end. */
static int find_proof(const struct media *m, const char *name, struct verify *v, struct err *err)
{
	int r;

	*v = (struct verify){ "" };
	if (m->checksum && !m->keyring)
		return 0;
	r = verify_find(m->source, name, m->keyring, m->ip, v, err);
	if (r == 0 && m->checksum && v->checksum[0])
		v->list[0] = '\0';
	return r;
}

static void say_proof(const struct media *m, const char *name, const struct verify *v)
{
	if (v->signer[0])
		say(m, false, "%s: checked against %s, signed by %s", name,
		    v->list[0] ? v->list : "a list of checksums", v->signer);
	else if (m->checksum)
		say(m, false, "%s: it has the checksum that was given", name);
	else if (v->checksum[0])
		say(m, true,
		    "%s: checked against %s of the same server, whose signature was not checked: %s",
		    name, v->list, v->why);
	else
		say(m, true, "%s was not verified: %s; --sha256 tells what it has to be", name,
		    v->why);
}

static int fetch(const struct media *m, const char *name, struct err *err)
{
	char path[PATH_MAX];
	struct verify v = { 0 };
	struct fetch_opts o = { .url = m->source,
				.path = path,
				.checksum = m->checksum,
				.ip = m->ip,
				.progress = m->progress };
	int r = path_of(m, name, path, err);

	if (r == 0)
		r = find_proof(m, name, &v, err);
	if (r == 0 && !m->checksum && v.checksum[0])
		o.checksum = v.checksum;
	/* Both were asked for: the list's is checked behind the download. */
	if (r == 0)
		r = fetch_url(&o, err);
	if (r == 0 && m->checksum && v.checksum[0]) {
		r = fetch_check(path, v.checksum, err);
		if (r < 0)
			unlink(path);
	}
	if (r == 0)
		say_proof(m, name, &v);
	return r;
}

/* --- making of it what guests can use --- */

/* Opens and locks the file that something is made of: others may be at it. */
static int lock_source(const char *path, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "cannot read %s: %s", path, strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		close(fd);
		return err_set(err, -EBUSY, K(023) "%s is being worked on already", path);
	}
	return fd;
}

/* Gives what was made under a temporary name its own. */
static int place(const struct media *m, const char *temp, const char *name, struct err *err)
{
	char path[PATH_MAX];
	int r = path_of(m, name, path, err);

	if (r < 0)
		return r;
	r = chmod(temp, 0644) < 0 ? -errno : file_move_new(temp, path);
	return r < 0 ? err_set(err, r, "cannot make %s: %s", path, strerror(-r))
		     : file_settle(m->dir, path, err);
}

static int unpack_to(const struct media *m, const char *from, const char *temp, struct err *err)
{
	int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return err_set(err, -errno, "cannot write %s: %s", temp, strerror(errno));
	r = unpack_file(from, fd, m->progress, err);
	if (r == 0 && fsync(fd) < 0)
		r = err_set(err, -errno, "cannot write %s: %s", temp, strerror(errno));
	close(fd);
	return r;
}

/* Makes NAME of another file, by unpacking or by converting it. ours: which is gone then. */
static int make(const struct media *m, const char *from, const char *name, bool ours,
		struct err *err)
{
	char temp[PATH_MAX];
	int lock, r = refuse_existing(m, name, err);

	if (r == 0 && file_path(temp, sizeof(temp), "%s/.%s.new", m->dir, name) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", m->dir);
	if (r < 0)
		return r;
	lock = lock_source(from, err);
	if (lock < 0)
		return lock;
	unlink(temp);
	if (unpack_is_packed(from))
		r = unpack_to(m, from, temp, err);
	else
		r = disk_image_put(from, temp, 0, m->progress, err);
	if (r == 0)
		r = place(m, temp, name, err);
	if (r < 0)
		unlink(temp);
	/* A damaged file would be found here again by the next command. */
	if (ours && (r == 0 || r == -EBADMSG))
		unlink(from);
	close(lock);
	return r;
}

/* The raw image of a qcow2 one: NAME.raw of NAME.qcow2, else the same name. */
static int raw_name(const char *name, char *out, size_t size)
{
	if (str_ends(name, QCOW2))
		return file_path(out, size, "%.*s.raw", (int)(strlen(name) - strlen(QCOW2)), name);
	return file_path(out, size, "%s.raw", name);
}

/* Turns a qcow2 image into a raw one, if it is one. */
static int make_raw(const struct media *m, const char *from, const char *name, bool ours,
		    struct err *err)
{
	char raw[NAME_SIZE], path[PATH_MAX];
	struct disk_image d;
	int r = disk_image_probe(from, &d, err);

	if (r < 0 || d.raw)
		return r < 0 ? r : path_of(m, name, path, err);
	if (raw_name(name, raw, sizeof(raw)) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the name is too long", name);
	r = make(m, from, raw, ours, err);
	if (r == -ENOENT && ours) {
		say(m, true, "%s", err->text);
		say(m, true, "%s stays as it is: 'vm create -i' needs qemu-img for it", name);
		return 0;
	}
	if (r == 0)
		say(m, false, "%s: made of %s", raw, name);
	return r;
}

/* The file at from, whatever it is packed in, comes to its final form. */
static int finish(const struct media *m, const char *from, const char *name, bool ours,
		  struct err *err)
{
	char inner[NAME_SIZE], path[PATH_MAX];
	int r;

	if (!unpack_is_packed(name))
		return m->disk ? make_raw(m, from, name, ours, err) : 0;
	r = unpack_name(from, name, inner, sizeof(inner), err);
	if (r == 0)
		r = make(m, from, inner, ours, err);
	else if (ours && r == -EBADMSG)
		unlink(from);
	if (r == 0)
		say(m, false, "%s: unpacked from %s", inner, name);
	if (r == 0 && m->disk)
		r = path_of(m, inner, path, err);
	return r == 0 && m->disk ? make_raw(m, path, inner, true, err) : r;
}

static int add_url(const struct media *m, const char *name, struct err *err)
{
	char path[PATH_MAX];
	int r = path_of(m, name, path, err);

	/* An interrupted command may have left the packed file. */
	if (r == 0 && (!unpack_is_packed(name) || access(path, F_OK) < 0)) {
		r = refuse_existing(m, name, err);
		if (r == 0 && !m->dry_run)
			r = fetch(m, name, err);
	} else if (r == 0) {
		say(m, false, "%s was fetched already", name);
		if (m->checksum)
			r = fetch_check(path, m->checksum, err);
	}
	return r == 0 && !m->dry_run ? finish(m, path, name, true, err) : r;
}

/* Whether a file becomes another one on its way. */
static int changes(const struct media *m, const char *from, const char *name, bool *out,
		   struct err *err)
{
	struct disk_image d = { .raw = true };
	int r = 0;

	if (m->disk && !unpack_is_packed(name))
		r = disk_image_probe(from, &d, err);
	*out = unpack_is_packed(name) || !d.raw;
	return r;
}

static int add_file(const struct media *m, const char *name, struct err *err)
{
	char path[PATH_MAX], *from = realpath(m->source, NULL);
	struct fetch_opts o = { .path = path, .checksum = m->checksum, .progress = m->progress };
	bool other = false;
	int r;

	if (!from)
		return err_set(err, -errno, "%s: %s", m->source, strerror(errno));
	r = changes(m, from, name, &other, err);
	if (r == 0)
		r = path_of(m, name, path, err);
	if (r == 0 && other) {
		if (m->checksum)
			r = fetch_check(from, m->checksum, err);
		if (r == 0 && !m->dry_run)
			r = finish(m, from, name, false, err);
	} else if (r == 0) {
		r = refuse_existing(m, name, err);
		if (r == 0 && m->dry_run && m->checksum)
			r = fetch_check(from, m->checksum, err);
		if (r == -EBADMSG)
			err_prefix(err, r, "%s is not kept", name);
		if (r == 0 && !m->dry_run)
			r = fetch_file(from, &o, err);
	}
	free(from);
	return r;
}

/* What the file will be called when it is unpacked and raw, as far as the name tells. */
static int refuse_result(const struct media *m, const char *name, struct err *err)
{
	char inner[NAME_SIZE], raw[NAME_SIZE];
	int r = 0;

	if (unpack_stem(name, inner, sizeof(inner))) {
		r = refuse_existing(m, inner, err);
		name = inner;
	}
	if (r == 0 && m->disk && str_ends(name, QCOW2) && raw_name(name, raw, sizeof(raw)) == 0)
		r = refuse_existing(m, raw, err);
	return r;
}

int media_add(const struct media *m, struct err *err)
{
	bool remote = fetch_is_url(m->source);
	char name[NAME_SIZE];
	int r;

	r = remote ? fetch_name(m->source, name, sizeof(name))
		   : file_path(name, sizeof(name), "%s", file_base(m->source));
	if (r < 0 || !name[0] || name[0] == '.')
		return err_set(err, -EINVAL, "'%.200s' has no file name at its end", m->source);
	r = refuse_result(m, name, err);
	if (r < 0)
		return r;
	return remote ? add_url(m, name, err) : add_file(m, name, err);
}
