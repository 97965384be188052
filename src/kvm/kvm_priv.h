/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef KVM_KVM_PRIV_H
#define KVM_KVM_PRIV_H

#include <asm/kvm_para.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/ioctl.h>

#include "kvm/kvm.h"

#define KVM_SLOTS 64
#define KVM_GSIS_MAX 1024
/* A wire has up to two routes (PIC and I/O APIC), a message one. */
#define KVM_ROUTES_MAX (KVM_GSIS_MAX + BUS_GSIS)
#define KVM_MSRS_MAX 512
#define KVM_CPUID_MAX 256

struct kvm_vcpu_state;

/* KVM_CREATE_VM, which any signal interrupts. Returns the descriptor or -errno. */
int kvm_create_vm(int dev_fd);

struct kvm_vcpu {
	struct kvm *kvm;
	unsigned int index;
	uint32_t apic_id;
	int fd, stats_fd;
	struct kvm_run *run;
	pthread_t thread;
	bool thread_made;
	bool parked; /* under kvm->lock */
	bool stuck; /* stopped by an exit it cannot resume from: only a reset helps */
	struct kvm_vcpu_state *initial;
	uint64_t user_io, user_mmio, user_other;
};

/* What the run loop obeys; changed under kvm->lock only. */
enum kvm_wish { KVM_WISH_PARK, KVM_WISH_RUN, KVM_WISH_QUIT };

struct kvm {
	int dev_fd, vm_fd;
	size_t run_size;
	struct kvm_config cfg;
	struct kvm_events events;
	struct bus *bus;
	unsigned int phys_bits;
	unsigned int ncpus;
	struct kvm_vcpu *cpus;
	uint64_t first_run_ns;

	pthread_mutex_t lock; /* wish, parked */
	pthread_cond_t changed;
	enum kvm_wish wish;

	pthread_mutex_t slot_lock;
	uint64_t slots_used; /* bitmap */

	pthread_mutex_t route_lock;
	struct kvm_irq_routing *routes; /* room for KVM_ROUTES_MAX entries */
	uint8_t gsi_used[KVM_GSIS_MAX];

	struct kvm_irqchip irqchips[3]; /* power-on state of PIC master, PIC slave, I/O APIC */
	struct kvm_pit_state2 pit;
};

/* vcpu.c */
int kvm_vcpu_make(struct kvm *k, unsigned int index, struct err *err);
int kvm_vcpu_spawn(struct kvm_vcpu *v, struct err *err);
void kvm_vcpu_destroy(struct kvm_vcpu *v);
/* Makes a vCPU that is in the guest, or about to enter it, look at kvm->wish. */
void kvm_vcpu_kick(struct kvm_vcpu *v);

/* exit.c: one KVM exit as bus accesses. */
void kvm_exit_io(struct bus *bus, const struct kvm_run *run, void *data);
void kvm_exit_mmio(struct bus *bus, struct kvm_run *run);

/* cpuid.c */
int kvm_cpuid_set(struct kvm_vcpu *v, struct err *err);
/* Edits a table of KVM's supported leaves for one vCPU. */
void kvm_cpuid_edit(struct kvm_cpuid2 *c, const struct kvm *k, uint32_t apic_id,
		    unsigned int tsc_khz);
uint32_t kvm_cpuid_apic_id(const struct kvm_config *cfg, unsigned int index);
/* min(host, limit), more if RAM needs it. */
unsigned int kvm_cpuid_phys_bits(const struct kvm_cpuid2 *host, const struct kvm_config *cfg);
int kvm_cpuid_supported(int dev_fd, struct kvm_cpuid2 **out);

/* state.c */
int kvm_state_save(struct kvm_vcpu *v, struct err *err);
int kvm_state_restore(struct kvm_vcpu *v, struct err *err);
void kvm_state_free(struct kvm_vcpu *v);
int kvm_chips_save(struct kvm *k, struct err *err);
int kvm_chips_restore(struct kvm *k, struct err *err);

/* irq.c */
int kvm_routes_init(struct kvm *k, struct err *err);
int kvm_msi_new(void *arg, struct bus_msi *m);
void kvm_msi_free(void *arg, struct bus_msi *m);
int kvm_msi_update(void *arg, struct bus_msi *m);
void kvm_msi_fire(void *arg, struct bus_msi *m);
void kvm_irq_set(void *arg, unsigned int gsi, bool level);

/* slot.c */
int kvm_slot_add(void *arg, struct bus_slot *s);
void kvm_slot_del(void *arg, struct bus_slot *s);
int kvm_slot_dirty(void *arg, struct bus_slot *s, uint64_t *bitmap);
int kvm_doorbell_add(void *arg, struct bus_doorbell *d);
void kvm_doorbell_del(void *arg, struct bus_doorbell *d);

/* stats.c: one counter of KVM's binary statistics by name; 0 if the kernel has none. */
uint64_t kvm_stats_read(int stats_fd, const char *name);

#endif
