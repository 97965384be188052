/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include <stdio.h>

struct conf;
struct err;
struct machine;

/*
 * A whole virtual machine, built from a frozen configuration tree and run on the calling thread. Everything that can
 * be refused is refused by machine_new, before the guest runs.
 */
int machine_new(const struct conf *conf, struct machine **out, struct err *err);
/* NULL is fine. */
void machine_free(struct machine *m);

/* How a run ended: the exit status of khyve, as bhyve's. */
enum machine_exit {
	MACHINE_EXIT_RESET = 0, /* only with reboot.exit */
	MACHINE_EXIT_POWEROFF = 1,
	MACHINE_EXIT_HALT = 2,
	MACHINE_EXIT_TRIPLE_FAULT = 3,
	MACHINE_EXIT_ERROR = 4,
};

/* Runs until the guest is off. err is set with MACHINE_EXIT_ERROR and MACHINE_EXIT_TRIPLE_FAULT. */
enum machine_exit machine_run(struct machine *m, struct err *err);

/* The path of a running program's sibling: NAME beside khyve, or in the libexec folder. For programs khyve starts. */
int machine_find_program(const char *name, char *out, size_t size);

#endif
