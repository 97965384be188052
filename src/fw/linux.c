/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/linux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fw/acpi.h"
#include "fw/e820.h"
#include "fw/layout.h"
#include "fw/smbios.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/fd.h"

/* Where things go in the first megabyte. */
#define GDT_ADDR 0x6000u
#define ZERO_PAGE 0x7000u
#define STACK_TOP 0x9000u
#define PAGE_TABLES 0x9000u /* PML4, PDPT, four page directories */
#define CMDLINE_ADDR 0x20000u
#define CMDLINE_MAX 0x10000u
#define LOW_RAM_END 0x9fc00u
#define RSDP_ADDR 0xe0000u
#define ACPI_ADDR 0xe0100u
#define ACPI_MAX (0xf0000u - ACPI_ADDR)
#define SMBIOS_ADDR 0xf0000u
#define SMBIOS_MAX 0x10000u
#define HIGH_RAM 0x100000u

/* Fields of the zero page and the setup header (boot.rst, zero-page.rst). */
#define ZP_ACPI_RSDP 0x070
#define ZP_E820_ENTRIES 0x1e8
#define ZP_E820_TABLE 0x2d0
#define HDR_START 0x1f1
#define HDR_SETUP_SECTS 0x1f1
#define HDR_VID_MODE 0x1fa
#define HDR_JUMP_LEN 0x201
#define HDR_MAGIC 0x202
#define HDR_VERSION 0x206
#define HDR_LOADER 0x210
#define HDR_LOADFLAGS 0x211
#define HDR_RAMDISK 0x218
#define HDR_RAMDISK_SIZE 0x21c
#define HDR_CMDLINE 0x228
#define HDR_INITRD_MAX 0x22c
#define HDR_XLOADFLAGS 0x236
#define HDR_CMDLINE_SIZE 0x238
#define HDR_PREF_ADDRESS 0x258
#define HDR_INIT_SIZE 0x260
#define HDR_END 0x280
#define XLF_KERNEL_64 BIT(0)
#define LOADED_HIGH BIT(0)
#define VERSION_MIN 0x20c
#define ENTRY_64 0x200

#define KERNEL_MAX (256 * MIB)

struct file {
	int fd;
	char *path;
	uint64_t size;
};

struct fw_linux {
	struct fw_linux_spec spec;
	struct file kernel, initrd;
	char *cmdline;
	uint8_t header[HDR_END];
	uint64_t payload; /* offset in the kernel file */
	uint64_t load_addr, initrd_addr;
};

static int file_open(struct file *f, const char *what, const char *path, struct err *err)
{
	struct stat st;

	f->path = strdup(path);
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_set(err, -errno, "%s: cannot open %s: %s", what, path, strerror(errno));
	if (fstat(f->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0)
		return err_set(err, -EINVAL, "%s: %s is not a file with contents", what, path);
	f->size = (uint64_t)st.st_size;
	return 0;
}

static void file_close(struct file *f)
{
	fd_close(&f->fd);
	free(f->path);
}

/* The end of the RAM region that starts at 0. */
static uint64_t low_ram(const struct mem *mem)
{
	const struct mem_region *r;
	size_t n = mem_regions(mem, &r);

	return n && r[0].gpa == 0 ? r[0].len : 0;
}

static int check_header(struct fw_linux *l, struct err *err)
{
	const uint8_t *h = l->header;
	const char *path = l->kernel.path;
	uint64_t end;

	if (l->kernel.size < HDR_END || l->kernel.size > KERNEL_MAX ||
	    fd_pread_full(l->kernel.fd, l->header, HDR_END, 0) < 0 ||
	    memcmp(h + HDR_MAGIC, "HdrS", 4) != 0)
		return err_set(err, -EINVAL, "linux.kernel: %s is not a Linux kernel (bzImage)",
			       path);
	if (get_le16(h + HDR_VERSION) < VERSION_MIN ||
	    !(get_le16(h + HDR_XLOADFLAGS) & XLF_KERNEL_64))
		return err_set(
			err, -EINVAL,
			"linux.kernel: %s has no 64-bit entry: a 64-bit kernel of version 3.8 or "
			"later is needed",
			path);
	l->payload = ((h[HDR_SETUP_SECTS] ? h[HDR_SETUP_SECTS] : 4u) + 1) * 512;
	l->load_addr = get_le64(h + HDR_PREF_ADDRESS);
	if (l->payload >= l->kernel.size || l->load_addr < HIGH_RAM ||
	    !checked_add(l->load_addr, MAX(get_le32(h + HDR_INIT_SIZE), l->kernel.size), &end))
		return err_set(err, -EINVAL, "linux.kernel: %s is damaged", path);
	if (end > low_ram(l->spec.mem))
		return err_set(err, -ENOMEM,
			       "linux.kernel: %s needs at least %lluM of guest memory", path,
			       (unsigned long long)(end / MIB + 1));
	if (strlen(l->cmdline) >= MIN(get_le32(h + HDR_CMDLINE_SIZE) + 1, CMDLINE_MAX))
		return err_set(err, -EINVAL,
			       "linux.cmdline: longer than the %u bytes of this kernel",
			       get_le32(h + HDR_CMDLINE_SIZE));
	return 0;
}

/* As high as the kernel allows, behind the room it unpacks itself into. */
static int place_initrd(struct fw_linux *l, struct err *err)
{
	uint64_t top =
		MIN(low_ram(l->spec.mem), (uint64_t)get_le32(l->header + HDR_INITRD_MAX) + 1);
	uint64_t kernel_end = l->load_addr + get_le32(l->header + HDR_INIT_SIZE);

	if (l->initrd.size > top || ALIGN_DOWN(top - l->initrd.size, 4096ull) < kernel_end)
		return err_set(err, -ENOMEM,
			       "linux.initrd: %s does not fit into guest memory behind the kernel",
			       l->initrd.path);
	l->initrd_addr = ALIGN_DOWN(top - l->initrd.size, 4096ull);
	return 0;
}

int fw_linux_new(const struct fw_linux_spec *spec, struct fw_linux **out, struct err *err)
{
	struct fw_linux *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->spec = *spec;
	l->kernel.fd = l->initrd.fd = -1;
	l->cmdline = strdup(spec->cmdline ? spec->cmdline : "");
	r = l->cmdline ? file_open(&l->kernel, "linux.kernel", spec->kernel, err) : -ENOMEM;
	if (r == 0)
		r = check_header(l, err);
	if (r == 0 && spec->initrd) {
		r = file_open(&l->initrd, "linux.initrd", spec->initrd, err);
		if (r == 0)
			r = place_initrd(l, err);
	}
	if (r < 0) {
		fw_linux_free(l);
		return r;
	}
	*out = l;
	return 0;
}

void fw_linux_free(struct fw_linux *l)
{
	if (!l)
		return;
	file_close(&l->kernel);
	file_close(&l->initrd);
	free(l->cmdline);
	free(l);
}

static int load_file(const struct fw_linux *l, const struct file *f, uint64_t from, gpa_t to,
		     struct err *err)
{
	uint64_t len = f->size - from;
	void *p = mem_ring(l->spec.mem, to, len, 1);
	int r = p ? fd_pread_full(f->fd, p, len, from) : -EFAULT;

	return r < 0 ? err_set(err, r, "cannot read %s: %s", f->path, strerror(-r)) : 0;
}

/* The machine's map with the first megabyte cut up: firmware tables are not to be used as RAM. */
static size_t boot_e820(const struct fw_linux *l, struct fw_e820_entry *out)
{
	struct fw_e820_entry map[FW_E820_MAX];
	size_t n = fw_e820(l->spec.mem, l->spec.amd_hole, map), count = 0;

	out[count++] = (struct fw_e820_entry){ 0, LOW_RAM_END, FW_E820_RAM };
	out[count++] =
		(struct fw_e820_entry){ LOW_RAM_END, HIGH_RAM - LOW_RAM_END, FW_E820_RESERVED };
	for (size_t i = 0; i < n; i++) {
		out[count] = map[i];
		if (map[i].base == 0) {
			out[count].base = HIGH_RAM;
			out[count].len = map[i].len - HIGH_RAM;
		}
		count++;
	}
	/* The kernel uses ECAM only where the map reserves it. */
	out[count++] = (struct fw_e820_entry){ FW_DIRECT_ECAM, FW_ECAM_LEN, FW_E820_RESERVED };
	return count;
}

static int write_zero_page(const struct fw_linux *l)
{
	uint8_t zp[4096] = { 0 };
	struct fw_e820_entry map[FW_E820_MAX + 3];
	size_t n = boot_e820(l, map);
	size_t header_end = MIN((size_t)HDR_MAGIC + l->header[HDR_JUMP_LEN], (size_t)HDR_END);

	memcpy(zp + HDR_START, l->header + HDR_START, header_end - HDR_START);
	put_le16(zp + HDR_VID_MODE, 0xffff);
	zp[HDR_LOADER] = 0xff;
	zp[HDR_LOADFLAGS] |= LOADED_HIGH;
	put_le32(zp + HDR_CMDLINE, CMDLINE_ADDR);
	if (l->initrd.size) {
		put_le32(zp + HDR_RAMDISK, (uint32_t)l->initrd_addr);
		put_le32(zp + HDR_RAMDISK_SIZE, (uint32_t)l->initrd.size);
	}
	put_le64(zp + ZP_ACPI_RSDP, RSDP_ADDR);
	zp[ZP_E820_ENTRIES] = (uint8_t)n;
	memcpy(zp + ZP_E820_TABLE, map, n * sizeof(map[0]));
	return mem_write(l->spec.mem, ZERO_PAGE, zp, sizeof(zp));
}

/* Identity map of the first 4 GiB in 2 MiB pages. */
static int write_page_tables(const struct mem *mem)
{
	uint64_t tables[6][512] = { { 0 } };

	tables[0][0] = (PAGE_TABLES + 0x1000) | 3;
	for (uint64_t i = 0; i < 4; i++) {
		tables[1][i] = (PAGE_TABLES + 0x2000 + 0x1000 * i) | 3;
		for (uint64_t j = 0; j < 512; j++)
			tables[2 + i][j] = ((i * 512 + j) << 21) | 0x83;
	}
	return mem_write(mem, PAGE_TABLES, tables, sizeof(tables));
}

int fw_linux_load(struct fw_linux *l, struct fw_entry *out, struct err *err)
{
	/* boot.rst: __BOOT_CS is selector 0x10, __BOOT_DS 0x18, both flat. */
	static const uint64_t gdt[] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
	const struct mem *mem = l->spec.mem;
	int r = fw_pci_assign(l->spec.pci, mem, err);

	if (r == 0)
		r = load_file(l, &l->kernel, l->payload, l->load_addr, err);
	if (r == 0 && l->initrd.size)
		r = load_file(l, &l->initrd, 0, l->initrd_addr, err);
	if (r == 0)
		r = fw_acpi_place(l->spec.acpi, ACPI_ADDR, ACPI_MAX, RSDP_ADDR, err);
	if (r == 0 && l->spec.smbios)
		r = fw_smbios_place(l->spec.smbios, SMBIOS_ADDR, SMBIOS_MAX, err);
	if (r < 0)
		return r;
	r = mem_write(mem, CMDLINE_ADDR, l->cmdline, strlen(l->cmdline) + 1);
	if (r == 0)
		r = mem_write(mem, GDT_ADDR, gdt, sizeof(gdt));
	if (r == 0)
		r = write_page_tables(mem);
	if (r == 0)
		r = write_zero_page(l);
	if (r < 0)
		return err_set(err, r, "guest memory is too small for a direct boot");
	*out = (struct fw_entry){
		.rip = l->load_addr + ENTRY_64,
		.rsp = STACK_TOP,
		.rsi = ZERO_PAGE,
		.cr3 = PAGE_TABLES,
		.gdt_base = GDT_ADDR,
		.gdt_limit = sizeof(gdt) - 1,
		.cs = 0x10,
		.ds = 0x18,
	};
	return 0;
}
