/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/blk.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk_priv.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

static bool blk_writes(const struct blk_req *r)
{
	return BIT(r->op) & (BIT(BLK_WRITE) | BIT(BLK_WRITE_ZEROES) | BIT(BLK_DISCARD));
}

static bool blk_transfers(const struct blk_req *r)
{
	return BIT(r->op) & (BIT(BLK_READ) | BIT(BLK_WRITE));
}

/* True for operations whose failure means that flushed data may be lost. */
static inline bool blk_durable(const struct blk *b, const struct blk_req *r)
{
	return r->op == BLK_FLUSH ||
	       (blk_writes(r) && !b->unsafe && (b->durable || r->flags & BLK_FUA));
}

/* A durable write that had no space has not got as far as to lose anything: the engines make sure. */
static inline bool blk_lost(const struct blk *b, struct blk_work *w, int res)
{
	const struct blk_req *r = blk_req_of(w);

	return w->run != BLK_REFUSED && blk_durable(b, r) && res != -EOPNOTSUPP &&
	       (res != -ENOSPC || r->op == BLK_FLUSH);
}

static bool iov_sum_is(const struct blk_req *r, uint64_t want)
{
	const struct iovec *iov = r->iov, *end = iov + r->iovcnt;

	for (; iov < end; iov++) {
		if (iov->iov_len > want)
			return false;
		want -= iov->iov_len;
	}
	return want == 0;
}

/* 1: to the engine, 0: nothing to do, or -errno. */
static int blk_check(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_FLUSH) {
		if (b->info.read_only || b->unsafe)
			return 0;
		return b->failed ? -EIO : 1;
	}
	if (b->info.read_only && blk_writes(r))
		return -EROFS;
	if ((r->offset | r->len) & (b->info.sector - 1) ||
	    !range_inside(r->offset, r->len, b->info.size))
		return -EINVAL;
	if (blk_transfers(r) && !iov_sum_is(r, r->len))
		return -EINVAL;
	if (r->op == BLK_DISCARD && !b->info.discard)
		return -EOPNOTSUPP;
	if (b->failed && blk_writes(r))
		return -EIO;
	return r->len ? 1 : 0;
}

void blk_submit(struct blk *b, struct blk_req *const *reqs, size_t n)
{
	b->stats.accepted += n;
	for (size_t i = 0; i < n; i++) {
		int rc = blk_check(b, reqs[i]);
		struct blk_work *w = blk_work_of(reqs[i]);

		w->b = b;
		w->run = rc > 0 ? BLK_RUNS : BLK_REFUSED;
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
 * A flush that ran beside the one that got the error must not report success, because the kernel gives the error only
 * once: blk_done_step() has set failed before the first of them is told. Returns what to tell, 1: the request is kept.
 */
__attribute__((noinline)) static int settle(struct blk *b, struct blk_work *w)
{
	int res = w->res;

	if (b->failed && res == 0 && blk_durable(b, blk_req_of(w)) && !b->info.read_only)
		res = -EIO;
	return blk_policy_keeps(b, w, res) ? 1 : res;
}

static void blk_tell(struct blk *b)
{
	struct blk_work *w = b->done, *next;

	if (!w)
		return;
	b->done = NULL;
	b->done_end = &b->done;
	if (b->enter)
		b->enter(b->batch_arg);
	for (; w; w = next) {
		struct blk_req *r = blk_req_of(w);
		int res = w->res;

		next = w->next;
		if (res < 0 || b->failed || w->run == BLK_RUNS_AGAIN)
			res = settle(b, w);
		if (res > 0)
			continue;
		blk_count(b, r, res);
		r->done(r, res);
	}
	if (b->leave)
		b->leave(b->batch_arg);
	if (b->trouble)
		blk_policy_look(b);
}

static void blk_post_fn(struct loop_post *p)
{
	blk_tell(container_of(p, struct blk, post));
}

static void blk_idle_fn(struct loop_idle *i)
{
	blk_tell(container_of(i, struct blk, idle));
}

static inline void done_append(struct blk *b, struct blk_work *w, int res)
{
	if (res < 0 && blk_lost(b, w, res))
		b->failed = true;
	w->res = res;
	w->next = NULL;
	*b->done_end = w;
	b->done_end = &w->next;
}

void blk_done_step(struct blk_req *r, int res)
{
	done_append(blk_work_of(r)->b, blk_work_of(r), res);
}

void blk_done(struct blk_req *r, int res)
{
	struct blk_work *w = blk_work_of(r);
	struct blk *b = w->b;
	bool first = !b->done;

	done_append(b, w, res);
	/* Those before it have already asked to be told. */
	if (first)
		loop_post(&b->post);
}

void blk_init(struct blk *b, const struct blk_ops *ops, struct loop *l)
{
	b->ops = ops;
	b->loop = l;
	b->done_end = &b->done;
	loop_post_init(l, &b->post, blk_post_fn);
	loop_idle_add(l, &b->idle, blk_idle_fn);
	blk_policy_init(b);
}

void blk_fini(struct blk *b)
{
	loop_post_cancel(&b->post);
	loop_idle_del(&b->idle);
	blk_policy_fini(b);
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

int blk_grow(struct blk *b, struct err *err)
{
	const char *path = b->info.path ? b->info.path : "the disk";
	uint64_t size;
	int r;

	if (!b->ops->size)
		return err_set(err, -EOPNOTSUPP, "%s does not change its size", path);
	r = b->ops->size(b, &size);
	if (r < 0)
		return err_set(err, r, "%s: cannot get its size: %s", path, strerror(-r));
	size -= size % b->info.sector;
	if (size < b->info.size)
		return err_set(err, -EINVAL,
			       "%s has become smaller, from %llu to %llu bytes; the guest was not "
			       "told, and what is missing is gone",
			       path, (unsigned long long)b->info.size, (unsigned long long)size);
	b->info.size = size;
	return 0;
}

bool blk_failed(const struct blk *b)
{
	return b->failed;
}

void blk_clear_error(struct blk *b)
{
	b->failed = b->giving_up = b->stop = false;
	if (list_empty(&b->parked) && !b->retrying)
		b->trouble = 0;
}
