/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_LAZY_H
#define MANAGER_LAZY_H

struct err;

/*
 * Libraries that most commands do not need and that bring dozens of others along: with libcurl and
 * libarchive linked, every command would take three times as long to begin. LAZY(curl_easy_init)()
 * calls a function of a library that lazy_load has loaded; without LAZY the program does not link.
 */
enum lazy_lib { LAZY_CURL, LAZY_ARCHIVE };

#define LAZY(fn) ((__typeof__(fn) *)lazy_find(#fn))

/* -ENOENT: it is not installed. Any number of times. */
int lazy_load(enum lazy_lib lib, struct err *err);
/* By its name, "curl_..." or "archive_...". What the header declares is there: never NULL. */
void *lazy_find(const char *name);

#endif
