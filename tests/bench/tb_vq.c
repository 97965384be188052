/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_vq.h"

#include "util/bytes.h"
#include "util/macros.h"

static void put(const struct tb_vq *q, gpa_t addr, const void *buf, size_t len)
{
	(void)mem_write(q->mem, addr, buf, len);
}

uint16_t tb_vq_get16(const struct tb_vq *q, gpa_t addr)
{
	uint16_t v = 0;

	(void)mem_read(q->mem, addr, &v, sizeof(v));
	return v;
}

void tb_vq_put16(const struct tb_vq *q, gpa_t addr, uint16_t v)
{
	put(q, addr, &v, sizeof(v));
}

static uint64_t avail_bytes(uint16_t size)
{
	return 6 + 2ull * size;
}

uint64_t tb_vq_bytes(uint16_t size)
{
	return 16ull * size + ALIGN_UP(avail_bytes(size), 4) + 6 + 8ull * size;
}

void tb_vq_init(struct tb_vq *q, const struct mem *mem, uint16_t size, gpa_t base)
{
	*q = (struct tb_vq){ .mem = mem, .size = size };
	q->desc = base;
	q->avail = base + 16ull * size;
	q->used = q->avail + ALIGN_UP(avail_bytes(size), 4);
	(void)mem_fill(mem, base, 0, tb_vq_bytes(size));
}

void tb_vq_desc(struct tb_vq *q, gpa_t table, unsigned int i, const struct tb_buf *b,
		uint16_t flags, uint16_t next)
{
	uint8_t d[16];

	put_le64(d, b->addr);
	put_le32(d + 8, b->len);
	put_le16(d + 12, flags);
	put_le16(d + 14, next);
	put(q, table + 16ull * i, d, sizeof(d));
}

uint16_t tb_vq_chain(struct tb_vq *q, const struct tb_buf *bufs, unsigned int n)
{
	uint16_t head = q->next_desc;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t at = (uint16_t)((head + i) % q->size);
		uint16_t flags = (bufs[i].write ? TB_WRITE : 0) | (i + 1 < n ? TB_NEXT : 0);

		tb_vq_desc(q, q->desc, at, &bufs[i], flags, (uint16_t)((at + 1) % q->size));
	}
	q->next_desc = (uint16_t)((head + n) % q->size);
	return head;
}

void tb_vq_avail(struct tb_vq *q, uint16_t head)
{
	tb_vq_put16(q, q->avail + 4 + 2ull * (q->avail_idx % q->size), head);
	q->avail_idx++;
	tb_vq_put16(q, q->avail + 2, q->avail_idx);
}

uint16_t tb_vq_add(struct tb_vq *q, const struct tb_buf *bufs, unsigned int n)
{
	uint16_t head = tb_vq_chain(q, bufs, n);

	tb_vq_avail(q, head);
	return head;
}

uint16_t tb_vq_add_indirect(struct tb_vq *q, gpa_t table, const struct tb_buf *bufs, unsigned int n)
{
	const struct tb_buf b = { .addr = table, .len = 16 * n };
	uint16_t head = q->next_desc;

	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags = (bufs[i].write ? TB_WRITE : 0) | (i + 1 < n ? TB_NEXT : 0);

		tb_vq_desc(q, table, i, &bufs[i], flags, (uint16_t)(i + 1));
	}
	tb_vq_desc(q, q->desc, head, &b, TB_INDIRECT, 0);
	q->next_desc = (uint16_t)((head + 1) % q->size);
	tb_vq_avail(q, head);
	return head;
}

uint16_t tb_vq_used_idx(const struct tb_vq *q)
{
	return tb_vq_get16(q, q->used + 2);
}

bool tb_vq_used(struct tb_vq *q, uint32_t *id, uint32_t *len)
{
	uint8_t e[8] = { 0 };

	if (tb_vq_used_idx(q) == q->seen)
		return false;
	(void)mem_read(q->mem, q->used + 4 + 8ull * (q->seen % q->size), e, sizeof(e));
	q->seen++;
	*id = get_le32(e);
	*len = get_le32(e + 4);
	return true;
}

void tb_vq_set_avail_flags(struct tb_vq *q, uint16_t flags)
{
	tb_vq_put16(q, q->avail, flags);
}

void tb_vq_set_used_event(struct tb_vq *q, uint16_t v)
{
	tb_vq_put16(q, q->avail + 4 + 2ull * q->size, v);
}

uint16_t tb_vq_avail_event(const struct tb_vq *q)
{
	return tb_vq_get16(q, q->used + 4 + 8ull * q->size);
}
