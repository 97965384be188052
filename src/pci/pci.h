/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef PCI_PCI_H
#define PCI_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dev/dev.h"
#include "mem/dma.h"

struct pci_bus;
struct pci_fn;
struct reg_table;

#define PCI_BARS 6
#define PCI_CFG_SIZE 256 /* conventional space, backed by cfg[] */
#define PCI_CFG_EXT_SIZE 4096 /* reads beyond PCI_CFG_SIZE are zero */
#define PCI_MSIX_MAX 64

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar_desc {
	enum pci_bar_kind kind;
	bool prefetch;
	uint64_t size; /* power of two, >= 16 (io >= 4) */
	/*
	 * Handlers: a register table or functions, as struct dev_region. None: the model maps host memory there from
	 * bar_moved, or there is nothing but MSI-X.
	 */
	const struct reg_table *regs;
	uint64_t (*read)(struct dev *d, uint64_t offset, unsigned int size);
	void (*write)(struct dev *d, uint64_t offset, unsigned int size, uint64_t value);
};

/* A capability with fixed contents: id and next are filled in by the core, data starts behind them. */
struct pci_cap {
	uint8_t id;
	uint8_t len; /* of data */
	const uint8_t *data;
	const uint8_t *wmask; /* writable bits of data, or NULL: read-only */
};

/* What a function is, as data. The core writes config space, decodes BARs and builds capabilities from it. */
struct pci_desc {
	uint16_t vendor, device, subvendor, subdevice;
	uint32_t class_code; /* class << 16 | subclass << 8 | interface */
	uint8_t revision;
	uint8_t intx_pin; /* 0 none, 1..4 = INTA..INTD */
	struct pci_bar_desc
		bars[PCI_BARS]; /* a MEM64 one takes the next entry too: leave it NONE */
	struct {
		uint16_t vectors; /* 0: no MSI-X */
		uint8_t bar; /* that holds table and PBA; the core claims from one to the other's end */
		uint32_t table,
			pba; /* offsets: the table at a multiple of 4096, the PBA behind it */
	} msix;
	bool msi; /* one vector, 64-bit, no masking; used when MSI-X is absent */
	bool express; /* PCI Express capability of an integrated endpoint */
	const struct pci_cap *caps;
	size_t ncaps;
	/* After the core took a config write of [offset, offset + size); for chipset registers. May be NULL. */
	void (*config_written)(struct pci_fn *fn, unsigned int offset, unsigned int size);
	/* Before the core answers a config read of it, for windows (virtio 1.2 s4.1.4.9). May be NULL. */
	void (*config_reading)(struct pci_fn *fn, unsigned int offset, unsigned int size);
	/* After the guest wrote to the MSI-X table. May be NULL. Lock held. */
	void (*msix_changed)(struct pci_fn *fn);
	/*
	 * Function level reset (PCI Express 3.0 s6.6.2): config space, BARs and interrupts are as after power-on
	 * already, and bus master is off. Says pci_flr_done() once nothing is in flight; until then config space reads
	 * as all ones. Any thread, lock held. NULL: not offered.
	 */
	void (*flr)(struct pci_fn *fn);
	/* BAR bar was mapped at addr, or unmapped (addr == UINT64_MAX). May be NULL. Lock held. */
	void (*bar_moved)(struct pci_fn *fn, unsigned int bar, uint64_t addr);
};

struct pci_bar {
	struct dev_region region;
	uint64_t addr; /* UINT64_MAX: not decoded */
};

struct pci_msix_vector {
	struct bus_msi msi;
	uint32_t addr_lo, addr_hi, data, ctrl; /* table entry as the guest wrote it */
	bool allocated, routed, pending;
};

/* The first member of every PCI model's instance; struct dev is its first member. */
struct pci_fn {
	struct dev dev;
	const struct pci_desc *desc;
	struct pci_bus *bus;
	uint8_t devfn; /* device << 3 | function */
	struct dma dma;
	uint8_t cfg[PCI_CFG_SIZE], wmask[PCI_CFG_SIZE], w1c[PCI_CFG_SIZE];
	struct pci_bar bars[PCI_BARS];
	uint8_t cap_msix, cap_msi, cap_exp; /* offsets, 0: absent */
	uint8_t reset_cfg[PCI_CFG_SIZE]; /* power-on values of what can be written */
	struct list doorbells;
	struct pci_msix_vector *msix;
	struct bus_msi msi;
	bool msi_allocated, msi_routed;
	struct bus_irq intx;
	bool intx_level; /* as the model wants it, before INTx disable */
	bool irq_raised; /* between pci_irq_raise and pci_irq_lower */
	bool in_flr; /* between flr and pci_flr_done */
	bool messages; /* MSI-X or MSI was enabled when last looked at */
};

/*
 * Puts the function on env.slot and into its power-on state. desc must outlive the function. Called first in a
 * model's init; pci_fn_fini last in its fini (accepts one never initialised), pci_fn_reset in its reset: BARs and
 * doorbells are unmapped, masks and routes forgotten, writable registers get their reset values.
 *
 * A BAR decodes while COMMAND allows it and its address makes sense: not 0, not the pattern of sizing, not beyond
 * 2^52 (memory) or 64 KiB (I/O). The guest may put it over RAM, which then stays in front of it, as under KVM.
 */
int pci_fn_init(struct pci_fn *fn, const struct pci_desc *desc, struct err *err);
void pci_fn_fini(struct pci_fn *fn);
void pci_fn_reset(struct pci_fn *fn);
/* The answer to flr. Lock held. */
void pci_flr_done(struct pci_fn *fn);

static inline struct pci_fn *pci_fn_of(struct dev *d)
{
	return container_of(d, struct pci_fn, dev);
}

/*
 * Interrupts. Lock held. msix_fire: vector out of range or masked is handled (pending bit), MSI-X disabled: nothing.
 * A message waits while bus master is off. pci_irq_* choose what the guest enabled: MSI-X vector 0, MSI, or the INTx
 * wire (level kept until lowered); if the guest changes that while raised, the new way tells it once more.
 */
void pci_msix_fire(struct pci_fn *fn, unsigned int vector);
bool pci_msix_enabled(const struct pci_fn *fn);
/*
 * For others than us (vhost): an eventfd that is as good as pci_msix_fire(), until something of the vector, of MSI-X or
 * of bus master changes (config_written, msix_changed). -1: there is none now.
 */
int pci_msix_fd(struct pci_fn *fn, unsigned int vector);
void pci_intx_set(struct pci_fn *fn, bool level);
void pci_irq_raise(struct pci_fn *fn);
void pci_irq_lower(struct pci_fn *fn);

/* Config space as the model sees it, for registers of its own (written after pci_fn_init). */
static inline uint8_t *pci_cfg(struct pci_fn *fn, unsigned int offset)
{
	return &fn->cfg[offset];
}
/* Declares a writable register: reset value, writable bits, write-1-to-clear bits. width 1, 2 or 4. */
void pci_cfg_reg(struct pci_fn *fn, unsigned int offset, unsigned int width, uint32_t value,
		 uint32_t wmask, uint32_t w1c);

/* A doorbell that follows a BAR: offset inside the BAR. */
struct pci_doorbell {
	struct bus_doorbell bell;
	unsigned int bar;
	uint64_t offset;
	bool wanted;
	struct list link;
};
/*
 * Registers now if the BAR is mapped, and again whenever it moves. The caller owns b, with bell.size, match, value and
 * fd set. 0, or the host's -errno: then b is not kept. When the host refuses after a move, writes reach the handlers.
 */
int pci_doorbell_add(struct pci_fn *fn, struct pci_doorbell *b);
void pci_doorbell_del(struct pci_fn *fn, struct pci_doorbell *b);

/* --- the bus and its host bridge --- */
struct pci_slot {
	struct pci_bus *bus;
	uint8_t devfn;
};

/* Bus 0 behind ports CF8/CFC. gsi_base: INTx of device d pin p goes to gsi_base + (d + p - 1) % 4. */
struct pci_bus *pci_bus_new(struct bus *bus, unsigned int gsi_base);
void pci_bus_free(struct pci_bus *b);
/* NULL if absent. */
struct pci_fn *pci_bus_find(const struct pci_bus *b, uint8_t devfn);
unsigned int pci_bus_gsi(const struct pci_bus *b, uint8_t devfn, uint8_t pin);

/* Maps the 256 MiB ECAM window at base (whole buses 0-255; only bus 0 answers), or unmaps it with UINT64_MAX. */
int pci_bus_set_ecam(struct pci_bus *b, uint64_t base);
/* Where the guest put it, or UINT64_MAX. */
uint64_t pci_bus_ecam(const struct pci_bus *b);
/* CF8 latch to its power-on state. */
void pci_bus_reset(struct pci_bus *b);

/* Config access as the guest does it; bounds and absent functions handled. size 1, 2, 4; offset < 4096. */
uint32_t pci_bus_cfg_read(struct pci_bus *b, uint8_t busno, uint8_t devfn, unsigned int offset,
			  unsigned int size);
void pci_bus_cfg_write(struct pci_bus *b, uint8_t busno, uint8_t devfn, unsigned int offset,
		       unsigned int size, uint32_t value);

/* Calls fn for each function in ascending order. */
void pci_bus_each(struct pci_bus *b, void (*fn)(void *arg, struct pci_fn *f), void *arg);

#endif
