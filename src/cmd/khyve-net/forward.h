/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_FORWARD_H
#define CMD_KHYVE_NET_FORWARD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

struct err;

/* A port of the host that leads to one of the guest. */
struct forward {
	bool udp;
	union forward_addr {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} host, guest; /* of the same family; a guest address of zeroes is the guest's own */
};

/* Longest text that forward_format makes. */
#define FORWARD_TEXT_MAX 128

/*
 * Reads "tcp|udp [ADDR:]PORT [GUESTADDR:]GUESTPORT", words separated by blanks or single colons as bhyve's hostfwd has
 * them are not. Without ADDR it is 127.0.0.1. An IPv6 address stands in brackets.
 */
int forward_parse(const char *text, struct forward *out, struct err *err);
/* The same without the guest's part, to say which one to remove. */
int forward_parse_host(const char *text, struct forward *out, struct err *err);
/* In the form that forward_parse reads. */
void forward_format(const struct forward *f, char *out, size_t size);
/* The same port of the host. */
bool forward_same_host(const struct forward *a, const struct forward *b);
socklen_t forward_addr_len(const union forward_addr *a);

#endif
