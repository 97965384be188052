/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/removed.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guest.h"
#include "util/err.h"
#include "util/str.h"

#define REMOVED_DIR ".removed"
/* Two guests of one name in one second: the second one is said to be later. */
#define TRIES 100

static int entry_path(const struct store *s, const struct removed *e, char *out, size_t size)
{
	return file_path(out, size, "%s/" REMOVED_DIR "/%lld-%s", s->dir, (long long)e->when,
			 e->name);
}

static bool parse(const char *text, struct removed *out)
{
	char *end;
	long long when = strtoll(text, &end, 10);

	if (end == text || *end != '-' || when <= 0 || !store_name_valid(end + 1))
		return false;
	out->when = (time_t)when;
	return str_copy(out->name, sizeof(out->name), end + 1) == 0;
}

static int compare(const void *a, const void *b)
{
	const struct removed *x = a, *y = b;

	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	return strcmp(x->name, y->name);
}

struct list {
	struct removed *entries;
	size_t count;
};

static int add_view(void *arg, const struct store *view)
{
	struct list *l = arg;
	struct removed entry;
	char dir[PATH_MAX];
	struct dirent *e;
	int r = file_path(dir, sizeof(dir), "%s/" REMOVED_DIR, view->dir);
	DIR *d = r < 0 ? NULL : opendir(dir);

	if (!d && r == 0 && errno != ENOENT)
		r = -errno;
	while (d && r == 0 && (e = readdir(d))) {
		struct removed *more;

		if (!parse(e->d_name, &entry))
			continue;
		(void)str_copy(entry.store, sizeof(entry.store), view->name);
		more = realloc(l->entries, (l->count + 1) * sizeof(*more));
		if (more) {
			l->entries = more;
			more[l->count++] = entry;
		} else {
			r = -ENOMEM;
		}
	}
	if (d)
		closedir(d);
	return r;
}

int removed_list(const struct store *s, struct removed **out, size_t *count)
{
	struct list l = { 0 };
	int r = store_each_view(s, add_view, &l);

	if (r < 0) {
		free(l.entries);
		return r;
	}
	if (l.count)
		qsort(l.entries, l.count, sizeof(*l.entries), compare);
	*out = l.entries;
	*count = l.count;
	return 0;
}

int removed_add(const struct guest *g, struct err *err)
{
	struct removed e = { .when = time(NULL) };
	char dir[PATH_MAX], path[PATH_MAX];
	struct store s;
	int r;

	store_around(g, &s);
	r = file_path(dir, sizeof(dir), "%s/" REMOVED_DIR, s.dir);
	if (r == 0)
		r = str_copy(e.name, sizeof(e.name), g->name);
	if (r == 0 && mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = -errno;
	for (int i = 0; r == 0 && i < TRIES; i++, e.when++) {
		r = entry_path(&s, &e, path, sizeof(path));
		if (r == 0)
			r = file_move_new(g->dir, path);
		if (r != -EEXIST)
			break;
		r = 0;
	}
	if (r < 0)
		return err_set(err, r, "cannot remove %s: %s", g->dir, strerror(-r));
	r = file_settle(dir, path, err);
	return r < 0 ? r : file_settle(s.dir, path, err);
}

int removed_restore(const struct store *s, const char *name, struct err *err)
{
	struct removed *list;
	char path[PATH_MAX];
	struct store view;
	struct guest g;
	size_t count;
	int r = removed_list(s, &list, &count);

	if (r < 0)
		return err_set(err, r, "cannot read %s/" REMOVED_DIR ": %s", s->dir, strerror(-r));
	while (count > 0 && strcmp(list[count - 1].name, name) != 0)
		count--;
	if (count == 0)
		r = err_set(err, -ENOENT,
			    K(016) "%.64s is not in the trash; 'vm trash list' shows it", name);
	else if (store_find(s, name, &g) == 0)
		r = err_set(err, -EEXIST, K(024) "virtual machine already exists in %s", g.dir);
	else
		r = store_view(s, list[count - 1].store, &view, err);
	if (r == 0 && (store_guest(&view, name, &g) < 0 ||
		       entry_path(&view, &list[count - 1], path, sizeof(path)) < 0))
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", view.dir);
	if (r == 0 && !s->dry_run)
		r = guest_move(path, &g, err);
	free(list);
	return r;
}

/* By way of .trash: what is half removed cannot be brought back. */
static int remove_entry(const struct store *s, const struct removed *e, struct err *err)
{
	struct guest g = { 0 };
	struct store view;
	int r = store_view(s, e->store, &view, err);

	if (r < 0)
		return r;
	r = entry_path(&view, e, g.dir, sizeof(g.dir));
	if (r == 0)
		r = str_copy(g.name, sizeof(g.name), e->name);
	return r < 0 ? err_set(err, r, "%s: %s", view.dir, strerror(-r))
		     : store_remove(&view, &g, err);
}

int removed_empty(const struct store *s, const char *name, time_t before, struct err *err)
{
	struct removed *list;
	size_t count;
	int done = 0, r = removed_list(s, &list, &count);

	if (r < 0)
		return err_set(err, r, "cannot read %s/" REMOVED_DIR ": %s", s->dir, strerror(-r));
	for (size_t i = 0; r == 0 && i < count; i++) {
		if (list[i].when >= before || (name && strcmp(name, list[i].name) != 0))
			continue;
		if (!s->dry_run)
			r = remove_entry(s, &list[i], err);
		/* Somebody else was quicker. */
		if (r == -ENOENT)
			r = 0;
		else
			done += r == 0;
	}
	free(list);
	return r < 0 ? r : done;
}
