/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "aml/aml.h"
#include "bench/tb.h"
#include "fw/acpi.h"
#include "fw/fwcfg.h"
#include "fw/linux.h"
#include "hw/models.h"
#include "iasl.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

#define LPC 0xf8

static struct tb *tb;
static struct fw_acpi *acpi;
static struct dev *fwcfg, *rng, *disk;
static struct err err;

/* A machine with a random source, a disk controller and the chipset. */
static void setup(const struct fw_acpi_spec *more)
{
	const struct tb_opts opts = { .high_ram = true };
	struct fw_acpi_spec spec = *more;

	tb = tb_new(&opts);
	tb_next_slot(tb, 0);
	CHECK(tb_add(tb, &hostbridge_ops, NULL, &err));
	tb_next_slot(tb, 2 << 3);
	rng = tb_add(tb, &virtio_rnd_ops, NULL, &err);
	tb_next_slot(tb, 4 << 3);
	disk = tb_add(tb, &nvme_ops, NULL, &err);
	if (!rng || !disk)
		CHECK_FAIL("%s", err.text);
	tb_next_slot(tb, LPC);
	CHECK(tb_add(tb, &lpc_ops, NULL, &err));
	spec.pci = tb_pci(tb);
	spec.mem = tb_memory(tb);
	spec.cpus = spec.cpus ? spec.cpus : 2;
	spec.phys_bits = spec.phys_bits ? spec.phys_bits : 39;
	spec.apic_ids[1] = 1;
	acpi = fw_acpi_new(&spec);
}

static void setup_fwcfg(void)
{
	const struct env env = {
		.name = "fwcfg", .loop = tb_loop(tb), .bus = tb_bus(tb), .mem = tb_memory(tb)
	};

	CHECK_EQ(dev_new(&fwcfg_ops, &env, NULL, &fwcfg, &err), 0);
	CHECK_EQ(fw_acpi_add(acpi, fwcfg, &err), 0);
	CHECK_EQ(dev_start(fwcfg, &err), 0);
}

static void teardown(void)
{
	if (fwcfg) {
		dev_pause(fwcfg, NULL, NULL);
		dev_free(fwcfg);
		fwcfg = NULL;
	}
	fw_acpi_free(acpi);
	tb_free(tb);
}

static void cfg_write(uint8_t devfn, unsigned int offset, uint32_t value)
{
	pci_bus_cfg_write(tb_pci(tb), 0, devfn, offset, 4, value);
}

/* The chipset as firmware leaves it, with the 64-bit BAR of the disk at addr. */
static void firmware_setup(uint32_t ecam, uint32_t pmbase, uint64_t addr)
{
	cfg_write(LPC, 0x40, pmbase | 1);
	cfg_write(0, 0x64, 0);
	cfg_write(0, 0x60, ecam | 1);
	cfg_write(disk->env.slot->devfn, 0x10, (uint32_t)addr);
	cfg_write(disk->env.slot->devfn, 0x14, (uint32_t)(addr >> 32));
	pci_bus_cfg_write(tb_pci(tb), 0, disk->env.slot->devfn, 4, 2, 2);
}

/* --- a firmware of a few lines: fetches the files and runs the script --- */

#define BLOB_RSDP 0xf0000u
#define BLOB_TABLES 0x200000u

/* Reads a whole file to gpa. Returns its size. */
static uint32_t fetch(const char *name, gpa_t gpa)
{
	uint8_t entry[64];
	uint32_t count = 0, size;

	tb_out(tb, 0x510, 2, 0x19);
	for (int i = 0; i < 4; i++)
		count = count << 8 | tb_in(tb, 0x511, 1);
	while (count--) {
		for (unsigned int i = 0; i < sizeof(entry); i++)
			entry[i] = (uint8_t)tb_in(tb, 0x511, 1);
		if (strcmp((char *)entry + 8, name) != 0)
			continue;
		size = get_be32(entry);
		tb_out(tb, 0x510, 2, get_be16(entry + 4));
		for (uint32_t i = 0; i < size; i++)
			*(uint8_t *)tb_mem(tb, gpa + i, 1) = (uint8_t)tb_in(tb, 0x511, 1);
		return size;
	}
	CHECK_FAIL("no file %s", name);
}

/* Where a file of the script was loaded, and how much of it there is. */
static uint32_t blob_of(const char *name, uint32_t *size)
{
	bool rsdp = strcmp(name, "etc/acpi/rsdp") == 0;

	CHECK(rsdp || strcmp(name, "etc/acpi/tables") == 0);
	*size = rsdp ? 20 : 65536;
	return rsdp ? BLOB_RSDP : BLOB_TABLES;
}

static uint8_t sum_of(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *p++);
	return sum;
}

static void run_pointer(const uint8_t *c)
{
	uint32_t size, src_size, at = get_le32(c + 116), to = blob_of((char *)c + 4, &size);
	uint32_t base = blob_of((char *)c + 60, &src_size);
	uint8_t width = c[120], *p;

	CHECK(width == 4 || width == 8);
	CHECK(at + width <= size);
	p = tb_mem(tb, to + at, width);
	CHECK(get_le32(p) < src_size);
	put_le32(p, get_le32(p) + base);
}

static void run_sum(const uint8_t *c)
{
	uint32_t size, base = blob_of((char *)c + 4, &size), result = get_le32(c + 60);
	uint32_t start = get_le32(c + 64), len = get_le32(c + 68);
	uint8_t *p;

	CHECK(result < size && start < size && len <= size - start);
	p = tb_mem(tb, base + result, 1);
	CHECK_EQ(*p, 0);
	*p = (uint8_t)(0 - sum_of(tb_mem(tb, base + start, len), len));
}

/* Fetches script and blobs, runs the script as edk2 does. Returns the commands run. */
static int load_tables(void)
{
	int n = 0;

	CHECK_EQ(fetch("etc/table-loader", 0x100000), 4096);
	CHECK_EQ(fetch("etc/acpi/rsdp", BLOB_RSDP), 20);
	CHECK_EQ(fetch("etc/acpi/tables", BLOB_TABLES), 65536);
	for (unsigned int i = 0; i < 32; i++) {
		const uint8_t *c = tb_mem(tb, 0x100000 + 128 * i, 128);
		uint32_t size;

		n += get_le32(c) != 0;
		switch (get_le32(c)) {
		case 0:
			break;
		case 1:
			blob_of((char *)c + 4, &size);
			CHECK_EQ(get_le32(c + 60), size == 20 ? 16 : 64);
			break;
		case 2:
			run_pointer(c);
			break;
		case 3:
			run_sum(c);
			break;
		default:
			CHECK_FAIL("command %u", get_le32(c));
		}
	}
	return n;
}

/* --- finding tables in guest memory --- */

/* A table with a right checksum; len of it is in its header. */
static const uint8_t *table_at(uint32_t gpa)
{
	const uint8_t *t = tb_mem(tb, gpa, 36);
	uint32_t len = get_le32(t + 4);

	CHECK(len >= 36 && len < 65536);
	CHECK_EQ(gpa % 16, 0);
	t = tb_mem(tb, gpa, len);
	CHECK_EQ(sum_of(t, len), 0);
	CHECK(memcmp(t + 10, "KHYVE KHYVEVM ", 14) == 0);
	return t;
}

/* From the RSDP through the RSDT. NULL: not listed. */
static const uint8_t *find_table(uint32_t rsdp_gpa, const char *signature)
{
	const uint8_t *rsdp = tb_mem(tb, rsdp_gpa, 20), *rsdt;

	CHECK(memcmp(rsdp, "RSD PTR ", 8) == 0);
	CHECK_EQ(sum_of(rsdp, 20), 0);
	rsdt = table_at(get_le32(rsdp + 16));
	CHECK(memcmp(rsdt, "RSDT", 4) == 0);
	for (uint32_t i = 36; i < get_le32(rsdt + 4); i += 4) {
		const uint8_t *t = table_at(get_le32(rsdt + i));

		if (memcmp(t, signature, 4) == 0)
			return t;
	}
	return NULL;
}

static const uint8_t *find_dsdt(uint32_t rsdp)
{
	const uint8_t *fadt = find_table(rsdp, "FACP");

	CHECK(fadt);
	CHECK_EQ(get_le32(fadt + 40), get_le64(fadt + 140));
	return table_at(get_le32(fadt + 40));
}

/* True if the bytes occur in the table. */
static bool contains(const uint8_t *t, const void *bytes, size_t len)
{
	return memmem(t, get_le32(t + 4), bytes, len) != NULL;
}

/* A DWord memory window in a resource template. */
static bool has_window32(const uint8_t *dsdt, uint32_t first, uint32_t last)
{
	uint8_t want[26] = { 0x87, 0x17, 0, 0, 0x0c, 1 };

	put_le32(want + 10, first);
	put_le32(want + 14, last);
	put_le32(want + 22, last - first + 1);
	return contains(dsdt, want, sizeof(want));
}

static bool has_window64(const uint8_t *dsdt, uint64_t first, uint64_t last)
{
	uint8_t want[46] = { 0x8a, 0x2b, 0, 0, 0x0c, 3 };

	put_le64(want + 14, first);
	put_le64(want + 22, last);
	put_le64(want + 38, last - first + 1);
	return contains(dsdt, want, sizeof(want));
}

static bool has_reservation(const uint8_t *dsdt, uint32_t base, uint32_t len)
{
	uint8_t want[12] = { 0x86, 9, 0, 1 };

	put_le32(want + 4, base);
	put_le32(want + 8, len);
	return contains(dsdt, want, sizeof(want));
}

static unsigned int count_windows64(const uint8_t *dsdt)
{
	static const uint8_t head[6] = { 0x8a, 0x2b, 0, 0, 0x0c, 3 };

	return contains(dsdt, head, sizeof(head));
}

/* --- the cases --- */

static const struct fw_acpi_spec full = {
	.cpus = 3,
	.apic_ids = { 0, 1, 4 },
	.coms = 0x3,
	.i8042 = true,
	.fwcfg = true,
	.flash_base = 0xffc00000,
};

static void test_script(void)
{
	setup(&full);
	setup_fwcfg();
	firmware_setup(0xe0000000, 0x600, 0x800000000ull);
	CHECK_EQ(load_tables(), 17);
	CHECK(find_table(BLOB_RSDP, "APIC"));
	CHECK(find_table(BLOB_RSDP, "WAET"));
	CHECK(find_dsdt(BLOB_RSDP));
	teardown();
}

static void test_fadt(void)
{
	const uint8_t *t, *facs;

	setup(&full);
	setup_fwcfg();
	firmware_setup(0xe0000000, 0xb000, 0x800000000ull);
	load_tables();
	t = find_table(BLOB_RSDP, "FACP");
	CHECK(t);
	CHECK_EQ(get_le32(t + 4), 244);
	CHECK_EQ(t[8], 3);
	CHECK_EQ(get_le16(t + 46), 9);
	CHECK_EQ(get_le32(t + 48), 0);
	CHECK_EQ(get_le32(t + 56), 0xb000);
	CHECK_EQ(get_le32(t + 64), 0xb004);
	CHECK_EQ(get_le32(t + 76), 0xb008);
	CHECK_EQ(get_le32(t + 80), 0xb020);
	CHECK(t[88] == 4 && t[89] == 2 && t[91] == 4 && t[92] == 16);
	CHECK_EQ(t[108], 0x32);
	CHECK_EQ(get_le16(t + 109), 7);
	CHECK_EQ(get_le32(t + 112), 0x84a5);
	CHECK(memcmp(t + 116, "\1\x08\0\1\xf9\x0c", 6) == 0);
	CHECK_EQ(t[128], 6);
	CHECK_EQ(get_le64(t + 152), 0xb000);
	CHECK_EQ(get_le64(t + 176), 0xb004);
	CHECK_EQ(get_le64(t + 212), 0xb008);
	CHECK_EQ(get_le64(t + 224), 0xb020);
	facs = tb_mem(tb, get_le32(t + 36), 64);
	CHECK(memcmp(facs, "FACS\x40\0\0\0", 8) == 0);
	CHECK_EQ(get_le32(t + 36) % 64, 0);
	teardown();
}

static void test_madt(void)
{
	static const uint8_t want[] = {
		0, 0,  0xe0, 0xfe, 1, 0, 0, 0, 0,    8,	 0, 0, 1,    0, 0, 0,  0, 8,
		1, 1,  1,    0,	   0, 0, 0, 8, 2,    4,	 1, 0, 0,    0, 1, 12, 0, 0,
		0, 0,  0xc0, 0xfe, 0, 0, 0, 0, 2,    10, 0, 0, 2,    0, 0, 0,  0, 0,
		2, 10, 0,    9,	   9, 0, 0, 0, 0x0d, 0,	 4, 6, 0xff, 0, 0, 1,
	};
	const uint8_t *t;

	setup(&full);
	setup_fwcfg();
	load_tables();
	t = find_table(BLOB_RSDP, "APIC");
	CHECK(t);
	CHECK_EQ(get_le32(t + 4), 36 + sizeof(want));
	CHECK(memcmp(t + 36, want, sizeof(want)) == 0);
	teardown();
}

/* The tables follow the firmware: also after a reset, when another one may run. */
static void test_follows_firmware(void)
{
	const uint8_t *t, *dsdt;

	setup(&full);
	setup_fwcfg();
	load_tables();
	CHECK(!find_table(BLOB_RSDP, "MCFG"));
	CHECK_EQ(get_le32(find_table(BLOB_RSDP, "FACP") + 56), 0x600);
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(has_window32(dsdt, 0x80000000, 0xfebfffff));
	CHECK_EQ(count_windows64(dsdt), 0);

	firmware_setup(0xe0000000, 0x600, 0x4000000000ull);
	load_tables();
	t = find_table(BLOB_RSDP, "MCFG");
	CHECK(t);
	CHECK_EQ(get_le64(t + 44), 0xe0000000);
	CHECK(t[54] == 0 && t[55] == 0);
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(has_window32(dsdt, 0x80000000, 0xdfffffff));
	CHECK(has_window32(dsdt, 0xf0000000, 0xfebfffff));
	CHECK(has_window64(dsdt, 0x4000000000, 0x47ffffffff));
	CHECK(has_reservation(dsdt, 0xe0000000, 0x10000000));
	CHECK(has_reservation(dsdt, 0xffc00000, 0x400000));
	CHECK(has_reservation(dsdt, 0xfed1c000, 0x4000));

	firmware_setup(0xb0000000, 0x400, 0x800000000ull);
	load_tables();
	CHECK_EQ(get_le64(find_table(BLOB_RSDP, "MCFG") + 44), 0xb0000000);
	CHECK_EQ(get_le32(find_table(BLOB_RSDP, "FACP") + 56), 0x400);
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(has_window32(dsdt, 0xc0000000, 0xfebfffff));
	CHECK(!has_window32(dsdt, 0x80000000, 0xafffffff));
	CHECK(has_window64(dsdt, 0x800000000, 0xfffffffff));
	teardown();
}

/* Windows stay inside what the processor can address, off RAM and off AMD's hole, whatever the guest programs. */
static void test_window_limits(void)
{
	const struct fw_acpi_spec amd = { .phys_bits = 40 };
	const struct {
		uint64_t bar, first, last;
	} cases[] = {
		{ 0x140000000, 0x140000000, 0x93fffffff },
		{ 0x100004000, 0x140000000, 0x93fffffff }, /* inside RAM: the window is not */
		{ 0xfc80000000, 0xfc80000000, 0xfcffffffff },
		{ 0xfd00000000, 0xfd00000000, 0xffffffffff },
		{ 0xffffff0000, 0xffc0000000, 0xffffffffff },
		{ 0x10000000000, 1, 0 }, /* no vCPU can reach it */
		{ 0xfffffffffff00000, 1, 0 },
		{ 0xd0000000, 1, 0 },
	};

	setup(&amd);
	setup_fwcfg();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const uint8_t *dsdt;

		firmware_setup(0xe0000000, 0x600, cases[i].bar);
		load_tables();
		dsdt = find_dsdt(BLOB_RSDP);
		if (cases[i].first > cases[i].last)
			CHECK_EQ(count_windows64(dsdt), 0);
		else if (!has_window64(dsdt, cases[i].first, cases[i].last))
			CHECK_FAIL("BAR at %llx", (unsigned long long)cases[i].bar);
	}
	teardown();
}

static void test_odd_ecam(void)
{
	const uint8_t *dsdt;

	setup(&full);
	setup_fwcfg();
	firmware_setup(0xf0000000, 0x600, 0x800000000ull);
	load_tables();
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(has_window32(dsdt, 0x80000000, 0xefffffff));
	CHECK(has_reservation(dsdt, 0xf0000000, 0x10000000));
	firmware_setup(0x80000000, 0x600, 0x800000000ull);
	load_tables();
	CHECK(has_window32(find_dsdt(BLOB_RSDP), 0x90000000, 0xfebfffff));
	firmware_setup(0x70000000, 0x600, 0x800000000ull);
	load_tables();
	CHECK(has_window32(find_dsdt(BLOB_RSDP), 0x80000000, 0xfebfffff));
	teardown();
}

static void write_marker(const struct dev *d, struct aml *a)
{
	(void)d;
	aml_begin_device(a, "TEST");
	aml_name_string(a, "_HID", "KHYV0001");
	aml_end(a);
}

static int marker_init(struct dev *d, const struct env *env, const void *conf, struct err *e)
{
	(void)d;
	(void)env;
	(void)conf;
	(void)e;
	return 0;
}

static void marker_reset(struct dev *d)
{
	(void)d;
}

static const struct dev_ops marker_ops = {
	.model = "marker",
	.size = sizeof(struct dev),
	.init = marker_init,
	.reset = marker_reset,
	.acpi = write_marker,
};

static void test_models(void)
{
	struct fw_acpi_spec spec = full;
	struct list devs;
	struct dev *d;
	struct env env = { .name = "marker" };

	list_init(&devs);
	spec.devs = &devs;
	setup(&spec);
	env.loop = tb_loop(tb);
	CHECK_EQ(dev_new(&marker_ops, &env, NULL, &d, &err), 0);
	list_append(&devs, &d->link);
	setup_fwcfg();
	load_tables();
	CHECK(contains(find_dsdt(BLOB_RSDP), "KHYV0001", 9));
	dev_free(d);
	teardown();
}

static void test_optional_devices(void)
{
	const struct fw_acpi_spec bare = { .cpus = 1 };
	const uint8_t *dsdt;

	setup(&bare);
	setup_fwcfg();
	load_tables();
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(!contains(dsdt, "COM1", 4) && !contains(dsdt, "KBD_", 4) &&
	      !contains(dsdt, "FWCF", 4));
	CHECK(contains(dsdt, "C000", 4) && !contains(dsdt, "C001", 4));
	CHECK_EQ(get_le16(find_table(BLOB_RSDP, "FACP") + 109), 5);
	teardown();
	setup(&full);
	setup_fwcfg();
	load_tables();
	dsdt = find_dsdt(BLOB_RSDP);
	CHECK(contains(dsdt, "COM1", 4) && contains(dsdt, "COM2", 4) && !contains(dsdt, "COM3", 4));
	CHECK(contains(dsdt, "KBD_", 4) && contains(dsdt, "MOU_", 4) && contains(dsdt, "FWCF", 4));
	CHECK(contains(dsdt, "C002", 4) && !contains(dsdt, "C003", 4));
	teardown();
}

/* _PRT says what the bus does. */
static void test_routing(void)
{
	const uint8_t *dsdt;

	setup(&full);
	setup_fwcfg();
	load_tables();
	dsdt = find_dsdt(BLOB_RSDP);
	for (unsigned int slot = 1; slot < 32; slot++) {
		for (unsigned int pin = 0; pin < 4; pin++) {
			uint8_t want[12] = { 4, 0x0c, 0xff, 0xff, (uint8_t)slot, 0 };
			size_t n = 6;

			if (pin > 1)
				want[n++] = 0x0a;
			want[n++] = (uint8_t)pin;
			want[n++] = 0;
			want[n++] = 0x0a;
			want[n++] = (uint8_t)pci_bus_gsi(tb_pci(tb), (uint8_t)(slot << 3),
							 (uint8_t)(pin + 1));
			CHECK(want[n - 1] >= 16 && want[n - 1] < 24);
			CHECK(contains(dsdt, want, n));
		}
	}
	teardown();
}

static void test_place(void)
{
	struct fw_acpi_spec spec = full;

	spec.fwcfg = false;
	spec.flash_base = 0;
	setup(&spec);
	CHECK_EQ(fw_pci_assign(tb_pci(tb), tb_memory(tb), &err), 0);
	CHECK_EQ(fw_acpi_place(acpi, 0xe0100, 0xff00, 0xe0000, &err), 0);
	CHECK_EQ(get_le64(find_table(0xe0000, "MCFG") + 44), 0xe0000000);
	CHECK_EQ(get_le32(find_table(0xe0000, "FACP") + 56), 0x600);
	CHECK(memcmp(tb_mem(tb, get_le32(find_table(0xe0000, "FACP") + 36), 4), "FACS", 4) == 0);
	CHECK(has_window32(find_dsdt(0xe0000), 0x80000000, 0xdfffffff));
	CHECK_EQ(count_windows64(find_dsdt(0xe0000)), 0);
	CHECK_EQ(fw_acpi_place(acpi, 0xe0100, 1024, 0xe0000, &err), -EFBIG);
	CHECK_STR(err.text, "ACPI: no room for the tables in guest memory");
	CHECK_EQ(fw_acpi_place(acpi, 0x40000000, 0xff00, 0xe0000, &err), -EFAULT);
	teardown();
}

static void check_iasl(const uint8_t *t, const char *const *want, size_t n)
{
	char name[5] = { 0 }, *text;

	memcpy(name, t, 4);
	text = iasl_disassemble(t, get_le32(t + 4), name, strcmp(name, "DSDT") == 0);
	for (size_t i = 0; i < n; i++)
		if (!strstr(text, want[i]))
			CHECK_FAIL("%s is missing in:\n%s", want[i], text);
	free(text);
}

static void test_iasl(void)
{
	static const char *const fadt[] = { "Flags (decoded below) : 000084A5" };
	static const char *const madt[] = { "[Interrupt Source Override]", "[Local APIC NMI]",
					    "Local Apic ID : 04" };
	static const char *const mcfg[] = { "Base Address : 00000000E0000000",
					    "End Bus Number : 00" };
	static const char *const waet[] = { "PM timer, one read only : 1" };
	static const char *const dsdt[] = {
		"EisaId (\"PNP0A08\")",
		"EisaId (\"PNP0A03\")",
		"Method (_OSC, 4, Serialized)",
		"ToUUID (\"33db4d5b-1ff7-401c-9657-7441c03dd766\") /* PCI Host Bridge Device */",
		"EisaId (\"PNP0501\")",
		"EisaId (\"PNP0303\")",
		"EisaId (\"PNP0F13\")",
		"EisaId (\"PNP0B00\")",
		"\"QEMU0002\"",
		"\"ACPI0007\"",
		"Name (\\_S5, Package (0x04)",
		"EisaId (\"PNP0C02\")",
		"0x001FFFFF,",
	};

	if (iasl_missing()) {
		printf("iasl is not installed (package acpica-tools): not checked\n");
		return;
	}
	setup(&full);
	setup_fwcfg();
	firmware_setup(0xe0000000, 0x600, 0x800000000ull);
	load_tables();
	check_iasl(find_table(BLOB_RSDP, "FACP"), fadt, ARRAY_LEN(fadt));
	check_iasl(find_table(BLOB_RSDP, "APIC"), madt, ARRAY_LEN(madt));
	check_iasl(find_table(BLOB_RSDP, "MCFG"), mcfg, ARRAY_LEN(mcfg));
	check_iasl(find_table(BLOB_RSDP, "WAET"), waet, ARRAY_LEN(waet));
	check_iasl(find_dsdt(BLOB_RSDP), dsdt, ARRAY_LEN(dsdt));
	teardown();
}

static const struct test_case cases[] = {
	{ "script", test_script },
	{ "fadt", test_fadt },
	{ "madt", test_madt },
	{ "follows_firmware", test_follows_firmware },
	{ "window_limits", test_window_limits },
	{ "odd_ecam", test_odd_ecam },
	{ "models", test_models },
	{ "optional_devices", test_optional_devices },
	{ "routing", test_routing },
	{ "place", test_place },
	{ "iasl", test_iasl },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
