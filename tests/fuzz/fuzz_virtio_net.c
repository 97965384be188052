/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "bench/tb_virtio.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "util/bytes.h"
#include "virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A driver of two queue pairs and what stands outside. */
#define PAIRS 2
#define QUEUES (2 * PAIRS + 1)
#define LONG_FRAME 66000u

struct driver {
	struct tb_vq vq[QUEUES];
	uint64_t features;
	bool up;
	uint8_t frame[LONG_FRAME];
};

#define F_MRG_RXBUF BIT64(15)
#define F_CTRL_VQ BIT64(17)
#define F_MQ BIT64(22)

/* BARs and MSI-X are as op_enable left them. */
static void start(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	uint64_t features = tb_virtio_offered(s->d);
	uint16_t size = (uint16_t)(1u << fz_pick(f, 9));

	/* mostly with what makes it interesting */
	features &= fz_u64(f) | (fz_u8(f) % 4 ? F_MRG_RXBUF | F_CTRL_VQ : 0);
	tb_alloc_reset(s->tb); /* rings where the script writes, too */
	drv->features = features;
	drv->up = tb_virtio_negotiate(s->d, features | TB_V_VERSION_1);
	if (!drv->up)
		return;
	for (unsigned int i = 0; i < QUEUES; i++)
		tb_virtio_queue(s->d, i, size, &drv->vq[i]);
	tb_virtio_driver_ok(s->d);
}

static void add(struct fz_script *s, struct fz *f, struct tb_vq *vq, struct tb_buf *b,
		unsigned int n)
{
	if (fz_u8(f) % 64 == 0)
		b[fz_pick(f, n)].addr = fz_value(f);
	if (fz_u8(f) % 4)
		tb_vq_add(vq, b, MIN(n, vq->size));
	else
		tb_vq_add_indirect(vq, s->arena + 0x9000 + 16 * fz_u8(f), b, n);
}

static uint32_t some_length(struct fz *f)
{
	static const uint16_t sizes[] = { 64, 1514, 12, 26, 1526, 14, 4096, 0 };

	return fz_u8(f) % 8 ? sizes[fz_pick(f, ARRAY_LEN(sizes))] : fz_u16(f);
}

/* A header, mostly of zeroes, and up to five pieces of frame. */
static void send(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	struct tb_vq *vq = &drv->vq[fz_u8(f) % 8 ? 1 : 3];
	gpa_t header = s->arena + 0x8000 + 16 * fz_pick(f, 64);
	uint8_t *h = tb_mem(s->tb, header, 16);
	struct tb_buf b[6];
	unsigned int n = 1 + fz_pick(f, 5);

	memset(h, 0, 16);
	if (fz_u8(f) % 4 == 0)
		for (unsigned int i = 0; i < 10; i++)
			h[i] = fz_u8(f);
	b[0] = (struct tb_buf){ header, fz_u8(f) % 16 ? 12 : fz_pick(f, 16), false };
	for (unsigned int i = 1; i <= n; i++)
		b[i] = (struct tb_buf){ s->arena + 0xa000 + (fz_u8(f) << 5), some_length(f),
					fz_u8(f) % 64 == 0 };
	add(s, f, vq, b, n + 1);
}

/* Up to 64 chains of one shape. */
static void offer(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	struct tb_vq *vq = &drv->vq[fz_u8(f) % 8 ? 0 : 2];
	unsigned int n = 1 + fz_pick(f, 3), count = 1 + fz_pick(f, 64);
	struct tb_buf b[3];

	for (unsigned int i = 0; i < n; i++)
		b[i] = (struct tb_buf){ s->arena + 0xa000 + (fz_u8(f) << 5), some_length(f),
					fz_u8(f) % 64 != 0 };
	while (count--)
		tb_vq_add(vq, b, MIN(n, vq->size));
	if (fz_u8(f) % 16 == 0)
		add(s, f, vq, b, n);
}

static void outside_sends(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	unsigned int q = fz_u8(f) % 8 == 0, count = 1 + fz_pick(f, 8);
	size_t len = fz_u8(f) % 4 ? some_length(f) : fz_u16(f);

	for (unsigned int i = 0; i < 18; i++)
		drv->frame[i] = fz_u8(f) % 4 ? 0xff : fz_u8(f);
	if (fz_bool(f))
		put_be16(drv->frame + 12, 0x8100);
	while (count--)
		tb_net_queue(s->tb, 0, q, NULL, drv->frame, MAX(len, (size_t)14));
}

static void outside_receives(struct fz_script *s)
{
	struct driver *drv = s->arg;

	for (unsigned int q = 0; q < PAIRS; q++)
		while (tb_net_take(s->tb, 0, q, NULL, drv->frame, sizeof(drv->frame)) != -EAGAIN)
			;
}

/* One command, mostly of a length that fits. */
static void control(struct fz_script *s, struct fz *f)
{
	static const uint8_t lengths[] = { 1, 6, 2, 0, 2, 8 };
	struct driver *drv = s->arg;
	struct tb_vq *vq = &drv->vq[drv->features & F_MQ ? QUEUES - 1 : 2];
	uint8_t class = fz_pick(f, 6), *c = tb_mem(s->tb, s->arena + 0x8800, 256);
	uint32_t len = fz_u8(f) % 4 ? lengths[class] : fz_u8(f);
	struct tb_buf b[3] = { { s->arena + 0x8800, 2, false },
			       { s->arena + 0x8802, len, false },
			       { s->arena + 0x8ff0, fz_u8(f) % 32 ? 1 : 0, true } };

	c[0] = class;
	c[1] = fz_u8(f) % 8;
	for (unsigned int i = 2; i < 12; i++)
		c[i] = fz_u8(f) % 2 ? fz_u8(f) % 4 : fz_u8(f);
	add(s, f, vq, b, 3);
	tb_virtio_kick(s->d, (unsigned int)(vq - drv->vq));
}

static void line_fault(struct fz_script *s, struct fz *f)
{
	static const int errors[] = { EAGAIN, EMSGSIZE, ENOBUFS, EIO, EINVAL };
	struct net_fault fault = {
		.fail_nth = (int)fz_pick(f, 6) - 1,
		.fail_errno = errors[fz_pick(f, ARRAY_LEN(errors))],
		.hold = fz_u8(f) % 4 == 0,
	};

	tb_net_fault(s->tb, 0, &fault);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	uint8_t what = fz_pick(f, 20);

	switch (what) {
	case 0:
		start(s, f);
		return;
	case 1:
		tb_virtio_set_status(s->d, fz_u8(f) % 2 ? fz_u8(f) : 0);
		return;
	case 2:
		line_fault(s, f);
		return;
	case 3:
		net_fault_release(tb_net(s->tb, 0), 1 + fz_pick(f, 8));
		return;
	case 4:
		tb_net_link(s->tb, 0, fz_u8(f) % 4);
		return;
	case 5:
		dev_link(s->d, fz_u8(f) % 4 != 0);
		return;
	case 6:
		outside_receives(s);
		return;
	case 7:
	case 8:
	case 9:
	case 10:
		outside_sends(s, f);
		return;
	default:
		break;
	}
	if (!drv->up)
		return;
	if (what < 13)
		offer(s, f);
	else if (what < 15)
		send(s, f);
	else if (what < 17)
		control(s, f);
	else
		tb_virtio_kick(s->d, fz_u8(f) % 4 ? fz_u8(f) % 2 : fz_pick(f, QUEUES));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct driver drv;
	struct fz f = fz_of(data, size);
	struct fz_script s;

	drv.up = false;
	fz_start(&s, &virtio_net_ops, "queues=2\n", one_operation);
	s.arg = &drv;
	dev_link(s.d, 1);
	start(&s, &f);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
