/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/rtnl_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "util/macros.h"
#include "util/str.h"

#define VXLAN_PORT 4789 /* RFC 7348 s8; Linux' own default is 8472 */

static void parse_data(const struct nlattr *data, struct rtnl_link *l)
{
	const struct nlattr *a;

	mnl_attr_for_each_nested(a, data)
	{
		unsigned int type = mnl_attr_get_type(a);

		if (strcmp(l->kind, "vlan") == 0 && type == IFLA_VLAN_ID)
			l->vlan = mnl_attr_get_u16(a);
		else if (strcmp(l->kind, "bridge") == 0 && type == IFLA_BR_VLAN_FILTERING)
			l->vlan_filtering = mnl_attr_get_u8(a) != 0;
	}
}

static void parse_info(const struct nlattr *info, struct rtnl_link *l)
{
	const struct nlattr *a, *data = NULL;

	mnl_attr_for_each_nested(a, info)
	{
		if (mnl_attr_get_type(a) == IFLA_INFO_KIND)
			(void)str_copy(l->kind, sizeof(l->kind), mnl_attr_get_str(a));
		else if (mnl_attr_get_type(a) == IFLA_INFO_DATA)
			data = a;
	}
	if (data)
		parse_data(data, l);
}

static void parse_attr(const struct nlattr *a, struct rtnl_link *l)
{
	struct rtnl_link_stats64 stats = { 0 };

	switch (mnl_attr_get_type(a)) {
	case IFLA_IFNAME:
		(void)str_copy(l->name, sizeof(l->name), mnl_attr_get_str(a));
		break;
	case IFLA_IFALIAS:
		(void)str_copy(l->alias, sizeof(l->alias), mnl_attr_get_str(a));
		break;
	case IFLA_ADDRESS:
		if (mnl_attr_get_payload_len(a) == sizeof(l->mac))
			memcpy(l->mac, mnl_attr_get_payload(a), sizeof(l->mac));
		break;
	case IFLA_MTU:
		l->mtu = mnl_attr_get_u32(a);
		break;
	case IFLA_MASTER:
		l->master = mnl_attr_get_u32(a);
		break;
	case IFLA_LINK:
		l->lower = mnl_attr_get_u32(a);
		break;
	case IFLA_LINKINFO:
		parse_info(a, l);
		break;
	case IFLA_STATS64:
		memcpy(&stats, mnl_attr_get_payload(a),
		       MIN(mnl_attr_get_payload_len(a), sizeof(stats)));
		l->rx_bytes = stats.rx_bytes;
		l->tx_bytes = stats.tx_bytes;
		break;
	default:
		break;
	}
}

static void parse_link(const struct nlmsghdr *h, struct rtnl_link *l)
{
	const struct ifinfomsg *i = mnl_nlmsg_get_payload(h);
	const struct nlattr *a;

	*l = (struct rtnl_link){ .index = (unsigned int)i->ifi_index,
				 .flags = i->ifi_flags,
				 .type = i->ifi_type };
	mnl_attr_for_each(a, h, sizeof(*i)) parse_attr(a, l);
}

struct each {
	int (*fn)(void *arg, const struct rtnl_link *l);
	void *arg;
};

static int on_link(void *arg, const struct nlmsghdr *h)
{
	struct each *e = arg;
	struct rtnl_link l;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	parse_link(h, &l);
	return e->fn(e->arg, &l);
}

int rtnl_link_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_link *l), void *arg)
{
	struct each e = { .fn = fn, .arg = arg };

	return rtnl_dump(r, RTM_GETLINK, AF_UNSPEC, on_link, &e);
}

static void start_link(struct rtnl_msg *m, uint16_t type, uint16_t flags, unsigned int index)
{
	struct ifinfomsg *i = rtnl_start(m, type, flags, sizeof(*i));

	i->ifi_index = (int)index;
}

static int take_link(void *arg, const struct nlmsghdr *h)
{
	if (h->nlmsg_type == RTM_NEWLINK)
		parse_link(h, arg);
	return 0;
}

static int find_link(struct rtnl *r, const char *name, unsigned int index, struct rtnl_link *out)
{
	struct rtnl_link l = { 0 };
	struct rtnl_msg m;
	int e;

	start_link(&m, RTM_GETLINK, 0, index);
	if (name)
		mnl_attr_put_strz(&m.h, IFLA_IFNAME, name);
	e = rtnl_dump_msg(r, &m, take_link, &l);
	if (e == 0 && !l.index)
		e = -ENODEV;
	if (e == 0)
		*out = l;
	return e;
}

int rtnl_link_get(struct rtnl *r, const char *name, struct rtnl_link *out)
{
	return strlen(name) < IF_NAMESIZE && *name ? find_link(r, name, 0, out) : -ENODEV;
}

int rtnl_link_index(struct rtnl *r, unsigned int index, struct rtnl_link *out)
{
	return index ? find_link(r, NULL, index, out) : -ENODEV;
}

/* RTM_NEWLINK of a kind, up to its data. Returns the open nests. */
static void start_new(struct rtnl_msg *m, const char *name, const char *kind,
		      struct nlattr *nests[2])
{
	start_link(m, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
	mnl_attr_put_strz(&m->h, IFLA_IFNAME, name);
	nests[0] = mnl_attr_nest_start(&m->h, IFLA_LINKINFO);
	mnl_attr_put_strz(&m->h, IFLA_INFO_KIND, kind);
	nests[1] = mnl_attr_nest_start(&m->h, IFLA_INFO_DATA);
}

static int finish_new(struct rtnl *r, struct rtnl_msg *m, struct nlattr *nests[2])
{
	mnl_attr_nest_end(&m->h, nests[1]);
	mnl_attr_nest_end(&m->h, nests[0]);
	return rtnl_talk(r, m);
}

int rtnl_bridge_new(struct rtnl *r, const char *name, const unsigned char *mac)
{
	struct nlattr *nests[2];
	struct rtnl_msg m;

	start_new(&m, name, "bridge", nests);
	mnl_attr_put_u32(&m.h, IFLA_BR_STP_STATE, 0);
	mnl_attr_nest_end(&m.h, nests[1]);
	mnl_attr_nest_end(&m.h, nests[0]);
	if (mac)
		mnl_attr_put(&m.h, IFLA_ADDRESS, RTNL_MAC_LEN, mac);
	return rtnl_talk(r, &m);
}

int rtnl_vlan_new(struct rtnl *r, const char *name, unsigned int lower, unsigned int id)
{
	struct nlattr *nests[2];
	struct rtnl_msg m;

	start_new(&m, name, "vlan", nests);
	mnl_attr_put_u16(&m.h, IFLA_VLAN_ID, (uint16_t)id);
	mnl_attr_nest_end(&m.h, nests[1]);
	mnl_attr_nest_end(&m.h, nests[0]);
	mnl_attr_put_u32(&m.h, IFLA_LINK, lower);
	return rtnl_talk(r, &m);
}

int rtnl_vxlan_new(struct rtnl *r, const char *name, unsigned int lower, unsigned int id,
		   struct in_addr group)
{
	struct nlattr *nests[2];
	struct rtnl_msg m;

	start_new(&m, name, "vxlan", nests);
	mnl_attr_put_u32(&m.h, IFLA_VXLAN_ID, id);
	mnl_attr_put_u32(&m.h, IFLA_VXLAN_LINK, lower);
	mnl_attr_put_u32(&m.h, IFLA_VXLAN_GROUP, group.s_addr);
	mnl_attr_put_u16(&m.h, IFLA_VXLAN_PORT, htons(VXLAN_PORT));
	return finish_new(r, &m, nests);
}

int rtnl_link_delete(struct rtnl *r, unsigned int index)
{
	struct rtnl_msg m;

	start_link(&m, RTM_DELLINK, 0, index);
	return rtnl_talk(r, &m);
}

int rtnl_set_up(struct rtnl *r, unsigned int index, bool up)
{
	struct rtnl_msg m;
	struct ifinfomsg *i = rtnl_start(&m, RTM_NEWLINK, 0, sizeof(*i));

	i->ifi_index = (int)index;
	i->ifi_change = IFF_UP;
	i->ifi_flags = up ? IFF_UP : 0;
	return rtnl_talk(r, &m);
}

int rtnl_set_mtu(struct rtnl *r, unsigned int index, unsigned int mtu)
{
	struct rtnl_msg m;

	start_link(&m, RTM_NEWLINK, 0, index);
	mnl_attr_put_u32(&m.h, IFLA_MTU, mtu);
	return rtnl_talk(r, &m);
}

int rtnl_set_mac(struct rtnl *r, unsigned int index, const unsigned char *mac)
{
	struct rtnl_msg m;

	start_link(&m, RTM_NEWLINK, 0, index);
	mnl_attr_put(&m.h, IFLA_ADDRESS, RTNL_MAC_LEN, mac);
	return rtnl_talk(r, &m);
}

int rtnl_set_alias(struct rtnl *r, unsigned int index, const char *alias)
{
	struct rtnl_msg m;

	if (strlen(alias) >= RTNL_ALIAS_MAX)
		return -ENAMETOOLONG;
	start_link(&m, RTM_NEWLINK, 0, index);
	mnl_attr_put_str(&m.h, IFLA_IFALIAS, alias);
	return rtnl_talk(r, &m);
}

int rtnl_set_master(struct rtnl *r, unsigned int index, unsigned int master)
{
	struct rtnl_msg m;

	start_link(&m, RTM_NEWLINK, 0, index);
	mnl_attr_put_u32(&m.h, IFLA_MASTER, master);
	return rtnl_talk(r, &m);
}

int rtnl_set_isolated(struct rtnl *r, unsigned int index, bool isolated)
{
	struct rtnl_msg m;
	struct ifinfomsg *i = rtnl_start(&m, RTM_SETLINK, 0, sizeof(*i));
	struct nlattr *nest;

	i->ifi_family = AF_BRIDGE;
	i->ifi_index = (int)index;
	nest = mnl_attr_nest_start(&m.h, IFLA_PROTINFO);
	mnl_attr_put_u8(&m.h, IFLA_BRPORT_ISOLATED, isolated);
	mnl_attr_nest_end(&m.h, nest);
	return rtnl_talk(r, &m);
}

int rtnl_set_no_ipv6(struct rtnl *r, unsigned int index)
{
	struct nlattr *spec, *inet6;
	struct rtnl_msg m;

	start_link(&m, RTM_NEWLINK, 0, index);
	spec = mnl_attr_nest_start(&m.h, IFLA_AF_SPEC);
	inet6 = mnl_attr_nest_start(&m.h, AF_INET6);
	mnl_attr_put_u8(&m.h, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	mnl_attr_nest_end(&m.h, inet6);
	mnl_attr_nest_end(&m.h, spec);
	return rtnl_talk(r, &m);
}

int rtnl_set_vlan_filtering(struct rtnl *r, unsigned int bridge, bool on)
{
	struct nlattr *info, *data;
	struct rtnl_msg m;

	start_link(&m, RTM_NEWLINK, 0, bridge);
	info = mnl_attr_nest_start(&m.h, IFLA_LINKINFO);
	mnl_attr_put_strz(&m.h, IFLA_INFO_KIND, "bridge");
	data = mnl_attr_nest_start(&m.h, IFLA_INFO_DATA);
	mnl_attr_put_u8(&m.h, IFLA_BR_VLAN_FILTERING, on);
	mnl_attr_nest_end(&m.h, data);
	mnl_attr_nest_end(&m.h, info);
	return rtnl_talk(r, &m);
}

static void put_vlan(struct rtnl_msg *m, unsigned int id, unsigned int flags)
{
	struct bridge_vlan_info v = { .flags = (uint16_t)flags, .vid = (uint16_t)id };

	mnl_attr_put(&m->h, IFLA_BRIDGE_VLAN_INFO, sizeof(v), &v);
}

static int change_vlans(struct rtnl *r, uint16_t type, unsigned int port, unsigned int ids[2],
			unsigned int flags)
{
	struct rtnl_msg m;
	struct ifinfomsg *i = rtnl_start(&m, type, 0, sizeof(*i));
	struct nlattr *spec;

	i->ifi_family = AF_BRIDGE;
	i->ifi_index = (int)port;
	spec = mnl_attr_nest_start(&m.h, IFLA_AF_SPEC);
	if (ids[0] == ids[1]) {
		put_vlan(&m, ids[0], flags);
	} else {
		put_vlan(&m, ids[0], flags | BRIDGE_VLAN_INFO_RANGE_BEGIN);
		put_vlan(&m, ids[1], flags | BRIDGE_VLAN_INFO_RANGE_END);
	}
	mnl_attr_nest_end(&m.h, spec);
	return rtnl_talk(r, &m);
}

int rtnl_port_vlan(struct rtnl *r, unsigned int port, unsigned int first, unsigned int last,
		   bool pvid)
{
	unsigned int ids[] = { first, last };

	return change_vlans(r, RTM_SETLINK, port, ids,
			    pvid ? BRIDGE_VLAN_INFO_PVID | BRIDGE_VLAN_INFO_UNTAGGED : 0);
}

int rtnl_port_vlan_delete(struct rtnl *r, unsigned int port, unsigned int id)
{
	unsigned int ids[] = { id, id };

	return change_vlans(r, RTM_DELLINK, port, ids, 0);
}
