/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "back/net_gso.h"
#include "back/net_priv.h"
#include "frame.h"
#include "run.h"

#define ROOM (512 + 66000)

/* What came out, checked as it comes. */
struct out {
	const struct frame *whole;
	struct net_hdr h;
	unsigned int frames;
	size_t payload; /* bytes so far */
	uint8_t buf[ROOM];
};

/* The segment continues where the last ended, its headers are those of the whole, and its sums are right. */
static void check_segment(void *arg, struct iovec iov[2])
{
	struct out *o = arg;
	const struct frame *w = o->whole;
	size_t len = iov[0].iov_len + iov[1].iov_len, n;
	struct frame f;
	bool last;

	CHECK(len <= sizeof(o->buf));
	CHECK_EQ(net_iov_read(iov, 2, 0, o->buf, len), len);
	CHECK(frame_parse(&f, o->buf, len));
	CHECK(frame_sums_ok(&f));
	CHECK_EQ(f.l3, w->l3);
	CHECK_EQ(f.l4, w->l4);
	CHECK_EQ(f.payload, w->payload);
	n = len - f.payload;
	last = o->payload + n == w->len - w->payload;
	CHECK(n == o->h.gso_size || last);
	CHECK(n <= o->h.gso_size);
	CHECK(memcmp(o->buf + f.payload, w->data + w->payload + o->payload, n) == 0);
	CHECK(memcmp(o->buf, w->data, w->l3) == 0);
	if (!f.ipv6)
		CHECK_EQ(frame_get(o->buf + f.l3 + 4), (0xfffe + o->frames) & 0xffff);
	if (f.proto == 6) {
		uint8_t flags = w->data[w->l4 + 13];

		CHECK_EQ(frame_get32(o->buf + f.l4 + 4),
			 frame_get32(w->data + w->l4 + 4) + (uint32_t)o->payload);
		flags &= (uint8_t) ~((last ? 0 : 0x09) | (o->frames ? 0x80 : 0));
		CHECK_EQ(o->buf[f.l4 + 13], flags);
		CHECK(memcmp(o->buf + f.l4 + 18, w->data + w->l4 + 18, f.payload - f.l4 - 18) == 0);
	}
	o->frames++;
	o->payload += n;
}

static struct net_hdr header_of(const struct frame *f, size_t mss)
{
	uint8_t type = f->proto == 17 ? NET_GSO_UDP_L4 : f->ipv6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4;

	return (struct net_hdr){ .flags = NET_HDR_NEEDS_CSUM,
				 .gso_type = mss ? type : NET_GSO_NONE,
				 .gso_size = (uint16_t)mss,
				 .hdr_len = (uint16_t)f->payload,
				 .csum_start = (uint16_t)f->l4,
				 .csum_offset = f->proto == 17 ? 6 : 16 };
}

/* Cuts a frame of this kind up; the number of frames that came out, all checked. */
static unsigned int split(const struct frame_kind *k, size_t payload, size_t mss)
{
	uint8_t *buf = malloc(ROOM), *copy = malloc(ROOM);
	struct out *o = calloc(1, sizeof(*o));
	struct frame f;
	unsigned int n;

	frame_make(&f, buf, k, payload);
	o->whole = &f;
	o->h = header_of(&f, mss);
	CHECK_EQ(net_hdr_check(&o->h, f.len), 0);
	memcpy(copy, buf, f.len);
	CHECK_EQ(net_gso_split(&o->h, copy, f.len, check_segment, o), 0);
	CHECK_EQ(o->payload, payload);
	n = o->frames;
	free(o);
	free(copy);
	free(buf);
	return n;
}

static void segments_are_right(void)
{
	for (unsigned int v = 0; v < 3; v++) {
		struct frame_kind k = { .vlans = (uint8_t)v, .tcp_flags = 0x99 };

		CHECK_EQ(split(&k, 3000, 1000), 3);
		CHECK_EQ(split(&k, 3001, 1000), 4);
		CHECK_EQ(split(&k, 999, 1000), 1);
		CHECK_EQ(split(&k, 0, 1000), 1);
		CHECK_EQ(split(&k, 65000, 1448), 45);
		k.options = 40;
		k.tcp_options = 40;
		CHECK_EQ(split(&k, 65000, 1461), 45);
		k.ipv6 = true;
		CHECK_EQ(split(&k, 65000, 1001), 65);
		k.exts = 3;
		CHECK_EQ(split(&k, 5000, 1000), 5);
		k.udp = true;
		CHECK_EQ(split(&k, 5000, 999), 6);
		k.ipv6 = false;
		CHECK_EQ(split(&k, 60000, 1472), 41);
	}
}

static void check_whole(void *arg, struct iovec iov[2])
{
	struct out *o = arg;
	struct frame f;

	CHECK_EQ(iov[0].iov_len + iov[1].iov_len, o->whole->len);
	net_iov_read(iov, 2, 0, o->buf, o->whole->len);
	CHECK(frame_parse(&f, o->buf, o->whole->len));
	CHECK(frame_sums_ok(&f));
	o->frames++;
}

static void checksums_are_completed(void)
{
	struct out *o = calloc(1, sizeof(*o));
	uint8_t *buf = malloc(ROOM);

	for (unsigned int i = 0; i < 4000; i++) {
		struct frame_kind k = { .ipv6 = i & 1, .udp = i & 2, .vlans = i / 4 % 3 };
		struct frame f;

		frame_make(&f, buf, &k, i);
		o->whole = &f;
		o->h = header_of(&f, 0);
		/* All sums that there are come along, 0 among them. */
		CHECK_EQ(net_gso_split(&o->h, buf, f.len, check_whole, o), 0);
		CHECK_EQ(o->frames, i + 1);
	}
	free(buf);
	free(o);
}

/* A sum of 0 would mean "none" in UDP. */
static void udp_sums_are_never_zero(void)
{
	const struct frame_kind k = { .udp = true };
	struct out *o = calloc(1, sizeof(*o));
	uint8_t buf[600];
	struct frame f;
	uint16_t sum;

	frame_make(&f, buf, &k, 2);
	memset(buf + f.payload, 0, 2);
	sum = frame_sum(0, buf + f.l4, f.len - f.l4);
	frame_set(buf + f.payload, (uint16_t)~sum);
	o->whole = &f;
	o->h = header_of(&f, 0);
	CHECK_EQ(net_gso_split(&o->h, buf, f.len, check_whole, o), 0);
	CHECK_EQ(frame_get(o->buf + f.l4 + 6), 0xffff);
	free(o);
}

static void no_frame(void *arg, struct iovec iov[2])
{
	(void)arg;
	(void)iov;
	CHECK_FAIL("a frame came out");
}

/* Byte `at` of a good frame (relative to the layer) becomes `value`; nothing may come out. */
static void lies_are_refused(void)
{
	static const struct {
		bool ipv6, udp;
		uint8_t layer; /* 2: Ethernet, 3, 4 */
		int at;
		uint8_t value;
	} rows[] = {
		{ false, false, 2, 12, 0x86 }, /* another ethertype */
		{ false, false, 3, 0, 0x55 }, /* version */
		{ false, false, 3, 0, 0x44 }, /* header length */
		{ false, false, 3, 0, 0x46 },
		{ false, false, 3, 0, 0x4f },
		{ false, false, 3, 6, 0x20 }, /* a fragment */
		{ false, false, 3, 7, 0x01 },
		{ false, false, 3, 9, 17 }, /* protocol */
		{ false, true, 3, 9, 6 },
		{ false, false, 4, 12, 0x40 }, /* TCP header length */
		{ false, false, 4, 12, 0xf0 },
		{ true, false, 2, 12, 0x08 },
		{ true, false, 3, 0, 0x40 },
		{ true, false, 3, 6, 44 }, /* a fragment */
		{ true, false, 3, 6, 6 }, /* not where the sum starts */
		{ true, false, 3, 40, 17 },
		{ true, false, 3, 41, 1 }, /* length of the extension header */
		{ true, false, 3, 41, 255 },
		{ true, true, 3, 40, 6 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct frame_kind k = { .ipv6 = rows[i].ipv6, .udp = rows[i].udp, .exts = 1 };
		uint8_t buf[600];
		struct frame f;
		struct net_hdr h;
		size_t base;

		frame_make(&f, buf, &k, 24);
		h = header_of(&f, 10);
		base = rows[i].layer == 2 ? 0 : rows[i].layer == 3 ? f.l3 : f.l4;
		buf[base + (size_t)rows[i].at] = rows[i].value;
		if (net_gso_split(&h, buf, f.len, no_frame, NULL) != -EINVAL)
			CHECK_FAIL("row %zu is accepted", i);
	}
}

static void headers_that_lie_are_refused(void)
{
	struct frame_kind k = { .vlans = 0 };
	uint8_t *buf = malloc(ROOM);
	struct net_hdr good, h;
	struct frame f;

	frame_make(&f, buf, &k, 65000);
	good = header_of(&f, 1448);
	h = good;
	h.csum_offset = 6;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	h = good;
	h.csum_start = 14;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	h = good;
	h.csum_start++;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	h = good;
	h.gso_type = NET_GSO_TCPV6;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	h = good;
	h.gso_type = NET_GSO_UDP_L4;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	h = good;
	h.gso_size = 65000 / NET_GSO_SEGS_MAX; /* one frame too many */
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	frame_make(&f, buf, &k, 65496); /* longer than IP can say */
	h.gso_size = 65535;
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	k = (struct frame_kind){ .vlans = 3 };
	frame_make(&f, buf, &k, 100);
	h = header_of(&f, 10);
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	k = (struct frame_kind){ .ipv6 = true, .exts = 9 };
	frame_make(&f, buf, &k, 100);
	h = header_of(&f, 10);
	CHECK_EQ(net_gso_split(&h, buf, f.len, no_frame, NULL), -EINVAL);
	/* Cut off at every place: within bounds, and nothing comes out before the headers are whole. */
	k = (struct frame_kind){ .ipv6 = true, .exts = 2, .tcp_options = 12, .vlans = 1 };
	frame_make(&f, buf, &k, 1);
	h = header_of(&f, 10);
	for (size_t len = NET_ETH_LEN; len < f.payload; len++) {
		uint8_t *cut = malloc(len);

		memcpy(cut, buf, len);
		h.hdr_len = 0;
		if (net_hdr_check(&h, len) == 0)
			CHECK_EQ(net_gso_split(&h, cut, len, no_frame, NULL), -EINVAL);
		free(cut);
	}
	free(buf);
}

static void offloads_decide(void)
{
	struct net_hdr h = { 0 };

	CHECK(!net_gso_needed(&h, 0));
	h.flags = NET_HDR_DATA_VALID;
	CHECK(!net_gso_needed(&h, 0));
	h.flags = NET_HDR_NEEDS_CSUM;
	CHECK(net_gso_needed(&h, 0));
	CHECK(!net_gso_needed(&h, NET_O_CSUM));
	h.gso_type = NET_GSO_TCPV4;
	CHECK(net_gso_needed(&h, NET_O_ALL & ~NET_O_TSO4));
	CHECK(!net_gso_needed(&h, NET_O_CSUM | NET_O_TSO4));
	h.gso_type |= NET_GSO_ECN;
	CHECK(net_gso_needed(&h, NET_O_CSUM | NET_O_TSO4));
	CHECK(!net_gso_needed(&h, NET_O_CSUM | NET_O_TSO4 | NET_O_ECN));
	h.gso_type = NET_GSO_TCPV6;
	CHECK(net_gso_needed(&h, NET_O_ALL & ~NET_O_TSO6));
	CHECK(!net_gso_needed(&h, NET_O_ALL));
	h.gso_type = NET_GSO_UDP_L4;
	CHECK(net_gso_needed(&h, NET_O_ALL & ~NET_O_USO));
	CHECK(!net_gso_needed(&h, NET_O_ALL));
}

static const struct test_case cases[] = {
	{ "segments are right", segments_are_right },
	{ "checksums are completed", checksums_are_completed },
	{ "UDP sums are never zero", udp_sums_are_never_zero },
	{ "lies are refused", lies_are_refused },
	{ "headers that lie are refused", headers_that_lie_are_refused },
	{ "offloads decide", offloads_decide },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
