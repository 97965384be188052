/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "loop/loop_priv.h"

#define FAKE_START_NS 1000000000ull
#define FAKE_ROUNDS 1000 /* of timers that arm themselves for the same instant */

/* Never sleeps: a test steps it and moves its clock. */
static int fake_poll(struct loop *l, uint64_t timeout_ns)
{
	(void)timeout_ns;
	return loop_epoll_poll(l, 0);
}

static uint64_t fake_now(struct loop *l)
{
	return atomic_load(&l->fake_now);
}

static int fake_init(struct loop *l, struct err *err)
{
	atomic_store(&l->fake_now, FAKE_START_NS);
	return loop_epoll_init(l, err);
}

/* Stops at every deadline on the way, so that a timer which arms itself again runs as often as it should. */
void loop_fake_advance(struct loop *l, uint64_t ns)
{
	uint64_t now = atomic_load(&l->fake_now), target = now + ns;
	int rounds = 0;

	assert(l->ops->engine == LOOP_FAKE && target >= now);
	while (loop_timers_next(l) <= target && rounds < FAKE_ROUNDS) {
		rounds++;
		if (loop_timers_next(l) > now) {
			now = loop_timers_next(l);
			atomic_store(&l->fake_now, now);
			rounds = 0;
		}
		loop_timers_run(l, now);
	}
	atomic_store(&l->fake_now, target);
}

const struct loop_engine_ops loop_fake_ops = {
	.engine = LOOP_FAKE,
	.init = fake_init,
	.fini = loop_epoll_fini,
	.fd_update = loop_epoll_fd_update,
	.fd_del = loop_epoll_fd_del,
	.poll = fake_poll,
	.now = fake_now,
};
