/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BUS_BUS_H
#define BUS_BUS_H

#include <stdbool.h>
#include <stdint.h>

#include "util/macros.h"

struct loop;

/*
 * The two address spaces of a machine, its interrupt wires, and the hooks through which they reach whatever runs
 * the guest (KVM, or the bench). Knows nothing of devices: a region is an opaque handler. Lookups take no lock: the
 * map is a sorted snapshot behind a sequence counter. Changing it takes a mutex. Regions live as long as the bus user
 * wants, but their storage, ops and arg must stay as they are until bus_free(): a vCPU may still be inside a handler
 * just unmapped.
 */
struct bus;

enum bus_kind { BUS_PORT, BUS_MEM };

#define BUS_MAX_REGIONS 512 /* per space */

struct bus_region_ops {
	/*
	 * size is 1, 2, 4 or 8; [offset, offset + size) lies inside the region. Any vCPU thread. What read() returns
	 * above size is cut off.
	 */
	uint64_t (*read)(void *arg, uint64_t offset, unsigned int size);
	void (*write)(void *arg, uint64_t offset, unsigned int size, uint64_t value);
};

struct bus_region {
	const struct bus_region_ops *ops;
	void *arg;
	uint64_t len;
	int priority; /* the higher one wins where regions overlap, then the one mapped first */
	enum bus_kind kind; /* the rest belongs to the bus */
	uint64_t base;
	bool mapped;
};

/* A guest address whose writes signal an eventfd without leaving the kernel (KVM_IOEVENTFD). */
struct bus_doorbell {
	enum bus_kind kind;
	uint64_t addr;
	unsigned int size; /* 1, 2, 4, 8, or 0 for any width */
	bool match; /* only writes of this value */
	uint64_t value;
	int fd;
	bool active;
};

/* Host memory mapped straight into the guest: the frame buffer, flash. */
struct bus_slot {
	uint64_t gpa, len;
	void *host;
	bool read_only; /* guest writes reach the region mapped at the same place */
	bool log_dirty;
	bool active; /* the rest belongs to the host */
	int id;
};

/* One MSI or MSI-X vector's way into the guest. */
struct bus_msi {
	uint64_t addr;
	uint32_t data;
	int fd; /* fire by writing this eventfd; -1: through the hook */
	int gsi; /* route number, -1: none */
	uint64_t fired;
};

/* What a device asks of the whole machine. */
enum bus_request { BUS_RESET, BUS_POWEROFF };

/* Implemented by kvm and by the test bench. Unless noted, any thread; none may call back into a device. */
struct bus_host_ops {
	void (*irq_set)(void *arg, unsigned int gsi, bool level);
	int (*msi_new)(void *arg, struct bus_msi *m);
	void (*msi_free)(void *arg, struct bus_msi *m);
	/* addr and data of m changed. On failure nothing did, and it may be tried again. */
	int (*msi_update)(void *arg, struct bus_msi *m);
	void (*msi_fire)(void *arg, struct bus_msi *m);
	int (*slot_add)(void *arg, struct bus_slot *s);
	void (*slot_del)(void *arg, struct bus_slot *s);
	/* Fetches and clears the dirty bitmap, one bit per 4 KiB page, len / 4096 bits rounded up to 64. */
	int (*slot_dirty)(void *arg, struct bus_slot *s, uint64_t *bitmap);
	int (*doorbell_add)(void *arg, struct bus_doorbell *d);
	void (*doorbell_del)(void *arg, struct bus_doorbell *d);
	/* Returns at once; the machine acts on its own thread. */
	void (*request)(void *arg, enum bus_request what);
};

struct bus *bus_new(const struct bus_host_ops *ops, void *arg);
void bus_free(struct bus *b);

/*
 * Maps r (ops, arg, len, priority set by the caller) at base. -ENOSPC when the map is full, -EINVAL when it is empty
 * or leaves the space. Any thread.
 */
int bus_map(struct bus *b, struct bus_region *r, enum bus_kind kind, uint64_t base);
void bus_unmap(struct bus *b, struct bus_region *r);

/*
 * Accesses from a vCPU (or a test). The region that owns the first byte takes the access if all of it fits in there,
 * even where a higher one covers later bytes (port CF9 inside the dword at CF8). Else it is split into bytes.
 * Unclaimed reads are all ones, unclaimed writes vanish. size 1, 2, 4 or 8.
 */
uint64_t bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned int size);
void bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned int size, uint64_t value);

/* --- interrupt wires: level, shared; the wire is high while any source is --- */
#define BUS_GSIS 24

struct bus_irq {
	struct bus *bus;
	unsigned int gsi; /* 0..BUS_GSIS-1 */
	bool level; /* this source's own level; serialised by the device's lock */
};

void bus_irq_init(struct bus *b, struct bus_irq *irq, unsigned int gsi);
void bus_irq_set(struct bus_irq *irq, bool level);
/* A short pulse for edge-triggered ISA interrupts. */
void bus_irq_pulse(struct bus_irq *irq);

/* --- pass-through to the host's hooks --- */
int bus_msi_new(struct bus *b, struct bus_msi *m);
void bus_msi_free(struct bus *b, struct bus_msi *m);
int bus_msi_update(struct bus *b, struct bus_msi *m, uint64_t addr, uint32_t data);
/* l: the loop on whose thread this is, with whose next system call the message may go. NULL: at once. */
void bus_msi_fire(struct bus *b, struct bus_msi *m, struct loop *l);
int bus_slot_add(struct bus *b, struct bus_slot *s);
void bus_slot_del(struct bus *b, struct bus_slot *s);
int bus_slot_dirty(struct bus *b, struct bus_slot *s, uint64_t *bitmap);
int bus_doorbell_add(struct bus *b, struct bus_doorbell *d);
void bus_doorbell_del(struct bus *b, struct bus_doorbell *d);
void bus_request(struct bus *b, enum bus_request what);

#endif
