/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/net_gso.h"
#include "back/net_priv.h"

/* A frame on its way, with header. */
struct pair_frame {
	struct list link;
	size_t len;
	uint8_t data[];
};

struct pair_end {
	struct net n;
	struct pair_end *peer; /* NULL: closed */
	unsigned int depth;
	struct {
		struct list frames; /* that wait to be received */
		unsigned int count;
	} q[NET_QUEUES_MAX];
};

static struct pair_end *end_of(struct net *n)
{
	return container_of(n, struct pair_end, n);
}

static int pair_put(struct pair_end *to, unsigned int q, struct pair_frame *f)
{
	q %= atomic_load(&to->n.queues);
	if (to->q[q].count == to->depth) {
		free(f);
		return -ENOBUFS;
	}
	to->q[q].count++;
	list_append(&to->q[q].frames, &f->link);
	if (to->n.wanted & BIT(q))
		net_readable(&to->n, q);
	return 0;
}

static struct pair_frame *frame_new(size_t len)
{
	struct pair_frame *f = malloc(sizeof(*f) + len);

	if (f)
		f->len = len;
	return f;
}

struct pair_split {
	struct pair_end *to;
	unsigned int q;
	int res;
};

static void pair_emit(void *arg, struct iovec iov[2])
{
	struct pair_split *s = arg;
	struct pair_frame *f = frame_new(NET_HDR_LEN + iov[0].iov_len + iov[1].iov_len);
	int rc = -ENOBUFS;

	if (f) {
		memset(f->data, 0, NET_HDR_LEN);
		net_iov_read(iov, 2, 0, f->data + NET_HDR_LEN, f->len - NET_HDR_LEN);
		rc = pair_put(s->to, s->q, f);
	}
	if (rc < 0)
		s->res = rc;
}

static void pair_send(struct net *n, unsigned int q, struct net_req *r)
{
	struct pair_split s = { .to = end_of(n)->peer, .q = q };
	struct pair_frame *f = frame_new(net_work_of(r)->len);
	struct net_hdr h;
	int rc;

	if (!f) {
		net_done(r, -ENOBUFS);
		return;
	}
	net_iov_read(r->iov, r->iovcnt, 0, f->data, f->len);
	memcpy(&h, f->data, sizeof(h));
	rc = net_hdr_check(&h, f->len - NET_HDR_LEN); /* the copy */
	if (rc == 0 && !net_gso_needed(&h, atomic_load(&s.to->n.offloads))) {
		net_done(r, pair_put(s.to, q, f));
		return;
	}
	if (rc == 0)
		rc = net_gso_split(&h, f->data + NET_HDR_LEN, f->len - NET_HDR_LEN, pair_emit, &s);
	free(f);
	net_done(r, rc < 0 ? rc : s.res);
}

static void pair_recv(struct net *n, unsigned int q, struct net_req *r)
{
	struct pair_end *e = end_of(n);
	struct pair_frame *f;

	/* No engine may find less room than the contract says. */
	r->iov[r->iovcnt] = (struct iovec){ NULL, 0 };
	if (list_empty(&e->q[q].frames)) {
		net_done(r, -EAGAIN);
		return;
	}
	f = list_first(&e->q[q].frames, struct pair_frame, link);
	list_remove(&f->link);
	e->q[q].count--;
	if (f->len > net_work_of(r)->len) {
		net_done(r, -EMSGSIZE);
	} else {
		net_iov_write(r->iov, r->iovcnt, 0, f->data, f->len);
		net_done(r, (int)f->len);
	}
	free(f);
}

static bool pair_waiting(struct net *n, unsigned int q)
{
	return end_of(n)->q[q].count > 0;
}

static void pair_close(struct net *n)
{
	struct pair_end *e = end_of(n);
	struct pair_frame *f, *next;

	if (e->peer) {
		net_link_set(&e->peer->n, false);
		e->peer->peer = NULL;
	}
	for (unsigned int q = 0; q < n->info.queues; q++)
		list_for_each_safe(f, next, &e->q[q].frames, link)
			free(f);
	net_fini(n);
	free(e);
}

static struct pair_end *end_new(struct loop *l, unsigned int queues, unsigned int depth,
				const char *name)
{
	static const struct net_ops ops = {
		.send = pair_send, .recv = pair_recv, .waiting = pair_waiting, .close = pair_close
	};
	struct pair_end *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->depth = depth;
	e->n.info = (struct net_info){ .queues = queues, .mtu = 1500, .offloads = NET_O_ALL };
	for (unsigned int q = 0; q < queues; q++)
		list_init(&e->q[q].frames);
	net_init(&e->n, &ops, l, name);
	atomic_store(&e->n.link, true);
	e->n.link_told = true;
	return e;
}

int net_open_pair(struct loop *l, unsigned int queues, unsigned int depth, struct net **a,
		  struct net **b)
{
	struct pair_end *x, *y;

	assert(queues >= 1 && queues <= NET_QUEUES_MAX);
	x = end_new(l, queues, depth, "pair-a");
	y = x ? end_new(l, queues, depth, "pair-b") : NULL;
	if (!y) {
		if (x)
			pair_close(&x->n);
		return -ENOMEM;
	}
	x->peer = y;
	y->peer = x;
	*a = &x->n;
	*b = &y->n;
	return 0;
}

void net_pair_link(struct net *n, bool up)
{
	struct pair_end *e = end_of(n);

	if (!e->peer)
		return;
	net_link_set(n, up);
	net_link_set(&e->peer->n, up);
}
