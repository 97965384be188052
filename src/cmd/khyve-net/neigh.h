/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_NEIGH_H
#define CMD_KHYVE_NET_NEIGH_H

#include <stddef.h>
#include <stdint.h>

#define NEIGH_FRAME_MAX 86u

/*
 * Makes the ARP reply (RFC 826) or neighbour advertisement (RFC 4861 s4.4) by which the sender of an IPv4 or IPv6 frame
 * would say which MAC address it has. frame is one that filter_in() has passed. Returns its length, 0 for other frames.
 *
 * libslirp 4.7 frees an answer twice that has to wait for its receiver's address: a refused connection's.
 */
size_t neigh_introduce(const uint8_t *frame, uint8_t out[NEIGH_FRAME_MAX]);

#endif
