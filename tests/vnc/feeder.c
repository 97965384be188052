/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/*
 * Stands in for khyve: shows a test picture through the real screen link and starts khyve-vnc on the given addresses.
 *
 *	feeder [-p PASSWORD] [-c PEM] [-s WIDTHxHEIGHT] [-t] KHYVE-VNC ADDRESS...
 *
 * ADDRESS is unix:PATH, 127.0.0.1:PORT or [::1]:PORT (PORT 0 takes a free one). Prints "ready ADDRESS..." with the
 * real ports, then one line per event: "clients N", "key CODE up|down", "pointer X Y BUTTONS". The picture is that of
 * expected_pixel(); -t makes it a text cursor that blinks as well. A key turns the lower right corner to the colour
 * 0x0000NN with NN the scancode. -c: over TLS, with the key and certificate in the file PEM, made if it is not there.
 * Ends when its standard input does.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "back/input.h"
#include "back/screen.h"
#include "loop/loop.h"
#include "manager/cert.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"

#define MAX_ADDRESSES 8
#define CORNER 32 /* pixels */

struct feeder {
	struct loop *loop;
	struct input input;
	struct input_sink sink;
	struct screen *screen;
	struct screen_mode mode;
	uint64_t dirty[SCREEN_PAGES / 64];
	struct loop_fd in;
	struct loop_timer blink;
	bool lit;
	const char *password;
	int tls_fd; /* 0: none */
	unsigned int width, height;
	int listen_fds[MAX_ADDRESSES];
	int n_listen;
	pid_t child;
};

static void die(const char *what)
{
	fprintf(stderr, "feeder: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Bars, a gradient and noise: what all encodings have to get right. */
static uint32_t expected_pixel(unsigned int x, unsigned int y)
{
	static const uint32_t bars[8] = { 0xffffff, 0xffff00, 0x00ffff, 0x00ff00,
					  0xff00ff, 0xff0000, 0x0000ff, 0x000000 };

	if (y < 200)
		return bars[x / 80 % 8];
	if (y < 400)
		return (x & 0xff) << 16 | (y & 0xff) << 8 | ((x + y) & 0xff);
	return ((x * 2654435761u) ^ (y * 2246822519u)) >> 8;
}

static void put_pixel(struct feeder *f, unsigned int x, unsigned int y, uint32_t rgb)
{
	size_t at = f->mode.offset + (size_t)y * f->mode.stride + x * 4;

	memcpy((char *)screen_vram(f->screen) + at, &rgb, 4);
	f->dirty[at / 4096 / 64] |= BIT64(at / 4096 % 64);
}

static void fill(struct feeder *f, unsigned int x, unsigned int y, uint32_t rgb)
{
	for (unsigned int i = 0; i < CORNER * CORNER; i++)
		put_pixel(f, x + i % CORNER, y + i / CORNER, rgb);
}

static void draw(struct feeder *f)
{
	for (unsigned int y = 0; y < f->height; y++)
		for (unsigned int x = 0; x < f->width; x++)
			put_pixel(f, x, y, expected_pixel(x, y));
}

static void take_dirty(void *arg, uint64_t *bitmap)
{
	struct feeder *f = arg;

	for (size_t i = 0; i < ARRAY_LEN(f->dirty); i++)
		bitmap[i] |= f->dirty[i];
	memset(f->dirty, 0, sizeof(f->dirty));
}

static bool on_key(void *arg, uint16_t scancode, int down)
{
	struct feeder *f = arg;

	printf("key 0x%x %s\n", scancode, down ? "down" : "up");
	if (down)
		fill(f, f->width - CORNER, f->height - CORNER, scancode & 0xff);
	return true;
}

static bool on_pointer(void *arg, int x, int y, int width, int height, unsigned int buttons)
{
	(void)arg;
	(void)width;
	(void)height;
	printf("pointer %d %d %u\n", x, y, buttons);
	return true;
}

static void on_clients(void *arg, unsigned int count)
{
	(void)arg;
	printf("clients %u\n", count);
}

static void on_gone(void *arg)
{
	struct feeder *f = arg;

	printf("gone\n");
	loop_stop(f->loop);
}

static void on_input(struct loop_fd *w, unsigned int events)
{
	struct feeder *f = container_of(w, struct feeder, in);
	char byte;

	(void)events;
	if (read(w->fd, &byte, 1) <= 0)
		loop_stop(f->loop);
}

static void on_blink(struct loop_timer *t)
{
	struct feeder *f = container_of(t, struct feeder, blink);

	f->lit = !f->lit;
	fill(f, 8, 8, f->lit ? 0xffffff : 0);
	loop_timer_set(t, loop_now(f->loop) + 500 * NS_PER_MS);
}

/* Binds one address and says which it became. */
static void listen_on(struct feeder *f, const char *text)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in *in4 = (void *)&sa;
	struct sockaddr_in6 *in6 = (void *)&sa;
	struct sockaddr_un *un = (void *)&sa;
	const char *port = strrchr(text, ':') + 1;
	socklen_t len = sizeof(*un);
	int on = 1, fd;

	if (strncmp(text, "unix:", 5) == 0) {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", text + 5);
		unlink(un->sun_path);
	} else if (text[0] == '[') {
		in6->sin6_family = AF_INET6;
		in6->sin6_addr = in6addr_loopback;
		in6->sin6_port = htons((uint16_t)strtoul(port, NULL, 10));
		len = sizeof(*in6);
	} else {
		in4->sin_family = AF_INET;
		in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		in4->sin_port = htons((uint16_t)strtoul(port, NULL, 10));
		len = sizeof(*in4);
	}
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		die(text);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, 16) < 0)
		die(text);
	f->listen_fds[f->n_listen++] = fd;
	if (sa.ss_family == AF_UNIX) {
		printf(" %s", text);
		return;
	}
	getsockname(fd, (struct sockaddr *)&sa, &len);
	printf(sa.ss_family == AF_INET ? " 127.0.0.1:%u" : " [::1]:%u", ntohs(in4->sin_port));
}

/* A pipe with the password in it, as a manager would hand it over. */
static int password_pipe(const char *password)
{
	int fds[2];

	if (pipe(fds) < 0 || fd_write_full(fds[1], password, strlen(password)) < 0)
		die("password");
	close(fds[1]);
	return fds[0];
}

static void start_viewer(struct feeder *f, char *program)
{
	char screen[16], ctl[16], listens[MAX_ADDRESSES * 12] = "", pw[16], tls[16];
	int n = 9;
	char *argv[14] = { program,	  "--screen-fd", screen,   "--ctl-fd", ctl,
			   "--listen-fd", listens,	 "--name", "feeder" };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	f->child = fork();
	if (f->child == 0) {
		snprintf(screen, sizeof(screen), "%d", screen_memfd(f->screen));
		snprintf(ctl, sizeof(ctl), "%d", pair[1]);
		fd_set_inherit(screen_memfd(f->screen));
		fd_set_inherit(pair[1]);
		for (int i = 0; i < f->n_listen; i++) {
			snprintf(listens + strlen(listens), 12, "%s%d", i ? "," : "",
				 f->listen_fds[i]);
			fd_set_inherit(f->listen_fds[i]);
		}
		if (f->password) {
			snprintf(pw, sizeof(pw), "%d", password_pipe(f->password));
			argv[n++] = "--password-fd";
			argv[n++] = pw;
		}
		if (f->tls_fd) {
			snprintf(tls, sizeof(tls), "%d", f->tls_fd);
			fd_set_inherit(f->tls_fd);
			argv[n++] = "--tls-fd";
			argv[n++] = tls;
		}
		execv(program, argv);
		die(program);
	}
	close(pair[1]);
	if (screen_attach(f->screen, pair[0], on_gone, f) < 0)
		die("screen_attach");
}

static void use_tls(struct feeder *f, const char *path)
{
	struct err err;

	if (cert_ensure(path, "feeder", &err) < 0)
		die(err.text);
	f->tls_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->tls_fd < 0)
		die(path);
}

static void parse(struct feeder *f, int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "c:p:s:t")) != -1) {
		if (option == 'c')
			use_tls(f, optarg);
		else if (option == 'p')
			f->password = optarg;
		else if (option == 't')
			f->lit = true;
		else if (option != 's' || sscanf(optarg, "%ux%u", &f->width, &f->height) != 2)
			exit(2);
	}
	if (argc - optind < 2 || argc - optind - 1 > MAX_ADDRESSES)
		exit(2);
	if (f->width < CORNER || f->width > SCREEN_MAX_WIDTH || f->height < CORNER ||
	    f->height > SCREEN_MAX_HEIGHT)
		exit(2);
}

int main(int argc, char **argv)
{
	struct feeder f = { .width = 1024, .height = 768 };
	struct err err;
	int status = 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	parse(&f, argc, argv);
	f.loop = loop_new(LOOP_AUTO, &err);
	f.screen = f.loop ? screen_new(f.loop, &f.input, &err) : NULL;
	if (!f.screen)
		die("screen");
	f.sink = (struct input_sink){ .key = on_key, .pointer = on_pointer, .arg = &f };
	input_add(&f.input, &f.sink, true);
	screen_on_clients(f.screen, on_clients, &f);
	screen_set_dirty_source(f.screen, take_dirty, &f);
	f.mode = (struct screen_mode){ f.width, f.height, f.width * 4, 4096 };
	screen_set_mode(f.screen, &f.mode);
	draw(&f);
	printf("ready");
	for (int i = optind + 1; i < argc; i++)
		listen_on(&f, argv[i]);
	printf("\n");
	start_viewer(&f, argv[optind]);
	f.in = (struct loop_fd){ .fn = on_input, .fd = -1 };
	loop_fd_add(f.loop, &f.in, 0, EPOLLIN);
	loop_timer_init(f.loop, &f.blink, on_blink);
	if (f.lit)
		on_blink(&f.blink);
	loop_run(f.loop);
	screen_detach(f.screen);
	waitpid(f.child, &status, 0);
	printf("exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : 255);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
