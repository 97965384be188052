/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/ring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/macros.h"

/* In front of each frame. A length of 0 says that the rest up to the end of the memory is skipped. */
#define ALIGN sizeof(uint64_t)

static size_t space_of(size_t len)
{
	return ALIGN + ALIGN_UP(len, ALIGN);
}

static uint64_t *length_at(const struct ring *r, size_t at)
{
	return (uint64_t *)(void *)(r->mem + (at & (r->size - 1)));
}

int ring_init(struct ring *r, size_t size)
{
	assert(size >= ALIGN && (size & (size - 1)) == 0);
	*r = (struct ring){ .mem = malloc(size), .size = size };
	return r->mem ? 0 : -ENOMEM;
}

void ring_fini(struct ring *r)
{
	free(r->mem);
	r->mem = NULL;
}

void ring_clear(struct ring *r)
{
	r->head = r->tail = 0;
}

bool ring_put(struct ring *r, const void *frame, size_t len)
{
	size_t space = space_of(len), to_end = r->size - (r->tail & (r->size - 1));
	size_t skip = space > to_end ? to_end : 0;

	if (space + skip > r->size - ring_used(r))
		return false;
	if (skip) {
		*length_at(r, r->tail) = 0;
		r->tail += skip;
	}
	*length_at(r, r->tail) = len;
	memcpy(length_at(r, r->tail) + 1, frame, len);
	r->tail += space;
	return true;
}

const uint8_t *ring_peek(const struct ring *r, size_t *len)
{
	size_t at = r->head;

	if (at == r->tail)
		return NULL;
	if (*length_at(r, at) == 0)
		at += r->size - (at & (r->size - 1));
	*len = *length_at(r, at);
	return (const uint8_t *)(length_at(r, at) + 1);
}

void ring_drop(struct ring *r)
{
	size_t len;

	if (!ring_peek(r, &len))
		return;
	if (*length_at(r, r->head) == 0)
		r->head += r->size - (r->head & (r->size - 1));
	r->head += space_of(len);
}
