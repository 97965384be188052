/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "cmd/khyve-vnc/client.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/str.h"

/* --- the screen --- */

static struct client *next_hungry(struct server *s)
{
	struct client *c;

	list_for_each(c, &s->clients, link)
		if (client_hungry(c))
			return c;
	return NULL;
}

void server_schedule(struct server *s)
{
	uint64_t now = loop_now(s->loop), due = s->refresh_last_ns + s->refresh_interval_ns;

	if (s->ended || s->link.refresh_out || !next_hungry(s)) {
		loop_timer_cancel(&s->refresh);
		return;
	}
	if (now < due) {
		if (!loop_timer_armed(&s->refresh) || s->refresh.deadline_ns != due)
			loop_timer_set(&s->refresh, due);
		return;
	}
	loop_timer_cancel(&s->refresh);
	s->refresh_last_ns = now;
	link_refresh(&s->link);
}

static void on_refresh(struct loop_timer *t)
{
	server_schedule(container_of(t, struct server, refresh));
}

/* Something is about to change on the screen. */
static void look_closely(struct server *s)
{
	s->unchanged = 0;
	s->refresh_interval_ns = SERVER_REFRESH_MIN_NS;
}

static void pace(struct server *s, bool changed)
{
	if (changed) {
		look_closely(s);
		return;
	}
	if (++s->unchanged % SERVER_REFRESH_PATIENCE == 0)
		s->refresh_interval_ns = MIN(s->refresh_interval_ns * 2, SERVER_REFRESH_MAX_NS);
}

bool server_frame_is_new(struct server *s)
{
	if (!s->view.stale && loop_now(s->loop) - s->frame_ns < SERVER_REFRESH_MIN_NS)
		return true;
	look_closely(s);
	return false;
}

static void end(struct server *s, int error)
{
	s->ended = true;
	s->end_error = error;
	loop_stop(s->loop);
}

static void on_link_end(struct link *l, int error)
{
	end(container_of(l, struct server, link), error);
}

static void on_frame(struct link *l, const struct screen_msg_frame *f)
{
	struct server *s = container_of(l, struct server, link);
	struct damage changed;
	struct client *c;
	int rc = view_frame(&s->view, f, &changed);

	if (rc < 0) {
		link_fini(l);
		end(s, rc);
		return;
	}
	s->frame_ns = loop_now(s->loop);
	pace(s, !damage_empty(&changed));
	list_for_each(c, &s->clients, link) {
		client_frame_ready(c);
		if (!damage_empty(&changed))
			client_damage(c, &changed);
	}
	server_schedule(s);
}

static void on_leds(struct link *l, uint32_t leds)
{
	struct server *s = container_of(l, struct server, link);
	struct client *c;

	s->leds = leds;
	list_for_each(c, &s->clients, link)
		client_leds(c);
}

/* --- input --- */

void server_key(struct server *s, uint16_t scancode, bool down)
{
	look_closely(s);
	link_key(&s->link, scancode, down);
}

void server_pointer(struct server *s, uint16_t x, uint16_t y, uint16_t buttons)
{
	look_closely(s);
	link_pointer(&s->link, x, y, buttons);
}

bool server_caps_lock(const struct server *s)
{
	return s->leds & 4;
}

/* --- connections --- */

bool server_admit(struct server *s, struct client *c)
{
	if (s->viewers >= s->max_viewers)
		return false;
	s->handshakes--;
	s->viewers++;
	c->viewer = true;
	look_closely(s);
	link_clients(&s->link, s->viewers);
	return true;
}

void server_drop(struct server *s, struct client *c)
{
	bool viewer = c->viewer;

	list_remove(&c->link);
	client_free(c);
	if (!viewer) {
		s->handshakes--;
		return;
	}
	s->viewers--;
	if (!s->ended)
		link_clients(&s->link, s->viewers);
	if (s->viewers == 0)
		view_drop(&s->view);
}

static void drop_oldest_handshake(struct server *s)
{
	struct client *c, *tmp;

	list_for_each_safe(c, tmp, &s->clients, link) {
		if (!c->viewer) {
			server_drop(s, c);
			return;
		}
	}
}

/* A peer that vanished without a word is noticed; small updates are not held back. No matter on UNIX sockets. */
static void set_tcp_options(int fd)
{
	int on = 1, idle = 60, interval = 15, count = 4;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

struct client *server_add(struct server *s, int fd, const struct sockaddr_storage *from)
{
	struct client *c;

	if (s->handshakes >= SERVER_HANDSHAKES_MAX)
		drop_oldest_handshake(s);
	if (from->ss_family != AF_UNIX)
		set_tcp_options(fd);
	c = client_new(s, fd, auth_peer_of(from));
	if (!c)
		return NULL;
	list_append(&s->clients, &c->link);
	s->handshakes++;
	return c;
}

static void listen_events(struct server *s, unsigned int events)
{
	for (size_t i = 0; i < s->n_listeners; i++)
		loop_fd_events(&s->listeners[i].watch, events);
}

static void on_accept_retry(struct loop_timer *t)
{
	listen_events(container_of(t, struct server, accept_retry), EPOLLIN);
}

static void on_accept(struct loop_fd *w, unsigned int events)
{
	struct server *s = container_of(w, struct server_listener, watch)->server;
	struct sockaddr_storage from = { 0 };
	socklen_t len = sizeof(from);
	int fd = accept4(w->fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		server_add(s, fd, &from);
		return;
	}
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
		return;
	log_limited(LOG_LEVEL_WARN, "vnc", "cannot accept a viewer: %s", strerror(errno));
	listen_events(s, 0);
	loop_timer_set(&s->accept_retry, loop_now(s->loop) + SERVER_ACCEPT_RETRY_NS);
}

/* --- life --- */

static int add_listener(struct server *s, int fd, struct err *err)
{
	struct server_listener *l = &s->listeners[s->n_listeners];
	int rc = fd_set_nonblock(fd);

	l->server = s;
	l->watch = (struct loop_fd){ .fn = on_accept, .fd = -1 };
	if (rc == 0)
		rc = loop_fd_add(s->loop, &l->watch, fd, EPOLLIN);
	if (rc < 0)
		return err_set(err, rc, "--listen-fd %d: %s", fd, strerror(-rc));
	s->n_listeners++;
	return 0;
}

int server_init(struct server *s, struct loop *loop, const struct server_config *conf,
		struct err *err)
{
	int rc;

	*s = (struct server){
		.loop = loop,
		.max_viewers = conf->max_viewers,
		.refresh_interval_ns = SERVER_REFRESH_MIN_NS,
		.link = { .on_frame = on_frame, .on_leds = on_leds, .on_end = on_link_end },
	};
	list_init(&s->clients);
	loop_timer_init(loop, &s->accept_retry, on_accept_retry);
	loop_timer_init(loop, &s->refresh, on_refresh);
	auth_init(&s->auth, conf->password);
	/* A longer name is cut: it is only a title. */
	(void)str_copy(s->name, sizeof(s->name), conf->name);
	rc = conf->tls_fd > 0 ? tls_new(conf->tls_fd, &s->tls, err) : 0;
	if (rc < 0)
		return rc;
	rc = view_init(&s->view, conf->screen_fd, err);
	if (rc < 0) {
		tls_free(s->tls);
		return rc;
	}
	rc = link_init(&s->link, loop, conf->ctl_fd);
	if (rc < 0) {
		rc = err_set(err, rc, "--ctl-fd %d: %s", conf->ctl_fd, strerror(-rc));
		goto fail;
	}
	for (size_t i = 0; i < conf->n_listen; i++) {
		rc = add_listener(s, conf->listen_fds[i], err);
		if (rc < 0)
			goto fail;
	}
	return 0;
fail:
	server_fini(s);
	return rc;
}

void server_fini(struct server *s)
{
	struct client *c, *tmp;

	list_for_each_safe(c, tmp, &s->clients, link)
		server_drop(s, c);
	for (size_t i = 0; i < s->n_listeners; i++)
		loop_fd_del(&s->listeners[i].watch);
	s->n_listeners = 0;
	loop_timer_cancel(&s->accept_retry);
	loop_timer_cancel(&s->refresh);
	link_fini(&s->link);
	view_fini(&s->view);
	tls_free(s->tls);
	s->tls = NULL;
	explicit_bzero(&s->auth, sizeof(s->auth));
}
