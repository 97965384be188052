/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_NET_PRIV_H
#define BACK_NET_PRIV_H

#include <stdatomic.h>
#include <string.h>

#include "back/net.h"
#include "loop/loop.h"
#include "util/list.h"
#include "util/macros.h"

struct net_ops {
	/* Requests that passed the checks of net_send() and net_recv(). Answered through net_done(), not inside. */
	void (*send)(struct net *n, unsigned int q, struct net_req *r);
	void (*recv)(struct net *n, unsigned int q, struct net_req *r);
	void (*want)(struct net *n, unsigned int q, bool on);
	/* For engines without level-triggered descriptors: a frame waits. May be NULL. */
	bool (*waiting)(struct net *n, unsigned int q);
	/* The new values are in the instance already. Any thread. May be NULL. */
	void (*set_offloads)(struct net *n, unsigned int offloads);
	int (*set_queues)(struct net *n, unsigned int count);
	int (*tap_fd)(const struct net *n, unsigned int q); /* NULL: it is no tap */
	void (*close)(struct net *n); /* frees the instance; nothing is in flight */
};

/* First member of every engine's instance. Loop's thread only, but for the atomics. */
struct net {
	const struct net_ops *ops;
	struct loop *loop;
	struct net_info info;
	char name[64]; /* info.name */
	struct net_stats stats;
	struct net_events ev;
	void *ev_arg;
	unsigned int wanted, ready; /* queue pairs, as bits */
	atomic_uint offloads, queues; /* as the guest set them */
	atomic_bool link;
	bool link_told;
	bool dry; /* for engines: no frame waits, as far as the rest of this batch of recv calls goes */
	struct list done; /* struct net_work, results waiting to be told */
	struct loop_post post; /* tells them */
	struct loop_idle idle; /* tells them at the end of the step that brought them */
};

/* What the line keeps per request, in req->priv. */
struct net_work {
	struct loop_io io; /* engines on descriptors */
	struct net *n;
	struct list link;
	uint32_t len; /* sum of the iovecs */
	int res;
	bool recv;
	uint8_t q;
	void *twin; /* fault engine */
};

_Static_assert(sizeof(struct net_work) <= sizeof(((struct net_req *)0)->priv), "net_req.priv");
_Static_assert(sizeof(struct net_hdr) == NET_HDR_LEN, "virtio 1.2 s5.1.6");

static inline struct net_work *net_work_of(struct net_req *r)
{
	return (struct net_work *)(void *)r->priv;
}

static inline struct net_req *net_req_of(struct net_work *w)
{
	return container_of((void **)(void *)w, struct net_req, priv[0]);
}

/* --- for engines; info but its name is set by the caller --- */
void net_init(struct net *n, const struct net_ops *ops, struct loop *l, const char *name);
void net_fini(struct net *n);
/* The request's result, from anywhere on the loop's thread: told by a post. */
void net_done(struct net_req *r, int res);
/* The same from a callback of the loop: told at the end of this step, in one batch with others. */
void net_done_step(struct net_req *r, int res);
/* A frame waits on q; told by a post. */
void net_readable(struct net *n, unsigned int q);
/* The same from a callback of the loop. */
void net_readable_step(struct net *n, unsigned int q);
/* Told by a post. Loop's thread. */
void net_link_set(struct net *n, bool up);

/* net_tap.c: queues is what is wanted at most; for descriptors 0 means one for each. */
struct net *net_open_tap(struct loop *l, const char *name, unsigned int queues, struct err *err);
struct net *net_open_tap_fds(struct loop *l, const char *list, unsigned int queues,
			     struct err *err);

/* net_sock.c */
struct net *net_open_sock(struct loop *l, const char *path, struct err *err);

/* Copies between a buffer and the bytes of iovecs from offset on; both stop at the end of the shorter one. Bytes. */
size_t net_iov_read(const struct iovec *iov, unsigned int cnt, size_t offset, void *buf,
		    size_t len);
size_t net_iov_write(const struct iovec *iov, unsigned int cnt, size_t offset, const void *buf,
		     size_t len);
/* The first NET_HDR_LEN bytes, which are mostly in one piece. Returns bytes. */
static inline size_t net_hdr_get(const struct net_req *r, struct net_hdr *h)
{
	if (r->iovcnt && r->iov[0].iov_len >= sizeof(*h)) {
		memcpy(h, r->iov[0].iov_base, sizeof(*h));
		return sizeof(*h);
	}
	return net_iov_read(r->iov, r->iovcnt, 0, h, sizeof(*h));
}

static inline void net_hdr_put(const struct net_req *r, const struct net_hdr *h)
{
	if (r->iovcnt && r->iov[0].iov_len >= sizeof(*h))
		memcpy(r->iov[0].iov_base, h, sizeof(*h));
	else
		net_iov_write(r->iov, r->iovcnt, 0, h, sizeof(*h));
}

/* Do header and a frame of len bytes (without header) agree? 0 or -EINVAL. */
int net_hdr_check(const struct net_hdr *h, size_t len);

#endif
