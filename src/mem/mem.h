/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;

/* A guest physical address. A number: only this module turns it into a pointer. */
typedef uint64_t gpa_t;

/*
 * The map of guest RAM. It is fixed before the first vCPU runs; all access functions may then be called from any
 * thread. Only RAM is in it: an address of a device, of flash or of the frame buffer fails, so that DMA never
 * reaches a register (security rule R2).
 */
struct mem;

#define MEM_MAX_REGIONS 8
#define MEM_IOV_MAX 256

struct mem_region {
	gpa_t gpa;
	uint64_t len;
	void *host;
	int fd; /* memfd (MEM_SHARED_MEMFD), else -1 */
};

struct mem *mem_new(void);
/* Unmaps what mem_add_ram mapped. */
void mem_free(struct mem *m);

enum mem_flags {
	MEM_SHARED_MEMFD = 1 << 0, /* another process will map it; else private and anonymous */
	MEM_WIRED = 1 << 1, /* mlock */
	MEM_PREFAULT = 1 << 2,
	MEM_IN_CORE = 1 << 3, /* leave it in core dumps */
};

/* Allocates len bytes (page multiple), 2 MiB aligned, zeroed, and adds them at gpa. Regions must not overlap. */
int mem_add_ram(struct mem *m, gpa_t gpa, uint64_t len, unsigned int flags, struct err *err);
/* Regions in ascending order, for memory slots and e820. Returns the count. */
size_t mem_regions(const struct mem *m, const struct mem_region **out);
uint64_t mem_size(const struct mem *m);

/* All or nothing across regions: 0, or -EFAULT if any byte is not RAM or the range wraps. len 0 succeeds. */
int mem_read(const struct mem *m, gpa_t gpa, void *buf, size_t len);
int mem_write(const struct mem *m, gpa_t gpa, const void *buf, size_t len);
int mem_fill(const struct mem *m, gpa_t gpa, int byte, size_t len);

/* Splits [gpa, gpa+len) at region ends into at most max pieces. Returns the count (0 for len 0), -EFAULT, or -E2BIG. */
int mem_iov(const struct mem *m, gpa_t gpa, uint64_t len, struct iovec *iov, int max);

/* Pointer to len bytes inside one region for structures that live long (rings), or NULL. align is a power of two. */
void *mem_ring(const struct mem *m, gpa_t gpa, uint64_t len, uint64_t align);

/* Ring indices and flags shared with a running guest: the only atomics in models. */
static inline uint16_t ring_load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void ring_store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static inline uint32_t ring_load32(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static inline void ring_store32(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* Store-load order between publishing an index and reading the other side's (virtio 1.2 s2.7.13.4). */
static inline void ring_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
