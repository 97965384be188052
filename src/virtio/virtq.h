/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef VIRTIO_VIRTQ_H
#define VIRTIO_VIRTQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "mem/dma.h"

/*
 * The split virtqueue of virtio 1.2 s2.7, seen from the device: the only walker of descriptor chains. Addresses and
 * size are latched when the queue is enabled. Every descriptor is copied once and checked; a chain that breaks a rule
 * makes virtq_pop return -EINVAL, and the transport then sets DEVICE_NEEDS_RESET. While the function's bus master bit
 * is clear nothing is read from or written to the rings.
 */
#define VIRTQ_MAX_SIZE 1024
#define VIRTQ_MAX_IOV 256 /* host pieces of one chain */

struct virtq {
	const struct dma *dma;
	uint16_t size; /* 0: not enabled */
	struct virtq_desc *desc;
	struct virtq_avail *avail;
	struct virtq_used *used;
	uint16_t last_avail, used_idx, signalled_used;
	bool event_idx, indirect;
	uint64_t in_flight[VIRTQ_MAX_SIZE / 64]; /* heads handed out and not pushed */
	uint64_t popped, pushed; /* counters that tests compare */
};

/* One request. The readable pieces come first. Lengths are what was checked. */
struct virtq_chain {
	uint16_t head;
	uint16_t nread, nwrite; /* iovs of each direction */
	uint32_t read_len, write_len; /* bytes; chains over 2^32 - 1 are refused */
	struct iovec iov[VIRTQ_MAX_IOV];
};

/*
 * Latches and checks addresses (virtio 1.2 s2.7: alignment 16, 2, 4; rings must be RAM and must not overlap each
 * other). features: the negotiated ones. 0, or -EINVAL with the queue left disabled.
 */
int virtq_enable(struct virtq *q, const struct dma *dma, uint16_t size, gpa_t desc, gpa_t avail,
		 gpa_t used, uint64_t features);
void virtq_disable(struct virtq *q);

/* 1: chain filled. 0: nothing available. -EINVAL: the guest broke a rule. At most size chains are out at a time. */
int virtq_pop(struct virtq *q, struct virtq_chain *c);
/* Returns a chain's head with the number of bytes written. Not visible to the guest until virtq_publish. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);
/* Publishes pushed entries; true if the guest wants an interrupt for them. */
bool virtq_publish(struct virtq *q);
/* Tells the guest whether to kick. After enabling returns true, the queue has entries already: pop again. */
bool virtq_set_notify(struct virtq *q, bool on);
bool virtq_is_empty(const struct virtq *q);
/* Somebody else has served the queue up to avail index next, and published all of it. */
void virtq_go_on(struct virtq *q, uint16_t next);

/* Copies between a buffer and a byte offset of one direction of the chain. Return bytes copied. */
size_t virtq_read(const struct virtq_chain *c, size_t offset, void *buf, size_t len);
size_t virtq_write(const struct virtq_chain *c, size_t offset, const void *buf, size_t len);
/* Sub-range of one direction as iovecs; returns the count, or -EINVAL if out of range, -E2BIG if over max. */
int virtq_slice(const struct virtq_chain *c, bool writable, size_t offset, size_t len,
		struct iovec *iov, int max);

#endif
