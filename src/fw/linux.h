/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_LINUX_H
#define FW_LINUX_H

#include <stdbool.h>
#include <stdint.h>

#include "mem/mem.h"

struct err;
struct fw_acpi;
struct fw_smbios_spec;
struct pci_bus;

/* Boots a Linux kernel without firmware (Documentation/arch/x86/boot.rst, 64-bit entry, protocol 2.12 and later). */
struct fw_linux;

struct fw_linux_spec {
	const char *kernel; /* path of a bzImage */
	const char *initrd; /* NULL: none */
	const char *cmdline; /* NULL: empty */
	const struct mem *mem;
	struct pci_bus *pci;
	struct fw_acpi *acpi;
	const struct fw_smbios_spec *smbios; /* NULL: no SMBIOS */
	bool amd_hole; /* as fw_e820() */
};

/* The state in which the boot CPU enters the kernel: 64-bit mode, paging on, flat segments from this GDT. */
struct fw_entry {
	uint64_t rip, rsp, rsi, cr3;
	uint64_t gdt_base;
	uint16_t gdt_limit, cs, ds;
};

/* Opens and checks the files, which stay open: later loads need no path. Strings are copied. */
int fw_linux_new(const struct fw_linux_spec *spec, struct fw_linux **out, struct err *err);
void fw_linux_free(struct fw_linux *l);

/*
 * Puts kernel, initrd, command line, tables and page tables into guest RAM and assigns PCI resources. Before each
 * start of the guest, after the devices were reset; vCPUs stopped.
 */
int fw_linux_load(struct fw_linux *l, struct fw_entry *out, struct err *err);

/*
 * What firmware would do: PMBASE, PCIEXBAR, BARs (always the same way, from fixed bases), interrupt lines, and decoding
 * switched on. Main thread, vCPUs stopped, no device lock held. -ENOSPC if a window is full.
 */
int fw_pci_assign(struct pci_bus *pci, const struct mem *mem, struct err *err);

#endif
