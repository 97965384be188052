/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bus/bus.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bus/map_priv.h"
#include "loop/loop.h"
#include "util/fd.h"

struct bus {
	const struct bus_host_ops *ops;
	void *arg;
	pthread_mutex_t map_lock; /* writers of the maps; a leaf */
	struct map maps[2]; /* by enum bus_kind */
	pthread_mutex_t irq_lock; /* the wires, and the order of their changes; a leaf */
	unsigned int sources[BUS_GSIS]; /* how many hold the wire high */
};

struct bus *bus_new(const struct bus_host_ops *ops, void *arg)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->ops = ops;
	b->arg = arg;
	b->maps[BUS_PORT].limit = UINT16_MAX;
	b->maps[BUS_MEM].limit = UINT64_MAX;
	pthread_mutex_init(&b->map_lock, NULL);
	pthread_mutex_init(&b->irq_lock, NULL);
	return b;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->map_lock);
	pthread_mutex_destroy(&b->irq_lock);
	free(b);
}

int bus_map(struct bus *b, struct bus_region *r, enum bus_kind kind, uint64_t base)
{
	int ret;

	pthread_mutex_lock(&b->map_lock);
	ret = map_add(&b->maps[kind], r, base);
	if (ret == 0)
		r->kind = kind;
	pthread_mutex_unlock(&b->map_lock);
	return ret;
}

void bus_unmap(struct bus *b, struct bus_region *r)
{
	pthread_mutex_lock(&b->map_lock);
	map_del(&b->maps[r->kind], r);
	pthread_mutex_unlock(&b->map_lock);
}

/*
 * The region that takes the whole access, or NULL. *base: where the region started at the time of the lookup. Who wins
 * the first byte takes it all if it reaches that far: a double word for the index port CF8 is not torn apart by the
 * reset register at CF9.
 */
static struct bus_region *find_whole(const struct map *m, uint64_t addr, unsigned int size,
				     uint64_t *base)
{
	struct map_span s;

	if (!map_find(m, addr, &s) || size - 1 > s.base + (s.region->len - 1) - addr)
		return NULL;
	*base = s.base;
	return s.region;
}

uint64_t bus_read(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned int size)
{
	const struct map *m = &b->maps[kind];
	uint64_t base, value = 0;
	struct bus_region *r = find_whole(m, addr, size, &base);

	if (r)
		return r->ops->read(r->arg, addr - base, size) & (UINT64_MAX >> (64 - 8 * size));
	for (unsigned int i = 0; i < size; i++) {
		uint64_t byte = 0xff;

		/* Behind the last address is nothing, not address 0. */
		r = i <= m->limit - addr ? find_whole(m, addr + i, 1, &base) : NULL;
		if (r)
			byte = r->ops->read(r->arg, addr + i - base, 1) & 0xff;
		value |= byte << (8 * i);
	}
	return value;
}

void bus_write(struct bus *b, enum bus_kind kind, uint64_t addr, unsigned int size, uint64_t value)
{
	const struct map *m = &b->maps[kind];
	uint64_t base;
	struct bus_region *r = find_whole(m, addr, size, &base);

	if (r) {
		r->ops->write(r->arg, addr - base, size, value);
		return;
	}
	for (unsigned int i = 0; i < size && i <= m->limit - addr; i++) {
		r = find_whole(m, addr + i, 1, &base);
		if (r)
			r->ops->write(r->arg, addr + i - base, 1, value >> (8 * i) & 0xff);
	}
}

void bus_irq_init(struct bus *b, struct bus_irq *irq, unsigned int gsi)
{
	assert(gsi < BUS_GSIS);
	irq->bus = b;
	irq->gsi = gsi;
	irq->level = false;
}

void bus_irq_set(struct bus_irq *irq, bool level)
{
	struct bus *b = irq->bus;
	unsigned int *sources = &b->sources[irq->gsi];

	if (irq->level == level)
		return;
	irq->level = level;
	pthread_mutex_lock(&b->irq_lock);
	if (level ? (*sources)++ == 0 : --*sources == 0)
		b->ops->irq_set(b->arg, irq->gsi, level);
	pthread_mutex_unlock(&b->irq_lock);
}

void bus_irq_pulse(struct bus_irq *irq)
{
	bus_irq_set(irq, true);
	bus_irq_set(irq, false);
}

int bus_msi_new(struct bus *b, struct bus_msi *m)
{
	*m = (struct bus_msi){ .fd = -1, .gsi = -1 };
	return b->ops->msi_new(b->arg, m);
}

void bus_msi_free(struct bus *b, struct bus_msi *m)
{
	b->ops->msi_free(b->arg, m);
}

int bus_msi_update(struct bus *b, struct bus_msi *m, uint64_t addr, uint32_t data)
{
	m->addr = addr;
	m->data = data;
	return b->ops->msi_update(b->arg, m);
}

void bus_msi_fire(struct bus *b, struct bus_msi *m, struct loop *l)
{
	m->fired++;
	if (m->fd >= 0 && l)
		loop_event_set(l, m->fd);
	else if (m->fd >= 0)
		fd_event_set(m->fd);
	else
		b->ops->msi_fire(b->arg, m);
}

int bus_slot_add(struct bus *b, struct bus_slot *s)
{
	int ret;

	assert(!s->active);
	ret = b->ops->slot_add(b->arg, s);
	s->active = ret == 0;
	return ret;
}

void bus_slot_del(struct bus *b, struct bus_slot *s)
{
	if (!s->active)
		return;
	b->ops->slot_del(b->arg, s);
	s->active = false;
}

int bus_slot_dirty(struct bus *b, struct bus_slot *s, uint64_t *bitmap)
{
	return s->active ? b->ops->slot_dirty(b->arg, s, bitmap) : -ENOENT;
}

int bus_doorbell_add(struct bus *b, struct bus_doorbell *d)
{
	int ret;

	assert(!d->active);
	ret = b->ops->doorbell_add(b->arg, d);
	d->active = ret == 0;
	return ret;
}

void bus_doorbell_del(struct bus *b, struct bus_doorbell *d)
{
	if (!d->active)
		return;
	b->ops->doorbell_del(b->arg, d);
	d->active = false;
}

void bus_request(struct bus *b, enum bus_request what)
{
	b->ops->request(b->arg, what);
}
