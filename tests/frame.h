/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_FRAME_H
#define TESTS_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Makes and checks Ethernet frames for tests, byte by byte and without a line of what is tested: checksums are added up
 * as RFC 1071 writes them down.
 */
struct frame {
	const uint8_t *data;
	size_t len;
	size_t l3, l4, payload; /* offsets */
	bool ipv6;
	uint8_t proto; /* 6 or 17 */
};

static inline uint16_t frame_get(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t frame_get32(const uint8_t *p)
{
	return (uint32_t)frame_get(p) << 16 | frame_get(p + 2);
}

static inline void frame_set(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* The sum without the last complement; carry by carry. */
static inline uint16_t frame_sum(uint16_t start, const uint8_t *p, size_t len)
{
	uint32_t sum = start;

	for (size_t i = 0; i < len; i += 2) {
		sum += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
		if (sum > 0xffff)
			sum -= 0xffff;
	}
	return (uint16_t)sum;
}

/* Of the pseudo header for l4_len bytes of TCP or UDP. */
static inline uint16_t frame_pseudo(const struct frame *f, size_t l4_len)
{
	uint8_t tail[4] = { 0, f->proto, (uint8_t)(l4_len >> 8), (uint8_t)l4_len };
	uint16_t sum = frame_sum(0, tail, sizeof(tail));

	return f->ipv6 ? frame_sum(sum, f->data + f->l3 + 8, 32)
		       : frame_sum(sum, f->data + f->l3 + 12, 8);
}

/* Finds the layers of a frame with TCP or UDP in it; false if it has none, or lengths that are wrong. */
static inline bool frame_parse(struct frame *f, const uint8_t *data, size_t len)
{
	uint8_t next;

	*f = (struct frame){ .data = data, .len = len, .l3 = 14 };
	while (f->l3 + 4 <= len &&
	       (frame_get(data + f->l3 - 2) == 0x8100 || frame_get(data + f->l3 - 2) == 0x88a8))
		f->l3 += 4;
	f->ipv6 = frame_get(data + f->l3 - 2) == 0x86dd;
	if (len < f->l3 + (f->ipv6 ? 40u : 20u))
		return false;
	if (!f->ipv6) {
		f->l4 = f->l3 + (data[f->l3] & 15u) * 4u;
		f->proto = data[f->l3 + 9];
		if (frame_get(data + f->l3 + 2) != len - f->l3)
			return false;
	} else {
		next = data[f->l3 + 6];
		for (f->l4 = f->l3 + 40; next != 6 && next != 17 && f->l4 + 8 <= len;) {
			next = data[f->l4];
			f->l4 += 8u + data[f->l4 + 1] * 8u;
		}
		f->proto = next;
		if (frame_get(data + f->l3 + 4) != len - f->l3 - 40)
			return false;
	}
	if (f->l4 + 8 > len || (f->proto == 6 && f->l4 + 20 > len))
		return false;
	if (f->proto == 17 && frame_get(data + f->l4 + 4) != len - f->l4)
		return false;
	f->payload = f->l4 + (f->proto == 6 ? (data[f->l4 + 12] >> 4) * 4u : 8u);
	return f->payload <= len;
}

/* Are all checksums right? */
static inline bool frame_sums_ok(const struct frame *f)
{
	size_t l4_len = f->len - f->l4;

	if (!f->ipv6 && frame_sum(0, f->data + f->l3, f->l4 - f->l3) != 0xffff)
		return false;
	if (frame_get(f->data + f->l4 + (f->proto == 6 ? 16 : 6)) == 0)
		return false;
	return frame_sum(frame_pseudo(f, l4_len), f->data + f->l4, l4_len) == 0xffff;
}

/* What to make. */
struct frame_kind {
	bool ipv6, udp;
	uint8_t vlans; /* tags */
	uint8_t options; /* bytes, multiple of 4: of IPv4, up to 40 */
	uint8_t exts; /* extension headers of IPv6, of 8, 16, ... bytes */
	uint8_t tcp_options; /* bytes, multiple of 4, up to 40 */
	uint8_t tcp_flags;
};

/*
 * A frame as a guest's driver leaves it for the card: lengths of the whole, the sum of the pseudo header in the place of
 * the checksum. buf has room for 512 bytes and the payload, whose bytes count up. The offsets are stored in f.
 */
static inline void frame_make(struct frame *f, uint8_t *buf, const struct frame_kind *k,
			      size_t payload)
{
	uint8_t *ip, *l4;

	memset(buf, 0, 512);
	*f = (struct frame){ .data = buf, .ipv6 = k->ipv6, .proto = k->udp ? 17 : 6, .l3 = 14 };
	for (int i = 0; i < 12; i++)
		buf[i] = (uint8_t)(2 + 16 * i);
	for (unsigned int i = 0; i < k->vlans; i++, f->l3 += 4) {
		frame_set(buf + f->l3 - 2, i + 1 < k->vlans ? 0x88a8 : 0x8100);
		frame_set(buf + f->l3, (uint16_t)(100 + i));
	}
	frame_set(buf + f->l3 - 2, k->ipv6 ? 0x86dd : 0x0800);
	ip = buf + f->l3;
	if (k->ipv6) {
		uint8_t *next = ip + 6;

		ip[0] = 0x60;
		ip[7] = 64;
		memset(ip + 8, 0xfd, 32);
		ip[39] = 9;
		f->l4 = f->l3 + 40;
		for (unsigned int i = 0; i < k->exts; i++) {
			*next = i == 0 ? 0 : i == 1 ? 43 : 60;
			next = buf + f->l4;
			next[1] = (uint8_t)i;
			f->l4 += 8u + 8u * i;
		}
		*next = f->proto;
	} else {
		f->l4 = f->l3 + 20 + k->options;
		ip[0] = (uint8_t)(0x45 + k->options / 4);
		memset(ip + 20, 1, k->options); /* no operation */
		frame_set(ip + 4, 0xfffe); /* the identification wraps */
		frame_set(ip + 6, 0x4000); /* do not fragment */
		ip[8] = 64;
		ip[9] = f->proto;
		memcpy(ip + 12, "\x0a\x01\x02\x03\x0a\xff\xfe\x09", 8);
	}
	l4 = buf + f->l4;
	frame_set(l4, 40000);
	frame_set(l4 + 2, 80);
	f->payload = f->l4 + (k->udp ? 8u : 20u + k->tcp_options);
	f->len = f->payload + payload;
	if (k->udp) {
		frame_set(l4 + 4, (uint16_t)(f->len - f->l4));
	} else {
		memset(l4 + 4, 0xff, 3); /* the sequence number wraps */
		l4[12] = (uint8_t)((5 + k->tcp_options / 4) << 4);
		l4[13] = k->tcp_flags;
		memset(l4 + 20, 1, k->tcp_options);
	}
	if (k->ipv6) {
		frame_set(ip + 4, (uint16_t)(f->len - f->l3 - 40));
	} else {
		frame_set(ip + 2, (uint16_t)(f->len - f->l3));
		frame_set(ip + 10, (uint16_t)~frame_sum(0, ip, f->l4 - f->l3));
	}
	for (size_t i = 0; i < payload; i++)
		buf[f->payload + i] = (uint8_t)(i * 7 + (i >> 8));
	frame_set(l4 + (k->udp ? 6 : 16), frame_pseudo(f, f->len - f->l4));
}

#endif
