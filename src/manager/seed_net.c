/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "manager/file.h"
#include "manager/seed_priv.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/* The family of an address, 0 if it is none. With prefix: it has to end in /LENGTH. */
static int family_of(const char *text, bool prefix)
{
	char addr[INET6_ADDRSTRLEN], bits[16] = "0";
	size_t len = strcspn(text, "/");
	unsigned char raw[16];
	uint64_t n;
	int family = memchr(text, ':', len) ? AF_INET6 : AF_INET;

	if (prefix != (text[len] == '/') ||
	    file_path(addr, sizeof(addr), "%.*s", (int)len, text) < 0 ||
	    (prefix && str_copy(bits, sizeof(bits), text + len + 1) < 0))
		return 0;
	if (inet_pton(family, addr, raw) != 1 || !isdigit((unsigned char)bits[0]) ||
	    str_u64(bits, &n) < 0 || n > (family == AF_INET ? 32 : 128))
		return 0;
	return family;
}

static bool is_cidr(struct seed_net *net, const char *text)
{
	int family = family_of(text, true);

	net->has4 |= family == AF_INET;
	net->has6 |= family == AF_INET6;
	return family != 0;
}

static bool is_addr(struct seed_net *net, const char *text)
{
	(void)net;
	return family_of(text, false) != 0;
}

static bool is_addr4(struct seed_net *net, const char *text)
{
	(void)net;
	return family_of(text, false) == AF_INET;
}

static bool is_addr6(struct seed_net *net, const char *text)
{
	(void)net;
	return family_of(text, false) == AF_INET6;
}

/* A name of a host or domain (RFC 1123 s2.1). */
static bool is_host(struct seed_net *net, const char *text)
{
	size_t len = strlen(text);

	(void)net;
	for (size_t i = 0; i < len; i++) {
		if (!isascii(text[i]) ||
		    (!isalnum((unsigned char)text[i]) && !strchr("-.", text[i])))
			return false;
	}
	return len > 0 && isalnum((unsigned char)text[0]) && isalnum((unsigned char)text[len - 1]);
}

static bool is_interface(struct seed_net *net, const char *text)
{
	(void)net;
	for (const char *p = text; *p; p++) {
		if (!isascii(*p) || (!isalnum((unsigned char)*p) && !strchr("-._", *p)))
			return false;
	}
	return text[0] && strlen(text) < IF_NAMESIZE;
}

static const struct option_rule {
	const char *name;
	bool list; /* values with commas between */
	bool (*valid)(struct seed_net *net, const char *text);
	const char *hint;
} rules[SEED_NET_OPTIONS] = {
	[SEED_NET_INTERFACE] = { "interface", false, is_interface, "the name of an interface" },
	[SEED_NET_IP] = { "ip", true, is_cidr, "an address such as 192.0.2.2/24" },
	[SEED_NET_GATEWAY4] = { "gateway4", false, is_addr4, "an IPv4 address" },
	[SEED_NET_GATEWAY6] = { "gateway6", false, is_addr6, "an IPv6 address" },
	[SEED_NET_NAMESERVERS] = { "nameservers", true, is_addr, "an address" },
	[SEED_NET_SEARCH] = { "searchdomains", true, is_host, "a domain" },
	[SEED_NET_HOST] = { "hostname", false, is_host, "the name of a host" },
};

static int find_rule(const char *name)
{
	/* Its name up to vm-bhyve 1.6. */
	if (strcasecmp(name, "gateway") == 0)
		return SEED_NET_GATEWAY4;
	for (int i = 0; i < SEED_NET_OPTIONS; i++) {
		if (strcasecmp(name, rules[i].name) == 0)
			return i;
	}
	return -ENOENT;
}

/* Checks a value, or each of a list. */
static bool check_value(struct seed_net *net, const struct option_rule *rule, const char *value)
{
	char word[256];

	do {
		size_t len = rule->list ? strcspn(value, ",") : strlen(value);

		if (file_path(word, sizeof(word), "%.*s", (int)len, value) < 0 ||
		    !rule->valid(net, word))
			return false;
		value += len;
	} while (*value++ == ',');
	return true;
}

static int parse_entry(struct seed_net *net, const char *entry, struct err *err)
{
	char name[32];
	size_t len = strcspn(entry, "=");
	int rule;

	if (!entry[len])
		return err_set(err, -EINVAL, K(006) "invalid netconfig entry - '%.64s'", entry);
	rule = file_path(name, sizeof(name), "%.*s", (int)len, entry) < 0 ? -ENOENT
									  : find_rule(name);
	if (rule < 0)
		return err_set(
			err, -EINVAL,
			K(006) "invalid netconfig option - '%.*s': use interface, ip, gateway4, "
			       "gateway6, nameservers, searchdomains, hostname",
			(int)MIN(len, (size_t)64), entry);
	if (!entry[len + 1])
		return 0;
	if (str_copy(net->values[rule], sizeof(net->values[rule]), entry + len + 1) < 0 ||
	    !check_value(net, &rules[rule], net->values[rule]))
		return err_set(err, -EINVAL, K(006) "invalid netconfig entry - '%.64s': %s is %s",
			       entry, rules[rule].name, rules[rule].hint);
	return 0;
}

int seed_net_parse(const char *text, struct seed_net *out, struct err *err)
{
	struct seed_net net = { .has4 = false };
	char entry[320];
	int r = 0;

	for (const char *p = text; r == 0 && *p;) {
		size_t len = strcspn(p, ";");

		if (file_path(entry, sizeof(entry), "%.*s", (int)len, p) < 0)
			r = err_set(err, -EINVAL, K(006) "invalid netconfig entry - '%.64s'", p);
		else if (entry[0])
			r = parse_entry(&net, entry, err);
		p += len + (p[len] == ';');
	}
	if (r == 0)
		*out = net;
	return r;
}

const char *seed_net_host(const struct seed_net *net, const char *name)
{
	return net->values[SEED_NET_HOST][0] ? net->values[SEED_NET_HOST] : name;
}

/* A list of YAML, each word in quotes: ::/0 is one only so. */
static void print_list(FILE *f, const char *indent, const char *key, const char *value)
{
	const char *sep = "";

	if (!value[0])
		return;
	fprintf(f, "%s%s: [", indent, key);
	for (const char *p = value; *p; p += *p == ',') {
		size_t len = strcspn(p, ",");

		fprintf(f, "%s\"%.*s\"", sep, (int)len, p);
		sep = ", ";
		p += len;
	}
	fputs("]\n", f);
}

static void print_route(FILE *f, const char *to, const char *via)
{
	if (via[0])
		fprintf(f, "      - to: \"%s\"\n        via: \"%s\"\n", to, via);
}

char *seed_net_format(const struct seed_net *net, const char *mac)
{
	const char(*v)[256] = net->values;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f, "version: 2\nethernets:\n  id0:\n    match:\n      " SEED_NET_MAC "%s\"\n",
		mac ? mac : SEED_NET_NO_MAC);
	fprintf(f, "    set-name: \"%s\"\n",
		v[SEED_NET_INTERFACE][0] ? v[SEED_NET_INTERFACE] : "eth0");
	print_list(f, "    ", "addresses", v[SEED_NET_IP]);
	if (!net->has4)
		fputs("    dhcp4: true\n", f);
	if (!net->has6)
		fputs("    dhcp6: true\n    accept-ra: true\n", f);
	if (v[SEED_NET_NAMESERVERS][0] || v[SEED_NET_SEARCH][0])
		fputs("    nameservers:\n", f);
	print_list(f, "      ", "addresses", v[SEED_NET_NAMESERVERS]);
	print_list(f, "      ", "search", v[SEED_NET_SEARCH]);
	if (v[SEED_NET_GATEWAY4][0] || v[SEED_NET_GATEWAY6][0])
		fputs("    routes:\n", f);
	print_route(f, "0.0.0.0/0", v[SEED_NET_GATEWAY4]);
	print_route(f, "::/0", v[SEED_NET_GATEWAY6]);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
