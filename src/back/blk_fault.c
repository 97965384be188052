/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "back/blk_priv.h"

/* Passes requests on to another disk, fails those it is told to, and holds results back. */
struct blk_fault_disk {
	struct blk b;
	struct blk *inner;
	struct blk_fault f;
	struct list held; /* struct blk_work */
	size_t nheld;
};

/* A request's twin on the inner disk. */
struct fault_twin {
	struct blk_req req;
	struct blk_req *outer;
};

static void fault_finish(struct blk_req *r, int res)
{
	struct blk_work *w = blk_work_of(r);
	struct blk_fault_disk *d = container_of(w->b, struct blk_fault_disk, b);

	if (!d->f.hold) {
		blk_done(r, res);
		return;
	}
	w->res = res;
	list_append(&d->held, &w->link);
	d->nheld++;
}

static void fault_inner_done(struct blk_req *req, int res)
{
	struct fault_twin *t = container_of(req, struct fault_twin, req);
	struct blk_req *outer = t->outer;

	free(t);
	fault_finish(outer, res);
}

static bool fault_hits(struct blk_fault_disk *d, const struct blk_req *r)
{
	if (d->f.fail_op >= 0 && d->f.fail_op != (int)r->op)
		return false;
	if (d->f.fail_nth > 0)
		return --d->f.fail_nth == 0;
	return d->f.fail_nth < 0;
}

static void fault_submit(struct blk *b, struct blk_req *r)
{
	struct blk_fault_disk *d = container_of(b, struct blk_fault_disk, b);
	struct fault_twin *t;
	struct blk_req *req;

	if (fault_hits(d, r)) {
		fault_finish(r, -d->f.fail_errno);
		return;
	}
	t = malloc(sizeof(*t));
	assert(t);
	t->outer = r;
	t->req = (struct blk_req){ .op = r->op,
				   .flags = r->flags,
				   .offset = r->offset,
				   .len = r->len,
				   .iov = r->iov,
				   .iovcnt = r->iovcnt,
				   .done = fault_inner_done };
	req = &t->req;
	blk_submit(d->inner, &req, 1);
}

static void fault_close(struct blk *b)
{
	struct blk_fault_disk *d = container_of(b, struct blk_fault_disk, b);

	blk_close(d->inner);
	blk_fini(b);
	free(d);
}

static int fault_size(const struct blk *b, uint64_t *size)
{
	struct blk *inner = container_of(b, struct blk_fault_disk, b)->inner;
	int r = inner->ops->size ? inner->ops->size(inner, size) : -EOPNOTSUPP;

	if (r == 0)
		(void)blk_grow(inner, NULL); /* the outer disk tells what is wrong */
	return r;
}

struct blk *blk_open_fault(struct loop *l, struct blk *inner)
{
	static const struct blk_ops ops = { .submit = fault_submit,
					    .close = fault_close,
					    .size = fault_size };
	struct blk_fault_disk *d;

	if (!inner)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (!d) {
		blk_close(inner);
		return NULL;
	}
	d->inner = inner;
	d->f.fail_op = -1;
	list_init(&d->held);
	d->b.info = *blk_info_get(inner);
	d->b.unsafe = inner->unsafe;
	d->b.on_nospace = inner->on_nospace;
	d->b.on_error = inner->on_error;
	blk_init(&d->b, &ops, l);
	return &d->b;
}

void blk_fault_set(struct blk *b, const struct blk_fault *f)
{
	container_of(b, struct blk_fault_disk, b)->f = *f;
}

size_t blk_fault_release(struct blk *b, size_t index, size_t n)
{
	struct blk_fault_disk *d = container_of(b, struct blk_fault_disk, b);
	struct blk_work *w, *next;
	size_t at = 0;

	list_for_each_safe(w, next, &d->held, link) {
		if (at++ < index)
			continue;
		if (n-- == 0)
			break;
		list_remove(&w->link);
		d->nheld--;
		blk_done(blk_req_of(w), w->res);
	}
	return d->nheld;
}
