/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/tb.h"
#include "fw/acpi.h"
#include "fw/bootorder.h"
#include "fw/e820.h"
#include "fw/fwcfg.h"
#include "fw/linux.h"
#include "fw/smbios.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

static struct tb *tb;
static struct dev *fwcfg;
static struct err err;

static void setup(void)
{
	const struct tb_opts opts = { .high_ram = true };
	struct env env;

	tb = tb_new(&opts);
	env = (struct env){
		.name = "fwcfg", .loop = tb_loop(tb), .bus = tb_bus(tb), .mem = tb_memory(tb)
	};
	CHECK_EQ(dev_new(&fwcfg_ops, &env, NULL, &fwcfg, &err), 0);
}

static void teardown(void)
{
	dev_free(fwcfg);
	tb_free(tb);
}

/* Contents of a file as the guest reads them; the device need not run for that. Returns the size. */
static uint32_t read_file(const char *name, uint8_t *buf, uint32_t max)
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
		CHECK(size <= max);
		tb_out(tb, 0x510, 2, get_be16(entry + 4));
		for (uint32_t i = 0; i < size; i++)
			buf[i] = (uint8_t)tb_in(tb, 0x511, 1);
		return size;
	}
	return 0;
}

static void check_entry(const uint8_t *e, uint64_t base, uint64_t len, uint32_t type)
{
	CHECK_EQ(get_le64(e), base);
	CHECK_EQ(get_le64(e + 8), len);
	CHECK_EQ(get_le32(e + 16), type);
}

static void test_e820(void)
{
	uint8_t buf[256];

	setup();
	CHECK_EQ(fw_e820_add(tb_memory(tb), true, fwcfg, &err), 0);
	CHECK_EQ(read_file("etc/e820", buf, sizeof(buf)), 5 * 20);
	check_entry(buf, 0, TB_RAM, 1);
	check_entry(buf + 20, TB_RAM, TB_HIGH_RAM, 1);
	check_entry(buf + 40, 0xfeffc000, 0x4000, 2);
	check_entry(buf + 60, TB_HIGH_GPA, TB_HIGH_RAM, 1);
	check_entry(buf + 80, 0xfd00000000, 0x300000000, 2);
	CHECK_EQ(fw_e820_add(tb_memory(tb), false, fwcfg, &err), -EEXIST);
	teardown();
}

static void test_boot_paths(void)
{
	static const struct {
		struct fw_boot_entry e;
		const char *path;
	} cases[] = {
		{ { FW_BOOT_AHCI, 0xfa, 3 }, "/pci@i0cf8/pci8086,2922@1f,2/drive@3/disk@0" },
		{ { FW_BOOT_AHCI, 0x18, 12 }, "/pci@i0cf8/pci8086,2922@3/drive@c/disk@0" },
		{ { FW_BOOT_FUNCTION, 0x21, 0 }, "/pci@i0cf8/pci@4,1" },
		{ { FW_BOOT_VIRTIO_BLK, 0x50, 0 }, "/pci@i0cf8/scsi@a/disk@0,0" },
		{ { FW_BOOT_VIRTIO_SCSI, 0x51, 31 }, "/pci@i0cf8/scsi@a,1/channel@0/disk@1f,0" },
		{ { FW_BOOT_NIC, 0x28, 0 }, "/pci@i0cf8/ethernet@5/ethernet-phy@0" },
		{ { FW_BOOT_USB_STORAGE, 0x30, 2 },
		  "/pci@i0cf8/usb@6/storage@2/channel@0/disk@0,0" },
	};
	char buf[96];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CHECK_EQ(fw_boot_path(&cases[i].e, buf, sizeof(buf)), 0);
		CHECK_STR(buf, cases[i].path);
		CHECK_EQ(fw_boot_path(&cases[i].e, buf, strlen(cases[i].path)), -ENAMETOOLONG);
	}
}

static void test_bootorder(void)
{
	static const char want[] =
		"/pci@i0cf8/scsi@3/disk@0,0\n/pci@i0cf8/ethernet@5/ethernet-phy@0";
	const struct fw_boot_entry entries[] = { { FW_BOOT_VIRTIO_BLK, 0x18, 0 },
						 { FW_BOOT_NIC, 0x28, 0 } };
	uint8_t buf[256];

	setup();
	CHECK_EQ(fw_bootorder_add(NULL, 0, fwcfg, &err), 0);
	CHECK_EQ(read_file("bootorder", buf, sizeof(buf)), 0);
	CHECK_EQ(fw_bootorder_add(entries, 2, fwcfg, &err), 0);
	CHECK_EQ(read_file("bootorder", buf, sizeof(buf)), sizeof(want));
	CHECK(memcmp(buf, want, sizeof(want)) == 0); /* the last byte is NUL */
	teardown();
}

static void test_boot_wait(void)
{
	uint8_t buf[2];

	setup();
	CHECK_EQ(fw_boot_wait_add(3, fwcfg, &err), 0);
	tb_out(tb, 0x510, 2, FWCFG_BOOT_MENU);
	CHECK_EQ(tb_in(tb, 0x511, 1), 1);
	CHECK_EQ(tb_in(tb, 0x511, 1), 0);
	CHECK_EQ(read_file("etc/boot-menu-wait", buf, sizeof(buf)), 2);
	CHECK_EQ(get_le16(buf), 3000);
	teardown();
}

/* --- SMBIOS --- */

static void test_uuid(void)
{
	static const char *const bad[] = { "", "00112233-4455-6677-8899-aabbccddeef",
					   "00112233-4455-6677-8899-aabbccddeefff",
					   "0011223344556677-8899-aabbccddeeff00",
					   "00112233-4455-6677-8899-aabbccddeefg" };
	uint8_t u[16] = { 1 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(fw_uuid_parse(bad[i], u), -EINVAL);
	CHECK_EQ(u[0], 1);
	CHECK_EQ(fw_uuid_parse("00112233-4455-6677-8899-aAbBcCdDeEfF", u), 0);
	for (unsigned int i = 0; i < 16; i++)
		CHECK_EQ(u[i], i * 0x11);
}

/* The n-th structure of a type, or NULL. */
static const uint8_t *structure(const uint8_t *t, size_t len, uint8_t type, unsigned int n)
{
	size_t at = 0;

	while (at + 4 <= len) {
		size_t end = at + t[at + 1];

		if (t[at] == type && n-- == 0)
			return t + at;
		while (end + 2 <= len && (t[end] || t[end + 1]))
			end++;
		at = end + 2;
		if (at > len)
			CHECK_FAIL("structure %u runs over the end", t[at]);
	}
	return NULL;
}

static const char *string_of(const uint8_t *s, unsigned int field)
{
	const char *p = (const char *)s + s[1];
	unsigned int n = s[field];

	if (n == 0)
		return "";
	while (--n)
		p += strlen(p) + 1;
	return p;
}

static struct fw_smbios_spec sample(void)
{
	return (struct fw_smbios_spec){
		.bios_vendor = "khyve",
		.bios_version = "1.0",
		.bios_date = "11/22/2026",
		.system_manufacturer = "Maker",
		.system_product = "Product",
		.system_serial = "ds=nocloud-net;s=http://10.0.0.1/",
		.system_family = "Family",
		.board_product = "Board",
		.board_location = "",
		.chassis_serial = "C-1",
		.chassis_sku = "C-SKU",
		.uuid = { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb,
			  0xcc, 0xdd, 0xee, 0xff },
		.sockets = 2,
		.cores = 3,
		.threads = 2,
		.mem = tb_memory(tb),
	};
}

static void check_structures(const uint8_t *t, size_t len)
{
	static const uint8_t uuid[16] = { 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
					  0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff };
	const uint8_t *s = structure(t, len, 0, 0);

	CHECK(s && s[1] == 24);
	CHECK_STR(string_of(s, 4), "khyve");
	CHECK_STR(string_of(s, 8), "11/22/2026");
	CHECK_EQ(s[19] & 0x10, 0x10);
	s = structure(t, len, 1, 0);
	CHECK(s && s[1] == 27);
	CHECK_STR(string_of(s, 4), "Maker");
	CHECK_STR(string_of(s, 5), "Product");
	CHECK_STR(string_of(s, 6), "");
	CHECK_STR(string_of(s, 7), "ds=nocloud-net;s=http://10.0.0.1/");
	CHECK_STR(string_of(s, 26), "Family");
	CHECK(memcmp(s + 8, uuid, 16) == 0);
	s = structure(t, len, 2, 0);
	CHECK(s && s[1] == 15);
	CHECK_STR(string_of(s, 5), "Board");
	CHECK_EQ(s[10], 0);
	s = structure(t, len, 3, 0);
	CHECK(s && s[1] == 22);
	CHECK_STR(string_of(s, 7), "C-1");
	CHECK_STR(string_of(s, 21), "C-SKU");
	CHECK_EQ(get_le16(structure(t, len, 2, 0) + 11), get_le16(s + 2));
	CHECK_EQ(structure(t, len, 32, 0)[1], 11);
	CHECK_EQ(structure(t, len, 127, 0)[1], 4);
	CHECK(structure(t, len, 127, 0) + 6 == t + len);
}

static void check_processors(const uint8_t *t, size_t len)
{
	const uint8_t *s;

	for (unsigned int i = 0; i < 2; i++) {
		s = structure(t, len, 4, i);
		CHECK(s && s[1] == 48);
		CHECK_STR(string_of(s, 4), i ? "CPU 1" : "CPU 0");
		CHECK(s[35] == 3 && s[36] == 3 && s[37] == 6);
		CHECK_EQ(get_le16(s + 46), 6);
	}
	CHECK(!structure(t, len, 4, 2));
}

static void check_memory(const uint8_t *t, size_t len)
{
	const uint8_t *array = structure(t, len, 16, 0), *s;

	CHECK(array && array[1] == 23);
	CHECK_EQ(get_le32(array + 7), (TB_RAM + 2 * TB_HIGH_RAM) / KIB);
	CHECK_EQ(get_le16(array + 13), 1);
	s = structure(t, len, 17, 0);
	CHECK(s && s[1] == 40);
	CHECK_EQ(get_le16(s + 4), get_le16(array + 2));
	CHECK_EQ(get_le16(s + 12), (TB_RAM + 2 * TB_HIGH_RAM) / MIB);
	s = structure(t, len, 19, 2);
	CHECK(s && s[1] == 31);
	CHECK_EQ(get_le32(s + 4), TB_HIGH_GPA / KIB);
	CHECK_EQ(get_le32(s + 8), (TB_HIGH_GPA + TB_HIGH_RAM) / KIB - 1);
	CHECK(!structure(t, len, 19, 3));
}

static void test_smbios(void)
{
	static uint8_t tables[32768], anchor[64];
	struct fw_smbios_spec s;
	uint8_t sum = 0;
	uint32_t len;

	setup();
	s = sample();
	CHECK_EQ(fw_smbios_add(&s, fwcfg, &err), 0);
	CHECK_EQ(read_file("etc/smbios/smbios-anchor", anchor, sizeof(anchor)), 24);
	len = read_file("etc/smbios/smbios-tables", tables, sizeof(tables));
	CHECK(memcmp(anchor, "_SM3_", 5) == 0);
	for (int i = 0; i < 24; i++)
		sum = (uint8_t)(sum + anchor[i]);
	CHECK_EQ(sum, 0);
	CHECK(anchor[6] == 24 && anchor[7] == 3 && anchor[8] == 0);
	CHECK_EQ(get_le32(anchor + 12), len);
	check_structures(tables, len);
	check_processors(tables, len);
	check_memory(tables, len);
	teardown();
}

static void test_smbios_place(void)
{
	static char big[40000];
	struct fw_smbios_spec s;
	const uint8_t *anchor;

	setup();
	s = sample();
	CHECK_EQ(fw_smbios_place(&s, 0xf0000, 0x10000, &err), 0);
	anchor = tb_mem(tb, 0xf0000, 24);
	CHECK(memcmp(anchor, "_SM3_", 5) == 0);
	CHECK_EQ(get_le64(anchor + 16), 0xf0020);
	check_structures(tb_mem(tb, 0xf0020, get_le32(anchor + 12)), get_le32(anchor + 12));
	CHECK_EQ(fw_smbios_place(&s, 0xf0000, 64, &err), -EFBIG);
	CHECK_EQ(fw_smbios_place(&s, 0x80000000, 0x10000, &err), -EFAULT);
	memset(big, 'x', sizeof(big) - 1);
	s.system_sku = big;
	CHECK_EQ(fw_smbios_place(&s, 0xf0000, 0x10000, &err), -EFBIG);
	CHECK_STR(err.text, "SMBIOS: the strings of system, board, chassis and bios are too long");
	teardown();
}

/* --- PCI assignment --- */

static void add_chipset(void)
{
	tb_next_slot(tb, 0);
	CHECK(tb_add(tb, &hostbridge_ops, NULL, &err));
	tb_next_slot(tb, 0xf8);
	CHECK(tb_add(tb, &lpc_ops, NULL, &err));
}

static uint32_t cfg(uint8_t devfn, unsigned int offset, unsigned int size)
{
	return pci_bus_cfg_read(tb_pci(tb), 0, devfn, offset, size);
}

/* One BAR of each kind: two of the large ones do not fit below 4 GiB together with the rest. */
static const struct pci_desc big_desc = {
	.vendor = 0x1234,
	.device = 1,
	.class_code = 0xff0000,
	.intx_pin = 1,
	.bars = {
		[0] = { .kind = PCI_BAR_MEM64, .size = 256 * MIB },
		[2] = { .kind = PCI_BAR_MEM32, .size = 4096 },
		[3] = { .kind = PCI_BAR_IO, .size = 32 },
	},
};

static const struct pci_desc huge_desc = {
	.vendor = 0x1234,
	.device = 2,
	.class_code = 0xff0000,
	.bars = { [0] = { .kind = PCI_BAR_MEM32, .size = 512 * MIB } },
};

static int big_init(struct dev *d, const struct env *env, const void *conf, struct err *e)
{
	(void)env;
	(void)conf;
	return pci_fn_init(pci_fn_of(d), &big_desc, e);
}

static int huge_init(struct dev *d, const struct env *env, const void *conf, struct err *e)
{
	(void)env;
	(void)conf;
	return pci_fn_init(pci_fn_of(d), &huge_desc, e);
}

static void fn_reset(struct dev *d)
{
	pci_fn_reset(pci_fn_of(d));
}

static void fn_fini(struct dev *d)
{
	pci_fn_fini(pci_fn_of(d));
}

static const struct dev_ops big_ops = {
	.model = "big",
	.size = sizeof(struct pci_fn),
	.init = big_init,
	.reset = fn_reset,
	.fini = fn_fini,
};

static const struct dev_ops huge_ops = {
	.model = "huge",
	.size = sizeof(struct pci_fn),
	.init = huge_init,
	.reset = fn_reset,
	.fini = fn_fini,
};

static void add_at(unsigned int slot, const struct dev_ops *ops)
{
	tb_next_slot(tb, (uint8_t)(slot << 3));
	if (!tb_add(tb, ops, NULL, &err))
		CHECK_FAIL("%s", err.text);
}

static void check_assigned(void)
{
	CHECK_EQ(fw_pci_assign(tb_pci(tb), tb_memory(tb), &err), 0);
	CHECK_EQ(cfg(0xf8, 0x40, 4), 0x601);
	CHECK_EQ(cfg(0xf8, 0x44, 1), 0x80);
	CHECK_EQ(pci_bus_ecam(tb_pci(tb)), 0xe0000000);
	CHECK_EQ(cfg(0x08, 0x18, 4), 0xc0000000);
	CHECK_EQ(cfg(0x10, 0x18, 4), 0xc0001000);
	CHECK_EQ(cfg(0x08, 0x1c, 4), 0x6001);
	CHECK_EQ(cfg(0x10, 0x1c, 4), 0x6021);
	CHECK_EQ(cfg(0x08, 0x10, 4), 0xd0000004);
	CHECK_EQ(cfg(0x08, 0x14, 4), 0);
	CHECK_EQ(cfg(0x10, 0x10, 4), 0x40000004);
	CHECK_EQ(cfg(0x10, 0x14, 4), 1);
	for (uint8_t i = 1; i < 3; i++) {
		CHECK_EQ(cfg((uint8_t)(i << 3), 4, 2), 3);
		CHECK_EQ(cfg((uint8_t)(i << 3), 0x3c, 1),
			 pci_bus_gsi(tb_pci(tb), (uint8_t)(i << 3), 1));
	}
	CHECK_EQ(cfg(0, 4, 2) & 3, 0);
}

static void test_assign(void)
{
	setup();
	add_chipset();
	add_at(1, &big_ops);
	add_at(2, &big_ops);
	check_assigned();
	CHECK(tb_reset(tb));
	check_assigned();
	teardown();
}

static void test_assign_full(void)
{
	setup();
	add_chipset();
	add_at(1, &huge_ops);
	CHECK_EQ(fw_pci_assign(tb_pci(tb), tb_memory(tb), &err), 0);
	add_at(3, &huge_ops);
	CHECK_EQ(fw_pci_assign(tb_pci(tb), tb_memory(tb), &err), -ENOSPC);
	CHECK_STR(err.text,
		  "no room for BAR 0 of PCI device 0:3.0 (536870912 bytes): remove devices");
	teardown();
}

/* --- direct boot --- */

#define SETUP_BYTES 1024u /* boot sector and one sector of setup */
#define PAYLOAD_BYTES 5000u
#define LOAD_ADDR 0x200000u
#define INIT_SIZE 0x20000u

static char kernel_path[] = "/tmp/khyve-test-kernel-XXXXXX";
static char initrd_path[] = "/tmp/khyve-test-initrd-XXXXXX";

static void write_file(char *path, const void *data, size_t len)
{
	int fd;

	memcpy(path + strlen(path) - 6, "XXXXXX", 6);
	fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK(write(fd, data, len) == (ssize_t)len);
	close(fd);
}

/* What boot.rst asks of a bzImage, and a payload that can be told apart. */
static void make_kernel(uint8_t image[SETUP_BYTES + PAYLOAD_BYTES])
{
	memset(image, 0, SETUP_BYTES);
	image[0x1f1] = 1;
	image[0x201] = 0x6c;
	memcpy(image + 0x202, "HdrS", 4);
	put_le16(image + 0x206, 0x20f);
	put_le32(image + 0x22c, 0x7fffffff);
	put_le16(image + 0x236, 1);
	put_le32(image + 0x238, 100);
	put_le64(image + 0x258, LOAD_ADDR);
	put_le32(image + 0x260, INIT_SIZE);
	for (unsigned int i = 0; i < PAYLOAD_BYTES; i++)
		image[SETUP_BYTES + i] = (uint8_t)(i * 7);
}

static struct fw_linux_spec linux_spec(struct fw_acpi *acpi)
{
	return (struct fw_linux_spec){
		.kernel = kernel_path,
		.initrd = initrd_path,
		.cmdline = "console=ttyS0 quiet",
		.mem = tb_memory(tb),
		.pci = tb_pci(tb),
		.acpi = acpi,
	};
}

static struct fw_acpi *make_acpi(void)
{
	const struct fw_acpi_spec spec = {
		.pci = tb_pci(tb), .mem = tb_memory(tb), .cpus = 1, .phys_bits = 39
	};

	return fw_acpi_new(&spec);
}

static void linux_setup(void)
{
	uint8_t image[SETUP_BYTES + PAYLOAD_BYTES];

	setup();
	add_chipset();
	make_kernel(image);
	write_file(kernel_path, image, sizeof(image));
	write_file(initrd_path, "the initrd", 10);
}

static void linux_teardown(void)
{
	unlink(kernel_path);
	unlink(initrd_path);
	teardown();
}

static void check_zero_page(const uint8_t *zp)
{
	uint64_t ram = 0;

	CHECK(memcmp(zp + 0x202, "HdrS", 4) == 0);
	CHECK_EQ(zp[0x210], 0xff);
	CHECK_STR((char *)tb_mem(tb, get_le32(zp + 0x228), 64), "console=ttyS0 quiet");
	CHECK_EQ(get_le32(zp + 0x21c), 10);
	CHECK_EQ(get_le32(zp + 0x218) % 4096, 0);
	CHECK(memcmp(tb_mem(tb, get_le32(zp + 0x218), 10), "the initrd", 10) == 0);
	CHECK(memcmp(tb_mem(tb, get_le64(zp + 0x70), 8), "RSD PTR ", 8) == 0);
	for (unsigned int i = 0; i < zp[0x1e8]; i++) {
		const uint8_t *e = zp + 0x2d0 + 20 * i;
		uint64_t base = get_le64(e), end = base + get_le64(e + 8);

		ram += get_le32(e + 16) == 1 ? end - base : 0;
		if (get_le32(e + 16) == 1)
			CHECK(end <= 0xa0000 || base >= 0x100000);
	}
	CHECK_EQ(ram, TB_RAM + 2 * TB_HIGH_RAM - 0x100000 + 0x9fc00);
}

/* Follows the page tables: the address must be mapped to itself, writable. */
static void check_mapped(uint64_t cr3, uint64_t addr)
{
	uint64_t entry = cr3 | 3;

	for (int level = 3; level >= 1; level--) {
		const uint8_t *table = tb_mem(tb, entry & 0xffffff000, 4096);

		entry = get_le64(table + 8 * (addr >> (12 + 9 * level) & 511));
		CHECK_EQ(entry & 3, 3);
		if (entry & 0x80)
			break;
	}
	CHECK_EQ(entry & 0xfffe00000, addr & ~0x1fffffull);
}

static void check_entry_state(const struct fw_entry *e)
{
	const uint8_t *gdt = tb_mem(tb, e->gdt_base, e->gdt_limit + 1u);

	CHECK_EQ(e->rip, LOAD_ADDR + 0x200);
	CHECK(e->cs == 0x10 && e->ds == 0x18 && e->gdt_limit >= 31);
	CHECK_EQ(get_le64(gdt + 0x10) >> 40 & 0xff, 0x9b); /* code, present */
	CHECK_EQ(get_le64(gdt + 0x10) >> 53 & 1, 1); /* 64-bit */
	CHECK_EQ(get_le64(gdt + 0x18) >> 40 & 0xff, 0x93);
	check_mapped(e->cr3, LOAD_ADDR);
	check_mapped(e->cr3, e->rsi);
	check_mapped(e->cr3, e->rsp - 8);
	check_mapped(e->cr3, 0xffe00000);
}

static void test_linux(void)
{
	struct fw_linux_spec spec;
	struct fw_linux *l;
	struct fw_acpi *acpi;
	struct fw_entry e;

	linux_setup();
	acpi = make_acpi();
	spec = linux_spec(acpi);
	if (fw_linux_new(&spec, &l, &err) < 0)
		CHECK_FAIL("%s", err.text);
	unlink(kernel_path); /* from now on only the open files count */
	unlink(initrd_path);
	for (int i = 0; i < 2; i++) {
		const uint8_t *p;

		if (fw_linux_load(l, &e, &err) < 0)
			CHECK_FAIL("%s", err.text);
		p = tb_mem(tb, LOAD_ADDR, PAYLOAD_BYTES);
		for (unsigned int k = 0; k < PAYLOAD_BYTES; k++)
			CHECK_EQ(p[k], (uint8_t)(k * 7));
		check_zero_page(tb_mem(tb, e.rsi, 4096));
		check_entry_state(&e);
		memset(tb_mem(tb, 0, TB_RAM), 0xcc,
		       TB_RAM); /* the guest used its memory and reboots */
		CHECK(tb_reset(tb));
	}
	fw_linux_free(l);
	fw_linux_free(NULL);
	fw_acpi_free(acpi);
	linux_teardown();
}

/* A kernel with one thing wrong must be refused with a message that has this in it. */
static void check_refused(unsigned int offset, uint32_t value, const char *cmdline,
			  const char *text)
{
	uint8_t image[SETUP_BYTES + PAYLOAD_BYTES];
	struct fw_linux_spec spec = linux_spec(NULL);
	struct fw_linux *l = NULL;

	make_kernel(image);
	put_le32(image + offset, value);
	unlink(kernel_path);
	write_file(kernel_path, image, sizeof(image));
	spec.cmdline = cmdline;
	CHECK(fw_linux_new(&spec, &l, &err) < 0);
	CHECK(!l);
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" does not say \"%s\"", err.text, text);
}

static void test_linux_refuses(void)
{
	struct fw_linux_spec spec;
	char long_line[102];
	struct fw_linux *l;

	linux_setup();
	memset(long_line, 'x', 101);
	long_line[101] = '\0';
	check_refused(0x202, 0, NULL, "is not a Linux kernel");
	check_refused(0x206, 0x20b, NULL, "has no 64-bit entry");
	check_refused(0x234, 0, NULL, "has no 64-bit entry");
	check_refused(0x258, 0, NULL, "is damaged");
	check_refused(0x25c, 0xffffffff, NULL, "");
	check_refused(0x260, 0x40000000, NULL, "needs at least");
	check_refused(0x1f1, 0xff, NULL, "is damaged");
	check_refused(0x22c, 0x1000, NULL, "does not fit");
	check_refused(0x238, 100, long_line, "longer than the 100 bytes");
	spec = linux_spec(NULL);
	unlink(kernel_path);
	CHECK_EQ(fw_linux_new(&spec, &l, &err), -ENOENT);
	write_file(kernel_path, "short", 5);
	CHECK_EQ(fw_linux_new(&spec, &l, &err), -EINVAL);
	spec.kernel = "/tmp";
	CHECK(fw_linux_new(&spec, &l, &err) < 0);
	linux_teardown();
}

static const struct test_case cases[] = {
	{ "e820", test_e820 },
	{ "boot_paths", test_boot_paths },
	{ "bootorder", test_bootorder },
	{ "boot wait", test_boot_wait },
	{ "uuid", test_uuid },
	{ "smbios", test_smbios },
	{ "smbios_place", test_smbios_place },
	{ "assign", test_assign },
	{ "assign_full", test_assign_full },
	{ "linux", test_linux },
	{ "linux_refuses", test_linux_refuses },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
