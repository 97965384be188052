/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/disk.h"
#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest_priv.h"
#include "manager/guestconf.h"
#include "manager/lock.h"
#include "manager/plan.h"
#include "manager/seed.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define SECTOR 512u

int guest_make_uuid(char *out, size_t size)
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (b[6] & 0x0f) | 0x40; /* RFC 9562 s5.4: version 4 */
	b[8] = (b[8] & 0x3f) | 0x80;
	return file_path(out, size,
			 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
			 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
			 b[12], b[13], b[14], b[15]);
}

/* 58:9c:fc, then a zero nibble and 20 random bits, as vm-bhyve has it. */
static int make_mac(char *out, size_t size)
{
	uint8_t b[3];

	do {
		if (getrandom(b, sizeof(b), 0) != sizeof(b))
			return -EIO;
		b[0] &= 0x0f;
	} while (!b[0] && !b[1] && !b[2]);
	return file_path(out, size, "58:9c:fc:%02x:%02x:%02x", b[0], b[1], b[2]);
}

int guest_disk_size(const char *text, uint64_t *out, struct err *err)
{
	uint64_t size;

	if (str_size(text, 1, &size) < 0 || size < MIB || size > INT64_MAX - SECTOR)
		return err_set(err, -EINVAL,
			       K(006) "invalid disk size - '%.64s': give a size such as 20G", text);
	*out = ALIGN_UP(size, (uint64_t)SECTOR);
	return 0;
}

/*
 * The size of disk n of a new guest: the caller's for disk 0, else the template's, else the
 * default.
 */
static int size_of_disk(const struct gconf *g, unsigned n, uint64_t disk0, uint64_t *out,
			struct err *err)
{
	const char *text = gconf_getf(g, "disk%u_size", n);

	*out = GUEST_DISK_SIZE;
	if (n == 0 && disk0) {
		*out = disk0;
		return 0;
	}
	return text && *text ? guest_disk_size(text, out, err) : 0;
}

/* Disk n of a new guest: the first one may be a copy of an image. */
static int make_disk(const char *path, unsigned n, uint64_t size, const struct guest_spec *spec,
		     struct err *err)
{
	return n == 0 && spec->image ? disk_image_put(spec->image, path, size, spec->progress, err)
				     : file_make_sparse(path, size, err);
}

static int make_disks(struct gconf *g, const char *dir, const struct guest_spec *spec,
		      struct err *err)
{
	char path[PATH_MAX], key[32];
	const char *name;
	uint64_t size;
	int r = 0;

	for (unsigned n = 0; r == 0 && (name = gconf_getf(g, "disk%u_name", n)); n++) {
		const char *dev = gconf_getf(g, "disk%u_dev", n);

		if (dev && *dev && strcmp(dev, "file") != 0 && strcmp(dev, "custom") != 0)
			return err_set(
				err, -ENOTSUP,
				K(035) "%s: disk%u_dev: '%.64s' is not supported: use \"file\" or \"custom\"",
				gconf_path(g), n, dev);
		r = size_of_disk(g, n, spec->disk_size, &size, err);
		if (r == 0 && (!dev || strcmp(dev, "custom") != 0)) {
			if (strchr(name, '/') ||
			    file_path(path, sizeof(path), "%s/%s", dir, name) < 0)
				return err_set(err, -EINVAL,
					       "%s: disk%u_name: '%.64s' is not a file name",
					       gconf_path(g), n, name);
			r = make_disk(path, n, size, spec, err);
		}
		if (snprintf(key, sizeof(key), "disk%u_size", n) > 0)
			gconf_unset(g, key);
	}
	return r;
}

static int set_key(struct gconf *g, const char *key, const char *value, struct err *err)
{
	int r = gconf_set(g, key, value);

	return r < 0 ? err_set(err, r, "%s: cannot set %s to '%.64s': %s", gconf_path(g), key,
			       value, strerror(-r))
		     : 0;
}

/* What create adds to the template's text, in vm-bhyve's order. */
static int set_identity(struct gconf *g, const struct guest_spec *spec, char *mac, size_t mac_size,
			struct err *err)
{
	char uuid[40];
	int r = guest_make_uuid(uuid, sizeof(uuid));

	if (r == 0)
		r = make_mac(mac, mac_size);
	if (r < 0)
		return err_set(err, r, "no random numbers: %s", strerror(-r));
	r = set_key(g, "uuid", uuid, err);
	if (r == 0)
		r = set_key(g, "network0_mac", mac, err);
	if (r == 0 && spec->cpu)
		r = set_key(g, "cpu", spec->cpu, err);
	if (r == 0 && spec->memory)
		r = set_key(g, "memory", spec->memory, err);
	if (r == 0 && spec->ssh_user)
		r = set_key(g, "ssh_user", spec->ssh_user, err);
	return r;
}

static int check_spec(const struct guest_spec *spec, struct err *err)
{
	uint64_t n;

	if (spec->cpu && (str_u64(spec->cpu, &n) < 0 || n < 1 || n > 65535))
		return err_set(err, -EINVAL, K(006) "invalid number of cpus - '%.64s'", spec->cpu);
	if (spec->memory && (str_size(spec->memory, MIB, &n) < 0 || n < MIB || n % MIB))
		return err_set(err, -EINVAL,
			       K(006) "invalid memory size - '%.64s': give a size such as 2G",
			       spec->memory);
	if (spec->image) {
		struct disk_image d;
		int r = disk_image_probe(spec->image, &d, err);

		if (r < 0)
			return r;
	}
	return spec->seed ? seed_check(spec->seed, err) : 0;
}

/* Fills the staging folder: file, disks, first line of the log. */
static int fill_stage(struct gconf *conf, const char *stage, const char *name,
		      const struct guest_spec *spec, struct err *err)
{
	struct guest staged = { 0 };
	char mac[24], *text;
	size_t len;
	int r = set_identity(conf, spec, mac, sizeof(mac), err);

	if (r == 0 && (file_path(staged.dir, sizeof(staged.dir), "%s", stage) < 0 ||
		       file_path(staged.conf, sizeof(staged.conf), "%s/%s.conf", stage, name) < 0))
		r = err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", stage);
	if (r == 0)
		r = make_disks(conf, stage, spec, err);
	if (r == 0 && spec->seed)
		r = seed_fill(spec->seed, stage, name, conf, err);
	if (r == 0)
		glog_write(&staged, "generated static mac %s", mac);
	text = r == 0 ? gconf_text(conf, &len) : NULL;
	if (r == 0)
		r = text ? file_write_new(staged.conf, text, len, 0600, err)
			 : err_set(err, -ENOMEM, K(080) "%s: out of memory", stage);
	free(text);
	return r;
}

static int move_made(const char *stage, const struct guest *g, struct err *err)
{
	int r = file_move_new(stage, g->dir);

	if (r == -EEXIST)
		err_set(err, r, K(024) "virtual machine already exists in %s", g->dir);
	else if (r < 0)
		err_set(err, r, "cannot make %s: %s", g->dir, strerror(-r));
	return r;
}

int guest_create(const struct store *s, const char *name, const struct guest_spec *spec,
		 struct err *err)
{
	char template[PATH_MAX], stage[PATH_MAX];
	struct gconf *conf = NULL;
	struct store view;
	struct guest g;
	int lock = -1, r;

	if (!store_name_valid(name) || store_guest(s, name, &g) < 0)
		return err_set(
			err, -EINVAL,
			K(005) "invalid virtual machine name - '%.64s': 2 to %d letters, digits and . - _",
			name, STORE_NAME_MAX);
	if (store_find(s, name, &g) == 0)
		return err_set(err, -EEXIST, K(024) "virtual machine already exists in %s", g.dir);
	r = store_view(s, spec->datastore ? spec->datastore : STORE_DEFAULT, &view, err);
	if (r < 0)
		return r;
	if (store_guest(&view, name, &g) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", view.dir);
	if (access(g.dir, F_OK) == 0)
		return err_set(err, -EEXIST, K(024) "virtual machine already exists in %s", g.dir);
	r = check_spec(spec, err);
	if (r == 0)
		r = store_template(s, spec->template ? spec->template : "default", template,
				   sizeof(template), err);
	if (r == 0)
		r = gconf_load(template, &conf, err);
	if (r == 0 && !gconf_get(conf, "disk0_name"))
		r = err_set(err, -EINVAL, K(012) "template is missing disk0_name specification: %s",
			    template);
	if (r == 0 && !s->dry_run)
		r = store_stage(&view, name, stage, sizeof(stage), &lock, err);
	if (r < 0 || s->dry_run) {
		gconf_free(conf);
		return r;
	}
	r = fill_stage(conf, stage, name, spec, err);
	/*
	 * All of it is on disk, so that a power cut leaves the whole guest or none. That the name is
	 * there too is worth no second wait for the disk.
	 */
	if (r == 0)
		r = move_made(stage, &g, err);
	if (r < 0)
		(void)file_remove_tree(AT_FDCWD, stage);
	fd_close(&lock);
	gconf_free(conf);
	return r;
}

/* Locks the folder that has the guest's name now: it may have been renamed and another one made. */
static int lock_guest(const struct guest *g)
{
	struct stat a, b;

	for (;;) {
		int fd = lock_dir(g->dir, true);

		if (fd < 0)
			return fd;
		if (fstat(fd, &a) == 0 && stat(g->dir, &b) == 0 && a.st_ino == b.st_ino &&
		    a.st_dev == b.st_dev)
			return fd;
		close(fd);
	}
}

int guest_edit_begin(const struct guest *g, struct gconf **conf, int *lock, struct err *err)
{
	int r;

	*lock = lock_guest(g);
	if (*lock < 0)
		return err_set(err, *lock, "%s: %s", g->dir, strerror(-*lock));
	if (!g->dry_run)
		file_clear_temps(g->dir, ".conf", true);
	r = gconf_load(g->conf, conf, err);
	if (r < 0)
		fd_close(lock);
	else if (g->dry_run)
		gconf_hold(*conf);
	return r;
}

void guest_edit_end(struct gconf *conf, int lock)
{
	gconf_free(conf);
	close(lock);
}

/* Sets prefixN_suffix. */
static int set_numbered(struct gconf *g, const char *prefix, unsigned n, const char *suffix,
			const char *value, struct err *err)
{
	char key[64];
	int r = snprintf(key, sizeof(key), "%s%u_%s", prefix, n, suffix);

	return r > 0 && (size_t)r < sizeof(key) ? set_key(g, key, value, err) : -EOVERFLOW;
}

/*
 * The first number whose key and image are both free: an image whose lines were removed is still
 * somebody's data.
 */
static unsigned free_disk(const struct guest *g, const struct gconf *conf, char *name, size_t size,
			  char *path, size_t path_size)
{
	unsigned n = 0, file;

	while (gconf_getf(conf, "disk%u_name", n))
		n++;
	for (file = n;; file++) {
		if (file_path(name, size, "disk%u.img", file) < 0 ||
		    file_path(path, path_size, "%s/%s", g->dir, name) < 0 || access(path, F_OK) < 0)
			return n;
	}
}

/* True if the type only keeps the number of something that was removed. */
static bool is_free(const char *type)
{
	return strcmp(type, "none") == 0;
}

/* The emulation of the last disk that is no CD, such as cloud-init's. NULL: there is none. */
static const char *last_type(const struct gconf *conf)
{
	const char *type, *last = NULL;

	for (unsigned n = 0; (type = gconf_getf(conf, "disk%u_type", n)); n++) {
		if (!is_free(type) && (!last || strcmp(type, "ahci-cd") != 0))
			last = type;
	}
	return last;
}

static bool names_disk(const char *path, unsigned n, const char *name)
{
	struct gconf *conf;
	const char *value;
	bool same;

	/* If in doubt. */
	if (gconf_load(path, &conf, NULL) < 0)
		return true;
	value = gconf_getf(conf, "disk%u_name", n);
	same = value && strcmp(value, name) == 0;
	gconf_free(conf);
	return same;
}

int guest_add_disk(const struct guest *g, uint64_t size, struct err *err)
{
	char name[32], path[PATH_MAX], type[64];
	const char *last;
	struct gconf *conf;
	unsigned n;
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	n = free_disk(g, conf, name, sizeof(name), path, sizeof(path));
	last = last_type(conf);
	if (!last || str_copy(type, sizeof(type), last) < 0)
		r = err_set(err, -EINVAL,
			    "failed to get emulation type of the existing guest disks");
	if (r == 0 && !g->dry_run)
		r = file_make_sparse(path, size, err);
	if (r == 0) {
		r = set_numbered(conf, "disk", n, "name", name, err);
		if (r == 0)
			r = set_numbered(conf, "disk", n, "type", type, err);
		if (r == 0)
			r = set_numbered(conf, "disk", n, "dev", "file", err);
		if (r == 0)
			r = gconf_save(conf, g->conf, err);
		/* If the folder could not be synced, the file names it all the same. */
		if (r < 0 && !names_disk(g->conf, n, name))
			unlink(path);
	}
	guest_edit_end(conf, lock);
	return r;
}

int guest_add_network(const struct guest *g, const char *network, struct err *err)
{
	char type[64] = "virtio-net";
	const char *last;
	struct gconf *conf;
	unsigned n = 0, place = UINT_MAX;
	int lock, r;

	if (!store_name_valid(network))
		return err_set(err, -EINVAL, K(005) "invalid switch name - '%.64s'", network);
	r = guest_edit_begin(g, &conf, &lock, err);
	if (r < 0)
		return r;
	for (; (last = gconf_getf(conf, "network%u_type", n)); n++) {
		if (!is_free(last))
			r = str_copy(type, sizeof(type), last);
		else if (place == UINT_MAX)
			place = n;
	}
	if (place == UINT_MAX)
		place = n;
	if (place >= PLAN_NETS_MAX)
		r = err_set(err, -E2BIG, "%s: a guest has at most %d network interfaces", g->conf,
			    PLAN_NETS_MAX);
	if (r == 0)
		r = set_numbered(conf, "network", place, "type", type, err);
	if (r == 0)
		r = set_numbered(conf, "network", place, "switch", network, err);
	if (r == 0)
		r = gconf_save(conf, g->conf, err);
	guest_edit_end(conf, lock);
	return r;
}

/* Removes all keys of a disk or network card. */
static void unset_numbered(struct gconf *conf, const char *kind, unsigned int n)
{
	char prefix[32];

	if (snprintf(prefix, sizeof(prefix), "%s%u_", kind, n) < 0)
		return;
	for (size_t i = gconf_count(conf); i-- > 0;) {
		struct gconf_line line = gconf_line(conf, i);
		char key[64];

		if (line.key && str_starts(line.key, prefix) &&
		    str_copy(key, sizeof(key), line.key) == 0) {
			gconf_unset(conf, key);
			i = MIN(i, gconf_count(conf));
		}
	}
}

int guest_free_number(struct gconf *conf, const char *kind, unsigned int n, struct err *err)
{
	const char *type;
	int r = 0;

	unset_numbered(conf, kind, n);
	if (gconf_getf(conf, "%s%u_type", kind, n + 1))
		r = set_numbered(conf, kind, n, "type", "none", err);
	/* Nothing behind it needs these places any more. */
	for (; r == 0 && n > 0 && !gconf_getf(conf, "%s%u_type", kind, n); n--) {
		type = gconf_getf(conf, "%s%u_type", kind, n - 1);
		if (!type || !is_free(type))
			break;
		unset_numbered(conf, kind, n - 1);
	}
	return r;
}

int guest_remove_network(const struct guest *g, unsigned int n, struct err *err)
{
	struct gconf *conf;
	const char *type;
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	type = gconf_getf(conf, "network%u_type", n);
	if (!type || is_free(type)) {
		guest_edit_end(conf, lock);
		return err_set(err, -ENOENT,
			       K(017) "%s has no network interface %u; 'vm info %s' shows them",
			       g->name, n, g->name);
	}
	r = guest_free_number(conf, "network", n, err);
	if (r == 0)
		r = gconf_save(conf, g->conf, err);
	guest_edit_end(conf, lock);
	return r;
}

int guest_need_macs(const struct guest *g, struct err *err)
{
	struct gconf *conf;
	const char *type, *mac;
	bool changed = false;
	char made[24];
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	for (unsigned n = 0; r == 0 && (type = gconf_getf(conf, "network%u_type", n)); n++) {
		mac = gconf_getf(conf, "network%u_mac", n);
		if (is_free(type) || (mac && *mac))
			continue;
		r = make_mac(made, sizeof(made));
		if (r == 0)
			r = set_numbered(conf, "network", n, "mac", made, err);
		if (r == 0)
			glog_write(g, "generated static mac %s", made);
		changed = true;
	}
	if (r == 0 && changed)
		r = gconf_save(conf, g->conf, err);
	guest_edit_end(conf, lock);
	return r;
}

int guest_need_uuid(const struct guest *g, struct err *err)
{
	struct gconf *conf;
	const char *uuid;
	char made[40];
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	uuid = gconf_get(conf, "uuid");
	if (!uuid || !*uuid) {
		r = guest_make_uuid(made, sizeof(made));
		if (r == 0)
			r = set_key(conf, "uuid", made, err);
		if (r == 0)
			r = gconf_save(conf, g->conf, err);
	}
	guest_edit_end(conf, lock);
	return r;
}
