/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/nat.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/dnsmasq.h"
#include "manager/file.h"
#include "manager/forward.h"
#include "manager/guestconf.h"
#include "manager/lock.h"
#include "manager/nat_priv.h"
#include "manager/nft.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

/* .config/nat has the file sysctl, and a folder for each switch with dnsmasq's files and: */
#define FILE_ADDRESSES "addresses" /* lines "MAC OFFSET": guests keep their addresses */
#define FILE_MAX (1u << 20)

struct nat {
	const struct store *s;
	struct gconf *conf;
	struct rtnl *rtnl;
	struct nat_net *nets;
	size_t n;
	struct err *warning;
	char dir[PATH_MAX];
};

uint32_t nat_last(const struct nat_net *net)
{
	return (net->len ? ~0u >> net->len : ~0u) - 1;
}

uint32_t nat_static_last(const struct nat_net *net)
{
	return nat_last(net) / 4 * 3;
}

/* Keeps the first of several warnings. */
static void warn(struct nat *nat, const struct err *text)
{
	if (!nat->warning->text[0])
		*nat->warning = *text;
}

/* The switch's addresses, from those of the host on it. */
static int set_addresses(struct nat_net *net, const struct switch_conf *c, struct err *err)
{
	struct rtnl_addr a;
	uint32_t be;

	if (rtnl_addr_parse(c->addr, &a) < 0 || a.family != AF_INET || a.plen < 8 || a.plen > 29)
		return err_set(err, -EINVAL,
			       "switch %s: a NAT switch needs an IPv4 address with a prefix of 8 "
			       "to 29 bits: vm switch address %s 172.31.1.1/24",
			       c->name, c->name);
	memcpy(&be, a.addr, sizeof(be));
	net->gateway = ntohl(be);
	net->len = a.plen;
	net->net = net->gateway & (~0u << (32 - a.plen));
	net->v6 = c->addr6[0] && rtnl_addr_parse(c->addr6, &a) == 0 && a.family == AF_INET6 &&
		  a.plen == 64;
	if (net->v6)
		memcpy(&net->gateway6, a.addr, sizeof(net->gateway6));
	return 0;
}

static int add_net(struct nat *nat, const struct switch_conf *c, const char *bridge)
{
	struct nat_net *nets = realloc(nat->nets, (nat->n + 1) * sizeof(*nets)), *net;
	struct err err;

	if (!nets)
		return -ENOMEM;
	nat->nets = nets;
	net = &nets[nat->n];
	*net = (struct nat_net){ 0 };
	if (str_copy(net->name, sizeof(net->name), c->name) < 0 ||
	    str_copy(net->bridge, sizeof(net->bridge), bridge) < 0)
		return -ENAMETOOLONG;
	if (set_addresses(net, c, &err) < 0)
		warn(nat, &err);
	else
		nat->n++;
	return 0;
}

/* A switch of type nat whose bridge is there. */
static int load_net(void *arg, const char *name)
{
	struct nat *nat = arg;
	struct switch_conf c;
	struct rtnl_link bridge;
	struct err err;

	if (switch_read(nat->conf, name, &c, &err) < 0 || c.type != SWITCH_NAT ||
	    switch_bridge(nat->rtnl, &c, &bridge) < 0)
		return 0;
	return add_net(nat, &c, bridge.name);
}

static struct nat_net *find_net(const struct nat *nat, const char *name)
{
	for (size_t i = 0; i < nat->n; i++) {
		if (strcmp(nat->nets[i].name, name) == 0)
			return &nat->nets[i];
	}
	return NULL;
}

/* A MAC address as it is written into rules: six pairs of digits. */
static bool is_mac(const char *text)
{
	uint8_t mac[6];

	return str_mac(text, mac) == 0 && !strchr(text, '-');
}

static int add_host(struct nat_net *net, const struct guest *g, const struct gconf *conf,
		    unsigned n, const char *mac)
{
	struct nat_host *hosts = realloc(net->hosts, (net->n_hosts + 1) * sizeof(*hosts)), *h;
	int r;

	if (!hosts)
		return -ENOMEM;
	net->hosts = hosts;
	h = &hosts[net->n_hosts];
	*h = (struct nat_host){ 0 };
	r = str_copy(h->guest, sizeof(h->guest), g->name);
	if (r == 0)
		r = str_copy(h->mac, sizeof(h->mac), mac);
	if (r == 0)
		r = port_load(conf, n, &h->ports, &h->n_ports);
	if (r == 0)
		net->n_hosts++;
	return r;
}

static int load_guest(void *arg, const struct guest *g)
{
	struct nat *nat = arg;
	struct gconf *conf;
	struct err err;
	int r = 0;

	/* A file that cannot be read keeps no other guest from the network. */
	if (gconf_load(g->conf, &conf, &err) < 0)
		return 0;
	for (unsigned n = 0; r == 0 && gconf_getf(conf, "network%u_type", n); n++) {
		const char *name = gconf_getf(conf, "network%u_switch", n);
		const char *mac = gconf_getf(conf, "network%u_mac", n);
		struct nat_net *net = name ? find_net(nat, name) : NULL;

		if (net && mac && is_mac(mac))
			r = add_host(net, g, conf, n, mac);
	}
	gconf_free(conf);
	return r;
}

/* --- addresses of guests --- */

/* Who had which address: by offset, "" for nobody. */
struct addresses {
	char (*macs)[18];
	uint32_t last;
};

static int load_addresses(const char *path, struct addresses *a)
{
	char *text, mac[18];
	unsigned offset;
	size_t len;
	int r = fd_read_file(path, FILE_MAX, &text, &len);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		if (sscanf(p, "%17s %u", mac, &offset) == 2 && is_mac(mac) && offset > 0 &&
		    offset <= a->last)
			memcpy(a->macs[offset], mac, sizeof(mac));
	}
	free(text);
	return 0;
}

static int save_addresses(const char *path, const struct addresses *a, struct err *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);
	int r;

	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	for (uint32_t i = 1; i <= a->last; i++) {
		if (a->macs[i][0])
			fprintf(f, "%s %u\n", a->macs[i], i);
	}
	r = fclose(f) == 0 ? file_write_atomic(path, text, len, 0644, err)
			   : err_set(err, -ENOMEM, K(080) "out of memory");
	free(text);
	return r;
}

static bool is_used(const struct nat_net *net, const char *mac)
{
	for (size_t i = 0; i < net->n_hosts; i++) {
		if (strcasecmp(net->hosts[i].mac, mac) == 0)
			return true;
	}
	return false;
}

/* The address that a guest had, else one that nobody ever had, else one whose guest is gone; 0: none. */
static uint32_t choose_offset(const struct nat_net *net, const struct addresses *a, const char *mac)
{
	uint32_t own = net->gateway - net->net;

	for (uint32_t i = 1; i <= a->last; i++) {
		if (i != own && strcasecmp(a->macs[i], mac) == 0)
			return i;
	}
	for (uint32_t i = 1; i <= a->last; i++) {
		if (i != own && !a->macs[i][0])
			return i;
	}
	for (uint32_t i = 1; i <= a->last; i++) {
		if (i != own && !is_used(net, a->macs[i]))
			return i;
	}
	return 0;
}

/* More guests than this on one switch get addresses, but not always the same. */
#define STATIC_MAX 4096

/* Gives every guest of a switch its address. */
static int assign(const char *dir, struct nat_net *net, struct err *err)
{
	struct addresses a = { .last = nat_static_last(net) };
	char path[PATH_MAX];
	bool changed = false;
	int r = file_path(path, sizeof(path), "%s/" FILE_ADDRESSES, dir);

	if (a.last > STATIC_MAX)
		a.last = STATIC_MAX;
	a.macs = calloc(a.last + 1, sizeof(*a.macs));
	if (r == 0)
		r = a.macs ? load_addresses(path, &a) : -ENOMEM;
	if (r < 0) {
		free(a.macs);
		return err_set(err, r, "cannot read %s: %s", path, strerror(-r));
	}
	for (size_t i = 0; i < net->n_hosts; i++) {
		struct nat_host *h = &net->hosts[i];

		h->offset = choose_offset(net, &a, h->mac);
		if (h->offset && strcasecmp(a.macs[h->offset], h->mac) != 0) {
			memcpy(a.macs[h->offset], h->mac, sizeof(h->mac));
			changed = true;
		}
	}
	if (changed)
		r = save_addresses(path, &a, err);
	free(a.macs);
	return r;
}

/* --- the host --- */

static int net_dir(const struct nat *nat, const char *name, char out[PATH_MAX])
{
	return file_path(out, PATH_MAX, "%s/%s", nat->dir, name);
}

/* Opens .config/nat, made if need be, under the lock of all who change it. */
static int lock_nat(struct nat *nat, struct err *err)
{
	struct stat a, b;
	int fd, r = 0;

	while (r == 0) {
		r = file_make_dirs(nat->dir, 0755, err);
		if (r < 0)
			break;
		fd = lock_dir(nat->dir, true);
		if (fd < 0 && fd != -ENOENT)
			return err_set(err, fd, "%s: %s", nat->dir, strerror(-fd));
		/* Whoever removed the last switch has removed the folder, too. */
		if (fd >= 0 && stat(nat->dir, &a) == 0 && fstat(fd, &b) == 0 &&
		    a.st_ino == b.st_ino && a.st_dev == b.st_dev)
			return fd;
		fd_close(&fd);
	}
	return r;
}

/* What is left of a switch that is gone or is not a NAT switch any more. */
static int drop_net(struct nat *nat, const char *name, struct err *err)
{
	struct rtnl_link bridge;
	struct switch_conf c;
	char dir[PATH_MAX];
	struct err ignored;
	int r = net_dir(nat, name, dir);

	if (r < 0)
		return err_set(err, r, K(053) "%s: the path is too long", nat->dir);
	r = dnsmasq_down(dir, err);
	if (r < 0)
		return r;
	if (switch_read(nat->conf, name, &c, &ignored) == 0 && c.type != SWITCH_NAT &&
	    switch_bridge(nat->rtnl, &c, &bridge) == 0)
		forward_bridge_off(bridge.name);
	r = file_remove_tree(AT_FDCWD, dir);
	return r < 0 ? err_set(err, r, "cannot remove %s: %s", dir, strerror(-r)) : 0;
}

static int drop_others(struct nat *nat, struct err *err)
{
	struct dirent *e;
	DIR *d = opendir(nat->dir);
	int r = 0;

	while (d && r == 0 && (e = readdir(d))) {
		if (e->d_name[0] != '.' && strcmp(e->d_name, "sysctl") != 0 &&
		    !find_net(nat, e->d_name))
			r = drop_net(nat, e->d_name, err);
	}
	if (d)
		closedir(d);
	return r;
}

static int raise_net(struct nat *nat, struct nat_net *net, struct err *err)
{
	char dir[PATH_MAX];
	int r = net_dir(nat, net->name, dir);

	if (r < 0)
		return err_set(err, r, K(053) "%s: the path is too long", nat->dir);
	r = file_make_dirs(dir, 0755, err);
	if (r == 0)
		r = assign(dir, net, err);
	if (r == 0)
		r = dnsmasq_up(dir, net, err);
	net->served = r == 0;
	return r;
}

/* The first of several errors is the one that is told. */
static int first(int r, int next, struct err *err, const struct err *text)
{
	if (r < 0 || next >= 0)
		return r;
	if (err)
		*err = *text;
	return next;
}

/* Lets packets of guests through, which changes nothing for switches that work already. */
static int sync_forward(const struct nat *nat, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < nat->n; i++) {
		if (nat->nets[i].served)
			r = forward_bridge(nat->nets[i].bridge, err);
	}
	return r == 0 && nat->n ? forward_on(nat->dir, err) : r;
}

/*
 * The order keeps guests in: rules stand before packets are forwarded, and go after. A switch that fails
 * keeps no other from working.
 */
static int sync_host(struct nat *nat, struct err *err)
{
	struct err warning = { "" }, text = { "" };
	int r = drop_others(nat, err), e;

	for (size_t i = 0; i < nat->n; i++)
		r = first(r, raise_net(nat, &nat->nets[i], &text), err, &text);
	if (r == 0 && nat->n == 0)
		r = forward_off(nat->dir, err);
	e = nft_apply(nat->nets, nat->n, nat->s->dir, &warning, &text);
	if (e == 0)
		e = sync_forward(nat, &text);
	r = first(r, e, err, &text);
	if (warning.text[0])
		warn(nat, &warning);
	if (r == 0 && nat->n == 0)
		rmdir(nat->dir);
	return r;
}

static void nat_fini(struct nat *nat)
{
	for (size_t i = 0; i < nat->n; i++) {
		for (size_t h = 0; h < nat->nets[i].n_hosts; h++)
			free(nat->nets[i].hosts[h].ports);
		free(nat->nets[i].hosts);
	}
	free(nat->nets);
	rtnl_close(nat->rtnl);
	gconf_free(nat->conf);
}

static int load(struct nat *nat, struct err *err)
{
	int r = switch_load(nat->s, &nat->conf, err);

	if (r == 0)
		r = rtnl_open(&nat->rtnl, err);
	if (r < 0)
		return r;
	r = switch_each(nat->conf, load_net, nat);
	if (r == 0 && nat->n)
		r = store_each(nat->s, load_guest, nat);
	return r < 0 ? err_set(err, r, "cannot read the guests of %s: %s", nat->s->dir,
			       strerror(-r))
		     : 0;
}

int nat_sync(const struct store *s, struct err *warning, struct err *err)
{
	struct nat nat = { .s = s, .warning = warning };
	int lock, r;

	warning->text[0] = '\0';
	if (file_path(nat.dir, sizeof(nat.dir), "%s/.config/nat", s->dir) < 0)
		return err_set(err, -ENAMETOOLONG, K(053) "%s: the path is too long", s->dir);
	lock = lock_nat(&nat, err);
	if (lock < 0)
		return lock;
	r = load(&nat, err);
	if (r == 0)
		r = sync_host(&nat, err);
	nat_fini(&nat);
	close(lock);
	return r;
}

static int is_nat(void *arg, const char *name)
{
	const char *type = gconf_getf(arg, "type_%s", name);

	return type && strcmp(type, switch_type_name(SWITCH_NAT)) == 0;
}

/* Configured, or not removed whole. */
static bool has_nat(const struct store *s)
{
	char path[PATH_MAX];
	struct gconf *conf;
	bool found;

	if (file_path(path, sizeof(path), "%s/.config/nat", s->dir) == 0 && access(path, F_OK) == 0)
		return true;
	if (switch_load(s, &conf, NULL) < 0)
		return false;
	found = switch_each(conf, is_nat, conf) == 1;
	gconf_free(conf);
	return found;
}

int nat_sync_guest(const struct store *s, struct err *warning, struct err *err)
{
	warning->text[0] = '\0';
	return has_nat(s) ? nat_sync(s, warning, err) : 0;
}

/* --- leases --- */

/* Whether a DHCPv6 client's identifier, bytes in hexadecimal with colons, ends in the MAC address. */
static bool has_mac(const char *duid, const char *mac)
{
	size_t a = strlen(duid), b = strlen(mac);

	return a > b && strcasecmp(duid + a - b, mac) == 0;
}

int nat_addresses(const struct store *s, const char *name, const char *mac, char *out, size_t size)
{
	char path[PATH_MAX], *text = NULL, found[256] = "";
	size_t len, used = 0;
	int r = file_path(path, sizeof(path), "%s/.config/nat/%s/leases", s->dir, name);

	if (r == 0)
		r = fd_read_file(path, FILE_MAX, &text, &len);
	if (r < 0)
		return r;
	for (const char *p = text; p && *p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL) {
		char id[64], address[64], duid[256];
		int n;

		if (sscanf(p, "%*s %63s %63s %*s %255s", id, address, duid) != 3 ||
		    (strcasecmp(id, mac) != 0 && !has_mac(duid, mac)))
			continue;
		n = snprintf(found + used, sizeof(found) - used, "%s%s", used ? " " : "", address);
		if (n < 0 || (size_t)n >= sizeof(found) - used)
			break;
		used += (size_t)n;
	}
	free(text);
	return used ? str_copy(out, size, found) : -ENOENT;
}
