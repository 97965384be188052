/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/uplink_priv.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/switch.h"
#include "manager/tap.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/* Who gave an address (RFC: none; linux/if_addr.h of newer kernels). */
#define ADDR_PROTO 11
#define ADDR_PROTO_KERNEL_LL 3
#define ASK_POLL_MS 50
/* What may be believed of a gateway without asking it again. */
#define NUD_KNOWN (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE)

void uplink_free(struct uplink *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < u->count; i++)
		free(u->msgs[i]);
	free(u->msgs);
	free(u);
}

bool uplink_moves(const struct uplink *u)
{
	return u->count > 0;
}

bool uplink_risks(const struct uplink *u)
{
	return uplink_moves(u) || u->stays;
}

const char *uplink_home(const struct uplink *u)
{
	return u->way == UPLINK_JOIN ? u->port : u->bridge;
}

int uplink_keep(struct uplink *u, const struct nlmsghdr *h)
{
	struct nlmsghdr *copy;

	/* What is built from it has to fit a message of ours. */
	if (u->count == UPLINK_MESSAGES || h->nlmsg_len > sizeof(struct rtnl_msg) / 2)
		return -E2BIG;
	if (u->count == u->room) {
		size_t room = u->room ? u->room * 2 : 32;
		struct nlmsghdr **msgs = realloc(u->msgs, room * sizeof(*msgs));

		if (!msgs)
			return -ENOMEM;
		u->msgs = msgs;
		u->room = room;
	}
	copy = malloc(h->nlmsg_len);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, h, h->nlmsg_len);
	u->msgs[u->count++] = copy;
	return 0;
}

/* What capturing needs to know. */
struct capture {
	struct uplink *u;
	const struct switch_conf *c;
	unsigned int index; /* of the link at home */
	bool tells; /* the kernel tells which addresses are its own */
	struct err *err;
};

static int no_dhcp(const struct capture *c)
{
	return err_set(
		c->err, -EBUSY,
		K(070) "%s has its address from a DHCP client, which would not follow it: give the host a fixed address, or make a bridge of your own that gets the address and register it with 'vm switch create -t manual -b BRIDGE NAME'",
		uplink_home(c->u));
}

static bool has_kernels_mark(const struct nlmsghdr *h)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct ifaddrmsg))
	{
		if (mnl_attr_get_type(a) == ADDR_PROTO)
			return mnl_attr_get_u8(a) == ADDR_PROTO_KERNEL_LL;
	}
	return false;
}

static int note_mark(void *arg, const struct nlmsghdr *h)
{
	struct capture *c = arg;

	c->tells = c->tells || (h->nlmsg_type == RTM_NEWADDR && has_kernels_mark(h));
	return 0;
}

/*
 * Link-local addresses that the kernel makes for every interface stay where they are. An older kernel does not
 * tell them from those that somebody gave.
 */
static bool is_kernels(const struct capture *c, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);

	return i->ifa_family == AF_INET6 && i->ifa_scope == RT_SCOPE_LINK &&
	       (!c->tells || has_kernels_mark(h));
}

/* The switch's own address of the host, which is not the uplink's. */
static bool is_switchs(const struct switch_conf *c, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	const char *text = i->ifa_family == AF_INET ? c->addr : c->addr6;
	const struct nlattr *a;
	struct rtnl_addr own;

	if (!*text || rtnl_addr_parse(text, &own) < 0 || own.plen != i->ifa_prefixlen)
		return false;
	mnl_attr_for_each(a, h, sizeof(*i))
	{
		if (mnl_attr_get_type(a) == IFA_ADDRESS &&
		    memcmp(mnl_attr_get_payload(a), own.addr, mnl_attr_get_payload_len(a)) == 0)
			return true;
	}
	return false;
}

static int keep_addr(void *arg, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	struct capture *c = arg;
	uint32_t flags = i->ifa_flags;
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWADDR || i->ifa_index != c->index || is_kernels(c, h) ||
	    is_switchs(c->c, h) || (i->ifa_family != AF_INET && i->ifa_family != AF_INET6))
		return 0;
	mnl_attr_for_each(a, h, sizeof(*i))
	{
		if (mnl_attr_get_type(a) == IFA_FLAGS)
			flags = mnl_attr_get_u32(a);
	}
	if (i->ifa_family == AF_INET && !(flags & IFA_F_PERMANENT))
		return no_dhcp(c);
	return uplink_keep(c->u, h);
}

/* True if an address of the list brings its prefix's route along. */
static bool comes_with_address(const struct uplink *u, const struct nlmsghdr *h)
{
	const struct rtmsg *r = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	if (r->rtm_protocol != RTPROT_KERNEL)
		return false;
	/* A prefix route that the kernel did not make for an address has another protocol, or a flag beside it. */
	for (size_t i = 0; i < u->count; i++) {
		const struct ifaddrmsg *m = mnl_nlmsg_get_payload(u->msgs[i]);

		if (u->msgs[i]->nlmsg_type != RTM_NEWADDR || m->ifa_family != r->rtm_family ||
		    m->ifa_prefixlen != r->rtm_dst_len)
			continue;
		mnl_attr_for_each(a, u->msgs[i], sizeof(*m))
		{
			if (mnl_attr_get_type(a) == IFA_FLAGS &&
			    (mnl_attr_get_u32(a) & IFA_F_NOPREFIXROUTE))
				return false;
		}
	}
	return true;
}

int uplink_route_moves(const struct uplink *u, const struct nlmsghdr *h, struct err *err)
{
	const struct rtmsg *r = mnl_nlmsg_get_payload(h);
	uint32_t table = r->rtm_table;
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(*r))
	{
		if (mnl_attr_get_type(a) == RTA_TABLE)
			table = mnl_attr_get_u32(a);
		if (mnl_attr_get_type(a) == RTA_NH_ID)
			return err_set(
				err, -EBUSY,
				"a route by %s uses a nexthop object, which cannot be moved: make it an ordinary route, or make a bridge of your own and register it with 'vm switch create -t manual -b BRIDGE NAME'",
				uplink_home(u));
	}
	if (table == RT_TABLE_LOCAL || (r->rtm_flags & RTM_F_CLONED) || r->rtm_type == RTN_LOCAL)
		return 0;
	return !comes_with_address(u, h);
}

/* The gateways of default routes tell whether the host still has its network. */
static void note_gateway(struct uplink *u, int family, const void *addr, size_t len)
{
	struct uplink_gateway *g = &u->gateways[u->gateway_count];

	for (size_t i = 0; i < u->gateway_count; i++) {
		if (u->gateways[i].family == family && memcmp(u->gateways[i].addr, addr, len) == 0)
			return;
	}
	if (u->gateway_count == UPLINK_GATEWAYS || len > sizeof(g->addr))
		return;
	g->family = family;
	memcpy(g->addr, addr, len);
	u->gateway_count++;
}

static void note_gateways(struct uplink *u, const struct nlmsghdr *h, unsigned int index)
{
	const struct rtmsg *r = mnl_nlmsg_get_payload(h);
	size_t len = r->rtm_family == AF_INET ? 4 : 16;
	const struct rtnexthop *hop;
	const struct nlattr *a;
	int left;

	if (r->rtm_dst_len)
		return;
	mnl_attr_for_each(a, h, sizeof(*r))
	{
		if (mnl_attr_get_type(a) == RTA_GATEWAY && mnl_attr_get_payload_len(a) == len)
			note_gateway(u, r->rtm_family, mnl_attr_get_payload(a), len);
		if (mnl_attr_get_type(a) != RTA_MULTIPATH)
			continue;
		left = mnl_attr_get_payload_len(a);
		for (hop = mnl_attr_get_payload(a); RTNH_OK(hop, left);
		     left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
			const struct rtattr *via = RTNH_DATA(hop);

			if (hop->rtnh_ifindex == (int)index &&
			    hop->rtnh_len >= sizeof(*hop) + RTA_LENGTH(len) &&
			    via->rta_type == RTA_GATEWAY)
				note_gateway(u, r->rtm_family, RTA_DATA(via), len);
		}
	}
}

static int keep_route(void *arg, const struct nlmsghdr *h)
{
	const struct rtmsg *r = mnl_nlmsg_get_payload(h);
	struct capture *c = arg;
	int e;

	if (h->nlmsg_type != RTM_NEWROUTE || !uplink_is_route_of(h, c->index) ||
	    (r->rtm_family != AF_INET && r->rtm_family != AF_INET6))
		return 0;
	e = uplink_route_moves(c->u, h, c->err);
	if (e <= 0)
		return e;
	note_gateways(c->u, h, c->index);
	return uplink_keep(c->u, h);
}

static int keep_neigh(void *arg, const struct nlmsghdr *h)
{
	const struct ndmsg *n = mnl_nlmsg_get_payload(h);
	struct capture *c = arg;

	if (h->nlmsg_type != RTM_NEWNEIGH || n->ndm_ifindex != (int)c->index ||
	    !(n->ndm_state & NUD_PERMANENT) ||
	    (n->ndm_family != AF_INET && n->ndm_family != AF_INET6))
		return 0;
	return uplink_keep(c->u, h);
}

static int check_rule(void *arg, const struct nlmsghdr *h)
{
	struct capture *c = arg;
	const struct nlattr *a;

	mnl_attr_for_each(a, h, sizeof(struct fib_rule_hdr))
	{
		unsigned int type = mnl_attr_get_type(a);

		if ((type == FRA_IIFNAME || type == FRA_OIFNAME) &&
		    strcmp(mnl_attr_get_str(a), uplink_home(c->u)) == 0)
			return err_set(
				c->err, -EBUSY,
				"a rule of 'ip rule' names %s and would not follow it: remove the rule, or make a bridge of your own and register it with 'vm switch create -t manual -b BRIDGE NAME'",
				uplink_home(c->u));
	}
	return 0;
}

static int capture(struct rtnl *r, struct capture *c)
{
	static const int families[] = { AF_INET, AF_INET6 };
	int e = rtnl_dump(r, RTM_GETADDR, AF_UNSPEC, note_mark, c);

	if (e == 0)
		e = rtnl_dump(r, RTM_GETADDR, AF_UNSPEC, keep_addr, c);
	/* Nothing but a link: nothing else on it is worth moving. */
	if (e < 0 || c->u->count == 0)
		return e;
	if (uplink_has_dhcp_client(uplink_home(c->u)))
		return no_dhcp(c);
	for (size_t i = 0; e == 0 && i < ARRAY_LEN(families); i++) {
		e = rtnl_dump(r, RTM_GETROUTE, families[i], keep_route, c);
		if (e == 0)
			e = rtnl_dump(r, RTM_GETRULE, families[i], check_rule, c);
		/* A kernel without that family; nothing else here has these codes. */
		if (e == -EOPNOTSUPP || e == -EAFNOSUPPORT)
			e = 0;
	}
	return e < 0 ? e : rtnl_dump(r, RTM_GETNEIGH, AF_UNSPEC, keep_neigh, c);
}

static int note_way(void *arg, const struct nlmsghdr *h)
{
	struct capture *c = arg;

	if (h->nlmsg_type == RTM_NEWROUTE && uplink_is_route_of(h, c->index))
		note_gateways(c->u, h, c->index);
	return 0;
}

/* Nothing moves, but whoever answered through the port that goes has to answer through another one. */
static int capture_stay(struct rtnl *r, struct capture *c)
{
	int e;

	c->u->stays = switch_carries_host(r, c->c);
	if (!c->u->stays)
		return 0;
	e = rtnl_dump(r, RTM_GETROUTE, AF_INET, note_way, c);
	if (e == 0)
		e = rtnl_dump(r, RTM_GETROUTE, AF_INET6, note_way, c);
	return e == -EOPNOTSUPP || e == -EAFNOSUPPORT ? 0 : e;
}

struct others {
	unsigned int bridge, port;
	bool found;
};

/* Another link of the bridge that leads out: not a guest's. */
static int is_other_port(void *arg, const struct rtnl_link *l)
{
	struct others *o = arg;

	if (l->master == o->bridge && l->index != o->port && !str_starts(l->alias, TAP_ALIAS) &&
	    strcmp(l->kind, "tun") != 0)
		o->found = true;
	return 0;
}

int uplink_new(struct rtnl *r, const struct switch_conf *c, const char *iface, enum uplink_way way,
	       struct uplink **out, struct err *err)
{
	struct uplink *u = calloc(1, sizeof(*u));
	struct capture cap = { .u = u, .c = c, .err = err };
	struct others others = { 0 };
	struct rtnl_link link, bridge;
	int e;

	if (!u)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	if (err)
		err->text[0] = '\0';
	u->way = way;
	u->own6 = c->addr6[0] != '\0';
	e = str_copy(u->name, sizeof(u->name), c->name);
	if (e == 0)
		e = str_copy(u->iface, sizeof(u->iface), iface);
	if (e == 0)
		e = switch_port(r, c, iface, &link);
	if (e == 0)
		e = switch_bridge(r, c, &bridge);
	if (e == 0) {
		memcpy(u->port, link.name, sizeof(u->port));
		u->mtu = link.mtu;
		u->port_mtu = way == UPLINK_JOIN && c->mtu != link.mtu ? c->mtu : 0;
		memcpy(u->bridge, bridge.name, sizeof(u->bridge));
		memcpy(u->mac, bridge.mac, sizeof(u->mac));
		memcpy(u->port_mac, link.mac, sizeof(u->port_mac));
		cap.index = way == UPLINK_JOIN ? link.index : bridge.index;
		others.bridge = bridge.index;
		others.port = link.index;
	}
	/* While another port leads out, the host stays where it is. */
	if (e == 0 && way == UPLINK_LEAVE)
		e = rtnl_link_each(r, is_other_port, &others);
	if (e == 0)
		e = others.found ? capture_stay(r, &cap) : capture(r, &cap);
	if (e < 0) {
		uplink_free(u);
		return err && err->text[0]
			       ? e
			       : err_set(err, e, "cannot read what %s has: %s", iface,
					 e == -E2BIG ? "too many routes" : rtnl_error(r, e));
	}
	*out = u;
	return 0;
}

void uplink_copy_sysctl(const char *family, const char *name, const char *from, const char *to)
{
	char path[128], *text;
	size_t len;
	FILE *f;

	if (file_path(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, from, name) < 0 ||
	    fd_read_file(path, 64, &text, &len) < 0)
		return;
	if (file_path(path, sizeof(path), "/proc/sys/net/%s/conf/%s/%s", family, to, name) == 0 &&
	    (f = fopen(path, "we"))) {
		(void)fwrite(text, 1, len, f);
		(void)fclose(f);
	}
	free(text);
}

/* What decides whether packets and router advertisements are taken. */
static void copy_sysctls(const struct uplink *u)
{
	static const char *const v4[] = { "rp_filter", "accept_local", "arp_ignore", "arp_announce",
					  "forwarding" };
	static const char *const v6[] = { "accept_ra", "autoconf", "use_tempaddr", "forwarding" };
	const char *from = uplink_home(u), *to = u->way == UPLINK_JOIN ? u->bridge : u->port;

	for (size_t i = 0; i < ARRAY_LEN(v4); i++)
		uplink_copy_sysctl("ipv4", v4[i], from, to);
	/* To switch it off would remove what the switch has itself. */
	if (!u->own6)
		uplink_copy_sysctl("ipv6", "disable_ipv6", from, to);
	for (size_t i = 0; i < ARRAY_LEN(v6); i++)
		uplink_copy_sysctl("ipv6", v6[i], from, to);
}

/* What taps of guests want of a port, and what they wanted of one that leaves. */
static void settle(struct rtnl *r, const struct uplink *u)
{
	struct rtnl_link l;

	if (rtnl_link_get(r, u->port, &l) < 0)
		return;
	if (l.master)
		(void)tap_settle_port(r, u->name, &l);
	else
		(void)rtnl_mirror_sweep(r, l.index, true);
}

static int run_batch(struct rtnl *r, const struct uplink *u, bool forward)
{
	struct rtnl_batch b = { 0 };
	int e = uplink_batch(r, u, forward, &b);

	if (e == 0)
		e = rtnl_batch_run(r, &b);
	rtnl_batch_free(&b);
	return e;
}

/* What they answered through a port that is gone counts no longer. */
static void forget_gateways(struct rtnl *r, const struct uplink *u)
{
	for (size_t i = 0; i < u->gateway_count; i++)
		(void)rtnl_neigh_forget(r, if_nametoindex(u->bridge), u->gateways[i].family,
					u->gateways[i].addr);
}

int uplink_run(struct rtnl *r, const struct uplink *u, struct err *err)
{
	const char *verb = u->way == UPLINK_JOIN ? "add" : "remove";
	char why[128];
	int e;

	if (uplink_moves(u))
		copy_sysctls(u);
	e = run_batch(r, u, true);
	if (e < 0) {
		(void)snprintf(why, sizeof(why), "%s", rtnl_error(r, e));
		err_set(err, e, "cannot %s %s: %s", verb, u->port, why);
		if (run_batch(r, u, false) < 0)
			e = err_set(
				err, -ENOTRECOVERABLE,
				"cannot %s %s: %s; what was moved is not back yet: run 'vm init'",
				verb, u->port, why);
	} else if (u->stays) {
		forget_gateways(r, u);
	}
	settle(r, u);
	return e;
}

int uplink_undo(struct rtnl *r, const struct uplink *u, struct err *err)
{
	int e = run_batch(r, u, false);

	settle(r, u);
	return e < 0 ? err_set(err, e, "cannot put the addresses back on %s: %s", uplink_home(u),
			       rtnl_error(r, e))
		     : 0;
}

struct ask {
	const struct uplink_gateway *g;
	unsigned int index, state;
};

static int note_state(void *arg, const struct rtnl_neigh *n)
{
	struct ask *a = arg;

	if (n->index != a->index || n->family != a->g->family ||
	    memcmp(n->addr, a->g->addr, n->family == AF_INET ? 4 : 16) != 0)
		return 0;
	a->state = n->state;
	return 1;
}

/* True if the gateway is in one of the states; asks it if not. */
static bool is_there(struct rtnl *r, const struct uplink_gateway *g, unsigned int index,
		     unsigned int states)
{
	struct ask a = { .g = g, .index = index };

	if (rtnl_neigh_each(r, note_state, &a) == 1 && (a.state & states))
		return true;
	(void)rtnl_neigh_probe(r, index, g->family, g->addr);
	return false;
}

enum uplink_answer uplink_ask_before(struct rtnl *r, struct uplink *u, unsigned int ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
	unsigned int index = if_nametoindex(uplink_home(u));
	size_t missing;

	if (!u->gateway_count)
		return UPLINK_NO_GATEWAY;
	do {
		missing = 0;
		for (size_t i = 0; i < u->gateway_count; i++) {
			struct uplink_gateway *g = &u->gateways[i];

			if (!g->answered)
				g->answered = is_there(r, g, index, NUD_KNOWN);
			missing += !g->answered;
		}
		if (missing)
			poll(NULL, 0, ASK_POLL_MS);
	} while (missing && clock_mono_ns() < end);
	return missing == u->gateway_count ? UPLINK_SILENT : UPLINK_ANSWERS;
}

enum uplink_answer uplink_ask_after(struct rtnl *r, const struct uplink *u, unsigned int ms)
{
	uint64_t end = clock_mono_ns() + ms * NS_PER_MS;
	bool bridge = u->way == UPLINK_JOIN || u->stays;
	unsigned int index = if_nametoindex(bridge ? u->bridge : u->port);
	size_t asked, answers;

	do {
		asked = answers = 0;
		for (size_t i = 0; i < u->gateway_count; i++) {
			if (!u->gateways[i].answered)
				continue;
			asked++;
			answers += is_there(r, &u->gateways[i], index, NUD_REACHABLE);
		}
		if (!asked)
			return UPLINK_NO_GATEWAY;
		if (answers < asked)
			poll(NULL, 0, ASK_POLL_MS);
	} while (answers < asked && clock_mono_ns() < end);
	return answers < asked ? UPLINK_SILENT : UPLINK_ANSWERS;
}
