/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "loop/loop_priv.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"

/* The engine for hosts that forbid io_uring; also the descriptors of the fake engine. */
struct epoll_state {
	int fd;
	uint32_t nalways; /* slots of files that cannot be polled and want events */
	struct epoll_event events[LOOP_BATCH];
};

int loop_epoll_init(struct loop *l, struct err *err)
{
	struct epoll_state *e = calloc(1, sizeof(*e));

	if (!e)
		return err_set(err, -ENOMEM, "out of memory");
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0) {
		int rc = -errno;

		free(e);
		return err_set(err, rc, "cannot make an epoll descriptor: %s", strerror(-rc));
	}
	l->engine = e;
	return 0;
}

void loop_epoll_fini(struct loop *l)
{
	struct epoll_state *e = l->engine;

	fd_close(&e->fd);
	free(e);
}

static int epoll_control(struct loop *l, uint32_t slot, int op, unsigned int events)
{
	struct epoll_state *e = l->engine;
	struct loop_slot *s = &l->slots[slot];
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)s->gen << 32 | slot };

	return epoll_ctl(e->fd, op, s->w->fd, &ev) < 0 ? -errno : 0;
}

/*
 * A watch without events leaves the epoll set, which would report hang-ups regardless. The set refuses regular
 * files and some devices with EPERM: those are always ready.
 */
int loop_epoll_fd_update(struct loop *l, uint32_t slot)
{
	struct epoll_state *e = l->engine;
	struct loop_slot *s = &l->slots[slot];
	unsigned int events = s->w->events;
	int rc = 0;

	if (s->always) {
		e->nalways += (events != 0) - (s->armed != 0);
		s->armed = events;
		return 0;
	}
	if (events && s->armed)
		rc = epoll_control(l, slot, EPOLL_CTL_MOD, events);
	else if (events)
		rc = epoll_control(l, slot, EPOLL_CTL_ADD, events);
	else if (s->armed)
		rc = epoll_control(l, slot, EPOLL_CTL_DEL, 0);
	if (rc == -EPERM && !s->armed) {
		s->always = true;
		return loop_epoll_fd_update(l, slot);
	}
	if (rc == 0)
		s->armed = events;
	return rc;
}

void loop_epoll_fd_del(struct loop *l, uint32_t slot)
{
	struct epoll_state *e = l->engine;
	struct loop_slot *s = &l->slots[slot];

	if (s->always)
		e->nalways -= s->armed != 0;
	else if (s->armed)
		(void)epoll_control(l, slot, EPOLL_CTL_DEL, 0);
}

static int always_dispatch(struct loop *l)
{
	int ran = 0;

	for (uint32_t i = 0; i < l->nslots; i++) {
		struct loop_slot *s = &l->slots[i];

		if (s->w && s->always)
			ran += loop_slot_dispatch(l, i, s->gen, EPOLLIN | EPOLLOUT);
	}
	return ran;
}

int loop_epoll_poll(struct loop *l, uint64_t timeout_ns)
{
	struct epoll_state *e = l->engine;
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / NS_PER_SEC),
			       .tv_nsec = (long)(timeout_ns % NS_PER_SEC) };
	int ran = 0, n;

	if (e->nalways)
		ts = (struct timespec){ 0 };
	l->stats.waits++;
	n = epoll_pwait2(e->fd, e->events, LOOP_BATCH,
			 timeout_ns == UINT64_MAX && !e->nalways ? NULL : &ts, NULL);
	for (int i = 0; i < n; i++)
		ran += loop_slot_dispatch(l, (uint32_t)e->events[i].data.u64,
					  (uint32_t)(e->events[i].data.u64 >> 32),
					  e->events[i].events);
	if (e->nalways)
		ran += always_dispatch(l);
	return ran;
}

static uint64_t epoll_now(struct loop *l)
{
	(void)l;
	return clock_mono_ns();
}

const struct loop_engine_ops loop_epoll_ops = {
	.engine = LOOP_EPOLL,
	.init = loop_epoll_init,
	.fini = loop_epoll_fini,
	.fd_update = loop_epoll_fd_update,
	.fd_del = loop_epoll_fd_del,
	.poll = loop_epoll_poll,
	.now = epoll_now,
};
