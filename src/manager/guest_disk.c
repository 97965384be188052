/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guest.h"
#include "manager/guest_priv.h"
#include "manager/guestconf.h"
#include "manager/run.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/* -ENOENT: there is no disk of that number, though there may be later ones. */
static int read_disk(const struct guest *g, const struct gconf *conf, unsigned n,
		     struct guest_disk *out)
{
	const char *type = gconf_getf(conf, "disk%u_type", n);
	const char *name = gconf_getf(conf, "disk%u_name", n);
	const char *dev = gconf_getf(conf, "disk%u_dev", n);
	struct stat st;

	if (!type || strcmp(type, "none") == 0)
		return -ENOENT;
	*out = (struct guest_disk){ .number = n, .custom = dev && strcmp(dev, "custom") == 0 };
	(void)str_copy(out->type, sizeof(out->type), type);
	if (name && *name && out->custom)
		(void)str_copy(out->path, sizeof(out->path), name);
	else if (name && *name)
		(void)run_path(g, name, out->path, sizeof(out->path));
	out->there = out->path[0] && stat(out->path, &st) == 0;
	if (out->there) {
		out->size = (uint64_t)st.st_size;
		out->used = (uint64_t)st.st_blocks * 512;
	}
	return 0;
}

static int read_all(const struct guest *g, const struct gconf *conf, struct guest_disk *out)
{
	int count = 0;

	for (unsigned n = 0; n < GUEST_DISKS_MAX && gconf_getf(conf, "disk%u_type", n); n++) {
		if (read_disk(g, conf, n, &out[count]) == 0)
			count++;
	}
	return count;
}

int guest_disks(const struct guest *g, struct guest_disk *out, struct err *err)
{
	struct gconf *conf;
	int r = gconf_load(g->conf, &conf, err);

	if (r < 0)
		return r;
	r = read_all(g, conf, out);
	gconf_free(conf);
	return r;
}

static int no_disk(const struct guest *g, unsigned n, struct err *err)
{
	return err_set(err, -ENOENT, K(017) "%s has no disk %u; 'vm disk list %s' shows them",
		       g->name, n, g->name);
}

int guest_remove_disk(const struct guest *g, unsigned n, struct err *err)
{
	struct guest_disk d, other;
	struct gconf *conf;
	bool more = false, shared = false;
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	if (read_disk(g, conf, n, &d) < 0)
		r = no_disk(g, n, err);
	for (unsigned i = 0; r == 0 && gconf_getf(conf, "disk%u_type", i); i++) {
		if (i == n || read_disk(g, conf, i, &other) < 0)
			continue;
		more |= strcmp(other.type, "ahci-cd") != 0;
		shared |= strcmp(other.path, d.path) == 0;
	}
	if (r == 0 && !more && strcmp(d.type, "ahci-cd") != 0)
		r = err_set(err, -EBUSY, "disk %u is the only one that %s has", n, g->name);
	if (r == 0)
		r = guest_free_number(conf, "disk", n, err);
	if (r == 0)
		r = gconf_save(conf, g->conf, err);
	if (r == 0 && !g->dry_run) {
		glog_write(g, "removed disk %u, %s", n, d.path);
		if (!d.custom && !shared && d.path[0] && unlink(d.path) < 0 && errno != ENOENT)
			r = err_set(err, -errno, "disk %u is gone, but not its image %s: %s", n,
				    d.path, strerror(errno));
	}
	guest_edit_end(conf, lock);
	return r;
}

static int grow(const struct guest_disk *d, uint64_t size, bool dry_run, struct err *err)
{
	int fd = open(d->path, O_WRONLY | O_CLOEXEC), r = 0;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		r = err_set(err, -errno, "cannot open %s: %s", d->path, strerror(errno));
	else if (!S_ISREG(st.st_mode))
		r = err_set(err, -EINVAL, "%s is not a file: its size is not khyve's to change",
			    d->path);
	else if ((uint64_t)st.st_size > size)
		r = err_set(err, -EINVAL,
			    "disk %u has %llu MiB: a smaller one would lose what is at its end",
			    d->number, (unsigned long long)st.st_size / MIB);
	else if (!dry_run && ftruncate(fd, (off_t)size) < 0)
		r = err_set(err, -errno, "cannot resize %s: %s", d->path, strerror(errno));
	else if (!dry_run && fsync(fd) < 0)
		r = err_set(err, -errno,
			    "%s is resized, but a power cut may still undo it: cannot sync it: %s",
			    d->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return r;
}

int guest_resize_disk(const struct guest *g, unsigned n, uint64_t size, struct err *err)
{
	struct guest_disk d;
	struct gconf *conf;
	int lock, r = guest_edit_begin(g, &conf, &lock, err);

	if (r < 0)
		return r;
	r = read_disk(g, conf, n, &d) < 0 ? no_disk(g, n, err) : grow(&d, size, g->dry_run, err);
	if (r == 0)
		glog_write(g, "resized disk %u to %llu bytes", n, (unsigned long long)size);
	guest_edit_end(conf, lock);
	return r;
}
