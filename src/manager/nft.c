/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/nft.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/nat_priv.h"
#include "manager/prog.h"
#include "manager/wall.h"
#include "util/err.h"
#include "util/fd.h"

#define TABLE "inet khyve"
/* nft's limit for a comment is 128 bytes with its NUL. */
#define OWNER_MAX 120
#define TABLES_MAX 4096
/* Whether frames that pass a bridge go through the chains for packets; no such file: no. */
#define BRIDGE_CALLS "/proc/sys/net/bridge/bridge-nf-call-iptables"
#define VALUE_MAX 32
#define IP_TEXT INET_ADDRSTRLEN
#define IP6_TEXT INET6_ADDRSTRLEN

static const char *ip_text(uint32_t addr, char out[IP_TEXT])
{
	struct in_addr a = { .s_addr = htonl(addr) };

	return inet_ntop(AF_INET, &a, out, IP_TEXT);
}

/* The switch's IPv6 prefix, without its length. */
static const char *prefix6_text(const struct nat_net *net, char out[IP6_TEXT])
{
	struct in6_addr a = net->gateway6;

	memset(a.s6_addr + 8, 0, 8);
	return inet_ntop(AF_INET6, &a, out, IP6_TEXT);
}

/*
 * Loopback addresses are forwarded to guests (route_localnet on the bridge), so whatever a guest
 * sends to or from 127.0.0.0/8 must end before connection tracking could take it for an answer.
 */
static void put_early(FILE *f, const struct nat_net *nets, size_t n)
{
	fputs("chain early {\ntype filter hook prerouting priority raw; policy accept;\n", f);
	for (size_t i = 0; i < n; i++) {
		fprintf(f, "iifname \"%s\" ip daddr 127.0.0.0/8 drop\n", nets[i].bridge);
		fprintf(f, "iifname \"%s\" ip saddr 127.0.0.0/8 drop\n", nets[i].bridge);
	}
	fputs("}\n", f);
}

/* Guests go out with their own addresses only; in comes what they asked for, and forwarded ports. */
static void put_forward(FILE *f, const struct nat_net *nets, size_t n)
{
	char a[IP_TEXT], a6[IP6_TEXT];

	fputs("chain forward {\ntype filter hook forward priority filter; policy accept;\n", f);
	for (size_t i = 0; i < n; i++) {
		const char *b = nets[i].bridge;

		fprintf(f, "iifname \"%s\" oifname \"%s\" accept\n", b, b);
		fprintf(f, "iifname \"%s\" ip saddr != %s/%u drop\n", b, ip_text(nets[i].net, a),
			nets[i].len);
		if (nets[i].v6)
			fprintf(f, "iifname \"%s\" ip6 saddr != %s/64 drop\n", b,
				prefix6_text(&nets[i], a6));
		else
			fprintf(f, "iifname \"%s\" meta nfproto ipv6 drop\n", b);
		fprintf(f, "oifname \"%s\" ct state established,related accept\n", b);
		fprintf(f, "oifname \"%s\" ct status dnat accept\n", b);
		fprintf(f, "oifname \"%s\" reject with icmpx admin-prohibited\n", b);
	}
	fputs("}\n", f);
}

/* One forwarded port. Loopback only matters to what this host sends itself. */
static void put_port(FILE *f, const struct nat_net *net, const struct nat_host *host,
		     const struct port *p, bool output)
{
	char a[IP_TEXT], to[IP_TEXT];

	if (!host->offset || (!output && p->addr >> 24 == 127))
		return;
	if (p->addr)
		fprintf(f, "ip daddr %s ", ip_text(p->addr, a));
	else
		fputs("meta nfproto ipv4 fib daddr type local ", f);
	fprintf(f, "%s dport %u dnat ip to %s:%u comment \"%.100s\"\n", p->udp ? "udp" : "tcp",
		p->host, ip_text(net->net + host->offset, to), p->guest, host->guest);
}

static void put_ports(FILE *f, const struct nat_net *nets, size_t n, bool output)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t h = 0; h < nets[i].n_hosts; h++) {
			const struct nat_host *host = &nets[i].hosts[h];

			for (size_t p = 0; p < host->n_ports; p++)
				put_port(f, &nets[i], host, &host->ports[p], output);
		}
	}
}

static void put_nat(FILE *f, const struct nat_net *nets, size_t n)
{
	char a[IP_TEXT], a6[IP6_TEXT];

	fputs("chain prerouting {\ntype nat hook prerouting priority dstnat; policy accept;\n", f);
	put_ports(f, nets, n, false);
	fputs("}\nchain output {\ntype nat hook output priority -100; policy accept;\n", f);
	put_ports(f, nets, n, true);
	fputs("}\nchain postrouting {\ntype nat hook postrouting priority srcnat; policy accept;\n",
	      f);
	for (size_t i = 0; i < n; i++) {
		const char *b = nets[i].bridge;

		ip_text(nets[i].net, a);
		/* A guest knows no way back to a loopback address, nor to itself or a neighbour. */
		fprintf(f, "oifname \"%s\" ip saddr 127.0.0.0/8 masquerade\n", b);
		fprintf(f, "oifname \"%s\" ip saddr %s/%u ct status dnat masquerade\n", b, a,
			nets[i].len);
		fprintf(f, "oifname != \"%s\" ip saddr %s/%u masquerade\n", b, a, nets[i].len);
		if (nets[i].v6)
			fprintf(f, "oifname != \"%s\" ip6 saddr %s/64 masquerade\n", b,
				prefix6_text(&nets[i], a6));
	}
	fputs("}\n", f);
}

/* The end of a path, as much as a comment holds. */
static const char *owner_text(const char *owner)
{
	size_t len = strlen(owner);

	return len > OWNER_MAX ? owner + len - OWNER_MAX : owner;
}

/* The whole table in one transaction: packets meet the old one or the new one. */
static void put_table(FILE *f, const struct nat_net *nets, size_t n, const char *owner)
{
	fputs("table " TABLE "\ndelete table " TABLE "\n", f);
	if (n == 0)
		return;
	fprintf(f, "table " TABLE " {\nchain owner {\nreturn comment \"%s\"\n}\n",
		owner_text(owner));
	put_early(f, nets, n);
	put_forward(f, nets, n);
	put_nat(f, nets, n);
	fputs("}\n", f);
}

/* Runs what is written to f by put(). */
static int run_text(char *text, struct err *err)
{
	static const char *const argv[] = { "nft", "-f", "-", NULL };
	int r = text ? prog_run(argv, text, NULL, err)
		     : err_set(err, -ENOMEM, K(080) "out of memory");

	free(text);
	return r;
}

static int apply_table(const struct nat_net *nets, size_t n, const char *owner, struct err *err)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	put_table(f, nets, n, owner);
	if (fclose(f) != 0) {
		free(text);
		text = NULL;
	}
	return run_text(text, err);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool is_ours(const json_t *o)
{
	return strcmp(text_of(o, "family"), "inet") == 0 &&
	       strcmp(text_of(o, "table"), "khyve") == 0;
}

/* The store that the table belongs to; NULL: there is none. */
static const char *find_owner(const json_t *ruleset)
{
	const json_t *item;
	size_t i;

	json_array_foreach(ruleset, i, item)
	{
		const json_t *rule = json_object_get(item, "rule");

		if (rule && is_ours(rule) && strcmp(text_of(rule, "chain"), "owner") == 0)
			return text_of(rule, "comment");
	}
	return NULL;
}

/* -EBUSY if another store that is still there owns the table. */
static int check_owner(const json_t *ruleset, const char *owner, struct err *err)
{
	const char *found = find_owner(ruleset);

	if (!found || strcmp(found, owner_text(owner)) == 0 ||
	    (found[0] == '/' && access(found, F_OK) < 0))
		return 0;
	return err_set(err, -EBUSY,
		       "the NAT switches of this host belong to the store %s: destroy those first",
		       found);
}

static int update_wall(const json_t *ruleset, const json_t *table, const struct nat_net *nets,
		       size_t n, struct err *err)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);
	int r = 0;

	if (!f)
		return err_set(err, -ENOMEM, K(080) "out of memory");
	wall_update(f, ruleset, table, nets, n);
	if (fclose(f) != 0)
		r = err_set(err, -ENOMEM, K(080) "out of memory");
	if (r < 0 || len == 0) {
		free(text);
		return r;
	}
	return run_text(text, err);
}

static void warn_wall(const json_t *table, const struct nat_net *nets, const struct err *cause,
		      struct err *warning)
{
	if (strcmp(text_of(table, "name"), "firewalld") == 0)
		err_set(warning, -EPERM,
			K(072) "firewalld keeps its rules to itself (%.100s); if guests cannot reach "
			       "anything, run: firewall-cmd --permanent --zone=trusted "
			       "--add-interface=%s && firewall-cmd --reload",
			cause->text, nets ? nets[0].bridge : "BRIDGE");
	else
		err_set(warning, -EPERM,
			"cannot change table %s %s, which may keep guests from the network: %s",
			text_of(table, "family"), text_of(table, "name"), cause->text);
}

/* All tables but ours, each in a transaction of its own: one that fails spoils no other. */
static void update_walls(const json_t *ruleset, const struct nat_net *nets, size_t n,
			 struct err *warning)
{
	const json_t *item;
	struct err cause;
	size_t i;

	json_array_foreach(ruleset, i, item)
	{
		const json_t *table = json_object_get(item, "table");

		if (!table || (strcmp(text_of(table, "family"), "inet") == 0 &&
			       strcmp(text_of(table, "name"), "khyve") == 0))
			continue;
		if (update_wall(ruleset, table, nets, n, &cause) < 0)
			warn_wall(table, n ? nets : NULL, &cause, warning);
	}
}

/* Rules of the old iptables, which nft does not show, are its user's to change. */
static void warn_legacy(const struct nat_net *net, struct err *warning)
{
	static const char *const argv[] = { "iptables-legacy", "-S", "FORWARD", NULL };
	char *tables, *rules = NULL, own[IFNAMSIZ + 32];
	struct err ignored;
	size_t len;
	bool used;

	if (fd_read_file("/proc/self/net/ip_tables_names", TABLES_MAX, &tables, &len) < 0)
		return;
	used = strstr(tables, "filter");
	free(tables);
	if (!used || prog_run(argv, NULL, &rules, &ignored) < 0)
		return;
	if (strstr(rules, "-P FORWARD DROP") &&
	    snprintf(own, sizeof(own), "-i %s -j ACCEPT", net->bridge) > 0 && !strstr(rules, own))
		err_set(warning, -EPERM,
			K(072) "iptables-legacy drops what passes through this host; for guests to reach "
			       "anything: iptables-legacy -A FORWARD -i %s -j ACCEPT; iptables-legacy -A "
			       "FORWARD -o %s -j ACCEPT",
			net->bridge, net->bridge);
	free(rules);
}

static int list_ruleset(json_t **out, struct err *err)
{
	static const char *const argv[] = { "nft", "-j", "-t", "list", "ruleset", NULL };
	char *text = NULL;
	int r = prog_run(argv, NULL, &text, err);
	json_t *root;

	if (r < 0)
		return r;
	root = json_loads(text, 0, NULL);
	free(text);
	if (!root || !json_is_array(json_object_get(root, "nftables"))) {
		json_decref(root);
		return err_set(err, -EPROTO, "nft: its list of rules cannot be read");
	}
	*out = root;
	return 0;
}

int nft_apply(const struct nat_net *nets, size_t n, const char *owner, struct err *warning,
	      struct err *err)
{
	const json_t *ruleset;
	json_t *root = NULL;
	bool mine;
	int r = list_ruleset(&root, err);

	warning->text[0] = '\0';
	if (r == -ENOENT && n == 0)
		return 0;
	if (r < 0)
		return r;
	ruleset = json_object_get(root, "nftables");
	r = check_owner(ruleset, owner, err);
	mine = r == 0;
	/* Somebody else's switches are no obstacle to having none. */
	if (r == -EBUSY && n == 0)
		r = 0;
	if (mine && (n || find_owner(ruleset)))
		r = apply_table(nets, n, owner, err);
	if (mine && r == 0)
		update_walls(ruleset, nets, n, warning);
	for (size_t i = 0; r == 0 && i < n && !warning->text[0]; i++)
		warn_legacy(&nets[i], warning);
	json_decref(root);
	return r;
}

/* Whether any rule names the bridge, or is about ports of bridges. */
static bool is_named(const json_t *ruleset, const char *bridge)
{
	char *text = json_dumps(ruleset, JSON_COMPACT), quoted[IFNAMSIZ + 2];
	bool named = text && snprintf(quoted, sizeof(quoted), "\"%s\"", bridge) > 0 &&
		     (strstr(text, quoted) || strstr(text, "\"physdev\""));

	free(text);
	return named;
}

void nft_check_bridge(const char *bridge, struct err *warning)
{
	const json_t *ruleset;
	json_t *root = NULL;
	struct err ignored;
	char *calls;
	size_t len;
	bool on;

	warning->text[0] = '\0';
	if (fd_read_file(BRIDGE_CALLS, VALUE_MAX, &calls, &len) < 0)
		return;
	on = calls[0] == '1';
	free(calls);
	if (!on || list_ruleset(&root, &ignored) < 0)
		return;
	ruleset = json_object_get(root, "nftables");
	if (wall_stops_forward(ruleset) && !is_named(ruleset, bridge))
		err_set(warning, -EPERM,
			K(072) "this host's FORWARD rules also stop what guests send through bridge %s; to "
			       "let it pass: iptables -I FORWARD -i %s -o %s -j ACCEPT, or set "
			       "net.bridge.bridge-nf-call-iptables=0",
			bridge, bridge, bridge);
	json_decref(root);
}
