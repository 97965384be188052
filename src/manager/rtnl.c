/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/rtnl_priv.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/checked.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/* A batch's acknowledgements wait here while the kernel works on it. */
#define SOCKET_BUF (32 << 20)
#define RECV_SIZE (64 * KIB)
/* A list that changes all the time is taken as it is after so many tries. */
#define DUMP_TRIES 50

struct rtnl {
	struct mnl_socket *nl;
	unsigned int seq, port;
	char text[256]; /* the kernel's words for the last error */
	char *buf;
};

int rtnl_open(struct rtnl **out, struct err *err)
{
	struct rtnl *r = calloc(1, sizeof(*r));
	int on = 1, size = SOCKET_BUF, fd, e;

	if (!r || !(r->buf = malloc(RECV_SIZE))) {
		free(r);
		return err_set(err, -ENOMEM, K(080) "out of memory");
	}
	r->nl = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!r->nl || mnl_socket_bind(r->nl, 0, MNL_SOCKET_AUTOPID) < 0) {
		e = -errno;
		rtnl_close(r);
		return err_set(err, e, "cannot ask the kernel about the network: %s", strerror(-e));
	}
	r->port = mnl_socket_get_portid(r->nl);
	fd = mnl_socket_get_fd(r->nl);
	/* All of these make it better, and none is needed for a small request. */
	mnl_socket_setsockopt(r->nl, NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(r->nl, NETLINK_CAP_ACK, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	*out = r;
	return 0;
}

void rtnl_close(struct rtnl *r)
{
	if (!r)
		return;
	if (r->nl)
		mnl_socket_close(r->nl);
	free(r->buf);
	free(r);
}

const char *rtnl_error(const struct rtnl *r, int error)
{
	if (error == -EPERM)
		return K(034) "not permitted; run as root";
	return r->text[0] ? r->text : strerror(-error);
}

void *rtnl_start(struct rtnl_msg *m, uint16_t type, uint16_t flags, size_t size)
{
	memset(m, 0, sizeof(*m));
	mnl_nlmsg_put_header(m->buf);
	m->h.nlmsg_type = type;
	m->h.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	return mnl_nlmsg_put_extra_header(&m->h, size);
}

/* Keeps the kernel's text of an acknowledgement, if it has one. */
static void keep_text(struct rtnl *r, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);
	size_t skip = sizeof(*e);
	const struct nlattr *a;

	r->text[0] = '\0';
	if (!(h->nlmsg_flags & NLM_F_ACK_TLVS))
		return;
	if (!(h->nlmsg_flags & NLM_F_CAPPED))
		skip += mnl_nlmsg_get_payload_len(&e->msg);
	mnl_attr_for_each(a, h, skip)
	{
		if (mnl_attr_get_type(a) == NLMSGERR_ATTR_MSG &&
		    mnl_attr_validate(a, MNL_TYPE_NUL_STRING) == 0)
			(void)str_copy(r->text, sizeof(r->text), mnl_attr_get_str(a));
	}
}

/* The error in an acknowledgement; 1: not one of ours. */
static int ack_error(struct rtnl *r, const struct nlmsghdr *h)
{
	const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

	if (h->nlmsg_type != NLMSG_ERROR || mnl_nlmsg_get_payload_len(h) < sizeof(*e))
		return 1;
	if (e->error < 0)
		keep_text(r, h);
	return e->error;
}

int rtnl_talk(struct rtnl *r, struct rtnl_msg *m)
{
	r->text[0] = '\0';
	m->h.nlmsg_flags |= NLM_F_ACK;
	m->h.nlmsg_seq = ++r->seq;
	if (mnl_socket_sendto(r->nl, &m->h, m->h.nlmsg_len) < 0)
		return -errno;
	for (;;) {
		ssize_t n = mnl_socket_recvfrom(r->nl, r->buf, RECV_SIZE);
		int left = (int)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		for (struct nlmsghdr *h = (struct nlmsghdr *)r->buf; mnl_nlmsg_ok(h, left);
		     h = mnl_nlmsg_next(h, &left)) {
			int e = h->nlmsg_seq == r->seq ? ack_error(r, h) : 1;

			if (e <= 0)
				return e;
		}
	}
}

struct messages {
	char *buf;
	size_t len, room;
};

static int keep_bytes(struct messages *k, const char *buf, size_t len)
{
	if (!k->buf || len > k->room - k->len) {
		size_t room = MAX(2 * k->room, k->len + len + RECV_SIZE);
		char *p = realloc(k->buf, room);

		if (!p)
			return -ENOMEM;
		k->buf = p;
		k->room = room;
	}
	memcpy(k->buf + k->len, buf, len);
	k->len += len;
	return 0;
}

/* 1: more messages follow; 0: this is the only one; -ENOMEM. */
static int keep_message(struct messages *k, const struct nlmsghdr *h)
{
	if (keep_bytes(k, (const char *)h, MNL_ALIGN(h->nlmsg_len)) < 0)
		return -ENOMEM;
	return h->nlmsg_flags & NLM_F_MULTI ? 1 : 0;
}

/* One answer's messages. 1: more to come; 0: all are there; -EINTR: the kernel's list changed meanwhile. */
static int keep_answer(struct rtnl *r, struct messages *k, ssize_t n, bool *interrupted)
{
	int left = (int)n, e = 1;

	for (struct nlmsghdr *h = (struct nlmsghdr *)r->buf; e > 0 && mnl_nlmsg_ok(h, left);
	     h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_seq != r->seq)
			continue;
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			*interrupted = true;
		if (h->nlmsg_type == NLMSG_ERROR)
			e = ack_error(r, h);
		else if (h->nlmsg_type == NLMSG_DONE)
			e = 0;
		else
			e = keep_message(k, h);
	}
	return e;
}

static int ask(struct rtnl *r, struct rtnl_msg *m, struct messages *k, bool *interrupted)
{
	int e = 1;

	k->len = 0;
	*interrupted = false;
	m->h.nlmsg_seq = ++r->seq;
	r->text[0] = '\0';
	if (mnl_socket_sendto(r->nl, &m->h, m->h.nlmsg_len) < 0)
		return -errno;
	while (e > 0) {
		ssize_t n = mnl_socket_recvfrom(r->nl, r->buf, RECV_SIZE);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			e = keep_answer(r, k, n, interrupted);
	}
	return e;
}

int rtnl_dump_msg(struct rtnl *r, struct rtnl_msg *m,
		  int (*fn)(void *arg, const struct nlmsghdr *h), void *arg)
{
	struct messages k = { 0 };
	bool interrupted = true;
	int e = 0;

	for (int tries = 0; e == 0 && interrupted && tries < DUMP_TRIES; tries++)
		e = ask(r, m, &k, &interrupted);
	for (char *p = k.buf; e == 0 && p < k.buf + k.len;
	     p += MNL_ALIGN(((struct nlmsghdr *)p)->nlmsg_len))
		e = fn(arg, (struct nlmsghdr *)p);
	free(k.buf);
	return e;
}

int rtnl_dump(struct rtnl *r, uint16_t type, int family,
	      int (*fn)(void *arg, const struct nlmsghdr *h), void *arg)
{
	struct rtnl_msg m;
	struct rtgenmsg *g = rtnl_start(&m, type, NLM_F_DUMP, sizeof(*g));

	g->rtgen_family = (unsigned char)family;
	return rtnl_dump_msg(r, &m, fn, arg);
}

int rtnl_batch_add(struct rtnl_batch *b, const struct nlmsghdr *h, uint16_t flags)
{
	size_t len = MNL_ALIGN(h->nlmsg_len);
	struct nlmsghdr *copy;

	if (len > b->room - b->len) {
		size_t room = MAX(b->room * 2, b->len + len + 4096);
		char *buf = realloc(b->buf, room);

		if (!buf)
			return -ENOMEM;
		b->buf = buf;
		b->room = room;
	}
	copy = (struct nlmsghdr *)(b->buf + b->len);
	memset(copy, 0, len);
	memcpy(copy, h, h->nlmsg_len);
	copy->nlmsg_len = (uint32_t)len;
	copy->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	copy->nlmsg_pid = 0;
	b->len += len;
	b->count++;
	return 0;
}

/* Whether a request's error means that things are already as it wants them. */
static bool is_done_already(const struct rtnl_batch *b, uint32_t place, int e)
{
	const char *p = b->buf;
	const struct nlmsghdr *h = (const struct nlmsghdr *)p;

	while (place--) {
		p += h->nlmsg_len;
		h = (const struct nlmsghdr *)p;
	}
	switch (h->nlmsg_type) {
	case RTM_NEWADDR:
	case RTM_NEWROUTE:
		return e == -EEXIST;
	case RTM_DELADDR:
	case RTM_DELROUTE:
	case RTM_DELNEIGH:
		return e == -EADDRNOTAVAIL || e == -ESRCH || e == -ENOENT || e == -ENODEV;
	default:
		return false;
	}
}

/* Takes the acknowledgements in r->buf. Returns how many they were. */
static size_t take_acks(struct rtnl *r, const struct rtnl_batch *b, ssize_t n, uint32_t first,
			int *result)
{
	char text[sizeof(r->text)];
	size_t count = 0;
	int left = (int)n;

	for (struct nlmsghdr *h = (struct nlmsghdr *)r->buf; mnl_nlmsg_ok(h, left);
	     h = mnl_nlmsg_next(h, &left)) {
		uint32_t place = h->nlmsg_seq - first;
		int e;

		if (place >= b->count)
			continue;
		memcpy(text, r->text, sizeof(text));
		e = ack_error(r, h);
		if (e > 0)
			continue;
		count++;
		if (e < 0 && *result == 0 && !is_done_already(b, place, e))
			*result = e;
		else
			memcpy(r->text, text, sizeof(text));
	}
	return count;
}

int rtnl_batch_run(struct rtnl *r, struct rtnl_batch *b)
{
	uint32_t first = r->seq + 1;
	size_t acks = 0;
	int result = 0;

	for (char *p = b->buf; p < b->buf + b->len; p += ((struct nlmsghdr *)p)->nlmsg_len)
		((struct nlmsghdr *)p)->nlmsg_seq = ++r->seq;
	r->text[0] = '\0';
	if (b->count && mnl_socket_sendto(r->nl, b->buf, b->len) < 0)
		return -errno;
	while (acks < b->count) {
		ssize_t n = mnl_socket_recvfrom(r->nl, r->buf, RECV_SIZE);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			acks += take_acks(r, b, n, first, &result);
	}
	return result;
}

void rtnl_batch_free(struct rtnl_batch *b)
{
	free(b->buf);
	*b = (struct rtnl_batch){ 0 };
}
