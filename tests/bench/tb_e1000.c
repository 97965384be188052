/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_e1000.h"

#include <string.h>

#define FRAMES (128 * KIB)

uint32_t tb_e1000_r(struct tb_e1000 *e, unsigned int reg)
{
	return tb_r32(e->d, 0, reg);
}

void tb_e1000_w(struct tb_e1000 *e, unsigned int reg, uint32_t v)
{
	tb_w32(e->d, 0, reg, v);
}

void tb_e1000_init(struct tb_e1000 *e, struct dev *d)
{
	memset(e, 0, sizeof(*e));
	e->tb = tb_of(d);
	e->d = d;
	tb_pci_enable(d);
}

void tb_e1000_rings(struct tb_e1000 *e, uint32_t tx_n, uint32_t rx_n)
{
	struct e1000_rx_desc *rx;

	e->tx = tb_alloc(e->tb, tx_n * sizeof(struct e1000_tx_desc), 16);
	e->rx = tb_alloc(e->tb, rx_n * sizeof(*rx), 16);
	e->bufs = tb_reserve(e->tb, rx_n * TB_E1000_BUF, 4096);
	e->frame = tb_reserve(e->tb, FRAMES, 4096);
	e->tx_n = tx_n;
	e->rx_n = rx_n;
	e->tx_tail = e->rx_seen = 0;
	e->rx_tail = rx_n - 1;
	rx = tb_mem(e->tb, e->rx, rx_n * sizeof(*rx));
	for (uint32_t i = 0; i < rx_n; i++)
		rx[i].addr = e->bufs + i * TB_E1000_BUF;
	tb_e1000_w(e, E1000_TDBAL, (uint32_t)e->tx);
	tb_e1000_w(e, E1000_TDBAH, (uint32_t)(e->tx >> 32));
	tb_e1000_w(e, E1000_TDLEN, tx_n * 16);
	tb_e1000_w(e, E1000_TDH, 0);
	tb_e1000_w(e, E1000_TDT, 0);
	tb_e1000_w(e, E1000_RDBAL, (uint32_t)e->rx);
	tb_e1000_w(e, E1000_RDBAH, (uint32_t)(e->rx >> 32));
	tb_e1000_w(e, E1000_RDLEN, rx_n * 16);
	tb_e1000_w(e, E1000_RDH, 0);
	tb_e1000_w(e, E1000_RDT, e->rx_tail);
}

void tb_e1000_start(struct tb_e1000 *e, struct dev *d)
{
	tb_e1000_init(e, d);
	tb_e1000_rings(e, 64, 64);
	tb_e1000_w(e, E1000_IMS, E1000_INT_ALL);
	tb_e1000_w(e, E1000_TCTL, E1000_TCTL_EN);
	tb_e1000_w(e, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM);
	tb_run(e->tb);
}

uint32_t tb_e1000_push(struct tb_e1000 *e, uint64_t addr, uint32_t lower, uint32_t upper)
{
	const struct e1000_tx_desc d = { .addr = addr, .lower = lower, .upper = upper };
	uint32_t i = e->tx_tail;

	mem_write(tb_memory(e->tb), e->tx + i * sizeof(d), &d, sizeof(d));
	e->tx_tail = (i + 1) % e->tx_n;
	return i;
}

void tb_e1000_ring(struct tb_e1000 *e)
{
	tb_e1000_w(e, E1000_TDT, e->tx_tail);
	tb_run(e->tb);
}

uint8_t tb_e1000_status(struct tb_e1000 *e, uint32_t index)
{
	const uint8_t *p = tb_mem(e->tb, e->tx + index * 16, 16);

	return __atomic_load_n(&p[E1000_TXD_STATUS_AT], __ATOMIC_ACQUIRE);
}

uint32_t tb_e1000_send(struct tb_e1000 *e, const void *frame, uint32_t len, uint32_t bits)
{
	uint32_t i;

	mem_write(tb_memory(e->tb), e->frame, frame, len);
	i = tb_e1000_push(e, e->frame, len | E1000_TXD_EOP | E1000_TXD_RS | bits, 0);
	tb_e1000_ring(e);
	return i;
}

bool tb_e1000_pop(struct tb_e1000 *e, uint64_t *info)
{
	struct e1000_rx_desc *d = tb_mem(e->tb, e->rx + e->rx_seen * sizeof(*d), sizeof(*d));

	*info = __atomic_load_n(&d->info, __ATOMIC_ACQUIRE);
	if (!(*info >> 32 & E1000_RXD_DD))
		return false;
	d->info = 0;
	e->rx_seen = (e->rx_seen + 1) % e->rx_n;
	return true;
}

void tb_e1000_give(struct tb_e1000 *e, uint32_t n)
{
	e->rx_tail = (e->rx_tail + n) % e->rx_n;
	tb_e1000_w(e, E1000_RDT, e->rx_tail);
}

const uint8_t *tb_e1000_buf(struct tb_e1000 *e, uint32_t index)
{
	return tb_mem(e->tb, e->bufs + index * TB_E1000_BUF, TB_E1000_BUF);
}
