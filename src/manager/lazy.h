/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_LAZY_H
#define MANAGER_LAZY_H

struct err;

/*
 * Libraries that most commands do not need and that bring dozens of others along, whose loading
 * would cost each command more than its work: libcurl and libarchive. Their functions have their
 * usual names and are listed in lazy.c; who calls them loads the library first.
 */
enum lazy_lib { LAZY_CURL, LAZY_ARCHIVE };

/* -ENOENT: it is not installed. Any number of times. */
int lazy_load(enum lazy_lib lib, struct err *err);

#endif
