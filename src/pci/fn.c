/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>

#include "pci/pci_priv.h"
#include "util/err.h"

/* Other functions of the same device exist: header type bit 7 then makes the guest look for them. */
static bool is_multi_function(const struct pci_fn *fn)
{
	unsigned int first = fn->devfn & ~7u;

	for (unsigned int i = first; i < first + 8; i++)
		if (i != fn->devfn && fn->bus->fns[i])
			return true;
	return false;
}

uint32_t pci_fn_cfg_read(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	uint32_t value = 0;

	if (offset >= PCI_CFG_SIZE)
		return 0; /* no extended capabilities */
	dev_lock(&fn->dev);
	if (fn->in_flr) {
		dev_unlock(&fn->dev);
		return UINT32_MAX >> (32 - 8 * size);
	}
	if (fn->desc->config_reading)
		fn->desc->config_reading(fn, offset, size);
	for (unsigned int i = 0; i < size && offset + i < PCI_CFG_SIZE; i++) {
		uint32_t byte = fn->cfg[offset + i];

		if (offset + i == CFG_HEADER_TYPE && is_multi_function(fn))
			byte |= HEADER_MULTI;
		value |= byte << (8 * i);
	}
	dev_unlock(&fn->dev);
	return value;
}

/* Everything that follows from config space; cheap when nothing changed. */
static void apply_config(struct pci_fn *fn)
{
	dma_enable(&fn->dma, pci_command(fn) & CMD_MASTER);
	pci_bars_update(fn);
	pci_irqs_update(fn);
}

/* Device Control bit 15 (PCI Express 3.0 s7.8.4). */
static bool asks_for_flr(const struct pci_fn *fn, unsigned int offset, unsigned int size,
			 uint32_t value)
{
	unsigned int at = fn->cap_exp + 9u;

	return fn->desc->flr && fn->cap_exp && offset <= at && at < offset + size &&
	       value >> (8 * (at - offset)) & 0x80;
}

void pci_flr_done(struct pci_fn *fn)
{
	fn->in_flr = false;
}

void pci_fn_cfg_write(struct pci_fn *fn, unsigned int offset, unsigned int size, uint32_t value)
{
	if (offset >= PCI_CFG_SIZE)
		return;
	dev_lock(&fn->dev);
	if (fn->in_flr) {
		dev_unlock(&fn->dev);
		return;
	}
	if (asks_for_flr(fn, offset, size, value)) {
		pci_fn_reset(fn);
		fn->in_flr = true;
		fn->desc->flr(fn);
		dev_unlock(&fn->dev);
		return;
	}
	for (unsigned int i = 0; i < size && offset + i < PCI_CFG_SIZE; i++) {
		unsigned int at = offset + i, mask = fn->wmask[at];
		unsigned int byte = value >> (8 * i) & 0xff;

		fn->cfg[at] = (uint8_t)((fn->cfg[at] & ~mask) | (byte & mask));
		fn->cfg[at] &= (uint8_t) ~(byte & fn->w1c[at]);
	}
	apply_config(fn);
	if (fn->desc->config_written)
		fn->desc->config_written(fn, offset, size);
	dev_unlock(&fn->dev);
}

void pci_cfg_reg(struct pci_fn *fn, unsigned int offset, unsigned int width, uint32_t value,
		 uint32_t wmask, uint32_t w1c)
{
	assert(offset + width <= PCI_CFG_SIZE);
	for (unsigned int i = 0; i < width; i++) {
		fn->cfg[offset + i] = fn->reset_cfg[offset + i] = (uint8_t)(value >> (8 * i));
		fn->wmask[offset + i] = (uint8_t)(wmask >> (8 * i));
		fn->w1c[offset + i] = (uint8_t)(w1c >> (8 * i));
	}
}

static void build_header(struct pci_fn *fn)
{
	const struct pci_desc *desc = fn->desc;
	uint32_t command = CMD_MASTER | CMD_PARITY | CMD_SERR;

	for (unsigned int i = 0; i < PCI_BARS; i++)
		if (desc->bars[i].kind != PCI_BAR_NONE)
			command |= desc->bars[i].kind == PCI_BAR_IO ? CMD_IO : CMD_MEM;
	if (desc->intx_pin || desc->msi || desc->msix.vectors)
		command |= CMD_INTX_OFF;
	pci_cfg_reg(fn, CFG_VENDOR, 2, desc->vendor, 0, 0);
	pci_cfg_reg(fn, CFG_DEVICE, 2, desc->device, 0, 0);
	pci_cfg_reg(fn, CFG_COMMAND, 2, 0, command, 0);
	pci_cfg_reg(fn, CFG_STATUS, 2, 0, 0, STATUS_W1C);
	pci_cfg_reg(fn, CFG_REVISION, 4, desc->class_code << 8 | desc->revision, 0, 0);
	pci_cfg_reg(fn, CFG_CACHE_LINE, 1, 0, 0xff, 0);
	pci_cfg_reg(fn, CFG_SUBVENDOR, 2, desc->subvendor, 0, 0);
	pci_cfg_reg(fn, CFG_SUBDEVICE, 2, desc->subdevice, 0, 0);
	pci_cfg_reg(fn, CFG_INT_LINE, 1, 0, 0xff, 0);
	pci_cfg_reg(fn, CFG_INT_PIN, 1, desc->intx_pin, 0, 0);
}

int pci_fn_init(struct pci_fn *fn, const struct pci_desc *desc, struct err *err)
{
	const struct env *env = &fn->dev.env;
	const struct pci_slot *slot = env->slot;
	struct pci_fn *other;

	if (!slot)
		return err_set(err, -EINVAL, "%s: this device needs a PCI slot", env->name);
	other = slot->bus->fns[slot->devfn];
	if (other)
		return err_set(err, -EBUSY, "%s: PCI slot %d:%d is taken by %s; choose another",
			       env->name, slot->devfn >> 3, slot->devfn & 7, other->dev.env.name);
	fn->desc = desc;
	fn->bus = slot->bus;
	fn->devfn = slot->devfn;
	fn->bus->fns[fn->devfn] = fn;
	list_init(&fn->doorbells);
	dma_init(&fn->dma, env->mem, false);
	build_header(fn);
	pci_bars_init(fn);
	pci_caps_build(fn);
	if (pci_irqs_init(fn) < 0)
		return err_set(err, -ENOMEM, "%s: out of memory", env->name);
	return 0;
}

void pci_fn_fini(struct pci_fn *fn)
{
	if (!fn->bus)
		return;
	pci_bars_unmap(fn);
	pci_irqs_fini(fn);
	fn->bus->fns[fn->devfn] = NULL;
	fn->bus = NULL;
}

void pci_fn_reset(struct pci_fn *fn)
{
	for (unsigned int i = 0; i < PCI_CFG_SIZE; i++) {
		unsigned int mask = fn->wmask[i] | fn->w1c[i];

		fn->cfg[i] = (uint8_t)((fn->cfg[i] & ~mask) | (fn->reset_cfg[i] & mask));
	}
	pci_irqs_reset(fn);
	apply_config(fn);
	fn->in_flr = false;
}
