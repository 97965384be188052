/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_GLOG_H
#define MANAGER_GLOG_H

#include <stddef.h>
#include <stdint.h>

struct guest;

#define GLOG_FILE "vm-bhyve.log"

/* Now, as ISO 8601 with the zone: "2026-01-12T07:40:01+01:00". */
#define GLOG_TIME_SIZE 40
void glog_time(char out[GLOG_TIME_SIZE]);
/*
 * Appends "TIME: text" to NAME/vm-bhyve.log, TIME as ISO 8601 with the zone. Failures are nobody's
 * concern.
 */
void glog_write(const struct guest *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same to NAME/khyve.log, which tells what khyve says of one run from what it said of another. */
void glog_mark(const struct guest *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * Packs a log of the guest's folder that has grown beyond 1 MiB to FILE.0.gz and starts a new one.
 */
void glog_rotate(const struct guest *g, const char *file);
/* The last line that was written to a log behind offset, without control characters; "" if none. */
void glog_last_line(const struct guest *g, const char *file, uint64_t offset, char *out,
		    size_t size);

#endif
