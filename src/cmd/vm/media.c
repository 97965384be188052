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

#include "manager/datastore.h"
#include "manager/fetch.h"
#include "manager/file.h"
#include "manager/media.h"
#include "manager/progress.h"
#include "ui_json.h"
#include "util/fd.h"
#include "util/str.h"

static int is_visible(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

/* Folders of a kind of media: the default datastore's first. */
struct folder {
	const char *store;
	char dir[PATH_MAX];
};

/* Folder i, from 0. -ENOENT: there are no more. */
static int get_folder(const struct vm *vm, bool disk, size_t i, struct folder *out)
{
	enum datastore_kind kind = disk ? DATASTORE_IMG : DATASTORE_ISO;

	if (i == 0) {
		out->store = STORE_DEFAULT;
		return file_path(out->dir, sizeof(out->dir), "%s/%s", vm->store.dir,
				 disk ? ".img" : ".iso");
	}
	for (size_t n = 0; n < vm->store.other_count; n++) {
		const struct datastore *d = &vm->store.others[n];

		if (d->kind == kind && --i == 0) {
			out->store = d->name;
			return str_copy(out->dir, sizeof(out->dir), d->path);
		}
	}
	return -ENOENT;
}

static void list_file(const struct folder *f, int fd, const char *name, json_t *media)
{
	struct stat st;

	if (fstatat(fd, name, &st, 0) < 0 || !S_ISREG(st.st_mode))
		return;
	if (media)
		json_array_append_new(media,
				      json_pack("{s:s, s:s, s:I}", "datastore", f->store, "name",
						name, "bytes", (json_int_t)st.st_size));
	else
		printf("%-20s%s\n", f->store, name);
}

static void list_folder(const struct folder *f, json_t *media)
{
	struct dirent **entries;
	int fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int n = fd < 0 ? -1 : scandirat(fd, ".", &entries, is_visible, alphasort);

	if (n < 0)
		ui_warning("cannot read datastore %s: %s: %s", f->store, f->dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		list_file(f, fd, entries[i]->d_name, media);
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
	fd_close(&fd);
}

/* What is in all folders, or in that of one datastore. */
static int list(const struct vm *vm, bool disk, const char *store, bool json)
{
	json_t *media = json ? json_array() : NULL;
	bool found = false;
	struct folder f;

	if (!json)
		printf("%-20s%s\n", "DATASTORE", "FILENAME");
	for (size_t i = 0; get_folder(vm, disk, i, &f) == 0; i++) {
		if (store && strcmp(store, f.store) != 0)
			continue;
		found = true;
		list_folder(&f, media);
	}
	if (!found) {
		json_decref(media);
		return ui_error(K(015) "unable to locate path for datastore '%s'", store);
	}
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
	const char *store; /* NULL: the default one */
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
		else if (c == 'd')
			q->store = optarg;
		else if (c == 's')
			q->media.checksum = optarg;
		else if (c == 'k')
			q->media.keyring = optarg;
		else if (c == 'j')
			q->json = true;
		else
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
	return m->keyring ? ui_error(K(006) "--keyring is for URLs; give a file's --sha256") : 0;
}

static int run(const struct vm *vm, int argc, char **argv, bool disk)
{
	struct request q = { .media = { .disk = disk, .say = say } };
	struct progress progress = { 0 };
	struct folder f;
	struct err err;
	int r = parse(vm, argc, argv, &q);

	if (r)
		return r;
	if (!q.media.source)
		return list(vm, disk, q.store, q.json);
	for (size_t i = 0; (r = get_folder(vm, disk, i, &f)) == 0; i++) {
		if (strcmp(q.store ? q.store : STORE_DEFAULT, f.store) == 0)
			break;
	}
	if (r < 0 || access(f.dir, F_OK) < 0)
		return ui_error(K(015) "unable to locate path for datastore '%s'%s%s",
				q.store ? q.store : STORE_DEFAULT, r < 0 ? "" : ": ",
				r < 0 ? "" : f.dir);
	if (check_source(&q.media))
		return VM_FAILED;
	q.media.dry_run = vm->dry_run;
	q.media.dir = f.dir;
	q.media.progress = ui_progress(&progress, file_base(q.media.source));
	return vm_done(vm, media_add(&q.media, &err), &err, "get %s into %s", q.media.source,
		       f.dir);
}

int verb_iso(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, false);
}

int verb_img(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, true);
}
