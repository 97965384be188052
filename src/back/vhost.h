/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_VHOST_H
#define BACK_VHOST_H

#include <stdint.h>

struct err;
struct mem;

/*
 * The kernel's vhost-net: serves one queue pair of a virtio network card between the guest's rings and a tap, without
 * us. One descriptor per pair. Ring 0 receives, ring 1 sends. Any thread, one at a time.
 */
struct vhost_ring {
	void *desc, *avail, *used; /* in our memory */
	uint16_t size, next; /* entries; the avail index to go on with */
	int kick, call; /* eventfds: the guest rang; it is to be interrupted */
	int err; /* another: the guest broke the ring */
};

/* Opens it for guests with this memory. The descriptor, or -errno with a text. */
int vhost_open(const struct mem *m, struct err *err);
/* features: of the device and the ring, as negotiated. 0 or -errno, with nothing running and next up to date. */
int vhost_start(int fd, uint64_t features, struct vhost_ring *rings, int tap);
/* After this it touches nothing of the guest, and all that it used is published. Updates next. */
void vhost_stop(int fd, struct vhost_ring *rings);
/* Another eventfd for interrupts. */
int vhost_set_call(int fd, unsigned int ring, int call);
/* Throws away what waits at a tap that is not served. */
void vhost_drop_frames(int tap);

#endif
