/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

#include "cmd/khyve-net/filter.h"
#include "cmd/khyve-net/forward.h"
#include "cmd/khyve-net/frag.h"
#include "cmd/khyve-net/ring.h"
#include "run.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/macros.h"

#define ETH 14u
#define NOW (100 * NS_PER_SEC)

/* --- frames --- */

static uint16_t sum_of(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += get_be16(p + i);
	if (len % 2)
		sum += (uint32_t)p[len - 1] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* The checksum of TCP or UDP, which is 0 over a sound packet. */
static uint16_t payload_sum(const uint8_t *frame)
{
	const uint8_t *ip = frame + ETH, *start;
	size_t len, head;
	uint32_t sum = 0;

	if (get_be16(frame + 12) == 0x0800) {
		head = (ip[0] & 15u) * 4u;
		len = get_be16(ip + 2) - head;
		sum = ip[9];
		start = ip + 12;
	} else {
		head = 40;
		len = get_be16(ip + 4);
		sum = ip[6];
		start = ip + 8;
	}
	sum += (uint32_t)len;
	for (const uint8_t *p = start; p < ip + (start == ip + 12 ? 20 : 40); p += 2)
		sum += get_be16(p);
	return sum_of(ip + head, len, sum);
}

/* A frame from the guest: 10.0.2.15, or fd00::1234. Its data is the caller's. Returns the length. */
static size_t make(uint8_t *frame, const char *dst, uint8_t protocol, size_t data_len)
{
	uint8_t *ip = frame + ETH;

	memset(frame, 0, ETH + 40);
	if (strchr(dst, ':')) {
		put_be16(frame + 12, 0x86dd);
		ip[0] = 0x60;
		put_be16(ip + 4, (uint16_t)data_len);
		ip[6] = protocol;
		ip[7] = 64;
		inet_pton(AF_INET6, "fd00::1234", ip + 8);
		CHECK_EQ(inet_pton(AF_INET6, dst, ip + 24), 1);
		return ETH + 40 + data_len;
	}
	put_be16(frame + 12, 0x0800);
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)(20 + data_len));
	ip[8] = 64;
	ip[9] = protocol;
	inet_pton(AF_INET, "10.0.2.15", ip + 12);
	CHECK_EQ(inet_pton(AF_INET, dst, ip + 16), 1);
	put_be16(ip + 10, sum_of(ip, 20, 0));
	return ETH + 20 + data_len;
}

static uint8_t *data_of(uint8_t *frame)
{
	return frame + ETH + (get_be16(frame + 12) == 0x86dd ? 40 : (frame[ETH] & 15) * 4);
}

static enum filter_verdict judge_udp(struct filter *f, const char *dst, uint16_t sport,
				     uint16_t dport)
{
	uint8_t frame[200] = { 0 };
	size_t len = make(frame, dst, IPPROTO_UDP, 20);

	put_be16(data_of(frame), sport);
	put_be16(data_of(frame) + 2, dport);
	put_be16(data_of(frame) + 4, 20);
	return filter_in(f, NOW, frame, len);
}

/* Returns the flags that are left. */
static uint16_t judge_tcp_port(struct filter *f, const char *dst, uint16_t port, uint16_t flags,
			       uint16_t urgent)
{
	uint8_t frame[200] = { 0 }, *tcp;
	size_t len = make(frame, dst, IPPROTO_TCP, 27);

	tcp = data_of(frame);
	for (int i = 0; i < 27; i++)
		tcp[i] = (uint8_t)(i * 37);
	put_be16(tcp + 2, port);
	put_be16(tcp + 12, (uint16_t)(0x5000 | flags));
	put_be16(tcp + 16, 0);
	put_be16(tcp + 18, urgent);
	put_be16(tcp + 16, payload_sum(frame));
	CHECK_EQ(payload_sum(frame), 0);
	CHECK_EQ(filter_in(f, NOW, frame, len), FILTER_PASS);
	CHECK_EQ(payload_sum(frame), 0);
	CHECK_EQ(get_be16(tcp + 18), flags & 0x20 ? 0 : urgent);
	return get_be16(tcp + 12) & 0xfff;
}

static uint16_t judge_tcp(struct filter *f, const char *dst, uint16_t flags, uint16_t urgent)
{
	return judge_tcp_port(f, dst, 19055, flags, urgent);
}

/* --- the filter --- */

static void test_filter_types(void)
{
	static const struct {
		uint16_t type;
		size_t len;
		enum filter_verdict want;
	} cases[] = {
		{ 0x0806, 41, FILTER_DROP }, { 0x0806, 42, FILTER_PASS },
		{ 0x0806, 60, FILTER_PASS }, { 0x0800, 14, FILTER_DROP },
		{ 0x86dd, 14, FILTER_DROP }, { 0x88f8, 60, FILTER_DROP },
		{ 0x8100, 60, FILTER_DROP }, { 0, 60, FILTER_DROP },
	};
	struct filter f = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t frame[60] = { 0 };

		put_be16(frame + 12, cases[i].type);
		CHECK_EQ(filter_in(&f, NOW, frame, cases[i].len), cases[i].want);
	}
}

static void test_filter_lengths(void)
{
	struct filter f = { 0 };
	uint8_t frame[200];
	size_t len = make(frame, "192.0.2.1", IPPROTO_ICMP, 8);

	for (size_t cut = ETH; cut < len; cut++)
		CHECK_EQ(filter_in(&f, NOW, frame, cut), FILTER_DROP);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_PASS);
	CHECK_EQ(filter_in(&f, NOW, frame, len + 20), FILTER_PASS); /* padding */
	for (unsigned int first = 0; first < 256; first++) {
		frame[ETH] = (uint8_t)first;
		CHECK_EQ(filter_in(&f, NOW, frame, len), first == 0x45 ? FILTER_PASS : FILTER_DROP);
	}
	make(frame, "192.0.2.1", IPPROTO_ICMP, 8);
	put_be16(frame + ETH + 2, 19);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
	len = make(frame, "2001:db8::1", IPPROTO_ICMPV6, 8);
	for (size_t cut = ETH; cut < len; cut++)
		CHECK_EQ(filter_in(&f, NOW, frame, cut), FILTER_DROP);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_PASS);
	frame[ETH] = 0x45;
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
	/* UDP has a length of its own. */
	for (unsigned int i = 0; i < 2 * 65536; i++) {
		bool ok = i / 2 >= 8 && i / 2 <= 20;

		len = make(frame, i % 2 ? "2001:db8::1" : "192.0.2.1", IPPROTO_UDP, 20);
		put_be16(data_of(frame) + 4, (uint16_t)(i / 2));
		CHECK_EQ(filter_in(&f, NOW, frame, len), ok ? FILTER_PASS : FILTER_DROP);
	}
}

static void test_filter_protocols(void)
{
	struct filter f = { 0 };
	uint8_t frame[200];

	for (unsigned int protocol = 0; protocol < 256; protocol++) {
		bool ok = protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
		size_t len = make(frame, "192.0.2.1", (uint8_t)protocol, 20);

		memset(data_of(frame), 0, 20);
		put_be16(data_of(frame) + 4, 20);
		CHECK_EQ(filter_in(&f, NOW, frame, len),
			 ok || protocol == IPPROTO_ICMP ? FILTER_PASS : FILTER_DROP);
		len = make(frame, "2001:db8::1", (uint8_t)protocol, 20);
		put_be16(data_of(frame) + 4, 20);
		CHECK_EQ(filter_in(&f, NOW, frame, len),
			 ok || protocol == IPPROTO_ICMPV6 ? FILTER_PASS : FILTER_DROP);
	}
}

/* Every way to say "this host" is closed, with and without its loopback for the guest. */
static void test_filter_host(void)
{
	static const char *const hosts[] = {
		"127.0.0.1", "127.255.255.255",	 "0.0.0.0",	"0.1.2.3",	   "::",
		"::1",	     "::ffff:127.0.0.1", "::127.0.0.1", "::ffff:192.0.2.1"
	};
	struct filter f = { 0 };

	for (size_t i = 0; i < 2 * ARRAY_LEN(hosts); i++) {
		uint8_t frame[200] = { 0 };
		const char *dst = hosts[i / 2];
		size_t len;

		f.host_loopback = i % 2;
		CHECK_EQ(judge_udp(&f, dst, 1000, 2000), FILTER_DROP);
		len = make(frame, dst, IPPROTO_TCP, 20);
		CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
		len = make(frame, dst, strchr(dst, ':') ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 20);
		CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
		/* The second piece of a packet, which has no header to look at. */
		len = make(frame, dst, IPPROTO_UDP, 20);
		put_be16(frame + ETH + 6, 100);
		CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
	}
}

static void test_filter_router(void)
{
	static const char *const routers[] = { "10.0.2.2", "10.0.2.255", "255.255.255.255",
					       "fd00::2",  "fd00::9999", "fe80::2",
					       "ff02::1",  "ff01::1" };
	struct filter f = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(routers); i++) {
		bool v6 = strchr(routers[i], ':');

		CHECK_EQ(judge_udp(&f, routers[i], 1000, 2000), FILTER_DROP);
		CHECK_EQ(judge_udp(&f, routers[i], 68, 67), v6 ? FILTER_DROP : FILTER_PASS);
		/* A new connection becomes one that is refused; answers to one from outside do not. */
		CHECK_EQ(judge_tcp(&f, routers[i], 0x02, 0), 0x03);
		CHECK_EQ(judge_tcp(&f, routers[i], 0x12, 0), 0x12);
		CHECK_EQ(judge_tcp(&f, routers[i], 0x18, 0), 0x18);
		f.host_loopback = true;
		CHECK_EQ(judge_udp(&f, routers[i], 1000, 2000), FILTER_PASS);
		CHECK_EQ(judge_udp(&f, routers[i], 1000, 69), FILTER_DROP);
		CHECK_EQ(judge_tcp(&f, routers[i], 0x02, 0), 0x02);
		f.host_loopback = false;
	}
	CHECK_EQ(judge_udp(&f, "10.0.2.3", 1000, 53), FILTER_PASS);
	CHECK_EQ(judge_udp(&f, "10.0.2.3", 1000, 54), FILTER_DROP);
	CHECK_EQ(judge_udp(&f, "fd00::3", 1000, 53), FILTER_PASS);
	/* What listens on the host's resolver besides is not the guest's, its loopback or not. */
	for (int i = 0; i < 4; i++) {
		const char *dns = i % 2 ? "fd00::3" : "10.0.2.3";

		f.host_loopback = i / 2;
		CHECK_EQ(judge_tcp_port(&f, dns, 53, 0x02, 0), 0x02);
		CHECK_EQ(judge_tcp_port(&f, dns, 54, 0x02, 0), 0x03);
		CHECK_EQ(judge_tcp_port(&f, dns, 53 + 256, 0x02, 0), 0x03);
	}
	f.host_loopback = false;
	CHECK_EQ(judge_udp(&f, "192.0.2.1", 1000, 69), FILTER_PASS);
	CHECK_EQ(judge_tcp(&f, "192.0.2.1", 0x02, 0), 0x02);
}

/* With -r the guest opens nothing, by whatever protocol. What it needs to have an address stays. */
static void test_filter_closed(void)
{
	static const char *const outside[] = { "192.0.2.1", "2001:db8::1" };
	struct filter f = { .closed = true };
	uint8_t frame[200];
	size_t len;

	for (size_t i = 0; i < ARRAY_LEN(outside); i++) {
		CHECK_EQ(judge_udp(&f, outside[i], 1000, 53), FILTER_DROP);
		CHECK_EQ(judge_tcp(&f, outside[i], 0x02, 0), 0x03);
		CHECK_EQ(judge_tcp(&f, outside[i], 0x12, 0), 0x12);
		len = make(frame, outside[i], i ? IPPROTO_ICMPV6 : IPPROTO_ICMP, 8);
		CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_DROP);
	}
	CHECK_EQ(judge_udp(&f, "10.0.2.3", 1000, 53), FILTER_DROP);
	CHECK_EQ(judge_tcp(&f, "10.0.2.2", 0x02, 0), 0x03);
	CHECK_EQ(judge_udp(&f, "10.0.2.2", 68, 67), FILTER_PASS);
	CHECK_EQ(judge_udp(&f, "255.255.255.255", 68, 67), FILTER_PASS);
	len = make(frame, "10.0.2.2", IPPROTO_ICMP, 8);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_PASS);
	len = make(frame, "ff02::2", IPPROTO_ICMPV6, 8);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_PASS);
	len = make(frame, "fd00::3", IPPROTO_ICMPV6, 8);
	CHECK_EQ(filter_in(&f, NOW, frame, len), FILTER_PASS);
}

/* Who sent something through a forward gets answers, for a while, at the port that he sent from. */
static void test_filter_peers(void)
{
	static const char *const routers[] = { "10.0.2.2", "fd00::2" };

	for (size_t i = 0; i < ARRAY_LEN(routers); i++) {
		struct filter f = { 0 };
		uint8_t frame[200] = { 0 };
		size_t len = make(frame, i ? "fd00::1234" : "10.0.2.15", IPPROTO_UDP, 20);

		inet_pton(i ? AF_INET6 : AF_INET, routers[i], frame + ETH + (i ? 8 : 12));
		put_be16(data_of(frame), 4000);
		put_be16(data_of(frame) + 2, 53);
		filter_out(&f, NOW - 100 * NS_PER_SEC, frame, len);
		CHECK_EQ(judge_udp(&f, routers[i], 53, 4000), FILTER_PASS);
		CHECK_EQ(judge_udp(&f, routers[i], 53, 4001), FILTER_DROP);
		CHECK_EQ(judge_udp(&f, routers[i], 54, 4000), FILTER_DROP);
		CHECK_EQ(judge_udp(&f, routers[1 - i], 53, 4000), FILTER_DROP);
		f = (struct filter){ 0 };
		filter_out(&f, NOW - 241 * NS_PER_SEC, frame, len);
		CHECK_EQ(judge_udp(&f, routers[i], 53, 4000), FILTER_DROP);
		/* One from outside needs no leave. */
		inet_pton(AF_INET, "192.0.2.1", frame + ETH + 12);
		f = (struct filter){ 0 };
		if (!i)
			filter_out(&f, NOW, frame, len);
		CHECK_EQ(judge_udp(&f, routers[i], 53, 4000), FILTER_DROP);
	}
}

static void test_filter_urgent(void)
{
	struct filter f = { 0 };

	CHECK_EQ(judge_tcp(&f, "192.0.2.1", 0x38, 5), 0x18);
	CHECK_EQ(judge_tcp(&f, "192.0.2.1", 0x20, 65535), 0);
	CHECK_EQ(judge_tcp(&f, "192.0.2.1", 0x22, 0), 0x02);
	CHECK_EQ(judge_tcp(&f, "192.0.2.1", 0x18, 99), 0x18);
	CHECK_EQ(judge_tcp(&f, "2001:db8::1", 0x38, 65535), 0x18);
}

static void test_filter_guest(void)
{
	struct filter f = { 0 };
	char text[INET6_ADDRSTRLEN];

	judge_udp(&f, "192.0.2.1", 1, 2);
	CHECK_STR(inet_ntop(AF_INET, &f.guest4, text, sizeof(text)), "10.0.2.15");
	judge_udp(&f, "2001:db8::1", 1, 2);
	CHECK_STR(inet_ntop(AF_INET6, &f.guest6, text, sizeof(text)), "fd00::1234");
}

/* --- pieces --- */

/* A piece of 10.0.2.15 -> 192.0.2.1; its data is numbered. offset and len in bytes. */
static size_t make_piece(uint8_t *frame, uint16_t id, size_t offset, size_t len, bool more)
{
	size_t n = make(frame, "192.0.2.1", IPPROTO_UDP, len);

	put_be16(frame + ETH + 4, id);
	put_be16(frame + ETH + 6, (uint16_t)(offset / 8 | (more ? 0x2000 : 0)));
	for (size_t i = 0; i < len; i++)
		frame[ETH + 20 + i] = (uint8_t)((offset + i) * 7 + id);
	return n;
}

static uint8_t *add_piece(struct frag *f, uint64_t now, uint16_t id, size_t offset, size_t len,
			  bool more)
{
	static uint8_t frame[70000];
	size_t n = make_piece(frame, id, offset, len, more);
	uint8_t *whole;
	size_t data;

	whole = frag_add(f, now, frame, &n);
	if (!whole)
		return NULL;
	data = n - ETH - 20;
	CHECK_EQ(get_be16(whole + ETH + 2), 20 + data);
	CHECK_EQ(get_be16(whole + ETH + 6), 0);
	CHECK_EQ(sum_of(whole + ETH, 20, 0), 0);
	for (size_t i = 0; i < data; i++)
		CHECK_EQ(whole[ETH + 20 + i], (uint8_t)(i * 7 + id));
	return whole;
}

static void test_frag_orders(void)
{
	struct frag *f = calloc(1, sizeof(*f));
	static const size_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 2, 0 }, { 2, 0, 1 } };

	for (uint16_t o = 0; o < ARRAY_LEN(orders); o++) {
		for (int k = 0; k < 3; k++) {
			size_t i = orders[o][k];
			uint8_t *whole = add_piece(f, NOW, o, i * 1480, i == 2 ? 33 : 1480, i != 2);

			CHECK_EQ(whole != NULL, k == 2);
		}
	}
	free(f);
}

static void test_frag_largest(void)
{
	struct frag *f = calloc(1, sizeof(*f));
	size_t last = (65535 - 60) / 8 * 8;

	for (size_t at = 0; at < last; at += 8)
		CHECK(!add_piece(f, NOW, 1, at, 8, true));
	CHECK(add_piece(f, NOW, 1, last, 65535 - 60 - last, false));
	CHECK(!add_piece(f, NOW, 2, 0, 8, true));
	CHECK(!add_piece(f, NOW, 2, last, 65535 - 60 - last + 1, false));
	CHECK(!add_piece(f, NOW, 3, 8191 * 8, 1480, true));
	free(f);
}

static void test_frag_bad(void)
{
	struct frag *f = calloc(1, sizeof(*f));

	/* Twice the same, overlapping, an odd length in the middle, behind the end, empty, two ends. */
	CHECK(!add_piece(f, NOW, 1, 0, 16, true) && !add_piece(f, NOW, 1, 0, 16, true));
	CHECK(!add_piece(f, NOW, 1, 16, 8, false));
	CHECK(!add_piece(f, NOW, 2, 0, 16, true) && !add_piece(f, NOW, 2, 8, 16, true));
	CHECK(!add_piece(f, NOW, 2, 16, 8, false));
	CHECK(!add_piece(f, NOW, 3, 0, 17, true) && !add_piece(f, NOW, 3, 16, 8, false));
	CHECK(!add_piece(f, NOW, 4, 32, 8, true) && !add_piece(f, NOW, 4, 0, 8, true));
	CHECK(!add_piece(f, NOW, 4, 8, 8, false) && !add_piece(f, NOW, 4, 16, 8, true));
	CHECK(!add_piece(f, NOW, 5, 8, 0, false) && !add_piece(f, NOW, 5, 0, 8, true));
	CHECK(!add_piece(f, NOW, 6, 16, 8, false) && !add_piece(f, NOW, 6, 8, 8, false));
	CHECK(!add_piece(f, NOW, 6, 0, 8, true) && !add_piece(f, NOW, 6, 8, 8, true));
	/* The same number of bytes, with a hole. */
	CHECK(!add_piece(f, NOW, 7, 24, 8, true) && !add_piece(f, NOW, 7, 0, 8, true));
	CHECK(!add_piece(f, NOW, 7, 16, 8, false));
	free(f);
}

static void test_frag_many(void)
{
	struct frag *f = calloc(1, sizeof(*f));

	for (uint16_t id = 0; id < 1000; id++)
		CHECK(!add_piece(f, NOW + id, id, 0, 8, true));
	CHECK(add_piece(f, NOW + 1000, 999, 8, 8, false));
	CHECK(add_piece(f, NOW + 1000, 985, 8, 8, false));
	CHECK(!add_piece(f, NOW + 1000, 900, 8, 8, false));
	CHECK(!add_piece(f, NOW + 40 * NS_PER_SEC, 990, 8, 8, false)); /* too late */
	free(f);
}

/* --- the ring --- */

static void test_ring(void)
{
	struct ring r;
	uint8_t frame[5000];
	size_t in = 0, out = 0, len;
	unsigned int seed = 1;

	CHECK_EQ(ring_init(&r, 16384), 0);
	CHECK(!ring_peek(&r, &len));
	ring_drop(&r);
	while (out < 20000) {
		const uint8_t *p;

		seed = seed * 1103515245 + 12345;
		if (seed >> 31) {
			len = 1 + (in * 7919) % sizeof(frame);
			memset(frame, (int)in, len);
			in += ring_put(&r, frame, len);
			continue;
		}
		p = ring_peek(&r, &len);
		CHECK_EQ(p != NULL, in > out);
		if (!p)
			continue;
		CHECK_EQ(len, 1 + (out * 7919) % sizeof(frame));
		for (size_t i = 0; i < len; i++)
			CHECK_EQ(p[i], (uint8_t)out);
		ring_drop(&r);
		out++;
	}
	ring_clear(&r);
	CHECK(!ring_peek(&r, &len));
	CHECK(!ring_put(&r, frame, 16384));
	ring_fini(&r);
}

/* --- forwards --- */

static void test_forward_good(void)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ "tcp 8080 80", "tcp 127.0.0.1:8080 80" },
		{ "  udp\t:53  53 ", "udp 127.0.0.1:53 53" },
		{ "tcp 0.0.0.0:1 65535", "tcp 0.0.0.0:1 65535" },
		{ "tcp 192.0.2.1:8080 10.0.2.20:80", "tcp 192.0.2.1:8080 10.0.2.20:80" },
		{ "tcp [::]:8080 80", "tcp [::]:8080 80" },
		{ "udp [::1]:8080 [fd00::15]:80", "udp [::1]:8080 [fd00::15]:80" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct forward f, again;
		struct err err = { "" };
		char text[FORWARD_TEXT_MAX];

		CHECK_EQ(forward_parse(cases[i].text, &f, &err), 0);
		forward_format(&f, text, sizeof(text));
		CHECK_STR(text, cases[i].want);
		CHECK_EQ(forward_parse(text, &again, &err), 0);
		CHECK(memcmp(&f, &again, sizeof(f)) == 0);
		*strrchr(text, ' ') = '\0';
		CHECK_EQ(forward_parse_host(text, &again, &err), 0);
		CHECK(forward_same_host(&f, &again));
	}
}

static void test_forward_bad(void)
{
	static const char *const cases[] = {
		"",
		"tcp",
		"tcp 80",
		"icmp 80 80",
		"tcp 0 80",
		"tcp 80 0",
		"tcp 65536 80",
		"tcp 80 80 80",
		"tcp -1 80",
		"tcp host:80 80",
		"tcp 1.2.3.4 80",
		"tcp [::1] 80",
		"tcp [::1:80 80",
		"tcp ::1:80 80",
		"tcp [1.2.3.4]:80 80",
		"tcp [::1]:80 10.0.2.15:80",
		"tcp 80 [fd00::15]:80",
		"tcp 80 10.0.2.2:80",
		"tcp 80 10.0.2.3:80",
		"tcp 80 127.0.0.1:80",
		"tcp [::1]:80 [::1]:80",
		"tcp 80 0.0.0.0:80",
		"tcp 8080 80\n",
		"tcp 127.0.0.1:80000000000000000000000000000000000000000000000000000000000000 80",
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct forward f;
		struct err err = { "" };

		CHECK_EQ(forward_parse(cases[i], &f, &err), -EINVAL);
		CHECK(err.text[0]);
	}
}

static const struct test_case cases[] = {
	{ "filter: types", test_filter_types },
	{ "filter: lengths", test_filter_lengths },
	{ "filter: protocols", test_filter_protocols },
	{ "filter: the host itself", test_filter_host },
	{ "filter: the router", test_filter_router },
	{ "filter: closed", test_filter_closed },
	{ "filter: answers through a forward", test_filter_peers },
	{ "filter: urgent data", test_filter_urgent },
	{ "filter: the guest's addresses", test_filter_guest },
	{ "pieces: any order", test_frag_orders },
	{ "pieces: the largest packet", test_frag_largest },
	{ "pieces: bad ones", test_frag_bad },
	{ "pieces: many", test_frag_many },
	{ "ring", test_ring },
	{ "forward: good", test_forward_good },
	{ "forward: bad", test_forward_bad },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
