/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_FRAG_H
#define CMD_KHYVE_NET_FRAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Puts IPv4 packets that the guest sends in pieces together again, in memory that never grows, so that libslirp sees
 * whole ones only. A packet whose pieces overlap is dropped, as Linux does; with too many at a time, the one that
 * waited longest goes.
 */
#define FRAG_PACKETS 16
#define FRAG_HEAD (14u + 60u) /* Ethernet, the longest IPv4 header */
#define FRAG_DATA 65536u
#define FRAG_UNIT 8u

struct frag_packet {
	bool used, bad; /* bad: what still comes of it is dropped */
	uint8_t key[11]; /* source, destination, identification, protocol */
	uint64_t start_ns;
	size_t head_len; /* 0: the first piece has not come */
	size_t got, end,
		total; /* bytes of data: here, up to, in all (0: the last piece has not come) */
	uint8_t seen[FRAG_DATA / FRAG_UNIT / 8];
	uint8_t frame[FRAG_HEAD + FRAG_DATA];
};

struct frag {
	struct frag_packet packets[FRAG_PACKETS];
};

/*
 * Takes a piece, in a frame that filter_in() has judged. Returns the frame of the whole packet and its length once it
 * is there, else NULL; it is valid until the next call and may be changed.
 */
uint8_t *frag_add(struct frag *f, uint64_t now_ns, const uint8_t *frame, size_t *len);

#endif
