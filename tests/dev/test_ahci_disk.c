/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "test_ahci.h"

/* --- disk commands --- */

static uint16_t word(unsigned int n)
{
	return get_le16(bytes(512) + 2 * n);
}

static bool has_string(unsigned int at, const char *text)
{
	for (size_t i = 0; text[i]; i++)
		if (bytes(512)[2 * at + (i ^ 1)] != (uint8_t)text[i])
			return false;
	return true;
}

static void test_identify(void)
{
	const struct tb_fis f = { .cmd = IDENTIFY };
	uint8_t sum = 0;

	setup_conf("port.0.path=mem:8M\nport.0.ser=ABC123\nport.0.model=My disk\nport.0.rev=7.1\n"
		   "port.0.nmrr=7200\n");
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_PSS);
	CHECK_EQ(tb_ahci_fis(&a, 0x20)[0], 0x5f);
	CHECK_EQ(tb_ahci_fis(&a, 0x20)[15], GOOD); /* Linux looks here */
	for (unsigned int i = 0; i < 512; i++)
		sum = (uint8_t)(sum + bytes(512)[i]);
	CHECK_EQ(sum, 0);
	CHECK(has_string(10, "ABC123              "));
	CHECK(has_string(27, "My disk   "));
	CHECK(has_string(23, "7.1     "));
	CHECK_EQ(word(60) | (uint32_t)word(61) << 16, SECTORS);
	CHECK_EQ(get_le64(bytes(512) + 200), SECTORS);
	CHECK_EQ(word(75), 31);
	CHECK(word(76) & BIT(8));
	CHECK_EQ(word(83) & 0xc000, 0x4000);
	CHECK_EQ(word(106), 0x4000);
	CHECK_EQ(word(105), 8);
	CHECK_EQ(word(169), 1);
	CHECK_EQ(word(217), 7200);
	CHECK_EQ(word(85) & 0x20, 0x20);
	setup_conf("port.0.path=mem:8M\nport.0.nodelete=true\nport.0.sectorsize=4096\n");
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK_EQ(word(169), 0);
	CHECK_EQ(get_le64(bytes(512) + 200), DISK_SIZE / 4096);
	CHECK_EQ(word(106), 0x5000);
	CHECK_EQ(word(117), 2048);
	CHECK_EQ(rw(READ_EXT, DISK_SIZE / 4096 - 1, 1, 4096), GOOD);
	CHECK_EQ(rw(READ_EXT, DISK_SIZE / 4096, 1, 4096), IDNF);
}

static void test_read_write(void)
{
	static const struct {
		uint8_t write, read;
		bool pio;
	} pairs[] = {
		{ WRITE_EXT, READ_EXT, false }, { WRITE_DMA, READ_DMA, false },
		{ 0x30, 0x20, true },		{ 0x34, 0x24, true },
		{ 0xc5, 0xc4, true },		{ 0x39, 0x29, true },
		{ WRITE_FUA_EXT, READ_EXT, 0 }, { 0xce, READ_EXT, false },
	};

	setup();
	check_works();
	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		memset(bytes(1024), (int)i + 1, 1024);
		CHECK_EQ(rw(pairs[i].write, 10 + i, 2, 1024), GOOD);
		memset(bytes(1024), 0, 1024);
		CHECK_EQ(rw(pairs[i].read, 10 + i, 2, 1024), GOOD);
		CHECK_EQ(bytes(1024)[0], i + 1);
		CHECK_EQ(bytes(1024)[1023], i + 1);
		CHECK_EQ(!!(tb_ahci_r(&a, TB_AHCI_PIS) & IS_PSS), pairs[i].pio);
	}
	/* count 0 means 256 and 65536 */
	CHECK_EQ(rw(READ_DMA, 0, 0, 256 * 512), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 256 * 512);
	CHECK_EQ(rw(READ_EXT, 0, 0, 512), IDNF); /* more than the disk has */
	CHECK_EQ(rw(0x40, 0, 1, 0), GOOD);
	CHECK_EQ(rw(0x42, SECTORS - 1, 1, 0), GOOD);
	CHECK_EQ(rw(0x42, SECTORS, 1, 0), IDNF);
}

static void test_small_commands(void)
{
	static const uint8_t good[] = {
		FLUSH, FLUSH_EXT, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0x90, 0x91
	};
	static const uint8_t bad[] = { 0x00, 0x08, 0xa0, 0xa1, 0xb0, 0xf8,
				       0x27, 0x37, 0xf5, 0x92, 0xff };
	static const uint8_t set[] = { 0x03, 0x05, 0x85, 0x10, 0x90, 0x55, 0xaa, 0x66, 0xcc };
	struct tb_fis f = { .cmd = SET_FEATURES };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		CHECK_EQ(rw(good[i], 0, 0, 0), GOOD);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(rw(bad[i], 0, 0, 512), ABRT);
	for (size_t i = 0; i < ARRAY_LEN(set); i++) {
		f.feature = set[i];
		CHECK_EQ(command(&f, 0), GOOD);
	}
	f.feature = 0x77;
	CHECK_EQ(command(&f, 0), ABRT);
	/* SET MULTIPLE */
	CHECK_EQ(rw(0xc6, 0, 16, 0), GOOD);
	CHECK_EQ(rw(0xc6, 0, 3, 0), ABRT);
	CHECK_EQ(rw(0xc6, 0, 255, 0), ABRT);
	f = (struct tb_fis){ .cmd = IDENTIFY };
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK_EQ(word(59), 0x110);
	/* CHECK POWER MODE: asleep from above, a read wakes it up */
	CHECK_EQ(rw(0xe5, 0, 0, 0), GOOD);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[12], 0);
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
	CHECK_EQ(rw(0xe5, 0, 0, 0), GOOD);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[12], 0xff);
	CHECK_EQ(rw(0xe0, 0, 0, 0), GOOD);
	CHECK_EQ(rw(0xe5, 0, 0, 0), GOOD);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[12], 0);
}

static void test_limits(void)
{
	static const struct {
		uint8_t cmd;
		uint64_t lba;
		uint16_t count;
	} bad[] = {
		{ READ_EXT, SECTORS, 1 },	  { READ_EXT, SECTORS - 1, 2 },
		{ READ_EXT, 0xffffffffffff, 0 },  { READ_DMA, SECTORS - 1, 2 },
		{ WRITE_EXT, SECTORS - 1, 2 },	  { WRITE_DMA, SECTORS, 1 },
		{ WRITE_EXT, 0xffffffffffff, 1 },
	};
	const struct tb_fis chs = { .cmd = READ_DMA, .lba = 1, .count = 1 };
	struct blk_stats s;

	setup();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(rw(bad[i].cmd, bad[i].lba, bad[i].count, 1024), IDNF);
	blk_stats_get(tb_disk(tb, 0), &s);
	CHECK_EQ(s.accepted, 0);
	CHECK_EQ(command(&chs, 512), ABRT); /* no CHS addressing */
	setup_conf("port.0.path=mem:8M\nport.0.ro=true\n");
	CHECK_EQ(rw(WRITE_EXT, 0, 1, 512), ABRT);
	CHECK_EQ(rw(FLUSH_EXT, 0, 0, 0), GOOD);
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
}

/* --- PRDTs --- */

static void test_prdt(void)
{
	struct tb_prd prds[TB_AHCI_PRDS];
	struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 8 };

	setup();
	memset(bytes(8 * 512), 0x21, 8 * 512);
	CHECK_EQ(rw(WRITE_EXT, 0, 8, 8 * 512), GOOD);
	/* no entries, and too few bytes: overflow */
	CHECK_EQ(rw(READ_EXT, 0, 1, 0), ABRT);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 0);
	CHECK_EQ(rw(READ_EXT, 0, 8, 511), ABRT);
	CHECK_EQ(rw(READ_EXT, 0, 8, 1025), ABRT);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 1024); /* whole sectors */
	tb_ahci_build(&a, 0, &f, false, &(struct tb_prd){ data, 512 }, 1);
	tb_ahci_issue(&a, 1, false);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_OFS);
	recover();
	/* more bytes than the transfer */
	CHECK_EQ(rw(READ_EXT, 0, 8, 4 * MIB), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8 * 512);
	/* odd pieces: more of them than fit into one request of the disk */
	memset(bytes(300 * 64), 0, 300 * 64);
	for (unsigned int i = 0; i < 300; i++)
		prds[i] = (struct tb_prd){ data + 64 * i, i % 2 ? 13 : 15 };
	tb_ahci_build(&a, 0, &f, false, prds, 300);
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tfd(), GOOD);
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 8 * 512);
	for (unsigned int i = 0, left = 8 * 512; i < 300; i++) {
		unsigned int n = MIN(prds[i].len, left);

		for (unsigned int k = 0; k < 64; k++)
			CHECK_EQ(bytes(300 * 64)[64 * i + k], k < n ? 0x21 : 0);
		left -= n;
	}
}

static void test_prdt_sliver(void)
{
	struct tb_prd prds[TB_AHCI_PRDS];
	struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 1 };

	/* 256 pieces without a whole sector: refused, not looped over */
	setup();
	for (unsigned int i = 0; i < 300; i++)
		prds[i] = (struct tb_prd){ data, 1 };
	tb_ahci_build(&a, 0, &f, false, prds, 300);
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tfd(), ABRT);
	recover();
	/* 65535 entries in the header */
	tb_ahci_header(&a, 0, 5 | 0xffff0000, tb_ahci_table(&a, 0));
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tfd(), ABRT);
	recover();
	check_works();
}

static void test_prdt_places(void)
{
	const gpa_t bad[] = { 3 * GIB, UINT64_MAX - 511, 0xfee00000,
			      TB_HIGH_GPA + TB_HIGH_RAM - 256 };
	static const uint8_t cmds[] = { READ_EXT, WRITE_EXT, IDENTIFY, DSM };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		for (size_t c = 0; c < ARRAY_LEN(cmds); c++) {
			const struct tb_fis f = {
				.cmd = cmds[c], .device = LBA, .feature = 1, .count = 1
			};
			const struct tb_prd prd = { bad[i], 512 };

			tb_ahci_build(&a, 0, &f, false, &prd, 1);
			tb_ahci_issue(&a, 1, false);
			CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_HBFS);
			recover();
		}
	/* over two regions of memory it is two pieces */
	memset(bytes(512), 0x31, 512);
	CHECK_EQ(rw(WRITE_EXT, 5, 1, 512), GOOD);
	{
		const struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .lba = 5, .count = 1 };
		const struct tb_prd prd = { TB_RAM - 256, 512 };

		tb_ahci_build(&a, 0, &f, false, &prd, 1);
		tb_ahci_issue(&a, 1, false);
	}
	CHECK_EQ(tfd(), GOOD);
	CHECK_EQ(*(uint8_t *)tb_mem(tb, TB_RAM, 1), 0x31);
	CHECK(tb_balanced(tb));
}

/* --- queued commands --- */

static void test_ncq(void)
{
	setup();
	for (unsigned int i = 0; i < 32; i++) {
		memset(tb_mem(tb, data + 4096 * i, 4096), (int)i + 1, 4096);
		build_ncq(i, NCQ_WRITE, 8 * i, 8, (uint8_t)i);
	}
	tb_ahci_issue(&a, UINT32_MAX, true);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI) | tb_ahci_r(&a, TB_AHCI_SACT), 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_PIS), IS_SDBS);
	CHECK_EQ(tb_irqs(d, 0), 1); /* for all */
	CHECK_EQ(get_le32(tb_ahci_fis(&a, 0x58) + 4), UINT32_MAX);
	memset(bytes(32 * 4096), 0, 32 * 4096);
	for (unsigned int i = 0; i < 32; i++)
		build_ncq(i, NCQ_READ, 8 * i, 8, (uint8_t)i);
	tb_ahci_issue(&a, UINT32_MAX, true);
	for (unsigned int i = 0; i < 32; i++)
		CHECK_EQ(*(uint8_t *)tb_mem(tb, data + 4096 * i + 4095, 1), i + 1);
	CHECK(tb_balanced(tb));
	/* forced unit access */
	build_ncq(3, NCQ_WRITE, 0, 1, 3);
	*((uint8_t *)tb_mem(tb, tb_ahci_table(&a, 3), 8) + 7) = LBA | 0x80;
	tb_ahci_issue(&a, 8, true);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0);
}

static void check_log(uint8_t head, uint8_t error)
{
	const struct tb_fis f = { .cmd = READ_LOG, .lba = 0x10, .count = 1 };
	uint8_t sum = 0;

	recover();
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK_EQ(bytes(512)[0], head);
	CHECK_EQ(bytes(512)[2], 0x51);
	CHECK_EQ(bytes(512)[3], error);
	for (unsigned int i = 0; i < 512; i++)
		sum = (uint8_t)(sum + bytes(512)[i]);
	CHECK_EQ(sum, 0);
	check_works();
}

static void test_ncq_errors(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct tb_prd prd = { 0, 512 };

	/* the tag is not the slot */
	setup();
	prd.addr = data;
	build_ncq(2, NCQ_READ, 0, 1, 3);
	tb_ahci_issue(&a, 4, true);
	CHECK_EQ(tfd(), ABRT);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_TFES);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 4);
	check_log(2, 0x04);
	/* count 0 is 65536 */
	build_ncq(1, NCQ_READ, 0, 0, 1);
	tb_ahci_issue(&a, 2, true);
	CHECK_EQ(tfd(), IDNF);
	check_log(1, 0x10);
	/* the same tag while it is at the disk */
	tb_fault(tb, 0, &hold);
	build_ncq(5, NCQ_READ, 0, 1, 5);
	build_ncq(6, NCQ_READ, 0, 1, 6);
	tb_ahci_issue(&a, 0x60, true);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x60);
	tb_ahci_issue(&a, 0x20, true);
	CHECK_EQ(tfd(), ABRT);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x60); /* the error ended them all */
	check_log(5, 0x04);
	/* a command that is not queued among them */
	tb_fault(tb, 0, &hold);
	build_ncq(5, NCQ_READ, 0, 1, 5);
	tb_ahci_build(&a, 7, &(struct tb_fis){ .cmd = READ_EXT, .device = LBA, .count = 1 }, false,
		      &prd, 1);
	tb_ahci_issue(&a, 0x20, true);
	tb_ahci_issue(&a, 0x80, false);
	CHECK_EQ(tfd(), ABRT);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	check_log(0x80, 0x04);
	CHECK(tb_balanced(tb));
}

static void test_ncq_disk_error(void)
{
	const struct blk_fault third = {
		.fail_nth = 3, .fail_errno = EIO, .fail_op = -1, .hold = true
	};

	setup();
	for (unsigned int i = 0; i < 5; i++)
		build_ncq(i, NCQ_READ, i, 1, (uint8_t)i);
	tb_fault(tb, 0, &third);
	tb_ahci_issue(&a, 0x1f, true);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x1f);
	/* the failure is known first; let two others go in front of it, in the same batch */
	blk_fault_release(tb_disk(tb, 0), 1, 2);
	blk_fault_release(tb_disk(tb, 0), 0, 1);
	tb_run(tb);
	CHECK_EQ(tfd(), UNC);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x1c);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x1c); /* the error ended those too */
	check_log(2, 0x40);
}

static void test_read_log(void)
{
	struct tb_fis f = { .cmd = READ_LOG, .count = 1 };

	setup();
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK_EQ(word(0), 1);
	CHECK_EQ(word(0x10), 1);
	CHECK_EQ(word(0x11), 0);
	f.lba = 0x30;
	CHECK_EQ(command(&f, 512), ABRT);
	f.lba = 0x110; /* page 1 */
	CHECK_EQ(command(&f, 512), ABRT);
	f.lba = 0x10;
	f.count = 0;
	CHECK_EQ(command(&f, 512), ABRT);
	f.count = 1;
	CHECK_EQ(command(&f, 100), ABRT); /* PRDT too short */
}

/* --- TRIM --- */

static void put_trim(unsigned int i, uint64_t lba, uint16_t n)
{
	put_le64(bytes(65536) + 8 * i, lba | (uint64_t)n << 48);
}

static void test_trim(void)
{
	struct tb_fis f = { .cmd = DSM, .device = LBA, .feature = 1, .count = 1 };
	struct blk_stats before, after;

	setup();
	memset(bytes(8192), 0x77, 8192);
	CHECK_EQ(rw(WRITE_EXT, 0, 16, 8192), GOOD);
	memset(bytes(4096), 0, 4096);
	put_trim(0, 1, 1);
	put_trim(1, 2, 1); /* goes on where the first ends: one request */
	put_trim(5, 9, 2);
	blk_stats_get(tb_disk(tb, 0), &before);
	CHECK_EQ(command(&f, 512), GOOD);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.accepted - before.accepted, 2);
	CHECK_EQ(rw(READ_EXT, 0, 16, 8192), GOOD);
	for (unsigned int i = 0; i < 16; i++)
		CHECK_EQ(bytes(8192)[512 * i], i == 1 || i == 2 || i == 9 || i == 10 ? 0 : 0x77);
	/* as much as is announced, all of it separate */
	memset(bytes(4096), 0, 4096);
	for (unsigned int i = 0; i < 512; i++)
		put_trim(i, 2 * i, 1);
	f.count = 8;
	blk_stats_get(tb_disk(tb, 0), &before);
	CHECK_EQ(command(&f, 4096), GOOD);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.accepted - before.accepted, 512);
}

static void test_trim_errors(void)
{
	const struct blk_fault second = { .fail_nth = 2,
					  .fail_errno = EIO,
					  .fail_op = BLK_DISCARD };
	struct tb_fis f = { .cmd = DSM, .device = LBA, .feature = 1, .count = 128 };
	struct blk_stats s;

	setup();
	memset(bytes(65536), 0, 65536);
	CHECK_EQ(command(&f, 65536), ABRT); /* 64 KiB of ranges */
	f.count = 0;
	CHECK_EQ(command(&f, 65536), ABRT);
	f.count = 1;
	CHECK_EQ(command(&f, 512), GOOD); /* nothing but empty ranges */
	CHECK_EQ(command(&f, 511), ABRT);
	put_trim(0, 0, 1);
	put_trim(1, SECTORS - 1, 2);
	CHECK_EQ(command(&f, 512), IDNF);
	put_trim(1, 0xffffffffffff, 0xffff);
	CHECK_EQ(command(&f, 512), IDNF);
	blk_stats_get(tb_disk(tb, 0), &s);
	CHECK_EQ(s.accepted, 0);
	put_trim(1, 100, 1);
	tb_fault(tb, 0, &second);
	CHECK_EQ(command(&f, 512), ABRT);
	tb_fault(tb, 0, NULL);
	f.feature = 0;
	CHECK_EQ(command(&f, 512), ABRT);
	setup_conf("port.0.path=mem:8M\nport.0.nodelete=true\n");
	f.feature = 1;
	CHECK_EQ(command(&f, 512), ABRT);
}

/* --- the host's errors, and durability --- */

static void test_failed_flush_until_reset(void)
{
	const struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };

	setup();
	tb_fault(tb, 0, &f);
	CHECK_EQ(rw(FLUSH, 0, 0, 0), ABRT);
	CHECK(rw(WRITE_EXT, 0, 1, 512) != GOOD);
	tb_w32(d, TB_AHCI_BAR, TB_AHCI_GHC, 1); /* a driver's reset is not enough */
	start();
	CHECK(rw(WRITE_EXT, 0, 1, 512) != GOOD);
	CHECK(tb_reset(tb));
	start();
	CHECK_EQ(rw(FLUSH, 0, 0, 0), GOOD);
	CHECK_EQ(rw(WRITE_EXT, 0, 1, 512), GOOD);
}

static void test_disk_errors(void)
{
	struct blk_fault f = { .fail_nth = -1, .fail_errno = EIO, .fail_op = -1 };

	setup_conf("port.0.path=mem:8M\nport.0.on_nospace=error\n");
	tb_fault(tb, 0, &f);
	CHECK_EQ(rw(READ_EXT, 0, 8, 4096), UNC);
	CHECK_EQ(rw(0x24, 0, 8, 4096), UNC);
	CHECK_EQ(rw(WRITE_EXT, 0, 8, 4096), ABRT);
	f.fail_errno = ENOSPC;
	tb_fault(tb, 0, &f);
	CHECK_EQ(rw(WRITE_EXT, 0, 8, 4096), ABRT);
	CHECK_EQ(rw(FLUSH_EXT, 0, 0, 0), ABRT);
	tb_fault(tb, 0, NULL);
	CHECK_EQ(rw(FLUSH, 0, 0, 0), ABRT); /* stays failed */
	CHECK_EQ(rw(WRITE_EXT, 0, 8, 4096), ABRT);
	blk_clear_error(tb_disk(tb, 0));
	check_works();
}

/* Without space on the host a write is kept until there is some (on_nospace=pause). */
static void test_no_space(void)
{
	const struct tb_fis fis = { .cmd = WRITE_EXT, .device = LBA, .lba = 5, .count = 8 };
	struct blk_fault f = { .fail_nth = -1, .fail_errno = ENOSPC, .fail_op = BLK_WRITE };
	const struct tb_prd prd = { data, 4096 };
	struct blk_trouble t;

	setup();
	memset(bytes(4096), 0x42, 4096);
	tb_fault(tb, 0, &f);
	tb_ahci_build(&a, 0, &fis, true, &prd, 1);
	tb_ahci_issue(&a, 1, false);
	tb_advance(tb, 5 * BLK_RETRY_NS);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 1);
	CHECK(blk_trouble_get(dev_disk(d, 0), &t));
	f.fail_nth = 0;
	tb_fault(tb, 0, &f);
	tb_advance(tb, BLK_RETRY_NS);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tfd() & 1, 0);
	CHECK(!blk_trouble_get(dev_disk(d, 0), &t));
	memset(bytes(4096), 0, 4096);
	CHECK_EQ(rw(READ_EXT, 5, 8, 4096), GOOD);
	CHECK_EQ(bytes(4096)[4095], 0x42);
}

/* As in the test of virtio-blk: only a durable write that fails makes the disk fail for good. */
static bool write_is_durable(uint8_t cmd)
{
	const struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_WRITE };
	bool durable;

	tb_fault(tb, 0, &f);
	CHECK_EQ(rw(cmd, 0, 1, 512), ABRT);
	tb_fault(tb, 0, NULL);
	durable = rw(WRITE_EXT, 0, 1, 512) == ABRT;
	blk_clear_error(tb_disk(tb, 0));
	return durable;
}

static void test_durability(void)
{
	struct tb_fis f = { .cmd = SET_FEATURES, .feature = 0x82 };
	struct blk_stats before, after;

	setup();
	CHECK(!write_is_durable(WRITE_EXT));
	CHECK(write_is_durable(WRITE_FUA_EXT));
	CHECK(write_is_durable(0xce));
	blk_stats_get(tb_disk(tb, 0), &before);
	CHECK_EQ(command(&f, 0), GOOD);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.flushes - before.flushes, 1);
	CHECK(write_is_durable(WRITE_EXT));
	CHECK(write_is_durable(WRITE_DMA));
	f.cmd = IDENTIFY;
	CHECK_EQ(command(&f, 512), GOOD);
	CHECK_EQ(word(85) & 0x20, 0);
	f = (struct tb_fis){ .cmd = SET_FEATURES, .feature = 0x02 };
	CHECK_EQ(command(&f, 0), GOOD);
	CHECK(!write_is_durable(WRITE_EXT));
}

static const struct test_case cases[] = {
	{ "D2 failed flush until reset", test_failed_flush_until_reset },
	{ "ahci IDENTIFY", test_identify },
	{ "ahci reads and writes", test_read_write },
	{ "ahci small commands", test_small_commands },
	{ "A-06 limits", test_limits },
	{ "A-01 PRDT lengths", test_prdt },
	{ "A-01 PRDT without a whole sector", test_prdt_sliver },
	{ "A-11 PRDT places", test_prdt_places },
	{ "ahci queued commands", test_ncq },
	{ "A-05 queued command errors", test_ncq_errors },
	{ "A-05 disk error of a queued command", test_ncq_disk_error },
	{ "A-05 READ LOG", test_read_log },
	{ "A-08 TRIM", test_trim },
	{ "A-08 TRIM errors", test_trim_errors },
	{ "ahci disk errors", test_disk_errors },
	{ "ahci disk without space", test_no_space },
	{ "ahci durability", test_durability },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
