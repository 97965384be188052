/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/seed.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guestconf.h"
#include "manager/lazy.h"
#include "manager/seed_priv.h"
#include "manager/store.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define FILE_MAX (1u << 20)
#define SECTOR 2048

/* In this order on the CD; the last one need not be there. */
static const char *const files[] = { "meta-data", "user-data", "network-config" };

/* --- what vm create is given --- */

/* The lines of a file of keys that are neither empty nor comments, malloc'ed; NULL: none. */
static int read_keys(const char *path, char **out, struct err *err)
{
	size_t len, used = 0;
	char *text, *p;
	int r = fd_read_file(path, FILE_MAX, &text, &len);

	if (r < 0)
		return err_set(err, r, "can't read file with public key (%s): %s", path,
			       strerror(-r));
	for (size_t i = 0; i < len && r == 0; i++) {
		if ((unsigned char)text[i] < ' ' && !strchr("\r\n", text[i] ? text[i] : 1))
			r = -EINVAL;
	}
	for (p = text; r == 0 && p < text + len;) {
		size_t line = strcspn(p, "\r\n"), rest = strspn(p + line, "\r\n");

		if (*p != '#' && strspn(p, " ") < line) {
			memmove(text + used, p, line);
			used += line;
			/* A last line without its end has room for one in the place of the NUL. */
			text[used++] = '\n';
		}
		p += line + rest;
	}
	if (used == 0) {
		free(text);
		return err_set(err, -EINVAL, "%s has no public key of SSH; ssh-keygen makes one",
			       path);
	}
	text[used - 1] = '\0';
	*out = text;
	return 0;
}

int seed_check(const struct seed_spec *spec, struct err *err)
{
	struct seed_net net;
	char *text;
	size_t len;
	int r = 0;

	if (spec->key && spec->user_data)
		return err_set(err, -EINVAL,
			       K(006) "-u and -k are mutually exclusive; use one or the other");
	if (spec->key) {
		r = read_keys(spec->key, &text, err);
		if (r == 0)
			free(text);
	}
	if (spec->user_data) {
		r = fd_read_file(spec->user_data, FILE_MAX, &text, &len);
		if (r < 0)
			return err_set(err, r, "can't read user-data file (%s): %s",
				       spec->user_data, strerror(-r));
		free(text);
	}
	if (r == 0 && spec->network)
		r = seed_net_parse(spec->network, &net, err);
	return r;
}

/* --- the files --- */

static int write_file(const char *dir, const char *name, const char *text, size_t len,
		      struct err *err)
{
	char path[PATH_MAX];

	if (file_path(path, sizeof(path), "%s/" SEED_DIR "/%s", dir, name) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", dir);
	return file_write_atomic(path, text, len, 0600, err);
}

static int write_meta(const char *dir, const char *uuid, const char *host, struct err *err)
{
	char *text = str_format("instance-id: %s\nlocal-hostname: %s\n", uuid, host);
	int r = text ? write_file(dir, "meta-data", text, strlen(text), err)
		     : err_set(err, -ENOMEM, K(080) "out of memory");

	free(text);
	return r;
}

/* Keys stand in quotes, whose only escape is their doubling (YAML 1.2 s7.3.2). */
static void print_key(FILE *f, const char *key, size_t len)
{
	fputs("  - '", f);
	for (size_t i = 0; i < len; i++) {
		if (key[i] == '\'')
			fputc('\'', f);
		fputc(key[i], f);
	}
	fputs("'\n", f);
}

static int write_user(const struct seed_spec *spec, const char *dir, struct err *err)
{
	char *text = NULL, *keys = NULL;
	size_t len = 0;
	FILE *f;
	int r = 0;

	if (spec->user_data) {
		r = fd_read_file(spec->user_data, FILE_MAX, &text, &len);
		r = r < 0 ? err_set(err, r, "can't read user-data file (%s): %s", spec->user_data,
				    strerror(-r))
			  : write_file(dir, "user-data", text, len, err);
		free(text);
		return r;
	}
	if (spec->key)
		r = read_keys(spec->key, &keys, err);
	f = r < 0 ? NULL : open_memstream(&text, &len);
	if (f) {
		fputs("#cloud-config\nresize_rootfs: True\nmanage_etc_hosts: localhost\n", f);
		if (keys)
			fputs("ssh_authorized_keys:\n", f);
		for (const char *p = keys; p && *p; p += *p == '\n') {
			print_key(f, p, strcspn(p, "\n"));
			p += strcspn(p, "\n");
		}
		r = fclose(f) == 0 ? 0 : -ENOMEM;
	} else if (r == 0) {
		r = -ENOMEM;
	}
	if (r == -ENOMEM)
		err_set(err, r, K(080) "out of memory");
	if (r == 0)
		r = write_file(dir, "user-data", text, len, err);
	free(text);
	free(keys);
	return r;
}

/* The CD is a disk behind the others. */
static int add_cd(struct gconf *conf, struct err *err)
{
	const char *const keys[][2] = { { "type", "ahci-cd" },
					{ "name", SEED_ISO },
					{ "dev", "file" } };
	unsigned n = 0;
	char key[32];
	int r = 0;

	while (gconf_getf(conf, "disk%u_name", n))
		n++;
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(keys); i++) {
		r = file_path(key, sizeof(key), "disk%u_%s", n, keys[i][0]);
		if (r == 0)
			r = gconf_set(conf, key, keys[i][1]);
	}
	return r < 0 ? err_set(err, r, "%s: %s", gconf_path(conf), strerror(-r)) : 0;
}

int seed_fill(const struct seed_spec *spec, const char *dir, const char *name, struct gconf *conf,
	      struct err *err)
{
	struct seed_net net = { .has4 = false };
	char path[PATH_MAX], *text;
	int r = 0;

	if (spec->network)
		r = seed_net_parse(spec->network, &net, err);
	if (r == 0 && (file_path(path, sizeof(path), "%s/" SEED_DIR, dir) < 0 ||
		       (mkdir(path, 0700) < 0 && errno != EEXIST)))
		r = err_set(err, -errno, "cannot make %s/" SEED_DIR ": %s", dir, strerror(errno));
	if (r == 0)
		r = write_meta(dir, gconf_get(conf, "uuid"), seed_net_host(&net, name), err);
	if (r == 0)
		r = write_user(spec, dir, err);
	if (r == 0 && spec->network) {
		text = seed_net_format(&net, gconf_get(conf, "network0_mac"));
		r = text ? write_file(dir, "network-config", text, strlen(text), err)
			 : err_set(err, -ENOMEM, K(080) "out of memory");
		free(text);
	}
	return r == 0 ? add_cd(conf, err) : r;
}

/* --- the CD --- */

static int add_file(struct archive *a, const char *name, const char *data, size_t len)
{
	struct archive_entry *e = LAZY(archive_entry_new)();
	int r = e ? 0 : -ENOMEM;

	if (r < 0)
		return r;
	LAZY(archive_entry_set_pathname)(e, name);
	LAZY(archive_entry_set_filetype)(e, AE_IFREG);
	LAZY(archive_entry_set_perm)(e, 0444);
	LAZY(archive_entry_set_size)(e, (la_int64_t)len);
	if (LAZY(archive_write_header)(a, e) < ARCHIVE_WARN ||
	    LAZY(archive_write_data)(a, data, len) != (la_ssize_t)len)
		r = -EIO;
	LAZY(archive_entry_free)(e);
	return r;
}

static int add_files(struct archive *a, const char *dir)
{
	char path[PATH_MAX], *data;
	size_t len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(files); i++) {
		r = file_path(path, sizeof(path), "%s/" SEED_DIR "/%s", dir, files[i]);
		if (r == 0)
			r = fd_read_file(path, FILE_MAX, &data, &len);
		if (r == -ENOENT && i == ARRAY_LEN(files) - 1)
			return 0;
		if (r == 0) {
			r = add_file(a, files[i], data, len);
			free(data);
		}
	}
	return r;
}

static int write_iso(const char *dir, int fd, struct err *err)
{
	struct archive *a;
	int r = lazy_load(LAZY_ARCHIVE, err);

	if (r < 0)
		return r;
	a = LAZY(archive_write_new)();
	r = a ? 0 : -ENOMEM;
	if (r == 0 &&
	    (LAZY(archive_write_set_format_iso9660)(a) != ARCHIVE_OK ||
	     LAZY(archive_write_set_options)(a, "iso9660:volume-id=cidata") != ARCHIVE_OK ||
	     LAZY(archive_write_set_bytes_per_block)(a, SECTOR) != ARCHIVE_OK ||
	     LAZY(archive_write_open_fd)(a, fd) != ARCHIVE_OK))
		r = -EIO;
	if (r == 0)
		r = add_files(a, dir);
	if (r == 0 && LAZY(archive_write_close)(a) != ARCHIVE_OK)
		r = -EIO;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		err_set(err, r, "cannot make %s/" SEED_ISO ": %s", dir,
			a && LAZY(archive_error_string)(a) ? LAZY(archive_error_string)(a)
							   : strerror(-r));
	LAZY(archive_write_free)(a);
	return r;
}

/* A clone's own identity. */
static int settle_clone(const struct guest *g, const struct gconf *conf, struct err *err)
{
	const char *mac = gconf_get(conf, "network0_mac");
	char path[PATH_MAX], *text, *at;
	size_t len;
	int r = write_meta(g->dir, gconf_get(conf, "uuid"), g->name, err);

	if (r < 0 || !mac || strlen(mac) != strlen(SEED_NET_NO_MAC) ||
	    file_path(path, sizeof(path), "%s/" SEED_DIR "/network-config", g->dir) < 0 ||
	    fd_read_file(path, FILE_MAX, &text, &len) < 0)
		return r;
	at = strstr(text, SEED_NET_MAC);
	if (at && strlen(at) > strlen(SEED_NET_MAC) + strlen(mac)) {
		memcpy(at + strlen(SEED_NET_MAC), mac, strlen(mac));
		r = write_file(g->dir, "network-config", text, len, err);
	}
	free(text);
	return r;
}

int seed_make(const struct guest *g, const struct gconf *conf, struct err *err)
{
	char path[PATH_MAX], temp[PATH_MAX];
	int fd, r = 0;

	if (file_path(path, sizeof(path), "%s/" SEED_DIR "/user-data", g->dir) < 0 ||
	    access(path, F_OK) < 0)
		return 0;
	if (file_path(path, sizeof(path), "%s/" SEED_ISO, g->dir) < 0 ||
	    file_path(temp, sizeof(temp), "%s/." SEED_ISO, g->dir) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", g->dir);
	if (access(path, F_OK) == 0)
		return 0;
	if (file_path(path, sizeof(path), "%s/" SEED_DIR "/meta-data", g->dir) == 0 &&
	    access(path, F_OK) < 0)
		r = settle_clone(g, conf, err);
	if (r < 0)
		return r;
	fd = open(temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot make %s: %s", temp, strerror(errno));
	r = write_iso(g->dir, fd, err);
	close(fd);
	(void)file_path(path, sizeof(path), "%s/" SEED_ISO, g->dir);
	if (r == 0 && rename(temp, path) < 0)
		r = err_set(err, -errno, "cannot make %s: %s", path, strerror(errno));
	if (r == 0)
		r = file_sync_dir(g->dir);
	if (r < 0)
		unlink(temp);
	else
		glog_write(g, "created %s for cloud-init", path);
	return r;
}

int seed_clone(const char *from, const char *to, struct err *err)
{
	char path[PATH_MAX], *data;
	size_t len;
	int r = file_path(path, sizeof(path), "%s/" SEED_DIR, from);

	if (r < 0 || access(path, F_OK) < 0)
		return r;
	if (file_path(path, sizeof(path), "%s/" SEED_ISO, to) < 0 ||
	    (unlink(path) < 0 && errno != ENOENT) ||
	    file_path(path, sizeof(path), "%s/" SEED_DIR, to) < 0 || mkdir(path, 0700) < 0)
		return err_set(err, -errno, "cannot make %s/" SEED_DIR ": %s", to, strerror(errno));
	for (size_t i = 1; r == 0 && i < ARRAY_LEN(files); i++) {
		if (file_path(path, sizeof(path), "%s/" SEED_DIR "/%s", from, files[i]) < 0 ||
		    fd_read_file(path, FILE_MAX, &data, &len) < 0)
			continue;
		r = write_file(to, files[i], data, len, err);
		free(data);
	}
	return r;
}
