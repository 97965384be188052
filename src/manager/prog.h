/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PROG_H
#define MANAGER_PROG_H

#include <stddef.h>

struct err;

/*
 * Finds a program in PATH, then in the folders of the system's administration. -ENOENT: it is not
 * installed.
 */
int prog_find(const char *name, char *out, size_t size);
/*
 * Runs a program of the system to its end, argv[0] being its name, with input (may be NULL) on its
 * standard input. *out (may be NULL) gets what it printed, malloc'ed. -ENOENT as above; -EIO: it
 * failed, and err has the first line of what it said.
 */
int prog_run(const char *const *argv, const char *input, char **out, struct err *err);
/*
 * Runs a program with our own standard input, output and errors, which are for the person. Returns its
 * exit status. -ENOENT: it is not installed.
 */
int prog_show(const char *const *argv, struct err *err);
/* The same, but returns the exit status, and *out is set whatever that is. */
int prog_status(const char *const *argv, const char *input, char **out, struct err *err);

#endif
