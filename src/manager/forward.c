/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/forward.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define ROOT "/proc/sys/net/"
#define SAVED_MAX (4u << 20)
#define VALUE_MAX 32

static int read_value(const char *key, char out[VALUE_MAX])
{
	char path[PATH_MAX];
	int fd, r = file_path(path, sizeof(path), ROOT "%s", key);
	ssize_t n;

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, out, VALUE_MAX - 1);
	r = n < 0 ? -errno : 0;
	close(fd);
	if (n < 0)
		return r;
	out[n] = '\0';
	out[strcspn(out, "\n")] = '\0';
	return 0;
}

/* Writes only what differs: some of these settings change others when they are written. */
static int write_value(const char *key, const char *value)
{
	char path[PATH_MAX], old[VALUE_MAX];
	int fd, r = read_value(key, old);

	if (r < 0 || strcmp(old, value) == 0)
		return r;
	r = file_path(path, sizeof(path), ROOT "%s", key);
	if (r < 0)
		return r;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = fd_write_full(fd, value, strlen(value));
	close(fd);
	return r;
}

static int write_interface(const char *family, const char *name, const char *key, const char *value)
{
	char path[PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/conf/%s/%s", family, name, key);

	return r < 0 ? r : write_value(path, value);
}

static bool is_interface(const char *name)
{
	return name[0] != '.' && strcmp(name, "all") != 0;
}

/* Calls fn for each interface of a family, and for "default". */
static void each_interface(const char *family,
			   void (*fn)(void *arg, const char *family, const char *name), void *arg)
{
	char path[PATH_MAX];
	struct dirent *e;
	DIR *d;

	if (file_path(path, sizeof(path), ROOT "%s/conf", family) < 0)
		return;
	d = opendir(path);
	while (d && (e = readdir(d))) {
		if (is_interface(e->d_name))
			fn(arg, family, e->d_name);
	}
	if (d)
		closedir(d);
}

static void save_key(FILE *f, const char *key)
{
	char value[VALUE_MAX];

	if (read_value(key, value) == 0)
		fprintf(f, "%s %s\n", key, value);
}

static void save_interface(void *arg, const char *family, const char *name)
{
	char key[PATH_MAX];

	if (file_path(key, sizeof(key), "%s/conf/%s/forwarding", family, name) == 0)
		save_key(arg, key);
	if (strcmp(family, "ipv6") == 0 &&
	    file_path(key, sizeof(key), "%s/conf/%s/accept_ra", family, name) == 0)
		save_key(arg, key);
}

static bool is_off(const char *key)
{
	char value[VALUE_MAX];

	return read_value(key, value) == 0 && strcmp(value, "0") == 0;
}

static int boot_id(char **out)
{
	size_t len;
	int r = fd_read_file("/proc/sys/kernel/random/boot_id", 256, out, &len);

	if (r == 0)
		(*out)[strcspn(*out, "\n")] = '\0';
	return r;
}

/*
 * The settings as they are, in the order in which they have to be written back: the global ones
 * change those of the interfaces. What is on already is nobody's to switch off.
 */
static char *save_text(void)
{
	char *text = NULL, *boot;
	size_t len;
	FILE *f;

	if (boot_id(&boot) < 0)
		return NULL;
	f = open_memstream(&text, &len);
	if (f)
		fprintf(f, "boot %s\n", boot);
	free(boot);
	if (f && is_off("ipv4/ip_forward")) {
		save_key(f, "ipv4/ip_forward");
		save_key(f, "ipv4/conf/all/accept_redirects");
		each_interface("ipv4", save_interface, f);
	}
	if (f && is_off("ipv6/conf/all/forwarding")) {
		save_key(f, "ipv6/conf/all/forwarding");
		each_interface("ipv6", save_interface, f);
	}
	if (f && fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

/* What was saved since this host booted. -ENOENT. */
static int load_saved(const char *path, char **out)
{
	char *text, *boot;
	size_t len;
	int r = fd_read_file(path, SAVED_MAX, &text, &len);

	if (r < 0)
		return r;
	r = boot_id(&boot);
	if (r < 0) {
		free(text);
		return r;
	}
	len = strlen(boot);
	if (!str_starts(text, "boot ") || strncmp(text + 5, boot, len) != 0 ||
	    text[5 + len] != '\n')
		r = -ENOENT;
	free(boot);
	if (r == 0)
		*out = text;
	else
		free(text);
	return r;
}

static int save(const char *path, struct err *err)
{
	char *text;
	int r = load_saved(path, &text);

	if (r == 0) {
		free(text);
		return 0;
	}
	if (r != -ENOENT)
		return err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	text = save_text();
	if (!text)
		return err_set(err, -EIO, "cannot read the settings below " ROOT);
	r = file_write_atomic(path, text, strlen(text), 0644, err);
	free(text);
	return r;
}

/* Interfaces that learn their routers as hosts do. */
struct learners {
	char (*names)[IF_NAMESIZE];
	size_t n;
};

static void learn_always(void *arg, const char *family, const char *name)
{
	struct learners *l = arg;
	char key[PATH_MAX], value[VALUE_MAX], (*names)[IF_NAMESIZE];

	if (file_path(key, sizeof(key), "%s/conf/%s/accept_ra", family, name) < 0 ||
	    read_value(key, value) < 0 || strcmp(value, "1") != 0)
		return;
	names = realloc(l->names, (l->n + 1) * sizeof(*names));
	if (!names)
		return;
	l->names = names;
	if (str_copy(names[l->n], sizeof(names[0]), name) == 0 && write_value(key, "2") == 0)
		l->n++;
}

/*
 * Makes one interface or the host a router, IPv6. At that moment the kernel forgets all routers that
 * the host has learnt, except from interfaces that are told to learn them always: for this
 * moment, all are.
 */
static int write_router(const char *key)
{
	struct learners l = { 0 };
	char value[VALUE_MAX];
	int r = read_value(key, value);

	if (r < 0 || strcmp(value, "1") == 0)
		return r;
	each_interface("ipv6", learn_always, &l);
	r = write_value(key, "1");
	for (size_t i = 0; i < l.n; i++)
		(void)write_interface("ipv6", l.names[i], "accept_ra", "1");
	free(l.names);
	return r;
}

/* Writes back the lines that begin so; all of them if prefix is "". */
static int write_back(const char *text, const char *prefix, const char *except)
{
	int r = 0;

	for (const char *p = strchr(text, '\n'); p && *++p; p = strchr(p, '\n')) {
		char key[PATH_MAX], value[VALUE_MAX];
		int n;

		if (sscanf(p, "%4095s %31s", key, value) != 2 || !str_starts(key, prefix) ||
		    strcmp(key, except) == 0)
			continue;
		n = write_value(key, value);
		/* The interface is gone, and its settings with it. */
		if (n < 0 && n != -ENOENT && r == 0)
			r = n;
	}
	return r;
}

/* Forwarding is global with IPv6; what an interface says is whether it is a router's. */
static int forward_on6(const char *saved)
{
	int r;

	if (!is_off("ipv6/conf/all/forwarding"))
		return 0;
	r = write_router("ipv6/conf/all/forwarding");
	if (r == 0)
		r = write_back(saved, "ipv6/", "ipv6/conf/all/forwarding");
	return r;
}

int forward_on(const char *dir, struct err *err)
{
	char path[PATH_MAX], *saved = NULL;
	int r = file_path(path, sizeof(path), "%s/sysctl", dir);

	if (r < 0)
		return err_set(err, r, K(053) "%s: the path is too long", dir);
	r = save(path, err);
	if (r < 0)
		return r;
	r = load_saved(path, &saved);
	if (r < 0)
		return err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	r = write_value("ipv4/ip_forward", "1");
	if (r == 0)
		r = forward_on6(saved);
	free(saved);
	return r < 0 ? err_set(err, r, "cannot switch on the forwarding of packets: %s",
			       strerror(-r))
		     : 0;
}

int forward_off(const char *dir, struct err *err)
{
	char path[PATH_MAX], *saved;
	int r = file_path(path, sizeof(path), "%s/sysctl", dir);

	if (r == 0)
		r = load_saved(path, &saved);
	if (r == 0) {
		r = write_back(saved, "", "");
		free(saved);
	} else if (r == -ENOENT) {
		r = 0;
	}
	if (r < 0)
		return err_set(err, r, "cannot bring back the settings that %s has: %s", path,
			       strerror(-r));
	unlink(path);
	return 0;
}

int forward_bridge(const char *bridge, struct err *err)
{
	char key[PATH_MAX];
	int r = write_interface("ipv4", bridge, "forwarding", "1");

	if (r == 0)
		r = write_interface("ipv4", bridge, "route_localnet", "1");
	if (r < 0)
		return err_set(err, r, "cannot set up interface %s: %s", bridge, strerror(-r));
	/* A host without IPv6 has none of these. */
	if (file_path(key, sizeof(key), "ipv6/conf/%s/forwarding", bridge) == 0)
		(void)write_router(key);
	(void)write_interface("ipv6", bridge, "accept_ra", "0");
	return 0;
}

void forward_bridge_off(const char *bridge)
{
	(void)write_interface("ipv4", bridge, "route_localnet", "0");
}
