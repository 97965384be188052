/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_E820_H
#define FW_E820_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem/mem.h"
#include "util/bytes.h"
#include "util/macros.h"

struct dev;
struct err;

#define FW_E820_MAX (MEM_MAX_REGIONS + 3)

enum fw_e820_type { FW_E820_RAM = 1, FW_E820_RESERVED = 2 };

struct PACKED fw_e820_entry {
	le64 base, len;
	le32 type;
};

/* RAM as it is, KVM's pages, and AMD's hole if amd_hole. Ascending. Returns the count. */
size_t fw_e820(const struct mem *m, bool amd_hole, struct fw_e820_entry out[FW_E820_MAX]);
/* Adds etc/e820. */
int fw_e820_add(const struct mem *m, bool amd_hole, struct dev *fwcfg, struct err *err);

#endif
