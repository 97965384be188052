/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_NAT_H
#define CMD_KHYVE_NET_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct forward;
struct loop;

/*
 * libslirp on the project's loop: the guest's packets become ordinary sockets of this process. Everything happens on
 * the loop's thread.
 */
struct nat;

#define NAT_FLOWS_MAX 1024 /* connections and datagram sockets at a time */
#define NAT_FORWARDS_MAX 128
/* Descriptors that a process with a nat may need in all. */
#define NAT_FD_MAX (NAT_FLOWS_MAX + NAT_FORWARDS_MAX + 128)
#define NAT_MTU_DEFAULT 1500u
#define NAT_MTU_MIN 576u
#define NAT_MTU_MAX 65521u

struct nat_config {
	const char *hostname; /* for DHCP; NULL: none */
	unsigned int mtu; /* NAT_MTU_MIN to NAT_MTU_MAX; IPv6 needs 1280 */
	bool ip4, ip6;
	bool host_loopback; /* for the filter: the guest may use the host's loopback as 10.0.2.2 and fd00::2 */
	bool closed; /* for the filter: only what comes through forwards */
	/* A frame for the guest. */
	void (*send)(void *arg, const void *frame, size_t len);
	void *arg;
};

/* 0 or -errno with a text. */
int nat_new(struct loop *l, const struct nat_config *cfg, struct nat **out, struct err *err);
/* Closes all connections. NULL is fine. */
void nat_free(struct nat *n);
/* A frame from the guest that a filter has passed. */
void nat_input(struct nat *n, const uint8_t *frame, size_t len);
/* While held, nothing is read from the outside: the guest does not keep up. */
void nat_hold(struct nat *n, bool hold);

/* Adds a forward; it answers from now on. 0 or -errno with a text. */
int nat_forward_add(struct nat *n, const struct forward *f, struct err *err);
/* Only the host's part counts. Connections that are open stay so. -ENOENT. */
int nat_forward_remove(struct nat *n, const struct forward *f, struct err *err);
/* The i-th forward, NULL behind the last one. Valid until the next add or remove. */
const struct forward *nat_forward_get(const struct nat *n, size_t i);
/* Connections and datagram sockets that are open. */
unsigned int nat_flows(const struct nat *n);

#endif
