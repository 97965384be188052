/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/guestconf.h"
#include "manager/nat.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

/* A network in host byte order. */
struct range {
	uint32_t net, mask;
	bool own; /* of a switch of ours */
};

/* Networks that this host reaches some way. */
struct taken {
	struct range *ranges;
	size_t n;
	bool failed;
	uint16_t *ids6; /* subnets of our /48 that other switches have */
	size_t n_ids6;
	unsigned char prefix6[6];
	const struct gconf *conf;
	const char *name;
};

static uint32_t mask_of(unsigned plen)
{
	return plen ? ~0u << (32 - plen) : 0;
}

/* Whether a network is part of a switch of ours: its routes are. */
static bool is_own(const struct taken *t, uint32_t net, uint32_t mask)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->ranges[i].own && (mask & t->ranges[i].mask) == t->ranges[i].mask &&
		    (net & t->ranges[i].mask) == t->ranges[i].net)
			return true;
	}
	return false;
}

static void take(struct taken *t, uint32_t addr, unsigned plen, bool own)
{
	uint32_t mask = mask_of(plen > 32 ? 32 : plen);
	struct range *ranges = realloc(t->ranges, (t->n + 1) * sizeof(*ranges));

	if (!ranges) {
		t->failed = true;
		return;
	}
	t->ranges = ranges;
	ranges[t->n] = (struct range){ .net = addr & mask, .mask = mask };
	ranges[t->n].own = own || is_own(t, addr & mask, mask);
	t->n++;
}

/* True if the network and one that is taken have addresses in common. */
static bool is_taken(const struct taken *t, uint32_t net, unsigned plen, bool with_own)
{
	for (size_t i = 0; i < t->n; i++) {
		uint32_t mask = t->ranges[i].mask & mask_of(plen);

		if ((t->ranges[i].net & mask) == (net & mask) && (with_own || !t->ranges[i].own))
			return true;
	}
	return false;
}

/*
 * Routes of all tables, the host's own addresses among them. The default route leads anywhere, and so do
 * the halves and quarters of it that VPNs set.
 */
#define PLEN_MIN 8

static int take_route(void *arg, const struct nlmsghdr *h)
{
	const struct rtmsg *m = NLMSG_DATA(h);
	int len = (int)RTM_PAYLOAD(h);
	uint32_t be;

	if (m->rtm_family != AF_INET || m->rtm_dst_len < PLEN_MIN)
		return 0;
	for (const struct rtattr *a = RTM_RTA(m); RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		if (a->rta_type == RTA_DST && RTA_PAYLOAD(a) == sizeof(be)) {
			memcpy(&be, RTA_DATA(a), sizeof(be));
			take(arg, ntohl(be), m->rtm_dst_len, false);
		}
	}
	return 0;
}

/* Name servers behind the default route must not vanish behind the new switch. */
static void take_servers(struct taken *t)
{
	char *text, server[64];
	struct in_addr a;
	size_t len;

	if (fd_read_file("/etc/resolv.conf", 1 << 16, &text, &len) < 0)
		return;
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		if (sscanf(p, " nameserver %63s", server) == 1 &&
		    inet_pton(AF_INET, server, &a) == 1)
			take(t, ntohl(a.s_addr), 32, false);
	}
	free(text);
}

/* Switches that are down have no route, but keep their addresses. */
static int take_switch(void *arg, const char *name)
{
	struct taken *t = arg;
	const char *addr = gconf_getf(t->conf, "addr_%s", name);
	const char *addr6 = gconf_getf(t->conf, "addr6_%s", name);
	struct rtnl_addr a;
	uint16_t *ids;
	uint32_t be;

	if (addr && rtnl_addr_parse(addr, &a) == 0 && a.family == AF_INET) {
		memcpy(&be, a.addr, sizeof(be));
		take(t, ntohl(be), a.plen, true);
	}
	if (!addr6 || rtnl_addr_parse(addr6, &a) < 0 || a.family != AF_INET6 ||
	    memcmp(a.addr, t->prefix6, sizeof(t->prefix6)) != 0)
		return 0;
	ids = realloc(t->ids6, (t->n_ids6 + 1) * sizeof(*ids));
	t->failed = t->failed || !ids;
	if (ids) {
		t->ids6 = ids;
		ids[t->n_ids6++] = (uint16_t)(a.addr[6] << 8 | a.addr[7]);
	}
	return 0;
}

/*
 * Private networks (RFC 1918) to choose from. One of which the host knows anything goes last: cloud
 * providers split a /16 into networks that their hosts reach by the default route.
 */
static const uint32_t pools[] = { 0xac1f0000 /* 172.31/16 */, 0xc0a80000 /* 192.168/16 */,
				  0x0ad50000 /* 10.213/16 */ };

static int choose_in(const struct taken *t, uint32_t pool, uint32_t *out)
{
	for (uint32_t i = 1; i < 255; i++) {
		/* The first of 192.168 are what home routers give away. */
		uint32_t net = pool | ((pool == pools[1] ? (i + 99) % 256 : i) << 8);

		if (!is_taken(t, net, 24, true)) {
			*out = net;
			return 0;
		}
	}
	return -EADDRNOTAVAIL;
}

static int choose_net(const struct taken *t, uint32_t *out)
{
	for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
		if (!is_taken(t, pools[i], 16, false) && choose_in(t, pools[i], out) == 0)
			return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(pools); i++) {
		if (choose_in(t, pools[i], out) == 0)
			return 0;
	}
	return -EADDRNOTAVAIL;
}

/* Bytes that are always the same for a text on this host, and others on other hosts. */
static int hash(const char *text, unsigned char out[EVP_MAX_MD_SIZE])
{
	char host[512] = "khyve ", *id = NULL;
	size_t len;
	int n;

	if (fd_read_file("/etc/machine-id", 256, &id, &len) < 0 &&
	    gethostname(host, sizeof(host) - 1) < 0)
		return -errno;
	n = snprintf(host + strlen(host), sizeof(host) - strlen(host), "%s%s", id ? id : "", text);
	free(id);
	return n >= 0 && EVP_Digest(host, strlen(host), out, NULL, EVP_sha256(), NULL) == 1 ? 0
											    : -EIO;
}

/* RFC 4193 s3.1: fd, 40 bits of the host, 16 bits of the switch. */
static int choose_net6(const struct taken *t, char out[NAT_CIDR_MAX])
{
	unsigned char h[EVP_MAX_MD_SIZE] = { 0 };
	struct in6_addr a = { 0 };
	char text[INET6_ADDRSTRLEN];
	uint16_t id;
	int n, r = hash(t->name, h);

	if (r < 0)
		return r;
	id = (uint16_t)(h[0] << 8 | h[1]);
	for (size_t i = 0; i < t->n_ids6; i++) {
		if (t->ids6[i] == id) {
			id++;
			i = (size_t)-1;
		}
	}
	memcpy(a.s6_addr, t->prefix6, sizeof(t->prefix6));
	a.s6_addr[6] = (unsigned char)(id >> 8);
	a.s6_addr[7] = (unsigned char)id;
	a.s6_addr[15] = 1;
	inet_ntop(AF_INET6, &a, text, sizeof(text));
	n = snprintf(out, NAT_CIDR_MAX, "%s/64", text);
	return n > 0 && n < NAT_CIDR_MAX ? 0 : -EOVERFLOW;
}

/* A host may lack IPv6, or give it to no new interface. */
static bool has_ipv6(void)
{
	char *text;
	size_t len;
	bool on;

	if (fd_read_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", 64, &text, &len) < 0)
		return false;
	on = text[0] == '0';
	free(text);
	return on;
}

static int make_prefix6(unsigned char prefix[6])
{
	unsigned char h[EVP_MAX_MD_SIZE];
	int r = hash("", h);

	if (r < 0)
		return r;
	prefix[0] = 0xfd;
	memcpy(prefix + 1, h, 5);
	return 0;
}

static int take_all(struct taken *t, const struct gconf *conf, struct err *err)
{
	struct rtnl *rtnl;
	int r = make_prefix6(t->prefix6);

	if (r < 0)
		return err_set(err, r, "cannot make a prefix for IPv6: %s", strerror(-r));
	t->conf = conf;
	switch_each(conf, take_switch, t);
	take_servers(t);
	r = rtnl_open(&rtnl, err);
	if (r < 0)
		return r;
	r = rtnl_dump(rtnl, RTM_GETROUTE, AF_INET, take_route, t);
	if (r < 0)
		err_set(err, r, "cannot read the routes: %s", rtnl_error(rtnl, r));
	rtnl_close(rtnl);
	return r == 0 && t->failed ? err_set(err, -ENOMEM, K(080) "out of memory") : r;
}

int nat_choose(const struct store *s, const char *name, char addr[NAT_CIDR_MAX],
	       char addr6[NAT_CIDR_MAX], struct err *err)
{
	struct taken t = { .name = name };
	struct gconf *conf = NULL;
	struct in_addr a;
	uint32_t net = 0;
	char text[INET_ADDRSTRLEN];
	int r = switch_load(s, &conf, err);

	if (r == 0)
		r = take_all(&t, conf, err);
	if (r == 0) {
		r = choose_net(&t, &net);
		if (r < 0)
			err_set(err, r,
				K(072) "no private network is free on this host; choose one: vm switch "
				       "create -t nat -a ADDRESS/24 %s",
				name);
	}
	if (r == 0) {
		a.s_addr = htonl(net | 1);
		if (snprintf(addr, NAT_CIDR_MAX, "%s/24",
			     inet_ntop(AF_INET, &a, text, sizeof(text))) < 0)
			r = -EOVERFLOW;
	}
	if (r == 0 && !has_ipv6()) {
		addr6[0] = '\0';
	} else if (r == 0) {
		r = choose_net6(&t, addr6);
		if (r < 0)
			err_set(err, r, "cannot make a prefix for IPv6: %s", strerror(-r));
	}
	free(t.ranges);
	free(t.ids6);
	gconf_free(conf);
	return r;
}
