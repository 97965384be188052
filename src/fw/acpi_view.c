/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "fw/acpi_priv.h"
#include "fw/layout.h"
#include "pci/pci.h"

#define CFG_BAR0 0x10
#define BAR_ADDRESS 0xfffffff0u
#define PMBASE_MASK 0xff80u

/* The lowest and the highest byte of all BARs above 4 GiB. */
struct bar_scan {
	struct pci_bus *pci;
	uint64_t limit; /* first address that no vCPU can form */
	uint64_t first, end;
};

static void scan_function(void *arg, struct pci_fn *fn)
{
	struct bar_scan *s = arg;

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		unsigned int offset = CFG_BAR0 + 4 * i;
		uint64_t addr, size = fn->desc->bars[i].size;

		if (fn->desc->bars[i].kind != PCI_BAR_MEM64)
			continue;
		addr = pci_bus_cfg_read(s->pci, 0, fn->devfn, offset, 4) & BAR_ADDRESS;
		addr |= (uint64_t)pci_bus_cfg_read(s->pci, 0, fn->devfn, offset + 4, 4) << 32;
		if (addr < FW_HIGH_RAM || addr >= s->limit || size > s->limit - addr)
			continue; /* elsewhere, or not placed */
		s->first = MIN(s->first, addr);
		s->end = MAX(s->end, addr + size);
	}
}

static void ram_ends(const struct mem *mem, uint64_t *low, uint64_t *high)
{
	const struct mem_region *r;
	size_t n = mem_regions(mem, &r);

	*low = 0;
	*high = FW_HIGH_RAM;
	for (size_t i = 0; i < n; i++) {
		uint64_t *end = r[i].gpa < FW_HIGH_RAM ? low : high;

		*end = r[i].gpa + r[i].len;
	}
}

/* The 64-bit window: what the firmware used, with room to move, clear of RAM and of AMD's hole. */
static struct acpi_range window64(const struct fw_acpi_spec *s, uint64_t high_ram)
{
	struct bar_scan scan = { .pci = s->pci, .limit = BIT64(s->phys_bits), .first = UINT64_MAX };
	uint64_t first, end;

	pci_bus_each(s->pci, scan_function, &scan);
	if (scan.end == 0)
		return (struct acpi_range){ 1, 0 };
	first = MAX(ALIGN_DOWN(scan.first, GIB), ALIGN_UP(high_ram, GIB));
	end = MIN(MAX(first + 32 * GIB, ALIGN_UP(scan.end, GIB)), scan.limit);
	if (scan.end <= FW_AMD_HOLE && end > FW_AMD_HOLE)
		end = FW_AMD_HOLE;
	return (struct acpi_range){ first, end - 1 };
}

/* [first, last] without the ECAM window that may lie inside. */
static void split_around_ecam(struct acpi_range out[2], uint64_t first, uint64_t last,
			      uint64_t ecam)
{
	uint64_t ecam_end = ecam + FW_ECAM_LEN;

	out[0] = (struct acpi_range){ first, last };
	out[1] = (struct acpi_range){ 1, 0 };
	if (ecam > last || ecam_end <= first)
		return;
	out[0].last = ecam - 1;
	out[1] = (struct acpi_range){ ecam_end, last };
	if (ecam <= first)
		out[0] = (struct acpi_range){ 1, 0 };
}

void acpi_look(const struct fw_acpi_spec *s, struct acpi_view *v)
{
	uint32_t pmbase = pci_bus_cfg_read(s->pci, 0, FW_LPC_DEVFN, FW_LPC_PMBASE, 4);
	uint64_t low_ram, high_ram, first;

	v->ecam = pci_bus_ecam(s->pci);
	v->pmbase = pmbase == UINT32_MAX || !(pmbase & PMBASE_MASK) ? FW_DIRECT_PMBASE
								    : pmbase & PMBASE_MASK;
	ram_ends(s->mem, &low_ram, &high_ram);
	first = MAX(low_ram, FW_LOW_RAM_MAX);
	/* Firmware that puts ECAM low puts all BARs above it. */
	if (v->ecam >= first && v->ecam < FW_DIRECT_MEM)
		first = v->ecam + FW_ECAM_LEN;
	split_around_ecam(v->mem32, first, FW_PCI_MEM_END - 1, v->ecam);
	v->mem64 = window64(s, high_ram);
}
