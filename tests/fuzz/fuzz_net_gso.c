/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "back/net_gso.h"
#include "back/net_priv.h"
#include "frame.h"
#include "fuzz.h"

/*
 * Frames that ask for checksums or segmentation, well formed but for a few bytes. Whatever comes out must be bounded,
 * and of a frame that was not damaged it must be right.
 */
#define ROOM (512 + 66000)

struct out {
	struct net_hdr h;
	size_t whole, bytes;
	unsigned int frames;
	bool check;
	uint8_t *buf;
};

static void emit(void *arg, struct iovec iov[2])
{
	struct out *o = arg;
	size_t len = iov[0].iov_len + iov[1].iov_len;
	struct frame f;

	o->frames++;
	assert(o->frames <= NET_GSO_SEGS_MAX && len <= o->whole);
	if (o->h.gso_type != NET_GSO_NONE)
		assert(iov[1].iov_len <= o->h.gso_size);
	net_iov_read(iov, 2, 0, o->buf, len);
	o->bytes += iov[1].iov_len;
	if (o->check)
		assert(frame_parse(&f, o->buf, len) && frame_sums_ok(&f));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t sizes[] = { 1448, 0, 1, 8, 64, 536, 9000, 65535 };
	struct fz f = fz_of(data, size);
	struct out o = { .check = true };
	struct frame_kind k = { 0 };
	uint8_t *frame, *exact;
	struct frame whole;
	unsigned int damage;

	k.ipv6 = fz_bool(&f);
	k.udp = fz_bool(&f);
	k.vlans = (uint8_t)fz_pick(&f, 4);
	k.options = (uint8_t)(4 * fz_pick(&f, 11));
	k.exts = (uint8_t)fz_pick(&f, 6);
	k.tcp_options = (uint8_t)(4 * fz_pick(&f, 11));
	k.tcp_flags = fz_u8(&f);
	frame = malloc(ROOM);
	o.buf = malloc(ROOM);
	assert(frame && o.buf);
	frame_make(&whole, frame, &k, fz_bool(&f) ? fz_pick(&f, 65000) : fz_pick(&f, 64));
	o.h = (struct net_hdr){ .flags = NET_HDR_NEEDS_CSUM,
				.csum_start = (uint16_t)whole.l4,
				.csum_offset = k.udp ? 6 : 16,
				.hdr_len = (uint16_t)whole.payload };
	o.h.gso_size = sizes[fz_pick(&f, ARRAY_LEN(sizes))];
	if (o.h.gso_size)
		o.h.gso_type = k.udp ? NET_GSO_UDP_L4 : k.ipv6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4;
	damage = fz_pick(&f, 4);
	o.check = damage == 0;
	for (; damage > 0; damage--) {
		unsigned int at = fz_pick(&f, (uint32_t)(12 + MIN(whole.len, (size_t)200)));

		if (at < 12)
			((uint8_t *)&o.h)[at] = fz_u8(&f);
		else
			frame[at - 12] = fz_u8(&f);
	}
	if (fz_bool(&f)) {
		whole.len = MIN(whole.len, (size_t)14 + fz_pick(&f, 256));
		o.check = false;
	}
	/* To the byte, so that the sanitizer sees each one too many. */
	exact = malloc(whole.len);
	assert(exact);
	memcpy(exact, frame, whole.len);
	o.whole = whole.len;
	if (net_hdr_check(&o.h, whole.len) == 0 &&
	    net_gso_split(&o.h, exact, whole.len, emit, &o) == 0) {
		assert(o.frames > 0);
		if (o.check && o.h.gso_type != NET_GSO_NONE)
			assert(o.bytes == whole.len - whole.payload);
	}
	free(exact);
	free(o.buf);
	free(frame);
	return 0;
}
