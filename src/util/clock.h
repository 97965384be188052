/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_CLOCK_H
#define UTIL_CLOCK_H

#include <stdint.h>

#define NS_PER_SEC 1000000000ull
#define NS_PER_MS 1000000ull
#define NS_PER_US 1000ull

/* CLOCK_MONOTONIC in nanoseconds. Models use the clock of their loop instead (loop_now). */
uint64_t clock_mono_ns(void);
/* CLOCK_REALTIME in nanoseconds since the epoch. */
uint64_t clock_real_ns(void);

#endif
