/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/e1000_priv.h"

#include <errno.h>
#include <string.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "util/err.h"
#include "util/log.h"

static struct e1000 *e1000_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct e1000, fn);
}

/* --- interrupts (s3.2.7, s13.4.17 to 21) --- */

/* The wire is high while a cause is set that IMS lets through; it rises no sooner than ITR says. */
static void irq_update(struct e1000 *e)
{
	uint64_t now;

	if (!(e->icr & e->ims)) {
		if (e->irq_up)
			pci_intx_set(&e->fn, false);
		e->irq_up = false;
		return;
	}
	if (e->irq_up)
		return;
	if (e->itr) {
		now = loop_now(e->fn.dev.env.loop);
		if (now < e->irq_next_ns) {
			dev_timer_set(&e->irq_timer, e->irq_next_ns);
			return;
		}
		e->irq_next_ns = now + (uint64_t)e->itr * E1000_ITR_NS;
	}
	e->irq_up = true;
	pci_intx_set(&e->fn, true);
}

static void irq_timer(struct dev *d)
{
	irq_update(e1000_of(d));
}

void e1000_interrupt(struct e1000 *e, uint32_t causes)
{
	if (!causes)
		return;
	e->icr |= causes;
	irq_update(e);
}

static uint64_t read_icr(void *model, unsigned int index)
{
	struct e1000 *e = model;
	uint32_t v = e->icr;

	(void)index;
	e->icr = 0;
	irq_update(e);
	return v;
}

static void write_icr(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->icr &= ~(uint32_t)value;
	irq_update(e);
}

static void write_ics(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	e1000_interrupt(model, (uint32_t)value);
}

static uint64_t read_ims(void *model, unsigned int index)
{
	(void)index;
	return ((struct e1000 *)model)->ims;
}

static void write_ims(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->ims |= (uint32_t)value;
	irq_update(e);
}

static void write_imc(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->ims &= ~(uint32_t)value;
	irq_update(e);
}

static uint64_t read_itr(void *model, unsigned int index)
{
	(void)index;
	return ((struct e1000 *)model)->itr;
}

/* A shorter interval ends the current one. */
static void write_itr(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->itr = (uint32_t)value;
	if (!e->itr)
		e->irq_next_ns = 0;
	else
		e->irq_next_ns = MIN(e->irq_next_ns, loop_now(e->fn.dev.env.loop) +
							     (uint64_t)e->itr * E1000_ITR_NS);
	irq_update(e);
}

/* --- link --- */

bool e1000_carrier(const struct e1000 *e)
{
	return !e->unplugged && net_link_up(e->line) &&
	       !(e->phy[E1000_PHY_CTRL] & E1000_PHY_CTRL_POWER_DOWN);
}

bool e1000_loopback(const struct e1000 *e)
{
	return e->rctl & E1000_RCTL_LBM || e->phy[E1000_PHY_CTRL] & E1000_PHY_CTRL_LOOPBACK;
}

/* Posts nothing if the loop is going to look anyway. */
void e1000_wake(struct e1000 *e)
{
	__atomic_store_n(&e->kicked, true, __ATOMIC_SEQ_CST);
	if (!__atomic_exchange_n(&e->awake, true, __ATOMIC_SEQ_CST))
		dev_post(&e->kick);
}

void e1000_link_update(struct e1000 *e)
{
	bool carrier = e1000_carrier(e), up = carrier && e->ctrl & E1000_CTRL_SLU;

	if (!carrier)
		e->phy_link_lost = true;
	if (up == e->link)
		return;
	e->link = up;
	e1000_interrupt(e, E1000_INT_LSC);
	e1000_wake(e);
}

static void line_link(struct dev *d, bool up)
{
	(void)up;
	e1000_link_update(e1000_of(d));
}

static bool cable(struct dev *d, int plug)
{
	struct e1000 *e = e1000_of(d);

	if (plug >= 0) {
		e->unplugged = !plug;
		e1000_link_update(e);
	}
	return !e->unplugged && net_link_up(e->line);
}

/* --- tails: any vCPU, no lock --- */

static void write_tdt(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	__atomic_store_n(&e->tx.tail, (uint32_t)value & 0xffff, __ATOMIC_SEQ_CST);
	e1000_wake(e);
}

static uint64_t read_tdt(void *model, unsigned int index)
{
	(void)index;
	return __atomic_load_n(&((struct e1000 *)model)->tx.tail, __ATOMIC_RELAXED);
}

static void write_rdt(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	__atomic_store_n(&e->rx.tail, (uint32_t)value & 0xffff, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&e->rx_starved, __ATOMIC_SEQ_CST))
		e1000_wake(e);
}

static uint64_t read_rdt(void *model, unsigned int index)
{
	(void)index;
	return __atomic_load_n(&((struct e1000 *)model)->rx.tail, __ATOMIC_RELAXED);
}

static const struct reg tx_bell_regs[] = {
	{ .offset = 0, .width = 4, .name = "TDT", .read = read_tdt, .write = write_tdt },
};
static const struct reg rx_bell_regs[] = {
	{ .offset = 0, .width = 4, .name = "RDT", .read = read_rdt, .write = write_rdt },
};
static const struct reg_table tx_bell_table = REG_TABLE(tx_bell_regs, 0);
static const struct reg_table rx_bell_table = REG_TABLE(rx_bell_regs, 0);

/* --- statistics: they stop at their highest value and reading clears them (s13.7) --- */

void e1000_count(struct e1000 *e, enum e1000_stat stat, uint32_t n)
{
	if (__builtin_add_overflow(e->stats[stat], n, &e->stats[stat]))
		e->stats[stat] = UINT32_MAX;
}

void e1000_count64(struct e1000 *e, enum e1000_stat stat, uint64_t n)
{
	uint64_t v = e->stats[stat] | (uint64_t)e->stats[stat + 1] << 32;

	if (__builtin_add_overflow(v, n, &v))
		v = UINT64_MAX;
	e->stats[stat] = (uint32_t)v;
	e->stats[stat + 1] = (uint32_t)(v >> 32);
}

void e1000_count_size(struct e1000 *e, enum e1000_stat stat, uint32_t wire, uint32_t n)
{
	static const uint16_t limits[] = { 64, 127, 255, 511, 1023 };
	unsigned int i = 0;

	while (i < ARRAY_LEN(limits) && wire > limits[i])
		i++;
	e1000_count(e, stat + i, n);
}

static uint64_t read_stat(void *model, unsigned int index)
{
	struct e1000 *e = model;
	uint32_t v = e->stats[index];

	switch (index) {
	case E1000_STAT_GORC:
	case E1000_STAT_GOTC:
	case E1000_STAT_TOR:
	case E1000_STAT_TOT:
		return v; /* the high half clears both */
	case E1000_STAT_GORC + 1:
	case E1000_STAT_GOTC + 1:
	case E1000_STAT_TOR + 1:
	case E1000_STAT_TOT + 1:
		e->stats[index - 1] = 0;
		break;
	}
	e->stats[index] = 0;
	return v;
}

/* --- frames --- */

enum e1000_dest e1000_dest_of(const uint8_t *frame)
{
	if (!(frame[0] & 1))
		return E1000_UNICAST;
	return get_le32(frame) == UINT32_MAX && get_le16(frame + 4) == 0xffff ? E1000_BROADCAST
									      : E1000_MULTICAST;
}

uint32_t e1000_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	uint64_t words = 0;

	/* Words in the host's order: the sum of swapped bytes is the swapped sum. */
	for (; len >= 4; p += 4, len -= 4)
		words += get_le32(p);
	if (len >= 2)
		words += get_le16(p);
	if (len & 1)
		words += p[len - 1];
	words = (words & UINT32_MAX) + (words >> 32);
	words = (words & UINT32_MAX) + (words >> 32);
	return e1000_fold((uint32_t)__builtin_bswap16(e1000_fold((uint32_t)(words & 0xffff) +
								 (uint32_t)(words >> 16))) +
			  sum);
}

void *e1000_ring_map(struct e1000 *e, const struct e1000_ring *r)
{
	if (!e1000_ring_entries(r))
		return NULL;
	return dma_ring(&e->fn.dma, (uint64_t)r->bah << 32 | r->bal, r->len, 16);
}

/* --- reset --- */

void e1000_mac_load(struct e1000 *e)
{
	e->ra[0] = e->eeprom[0] | (uint32_t)e->eeprom[1] << 16;
	e->ra[1] = e->eeprom[2] | E1000_RAH_AV;
}

static void reset_ring(struct e1000_ring *r)
{
	r->bal = r->bah = r->len = r->head = 0;
	__atomic_store_n(&r->tail, 0, __ATOMIC_SEQ_CST);
}

/* All registers but the PHY's (s14.3). */
static void reset_registers(struct e1000 *e)
{
	reset_ring(&e->tx);
	reset_ring(&e->rx);
	e1000_tx_forget(e);
	e1000_rx_forget(e);
	e->ctrl = E1000_CTRL_RESET;
	e->vet = 0x8100;
	e->tipg = 0x00a02008;
	e->ledctl = 0x07068302;
	e->pba = 0x00100030;
	e->ctrl_ext = e->fcal = e->fcah = e->fct = e->rctl = e->fcttv = e->txcw = e->tctl = 0;
	e->aifs = e->fcrtl = e->fcrth = e->rdtr = e->rxdctl = e->radv = e->rsrpd = 0;
	e->tidv = e->txdctl = e->tadv = e->tspmt = e->rxcsum = 0;
	e->wuc = e->wufc = e->manc = e->ipav = 0;
	e->icr = e->ims = e->itr = 0;
	e->irq_next_ns = 0;
	e->eecd = e->eerd = e->mdic = e->io_addr = 0;
	memset(&e->wire, 0, sizeof(e->wire));
	memset(&e->ctx, 0, sizeof(e->ctx));
	memset(e->rx_fifo, 0, sizeof(e->rx_fifo));
	memset(e->tx_fifo, 0, sizeof(e->tx_fifo));
	memset(e->mta, 0, sizeof(e->mta));
	memset(e->ra, 0, sizeof(e->ra));
	memset(e->vfta, 0, sizeof(e->vfta));
	memset(e->stats, 0, sizeof(e->stats));
	e1000_mac_load(e);
	dev_timer_cancel(&e->irq_timer);
	irq_update(e);
	e->link = e1000_carrier(e);
}

static uint64_t read_ctrl(void *model, unsigned int index)
{
	const struct e1000 *e = model;

	(void)index;
	/* Says that it is reset only when no frame is on its way from or to the guest's memory any more. */
	return e->ctrl | (e->resetting ? E1000_CTRL_RST : 0);
}

static void write_ctrl(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	if (value & E1000_CTRL_RST) {
		reset_registers(e);
		e->resetting = e->tx_inflight || e->rx_inflight;
		return;
	}
	e->ctrl = (uint32_t)value & ~E1000_CTRL_PHY_RST;
	if (value & E1000_CTRL_PHY_RST)
		e1000_phy_reset(e);
	e1000_link_update(e);
}

/* --- the other registers --- */

static uint64_t read_status(void *model, unsigned int index)
{
	const struct e1000 *e = model;

	(void)index;
	return E1000_STATUS_FIXED | (e->link ? E1000_STATUS_LU : 0);
}

static uint64_t read_zero(void *model, unsigned int index)
{
	(void)model;
	(void)index;
	return 0;
}

static void write_ctrl_ext(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->ctrl_ext = (uint32_t)value & ~E1000_CTRL_EXT_EE_RST;
	if (value & E1000_CTRL_EXT_EE_RST)
		e1000_mac_load(e);
}

static void write_rctl(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	if ((e->rctl ^ (uint32_t)value) & E1000_RCTL_LATCHED)
		e1000_rx_forget(e);
	e->rctl = (uint32_t)value;
	e1000_wake(e);
}

static void write_tctl(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->tctl = (uint32_t)value;
	e1000_wake(e);
}

/* A timer that is flushed tells at once what it delays (s13.4.30, s13.4.39). */
static void write_rdtr(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->rdtr = (uint32_t)value & 0xffff;
	if (value & E1000_DELAY_FLUSH && dev_timer_armed(&e->rx_timer))
		e1000_rx_timer(&e->fn.dev);
}

static void write_tidv(void *model, unsigned int index, uint64_t value)
{
	struct e1000 *e = model;

	(void)index;
	e->tidv = (uint32_t)value & 0xffff;
	if (value & E1000_DELAY_FLUSH && dev_timer_armed(&e->tx_timer))
		e1000_tx_timer(&e->fn.dev);
}

/* Base, length and head of a ring: what is in flight belonged to the old one. It may be one only now. */
#define RING_REG(ring, member)                                                               \
	static uint64_t read_##ring##_##member(void *model, unsigned int index)              \
	{                                                                                    \
		(void)index;                                                                 \
		return ((struct e1000 *)model)->ring.member;                                 \
	}                                                                                    \
	static void write_##ring##_##member(void *model, unsigned int index, uint64_t value) \
	{                                                                                    \
		struct e1000 *e = model;                                                     \
                                                                                             \
		(void)index;                                                                 \
		e->ring.member = (uint32_t)value;                                            \
		e1000_##ring##_forget(e);                                                    \
		e1000_wake(e);                                                               \
	}

RING_REG(tx, bal)
RING_REG(tx, bah)
RING_REG(tx, len)
RING_REG(tx, head)
RING_REG(rx, bal)
RING_REG(rx, bah)
RING_REG(rx, len)
RING_REG(rx, head)

#define READ_REG(name, member)                                       \
	static uint64_t read_##name(void *model, unsigned int index) \
	{                                                            \
		(void)index;                                         \
		return ((struct e1000 *)model)->member;              \
	}

#define PLAIN_REG(name)                                                           \
	READ_REG(name, name)                                                      \
	static void write_##name(void *model, unsigned int index, uint64_t value) \
	{                                                                         \
		(void)index;                                                      \
		((struct e1000 *)model)->name = (uint32_t)value;                  \
	}

#define ARRAY_REG(name)                                                           \
	static uint64_t read_##name(void *model, unsigned int index)              \
	{                                                                         \
		return ((struct e1000 *)model)->name[index];                      \
	}                                                                         \
	static void write_##name(void *model, unsigned int index, uint64_t value) \
	{                                                                         \
		((struct e1000 *)model)->name[index] = (uint32_t)value;           \
	}

READ_REG(ctrl_ext, ctrl_ext)
READ_REG(rctl, rctl)
READ_REG(tctl, tctl)
READ_REG(rdtr, rdtr)
READ_REG(tidv, tidv)
PLAIN_REG(fcal)
PLAIN_REG(fcah)
PLAIN_REG(fct)
PLAIN_REG(vet)
PLAIN_REG(fcttv)
PLAIN_REG(txcw)
PLAIN_REG(tipg)
PLAIN_REG(aifs)
PLAIN_REG(ledctl)
PLAIN_REG(pba)
PLAIN_REG(fcrtl)
PLAIN_REG(fcrth)
PLAIN_REG(rxdctl)
PLAIN_REG(radv)
PLAIN_REG(rsrpd)
PLAIN_REG(txdctl)
PLAIN_REG(tadv)
PLAIN_REG(tspmt)
PLAIN_REG(rxcsum)
PLAIN_REG(wuc)
PLAIN_REG(wufc)
PLAIN_REG(manc)
PLAIN_REG(ipav)
ARRAY_REG(rx_fifo)
ARRAY_REG(tx_fifo)
ARRAY_REG(mta)
ARRAY_REG(ra)
ARRAY_REG(vfta)

#define REG(offset_, name_, mask_, read_, write_)                                   \
	{                                                                           \
		.offset = (offset_), .width = 4, .name = (name_), .wmask = (mask_), \
		.read = (read_), .write = (write_)                                  \
	}
#define REG_PLAIN(offset, name, mask) REG(E1000_##offset, #offset, mask, read_##name, write_##name)
#define REG_ARRAY(offset_, count_, stride_, name_)                                             \
	{                                                                                      \
		.offset = E1000_##offset_, .width = 4, .count = (count_), .stride = (stride_), \
		.name = #offset_, .read = read_##name_, .write = write_##name_                 \
	}

static const struct reg e1000_regs[] = {
	REG(E1000_CTRL, "CTRL", 0, read_ctrl, write_ctrl),
	REG(E1000_CTRL_DUP, "CTRL_DUP", 0, read_ctrl, write_ctrl),
	REG(E1000_STATUS, "STATUS", 0, read_status, NULL),
	REG(E1000_EECD, "EECD", E1000_EECD_WMASK, e1000_eecd_read, e1000_eecd_write),
	REG(E1000_EERD, "EERD", 0, e1000_eerd_read, e1000_eerd_write),
	REG_PLAIN(CTRL_EXT, ctrl_ext, 0),
	REG(E1000_MDIC, "MDIC", 0, e1000_mdic_read, e1000_mdic_write),
	REG_PLAIN(FCAL, fcal, 0),
	REG_PLAIN(FCAH, fcah, 0xffff),
	REG_PLAIN(FCT, fct, 0xffff),
	REG_PLAIN(VET, vet, 0xffff),
	REG(E1000_ICR, "ICR", E1000_INT_ALL, read_icr, write_icr),
	REG(E1000_ITR, "ITR", 0xffff, read_itr, write_itr),
	REG(E1000_ICS, "ICS", E1000_INT_ALL, read_zero, write_ics),
	REG(E1000_IMS, "IMS", E1000_INT_ALL, read_ims, write_ims),
	REG(E1000_IMC, "IMC", E1000_INT_ALL, read_zero, write_imc),
	REG_PLAIN(RCTL, rctl, E1000_RCTL_WMASK),
	REG_PLAIN(FCTTV, fcttv, 0xffff),
	REG_PLAIN(TXCW, txcw, 0xc000ffff),
	REG(E1000_RXCW, "RXCW", 0, read_zero, NULL),
	REG_PLAIN(TCTL, tctl, 0x01fffffa),
	REG_PLAIN(TIPG, tipg, 0x3fffffff),
	REG_PLAIN(AIFS, aifs, 0xffff),
	REG_PLAIN(LEDCTL, ledctl, 0),
	REG_PLAIN(PBA, pba, 0),
	REG_PLAIN(FCRTL, fcrtl, 0x8000fff8),
	REG_PLAIN(FCRTH, fcrth, 0xfff8),
	REG_ARRAY(RDFH, 5, 8, rx_fifo),
	REG(E1000_RDBAL, "RDBAL", 0xfffffff0, read_rx_bal, write_rx_bal),
	REG(E1000_RDBAH, "RDBAH", 0, read_rx_bah, write_rx_bah),
	REG(E1000_RDLEN, "RDLEN", 0xfff80, read_rx_len, write_rx_len),
	REG(E1000_RDH, "RDH", 0xffff, read_rx_head, write_rx_head),
	REG(E1000_RDT, "RDT", 0xffff, read_rdt, write_rdt),
	REG_PLAIN(RDTR, rdtr, 0x8000ffff),
	REG_PLAIN(RXDCTL, rxdctl, 0),
	REG_PLAIN(RADV, radv, 0xffff),
	REG_PLAIN(RSRPD, rsrpd, 0xfff),
	REG_ARRAY(TDFH, 5, 8, tx_fifo),
	REG(E1000_TDBAL, "TDBAL", 0xfffffff0, read_tx_bal, write_tx_bal),
	REG(E1000_TDBAH, "TDBAH", 0, read_tx_bah, write_tx_bah),
	REG(E1000_TDLEN, "TDLEN", 0xfff80, read_tx_len, write_tx_len),
	REG(E1000_TDH, "TDH", 0xffff, read_tx_head, write_tx_head),
	REG(E1000_TDT, "TDT", 0xffff, read_tdt, write_tdt),
	REG_PLAIN(TIDV, tidv, 0x8000ffff),
	REG_PLAIN(TXDCTL, txdctl, 0),
	REG_PLAIN(TADV, tadv, 0xffff),
	REG_PLAIN(TSPMT, tspmt, 0),
	{ .offset = E1000_STATS,
	  .width = 4,
	  .count = E1000_STATS_COUNT,
	  .name = "statistics",
	  .read = read_stat },
	REG_PLAIN(RXCSUM, rxcsum, 0x7ff),
	REG_ARRAY(MTA, 128, 4, mta),
	REG_ARRAY(RA, 2 * E1000_RAS, 4, ra),
	REG_ARRAY(VFTA, 128, 4, vfta),
	REG_PLAIN(WUC, wuc, 0),
	REG_PLAIN(WUFC, wufc, 0),
	REG(E1000_WUS, "WUS", 0, read_zero, NULL),
	REG_PLAIN(MANC, manc, 0),
	REG_PLAIN(IPAV, ipav, 0),
};

static const struct reg_table e1000_table = REG_TABLE(e1000_regs, 0);

/* --- the I/O window: an address register and the register it names (s13.2.1) --- */

READ_REG(io_addr, io_addr)

static void write_io_addr(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct e1000 *)model)->io_addr = (uint32_t)value & ~3u;
}

static uint64_t read_io_data(void *model, unsigned int index)
{
	const struct e1000 *e = model;

	(void)index;
	return e->io_addr < E1000_MMIO_SIZE ? reg_read(&e1000_table, model, e->io_addr, 4) : 0;
}

static void write_io_data(void *model, unsigned int index, uint64_t value)
{
	const struct e1000 *e = model;

	(void)index;
	if (e->io_addr < E1000_MMIO_SIZE)
		reg_write(&e1000_table, model, e->io_addr, 4, value);
}

static const struct reg io_regs[] = {
	REG(0, "IOADDR", 0, read_io_addr, write_io_addr),
	REG(4, "IODATA", 0, read_io_data, write_io_data),
};

static const struct reg_table io_table = REG_TABLE(io_regs, 0);

/* --- PCI --- */

static void place_bell(struct pci_fn *fn, struct dev_region *r, uint64_t addr, uint32_t offset)
{
	if (r->region.mapped)
		bus_unmap(fn->dev.env.bus, &r->region);
	/* Without one the register table of the BAR takes the writes. */
	if (addr != UINT64_MAX && bus_map(fn->dev.env.bus, &r->region, BUS_MEM, addr + offset) < 0)
		log_limited(LOG_LEVEL_DEBUG, fn->dev.env.name, "no room for a doorbell");
}

static void bar_moved(struct pci_fn *fn, unsigned int bar, uint64_t addr)
{
	struct e1000 *e = container_of(fn, struct e1000, fn);

	if (bar != 0)
		return;
	place_bell(fn, &e->tx_bell, addr, E1000_TDT);
	place_bell(fn, &e->rx_bell, addr, E1000_RDT);
}

/* Bus master may have been switched on. */
static void config_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	(void)offset;
	(void)size;
	if (fn->dma.on)
		e1000_wake(container_of(fn, struct e1000, fn));
}

static const struct pci_desc e1000_desc = {
	.vendor = 0x8086,
	.device = 0x100f,
	.subvendor = 0x8086,
	.subdevice = 0x1008,
	.class_code = 0x020000,
	.revision = 1,
	.intx_pin = 1,
	.bars = {
		[0] = { .kind = PCI_BAR_MEM32, .size = E1000_MMIO_SIZE, .regs = &e1000_table },
		[2] = { .kind = PCI_BAR_IO, .size = E1000_IO_SIZE, .regs = &io_table },
	},
	.config_written = config_written,
	.bar_moved = bar_moved,
};

/* --- life cycle --- */

/* True if a timer is set to look at the ring to send, so that nobody need tell. */
static bool look_later(struct e1000 *e)
{
	uint64_t at;

	if (e->tx_inflight || __atomic_load_n(&e->rx_starved, __ATOMIC_SEQ_CST))
		return false;
	if (dev_timer_armed(&e->look))
		return true;
	if (!e->pace.frames && !e->looking)
		return false;
	at = pace_empty(&e->pace, loop_now(e->fn.dev.env.loop));
	if (at)
		dev_timer_set(&e->look, at);
	return at;
}

/*
 * Nothing is fetched while paused; tails stay. Before it sleeps, the loop says so and looks once more: a tail that
 * came before saw "awake", one that comes after posts. In a stream of small frames it stays awake, and a timer looks.
 */
static void e1000_run(struct dev *d)
{
	struct e1000 *e = e1000_of(d);
	bool more;

	if (!dev_is_running(d) || e->resetting) {
		__atomic_store_n(&e->awake, false, __ATOMIC_SEQ_CST);
		return;
	}
	__atomic_store_n(&e->awake, true, __ATOMIC_SEQ_CST);
	__atomic_store_n(&e->kicked, false, __ATOMIC_SEQ_CST);
	more = e1000_tx_run(e);
	e1000_rx_run(e);
	if (!more && !look_later(e)) {
		__atomic_store_n(&e->awake, false, __ATOMIC_SEQ_CST);
		more = __atomic_load_n(&e->kicked, __ATOMIC_SEQ_CST);
	}
	if (more) {
		__atomic_store_n(&e->awake, true, __ATOMIC_SEQ_CST);
		dev_post(&e->kick);
	}
}

static void look(struct dev *d)
{
	struct e1000 *e = e1000_of(d);

	e->looking = true;
	e1000_run(d);
	e->looking = false;
}

static void drained(struct e1000 *e)
{
	if (e->tx_inflight || e->rx_inflight)
		return;
	e->resetting = false;
	if (!e->pausing)
		return;
	e->pausing = false;
	dev_paused(&e->fn.dev);
}

static void batch_end(struct dev *d)
{
	struct e1000 *e = e1000_of(d);

	e1000_tx_retire(e);
	e1000_rx_batch_end(e);
	drained(e);
	e1000_run(d);
}

static void readable(struct dev *d, unsigned int q)
{
	(void)q;
	e1000_rx_readable(e1000_of(d));
}

static int e1000_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	static const struct dev_net_events events = { .readable = readable,
						      .link = line_link,
						      .batch_end = batch_end };
	struct e1000 *e = e1000_of(d);
	struct net_spec spec = { .queues = 1 };
	int res;

	e->conf = conf;
	spec.backend = e->conf->backend;
	dev_post_init(&e->kick, d, e1000_run);
	dev_timer_init(&e->irq_timer, d, irq_timer);
	dev_timer_init(&e->look, d, look);
	dev_timer_init(&e->tx_timer, d, e1000_tx_timer);
	dev_timer_init(&e->rx_timer, d, e1000_rx_timer);
	dev_region_init_regs(&e->tx_bell, d, 4, &tx_bell_table);
	dev_region_init_regs(&e->rx_bell, d, 4, &rx_bell_table);
	e->tx_bell.lock_free = e->rx_bell.lock_free = true;
	e->tx_bell.region.priority = e->rx_bell.region.priority = 1;
	res = mac_make(env, e->conf->mac, e->mac, err);
	if (res < 0)
		return res;
	res = pci_fn_init(&e->fn, &e1000_desc, err);
	if (res < 0)
		return res;
	if (e1000_tx_init(e) < 0 || e1000_rx_init(e) < 0)
		return err_set(err, -ENOMEM, "%s: out of memory", env->name);
	e->line = dev_net_open(d, &spec, &events, err);
	if (!e->line)
		return -EIO;
	net_set_offloads(e->line, NET_O_CSUM);
	e1000_eeprom_fill(e);
	e1000_phy_reset(e);
	reset_registers(e);
	return 0;
}

static void e1000_fini(struct dev *d)
{
	struct e1000 *e = e1000_of(d);

	dev_post_cancel(&e->kick);
	if (e->tx_bell.region.mapped)
		bus_unmap(d->env.bus, &e->tx_bell.region);
	if (e->rx_bell.region.mapped)
		bus_unmap(d->env.bus, &e->rx_bell.region);
	net_close(e->line);
	e1000_tx_fini(e);
	e1000_rx_fini(e);
	pci_fn_fini(&e->fn);
}

static void e1000_pause(struct dev *d)
{
	struct e1000 *e = e1000_of(d);

	net_want(e->line, 0, false);
	e->pausing = true;
	drained(e);
}

static void e1000_reset(struct dev *d)
{
	struct e1000 *e = e1000_of(d);

	pci_fn_reset(&e->fn);
	e->irq_up = false;
	e1000_phy_reset(e);
	reset_registers(e);
}

static const struct conf_key e1000_keys[] = {
	{ .name = "backend",
	  .type = CONF_STR,
	  .offset = offsetof(struct e1000_conf, backend),
	  .help = NET_BACKEND_HELP },
	NET_USER_KEYS,
	{ .name = "mac",
	  .type = CONF_STR,
	  .offset = offsetof(struct e1000_conf, mac),
	  .help = "address of the card (default: made of the guest's name and the slot)" },
	{ .name = "mtu",
	  .type = CONF_U64,
	  .min = NET_MTU_MIN,
	  .max = NET_MTU_MAX,
	  .ignored = true,
	  .help = "accepted; the guest chooses its own, up to 16110" },
	CONF_KEY_END,
};

const struct dev_ops e1000_ops = {
	.model = "e1000",
	.help = "Intel 82545EM network card, for guests without a virtio driver",
	.keys = e1000_keys,
	.size = sizeof(struct e1000),
	.conf_size = sizeof(struct e1000_conf),
	.init = e1000_init,
	.pause = e1000_pause,
	.resume = e1000_run,
	.reset = e1000_reset,
	.fini = e1000_fini,
	.link = cable,
};
