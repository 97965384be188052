/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_VIRTIO_H
#define TESTS_BENCH_TB_VIRTIO_H

#include "bench/tb.h"
#include "bench/tb_vq.h"

/* The driver's side of the virtio PCI transport: what a guest writes to bring a device up. */

/* Common configuration (virtio 1.2 s4.1.4.3), in BAR 4. */
enum tb_virtio_common {
	TB_V_DEVICE_FEATURE_SELECT = 0x00,
	TB_V_DEVICE_FEATURE = 0x04,
	TB_V_DRIVER_FEATURE_SELECT = 0x08,
	TB_V_DRIVER_FEATURE = 0x0c,
	TB_V_CONFIG_VECTOR = 0x10,
	TB_V_NUM_QUEUES = 0x12,
	TB_V_STATUS = 0x14,
	TB_V_GENERATION = 0x15,
	TB_V_QUEUE_SELECT = 0x16,
	TB_V_QUEUE_SIZE = 0x18,
	TB_V_QUEUE_VECTOR = 0x1a,
	TB_V_QUEUE_ENABLE = 0x1c,
	TB_V_QUEUE_NOTIFY_OFF = 0x1e,
	TB_V_QUEUE_DESC = 0x20,
	TB_V_QUEUE_DRIVER = 0x28,
	TB_V_QUEUE_DEVICE = 0x30,
};

#define TB_V_BAR 4
#define TB_V_ISR 0x1000u
#define TB_V_CONFIG 0x2000u
#define TB_V_NOTIFY 0x3000u
#define TB_V_VERSION_1 BIT64(32)

uint64_t tb_virtio_offered(struct dev *d);
/* Reset, acknowledge, driver, features, FEATURES_OK. True if it stuck. */
bool tb_virtio_negotiate(struct dev *d, uint64_t features);
/* Sets queue q up with rings of this size and enables it. MSI-X vector q + 1. */
void tb_virtio_queue(struct dev *d, unsigned int q, uint16_t size, struct tb_vq *vq);
void tb_virtio_driver_ok(struct dev *d);
/*
 * All of that with n queues: places the BARs, enables MSI-X, config vector 0. VERSION_1 is added to the features.
 * False if the device refused the features.
 */
bool tb_virtio_start(struct dev *d, uint64_t features, struct tb_vq *vqs, unsigned int n,
		     uint16_t size);
uint8_t tb_virtio_status(struct dev *d);
void tb_virtio_set_status(struct dev *d, uint8_t status);
/* Rings the doorbell and runs. */
void tb_virtio_kick(struct dev *d, unsigned int q);

#endif
