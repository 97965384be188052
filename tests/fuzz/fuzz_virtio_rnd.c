/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <string.h>
#include <sys/random.h>

#include "bench/tb_virtio.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Quicker than the host's, and the same every time. */
ssize_t getrandom(void *buf, size_t len, unsigned int flags)
{
	(void)flags;
	memset(buf, 0xa5, len);
	return (ssize_t)len;
}

struct driver {
	struct tb_vq vq;
	bool up;
	bool clean; /* nothing that would write into the rings */
};

/* BARs and MSI-X are as op_enable left them. */
static void start(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	uint64_t features;
	uint16_t size;

	tb_alloc_reset(s->tb); /* rings where the script writes, too */
	features = TB_V_VERSION_1 | (fz_bool(f) ? VIRTIO_F_INDIRECT_DESC : 0);
	size = (uint16_t)(1u << fz_pick(f, 7));
	drv->up = tb_virtio_negotiate(s->d, features);
	if (!drv->up)
		return;
	tb_virtio_queue(s->d, 0, size, &drv->vq);
	tb_virtio_driver_ok(s->d);
}

static void request(struct fz_script *s, struct fz *f)
{
	static const uint32_t sizes[] = { 1, 16, 512, 40000, 65536, 0 };
	struct driver *drv = s->arg;
	struct tb_buf b[4];
	unsigned int n = 1 + fz_pick(f, ARRAY_LEN(b)), first = fz_u8(f) % 8 ? 0 : fz_pick(f, n);

	for (unsigned int i = 0; i < n; i++) {
		b[i] = (struct tb_buf){ s->arena + 0x4000 + fz_u16(f),
					sizes[fz_pick(f, ARRAY_LEN(sizes))], i >= first };
		if (!drv->clean && fz_u8(f) % 32 == 0)
			b[i].addr = fz_value(f);
	}
	if (fz_u8(f) % 4)
		tb_vq_add(&drv->vq, b, MIN(n, drv->vq.size));
	else
		tb_vq_add_indirect(&drv->vq, s->arena + 0x3000, b, n);
}

/* At most 64 KiB for a request, whatever its size. */
static void take(struct driver *drv)
{
	uint32_t id, len;

	while (tb_vq_used(&drv->vq, &id, &len))
		assert(len <= 65536);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;

	switch (fz_pick(f, 8)) {
	case 0:
		start(s, f);
		return;
	case 1:
		tb_virtio_set_status(s->d, fz_u8(f));
		return;
	case 2:
	case 3:
		if (drv->up)
			tb_virtio_kick(s->d, fz_u8(f) % 16 == 0);
		return;
	default:
		if (drv->up)
			request(s, f);
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct driver drv = { .clean = true };
	struct fz_script s;

	fz_start(&s, &virtio_rnd_ops, NULL, one_operation);
	s.arg = &drv;
	/* one clean round, whose answers can be trusted, then anything */
	start(&s, &f);
	for (unsigned int i = fz_pick(&f, 8); i; i--)
		request(&s, &f);
	tb_virtio_kick(s.d, 0);
	take(&drv);
	drv.clean = false;
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
