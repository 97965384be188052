/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/firmware.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "util/err.h"
#include "util/macros.h"

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool has_text(const json_t *array, const char *want)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		const char *s = json_string_value(item);

		if (s && strcmp(s, want) == 0)
			return true;
	}
	return false;
}

/* A machine pattern such as "pc-q35-*" that our machine's type matches. */
static bool has_machine(const json_t *machines)
{
	const json_t *item;
	size_t i;

	json_array_foreach(machines, i, item)
	{
		const char *s = json_string_value(item);

		if (s && fnmatch(s, "pc-q35-7.2", 0) == 0)
			return true;
	}
	return false;
}

static bool has_target(const json_t *targets)
{
	const json_t *item;
	size_t i;

	json_array_foreach(targets, i, item)
	{
		if (strcmp(text_of(item, "architecture"), "x86_64") == 0 &&
		    has_machine(json_object_get(item, "machines")))
			return true;
	}
	return false;
}

/* Secure Boot firmware needs SMM, which this machine does not have. */
static bool is_plain(const json_t *features)
{
	return !has_text(features, "requires-smm") && !has_text(features, "secure-boot") &&
	       !has_text(features, "enrolled-keys");
}

/* A readable raw image file. */
static bool take_image(const json_t *image, char *out, size_t size)
{
	return strcmp(text_of(image, "format"), "raw") == 0 &&
	       file_path(out, size, "%s", text_of(image, "filename")) == 0 &&
	       access(out, R_OK) == 0;
}

static bool fits(const json_t *root, struct firmware *out)
{
	const json_t *mapping = json_object_get(root, "mapping");

	return has_text(json_object_get(root, "interface-types"), "uefi") &&
	       has_target(json_object_get(root, "targets")) &&
	       is_plain(json_object_get(root, "features")) &&
	       strcmp(text_of(mapping, "device"), "flash") == 0 &&
	       take_image(json_object_get(mapping, "executable"), out->code, sizeof(out->code)) &&
	       take_image(json_object_get(mapping, "nvram-template"), out->vars, sizeof(out->vars));
}

static int is_json(const struct dirent *e)
{
	return fnmatch("*.json", e->d_name, FNM_PERIOD) == 0;
}

int firmware_find_in(const char *dir, struct firmware *out)
{
	struct dirent **entries;
	int n = scandir(dir, &entries, is_json, alphasort), r = -ENOENT;

	if (n < 0)
		return -ENOENT;
	for (int i = 0; i < n; i++) {
		struct firmware found;
		char path[PATH_MAX];
		json_t *root = NULL;

		if (r < 0 && file_path(path, sizeof(path), "%s/%s", dir, entries[i]->d_name) == 0)
			root = json_load_file(path, 0, NULL);
		if (root && fits(root, &found)) {
			*out = found;
			r = 0;
		}
		json_decref(root);
		free(entries[i]);
	}
	free(entries);
	return r;
}

int firmware_find(struct firmware *out, struct err *err)
{
	/*
	 * In the order of firmware.json: what the administrator says comes before what the package
	 * says.
	 */
	static const char *const dirs[] = { "/etc/qemu/firmware", "/usr/share/qemu/firmware" };

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		if (firmware_find_in(dirs[i], out) == 0)
			return 0;
	}
	return err_set(
		err, -ENOENT,
		K(032) "no UEFI firmware without Secure Boot is described in %s: install the package ovmf",
		dirs[1]);
}
