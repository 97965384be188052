/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_E1000_H
#define TESTS_BENCH_TB_E1000_H

#include "bench/tb.h"
#include "hw/e1000_spec.h"

/* The driver's side of an e1000 card on the bench: one ring each way, a buffer for every receive descriptor. */
#define TB_E1000_BUF 2048u

struct tb_e1000 {
	struct tb *tb;
	struct dev *d;
	gpa_t tx, rx, bufs;
	uint32_t tx_n, rx_n;
	uint32_t tx_tail;
	uint32_t rx_seen, rx_tail;
	gpa_t frame; /* where tb_e1000_send() puts frames: 128 KiB */
};

uint32_t tb_e1000_r(struct tb_e1000 *e, unsigned int reg);
void tb_e1000_w(struct tb_e1000 *e, unsigned int reg, uint32_t v);
/* BARs on; the card as after a reset. */
void tb_e1000_init(struct tb_e1000 *e, struct dev *d);
/* Rings of these sizes in registers and memory, neither direction on. rx_n - 1 buffers are given. */
void tb_e1000_rings(struct tb_e1000 *e, uint32_t tx_n, uint32_t rx_n);
/* tb_e1000_init, rings of 64, both directions on, broadcasts accepted, all interrupts unmasked. */
void tb_e1000_start(struct tb_e1000 *e, struct dev *d);

/* Puts a descriptor into the transmit ring; returns its index. */
uint32_t tb_e1000_push(struct tb_e1000 *e, uint64_t addr, uint32_t lower, uint32_t upper);
/* TDT, and runs. */
void tb_e1000_ring(struct tb_e1000 *e);
/* Status byte of a transmit descriptor. */
uint8_t tb_e1000_status(struct tb_e1000 *e, uint32_t index);
/* Writes a frame to memory and sends it with one legacy descriptor: EOP, RS and these bits. */
uint32_t tb_e1000_send(struct tb_e1000 *e, const void *frame, uint32_t len, uint32_t bits);

/* Takes the next received descriptor: true with its second half. The buffer is rx_seen's before the call. */
bool tb_e1000_pop(struct tb_e1000 *e, uint64_t *info);
/* Gives n descriptors back. */
void tb_e1000_give(struct tb_e1000 *e, uint32_t n);
const uint8_t *tb_e1000_buf(struct tb_e1000 *e, uint32_t index);

#endif
