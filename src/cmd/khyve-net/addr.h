/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_ADDR_H
#define CMD_KHYVE_NET_ADDR_H

#include <netinet/in.h>

/* The guest's network, as people know it from other emulators. */
#define ADDR_NET4 0x0a000200u /* 10.0.2.0/24 */
#define ADDR_MASK4 0xffffff00u
#define ADDR_HOST4 0x0a000202u /* the router */
#define ADDR_DNS4 0x0a000203u
#define ADDR_GUEST4 0x0a00020fu /* the first that DHCP gives away */

#define ADDR_PREFIX6_LEN 64
static const struct in6_addr addr_prefix6 = { .s6_addr = { 0xfd, 0x00 } }; /* fd00::/64 */
static const struct in6_addr addr_host6 = { .s6_addr = { 0xfd, 0x00, [15] = 2 } };
static const struct in6_addr addr_dns6 = { .s6_addr = { 0xfd, 0x00, [15] = 3 } };

#endif
