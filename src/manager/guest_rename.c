/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guestconf.h"
#include "util/err.h"

int guest_move(const char *from, const struct guest *to, struct err *err)
{
	struct store s;
	int r = file_move_new(from, to->dir);

	if (r == -EEXIST)
		return err_set(err, r, K(024) "virtual machine already exists in %s", to->dir);
	if (r < 0)
		return err_set(err, r, "cannot make %s: %s", to->dir, strerror(-r));
	store_around(to, &s);
	return file_settle(s.dir, to->dir, err);
}

int guest_rename(const struct store *s, const struct guest *g, const char *name, struct guest *out,
		 struct err *err)
{
	char second[PATH_MAX], old[PATH_MAX];
	struct store around;
	struct gconf *conf;
	struct guest to, other;
	int lock, r;

	store_around(g, &around);
	if (!store_name_valid(name) || store_guest(&around, name, &to) < 0)
		return err_set(
			err, -EINVAL,
			K(005) "invalid virtual machine name - '%.64s': 2 to %d letters, digits and . - _",
			name, STORE_NAME_MAX);
	if (store_find(s, name, &other) == 0 || access(to.dir, F_OK) == 0)
		return err_set(err, -EEXIST, K(024) "directory %s already exists",
			       access(to.dir, F_OK) == 0 ? to.dir : other.dir);
	if (file_path(second, sizeof(second), "%s/%s.conf", g->dir, name) < 0 ||
	    file_path(old, sizeof(old), "%s/%s.conf", to.dir, g->name) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", to.dir);
	r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	if (g->dry_run) {
		guest_edit_end(conf, lock);
		return 0;
	}
	/*
	 * The file has both names when the folder gets its new one: whenever this is interrupted,
	 * there is one guest, and it is whole.
	 */
	r = gconf_save(conf, second, err);
	if (r == 0) {
		r = guest_move(g->dir, &to, err);
		if (r < 0)
			unlink(second);
	}
	if (r == 0) {
		if (unlink(old) < 0 && errno != ENOENT)
			r = err_set(err, -errno, "%s is renamed, but %s cannot be removed: %s",
				    g->name, old, strerror(errno));
		glog_write(&to, "renamed from %s", g->name);
		*out = to;
	}
	guest_edit_end(conf, lock);
	return r;
}
