/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/fetch.h"
#include "manager/file.h"
#include "ui_json.h"
#include "util/macros.h"

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void show_iso(json_t *media, const char *name, uint64_t bytes)
{
	if (media)
		json_array_append_new(media, json_pack("{s:s, s:s, s:I}", "datastore", "default",
						       "name", name, "bytes", (json_int_t)bytes));
	else
		printf("%-20s%s\n", "default", name);
}

static int list_isos(const struct vm *vm, bool json)
{
	json_t *media = json ? json_array() : NULL;
	struct dirent **entries;
	char dir[PATH_MAX];
	int fd, n;

	if (file_path(dir, sizeof(dir), "%s/.iso", vm->store.dir) < 0)
		return ui_error("%s: the path is too long", vm->store.dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	n = fd < 0 ? -1 : scandirat(fd, ".", &entries, is_visible, alphasort);
	if (n < 0) {
		n = errno;
		if (fd >= 0)
			close(fd);
		json_decref(media);
		return ui_error("cannot read %s: %s", dir, strerror(n));
	}
	if (!json)
		printf("%-20s%s\n", "DATASTORE", "FILENAME");
	for (int i = 0; i < n; i++) {
		struct stat st;

		if (fstatat(fd, entries[i]->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
			show_iso(media, entries[i]->d_name, (uint64_t)st.st_size);
		free(entries[i]);
	}
	free(entries);
	close(fd);
	return json ? ui_json_print(json_pack("{s:o}", "media", media)) : 0;
}

/* "700 MB", in the units that download sites use. */
static void format_bytes(uint64_t bytes, char *out, size_t size)
{
	const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 9999.5 && i + 1 < ARRAY_LEN(units); i++)
		v /= 1000;
	if (snprintf(out, size, "%.0f %s", v, units[i]) < 0)
		out[0] = '\0';
}

/* One line that is written over: "debian.iso  42% of 631 MB  11 MBps 00m34s". */
static void show_progress(void *arg, uint64_t have, uint64_t total, uint64_t rate)
{
	char size[32], speed[32];
	uint64_t left = total > have && rate ? (total - have) / rate : 0;
	const char *name = arg;

	format_bytes(total ? total : have, size, sizeof(size));
	format_bytes(rate, speed, sizeof(speed));
	if (total)
		printf("\r%-40s %3llu%% of %s", name,
		       (unsigned long long)(have >= total ? 100 : have / (total / 100 + 1)), size);
	else
		printf("\r%-40s %s", name, size);
	if (rate)
		printf("  %sps %02llum%02llus", speed, (unsigned long long)(left / 60),
		       (unsigned long long)(left % 60));
	fputs("\033[K", stdout);
	if (!rate)
		putchar('\n');
	fflush(stdout);
}

static int add_iso(const struct vm *vm, const char *source, const char *checksum)
{
	bool remote = fetch_is_url(source);
	struct fetch_opts o = { .url = source, .checksum = checksum };
	char name[NAME_MAX - 16], path[PATH_MAX];
	struct err err;
	int r;

	r = remote ? fetch_name(source, name, sizeof(name))
		   : file_path(name, sizeof(name), "%s", file_base(source));
	if (r < 0 || !name[0] || name[0] == '.')
		return ui_error("'%s' has no file name at its end", source);
	if (file_path(path, sizeof(path), "%s/.iso/%s", vm->store.dir, name) < 0)
		return ui_error("%s: the path is too long", vm->store.dir);
	if (access(path, F_OK) == 0)
		return ui_error("%s exists already; remove it first to get it again", path);
	o.path = path;
	if (remote && isatty(STDOUT_FILENO)) {
		o.progress = show_progress;
		o.arg = name;
	}
	r = remote ? fetch_url(&o, &err) : fetch_file(source, &o, &err);
	return r < 0 ? ui_error("%s", err.text) : 0;
}

int verb_iso(struct vm *vm, int argc, char **argv)
{
	struct stat st;

	if (argc == 1 || (argc == 2 && strcmp(argv[1], "--json") == 0))
		return list_isos(vm, argc == 2);
	if (argc > 3 || argv[1][0] == '-')
		return ui_usage(vm);
	if (!fetch_is_url(argv[1])) {
		if (strstr(argv[1], "://"))
			return ui_error("'%s': only http, https and ftp can be fetched", argv[1]);
		if (stat(argv[1], &st) < 0)
			return ui_error("%s: %s", argv[1], strerror(errno));
		if (!S_ISREG(st.st_mode))
			return ui_error("%s: not a file", argv[1]);
	}
	return add_iso(vm, argv[1], argc == 3 ? argv[2] : NULL);
}
