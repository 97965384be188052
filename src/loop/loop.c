/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "loop/loop.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "loop/loop_priv.h"
#include "util/err.h"
#include "util/fd.h"

/* --- descriptors --- */

static int slot_alloc(struct loop *l, uint32_t *out)
{
	if (l->free_slot == LOOP_NO_SLOT) {
		uint32_t cap = l->nslots ? l->nslots * 2 : 32;
		struct loop_slot *slots = realloc(l->slots, cap * sizeof(*slots));

		if (!slots)
			return -ENOMEM;
		memset(slots + l->nslots, 0, (cap - l->nslots) * sizeof(*slots));
		for (uint32_t i = cap; i-- > l->nslots;) {
			slots[i].next_free = l->free_slot;
			l->free_slot = i;
		}
		l->slots = slots;
		l->nslots = cap;
	}
	*out = l->free_slot;
	l->free_slot = l->slots[*out].next_free;
	return 0;
}

static void slot_free(struct loop *l, uint32_t slot)
{
	struct loop_slot *s = &l->slots[slot];

	s->w = NULL;
	s->gen++;
	s->armed = 0;
	s->always = false;
	s->next_free = l->free_slot;
	l->free_slot = slot;
}

int loop_fd_add(struct loop *l, struct loop_fd *w, int fd, unsigned int events)
{
	uint32_t slot;
	int rc = slot_alloc(l, &slot);

	if (rc < 0)
		return rc;
	w->loop = l;
	w->fd = fd;
	w->events = events;
	w->priv.slot = slot;
	w->priv.gen = l->slots[slot].gen;
	l->slots[slot].w = w;
	rc = l->ops->fd_update(l, slot);
	if (rc < 0) {
		slot_free(l, slot);
		w->fd = -1;
		return rc;
	}
	l->nfds++;
	return 0;
}

void loop_fd_events(struct loop_fd *w, unsigned int events)
{
	if (w->events == events)
		return;
	w->events = events;
	/* The descriptor was accepted by add, so this can only fail for want of kernel memory: the old events stay. */
	(void)w->loop->ops->fd_update(w->loop, w->priv.slot);
}

void loop_fd_del(struct loop_fd *w)
{
	struct loop *l = w->loop;
	uint32_t slot = w->priv.slot;

	if (!l || w->fd < 0)
		return;
	assert(l->slots[slot].w == w);
	l->ops->fd_del(l, slot);
	slot_free(l, slot);
	l->nfds--;
	w->fd = -1;
}

int loop_slot_dispatch(struct loop *l, uint32_t slot, uint32_t gen, unsigned int events)
{
	struct loop_fd *w = l->slots[slot].w;

	if (!w || l->slots[slot].gen != gen || !w->events)
		return 0;
	events &= w->events | EPOLLHUP | EPOLLERR;
	if (!events || w == &l->wake)
		return 0;
	l->stats.callbacks++;
	w->fn(w, events);
	return 1;
}

/* --- posts --- */

static void loop_wake(struct loop *l)
{
	if (atomic_exchange(&l->sleeping, false))
		fd_event_set(l->wake_fd);
}

void loop_post_init(struct loop *l, struct loop_post *p, void (*fn)(struct loop_post *p))
{
	p->fn = fn;
	p->loop = l;
	p->pending = false;
	list_init(&p->link);
}

void loop_post(struct loop_post *p)
{
	struct loop *l = p->loop;

	pthread_mutex_lock(&l->post_lock);
	if (p->pending) {
		pthread_mutex_unlock(&l->post_lock);
		return;
	}
	p->pending = true;
	list_append(&l->posts, &p->link);
	atomic_fetch_add(&l->nposts, 1);
	pthread_mutex_unlock(&l->post_lock);
	loop_wake(l);
}

static void post_unlink(struct loop *l, struct loop_post *p)
{
	list_remove(&p->link);
	p->pending = false;
	atomic_fetch_sub(&l->nposts, 1);
}

void loop_post_cancel(struct loop_post *p)
{
	struct loop *l = p->loop;

	if (!l)
		return;
	pthread_mutex_lock(&l->post_lock);
	if (p->pending)
		post_unlink(l, p);
	pthread_mutex_unlock(&l->post_lock);
}

/* Those pending now; what they post themselves waits for the next step. */
static int posts_run(struct loop *l)
{
	size_t n = atomic_load(&l->nposts);
	int ran = 0;

	for (; n > 0; n--) {
		struct loop_post *p;

		pthread_mutex_lock(&l->post_lock);
		if (list_empty(&l->posts)) {
			pthread_mutex_unlock(&l->post_lock);
			break;
		}
		p = list_first(&l->posts, struct loop_post, link);
		post_unlink(l, p);
		pthread_mutex_unlock(&l->post_lock);
		l->stats.callbacks++;
		p->fn(p);
		ran++;
	}
	return ran;
}

/* --- idle functions --- */

void loop_idle_add(struct loop *l, struct loop_idle *i, void (*fn)(struct loop_idle *i))
{
	i->fn = fn;
	i->loop = l;
	list_append(&l->idles, &i->link);
}

void loop_idle_del(struct loop_idle *i)
{
	if (!i->loop)
		return;
	list_remove(&i->link);
	i->loop = NULL;
}

/* Each moves to a second list before it runs, so that any of them may be removed meanwhile. */
static void idles_run(struct loop *l)
{
	struct list todo;

	if (list_empty(&l->idles))
		return;
	todo = l->idles;
	todo.next->prev = todo.prev->next = &todo;
	list_init(&l->idles);
	while (!list_empty(&todo)) {
		struct loop_idle *i = list_first(&todo, struct loop_idle, link);

		list_remove(&i->link);
		list_append(&l->idles, &i->link);
		i->fn(i);
	}
}

/* --- file I/O --- */

void loop_io_submit(struct loop *l, struct loop_io *io)
{
	assert(l->ops->io_submit);
	l->ios++;
	l->ops->io_submit(l, io);
}

void loop_io_flush(struct loop *l)
{
	if (l->ops->io_flush)
		l->ops->io_flush(l);
}

void loop_event_set(struct loop *l, int fd)
{
	if (!l->ops->event_set || !l->ops->event_set(l, fd))
		fd_event_set(fd);
}

/* --- the loop --- */

uint64_t loop_now(struct loop *l)
{
	return l->ops->now(l);
}

/* How long poll may sleep. Posts and stop are checked after `sleeping` is up: whoever comes later wakes us. */
static uint64_t wait_time(struct loop *l)
{
	uint64_t now, next;

	atomic_store(&l->sleeping, true);
	if (atomic_load(&l->nposts) || atomic_load(&l->stop))
		return 0;
	next = loop_timers_next(l);
	if (next == UINT64_MAX)
		return UINT64_MAX;
	now = loop_now(l);
	return next > now ? next - now : 0;
}

int loop_step(struct loop *l, bool wait)
{
	uint64_t timeout = wait ? wait_time(l) : 0;
	int ran = l->ops->poll(l, timeout);

	atomic_store(&l->sleeping, false);
	if (l->ntimers)
		ran += loop_timers_run(l, loop_now(l));
	ran += posts_run(l);
	if (ran)
		idles_run(l);
	return ran;
}

void loop_run(struct loop *l)
{
	while (!atomic_load(&l->stop))
		loop_step(l, true);
	atomic_store(&l->stop, false);
}

void loop_stop(struct loop *l)
{
	atomic_store(&l->stop, true);
	loop_wake(l);
}

void loop_stats_get(const struct loop *l, struct loop_stats *out)
{
	*out = l->stats;
}

enum loop_engine loop_engine_get(const struct loop *l)
{
	return l->ops->engine;
}

static void wake_fn(struct loop_fd *w, unsigned int events)
{
	(void)w;
	(void)events;
}

static struct loop *loop_new_with(const struct loop_engine_ops *ops, struct err *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	int rc;

	if (!l) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	l->ops = ops;
	l->free_slot = LOOP_NO_SLOT;
	l->wake.fd = -1;
	list_init(&l->posts);
	list_init(&l->idles);
	pthread_mutex_init(&l->post_lock, NULL);
	l->wake_fd = fd_event_new();
	if (l->wake_fd < 0) {
		err_set(err, l->wake_fd, "cannot make an eventfd: %s", strerror(-l->wake_fd));
		goto fail;
	}
	if (ops->init(l, err) < 0)
		goto fail;
	l->wake.fn = wake_fn;
	rc = loop_fd_add(l, &l->wake, l->wake_fd, EPOLLIN | EPOLLET);
	if (rc < 0) {
		err_set(err, rc, "cannot watch an eventfd: %s", strerror(-rc));
		ops->fini(l);
		goto fail;
	}
	return l;
fail:
	fd_close(&l->wake_fd);
	pthread_mutex_destroy(&l->post_lock);
	free(l->slots);
	free(l);
	return NULL;
}

struct loop *loop_new(enum loop_engine engine, struct err *err)
{
	struct loop *l;

	switch (engine) {
	case LOOP_URING:
		return loop_new_with(&loop_uring_ops, err);
	case LOOP_EPOLL:
		return loop_new_with(&loop_epoll_ops, err);
	case LOOP_FAKE:
		return loop_new_with(&loop_fake_ops, err);
	case LOOP_AUTO:
		break;
	}
	l = loop_new_with(&loop_uring_ops, NULL);
	return l ? l : loop_new_with(&loop_epoll_ops, err);
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	loop_fd_del(&l->wake);
	assert(l->nfds == 0 && l->ntimers == 0 && l->ios == 0);
	assert(list_empty(&l->posts) && list_empty(&l->idles));
	l->ops->fini(l);
	fd_close(&l->wake_fd);
	pthread_mutex_destroy(&l->post_lock);
	free(l->heap);
	free(l->slots);
	free(l);
}
