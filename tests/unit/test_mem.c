/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mem/dma.h"
#include "mem/mem.h"
#include "run.h"
#include "util/err.h"
#include "util/macros.h"

#define LOW (1 * MIB)
#define HIGH_GPA (4 * GIB)
#define HIGH (64 * KIB)

/* Low memory, a second region right behind it, a hole, high memory. */
static struct mem *make_mem(void)
{
	struct mem *m = mem_new();

	CHECK(m);
	CHECK_EQ(mem_add_ram(m, HIGH_GPA, HIGH, 0, NULL), 0);
	CHECK_EQ(mem_add_ram(m, 0, LOW, 0, NULL), 0);
	CHECK_EQ(mem_add_ram(m, LOW, HIGH, MEM_PREFAULT, NULL), 0);
	return m;
}

static void check_refused(const struct mem *m, gpa_t gpa, uint64_t len)
{
	static uint8_t buf[64 * KIB];
	struct iovec iov[4];

	CHECK(len <= sizeof(buf));
	CHECK_EQ(mem_read(m, gpa, buf, len), -EFAULT);
	CHECK_EQ(mem_write(m, gpa, buf, len), -EFAULT);
	CHECK_EQ(mem_fill(m, gpa, 0xaa, len), -EFAULT);
	CHECK_EQ(mem_iov(m, gpa, len, iov, 4), -EFAULT);
	CHECK(!mem_ring(m, gpa, len, 1));
}

static void test_regions_are_sorted(void)
{
	struct mem *m = make_mem();
	const struct mem_region *r;

	CHECK_EQ(mem_regions(m, &r), 3);
	CHECK_EQ(r[0].gpa, 0);
	CHECK_EQ(r[1].gpa, LOW);
	CHECK_EQ(r[2].gpa, HIGH_GPA);
	CHECK_EQ(mem_size(m), LOW + 2 * HIGH);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ((uintptr_t)r[i].host % (2 * MIB), 0);
		CHECK_EQ(r[i].fd, -1);
	}
	mem_free(m);
	mem_free(NULL);
}

/*
 * A child would share the pages until it starts its program: what the host reads into one of ours meanwhile may then
 * end up in the child's copy. It does not get them at all.
 */
static void test_not_in_children(void)
{
	struct mem *m = make_mem();
	const struct mem_region *r;
	unsigned char vec;
	int status;
	pid_t pid;

	mem_regions(m, &r);
	CHECK_EQ(mem_fill(m, 0, 1, 1), 0);
	CHECK_EQ(mincore(r[0].host, 4096, &vec), 0);
	pid = fork();
	if (pid == 0)
		_exit(mincore(r[0].host, 4096, &vec) == 0 || errno != ENOMEM);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
	mem_free(m);
}

static void test_add_refuses(void)
{
	struct mem *m = make_mem();
	struct err err;

	CHECK_EQ(mem_add_ram(m, 0, 4096, 0, &err), -EINVAL);
	CHECK(strstr(err.text, "overlaps"));
	CHECK_EQ(mem_add_ram(m, LOW + HIGH - 4096, 8192, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, HIGH_GPA - 4096, 8192, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, 2 * MIB, 0, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, 2 * MIB, 4095, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, 2 * MIB + 1, 4096, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, UINT64_MAX - 4095, 4096, 0, NULL), -EINVAL);
	CHECK_EQ(mem_add_ram(m, 1ull << 40, 1ull << 62, 0, &err), -ENOMEM);
	CHECK(strstr(err.text, "give the guest less"));
	CHECK_EQ(mem_size(m), LOW + 2 * HIGH);
	for (unsigned int i = 3; i < MEM_MAX_REGIONS; i++)
		CHECK_EQ(mem_add_ram(m, i * 16 * GIB, 4096, 0, NULL), 0);
	CHECK_EQ(mem_add_ram(m, 1000 * GIB, 4096, 0, NULL), -ENOSPC);
	mem_free(m);
}

static void test_wrapping_range(void)
{
	struct mem *m = make_mem();

	check_refused(m, UINT64_MAX, 2);
	check_refused(m, ~0xfffull, 0x2000);
	check_refused(m, UINT64_MAX - 7, 8);
	check_refused(m, HIGH_GPA + HIGH - 1, 2);
	CHECK_EQ(mem_iov(m, 4096, UINT64_MAX, NULL, 0), -EFAULT);
	CHECK_EQ(mem_iov(m, 4096, UINT64_MAX - 4095, NULL, 0), -EFAULT);
	CHECK(!mem_ring(m, 4096, UINT64_MAX, 4096));
	mem_free(m);
}

static void test_hole(void)
{
	struct mem *m = make_mem();
	uint8_t b = 7;

	check_refused(m, LOW + HIGH - 1, 2);
	check_refused(m, LOW + HIGH, 1);
	check_refused(m, HIGH_GPA - 1, 2);
	check_refused(m, 0xfee00000, 4);
	/* All or nothing: the byte before the hole was not written. */
	CHECK_EQ(mem_read(m, LOW + HIGH - 1, &b, 1), 0);
	CHECK_EQ(b, 0);
	mem_free(m);
}

static void test_across_regions(void)
{
	struct mem *m = make_mem();
	uint8_t in[16], out[16] = { 0 };
	struct iovec iov[2] = { { 0 } };
	const struct mem_region *r;

	for (int i = 0; i < 16; i++)
		in[i] = (uint8_t)(i + 1);
	CHECK_EQ(mem_write(m, LOW - 8, in, 16), 0);
	CHECK_EQ(mem_read(m, LOW - 8, out, 16), 0);
	CHECK(memcmp(in, out, 16) == 0);
	CHECK_EQ(mem_iov(m, LOW - 8, 16, iov, 1), -E2BIG);
	CHECK(!iov[0].iov_base);
	CHECK_EQ(mem_iov(m, LOW - 8, 16, iov, 2), 2);
	mem_regions(m, &r);
	CHECK(iov[0].iov_base == (uint8_t *)r[0].host + LOW - 8);
	CHECK(iov[1].iov_base == r[1].host);
	CHECK_EQ(iov[0].iov_len, 8);
	CHECK_EQ(iov[1].iov_len, 8);
	CHECK(!mem_ring(m, LOW - 8, 16, 8));
	CHECK_EQ(mem_fill(m, LOW - 1, 0x5a, 2), 0);
	CHECK_EQ(mem_read(m, LOW - 2, out, 4), 0);
	CHECK_EQ(out[0], 7);
	CHECK_EQ(out[1], 0x5a);
	CHECK_EQ(out[2], 0x5a);
	CHECK_EQ(out[3], 10);
	mem_free(m);
}

static void test_edges(void)
{
	struct mem *m = make_mem();
	uint8_t b = 0x42;
	struct iovec iov;

	/* Nothing is a no-op wherever it points. */
	CHECK_EQ(mem_read(m, UINT64_MAX, &b, 0), 0);
	CHECK_EQ(mem_write(m, 3 * GIB, &b, 0), 0);
	CHECK_EQ(mem_fill(m, 3 * GIB, 1, 0), 0);
	CHECK_EQ(mem_iov(m, 3 * GIB, 0, &iov, 0), 0);
	CHECK_EQ(mem_write(m, HIGH_GPA + HIGH - 1, &b, 1), 0);
	CHECK_EQ(mem_iov(m, HIGH_GPA, HIGH, &iov, 1), 1);
	CHECK_EQ(iov.iov_len, HIGH);
	CHECK_EQ(((uint8_t *)iov.iov_base)[HIGH - 1], 0x42);
	mem_free(m);
}

static void test_ring(void)
{
	struct mem *m = make_mem();
	uint16_t *p = mem_ring(m, HIGH_GPA + 4096, HIGH - 4096, 4096);

	CHECK(p);
	ring_store16(p, 0x1234);
	ring_fence();
	CHECK_EQ(ring_load16(p), 0x1234);
	CHECK(!mem_ring(m, HIGH_GPA + 4096, HIGH - 4095, 4096));
	CHECK(!mem_ring(m, HIGH_GPA + 2048, 64, 4096));
	CHECK(mem_ring(m, HIGH_GPA + 2048, 64, 2048));
	mem_free(m);
}

static void test_shared_memfd(void)
{
	struct mem *m = mem_new();
	const struct mem_region *r;
	uint32_t v = 0xfeedface;
	uint32_t *other;

	CHECK_EQ(mem_add_ram(m, 0, 64 * KIB, MEM_SHARED_MEMFD, NULL), 0);
	mem_regions(m, &r);
	CHECK(r->fd >= 0);
	other = mmap(NULL, 4096, PROT_READ, MAP_SHARED, r->fd, 0);
	CHECK(other != MAP_FAILED);
	CHECK_EQ(mem_write(m, 8, &v, 4), 0);
	CHECK_EQ(other[2], v);
	munmap(other, 4096);
	mem_free(m);
}

static void test_dma_follows_bus_master(void)
{
	struct mem *m = make_mem();
	struct iovec iov;
	struct dma d;
	uint32_t v = 1;

	dma_init(&d, m, false);
	CHECK_EQ(dma_read(&d, 0, &v, 4), -EFAULT);
	CHECK_EQ(dma_write(&d, 0, &v, 4), -EFAULT);
	CHECK_EQ(dma_iov(&d, 0, 4, &iov, 1), -EFAULT);
	CHECK(!dma_ring(&d, 0, 4, 4));
	dma_enable(&d, true);
	CHECK_EQ(dma_write(&d, 0, &v, 4), 0);
	v = 0;
	CHECK_EQ(dma_read(&d, 0, &v, 4), 0);
	CHECK_EQ(v, 1);
	CHECK_EQ(dma_iov(&d, 0, 4, &iov, 1), 1);
	CHECK(dma_ring(&d, 0, 4, 4));
	dma_enable(&d, false);
	CHECK_EQ(dma_read(&d, 0, &v, 4), -EFAULT);
	mem_free(m);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "regions_are_sorted", test_regions_are_sorted },
		{ "not_in_children", test_not_in_children },
		{ "add_refuses", test_add_refuses },
		{ "wrapping_range", test_wrapping_range },
		{ "hole", test_hole },
		{ "across_regions", test_across_regions },
		{ "edges", test_edges },
		{ "ring", test_ring },
		{ "shared_memfd", test_shared_memfd },
		{ "dma_follows_bus_master", test_dma_follows_bus_master },
	};

	return RUN_CASES(cases, argc, argv);
}
