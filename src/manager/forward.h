/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_FORWARD_H
#define MANAGER_FORWARD_H

struct err;

/*
 * The kernel's forwarding of packets, IPv4 and IPv6, which NAT switches need. dir is a folder that
 * remembers in the file "sysctl" what the settings were; they come back with forward_off. Other
 * interfaces stay what they were: with IPv6 they go on learning routers, which forwarding would
 * end.
 */
int forward_on(const char *dir, struct err *err);
int forward_off(const char *dir, struct err *err);
/*
 * Settings of a bridge of ours: it is a router to its guests, and packets of loopback addresses may
 * leave and enter by it, as forwarded ports need (nft.h keeps those of guests out).
 */
int forward_bridge(const char *bridge, struct err *err);
/* The bridge stays, but guests do without all this. */
void forward_bridge_off(const char *bridge);

#endif
