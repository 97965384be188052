/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "back/net_carrier.h"
#include "back/net_gso.h"
#include "back/net_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

/* Linux 6.2 and later */
#define TUN_USO (0x20u | 0x40u)

#define WINDOW_FIRST 8u
#define WINDOW_MAX 64u

/*
 * A tap with one descriptor per queue pair. On io_uring reads and writes are entries of the loop's ring that never
 * wait, so a batch of them is handed over by the system call that waits for the next event; otherwise they are plain
 * system calls. Linux before 6.4 does not know RWF_NOWAIT on taps: there each read is followed by its cancellation.
 */
struct net_tap {
	struct net n;
	bool uring;
	bool rwf_nowait; /* the kernel has it for taps */
	bool multi; /* opened with IFF_MULTI_QUEUE: queues can be switched on and off */
	struct net_carrier carrier;
	struct loop_post rearm; /* after net_set_queues() on another thread */
	uint8_t spare; /* where the byte behind a full buffer goes */
	uint8_t *frame; /* for UDP segmentation where the kernel has none; else NULL */
	struct tap_queue {
		struct net_tap *tap;
		int fd;
		struct loop_fd watch;
		/* Reads on the ring go out a window at a time: most of a batch would only find that nothing waits. */
		struct list todo; /* struct net_work: those not handed over yet */
		unsigned int flying, window, got;
		bool dry;
	} q[NET_QUEUES_MAX];
};

static struct net_tap *tap_of(struct net *n)
{
	return container_of(n, struct net_tap, n);
}

/* --- results --- */

static int send_result(int res)
{
	switch (res) {
	case -EINVAL:
		return res; /* the kernel does not like the header */
	case -EAGAIN:
	case -ENOMEM:
	case -ENOBUFS:
		return -ENOBUFS;
	case -EIO: /* it is not up */
	case -EBADFD: /* it is gone */
	case -ENODEV:
		return -ENETDOWN;
	default:
		return res < 0 ? -EIO : 0;
	}
}

/* A frame on its way when the guest changed its mind may ask for more than it copes with now. */
static bool offload_allowed(const struct net *n, const struct net_hdr *h)
{
	unsigned int o = atomic_load(&n->offloads);

	if ((h->flags & NET_HDR_NEEDS_CSUM) && !(o & NET_O_CSUM))
		return false;
	if ((h->gso_type & NET_GSO_ECN) && !(o & NET_O_ECN))
		return false;
	switch (h->gso_type & ~NET_GSO_ECN) {
	case NET_GSO_NONE:
		return true;
	case NET_GSO_TCPV4:
		return o & NET_O_TSO4;
	case NET_GSO_TCPV6:
		return o & NET_O_TSO6;
	case NET_GSO_UDP_L4:
		return o & NET_O_USO;
	default:
		return false;
	}
}

static int recv_result(struct net_req *r, int res)
{
	const struct net_work *w = net_work_of(r);
	struct net_hdr h;

	if (res >= 0 && (uint32_t)res > w->len)
		return -EMSGSIZE;
	if (res == -EINVAL && w->len < NET_HDR_LEN)
		return -EMSGSIZE;
	if (res < (int)NET_HDR_LEN)
		return -EAGAIN; /* no frame, detached, or gone: the carrier's watch tells of that */
	net_hdr_get(r, &h);
	return offload_allowed(w->n, &h) ? res : -EAGAIN;
}

/* --- requests --- */

static void write_done(struct loop_io *io, int res)
{
	net_done_step(net_req_of(container_of(io, struct net_work, io)), send_result(res));
}

static void read_submit(struct tap_queue *q, struct net_req *r);

/* The last of a window decides: were there frames for all, more are asked for. */
static void read_done(struct loop_io *io, int res)
{
	struct net_work *w = container_of(io, struct net_work, io);
	struct tap_queue *q = &tap_of(w->n)->q[w->q];
	bool more;

	if (res < 0 && res != -EINVAL)
		q->dry = true;
	else
		q->got++;
	net_done_step(net_req_of(w), recv_result(net_req_of(w), res));
	if (--q->flying > 0)
		return;
	more = !q->dry && !list_empty(&q->todo);
	q->window = MIN(more ? 2 * q->window : q->got + 1, WINDOW_MAX);
	q->got = more ? q->got : 0;
	while (!list_empty(&q->todo) && q->flying < q->window) {
		w = list_first(&q->todo, struct net_work, link);
		list_remove(&w->link);
		if (more)
			read_submit(q, net_req_of(w));
		else
			net_done_step(net_req_of(w), -EAGAIN);
	}
}

static void tap_io(struct net_tap *t, struct net_req *r, enum loop_op op)
{
	bool read = op == LOOP_OP_READV;
	struct net_work *w = net_work_of(r);

	w->io = (struct loop_io){ .done = read ? read_done : write_done,
				  .op = op,
				  .fd = t->q[w->q].fd,
				  .iov = r->iov,
				  .iovcnt = r->iovcnt + read,
				  .nowait = read && !t->rwf_nowait,
				  .flags = read && t->rwf_nowait ? RWF_NOWAIT : 0 };
	loop_io_submit(t->n.loop, &w->io);
}

static void read_submit(struct tap_queue *q, struct net_req *r)
{
	q->dry = q->dry && q->flying;
	q->flying++;
	tap_io(q->tap, r, LOOP_OP_READV);
}

struct tap_split {
	int fd, res;
};

static void tap_emit(void *arg, struct iovec iov[2])
{
	static const uint8_t header[NET_HDR_LEN];
	struct tap_split *s = arg;
	struct iovec all[3] = { { (void *)(uintptr_t)header, sizeof(header) }, iov[0], iov[1] };

	if (writev(s->fd, all, 3) < 0)
		s->res = send_result(-errno);
}

/* Linux before 6.2 does not know NET_GSO_UDP_L4. True if the request was such a frame. */
static bool tap_send_split(struct net_tap *t, unsigned int q, struct net_req *r)
{
	struct tap_split s = { .fd = t->q[q].fd };
	struct net_hdr h;
	size_t len = net_hdr_get(r, &h);
	int rc;

	if (h.gso_type != NET_GSO_UDP_L4)
		return false;
	loop_io_flush(t->n.loop); /* in their order */
	len = net_iov_read(r->iov, r->iovcnt, len, t->frame, NET_FRAME_MAX);
	rc = net_hdr_check(&h, len);
	if (rc == 0)
		rc = net_gso_split(&h, t->frame, len, tap_emit, &s);
	net_done(r, rc < 0 ? rc : s.res);
	return true;
}

static void tap_send(struct net *n, unsigned int q, struct net_req *r)
{
	struct net_tap *t = tap_of(n);
	ssize_t rc;

	if (t->frame && tap_send_split(t, q, r))
		return;
	if (t->uring) {
		tap_io(t, r, LOOP_OP_WRITEV);
		return;
	}
	rc = writev(t->q[q].fd, r->iov, (int)r->iovcnt);
	net_done(r, send_result(rc < 0 ? -errno : 0));
}

static void tap_recv(struct net *n, unsigned int q, struct net_req *r)
{
	struct net_tap *t = tap_of(n);
	ssize_t rc;

	r->iov[r->iovcnt] = (struct iovec){ &t->spare, sizeof(t->spare) };
	if (t->uring) {
		if (t->q[q].flying == t->q[q].window || !list_empty(&t->q[q].todo))
			list_append(&t->q[q].todo, &net_work_of(r)->link);
		else
			read_submit(&t->q[q], r);
		return;
	}
	rc = n->dry ? -EAGAIN : readv(t->q[q].fd, r->iov, (int)r->iovcnt + 1);
	if (rc < 0 && !n->dry)
		rc = -errno;
	n->dry = rc < 0 && rc != -EINVAL;
	net_done(r, recv_result(r, (int)rc));
}

/* --- readiness and link --- */

/* Only queues that are attached: the others always report an error. */
static void tap_arm(struct net_tap *t)
{
	unsigned int queues = atomic_load(&t->n.queues);

	for (unsigned int q = 0; q < t->n.info.queues; q++) {
		bool on = (t->n.wanted & BIT(q)) && q < queues && !t->carrier.gone;

		loop_fd_events(&t->q[q].watch, on ? EPOLLIN : 0);
	}
}

static void tap_fd_fn(struct loop_fd *w, unsigned int events)
{
	struct tap_queue *q = container_of(w, struct tap_queue, watch);
	struct net_tap *t = q->tap;

	if (events & EPOLLIN)
		net_readable_step(&t->n, (unsigned int)(q - t->q));
	else
		loop_fd_events(w, 0); /* detached or gone: until something changes */
}

static void tap_rearm_fn(struct loop_post *p)
{
	tap_arm(container_of(p, struct net_tap, rearm));
}

static void tap_want(struct net *n, unsigned int q, bool on)
{
	(void)q;
	(void)on;
	tap_arm(tap_of(n));
}

static void tap_carrier_fn(struct net_carrier *c)
{
	struct net_tap *t = container_of(c, struct net_tap, carrier);

	net_link_set(&t->n, c->up);
	tap_arm(t);
}

/* --- settings --- */

static int set_offloads(int fd, unsigned int offloads)
{
	unsigned long arg = 0;

	arg |= offloads & NET_O_CSUM ? TUN_F_CSUM : 0;
	arg |= offloads & NET_O_TSO4 ? TUN_F_TSO4 : 0;
	arg |= offloads & NET_O_TSO6 ? TUN_F_TSO6 : 0;
	arg |= offloads & NET_O_ECN ? TUN_F_TSO_ECN : 0;
	arg |= offloads & NET_O_USO ? TUN_USO : 0;
	return ioctl(fd, TUNSETOFFLOAD, arg) < 0 ? -errno : 0;
}

static void tap_set_offloads(struct net *n, unsigned int offloads)
{
	/* Each of them was tried at the start. A tap that is gone by now takes none. */
	(void)set_offloads(tap_of(n)->q[0].fd, offloads);
}

static int set_queue(int fd, bool on)
{
	struct ifreq ifr = { .ifr_flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };

	return ioctl(fd, TUNSETQUEUE, &ifr) < 0 ? -errno : 0;
}

static int tap_set_queues(struct net *n, unsigned int count)
{
	struct net_tap *t = tap_of(n);
	unsigned int now = atomic_load(&n->queues);
	int rc = 0;

	while (rc == 0 && now < count) {
		rc = set_queue(t->q[now].fd, true);
		now += rc == 0;
	}
	while (rc == 0 && now > count) {
		rc = set_queue(t->q[now - 1].fd, false);
		now -= rc == 0;
	}
	atomic_store(&n->queues, now);
	loop_post(&t->rearm);
	return rc;
}

static int tap_fd(const struct net *n, unsigned int q)
{
	return tap_of((struct net *)(uintptr_t)n)->q[q].fd;
}

static void tap_close(struct net *n)
{
	struct net_tap *t = tap_of(n);

	loop_post_cancel(&t->rearm);
	for (unsigned int q = 0; q < NET_QUEUES_MAX; q++) {
		loop_fd_del(&t->q[q].watch);
		fd_close(&t->q[q].fd);
	}
	net_carrier_close(&t->carrier);
	net_fini(n);
	free(t->frame);
	free(t);
}

/* --- opening --- */

static int tap_new(struct loop *l, const char *name, struct net_tap **out, struct err *err)
{
	static const struct net_ops ops = { .send = tap_send,
					    .recv = tap_recv,
					    .want = tap_want,
					    .set_offloads = tap_set_offloads,
					    .set_queues = tap_set_queues,
					    .tap_fd = tap_fd,
					    .close = tap_close };
	struct net_tap *t = calloc(1, sizeof(*t));

	if (!t)
		return err_set(err, -ENOMEM, "%s: out of memory", name);
	for (unsigned int q = 0; q < NET_QUEUES_MAX; q++) {
		t->q[q].tap = t;
		t->q[q].fd = -1;
		t->q[q].watch.fn = tap_fd_fn;
		t->q[q].window = WINDOW_FIRST;
		list_init(&t->q[q].todo);
	}
	t->carrier.fd = -1;
	t->carrier.changed = tap_carrier_fn;
	t->uring = loop_engine_get(l) == LOOP_URING;
	loop_post_init(l, &t->rearm, tap_rearm_fn);
	net_init(&t->n, &ops, l, name);
	*out = t;
	return 0;
}

/* Tries with one read; a frame that waits already is lost. */
static bool knows_nowait(int fd)
{
	uint8_t buf[NET_HDR_LEN];
	struct iovec iov = { buf, sizeof(buf) };

	return preadv2(fd, &iov, 1, -1, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
}

/* All queues are open and attached: makes them ours. */
static int tap_setup(struct net_tap *t, struct err *err)
{
	static const unsigned int tries[] = { NET_O_ALL, NET_O_ALL & ~NET_O_USO, 0 };
	int hdr = NET_HDR_LEN, rc = 0;

	for (unsigned int q = 0; rc == 0 && q < t->n.info.queues; q++) {
		rc = fd_set_nonblock(t->q[q].fd);
		if (rc == 0 && ioctl(t->q[q].fd, TUNSETVNETHDRSZ, &hdr) < 0)
			rc = -errno;
		if (rc == 0 && q > 0)
			rc = set_queue(t->q[q].fd, false);
		if (rc == 0)
			rc = loop_fd_add(t->n.loop, &t->q[q].watch, t->q[q].fd, 0);
	}
	if (rc < 0)
		return err_set(err, rc, "%s: cannot set the tap up: %s", t->n.name, strerror(-rc));
	t->rwf_nowait = knows_nowait(t->q[0].fd);
	for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
		rc = set_offloads(t->q[0].fd, tries[i]);
		if (rc == 0) {
			t->n.info.offloads = tries[i];
			break;
		}
	}
	(void)set_offloads(t->q[0].fd, 0);
	if (!(t->n.info.offloads & NET_O_USO))
		t->frame = malloc(NET_FRAME_MAX);
	if (!(t->n.info.offloads & NET_O_USO) && !t->frame)
		return err_set(err, -ENOMEM, "%s: out of memory", t->n.name);
	return 0;
}

static int explain_attach(const char *name, int rc, struct err *err)
{
	switch (rc) {
	case -EBUSY:
		return err_set(err, rc, "%s is in use by another program", name);
	case -EPERM:
	case -EACCES:
		return err_set(err, rc,
			       "%s: not allowed to open it; run as root, or make it for this user: "
			       "ip tuntap add %s mode tap user NAME",
			       name, name);
	case -EINVAL:
		return err_set(err, rc, "%s is not a tap; make one with: ip tuntap add %s mode tap",
			       name, name);
	default:
		return err_set(err, rc, "%s: cannot open the tap: %s", name, strerror(-rc));
	}
}

static int tap_attach(struct net_tap *t, unsigned int q, short flags)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags) };
	int rc = 0;

	(void)str_copy(ifr.ifr_name, sizeof(ifr.ifr_name), t->n.name); /* the length was checked */
	t->q[q].fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (t->q[q].fd < 0)
		return -errno;
	if (ioctl(t->q[q].fd, TUNSETIFF, &ifr) < 0) {
		rc = -errno;
		fd_close(&t->q[q].fd);
	}
	return rc;
}

/* A tap was made for one queue or for several, and is only opened in the same way. */
static int tap_attach_first(struct net_tap *t, unsigned int queues)
{
	int rc = tap_attach(t, 0, queues > 1 ? IFF_MULTI_QUEUE : 0);

	t->multi = queues > 1;
	if (rc == -EINVAL) {
		t->multi = !t->multi;
		rc = tap_attach(t, 0, t->multi ? IFF_MULTI_QUEUE : 0);
	}
	return rc;
}

static int tap_open(struct net_tap *t, unsigned int queues, struct err *err)
{
	const char *name = t->n.name;
	int rc = net_carrier_open(&t->carrier, t->n.loop, name, &t->n.info.mtu);

	/* Opening one that does not exist would make it. */
	if (rc == -ENODEV)
		return err_set(err, rc,
			       "%s does not exist; make it with: ip tuntap add %s mode tap && "
			       "ip link set %s up",
			       name, name, name);
	if (rc < 0)
		return err_set(err, rc, "%s: cannot watch the interface: %s", name, strerror(-rc));
	if (access("/dev/net/tun", F_OK) < 0)
		return err_set(err, -ENOENT, "%s: /dev/net/tun does not exist; try: modprobe tun",
			       name);
	rc = tap_attach_first(t, queues);
	if (rc == 0) {
		t->n.info.queues = 1;
		while (t->multi && t->n.info.queues < queues &&
		       tap_attach(t, t->n.info.queues, IFF_MULTI_QUEUE) == 0)
			t->n.info.queues++;
		return tap_setup(t, err);
	}
	return explain_attach(name, rc, err);
}

struct net *net_open_tap(struct loop *l, const char *name, unsigned int queues, struct err *err)
{
	struct net_tap *t;

	if (!*name || strlen(name) >= IFNAMSIZ || strchr(name, '/')) {
		err_set(err, -EINVAL, "%s: not the name of an interface", name);
		return NULL;
	}
	if (tap_new(l, name, &t, err) < 0)
		return NULL;
	if (tap_open(t, queues, err) < 0) {
		tap_close(&t->n);
		return NULL;
	}
	/* Its carrier is there now that it is open: the message that says so may still be on its way. */
	net_carrier_refresh(&t->carrier);
	atomic_store(&t->n.link, t->carrier.up);
	t->n.link_told = t->carrier.up;
	return &t->n;
}

/* --- descriptors that are open --- */

static int parse_fds(struct net_tap *t, const char *list, unsigned int max, struct err *err)
{
	const char *at = list;
	unsigned int n = 0;

	while (at) {
		const char *end = strchr(at, ':');
		char text[16];
		uint64_t fd;

		if ((size_t)(end ? end - at : (ptrdiff_t)strlen(at)) >= sizeof(text) ||
		    n == NET_QUEUES_MAX)
			return err_set(err, -EINVAL, "fd:%s: use fd:N[:N...] with 1 to %u numbers",
				       list, NET_QUEUES_MAX);
		snprintf(text, sizeof(text), "%.*s", end ? (int)(end - at) : (int)strlen(at), at);
		if (str_u64(text, &fd) < 0 || fd > INT32_MAX ||
		    fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
			return err_set(err, -EBADF, "fd:%s: \"%s\" is no open descriptor", list,
				       text);
		for (unsigned int i = 0; i < n; i++)
			if (t->q[i].fd == (int)fd)
				return err_set(err, -EINVAL, "fd:%s: %d is there twice", list,
					       (int)fd);
		t->q[n++].fd = (int)fd;
		at = end ? end + 1 : NULL;
	}
	/* One that stayed open would get frames that nobody reads. */
	while (max && n > max)
		fd_close(&t->q[--n].fd);
	t->n.info.queues = n;
	return 0;
}

/* The interface behind a descriptor, if it is one of ours to see: another name space may use the same name. */
static void find_interface(struct net_tap *t, const char *name)
{
	struct ifreq own = { 0 }, seen = { 0 };
	int rc = -ENODEV;

	(void)str_copy(seen.ifr_name, sizeof(seen.ifr_name), name);
	if (ioctl(t->q[0].fd, SIOCGIFHWADDR, &own) == 0)
		rc = net_carrier_open(&t->carrier, t->n.loop, name, &t->n.info.mtu);
	if (rc == 0 && (ioctl(t->carrier.fd, SIOCGIFHWADDR, &seen) < 0 ||
			memcmp(&own.ifr_hwaddr, &seen.ifr_hwaddr, sizeof(own.ifr_hwaddr)) != 0)) {
		net_carrier_close(&t->carrier);
		t->n.info.mtu = 0;
		rc = -ENODEV;
	}
	t->carrier.up = rc < 0 || t->carrier.up; /* what cannot be seen counts as up */
}

static int tap_adopt(struct net_tap *t, const char *list, unsigned int max, struct err *err)
{
	const short need = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	struct ifreq ifr = { 0 };
	int rc = parse_fds(t, list, max, err);

	if (rc < 0)
		return rc;
	for (unsigned int q = 0; q < t->n.info.queues; q++) {
		if (ioctl(t->q[q].fd, TUNGETIFF, &ifr) < 0)
			return err_set(err, -errno, "fd:%d is not an open tap", t->q[q].fd);
		if ((ifr.ifr_flags & need) != need)
			return err_set(
				err, -EINVAL,
				"fd:%d: open the tap with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR",
				t->q[q].fd);
	}
	(void)str_copy(t->n.name, sizeof(t->n.name), ifr.ifr_name);
	rc = tap_setup(t, err);
	if (rc == 0)
		find_interface(t, ifr.ifr_name);
	return rc;
}

struct net *net_open_tap_fds(struct loop *l, const char *list, unsigned int queues, struct err *err)
{
	struct net_tap *t;

	if (tap_new(l, "fd", &t, err) < 0)
		return NULL;
	if (tap_adopt(t, list, queues, err) < 0) {
		tap_close(&t->n);
		return NULL;
	}
	atomic_store(&t->n.link, t->carrier.up);
	t->n.link_told = t->carrier.up;
	return &t->n;
}
