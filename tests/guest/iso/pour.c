/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/*
 * guest-pour send ADDRESS PORT MIB     sends that much over TCP
 * guest-pour take ADDRESS|- PORT       takes what comes, -: from whoever connects
 *
 * Prints "CRC32 BYTES" of all that went through, with as little work as possible: the test host is slow.
 */
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#define CHUNK (1u << 20)

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int reach(const char *host, const char *port)
{
	const struct addrinfo hints = { .ai_family = strcmp(host, "-") == 0 ? AF_INET6 : AF_UNSPEC,
					.ai_socktype = SOCK_STREAM,
					.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE };
	struct addrinfo *a;
	int s, on = 1;

	if (getaddrinfo(strcmp(host, "-") == 0 ? NULL : host, port, &hints, &a) != 0)
		die(host);
	s = socket(a->ai_family, SOCK_STREAM, 0);
	if (s < 0)
		die("socket");
	if (strcmp(host, "-") != 0) {
		if (connect(s, a->ai_addr, a->ai_addrlen) < 0)
			die("connect");
		return s;
	}
	if (setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    bind(s, a->ai_addr, a->ai_addrlen) < 0 || listen(s, 1) < 0)
		die("listen");
	return accept(s, NULL, NULL);
}

static void send_all(int s, const uint8_t *p, size_t len)
{
	while (len) {
		ssize_t n = write(s, p, len);

		if (n <= 0)
			die("write");
		p += n;
		len -= (size_t)n;
	}
}

int main(int argc, char **argv)
{
	uint8_t *chunk = malloc(CHUNK);
	uint64_t bytes = 0, state = 88172645463325252u;
	unsigned long crc = 0;
	ssize_t n;
	int s;

	if (!chunk || argc < 4)
		return 2;
	s = reach(argv[2], argv[3]);
	if (s < 0)
		die("accept");
	for (size_t i = 0; i < CHUNK; i += sizeof(state)) {
		state ^= state << 13;
		state ^= state >> 7;
		state ^= state << 17;
		memcpy(chunk + i, &state, sizeof(state));
	}
	for (uint64_t i = 0; argc > 4 && i < strtoull(argv[4], NULL, 10); i++) {
		memcpy(chunk, &i, sizeof(i));
		crc = crc32(crc, chunk, CHUNK);
		send_all(s, chunk, CHUNK);
		bytes += CHUNK;
	}
	if (shutdown(s, SHUT_WR) < 0)
		die("shutdown");
	/* What is sent to a sender is only the end. */
	while ((n = read(s, chunk, CHUNK)) > 0) {
		crc = crc32(crc, chunk, (unsigned int)n);
		bytes += (uint64_t)n;
	}
	if (n < 0)
		die("read");
	printf("%08lx %llu\n", crc, (unsigned long long)bytes);
	return 0;
}
