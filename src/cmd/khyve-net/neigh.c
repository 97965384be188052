/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/neigh.h"

#include <netinet/in.h>
#include <string.h>

#include "cmd/khyve-net/addr.h"
#include "util/bytes.h"

#define ETH_LEN 14u
#define IP6_LEN 40u
#define TYPE_IP4 0x0800
#define TYPE_ARP 0x0806
#define TYPE_IP6 0x86dd
#define ARP_LEN 28u
#define ADVERT_LEN 32u
#define ADVERT_TYPE 136
#define OPTION_TARGET_MAC 2

static uint32_t add_words(uint32_t sum, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i += 2)
		sum += get_be16(p + i);
	return sum;
}

static size_t make_reply(const uint8_t *frame, uint8_t *arp)
{
	static const uint8_t head[8] = { 0, 1, TYPE_IP4 >> 8, 0, 6, 4, 0, 2 };

	memcpy(arp, head, sizeof(head));
	memcpy(arp + 8, frame + 6, 6);
	memcpy(arp + 14, frame + ETH_LEN + 12, 4);
	memcpy(arp + 18, frame, 6);
	put_be32(arp + 24, ADDR_HOST4);
	return ETH_LEN + ARP_LEN;
}

static size_t make_advert(const uint8_t *frame, uint8_t *ip)
{
	uint8_t *a = ip + IP6_LEN;
	uint32_t sum = ADVERT_LEN + IPPROTO_ICMPV6;

	ip[0] = 0x60;
	put_be16(ip + 4, ADVERT_LEN);
	ip[6] = IPPROTO_ICMPV6;
	ip[7] = 255;
	memcpy(ip + 8, frame + ETH_LEN + 8, 16);
	memcpy(ip + 24, &addr_host6, 16);
	a[0] = ADVERT_TYPE;
	memcpy(a + 8, ip + 8, 16);
	a[24] = OPTION_TARGET_MAC;
	a[25] = 1;
	memcpy(a + 26, frame + 6, 6);
	sum = add_words(add_words(sum, ip + 8, 32), a, ADVERT_LEN);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put_be16(a + 2, (uint16_t)~sum);
	return ETH_LEN + IP6_LEN + ADVERT_LEN;
}

size_t neigh_introduce(const uint8_t *frame, uint8_t out[NEIGH_FRAME_MAX])
{
	uint16_t type = get_be16(frame + 12);

	memset(out, 0, NEIGH_FRAME_MAX);
	memcpy(out, frame, 12);
	put_be16(out + 12, type == TYPE_IP4 ? TYPE_ARP : type);
	if (type == TYPE_IP4)
		return make_reply(frame, out + ETH_LEN);
	return type == TYPE_IP6 ? make_advert(frame, out + ETH_LEN) : 0;
}
