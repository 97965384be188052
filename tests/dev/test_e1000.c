/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_e1000.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"

/* Registers, interrupts, EEPROM, PHY, link and life cycle of the e1000 card; see test_e1000_tx.c, test_e1000_rx.c. */

#define MAC "58:9c:fc:01:02:03"

struct fix {
	struct tb *tb;
	struct dev *d;
	struct tb_e1000 e;
};

static void fix_opts(struct fix *f, const char *conf, const struct tb_opts *opts)
{
	struct err err = { .text = "" };

	f->tb = tb_new(opts);
	f->d = tb_add(f->tb, hw_find("e1000"), conf, &err);
	if (!f->d)
		CHECK_FAIL("%s", err.text);
}

static void fix_make(struct fix *f)
{
	fix_opts(f, "mac=" MAC "\n", NULL);
	tb_e1000_init(&f->e, f->d);
}

static void fix_start(struct fix *f)
{
	fix_opts(f, "mac=" MAC "\n", NULL);
	tb_e1000_start(&f->e, f->d);
}

static void fix_end(struct fix *f)
{
	CHECK(tb_balanced(f->tb));
	tb_free(f->tb);
}

static uint32_t r(struct fix *f, unsigned int reg)
{
	return tb_e1000_r(&f->e, reg);
}

static void w(struct fix *f, unsigned int reg, uint32_t v)
{
	tb_e1000_w(&f->e, reg, v);
}

/* A frame that the card accepts. */
static void put_broadcast(struct fix *f)
{
	uint8_t frame[60] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };

	CHECK_EQ(tb_net_put(f->tb, 0, frame, sizeof(frame)), 0);
}

/* --- PCI and registers --- */

static void identity(void)
{
	struct fix f;

	fix_make(&f);
	CHECK_EQ(tb_cfg_read(f.d, 0, 4), 0x100f8086);
	CHECK_EQ(tb_cfg_read(f.d, 8, 4) >> 8, 0x020000);
	CHECK_EQ(tb_cfg_read(f.d, 0x2c, 4), 0x10088086);
	CHECK_EQ(tb_cfg_read(f.d, 0x3d, 1), 1);
	CHECK_EQ(tb_bar_size(f.d, 0), 128 * KIB);
	CHECK_EQ(tb_bar_size(f.d, 2), 8);
	CHECK_EQ(tb_cap(f.d, 0x05, 0), 0);
	fix_end(&f);
}

static void reset_values(void)
{
	struct fix f;

	fix_make(&f);
	CHECK_EQ(r(&f, E1000_CTRL), E1000_CTRL_RESET);
	CHECK_EQ(r(&f, E1000_STATUS), E1000_STATUS_FIXED | E1000_STATUS_LU);
	CHECK_EQ(r(&f, E1000_VET), 0x8100);
	CHECK_EQ(r(&f, E1000_PBA), 0x00100030);
	CHECK_EQ(r(&f, E1000_RCTL), 0);
	CHECK_EQ(r(&f, E1000_TCTL), 0);
	CHECK_EQ(r(&f, E1000_ICR), 0);
	CHECK_EQ(r(&f, E1000_IMS), 0);
	CHECK_EQ(r(&f, E1000_RA), 0x01fc9c58);
	CHECK_EQ(r(&f, E1000_RA + 4), 0x80000302);
	for (unsigned int i = 2; i < 2 * E1000_RAS; i++)
		CHECK_EQ(r(&f, E1000_RA + 4 * i), 0);
	fix_end(&f);
}

/* What Linux' ethtool test writes, reads back, and expects. */
static void register_masks(void)
{
	static const struct {
		uint32_t reg, mask;
	} cases[] = {
		{ E1000_FCAL, 0xffffffff },   { E1000_FCAH, 0x0000ffff },
		{ E1000_FCT, 0x0000ffff },    { E1000_VET, 0x0000ffff },
		{ E1000_RDTR, 0x0000ffff },   { E1000_RDBAH, 0xffffffff },
		{ E1000_RDLEN, 0x000fff80 },  { E1000_RDH, 0x0000ffff },
		{ E1000_RDT, 0x0000ffff },    { E1000_FCRTH, 0x0000fff8 },
		{ E1000_FCTTV, 0x0000ffff },  { E1000_TIPG, 0x3fffffff },
		{ E1000_TDBAH, 0xffffffff },  { E1000_TDLEN, 0x000fff80 },
		{ E1000_RCTL, 0x06dfb3fe },   { E1000_RDBAL, 0xfffffff0 },
		{ E1000_TXCW, 0xc000ffff },   { E1000_TDBAL, 0xfffffff0 },
		{ E1000_TIDV, 0x0000ffff },   { E1000_TADV, 0x0000ffff },
		{ E1000_RADV, 0x0000ffff },   { E1000_ITR, 0x0000ffff },
		{ E1000_RXCSUM, 0x000007ff },
	};
	static const uint32_t values[] = { 0x5a5a5a5a, 0xa5a5a5a5, 0xffffffff, 0 };
	struct fix f;

	fix_make(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (size_t j = 0; j < ARRAY_LEN(values); j++) {
			w(&f, cases[i].reg, values[j]);
			CHECK_EQ(r(&f, cases[i].reg), values[j] & cases[i].mask);
		}
	}
	fix_end(&f);
}

static void narrow_accesses(void)
{
	struct fix f;

	fix_make(&f);
	w(&f, E1000_FCAL, 0x11223344);
	CHECK_EQ(tb_r8(f.d, 0, E1000_FCAL + 1), 0x33);
	CHECK_EQ(tb_r16(f.d, 0, E1000_FCAL + 2), 0x1122);
	tb_w8(f.d, 0, E1000_FCAL, 0xff);
	CHECK_EQ(r(&f, E1000_FCAL), 0x11223344);
	/* One access of eight bytes is two registers. */
	tb_w64(f.d, 0, E1000_RDBAL, 0x0000000112345670ull);
	CHECK_EQ(r(&f, E1000_RDBAL), 0x12345670);
	CHECK_EQ(r(&f, E1000_RDBAH), 1);
	CHECK_EQ(tb_r32(f.d, 0, 0x1fffc), 0);
	tb_w16(f.d, 0, E1000_TDT, 5);
	CHECK_EQ(r(&f, E1000_TDT), 0);
	fix_end(&f);
}

static void e12_arrays(void)
{
	static const struct {
		uint32_t base, count;
	} cases[] = { { E1000_MTA, 128 }, { E1000_RA, 32 }, { E1000_VFTA, 128 } };
	struct fix f;

	fix_make(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		for (uint32_t j = 0; j < cases[i].count; j++)
			w(&f, cases[i].base + 4 * j, 0xabc00000 + j);
		for (uint32_t j = 0; j < cases[i].count; j++)
			CHECK_EQ(r(&f, cases[i].base + 4 * j), 0xabc00000 + j);
		/* What lies behind belongs to nobody, or to the next one. */
		w(&f, cases[i].base + 4 * cases[i].count, 0xffffffff);
	}
	CHECK_EQ(r(&f, E1000_RA + 4 * 32), 0);
	for (uint32_t at = E1000_STATS; at < E1000_STATS + 0x100; at += 4) {
		w(&f, at, 0xffffffff);
		CHECK_EQ(r(&f, at), 0);
	}
	/* Every offset, every width: no value matters. */
	for (uint32_t at = 0; at < E1000_MMIO_SIZE; at += 4) {
		tb_r32(f.d, 0, at);
		tb_r8(f.d, 0, at + 3);
		tb_r64(f.d, 0, MIN(at, E1000_MMIO_SIZE - 8));
	}
	fix_end(&f);
}

static void e14_io_window(void)
{
	struct fix f;

	fix_make(&f);
	tb_w32(f.d, 2, 0, E1000_FCAL);
	tb_w32(f.d, 2, 4, 0x55667788);
	CHECK_EQ(r(&f, E1000_FCAL), 0x55667788);
	CHECK_EQ(tb_r32(f.d, 2, 4), 0x55667788);
	CHECK_EQ(tb_r32(f.d, 2, 0), E1000_FCAL);
	tb_w32(f.d, 2, 0, E1000_MMIO_SIZE);
	tb_w32(f.d, 2, 4, 0xffffffff);
	CHECK_EQ(tb_r32(f.d, 2, 4), 0);
	tb_w32(f.d, 2, 0, 0xffffffff);
	tb_w32(f.d, 2, 4, 0xffffffff);
	CHECK_EQ(tb_r32(f.d, 2, 4), 0);
	tb_w32(f.d, 2, 0, E1000_MMIO_SIZE - 1);
	CHECK_EQ(tb_r32(f.d, 2, 0), E1000_MMIO_SIZE - 4);
	CHECK_EQ(tb_r32(f.d, 2, 4), 0);
	tb_w8(f.d, 2, 4, 1);
	tb_w16(f.d, 2, 1, 0x1234);
	/* Linux resets this card through the window. */
	tb_w32(f.d, 2, 0, E1000_CTRL);
	tb_w32(f.d, 2, 4, E1000_CTRL_RST);
	CHECK_EQ(r(&f, E1000_FCAL), 0);
	CHECK_EQ(r(&f, E1000_CTRL), E1000_CTRL_RESET);
	fix_end(&f);
}

static void control_reset(void)
{
	struct fix f;

	fix_start(&f);
	w(&f, E1000_RA, 0);
	w(&f, E1000_MTA, 1);
	w(&f, E1000_CTRL_DUP, E1000_CTRL_RST);
	CHECK_EQ(r(&f, E1000_CTRL) & E1000_CTRL_RST, 0);
	CHECK_EQ(r(&f, E1000_RA), 0x01fc9c58);
	CHECK_EQ(r(&f, E1000_MTA), 0);
	CHECK_EQ(r(&f, E1000_RDLEN), 0);
	CHECK_EQ(r(&f, E1000_RDT), 0);
	CHECK_EQ(r(&f, E1000_TCTL), 0);
	CHECK_EQ(r(&f, E1000_IMS), 0);
	w(&f, E1000_RA, 0);
	w(&f, E1000_CTRL_EXT, E1000_CTRL_EXT_EE_RST);
	CHECK_EQ(r(&f, E1000_RA), 0x01fc9c58);
	CHECK_EQ(r(&f, E1000_CTRL_EXT), 0);
	fix_end(&f);
}

/* --- settings --- */

static void settings(void)
{
	static const char *const bad[] = { "mac=1\n", "mac=01:00:5e:00:00:01\n",
					   "mac=00:00:00:00:00:00\n", "queues=2\n" };
	struct tb *tb = tb_new(NULL);
	struct dev *a, *b;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { .text = "" };

		CHECK(!tb_add(tb, hw_find("e1000"), bad[i], &err));
		CHECK(err.text[0]);
	}
	a = tb_add(tb, hw_find("e1000"), "mtu=9000\n", NULL);
	b = tb_add(tb, hw_find("e1000"), "backend=none\n", NULL);
	CHECK(a && b);
	tb_pci_enable(a);
	tb_pci_enable(b);
	/* Addresses of their own, from the project's range. */
	CHECK_EQ(tb_r32(a, 0, E1000_RA) & 0xffffff, 0xfc9c58);
	CHECK_EQ(tb_r32(b, 0, E1000_RA) & 0xffffff, 0xfc9c58);
	CHECK(tb_r32(a, 0, E1000_RA) != tb_r32(b, 0, E1000_RA) ||
	      tb_r32(a, 0, E1000_RA + 4) != tb_r32(b, 0, E1000_RA + 4));
	CHECK(tb_r32(a, 0, E1000_STATUS) & E1000_STATUS_LU);
	CHECK(!(tb_r32(b, 0, E1000_STATUS) & E1000_STATUS_LU));
	CHECK(!dev_link(b, 1));
	tb_free(tb);
}

/* --- EEPROM --- */

static uint16_t eerd(struct fix *f, uint32_t addr)
{
	uint32_t v;

	w(f, E1000_EERD, addr << 8 | E1000_EERD_START);
	v = r(f, E1000_EERD);
	CHECK(v & E1000_EERD_DONE);
	return (uint16_t)(v >> 16);
}

static void wire_bit(struct fix *f, bool in)
{
	uint32_t v = E1000_EECD_REQ | E1000_EECD_CS | (in ? E1000_EECD_DI : 0);

	w(f, E1000_EECD, v);
	w(f, E1000_EECD, v | E1000_EECD_SK);
	w(f, E1000_EECD, v);
}

/* As Linux does it: start bit and opcode 110, six bits of address, sixteen of data. */
static uint16_t microwire(struct fix *f, uint32_t addr)
{
	uint16_t v = 0;

	w(f, E1000_EECD, E1000_EECD_REQ);
	CHECK(r(f, E1000_EECD) & E1000_EECD_GNT);
	w(f, E1000_EECD, E1000_EECD_REQ | E1000_EECD_CS);
	for (int i = 8; i >= 0; i--)
		wire_bit(f, (6u << 6 | addr) >> i & 1);
	CHECK(!(r(f, E1000_EECD) & E1000_EECD_DO));
	for (int i = 0; i < 16; i++) {
		wire_bit(f, false);
		v = (uint16_t)(v << 1 | !!(r(f, E1000_EECD) & E1000_EECD_DO));
	}
	w(f, E1000_EECD, E1000_EECD_REQ);
	w(f, E1000_EECD, 0);
	return v;
}

static void e11_eeprom(void)
{
	uint16_t sum = 0;
	struct fix f;

	fix_make(&f);
	CHECK_EQ(r(&f, E1000_EECD), E1000_EECD_PRES);
	for (uint32_t i = 0; i < E1000_EEPROM_WORDS; i++) {
		uint16_t v = eerd(&f, i);

		CHECK_EQ(microwire(&f, i), v);
		sum = (uint16_t)(sum + v);
	}
	CHECK_EQ(sum, E1000_EEPROM_SUM);
	CHECK_EQ(eerd(&f, 0), 0x9c58);
	CHECK_EQ(eerd(&f, 1), 0x01fc);
	CHECK_EQ(eerd(&f, 2), 0x0302);
	for (uint32_t i = 0; i < 256; i++)
		eerd(&f, i);
	/* Nothing happens without START. */
	w(&f, E1000_EERD, 0x100);
	CHECK_EQ(r(&f, E1000_EERD), 0x100);
	fix_end(&f);
}

static void e11_microwire_nonsense(void)
{
	uint32_t seed = 1;
	struct fix f;

	fix_make(&f);
	/* Writing is over at once and changes nothing. */
	w(&f, E1000_EECD, E1000_EECD_REQ | E1000_EECD_CS);
	for (int i = 8; i >= 0; i--)
		wire_bit(&f, (5u << 6) >> i & 1);
	for (int i = 0; i < 16; i++)
		wire_bit(&f, true);
	CHECK(r(&f, E1000_EECD) & E1000_EECD_DO);
	w(&f, E1000_EECD, 0);
	CHECK_EQ(eerd(&f, 0), 0x9c58);
	/* Reading on goes round. */
	w(&f, E1000_EECD, E1000_EECD_CS);
	for (int i = 8; i >= 0; i--)
		wire_bit(&f, (6u << 6 | 63) >> i & 1);
	for (int i = 0; i < 16 * 200; i++)
		wire_bit(&f, i & 1);
	for (int i = 0; i < 20000; i++) {
		seed = seed * 1664525 + 1013904223;
		w(&f, E1000_EECD, seed >> 8);
	}
	CHECK_EQ(microwire(&f, 0), 0x9c58);
	fix_end(&f);
}

/* --- PHY --- */

static uint32_t mdic(struct fix *f, uint32_t op, uint32_t phy, uint32_t reg, uint32_t v)
{
	w(f, E1000_MDIC, op << 26 | phy << 21 | reg << 16 | v);
	return r(f, E1000_MDIC);
}

static uint16_t phy_read(struct fix *f, uint32_t reg)
{
	uint32_t v = mdic(f, E1000_MDIC_READ, 1, reg, 0);

	CHECK_EQ(v & (E1000_MDIC_READY | E1000_MDIC_ERROR), E1000_MDIC_READY);
	return (uint16_t)v;
}

static void phy_registers(void)
{
	struct fix f;

	fix_make(&f);
	CHECK_EQ(phy_read(&f, E1000_PHY_ID1), 0x0141);
	CHECK_EQ(phy_read(&f, E1000_PHY_ID2) & 0xfff0, 0x0c20);
	CHECK_EQ(phy_read(&f, E1000_PHY_STATUS) & 0x24, 0x24);
	CHECK_EQ(phy_read(&f, E1000_PHY_SPEC_STATUS), 0xac00);
	CHECK_EQ(phy_read(&f, E1000_PHY_GB_STATUS), 0x3c00);
	/* The reset bit clears itself and brings the defaults back. */
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_ADV, 0);
	CHECK_EQ(phy_read(&f, E1000_PHY_ADV), 0);
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_CTRL, 0x9140);
	CHECK_EQ(phy_read(&f, E1000_PHY_CTRL), 0x1140);
	CHECK_EQ(phy_read(&f, E1000_PHY_ADV), 0x0de1);
	/* Identity cannot be written. */
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_ID1, 0);
	CHECK_EQ(phy_read(&f, E1000_PHY_ID1), 0x0141);
	/* An interrupt if asked for. */
	w(&f, E1000_ICR, 0xffffffff);
	mdic(&f, E1000_MDIC_READ | 8, 1, 0, 0);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_MDAC);
	fix_end(&f);
}

static void e11_mdic_nonsense(void)
{
	struct fix f;

	fix_make(&f);
	for (uint32_t op = 0; op < 4; op++)
		for (uint32_t phy = 0; phy < 32; phy++)
			for (uint32_t reg = 0; reg < 32; reg++) {
				uint32_t v = mdic(&f, op, phy, reg, 0x5555);

				CHECK(v & E1000_MDIC_READY);
				CHECK_EQ(!!(v & E1000_MDIC_ERROR),
					 phy != 1 || (op != 1 && op != 2));
			}
	fix_end(&f);
}

static void phy_power(void)
{
	struct fix f;

	fix_start(&f);
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_CTRL, 0x1940);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	CHECK_EQ(r(&f, E1000_ICR) & E1000_INT_LSC, E1000_INT_LSC);
	CHECK_EQ(phy_read(&f, E1000_PHY_STATUS) & 0x24, 0);
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_CTRL, 0x1140);
	CHECK(r(&f, E1000_STATUS) & E1000_STATUS_LU);
	CHECK_EQ(r(&f, E1000_ICR) & E1000_INT_LSC, E1000_INT_LSC);
	/* A new negotiation is told. */
	mdic(&f, E1000_MDIC_WRITE, 1, E1000_PHY_CTRL, 0x1340);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	CHECK_EQ(phy_read(&f, E1000_PHY_CTRL), 0x1140);
	fix_end(&f);
}

/* --- link --- */

static void link_changes(void)
{
	struct fix f;

	fix_start(&f);
	tb_net_link(f.tb, 0, false);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	CHECK(tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	CHECK(!tb_intx(f.d));
	tb_net_link(f.tb, 0, true);
	CHECK(r(&f, E1000_STATUS) & E1000_STATUS_LU);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	/* The PHY remembers the loss for one reading. */
	CHECK(!(phy_read(&f, E1000_PHY_STATUS) & E1000_PHY_STATUS_LINK));
	CHECK(phy_read(&f, E1000_PHY_STATUS) & E1000_PHY_STATUS_LINK);
	put_broadcast(&f);
	CHECK_EQ(r(&f, E1000_RDH), 1);
	fix_end(&f);
}

static void link_by_cable(void)
{
	struct fix f;

	fix_start(&f);
	CHECK(dev_link(f.d, -1));
	CHECK(!dev_link(f.d, 0));
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	put_broadcast(&f);
	CHECK_EQ(r(&f, E1000_RDH), 0);
	/* A guest's reset does not plug it in. */
	w(&f, E1000_CTRL, E1000_CTRL_RST);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	CHECK(tb_reset(f.tb));
	tb_pci_enable(f.d);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	CHECK(dev_link(f.d, 1));
	CHECK(r(&f, E1000_STATUS) & E1000_STATUS_LU);
	fix_end(&f);
}

static void link_by_slu(void)
{
	struct fix f;

	fix_start(&f);
	w(&f, E1000_CTRL, E1000_CTRL_RESET & ~E1000_CTRL_SLU);
	CHECK(!(r(&f, E1000_STATUS) & E1000_STATUS_LU));
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	/* The PHY has a link all the same. */
	CHECK(phy_read(&f, E1000_PHY_STATUS) & E1000_PHY_STATUS_LINK);
	w(&f, E1000_CTRL, E1000_CTRL_RESET);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC);
	CHECK(r(&f, E1000_STATUS) & E1000_STATUS_LU);
	fix_end(&f);
}

/* --- interrupts --- */

static void cause_and_mask(void)
{
	struct fix f;

	fix_make(&f);
	w(&f, E1000_ICS, E1000_INT_LSC);
	CHECK(!tb_intx(f.d));
	w(&f, E1000_IMS, E1000_INT_LSC | E1000_INT_TXDW);
	CHECK(tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_IMS), E1000_INT_LSC | E1000_INT_TXDW);
	CHECK(tb_intx(f.d));
	w(&f, E1000_IMC, E1000_INT_LSC);
	CHECK(!tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_IMS), E1000_INT_TXDW);
	w(&f, E1000_IMS, E1000_INT_LSC);
	CHECK(tb_intx(f.d));
	/* Reading clears, masked or not. */
	w(&f, E1000_ICS, E1000_INT_RXO);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_LSC | E1000_INT_RXO);
	CHECK(!tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_ICR), 0);
	/* So does writing ones, one by one. */
	w(&f, E1000_ICS, E1000_INT_LSC | E1000_INT_TXDW);
	w(&f, E1000_ICR, E1000_INT_LSC);
	CHECK(tb_intx(f.d));
	w(&f, E1000_ICR, E1000_INT_TXDW);
	CHECK(!tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_ICS), 0);
	CHECK_EQ(r(&f, E1000_IMC), 0);
	fix_end(&f);
}

static void throttle(void)
{
	unsigned int gsi = 16 + (1 + 0) % 4;
	struct fix f;

	fix_start(&f);
	w(&f, E1000_ITR, 1000); /* 256 us */
	tb_rises(f.tb, gsi);
	put_broadcast(&f);
	CHECK(tb_intx(f.d));
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_RXT0);
	put_broadcast(&f);
	put_broadcast(&f);
	CHECK(!tb_intx(f.d));
	tb_advance(f.tb, 255 * NS_PER_US);
	CHECK(!tb_intx(f.d));
	tb_advance(f.tb, 1 * NS_PER_US);
	CHECK(tb_intx(f.d));
	CHECK_EQ(tb_rises(f.tb, gsi), 2);
	/* A mask that comes while it waits holds. */
	r(&f, E1000_ICR);
	put_broadcast(&f);
	w(&f, E1000_IMC, E1000_INT_ALL);
	tb_advance(f.tb, NS_PER_MS);
	CHECK(!tb_intx(f.d));
	w(&f, E1000_IMS, E1000_INT_ALL);
	CHECK(tb_intx(f.d));
	/* Switched off, it holds nothing back. */
	r(&f, E1000_ICR);
	put_broadcast(&f);
	CHECK(!tb_intx(f.d));
	w(&f, E1000_ITR, 0);
	CHECK(tb_intx(f.d));
	fix_end(&f);
}

static void e13_interrupt_storm(void)
{
	unsigned int gsi = 16 + (1 + 0) % 4, rises;
	struct fix f;

	fix_start(&f);
	w(&f, E1000_ITR, 100); /* 25.6 us */
	tb_rises(f.tb, gsi);
	for (int i = 0; i < 10000; i++) {
		w(&f, E1000_ICS, E1000_INT_ALL);
		r(&f, E1000_ICR);
		w(&f, E1000_IMC, E1000_INT_ALL);
		w(&f, E1000_IMS, E1000_INT_ALL);
		loop_fake_advance(tb_loop(f.tb), 100);
	}
	rises = tb_rises(f.tb, gsi);
	/* 1 ms */
	CHECK(rises >= 1 && rises <= 41);
	/* Without throttling there are as many as the guest makes. */
	w(&f, E1000_ITR, 0);
	r(&f, E1000_ICR);
	tb_rises(f.tb, gsi);
	for (int i = 0; i < 100; i++) {
		w(&f, E1000_ICS, E1000_INT_LSC);
		w(&f, E1000_ICS, E1000_INT_TXDW);
		r(&f, E1000_ICR);
		r(&f, E1000_ICR);
	}
	CHECK_EQ(tb_rises(f.tb, gsi), 100);
	fix_end(&f);
}

/* --- life cycle --- */

static void machine_reset(void)
{
	struct fix f;

	fix_start(&f);
	put_broadcast(&f);
	CHECK(tb_intx(f.d));
	CHECK(tb_reset(f.tb));
	CHECK(!tb_intx(f.d));
	tb_e1000_start(&f.e, f.d);
	CHECK_EQ(r(&f, E1000_ICR), 0);
	put_broadcast(&f);
	CHECK_EQ(r(&f, E1000_RDH), 1);
	CHECK_EQ(r(&f, E1000_ICR), E1000_INT_RXT0);
	fix_end(&f);
}

static void pause_keeps_frames(void)
{
	uint8_t frame[64] = { 2, 2, 2, 2, 2, 2 };
	struct fix f;

	fix_start(&f);
	CHECK(tb_pause(f.tb));
	put_broadcast(&f);
	tb_e1000_push(&f.e, f.e.frame, 64 | E1000_TXD_EOP | E1000_TXD_RS, 0);
	tb_e1000_ring(&f.e);
	CHECK_EQ(r(&f, E1000_RDH), 0);
	CHECK_EQ(r(&f, E1000_TDH), 0);
	tb_resume(f.tb);
	tb_run(f.tb);
	CHECK_EQ(r(&f, E1000_RDH), 1);
	CHECK_EQ(r(&f, E1000_TDH), 1);
	CHECK_EQ(tb_net_next(f.tb, 0, NULL, frame, sizeof(frame)), 64);
	fix_end(&f);
}

static void pause_waits_for_frames(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	uint8_t frame[64] = { 2, 2, 2, 2, 2, 2 };
	struct fix f;

	fix_opts(&f, NULL, &opts);
	tb_e1000_start(&f.e, f.d);
	tb_net_fault(f.tb, 0, &hold);
	tb_e1000_send(&f.e, frame, sizeof(frame), 0);
	put_broadcast(&f);
	CHECK_EQ(r(&f, E1000_TDH), 0);
	CHECK(!tb_pause(f.tb));
	tb_net_fault(f.tb, 0, NULL);
	tb_run(f.tb);
	CHECK(tb_pause(f.tb));
	CHECK(tb_balanced(f.tb));
	tb_resume(f.tb);
	tb_run(f.tb);
	CHECK_EQ(r(&f, E1000_TDH), 1);
	CHECK_EQ(r(&f, E1000_RDH), 1);
	fix_end(&f);
}

/* Frames in flight when the guest resets the card leave no trace in its memory afterwards. */
static void reset_in_flight(void)
{
	const struct tb_opts opts = { .faults = true };
	const struct net_fault hold = { .hold = true };
	uint8_t frame[64] = { 2, 2, 2, 2, 2, 2 };
	struct fix f;
	uint64_t info;

	fix_opts(&f, NULL, &opts);
	tb_e1000_start(&f.e, f.d);
	tb_net_fault(f.tb, 0, &hold);
	for (int i = 0; i < 10; i++)
		tb_e1000_send(&f.e, frame, sizeof(frame), 0);
	put_broadcast(&f);
	w(&f, E1000_CTRL, E1000_CTRL_RST);
	/* Not over before all of them are. */
	CHECK(r(&f, E1000_CTRL) & E1000_CTRL_RST);
	tb_net_fault(f.tb, 0, NULL);
	tb_run(f.tb);
	CHECK(!(r(&f, E1000_CTRL) & E1000_CTRL_RST));
	CHECK_EQ(r(&f, E1000_ICR), 0);
	CHECK_EQ(r(&f, E1000_TDH), 0);
	CHECK_EQ(r(&f, E1000_RDH), 0);
	CHECK_EQ(tb_e1000_status(&f.e, 0), 0);
	CHECK(!tb_e1000_pop(&f.e, &info));
	CHECK(tb_balanced(f.tb));
	/* And it works again. */
	tb_e1000_start(&f.e, f.d);
	put_broadcast(&f);
	CHECK_EQ(r(&f, E1000_RDH), 1);
	fix_end(&f);
}

static void e15_reset_loop(void)
{
	uint8_t frame[64] = { 2, 2, 2, 2, 2, 2 };
	struct fix f;

	fix_start(&f);
	for (int i = 0; i < 200; i++) {
		mem_write(tb_memory(f.tb), f.e.frame, frame, sizeof(frame));
		for (int j = 0; j < 40; j++)
			tb_e1000_push(&f.e, f.e.frame, 64 | E1000_TXD_EOP | E1000_TXD_RS, 0);
		w(&f, E1000_TDT, f.e.tx_tail);
		for (int j = 0; j < i % 4; j++)
			loop_step(tb_loop(f.tb), false);
		w(&f, E1000_CTRL, E1000_CTRL_RST);
		if (i % 3 == 0)
			w(&f, E1000_CTRL, E1000_CTRL_RST);
		tb_run(f.tb);
		CHECK(!(r(&f, E1000_CTRL) & E1000_CTRL_RST));
		tb_alloc_reset(f.tb);
		tb_e1000_start(&f.e, f.d);
	}
	CHECK(tb_balanced(f.tb));
	while (tb_net_next(f.tb, 0, NULL, frame, sizeof(frame)) >= 0)
		;
	tb_e1000_send(&f.e, frame, sizeof(frame), 0);
	CHECK_EQ(tb_e1000_status(&f.e, 0), E1000_TXD_DD);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "identity", identity },
	{ "reset_values", reset_values },
	{ "register_masks", register_masks },
	{ "narrow_accesses", narrow_accesses },
	{ "e12_arrays", e12_arrays },
	{ "e14_io_window", e14_io_window },
	{ "control_reset", control_reset },
	{ "settings", settings },
	{ "e11_eeprom", e11_eeprom },
	{ "e11_microwire_nonsense", e11_microwire_nonsense },
	{ "phy_registers", phy_registers },
	{ "e11_mdic_nonsense", e11_mdic_nonsense },
	{ "phy_power", phy_power },
	{ "link_changes", link_changes },
	{ "link_by_cable", link_by_cable },
	{ "link_by_slu", link_by_slu },
	{ "cause_and_mask", cause_and_mask },
	{ "throttle", throttle },
	{ "e13_interrupt_storm", e13_interrupt_storm },
	{ "machine_reset", machine_reset },
	{ "pause_keeps_frames", pause_keeps_frames },
	{ "pause_waits_for_frames", pause_waits_for_frames },
	{ "reset_in_flight", reset_in_flight },
	{ "e15_reset_loop", e15_reset_loop },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
