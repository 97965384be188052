/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdio.h>
#include <string.h>

#include "bench/tb.h"
#include "hw/lpc.h"
#include "hw/models.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"

#define PM 0x600
#define PM1_STS (PM + 0)
#define PM1_EN (PM + 2)
#define PM1_CNT (PM + 4)
#define PM_TMR (PM + 8)
#define GPE0_STS (PM + 0x20)
#define GPE0_EN (PM + 0x28)
#define SCI 9
#define PWRBTN 0x100
#define S5 0x2000 /* SLP_EN with type 0 */

struct setup {
	struct tb *tb;
	struct dev *host, *lpc;
};

static struct dev *add(struct tb *tb, const struct dev_ops *ops, uint8_t devfn)
{
	struct err err = { 0 };
	struct dev *d;

	tb_next_slot(tb, devfn);
	d = tb_add(tb, ops, NULL, &err);
	if (!d)
		CHECK_FAIL("tb_add: %s", err.text);
	return d;
}

static struct setup make(void)
{
	struct setup s = { .tb = tb_new(NULL) };

	s.host = add(s.tb, &hostbridge_ops, 0);
	s.lpc = add(s.tb, &lpc_ops, 0xf8);
	return s;
}

/* As both OVMF releases do it. */
static struct setup make_on(void)
{
	struct setup s = make();

	tb_cfg_write(s.lpc, 0x40, 4, PM | 1);
	tb_cfg_write(s.lpc, 0x44, 1, 0x80);
	return s;
}

static void identity(void)
{
	struct setup s = make();

	CHECK_EQ(tb_cfg_read(s.host, 0, 4), 0x29c08086);
	CHECK_EQ(tb_cfg_read(s.host, 8, 4) >> 8, 0x060000);
	CHECK_EQ(tb_cfg_read(s.host, 0x3d, 1), 0); /* no interrupt pin */
	CHECK_EQ(tb_cfg_read(s.lpc, 0, 4), 0x29188086);
	CHECK_EQ(tb_cfg_read(s.lpc, 8, 4) >> 8, 0x060100);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x0e, 1), 0);
	add(s.tb, &virtio_rnd_ops, 0xfa);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x0e, 1), 0x80); /* the firmware asks functions 1-7 now */
	tb_free(s.tb);
}

static void lpc_registers(void)
{
	static const uint8_t pirqs[] = { 0x60, 0x61, 0x62, 0x63, 0x68, 0x69, 0x6a, 0x6b };
	struct setup s = make();

	/* The firmware's serial console and keyboard depend on the I/O bit (OVMF's SioBusDxe). */
	CHECK_EQ(tb_cfg_read(s.lpc, 0x04, 2), 7);
	tb_cfg_write(s.lpc, 0x04, 2, 0);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x04, 2), 7);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x40, 4), 1);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x44, 1), 0);
	for (size_t i = 0; i < ARRAY_LEN(pirqs); i++)
		CHECK_EQ(tb_cfg_read(s.lpc, pirqs[i], 1), 0x80);
	tb_cfg_write(s.lpc, 0x60, 4, 0x0b0b0a0a);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x60, 4), 0x0b0b0a0a);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x68, 4), 0x80808080);
	tb_cfg_write(s.lpc, 0x40, 4, 0xffffffff);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x40, 4), 0xff81);
	tb_cfg_write(s.lpc, 0xf0, 4, 0xfed1c001);
	CHECK_EQ(tb_cfg_read(s.lpc, 0xf0, 4), 0xfed1c001);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(tb_cfg_read(s.lpc, 0x40, 4), 1);
	CHECK_EQ(tb_cfg_read(s.lpc, 0x60, 4), 0x80808080);
	CHECK_EQ(tb_cfg_read(s.lpc, 0xf0, 4), 0);
	tb_free(s.tb);
}

static void pm_block_is_placed(void)
{
	struct setup s = make();

	tb_cfg_write(s.lpc, 0x40, 4, PM);
	CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), 0xffff); /* not without ACPI_EN */
	tb_cfg_write(s.lpc, 0x44, 1, 0x80);
	CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), 1);
	tb_cfg_write(s.lpc, 0x40, 4, 0xb000);
	CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), 0xffff);
	CHECK_EQ(tb_in(s.tb, 0xb004, 2), 1);
	CHECK(tb_in(s.tb, 0xb008, 4) <= 0xffffff);
	tb_cfg_write(s.lpc, 0x44, 1, 0);
	CHECK_EQ(tb_in(s.tb, 0xb004, 2), 0xffff);
	CHECK_EQ(tb_in(s.tb, 0xb008, 4), 0xffffffff);
	tb_cfg_write(s.lpc, 0x44, 1, 0x80);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(tb_in(s.tb, 0xb004, 2), 0xffff);
	tb_free(s.tb);
}

static void power_button(void)
{
	struct setup s = make_on();

	lpc_power_button(s.lpc);
	CHECK_EQ(tb_in(s.tb, PM1_STS, 2), PWRBTN);
	CHECK(!tb_wire(s.tb, SCI));
	tb_out(s.tb, PM1_EN, 2, PWRBTN);
	CHECK(tb_wire(s.tb, SCI));
	tb_out(s.tb, PM1_STS, 1, 0xff); /* the other byte */
	CHECK(tb_wire(s.tb, SCI));
	tb_out(s.tb, PM1_STS, 2, 0);
	CHECK(tb_wire(s.tb, SCI));
	tb_out(s.tb, PM1_STS + 1, 1, PWRBTN >> 8);
	CHECK(!tb_wire(s.tb, SCI));
	CHECK_EQ(tb_in(s.tb, PM1_STS, 2), 0);
	lpc_power_button(s.lpc);
	CHECK(tb_wire(s.tb, SCI));
	/* Status and enable in one access, as in a 32-bit write. */
	CHECK_EQ(tb_in(s.tb, PM1_STS, 4), PWRBTN << 16 | PWRBTN);
	tb_out(s.tb, PM1_STS, 4, PWRBTN);
	CHECK_EQ(tb_in(s.tb, PM1_STS, 4), 0);
	CHECK(!tb_wire(s.tb, SCI));
	lpc_power_button(s.lpc);
	tb_out(s.tb, PM1_EN, 2, PWRBTN);
	CHECK(tb_reset(s.tb));
	CHECK(!tb_wire(s.tb, SCI));
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 0);
	tb_free(s.tb);
}

static void enable_bits(void)
{
	struct setup s = make_on();

	tb_out(s.tb, PM1_EN, 2, 0xffff);
	CHECK_EQ(tb_in(s.tb, PM1_EN, 2), 0x0521);
	tb_out(s.tb, PM1_EN, 1, 0);
	CHECK_EQ(tb_in(s.tb, PM1_EN, 2), 0x0500);
	tb_out(s.tb, PM1_EN + 1, 1, 0);
	CHECK_EQ(tb_in(s.tb, PM1_EN, 2), 0);
	tb_out(s.tb, PM1_CNT, 2, 0);
	CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), 1); /* SCI_EN stays: there is no other mode */
	for (unsigned int i = 0; i < 8; i++) {
		tb_out(s.tb, (uint16_t)(GPE0_EN + i), 1, 0x11 * i);
		CHECK_EQ(tb_in(s.tb, (uint16_t)(GPE0_STS + i), 1), 0);
	}
	CHECK_EQ(tb_in(s.tb, GPE0_EN, 4), 0x33221100);
	CHECK_EQ(tb_in(s.tb, GPE0_EN + 4, 4), 0x77665544);
	tb_out(s.tb, GPE0_STS, 4, 0xffffffff);
	CHECK_EQ(tb_in(s.tb, GPE0_STS, 4), 0);
	CHECK_EQ(tb_in(s.tb, PM + 0x30, 4), 0); /* SMI_EN */
	CHECK_EQ(tb_in(s.tb, PM + 0x60, 4), 0); /* TCO */
	CHECK(!tb_wire(s.tb, SCI));
	tb_free(s.tb);
}

/* S-01: sleep types by every width. Only type 0 with SLP_EN powers off. */
static void sleep_states(void)
{
	struct setup s = make_on();

	for (unsigned int type = 1; type < 8; type++) {
		tb_out(s.tb, PM1_CNT, 2, S5 | type << 10 | 1);
		tb_out(s.tb, PM1_CNT, 4, S5 | type << 10);
		tb_out(s.tb, PM1_CNT + 1, 1, (S5 | type << 10) >> 8);
		CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), type << 10 | 1); /* SLP_EN reads as zero */
	}
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 0);
	tb_out(s.tb, PM1_CNT, 2, 0x0001);
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 0);
	tb_out(s.tb, PM1_CNT, 2, 0x2001); /* Linux */
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 1);
	tb_out(s.tb, PM1_CNT, 2, S5);
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 1);
	tb_out(s.tb, PM1_CNT, 4, S5);
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 1);
	tb_out(s.tb, PM1_CNT + 1, 1, S5 >> 8);
	CHECK_EQ(tb_requests(s.tb, BUS_POWEROFF), 1);
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 0);
	tb_free(s.tb);
}

static void pm_timer(void)
{
	struct setup s = make_on();
	uint32_t a, b, ticks;
	uint64_t t0, t1;

	for (int i = 0; i < 1000; i++)
		CHECK(tb_in(s.tb, PM_TMR, 4) <= 0xffffff);
	t0 = clock_mono_ns();
	a = tb_in(s.tb, PM_TMR, 4);
	while (clock_mono_ns() < t0 + 20 * NS_PER_MS)
		;
	b = tb_in(s.tb, PM_TMR, 4);
	t1 = clock_mono_ns();
	ticks = (b - a) & 0xffffff;
	CHECK(ticks >= 71500); /* 20 ms at 3.579545 MHz */
	CHECK(ticks <= (t1 - t0) * 3579545 / NS_PER_SEC + 2);
	tb_out(s.tb, PM_TMR, 4, 0); /* read-only */
	CHECK(((tb_in(s.tb, PM_TMR, 4) - b) & 0xffffff) < 0x800000);
	CHECK_EQ(tb_in(s.tb, PM_TMR + 3, 1), 0);
	CHECK_EQ(tb_in(s.tb, PM_TMR + 2, 2) >> 8, 0);
	tb_free(s.tb);
}

/* Its top bit changes every 2.34 s. */
static void pm_timer_interrupt(void)
{
	struct setup s = make_on();

	tb_advance(s.tb, 3 * NS_PER_SEC);
	CHECK_EQ(tb_in(s.tb, PM1_STS, 2), 0); /* nobody asked */
	tb_out(s.tb, PM1_EN, 2, 1);
	tb_advance(s.tb, 2400 * NS_PER_MS);
	CHECK(tb_wire(s.tb, SCI));
	CHECK_EQ(tb_in(s.tb, PM1_STS, 2), 1);
	tb_out(s.tb, PM1_STS, 2, 1);
	CHECK(!tb_wire(s.tb, SCI));
	tb_advance(s.tb, 2400 * NS_PER_MS);
	CHECK(tb_wire(s.tb, SCI));
	CHECK(tb_reset(s.tb));
	tb_cfg_write(s.lpc, 0x40, 4, PM | 1);
	tb_cfg_write(s.lpc, 0x44, 1, 0x80);
	tb_advance(s.tb, 5 * NS_PER_SEC);
	CHECK_EQ(tb_in(s.tb, PM1_STS, 2), 0);
	tb_free(s.tb);
}

static void reset_ports(void)
{
	struct setup s = make();

	CHECK_EQ(tb_in(s.tb, 0x92, 1), 0x02);
	tb_out(s.tb, 0x92, 1, 0x00);
	CHECK_EQ(tb_in(s.tb, 0x92, 1), 0x00);
	tb_out(s.tb, 0x92, 1, 0x02);
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 0);
	tb_out(s.tb, 0x92, 1, 0x03);
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 1);
	CHECK_EQ(tb_in(s.tb, 0x92, 1), 0x02);
	tb_out(s.tb, 0xcf9, 1, 0x02);
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 0);
	CHECK_EQ(tb_in(s.tb, 0xcf9, 1), 0x02);
	tb_out(s.tb, 0xcf9, 1, 0x06); /* firmware */
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 1);
	tb_out(s.tb, 0xcf9, 1, 0x0f); /* FADT */
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 1);
	/* The ports around it stay the configuration address. */
	tb_out(s.tb, 0xcf8, 4, 0x80000600);
	CHECK_EQ(tb_in(s.tb, 0xcf8, 4), 0x80000600);
	CHECK_EQ(tb_requests(s.tb, BUS_RESET), 0);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(tb_in(s.tb, 0xcf9, 1), 0);
	tb_free(s.tb);
}

static void small_ports(void)
{
	struct setup s = make();

	CHECK_EQ(tb_in(s.tb, 0x402, 1), 0xe9);
	tb_out(s.tb, 0x402, 1, 'x');
	tb_out(s.tb, 0x80, 1, 0x12);
	CHECK_EQ(tb_in(s.tb, 0xcd8, 4), 0xffffffff); /* no CPU hotplug block */
	CHECK_EQ(tb_in(s.tb, 0x2e, 1), 0xff);
	tb_free(s.tb);
}

static void rcba(void)
{
	struct setup s = make();

	CHECK_EQ(tb_read(s.tb, 0xfed1c000, 4), 0xffffffff);
	tb_cfg_write(s.lpc, 0xf0, 4, 0xfed1c001);
	CHECK_EQ(tb_read(s.tb, 0xfed1c000, 8), 0);
	tb_write(s.tb, 0xfed1f404, 4, 0xffffffff);
	CHECK_EQ(tb_read(s.tb, 0xfed1f404, 4), 0);
	CHECK_EQ(tb_read(s.tb, 0xfed20000, 4), 0xffffffff);
	tb_cfg_write(s.lpc, 0xf0, 4, 0);
	CHECK_EQ(tb_read(s.tb, 0xfed1c000, 4), 0xffffffff);
	tb_free(s.tb);
}

/* The ECAM window follows PCIEXBAR; the firmware writes it in two halves, enable last. */
static void ecam(void)
{
	static const uint64_t bases[] = { 0xb0000000, 0xe0000000, 0xf00000000 };
	struct setup s = make();

	for (size_t i = 0; i < ARRAY_LEN(bases); i++) {
		tb_cfg_write(s.host, 0x60, 4, 0);
		tb_cfg_write(s.host, 0x64, 4, (uint32_t)(bases[i] >> 32));
		CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), UINT64_MAX);
		tb_cfg_write(s.host, 0x60, 4, (uint32_t)bases[i] | 1);
		CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), bases[i]);
		CHECK_EQ(tb_read(s.tb, bases[i], 4), 0x29c08086);
		CHECK_EQ(tb_read(s.tb, bases[i] + (0xf8 << 12), 2), 0x8086);
		CHECK_EQ(tb_read(s.tb, bases[i] + (0x80 << 12), 4), 0xffffffff);
		CHECK_EQ(tb_read(s.tb, bases[i] + 0xfffffff, 1), 0xff);
		if (i)
			CHECK_EQ(tb_read(s.tb, bases[i - 1], 4), 0xffffffff);
	}
	tb_cfg_write(s.host, 0x60, 1, 0); /* one byte is enough to turn it off */
	CHECK_EQ(tb_read(s.tb, bases[2], 4), 0xffffffff);
	tb_cfg_write(s.host, 0x60, 1, 1);
	CHECK_EQ(tb_read(s.tb, bases[2], 4), 0x29c08086);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), UINT64_MAX);
	CHECK_EQ(tb_cfg_read(s.host, 0x60, 4), 0);
	tb_free(s.tb);
}

static void pam(void)
{
	struct setup s = make();

	tb_cfg_write(s.host, 0x91, 1, 3);
	CHECK_EQ(tb_cfg_read(s.host, 0x91, 1), 3);
	tb_cfg_write(s.host, 0x91, 1, 1);
	CHECK_EQ(tb_cfg_read(s.host, 0x90, 4), 0x100);
	tb_write(s.tb, 0xc0000, 4, 0x12345678); /* always RAM */
	CHECK_EQ(tb_read(s.tb, 0xc0000, 4), 0x12345678);
	tb_free(s.tb);
}

/* G-08, G-15: every offset of the block, the ports and config space, by every width. */
static void odd_widths(void)
{
	struct setup s = make_on();

	for (unsigned int size = 1; size <= 4; size *= 2) {
		for (unsigned int port = PM - 4; port < PM + 0x84; port++) {
			tb_out(s.tb, (uint16_t)port, size, 0xffffffff);
			tb_in(s.tb, (uint16_t)port, size);
			tb_out(s.tb, (uint16_t)port, size, 0);
		}
		for (unsigned int port = 0x8e; port < 0x96; port++)
			tb_out(s.tb, (uint16_t)port, size, 0xffffffff);
		for (unsigned int at = 0; at < 256; at++) {
			tb_cfg_write(s.host, at & ~(size - 1), size, 0xffffffff);
			tb_cfg_write(s.lpc, at & ~(size - 1), size, 0xffffffff);
			tb_cfg_read(s.lpc, at & ~(size - 1), size);
		}
		CHECK(tb_reset(s.tb));
		tb_cfg_write(s.lpc, 0x40, 4, PM | 1);
		tb_cfg_write(s.lpc, 0x44, 1, 0x80);
	}
	CHECK_EQ(tb_in(s.tb, PM1_CNT, 2), 1);
	CHECK_EQ(tb_cfg_read(s.lpc, 0, 4), 0x29188086);
	tb_free(s.tb);
}

/* The list that is printed names every model once, in its own line, and each is found by that name. */
static void table(void)
{
	char text[4096] = "";
	FILE *f = fmemopen(text, sizeof(text), "w");
	char *rest = text, *line;
	int n = 0;

	CHECK(f);
	hw_print(f);
	fclose(f);
	while ((line = strsep(&rest, "\n")) && *line) {
		const struct dev_ops *ops;
		char name[32];

		CHECK_EQ(sscanf(line, "%31s", name), 1);
		ops = hw_find(name);
		CHECK(ops);
		CHECK(ops == hw_table[n]);
		CHECK(strstr(line, ops->help));
		n++;
	}
	CHECK(n > 0 && !hw_table[n]);
	CHECK(!hw_find("ahc"));
	CHECK(!hw_find(""));
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "identity", identity },
		{ "LPC registers", lpc_registers },
		{ "PM block is placed", pm_block_is_placed },
		{ "power button", power_button },
		{ "enable bits", enable_bits },
		{ "sleep states (S-01)", sleep_states },
		{ "PM timer", pm_timer },
		{ "PM timer interrupt", pm_timer_interrupt },
		{ "reset ports (S-01)", reset_ports },
		{ "small ports", small_ports },
		{ "RCBA", rcba },
		{ "ECAM", ecam },
		{ "PAM", pam },
		{ "odd widths (G-08)", odd_widths },
		{ "table of models", table },
	};

	return RUN_CASES(cases, argc, argv);
}
