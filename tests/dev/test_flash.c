/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/tb.h"
#include "fw/flash.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#define VARS_LEN 0x4000u
#define CODE_LEN 0xc000u
#define CODE_BASE (4 * GIB - CODE_LEN)
#define VARS_BASE (CODE_BASE - VARS_LEN)

static struct tb *tb;
static struct dev *dev;
static struct err err;
static char code_path[64], vars_path[64];
static uint8_t initial[VARS_LEN];

static void write_file(char *path, const void *data, size_t len)
{
	int fd;

	snprintf(path, 64, "/tmp/khyve-test-flash-XXXXXX");
	fd = mkstemp(path);
	CHECK(fd >= 0);
	CHECK_EQ(fd_write_full(fd, data, len), 0);
	close(fd);
}

static void make_files(void)
{
	static uint8_t code[CODE_LEN];

	for (unsigned int i = 0; i < VARS_LEN; i++)
		initial[i] = (uint8_t)(i * 31 + (i >> 8));
	memcpy(initial + 40, "_FVH", 4);
	memset(code, 0xc0, sizeof(code));
	write_file(code_path, code, sizeof(code));
	write_file(vars_path, initial, sizeof(initial));
}

static struct dev *add(void)
{
	char conf[200];

	snprintf(conf, sizeof(conf), "code=%s\nvars=%s\n", code_path, vars_path);
	return tb_add(tb, &flash_ops, conf, &err);
}

static void setup(void)
{
	make_files();
	tb = tb_new(NULL);
	dev = add();
	if (!dev)
		CHECK_FAIL("%s", err.text);
}

static void teardown(void)
{
	tb_free(tb);
	unlink(code_path);
	unlink(vars_path);
}

static void w(uint32_t offset, uint8_t value)
{
	tb_write(tb, VARS_BASE + offset, 1, value);
}

static uint8_t r(uint32_t offset)
{
	return (uint8_t)tb_read(tb, VARS_BASE + offset, 1);
}

static uint8_t status(void)
{
	uint8_t s;

	w(0, 0x70);
	s = r(0);
	w(0, 0xff);
	return s;
}

/* A byte of the file as somebody else sees it now. */
static uint8_t on_disk(uint32_t offset)
{
	int fd = open(vars_path, O_RDONLY | O_CLOEXEC);
	uint8_t b;

	CHECK(fd >= 0);
	CHECK_EQ(fd_pread_full(fd, &b, 1, offset), 0);
	close(fd);
	return b;
}

static void test_places(void)
{
	setup();
	CHECK_EQ(flash_base(dev), VARS_BASE);
	CHECK_EQ(tb_slots(tb), 2);
	CHECK_EQ(r(0), initial[0]);
	CHECK_EQ(r(VARS_LEN - 1), initial[VARS_LEN - 1]);
	CHECK_EQ(tb_read(tb, CODE_BASE, 4), 0xc0c0c0c0);
	CHECK_EQ(tb_read(tb, 0xfffffff0, 1), 0xc0);
	teardown();
}

/* How both firmwares find out what they have (QemuFlashFvbServices). */
static void test_probe(void)
{
	setup();
	w(16, 0x50);
	CHECK_EQ(r(16), initial[16]);
	w(16, 0x70);
	CHECK_EQ(r(16), 0x00);
	w(16, 0xff);
	CHECK_EQ(r(16), initial[16]);
	/* 2025.02 goes on with a program cycle of the byte that is there. */
	w(16, 0x10);
	w(16, initial[16]);
	w(16, 0x70);
	CHECK_EQ(r(16) & 0x10, 0);
	w(16, 0xff);
	CHECK_EQ(r(16), initial[16]);
	teardown();
}

static void test_program(void)
{
	static const uint8_t data[] = { 0x10, 0xff, 0x70, 0x20, 0xd0, 0x50, 0x00 };

	setup();
	for (unsigned int i = 0; i < sizeof(data); i++) {
		w(0x1000 + i, i & 1 ? 0x40 : 0x10);
		w(0x1000 + i, data[i]);
		CHECK_EQ(on_disk(0x1000 + i), initial[0x1000 + i]);
	}
	CHECK_EQ(tb_slots(tb), 2); /* never taken away on the way */
	w(0x1000 + sizeof(data) - 1, 0xff);
	for (unsigned int i = 0; i < sizeof(data); i++) {
		CHECK_EQ(r(0x1000 + i), data[i]);
		CHECK_EQ(on_disk(0x1000 + i), data[i]);
	}
	CHECK_EQ(r(0xfff), initial[0xfff]);
	CHECK_EQ(r(0x1000 + sizeof(data)), initial[0x1000 + sizeof(data)]);
	CHECK_EQ(status(), 0x80);
	teardown();
}

static void test_erase(void)
{
	setup();
	w(0x2123, 0x20);
	w(0x2123, 0xd0);
	w(0x2000, 0xff);
	for (unsigned int i = 0; i < VARS_LEN; i++) {
		uint8_t want = i >= 0x2000 && i < 0x3000 ? 0xff : initial[i];

		if (r(i) != want || on_disk(i) != want)
			CHECK_FAIL("byte %x", i);
	}
	CHECK_EQ(status(), 0x80);
	/* Without the second half of the command nothing is erased. */
	w(0x1000, 0x20);
	w(0x1000, 0xff);
	CHECK_EQ(r(0x1000), initial[0x1000]);
	CHECK_EQ(status(), 0xb0);
	w(0, 0x50);
	CHECK_EQ(status(), 0);
	teardown();
}

static void test_status_view(void)
{
	setup();
	w(5, 0x70);
	CHECK_EQ(tb_slots(tb), 1); /* reads must reach the model */
	CHECK_EQ(r(0x1234), 0);
	CHECK_EQ(tb_read(tb, VARS_BASE, 4), 0);
	w(5, 0xff);
	CHECK_EQ(tb_slots(tb), 2);
	CHECK_EQ(tb_read(tb, VARS_BASE + 1, 1), initial[1]);
	teardown();
}

/* The chip is a byte wide: a wider write is that many cycles. Nothing reaches beyond the end. */
static void test_wide(void)
{
	setup();
	tb_write(tb, VARS_BASE + VARS_LEN - 2, 2, 0x5a10); /* program, at the last byte */
	tb_write(tb, VARS_BASE + VARS_LEN - 2, 4, 0xff);
	CHECK_EQ(r(VARS_LEN - 1), 0x5a);
	CHECK_EQ(r(VARS_LEN - 2), initial[VARS_LEN - 2]);
	CHECK_EQ(tb_read(tb, CODE_BASE, 1), 0xc0);
	teardown();
}

/* P-02: what 2025.02's HSTI driver does to the code. */
static void test_code_is_rom(void)
{
	static const uint8_t bytes[] = { 0x50, 0x70, 0x10, 0x00, 0x20, 0xd0, 0xff };

	setup();
	for (unsigned int i = 0; i < sizeof(bytes); i++) {
		tb_write(tb, CODE_BASE + 0x10, 1, bytes[i]);
		CHECK_EQ(tb_read(tb, CODE_BASE + 0x10, 1), 0xc0);
	}
	CHECK_EQ(tb_slots(tb), 2);
	CHECK_EQ(r(0), initial[0]);
	teardown();
}

static void test_reset(void)
{
	setup();
	w(7, 0x10);
	w(7, 0x77);
	w(7, 0x70);
	CHECK_EQ(tb_slots(tb), 1);
	CHECK(tb_reset(tb));
	CHECK_EQ(tb_slots(tb), 2);
	CHECK_EQ(r(7), 0x77); /* contents stay */
	CHECK_EQ(on_disk(7), 0x77);
	CHECK_EQ(status(), 0);
	w(7, 0x10); /* half a command */
	CHECK(tb_reset(tb));
	w(7, 0x70);
	CHECK_EQ(r(7), 0);
	teardown();
}

/* P-04: at no step is a byte on disk that was not programmed; at each return to the array everything is. */
static void test_power_cut(void)
{
	setup();
	for (unsigned int run = 0; run < 8; run++) {
		uint32_t at = 0x100 + run * 16;

		for (unsigned int i = 0; i < 16; i++) {
			w(at + i, 0x10);
			CHECK_EQ(on_disk(at + i), initial[at + i]);
			w(at + i, (uint8_t)~initial[at + i]);
		}
		w(at, 0xff);
		for (unsigned int i = 0; i < 16; i++)
			CHECK_EQ(on_disk(at + i), (uint8_t)~initial[at + i]);
		CHECK_EQ(on_disk(at + 16), initial[at + 16]);
	}
	teardown();
}

/* P-05: the guest sees a program error, and nothing is lost once the host recovers. */
static void test_host_error(void)
{
	struct rlimit old, tiny;

	setup();
	log_set(-1, LOG_LEVEL_ERROR);
	signal(SIGXFSZ, SIG_IGN);
	CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
	tiny = old;
	tiny.rlim_cur = 16;
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &tiny), 0);
	w(0x200, 0x10);
	w(0x200, 0x99);
	w(0x200, 0xff);
	w(0, 0x70);
	CHECK_EQ(r(0), 0x90);
	CHECK_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
	w(0, 0xff);
	CHECK_EQ(r(0x200), 0x99);
	CHECK_EQ(on_disk(0x200), 0x99);
	w(0, 0x50);
	CHECK_EQ(status(), 0);
	log_set(2, LOG_LEVEL_INFO);
	teardown();
}

static void test_without_slots(void)
{
	const struct tb_opts opts = { .no_slots = true };

	make_files();
	tb = tb_new(&opts);
	CHECK(!add());
	CHECK(strstr(err.text, "cannot map firmware at"));
	teardown();
}

static void test_no_vars(void)
{
	char conf[200];

	make_files();
	tb = tb_new(NULL);
	snprintf(conf, sizeof(conf), "code=%s\n", code_path);
	dev = tb_add(tb, &flash_ops, conf, &err);
	CHECK(dev);
	CHECK_EQ(flash_base(dev), CODE_BASE);
	CHECK_EQ(tb_slots(tb), 1);
	CHECK_EQ(tb_read(tb, VARS_BASE, 1), 0xff);
	CHECK(tb_reset(tb));
	teardown();
}

/* P-03: adding must fail with a message that has this in it. */
static void check_refused(const char *text)
{
	if (add())
		CHECK_FAIL("accepted, not: %s", text);
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" does not say \"%s\"", err.text, text);
	CHECK_EQ(tb_slots(tb), 0);
}

static void test_bad_files(void)
{
	static const uint8_t zeroes[VARS_LEN];
	char real[64];

	make_files();
	tb = tb_new(NULL);
	CHECK_EQ(truncate(vars_path, VARS_LEN - 1), 0);
	check_refused("has 16383 bytes: firmware images are multiples of 4096");
	CHECK_EQ(truncate(vars_path, VARS_LEN - 4096), 0);
	check_refused("has 12288 bytes, which does not go with a bootrom of 49152");
	CHECK_EQ(truncate(vars_path, VARS_LEN + 4096), 0);
	check_refused("does not go with");
	CHECK_EQ(truncate(vars_path, 0), 0);
	check_refused("has 0 bytes");
	CHECK_EQ(truncate(vars_path, 1ll << 40), 0);
	check_refused("bytes: firmware images are");
	unlink(vars_path);
	check_refused("No such file or directory");
	CHECK_EQ(mkfifo(vars_path, 0600), 0);
	check_refused("is not a regular file");
	unlink(vars_path);
	write_file(real, initial, sizeof(initial));
	CHECK_EQ(symlink(real, vars_path), 0);
	check_refused("it is a symbolic link");
	unlink(vars_path);
	unlink(real);
	write_file(vars_path, zeroes, sizeof(zeroes));
	check_refused("is not a UEFI variable store");
	unlink(code_path);
	check_refused("bootrom: cannot open");
	teardown();
}

static void test_locked(void)
{
	struct tb *other;

	setup();
	other = tb;
	tb = tb_new(NULL);
	check_refused("is in use by another guest");
	tb_free(tb);
	tb = other;
	teardown();
}

/* P-01: any bytes anywhere leave the rest of the machine alone. */
static void test_random(void)
{
	uint32_t x = 1;

	setup();
	for (unsigned int i = 0; i < 200000; i++) {
		x = x * 1664525 + 1013904223;
		if (x >> 8 & 1)
			w(x >> 16 & (VARS_LEN - 1), (uint8_t)(x >> 1));
		else
			r(x >> 16 & (VARS_LEN - 1));
	}
	w(0, 0xff);
	w(0, 0xff);
	CHECK_EQ(tb_slots(tb), 2);
	for (unsigned int i = 0; i < VARS_LEN; i++)
		CHECK_EQ(r(i), on_disk(i));
	for (unsigned int i = 0; i < CODE_LEN; i += 4)
		CHECK_EQ(tb_read(tb, CODE_BASE + i, 4), 0xc0c0c0c0);
	teardown();
}

static const struct test_case cases[] = {
	{ "places", test_places },
	{ "probe", test_probe },
	{ "program", test_program },
	{ "erase", test_erase },
	{ "status_view", test_status_view },
	{ "wide", test_wide },
	{ "code_is_rom", test_code_is_rom },
	{ "reset", test_reset },
	{ "power_cut", test_power_cut },
	{ "host_error", test_host_error },
	{ "without_slots", test_without_slots },
	{ "no_vars", test_no_vars },
	{ "bad_files", test_bad_files },
	{ "locked", test_locked },
	{ "random", test_random },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
