/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "dev/dev_priv.h"
#include "util/err.h"

void dev_batch_enter(void *arg)
{
	dev_lock_on_loop(((struct dev_batch *)arg)->dev);
}

void dev_batch_leave(void *arg)
{
	struct dev_batch *b = arg;

	if (b->end)
		b->end(b->dev);
	dev_unlock(b->dev);
}

static void disk_trouble(void *arg)
{
	const struct dev *d = arg;

	if (d->env.ops->disk_trouble)
		d->env.ops->disk_trouble(&d->env);
}

struct blk *dev_blk_open(struct dev *d, const struct blk_spec *spec,
			 void (*batch_end)(struct dev *d), struct err *err)
{
	struct dev_batch *b = calloc(1, sizeof(*b));
	struct blk *blk;

	if (!b) {
		err_set(err, -ENOMEM, "%s: out of memory", d->env.name);
		return NULL;
	}
	blk = d->env.ops->blk_open(&d->env, spec, err);
	if (!blk) {
		free(b);
		return NULL;
	}
	b->dev = d;
	b->end = batch_end;
	b->disk = blk;
	list_append(&d->batches, &b->link);
	blk_set_batch(blk, dev_batch_enter, dev_batch_leave, b);
	blk_set_trouble(blk, disk_trouble, d);
	return blk;
}

struct blk *dev_disk(struct dev *d, unsigned int n)
{
	struct dev_batch *b;

	list_for_each(b, &d->batches, link)
		if (b->disk && n-- == 0)
			return b->disk;
	return NULL;
}
