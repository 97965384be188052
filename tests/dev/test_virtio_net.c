/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/test_virtio_net.h"
#include "util/clock.h"

#include <unistd.h>

#include "util/fd.h"

/* Configuration, sending, and the life of the network card; receiving and control have their own files. */

static void test_config(void)
{
	setup_conf("mac=02:00:00:00:00:01\nmtu=9000\nqueues=4\n", F_MRG, 2);
	CHECK_EQ(tb_cfg_read(d, 2, 2), 0x1041);
	CHECK_EQ(tb_cfg_read(d, 8, 4) >> 8, 0x020000);
	CHECK_EQ(tb_r32(d, TB_V_BAR, TB_V_CONFIG), 0x00000002);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 4), 0x0100);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 1); /* link up */
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 8), 4);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 10), 9000);
	CHECK_EQ(tb_r32(d, TB_V_BAR, TB_V_CONFIG + 12), 10000);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 16), 1);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_NUM_QUEUES), 9);
}

static void test_features(void)
{
	const uint64_t always = VNET_F_CSUM | VNET_F_HOST_TSO4 | VNET_F_HOST_TSO6 |
				VNET_F_HOST_ECN | VNET_F_HOST_USO | VNET_F_MAC | VNET_F_MRG_RXBUF |
				VNET_F_STATUS | VNET_F_CTRL_VQ | VNET_F_CTRL_RX |
				VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_VLAN | VNET_F_CTRL_MAC_ADDR |
				VNET_F_GUEST_ANNOUNCE | VNET_F_SPEED_DUPLEX | VIRTIO_F_VERSION_1 |
				VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC;
	const uint64_t guest = VNET_GUEST_OFFLOADS | VNET_F_CTRL_GUEST_OFFLOADS;

	setup(0);
	CHECK_EQ(tb_virtio_offered(d), always | guest);
	setup_conf("mtu=1400\nqueues=2\n", 0, 2);
	CHECK_EQ(tb_virtio_offered(d), always | guest | VNET_F_MTU | VNET_F_MQ);
	/* a line without offloads, towards the guest that is */
	setup_conf("backend=none\n", 0, 2);
	CHECK_EQ(tb_virtio_offered(d), always);
}

static void read_mac(uint8_t *mac)
{
	for (unsigned int i = 0; i < 6; i++)
		mac[i] = tb_r8(d, TB_V_BAR, TB_V_CONFIG + i);
}

static void test_default_mac(void)
{
	static const uint8_t prefix[] = { 0x58, 0x9c, 0xfc };
	uint8_t first[6], again[6], other[6];

	setup(0);
	read_mac(first);
	CHECK(memcmp(first, prefix, 3) == 0);
	setup(0);
	read_mac(again);
	CHECK(memcmp(first, again, 6) == 0);
	d = tb_add(tb, &virtio_net_ops, NULL, NULL);
	tb_pci_enable(d);
	read_mac(other);
	CHECK(memcmp(other, prefix, 3) == 0);
	CHECK(memcmp(first, other, 6) != 0);
}

static void refused(const char *conf, const char *word)
{
	struct err err = { "" };

	CHECK(!tb_add(tb, &virtio_net_ops, conf, &err));
	if (!strstr(err.text, word))
		CHECK_FAIL("\"%s\" does not name %s", err.text, word);
}

static void test_settings(void)
{
	setup(0);
	refused("mac=1\n", "mac");
	refused("mac=02:00:00:00:00:0g\n", "mac");
	refused("mac=02:00:00:00:00:01:02\n", "mac");
	refused("mac=02:00:00:00:00\n", "mac");
	refused("mac=03:00:00:00:00:01\n", "even");
	refused("mac=00:00:00:00:00:00\n", "zero");
	refused("mtu=67\n", "mtu");
	refused("mtu=65536\n", "mtu");
	refused("queues=9\n", "queues");
	refused("bakend=tap0\n", "bakend");
	refused("vhost=maybe\n", "vhost");
	refused("vhost=on\n", "is no tap");
	setup_conf("mac=5A-00-00-00-00-Fe\n", 0, 2);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG), 0x5a);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 5), 0xfe);
}

static void test_config_widths(void)
{
	setup(F_CTRL);
	for (unsigned int at = 0; at < 4096; at++) {
		for (unsigned int size = 1; size <= 8; size *= 2) {
			uint64_t gpa = tb_bar(d, TB_V_BAR) + TB_V_CONFIG + at;
			uint64_t v = tb_read(tb, gpa, size);

			if (at >= sizeof(uint64_t) * 3)
				CHECK_EQ(v, 0);
			tb_write(tb, gpa, size, UINT64_MAX);
		}
	}
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG), 0x58);
	check_works();
}

/* --- sending --- */

static void test_send(void)
{
	const size_t lengths[] = { 14, 15, 60, 1514, 9014, 65535, BIG };

	setup(F_BASE);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		tx_send(lengths[i], (unsigned int)i);
		CHECK_EQ(tb_irqs(d, 2), 1);
		tx_check(lengths[i], (unsigned int)i);
	}
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, ARRAY_LEN(lengths));
}

/* The same frame, header and all, cut in every way. */
static void test_send_shapes(void)
{
	setup(F_BASE | VIRTIO_F_INDIRECT_DESC);
	for (unsigned int cut = 1; cut <= 40; cut++) {
		struct tb_buf b[112];
		unsigned int n = 0;

		make_frame(100, cut, NULL);
		memset(tb_mem(tb, tx_mem, NET_HDR_LEN), 0, NET_HDR_LEN);
		memcpy(tb_mem(tb, tx_mem + NET_HDR_LEN, 100), frame, 100);
		for (unsigned int at = 0; at < 112; at += cut)
			b[n++] = (struct tb_buf){ tx_mem + at, MIN(cut, 112 - at), false };
		if (cut % 2)
			tb_vq_add(&vq[1], b, n);
		else
			tb_vq_add_indirect(&vq[1], tx_mem + 4096, b, n);
		tb_virtio_kick(d, 1);
		tx_check_used(1);
		tx_check(100, cut);
	}
}

static void test_send_many_pieces(void)
{
	struct tb_buf b[QUEUE_SIZE];

	/* as many pieces as a chain may have, several such chains in a batch */
	setup(F_BASE | VIRTIO_F_INDIRECT_DESC);
	make_frame(255 * 16, 3, NULL);
	memcpy(tb_mem(tb, tx_mem + 16, 255 * 16), frame, 255 * 16);
	b[0] = (struct tb_buf){ tx_mem, NET_HDR_LEN, false };
	for (unsigned int i = 1; i < QUEUE_SIZE; i++)
		b[i] = (struct tb_buf){ tx_mem + 16 * i, 16, false };
	for (unsigned int i = 0; i < 20; i++)
		tb_vq_add_indirect(&vq[1], tx_mem + 64 * KIB + i * 4096, b, QUEUE_SIZE);
	tb_virtio_kick(d, 1);
	for (unsigned int i = 0; i < 20; i++) {
		tx_check_used(1);
		tx_check(255 * 16, 3);
	}
}

static void test_send_short(void)
{
	setup(F_BASE);
	for (uint32_t len = 1; len < VNET_FRAME_MIN; len++) {
		const struct tb_buf b = { tx_mem, len, false };

		tb_vq_add(&vq[1], &b, 1);
		tb_virtio_kick(d, 1);
		tx_check_used(1);
	}
	/* nothing readable at all */
	tb_vq_add(&vq[1], &(struct tb_buf){ tx_mem, 100, true }, 1);
	tb_vq_add(&vq[1], &(struct tb_buf){ tx_mem, 0, false }, 1);
	tb_virtio_kick(d, 1);
	tx_check_used(1);
	tx_check_used(1);
	tx_check_none();
	CHECK_EQ(tb_net_stats(tb, 0).accepted, 0);
	check_works();
}

static void test_send_long(void)
{
	setup(F_BASE);
	make_frame(BIG + 1, 1, NULL);
	tx_post_hdr(1, NULL, BIG + 1);
	tb_vq_add(&vq[1], &(struct tb_buf){ tx_mem, 2 * MIB, false }, 1);
	tb_virtio_kick(d, 1);
	tx_check_used(1);
	tx_check_used(1);
	tx_check_none();
	check_works();
}

/* Many in a row that are only given back: they are, and other work gets its turn in between. */
static void test_send_garbage(void)
{
	setup(F_BASE);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		tb_vq_add(&vq[1], &(struct tb_buf){ tx_mem, 4, false }, 1);
	tb_virtio_kick(d, 1);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		tx_check_used(1);
	check_works();
}

static void test_send_headers(void)
{
	static const struct net_hdr bad[] = {
		{ .flags = NET_HDR_NEEDS_CSUM, .csum_start = 200, .csum_offset = 0 },
		{ .flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 65535 },
		{ .flags = NET_HDR_NEEDS_CSUM, .csum_start = 65535, .csum_offset = 65535 },
		{ .flags = NET_HDR_NEEDS_CSUM, .csum_start = 0, .csum_offset = 0 },
		{ .flags = NET_HDR_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .csum_start = 34 },
		{ .gso_type = NET_GSO_TCPV4, .gso_size = 1400 },
		{ .flags = NET_HDR_NEEDS_CSUM, .gso_type = 2, .gso_size = 1400, .csum_start = 34 },
		{ .flags = NET_HDR_NEEDS_CSUM,
		  .gso_type = 0x7f,
		  .gso_size = 1400,
		  .csum_start = 34 },
		{ .gso_type = NET_GSO_ECN },
		{ .hdr_len = 101 },
		{ .hdr_len = 65535 },
	};

	setup(F_BASE);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		make_frame(100, 1, NULL);
		tx_post_hdr(1, &bad[i], 100);
		tb_virtio_kick(d, 1);
		tx_check_used(1);
		if (tb_net_next(tb, 0, NULL, got, sizeof(got)) != -EAGAIN)
			CHECK_FAIL("header %zu was believed", i);
	}
	CHECK_EQ(tb_net_stats(tb, 0).failed, ARRAY_LEN(bad));
	check_works();
}

static void test_send_batch(void)
{
	setup(F_BASE);
	for (unsigned int i = 0; i < 16; i++) {
		make_frame(64, i, NULL);
		tx_post_hdr(1, NULL, 64);
	}
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_irqs(d, 2), 1); /* for all of them */
	for (unsigned int i = 0; i < 16; i++) {
		tx_check_used(1);
		tx_check(64, i);
	}
	/* more than one batch */
	for (unsigned int i = 0; i < QUEUE_SIZE / 2; i++)
		tb_vq_add(&vq[1],
			  (struct tb_buf[]){ { tx_mem, NET_HDR_LEN, false },
					     { tx_mem + 64, 64, false } },
			  2);
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_irqs(d, 2), QUEUE_SIZE / 2 / VNET_TX_BATCH);
	for (unsigned int i = 0; i < QUEUE_SIZE / 2; i++)
		tx_check_used(1);
	CHECK(tb_balanced(tb));
}

/* Kicks are not asked for while a batch is out, and the last one is asked for. */
static void test_send_notify(void)
{
	const struct net_fault hold = { .hold = true };

	setup(F_BASE);
	tb_net_fault(tb, 0, &hold);
	make_frame(64, 0, NULL);
	tx_post_hdr(1, NULL, 64);
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_vq_get16(&vq[1], vq[1].used), 1); /* NO_NOTIFY */
	tx_post_hdr(1, NULL, 64); /* the guest does not kick */
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 0);
	tb_net_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 2);
	CHECK_EQ(tb_vq_get16(&vq[1], vq[1].used), 0);
	setup(F_BASE | VIRTIO_F_EVENT_IDX);
	for (unsigned int i = 0; i < 100; i++) {
		make_frame(64, i, NULL);
		tx_post_hdr(1, NULL, 64);
	}
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 100);
	CHECK_EQ(tb_vq_avail_event(&vq[1]), 100);
}

/* Time passes, in which the line sends a frame in a microsecond. */
static void tx_pass(unsigned int us)
{
	while (us--) {
		tb_advance(tb, NS_PER_US);
		net_fault_release(tb_net(tb, 0), 1);
		tb_run(tb);
	}
}

static void tx_drain(void)
{
	uint32_t id, len;

	while (tb_vq_used(&vq[1], &id, &len))
		;
	while (tb_net_next(tb, 0, NULL, got, sizeof(got)) >= 0)
		;
}

/* Posts frames, kicks if the guest was told to (the result), and lets time pass. */
static bool tx_some(unsigned int n, size_t len, unsigned int us)
{
	bool kick = tb_vq_avail_event(&vq[1]) == vq[1].avail_idx; /* s2.7.10 */

	make_frame(len, 1, NULL);
	while (n--)
		tx_post_hdr(1, NULL, len);
	if (kick)
		tb_virtio_kick(d, 1);
	tx_pass(us);
	return kick;
}

static bool tx_one(size_t len, unsigned int us)
{
	return tx_some(1, len, us);
}

static unsigned int tx_many(unsigned int n, size_t len, unsigned int us)
{
	unsigned int kicks = 0;

	while (n--) {
		kicks += tx_one(len, us);
		tx_drain();
	}
	return kicks;
}

static void setup_slow(void)
{
	const struct net_fault hold = { .hold = true };

	setup(F_BASE | VIRTIO_F_EVENT_IDX);
	tb_net_fault(tb, 0, &hold);
}

/* Small frames in a stream: the guest does not kick any more, and each is sent in time. */
static void test_send_stream(void)
{
	setup_slow();
	CHECK(tx_many(100, 64, 4) > 8);
	CHECK_EQ(tx_many(500, 64, 4), 0);
	tx_pass(100);
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, 600);
	/* looks that found nothing: back to kicks */
	tx_drain();
	CHECK(tx_one(64, 4));
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, 601);
	CHECK(tb_balanced(tb));
}

/* A pause now and then, as a busy host makes, costs a kick, not the stream. */
static void test_send_stream_pauses(void)
{
	unsigned int kicks = 0;

	setup_slow();
	tx_many(200, 64, 4);
	for (unsigned int i = 0; i < 20; i++) {
		tx_pass(50);
		tx_drain();
		kicks += tx_many(20, 64, 4);
	}
	CHECK(kicks <= 30);
	tx_pass(100);
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, 600);
	CHECK(tb_balanced(tb));
}

/* What is not a stream of small frames is kicked for, every time. */
static void test_send_no_stream(void)
{
	setup_slow();
	/* each waits for an answer, which takes as long as a few frames do */
	CHECK_EQ(tx_many(200, 64, 10), 200);
	/* the sender of large ones may wait for them to be sent */
	CHECK_EQ(tx_many(200, 9000, 4), 200);
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, 400);
}

/* What the guest says is answered, however fast and whether it takes one frame or several: each time it kicks. */
static void test_send_dialog(void)
{
	static const unsigned int frames[] = { 1, 2, 6 };

	for (size_t n = 0; n < ARRAY_LEN(frames); n++) {
		setup_slow();
		for (unsigned int i = 0; i < 200; i++) {
			CHECK(tx_some(frames[n], 64, frames[n] + 2));
			rx_fill(0, 1, 2048);
			rx_send(100, i);
			tx_pass(3);
			rx_check(100, i);
			tx_drain();
		}
		CHECK_EQ(tb_net_stats(tb, 0).tx_frames, 200 * frames[n]);
		CHECK(tb_balanced(tb));
	}
}

/* Pause, reset and a pulled cable while a look is due. */
static void test_send_stream_ends(void)
{
	for (unsigned int how = 0; how < 3; how++) {
		setup_slow();
		tx_many(200, 64, 4);
		CHECK(!tx_one(64, 0));
		if (how == 0) {
			tb_release_all(tb);
			CHECK(tb_pause(tb));
			tb_advance(tb, NS_PER_MS);
			tb_resume(tb);
			tb_run(tb);
		} else if (how == 1) {
			tb_release_all(tb);
			start(F_BASE | VIRTIO_F_EVENT_IDX, 2);
			CHECK(tx_one(64, 4));
		} else {
			tb_net_link(tb, 0, false);
			tx_pass(50);
			tb_net_link(tb, 0, true);
		}
		tb_release_all(tb);
		CHECK_EQ(tb_vq_used_idx(&vq[1]), vq[1].avail_idx);
		tx_drain();
		check_works();
	}
}

static void test_send_failing(void)
{
	static const int errnos[] = { ENOBUFS, EIO, ENETDOWN, EINVAL };

	setup(F_BASE);
	for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
		const struct net_fault all = { .fail_nth = -1, .fail_errno = errnos[i] };
		const struct net_fault second = { .fail_nth = 2, .fail_errno = errnos[i] };

		tb_net_fault(tb, 0, &all);
		tx_send(64, 1);
		tx_check_none();
		tb_net_fault(tb, 0, &second);
		for (unsigned int k = 0; k < 3; k++) {
			make_frame(64, k, NULL);
			tx_post_hdr(1, NULL, 64);
		}
		tb_virtio_kick(d, 1);
		tx_check(64, 0);
		tx_check(64, 2);
		tx_check_none();
		for (unsigned int k = 0; k < 3; k++)
			tx_check_used(1);
	}
	tb_net_fault(tb, 0, NULL);
	check_works();
}

/* Ring indices wrap, and every frame comes out as it went in. */
static void test_send_wrap(void)
{
	setup(F_BASE | VIRTIO_F_EVENT_IDX);
	for (unsigned int i = 0; i < FRAMES_MAX; i += 8) {
		for (unsigned int k = i; k < i + 8; k++) {
			make_frame(60 + k % 64, k, NULL);
			tx_post_hdr(1, NULL, 60 + k % 64);
		}
		tb_virtio_kick(d, 1);
		for (unsigned int k = i; k < i + 8; k++) {
			tx_check_used(1);
			tx_check(60 + k % 64, k);
		}
	}
	CHECK(tb_balanced(tb));
}

/* --- link --- */

static unsigned int status_bits(void)
{
	return tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6);
}

static void test_link_event(void)
{
	uint8_t generation;

	setup(F_BASE);
	generation = tb_r8(d, TB_V_BAR, TB_V_GENERATION);
	tb_net_link(tb, 0, false);
	CHECK_EQ(status_bits(), 0);
	CHECK(tb_r8(d, TB_V_BAR, TB_V_GENERATION) != generation);
	CHECK_EQ(tb_irqs(d, 0), 1);
	tx_send(64, 1); /* dropped, and given back */
	CHECK_EQ(tb_net_stats(tb, 0).accepted, 0);
	tb_net_link(tb, 0, true);
	CHECK_EQ(status_bits(), 1);
	CHECK_EQ(tb_irqs(d, 0), 1);
	check_works();
	/* a driver that does not know about it is not told */
	start(VNET_F_MAC, 2);
	tb_net_link(tb, 0, false);
	CHECK_EQ(tb_irqs(d, 0), 0);
}

static void test_cable(void)
{
	setup(F_MRG);
	CHECK(dev_link(d, -1));
	rx_fill(0, 4, 2048);
	CHECK(!dev_link(d, 0));
	CHECK(!dev_link(d, 0));
	CHECK(!dev_link(d, -1));
	CHECK_EQ(status_bits(), 0);
	CHECK_EQ(tb_irqs(d, 0), 1);
	/* what is sent meanwhile, either way, is lost */
	tx_send(64, 1);
	for (unsigned int i = 0; i < 50; i++)
		rx_send(64, i);
	tb_run(tb);
	CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	CHECK(dev_link(d, 1));
	CHECK_EQ(tb_irqs(d, 0), 1);
	tx_check_none();
	rx_send(64, 3);
	tb_run(tb);
	rx_check(64, 3);
	/* the cable does not bring up a line that is down */
	dev_link(d, 0);
	tb_net_link(tb, 0, false);
	CHECK(!dev_link(d, 1));
	tb_net_link(tb, 0, true);
	CHECK(dev_link(d, -1));
	check_works();
}

static void test_no_backend(void)
{
	setup_conf("backend=none\n", F_MRG, 2);
	CHECK_EQ(status_bits(), 0);
	rx_fill(0, 4, 2048);
	tx_send(64, 1);
	CHECK(!dev_link(d, 1));
	CHECK_EQ(status_bits(), 0);
}

/* --- resets, pauses --- */

static void hold_some(void)
{
	const struct net_fault hold = { .hold = true };

	rx_fill(0, 8, 2048);
	tb_net_fault(tb, 0, &hold);
	rx_send(100, 1);
	rx_send(100, 2);
	for (unsigned int i = 0; i < 5; i++) {
		make_frame(64, i, NULL);
		tx_post_hdr(1, NULL, 64);
	}
	tb_virtio_kick(d, 1);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 0);
	CHECK(!tb_balanced(tb));
}

static void test_reset_in_flight(void)
{
	struct tb_vq old[2];

	setup(F_MRG);
	hold_some();
	memcpy(old, vq, sizeof(old));
	tb_virtio_set_status(d, 0);
	CHECK(tb_virtio_status(d)); /* not finished yet */
	net_fault_release(tb_net(tb, 0), 3);
	tb_run(tb);
	CHECK(tb_virtio_status(d));
	tb_net_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK_EQ(tb_vq_used_idx(&old[0]), 0);
	CHECK_EQ(tb_vq_used_idx(&old[1]), 0);
	CHECK(tb_balanced(tb));
	while (tb_net_next(tb, 0, NULL, got, sizeof(got)) >= 0)
		;
	/* the second frame had not been taken from the line */
	start(F_MRG, 2);
	rx_fill(0, 1, 2048);
	rx_check(100, 2);
	check_works();
}

/* Chains that the device holds for frames to come belong to the driver again after a reset. */
static void test_reset_idle(void)
{
	setup(F_MRG);
	rx_fill(0, QUEUE_SIZE, 2048);
	rx_send(100, 1);
	tb_run(tb);
	rx_check(100, 1);
	for (int i = 0; i < 3; i++) {
		gpa_t old = rx_mem;

		tb_virtio_set_status(d, 0);
		CHECK_EQ(tb_virtio_status(d), 0);
		memset(tb_mem(tb, old, RX_MEM), 0x55, RX_MEM);
		rx_send(100, 2);
		tb_run(tb);
		for (size_t k = 0; k < RX_MEM; k += 64)
			CHECK_EQ(*(uint8_t *)tb_mem(tb, old + k, 1), 0x55);
		start(F_MRG, 2);
		rx_fill(0, 4, 2048);
		rx_check(100, 2);
		check_works();
	}
}

static void test_pause_in_flight(void)
{
	setup(F_MRG);
	hold_some();
	CHECK(!tb_pause(tb));
	make_frame(64, 5, NULL);
	tx_post_hdr(1, NULL, 64); /* only recorded */
	tb_virtio_kick(d, 1);
	tb_net_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_pause(tb));
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 5);
	rx_send(100, 3);
	CHECK_EQ(tb_run(tb), 0); /* nobody wants it now */
	tb_resume(tb);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 6);
	for (unsigned int i = 1; i <= 3; i++)
		rx_check(100, i);
	CHECK(tb_balanced(tb));
}

static void test_machine_reset(void)
{
	setup(F_MRG);
	check_works();
	CHECK(tb_reset(tb));
	start(F_MRG, 2);
	check_works();
}

static void test_bus_master(void)
{
	setup(F_MRG);
	hold_some();
	tb_bus_master(d, false);
	tb_net_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 0);
	CHECK(tb_balanced(tb));
	/* frames wait outside, nobody spins */
	rx_send(100, 4);
	tb_run(tb);
	CHECK_EQ(tb_run(tb), 0);
	CHECK_EQ(tb_net_stats(tb, 0).accepted, tb_net_stats(tb, 0).completed);
	tb_bus_master(d, true);
	tb_run(tb);
	rx_check(100, 2); /* the first one is lost */
	rx_check(100, 4);
	while (tb_net_next(tb, 0, NULL, got, sizeof(got)) >= 0)
		;
	start(F_MRG, 2);
	check_works();
}

static void test_no_queues(void)
{
	setup(F_MRG);
	CHECK(tb_virtio_negotiate(d, F_MRG | VIRTIO_F_VERSION_1));
	tb_virtio_driver_ok(d);
	rx_send(100, 1);
	for (unsigned int q = 0; q < 20; q++)
		tb_virtio_kick(d, q);
	CHECK_EQ(tb_run(tb), 0);
	/* a queue that comes late */
	tb_virtio_queue(d, 0, QUEUE_SIZE, &vq[0]);
	rx_fill(0, 1, 2048);
	rx_check(100, 1);
	start(F_MRG, 2);
	check_works();
}

/* Frames before there is a driver wait, and are its first. */
static void test_before_driver(void)
{
	static const struct tb_opts opts = { .faults = true };

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &virtio_net_ops, NULL, NULL);
	rx_send(100, 1);
	CHECK_EQ(tb_run(tb), 0);
	start(F_MRG, 2);
	rx_fill(0, 1, 2048);
	rx_check(100, 1);
	check_works();
}

/* Every way in which taking a chain can fail, on each queue. */
static void test_broken_chains(void)
{
	for (unsigned int q = 0; q < 3; q++) {
		setup(F_CTRL);
		rx_send(100, 1);
		tb_vq_desc(&vq[q], vq[q].desc, 0, &(struct tb_buf){ tx_mem, 64, q == 0 }, TB_NEXT,
			   0); /* a loop */
		tb_vq_avail(&vq[q], 0);
		tb_virtio_kick(d, q);
		CHECK(needs_reset());
		CHECK_EQ(tb_irqs(d, 0), 1);
		CHECK_EQ(tb_run(tb), 0);
		setup(F_CTRL);
		rx_send(100, 1);
		tb_vq_add(&vq[q], &(struct tb_buf){ TB_MMIO, 64, q == 0 }, 1);
		tb_virtio_kick(d, q);
		CHECK(needs_reset());
		CHECK_EQ(tb_run(tb), 0);
		while (tb_net_next(tb, 0, NULL, got, sizeof(got)) >= 0)
			;
		start(F_CTRL, 3);
		rx_fill(0, 1, 2048);
		rx_check(100, 1);
		check_works();
	}
}

/* A queue that somebody else serves for a while: its kicks go there, and it goes on where that one stopped. */
static void test_lent(void)
{
	struct virtio *v;
	struct virtio_lent lent;
	int fd = fd_event_new();

	setup(F_BASE);
	v = virtio_of(d);
	tx_send(64, 1);
	tx_check(64, 1);
	dev_lock(d);
	virtio_lend(v, 1, fd, &lent);
	dev_unlock(d);
	CHECK_EQ(lent.size, QUEUE_SIZE);
	CHECK_EQ(lent.next, 1);
	CHECK(lent.desc == tb_mem(tb, vq[1].desc, 16));
	CHECK(lent.used == tb_mem(tb, vq[1].used, 16));
	for (unsigned int i = 2; i < 4; i++) {
		make_frame(64, i, NULL);
		tx_post_hdr(1, NULL, 64);
		tb_virtio_kick(d, 1);
		CHECK_EQ(fd_event_clear(fd), 1);
		CHECK_EQ(tb_vq_used_idx(&vq[1]), 1);
	}
	/* the first of the two was served there */
	tb_vq_put16(&vq[1], vq[1].used + 2, 2);
	dev_lock(d);
	virtio_take_back(v, 1, 2);
	dev_unlock(d);
	tx_check(64, 3);
	tx_check_none();
	CHECK_EQ(tb_vq_used_idx(&vq[1]), 3);
	tb_irqs(d, 2);
	vq[1].seen = 3;
	/* a driver's reset while it is away */
	dev_lock(d);
	virtio_lend(v, 1, fd, &lent);
	dev_unlock(d);
	tb_virtio_set_status(d, 0);
	dev_lock(d);
	virtio_take_back(v, 1, 7);
	dev_unlock(d);
	start(F_BASE, 2);
	check_works();
	close(fd);
}

static const struct test_case cases[] = {
	{ "net configuration", test_config },
	{ "net features", test_features },
	{ "net default address", test_default_mac },
	{ "net settings", test_settings },
	{ "VQ-22 configuration widths", test_config_widths },
	{ "net send", test_send },
	{ "net send: pieces of every size", test_send_shapes },
	{ "net send: as many pieces as can be", test_send_many_pieces },
	{ "N-01 send: too short", test_send_short },
	{ "N-01 send: too long", test_send_long },
	{ "N-01 send: nothing but garbage", test_send_garbage },
	{ "N-02 send: headers", test_send_headers },
	{ "net send: batches", test_send_batch },
	{ "VQ-25 send: notifications", test_send_notify },
	{ "net send: a stream", test_send_stream },
	{ "net send: no stream", test_send_no_stream },
	{ "net send: a stream with pauses", test_send_stream_pauses },
	{ "net send: a dialog", test_send_dialog },
	{ "net send: the end of a stream", test_send_stream_ends },
	{ "net send: failing line", test_send_failing },
	{ "VQ-29 send: indices wrap", test_send_wrap },
	{ "net link", test_link_event },
	{ "net cable", test_cable },
	{ "net without backend", test_no_backend },
	{ "VQ-23 reset in flight", test_reset_in_flight },
	{ "VQ-23 reset with chains held", test_reset_idle },
	{ "G-14 pause in flight", test_pause_in_flight },
	{ "G-14 machine reset", test_machine_reset },
	{ "G-13 bus master off in flight", test_bus_master },
	{ "net DRIVER_OK without queues", test_no_queues },
	{ "net frames before the driver", test_before_driver },
	{ "VQ-27 broken chains", test_broken_chains },
	{ "virtio: a queue lent", test_lent },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
