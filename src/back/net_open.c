/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/net_priv.h"
#include "util/err.h"
#include "util/str.h"

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

static bool is_numbered(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return str_starts(s, prefix) && s[n] && strspn(s + n, "0123456789") == strlen(s + n);
}

struct net *net_open(struct loop *l, const struct net_spec *spec, struct err *err)
{
	unsigned int queues = spec->queues ? (unsigned int)MIN(spec->queues, NET_QUEUES_MAX) : 1;
	const char *b = spec->backend;

	if (!b || strcmp(b, "none") == 0)
		return open_none(l, queues, err);
	if (str_starts(b, "tap:"))
		return net_open_tap(l, b + strlen("tap:"), queues, err);
	if (is_numbered(b, "tap") || is_numbered(b, "vmnet"))
		return net_open_tap(l, b, queues, err);
	if (str_starts(b, "fd:"))
		return net_open_tap_fds(l, b + strlen("fd:"), spec->queues ? queues : 0, err);
	if (str_starts(b, "socket:"))
		return net_open_sock(l, b + strlen("socket:"), err);
	err_set(err, -EINVAL,
		"%s: not a network back end: use tapN, tap:IFNAME, fd:N, socket:PATH or none", b);
	return NULL;
}
