/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef KVM_KVM_H
#define KVM_KVM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bus/bus.h"
#include "mem/mem.h"

struct err;

/*
 * A virtual machine on /dev/kvm: the only module with KVM ioctls. It implements the hooks of struct bus with irqfd,
 * ioeventfd and memory slots, and runs one thread per vCPU. All functions are for the main thread unless noted.
 */
struct kvm;

#define KVM_MAX_CPUS 64

struct kvm_config {
	unsigned int sockets, cores, threads; /* product = vCPUs, 1..KVM_MAX_CPUS */
	unsigned int phys_bits; /* upper limit of guest-physical address width; 0: the host's */
	uint64_t top; /* first address above RAM: phys_bits grows if it must */
	bool strict_msr; /* unknown MSRs fault; else they read 0 and ignore writes */
};

/* Why the vCPUs stopped by themselves. */
enum kvm_stop {
	KVM_STOP_TRIPLE_FAULT,
	KVM_STOP_ERROR, /* KVM cannot go on: text says why */
};

/* Called on a vCPU thread, which then parks. */
struct kvm_events {
	void (*stopped)(void *arg, enum kvm_stop why, const char *text);
	void (*request)(void *arg, enum bus_request what); /* from a device, any thread */
	void *arg;
};

/* What cannot work on this host, said for a person: no /dev/kvm, no permission, old kernel. 0 or -errno. */
int kvm_check(struct err *err);
/*
 * -ENOTSUP if this KVM cannot execute firmware: the processor offers no VT-x or AMD-V and a probe guest that
 * initialises the FPU fails in the instruction emulator.
 */
int kvm_check_firmware(struct err *err);

int kvm_new(const struct kvm_config *cfg, const struct kvm_events *events, struct kvm **out,
	    struct err *err);
/* The vCPUs are stopped and joined first. NULL is fine. */
void kvm_free(struct kvm *k);

/* The hooks for bus_new(&kvm_bus_ops, kvm). */
extern const struct bus_host_ops kvm_bus_ops;

/* Creates memory slots for all RAM and the vCPU threads, parked. */
int kvm_start(struct kvm *k, struct bus *bus, const struct mem *mem, struct err *err);

/* Lets the vCPUs run. */
void kvm_run(struct kvm *k);
/* Returns when every vCPU is parked outside the guest with no half-done access. No device lock may be held. */
void kvm_pause(struct kvm *k);
/* Power-on state of vCPUs, local APICs, I/O APIC, PICs and PIT; memory is kept. Only while paused. */
int kvm_reset(struct kvm *k, struct err *err);

/* Entry state of a directly booted kernel: 64-bit long mode with flat segments. */
struct kvm_entry64 {
	uint64_t rip, rsp, rsi, cr3;
	uint64_t gdt_base;
	uint16_t gdt_limit, cs, ds;
};
/* Sets the boot CPU's registers. Only while paused, before kvm_run. */
int kvm_set_entry64(struct kvm *k, const struct kvm_entry64 *e, struct err *err);

unsigned int kvm_cpus(const struct kvm *k);
/* Local APIC id of vCPU index. */
uint32_t kvm_apic_id(const struct kvm *k, unsigned int index);
/* Width of guest-physical addresses in bits. */
unsigned int kvm_phys_bits(const struct kvm *k);

/* Counters since the start, summed over vCPUs. */
struct kvm_stats {
	uint64_t user_io, user_mmio, user_other; /* exits that reached this process */
	uint64_t exits; /* all exits as KVM counts them, 0 if unknown */
	uint64_t first_run_ns; /* clock when the boot CPU first entered the guest, 0: not yet */
};
void kvm_stats_get(struct kvm *k, struct kvm_stats *out);

#endif
