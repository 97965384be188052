/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */

/*
 * Whole machines on the real /dev/kvm, with kernels of a few bytes: run states, and what is left at the end. A thread
 * plays the person at the control socket. Exit status 77 (skipped) where there is no usable /dev/kvm.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/conf.h"
#include "kvm/kvm.h"
#include "machine/machine_priv.h"
#include "run.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

#define SETUP_SIZE (5 * 512)
#define ENTRY_64 0x200

struct box {
	char dir[32], kernel[48], socket[48], screen[48], line[48];
	struct conf *conf;
	struct machine *m;
	/* The person: what to do, and whether all answers were right. */
	bool (*person)(struct box *b, int fd);
	bool pleased;
};

static const uint8_t idle_code[] = { 0xeb, 0xfe }; /* jmp self */

/* A bzImage whose 64-bit entry is code. */
static void write_kernel(const char *path, const uint8_t *code, size_t len)
{
	uint8_t image[SETUP_SIZE + 1024] = { 0 };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(len <= sizeof(image) - SETUP_SIZE - ENTRY_64);
	image[0x1f1] = 4;
	image[0x201] = 0x66;
	memcpy(image + 0x202, "HdrS", 4);
	put_le16(image + 0x206, 0x20f);
	put_le32(image + 0x22c, 0x7fffffff);
	put_le16(image + 0x236, 1);
	put_le32(image + 0x238, 2047);
	put_le64(image + 0x258, 1 * MIB);
	put_le32(image + 0x260, 65536);
	memcpy(image + SETUP_SIZE + ENTRY_64, code, len);
	CHECK_EQ(fd_write_full(fd, image, sizeof(image)), 0);
	close(fd);
}

static void set(struct box *b, const char *key, const char *value)
{
	struct err err;

	if (conf_set(b->conf, key, value, "test", &err) < 0)
		CHECK_FAIL("%s", err.text);
}

static struct box *box_new(const uint8_t *code, size_t len)
{
	struct box *b = calloc(1, sizeof(*b));

	strcpy(b->dir, "/tmp/test_machine-XXXXXX");
	CHECK(mkdtemp(b->dir));
	snprintf(b->kernel, sizeof(b->kernel), "%s/kernel", b->dir);
	snprintf(b->socket, sizeof(b->socket), "%s/control", b->dir);
	snprintf(b->screen, sizeof(b->screen), "%s/screen", b->dir);
	snprintf(b->line, sizeof(b->line), "%s/line", b->dir);
	write_kernel(b->kernel, code, len);
	b->conf = conf_new();
	set(b, "name", "test");
	set(b, "memory.size", "32M");
	set(b, "linux.kernel", b->kernel);
	set(b, "control.path", b->socket);
	return b;
}

static void box_make(struct box *b)
{
	struct err err = { "" };

	if (conf_freeze(b->conf, &err) < 0 || machine_new(b->conf, &b->m, &err) < 0)
		CHECK_FAIL("%s", err.text);
}

static void box_free(struct box *b)
{
	machine_free(b->m);
	conf_free(b->conf);
	unlink(b->kernel);
	CHECK_EQ(rmdir(b->dir), 0); /* nothing was left behind */
	free(b);
}

static int unix_connect(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = 10 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		fd_close(&fd);
	return fd;
}

/* The other end of network lines: they are up as long as it listens. */
static int unix_listen(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	CHECK_EQ(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	CHECK_EQ(listen(fd, 8), 0);
	return fd;
}

/* Sends the lines and waits for an "ok" each. The last answer stays in reply. */
static bool say(int fd, const char *lines, char *reply, size_t size)
{
	char text[8192];
	size_t n = 0, want = 0;

	for (const char *p = lines; *p; p++)
		want += *p == '\n';
	if (fd_write_full(fd, lines, strlen(lines)) < 0)
		return false;
	while (want) {
		const char *p = text;
		ssize_t r = read(fd, text + n, sizeof(text) - 1 - n);
		size_t oks = 0;

		if (r <= 0)
			return false;
		n += (size_t)r;
		text[n] = '\0';
		for (; (p = strstr(p, "ok\n")); p++)
			oks += p == text || p[-1] == '\n';
		if (oks >= want)
			break;
	}
	if (reply)
		snprintf(reply, size, "%s", text);
	return true;
}

/* Asks for the status until a line is in it, at most ten seconds. */
static bool until(int fd, const char *line)
{
	char reply[8192];

	for (int i = 0; i < 1000; i++) {
		if (!say(fd, "status\n", reply, sizeof(reply)))
			return false;
		if (strstr(reply, line))
			return true;
		usleep(10000);
	}
	return false;
}

static void *person_thread(void *arg)
{
	struct box *b = arg;
	int fd = unix_connect(b->socket);
	char hello[8];

	b->pleased = fd >= 0 && fd_read_full(fd, hello, sizeof(hello)) == 0 && b->person(b, fd);
	if (fd >= 0)
		say(fd, "quit\n", NULL, 0);
	fd_close(&fd);
	return NULL;
}

/* Runs the machine until the person is done with it. */
static enum machine_exit box_run(struct box *b, bool (*person)(struct box *b, int fd))
{
	enum machine_exit how;
	struct err err = { "" };
	pthread_t t;

	b->person = person;
	CHECK_EQ(pthread_create(&t, NULL, person_thread, b), 0);
	how = machine_run(b->m, &err);
	pthread_join(t, NULL);
	return how;
}

/* --- the end --- */

/* What cannot be loaded is an error like any other, although the machine was made. */
static void test_start_fails(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));
	struct err err = { "" };

	box_make(b);
	CHECK_EQ(truncate(b->kernel, SETUP_SIZE), 0);
	CHECK_EQ(machine_run(b->m, &err), MACHINE_EXIT_ERROR);
	CHECK(strstr(err.text, b->kernel));
	box_free(b);
}

static struct box *box_new_with_screen(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));
	char address[64];

	snprintf(address, sizeof(address), "unix:%s", b->screen);
	set(b, "pci.0.2.0.device", "fbuf");
	set(b, "pci.0.2.0.tcp", address);
	return b;
}

/* Says what a VNC client without a password says, until it is counted as one. */
static bool watch_and_quit(struct box *b, int fd)
{
	int vnc = unix_connect(b->screen);
	char text[12];
	uint8_t types[2], result[4];
	bool ok = vnc >= 0 && fd_read_full(vnc, text, 12) == 0 &&
		  fd_write_full(vnc, "RFB 003.008\n", 12) == 0 &&
		  fd_read_full(vnc, types, 2) == 0 && types[0] == 1 && types[1] == 1 &&
		  fd_write_full(vnc, "\1", 1) == 0 && fd_read_full(vnc, result, 4) == 0 &&
		  fd_write_full(vnc, "\1", 1) == 0 && until(fd, "\nviewers=1\n");

	say(fd, "events\nquit\n", NULL, 0);
	fd_close(&vnc);
	return ok;
}

/* The last viewer goes when the control socket is gone already. */
static void test_end_with_viewer(void)
{
	struct box *b = box_new_with_screen();

	box_make(b);
	CHECK_EQ(box_run(b, watch_and_quit), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	box_free(b);
}

/* Kills our child, the screen's program, at a time when there are no descriptors for a new one. */
static bool kill_viewer(struct box *b, int fd)
{
	struct rlimit old, none;
	char path[64], text[12];
	pid_t child = 0;
	int vnc;
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
	f = fopen(path, "re");
	ok = f && fscanf(f, "%d", &child) == 1 && until(fd, "state=running\n");
	if (f)
		fclose(f);
	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &none);
	ok = ok && kill(child, SIGKILL) == 0;
	usleep(1200000);
	setrlimit(RLIMIT_NOFILE, &old);
	vnc = unix_connect(b->screen);
	ok = ok && vnc >= 0 && fd_read_full(vnc, text, 12) == 0;
	fd_close(&vnc);
	return ok;
}

static void test_viewer_again(void)
{
	struct box *b = box_new_with_screen();

	box_make(b);
	CHECK_EQ(box_run(b, kill_viewer), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	box_free(b);
}

/* --- run states --- */

static bool pause_and_resume(struct box *b, int fd)
{
	(void)b;
	return until(fd, "state=running\n") && say(fd, "pause\n", NULL, 0) &&
	       until(fd, "state=paused\n") &&
	       /* The machine looks at its wishes after both. */
	       say(fd, "pause\nresume\n", NULL, 0) && until(fd, "state=running\n") &&
	       say(fd, "resume\npause\n", NULL, 0) && until(fd, "state=paused\n") &&
	       say(fd, "reset\nresume\n", NULL, 0) && until(fd, "state=running\n") &&
	       until(fd, "resets=1\n") && say(fd, "reset\npause\n", NULL, 0) &&
	       until(fd, "resets=2\n") && until(fd, "state=paused\n");
}

static void test_last_word_counts(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));

	box_make(b);
	CHECK_EQ(box_run(b, pause_and_resume), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	box_free(b);
}

static bool one_reset(struct box *b, int fd)
{
	(void)b;
	if (!until(fd, "resets=1\n") || !until(fd, "state=running\n"))
		return false;
	usleep(50000);
	return until(fd, "resets=1\n");
}

/* A guest asks for its reset until it comes. What it asked for before is void afterwards. */
static void test_reset_once(void)
{
	static const uint8_t code[] = {
		0x80, 0x3c, 0x25, 0x00, 0x00, 0x08, 0x00, 0x00, /* cmp byte [80000], 0 */
		0x75, 0xfe, /* jne self */
		0xc6, 0x04, 0x25, 0x00, 0x00, 0x08, 0x00, 0x01, /* mov byte [80000], 1 */
		0x66, 0xba, 0xf9, 0x0c, /* mov dx, cf9 */
		0xb0, 0x06, /* mov al, 6 */
		0xee, /* l: out dx, al */
		0xeb, 0xfd, /* jmp l */
	};

	for (int i = 0; i < 5; i++) {
		struct box *b = box_new(code, sizeof(code));

		box_make(b);
		CHECK_EQ(box_run(b, one_reset), MACHINE_EXIT_POWEROFF);
		CHECK(b->pleased);
		box_free(b);
	}
}

static bool many_resets(struct box *b, int fd)
{
	char reply[8192];
	unsigned int n = 0;

	(void)b;
	while (n < 3 * LOG_BURST) {
		const char *p;

		if (!say(fd, "status\n", reply, sizeof(reply)))
			return false;
		p = strstr(reply, "resets=");
		if (!p || sscanf(p, "resets=%u", &n) != 1)
			return false;
		usleep(10000);
	}
	return true;
}

/* A guest that does nothing but reset itself does not fill the log. */
static void test_reset_storm(void)
{
	static const uint8_t code[] = {
		0x66, 0xba, 0xf9, 0x0c, /* mov dx, cf9 */
		0xb0, 0x06, /* mov al, 6 */
		0xee, /* l: out dx, al */
		0xeb, 0xfd, /* jmp l */
	};
	struct box *b = box_new(code, sizeof(code));
	uint64_t start = clock_mono_ns(), windows;
	int log = fd_memfd("log", 65536);
	char text[65537] = "";
	unsigned int lines = 0;

	log_set(log, LOG_LEVEL_INFO);
	box_make(b);
	CHECK_EQ(box_run(b, many_resets), MACHINE_EXIT_POWEROFF);
	log_set(2, LOG_LEVEL_INFO);
	windows = (clock_mono_ns() - start) / LOG_WINDOW_NS + 2;
	CHECK_EQ(fd_pread_full(log, text, sizeof(text) - 1, 0), 0);
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	close(log);
	CHECK(lines <= windows * (LOG_BURST + 1));
	CHECK(b->pleased);
	box_free(b);
}

/* --- cables --- */

#define ONE "virtio-net-0:4.0="
#define TWO "e1000-0:5.0="

/* The next line is an error of that name. Its text is the person's to read. */
static bool say_wrong(int fd, const char *line, const char *name)
{
	char text[256];
	ssize_t n;

	if (fd_write_full(fd, line, strlen(line)) < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 && strncmp(text, "err ", 4) == 0 && strstr(text, name);
}

static bool hears(int fd, const char *line, const char *answer)
{
	char reply[8192];

	return say(fd, line, reply, sizeof(reply)) && strcmp(reply, answer) == 0;
}

static bool pull_cables(struct box *b, int fd)
{
	(void)b;
	return hears(fd, "link\n", ONE "up\n" TWO "up\nok\n") &&
	       hears(fd, "link e1000-0:5.0 down\n", TWO "down\nok\n") &&
	       hears(fd, "link\n", ONE "up\n" TWO "down\nok\n") &&
	       hears(fd, "link 0 down\n", ONE "down\nok\n") &&
	       hears(fd, "link 1 up\n", TWO "up\nok\n") &&
	       hears(fd, "link 1 up\n", TWO "up\nok\n") &&
	       hears(fd, "link\n", ONE "down\n" TWO "up\nok\n") &&
	       say_wrong(fd, "link 2 up\n", "no network card 2") &&
	       say_wrong(fd, "link virtio-rnd-0:4.1 up\n", "no network card virtio-rnd-0:4.1") &&
	       say_wrong(fd, "link 0 sideways\n", "link CARD up|down") &&
	       say_wrong(fd, "link 0\n", "link CARD up|down") &&
	       hears(fd, "link\n", ONE "down\n" TWO "up\nok\n");
}

/* The control socket's link, with a device in between that is no card. */
static void test_cables(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));
	int line = unix_listen(b->line);
	char backend[64];

	snprintf(backend, sizeof(backend), "socket:%s", b->line);
	set(b, "pci.0.4.0.device", "virtio-net");
	set(b, "pci.0.4.0.backend", backend);
	set(b, "pci.0.4.1.device", "virtio-rnd");
	set(b, "pci.0.5.0.device", "e1000");
	set(b, "pci.0.5.0.backend", backend);
	box_make(b);
	CHECK_EQ(box_run(b, pull_cables), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	close(line);
	unlink(b->line);
	box_free(b);
}

/* --- somebody in front of it --- */

/* One answer with the descriptor that comes with it, -1: none. */
static int receive(int fd, const char *line, char *reply, size_t size)
{
	size_t count = 1;
	ssize_t n;
	int got = -1;

	if (fd_write_full(fd, line, strlen(line)) < 0)
		return -1;
	n = fd_recv_fds(fd, reply, size - 1, &got, &count);
	reply[n > 0 ? n : 0] = '\0';
	return count ? got : -1;
}

static bool look_and_type(struct box *b, int fd)
{
	const struct screen_mode mode = {
		.width = 800, .height = 600, .stride = 3328, .offset = 4096
	};
	char reply[256];
	int screen;
	bool ok;

	ok = until(fd, "state=running\n") && say_wrong(fd, "screen\n", "the guest's screen is off");
	screen_set_mode(b->m->screen, &mode);
	strcpy((char *)screen_vram(b->m->screen) + 4096, "picture");
	for (int i = 0; ok && i < 3; i++) {
		screen = receive(fd, "screen\n", reply, sizeof(reply));
		ok = strcmp(reply, "width=800\nheight=600\nstride=3328\noffset=4096\nok\n") == 0 &&
		     screen >= 0 && pread(screen, reply, 8, 4096) == 8 &&
		     strcmp(reply, "picture") == 0;
		fd_close(&screen);
	}
	/* This guest fetches nothing: one chord waits, another one is told to. */
	return ok && hears(fd, "key\n", "caps=off\nok\n") &&
	       say_wrong(fd, "key 1d 38 e053 1 2 3 4 5 6\n", "at most 8") &&
	       say_wrong(fd, "key 1d,38\n", "EINVAL") && say_wrong(fd, "key 80\n", "EINVAL") &&
	       hears(fd, "key 1d 38 e053\n", "caps=off\nok\n") &&
	       say_wrong(fd, "key 1e\n", "EAGAIN") && say_wrong(fd, "key\n", "EAGAIN") &&
	       say(fd, "pause\n", NULL, 0) && until(fd, "state=paused\n") &&
	       say_wrong(fd, "key 1e\n", "EBUSY");
}

/* The control socket's screen and key. */
static void test_seat(void)
{
	struct box *b = box_new_with_screen();

	box_make(b);
	CHECK_EQ(box_run(b, look_and_type), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	box_free(b);
}

static bool no_screen(struct box *b, int fd)
{
	(void)b;
	return say_wrong(fd, "screen\n", "ENODEV the guest has no screen");
}

static bool count(struct box *b, int fd)
{
	char reply[8192];

	(void)b;
	return until(fd, "state=running\n") && say(fd, "stats\n", reply, sizeof(reply)) &&
	       strstr(reply, "\nnet.e1000-0:5.0.received=0\nnet.e1000-0:5.0.sent=0\nok\n") &&
	       no_screen(b, fd);
}

static void test_stats(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));

	set(b, "pci.0.5.0.device", "e1000");
	box_make(b);
	CHECK_EQ(box_run(b, count), MACHINE_EXIT_POWEROFF);
	CHECK(b->pleased);
	box_free(b);
}

/* --- where we come from --- */

/* With SIGCHLD ignored by our parent no child could be waited for, and its number would soon be somebody else's. */
static void test_inherited_signals(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));
	struct sigaction sa;

	signal(SIGCHLD, SIG_IGN);
	box_make(b);
	CHECK_EQ(sigaction(SIGCHLD, NULL, &sa), 0);
	CHECK(sa.sa_handler == SIG_DFL);
	box_free(b);
}

/* More vectors than 1000 are possible, and one without a descriptor is an interrupt that never comes. */
static void test_descriptor_limit(void)
{
	struct box *b = box_new(idle_code, sizeof(idle_code));
	struct rlimit old, lim;

	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
	lim = old;
	lim.rlim_cur = MIN(old.rlim_max, 256);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &lim), 0);
	box_make(b);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &lim), 0);
	CHECK_EQ(lim.rlim_cur, lim.rlim_max);
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &old), 0);
	box_free(b);
}

static const struct test_case cases[] = {
	{ "a start that fails is an error and no crash", test_start_fails },
	{ "the end comes while somebody watches", test_end_with_viewer },
	{ "the screen's program is started until it starts", test_viewer_again },
	{ "pause and resume: the last word counts", test_last_word_counts },
	{ "a guest that asks twice is reset once", test_reset_once },
	{ "a guest that resets itself for ever does not fill the log", test_reset_storm },
	{ "a person pulls cables and plugs them in", test_cables },
	{ "somebody looks at the screen and types", test_seat },
	{ "a network card's counters", test_stats },
	{ "descriptors: as many as the host allows", test_descriptor_limit },
	{ "ignored signals are not inherited", test_inherited_signals },
};

int main(int argc, char **argv)
{
	struct err err;

	if (kvm_check(&err) < 0) {
		printf("skipped: %s\n", err.text);
		return 77;
	}
	return RUN_CASES(cases, argc, argv);
}
