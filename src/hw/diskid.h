/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_DISKID_H
#define HW_DISKID_H

#include <stdint.h>

#define DISKID_LEN 20

struct err;

/*
 * The serial number that a guest sees, at most 20 characters: ser if given, else "KHYVE-XXXX-XXXX-XXXX" made of the
 * low 48 bits of the 64-bit FNV-1a hash of path, so that it stays the same as long as the image stays where it is.
 * out has DISKID_LEN + 1 bytes. 0, or -EINVAL with a text when ser is too long or not printable ASCII.
 */
int diskid_make(const char *ser, const char *path, char *out, struct err *err);
/* The 64-bit FNV-1a hash behind it. */
uint64_t diskid_hash(const char *s);

#endif
