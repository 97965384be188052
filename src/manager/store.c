/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/store.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/datastore.h"
#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/lock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define CONF_PATH "/etc/khyve/khyve.conf"
#define DEFAULT_DIR "/var/lib/khyve"
#define DEFAULT_DELAY 2

/* ~/.local/share/khyve, where the base directory specification puts it. */
static int personal_dir(char *out, size_t size)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	const struct passwd *pw;

	if (data && data[0] == '/')
		return file_path(out, size, "%s/khyve", data);
	if (!home || home[0] != '/') {
		pw = getpwuid(geteuid());
		home = pw ? pw->pw_dir : "/";
	}
	return file_path(out, size, "%s/.local/share/khyve", home);
}

/* The templates of the build tree or of the installation that this program belongs to. */
static int find_share(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;
	int r;

	if (n < 0)
		return -errno;
	self[n] = '\0';
	slash = strrchr(self, '/');
	if (slash)
		*slash = '\0';
	r = file_path(out, size, "%s/share/templates", self);
	if (r < 0 || access(out, R_OK) == 0)
		return r;
	return file_path(out, size, "%s/../share/khyve/templates", self);
}

/* vm_dir as given by value, which where names. */
static int set_dir(struct store *s, const char *value, const char *where, struct err *err)
{
	size_t len = strlen(value);

	if (str_starts(value, "zfs:"))
		return err_set(
			err, -ENOTSUP,
			K(035) "%s: '%s': ZFS datasets are not supported yet; give the dataset's mount point",
			where, value);
	if (value[0] != '/' || strpbrk(value, "\n\r"))
		return err_set(err, -EINVAL, "%s: '%s' is not an absolute path", where, value);
	while (len > 1 && value[len - 1] == '/')
		len--;
	if (file_path(s->dir, sizeof(s->dir), "%.*s", (int)len, value) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", where);
	return 0;
}

static int read_conf(struct store *s, const char *path, struct err *err)
{
	const char *delay, *dir, *list;
	struct gconf *g;
	uint64_t seconds;
	int r = gconf_load(path, &g, err);

	if (r == -ENOENT && !getenv("KHYVE_CONF"))
		return 0;
	if (r < 0)
		return r;
	dir = gconf_get(g, "vm_dir");
	if (!s->dir[0] && dir && dir[0])
		r = set_dir(s, dir, gconf_where(g, "vm_dir"), err);
	if (r == 0 && !gconf_bool(g, "vm_enable", true))
		r = err_set(err, -EPERM, "$vm_enable is not enabled in %s!", path);
	delay = gconf_get(g, "vm_delay");
	if (r == 0 && delay && delay[0]) {
		if (str_u64(delay, &seconds) < 0 || seconds > 86400)
			r = err_set(err, -EINVAL,
				    K(004) "%s: vm_delay: '%s' is not a number of seconds",
				    gconf_where(g, "vm_delay"), delay);
		else
			s->delay = (unsigned)seconds;
	}
	list = gconf_get(g, "vm_list");
	if (r == 0 && list && !(s->list = strdup(list)))
		r = err_set(err, -ENOMEM, K(080) "%s: out of memory", path);
	gconf_free(g);
	return r;
}

int store_open(struct store *s, struct err *err)
{
	const char *env = getenv("VM_DIR"), *path = getenv("KHYVE_CONF");
	int r = 0;

	*s = (struct store){ .name = STORE_DEFAULT, .delay = DEFAULT_DELAY };
	if (env && env[0])
		r = set_dir(s, env, "VM_DIR", err);
	if (r == 0)
		r = read_conf(s, path && path[0] ? path : CONF_PATH, err);
	if (r == 0 && find_share(s->share, sizeof(s->share)) < 0)
		r = err_set(err, -ENOENT,
			    "cannot find out where this program is: is /proc mounted?");
	if (r == 0 && !s->dir[0]) {
		r = geteuid() == 0 ? file_path(s->dir, sizeof(s->dir), DEFAULT_DIR)
				   : personal_dir(s->dir, sizeof(s->dir));
		if (r < 0)
			err_set(err, r, "the home folder's path is too long; set VM_DIR");
	}
	if (r == 0)
		r = str_copy(s->home, sizeof(s->home), s->dir);
	if (r == 0)
		r = datastore_load(s, err);
	if (r < 0)
		store_close(s);
	return r;
}

void store_close(struct store *s)
{
	free(s->list);
	free(s->others);
	s->list = NULL;
	s->others = NULL;
	s->other_count = 0;
}

int store_check(const struct store *s, struct err *err)
{
	struct stat st;

	if (stat(s->dir, &st) < 0 && errno != ENOENT)
		return err_set(err, -errno,
			       K(034) "%s: %s; run as root, or set VM_DIR to a folder of your own",
			       s->dir, strerror(errno));
	if (access(s->dir, F_OK) < 0 || !S_ISDIR(st.st_mode))
		return err_set(err, -ENOENT,
			       K(015) "%s is not a valid directory; 'vm init' makes it", s->dir);
	if (access(s->dir, R_OK | X_OK) < 0)
		return err_set(err, -errno,
			       K(034) "%s: %s; run as root, or set VM_DIR to a folder of your own",
			       s->dir, strerror(errno));
	return 0;
}

static int make_null_iso(const struct store *s, struct err *err)
{
	char path[PATH_MAX];
	int fd;

	if (file_path(path, sizeof(path), "%s/.config/null.iso", s->dir) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->dir);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	close(fd);
	return 0;
}

int store_make(const struct store *s, bool with_parents, struct err *err)
{
	static const char *const folders[] = { ".config",    ".config/switches",
					       ".templates", ".iso",
					       ".img",	     ".trash" };
	int r = with_parents ? file_make_dirs(s->dir, 0755, err) : store_check(s, err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(folders); i++) {
		char path[PATH_MAX];

		if (file_path(path, sizeof(path), "%s/%s", s->dir, folders[i]) < 0)
			return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long",
				       s->dir);
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			return err_set(
				err, -errno,
				K(034) "cannot make folder %s: %s; run as root, or set VM_DIR to a folder of your own",
				path, strerror(errno));
	}
	if (r == 0)
		r = make_null_iso(s, err);
	if (r == 0)
		store_purge(s);
	return r;
}

bool store_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 2 || len > STORE_NAME_MAX || !isalnum((unsigned char)name[0]) ||
	    !isalnum((unsigned char)name[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++) {
		if (!isascii(name[i]) ||
		    (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i])))
			return false;
	}
	return true;
}

int store_guest(const struct store *s, const char *name, struct guest *out)
{
	struct guest g = { 0 };

	if (file_path(g.name, sizeof(g.name), "%s", name) < 0 ||
	    file_path(g.dir, sizeof(g.dir), "%s/%s", s->dir, name) < 0 ||
	    file_path(g.conf, sizeof(g.conf), "%s/%s.conf", g.dir, name) < 0 ||
	    str_copy(g.store, sizeof(g.store), s->name) < 0 ||
	    str_copy(g.home, sizeof(g.home), s->home) < 0)
		return -ENAMETOOLONG;
	g.dry_run = s->dry_run;
	*out = g;
	return 0;
}

/* The same for a guest that is in this datastore. */
static int find_here(const struct store *s, const char *name, struct guest *out)
{
	struct guest g;
	int r = store_guest(s, name, &g);

	if (r == 0 && access(g.conf, F_OK) < 0)
		r = errno == EACCES ? -EACCES : -ENOENT;
	if (r == 0)
		*out = g;
	return r;
}

struct search {
	const char *name;
	struct guest *out;
	int hidden;
};

static int search_view(void *arg, const struct store *view)
{
	struct search *q = arg;
	int r = find_here(view, q->name, q->out);

	if (r == -EACCES)
		q->hidden = r;
	return r == 0;
}

int store_find(const struct store *s, const char *name, struct guest *out)
{
	struct search q = { .name = name, .out = out };
	int r;

	if (!store_name_valid(name))
		return -ENOENT;
	r = store_each_view(s, search_view, &q);
	if (r > 0)
		return 0;
	return r < 0 ? r : q.hidden ? q.hidden : -ENOENT;
}

int store_of(const struct guest *g, struct store *out)
{
	*out = (struct store){ .name = STORE_DEFAULT,
			       .delay = DEFAULT_DELAY,
			       .dry_run = g->dry_run };
	if (str_copy(out->dir, sizeof(out->dir), g->home) < 0)
		return -ENAMETOOLONG;
	return str_copy(out->home, sizeof(out->home), g->home);
}

void store_around(const struct guest *g, struct store *out)
{
	/* All of these are as large as those that they come from. */
	(void)store_of(g, out);
	(void)file_path(out->dir, sizeof(out->dir), "%.*s", (int)(file_base(g->dir) - g->dir - 1),
			g->dir);
	(void)str_copy(out->name, sizeof(out->name), g->store);
}

/* One of the other datastores as a store of its own. */
static int view_of(const struct store *s, const struct datastore *d, struct store *out)
{
	*out = (struct store){ .delay = s->delay, .dry_run = s->dry_run };
	if (str_copy(out->name, sizeof(out->name), d->name) < 0 ||
	    str_copy(out->dir, sizeof(out->dir), d->path) < 0 ||
	    str_copy(out->home, sizeof(out->home), s->home) < 0)
		return -ENAMETOOLONG;
	return 0;
}

int store_view(const struct store *s, const char *name, struct store *out, struct err *err)
{
	if (strcmp(name, STORE_DEFAULT) == 0) {
		*out = *s;
		out->list = NULL;
		out->others = NULL;
		out->other_count = 0;
		return 0;
	}
	for (size_t i = 0; i < s->other_count; i++) {
		const struct datastore *d = &s->others[i];

		if (strcmp(d->name, name) != 0 || d->kind != DATASTORE_GUESTS)
			continue;
		if (!datastore_is_there(d))
			return err_set(err, -ENOENT, "datastore %s is not mounted: %s", name,
				       d->path);
		return view_of(s, d, out) < 0 ? err_set(err, -ENAMETOOLONG,
							K(053) "%s: the path is too long", d->path)
					      : 0;
	}
	return err_set(err, -ENOENT, K(015) "unable to load datastore - '%.64s'", name);
}

int store_each_view(const struct store *s, int (*fn)(void *arg, const struct store *view),
		    void *arg)
{
	int r = fn(arg, s);

	for (size_t i = 0; r == 0 && i < s->other_count; i++) {
		const struct datastore *d = &s->others[i];
		struct store view;

		if (d->kind == DATASTORE_GUESTS && datastore_is_there(d) &&
		    view_of(s, d, &view) == 0)
			r = fn(arg, &view);
	}
	return r;
}

static int no_dots(const struct dirent *e)
{
	return e->d_name[0] != '.' && store_name_valid(e->d_name);
}

struct walk {
	int (*fn)(void *arg, const struct guest *g);
	void *arg;
	int hidden;
};

static int walk_view(void *arg, const struct store *view)
{
	struct walk *w = arg;
	struct dirent **entries;
	int n = scandir(view->dir, &entries, no_dots, alphasort), r = 0;

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		struct guest g;
		int found = find_here(view, entries[i]->d_name, &g);

		if (r == 0 && found == 0)
			r = w->fn(w->arg, &g);
		if (found == -EACCES)
			w->hidden = found;
		free(entries[i]);
	}
	free(entries);
	return r;
}

int store_each(const struct store *s, int (*fn)(void *arg, const struct guest *g), void *arg)
{
	struct walk w = { .fn = fn, .arg = arg };
	int r = store_each_view(s, walk_view, &w);

	return r ? r : w.hidden;
}

unsigned store_autostart(const struct store *s, const char *name)
{
	const char *p = s->list ? s->list : "";
	size_t len = strlen(name);

	for (unsigned place = 1;; place++) {
		size_t word;

		p += strspn(p, " \t,");
		if (!*p)
			return 0;
		word = strcspn(p, " \t,");
		if (word == len && strncmp(p, name, len) == 0)
			return place;
		p += word;
	}
}

int store_template(const struct store *s, const char *name, char *out, size_t size, struct err *err)
{
	char path[PATH_MAX];

	if (!name[0] || name[0] == '.' || strchr(name, '/') ||
	    file_path(path, sizeof(path), "%s/.templates/%s.conf", s->dir, name) < 0)
		return err_set(err, -EINVAL, K(005) "invalid template name - '%.64s'", name);
	if (access(path, R_OK) == 0)
		return file_path(out, size, "%s", path);
	if (errno == ENOENT && file_path(out, size, "%s/%s.conf", s->share, name) == 0 &&
	    access(out, R_OK) == 0)
		return 0;
	return err_set(err, -ENOENT, K(012) "unable to find template %s; see the folder, or %s",
		       path, s->share);
}

static int find_media(const struct store *s, enum datastore_kind kind, const char *name, char *out,
		      size_t size)
{
	char cwd[PATH_MAX];
	struct stat st;
	int r;

	if (name[0] == '/')
		r = file_path(out, size, "%s", name);
	else if (getcwd(cwd, sizeof(cwd)))
		r = file_path(out, size, "%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, name);
	else
		r = -errno;
	if (r == 0 && stat(out, &st) == 0 && !S_ISDIR(st.st_mode) && access(out, R_OK) == 0)
		return 0;
	if (name[0] == '/' || strchr(name, '/'))
		return -ENOENT;
	r = file_path(out, size, "%s/%s/%s", s->dir, kind == DATASTORE_ISO ? ".iso" : ".img", name);
	if (r == 0 && stat(out, &st) == 0 && S_ISREG(st.st_mode) && access(out, R_OK) == 0)
		return 0;
	for (size_t i = 0; i < s->other_count; i++) {
		const struct datastore *d = &s->others[i];

		if (d->kind == kind && file_path(out, size, "%s/%s", d->path, name) == 0 &&
		    stat(out, &st) == 0 && S_ISREG(st.st_mode) && access(out, R_OK) == 0)
			return 0;
	}
	return -ENOENT;
}

int store_find_iso(const struct store *s, const char *name, char *out, size_t size)
{
	return find_media(s, DATASTORE_ISO, name, out, size);
}

int store_find_img(const struct store *s, const char *name, char *out, size_t size)
{
	return find_media(s, DATASTORE_IMG, name, out, size);
}

int store_stage(const struct store *s, const char *name, char *out, size_t size, int *lock,
		struct err *err)
{
	struct stat a, b;

	for (int tries = 0; tries < 10; tries++) {
		if (file_path(out, size, "%s/.trash/%s.XXXXXX", s->dir, name) < 0)
			return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long",
				       s->dir);
		if (!mkdtemp(out))
			return err_set(err, -errno, "cannot make folder %s: %s", out,
				       strerror(errno));
		*lock = lock_dir(out, true);
		/* Another command may have taken the folder for a leftover before it was locked. */
		if (*lock >= 0 && stat(out, &a) == 0 && fstat(*lock, &b) == 0 &&
		    a.st_ino == b.st_ino)
			return 0;
		fd_close(lock);
	}
	return err_set(err, -EBUSY, "cannot make a folder in %s/.trash", s->dir);
}

/* Removes an entry of .trash unless a running command holds it. */
static void purge_entry(int trash, const char *dir, const char *name)
{
	char path[PATH_MAX];
	int lock;

	if (file_path(path, sizeof(path), "%s/%s", dir, name) < 0)
		return;
	lock = lock_dir(path, false);
	/* What cannot be removed now stays for the next command. */
	if (lock != -EAGAIN)
		(void)file_remove_tree(trash, name);
	if (lock >= 0)
		close(lock);
}

static int purge_view(void *arg, const struct store *view)
{
	char dir[PATH_MAX];
	struct dirent *e;
	DIR *d;

	(void)arg;
	if (file_path(dir, sizeof(dir), "%s/.trash", view->dir) < 0)
		return 0;
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			purge_entry(dirfd(d), dir, e->d_name);
	}
	if (d)
		closedir(d);
	return 0;
}

void store_purge(const struct store *s)
{
	(void)store_each_view(s, purge_view, NULL);
}

int store_remove(const struct store *around, const struct guest *g, struct err *err)
{
	char stage[PATH_MAX], path[PATH_MAX];
	int lock, trash, r;

	r = store_stage(around, g->name, stage, sizeof(stage), &lock, err);
	if (r < 0)
		return r;
	r = file_path(path, sizeof(path), "%s/guest", stage);
	if (r == 0 && rename(g->dir, path) < 0)
		r = -errno;
	if (r < 0) {
		err_set(err, r, "cannot remove %s: %s", g->dir, strerror(-r));
		rmdir(stage);
		close(lock);
		return r;
	}
	r = file_sync_dir(around->dir);
	trash = open(stage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (r == 0)
		r = trash < 0 ? -errno : file_remove_tree(trash, "guest");
	fd_close(&trash);
	rmdir(stage);
	close(lock);
	return r < 0 ? err_set(err, r, "%s is gone, but its files are still in %s: %s", g->name,
			       stage, strerror(-r))
		     : 0;
}
