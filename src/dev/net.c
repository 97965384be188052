/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "dev/dev_priv.h"
#include "util/err.h"

static void line_readable(void *arg, unsigned int q)
{
	struct dev_batch *b = arg;

	if (b->net.readable)
		b->net.readable(b->dev, q);
}

static void line_link(void *arg, bool up)
{
	struct dev_batch *b = arg;

	if (b->net.link)
		b->net.link(b->dev, up);
}

struct net *dev_line(struct dev *d, unsigned int n)
{
	struct dev_batch *b;

	list_for_each(b, &d->batches, link)
		if (b->line && n-- == 0)
			return b->line;
	return NULL;
}

struct net *dev_net_open(struct dev *d, const struct net_spec *spec,
			 const struct dev_net_events *ev, struct err *err)
{
	static const struct net_events events = { .readable = line_readable,
						  .link = line_link,
						  .enter = dev_batch_enter,
						  .leave = dev_batch_leave };
	struct dev_batch *b = calloc(1, sizeof(*b));
	struct net *n;

	if (!b) {
		err_set(err, -ENOMEM, "%s: out of memory", d->env.name);
		return NULL;
	}
	n = d->env.ops->net_open(&d->env, spec, err);
	if (!n) {
		free(b);
		return NULL;
	}
	b->dev = d;
	b->end = ev->batch_end;
	b->net = *ev;
	b->line = n;
	list_append(&d->batches, &b->link);
	net_set_events(n, &events, b);
	return n;
}
