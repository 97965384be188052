/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdlib.h>

#include "back/net_priv.h"

/* Passes requests on to another line, fails those it is told to, and holds results back. */
struct net_fault_line {
	struct net n;
	struct net *inner;
	struct net_fault f;
	struct list
		twins; /* of requests whose result is not there yet or is held back, the oldest first */
	size_t nheld;
};

/* A request's twin on the inner line. */
struct fault_twin {
	struct net_req req;
	struct net_req *outer;
	struct list link;
	bool finished;
	int res;
};

static struct net_fault_line *fault_of(struct net *n)
{
	return container_of(n, struct net_fault_line, n);
}

/* Results come out in the order of the requests, as a line without faults gives them. */
static void fault_let_go(struct net_fault_line *d, size_t *limit)
{
	struct fault_twin *t, *next;

	list_for_each_safe(t, next, &d->twins, link) {
		if (!t->finished || *limit == 0)
			break;
		--*limit;
		d->nheld--;
		list_remove(&t->link);
		net_done(t->outer, t->res);
		free(t);
	}
}

static void fault_finish(struct net_fault_line *d, struct fault_twin *t, int res)
{
	size_t all = SIZE_MAX;

	t->finished = true;
	t->res = res;
	d->nheld++;
	if (!d->f.hold)
		fault_let_go(d, &all);
}

static void fault_inner_done(struct net_req *req, int res)
{
	struct fault_twin *t = container_of(req, struct fault_twin, req);

	fault_finish(fault_of(net_work_of(t->outer)->n), t, res);
}

static bool fault_hits(struct net_fault_line *d)
{
	if (d->f.fail_nth > 0)
		return --d->f.fail_nth == 0;
	return d->f.fail_nth < 0;
}

static void fault_pass(struct net *n, unsigned int q, struct net_req *r)
{
	struct net_fault_line *d = fault_of(n);
	struct fault_twin *t = calloc(1, sizeof(*t));
	struct net_req *req = &t->req;

	assert(t);
	t->outer = r;
	t->req = (struct net_req){ .iov = r->iov, .iovcnt = r->iovcnt, .done = fault_inner_done };
	list_append(&d->twins, &t->link);
	if (fault_hits(d))
		fault_finish(d, t, -d->f.fail_errno);
	else if (net_work_of(r)->recv)
		net_recv(d->inner, q, &req, 1);
	else
		net_send(d->inner, q, &req, 1);
}

static void fault_want(struct net *n, unsigned int q, bool on)
{
	net_want(fault_of(n)->inner, q, on);
}

static void fault_inner_readable(void *arg, unsigned int q)
{
	net_readable(arg, q);
}

static void fault_inner_link(void *arg, bool up)
{
	net_link_set(arg, up);
}

static void fault_set_offloads(struct net *n, unsigned int offloads)
{
	net_set_offloads(fault_of(n)->inner, offloads);
}

static int fault_set_queues(struct net *n, unsigned int count)
{
	struct net_fault_line *d = fault_of(n);

	return d->f.fail_queues ? -d->f.fail_errno : net_set_queues(d->inner, count);
}

static void fault_close(struct net *n)
{
	struct net_fault_line *d = fault_of(n);

	net_close(d->inner);
	net_fini(n);
	free(d);
}

struct net *net_open_fault(struct loop *l, struct net *inner)
{
	static const struct net_ops ops = { .send = fault_pass,
					    .recv = fault_pass,
					    .want = fault_want,
					    .set_offloads = fault_set_offloads,
					    .set_queues = fault_set_queues,
					    .close = fault_close };
	static const struct net_events events = { .readable = fault_inner_readable,
						  .link = fault_inner_link };
	struct net_fault_line *d;

	if (!inner)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (!d) {
		net_close(inner);
		return NULL;
	}
	d->inner = inner;
	list_init(&d->twins);
	d->n.info = *net_info_get(inner);
	net_init(&d->n, &ops, l, d->n.info.name);
	atomic_store(&d->n.link, net_link_up(inner));
	d->n.link_told = net_link_up(inner);
	net_set_events(inner, &events, &d->n);
	return &d->n;
}

void net_fault_set(struct net *n, const struct net_fault *f)
{
	fault_of(n)->f = *f;
}

size_t net_fault_release(struct net *n, size_t count)
{
	struct net_fault_line *d = fault_of(n);

	fault_let_go(d, &count);
	return d->nheld;
}
