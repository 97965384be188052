/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_ahci.h"

#include <string.h>

#include "util/bytes.h"

#define PORT(a) (0x100u + 0x80u * (a)->port)

uint32_t tb_ahci_r(struct tb_ahci *a, unsigned int reg)
{
	return tb_r32(a->d, TB_AHCI_BAR, PORT(a) + reg);
}

void tb_ahci_w(struct tb_ahci *a, unsigned int reg, uint32_t v)
{
	tb_w32(a->d, TB_AHCI_BAR, PORT(a) + reg, v);
}

void tb_ahci_start(struct tb_ahci *a, struct dev *d, unsigned int port)
{
	*a = (struct tb_ahci){ .tb = tb_of(d), .d = d, .port = port };
	a->clb = tb_alloc(a->tb, 1024, 1024);
	a->fb = tb_alloc(a->tb, 256, 256);
	a->tables = tb_reserve(a->tb, 32 * (uint64_t)TB_AHCI_TABLE, 128);
	tb_ahci_w(a, TB_AHCI_CLB, (uint32_t)a->clb);
	tb_ahci_w(a, TB_AHCI_CLBU, (uint32_t)(a->clb >> 32));
	tb_ahci_w(a, TB_AHCI_FB, (uint32_t)a->fb);
	tb_ahci_w(a, TB_AHCI_FBU, (uint32_t)(a->fb >> 32));
	tb_ahci_w(a, TB_AHCI_PIS, UINT32_MAX);
	tb_ahci_w(a, TB_AHCI_IE, UINT32_MAX);
	tb_w32(d, TB_AHCI_BAR, TB_AHCI_GHC, 0x80000002);
	tb_ahci_w(a, TB_AHCI_CMD, 0x10);
	tb_ahci_w(a, TB_AHCI_CMD, 0x11);
}

gpa_t tb_ahci_table(struct tb_ahci *a, unsigned int slot)
{
	return a->tables + (uint64_t)TB_AHCI_TABLE * slot;
}

void tb_ahci_header(struct tb_ahci *a, unsigned int slot, uint32_t flags, gpa_t table)
{
	uint8_t *h = tb_mem(a->tb, a->clb + 32 * slot, 32);

	put_le32(h, flags);
	put_le32(h + 4, 0);
	put_le64(h + 8, table);
}

void tb_ahci_build(struct tb_ahci *a, unsigned int slot, const struct tb_fis *f, bool write,
		   const struct tb_prd *prds, unsigned int n)
{
	uint8_t *t = tb_mem(a->tb, tb_ahci_table(a, slot), TB_AHCI_TABLE);

	memset(t, 0, 0x80 + 16 * (size_t)n);
	t[0] = 0x27;
	t[1] = f->flags ? 0 : 0x80;
	t[2] = f->cmd;
	t[3] = (uint8_t)f->feature;
	for (int i = 0; i < 3; i++) {
		t[4 + i] = (uint8_t)(f->lba >> (8 * i));
		t[8 + i] = (uint8_t)(f->lba >> (24 + 8 * i));
	}
	t[7] = f->device;
	t[11] = (uint8_t)(f->feature >> 8);
	put_le16(t + 12, f->count);
	t[15] = f->control;
	for (unsigned int i = 0; i < n; i++) {
		put_le64(t + 0x80 + 16 * i, prds[i].addr);
		put_le32(t + 0x80 + 16 * i + 12, prds[i].len - 1);
	}
	tb_ahci_header(a, slot, 5 | (write ? 1u << 6 : 0) | n << 16, tb_ahci_table(a, slot));
}

void tb_ahci_packet(struct tb_ahci *a, unsigned int slot, const uint8_t *packet)
{
	memcpy(tb_mem(a->tb, tb_ahci_table(a, slot) + 0x40, 12), packet, 12);
}

void tb_ahci_issue(struct tb_ahci *a, uint32_t slots, bool queued)
{
	if (queued)
		tb_ahci_w(a, TB_AHCI_SACT, slots);
	tb_ahci_w(a, TB_AHCI_CI, slots);
	tb_run(a->tb);
}

uint32_t tb_ahci_prdbc(struct tb_ahci *a, unsigned int slot)
{
	return get_le32((uint8_t *)tb_mem(a->tb, a->clb + 32 * slot, 32) + 4);
}

const uint8_t *tb_ahci_fis(struct tb_ahci *a, unsigned int at)
{
	return tb_mem(a->tb, a->fb + at, 20);
}
