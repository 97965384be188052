/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <stdio.h>
#include <string.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/nat.h"
#include "manager/plan.h"
#include "manager/port.h"
#include "manager/rtnl.h"
#include "manager/tap.h"
#include "manager/usernet.h"
#include "ui_json.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define ADDRESSES_SIZE 512

#define USER_DEVICE "khyve-net"
#define USER_MS 1000

/* What a running guest's card is on the host. */
struct net_state {
	struct rtnl_link tap; /* with user-mode networking only its name and bytes mean anything */
	bool user;
	char bridge[IF_NAMESIZE];
	char addresses[ADDRESSES_SIZE]; /* with blanks between */
};

static bool is_noted(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p += len) {
		if ((p == list || p[-1] == ' ') && (p[len] == ' ' || !p[len]))
			return true;
	}
	return false;
}

static void note_address(struct net_state *s, const char *text)
{
	size_t len = strlen(s->addresses);

	if (!is_noted(s->addresses, text) && len + strlen(text) + 2 <= sizeof(s->addresses))
		(void)file_path(s->addresses + len, sizeof(s->addresses) - len, "%s%s",
				len ? " " : "", text);
}

struct seen {
	struct net_state *s;
	unsigned int bridge;
	unsigned char mac[RTNL_MAC_LEN];
};

/* A neighbour of this host that has the card's MAC address. */
static int note_neigh(void *arg, const struct rtnl_neigh *n)
{
	struct seen *w = arg;
	char text[INET6_ADDRSTRLEN];

	if (n->index == w->bridge && memcmp(n->mac, w->mac, sizeof(w->mac)) == 0 &&
	    !(n->state & (NUD_FAILED | NUD_INCOMPLETE)) &&
	    inet_ntop(n->family, n->addr, text, sizeof(text)))
		note_address(w->s, text);
	return 0;
}

static int parse_mac(const char *text, unsigned char *out)
{
	unsigned int b[RTNL_MAC_LEN];

	if (!text || sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x", &b[0], &b[1], &b[2], &b[3], &b[4],
			    &b[5]) != RTNL_MAC_LEN)
		return -1;
	for (size_t i = 0; i < RTNL_MAC_LEN; i++)
		out[i] = (unsigned char)b[i];
	return 0;
}

/* What dnsmasq gave it, and what this host has seen of it. */
static void find_addresses(const struct vm *vm, struct rtnl *r, struct gconf *conf, unsigned n,
			   struct net_state *s)
{
	const char *mac = gconf_getf(conf, "network%u_mac", n);
	const char *name = gconf_getf(conf, "network%u_switch", n);
	struct seen w = { .s = s, .bridge = s->tap.master };
	char leased[ADDRESSES_SIZE];

	if (!mac || parse_mac(mac, w.mac) < 0)
		return;
	if (name && nat_addresses(&vm->store, name, mac, leased, sizeof(leased)) == 0)
		(void)str_copy(s->addresses, sizeof(s->addresses), leased);
	if (w.bridge)
		(void)rtnl_neigh_each(r, note_neigh, &w);
}

/* What its khyve-net tells; in_ is what came from the guest. */
static bool find_user(const struct guest *g, unsigned n, struct net_state *s)
{
	static const char *const keys[] = { "guest4", "guest6" };
	char socket[32], reply[2048], text[INET6_ADDRSTRLEN];
	const struct ctl_where net = { .g = g, .socket = socket, .who = USER_DEVICE };
	struct err ignored;

	if (file_path(socket, sizeof(socket), USERNET_CONTROL, n) < 0 ||
	    ctl_command_at(&net, "status", USER_MS, reply, sizeof(reply), &ignored) < 0 ||
	    str_copy(s->tap.name, sizeof(s->tap.name), USER_DEVICE) < 0)
		return false;
	s->user = true;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (ctl_value(reply, keys[i], text, sizeof(text)) == 0)
			note_address(s, text);
	}
	if (ctl_value(reply, "in_bytes", text, sizeof(text)) == 0)
		(void)str_u64(text, &s->tap.rx_bytes);
	if (ctl_value(reply, "out_bytes", text, sizeof(text)) == 0)
		(void)str_u64(text, &s->tap.tx_bytes);
	return true;
}

static bool find_state(const struct vm *vm, const struct guest *g, struct gconf *conf, unsigned n,
		       struct net_state *s)
{
	const char *device = gconf_getf(conf, "network%u_device", n);
	struct rtnl_link bridge;
	struct rtnl *r;
	bool found;

	*s = (struct net_state){ .bridge = "" };
	if (port_is_user(g, conf, n))
		return find_user(g, n, s);
	if (rtnl_open(&r, NULL) < 0)
		return false;
	found = device && *device ? rtnl_link_get(r, device, &s->tap) == 0
				  : tap_find(r, g, n, &s->tap) == 0;
	if (found && rtnl_link_index(r, s->tap.master, &bridge) == 0)
		(void)str_copy(s->bridge, sizeof(s->bridge), bridge.name);
	if (found)
		find_addresses(vm, r, conf, n, s);
	rtnl_close(r);
	return found;
}

int vm_addresses(const struct vm *vm, const struct guest *g, struct gconf *conf, char *out,
		 size_t size)
{
	struct net_state s;
	int r = 0;

	out[0] = '\0';
	for (unsigned n = 0; r == 0 && gconf_getf(conf, "network%u_type", n); n++) {
		size_t len = strlen(out);

		if (find_state(vm, g, conf, n, &s) && s.addresses[0])
			r = file_path(out + len, size - len, "%s%s", len ? " " : "", s.addresses);
	}
	return out[0] ? 0 : -ENOENT;
}

static const char *or_text(const char *s, const char *def)
{
	return s && *s ? s : def;
}

void info_network(const struct vm *vm, const struct guest *g, struct gconf *conf, unsigned n,
		  bool running)
{
	struct net_state s;
	char text[64];

	printf("\n  network-interface\n    number: %u\n", n);
	printf("    emulation: %s\n", or_text(gconf_getf(conf, "network%u_type", n), "-"));
	printf("    virtual-switch: %s\n", or_text(gconf_getf(conf, "network%u_switch", n), "-"));
	printf("    fixed-mac-address: %s\n", or_text(gconf_getf(conf, "network%u_mac", n), "-"));
	printf("    fixed-device: %s\n", or_text(gconf_getf(conf, "network%u_device", n), "-"));
	if (!running || !find_state(vm, g, conf, n, &s))
		return;
	printf("    active-device: %s\n", s.tap.name);
	if (!s.user)
		printf("    desc: %s\n    mtu: %u\n    bridge: %s\n", or_text(s.tap.alias, "-"),
		       s.tap.mtu, or_text(s.bridge, "-"));
	/* What the host sends, the guest receives. */
	ui_bytes(s.tap.tx_bytes, text, sizeof(text));
	printf("    bytes-in: %s\n", text);
	ui_bytes(s.tap.rx_bytes, text, sizeof(text));
	printf("    bytes-out: %s\n", text);
	if (s.addresses[0])
		printf("    addresses: %s\n", s.addresses);
}

static void add_state(json_t *o, const struct net_state *s)
{
	json_t *addresses = json_array();

	ui_json_set(o, "active-device", s->tap.name);
	ui_json_set(o, "desc", s->tap.alias);
	json_object_set_new(o, "mtu", s->user ? json_null() : json_integer(s->tap.mtu));
	ui_json_set(o, "bridge", s->bridge);
	json_object_set_new(o, "bytes-in", json_integer((json_int_t)s->tap.tx_bytes));
	json_object_set_new(o, "bytes-out", json_integer((json_int_t)s->tap.rx_bytes));
	for (const char *p = s->addresses; *(p += strspn(p, " ")); p += strcspn(p, " "))
		json_array_append_new(addresses, json_stringn(p, strcspn(p, " ")));
	json_object_set_new(o, "addresses", addresses);
}

struct json_t *info_network_json(const struct vm *vm, const struct guest *g, struct gconf *conf,
				 unsigned n, bool running)
{
	json_t *o = json_object();
	struct net_state s;

	json_object_set_new(o, "number", json_integer(n));
	ui_json_set(o, "emulation", gconf_getf(conf, "network%u_type", n));
	ui_json_set(o, "virtual-switch", gconf_getf(conf, "network%u_switch", n));
	ui_json_set(o, "fixed-mac-address", gconf_getf(conf, "network%u_mac", n));
	ui_json_set(o, "fixed-device", gconf_getf(conf, "network%u_device", n));
	if (running && find_state(vm, g, conf, n, &s))
		add_state(o, &s);
	return o;
}
