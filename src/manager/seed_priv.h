/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SEED_PRIV_H
#define MANAGER_SEED_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/* vm-bhyve's text for the network of a guest, "option=value;option=value". */
enum seed_net_option {
	SEED_NET_INTERFACE,
	SEED_NET_IP,
	SEED_NET_GATEWAY4,
	SEED_NET_GATEWAY6,
	SEED_NET_NAMESERVERS,
	SEED_NET_SEARCH,
	SEED_NET_HOST,
	SEED_NET_OPTIONS
};

struct seed_net {
	char values[SEED_NET_OPTIONS][256]; /* "": not given */
	bool has4, has6; /* ip has an address of that family */
};

int seed_net_parse(const char *text, struct seed_net *out, struct err *err);
/* The guest's own name: hostname if it was given. */
const char *seed_net_host(const struct seed_net *net, const char *name);
/* Network configuration of cloud-init, version 2, malloc'ed; NULL: no memory. mac may be NULL. */
char *seed_net_format(const struct seed_net *net, const char *mac);

/* What stands in front of the MAC address in there, and one that no card has. */
#define SEED_NET_MAC "macaddress: \""
#define SEED_NET_NO_MAC "00:00:00:00:00:00"

#endif
