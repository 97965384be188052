/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_FLASH_H
#define FW_FLASH_H

#include <stdint.h>

struct dev;
struct dev_ops;

/*
 * The firmware: a read-only code image that ends at 4 GiB and, right below it, a flash chip with the guest's own UEFI
 * variables: Intel commands of the Common Flash Interface, one byte wide, 4 KiB blocks. What the guest wrote is on disk
 * whenever the chip is back in read-array mode. Without vars the firmware keeps variables in RAM only. Both files are
 * opened and checked by init; the variables' file is locked for as long as the device lives.
 */
struct flash_conf {
	char *code; /* image file */
	char *vars; /* image file, NULL: no variable store */
};

#define FLASH_BLOCK 4096u

extern const struct dev_ops flash_ops;

/* Address of the first byte: of the variables, or of the code if there are none. */
uint64_t flash_base(const struct dev *d);

#endif
