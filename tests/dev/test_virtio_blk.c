/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/tb_virtio.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"
#include "virtio/virtio.h"

#define QUEUE_SIZE 256
#define DISK_SIZE (8 * MIB)
#define SECTORS (DISK_SIZE / 512)
#define DATA_SIZE (1 * MIB)

#define F_RO BIT64(5)
#define F_FLUSH BIT64(9)
#define F_CONFIG_WCE BIT64(11)
#define F_MQ BIT64(12)
#define F_DISCARD BIT64(13)
#define F_WRITE_ZEROES BIT64(14)

enum { T_IN = 0, T_OUT = 1, T_SCSI = 2, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2, POISON = 0x99 };

static struct tb *tb;
static struct dev *d;
static struct tb_vq vq[4];
static gpa_t header, status, data;

static void start(uint64_t features, unsigned int queues)
{
	CHECK(tb_virtio_start(d, features, vq, queues, QUEUE_SIZE));
	header = tb_alloc(tb, 64 * 1024, 4096);
	status = tb_alloc(tb, 4096, 4096);
	data = tb_alloc(tb, DATA_SIZE, 4096);
	tb_run(tb);
	for (unsigned int q = 0; q < queues; q++)
		tb_irqs(d, q + 1);
}

static void setup_on(enum loop_engine engine, const char *conf, uint64_t features)
{
	const struct tb_opts opts = { .engine = engine, .faults = true };
	struct err err;

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &virtio_blk_ops, conf, &err);
	if (!d)
		CHECK_FAIL("%s", err.text);
	start(features, 1);
}

static void setup_conf(const char *conf, uint64_t features)
{
	setup_on(LOOP_FAKE, conf, features);
}

static void setup(void)
{
	setup_conf(NULL, F_FLUSH | F_CONFIG_WCE);
}

static void put_header(gpa_t at, uint32_t type, uint64_t sector)
{
	uint8_t *h = tb_mem(tb, at, 16);

	put_le32(h, type);
	put_le32(h + 4, 0);
	put_le64(h + 8, sector);
}

/* Makes a request available with its own header and status (by number). */
static void post(unsigned int n, uint32_t type, uint64_t sector, gpa_t at, uint32_t len)
{
	struct tb_buf b[3];
	unsigned int k = 0;

	put_header(header + 16 * n, type, sector);
	*(uint8_t *)tb_mem(tb, status + n, 1) = POISON;
	b[k++] = (struct tb_buf){ header + 16 * n, 16, false };
	if (len)
		b[k++] = (struct tb_buf){ at, len, type == T_IN || type == T_GET_ID };
	b[k++] = (struct tb_buf){ status + n, 1, true };
	tb_vq_add(&vq[0], b, k);
}

static uint8_t status_of(unsigned int n)
{
	return *(uint8_t *)tb_mem(tb, status + n, 1);
}

/* One request from start to end; checks the used length against the status. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t len)
{
	uint32_t id, used, most = type == T_IN || type == T_GET_ID ? len : 0;

	post(0, type, sector, data, len);
	tb_virtio_kick(d, 0);
	CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK(used >= 1 && used <= most + 1);
	CHECK(status_of(0) != POISON);
	return status_of(0);
}

static uint8_t *bytes(size_t n)
{
	return tb_mem(tb, data, n);
}

static void check_works(void)
{
	memset(bytes(4096), 0x42, 4096);
	CHECK_EQ(request(T_OUT, 100, 4096), OK);
	memset(bytes(4096), 0, 4096);
	CHECK_EQ(request(T_IN, 100, 4096), OK);
	for (unsigned int i = 0; i < 4096; i++)
		CHECK_EQ(bytes(4096)[i], 0x42);
	CHECK(tb_balanced(tb));
}

static bool needs_reset(void)
{
	return tb_virtio_status(d) & VIRTIO_S_NEEDS_RESET;
}

static uint32_t config32(unsigned int offset)
{
	return tb_r32(d, TB_V_BAR, TB_V_CONFIG + offset);
}

static void test_config(void)
{
	setup();
	CHECK_EQ(tb_cfg_read(d, 2, 2), 0x1042);
	CHECK_EQ(tb_r64(d, TB_V_BAR, TB_V_CONFIG), SECTORS);
	CHECK_EQ(config32(12), QUEUE_SIZE - 2); /* seg_max */
	CHECK_EQ(config32(20), 512);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 32), 1); /* writeback */
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 34), 1); /* queues */
	CHECK_EQ(config32(40), 32); /* discard segments */
	CHECK_EQ(config32(52), 32);
	CHECK_EQ(tb_virtio_offered(d) &
			 (F_RO | F_FLUSH | F_CONFIG_WCE | F_MQ | F_DISCARD | F_WRITE_ZEROES),
		 F_FLUSH | F_CONFIG_WCE | F_DISCARD | F_WRITE_ZEROES);
	setup_conf("path=mem:8M\nro=true\n", 0);
	CHECK_EQ(tb_virtio_offered(d) & (F_RO | F_DISCARD | F_WRITE_ZEROES), F_RO);
	setup_conf("path=mem:8M\nnodelete=true\n", 0);
	CHECK_EQ(tb_virtio_offered(d) & (F_DISCARD | F_WRITE_ZEROES), F_WRITE_ZEROES);
}

static void test_topology(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", conf[128];
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, DISK_SIZE), 0);
	close(fd);
	snprintf(conf, sizeof(conf), "path=%s\nsectorsize=512/4096\n", path);
	setup_conf(conf, 0);
	unlink(path);
	CHECK_EQ(config32(20), 512);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 24), 3); /* 8 logical per physical */
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 26), 8);
	CHECK_EQ(config32(44), 8); /* discard alignment */
}

static void test_read_write(void)
{
	setup();
	check_works();
	CHECK_EQ(tb_irqs(d, 1), 2);
	CHECK_EQ(request(T_FLUSH, 0, 0), OK);
	/* many pieces, of odd sizes */
	for (int write = 1; write >= 0; write--) {
		struct tb_buf b[34];
		uint32_t id, used;

		put_header(header, write ? T_OUT : T_IN, 8);
		b[0] = (struct tb_buf){ header, 16, false };
		for (unsigned int i = 0; i < 32; i++) {
			b[1 + i] = (struct tb_buf){ data + 4096 * i, i % 2 ? 1 : 255, !write };
			memset(tb_mem(tb, data + 4096 * i, 256), write ? (int)i : 0, 256);
		}
		b[33] = (struct tb_buf){ status, 1, true };
		tb_vq_add(&vq[0], b, 34);
		tb_virtio_kick(d, 0);
		CHECK_EQ(status_of(0), OK);
		CHECK(tb_vq_used(&vq[0], &id, &used));
		CHECK_EQ(used, write ? 1 : 16 * 256 + 1);
	}
	for (unsigned int i = 0; i < 32; i++)
		CHECK_EQ(*(uint8_t *)tb_mem(tb, data + 4096 * i, 1), i);
}

static void test_past_end(void)
{
	static const struct {
		uint64_t sector;
		uint32_t len;
	} bad[] = {
		{ SECTORS - 1, 1024 }, { SECTORS, 512 }, { SECTORS - 8, 8192 }, { SECTORS + 1, 512 }
	};

	setup();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK_EQ(request(T_OUT, bad[i].sector, bad[i].len), IOERR);
		CHECK_EQ(request(T_IN, bad[i].sector, bad[i].len), IOERR);
	}
	/* each piece inside, the sum not */
	for (int write = 0; write < 2; write++) {
		struct tb_buf b[] = { { header, 16, false },
				      { data, 512, !write },
				      { data + 512, 512, !write },
				      { status, 1, true } };

		put_header(header, write ? T_OUT : T_IN, SECTORS - 1);
		tb_vq_add(&vq[0], b, 4);
		tb_virtio_kick(d, 0);
		CHECK_EQ(status_of(0), IOERR);
	}
	CHECK_EQ(request(T_OUT, SECTORS - 1, 512), OK);
	CHECK(!needs_reset());
	CHECK(tb_balanced(tb));
}

static void test_overflow(void)
{
	const uint64_t bad[] = { UINT64_MAX, UINT64_MAX / 512, UINT64_MAX / 512 + 1, BIT64(55),
				 BIT64(63) };

	setup_conf(NULL, F_DISCARD | F_WRITE_ZEROES);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK_EQ(request(T_OUT, bad[i], 512), IOERR);
		CHECK_EQ(request(T_IN, bad[i], 512), IOERR);
		put_le64(bytes(16), bad[i]);
		put_le32(bytes(16) + 8, 1);
		put_le32(bytes(16) + 12, 0);
		CHECK_EQ(request(T_DISCARD, 0, 16), IOERR);
		CHECK_EQ(request(T_ZEROES, 0, 16), IOERR);
	}
	check_works();
}

static void test_header_shapes(void)
{
	struct tb_buf b[20];
	uint32_t id, used;

	/* a header in 16 pieces, data and status in one piece */
	setup();
	put_header(header, T_IN, 0);
	for (unsigned int i = 0; i < 16; i++)
		b[i] = (struct tb_buf){ header + i, 1, false };
	b[16] = (struct tb_buf){ data, 513, true };
	tb_vq_add(&vq[0], b, 17);
	tb_virtio_kick(d, 0);
	CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK_EQ(used, 513);
	CHECK_EQ(bytes(513)[512], OK);
	/* header and data in one piece */
	put_header(data, T_OUT, 0);
	b[0] = (struct tb_buf){ data, 16 + 512, false };
	b[1] = (struct tb_buf){ status, 1, true };
	*(uint8_t *)tb_mem(tb, status, 1) = POISON;
	tb_vq_add(&vq[0], b, 2);
	tb_virtio_kick(d, 0);
	CHECK_EQ(status_of(0), OK);
	CHECK(!needs_reset());
}

static void broken_shape(const struct tb_buf *b, unsigned int n)
{
	uint32_t id, used;

	setup();
	put_header(header, T_IN, 0);
	for (unsigned int i = 0; i < n; i++) {
		struct tb_buf c = b[i];

		c.addr += header;
		tb_vq_desc(&vq[0], vq[0].desc, i, &c,
			   (uint16_t)((c.write ? TB_WRITE : 0) | (i + 1 < n ? TB_NEXT : 0)),
			   (uint16_t)(i + 1));
	}
	tb_vq_avail(&vq[0], 0);
	tb_virtio_kick(d, 0);
	CHECK(needs_reset());
	CHECK(!tb_vq_used(&vq[0], &id, &used));
	start(0, 1);
	check_works();
}

static void test_header_broken(void)
{
	broken_shape((struct tb_buf[]){ { 0, 15, false }, { 4096, 1, true } }, 2);
	broken_shape((struct tb_buf[]){ { 0, 16, false } }, 1);
	broken_shape((struct tb_buf[]){ { 0, 16, false }, { 4096, 1, false } }, 2);
	broken_shape((struct tb_buf[]){ { 4096, 1, true } }, 1);
	broken_shape((struct tb_buf[]){ { 0, 16, false }, { 4096, 0, true } }, 2);
	broken_shape((struct tb_buf[]){ { 0, 0, false }, { 4096, 1, true } }, 2);
}

static void test_lengths(void)
{
	const uint32_t bad[] = { 0, 1, 511, 513, 1023 };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK_EQ(request(T_OUT, 0, bad[i]), IOERR);
		CHECK_EQ(request(T_IN, 0, bad[i]), IOERR);
	}
	/* larger sectors: capacity counts 512, transfers keep to the sector */
	setup_conf("path=mem:8M\nsectorsize=4096\n", F_FLUSH);
	CHECK_EQ(tb_r64(d, TB_V_BAR, TB_V_CONFIG), SECTORS);
	CHECK_EQ(config32(20), 4096);
	CHECK_EQ(request(T_IN, 1, 4096), IOERR);
	CHECK_EQ(request(T_IN, 8, 512), IOERR);
	CHECK_EQ(request(T_IN, 8, 4096), OK);
}

static void test_read_only(void)
{
	setup_conf("path=mem:8M\nro=true\n", 0);
	CHECK_EQ(request(T_OUT, 0, 512), IOERR);
	memset(bytes(16), 0, 16);
	put_le32(bytes(16) + 8, 1);
	CHECK_EQ(request(T_DISCARD, 0, 16), IOERR);
	CHECK_EQ(request(T_ZEROES, 0, 16), IOERR);
	CHECK_EQ(request(T_IN, 0, 512), OK);
}

static void test_read_only_flush(void)
{
	struct blk_stats before, after;

	setup_conf("path=mem:8M\nro=true\n", F_FLUSH);
	blk_stats_get(tb_disk(tb, 0), &before);
	CHECK_EQ(request(T_FLUSH, 0, 0), OK);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.accepted, before.accepted);
}

static void put_range(unsigned int i, uint64_t sector, uint32_t n, uint32_t flags)
{
	uint8_t *r = tb_mem(tb, data + 16 * i, 16);

	put_le64(r, sector);
	put_le32(r + 8, n);
	put_le32(r + 12, flags);
}

static void test_ranges(void)
{
	struct blk_stats before, after;

	setup_conf(NULL, F_DISCARD | F_WRITE_ZEROES | F_FLUSH);
	memset(bytes(8192), 0x77, 8192);
	CHECK_EQ(request(T_OUT, 0, 8192), OK);
	blk_stats_get(tb_disk(tb, 0), &before);
	put_range(0, 1, 2, 0);
	put_range(1, 8, 1, 0);
	CHECK_EQ(request(T_DISCARD, 0, 32), OK);
	put_range(0, 12, 1, 1); /* unmap */
	CHECK_EQ(request(T_ZEROES, 0, 16), OK);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.accepted - before.accepted, 3);
	CHECK_EQ(request(T_IN, 0, 8192), OK);
	for (unsigned int i = 0; i < 16; i++)
		CHECK_EQ(bytes(8192)[512 * i], i == 1 || i == 2 || i == 8 || i == 12 ? 0 : 0x77);
}

static void test_bad_ranges(void)
{
	struct blk_stats before, after;

	setup_conf(NULL, F_DISCARD | F_WRITE_ZEROES);
	memset(bytes(DATA_SIZE), 0, DATA_SIZE);
	blk_stats_get(tb_disk(tb, 0), &before);
	for (uint32_t type = T_DISCARD; type <= T_ZEROES; type += 2) {
		CHECK_EQ(request(type, 0, 0), IOERR);
		CHECK_EQ(request(type, 0, 15), IOERR);
		CHECK_EQ(request(type, 0, 17), IOERR);
		for (unsigned int i = 0; i < 33; i++)
			put_range(i, i, 1, 0);
		CHECK_EQ(request(type, 0, 33 * 16), IOERR);
		CHECK_EQ(request(type, 0, DATA_SIZE), IOERR);
		put_range(0, 0, 0, 0);
		CHECK_EQ(request(type, 0, 16), IOERR);
		put_range(0, SECTORS - 1, 2, 0);
		CHECK_EQ(request(type, 0, 16), IOERR);
		put_range(0, 0, UINT32_MAX, 0);
		CHECK_EQ(request(type, 0, 16), IOERR);
		put_range(0, 0, 1, 2);
		CHECK_EQ(request(type, 0, 16), UNSUPP);
		/* one bad range of two: the first is not touched either */
		put_range(0, 0, 1, 0);
		put_range(1, SECTORS, 1, 0);
		CHECK_EQ(request(type, 0, 32), IOERR);
	}
	put_range(0, 0, 1, 1);
	CHECK_EQ(request(T_DISCARD, 0, 16), UNSUPP);
	blk_stats_get(tb_disk(tb, 0), &after);
	CHECK_EQ(after.accepted, before.accepted);
	CHECK(!needs_reset());
	setup_conf("path=mem:8M\nnodelete=true\n", 0);
	put_range(0, 0, 1, 0);
	CHECK_EQ(request(T_DISCARD, 0, 16), UNSUPP);
}

static void test_range_fails(void)
{
	const struct blk_fault second = { .fail_nth = 2,
					  .fail_errno = EIO,
					  .fail_op = BLK_DISCARD };

	setup_conf(NULL, F_DISCARD | F_FLUSH);
	for (unsigned int i = 0; i < 32; i++)
		put_range(i, i, 1, 0);
	tb_fault(tb, 0, &second);
	CHECK_EQ(request(T_DISCARD, 0, 32 * 16), IOERR);
	CHECK(tb_balanced(tb));
	tb_fault(tb, 0, NULL);
	CHECK_EQ(request(T_DISCARD, 0, 32 * 16), OK);
}

static void test_get_id(void)
{
	const uint32_t sizes[] = { 1, 19, 20, 21, 65536 };

	setup_conf("path=mem:8M\nser=S1234\n", 0);
	CHECK_EQ(request(T_GET_ID, 0, 0), OK);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		uint32_t n = MIN(sizes[i], 20u), id, used;

		memset(bytes(DATA_SIZE), POISON, 65537);
		post(0, T_GET_ID, 0, data, sizes[i]);
		if (i == 0) /* what the other requests left in the ring */
			CHECK(!tb_vq_used(&vq[0], &id, &used));
		tb_virtio_kick(d, 0);
		CHECK(tb_vq_used(&vq[0], &id, &used));
		CHECK_EQ(used, n + 1);
		CHECK(memcmp(bytes(20), "S1234\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", n) == 0);
		CHECK_EQ(bytes(DATA_SIZE)[n], POISON);
	}
	/* made from the path, the same every time */
	setup_conf("path=mem:8M\n", 0);
	CHECK_EQ(request(T_GET_ID, 0, 20), OK);
	CHECK(memcmp(bytes(20), "KHYVE-", 6) == 0);
	CHECK_EQ(bytes(20)[10], '-');
	CHECK_EQ(bytes(20)[15], '-');
}

static void test_unknown(void)
{
	const uint32_t types[] = { T_SCSI, 3, 5, 10, 12, 14, 15, 0x80000000, UINT32_MAX };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		CHECK_EQ(request(types[i], 0, 512), UNSUPP);
	check_works();
}

static void test_failing_disk(void)
{
	static const int errnos[] = { EIO, ENOSPC, ENOMEM };
	struct blk_fault f = { .fail_nth = -1, .fail_op = -1 };

	setup_conf("on_nospace=error\n", F_FLUSH | F_DISCARD | F_WRITE_ZEROES);
	for (size_t i = 0; i < ARRAY_LEN(errnos); i++) {
		f.fail_errno = errnos[i];
		tb_fault(tb, 0, &f);
		memset(bytes(4096), POISON, 4096);
		CHECK_EQ(request(T_IN, 0, 4096), IOERR);
		CHECK_EQ(bytes(4096)[0], POISON);
		CHECK_EQ(request(T_OUT, 0, 4096), IOERR);
		put_range(0, 0, 1, 0);
		CHECK_EQ(request(T_DISCARD, 0, 16), IOERR);
		CHECK_EQ(request(T_ZEROES, 0, 16), IOERR);
	}
	f.fail_errno = EOPNOTSUPP;
	tb_fault(tb, 0, &f);
	CHECK_EQ(request(T_ZEROES, 0, 16), UNSUPP);
	f.fail_errno = EIO;
	tb_fault(tb, 0, &f);
	CHECK_EQ(request(T_FLUSH, 0, 0), IOERR);
	/* a failed flush stays failed: data may be gone */
	tb_fault(tb, 0, NULL);
	CHECK_EQ(request(T_FLUSH, 0, 0), IOERR);
	CHECK_EQ(request(T_OUT, 0, 512), IOERR);
	blk_clear_error(tb_disk(tb, 0));
	check_works();
}

/* The image has grown: an interrupt for the configuration, and more room. */
static void test_grows(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", conf[128];
	int fd = mkstemp(path);
	struct err err;

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, DISK_SIZE), 0);
	snprintf(conf, sizeof(conf), "path=%s\n", path);
	setup_on(LOOP_EPOLL, conf, F_FLUSH);
	unlink(path);
	CHECK_EQ(request(T_OUT, DISK_SIZE / 512, 512), IOERR);
	tb_irqs(d, 0);
	CHECK_EQ(ftruncate(fd, 2 * DISK_SIZE + 100), 0);
	CHECK_EQ(dev_grow(d, 0, &err), 0);
	CHECK_EQ(config32(0), 2 * DISK_SIZE / 512);
	CHECK_EQ(tb_irqs(d, 0), 1);
	CHECK_EQ(request(T_OUT, DISK_SIZE / 512, 512), OK);
	CHECK_EQ(request(T_OUT, 2 * DISK_SIZE / 512, 512), IOERR);
	/* smaller is refused */
	CHECK_EQ(ftruncate(fd, DISK_SIZE), 0);
	CHECK_EQ(dev_grow(d, 0, &err), -EINVAL);
	CHECK(strstr(err.text, "has become smaller"));
	CHECK_EQ(config32(0), 2 * DISK_SIZE / 512);
	CHECK_EQ(request(T_IN, 3 * DISK_SIZE / 2 / 512, 512), IOERR);
	close(fd);
	setup();
	CHECK_EQ(dev_grow(d, 0, &err), -EOPNOTSUPP);
}

/* Without space on the host a write is kept until there is some (on_nospace=pause). */
static void test_no_space(void)
{
	struct blk_fault f = { .fail_nth = -1, .fail_errno = ENOSPC, .fail_op = BLK_WRITE };
	struct blk_trouble t;
	uint32_t id, used;

	setup();
	memset(bytes(4096), 0x42, 4096);
	tb_fault(tb, 0, &f);
	post(0, T_OUT, 100, data, 4096);
	tb_virtio_kick(d, 0);
	CHECK(!tb_vq_used(&vq[0], &id, &used));
	CHECK(blk_trouble_get(dev_disk(d, 0), &t));
	f.fail_nth = 0;
	tb_fault(tb, 0, &f);
	tb_advance(tb, BLK_RETRY_NS);
	CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK_EQ(status_of(0), OK);
	CHECK(!blk_trouble_get(dev_disk(d, 0), &t));
	CHECK_EQ(request(T_IN, 100, 4096), OK);
	CHECK_EQ(bytes(4096)[4095], 0x42);
}

/* As long as the guest runs that may believe its data safe: a restarted one reads what there is. */
static void test_failed_flush_until_reset(void)
{
	const struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };

	setup_conf(NULL, F_FLUSH);
	tb_fault(tb, 0, &f);
	CHECK_EQ(request(T_FLUSH, 0, 0), IOERR);
	CHECK_EQ(request(T_OUT, 0, 512), IOERR);
	tb_virtio_set_status(d, 0); /* a driver's reset is not enough */
	CHECK(tb_virtio_start(d, F_FLUSH, vq, 1, QUEUE_SIZE));
	CHECK_EQ(request(T_OUT, 0, 512), IOERR);
	CHECK(tb_reset(tb));
	CHECK(tb_virtio_start(d, F_FLUSH, vq, 1, QUEUE_SIZE));
	CHECK_EQ(request(T_FLUSH, 0, 0), OK);
	check_works();
}

/* A durable write that fails makes the disk fail for good, a cached one does not: that shows which it was. */
static bool write_is_durable(uint32_t type)
{
	const struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = -1 };
	bool durable;

	put_range(0, 0, 1, 0);
	tb_fault(tb, 0, &f);
	CHECK_EQ(request(type, 0, type == T_OUT ? 512 : 16), IOERR);
	tb_fault(tb, 0, NULL);
	durable = request(T_OUT, 0, 512) == IOERR;
	blk_clear_error(tb_disk(tb, 0));
	return durable;
}

static void set_writeback(uint8_t v)
{
	tb_w8(d, TB_V_BAR, TB_V_CONFIG + 32, v);
}

static void test_write_through(void)
{
	/* FLUSH accepted: the driver flushes */
	setup_conf(NULL, F_FLUSH | F_CONFIG_WCE);
	CHECK(!write_is_durable(T_OUT));
	CHECK(!write_is_durable(T_ZEROES));
	set_writeback(0);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 32), 0);
	CHECK(write_is_durable(T_OUT));
	CHECK(write_is_durable(T_ZEROES));
	set_writeback(1);
	CHECK(!write_is_durable(T_OUT));
	/* not accepted: every write is durable, and the config says so */
	setup_conf(NULL, 0);
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_CONFIG + 32), 0);
	CHECK(write_is_durable(T_OUT));
	/* without CONFIG_WCE nothing can be written; a reset brings the default back */
	set_writeback(1);
	CHECK(write_is_durable(T_OUT));
	start(F_FLUSH, 1);
	set_writeback(0);
	CHECK(!write_is_durable(T_OUT));
}

static void test_batch(void)
{
	struct blk_stats s;
	uint32_t id, used;

	setup();
	for (unsigned int i = 0; i < 32; i++)
		post(i, i % 2 ? T_OUT : T_IN, i, data + 4096 * i, 512);
	tb_virtio_kick(d, 0);
	for (unsigned int i = 0; i < 32; i++) {
		CHECK(tb_vq_used(&vq[0], &id, &used));
		CHECK_EQ(status_of(i), OK);
	}
	CHECK_EQ(tb_irqs(d, 1), 1); /* for all of them */
	blk_stats_get(tb_disk(tb, 0), &s);
	CHECK_EQ(s.accepted, 32);
}

/* As many as the ring holds, all at the disk at once. */
static void test_full(void)
{
	struct blk_fault hold = { .fail_op = -1, .hold = true };
	uint32_t id, used;

	setup_conf(NULL, F_FLUSH | VIRTIO_F_INDIRECT_DESC);
	tb_fault(tb, 0, &hold);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++) {
		const struct tb_buf b[] = { { header + 16 * i, 16, false },
					    { data + 512 * i, 512, true },
					    { status + i, 1, true } };

		put_header(header + 16 * i, T_IN, i);
		*(uint8_t *)tb_mem(tb, status + i, 1) = POISON;
		tb_vq_add_indirect(&vq[0], header + 8192 + 48 * i, b, 3);
	}
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	/* one more than there can be: the device waits, and does not spin */
	tb_vq_avail(&vq[0], 0);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	/* newest first, then the rest */
	CHECK_EQ(blk_fault_release(tb_disk(tb, 0), QUEUE_SIZE - 1, 1), QUEUE_SIZE - 1);
	tb_run(tb);
	CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK_EQ(id, QUEUE_SIZE - 1);
	tb_release_all(tb);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), QUEUE_SIZE);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), QUEUE_SIZE + 1);
	for (unsigned int i = 0; i < QUEUE_SIZE; i++)
		CHECK_EQ(status_of(i), OK);
	CHECK(tb_balanced(tb));
}

static void test_many_segments(void)
{
	struct tb_buf b[QUEUE_SIZE];
	uint32_t id, used;

	setup();
	put_header(header, T_IN, 0);
	b[0] = (struct tb_buf){ header, 16, false };
	for (unsigned int i = 0; i < QUEUE_SIZE - 2; i++)
		b[1 + i] = (struct tb_buf){ data + 512 * i, 512, true };
	b[QUEUE_SIZE - 1] = (struct tb_buf){ status, 1, true };
	tb_vq_add(&vq[0], b, QUEUE_SIZE);
	tb_virtio_kick(d, 0);
	CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK_EQ(used, 512 * (QUEUE_SIZE - 2) + 1);
	CHECK_EQ(status_of(0), OK);
}

static void hold_some(unsigned int n)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };

	tb_fault(tb, 0, &hold);
	for (unsigned int i = 0; i < n; i++)
		post(i,
		     i % 3 == 0	  ? T_OUT
		     : i % 3 == 1 ? T_IN
				  : T_FLUSH,
		     i, data + 4096 * i, i % 3 == 2 ? 0 : 512);
	tb_virtio_kick(d, 0);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
}

static void test_reset_in_flight(void)
{
	struct tb_vq old;

	setup();
	hold_some(9);
	old = vq[0];
	tb_virtio_set_status(d, 0);
	CHECK(tb_virtio_status(d)); /* not finished yet */
	blk_fault_release(tb_disk(tb, 0), 0, 4);
	tb_run(tb);
	CHECK(tb_virtio_status(d));
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK_EQ(tb_vq_used_idx(&old), 0);
	for (unsigned int i = 0; i < 9; i++)
		CHECK_EQ(status_of(i), POISON);
	CHECK_EQ(tb_irqs(d, 1), 0);
	CHECK(tb_balanced(tb));
	start(F_FLUSH, 1);
	check_works();
	CHECK_EQ(tb_vq_used_idx(&old), 0);
}

/* Between two ranges of one request. */
static void test_reset_in_ranges(void)
{
	const struct blk_fault hold = { .fail_op = -1, .hold = true };

	setup_conf(NULL, F_DISCARD);
	for (unsigned int i = 0; i < 4; i++)
		put_range(i, i, 1, 0);
	tb_fault(tb, 0, &hold);
	post(0, T_DISCARD, 0, data, 64);
	tb_virtio_kick(d, 0);
	tb_virtio_set_status(d, 0);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK_EQ(tb_virtio_status(d), 0);
	CHECK(tb_balanced(tb));
	start(0, 1);
	check_works();
}

static void test_pause_in_flight(void)
{
	setup();
	hold_some(6);
	CHECK(!tb_pause(tb));
	post(6, T_IN, 0, data + 4096 * 6, 512); /* only recorded */
	tb_virtio_kick(d, 0);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	CHECK(tb_pause(tb));
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 6);
	CHECK_EQ(status_of(6), POISON);
	tb_resume(tb);
	tb_run(tb);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 7);
	CHECK_EQ(status_of(6), OK);
	CHECK(tb_balanced(tb));
}

static void test_machine_reset(void)
{
	const struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };

	setup();
	check_works();
	/* the next system may write again, whatever was lost before */
	tb_fault(tb, 0, &f);
	CHECK_EQ(request(T_FLUSH, 0, 0), IOERR);
	CHECK_EQ(request(T_OUT, 0, 512), IOERR);
	CHECK(tb_reset(tb));
	start(F_FLUSH, 1);
	check_works();
}

static void test_bus_master_off(void)
{
	setup();
	hold_some(2);
	tb_bus_master(d, false);
	tb_fault(tb, 0, NULL);
	tb_run(tb);
	/* nothing of the rings or the status is written any more */
	CHECK_EQ(tb_vq_used_idx(&vq[0]), 0);
	CHECK_EQ(status_of(0), POISON);
	CHECK(tb_balanced(tb));
	tb_bus_master(d, true);
	start(F_FLUSH, 1);
	check_works();
}

static void test_queues(void)
{
	uint32_t id, used;
	static const struct tb_opts opts = { .faults = true };

	tb_free(tb);
	tb = tb_new(&opts);
	d = tb_add(tb, &virtio_blk_ops, "queues=4\n", NULL);
	CHECK(d);
	start(F_FLUSH | F_MQ, 4);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_NUM_QUEUES), 4);
	CHECK_EQ(tb_r16(d, TB_V_BAR, TB_V_CONFIG + 34), 4);
	for (unsigned int q = 0; q < 4; q++) {
		const struct tb_buf b[] = { { header, 16, false },
					    { data, 512, true },
					    { status, 1, true } };

		put_header(header, T_IN, q);
		tb_vq_add(&vq[q], b, 3);
		tb_virtio_kick(d, q);
		CHECK(tb_vq_used(&vq[q], &id, &used));
		CHECK_EQ(tb_irqs(d, q + 1), 1);
	}
}

/* Notifications off while the device works, on before it sleeps. */
static void test_budget(void)
{
	uint32_t id, used;

	setup_conf(NULL, F_FLUSH | VIRTIO_F_EVENT_IDX);
	for (unsigned int i = 0; i < 80; i++)
		post(i, T_IN, i, data, 512);
	tb_virtio_kick(d, 0);
	for (unsigned int i = 0; i < 80; i++)
		CHECK(tb_vq_used(&vq[0], &id, &used));
	CHECK_EQ(tb_vq_avail_event(&vq[0]), 80);
	CHECK(tb_balanced(tb));
}

static void refused(const char *conf, const char *word)
{
	struct err err = { "" };

	CHECK(!tb_add(tb, &virtio_blk_ops, conf, &err));
	if (!strstr(err.text, word))
		CHECK_FAIL("\"%s\" does not name %s", err.text, word);
}

static void test_settings(void)
{
	setup();
	refused("queues=0\n", "queues");
	refused("queues=17\n", "queues");
	refused("ser=123456789012345678901\n", "ser");
	refused("ser=\x01x\n", "ser");
	refused("path=/nonexistent/disk.img\n", "/nonexistent/disk.img");
	refused("que=1\n", "queues");
}

static const struct test_case cases[] = {
	{ "D2 failed flush until reset", test_failed_flush_until_reset },
	{ "blk configuration", test_config },
	{ "blk topology", test_topology },
	{ "blk reads and writes", test_read_write },
	{ "B-01 past the end", test_past_end },
	{ "B-02 sector overflow", test_overflow },
	{ "B-03 header shapes", test_header_shapes },
	{ "B-03 broken headers", test_header_broken },
	{ "B-04 lengths", test_lengths },
	{ "B-05 read-only disk", test_read_only },
	{ "B-06 flush of a read-only disk", test_read_only_flush },
	{ "B-07 discard and write zeroes", test_ranges },
	{ "B-07 bad ranges", test_bad_ranges },
	{ "B-07 a range fails", test_range_fails },
	{ "B-08 GET_ID", test_get_id },
	{ "B-09 unknown types", test_unknown },
	{ "B-10 failing disk", test_failing_disk },
	{ "no space", test_no_space },
	{ "I-02 image grows or shrinks", test_grows },
	{ "B-11 batch", test_batch },
	{ "B-11 full ring", test_full },
	{ "B-12 many segments", test_many_segments },
	{ "blk write-through", test_write_through },
	{ "VQ-23 reset in flight", test_reset_in_flight },
	{ "VQ-23 reset between ranges", test_reset_in_ranges },
	{ "G-14 pause in flight", test_pause_in_flight },
	{ "G-14 machine reset", test_machine_reset },
	{ "G-13 bus master off in flight", test_bus_master_off },
	{ "blk queues", test_queues },
	{ "blk budget and event index", test_budget },
	{ "blk settings", test_settings },
};

int main(int argc, char **argv)
{
	int r = RUN_CASES(cases, argc, argv);

	tb_free(tb);
	return r;
}
