/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "back/chr.h"
#include "loop/loop.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

/* A line with a guest of `room` bytes at its near end. */
struct line {
	struct loop *l;
	struct chr *c;
	char dir[32];
	uint8_t got[65536];
	size_t ngot, room;
};

static void line_input(void *arg, const uint8_t *buf, size_t len)
{
	struct line *t = arg;

	CHECK(len <= t->room && t->ngot + len <= sizeof(t->got));
	memcpy(t->got + t->ngot, buf, len);
	t->ngot += len;
	t->room -= len;
}

static size_t line_room(void *arg)
{
	return ((struct line *)arg)->room;
}

/* With a name: of a file in a fresh folder. */
static struct line *line_new(const char *kind, const char *name)
{
	struct line *t = calloc(1, sizeof(*t));
	struct err err = { 0 };
	char text[128];

	t->l = loop_new(LOOP_AUTO, NULL);
	strcpy(t->dir, "/tmp/test_chr-XXXXXX");
	CHECK(mkdtemp(t->dir));
	CHECK(snprintf(text, sizeof(text), name ? "%s%s/%s" : "%s", kind, t->dir, name) <
	      (int)sizeof(text));
	t->c = chr_open(t->l, text, &err);
	if (!t->c)
		CHECK_FAIL("chr_open: %s", err.text);
	t->room = sizeof(t->got);
	chr_set_input(t->c, line_input, line_room, t);
	return t;
}

static void line_free(struct line *t)
{
	chr_close(t->c);
	loop_free(t->l);
	if (rmdir(t->dir) < 0)
		CHECK_FAIL("something was left in %s", t->dir);
	free(t);
}

/* Runs the loop for a while. */
static void run_ms(struct line *t, unsigned int ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;

	do {
		if (!loop_step(t->l, false))
			usleep(500);
	} while (clock_mono_ns() < end);
}

/* Runs the loop until the guest has n bytes. */
static void run_until_got(struct line *t, size_t n)
{
	for (int i = 0; i < 4000 && t->ngot < n; i++)
		if (!loop_step(t->l, false))
			usleep(500);
	CHECK_EQ(t->ngot, n);
}

/* Reads at most size bytes from the far end while the loop runs, until len came. */
static void expect(struct line *t, int fd, const char *want)
{
	char buf[256] = "";
	size_t n = 0, len = strlen(want);

	for (int i = 0; i < 4000 && n < len; i++) {
		ssize_t r = read(fd, buf + n, len - n);

		if (r > 0)
			n += (size_t)r;
		else if (!loop_step(t->l, false))
			usleep(500);
	}
	buf[n] = '\0';
	CHECK_STR(buf, want);
}

static void put(struct line *t, const char *text)
{
	chr_write(t->c, text, strlen(text));
}

static bool at_eof(struct line *t, int fd)
{
	char byte;

	for (int i = 0; i < 2000; i++) {
		ssize_t r = read(fd, &byte, 1);

		if (r == 0)
			return true;
		if (r > 0)
			return false;
		if (!loop_step(t->l, false))
			usleep(500);
	}
	return false;
}

static int unix_connect(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	CHECK_EQ(fd_set_nonblock(fd), 0);
	return fd;
}

/* --- the ring --- */

static void ring_keeps_the_newest(void)
{
	struct line *t = line_new("ring", NULL);
	uint8_t *big = malloc(3 * CHR_RING_SIZE), *back = malloc(CHR_RING_SIZE + 1);

	CHECK_STR(chr_name(t->c), "");
	CHECK_EQ(chr_peek(t->c, back, 10), 0);
	put(t, "hello");
	CHECK_EQ(chr_peek(t->c, back, 100), 5);
	CHECK(!memcmp(back, "hello", 5));
	CHECK_EQ(chr_peek(t->c, back, 3), 3);
	CHECK(!memcmp(back, "llo", 3));
	for (size_t i = 0; i < 3 * CHR_RING_SIZE; i++)
		big[i] = (uint8_t)(i * 7 + i / 251);
	/* In odd pieces, and more at once than fits. */
	for (size_t at = 0; at < 2 * CHR_RING_SIZE;) {
		size_t n = MIN((size_t)4999, 2 * CHR_RING_SIZE - at);

		chr_write(t->c, big + at, n);
		at += n;
	}
	CHECK_EQ(chr_peek(t->c, back, CHR_RING_SIZE + 1), CHR_RING_SIZE);
	CHECK(!memcmp(back, big + CHR_RING_SIZE, CHR_RING_SIZE));
	chr_write(t->c, big, 3 * CHR_RING_SIZE);
	CHECK_EQ(chr_peek(t->c, back, CHR_RING_SIZE), CHR_RING_SIZE);
	CHECK(!memcmp(back, big + 2 * CHR_RING_SIZE, CHR_RING_SIZE));
	free(big);
	free(back);
	line_free(t);
}

/* --- sockets --- */

static void unix_late_reader(void)
{
	struct line *t = line_new("unix:", "s");
	char path[64];
	struct stat st;
	int a, b;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	CHECK_STR(chr_name(t->c) + 5, path);
	CHECK_EQ(stat(path, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	put(t, "early ");
	run_ms(t, 5);
	a = unix_connect(path);
	expect(t, a, "early ");
	put(t, "now");
	expect(t, a, "now");
	/* A second client is told so and replaces nobody. */
	b = unix_connect(path);
	expect(t, b, "This console is in use by another client.\r\n");
	CHECK(at_eof(t, b));
	close(b);
	CHECK_EQ(write(a, "in", 2), 2);
	run_until_got(t, 2);
	CHECK(!memcmp(t->got, "in", 2));
	/* After the first one left, the next one gets it all again. */
	close(a);
	run_ms(t, 5);
	put(t, "!");
	run_ms(t, 5);
	b = unix_connect(path);
	expect(t, b, "early now!");
	close(b);
	line_free(t);
	CHECK(access(path, F_OK) < 0);
}

/* The other end has sent all it has, but still listens. */
static void half_closed(void)
{
	struct line *t = line_new("unix:", "s");
	char path[64];
	int a, b;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	a = unix_connect(path);
	CHECK_EQ(write(a, "cmd", 3), 3);
	CHECK_EQ(shutdown(a, SHUT_WR), 0);
	run_until_got(t, 3);
	run_ms(t, 5);
	put(t, "answer");
	expect(t, a, "answer");
	/* Somebody new may take its place. */
	b = unix_connect(path);
	expect(t, b, "answer");
	CHECK(at_eof(t, a));
	close(a);
	close(b);
	line_free(t);
}

/* Somebody types to a guest that does not read, and leaves: that must not lock the next one out. */
static void left_unread(void)
{
	struct line *t = line_new("unix:", "s");
	char path[64];
	int a, b;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	t->room = 0;
	put(t, "login: ");
	a = unix_connect(path);
	expect(t, a, "login: ");
	CHECK_EQ(write(a, "root", 4), 4);
	run_ms(t, 5);
	b = unix_connect(path);
	expect(t, b, "This console is in use by another client.\r\n");
	close(b);
	close(a);
	run_ms(t, 5);
	b = unix_connect(path);
	expect(t, b, "login: ");
	close(b);
	line_free(t);
}

/* Takes all descriptors that a limit of 64 leaves. Returns how many. */
static int exhaust(int *fds, struct rlimit *old)
{
	struct rlimit low;
	int n = 0;

	CHECK(getrlimit(RLIMIT_NOFILE, old) == 0);
	low = (struct rlimit){ .rlim_cur = 64, .rlim_max = old->rlim_max };
	CHECK(setrlimit(RLIMIT_NOFILE, &low) == 0);
	while (n < 64 && (fds[n] = dup(0)) >= 0)
		n++;
	return n;
}

/* Without a descriptor for the client it waits outside, and the loop sleeps. */
static void no_descriptors(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/tmp/test_chr.sock" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), spare[64], n;
	struct loop *l = loop_new(LOOP_FAKE, NULL);
	struct chr *c;
	struct rlimit old;
	char buf[8] = "";

	unlink(sa.sun_path);
	c = chr_open(l, "unix:/tmp/test_chr.sock", NULL);
	CHECK(c && connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0);
	n = exhaust(spare, &old);
	CHECK_EQ(loop_step(l, false), 1);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(loop_step(l, false), 0);
	while (n > 0)
		close(spare[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	loop_fake_advance(l, 2 * NS_PER_SEC);
	chr_write(c, "hello", 5);
	while (loop_step(l, false))
		;
	CHECK_EQ(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), 5);
	CHECK_STR(buf, "hello");
	close(fd);
	chr_close(c);
	loop_free(l);
}

/* A program that listens and takes nobody, so that its queue is full, is still there. */
static void unix_taken(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "/tmp/test_chr.sock" };
	int listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fds[8], n = 0;
	struct loop *l = loop_new(LOOP_FAKE, NULL);
	struct err err;

	unlink(sa.sun_path);
	CHECK(bind(listening, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
	      listen(listening, 0) == 0);
	do
		fds[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	while (connect(fds[n], (struct sockaddr *)&sa, sizeof(sa)) == 0 && ++n < 7);
	alarm(5);
	CHECK(!chr_open(l, "unix:/tmp/test_chr.sock", &err));
	alarm(0);
	CHECK(strstr(err.text, "another program already listens there"));
	for (int i = 0; i <= n; i++)
		close(fds[i]);
	close(listening);
	unlink(sa.sun_path);
	loop_free(l);
}

static void tcp(void)
{
	struct line *t = line_new("tcp=127.0.0.1:0", NULL);
	struct sockaddr_in sa = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned int port;

	CHECK_EQ(sscanf(chr_name(t->c), "127.0.0.1:%u", &port), 1);
	sa.sin_port = htons((uint16_t)port);
	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	put(t, "x");
	CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	CHECK_EQ(fd_set_nonblock(fd), 0);
	expect(t, fd, "x");
	CHECK_EQ(write(fd, "abc", 3), 3);
	run_until_got(t, 3);
	close(fd);
	line_free(t);
}

/* While the guest has no room nothing is taken from outside, and nothing gets lost. */
static void input_waits_for_room(void)
{
	struct line *t = line_new("unix:", "s");
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	t->room = 0;
	fd = unix_connect(path);
	CHECK_EQ(write(fd, "0123456789", 10), 10);
	run_ms(t, 10);
	CHECK_EQ(t->ngot, 0);
	t->room = 3;
	run_ms(t, 5);
	CHECK_EQ(t->ngot, 0);
	chr_kick(t->c);
	run_until_got(t, 3);
	run_ms(t, 5);
	CHECK_EQ(t->ngot, 3);
	for (size_t n = 4; n <= 10; n++) {
		t->room = 1;
		chr_kick(t->c);
		chr_kick(t->c);
		run_until_got(t, n);
	}
	CHECK(!memcmp(t->got, "0123456789", 10));
	close(fd);
	line_free(t);
}

/* A reader that does not read loses the oldest output; nobody waits, nothing grows. */
static void slow_reader(void)
{
	enum { TOTAL = 2000000 };
	struct line *t = line_new("unix:", "s");
	char path[64], buf[4096];
	uint32_t last = 0, word = 0, words = 0;
	size_t have = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	fd = unix_connect(path);
	run_ms(t, 5);
	for (uint32_t i = 1; i <= TOTAL / 4; i++) {
		chr_write(t->c, &i, 4);
		if (i % 1000 == 0)
			loop_step(t->l, false);
	}
	for (int idle = 0; idle < 100;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n <= 0) {
			idle += loop_step(t->l, false) == 0;
			continue;
		}
		idle = 0;
		for (ssize_t i = 0; i < n; i++) {
			((char *)&word)[have++] = buf[i];
			if (have < 4)
				continue;
			have = 0;
			words++;
			CHECK(word > last);
			last = word;
		}
	}
	CHECK_EQ(last, TOTAL / 4); /* the newest arrived */
	CHECK(words >= CHR_RING_SIZE / 4 && words < TOTAL / 4);
	close(fd);
	line_free(t);
}

/* --- terminals --- */

static void pty_comes_and_goes(void)
{
	struct line *t = line_new("pty,link=", "con");
	char path[64], pts[64] = "";
	struct termios tio;
	int fd;

	snprintf(path, sizeof(path), "%s/con", t->dir);
	CHECK_STR(chr_name(t->c), path);
	CHECK(readlink(path, pts, sizeof(pts) - 1) > 0);
	CHECK(!strncmp(pts, "/dev/pts/", 9));
	put(t, "boot\n");
	run_ms(t, 5);
	for (int i = 0; i < 2; i++) {
		fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
		CHECK(fd >= 0);
		CHECK_EQ(tcgetattr(fd, &tio), 0);
		CHECK(!(tio.c_lflag & (ECHO | ICANON | ISIG)) && !(tio.c_oflag & OPOST));
		expect(t, fd, "boot\n");
		CHECK_EQ(write(fd, "\003\r\n", 3), 3);
		run_until_got(t, 3 * (size_t)(i + 1));
		CHECK(!memcmp(t->got, "\003\r\n", 3));
		close(fd);
		run_ms(t, 5);
	}
	line_free(t);
	CHECK(access(path, F_OK) < 0);
}

static void pty_link_taken(void)
{
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	char dir[] = "/tmp/test_chr-XXXXXX", path[64], spec[96];
	struct err err = { 0 };
	struct chr *c;

	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/con", dir);
	snprintf(spec, sizeof(spec), "pty,link=%s", path);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	CHECK(!chr_open(l, spec, &err));
	CHECK(strstr(err.text, "cannot make the link"));
	CHECK(strstr(err.text, path));
	CHECK_EQ(unlink(path), 0); /* the user's file is still there */
	CHECK_EQ(symlink("/dev/pts/99999", path), 0); /* stale */
	c = chr_open(l, spec, &err);
	CHECK(c);
	/* Somebody else's by now: it stays. */
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(symlink("/elsewhere", path), 0);
	chr_close(c);
	CHECK_EQ(unlink(path), 0);
	rmdir(dir);
	loop_free(l);
}

static void terminal_device(void)
{
	struct line *t;
	struct termios before, now;
	char name[64];
	int master, slave;

	CHECK_EQ(openpty(&master, &slave, name, NULL, NULL), 0);
	CHECK_EQ(tcgetattr(slave, &before), 0);
	CHECK(before.c_lflag & ICANON);
	CHECK_EQ(fd_set_nonblock(master), 0);
	t = line_new(name, NULL);
	CHECK_STR(chr_name(t->c), name);
	CHECK_EQ(tcgetattr(slave, &now), 0);
	CHECK(!(now.c_lflag & ICANON));
	put(t, "to the modem");
	expect(t, master, "to the modem");
	CHECK_EQ(write(master, "ATZ", 3), 3);
	run_until_got(t, 3);
	line_free(t);
	CHECK_EQ(tcgetattr(slave, &now), 0);
	CHECK_EQ(now.c_lflag, before.c_lflag);
	CHECK_EQ(now.c_oflag, before.c_oflag);
	close(master);
	close(slave);
}

/* In a child whose standard input and output are a terminal, or pipes. */
static void stdio_child(void)
{
	struct line *t = line_new("stdio", NULL);

	put(t, "ready\n");
	for (int i = 0; i < 10000 && (t->ngot == 0 || t->got[t->ngot - 1] != '.'); i++)
		if (!loop_step(t->l, false))
			usleep(500);
	chr_write(t->c, t->got, t->ngot);
	line_free(t);
	fflush(stdout);
	_exit(0);
}

static void read_text(int fd, const char *want)
{
	char buf[64] = "";
	size_t n = 0;

	while (n < strlen(want)) {
		ssize_t r = read(fd, buf + n, strlen(want) - n);

		CHECK(r > 0);
		n += (size_t)r;
	}
	CHECK_STR(buf, want);
}

static void stdio_terminal(void)
{
	struct termios before, now;
	int master, slave, status;
	pid_t child;

	CHECK_EQ(openpty(&master, &slave, NULL, NULL, NULL), 0);
	CHECK_EQ(tcgetattr(slave, &before), 0);
	child = fork();
	if (child == 0) {
		dup2(slave, 0);
		dup2(slave, 1);
		stdio_child();
	}
	read_text(master, "ready\n"); /* no \r: raw */
	CHECK_EQ(write(master, "\003a.", 3), 3);
	read_text(master, "\003a.");
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	CHECK_EQ(tcgetattr(slave, &now), 0);
	CHECK_EQ(now.c_lflag, before.c_lflag);
	CHECK_EQ(fcntl(slave, F_GETFL) & O_NONBLOCK, 0);
	close(master);
	close(slave);
}

static void stdio_pipes(void)
{
	int in[2], out[2], status;
	pid_t child;

	CHECK_EQ(pipe(in), 0);
	CHECK_EQ(pipe(out), 0);
	child = fork();
	if (child == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		close(in[1]);
		stdio_child();
	}
	close(in[0]);
	close(out[1]);
	CHECK_EQ(write(in[1], "xy", 2), 2);
	read_text(out[0], "ready\n");
	CHECK_EQ(write(in[1], ".", 1), 1);
	read_text(out[0], "xy.");
	CHECK_EQ(waitpid(child, &status, 0), child);
	CHECK_EQ(status, 0);
	close(in[1]);
	close(out[0]);
}

/* --- files and errors --- */

static void file_appends(void)
{
	struct line *t;
	char path[64], *text;
	size_t len;

	for (int i = 0; i < 2; i++) {
		t = line_new("file:/tmp/test_chr.out", NULL);
		put(t, i ? "two" : "one ");
		line_free(t); /* what is not written yet is written at the end */
	}
	snprintf(path, sizeof(path), "/tmp/test_chr.out");
	CHECK_EQ(fd_read_file(path, 100, &text, &len), 0);
	unlink(path);
	CHECK_STR(text, "one two");
	free(text);
}

/* A full disk: the newest output waits until there is room again. */
static void file_is_full(void)
{
	struct line *t = line_new("file:", "log");
	struct rlimit old, low;
	char path[64], buf[64] = "";
	int fd;

	signal(SIGXFSZ, SIG_IGN);
	snprintf(path, sizeof(path), "%s/log", t->dir);
	put(t, "one ");
	run_ms(t, 5);
	CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
	low = (struct rlimit){ .rlim_cur = 4, .rlim_max = old.rlim_max };
	CHECK(setrlimit(RLIMIT_FSIZE, &low) == 0);
	put(t, "two ");
	run_ms(t, 5);
	setrlimit(RLIMIT_FSIZE, &old);
	put(t, "three");
	run_ms(t, 1500);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(read(fd, buf, sizeof(buf) - 1) >= 0);
	close(fd);
	CHECK_STR(buf, "one two three");
	unlink(path);
	line_free(t);
}

static void refuses(void)
{
	static const struct {
		const char *spec, *text;
	} cases[] = {
		{ "", "not a serial line" },
		{ "stdin", "use stdio, pty[,link=PATH], unix:PATH" },
		{ "stdiox", "not a serial line" },
		{ "pty,line=x", "only link=PATH may follow" },
		{ "pty,link=/nonexistent/x", "cannot make the link /nonexistent/x: No such file" },
		{ "unix:/nonexistent/x", "/nonexistent/x" },
		{ "tcp=1.2.3.4.5:1", "unknown address" },
		{ "tcp=127.0.0.1:99999", "not an address" },
		{ "file:/nonexistent/x", "file:/nonexistent/x: cannot open it: No such file" },
		{ "file:/tmp", "cannot open it: Is a directory" },
		{ "file:/dev/null", "it is not a file" },
		{ "/dev/null", "/dev/null: it is not a terminal" },
		{ "/dev/nonexistent", "/dev/nonexistent: cannot open it: No such file" },
		{ "/dev/nmdm0A", "Linux has no nmdm; use pty or unix:PATH" },
	};
	struct loop *l = loop_new(LOOP_AUTO, NULL);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct err err = { 0 };

		CHECK(!chr_open(l, cases[i].spec, &err));
		if (!strstr(err.text, cases[i].text))
			CHECK_FAIL("\"%s\" does not say \"%s\"", err.text, cases[i].text);
	}
	chr_close(NULL);
	loop_free(l);
}

/* Output from a vCPU thread while the loop serves the reader. */
static void *writer_main(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		chr_write(arg, "a", 1);
		if (i % 64 == 0)
			chr_kick(arg);
	}
	return NULL;
}

static void other_thread(void)
{
	struct line *t = line_new("unix:", "s");
	char path[64], buf[4096];
	size_t total = 0;
	pthread_t thread;
	int fd;

	snprintf(path, sizeof(path), "%s/s", t->dir);
	fd = unix_connect(path);
	run_ms(t, 5);
	CHECK_EQ(pthread_create(&thread, NULL, writer_main, t->c), 0);
	for (int i = 0; i < 100000 && total < 20000; i++) {
		ssize_t n = read(fd, buf, sizeof(buf));

		total += n > 0 ? (size_t)n : 0;
		if (!loop_step(t->l, false))
			usleep(50);
	}
	pthread_join(thread, NULL);
	CHECK_EQ(total, 20000);
	close(fd);
	line_free(t);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "ring keeps the newest", ring_keeps_the_newest },
		{ "unix late reader", unix_late_reader },
		{ "half closed", half_closed },
		{ "left unread", left_unread },
		{ "no descriptors", no_descriptors },
		{ "unix taken", unix_taken },
		{ "tcp", tcp },
		{ "input waits for room", input_waits_for_room },
		{ "slow reader", slow_reader },
		{ "pty comes and goes", pty_comes_and_goes },
		{ "pty link taken", pty_link_taken },
		{ "terminal device", terminal_device },
		{ "stdio terminal", stdio_terminal },
		{ "stdio pipes", stdio_pipes },
		{ "file appends", file_appends },
		{ "file is full", file_is_full },
		{ "refuses", refuses },
		{ "other thread", other_thread },
	};

	signal(SIGPIPE, SIG_IGN); /* as khyve does */
	return RUN_CASES(cases, argc, argv);
}
