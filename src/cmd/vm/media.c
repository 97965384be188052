/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/media.h"
#include "manager/progress.h"
#include "ui_json.h"

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

static void show(json_t *media, const char *name, uint64_t bytes)
{
	if (media)
		json_array_append_new(media, json_pack("{s:s, s:s, s:I}", "datastore", "default",
						       "name", name, "bytes", (json_int_t)bytes));
	else
		printf("%-20s%s\n", "default", name);
}

static int list(const char *dir, bool json)
{
	json_t *media = json ? json_array() : NULL;
	struct dirent **entries;
	int fd, n;

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
			show(media, entries[i]->d_name, (uint64_t)st.st_size);
		free(entries[i]);
	}
	free(entries);
	close(fd);
	return json ? ui_json_print(json_pack("{s:o}", "media", media)) : 0;
}

static void say(bool warning, const char *text)
{
	if (warning)
		ui_warning("%s", text);
	else
		printf("%s\n", text);
	fflush(stdout);
}

/* The arguments of iso and img. */
struct request {
	struct media media;
	bool json;
};

/* 0, or the exit status. */
static int parse(const struct vm *vm, int argc, char **argv, struct request *q)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' },
					       { "sha256", required_argument, NULL, 's' },
					       { "keyring", required_argument, NULL, 'k' },
					       { 0 } };
	int c;

	while ((c = ui_options(argc, argv, "46d:", longs)) != -1) {
		if (c == '4' || c == '6')
			q->media.ip = c - '0';
		else if (c == 'd' && strcmp(optarg, "default") != 0)
			return ui_error("unable to locate path for datastore '%s'", optarg);
		else if (c == 's')
			q->media.checksum = optarg;
		else if (c == 'k')
			q->media.keyring = optarg;
		else if (c == 'j')
			q->json = true;
		else if (c != 'd')
			return ui_usage(vm);
	}
	argc -= optind;
	argv += optind;
	if (argc == 0)
		return q->media.checksum || q->media.keyring ? ui_usage(vm) : 0;
	if (argc > 2 || q->json || (argc == 2 && q->media.checksum))
		return ui_usage(vm);
	q->media.source = argv[0];
	if (argc == 2)
		q->media.checksum = argv[1];
	return 0;
}

static int check_source(const struct media *m)
{
	struct stat st;

	if (fetch_is_url(m->source))
		return 0;
	if (strstr(m->source, "://"))
		return ui_error("'%s': only http, https and ftp can be fetched", m->source);
	if (stat(m->source, &st) < 0)
		return ui_error("%s: %s", m->source, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return ui_error("%s: not a file", m->source);
	return m->keyring ? ui_error("--keyring is for URLs; give a file's --sha256") : 0;
}

static int run(const struct vm *vm, int argc, char **argv, bool disk)
{
	struct request q = { .media = { .disk = disk, .say = say } };
	struct progress progress = { 0 };
	char dir[PATH_MAX];
	struct err err;
	int r = parse(vm, argc, argv, &q);

	if (r)
		return r;
	if (file_path(dir, sizeof(dir), "%s/%s", vm->store.dir, disk ? ".img" : ".iso") < 0)
		return ui_error("%s: the path is too long", vm->store.dir);
	if (!q.media.source)
		return list(dir, q.json);
	if (check_source(&q.media))
		return VM_FAILED;
	q.media.dir = dir;
	q.media.progress = ui_progress(&progress, file_base(q.media.source));
	return media_add(&q.media, &err) < 0 ? ui_error("%s", err.text) : 0;
}

int verb_iso(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, false);
}

int verb_img(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, true);
}
