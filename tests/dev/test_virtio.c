/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_virtio.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"
#include "virtio/virtio.h"

/*
 * The transport, with a small device of its own: two queues, a config space of 12 bytes, and requests that it may
 * keep until the test lets them go, as a disk would.
 */
#define CONFIG_SIZE 12
#define QUEUE_SIZE 16
#define F_OWN BIT64(3)
#define F_CONFIG BIT64(9)
#define READY (VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER)

struct probe {
	struct virtio v;
	struct virtq_chain chain;
	uint8_t config[CONFIG_SIZE];
	bool keep; /* do not answer */
	unsigned int kicks, starts, stops, kept;
	uint64_t features;
	uint32_t kept_generation;
	uint16_t kept_head;
};

static struct probe *probe_of(struct virtio *v)
{
	return container_of(v, struct probe, v);
}

static uint64_t probe_features(struct virtio *v)
{
	(void)v;
	return F_OWN | F_CONFIG;
}

static void probe_kick(struct virtio *v, unsigned int q)
{
	struct probe *p = probe_of(v);

	p->kicks++;
	while (virtio_pop(v, q, &p->chain)) {
		if (p->keep) {
			p->kept++;
			p->kept_generation = v->generation;
			p->kept_head = p->chain.head;
			continue;
		}
		virtio_push(v, q, v->generation, p->chain.head, p->chain.write_len);
	}
	virtio_flush(v, q);
}

static uint64_t probe_config_read(struct virtio *v, uint32_t offset, unsigned int size)
{
	uint64_t value = 0;

	memcpy(&value, probe_of(v)->config + offset, size);
	return value;
}

static void probe_config_write(struct virtio *v, uint32_t offset, unsigned int size, uint64_t value)
{
	memcpy(probe_of(v)->config + offset, &value, size);
}

static void probe_started(struct virtio *v, uint64_t features)
{
	probe_of(v)->starts++;
	probe_of(v)->features = features;
}

static void probe_stopped(struct virtio *v)
{
	probe_of(v)->stops++;
}

static unsigned int probe_in_flight(struct virtio *v)
{
	return probe_of(v)->kept;
}

static const struct virtio_desc probe_desc = {
	.id = 63,
	.class_code = 0x00ff00,
	.queues = 2,
	.queue_size = QUEUE_SIZE,
	.config_size = CONFIG_SIZE,
	.features = probe_features,
	.kick = probe_kick,
	.config_read = probe_config_read,
	.config_write = probe_config_write,
	.started = probe_started,
	.stopped = probe_stopped,
	.in_flight = probe_in_flight,
};

static int probe_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	(void)env;
	(void)conf;
	return virtio_init(virtio_of(d), &probe_desc, 2, err);
}

static void probe_fini(struct dev *d)
{
	virtio_fini(virtio_of(d));
}

static void probe_reset(struct dev *d)
{
	virtio_reset(virtio_of(d));
}

static void probe_resume(struct dev *d)
{
	virtio_resume(virtio_of(d));
}

static const struct dev_ops probe_ops = {
	.model = "probe",
	.size = sizeof(struct probe),
	.init = probe_init,
	.fini = probe_fini,
	.reset = probe_reset,
	.resume = probe_resume,
};

static struct tb *tb;
static struct dev *d;
static struct probe *p;
static struct tb_vq vq[2];
static gpa_t data;

/* A device that the guest has found and enabled, without a driver. */
static void setup_with(const struct tb_opts *opts)
{
	struct err err;

	tb_free(tb);
	tb = tb_new(opts);
	d = tb_add(tb, &probe_ops, NULL, &err);
	CHECK(d);
	p = probe_of(virtio_of(d));
	data = tb_alloc(tb, 4096, 4096);
	tb_pci_enable(d);
	tb_msix_enable(d);
}

static void setup(void)
{
	setup_with(NULL);
}

/* A running driver. */
static void setup_running(void)
{
	setup();
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	tb_run(tb);
	p->kicks = p->stops = 0;
}

static void add(unsigned int q)
{
	const struct tb_buf b = { data, 16, true };

	tb_vq_add(&vq[q], &b, 1);
}

/* One request on each queue comes back. */
static void check_works(void)
{
	uint32_t id, len;

	for (unsigned int q = 0; q < 2; q++) {
		tb_irqs(d, q + 1);
		add(q);
		tb_virtio_kick(d, q);
		CHECK(tb_vq_used(&vq[q], &id, &len));
		CHECK_EQ(len, 16);
		CHECK_EQ(tb_irqs(d, q + 1), 1);
	}
}

static void test_identity(void)
{
	setup();
	CHECK_EQ(tb_cfg_read(d, 0, 2), 0x1af4);
	CHECK_EQ(tb_cfg_read(d, 2, 2), 0x1040 + 63);
	CHECK_EQ(tb_cfg_read(d, 8, 1), 1); /* revision */
	CHECK_EQ(tb_cfg_read(d, 0x2c, 2), 0x1af4);
	CHECK(tb_cfg_read(d, 0x2e, 2) >= 0x40); /* OVMF */
	CHECK_EQ(tb_bar_size(d, 0), 4096);
	CHECK_EQ(tb_bar_size(d, 4), 16384);
	CHECK_EQ(tb_doorbells(tb), 2);
}

static void test_capabilities(void)
{
	static const struct {
		uint8_t type, len;
		uint32_t offset, length;
	} want[] = {
		{ 1, 16, 0, 0x38 },    { 2, 20, 0x3000, 8 }, { 3, 16, 0x1000, 1 },
		{ 4, 16, 0x2000, 12 }, { 5, 20, 0, 0 },
	};

	setup();
	for (unsigned int i = 0; i < ARRAY_LEN(want); i++) {
		unsigned int cap = tb_cap(d, 9, i);

		CHECK(cap);
		CHECK_EQ(tb_cfg_read(d, cap + 2, 1), want[i].len);
		CHECK_EQ(tb_cfg_read(d, cap + 3, 1), want[i].type);
		CHECK_EQ(tb_cfg_read(d, cap + 4, 1), want[i].type == 5 ? 0 : 4);
		CHECK_EQ(tb_cfg_read(d, cap + 8, 4), want[i].offset);
		CHECK_EQ(tb_cfg_read(d, cap + 12, 4), want[i].length);
	}
	CHECK_EQ(tb_cfg_read(d, tb_cap(d, 9, 1) + 16, 4), 4);
	CHECK(!tb_cap(d, 9, 5));
}

static void test_reset_values(void)
{
	setup();
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK_EQ(tb_r16(d, 4, TB_V_NUM_QUEUES), 2);
	CHECK_EQ(tb_r16(d, 4, TB_V_CONFIG_VECTOR), 0xffff);
	CHECK_EQ(tb_virtio_offered(d), F_OWN | F_CONFIG | VIRTIO_F_INDIRECT_DESC |
					       VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1);
	for (uint16_t q = 0; q < 2; q++) {
		tb_w16(d, 4, TB_V_QUEUE_SELECT, q);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SELECT), q);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SIZE), QUEUE_SIZE);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_VECTOR), 0xffff);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_ENABLE), 0);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_NOTIFY_OFF), q);
		CHECK_EQ(tb_r64(d, 4, TB_V_QUEUE_DESC), 0);
	}
}

static void test_happy_path(void)
{
	setup_running();
	CHECK_EQ(p->starts, 1);
	CHECK_EQ(p->features, VIRTIO_F_VERSION_1);
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	check_works();
	CHECK_EQ(p->kicks, 2);
	CHECK_EQ(p->v.isr, 0);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE_SELECT, 1);
	CHECK_EQ(tb_r32(d, 4, TB_V_DRIVER_FEATURE_SELECT), 1);
	CHECK_EQ(tb_r32(d, 4, TB_V_DRIVER_FEATURE), 1);
}

/* Without ioeventfd the write reaches the handler, which rings the same event. */
static void test_no_doorbells(void)
{
	const struct tb_opts opts = { .no_doorbells = true };

	setup_with(&opts);
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	check_works();
}

static void test_queue_select(void)
{
	const uint16_t absent[] = { 2, 16, 17, 0x7fff, 0xffff };

	setup();
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
		tb_w16(d, 4, TB_V_QUEUE_SELECT, absent[i]);
		for (unsigned int reg = TB_V_QUEUE_SIZE; reg < 0x38; reg += 2)
			tb_w16(d, 4, reg, 1);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SIZE), 0);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_VECTOR), 0xffff);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_ENABLE), 0);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_NOTIFY_OFF), 0);
		for (unsigned int reg = TB_V_QUEUE_DESC; reg < 0x38; reg += 4)
			CHECK_EQ(tb_r32(d, 4, reg), 0);
	}
	CHECK_EQ(p->v.queues[0].enabled + p->v.queues[1].enabled, 0);
}

static void test_vectors(void)
{
	setup();
	tb_w16(d, 4, TB_V_CONFIG_VECTOR, 2);
	CHECK_EQ(tb_r16(d, 4, TB_V_CONFIG_VECTOR), 2);
	tb_w16(d, 4, TB_V_CONFIG_VECTOR, 3); /* 2 queues: vectors 0 to 2 */
	CHECK_EQ(tb_r16(d, 4, TB_V_CONFIG_VECTOR), 0xffff);
	tb_w16(d, 4, TB_V_QUEUE_VECTOR, 0x100);
	CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_VECTOR), 0xffff);
	/* a queue without a vector completes without interrupt */
	setup_running();
	tb_w16(d, 4, TB_V_QUEUE_SELECT, 0);
	tb_w16(d, 4, TB_V_QUEUE_VECTOR, 0xffff);
	tb_msis(tb);
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 1);
	CHECK_EQ(tb_msis(tb), 0);
}

static void test_notify_absent(void)
{
	setup();
	for (unsigned int i = 0; i < 100000; i++)
		tb_w16(d, 4, TB_V_NOTIFY + 2 * (i % 2048), (uint16_t)i);
	tb_run(tb);
	CHECK_EQ(p->kicks, 0);
	/* enabled, but before DRIVER_OK */
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	tb_virtio_queue(d, 0, QUEUE_SIZE, &vq[0]);
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(p->kicks, 0);
	/* what was there before DRIVER_OK is not lost */
	tb_virtio_driver_ok(d);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 1);
	/* the other queue was never enabled */
	tb_virtio_kick(d, 1);
	CHECK_EQ(p->v.queues[1].vq.size, 0);
	CHECK_EQ(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET, 0);
}

static void test_status_order(void)
{
	setup();
	tb_virtio_set_status(d, READY | VIRTIO_S_DRIVER_OK);
	CHECK_EQ(tb_virtio_status(d), READY);
	CHECK_EQ(p->starts, 0);
	tb_virtio_set_status(d, 0);
	/* FEATURES_OK before DRIVER */
	tb_w32(d, 4, TB_V_DRIVER_FEATURE_SELECT, 1);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE, 1);
	tb_virtio_set_status(d, VIRTIO_S_FEATURES_OK);
	CHECK_EQ(tb_virtio_status(d), 0);
	/* bits are not taken away */
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	tb_virtio_set_status(d, VIRTIO_S_ACKNOWLEDGE);
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK);
	/* the device's own bit and unknown ones cannot be set */
	tb_virtio_set_status(d, READY | VIRTIO_S_FEATURES_OK | 0x70);
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK);
	/* features stay after FEATURES_OK */
	tb_w32(d, 4, TB_V_DRIVER_FEATURE_SELECT, 0);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE, F_OWN);
	CHECK_EQ(tb_r32(d, 4, TB_V_DRIVER_FEATURE), 0);
	/* nothing but a reset follows FAILED */
	tb_virtio_set_status(d, READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_FAILED);
	tb_virtio_set_status(d, 0xff);
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_FAILED);
	CHECK_EQ(p->starts, 0);
	tb_virtio_set_status(d, 0);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	check_works();
}

static void test_features_refused(void)
{
	setup();
	CHECK(!tb_virtio_negotiate(d, 0)); /* not a modern driver */
	CHECK(!tb_virtio_negotiate(d, TB_V_VERSION_1 | BIT64(0)));
	CHECK(!tb_virtio_negotiate(d, TB_V_VERSION_1 | BIT64(34)));
	CHECK(!tb_virtio_negotiate(d, TB_V_VERSION_1 | BIT64(63)));
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1 | F_OWN));
	/* words 2 and up do not exist */
	tb_w32(d, 4, TB_V_DEVICE_FEATURE_SELECT, 2);
	CHECK_EQ(tb_r32(d, 4, TB_V_DEVICE_FEATURE_SELECT), 2);
	CHECK_EQ(tb_r32(d, 4, TB_V_DEVICE_FEATURE), 0);
	tb_virtio_set_status(d, 0);
	tb_virtio_set_status(d, READY);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE_SELECT, 1);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE, 1);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE_SELECT, 0xffffffff);
	CHECK_EQ(tb_r32(d, 4, TB_V_DRIVER_FEATURE), 0);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE, 0);
	tb_w32(d, 4, TB_V_DRIVER_FEATURE, 2);
	tb_virtio_set_status(d, READY | VIRTIO_S_FEATURES_OK);
	CHECK_EQ(tb_virtio_status(d), READY);
}

static void test_device_config(void)
{
	const unsigned int sizes[] = { 1, 2, 4, 8 };

	setup();
	for (unsigned int i = 0; i < CONFIG_SIZE; i++)
		tb_w8(d, 4, TB_V_CONFIG + i, (uint8_t)(i + 1));
	CHECK_EQ(tb_r32(d, 4, TB_V_CONFIG + 8), 0x0c0b0a09);
	CHECK_EQ(tb_r64(d, 4, TB_V_CONFIG + 4), 0x0c0b0a0908070605);
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
		for (unsigned int i = CONFIG_SIZE + 1 - sizes[s]; i <= 4096 - sizes[s]; i++) {
			tb_write(tb, tb_bar(d, 4) + TB_V_CONFIG + i, sizes[s], UINT64_MAX);
			CHECK_EQ(tb_read(tb, tb_bar(d, 4) + TB_V_CONFIG + i, sizes[s]), 0);
		}
	CHECK_EQ(p->config[CONFIG_SIZE - 1], CONFIG_SIZE);
}

/* Every width at every place of the BAR, aligned or not, and over the ends of the windows. */
static void test_odd_accesses(void)
{
	const unsigned int sizes[] = { 1, 2, 4, 8 };

	setup_running();
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
		for (unsigned int at = 0; at + sizes[s] <= 0x4000; at++) {
			tb_read(tb, tb_bar(d, 4) + at, sizes[s]);
			if (at < TB_V_STATUS || at > TB_V_STATUS + 8)
				tb_write(tb, tb_bar(d, 4) + at, sizes[s], 0);
		}
	/* the whole BAR as zeroes, status included, is a reset and nothing worse */
	for (unsigned int at = 0; at < 0x4000; at += 4)
		tb_w32(d, 4, at, 0);
	tb_run(tb);
	CHECK_EQ(tb_virtio_status(d), 0);
	/* an 8-byte write covers both halves of an address; a 1-byte write is no write */
	tb_w64(d, 4, TB_V_QUEUE_DESC, 0x1122334455667788);
	CHECK_EQ(tb_r64(d, 4, TB_V_QUEUE_DESC), 0x1122334455667788);
	tb_w8(d, 4, TB_V_QUEUE_DESC, 0);
	CHECK_EQ(tb_r32(d, 4, TB_V_QUEUE_DESC), 0x55667788);
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	check_works();
}

static void test_queue_sizes(void)
{
	const uint16_t bad[] = { 0, 3, 15, 17, 32, 256, 32769, 0x8000 };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		tb_w16(d, 4, TB_V_QUEUE_SIZE, bad[i]);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SIZE), QUEUE_SIZE);
	}
	tb_w16(d, 4, TB_V_QUEUE_SIZE, 4);
	CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SIZE), 4);
	/* enabling needs FEATURES_OK, and the value 1 */
	tb_w16(d, 4, TB_V_QUEUE_ENABLE, 1);
	CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_ENABLE), 0);
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	tb_w16(d, 4, TB_V_QUEUE_ENABLE, 2);
	CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_ENABLE), 0);
}

static void test_latched(void)
{
	setup();
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	for (unsigned int q = 0; q < 2; q++)
		tb_virtio_queue(d, q, QUEUE_SIZE, &vq[q]);
	for (int after = 0; after < 2; after++) {
		tb_w16(d, 4, TB_V_QUEUE_SELECT, 0);
		tb_w16(d, 4, TB_V_QUEUE_SIZE, 2);
		tb_w64(d, 4, TB_V_QUEUE_DESC, 0x5000);
		tb_w64(d, 4, TB_V_QUEUE_DEVICE, 0x6000);
		tb_w16(d, 4, TB_V_QUEUE_ENABLE, 0);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_SIZE), QUEUE_SIZE);
		CHECK_EQ(tb_r64(d, 4, TB_V_QUEUE_DESC), vq[0].desc);
		CHECK_EQ(tb_r16(d, 4, TB_V_QUEUE_ENABLE), 1);
		tb_virtio_driver_ok(d);
	}
	check_works();
}

static void test_bad_activation(void)
{
	const gpa_t bad[] = { 0x1008, TB_RAM, 0xfee00000, UINT64_MAX - 15 };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		setup();
		CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
		tb_w16(d, 4, TB_V_CONFIG_VECTOR, 0);
		tb_virtio_queue(d, 0, QUEUE_SIZE, &vq[0]);
		tb_w16(d, 4, TB_V_QUEUE_SELECT, 1);
		tb_w64(d, 4, TB_V_QUEUE_DESC, bad[i]);
		tb_w64(d, 4, TB_V_QUEUE_DRIVER, 0x8000);
		tb_w64(d, 4, TB_V_QUEUE_DEVICE, 0x9000);
		tb_w16(d, 4, TB_V_QUEUE_ENABLE, 1);
		tb_virtio_driver_ok(d);
		CHECK(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET);
		CHECK_EQ(tb_irqs(d, 0), 1);
		/* nothing is served until the driver has reset the device */
		add(0);
		tb_virtio_kick(d, 0);
		CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
		CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
		check_works();
	}
}

/* A queue that is enabled after DRIVER_OK is latched at once. */
static void test_late_enable(void)
{
	setup();
	CHECK(tb_virtio_start(d, 0, vq, 1, QUEUE_SIZE));
	tb_virtio_queue(d, 1, QUEUE_SIZE, &vq[1]);
	check_works();
}

static void test_broken_chain(void)
{
	uint32_t id, len;

	setup_running();
	tb_irqs(d, 0);
	tb_vq_avail(&vq[1], 99);
	tb_virtio_kick(d, 1);
	CHECK(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET);
	CHECK_EQ(tb_irqs(d, 0), 1);
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_irqs(d, 0), 0); /* said once */
	CHECK(!tb_vq_used(&vq[1], &id, &len));
	/* DRIVER_OK cannot be set again before a reset */
	tb_virtio_set_status(d, 0);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	check_works();
}

/* The status stays until the last request is back, then new memory is safe. */
static void test_reset_in_flight(void)
{
	struct tb_vq old;

	setup_running();
	p->keep = true;
	add(0);
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(p->kept, 2);
	old = vq[0];
	tb_virtio_set_status(d, 0);
	CHECK_EQ(p->stops, 1);
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	/* a driver that does not wait gets nowhere */
	tb_virtio_set_status(d, 0);
	tb_virtio_set_status(d, VIRTIO_S_ACKNOWLEDGE);
	CHECK(tb_virtio_status(d) & VIRTIO_S_DRIVER_OK);
	CHECK_EQ(p->stops, 1);
	/* late completions are for nobody */
	dev_lock(d);
	virtio_push(&p->v, 0, p->kept_generation, p->kept_head, 16);
	virtio_flush(&p->v, 0);
	p->kept = 0;
	dev_unlock(d);
	CHECK_EQ(tb_vq_used_idx(&old), 0);
	CHECK_EQ(tb_virtio_status(d), 0);
	p->keep = false;
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	dev_lock(d);
	virtio_push(&p->v, 0, p->kept_generation, p->kept_head, 16);
	virtio_flush(&p->v, 0);
	dev_unlock(d);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	check_works();
	CHECK_EQ(tb_vq_used_idx(&old), 0);
}

static void test_machine_reset(void)
{
	setup_running();
	check_works();
	CHECK(tb_reset(tb));
	CHECK_EQ(p->stops, 1);
	tb_pci_enable(d);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK(tb_virtio_start(d, 0, vq, 2, QUEUE_SIZE));
	check_works();
}

static void test_pause(void)
{
	setup_running();
	CHECK(tb_pause(tb));
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(p->kicks, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	tb_resume(tb);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 1);
	check_works();
}

static void test_kick_again(void)
{
	setup_running();
	dev_lock(d);
	virtio_kick_again(&p->v, 1);
	dev_unlock(d);
	tb_run(tb);
	CHECK_EQ(p->kicks, 1);
}

static void test_bus_master_off(void)
{
	setup_running();
	tb_bus_master(d, false);
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	CHECK_EQ(tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET, 0);
	tb_bus_master(d, true);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 1);
}

static void test_intx(void)
{
	setup();
	tb_msix_disable(d);
	CHECK(tb_virtio_negotiate(d, TB_V_VERSION_1));
	tb_virtio_queue(d, 0, QUEUE_SIZE, &vq[0]);
	tb_virtio_driver_ok(d);
	tb_run(tb);
	CHECK(!tb_intx(d));
	add(0);
	tb_virtio_kick(d, 0);
	CHECK(tb_intx(d));
	/* reading ISR tells why, and lowers the wire */
	CHECK_EQ(tb_r8(d, 4, TB_V_ISR), 1);
	CHECK(!tb_intx(d));
	CHECK_EQ(tb_r8(d, 4, TB_V_ISR), 0);
	dev_lock(d);
	virtio_config_changed(&p->v);
	dev_unlock(d);
	CHECK(tb_intx(d));
	CHECK_EQ(tb_r8(d, 4, TB_V_GENERATION), 1);
	CHECK_EQ(tb_r8(d, 4, TB_V_ISR), 2);
	CHECK(!tb_intx(d));
	/* a reset lowers it too */
	add(0);
	tb_virtio_kick(d, 0);
	CHECK(tb_intx(d));
	tb_virtio_set_status(d, 0);
	CHECK(!tb_intx(d));
	CHECK_EQ(tb_r8(d, 4, TB_V_ISR), 0);
}

static void test_config_changed(void)
{
	setup();
	dev_lock(d);
	virtio_config_changed(&p->v); /* no driver: nobody is told */
	dev_unlock(d);
	CHECK_EQ(tb_msis(tb), 0);
	CHECK_EQ(tb_r8(d, 4, TB_V_GENERATION), 1);
	setup_running();
	tb_irqs(d, 0);
	dev_lock(d);
	virtio_config_changed(&p->v);
	dev_unlock(d);
	CHECK_EQ(tb_irqs(d, 0), 1);
}

static void aim(unsigned int cap, uint8_t bar, uint32_t offset, uint32_t length)
{
	tb_cfg_write(d, cap + 4, 1, bar);
	tb_cfg_write(d, cap + 8, 4, offset);
	tb_cfg_write(d, cap + 12, 4, length);
}

static void test_cfg_access(void)
{
	static const struct {
		uint8_t bar;
		uint32_t offset, length;
	} bad[] = {
		{ 0, 0, 4 },	      { 0, 0x800, 4 },	    { 1, 0, 4 },      { 5, 0, 4 },
		{ 0xff, 0, 4 },	      { 4, 0, 0 },	    { 4, 0, 3 },      { 4, 0, 8 },
		{ 4, 2, 4 },	      { 4, 1, 2 },	    { 4, 0x4000, 4 }, { 4, 0x3ffe, 4 },
		{ 4, 0xfffffffc, 4 }, { 4, 0, 0xffffffff },
	};
	unsigned int cap;

	setup_running();
	cap = tb_cap(d, 9, 4);
	aim(cap, 4, TB_V_NUM_QUEUES, 2);
	CHECK_EQ(tb_cfg_read(d, cap + 16, 2), 2);
	aim(cap, 4, TB_V_STATUS, 1);
	CHECK_EQ(tb_cfg_read(d, cap + 16, 1), READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	aim(cap, 4, TB_V_CONFIG + 4, 4);
	tb_cfg_write(d, cap + 16, 4, 0x12345678);
	CHECK_EQ(get_le32(p->config + 4), 0x12345678);
	CHECK_EQ(tb_cfg_read(d, cap + 16, 4), 0x12345678);
	aim(cap, 4, TB_V_CONFIG, 1);
	tb_cfg_write(d, cap + 16, 4, 0xffffff42);
	CHECK_EQ(p->config[0], 0x42);
	CHECK_EQ(p->config[1], 0);
	/* a notification */
	add(1);
	aim(cap, 4, TB_V_NOTIFY + 4, 2);
	tb_cfg_write(d, cap + 16, 2, 1);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		aim(cap, bad[i].bar, bad[i].offset, bad[i].length);
		CHECK_EQ(tb_cfg_read(d, cap + 16, 4), 0xffffffff);
		tb_cfg_write(d, cap + 16, 4, 0);
	}
	CHECK_EQ(tb_virtio_status(d), READY | VIRTIO_S_FEATURES_OK | VIRTIO_S_DRIVER_OK);
	check_works();
}

/* MSI-X switched on and off under load loses nothing that the ring does not tell. */
static void test_msix_toggle(void)
{
	setup_running();
	tb_msix_mask(d, 1, true);
	add(0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_irqs(d, 1), 0);
	CHECK(tb_msix_pending(d, 1));
	tb_msix_mask(d, 1, false);
	CHECK_EQ(tb_irqs(d, 1), 1);
	check_works();
}

static void test_init_errors(void)
{
	struct err err;

	setup();
	/* the slot is taken: init fails after nothing, and cleans up */
	tb_next_slot(tb, 1 << 3);
	CHECK(!tb_add(tb, &probe_ops, NULL, &err));
	CHECK(strlen(err.text) > 0);
}

static const struct test_case cases[] = {
	{ "virtio identity", test_identity },
	{ "virtio capabilities", test_capabilities },
	{ "virtio reset values", test_reset_values },
	{ "virtio happy path", test_happy_path },
	{ "virtio without doorbells", test_no_doorbells },
	{ "VQ-18 queue_select out of range", test_queue_select },
	{ "M-02 vectors out of range", test_vectors },
	{ "VQ-19 notify absent queues", test_notify_absent },
	{ "VQ-20 status order", test_status_order },
	{ "VQ-21 features not offered", test_features_refused },
	{ "VQ-22 device configuration", test_device_config },
	{ "G-08 odd accesses", test_odd_accesses },
	{ "VQ-15 queue sizes", test_queue_sizes },
	{ "VQ-16 registers after enable", test_latched },
	{ "VQ-24 activation fails", test_bad_activation },
	{ "virtio queue enabled late", test_late_enable },
	{ "VQ-27 broken chain", test_broken_chain },
	{ "VQ-23 reset with requests in flight", test_reset_in_flight },
	{ "virtio machine reset", test_machine_reset },
	{ "virtio pause", test_pause },
	{ "virtio kick again", test_kick_again },
	{ "G-13 bus master off", test_bus_master_off },
	{ "virtio INTx", test_intx },
	{ "virtio configuration changed", test_config_changed },
	{ "VQ-28 access through config space", test_cfg_access },
	{ "M-04 masked vector", test_msix_toggle },
	{ "virtio init errors", test_init_errors },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
