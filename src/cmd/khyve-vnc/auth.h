/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_AUTH_H
#define CMD_KHYVE_VNC_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

#define AUTH_CHALLENGE_SIZE 16 /* RFC 6143 s7.2.2 */
#define AUTH_KEY_SIZE 8 /* VNC authentication looks at no more of the password */
#define AUTH_PASSWORD_MAX 63
#define AUTH_PEERS 32
#define AUTH_DELAY_FIRST_NS (250 * 1000000ull)
#define AUTH_DELAY_MAX_NS (4000 * 1000000ull)
#define AUTH_FORGET_NS (600 * 1000000000ull) /* without another failure */

/* Where a connection comes from, as far as wrong passwords are counted: IPv4 address, IPv6 /64, or 0 for a UNIX socket. */
struct auth_peer {
	uint64_t key;
};

struct auth_failures {
	struct auth_peer peer;
	unsigned int count; /* 0: the entry is free */
	uint64_t last_ns, not_before_ns;
};

struct auth {
	bool required;
	uint8_t key[AUTH_KEY_SIZE];
	char password[AUTH_PASSWORD_MAX + 1];
	struct auth_failures failures[AUTH_PEERS]; /* the oldest gives way */
};

struct sockaddr_storage;
struct auth_peer auth_peer_of(const struct sockaddr_storage *sa);

/* password NULL: none is asked for. */
void auth_init(struct auth *a, const char *password);
/* Reads the password from a descriptor: the first line, 1 byte at least. out holds AUTH_PASSWORD_MAX + 1 bytes. */
int auth_read_password(int fd, char *out, struct err *err);

/* When the next response of this peer may be looked at: after each failure the wait grows. In ns of loop_now(). */
uint64_t auth_not_before(const struct auth *a, struct auth_peer peer, uint64_t now_ns);
/* Compare in constant time: a response, the whole password. */
bool auth_is_response(const struct auth *a, const uint8_t *challenge, const uint8_t *response);
bool auth_is_password(const struct auth *a, const uint8_t *text, size_t len);
/* Counts what came of a comparison. */
void auth_count(struct auth *a, struct auth_peer peer, bool right, uint64_t now_ns);
/* Compares a response, and counts. */
bool auth_check(struct auth *a, struct auth_peer peer, const uint8_t *challenge,
		const uint8_t *response, uint64_t now_ns);

#endif
