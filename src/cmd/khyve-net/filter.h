/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_FILTER_H
#define CMD_KHYVE_NET_FILTER_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What stands between the guest and libslirp. libslirp believes addresses: it connects to 127.0.0.1 for a guest that
 * names it, and to whatever else means this host. It also speaks protocols that no guest needs.
 *
 * With host_loopback off, the router's addresses, which libslirp takes for the host's loopback, lead nowhere: only
 * answers through a forward pass, and TCP connections are refused.
 */
struct filter {
	bool host_loopback;
	bool closed; /* the guest may answer who comes through a forward, and reach nobody by itself */
	/* The address that the guest uses, from the packets it sends; zero: not known yet. */
	struct in_addr guest4;
	struct in6_addr guest6; /* not the link-local one */
	/* Who has sent the guest a datagram through a forward and, where others may not, gets answers. */
	struct filter_peer {
		bool v6;
		uint16_t host_port, guest_port;
		uint64_t until_ns;
	} peers[256];
};

enum filter_verdict {
	FILTER_DROP,
	FILTER_PASS,
	FILTER_PIECE, /* part of an IPv4 packet; what it says about its protocol has not been looked at */
};

/*
 * Judges a frame of at least 14 bytes from the guest. Changes what TCP says that libslirp must not see. An IPv4 frame
 * that is not dropped has sound header and total lengths.
 */
enum filter_verdict filter_in(struct filter *f, uint64_t now_ns, uint8_t *frame, size_t len);
/* Whether libslirp may make a new socket for a frame that has passed. */
bool filter_opens(const uint8_t *frame);
/* Learns from a frame that libslirp makes for the guest. */
void filter_out(struct filter *f, uint64_t now_ns, const uint8_t *frame, size_t len);

#endif
