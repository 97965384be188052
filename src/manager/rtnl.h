/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_RTNL_H
#define MANAGER_RTNL_H

#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct nlmsghdr;

/*
 * The kernel's network configuration over rtnetlink (rtnetlink(7)): links, addresses, neighbours and traffic control.
 * All calls wait for the kernel's answer and return 0 or -errno; rtnl_error() has its words.
 */
struct rtnl;

/* -EPERM never comes from here: opening needs no privilege, changing does. */
int rtnl_open(struct rtnl **out, struct err *err);
void rtnl_close(struct rtnl *r);
/* What the last call that failed was told: the kernel's text, or that of the error. */
const char *rtnl_error(const struct rtnl *r, int error);

#define RTNL_ALIAS_MAX 256
#define RTNL_MAC_LEN 6

struct rtnl_link {
	unsigned int index, master, lower; /* 0: none; lower: what a VLAN interface is on */
	unsigned int flags, mtu, type; /* IFF_*, bytes, ARPHRD_* */
	unsigned int vlan; /* of a VLAN interface, else 0 */
	char name[IF_NAMESIZE], alias[RTNL_ALIAS_MAX],
		kind[16]; /* kind: "bridge", "tun", "vlan", ... or "" */
	unsigned char mac[RTNL_MAC_LEN];
	bool vlan_filtering; /* of a bridge */
	uint64_t rx_bytes, tx_bytes; /* seen from the host */
};

/* -ENODEV. */
int rtnl_link_get(struct rtnl *r, const char *name, struct rtnl_link *out);
int rtnl_link_index(struct rtnl *r, unsigned int index, struct rtnl_link *out);
/* All links; stops at the first non-zero and returns it. */
int rtnl_link_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_link *l), void *arg);

/* New links are down. -EEXIST. A bridge has STP off; mac may be NULL. */
int rtnl_bridge_new(struct rtnl *r, const char *name, const unsigned char *mac);
int rtnl_vlan_new(struct rtnl *r, const char *name, unsigned int lower, unsigned int id);
/* VXLAN with UDP port 4789 (RFC 7348 s8); group: in network byte order. */
int rtnl_vxlan_new(struct rtnl *r, const char *name, unsigned int lower, unsigned int id,
		   struct in_addr group);
int rtnl_link_delete(struct rtnl *r, unsigned int index);

int rtnl_set_up(struct rtnl *r, unsigned int index, bool up);
int rtnl_set_mtu(struct rtnl *r, unsigned int index, unsigned int mtu);
int rtnl_set_mac(struct rtnl *r, unsigned int index, const unsigned char *mac);
/* At most RTNL_ALIAS_MAX - 1 bytes. */
int rtnl_set_alias(struct rtnl *r, unsigned int index, const char *alias);
/* Makes the link a port of a bridge; 0 takes it out of its bridge. */
int rtnl_set_master(struct rtnl *r, unsigned int index, unsigned int master);
/* An isolated bridge port exchanges frames only with ports that are not. */
int rtnl_set_isolated(struct rtnl *r, unsigned int index, bool isolated);
/* No link-local IPv6 address of its own: for links whose frames are not the host's. */
int rtnl_set_no_ipv6(struct rtnl *r, unsigned int index);

/* A bridge that knows VLANs; and the VLANs of a port: all of first to last, tagged or (pvid) untagged both ways. */
int rtnl_set_vlan_filtering(struct rtnl *r, unsigned int bridge, bool on);
int rtnl_port_vlan(struct rtnl *r, unsigned int port, unsigned int first, unsigned int last,
		   bool pvid);
int rtnl_port_vlan_delete(struct rtnl *r, unsigned int port, unsigned int id);

struct rtnl_addr {
	unsigned int index; /* of the link */
	int family; /* AF_INET, AF_INET6 */
	unsigned int plen, scope, flags; /* RT_SCOPE_*, IFA_F_* */
	unsigned char addr[16];
};

/* "192.0.2.1/24" or "2001:db8::1/64". -EINVAL. */
int rtnl_addr_parse(const char *cidr, struct rtnl_addr *out);
int rtnl_addr_add(struct rtnl *r, unsigned int index, const char *cidr);
int rtnl_addr_delete(struct rtnl *r, unsigned int index, const char *cidr);
/* All addresses; stops at the first non-zero and returns it. */
int rtnl_addr_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_addr *a), void *arg);

struct rtnl_neigh {
	unsigned int index, state; /* of the link; NUD_* */
	int family;
	unsigned char addr[16], mac[RTNL_MAC_LEN];
};

/* All neighbours (ARP, ND); stops at the first non-zero and returns it. */
int rtnl_neigh_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_neigh *n), void *arg);
/* Makes the kernel ask for an address on a link. The answer shows in the neighbour's state. */
int rtnl_neigh_probe(struct rtnl *r, unsigned int index, int family, const unsigned char *addr);
/* Makes the kernel forget what it knows of one; who sends to it asks again. */
int rtnl_neigh_forget(struct rtnl *r, unsigned int index, int family, const unsigned char *addr);

/*
 * Traffic control (rtnl_tc.c). Mirror: every frame that arrives at (ingress) or leaves by link from is copied to link
 * to. rtnl_mirror_sweep removes those whose target is gone, or all.
 */
int rtnl_mirror_add(struct rtnl *r, unsigned int from, bool ingress, unsigned int to);
int rtnl_mirror_sweep(struct rtnl *r, unsigned int from, bool all);
/* Bits per second of what the host sends by the link (shaped), and of what it receives (policed). */
int rtnl_limit_egress(struct rtnl *r, unsigned int index, uint64_t rate);
int rtnl_limit_ingress(struct rtnl *r, unsigned int index, uint64_t rate);

/* --- raw messages, for those who copy configuration --- */

/* Dumps RTM_GET* of a family; stops at the first non-zero and returns it. */
int rtnl_dump(struct rtnl *r, uint16_t type, int family,
	      int (*fn)(void *arg, const struct nlmsghdr *h), void *arg);

/*
 * Messages that the kernel executes one after the other within one system call: no signal, SIGKILL included, stops it
 * half-way.
 */
struct rtnl_batch {
	char *buf;
	size_t len, room, count;
};
/* Appends a copy as a request with these NLM_F_ flags. -ENOMEM. */
int rtnl_batch_add(struct rtnl_batch *b, const struct nlmsghdr *h, uint16_t flags);
/*
 * Executes all messages and returns the first error. What is there already when it is to be made, or gone when it is
 * to be removed, is no error.
 */
int rtnl_batch_run(struct rtnl *r, struct rtnl_batch *b);
void rtnl_batch_free(struct rtnl_batch *b);

#endif
