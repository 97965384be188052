/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "bench/tb_priv.h"

#define COMMAND 0x04u
#define BAR0 0x10u
#define CAP_MSI 0x05
#define CAP_MSIX 0x11
#define MMIO_END 0xfe000000ull

static void aim(struct dev *d, unsigned int offset)
{
	assert(offset < PCI_CFG_SIZE);
	tb_out(tb_of(d), 0xcf8, 4,
	       0x80000000u | (uint32_t)pci_fn_of(d)->devfn << 8 | (offset & 0xfc));
}

uint32_t tb_cfg_read(struct dev *d, unsigned int offset, unsigned int size)
{
	aim(d, offset);
	return tb_in(tb_of(d), (uint16_t)(0xcfc + (offset & 3)), size);
}

void tb_cfg_write(struct dev *d, unsigned int offset, unsigned int size, uint32_t value)
{
	aim(d, offset);
	tb_out(tb_of(d), (uint16_t)(0xcfc + (offset & 3)), size, value);
}

unsigned int tb_cap(struct dev *d, uint8_t id, unsigned int n)
{
	unsigned int at = tb_cfg_read(d, 6, 2) & 0x10 ? tb_cfg_read(d, 0x34, 1) : 0;

	for (int i = 0; at && i < 48; i++) {
		if (tb_cfg_read(d, at, 1) == id && n-- == 0)
			return at;
		at = tb_cfg_read(d, at + 1, 1);
	}
	return 0;
}

/* A new address for the BAR, aligned to its size. */
static uint64_t place(struct tb *tb, bool io, uint64_t size)
{
	uint64_t *next = io ? &tb->next_port : &tb->next_mmio;
	uint64_t addr = ALIGN_UP(*next, size);

	assert(addr + size <= (io ? 0x10000 : MMIO_END));
	*next = addr + size;
	return addr;
}

/* Sizes and places one BAR. Returns how many registers it took. */
static unsigned int set_bar(struct dev *d, struct tb_dev *t, unsigned int bar)
{
	unsigned int at = BAR0 + 4 * bar;
	uint32_t low, high = UINT32_MAX;
	bool io, wide;

	tb_cfg_write(d, at, 4, UINT32_MAX);
	low = tb_cfg_read(d, at, 4);
	if (!low)
		return 1;
	io = low & 1;
	wide = !io && (low & 6) == 4;
	if (wide) {
		tb_cfg_write(d, at + 4, 4, UINT32_MAX);
		high = tb_cfg_read(d, at + 4, 4);
	}
	t->bar_size[bar] = ~((uint64_t)high << 32 | (low & (io ? ~3u : ~15u))) + 1;
	if (!t->bar_addr[bar])
		t->bar_addr[bar] = place(tb_of(d), io, t->bar_size[bar]);
	tb_cfg_write(d, at, 4, (uint32_t)t->bar_addr[bar]);
	if (wide)
		tb_cfg_write(d, at + 4, 4, (uint32_t)(t->bar_addr[bar] >> 32));
	return wide ? 2 : 1;
}

void tb_pci_enable(struct dev *d)
{
	struct tb_dev *t = tb_dev_of(d);

	tb_cfg_write(d, COMMAND, 2, 0);
	for (unsigned int bar = 0; bar < PCI_BARS;)
		bar += set_bar(d, t, bar);
	tb_cfg_write(d, COMMAND, 2, 7);
}

void tb_bus_master(struct dev *d, bool on)
{
	uint32_t command = tb_cfg_read(d, COMMAND, 2);

	tb_cfg_write(d, COMMAND, 2, on ? command | 4 : command & ~4u);
}

uint64_t tb_bar_size(struct dev *d, unsigned int bar)
{
	return tb_dev_of(d)->bar_size[bar];
}

uint64_t tb_bar(struct dev *d, unsigned int bar)
{
	return tb_dev_of(d)->bar_addr[bar];
}

static bool is_io(struct dev *d, unsigned int bar)
{
	return pci_fn_of(d)->desc->bars[bar].kind == PCI_BAR_IO;
}

static uint64_t bar_read(struct dev *d, unsigned int bar, uint64_t offset, unsigned int size)
{
	uint64_t addr = tb_bar(d, bar) + offset;

	return is_io(d, bar) ? tb_in(tb_of(d), (uint16_t)addr, size)
			     : tb_read(tb_of(d), addr, size);
}

static void bar_write(struct dev *d, unsigned int bar, uint64_t offset, unsigned int size,
		      uint64_t v)
{
	uint64_t addr = tb_bar(d, bar) + offset;

	if (is_io(d, bar))
		tb_out(tb_of(d), (uint16_t)addr, size, (uint32_t)v);
	else
		tb_write(tb_of(d), addr, size, v);
}

uint8_t tb_r8(struct dev *d, unsigned int bar, uint64_t offset)
{
	return (uint8_t)bar_read(d, bar, offset, 1);
}

uint16_t tb_r16(struct dev *d, unsigned int bar, uint64_t offset)
{
	return (uint16_t)bar_read(d, bar, offset, 2);
}

uint32_t tb_r32(struct dev *d, unsigned int bar, uint64_t offset)
{
	return (uint32_t)bar_read(d, bar, offset, 4);
}

uint64_t tb_r64(struct dev *d, unsigned int bar, uint64_t offset)
{
	return bar_read(d, bar, offset, 8);
}

void tb_w8(struct dev *d, unsigned int bar, uint64_t offset, uint8_t v)
{
	bar_write(d, bar, offset, 1, v);
}

void tb_w16(struct dev *d, unsigned int bar, uint64_t offset, uint16_t v)
{
	bar_write(d, bar, offset, 2, v);
}

void tb_w32(struct dev *d, unsigned int bar, uint64_t offset, uint32_t v)
{
	bar_write(d, bar, offset, 4, v);
}

void tb_w64(struct dev *d, unsigned int bar, uint64_t offset, uint64_t v)
{
	bar_write(d, bar, offset, 8, v);
}

/* --- messages --- */

static uint32_t msi_data(struct dev *d, unsigned int vector)
{
	return (uint32_t)(tb_dev_of(d) - tb_of(d)->devs) << 8 | vector;
}

/* BAR and offset that a dword of the MSI-X capability names, plus extra. */
static unsigned int msix_place(struct dev *d, unsigned int reg, uint64_t *offset)
{
	unsigned int cap = tb_cap(d, CAP_MSIX, 0);
	uint32_t v;

	assert(cap);
	v = tb_cfg_read(d, cap + reg, 4);
	*offset = v & ~7u;
	return v & 7;
}

static void msix_control(struct dev *d, uint32_t clear, uint32_t set)
{
	unsigned int cap = tb_cap(d, CAP_MSIX, 0);

	assert(cap);
	tb_cfg_write(d, cap + 2, 2, (tb_cfg_read(d, cap + 2, 2) & ~clear) | set);
}

unsigned int tb_msix_enable(struct dev *d)
{
	uint64_t table;
	unsigned int bar = msix_place(d, 4, &table);
	unsigned int n = (tb_cfg_read(d, tb_cap(d, CAP_MSIX, 0) + 2, 2) & 0x7ff) + 1;

	for (unsigned int i = 0; i < n; i++) {
		tb_w32(d, bar, table + 16 * i, TB_MSI_ADDR);
		tb_w32(d, bar, table + 16 * i + 4, 0);
		tb_w32(d, bar, table + 16 * i + 8, msi_data(d, i));
		tb_w32(d, bar, table + 16 * i + 12, 0);
	}
	msix_control(d, 0x4000, 0x8000);
	return n;
}

void tb_msix_disable(struct dev *d)
{
	msix_control(d, 0x8000, 0);
}

void tb_msix_mask(struct dev *d, unsigned int vector, bool masked)
{
	uint64_t table;
	unsigned int bar = msix_place(d, 4, &table);

	tb_w32(d, bar, table + 16 * vector + 12, masked);
}

void tb_msix_function_mask(struct dev *d, bool masked)
{
	msix_control(d, 0x4000, masked ? 0x4000 : 0);
}

bool tb_msix_pending(struct dev *d, unsigned int vector)
{
	uint64_t pba;
	unsigned int bar = msix_place(d, 8, &pba);

	return tb_r32(d, bar, pba + vector / 32 * 4) >> vector % 32 & 1;
}

void tb_msi_enable(struct dev *d)
{
	unsigned int cap = tb_cap(d, CAP_MSI, 0);

	assert(cap);
	tb_cfg_write(d, cap + 4, 4, TB_MSI_ADDR);
	tb_cfg_write(d, cap + 8, 4, 0);
	tb_cfg_write(d, cap + 12, 2, msi_data(d, 0));
	tb_cfg_write(d, cap + 2, 2, tb_cfg_read(d, cap + 2, 2) | 1);
}
