/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "back/blk.h"
#include "loop/loop.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

#define SIZE (4 * MIB)

/* A disk of each kind, on a temporary file where it needs one. */
enum kind { RING, POOL, DIRECT, MEM, FAULT };

struct disk {
	struct loop *l;
	struct blk *b;
	char path[64];
};

#define CASE_(name, kind)                \
	static void name##_##kind(void)  \
	{                                \
		if (!kind_missing(kind)) \
			name(kind);      \
	}
#define FILES(name) CASE_(name, RING) CASE_(name, POOL) CASE_(name, DIRECT)
#define ALL(name) FILES(name) CASE_(name, MEM) CASE_(name, FAULT)
#define FILE_CASES(name)                                                 \
	{ #name " uring", name##_RING }, { #name " pool", name##_POOL }, \
	{                                                                \
#name " direct", name##_DIRECT                           \
	}
#define ALL_CASES(name)                                 \
	FILE_CASES(name), { #name " mem", name##_MEM }, \
	{                                               \
#name " fault", name##_FAULT            \
	}

static void temp_file_in(const char *dir, char path[64], uint64_t size)
{
	int fd;

	snprintf(path, 64, "%s/test_blk-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

/* On a file system with a disk below it. */
static void temp_file(char path[64], uint64_t size)
{
	temp_file_in("/var/tmp", path, size);
}

static struct loop *loop_of(enum kind k)
{
	return loop_new(k == RING ? LOOP_URING : k == POOL ? LOOP_EPOLL : LOOP_AUTO, NULL);
}

static bool kind_missing(enum kind k)
{
	char path[64];
	struct loop *l = loop_of(k);
	bool missing = !l;
	int fd;

	loop_free(l);
	if (k == DIRECT) {
		temp_file(path, 4096);
		fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		missing = missing || fd < 0;
		close(fd);
		unlink(path);
	}
	if (missing)
		printf("skip %s: this host has no such engine\n", test_run_.name);
	return missing;
}

static struct blk *must_open(struct loop *l, const struct blk_spec *spec)
{
	struct err err = { 0 };
	struct blk *b = blk_open(l, spec, &err);

	if (!b)
		CHECK_FAIL("blk_open: %s", err.text);
	return b;
}

static struct disk disk_new_in(const char *dir, enum kind k)
{
	struct disk d = { .l = loop_of(k) };
	struct blk_spec spec = { .path = d.path, .nocache = k == DIRECT };

	CHECK(d.l);
	if (k == MEM) {
		d.b = blk_open_mem(d.l, SIZE, 512);
	} else if (k == FAULT) {
		d.b = blk_open_fault(d.l, blk_open_mem(d.l, SIZE, 512));
	} else {
		temp_file_in(dir, d.path, SIZE);
		d.b = must_open(d.l, &spec);
	}
	CHECK(d.b);
	return d;
}

static struct disk disk_new(enum kind k)
{
	return disk_new_in("/var/tmp", k);
}

static void disk_free(struct disk *d)
{
	struct blk_stats s;

	blk_stats_get(d->b, &s);
	CHECK_EQ(s.accepted, s.completed);
	blk_close(d->b);
	loop_free(d->l);
	if (d->path[0])
		unlink(d->path);
}

struct op {
	struct blk_req req;
	struct iovec iov;
	int res, calls;
};

static void op_done(struct blk_req *req, int res)
{
	struct op *o = container_of(req, struct op, req);

	o->res = res;
	o->calls++;
}

static void op_init(struct op *o, enum blk_op op, uint64_t offset, void *buf, uint64_t len)
{
	*o = (struct op){ .iov = { buf, len } };
	o->req = (struct blk_req){ .op = op, .offset = offset, .len = len, .done = op_done };
	if (buf) {
		o->req.iov = &o->iov;
		o->req.iovcnt = 1;
	}
}

static void op_start(struct blk *b, struct op *o)
{
	struct blk_req *r = &o->req;

	blk_submit(b, &r, 1);
	CHECK_EQ(o->calls, 0); /* never inside */
}

static int op_wait(struct loop *l, struct op *o)
{
	for (int i = 0; i < 10000 && !o->calls; i++)
		loop_step(l, true);
	CHECK_EQ(o->calls, 1);
	return o->res;
}

static int run_op(struct disk *d, enum blk_op op, unsigned int flags, uint64_t offset, void *buf,
		  uint64_t len)
{
	struct op o;

	op_init(&o, op, offset, buf, len);
	o.req.flags = flags;
	op_start(d->b, &o);
	return op_wait(d->l, &o);
}

static void fill(uint8_t *p, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(rand_r(&seed) >> 8);
}

static void basics(enum kind k)
{
	struct disk d = disk_new(k);
	uint8_t out[8192], in[8192], zero[8192] = { 0 };
	const struct blk_info *info = blk_info_get(d.b);
	struct blk_stats s;

	CHECK_EQ(info->size, SIZE);
	CHECK_EQ(info->sector, 512);
	CHECK(!info->read_only && info->write_zeroes);
	fill(out, sizeof(out), 1);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 512, out, 8192), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 512, in, 8192), 0);
	CHECK(!memcmp(in, out, 8192));
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), 0);
	CHECK_EQ(run_op(&d, BLK_WRITE, BLK_FUA, SIZE - 8192, out, 8192), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, SIZE - 8192, in, 8192), 0);
	CHECK(!memcmp(in, out, 8192));
	if (info->discard) {
		CHECK_EQ(run_op(&d, BLK_DISCARD, 0, 1024, NULL, 4096), 0);
		CHECK_EQ(run_op(&d, BLK_READ, 0, 512, in, 8192), 0);
		CHECK(!memcmp(in, out, 512));
		CHECK(!memcmp(in + 512, zero, 4096));
		CHECK(!memcmp(in + 4608, out + 4608, 8192 - 4608));
	}
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, out, 8192), 0);
		CHECK_EQ(run_op(&d, BLK_WRITE_ZEROES,
				(i & 1 ? BLK_UNMAP : 0) | (i & 2 ? BLK_FUA : 0), 512, NULL, 4608),
			 0);
		CHECK_EQ(run_op(&d, BLK_READ, 0, 0, in, 8192), 0);
		CHECK(!memcmp(in, out, 512));
		CHECK(!memcmp(in + 512, zero, 4608));
		CHECK(!memcmp(in + 5120, out + 5120, 3072));
	}
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, NULL, 0), 0);
	blk_stats_get(d.b, &s);
	CHECK_EQ(s.failed, 0);
	CHECK_EQ(s.flushes, 1);
	CHECK_EQ(s.write_bytes, 6 * 8192);
	disk_free(&d);
}
ALL(basics)

static void bad_ranges(enum kind k)
{
	static const struct {
		uint64_t offset, len;
	} bad[] = {
		{ SIZE, 512 },	     { SIZE - 512, 1024 },	 { 1, 512 },
		{ 512, 511 },	     { UINT64_MAX - 511, 1024 }, { UINT64_MAX - 511, 512 },
		{ 1ull << 63, 512 }, { 0, SIZE + 512 },
	};
	static const enum blk_op ops[] = { BLK_READ, BLK_WRITE, BLK_DISCARD, BLK_WRITE_ZEROES };
	struct disk d = disk_new(k);
	uint8_t *buf =
		mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct op o;
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		for (size_t j = 0; j < ARRAY_LEN(ops); j++)
			CHECK_EQ(run_op(&d, ops[j], 0, bad[i].offset, j < 2 ? buf : NULL,
					bad[i].len),
				 -EINVAL);
	/* Vectors that do not add up to the length. */
	op_init(&o, BLK_WRITE, 0, buf, 1024);
	o.req.len = 512;
	op_start(d.b, &o);
	CHECK_EQ(op_wait(d.l, &o), -EINVAL);
	if (d.path[0]) {
		CHECK_EQ(stat(d.path, &st), 0);
		CHECK_EQ(st.st_size, SIZE);
	}
	munmap(buf, SIZE + 4096);
	disk_free(&d);
}
ALL(bad_ranges)

/* 10^4 operations, up to 16 at once on ranges that do not overlap, against a copy in memory. */
struct random_slot {
	struct op o;
	struct iovec iov[4];
	uint8_t *buf; /* unaligned now and then */
	bool busy;
};

#define SLOTS 16
#define SLOT_SIZE (SIZE / SLOTS)

static void random_start(struct disk *d, struct random_slot *s, uint8_t *model, unsigned int slot,
			 unsigned int *seed)
{
	uint64_t len = (uint64_t)(1 + (unsigned int)rand_r(seed) % 32) * 512;
	uint64_t offset = slot * SLOT_SIZE +
			  (uint64_t)((unsigned int)rand_r(seed) % ((SLOT_SIZE - len) / 512)) * 512;
	unsigned int pick = (unsigned int)rand_r(seed) % 100,
		     cut = (unsigned int)rand_r(seed) % 512;
	enum blk_op op = pick < 40   ? BLK_READ
			 : pick < 80 ? BLK_WRITE
			 : pick < 88 ? BLK_WRITE_ZEROES
			 : pick < 99 ? BLK_DISCARD
				     : BLK_FLUSH;
	uint8_t *buf = s->buf + (pick & 1 ? 0 : 8);

	if (op == BLK_DISCARD && !blk_info_get(d->b)->discard)
		op = BLK_WRITE_ZEROES;
	op_init(&s->o, op, offset, op == BLK_READ || op == BLK_WRITE ? buf : NULL, len);
	s->o.req.flags = pick == 49 ? BLK_FUA : pick % 5 == 0 ? BLK_UNMAP : 0;
	if (op == BLK_FLUSH) {
		s->o.req.len = s->o.req.offset = 0;
	} else if (op == BLK_WRITE) {
		fill(buf, len, (unsigned int)rand_r(seed));
		memcpy(model + offset, buf, len);
	} else if (op != BLK_READ) {
		memset(model + offset, 0, len);
	}
	if (s->o.req.iov && pick % 3 == 0) {
		s->iov[0] = (struct iovec){ buf, cut };
		s->iov[1] = (struct iovec){ buf + cut, 0 };
		s->iov[2] = (struct iovec){ buf + cut, 1 };
		s->iov[3] = (struct iovec){ buf + cut + 1, len - cut - 1 };
		s->o.req.iov = s->iov;
		s->o.req.iovcnt = 4;
	}
	op_start(d->b, &s->o);
	s->busy = true;
}

static void random_finish(struct random_slot *s, const uint8_t *model)
{
	if (!s->busy || !s->o.calls)
		return;
	CHECK_EQ(s->o.calls, 1);
	CHECK_EQ(s->o.res, 0);
	if (s->o.req.op == BLK_READ)
		CHECK(!memcmp(s->o.iov.iov_base, model + s->o.req.offset, s->o.req.len));
	s->busy = false;
}

static void random_ops(enum kind k)
{
	/* A thousand are enough where every write waits for a real disk. */
	struct disk d = disk_new_in(k == DIRECT ? "/var/tmp" : "/dev/shm", k);
	struct random_slot *slots = calloc(SLOTS, sizeof(*slots));
	uint8_t *model = calloc(1, SIZE), *image = malloc(SIZE);
	unsigned int seed = 7, left = k == DIRECT ? 1000 : 10000, busy = 0;

	for (unsigned int i = 0; i < SLOTS; i++)
		slots[i].buf = aligned_alloc(4096, 20480);
	do {
		busy = 0;
		for (unsigned int i = 0; i < SLOTS; i++) {
			random_finish(&slots[i], model);
			if (!slots[i].busy && left && left--)
				random_start(&d, &slots[i], model, i, &seed);
			busy += slots[i].busy;
		}
		if (busy)
			loop_step(d.l, true);
	} while (busy || left);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, image, SIZE), 0);
	CHECK(!memcmp(image, model, SIZE));
	for (unsigned int i = 0; i < SLOTS; i++)
		free(slots[i].buf);
	free(slots);
	free(model);
	free(image);
	disk_free(&d);
}
ALL(random_ops)

/* More vectors than one system call takes. */
static void many_vectors(enum kind k)
{
	enum { N = 3000 };
	struct disk d = disk_new(k);
	struct iovec *iov = calloc(N, sizeof(*iov));
	uint8_t *out = aligned_alloc(4096, N * 512), *in = malloc(N * 512);
	struct op o;

	fill(out, N * 512, 3);
	for (int i = 0; i < N; i++)
		iov[i] = (struct iovec){ out + i * 512, 512 };
	op_init(&o, BLK_WRITE, 4096, out, N * 512);
	o.req.iov = iov;
	o.req.iovcnt = N;
	op_start(d.b, &o);
	CHECK_EQ(op_wait(d.l, &o), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 4096, in, N * 512), 0);
	CHECK(!memcmp(in, out, N * 512));
	free(iov);
	free(out);
	free(in);
	disk_free(&d);
}
ALL(many_vectors)

/* The kernel moves at most 2 GiB - 4 KiB at once: the rest begins in the middle of a vector. (Past the
 * page cache where possible, which this would fill.) */
static void short_transfer(enum kind k)
{
	enum { N = 514, CHUNK = 4 << 20, EDGE = 511 };
	struct disk d = { .l = loop_of(k) };
	struct blk_spec spec = { .path = d.path, .nocache = !kind_missing(DIRECT) };
	struct iovec *iov = calloc(N, sizeof(*iov));
	uint8_t *buf = aligned_alloc(4096, CHUNK), *edge = aligned_alloc(4096, CHUNK);
	char mark[17] = "before_|_after__";
	struct op o;

	temp_file(d.path, (uint64_t)N * CHUNK);
	d.b = must_open(d.l, &spec);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0x7fffe000, memset(buf, 'x', 8192), 8192), 0);
	memcpy(buf, mark, 16);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0x7ffff000, buf, 512), 0);
	memset(buf, 'z', 512);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, (uint64_t)(N - 1) * CHUNK, buf, 512), 0);
	for (int i = 0; i < N; i++)
		iov[i] = (struct iovec){ i == EDGE ? edge : buf, CHUNK };
	op_init(&o, BLK_READ, 0, buf, (uint64_t)N * CHUNK);
	o.req.iov = iov;
	o.req.iovcnt = N;
	op_start(d.b, &o);
	CHECK_EQ(op_wait(d.l, &o), 0);
	CHECK_EQ(edge[CHUNK - 4097], 'x');
	CHECK(!memcmp(edge + CHUNK - 4096, mark, 16));
	CHECK_EQ(edge[CHUNK - 1], 'x');
	CHECK_EQ(buf[0], 'z');
	CHECK_EQ(buf[CHUNK - 1], 0);
	free(iov);
	free(buf);
	free(edge);
	disk_free(&d);
}
CASE_(short_transfer, RING)
CASE_(short_transfer, POOL)

/* The image becomes shorter while it is in use: an error, not a hang or stale data (I-02). */
static void truncated(enum kind k)
{
	struct disk d = disk_new(k);
	uint8_t buf[8192];

	CHECK_EQ(truncate(d.path, 4096), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 4096), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 8192), -EIO);
	CHECK_EQ(run_op(&d, BLK_READ, 0, SIZE - 512, buf, 512), -EIO);
	CHECK_EQ(truncate(d.path, 2 * SIZE), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, SIZE, buf, 512), -EINVAL);
	CHECK_EQ(run_op(&d, BLK_READ, 0, SIZE - 512, buf, 512), 0);
	disk_free(&d);
}
FILES(truncated)

/* Several flushes at once all complete, each once. */
static void flush_storm(enum kind k)
{
	struct disk d = disk_new(k);
	struct op o[20];
	struct blk_req *r[20];
	int done = 0;

	for (int i = 0; i < 20; i++) {
		op_init(&o[i], BLK_FLUSH, 0, NULL, 0);
		r[i] = &o[i].req;
	}
	blk_submit(d.b, r, 20);
	for (int i = 0; i < 20; i++)
		done += op_wait(d.l, &o[i]) == 0;
	CHECK_EQ(done, 20);
	disk_free(&d);
}
ALL(flush_storm)

struct batch {
	int enters, leaves, in;
};

static void batch_enter(void *arg)
{
	struct batch *t = arg;

	t->enters++;
	t->in++;
}

static void batch_leave(void *arg)
{
	struct batch *t = arg;

	t->leaves++;
	t->in--;
}

static void batches(void)
{
	struct disk d = disk_new(MEM);
	struct batch t = { 0 };
	struct op o[8];
	struct blk_req *r[8];
	uint8_t buf[512];

	blk_set_batch(d.b, batch_enter, batch_leave, &t);
	for (int i = 0; i < 8; i++) {
		op_init(&o[i], i & 1 ? BLK_READ : BLK_DISCARD, 0, i & 1 ? buf : NULL, 512);
		r[i] = &o[i].req;
	}
	o[3].req.offset = SIZE; /* the refused one comes in the same batch */
	blk_submit(d.b, r, 8);
	CHECK_EQ(t.enters, 0);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(op_wait(d.l, &o[i]), i == 3 ? -EINVAL : 0);
	CHECK_EQ(t.enters, 1);
	CHECK_EQ(t.leaves, 1);
	CHECK_EQ(t.in, 0);
	disk_free(&d);
}

static void fault_counting(void)
{
	struct disk d = disk_new(FAULT);
	struct blk_fault f = { .fail_nth = 2, .fail_errno = EIO, .fail_op = BLK_READ };
	uint8_t buf[512];

	blk_fault_set(d.b, &f);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, SIZE, buf, 512), -EINVAL); /* not counted */
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), -EIO);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), 0);
	f = (struct blk_fault){ .fail_nth = -1, .fail_errno = ENOSPC, .fail_op = -1 };
	blk_fault_set(d.b, &f);
	for (int i = 0; i < 3; i++)
		CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), -ENOSPC);
	f.fail_nth = 0;
	blk_fault_set(d.b, &f);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), 0); /* a plain write is not sticky */
	disk_free(&d);
}

static void fault_hold(void)
{
	struct disk d = disk_new(FAULT);
	struct blk_fault f = { .hold = true, .fail_op = -1 };
	struct op o[4];
	uint8_t buf[512];

	blk_fault_set(d.b, &f);
	for (int i = 0; i < 4; i++) {
		op_init(&o[i], BLK_READ, (uint64_t)i * 512, buf, 512);
		op_start(d.b, &o[i]);
	}
	for (int i = 0; i < 5; i++)
		loop_step(d.l, false);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(o[i].calls, 0);
	CHECK_EQ(blk_fault_release(d.b, 2, 1), 3);
	loop_step(d.l, false);
	CHECK_EQ(o[2].calls, 1);
	CHECK_EQ(o[0].calls + o[1].calls + o[3].calls, 0);
	CHECK_EQ(blk_fault_release(d.b, 0, 2), 1);
	CHECK_EQ(blk_fault_release(d.b, 5, 2), 1);
	CHECK_EQ(blk_fault_release(d.b, 0, 100), 0);
	loop_step(d.l, false);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(o[i].calls, 1);
	disk_free(&d);
}

static void sticky_failure(void)
{
	struct disk d = disk_new(FAULT);
	struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };
	uint8_t buf[512] = { 0 };
	struct op a, b;

	blk_fault_set(d.b, &f);
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), -EIO);
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), -EIO);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), -EIO);
	CHECK_EQ(run_op(&d, BLK_WRITE_ZEROES, 0, 0, NULL, 512), -EIO);
	CHECK_EQ(run_op(&d, BLK_DISCARD, 0, 0, NULL, 512), -EIO);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), 0);
	blk_clear_error(d.b);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), 0);
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), 0);

	f = (struct blk_fault){ .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_WRITE };
	blk_fault_set(d.b, &f);
	CHECK_EQ(run_op(&d, BLK_WRITE, BLK_FUA, 0, buf, 512), -EIO);
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), -EIO);
	blk_clear_error(d.b);

	/* A flush that ran beside the failed one does not report success. */
	f = (struct blk_fault){
		.fail_nth = 2, .fail_errno = EIO, .fail_op = BLK_FLUSH, .hold = true
	};
	blk_fault_set(d.b, &f);
	op_init(&a, BLK_FLUSH, 0, NULL, 0);
	op_init(&b, BLK_FLUSH, 0, NULL, 0);
	op_start(d.b, &a);
	op_start(d.b, &b);
	for (int i = 0; i < 5; i++)
		loop_step(d.l, false);
	CHECK_EQ(blk_fault_release(d.b, 0, 2), 0);
	CHECK_EQ(op_wait(d.l, &a), -EIO);
	CHECK_EQ(op_wait(d.l, &b), -EIO);
	disk_free(&d);
}

static void read_only(enum kind k)
{
	struct disk d = { .l = loop_of(k) };
	struct blk_spec spec = { .path = d.path, .ro = true, .nocache = k == DIRECT };
	uint8_t buf[512] = { 1 };

	temp_file(d.path, SIZE);
	CHECK_EQ(chmod(d.path, 0400), 0);
	d.b = must_open(d.l, &spec);
	CHECK(blk_info_get(d.b)->read_only && !blk_info_get(d.b)->discard);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), -EROFS);
	CHECK_EQ(run_op(&d, BLK_WRITE_ZEROES, 0, 0, NULL, 512), -EROFS);
	CHECK_EQ(run_op(&d, BLK_DISCARD, 0, 0, NULL, 512), -EROFS);
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), 0);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), 0);
	CHECK_EQ(buf[0], 0);
	disk_free(&d);
}
FILES(read_only)

/* Writes go on failing for want of space and work again when there is some. Needs root for a mount of its own. */
static void no_space(enum kind k)
{
	char dir[] = "/tmp/test_blk-XXXXXX";
	struct disk d = { .l = loop_of(k) };
	struct blk_spec spec = { .path = d.path };
	uint8_t *buf = calloc(1, 512 * KIB);
	int ballast;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		printf("skip %s: needs root\n", test_run_.name);
		free(buf);
		loop_free(d.l);
		return;
	}
	CHECK(mkdtemp(dir));
	CHECK_EQ(mount("none", dir, "tmpfs", 0, "size=2m"), 0);
	snprintf(d.path, sizeof(d.path), "%s/ballast", dir);
	ballast = open(d.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	CHECK_EQ(fallocate(ballast, 0, 0, MIB), 0);
	snprintf(d.path, sizeof(d.path), "%s/disk", dir);
	CHECK_EQ(close(open(d.path, O_CREAT | O_RDWR | O_CLOEXEC, 0600)), 0);
	CHECK_EQ(truncate(d.path, SIZE), 0);
	d.b = must_open(d.l, &spec);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512 * KIB), 0);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, MIB - 4096, buf, 512 * KIB), 0);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 2 * MIB, buf, 512 * KIB), -ENOSPC);
	CHECK_EQ(run_op(&d, BLK_WRITE_ZEROES, 0, 2 * MIB, NULL, 512 * KIB), -ENOSPC);
	CHECK_EQ(run_op(&d, BLK_WRITE, BLK_FUA, 2 * MIB, buf, 512 * KIB), -ENOSPC); /* not sticky */
	CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), 0);
	CHECK_EQ(ftruncate(ballast, 0), 0);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 2 * MIB, buf, 512 * KIB), 0);
	close(ballast);
	disk_free(&d);
	CHECK_EQ(umount2(dir, MNT_DETACH), 0);
	rmdir(dir);
	free(buf);
}
CASE_(no_space, RING)
CASE_(no_space, POOL)

/* --- opening --- */

static void refused(struct loop *l, const struct blk_spec *spec, const char *text)
{
	struct err err = { 0 };
	struct blk *b = blk_open(l, spec, &err);

	CHECK(!b);
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" does not say \"%s\"", err.text, text);
}

static void open_refuses(void)
{
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	char path[64], odd[80];
	struct blk_spec spec = { 0 };

	refused(l, &spec, "no disk image given");
	spec.path = (char[]){ "/nonexistent/disk" };
	refused(l, &spec, "/nonexistent/disk: cannot open it: No such file");
	spec.path = (char[]){ "/tmp" };
	refused(l, &spec, "directory");
	spec.ro = true;
	refused(l, &spec, "directory");
	spec.ro = false;
	spec.path = (char[]){ "/dev/null" };
	refused(l, &spec, "character device");
	spec.path = (char[]){ "/proc/self/mem" };
	refused(l, &spec, "empty");
	temp_file(path, 0);
	spec.path = path;
	refused(l, &spec, "truncate -s");
	CHECK_EQ(truncate(path, 1000), 0);
	refused(l, &spec, "not a multiple of the sector (512)");
	CHECK_EQ(truncate(path, 4096 + 512), 0);
	spec.sectorsize = (char[]){ "4096" };
	refused(l, &spec, "not a multiple of the sector (4096)");
	snprintf(odd, sizeof(odd), "%s.fifo", path);
	CHECK_EQ(mkfifo(odd, 0600), 0);
	spec = (struct blk_spec){ .path = odd };
	refused(l, &spec, "it is a pipe");
	spec.ro = true;
	refused(l, &spec, "it is a pipe");
	unlink(odd);
	spec = (struct blk_spec){ .path = (char[]){ "fd:999" } };
	refused(l, &spec, "fd:999: no such open descriptor");
	spec.path = (char[]){ "fd:x" };
	refused(l, &spec, "no such open");
	spec.path = (char[]){ "mem:0" };
	refused(l, &spec, "empty");
	spec.path = (char[]){ "mem:lots" };
	refused(l, &spec, "mem:64M");
	unlink(path);
	loop_free(l);
}

static void sector_sizes(void)
{
	static const struct {
		const char *text;
		uint32_t sector, physical; /* 0: refused */
	} cases[] = {
		{ "512", 512, 512 },	{ "512/4096", 512, 4096 },
		{ "4096", 4096, 4096 }, { "4096/8192", 4096, 8192 },
		{ "256", 0, 0 },	{ "16384", 0, 0 },
		{ "1000", 0, 0 },	{ "4096/512", 0, 0 },
		{ "512/", 0, 0 },	{ "/512", 0, 0 },
		{ "", 0, 0 },		{ "512/4096/1", 0, 0 },
		{ "-512", 0, 0 },	{ "00000000000000000512", 0, 0 },
	};
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	char path[64];

	temp_file(path, SIZE);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct blk_spec spec = { .path = path, .sectorsize = strdup(cases[i].text) };
		struct blk *b;

		if (cases[i].sector) {
			b = must_open(l, &spec);
			CHECK_EQ(blk_info_get(b)->sector, cases[i].sector);
			CHECK_EQ(blk_info_get(b)->physical_sector, cases[i].physical);
			blk_close(b);
		} else {
			refused(l, &spec, "power of two");
		}
		free(spec.sectorsize);
	}
	unlink(path);
	loop_free(l);
}

static void other_forms(void)
{
	struct disk d = { .l = loop_new(LOOP_AUTO, NULL) };
	struct blk_spec spec = { 0 };
	char path[64], link[80], text[16];
	uint8_t buf[512] = { 9 };

	spec.path = (char[]){ "mem:1M" };
	spec.ro = true;
	d.b = must_open(d.l, &spec);
	CHECK_EQ(blk_info_get(d.b)->size, MIB);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), -EROFS);
	blk_close(d.b);

	temp_file(path, SIZE);
	snprintf(link, sizeof(link), "%s.link", path);
	CHECK_EQ(symlink(path, link), 0);
	spec = (struct blk_spec){ .path = link, .sync = true, .nodelete = true };
	d.b = must_open(d.l, &spec);
	CHECK(!blk_info_get(d.b)->discard);
	CHECK_EQ(run_op(&d, BLK_DISCARD, 0, 0, NULL, 512), -EOPNOTSUPP);
	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 512), 0);
	blk_close(d.b);
	unlink(link);

	snprintf(text, sizeof(text), "fd:%d", open(path, O_RDWR | O_CLOEXEC));
	spec = (struct blk_spec){ .path = text };
	d.b = must_open(d.l, &spec);
	memset(buf, 0, sizeof(buf));
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 512), 0);
	CHECK_EQ(buf[0], 9);
	blk_close(d.b);
	snprintf(text, sizeof(text), "fd:%d", open(path, O_RDONLY | O_CLOEXEC));
	refused(d.l, &spec, "not open for writing");
	unlink(path);
	loop_free(d.l);
}

/* One writer, or many readers; whoever comes later is told who holds the image (I-03). */
static void locking(void)
{
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	char path[64], hard[80], want[64];
	struct blk_spec rw = { .path = path }, ro = { .path = path, .ro = true };
	struct blk_spec other = { .path = hard };
	struct blk *a, *b;
	int to_child[2], from_child[2];
	pid_t child;
	char byte;

	temp_file(path, SIZE);
	snprintf(hard, sizeof(hard), "%s.hard", path);
	CHECK_EQ(link(path, hard), 0);
	a = must_open(l, &rw);
	refused(l, &rw, "another disk of this guest");
	refused(l, &ro, "another disk of this guest");
	refused(l, &other, "another disk of this guest");
	blk_close(a);
	a = must_open(l, &ro);
	b = must_open(l, &ro);
	refused(l, &rw, "another disk of this guest");
	blk_close(a);
	blk_close(b);

	CHECK_EQ(pipe(to_child), 0);
	CHECK_EQ(pipe(from_child), 0);
	child = fork();
	if (child == 0) {
		struct loop *cl = loop_new(LOOP_EPOLL, NULL);

		if (!blk_open(cl, &rw, NULL))
			_exit(1);
		(void)!write(from_child[1], "x", 1);
		close(to_child[1]);
		(void)!read(to_child[0], &byte, 1);
		_exit(0);
	}
	CHECK_EQ(read(from_child[0], &byte, 1), 1);
	snprintf(want, sizeof(want), "in use by process %d", (int)child);
	refused(l, &rw, want);
	refused(l, &other, want);
	close(to_child[1]);
	CHECK_EQ(waitpid(child, NULL, 0), child);
	a = must_open(l, &rw);
	blk_close(a);
	for (int i = 0; i < 2; i++) {
		close(from_child[i]);
		if (i == 0)
			close(to_child[i]);
	}
	unlink(hard);
	unlink(path);
	loop_free(l);
}

/* Binds a loop device to the file, or says why not. */
static bool loop_device(const char *file, char path[32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), n, dev = -1, fd = -1;
	bool ok = false;

	n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	if (n >= 0) {
		snprintf(path, 32, "/dev/loop%d", n);
		dev = open(path, O_RDWR | O_CLOEXEC);
		fd = open(file, O_RDWR | O_CLOEXEC);
		ok = dev >= 0 && fd >= 0 && ioctl(dev, LOOP_SET_FD, fd) == 0;
	}
	if (!ok)
		printf("skip %s: no loop devices here\n", test_run_.name);
	close(control);
	close(dev);
	close(fd);
	return ok;
}

/* A block device is claimed, and a loop device shares its lock with the file behind it. */
/* A descriptor that is in flight between two sockets is in no process's table, as the file of io_uring's requests is. */
static void hide(const int *pair, int fd)
{
	CHECK_EQ(fd_send_fds(pair[0], "x", 1, &fd, 1), 1);
	close(fd);
}

static void *drop_soon(void *arg)
{
	usleep(300000);
	close(((int *)arg)[0]);
	close(((int *)arg)[1]);
	return NULL;
}

/* What a killed process had in flight holds its lock a little longer. */
static void locked_by_the_dead(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	int pair[2], fd;
	char path[64];
	struct blk_spec rw = { .path = path };
	pthread_t thread;

	temp_file(path, SIZE);
	fd = open(path, O_RDWR | O_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_OFD_SETLK, &lock), 0);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	hide(pair, fd);
	CHECK_EQ(pthread_create(&thread, NULL, drop_soon, pair), 0);
	blk_close(must_open(l, &rw));
	pthread_join(thread, NULL);
	unlink(path);
	loop_free(l);
}

static void block_device(void)
{
	struct disk d = { .l = loop_new(LOOP_AUTO, NULL) };
	char file[64], path[32];
	struct blk_spec dev = { .path = path }, raw = { .path = file };
	uint8_t buf[4096] = { 5 };
	int fd;

	temp_file(file, SIZE);
	if (loop_device(file, path)) {
		d.b = must_open(d.l, &dev);
		CHECK_EQ(blk_info_get(d.b)->size, SIZE);
		CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, buf, 4096), 0);
		CHECK_EQ(run_op(&d, BLK_FLUSH, 0, 0, NULL, 0), 0);
		CHECK_EQ(run_op(&d, BLK_WRITE_ZEROES, BLK_UNMAP, 0, NULL, 4096), 0);
		CHECK_EQ(run_op(&d, BLK_READ, 0, 0, buf, 4096), 0);
		CHECK_EQ(buf[0], 0);
		refused(d.l, &raw, "another disk of this guest");
		refused(d.l, &dev, "in use");
		blk_close(d.b);
		d.b = must_open(d.l, &raw);
		refused(d.l, &dev, "another disk of this guest");
		blk_close(d.b);
		fd = open(path, O_RDWR | O_CLOEXEC);
		CHECK_EQ(ioctl(fd, LOOP_CLR_FD), 0);
		close(fd);
	}
	unlink(file);
	loop_free(d.l);
}

/* A raw disk stays raw, whatever the guest writes into its first sector (I-01). */
static void never_probed(void)
{
	struct disk d = disk_new(POOL);
	struct blk_spec spec = { .path = d.path };
	uint8_t header[512] = "QFI\xfb\0\0\0\3\0\0\0\0\0\0\0\x68\0\0\0\xb/etc/passwd", in[512];

	CHECK_EQ(run_op(&d, BLK_WRITE, 0, 0, header, 512), 0);
	blk_close(d.b);
	d.b = must_open(d.l, &spec);
	CHECK_EQ(blk_info_get(d.b)->size, SIZE);
	CHECK_EQ(run_op(&d, BLK_READ, 0, 0, in, 512), 0);
	CHECK(!memcmp(in, header, 512));
	disk_free(&d);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		ALL_CASES(basics),
		ALL_CASES(bad_ranges),
		ALL_CASES(random_ops),
		ALL_CASES(many_vectors),
		{ "short_transfer uring", short_transfer_RING },
		{ "short_transfer pool", short_transfer_POOL },
		FILE_CASES(truncated),
		ALL_CASES(flush_storm),
		{ "batches", batches },
		{ "fault counting", fault_counting },
		{ "fault hold", fault_hold },
		{ "sticky failure", sticky_failure },
		FILE_CASES(read_only),
		{ "no_space uring", no_space_RING },
		{ "no_space pool", no_space_POOL },
		{ "open refuses", open_refuses },
		{ "sector sizes", sector_sizes },
		{ "other forms", other_forms },
		{ "locking", locking },
		{ "locked by the dead", locked_by_the_dead },
		{ "block device", block_device },
		{ "never probed", never_probed },
	};

	log_set(-1, LOG_LEVEL_ERROR);
	return RUN_CASES(cases, argc, argv);
}
