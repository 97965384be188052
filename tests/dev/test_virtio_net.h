/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_DEV_TEST_VIRTIO_NET_H
#define TESTS_DEV_TEST_VIRTIO_NET_H

#include <errno.h>
#include <stdlib.h>

#include "bench/tb_virtio.h"
#include "hw/models.h"
#include "hw/virtio_net_priv.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

/* A driver of the network card, for the tests of its two halves. */
#define QUEUE_SIZE 256
#define FRAMES_MAX 70000
#define BIG (65535 + 14 + 4)
#define RX_MEM (1 * MIB) /* per queue: buffers of one size, one behind the other */

#define F_BASE (VNET_F_CSUM | VNET_F_MAC | VNET_F_STATUS)
#define F_MRG (F_BASE | VNET_F_MRG_RXBUF)
#define F_CTRL                                                                               \
	(F_MRG | VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_RX_EXTRA | VNET_F_CTRL_VLAN | \
	 VNET_F_CTRL_MAC_ADDR | VNET_F_GUEST_ANNOUNCE)

static struct tb *tb;
static struct dev *d;
static struct tb_vq vq[17];
static gpa_t rx_mem, tx_mem, ctl_mem;
static gpa_t rx_addr[17][QUEUE_SIZE]; /* of the chain with this head */
static bool rx_busy[17][QUEUE_SIZE]; /* the device has it */
static uint8_t frame[BIG + 1000], got[BIG + 1000];

static inline void start(uint64_t features, unsigned int queues)
{
	tb_alloc_reset(tb);
	CHECK(tb_virtio_start(d, features, vq, queues, QUEUE_SIZE));
	rx_mem = tb_alloc(tb, 8 * RX_MEM, 4096);
	tx_mem = tb_alloc(tb, 2 * MIB, 4096);
	ctl_mem = tb_alloc(tb, 64 * KIB, 4096);
	memset(rx_busy, 0, sizeof(rx_busy));
	tb_run(tb);
	for (unsigned int q = 0; q <= queues; q++)
		tb_irqs(d, q);
}

static inline void setup_conf(const char *conf, uint64_t features, unsigned int queues)
{
	static const struct tb_opts opts = { .faults = true };
	struct err err = { "" };

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &virtio_net_ops, conf, &err);
	if (!d)
		CHECK_FAIL("%s", err.text);
	start(features, queues);
}

static inline void setup(uint64_t features)
{
	setup_conf(NULL, features, features & VNET_F_CTRL_VQ ? 3 : 2);
}

static inline bool needs_reset(void)
{
	return tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET;
}

/* --- frames --- */

/* Bytes that depend on the seed, from our broadcast address or to dst. */
static inline void make_frame(size_t len, unsigned int seed, const uint8_t *dst)
{
	for (size_t i = 0; i < len; i++)
		frame[i] = (uint8_t)(seed * 7 + i * 13 + (i >> 8));
	memset(frame, 0xff, MIN(len, (size_t)6));
	if (dst)
		memcpy(frame, dst, 6);
	if (len >= 14)
		put_be16(frame + 12, 0x88b5); /* local experimental */
}

/* Puts the header and the frame into guest memory, and posts them as n equal pieces behind a piece for the header. */
static inline void tx_post_hdr(unsigned int q, const struct net_hdr *hdr, size_t len)
{
	uint32_t slot = vq[q].avail_idx % 16 * 128 * KIB;
	const struct tb_buf b[] = { { tx_mem + slot, NET_HDR_LEN, false },
				    { tx_mem + slot + 64, (uint32_t)len, false } };

	if (hdr)
		memcpy(tb_mem(tb, tx_mem + slot, NET_HDR_LEN), hdr, NET_HDR_LEN);
	else
		memset(tb_mem(tb, tx_mem + slot, NET_HDR_LEN), 0, NET_HDR_LEN);
	memcpy(tb_mem(tb, tx_mem + slot + 64, len), frame, len);
	tb_vq_add(&vq[q], b, 2);
}

/* One used entry of a send queue, which never has bytes written. */
static inline void tx_check_used(unsigned int q)
{
	uint32_t id, len;

	CHECK(tb_vq_used(&vq[q], &id, &len));
	CHECK_EQ(len, 0);
}

static inline void tx_send(size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	tx_post_hdr(1, NULL, len);
	tb_virtio_kick(d, 1);
	tx_check_used(1);
}

/* The outside gets exactly this frame next. */
static inline void tx_check(size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	CHECK_EQ(tb_net_next(tb, 0, NULL, got, sizeof(got)), len);
	CHECK(memcmp(got, frame, len) == 0);
}

static inline void tx_check_none(void)
{
	CHECK_EQ(tb_net_next(tb, 0, NULL, got, sizeof(got)), (unsigned long long)-EAGAIN);
}

/* Posts count buffers of size bytes without kicking. Chains come back in any order. */
static inline void rx_post(unsigned int q, unsigned int count, uint32_t size)
{
	for (uint16_t head = 0; count; head++) {
		gpa_t at = rx_mem + q / 2 * RX_MEM + (gpa_t)head * size;

		CHECK(head < QUEUE_SIZE);
		if (rx_busy[q][head])
			continue;
		CHECK((head + 1u) * size <= RX_MEM);
		tb_vq_desc(&vq[q], vq[q].desc, head, &(struct tb_buf){ at, size, true }, TB_WRITE,
			   0);
		tb_vq_avail(&vq[q], head);
		rx_addr[q][head] = at;
		rx_busy[q][head] = true;
		count--;
	}
}

static inline void rx_fill(unsigned int q, unsigned int count, uint32_t size)
{
	rx_post(q, count, size);
	tb_virtio_kick(d, q);
}

/* The next frame that the guest received: length without header in got, or -1. Checks num_buffers; chains to *n. */
static inline int rx_next(unsigned int q, unsigned int *n)
{
	uint32_t id, len, left = 1, total = 0;

	for (unsigned int i = 0; i < left; i++) {
		if (!tb_vq_used(&vq[q], &id, &len)) {
			if (i)
				CHECK_FAIL("%u of %u chains are missing", left - i, left);
			return -1;
		}
		rx_busy[q][id] = false;
		CHECK(total + len <= sizeof(got));
		memcpy(got + total, tb_mem(tb, rx_addr[q][id], len), len);
		total += len;
		if (i == 0) {
			CHECK(len >= NET_HDR_LEN);
			left = get_le16(got + 10);
			CHECK(left);
		}
	}
	if (n)
		*n = left;
	memmove(got, got + NET_HDR_LEN, total - NET_HDR_LEN);
	return (int)(total - NET_HDR_LEN);
}

static inline void rx_check_on(unsigned int q, size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	CHECK_EQ(rx_next(q, NULL), len);
	CHECK(memcmp(got, frame, len) == 0);
}

static inline void rx_check(size_t len, unsigned int seed)
{
	rx_check_on(0, len, seed);
}

/* The outside sends; nothing is run yet. */
static inline void rx_send_on(unsigned int q, size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	CHECK_EQ(tb_net_queue(tb, 0, q, NULL, frame, len), 0);
}

static inline void rx_send(size_t len, unsigned int seed)
{
	rx_send_on(0, len, seed);
}

/* Frames still pass both ways. Posts buffers of its own. */
static inline void check_works(void)
{
	rx_fill(0, 4, 2048);
	rx_send(100, 77);
	tb_run(tb);
	rx_check(100, 77);
	tx_send(200, 78);
	tx_check(200, 78);
	CHECK(!needs_reset());
	CHECK(tb_balanced(tb));
}

#endif
