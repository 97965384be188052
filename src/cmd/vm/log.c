/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/glog.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define LOOK_MS 200
#define PIECE 16384

/* Prints what is between offset and the end; what a terminal would act on becomes a blank. */
static int print_from(int fd, off_t *offset)
{
	char buf[PIECE];
	ssize_t n;

	while ((n = pread(fd, buf, sizeof(buf), *offset)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (iscntrl((unsigned char)buf[i]) && buf[i] != '\n' && buf[i] != '\t')
				buf[i] = ' ';
		}
		*offset += n;
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return -EIO;
	}
	return n < 0 ? -errno : fflush(stdout) ? -errno : 0;
}

/* Where the last lines of a file begin. */
static off_t find_lines(int fd, uint64_t lines)
{
	char buf[PIECE];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	if (lines == 0)
		return st.st_size;
	for (off_t at = st.st_size; at > 0;) {
		ssize_t n = (ssize_t)MIN(at, (off_t)PIECE);

		at -= n;
		if (pread(fd, buf, (size_t)n, at) != n)
			return 0;
		while (n-- > 0) {
			/* The one at the very end ends the last line. */
			if (buf[n] == '\n' && at + n + 1 < st.st_size && --lines == 0)
				return at + n + 1;
		}
	}
	return 0;
}

static int follow(int fd, off_t offset)
{
	struct stat st;
	int r = 0;

	while (r == 0) {
		poll(NULL, 0, LOOK_MS);
		if (fstat(fd, &st) < 0)
			return -errno;
		/* It was packed and begins again. */
		if (st.st_size < offset)
			offset = 0;
		/* Of a guest that was destroyed there is no more to come. */
		if (st.st_nlink == 0)
			return 0;
		r = print_from(fd, &offset);
	}
	return r;
}

static int show(const struct guest *g, const char *file, uint64_t lines, bool on)
{
	char path[PATH_MAX];
	off_t offset;
	int fd, r;

	if (run_path(g, file, path, sizeof(path)) < 0)
		return ui_error(K(053) "%s: the path is too long", g->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == ENOENT)
		return ui_error(K(017) "%s has no log yet: %s", g->name, path);
	if (fd < 0)
		return ui_error("cannot read %s: %s", path, strerror(errno));
	offset = lines == UINT64_MAX ? 0 : find_lines(fd, lines);
	r = print_from(fd, &offset);
	if (r == 0 && on)
		r = follow(fd, offset);
	close(fd);
	return r < 0 ? ui_error("%s: %s", path, strerror(-r)) : 0;
}

int verb_log(struct vm *vm, int argc, char **argv)
{
	uint64_t lines = UINT64_MAX;
	const char *file = GLOG_FILE;
	bool on = false;
	struct guest g;
	int c;

	while ((c = ui_option(argc, argv, "fkn:")) != -1) {
		if (c == 'f')
			on = true;
		else if (c == 'k')
			file = RUN_LOG;
		else if (c == 'n' && (str_u64(optarg, &lines) < 0 || lines > UINT32_MAX))
			return ui_error(K(004) "'%s' is not a number of lines", optarg);
		else if (c != 'n')
			return ui_usage(vm);
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	return vm_find(vm, argv[optind], &g) ? VM_FAILED : show(&g, file, lines, on);
}
