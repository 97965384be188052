/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SUPER_H
#define MANAGER_SUPER_H

#include <stdbool.h>

struct guest;
struct store;

/* Exit statuses of vm _run besides those of khyve. */
#define SUPER_EXIT_NOT_FOUND 5
#define SUPER_EXIT_RUNNING 10
#define SUPER_EXIT_CONFIG 15

struct super_opts {
	const struct store *store;
	const char *khyve; /* path of the program */
	const char *iso; /* installation medium, NULL: none */
	bool foreground; /* the first serial port is standard input and output */
	/* The guest runs already and has lost its supervisor: look after it from now on. */
	bool adopt;
	/*
	 * Gets one line when the guest is up or has failed, then is closed; -1: nobody listens.
	 * "up", "up waiting ADDR", "running" or "failed TEXT".
	 */
	int report;
};

/*
 * Supervises a guest until it stays off: prepares its files, starts khyve, starts it again as
 * on_restart, on_fault and vm restart say, and removes what the runs leave. Killing the supervisor
 * leaves the guest running; the next command cleans up. SIGTERM presses the power button, a second
 * one switches off. Returns the exit status.
 */
int super_run(const struct guest *g, const struct super_opts *opts);

#endif
