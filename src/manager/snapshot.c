/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/snapshot.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/freeze.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/run.h"
#include "manager/snapshot_priv.h"
#include "manager/storage.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

bool snapshot_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > SNAPSHOT_NAME_MAX || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isascii(name[i]) ||
		    (!isalnum((unsigned char)name[i]) && !strchr("._:-", name[i])))
			return false;
	}
	return true;
}

int snapshot_path(const struct guest *g, const char *name, char *out, size_t size, struct err *err)
{
	if (!snapshot_name_valid(name))
		return err_set(err, -EINVAL, K(005) "invalid snapshot name - '%.64s'", name);
	return file_path(out, size, "%s/" SNAPSHOT_DIR "/%s", g->dir, name) < 0
		       ? err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", g->dir)
		       : 0;
}

bool snapshot_is_part(const char *name)
{
	static const char *const others[] = { RUN_CONSOLE, RUN_RESTART,	 RUN_OFF,
					      RUN_CONF,	   RUN_PASSWORD, RUN_TLS };
	static const char *const ends[] = {
		".conf", ".log", ".log.0.gz", ".lock", ".sock", ".ctl"
	};

	if (name[0] == '.')
		return false;
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		if (strcmp(name, others[i]) == 0)
			return false;
	}
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		if (str_ends(name, ends[i]))
			return false;
	}
	return true;
}

/* --- copies --- */

static int copy_file(const struct storage *st, int from_dir, int to_dir, const char *name,
		     struct progress *p)
{
	int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), to, r;

	if (from < 0)
		return -errno;
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = to < 0 ? -errno : st->copy(from, to, p);
	fd_close(&to);
	close(from);
	return r;
}

static int sync_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r;

	if (fd < 0)
		return -errno;
	r = fsync(fd) < 0 ? -errno : 0;
	close(fd);
	return r;
}

static bool is_file(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* Copies the guest's parts, or if st is NULL syncs them in to. */
static int each_part(const struct storage *st, const char *from, const char *to, struct progress *p,
		     struct err *err)
{
	int to_dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = opendir(st ? from : to);
	struct dirent *e;

	if (!d || to_dir < 0)
		r = err_set(err, -errno, "cannot read %s: %s", from, strerror(errno));
	while (r == 0 && (e = readdir(d))) {
		if (!snapshot_is_part(e->d_name) || !is_file(dirfd(d), e->d_name))
			continue;
		r = st ? copy_file(st, dirfd(d), to_dir, e->d_name, p)
		       : sync_file(to_dir, e->d_name);
		if (r < 0)
			err_set(err, r, "cannot copy %s/%s: %s", from, e->d_name, strerror(-r));
	}
	if (d)
		closedir(d);
	fd_close(&to_dir);
	return r;
}

int snapshot_copy(const char *from, const char *to, struct progress *p, struct err *err)
{
	const struct storage *st;
	int r = storage_probe(to, &st, err);

	if (r == 0)
		r = each_part(st, from, to, p, err);
	return r == 0 ? each_part(NULL, from, to, p, err) : r;
}

int snapshot_copy_live(const struct guest *g, const char *to, struct progress *p, struct err *err)
{
	const struct storage *st;
	struct freeze f;
	struct err copy_err;
	int r = storage_probe(to, &st, err), copied;

	if (r == 0)
		r = freeze_begin(&f, g, err);
	if (r < 0)
		return r;
	copied = each_part(st, g->dir, to, p, &copy_err);
	r = freeze_end(&f, err);
	if (copied < 0)
		r = err_set(err, copied, "%s", copy_err.text);
	return r == 0 ? each_part(NULL, g->dir, to, p, err) : r;
}

/* --- the list --- */

static uint64_t used_by(const char *path)
{
	DIR *d = opendir(path);
	uint64_t used = 0;
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d))) {
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			used += (uint64_t)st.st_blocks * 512;
	}
	if (d)
		closedir(d);
	return used;
}

static int compare_age(const void *a, const void *b)
{
	const struct snapshot *x = a, *y = b;

	if (x->created.tv_sec != y->created.tv_sec)
		return x->created.tv_sec < y->created.tv_sec ? -1 : 1;
	if (x->created.tv_nsec != y->created.tv_nsec)
		return x->created.tv_nsec < y->created.tv_nsec ? -1 : 1;
	return strcmp(x->name, y->name);
}

static int add_entry(const struct guest *g, const char *name, struct snapshot **list, size_t *count)
{
	char path[PATH_MAX], mark[PATH_MAX];
	struct snapshot *more;
	struct stat st;

	if (!snapshot_name_valid(name) || snapshot_path(g, name, path, sizeof(path), NULL) < 0 ||
	    file_path(mark, sizeof(mark), "%s/" SNAPSHOT_CONF, path) < 0 || stat(mark, &st) < 0)
		return 0;
	more = realloc(*list, (*count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	*list = more;
	more[*count] = (struct snapshot){ .created = st.st_mtim, .used = used_by(path) };
	(void)str_copy(more[*count].name, sizeof(more->name), name);
	(*count)++;
	return 0;
}

int snapshot_list(const struct guest *g, struct snapshot **out, size_t *count)
{
	struct snapshot *list = NULL;
	char dir[PATH_MAX];
	struct dirent *e;
	size_t n = 0;
	int r = run_path(g, SNAPSHOT_DIR, dir, sizeof(dir));
	DIR *d = r < 0 ? NULL : opendir(dir);

	while (d && r == 0 && (e = readdir(d)))
		r = add_entry(g, e->d_name, &list, &n);
	if (d)
		closedir(d);
	if (r < 0) {
		free(list);
		return r;
	}
	if (n)
		qsort(list, n, sizeof(*list), compare_age);
	*out = list;
	*count = n;
	return 0;
}

/* --- making and removing --- */

static int place(const struct guest *g, const char *stage, const char *path, struct err *err)
{
	char dir[PATH_MAX];
	int r = run_path(g, SNAPSHOT_DIR, dir, sizeof(dir));

	if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	if (r == 0)
		r = file_sync_dir(stage);
	if (r == 0)
		r = file_move_new(stage, path);
	if (r == -EEXIST)
		return err_set(err, r, K(024) "snapshot %s@%s exists already", g->name,
			       file_base(path));
	return r < 0 ? err_set(err, r, "cannot make %s: %s", path, strerror(-r))
		     : file_settle(dir, path, err);
}

int snapshot_make(const struct guest *g, const char *name, bool live, struct progress *p,
		  struct err *err)
{
	char path[PATH_MAX], stage[PATH_MAX], conf_path[PATH_MAX];
	struct store s;
	struct gconf *conf = NULL;
	int lock = -1, stage_lock, r = snapshot_path(g, name, path, sizeof(path), err);

	if (r == 0 && access(path, F_OK) == 0)
		r = err_set(err, -EEXIST, K(024) "snapshot %s@%s exists already", g->name, name);
	if (r == 0)
		r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	store_around(g, &s);
	if (!g->dry_run)
		r = store_stage(&s, g->name, stage, sizeof(stage), &stage_lock, err);
	if (r < 0 || g->dry_run) {
		guest_edit_end(conf, lock);
		return r;
	}
	r = live ? snapshot_copy_live(g, stage, p, err) : snapshot_copy(g->dir, stage, p, err);
	if (r == 0 && file_path(conf_path, sizeof(conf_path), "%s/" SNAPSHOT_CONF, stage) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", stage);
	if (r == 0)
		r = gconf_save(conf, conf_path, err);
	if (r == 0)
		r = place(g, stage, path, err);
	if (r < 0)
		(void)file_remove_tree(AT_FDCWD, stage);
	else
		glog_write(g, "snapshot %s made", name);
	close(stage_lock);
	guest_edit_end(conf, lock);
	return r;
}

int snapshot_remove(const struct guest *g, const char *name, struct err *err)
{
	char path[PATH_MAX], stage[PATH_MAX], inside[PATH_MAX];
	struct gconf *conf = NULL;
	struct store s;
	int lock = -1, stage_lock, r = snapshot_path(g, name, path, sizeof(path), err);

	if (r == 0)
		r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	if (access(path, F_OK) < 0)
		r = err_set(err, -ENOENT, K(014) "%s has no snapshot %s; 'vm info %s' shows them",
			    g->name, name, g->name);
	store_around(g, &s);
	if (r == 0 && !g->dry_run)
		r = store_stage(&s, g->name, stage, sizeof(stage), &stage_lock, err);
	if (r == 0 && !g->dry_run) {
		if (file_path(inside, sizeof(inside), "%s/snapshot", stage) < 0)
			r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", stage);
		else if (rename(path, inside) < 0)
			r = err_set(err, -errno, "failed to remove snapshot %s@%s: %s", g->name,
				    name, strerror(errno));
		/* What cannot be removed now is removed by the next command. */
		(void)file_remove_tree(AT_FDCWD, stage);
		close(stage_lock);
	}
	if (r == 0)
		glog_write(g, "snapshot %s removed", name);
	guest_edit_end(conf, lock);
	return r;
}
