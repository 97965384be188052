/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "bench/tb_vq.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/macros.h"
#include "virtio/virtq.h"

/* Two regions with a hole between them, as below and above the PCI window. */
#define LOW_SIZE (1 * MIB)
#define HIGH (16 * MIB)
#define HIGH_SIZE (1 * MIB)
#define RINGS 0x1000
#define TABLE 0x20000
#define DATA 0x40000
#define F_INDIRECT BIT64(28)
#define F_EVENT BIT64(29)

struct fixture {
	struct mem *mem;
	struct dma dma;
	struct virtq q;
	struct tb_vq drv;
	struct virtq_chain c;
};

/* One world for all cases; each case starts it anew. */
static struct fixture f;

static void setup(uint16_t size, uint64_t features)
{
	struct err err;

	mem_free(f.mem);
	memset(&f, 0, sizeof(f));
	f.mem = mem_new();
	CHECK(f.mem);
	CHECK_EQ(mem_add_ram(f.mem, 0, LOW_SIZE, 0, &err), 0);
	CHECK_EQ(mem_add_ram(f.mem, HIGH, HIGH_SIZE, 0, &err), 0);
	dma_init(&f.dma, f.mem, true);
	tb_vq_init(&f.drv, f.mem, size, RINGS);
	CHECK_EQ(virtq_enable(&f.q, &f.dma, size, f.drv.desc, f.drv.avail, f.drv.used, features),
		 0);
}

static int pop(void)
{
	return virtq_pop(&f.q, &f.c);
}

static void add(gpa_t addr, uint32_t len, bool write)
{
	const struct tb_buf b = { addr, len, write };

	tb_vq_add(&f.drv, &b, 1);
}

static void test_basic(void)
{
	const struct tb_buf b[] = { { DATA, 16, false },
				    { DATA + 512, 100, true },
				    { DATA + 4096, 1, true } };
	uint8_t buf[128];
	uint32_t id, len;
	uint16_t head;

	setup(8, 0);
	CHECK(virtq_is_empty(&f.q));
	CHECK_EQ(pop(), 0);
	CHECK_EQ(mem_fill(f.mem, DATA, 0x5a, 16), 0);
	head = tb_vq_add(&f.drv, b, 3);
	CHECK(!virtq_is_empty(&f.q));
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.head, head);
	CHECK_EQ(f.c.nread, 1);
	CHECK_EQ(f.c.nwrite, 2);
	CHECK_EQ(f.c.read_len, 16);
	CHECK_EQ(f.c.write_len, 101);
	CHECK_EQ(pop(), 0);

	CHECK_EQ(virtq_read(&f.c, 4, buf, sizeof(buf)), 12);
	CHECK_EQ(buf[11], 0x5a);
	memset(buf, 7, sizeof(buf));
	CHECK_EQ(virtq_write(&f.c, 98, buf, sizeof(buf)), 3);
	CHECK_EQ(virtq_write(&f.c, 101, buf, 1), 0);
	CHECK_EQ(mem_read(f.mem, DATA + 4096, buf + 64, 2), 0);
	CHECK_EQ(buf[64], 7);
	CHECK_EQ(buf[65], 0);

	CHECK(!tb_vq_used(&f.drv, &id, &len));
	virtq_push(&f.q, head, 101);
	CHECK(!tb_vq_used(&f.drv, &id, &len));
	CHECK(virtq_publish(&f.q));
	CHECK(!virtq_publish(&f.q));
	CHECK(tb_vq_used(&f.drv, &id, &len));
	CHECK_EQ(id, head);
	CHECK_EQ(len, 101);
	CHECK_EQ(f.q.popped, f.q.pushed);
}

static void test_slice(void)
{
	const struct tb_buf b[] = { { DATA, 16, false },
				    { DATA + 512, 100, true },
				    { DATA + 4096, 60, true } };
	struct iovec v[4];

	setup(8, 0);
	tb_vq_add(&f.drv, b, 3);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(virtq_slice(&f.c, true, 0, 160, v, 4), 2);
	CHECK_EQ(v[0].iov_len, 100);
	CHECK_EQ(v[1].iov_len, 60);
	CHECK_EQ(virtq_slice(&f.c, true, 99, 2, v, 4), 2);
	CHECK_EQ(v[0].iov_len, 1);
	CHECK_EQ(v[1].iov_len, 1);
	CHECK(v[0].iov_base == (uint8_t *)f.c.iov[1].iov_base + 99);
	CHECK_EQ(virtq_slice(&f.c, true, 100, 60, v, 4), 1);
	CHECK_EQ(virtq_slice(&f.c, true, 160, 0, v, 4), 0);
	CHECK_EQ(virtq_slice(&f.c, true, 160, 1, v, 4), -EINVAL);
	CHECK_EQ(virtq_slice(&f.c, true, SIZE_MAX, 2, v, 4), -EINVAL);
	CHECK_EQ(virtq_slice(&f.c, true, 0, 160, v, 1), -E2BIG);
	CHECK_EQ(virtq_slice(&f.c, false, 0, 17, v, 4), -EINVAL);
	CHECK_EQ(virtq_slice(&f.c, false, 15, 1, v, 4), 1);
}

static void test_loops(void)
{
	const struct tb_buf b = { DATA, 16, false };

	/* to itself */
	setup(8, 0);
	tb_vq_desc(&f.drv, f.drv.desc, 0, &b, TB_NEXT, 0);
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), -EINVAL);
	/* two and all of them, with and without data */
	for (uint16_t n = 2; n <= 8; n = (uint16_t)(n + 6)) {
		for (int zero = 0; zero < 2; zero++) {
			const struct tb_buf e = { DATA, zero ? 0 : 16, false };

			setup(8, 0);
			for (uint16_t i = 0; i < n; i++)
				tb_vq_desc(&f.drv, f.drv.desc, i, &e, TB_NEXT,
					   (uint16_t)((i + 1) % n));
			tb_vq_avail(&f.drv, 0);
			CHECK_EQ(pop(), -EINVAL);
			CHECK_EQ(f.q.popped, 0);
		}
	}
	/* a chain of exactly queue size is legal */
	setup(8, 0);
	for (uint16_t i = 0; i < 8; i++)
		tb_vq_desc(&f.drv, f.drv.desc, i, &b, i < 7 ? TB_NEXT : 0, (uint16_t)(i + 1));
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.nread, 8);
	/* inside an indirect table */
	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, &b, 1);
	tb_vq_desc(&f.drv, TABLE, 0, &b, TB_NEXT, 0);
	CHECK_EQ(pop(), -EINVAL);
}

static void test_next_range(void)
{
	const struct tb_buf b = { DATA, 16, false };
	const uint16_t bad[] = { 8, 9, 0x7fff, 0x8000, 0xffff };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup(8, 0);
		tb_vq_desc(&f.drv, f.drv.desc, 0, &b, TB_NEXT, bad[i]);
		tb_vq_avail(&f.drv, 0);
		CHECK_EQ(pop(), -EINVAL);
	}
}

static void test_indirect_ok(void)
{
	const struct tb_buf b[] = { { DATA, 16, false },
				    { DATA + 512, 100, true },
				    { HIGH, 7, true } };
	struct tb_buf many[8];
	struct tb_buf t = { TABLE + 1, 48, false };

	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, b, 3);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.nread, 1);
	CHECK_EQ(f.c.nwrite, 2);
	CHECK_EQ(f.c.write_len, 107);
	for (int i = 0; i < 8; i++)
		many[i] = b[1];
	tb_vq_add_indirect(&f.drv, TABLE, many, 8);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.nwrite, 8);
	/* a table may stand at any address, and behind direct descriptors */
	setup(8, F_INDIRECT);
	tb_vq_desc(&f.drv, TABLE + 1, 0, &b[1], 0, 0);
	t.len = 16;
	tb_vq_desc(&f.drv, f.drv.desc, 0, &b[0], TB_NEXT, 1);
	tb_vq_desc(&f.drv, f.drv.desc, 1, &t, TB_INDIRECT, 0);
	tb_vq_desc(&f.drv, TABLE + 1, 0, &b[1], TB_WRITE, 0);
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.nread, 1);
	CHECK_EQ(f.c.nwrite, 1);
}

static void test_indirect_nested(void)
{
	const struct tb_buf b = { DATA, 16, false };

	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, &b, 1);
	tb_vq_desc(&f.drv, TABLE, 0, &b, TB_INDIRECT, 0);
	CHECK_EQ(pop(), -EINVAL);
}

static void test_indirect_length(void)
{
	const uint32_t bad[] = { 0, 1, 15, 17, 16 * 9, 0xfffffff0 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		const struct tb_buf t = { TABLE, bad[i], false };

		setup(8, F_INDIRECT);
		tb_vq_desc(&f.drv, f.drv.desc, 0, &t, TB_INDIRECT, 0);
		tb_vq_avail(&f.drv, 0);
		CHECK_EQ(pop(), -EINVAL);
	}
}

static void test_indirect_refused(void)
{
	const struct tb_buf b = { DATA, 16, false };
	const gpa_t bad[] = { LOW_SIZE, LOW_SIZE - 8, UINT64_MAX - 15, 8 * MIB };

	setup(8, 0);
	tb_vq_add_indirect(&f.drv, TABLE, &b, 1);
	CHECK_EQ(pop(), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup(8, F_INDIRECT);
		tb_vq_add_indirect(&f.drv, bad[i], &b, 1);
		CHECK_EQ(pop(), -EINVAL);
	}
}

static void test_indirect_with_next(void)
{
	const struct tb_buf b = { DATA, 16, false };
	const struct tb_buf t = { TABLE, 16, false };

	setup(8, F_INDIRECT);
	tb_vq_desc(&f.drv, TABLE, 0, &b, 0, 0);
	tb_vq_desc(&f.drv, f.drv.desc, 0, &t, TB_INDIRECT | TB_NEXT, 1);
	tb_vq_desc(&f.drv, f.drv.desc, 1, &b, 0, 0);
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), -EINVAL);
}

static void test_indirect_then_direct(void)
{
	const struct tb_buf b = { DATA, 16, false };

	/* next inside an indirect table is limited by the table, not by the queue, and the other way round */
	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, &b, 1);
	tb_vq_desc(&f.drv, TABLE, 0, &b, TB_NEXT, 1);
	CHECK_EQ(pop(), -EINVAL);
	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, &b, 1);
	CHECK_EQ(pop(), 1);
	tb_vq_desc(&f.drv, f.drv.desc, 1, &b, TB_NEXT, 8);
	tb_vq_avail(&f.drv, 1);
	CHECK_EQ(pop(), -EINVAL);
}

static void test_avail_jump(void)
{
	const uint16_t jump[] = { 9, 100, 0x8000, 65535 };

	for (size_t i = 0; i < ARRAY_LEN(jump); i++) {
		setup(8, 0);
		tb_vq_put16(&f.drv, f.drv.avail + 2, jump[i]);
		CHECK_EQ(pop(), -EINVAL);
		CHECK_EQ(f.q.popped, 0);
	}
}

static void test_head_range(void)
{
	setup(8, 0);
	tb_vq_avail(&f.drv, 8);
	CHECK_EQ(pop(), -EINVAL);
	setup(8, 0);
	tb_vq_avail(&f.drv, 0xffff);
	CHECK_EQ(pop(), -EINVAL);
}

static void test_head_twice(void)
{
	uint32_t id, len;

	setup(8, 0);
	add(DATA, 64, true);
	CHECK_EQ(pop(), 1);
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), -EINVAL);
	/* the first one still completes, once */
	virtq_push(&f.q, 0, 64);
	virtq_publish(&f.q);
	CHECK(tb_vq_used(&f.drv, &id, &len));
	CHECK_EQ(id, 0);
	CHECK(!tb_vq_used(&f.drv, &id, &len));
	/* and then the head is free again */
	CHECK_EQ(pop(), 1);
}

static void test_zero_length(void)
{
	for (int pos = 0; pos < 3; pos++) {
		struct tb_buf b[] = { { DATA, 8, false },
				      { DATA + 8, 8, false },
				      { DATA + 16, 8, true } };

		setup(8, 0);
		b[pos].len = 0;
		b[pos].addr = pos ? 8 * MIB : DATA;
		tb_vq_add(&f.drv, b, 3);
		CHECK_EQ(pop(), 1);
		CHECK_EQ(f.c.nread + f.c.nwrite, 2);
		CHECK_EQ(f.c.read_len + f.c.write_len, 16);
	}
}

static void test_bad_address(void)
{
	const struct tb_buf bad[] = {
		{ UINT64_MAX, 1, false },	{ UINT64_MAX - 0xfff, 0x2000, false },
		{ 8 * MIB, 16, true },		{ LOW_SIZE - 1, 2, false },
		{ 0xfee00000, 4, true },	{ 0, UINT32_MAX, true },
		{ HIGH + HIGH_SIZE, 1, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup(8, 0);
		tb_vq_add(&f.drv, &bad[i], 1);
		CHECK_EQ(pop(), -EINVAL);
	}
}

static void test_total_length(void)
{
	struct tb_buf b[8];
	const struct tb_buf last = { DATA, 16, true };

	/* 8 x 512 MiB would wrap a 32-bit sum; such memory does not exist, so no piece is ever mapped */
	setup(8, 0);
	for (int i = 0; i < 8; i++)
		b[i] = (struct tb_buf){ DATA, 0x20000000, true };
	tb_vq_add(&f.drv, b, 8);
	CHECK_EQ(pop(), -EINVAL);
	setup(8, 0);
	tb_vq_add(&f.drv, &last, 1);
	CHECK_EQ(pop(), 1);
}

static void test_too_many_pieces(void)
{
	const struct tb_buf b = { DATA, 16, false };

	setup(512, 0);
	for (uint16_t i = 0; i < VIRTQ_MAX_IOV + 1; i++)
		tb_vq_desc(&f.drv, f.drv.desc, i, &b, i < VIRTQ_MAX_IOV ? TB_NEXT : 0,
			   (uint16_t)(i + 1));
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), -EINVAL);
	setup(512, 0);
	for (uint16_t i = 0; i < VIRTQ_MAX_IOV; i++)
		tb_vq_desc(&f.drv, f.drv.desc, i, &b, i < VIRTQ_MAX_IOV - 1 ? TB_NEXT : 0,
			   (uint16_t)(i + 1));
	tb_vq_avail(&f.drv, 0);
	CHECK_EQ(pop(), 1);
	CHECK_EQ(f.c.nread, VIRTQ_MAX_IOV);
}

static void test_direction(void)
{
	const struct tb_buf b[] = { { DATA, 16, true }, { DATA + 512, 16, false } };

	setup(8, F_INDIRECT);
	tb_vq_add(&f.drv, b, 2);
	CHECK_EQ(pop(), -EINVAL);
	setup(8, F_INDIRECT);
	tb_vq_add_indirect(&f.drv, TABLE, b, 2);
	CHECK_EQ(pop(), -EINVAL);
}

struct racer {
	uint8_t *table;
	bool stop;
};

/* Rewrites the descriptors of a chain as fast as it can: good and bad values in turn. */
static void *race(void *arg)
{
	struct racer *r = arg;
	uint32_t x = 1;

	while (!__atomic_load_n(&r->stop, __ATOMIC_RELAXED)) {
		uint64_t *d;

		x = x * 1664525 + 1013904223;
		d = (uint64_t *)(void *)(r->table + 16 * ((x >> 8) % 8));
		__atomic_store_n(&d[0], x & 1 ? DATA : UINT64_MAX - (x >> 16), __ATOMIC_RELAXED);
		__atomic_store_n(&d[1],
				 (x & 2 ? 64 : UINT32_MAX) | (uint64_t)(x >> 28) << 32 |
					 (uint64_t)(x >> 20 & 15) << 48,
				 __ATOMIC_RELAXED);
	}
	return NULL;
}

static bool chain_in_ram(const struct virtq_chain *c, const uint8_t *ram)
{
	uint64_t sum = 0;

	for (int i = 0; i < c->nread + c->nwrite; i++) {
		const uint8_t *p = c->iov[i].iov_base;

		if (p < ram || p + c->iov[i].iov_len > ram + LOW_SIZE)
			return false;
		sum += c->iov[i].iov_len;
	}
	return sum == (uint64_t)c->read_len + c->write_len;
}

static void test_race(void)
{
	struct racer r = { 0 };
	pthread_t t;
	uint8_t *ram;
	bool good = true;
	int chains = 0;

	setup(8, F_INDIRECT);
	ram = mem_ring(f.mem, 0, LOW_SIZE, 1);
	CHECK(ram);
	r.table = ram + RINGS;
	CHECK_EQ(pthread_create(&t, NULL, race, &r), 0);
	for (int i = 0; i < 200000 && good; i++) {
		tb_vq_avail(&f.drv, (uint16_t)(i % 8));
		if (pop() == 1) {
			chains++;
			good = chain_in_ram(&f.c, ram);
			virtq_push(&f.q, f.c.head, 0);
			virtq_publish(&f.q);
		} else {
			f.drv.avail_idx = f.q.last_avail;
			tb_vq_put16(&f.drv, f.drv.avail + 2, f.drv.avail_idx);
		}
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	CHECK(good);
	CHECK(chains > 0);
}

static int enable(uint16_t size, gpa_t d, gpa_t a, gpa_t u)
{
	int r = virtq_enable(&f.q, &f.dma, size, d, a, u, 0);

	if (r < 0)
		CHECK_EQ(f.q.size, 0);
	return r;
}

static void test_sizes(void)
{
	setup(8, 0);
	CHECK_EQ(enable(0, 0x1000, 0x2000, 0x3000), -EINVAL);
	CHECK_EQ(enable(3, 0x1000, 0x2000, 0x3000), -EINVAL);
	CHECK_EQ(enable(2048, 0x10000, 0x20000, 0x30000), -EINVAL);
	CHECK_EQ(enable(32769, 0x10000, 0x80000, 0x90000), -EINVAL);
	CHECK_EQ(enable(1, 0x1000, 0x2000, 0x3000), 0);
	CHECK_EQ(enable(VIRTQ_MAX_SIZE, 0x10000, 0x20000, 0x30000), 0);
	/* a queue that is not enabled is inert */
	virtq_disable(&f.q);
	CHECK_EQ(pop(), 0);
	CHECK(!virtq_publish(&f.q));
	CHECK(!virtq_set_notify(&f.q, true));
	CHECK(virtq_is_empty(&f.q));
}

static void test_ring_places(void)
{
	setup(8, 0);
	/* alignment */
	CHECK_EQ(enable(8, 0x1008, 0x2000, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2001, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2000, 0x3002), -EINVAL);
	/* overlap */
	CHECK_EQ(enable(8, 0x1000, 0x1000, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x107e, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x1080, 0x1094), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2000, 0x1040), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x1080, 0x1098), 0);
	/* holes and ends */
	CHECK_EQ(enable(8, LOW_SIZE, 0x2000, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, LOW_SIZE - 0x70, 0x2000, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, LOW_SIZE - 0x80, 0x2000, 0x3000), 0);
	CHECK_EQ(enable(8, 0x1000, LOW_SIZE - 20, 0x3000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, UINT64_MAX - 1, 0x3000), -EINVAL);
}

static void test_used_ring_place(void)
{
	setup(8, 0);
	CHECK_EQ(enable(8, 0x1000, 0x2000, 8 * MIB), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2000, 0xfee00000), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2000, LOW_SIZE - 64), -EINVAL);
	CHECK_EQ(enable(8, 0x1000, 0x2000, LOW_SIZE - 72), 0);
}

static void test_flags_suppression(void)
{
	setup(8, 0);
	add(DATA, 8, true);
	CHECK_EQ(pop(), 1);
	tb_vq_set_avail_flags(&f.drv, 1);
	virtq_push(&f.q, 0, 0);
	CHECK(!virtq_publish(&f.q));
	CHECK_EQ(tb_vq_used_idx(&f.drv), 1);
	CHECK(!virtq_set_notify(&f.q, false));
	CHECK_EQ(tb_vq_get16(&f.drv, f.drv.used), 1);
	CHECK(!virtq_set_notify(&f.q, true));
	CHECK_EQ(tb_vq_get16(&f.drv, f.drv.used), 0);
	add(DATA, 8, true);
	CHECK(virtq_set_notify(&f.q, true));
}

static void one_round(bool want_interrupt)
{
	add(DATA, 8, true);
	CHECK_EQ(pop(), 1);
	virtq_push(&f.q, f.c.head, 0);
	CHECK_EQ(virtq_publish(&f.q), want_interrupt);
}

static void test_event_idx(void)
{
	setup(8, F_EVENT);
	tb_vq_set_used_event(&f.drv, 0);
	one_round(true);
	one_round(false);
	tb_vq_set_used_event(&f.drv, 65535);
	one_round(false);
	tb_vq_set_used_event(&f.drv, 3);
	one_round(true);
	/* two entries published at once that step over the event */
	tb_vq_set_used_event(&f.drv, 4);
	add(DATA, 8, true);
	add(DATA, 8, true);
	CHECK_EQ(pop(), 1);
	virtq_push(&f.q, f.c.head, 0);
	CHECK_EQ(pop(), 1);
	virtq_push(&f.q, f.c.head, 0);
	CHECK(virtq_publish(&f.q));
	/* kicks: the event index is where the device stands */
	CHECK(!virtq_set_notify(&f.q, true));
	CHECK_EQ(tb_vq_avail_event(&f.drv), 6);
	CHECK_EQ(tb_vq_get16(&f.drv, f.drv.used), 0);
	add(DATA, 8, true);
	CHECK(virtq_set_notify(&f.q, true));
}

/*
 * A driver that sleeps until an interrupt and a device that sleeps until a kick, with event indices set as each side
 * does before sleeping: if a notification were lost, neither would move.
 */
static void test_no_lost_notification(void)
{
	uint32_t x = 12345, id, len, in = 0, out = 0;
	bool device_awake = false, driver_awake = true;

	setup(16, F_EVENT);
	virtq_set_notify(&f.q, true);
	while (out < 300000) {
		bool moved = false;

		x = x * 1664525 + 1013904223;
		if (driver_awake) {
			moved = true;
			while (tb_vq_used(&f.drv, &id, &len))
				out++;
			for (uint32_t n = x >> 30; n && in - out < 16; n--, in++) {
				uint16_t event = tb_vq_avail_event(&f.drv), old = f.drv.avail_idx;

				add(DATA, 8, true);
				device_awake |= event == old;
			}
			tb_vq_set_used_event(&f.drv, f.drv.seen);
			driver_awake = tb_vq_used_idx(&f.drv) != f.drv.seen || in == out;
		}
		if (device_awake) {
			moved = true;
			for (uint32_t n = x >> 29 & 3; n && pop() == 1; n--)
				virtq_push(&f.q, f.c.head, len = f.c.write_len);
			driver_awake |= virtq_publish(&f.q);
			device_awake = virtq_set_notify(&f.q, true);
		}
		CHECK(moved);
	}
	CHECK(f.q.pushed >= 300000);
}

static void test_wrap(void)
{
	uint8_t byte;
	uint32_t id, len;

	setup(4, 0);
	for (uint32_t i = 0; i < 3 * 65536 + 5; i++) {
		uint8_t want = (uint8_t)(i * 7 + (i >> 8));
		gpa_t at = DATA + i % 4096;

		add(at, 1, true);
		CHECK_EQ(pop(), 1);
		CHECK_EQ(virtq_write(&f.c, 0, &want, 1), 1);
		virtq_push(&f.q, f.c.head, 1);
		CHECK(virtq_publish(&f.q));
		CHECK(tb_vq_used(&f.drv, &id, &len));
		CHECK_EQ(id, i % 4);
		CHECK_EQ(mem_read(f.mem, at, &byte, 1), 0);
		CHECK_EQ(byte, want);
	}
	CHECK_EQ(f.q.popped, f.q.pushed);
}

static void test_bus_master_off(void)
{
	setup(8, 0);
	add(DATA, 8, true);
	add(DATA, 8, true);
	CHECK_EQ(pop(), 1);
	dma_enable(&f.dma, false);
	CHECK_EQ(pop(), 0);
	virtq_push(&f.q, 0, 8);
	CHECK(!virtq_publish(&f.q));
	CHECK_EQ(tb_vq_used_idx(&f.drv), 0);
	CHECK(!virtq_set_notify(&f.q, true));
	CHECK_EQ(enable(8, 0x1000, 0x2000, 0x3000), -EINVAL);
}

static void test_full_queue(void)
{
	setup(8, 0);
	for (int i = 0; i < 8; i++)
		add(DATA, 8, true);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(pop(), 1);
	CHECK_EQ(pop(), 0);
	for (uint16_t i = 0; i < 8; i++)
		virtq_push(&f.q, (uint16_t)(7 - i), 0);
	CHECK(virtq_publish(&f.q));
	CHECK_EQ(tb_vq_used_idx(&f.drv), 8);
}

static const struct test_case cases[] = {
	{ "virtq basic request", test_basic },
	{ "virtq slice", test_slice },
	{ "VQ-01 descriptor loops", test_loops },
	{ "VQ-02 next out of range", test_next_range },
	{ "virtq indirect tables", test_indirect_ok },
	{ "VQ-03 nested indirect", test_indirect_nested },
	{ "VQ-04 indirect length", test_indirect_length },
	{ "VQ-05 indirect not negotiated or not RAM", test_indirect_refused },
	{ "VQ-06 indirect with next", test_indirect_with_next },
	{ "VQ-07 indirect then direct", test_indirect_then_direct },
	{ "VQ-08 avail index jumps", test_avail_jump },
	{ "VQ-09 head out of range", test_head_range },
	{ "VQ-10 head twice", test_head_twice },
	{ "VQ-11 zero length", test_zero_length },
	{ "VQ-12 bad addresses", test_bad_address },
	{ "VQ-12 total length", test_total_length },
	{ "VQ-12 too many pieces", test_too_many_pieces },
	{ "VQ-13 readable after writable", test_direction },
	{ "VQ-14 chain rewritten while walked", test_race },
	{ "VQ-15 queue sizes", test_sizes },
	{ "VQ-17 ring addresses", test_ring_places },
	{ "VQ-25 flags suppression", test_flags_suppression },
	{ "VQ-25 event index", test_event_idx },
	{ "VQ-25 no lost notification", test_no_lost_notification },
	{ "VQ-29 index wrap", test_wrap },
	{ "VQ-30 used ring address", test_used_ring_place },
	{ "G-13 bus master off", test_bus_master_off },
	{ "G-19 full queue", test_full_queue },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	mem_free(f.mem);
	return r;
}
