/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PROGRESS_H
#define MANAGER_PROGRESS_H

#include <stdint.h>

/*
 * How far something that takes long has come. The caller sets show and arg; all functions accept
 * NULL. Who does the work calls begin, then to as often as it likes, then end.
 */
struct progress {
	/* Bytes so far, in all (0: unknown), per second (0: not known, or it is done). */
	void (*show)(void *arg, uint64_t have, uint64_t total, uint64_t rate);
	void *arg;
	uint64_t have, total, first, start_ns, shown_ns;
};

/* have: what was there before, which does not count for the rate. */
void progress_begin(struct progress *p, uint64_t have, uint64_t total);
/* Shows it if the last time was half a second ago. */
void progress_to(struct progress *p, uint64_t have);
void progress_add(struct progress *p, uint64_t bytes);
/* The last word: all of it is done. */
void progress_end(struct progress *p);

#endif
