/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "manager/plan.h"
#include "manager/run.h"
#include "manager/seed.h"
#include "manager/snapshot.h"
#include "manager/snapshot_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/* --- rollback --- */

struct rollback {
	struct store s;
	const struct guest *g;
	const char *name;
	struct progress *progress;
	char from[PATH_MAX]; /* the snapshot */
	char stage[PATH_MAX]; /* what becomes the guest's folder */
};

/* The snapshots up to the one that is gone back to; with newer those behind it are left out. */
static int check_newer(const struct rollback *b, struct snapshot **list, size_t *count, bool newer,
		       struct err *err)
{
	char names[400] = "";
	size_t at = 0;
	int r = snapshot_list(b->g, list, count);

	if (r < 0)
		return err_set(err, r, "cannot read the snapshots of %s: %s", b->g->name,
			       strerror(-r));
	while (at < *count && strcmp((*list)[at].name, b->name) != 0)
		at++;
	if (at == *count) {
		free(*list);
		return err_set(err, -ENOENT,
			       K(014) "%s has no snapshot %s; 'vm info %s' shows them", b->g->name,
			       b->name, b->g->name);
	}
	for (size_t i = at + 1; i < *count; i++) {
		size_t len = strlen(names);

		(void)file_path(names + len, sizeof(names) - len, " %.64s", (*list)[i].name);
	}
	if (at + 1 < *count && !newer) {
		free(*list);
		return err_set(err, -EBUSY, K(025) "there are newer snapshots, which -r removes:%s",
			       names);
	}
	*count = at + 1;
	return 0;
}

static int link_entry(int from, int to, const char *name)
{
	return linkat(from, name, to, name, 0) < 0 && errno != EEXIST ? -errno : 0;
}

/* Links all files of a folder that are not in to yet; own: only logs and what a snapshot keeps. */
static int link_files(const char *from, const char *to, bool own, struct err *err)
{
	int to_dir = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *d = opendir(from);
	struct dirent *e;
	struct stat st;

	if (!d || to_dir < 0)
		r = -errno;
	while (d && r == 0 && (e = readdir(d))) {
		bool log = strstr(e->d_name, ".log") && e->d_name[0] != '.';

		if (own && !log && !snapshot_is_part(e->d_name))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			r = link_entry(dirfd(d), to_dir, e->d_name);
	}
	if (r == 0 && fsync(to_dir) < 0 && errno != EINVAL)
		r = -errno;
	if (d)
		closedir(d);
	fd_close(&to_dir);
	return r < 0 ? err_set(err, r, "cannot link the files of %s: %s", from, strerror(-r)) : 0;
}

static int link_folder(const struct rollback *b, const char *name, bool must, struct err *err)
{
	char from[PATH_MAX], to[PATH_MAX];

	if (run_path(b->g, name, from, sizeof(from)) < 0 ||
	    file_path(to, sizeof(to), "%s/%s", b->stage, name) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", b->g->dir);
	if (!must && access(from, F_OK) < 0)
		return 0;
	if (mkdir(to, 0700) < 0)
		return err_set(err, -errno, "cannot make %s: %s", to, strerror(errno));
	return link_files(from, to, false, err);
}

/* Makes the folder that the guest gets: copies of the snapshot, links to what stays. */
static int fill(const struct rollback *b, const struct snapshot *list, size_t count,
		struct err *err)
{
	char conf_path[PATH_MAX], name[SNAPSHOT_NAME_MAX + 16];
	struct gconf *conf;
	int r;

	if (file_path(conf_path, sizeof(conf_path), "%s/" SNAPSHOT_CONF, b->from) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", b->from);
	r = gconf_load(conf_path, &conf, err);
	if (r < 0)
		return r;
	if (file_path(conf_path, sizeof(conf_path), "%s/%s.conf", b->stage, b->g->name) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", b->stage);
	if (r == 0)
		r = gconf_save(conf, conf_path, err);
	gconf_free(conf);
	if (r == 0)
		r = snapshot_copy(b->from, b->stage, b->progress, err);
	if (r == 0)
		r = link_files(b->g->dir, b->stage, true, err);
	if (r == 0)
		r = link_folder(b, ".cloud-init", false, err);
	if (r == 0 && file_path(conf_path, sizeof(conf_path), "%s/" SNAPSHOT_DIR, b->stage) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", b->stage);
	if (r == 0 && mkdir(conf_path, 0700) < 0)
		r = err_set(err, -errno, "cannot make %s: %s", conf_path, strerror(errno));
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = file_path(name, sizeof(name), SNAPSHOT_DIR "/%s", list[i].name);
		if (r == 0)
			r = link_folder(b, name, true, err);
	}
	return r;
}

/* The new folder and the old one change places: there is no moment without a guest. */
static int swap(const struct rollback *b, struct err *err)
{
	int r = file_sync_dir(b->stage);

	if (r == 0 && renameat2(AT_FDCWD, b->stage, AT_FDCWD, b->g->dir, RENAME_EXCHANGE) < 0)
		r = -errno;
	if (r == -EINVAL || r == -ENOSYS)
		return err_set(
			err, r,
			K(040) "the file system of %s cannot swap folders, so nothing was changed",
			b->s.dir);
	return r < 0 ? err_set(err, r, "cannot replace %s: %s", b->g->dir, strerror(-r))
		     : file_settle(b->s.dir, b->g->dir, err);
}

int snapshot_rollback(const struct guest *g, const char *name, bool newer, struct progress *p,
		      struct err *err)
{
	struct rollback b = { .g = g, .name = name, .progress = p };
	struct snapshot *list;
	struct gconf *conf = NULL;
	size_t count;
	int lock = -1, stage_lock, r = snapshot_path(g, name, b.from, sizeof(b.from), err);

	if (r == 0)
		r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	r = check_newer(&b, &list, &count, newer, err);
	if (r < 0) {
		guest_edit_end(conf, lock);
		return r;
	}
	if (g->dry_run) {
		free(list);
		guest_edit_end(conf, lock);
		return 0;
	}
	store_around(g, &b.s);
	r = store_stage(&b.s, g->name, b.stage, sizeof(b.stage), &stage_lock, err);
	if (r == 0) {
		r = fill(&b, list, count, err);
		if (r == 0)
			r = swap(&b, err);
		/* What was made, or after the swap what was the guest. */
		(void)file_remove_tree(AT_FDCWD, b.stage);
		close(stage_lock);
	}
	if (r == 0)
		glog_write(g, "rolled back to snapshot %s", name);
	free(list);
	guest_edit_end(conf, lock);
	return r;
}

/* --- clone --- */

void snapshot_unset_unique(struct gconf *conf)
{
	static const char *const keys[] = { "mac", "ports", "name", "device" };
	char key[64];

	gconf_unset(conf, "uuid");
	for (unsigned n = 0; n < PLAN_NETS_MAX; n++) {
		for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
			if (file_path(key, sizeof(key), "network%u_%s", n, keys[i]) == 0)
				gconf_unset(conf, key);
		}
	}
}

static int fill_clone(const char *from, const char *from_conf, const char *stage, const char *to,
		      struct progress *p, struct err *err)
{
	char path[PATH_MAX];
	struct gconf *conf;
	int r = gconf_load(from_conf, &conf, err);

	if (r < 0)
		return r;
	snapshot_unset_unique(conf);
	if (file_path(path, sizeof(path), "%s/%s.conf", stage, to) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", stage);
	if (r == 0)
		r = gconf_save(conf, path, err);
	gconf_free(conf);
	return r == 0 ? snapshot_copy(from, stage, p, err) : r;
}

int snapshot_clone(const struct store *s, const struct guest *g, const char *name, const char *to,
		   struct progress *p, struct err *err)
{
	char from[PATH_MAX], from_conf[PATH_MAX], stage[PATH_MAX];
	struct gconf *conf = NULL;
	struct store around;
	struct guest made;
	int lock = -1, stage_lock, r;

	store_around(g, &around);
	if (!store_name_valid(to) || store_guest(&around, to, &made) < 0)
		return err_set(
			err, -EINVAL,
			K(005) "invalid virtual machine name - '%.64s': 2 to %d letters, digits and . - _",
			to, STORE_NAME_MAX);
	if (store_find(s, to, &made) == 0 || access(made.dir, F_OK) == 0)
		return err_set(err, -EEXIST, K(024) "virtual machine already exists in %s",
			       made.dir);
	r = name ? snapshot_path(g, name, from, sizeof(from), err)
		 : file_path(from, sizeof(from), "%s", g->dir);
	if (r == 0 && name && access(from, F_OK) < 0)
		r = err_set(err, -ENOENT, K(014) "%s has no snapshot %s; 'vm info %s' shows them",
			    g->name, name, g->name);
	if (r == 0 && file_path(from_conf, sizeof(from_conf), "%s/%s.conf", from,
				name ? "guest" : g->name) < 0)
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", from);
	if (r == 0)
		r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	if (!g->dry_run)
		r = store_stage(&around, to, stage, sizeof(stage), &stage_lock, err);
	if (r == 0 && !g->dry_run) {
		r = fill_clone(from, from_conf, stage, to, p, err);
		if (r == 0)
			r = seed_clone(g->dir, stage, err);
		if (r == 0)
			r = guest_move(stage, &made, err);
		if (r == 0)
			glog_write(&made, "cloned from %s%s%s", g->name, name ? "@" : "",
				   name ? name : "");
		else
			(void)file_remove_tree(AT_FDCWD, stage);
		close(stage_lock);
	}
	guest_edit_end(conf, lock);
	return r;
}
