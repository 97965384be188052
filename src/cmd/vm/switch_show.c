/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "switch_show.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/guestconf.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "manager/table.h"
#include "manager/tap.h"
#include "ui_json.h"
#include "util/str.h"
#include "vm.h"

#define RULE "------------------------"
#define PORTS_MAX 1024

struct show {
	struct vm *vm;
	struct gconf *conf;
	struct rtnl *r;
	struct table *table; /* list */
	json_t *switches; /* --json */
	bool failed; /* one of several */
	struct err err;
};

/* The guests' ports of a bridge, and what all of its ports have carried. */
struct ports {
	unsigned int bridge;
	uint64_t in, out;
	size_t count;
	struct rtnl_link links[PORTS_MAX];
};

static int add_port(void *arg, const struct rtnl_link *l)
{
	struct ports *p = arg;

	if (l->master != p->bridge)
		return 0;
	p->in += l->rx_bytes;
	p->out += l->tx_bytes;
	if (p->count < PORTS_MAX && str_starts(l->alias, TAP_ALIAS))
		p->links[p->count++] = *l;
	return 0;
}

/* GUEST of vmnet/GUEST/N/SWITCH. */
static void guest_of(const struct rtnl_link *l, char *out, size_t size)
{
	const char *name = l->alias + strlen(TAP_ALIAS);

	if (snprintf(out, size, "%.*s", (int)strcspn(name, "/"), name) < 0)
		out[0] = '\0';
}

static const char *or_dash(const char *s)
{
	return *s ? s : "-";
}

static int list_row(struct show *w, const struct switch_conf *c, const char *ident)
{
	const char *first = c->addr[0] ? c->addr : c->addr6, *second = c->addr[0] ? c->addr6 : "";
	bool manual = c->type == SWITCH_MANUAL;
	char mtu[16] = "-", vlan[16] = "-";
	struct table *t = w->table;
	int r;

	if ((c->mtu && snprintf(mtu, sizeof(mtu), "%u", c->mtu) < 0) ||
	    (c->vlan && snprintf(vlan, sizeof(vlan), "%u", c->vlan) < 0))
		return -EOVERFLOW;
	r = table_add(t, "%s", c->name);
	if (r == 0)
		r = table_add(t, "%s", switch_type_name(c->type));
	if (r == 0)
		r = table_add(t, "%s", ident);
	if (r == 0)
		r = table_add(t, "%s", manual ? "n/a" : or_dash(first));
	if (r == 0)
		r = table_add(t, "%s", c->private ? "yes" : "no");
	if (r == 0)
		r = table_add(t, "%s", manual || c->type == SWITCH_VXLAN ? "n/a" : mtu);
	if (r == 0)
		r = table_add(t, "%s", manual ? "n/a" : vlan);
	if (r == 0)
		r = table_add(t, "%s", manual ? "n/a" : or_dash(c->ports));
	for (int i = 0; r == 0 && second[0] && i < 8; i++)
		r = table_add(t, "%s", i == 3 ? second : "");
	return r;
}

static void print_info(const struct switch_conf *c, const char *ident, const struct ports *p)
{
	char text[64], guest[STORE_NAME_MAX + 1];

	printf(RULE "\nVirtual Switch: %s\n" RULE "\n", c->name);
	printf("  type: %s\n  ident: %s\n", switch_type_name(c->type), ident);
	if (c->vlan)
		printf("  vlan: %u\n", c->vlan);
	else
		puts("  vlan: -");
	printf("  physical-ports: %s\n", or_dash(c->ports));
	ui_bytes(p->in, text, sizeof(text));
	printf("  bytes-in: %s\n", text);
	ui_bytes(p->out, text, sizeof(text));
	printf("  bytes-out: %s\n", text);
	for (size_t i = 0; i < p->count; i++) {
		guest_of(&p->links[i], guest, sizeof(guest));
		printf("\n  virtual-port\n    device: %s\n    vm: %s\n", p->links[i].name, guest);
	}
	putchar('\n');
}

static void set_number(json_t *o, const char *key, unsigned int value)
{
	json_object_set_new(o, key, value ? json_integer(value) : json_null());
}

static int add_word(void *arg, const char *word)
{
	return json_array_append_new(arg, json_string(word));
}

static void add_json(struct show *w, const struct switch_conf *c, const char *ident,
		     const struct ports *p)
{
	json_t *o = json_object(), *names = json_array(), *guests = json_array();
	char guest[STORE_NAME_MAX + 1];

	ui_json_set(o, "name", c->name);
	ui_json_set(o, "type", switch_type_name(c->type));
	ui_json_set(o, "ident", strcmp(ident, "-") == 0 ? "" : ident);
	ui_json_set(o, "address", c->addr);
	ui_json_set(o, "address6", c->addr6);
	json_object_set_new(o, "private", json_boolean(c->private));
	set_number(o, "mtu", c->mtu);
	set_number(o, "vlan", c->vlan);
	(void)switch_each_port(c, add_word, names);
	json_object_set_new(o, "physical-ports", names);
	json_object_set_new(o, "bytes-in", json_integer((json_int_t)p->in));
	json_object_set_new(o, "bytes-out", json_integer((json_int_t)p->out));
	for (size_t i = 0; i < p->count; i++) {
		guest_of(&p->links[i], guest, sizeof(guest));
		json_array_append_new(
			guests, json_pack("{s:s, s:s}", "device", p->links[i].name, "vm", guest));
	}
	json_object_set_new(o, "virtual-ports", guests);
	json_array_append_new(w->switches, o);
}

static int show_switch(void *arg, const char *name)
{
	static const struct ports none;
	struct ports *p;
	struct show *w = arg;
	struct switch_conf c;
	struct rtnl_link l;
	bool up;
	int r = switch_read(w->conf, name, &c, &w->err);

	if (r < 0)
		return r;
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(&w->err, -ENOMEM, K(080) "out of memory");
	up = switch_bridge(w->r, &c, &l) == 0;
	if (up) {
		p->bridge = l.index;
		(void)rtnl_link_each(w->r, add_port, p);
	}
	if (w->switches)
		add_json(w, &c, up ? l.name : "-", p);
	else if (w->table)
		r = list_row(w, &c, up ? l.name : "-");
	else
		print_info(&c, up ? l.name : "-", up ? p : &none);
	free(p);
	return r < 0 ? err_set(&w->err, r, K(080) "out of memory") : 0;
}

/* One that system.conf describes wrongly hides none of the others. */
static int show_each(void *arg, const char *name)
{
	struct show *w = arg;
	int r = show_switch(w, name);

	if (r == 0 || r == -ENOMEM)
		return r;
	w->failed = true;
	(void)ui_error("%s", w->err.text);
	return 0;
}

static int begin(struct show *w, struct vm *vm, int argc, char **argv)
{
	bool json;

	*w = (struct show){ .vm = vm };
	if (ui_json_option(argc, argv, &json) < 0)
		return ui_usage(vm);
	w->switches = json ? json_array() : NULL;
	if (switch_load(&vm->store, &w->conf, &w->err) < 0 || rtnl_open(&w->r, &w->err) < 0) {
		gconf_free(w->conf);
		json_decref(w->switches);
		return ui_error("%s", w->err.text);
	}
	return 0;
}

static int end(struct show *w, int r)
{
	int status = r < 0 ? ui_error("%s", w->err.text) : w->failed;

	if (r == 0 && w->switches)
		status |= ui_json_print(json_pack("{s:O}", "switches", w->switches));
	else if (r == 0 && w->table)
		table_print(w->table, stdout);
	json_decref(w->switches);
	table_free(w->table);
	gconf_free(w->conf);
	rtnl_close(w->r);
	return status;
}

int switch_list(struct vm *vm, int argc, char **argv)
{
	static const char *const heads[] = { "NAME",	"TYPE", "IFACE", "ADDRESS",
					     "PRIVATE", "MTU",	"VLAN",	 "PORTS" };
	struct show w;
	int r = begin(&w, vm, argc, argv);

	if (r)
		return r;
	if (optind < argc) {
		(void)end(&w, 1);
		return ui_usage(vm);
	}
	w.table = table_new(8);
	r = w.table ? 0 : err_set(&w.err, -ENOMEM, K(080) "out of memory");
	for (size_t i = 0; r == 0 && i < 8; i++)
		r = table_add(w.table, "%s", heads[i]);
	if (r == 0)
		r = switch_each(w.conf, show_each, &w);
	return end(&w, r);
}

int switch_info(struct vm *vm, int argc, char **argv)
{
	struct show w;
	int r = begin(&w, vm, argc, argv);

	if (r)
		return r;
	for (int i = optind; r == 0 && i < argc; i++)
		r = show_switch(&w, argv[i]);
	if (optind == argc)
		r = switch_each(w.conf, show_each, &w);
	return end(&w, r);
}
