/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/rtnl_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "util/str.h"

static size_t addr_len(int family)
{
	return family == AF_INET ? 4 : 16;
}

int rtnl_addr_parse(const char *cidr, struct rtnl_addr *out)
{
	char text[INET6_ADDRSTRLEN];
	const char *slash = strchr(cidr, '/');
	struct rtnl_addr a = { .family = strchr(cidr, ':') ? AF_INET6 : AF_INET };
	uint64_t plen;

	if (!slash || (size_t)(slash - cidr) >= sizeof(text) || slash[1] < '0' || slash[1] > '9' ||
	    str_u64(slash + 1, &plen) < 0 || plen > 8 * addr_len(a.family) || plen == 0)
		return -EINVAL;
	memcpy(text, cidr, (size_t)(slash - cidr));
	text[slash - cidr] = '\0';
	if (inet_pton(a.family, text, a.addr) != 1)
		return -EINVAL;
	a.plen = (unsigned int)plen;
	*out = a;
	return 0;
}

/* The broadcast address of an IPv4 network (RFC 919); networks of up to two hosts have none. */
static void put_broadcast(struct rtnl_msg *m, const struct rtnl_addr *a)
{
	uint32_t addr;

	if (a->family != AF_INET || a->plen > 30)
		return;
	memcpy(&addr, a->addr, sizeof(addr));
	addr |= htonl(0xffffffffu >> a->plen);
	mnl_attr_put_u32(&m->h, IFA_BROADCAST, addr);
}

static int change_addr(struct rtnl *r, uint16_t type, unsigned int index, const char *cidr)
{
	struct rtnl_addr a;
	struct rtnl_msg m;
	struct ifaddrmsg *i;
	int e = rtnl_addr_parse(cidr, &a);

	if (e < 0)
		return e;
	i = rtnl_start(&m, type, type == RTM_NEWADDR ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(*i));
	i->ifa_family = (unsigned char)a.family;
	i->ifa_prefixlen = (unsigned char)a.plen;
	i->ifa_index = index;
	mnl_attr_put(&m.h, IFA_LOCAL, addr_len(a.family), a.addr);
	mnl_attr_put(&m.h, IFA_ADDRESS, addr_len(a.family), a.addr);
	if (type == RTM_NEWADDR)
		put_broadcast(&m, &a);
	return rtnl_talk(r, &m);
}

int rtnl_addr_add(struct rtnl *r, unsigned int index, const char *cidr)
{
	return change_addr(r, RTM_NEWADDR, index, cidr);
}

int rtnl_addr_delete(struct rtnl *r, unsigned int index, const char *cidr)
{
	return change_addr(r, RTM_DELADDR, index, cidr);
}

struct each_addr {
	int (*fn)(void *arg, const struct rtnl_addr *a);
	void *arg;
};

static int on_addr(void *arg, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *i = mnl_nlmsg_get_payload(h);
	struct each_addr *e = arg;
	struct rtnl_addr out = { .index = i->ifa_index,
				 .family = i->ifa_family,
				 .plen = i->ifa_prefixlen,
				 .scope = i->ifa_scope,
				 .flags = i->ifa_flags };
	const struct nlattr *a;
	bool local = false;

	if (h->nlmsg_type != RTM_NEWADDR || (out.family != AF_INET && out.family != AF_INET6))
		return 0;
	mnl_attr_for_each(a, h, sizeof(*i))
	{
		unsigned int type = mnl_attr_get_type(a);

		if (type == IFA_FLAGS)
			out.flags = mnl_attr_get_u32(a);
		if ((type == IFA_LOCAL || (type == IFA_ADDRESS && !local)) &&
		    mnl_attr_get_payload_len(a) == addr_len(out.family)) {
			memcpy(out.addr, mnl_attr_get_payload(a), addr_len(out.family));
			local = type == IFA_LOCAL;
		}
	}
	return e->fn(e->arg, &out);
}

int rtnl_addr_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_addr *a), void *arg)
{
	struct each_addr e = { .fn = fn, .arg = arg };

	return rtnl_dump(r, RTM_GETADDR, AF_UNSPEC, on_addr, &e);
}

struct each_neigh {
	int (*fn)(void *arg, const struct rtnl_neigh *n);
	void *arg;
};

static int on_neigh(void *arg, const struct nlmsghdr *h)
{
	const struct ndmsg *n = mnl_nlmsg_get_payload(h);
	struct each_neigh *e = arg;
	struct rtnl_neigh out = { .index = (unsigned int)n->ndm_ifindex,
				  .family = n->ndm_family,
				  .state = n->ndm_state };
	const struct nlattr *a;

	if (h->nlmsg_type != RTM_NEWNEIGH || (out.family != AF_INET && out.family != AF_INET6))
		return 0;
	mnl_attr_for_each(a, h, sizeof(*n))
	{
		unsigned int type = mnl_attr_get_type(a);

		if (type == NDA_DST && mnl_attr_get_payload_len(a) == addr_len(out.family))
			memcpy(out.addr, mnl_attr_get_payload(a), addr_len(out.family));
		if (type == NDA_LLADDR && mnl_attr_get_payload_len(a) == sizeof(out.mac))
			memcpy(out.mac, mnl_attr_get_payload(a), sizeof(out.mac));
	}
	return e->fn(e->arg, &out);
}

int rtnl_neigh_each(struct rtnl *r, int (*fn)(void *arg, const struct rtnl_neigh *n), void *arg)
{
	struct each_neigh e = { .fn = fn, .arg = arg };

	return rtnl_dump(r, RTM_GETNEIGH, AF_UNSPEC, on_neigh, &e);
}

static struct ndmsg *start_neigh(struct rtnl_msg *m, uint16_t type, uint16_t flags,
				 unsigned int index, int family)
{
	struct ndmsg *n = rtnl_start(m, type, flags, sizeof(*n));

	n->ndm_family = (unsigned char)family;
	n->ndm_ifindex = (int)index;
	return n;
}

int rtnl_neigh_probe(struct rtnl *r, unsigned int index, int family, const unsigned char *addr)
{
	struct rtnl_msg m;
	struct ndmsg *n =
		start_neigh(&m, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, index, family);

	n->ndm_state = NUD_NONE;
	n->ndm_flags = NTF_USE;
	mnl_attr_put(&m.h, NDA_DST, addr_len(family), addr);
	return rtnl_talk(r, &m);
}

int rtnl_neigh_forget(struct rtnl *r, unsigned int index, int family, const unsigned char *addr)
{
	struct rtnl_msg m;

	(void)start_neigh(&m, RTM_DELNEIGH, 0, index, family);
	mnl_attr_put(&m.h, NDA_DST, addr_len(family), addr);
	return rtnl_talk(r, &m);
}
