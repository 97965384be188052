/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/usernet.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conf/conf.h"
#include "loop/loop.h"
#include "machine/machine.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"

#define PROGRAM "khyve-net"
#define RESTART_MIN_NS (250 * NS_PER_MS)
#define RESTART_MAX_NS (8 * NS_PER_SEC)
#define HEALTHY_NS (10 * NS_PER_SEC) /* one that lived so long is restarted at once */
#define READY_MS 30000 /* on a busy machine the first read of libraries takes long */
#define FORWARDS_MAX 64
#define ARGS_MAX (2 * FORWARDS_MAX + 12)

struct child {
	struct usernet u;
	struct loop *loop;
	char program[4096];
	int listen_fd;
	pid_t pid; /* 0: not running */
	uint64_t started_ns, delay_ns;
	struct loop_timer restart;
	char *forwards; /* the words of argv are in here */
	char mtu[16], listen[16], ready[16];
	unsigned int argc;
	char *argv[ARGS_MAX + 1];
};

static struct child *child_of(struct usernet *u)
{
	return container_of(u, struct child, u);
}

void usernet_address(uint8_t devfn, char *out)
{
	int n = snprintf(out, USERNET_ADDRESS_MAX, "@khyve-net/%d/%u.%u", (int)getpid(),
			 (unsigned int)devfn >> 3, devfn & 7u);

	if (n < 0 || n >= USERNET_ADDRESS_MAX)
		abort();
}

static int open_socket(uint8_t devfn)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r;

	if (fd < 0)
		return -errno;
	usernet_address(devfn, sa.sun_path);
	sa.sun_path[0] = '\0';
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 4) == 0)
		return fd;
	r = -errno;
	fd_close(&fd);
	return r;
}

static void add_arg(struct child *c, const char *arg)
{
	if (c->argc < ARGS_MAX)
		c->argv[c->argc++] = (char *)arg;
}

/* bhyve's "tcp:[ADDR]:PORT-[ADDR]:PORT", any number with ; between, becomes khyve-net's "tcp ADDR:PORT ADDR:PORT". */
static int add_forwards(struct child *c, const char *where, struct err *err)
{
	char *rest = c->forwards, *one;
	size_t n = 0;

	while (rest && (one = strsep(&rest, ";"))) {
		char *colon = strchr(one, ':'), *dash = strrchr(one, '-');

		if (!colon || !dash || dash < colon)
			return err_set(
				err, -EINVAL,
				"%s: hostfwd: \"%.64s\" is not tcp:[ADDRESS]:PORT-[ADDRESS]:PORT",
				where, one);
		if (n++ == FORWARDS_MAX)
			return err_set(err, -E2BIG, "%s: hostfwd: more than %d forwards", where,
				       FORWARDS_MAX);
		*colon = *dash = ' ';
		add_arg(c, "-f");
		add_arg(c, one);
	}
	return 0;
}

static int get_key(const struct conf *conf, const char *node, const char *name, char *out,
		   size_t size, struct err *err)
{
	char key[96];
	int r;

	if (snprintf(key, sizeof(key), "%s.%s", node, name) >= (int)sizeof(key))
		return -ENOENT;
	r = conf_get_str(conf, key, out, size, err);
	return r == -ENOENT ? 0 : r;
}

static int read_settings(struct child *c, const struct conf *conf, const char *node,
			 struct err *err)
{
	char forwards[4096] = "", open[8] = "";
	bool on = false;
	int r = get_key(conf, node, "mtu", c->mtu, sizeof(c->mtu), err);

	add_arg(c, PROGRAM);
	add_arg(c, "-l");
	add_arg(c, c->listen);
	add_arg(c, "-R");
	add_arg(c, c->ready);
	if (r == 0)
		r = get_key(conf, node, "open", open, sizeof(open), err);
	if (r == 0 && open[0] && str_bool(open, &on) < 0)
		r = err_set(err, -EINVAL, "%s: open: \"%s\" is not true or false",
			    conf_where(conf, node), open);
	if (r == 0)
		r = get_key(conf, node, "hostfwd", forwards, sizeof(forwards), err);
	if (r < 0)
		return r;
	if (!on)
		add_arg(c, "-r");
	if (c->mtu[0]) {
		add_arg(c, "-m");
		add_arg(c, c->mtu);
	}
	if (!forwards[0])
		return 0;
	c->forwards = strdup(forwards);
	return c->forwards ? add_forwards(c, conf_where(conf, node), err)
			   : err_set(err, -ENOMEM, "out of memory");
}

/* Between fork and exec: only what a forked copy of a threaded program may do. */
static void become(struct child *c, pid_t parent, int ready_fd)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	fd_inherit_none();
	fd_set_inherit(c->listen_fd);
	fd_set_inherit(ready_fd);
	execv(c->program, c->argv);
	_exit(127);
}

/* Returns the end of a pipe that says when it is ready, or -errno. */
static int spawn(struct child *c)
{
	pid_t parent = getpid();
	int pipe_fds[2], r;

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	snprintf(c->listen, sizeof(c->listen), "fd:%d", c->listen_fd);
	snprintf(c->ready, sizeof(c->ready), "%d", pipe_fds[1]);
	c->pid = fork();
	if (c->pid == 0)
		become(c, parent, pipe_fds[1]);
	r = c->pid < 0 ? -errno : pipe_fds[0];
	fd_close(&pipe_fds[1]);
	if (c->pid < 0) {
		c->pid = 0;
		fd_close(&pipe_fds[0]);
	}
	c->started_ns = loop_now(c->loop);
	return r;
}

static void on_restart(struct loop_timer *t)
{
	struct child *c = container_of(t, struct child, restart);
	int r = spawn(c);

	if (r >= 0) {
		fd_close(&r);
		return;
	}
	log_limited(LOG_LEVEL_WARN, "usernet", "cannot start %s again: %s", PROGRAM, strerror(-r));
	loop_timer_set(t, loop_now(c->loop) + RESTART_MAX_NS);
}

/* It says on our standard error itself what is wrong. */
static int wait_ready(int fd, struct err *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n = poll(&p, 1, READY_MS);
	char byte;

	if (n == 0)
		return err_set(err, -ETIMEDOUT, "%s did not get ready in time", PROGRAM);
	if (n > 0 && read(fd, &byte, 1) == 1)
		return 0;
	return err_set(err, -EIO, "%s did not start; it has said why", PROGRAM);
}

static int start(struct child *c, const struct conf *conf, const char *node, uint8_t devfn,
		 struct err *err)
{
	int fd, r = machine_find_program(PROGRAM, c->program, sizeof(c->program));

	if (r < 0)
		return err_set(
			err, r,
			"%s: backend slirp needs the program %s beside khyve or in its libexec folder",
			conf_where(conf, node), PROGRAM);
	r = read_settings(c, conf, node, err);
	if (r < 0)
		return r;
	c->listen_fd = open_socket(devfn);
	if (c->listen_fd < 0)
		return err_set(err, c->listen_fd, "cannot make a socket for %s: %s", PROGRAM,
			       strerror(-c->listen_fd));
	fd = spawn(c);
	if (fd < 0)
		return err_set(err, fd, "cannot start %s: %s", c->program, strerror(-fd));
	r = wait_ready(fd, err);
	fd_close(&fd);
	return r < 0 ? err_prefix(err, r, "%s", conf_where(conf, node)) : 0;
}

int usernet_new(struct loop *l, const struct conf *conf, const char *node, uint8_t devfn,
		struct usernet **out, struct err *err)
{
	struct child *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->loop = l;
	c->listen_fd = -1;
	c->delay_ns = RESTART_MIN_NS;
	list_init(&c->u.link);
	loop_timer_init(l, &c->restart, on_restart);
	r = start(c, conf, node, devfn, err);
	if (r < 0) {
		usernet_free(&c->u);
		return r;
	}
	*out = &c->u;
	return 0;
}

void usernet_free(struct usernet *u)
{
	struct child *c = child_of(u);

	list_remove(&u->link);
	loop_timer_cancel(&c->restart);
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	fd_close(&c->listen_fd);
	free(c->forwards);
	free(c);
}

void usernet_reap(struct usernet *u)
{
	struct child *c = child_of(u);
	uint64_t now = loop_now(c->loop);
	int status;

	if (c->pid <= 0 || waitpid(c->pid, &status, WNOHANG) != c->pid)
		return;
	c->pid = 0;
	c->delay_ns = now - c->started_ns > HEALTHY_NS ? RESTART_MIN_NS
						       : MIN(2 * c->delay_ns, RESTART_MAX_NS);
	log_limited(LOG_LEVEL_WARN, "usernet", "%s ended (%s %d): starting it again", PROGRAM,
		    WIFSIGNALED(status) ? "signal" : "status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	loop_timer_set(&c->restart, now + c->delay_ns);
}
