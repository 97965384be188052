/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bus/reg.h"
#include "pci/pci_priv.h"
#include "util/canary.h"
#include "util/log.h"

/* Message control (PCI 3.0 s6.8.2.3), its upper byte. */
#define MSIX_ENABLE 0x80u
#define MSIX_MASK_ALL 0x40u
#define VECTOR_MASKED 1u

bool pci_msi_addr_ok(struct pci_fn *fn, uint64_t addr)
{
	if (addr >> 20 == 0xfee)
		return true;
	log_limited(LOG_LEVEL_WARN, fn->dev.env.name,
		    "dropped an interrupt message to 0x%llx, which is no local APIC",
		    (unsigned long long)addr);
	return false;
}

bool pci_msix_enabled(const struct pci_fn *fn)
{
	return fn->cap_msix && (fn->cfg[fn->cap_msix + 3] & MSIX_ENABLE);
}

static bool all_masked(const struct pci_fn *fn)
{
	return fn->cfg[fn->cap_msix + 3] & MSIX_MASK_ALL;
}

static bool may_fire(const struct pci_fn *fn, const struct pci_msix_vector *v)
{
	return pci_msix_enabled(fn) && !all_masked(fn) && !(v->ctrl & VECTOR_MASKED) &&
	       (pci_command(fn) & CMD_MASTER);
}

static uint64_t addr_of(const struct pci_msix_vector *v)
{
	return (uint64_t)v->addr_hi << 32 | v->addr_lo;
}

/* Makes the host know where the vector goes. False: not now. */
static bool route(struct pci_fn *fn, struct pci_msix_vector *v)
{
	if (v->routed)
		return true;
	if (!v->allocated && bus_msi_new(fn->bus->bus, &v->msi) < 0) {
		log_limited(LOG_LEVEL_WARN, fn->dev.env.name,
			    "no route for an interrupt vector: the host has no more");
		return false;
	}
	v->allocated = true;
	v->routed = bus_msi_update(fn->bus->bus, &v->msi, addr_of(v), v->data) == 0;
	return v->routed;
}

/* What the host refuses stays pending: the next reason to look at the vector is another try. */
static void deliver(struct pci_fn *fn, struct pci_msix_vector *v)
{
	bool sane;

	if (!v->pending || !may_fire(fn, v))
		return;
	sane = v->routed || pci_msi_addr_ok(fn, addr_of(v));
	if (sane && !route(fn, v))
		return;
	v->pending = false;
	if (sane)
		bus_msi_fire(fn->bus->bus, &v->msi, pci_msg_loop(fn));
}

void pci_msix_fire(struct pci_fn *fn, unsigned int vector)
{
	if (!pci_msix_enabled(fn))
		return;
	if (vector >= fn->desc->msix.vectors && !(CANARY && all_masked(fn)))
		return;
	fn->msix[vector].pending = true;
	deliver(fn, &fn->msix[vector]);
}

int pci_msix_fd(struct pci_fn *fn, unsigned int vector)
{
	struct pci_msix_vector *v;

	if (vector >= fn->desc->msix.vectors)
		return -1;
	v = &fn->msix[vector];
	if (!may_fire(fn, v) || !(v->routed || pci_msi_addr_ok(fn, addr_of(v))) || !route(fn, v))
		return -1;
	return v->msi.fd;
}

void pci_msix_flush(struct pci_fn *fn)
{
	if (!pci_msix_enabled(fn))
		return;
	for (unsigned int i = 0; i < fn->desc->msix.vectors; i++)
		deliver(fn, &fn->msix[i]);
}

void pci_msix_reset(struct pci_fn *fn)
{
	for (unsigned int i = 0; i < fn->desc->msix.vectors; i++) {
		struct pci_msix_vector *v = &fn->msix[i];

		v->addr_lo = v->addr_hi = v->data = 0;
		v->ctrl = VECTOR_MASKED;
		v->routed = v->pending = false;
	}
}

/* --- the table and the pending bits; dwords and qwords, aligned (PCI 3.0 s6.8.2) --- */

/* The field of the table at a dword's offset, or NULL past the last vector. */
static uint32_t *table_field(struct pci_fn *fn, uint64_t offset)
{
	struct pci_msix_vector *v;

	if (offset / 16 >= fn->desc->msix.vectors)
		return NULL;
	v = &fn->msix[offset / 16];
	switch (offset % 16) {
	case 0:
		return &v->addr_lo;
	case 4:
		return &v->addr_hi;
	case 8:
		return &v->data;
	default:
		return &v->ctrl;
	}
}

static uint32_t pending_bits(const struct pci_fn *fn, uint64_t offset)
{
	uint32_t bits = 0;

	for (unsigned int i = 0; i < 32; i++) {
		uint64_t vector = offset * 8 + i;

		if (vector < fn->desc->msix.vectors && fn->msix[vector].pending)
			bits |= BIT(i);
	}
	return bits;
}

static uint32_t read_dword(struct pci_fn *fn, uint64_t offset)
{
	const uint32_t *field;

	if (offset >= fn->desc->msix.pba)
		return pending_bits(fn, offset - fn->desc->msix.pba);
	field = table_field(fn, offset - fn->desc->msix.table);
	return field ? *field : 0;
}

static void write_dword(struct pci_fn *fn, uint64_t offset, uint32_t value)
{
	uint64_t in = offset - fn->desc->msix.table;
	uint32_t *field;

	if (offset >= fn->desc->msix.pba)
		return;
	field = table_field(fn, in);
	if (!field)
		return;
	if (in % 16 == 12) {
		*field = value & VECTOR_MASKED;
		deliver(fn, &fn->msix[in / 16]);
	} else if (*field != value) {
		*field = value;
		fn->msix[in / 16].routed = false;
	}
}

/* The BAR's range from the table to the end of the pending bits is the core's. */
static bool is_ours(const struct pci_fn *fn, uint64_t offset)
{
	return offset >= fn->desc->msix.table && offset < fn->desc->msix.pba + PCI_MSIX_MAX / 8;
}

static bool is_aligned(uint64_t offset, unsigned int size)
{
	return size >= 4 && offset % size == 0;
}

uint64_t pci_msix_bar_read(struct dev *d, uint64_t offset, unsigned int size)
{
	struct pci_fn *fn = pci_fn_of(d);
	const struct pci_bar_desc *bar = &fn->desc->bars[fn->desc->msix.bar];
	uint64_t value;

	if (!is_ours(fn, offset)) {
		if (bar->regs)
			return reg_read(bar->regs, d, offset, size);
		return bar->read ? bar->read(d, offset, size) : 0;
	}
	if (!is_aligned(offset, size))
		return 0;
	value = read_dword(fn, offset);
	if (size == 8)
		value |= (uint64_t)read_dword(fn, offset + 4) << 32;
	return value;
}

void pci_msix_bar_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	struct pci_fn *fn = pci_fn_of(d);
	const struct pci_bar_desc *bar = &fn->desc->bars[fn->desc->msix.bar];

	if (!is_ours(fn, offset)) {
		if (bar->regs)
			reg_write(bar->regs, d, offset, size, value);
		else if (bar->write)
			bar->write(d, offset, size, value);
		return;
	}
	if (!is_aligned(offset, size))
		return;
	write_dword(fn, offset, (uint32_t)value);
	if (size == 8)
		write_dword(fn, offset + 4, (uint32_t)(value >> 32));
	if (fn->desc->msix_changed)
		fn->desc->msix_changed(fn);
}
