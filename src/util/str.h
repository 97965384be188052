/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_STR_H
#define UTIL_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal, 0x hexadecimal or 0 octal, whole string. 0 or -EINVAL, -ERANGE. */
int str_u64(const char *s, uint64_t *out);
int str_i64(const char *s, int64_t *out);
/* Number with an optional suffix K M G T (any case, base 1024); unit multiplies a number without one. */
int str_size(const char *s, uint64_t unit, uint64_t *out);
/* true/on/yes/1 or false/off/no/0, any case. */
int str_bool(const char *s, bool *out);

/* A MAC address: six pairs of digits with ':' or '-' between them. 0, or -EINVAL with mac undefined. */
int str_mac(const char *s, uint8_t mac[6]);

/* Copies with truncation reported: 0, or -ENAMETOOLONG with dst holding what fitted. Always terminates. */
int str_copy(char *dst, size_t size, const char *src);
/* malloc'ed printf; NULL when out of memory. */
char *str_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *end);

/* The candidate nearest to s by edit distance, or NULL when none is near enough to be worth suggesting. */
const char *str_nearest(const char *s, const char *const *candidates, size_t n);

#endif
