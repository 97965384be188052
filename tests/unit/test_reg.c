/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bus/reg.h"
#include "run.h"

struct model {
	uint64_t cap, wide;
	uint32_t cc, sticky, bells[8];
	uint16_t small;
	uint8_t byte;
	unsigned int reads, writes;
};

static uint64_t cap_read(void *m, unsigned int i)
{
	(void)i;
	((struct model *)m)->reads++;
	return ((struct model *)m)->cap;
}

static uint64_t cc_read(void *m, unsigned int i)
{
	(void)i;
	((struct model *)m)->reads++;
	return ((struct model *)m)->cc;
}

static void cc_write(void *m, unsigned int i, uint64_t v)
{
	(void)i;
	((struct model *)m)->writes++;
	((struct model *)m)->cc = (uint32_t)v;
}

static void wide_write(void *m, unsigned int i, uint64_t v)
{
	(void)i;
	((struct model *)m)->writes++;
	((struct model *)m)->wide = v;
}

static uint64_t small_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct model *)m)->small;
}

static void small_write(void *m, unsigned int i, uint64_t v)
{
	(void)i;
	((struct model *)m)->small = (uint16_t)v;
}

static uint64_t byte_read(void *m, unsigned int i)
{
	(void)i;
	/* More than fits: the dispatcher must cut it. */
	return ((struct model *)m)->byte | 0xabcd00u;
}

static void tail_write(void *m, unsigned int i, uint64_t v)
{
	((struct model *)m)->bells[2 * i] = (uint32_t)v;
}

static void head_write(void *m, unsigned int i, uint64_t v)
{
	((struct model *)m)->bells[2 * i + 1] = (uint32_t)v;
}

static const struct reg regs[] = {
	{ .offset = 0x00, .width = 8, .name = "CAP", .read = cap_read },
	{ .offset = 0x08,
	  .width = 4,
	  .flags = REG_PART,
	  .name = "CC",
	  .wmask = 0x00ffffff,
	  .read = cc_read,
	  .write = cc_write },
	{ .offset = 0x10, .width = 2, .name = "SMALL", .read = small_read, .write = small_write },
	{ .offset = 0x12, .width = 1, .name = "BYTE", .read = byte_read },
	{ .offset = 0x18, .width = 8, .name = "WIDE", .write = wide_write },
	{ .offset = 0x40,
	  .width = 4,
	  .count = 4,
	  .stride = 8,
	  .name = "TAIL",
	  .write = tail_write },
	{ .offset = 0x44,
	  .width = 4,
	  .count = 4,
	  .stride = 8,
	  .name = "HEAD",
	  .write = head_write },
};
static const struct reg_table zeros = REG_TABLE(regs, 0x00);
static const struct reg_table ones = REG_TABLE(regs, 0xff);

static void test_read_parts(void)
{
	struct model m = { .cap = 0x1122334455667788 };

	CHECK_EQ(reg_read(&zeros, &m, 0, 8), 0x1122334455667788);
	CHECK_EQ(reg_read(&zeros, &m, 0, 4), 0x55667788);
	CHECK_EQ(reg_read(&zeros, &m, 4, 4), 0x11223344);
	CHECK_EQ(reg_read(&zeros, &m, 3, 2), 0x4455);
	CHECK_EQ(reg_read(&zeros, &m, 7, 1), 0x11);
}

static void test_read_across(void)
{
	struct model m = {
		.cap = 0x1122334455667788, .cc = 0xaabbccdd, .small = 0x1234, .byte = 0x56
	};

	CHECK_EQ(reg_read(&zeros, &m, 6, 4), 0xccdd1122);
	CHECK_EQ(m.reads, 2);
	CHECK_EQ(reg_read(&zeros, &m, 0x0b, 4), 0x000000aa);
	CHECK_EQ(reg_read(&ones, &m, 0x0b, 4), 0xffffffaa);
	CHECK_EQ(reg_read(&ones, &m, 0x10, 4), 0xff561234);
	CHECK_EQ(reg_read(&zeros, &m, 0x10, 8), 0x561234);
}

static void test_holes(void)
{
	struct model m = { 0 };

	CHECK_EQ(reg_read(&zeros, &m, 0x30, 8), 0);
	CHECK_EQ(reg_read(&ones, &m, 0x30, 8), UINT64_MAX);
	CHECK_EQ(reg_read(&ones, &m, UINT64_MAX - 7, 8), UINT64_MAX);
	CHECK_EQ(reg_read(&ones, &m, 0x60, 1), 0xff);
	/* A register that cannot be read. */
	CHECK_EQ(reg_read(&ones, &m, 0x18, 4), 0xffffffff);
	CHECK_EQ(reg_read(&zeros, &m, 0x40, 4), 0);
	reg_write(&zeros, &m, 0x30, 8, UINT64_MAX);
	reg_write(&zeros, &m, 0x60, 4, UINT64_MAX);
	/* Read-only registers. */
	reg_write(&zeros, &m, 0x00, 8, UINT64_MAX);
	reg_write(&zeros, &m, 0x12, 1, 0xff);
	CHECK_EQ(m.cap | m.byte | m.writes | m.wide, 0);
}

static void test_write_masks(void)
{
	struct model m = { 0 };

	reg_write(&zeros, &m, 8, 4, 0xffffffff);
	CHECK_EQ(m.cc, 0x00ffffff);
	reg_write(&zeros, &m, 0x10, 2, 0xf00dbeef);
	CHECK_EQ(m.small, 0xbeef);
	reg_write(&zeros, &m, 0x18, 8, 0x1122334455667788);
	CHECK_EQ(m.wide, 0x1122334455667788);
}

static void test_write_parts(void)
{
	struct model m = { .cc = 0x00112233, .small = 0x4455 };

	reg_write(&zeros, &m, 9, 1, 0xaa);
	CHECK_EQ(m.cc, 0x0011aa33);
	reg_write(&zeros, &m, 10, 2, 0xbbcc);
	CHECK_EQ(m.cc, 0x00ccaa33);
	/* Without REG_PART a part is ignored. */
	reg_write(&zeros, &m, 0x10, 1, 0);
	CHECK_EQ(m.small, 0x4455);
	reg_write(&zeros, &m, 0x18, 4, 1);
	CHECK_EQ(m.wide, 0);
	/* Over two registers: whole ones are written, parts by their own rule. */
	reg_write(&zeros, &m, 0x0f, 4, 0x11998877);
	CHECK_EQ(m.small, 0x9988);
	reg_write(&zeros, &m, 4, 8, 0x0000000700000000);
	CHECK_EQ(m.cc, 7);
}

static void test_interleaved_arrays(void)
{
	struct model m = { 0 };

	for (unsigned int i = 0; i < 8; i++)
		reg_write(&zeros, &m, 0x40 + 4 * i, 4, 100 + i);
	for (unsigned int i = 0; i < 8; i++)
		CHECK_EQ(m.bells[i], 100 + i);
	reg_write(&zeros, &m, 0x58, 8, 0x0000000200000001);
	CHECK_EQ(m.bells[6], 1);
	CHECK_EQ(m.bells[7], 2);
	/* A misplaced write touches none. */
	reg_write(&zeros, &m, 0x42, 4, 55);
	CHECK_EQ(m.bells[0], 100);
	CHECK_EQ(m.bells[1], 101);
}

static void test_every_offset(void)
{
	struct model m = { .cap = UINT64_MAX, .cc = UINT32_MAX, .small = UINT16_MAX, .byte = 0xff };

	for (uint64_t offset = 0; offset < 0x80; offset++)
		for (unsigned int size = 1; size <= 8; size *= 2) {
			uint64_t v = reg_read(&zeros, &m, offset, size);

			CHECK(size == 8 || v >> (8 * size) == 0);
			reg_write(&zeros, &m, offset, size, UINT64_MAX);
		}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "read_parts", test_read_parts },
		{ "read_across", test_read_across },
		{ "holes", test_holes },
		{ "write_masks", test_write_masks },
		{ "write_parts", test_write_parts },
		{ "interleaved_arrays", test_interleaved_arrays },
		{ "every_offset", test_every_offset },
	};

	return RUN_CASES(cases, argc, argv);
}
