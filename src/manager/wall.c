/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/wall.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

#include "manager/nat_priv.h"
#include "util/macros.h"
#include "util/str.h"

/* Chains that call each other deeper than this are not looked into. */
#define DEPTH_MAX 16

/* One table of somebody else. */
struct wall {
	FILE *f;
	const json_t *ruleset;
	const char *family, *table;
	const struct nat_net *nets;
	size_t n;
};

/* What a rule does with packets that reach it, whatever they are. */
enum effect { EFFECT_NONE, EFFECT_REFUSE, EFFECT_ACCEPT, EFFECT_RETURN, EFFECT_CALL };

struct effect_of {
	enum effect effect;
	bool always; /* no condition */
	const char *target; /* of EFFECT_CALL */
};

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static bool is_in(const struct wall *w, const json_t *o, const char *chain)
{
	return o && strcmp(text_of(o, "family"), w->family) == 0 &&
	       strcmp(text_of(o, "table"), w->table) == 0 &&
	       (!chain || strcmp(text_of(o, "chain"), chain) == 0);
}

/* Matches and targets of iptables, whose details nft does not tell. */
static void read_xt(const json_t *xt, struct effect_of *out)
{
	const char *name = text_of(xt, "name");

	if (strcmp(text_of(xt, "type"), "match") == 0)
		out->always = out->always && strcmp(name, "comment") == 0;
	else if (strcmp(name, "REJECT") == 0)
		out->effect = EFFECT_REFUSE;
}

static void read_expr(const char *kind, const json_t *value, struct effect_of *out)
{
	if (strcmp(kind, "drop") == 0 || strcmp(kind, "reject") == 0)
		out->effect = EFFECT_REFUSE;
	else if (strcmp(kind, "accept") == 0)
		out->effect = EFFECT_ACCEPT;
	else if (strcmp(kind, "return") == 0)
		out->effect = EFFECT_RETURN;
	else if (strcmp(kind, "jump") == 0 || strcmp(kind, "goto") == 0) {
		out->effect = EFFECT_CALL;
		out->target = text_of(value, "target");
	} else if (strcmp(kind, "xt") == 0)
		read_xt(value, out);
	else if (strcmp(kind, "counter") != 0 && strcmp(kind, "log") != 0)
		out->always = false;
}

static struct effect_of read_rule(const json_t *rule)
{
	struct effect_of out = { .always = true, .target = "" };
	const json_t *exprs = json_object_get(rule, "expr"), *expr, *value;
	const char *kind;
	size_t i;

	json_array_foreach(exprs, i, expr)
	{
		json_object_foreach((json_t *)expr, kind, value) read_expr(kind, value, &out);
	}
	return out;
}

/* The interface's name that the rule begins with: iifname or oifname "NAME". */
static const char *rule_interface(const json_t *rule)
{
	const json_t *match =
		json_object_get(json_array_get(json_object_get(rule, "expr"), 0), "match");
	const char *key = text_of(json_object_get(json_object_get(match, "left"), "meta"), "key");

	return strcmp(key, "iifname") == 0 || strcmp(key, "oifname") == 0 ? text_of(match, "right")
									  : "";
}

/* How many conditions of packets a rule has; -1 if it does not accept, or has what ours never have. */
static int count_matches(const json_t *rule)
{
	const json_t *exprs = json_object_get(rule, "expr"), *expr;
	bool commented = false, accepts = false;
	int matches = 0;
	size_t i;

	json_array_foreach(exprs, i, expr)
	{
		const json_t *xt = json_object_get(expr, "xt");

		if (xt && strcmp(text_of(xt, "name"), "comment") != 0)
			return -1;
		commented = commented || xt;
		accepts = accepts || json_object_get(expr, "accept");
		matches += json_object_get(expr, "match") != NULL;
	}
	return commented && accepts ? matches : -1;
}

/* Whether the rule's second condition is one of those that input has. */
static bool is_input_pass(const json_t *rule)
{
	const json_t *match =
		json_object_get(json_array_get(json_object_get(rule, "expr"), 1), "match");
	const json_t *left = json_object_get(match, "left"),
		     *right = json_object_get(match, "right");
	json_int_t port = json_integer_value(right);

	if (strcmp(text_of(json_object_get(left, "meta"), "key"), "l4proto") == 0)
		return str_starts(text_of(match, "right"), "icmp") ||
		       str_starts(text_of(match, "right"), "ipv6-icmp");
	return strcmp(text_of(json_object_get(left, "payload"), "field"), "dport") == 0 &&
	       (port == 53 || port == 67 || port == 547);
}

/*
 * Our own rule. After iptables-restore the comment is one of iptables, which nft does not tell;
 * then a rule of just that form for a bridge of ours is one.
 */
static bool is_own_rule(const json_t *rule)
{
	int matches;

	if (str_starts(text_of(rule, "comment"), WALL_MARK))
		return true;
	matches = count_matches(rule);
	return str_starts(rule_interface(rule), "vm-") &&
	       (matches == 1 || (matches == 2 && is_input_pass(rule)));
}

static bool calls_refuse(const struct wall *w, const char *chain, unsigned depth);

/* True if the rule refuses whatever reaches it. */
static bool refuses(const struct wall *w, const json_t *rule, unsigned depth)
{
	struct effect_of e = read_rule(rule);

	if (!e.always)
		return false;
	return e.effect == EFFECT_REFUSE ||
	       (e.effect == EFFECT_CALL && calls_refuse(w, e.target, depth + 1));
}

/* True if what is sent to the chain and not accepted there is refused there. */
static bool calls_refuse(const struct wall *w, const char *chain, unsigned depth)
{
	const json_t *item;
	size_t i;

	if (depth > DEPTH_MAX)
		return false;
	json_array_foreach(w->ruleset, i, item)
	{
		const json_t *rule = json_object_get(item, "rule");
		struct effect_of e;

		if (!is_in(w, rule, chain) || is_own_rule(rule))
			continue;
		e = read_rule(rule);
		if (e.effect == EFFECT_RETURN || (e.always && e.effect == EFFECT_ACCEPT))
			return false;
		if (refuses(w, rule, depth))
			return true;
	}
	return false;
}

/*
 * Finds where our rules belong in a chain: before the rule whose handle this is, or at the end
 * (0). False: the chain refuses nothing by itself.
 */
static bool find_place(const struct wall *w, const json_t *chain, json_int_t *handle)
{
	const json_t *item;
	size_t i;

	*handle = 0;
	json_array_foreach(w->ruleset, i, item)
	{
		const json_t *rule = json_object_get(item, "rule");

		if (!is_in(w, rule, text_of(chain, "name")) || is_own_rule(rule))
			continue;
		/* ufw refuses a few ports and logs the rest in these, then the policy follows. */
		if (refuses(w, rule, 0) || str_starts(read_rule(rule).target, "ufw-after-")) {
			*handle = json_integer_value(json_object_get(rule, "handle"));
			return true;
		}
	}
	return strcmp(text_of(chain, "policy"), "drop") == 0;
}

/* What has to pass a chain at one of the hooks. The forms are those that iptables understands. */
struct pass {
	const char *hook, *family; /* family NULL: any */
	const char *side, *rest;
};

static void put_rule(const struct wall *w, const char *chain, json_int_t before,
		     const struct nat_net *net, const struct pass *pass)
{
	fprintf(w->f, "%s rule %s %s %s ", before ? "insert" : "add", w->family, w->table, chain);
	if (before)
		fprintf(w->f, "handle %lld ", (long long)before);
	fprintf(w->f, "%s \"%s\" %s counter accept comment \"" WALL_MARK "%.100s\"\n", pass->side,
		net->bridge, pass->rest, net->name);
}

static void put_rules(const struct wall *w, const json_t *chain, json_int_t before,
		      const struct nat_net *net)
{
	static const struct pass passes[] = {
		{ "forward", NULL, "iifname", "" },
		{ "forward", NULL, "oifname", "" },
		{ "output", NULL, "oifname", "" },
		{ "input", NULL, "iifname", "udp dport 53" },
		{ "input", NULL, "iifname", "tcp dport 53" },
		{ "input", "ip", "iifname", "udp dport 67" },
		{ "input", "ip", "iifname", "meta l4proto icmp" },
		{ "input", "ip6", "iifname", "udp dport 547" },
		{ "input", "ip6", "iifname", "meta l4proto ipv6-icmp" },
	};

	for (size_t i = 0; i < ARRAY_LEN(passes); i++) {
		if (strcmp(passes[i].hook, text_of(chain, "hook")) == 0 &&
		    (!passes[i].family || strcmp(w->family, "inet") == 0 ||
		     strcmp(passes[i].family, w->family) == 0))
			put_rule(w, text_of(chain, "name"), before, net, &passes[i]);
	}
}

/* Names that can be given back to nft as they are. */
static bool is_plain(const char *name)
{
	for (const char *p = name; *p; p++) {
		if (!isalnum((unsigned char)*p) && !strchr("_-./", *p))
			return false;
	}
	return name[0] != '\0';
}

static bool is_filter(const char *family, const json_t *chain)
{
	const char *hook = text_of(chain, "hook");

	return (strcmp(family, "ip") == 0 || strcmp(family, "ip6") == 0 ||
		strcmp(family, "inet") == 0) &&
	       strcmp(text_of(chain, "type"), "filter") == 0 &&
	       (strcmp(hook, "forward") == 0 || strcmp(hook, "input") == 0 ||
		strcmp(hook, "output") == 0);
}

static void remove_own(const struct wall *w)
{
	const json_t *item;
	size_t i;

	json_array_foreach(w->ruleset, i, item)
	{
		const json_t *rule = json_object_get(item, "rule");

		if (is_in(w, rule, NULL) && is_own_rule(rule) && is_plain(text_of(rule, "chain")))
			fprintf(w->f, "delete rule %s %s %s handle %lld\n", w->family, w->table,
				text_of(rule, "chain"),
				(long long)json_integer_value(json_object_get(rule, "handle")));
	}
}

void wall_update(FILE *f, const json_t *ruleset, const json_t *table, const struct nat_net *nets,
		 size_t n)
{
	const struct wall w = {
		.f = f,
		.ruleset = ruleset,
		.family = text_of(table, "family"),
		.table = text_of(table, "name"),
		.nets = nets,
		.n = n,
	};
	const json_t *item;
	json_int_t before;
	size_t i;

	if (!is_plain(w.table))
		return;
	remove_own(&w);
	json_array_foreach(ruleset, i, item)
	{
		const json_t *chain = json_object_get(item, "chain");

		if (!is_in(&w, chain, NULL) || !is_filter(w.family, chain) ||
		    !is_plain(text_of(chain, "name")) || !find_place(&w, chain, &before))
			continue;
		for (size_t k = 0; k < n; k++)
			put_rules(&w, chain, before, &nets[k]);
	}
}

bool wall_stops_forward(const json_t *ruleset)
{
	const json_t *item;
	json_int_t handle;
	size_t i;

	json_array_foreach(ruleset, i, item)
	{
		const json_t *chain = json_object_get(item, "chain");
		const struct wall w = { .ruleset = ruleset,
					.family = text_of(chain, "family"),
					.table = text_of(chain, "table") };

		if (strcmp(w.family, "ip6") != 0 && is_filter(w.family, chain) &&
		    strcmp(text_of(chain, "hook"), "forward") == 0 &&
		    find_place(&w, chain, &handle))
			return true;
	}
	return false;
}
