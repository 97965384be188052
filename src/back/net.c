/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/net.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/net_priv.h"
#include "util/str.h"

/* --- bytes in iovecs --- */

static size_t iov_copy(const struct iovec *iov, unsigned int cnt, size_t offset, void *buf,
		       size_t len, bool write)
{
	size_t done = 0;

	for (unsigned int i = 0; i < cnt && done < len; i++) {
		size_t n = iov[i].iov_len;
		uint8_t *at = iov[i].iov_base;

		if (offset >= n) {
			offset -= n;
			continue;
		}
		n = MIN(n - offset, len - done);
		if (write)
			memcpy(at + offset, (uint8_t *)buf + done, n);
		else
			memcpy((uint8_t *)buf + done, at + offset, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t net_iov_read(const struct iovec *iov, unsigned int cnt, size_t offset, void *buf, size_t len)
{
	return iov_copy(iov, cnt, offset, buf, len, false);
}

size_t net_iov_write(const struct iovec *iov, unsigned int cnt, size_t offset, const void *buf,
		     size_t len)
{
	return iov_copy(iov, cnt, offset, (void *)(uintptr_t)buf, len, true);
}

/* False if it is more than any frame. */
static bool iov_sum(const struct net_req *r, uint32_t *out)
{
	size_t sum = 0;

	for (unsigned int i = 0; i < r->iovcnt; i++) {
		if (r->iov[i].iov_len > UINT32_MAX - sum)
			return false;
		sum += r->iov[i].iov_len;
	}
	*out = (uint32_t)sum;
	return true;
}

/* --- requests --- */

/* virtio 1.2 s5.1.6.2.1 */
int net_hdr_check(const struct net_hdr *h, size_t len)
{
	unsigned int gso = h->gso_type & ~NET_GSO_ECN;

	if (len < NET_ETH_LEN || len > NET_FRAME_MAX - NET_HDR_LEN || h->hdr_len > len)
		return -EINVAL;
	if ((h->flags & NET_HDR_NEEDS_CSUM) &&
	    (h->csum_start < NET_ETH_LEN || (size_t)h->csum_start + h->csum_offset + 2 > len))
		return -EINVAL;
	if (h->gso_type == NET_GSO_NONE)
		return 0;
	if (!h->gso_size || !(h->flags & NET_HDR_NEEDS_CSUM))
		return -EINVAL;
	if (gso == NET_GSO_TCPV4 || gso == NET_GSO_TCPV6)
		return 0;
	return h->gso_type == NET_GSO_UDP_L4 ? 0 : -EINVAL;
}

static void net_accept(struct net *n, unsigned int q, struct net_req *r, bool recv)
{
	struct net_work *w = net_work_of(r);

	n->stats.accepted++;
	w->n = n;
	w->q = (uint8_t)q;
	w->recv = recv;
	w->len = 0;
}

static int send_check(struct net_req *r)
{
	struct net_hdr h;

	if (r->iovcnt == 0 || r->iovcnt > NET_IOV_MAX || !iov_sum(r, &net_work_of(r)->len) ||
	    net_hdr_get(r, &h) < sizeof(h))
		return -EINVAL;
	return net_hdr_check(&h, net_work_of(r)->len - NET_HDR_LEN);
}

void net_send(struct net *n, unsigned int q, struct net_req *const *reqs, size_t count)
{
	assert(q < n->info.queues);
	for (size_t i = 0; i < count; i++) {
		int rc;

		net_accept(n, q, reqs[i], false);
		rc = send_check(reqs[i]);
		if (rc < 0)
			net_done(reqs[i], rc);
		else if (!atomic_load(&n->link))
			net_done(reqs[i], -ENETDOWN);
		else
			n->ops->send(n, q, reqs[i]);
	}
}

void net_recv(struct net *n, unsigned int q, struct net_req *const *reqs, size_t count)
{
	assert(q < n->info.queues);
	n->dry = false;
	for (size_t i = 0; i < count; i++) {
		net_accept(n, q, reqs[i], true);
		if (reqs[i]->iovcnt == 0 || reqs[i]->iovcnt > NET_IOV_MAX ||
		    !iov_sum(reqs[i], &net_work_of(reqs[i])->len))
			net_done(reqs[i], -EINVAL);
		else
			n->ops->recv(n, q, reqs[i]);
	}
}

/* --- telling --- */

/* A guest without NET_O_CSUM gets no flags at all (virtio 1.2 s5.1.6.4.1). */
static void finish_header(const struct net *n, struct net_req *r)
{
	struct net_hdr h;

	net_hdr_get(r, &h);
	h.num_buffers = 1;
	if (!(atomic_load(&n->offloads) & NET_O_CSUM))
		h.flags = 0;
	net_hdr_put(r, &h);
}

static void tell_done(struct net *n, struct net_work *w)
{
	struct net_req *r = net_req_of(w);
	uint64_t bytes = w->recv ? (uint64_t)w->res : w->len;

	n->stats.completed++;
	if (w->res < 0 && w->res != -EAGAIN) {
		n->stats.failed++;
	} else if (w->res >= 0 && w->recv) {
		finish_header(n, r);
		n->stats.rx_frames++;
		n->stats.rx_bytes += bytes - NET_HDR_LEN;
	} else if (w->res >= 0) {
		n->stats.tx_frames++;
		n->stats.tx_bytes += bytes - NET_HDR_LEN;
	}
	r->done(r, w->res);
}

/* Those whose frames still wait are told again: level-triggered. */
static void tell_readable(struct net *n, unsigned int ready)
{
	for (unsigned int q = 0; q < n->info.queues; q++) {
		if (!(ready & n->wanted & BIT(q)))
			continue;
		if (n->ev.readable)
			n->ev.readable(n->ev_arg, q);
		if (n->ops->waiting && (n->wanted & BIT(q)) && n->ops->waiting(n, q))
			net_readable(n, q);
	}
}

static void net_tell(struct net *n)
{
	unsigned int ready = n->ready & n->wanted;
	bool link = atomic_load(&n->link), turned = link != n->link_told;
	struct list todo;

	n->ready = 0;
	if (list_empty(&n->done) && !ready && !turned)
		return;
	n->link_told = link;
	list_init(&todo);
	if (!list_empty(&n->done)) {
		todo = n->done;
		todo.next->prev = todo.prev->next = &todo;
		list_init(&n->done);
	}
	if (n->ev.enter)
		n->ev.enter(n->ev_arg);
	while (!list_empty(&todo)) {
		struct net_work *w = list_first(&todo, struct net_work, link);

		list_remove(&w->link);
		tell_done(n, w);
	}
	tell_readable(n, ready);
	if (turned && n->ev.link)
		n->ev.link(n->ev_arg, link);
	if (n->ev.leave)
		n->ev.leave(n->ev_arg);
}

static void net_post_fn(struct loop_post *p)
{
	net_tell(container_of(p, struct net, post));
}

static void net_idle_fn(struct loop_idle *i)
{
	net_tell(container_of(i, struct net, idle));
}

void net_done_step(struct net_req *r, int res)
{
	struct net_work *w = net_work_of(r);

	w->res = res;
	list_append(&w->n->done, &w->link);
}

void net_done(struct net_req *r, int res)
{
	struct net *n = net_work_of(r)->n;

	net_done_step(r, res);
	if (!n->post.pending)
		loop_post(&n->post);
}

void net_readable_step(struct net *n, unsigned int q)
{
	n->ready |= BIT(q);
}

void net_readable(struct net *n, unsigned int q)
{
	net_readable_step(n, q);
	loop_post(&n->post);
}

void net_link_set(struct net *n, bool up)
{
	if (atomic_exchange(&n->link, up) != up)
		loop_post(&n->post);
}

/* --- the rest --- */

void net_init(struct net *n, const struct net_ops *ops, struct loop *l, const char *name)
{
	n->ops = ops;
	n->loop = l;
	(void)str_copy(n->name, sizeof(n->name), name); /* a long one is cut: it is for messages */
	n->info.name = n->name;
	atomic_store(&n->queues, 1);
	list_init(&n->done);
	loop_post_init(l, &n->post, net_post_fn);
	loop_idle_add(l, &n->idle, net_idle_fn);
}

void net_fini(struct net *n)
{
	loop_post_cancel(&n->post);
	loop_idle_del(&n->idle);
}

void net_close(struct net *n)
{
	if (!n)
		return;
	assert(n->stats.accepted == n->stats.completed);
	n->ops->close(n);
}

const struct net_info *net_info_get(const struct net *n)
{
	return &n->info;
}

void net_set_events(struct net *n, const struct net_events *ev, void *arg)
{
	n->ev = *ev;
	n->ev_arg = arg;
}

void net_want(struct net *n, unsigned int q, bool on)
{
	assert(q < n->info.queues);
	if (on == !!(n->wanted & BIT(q)))
		return;
	n->wanted ^= BIT(q);
	if (n->ops->want)
		n->ops->want(n, q, on);
	if (on && n->ops->waiting && n->ops->waiting(n, q))
		net_readable(n, q);
}

bool net_link_up(const struct net *n)
{
	return atomic_load(&n->link);
}

void net_set_offloads(struct net *n, unsigned int offloads)
{
	offloads &= offloads & NET_O_CSUM ? n->info.offloads : 0;
	atomic_store(&n->offloads, offloads);
	if (n->ops->set_offloads)
		n->ops->set_offloads(n, offloads);
}

int net_set_queues(struct net *n, unsigned int count)
{
	int rc = 0;

	if (count < 1 || count > n->info.queues)
		return -EINVAL;
	if (n->ops->set_queues)
		rc = n->ops->set_queues(n, count);
	if (rc == 0)
		atomic_store(&n->queues, count);
	return rc;
}

int net_tap_fd(const struct net *n, unsigned int q)
{
	return n->ops->tap_fd && q < n->info.queues ? n->ops->tap_fd(n, q) : -1;
}

void net_stats_get(const struct net *n, struct net_stats *out)
{
	*out = n->stats;
}
