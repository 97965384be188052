/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_VQ_H
#define TESTS_BENCH_TB_VQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mem/mem.h"

/*
 * The driver's side of a split virtqueue in bench memory: rings as a guest would build them, well formed unless a
 * test breaks them on purpose. Addresses that are not RAM are ignored.
 */
struct tb_vq {
	const struct mem *mem;
	uint16_t size;
	gpa_t desc, avail, used;
	uint16_t next_desc; /* where the next chain is built; wraps */
	uint16_t avail_idx; /* published */
	uint16_t seen; /* used entries taken */
};

enum tb_desc_flags { TB_NEXT = 1, TB_WRITE = 2, TB_INDIRECT = 4 };

struct tb_buf {
	gpa_t addr;
	uint32_t len;
	bool write; /* the device writes it */
};

/* Bytes that a queue of this size takes: descriptors, then avail, then used. */
uint64_t tb_vq_bytes(uint16_t size);
/* Lays the rings out from base (16-aligned) and clears them. */
void tb_vq_init(struct tb_vq *q, const struct mem *mem, uint16_t size, gpa_t base);

/* One descriptor of a table. */
void tb_vq_desc(struct tb_vq *q, gpa_t table, unsigned int i, const struct tb_buf *b,
		uint16_t flags, uint16_t next);
/* Builds a chain of n buffers in the queue's own table, and returns its head without making it available. */
uint16_t tb_vq_chain(struct tb_vq *q, const struct tb_buf *bufs, unsigned int n);
/* Puts a head into the avail ring and publishes it. */
void tb_vq_avail(struct tb_vq *q, uint16_t head);
/* tb_vq_chain and tb_vq_avail. */
uint16_t tb_vq_add(struct tb_vq *q, const struct tb_buf *bufs, unsigned int n);
/* The same with an indirect table at table. */
uint16_t tb_vq_add_indirect(struct tb_vq *q, gpa_t table, const struct tb_buf *bufs,
			    unsigned int n);

/* Takes the next used entry; false if there is none. */
bool tb_vq_used(struct tb_vq *q, uint32_t *id, uint32_t *len);
/* The used index as the device published it. */
uint16_t tb_vq_used_idx(const struct tb_vq *q);

uint16_t tb_vq_get16(const struct tb_vq *q, gpa_t addr);
void tb_vq_put16(const struct tb_vq *q, gpa_t addr, uint16_t v);
void tb_vq_set_avail_flags(struct tb_vq *q, uint16_t flags);
void tb_vq_set_used_event(struct tb_vq *q, uint16_t v);
uint16_t tb_vq_avail_event(const struct tb_vq *q);

#endif
