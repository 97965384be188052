/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/lazy.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>

#include "util/err.h"
#include "util/str.h"

static void *open_library(enum lazy_lib lib)
{
	/* Their names in Debian 12 and 13 alike. */
	static const char *const files[] = { "libcurl.so.4", "libarchive.so.13" };

	return dlopen(files[lib], RTLD_NOW | RTLD_NODELETE);
}

int lazy_load(enum lazy_lib lib, struct err *err)
{
	if (open_library(lib))
		return 0;
	return err_set(err, -ENOENT, K(031) "%s is not installed: apt install %s",
		       lib == LAZY_CURL ? "libcurl" : "libarchive",
		       lib == LAZY_CURL ? "libcurl4" : "libarchive13");
}

void *lazy_find(const char *name)
{
	void *lib = open_library(str_starts(name, "curl_") ? LAZY_CURL : LAZY_ARCHIVE);
	void *fn = lib ? dlsym(lib, name) : NULL;

	assert(fn);
	return fn;
}
