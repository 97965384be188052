/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "bus/bus.h"
#include "run.h"
#include "util/fd.h"
#include "util/macros.h"

/* A host that counts what reaches it. */
struct host {
	unsigned int irq_calls;
	bool levels[BUS_GSIS];
	unsigned int msi_fired, msi_updated, msi_live;
	unsigned int slots, bells, requests;
	int fail; /* what adding anything returns */
};

static void host_irq_set(void *arg, unsigned int gsi, bool level)
{
	struct host *h = arg;

	h->irq_calls++;
	h->levels[gsi] = level;
}

static int host_msi_new(void *arg, struct bus_msi *m)
{
	struct host *h = arg;

	(void)m;
	h->msi_live += h->fail == 0;
	return h->fail;
}

static void host_msi_free(void *arg, struct bus_msi *m)
{
	(void)m;
	((struct host *)arg)->msi_live--;
}

static int host_msi_update(void *arg, struct bus_msi *m)
{
	(void)m;
	((struct host *)arg)->msi_updated++;
	return 0;
}

static void host_msi_fire(void *arg, struct bus_msi *m)
{
	(void)m;
	((struct host *)arg)->msi_fired++;
}

static int host_slot_add(void *arg, struct bus_slot *s)
{
	struct host *h = arg;

	(void)s;
	h->slots += h->fail == 0;
	return h->fail;
}

static void host_slot_del(void *arg, struct bus_slot *s)
{
	(void)s;
	((struct host *)arg)->slots--;
}

static int host_slot_dirty(void *arg, struct bus_slot *s, uint64_t *bitmap)
{
	(void)arg;
	(void)s;
	bitmap[0] = 5;
	return 0;
}

static int host_doorbell_add(void *arg, struct bus_doorbell *d)
{
	struct host *h = arg;

	(void)d;
	h->bells += h->fail == 0;
	return h->fail;
}

static void host_doorbell_del(void *arg, struct bus_doorbell *d)
{
	(void)d;
	((struct host *)arg)->bells--;
}

static void host_request(void *arg, enum bus_request what)
{
	((struct host *)arg)->requests |= 1u << what;
}

static const struct bus_host_ops host_ops = {
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

/* A region that answers with its tag and remembers the last write. */
struct tagged {
	struct bus_region region;
	uint8_t tag;
	uint64_t offset, value;
	unsigned int size, writes;
};

static uint64_t tagged_read(void *arg, uint64_t offset, unsigned int size)
{
	struct tagged *t = arg;

	(void)size;
	/* More than fits into the access: the bus cuts it off. */
	return offset << 8 | t->tag | (uint64_t)0xabcdef << 40;
}

static void tagged_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct tagged *t = arg;

	t->offset = offset;
	t->size = size;
	t->value = value;
	t->writes++;
}

static const struct bus_region_ops tagged_ops = { .read = tagged_read, .write = tagged_write };

static struct tagged make_tagged(uint8_t tag, uint64_t len, int priority)
{
	return (struct tagged){ .region = { .ops = &tagged_ops, .len = len, .priority = priority },
				.tag = tag };
}

static int map_tagged(struct bus *b, struct tagged *t, uint64_t base)
{
	/* Once: what a region is must not change while somebody may look it up. */
	if (!t->region.arg)
		t->region.arg = t;
	return bus_map(b, &t->region, BUS_MEM, base);
}

static void test_unclaimed(void)
{
	struct bus *b = bus_new(&host_ops, NULL);

	CHECK_EQ(bus_read(b, BUS_MEM, 0x1000, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1000, 2), 0xffff);
	CHECK_EQ(bus_read(b, BUS_MEM, UINT64_MAX, 4), 0xffffffff);
	CHECK_EQ(bus_read(b, BUS_MEM, 0, 8), UINT64_MAX);
	CHECK_EQ(bus_read(b, BUS_PORT, 0xffff, 4), 0xffffffff);
	bus_write(b, BUS_MEM, UINT64_MAX, 8, 1);
	bus_write(b, BUS_PORT, 0x80, 1, 1);
	bus_free(b);
	bus_free(NULL);
}

static void test_map_and_lookup(void)
{
	struct bus *b = bus_new(&host_ops, NULL);
	struct tagged t = make_tagged(0x11, 0x100, 0);

	CHECK_EQ(map_tagged(b, &t, 0x1000), 0);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x10fc, 4), 0xfc11);
	CHECK_EQ(bus_read(b, BUS_MEM, 0xfff, 1), 0xff);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1100, 1), 0xff);
	/* Over either end: bytes. */
	CHECK_EQ(bus_read(b, BUS_MEM, 0x10fe, 4), 0xffff1111);
	CHECK_EQ(bus_read(b, BUS_MEM, 0xfff, 2), 0x11ff);
	bus_write(b, BUS_MEM, 0x10fe, 8, 0x8877665544332211);
	CHECK_EQ(t.writes, 2);
	CHECK_EQ(t.offset, 0xff);
	CHECK_EQ(t.value, 0x22);
	bus_write(b, BUS_MEM, 0x1010, 8, 0x8877665544332211);
	CHECK_EQ(t.size, 8);
	CHECK_EQ(t.value, 0x8877665544332211);
	/* The other space is another space. */
	CHECK_EQ(bus_read(b, BUS_PORT, 0x1010, 1), 0xff);
	bus_unmap(b, &t.region);
	bus_unmap(b, &t.region);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1010, 1), 0xff);
	bus_free(b);
}

static void test_limits(void)
{
	struct bus *b = bus_new(&host_ops, NULL);
	struct tagged t = make_tagged(0x22, 0x10, 0), empty = make_tagged(0, 0, 0);
	struct tagged all = make_tagged(0x33, UINT64_MAX, -1);

	CHECK_EQ(map_tagged(b, &empty, 0), -EINVAL);
	CHECK_EQ(map_tagged(b, &t, UINT64_MAX - 14), -EINVAL);
	t.region.arg = &t;
	CHECK_EQ(bus_map(b, &t.region, BUS_PORT, 0xfff1), -EINVAL);
	CHECK_EQ(bus_map(b, &t.region, BUS_PORT, 0xfff0), 0);
	CHECK_EQ(bus_read(b, BUS_PORT, 0xffff, 1), 0x22);
	CHECK_EQ(bus_read(b, BUS_PORT, 0xffff, 2), 0xff22);
	bus_unmap(b, &t.region);
	CHECK_EQ(map_tagged(b, &t, UINT64_MAX - 15), 0);
	CHECK_EQ(bus_read(b, BUS_MEM, UINT64_MAX, 4), 0xffffff22);
	CHECK_EQ(map_tagged(b, &all, 0), 0);
	CHECK_EQ(bus_read(b, BUS_MEM, UINT64_MAX - 15, 1), 0x22);
	CHECK_EQ(bus_read(b, BUS_MEM, UINT64_MAX - 16, 1), 0x33);
	CHECK_EQ(bus_read(b, BUS_MEM, 0, 1), 0x33);
	bus_free(b);
}

static void test_priorities(void)
{
	struct bus *b = bus_new(&host_ops, NULL);
	struct tagged low = make_tagged(1, 0x1000, 0), high = make_tagged(2, 0x10, 1);
	struct tagged later = make_tagged(3, 0x1000, 0);

	CHECK_EQ(map_tagged(b, &low, 0x1000), 0);
	CHECK_EQ(map_tagged(b, &high, 0x1100), 0);
	CHECK_EQ(map_tagged(b, &later, 0x1800), 0);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x10ff, 1), 1);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1100, 1), 2);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x110f, 1), 2);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1110, 1), 1);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1fff, 1), 1);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x2000, 1), 3);
	/* The owner of the first byte takes what fits into it; an access out of the higher one is split. */
	CHECK_EQ(bus_read(b, BUS_MEM, 0x10fe, 4), 0xfe01);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x110e, 4), 0x01010202);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1ffe, 4), 0x03030101);
	/* Offsets count from the region's own start, also behind the one in front. */
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1200, 4), 0x20001);
	bus_unmap(b, &low.region);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1fff, 1), 3);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x1100, 1), 2);
	CHECK_EQ(bus_read(b, BUS_MEM, 0x10ff, 1), 0xff);
	bus_free(b);
}

static void test_map_full(void)
{
	static struct tagged t[BUS_MAX_REGIONS + 1];
	struct bus *b = bus_new(&host_ops, NULL);

	for (unsigned int i = 0; i <= BUS_MAX_REGIONS; i++) {
		t[i] = make_tagged((uint8_t)i, 0x10, 0);
		CHECK_EQ(map_tagged(b, &t[i], i * 0x20), i < BUS_MAX_REGIONS ? 0 : -ENOSPC);
	}
	for (unsigned int i = 0; i < BUS_MAX_REGIONS; i++) {
		CHECK_EQ(bus_read(b, BUS_MEM, i * 0x20 + 0xf, 1), i & 0xff);
		CHECK_EQ(bus_read(b, BUS_MEM, i * 0x20 + 0x10, 1), 0xff);
	}
	CHECK(!t[BUS_MAX_REGIONS].region.mapped);
	bus_unmap(b, &t[0].region);
	CHECK_EQ(map_tagged(b, &t[BUS_MAX_REGIONS], 0), 0);
	bus_free(b);
}

static void test_irq_wires_are_shared(void)
{
	struct host h = { 0 };
	struct bus *b = bus_new(&host_ops, &h);
	struct bus_irq one, two, other;

	bus_irq_init(b, &one, 16);
	bus_irq_init(b, &two, 16);
	bus_irq_init(b, &other, 17);
	bus_irq_set(&one, true);
	bus_irq_set(&one, true);
	bus_irq_set(&two, true);
	CHECK_EQ(h.irq_calls, 1);
	CHECK(h.levels[16] && !h.levels[17]);
	bus_irq_set(&one, false);
	CHECK(h.levels[16]);
	bus_irq_set(&two, false);
	CHECK(!h.levels[16]);
	CHECK_EQ(h.irq_calls, 2);
	bus_irq_pulse(&other);
	CHECK_EQ(h.irq_calls, 4);
	CHECK(!h.levels[17]);
	bus_free(b);
}

static void test_pass_through(void)
{
	struct host h = { 0 };
	struct bus *b = bus_new(&host_ops, &h);
	struct bus_msi msi;
	struct bus_slot slot = { .len = 4096 };
	struct bus_doorbell bell = { .size = 4 };
	uint64_t bitmap = 0;

	CHECK_EQ(bus_msi_new(b, &msi), 0);
	bus_msi_update(b, &msi, 0xfee00000, 0x41);
	CHECK_EQ(msi.addr, 0xfee00000);
	bus_msi_fire(b, &msi, NULL);
	CHECK_EQ(h.msi_fired, 1);
	msi.fd = fd_event_new();
	bus_msi_fire(b, &msi, NULL);
	CHECK_EQ(h.msi_fired, 1);
	CHECK_EQ(fd_event_clear(msi.fd), 1);
	CHECK_EQ(msi.fired, 2);
	fd_close(&msi.fd);
	bus_msi_free(b, &msi);
	CHECK_EQ(h.msi_live, 0);

	CHECK_EQ(bus_slot_dirty(b, &slot, &bitmap), -ENOENT);
	h.fail = -EEXIST;
	CHECK_EQ(bus_slot_add(b, &slot), -EEXIST);
	CHECK_EQ(bus_doorbell_add(b, &bell), -EEXIST);
	CHECK(!slot.active && !bell.active);
	bus_slot_del(b, &slot);
	bus_doorbell_del(b, &bell);
	h.fail = 0;
	CHECK_EQ(bus_slot_add(b, &slot), 0);
	CHECK_EQ(bus_slot_dirty(b, &slot, &bitmap), 0);
	CHECK_EQ(bitmap, 5);
	CHECK_EQ(bus_doorbell_add(b, &bell), 0);
	bus_slot_del(b, &slot);
	bus_doorbell_del(b, &bell);
	CHECK_EQ(h.slots + h.bells, 0);
	bus_request(b, BUS_POWEROFF);
	CHECK_EQ(h.requests, 1u << BUS_POWEROFF);
	bus_free(b);
}

/* One thread moves a region between two places, others look it up. */
struct race {
	struct bus *bus;
	struct tagged moving, fixed;
	bool stop;
	unsigned int wrong;
};

static void *race_reader(void *arg)
{
	struct race *r = arg;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		uint64_t a = bus_read(r->bus, BUS_MEM, 0x1010, 2);
		uint64_t f = bus_read(r->bus, BUS_MEM, 0x1804, 2);

		/* Found where it was at the time of a lookup, whole or bytewise; never at a mixed place. */
		bool whole = a == 0x1001 || a == 0x0001;
		bool bytes = a == 0xffff || a == 0xff01 || a == 0x01ff || a == 0x0101;

		if ((!whole && !bytes) || f != 0x0402)
			__atomic_fetch_add(&r->wrong, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void test_lookup_while_mapping(void)
{
	struct race r = { .bus = bus_new(&host_ops, NULL),
			  .moving = make_tagged(1, 0x100, 0),
			  .fixed = make_tagged(2, 0x10, 0) };
	pthread_t readers[2];

	CHECK_EQ(map_tagged(r.bus, &r.fixed, 0x1800), 0);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&readers[i], NULL, race_reader, &r), 0);
	for (int i = 0; i < 20000; i++) {
		CHECK_EQ(map_tagged(r.bus, &r.moving, i & 1 ? 0x1000 : 0x1010), 0);
		bus_unmap(r.bus, &r.moving.region);
		if (i % 64 == 0)
			usleep(10);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	CHECK_EQ(r.wrong, 0);
	bus_free(r.bus);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "unclaimed", test_unclaimed },
		{ "map_and_lookup", test_map_and_lookup },
		{ "limits", test_limits },
		{ "priorities", test_priorities },
		{ "map_full", test_map_full },
		{ "irq_wires_are_shared", test_irq_wires_are_shared },
		{ "pass_through", test_pass_through },
		{ "lookup_while_mapping", test_lookup_while_mapping },
	};

	return RUN_CASES(cases, argc, argv);
}
