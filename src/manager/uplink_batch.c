/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/uplink_priv.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "util/err.h"

/* Where a batch takes things from and to. */
struct way {
	struct rtnl_batch *b;
	const struct uplink *u;
	unsigned int kept; /* index of the link in the kept messages */
	unsigned int from, to;
	char away_name[IF_NAMESIZE], home_name[IF_NAMESIZE];
	bool forward, no_dad;
};

/* A message is built with room for what is put behind it. */
static int put_attr(struct rtnl_msg *m, const struct nlattr *a)
{
	return mnl_attr_put_check(&m->h, sizeof(m->buf), mnl_attr_get_type(a),
				  mnl_attr_get_payload_len(a), mnl_attr_get_payload(a))
		       ? 0
		       : -E2BIG;
}

/* "em0" becomes "vm-public", "em0:1" "vm-public:1" if it fits. */
static bool put_label(struct rtnl_msg *m, const struct way *w, const char *label, bool at_home)
{
	char out[IF_NAMESIZE] = "";
	size_t home = strlen(w->home_name), away = strlen(w->away_name);

	memcpy(out, w->away_name, away);
	if (strncmp(label, w->home_name, home) == 0 && away + strlen(label + home) < sizeof(out))
		memcpy(out + away, label + home, strlen(label + home));
	return mnl_attr_put_strz_check(&m->h, sizeof(m->buf), IFA_LABEL, at_home ? label : out);
}

static int build_addr(struct rtnl_msg *m, const struct way *w, const struct nlmsghdr *h, bool add)
{
	const struct ifaddrmsg *in = mnl_nlmsg_get_payload(h);
	struct ifaddrmsg *i = rtnl_start(m, RTM_NEWADDR, 0, sizeof(*i));
	bool no_dad = in->ifa_family == AF_INET6 && (w->forward || w->no_dad);
	const struct nlattr *a;
	int e = 0;

	*i = *in;
	i->ifa_index = add ? w->to : w->from;
	mnl_attr_for_each(a, h, sizeof(*in))
	{
		unsigned int type = mnl_attr_get_type(a);

		/* An address that is still being checked cannot carry a connection. */
		if (type == IFA_FLAGS && no_dad) {
			if (!mnl_attr_put_u32_check(&m->h, sizeof(m->buf), IFA_FLAGS,
						    mnl_attr_get_u32(a) | IFA_F_NODAD))
				e = -E2BIG;
		} else if (type == IFA_LABEL) {
			if (!put_label(m, w, mnl_attr_get_str(a), add != w->forward))
				e = -E2BIG;
		} else if (e == 0) {
			e = put_attr(m, a);
		}
	}
	return e;
}

static int build_neigh(struct rtnl_msg *m, const struct nlmsghdr *h, unsigned int index)
{
	const struct ndmsg *in = mnl_nlmsg_get_payload(h);
	struct ndmsg *n = rtnl_start(m, RTM_NEWNEIGH, 0, sizeof(*n));
	const struct nlattr *a;
	int e = 0;

	*n = *in;
	n->ndm_ifindex = (int)index;
	mnl_attr_for_each(a, h, sizeof(*in))
	{
		unsigned int type = mnl_attr_get_type(a);

		if (e == 0 && (type == NDA_DST || type == NDA_LLADDR))
			e = put_attr(m, a);
	}
	return e;
}

static int put_hops(struct rtnl_msg *m, const struct nlattr *a, unsigned int kept,
		    unsigned int index)
{
	char *p = mnl_nlmsg_get_payload_tail(&m->h);
	struct rtnexthop *hop;
	int left = mnl_attr_get_payload_len(a), e = put_attr(m, a);

	if (e < 0)
		return e;
	for (hop = mnl_attr_get_payload((struct nlattr *)p); RTNH_OK(hop, left);
	     left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
		hop->rtnh_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
		if (hop->rtnh_ifindex == (int)kept)
			hop->rtnh_ifindex = (int)index;
	}
	return 0;
}

/* A route's lifetime is told in one attribute and set with another. */
static int put_expiry(struct rtnl_msg *m, const struct nlattr *a)
{
	struct rta_cacheinfo c = { 0 };
	long hz = 100; /* USER_HZ */

	if (mnl_attr_get_payload_len(a) < sizeof(c))
		return 0;
	memcpy(&c, mnl_attr_get_payload(a), sizeof(c));
	if (c.rta_expires <= 0)
		return 0;
	return mnl_attr_put_u32_check(&m->h, sizeof(m->buf), RTA_EXPIRES,
				      (uint32_t)(c.rta_expires / hz) + 1)
		       ? 0
		       : -E2BIG;
}

static int build_route(struct rtnl_msg *m, const struct nlmsghdr *h, unsigned int kept,
		       unsigned int index)
{
	const struct rtmsg *in = mnl_nlmsg_get_payload(h);
	struct rtmsg *out = rtnl_start(m, RTM_NEWROUTE, 0, sizeof(*out));
	const struct nlattr *a;
	int e = 0;

	*out = *in;
	out->rtm_flags &= RTNH_F_ONLINK | RTNH_F_PERVASIVE;
	mnl_attr_for_each(a, h, sizeof(*in))
	{
		unsigned int type = mnl_attr_get_type(a);

		if (e < 0)
			break;
		if (type == RTA_CACHEINFO)
			e = put_expiry(m, a);
		else if (type == RTA_MULTIPATH)
			e = put_hops(m, a, kept, index);
		else if (type == RTA_OIF && mnl_attr_get_u32(a) == kept)
			e = mnl_attr_put_u32_check(&m->h, sizeof(m->buf), RTA_OIF, index) ? 0
											  : -E2BIG;
		else
			e = put_attr(m, a);
	}
	return e;
}

bool uplink_is_route_of(const struct nlmsghdr *h, unsigned int index)
{
	const struct rtnexthop *hop;
	const struct nlattr *a;
	int left;

	mnl_attr_for_each(a, h, sizeof(struct rtmsg))
	{
		if (mnl_attr_get_type(a) == RTA_OIF && mnl_attr_get_u32(a) == index)
			return true;
		if (mnl_attr_get_type(a) != RTA_MULTIPATH)
			continue;
		left = mnl_attr_get_payload_len(a);
		for (hop = mnl_attr_get_payload(a); RTNH_OK(hop, left);
		     left -= RTNH_ALIGN(hop->rtnh_len), hop = RTNH_NEXT(hop)) {
			if (hop->rtnh_ifindex == (int)index)
				return true;
		}
	}
	return false;
}

static bool has_attr(const struct nlmsghdr *h, size_t skip, unsigned int type)
{
	const struct nlattr *a;

	mnl_attr_for_each(a, h, skip)
	{
		if (mnl_attr_get_type(a) == type)
			return true;
	}
	return false;
}

/* Routes behind a gateway need those to the gateway first. */
static bool has_gateway(const struct nlmsghdr *h)
{
	return has_attr(h, sizeof(struct rtmsg), RTA_GATEWAY) ||
	       has_attr(h, sizeof(struct rtmsg), RTA_VIA) ||
	       has_attr(h, sizeof(struct rtmsg), RTA_MULTIPATH);
}

static int family_of(const struct nlmsghdr *h)
{
	return ((const struct rtgenmsg *)mnl_nlmsg_get_payload(h))->rtgen_family;
}

/* What is wanted of the kept messages: a type, a family, the gateway's side. 0 matches all. */
struct pick {
	uint16_t type;
	int family, gateway; /* gateway: 1 without, 2 with */
	bool backwards, add;
};

static int add_one(struct way *w, const struct nlmsghdr *h, bool add)
{
	unsigned int index = add ? w->to : w->from;
	struct rtnl_msg m;
	int e;

	if (h->nlmsg_type == RTM_NEWADDR)
		e = build_addr(&m, w, h, add);
	else if (h->nlmsg_type == RTM_NEWNEIGH)
		e = build_neigh(&m, h, index);
	else
		e = build_route(&m, h, w->kept, index);
	if (!add) /* RTM_DEL* stand behind RTM_NEW* */
		m.h.nlmsg_type++;
	if (e == 0)
		e = rtnl_batch_add(w->b, &m.h,
				   !add				   ? 0
				   : h->nlmsg_type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_APPEND
				   : h->nlmsg_type == RTM_NEWADDR  ? NLM_F_CREATE | NLM_F_EXCL
								   : NLM_F_CREATE | NLM_F_REPLACE);
	return e;
}

static int add_picked(struct way *w, const struct pick *p)
{
	int e = 0;

	for (size_t i = 0; e == 0 && i < w->u->count; i++) {
		const struct nlmsghdr *h = w->u->msgs[p->backwards ? w->u->count - 1 - i : i];

		if (h->nlmsg_type != p->type || (p->family && family_of(h) != p->family) ||
		    (p->gateway && has_gateway(h) != (p->gateway == 2)) || (!p->add && !w->from))
			continue;
		e = add_one(w, h, p->add);
	}
	return e;
}

static int add_link(struct way *w, unsigned int index, const unsigned char *mac, int master)
{
	struct ifinfomsg *i;
	struct rtnl_msg m;

	i = rtnl_start(&m, RTM_NEWLINK, 0, sizeof(*i));
	i->ifi_index = (int)index;
	if (mac)
		mnl_attr_put(&m.h, IFLA_ADDRESS, RTNL_MAC_LEN, mac);
	if (master >= 0)
		mnl_attr_put_u32(&m.h, IFLA_MASTER, (uint32_t)master);
	return rtnl_batch_add(w->b, &m.h, 0);
}

static int add_up(struct way *w, unsigned int index)
{
	struct ifinfomsg *i;
	struct rtnl_msg m;

	i = rtnl_start(&m, RTM_NEWLINK, 0, sizeof(*i));
	i->ifi_index = (int)index;
	i->ifi_change = i->ifi_flags = IFF_UP;
	return rtnl_batch_add(w->b, &m.h, 0);
}

static int add_mtu(struct way *w, unsigned int index)
{
	struct ifinfomsg *i;
	struct rtnl_msg m;

	if (!w->u->port_mtu)
		return 0;
	i = rtnl_start(&m, RTM_NEWLINK, 0, sizeof(*i));
	i->ifi_index = (int)index;
	mnl_attr_put_u32(&m.h, IFLA_MTU, w->forward ? w->u->port_mtu : w->u->mtu);
	return rtnl_batch_add(w->b, &m.h, 0);
}

/* The port goes in or out; a bridge with the host's addresses has the port's MAC address. */
static int add_links(struct way *w, const struct rtnl_link *port, const struct rtnl_link *bridge)
{
	bool join = (w->u->way == UPLINK_JOIN) == w->forward;
	int e = add_up(w, join ? bridge->index : port->index);

	if (e == 0 && join)
		e = add_up(w, port->index);
	if (e == 0)
		e = add_mtu(w, port->index);
	if (e == 0)
		e = add_link(w, port->index, NULL, join ? (int)bridge->index : 0);
	if (e == 0 && uplink_moves(w->u) && w->u->way == UPLINK_JOIN)
		e = add_link(w, bridge->index, w->forward ? w->u->port_mac : w->u->mac, -1);
	return e;
}

/* A route may be bound to an IPv6 address only when that is not being checked any more. */
static bool needs_no_dad(const struct uplink *u)
{
	for (size_t i = 0; i < u->count; i++) {
		if (u->msgs[i]->nlmsg_type == RTM_NEWROUTE && family_of(u->msgs[i]) == AF_INET6 &&
		    has_attr(u->msgs[i], sizeof(struct rtmsg), RTA_PREFSRC))
			return true;
	}
	return false;
}

/*
 * Addresses are at the new place before they leave the old one: what depends on them stays. The kernel lists IPv6
 * addresses latest first.
 */
static const struct pick picks[] = {
	{ .type = RTM_NEWADDR, .family = AF_INET, .add = true },
	{ .type = RTM_NEWADDR, .family = AF_INET6, .add = true, .backwards = true },
	{ .type = RTM_NEWROUTE, .backwards = true },
	{ .type = RTM_NEWROUTE, .gateway = 1, .add = true },
	{ .type = RTM_NEWROUTE, .gateway = 2, .add = true },
	{ .type = RTM_NEWNEIGH, .add = true },
	{ .type = RTM_NEWNEIGH },
	{ .type = RTM_NEWADDR, .backwards = true },
};

int uplink_batch(struct rtnl *r, const struct uplink *u, bool forward, struct rtnl_batch *b)
{
	struct way w = { .b = b, .u = u, .forward = forward, .no_dad = needs_no_dad(u) };
	struct rtnl_link port = { 0 }, bridge = { 0 };
	const struct rtnl_link *home = u->way == UPLINK_JOIN ? &port : &bridge;
	const struct rtnl_link *away = u->way == UPLINK_JOIN ? &bridge : &port;
	int port_e = rtnl_link_get(r, u->port, &port);
	int e = rtnl_link_get(r, u->bridge, &bridge);

	/* Somebody may have removed the one that has nothing any more. */
	if (!home->index || (forward && !away->index))
		return port_e < 0 ? port_e : e;
	w.kept = home->index;
	w.from = forward ? home->index : away->index;
	w.to = forward ? away->index : home->index;
	memcpy(w.home_name, home->name, sizeof(w.home_name));
	memcpy(w.away_name, away->name, sizeof(w.away_name));
	e = !away->index ? 0 : add_links(&w, &port, &bridge);
	for (size_t i = 0; e == 0 && i < sizeof(picks) / sizeof(picks[0]); i++)
		e = add_picked(&w, &picks[i]);
	return e;
}
