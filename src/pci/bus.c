/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>

#include "pci/pci_priv.h"

#define CF8_ENABLE 0x80000000u
#define CF8_BITS 0x80fffffcu
#define ECAM_SIZE (256 * MIB)

struct pci_fn *pci_bus_find(const struct pci_bus *b, uint8_t devfn)
{
	return b->fns[devfn];
}

unsigned int pci_bus_gsi(const struct pci_bus *b, uint8_t devfn, uint8_t pin)
{
	return b->gsi_base + ((devfn >> 3) + pin - 1u) % 4;
}

void pci_bus_each(struct pci_bus *b, void (*fn)(void *arg, struct pci_fn *f), void *arg)
{
	for (size_t i = 0; i < ARRAY_LEN(b->fns); i++)
		if (b->fns[i])
			fn(arg, b->fns[i]);
}

static struct pci_fn *answering(struct pci_bus *b, uint8_t busno, uint8_t devfn,
				unsigned int offset, unsigned int size)
{
	if (busno != 0 || offset >= PCI_CFG_EXT_SIZE || size > PCI_CFG_EXT_SIZE - offset)
		return NULL;
	return b->fns[devfn];
}

uint32_t pci_bus_cfg_read(struct pci_bus *b, uint8_t busno, uint8_t devfn, unsigned int offset,
			  unsigned int size)
{
	struct pci_fn *fn = answering(b, busno, devfn, offset, size);

	return fn ? pci_fn_cfg_read(fn, offset, size) : UINT32_MAX >> (32 - 8 * size);
}

void pci_bus_cfg_write(struct pci_bus *b, uint8_t busno, uint8_t devfn, unsigned int offset,
		       unsigned int size, uint32_t value)
{
	struct pci_fn *fn = answering(b, busno, devfn, offset, size);

	if (fn)
		pci_fn_cfg_write(fn, offset, size, value);
}

/* --- ports CF8 and CFC (PCI 3.0 s3.2.2.3.2) --- */

static uint64_t address_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pci_bus *b = arg;

	(void)offset;
	return size == 4 ? __atomic_load_n(&b->cf8, __ATOMIC_RELAXED) : UINT64_MAX;
}

/* Only the whole dword is the latch: bytes in it belong to others (port CF9). */
static void address_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *b = arg;

	(void)offset;
	if (size == 4)
		__atomic_store_n(&b->cf8, (uint32_t)value & CF8_BITS, __ATOMIC_RELAXED);
}

static uint64_t data_read(void *arg, uint64_t offset, unsigned int size)
{
	struct pci_bus *b = arg;
	uint32_t cf8 = __atomic_load_n(&b->cf8, __ATOMIC_RELAXED);

	if (!(cf8 & CF8_ENABLE) || size > 4)
		return UINT64_MAX;
	return pci_bus_cfg_read(b, cf8 >> 16 & 0xff, cf8 >> 8 & 0xff,
				(cf8 & 0xfc) + (unsigned int)offset, size);
}

static void data_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_bus *b = arg;
	uint32_t cf8 = __atomic_load_n(&b->cf8, __ATOMIC_RELAXED);

	if ((cf8 & CF8_ENABLE) && size <= 4)
		pci_bus_cfg_write(b, cf8 >> 16 & 0xff, cf8 >> 8 & 0xff,
				  (cf8 & 0xfc) + (unsigned int)offset, size, (uint32_t)value);
}

/* --- the memory-mapped way (PCI Express 3.0 s7.2.2): bus << 20 | devfn << 12 | offset --- */

static uint64_t ecam_read(void *arg, uint64_t offset, unsigned int size)
{
	uint64_t low, high;

	if (size == 8) {
		low = ecam_read(arg, offset, 4);
		high = ecam_read(arg, offset + 4, 4);
		return high << 32 | low;
	}
	return pci_bus_cfg_read(arg, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff,
				size);
}

static void ecam_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	if (size == 8) {
		ecam_write(arg, offset, 4, value & UINT32_MAX);
		ecam_write(arg, offset + 4, 4, value >> 32);
		return;
	}
	pci_bus_cfg_write(arg, offset >> 20 & 0xff, offset >> 12 & 0xff, offset & 0xfff, size,
			  (uint32_t)value);
}

int pci_bus_set_ecam(struct pci_bus *b, uint64_t base)
{
	int ret = 0;

	if (base == pci_bus_ecam(b))
		return 0;
	bus_unmap(b->bus, &b->ecam);
	if (base != UINT64_MAX)
		ret = bus_map(b->bus, &b->ecam, BUS_MEM, base);
	__atomic_store_n(&b->ecam_base, ret < 0 ? UINT64_MAX : base, __ATOMIC_RELEASE);
	return ret;
}

uint64_t pci_bus_ecam(const struct pci_bus *b)
{
	return __atomic_load_n(&b->ecam_base, __ATOMIC_ACQUIRE);
}

void pci_bus_reset(struct pci_bus *b)
{
	__atomic_store_n(&b->cf8, 0, __ATOMIC_RELAXED);
}

struct pci_bus *pci_bus_new(struct bus *bus, unsigned int gsi_base)
{
	static const struct bus_region_ops address_ops = { address_read, address_write };
	static const struct bus_region_ops data_ops = { data_read, data_write };
	static const struct bus_region_ops ecam_ops = { ecam_read, ecam_write };
	struct pci_bus *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->bus = bus;
	b->gsi_base = gsi_base;
	b->ecam_base = UINT64_MAX;
	b->address = (struct bus_region){ .ops = &address_ops, .arg = b, .len = 4 };
	b->data = (struct bus_region){ .ops = &data_ops, .arg = b, .len = 4 };
	b->ecam = (struct bus_region){ .ops = &ecam_ops, .arg = b, .len = ECAM_SIZE };
	if (bus_map(bus, &b->address, BUS_PORT, 0xcf8) < 0 ||
	    bus_map(bus, &b->data, BUS_PORT, 0xcfc) < 0) {
		pci_bus_free(b);
		return NULL;
	}
	return b;
}

void pci_bus_free(struct pci_bus *b)
{
	if (!b)
		return;
	bus_unmap(b->bus, &b->address);
	bus_unmap(b->bus, &b->data);
	bus_unmap(b->bus, &b->ecam);
	free(b);
}
