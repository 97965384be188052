/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/dev.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "dev/dev_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

/* --- the lock and its ways in --- */

void dev_lock(struct dev *d)
{
	pthread_mutex_lock(&d->lock);
}

void dev_unlock(struct dev *d)
{
	d->on_loop = false;
	pthread_mutex_unlock(&d->lock);
}

void dev_lock_on_loop(struct dev *d)
{
	dev_lock(d);
	d->on_loop = true;
}

/* --- life cycle --- */

static void free_conf(const struct dev_ops *ops, void *conf)
{
	if (conf && ops->keys)
		conf_unbind(ops->keys, conf);
	free(conf);
}

/* Ends a device in any state after allocation. */
static void destroy(struct dev *d)
{
	struct dev_timer *t;
	struct dev_post *p;
	struct dev_batch *b, *next;

	/* A post or a timer that the model forgot must not run into freed memory. */
	dev_lock_on_loop(d);
	d->leaving = true;
	list_for_each(t, &d->timers, link) {
		loop_timer_cancel(&t->timer);
		loop_post_cancel(&t->post);
	}
	list_for_each(p, &d->posts, link)
		loop_post_cancel(&p->post);
	if (d->ops->fini)
		d->ops->fini(d);
	dev_unlock(d);
	list_for_each_safe(b, next, &d->batches, link)
		free(b);
	pthread_mutex_destroy(&d->lock);
	free_conf(d->ops, d->conf);
	free(d);
}

int dev_new(const struct dev_ops *ops, const struct env *env, void *conf, struct dev **out,
	    struct err *err)
{
	struct dev *d;
	int ret;

	assert(ops->size >= sizeof(*d));
	d = calloc(1, ops->size);
	if (!d) {
		free_conf(ops, conf);
		return err_set(err, -ENOMEM, "%s: out of memory", env->name);
	}
	d->ops = ops;
	d->env = *env;
	str_copy(d->name, sizeof(d->name), env->name ? env->name : ops->model);
	d->env.name = d->name;
	d->conf = conf;
	d->state = DEV_MADE;
	pthread_mutex_init(&d->lock, NULL);
	list_init(&d->timers);
	list_init(&d->posts);
	list_init(&d->batches);
	list_init(&d->link);
	dev_lock_on_loop(d);
	ret = ops->init(d, &d->env, conf, err);
	dev_unlock(d);
	if (ret < 0) {
		destroy(d);
		return ret;
	}
	*out = d;
	return 0;
}

void dev_free(struct dev *d)
{
	if (!d)
		return;
	assert(d->state == DEV_MADE || d->state == DEV_PAUSED);
	destroy(d);
}

int dev_start(struct dev *d, struct err *err)
{
	int ret = 0;

	dev_lock_on_loop(d);
	assert(d->state == DEV_MADE);
	if (d->ops->start)
		ret = d->ops->start(d, err);
	if (ret == 0)
		d->state = DEV_RUNNING;
	dev_unlock(d);
	return ret;
}

void dev_pause(struct dev *d, void (*on_paused)(struct dev *d, void *arg), void *arg)
{
	dev_lock_on_loop(d);
	assert(d->state == DEV_RUNNING);
	d->state = DEV_PAUSING;
	d->on_paused = on_paused;
	d->on_paused_arg = arg;
	if (d->ops->pause)
		d->ops->pause(d);
	else
		dev_paused(d);
	dev_unlock(d);
}

void dev_paused(struct dev *d)
{
	assert(d->state == DEV_PAUSING);
	d->state = DEV_PAUSED;
	if (d->on_paused)
		d->on_paused(d, d->on_paused_arg);
}

void dev_resume(struct dev *d)
{
	dev_lock_on_loop(d);
	assert(d->state == DEV_PAUSED);
	d->state = DEV_RUNNING;
	if (d->ops->resume)
		d->ops->resume(d);
	dev_unlock(d);
}

void dev_reset(struct dev *d)
{
	dev_lock_on_loop(d);
	assert(d->state == DEV_PAUSED);
	d->ops->reset(d);
	dev_unlock(d);
}

bool dev_link(struct dev *d, int plug)
{
	bool up;

	dev_lock_on_loop(d);
	up = d->ops->link(d, plug);
	dev_unlock(d);
	return up;
}

/* --- regions --- */

static uint64_t region_read(void *arg, uint64_t offset, unsigned int size)
{
	struct dev_region *r = arg;
	uint64_t value;

	if (!r->lock_free)
		dev_lock(r->dev);
	value = r->regs ? reg_read(r->regs, r->dev, offset, size) : r->read(r->dev, offset, size);
	if (!r->lock_free)
		dev_unlock(r->dev);
	return value;
}

static void region_write(void *arg, uint64_t offset, unsigned int size, uint64_t value)
{
	struct dev_region *r = arg;

	if (!r->lock_free)
		dev_lock(r->dev);
	if (r->regs)
		reg_write(r->regs, r->dev, offset, size, value);
	else
		r->write(r->dev, offset, size, value);
	if (!r->lock_free)
		dev_unlock(r->dev);
}

static const struct bus_region_ops region_ops = { .read = region_read, .write = region_write };

void dev_region_init_regs(struct dev_region *r, struct dev *d, uint64_t len,
			  const struct reg_table *regs)
{
	*r = (struct dev_region){ .region = { .ops = &region_ops, .arg = r, .len = len },
				  .dev = d,
				  .regs = regs };
}

void dev_region_init_ops(struct dev_region *r, struct dev *d, uint64_t len,
			 uint64_t (*read)(struct dev *, uint64_t, unsigned int),
			 void (*write)(struct dev *, uint64_t, unsigned int, uint64_t))
{
	*r = (struct dev_region){ .region = { .ops = &region_ops, .arg = r, .len = len },
				  .dev = d,
				  .read = read,
				  .write = write };
}

/* --- timers: the device's deadline is the truth; the loop's timer only makes somebody look at it --- */

/* Loop's thread, lock held: makes the loop look no later than at the deadline. */
static void timer_tell_loop(struct dev_timer *t)
{
	if (t->deadline_ns >= t->loop_deadline_ns)
		return;
	t->loop_deadline_ns = t->deadline_ns;
	loop_timer_set(&t->timer, t->deadline_ns);
}

static void on_timer(struct loop_timer *timer)
{
	struct dev_timer *t = container_of(timer, struct dev_timer, timer);
	struct dev *d = t->dev;

	dev_lock_on_loop(d);
	t->loop_deadline_ns = DEV_NEVER;
	if (t->deadline_ns <= loop_now(d->env.loop)) {
		t->deadline_ns = DEV_NEVER;
		t->fn(d);
	}
	timer_tell_loop(t);
	dev_unlock(d);
}

static void on_timer_post(struct loop_post *post)
{
	struct dev_timer *t = container_of(post, struct dev_timer, post);

	dev_lock_on_loop(t->dev);
	timer_tell_loop(t);
	dev_unlock(t->dev);
}

void dev_timer_init(struct dev_timer *t, struct dev *d, void (*fn)(struct dev *d))
{
	loop_timer_init(d->env.loop, &t->timer, on_timer);
	loop_post_init(d->env.loop, &t->post, on_timer_post);
	t->dev = d;
	t->fn = fn;
	t->deadline_ns = DEV_NEVER;
	t->loop_deadline_ns = DEV_NEVER;
	list_append(&d->timers, &t->link);
}

void dev_timer_set(struct dev_timer *t, uint64_t deadline_ns)
{
	if (t->dev->leaving)
		return;
	t->deadline_ns = deadline_ns;
	if (deadline_ns >= t->loop_deadline_ns)
		return; /* the loop looks in time; a later deadline is noticed then */
	if (t->dev->on_loop)
		timer_tell_loop(t);
	else
		loop_post(&t->post);
}

void dev_timer_cancel(struct dev_timer *t)
{
	t->deadline_ns = DEV_NEVER;
}

/* --- posts --- */

static void on_post(struct loop_post *post)
{
	struct dev_post *p = container_of(post, struct dev_post, post);
	struct dev *d = p->dev;

	dev_lock_on_loop(d);
	p->fn(d);
	dev_unlock(d);
}

void dev_post_init(struct dev_post *p, struct dev *d, void (*fn)(struct dev *d))
{
	loop_post_init(d->env.loop, &p->post, on_post);
	p->dev = d;
	p->fn = fn;
	list_append(&d->posts, &p->link);
}

void dev_post(struct dev_post *p)
{
	/* Without the lock this is only set when no other thread is left (dev_free). */
	if (!p->dev->leaving)
		loop_post(&p->post);
}

void dev_post_cancel(struct dev_post *p)
{
	loop_post_cancel(&p->post);
}

/* --- events --- */

static void on_event(struct loop_fd *watch, unsigned int events)
{
	struct dev_event *e = container_of(watch, struct dev_event, watch);
	struct dev *d = e->dev;

	(void)events;
	dev_lock_on_loop(d);
	e->fn(e);
	dev_unlock(d);
}

int dev_event_init(struct dev_event *e, struct dev *d, unsigned int index,
		   void (*fn)(struct dev_event *e), struct err *err)
{
	int fd = fd_event_new(), ret;

	if (fd < 0)
		return err_set(err, fd,
			       "%s: cannot make an eventfd: %s; raise the limit (ulimit -n)",
			       d->env.name, strerror(-fd));
	*e = (struct dev_event){ .watch = { .fn = on_event }, .fn = fn, .fd = fd, .index = index };
	/* Edge-triggered and never read: a kick costs no system call of its own. */
	ret = loop_fd_add(d->env.loop, &e->watch, fd, EPOLLIN | EPOLLET);
	if (ret < 0) {
		fd_close(&e->fd);
		return err_set(err, ret, "%s: cannot watch an eventfd: %s", d->env.name,
			       strerror(-ret));
	}
	e->dev = d;
	return 0;
}

void dev_event_fini(struct dev_event *e)
{
	if (!e->dev)
		return;
	loop_fd_del(&e->watch);
	fd_close(&e->fd);
	e->dev = NULL;
}
