/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef VIRTIO_VIRTIO_PRIV_H
#define VIRTIO_VIRTIO_PRIV_H

#include "virtio/virtio.h"

#define VIRTIO_NO_VECTOR 0xffffu
#define VIRTIO_ISR_QUEUE 1u
#define VIRTIO_ISR_CONFIG 2u

/* The status state machine; regs.c turns register accesses into these. Lock held. */
uint8_t virtio_status_read(struct virtio *v);
void virtio_status_write(struct virtio *v, uint8_t value);
uint64_t virtio_features_offered(struct virtio *v);
/* queue_enable = 1 for queue q. */
void virtio_queue_enable(struct virtio *v, unsigned int q);
/* A notification that reached user space: rings the kick event of queue q if it exists. Any thread. */
void virtio_notify(struct virtio *v, unsigned int q);

/* Fills v->pci, v->caps and v->cap_data from v->desc. */
void virtio_regs_describe(struct virtio *v);
/* Finds the PCI_CFG capability once config space exists. */
void virtio_regs_locate(struct virtio *v);

#endif
