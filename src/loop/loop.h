/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/list.h"

struct err;

/*
 * One event loop per thread with one wait point. The io_uring engine puts descriptors, timers, posts and file
 * I/O on one ring, so that a wake-up costs one system call; the epoll engine does the same without file I/O;
 * the fake engine never sleeps and has a clock that the test moves. Callbacks run on the loop's thread, one at a
 * time. The loop belongs to the thread that first steps it; only loop_post(), loop_stop() and loop_now() may be called
 * from others (before the first step and after the last one: everything, from one thread). The caller owns all watch
 * structs; they must stay valid until removed. After a removal returns, the callback does not run any more.
 */
struct loop;

enum loop_engine { LOOP_AUTO, LOOP_URING, LOOP_EPOLL, LOOP_FAKE };

/* LOOP_AUTO: io_uring, or epoll where io_uring is forbidden. NULL and err set on failure. */
struct loop *loop_new(enum loop_engine engine, struct err *err);
/* Nothing may be left registered and no I/O may be in flight. */
void loop_free(struct loop *l);
enum loop_engine loop_engine_get(const struct loop *l);

/* Runs until loop_stop(). */
void loop_run(struct loop *l);
/* Handles what is ready. wait: first sleeps until something is. Returns the number of callbacks run. */
int loop_step(struct loop *l, bool wait);
void loop_stop(struct loop *l);

/* CLOCK_MONOTONIC in ns, or the test's clock with LOOP_FAKE. Any thread. */
uint64_t loop_now(struct loop *l);
/* LOOP_FAKE only: moves the clock, stopping at each deadline on the way to run what is due. Nothing but timers runs. */
void loop_fake_advance(struct loop *l, uint64_t ns);

/*
 * --- descriptors: level-triggered readiness ---
 * With EPOLLET: the callback runs once per wake-up of the descriptor, whether or not anybody reads it. That makes an
 * eventfd a kick that costs no system call of its own: watch it with EPOLLIN | EPOLLET and never read it.
 */
struct loop_fd {
	void (*fn)(struct loop_fd *w,
		   unsigned int events); /* events: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR */
	struct loop *loop;
	int fd; /* -1: not registered */
	unsigned int events;
	struct {
		uint32_t gen, slot;
	} priv;
};

/* 0 or -errno. The descriptor stays the caller's, who closes it after the removal. Files are always ready. */
int loop_fd_add(struct loop *l, struct loop_fd *w, int fd, unsigned int events);
/* Changes the wanted events; 0 keeps the watch without events, hang-ups included. */
void loop_fd_events(struct loop_fd *w, unsigned int events);
/* One that is not registered (zeroed, or fd -1) is fine. */
void loop_fd_del(struct loop_fd *w);

/* --- timers: one shot, absolute time of loop_now() --- */
struct loop_timer {
	void (*fn)(struct loop_timer *t);
	struct loop *loop;
	uint64_t deadline_ns; /* valid while armed */
	int heap_index; /* -1: not armed */
};

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*fn)(struct loop_timer *t));
/* Arms or moves it. A deadline in the past fires at the next step. */
void loop_timer_set(struct loop_timer *t, uint64_t deadline_ns);
void loop_timer_cancel(struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
	return t->heap_index >= 0;
}

/* --- posts: run a function on the loop's thread, soon --- */
struct loop_post {
	void (*fn)(struct loop_post *p);
	struct loop *loop;
	struct list link; /* under the loop's post lock */
	bool pending;
};

void loop_post_init(struct loop *l, struct loop_post *p, void (*fn)(struct loop_post *p));
/* Any thread. A post that is pending already stays single. */
void loop_post(struct loop_post *p);
/* Loop's thread only. */
void loop_post_cancel(struct loop_post *p);

/* --- file I/O on the ring (LOOP_URING only) --- */
enum loop_op { LOOP_OP_READV, LOOP_OP_WRITEV, LOOP_OP_FSYNC, LOOP_OP_FALLOCATE };

struct loop_io {
	void (*done)(struct loop_io *io,
		     int res); /* bytes or -errno, as the system call would return */
	enum loop_op op;
	int fd;
	const struct iovec *iov; /* valid until done */
	unsigned int iovcnt;
	uint64_t offset, len; /* len: FALLOCATE */
	/* READV: if there is nothing to read yet, done gets -EAGAIN soon; for what RWF_NOWAIT is not possible on */
	bool nowait;
	int flags; /* READV/WRITEV: RWF_*; FALLOCATE: mode; FSYNC: 0 or IORING_FSYNC_DATASYNC (1) */
};

/* Queues the operation; it is submitted at the next wait or loop_io_flush(). done runs exactly once, never inside. */
void loop_io_submit(struct loop *l, struct loop_io *io);
/* Hands queued operations to the kernel now. */
void loop_io_flush(struct loop *l);

/*
 * Signals an eventfd (which does not block) with the loop's next system call, or at once where the engine cannot. Loop's
 * thread. Before the descriptor is closed: loop_io_flush().
 */
void loop_event_set(struct loop *l, int fd);

/* --- a function run once at the end of every step that ran callbacks, before sleeping: batches close here --- */
struct loop_idle {
	void (*fn)(struct loop_idle *i);
	struct list link;
	struct loop *loop;
};

void loop_idle_add(struct loop *l, struct loop_idle *i, void (*fn)(struct loop_idle *i));
void loop_idle_del(struct loop_idle *i);

/* Figures for tests and the control socket. */
struct loop_stats {
	uint64_t waits; /* system calls that waited or submitted */
	uint64_t callbacks; /* callbacks run */
};
void loop_stats_get(const struct loop *l, struct loop_stats *out);

#endif
