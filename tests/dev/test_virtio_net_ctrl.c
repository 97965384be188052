/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/test_virtio_net.h"

/* The control queue, the filters it sets, and queue pairs. */
enum { RX, MAC, VLAN, ANNOUNCE, MQ, OFFLOADS };
enum { OK = 0, ERR = 1, POISON = 0x99 };

#define F_OFFLOADS (F_CTRL | VNET_F_CTRL_GUEST_OFFLOADS | VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4)

static const uint8_t own[6] = { 0x02, 0, 0, 0, 0, 1 };
static const uint8_t other[6] = { 0x02, 0, 0, 0, 0, 2 };
static const uint8_t group[6] = { 0x33, 0x33, 0, 0, 0, 1 };

static unsigned int ctl = 2; /* the queue */

/* One command; the answer. */
static uint8_t command(uint8_t class, uint8_t cmd, const void *data, uint32_t len)
{
	const struct tb_buf b[] = { { ctl_mem, 2, false },
				    { ctl_mem + 16, len, false },
				    { ctl_mem + 32 * KIB, 1, true } };
	uint32_t id, used;

	*(uint8_t *)tb_mem(tb, ctl_mem, 1) = class;
	*(uint8_t *)tb_mem(tb, ctl_mem + 1, 1) = cmd;
	if (len && data)
		memcpy(tb_mem(tb, ctl_mem + 16, len), data, len);
	*(uint8_t *)tb_mem(tb, b[2].addr, 1) = POISON;
	tb_vq_add(&vq[ctl], b, 3);
	tb_virtio_kick(d, ctl);
	CHECK(tb_vq_used(&vq[ctl], &id, &used));
	CHECK_EQ(used, 1);
	return *(uint8_t *)tb_mem(tb, b[2].addr, 1);
}

static uint8_t mode(uint8_t cmd, uint8_t on)
{
	return command(RX, cmd, &on, 1);
}

static uint8_t number(uint8_t class, uint8_t cmd, uint16_t v)
{
	return command(class, cmd, &v, 2);
}

static void setup_ctrl(uint64_t features)
{
	ctl = 2;
	setup_conf("mac=02:00:00:00:00:01\n", features, 3);
	rx_fill(0, 32, 2048);
}

/* Does a frame to dst, with this VLAN id (-1: no tag), reach the guest? */
static bool reaches(const uint8_t *dst, int vlan)
{
	int len;

	make_frame(100, 5, dst);
	if (vlan >= 0) {
		put_be16(frame + 12, 0x8100);
		put_be16(frame + 14, (uint16_t)(vlan | 0x2000)); /* some priority */
	}
	CHECK_EQ(tb_net_queue(tb, 0, 0, NULL, frame, 100), 0);
	tb_run(tb);
	len = rx_next(0, NULL);
	if (len < 0)
		return false;
	CHECK_EQ(len, 100);
	CHECK(memcmp(got, frame, 100) == 0);
	rx_fill(0, 1, 2048);
	return true;
}

static void test_filter(void)
{
	setup_ctrl(F_CTRL);
	/* everything, at first */
	CHECK(reaches(own, -1) && reaches(other, -1) && reaches(group, -1) && reaches(NULL, -1));
	CHECK_EQ(mode(0, 0), OK);
	CHECK(reaches(own, -1) && reaches(NULL, -1));
	CHECK(!reaches(other, -1) && !reaches(group, -1));
	CHECK_EQ(mode(1, 1), OK); /* all of groups */
	CHECK(reaches(group, -1) && !reaches(other, -1));
	CHECK_EQ(mode(3, 1), OK); /* none of groups */
	CHECK(!reaches(group, -1));
	CHECK_EQ(mode(2, 1), OK); /* all unicast */
	CHECK(reaches(other, -1));
	CHECK_EQ(mode(4, 1), OK); /* no unicast */
	CHECK(!reaches(other, -1) && !reaches(own, -1) && reaches(NULL, -1));
	CHECK_EQ(mode(5, 1), OK); /* no broadcast */
	CHECK(!reaches(NULL, -1));
	CHECK_EQ(mode(0, 1), OK);
	CHECK(reaches(own, -1) && reaches(other, -1) && reaches(group, -1) && reaches(NULL, -1));
	/* a reset brings back what a driver expects */
	mode(0, 0);
	start(F_CTRL, 3);
	rx_fill(0, 32, 2048);
	CHECK(reaches(other, -1));
	CHECK(tb_balanced(tb));
}

/* Frames that do not pass leave the chains where they are, and others are not held up. */
static void test_filter_keeps_chains(void)
{
	setup_ctrl(F_CTRL);
	mode(0, 0);
	for (unsigned int i = 0; i < 100; i++) {
		make_frame(5000, i, other);
		CHECK_EQ(tb_net_queue(tb, 0, 0, NULL, frame, 5000), 0);
	}
	rx_send(100, 1);
	tb_run(tb);
	rx_check(100, 1);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 1);
}

static uint32_t put_table(uint8_t *at, uint32_t count, const uint8_t *first)
{
	put_le32(at, count);
	memset(at + 4, 0, 6 * count);
	if (count)
		memcpy(at + 4, first, 6);
	return 4 + 6 * count;
}

static void test_tables(void)
{
	uint8_t t[2000];
	uint32_t n;

	setup_ctrl(F_CTRL);
	mode(0, 0);
	n = put_table(t, 1, other);
	n += put_table(t + n, 2, group);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	CHECK(reaches(own, -1) && reaches(other, -1) && reaches(group, -1));
	n = put_table(t, 0, NULL);
	n += put_table(t + n, 0, NULL);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	CHECK(reaches(own, -1) && !reaches(other, -1) && !reaches(group, -1));
	/* as many as are kept, then more: all pass */
	n = put_table(t, VNET_MACS_MAX, group);
	n += put_table(t + n, VNET_MACS_MAX, group);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	CHECK(!reaches(other, -1) && reaches(group, -1));
	n = put_table(t, VNET_MACS_MAX + 1, group);
	n += put_table(t + n, 0, NULL);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	CHECK(reaches(other, -1) && !reaches(group, -1));
	n = put_table(t, 0, NULL);
	n += put_table(t + n, 100, own);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	CHECK(!reaches(other, -1) && reaches(group, -1));
}

static void test_bad_tables(void)
{
	static const uint32_t counts[] = { 1,	       2,	   64,	       65,	  0x10000,
					   0x2aaaaaaa, 0x2aaaaaab, 0x80000000, UINT32_MAX };
	uint8_t t[64];
	uint32_t n;

	setup_ctrl(F_CTRL);
	mode(0, 0);
	n = put_table(t, 1, other);
	n += put_table(t + n, 1, group);
	CHECK_EQ(command(MAC, 0, t, n), OK);
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		put_table(t, 0, NULL);
		put_table(t + 4, 0, NULL);
		put_le32(t + 4, counts[i]);
		CHECK_EQ(command(MAC, 0, t, 8), ERR);
		put_le32(t, counts[i]);
		CHECK_EQ(command(MAC, 0, t, 4), ERR);
		CHECK_EQ(command(MAC, 0, t, 9), ERR);
	}
	put_table(t, 0, NULL);
	put_table(t + 4, 0, NULL);
	for (n = 0; n < 20; n++)
		CHECK_EQ(command(MAC, 0, t, n), n == 8 ? OK : ERR);
	/* what was wrong changed nothing */
	CHECK(!reaches(other, -1));
	CHECK(!needs_reset());
}

static void test_vlan(void)
{
	setup_ctrl(F_CTRL);
	CHECK(reaches(own, 10)); /* promiscuous */
	mode(0, 0);
	CHECK(reaches(own, -1) && !reaches(own, 10) && !reaches(own, 0));
	CHECK_EQ(number(VLAN, 0, 10), OK);
	CHECK_EQ(number(VLAN, 0, 4095), OK);
	CHECK(reaches(own, 10) && reaches(own, 4095) && !reaches(own, 11));
	CHECK(!reaches(other, 10));
	CHECK_EQ(number(VLAN, 1, 10), OK);
	CHECK(!reaches(own, 10) && reaches(own, 4095));
	CHECK_EQ(number(VLAN, 0, 4096), ERR);
	CHECK_EQ(number(VLAN, 1, 4096), ERR);
	CHECK_EQ(number(VLAN, 0, 65535), ERR);
	CHECK(!reaches(own, 0));
	/* a driver that does not filter by VLAN gets all of them */
	setup_ctrl(F_CTRL & ~VNET_F_CTRL_VLAN);
	mode(0, 0);
	CHECK(reaches(own, 10));
	CHECK_EQ(number(VLAN, 0, 10), ERR);
}

/* A frame that ends before the tag's id, split over chains and pieces. */
static void test_vlan_short(void)
{
	setup_ctrl(F_CTRL);
	mode(0, 0);
	for (size_t len = 14; len < 20; len++) {
		make_frame(len, 5, own);
		put_be16(frame + 12, 0x8100);
		if (len > 15)
			put_be16(frame + 14, 9);
		CHECK_EQ(tb_net_queue(tb, 0, 0, NULL, frame, len), 0);
		tb_run(tb);
		CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	}
	check_works();
}

static void test_address(void)
{
	static const uint8_t zero[6];

	setup_ctrl(F_CTRL);
	mode(0, 0);
	CHECK_EQ(command(MAC, 1, other, 6), OK);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 5), 2);
	CHECK(reaches(other, -1) && !reaches(own, -1));
	CHECK_EQ(command(MAC, 1, group, 6), ERR);
	CHECK_EQ(command(MAC, 1, zero, 6), ERR);
	CHECK_EQ(command(MAC, 1, other, 5), ERR);
	CHECK(reaches(other, -1));
	tb_virtio_set_status(d, 0);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 5), 1);
}

static void test_announce(void)
{
	setup_ctrl(F_CTRL);
	tb_net_link(tb, 0, false);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 0);
	tb_net_link(tb, 0, true);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 3);
	CHECK_EQ(command(ANNOUNCE, 1, NULL, 0), ERR);
	CHECK_EQ(command(ANNOUNCE, 0, NULL, 1), ERR);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 3);
	CHECK_EQ(command(ANNOUNCE, 0, NULL, 0), OK);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 1);
	setup_ctrl(F_CTRL & ~VNET_F_GUEST_ANNOUNCE);
	tb_net_link(tb, 0, false);
	tb_net_link(tb, 0, true);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 6), 1);
	CHECK_EQ(command(ANNOUNCE, 0, NULL, 0), ERR);
}

static uint8_t offloads(uint64_t v)
{
	return command(OFFLOADS, 0, &v, 8);
}

static void test_offloads(void)
{
	setup_ctrl(F_OFFLOADS);
	CHECK_EQ(offloads(0), OK);
	CHECK_EQ(offloads(VNET_F_GUEST_CSUM), OK);
	CHECK_EQ(offloads(VNET_F_GUEST_CSUM | VNET_F_GUEST_TSO4), OK);
	CHECK_EQ(offloads(VNET_F_GUEST_TSO6), ERR); /* not negotiated */
	CHECK_EQ(offloads(VNET_F_MRG_RXBUF), ERR); /* no offload */
	CHECK_EQ(offloads(BIT64(10)), ERR);
	CHECK_EQ(offloads(UINT64_MAX), ERR);
	CHECK_EQ(command(OFFLOADS, 1, NULL, 8), ERR);
	check_works();
	setup_ctrl(F_CTRL);
	CHECK_EQ(offloads(0), ERR);
}

/* Commands of features that the driver did not accept. */
static void test_not_negotiated(void)
{
	uint8_t t[8] = { 0 };

	setup_ctrl(F_MRG | VNET_F_CTRL_VQ);
	for (uint8_t cmd = 0; cmd < 6; cmd++)
		CHECK_EQ(mode(cmd, 0), ERR);
	CHECK_EQ(command(MAC, 0, t, 8), ERR);
	CHECK_EQ(command(MAC, 1, other, 6), ERR);
	CHECK_EQ(number(VLAN, 0, 1), ERR);
	CHECK_EQ(number(MQ, 0, 1), ERR);
	CHECK(reaches(other, -1));
	/* and the whole queue */
	setup_ctrl(F_MRG);
	tb_vq_add(&vq[2], (struct tb_buf[]){ { ctl_mem, 3, false }, { ctl_mem + 16, 1, true } }, 2);
	tb_virtio_kick(d, 2);
	CHECK_EQ(tb_vq_used_idx(&vq[2]), 0);
	check_works();
}

/* Every class and command with data of every length: an answer to each, and nothing breaks. */
static void test_malformed(void)
{
	uint8_t data[40];

	setup_ctrl(F_OFFLOADS);
	for (unsigned int class = 0; class < 8; class ++)
		for (unsigned int cmd = 0; cmd < 8; cmd++)
			for (uint32_t len = 0; len < sizeof(data); len++) {
				uint8_t r;

				memset(data, (int)(class + cmd + len), sizeof(data));
				r = command((uint8_t) class, (uint8_t)cmd, data, len);
				CHECK(r == OK || r == ERR);
			}
	for (unsigned int class = 8; class < 256; class ++)
		CHECK_EQ(command((uint8_t) class, 0, data, 1), ERR);
	for (unsigned int cmd = 6; cmd < 256; cmd++)
		CHECK_EQ(command(RX, (uint8_t)cmd, data, 1), ERR);
	CHECK_EQ(command(MAC, 0, NULL, 30000), ERR);
	CHECK(!needs_reset());
	start(F_OFFLOADS, 3);
	rx_fill(0, 32, 2048);
	check_works();
}

/* Commands of 0 or 1 bytes, cut into single bytes, with a long place for the answer. */
static void test_shapes(void)
{
	struct tb_buf b[8];
	uint32_t id, len;

	setup_ctrl(F_CTRL);
	for (uint32_t n = 0; n < 2; n++) {
		b[0] = (struct tb_buf){ ctl_mem, n, false };
		b[1] = (struct tb_buf){ ctl_mem + 100, 1, true };
		*(uint8_t *)tb_mem(tb, ctl_mem + 100, 1) = POISON;
		tb_vq_add(&vq[2], b, 2);
		tb_virtio_kick(d, 2);
		CHECK(tb_vq_used(&vq[2], &id, &len));
		CHECK_EQ(*(uint8_t *)tb_mem(tb, ctl_mem + 100, 1), ERR);
	}
	memcpy(tb_mem(tb, ctl_mem, 4), "\x02\x00\x0a\x00", 4);
	for (unsigned int i = 0; i < 4; i++)
		b[i] = (struct tb_buf){ ctl_mem + i, 1, false };
	b[4] = (struct tb_buf){ ctl_mem + 100, 64, true };
	tb_vq_add(&vq[2], b, 5);
	tb_virtio_kick(d, 2);
	CHECK(tb_vq_used(&vq[2], &id, &len));
	CHECK_EQ(len, 1);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, ctl_mem + 100, 1), OK);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, ctl_mem + 101, 1), 0);
	/* nowhere to put the answer */
	tb_vq_add(&vq[2], b, 4);
	tb_virtio_kick(d, 2);
	CHECK(needs_reset());
	start(F_CTRL, 3);
	check_works();
}

/* More commands than one turn takes. */
static void test_many(void)
{
	const struct tb_buf b[] = { { ctl_mem, 3, false }, { 0, 1, true } };
	uint32_t id, len;

	setup_ctrl(F_CTRL);
	for (unsigned int i = 0; i < QUEUE_SIZE / 2; i++) {
		struct tb_buf c[2] = { b[0], b[1] };

		c[0].addr = ctl_mem;
		c[1].addr = ctl_mem + 100;
		tb_vq_add(&vq[2], c, 2);
	}
	tb_virtio_kick(d, 2);
	for (unsigned int i = 0; i < QUEUE_SIZE / 2; i++)
		CHECK(tb_vq_used(&vq[2], &id, &len));
	CHECK_EQ(tb_irqs(d, 3), 4);
	check_works();
}

/* --- queue pairs --- */

static void setup_pairs(void)
{
	setup_conf("queues=4\n", F_CTRL | VNET_F_MQ, 9);
	ctl = 8;
	for (unsigned int q = 0; q < 8; q += 2)
		rx_fill(q, 32, 2048);
}

static void check_pair(unsigned int pair)
{
	rx_send_on(pair, 100, pair);
	tb_run(tb);
	rx_check_on(2 * pair, 100, pair);
	CHECK_EQ(tb_irqs(d, 2 * pair + 1), 1);
	make_frame(64, pair, NULL);
	tx_post_hdr(2 * pair + 1, NULL, 64);
	tb_virtio_kick(d, 2 * pair + 1);
	tx_check_used(2 * pair + 1);
	CHECK_EQ(tb_irqs(d, 2 * pair + 2), 1);
	tx_check(64, pair);
}

static void test_pairs(void)
{
	const struct net_fault stuck = { .fail_queues = true, .fail_errno = EIO };

	setup_pairs();
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 8), 4);
	check_pair(0);
	/* the others are not in use: what the guest sends there is lost */
	make_frame(64, 1, NULL);
	tx_post_hdr(3, NULL, 64);
	tb_virtio_kick(d, 3);
	tx_check_used(3);
	tx_check_none();
	CHECK_EQ(tb_irqs(d, 4), 1);
	CHECK_EQ(number(MQ, 0, 4), OK);
	for (unsigned int i = 0; i < 4; i++)
		check_pair(i);
	CHECK_EQ(number(MQ, 0, 2), OK);
	check_pair(1);
	/* the line brings what was meant for the third pair to one that is in use */
	rx_send_on(2, 100, 9);
	tb_run(tb);
	CHECK_EQ(rx_next(4, NULL), (unsigned long long)-1);
	rx_check_on(0, 100, 9);
	CHECK_EQ(number(MQ, 0, 4), OK);
	check_pair(3);
	/* the line does not do it: all go on as before */
	tb_net_fault(tb, 0, &stuck);
	CHECK_EQ(number(MQ, 0, 2), ERR);
	for (unsigned int i = 1; i < 4; i++)
		check_pair(i);
	CHECK(tb_balanced(tb));
}

static void test_bad_pairs(void)
{
	setup_pairs();
	CHECK_EQ(number(MQ, 0, 2), OK);
	CHECK_EQ(number(MQ, 0, 0), ERR);
	CHECK_EQ(number(MQ, 0, 5), ERR);
	CHECK_EQ(number(MQ, 0, 9), ERR);
	CHECK_EQ(number(MQ, 0, 65535), ERR);
	CHECK_EQ(number(MQ, 1, 1), ERR);
	check_pair(1);
	/* one pair after a reset */
	start(F_CTRL | VNET_F_MQ, 9);
	ctl = 8;
	rx_fill(0, 4, 2048);
	rx_send_on(1, 100, 3);
	tb_run(tb);
	rx_check(100, 3);
}

/* Without MQ the control queue is the third one, whatever the card has (s5.1.2). */
static void test_pairs_not_negotiated(void)
{
	setup_conf("queues=4\n", F_CTRL, 9);
	ctl = 2;
	rx_fill(0, 4, 2048);
	CHECK_EQ(mode(0, 0), OK);
	CHECK(!reaches(other, -1));
	CHECK_EQ(number(MQ, 0, 2), ERR);
	for (unsigned int q = 3; q < 9; q++) {
		tb_vq_add(&vq[q], &(struct tb_buf){ tx_mem, 64, false }, 1);
		tb_virtio_kick(d, q);
		CHECK_EQ(tb_vq_used_idx(&vq[q]), 0);
	}
	CHECK(!needs_reset());
}

/* All pairs at once, both ways, through pauses. */
static void test_pairs_busy(void)
{
	setup_pairs();
	CHECK_EQ(number(MQ, 0, 4), OK);
	for (unsigned int round = 0; round < 200; round++) {
		for (unsigned int p = 0; p < 4; p++) {
			for (unsigned int i = 0; i < 3; i++)
				rx_send_on(p, 60 + round + i, round + i);
			make_frame(64, round, NULL);
			tx_post_hdr(2 * p + 1, NULL, 64);
			tb_w16(d, TB_V_BAR, TB_V_NOTIFY + 4 * (2 * p + 1), 0);
		}
		if (round % 16 == 0) {
			CHECK(tb_pause(tb));
			tb_resume(tb);
		}
		tb_run(tb);
		for (unsigned int p = 0; p < 4; p++) {
			for (unsigned int i = 0; i < 3; i++)
				rx_check_on(2 * p, 60 + round + i, round + i);
			rx_fill(2 * p, 3, 2048);
			tx_check_used(2 * p + 1);
			tx_check(64, round);
		}
	}
	CHECK(tb_balanced(tb));
}

/* Time passes, in which the line sends a frame in a microsecond. */
static void pass(unsigned int us)
{
	uint32_t id, len;

	while (us--) {
		tb_advance(tb, NS_PER_US);
		net_fault_release(tb_net(tb, 0), 2);
		tb_run(tb);
		for (unsigned int q = 1; q < 4; q += 2)
			while (tb_vq_used(&vq[q], &id, &len))
				;
		while (tb_net_next(tb, 0, NULL, got, sizeof(got)) >= 0)
			;
	}
}

/* A frame for the pair, with a kick if the guest was told to: the result. */
static bool send_told(unsigned int pair)
{
	struct tb_vq *q = &vq[2 * pair + 1];
	bool kick = tb_vq_avail_event(q) == q->avail_idx; /* s2.7.10 */

	make_frame(64, pair, NULL);
	tx_post_hdr(2 * pair + 1, NULL, 64);
	if (kick)
		tb_virtio_kick(d, 2 * pair + 1);
	return kick;
}

/* Each pair has a time of its own to be looked at: a look at one is none at another, which could end its stream. */
static void test_pairs_streams(void)
{
	const struct net_fault hold = { .hold = true };
	unsigned int kicks = 0;
	struct vnet_txq *tx;

	setup_conf("queues=2\n", F_CTRL | VNET_F_MQ | VIRTIO_F_EVENT_IDX, 5);
	tx = vnet_of(virtio_of(d))->tx;
	ctl = 4;
	CHECK_EQ(number(MQ, 0, 2), OK);
	tb_net_fault(tb, 0, &hold);
	for (unsigned int i = 0; i < 600; i++) {
		bool first = send_told(0), second = send_told(1);

		kicks += i >= 200 && (first || second);
		pass(4);
	}
	CHECK_EQ(kicks, 0);
	while (tx[0].look_ns < loop_now(tb_loop(tb)) + 10 * NS_PER_US) {
		CHECK(!send_told(0) && !send_told(1));
		pass(4);
	}
	/* the second one is due later */
	tx[1].look_ns = tx[0].look_ns + 10 * NS_PER_US;
	CHECK(!send_told(0) && !send_told(1));
	tb_advance(tb, tx[0].look_ns - loop_now(tb_loop(tb)));
	tb_run(tb);
	CHECK(tx[0].in_flight);
	CHECK(!tx[1].in_flight);
	tb_advance(tb, 10 * NS_PER_US);
	tb_run(tb);
	CHECK(tx[1].in_flight);
	pass(100);
	CHECK_EQ(tb_net_stats(tb, 0).tx_frames, tb_vq_used_idx(&vq[1]) + tb_vq_used_idx(&vq[3]));
	CHECK(tb_balanced(tb));
}

static const struct test_case cases[] = {
	{ "net filter", test_filter },
	{ "net filter keeps chains", test_filter_keeps_chains },
	{ "net address tables", test_tables },
	{ "N-04 address tables", test_bad_tables },
	{ "N-04 VLAN filter", test_vlan },
	{ "N-04 VLAN filter: short frames", test_vlan_short },
	{ "net address", test_address },
	{ "net announce", test_announce },
	{ "net guest offloads", test_offloads },
	{ "net control: not negotiated", test_not_negotiated },
	{ "N-04 control: malformed", test_malformed },
	{ "N-04 control: shapes", test_shapes },
	{ "net control: many", test_many },
	{ "net queue pairs", test_pairs },
	{ "N-04 queue pairs", test_bad_pairs },
	{ "net queue pairs not negotiated", test_pairs_not_negotiated },
	{ "net queue pairs busy", test_pairs_busy },
	{ "net queue pairs in streams", test_pairs_streams },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
