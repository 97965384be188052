/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "aml/aml.h"
#include "aml/aml_priv.h"
#include "util/bytes.h"
#include "util/macros.h"

/* Small and large resource items (ACPI 6.4 s6.4.2, s6.4.3). */
enum {
	RES_IRQ = 0x22,
	RES_IO = 0x47,
	RES_MEM32_FIXED = 0x86,
	RES_DWORD_SPACE = 0x87,
	RES_WORD_SPACE = 0x88,
	RES_QWORD_SPACE = 0x8a,
};

enum space { SPACE_MEM = 0, SPACE_IO = 1, SPACE_BUS = 2 };

#define WINDOW_FLAGS 0x0c /* producer, positive decode, both ends fixed */
#define IO_ENTIRE_RANGE 3
#define MEM_READ_WRITE 1
/* Not "prefetchable" (3): systems would refuse BARs in there that are not. */
#define MEM_CACHEABLE (1 << 1)

struct PACKED res_io {
	uint8_t tag, decode16;
	le16 min, max;
	uint8_t align, len;
};

struct PACKED res_irq {
	uint8_t tag;
	le16 mask;
};

struct PACKED res_mem32 {
	uint8_t tag;
	le16 size;
	uint8_t rw;
	le32 base, len;
};

struct PACKED res_word_space {
	uint8_t tag;
	le16 size;
	uint8_t type, flags, type_flags;
	le16 granularity, min, max, translation, len;
};

struct PACKED res_dword_space {
	uint8_t tag;
	le16 size;
	uint8_t type, flags, type_flags;
	le32 granularity, min, max, translation, len;
};

struct PACKED res_qword_space {
	uint8_t tag;
	le16 size;
	uint8_t type, flags, type_flags;
	le64 granularity, min, max, translation, len;
};

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	const struct res_io r = {
		.tag = RES_IO,
		.decode16 = 1,
		.min = base,
		.max = base,
		.align = 1,
		.len = len,
	};

	aml_put(a, &r, sizeof(r));
}

void aml_res_irq(struct aml *a, unsigned int irq)
{
	const struct res_irq r = { .tag = RES_IRQ, .mask = (uint16_t)BIT(irq & 15) };

	aml_put(a, &r, sizeof(r));
}

void aml_res_mem32(struct aml *a, uint32_t base, uint32_t len)
{
	const struct res_mem32 r = {
		.tag = RES_MEM32_FIXED,
		.size = sizeof(r) - 3,
		.rw = MEM_READ_WRITE,
		.base = base,
		.len = len,
	};

	aml_put(a, &r, sizeof(r));
}

static void word_window(struct aml *a, enum space type, uint8_t type_flags, uint16_t first,
			uint16_t last)
{
	const struct res_word_space r = {
		.tag = RES_WORD_SPACE,
		.size = sizeof(r) - 3,
		.type = (uint8_t)type,
		.flags = WINDOW_FLAGS,
		.type_flags = type_flags,
		.min = first,
		.max = last,
		.len = (uint16_t)(last - first + 1),
	};

	aml_put(a, &r, sizeof(r));
}

void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t last)
{
	word_window(a, SPACE_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *a, uint16_t first, uint16_t last)
{
	word_window(a, SPACE_IO, IO_ENTIRE_RANGE, first, last);
}

void aml_res_mem32_window(struct aml *a, uint32_t first, uint32_t last, bool cacheable)
{
	const struct res_dword_space r = {
		.tag = RES_DWORD_SPACE,
		.size = sizeof(r) - 3,
		.type = SPACE_MEM,
		.flags = WINDOW_FLAGS,
		.type_flags = MEM_READ_WRITE | (cacheable ? MEM_CACHEABLE : 0),
		.min = first,
		.max = last,
		.len = last - first + 1,
	};

	aml_put(a, &r, sizeof(r));
}

void aml_res_mem64_window(struct aml *a, uint64_t first, uint64_t last, bool cacheable)
{
	const struct res_qword_space r = {
		.tag = RES_QWORD_SPACE,
		.size = sizeof(r) - 3,
		.type = SPACE_MEM,
		.flags = WINDOW_FLAGS,
		.type_flags = MEM_READ_WRITE | (cacheable ? MEM_CACHEABLE : 0),
		.min = first,
		.max = last,
		.len = last - first + 1,
	};

	aml_put(a, &r, sizeof(r));
}
