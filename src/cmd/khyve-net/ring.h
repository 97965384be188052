/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_RING_H
#define CMD_KHYVE_NET_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A queue of frames in one block of memory that never grows. */
struct ring {
	uint8_t *mem;
	size_t size; /* a power of two */
	size_t head, tail; /* counted without end: tail - head bytes are in use */
};

/* size: a power of two. 0 or -ENOMEM. */
int ring_init(struct ring *r, size_t size);
void ring_fini(struct ring *r);
void ring_clear(struct ring *r);
/* False: no room, the frame is dropped. len is at least 1. */
bool ring_put(struct ring *r, const void *frame, size_t len);
/* The oldest frame, contiguous, and its length; NULL: empty. It stays until ring_drop. */
const uint8_t *ring_peek(const struct ring *r, size_t *len);
void ring_drop(struct ring *r);

static inline size_t ring_used(const struct ring *r)
{
	return r->tail - r->head;
}

#endif
