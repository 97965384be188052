/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/blk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk_priv.h"
#include "util/checked.h"
#include "util/log.h"

static bool blk_writes(const struct blk_req *r)
{
	return r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD;
}

bool blk_durable(const struct blk_req *r)
{
	return r->op == BLK_FLUSH || (blk_writes(r) && (r->flags & BLK_FUA));
}

static bool iov_sum_is(const struct blk_req *r, uint64_t want)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < r->iovcnt; i++)
		if (!checked_add(sum, r->iov[i].iov_len, &sum))
			return false;
	return sum == want;
}

/* 1: to the engine, 0: nothing to do, or -errno. */
static int blk_check(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_FLUSH) {
		if (b->info.read_only)
			return 0;
		return b->failed ? -EIO : 1;
	}
	if (blk_writes(r) && b->info.read_only)
		return -EROFS;
	if (r->offset % b->info.sector || r->len % b->info.sector ||
	    !range_inside(r->offset, r->len, b->info.size))
		return -EINVAL;
	if ((r->op == BLK_READ || r->op == BLK_WRITE) && !iov_sum_is(r, r->len))
		return -EINVAL;
	if (r->op == BLK_DISCARD && !b->info.discard)
		return -EOPNOTSUPP;
	if (blk_writes(r) && b->failed)
		return -EIO;
	return r->len ? 1 : 0;
}

void blk_submit(struct blk *b, struct blk_req *const *reqs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = blk_check(b, reqs[i]);

		b->stats.accepted++;
		blk_work_of(reqs[i])->b = b;
		if (rc <= 0)
			blk_done(reqs[i], rc);
		else
			b->ops->submit(b, reqs[i]);
	}
}

static void blk_count(struct blk *b, const struct blk_req *r, int res)
{
	b->stats.completed++;
	if (res < 0)
		b->stats.failed++;
	else if (r->op == BLK_READ)
		b->stats.read_bytes += r->len;
	else if (r->op == BLK_WRITE)
		b->stats.write_bytes += r->len;
	else if (r->op == BLK_FLUSH)
		b->stats.flushes++;
}

/*
 * Failures are looked at before anything is told: a flush that ran beside the one that got the error must not report
 * success, because the kernel gives the error only once.
 */
static void blk_tell(struct blk *b)
{
	struct list todo;
	struct blk_work *w;

	if (list_empty(&b->done))
		return;
	todo = b->done;
	todo.next->prev = todo.prev->next = &todo;
	list_init(&b->done);
	list_for_each(w, &todo, link)
		if (w->res < 0 && blk_durable(blk_req_of(w)))
			b->failed = true;
	if (b->enter)
		b->enter(b->batch_arg);
	while (!list_empty(&todo)) {
		struct blk_req *r;
		int res;

		w = list_first(&todo, struct blk_work, link);
		list_remove(&w->link);
		r = blk_req_of(w);
		res = w->res;
		if (res == 0 && b->failed && blk_durable(r) && !b->info.read_only)
			res = -EIO;
		blk_count(b, r, res);
		r->done(r, res);
	}
	if (b->leave)
		b->leave(b->batch_arg);
}

static void blk_post_fn(struct loop_post *p)
{
	blk_tell(container_of(p, struct blk, post));
}

static void blk_idle_fn(struct loop_idle *i)
{
	blk_tell(container_of(i, struct blk, idle));
}

void blk_done_step(struct blk_req *r, int res)
{
	struct blk_work *w = blk_work_of(r);

	w->res = res;
	list_append(&w->b->done, &w->link);
}

void blk_done(struct blk_req *r, int res)
{
	struct blk *b = blk_work_of(r)->b;
	bool first = list_empty(&b->done);

	blk_done_step(r, res);
	/* Those before it have already asked to be told. */
	if (first)
		loop_post(&b->post);
}

void blk_init(struct blk *b, const struct blk_ops *ops, struct loop *l)
{
	b->ops = ops;
	b->loop = l;
	list_init(&b->done);
	loop_post_init(l, &b->post, blk_post_fn);
	loop_idle_add(l, &b->idle, blk_idle_fn);
}

void blk_fini(struct blk *b)
{
	loop_post_cancel(&b->post);
	loop_idle_del(&b->idle);
	free(b->path);
}

void blk_close(struct blk *b)
{
	if (!b)
		return;
	assert(b->stats.accepted == b->stats.completed);
	b->ops->close(b);
}

const struct blk_info *blk_info_get(const struct blk *b)
{
	return &b->info;
}

void blk_set_batch(struct blk *b, void (*enter)(void *), void (*leave)(void *), void *arg)
{
	b->enter = enter;
	b->leave = leave;
	b->batch_arg = arg;
}

void blk_stats_get(const struct blk *b, struct blk_stats *out)
{
	*out = b->stats;
}

void blk_clear_error(struct blk *b)
{
	b->failed = false;
}
