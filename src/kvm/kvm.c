/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"
#include "util/fd.h"

/* Pages that KVM needs on some processors, away from flash, I/O APIC and local APIC. */
#define IDENTITY_MAP_ADDR 0xfeffc000ull
#define TSS_ADDR 0xfeffd000ul

static void host_request(void *arg, enum bus_request what)
{
	struct kvm *k = arg;

	k->events.request(k->events.arg, what);
}

const struct bus_host_ops kvm_bus_ops = {
	.irq_set = kvm_irq_set,
	.msi_new = kvm_msi_new,
	.msi_free = kvm_msi_free,
	.msi_update = kvm_msi_update,
	.msi_fire = kvm_msi_fire,
	.slot_add = kvm_slot_add,
	.slot_del = kvm_slot_del,
	.slot_dirty = kvm_slot_dirty,
	.doorbell_add = kvm_doorbell_add,
	.doorbell_del = kvm_doorbell_del,
	.request = host_request,
};

static int enable_caps(struct kvm *k, struct err *err)
{
	struct kvm_enable_cap msr = { .cap = KVM_CAP_X86_USER_SPACE_MSR,
				      .args[0] = KVM_MSR_EXIT_REASON_UNKNOWN };

	if (ioctl(k->vm_fd, KVM_ENABLE_CAP, &msr) < 0)
		return err_set(
			err, -errno,
			"this kernel's KVM cannot report unknown MSRs (Linux 5.10 or newer can): %s",
			strerror(errno));
	return 0;
}

int kvm_create_vm(int dev_fd)
{
	int fd;

	do
		fd = ioctl(dev_fd, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int create_vm(struct kvm *k, struct err *err)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	uint64_t identity = IDENTITY_MAP_ADDR;
	int r;

	r = kvm_create_vm(k->dev_fd);
	if (r < 0)
		return err_set(err, r, "cannot create a virtual machine: %s", strerror(-r));
	k->vm_fd = r;
	if (ioctl(k->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
	    ioctl(k->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR) < 0)
		return err_set(err, -errno, "cannot place KVM's own pages: %s", strerror(errno));
	r = enable_caps(k, err);
	if (r < 0)
		return r;
	if (ioctl(k->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_set(err, -errno, "cannot create the interrupt controllers: %s",
			       strerror(errno));
	if (ioctl(k->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_set(err, -errno, "cannot create the timer: %s", strerror(errno));
	r = kvm_routes_init(k, err);
	return r < 0 ? r : kvm_chips_save(k, err);
}

static int create_cpus(struct kvm *k, struct err *err)
{
	int size = ioctl(k->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	if (size < 0)
		return err_set(err, -errno, "cannot size the vCPU state: %s", strerror(errno));
	k->run_size = (size_t)size;
	k->cpus = calloc(k->cfg.sockets * k->cfg.cores * k->cfg.threads, sizeof(*k->cpus));
	if (!k->cpus)
		return err_set(err, -ENOMEM, "out of memory");
	while (k->ncpus < k->cfg.sockets * k->cfg.cores * k->cfg.threads) {
		struct kvm_vcpu *v = &k->cpus[k->ncpus++];
		int r = kvm_vcpu_make(k, (unsigned int)(v - k->cpus), err);

		if (r == 0)
			r = kvm_cpuid_set(v, err);
		if (r == 0)
			r = kvm_state_save(v, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int kvm_new(const struct kvm_config *cfg, const struct kvm_events *events, struct kvm **out,
	    struct err *err)
{
	struct kvm *k = calloc(1, sizeof(*k));
	struct kvm_cpuid2 *host;
	int r;

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	k->cfg = *cfg;
	k->events = *events;
	k->vm_fd = -1;
	pthread_mutex_init(&k->lock, NULL);
	pthread_cond_init(&k->changed, NULL);
	pthread_mutex_init(&k->slot_lock, NULL);
	pthread_mutex_init(&k->route_lock, NULL);
	k->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->dev_fd < 0) {
		r = err_set(err, -errno, "cannot open /dev/kvm: %s", strerror(errno));
		goto fail;
	}
	r = kvm_cpuid_supported(k->dev_fd, &host);
	if (r < 0) {
		err_set(err, r, "cannot read the processor features KVM supports: %s",
			strerror(-r));
		goto fail;
	}
	k->phys_bits = kvm_cpuid_phys_bits(host, cfg);
	free(host);
	r = create_vm(k, err);
	if (r == 0)
		r = create_cpus(k, err);
	if (r < 0)
		goto fail;
	*out = k;
	return 0;
fail:
	kvm_free(k);
	return r;
}

static void join_threads(struct kvm *k)
{
	pthread_mutex_lock(&k->lock);
	k->wish = KVM_WISH_QUIT;
	for (unsigned int i = 0; i < k->ncpus; i++)
		if (k->cpus[i].run)
			kvm_vcpu_kick(&k->cpus[i]);
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
	for (unsigned int i = 0; i < k->ncpus; i++)
		if (k->cpus[i].thread_made)
			pthread_join(k->cpus[i].thread, NULL);
}

void kvm_free(struct kvm *k)
{
	if (!k)
		return;
	join_threads(k);
	for (unsigned int i = 0; i < k->ncpus; i++)
		kvm_vcpu_destroy(&k->cpus[i]);
	fd_close(&k->vm_fd);
	fd_close(&k->dev_fd);
	free(k->routes);
	free(k->cpus);
	pthread_mutex_destroy(&k->route_lock);
	pthread_mutex_destroy(&k->slot_lock);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

int kvm_start(struct kvm *k, struct bus *bus, const struct mem *mem, struct err *err)
{
	const struct mem_region *regions;
	size_t n = mem_regions(mem, &regions);

	k->bus = bus;
	for (size_t i = 0; i < n; i++) {
		struct bus_slot s = { .gpa = regions[i].gpa,
				      .len = regions[i].len,
				      .host = regions[i].host };
		int r = kvm_slot_add(k, &s);

		if (r < 0)
			return err_set(err, r, "KVM refuses %llu bytes of memory at %llx: %s",
				       (unsigned long long)s.len, (unsigned long long)s.gpa,
				       strerror(-r));
	}
	for (unsigned int i = 0; i < k->ncpus; i++) {
		int r = kvm_vcpu_spawn(&k->cpus[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

void kvm_run(struct kvm *k)
{
	pthread_mutex_lock(&k->lock);
	k->wish = KVM_WISH_RUN;
	pthread_cond_broadcast(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

static bool all_parked(const struct kvm *k)
{
	for (unsigned int i = 0; i < k->ncpus; i++)
		if (!k->cpus[i].parked)
			return false;
	return true;
}

void kvm_pause(struct kvm *k)
{
	pthread_mutex_lock(&k->lock);
	k->wish = KVM_WISH_PARK;
	for (unsigned int i = 0; i < k->ncpus; i++)
		if (!k->cpus[i].parked)
			kvm_vcpu_kick(&k->cpus[i]);
	pthread_cond_broadcast(&k->changed);
	while (!all_parked(k))
		pthread_cond_wait(&k->changed, &k->lock);
	pthread_mutex_unlock(&k->lock);
}

int kvm_reset(struct kvm *k, struct err *err)
{
	int r;

	for (unsigned int i = 0; i < k->ncpus; i++) {
		k->cpus[i].stuck = false;
		r = kvm_state_restore(&k->cpus[i], err);
		if (r < 0)
			return r;
	}
	return kvm_chips_restore(k, err);
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.g = 1,
		.l = code,
		.db = !code,
	};
}

int kvm_set_entry64(struct kvm *k, const struct kvm_entry64 *e, struct err *err)
{
	struct kvm_vcpu *v = &k->cpus[0];
	struct kvm_regs regs = { .rip = e->rip, .rsp = e->rsp, .rsi = e->rsi, .rflags = 2 };
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return err_set(err, -errno, "cannot read vCPU registers: %s", strerror(errno));
	s.cs = flat_segment(e->cs, 0xb, true);
	s.ds = s.es = s.fs = s.gs = s.ss = flat_segment(e->ds, 0x3, false);
	s.gdt.base = e->gdt_base;
	s.gdt.limit = e->gdt_limit;
	s.cr3 = e->cr3;
	s.cr4 |= BIT64(5); /* PAE */
	s.cr0 = BIT64(0) | BIT64(4) | BIT64(5) | BIT64(31); /* PE, ET, NE, PG */
	s.efer |= BIT64(8) | BIT64(10); /* LME, LMA */
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0 || ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return err_set(err, -errno, "cannot set the entry state: %s", strerror(errno));
	return 0;
}

unsigned int kvm_cpus(const struct kvm *k)
{
	return k->ncpus;
}

uint32_t kvm_apic_id(const struct kvm *k, unsigned int index)
{
	return k->cpus[index].apic_id;
}

unsigned int kvm_phys_bits(const struct kvm *k)
{
	return k->phys_bits;
}

void kvm_stats_get(struct kvm *k, struct kvm_stats *out)
{
	*out = (struct kvm_stats){ .first_run_ns =
					   __atomic_load_n(&k->first_run_ns, __ATOMIC_RELAXED) };
	for (unsigned int i = 0; i < k->ncpus; i++) {
		const struct kvm_vcpu *v = &k->cpus[i];

		out->user_io += __atomic_load_n(&v->user_io, __ATOMIC_RELAXED);
		out->user_mmio += __atomic_load_n(&v->user_mmio, __ATOMIC_RELAXED);
		out->user_other += __atomic_load_n(&v->user_other, __ATOMIC_RELAXED);
		out->exits += kvm_stats_read(v->stats_fd, "exits");
	}
}
