/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_FLASH_H
#define FW_FLASH_H

#include <stdbool.h>
#include <stdint.h>

struct dev;
struct dev_ops;

/*
 * The firmware: a read-only code image that ends at 4 GiB and, below it, a flash chip with the UEFI variables whose
 * writes go to the guest's own file (keys "code" and "vars"). Without vars the firmware keeps variables in RAM only.
 * Both files are opened, checked and locked by init.
 */
extern const struct dev_ops flash_ops;

/* Address of the first byte: of the variables, or of the code if there are none. */
uint64_t flash_base(const struct dev *d);

#endif
