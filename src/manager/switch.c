/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/switch.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "manager/file.h"
#include "manager/rtnl.h"
#include "util/err.h"
#include "util/str.h"

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
	struct rtnl_link l;
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
	struct rtnl_link l;
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

int switch_up(const struct store *s, struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	struct rtnl_link l;
	int e = switch_bridge(r, c, &l);

	(void)s;
	if (e == -EMEDIUMTYPE || (e == -ENODEV && c->type == SWITCH_MANUAL))
		return err_set(err, e,
			       "switch %s: %s%s does not appear to be a valid existing bridge",
			       c->name, c->type == SWITCH_MANUAL ? "" : "vm-",
			       c->type == SWITCH_MANUAL ? c->bridge : c->name);
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
	return set_up_bridge(r, c, &l, err);
}

int switch_down(const struct store *s, struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	struct rtnl_link l;
	int e = c->type == SWITCH_MANUAL ? -ENODEV : switch_bridge(r, c, &l);

	(void)s;
	if (e == 0)
		e = rtnl_link_delete(r, l.index);
	if (e == -ENODEV)
		e = 0;
	return e < 0 ? err_set(err, e, "failed to remove virtual switch %s: %s", c->name,
			       rtnl_error(r, e))
		     : 0;
}
