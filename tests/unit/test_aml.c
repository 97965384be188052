/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "aml/aml.h"
#include "iasl.h"
#include "run.h"
#include "util/bytes.h"
#include "util/macros.h"

/* The bytes written so far must be these. */
#define CHECK_BYTES(a, ...)                                                                \
	do {                                                                               \
		static const uint8_t want_bytes_[] = { __VA_ARGS__ };                      \
		CHECK_EQ(aml_error(a), 0);                                                 \
		CHECK_EQ((a)->len, sizeof(want_bytes_));                                   \
		for (size_t i_ = 0; i_ < sizeof(want_bytes_); i_++)                        \
			if ((a)->buf[i_] != want_bytes_[i_])                               \
				CHECK_FAIL("byte %zu is %02x, not %02x", i_, (a)->buf[i_], \
					   want_bytes_[i_]);                               \
		aml_fini(a);                                                               \
		aml_init(a);                                                               \
	} while (0)

static void test_integers(void)
{
	struct aml a;

	aml_init(&a);
	aml_int(&a, 0);
	aml_int(&a, 1);
	aml_int(&a, 2);
	aml_int(&a, 255);
	aml_int(&a, 256);
	aml_int(&a, 0x10000);
	aml_int(&a, 0x100000000ull);
	CHECK_BYTES(&a, 0, 1, 0x0a, 2, 0x0a, 255, 0x0b, 0, 1, 0x0c, 0, 0, 1, 0, 0x0e, 0, 0, 0, 0, 1,
		    0, 0, 0);
}

static void test_names(void)
{
	struct aml a;

	aml_init(&a);
	aml_ref(&a, "A");
	aml_ref(&a, "\\_SB");
	aml_ref(&a, "\\_SB.PCI0");
	aml_ref(&a, "^^A.B.C1");
	aml_ref(&a, "\\");
	CHECK_BYTES(&a, 'A', '_', '_', '_', '\\', '_', 'S', 'B', '_', '\\', 0x2e, '_', 'S', 'B',
		    '_', 'P', 'C', 'I', '0', '^', '^', 0x2f, 3, 'A', '_', '_', '_', 'B', '_', '_',
		    '_', 'C', '1', '_', '_', '\\', 0);
}

static void test_bad_names(void)
{
	static const char *const bad[] = { "a", "1A", "ABCDE", "A..B", "A.", ".A", "A B", "A/B" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct aml a;

		aml_init(&a);
		aml_ref(&a, bad[i]);
		if (aml_error(&a) != -EINVAL)
			CHECK_FAIL("\"%s\" was accepted", bad[i]);
		aml_int(&a, 1);
		CHECK_EQ(aml_error(&a), -EINVAL);
		aml_fini(&a);
	}
}

static void test_objects(void)
{
	struct aml a;

	aml_init(&a);
	aml_name_eisa_id(&a, "_HID", "PNP0A08");
	aml_name_string(&a, "S", "hi");
	aml_name(&a, "B");
	aml_buffer(&a, "\x01\x02", 2);
	CHECK_BYTES(&a, 8, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x08, 8, 'S', '_', '_', '_',
		    0x0d, 'h', 'i', 0, 8, 'B', '_', '_', '_', 0x11, 5, 0x0a, 2, 1, 2);
	aml_uuid(&a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	CHECK_BYTES(&a, 0x11, 0x13, 0x0a, 0x10, 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
		    0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66);
	aml_fini(&a);
}

static void test_bad_objects(void)
{
	static const char *const ids[] = { "", "PNP", "pnp0A08", "PNP0A0G" };
	struct aml a;

	for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
		aml_init(&a);
		aml_eisa_id(&a, ids[i]);
		CHECK_EQ(aml_error(&a), -EINVAL);
		aml_fini(&a);
	}
	aml_init(&a);
	aml_uuid(&a, "33db4d5b-1ff7-401c-9657-7441c03dd76");
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	aml_uuid(&a, "33db4d5b-1ff7-401c-9657-7441c03dd76x");
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	aml_string(&a, "\xc3\xa4");
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
}

/* Bodies of every size class of the package length. */
static void test_package_lengths(void)
{
	static const struct {
		size_t body, bytes;
	} sizes[] = { { 0, 1 },	   { 55, 1 },	{ 58, 1 },     { 59, 2 },      { 4000, 2 },
		      { 4089, 2 }, { 4090, 3 }, { 100000, 3 }, { 1048568, 3 }, { 1048569, 4 } };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct aml a;
		size_t len, n = sizes[i].bytes;

		aml_init(&a);
		aml_begin_scope(&a, "ABCD");
		for (size_t k = 0; k < sizes[i].body; k++)
			aml_op(&a, AML_ZERO);
		aml_end(&a);
		CHECK_EQ(aml_error(&a), 0);
		CHECK_EQ(a.len, 1 + n + 4 + sizes[i].body);
		CHECK_EQ(a.buf[1] >> 6, n - 1);
		len = n == 1 ? a.buf[1] & 0x3f : a.buf[1] & 0xf;
		for (size_t k = 1; k < n; k++)
			len |= (size_t)a.buf[1 + k] << (4 + 8 * (k - 1));
		CHECK_EQ(len, n + 4 + sizes[i].body);
		CHECK_EQ(a.buf[1 + n], 'A');
		aml_fini(&a);
	}
}

static void test_misuse(void)
{
	struct aml a;

	aml_init(&a);
	aml_end(&a);
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	aml_begin_scope(&a, "A");
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	for (int i = 0; i < AML_DEPTH_MAX + 1; i++)
		aml_begin_scope(&a, "A");
	for (int i = 0; i < AML_DEPTH_MAX + 1; i++)
		aml_end(&a);
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	aml_begin_method(&a, "M", 8, false);
	aml_end(&a);
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	aml_init(&a);
	aml_begin_package(&a, 256);
	aml_end(&a);
	CHECK_EQ(aml_error(&a), -EINVAL);
	aml_fini(&a);
	memset(&a, 0, sizeof(a));
	aml_fini(&a);
}

static void test_resources(void)
{
	struct aml a;

	aml_init(&a);
	aml_begin_resources(&a, "_CRS");
	aml_res_io(&a, 0x60, 1);
	aml_res_irq(&a, 12);
	aml_res_mem32(&a, 0xfed1c000, 0x4000);
	aml_end(&a);
	CHECK_BYTES(&a, 8, '_', 'C', 'R', 'S', 0x11, 0x1c, 0x0a, 0x19, 0x47, 1, 0x60, 0, 0x60, 0, 1,
		    1, 0x22, 0, 0x10, 0x86, 9, 0, 1, 0, 0xc0, 0xd1, 0xfe, 0, 0x40, 0, 0, 0x79, 0);
	aml_begin_resources(&a, "X");
	aml_end(&a);
	CHECK_BYTES(&a, 8, 'X', '_', '_', '_', 0x11, 5, 0x0a, 2, 0x79, 0);
	aml_fini(&a);
}

static void write_os_control(struct aml *a)
{
	aml_begin_method(a, "_OSC", 4, false);
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_op(a, AML_ARG0 + 3);
	aml_int(a, 0);
	aml_ref(a, "CDW1");
	aml_begin_if(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG0);
	aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG0 + 3);
	aml_end(a);
	aml_begin_else(a);
	aml_op(a, AML_OR);
	aml_ref(a, "CDW1");
	aml_int(a, 4);
	aml_ref(a, "CDW1");
	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG0 + 3);
	aml_end(a);
	aml_end(a);
}

/* What the disassembler must show, in this order. */
static const char *const iasl_shows[] = {
	"DefinitionBlock (\"\", \"DSDT\", 2, \"KHYVE \", \"TEST    \", 0x00000001)",
	"Scope (\\_SB)",
	"Device (PCI0)",
	"EisaId (\"PNP0A08\")",
	"Name (_UID, \"root\")",
	"WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,",
	"0x0000,             // Range Minimum",
	"0x00FF,             // Range Maximum",
	"WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,",
	"0xFFFF,",
	"DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,",
	"0xC0000000,",
	"0xFEBFFFFF,",
	"0x3EC00000,",
	"QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite,",
	"0x000000E000000000,",
	"0x000000E7FFFFFFFF,",
	"0x0000000800000000,",
	"IO (Decode16,",
	"0x0CF8,",
	"IRQNoFlags ()",
	"{8}",
	"Memory32Fixed (ReadWrite,",
	"0xFED1C000,",
	"Package (0x02)",
	"0x0002FFFF",
	"Method (_OSC, 4, NotSerialized)",
	"CreateDWordField (Arg3, Zero, CDW1)",
	"ToUUID (\"33db4d5b-1ff7-401c-9657-7441c03dd766\"",
	"Else",
};

static void write_namespace(struct aml *a)
{
	aml_begin_scope(a, "\\_SB");
	aml_begin_device(a, "PCI0");
	aml_name_eisa_id(a, "_HID", "PNP0A08");
	aml_name_string(a, "_UID", "root");
	aml_begin_resources(a, "_CRS");
	aml_res_bus_window(a, 0, 255);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_mem32_window(a, 0xc0000000, 0xfebfffff, false);
	aml_res_mem64_window(a, 0xe000000000ull, 0xe7ffffffffull, true);
	aml_res_io(a, 0xcf8, 8);
	aml_res_irq(a, 8);
	aml_res_mem32(a, 0xfed1c000, 0x4000);
	aml_end(a);
	aml_name(a, "PKG1");
	aml_begin_package(a, 2);
	aml_int(a, 0x2ffff);
	aml_int(a, 1);
	aml_end(a);
	write_os_control(a);
	aml_end(a);
	aml_end(a);
}

/* The bytes of a whole table, with its length and checksum. */
static size_t finish_table(const struct aml *a, uint8_t *table, size_t size)
{
	static const uint8_t head[36] = "DSDT\0\0\0\0\x02\0KHYVE TEST    \x01\0\0\0TEST\x01";
	size_t len = sizeof(head) + a->len;
	uint8_t sum = 0;

	CHECK(len <= size);
	memcpy(table, head, sizeof(head));
	memcpy(table + sizeof(head), a->buf, a->len);
	put_le32(table + 4, (uint32_t)len);
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + table[i]);
	table[9] = (uint8_t)(0 - sum);
	return len;
}

/* A whole table as iasl sees it. */
static void test_iasl(void)
{
	uint8_t table[2048];
	struct aml a;
	char *text, *at;
	size_t len;

	if (iasl_missing()) {
		printf("iasl is not installed (package acpica-tools): not checked\n");
		return;
	}
	aml_init(&a);
	write_namespace(&a);
	CHECK_EQ(aml_error(&a), 0);
	len = finish_table(&a, table, sizeof(table));
	text = at = iasl_disassemble(table, len, "dsdt", 1);
	for (size_t i = 0; i < ARRAY_LEN(iasl_shows); i++) {
		at = strstr(at, iasl_shows[i]);
		if (!at)
			CHECK_FAIL("%s is missing in:\n%s", iasl_shows[i], text);
	}
	free(text);
	aml_fini(&a);
}

static const struct test_case cases[] = {
	{ "integers", test_integers },
	{ "names", test_names },
	{ "bad_names", test_bad_names },
	{ "objects", test_objects },
	{ "bad_objects", test_bad_objects },
	{ "package_lengths", test_package_lengths },
	{ "misuse", test_misuse },
	{ "resources", test_resources },
	{ "iasl", test_iasl },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
