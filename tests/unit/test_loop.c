/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/loop.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

static bool engine_missing(enum loop_engine engine)
{
	struct loop *l;

	if (engine != LOOP_URING)
		return false;
	l = loop_new(LOOP_URING, NULL);
	loop_free(l);
	if (!l)
		printf("skip %s: no io_uring here\n", test_run_.name);
	return !l;
}

/* Each function below is one case per engine. */
#define CASE_(name, engine)                         \
	static void name##_##engine(void)           \
	{                                           \
		if (!engine_missing(LOOP_##engine)) \
			name(LOOP_##engine);        \
	}
#define REAL(name) CASE_(name, URING) CASE_(name, EPOLL)
#define ALL(name) REAL(name) CASE_(name, FAKE)
#define REAL_CASES(name)                     \
	{ #name " uring", name##_URING },    \
	{                                    \
#name " epoll", name##_EPOLL \
	}
#define ALL_CASES(name)                    \
	REAL_CASES(name),                  \
	{                                  \
#name " fake", name##_FAKE \
	}

static struct loop *make(enum loop_engine engine)
{
	struct err err = { 0 };
	struct loop *l = loop_new(engine, &err);

	if (!l)
		CHECK_FAIL("loop_new: %s", err.text);
	return l;
}

struct probe {
	struct loop_fd w;
	int calls;
	unsigned int events;
	struct probe *victim; /* removed by the callback */
	bool drain, self, stop;
};

static void probe_fn(struct loop_fd *w, unsigned int events)
{
	struct probe *p = container_of(w, struct probe, w);
	char buf[64];

	p->calls++;
	p->events = events;
	if (p->drain)
		(void)!read(w->fd, buf, sizeof(buf));
	if (p->victim)
		loop_fd_del(&p->victim->w);
	if (p->stop)
		loop_stop(w->loop);
	if (p->self)
		loop_fd_del(w);
}

/* Steps until fn has been called or nothing more comes. */
static int settle(struct loop *l)
{
	int ran = 0;

	for (int i = 0; i < 5; i++)
		ran += loop_step(l, false);
	return ran;
}

static void fd_is_level_triggered(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	int fds[2];

	CHECK_EQ(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQ(loop_fd_add(l, &p.w, fds[0], EPOLLIN), 0);
	CHECK_EQ(settle(l), 0);
	CHECK_EQ(write(fds[1], "x", 1), 1);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(p.calls, 2);
	CHECK_EQ(p.events, EPOLLIN);
	p.drain = true;
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(settle(l), 0);
	close(fds[1]);
	p.drain = false;
	CHECK_EQ(loop_step(l, true), 1);
	CHECK(p.events & EPOLLHUP);
	loop_fd_del(&p.w);
	CHECK_EQ(p.w.fd, -1);
	loop_fd_del(&p.w);
	CHECK_EQ(settle(l), 0);
	close(fds[0]);
	loop_free(l);
}
ALL(fd_is_level_triggered)

static void fd_events_change(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
	CHECK_EQ(loop_fd_add(l, &p.w, fds[0], 0), 0);
	CHECK_EQ(write(fds[1], "x", 1), 1);
	CHECK_EQ(settle(l), 0);
	loop_fd_events(&p.w, EPOLLOUT);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(p.events, EPOLLOUT);
	loop_fd_events(&p.w, EPOLLIN | EPOLLOUT);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(p.events, EPOLLIN | EPOLLOUT);
	loop_fd_events(&p.w, EPOLLIN);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(p.events, EPOLLIN);
	/* No events: not even the hang-up. */
	loop_fd_events(&p.w, 0);
	close(fds[1]);
	p.calls = 0;
	CHECK_EQ(settle(l), 0);
	CHECK_EQ(p.calls, 0);
	loop_fd_events(&p.w, EPOLLIN);
	CHECK_EQ(loop_step(l, true), 1);
	loop_fd_del(&p.w);
	close(fds[0]);
	loop_free(l);
}
ALL(fd_events_change)

/* Both are ready in one batch; whichever runs first removes the other, which then must not run. */
static void fd_removal_in_batch(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe a = { .w.fn = probe_fn }, b = { .w.fn = probe_fn };
	int fda = fd_event_new(), fdb = fd_event_new();

	a.victim = &b;
	b.victim = &a;
	CHECK_EQ(loop_fd_add(l, &a.w, fda, EPOLLIN), 0);
	CHECK_EQ(loop_fd_add(l, &b.w, fdb, EPOLLIN), 0);
	CHECK_EQ(settle(l), 0);
	fd_event_set(fda);
	fd_event_set(fdb);
	loop_step(l, true);
	CHECK_EQ(a.calls + b.calls, 1);
	CHECK_EQ((a.w.fd < 0) + (b.w.fd < 0), 1);
	/* The slot of the removed one is used again at once: the new watch is not confused with it. */
	CHECK_EQ(loop_fd_add(l, a.w.fd < 0 ? &a.w : &b.w, a.calls ? fdb : fda, EPOLLIN), 0);
	fd_event_clear(fda);
	fd_event_clear(fdb);
	a.victim = b.victim = NULL;
	a.calls = b.calls = 0;
	settle(l);
	CHECK_EQ(a.calls + b.calls, 0);
	loop_fd_del(&a.w);
	loop_fd_del(&b.w);
	close(fda);
	close(fdb);
	loop_free(l);
}
ALL(fd_removal_in_batch)

static void fd_removes_itself(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe *p = calloc(1, sizeof(*p));
	int fd = fd_event_new();

	p->w.fn = probe_fn;
	p->self = true;
	CHECK_EQ(loop_fd_add(l, &p->w, fd, EPOLLIN), 0);
	fd_event_set(fd);
	CHECK_EQ(loop_step(l, true), 1);
	free(p);
	CHECK_EQ(settle(l), 0);
	close(fd);
	loop_free(l);
}
ALL(fd_removes_itself)

/* An edge-triggered eventfd is never read and reports each set once. */
static void fd_edge(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	int fd = fd_event_new();

	CHECK_EQ(loop_fd_add(l, &p.w, fd, EPOLLIN | EPOLLET), 0);
	CHECK_EQ(settle(l), 0);
	for (int i = 0; i < 100; i++) {
		fd_event_set(fd);
		CHECK_EQ(loop_step(l, true), 1);
		CHECK_EQ(loop_step(l, false), 0);
	}
	CHECK_EQ(p.calls, 100);
	loop_fd_del(&p.w);
	fd_event_set(fd);
	CHECK_EQ(settle(l), 0);
	close(fd);
	loop_free(l);
}
ALL(fd_edge)

static void fd_many(enum loop_engine engine)
{
	enum { N = 700 };
	struct loop *l = make(engine);
	struct probe *p = calloc(N, sizeof(*p));
	int *fds = calloc(N, sizeof(*fds));
	int called = 0;

	for (int i = 0; i < N; i++) {
		fds[i] = fd_event_new();
		CHECK(fds[i] >= 0);
		p[i].w.fn = probe_fn;
		p[i].drain = true;
		CHECK_EQ(loop_fd_add(l, &p[i].w, fds[i], EPOLLIN), 0);
	}
	for (int i = 0; i < N; i++)
		fd_event_set(fds[i]);
	for (int i = 0; i < 20 && called < N; i++)
		called += loop_step(l, false);
	CHECK_EQ(called, N);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(p[i].calls, 1);
		loop_fd_del(&p[i].w);
		close(fds[i]);
	}
	free(p);
	free(fds);
	loop_free(l);
}
ALL(fd_many)

static void fd_regular_file(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	CHECK_EQ(loop_fd_add(l, &p.w, fd, EPOLLIN), 0);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK(p.events & EPOLLIN);
	loop_fd_events(&p.w, 0);
	CHECK_EQ(settle(l), 0);
	loop_fd_del(&p.w);
	close(fd);
	loop_free(l);
}
ALL(fd_regular_file)

struct tick {
	struct loop_timer t;
	int calls;
	uint64_t period, at;
	struct tick *victim;
	int *order, *next, id;
};

static void tick_fn(struct loop_timer *t)
{
	struct tick *k = container_of(t, struct tick, t);

	k->calls++;
	k->at = loop_now(t->loop);
	if (k->order)
		k->order[(*k->next)++] = k->id;
	if (k->victim)
		loop_timer_cancel(&k->victim->t);
	if (k->period)
		loop_timer_set(t, t->deadline_ns + k->period);
}

static void timer_real(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct tick a = { 0 }, b = { 0 }, past = { 0 };
	uint64_t start = loop_now(l);

	loop_timer_init(l, &a.t, tick_fn);
	loop_timer_init(l, &b.t, tick_fn);
	loop_timer_init(l, &past.t, tick_fn);
	loop_timer_set(&a.t, start + 20 * NS_PER_MS);
	loop_timer_set(&b.t, start + 5 * NS_PER_MS);
	loop_timer_set(&past.t, 1);
	CHECK(loop_timer_armed(&a.t));
	while (!a.calls)
		loop_step(l, true);
	CHECK(!loop_timer_armed(&a.t));
	CHECK_EQ(past.calls, 1);
	CHECK_EQ(b.calls, 1);
	CHECK(b.at >= start + 5 * NS_PER_MS && b.at <= a.at);
	CHECK(a.at >= start + 20 * NS_PER_MS);
	loop_timer_cancel(&a.t);
	loop_free(l);
}
REAL(timer_real)

static void timer_fake(void)
{
	struct loop *l = make(LOOP_FAKE);
	struct tick a = { .period = 10 }, b = { 0 }, again = { 0 };
	uint64_t start = loop_now(l);

	loop_timer_init(l, &a.t, tick_fn);
	loop_timer_init(l, &b.t, tick_fn);
	loop_timer_init(l, &again.t, tick_fn);
	loop_timer_set(&a.t, start + 10);
	loop_timer_set(&b.t, start + 35);
	loop_fake_advance(l, 9);
	CHECK_EQ(a.calls, 0);
	loop_fake_advance(l, 1);
	CHECK_EQ(a.calls, 1);
	CHECK_EQ(a.at, start + 10);
	loop_fake_advance(l, 25);
	CHECK_EQ(a.calls, 3);
	CHECK_EQ(b.calls, 1);
	CHECK_EQ(b.at, start + 35);
	CHECK_EQ(loop_now(l), start + 35);
	loop_timer_set(&b.t, start);
	CHECK_EQ(loop_step(l, true), 1);
	CHECK_EQ(b.calls, 2);
	/* A timer that stays in the past neither hangs the clock nor the step. */
	again.period = 0;
	loop_timer_cancel(&a.t);
	loop_timer_set(&again.t, start);
	loop_fake_advance(l, 1000);
	CHECK_EQ(again.calls, 1);
	CHECK_EQ(loop_now(l), start + 1035);
	loop_free(l);
}

static void timer_order_and_cancel(void)
{
	enum { N = 500 };
	struct loop *l = make(LOOP_FAKE);
	struct tick *k = calloc(N, sizeof(*k));
	int *order = calloc(N, sizeof(*order)), next = 0, cancelled = 0;
	uint64_t start = loop_now(l);
	unsigned int seed = 1;

	for (int i = 0; i < N; i++) {
		k[i].order = order;
		k[i].next = &next;
		k[i].id = i;
		loop_timer_init(l, &k[i].t, tick_fn);
		loop_timer_set(&k[i].t, start + 1 + (uint64_t)rand_r(&seed) % 10000);
	}
	for (int i = 0; i < N; i += 3) /* moved */
		loop_timer_set(&k[i].t, start + 1 + (uint64_t)rand_r(&seed) % 10000);
	for (int i = 0; i < N; i += 7) {
		loop_timer_cancel(&k[i].t);
		loop_timer_cancel(&k[i].t);
		cancelled++;
	}
	loop_fake_advance(l, 10001);
	CHECK_EQ(next, N - cancelled);
	for (int i = 1; i < next; i++)
		CHECK(k[order[i - 1]].t.deadline_ns <= k[order[i]].t.deadline_ns);
	for (int i = 0; i < N; i++)
		CHECK_EQ(k[i].calls, i % 7 != 0);
	/* Two due at once, each cancels the other: one runs. */
	k[1].calls = k[2].calls = 0;
	k[1].victim = &k[2];
	k[2].victim = &k[1];
	next = 0;
	loop_timer_set(&k[1].t, loop_now(l) + 5);
	loop_timer_set(&k[2].t, loop_now(l) + 5);
	loop_fake_advance(l, 5);
	CHECK_EQ(k[1].calls + k[2].calls, 1);
	free(order);
	free(k);
	loop_free(l);
}

struct note {
	struct loop_post p;
	int calls;
	bool again;
	struct note *victim;
};

static void note_fn(struct loop_post *p)
{
	struct note *n = container_of(p, struct note, p);

	n->calls++;
	if (n->victim)
		loop_post_cancel(&n->victim->p);
	if (n->again)
		loop_post(p);
}

static void post_basics(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct note a = { .again = true }, b = { 0 }, never = { 0 };

	loop_post_cancel(&never.p);
	loop_post_init(l, &a.p, note_fn);
	loop_post_init(l, &b.p, note_fn);
	loop_post(&a.p);
	loop_post(&b.p);
	loop_post(&b.p);
	CHECK_EQ(loop_step(l, true), 2);
	CHECK_EQ(a.calls, 1);
	CHECK_EQ(b.calls, 1);
	CHECK_EQ(loop_step(l, true), 1);
	a.again = false;
	a.victim = &b;
	loop_post(&b.p);
	CHECK_EQ(loop_step(l, true), 1); /* a runs first and takes b away */
	CHECK_EQ(a.calls, 3);
	CHECK_EQ(b.calls, 1);
	CHECK_EQ(settle(l), 0);
	loop_free(l);
}
ALL(post_basics)

struct poster {
	struct note *n;
	struct loop *l;
	atomic_int sent;
	pthread_t thread;
};

static void *poster_main(void *arg)
{
	struct poster *p = arg;

	for (int i = 0; i < 2000; i++) {
		loop_post(&p->n->p);
		atomic_fetch_add(&p->sent, 1);
		if (i % 16 == 0)
			usleep(50);
	}
	loop_stop(p->l);
	return NULL;
}

/* No wake-up is lost: the last post and the stop always get through to a sleeping loop. */
static void post_from_thread(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct note n = { 0 };
	struct poster p = { .n = &n, .l = l };

	loop_post_init(l, &n.p, note_fn);
	CHECK_EQ(pthread_create(&p.thread, NULL, poster_main, &p), 0);
	loop_run(l);
	pthread_join(p.thread, NULL);
	settle(l);
	CHECK(!n.p.pending);
	CHECK(n.calls >= 1 && n.calls <= 2000);
	loop_free(l);
}
REAL(post_from_thread)

struct idler {
	struct loop_idle i;
	int calls;
	struct idler *victim;
};

static void idle_fn(struct loop_idle *i)
{
	struct idler *d = container_of(i, struct idler, i);

	d->calls++;
	if (d->victim)
		loop_idle_del(&d->victim->i);
}

static void idle_runs_after_callbacks(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct idler a = { 0 }, b = { 0 }, c = { 0 };
	struct note n = { 0 };

	loop_idle_add(l, &a.i, idle_fn);
	loop_idle_add(l, &b.i, idle_fn);
	loop_idle_add(l, &c.i, idle_fn);
	loop_post_init(l, &n.p, note_fn);
	CHECK_EQ(loop_step(l, false), 0);
	CHECK_EQ(a.calls, 0);
	loop_post(&n.p);
	loop_step(l, true);
	CHECK_EQ(a.calls, 1);
	CHECK_EQ(b.calls, 1);
	a.victim = &b; /* a runs before b */
	c.victim = &c;
	loop_post(&n.p);
	loop_step(l, true);
	CHECK_EQ(a.calls, 2);
	CHECK_EQ(b.calls, 1);
	CHECK_EQ(c.calls, 2);
	a.victim = NULL;
	loop_post(&n.p);
	loop_step(l, true);
	CHECK_EQ(a.calls, 3);
	CHECK_EQ(b.calls, 1);
	CHECK_EQ(c.calls, 2);
	loop_idle_del(&a.i);
	loop_idle_del(&b.i);
	loop_free(l);
}
ALL(idle_runs_after_callbacks)

struct file_op {
	struct loop_io io;
	int res, calls;
};

static void file_done(struct loop_io *io, int res)
{
	struct file_op *f = container_of(io, struct file_op, io);

	f->res = res;
	f->calls++;
}

static int file_run(struct loop *l, struct file_op *f)
{
	f->io.done = file_done;
	f->calls = 0;
	loop_io_submit(l, &f->io);
	CHECK_EQ(f->calls, 0);
	while (!f->calls)
		loop_step(l, true);
	CHECK_EQ(f->calls, 1);
	return f->res;
}

static void file_ops(enum loop_engine engine)
{
	struct loop *l = make(engine);
	char out[8] = "01234567", in[8] = "";
	struct iovec iov = { out, 8 }, iov2 = { in, 8 };
	struct file_op f = { 0 };
	int fd = memfd_create("t", MFD_CLOEXEC);

	f.io = (struct loop_io){
		.op = LOOP_OP_WRITEV, .fd = fd, .iov = &iov, .iovcnt = 1, .offset = 4096
	};
	CHECK_EQ(file_run(l, &f), 8);
	f.io = (struct loop_io){
		.op = LOOP_OP_READV, .fd = fd, .iov = &iov2, .iovcnt = 1, .offset = 4100
	};
	CHECK_EQ(file_run(l, &f), 4);
	CHECK(!memcmp(in, "4567", 4));
	f.io = (struct loop_io){ .op = LOOP_OP_FSYNC, .fd = fd, .flags = 1 };
	CHECK_EQ(file_run(l, &f), 0);
	f.io = (struct loop_io){ .op = LOOP_OP_FALLOCATE,
				 .fd = fd,
				 .flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 .offset = 4096,
				 .len = 4 };
	CHECK_EQ(file_run(l, &f), 0);
	f.io = (struct loop_io){
		.op = LOOP_OP_READV, .fd = fd, .iov = &iov2, .iovcnt = 1, .offset = 4096
	};
	CHECK_EQ(file_run(l, &f), 8);
	CHECK(!memcmp(in, "\0\0\0\0004567", 8));
	f.io = (struct loop_io){ .op = LOOP_OP_READV, .fd = -1, .iov = &iov2, .iovcnt = 1 };
	CHECK_EQ(file_run(l, &f), -EBADF);
	close(fd);
	loop_free(l);
}
CASE_(file_ops, URING)

/* A read of what has nothing to give ends at once, and costs no system call of its own; nothing is lost. */
static void reads_without_waiting(enum loop_engine engine)
{
	struct loop *l = make(engine);
	char in[2][4] = { "", "" };
	struct iovec iov[2] = { { in[0], 4 }, { in[1], 4 } };
	struct file_op f[2] = { 0 };
	struct loop_stats before, after;
	int p[2];

	CHECK_EQ(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQ(write(p[1], "abcd", 4), 4);
	loop_stats_get(l, &before);
	for (int i = 0; i < 2; i++) {
		f[i].io = (struct loop_io){ .done = file_done,
					    .op = LOOP_OP_READV,
					    .fd = p[0],
					    .iov = &iov[i],
					    .iovcnt = 1,
					    .nowait = true };
		loop_io_submit(l, &f[i].io);
	}
	while (f[0].calls + f[1].calls < 2)
		loop_step(l, true);
	loop_stats_get(l, &after);
	CHECK_EQ(f[0].res, 4);
	CHECK_EQ(f[1].res, -EAGAIN);
	CHECK(!memcmp(in[0], "abcd", 4));
	CHECK_EQ(after.waits - before.waits, 1);
	close(p[0]);
	close(p[1]);
	loop_free(l);
}
CASE_(reads_without_waiting, URING)

/* More of them than the ring holds, on two descriptors in turns: all end. */
static void reads_without_waiting_many(enum loop_engine engine)
{
	enum { MANY = 600 };
	static struct file_op f[MANY];
	struct loop *l = make(engine);
	char in[4];
	struct iovec iov = { in, sizeof(in) };
	int p[2][2], left = MANY;

	memset(f, 0, sizeof(f));
	for (int i = 0; i < 2; i++)
		CHECK_EQ(pipe2(p[i], O_NONBLOCK | O_CLOEXEC), 0);
	for (int i = 0; i < MANY; i++) {
		f[i].io = (struct loop_io){ .done = file_done,
					    .op = LOOP_OP_READV,
					    .fd = p[i / 7 % 2][0],
					    .iov = &iov,
					    .iovcnt = 1,
					    .nowait = true };
		loop_io_submit(l, &f[i].io);
		if (i == MANY / 3)
			loop_io_flush(l);
	}
	for (int i = 0; left && i < 100; i++) {
		loop_step(l, false);
		left = 0;
		for (int k = 0; k < MANY; k++)
			left += !f[k].calls;
	}
	CHECK_EQ(left, 0);
	for (int i = 0; i < MANY; i++)
		CHECK_EQ(f[i].res, -EAGAIN);
	for (int i = 0; i < 2; i++) {
		close(p[i][0]);
		close(p[i][1]);
	}
	loop_free(l);
}
CASE_(reads_without_waiting_many, URING)

/* Reads that end at once leave a watch of the same descriptor alone. */
static void reads_beside_a_watch(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe w = { .w.fn = probe_fn };
	char in[4];
	struct iovec iov = { in, sizeof(in) };
	struct file_op f = { 0 };
	int p[2];

	CHECK_EQ(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	CHECK_EQ(loop_fd_add(l, &w.w, p[0], EPOLLIN), 0);
	settle(l);
	for (int i = 0; i < 3; i++) {
		f.io = (struct loop_io){
			.op = LOOP_OP_READV, .fd = p[0], .iov = &iov, .iovcnt = 1, .nowait = true
		};
		CHECK_EQ(file_run(l, &f), -EAGAIN);
		CHECK_EQ(w.calls, 0);
	}
	CHECK_EQ(write(p[1], "abcd", 4), 4);
	while (!w.calls)
		loop_step(l, true);
	CHECK_EQ(w.events, EPOLLIN);
	loop_fd_del(&w.w);
	close(p[0]);
	close(p[1]);
	loop_free(l);
}
CASE_(reads_beside_a_watch, URING)

/* A kick, a completion and the next submission share one system call. */
static void one_call_per_wake(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	char buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	struct file_op f = {
		.io = { .op = LOOP_OP_READV, .iov = &iov, .iovcnt = 1, .done = file_done }
	};
	struct loop_stats before, after;
	int kick = fd_event_new();

	f.io.fd = eventfd(1000, EFD_SEMAPHORE | EFD_CLOEXEC); /* reads complete at once */
	CHECK_EQ(loop_fd_add(l, &p.w, kick, EPOLLIN | EPOLLET), 0);
	settle(l);
	loop_stats_get(l, &before);
	for (int i = 0; i < 50; i++) {
		loop_io_submit(l, &f.io);
		fd_event_set(kick);
		while (f.calls <= i || p.calls <= i)
			loop_step(l, true);
	}
	loop_stats_get(l, &after);
	CHECK_EQ(after.callbacks - before.callbacks, 100);
	CHECK_EQ(after.waits - before.waits, 50);
	loop_fd_del(&p.w);
	close(kick);
	close(f.io.fd);
	loop_free(l);
}
CASE_(one_call_per_wake, URING)

/* An eventfd is signalled by the call that waits next, which does not return for that. */
static void event_set(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn };
	struct loop_stats before, after;
	int kick = fd_event_new(), out = fd_event_new();

	CHECK_EQ(loop_fd_add(l, &p.w, kick, EPOLLIN | EPOLLET), 0);
	settle(l);
	loop_stats_get(l, &before);
	for (int i = 0; i < 50; i++) {
		loop_event_set(l, out);
		fd_event_set(kick);
		while (p.calls <= i)
			CHECK_EQ(loop_step(l, engine != LOOP_FAKE), 1);
		CHECK_EQ(fd_event_clear(out), 1);
	}
	loop_stats_get(l, &after);
	CHECK_EQ(after.callbacks - before.callbacks, 50);
	if (engine == LOOP_URING)
		CHECK_EQ(after.waits - before.waits, 50);
	loop_event_set(l, out);
	loop_io_flush(l);
	CHECK_EQ(fd_event_clear(out), 1);
	loop_fd_del(&p.w);
	close(kick);
	close(out);
	loop_free(l);
}
ALL(event_set)

/* More operations than the submission queue holds, before the first step. */
static void file_burst(enum loop_engine engine)
{
	enum { N = 1000 };
	struct loop *l = make(engine);
	struct file_op *f = calloc(N, sizeof(*f));
	char byte;
	struct iovec iov = { &byte, 1 };
	int fd = memfd_create("t", MFD_CLOEXEC), done = 0;

	CHECK_EQ(ftruncate(fd, 4096), 0);
	for (int i = 0; i < N; i++) {
		f[i].io = (struct loop_io){
			.op = LOOP_OP_READV, .fd = fd, .iov = &iov, .iovcnt = 1, .done = file_done
		};
		loop_io_submit(l, &f[i].io);
	}
	loop_io_flush(l);
	while (done < N)
		done += loop_step(l, true);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(f[i].calls, 1);
		CHECK_EQ(f[i].res, 1);
	}
	CHECK_EQ(done, N);
	close(fd);
	free(f);
	loop_free(l);
}
CASE_(file_burst, URING)

static void auto_engine(void)
{
	struct loop *l = make(LOOP_AUTO);

	CHECK(loop_engine_get(l) == LOOP_URING || loop_engine_get(l) == LOOP_EPOLL);
	loop_free(l);
	loop_free(NULL);
}

/* Made in one thread, run in another, freed in the first. */
static void *run_main(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void other_thread(enum loop_engine engine)
{
	struct loop *l = make(engine);
	struct probe p = { .w.fn = probe_fn, .drain = true, .stop = true };
	pthread_t thread;
	int fd = fd_event_new();

	CHECK_EQ(loop_fd_add(l, &p.w, fd, EPOLLIN), 0);
	CHECK_EQ(pthread_create(&thread, NULL, run_main, l), 0);
	usleep(2000);
	fd_event_set(fd);
	pthread_join(thread, NULL);
	CHECK_EQ(p.calls, 1);
	loop_fd_del(&p.w);
	close(fd);
	loop_free(l);
}
REAL(other_thread)

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		ALL_CASES(fd_is_level_triggered),
		ALL_CASES(fd_events_change),
		ALL_CASES(fd_removal_in_batch),
		ALL_CASES(fd_removes_itself),
		ALL_CASES(fd_edge),
		ALL_CASES(fd_many),
		ALL_CASES(event_set),
		ALL_CASES(fd_regular_file),
		REAL_CASES(timer_real),
		{ "timer fake", timer_fake },
		{ "timer order and cancel", timer_order_and_cancel },
		ALL_CASES(post_basics),
		REAL_CASES(post_from_thread),
		ALL_CASES(idle_runs_after_callbacks),
		{ "file_ops uring", file_ops_URING },
		{ "reads_without_waiting uring", reads_without_waiting_URING },
		{ "reads_without_waiting_many uring", reads_without_waiting_many_URING },
		{ "reads_beside_a_watch uring", reads_beside_a_watch_URING },
		{ "file_burst uring", file_burst_URING },
		{ "one_call_per_wake uring", one_call_per_wake_URING },
		{ "auto engine", auto_engine },
		REAL_CASES(other_thread),
	};

	return RUN_CASES(cases, argc, argv);
}
