/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_NET_GSO_H
#define BACK_NET_GSO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "back/net.h"

/* What a receiver lacks, done in software: checksums, and cutting large frames up. Any thread. */
#define NET_GSO_SEGS_MAX \
	2048u /* frames made of one; a guest that wants more of them has no real MTU */
#define NET_GSO_HEADERS_MAX 512u /* Ethernet to TCP, with all options */

/* Does a frame ask for something that is not among these offloads (enum net_offload)? */
bool net_gso_needed(const struct net_hdr *h, unsigned int offloads);

/*
 * Makes plain frames, with all checksums, of one of len bytes (without header) that net_hdr_check() has passed. emit
 * gets each in order, in two pieces of which the second may be empty, valid during the call. frame is written to and
 * must not be the guest's memory. 0, or -EINVAL with nothing emitted: it is not the kind of frame that h says.
 */
int net_gso_split(const struct net_hdr *h, uint8_t *frame, size_t len,
		  void (*emit)(void *arg, struct iovec iov[2]), void *arg);

#endif
