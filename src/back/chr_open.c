/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "back/chr_priv.h"
#include "back/listen.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

static int attach(struct chr *c, int in_fd, int out_fd, bool socket, struct err *err)
{
	int rc = chr_attach(c, in_fd, out_fd, socket);

	return rc < 0 ? err_set(err, rc, "cannot watch %s: %s", *c->name ? c->name : "the file",
				strerror(-rc))
		      : 0;
}

/* The terminal passes every byte through; chr_close() puts it back. */
static int tty_make_raw(struct chr *c, int fd)
{
	struct termios t;

	if (tcgetattr(fd, &c->saved) < 0)
		return -errno;
	c->tty = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (c->tty < 0)
		return -errno;
	t = c->saved;
	cfmakeraw(&t);
	return tcsetattr(fd, TCSANOW, &t) < 0 ? -errno : 0;
}

/* --- stdio --- */

/*
 * Standard output without blocking. O_NONBLOCK belongs to the open file, which we share with our parent, so terminals
 * and pipes are opened once more; files never block; sockets are written with MSG_DONTWAIT.
 */
static int stdout_open(bool *socket)
{
	struct stat st;
	int fd = -1;

	if (fstat(STDOUT_FILENO, &st) < 0)
		return -errno;
	*socket = S_ISSOCK(st.st_mode);
	if (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode))
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : fd;
}

static int open_stdio(struct chr *c, const char *rest, struct err *err)
{
	bool socket = false;
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), out = stdout_open(&socket), rc = 0;

	(void)rest;
	if (in < 0 || out < 0)
		rc = err_set(err, -EBADF, "stdio: standard input or output is closed");
	else if (isatty(STDIN_FILENO) && (rc = tty_make_raw(c, STDIN_FILENO)) < 0)
		err_set(err, rc, "stdio: cannot set the terminal up: %s", strerror(-rc));
	if (rc < 0) {
		fd_close(&in);
		fd_close(&out);
		return rc;
	}
	return attach(c, in, out, socket, err);
}

/* --- pseudo terminal --- */

static int pty_make_link(struct chr *c, const char *pts, const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		unlink(path); /* left by one that died */
	if (symlink(pts, path) < 0)
		return err_set(err, -errno, "pty: cannot make the link %s: %s", path,
			       strerror(errno));
	if (str_copy(c->remove, sizeof(c->remove), path) < 0)
		return -ENAMETOOLONG;
	return str_copy(c->name, sizeof(c->name), path);
}

static int open_pty(struct chr *c, const char *rest, struct err *err)
{
	struct termios t;
	char pts[64];
	int slave;

	if (*rest && !str_starts(rest, ",link="))
		return err_set(err, -EINVAL, "pty%s: only link=PATH may follow", rest);
	c->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (c->master < 0 || grantpt(c->master) < 0 || unlockpt(c->master) < 0 ||
	    ptsname_r(c->master, pts, sizeof(pts)) != 0)
		return err_set(err, -errno, "pty: cannot make a pseudo terminal: %s",
			       strerror(errno));
	/* Raw from the start; opened and closed, so that the master knows that nobody is there. */
	slave = open(pts, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &t) < 0)
		return err_set(err, -errno, "%s: %s", pts, strerror(errno));
	cfmakeraw(&t);
	tcsetattr(slave, TCSANOW, &t);
	fd_close(&slave);
	str_copy(c->name, sizeof(c->name), pts);
	if (*rest && pty_make_link(c, pts, rest + strlen(",link="), err) < 0)
		return -EIO;
	chr_detach(c); /* starts looking for a reader */
	return 0;
}

/* --- listening sockets --- */

/* Has the client left? While the guest takes no input nobody watches for that. */
static bool has_left(const struct chr *c)
{
	struct pollfd p = { .fd = c->in_fd, .events = POLLRDHUP };

	return c->eof || poll(&p, 1, 0) == 1;
}

static void on_accepted(struct listener *l, int in)
{
	static const char busy[] = "This console is in use by another client.\r\n";
	struct chr *c = container_of(l, struct chr, listener);
	int out;

	if (c->attached && !has_left(c)) {
		(void)!send(in, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		fd_close(&in);
		return;
	}
	if (c->attached)
		chr_detach(c);
	out = fcntl(in, F_DUPFD_CLOEXEC, 3);
	if (out < 0)
		fd_close(&in);
	else
		chr_attach(c, in, out, true);
}

static int open_listener(struct chr *c, const char *addr, struct err *err)
{
	int rc;

	c->listen_fd = listen_open(addr, c->name, sizeof(c->name), err);
	if (c->listen_fd < 0)
		return c->listen_fd;
	rc = listener_add(c->loop, &c->listener, c->listen_fd, on_accepted);
	return rc < 0 ? err_set(err, rc, "%s: %s", addr, strerror(-rc)) : 0;
}

/* --- files and devices --- */

static int open_file(struct chr *c, const char *path, struct err *err)
{
	int fd =
		open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "file:%s: cannot open it: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode)) {
		fd_close(&fd);
		return err_set(err, -EINVAL, "file:%s: it is not a file", path);
	}
	return attach(c, -1, fd, false, err);
}

static int open_device(struct chr *c, const char *path, struct err *err)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), rc = -errno, out;

	if (fd < 0 && str_starts(path, "/dev/nmdm"))
		return err_set(err, rc, "%s: Linux has no nmdm; use pty or unix:PATH", path);
	if (fd < 0)
		return err_set(err, rc, "%s: cannot open it: %s", path, strerror(-rc));
	if (!isatty(fd)) {
		fd_close(&fd);
		return err_set(err, -ENOTTY, "%s: it is not a terminal", path);
	}
	rc = tty_make_raw(c, fd);
	out = rc < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (out < 0) {
		fd_close(&fd);
		return err_set(err, rc < 0 ? rc : -EMFILE, "%s: cannot set it up", path);
	}
	str_copy(c->name, sizeof(c->name), path);
	return attach(c, fd, out, false, err);
}

static int open_ring(struct chr *c, const char *rest, struct err *err)
{
	(void)c;
	(void)rest;
	(void)err;
	return 0;
}

int chr_open_kind(struct chr *c, const char *spec, struct err *err)
{
	static const struct {
		const char *prefix;
		size_t skip; /* bytes of the prefix that are not part of the operand */
		bool exact; /* nothing may follow */
		int (*open)(struct chr *c, const char *rest, struct err *err);
	} kinds[] = {
		{ "stdio", 5, true, open_stdio },    { "ring", 4, true, open_ring },
		{ "pty", 3, false, open_pty },	     { "unix:", 0, false, open_listener },
		{ "tcp=", 4, false, open_listener }, { "file:", 5, false, open_file },
		{ "/dev/", 0, false, open_device },
	};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_starts(spec, kinds[i].prefix) &&
		    !(kinds[i].exact && strcmp(spec, kinds[i].prefix) != 0))
			return kinds[i].open(c, spec + kinds[i].skip, err);
	return err_set(err, -EINVAL,
		       "%s: not a serial line: use stdio, pty[,link=PATH], unix:PATH, "
		       "tcp=ADDRESS:PORT, file:PATH or a terminal device",
		       spec);
}
