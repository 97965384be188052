/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_DNSMASQ_H
#define MANAGER_DNSMASQ_H

struct err;
struct nat_net;

/*
 * The program dnsmasq on a NAT switch: addresses by DHCP, DHCPv6 and router advertisements, names by
 * DNS. All its files are in dir, the switch's folder. Callers hold a lock that keeps others away.
 */

/*
 * Starts it if it does not run as the switch is now; a change of the guests starts it again, which
 * loses no lease. -EIO with what it said, -ENOENT: it is not installed.
 */
int dnsmasq_up(const char *dir, const struct nat_net *net, struct err *err);
/* Ends it if it runs. */
int dnsmasq_down(const char *dir, struct err *err);

#endif
