/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/usernet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/glog.h"
#include "manager/guestconf.h"
#include "manager/port.h"
#include "manager/run.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define PROGRAM "khyve-net"
#define READY_MS 30000 /* on a busy machine the first read of libraries takes long */
#define QUIT_MS 2000
#define QUIT_POLL_MS 10
#define DELAY_MIN_NS (250 * NS_PER_MS)
#define DELAY_MAX_NS (8 * NS_PER_SEC)
#define HEALTHY_NS (10 * NS_PER_SEC)
#define ADOPTED_NS (2 * NS_PER_SEC) /* how often one that is not our child is looked for */
#define END_SECONDS "5" /* how long it outlives a khyve whose supervisor is gone, too */
#define HOSTNAME_MAX 32
#define FORWARDS_MAX 128
#define FORWARD_MAX 64

/* The words of its command line; they live until the fork. */
struct command {
	char listen[32], control[32], ready[16], hostname[HOSTNAME_MAX + 1];
	char forwards[FORWARDS_MAX][FORWARD_MAX];
	char *argv[2 * FORWARDS_MAX + 16];
	size_t argc;
};

void usernet_init(struct usernet *u, const struct guest *g)
{
	*u = (struct usernet){ .g = g };
}

/* It is where this program is. */
static int find_program(struct usernet *u, struct err *err)
{
	static const char *const places[] = { ".", "../libexec/khyve" };
	char own[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	char *slash;

	own[MAX(n, 0)] = '\0';
	slash = strrchr(own, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		if (file_path(u->program, sizeof(u->program), "%s/%s/" PROGRAM, own, places[i]) ==
			    0 &&
		    access(u->program, X_OK) == 0)
			return 0;
	}
	u->program[0] = '\0';
	return err_set(err, -ENOENT,
		       K(031) "user networking needs the program " PROGRAM
			      " beside vm: install libslirp-dev and build again");
}

static void add(struct command *c, const char *word)
{
	if (c->argc + 1 < ARRAY_LEN(c->argv))
		c->argv[c->argc++] = (char *)word;
}

static void add_ports(struct usernet *u, unsigned int n, struct command *c)
{
	struct gconf *conf;
	struct port *ports;
	size_t count, used = 0;

	if (gconf_load(u->g->conf, &conf, NULL) < 0)
		return;
	if (port_load(conf, n, &ports, &count) == 0) {
		for (size_t i = 0; i < count && used < FORWARDS_MAX; i++) {
			struct in_addr addr = { .s_addr = htonl(ports[i].addr) };
			char text[INET_ADDRSTRLEN];

			if (!inet_ntop(AF_INET, &addr, text, sizeof(text)) ||
			    file_path(c->forwards[used], FORWARD_MAX, "%s %s:%u %u",
				      ports[i].udp ? "udp" : "tcp", text, ports[i].host,
				      ports[i].guest) < 0)
				continue;
			add(c, "-f");
			add(c, c->forwards[used++]);
		}
		free(ports);
	}
	gconf_free(conf);
}

static struct command *make_command(struct usernet *u, unsigned int n, int ready_fd)
{
	struct command *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	if (file_path(c->listen, sizeof(c->listen), USERNET_SOCKET, n) < 0 ||
	    file_path(c->control, sizeof(c->control), USERNET_CONTROL, n) < 0 ||
	    file_path(c->ready, sizeof(c->ready), "%d", ready_fd) < 0) {
		free(c);
		return NULL;
	}
	(void)str_copy(c->hostname, sizeof(c->hostname), u->g->name);
	add(c, PROGRAM);
	add(c, "-k");
	add(c, "-e");
	add(c, END_SECONDS);
	add(c, "-l");
	add(c, c->listen);
	add(c, "-c");
	add(c, c->control);
	add(c, "-R");
	add(c, c->ready);
	add(c, "-H");
	add(c, c->hostname);
	add_ports(u, n, c);
	return c;
}

/* In the child. Sockets are bound relative to the guest's folder: their paths would not fit. */
static void become(const struct usernet *u, const struct command *c, int ready_fd)
{
	char path[PATH_MAX];
	sigset_t none;
	int log, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	/* A ^C in the terminal of vm start -f is not for it. */
	setsid();
	if (null < 0 || chdir(u->g->dir) < 0 || run_path(u->g, RUN_LOG, path, sizeof(path)) < 0)
		return;
	log = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (log < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0 || fd_set_inherit(ready_fd) < 0)
		return;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(u->program, c->argv);
	dprintf(STDERR_FILENO, "cannot run %s: %s\n", u->program, strerror(errno));
}

/* Returns the descriptor that says when it is ready, or -errno. */
static int spawn(struct usernet *u, unsigned int n)
{
	struct usernet_net *net = &u->nets[n];
	struct command *c;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	c = make_command(u, n, fds[1]);
	net->pid = c ? fork() : -1;
	if (net->pid == 0) {
		become(u, c, fds[1]);
		_exit(127);
	}
	r = net->pid < 0 ? -errno : fds[0];
	free(c);
	fd_close(&fds[1]);
	if (net->pid < 0) {
		net->pid = 0;
		fd_close(&fds[0]);
	}
	net->adopted = false;
	net->started_ns = clock_mono_ns();
	net->due_ns = 0;
	return r;
}

static bool is_alive(const struct usernet *u, unsigned int n)
{
	char socket[32];
	int fd;

	if (file_path(socket, sizeof(socket), USERNET_CONTROL, n) < 0)
		return false;
	fd = ctl_connect(u->g, socket);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* One that an earlier supervisor has left. */
static void quit(const struct usernet *u, unsigned int n)
{
	char socket[32];
	const struct ctl_where where = { .g = u->g, .socket = socket, .who = PROGRAM };
	uint64_t end = clock_mono_ns() + QUIT_MS * NS_PER_MS;

	if (file_path(socket, sizeof(socket), USERNET_CONTROL, n) < 0 || !is_alive(u, n))
		return;
	(void)ctl_command_at(&where, "quit", QUIT_MS, NULL, 0, NULL);
	while (is_alive(u, n) && clock_mono_ns() < end)
		poll(NULL, 0, QUIT_POLL_MS);
}

int usernet_start(struct usernet *u, unsigned int n, struct err *err)
{
	struct pollfd p = { .events = POLLIN };
	char path[PATH_MAX], line[400] = "", byte;
	struct stat st = { 0 };
	int r = find_program(u, err);

	if (r < 0)
		return r;
	quit(u, n);
	if (run_path(u->g, RUN_LOG, path, sizeof(path)) == 0)
		(void)stat(path, &st);
	p.fd = spawn(u, n);
	if (p.fd < 0)
		return err_set(err, p.fd, "cannot start " PROGRAM ": %s", strerror(-p.fd));
	u->nets[n].wanted = true;
	u->nets[n].delay_ns = DELAY_MIN_NS;
	r = poll(&p, 1, READY_MS) > 0 && read(p.fd, &byte, 1) == 1 ? 0 : -EIO;
	fd_close(&p.fd);
	if (r < 0) {
		glog_last_line(u->g, RUN_LOG, (uint64_t)st.st_size, line, sizeof(line));
		usernet_stop(u);
		return err_set(err, r, PROGRAM " did not start%s%s", line[0] ? ": " : "", line);
	}
	glog_write(u->g, "started " PROGRAM " for network%u", n);
	return 0;
}

void usernet_adopt(struct usernet *u, unsigned int n)
{
	if (find_program(u, NULL) < 0)
		return;
	u->nets[n] = (struct usernet_net){
		.wanted = true, .adopted = true, .delay_ns = DELAY_MIN_NS, .due_ns = clock_mono_ns()
	};
}

static void on_death(struct usernet *u, unsigned int n, int status)
{
	struct usernet_net *net = &u->nets[n];
	uint64_t now = clock_mono_ns();

	net->pid = 0;
	glog_write(u->g, "warning; " PROGRAM " of network%u ended (%s %d), starting it again", n,
		   WIFSIGNALED(status) ? "signal" : "status",
		   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	net->delay_ns = now - net->started_ns > HEALTHY_NS ? DELAY_MIN_NS
							   : MIN(2 * net->delay_ns, DELAY_MAX_NS);
	net->due_ns = now + net->delay_ns;
}

static void tend_one(struct usernet *u, unsigned int n)
{
	struct usernet_net *net = &u->nets[n];
	uint64_t now = clock_mono_ns();
	int status, fd;

	if (net->pid > 0 && waitpid(net->pid, &status, WNOHANG) == net->pid)
		on_death(u, n, status);
	if (!net->due_ns || now < net->due_ns)
		return;
	net->due_ns = now + ADOPTED_NS;
	if (net->adopted && is_alive(u, n))
		return;
	fd = spawn(u, n);
	if (fd < 0)
		net->due_ns = now + DELAY_MAX_NS;
	else
		fd_close(&fd);
}

int usernet_tend(struct usernet *u, int max)
{
	uint64_t now;

	for (unsigned int n = 0; n < PLAN_NETS_MAX; n++) {
		if (!u->nets[n].wanted)
			continue;
		tend_one(u, n);
		now = clock_mono_ns();
		if (u->nets[n].due_ns > now)
			max = (int)MIN((uint64_t)max, (u->nets[n].due_ns - now) / NS_PER_MS + 1);
	}
	return max;
}

void usernet_stop(struct usernet *u)
{
	for (unsigned int n = 0; n < PLAN_NETS_MAX; n++) {
		struct usernet_net *net = &u->nets[n];

		if (net->adopted)
			quit(u, n);
		if (net->pid > 0) {
			kill(net->pid, SIGKILL);
			waitpid(net->pid, NULL, 0);
		}
		*net = (struct usernet_net){ .wanted = false };
	}
}
