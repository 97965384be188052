/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_NAT_H
#define MANAGER_NAT_H

#include <stddef.h>

#include "manager/store.h"

struct err;

/*
 * NAT switches: those of type nat in system.conf. Behind the bridge that switch.h makes stand a table
 * of the packet filter, the kernel's forwarding and one dnsmasq per switch; what they need to
 * remember is in .config/nat.
 */

/*
 * Makes the host fit what system.conf and the guests' files say now: sets up what is missing, mends what
 * differs, and removes what belongs to no NAT switch any more. To be called when either has
 * changed on disk, with bridges up before and bridges down after. May be repeated. warning gets
 * one line about what does not keep the switches from working, "" if there is none.
 */
int nat_sync(const struct store *s, struct err *warning, struct err *err);
/* The same for those who change guests: does nothing if there is no NAT switch. */
int nat_sync_guest(const struct store *s, struct err *warning, struct err *err);

#define NAT_CIDR_MAX 64

/*
 * Chooses addresses for a new switch: a private /24 that no route, address or name server of this host
 * overlaps, and a /64 of unique local addresses (RFC 4193) that is always the same for this host
 * and name; "" if the host has no IPv6.
 */
int nat_choose(const struct store *s, const char *name, char addr[NAT_CIDR_MAX],
	       char addr6[NAT_CIDR_MAX], struct err *err);

/*
 * The IPv4 and IPv6 addresses that the interface with this MAC address got from the switch's dnsmasq, with
 * blanks between them. -ENOENT: none.
 */
int nat_addresses(const struct store *s, const char *name, const char *mac, char *out, size_t size);

#endif
