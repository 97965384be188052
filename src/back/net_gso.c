/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/net_gso.h"

#include <errno.h>
#include <string.h>

#include "util/bytes.h"
#include "util/canary.h"
#include "util/macros.h"

#define ETHER_IPV4 0x0800u
#define ETHER_IPV6 0x86ddu
#define ETHER_VLAN 0x8100u
#define ETHER_SVLAN 0x88a8u
#define VLANS_MAX 2
#define PROTO_TCP 6u
#define PROTO_UDP 17u
#define IPV4_LEN 20u
#define IPV6_LEN 40u
#define IPV6_EXT_MAX 8
#define TCP_LEN 20u
#define UDP_LEN 8u
#define TCP_CSUM 16u
#define UDP_CSUM 6u
enum tcp_flag { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_CWR = 0x80 };

/* A frame taken apart; offsets from its start. */
struct gso {
	const uint8_t *frame;
	size_t len;
	size_t l3, l4, payload;
	size_t mss; /* payload of each segment but the last */
	bool ipv6, udp;
};

/* --- checksums (RFC 1071): sums of 16-bit words in the host's order, which is as good as the network's --- */

static uint64_t csum_add(uint64_t sum, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint8_t last[2] = { 0 };

	for (; len >= 8; len -= 8, p += 8)
		sum += (uint64_t)get_le32(p) + get_le32(p + 4);
	for (; len >= 2; len -= 2, p += 2)
		sum += get_le16(p);
	if (len) {
		last[0] = *p;
		sum += get_le16(last);
	}
	return sum;
}

static uint16_t csum_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* 0xffff instead of 0, which means "none" to UDP and is the same to TCP. */
static uint16_t csum_l4(uint64_t sum)
{
	uint16_t c = csum_fold(sum);

	return c ? c : 0xffff;
}

/* --- taking apart --- */

bool net_gso_needed(const struct net_hdr *h, unsigned int offloads)
{
	if ((h->flags & NET_HDR_NEEDS_CSUM) && !(offloads & NET_O_CSUM))
		return true;
	if ((h->gso_type & NET_GSO_ECN) && !(offloads & NET_O_ECN))
		return true;
	switch (h->gso_type & ~NET_GSO_ECN) {
	case NET_GSO_TCPV4:
		return !(offloads & NET_O_TSO4);
	case NET_GSO_TCPV6:
		return !(offloads & NET_O_TSO6);
	case NET_GSO_UDP_L4:
		return !(offloads & NET_O_USO);
	default:
		return false;
	}
}

static int parse_ethernet(struct gso *g)
{
	uint16_t type = get_be16(g->frame + 12);

	g->l3 = NET_ETH_LEN;
	for (int i = 0; i < VLANS_MAX && (type == ETHER_VLAN || type == ETHER_SVLAN); i++) {
		if (g->l3 + 4 > g->len)
			return -EINVAL;
		type = get_be16(g->frame + g->l3 + 2);
		g->l3 += 4;
	}
	if (type != ETHER_IPV4 && type != ETHER_IPV6)
		return -EINVAL;
	g->ipv6 = type == ETHER_IPV6;
	return 0;
}

/* RFC 791; a fragment cannot be cut up once more. */
static int parse_ipv4(const struct gso *g, unsigned int proto)
{
	const uint8_t *ip = g->frame + g->l3;

	if (g->l3 + IPV4_LEN > g->l4 || ip[0] >> 4 != 4 || g->l3 + (ip[0] & 15u) * 4 != g->l4)
		return -EINVAL;
	if ((get_be16(ip + 6) & 0x3fff) || ip[9] != proto)
		return -EINVAL;
	return 0;
}

/* RFC 8200: only headers that each fragment may carry as they are, up to the place where the guest says TCP begins. */
static int parse_ipv6(const struct gso *g, unsigned int proto)
{
	const uint8_t *ip = g->frame + g->l3;
	size_t at = g->l3 + IPV6_LEN;
	uint8_t next;

	if (at > g->l4 || ip[0] >> 4 != 6)
		return -EINVAL;
	next = ip[6];
	for (int i = 0; i < IPV6_EXT_MAX && at < g->l4; i++) {
		if (next != 0 && next != 43 && next != 60) /* hop-by-hop, routing, destination */
			return -EINVAL;
		if (at + 8 > g->l4)
			return -EINVAL;
		if (next == 43 && g->frame[at + 3]) /* segments left: not the last address */
			return -EINVAL;
		next = g->frame[at];
		at += 8 + g->frame[at + 1] * 8u;
	}
	return at == g->l4 && next == proto ? 0 : -EINVAL;
}

static int parse_l4(struct gso *g, const struct net_hdr *h)
{
	size_t len = UDP_LEN;

	if (h->csum_offset != (g->udp ? UDP_CSUM : TCP_CSUM))
		return -EINVAL;
	if (!g->udp) {
		if (g->l4 + TCP_LEN > g->len)
			return -EINVAL;
		len = (g->frame[g->l4 + 12] >> 4) * 4u;
		if (len < TCP_LEN)
			return -EINVAL;
	}
	g->payload = g->l4 + len;
	if (g->payload > g->len && !CANARY)
		return -EINVAL;
	return g->payload > NET_GSO_HEADERS_MAX ? -EINVAL : 0;
}

static int gso_parse(struct gso *g, const struct net_hdr *h)
{
	unsigned int proto, type = h->gso_type & ~NET_GSO_ECN;
	int rc = parse_ethernet(g);
	size_t rest;

	g->l4 = h->csum_start;
	g->udp = type == NET_GSO_UDP_L4;
	g->mss = h->gso_size;
	proto = g->udp ? PROTO_UDP : PROTO_TCP;
	if (rc < 0 || (type == NET_GSO_TCPV4 && g->ipv6) || (type == NET_GSO_TCPV6 && !g->ipv6))
		return -EINVAL;
	rc = g->ipv6 ? parse_ipv6(g, proto) : parse_ipv4(g, proto);
	if (rc == 0)
		rc = parse_l4(g, h);
	if (rc < 0)
		return rc;
	rest = g->len - g->payload;
	if ((rest + g->mss - 1) / g->mss > NET_GSO_SEGS_MAX)
		return -EINVAL;
	/* The length field of IP has 16 bits. */
	return g->payload - g->l3 + MIN(g->mss, rest) > UINT16_MAX ? -EINVAL : 0;
}

/* --- putting together --- */

static void finish_ip(const struct gso *g, uint8_t *headers, size_t payload, unsigned int index)
{
	uint8_t *ip = headers + g->l3;
	size_t total = g->payload - g->l3 + payload;

	if (g->ipv6) {
		put_be16(ip + 4, (uint16_t)(total - IPV6_LEN));
		return;
	}
	put_be16(ip + 2, (uint16_t)total);
	put_be16(ip + 4, (uint16_t)(get_be16(ip + 4) + index));
	put_le16(ip + 10, 0);
	put_le16(ip + 10, csum_fold(csum_add(0, ip, g->l4 - g->l3)));
}

/* The pseudo header of RFC 9293 s3.1 and RFC 8200 s8.1, the header and the payload. */
static uint16_t l4_csum(const struct gso *g, const uint8_t *headers, const uint8_t *payload,
			size_t len)
{
	const uint8_t *ip = headers + g->l3;
	size_t head = g->payload - g->l4;
	uint8_t tail[8] = { 0 };
	uint64_t sum;

	put_be32(tail, (uint32_t)(head + len));
	tail[7] = g->udp ? PROTO_UDP : PROTO_TCP;
	sum = csum_add(0, tail, sizeof(tail));
	sum = g->ipv6 ? csum_add(sum, ip + 8, 32) : csum_add(sum, ip + 12, 8);
	sum = csum_add(sum, headers + g->l4, head);
	return csum_l4(csum_add(sum, payload, len));
}

static void make_segment(const struct gso *g, uint8_t *headers, size_t offset, size_t len)
{
	uint8_t *l4 = headers + g->l4;
	bool last = g->payload + offset + len == g->len;

	memcpy(headers, g->frame, g->payload);
	finish_ip(g, headers, len, (unsigned int)(offset / g->mss));
	if (g->udp) {
		put_be16(l4 + 4, (uint16_t)(UDP_LEN + len));
	} else {
		put_be32(l4 + 4, get_be32(l4 + 4) + (uint32_t)offset);
		if (!last)
			l4[13] &= (uint8_t) ~(TCP_FIN | TCP_PSH);
		if (offset)
			l4[13] &= (uint8_t)~TCP_CWR;
	}
	put_le16(l4 + (g->udp ? UDP_CSUM : TCP_CSUM), 0);
	put_le16(l4 + (g->udp ? UDP_CSUM : TCP_CSUM),
		 l4_csum(g, headers, g->frame + g->payload + offset, len));
}

/* The guest has put the sum of the pseudo header where the checksum goes (virtio 1.2 s5.1.6.2). */
static void complete_csum(const struct net_hdr *h, uint8_t *frame, size_t len)
{
	uint64_t sum = csum_add(0, frame + h->csum_start, len - h->csum_start);

	put_le16(frame + h->csum_start + h->csum_offset, csum_l4(sum));
}

int net_gso_split(const struct net_hdr *h, uint8_t *frame, size_t len,
		  void (*emit)(void *arg, struct iovec iov[2]), void *arg)
{
	struct gso g = { .frame = frame, .len = len };
	uint8_t headers[NET_GSO_HEADERS_MAX];
	size_t offset = 0, n;
	struct iovec iov[2];
	int rc;

	if (h->gso_type == NET_GSO_NONE) {
		if (h->flags & NET_HDR_NEEDS_CSUM)
			complete_csum(h, frame, len);
		iov[0] = (struct iovec){ frame, len };
		iov[1] = (struct iovec){ frame, 0 };
		emit(arg, iov);
		return 0;
	}
	rc = gso_parse(&g, h);
	if (rc < 0)
		return rc;
	do {
		n = MIN(g.mss, len - g.payload - offset);
		make_segment(&g, headers, offset, n);
		iov[0] = (struct iovec){ headers, g.payload };
		iov[1] = (struct iovec){ frame + g.payload + offset, n };
		emit(arg, iov);
		offset += n;
	} while (offset < len - g.payload);
	return 0;
}
