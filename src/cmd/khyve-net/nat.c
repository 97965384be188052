/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/nat.h"

#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "cmd/khyve-net/addr.h"
#include "cmd/khyve-net/forward.h"
#include "loop/loop.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"

/* One descriptor of libslirp's, found by its number. */
struct nat_fd {
	struct loop_fd w; /* fn is NULL: never used */
	struct nat *nat;
	unsigned int wanted; /* in this round */
	unsigned int ready; /* since the last round */
	unsigned int round;
	bool flow; /* libslirp told us of it; it does not for sockets that listen */
};

struct nat {
	struct loop *loop;
	Slirp *slirp;
	void (*send)(void *arg, const void *frame, size_t len);
	void *arg;
	struct loop_idle idle;
	struct loop_timer timeout;
	bool hold, dirty; /* dirty: something happened that libslirp has to look at */
	unsigned int round, nflows;
	int top; /* highest descriptor in use so far */
	size_t nforwards;
	struct forward forwards[NAT_FORWARDS_MAX];
	struct nat_fd fds[NAT_FD_MAX];
};

struct nat_timer {
	struct loop_timer t;
	struct nat *nat;
	SlirpTimerId id;
	void *arg;
};

/* --- what libslirp calls --- */

static ssize_t cb_send_packet(const void *frame, size_t len, void *opaque)
{
	struct nat *n = opaque;

	n->send(n->arg, frame, len);
	return (ssize_t)len;
}

static void cb_guest_error(const char *text, void *opaque)
{
	(void)opaque;
	log_limited(LOG_LEVEL_DEBUG, "slirp", "%s", text);
}

static int64_t cb_clock_get_ns(void *opaque)
{
	struct nat *n = opaque;

	return (int64_t)loop_now(n->loop);
}

static void on_timer(struct loop_timer *t)
{
	struct nat_timer *timer = container_of(t, struct nat_timer, t);

	timer->nat->dirty = true;
	slirp_handle_timer(timer->nat->slirp, timer->id, timer->arg);
}

static void *cb_timer_new(SlirpTimerId id, void *arg, void *opaque)
{
	struct nat *n = opaque;
	struct nat_timer *timer = calloc(1, sizeof(*timer));

	/* As in libslirp itself, whose allocations end the program too; whoever started it starts it again. */
	if (!timer)
		abort();
	*timer = (struct nat_timer){ .nat = n, .id = id, .arg = arg };
	loop_timer_init(n->loop, &timer->t, on_timer);
	return timer;
}

static void cb_timer_free(void *opaque_timer, void *opaque)
{
	struct nat_timer *timer = opaque_timer;

	(void)opaque;
	if (timer)
		loop_timer_cancel(&timer->t);
	free(timer);
}

static void cb_timer_mod(void *opaque_timer, int64_t expire_ms, void *opaque)
{
	struct nat_timer *timer = opaque_timer;

	(void)opaque;
	loop_timer_set(&timer->t, (uint64_t)MAX(expire_ms, 0) * NS_PER_MS);
}

static void forget_fd(struct nat *n, int fd)
{
	struct nat_fd *f = &n->fds[fd];

	loop_fd_del(&f->w);
	n->nflows -= f->flow;
	*f = (struct nat_fd){ .flow = false };
}

static void cb_unregister_fd(int fd, void *opaque)
{
	struct nat *n = opaque;

	if (fd >= 0 && fd < NAT_FD_MAX)
		forget_fd(n, fd);
}

static void cb_register_fd(int fd, void *opaque)
{
	struct nat *n = opaque;

	if (fd < 0 || fd >= NAT_FD_MAX)
		return;
	/* Whatever the number meant before, it is another socket now. */
	forget_fd(n, fd);
	n->fds[fd].flow = true;
	n->nflows++;
}

static void cb_notify(void *opaque)
{
	struct nat *n = opaque;

	n->dirty = true;
}

static const SlirpCb callbacks = {
	.send_packet = cb_send_packet,
	.guest_error = cb_guest_error,
	.clock_get_ns = cb_clock_get_ns,
	.timer_free = cb_timer_free,
	.timer_mod = cb_timer_mod,
	.register_poll_fd = cb_register_fd,
	.unregister_poll_fd = cb_unregister_fd,
	.notify = cb_notify,
	.timer_new_opaque = cb_timer_new,
};

/* --- a round: libslirp looks at what happened and says what it waits for --- */

static void on_fd(struct loop_fd *w, unsigned int events)
{
	struct nat_fd *f = container_of(w, struct nat_fd, w);

	f->ready |= events;
	f->nat->dirty = true;
}

/* Without SLIRP_POLL_PRI: urgent data is read as the rest is, in its place. */
static int add_poll(int fd, int events, void *opaque)
{
	struct nat *n = opaque;
	struct nat_fd *f;

	if (fd < 0 || fd >= NAT_FD_MAX)
		return -1;
	f = &n->fds[fd];
	f->wanted = events & SLIRP_POLL_OUT ? EPOLLOUT : 0;
	/* With all descriptors in use nobody could accept: do not ask again and again. */
	if ((events & SLIRP_POLL_IN) && !n->hold && (f->flow || n->nflows < NAT_FLOWS_MAX))
		f->wanted |= EPOLLIN;
	f->round = n->round;
	n->top = MAX(n->top, fd);
	return fd;
}

static int get_revents(int fd, void *opaque)
{
	struct nat *n = opaque;
	unsigned int ready;
	int events = 0;

	if (fd < 0)
		return 0;
	ready = n->fds[fd].ready;
	if (ready & EPOLLIN)
		events |= SLIRP_POLL_IN;
	if (ready & EPOLLOUT)
		events |= SLIRP_POLL_OUT;
	if (ready & EPOLLERR)
		events |= SLIRP_POLL_ERR;
	if (ready & EPOLLHUP)
		events |= SLIRP_POLL_HUP;
	return events;
}

static void update_watch(struct nat *n, int fd)
{
	struct nat_fd *f = &n->fds[fd];
	unsigned int wanted = f->round == n->round ? f->wanted : 0;

	f->ready = 0;
	if (!f->w.fn) {
		if (!wanted)
			return;
		f->w = (struct loop_fd){ .fn = on_fd, .fd = -1 };
		f->nat = n;
		if (loop_fd_add(n->loop, &f->w, fd, wanted) < 0)
			f->w = (struct loop_fd){ .fn = NULL };
	} else if (f->w.events != wanted) {
		loop_fd_events(&f->w, wanted);
	}
}

static void run_round(struct nat *n)
{
	uint32_t timeout_ms = UINT32_MAX;

	n->dirty = false;
	slirp_pollfds_poll(n->slirp, 0, get_revents, n);
	n->round++;
	slirp_pollfds_fill(n->slirp, &timeout_ms, add_poll, n);
	for (int fd = 0; fd <= n->top; fd++)
		update_watch(n, fd);
	if (timeout_ms == UINT32_MAX)
		loop_timer_cancel(&n->timeout);
	else
		loop_timer_set(&n->timeout, loop_now(n->loop) + timeout_ms * NS_PER_MS);
}

static void on_idle(struct loop_idle *i)
{
	struct nat *n = container_of(i, struct nat, idle);

	if (n->dirty)
		run_round(n);
}

static void on_timeout(struct loop_timer *t)
{
	container_of(t, struct nat, timeout)->dirty = true;
}

/* --- for the rest of the program --- */

void nat_input(struct nat *n, const uint8_t *frame, size_t len)
{
	n->dirty = true;
	slirp_input(n->slirp, frame, (int)len);
}

void nat_hold(struct nat *n, bool hold)
{
	n->hold = hold;
	n->dirty = true;
}

static size_t find_forward(const struct nat *n, const struct forward *f)
{
	size_t i = 0;

	while (i < n->nforwards && !forward_same_host(&n->forwards[i], f))
		i++;
	return i;
}

/* libslirp's flags for a host address. */
static int forward_flags(const struct forward *f)
{
	return (f->udp ? SLIRP_HOSTFWD_UDP : 0) |
	       (f->host.sa.sa_family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);
}

int nat_forward_add(struct nat *n, const struct forward *f, struct err *err)
{
	char text[FORWARD_TEXT_MAX];
	int r;

	forward_format(f, text, sizeof(text));
	if (find_forward(n, f) < n->nforwards)
		return err_set(err, -EEXIST, "%s: this port is forwarded already: remove it first",
			       text);
	if (n->nforwards == NAT_FORWARDS_MAX)
		return err_set(err, -ENOSPC, "%s: there are %d forwards already", text,
			       NAT_FORWARDS_MAX);
	if (slirp_add_hostxfwd(n->slirp, &f->host.sa, forward_addr_len(&f->host), &f->guest.sa,
			       forward_addr_len(&f->guest), forward_flags(f)) < 0) {
		r = errno ? -errno : -EIO;
		if (r == -EADDRINUSE)
			return err_set(err, r, "%s: another program has this port", text);
		if (r == -EACCES)
			return err_set(err, r,
				       "%s: ports below 1024 are for root: choose another one, or "
				       "start as root with it",
				       text);
		return err_set(err, r, "%s: cannot listen: %s", text, strerror(-r));
	}
	n->forwards[n->nforwards++] = *f;
	n->dirty = true;
	return 0;
}

int nat_forward_remove(struct nat *n, const struct forward *f, struct err *err)
{
	size_t i = find_forward(n, f);

	if (i == n->nforwards)
		return err_set(err, -ENOENT, "there is no such forward: see forward list");
	f = &n->forwards[i];
	(void)slirp_remove_hostxfwd(n->slirp, &f->host.sa, forward_addr_len(&f->host),
				    forward_flags(f));
	n->forwards[i] = n->forwards[--n->nforwards];
	n->dirty = true;
	return 0;
}

const struct forward *nat_forward_get(const struct nat *n, size_t i)
{
	return i < n->nforwards ? &n->forwards[i] : NULL;
}

unsigned int nat_flows(const struct nat *n)
{
	return n->nflows;
}

static struct in_addr addr4(uint32_t host_order)
{
	return (struct in_addr){ .s_addr = htonl(host_order) };
}

int nat_new(struct loop *l, const struct nat_config *cfg, struct nat **out, struct err *err)
{
	SlirpConfig c = {
		.version = 4,
		.in_enabled = cfg->ip4,
		.vnetwork = addr4(ADDR_NET4),
		.vnetmask = addr4(ADDR_MASK4),
		.vhost = addr4(ADDR_HOST4),
		.in6_enabled = cfg->ip6,
		.vprefix_addr6 = addr_prefix6,
		.vprefix_len = ADDR_PREFIX6_LEN,
		.vhost6 = addr_host6,
		.vhostname = cfg->hostname,
		.vdhcp_start = addr4(ADDR_GUEST4),
		.vnameserver = addr4(ADDR_DNS4),
		.vnameserver6 = addr_dns6,
		.if_mtu = cfg->mtu,
		.if_mru = cfg->mtu,
		/*
		 * Its own switch for the host's loopback stops answers to datagrams that a forward brought, and leaves
		 * 127.0.0.1 open: what may pass is decided before it gets here.
		 */
		.disable_host_loopback = false,
	};
	struct nat *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	n->loop = l;
	n->send = cfg->send;
	n->arg = cfg->arg;
	loop_timer_init(l, &n->timeout, on_timeout);
	n->slirp = slirp_new(&c, &callbacks, n);
	if (!n->slirp) {
		free(n);
		return err_set(err, -EINVAL, "libslirp does not start");
	}
	loop_idle_add(l, &n->idle, on_idle);
	run_round(n);
	/* What is added before the loop runs has no event that leads to a round. */
	loop_timer_set(&n->timeout, loop_now(l));
	*out = n;
	return 0;
}

void nat_free(struct nat *n)
{
	if (!n)
		return;
	slirp_cleanup(n->slirp);
	for (int fd = 0; fd <= n->top; fd++)
		forget_fd(n, fd);
	loop_timer_cancel(&n->timeout);
	loop_idle_del(&n->idle);
	free(n);
}
