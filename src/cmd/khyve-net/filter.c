/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/filter.h"

#include <string.h>

#include "cmd/khyve-net/addr.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/macros.h"

#define ETH_LEN 14u
#define TYPE_IP4 0x0800u
#define TYPE_ARP 0x0806u
#define TYPE_IP6 0x86ddu
#define ARP_LEN 28u
#define IP4_LEN 20u
#define IP4_PIECE 0x3fffu /* more fragments, and the offset */
#define IP6_LEN 40u
#define UDP_LEN 8u
#define PORT_DNS 53u
#define PORT_DHCP 67u
#define PORT_TFTP 69u
#define PEER_NS (240 * NS_PER_SEC) /* how long libslirp remembers a datagram socket */

/* TCP, RFC 9293 s3.1 */
#define TCP_LEN 20u
#define TCP_FLAGS 12u /* data offset, flags */
#define TCP_FIN 0x01u
#define TCP_SYN 0x02u
#define TCP_ACK 0x10u
#define TCP_URG 0x20u
#define TCP_SUM 16u
#define TCP_URGENT 18u

/* Where a packet goes, as libslirp will understand it. */
enum target { TARGET_OUTSIDE, TARGET_ROUTER, TARGET_DNS, TARGET_HOST };

struct packet {
	enum target target;
	bool v6;
	uint8_t protocol;
	uint8_t *data;
	size_t len;
};

/* Replaces a 16-bit word that the checksum covers, RFC 1624 s3. */
static void replace(uint8_t *word, uint16_t value, uint8_t *sum)
{
	uint32_t s = (uint16_t)~get_be16(sum);

	s += (uint16_t)~get_be16(word) + (uint32_t)value;
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	put_be16(sum, (uint16_t)~s);
	put_be16(word, value);
}

/* Whether the guest may only answer there. */
static bool is_refused(const struct filter *f, enum target target)
{
	return f->closed || (target == TARGET_ROUTER && !f->host_loopback);
}

/*
 * The urgent pointer is of no use to anybody (RFC 6093) and libslirp trusts it. Without it the same bytes arrive, in
 * their place in the stream. A connection that may not be is made one that libslirp refuses: the guest need not wait.
 */
static bool check_tcp(const struct filter *f, const struct packet *p)
{
	uint16_t flags;
	bool refused;

	if (p->len < TCP_LEN)
		return false;
	flags = get_be16(p->data + TCP_FLAGS);
	if (flags & TCP_URG) {
		flags &= (uint16_t)~TCP_URG;
		replace(p->data + TCP_URGENT, 0, p->data + TCP_SUM);
	}
	refused = is_refused(f, p->target) ||
		  (p->target == TARGET_DNS && get_be16(p->data + 2) != PORT_DNS);
	if (refused && (flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
		flags |= TCP_FIN;
	replace(p->data + TCP_FLAGS, flags, p->data + TCP_SUM);
	return true;
}

static struct filter_peer *peer_of(struct filter *f, bool v6, uint16_t host_port,
				   uint16_t guest_port)
{
	unsigned int hash = host_port * 31u + guest_port * 7u + v6;

	return &f->peers[(hash ^ hash >> 8) % ARRAY_LEN(f->peers)];
}

static bool is_peer(struct filter *f, uint64_t now_ns, const struct packet *p)
{
	uint16_t guest_port = get_be16(p->data), host_port = get_be16(p->data + 2);
	struct filter_peer *peer = peer_of(f, p->v6, host_port, guest_port);

	if (peer->until_ns <= now_ns || peer->v6 != p->v6 || peer->host_port != host_port ||
	    peer->guest_port != guest_port)
		return false;
	peer->until_ns = now_ns + PEER_NS;
	return true;
}

static bool check_udp(struct filter *f, uint64_t now_ns, const struct packet *p)
{
	uint16_t port, len;

	if (p->len < UDP_LEN)
		return false;
	len = get_be16(p->data + 4);
	if (len < UDP_LEN || len > p->len)
		return false;
	port = get_be16(p->data + 2);
	if (p->target == TARGET_DNS && port != PORT_DNS)
		return false;
	if (p->target == TARGET_ROUTER && port == PORT_TFTP)
		return false;
	if (p->target == TARGET_ROUTER && port == PORT_DHCP && !p->v6)
		return true;
	return !is_refused(f, p->target) || is_peer(f, now_ns, p);
}

static bool check_packet(struct filter *f, uint64_t now_ns, const struct packet *p)
{
	if (p->target == TARGET_HOST)
		return false;
	switch (p->protocol) {
	case IPPROTO_TCP:
		return check_tcp(f, p);
	case IPPROTO_UDP:
		return check_udp(f, now_ns, p);
	case IPPROTO_ICMP:
		return !p->v6 && p->len >= 8 && (p->target == TARGET_ROUTER || !f->closed);
	case IPPROTO_ICMPV6:
		return p->v6 && p->len >= 8 && (p->target != TARGET_OUTSIDE || !f->closed);
	default:
		return false;
	}
}

/* 127.0.0.0/8 is this host, and so is 0.0.0.0 for Linux. */
static enum target target4(uint32_t addr)
{
	if (addr >> 24 == 127 || addr >> 24 == 0)
		return TARGET_HOST;
	if (addr == ADDR_DNS4)
		return TARGET_DNS;
	if ((addr & ADDR_MASK4) == ADDR_NET4 || addr == INADDR_BROADCAST)
		return TARGET_ROUTER;
	return TARGET_OUTSIDE;
}

/* :: and ::1 are this host, and so are, in other clothes, its IPv4 addresses. */
static enum target target6(const uint8_t *addr)
{
	static const uint8_t zero[10];

	if (memcmp(addr, zero, sizeof(zero)) == 0)
		return TARGET_HOST;
	if (memcmp(addr, addr_dns6.s6_addr, 16) == 0)
		return TARGET_DNS;
	/* The guest's own prefix, link-local addresses, and groups on the link. */
	if (memcmp(addr, addr_prefix6.s6_addr, 8) == 0 || (addr[0] == 0xfe && addr[1] >> 6 == 2) ||
	    (addr[0] == 0xff && (addr[1] & 15) <= 2))
		return TARGET_ROUTER;
	return TARGET_OUTSIDE;
}

static enum filter_verdict check_ip4(struct filter *f, uint64_t now_ns, uint8_t *p, size_t len)
{
	struct packet packet = { .v6 = false };
	size_t header, total;
	uint32_t src;

	if (len < IP4_LEN || p[0] >> 4 != 4)
		return FILTER_DROP;
	header = (p[0] & 15u) * 4u;
	total = get_be16(p + 2);
	packet.target = target4(get_be32(p + 16));
	if (header < IP4_LEN || total < header || total > len || packet.target == TARGET_HOST)
		return FILTER_DROP;
	src = get_be32(p + 12);
	if ((src & ADDR_MASK4) == ADDR_NET4 && src != ADDR_HOST4 && src != ADDR_DNS4)
		f->guest4.s_addr = htonl(src);
	if (get_be16(p + 6) & IP4_PIECE)
		return FILTER_PIECE;
	packet.protocol = p[9];
	packet.data = p + header;
	packet.len = total - header;
	return check_packet(f, now_ns, &packet) ? FILTER_PASS : FILTER_DROP;
}

static enum filter_verdict check_ip6(struct filter *f, uint64_t now_ns, uint8_t *p, size_t len)
{
	struct packet packet = { .v6 = true };

	if (len < IP6_LEN || p[0] >> 4 != 6)
		return FILTER_DROP;
	packet.target = target6(p + 24);
	packet.protocol = p[6];
	packet.data = p + IP6_LEN;
	packet.len = get_be16(p + 4);
	if (packet.len > len - IP6_LEN)
		return FILTER_DROP;
	if (memcmp(p + 8, addr_prefix6.s6_addr, 8) == 0)
		memcpy(f->guest6.s6_addr, p + 8, sizeof(f->guest6));
	return check_packet(f, now_ns, &packet) ? FILTER_PASS : FILTER_DROP;
}

enum filter_verdict filter_in(struct filter *f, uint64_t now_ns, uint8_t *frame, size_t len)
{
	switch (get_be16(frame + 12)) {
	case TYPE_ARP:
		return len >= ETH_LEN + ARP_LEN ? FILTER_PASS : FILTER_DROP;
	case TYPE_IP4:
		return check_ip4(f, now_ns, frame + ETH_LEN, len - ETH_LEN);
	case TYPE_IP6:
		return check_ip6(f, now_ns, frame + ETH_LEN, len - ETH_LEN);
	default:
		return FILTER_DROP;
	}
}

bool filter_opens(const uint8_t *frame)
{
	const uint8_t *ip = frame + ETH_LEN, *data = ip + IP6_LEN;
	uint8_t protocol = ip[6];

	if (get_be16(frame + 12) == TYPE_ARP)
		return false;
	if (get_be16(frame + 12) == TYPE_IP4) {
		protocol = ip[9];
		data = ip + (ip[0] & 15u) * 4u;
	}
	if (protocol == IPPROTO_TCP)
		return (data[TCP_FLAGS + 1] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	if (protocol == IPPROTO_UDP)
		return get_be16(data + 2) != PORT_DHCP;
	return protocol == IPPROTO_ICMP;
}

static void learn(struct filter *f, uint64_t now_ns, bool v6, const uint8_t *udp)
{
	uint16_t host_port = get_be16(udp), guest_port = get_be16(udp + 2);

	*peer_of(f, v6, host_port, guest_port) = (struct filter_peer){
		.v6 = v6,
		.host_port = host_port,
		.guest_port = guest_port,
		.until_ns = now_ns + PEER_NS,
	};
}

void filter_out(struct filter *f, uint64_t now_ns, const uint8_t *frame, size_t len)
{
	const uint8_t *p = frame + ETH_LEN;

	if (len >= ETH_LEN + IP4_LEN + UDP_LEN && get_be16(frame + 12) == TYPE_IP4) {
		if (p[9] == IPPROTO_UDP && (p[0] & 15) == 5 && !(get_be16(p + 6) & 0x1fff) &&
		    is_refused(f, target4(get_be32(p + 12))))
			learn(f, now_ns, false, p + IP4_LEN);
	} else if (len >= ETH_LEN + IP6_LEN + UDP_LEN && get_be16(frame + 12) == TYPE_IP6) {
		if (p[6] == IPPROTO_UDP && is_refused(f, target6(p + 8)))
			learn(f, now_ns, true, p + IP6_LEN);
	}
}
