/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_NFT_H
#define MANAGER_NFT_H

#include <stddef.h>

struct err;
struct nat_net;

/*
 * Makes the packet filter fit the NAT switches: table inet khyve with address translation, port
 * forwards and protection for them, and in the chains of other programs that refuse what they do
 * not know, rules with our comment that let these switches pass. n 0: removes all of it. owner is
 * the store's folder: one store at a time may have NAT switches. Problems with others' chains
 * are told in warning, "" if there are none. -EBUSY: another store owns the table.
 */
int nft_apply(const struct nat_net *nets, size_t n, const char *owner, struct err *warning,
	      struct err *err);
/*
 * Whether the packet filter keeps guests on a bridge that is no NAT switch's from each other and from the network
 * behind it, as with Docker and br_netfilter: then warning says what to do, else it is "".
 */
void nft_check_bridge(const char *bridge, struct err *warning);

#endif
