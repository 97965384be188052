/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_FIRMWARE_H
#define MANAGER_FIRMWARE_H

#include <limits.h>

struct err;

/* A UEFI firmware of the host: the code image and the variable store that guests get a copy of. */
struct firmware {
	char code[PATH_MAX], vars[PATH_MAX];
};

/*
 * Finds the first firmware for x86-64, Q35, flash, without Secure Boot and SMM in the descriptors
 * that the distribution installs (QEMU's firmware.json). The error says what to install.
 */
int firmware_find(struct firmware *out, struct err *err);
/* The same in one folder. -ENOENT if it has none that fits. */
int firmware_find_in(const char *dir, struct firmware *out);

#endif
