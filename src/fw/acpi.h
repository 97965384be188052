/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_ACPI_H
#define FW_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include "mem/mem.h"

struct dev;
struct err;
struct list;
struct pci_bus;

/*
 * The ACPI tables of the machine. They are made from what is programmed into the chipset at that moment: PCI windows,
 * ECAM and the power block are the firmware's choice, or that of fw_pci_assign().
 */
struct fw_acpi;

#define FW_ACPI_CPUS_MAX 64

struct fw_acpi_spec {
	struct pci_bus *pci;
	const struct mem *mem;
	const struct list *
		devs; /* struct dev by link, for their ops->acpi: called inside \_SB; may be NULL */
	unsigned int cpus;
	uint32_t apic_ids[FW_ACPI_CPUS_MAX];
	unsigned int phys_bits;
	uint8_t coms; /* bit n: COM n+1 exists */
	bool i8042; /* keyboard and mouse controller */
	bool fwcfg;
	uint64_t flash_base; /* 0: no flash */
};

/* Copies the spec; what it points to must outlive the object. NULL when out of memory. */
struct fw_acpi *fw_acpi_new(const struct fw_acpi_spec *spec);
void fw_acpi_free(struct fw_acpi *a);

/* For firmware: adds etc/table-loader, etc/acpi/rsdp and etc/acpi/tables, all made anew when the first is selected. */
int fw_acpi_add(struct fw_acpi *a, struct dev *fwcfg, struct err *err);

/* For direct boot: writes the tables at tables (64-byte aligned, at most max bytes) and the RSDP at rsdp, in guest RAM. */
int fw_acpi_place(struct fw_acpi *a, gpa_t tables, uint64_t max, gpa_t rsdp, struct err *err);

#endif
