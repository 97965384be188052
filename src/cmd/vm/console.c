/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/str.h"

#define LEAVE 0x1d /* ^] */
#define WAIT_MS 200
/* With no more input, how long the port may be silent before we take it that all has been said. */
#define QUIET_MS 500
#define SOCKET_TRIES 20
/* What is remembered arrives at once. */
#define SILENT_MS 60
/* What khyve says to a second client. */
#define BUSY_TEXT "This console is in use"

struct attach {
	int sock, signals;
	bool tty, input; /* input: standard input has not ended */
	struct termios saved;
};

static void set_raw(struct attach *a)
{
	struct termios raw;

	a->tty = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &a->saved) == 0;
	if (!a->tty)
		return;
	raw = a->saved;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static int send_all(int sock, const char *buf, size_t len)
{
	while (len > 0) {
		struct pollfd p = { .fd = sock, .events = POLLOUT };
		ssize_t n = send(sock, buf, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n < 0 && poll(&p, 1, -1) < 0 && errno != EINTR)
			return -errno;
		buf += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* Keys go to the guest until ^]. True: leave. */
static bool pass_input(struct attach *a)
{
	char buf[512], *end;
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n <= 0) {
		a->input = false;
		return a->tty;
	}
	end = a->tty ? memchr(buf, LEAVE, (size_t)n) : NULL;
	return send_all(a->sock, buf, end ? (size_t)(end - buf) : (size_t)n) < 0 || end;
}

/* True: the other side has closed, or our output has. */
static bool pass_output(struct attach *a)
{
	char buf[4096];
	ssize_t n = recv(a->sock, buf, sizeof(buf), 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	return n <= 0 || fd_write_full(STDOUT_FILENO, buf, (size_t)n) < 0;
}

/* Moves bytes until ^], a signal or an end. True: the guest's side closed. */
static bool pump(struct attach *a)
{
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = a->sock, .events = POLLIN },
			{ .fd = a->signals, .events = POLLIN },
			{ .fd = a->input ? STDIN_FILENO : -1, .events = POLLIN },
		};
		int n = poll(p, 3, a->input ? -1 : QUIET_MS);

		if (n == 0 || p[1].revents)
			return false;
		if (n < 0 && errno != EINTR)
			return false;
		if (n < 0)
			continue;
		if (p[0].revents && pass_output(a))
			return true;
		if (p[2].revents && pass_input(a))
			return false;
	}
}

/* Right after the start the socket may not be there yet. */
static int connect_port(const struct guest *g, const char *name)
{
	int fd = -ENOENT;

	for (int i = 0; i < SOCKET_TRIES; i++) {
		struct timespec t = { .tv_nsec = 50 * 1000000l };

		fd = ctl_connect(g, name);
		if (fd != -ENOENT && fd != -ECONNREFUSED)
			break;
		nanosleep(&t, NULL);
	}
	return fd;
}

/* The port asked for, else the first one that NAME/console lists. */
static int choose_port(const struct guest *g, const char *port, char *name, size_t size)
{
	static const char *const ports[] = { "com1", "com2" };
	char path[PATH_MAX];

	for (size_t i = 0; i < 2; i++) {
		if ((!port || strcmp(port, ports[i]) == 0) &&
		    run_console(g, ports[i], path, sizeof(path)) == 0)
			return file_path(name, size, "%s", file_base(path));
	}
	return -ENOENT;
}

int vm_read_console(const struct guest *g, char *out, size_t size)
{
	struct pollfd p = { .events = POLLIN };
	char name[64];
	size_t len = 0;
	ssize_t n = 1;
	int r = choose_port(g, NULL, name, sizeof(name));

	out[0] = '\0';
	p.fd = r < 0 ? r : ctl_connect(g, name);
	if (p.fd < 0)
		return p.fd;
	while (n > 0 && len + 1 < size && poll(&p, 1, SILENT_MS) > 0) {
		n = recv(p.fd, out + len, size - 1 - len, 0);
		len += n > 0 ? (size_t)n : 0;
	}
	close(p.fd);
	for (size_t i = 0; i < len; i++) {
		if (!out[i])
			out[i] = ' ';
	}
	out[len] = '\0';
	return n == 0 && str_starts(out, BUSY_TEXT) ? -EBUSY : 0;
}

int vm_attach(const struct guest *g, const char *port)
{
	struct attach a = { .input = true };
	char name[64];
	bool closed;

	if (choose_port(g, port, name, sizeof(name)) < 0)
		return ui_error("unable to locate console device for this virtual machine");
	a.sock = connect_port(g, name);
	if (a.sock < 0)
		return ui_error("cannot connect to %s of %s: %s", name, g->name, strerror(-a.sock));
	a.signals = open_signals();
	if (isatty(STDIN_FILENO))
		printf("Connected to %s, leave with ^]\n", g->name);
	fflush(stdout);
	set_raw(&a);
	closed = pump(&a);
	if (a.tty) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &a.saved);
		printf("\n%s\n",
		       closed ? "The guest's side has closed the connection" : "Disconnected");
	}
	fd_close(&a.signals);
	fd_close(&a.sock);
	return 0;
}

static void wait_start(const struct guest *g)
{
	struct timespec t = { .tv_nsec = WAIT_MS * 1000000l };
	struct run_state state;
	char path[PATH_MAX];

	printf("Waiting for %s to start...\n", g->name);
	fflush(stdout);
	for (;;) {
		run_query(g, &state);
		if (state.kind == RUN_RUNNING && run_console(g, "com1", path, sizeof(path)) == 0)
			return;
		nanosleep(&t, NULL);
	}
}

int verb_console(struct vm *vm, int argc, char **argv)
{
	struct run_state state;
	struct guest g;
	bool wait = false;
	int c;

	while ((c = ui_option(argc, argv, "w")) != -1) {
		if (c != 'w')
			return ui_usage(vm);
		wait = true;
	}
	if (argc - optind < 1 || argc - optind > 2)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	if (wait)
		wait_start(&g);
	run_query(&g, &state);
	if (state.kind != RUN_RUNNING)
		return ui_error(K(021) "%s doesn't appear to be a running virtual machine", g.name);
	return vm_attach(&g, argv[optind + 1]);
}
