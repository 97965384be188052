/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>

static int slot_set(struct kvm *k, const struct bus_slot *s, uint64_t len)
{
	struct kvm_userspace_memory_region r = {
		.slot = (uint32_t)s->id,
		.flags = (s->read_only ? KVM_MEM_READONLY : 0) |
			 (s->log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = s->gpa,
		.memory_size = len,
		.userspace_addr = (uint64_t)(uintptr_t)s->host,
	};

	return ioctl(k->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? -errno : 0;
}

int kvm_slot_add(void *arg, struct bus_slot *s)
{
	struct kvm *k = arg;
	int r = -ENOSPC;

	pthread_mutex_lock(&k->slot_lock);
	for (int id = 0; id < KVM_SLOTS; id++) {
		if (k->slots_used & BIT64(id))
			continue;
		s->id = id;
		r = slot_set(k, s, s->len);
		if (r == 0)
			k->slots_used |= BIT64(id);
		break;
	}
	pthread_mutex_unlock(&k->slot_lock);
	return r;
}

void kvm_slot_del(void *arg, struct bus_slot *s)
{
	struct kvm *k = arg;

	pthread_mutex_lock(&k->slot_lock);
	slot_set(k, s, 0);
	k->slots_used &= ~BIT64(s->id);
	pthread_mutex_unlock(&k->slot_lock);
}

int kvm_slot_dirty(void *arg, struct bus_slot *s, uint64_t *bitmap)
{
	struct kvm *k = arg;
	struct kvm_dirty_log log = { .slot = (uint32_t)s->id, .dirty_bitmap = bitmap };

	return ioctl(k->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0 ? -errno : 0;
}

static int doorbell_ioctl(struct kvm *k, const struct bus_doorbell *d, uint32_t flags)
{
	struct kvm_ioeventfd e = {
		.addr = d->addr,
		.len = d->size,
		.fd = d->fd,
		.datamatch = d->value,
		.flags = flags | (d->kind == BUS_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (d->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0),
	};

	return ioctl(k->vm_fd, KVM_IOEVENTFD, &e) < 0 ? -errno : 0;
}

int kvm_doorbell_add(void *arg, struct bus_doorbell *d)
{
	return doorbell_ioctl(arg, d, 0);
}

void kvm_doorbell_del(void *arg, struct bus_doorbell *d)
{
	doorbell_ioctl(arg, d, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
