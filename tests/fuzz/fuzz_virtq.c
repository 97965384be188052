/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdlib.h>

#include "bench/tb_vq.h"
#include "fuzz/fuzz.h"
#include "util/log.h"
#include "virtio/virtq.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_OUT (2 * VIRTQ_MAX_SIZE)
#define MAX_BUFS 12

/* A driver that mostly follows the rules, and a device that keeps chains and returns them in any order. */
struct world {
	struct mem *mem;
	const uint8_t *low, *high; /* the host's view of the two regions */
	struct dma dma;
	struct virtq q;
	struct tb_vq drv;
	struct virtq_chain chain;
	uint16_t out[MAX_OUT]; /* heads that the device holds */
	unsigned int nout;
	bool broken;
};

#define LOW_SIZE (256 * KIB)
#define HIGH_GPA (4 * MIB)
#define HIGH_SIZE (64 * KIB)

static uint64_t some_feature(struct fz *f)
{
	return (fz_bool(f) ? BIT64(28) : 0) | (fz_bool(f) ? BIT64(29) : 0);
}

static void restart(struct world *w, struct fz *f)
{
	uint16_t size = (uint16_t)(1u << fz_pick(f, 11));
	gpa_t base = fz_u8(f) % 8 ? 0x1000 : ALIGN_DOWN(fz_value(f), 16ull);

	w->nout = 0;
	w->broken = false;
	tb_vq_init(&w->drv, w->mem, size, base);
	if (virtq_enable(&w->q, &w->dma, size, w->drv.desc, w->drv.avail, w->drv.used,
			 some_feature(f)) < 0)
		assert(!w->q.size);
}

static struct tb_buf some_buf(struct fz *f, bool write)
{
	static const uint32_t sizes[] = { 1, 16, 512, 4096, 0, 65536 };
	struct tb_buf b = { 0x10000 + fz_u16(f), sizes[fz_pick(f, ARRAY_LEN(sizes))], write };

	if (fz_u8(f) % 16 == 0)
		b.addr = fz_value(f);
	if (fz_u8(f) % 16 == 0)
		b.len = (uint32_t)fz_value(f);
	if (fz_u8(f) % 8 == 0)
		b.addr = HIGH_GPA + fz_u16(f);
	return b;
}

static void add_chain(struct world *w, struct fz *f)
{
	struct tb_buf b[MAX_BUFS];
	unsigned int n = 1 + fz_pick(f, MAX_BUFS), first = fz_pick(f, n + 1);

	for (unsigned int i = 0; i < n; i++)
		b[i] = some_buf(f, i >= first);
	if (fz_bool(f))
		tb_vq_add(&w->drv, b, MIN(n, w->drv.size));
	else
		tb_vq_add_indirect(&w->drv, 0x30000 + 16 * fz_pick(f, 512), b, n);
}

/* A long chain: every descriptor of the queue. */
static void add_long(struct world *w, struct fz *f)
{
	const struct tb_buf b = some_buf(f, fz_bool(f));

	for (uint16_t i = 0; i < w->drv.size; i++)
		tb_vq_desc(
			&w->drv, w->drv.desc, i, &b,
			(uint16_t)((i + 1 < w->drv.size ? TB_NEXT : 0) | (b.write ? TB_WRITE : 0)),
			(uint16_t)(i + 1));
	tb_vq_avail(&w->drv, 0);
}

static void put_desc(struct world *w, struct fz *f)
{
	const struct tb_buf b = some_buf(f, false);

	tb_vq_desc(&w->drv, w->drv.desc, fz_u16(f) % w->drv.size, &b, fz_u8(f) & 7,
		   (uint16_t)(fz_u8(f) % 8 ? fz_u16(f) % w->drv.size : fz_u16(f)));
}

static bool in_region(const uint8_t *p, size_t len, const uint8_t *start, size_t size)
{
	return p >= start && p < start + size && len <= (size_t)(start + size - p);
}

/* What a chain must be, whatever the driver did. */
static void check_chain(const struct world *w)
{
	const struct virtq_chain *c = &w->chain;
	uint64_t sum[2] = { 0, 0 };

	assert(c->nread + c->nwrite <= VIRTQ_MAX_IOV && c->head < w->q.size);
	for (int i = 0; i < c->nread + c->nwrite; i++) {
		const uint8_t *p = c->iov[i].iov_base;
		size_t len = c->iov[i].iov_len;

		assert(len && (in_region(p, len, w->low, LOW_SIZE) ||
			       in_region(p, len, w->high, HIGH_SIZE)));
		sum[i >= c->nread] += len;
	}
	assert(sum[0] == c->read_len && sum[1] == c->write_len);
}

static void use_chain(struct world *w, struct fz *f)
{
	struct iovec iov[4];
	uint8_t buf[64];
	size_t offset = fz_u16(f);
	int n;

	virtq_read(&w->chain, offset, buf, sizeof(buf));
	virtq_write(&w->chain, offset, buf, sizeof(buf));
	n = virtq_slice(&w->chain, fz_bool(f), offset, fz_u16(f), iov, 4);
	assert(n <= 4);
}

static void pop(struct world *w, struct fz *f)
{
	int r = w->nout < MAX_OUT ? virtq_pop(&w->q, &w->chain) : 0;

	assert(r <= 1);
	if (r < 0)
		w->broken = true; /* the transport would stop here */
	if (r <= 0)
		return;
	check_chain(w);
	use_chain(w, f);
	w->out[w->nout++] = w->chain.head;
	assert(w->nout <= w->q.size);
}

static void push(struct world *w, struct fz *f)
{
	unsigned int i;

	if (!w->nout)
		return;
	i = fz_u16(f) % w->nout;
	virtq_push(&w->q, w->out[i], fz_u32(f));
	w->out[i] = w->out[--w->nout];
	if (fz_bool(f))
		virtq_publish(&w->q);
}

static void step(struct world *w, struct fz *f)
{
	switch (fz_pick(f, 16)) {
	case 0:
		restart(w, f);
		break;
	case 1:
		add_long(w, f);
		break;
	case 2:
		put_desc(w, f);
		break;
	case 3:
		tb_vq_avail(&w->drv, (uint16_t)(fz_u16(f) % w->drv.size));
		break;
	case 4:
		tb_vq_put16(&w->drv, w->drv.avail + 2, fz_u16(f)); /* index */
		break;
	case 5:
		tb_vq_set_used_event(&w->drv, fz_u16(f));
		tb_vq_set_avail_flags(&w->drv, fz_u8(f) & 1);
		break;
	case 6:
		dma_enable(&w->dma, fz_u8(f) % 4);
		break;
	case 7:
		virtq_set_notify(&w->q, fz_bool(f));
		break;
	case 8:
	case 9:
		push(w, f);
		break;
	case 10:
	case 11:
	case 12:
		if (!w->broken)
			pop(w, f);
		break;
	default:
		add_chain(w, f);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct world *w = calloc(1, sizeof(*w));
	int bad = 0;

	assert(w);
	log_set(-1, LOG_LEVEL_ERROR);
	w->mem = mem_new();
	bad |= mem_add_ram(w->mem, 0, LOW_SIZE, 0, NULL);
	bad |= mem_add_ram(w->mem, HIGH_GPA, HIGH_SIZE, 0, NULL);
	assert(!bad);
	w->low = mem_ring(w->mem, 0, LOW_SIZE, 1);
	w->high = mem_ring(w->mem, HIGH_GPA, HIGH_SIZE, 1);
	dma_init(&w->dma, w->mem, true);
	restart(w, &f);
	for (int i = 0; i < 2000 && f.left; i++)
		step(w, &f);
	mem_free(w->mem);
	free(w);
	return 0;
}
