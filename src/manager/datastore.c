/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/datastore.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/prog.h"
#include "manager/run.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define KEY_SIZE (STORE_NAME_MAX + 16)
#define LIST_SIZE 4096

static const char *const prefixes[] = {
	[DATASTORE_GUESTS] = "", [DATASTORE_ISO] = "iso:", [DATASTORE_IMG] = "img:"
};

/* Where a ZFS dataset is mounted. */
static int find_dataset(struct datastore *d, const char *dataset, struct err *err)
{
	const char *const argv[] = {
		"zfs", "get", "-H", "-o", "value", "mountpoint", dataset, NULL
	};
	char *out;
	int r = str_copy(d->dataset, sizeof(d->dataset), dataset);

	/* Anything else might be taken for an option. */
	if (r < 0 || dataset[0] == '-')
		return err_set(err, -EINVAL, "%.64s doesn't seem to be a valid, mounted dataset",
			       dataset);
	r = prog_run(argv, NULL, &out, err);
	if (r < 0)
		return err_prefix(err, r, "%s doesn't seem to be a valid, mounted dataset",
				  dataset);
	out[strcspn(out, "\n")] = '\0';
	r = out[0] == '/' ? str_copy(d->path, sizeof(d->path), out) : -EINVAL;
	free(out);
	return r < 0 ? err_set(err, r, "%s doesn't seem to be a valid, mounted dataset", dataset)
		     : 0;
}

/* Takes path_NAME apart. */
static int parse(struct datastore *d, const char *spec, struct err *err)
{
	size_t len;

	d->kind = DATASTORE_GUESTS;
	if (str_starts(spec, "zfs:"))
		return find_dataset(d, spec + 4, err);
	for (size_t i = DATASTORE_ISO; i < ARRAY_LEN(prefixes); i++) {
		if (str_starts(spec, prefixes[i])) {
			d->kind = (enum datastore_kind)i;
			spec += strlen(prefixes[i]);
		}
	}
	len = strlen(spec);
	while (len > 1 && spec[len - 1] == '/')
		len--;
	if (spec[0] != '/' || file_path(d->path, sizeof(d->path), "%.*s", (int)len, spec) < 0)
		return err_set(err, -EINVAL, K(004) "'%.200s' is not an absolute path", spec);
	return 0;
}

static bool is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool datastore_is_there(const struct datastore *d)
{
	char path[PATH_MAX];

	if (d->kind != DATASTORE_GUESTS)
		return is_folder(d->path);
	return file_path(path, sizeof(path), "%s/.trash", d->path) == 0 && is_folder(path);
}

static const char *get_path(const struct gconf *g, const char *name)
{
	char key[KEY_SIZE];

	return file_path(key, sizeof(key), "path_%s", name) < 0 ? NULL : gconf_get(g, key);
}

/* One name of datastore_list. A line that makes no sense is a datastore that is not there. */
static int load_one(struct store *s, const struct gconf *g, const char *name, struct err *err)
{
	const char *spec = get_path(g, name);
	struct datastore *more, d = { .name = "" };

	if (!spec || !store_name_valid(name) || str_copy(d.name, sizeof(d.name), name) < 0)
		return 0;
	if (parse(&d, spec, NULL) < 0)
		(void)str_copy(d.path, sizeof(d.path), spec);
	more = realloc(s->others, (s->other_count + 1) * sizeof(*more));
	if (!more)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	more[s->other_count++] = d;
	s->others = more;
	return 0;
}

int datastore_load(struct store *s, struct err *err)
{
	char name[STORE_NAME_MAX + 1];
	struct gconf *g;
	const char *p;
	int r = switch_load(s, &g, err);

	/* A store that is not ours has nothing for us to read. */
	if (r == -EACCES || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return r;
	p = gconf_get(g, "datastore_list");
	for (p = p ? p + strspn(p, " \t") : ""; r == 0 && *p; p += strspn(p, " \t")) {
		size_t len = strcspn(p, " \t");

		if (file_path(name, sizeof(name), "%.*s", (int)len, p) == 0)
			r = load_one(s, g, name, err);
		p += len;
	}
	gconf_free(g);
	return r;
}

/* --- changes --- */

static const struct datastore *find(const struct store *s, const char *name)
{
	for (size_t i = 0; i < s->other_count; i++) {
		if (strcmp(s->others[i].name, name) == 0)
			return &s->others[i];
	}
	return NULL;
}

/* Makes the folder by which it is known to be there. */
static int check_place(const struct store *s, struct datastore *d, const char *spec,
		       struct err *err)
{
	char trash[PATH_MAX], *full = realpath(d->path, NULL), *home = realpath(s->dir, NULL);
	bool same = full && home && strcmp(full, home) == 0;

	free(home);
	if (!full || !is_folder(full)) {
		free(full);
		return err_set(err, -ENOENT,
			       d->kind == DATASTORE_GUESTS
				       ? "%s doesn't seem to be a valid directory"
				       : "specified directory does not appear to be valid: %s",
			       spec);
	}
	free(full);
	if (d->kind != DATASTORE_GUESTS)
		return 0;
	if (same)
		return err_set(err, -EEXIST,
			       K(024) "specified path already exists as default datastore");
	if (file_path(trash, sizeof(trash), "%s/.trash", d->path) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", d->path);
	if (!s->dry_run && mkdir(trash, 0755) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make folder %s: %s", trash, strerror(errno));
	return 0;
}

static int set(struct gconf *g, const char *key, const char *value, struct err *err)
{
	int r = gconf_set(g, key, value);

	return r < 0 ? err_set(err, r, "%s cannot be written to %s: %s", value, gconf_path(g),
			       strerror(-r))
		     : 0;
}

int datastore_add(const struct store *s, enum datastore_kind kind, const char *name,
		  const char *spec, struct err *err)
{
	char value[PATH_MAX + 8], key[KEY_SIZE], list[LIST_SIZE];
	struct datastore d = { .name = "" };
	struct switch_edit e;
	const char *old;
	int r;

	if (!store_name_valid(name))
		return err_set(err, -EINVAL, K(005) "invalid datastore name - '%.64s'", name);
	if (strcmp(name, STORE_DEFAULT) == 0 || find(s, name))
		return err_set(err, -EEXIST, K(024) "datastore '%s' already exists!", name);
	if (file_path(value, sizeof(value), "%s%s", prefixes[kind], spec) < 0 ||
	    (kind != DATASTORE_GUESTS && strchr(spec, ':')))
		return err_set(err, -EINVAL, K(004) "'%.64s' is not an absolute path", spec);
	r = parse(&d, value, err);
	if (r == 0)
		r = check_place(s, &d, spec, err);
	if (r == 0)
		r = switch_edit_begin(s, &e, err);
	if (r != 0)
		return r;
	old = gconf_get(e.conf, "datastore_list");
	(void)file_path(key, sizeof(key), "path_%s", name);
	if (get_path(e.conf, name))
		r = err_set(err, -EEXIST, K(024) "datastore '%s' already exists!", name);
	else if (file_path(list, sizeof(list), "%s%s%s", old ? old : "", old && *old ? " " : "",
			   name) < 0)
		r = err_set(err, -E2BIG, "there are too many datastores");
	if (r == 0)
		r = set(e.conf, key, value, err);
	if (r == 0)
		r = set(e.conf, "datastore_list", list, err);
	if (r < 0) {
		(void)switch_edit_end(&e, false, NULL);
		return r;
	}
	return switch_edit_end(&e, true, err);
}

static int refuse_running(void *arg, const struct guest *g)
{
	struct run_state state;

	if (strcmp(g->store, arg) != 0)
		return 0;
	run_query(g, &state);
	return state.kind == RUN_STOPPED ? 0 : -EBUSY;
}

int datastore_remove(const struct store *s, const char *name, struct err *err)
{
	char key[KEY_SIZE], list[LIST_SIZE] = "";
	struct switch_edit e;
	const char *p;
	int r;

	if (strcmp(name, STORE_DEFAULT) == 0)
		return err_set(err, -EINVAL, "cannot remove default datastore");
	if (!find(s, name))
		return err_set(err, -ENOENT, "unable to locate the specified dataset");
	if (store_each(s, refuse_running, (void *)name) == -EBUSY)
		return err_set(err, -EBUSY, "a guest in datastore %s runs; stop it first", name);
	r = switch_edit_begin(s, &e, err);
	if (r < 0)
		return r;
	p = gconf_get(e.conf, "datastore_list");
	for (p = p ? p + strspn(p, " \t") : ""; *p; p += strspn(p, " \t")) {
		size_t len = strcspn(p, " \t"), at = strlen(list);

		if (strlen(name) != len || strncmp(p, name, len) != 0)
			(void)file_path(list + at, sizeof(list) - at, "%s%.*s", at ? " " : "",
					(int)len, p);
		p += len;
	}
	(void)file_path(key, sizeof(key), "path_%s", name);
	gconf_unset(e.conf, key);
	if (list[0])
		r = set(e.conf, "datastore_list", list, err);
	else
		gconf_unset(e.conf, "datastore_list");
	if (r < 0) {
		(void)switch_edit_end(&e, false, NULL);
		return r;
	}
	return switch_edit_end(&e, true, err);
}
