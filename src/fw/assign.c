/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "fw/layout.h"
#include "fw/linux.h"
#include "pci/pci.h"
#include "util/err.h"

/* Registers of the host bridge (Intel Q35 datasheet s5.1.14) and of the standard header (PCI 3.0 s6.1). */
enum {
	PCIEXBAR = 0x60,
	PCIEXBAR_HIGH = 0x64,
	PCIEXBAR_ENABLE = 1 << 0,
	PMBASE_IO = 1 << 0,
	ACPI_EN = 1 << 7,
	CFG_COMMAND = 0x04,
	COMMAND_IO = 1 << 0,
	COMMAND_MEM = 1 << 1,
	CFG_BAR0 = 0x10,
	CFG_INTERRUPT_LINE = 0x3c,
};

#define BARS_MAX (256 * PCI_BARS)

struct bar {
	uint64_t size;
	enum pci_bar_kind kind;
	uint8_t devfn, index;
};

/* A range that is handed out from its base upwards. */
struct window {
	uint64_t at, end;
};

struct plan {
	struct pci_bus *pci;
	struct bar *bars;
	size_t n;
	struct window io, low, high;
};

static void collect(void *arg, struct pci_fn *fn)
{
	struct plan *p = arg;

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		const struct pci_bar_desc *d = &fn->desc->bars[i];

		if (d->kind == PCI_BAR_NONE)
			continue;
		p->bars[p->n++] = (struct bar){
			.size = d->size, .kind = d->kind, .devfn = fn->devfn, .index = (uint8_t)i
		};
	}
}

/*
 * Those that can go anywhere last; largest first, so that natural alignment leaves no gaps; then by place, so that the
 * result is always the same.
 */
static int compare_bars(const void *x, const void *y)
{
	const struct bar *a = x, *b = y;
	bool a_free = a->kind == PCI_BAR_MEM64, b_free = b->kind == PCI_BAR_MEM64;

	if (a_free != b_free)
		return a_free ? 1 : -1;
	if (a->size != b->size)
		return a->size > b->size ? -1 : 1;
	if (a->devfn != b->devfn)
		return a->devfn < b->devfn ? -1 : 1;
	return a->index < b->index ? -1 : 1;
}

/* Takes size bytes, aligned to their size. */
static bool take(struct window *w, uint64_t size, uint64_t *out)
{
	uint64_t at = ALIGN_UP(w->at, size);

	if (at < w->at || at > w->end || w->end - at < size)
		return false;
	*out = at;
	w->at = at + size;
	return true;
}

static int place_bar(struct plan *p, const struct bar *b, struct err *err)
{
	unsigned int offset = CFG_BAR0 + 4u * b->index;
	uint64_t addr;
	bool found;

	if (b->kind == PCI_BAR_IO)
		found = take(&p->io, b->size, &addr);
	else
		found = take(&p->low, b->size, &addr) ||
			(b->kind == PCI_BAR_MEM64 && take(&p->high, b->size, &addr));
	if (!found)
		return err_set(
			err, -ENOSPC,
			"no room for BAR %u of PCI device 0:%u.%u (%llu bytes): remove devices",
			b->index, b->devfn >> 3, b->devfn & 7, (unsigned long long)b->size);
	pci_bus_cfg_write(p->pci, 0, b->devfn, offset, 4, (uint32_t)addr);
	if (b->kind == PCI_BAR_MEM64)
		pci_bus_cfg_write(p->pci, 0, b->devfn, offset + 4, 4, (uint32_t)(addr >> 32));
	return 0;
}

static void switch_on(void *arg, struct pci_fn *fn)
{
	struct plan *p = arg;
	uint16_t command = 0;

	for (unsigned int i = 0; i < PCI_BARS; i++) {
		enum pci_bar_kind kind = fn->desc->bars[i].kind;

		if (kind != PCI_BAR_NONE)
			command |= kind == PCI_BAR_IO ? COMMAND_IO : COMMAND_MEM;
	}
	if (command)
		pci_bus_cfg_write(p->pci, 0, fn->devfn, CFG_COMMAND, 2, command);
	if (fn->desc->intx_pin)
		pci_bus_cfg_write(p->pci, 0, fn->devfn, CFG_INTERRUPT_LINE, 1,
				  pci_bus_gsi(p->pci, fn->devfn, fn->desc->intx_pin));
}

static uint64_t ram_end(const struct mem *mem)
{
	const struct mem_region *r;
	size_t n = mem_regions(mem, &r);

	return n ? MAX(r[n - 1].gpa + r[n - 1].len, FW_HIGH_RAM) : FW_HIGH_RAM;
}

static void program_chipset(struct pci_bus *pci)
{
	pci_bus_cfg_write(pci, 0, FW_LPC_DEVFN, FW_LPC_PMBASE, 4, FW_DIRECT_PMBASE | PMBASE_IO);
	pci_bus_cfg_write(pci, 0, FW_LPC_DEVFN, FW_LPC_ACPI_CNTL, 1, ACPI_EN);
	pci_bus_cfg_write(pci, 0, 0, PCIEXBAR_HIGH, 4, 0);
	pci_bus_cfg_write(pci, 0, 0, PCIEXBAR, 4, FW_DIRECT_ECAM | PCIEXBAR_ENABLE);
}

int fw_pci_assign(struct pci_bus *pci, const struct mem *mem, struct err *err)
{
	uint64_t high = ALIGN_UP(ram_end(mem), GIB);
	struct plan p = {
		.pci = pci,
		.bars = calloc(BARS_MAX, sizeof(struct bar)),
		.io = { FW_DIRECT_IO, FW_DIRECT_IO_END },
		.low = { FW_DIRECT_MEM, FW_DIRECT_MEM_END },
		.high = { high, high + 32 * GIB },
	};
	int r = 0;

	if (!p.bars)
		return err_set(err, -ENOMEM, "out of memory");
	program_chipset(pci);
	pci_bus_each(pci, collect, &p);
	qsort(p.bars, p.n, sizeof(p.bars[0]), compare_bars);
	for (size_t i = 0; i < p.n && r == 0; i++)
		r = place_bar(&p, &p.bars[i], err);
	if (r == 0)
		pci_bus_each(pci, switch_on, &p);
	free(p.bars);
	return r;
}
