/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "back/net_gso.h"
#include "back/net_priv.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/str.h"

#define RETRY_MIN_NS (100 * NS_PER_MS)
#define RETRY_MAX_NS (2 * NS_PER_SEC)
#define BUFFER (4 * 1024 * 1024) /* of the socket; the kernel may give less */
#define RUNTS_MAX 16 /* thrown away per request */

/*
 * A SOCK_SEQPACKET connection to another program of this host, one frame without header per packet. What the guest
 * leaves to the card is done here. A frame that does not fit into the socket's buffer is dropped, as on a wire.
 */
struct net_sock {
	struct net n;
	char *path;
	int fd; /* -1: not connected */
	struct loop_fd watch;
	struct loop_timer retry;
	uint64_t delay_ns;
	uint8_t frame[NET_FRAME_MAX]; /* one that has to be worked on */
};

static struct net_sock *sock_of(struct net *n)
{
	return container_of(n, struct net_sock, n);
}

/* --- the connection --- */

static void sock_arm(struct net_sock *s)
{
	if (s->fd >= 0)
		loop_fd_events(&s->watch, EPOLLRDHUP | (s->n.wanted & 1 ? EPOLLIN : 0));
}

static void sock_down(struct net_sock *s)
{
	loop_fd_del(&s->watch);
	fd_close(&s->fd);
	net_link_set(&s->n, false);
	loop_timer_set(&s->retry, loop_now(s->n.loop) + s->delay_ns);
	s->delay_ns = MIN(2 * s->delay_ns, RETRY_MAX_NS);
}

static void sock_fn(struct loop_fd *w, unsigned int events)
{
	struct net_sock *s = container_of(w, struct net_sock, watch);

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		sock_down(s);
	else
		net_readable_step(&s->n, 0);
}

/* The path of an address is short: a longer one is looked up below the open folder. */
static int sock_address(const char *path, struct sockaddr_un *addr, int *dir)
{
	const char *slash = strrchr(path, '/');
	char *folder;
	int n;

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (str_copy(addr->sun_path, sizeof(addr->sun_path), path) == 0) {
		if (path[0] == '@')
			addr->sun_path[0] = '\0';
		return 0;
	}
	if (!slash || path[0] == '@')
		return -ENAMETOOLONG;
	folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (!folder)
		return -ENOMEM;
	*dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	n = *dir < 0 ? -errno : 0;
	free(folder);
	if (n < 0)
		return n;
	n = snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d/%s", *dir,
		     slash + 1);
	return n < (int)sizeof(addr->sun_path) ? 0 : -ENAMETOOLONG;
}

static int sock_dial(const char *path)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), dir = -1;
	struct sockaddr_un addr;
	const int size = BUFFER;
	int rc = fd < 0 ? -errno : sock_address(path, &addr, &dir);

	if (rc == 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (rc == 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		rc = -errno;
	fd_close(&dir);
	if (rc < 0) {
		fd_close(&fd);
		return rc;
	}
	return fd;
}

static int sock_connect(struct net_sock *s)
{
	int fd = sock_dial(s->path), rc;

	if (fd < 0)
		return fd;
	s->watch.fn = sock_fn;
	rc = loop_fd_add(s->n.loop, &s->watch, fd, EPOLLRDHUP);
	if (rc < 0) {
		fd_close(&fd);
		return rc;
	}
	s->fd = fd;
	sock_arm(s);
	net_link_set(&s->n, true);
	return 0;
}

static void sock_retry(struct loop_timer *t)
{
	struct net_sock *s = container_of(t, struct net_sock, retry);

	if (sock_connect(s) < 0)
		sock_down(s);
}

static bool broken(int error)
{
	return error == EPIPE || error == ECONNRESET || error == ENOTCONN || error == ECONNREFUSED;
}

/* --- sending --- */

static int sock_put(struct net_sock *s, struct iovec *iov, size_t cnt)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = cnt };

	if (s->fd < 0)
		return -ENETDOWN;
	if (sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
		return 0;
	if (!broken(errno))
		return -ENOBUFS;
	sock_down(s);
	return -ENETDOWN;
}

struct sock_split {
	struct net_sock *s;
	int res;
};

static void sock_emit(void *arg, struct iovec iov[2])
{
	struct sock_split *p = arg;
	int rc = sock_put(p->s, iov, 2);

	if (rc < 0)
		p->res = rc;
}

static int send_worked_on(struct net_sock *s, const struct net_req *r)
{
	struct sock_split p = { .s = s };
	struct net_hdr h;
	size_t len;
	int rc;

	len = net_hdr_get(r, &h);
	len = net_iov_read(r->iov, r->iovcnt, len, s->frame, sizeof(s->frame));
	rc = net_hdr_check(&h, len); /* the copy */
	if (rc == 0)
		rc = net_gso_split(&h, s->frame, len, sock_emit, &p);
	return rc < 0 ? rc : p.res;
}

/* The iovecs of a frame without those of its header. The request's array is left alone. */
static unsigned int skip_header(const struct net_req *r, struct iovec *out)
{
	size_t skip = NET_HDR_LEN;
	unsigned int n = 0;

	for (unsigned int i = 0; i < r->iovcnt; i++) {
		size_t cut = MIN(skip, r->iov[i].iov_len);

		skip -= cut;
		if (r->iov[i].iov_len > cut)
			out[n++] = (struct iovec){ (uint8_t *)r->iov[i].iov_base + cut,
						   r->iov[i].iov_len - cut };
	}
	return n;
}

static void sock_send(struct net *n, unsigned int q, struct net_req *r)
{
	struct net_sock *s = sock_of(n);
	struct iovec iov[NET_IOV_MAX];
	struct net_hdr h;

	(void)q;
	net_hdr_get(r, &h);
	if (net_gso_needed(&h, 0))
		net_done(r, send_worked_on(s, r));
	else
		net_done(r, sock_put(s, iov, skip_header(r, iov)));
}

/* --- receiving --- */

/* One packet: its length, 0 for one that is no frame, or -errno. */
static int sock_take(struct net_sock *s, struct iovec *iov, size_t cnt)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = cnt };
	ssize_t len = recvmsg(s->fd, &m, MSG_DONTWAIT | MSG_TRUNC); /* the packet's whole length */

	if (len < 0 && !broken(errno))
		return -EAGAIN;
	if (len <= 0) { /* an empty packet is no better than the end */
		sock_down(s);
		return -EAGAIN;
	}
	s->delay_ns = RETRY_MIN_NS;
	if ((m.msg_flags & MSG_TRUNC) || len > (ssize_t)(NET_FRAME_MAX - NET_HDR_LEN))
		return -EMSGSIZE;
	if (len >= (ssize_t)NET_ETH_LEN)
		return (int)len;
	s->n.stats.failed++;
	return 0;
}

static void sock_recv(struct net *n, unsigned int q, struct net_req *r)
{
	static const struct net_hdr header;
	struct net_sock *s = sock_of(n);
	struct iovec iov[NET_IOV_MAX];
	unsigned int cnt = skip_header(r, iov);
	int len = 0;

	(void)q;
	for (int i = 0; i < RUNTS_MAX && len == 0; i++)
		len = s->fd < 0 || n->dry ? -EAGAIN : sock_take(s, iov, cnt);
	n->dry = len == -EAGAIN;
	if (len <= 0) {
		net_done(r, len ? len : -EAGAIN);
		return;
	}
	net_hdr_put(r, &header);
	net_done(r, len + (int)NET_HDR_LEN);
}

static void sock_want(struct net *n, unsigned int q, bool on)
{
	(void)q;
	(void)on;
	sock_arm(sock_of(n));
}

/* --- opening --- */

static void sock_close(struct net *n)
{
	struct net_sock *s = sock_of(n);

	loop_timer_cancel(&s->retry);
	loop_fd_del(&s->watch);
	fd_close(&s->fd);
	net_fini(n);
	free(s->path);
	free(s);
}

/* Nobody there yet is no reason to refuse: the other program may come later. */
static int sock_first(struct net_sock *s, struct err *err)
{
	int rc = sock_connect(s);

	switch (rc) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -EAGAIN:
		log_warn("net", "socket:%s: nobody listens there; the link is down until then",
			 s->path);
		sock_down(s);
		return 0;
	case -EPROTOTYPE:
		return err_set(err, rc,
			       "socket:%s: it is no SOCK_SEQPACKET socket; start the other program "
			       "with one",
			       s->path);
	default:
		return rc < 0 ? err_set(err, rc, "socket:%s: cannot connect: %s", s->path,
					strerror(-rc))
			      : 0;
	}
}

struct net *net_open_sock(struct loop *l, const char *path, struct err *err)
{
	static const struct net_ops ops = {
		.send = sock_send, .recv = sock_recv, .want = sock_want, .close = sock_close
	};
	const char *slash = strrchr(path, '/');
	struct net_sock *s;

	if (!*path || (slash && !slash[1])) {
		err_set(err, -EINVAL, "socket:%s: the path of a socket must follow", path);
		return NULL;
	}
	s = calloc(1, sizeof(*s));
	if (!s) {
		err_set(err, -ENOMEM, "socket:%s: out of memory", path);
		return NULL;
	}
	s->fd = -1;
	s->delay_ns = RETRY_MIN_NS;
	s->n.info.queues = 1;
	net_init(&s->n, &ops, l, path);
	loop_timer_init(l, &s->retry, sock_retry);
	s->path = strdup(path);
	if (!s->path)
		err_set(err, -ENOMEM, "socket:%s: out of memory", path);
	if (!s->path || sock_first(s, err) < 0) {
		sock_close(&s->n);
		return NULL;
	}
	s->n.link_told = atomic_load(&s->n.link);
	return &s->n;
}
