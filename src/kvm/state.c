/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"

/*
 * Reset puts back what KVM gave a fresh vCPU, read once before it first ran. The time-stamp counter is left alone:
 * writing it per vCPU would take the guest's clocks apart.
 */
struct kvm_vcpu_state {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_lapic_state lapic;
	bool has_xsave, has_xcrs;
	struct kvm_msrs *msrs;
	struct kvm_xsave xsave; /* last: its size is open-ended */
};

#define MSR_TSC 0x10
#define MSR_TSC_ADJUST 0x3b
#define MSR_TSC_DEADLINE 0x6e0

static const struct {
	uint32_t first, last;
} mtrrs[] = {
	{ 0x200, 0x20f }, { 0x250, 0x250 }, { 0x258, 0x259 }, { 0x268, 0x26f }, { 0x2ff, 0x2ff }
};

static void msr_add(struct kvm_msrs *m, uint32_t index)
{
	if (index == MSR_TSC || index == MSR_TSC_ADJUST || index == MSR_TSC_DEADLINE)
		return;
	for (uint32_t i = 0; i < m->nmsrs; i++)
		if (m->entries[i].index == index)
			return;
	if (m->nmsrs < KVM_MSRS_MAX)
		m->entries[m->nmsrs++].index = index;
}

/* KVM_GET_MSRS stops at the first one it cannot read: drop that one and go on. */
static void msrs_read(struct kvm_vcpu *v, struct kvm_msrs *m)
{
	uint32_t done = 0, total = m->nmsrs;
	struct kvm_msrs *one = calloc(1, sizeof(*one) + sizeof(struct kvm_msr_entry));

	for (uint32_t i = 0; one && i < total; i++) {
		one->nmsrs = 1;
		one->entries[0] = m->entries[i];
		if (ioctl(v->fd, KVM_GET_MSRS, one) == 1)
			m->entries[done++] = one->entries[0];
	}
	free(one);
	m->nmsrs = done;
}

/* One that this kernel lets us read but not write was never changed by the guest either. */
static void msrs_write(struct kvm_vcpu *v, const struct kvm_msrs *m)
{
	struct kvm_msrs *one = calloc(1, sizeof(*one) + sizeof(struct kvm_msr_entry));

	for (uint32_t i = 0; one && i < m->nmsrs; i++) {
		one->nmsrs = 1;
		one->entries[0] = m->entries[i];
		ioctl(v->fd, KVM_SET_MSRS, one);
	}
	free(one);
}

static struct kvm_msrs *msrs_save(struct kvm_vcpu *v)
{
	struct kvm_msr_list *list =
		calloc(1, sizeof(*list) + KVM_MSRS_MAX * sizeof(list->indices[0]));
	struct kvm_msrs *m = calloc(1, sizeof(*m) + KVM_MSRS_MAX * sizeof(struct kvm_msr_entry));

	if (!list || !m)
		goto fail;
	list->nmsrs = KVM_MSRS_MAX;
	if (ioctl(v->kvm->dev_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
		goto fail;
	for (uint32_t i = 0; i < list->nmsrs; i++)
		msr_add(m, list->indices[i]);
	for (size_t i = 0; i < ARRAY_LEN(mtrrs); i++)
		for (uint32_t index = mtrrs[i].first; index <= mtrrs[i].last; index++)
			msr_add(m, index);
	msrs_read(v, m);
	free(list);
	return m;
fail:
	free(list);
	free(m);
	return NULL;
}

int kvm_state_save(struct kvm_vcpu *v, struct err *err)
{
	struct kvm_vcpu_state *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	v->initial = s;
	s->msrs = msrs_save(v);
	if (!s->msrs || ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0 ||
	    ioctl(v->fd, KVM_GET_SREGS, &s->sregs) < 0 ||
	    ioctl(v->fd, KVM_GET_DEBUGREGS, &s->debugregs) < 0 ||
	    ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events) < 0 ||
	    ioctl(v->fd, KVM_GET_MP_STATE, &s->mp_state) < 0 ||
	    ioctl(v->fd, KVM_GET_LAPIC, &s->lapic) < 0)
		return err_set(err, -errno, "cannot read the initial state of vCPU %u: %s",
			       v->index, strerror(errno));
	s->has_xsave = ioctl(v->fd, KVM_GET_XSAVE, &s->xsave) == 0;
	/* A processor without XSAVE has none of these, and refuses to be given none. */
	s->has_xcrs = ioctl(v->fd, KVM_GET_XCRS, &s->xcrs) == 0 && s->xcrs.nr_xcrs > 0;
	return 0;
}

/*
 * KVM on AMD clears the nested page table root of a vCPU that shut down, and loads it anew only when a control register
 * changes. So one does: CR0.TS goes on and, with the registers themselves, off.
 */
static int reload_page_tables(struct kvm_vcpu *v)
{
	struct kvm_sregs changed = v->initial->sregs;

	changed.cr0 ^= BIT64(3);
	return ioctl(v->fd, KVM_SET_SREGS, &changed);
}

int kvm_state_restore(struct kvm_vcpu *v, struct err *err)
{
	struct kvm_vcpu_state *s = v->initial;

	/* Events and mode first, then what depends on them; the APIC after its base, MSRs after the APIC. */
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &s->events) < 0 || reload_page_tables(v) < 0 ||
	    ioctl(v->fd, KVM_SET_SREGS, &s->sregs) < 0 ||
	    ioctl(v->fd, KVM_SET_REGS, &s->regs) < 0 ||
	    ioctl(v->fd, KVM_SET_LAPIC, &s->lapic) < 0 ||
	    (s->has_xcrs && ioctl(v->fd, KVM_SET_XCRS, &s->xcrs) < 0) ||
	    (s->has_xsave && ioctl(v->fd, KVM_SET_XSAVE, &s->xsave) < 0) ||
	    ioctl(v->fd, KVM_SET_DEBUGREGS, &s->debugregs) < 0)
		return err_set(err, -errno, "cannot reset vCPU %u: %s", v->index, strerror(errno));
	msrs_write(v, s->msrs);
	if (ioctl(v->fd, KVM_SET_MP_STATE, &s->mp_state) < 0)
		return err_set(err, -errno, "cannot reset vCPU %u: %s", v->index, strerror(errno));
	return 0;
}

void kvm_state_free(struct kvm_vcpu *v)
{
	if (v->initial)
		free(v->initial->msrs);
	free(v->initial);
	v->initial = NULL;
}

int kvm_chips_save(struct kvm *k, struct err *err)
{
	for (uint32_t i = 0; i < ARRAY_LEN(k->irqchips); i++) {
		k->irqchips[i].chip_id = i;
		if (ioctl(k->vm_fd, KVM_GET_IRQCHIP, &k->irqchips[i]) < 0)
			return err_set(err, -errno, "cannot read interrupt controller %u: %s", i,
				       strerror(errno));
	}
	if (ioctl(k->vm_fd, KVM_GET_PIT2, &k->pit) < 0)
		return err_set(err, -errno, "cannot read the timer: %s", strerror(errno));
	return 0;
}

int kvm_chips_restore(struct kvm *k, struct err *err)
{
	for (uint32_t i = 0; i < ARRAY_LEN(k->irqchips); i++)
		if (ioctl(k->vm_fd, KVM_SET_IRQCHIP, &k->irqchips[i]) < 0)
			return err_set(err, -errno, "cannot reset interrupt controller %u: %s", i,
				       strerror(errno));
	if (ioctl(k->vm_fd, KVM_SET_PIT2, &k->pit) < 0)
		return err_set(err, -errno, "cannot reset the timer: %s", strerror(errno));
	return 0;
}
