/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/tb_virtio.h"
#include "hw/table.h"
#include "hw/virtio_net_priv.h"
#include "load_tap.h"
#include "util/bytes.h"
#include "util/clock.h"

/*
 * vnet_load send|recv GAP: small frames between a tap and a driver of the real virtio-net card, GAP nanoseconds apart,
 * for bench/vnet_count. The driver is a thread that does with the event indices what Linux does; the first thread is
 * khyve's loop. Prints the number of frames, kicks, and the loop's system calls.
 */
#define FRAMES 20000u
#define QUEUE 256u
#define STRIDE 2048u
#define FRAME (NET_HDR_LEN + 64u)

struct load {
	struct tb *tb;
	struct dev *d;
	struct tb_vq vq[2]; /* receive, send */
	gpa_t buf[2];
	int packet;
	bool recv;
	uint64_t gap;
	unsigned int kicks, frames;
	uint16_t kicked; /* avail index up to which the device was told */
};

static void pass(uint64_t ns)
{
	uint64_t end = clock_mono_ns() + ns;

	while (clock_mono_ns() < end)
		sched_yield();
}

static uint16_t *shared(struct load *t, gpa_t gpa)
{
	return tb_mem(t->tb, gpa, 2);
}

/* A buffer for each direction, and what virtqueue_kick does (virtio 1.2 s2.7.10). */
static void put(struct load *t, unsigned int q, uint32_t head)
{
	struct tb_vq *v = &t->vq[q];
	const struct tb_buf b = { t->buf[q] + head * STRIDE, q ? FRAME : STRIDE, !q };
	uint16_t event;

	tb_vq_desc(v, v->desc, head, &b, q ? 0 : TB_WRITE, 0);
	tb_vq_put16(v, v->avail + 4 + 2ull * (v->avail_idx % QUEUE), (uint16_t)head);
	__atomic_store_n(shared(t, v->avail + 2), ++v->avail_idx, __ATOMIC_SEQ_CST);
	event = __atomic_load_n(shared(t, v->used + 4 + 8ull * QUEUE), __ATOMIC_SEQ_CST);
	if (event != (uint16_t)(v->avail_idx - 1))
		return;
	t->kicks++;
	tb_w16(t->d, TB_V_BAR, TB_V_NOTIFY + 4 * q, (uint16_t)q);
}

/* Takes what came back; asks for an interrupt once three quarters of the rest have (s2.7.7). Returns how many. */
static unsigned int take(struct load *t, unsigned int q, uint32_t heads[QUEUE])
{
	struct tb_vq *v = &t->vq[q];
	unsigned int n = 0;

	while (__atomic_load_n(shared(t, v->used + 2), __ATOMIC_ACQUIRE) != v->seen)
		heads[n++] = get_le32(tb_mem(t->tb, v->used + 4 + 8ull * (v->seen++ % QUEUE), 8));
	__atomic_store_n(shared(t, v->avail + 4 + 2ull * QUEUE),
			 (uint16_t)(v->seen + (q ? (v->avail_idx - v->seen) * 3 / 4 : 0)),
			 __ATOMIC_SEQ_CST);
	return n;
}

static void *sender(void *arg)
{
	struct load *t = arg;
	struct tb_vq *v = &t->vq[1];
	uint32_t heads[QUEUE];

	for (t->frames = 0; t->frames < FRAMES; t->frames++) {
		do
			take(t, 1, heads);
		while ((uint16_t)(v->avail_idx - v->seen) >= QUEUE - 20 && !sched_yield());
		put(t, 1, v->avail_idx % QUEUE);
		pass(t->gap);
	}
	while (v->avail_idx != v->seen) {
		take(t, 1, heads);
		sched_yield();
	}
	loop_stop(tb_loop(t->tb));
	return NULL;
}

static void *receiver(void *arg)
{
	struct load *t = arg;
	uint8_t frame[FRAME - 2] = { 0 };
	uint32_t heads[QUEUE];
	unsigned int n, sent = 0;

	memset(frame + NET_HDR_LEN - 2, 0xff, 6);
	for (uint32_t i = 0; i < QUEUE; i++)
		put(t, 0, i);
	while (t->frames < FRAMES) {
		if (sent < FRAMES && sent - t->frames < QUEUE / 2)
			sent += write(t->packet, frame, sizeof(frame)) == sizeof(frame);
		pass(t->gap);
		n = take(t, 0, heads);
		for (unsigned int i = 0; i < n; i++)
			put(t, 0, heads[i]);
		t->frames += n;
	}
	loop_stop(tb_loop(t->tb));
	return NULL;
}

int main(int argc, char **argv)
{
	const struct tb_opts opts = { .engine = LOOP_URING, .msi_fds = true };
	struct load *t = calloc(1, sizeof(*t));
	struct loop_stats before, after;
	pthread_t guest;

	if (!t || argc != 3)
		errx(2, "usage: vnet_load send|recv GAP");
	t->packet = load_tap();
	t->recv = strcmp(argv[1], "recv") == 0;
	t->gap = strtoull(argv[2], NULL, 10);
	t->tb = tb_new(&opts);
	t->d = tb_add(t->tb, hw_find("virtio-net"), "backend=tap0\nvhost=off\n", NULL);
	if (!t->d || !tb_virtio_start(t->d, VNET_F_MAC | VNET_F_MRG_RXBUF | VIRTIO_F_EVENT_IDX,
				      t->vq, 2, QUEUE))
		errx(1, "cannot set the card up");
	for (unsigned int q = 0; q < 2; q++)
		t->buf[q] = tb_alloc(t->tb, QUEUE * STRIDE, 4096);
	tb_run(t->tb);
	loop_stats_get(tb_loop(t->tb), &before);
	if (pthread_create(&guest, NULL, t->recv ? receiver : sender, t) != 0)
		errx(1, "cannot start the guest");
	loop_run(tb_loop(t->tb));
	pthread_join(guest, NULL);
	loop_stats_get(tb_loop(t->tb), &after);
	printf("%u %u %llu\n", t->frames, t->kicks,
	       (unsigned long long)(after.waits - before.waits));
	tb_free(t->tb);
	free(t);
	return 0;
}
