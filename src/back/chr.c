/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/chr.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back/chr_priv.h"
#include "back/listen.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

#define CHR_PIECE 4096 /* bytes moved at a time */
/* How often to look whether somebody opened the pseudo terminal, or whether the file takes output again. */
#define CHR_LOOK_NS (500 * NS_PER_MS)

/* --- output --- */

/* Copies what the reader has not got yet. Returns the count, and the number of the first byte. */
static size_t ring_take(struct chr *c, uint8_t *buf, size_t size, uint64_t *first)
{
	size_t n, at;

	pthread_mutex_lock(&c->lock);
	if (c->head - c->sent > CHR_RING_SIZE)
		c->sent = c->head - CHR_RING_SIZE; /* too slow: the oldest is lost */
	at = (size_t)(c->sent % CHR_RING_SIZE);
	n = MIN(MIN((size_t)(c->head - c->sent), size), CHR_RING_SIZE - at);
	memcpy(buf, c->ring + at, n);
	*first = c->sent;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void ring_taken(struct chr *c, uint64_t upto)
{
	pthread_mutex_lock(&c->lock);
	c->sent = MAX(c->sent, upto);
	pthread_mutex_unlock(&c->lock);
}

static void out_want(struct chr *c, bool want)
{
	if (c->out.fd >= 0)
		loop_fd_events(&c->out, want ? EPOLLOUT : 0);
}

/* The other end does not take bytes: it has left, or the disk is full for now. */
static void out_failed(struct chr *c)
{
	if (!c->regular) {
		chr_detach(c);
		return;
	}
	log_limited(LOG_LEVEL_WARN, "chr", "a serial port's file cannot be written: %s",
		    strerror(errno));
	out_want(c, false);
	loop_timer_set(&c->look, loop_now(c->loop) + CHR_LOOK_NS);
}

/* Sends until the other end is full, at most one ring's worth. */
static void out_send(struct chr *c)
{
	uint8_t buf[CHR_PIECE];

	if (loop_timer_armed(&c->look))
		return;
	for (int i = 0; i < CHR_RING_SIZE / CHR_PIECE && c->out_fd >= 0; i++) {
		uint64_t first;
		size_t len = ring_take(c, buf, sizeof(buf), &first);
		ssize_t n;

		if (len == 0)
			break;
		n = c->socket ? send(c->out_fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT)
			      : write(c->out_fd, buf, len);
		if (n > 0) {
			ring_taken(c, first + (uint64_t)n);
		} else if (n < 0 && errno == EAGAIN) {
			out_want(c, true);
			return;
		} else if (n == 0 || errno != EINTR) {
			out_failed(c);
			return;
		}
	}
	pthread_mutex_lock(&c->lock);
	out_want(c, c->head != c->sent);
	pthread_mutex_unlock(&c->lock);
}

static void out_fn(struct loop_fd *w, unsigned int events)
{
	(void)events;
	out_send(container_of(w, struct chr, out));
}

void chr_write(struct chr *c, const void *buf, size_t len)
{
	const uint8_t *p = buf;

	if (len > CHR_RING_SIZE) {
		p += len - CHR_RING_SIZE;
		len = CHR_RING_SIZE;
	}
	pthread_mutex_lock(&c->lock);
	for (size_t left = len; left > 0;) {
		size_t at = (size_t)(c->head % CHR_RING_SIZE);
		size_t n = MIN(left, CHR_RING_SIZE - at);

		memcpy(c->ring + at, p, n);
		p += n;
		left -= n;
		c->head += n;
	}
	pthread_mutex_unlock(&c->lock);
	loop_post(&c->work);
}

size_t chr_peek(const struct chr *c, void *buf, size_t size)
{
	struct chr *m = (struct chr *)(uintptr_t)c; /* for its lock */
	size_t n;

	pthread_mutex_lock(&m->lock);
	n = MIN(size, (size_t)MIN(c->head, CHR_RING_SIZE));
	for (size_t i = 0; i < n; i++)
		((uint8_t *)buf)[i] = c->ring[(c->head - n + i) % CHR_RING_SIZE];
	pthread_mutex_unlock(&m->lock);
	return n;
}

/* --- input --- */

/* Room for input; if there is none, chr_kick() will make us look again. */
static size_t in_room(struct chr *c)
{
	size_t room;

	if (!c->fn)
		return 0;
	atomic_store(&c->starved, true); /* before asking: a kick from now on is not lost */
	room = c->room(c->arg);
	if (room)
		atomic_store(&c->starved, false);
	return room;
}

static void in_update(struct chr *c)
{
	if (c->in.fd >= 0)
		loop_fd_events(&c->in, !c->eof && in_room(c) ? EPOLLIN : 0);
}

static void in_fn(struct loop_fd *w, unsigned int events)
{
	struct chr *c = container_of(w, struct chr, in);
	uint8_t buf[CHR_PIECE];
	size_t room = in_room(c);
	ssize_t n;

	(void)events;
	if (!room) {
		loop_fd_events(w, 0);
		return;
	}
	n = read(c->in_fd, buf, MIN(room, sizeof(buf)));
	if (n > 0) {
		c->fn(c->arg, buf, (size_t)n);
	} else if (n == 0) {
		/* The other end sends no more but may still listen, as in `echo reboot | nc -U ...`. */
		c->eof = true;
		loop_fd_events(w, 0);
	} else if (errno != EAGAIN && errno != EINTR) {
		chr_detach(c);
	}
}

void chr_set_input(struct chr *c, void (*fn)(void *arg, const uint8_t *buf, size_t len),
		   size_t (*room)(void *arg), void *arg)
{
	c->fn = fn;
	c->room = room;
	c->arg = arg;
	atomic_store(&c->starved, true);
	chr_kick(c);
}

void chr_kick(struct chr *c)
{
	if (atomic_exchange(&c->starved, false))
		loop_post(&c->work);
}

static void work_fn(struct loop_post *p)
{
	struct chr *c = container_of(p, struct chr, work);

	out_send(c);
	in_update(c);
}

/* --- who is at the other end --- */

static int watch_add(struct chr *c, struct loop_fd *w, int fd,
		     void (*fn)(struct loop_fd *, unsigned int), unsigned int events)
{
	w->fn = fn;
	return fd < 0 ? 0 : loop_fd_add(c->loop, w, fd, events);
}

int chr_attach(struct chr *c, int in_fd, int out_fd, bool socket)
{
	struct stat st;
	int rc;

	c->in_fd = in_fd;
	c->out_fd = out_fd;
	c->socket = socket;
	c->regular = fstat(out_fd, &st) == 0 && S_ISREG(st.st_mode);
	c->attached = true;
	c->eof = false;
	rc = watch_add(c, &c->in, in_fd, in_fn, 0);
	if (rc == 0)
		rc = watch_add(c, &c->out, out_fd, out_fn, 0);
	if (rc < 0) {
		chr_detach(c);
		return rc;
	}
	pthread_mutex_lock(&c->lock);
	c->sent = c->head - MIN(c->head, CHR_RING_SIZE);
	pthread_mutex_unlock(&c->lock);
	loop_post(&c->work);
	return 0;
}

void chr_detach(struct chr *c)
{
	loop_fd_del(&c->in);
	loop_fd_del(&c->out);
	fd_close(&c->in_fd);
	fd_close(&c->out_fd);
	c->attached = false;
	if (c->master >= 0)
		loop_timer_set(&c->look, loop_now(c->loop) + CHR_LOOK_NS);
}

/* The master of a pseudo terminal hangs up as long as nobody has the other side open. */
static void look_fn(struct loop_timer *t)
{
	struct chr *c = container_of(t, struct chr, look);
	struct pollfd p = { .fd = c->master };

	if (c->regular) {
		out_send(c);
		return;
	}
	if (poll(&p, 1, 0) == 0) {
		int in = fcntl(c->master, F_DUPFD_CLOEXEC, 3);
		int out = fcntl(c->master, F_DUPFD_CLOEXEC, 3);

		if (in >= 0 && out >= 0) {
			chr_attach(c, in, out, false);
			return;
		}
		fd_close(&in);
		fd_close(&out);
	}
	loop_timer_set(t, loop_now(c->loop) + CHR_LOOK_NS);
}

static void chr_free(struct chr *c)
{
	free(c->ring);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

struct chr *chr_open(struct loop *l, const char *spec, struct err *err)
{
	struct chr *c = calloc(1, sizeof(*c));

	if (c)
		c->ring = malloc(CHR_RING_SIZE);
	if (!c || !c->ring) {
		free(c);
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	c->loop = l;
	c->in.fd = c->out.fd = -1;
	c->in_fd = c->out_fd = c->listen_fd = c->master = c->tty = -1;
	pthread_mutex_init(&c->lock, NULL);
	loop_post_init(l, &c->work, work_fn);
	loop_timer_init(l, &c->look, look_fn);
	if (chr_open_kind(c, spec, err) < 0) {
		chr_close(c);
		return NULL;
	}
	return c;
}

void chr_close(struct chr *c)
{
	char target[PATH_MAX], *link = c ? c->remove : NULL;
	ssize_t n;

	if (!c)
		return;
	loop_timer_cancel(&c->look);
	out_send(c); /* the guest's last words, as far as they go without waiting */
	chr_detach(c);
	loop_timer_cancel(&c->look);
	loop_post_cancel(&c->work);
	if (c->listen_fd >= 0)
		listen_unlink(c->name);
	listener_del(&c->listener);
	fd_close(&c->listen_fd);
	/* Only if it still is ours. */
	n = *link ? readlink(link, target, sizeof(target) - 1) : -1;
	if (n > 0 && c->master >= 0) {
		char own[64];

		target[n] = '\0';
		if (ptsname_r(c->master, own, sizeof(own)) == 0 && !strcmp(own, target))
			unlink(link);
	}
	fd_close(&c->master);
	if (c->tty >= 0)
		tcsetattr(c->tty, TCSANOW, &c->saved);
	fd_close(&c->tty);
	chr_free(c);
}

const char *chr_name(const struct chr *c)
{
	return c->name;
}
