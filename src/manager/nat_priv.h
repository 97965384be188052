/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_NAT_PRIV_H
#define MANAGER_NAT_PRIV_H

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/port.h"
#include "manager/store.h"

/* A network interface of a guest on a NAT switch. */
struct nat_host {
	char guest[STORE_NAME_MAX + 1];
	char mac[18];
	uint32_t offset; /* its address less the network's; 0: it gets any */
	struct port *ports;
	size_t n_ports;
};

/* A NAT switch with its addresses in host byte order. */
struct nat_net {
	char name[STORE_NAME_MAX + 1];
	char bridge[IFNAMSIZ];
	uint32_t net, gateway; /* IPv4 */
	unsigned len; /* of the IPv4 prefix */
	struct in6_addr gateway6;
	bool v6; /* it has an IPv6 address, always a /64 */
	bool served; /* by dnsmasq */
	struct nat_host *hosts;
	size_t n_hosts;
};

/* Offsets above this are for guests that nobody knows. */
uint32_t nat_static_last(const struct nat_net *net);
uint32_t nat_last(const struct nat_net *net);

#endif
