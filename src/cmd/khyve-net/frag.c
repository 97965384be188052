/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/frag.h"

#include <assert.h>
#include <string.h>

#include "util/bytes.h"
#include "util/canary.h"
#include "util/clock.h"
#include "util/macros.h"

#define ETH_LEN 14u
#define MORE 0x2000u
#define OFFSET 0x1fffu
#define LIFETIME_NS (30 * NS_PER_SEC)

static void make_key(const uint8_t *ip, uint8_t *key)
{
	memcpy(key, ip + 12, 8);
	memcpy(key + 8, ip + 4, 2);
	key[10] = ip[9];
}

/* The packet that a piece belongs to; a new one takes the place of the oldest. */
static struct frag_packet *find(struct frag *f, uint64_t now_ns, const uint8_t *ip)
{
	struct frag_packet *oldest = &f->packets[0];
	uint8_t key[sizeof(oldest->key)];

	make_key(ip, key);
	for (size_t i = 0; i < FRAG_PACKETS; i++) {
		struct frag_packet *p = &f->packets[i];

		if (p->used && now_ns - p->start_ns > LIFETIME_NS)
			p->used = false;
		if (p->used && memcmp(p->key, key, sizeof(key)) == 0)
			return p;
		if (oldest->used && (!p->used || p->start_ns < oldest->start_ns))
			oldest = p;
	}
	memset(oldest, 0, offsetof(struct frag_packet, frame));
	oldest->used = true;
	oldest->start_ns = now_ns;
	memcpy(oldest->key, key, sizeof(key));
	return oldest;
}

/* Marks the bytes as seen. False: some were seen before. The offset is a multiple of the unit. */
static bool mark(struct frag_packet *p, size_t offset, size_t len)
{
	for (size_t i = offset / FRAG_UNIT; i < (offset + len + FRAG_UNIT - 1) / FRAG_UNIT; i++) {
		if (p->seen[i / 8] & BIT(i % 8))
			return false;
		p->seen[i / 8] |= (uint8_t)BIT(i % 8);
	}
	return true;
}

/* False: this piece and those before it make no packet. */
static bool add(struct frag_packet *p, const uint8_t *frame, size_t head_len, size_t data_len)
{
	uint16_t field = get_be16(frame + ETH_LEN + 6);
	size_t offset = (field & OFFSET) * FRAG_UNIT, end = offset + data_len;

	/* 65535 bytes with the longest header: whatever the first piece has. */
	if (data_len == 0 || (end > 65535u - 60u && !CANARY))
		return false;
	if (field & MORE ? data_len % FRAG_UNIT != 0 : p->total != 0)
		return false;
	if (!(field & MORE))
		p->total = end;
	if (!mark(p, offset, data_len))
		return false;
	memcpy(p->frame + FRAG_HEAD + offset, frame + ETH_LEN + head_len, data_len);
	p->got += data_len;
	p->end = MAX(p->end, end);
	if (offset == 0) {
		p->head_len = head_len;
		memcpy(p->frame + FRAG_HEAD - head_len - ETH_LEN, frame, ETH_LEN + head_len);
	}
	/* Nothing may lie behind the last piece. */
	return p->total == 0 || p->end <= p->total;
}

static void put_checksum(uint8_t *ip, size_t head_len)
{
	uint32_t sum = 0;

	put_be16(ip + 10, 0);
	for (size_t i = 0; i < head_len; i += 2)
		sum += get_be16(ip + i);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	put_be16(ip + 10, (uint16_t)~sum);
}

uint8_t *frag_add(struct frag *f, uint64_t now_ns, const uint8_t *frame, size_t *len)
{
	const uint8_t *ip = frame + ETH_LEN;
	size_t head_len = (ip[0] & 15u) * 4u, data_len = get_be16(ip + 2) - head_len;
	struct frag_packet *p = find(f, now_ns, ip);
	uint8_t *whole;

	if (p->bad)
		return NULL;
	if (!add(p, frame, head_len, data_len)) {
		p->bad = true;
		return NULL;
	}
	if (p->total == 0 || p->got < p->total)
		return NULL;
	assert(p->head_len);
	p->used = false;
	whole = p->frame + FRAG_HEAD - p->head_len - ETH_LEN;
	put_be16(whole + ETH_LEN + 2, (uint16_t)(p->head_len + p->total));
	put_be16(whole + ETH_LEN + 6, 0);
	put_checksum(whole + ETH_LEN, p->head_len);
	*len = ETH_LEN + p->head_len + p->total;
	return whole;
}
