/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/wire.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

#define RING_SIZE (2 * MIB)
#define RING_HIGH (RING_SIZE / 4) /* busy from here on */
#define RING_LOW (RING_SIZE / 16)
#define BATCH 64 /* frames taken in one go */

static void set_busy(struct wire *w, bool busy)
{
	if (busy == w->busy)
		return;
	w->busy = busy;
	w->on_busy(w->arg, busy);
}

static void drop_peer(struct wire *w)
{
	int fd = w->peer.fd;

	log_info("wire", "khyve left");
	loop_fd_del(&w->peer);
	fd_close(&fd);
	w->peer.fd = -1;
	w->left_ns = loop_now(w->listen.loop);
	ring_clear(&w->ring);
	set_busy(w, false);
}

/* False: the socket is full. A broken one shows as a hang-up of the watch. */
static bool send_now(struct wire *w, const void *frame, size_t len)
{
	if (send(w->peer.fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS)
			return false;
		w->stats.out_dropped++;
		return true;
	}
	w->stats.out_frames++;
	w->stats.out_bytes += len;
	return true;
}

static void flush(struct wire *w)
{
	const uint8_t *frame;
	size_t len;

	while ((frame = ring_peek(&w->ring, &len)) && send_now(w, frame, len))
		ring_drop(&w->ring);
	if (ring_used(&w->ring) == 0)
		loop_fd_events(&w->peer, EPOLLIN);
	if (ring_used(&w->ring) <= RING_LOW)
		set_busy(w, false);
}

void wire_send(struct wire *w, const void *frame, size_t len)
{
	if (!wire_connected(w)) {
		w->stats.out_dropped++;
		return;
	}
	if (ring_used(&w->ring) == 0 && send_now(w, frame, len))
		return;
	if (!ring_put(&w->ring, frame, len)) {
		w->stats.out_dropped++;
		return;
	}
	loop_fd_events(&w->peer, EPOLLIN | EPOLLOUT);
	if (ring_used(&w->ring) >= RING_HIGH)
		set_busy(w, true);
}

/* A packet of length 0 looks like the end of the connection; this tells them apart. */
static bool hung_up(const struct wire *w)
{
	struct pollfd p = { .fd = w->peer.fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0;
}

/* Takes one frame. False: there is none, or the connection ended. */
static bool receive(struct wire *w)
{
	ssize_t n = recv(w->peer.fd, w->frame, sizeof(w->frame), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0 || (n == 0 && hung_up(w))) {
		drop_peer(w);
		return false;
	}
	if (n < (ssize_t)WIRE_FRAME_MIN || n > (ssize_t)sizeof(w->frame)) {
		w->stats.in_dropped++;
		log_limited(LOG_LEVEL_DEBUG, "wire", "dropped a frame of %zd bytes", n);
		return true;
	}
	w->stats.in_frames++;
	w->stats.in_bytes += (size_t)n;
	w->on_frame(w->arg, w->frame, (size_t)n);
	return true;
}

static void on_peer(struct loop_fd *watch, unsigned int events)
{
	struct wire *w = container_of(watch, struct wire, peer);

	if (events & EPOLLOUT)
		flush(w);
	if (!(events & ~(unsigned int)EPOLLOUT))
		return;
	for (int i = 0; i < BATCH && receive(w); i++)
		;
}

/* A socket without a file, whose name begins with a zero byte, is open to all. */
static bool is_allowed(const struct wire *w, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == 0 || cred.uid == w->owner);
}

static void on_listen(struct loop_fd *watch, unsigned int events)
{
	struct wire *w = container_of(watch, struct wire, listen);
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	int r;

	(void)events;
	if (fd < 0)
		return;
	/* One that broke at this moment must not keep its successor out. */
	if (wire_connected(w) && hung_up(w))
		drop_peer(w);
	if (wire_connected(w) || !is_allowed(w, fd)) {
		log_limited(LOG_LEVEL_WARN, "wire", "%s is refused",
			    wire_connected(w) ? "a second connection" : "another user");
		fd_close(&fd);
		return;
	}
	r = loop_fd_add(watch->loop, &w->peer, fd, EPOLLIN);
	if (r < 0) {
		w->peer.fd = -1;
		fd_close(&fd);
		return;
	}
	log_info("wire", "khyve is connected");
}

int wire_init(struct wire *w, struct loop *l, int listen_fd)
{
	int r = ring_init(&w->ring, RING_SIZE);

	w->listen = (struct loop_fd){ .fn = on_listen, .fd = -1 };
	w->peer = (struct loop_fd){ .fn = on_peer, .fd = -1 };
	w->left_ns = loop_now(l);
	return r < 0 ? r : loop_fd_add(l, &w->listen, listen_fd, EPOLLIN);
}

void wire_fini(struct wire *w)
{
	if (!w->ring.mem)
		return;
	if (wire_connected(w))
		drop_peer(w);
	loop_fd_del(&w->listen);
	ring_fini(&w->ring);
}
