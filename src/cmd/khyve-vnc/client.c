/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/client.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/khyve-vnc/server.h"
#include "util/bytes.h"

void client_put(struct client *c, const void *data, size_t len)
{
	size_t end = c->out_start + c->out_len;

	assert(len <= sizeof(c->out) - end);
	memcpy(c->out + end, data, len);
	c->out_len += len;
}

void client_put_u8(struct client *c, uint8_t v)
{
	client_put(c, &v, 1);
}

void client_put_u16(struct client *c, uint16_t v)
{
	uint8_t b[2];

	put_be16(b, v);
	client_put(c, b, sizeof(b));
}

void client_put_u32(struct client *c, uint32_t v)
{
	uint8_t b[4];

	put_be32(b, v);
	client_put(c, b, sizeof(b));
}

void client_kick(struct client *c)
{
	loop_post(&c->work);
}

/* Input stays in the kernel while an answer is being waited for. */
static bool wants_input(const struct client *c)
{
	return c->state != CLIENT_DELAY && c->state != CLIENT_FRAME && !flow_blocked(c) &&
	       !c->tls_writes;
}

static void update_events(struct client *c)
{
	unsigned int events = c->out_len || c->tls_writes ? EPOLLOUT : 0;

	if (wants_input(c))
		events |= EPOLLIN;
	loop_fd_events(&c->watch, events);
	/* The rest of a record is no event of the socket. */
	if (wants_input(c) && c->tls && tls_pending(c->tls))
		client_kick(c);
}

static void set_deadline(struct client *c, uint64_t ns)
{
	loop_timer_set(&c->deadline, loop_now(c->server->loop) + ns);
}

void client_await_frame(struct client *c)
{
	c->await_frame = true;
	loop_timer_set(&c->gate, loop_now(c->server->loop) + CLIENT_FRAME_WAIT_NS);
}

void client_set_state(struct client *c, enum client_state state)
{
	c->state = state;
	if (state == CLIENT_CLOSING)
		set_deadline(c, CLIENT_LINGER_NS);
	if (state == CLIENT_RUN)
		loop_timer_cancel(&c->deadline);
	if (state == CLIENT_FRAME)
		client_await_frame(c);
}

/* Bytes taken, or -errno. */
static ssize_t transmit(struct client *c, const void *data, size_t len)
{
	ssize_t n;

	if (c->tls)
		return tls_write(c->tls, data, len);
	n = send(c->watch.fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? -errno : n;
}

/* Sends what is in the output as far as the socket takes it. */
static int flush(struct client *c)
{
	size_t before = c->out_len;

	while (c->out_len) {
		ssize_t n = transmit(c, c->out + c->out_start, c->out_len);

		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			break;
		if (n < 0)
			return (int)n;
		c->out_start += (size_t)n;
		c->out_len -= (size_t)n;
		c->sent += (size_t)n;
	}
	if (c->out_len == 0)
		c->out_start = 0;
	if (c->state != CLIENT_RUN)
		return 0;
	if (c->out_len == 0)
		loop_timer_cancel(&c->deadline);
	else if (c->out_len < before || !loop_timer_armed(&c->deadline))
		set_deadline(c, CLIENT_STALL_NS);
	return 0;
}

/* Sends, and encodes one piece when all is sent: one slice of work; the rest comes after everybody else's turn. */
static int pump(struct client *c)
{
	int rc = flush(c);

	if (rc < 0)
		return rc;
	if (c->out_len == 0 && c->state == CLIENT_TLS) {
		rc = vencrypt_step(c);
		if (rc == 0)
			rc = flush(c);
	}
	if (c->out_len == 0 && c->state == CLIENT_CLOSING)
		shutdown(c->watch.fd, SHUT_WR);
	if (c->out_len == 0 && c->state == CLIENT_RUN) {
		rc = update_step(c);
		if (rc > 0)
			client_kick(c);
		if (rc > 0)
			rc = flush(c);
	}
	return rc < 0 ? rc : 0;
}

/* Ends every callback: drops the client or asks for the events it needs now. c may be gone afterwards. */
static void finish(struct client *c, int rc)
{
	struct server *s = c->server;

	if (rc >= 0)
		rc = pump(c);
	if (rc < 0)
		server_drop(s, c);
	else
		update_events(c);
	server_schedule(s);
}

/* Bytes read, 0 at the end, or -errno. */
static ssize_t obtain(struct client *c, void *data, size_t len)
{
	ssize_t n;

	if (c->tls)
		return tls_read(c->tls, data, len);
	n = recv(c->watch.fd, data, len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

static int receive(struct client *c)
{
	ssize_t n;

	/* Its bytes are TLS's, once the last plain byte has been sent. */
	if (c->state == CLIENT_TLS)
		return 0;
	if (c->state == CLIENT_CLOSING)
		c->in_len = 0;
	if (c->in_len == sizeof(c->in))
		return 0; /* it waits behind a fence */
	n = obtain(c, c->in + c->in_len, sizeof(c->in) - c->in_len);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n <= 0)
		return n == 0 ? -ECONNRESET : (int)n;
	c->in_len += (size_t)n;
	return rfb_input(c);
}

static void on_event(struct loop_fd *w, unsigned int events)
{
	struct client *c = container_of(w, struct client, watch);

	finish(c, events & ~(unsigned int)EPOLLOUT ? receive(c) : 0);
}

static void on_work(struct loop_post *p)
{
	struct client *c = container_of(p, struct client, work);

	int rc = rfb_input(c); /* what a fence held back */

	if (rc >= 0 && wants_input(c) && c->tls && tls_pending(c->tls))
		rc = receive(c);
	finish(c, rc);
}

static void on_deadline(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, deadline);

	finish(c, -ETIMEDOUT);
}

static void on_gate(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, gate);
	int rc = 0;

	c->await_frame = false;
	if (c->state == CLIENT_DELAY)
		rc = rfb_check_response(c);
	else if (c->state == CLIENT_FRAME)
		rfb_server_init(c);

	/* What came in meanwhile. */
	finish(c, rc < 0 ? rc : rfb_input(c));
}

void client_frame_ready(struct client *c)
{
	if (c->await_frame)
		loop_timer_set(&c->gate, loop_now(c->server->loop));
}

void client_damage(struct client *c, const struct damage *d)
{
	if (c->state != CLIENT_RUN)
		return;
	damage_add(&c->damage, d);
	client_kick(c);
}

void client_leds(struct client *c)
{
	if (c->state != CLIENT_RUN || !c->caps.leds)
		return;
	c->notices.leds = true;
	client_kick(c);
}

bool client_hungry(const struct client *c)
{
	struct rect region;

	return c->state == CLIENT_FRAME ||
	       (c->state == CLIENT_RUN && (c->requested || flow_open(c, &region)) && !c->updating &&
		c->out_len == 0);
}

struct client *client_new(struct server *s, int fd, struct auth_peer peer)
{
	struct client *c = calloc(1, sizeof(*c));
	uint8_t native[PIXEL_FORMAT_SIZE];
	int rc;

	if (!c) {
		close(fd);
		return NULL;
	}
	list_init(&c->link);
	c->server = s;
	c->peer = peer;
	c->watch = (struct loop_fd){ .fn = on_event, .fd = -1 };
	loop_timer_init(s->loop, &c->deadline, on_deadline);
	loop_timer_init(s->loop, &c->gate, on_gate);
	loop_post_init(s->loop, &c->work, on_work);
	pixel_format_native(native);
	rc = pixel_conv_init(&c->conv, native);
	assert(rc == 0);
	c->next_conv = c->conv;
	c->caps.quality = -1;
	if (loop_fd_add(s->loop, &c->watch, fd, EPOLLIN) < 0) {
		close(fd);
		free(c);
		return NULL;
	}
	set_deadline(c, CLIENT_HANDSHAKE_NS);
	client_put(c, "RFB 003.008\n", 12);
	client_kick(c);
	return c;
}

void client_free(struct client *c)
{
	int fd = c->watch.fd;

	input_release_all(c);
	loop_fd_del(&c->watch);
	loop_timer_cancel(&c->deadline);
	loop_timer_cancel(&c->gate);
	loop_post_cancel(&c->work);
	tls_close(c->tls);
	close(fd);
	zrle_free(c->zrle);
	tight_free(c->tight);
	zlib_free(c->zlib);
	free(c);
}
