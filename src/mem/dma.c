/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "mem/dma.h"

#include <errno.h>

static bool is_on(const struct dma *d)
{
	return __atomic_load_n(&d->on, __ATOMIC_ACQUIRE);
}

int dma_read(const struct dma *d, gpa_t gpa, void *buf, size_t len)
{
	return is_on(d) ? mem_read(d->mem, gpa, buf, len) : -EFAULT;
}

int dma_write(const struct dma *d, gpa_t gpa, const void *buf, size_t len)
{
	return is_on(d) ? mem_write(d->mem, gpa, buf, len) : -EFAULT;
}

int dma_iov(const struct dma *d, gpa_t gpa, uint64_t len, struct iovec *iov, int max)
{
	return is_on(d) ? mem_iov(d->mem, gpa, len, iov, max) : -EFAULT;
}

void *dma_ring(const struct dma *d, gpa_t gpa, uint64_t len, uint64_t align)
{
	return is_on(d) ? mem_ring(d->mem, gpa, len, align) : NULL;
}
