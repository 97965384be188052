/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MEM_DMA_H
#define MEM_DMA_H

#include "mem/mem.h"

/*
 * What a model holds instead of the memory map: the map as one device function sees it. While the function's bus
 * master bit is clear every call fails with -EFAULT. Devices that are not on PCI get a handle that is always on.
 * Calls may come from any thread that runs the device.
 */
struct dma {
	const struct mem *mem;
	bool on;
};

static inline void dma_init(struct dma *d, const struct mem *mem, bool on)
{
	d->mem = mem;
	__atomic_store_n(&d->on, on, __ATOMIC_RELEASE);
}

static inline void dma_enable(struct dma *d, bool on)
{
	__atomic_store_n(&d->on, on, __ATOMIC_RELEASE);
}

/* As mem_read, mem_write, mem_iov, mem_ring; -EFAULT (or NULL) while off. */
int dma_read(const struct dma *d, gpa_t gpa, void *buf, size_t len);
int dma_write(const struct dma *d, gpa_t gpa, const void *buf, size_t len);
int dma_iov(const struct dma *d, gpa_t gpa, uint64_t len, struct iovec *iov, int max);
void *dma_ring(const struct dma *d, gpa_t gpa, uint64_t len, uint64_t align);

#endif
