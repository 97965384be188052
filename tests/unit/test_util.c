/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "run.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/list.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"
#include "util/thread.h"

static void fill(char *buf, size_t size, char c)
{
	memset(buf, c, size - 1);
	buf[size - 1] = '\0';
}

static void test_err_set(void)
{
	struct err err;
	char big[1000];

	CHECK_EQ(err_set(&err, -EIO, "disk %d is %s", 3, "gone"), -EIO);
	CHECK_STR(err.text, "disk 3 is gone");
	CHECK_EQ(err_set(NULL, -EINVAL, "%s", "nobody listens"), -EINVAL);
	fill(big, sizeof(big), 'a');
	err_set(&err, -EIO, "%s", big);
	CHECK_EQ(strlen(err.text), sizeof(err.text) - 1);
	CHECK_STR(err.text + sizeof(err.text) - 5, "a...");
}

static void test_err_code(void)
{
	char code[ERR_CODE_SIZE] = "?";
	struct err err;

	err_set(&err, -EIO, "nothing");
	err_take_code(err.text, code);
	CHECK_STR(err.text, "nothing");
	CHECK_STR(code, "");
	err_set(&err, -EIO, K(024) "disk is there");
	err_prefix(&err, -EIO, "web: " K(040) "cannot start");
	err_take_code(err.text, code);
	CHECK_STR(err.text, "web: cannot start: disk is there");
	CHECK_STR(code, "K024");
	/* Cut within the code. */
	err_set(&err, -EIO, "%.8s", "web: " K(024));
	err_take_code(err.text, code);
	CHECK_STR(err.text, "web: ");
	CHECK_STR(code, "K0");
}

static void test_err_prefix(void)
{
	struct err err;
	char big[1000];

	err_set(&err, -EIO, "cannot open it");
	CHECK_EQ(err_prefix(&err, -EIO, "disk%d", 0), -EIO);
	CHECK_STR(err.text, "disk0: cannot open it");
	CHECK_EQ(err_prefix(NULL, -EIO, "disk%d", 0), -EIO);
	fill(big, sizeof(big), 'b');
	err_prefix(&err, -EIO, "%s", big);
	CHECK_EQ(strlen(err.text), sizeof(err.text) - 1);
	err_set(&err, -EIO, "%.505s", big);
	err_prefix(&err, -EIO, "twelve chars");
	CHECK_EQ(strlen(err.text), sizeof(err.text) - 1);
	CHECK_STR(err.text + sizeof(err.text) - 5, "b...");
}

static void test_str_numbers(void)
{
	static const char *const bad[] = { "",	 " 1",	"1 ",  "-1", "+1", "x",
					   "0x", "12a", "1.5", "08", "1K", "0x1g" };
	uint64_t u = 77;
	int64_t i = 77;

	for (size_t n = 0; n < ARRAY_LEN(bad); n++)
		CHECK_EQ(str_u64(bad[n], &u), -EINVAL);
	CHECK_EQ(str_u64("18446744073709551616", &u), -ERANGE);
	CHECK_EQ(u, 77);
	CHECK_EQ(str_u64("18446744073709551615", &u), 0);
	CHECK_EQ(u, UINT64_MAX);
	CHECK_EQ(str_u64("0x1F", &u), 0);
	CHECK_EQ(u, 31);
	CHECK_EQ(str_u64("010", &u), 0);
	CHECK_EQ(u, 8);
	CHECK_EQ(str_u64("0", &u), 0);
	CHECK_EQ(u, 0);
	CHECK_EQ(str_i64("-9223372036854775808", &i), 0);
	CHECK_EQ(i, INT64_MIN);
	CHECK_EQ(str_i64("9223372036854775807", &i), 0);
	CHECK_EQ(i, INT64_MAX);
	CHECK_EQ(str_i64("9223372036854775808", &i), -ERANGE);
	CHECK_EQ(str_i64("-9223372036854775809", &i), -ERANGE);
	CHECK_EQ(str_i64("--1", &i), -EINVAL);
	CHECK_EQ(str_i64("-", &i), -EINVAL);
}

static void test_str_size(void)
{
	static const char *const bad[] = { "1GB", "G", "", "-1G", "1.5G", "1 G" };
	uint64_t v = 5;

	CHECK_EQ(str_size("4", 1, &v), 0);
	CHECK_EQ(v, 4);
	CHECK_EQ(str_size("4", MIB, &v), 0);
	CHECK_EQ(v, 4 * MIB);
	CHECK_EQ(str_size("4k", MIB, &v), 0);
	CHECK_EQ(v, 4096);
	CHECK_EQ(str_size("3G", 1, &v), 0);
	CHECK_EQ(v, 3 * GIB);
	CHECK_EQ(str_size("2t", 1, &v), 0);
	CHECK_EQ(v, 2048 * GIB);
	CHECK_EQ(str_size("16777216T", 1, &v), -ERANGE);
	for (size_t n = 0; n < ARRAY_LEN(bad); n++)
		CHECK_EQ(str_size(bad[n], 1, &v), -EINVAL);
	CHECK_EQ(v, 2048 * GIB);
}

static void test_str_bool(void)
{
	bool b = false;

	CHECK_EQ(str_bool("YES", &b), 0);
	CHECK(b);
	CHECK_EQ(str_bool("oFf", &b), 0);
	CHECK(!b);
	CHECK_EQ(str_bool("1", &b), 0);
	CHECK(b);
	CHECK_EQ(str_bool("0", &b), 0);
	CHECK(!b);
	CHECK_EQ(str_bool("2", &b), -EINVAL);
	CHECK_EQ(str_bool("", &b), -EINVAL);
	CHECK_EQ(str_bool("tru", &b), -EINVAL);
}

static void test_str_mac(void)
{
	static const uint8_t want[6] = { 0x58, 0x9c, 0xfc, 0x01, 0xab, 0xff };
	static const char *const bad[] = { "",
					   "58:9c:fc:01:ab",
					   "58:9c:fc:01:ab:f",
					   "58:9c:fc:01:ab:ff:",
					   "58:9c:fc:01:ab:ff0",
					   "58:9c:fc:01:ab: f",
					   "58:9c:fc:01:ab:+f",
					   "58:9c:fc:01:ab:-f",
					   "58.9c.fc.01.ab.ff",
					   "589cfc01abff",
					   "58:9c:fc:01:ab:0x" };
	uint8_t mac[6] = { 0 };

	CHECK_EQ(str_mac("58:9c:FC:01:aB:ff", mac), 0);
	CHECK(memcmp(mac, want, 6) == 0);
	CHECK_EQ(str_mac("58-9c-fc-01-ab-ff", mac), 0);
	CHECK(memcmp(mac, want, 6) == 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (str_mac(bad[i], mac) != -EINVAL)
			CHECK_FAIL("\"%s\" is accepted", bad[i]);
}

static void test_str_copy_and_format(void)
{
	char buf[4] = "zzz", *s;

	CHECK_EQ(str_copy(buf, sizeof(buf), "abc"), 0);
	CHECK_STR(buf, "abc");
	CHECK_EQ(str_copy(buf, sizeof(buf), "abcd"), -ENAMETOOLONG);
	CHECK_STR(buf, "abc");
	CHECK_EQ(str_copy(buf, 1, "x"), -ENAMETOOLONG);
	CHECK_STR(buf, "");
	CHECK_EQ(str_copy(buf, 0, "x"), -ENAMETOOLONG);
	s = str_format("%s-%d", "vcpu", 3);
	CHECK_STR(s, "vcpu-3");
	free(s);
	CHECK(str_starts("hw.disk", "hw."));
	CHECK(str_starts("x", ""));
	CHECK(!str_starts("h", "hw"));
}

static void test_str_nearest(void)
{
	static const char *const keys[] = { "memory", "cpus", "sockets", "bootrom", "bootvars" };
	char big[200];

	CHECK_STR(str_nearest("memroy", keys, ARRAY_LEN(keys)), "memory");
	CHECK_STR(str_nearest("cpu", keys, ARRAY_LEN(keys)), "cpus");
	CHECK_STR(str_nearest("CPUS", keys, ARRAY_LEN(keys)), "cpus");
	CHECK_STR(str_nearest("bootvar", keys, ARRAY_LEN(keys)), "bootvars");
	CHECK_STR(str_nearest("sokcet", keys, ARRAY_LEN(keys)), "sockets");
	CHECK(!str_nearest("zebra", keys, ARRAY_LEN(keys)));
	CHECK(!str_nearest("", keys, ARRAY_LEN(keys)));
	CHECK(!str_nearest("c", keys, ARRAY_LEN(keys)));
	CHECK(!str_nearest("memroy", keys, 0));
	fill(big, sizeof(big), 'a');
	CHECK(!str_nearest(big, keys, ARRAY_LEN(keys)));
}

static void test_bytes_and_checked(void)
{
	uint8_t b[9];
	uint64_t v = 9;

	put_be32(b + 1, 0x11223344);
	CHECK_EQ(b[1], 0x11);
	CHECK_EQ(get_be32(b + 1), 0x11223344);
	CHECK_EQ(get_le32(b + 1), 0x44332211);
	put_le64(b + 1, 0x0102030405060708ull);
	CHECK_EQ(b[1], 8);
	CHECK_EQ(get_be64(b + 1), 0x0807060504030201ull);
	put_be16(b, 0x1234);
	CHECK_EQ(get_be16(b), 0x1234);
	CHECK(!checked_add(UINT64_MAX, 1, &v));
	CHECK(checked_add(UINT64_MAX - 1, 1, &v));
	CHECK(!checked_mul(1ull << 32, 1ull << 32, &v));
	CHECK(range_inside(10, 0, 10));
	CHECK(!range_inside(11, 0, 10));
	CHECK(!range_inside(1, UINT64_MAX, 10));
	CHECK(range_inside(0, 10, 10));
	CHECK_EQ(ALIGN_UP(4097ull, 4096), 8192);
	CHECK_EQ(ALIGN_DOWN(4097ull, 4096), 4096);
}

struct item {
	int n;
	struct list link;
};

static void test_list(void)
{
	struct list head;
	struct item a = { .n = 1 }, b = { .n = 2 }, c = { .n = 3 }, *i, *tmp;
	int sum = 0;

	list_init(&head);
	CHECK(list_empty(&head));
	list_append(&head, &a.link);
	list_append(&head, &c.link);
	list_insert(&a.link, &b.link);
	list_for_each(i, &head, link)
		sum = sum * 10 + i->n;
	CHECK_EQ(sum, 123);
	CHECK(list_first(&head, struct item, link) == &a);
	list_for_each_safe(i, tmp, &head, link)
		if (i->n == 2)
			list_remove(&i->link);
	list_remove(&b.link);
	sum = 0;
	list_for_each(i, &head, link)
		sum = sum * 10 + i->n;
	CHECK_EQ(sum, 13);
}

static void test_clock(void)
{
	uint64_t a = clock_mono_ns(), b = clock_mono_ns();

	CHECK(b >= a && a > 0);
	CHECK(clock_real_ns() > 1700000000ull * NS_PER_SEC);
}

/* Everything that the log wrote into a pipe. */
static void log_drain(int fd, char *buf, size_t size)
{
	ssize_t n = read(fd, buf, size - 1);

	buf[n < 0 ? 0 : n] = '\0';
}

static size_t count_lines(const char *s)
{
	size_t n = 0;

	while ((s = strchr(s, '\n'))) {
		n++;
		s++;
	}
	return n;
}

static void test_log(void)
{
	char buf[8192], big[3000];
	int p[2];

	CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	log_set(p[1], LOG_LEVEL_WARN);
	CHECK_EQ(log_level_get(), LOG_LEVEL_WARN);
	log_warn("nvme0", "queue %d", 7);
	log_info("nvme0", "not kept");
	log_error("x", "two\nlines\x1b[2J");
	log_drain(p[0], buf, sizeof(buf));
	CHECK_STR(buf, "WARN nvme0: queue 7\nERROR x: two?lines?[2J\n");
	fill(big, sizeof(big), 'q');
	log_error(big, "%s", big);
	log_drain(p[0], buf, sizeof(buf));
	CHECK_EQ(count_lines(buf), 1);
	CHECK_EQ(strlen(buf), 1023);
	log_set(-1, LOG_LEVEL_DEBUG);
	log_error("x", "nowhere");
	log_drain(p[0], buf, sizeof(buf));
	CHECK_STR(buf, "");
	log_set(2, LOG_LEVEL_INFO);
	close(p[0]);
	close(p[1]);
}

static void test_log_limited(void)
{
	struct log_site site = { 0 };
	char buf[8192];
	int p[2];

	CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	log_set(p[1], LOG_LEVEL_INFO);
	for (int i = 0; i < 1000; i++)
		log_write_limited(&site, LOG_LEVEL_WARN, "dev", "bad register %d", i);
	log_drain(p[0], buf, sizeof(buf));
	CHECK_EQ(count_lines(buf), LOG_BURST);
	site.window_start_ns -= LOG_WINDOW_NS;
	log_write_limited(&site, LOG_LEVEL_WARN, "dev", "again");
	log_drain(p[0], buf, sizeof(buf));
	CHECK_STR(buf, "WARN dev: 990 more lines like the next one were dropped\n"
		       "WARN dev: again\n");
	for (int i = 0; i < 100; i++)
		log_limited(LOG_LEVEL_INFO, "dev", "%d", i);
	log_drain(p[0], buf, sizeof(buf));
	CHECK_EQ(count_lines(buf), LOG_BURST);
	log_set(2, LOG_LEVEL_INFO);
	close(p[0]);
	close(p[1]);
}

static void test_fd_full(void)
{
	char buf[8] = { 0 };
	int fd = fd_memfd("test", 16), p[2];

	CHECK(fd >= 0);
	CHECK_EQ(fd_pwrite_full(fd, "abcdef", 6, 10), 0);
	CHECK_EQ(fd_pread_full(fd, buf, 6, 10), 0);
	CHECK_STR(buf, "abcdef");
	CHECK_EQ(fd_pread_full(fd, buf, 7, 10), -EIO);
	CHECK_EQ(fd_read_full(fd, buf, 0), 0);
	fd_close(&fd);
	CHECK_EQ(fd, -1);
	fd_close(&fd);
	CHECK_EQ(fd_read_full(-1, buf, 1), -EBADF);
	CHECK_EQ(fd_write_full(-1, buf, 1), -EBADF);
	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	CHECK_EQ(fd_write_full(p[1], "xyz", 3), 0);
	close(p[1]);
	CHECK_EQ(fd_read_full(p[0], buf, 2), 0);
	CHECK_EQ(fd_read_full(p[0], buf, 2), -EIO);
	close(p[0]);
	CHECK_EQ(fd_memfd("test", UINT64_MAX), -EFBIG);
}

static void test_fd_read_file(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", *s = NULL;
	int fd = mkstemp(path);
	size_t len = 0;

	CHECK(fd >= 0);
	CHECK_EQ(fd_read_file(path, 10, &s, &len), 0);
	CHECK_EQ(len, 0);
	CHECK_STR(s, "");
	free(s);
	CHECK_EQ(fd_write_full(fd, "0123456789", 10), 0);
	CHECK_EQ(fd_read_file(path, 10, &s, &len), 0);
	CHECK_EQ(len, 10);
	CHECK_STR(s, "0123456789");
	free(s);
	s = NULL;
	CHECK_EQ(fd_read_file(path, 9, &s, &len), -EFBIG);
	CHECK(!s);
	close(fd);
	unlink(path);
	CHECK_EQ(fd_read_file(path, 9, &s, &len), -ENOENT);
	CHECK_EQ(fd_read_file("/tmp", 9, &s, &len), -EISDIR);
	CHECK_EQ(fd_read_file("/dev/null", 9, &s, &len), -EINVAL);
	CHECK_EQ(fd_read_file("/proc/self/status", 1 << 20, &s, &len), 0);
	CHECK(len > 100 && strlen(s) == len);
	free(s);
	CHECK_EQ(fd_read_file("/proc/self/status", 100, &s, &len), -EFBIG);
}

static void test_fd_flags(void)
{
	int fd = fd_event_new();

	CHECK(fd >= 0);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(fd_set_inherit(fd), 0);
	CHECK(!(fcntl(fd, F_GETFD) & FD_CLOEXEC));
	fd_inherit_none();
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(!(fcntl(STDERR_FILENO, F_GETFD) & FD_CLOEXEC));
	CHECK_EQ(fd_event_clear(fd), 0);
	fd_event_set(fd);
	fd_event_set(fd);
	CHECK_EQ(fd_event_clear(fd), 2);
	CHECK_EQ(fd_event_clear(fd), 0);
	fd_close(&fd);
	CHECK_EQ(fd_set_nonblock(-1), -EBADF);
	CHECK_EQ(fd_set_inherit(-1), -EBADF);
}

static void test_fd_pass(void)
{
	int s[2], out[3], in[2] = { -1, -1 };
	size_t n = 2;
	char c = 0;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	for (int i = 0; i < 3; i++)
		out[i] = fd_event_new();
	fd_event_set(out[1]);
	CHECK_EQ(fd_send_fds(s[0], "x", 1, out, 3), 1);
	CHECK_EQ(fd_recv_fds(s[1], &c, 1, in, &n), 1);
	CHECK_EQ(c, 'x');
	CHECK_EQ(n, 2);
	CHECK_EQ(fd_event_clear(in[1]), 1);
	CHECK(fcntl(in[0], F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(fd_send_fds(s[0], "y", 1, NULL, 0), 1);
	CHECK_EQ(fd_recv_fds(s[1], &c, 1, in, &n), 1);
	CHECK_EQ(n, 0);
	CHECK_EQ(fd_send_fds(s[0], "", 0, NULL, 0), -EINVAL);
	close(s[0]);
	n = 2;
	CHECK_EQ(fd_recv_fds(s[1], &c, 1, in, &n), 0);
	CHECK_EQ(fd_send_fds(s[1], "z", 1, NULL, 0), -EPIPE);
	close(s[1]);
}

static void *stack_size(void *arg)
{
	pthread_attr_t attr;

	if (pthread_getattr_np(pthread_self(), &attr) == 0) {
		pthread_attr_getstacksize(&attr, arg);
		pthread_attr_destroy(&attr);
	}
	return NULL;
}

/* No stack is large enough for a huge page. */
static void test_thread_stack(void)
{
	pthread_t t;
	size_t size = 0;

	CHECK_EQ(thread_start(&t, stack_size, &size), 0);
	CHECK_EQ(pthread_join(t, NULL), 0);
	CHECK(size >= 64 * KIB && size < 2 * MIB);
}

static const struct test_case cases[] = {
	{ "err_set", test_err_set },
	{ "err_take_code", test_err_code },
	{ "err_prefix", test_err_prefix },
	{ "str_numbers", test_str_numbers },
	{ "str_size", test_str_size },
	{ "str_bool", test_str_bool },
	{ "str_mac", test_str_mac },
	{ "str_copy_and_format", test_str_copy_and_format },
	{ "str_nearest", test_str_nearest },
	{ "bytes_and_checked", test_bytes_and_checked },
	{ "list", test_list },
	{ "clock", test_clock },
	{ "log", test_log },
	{ "log_limited", test_log_limited },
	{ "fd_full", test_fd_full },
	{ "fd_read_file", test_fd_read_file },
	{ "fd_flags", test_fd_flags },
	{ "fd_pass", test_fd_pass },
	{ "thread_stack", test_thread_stack },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
