/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_H
#define TESTS_BENCH_TB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "back/blk.h"
#include "dev/dev.h"
#include "loop/loop.h"
#include "pci/pci.h"
#include "util/macros.h"

/*
 * The device bench: a machine in one process without KVM. Memory, bus, PCI, devices and models are the real ones; the
 * test is the vCPU, and the bench stands where KVM stands: it keeps wires, messages, doorbells and slots, and counts.
 * RAM and slots win over registers and doorbells over handlers, as in KVM. Nothing runs unless the test steps it
 * (tb_run, tb_advance). Wrong use of the bench itself is an assertion.
 */
struct tb;

#define TB_RAM (16 * MIB) /* at 0 */
#define TB_HIGH_GPA (4 * GIB) /* the second region, with TB_HIGH */
#define TB_HIGH_RAM (1 * MIB)
#define TB_MMIO 0xc0000000ull /* BARs go here */
#define TB_PORTS 0x6000u

struct tb_opts {
	enum loop_engine
		engine; /* LOOP_AUTO (0) means LOOP_FAKE here; say LOOP_URING or LOOP_EPOLL for real ones */
	bool high_ram; /* a second region at TB_HIGH_GPA, and one that touches the first at TB_RAM */
	uint64_t disk_size; /* of disks opened without a path; 0: 8 MiB */
	bool faults; /* wrap every disk and every line in the fault engine */
	bool no_doorbells; /* doorbells cannot be registered: writes reach the handlers */
	bool no_slots; /* slots cannot be added */
	bool msi_fds; /* vectors have eventfds, as with KVM: then tb_irqs() counts nothing */
	bool screen; /* there is one, for a display */
};

/* opts may be NULL. */
struct tb *tb_new(const struct tb_opts *opts);
/* Pauses what runs (releasing held requests), frees the devices, then the machine. NULL is fine. */
void tb_free(struct tb *tb);

/*
 * Makes a device from "key=value" lines (NULL: none), on the next free PCI slot (device 1 onwards, function 0), and
 * starts it. NULL and err (may be NULL) set on failure.
 */
struct dev *tb_add(struct tb *tb, const struct dev_ops *ops, const char *conf, struct err *err);
/* The slot that the next tb_add uses. */
void tb_next_slot(struct tb *tb, uint8_t devfn);
struct tb *tb_of(const struct dev *d);

/* --- running --- */
/* Steps the loop until nothing is ready (on a real engine: until nothing came for 20 ms). Returns callbacks run. That
 * this never ends is a fault of the model: an assertion. */
int tb_run(struct tb *tb);
/* LOOP_FAKE: tb_run, moves the clock (every timer on the way runs at its time), tb_run. */
void tb_advance(struct tb *tb, uint64_t ns);
struct loop *tb_loop(struct tb *tb);
struct bus *tb_bus(struct tb *tb);
struct pci_bus *tb_pci(struct tb *tb);
const struct mem *tb_memory(struct tb *tb);

/* Asks every device to pause and runs; true once all have. Call again after releasing held requests. */
bool tb_pause(struct tb *tb);
void tb_resume(struct tb *tb);
/* A guest reboot: pause, reset of devices and bus, resume. False if a device does not pause. BARs must be placed anew. */
bool tb_reset(struct tb *tb);
/* Makes a bench whose devices are paused, with nothing in flight, as good as new, for less. Zeroed RAM and disks. */
void tb_renew(struct tb *tb);

/* --- guest memory --- */
/* Host pointer to RAM; asserts that it is. */
void *tb_mem(struct tb *tb, gpa_t gpa, uint64_t len);
/* Bump allocator from 1 MiB upwards, zeroed; align is a power of two. */
gpa_t tb_alloc(struct tb *tb, uint64_t size, uint64_t align);
/* The same with what is there: zeroes in a new bench. */
gpa_t tb_reserve(struct tb *tb, uint64_t size, uint64_t align);
/* Starts over; what was allocated may be handed out again. */
void tb_alloc_reset(struct tb *tb);

/* --- accesses of the vCPU; size 1, 2, 4, 8 --- */
uint64_t tb_read(struct tb *tb, uint64_t gpa, unsigned int size);
void tb_write(struct tb *tb, uint64_t gpa, unsigned int size, uint64_t value);
uint32_t tb_in(struct tb *tb, uint16_t port, unsigned int size);
void tb_out(struct tb *tb, uint16_t port, unsigned int size, uint32_t value);

/* --- PCI --- */
/* Config space through ports CF8/CFC (offsets below 256). */
uint32_t tb_cfg_read(struct dev *d, unsigned int offset, unsigned int size);
void tb_cfg_write(struct dev *d, unsigned int offset, unsigned int size, uint32_t value);
/* Offset of the n-th capability with this id (n from 0), or 0. */
unsigned int tb_cap(struct dev *d, uint8_t id, unsigned int n);
/* Sizes all BARs, places them at fresh addresses and sets COMMAND to memory, I/O and bus master. */
void tb_pci_enable(struct dev *d);
/* COMMAND.MASTER only. */
void tb_bus_master(struct dev *d, bool on);
/* Size found by sizing (0: no such BAR), and where the guest put it. */
uint64_t tb_bar_size(struct dev *d, unsigned int bar);
uint64_t tb_bar(struct dev *d, unsigned int bar);
/* Registers of a BAR, memory or I/O. */
uint8_t tb_r8(struct dev *d, unsigned int bar, uint64_t offset);
uint16_t tb_r16(struct dev *d, unsigned int bar, uint64_t offset);
uint32_t tb_r32(struct dev *d, unsigned int bar, uint64_t offset);
uint64_t tb_r64(struct dev *d, unsigned int bar, uint64_t offset);
void tb_w8(struct dev *d, unsigned int bar, uint64_t offset, uint8_t v);
void tb_w16(struct dev *d, unsigned int bar, uint64_t offset, uint16_t v);
void tb_w32(struct dev *d, unsigned int bar, uint64_t offset, uint32_t v);
void tb_w64(struct dev *d, unsigned int bar, uint64_t offset, uint64_t v);

/* Fills the MSI-X table so that tb_irqs can tell vectors apart, unmasks all, enables. Returns the vectors. */
unsigned int tb_msix_enable(struct dev *d);
void tb_msix_disable(struct dev *d);
/* Vector mask bit of one table entry; function mask. */
void tb_msix_mask(struct dev *d, unsigned int vector, bool masked);
void tb_msix_function_mask(struct dev *d, bool masked);
bool tb_msix_pending(struct dev *d, unsigned int vector);
/* The same for MSI. */
void tb_msi_enable(struct dev *d);

/* --- what the guest's interrupt controller saw --- */
/* Messages of a vector of this device since the last call. MSI counts as vector 0. */
unsigned int tb_irqs(struct dev *d, unsigned int vector);
/* Messages of any device with any data since the last call, and the newest one. */
unsigned int tb_msis(struct tb *tb);
/* The host has no memory for a vector's new place. */
void tb_refuse_routes(struct tb *tb, bool refuse);
void tb_last_msi(struct tb *tb, uint64_t *addr, uint32_t *data);
/* Level of the device's INTx wire, and of any wire; how often a wire rose since the last call. */
bool tb_intx(struct dev *d);
bool tb_wire(struct tb *tb, unsigned int gsi);
unsigned int tb_rises(struct tb *tb, unsigned int gsi);

/* --- what reached the host --- */
/* Requests of a kind (BUS_RESET, BUS_POWEROFF) since the last call. */
unsigned int tb_requests(struct tb *tb, enum bus_request what);
/* Doorbells and slots that exist now. The n-th slot, or NULL. */
unsigned int tb_doorbells(struct tb *tb);
unsigned int tb_slots(struct tb *tb);
const struct bus_slot *tb_slot(struct tb *tb, unsigned int n);

/* --- back ends, in the order in which models opened them --- */
/* NULL: none. With faults: the fault engine, for blk_fault_*. */
struct blk *tb_disk(struct tb *tb, unsigned int n);
struct chr *tb_chr(struct tb *tb, unsigned int n);
struct input *tb_input(struct tb *tb);
struct screen *tb_screen(struct tb *tb);
/* With faults: the n-th disk fails or holds as told; f NULL: behaves again, releases what it held and tries again what it kept. */
void tb_fault(struct tb *tb, unsigned int n, const struct blk_fault *f);
/*
 * Lines: every net that a model opens is one end of a pair, with the queues of its settings; the test holds the other
 * end, which takes all offloads. With backend=none it is not connected and has no peer.
 */
/* NULL: none. With faults: the fault engine. */
struct net *tb_net(struct tb *tb, unsigned int n);
struct net *tb_net_peer(struct tb *tb, unsigned int n);
/* Pulls the cable or puts it back, and runs. */
void tb_net_link(struct tb *tb, unsigned int n, bool up);
/* As tb_fault. */
void tb_net_fault(struct tb *tb, unsigned int n, const struct net_fault *f);
/* Sends a frame (Ethernet header first) to the device and runs. 0 or what the line said (-ENOBUFS, -ENETDOWN ...). */
int tb_net_put(struct tb *tb, unsigned int n, const void *frame, size_t len);
/* The same to queue pair q, with a header (NULL: zeroes), without waiting for the device. */
int tb_net_queue(struct tb *tb, unsigned int n, unsigned int q, const struct net_hdr *hdr,
		 const void *frame, size_t len);
/* Runs and takes the next frame that came out of any queue pair: its length (without header; hdr may be NULL), or -EAGAIN. */
int tb_net_next(struct tb *tb, unsigned int n, struct net_hdr *hdr, void *buf, size_t size);
/* The same for queue pair q of the outside, without running the device. */
int tb_net_take(struct tb *tb, unsigned int n, unsigned int q, struct net_hdr *hdr, void *buf,
		size_t size);
/* Of the model's line: tx is what the guest sent. */
struct net_stats tb_net_stats(struct tb *tb, unsigned int n);

/* The model is going to close its n-th disk: the bench is not to look at it any more. */
void tb_forget_disk(struct tb *tb, unsigned int n);
/* How often a disk's trouble began or ended since the last call (blk_trouble_get tells which). */
unsigned int tb_troubles(struct tb *tb);

/* Completes everything held, in order, until nothing is. */
void tb_release_all(struct tb *tb);
/* True if every request that any disk or line accepted has completed. */
bool tb_balanced(struct tb *tb);

#endif
