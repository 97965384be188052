/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/listen.h"
#include "loop/loop.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#define OUT_MAX 65536

struct control_client {
	struct control *control;
	struct loop_fd watch;
	struct list link;
	bool events, closing;
	int pass; /* descriptor that goes with the output; -1: none */
	size_t in_len, out_len;
	char in[CONTROL_LINE_MAX + 1];
	char out[OUT_MAX];
};

struct control {
	struct loop *loop;
	const struct control_cmd *cmds;
	void *arg;
	struct listener listener;
	int fd;
	char addr[128];
	struct list clients;
	unsigned int nclients;
};

static void client_free(struct control_client *c)
{
	int fd = c->watch.fd;

	loop_fd_del(&c->watch);
	fd_close(&fd);
	fd_close(&c->pass);
	list_remove(&c->link);
	c->control->nclients--;
	free(c);
}

/* Sends what fits; the rest waits for EPOLLOUT. False: the client is gone. */
static bool client_flush(struct control_client *c)
{
	ssize_t n = 0;

	if (c->out_len)
		n = fd_send_fds(c->watch.fd, c->out, c->out_len, &c->pass, c->pass >= 0);
	if (n < 0 && n != -EAGAIN)
		c->closing = true;
	if (n > 0) {
		fd_close(&c->pass);
		c->out_len -= (size_t)n;
		memmove(c->out, c->out + n, c->out_len);
	}
	if (c->closing) {
		client_free(c);
		return false;
	}
	loop_fd_events(&c->watch, EPOLLIN | (c->out_len ? EPOLLOUT : 0));
	return true;
}

/* A client that lets its output pile up is cut off: it gets no half lines. */
static void client_append(struct control_client *c, const char *line)
{
	size_t len = strlen(line);

	if (len > OUT_MAX - c->out_len && !CANARY) {
		c->closing = true;
		return;
	}
	memcpy(c->out + c->out_len, line, len);
	c->out_len += len;
}

/* What a person or a guest chose may be part of a line: terminals are to see no control characters. */
static void clean(char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

static void __attribute__((format(printf, 3, 0)))
append_line(struct control_client *c, const char *prefix, const char *fmt, va_list ap)
{
	char line[CONTROL_LINE_MAX];
	int n = snprintf(line, sizeof(line) - 1, "%s", prefix);
	size_t len;

	if (n < 0 || (size_t)n >= sizeof(line) - 1)
		return;
	vsnprintf(line + n, sizeof(line) - 1 - (size_t)n, fmt, ap);
	clean(line);
	len = strlen(line);
	line[len] = '\n';
	line[len + 1] = '\0';
	client_append(c, line);
}

void control_reply(struct control_client *c, const char *key, const char *fmt, ...)
{
	char prefix[64];
	va_list ap;

	snprintf(prefix, sizeof(prefix), "%s=", key);
	va_start(ap, fmt);
	append_line(c, prefix, fmt, ap);
	va_end(ap);
}

int control_reply_fd(struct control_client *c, int fd)
{
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	fd_close(&c->pass);
	c->pass = fd;
	return 0;
}

void control_subscribe(struct control_client *c)
{
	c->events = true;
}

void control_event(struct control *c, const char *fmt, ...)
{
	struct control_client *cl, *tmp;

	if (!c)
		return;
	list_for_each_safe(cl, tmp, &c->clients, link) {
		va_list ap;

		if (!cl->events)
			continue;
		va_start(ap, fmt);
		append_line(cl, "event ", fmt, ap);
		va_end(ap);
		client_flush(cl);
	}
}

static void run_line(struct control_client *c, char *line)
{
	const struct control_cmd *cmd = c->control->cmds;
	char *operand = strchr(line, ' ');
	struct err err = { "" };
	char answer[sizeof(err.text) + 64];
	int r;

	if (operand)
		*operand++ = '\0';
	while (cmd->name && strcmp(cmd->name, line) != 0)
		cmd++;
	if (!cmd->name)
		r = err_set(&err, -ENOSYS, "unknown command: try help");
	else
		r = cmd->fn(c->control->arg, c, operand, &err);
	clean(err.text);
	if (r < 0)
		snprintf(answer, sizeof(answer), "err %s %s\n", strerrorname_np(-r), err.text);
	else
		snprintf(answer, sizeof(answer), "ok\n");
	client_append(c, answer);
}

/* Runs every complete line of the buffer; a line that is too long closes the connection. */
static void client_lines(struct control_client *c)
{
	char *start = c->in, *end;

	while (!c->closing && (end = memchr(start, '\n', c->in_len - (size_t)(start - c->in)))) {
		*end = '\0';
		if (end > start && end[-1] == '\r')
			end[-1] = '\0';
		if (*start)
			run_line(c, start);
		start = end + 1;
	}
	c->in_len -= (size_t)(start - c->in);
	memmove(c->in, start, c->in_len);
	if (c->in_len >= CONTROL_LINE_MAX)
		c->closing = true;
}

static void on_client(struct loop_fd *w, unsigned int events)
{
	struct control_client *c = container_of(w, struct control_client, watch);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n =
			recv(w->fd, c->in + c->in_len, CONTROL_LINE_MAX - c->in_len, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			client_free(c);
			return;
		}
		if (n > 0) {
			c->in_len += (size_t)n;
			client_lines(c);
		}
	}
	client_flush(c);
}

static bool peer_allowed(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

static void on_accepted(struct listener *l, int fd)
{
	struct control *ctl = container_of(l, struct control, listener);
	struct control_client *c;

	c = ctl->nclients < CONTROL_CLIENTS_MAX && peer_allowed(fd) ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		log_limited(LOG_LEVEL_WARN, "control", "connection refused");
		fd_close(&fd);
		return;
	}
	c->control = ctl;
	c->pass = -1;
	c->watch.fn = on_client;
	list_append(&ctl->clients, &c->link);
	ctl->nclients++;
	if (loop_fd_add(ctl->loop, &c->watch, fd, EPOLLIN) < 0) {
		c->watch.fd = fd;
		client_free(c);
		return;
	}
	client_append(c, "khyve 1\n");
	client_flush(c);
}

int control_new(struct loop *l, const char *path, const struct control_cmd *cmds, void *arg,
		struct control **out, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));
	char addr[128];
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->loop = l;
	c->cmds = cmds;
	c->arg = arg;
	c->fd = -1;
	list_init(&c->clients);
	if (snprintf(addr, sizeof(addr), "unix:%s", path) >= (int)sizeof(addr))
		r = err_set(err, -ENAMETOOLONG, "the path is too long");
	else
		r = c->fd = listen_open(addr, c->addr, sizeof(c->addr), err);
	if (r < 0) {
		free(c);
		return err_prefix(err, r, "control.path");
	}
	r = listener_add(l, &c->listener, c->fd, on_accepted);
	if (r < 0) {
		control_free(c);
		return err_set(err, r, "control.path: cannot watch %s: %s", path, strerror(-r));
	}
	*out = c;
	return 0;
}

void control_free(struct control *c)
{
	struct control_client *cl, *tmp;

	if (!c)
		return;
	list_for_each_safe(cl, tmp, &c->clients, link) {
		client_flush(cl);
	}
	list_for_each_safe(cl, tmp, &c->clients, link) {
		client_free(cl);
	}
	listener_del(&c->listener);
	fd_close(&c->fd);
	listen_unlink(c->addr);
	free(c);
}
