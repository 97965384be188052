/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_HOOK_H
#define MANAGER_HOOK_H

struct guest;

/* Programs of the user's that a guest's file names by these keys. */
#define HOOK_PRESTART "prestart"
#define HOOK_POSTSTART "poststart"
#define HOOK_PRESTOP "prestop"
#define HOOK_POSTSTOP "poststop"

/* How long one may take; then it and what it started is killed. */
#define HOOK_SECONDS 60

/*
 * Runs one, if the guest's file names it, in the guest's folder with the guest's name and folder as
 * arguments, and waits for its end. What it prints and how it ends stands in the log; nothing depends on it.
 */
void hook_run(const struct guest *g, const char *which);

#endif
