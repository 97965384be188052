/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_DEV_TEST_AHCI_H
#define TESTS_DEV_TEST_AHCI_H

/* What both test programs of the AHCI controller share: a controller whose port 0 has a disk, and its driver. */
#include <errno.h>

#include "bench/tb_ahci.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

#define DISK_SIZE (8 * MIB)
#define SECTORS (DISK_SIZE / 512)
#define DATA_SIZE (2 * MIB)

#define IS_DHRS BIT(0)
#define IS_PSS BIT(1)
#define IS_SDBS BIT(3)
#define IS_OFS BIT(24)
#define IS_HBFS BIT(29)
#define IS_TFES BIT(30)

#define LBA 0x40 /* device register */
#define GOOD 0x50u
#define FAILED(error) ((error) << 8 | 0x51u)
#define ABRT FAILED(0x04u)
#define IDNF FAILED(0x10u)
#define UNC FAILED(0x40u)

enum {
	DSM = 0x06,
	READ_EXT = 0x25,
	WRITE_EXT = 0x35,
	WRITE_FUA_EXT = 0x3d,
	READ_LOG = 0x2f,
	NCQ_READ = 0x60,
	NCQ_WRITE = 0x61,
	READ_DMA = 0xc8,
	WRITE_DMA = 0xca,
	FLUSH = 0xe7,
	FLUSH_EXT = 0xea,
	IDENTIFY = 0xec,
	SET_FEATURES = 0xef,
};

static struct tb *tb;
static struct dev *d;
static struct tb_ahci a;
static gpa_t data;

/* The guest starts port 0. */
static void start(void)
{
	tb_pci_enable(d);
	tb_msi_enable(d);
	tb_ahci_start(&a, d, 0);
	data = tb_alloc(tb, DATA_SIZE, 4096);
	tb_irqs(d, 0);
}

static void setup_conf(const char *conf)
{
	static const struct tb_opts opts = { .faults = true, .high_ram = true };
	struct err err;

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &ahci_ops, conf, &err);
	if (!d)
		CHECK_FAIL("%s", err.text);
	start();
}

static void setup(void)
{
	setup_conf("port.0.path=mem:8M\n");
}

static uint8_t *bytes(size_t n)
{
	return tb_mem(tb, data, n);
}

static uint32_t tfd(void)
{
	return tb_ahci_r(&a, TB_AHCI_TFD);
}

/* After an error: what a driver does to go on. */
static void recover(void)
{
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CMD) & BIT(15), 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI) | tb_ahci_r(&a, TB_AHCI_SACT), 0);
	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	tb_w32(d, TB_AHCI_BAR, TB_AHCI_IS, UINT32_MAX);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
}

/* One command in slot 0 with len bytes at data; the task file when it has ended. */
static uint32_t command(const struct tb_fis *f, uint32_t len)
{
	const struct tb_prd prd = { data, len };
	bool failed;

	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	tb_ahci_build(&a, 0, f, f->cmd == WRITE_EXT || f->cmd == WRITE_DMA, &prd, len ? 1 : 0);
	tb_ahci_issue(&a, 1, false);
	failed = tfd() & 1;
	/* the FIS in memory says the same as the register */
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[0], 0x34);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[2] | (uint32_t)tb_ahci_fis(&a, 0x40)[3] << 8, tfd());
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), failed);
	CHECK_EQ(!!(tb_ahci_r(&a, TB_AHCI_PIS) & IS_TFES), failed);
	CHECK(tb_balanced(tb));
	if (failed) {
		uint32_t t = tfd();

		recover();
		return t;
	}
	return tfd();
}

static uint32_t rw(uint8_t cmd, uint64_t lba, uint16_t count, uint32_t len)
{
	const struct tb_fis f = { .cmd = cmd, .device = LBA, .lba = lba, .count = count };

	return command(&f, len);
}

static void check_works(void)
{
	memset(bytes(4096), 0x42, 4096);
	CHECK_EQ(rw(WRITE_EXT, 100, 8, 4096), GOOD);
	memset(bytes(4096), 0, 4096);
	CHECK_EQ(rw(READ_EXT, 100, 8, 4096), GOOD);
	for (unsigned int i = 0; i < 4096; i++)
		CHECK_EQ(bytes(4096)[i], 0x42);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 4096);
}

static void build_ncq(unsigned int slot, uint8_t cmd, uint64_t lba, uint16_t count, uint8_t tag)
{
	const struct tb_fis f = { .cmd = cmd,
				  .device = LBA,
				  .lba = lba,
				  .feature = count,
				  .count = (uint16_t)(tag << 3) };
	const struct tb_prd prd = { data + 4096 * slot, count ? count * 512u : 4096 };

	tb_ahci_build(&a, slot, &f, cmd == NCQ_WRITE, &prd, 1);
}

#endif
