/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/link.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

union message {
	struct screen_msg_hdr hdr;
	struct screen_msg_leds leds;
	struct screen_msg_frame frame;
};

static void end(struct link *l, int error)
{
	loop_fd_del(&l->watch);
	l->on_end(l, error);
}

/* Sends one message. False: not now. Errors other than a full queue show up as a hangup of the watch. */
static bool send_message(struct link *l, const void *msg, size_t len)
{
	return l->watch.fd >= 0 && send(l->watch.fd, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

/* Wants to be told when khyve reads again, while something is due. */
static void update_events(struct link *l)
{
	uint64_t due = (uint64_t)l->refresh_due | l->clients_due | l->pointer_due;

	for (size_t i = 0; i < ARRAY_LEN(l->release_due); i++)
		due |= l->release_due[i];
	if (l->watch.fd >= 0)
		loop_fd_events(&l->watch, due ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static bool send_key(struct link *l, uint16_t scancode, bool down)
{
	struct screen_msg_key m = { .hdr = { .type = SCREEN_MSG_KEY, .size = sizeof(m) },
				    .scancode = scancode,
				    .down = down };

	return send_message(l, &m, sizeof(m));
}

static void flush_releases(struct link *l)
{
	for (unsigned int i = 0; i < KEY_INDEX_MAX; i++) {
		if (!(l->release_due[i / 64] & BIT64(i % 64)))
			continue;
		if (!send_key(l, key_from_index(i), false))
			return;
		l->release_due[i / 64] &= ~BIT64(i % 64);
	}
}

static void flush(struct link *l)
{
	struct screen_msg_hdr refresh = { .type = SCREEN_MSG_REFRESH, .size = sizeof(refresh) };
	struct screen_msg_clients clients = {
		.hdr = { .type = SCREEN_MSG_CLIENTS, .size = sizeof(clients) }, .count = l->clients
	};

	flush_releases(l);
	if (l->clients_due)
		l->clients_due = !send_message(l, &clients, sizeof(clients));
	if (l->pointer_due)
		l->pointer_due = !send_message(l, &l->pointer, sizeof(l->pointer));
	if (l->refresh_due)
		l->refresh_due = !send_message(l, &refresh, sizeof(refresh));
	update_events(l);
}

void link_refresh(struct link *l)
{
	if (l->refresh_out)
		return;
	l->refresh_out = l->refresh_due = true;
	flush(l);
}

void link_clients(struct link *l, uint32_t count)
{
	l->clients = count;
	l->clients_due = true;
	flush(l);
}

void link_key(struct link *l, uint16_t scancode, bool down)
{
	unsigned int i = key_index(scancode);

	if (i == 0)
		return;
	if (l->release_due[i / 64] & BIT64(i % 64)) {
		flush(l);
		if (l->release_due[i / 64] & BIT64(i % 64))
			return; /* a press between two releases that are due is dropped */
	}
	if (send_key(l, scancode, down) || down)
		return;
	l->release_due[i / 64] |= BIT64(i % 64);
	update_events(l);
}

void link_pointer(struct link *l, uint16_t x, uint16_t y, uint16_t buttons)
{
	l->pointer = (struct screen_msg_pointer){ .hdr = { .type = SCREEN_MSG_POINTER,
							   .size = sizeof(l->pointer) },
						  .x = x,
						  .y = y,
						  .buttons = buttons };
	l->pointer_due = true;
	flush(l);
}

/* Takes one message apart. -EPROTO: khyve sends no such thing. */
static int receive(struct link *l, const union message *m, size_t len)
{
	if (len < sizeof(m->hdr) || m->hdr.size != len)
		return -EPROTO;
	if (m->hdr.type == SCREEN_MSG_FRAME && len == sizeof(m->frame)) {
		l->refresh_out = false;
		l->on_frame(l, &m->frame);
		return 0;
	}
	if (m->hdr.type == SCREEN_MSG_LEDS && len == sizeof(m->leds)) {
		l->on_leds(l, m->leds.leds);
		return 0;
	}
	return -EPROTO;
}

static void on_event(struct loop_fd *w, unsigned int events)
{
	struct link *l = container_of(w, struct link, watch);
	union message m;
	ssize_t n;
	int rc;

	if (events & EPOLLOUT)
		flush(l);
	if (!(events & ~(unsigned int)EPOLLOUT))
		return;
	n = recv(w->fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end(l, n == 0 || errno == ECONNRESET ? 0 : -errno);
		return;
	}
	rc = receive(l, &m, (size_t)n);
	/* The callback may have ended the link itself. */
	if (rc < 0 && w->fd >= 0)
		end(l, rc);
}

int link_init(struct link *l, struct loop *loop, int ctl_fd)
{
	l->watch = (struct loop_fd){ .fn = on_event, .fd = -1 };
	return loop_fd_add(loop, &l->watch, ctl_fd, EPOLLIN);
}

void link_fini(struct link *l)
{
	if (l->watch.fd >= 0)
		loop_fd_del(&l->watch);
}
