/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "pci/pci_priv.h"
#include "util/bytes.h"
#include "util/log.h"

#define NOWHERE UINT64_MAX
#define MAX_PHYS BIT64(52)

static bool holds_msix(const struct pci_fn *fn, unsigned int i)
{
	return fn->desc->msix.vectors && fn->desc->msix.bar == i;
}

static void check_desc(const struct pci_fn *fn, unsigned int i)
{
	const struct pci_bar_desc *bar = &fn->desc->bars[i];

	assert((bar->size & (bar->size - 1)) == 0 && bar->size >= 4);
	assert(bar->kind == PCI_BAR_IO || bar->size >= 16);
	assert(bar->kind == PCI_BAR_MEM64 || bar->size <= 2 * GIB);
	if (bar->kind == PCI_BAR_MEM64)
		assert(i + 1 < PCI_BARS && fn->desc->bars[i + 1].kind == PCI_BAR_NONE);
	if (!holds_msix(fn, i))
		return;
	assert(bar->kind != PCI_BAR_IO && fn->desc->msix.vectors <= PCI_MSIX_MAX);
	assert(fn->desc->msix.table % 4096 == 0 && fn->desc->msix.pba % 8 == 0);
	assert(fn->desc->msix.pba >= fn->desc->msix.table + 16u * fn->desc->msix.vectors);
	assert(fn->desc->msix.pba + PCI_MSIX_MAX / 8 <= bar->size);
}

static void init_region(struct pci_fn *fn, unsigned int i)
{
	const struct pci_bar_desc *desc = &fn->desc->bars[i];
	struct dev_region *region = &fn->bars[i].region;

	if (holds_msix(fn, i))
		dev_region_init_ops(region, &fn->dev, desc->size, pci_msix_bar_read,
				    pci_msix_bar_write);
	else if (desc->regs)
		dev_region_init_regs(region, &fn->dev, desc->size, desc->regs);
	else if (desc->read)
		dev_region_init_ops(region, &fn->dev, desc->size, desc->read, desc->write);
}

void pci_bars_init(struct pci_fn *fn)
{
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		const struct pci_bar_desc *desc = &fn->desc->bars[i];
		uint64_t mask = ~(desc->size - 1);
		unsigned int at = CFG_BAR0 + 4 * i;
		uint32_t flags = desc->prefetch ? 8 : 0;

		fn->bars[i].addr = NOWHERE;
		switch (desc->kind) {
		case PCI_BAR_NONE:
			continue;
		case PCI_BAR_IO:
			flags = 1;
			break;
		case PCI_BAR_MEM32:
			break;
		case PCI_BAR_MEM64:
			flags |= 4;
			pci_cfg_reg(fn, at + 4, 4, 0, (uint32_t)(mask >> 32), 0);
			break;
		}
		check_desc(fn, i);
		pci_cfg_reg(fn, at, 4, flags, (uint32_t)mask, 0);
		init_region(fn, i);
	}
}

/* Where the BAR decodes as things stand, or NOWHERE. */
static uint64_t decoded_addr(const struct pci_fn *fn, unsigned int i)
{
	const struct pci_bar_desc *desc = &fn->desc->bars[i];
	bool io = desc->kind == PCI_BAR_IO;
	uint64_t addr, last;

	if (desc->kind == PCI_BAR_NONE || !(pci_command(fn) & (io ? CMD_IO : CMD_MEM)))
		return NOWHERE;
	addr = get_le32(&fn->cfg[CFG_BAR0 + 4 * i]);
	if (desc->kind == PCI_BAR_MEM64)
		addr |= (uint64_t)get_le32(&fn->cfg[CFG_BAR0 + 4 * i + 4]) << 32;
	addr &= ~(desc->size - 1);
	if (addr == 0 || addr >= MAX_PHYS)
		return NOWHERE;
	last = addr + desc->size - 1;
	/* All ones below 4 GiB is a BAR (or its lower half) that is being sized. */
	if (last == UINT32_MAX || last > (io ? UINT16_MAX : MAX_PHYS - 1))
		return NOWHERE;
	return addr;
}

static void update_doorbell(struct pci_fn *fn, struct pci_doorbell *b)
{
	const struct pci_bar *bar = &fn->bars[b->bar];

	bus_doorbell_del(fn->bus->bus, &b->bell);
	if (bar->addr == NOWHERE)
		return;
	b->bell.kind = fn->desc->bars[b->bar].kind == PCI_BAR_IO ? BUS_PORT : BUS_MEM;
	b->bell.addr = bar->addr + b->offset;
	if (bus_doorbell_add(fn->bus->bus, &b->bell) < 0)
		log_limited(LOG_LEVEL_DEBUG, fn->dev.env.name,
			    "no doorbell at 0x%llx: writes to it exit to user space",
			    (unsigned long long)b->bell.addr);
}

static void bar_changed(struct pci_fn *fn, unsigned int i)
{
	struct pci_doorbell *b;

	list_for_each(b, &fn->doorbells, link)
		if (b->bar == i)
			update_doorbell(fn, b);
	if (fn->desc->bar_moved)
		fn->desc->bar_moved(fn, i, fn->bars[i].addr);
}

static void unmap_bar(struct pci_fn *fn, unsigned int i)
{
	struct pci_bar *bar = &fn->bars[i];

	if (bar->addr == NOWHERE)
		return;
	bus_unmap(fn->bus->bus, &bar->region.region);
	bar->addr = NOWHERE;
	bar_changed(fn, i);
}

static void map_bar(struct pci_fn *fn, unsigned int i, uint64_t addr)
{
	enum bus_kind kind = fn->desc->bars[i].kind == PCI_BAR_IO ? BUS_PORT : BUS_MEM;
	struct pci_bar *bar = &fn->bars[i];

	/* Without handlers there is only what the model maps itself. */
	if (bar->region.dev && bus_map(fn->bus->bus, &bar->region.region, kind, addr) < 0) {
		log_limited(LOG_LEVEL_WARN, fn->dev.env.name, "BAR %u cannot be mapped at 0x%llx",
			    i, (unsigned long long)addr);
		return;
	}
	bar->addr = addr;
	bar_changed(fn, i);
}

/* First all that leave, then all that come, so that BARs may change places. */
void pci_bars_update(struct pci_fn *fn)
{
	for (unsigned int i = 0; i < PCI_BARS; i++)
		if (fn->bars[i].addr != decoded_addr(fn, i))
			unmap_bar(fn, i);
	for (unsigned int i = 0; i < PCI_BARS; i++) {
		uint64_t addr = decoded_addr(fn, i);

		if (fn->bars[i].addr != addr)
			map_bar(fn, i, addr);
	}
}

void pci_bars_unmap(struct pci_fn *fn)
{
	for (unsigned int i = 0; i < PCI_BARS; i++)
		unmap_bar(fn, i);
}

int pci_doorbell_add(struct pci_fn *fn, struct pci_doorbell *b)
{
	int ret = 0;

	assert(b->bar < PCI_BARS && b->offset < fn->desc->bars[b->bar].size && !b->wanted);
	if (fn->bars[b->bar].addr != NOWHERE) {
		b->bell.kind = fn->desc->bars[b->bar].kind == PCI_BAR_IO ? BUS_PORT : BUS_MEM;
		b->bell.addr = fn->bars[b->bar].addr + b->offset;
		ret = bus_doorbell_add(fn->bus->bus, &b->bell);
	}
	if (ret < 0)
		return ret;
	b->wanted = true;
	list_append(&fn->doorbells, &b->link);
	return 0;
}

void pci_doorbell_del(struct pci_fn *fn, struct pci_doorbell *b)
{
	if (!b->wanted)
		return;
	bus_doorbell_del(fn->bus->bus, &b->bell);
	list_remove(&b->link);
	b->wanted = false;
}
