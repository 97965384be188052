/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "mem/mem.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/checked.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define HUGE_PAGE (2 * MIB)
#define SMALL_PAGE (4 * KIB)

struct mem {
	size_t n;
	struct mem_region regions[MEM_MAX_REGIONS]; /* ascending, apart */
};

struct mem *mem_new(void)
{
	return calloc(1, sizeof(struct mem));
}

void mem_free(struct mem *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n; i++) {
		munmap(m->regions[i].host, m->regions[i].len);
		fd_close(&m->regions[i].fd);
	}
	free(m);
}

/* Reserves len bytes of addresses at a multiple of 2 MiB, so that huge pages of guest and host coincide. */
static void *reserve_aligned(uint64_t len)
{
	uint64_t padded;
	uintptr_t start, aligned;
	void *p;

	if (!checked_add(len, HUGE_PAGE, &padded))
		return MAP_FAILED;
	p = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return p;
	start = (uintptr_t)p;
	aligned = ALIGN_UP(start, HUGE_PAGE);
	if (aligned > start)
		munmap(p, aligned - start);
	if (start + padded > aligned + len)
		munmap((void *)(aligned + len), start + padded - aligned - len);
	return (void *)aligned;
}

/* Makes the kernel hand out every page now. Kernels before 5.14 need a write to each. */
static void prefault(uint8_t *host, uint64_t len)
{
	if (madvise(host, len, MADV_POPULATE_WRITE) == 0)
		return;
	for (uint64_t i = 0; i < len; i += SMALL_PAGE)
		*(volatile uint8_t *)(host + i) = 0;
}

static int map_ram(struct mem_region *r, unsigned int flags)
{
	int map_flags = MAP_FIXED | MAP_NORESERVE;
	int ret = 0;

	if (flags & MEM_SHARED_MEMFD) {
		r->fd = fd_memfd("khyve-ram", r->len);
		if (r->fd < 0)
			return r->fd;
		map_flags |= MAP_SHARED;
	} else {
		map_flags |= MAP_PRIVATE | MAP_ANONYMOUS;
	}
	r->host = reserve_aligned(r->len);
	if (r->host == MAP_FAILED ||
	    mmap(r->host, r->len, PROT_READ | PROT_WRITE, map_flags, r->fd, 0) == MAP_FAILED) {
		ret = -errno;
		goto fail;
	}
	/* Advice only: a kernel without the feature is slower, not wrong. */
	(void)madvise(r->host, r->len, MADV_HUGEPAGE);
	/* A page shared with a child is copied when we write: direct I/O in flight would fill the wrong copy. */
	(void)madvise(r->host, r->len, MADV_DONTFORK);
	if (!(flags & MEM_IN_CORE))
		(void)madvise(r->host, r->len, MADV_DONTDUMP);
	if (flags & MEM_PREFAULT)
		prefault(r->host, r->len);
	if ((flags & MEM_WIRED) && mlock(r->host, r->len) < 0) {
		ret = -errno;
		goto fail;
	}
	return 0;
fail:
	if (r->host != MAP_FAILED)
		munmap(r->host, r->len);
	fd_close(&r->fd);
	return ret;
}

/* Where a new region goes in the ascending array, or -EINVAL if it touches another's bytes. */
static int find_place(const struct mem *m, gpa_t gpa, gpa_t end)
{
	size_t i = 0;

	while (i < m->n && m->regions[i].gpa < gpa)
		i++;
	if (i > 0 && m->regions[i - 1].gpa + m->regions[i - 1].len > gpa)
		return -EINVAL;
	if (i < m->n && end > m->regions[i].gpa)
		return -EINVAL;
	return (int)i;
}

int mem_add_ram(struct mem *m, gpa_t gpa, uint64_t len, unsigned int flags, struct err *err)
{
	struct mem_region r = { .gpa = gpa, .len = len, .fd = -1 };
	gpa_t end;
	int at, ret;

	if (m->n == MEM_MAX_REGIONS)
		return err_set(err, -ENOSPC, "guest memory has too many regions");
	if (len == 0 || (gpa | len) % SMALL_PAGE || !checked_add(gpa, len, &end))
		return err_set(err, -EINVAL, "guest memory of %llu bytes at 0x%llx is not in pages",
			       (unsigned long long)len, (unsigned long long)gpa);
	at = find_place(m, gpa, end);
	if (at < 0)
		return err_set(err, at, "guest memory at 0x%llx overlaps other guest memory",
			       (unsigned long long)gpa);
	ret = map_ram(&r, flags);
	if (ret < 0)
		return err_set(err, ret, "cannot %s %llu MiB of guest memory: %s; %s",
			       flags & MEM_WIRED ? "wire" : "get", (unsigned long long)(len / MIB),
			       strerror(-ret),
			       flags & MEM_WIRED ? "raise the limit (ulimit -l) or do not wire it"
						 : "give the guest less");
	memmove(&m->regions[at + 1], &m->regions[at], (m->n - (size_t)at) * sizeof(r));
	m->regions[at] = r;
	m->n++;
	return 0;
}

size_t mem_regions(const struct mem *m, const struct mem_region **out)
{
	*out = m->regions;
	return m->n;
}

uint64_t mem_size(const struct mem *m)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < m->n; i++)
		sum += m->regions[i].len;
	return sum;
}

static const struct mem_region *find_region(const struct mem *m, gpa_t gpa)
{
	/* Below the region the difference wraps to more than any length: no region reaches 2^64. */
	for (size_t i = 0; i < m->n; i++)
		if (gpa - m->regions[i].gpa < m->regions[i].len)
			return &m->regions[i];
	return NULL;
}

/*
 * The piece of [gpa, gpa + len) that starts at gpa and lies in one region. No region ends at 2^64 (mem_add_ram), so
 * gpa + *n never wraps, and a range that does meets an address without RAM first.
 */
static uint8_t *find_piece(const struct mem *m, gpa_t gpa, uint64_t len, uint64_t *n)
{
	const struct mem_region *r = find_region(m, gpa);

	if (!r)
		return NULL;
	*n = MIN(len, r->len - (gpa - r->gpa));
	return (uint8_t *)r->host + (gpa - r->gpa);
}

/* How many pieces the range has, or -EFAULT if a byte of it is not RAM. */
static int count_pieces(const struct mem *m, gpa_t gpa, uint64_t len)
{
	int count = 0;

	for (uint64_t n = 0; len; gpa += n, len -= n, count++)
		if (!find_piece(m, gpa, len, &n))
			return -EFAULT;
	return count;
}

int mem_read(const struct mem *m, gpa_t gpa, void *buf, size_t len)
{
	uint8_t *to = buf;
	int count = count_pieces(m, gpa, len);

	if (count < 0)
		return count;
	for (uint64_t n = 0; len; gpa += n, to += n, len -= n) {
		const uint8_t *from = find_piece(m, gpa, len, &n);

		memcpy(to, from, n);
	}
	return 0;
}

int mem_write(const struct mem *m, gpa_t gpa, const void *buf, size_t len)
{
	const uint8_t *from = buf;
	int count = count_pieces(m, gpa, len);

	if (count < 0)
		return count;
	for (uint64_t n = 0; len; gpa += n, from += n, len -= n) {
		uint8_t *to = find_piece(m, gpa, len, &n);

		memcpy(to, from, n);
	}
	return 0;
}

int mem_fill(const struct mem *m, gpa_t gpa, int byte, size_t len)
{
	int count = count_pieces(m, gpa, len);

	if (count < 0)
		return count;
	for (uint64_t n = 0; len; gpa += n, len -= n) {
		uint8_t *to = find_piece(m, gpa, len, &n);

		memset(to, byte, n);
	}
	return 0;
}

/* Kept apart so that the short way saves no registers. */
__attribute__((noinline)) static int iov_pieces(const struct mem *m, gpa_t gpa, uint64_t len,
						struct iovec *iov, int max)
{
	int count = count_pieces(m, gpa, len);

	if (count < 0)
		return count;
	if (count > max)
		return -E2BIG;
	for (uint64_t n = 0; len; gpa += n, len -= n, iov++) {
		iov->iov_base = find_piece(m, gpa, len, &n);
		iov->iov_len = n;
	}
	return count;
}

int mem_iov(const struct mem *m, gpa_t gpa, uint64_t len, struct iovec *iov, int max)
{
	const struct mem_region *r = find_region(m, gpa);

	/* Nearly every request lies in one region. */
	if (!r || !len || len > r->len - (gpa - r->gpa) || max < 1)
		return iov_pieces(m, gpa, len, iov, max);
	iov->iov_base = (uint8_t *)r->host + (gpa - r->gpa);
	iov->iov_len = len;
	return 1;
}

void *mem_ring(const struct mem *m, gpa_t gpa, uint64_t len, uint64_t align)
{
	uint64_t n;
	uint8_t *p;

	assert(align && (align & (align - 1)) == 0);
	if (gpa & (align - 1))
		return NULL;
	p = find_piece(m, gpa, len, &n);
	return p && n == len ? p : NULL;
}
