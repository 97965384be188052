/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BUS_REG_H
#define BUS_REG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Registers as tables. The dispatcher turns any access of 1, 2, 4 or 8 bytes at any offset into whole-register
 * handler calls: reads of a part extract it, accesses over several registers are split in ascending order, writes
 * of a part are merged with the register's value if REG_PART is set and ignored otherwise. Bytes that belong to no
 * register read as the table's fill and ignore writes.
 */
enum reg_flags {
	REG_PART = 1 << 0, /* narrower writes merge with what read() returns (no side effects) */
};

struct reg {
	uint32_t offset;
	uint8_t width; /* bytes: 1, 2, 4, 8 */
	uint8_t flags;
	uint16_t count; /* array of registers; 0 means 1 */
	uint32_t stride; /* bytes between array elements; 0 means width */
	const char *name;
	uint64_t wmask; /* bits that write() may see set; 0 means all. Others arrive as zero */
	/* index is the array element, else 0. NULL read: fill. NULL write: read-only. */
	uint64_t (*read)(void *model, unsigned int index);
	void (*write)(void *model, unsigned int index, uint64_t value);
};

struct reg_table {
	const struct reg *regs; /* ascending, apart (elements of arrays may interleave) */
	size_t n;
	uint8_t fill; /* 0x00 or 0xff */
};

#define REG_TABLE(regs_, fill_)                                                           \
	{                                                                                 \
		.regs = (regs_), .n = sizeof(regs_) / sizeof((regs_)[0]), .fill = (fill_) \
	}

uint64_t reg_read(const struct reg_table *t, void *model, uint64_t offset, unsigned int size);
void reg_write(const struct reg_table *t, void *model, uint64_t offset, unsigned int size,
	       uint64_t value);

#endif
