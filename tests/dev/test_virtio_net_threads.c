/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "bench/tb_virtio.h"
#include "hw/models.h"
#include "hw/virtio_net_priv.h"
#include "run.h"
#include "util/bytes.h"
#include "util/clock.h"

/*
 * Rings that a guest fills and empties while the loop works on them: with event indices no frame may be forgotten, and
 * neither a cable that comes and goes nor a reset may leave a request behind.
 */

#define SIZE 64 /* of each queue */
#define STRIDE 256 /* of a buffer */
#define FRAME 100
#define FRAMES 4000
#define ROUNDS 40
#define PATIENCE (10 * NS_PER_SEC)
#define FEATURES (VNET_F_MAC | VNET_F_STATUS | VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VIRTIO_F_EVENT_IDX)

enum { RX, TX, CTRL, QUEUES };

struct fix {
	struct tb *tb;
	struct dev *d;
	struct tb_vq vq[QUEUES];
	gpa_t buf[QUEUES];
	atomic_uint running;
	atomic_bool stuck;
	unsigned int sent, received;
	/* the outside: whatever comes goes back, one at a time, on the loop's thread */
	struct net *outside;
	struct net_req in, out;
	struct net_hdr hdr;
	uint8_t frame[STRIDE];
	struct iovec in_iov[3], out_iov[3];
	/* the cable, on the loop's thread, too */
	struct loop_timer cable;
	unsigned int flaps;
};

/* --- the outside --- */

static void echo_in(struct fix *f)
{
	struct net_req *r = &f->in;

	f->in_iov[0] = (struct iovec){ &f->hdr, sizeof(f->hdr) };
	f->in_iov[1] = (struct iovec){ f->frame, sizeof(f->frame) };
	r->iov = f->in_iov;
	r->iovcnt = 2;
	net_recv(f->outside, 0, &r, 1);
}

static void echo_in_done(struct net_req *r, int res)
{
	struct fix *f = container_of(r, struct fix, in);
	struct net_req *out = &f->out;

	if (res < 0) {
		net_want(f->outside, 0, true);
		return;
	}
	f->out_iov[0] = (struct iovec){ &f->hdr, sizeof(f->hdr) };
	f->out_iov[1] = (struct iovec){ f->frame, (size_t)res - sizeof(f->hdr) };
	out->iov = f->out_iov;
	out->iovcnt = 2;
	net_send(f->outside, 0, &out, 1);
}

static void echo_out_done(struct net_req *r, int res)
{
	(void)res;
	echo_in(container_of(r, struct fix, out));
}

static void echo_readable(void *arg, unsigned int q)
{
	(void)q;
	net_want(((struct fix *)arg)->outside, 0, false);
	echo_in(arg);
}

static void cable_due(struct loop_timer *t)
{
	struct fix *f = container_of(t, struct fix, cable);

	dev_link(f->d, f->flaps++ % 2);
	loop_timer_set(t, loop_now(tb_loop(f->tb)) + 200 * NS_PER_US);
}

/* --- the guest: a driver whose rings are read by another thread --- */

static void publish(struct fix *f, unsigned int queue, uint16_t head)
{
	struct tb_vq *q = &f->vq[queue];
	uint16_t *avail = tb_mem(f->tb, q->avail, 4), event, now = (uint16_t)(q->avail_idx + 1);

	tb_vq_put16(q, q->avail + 4 + 2ull * (q->avail_idx % q->size), head);
	__atomic_store_n(&avail[1], now, __ATOMIC_SEQ_CST);
	q->avail_idx = now;
	event = __atomic_load_n((uint16_t *)tb_mem(f->tb, q->used + 4 + 8ull * q->size, 2),
				__ATOMIC_SEQ_CST);
	/* s2.7.10: only when the device asked for this one */
	if (event == (uint16_t)(now - 1))
		tb_w16(f->d, TB_V_BAR, TB_V_NOTIFY + 4 * queue, (uint16_t)queue);
}

/* False: nothing came back. */
static bool take(struct fix *f, unsigned int queue, uint32_t *head)
{
	struct tb_vq *q = &f->vq[queue];
	uint16_t *used = tb_mem(f->tb, q->used, 4);

	if (__atomic_load_n(&used[1], __ATOMIC_ACQUIRE) == q->seen)
		return false;
	*head = get_le32(tb_mem(f->tb, q->used + 4 + 8ull * (q->seen % q->size), 8));
	q->seen++;
	return true;
}

static uint16_t waiting(const struct tb_vq *q)
{
	return (uint16_t)(q->avail_idx - q->seen);
}

static void give_buffer(struct fix *f, uint32_t head)
{
	const struct tb_buf b = { f->buf[RX] + head * STRIDE, STRIDE, true };

	tb_vq_desc(&f->vq[RX], f->vq[RX].desc, head, &b, TB_WRITE, 0);
	publish(f, RX, (uint16_t)head);
}

static void send_frame(struct fix *f)
{
	uint32_t i = f->vq[TX].avail_idx % SIZE;
	const struct tb_buf b = { f->buf[TX] + i * STRIDE, NET_HDR_LEN + FRAME, false };
	uint8_t *p = tb_mem(f->tb, b.addr, b.len);

	memset(p, 0, NET_HDR_LEN);
	memset(p + NET_HDR_LEN, 0xff, FRAME);
	put_be32(p + NET_HDR_LEN + NET_ETH_LEN, f->sent++);
	tb_vq_desc(&f->vq[TX], f->vq[TX].desc, i, &b, 0, 0);
	publish(f, TX, (uint16_t)i);
}

static void start_queues(struct fix *f)
{
	tb_alloc_reset(f->tb);
	for (unsigned int q = 0; q < QUEUES; q++)
		tb_virtio_queue(f->d, q, SIZE, &f->vq[q]);
	for (unsigned int q = 0; q < QUEUES; q++)
		f->buf[q] = tb_reserve(f->tb, SIZE * STRIDE, 4096);
	tb_virtio_driver_ok(f->d);
}

static bool in_time(struct fix *f, uint64_t since)
{
	if (clock_mono_ns() - since > PATIENCE)
		atomic_store(&f->stuck, true);
	sched_yield();
	return !atomic_load(&f->stuck);
}

static void leave(struct fix *f)
{
	if (atomic_fetch_sub(&f->running, 1) == 1)
		loop_stop(tb_loop(f->tb));
}

/* Sends no more than can come back. */
static void *sender(void *arg)
{
	struct fix *f = arg;
	uint64_t since = clock_mono_ns();
	uint32_t head;

	while (f->sent < FRAMES && in_time(f, since)) {
		unsigned int back = __atomic_load_n(&f->received, __ATOMIC_ACQUIRE);

		while (take(f, TX, &head))
			continue;
		if (f->sent - back >= SIZE / 2 || waiting(&f->vq[TX]) >= SIZE / 2)
			continue;
		since = clock_mono_ns();
		send_frame(f);
	}
	leave(f);
	return NULL;
}

/* At times it lets the card run out of buffers: then the line must be looked at again. */
static void *receiver(void *arg)
{
	struct fix *f = arg;
	uint64_t since = clock_mono_ns();
	unsigned int kept = 0;
	uint32_t head, heads[SIZE];

	for (head = 0; head < SIZE; head++)
		give_buffer(f, head);
	while (f->received < FRAMES && in_time(f, since)) {
		if (waiting(&f->vq[RX]) == 0 || f->received / 100 % 2)
			while (kept)
				give_buffer(f, heads[--kept]);
		if (!take(f, RX, &head))
			continue;
		since = clock_mono_ns();
		if (get_be32((uint8_t *)tb_mem(f->tb, f->buf[RX] + head * STRIDE, STRIDE) +
			     NET_HDR_LEN + NET_ETH_LEN) != f->received)
			atomic_store(&f->stuck, true);
		heads[kept++] = head;
		__atomic_store_n(&f->received, f->received + 1, __ATOMIC_RELEASE);
	}
	leave(f);
	return NULL;
}

/* Filters and registers, meanwhile. */
static void *settings(void *arg)
{
	struct fix *f = arg;
	struct tb_vq *q = &f->vq[CTRL];
	uint8_t *p = tb_mem(f->tb, f->buf[CTRL], 4);
	uint32_t head;

	while (atomic_load(&f->running) > 1) {
		const struct tb_buf b[] = { { f->buf[CTRL], 2, false },
					    { f->buf[CTRL] + 2, 1, false },
					    { f->buf[CTRL] + 3, 1, true } };
		uint64_t since = clock_mono_ns();

		memcpy(p, (uint8_t[]){ 0, 0, q->avail_idx % 2, 0xff }, 4); /* promiscuous or not */
		publish(f, CTRL, tb_vq_chain(q, b, ARRAY_LEN(b)));
		while (!take(f, CTRL, &head) && in_time(f, since))
			continue;
		if (p[3] != 0)
			atomic_store(&f->stuck, true);
		tb_r32(f->d, TB_V_BAR, TB_V_CONFIG);
		tb_r8(f->d, TB_V_BAR, TB_V_ISR);
	}
	leave(f);
	return NULL;
}

/* Sends and receives what it can, and resets the card while frames are on their way. */
static void *careless(void *arg)
{
	struct fix *f = arg;

	for (unsigned int round = 0; round < ROUNDS && !atomic_load(&f->stuck); round++) {
		uint64_t since = clock_mono_ns();
		uint32_t head;

		for (head = 0; head < SIZE; head++)
			give_buffer(f, head);
		for (unsigned int n = 0; n < 100 && in_time(f, since);) {
			while (take(f, TX, &head))
				continue;
			while (take(f, RX, &head)) {
				f->received++;
				give_buffer(f, head);
			}
			if (waiting(&f->vq[TX]) >= SIZE)
				continue;
			since = clock_mono_ns();
			send_frame(f);
			n++;
		}
		tb_virtio_set_status(f->d, 0);
		while (tb_virtio_status(f->d) && in_time(f, since))
			continue;
		if (!tb_virtio_negotiate(f->d, FEATURES | TB_V_VERSION_1))
			atomic_store(&f->stuck, true);
		start_queues(f);
	}
	leave(f);
	return NULL;
}

/* --- the cases --- */

static void set_up(struct fix *f, enum loop_engine engine)
{
	const struct tb_opts opts = { .engine = engine };
	static const struct net_events events = { .readable = echo_readable };

	memset(f, 0, sizeof(*f));
	f->tb = tb_new(&opts);
	f->d = tb_add(f->tb, &virtio_net_ops, NULL, NULL);
	CHECK(f->d);
	tb_pci_enable(f->d);
	tb_msix_enable(f->d);
	CHECK(tb_virtio_negotiate(f->d, FEATURES | TB_V_VERSION_1));
	start_queues(f);
	f->outside = tb_net_peer(f->tb, 0);
	f->in.done = echo_in_done;
	f->out.done = echo_out_done;
	net_set_events(f->outside, &events, f);
	net_want(f->outside, 0, true);
	loop_timer_init(tb_loop(f->tb), &f->cable, cable_due);
}

static void run_threads(struct fix *f, void *(*const *mains)(void *), unsigned int n)
{
	pthread_t threads[3];

	atomic_store(&f->running, n);
	for (unsigned int i = 0; i < n; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, mains[i], f), 0);
	loop_run(tb_loop(f->tb));
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	loop_timer_cancel(&f->cable);
	tb_run(f->tb);
	CHECK(!atomic_load(&f->stuck));
	CHECK(tb_balanced(f->tb));
}

static void tear_down(struct fix *f)
{
	net_want(f->outside, 0, false);
	tb_free(f->tb);
}

static void race(enum loop_engine engine)
{
	static void *(*const mains[])(void *) = { sender, receiver, settings };
	static struct fix f;

	set_up(&f, engine);
	run_threads(&f, mains, ARRAY_LEN(mains));
	CHECK_EQ(f.received, FRAMES);
	tear_down(&f);
}

static void flap(enum loop_engine engine)
{
	static void *(*const mains[])(void *) = { careless };
	static struct fix f;
	unsigned int before;
	uint32_t head;

	set_up(&f, engine);
	loop_timer_set(&f.cable, loop_now(tb_loop(f.tb)));
	run_threads(&f, mains, ARRAY_LEN(mains));
	CHECK(f.flaps > 1);
	CHECK(f.received > 0);
	/* All is well again once the cable stays in. */
	dev_link(f.d, 1);
	for (head = 0; head < SIZE; head++)
		give_buffer(&f, head);
	tb_run(f.tb);
	/* what the line kept meanwhile may be more than there are buffers */
	while (take(&f, RX, &head)) {
		give_buffer(&f, head);
		tb_run(f.tb);
	}
	before = f.vq[RX].seen;
	send_frame(&f);
	tb_run(f.tb);
	CHECK(take(&f, RX, &head));
	CHECK_EQ(f.vq[RX].seen - before, 1);
	CHECK(!(tb_virtio_status(f.d) & VIRTIO_S_NEEDS_RESET));
	tear_down(&f);
}

/* Where io_uring is forbidden, khyve uses epoll. */
static bool has_ring(void)
{
	struct loop *l = loop_new(LOOP_URING, NULL);

	if (!l)
		return false;
	loop_free(l);
	return true;
}

static void echo(void)
{
	race(LOOP_EPOLL);
}

static void echo_ring(void)
{
	if (has_ring())
		race(LOOP_URING);
}

static void flapping(void)
{
	flap(LOOP_EPOLL);
}

static void flapping_ring(void)
{
	if (has_ring())
		flap(LOOP_URING);
}

static const struct test_case cases[] = {
	{ "echo", echo },
	{ "echo_ring", echo_ring },
	{ "flapping", flapping },
	{ "flapping_ring", flapping_ring },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
