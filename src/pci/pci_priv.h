/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef PCI_PCI_PRIV_H
#define PCI_PCI_PRIV_H

#include "pci/pci.h"

/* Header type 0 registers (PCI 3.0 s6.1). */
#define CFG_VENDOR 0x00u
#define CFG_DEVICE 0x02u
#define CFG_COMMAND 0x04u
#define CFG_STATUS 0x06u
#define CFG_REVISION 0x08u
#define CFG_CLASS 0x09u
#define CFG_CACHE_LINE 0x0cu
#define CFG_HEADER_TYPE 0x0eu
#define CFG_BAR0 0x10u
#define CFG_SUBVENDOR 0x2cu
#define CFG_SUBDEVICE 0x2eu
#define CFG_CAPS 0x34u
#define CFG_INT_LINE 0x3cu
#define CFG_INT_PIN 0x3du
#define CFG_FIRST_CAP 0x40u

#define CMD_IO 0x0001u
#define CMD_MEM 0x0002u
#define CMD_MASTER 0x0004u
#define CMD_PARITY 0x0040u
#define CMD_SERR 0x0100u
#define CMD_INTX_OFF 0x0400u
#define STATUS_INTX 0x0008u
#define STATUS_CAPS 0x0010u
#define STATUS_W1C 0xf900u
#define HEADER_MULTI 0x80u

#define CAP_MSI 0x05u
#define CAP_EXPRESS 0x10u
#define CAP_MSIX 0x11u

struct pci_bus {
	struct bus *bus;
	unsigned int gsi_base;
	struct bus_region address, data, ecam; /* CF8, CFC, PCIEXBAR */
	uint32_t cf8; /* atomic: the guest's own lock guards it, or does not */
	uint64_t ecam_base; /* atomic */
	struct pci_fn *fns[256]; /* by devfn; fixed while vCPUs run */
};

static inline uint16_t pci_command(const struct pci_fn *fn)
{
	return (uint16_t)(fn->cfg[CFG_COMMAND] | fn->cfg[CFG_COMMAND + 1] << 8);
}

/* One config access of a function that exists; takes its lock. [offset, offset + size) is inside 4096. */
uint32_t pci_fn_cfg_read(struct pci_fn *fn, unsigned int offset, unsigned int size);
void pci_fn_cfg_write(struct pci_fn *fn, unsigned int offset, unsigned int size, uint32_t value);

/* caps.c: writes the capability list of desc into config space. */
void pci_caps_build(struct pci_fn *fn);

/* bar.c */
void pci_bars_init(struct pci_fn *fn);
/* Maps and unmaps what COMMAND and the BARs now say. */
void pci_bars_update(struct pci_fn *fn);
void pci_bars_unmap(struct pci_fn *fn);

/* irq.c */
int pci_irqs_init(struct pci_fn *fn);
void pci_irqs_fini(struct pci_fn *fn);
void pci_irqs_reset(struct pci_fn *fn);
/* Config space changed: delivers what waited and moves the wire. */
void pci_irqs_update(struct pci_fn *fn);

/* msix.c: accesses to the BAR that holds the table. */
uint64_t pci_msix_bar_read(struct dev *d, uint64_t offset, unsigned int size);
void pci_msix_bar_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value);
void pci_msix_reset(struct pci_fn *fn);
/* Fires what is pending and may be fired now. */
void pci_msix_flush(struct pci_fn *fn);
/* A message must be for a local APIC (SDM 3A s11.11.1): a device never writes to other memory this way. */
bool pci_msi_addr_ok(struct pci_fn *fn, uint64_t addr);
/* The loop with whose next system call a message may go: that of the thread that holds the lock, if it is the loop's. */
static inline struct loop *pci_msg_loop(const struct pci_fn *fn)
{
	return fn->dev.on_loop ? fn->dev.env.loop : NULL;
}

#endif
