/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/switch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "manager/file.h"
#include "manager/rtnl.h"
#include "manager/tap.h"
#include "manager/uplink.h"
#include "util/err.h"

/* Longer names do not fit behind "vm-". */
#define SHORT_NAME 12
#define BRIDGES_MAX 1000

struct by_alias {
	char alias[STORE_NAME_MAX + 8];
	struct rtnl_link *out;
};

static int has_alias(void *arg, const struct rtnl_link *l)
{
	struct by_alias *b = arg;

	if (strcmp(l->kind, "bridge") != 0 || strcmp(l->alias, b->alias) != 0)
		return 0;
	*b->out = *l;
	return 1;
}

int switch_bridge(struct rtnl *r, const struct switch_conf *c, struct rtnl_link *out)
{
	struct by_alias b = { .out = out };
	struct rtnl_link l = { 0 };
	char name[IF_NAMESIZE];
	int e;

	if (c->type != SWITCH_MANUAL && strlen(c->name) > SHORT_NAME) {
		e = file_path(b.alias, sizeof(b.alias), "vm/%s", c->name);
		if (e == 0)
			e = rtnl_link_each(r, has_alias, &b);
		return e == 1 ? 0 : e == 0 ? -ENODEV : e;
	}
	if (c->type == SWITCH_MANUAL)
		e = file_path(name, sizeof(name), "%s", c->bridge);
	else
		e = file_path(name, sizeof(name), "vm-%s", c->name);
	if (e == 0)
		e = rtnl_link_get(r, name, &l);
	if (e == 0 && strcmp(l.kind, "bridge") != 0)
		e = -EMEDIUMTYPE;
	if (e == 0)
		*out = l;
	return e;
}

/* A name of our own, and one that does not follow the ports' as they come and go. */
static int random_mac(unsigned char *mac)
{
	if (getrandom(mac, RTNL_MAC_LEN, 0) != RTNL_MAC_LEN)
		return -EIO;
	mac[0] = (unsigned char)((mac[0] & 0xfc) | 0x02); /* locally administered, not a group */
	return 0;
}

/* vm-NAME, or the first free vmbrN. */
static int make_bridge(struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	unsigned char mac[RTNL_MAC_LEN];
	char name[IF_NAMESIZE], alias[STORE_NAME_MAX + 8];
	struct rtnl_link l = { 0 };
	int e = random_mac(mac);

	if (e == 0)
		e = file_path(alias, sizeof(alias), "vm/%s", c->name);
	if (e == 0 && strlen(c->name) <= SHORT_NAME) {
		e = file_path(name, sizeof(name), "vm-%s", c->name);
		if (e == 0)
			e = rtnl_bridge_new(r, name, mac);
	} else if (e == 0) {
		e = -EEXIST;
		for (unsigned int n = 0; e == -EEXIST && n < BRIDGES_MAX; n++) {
			if (file_path(name, sizeof(name), "vmbr%u", n) == 0)
				e = rtnl_bridge_new(r, name, mac);
		}
	}
	if (e == 0)
		e = rtnl_link_get(r, name, &l);
	if (e == 0) {
		e = rtnl_set_alias(r, l.index, alias);
		if (e < 0)
			(void)rtnl_link_delete(r, l.index);
	}
	return e < 0 ? err_set(err, e, "failed to create bridge interface for switch %s: %s",
			       c->name, rtnl_error(r, e))
		     : 0;
}

static int set_up_bridge(struct rtnl *r, const struct switch_conf *c, const struct rtnl_link *l,
			 struct err *err)
{
	int e = 0;

	if (c->mtu && c->mtu != l->mtu)
		e = rtnl_set_mtu(r, l->index, c->mtu);
	if (e == 0 && !(l->flags & IFF_UP))
		e = rtnl_set_up(r, l->index, true);
	if (e == 0 && c->addr[0])
		e = rtnl_addr_add(r, l->index, c->addr);
	if (e == -EEXIST)
		e = 0;
	if (e == 0 && c->addr6[0])
		e = rtnl_addr_add(r, l->index, c->addr6);
	if (e == -EEXIST)
		e = 0;
	return e < 0 ? err_set(err, e, "cannot set up %s for switch %s: %s", l->name, c->name,
			       rtnl_error(r, e))
		     : 0;
}

/* em0.10, if that fits and is free; any name will do, as VLAN interfaces are found by what they are. */
static int make_vlan(struct rtnl *r, const struct rtnl_link *lower, unsigned int id)
{
	char name[IF_NAMESIZE];
	int e = -EEXIST;

	if (snprintf(name, sizeof(name), "%s.%u", lower->name, id) < (int)sizeof(name))
		e = rtnl_vlan_new(r, name, lower->index, id);
	for (unsigned int n = 0; e == -EEXIST && n < BRIDGES_MAX; n++) {
		if (file_path(name, sizeof(name), "vmvl%u", n) == 0)
			e = rtnl_vlan_new(r, name, lower->index, id);
	}
	return e;
}

struct find_vlan {
	unsigned int lower, id;
	struct rtnl_link *out;
};

static int is_vlan(void *arg, const struct rtnl_link *l)
{
	struct find_vlan *f = arg;

	if (strcmp(l->kind, "vlan") != 0 || l->lower != f->lower || l->vlan != f->id)
		return 0;
	*f->out = *l;
	return 1;
}

int switch_port(struct rtnl *r, const struct switch_conf *c, const char *iface,
		struct rtnl_link *out)
{
	struct find_vlan f = { .id = c->vlan, .out = out };
	struct rtnl_link lower;
	int e = rtnl_link_get(r, iface, &lower);

	if (e < 0)
		return e;
	if (!c->vlan || c->type != SWITCH_STANDARD) {
		*out = lower;
		return 0;
	}
	f.lower = lower.index;
	e = rtnl_link_each(r, is_vlan, &f);
	return e == 1 ? 0 : e == 0 ? -ENODEV : e;
}

int switch_port_make(struct rtnl *r, const struct switch_conf *c, const char *iface,
		     struct err *err)
{
	char alias[STORE_NAME_MAX + 8];
	struct rtnl_link lower, l;
	int e = rtnl_link_get(r, iface, &lower);

	if (e == 0)
		e = switch_port(r, c, iface, &l);
	if (e != -ENODEV || !c->vlan)
		return e < 0 ? err_set(err, e, "%s: %s", iface, rtnl_error(r, e)) : 0;
	/* What goes by a VLAN goes by the interface below. */
	e = c->mtu > lower.mtu ? rtnl_set_mtu(r, lower.index, c->mtu) : 0;
	if (e == 0)
		e = make_vlan(r, &lower, c->vlan);
	if (e == 0)
		e = switch_port(r, c, iface, &l);
	if (e == 0 && file_path(alias, sizeof(alias), "vm/%s", c->name) == 0)
		e = rtnl_set_alias(r, l.index, alias);
	/* Frames of a VLAN go by an interface that is up. */
	if (e == 0 && !(lower.flags & IFF_UP))
		e = rtnl_set_up(r, lower.index, true);
	return e < 0 ? err_set(err, e, K(033) "cannot make VLAN %u on %s: %s", c->vlan, iface,
			       rtnl_error(r, e))
		     : 0;
}

void switch_port_drop(struct rtnl *r, const char *name, const char *port)
{
	char alias[STORE_NAME_MAX + 8];
	struct rtnl_link l = { 0 };

	if (file_path(alias, sizeof(alias), "vm/%s", name) == 0 &&
	    rtnl_link_get(r, port, &l) == 0 && strcmp(l.kind, "vlan") == 0 &&
	    strcmp(l.alias, alias) == 0)
		(void)rtnl_link_delete(r, l.index);
}

/* The place of a word in a list with blanks between, or NULL. */
static char *find_word(char *list, const char *word)
{
	size_t len = strlen(word);

	for (char *p = list; *(p += strspn(p, " \t"));) {
		size_t n = strcspn(p, " \t");

		if (n == len && strncmp(p, word, n) == 0)
			return p;
		p += n;
	}
	return NULL;
}

bool switch_has_port(const struct switch_conf *c, const char *iface)
{
	return find_word((char *)c->ports, iface) != NULL;
}

int switch_note_port(struct switch_conf *c, const char *iface, bool add)
{
	size_t len = strlen(c->ports), n = strlen(iface);
	char *p = find_word(c->ports, iface);

	if (!add && p) {
		p[n] = p[n] ? ' ' : '\0';
		memmove(p, p + n + (p[n] != '\0'), strlen(p + n + (p[n] != '\0')) + 1);
		for (len = strlen(c->ports); len > 0 && c->ports[len - 1] == ' '; len--)
			c->ports[len - 1] = '\0';
		return 0;
	}
	if (!add || p)
		return 0;
	if (len + n + 2 > sizeof(c->ports))
		return -E2BIG;
	if (len)
		c->ports[len++] = ' ';
	memcpy(c->ports + len, iface, n + 1);
	return 0;
}

int switch_each_port(const struct switch_conf *c, int (*fn)(void *arg, const char *iface),
		     void *arg)
{
	char name[IF_NAMESIZE];
	int r = 0;

	for (const char *p = c->ports; r == 0 && *(p += strspn(p, " \t"));) {
		size_t n = strcspn(p, " \t");

		if (file_path(name, sizeof(name), "%.*s", (int)n, p) == 0)
			r = fn(arg, name);
		p += n;
	}
	return r;
}

struct raise {
	struct rtnl *r;
	const struct switch_conf *c;
	unsigned int bridge;
	struct err *err;
	int first; /* error; the others are still tried */
};

/* Puts a port of system.conf back into the bridge, with what the host has on it. */
static int raise_port(void *arg, const char *iface)
{
	struct raise *x = arg;
	struct err *err = x->first ? NULL : x->err;
	struct uplink *u = NULL;
	struct rtnl_link l = { 0 };
	int e = switch_port_make(x->r, x->c, iface, err);

	if (e == 0)
		e = switch_port(x->r, x->c, iface, &l);
	if (e == 0 && l.master == x->bridge)
		return 0;
	if (e == 0)
		e = uplink_check(x->r, x->c, iface, err);
	if (e == 0)
		e = uplink_new(x->r, x->c, iface, UPLINK_JOIN, &u, err);
	if (e == 0)
		e = uplink_run(x->r, u, err);
	uplink_free(u);
	if (e < 0 && !x->first) {
		x->first = e;
		err_prefix(err, e, "switch %s: port %s", x->c->name, iface);
	}
	return 0;
}

static int vxlan_name(const struct switch_conf *c, char *out)
{
	return file_path(out, IF_NAMESIZE, "vxlan%u", c->vlan);
}

/* 239.a.b.c from the digest of the name: all hosts with a switch of that name meet there. */
static int vxlan_group(const struct switch_conf *c, struct in_addr *out)
{
	unsigned char md[EVP_MAX_MD_SIZE];

	if (!EVP_Digest(c->name, strlen(c->name), md, NULL, EVP_md5(), NULL))
		return -EIO;
	out->s_addr = htonl(239u << 24 | (uint32_t)md[0] << 16 | (uint32_t)md[1] << 8 | md[2]);
	return 0;
}

static int raise_vxlan(struct rtnl *r, const struct switch_conf *c, unsigned int bridge,
		       struct err *err)
{
	char name[IF_NAMESIZE];
	struct rtnl_link lower, l;
	struct in_addr group;
	int e = vxlan_name(c, name);

	if (e == 0)
		e = rtnl_link_get(r, name, &l);
	if (e == -ENODEV) {
		e = rtnl_link_get(r, c->ports, &lower);
		if (e == 0)
			e = vxlan_group(c, &group);
		if (e == 0)
			e = rtnl_vxlan_new(r, name, lower.index, c->vlan, group);
		if (e == 0)
			e = rtnl_link_get(r, name, &l);
	}
	if (e == 0 && l.master && l.master != bridge)
		e = -EBUSY;
	if (e == 0)
		e = rtnl_set_master(r, l.index, bridge);
	if (e == 0)
		e = rtnl_set_up(r, l.index, true);
	return e < 0 ? err_set(err, e, "switch %s: cannot make VXLAN %u on %s: %s", c->name,
			       c->vlan, c->ports, rtnl_error(r, e))
		     : 0;
}

static int not_a_bridge(const struct switch_conf *c, int e, struct err *err)
{
	bool manual = c->type == SWITCH_MANUAL;

	return err_set(err, e, "switch %s: %s%s does not appear to be a valid existing bridge",
		       c->name, manual ? "" : "vm-", manual ? c->bridge : c->name);
}

int switch_up(struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	struct raise x = { .r = r, .c = c, .err = err };
	struct rtnl_link l = { 0 };
	int e = switch_bridge(r, c, &l);

	if (e == -EMEDIUMTYPE || (e == -ENODEV && c->type == SWITCH_MANUAL))
		return not_a_bridge(c, e, err);
	if (e == -ENODEV) {
		e = make_bridge(r, c, err);
		if (e < 0)
			return e;
		e = switch_bridge(r, c, &l);
	}
	if (e < 0)
		return err_set(err, e, "switch %s: %s", c->name, rtnl_error(r, e));
	if (c->type == SWITCH_MANUAL)
		return 0;
	e = set_up_bridge(r, c, &l, err);
	if (e == 0 && c->type == SWITCH_VXLAN)
		return raise_vxlan(r, c, l.index, err);
	x.bridge = l.index;
	if (e == 0 && c->type == SWITCH_STANDARD)
		(void)switch_each_port(c, raise_port, &x);
	return e < 0 ? e : x.first;
}

static int lower_port(void *arg, const char *iface)
{
	struct raise *x = arg;
	struct rtnl_link l = { 0 };

	if (switch_port(x->r, x->c, iface, &l) < 0)
		return 0;
	if (l.master == x->bridge)
		(void)rtnl_set_master(x->r, l.index, 0);
	(void)rtnl_mirror_sweep(x->r, l.index, true);
	switch_port_drop(x->r, x->c->name, l.name);
	return 0;
}

void switch_lower_ports(struct rtnl *r, const struct switch_conf *c)
{
	struct raise x = { .r = r, .c = c };
	struct rtnl_link l = { 0 };

	if (c->type != SWITCH_STANDARD || switch_bridge(r, c, &l) < 0)
		return;
	x.bridge = l.index;
	(void)switch_each_port(c, lower_port, &x);
}

struct carried {
	const struct switch_conf *c;
	unsigned int bridge;
};

static bool is_own(const char *cidr, const struct rtnl_addr *a)
{
	struct rtnl_addr own;

	return *cidr && rtnl_addr_parse(cidr, &own) == 0 && own.plen == a->plen &&
	       memcmp(own.addr, a->addr, sizeof(own.addr)) == 0;
}

static int is_hosts(void *arg, const struct rtnl_addr *a)
{
	const struct carried *x = arg;

	return a->index == x->bridge && a->scope != RT_SCOPE_LINK && !is_own(x->c->addr, a) &&
	       !is_own(x->c->addr6, a);
}

bool switch_carries_host(struct rtnl *r, const struct switch_conf *c)
{
	struct carried x = { .c = c };
	struct rtnl_link l = { 0 };

	if (switch_bridge(r, c, &l) < 0)
		return false;
	x.bridge = l.index;
	return rtnl_addr_each(r, is_hosts, &x) == 1;
}

struct guests {
	unsigned int bridge, count;
	char *out;
	size_t size, len;
};

/* Whether the name is in the list; a guest may have several cards. */
static bool is_listed(const char *list, const char *name, size_t len)
{
	for (const char *p = list; *p; p += strcspn(p, ","), p += strspn(p, ", ")) {
		if (strcspn(p, ",") == len && strncmp(p, name, len) == 0)
			return true;
	}
	return false;
}

static int add_guest(void *arg, const struct rtnl_link *l)
{
	struct guests *g = arg;
	const char *name = l->alias + strlen(TAP_ALIAS);
	int n, len;

	if (l->master != g->bridge || strncmp(l->alias, TAP_ALIAS, strlen(TAP_ALIAS)) != 0)
		return 0;
	len = (int)strcspn(name, "/");
	if (is_listed(g->out, name, (size_t)len))
		return 0;
	g->count++;
	n = snprintf(g->out + g->len, g->size - g->len, "%s%.*s", g->len ? ", " : "", len, name);
	if (n > 0 && (size_t)n < g->size - g->len)
		g->len += (size_t)n;
	else
		g->out[g->len] = '\0';
	return 0;
}

unsigned int switch_guests(struct rtnl *r, unsigned int bridge, char *out, size_t size)
{
	struct guests g = { .bridge = bridge, .out = out, .size = size };

	out[0] = '\0';
	(void)rtnl_link_each(r, add_guest, &g);
	return g.count;
}

int switch_down(struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	char name[IF_NAMESIZE];
	struct rtnl_link l = { 0 };
	int e = c->type == SWITCH_MANUAL ? -ENODEV : switch_bridge(r, c, &l);

	if (e == 0) {
		switch_lower_ports(r, c);
		e = rtnl_link_delete(r, l.index);
	}
	if ((e == 0 || e == -ENODEV) && c->type == SWITCH_VXLAN && vxlan_name(c, name) == 0 &&
	    rtnl_link_get(r, name, &l) == 0)
		e = rtnl_link_delete(r, l.index);
	if (e == -ENODEV)
		e = 0;
	return e < 0 ? err_set(err, e, "failed to remove virtual switch %s: %s", c->name,
			       rtnl_error(r, e))
		     : 0;
}
