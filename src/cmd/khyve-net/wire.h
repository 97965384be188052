/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_WIRE_H
#define CMD_KHYVE_NET_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cmd/khyve-net/ring.h"
#include "loop/loop.h"

/* Frames without net_hdr: an Ethernet header, a VLAN tag, and what IP can carry. */
#define WIRE_FRAME_MIN 14u
#define WIRE_FRAME_MAX (14u + 4u + 65535u)

/*
 * The cable to khyve: a SOCK_SEQPACKET socket that listens, and the one connection on it. One packet is one frame.
 * What khyve does not take at once waits in a ring; what does not fit there is dropped, as on any cable.
 */
struct wire {
	/* A frame came; it may be changed in place. */
	void (*on_frame)(void *arg, uint8_t *frame, size_t len);
	/* The ring is filling up: who makes frames should stop; or there is room again. */
	void (*on_busy)(void *arg, bool busy);
	void *arg;
	uid_t owner; /* who may connect besides root */

	struct loop_fd listen, peer;
	struct ring ring;
	uint64_t left_ns; /* when there was a connection last, or never */
	bool busy;
	struct {
		uint64_t in_frames, in_bytes, in_dropped;
		uint64_t out_frames, out_bytes, out_dropped;
	} stats;
	uint8_t frame[WIRE_FRAME_MAX];
};

/* on_frame, on_busy, arg and owner are set by the caller before. The descriptor stays the caller's. 0 or -errno. */
int wire_init(struct wire *w, struct loop *l, int listen_fd);
/* One that was never initialised (zeroed) is fine. */
void wire_fini(struct wire *w);
static inline bool wire_connected(const struct wire *w)
{
	return w->peer.fd >= 0;
}
/* Never waits. Without a connection the frame is dropped. */
void wire_send(struct wire *w, const void *frame, size_t len);

#endif
