/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/plan.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define TUN_DEVICE "/dev/net/tun"
#define DEFAULT_VLAN 1
#define LAST_VLAN 4094
#define MACVTAP_DEVICE "/dev/tap"

static int set_tap(int fd, const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags) };

	if (str_copy(ifr.ifr_name, sizeof(ifr.ifr_name), name) < 0)
		return -ENAMETOOLONG;
	return ioctl(fd, TUNSETIFF, &ifr) < 0 ? -errno : 0;
}

static int tap_name(int fd, char *out)
{
	struct ifreq ifr = { 0 };

	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return -errno;
	return str_copy(out, IF_NAMESIZE, ifr.ifr_name);
}

/* networkN_device: an interface of the person's own, used as it is. */
static int open_device(struct rtnl *r, const struct plan_net *n, int *fd, struct err *err)
{
	char path[32] = TUN_DEVICE;
	struct rtnl_link l;
	int e = rtnl_link_get(r, n->name, &l);

	if (e == 0 && strcmp(l.kind, "macvtap") == 0)
		e = file_path(path, sizeof(path), MACVTAP_DEVICE "%u", l.index);
	else if (e == 0 && strcmp(l.kind, "tun") != 0)
		return err_set(err, -EINVAL,
			       "network%u_device: %s is neither a tap nor a macvtap interface",
			       n->number, n->name);
	if (e < 0)
		return err_set(err, e, "network%u_device: %s: %s", n->number, n->name,
			       rtnl_error(r, e));
	*fd = open(path, O_RDWR | O_CLOEXEC);
	if (*fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	e = set_tap(*fd, n->name, 0);
	if (e == -EINVAL)
		e = set_tap(*fd, n->name, IFF_MULTI_QUEUE);
	return e < 0 ? err_set(err, e, "network%u_device: %s: %s%s", n->number, n->name,
			       strerror(-e), e == -EBUSY ? "; another program has it open" : "")
		     : 0;
}

static int open_tap(const struct plan_net *n, int *fd, struct err *err)
{
	int e;

	*fd = open(TUN_DEVICE, O_RDWR | O_CLOEXEC);
	if (*fd < 0)
		return err_set(err, -errno, K(033) "%s: %s; 'modprobe tun' may help", TUN_DEVICE,
			       strerror(errno));
	e = set_tap(*fd, n->name[0] ? n->name : "tap%d", IFF_TUN_EXCL);
	if (e == -EPERM)
		return err_set(err, e, K(033) "cannot make a tap interface: not permitted");
	return e < 0 ? err_set(err, e, "cannot make tap interface %s: %s", n->name, strerror(-e))
		     : 0;
}

/* A NIC with a VLAN of its own needs a bridge that knows VLANs; all other ports stay trunks. */
struct trunk {
	struct rtnl *r;
	unsigned int bridge;
	int error;
};

static int make_trunk(void *arg, const struct rtnl_link *l)
{
	struct trunk *t = arg;

	if (l->master == t->bridge && t->error == 0)
		t->error = rtnl_port_vlan(t->r, l->index, DEFAULT_VLAN + 1, LAST_VLAN, false);
	return 0;
}

/* Before the tap joins. */
static int prepare_vlans(struct rtnl *r, struct rtnl_link *bridge, unsigned int vlan)
{
	struct trunk t = { .r = r, .bridge = bridge->index };
	int e;

	if (!vlan || bridge->vlan_filtering)
		return 0;
	e = rtnl_link_each(r, make_trunk, &t);
	if (e == 0)
		e = t.error;
	if (e == 0)
		e = rtnl_set_vlan_filtering(r, bridge->index, true);
	if (e == 0)
		bridge->vlan_filtering = true;
	return e;
}

/* After it has. */
static int set_vlan(struct rtnl *r, const struct rtnl_link *bridge, unsigned int tap,
		    unsigned int vlan)
{
	int e = 0;

	if (!bridge->vlan_filtering)
		return 0;
	if (!vlan)
		return rtnl_port_vlan(r, tap, DEFAULT_VLAN + 1, LAST_VLAN, false);
	if (vlan != DEFAULT_VLAN)
		e = rtnl_port_vlan_delete(r, tap, DEFAULT_VLAN);
	return e == 0 ? rtnl_port_vlan(r, tap, vlan, vlan, true) : e;
}

/* Whether a link watches the switch: a guest's tap with its name that is no port of a bridge. */
static bool is_watcher(const struct rtnl_link *l, const char *switch_name)
{
	const char *last = strrchr(l->alias, '/');

	return str_starts(l->alias, TAP_ALIAS) && last && strcmp(last + 1, switch_name) == 0 &&
	       !l->master && strcmp(l->kind, "tun") == 0;
}

struct watch_port {
	struct rtnl *r;
	const char *name;
	unsigned int from;
	int error;
};

static int watch_from(void *arg, const struct rtnl_link *l)
{
	struct watch_port *w = arg;

	if (w->error == 0 && is_watcher(l, w->name))
		w->error = rtnl_mirror_add(w->r, w->from, true, l->index);
	return 0;
}

static int watch_port(struct rtnl *r, const char *switch_name, const struct rtnl_link *port)
{
	struct watch_port w = { .r = r, .name = switch_name, .from = port->index };
	int e = rtnl_link_each(r, watch_from, &w);

	return e < 0 ? e : w.error;
}

struct watch_all {
	struct rtnl *r;
	unsigned int bridge, tap;
	int error;
};

static int watch_one(void *arg, const struct rtnl_link *l)
{
	struct watch_all *w = arg;

	if (w->error == 0 && l->master == w->bridge)
		w->error = rtnl_mirror_add(w->r, l->index, true, w->tap);
	return 0;
}

/* What arrives at any port, and what the host itself sends. */
static int watch_switch(struct rtnl *r, unsigned int bridge, unsigned int tap)
{
	struct watch_all w = { .r = r, .bridge = bridge, .tap = tap };
	int e = rtnl_link_each(r, watch_one, &w);

	if (e == 0)
		e = w.error;
	return e == 0 ? rtnl_mirror_add(r, bridge, false, tap) : e;
}

static int sweep_link(void *arg, const struct rtnl_link *l)
{
	if (l->master || (strcmp(l->kind, "bridge") == 0 && str_starts(l->alias, "vm/")))
		(void)rtnl_mirror_sweep(arg, l->index, false);
	return 0;
}

void tap_sweep(struct rtnl *r)
{
	(void)rtnl_link_each(r, sweep_link, r);
}

int tap_settle_port(struct rtnl *r, const char *switch_name, const struct rtnl_link *port)
{
	struct rtnl_link bridge;
	int e = rtnl_link_index(r, port->master, &bridge);

	if (e == 0 && bridge.vlan_filtering)
		e = rtnl_port_vlan(r, port->index, DEFAULT_VLAN + 1, LAST_VLAN, false);
	return e == 0 ? watch_port(r, switch_name, port) : e;
}

static int join(struct rtnl *r, const struct plan_net *n, struct rtnl_link *bridge,
		const struct rtnl_link *tap)
{
	int e = prepare_vlans(r, bridge, n->vlan);

	if (e == 0)
		e = rtnl_set_master(r, tap->index, bridge->index);
	if (e == 0 && n->network.private)
		e = rtnl_set_isolated(r, tap->index, true);
	if (e == 0)
		e = set_vlan(r, bridge, tap->index, n->vlan);
	if (e == 0)
		e = watch_port(r, n->network.name, tap);
	return e;
}

static int connect_tap(struct rtnl *r, const struct plan_net *n, const struct rtnl_link *tap,
		       struct tap *out, struct err *err)
{
	struct rtnl_link bridge;
	int e = switch_bridge(r, &n->network, &bridge);

	/* After a boot, perhaps before anybody has run vm init. */
	if (e == -ENODEV && n->network.type != SWITCH_MANUAL) {
		e = switch_up(r, &n->network, err);
		if (e < 0)
			return e;
		e = switch_bridge(r, &n->network, &bridge);
	}
	if (e == 0 && tap->mtu != bridge.mtu)
		e = rtnl_set_mtu(r, tap->index, bridge.mtu);
	if (e == 0)
		e = n->span ? watch_switch(r, bridge.index, tap->index) : join(r, n, &bridge, tap);
	if (e < 0)
		return err_set(err, e, "failed to add %s to %s: %s", tap->name, n->network.name,
			       rtnl_error(r, e));
	memcpy(out->bridge, bridge.name, sizeof(out->bridge));
	return 0;
}

static int set_limits(struct rtnl *r, const struct plan_net *n, const struct rtnl_link *tap,
		      struct err *err)
{
	int e = n->limit_in ? rtnl_limit_egress(r, tap->index, n->limit_in) : 0;

	if (e < 0)
		return err_set(err, e,
			       K(033) "network%u_limit_in: %s (this needs the kernel's sch_tbf)",
			       n->number, rtnl_error(r, e));
	e = n->limit_out ? rtnl_limit_ingress(r, tap->index, n->limit_out) : 0;
	return e < 0 ? err_set(err, e,
			       K(033) "network%u_limit_out: %s (this needs the kernel's cls_u32 and act_police)",
			       n->number, rtnl_error(r, e))
		     : 0;
}

static int set_identity(struct rtnl *r, const struct guest *g, const struct plan_net *n,
			const struct rtnl_link *tap)
{
	char alias[RTNL_ALIAS_MAX];
	int e = file_path(alias, sizeof(alias), TAP_ALIAS "%s/%u/%s", g->name, n->number,
			  n->network.name[0] ? n->network.name : "-");

	if (e < 0)
		e = file_path(alias, sizeof(alias), TAP_ALIAS "%.100s/%u/%.100s", g->name,
			      n->number, n->network.name);
	if (e == 0)
		e = rtnl_set_alias(r, tap->index, alias);
	if (e == 0)
		e = rtnl_set_no_ipv6(r, tap->index);
	/* A kernel without IPv6 gives it no address anyhow. */
	return e == -EAFNOSUPPORT || e == -EOPNOTSUPP ? 0 : e;
}

static int set_up(struct rtnl *r, const struct guest *g, const struct plan_net *n, struct tap *t,
		  struct err *err)
{
	struct rtnl_link l;
	int e = rtnl_link_get(r, t->name, &l);

	if (e == 0 && !n->device)
		e = set_identity(r, g, n, &l);
	if (e < 0)
		return err_set(err, e, "%s: %s", t->name, rtnl_error(r, e));
	if (n->network.name[0] && !(n->device && l.master)) {
		e = connect_tap(r, n, &l, t, err);
		if (e < 0)
			return e;
	}
	e = set_limits(r, n, &l, err);
	if (e < 0)
		return e;
	e = rtnl_set_up(r, l.index, true);
	return e < 0 ? err_set(err, e, "cannot bring %s up: %s", t->name, rtnl_error(r, e)) : 0;
}

int tap_open(struct rtnl *r, const struct guest *g, const struct plan_net *n, struct tap *out,
	     struct err *err)
{
	struct tap t = { .fd = -1 };
	int e = n->device ? open_device(r, n, &t.fd, err) : open_tap(n, &t.fd, err);

	if (e == 0) {
		e = tap_name(t.fd, t.name);
		if (e < 0)
			err_set(err, e, "%s: %s", n->name, strerror(-e));
	}
	if (e == 0)
		e = set_up(r, g, n, &t, err);
	if (e < 0)
		fd_close(&t.fd);
	else
		*out = t;
	return e;
}

struct find_tap {
	char prefix[RTNL_ALIAS_MAX];
	struct rtnl_link *out;
};

static int is_tap(void *arg, const struct rtnl_link *l)
{
	struct find_tap *f = arg;

	if (!str_starts(l->alias, f->prefix))
		return 0;
	*f->out = *l;
	return 1;
}

int tap_find(struct rtnl *r, const struct guest *g, unsigned int n, struct rtnl_link *out)
{
	struct find_tap f = { .out = out };
	int e = file_path(f.prefix, sizeof(f.prefix), TAP_ALIAS "%s/%u/", g->name, n);

	if (e == 0)
		e = rtnl_link_each(r, is_tap, &f);
	return e == 1 ? 0 : e == 0 ? -ENODEV : e;
}
