/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/tb_priv.h"
#include "util/fd.h"

#define PAGE 4096u

static struct tb_host *lock_host(void *arg)
{
	struct tb *tb = arg;

	pthread_mutex_lock(&tb->host.lock);
	return &tb->host;
}

static void unlock_host(struct tb_host *h)
{
	pthread_mutex_unlock(&h->lock);
}

/* --- interrupts --- */

static void host_irq_set(void *arg, unsigned int gsi, bool level)
{
	struct tb_host *h = lock_host(arg);

	h->rises[gsi] += level && !h->wires[gsi];
	h->wires[gsi] = level;
	unlock_host(h);
}

static int host_msi_new(void *arg, struct bus_msi *m)
{
	const struct tb *tb = arg;

	if (tb->opts.msi_fds)
		m->fd = fd_event_new();
	return 0;
}

static void host_msi_free(void *arg, struct bus_msi *m)
{
	(void)arg;
	fd_close(&m->fd);
}

static int host_msi_update(void *arg, struct bus_msi *m)
{
	struct tb_host *h = lock_host(arg);
	bool refuse = h->refuse_routes;

	(void)m;
	unlock_host(h);
	return refuse ? -ENOMEM : 0;
}

void tb_refuse_routes(struct tb *tb, bool refuse)
{
	struct tb_host *h = lock_host(tb);

	h->refuse_routes = refuse;
	unlock_host(h);
}

/* Data as tb_msix_enable() chose it: device << 8 | vector. */
static void host_msi_fire(void *arg, struct bus_msi *m)
{
	struct tb *tb = arg;
	struct tb_host *h = lock_host(arg);
	unsigned int dev = m->data >> 8, vector = m->data & 0xff;

	h->msis++;
	h->last_addr = m->addr;
	h->last_data = m->data;
	if (m->addr == TB_MSI_ADDR && dev < TB_MAX_DEVS && vector < PCI_MSIX_MAX)
		tb->devs[dev].irqs[vector]++;
	unlock_host(h);
}

static unsigned int take(struct tb *tb, unsigned int *count)
{
	struct tb_host *h = lock_host(tb);
	unsigned int n = *count;

	*count = 0;
	unlock_host(h);
	return n;
}

unsigned int tb_irqs(struct dev *d, unsigned int vector)
{
	assert(vector < PCI_MSIX_MAX);
	return take(tb_of(d), &tb_dev_of(d)->irqs[vector]);
}

unsigned int tb_msis(struct tb *tb)
{
	return take(tb, &tb->host.msis);
}

void tb_last_msi(struct tb *tb, uint64_t *addr, uint32_t *data)
{
	struct tb_host *h = lock_host(tb);

	*addr = h->last_addr;
	*data = h->last_data;
	unlock_host(h);
}

void tb_host_clear(struct tb_host *h)
{
	pthread_mutex_lock(&h->lock);
	memset(h->rises, 0, sizeof(h->rises));
	memset(h->requests, 0, sizeof(h->requests));
	h->msis = 0;
	h->last_addr = 0;
	h->last_data = 0;
	pthread_mutex_unlock(&h->lock);
}

bool tb_wire(struct tb *tb, unsigned int gsi)
{
	struct tb_host *h = lock_host(tb);
	bool level;

	assert(gsi < BUS_GSIS);
	level = h->wires[gsi];
	unlock_host(h);
	return level;
}

unsigned int tb_rises(struct tb *tb, unsigned int gsi)
{
	assert(gsi < BUS_GSIS);
	return take(tb, &tb->host.rises[gsi]);
}

bool tb_intx(struct dev *d)
{
	struct pci_fn *fn = pci_fn_of(d);

	assert(fn->desc->intx_pin);
	return tb_wire(tb_of(d), pci_bus_gsi(fn->bus, fn->devfn, fn->desc->intx_pin));
}

/* --- slots and doorbells --- */

static bool overlap(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + alen;
}

/* As KVM: no two memories at one address. */
static bool is_free(const struct tb *tb, const struct bus_slot *s)
{
	const struct mem_region *r;
	size_t n = mem_regions(tb->mem, &r);

	for (size_t i = 0; i < n; i++)
		if (overlap(s->gpa, s->len, r[i].gpa, r[i].len))
			return false;
	for (unsigned int i = 0; i < TB_MAX_SLOTS; i++) {
		const struct bus_slot *other = tb->host.slots[i].slot;

		if (other && overlap(s->gpa, s->len, other->gpa, other->len))
			return false;
	}
	return true;
}

static int host_slot_add(void *arg, struct bus_slot *s)
{
	struct tb *tb = arg;
	struct tb_host *h = lock_host(arg);
	int ret = -ENOSPC;

	if (s->len == 0 || s->len % PAGE || s->gpa % PAGE)
		ret = -EINVAL;
	else if (!is_free(tb, s))
		ret = -EEXIST;
	for (int i = 0; i < TB_MAX_SLOTS && ret == -ENOSPC && !tb->opts.no_slots; i++) {
		if (h->slots[i].slot)
			continue;
		h->slots[i].dirty = calloc(s->len / PAGE / 64 + 1, sizeof(uint64_t));
		assert(h->slots[i].dirty);
		h->slots[i].slot = s;
		s->id = i;
		ret = 0;
	}
	unlock_host(h);
	return ret;
}

static void host_slot_del(void *arg, struct bus_slot *s)
{
	struct tb_host *h = lock_host(arg);

	assert(h->slots[s->id].slot == s);
	h->slots[s->id].slot = NULL;
	free(h->slots[s->id].dirty);
	unlock_host(h);
}

static int host_slot_dirty(void *arg, struct bus_slot *s, uint64_t *bitmap)
{
	struct tb_host *h = lock_host(arg);
	size_t bytes = ALIGN_UP(s->len / PAGE, 64) / 8;

	assert(s->log_dirty);
	memcpy(bitmap, h->slots[s->id].dirty, bytes);
	memset(h->slots[s->id].dirty, 0, bytes);
	unlock_host(h);
	return 0;
}

static int host_doorbell_add(void *arg, struct bus_doorbell *d)
{
	struct tb *tb = arg;
	struct tb_host *h = lock_host(arg);
	int ret = -ENOSPC;

	if (h->nbells < TB_MAX_BELLS && !tb->opts.no_doorbells) {
		h->bells[h->nbells++] = d;
		ret = 0;
	}
	unlock_host(h);
	return ret;
}

static void host_doorbell_del(void *arg, struct bus_doorbell *d)
{
	struct tb_host *h = lock_host(arg);
	unsigned int i = 0;

	while (h->bells[i] != d)
		assert(++i < h->nbells);
	h->bells[i] = h->bells[--h->nbells];
	unlock_host(h);
}

static void host_request(void *arg, enum bus_request what)
{
	struct tb_host *h = lock_host(arg);

	h->requests[what]++;
	unlock_host(h);
}

const struct bus_host_ops tb_host_ops = {
	.irq_set = host_irq_set,
	.msi_new = host_msi_new,
	.msi_free = host_msi_free,
	.msi_update = host_msi_update,
	.msi_fire = host_msi_fire,
	.slot_add = host_slot_add,
	.slot_del = host_slot_del,
	.slot_dirty = host_slot_dirty,
	.doorbell_add = host_doorbell_add,
	.doorbell_del = host_doorbell_del,
	.request = host_request,
};

unsigned int tb_requests(struct tb *tb, enum bus_request what)
{
	return take(tb, &tb->host.requests[what]);
}

unsigned int tb_doorbells(struct tb *tb)
{
	return tb->host.nbells;
}

unsigned int tb_slots(struct tb *tb)
{
	unsigned int n = 0;

	while (tb_slot(tb, n))
		n++;
	return n;
}

const struct bus_slot *tb_slot(struct tb *tb, unsigned int n)
{
	for (unsigned int i = 0; i < TB_MAX_SLOTS; i++)
		if (tb->host.slots[i].slot && n-- == 0)
			return tb->host.slots[i].slot;
	return NULL;
}

/* --- accesses of the vCPU --- */

static struct tb_slot *find_slot(struct tb *tb, uint64_t gpa, unsigned int size)
{
	for (unsigned int i = 0; i < TB_MAX_SLOTS; i++) {
		const struct bus_slot *s = tb->host.slots[i].slot;

		if (s && gpa >= s->gpa && gpa - s->gpa < s->len && size <= s->len - (gpa - s->gpa))
			return &tb->host.slots[i];
	}
	return NULL;
}

/* True if a doorbell took the write: then no handler sees it. */
static bool ring(struct tb *tb, enum bus_kind kind, uint64_t addr, unsigned int size,
		 uint64_t value)
{
	struct tb_host *h = lock_host(tb);
	bool rang = false;

	for (unsigned int i = 0; i < h->nbells && !rang; i++) {
		const struct bus_doorbell *b = h->bells[i];

		rang = b->kind == kind && b->addr == addr && (!b->size || b->size == size) &&
		       (!b->match || b->value == value);
		if (rang)
			fd_event_set(b->fd);
	}
	unlock_host(h);
	return rang;
}

uint64_t tb_read(struct tb *tb, uint64_t gpa, unsigned int size)
{
	struct tb_slot *slot = find_slot(tb, gpa, size);
	uint64_t value = 0;

	if (mem_read(tb->mem, gpa, &value, size) == 0)
		return value;
	if (slot) {
		memcpy(&value, (char *)slot->slot->host + (gpa - slot->slot->gpa), size);
		return value;
	}
	return bus_read(tb->bus, BUS_MEM, gpa, size);
}

void tb_write(struct tb *tb, uint64_t gpa, unsigned int size, uint64_t value)
{
	struct tb_slot *slot = find_slot(tb, gpa, size);

	if (mem_write(tb->mem, gpa, &value, size) == 0)
		return;
	if (slot && !slot->slot->read_only) {
		uint64_t offset = gpa - slot->slot->gpa;
		uint64_t first = offset / PAGE, last = (offset + size - 1) / PAGE;

		memcpy((char *)slot->slot->host + offset, &value, size);
		slot->dirty[first / 64] |= BIT64(first % 64);
		slot->dirty[last / 64] |= BIT64(last % 64);
		return;
	}
	if (!ring(tb, BUS_MEM, gpa, size, value))
		bus_write(tb->bus, BUS_MEM, gpa, size, value);
}

uint32_t tb_in(struct tb *tb, uint16_t port, unsigned int size)
{
	return (uint32_t)bus_read(tb->bus, BUS_PORT, port, size);
}

void tb_out(struct tb *tb, uint16_t port, unsigned int size, uint32_t value)
{
	if (!ring(tb, BUS_PORT, port, size, value))
		bus_write(tb->bus, BUS_PORT, port, size, value);
}
