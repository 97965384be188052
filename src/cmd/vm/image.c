/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/image.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "manager/progress.h"
#include "manager/table.h"
#include "ui_json.h"
#include "util/macros.h"
#include "vm.h"

static int list(const struct vm *vm, bool json)
{
	static const char *const heading[] = { "UUID", "NAME", "CREATED", "DESCRIPTION" };
	json_t *array = json ? json_array() : NULL;
	struct table *t = table_new(ARRAY_LEN(heading));
	struct image *images;
	size_t count;
	int r = image_list(&vm->store, &images, &count);

	if (r < 0 || !t) {
		json_decref(array);
		table_free(t);
		return ui_error("cannot read the images of %s: %s", vm->store.dir, strerror(-r));
	}
	for (size_t i = 0; i < ARRAY_LEN(heading); i++)
		table_add(t, "%s", heading[i]);
	for (size_t i = 0; i < count; i++) {
		const struct image *m = &images[i];

		table_add(t, "%s", m->uuid);
		table_add(t, "%s", m->name);
		table_add(t, "%s", m->created);
		table_add(t, "%s", m->description);
		if (json)
			json_array_append_new(array,
					      json_pack("{s:s, s:s, s:s, s:s, s:I}", "uuid",
							m->uuid, "name", m->name, "created",
							m->created, "description", m->description,
							"bytes", (json_int_t)m->bytes));
	}
	if (!json)
		table_print(t, stdout);
	table_free(t);
	free(images);
	return json ? ui_json_print(json_pack("{s:o}", "images", array)) : 0;
}

static int create(const struct vm *vm, int argc, char **argv)
{
	struct image_spec spec = { .compress = true };
	struct progress progress;
	struct run_state state;
	char uuid[40];
	struct err err;
	struct guest g;
	int c, lock = -1, r;

	while ((c = ui_option(argc, argv, "d:u")) != -1) {
		if (c == 'd')
			spec.description = optarg;
		else if (c == 'u')
			spec.compress = false;
		else
			return ui_usage(vm);
	}
	if (argc - optind != 1)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	run_query(&g, &state);
	spec.live = state.kind == RUN_RUNNING;
	if (!spec.live && vm_hold(&g, &lock))
		return VM_FAILED;
	vm_warn_custom(&g, "it is not in the image");
	if (!vm->dry_run)
		puts(spec.compress ? "Creating a compressed image, this may take some time..."
				   : "Creating guest image, this may take some time...");
	fflush(stdout);
	spec.progress = ui_progress(&progress, g.name);
	r = image_create(&vm->store, &g, &spec, uuid, &err);
	if (lock >= 0)
		run_unlock_supervisor(&g, &lock);
	if (r < 0 || vm->dry_run)
		return vm_done(vm, r, &err, "pack %s into an image", g.name);
	printf("Image of %s created with UUID %s\n", g.name, uuid);
	return 0;
}

static int provision(const struct vm *vm, int argc, char **argv)
{
	const char *datastore = NULL;
	struct progress progress;
	struct err err;
	int c;

	while ((c = ui_option(argc, argv, "d:")) != -1) {
		if (c != 'd')
			return ui_usage(vm);
		datastore = optarg;
	}
	if (argc - optind != 2)
		return ui_usage(vm);
	if (!vm->dry_run)
		puts("Unpacking guest image, this may take some time...");
	fflush(stdout);
	c = image_provision(&vm->store, argv[optind], datastore, argv[optind + 1],
			    ui_progress(&progress, argv[optind + 1]), &err);
	return vm_done(vm, c, &err, "make %s of the image %s", argv[optind + 1], argv[optind]);
}

/* A subcommand by its name or the beginning of it. */
static bool is_sub(const char *word, const char *name)
{
	return *word && strncasecmp(word, name, strlen(word)) == 0;
}

int verb_image(struct vm *vm, int argc, char **argv)
{
	const char *sub = argc > 1 ? argv[1] : "";
	struct err err;

	if (is_sub(sub, "list") && (argc == 2 || (argc == 3 && strcmp(argv[2], "--json") == 0)))
		return list(vm, argc == 3);
	if (is_sub(sub, "create"))
		return create(vm, argc - 1, argv + 1);
	if (is_sub(sub, "provision"))
		return provision(vm, argc - 1, argv + 1);
	if (!is_sub(sub, "destroy") || argc != 3 || argv[2][0] == '-')
		return ui_usage(vm);
	return vm_done(vm, image_destroy(&vm->store, argv[2], &err), &err, "remove the image %s",
		       argv[2]);
}
