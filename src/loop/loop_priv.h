/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef LOOP_LOOP_PRIV_H
#define LOOP_LOOP_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "loop/loop.h"

#define LOOP_BATCH 256 /* most events taken in one step */
#define LOOP_NO_SLOT UINT32_MAX

/* One watched descriptor. Kernel events name a slot and its generation, so a stale one finds nobody. */
struct loop_slot {
	struct loop_fd *w; /* NULL: free */
	uint32_t gen;
	uint32_t next_free;
	unsigned int armed; /* events that the kernel watches now, 0: none */
	bool dirty; /* uring: in the list of slots to look at before the next wait */
	bool always; /* epoll: a file that cannot be polled and counts as ready */
};

struct loop_engine_ops {
	enum loop_engine engine;
	int (*init)(struct loop *l, struct err *err);
	void (*fini)(struct loop *l);
	/* The wanted events of the slot changed (w->events); del: w is gone afterwards. */
	int (*fd_update)(struct loop *l, uint32_t slot);
	void (*fd_del)(struct loop *l, uint32_t slot);
	/* Submits, sleeps for at most timeout_ns (0: not at all, UINT64_MAX: for ever), dispatches. Returns callbacks. */
	int (*poll)(struct loop *l, uint64_t timeout_ns);
	void (*io_submit)(struct loop *l, struct loop_io *io); /* NULL: no file I/O */
	void (*io_flush)(struct loop *l);
	bool (*event_set)(struct loop *l, int fd); /* false: it cannot; NULL: never */
	uint64_t (*now)(struct loop *l);
};

struct loop {
	const struct loop_engine_ops *ops;
	void *engine; /* the engine's own */

	struct loop_slot *slots;
	uint32_t nslots, free_slot, nfds;

	struct loop_timer **heap;
	size_t ntimers, heap_cap;

	pthread_mutex_t post_lock;
	struct list posts;
	atomic_size_t nposts;
	atomic_bool sleeping, stop;
	int wake_fd; /* an eventfd watched edge-triggered: nobody reads it */
	struct loop_fd wake;

	struct list idles;
	uint64_t ios; /* in flight */
	_Atomic uint64_t fake_now;
	struct loop_stats stats;
};

extern const struct loop_engine_ops loop_uring_ops, loop_epoll_ops, loop_fake_ops;

/* Runs the callback of a slot if it still is of that generation and wants events. Returns the callbacks run. */
int loop_slot_dispatch(struct loop *l, uint32_t slot, uint32_t gen, unsigned int events);

/* timer.c: deadline of the first timer or UINT64_MAX; runs what is due (each timer at most once). */
uint64_t loop_timers_next(const struct loop *l);
int loop_timers_run(struct loop *l, uint64_t now);

/* epoll.c, shared with the fake engine */
int loop_epoll_init(struct loop *l, struct err *err);
void loop_epoll_fini(struct loop *l);
int loop_epoll_fd_update(struct loop *l, uint32_t slot);
void loop_epoll_fd_del(struct loop *l, uint32_t slot);
int loop_epoll_poll(struct loop *l, uint64_t timeout_ns);

#endif
