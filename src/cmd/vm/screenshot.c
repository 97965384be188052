/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/png.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

/* vm screenshot: khyve hands its video memory over; what becomes of it is done here. */

#define ANSWER_MS 5000

static uint64_t number(const char *reply, const char *key)
{
	char text[24];
	uint64_t n;

	return ctl_value(reply, key, text, sizeof(text)) == 0 && str_u64(text, &n) == 0 ? n : 0;
}

/* Reads the picture that the answer describes out of the memory. */
static int encode(const char *reply, int memory, uint8_t **png, size_t *len)
{
	uint64_t width = number(reply, "width"), height = number(reply, "height");
	uint64_t stride = number(reply, "stride"), offset = number(reply, "offset");
	struct png_picture p = { .width = (uint32_t)width,
				 .height = (uint32_t)height,
				 .stride = stride };
	uint64_t bytes;
	struct stat st;
	void *map;
	int r;

	/* The file is sealed by khyve: it does not shrink. */
	if (fstat(memory, &st) < 0)
		return -errno;
	if (!width || !height || width > UINT16_MAX || height > UINT16_MAX || stride < 4 * width ||
	    !checked_mul(stride, height, &bytes) ||
	    !range_inside(offset, bytes, (uint64_t)st.st_size))
		return -EPROTO;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, memory, 0);
	if (map == MAP_FAILED)
		return -errno;
	p.pixels = (const uint8_t *)map + offset;
	r = png_encode(&p, png, len);
	munmap(map, (size_t)st.st_size);
	return r;
}

static int take(const struct guest *g, uint8_t **png, size_t *len, struct err *err)
{
	char reply[256];
	int memory = -1, r;
	struct ctl_where khyve = { .g = g, .socket = RUN_CONTROL, .who = "khyve", .fd = &memory };

	r = ctl_command_at(&khyve, "screen", ANSWER_MS, reply, sizeof(reply), err);
	if (r < 0)
		return err_prefix(err, r, "%s", g->name);
	r = memory < 0 ? -EPROTO : encode(reply, memory, png, len);
	fd_close(&memory);
	return r < 0 ? err_set(err, r, "%s: cannot make a picture of its screen: %s", g->name,
			       strerror(-r))
		     : 0;
}

/* NAME-TIME.png in the working folder. */
static int default_path(const struct guest *g, char *out, size_t size)
{
	char when[UI_TIME_SIZE];

	ui_time(time(NULL), when);
	return file_path(out, size, "%s-%.19s.png", g->name, when);
}

/* Devices, pipes and links stay what they are. */
static int put_through(const char *path, const uint8_t *png, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644);
	int r = fd < 0 ? -errno : fd_write_full(fd, png, len);

	fd_close(&fd);
	return r < 0 ? ui_error("cannot write %s: %s", path, strerror(-r)) : 0;
}

static int put(const char *path, const uint8_t *png, size_t len)
{
	struct err err;
	struct stat st;

	if (strcmp(path, "-") != 0 && lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return put_through(path, png, len);
	if (strcmp(path, "-") != 0)
		return file_write_atomic(path, png, len, 0644, &err) < 0 ? ui_error("%s", err.text)
									 : 0;
	return fwrite(png, 1, len, stdout) == len ? 0 : ui_error("cannot write the picture");
}

int verb_screenshot(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" };
	char path[PATH_MAX];
	struct guest g;
	uint8_t *png = NULL;
	size_t len = 0;
	int status;

	if (ui_option(argc, argv, "") != -1 || argc - optind < 1 || argc - optind > 2)
		return ui_usage(vm);
	if (vm_find_running(vm, argv[optind], &g))
		return VM_FAILED;
	argv += optind + 1;
	if (*argv && strcmp(*argv, "-") == 0 && isatty(STDOUT_FILENO))
		return ui_error(
			K(004) "'-' is not for a terminal: the picture would be printed to it");
	if ((*argv ? str_copy(path, sizeof(path), *argv) : default_path(&g, path, sizeof(path))) <
	    0)
		return ui_error(K(053) "%s: the path is too long", *argv ? *argv : g.name);
	if (take(&g, &png, &len, &err) < 0)
		return ui_error("%s", err.text);
	status = put(path, png, len);
	free(png);
	if (status == 0 && !*argv)
		puts(path);
	return status;
}
