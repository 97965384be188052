/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/plan_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/rtnl.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define KEY_SIZE 64
#define RATE_MIN 8000
#define DEFAULT_MTU 1500

/* What one card is read with. */
struct card {
	const struct guest *guest;
	struct gconf *g;
	struct plan_net *n;
	struct err *err;
	char key[KEY_SIZE];
};

/* The value of networkN_NAME, or NULL if it is missing or empty. c->key is its key then. */
static const char *get(struct card *c, const char *name)
{
	const char *value;

	if (file_path(c->key, sizeof(c->key), "network%u_%s", c->n->number, name) < 0)
		return NULL;
	value = gconf_get(c->g, c->key);
	return value && *value ? value : NULL;
}

static int wrong(struct card *c, const char *value, const char *what)
{
	return err_set(c->err, -EINVAL, "%s: %s: '%.64s' is not %s", gconf_where(c->g, c->key),
		       c->key, value, what);
}

/* Bits per second with a suffix of 1000s. */
static int read_rate(struct card *c, const char *name, uint64_t *out)
{
	const char *text = get(c, name), *suffixes = "KMG", *suffix;
	uint64_t unit = 1, n;
	char number[32];
	size_t len = text ? strlen(text) : 0;

	if (!len)
		return 0;
	suffix = memchr(suffixes, text[len - 1] & ~0x20, strlen(suffixes));
	for (const char *p = suffixes; suffix && p <= suffix; p++)
		unit *= 1000;
	if (file_path(number, sizeof(number), "%.*s", (int)(len - (suffix != NULL)), text) < 0 ||
	    str_u64(number, &n) < 0 || n > UINT64_MAX / unit / 8 || n * unit < RATE_MIN)
		return wrong(c, text, "a number of bits per second such as 100M");
	*out = n * unit;
	return 0;
}

static int read_vlan(struct card *c)
{
	const char *text = get(c, "vlan");
	uint64_t id = 0;

	if (text && (str_u64(text, &id) < 0 || id < 1 || id > SWITCH_VLAN_MAX))
		return wrong(c, text, "a VLAN from 1 to 4094");
	c->n->vlan = (unsigned int)id;
	return 0;
}

/* Does the host have any switch at all? */
static int stop_at_first(void *arg, const char *name)
{
	(void)arg;
	(void)name;
	return 1;
}

static int choose_switch(struct card *c, struct gconf *system, const char *name)
{
	int r = switch_read(system, name, &c->n->network, c->err);

	if (r == -ENOENT)
		return err_prefix(c->err, -EINVAL, "%s: %s", gconf_where(c->g, c->key), c->key);
	if (r == 0 && geteuid() != 0) {
		c->n->network.name[0] = '\0';
		c->n->kind = PLAN_NET_USER;
		c->n->why = "only root can connect to a switch";
	}
	return r;
}

/* A switch of system.conf, user-mode networking, or a tap that is connected to nothing. */
static int choose_kind(struct card *c)
{
	const char *name = get(c, "switch");
	struct gconf *system = NULL;
	struct store s;
	int r;

	c->n->kind = PLAN_NET_USER;
	if (name && strcmp(name, PLAN_NET_USER_NAME) == 0)
		return 0;
	r = store_of(c->guest, &s);
	if (r == 0)
		r = switch_load(&s, &system, c->err);
	if (r < 0)
		return r;
	if (switch_each(system, stop_at_first, NULL) == 0) {
		c->n->why = "this host has no switch";
	} else if (name) {
		c->n->kind = PLAN_NET_TAP;
		r = choose_switch(c, system, name);
	} else if (geteuid() != 0) {
		c->n->why = "only root can make a tap interface";
	} else {
		c->n->kind = PLAN_NET_TAP;
	}
	gconf_free(system);
	return r;
}

/* The tap of the person's choice: networkN_device is there already, networkN_name is to be made. */
static int choose_tap(struct card *c)
{
	const char *device = get(c, "device"), *name = get(c, "name");

	if (name && str_copy(c->n->name, sizeof(c->n->name), name) < 0)
		return wrong(c, name, "a name of at most 15 characters");
	if (device) {
		c->n->device = true;
		c->n->kind = PLAN_NET_TAP;
		(void)get(c, "device");
		if (str_copy(c->n->name, sizeof(c->n->name), device) < 0)
			return wrong(c, device, "the name of an interface");
	}
	return 0;
}

int plan_net(const struct guest *guest, struct gconf *g, unsigned int n, struct plan_net *out,
	     struct err *err)
{
	struct plan_net net = { .number = n };
	struct card c = { .guest = guest, .g = g, .n = &net, .err = err };
	const char *type = get(&c, "type");
	int r;

	if (!type || strcmp(type, "none") == 0)
		return -ENOENT;
	if (strcmp(type, "virtio-net") != 0 && strcmp(type, "e1000") != 0)
		return wrong(&c, type, "one of virtio-net, e1000");
	/* With an interface of one's own, no switch is needed. */
	r = get(&c, "device") && !get(&c, "switch") ? 0 : choose_kind(&c);
	if (r == 0)
		r = choose_tap(&c);
	if (r == 0)
		r = read_vlan(&c);
	if (r == 0)
		r = read_rate(&c, "limit_in", &net.limit_in);
	if (r == 0)
		r = read_rate(&c, "limit_out", &net.limit_out);
	if (r < 0)
		return r;
	if (file_path(c.key, sizeof(c.key), "network%u_span", n) == 0)
		net.span = gconf_bool(g, c.key, false);
	*out = net;
	return 0;
}

static int put_mac(struct plan_job *j, struct card *c, unsigned int slot_func)
{
	const char *text = get(c, "mac");
	uint8_t mac[6];

	if (!text)
		return 0;
	if (str_mac(text, mac) < 0 || strchr(text, '-') || (mac[0] & 1))
		return wrong(c, text, "a MAC address of one card, such as 58:9c:fc:01:02:03");
	return plan_put_dev(j, c->key, slot_func, "mac", text);
}

/* The bridge's, as the guest's largest packet; nobody has to know of the usual one. */
static int put_mtu(struct plan_job *j, const struct plan_net *n, unsigned int slot_func)
{
	unsigned int mtu = n->network.mtu;
	struct rtnl_link l;
	struct rtnl *r;
	char text[16];

	if (n->kind != PLAN_NET_TAP || !n->network.name[0])
		return 0;
	if (rtnl_open(&r, NULL) == 0) {
		if (switch_bridge(r, &n->network, &l) == 0)
			mtu = l.mtu;
		rtnl_close(r);
	}
	if (!mtu || mtu == DEFAULT_MTU)
		return 0;
	if (file_path(text, sizeof(text), "%u", mtu) < 0)
		return -EOVERFLOW;
	return plan_put_dev(j, NULL, slot_func, "mtu", text);
}

static int put_card(struct plan_job *j, struct plan_net *n, size_t place)
{
	struct card c = { .guest = j->guest, .g = j->g, .n = n, .err = j->err };
	unsigned int slot_func = PLAN_FUNC(PLAN_SLOT_NET + n->number, 0);
	const char *type = get(&c, "type");
	char backend[32];
	int r;

	r = plan_put_dev(j, c.key, slot_func, "device", type);
	if (r == 0)
		r = n->kind == PLAN_NET_TAP
			    ? file_path(backend, sizeof(backend), "fd:%zu", PLAN_NET_FD + place)
			    : file_path(backend, sizeof(backend), "socket:net%u.sock", n->number);
	if (r == 0)
		r = plan_put_dev(j, NULL, slot_func, "backend", backend);
	if (r == 0)
		r = put_mac(j, &c, slot_func);
	return r == 0 ? put_mtu(j, n, slot_func) : r;
}

int plan_nets(struct plan_job *j)
{
	int r = 0;

	j->p->nets = calloc(PLAN_NETS_MAX, sizeof(*j->p->nets));
	if (!j->p->nets)
		return err_set(j->err, -ENOMEM, K(080) "out of memory");
	for (unsigned int n = 0; r == 0 && gconf_getf(j->g, "network%u_type", n); n++) {
		struct plan_net *net = &j->p->nets[j->p->net_count];

		if (n == PLAN_NETS_MAX)
			return err_set(j->err, -E2BIG, "%s: more than %d network interfaces",
				       gconf_path(j->g), PLAN_NETS_MAX);
		r = plan_net(j->guest, j->g, n, net, j->err);
		if (r == 0)
			r = put_card(j, net, j->p->net_count++);
		else if (r == -ENOENT)
			r = 0;
	}
	return r;
}
