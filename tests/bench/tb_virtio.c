/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_virtio.h"

#include "virtio/virtio.h"

uint64_t tb_virtio_offered(struct dev *d)
{
	uint64_t low, high;

	tb_w32(d, TB_V_BAR, TB_V_DEVICE_FEATURE_SELECT, 0);
	low = tb_r32(d, TB_V_BAR, TB_V_DEVICE_FEATURE);
	tb_w32(d, TB_V_BAR, TB_V_DEVICE_FEATURE_SELECT, 1);
	high = tb_r32(d, TB_V_BAR, TB_V_DEVICE_FEATURE);
	return high << 32 | low;
}

uint8_t tb_virtio_status(struct dev *d)
{
	return tb_r8(d, TB_V_BAR, TB_V_STATUS);
}

void tb_virtio_set_status(struct dev *d, uint8_t status)
{
	tb_w8(d, TB_V_BAR, TB_V_STATUS, status);
}

bool tb_virtio_negotiate(struct dev *d, uint64_t features)
{
	const uint8_t ready = VIRTIO_S_ACKNOWLEDGE | VIRTIO_S_DRIVER;

	tb_virtio_set_status(d, 0);
	tb_virtio_set_status(d, VIRTIO_S_ACKNOWLEDGE);
	tb_virtio_set_status(d, ready);
	tb_w32(d, TB_V_BAR, TB_V_DRIVER_FEATURE_SELECT, 0);
	tb_w32(d, TB_V_BAR, TB_V_DRIVER_FEATURE, (uint32_t)features);
	tb_w32(d, TB_V_BAR, TB_V_DRIVER_FEATURE_SELECT, 1);
	tb_w32(d, TB_V_BAR, TB_V_DRIVER_FEATURE, (uint32_t)(features >> 32));
	tb_virtio_set_status(d, ready | VIRTIO_S_FEATURES_OK);
	return tb_virtio_status(d) & VIRTIO_S_FEATURES_OK;
}

static void put_addr(struct dev *d, unsigned int reg, gpa_t addr)
{
	tb_w32(d, TB_V_BAR, reg, (uint32_t)addr);
	tb_w32(d, TB_V_BAR, reg + 4, (uint32_t)(addr >> 32));
}

void tb_virtio_queue(struct dev *d, unsigned int q, uint16_t size, struct tb_vq *vq)
{
	struct tb *tb = tb_of(d);

	tb_vq_init(vq, tb_memory(tb), size, tb_reserve(tb, tb_vq_bytes(size), 16));
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_SELECT, (uint16_t)q);
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_SIZE, size);
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_VECTOR, (uint16_t)(q + 1));
	put_addr(d, TB_V_QUEUE_DESC, vq->desc);
	put_addr(d, TB_V_QUEUE_DRIVER, vq->avail);
	put_addr(d, TB_V_QUEUE_DEVICE, vq->used);
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_ENABLE, 1);
}

void tb_virtio_driver_ok(struct dev *d)
{
	tb_virtio_set_status(d, tb_virtio_status(d) | VIRTIO_S_DRIVER_OK);
}

bool tb_virtio_start(struct dev *d, uint64_t features, struct tb_vq *vqs, unsigned int n,
		     uint16_t size)
{
	tb_pci_enable(d);
	tb_msix_enable(d);
	if (!tb_virtio_negotiate(d, features | TB_V_VERSION_1))
		return false;
	tb_w16(d, TB_V_BAR, TB_V_CONFIG_VECTOR, 0);
	for (unsigned int i = 0; i < n; i++)
		tb_virtio_queue(d, i, size, &vqs[i]);
	tb_virtio_driver_ok(d);
	return true;
}

void tb_virtio_kick(struct dev *d, unsigned int q)
{
	tb_w16(d, TB_V_BAR, TB_V_NOTIFY + 4 * q, (uint16_t)q);
	tb_run(tb_of(d));
}
