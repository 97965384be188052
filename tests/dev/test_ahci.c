/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "test_ahci.h"

/* --- controller --- */

static void test_reset_values(void)
{
	setup_conf("port.0.path=mem:8M\nport.2.path=mem:4M\nport.2.type=cd\n");
	CHECK_EQ(tb_cfg_read(d, 0, 4), 0x29228086);
	CHECK_EQ(tb_cfg_read(d, 8, 4) >> 8, 0x010601);
	CHECK_EQ(tb_bar_size(d, 5), 4096);
	CHECK_EQ(tb_cfg_read(d, 0x92, 2), 5);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_CAP) & 0x1f, 2); /* ports - 1 */
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_CAP) >> 8 & 0x1f, 31);
	CHECK(tb_r32(d, 5, TB_AHCI_CAP) & BIT(30));
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_PI), 5);
	CHECK_EQ(tb_r32(d, 5, 0x10), 0x00010301);
	tb_w32(d, 5, TB_AHCI_GHC, 0); /* AE stays */
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_GHC), 0x80000000);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0x133);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SIG), 0x101);
	CHECK_EQ(tfd(), 0x150);
	a.port = 2;
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SIG), 0xeb140101);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CMD), BIT(24) | 6);
}

static void test_absent_ports(void)
{
	setup_conf("port.0.path=mem:8M\nport.31.path=mem:4M\n");
	CHECK_EQ(tb_bar_size(d, 5), 8192);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_PI), 0x80000001);
	for (a.port = 1; a.port < 31; a.port++)
		for (unsigned int reg = 0; reg < 0x80; reg += 4) {
			tb_ahci_w(&a, reg, UINT32_MAX);
			CHECK_EQ(tb_ahci_r(&a, reg), 0);
		}
	tb_ahci_start(&a, d, 31);
	check_works();
}

static void test_odd_accesses(void)
{
	const unsigned int sizes[] = { 1, 2, 8 };

	setup();
	for (size_t s = 0; s < ARRAY_LEN(sizes); s++)
		for (unsigned int at = 0; at + sizes[s] <= 4096; at++) {
			tb_read(tb, tb_bar(d, 5) + at, sizes[s]);
			if (sizes[s] < 4) /* narrow writes are none */
				tb_write(tb, tb_bar(d, 5) + at, sizes[s], UINT64_MAX);
		}
	CHECK_EQ(tb_r8(d, 5, 0x11), 3); /* VS */
	CHECK_EQ(tb_r64(d, 5, 0x100), a.clb);
	check_works();
	/* all ones everywhere, a controller reset among them */
	for (unsigned int at = 0; at < 4096; at += 4)
		tb_w32(d, 5, at, UINT32_MAX);
	tb_run(tb);
	tb_w32(d, 5, TB_AHCI_GHC, 1);
	tb_ahci_start(&a, d, 0);
	check_works();
}

static void test_interrupts(void)
{
	setup();
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
	CHECK_EQ(tb_irqs(d, 0), 1);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_PIS), IS_DHRS);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_IS), 1);
	/* IS comes back, with a message, while the port still has its event */
	tb_w32(d, 5, TB_AHCI_IS, 1);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_IS), 1);
	CHECK_EQ(tb_irqs(d, 0), 1);
	tb_ahci_w(&a, TB_AHCI_PIS, IS_DHRS);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_IS), 1);
	tb_w32(d, 5, TB_AHCI_IS, 1);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_IS), 0);
	CHECK_EQ(tb_irqs(d, 0), 0);
	/* masked in the port, and in the controller */
	tb_ahci_w(&a, TB_AHCI_IE, 0);
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
	CHECK_EQ(tb_irqs(d, 0), 0);
	tb_ahci_w(&a, TB_AHCI_IE, IS_DHRS);
	CHECK_EQ(tb_irqs(d, 0), 1);
	tb_w32(d, 5, TB_AHCI_GHC, 0x80000000);
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
	CHECK_EQ(tb_irqs(d, 0), 0);
	tb_w32(d, 5, TB_AHCI_GHC, 0x80000002);
	CHECK_EQ(tb_irqs(d, 0), 1);
}

static void test_intx(void)
{
	static const struct tb_opts opts = { .faults = true };

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &ahci_ops, "port.0.path=mem:8M\n", NULL);
	CHECK(d);
	tb_pci_enable(d);
	tb_ahci_start(&a, d, 0);
	data = tb_alloc(tb, DATA_SIZE, 4096);
	CHECK_EQ(rw(READ_EXT, 0, 1, 512), GOOD);
	CHECK(tb_intx(d));
	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	CHECK(tb_intx(d));
	tb_w32(d, 5, TB_AHCI_IS, 1);
	CHECK(!tb_intx(d));
}

/* --- command lists --- */

static void test_headers(void)
{
	const struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 1 };
	struct tb_prd prd = { 0, 512 };

	setup();
	prd.addr = data;
	for (uint32_t cfl = 0; cfl < 32; cfl++) {
		bool good = cfl >= 2 && cfl <= 16;

		tb_ahci_build(&a, 0, &f, false, &prd, 1);
		tb_ahci_header(&a, 0, cfl | 1u << 16, tb_ahci_table(&a, 0));
		tb_ahci_issue(&a, 1, false);
		CHECK_EQ(tfd(), good ? GOOD : ABRT);
		if (!good)
			recover();
	}
	tb_ahci_build(&a, 0, &f, false, &prd, 1);
	*(uint8_t *)tb_mem(tb, tb_ahci_table(&a, 0), 1) = 0x34; /* not from the host */
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tfd(), ABRT);
	recover();
	/* a control FIS without SRST says nothing */
	tb_ahci_build(&a, 0, &(struct tb_fis){ .flags = 1 }, false, NULL, 0);
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	check_works();
}

static void test_list_places(void)
{
	setup();
	/* moved while the port runs: takes effect at the next start */
	tb_ahci_w(&a, TB_AHCI_CLB, 0xfee00000);
	tb_ahci_w(&a, TB_AHCI_FB, 0xfee00000);
	check_works();
	tb_ahci_w(&a, TB_AHCI_CMD, 0);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	tb_ahci_issue(&a, 1, false);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_HBFS);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 1);
	/* a table that is not in memory */
	tb_ahci_start(&a, d, 0);
	recover();
	tb_ahci_header(&a, 0, 5, UINT64_MAX - 0x7f);
	tb_ahci_issue(&a, 1, false);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_HBFS);
	recover();
	/* FISes that cannot be written */
	tb_ahci_w(&a, TB_AHCI_CMD, 0);
	tb_ahci_w(&a, TB_AHCI_FB, 0xfee00000);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	tb_ahci_build(&a, 0, &(struct tb_fis){ .cmd = FLUSH }, false, NULL, 0);
	tb_ahci_issue(&a, 1, false);
	CHECK(tb_ahci_r(&a, TB_AHCI_PIS) & IS_HBFS);
	tb_ahci_w(&a, TB_AHCI_CMD, 0);
	tb_ahci_start(&a, d, 0);
	check_works();
}

static void test_not_started(void)
{
	setup();
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_ahci_w(&a, TB_AHCI_SACT, 1);
	tb_ahci_issue(&a, UINT32_MAX, false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI) | tb_ahci_r(&a, TB_AHCI_SACT), 0);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	check_works();
}

/* Commands that are not queued run one after the other. */
static void test_many_slots(void)
{
	struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 1 };

	setup();
	for (unsigned int i = 0; i < 32; i++) {
		const struct tb_prd prd = { data + 512 * i, 512 };

		f.lba = i;
		tb_ahci_build(&a, i, &f, false, &prd, 1);
	}
	tb_ahci_issue(&a, UINT32_MAX, false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tfd(), GOOD);
	for (unsigned int i = 0; i < 32; i++)
		CHECK_EQ(tb_ahci_prdbc(&a, i), 512);
	CHECK(tb_balanced(tb));
}

/* --- resets with work in flight --- */

static void hold_some(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };

	tb_irqs(d, 0);
	tb_fault(tb, 0, &hold);
	for (unsigned int i = 0; i < 6; i++)
		build_ncq(i, i % 2 ? NCQ_WRITE : NCQ_READ, 8 * i, 8, (uint8_t)i);
	tb_ahci_issue(&a, 0x3f, true);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0x3f);
	CHECK_EQ(tb_irqs(d, 0), 0);
}

static void let_go(void)
{
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_balanced(tb));
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_PIS), 0); /* nothing is reported late */
	CHECK_EQ(tb_irqs(d, 0), 0);
}

static void test_stop_in_flight(void)
{
	setup();
	hold_some();
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	CHECK(tb_ahci_r(&a, TB_AHCI_CMD) & BIT(15)); /* still running */
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI) | tb_ahci_r(&a, TB_AHCI_SACT), 0);
	/* started again too early: nothing is fetched until the old work is back */
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	tb_ahci_build(&a, 9, &(struct tb_fis){ .cmd = FLUSH }, false, NULL, 0);
	tb_ahci_issue(&a, BIT(9), false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), BIT(9));
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_PIS), IS_DHRS);
	check_works();
	hold_some();
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	tb_irqs(d, 0);
	let_go();
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CMD) & BIT(15), 0);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	check_works();
}

static void test_comreset(void)
{
	setup();
	hold_some();
	tb_ahci_w(&a, TB_AHCI_SCTL, 0x301);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0);
	CHECK_EQ(tfd(), 0x7f);
	tb_ahci_w(&a, TB_AHCI_SCTL, 0x300);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0); /* not before the old work is back */
	let_go();
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0x133);
	CHECK_EQ(tfd(), 0x150);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[0], 0x34);
	CHECK_EQ(tb_ahci_fis(&a, 0x40)[12], 1);
	check_works();
	/* off line and back */
	tb_ahci_w(&a, TB_AHCI_SCTL, 4);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 4);
	tb_ahci_w(&a, TB_AHCI_SCTL, 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 4);
	tb_ahci_w(&a, TB_AHCI_SCTL, 1);
	tb_ahci_w(&a, TB_AHCI_SCTL, 0);
	check_works();
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SERR), 0);
	tb_ahci_w(&a, TB_AHCI_SERR, UINT32_MAX);
}

static void test_hba_reset(void)
{
	setup();
	hold_some();
	tb_w32(d, 5, TB_AHCI_GHC, 0x80000001);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_GHC), 0x80000001);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CMD) & 0x11, 0);
	let_go();
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_GHC), 0x80000000);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SSTS), 0x133);
	tb_ahci_start(&a, d, 0);
	check_works();
	tb_w32(d, 5, TB_AHCI_GHC, 0x80000001);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_GHC), 0x80000000);
	tb_ahci_start(&a, d, 0);
	check_works();
}

static void test_srst(void)
{
	setup();
	hold_some();
	tb_ahci_build(&a, 30, &(struct tb_fis){ .flags = 1, .control = 4 }, false, NULL, 0);
	tb_ahci_build(&a, 31, &(struct tb_fis){ .flags = 1 }, false, NULL, 0);
	tb_ahci_issue(&a, BIT(30), false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0);
	CHECK_EQ(tfd() & 0x80, 0x80);
	tb_ahci_issue(&a, BIT(31), false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), BIT(31));
	let_go();
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK_EQ(tfd(), 0x150);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SIG), 0x101);
	check_works();
	/* between the two, the drive takes no commands */
	tb_ahci_issue(&a, BIT(30), false);
	tb_ahci_build(&a, 1, &(struct tb_fis){ .cmd = FLUSH }, false, NULL, 0);
	tb_ahci_issue(&a, 2, false);
	CHECK_EQ(tfd(), ABRT);
	recover();
	/* CLO clears BSY */
	tb_ahci_issue(&a, BIT(30), false);
	CHECK(tfd() & 0x80);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x18);
	CHECK_EQ(tfd() & 0x88, 0);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CMD) & 8, 0);
}

static void test_pause_in_flight(void)
{
	setup();
	hold_some();
	CHECK(!tb_pause(tb));
	build_ncq(8, NCQ_READ, 0, 1, 8);
	tb_ahci_issue(&a, BIT(8), true);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_pause(tb));
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), BIT(8));
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), BIT(8));
	tb_resume(tb);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT) | tb_ahci_r(&a, TB_AHCI_CI), 0);
	CHECK(tb_balanced(tb));
}

/* A transfer of many parts goes on to its end while pausing. */
static void test_pause_in_parts(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };
	struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 300 };
	struct tb_prd prds[TB_AHCI_PRDS];

	setup();
	for (unsigned int i = 0; i < 300; i++)
		prds[i] = (struct tb_prd){ data + 1024 * i, 512 };
	tb_ahci_build(&a, 0, &f, false, prds, 300);
	tb_fault(tb, 0, &hold);
	tb_ahci_issue(&a, 1, false);
	CHECK(!tb_pause(tb));
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_pause(tb));
	CHECK_EQ(tb_ahci_prdbc(&a, 0), 300 * 512);
	tb_resume(tb);
	CHECK_EQ(tfd(), GOOD);
	/* and a reset between the parts ends it */
	tb_fault(tb, 0, &hold);
	tb_ahci_issue(&a, 1, false);
	tb_ahci_w(&a, TB_AHCI_CMD, 0x10);
	tb_ahci_w(&a, TB_AHCI_PIS, UINT32_MAX);
	tb_w32(d, 5, TB_AHCI_IS, UINT32_MAX);
	tb_irqs(d, 0);
	let_go();
	tb_ahci_w(&a, TB_AHCI_CMD, 0x11);
	check_works();
}

static void test_machine_reset(void)
{
	const struct blk_fault fault = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };

	setup();
	check_works();
	/* the next system may write again, whatever was lost before */
	tb_fault(tb, 0, &fault);
	CHECK_EQ(rw(FLUSH, 0, 0, 0), ABRT);
	CHECK_EQ(rw(WRITE_EXT, 0, 8, 4096), ABRT);
	CHECK(tb_reset(tb));
	start();
	check_works();
}

static void test_bus_master_off(void)
{
	setup();
	tb_bus_master(d, false);
	tb_ahci_build(&a, 0, &(struct tb_fis){ .cmd = FLUSH }, false, NULL, 0);
	tb_ahci_issue(&a, 1, false);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_CI), 1);
	tb_bus_master(d, true);
	recover();
	hold_some();
	tb_bus_master(d, false);
	memset((uint8_t *)tb_mem(tb, a.fb, 256), 0x66, 256);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_balanced(tb));
	CHECK_EQ(tb_ahci_fis(&a, 0x58)[0], 0x66);
	tb_bus_master(d, true);
	recover();
	check_works();
}

static void test_two_ports(void)
{
	const struct tb_fis f = { .cmd = READ_EXT, .device = LBA, .count = 1 };
	struct tb_ahci second;

	setup_conf("port.0.path=mem:8M\nport.1.path=mem:8M\n");
	tb_ahci_start(&second, d, 1);
	hold_some();
	/* the other is not held up */
	tb_ahci_build(&second, 0, &f, false, &(struct tb_prd){ data, 512 }, 1);
	tb_ahci_issue(&second, 1, false);
	CHECK_EQ(tb_ahci_r(&second, TB_AHCI_CI), 0);
	CHECK_EQ(tb_ahci_prdbc(&second, 0), 512);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_ahci_r(&a, TB_AHCI_SACT), 0);
	CHECK_EQ(tb_r32(d, 5, TB_AHCI_IS), 3);
}

static void refused(const char *conf, const char *want)
{
	struct err err = { "" };

	CHECK(!tb_add(tb, &ahci_ops, conf, &err));
	if (!strstr(err.text, want))
		CHECK_FAIL("\"%s\" does not name %s", err.text, want);
}

static void test_settings(void)
{
	setup();
	refused("port.1.ser=x\n", "port.0.path");
	refused("port.32.path=mem:1M\n", "0 to 31");
	refused("port.0.path=mem:1M\nport.0.type=tape\n", "hd, cd");
	refused("port.0.path=mem:1M\nport.0.ser=123456789012345678901\n", "ser");
	refused("port.0.path=mem:1M\nport.3.path=/nonexistent/disk\n", "/nonexistent/disk");
	refused("port.0.path=mem:1M\nport.0.rev=123456789\n", "rev");
}

static const struct test_case cases[] = {
	{ "ahci reset values", test_reset_values },
	{ "A-09 absent ports", test_absent_ports },
	{ "A-10 odd accesses", test_odd_accesses },
	{ "ahci interrupts", test_interrupts },
	{ "ahci INTx", test_intx },
	{ "A-02 command headers", test_headers },
	{ "A-03 command list and FIS places", test_list_places },
	{ "A-04 port not started", test_not_started },
	{ "ahci many slots", test_many_slots },
	{ "A-04 stop in flight", test_stop_in_flight },
	{ "A-04 COMRESET in flight", test_comreset },
	{ "A-04 controller reset in flight", test_hba_reset },
	{ "A-12 software reset in flight", test_srst },
	{ "G-14 pause in flight", test_pause_in_flight },
	{ "G-14 pause and stop between parts", test_pause_in_parts },
	{ "G-14 machine reset", test_machine_reset },
	{ "G-13 bus master off", test_bus_master_off },
	{ "ahci two ports", test_two_ports },
	{ "ahci settings", test_settings },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
