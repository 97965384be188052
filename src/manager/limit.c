/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/limit.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/* What cpu.max counts in, microseconds. */
#define PERIOD 100000u
#define PERCENT_MAX 1000000u
#define FILE_MAX (1u << 20)

/* Keys of io.max (cgroup-v2.rst, "IO Interface Files"), and those of guests' files. */
static const char *const io_keys[] = { "rbps", "wbps", "riops", "wiops" };

/* A limit; 0 if there is none. */
static int read_limit(struct gconf *conf, const char *name, uint64_t max, uint64_t *out,
		      struct err *err)
{
	char key[32];
	const char *value;
	int r = file_path(key, sizeof(key), "limit_%s", name);

	*out = 0;
	value = r == 0 ? gconf_get(conf, key) : NULL;
	if (!value || !*value)
		return 0;
	if (str_size(value, 1, out) < 0 || *out == 0 || *out > max)
		return err_set(err, -EINVAL,
			       K(004) "%s: %s: '%.64s' is not a number from 1 to %llu",
			       gconf_where(conf, key), key, value, (unsigned long long)max);
	return 0;
}

int limit_check(struct gconf *conf, struct err *err)
{
	uint64_t n = 0;
	int r = read_limit(conf, "pcpu", PERCENT_MAX, &n, err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(io_keys); i++)
		r = read_limit(conf, io_keys[i], INT64_MAX, &n, err);
	return r;
}

/* Where cgroup v2 is mounted (proc_pid_mountinfo(5): field 5, the type behind " - "). */
static int find_mount(char *out, size_t size)
{
	char *text, *line, *save = NULL;
	size_t len;
	int r = fd_read_file("/proc/self/mountinfo", FILE_MAX, &text, &len);

	if (r < 0)
		return r;
	r = -ENOENT;
	for (line = strtok_r(text, "\n", &save); r == -ENOENT && line;
	     line = strtok_r(NULL, "\n", &save)) {
		char point[PATH_MAX];

		if (strstr(line, " - cgroup2 ") &&
		    sscanf(line, "%*s %*s %*s %*s %4095s", point) == 1)
			r = file_path(out, size, "%s", point);
	}
	free(text);
	return r;
}

static int write_to(const char *dir, const char *file, const char *text)
{
	char path[PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/%s", dir, file), fd;

	fd = r < 0 ? r : open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return r < 0 ? r : -errno;
	r = fd_write_full(fd, text, strlen(text));
	close(fd);
	return r;
}

static int group_of(const struct guest *g, char *out, size_t size)
{
	char mount[PATH_MAX];
	int r = find_mount(mount, sizeof(mount));

	return r < 0 ? r : file_path(out, size, "%s/khyve/%s", mount, g->name);
}

/* Makes the group; its controllers have to be switched on from the top. */
static int make_group(const char *group)
{
	char dir[PATH_MAX];
	const char *name = file_base(group);

	if (file_path(dir, sizeof(dir), "%.*s", (int)(name - group) - 1, group) < 0 ||
	    (mkdir(dir, 0755) < 0 && errno != EEXIST) ||
	    (mkdir(group, 0755) < 0 && errno != EEXIST))
		return -errno;
	for (int level = 0; level < 2; level++) {
		const char *where = level ? "." : "..";
		char control[PATH_MAX];

		if (file_path(control, sizeof(control), "%s/%s", dir, where) < 0)
			return -ENAMETOOLONG;
		/* One by one: a host may have one of them only. */
		(void)write_to(control, "cgroup.subtree_control", "+cpu");
		(void)write_to(control, "cgroup.subtree_control", "+io");
	}
	return 0;
}

/* The disk that a file is on: io.max knows no partitions. -ENODEV: a file system without one. */
static int find_disk(const char *path, unsigned *major_out, unsigned *minor_out)
{
	char sys[PATH_MAX], *text;
	struct stat st;
	size_t len;
	int r;

	if (stat(path, &st) < 0)
		return -errno;
	if (major(st.st_dev) == 0)
		return -ENODEV;
	*major_out = major(st.st_dev);
	*minor_out = minor(st.st_dev);
	if (file_path(sys, sizeof(sys), "/sys/dev/block/%u:%u/partition", *major_out, *minor_out) <
		    0 ||
	    access(sys, F_OK) < 0)
		return 0;
	if (file_path(sys, sizeof(sys), "/sys/dev/block/%u:%u/../dev", *major_out, *minor_out) < 0)
		return -ENAMETOOLONG;
	r = fd_read_file(sys, 64, &text, &len);
	if (r < 0)
		return r;
	r = sscanf(text, "%u:%u", major_out, minor_out) == 2 ? 0 : -ENODEV;
	free(text);
	return r;
}

static int limit_cpu(const char *group, struct gconf *conf)
{
	char text[64];
	uint64_t n = 0;

	if (read_limit(conf, "pcpu", PERCENT_MAX, &n, NULL) < 0 ||
	    file_path(text, sizeof(text), "%llu %u", (unsigned long long)n * (PERIOD / 100),
		      PERIOD) < 0)
		return -EINVAL;
	return write_to(group, "cpu.max", text);
}

static int limit_io(const struct guest *g, const char *group, struct gconf *conf)
{
	unsigned major_number = 0, minor_number = 0;
	char text[256];
	uint64_t n = 0;
	int r = find_disk(g->dir, &major_number, &minor_number);

	if (r == 0)
		r = file_path(text, sizeof(text), "%u:%u", major_number, minor_number);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(io_keys); i++) {
		size_t len = strlen(text);

		if (read_limit(conf, io_keys[i], INT64_MAX, &n, NULL) == 0 && n > 0)
			r = file_path(text + len, sizeof(text) - len, " %s=%llu", io_keys[i],
				      (unsigned long long)n);
	}
	return r < 0 ? r : write_to(group, "io.max", text);
}

/* Whether the file has limits of processors and of disks. */
static void find_wanted(struct gconf *conf, bool *cpu, bool *io)
{
	uint64_t n = 0;

	*cpu = read_limit(conf, "pcpu", PERCENT_MAX, &n, NULL) == 0 && n > 0;
	*io = false;
	for (size_t i = 0; i < ARRAY_LEN(io_keys); i++)
		*io |= read_limit(conf, io_keys[i], INT64_MAX, &n, NULL) == 0 && n > 0;
}

/* Whether a list of words has one. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *(p += strspn(p, " \n")); p += strcspn(p, " \n")) {
		if (strcspn(p, " \n") == len && strncmp(p, word, len) == 0)
			return true;
	}
	return false;
}

void limit_probe(struct gconf *conf, struct err *warning)
{
	char mount[PATH_MAX], path[PATH_MAX], *text = NULL;
	const char *missing = NULL;
	bool cpu, io;
	size_t len;

	warning->text[0] = '\0';
	find_wanted(conf, &cpu, &io);
	if (!cpu && !io)
		return;
	if (find_mount(mount, sizeof(mount)) < 0 ||
	    file_path(path, sizeof(path), "%s/cgroup.controllers", mount) < 0 ||
	    fd_read_file(path, FILE_MAX, &text, &len) < 0)
		missing = "this host has no cgroup v2; systemd.unified_cgroup_hierarchy=1 on its "
			  "kernel's command line gives it one";
	else if (geteuid() != 0)
		missing = "only root's guests can have them";
	else if (cpu && !has_word(text, "cpu"))
		missing = "the host's cgroup v2 lacks the controller cpu, which cgroup v1 has";
	else if (io && !has_word(text, "io"))
		missing = "the host's cgroup v2 lacks the controller io, which cgroup v1 has";
	free(text);
	if (missing)
		err_set(warning, -ENOTSUP, "limit_* have no effect: %s", missing);
}

int limit_open(const struct guest *g, struct gconf *conf, struct err *warning)
{
	char group[PATH_MAX], path[PATH_MAX];
	int r, r_io = 0, fd;
	bool cpu, io;

	find_wanted(conf, &cpu, &io);
	limit_probe(conf, warning);
	if ((!cpu && !io) || warning->text[0])
		return -ENOENT;
	r = group_of(g, group, sizeof(group));
	if (r == 0)
		r = make_group(group);
	if (r == 0 && cpu)
		r = limit_cpu(group, conf);
	if (r == 0 && io)
		r_io = limit_io(g, group, conf);
	if (r < 0)
		return err_set(warning, r, "limit_* have no effect: %s: %s", group, strerror(-r));
	if (r_io == -ENODEV)
		err_set(warning, r_io,
			"limits of disks have no effect: %s is on no single disk of this host",
			g->dir);
	else if (r_io < 0)
		err_set(warning, r_io, "limits of disks have no effect: %s/io.max: %s", group,
			strerror(-r_io));
	if (file_path(path, sizeof(path), "%s/cgroup.procs", group) < 0)
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

void limit_join(int fd)
{
	(void)fd_write_full(fd, "0", 1);
}

void limit_remove(const struct guest *g)
{
	char group[PATH_MAX];

	if (group_of(g, group, sizeof(group)) == 0)
		(void)rmdir(group);
}
