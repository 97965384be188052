/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guest_priv.h"
#include "manager/guestconf.h"
#include "manager/pack.h"
#include "manager/progress.h"
#include "manager/snapshot_priv.h"
#include "manager/unpack.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define IMAGES "images"
#define MANIFEST ".manifest"
#define NO_DESCRIPTION "No description provided"

static int path_of(const struct store *s, const char *name, const char *end, char *out,
		   struct err *err)
{
	return file_path(out, PATH_MAX, "%s/" IMAGES "/%s%s", s->home, name, end) < 0
		       ? err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->home)
		       : 0;
}

/* --- making --- */

/* Files without a manifest that nobody is at: what interrupted commands left. */
static void purge(const struct store *s)
{
	char dir[PATH_MAX], manifest[PATH_MAX];
	struct dirent *e;
	DIR *d = file_path(dir, sizeof(dir), "%s/" IMAGES, s->home) < 0 ? NULL : opendir(dir);

	while (d && (e = readdir(d))) {
		size_t len = strcspn(e->d_name + (e->d_name[0] == '.'), ".");
		int fd;

		if (!strstr(e->d_name, ".tar") ||
		    file_path(manifest, sizeof(manifest), "%s/%.*s" MANIFEST, dir, (int)len,
			      e->d_name + (e->d_name[0] == '.')) < 0 ||
		    access(manifest, F_OK) == 0)
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0) {
			file_clear_temps(dir, file_base(manifest), true);
			unlinkat(dirfd(d), e->d_name, 0);
		}
		fd_close(&fd);
	}
	if (d)
		closedir(d);
}

/* Adds the parts that a snapshot has too, which are in dir; with a NULL only counts their bytes. */
static int add_parts(struct archive *a, const char *dir, uint64_t *bytes, struct progress *p,
		     struct err *err)
{
	DIR *d = opendir(dir);
	char path[PATH_MAX];
	struct dirent *e;
	struct stat st;
	int r = 0;

	if (!d)
		return err_set(err, -errno, "cannot read %s: %s", dir, strerror(errno));
	while (r == 0 && (e = readdir(d))) {
		if (!snapshot_is_part(e->d_name) ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		*bytes += (uint64_t)st.st_blocks * 512;
		if (a && file_path(path, sizeof(path), "%s/%s", dir, e->d_name) == 0)
			r = pack_add(a, path, e->d_name, p, err);
	}
	closedir(d);
	return r;
}

static int pack(int fd, const struct guest *g, const char *dir, const struct image_spec *spec,
		struct err *err)
{
	struct archive *a = NULL;
	uint64_t bytes = 0;
	struct err ignored;
	int r = add_parts(NULL, dir, &bytes, NULL, err);

	if (r == 0)
		r = pack_open(fd, spec->compress, &a, err);
	progress_begin(spec->progress, 0, bytes);
	if (r == 0)
		r = pack_add(a, g->conf, SNAPSHOT_CONF, NULL, err);
	if (r == 0)
		r = add_parts(a, dir, &bytes, spec->progress, err);
	if (r < 0)
		(void)pack_close(a, &ignored);
	else
		r = pack_close(a, err);
	if (r == 0 && fsync(fd) < 0)
		r = err_set(err, -errno, "cannot write the image: %s", strerror(errno));
	if (r == 0)
		progress_end(spec->progress);
	return r;
}

/* The guest's files, or copies of a running guest's that are of one instant. */
static int pack_guest(int fd, const struct guest *g, const struct image_spec *spec, struct err *err)
{
	char stage[PATH_MAX];
	struct store around;
	int lock, r;

	if (!spec->live)
		return pack(fd, g, g->dir, spec, err);
	store_around(g, &around);
	r = store_stage(&around, g->name, stage, sizeof(stage), &lock, err);
	if (r < 0)
		return r;
	r = snapshot_copy_live(g, stage, NULL, err);
	if (r == 0)
		r = pack(fd, g, stage, spec, err);
	(void)file_remove_tree(AT_FDCWD, stage);
	close(lock);
	return r;
}

static int set(struct gconf *m, const char *key, const char *value, struct err *err)
{
	int r = gconf_set(m, key, value);

	return r < 0 ? err_set(err, r,
			       "the %s '%.64s' cannot be stored: it must not have quotes, # or "
			       "control characters",
			       key, value)
		     : 0;
}

static int make_manifest(const char *path, const struct guest *g, const struct image_spec *spec,
			 struct gconf **out, struct err *err)
{
	time_t now = time(NULL);
	struct gconf *m;
	char text[64];
	struct tm tm;
	int r;

	if (!localtime_r(&now, &tm) ||
	    !strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Z %Y", &tm))
		return err_set(err, -EIO, "cannot tell the time");
	r = gconf_parse(path, "", 0, &m, err);
	if (r < 0)
		return r;
	r = set(m, "description", spec->description ? spec->description : NO_DESCRIPTION, err);
	if (r == 0)
		r = set(m, "created", text, err);
	if (r == 0)
		r = set(m, "name", g->name, err);
	if (r == 0)
		*out = m;
	else
		gconf_free(m);
	return r;
}

/* Gives the tar file its name, and then the image its manifest. */
static int publish(const struct store *s, const char *part, const char *file, struct gconf *m,
		   struct err *err)
{
	char path[PATH_MAX], sum[80];
	int r = path_of(s, file, "", path, err);

	if (r == 0)
		r = fetch_digest(part, sum, sizeof(sum), err);
	if (r == 0)
		r = set(m, "filename", file, err);
	if (r == 0)
		r = set(m, "checksum", sum, err);
	if (r == 0 && rename(part, path) < 0)
		r = err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	if (r == 0) {
		r = gconf_save(m, gconf_path(m), err);
		if (r < 0) {
			unlink(gconf_path(m));
			unlink(path);
		}
	}
	return r;
}

int image_create(const struct store *s, const struct guest *g, const struct image_spec *spec,
		 char uuid[40], struct err *err)
{
	char dir[PATH_MAX], part[PATH_MAX], manifest[PATH_MAX], file[64];
	struct gconf *m = NULL;
	int fd, r = guest_make_uuid(uuid, 40);

	if (r < 0)
		return err_set(err, r, "no random numbers: %s", strerror(-r));
	r = path_of(s, "", "", dir, err);
	if (r < 0 || s->dry_run)
		return r;
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		r = err_set(err, -errno, "cannot make folder %s: %s", dir, strerror(errno));
	if (r == 0)
		r = path_of(s, uuid, MANIFEST, manifest, err);
	if (r == 0)
		r = make_manifest(manifest, g, spec, &m, err);
	if (r < 0)
		return r;
	purge(s);
	(void)file_path(file, sizeof(file), "%s.tar%s", uuid, spec->compress ? ".zst" : "");
	if (file_path(part, sizeof(part), "%s.%s", dir, file) < 0) {
		gconf_free(m);
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", dir);
	}
	fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		r = err_set(err, -errno, "cannot write %s: %s", part, strerror(errno));
	if (r == 0)
		r = pack_guest(fd, g, spec, err);
	if (r == 0)
		r = publish(s, part, file, m, err);
	if (r < 0)
		unlink(part);
	fd_close(&fd);
	gconf_free(m);
	return r;
}

/* --- the list --- */

static int load(const struct store *s, const char *uuid, struct gconf **out, struct err *err)
{
	char path[PATH_MAX];
	int r;

	if (!store_name_valid(uuid))
		return err_set(err, -ENOENT, "unable to locate image with uuid %.64s", uuid);
	r = path_of(s, uuid, MANIFEST, path, err);
	if (r == 0)
		r = gconf_load(path, out, err);
	return r == -ENOENT ? err_set(err, r,
				      "unable to locate image with uuid %s; 'vm image list' "
				      "shows them",
				      uuid)
			    : r;
}

static void take(const struct gconf *m, const char *key, char *out, size_t size)
{
	const char *value = gconf_get(m, key);

	(void)str_copy(out, size, value ? value : "");
}

static int add_entry(const struct store *s, const char *uuid, struct image **list, size_t *count)
{
	struct image *more = realloc(*list, (*count + 1) * sizeof(*more)), *i;
	char path[PATH_MAX];
	const char *file;
	struct gconf *m;
	struct stat st;

	if (!more)
		return -ENOMEM;
	*list = more;
	i = &more[*count];
	*i = (struct image){ .bytes = 0 };
	if (str_copy(i->uuid, sizeof(i->uuid), uuid) < 0 || load(s, uuid, &m, NULL) < 0)
		return 0;
	take(m, "name", i->name, sizeof(i->name));
	take(m, "created", i->created, sizeof(i->created));
	take(m, "description", i->description, sizeof(i->description));
	file = gconf_get(m, "filename");
	if (file && path_of(s, file, "", path, NULL) == 0 && stat(path, &st) == 0)
		i->bytes = (uint64_t)st.st_size;
	gconf_free(m);
	(*count)++;
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct image *)a)->uuid, ((const struct image *)b)->uuid);
}

int image_list(const struct store *s, struct image **out, size_t *count)
{
	char dir[PATH_MAX], uuid[40];
	struct image *list = NULL;
	struct dirent *e;
	size_t n = 0;
	int r = path_of(s, "", "", dir, NULL);
	DIR *d = r < 0 ? NULL : opendir(dir);

	if (r == 0 && !d && errno != ENOENT)
		r = -errno;
	while (d && r == 0 && (e = readdir(d))) {
		size_t len = strlen(e->d_name);

		if (e->d_name[0] != '.' && str_ends(e->d_name, MANIFEST) &&
		    file_path(uuid, sizeof(uuid), "%.*s", (int)(len - strlen(MANIFEST)),
			      e->d_name) == 0)
			r = add_entry(s, uuid, &list, &n);
	}
	if (d)
		closedir(d);
	if (r < 0) {
		free(list);
		return r;
	}
	if (n)
		qsort(list, n, sizeof(*list), compare);
	*out = list;
	*count = n;
	return 0;
}

/* --- using and removing --- */

/* The tar file's path, if it is one that can be read here. */
static int find_file(const struct store *s, const struct gconf *m, char *out, struct err *err)
{
	const char *file = gconf_get(m, "filename");
	int r;

	if (!file || !file[0] || strchr(file, '/') || file[0] == '.')
		return err_set(err, -EINVAL, "%s: there is no filename", gconf_path(m));
	if (!str_ends(file, ".tar") && !str_ends(file, ".tar.zst"))
		return err_set(err, -EINVAL,
			       "unsupported guest image type - '%.64s': only tar files can be read",
			       file);
	r = path_of(s, file, "", out, err);
	if (r == 0 && access(out, R_OK) < 0)
		r = err_set(err, -errno, "image data file does not exist: %s", out);
	return r;
}

/* Makes the guest's own file of the one that it was made of. */
static int adopt(const char *stage, const char *name, struct err *err)
{
	char from[PATH_MAX], to[PATH_MAX];
	struct gconf *conf;
	int r;

	if (file_path(from, sizeof(from), "%s/" SNAPSHOT_CONF, stage) < 0 ||
	    file_path(to, sizeof(to), "%s/%s.conf", stage, name) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", stage);
	r = gconf_load(from, &conf, err);
	if (r == -ENOENT)
		return err_set(err, -EINVAL, "the image has no file of a guest");
	if (r < 0)
		return r;
	snapshot_unset_unique(conf);
	r = gconf_save(conf, to, err);
	gconf_free(conf);
	/* The guest may be called like that. */
	if (r == 0 && strcmp(from, to) != 0)
		unlink(from);
	return r;
}

static bool is_part(const char *name)
{
	return strcmp(name, SNAPSHOT_CONF) == 0 || snapshot_is_part(name);
}

static int provision_at(const struct store *view, const struct guest *g, const char *file,
			struct progress *p, struct err *err)
{
	char stage[PATH_MAX];
	int lock, r = store_stage(view, g->name, stage, sizeof(stage), &lock, err);

	if (r < 0)
		return r;
	r = unpack_folder(file, stage, is_part, p, err);
	if (r == 0)
		r = adopt(stage, g->name, err);
	if (r == 0)
		r = guest_move(stage, g, err);
	if (r < 0)
		(void)file_remove_tree(AT_FDCWD, stage);
	close(lock);
	return r;
}

int image_provision(const struct store *s, const char *uuid, const char *datastore,
		    const char *name, struct progress *progress, struct err *err)
{
	char file[PATH_MAX];
	const char *sum;
	struct gconf *m;
	struct store view;
	struct guest g;
	int r;

	if (!store_name_valid(name))
		return err_set(
			err, -EINVAL,
			K(005) "invalid virtual machine name - '%.64s': 2 to %d letters, digits and . - _",
			name, STORE_NAME_MAX);
	if (store_find(s, name, &g) == 0)
		return err_set(err, -EEXIST, K(024) "virtual machine already exists in %s", g.dir);
	r = store_view(s, datastore ? datastore : STORE_DEFAULT, &view, err);
	if (r < 0)
		return r;
	if (store_guest(&view, name, &g) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", view.dir);
	r = load(s, uuid, &m, err);
	if (r < 0)
		return r;
	r = find_file(s, m, file, err);
	sum = gconf_get(m, "checksum");
	if (r == 0 && sum) {
		r = fetch_check(file, sum, err);
		if (r == -EBADMSG)
			err_prefix(err, r, "image %s is damaged", uuid);
	}
	gconf_free(m);
	if (s->dry_run)
		return r;
	if (r == 0)
		r = provision_at(&view, &g, file, progress, err);
	if (r == 0)
		glog_write(&g, "made from image %s", uuid);
	return r;
}

int image_destroy(const struct store *s, const char *uuid, struct err *err)
{
	char path[PATH_MAX], manifest[PATH_MAX];
	const char *file;
	struct gconf *m;
	int r = load(s, uuid, &m, err);

	if (r < 0)
		return r;
	file = gconf_get(m, "filename");
	path[0] = '\0';
	if (file && file[0] && file[0] != '.' && !strchr(file, '/'))
		r = path_of(s, file, "", path, err);
	if (r == 0)
		r = path_of(s, uuid, MANIFEST, manifest, err);
	if (s->dry_run) {
		gconf_free(m);
		return r;
	}
	/* The manifest goes first: what is left without one is removed some time. */
	if (r == 0 && unlink(manifest) < 0)
		r = err_set(err, -errno, "cannot remove %s: %s", manifest, strerror(errno));
	if (r == 0 && path[0] && unlink(path) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "the image is gone, but %s cannot be removed: %s", path,
			    strerror(errno));
	gconf_free(m);
	return r;
}
