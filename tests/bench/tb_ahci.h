/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_AHCI_H
#define TESTS_BENCH_TB_AHCI_H

#include "bench/tb.h"

/* The driver's side of one AHCI port: command list, received FISes and 32 command tables in bench memory. */
#define TB_AHCI_BAR 5
#define TB_AHCI_PRDS 304 /* entries that fit into a table; tables are 128-aligned */
#define TB_AHCI_TABLE (0x80 + 16 * TB_AHCI_PRDS)

enum tb_ahci_hba { TB_AHCI_CAP = 0, TB_AHCI_GHC = 4, TB_AHCI_IS = 8, TB_AHCI_PI = 0xc };

/* Registers of a port. */
enum tb_ahci_reg {
	TB_AHCI_CLB = 0x00,
	TB_AHCI_CLBU = 0x04,
	TB_AHCI_FB = 0x08,
	TB_AHCI_FBU = 0x0c,
	TB_AHCI_PIS = 0x10,
	TB_AHCI_IE = 0x14,
	TB_AHCI_CMD = 0x18,
	TB_AHCI_TFD = 0x20,
	TB_AHCI_SIG = 0x24,
	TB_AHCI_SSTS = 0x28,
	TB_AHCI_SCTL = 0x2c,
	TB_AHCI_SERR = 0x30,
	TB_AHCI_SACT = 0x34,
	TB_AHCI_CI = 0x38,
};

struct tb_ahci {
	struct tb *tb;
	struct dev *d;
	unsigned int port;
	gpa_t clb, fb, tables;
};

struct tb_prd {
	gpa_t addr;
	uint32_t len;
};

/* A register FIS: fields of 48-bit commands. */
struct tb_fis {
	uint8_t cmd, device;
	uint64_t lba;
	uint16_t feature, count;
	uint8_t control, flags; /* flags: byte 1; 0 means a command (80h), 1 a control FIS (00h) */
};

/* Sets memory up and starts the port: FRE, ST, all interrupts. The BARs must be placed. */
void tb_ahci_start(struct tb_ahci *a, struct dev *d, unsigned int port);
uint32_t tb_ahci_r(struct tb_ahci *a, unsigned int reg);
void tb_ahci_w(struct tb_ahci *a, unsigned int reg, uint32_t v);
/* Writes header, FIS and PRDT of a slot. */
void tb_ahci_build(struct tb_ahci *a, unsigned int slot, const struct tb_fis *f, bool write,
		   const struct tb_prd *prds, unsigned int n);
/* The packet of an ATAPI command, 12 bytes. */
void tb_ahci_packet(struct tb_ahci *a, unsigned int slot, const uint8_t *packet);
void tb_ahci_header(struct tb_ahci *a, unsigned int slot, uint32_t flags, gpa_t table);
gpa_t tb_ahci_table(struct tb_ahci *a, unsigned int slot);
/* Sets CI (and SACT first, if queued) and runs. */
void tb_ahci_issue(struct tb_ahci *a, uint32_t slots, bool queued);
uint32_t tb_ahci_prdbc(struct tb_ahci *a, unsigned int slot);
/* A received FIS: 0x20 PIO setup, 0x40 register, 0x58 device bits. */
const uint8_t *tb_ahci_fis(struct tb_ahci *a, unsigned int at);

#endif
