/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "bench/tb_e1000.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"

/* Tails and interrupt registers from several threads against a loop that really sleeps: no frame may be forgotten. */

#define FRAMES 4000
#define PATIENCE (10 * NS_PER_SEC)

struct fix {
	struct tb *tb;
	struct tb_e1000 e;
	struct net *outside;
	atomic_uint running;
	atomic_bool stuck;
	unsigned int sent; /* by the sender */
	unsigned int received; /* by the receiver */
	unsigned int echoed; /* by the outside, on the loop */
	struct net_req in, out;
	struct net_hdr hdr;
	uint8_t frame[256];
	struct iovec in_iov[3], out_iov[3];
};

/* --- the outside: whatever comes goes back, one at a time, on the loop's thread --- */

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
	struct fix *f = container_of(r, struct fix, out);

	f->echoed += res == 0;
	echo_in(f);
}

static void echo_readable(void *arg, unsigned int q)
{
	(void)q;
	net_want(((struct fix *)arg)->outside, 0, false);
	echo_in(arg);
}

/* --- the guest --- */

static void leave(struct fix *f)
{
	if (atomic_fetch_sub(&f->running, 1) == 1)
		loop_stop(tb_loop(f->tb));
}

/* At most 32 frames on their way, or the guest's buffers would not do. */
static void *sender(void *arg)
{
	struct fix *f = arg;
	uint64_t start = clock_mono_ns();

	while (f->sent < FRAMES && !atomic_load(&f->stuck)) {
		uint32_t i = f->e.tx_tail;

		if (f->sent - __atomic_load_n(&f->received, __ATOMIC_ACQUIRE) >= 32) {
			if (clock_mono_ns() - start > PATIENCE)
				atomic_store(&f->stuck, true);
			sched_yield();
			continue;
		}
		start = clock_mono_ns();
		put_be32(tb_mem(f->tb, f->e.frame + i * 128 + 14, 4), f->sent++);
		tb_e1000_push(&f->e, f->e.frame + i * 128, 100 | E1000_TXD_EOP | E1000_TXD_RS, 0);
		tb_e1000_w(&f->e, E1000_TDT, f->e.tx_tail);
	}
	leave(f);
	return NULL;
}

static void *receiver(void *arg)
{
	struct fix *f = arg;
	uint64_t start = clock_mono_ns(), info;

	while (f->received < FRAMES && !atomic_load(&f->stuck)) {
		uint32_t i = f->e.rx_seen;

		if (!tb_e1000_pop(&f->e, &info)) {
			if (clock_mono_ns() - start > PATIENCE)
				atomic_store(&f->stuck, true);
			sched_yield();
			continue;
		}
		start = clock_mono_ns();
		if (get_be32(tb_e1000_buf(&f->e, i) + 14) != f->received)
			atomic_store(&f->stuck, true);
		__atomic_store_n(&f->received, f->received + 1, __ATOMIC_RELEASE);
		/* Sometimes many at once, so that the card runs out. */
		if (f->received % 37 == 0)
			tb_e1000_give(&f->e, 37);
	}
	leave(f);
	return NULL;
}

static void *interrupts(void *arg)
{
	struct fix *f = arg;

	while (atomic_load(&f->running) > 1) {
		tb_e1000_r(&f->e, E1000_ICR);
		tb_e1000_w(&f->e, E1000_IMC, E1000_INT_ALL);
		tb_e1000_r(&f->e, E1000_STATUS);
		tb_e1000_w(&f->e, E1000_IMS, E1000_INT_ALL);
		sched_yield();
	}
	leave(f);
	return NULL;
}

static void race(enum loop_engine engine)
{
	const struct tb_opts opts = { .engine = engine };
	static const struct net_events events = { .readable = echo_readable };
	static void *(*const mains[])(void *) = { sender, receiver, interrupts };
	static struct fix f;
	pthread_t threads[3];
	struct dev *d;

	memset(&f, 0, sizeof(f));
	f.tb = tb_new(&opts);
	d = tb_add(f.tb, hw_find("e1000"), NULL, NULL);
	CHECK(d);
	tb_e1000_start(&f.e, d);
	for (uint32_t i = 0; i < f.e.tx_n; i++)
		memset(tb_mem(f.tb, f.e.frame + i * 128, 6), 0xff, 6);
	tb_e1000_w(&f.e, E1000_ITR, 20);
	f.outside = tb_net_peer(f.tb, 0);
	f.in.done = echo_in_done;
	f.out.done = echo_out_done;
	net_set_events(f.outside, &events, &f);
	net_want(f.outside, 0, true);
	atomic_store(&f.running, 3);
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, mains[i], &f), 0);
	loop_run(tb_loop(f.tb));
	for (unsigned int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	tb_run(f.tb);
	CHECK(!atomic_load(&f.stuck));
	CHECK_EQ(f.received, FRAMES);
	CHECK_EQ(f.echoed, FRAMES);
	CHECK(tb_balanced(f.tb));
	net_want(f.outside, 0, false);
	tb_free(f.tb);
}

static void echo(void)
{
	race(LOOP_EPOLL);
}

static void echo_ring(void)
{
	struct loop *l = loop_new(LOOP_URING, NULL);

	/* Where io_uring is forbidden, khyve uses epoll. */
	if (!l)
		return;
	loop_free(l);
	race(LOOP_URING);
}

static const struct test_case cases[] = {
	{ "echo", echo },
	{ "echo_ring", echo_ring },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
