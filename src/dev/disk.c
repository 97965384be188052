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

void dev_blk_close(struct dev *d, struct blk *disk)
{
	struct dev_batch *b, *next;

	if (!disk)
		return;
	blk_close(disk);
	list_for_each_safe(b, next, &d->batches, link) {
		if (b->disk != disk)
			continue;
		list_remove(&b->link);
		free(b);
	}
}

int dev_grow(struct dev *d, unsigned int n, struct err *err)
{
	struct blk *disk = dev_disk(d, n);
	int r;

	if (!disk || !d->ops->grown)
		return err_set(err, -EOPNOTSUPP, "%s: its disks keep their size", d->name);
	dev_lock_on_loop(d);
	r = blk_grow(disk, err);
	if (r == 0)
		d->ops->grown(d, disk);
	dev_unlock(d);
	return r;
}

int dev_tray(struct dev *d, unsigned int drive, enum dev_tray what, const char *path,
	     struct err *err)
{
	int r;

	if (!d->ops->tray)
		return -ENOENT;
	dev_lock_on_loop(d);
	r = d->ops->tray(d, drive, what, path, err);
	dev_unlock(d);
	return r;
}

struct blk *dev_disk(struct dev *d, unsigned int n)
{
	struct dev_batch *b;

	list_for_each(b, &d->batches, link)
		if (b->disk && n-- == 0)
			return b->disk;
	return NULL;
}
