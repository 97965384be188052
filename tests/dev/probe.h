/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_DEV_PROBE_H
#define TESTS_DEV_PROBE_H

#include "pci/pci.h"

/*
 * Two models that exist only for tests of the PCI core. "probe" has one of everything: a 64-bit BAR with registers,
 * MSI-X and a doorbell, an I/O BAR, a BAR with host memory. "msi" has nothing but MSI.
 */
#define PROBE_VECTORS 5
#define PROBE_BAR_REGS 0 /* registers, MSI-X at 4096 */
#define PROBE_BAR_IO 2
#define PROBE_BAR_MEM 3
#define PROBE_PBA 0x1800u

/* Registers, 4 bytes each. */
#define PROBE_REG 0x10 /* readable and writable */
#define PROBE_FIRE 0x20 /* fires this MSI-X vector */
#define PROBE_LEVEL 0x24 /* 1: pci_irq_raise, 0: pci_irq_lower */
#define PROBE_DMA 0x28 /* writes REG to this address */
#define PROBE_BELL 0x40 /* the doorbell, or a counter of writes */

struct probe {
	struct pci_fn fn;
	uint32_t reg;
	unsigned int bell_writes, config_writes, io_writes;
	uint64_t moved_to[PCI_BARS];
	unsigned int moves;
	struct pci_doorbell bell;
	struct dev_event kick;
	unsigned int kicks;
	struct bus_slot slot;
	char memory[8192];
};

struct probe *probe_of(struct dev *d);
extern const struct dev_ops probe_ops, probe_msi_ops;

#endif
