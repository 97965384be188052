/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <sys/random.h>

#include "bench/tb_virtio.h"
#include "hw/models.h"
#include "run.h"
#include "util/err.h"
#include "virtio/virtio.h"

/* The host's generator as the test wants it: bytes that can be told from memory that nobody wrote. */
struct source {
	int fail_after; /* calls until it fails with EAGAIN, -1: never */
	int interrupt; /* calls that are interrupted first */
	size_t max; /* bytes per call */
	unsigned int calls;
};

static struct source source;

ssize_t getrandom(void *buf, size_t len, unsigned int flags)
{
	(void)flags;
	source.calls++;
	if (source.interrupt > 0) {
		source.interrupt--;
		errno = EINTR;
		return -1;
	}
	if (source.fail_after == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (source.fail_after > 0)
		source.fail_after--;
	len = MIN(len, source.max);
	memset(buf, 0xa5, len);
	return (ssize_t)len;
}

#define QUEUE_SIZE 64
#define DATA_SIZE (1 * MIB)
#define POISON 0x11

static struct tb *tb;
static struct dev *d;
static struct tb_vq vq;
static gpa_t data;

static void setup(void)
{
	struct err err;

	source = (struct source){ .fail_after = -1, .max = SIZE_MAX };
	tb_free(tb);
	tb = tb_new(NULL);
	d = tb_add(tb, &virtio_rnd_ops, NULL, &err);
	CHECK(d);
	CHECK(tb_virtio_start(d, 0, &vq, 1, QUEUE_SIZE));
	data = tb_alloc(tb, DATA_SIZE, 4096);
	memset(tb_mem(tb, data, DATA_SIZE), POISON, DATA_SIZE);
	tb_run(tb);
}

static uint32_t request(const struct tb_buf *b, unsigned int n)
{
	uint32_t id, len;

	tb_vq_add(&vq, b, n);
	tb_virtio_kick(d, 0);
	CHECK(tb_vq_used(&vq, &id, &len));
	return len;
}

/* The first n bytes are random, the next ones are not touched. */
static void check_filled(gpa_t at, size_t n)
{
	const uint8_t *p = tb_mem(tb, at, n + 1);

	for (size_t i = 0; i < n; i++)
		CHECK_EQ(p[i], 0xa5);
	CHECK_EQ(p[n], POISON);
}

static void test_fill(void)
{
	struct tb_buf b[2];

	setup();
	b[0] = (struct tb_buf){ data, 100, true };
	b[1] = (struct tb_buf){ data + 4096, 1, true };
	CHECK_EQ(tb_cfg_read(d, 2, 2), 0x1044);
	CHECK_EQ(request(b, 2), 101);
	check_filled(data, 100);
	check_filled(data + 4096, 1);
	CHECK_EQ(tb_irqs(d, 1), 1);
}

/* With EVENT_IDX a driver kicks only past the index that the device asked for. */
static void test_asks_for_kicks(void)
{
	struct tb_buf b = { 0, 16, true };

	setup();
	CHECK(tb_virtio_start(d, VIRTIO_F_EVENT_IDX, &vq, 1, QUEUE_SIZE));
	b.addr = data = tb_alloc(tb, 4096, 4096);
	for (uint16_t i = 0; i < 5; i++) {
		CHECK_EQ(tb_vq_avail_event(&vq), i);
		CHECK_EQ(request(&b, 1), 16);
	}
}

static void test_huge(void)
{
	struct tb_buf b[QUEUE_SIZE];

	setup();
	for (int i = 0; i < QUEUE_SIZE; i++)
		b[i] = (struct tb_buf){ data, DATA_SIZE / 2, true };
	CHECK_EQ(request(b, QUEUE_SIZE), 65536);
	check_filled(data, 65536);
	/* over piece ends as well */
	memset(tb_mem(tb, data, DATA_SIZE), POISON, DATA_SIZE);
	b[0].len = 65535;
	b[1].addr = data + 0x20000;
	CHECK_EQ(request(b, 2), 65536);
	check_filled(data, 65535);
	check_filled(data + 0x20000, 1);
}

static void test_empty(void)
{
	struct tb_buf b = { 0, 4096, false };

	setup();
	b.addr = data;
	CHECK_EQ(request(&b, 1), 0);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, data, 1), POISON);
	b = (struct tb_buf){ data, 0, true };
	CHECK_EQ(request(&b, 1), 0);
	CHECK_EQ(source.calls, 0);
	CHECK_EQ(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET, 0);
}

static void test_source_fails(void)
{
	struct tb_buf b[2];

	setup();
	b[0] = (struct tb_buf){ data, 100, true };
	b[1] = (struct tb_buf){ data + 4096, 100, true };
	source.fail_after = 0;
	CHECK_EQ(request(b, 2), 0);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, data, 1), POISON);
	/* short, then nothing more */
	source.fail_after = 1;
	source.max = 30;
	CHECK_EQ(request(b, 2), 30);
	check_filled(data, 30);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, data + 4096, 1), POISON);
	/* short and interrupted reads are continued */
	source.fail_after = -1;
	source.interrupt = 3;
	CHECK_EQ(request(b, 2), 200);
	check_filled(data, 100);
	check_filled(data + 4096, 100);
}

static void test_budget(void)
{
	struct tb_buf b;
	uint32_t id, len;

	setup();
	b = (struct tb_buf){ data, 65536, true };
	for (int i = 0; i < QUEUE_SIZE; i++)
		tb_vq_add(&vq, &b, 1);
	tb_w16(d, TB_V_BAR, TB_V_NOTIFY, 0);
	loop_step(tb_loop(tb), false);
	CHECK_EQ(tb_vq_used_idx(&vq), 4); /* 256 KiB, then others have their turn */
	tb_run(tb);
	for (int i = 0; i < QUEUE_SIZE; i++)
		CHECK(tb_vq_used(&vq, &id, &len));
	CHECK(!tb_vq_used(&vq, &id, &len));
}

static void test_broken_chain(void)
{
	const struct tb_buf b = { TB_RAM, 16, true };
	uint32_t id, len;

	setup();
	tb_vq_add(&vq, &b, 1);
	tb_virtio_kick(d, 0);
	CHECK(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET);
	CHECK(!tb_vq_used(&vq, &id, &len));
	/* It waits for the driver without using the processor. */
	CHECK(tb_run(tb) == 0);
	CHECK(tb_virtio_start(d, 0, &vq, 1, QUEUE_SIZE));
	CHECK_EQ(request(&(struct tb_buf){ data, 8, true }, 1), 8);
}

static void test_bus_master_off(void)
{
	struct tb_buf b;

	setup();
	b = (struct tb_buf){ data, 64, true };
	tb_bus_master(d, false);
	tb_vq_add(&vq, &b, 1);
	tb_virtio_kick(d, 0);
	CHECK_EQ(source.calls, 0);
	CHECK_EQ(tb_vq_used_idx(&vq), 0);
}

static void test_pause_reset(void)
{
	struct tb_buf b;

	setup();
	b = (struct tb_buf){ data, 64, true };
	CHECK(tb_pause(tb));
	tb_vq_add(&vq, &b, 1);
	tb_virtio_kick(d, 0);
	CHECK_EQ(source.calls, 0);
	tb_resume(tb);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq), 1);
	CHECK(tb_reset(tb));
	CHECK(tb_virtio_start(d, 0, &vq, 1, QUEUE_SIZE));
	CHECK_EQ(request(&b, 1), 64);
}

static void test_config(void)
{
	struct err err;

	setup();
	CHECK(!tb_add(tb, &virtio_rnd_ops, "size=5\n", &err));
	CHECK(strstr(err.text, "size"));
	CHECK_EQ(tb_r32(d, TB_V_BAR, TB_V_CONFIG), 0); /* there is no device configuration */
}

static const struct test_case cases[] = {
	{ "rnd fills buffers", test_fill },
	{ "rnd: with EVENT_IDX every request gets its kick", test_asks_for_kicks },
	{ "R-01 huge requests", test_huge },
	{ "R-02 nothing to write to", test_empty },
	{ "R-03 source fails or is short", test_source_fails },
	{ "R-01 budget per kick", test_budget },
	{ "VQ-27 broken chain", test_broken_chain },
	{ "G-13 bus master off", test_bus_master_off },
	{ "G-14 pause and reset", test_pause_reset },
	{ "rnd settings", test_config },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
