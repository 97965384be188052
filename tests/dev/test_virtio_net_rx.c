/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/test_virtio_net.h"

#include "util/clock.h"

/* Receiving: how frames get into the guest's chains. */

static void test_receive(void)
{
	const size_t lengths[] = { 14, 15, 60, 1514, 2000, 9014, 65535, BIG };

	setup(F_MRG);
	rx_fill(0, 128, 2048);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		unsigned int n;

		rx_send(lengths[i], (unsigned int)i);
		tb_run(tb);
		make_frame(lengths[i], (unsigned int)i, NULL);
		CHECK_EQ(rx_next(0, &n), lengths[i]);
		CHECK(memcmp(got, frame, lengths[i]) == 0);
		CHECK_EQ(n, (lengths[i] + NET_HDR_LEN + 2047) / 2048);
		CHECK_EQ(tb_irqs(d, 1), 1);
	}
}

static void test_receive_plain(void)
{
	setup(F_BASE);
	rx_fill(0, 4, 4096);
	rx_fill(0, 4, 128 * KIB);
	rx_send(1514, 1);
	rx_send(4096 - NET_HDR_LEN, 2);
	rx_send(60, 3);
	rx_send(14, 4);
	rx_send(BIG, 5);
	tb_run(tb);
	rx_check(1514, 1);
	rx_check(4096 - NET_HDR_LEN, 2);
	rx_check(60, 3);
	rx_check(14, 4);
	rx_check(BIG, 5);
}

/* Chains of many odd pieces, with and without merging, through an indirect table too. */
static void test_receive_shapes(void)
{
	for (int merge = 0; merge < 2; merge++) {
		setup((merge ? F_MRG : F_BASE) | VIRTIO_F_INDIRECT_DESC);
		for (unsigned int cut = 1; cut < 30; cut++) {
			struct tb_buf b[120];
			unsigned int n = 0;
			uint16_t head;

			for (unsigned int at = 0; at < 112; at += cut)
				b[n++] = (struct tb_buf){ rx_mem + at, MIN(cut, 112 - at), true };
			if (cut % 2)
				head = tb_vq_add(&vq[0], b, n);
			else
				head = tb_vq_add_indirect(&vq[0], rx_mem + 8192, b, n);
			rx_addr[0][head] = rx_mem;
			tb_virtio_kick(d, 0);
			rx_send(100, cut);
			tb_run(tb);
			rx_check(100, cut);
		}
	}
}

/* A chain with a readable part in front: only the writable part counts. */
static void test_receive_mixed_chain(void)
{
	const struct tb_buf b[] = { { tx_mem, 100, false }, { 0, 2048, true } };
	struct tb_buf c[2];

	setup(F_MRG);
	memcpy(c, b, sizeof(c));
	c[0].addr = tx_mem;
	c[1].addr = rx_mem;
	rx_addr[0][tb_vq_add(&vq[0], c, 2)] = rx_mem;
	tb_virtio_kick(d, 0);
	rx_send(100, 1);
	tb_run(tb);
	rx_check(100, 1);
}

/* Behind a short chain one of nearly 4 GiB, the same memory over and over: together they are more than 32 bits hold. */
static void test_receive_huge_chain(void)
{
	static struct tb_buf b[256];
	uint16_t head;

	setup(F_MRG | VIRTIO_F_INDIRECT_DESC);
	rx_fill(0, 1, 128 * KIB);
	rx_send(BIG, 1); /* from now on as much room as this is asked for */
	tb_run(tb);
	rx_check(BIG, 1);
	rx_post(0, 1, 60 * KIB);
	for (unsigned int i = 0; i < ARRAY_LEN(b); i++)
		b[i] = (struct tb_buf){ 0, TB_RAM, true };
	b[255].len -= 32 * KIB;
	vq[0].next_desc = 200; /* none of those of rx_post() */
	head = tb_vq_add_indirect(&vq[0], tx_mem, b, ARRAY_LEN(b));
	rx_busy[0][head] = true;
	tb_virtio_kick(d, 0);
	rx_send(1514, 2);
	tb_run(tb);
	rx_check(1514, 2);
	CHECK(!needs_reset());
	CHECK(tb_balanced(tb));
}

static void test_batch(void)
{
	setup(F_MRG);
	for (unsigned int i = 0; i < 20; i++)
		rx_send(64, i);
	rx_fill(0, 64, 2048);
	CHECK_EQ(tb_irqs(d, 1), 1); /* for all of them */
	for (unsigned int i = 0; i < 20; i++)
		rx_check(64, i);
	CHECK(tb_balanced(tb));
	CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	/* what was armed in vain is there for the next ones */
	for (unsigned int i = 0; i < 44; i++)
		rx_send(64, i);
	tb_run(tb);
	for (unsigned int i = 0; i < 44; i++)
		rx_check(64, i);
}

/* Kicks are asked for only when chains are needed. */
static void test_notify(void)
{
	setup(F_MRG);
	rx_fill(0, 2, 2048);
	rx_send(64, 1);
	tb_run(tb);
	CHECK_EQ(tb_vq_get16(&vq[0], vq[0].used), 1); /* NO_NOTIFY */
	rx_send(64, 2);
	rx_send(64, 3);
	tb_run(tb);
	CHECK_EQ(tb_vq_get16(&vq[0], vq[0].used), 0);
	rx_fill(0, 4, 2048);
	CHECK_EQ(tb_vq_get16(&vq[0], vq[0].used), 1);
	for (unsigned int i = 1; i <= 3; i++)
		rx_check(64, i);
	setup(F_MRG | VIRTIO_F_EVENT_IDX);
	rx_fill(0, 5, 2048);
	for (unsigned int i = 0; i < 6; i++)
		rx_send(64, i);
	tb_run(tb);
	CHECK_EQ(tb_vq_avail_event(&vq[0]), 5);
	rx_fill(0, 1, 2048);
	for (unsigned int i = 0; i < 6; i++)
		rx_check(64, i);
}

/* The guest gives no chains: frames wait outside, nothing is read, nothing spins; then all of them come. */
static void test_no_chains(void)
{
	const unsigned int many = 200;

	setup(F_MRG);
	for (unsigned int i = 0; i < many; i++)
		rx_send(64 + i, i);
	tb_run(tb);
	CHECK_EQ(tb_run(tb), 0);
	CHECK_EQ(tb_net_stats(tb, 0).accepted, 0);
	for (unsigned int i = 0; i < many; i++) {
		rx_fill(0, 1, 2048);
		rx_check(64 + i, i);
	}
	CHECK(tb_balanced(tb));
}

/* The outside floods with the longest frames: what it may have us keep ends, and the queue lives. */
static void test_flood(void)
{
	int r = 0;
	unsigned int n = 0;

	setup(F_MRG);
	make_frame(BIG, 1, NULL);
	while (r == 0 && n++ < 5000)
		r = tb_net_queue(tb, 0, 0, NULL, frame, BIG);
	CHECK_EQ(r, (unsigned long long)-ENOBUFS);
	CHECK_EQ(tb_net_stats(tb, 0).accepted, 0);
	/* eight chains never hold such a frame: each is read and dropped */
	rx_fill(0, 8, 2048);
	tb_advance(tb, 1 * NS_PER_SEC);
	CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	CHECK(tb_balanced(tb));
	rx_send(64, 2);
	tb_run(tb);
	rx_check(64, 2);
	rx_fill(0, 60, 2048);
	rx_send(BIG, 3);
	tb_run(tb);
	rx_check(BIG, 3);
}

/* Frames of all sizes through chains of all sizes, the guest putting chains back at its own pace. */
static void mixed(uint32_t size, unsigned int chains, unsigned int frames, uint32_t longest)
{
	unsigned int sent = 0, seen = 0, free_chains = 0, rnd = size;

	setup(F_MRG | VIRTIO_F_EVENT_IDX);
	rx_fill(0, chains, size);
	while (seen < frames) {
		unsigned int burst = 1 + rnd % 40, n;

		for (; burst && sent < frames; burst--, sent++) {
			rnd = rnd * 1103515245 + 12345;
			rx_send(60 + (rnd >> 16) % (sent / 128 % 2 ? longest : 1400), sent);
		}
		tb_run(tb);
		/* every second burst is left to wait */
		while (rnd & 0x10000 || sent == frames || seen + 500 < sent) {
			int len = rx_next(0, &n);

			if (len < 0)
				break;
			make_frame((size_t)len, seen, NULL);
			CHECK(memcmp(got, frame, (size_t)len) == 0);
			seen++;
			free_chains += n;
			if (rnd & 0x20000) {
				rx_fill(0, free_chains, size);
				free_chains = 0;
			}
		}
		rx_fill(0, free_chains, size);
		free_chains = 0;
	}
	CHECK_EQ(tb_net_stats(tb, 0).rx_frames, frames);
	CHECK(tb_balanced(tb));
}

static void test_mixed(void)
{
	mixed(1536, 256, 3000, 65000);
	mixed(4096, 256, 2000, 65000);
	mixed(1000, 200, 2000, 9000);
	mixed(65536 + 4096, 15, 500, 65000);
	mixed(26, 256, 500, 1400);
}

/* A burst of long frames, when short ones were expected, for which the ring is too small at once: none is lost. */
static void test_burst(void)
{
	unsigned int n, seen = 0;

	setup(F_MRG);
	rx_fill(0, QUEUE_SIZE, 1536);
	for (unsigned int i = 0; i < 100; i++)
		rx_send(60, i);
	tb_run(tb);
	for (unsigned int i = 0; i < 100; i++)
		rx_check(60, i);
	rx_fill(0, 100, 1536);
	for (unsigned int i = 0; i < 32; i++)
		rx_send(60000, i);
	tb_run(tb);
	CHECK_EQ(tb_run(tb), 0);
	while (seen < 32) {
		make_frame(60000, seen, NULL);
		CHECK_EQ(rx_next(0, &n), 60000);
		CHECK(memcmp(got, frame, 60000) == 0);
		seen++;
		rx_fill(0, n, 1536);
	}
	CHECK(tb_balanced(tb));
}

/* The same with a guest that does not put chains back: frames that cannot lie anywhere are dropped after a while. */
static void test_give_up(void)
{
	unsigned int seen = 0;

	setup(F_MRG);
	rx_fill(0, QUEUE_SIZE, 1536);
	for (unsigned int i = 0; i < 20; i++)
		rx_send(60000, i);
	tb_run(tb);
	while (rx_next(0, NULL) >= 0)
		seen++;
	CHECK(seen >= 4);
	rx_send(60, 7); /* which there is room for */
	tb_run(tb);
	CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	for (unsigned int i = 0; i < 20; i++)
		tb_advance(tb, 1 * NS_PER_SEC);
	CHECK_EQ(tb_run(tb), 0);
	rx_check(60, 7);
	CHECK(tb_balanced(tb));
	rx_fill(0, 100, 1536);
	rx_send(60000, 8);
	tb_run(tb);
	rx_check(60000, 8);
}

/* Reset, pause and bus master off while a frame waits for chains. */
static void stall(void)
{
	setup(F_MRG);
	rx_fill(0, QUEUE_SIZE, 1536);
	for (unsigned int i = 0; i < 20; i++)
		rx_send(60000, i);
	tb_run(tb);
	CHECK(tb_vq_used_idx(&vq[0]) > 40);
}

static void test_stalled(void)
{
	unsigned int seen = 0;

	stall();
	tb_virtio_set_status(d, 0);
	CHECK_EQ(tb_virtio_status(d), 0);
	tb_advance(tb, 1 * NS_PER_SEC);
	start(F_MRG, 2);
	rx_fill(0, 60, 2048);
	while (rx_next(0, NULL) >= 0)
		rx_fill(0, 30, 2048);
	check_works();

	stall();
	CHECK(tb_pause(tb));
	tb_advance(tb, 1 * NS_PER_SEC);
	CHECK_EQ(tb_run(tb), 0);
	tb_resume(tb);
	for (unsigned int n; rx_next(0, &n) >= 0; seen++)
		rx_fill(0, n, 1536);
	CHECK_EQ(seen, 20);

	stall();
	tb_bus_master(d, false);
	tb_advance(tb, 1 * NS_PER_SEC);
	CHECK_EQ(tb_run(tb), 0);
	tb_bus_master(d, true);
	tb_run(tb);
	CHECK(tb_balanced(tb));
}

/* Too small, of length 0, or not writable at all: given back unused, and the next chain gets the frame. */
static void test_bad_chains(void)
{
	for (int merge = 0; merge < 2; merge++) {
		uint32_t id, len;

		setup(merge ? F_MRG : F_BASE);
		tb_vq_add(&vq[0], &(struct tb_buf){ rx_mem, 2048, false }, 1);
		tb_vq_add(&vq[0], &(struct tb_buf){ rx_mem, 0, true }, 1);
		tb_vq_add(&vq[0], &(struct tb_buf){ rx_mem, 11, true }, 1);
		tb_vq_add(&vq[0], &(struct tb_buf){ rx_mem, VNET_FRAME_MIN - 1, true }, 1);
		rx_send(100, 1);
		rx_fill(0, 1, 2048);
		tb_run(tb);
		for (unsigned int i = 0; i < 4; i++) {
			CHECK(tb_vq_used(&vq[0], &id, &len));
			CHECK_EQ(id, i);
			CHECK_EQ(len, 0);
		}
		rx_check(100, 1);
		check_works();
	}
}

/* A whole ring of chains that are good for nothing. */
static void test_useless_ring(void)
{
	setup(F_MRG);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		tb_vq_add(&vq[0], &(struct tb_buf){ rx_mem, 1, true }, 1);
	rx_send(100, 1);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), QUEUE_SIZE);
	vq[0].seen = QUEUE_SIZE;
	CHECK_EQ(tb_run(tb), 0);
	rx_fill(0, 1, 2048);
	rx_check(100, 1);
	check_works();
}

/* Without merging, a frame that is longer than the chain is dropped, and the chain waits at the end of the line. */
static void test_chain_too_short(void)
{
	setup(F_BASE);
	rx_post(0, 3, 128);
	rx_fill(0, 1, 2048);
	for (unsigned int i = 0; i < 3; i++) {
		rx_send(1000, i);
		tb_run(tb);
		CHECK_EQ(rx_next(0, NULL), (unsigned long long)-1);
	}
	rx_send(1000, 3);
	tb_run(tb);
	rx_check(1000, 3);
	for (unsigned int i = 0; i < 3; i++) {
		rx_send(100, i);
		tb_run(tb);
		rx_check(100, i);
	}
	/* several in one batch */
	rx_post(0, 2, 128);
	rx_post(0, 1, 2048);
	rx_fill(0, 1, 128);
	rx_send(1000, 4);
	rx_send(1000, 5);
	rx_send(1000, 6);
	rx_send(100, 7);
	tb_run(tb);
	rx_check(1000, 6);
	rx_check(100, 7);
	rx_send(100, 8);
	rx_send(100, 9);
	tb_run(tb);
	rx_check(100, 8);
	rx_check(100, 9);
}

static void test_failing_line(void)
{
	static const int errnos[] = { EIO, EMSGSIZE, EAGAIN };

	for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
		const struct net_fault first = { .fail_nth = 1, .fail_errno = errnos[i] };
		const struct net_fault third = { .fail_nth = 3, .fail_errno = errnos[i] };

		for (int merge = 0; merge < 2; merge++) {
			setup(merge ? F_MRG : F_BASE);
			tb_net_fault(tb, 0, &first);
			rx_fill(0, 8, 2048);
			for (unsigned int k = 0; k < 20; k++)
				rx_send(64, k);
			rx_fill(0, 8, 2048);
			tb_net_fault(tb, 0, &third);
			rx_fill(0, 8, 2048);
			tb_net_fault(tb, 0, NULL);
			tb_advance(tb, 1 * NS_PER_SEC);
			for (unsigned int k = 0; k < 20; k++)
				rx_check(64, k);
			check_works();
		}
	}
}

/* A line that has a frame and never gives it costs a look now and then, whatever else happens. */
static void broken_line(uint64_t features, int error)
{
	const struct net_fault always = { .fail_nth = -1, .fail_errno = error };
	uint64_t before;

	setup(features);
	rx_fill(0, 8, 2048);
	tb_net_fault(tb, 0, &always);
	rx_send(64, 1);
	tb_run(tb);
	before = tb_net_stats(tb, 0).accepted;
	for (unsigned int i = 0; i < 20; i++)
		tb_advance(tb, 100 * NS_PER_MS);
	CHECK(tb_net_stats(tb, 0).accepted - before >= 20);
	before = tb_net_stats(tb, 0).accepted;
	rx_fill(0, 8, 2048);
	CHECK_EQ(tb_net_stats(tb, 0).accepted, before);
	/* The timer may come while the device is paused. */
	CHECK(tb_pause(tb));
	tb_advance(tb, 1 * NS_PER_SEC);
	tb_net_fault(tb, 0, NULL);
	tb_resume(tb);
	tb_run(tb);
	rx_check(64, 1);
	check_works();
}

static void test_broken_line(void)
{
	static const int errnos[] = { EIO, EINVAL, EMSGSIZE, EAGAIN };

	for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
		broken_line(F_BASE, errnos[i]);
		broken_line(F_MRG, errnos[i]);
	}
}

/* Completions held back, and let go one by one. */
static void test_held(void)
{
	const struct net_fault hold = { .hold = true };

	setup(F_MRG);
	rx_fill(0, 64, 2048);
	tb_net_fault(tb, 0, &hold);
	for (unsigned int i = 0; i < 20; i++)
		rx_send(3000, i);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	for (unsigned int i = 0; i < 400; i++) {
		net_fault_release(tb_net(tb, 0), 1);
		tb_run(tb);
	}
	for (unsigned int i = 0; i < 20; i++)
		rx_check(3000, i);
	tb_net_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_balanced(tb));
}

static void test_wrap(void)
{
	setup(F_MRG | VIRTIO_F_EVENT_IDX);
	rx_fill(0, 64, 256);
	for (unsigned int i = 0; i < FRAMES_MAX; i += 10) {
		for (unsigned int k = i; k < i + 10; k++)
			rx_send(60 + k % 64, k);
		tb_run(tb);
		for (unsigned int k = i; k < i + 10; k++)
			rx_check(60 + k % 64, k);
		rx_fill(0, 10, 256);
	}
	CHECK(tb_balanced(tb));
}

static const struct test_case cases[] = {
	{ "net receive", test_receive },
	{ "net receive without merging", test_receive_plain },
	{ "net receive: pieces of every size", test_receive_shapes },
	{ "net receive: chains with a readable part", test_receive_mixed_chain },
	{ "net receive: a chain of 4 GiB", test_receive_huge_chain },
	{ "net receive: batches", test_batch },
	{ "VQ-25 receive: notifications", test_notify },
	{ "N-06 no chains", test_no_chains },
	{ "N-06 flood", test_flood },
	{ "net receive: frames and chains of all sizes", test_mixed },
	{ "net receive: burst of long frames", test_burst },
	{ "net receive: chains never come", test_give_up },
	{ "VQ-23 receive: reset, pause, bus master off while waiting for chains", test_stalled },
	{ "N-03 useless chains", test_bad_chains },
	{ "N-03 a ring full of useless chains", test_useless_ring },
	{ "N-03 chain shorter than the frame", test_chain_too_short },
	{ "net receive: failing line", test_failing_line },
	{ "net receive: broken line", test_broken_line },
	{ "net receive: completions held back", test_held },
	{ "VQ-29 receive: indices wrap", test_wrap },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
