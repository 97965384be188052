/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/* The I/O APIC has 24 pins; MSI routes take the numbers above. */
#define FIRST_MSI_GSI BUS_GSIS

static int routes_commit(struct kvm *k)
{
	return ioctl(k->vm_fd, KVM_SET_GSI_ROUTING, k->routes) < 0 ? -errno : 0;
}

static void route_chip(struct kvm *k, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	struct kvm_irq_routing_entry *e = &k->routes->entries[k->routes->nr++];

	*e = (struct kvm_irq_routing_entry){ .gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP };
	e->u.irqchip.irqchip = chip;
	e->u.irqchip.pin = pin;
}

/*
 * KVM replaces the whole table at once, so ours starts with the wires: ISA interrupts go to the PICs and the I/O
 * APIC, except that the timer's GSI 0 enters the I/O APIC at pin 2, as the MADT says.
 */
int kvm_routes_init(struct kvm *k, struct err *err)
{
	int r;

	k->routes = calloc(1, sizeof(*k->routes) +
				      KVM_ROUTES_MAX * sizeof(struct kvm_irq_routing_entry));
	if (!k->routes)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint32_t gsi = 0; gsi < BUS_GSIS; gsi++) {
		if (gsi < 8 && gsi != 2)
			route_chip(k, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi >= 8 && gsi < 16)
			route_chip(k, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		if (gsi != 2)
			route_chip(k, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
	}
	r = routes_commit(k);
	if (r < 0)
		return err_set(err, r, "KVM refuses the interrupt routing table: %s", strerror(-r));
	return 0;
}

static struct kvm_irq_routing_entry *route_find(struct kvm *k, int gsi)
{
	for (uint32_t i = 0; i < k->routes->nr; i++)
		if (k->routes->entries[i].gsi == (uint32_t)gsi &&
		    k->routes->entries[i].type == KVM_IRQ_ROUTING_MSI)
			return &k->routes->entries[i];
	return NULL;
}

static int irqfd(struct kvm *k, const struct bus_msi *m, uint32_t flags)
{
	struct kvm_irqfd f = { .fd = (uint32_t)m->fd, .gsi = (uint32_t)m->gsi, .flags = flags };

	return ioctl(k->vm_fd, KVM_IRQFD, &f) < 0 ? -errno : 0;
}

int kvm_msi_new(void *arg, struct bus_msi *m)
{
	struct kvm *k = arg;
	int gsi = FIRST_MSI_GSI, fd = fd_event_new();

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&k->route_lock);
	while (gsi < KVM_GSIS_MAX && k->gsi_used[gsi])
		gsi++;
	if (gsi < KVM_GSIS_MAX)
		k->gsi_used[gsi] = 1;
	pthread_mutex_unlock(&k->route_lock);
	if (gsi == KVM_GSIS_MAX) {
		fd_close(&fd);
		return -ENOSPC;
	}
	m->fd = fd;
	m->gsi = gsi;
	return 0;
}

void kvm_msi_free(void *arg, struct bus_msi *m)
{
	struct kvm *k = arg;
	struct kvm_irq_routing_entry *e;

	if (m->gsi < 0)
		return;
	pthread_mutex_lock(&k->route_lock);
	e = route_find(k, m->gsi);
	if (e) {
		irqfd(k, m, KVM_IRQFD_FLAG_DEASSIGN);
		*e = k->routes->entries[--k->routes->nr];
		routes_commit(k);
	}
	k->gsi_used[m->gsi] = 0;
	pthread_mutex_unlock(&k->route_lock);
	fd_close(&m->fd);
	m->gsi = -1;
}

static bool same_route(const struct kvm_irq_routing_entry *a, const struct kvm_irq_routing_entry *b)
{
	return a->u.msi.address_lo == b->u.msi.address_lo &&
	       a->u.msi.address_hi == b->u.msi.address_hi && a->u.msi.data == b->u.msi.data;
}

/* A new route, with the irqfd that uses it. */
static int route_add(struct kvm *k, const struct bus_msi *m,
		     const struct kvm_irq_routing_entry *want)
{
	int r;

	if (k->routes->nr == KVM_ROUTES_MAX)
		return -ENOSPC;
	k->routes->entries[k->routes->nr++] = *want;
	r = routes_commit(k);
	if (r == 0)
		r = irqfd(k, m, 0);
	if (r < 0)
		k->routes->nr--; /* KVM forgets it with the next change */
	return r;
}

static int route_change(struct kvm *k, struct kvm_irq_routing_entry *e,
			const struct kvm_irq_routing_entry *want)
{
	struct kvm_irq_routing_entry old = *e;
	int r;

	if (same_route(e, want))
		return 0;
	*e = *want;
	r = routes_commit(k);
	if (r < 0)
		*e = old;
	return r;
}

/* The route is made when the guest first gives the vector an address, and kept from then on. */
int kvm_msi_update(void *arg, struct bus_msi *m)
{
	struct kvm *k = arg;
	struct kvm_irq_routing_entry *e,
		want = { .gsi = (uint32_t)m->gsi, .type = KVM_IRQ_ROUTING_MSI };
	int r;

	want.u.msi.address_lo = (uint32_t)m->addr;
	want.u.msi.address_hi = (uint32_t)(m->addr >> 32);
	want.u.msi.data = m->data;
	pthread_mutex_lock(&k->route_lock);
	e = route_find(k, m->gsi);
	r = e ? route_change(k, e, &want) : route_add(k, m, &want);
	pthread_mutex_unlock(&k->route_lock);
	if (r < 0)
		log_limited(LOG_LEVEL_WARN, "kvm", "MSI address %llx data %x refused: %s",
			    (unsigned long long)m->addr, m->data, strerror(-r));
	return r;
}

void kvm_msi_fire(void *arg, struct bus_msi *m)
{
	(void)arg;
	fd_event_set(m->fd);
}

void kvm_irq_set(void *arg, unsigned int gsi, bool level)
{
	struct kvm *k = arg;
	struct kvm_irq_level l = { .irq = gsi, .level = level };

	ioctl(k->vm_fd, KVM_IRQ_LINE, &l);
}
