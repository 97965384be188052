/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ctl.h"
#include "manager/guestconf.h"
#include "manager/nat.h"
#include "manager/port.h"
#include "manager/table.h"
#include "ui_json.h"
#include "util/macros.h"

#define CTL_MS 5000

/* Tells the guest's khyve-net about a change, if it runs. */
static int tell_user(const struct guest *g, unsigned nic, const struct port *p, bool add,
		     struct err *err)
{
	char command[128], socket[32], text[PORT_TEXT];
	const struct ctl_where net = { .g = g, .socket = socket, .who = "khyve-net" };
	struct port host = *p;
	struct run_state state;
	int n;

	run_query(g, &state);
	if (state.kind == RUN_STOPPED)
		return 0;
	host.guest = 0;
	port_format(&host, text);
	*strchr(text, '/') = '\0';
	n = add ? snprintf(command, sizeof(command), "forward add %s %s %u", p->udp ? "udp" : "tcp",
			   text, p->guest)
		: snprintf(command, sizeof(command), "forward remove %s %s", p->udp ? "udp" : "tcp",
			   text);
	if (n < 0 || (size_t)n >= sizeof(command) ||
	    snprintf(socket, sizeof(socket), "net%u.ctl", nic) < 0)
		return err_set(err, -EOVERFLOW, K(053) "the command is too long");
	return ctl_command_at(&net, command, CTL_MS, NULL, 0, err);
}

/* Makes what the guest's file says true now. */
static int apply(const struct vm *vm, const struct guest *g, unsigned nic, const struct port *p,
		 bool add, struct err *err)
{
	struct err warning = { "" };
	struct gconf *conf;
	bool user;
	int r = gconf_load(g->conf, &conf, err);

	if (r < 0)
		return r;
	user = port_is_user(g, conf, nic);
	gconf_free(conf);
	if (user)
		return tell_user(g, nic, p, add, err);
	r = nat_sync(&vm->store, &warning, err);
	if (warning.text[0])
		ui_warning("%s", warning.text);
	return r;
}

int vm_port_add(const struct vm *vm, const struct guest *g, const struct port *p, struct err *err)
{
	struct port found;
	struct err ignored;
	unsigned nic;
	int r = port_add(&vm->store, g, p, &nic, err);

	if (r < 0 || vm->dry_run)
		return r;
	r = apply(vm, g, nic, p, true, err);
	if (r < 0)
		(void)port_remove(g, p, false, &found, &nic, &ignored);
	return r;
}

static int add(const struct vm *vm, const struct guest *g, const char *text)
{
	struct port p;
	struct err err;
	int r = port_parse(text, &p, &err);

	if (r == 0)
		r = vm_port_add(vm, g, &p, &err);
	return vm_done(vm, r, &err, "forward %s to %s", text, g->name);
}

static int remove_port(const struct vm *vm, const struct guest *g, const char *text)
{
	struct port p, found;
	struct err err;
	unsigned nic;
	bool any;
	int r = port_parse_host(text, &p, &any, &err);

	if (r == 0)
		r = port_remove(g, &p, any, &found, &nic, &err);
	if (r == 0 && !vm->dry_run)
		r = apply(vm, g, nic, &found, false, &err);
	return vm_done(vm, r, &err, "forward %s to %s no more", text, g->name);
}

/* --- vm port list --- */

struct listing {
	struct table *table;
	json_t *ports;
};

static void add_row(struct listing *l, const struct guest *g, unsigned n, const char *network,
		    const struct port *p)
{
	const char *proto = p->udp ? "udp" : "tcp";
	char addr[PORT_TEXT];

	port_format(p, addr);
	*strchr(addr, ':') = '\0';
	if (l->table) {
		table_add(l->table, "%s", g->name);
		table_add(l->table, "%s", addr);
		table_add(l->table, "%u", p->host);
		table_add(l->table, "%u", p->guest);
		table_add(l->table, "%s", proto);
		table_add(l->table, "%s", network);
		return;
	}
	json_array_append_new(l->ports,
			      json_pack("{s:s, s:s, s:i, s:i, s:s, s:i, s:s}", "name", g->name,
					"address", addr, "port", p->host, "guest-port", p->guest,
					"protocol", proto, "interface", (int)n, "switch", network));
}

static int list_guest(void *arg, const struct guest *g)
{
	struct gconf *conf;
	struct port *ports;
	struct err err;
	size_t count;
	int r = 0;

	/* vm list shows guests whose file is broken; here they have no ports. */
	if (gconf_load(g->conf, &conf, &err) < 0)
		return 0;
	for (unsigned n = 0; r == 0 && gconf_getf(conf, "network%u_type", n); n++) {
		const char *network = gconf_getf(conf, "network%u_switch", n);

		r = port_load(conf, n, &ports, &count);
		for (size_t i = 0; r == 0 && i < count; i++)
			add_row(arg, g, n, network && *network ? network : "-", &ports[i]);
		if (r == 0)
			free(ports);
	}
	gconf_free(conf);
	return r;
}

static int print_list(const struct vm *vm, const struct guest *g, struct listing *l)
{
	static const char *const heads[] = { "NAME",	   "ADDRESS", "PORT",
					     "GUEST-PORT", "PROTO",   "SWITCH" };
	int r;

	for (size_t i = 0; l->table && i < ARRAY_LEN(heads); i++)
		table_add(l->table, "%s", heads[i]);
	r = g ? list_guest(l, g) : store_each(&vm->store, list_guest, l);
	if (r < 0 && r != -EACCES)
		return ui_error("%s: %s", vm->store.dir, strerror(-r));
	if (l->table) {
		table_print(l->table, stdout);
		return 0;
	}
	return ui_json_print(json_pack("{s:O}", "ports", l->ports));
}

static int list(struct vm *vm, int argc, char **argv)
{
	bool json = argc > 0 && strcmp(argv[0], "--json") == 0;
	struct listing l = { NULL };
	struct guest g;
	int status;

	argc -= json;
	argv += json;
	if (argc > 1)
		return ui_usage(vm);
	if (argc == 1 && vm_find(vm, argv[0], &g))
		return VM_FAILED;
	if (json)
		l.ports = json_array();
	else
		l.table = table_new(6);
	status = l.table || l.ports ? print_list(vm, argc == 1 ? &g : NULL, &l)
				    : ui_error(K(080) "out of memory");
	table_free(l.table);
	json_decref(l.ports);
	return status;
}

/* A word may be shortened, as everywhere. */
static bool is_word(const char *text, const char *word)
{
	return *text && strncmp(text, word, strlen(text)) == 0;
}

int verb_port(struct vm *vm, int argc, char **argv)
{
	struct guest g;
	bool adds;

	if (argc >= 2 && is_word(argv[1], "list"))
		return list(vm, argc - 2, argv + 2);
	adds = argc == 4 && is_word(argv[1], "add");
	if (!adds && (argc != 4 || !is_word(argv[1], "remove")))
		return ui_usage(vm);
	if (vm_find(vm, argv[2], &g))
		return VM_FAILED;
	return adds ? add(vm, &g, argv[3]) : remove_port(vm, &g, argv[3]);
}
