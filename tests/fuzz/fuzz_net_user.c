/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/khyve-net/forward.h"
#include "cmd/khyve-net/gate.h"
#include "cmd/khyve-net/nat.h"
#include "fuzz/fuzz.h"
#include "loop/loop.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

/*
 * Frames from the guest into khyve-net, libslirp included, and bytes from the outside. The calls by which libslirp
 * makes sockets are replaced below: each socket is one end of a pair, and no byte leaves the process.
 */

#define OUTSIDES 64
#define ETH 14u

/* What the replaced calls know. There is one process and one thread. */
static struct outside {
	int fds[OUTSIDES]; /* the other ends; -1: none */
	unsigned int count;
	unsigned int connects, accepts;
	uint8_t connect_result;
} outside;

struct fuzz {
	struct fz in;
	struct loop *loop;
	struct gate *gate;
	uint64_t sent;
	uint32_t seq, ack; /* of the last TCP segment that the guest got */
	uint16_t sport, dport;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* --- the outside --- */

int socket(int domain, int type, int protocol)
{
	int pair[2];

	(void)protocol;
	if (domain != AF_INET && domain != AF_INET6) {
		errno = EAFNOSUPPORT;
		return -1;
	}
	if ((type & 0xf) == SOCK_RAW || outside.count == OUTSIDES) {
		errno = EACCES;
		return -1;
	}
	if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -1;
	outside.fds[outside.count++] = pair[1];
	return pair[0];
}

int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	static const int results[] = { EINPROGRESS, ECONNREFUSED, ENETUNREACH, EACCES };

	(void)fd;
	assert(len >= sizeof(addr->sa_family));
	outside.connects++;
	if (outside.connect_result % 8 < 4)
		return 0;
	errno = results[outside.connect_result % 4];
	return -1;
}

int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	(void)fd;
	assert(addr->sa_family == AF_INET || addr->sa_family == AF_INET6);
	assert(len <= sizeof(struct sockaddr_storage));
	return 0;
}

int listen(int fd, int backlog)
{
	(void)fd;
	(void)backlog;
	return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	(void)fd;
	(void)level;
	(void)name;
	(void)value;
	(void)len;
	return 0;
}

static void put_addr(struct sockaddr *out, socklen_t *len)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(7777) };

	addr.sin_addr.s_addr = htonl(outside.accepts % 2 ? 0x7f000001 : 0xc0000201);
	memcpy(out, &addr, MIN(*len, sizeof(addr)));
	*len = sizeof(addr);
}

int getsockname(int fd, struct sockaddr *out, socklen_t *len)
{
	(void)fd;
	put_addr(out, len);
	return 0;
}

int accept(int fd, struct sockaddr *out, socklen_t *len)
{
	char byte;

	/* Somebody knocked: fuzz_outside wrote a byte to the pair of the socket that listens. */
	if (read(fd, &byte, 1) != 1) {
		errno = EAGAIN;
		return -1;
	}
	outside.accepts++;
	put_addr(out, len);
	return socket(AF_INET, SOCK_STREAM, 0);
}

ssize_t sendto(int fd, const void *data, size_t len, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	(void)fd;
	(void)data;
	(void)flags;
	(void)to_len;
	assert(to);
	/* Never this host, in no disguise; the resolver is libslirp's own choice. */
	if (to->sa_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)to;

		assert(ntohl(v4->sin_addr.s_addr) >> 24 != 0);
	}
	return (ssize_t)len;
}

ssize_t recvfrom(int fd, void *buf, size_t len, int flags, struct sockaddr *from, socklen_t *size)
{
	struct iovec iov = { buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (from)
		put_addr(from, size);
	return recvmsg(fd, &msg, flags);
}

/* --- the guest --- */

static void on_send(void *arg, const void *frame, size_t len)
{
	struct fuzz *f = arg;
	const uint8_t *p = frame;

	assert(len >= ETH && len <= f->gate->frame_max);
	f->sent++;
	if (len >= ETH + 40 && get_be16(p + 12) == 0x0800 && p[ETH + 9] == IPPROTO_TCP) {
		f->sport = get_be16(p + ETH + 22);
		f->dport = get_be16(p + ETH + 20);
		f->ack = get_be32(p + ETH + 24) + 1;
		f->seq = get_be32(p + ETH + 28);
	}
}

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

/* Puts the checksum of a payload in place, over the pseudo header of either family. */
static void seal(uint8_t *ip, bool v6, uint8_t protocol, size_t len)
{
	static const struct {
		uint8_t protocol, at;
	} places[] = {
		{ IPPROTO_TCP, 16 }, { IPPROTO_UDP, 6 }, { IPPROTO_ICMP, 2 }, { IPPROTO_ICMPV6, 2 }
	};
	uint8_t *data = ip + (v6 ? 40 : 20);
	uint32_t sum = 0;

	if (protocol != IPPROTO_ICMP) {
		for (uint8_t *p = ip + (v6 ? 8 : 12); p < data; p += 2)
			sum += get_be16(p);
		sum += protocol + (uint32_t)len;
	}
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		if (places[i].protocol != protocol || len < places[i].at + 2u)
			continue;
		put_be16(data + places[i].at, 0);
		put_be16(data + places[i].at, sum_of(data, len, sum));
	}
}

static size_t take_bytes(struct fz *in, uint8_t *out, size_t max)
{
	size_t n = fz_u8(in);

	n *= fz_bool(in) ? 8 : 1;
	n = MIN(MIN(n, max), in->left);
	memcpy(out, in->p, n);
	in->p += n;
	in->left -= n;
	return n;
}

static size_t make_tcp(struct fuzz *f, uint8_t *data, size_t max)
{
	uint8_t how = fz_u8(&f->in);
	uint16_t flags = fz_u16(&f->in);

	memset(data, 0, 20);
	put_be16(data, how & 1 ? f->sport : 40000 + (how >> 5));
	put_be16(data + 2, how & 1 ? f->dport : 80);
	put_be32(data + 4, how & 2 ? f->seq + (how >> 4 & 3) : fz_u32(&f->in));
	put_be32(data + 8, how & 4 ? f->ack - 1 + (how >> 4 & 3) : fz_u32(&f->in));
	put_be16(data + 12, how & 8 ? (uint16_t)(0x5000 | (flags & 0x3f)) : flags);
	put_be16(data + 14, 65535);
	put_be16(data + 18, flags);
	return 20 + take_bytes(&f->in, data + 20, max - 20);
}

static size_t make_udp(struct fuzz *f, uint8_t *data, size_t max)
{
	static const uint16_t ports[] = { 53, 67, 68, 69, 547, 546, 7, 1900, 40000, 7777 };
	size_t len;

	put_be16(data, ports[fz_pick(&f->in, ARRAY_LEN(ports))]);
	put_be16(data + 2, ports[fz_pick(&f->in, ARRAY_LEN(ports))]);
	len = 8 + take_bytes(&f->in, data + 8, max - 8);
	put_be16(data + 4, fz_u8(&f->in) < 240 ? (uint16_t)len : fz_u16(&f->in));
	return len;
}

static void put_ip4(struct fuzz *f, uint8_t *ip, uint8_t protocol, size_t len)
{
	static const uint32_t dsts[] = { 0xc0000201, 0x0a000202, 0x0a000203, 0xffffffff,
					 0x7f000001, 0x0a0002ff, 0xe0000001, 0 };

	memset(ip, 0, 20);
	ip[0] = 0x45;
	put_be16(ip + 2, (uint16_t)(20 + len));
	ip[8] = fz_u8(&f->in) | 1;
	ip[9] = protocol;
	put_be32(ip + 12, fz_u8(&f->in) < 250 ? 0x0a00020f : fz_u32(&f->in));
	put_be32(ip + 16, dsts[fz_pick(&f->in, ARRAY_LEN(dsts))]);
}

static void put_ip6(struct fuzz *f, uint8_t *ip, uint8_t protocol, size_t len)
{
	static const char *const dsts[] = { "2001:db8::1", "fd00::2",	     "fd00::3",
					    "fe80::2",	   "ff02::1",	     "ff02::2",
					    "ff02::1:2",   "ff02::1:ff00:2", "::1" };

	memset(ip, 0, 40);
	ip[0] = 0x60;
	put_be16(ip + 4, (uint16_t)len);
	ip[6] = protocol;
	ip[7] = fz_u8(&f->in) < 240 ? 255 : fz_u8(&f->in);
	inet_pton(AF_INET6, fz_bool(&f->in) ? "fd00::15" : "fe80::15", ip + 8);
	inet_pton(AF_INET6, dsts[fz_pick(&f->in, ARRAY_LEN(dsts))], ip + 24);
}

/* Damages up to two bytes of a sound frame now and then, so that single checks are tried one by one. */
static void damage(struct fuzz *f, uint8_t *frame, size_t len)
{
	uint8_t how = fz_u8(&f->in);

	for (int i = how < 200 ? 2 : how < 240 ? 1 : 0; i < 2; i++)
		frame[ETH + fz_u16(&f->in) % (len - ETH)] = fz_u8(&f->in);
}

static void fuzz_packet(struct fuzz *f)
{
	static const uint8_t protocols[] = { IPPROTO_TCP,  IPPROTO_TCP,	   IPPROTO_UDP,
					     IPPROTO_ICMP, IPPROTO_ICMPV6, 44 };
	static uint8_t frame[4096];
	uint8_t protocol = protocols[fz_pick(&f->in, ARRAY_LEN(protocols))];
	bool v6 = protocol != IPPROTO_ICMP && (protocol == IPPROTO_ICMPV6 || fz_bool(&f->in));
	size_t head = v6 ? 40 : 20, len;
	uint8_t *ip = frame + ETH, *data = ip + head;

	if (protocol == IPPROTO_TCP)
		len = make_tcp(f, data, 1400);
	else if (protocol == IPPROTO_UDP)
		len = make_udp(f, data, 1400);
	else
		len = take_bytes(&f->in, data, 1400);
	memcpy(frame, "\x52\x55\x0a\0\2\2\x52\x54\0\x12\x34\x56", 12);
	put_be16(frame + 12, v6 ? 0x86dd : 0x0800);
	if (v6)
		put_ip6(f, ip, protocol, len);
	else
		put_ip4(f, ip, protocol, len);
	damage(f, frame, ETH + head + len);
	seal(ip, v6, protocol, len);
	if (!v6)
		put_be16(ip + 10, 0);
	if (!v6)
		put_be16(ip + 10, sum_of(ip, 20, 0));
	gate_in(f->gate, frame, ETH + head + len);
}

/* A packet in pieces, some of them twice, out of order, or not of one size. */
static void fuzz_pieces(struct fuzz *f)
{
	static uint8_t frame[2048];
	uint8_t n = fz_u8(&f->in) % 6;

	for (uint8_t i = 0; i < n; i++) {
		size_t len = fz_bool(&f->in) ? 1480 : fz_u8(&f->in) * 8u;
		uint16_t field = fz_bool(&f->in) ? (uint16_t)(i * 185 | (i + 1 < n ? 0x2000 : 0))
						 : fz_u16(&f->in);

		memset(frame, 0, ETH + 28);
		put_be16(frame + 12, 0x0800);
		put_ip4(f, frame + ETH, IPPROTO_UDP, len);
		put_be16(frame + ETH + 4, fz_u8(&f->in) % 3);
		put_be16(frame + ETH + 6, field);
		put_be16(frame + ETH + 10, sum_of(frame + ETH, 20, 0));
		put_be16(frame + ETH + 24, (uint16_t)(n * 1480));
		gate_in(f->gate, frame, ETH + 20 + len);
	}
}

static void fuzz_raw(struct fuzz *f)
{
	static uint8_t frame[4096];
	size_t len = take_bytes(&f->in, frame, sizeof(frame));

	if (len >= ETH)
		gate_in(f->gate, frame, len);
}

/* --- the rest of the world --- */

static void fuzz_outside(struct fuzz *f)
{
	static uint8_t bytes[4096];
	unsigned int i = fz_u8(&f->in);
	int *fd;

	if (!outside.count)
		return;
	fd = &outside.fds[i % outside.count];
	if (i >= 240) {
		fd_close(fd);
	} else if (*fd >= 0) {
		size_t len = take_bytes(&f->in, bytes, sizeof(bytes));

		(void)!write(*fd, bytes, len ? len : 1);
		while (recv(*fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
	}
}

static void fuzz_forward(struct fuzz *f)
{
	char text[300], again[FORWARD_TEXT_MAX];
	struct forward fwd, copy;
	struct err err;
	size_t len = 0;

	if (fz_bool(&f->in))
		len = (size_t)snprintf(text, sizeof(text), "%s 127.0.0.1:%u %u",
				       fz_bool(&f->in) ? "tcp" : "udp", 1 + fz_u8(&f->in) % 4u,
				       80 + fz_u8(&f->in));
	len += take_bytes(&f->in, (uint8_t *)text + len, sizeof(text) - len - 1);
	text[len] = '\0';
	if (forward_parse(text, &fwd, &err) < 0)
		return;
	forward_format(&fwd, again, sizeof(again));
	assert(forward_parse(again, &copy, &err) == 0 && memcmp(&fwd, &copy, sizeof(fwd)) == 0);
	if (fz_bool(&f->in))
		(void)nat_forward_add(f->gate->nat, &fwd, &err);
	else
		(void)nat_forward_remove(f->gate->nat, &fwd, &err);
}

static void operation(struct fuzz *f)
{
	switch (fz_u8(&f->in) % 16) {
	case 0:
		fuzz_raw(f);
		break;
	case 1:
		fuzz_forward(f);
		break;
	case 2:
		loop_fake_advance(f->loop, NS_PER_MS << (fz_u8(&f->in) & 15));
		break;
	case 3:
		outside.connect_result = fz_u8(&f->in);
		nat_hold(f->gate->nat, outside.connect_result >> 6 == 3);
		break;
	case 4:
	case 5:
		fuzz_pieces(f);
		break;
	case 6:
	case 7:
	case 8:
		fuzz_outside(f);
		break;
	default:
		fuzz_packet(f);
	}
	loop_step(f->loop, false);
	loop_fake_advance(f->loop, NS_PER_MS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gate *gate;
	struct fuzz f = { .in = fz_of(data, size) };
	struct nat_config cfg = { .hostname = "fuzz",
				  .mtu = 1500,
				  .ip4 = true,
				  .ip6 = true,
				  .send = on_send,
				  .arg = &f };
	struct err err;
	int r;

	log_set(-1, LOG_LEVEL_ERROR);
	signal(SIGPIPE, SIG_IGN);
	/* Not new each time: its buffers are large. */
	if (!gate)
		gate = calloc(1, sizeof(*gate));
	for (int i = 0; i < FRAG_PACKETS; i++)
		gate->frag.packets[i].used = false;
	gate->filter = (struct filter){ 0 };
	outside.count = 0;
	outside.connect_result = 0;
	f.gate = gate;
	f.loop = loop_new(LOOP_FAKE, &err);
	assert(f.loop);
	r = gate_init(gate, f.loop, &cfg, &err);
	assert(r == 0);
	for (int i = 0; f.in.left && i < 200; i++)
		operation(&f);
	loop_fake_advance(f.loop, NS_PER_SEC);
	loop_step(f.loop, false);
	gate_fini(gate);
	loop_free(f.loop);
	for (unsigned int i = 0; i < outside.count; i++)
		fd_close(&outside.fds[i]);
	return 0;
}
