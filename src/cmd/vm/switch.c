/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "manager/guestconf.h"
#include "manager/nat.h"
#include "manager/plan.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "manager/tap.h"
#include "manager/uplink.h"
#include "switch_show.h"
#include "util/macros.h"
#include "util/str.h"

#define BAD_CIDR                                           \
	K(006)                                             \
	"address must be supplied in CIDR notation (e.g. " \
	"192.0.2.1/24, 3fff::1/64)"

static int switch_create(struct vm *vm, int argc, char **argv);
static int switch_add(struct vm *vm, int argc, char **argv);
static int switch_remove(struct vm *vm, int argc, char **argv);
static int switch_set_vlan(struct vm *vm, int argc, char **argv);
static int switch_address(struct vm *vm, int argc, char **argv);
static int switch_private(struct vm *vm, int argc, char **argv);
static int switch_nat(struct vm *vm, int argc, char **argv);
static int switch_confirm(struct vm *vm, int argc, char **argv);
static int switch_destroy(struct vm *vm, int argc, char **argv);

struct sub {
	const char *name;
	int (*run)(struct vm *vm, int argc, char **argv);
};

static const struct sub subs[] = {
	{ "list", switch_list },       { "info", switch_info },	      { "create", switch_create },
	{ "add", switch_add },	       { "remove", switch_remove },   { "vlan", switch_set_vlan },
	{ "address", switch_address }, { "private", switch_private }, { "nat", switch_nat },
	{ "confirm", switch_confirm }, { "destroy", switch_destroy },
};

/* One change: the lock, the file and the kernel. */
struct change {
	struct switch_edit e;
	struct rtnl *r;
	struct switch_conf c;
	bool failed;
};

/* Says what went wrong, and that it needs root if that is why. */
static int begin(struct vm *vm, struct change *x)
{
	struct err err = { "" };

	*x = (struct change){ .r = NULL };
	if (geteuid() != 0)
		return ui_error(K(034) "switches can only be changed by root");
	if ((!vm->dry_run && store_make(&vm->store, false, &err) < 0) ||
	    switch_edit_begin(&vm->store, &x->e, &err) < 0)
		return ui_error("%s", err.text);
	if (rtnl_open(&x->r, &err) < 0) {
		(void)switch_edit_end(&x->e, false, NULL);
		return ui_error("%s", err.text);
	}
	return 0;
}

/* Writes the file if r is 0, else says err. */
static int end(struct change *x, int r, struct err *err)
{
	if (r == 0)
		r = switch_edit_end(&x->e, true, err);
	else
		(void)switch_edit_end(&x->e, false, NULL);
	rtnl_close(x->r);
	return r < 0 ? ui_error("%s", err->text) : 0;
}

/* Lets the NAT follow what the file says now. */
static int sync_nat(struct vm *vm, struct err *err)
{
	struct err warning = { "" };
	int r = nat_sync(&vm->store, &warning, err);

	if (warning.text[0])
		ui_warning("%s", warning.text);
	return r;
}

/* The same for a switch that has to be there. */
static int begin_named(struct vm *vm, struct change *x, const char *name)
{
	struct err err = { "" };
	int r = begin(vm, x);

	if (r)
		return r;
	r = switch_read(x->e.conf, name, &x->c, &err);
	if (r == 0)
		r = uplink_check_pending(&vm->store, name, &err);
	return r < 0 ? end(x, r, &err) : 0;
}

static int check_kind(const struct switch_conf *c, bool address, struct err *err)
{
	if (c->type == SWITCH_MANUAL)
		return err_set(
			err, -ENOTSUP,
			K(071) "manual switches and member interfaces should be configured with the tools that made %s",
			c->bridge);
	if (c->type == SWITCH_VXLAN && !address)
		return err_set(err, -ENOTSUP,
			       K(071) "vxlan interface must be configured at creation time");
	if (c->type == SWITCH_NAT)
		return err_set(
			err, -ENOTSUP,
			K(071) "%s is a NAT switch, which has addresses and no ports; 'vm switch nat %s off' makes it a standard one",
			c->name, c->name);
	return 0;
}

static int parse_create(struct vm *vm, int argc, char **argv, struct switch_conf *c)
{
	struct rtnl_addr a;
	struct err err;
	const char *vlan = NULL;
	uint64_t n = 0;
	int o;

	while ((o = ui_option(argc, argv, "t:i:n:b:m:a:p")) != -1) {
		switch (o) {
		case 't':
			if (switch_type_parse(optarg, &c->type, &err) < 0)
				return ui_error("%s", err.text);
			break;
		case 'i':
			if (str_copy(c->ports, IF_NAMESIZE, optarg) < 0)
				return ui_error(K(017) "there is no interface %s", optarg);
			break;
		case 'n':
			vlan = optarg;
			break;
		case 'b':
			if (str_copy(c->bridge, sizeof(c->bridge), optarg) < 0)
				return ui_error("%s does not appear to be a valid existing bridge",
						optarg);
			break;
		case 'm':
			if (str_u64(optarg, &n) < 0 || n < SWITCH_MTU_MIN || n > SWITCH_MTU_MAX)
				return ui_error(K(006) "invalid mtu - '%s': %d to %d", optarg,
						SWITCH_MTU_MIN, SWITCH_MTU_MAX);
			c->mtu = (unsigned int)n;
			break;
		case 'a':
			if (rtnl_addr_parse(optarg, &a) < 0)
				return ui_error(BAD_CIDR);
			(void)str_copy(a.family == AF_INET ? c->addr : c->addr6, SWITCH_CIDR_MAX,
				       optarg);
			break;
		case 'p':
			c->private = true;
			break;
		default:
			return ui_usage(vm);
		}
	}
	if (vlan && (str_u64(vlan, &n) < 0 ||
		     n > (c->type == SWITCH_VXLAN ? SWITCH_VXLAN_MAX : SWITCH_VLAN_MAX)))
		return ui_error(K(006) "invalid vlan number - '%s'", vlan);
	if (vlan)
		c->vlan = (unsigned int)n;
	if (argc - optind != 1)
		return ui_usage(vm);
	return 0;
}

static int check_create(struct rtnl *r, const struct switch_conf *c, struct err *err)
{
	struct rtnl_link l;

	if (c->type == SWITCH_MANUAL && !c->bridge[0])
		return err_set(
			err, -EINVAL,
			K(006) "you must specify a bridge to import when creating a manual switch");
	if (c->type != SWITCH_MANUAL && c->bridge[0])
		return err_set(err, -EINVAL, K(006) "-b is for manual switches: -t manual -b %s",
			       c->bridge);
	if (c->type == SWITCH_MANUAL && switch_bridge(r, c, &l) < 0)
		return err_set(err, -ENODEV, "%s does not appear to be a valid existing bridge",
			       c->bridge);
	if (c->type == SWITCH_VXLAN && (!c->ports[0] || !c->vlan))
		return err_set(
			err, -EINVAL,
			K(006) "vxlan switches must be created with an interface and vlan id specified");
	if (c->type == SWITCH_MANUAL &&
	    (c->ports[0] || c->vlan || c->mtu || c->addr[0] || c->addr6[0]))
		return check_kind(c, false, err);
	if (c->type == SWITCH_NAT && c->ports[0])
		return check_kind(c, false, err);
	return 0;
}

/* Takes a switch back that could not be made whole. */
static void forget(struct vm *vm, const char *name)
{
	struct err ignored;
	struct change x;

	if (begin(vm, &x))
		return;
	/* Neither what somebody else has made of it, nor what carries this host. */
	if (switch_read(x.e.conf, name, &x.c, NULL) < 0 || x.c.ports[0] ||
	    uplink_check_pending(&vm->store, name, NULL) < 0 || switch_carries_host(x.r, &x.c)) {
		(void)switch_edit_end(&x.e, false, NULL);
		rtnl_close(x.r);
		return;
	}
	switch_erase(x.e.conf, name);
	(void)switch_edit_end(&x.e, true, NULL);
	(void)sync_nat(vm, &ignored);
	(void)switch_down(x.r, &x.c, NULL);
	rtnl_close(x.r);
}

/* Addresses that nobody has given. */
static int choose_addresses(struct vm *vm, struct switch_conf *c, struct err *err)
{
	char addr[NAT_CIDR_MAX], addr6[NAT_CIDR_MAX];
	int r;

	if (c->type != SWITCH_NAT || (c->addr[0] && c->addr6[0]))
		return 0;
	r = nat_choose(&vm->store, c->name, addr, addr6, err);
	if (r == 0 && !c->addr[0])
		r = str_copy(c->addr, sizeof(c->addr), addr);
	if (r == 0 && !c->addr6[0])
		r = str_copy(c->addr6, sizeof(c->addr6), addr6);
	return r;
}

static int is_port_of(void *arg, const struct rtnl_link *l)
{
	return l->master == *(const unsigned int *)arg;
}

static int is_address_of(void *arg, const struct rtnl_addr *a)
{
	return a->index == *(const unsigned int *)arg;
}

/* What is left of a command that was killed before it had said whose bridge it is. */
static bool is_unfinished(struct rtnl *r, const struct rtnl_link *l)
{
	unsigned int index = l->index;

	return !l->alias[0] && !(l->flags & IFF_UP) && str_starts(l->name, "vm-") &&
	       rtnl_link_each(r, is_port_of, &index) == 0 &&
	       rtnl_addr_each(r, is_address_of, &index) == 0;
}

/* A bridge that happens to have the switch's name is its owner's. */
static int check_foreign(const struct change *x, const struct switch_conf *c, struct err *err)
{
	struct rtnl *r = x->r;
	char alias[RTNL_ALIAS_MAX];
	struct rtnl_link l;

	if (c->type == SWITCH_MANUAL || switch_bridge(r, c, &l) < 0 ||
	    (snprintf(alias, sizeof(alias), "vm/%s", c->name) > 0 && strcmp(l.alias, alias) == 0))
		return 0;
	if (is_unfinished(r, &l))
		return x->e.store->dry_run ? 0 : rtnl_link_delete(r, l.index);
	return err_set(
		err, -EEXIST,
		"there is a bridge %s already, which vm has not made: choose another name, or register it with 'vm switch create -t manual -b %s %s'",
		l.name, l.name, c->name);
}

/* Under the lock: the file's keys and the bridge, both or none. iface: "", or what is to be its first port. */
static int make_switch(struct vm *vm, struct change *x, struct switch_conf *c, const char *iface,
		       struct err *err)
{
	int r = switch_read(x->e.conf, c->name, &x->c, NULL);

	r = r == -ENOENT ? check_create(x->r, c, err)
			 : err_set(err, -EEXIST, K(024) "switch %s already exists", c->name);
	if (r == 0)
		r = check_foreign(x, c, err);
	if (r == 0 && *iface)
		r = uplink_check(x->r, c, iface, err);
	if (r == 0)
		r = choose_addresses(vm, c, err);
	if (r == 0)
		r = switch_write(x->e.conf, c, err);
	if (r < 0 || vm_would(vm, *iface ? "make switch %s with the port %s" : "make switch %s",
			      c->name, iface))
		return r;
	r = switch_up(x->r, c, err);
	if (r < 0)
		(void)switch_down(x->r, c, NULL);
	return r;
}

/* The interface of -i joins as with switch add, when the switch is there. */
static int switch_create(struct vm *vm, int argc, char **argv)
{
	char iface[IF_NAMESIZE] = "", *add[] = { (char *)"add", NULL, iface, NULL };
	struct switch_conf c = { .type = SWITCH_STANDARD };
	struct err err = { "" };
	struct change x;
	int r = parse_create(vm, argc, argv, &c);

	if (r)
		return r;
	if (strcmp(argv[optind], PLAN_NET_USER_NAME) == 0)
		return ui_error(K(005) "invalid switch name - 'user' stands for user networking");
	if (!store_name_valid(argv[optind]) || str_copy(c.name, sizeof(c.name), argv[optind]) < 0)
		return ui_error(K(005) "invalid switch name - '%s'", argv[optind]);
	r = begin(vm, &x);
	if (r)
		return r;
	if (c.type == SWITCH_STANDARD) {
		memcpy(iface, c.ports, sizeof(iface));
		c.ports[0] = '\0';
	}
	r = end(&x, make_switch(vm, &x, &c, iface, &err), &err);
	if (r || vm->dry_run)
		return r;
	if (c.type == SWITCH_NAT && sync_nat(vm, &err) < 0) {
		forget(vm, c.name);
		return ui_error("%s", err.text);
	}
	if (!iface[0])
		return 0;
	add[1] = c.name;
	optind = 1;
	r = switch_add(vm, 3, add);
	if (r)
		forget(vm, c.name);
	return r;
}

static void tell(const char *text)
{
	ui_warning("%s", text);
}

static void say_move(const struct vm *vm, const struct switch_conf *c, const char *iface,
		     enum uplink_way way)
{
	(void)vm_would(
		vm, way == UPLINK_JOIN ? "make %s a port of switch %s" : "take %s out of switch %s",
		iface, c->name);
}

/* Ends x. */
static int move(const struct vm *vm, struct change *x, const char *iface, enum uplink_way way,
		bool now)
{
	struct uplink *u = NULL;
	struct err err = { "" };
	int r;

	r = uplink_new(x->r, &x->c, iface, way, &u, &err);
	if (r == 0 && vm->dry_run) {
		uplink_free(u);
		say_move(vm, &x->c, iface, way);
		return end(x, 0, &err);
	}
	if (r == 0) {
		r = uplink_apply(x->r, &x->e, u, now, tell, &err);
		uplink_free(u);
	} else {
		(void)switch_edit_end(&x->e, false, NULL);
	}
	rtnl_close(x->r);
	return r < 0 ? ui_error("%s", err.text) : 0;
}

/* --now and the two words behind the options. */
static int parse_port(struct vm *vm, int argc, char **argv, bool *now)
{
	static const struct option longs[] = { { "now", no_argument, NULL, 'n' }, { 0 } };
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'n') {
			ui_error(K(002) "Illegal option %s", argv[optind - 1]);
			return ui_usage(vm);
		}
		*now = true;
	}
	return argc - optind == 2 ? 0 : ui_usage(vm);
}

static int switch_add(struct vm *vm, int argc, char **argv)
{
	const char *iface;
	struct err err = { "" };
	struct rtnl_link l;
	struct change x;
	bool now = false;
	int r = parse_port(vm, argc, argv, &now);

	if (r)
		return r;
	iface = argv[optind + 1];
	r = begin_named(vm, &x, argv[optind]);
	if (r)
		return r;
	r = check_kind(&x.c, false, &err);
	if (r == 0 && switch_has_port(&x.c, iface))
		r = err_set(&err, -EEXIST, K(024) "%s is a port of switch %s already", iface,
			    x.c.name);
	if (r == 0 && !vm->dry_run)
		r = switch_up(x.r, &x.c, &err);
	if (r == 0)
		r = uplink_check(x.r, &x.c, iface, &err);
	/* What would move cannot be told before there is a bridge. */
	if (r == 0 && vm->dry_run && (x.c.vlan || switch_bridge(x.r, &x.c, &l) < 0)) {
		say_move(vm, &x.c, iface, UPLINK_JOIN);
		return end(&x, 0, &err);
	}
	if (r == 0 && !vm->dry_run)
		r = switch_port_make(x.r, &x.c, iface, &err);
	return r < 0 ? end(&x, r, &err) : move(vm, &x, iface, UPLINK_JOIN, now);
}

static int switch_remove(struct vm *vm, int argc, char **argv)
{
	const char *iface;
	struct err err = { "" };
	struct rtnl_link l;
	struct change x;
	bool now = false;
	int r = parse_port(vm, argc, argv, &now);

	if (r)
		return r;
	iface = argv[optind + 1];
	r = begin_named(vm, &x, argv[optind]);
	if (r)
		return r;
	r = check_kind(&x.c, false, &err);
	if (r == 0 && !switch_has_port(&x.c, iface))
		r = err_set(&err, -ENOENT, K(071) "%s is no port of switch %s", iface, x.c.name);
	if (r < 0)
		return end(&x, r, &err);
	/* What is gone needs no more than to be forgotten. */
	if (switch_port(x.r, &x.c, iface, &l) == -ENODEV) {
		(void)switch_note_port(&x.c, iface, false);
		say_move(vm, &x.c, iface, UPLINK_LEAVE);
		return end(&x, switch_write(x.e.conf, &x.c, &err), &err);
	}
	return move(vm, &x, iface, UPLINK_LEAVE, now);
}

/* The host's own addresses may not lose their way out. */
static int check_empty(struct change *x, const char *what, struct err *err)
{
	if (x->c.type != SWITCH_STANDARD || !x->c.ports[0] || !switch_carries_host(x->r, &x->c))
		return 0;
	return err_set(
		err, -EBUSY,
		K(070) "switch %s carries addresses of this host: 'vm switch remove %s %s' moves them back; then %s",
		x->c.name, x->c.name, x->c.ports, what);
}

struct new_vlan {
	struct rtnl *r;
	const struct switch_conf *c; /* with it */
	struct err *err;
};

/* Nobody would look after the host's way out if it moved by the way. */
static int check_vlan_port(void *arg, const char *iface)
{
	struct new_vlan *v = arg;
	struct rtnl_link l;
	struct uplink *u;
	int r;

	if (switch_port(v->r, v->c, iface, &l) < 0)
		return 0;
	r = uplink_new(v->r, v->c, iface, UPLINK_JOIN, &u, v->err);
	if (r < 0)
		return r;
	if (uplink_moves(u))
		r = err_set(
			v->err, -EBUSY,
			K(070) "%s carries addresses of this host: 'vm switch remove %s %s', set the VLAN, and add it again",
			l.name, v->c->name, iface);
	uplink_free(u);
	return r;
}

static int switch_set_vlan(struct vm *vm, int argc, char **argv)
{
	struct switch_conf was;
	struct err err = { "" };
	struct change x;
	uint64_t id;
	int r;

	if (argc != 3)
		return ui_usage(vm);
	if (str_u64(argv[2], &id) < 0 || id > SWITCH_VLAN_MAX)
		return ui_error(K(006) "invalid vlan number - '%s'", argv[2]);
	r = begin_named(vm, &x, argv[1]);
	if (r)
		return r;
	r = check_kind(&x.c, false, &err);
	if (r < 0 && x.c.type == SWITCH_VXLAN)
		err_set(&err, r, K(071) "vxlan id can only be set at creation time");
	if (r == 0)
		r = check_empty(&x, "set the VLAN", &err);
	if (r < 0)
		return end(&x, r, &err);
	was = x.c;
	x.c.vlan = (unsigned int)id;
	r = switch_each_port(&x.c, check_vlan_port,
			     &(struct new_vlan){ .r = x.r, .c = &x.c, .err = &err });
	if (r < 0 || vm_would(vm, "set the VLAN of switch %s to %s", x.c.name, argv[2]))
		return end(&x, r, &err);
	switch_lower_ports(x.r, &was);
	r = switch_up(x.r, &x.c, &err);
	if (r == 0)
		r = switch_write(x.e.conf, &x.c, &err);
	if (r < 0) {
		switch_lower_ports(x.r, &x.c);
		(void)switch_up(x.r, &was, NULL);
	}
	return end(&x, r, &err);
}

static int set_address(struct change *x, char *slot, const char *cidr, struct err *err)
{
	struct rtnl_link l;
	int r = switch_bridge(x->r, &x->c, &l);

	if (r == 0 && x->e.store->dry_run)
		return 0;
	if (r == 0 && slot[0]) {
		r = rtnl_addr_delete(x->r, l.index, slot);
		if (r == -EADDRNOTAVAIL)
			r = 0;
	}
	if (r == 0 && cidr) {
		r = rtnl_addr_add(x->r, l.index, cidr);
		if (r == -EEXIST)
			r = 0;
		/* As it was. */
		if (r < 0 && slot[0])
			(void)rtnl_addr_add(x->r, l.index, slot);
	}
	if (r < 0)
		return err_set(err, r, "cannot set the address of switch %s: %s", x->c.name,
			       rtnl_error(x->r, r));
	return str_copy(slot, SWITCH_CIDR_MAX, cidr ? cidr : "");
}

static int change_address(struct change *x, const char *what, bool delete, struct err *err)
{
	struct rtnl_addr a;
	char *slot;
	int r;

	if (strcasecmp(what, "none") == 0) {
		if (!x->c.addr[0] && !x->c.addr6[0])
			return err_set(
				err, -ENOENT,
				K(071) "unable to locate an existing address for this switch");
		r = x->c.addr[0] ? set_address(x, x->c.addr, NULL, err) : 0;
		return r == 0 && x->c.addr6[0] ? set_address(x, x->c.addr6, NULL, err) : r;
	}
	if (rtnl_addr_parse(what, &a) < 0)
		return err_set(err, -EINVAL, BAD_CIDR);
	slot = a.family == AF_INET ? x->c.addr : x->c.addr6;
	if (delete &&strcmp(slot, what) != 0)
		return err_set(err, -ENOENT,
			       K(071) "unable to locate an existing address for this switch");
	return set_address(x, slot, delete ? NULL : what, err);
}

/* Asks before an address is replaced; nobody has to wait for the answer. 0, UI_NO or an exit status. */
static int ask_replace(struct vm *vm, const char *name, const char *what)
{
	struct switch_conf c;
	struct rtnl_addr a;
	struct gconf *g;
	const char *old;
	int r;

	if (rtnl_addr_parse(what, &a) < 0 || switch_load(&vm->store, &g, NULL) < 0)
		return 0;
	r = switch_read(g, name, &c, NULL);
	gconf_free(g);
	old = a.family == AF_INET ? c.addr : c.addr6;
	if (r < 0 || !old[0] || strcmp(old, what) == 0)
		return 0;
	return ui_ask("This switch already has %s assigned, replace it", old);
}

static int switch_address(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" };
	struct change x;
	bool delete = argc == 4 && strcasecmp(argv[3], "delete") == 0;
	int r;

	if (argc != 3 && !delete)
		return ui_usage(vm);
	r = delete || vm->dry_run ? 0 : ask_replace(vm, argv[1], argv[2]);
	if (r)
		return r == UI_NO ? 0 : r;
	r = begin_named(vm, &x, argv[1]);
	if (r)
		return r;
	if (x.c.type != SWITCH_STANDARD && x.c.type != SWITCH_VXLAN)
		r = check_kind(&x.c, true, &err);
	if (r == 0)
		r = change_address(&x, argv[2], delete, &err);
	if (r == 0)
		r = switch_write(x.e.conf, &x.c, &err);
	if (r == 0)
		(void)vm_would(vm, "%s the address %s of switch %s",
			       delete || strcasecmp(argv[2], "none") == 0 ? "remove" : "set",
			       argv[2], x.c.name);
	return end(&x, r, &err);
}

static int parse_switch(const char *text, bool *on)
{
	if (str_bool(text, on) < 0)
		return ui_error(K(004) "'%s' is neither on nor off", text);
	return 0;
}

static int switch_private(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" };
	struct change x;
	bool on;
	int r;

	if (argc != 3)
		return ui_usage(vm);
	r = parse_switch(argv[2], &on);
	if (r == 0)
		r = begin_named(vm, &x, argv[1]);
	if (r)
		return r;
	x.c.private = on;
	(void)vm_would(vm, "make switch %s %s", x.c.name, on ? "private" : "open");
	return end(&x, switch_write(x.e.conf, &x.c, &err), &err);
}

/* Makes a switch again what it was, when it cannot become a NAT switch. */
static void take_nat_back(struct vm *vm, const struct switch_conf *was)
{
	struct err ignored;
	struct change x;

	if (begin(vm, &x))
		return;
	if (switch_read(x.e.conf, was->name, &x.c, NULL) < 0) {
		(void)switch_edit_end(&x.e, false, NULL);
		rtnl_close(x.r);
		return;
	}
	x.c.type = was->type;
	if (!was->addr[0])
		(void)set_address(&x, x.c.addr, NULL, &ignored);
	if (!was->addr6[0])
		(void)set_address(&x, x.c.addr6, NULL, &ignored);
	(void)end(&x, switch_write(x.e.conf, &x.c, &ignored), &ignored);
	(void)sync_nat(vm, &ignored);
}

static int switch_nat(struct vm *vm, int argc, char **argv)
{
	struct switch_conf was;
	struct err err = { "" };
	struct change x;
	bool on;
	int r;

	if (argc != 3)
		return ui_usage(vm);
	r = parse_switch(argv[2], &on);
	if (r == 0)
		r = begin_named(vm, &x, argv[1]);
	if (r)
		return r;
	was = x.c;
	if (on && x.c.type != SWITCH_STANDARD && x.c.type != SWITCH_NAT)
		r = err_set(&err, -ENOTSUP,
			    K(071) "only a standard switch can become a NAT switch");
	else if (on && x.c.ports[0])
		r = err_set(&err, -EBUSY,
			    K(071) "a NAT switch has no ports: 'vm switch remove %s %s' first",
			    x.c.name, x.c.ports);
	else if (on || x.c.type == SWITCH_NAT)
		x.c.type = on ? SWITCH_NAT : SWITCH_STANDARD;
	if (r == 0)
		r = choose_addresses(vm, &x.c, &err);
	if (r == 0 && vm_would(vm, "make switch %s a %s switch", x.c.name,
			       x.c.type == SWITCH_NAT ? "NAT" : "standard"))
		return end(&x, 0, &err);
	if (r == 0)
		r = switch_up(x.r, &x.c, &err);
	if (r == 0)
		r = switch_write(x.e.conf, &x.c, &err);
	r = end(&x, r, &err);
	if (r || sync_nat(vm, &err) == 0)
		return r;
	if (on && was.type != SWITCH_NAT)
		take_nat_back(vm, &was);
	return ui_error("%s", err.text);
}

static int switch_confirm(struct vm *vm, int argc, char **argv)
{
	struct err err = { "" };

	if (argc != 2)
		return ui_usage(vm);
	if (geteuid() != 0)
		return ui_error(K(034) "switches can only be changed by root");
	return vm_done(vm, uplink_confirm(&vm->store, argv[1], &err), &err,
		       "keep the change of switch %s", argv[1]);
}

static int switch_destroy(struct vm *vm, int argc, char **argv)
{
	char guests[256];
	struct err err = { "" };
	struct rtnl_link l;
	struct change x;
	int r;

	if (argc != 2)
		return ui_usage(vm);
	r = begin_named(vm, &x, argv[1]);
	if (r)
		return r;
	if (x.c.type != SWITCH_MANUAL && switch_bridge(x.r, &x.c, &l) == 0 &&
	    switch_guests(x.r, l.index, guests, sizeof(guests)) > 0)
		r = err_set(&err, -EBUSY, K(027) "switch %s is in use by %s: stop them first",
			    x.c.name, guests);
	if (r == 0)
		r = check_empty(&x, "destroy the switch", &err);
	if (r < 0 || vm_would(vm, "remove switch %s", x.c.name))
		return end(&x, r, &err);
	/* From here on it is gone for everybody else, whatever is still to be removed of it. */
	switch_erase(x.e.conf, x.c.name);
	r = switch_edit_end(&x.e, true, &err);
	if (r == 0 && x.c.type == SWITCH_NAT)
		r = sync_nat(vm, &err);
	if (r == 0)
		r = switch_down(x.r, &x.c, &err);
	rtnl_close(x.r);
	return r < 0 ? ui_error("%s", err.text) : 0;
}

static int raise_switch(void *arg, const char *name)
{
	struct change *x = arg;
	struct err err = { "" };

	/* One that fails is no reason to leave the others down. */
	if (switch_read(x->e.conf, name, &x->c, &err) < 0 || switch_up(x->r, &x->c, &err) < 0) {
		ui_error("%s", err.text);
		x->failed = true;
	}
	return 0;
}

/* Also when no switch is left: what a command that was killed has not removed has to go. */
static int init_nat(struct vm *vm)
{
	struct err err = { "" }, warning = { "" };

	if (nat_sync_guest(&vm->store, &warning, &err) < 0)
		return ui_error("%s", err.text);
	if (warning.text[0])
		ui_warning("%s", warning.text);
	return 0;
}

int vm_init_switches(struct vm *vm)
{
	struct err err = { "" };
	struct gconf *g;
	struct change x;
	int r;

	if (geteuid() != 0)
		return 0;
	if (switch_load(&vm->store, &g, &err) < 0)
		return ui_error("%s", err.text);
	r = gconf_get(g, "switch_list") != NULL;
	gconf_free(g);
	if (!r)
		return init_nat(vm);
	if (uplink_repair(&vm->store, tell, &err) < 0)
		return ui_error("%s", err.text);
	r = begin(vm, &x);
	if (r)
		return r;
	(void)switch_each(x.e.conf, raise_switch, &x);
	tap_sweep(x.r);
	(void)switch_edit_end(&x.e, false, NULL);
	rtnl_close(x.r);
	r = init_nat(vm);
	return x.failed ? VM_FAILED : r;
}

/* A subcommand by its name or a unique prefix. NULL: reported. */
static const struct sub *find_sub(const char *word)
{
	const struct sub *found = NULL;
	unsigned int matches = 0;

	for (size_t i = 0; i < ARRAY_LEN(subs); i++) {
		if (strcasecmp(word, subs[i].name) == 0)
			return &subs[i];
		if (*word && strncasecmp(word, subs[i].name, strlen(word)) == 0) {
			found = &subs[i];
			matches++;
		}
	}
	if (matches == 1)
		return found;
	ui_error(matches ? K(001) "ambiguous command 'switch %s'"
			 : K(001) "unknown command 'switch %s'; 'vm help switch' lists them",
		 word);
	return NULL;
}

int verb_switch(struct vm *vm, int argc, char **argv)
{
	const struct sub *sub;
	struct err err = { "" };

	if (argc < 2)
		return ui_usage(vm);
	sub = find_sub(argv[1]);
	if (!sub)
		return VM_FAILED;
	if (!vm->dry_run && sub->run != switch_confirm && uplink_repair(&vm->store, tell, &err) < 0)
		return ui_error("%s", err.text);
	return sub->run(vm, argc - 1, argv + 1);
}
