/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "bench/tb_ahci.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

/* CD drives: what packets do. */
#define BLOCKS 2048u /* of 2 KiB */
#define DATA_SIZE (1 * MIB)
#define PACKET 0xa0
#define GOOD 0x50u
#define CHECK_CONDITION(key) ((key) << 12 | 0x51u)
#define POISON 0x99

enum {
	NOT_READY = 2,
	MEDIUM_ERROR = 3,
	ILLEGAL = 5,
	ATTENTION = 6,
};

static struct tb *tb;
static struct dev *d;
static struct tb_ahci a;
static gpa_t data;

static void start(void)
{
	tb_pci_enable(d);
	tb_msi_enable(d);
	tb_ahci_start(&a, d, 0);
	data = tb_alloc(tb, DATA_SIZE, 4096);
}

static void setup_conf(const char *conf)
{
	static const struct tb_opts opts = { .faults = true };
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
	setup_conf("port.0.type=cd\nport.0.path=mem:4M\n");
}

static uint8_t *bytes(void)
{
	return tb_mem(tb, data, DATA_SIZE);
}

static uint32_t finish(void)
{
	uint32_t tfd;

	tb_ahci_issue(&a, 1, false);
	tfd = tb_ahci_r(&a, TB_AHCI_TFD);
	if (!(tfd & 1))
		CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_run(tb);
	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	return tfd;
}

/* Sends a packet with room for len bytes; the task file. */
static uint32_t packet(const uint8_t *p, uint32_t len)
{
	const struct tb_fis f = { .cmd = PACKET, .feature = 1, .lba = 0xfffe00 };
	const struct tb_prd prd = { data, len };
	uint32_t tfd;

	tb_ahci_build(&a, 0, &f, false, &prd, len ? 1 : 0);
	tb_ahci_packet(&a, 0, p);
	memset(bytes(), POISON, 65536 + 64);
	tfd = finish();
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[12], 3); /* interrupt reason */
	CHECK_EQ(bytes()[tb_ahci_prdbc(&a, 0)], POISON); /* nothing behind what was counted */
	return tfd;
}

#define P(...) ((const uint8_t[12]){ __VA_ARGS__ })

/* Key, code and qualifier that REQUEST SENSE tells. */
static uint32_t sense(void)
{
	CHECK_EQ(packet(P(0x03, 0, 0, 0, 18), 18), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 18);
	return (uint32_t)bytes()[2] << 16 | bytes()[12] << 8 | bytes()[13];
}

static void check_sense(const uint8_t *p, uint32_t len, uint32_t want)
{
	CHECK_EQ(packet(p, len), CHECK_CONDITION(want >> 16));
	CHECK_EQ(sense(), want);
	CHECK_EQ(sense(), 0); /* told once */
}

static void test_identify(void)
{
	struct tb_fis f = { .cmd = 0xa1 };
	struct tb_prd prd = { 0, 512 };

	setup();
	prd.addr = data;
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SIG), 0xeb140101);
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	CHECK_EQ(finish(), GOOD);
	CHECK_EQ(get_le16(bytes()), 0x85c0);
	for (unsigned int i = 0; i < 18; i++)
		CHECK_EQ(bytes()[54 + (i ^ 1)], (uint8_t) "KHYVE SATA DVD ROM"[i]);
	/* IDENTIFY DEVICE is aborted with the signature */
	f.cmd = 0xec;
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	CHECK_EQ(finish(), 0x451);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[5], 0x14);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[6], 0xeb);
	f.cmd = 0xef;
	tb_ahci_build(&a, 0, &f, false, NULL, 0);
	CHECK_EQ(finish(), GOOD);
	/* no disk commands, no queued ones */
	f = (struct tb_fis){ .cmd = 0x25, .device = 0x40, .count = 1 };
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	CHECK_EQ(finish(), 0x451);
	f.cmd = 0x60;
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	CHECK_EQ(finish(), 0x451);
}

static void test_inquiry(void)
{
	setup_conf("port.0.type=cd\nport.0.path=mem:4M\nport.0.model=Test drive\nport.0.rev=9\n");
	CHECK_EQ(packet(P(0x12, 0, 0, 0, 36), 36), GOOD);
	CHECK_EQ(bytes()[0], 5);
	CHECK_EQ(bytes()[1], 0x80);
	CHECK_EQ(bytes()[4], 31);
	CHECK(memcmp(bytes() + 8, "KHYVE   Test drive      9   ", 28) == 0);
	/* allocation lengths */
	CHECK_EQ(packet(P(0x12, 0, 0, 0, 0), 36), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 0);
	CHECK_EQ(packet(P(0x12, 0, 0, 0, 1), 36), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 1);
	CHECK_EQ(packet(P(0x12, 0, 0, 0xff, 0xff), 65536), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 36);
	/* a PRDT shorter than the reply */
	CHECK_EQ(packet(P(0x12, 0, 0, 0, 36), 5), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 5);
	/* pages */
	CHECK_EQ(packet(P(0x12, 1, 0, 0, 36), 36), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 5);
	check_sense(P(0x12, 1, 0x80, 0, 36), 36, 0x52400);
}

static void test_capacity_and_read(void)
{
	setup();
	CHECK_EQ(packet(P(0x00), 0), GOOD);
	CHECK_EQ(packet(P(0x25), 8), GOOD);
	CHECK_EQ(get_be32(bytes()), BLOCKS - 1);
	CHECK_EQ(get_be32(bytes() + 4), 2048);
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0, 1, 0, 0, 4), 8192), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8192);
	CHECK_EQ(bytes()[8191], 0);
	CHECK_EQ(packet(P(0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 4), 8192), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8192);
	CHECK_EQ(packet(P(0xbe, 0, 0, 0, 0, 1, 0, 0, 2, 0x10), 4096), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 4096);
	/* by PIO it is the same */
	{
		const struct tb_fis f = { .cmd = PACKET, .lba = 0x000100 };
		const struct tb_prd prd = { data, 2048 };

		tb_ahci_build(&a, 0, &f, false, &prd, 1);
		tb_ahci_packet(&a, 0, P(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
		CHECK_EQ(finish(), GOOD);
	}
	CHECK_EQ(packet(P(0x2b, 0, 0, 0, 7, 0xff), 0), GOOD); /* seek */
}

static void test_read_limits(void)
{
	struct blk_stats s;

	setup();
	CHECK_EQ(packet(P(0x28), 2048), GOOD); /* zero blocks */
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 0);
	CHECK_EQ(packet(P(0xa8), 2048), GOOD);
	check_sense(P(0xa8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff), 2048, 0x52100);
	check_sense(P(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 2048, 0x52100);
	check_sense(P(0x28, 0, 0, 0, 8, 0, 0, 0, 1), 2048, 0x52100);
	check_sense(P(0x28, 0, 0, 0, 7, 0xff, 0, 0, 2), 4096, 0x52100);
	check_sense(P(0x2b, 0, 0, 0, 8, 0), 0, 0x52100);
	CHECK_EQ(packet(P(0xbe, 0, 0, 0, 0, 1, 0, 0, 0, 0x10), 4096), GOOD);
	check_sense(P(0xbe, 0, 0, 0, 0, 1, 0, 0, 1, 0xf8), 4096, 0x52400);
	check_sense(P(0xbe, 0, 0, 0, 0, 1, 0, 0, 1, 0x10, 1), 4096, 0x52400);
	check_sense(P(0xbe, 4, 0, 0, 0, 1, 0, 0, 1, 0x10), 4096, 0x52400);
	blk_stats_get(tb_disk(tb, 0), &s);
	CHECK_EQ(s.accepted, 0);
	/* memory for less than the transfer */
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0, 0, 0, 0, 2), 2048), 0x451);
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 0), 0x451);
	CHECK(tb_balanced(tb));
}

static void test_read_error(void)
{
	const struct blk_fault f = { .fail_nth = -1, .fail_errno = EIO, .fail_op = -1 };

	setup();
	tb_fault(tb, 0, &f);
	check_sense(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2048, 0x31100);
	tb_fault(tb, 0, NULL);
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2048), GOOD);
}

static void test_bad_memory(void)
{
	const struct tb_fis f = { .cmd = PACKET, .feature = 1 };
	const struct tb_prd prd = { 3 * GIB, 2048 };

	setup();
	for (int read = 0; read < 2; read++) {
		tb_ahci_build(&a, 0, &f, false, &prd, 1);
		tb_ahci_packet(&a, 0,
			       read ? P(0x28, 0, 0, 0, 0, 0, 0, 0, 1) : P(0x12, 0, 0, 0, 36));
		tb_ahci_issue(&a, 1, false);
		CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & BIT(29));
		tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
		tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	}
	CHECK_EQ(packet(P(0x25), 8), GOOD);
}

static void test_toc(void)
{
	static const uint16_t lengths[] = { 0, 1, 3, 4, 11, 12, 20, 65535 };

	setup();
	CHECK_EQ(packet(P(0x43, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(get_be16(bytes()), 18);
	CHECK_EQ(bytes()[6], 1); /* track */
	CHECK_EQ(bytes()[14], 0xaa);
	CHECK_EQ(get_be32(bytes() + 16), BLOCKS);
	/* minutes, seconds and frames */
	CHECK_EQ(packet(P(0x43, 2, 0, 0, 0, 0, 0xaa, 1, 0), 256), GOOD);
	CHECK_EQ(get_be16(bytes()), 10);
	CHECK_EQ(bytes()[9] * 60 * 75 + bytes()[10] * 75 + bytes()[11], (int)BLOCKS + 150);
	CHECK_EQ(packet(P(0x43, 0, 1, 0, 0, 0, 0, 1, 0), 256), GOOD); /* sessions */
	CHECK_EQ(get_be16(bytes()), 10);
	CHECK_EQ(packet(P(0x43, 0, 2, 0, 0, 0, 0, 1, 0), 256), GOOD); /* raw */
	CHECK_EQ(get_be16(bytes()), 46);
	CHECK_EQ(bytes()[4 + 22 + 3], 0xa2);
	CHECK_EQ(packet(P(0x43, 0, 0, 0, 0, 0, 0, 1, 0, 0x40), 256),
		 GOOD); /* format as ATAPI had it */
	CHECK_EQ(get_be16(bytes()), 10);
	check_sense(P(0x43, 0, 3, 0, 0, 0, 0, 1, 0), 256, 0x52400);
	check_sense(P(0x43, 0, 0, 0, 0, 0, 2, 1, 0), 256, 0x52400);
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		CHECK_EQ(packet(P(0x43, 0, 0, 0, 0, 0, 0, (uint8_t)(lengths[i] >> 8),
				  (uint8_t)lengths[i]),
				65536),
			 GOOD);
		CHECK_EQ(tb_ahci_prdbc(&a, 0), MIN(lengths[i], 20));
	}
}

static void test_modes(void)
{
	setup();
	for (unsigned int page = 0; page < 64; page++) {
		bool known = page == 0x01 || page == 0x2a || page == 0x3f;

		for (int ten = 0; ten < 2; ten++) {
			uint8_t p[12] = { ten ? 0x5a : 0x1a, 0, (uint8_t)page };

			p[ten ? 8 : 4] = 200;
			CHECK_EQ(packet(p, 256), known ? GOOD : CHECK_CONDITION(ILLEGAL));
			if (known && ten)
				CHECK_EQ(get_be16(bytes()) + 2, tb_ahci_prdbc(&a, 0));
			else if (known)
				CHECK_EQ(bytes()[0] + 1, tb_ahci_prdbc(&a, 0));
		}
	}
	check_sense(P(0x5a, 0, 0xc0 | 0x2a, 0, 0, 0, 0, 0, 200), 256, 0x53900);
	CHECK_EQ(packet(P(0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 1), 256), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 1);
}

static void test_information(void)
{
	setup();
	CHECK_EQ(packet(P(0x46, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(get_be32(bytes()) + 4, tb_ahci_prdbc(&a, 0));
	CHECK_EQ(get_be16(bytes() + 6), 8); /* a CD */
	CHECK_EQ(packet(P(0x46, 0, 0, 0, 0, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8);
	CHECK_EQ(packet(P(0x51, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 34);
	CHECK_EQ(bytes()[2], 0x0e);
	check_sense(P(0x51, 1, 0, 0, 0, 0, 0, 1, 0), 256, 0x52400);
	CHECK_EQ(packet(P(0xbd, 0, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8);
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(bytes()[5], 2); /* present */
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(bytes()[2], 0x80); /* no such class */
	check_sense(P(0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8), 256, 0x52400);
	CHECK_EQ(packet(P(0xbb, 0, 0xff, 0xff), 0), GOOD);
}

static void test_unknown(void)
{
	setup();
	for (unsigned int op = 0; op < 256; op++) {
		static const uint8_t known[] = { 0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e,
						 0x25, 0x28, 0x2b, 0x43, 0x46, 0x4a,
						 0x51, 0x5a, 0xa8, 0xbb, 0xbd, 0xbe };

		if (!memchr(known, (int)op, sizeof(known)))
			check_sense(P((uint8_t)op), 2048, 0x52000);
	}
}

static int tray(enum dev_tray what, const char *path)
{
	struct err err = { .text = "" };

	return dev_tray(d, 0, what, path, &err);
}

static uint8_t media_event(void)
{
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 256), GOOD);
	return bytes()[4];
}

/* A person changes the disc while the guest runs. */
static void test_change(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	const struct tb_fis f = { .cmd = PACKET, .feature = 1, .lba = 0xfffe00 };
	struct tb_prd prd = { 0, 2048 };

	setup();
	prd.addr = data;
	CHECK_EQ(tray(DEV_TRAY_LOOK, NULL), 1);
	CHECK_EQ(dev_tray(d, 1, DEV_TRAY_LOOK, NULL, NULL), -ENOENT);
	CHECK_EQ(tray(DEV_TRAY_INSERT, "mem:6M"), -EBUSY);
	/* in the middle of a read, or locked: not now */
	tb_fault(tb, 0, &hold);
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	tb_ahci_packet(&a, 0, P(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tray(DEV_TRAY_FORCE, NULL), -EBUSY);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(packet(P(0x1e, 0, 0, 0, 1), 0), GOOD);
	CHECK_EQ(media_event(), 0);
	CHECK_EQ(tray(DEV_TRAY_EJECT, NULL), -EBUSY);
	CHECK_EQ(media_event(), 1); /* asked once */
	CHECK_EQ(media_event(), 0);
	CHECK_EQ(packet(P(0x00), 0), GOOD);
	tb_forget_disk(tb, 0);
	CHECK_EQ(tray(DEV_TRAY_FORCE, NULL), 0);
	CHECK_EQ(tray(DEV_TRAY_LOOK, NULL), 0);
	CHECK_EQ(media_event(), 3);
	check_sense(P(0x00), 0, 0x23a00);
	check_sense(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2048, 0x23a00);
	/* no such file: nothing changes */
	CHECK(tray(DEV_TRAY_INSERT, "/nonexistent/disc.iso") < 0);
	check_sense(P(0x00), 0, 0x23a00);
	CHECK_EQ(tray(DEV_TRAY_INSERT, "mem:6M"), 1);
	CHECK_EQ(media_event(), 2);
	check_sense(P(0x00), 0, 0x62800);
	CHECK_EQ(packet(P(0x25), 8), GOOD);
	CHECK_EQ(get_be32(bytes()), 6 * MIB / 2048 - 1);
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0xb, 0xff, 0, 0, 1), 2048), GOOD);
	/* not locked any more; and a drive that was empty from the start takes a disc */
	tb_forget_disk(tb, 1);
	CHECK_EQ(tray(DEV_TRAY_EJECT, NULL), 0);
	CHECK_EQ(tray(DEV_TRAY_EJECT, NULL), 0);
	setup_conf("port.0.type=cd\n");
	CHECK_EQ(tray(DEV_TRAY_INSERT, "mem:6M"), 1);
	check_sense(P(0x00), 0, 0x62800);
	CHECK_EQ(packet(P(0x25), 8), GOOD);
	/* it stays over a reboot */
	CHECK(tb_reset(tb));
	start();
	CHECK_EQ(tray(DEV_TRAY_LOOK, NULL), 1);
}

static void test_tray(void)
{
	setup();
	/* locked */
	CHECK_EQ(packet(P(0x1e, 0, 0, 0, 1), 0), GOOD);
	check_sense(P(0x1b, 0, 0, 0, 2), 0, 0x55302);
	CHECK_EQ(packet(P(0x1e, 0, 0, 0, 0), 0), GOOD);
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 1), 0), GOOD); /* spin up */
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 2), 0), GOOD);
	check_sense(P(0x00), 0, 0x23a00);
	check_sense(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2048, 0x23a00);
	check_sense(P(0x25), 8, 0x23a00);
	check_sense(P(0x43, 0, 0, 0, 0, 0, 0, 1, 0), 256, 0x23a00);
	CHECK_EQ(packet(P(0x46, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(get_be16(bytes() + 6), 0);
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(bytes()[5], 1); /* open */
	CHECK_EQ(packet(P(0xbd, 0, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(bytes()[1], 0x10);
	CHECK_EQ(packet(P(0x5a, 0, 0x01, 0, 0, 0, 0, 0, 200), 256), GOOD);
	CHECK_EQ(bytes()[2], 0x70);
	/* closed again: a new medium, told once */
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 3), 0), GOOD);
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(bytes()[4], 2);
	check_sense(P(0x00), 0, 0x62800);
	CHECK_EQ(packet(P(0x00), 0), GOOD);
	/* ejected for a reboot: power-on closes the tray */
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 2), 0), GOOD);
	CHECK(tb_reset(tb));
	start();
	CHECK_EQ(packet(P(0x00), 0), GOOD);
}

static void test_eject_in_read(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	const struct tb_fis f = { .cmd = PACKET, .feature = 1 };
	struct tb_prd prd = { 0, 2048 };

	setup();
	prd.addr = data;
	tb_fault(tb, 0, &hold);
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	tb_ahci_packet(&a, 0, P(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
	tb_ahci_build(&a, 1, &f, false, NULL, 0);
	tb_ahci_packet(&a, 1, P(0x1b, 0, 0, 0, 2));
	tb_ahci_issue(&a, 3, false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 3);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_TFD) & 0x80, 0x80); /* busy */
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 2048);
	check_sense(P(0x00), 0, 0x23a00);
	/* COMRESET in a read */
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 3), 0), GOOD);
	CHECK_EQ(packet(P(0x00), 0), CHECK_CONDITION(ATTENTION));
	tb_fault(tb, 0, &hold);
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	tb_ahci_packet(&a, 0, P(0x28, 0, 0, 0, 0, 0, 0, 0, 1));
	tb_ahci_issue(&a, 1, false);
	tb_ahci_w(&a, TB_AHCI_SCTL, 1);
	tb_ahci_w(&a, TB_AHCI_SCTL, 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0x133);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SIG), 0xeb140101);
	CHECK(tb_balanced(tb));
	CHECK_EQ(packet(P(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2048), GOOD);
}

static void test_empty_drive(void)
{
	setup_conf("port.0.type=cd\n");
	check_sense(P(0x00), 0, 0x23a00);
	CHECK_EQ(packet(P(0x12, 0, 0, 0, 36), 36), GOOD);
	CHECK_EQ(packet(P(0x1b, 0, 0, 0, 3), 0), GOOD);
	check_sense(P(0x00), 0, 0x23a00);
	CHECK_EQ(packet(P(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8), 256), GOOD);
	CHECK_EQ(bytes()[5], 0);
}

/* More than a CD holds is a DVD. */
static void test_dvd(void)
{
	setup_conf("port.0.type=cd\nport.0.path=mem:1G\n");
	CHECK_EQ(packet(P(0x46, 0, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
	CHECK_EQ(get_be16(bytes() + 6), 0x10);
	CHECK_EQ(packet(P(0x43, 2, 0, 0, 0, 0, 0, 1, 0), 256), GOOD);
}

static const struct test_case cases[] = {
	{ "cd IDENTIFY", test_identify },
	{ "A-07 INQUIRY", test_inquiry },
	{ "cd capacity and reads", test_capacity_and_read },
	{ "A-07 read limits", test_read_limits },
	{ "A-07 read errors", test_read_error },
	{ "A-11 bad memory", test_bad_memory },
	{ "A-07 READ TOC", test_toc },
	{ "A-07 MODE SENSE", test_modes },
	{ "A-07 configuration and status", test_information },
	{ "A-07 unknown packets", test_unknown },
	{ "A-07 change of discs", test_change },
	{ "A-07 tray", test_tray },
	{ "A-07 eject and reset in a read", test_eject_in_read },
	{ "A-07 empty drive", test_empty_drive },
	{ "cd DVD", test_dvd },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
