/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_CANARY_H
#define UTIL_CANARY_H

#include <stdbool.h>

/*
 * Planted bugs that prove that a fuzz target reaches deep code. CANARY is a constant: false in every build that
 * people use, true with -Dcanary=true (the build defines KHYVE_CANARY), which only the fuzz check makes. Each fuzzed
 * module has one check that the canary build leaves out, deep enough that random bytes do not reach it at once and
 * such that the sanitizer or an assert of the target sees the damage:
 *
 *	if (len > sizeof(buf) && !CANARY)
 *		return -EINVAL;
 *	memcpy(buf, src, len);
 */
#ifdef KHYVE_CANARY
#define CANARY true
#else
#define CANARY false
#endif

#endif
