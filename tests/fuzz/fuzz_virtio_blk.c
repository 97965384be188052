/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_virtio.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "util/bytes.h"
#include "virtio/virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define QUEUES 2

struct driver {
	struct tb_vq vq[QUEUES];
	bool up;
	unsigned int n; /* requests made */
};

/* BARs and MSI-X are as op_enable left them. */
static void start(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;
	uint64_t features = fz_u16(f) & 0x7e40;
	uint16_t size;

	if (fz_bool(f))
		features |= VIRTIO_F_INDIRECT_DESC;
	if (fz_bool(f))
		features |= VIRTIO_F_EVENT_IDX;
	features &= tb_virtio_offered(s->d);
	tb_alloc_reset(s->tb); /* rings where the script writes, too */
	size = (uint16_t)(1u << fz_pick(f, 9));
	drv->up = tb_virtio_negotiate(s->d, features | TB_V_VERSION_1);
	if (!drv->up)
		return;
	for (unsigned int i = 0; i < QUEUES; i++)
		tb_virtio_queue(s->d, i, size, &drv->vq[i]);
	tb_virtio_driver_ok(s->d);
}

static uint32_t some_length(struct fz *f)
{
	static const uint32_t sizes[] = { 512, 512, 4096, 16, 20, 0, 8192, 32 };
	uint32_t len = sizes[fz_pick(f, ARRAY_LEN(sizes))];

	return fz_u8(f) % 16 ? len : fz_u16(f);
}

/* Header, data in up to four pieces, status; one field of it may be wrong. */
static void request(struct fz_script *s, struct fz *f)
{
	static const uint8_t types[] = { 0, 0, 1, 1, 4, 8, 11, 13 };
	struct driver *drv = s->arg;
	struct tb_vq *vq = &drv->vq[fz_u8(f) % 8 == 0];
	gpa_t header = s->arena + 0x8000 + 32 * (drv->n++ % 64);
	uint32_t type = types[fz_pick(f, ARRAY_LEN(types))];
	bool write = type == 0 || type == 8;
	uint64_t sector = fz_u8(f) % 8 ? fz_pick(f, 2048) : fz_value(f);
	unsigned int k = 0, pieces = fz_pick(f, 5);
	struct tb_buf b[6];
	uint8_t *h = tb_mem(s->tb, header, 32);

	put_le32(h, fz_u8(f) % 16 ? type : fz_u8(f));
	put_le64(h + 8, sector);
	b[k++] = (struct tb_buf){ header, 16, false };
	for (unsigned int i = 0; i < pieces; i++) {
		b[k] = (struct tb_buf){ s->arena + 0xa000 + (fz_u8(f) << 6), some_length(f),
					write };
		if (fz_u8(f) % 64 == 0)
			b[k].addr = fz_value(f);
		k++;
	}
	if (fz_u8(f) % 32)
		b[k++] = (struct tb_buf){ header + 24, 1, true };
	if (fz_u8(f) % 4)
		tb_vq_add(vq, b, MIN(k, vq->size));
	else
		tb_vq_add_indirect(vq, s->arena + 0x9000 + 16 * fz_u8(f), b, k);
}

/* Ranges for discard and write zeroes, where requests take their data from. */
static void ranges(struct fz_script *s, struct fz *f)
{
	for (unsigned int i = fz_pick(f, 40); i; i--) {
		uint8_t *r = tb_mem(s->tb, s->arena + 0xa000 + 16 * i, 16);

		put_le64(r, fz_u8(f) % 16 ? fz_u8(f) : fz_value(f));
		put_le32(r + 8, fz_u8(f) % 16 ? fz_u8(f) : fz_u32(f));
		put_le32(r + 12, fz_u8(f) % 16 ? fz_bool(f) : fz_u32(f));
	}
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;

	switch (fz_pick(f, 10)) {
	case 0:
		start(s, f);
		break;
	case 1:
		tb_virtio_set_status(s->d, fz_u8(f) % 2 ? fz_u8(f) : 0);
		break;
	case 2:
	case 3:
		if (drv->up)
			tb_virtio_kick(s->d, fz_u8(f) % 8 == 0);
		break;
	case 4:
		ranges(s, f);
		break;
	case 5:
		tb_w8(s->d, TB_V_BAR, TB_V_CONFIG + 32, fz_u8(f) & 1);
		break;
	default:
		if (drv->up)
			request(s, f);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct driver drv = { .up = false };
	struct fz_script s;

	fz_start(&s, &virtio_blk_ops, "queues=2\n", one_operation);
	s.arg = &drv;
	start(&s, &f);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
