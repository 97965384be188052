/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/net_priv.h"
#include "util/err.h"

/* --- not connected --- */

static void none_send(struct net *n, unsigned int q, struct net_req *r)
{
	(void)n;
	(void)q;
	net_done(r, -ENETDOWN);
}

static void none_recv(struct net *n, unsigned int q, struct net_req *r)
{
	(void)n;
	(void)q;
	net_done(r, -EAGAIN);
}

static void none_close(struct net *n)
{
	net_fini(n);
	free(n);
}

static struct net *open_none(struct loop *l, unsigned int queues, struct err *err)
{
	static const struct net_ops ops = { .send = none_send,
					    .recv = none_recv,
					    .close = none_close };
	struct net *n = calloc(1, sizeof(*n));

	if (!n) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	n->info.queues = queues;
	net_init(n, &ops, l, "none");
	return n;
}

/* --- all kinds --- */

struct net *net_open(struct loop *l, const struct net_spec *spec, struct err *err)
{
	unsigned int queues = spec->queues ? (unsigned int)MIN(spec->queues, NET_QUEUES_MAX) : 1;

	if (!spec->backend || strcmp(spec->backend, "none") == 0)
		return open_none(l, queues, err);
	err_set(err, -EINVAL, "%s: not a network back end: use none", spec->backend);
	return NULL;
}
