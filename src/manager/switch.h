/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SWITCH_H
#define MANAGER_SWITCH_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "manager/store.h"

struct err;
struct gconf;
struct rtnl;
struct rtnl_link;

/*
 * Virtual switches: Linux bridges, described by the keys switch_list, type_S, ports_S, vlan_S, addr_S, addr6_S,
 * private_S, mtu_S and bridge_S of .config/system.conf. What the kernel has is made from it, and made again by
 * switch_up.
 */
enum switch_type { SWITCH_STANDARD, SWITCH_MANUAL, SWITCH_VXLAN, SWITCH_NAT };

#define SWITCH_VLAN_MAX 4094
#define SWITCH_VXLAN_MAX 16777215
#define SWITCH_MTU_MIN 100
#define SWITCH_MTU_MAX 65535
#define SWITCH_CIDR_MAX 64

struct switch_conf {
	char name[STORE_NAME_MAX + 1];
	enum switch_type type;
	bool private; /* guests reach the ports, but not each other */
	unsigned int vlan, mtu; /* 0: none, the default; of a VXLAN switch: its id */
	char bridge[IF_NAMESIZE]; /* manual: the bridge's name, else "" */
	char ports[512]; /* interfaces with blanks between */
	char addr[SWITCH_CIDR_MAX], addr6[SWITCH_CIDR_MAX]; /* of the host on the switch, or "" */
};

/* "standard", ... */
const char *switch_type_name(enum switch_type type);
/* -EINVAL. vale and netgraph are refused with what Linux has instead. */
int switch_type_parse(const char *text, enum switch_type *out, struct err *err);

/* --- what is configured (switch_conf.c) --- */

/* .config/system.conf; a file that is missing is empty. Without lock: for reading. */
int switch_load(const struct store *s, struct gconf **out, struct err *err);
/*
 * The same under the lock that serialises all who change switches. switch_edit_end writes the file if save, frees, and
 * opens the lock.
 */
struct switch_edit {
	const struct store *store;
	struct gconf *conf;
	int lock;
};
int switch_edit_begin(const struct store *s, struct switch_edit *e, struct err *err);
int switch_edit_end(struct switch_edit *e, bool save, struct err *err);

/* Fills out from the file. -ENOENT, or -EINVAL with a text if its keys make no sense. */
int switch_read(struct gconf *g, const char *name, struct switch_conf *out, struct err *err);
/* Sets the switch's keys and its place in switch_list. */
int switch_write(struct gconf *g, const struct switch_conf *c, struct err *err);
void switch_erase(struct gconf *g, const char *name);
/* Names in the order of switch_list; stops at the first non-zero and returns it. */
int switch_each(const struct gconf *g, int (*fn)(void *arg, const char *name), void *arg);
/* The nearest name to a wrong one, for messages: " (did you mean 'X'?)" or "". */
void switch_nearest(const struct gconf *g, const char *name, char *out, size_t size);

/* --- what the kernel has (switch.c); they need CAP_NET_ADMIN --- */

/*
 * The switch's bridge: vm-NAME, or for names beyond 12 characters the bridge with alias vm/NAME. -ENODEV if it is not
 * there.
 */
int switch_bridge(struct rtnl *r, const struct switch_conf *c, struct rtnl_link *out);
/*
 * The link that is, or is to be, the switch's port for an interface: itself, or its VLAN interface. -ENODEV if that is
 * not there.
 */
int switch_port(struct rtnl *r, const struct switch_conf *c, const char *iface,
		struct rtnl_link *out);
/* Makes the VLAN interface for switch_port, if the switch has a VLAN, and removes it if it is one of ours. */
int switch_port_make(struct rtnl *r, const struct switch_conf *c, const char *iface,
		     struct err *err);
void switch_port_drop(struct rtnl *r, const char *name, const char *port);
bool switch_has_port(const struct switch_conf *c, const char *iface);
int switch_each_port(const struct switch_conf *c, int (*fn)(void *arg, const char *iface),
		     void *arg);
/* Adds to or removes from the list of ports. -E2BIG. */
int switch_note_port(struct switch_conf *c, const char *iface, bool add);
/* Makes the bridge, its address and its ports if they are missing; mends what differs. May be repeated. */
int switch_up(struct rtnl *r, const struct switch_conf *c, struct err *err);
/* Takes all ports out of the bridge, as if they were not configured. */
void switch_lower_ports(struct rtnl *r, const struct switch_conf *c);
/* True if the bridge has addresses that are not the switch's own: the host is reached through its ports. */
bool switch_carries_host(struct rtnl *r, const struct switch_conf *c);
/* The names of the guests at a bridge, with commas between, as far as they fit. Returns how many they are. */
unsigned int switch_guests(struct rtnl *r, unsigned int bridge, char *out, size_t size);
/* Removes the bridge and what was made for it. Ports are taken out. A manual switch is left alone. */
int switch_down(struct rtnl *r, const struct switch_conf *c, struct err *err);

#endif
