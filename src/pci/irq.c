/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "pci/pci_priv.h"
#include "util/bytes.h"
#include "util/log.h"

static bool msi_enabled(const struct pci_fn *fn)
{
	return fn->cap_msi && (fn->cfg[fn->cap_msi + 2] & 1);
}

/* Status and wire follow what the model wants and what the guest allows (PCI 3.0 s6.2.2, s6.2.3). */
static void update_wire(struct pci_fn *fn)
{
	bool level = fn->intx_level || fn->irq_raised;

	fn->cfg[CFG_STATUS] &= (uint8_t)~STATUS_INTX;
	if (level)
		fn->cfg[CFG_STATUS] |= STATUS_INTX;
	if (fn->desc->intx_pin)
		bus_irq_set(&fn->intx, level && !fn->messages && !(pci_command(fn) & CMD_INTX_OFF));
}

static void fire_msi(struct pci_fn *fn)
{
	uint64_t addr = get_le64(&fn->cfg[fn->cap_msi + 4]);
	uint32_t data = get_le16(&fn->cfg[fn->cap_msi + 12]);

	if (!(pci_command(fn) & CMD_MASTER) || !pci_msi_addr_ok(fn, addr))
		return;
	if (!fn->msi_allocated && bus_msi_new(fn->bus->bus, &fn->msi) < 0) {
		log_limited(LOG_LEVEL_WARN, fn->dev.env.name,
			    "no route for an interrupt: the host has no more");
		return;
	}
	fn->msi_allocated = true;
	if (!fn->msi_routed || fn->msi.addr != addr || fn->msi.data != data)
		fn->msi_routed = bus_msi_update(fn->bus->bus, &fn->msi, addr, data) == 0;
	if (fn->msi_routed)
		bus_msi_fire(fn->bus->bus, &fn->msi, pci_msg_loop(fn));
}

static void fire_message(struct pci_fn *fn)
{
	if (pci_msix_enabled(fn))
		pci_msix_fire(fn, 0);
	else
		fire_msi(fn);
}

void pci_intx_set(struct pci_fn *fn, bool level)
{
	fn->intx_level = level;
	update_wire(fn);
}

void pci_irq_raise(struct pci_fn *fn)
{
	fn->irq_raised = true;
	update_wire(fn);
	if (fn->messages)
		fire_message(fn);
}

void pci_irq_lower(struct pci_fn *fn)
{
	fn->irq_raised = false;
	update_wire(fn);
}

void pci_irqs_update(struct pci_fn *fn)
{
	bool before = fn->messages;

	fn->messages = pci_msix_enabled(fn) || msi_enabled(fn);
	update_wire(fn);
	pci_msix_flush(fn);
	/* Raised on the wire, which is gone now: tell it the new way. */
	if (fn->messages && !before && fn->irq_raised)
		fire_message(fn);
}

int pci_irqs_init(struct pci_fn *fn)
{
	if (fn->desc->intx_pin)
		bus_irq_init(fn->bus->bus, &fn->intx,
			     pci_bus_gsi(fn->bus, fn->devfn, fn->desc->intx_pin));
	if (!fn->desc->msix.vectors)
		return 0;
	fn->msix = calloc(fn->desc->msix.vectors, sizeof(*fn->msix));
	if (!fn->msix)
		return -ENOMEM;
	pci_msix_reset(fn);
	return 0;
}

void pci_irqs_fini(struct pci_fn *fn)
{
	if (fn->desc->intx_pin && fn->intx.bus)
		bus_irq_set(&fn->intx, false);
	/* No message is on its way to a descriptor that goes away. */
	loop_io_flush(fn->dev.env.loop);
	for (unsigned int i = 0; fn->msix && i < fn->desc->msix.vectors; i++)
		if (fn->msix[i].allocated)
			bus_msi_free(fn->bus->bus, &fn->msix[i].msi);
	if (fn->msi_allocated)
		bus_msi_free(fn->bus->bus, &fn->msi);
	free(fn->msix);
	fn->msix = NULL;
}

void pci_irqs_reset(struct pci_fn *fn)
{
	fn->intx_level = fn->irq_raised = fn->msi_routed = false;
	pci_msix_reset(fn);
}
