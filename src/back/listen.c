/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"

#define DEFAULT_HOST "127.0.0.1"
#define BACKLOG 16
#define RETRY_NS (1 * NS_PER_SEC)

/* A socket file without anybody listening is what a killed process leaves behind. */
static bool has_listener(const struct sockaddr_un *sa, int type)
{
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* EAGAIN: so many wait there already that we would have to. */
	bool alive = fd >= 0 && (connect(fd, (const struct sockaddr *)sa, sizeof(*sa)) == 0 ||
				 errno == EAGAIN);

	fd_close(&fd);
	return alive;
}

static int open_unix(const char *path, int type, struct err *err)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	mode_t old;
	int fd, r;

	if (str_copy(sa.sun_path, sizeof(sa.sun_path), path) < 0)
		return err_set(err, -ENAMETOOLONG, "unix:%s: a socket path has at most %zu bytes",
			       path, sizeof(sa.sun_path) - 1);
	if (lstat(path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(err, -EEXIST, "unix:%s: the file exists and is no socket",
				       path);
		if (has_listener(&sa, type))
			return err_set(err, -EADDRINUSE,
				       "unix:%s: another program already listens there", path);
		unlink(path);
	}
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(err, -errno, "cannot create a socket: %s", strerror(errno));
	old = umask(0177);
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, BACKLOG) < 0 ? -errno
											: 0;
	umask(old);
	if (r == 0)
		return fd;
	fd_close(&fd);
	return err_set(err, r, "unix:%s: cannot listen: %s", path, strerror(-r));
}

/* Splits ADDR:PORT in place. False: not of that form. */
static bool split(char *text, const char **host, const char **port)
{
	char *colon = strrchr(text, ':'), *end = strchr(text, ']');

	*host = DEFAULT_HOST;
	*port = text;
	if (text[0] == '[') {
		if (!end || end[1] != ':')
			return false;
		*end = '\0';
		*host = text + 1;
		*port = end + 2;
	} else if (colon) {
		if (strchr(text, ':') != colon)
			return false;
		*colon = '\0';
		*host = colon == text ? DEFAULT_HOST : text;
		*port = colon + 1;
	}
	return **port && **host;
}

static int open_one(const struct addrinfo *ai)
{
	int one = 1, zero = 0, r;
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (ai->ai_family == AF_INET6) {
		const struct sockaddr_in6 *sa = (const void *)ai->ai_addr;
		bool any = IN6_IS_ADDR_UNSPECIFIED(&sa->sin6_addr);

		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, any ? &zero : &one, sizeof(one));
	}
	if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	r = -errno;
	fd_close(&fd);
	return r;
}

static void describe(int fd, char *text, size_t size)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	char host[NI_MAXHOST], port[NI_MAXSERV];

	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 ||
	    getnameinfo((struct sockaddr *)&sa, len, host, sizeof(host), port, sizeof(port),
			NI_NUMERICHOST | NI_NUMERICSERV))
		return;
	snprintf(text, size, sa.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int listen_open(const char *addr, char *text, size_t size, struct err *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = AI_PASSIVE | AI_NUMERICSERV };
	struct addrinfo *ai;
	char copy[512];
	const char *host, *port;
	uint64_t number;
	int fd, r;

	if (str_starts(addr, "unix:")) {
		fd = open_unix(addr + 5, SOCK_STREAM, err);
		if (fd >= 0)
			str_copy(text, size, addr);
		return fd;
	}
	if (str_copy(copy, sizeof(copy), addr) < 0 || !split(copy, &host, &port) ||
	    str_u64(port, &number) < 0 || number > 65535)
		return err_set(err, -EINVAL,
			       "%s: not an address: use PORT, ADDRESS:PORT, [V6ADDRESS]:PORT or "
			       "unix:PATH",
			       addr);
	r = getaddrinfo(host, port, &hints, &ai);
	if (r)
		return err_set(err, -EINVAL, "%s: unknown address \"%s\": %s", addr, host,
			       gai_strerror(r));
	fd = open_one(ai);
	freeaddrinfo(ai);
	if (fd == -EADDRINUSE)
		return err_set(err, fd,
			       "%s: the port is taken by another program: choose another one",
			       addr);
	if (fd < 0)
		return err_set(err, fd, "%s: cannot listen: %s", addr, strerror(-fd));
	describe(fd, text, size);
	return fd;
}

int listen_open_packets(const char *path, struct err *err)
{
	return open_unix(path, SOCK_SEQPACKET, err);
}

void listen_unlink(const char *text)
{
	if (str_starts(text, "unix:"))
		unlink(text + 5);
}

static void on_retry(struct loop_timer *t)
{
	loop_fd_events(&container_of(t, struct listener, retry)->watch, EPOLLIN);
}

static void on_listen(struct loop_fd *w, unsigned int events)
{
	struct listener *l = container_of(w, struct listener, watch);
	int fd = accept4(w->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)events;
	if (fd >= 0) {
		l->accepted(l, fd);
		return;
	}
	if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS)
		return;
	log_limited(LOG_LEVEL_WARN, "listen", "cannot accept a connection: %s", strerror(errno));
	loop_fd_events(w, 0);
	loop_timer_set(&l->retry, loop_now(w->loop) + RETRY_NS);
}

int listener_add(struct loop *loop, struct listener *l, int fd,
		 void (*accepted)(struct listener *l, int fd))
{
	l->accepted = accepted;
	l->watch.fn = on_listen;
	loop_timer_init(loop, &l->retry, on_retry);
	return loop_fd_add(loop, &l->watch, fd, EPOLLIN);
}

void listener_del(struct listener *l)
{
	loop_fd_del(&l->watch);
	loop_timer_cancel(&l->retry);
}
