/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/forward.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/khyve-net/addr.h"
#include "util/err.h"
#include "util/str.h"

#define WORD_MAX 64

/* The next word of a text; false: there is none, or it is too long for an address. */
static bool next_word(const char **text, char *word)
{
	size_t len;

	*text += strspn(*text, " \t");
	len = strcspn(*text, " \t");
	if (len == 0 || len >= WORD_MAX)
		return false;
	memcpy(word, *text, len);
	word[len] = '\0';
	*text += len;
	return true;
}

static int bad(struct err *err, const char *word, const char *why)
{
	return err_set(err, -EINVAL, "\"%s\": %s", word, why);
}

/* Splits ADDR:PORT, [V6]:PORT or PORT; addr is NULL without one. Changes the word. */
static bool split(char *word, char **addr, char **port)
{
	char *end;

	*addr = NULL;
	*port = word;
	if (word[0] == '[') {
		end = strchr(word, ']');
		if (!end || end[1] != ':')
			return false;
		*end = '\0';
		*addr = word + 1;
		*port = end + 2;
		return true;
	}
	end = strrchr(word, ':');
	if (end) {
		*end = '\0';
		*addr = *word ? word : NULL;
		*port = end + 1;
	}
	return true;
}

static int parse_addr(const char *word, union forward_addr *out, bool *given, struct err *err)
{
	char copy[WORD_MAX], *addr, *port;
	uint64_t number = 0;

	str_copy(copy, sizeof(copy), word);
	if (!split(copy, &addr, &port))
		return bad(err, word, "not ADDRESS:PORT or [V6ADDRESS]:PORT");
	if (str_u64(port, &number) < 0 || number < 1 || number > 65535)
		return bad(err, word, "a port is a number from 1 to 65535");
	*given = addr != NULL;
	memset(out, 0, sizeof(*out));
	if (word[0] == '[') {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons((uint16_t)number);
		return inet_pton(AF_INET6, addr, &out->v6.sin6_addr) == 1
			       ? 0
			       : bad(err, word, "not an IPv6 address");
	}
	out->v4.sin_family = AF_INET;
	out->v4.sin_port = htons((uint16_t)number);
	if (addr && inet_pton(AF_INET, addr, &out->v4.sin_addr) != 1)
		return bad(err, word, "not an IPv4 address; an IPv6 address stands in brackets");
	return 0;
}

/* The protocol and the host's port; *text is left behind them. */
static int parse_host(const char **text, struct forward *f, struct err *err)
{
	char word[WORD_MAX];
	bool given;
	int r;

	memset(f, 0, sizeof(*f));
	if (!next_word(text, word))
		return err_set(err, -EINVAL, "give tcp or udp, [ADDRESS:]PORT");
	if (strcmp(word, "tcp") != 0 && strcmp(word, "udp") != 0)
		return bad(err, word, "the protocol is tcp or udp");
	f->udp = word[0] == 'u';
	if (!next_word(text, word))
		return err_set(err, -EINVAL, "give the port of the host as [ADDRESS:]PORT");
	r = parse_addr(word, &f->host, &given, err);
	if (r == 0 && !given)
		f->host.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return r;
}

static int at_end(const char *text, struct err *err)
{
	text += strspn(text, " \t");
	return *text ? err_set(err, -EINVAL, "too many words: \"%.64s\"", text) : 0;
}

int forward_parse_host(const char *text, struct forward *out, struct err *err)
{
	struct forward f;
	int r = parse_host(&text, &f, err);

	if (r == 0)
		r = at_end(text, err);
	if (r == 0)
		*out = f;
	return r;
}

/* Nobody in the guest's network but the guest: what else would be forwarded to leads nowhere. */
static bool guest_addr_ok(const struct forward *f)
{
	uint32_t v4;

	if (f->guest.sa.sa_family == AF_INET6)
		return memcmp(&f->guest.v6.sin6_addr, &addr_prefix6, 8) == 0;
	v4 = ntohl(f->guest.v4.sin_addr.s_addr);
	return (v4 & ADDR_MASK4) == ADDR_NET4 && v4 != ADDR_HOST4 && v4 != ADDR_DNS4;
}

int forward_parse(const char *text, struct forward *out, struct err *err)
{
	struct forward f;
	char word[WORD_MAX];
	bool given = false;
	int r = parse_host(&text, &f, err);

	if (r < 0)
		return r;
	if (!next_word(&text, word))
		return err_set(err, -EINVAL, "give the port of the guest");
	r = parse_addr(word, &f.guest, &given, err);
	if (r == 0)
		r = at_end(text, err);
	if (r < 0)
		return r;
	if (!given && f.host.sa.sa_family == AF_INET6) {
		in_port_t port = f.guest.v4.sin_port;

		memset(&f.guest, 0, sizeof(f.guest));
		f.guest.v6.sin6_family = AF_INET6;
		f.guest.v6.sin6_port = port;
	}
	if (f.guest.sa.sa_family != f.host.sa.sa_family)
		return bad(err, word, "host and guest must both be IPv4, or both IPv6");
	if (given && !guest_addr_ok(&f))
		return bad(err, word, "the guest's address is one of 10.0.2.0/24 or fd00::/64");
	*out = f;
	return 0;
}

static void format_addr(const union forward_addr *a, char *out, size_t size)
{
	char text[INET6_ADDRSTRLEN] = "";
	bool v6 = a->sa.sa_family == AF_INET6;
	const void *addr = v6 ? (const void *)&a->v6.sin6_addr : &a->v4.sin_addr;

	inet_ntop(a->sa.sa_family, addr, text, sizeof(text));
	/* The port is at the same place in both. */
	if (snprintf(out, size, v6 ? "[%s]:%u" : "%s:%u", text, ntohs(a->v4.sin_port)) < 0)
		out[0] = '\0';
}

static bool has_guest_addr(const struct forward *f)
{
	if (f->guest.sa.sa_family == AF_INET6)
		return !IN6_IS_ADDR_UNSPECIFIED(&f->guest.v6.sin6_addr);
	return f->guest.v4.sin_addr.s_addr != 0;
}

void forward_format(const struct forward *f, char *out, size_t size)
{
	char host[INET6_ADDRSTRLEN + 10], guest[INET6_ADDRSTRLEN + 10];
	const char *protocol = f->udp ? "udp" : "tcp";
	int n;

	format_addr(&f->host, host, sizeof(host));
	format_addr(&f->guest, guest, sizeof(guest));
	if (has_guest_addr(f))
		n = snprintf(out, size, "%s %s %s", protocol, host, guest);
	else
		n = snprintf(out, size, "%s %s %u", protocol, host, ntohs(f->guest.v4.sin_port));
	if (n < 0)
		out[0] = '\0';
}

static bool same_addr(const union forward_addr *a, const union forward_addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return false;
	if (a->sa.sa_family == AF_INET6)
		return a->v6.sin6_port == b->v6.sin6_port &&
		       a->v6.sin6_scope_id == b->v6.sin6_scope_id &&
		       IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr);
	return a->v4.sin_port == b->v4.sin_port && a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr;
}

bool forward_same_host(const struct forward *a, const struct forward *b)
{
	return a->udp == b->udp && same_addr(&a->host, &b->host);
}

socklen_t forward_addr_len(const union forward_addr *a)
{
	return a->sa.sa_family == AF_INET6 ? sizeof(a->v6) : sizeof(a->v4);
}
