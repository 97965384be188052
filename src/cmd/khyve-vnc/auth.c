/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/auth.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/khyve-vnc/des.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/macros.h"

struct auth_peer auth_peer_of(const struct sockaddr_storage *sa)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in4 = (const void *)sa;

	if (sa->ss_family == AF_INET)
		return (struct auth_peer){ .key = 1ull << 32 | ntohl(in4->sin_addr.s_addr) };
	if (sa->ss_family != AF_INET6)
		return (struct auth_peer){ 0 };
	if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
		return (struct auth_peer){ .key = 1ull << 32 |
						  get_be32(in6->sin6_addr.s6_addr + 12) };
	return (struct auth_peer){ .key = get_be64(in6->sin6_addr.s6_addr) };
}

/* VNC uses the password's bytes with their bits in reverse order as the key. */
static uint8_t reverse_bits(uint8_t v)
{
	uint8_t out = 0;

	for (int i = 0; i < 8; i++)
		out = (uint8_t)(out | (v >> i & 1) << (7 - i));
	return out;
}

void auth_init(struct auth *a, const char *password)
{
	*a = (struct auth){ .required = password != NULL };
	if (password)
		memcpy(a->password, password, strnlen(password, AUTH_PASSWORD_MAX));
	for (size_t i = 0; password && i < AUTH_KEY_SIZE && password[i]; i++)
		a->key[i] = reverse_bits((uint8_t)password[i]);
}

int auth_read_password(int fd, char *out, struct err *err)
{
	char line[256];
	size_t len = 0;
	ssize_t n = 1;

	while (len < sizeof(line) && n > 0) {
		n = read(fd, line + len, sizeof(line) - len);
		if (n < 0 && errno == EINTR) {
			n = 1;
			continue;
		}
		if (n < 0)
			return err_set(err, -errno,
				       "cannot read the password from --password-fd %d: %s", fd,
				       strerror(errno));
		len += (size_t)n;
		if (memchr(line, '\n', len))
			break;
	}
	for (size_t i = 0; i < len; i++)
		if (line[i] == '\n' || line[i] == '\r' || line[i] == '\0')
			len = i;
	if (len == 0)
		return err_set(err, -EINVAL,
			       "--password-fd %d: the first line, the password, is empty", fd);
	memset(out, 0, AUTH_PASSWORD_MAX + 1);
	memcpy(out, line, MIN(len, (size_t)AUTH_PASSWORD_MAX));
	explicit_bzero(line, sizeof(line));
	return 0;
}

/* Index of the peer's entry, or AUTH_PEERS. */
static size_t find(const struct auth *a, struct auth_peer peer, uint64_t now_ns)
{
	size_t i;

	for (i = 0; i < AUTH_PEERS; i++) {
		const struct auth_failures *f = &a->failures[i];

		if (f->count && f->peer.key == peer.key && now_ns - f->last_ns < AUTH_FORGET_NS)
			break;
	}
	return i;
}

uint64_t auth_not_before(const struct auth *a, struct auth_peer peer, uint64_t now_ns)
{
	size_t i = find(a, peer, now_ns);

	return i < AUTH_PEERS ? a->failures[i].not_before_ns : 0;
}

static struct auth_failures *oldest(struct auth *a)
{
	struct auth_failures *f = &a->failures[0];

	for (size_t i = 1; i < AUTH_PEERS; i++)
		if (a->failures[i].last_ns < f->last_ns)
			f = &a->failures[i];
	return f;
}

static void count_failure(struct auth *a, struct auth_peer peer, uint64_t now_ns)
{
	size_t known = find(a, peer, now_ns);
	struct auth_failures *f = known < AUTH_PEERS ? &a->failures[known] : oldest(a);
	uint64_t delay = AUTH_DELAY_FIRST_NS;

	if (known == AUTH_PEERS)
		*f = (struct auth_failures){ .peer = peer };
	for (unsigned int i = 0; i < f->count && delay < AUTH_DELAY_MAX_NS; i++)
		delay *= 2;
	f->count++;
	f->last_ns = now_ns;
	f->not_before_ns = now_ns + MIN(delay, AUTH_DELAY_MAX_NS);
}

bool auth_is_response(const struct auth *a, const uint8_t *challenge, const uint8_t *response)
{
	uint8_t want[AUTH_CHALLENGE_SIZE], differ = 0;

	des_encrypt_block(a->key, challenge, want);
	des_encrypt_block(a->key, challenge + 8, want + 8);
	for (size_t i = 0; i < sizeof(want); i++)
		differ = (uint8_t)(differ | (want[i] ^ response[i]));
	explicit_bzero(want, sizeof(want));
	return differ == 0;
}

bool auth_is_password(const struct auth *a, const uint8_t *text, size_t len)
{
	uint8_t differ = strlen(a->password) != len;

	for (size_t i = 0; i < AUTH_PASSWORD_MAX; i++)
		differ = (uint8_t)(differ | (a->password[i] ^ (i < len ? text[i] : 0)));
	return differ == 0;
}

void auth_count(struct auth *a, struct auth_peer peer, bool right, uint64_t now_ns)
{
	size_t known = find(a, peer, now_ns);

	if (!right)
		count_failure(a, peer, now_ns);
	else if (known < AUTH_PEERS)
		a->failures[known] = (struct auth_failures){ 0 };
}

bool auth_check(struct auth *a, struct auth_peer peer, const uint8_t *challenge,
		const uint8_t *response, uint64_t now_ns)
{
	bool right = auth_is_response(a, challenge, response);

	auth_count(a, peer, right, now_ns);
	return right;
}
