/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_PRIV_H
#define TESTS_BENCH_TB_PRIV_H

#include <pthread.h>

#include "back/input.h"
#include "bench/tb.h"

#define TB_MAX_DEVS 31
#define TB_MAX_DISKS 32
#define TB_MAX_NETS 16
#define TB_MAX_BELLS 512
#define TB_MAX_SLOTS 16
#define TB_MSI_ADDR 0xfee00000u

struct tb_dev {
	struct dev *dev; /* NULL: free */
	char name[32];
	struct pci_slot slot;
	uint64_t bar_size[PCI_BARS], bar_addr[PCI_BARS];
	unsigned int irqs[PCI_MSIX_MAX];
};

struct tb_slot {
	struct bus_slot *slot; /* NULL: free */
	uint64_t *dirty;
};

struct tb_line {
	struct net *line; /* the model's, which closes it */
	struct net *peer; /* the outside's; NULL: not connected */
	struct net *cable; /* the model's end of the pair, below the fault engine */
};

/* What stands in for KVM. */
struct tb_host {
	pthread_mutex_t lock; /* hooks come from any thread */
	bool wires[BUS_GSIS];
	unsigned int rises[BUS_GSIS];
	unsigned int msis, requests[2];
	bool refuse_routes;
	uint64_t last_addr;
	uint32_t last_data;
	struct bus_doorbell *bells[TB_MAX_BELLS];
	unsigned int nbells;
	struct tb_slot slots[TB_MAX_SLOTS];
};

struct tb {
	struct tb_opts opts;
	struct loop *loop;
	struct bus *bus;
	struct pci_bus *pci;
	struct mem *mem;
	struct input input;
	struct screen *screen;
	struct tb_dev devs[TB_MAX_DEVS];
	unsigned int ndevs;
	uint8_t next_slot;
	gpa_t next_gpa;
	uint64_t next_mmio, next_port;
	struct blk *disks[TB_MAX_DISKS];
	struct chr *chrs[TB_MAX_DISKS];
	uint64_t written[TB_MAX_DISKS]; /* bytes that each disk had taken when it was zero */
	unsigned int ndisks, nchrs, troubles;
	struct tb_line nets[TB_MAX_NETS];
	unsigned int nnets;
	struct tb_host host;
};

struct tb_dev *tb_dev_of(const struct dev *d);
/* tb_net.c: what models open; closes the outside ends of all but the first keep. */
struct net *tb_net_open(struct tb *tb, const struct net_spec *spec, struct err *err);
void tb_net_drop(struct tb *tb, unsigned int keep);
/* Puts the cable in, and throws away what is on its way. */
void tb_net_clear(struct tb *tb, unsigned int n);
/* tb_host.c */
extern const struct bus_host_ops tb_host_ops;
/* Forgets what was counted. */
void tb_host_clear(struct tb_host *h);

#endif
