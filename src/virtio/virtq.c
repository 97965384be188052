/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "virtio/virtq.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/canary.h"
#include "util/checked.h"
#include "util/macros.h"

/* virtio 1.2 s2.7.5 */
#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u

#define AVAIL_F_NO_INTERRUPT 1u /* s2.7.6 */
#define USED_F_NO_NOTIFY ((uint16_t)1) /* s2.7.8 */

#define F_INDIRECT_DESC BIT64(28)
#define F_EVENT_IDX BIT64(29)

struct virtq_desc {
	le64 addr;
	le32 len;
	le16 flags, next;
};

/* used_event follows the ring. */
struct virtq_avail {
	le16 flags, idx;
	le16 ring[];
};

struct virtq_used_elem {
	le32 id, len;
};

/* avail_event follows the ring. */
struct virtq_used {
	le16 flags, idx;
	struct virtq_used_elem ring[];
};

_Static_assert(sizeof(struct virtq_desc) == 16, "virtio 1.2 s2.7.5");
_Static_assert(sizeof(struct virtq_used_elem) == 8, "virtio 1.2 s2.7.8");

struct range {
	gpa_t start;
	uint64_t len;
};

static bool ranges_overlap(const struct range *a, const struct range *b)
{
	return a->start < b->start + b->len && b->start < a->start + a->len;
}

int virtq_enable(struct virtq *q, const struct dma *dma, uint16_t size, gpa_t desc, gpa_t avail,
		 gpa_t used, uint64_t features)
{
	const struct range r[3] = { { desc, 16ull * size },
				    { avail, 6 + 2ull * size },
				    { used, 6 + 8ull * size } };
	void *d, *a, *u;

	virtq_disable(q);
	if (!size || size > VIRTQ_MAX_SIZE || (size & (size - 1)))
		return -EINVAL;
	d = dma_ring(dma, r[0].start, r[0].len, 16);
	a = dma_ring(dma, r[1].start, r[1].len, 2);
	u = dma_ring(dma, r[2].start, r[2].len, 4);
	if (!d || !a || !u)
		return -EINVAL;
	if (ranges_overlap(&r[0], &r[1]) || ranges_overlap(&r[0], &r[2]) ||
	    ranges_overlap(&r[1], &r[2]))
		return -EINVAL;
	q->dma = dma;
	q->desc = d;
	q->avail = a;
	q->used = u;
	q->event_idx = features & F_EVENT_IDX;
	q->indirect = features & F_INDIRECT_DESC;
	q->size = size;
	return 0;
}

void virtq_disable(struct virtq *q)
{
	memset(q, 0, sizeof(*q));
}

static bool queue_live(const struct virtq *q)
{
	return q->size && __atomic_load_n(&q->dma->on, __ATOMIC_ACQUIRE);
}

/* The two event indices sit behind the rings (virtio 1.2 s2.7.6, s2.7.8). */
static const le16 *used_event(const struct virtq *q)
{
	return &q->avail->ring[q->size];
}

static le16 *avail_event(const struct virtq *q)
{
	return (le16 *)&q->used->ring[q->size];
}

static bool head_test(const struct virtq *q, uint16_t head)
{
	return q->in_flight[head / 64] & BIT64(head % 64);
}

/* One copy of a descriptor that another vCPU may be rewriting; the barrier keeps the compiler from reading twice. */
static struct virtq_desc desc_copy(const void *p)
{
	struct virtq_desc d;

	memcpy(&d, p, sizeof(d));
	__asm__ volatile("" ::: "memory");
	return d;
}

/* Adds one data descriptor to the chain. */
static int chain_add(const struct virtq *q, struct virtq_chain *c, const struct virtq_desc *d)
{
	bool writable = d->flags & DESC_F_WRITE;
	int used = c->nread + c->nwrite, n;

	if (!writable && c->nwrite)
		return -EINVAL; /* readable after writable: s2.7.4.2 */
	if (!d->len)
		return 0;
	if ((uint64_t)c->read_len + c->write_len + d->len > UINT32_MAX)
		return -EINVAL;
	n = dma_iov(q->dma, d->addr, d->len, &c->iov[used], VIRTQ_MAX_IOV - used);
	if (n < 0)
		return -EINVAL;
	if (writable) {
		c->nwrite = (uint16_t)(c->nwrite + n);
		c->write_len += d->len;
	} else {
		c->nread = (uint16_t)(c->nread + n);
		c->read_len += d->len;
	}
	return 0;
}

/* Walks a table of entries descriptors from index i, at most entries steps. indirect: the table is an indirect one. */
static int chain_walk(const struct virtq *q, struct virtq_chain *c, const uint8_t *table,
		      uint32_t entries, uint32_t i, struct virtq_desc *indirect)
{
	for (uint32_t steps = 0; steps < entries; steps++) {
		struct virtq_desc d = desc_copy(table + 16 * (size_t)i);
		int r;

		if (d.flags & DESC_F_INDIRECT) {
			/* s2.7.5.3.1: negotiated, not nested, and the last of its chain */
			if (!indirect || !q->indirect || (d.flags & DESC_F_NEXT))
				return -EINVAL;
			*indirect = d;
			return 1;
		}
		r = chain_add(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
		if (i >= entries)
			return -EINVAL;
	}
	return -EINVAL; /* a loop */
}

static int chain_fill(const struct virtq *q, struct virtq_chain *c, uint16_t head)
{
	struct virtq_desc d;
	const void *table;
	int r;

	c->head = head;
	c->nread = c->nwrite = 0;
	c->read_len = c->write_len = 0;
	r = chain_walk(q, c, (const uint8_t *)q->desc, q->size, head, &d);
	if (r <= 0)
		return r;
	if (!d.len || d.len % 16 || d.len / 16 > q->size)
		return -EINVAL;
	table = dma_ring(q->dma, d.addr, d.len, 1);
	if (!table)
		return -EINVAL;
	return chain_walk(q, c, table, d.len / 16, 0, NULL);
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	uint16_t avail, head;
	int r;

	if (!queue_live(q))
		return 0;
	avail = ring_load16(&q->avail->idx);
	if (avail == q->last_avail)
		return 0;
	if ((uint16_t)(avail - q->last_avail) > q->size)
		return -EINVAL;
	head = ring_load16(&q->avail->ring[q->last_avail & (q->size - 1)]);
	if (head >= q->size || (head_test(q, head) && !CANARY))
		return -EINVAL;
	r = chain_fill(q, c, head);
	if (r < 0)
		return r;
	q->in_flight[head / 64] |= BIT64(head % 64);
	q->last_avail++;
	q->popped++;
	return 1;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	assert(head < q->size && head_test(q, head));
	q->in_flight[head / 64] &= ~BIT64(head % 64);
	q->pushed++;
	if (queue_live(q)) {
		struct virtq_used_elem *e = &q->used->ring[q->used_idx & (q->size - 1)];

		e->id = head;
		e->len = written;
	}
	q->used_idx++;
}

bool virtq_publish(struct virtq *q)
{
	uint16_t old = q->signalled_used, now = q->used_idx;

	if (!queue_live(q) || old == now)
		return false;
	ring_store16(&q->used->idx, now);
	q->signalled_used = now;
	ring_fence();
	if (!q->event_idx)
		return !(ring_load16(&q->avail->flags) & AVAIL_F_NO_INTERRUPT);
	/* s2.7.7.2: the event index lies in [old, now) */
	return (uint16_t)(now - ring_load16(used_event(q)) - 1) < (uint16_t)(now - old);
}

bool virtq_set_notify(struct virtq *q, bool on)
{
	if (!queue_live(q))
		return false;
	if (!q->event_idx)
		ring_store16(&q->used->flags, on ? 0 : USED_F_NO_NOTIFY);
	else if (on)
		ring_store16(avail_event(q), q->last_avail);
	if (!on)
		return false;
	ring_fence();
	return !virtq_is_empty(q);
}

bool virtq_is_empty(const struct virtq *q)
{
	return !queue_live(q) || ring_load16(&q->avail->idx) == q->last_avail;
}

void virtq_go_on(struct virtq *q, uint16_t next)
{
	if (!q->size)
		return;
	q->last_avail = next;
	q->used_idx = q->signalled_used = ring_load16(&q->used->idx);
}

static const struct iovec *chain_side(const struct virtq_chain *c, bool writable, int *n)
{
	*n = writable ? c->nwrite : c->nread;
	return writable ? c->iov + c->nread : c->iov;
}

/* Copies between buf and one side of the chain; to_guest chooses the direction and with it the side. */
static size_t chain_copy(const struct virtq_chain *c, bool to_guest, size_t offset, uint8_t *buf,
			 size_t len)
{
	int n;
	const struct iovec *v = chain_side(c, to_guest, &n);
	size_t done = 0;

	for (int i = 0; i < n && done < len; i++) {
		size_t part;

		if (offset >= v[i].iov_len) {
			offset -= v[i].iov_len;
			continue;
		}
		part = MIN(v[i].iov_len - offset, len - done);
		if (to_guest)
			memcpy((uint8_t *)v[i].iov_base + offset, buf + done, part);
		else
			memcpy(buf + done, (uint8_t *)v[i].iov_base + offset, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t virtq_read(const struct virtq_chain *c, size_t offset, void *buf, size_t len)
{
	return chain_copy(c, false, offset, buf, len);
}

size_t virtq_write(const struct virtq_chain *c, size_t offset, const void *buf, size_t len)
{
	return chain_copy(c, true, offset, (uint8_t *)(uintptr_t)buf, len);
}

int virtq_slice(const struct virtq_chain *c, bool writable, size_t offset, size_t len,
		struct iovec *iov, int max)
{
	int n, out = 0;
	const struct iovec *v = chain_side(c, writable, &n);

	if (!range_inside(offset, len, writable ? c->write_len : c->read_len))
		return -EINVAL;
	for (int i = 0; i < n && len; i++) {
		size_t part;

		if (offset >= v[i].iov_len) {
			offset -= v[i].iov_len;
			continue;
		}
		if (out == max)
			return -E2BIG;
		part = MIN(v[i].iov_len - offset, len);
		iov[out].iov_base = (uint8_t *)v[i].iov_base + offset;
		iov[out++].iov_len = part;
		len -= part;
		offset = 0;
	}
	return out;
}
