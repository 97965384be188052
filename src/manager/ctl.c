/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/store.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define GREETING "khyve 1"
#define REPLY_MAX 65536

struct reader {
	int fd;
	int *pass; /* where a descriptor goes that comes along; NULL: nowhere */
	uint64_t end_ns;
	char buf[REPLY_MAX];
	size_t len, at;
};

int ctl_connect(const struct guest *g, const char *socket_name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int dir = open(g->dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, r;

	if (dir < 0)
		return -errno;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		r = -errno;
		close(dir);
		return r;
	}
	/* The folder's path may be longer than a socket address. */
	r = file_path(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dir, socket_name);
	if (r == 0 && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		r = -errno;
	close(dir);
	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

/* As recv(), with a descriptor that may come along. */
static ssize_t receive(struct reader *rd)
{
	size_t count = rd->pass && *rd->pass < 0;

	return fd_recv_fds(rd->fd, rd->buf + rd->len, sizeof(rd->buf) - rd->len, rd->pass, &count);
}

/* The next line without its end. It stays valid until the end of the answer. */
static int read_line(struct reader *rd, char **line)
{
	for (;;) {
		char *eol = memchr(rd->buf + rd->at, '\n', rd->len - rd->at);
		struct pollfd p = { .fd = rd->fd, .events = POLLIN };
		uint64_t now = clock_mono_ns();
		ssize_t n;

		if (eol) {
			*eol = '\0';
			*line = rd->buf + rd->at;
			rd->at = (size_t)(eol + 1 - rd->buf);
			return 0;
		}
		if (rd->len == sizeof(rd->buf))
			return -EPROTO;
		if (now >= rd->end_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((rd->end_ns - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
			return -errno;
		n = receive(rd);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		rd->len += n > 0 ? (size_t)n : 0;
	}
}

static int append_reply(char *out, size_t size, const char *line)
{
	size_t len = strlen(out);
	int n = snprintf(out + len, size - len, "%s\n", line);

	return n > 0 && (size_t)n < size - len ? 0 : -EFBIG;
}

static int read_reply(struct reader *rd, char *out, size_t size, struct err *err)
{
	char *line = rd->buf;
	int r;

	for (;;) {
		r = read_line(rd, &line);
		if (r < 0 || strcmp(line, "ok") == 0)
			return r;
		if (str_starts(line, "err "))
			return err_set(err, -EREMOTEIO, "%s", line + 4);
		if (!strchr(line, '='))
			return -EPROTO;
		r = out ? append_reply(out, size, line) : 0;
		if (r < 0)
			return r;
	}
}

static int talk(struct reader *rd, const char *command, char *out, size_t size, struct err *err)
{
	char text[128], *line = rd->buf;
	int n = snprintf(text, sizeof(text), "%s\n", command);
	int r = read_line(rd, &line);

	if (r < 0)
		return r;
	if (strcmp(line, GREETING) != 0 || n < 0 || (size_t)n >= sizeof(text))
		return -EPROTO;
	if (send(rd->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		return -ECONNRESET;
	return read_reply(rd, out, size, err);
}

int ctl_command(const struct guest *g, const char *command, unsigned ms, char *out, size_t size,
		struct err *err)
{
	struct ctl_where khyve = { .g = g, .socket = "control.sock", .who = "khyve" };

	return ctl_command_at(&khyve, command, ms, out, size, err);
}

int ctl_command_at(const struct ctl_where *at, const char *command, unsigned ms, char *out,
		   size_t size, struct err *err)
{
	struct reader rd = { .end_ns = clock_mono_ns() + ms * NS_PER_MS, .pass = at->fd };
	int r;

	if (out && size)
		out[0] = '\0';
	if (at->fd)
		*at->fd = -1;
	rd.fd = ctl_connect(at->g, at->socket);
	if (rd.fd < 0)
		return err_set(err, rd.fd, K(043) "%s: its %s does not answer: %s", at->g->name,
			       at->who, strerror(-rd.fd));
	r = talk(&rd, command, out, size, err);
	close(rd.fd);
	if (r < 0 && at->fd)
		fd_close(at->fd);
	if (r == -EREMOTEIO)
		err_prefix(err, r, "%s refuses", at->who);
	else if (r < 0)
		err_set(err, r, K(043) "%s: no answer to '%s' from its %s: %s", at->g->name,
			command, at->who, strerror(-r));
	return r;
}

int ctl_value(const char *lines, const char *key, char *out, size_t size)
{
	size_t len = strlen(key);

	for (const char *p = lines; *p; p += strcspn(p, "\n"), p += *p == '\n') {
		if (strncmp(p, key, len) != 0 || p[len] != '=')
			continue;
		p += len + 1;
		return file_path(out, size, "%.*s", (int)strcspn(p, "\n"), p);
	}
	return -ENOENT;
}
