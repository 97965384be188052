/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "bench/tb.h"
#include "fw/fwcfg.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

#define PORT_SELECT 0x510
#define PORT_DATA 0x511
#define PORT_DMA_HIGH 0x514
#define PORT_DMA_LOW 0x518
#define DESC 0x1000 /* guest addresses */
#define BUF 0x2000

enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

static struct tb *tb;
static struct dev *dev;
static struct err err;

/* A device that is not started yet, so that items can be added. */
static void setup(void)
{
	struct env env;

	tb = tb_new(NULL);
	env = (struct env){
		.name = "fwcfg", .loop = tb_loop(tb), .bus = tb_bus(tb), .mem = tb_memory(tb)
	};
	if (dev_new(&fwcfg_ops, &env, NULL, &dev, &err) < 0)
		CHECK_FAIL("%s", err.text);
}

static void start(void)
{
	CHECK_EQ(dev_start(dev, &err), 0);
}

static void teardown(void)
{
	if (dev_is_running(dev))
		dev_pause(dev, NULL, NULL);
	dev_free(dev);
	tb_free(tb);
}

static void select_key(uint16_t key)
{
	tb_out(tb, PORT_SELECT, 2, key);
}

static void read_bytes(void *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)tb_in(tb, PORT_DATA, 1);
}

/* Key of a file as the guest finds it, and its size. 0: not there. */
static uint16_t find(const char *name, uint32_t *size)
{
	uint8_t entry[64];
	uint32_t count;

	select_key(0x19);
	read_bytes(entry, 4);
	count = get_be32(entry);
	while (count--) {
		read_bytes(entry, sizeof(entry));
		if (strcmp((char *)entry + 8, name) != 0)
			continue;
		*size = get_be32(entry);
		return get_be16(entry + 4);
	}
	return 0;
}

static void put_descriptor(uint64_t at, uint32_t control, uint32_t len, uint64_t addr)
{
	uint8_t *d = tb_mem(tb, at, 16);

	put_be32(d, control);
	put_be32(d + 4, len);
	put_be64(d + 8, addr);
}

static void trigger(uint64_t at)
{
	tb_out(tb, PORT_DMA_HIGH, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	tb_out(tb, PORT_DMA_LOW, 4, __builtin_bswap32((uint32_t)at));
}

/* One operation. Returns the control word that the device left. */
static uint32_t dma(uint32_t control, uint32_t len, uint64_t addr)
{
	put_descriptor(DESC, control, len, addr);
	trigger(DESC);
	return get_be32(tb_mem(tb, DESC, 4));
}

static void test_signature(void)
{
	char buf[6];

	setup();
	start();
	read_bytes(buf, 2);
	CHECK(buf[0] == 0 && buf[1] == 0); /* nothing selected */
	select_key(0);
	read_bytes(buf, 6);
	CHECK(memcmp(buf, "QEMU\0\0", 6) == 0);
	select_key(1);
	read_bytes(buf, 6);
	CHECK(memcmp(buf, "\3\0\0\0\0\0", 6) == 0);
	select_key(0x19);
	read_bytes(buf, 6);
	CHECK(memcmp(buf, "\0\0\0\0\0\0", 6) == 0); /* an empty directory */
	teardown();
}

static void test_items_and_files(void)
{
	uint32_t size;
	char buf[8];

	setup();
	CHECK_EQ(fwcfg_add_item(dev, FWCFG_NB_CPUS, "\4", 2, &err), 0);
	CHECK_EQ(fwcfg_add_item(dev, FWCFG_NB_CPUS, "\4", 2, &err), -EEXIST);
	CHECK_EQ(fwcfg_add_item(dev, 0, "\4", 2, &err), -EEXIST);
	CHECK_EQ(fwcfg_add_item(dev, 0x20, "\4", 2, &err), -EINVAL);
	CHECK_EQ(fwcfg_add_file(dev, "etc/one", "abc", 3, &err), 0);
	CHECK_EQ(fwcfg_add_file(dev, "etc/two", "", 0, &err), 0);
	CHECK_EQ(fwcfg_add_file(dev, "etc/one", "abc", 3, &err), -EEXIST);
	CHECK_STR(err.text, "fw_cfg: the file etc/one exists already");
	start();
	select_key(5);
	read_bytes(buf, 2);
	CHECK_EQ(get_le16(buf), 4);
	CHECK_EQ(find("etc/one", &size), 0x20);
	CHECK_EQ(size, 3);
	CHECK_EQ(find("etc/two", &size), 0x21);
	CHECK_EQ(size, 0);
	select_key(0x20);
	read_bytes(buf, 5);
	CHECK(memcmp(buf, "abc\0\0", 5) == 0);
	select_key(0x4020); /* the write bit changes nothing */
	read_bytes(buf, 3);
	CHECK(memcmp(buf, "abc", 3) == 0);
	select_key(0x8020); /* not the same item */
	read_bytes(buf, 3);
	CHECK(memcmp(buf, "\0\0\0", 3) == 0);
	select_key(0x21);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), 0);
	teardown();
}

/* W-01 */
static void test_every_selector(void)
{
	setup();
	CHECK_EQ(fwcfg_add_file(dev, "f", "\xff", 1, &err), 0);
	start();
	for (unsigned int key = 0; key <= 0xffff; key++) {
		unsigned int plain = key & 0xbfff;
		bool known = plain == 0 || plain == 1 || plain == 0x20;

		select_key((uint16_t)key);
		if ((tb_in(tb, PORT_DATA, 1) != 0) != known)
			CHECK_FAIL("selector %x", key);
	}
	select_key(0x20);
	for (unsigned int i = 0; i < 1000000; i++)
		CHECK((tb_in(tb, PORT_DATA, 1) == 0xff) == (i == 0));
	teardown();
}

static void test_dma_read(void)
{
	uint8_t *buf;

	setup();
	CHECK_EQ(fwcfg_add_file(dev, "f", "0123456789", 10, &err), 0);
	start();
	buf = tb_mem(tb, BUF, 16);
	memset(buf, 0xee, 16);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 4, BUF), 0);
	CHECK(memcmp(buf, "0123\xee", 5) == 0);
	CHECK_EQ(dma(DMA_SKIP, 2, 0), 0);
	CHECK_EQ(dma(DMA_READ, 8, BUF), 0);
	CHECK(memcmp(buf, "6789\0\0\0\0\xee", 9) == 0);
	CHECK_EQ(dma(DMA_READ, 2, BUF), 0);
	CHECK(memcmp(buf, "\0\0", 2) == 0);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT, 0, 0), 0);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), '0');
	CHECK_EQ(dma(DMA_SKIP, UINT32_MAX, 0), 0);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), 0);
	CHECK_EQ(dma(0x77 << 16 | DMA_SELECT | DMA_READ, 4, BUF), 0); /* unknown key */
	CHECK(memcmp(buf, "\0\0\0\0", 4) == 0);
	CHECK_EQ(dma(0, 4, BUF), 0);
	teardown();
}

/* W-02 */
static void test_dma_bad(void)
{
	const uint64_t bad[] = { TB_RAM,     TB_RAM - 2,     0xfec00000,
				 UINT64_MAX, UINT64_MAX - 3, 1ull << 63 };
	uint8_t *d;

	setup();
	CHECK_EQ(fwcfg_add_file(dev, "f", "0123456789", 10, &err), 0);
	start();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 4, bad[i]), DMA_ERROR);
		trigger(bad[i]); /* nowhere to answer: nothing happens */
	}
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, UINT32_MAX, BUF), DMA_ERROR);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 0, UINT64_MAX), 0);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 16, TB_RAM - 12), DMA_ERROR);
	/* Over its own descriptor: the answer comes last. */
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 10, DESC), 0);
	d = tb_mem(tb, DESC, 16);
	CHECK(memcmp(d,
		     "\0\0\0\0"
		     "456789",
		     10) == 0);
	/* The descriptor's own end must be RAM, too. */
	trigger(TB_RAM - 8);
	for (uint32_t flags = 0; flags < 32; flags++) {
		uint32_t result = dma(0x20 << 16 | flags, 4, BUF);

		CHECK_EQ(result, (flags & DMA_WRITE) && !(flags & DMA_READ) ? DMA_ERROR : 0);
	}
	teardown();
}

static int written;

static void on_written(void *arg, const uint8_t *data)
{
	CHECK(arg == &written);
	written = data[0];
}

/* W-03 */
static void test_dma_write(void)
{
	uint8_t *buf;
	char back[4];

	setup();
	CHECK_EQ(fwcfg_add_file(dev, "ro", "abcd", 4, &err), 0);
	CHECK_EQ(fwcfg_add_writable(dev, "rw", 4, on_written, &written, &err), 0);
	start();
	buf = tb_mem(tb, BUF, 8);
	memcpy(buf, "WXYZwxyz", 8);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_WRITE, 4, BUF), DMA_ERROR);
	CHECK_EQ(dma(0 << 16 | DMA_SELECT | DMA_WRITE, 4, BUF), DMA_ERROR);
	CHECK_EQ(dma(0x77 << 16 | DMA_SELECT | DMA_WRITE, 4, BUF), DMA_ERROR);
	select_key(0x20);
	read_bytes(back, 4);
	CHECK(memcmp(back, "abcd", 4) == 0);
	written = 0;
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_WRITE, 5, BUF), DMA_ERROR);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_WRITE, UINT32_MAX, BUF), DMA_ERROR);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_WRITE, 4, TB_RAM), DMA_ERROR);
	CHECK_EQ(written, 0);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_WRITE, 3, BUF), 0);
	CHECK_EQ(written, 'W');
	CHECK_EQ(dma(DMA_WRITE, 2, BUF), DMA_ERROR);
	CHECK_EQ(dma(DMA_WRITE, 1, BUF), 0);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_READ, 4, BUF + 4), 0);
	CHECK(memcmp(buf + 4, "WXYW", 4) == 0);
	teardown();
}

/* W-04 */
static void test_dma_address(void)
{
	static const char magic[] = "QEMU CFG";
	uint8_t *buf;

	setup();
	CHECK_EQ(fwcfg_add_file(dev, "f", "0123", 4, &err), 0);
	start();
	buf = tb_mem(tb, BUF, 4);
	for (unsigned int i = 0; i < 8; i++)
		CHECK_EQ(tb_in(tb, (uint16_t)(PORT_DMA_HIGH + i), 1), magic[i]);
	CHECK_EQ(tb_in(tb, PORT_DMA_HIGH, 4), get_le32("QEMU"));
	CHECK_EQ(tb_in(tb, PORT_DMA_LOW, 4), get_le32(" CFG"));
	CHECK_EQ(tb_in(tb, PORT_DMA_LOW + 2, 2), get_le16("FG"));
	/* Narrow writes are no address; a low half alone has a high half of 0. */
	put_descriptor(DESC, 0x20 << 16 | DMA_SELECT | DMA_READ, 4, BUF);
	for (unsigned int i = 0; i < 8; i++)
		tb_out(tb, (uint16_t)(PORT_DMA_HIGH + i), 1, 0xff);
	tb_out(tb, PORT_DMA_LOW, 2, 0);
	tb_out(tb, PORT_DMA_LOW + 2, 2, 0x10);
	CHECK_EQ(buf[0], 0);
	tb_out(tb, PORT_DMA_LOW, 4, __builtin_bswap32(DESC));
	CHECK(memcmp(buf, "0123", 4) == 0);
	/* The high half is used once. */
	memset(buf, 0, 4);
	put_descriptor(DESC, 0x20 << 16 | DMA_SELECT | DMA_READ, 4, BUF);
	tb_out(tb, PORT_DMA_HIGH, 4, 0xffffffff);
	tb_out(tb, PORT_DMA_LOW, 4, __builtin_bswap32(DESC));
	CHECK_EQ(buf[0], 0);
	tb_out(tb, PORT_DMA_LOW, 4, __builtin_bswap32(DESC));
	CHECK(memcmp(buf, "0123", 4) == 0);
	/* Other writes do nothing. */
	select_key(0x20);
	tb_out(tb, PORT_SELECT, 1, 0);
	tb_out(tb, PORT_SELECT, 4, 0);
	tb_out(tb, PORT_DATA, 1, 'x');
	tb_out(tb, 0x512, 2, 0);
	CHECK_EQ(tb_in(tb, PORT_SELECT, 2), 0);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), '0');
	teardown();
}

/* W-05 */
static void test_directory_limits(void)
{
	char name[64];
	uint32_t size;

	setup();
	memset(name, 'n', sizeof(name));
	name[56] = '\0';
	CHECK_EQ(fwcfg_add_file(dev, name, "x", 1, &err), -ENAMETOOLONG);
	CHECK_EQ(fwcfg_add_file(dev, "", "x", 1, &err), -ENAMETOOLONG);
	name[55] = '\0';
	CHECK_EQ(fwcfg_add_file(dev, name, "x", 1, &err), 0);
	for (int i = 1; i < FWCFG_FILES_MAX; i++) {
		char other[16];

		snprintf(other, sizeof(other), "f%d", i);
		CHECK_EQ(fwcfg_add_file(dev, other, "y", 1, &err), 0);
	}
	CHECK_EQ(fwcfg_add_file(dev, "more", "z", 1, &err), -ENOSPC);
	CHECK_STR(err.text, "fw_cfg: no room for the file more: at most 64");
	start();
	CHECK_EQ(find(name, &size), 0x20);
	CHECK_EQ(find("f63", &size), 0x5f);
	CHECK_EQ(find("more", &size), 0);
	select_key(0x5f);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), 'y');
	select_key(0x60);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), 0);
	teardown();
}

static int selects;

static void on_select(void *arg)
{
	char text[2] = { (char)('0' + ++selects), '!' };

	CHECK(arg == &selects);
	CHECK_EQ(fwcfg_replace_file(dev, "lazy", text, (size_t)(selects & 1) + 1), 0);
}

static void test_select(void)
{
	char buf[4];

	setup();
	selects = 0;
	CHECK_EQ(fwcfg_add_file(dev, "lazy", "____", 4, &err), 0);
	CHECK_EQ(fwcfg_add_file(dev, "other", "____", 4, &err), 0);
	fwcfg_on_select(dev, "lazy", on_select, &selects);
	CHECK_EQ(fwcfg_replace_file(dev, "lazy", "12345", 5), -EFBIG);
	CHECK_EQ(fwcfg_replace_file(dev, "none", "1", 1), -ENOENT);
	start();
	select_key(0x21);
	CHECK_EQ(selects, 0);
	select_key(0x20);
	CHECK_EQ(selects, 1);
	read_bytes(buf, 4);
	CHECK(memcmp(buf, "1!\0\0", 4) == 0);
	CHECK_EQ(dma(0x20 << 16 | DMA_SELECT | DMA_READ, 4, BUF), 0);
	CHECK(memcmp(tb_mem(tb, BUF, 4), "2\0\0\0", 4) == 0);
	CHECK_EQ(dma(DMA_READ, 4, BUF), 0);
	CHECK_EQ(selects, 2);
	teardown();
}

static void test_reset(void)
{
	setup();
	CHECK_EQ(fwcfg_add_file(dev, "f", "0123", 4, &err), 0);
	CHECK_EQ(fwcfg_add_writable(dev, "rw", 4, NULL, NULL, &err), 0);
	start();
	memcpy(tb_mem(tb, BUF, 4), "WXYZ", 4);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_WRITE, 4, BUF), 0);
	select_key(0x20);
	tb_out(tb, PORT_DMA_HIGH, 4, 0xffffffff);
	dev_pause(dev, NULL, NULL);
	dev_reset(dev);
	dev_resume(dev);
	CHECK_EQ(tb_in(tb, PORT_DATA, 1), 0);
	CHECK_EQ(dma(0x21 << 16 | DMA_SELECT | DMA_READ, 4, BUF), 0);
	CHECK_EQ(get_le32(tb_mem(tb, BUF, 4)), 0);
	teardown();
}

static const struct test_case cases[] = {
	{ "signature", test_signature },
	{ "items_and_files", test_items_and_files },
	{ "every_selector", test_every_selector },
	{ "dma_read", test_dma_read },
	{ "dma_bad", test_dma_bad },
	{ "dma_write", test_dma_write },
	{ "dma_address", test_dma_address },
	{ "directory_limits", test_directory_limits },
	{ "select", test_select },
	{ "reset", test_reset },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
