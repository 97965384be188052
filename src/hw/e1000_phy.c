/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/e1000_priv.h"

/* --- EEPROM: 64 words behind a microwire (s5.3) or one at a time through EERD --- */

void e1000_eeprom_fill(struct e1000 *e)
{
	uint16_t *w = e->eeprom, sum = 0;

	for (unsigned int i = 0; i < E1000_EEPROM_WORDS; i++)
		w[i] = 0;
	for (unsigned int i = 0; i < 3; i++)
		w[i] = get_le16(&e->mac[2 * i]);
	w[0x03] = 0x0000; /* compatibility */
	w[0x04] = 0xffff; /* LEDs: as the driver likes */
	w[0x0a] = 0x4408; /* initialisation control 1: signature */
	w[0x0b] = e->fn.desc->subdevice;
	w[0x0c] = e->fn.desc->subvendor;
	w[0x0d] = e->fn.desc->device;
	w[0x0e] = e->fn.desc->vendor;
	w[0x0f] = 0x3040; /* initialisation control 2: pause both ways, autonegotiation */
	for (unsigned int i = 0; i < E1000_EEPROM_WORDS - 1; i++)
		sum = (uint16_t)(sum + w[i]);
	w[E1000_EEPROM_WORDS - 1] = (uint16_t)(E1000_EEPROM_SUM - sum);
}

#define WIRE_COMMAND_BITS 9u /* start bit, two bits of opcode, six of address */
#define WIRE_OP_READ 2u

/* A rising clock with chip select: takes a bit of the command or shows a bit of the word. */
static void wire_clock(struct e1000 *e, bool in)
{
	if (e->wire.nin < WIRE_COMMAND_BITS) {
		if (!e->wire.nin && !in)
			return; /* no start bit yet */
		e->wire.in = e->wire.in << 1 | in;
		if (++e->wire.nin < WIRE_COMMAND_BITS)
			return;
		if ((e->wire.in >> 6 & 3) != WIRE_OP_READ) {
			e->wire.level = true; /* writes are over at once and change nothing */
			return;
		}
		e->wire.addr = e->wire.in & (E1000_EEPROM_WORDS - 1);
		e->wire.nout = 0;
		e->wire.level = false; /* the dummy bit before the data */
		return;
	}
	if ((e->wire.in >> 6 & 3) != WIRE_OP_READ)
		return;
	if (!e->wire.nout) {
		e->wire.out = e->eeprom[e->wire.addr];
		e->wire.addr = (e->wire.addr + 1) % E1000_EEPROM_WORDS;
		e->wire.nout = 16;
	}
	e->wire.nout--;
	e->wire.level = e->wire.out >> e->wire.nout & 1;
}

uint64_t e1000_eecd_read(void *model, unsigned int index)
{
	const struct e1000 *e = model;
	uint32_t v = e->eecd | E1000_EECD_PRES;

	(void)index;
	if (e->wire.level)
		v |= E1000_EECD_DO;
	if (e->eecd & E1000_EECD_REQ)
		v |= E1000_EECD_GNT;
	return v;
}

void e1000_eecd_write(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;
	uint32_t old = e->eecd;

	(void)index;
	e->eecd = (uint32_t)value;
	if (!(e->eecd & E1000_EECD_CS)) {
		e->wire.in = 0;
		e->wire.nin = 0;
		e->wire.level = true;
	} else if (~old & e->eecd & E1000_EECD_SK) {
		wire_clock(e, e->eecd & E1000_EECD_DI);
	}
}

uint64_t e1000_eerd_read(void *model, unsigned int index)
{
	(void)index;
	return ((struct e1000 *)model)->eerd;
}

void e1000_eerd_write(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;
	uint32_t addr = (uint32_t)value & 0xff00;

	(void)index;
	e->eerd = addr;
	if (value & E1000_EERD_START)
		e->eerd |= E1000_EERD_DONE | (uint32_t)e->eeprom[(addr >> 8) % E1000_EEPROM_WORDS]
						     << 16;
}

/* --- PHY (s13.8, IEEE 802.3 clause 22) --- */

static const uint16_t phy_power_on[32] = {
	[E1000_PHY_CTRL] = 0x1140,	    [E1000_PHY_STATUS] = 0x7949,
	[E1000_PHY_ID1] = 0x0141,	    [E1000_PHY_ID2] = 0x0c20,
	[E1000_PHY_ADV] = 0x0de1,	    [E1000_PHY_PARTNER] = 0xcde1,
	[E1000_PHY_EXPANSION] = 0x000f,	    [E1000_PHY_NEXT_PAGE] = 0x2001,
	[E1000_PHY_GB_CTRL] = 0x0f00,	    [E1000_PHY_GB_STATUS] = 0x3c00,
	[E1000_PHY_EXT_STATUS] = 0x3000,    [E1000_PHY_SPEC_CTRL] = 0x0068,
	[E1000_PHY_EXT_SPEC_CTRL] = 0x0d60,
};

/* Bits of each register that stay as written. */
static const uint16_t phy_writable[32] = {
	[E1000_PHY_CTRL] = 0x7dc0,
	[E1000_PHY_ADV] = 0xbfff,
	[E1000_PHY_NEXT_PAGE] = 0xffff,
	[E1000_PHY_GB_CTRL] = 0xff00,
	[E1000_PHY_SPEC_CTRL] = 0xffff,
	[18] = 0xffff, /* interrupt enable */
	[E1000_PHY_EXT_SPEC_CTRL] = 0xffff,
	[29] = 0xffff, /* page */
	[30] = 0xffff, /* page's register */
};

void e1000_phy_reset(struct e1000 *e)
{
	for (unsigned int i = 0; i < ARRAY_LEN(e->phy); i++)
		e->phy[i] = phy_power_on[i];
	e1000_link_update(e);
}

static uint16_t phy_read(struct e1000 *e, unsigned int reg)
{
	bool up = e1000_carrier(e);
	uint16_t v = e->phy[reg];

	switch (reg) {
	case E1000_PHY_STATUS:
		/* The link bit stays low until it was read once (22.2.4.2.13). */
		if (up)
			v |= E1000_PHY_STATUS_AN_DONE;
		if (up && !e->phy_link_lost)
			v |= E1000_PHY_STATUS_LINK;
		e->phy_link_lost = false;
		break;
	case E1000_PHY_PARTNER:
	case E1000_PHY_EXPANSION:
	case E1000_PHY_GB_STATUS:
		if (!up)
			v = 0;
		break;
	case E1000_PHY_SPEC_STATUS:
		if (up)
			v |= E1000_PHY_SPEC_LINK;
		break;
	}
	return v;
}

static void phy_write(struct e1000 *e, unsigned int reg, uint16_t value)
{
	e->phy[reg] = (uint16_t)((e->phy[reg] & ~phy_writable[reg]) | (value & phy_writable[reg]));
	if (reg != E1000_PHY_CTRL)
		return;
	if (value & E1000_PHY_CTRL_RESET)
		e1000_phy_reset(e);
	else
		e1000_link_update(e);
	e1000_wake(e);
	/* Negotiation takes no time here, but a driver may wait to be told of its end. */
	if (value & (E1000_PHY_CTRL_RESET | E1000_PHY_CTRL_RESTART) && e->link)
		e1000_interrupt(e, E1000_INT_LSC);
}

uint64_t e1000_mdic_read(void *model, unsigned int index)
{
	(void)index;
	return ((struct e1000 *)model)->mdic;
}

void e1000_mdic_write(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;
	unsigned int reg = value >> 16 & 31, addr = value >> 21 & 31, op = value >> 26 & 3;
	uint32_t v = (uint32_t)value & ~(E1000_MDIC_READY | E1000_MDIC_ERROR);

	(void)index;
	if (addr != E1000_PHY_ADDR || (op != E1000_MDIC_READ && op != E1000_MDIC_WRITE))
		v |= E1000_MDIC_ERROR;
	else if (op == E1000_MDIC_READ)
		v = (v & ~0xffffu) | phy_read(e, reg);
	else
		phy_write(e, reg, (uint16_t)value);
	e->mdic = v | E1000_MDIC_READY;
	if (v & E1000_MDIC_IRQ)
		e1000_interrupt(e, E1000_INT_MDAC);
}
