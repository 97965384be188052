/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_UPLINK_PRIV_H
#define MANAGER_UPLINK_PRIV_H

#include <stdbool.h>

#include "manager/rtnl_priv.h"
#include "manager/uplink.h"

#define UPLINK_GATEWAYS 8
/* More routes than this on one interface are not a host's. */
#define UPLINK_MESSAGES 4096

struct uplink_gateway {
	int family;
	unsigned char addr[16];
	bool answered; /* before the change */
};

struct uplink {
	char name[STORE_NAME_MAX + 1]; /* of the switch */
	char iface[IF_NAMESIZE]; /* as system.conf names the port: em0 for em0.10 */
	char port[IF_NAMESIZE], bridge[IF_NAMESIZE];
	enum uplink_way way;
	bool stays; /* the host stays on the bridge, but loses this way to it */
	bool own6; /* the switch has an IPv6 address of its own */
	unsigned char mac[RTNL_MAC_LEN], port_mac[RTNL_MAC_LEN]; /* mac: the bridge's before */
	unsigned int mtu,
		port_mtu; /* of the port: before, and as the switch wants it; 0: as it is */
	/* RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH as the kernel gave them, in its order. */
	struct nlmsghdr **msgs;
	size_t count, room;
	struct uplink_gateway gateways[UPLINK_GATEWAYS];
	size_t gateway_count;
};

/* Appends a copy. -ENOMEM, -E2BIG. */
int uplink_keep(struct uplink *u, const struct nlmsghdr *h);
/* Whether a DHCP client of this network namespace was started for the interface. */
bool uplink_has_dhcp_client(const char *iface);
/* A sysctl below /proc/sys/net of an interface, such as "ipv6", "accept_ra". */
void uplink_copy_sysctl(const char *family, const char *name, const char *from, const char *to);

/*
 * Messages that put everything on the link at its new place (forward) or at home again. Both links are looked up by
 * name.
 */
int uplink_batch(struct rtnl *r, const struct uplink *u, bool forward, struct rtnl_batch *b);
/* True if the route leaves by the link. */
bool uplink_is_route_of(const struct nlmsghdr *h, unsigned int index);
/* Whether a message may be moved; -ENOTSUP with a text if it cannot. 0: leave it alone, 1: moves. */
int uplink_route_moves(const struct uplink *u, const struct nlmsghdr *h, struct err *err);

#endif
