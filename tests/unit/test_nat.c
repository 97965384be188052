/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manager/guestconf.h"
#include "manager/holder.h"
#include "manager/nat_priv.h"
#include "manager/port.h"
#include "manager/wall.h"
#include "run.h"
#include "util/err.h"

/* --- what stands in others' chains --- */

#define TABLE "{'table': {'family': 'ip', 'name': 'filter', 'handle': 1}}"
#define CHAIN(name, hook, policy)                                        \
	", {'chain': {'family': 'ip', 'table': 'filter', 'name': '" name \
	"', 'type': 'filter', 'hook': '" hook "', 'prio': 0, 'policy': '" policy "'}}"
#define PLAIN_CHAIN(name) ", {'chain': {'family': 'ip', 'table': 'filter', 'name': '" name "'}}"
#define RULE(chain, handle, exprs)                                                               \
	", {'rule': {'family': 'ip', 'table': 'filter', 'chain': '" chain "', 'handle': " handle \
	", 'expr': [" exprs "]}}"
#define JUMP(to) "{'counter': {'packets': 0, 'bytes': 0}}, {'jump': {'target': '" to "'}}"
#define MATCH "{'match': {'op': '==', 'left': {'meta': {'key': 'iifname'}}, 'right': 'eth0'}}, "

/* What is to be done to the table that is the first item of a list in which ' stands for ". */
static char *update(const char *items, size_t n)
{
	static const struct nat_net net = { .name = "home", .bridge = "vm-home" };
	size_t len = strlen(items);
	char *json = malloc(len + 3), *text = NULL;
	json_t *ruleset;
	FILE *f;

	snprintf(json, len + 3, "[%s]", items);
	for (char *p = json; *p; p++) {
		if (*p == '\'')
			*p = '"';
	}
	ruleset = json_loads(json, 0, NULL);
	CHECK(ruleset);
	f = open_memstream(&text, &len);
	wall_update(f, ruleset, json_object_get(json_array_get(ruleset, 0), "table"), &net, n);
	fclose(f);
	json_decref(ruleset);
	free(json);
	return text;
}

static void check_update(const char *items, const char *want)
{
	char *text = update(items, 1);

	CHECK_STR(text, want);
	free(text);
}

#define FORWARDED(where)                                                           \
	where "iifname \"vm-home\"  counter accept comment \"khyve home\"\n" where \
	      "oifname \"vm-home\"  counter accept comment \"khyve home\"\n"

static void test_wall_open(void)
{
	/* A chain that lets through what it does not know needs nothing. */
	check_update(TABLE CHAIN("FORWARD", "forward", "accept"), "");
	check_update(TABLE CHAIN("FORWARD", "forward", "accept")
			     RULE("FORWARD", "7", MATCH "{'drop': null}"),
		     "");
	/* Neither does one that is no filter or no hook of packets that pass through. */
	check_update(TABLE CHAIN("PRE", "prerouting", "drop"), "");
	check_update(TABLE PLAIN_CHAIN("FORWARD") RULE("FORWARD", "7", "{'drop': null}"), "");
}

static void test_wall_policy(void)
{
	check_update(TABLE CHAIN("FORWARD", "forward", "drop"),
		     FORWARDED("add rule ip filter FORWARD "));
	/* As Docker has it: behind the user's own rules. */
	check_update(TABLE CHAIN("FORWARD", "forward", "drop") PLAIN_CHAIN("DOCKER-USER")
			     RULE("FORWARD", "3", JUMP("DOCKER-USER"))
				     RULE("DOCKER-USER", "4", MATCH "{'drop': null}"),
		     FORWARDED("add rule ip filter FORWARD "));
}

static void test_wall_last_rule(void)
{
	check_update(TABLE CHAIN("FORWARD", "forward", "accept")
			     RULE("FORWARD", "7", MATCH "{'accept': null}")
				     RULE("FORWARD", "8", "{'reject': null}"),
		     FORWARDED("insert rule ip filter FORWARD handle 8 "));
	/* iptables' own way to write it. */
	check_update(TABLE CHAIN("FORWARD", "forward", "accept")
			     RULE("FORWARD", "8", "{'xt': {'type': 'target', 'name': 'REJECT'}}"),
		     FORWARDED("insert rule ip filter FORWARD handle 8 "));
	/* A match of iptables is a condition, though nft does not tell which. */
	check_update(TABLE CHAIN("FORWARD", "forward", "accept")
			     RULE("FORWARD", "8",
				  "{'xt': {'type': 'match', 'name': 'conntrack'}}, {'drop': null}"),
		     "");
}

static void test_wall_calls(void)
{
	/* As firewalld has it: the end of the chain is in another one. */
	check_update(TABLE CHAIN("FWD", "forward", "accept") PLAIN_CHAIN("POLICIES")
			     RULE("FWD", "7", MATCH "{'accept': null}")
				     RULE("FWD", "8", "{'jump': {'target': 'POLICIES'}}")
					     RULE("FWD", "9", "{'reject': null}") RULE(
						     "POLICIES", "2", MATCH "{'drop': null}")
						     RULE("POLICIES", "3", "{'reject': null}"),
		     FORWARDED("insert rule ip filter FWD handle 8 "));
	/* What returns before the end of such a chain may be let through later. */
	check_update(TABLE CHAIN("FWD", "forward", "accept") PLAIN_CHAIN("SUB")
			     RULE("FWD", "8", "{'jump': {'target': 'SUB'}}")
				     RULE("SUB", "2", MATCH "{'return': null}")
					     RULE("SUB", "3", "{'drop': null}"),
		     "");
	/* Chains that call each other for ever end somewhere. */
	check_update(TABLE CHAIN("FWD", "forward", "accept") PLAIN_CHAIN("SUB")
			     RULE("FWD", "8", "{'jump': {'target': 'SUB'}}")
				     RULE("SUB", "2", "{'jump': {'target': 'SUB'}}"),
		     "");
}

static void test_wall_ufw(void)
{
	check_update(TABLE CHAIN("FORWARD", "forward", "drop")
			     RULE("FORWARD", "5", JUMP("ufw-before-forward"))
				     RULE("FORWARD", "6", JUMP("ufw-after-forward"))
					     RULE("FORWARD", "7", JUMP("ufw-track-forward")),
		     FORWARDED("insert rule ip filter FORWARD handle 6 "));
}

static void test_wall_input(void)
{
	check_update(
		TABLE CHAIN("INPUT", "input", "drop"),
		"add rule ip filter INPUT iifname \"vm-home\" udp dport 53 counter accept "
		"comment \"khyve home\"\n"
		"add rule ip filter INPUT iifname \"vm-home\" tcp dport 53 counter accept "
		"comment \"khyve home\"\n"
		"add rule ip filter INPUT iifname \"vm-home\" udp dport 67 counter accept "
		"comment \"khyve home\"\n"
		"add rule ip filter INPUT iifname \"vm-home\" meta l4proto icmp counter accept "
		"comment \"khyve home\"\n");
	check_update(TABLE CHAIN("OUTPUT", "output", "drop"),
		     "add rule ip filter OUTPUT oifname \"vm-home\"  counter accept "
		     "comment \"khyve home\"\n");
}

#define OWN                                                                                \
	", {'rule': {'family': 'ip', 'table': 'filter', 'chain': 'FORWARD', 'handle': 9, " \
	"'comment': 'khyve old', 'expr': [{'accept': null}]}}"
#define OWN_OF_IPTABLES                                                               \
	RULE("FORWARD", "11",                                                         \
	     "{'match': {'op': '==', 'left': {'meta': {'key': 'oifname'}}, 'right': " \
	     "'vm-old'}}, {'xt': {'type': 'match', 'name': 'comment'}}, {'accept': null}")

static void test_wall_removes(void)
{
	char *text =
		update(TABLE CHAIN("FORWARD", "forward", "drop")
			       OWN OWN_OF_IPTABLES RULE("FORWARD", "12", MATCH "{'accept': null}"),
		       0);

	CHECK_STR(text, "delete rule ip filter FORWARD handle 9\n"
			"delete rule ip filter FORWARD handle 11\n");
	free(text);
	/* Old rules make room for new ones and are no reason for them. */
	check_update(TABLE CHAIN("FORWARD", "forward", "accept") OWN,
		     "delete rule ip filter FORWARD handle 9\n");
}

/* Rules of the person's own may name a switch, too, and may have a comment. */
#define FOREIGN(handle, more)                                                                    \
	RULE("FORWARD", handle,                                                                  \
	     "{'match': {'op': '==', 'left': {'meta': {'key': 'iifname'}}, 'right': "            \
	     "'vm-public'}}, " more "{'xt': {'type': 'match', 'name': 'comment'}}, {'counter': " \
	     "{'packets': 0, 'bytes': 0}}, {'accept': null}")

static void test_wall_foreign(void)
{
	check_update(
		TABLE CHAIN("FORWARD", "forward", "accept") FOREIGN(
			"11",
			"{'match': {'op': '==', 'left': {'meta': {'key': 'oifname'}}, 'right': 'vm-public'}}, ")
			FOREIGN("12", "{'xt': {'type': 'match', 'name': 'conntrack'}}, ") FOREIGN(
				"13",
				"{'match': {'op': '==', 'left': {'payload': {'protocol': 'tcp', 'field': 'dport'}}, 'right': 443}}, "),
		"");
}

static void test_wall_odd_names(void)
{
	check_update("{'table': {'family': 'ip', 'name': 'a b; flush ruleset'}},"
		     "{'chain': {'family': 'ip', 'table': 'a b; flush ruleset', 'name': 'F', "
		     "'type': 'filter', 'hook': 'forward', 'policy': 'drop'}}",
		     "");
	check_update(TABLE CHAIN("F{}", "forward", "drop"), "");
}

/* --- ports --- */

static void check_port(const char *text, const char *want)
{
	char got[PORT_TEXT];
	struct port p;
	struct err err;

	if (port_parse(text, &p, &err) < 0)
		CHECK_FAIL("%s", err.text);
	port_format(&p, got);
	CHECK_STR(got, want);
}

static void test_port_words(void)
{
	static const char *const bad[] = { "",		 "8080",	":80",	       "8080:",
					   "0:80",	 "80:65536",	"08:80",       "-1:80",
					   "80:80/icmp", "80:80/",	"1.2.3:80:80", "a:80:80",
					   "1:2:3:4",	 "[::1]:80:80", " 80:80",      "80:80 " };
	struct port p;
	struct err err;

	check_port("8080:80", "127.0.0.1:8080:80/tcp");
	check_port("53:5353/udp", "127.0.0.1:53:5353/udp");
	check_port("0.0.0.0:65535:1/tcp", "0.0.0.0:65535:1/tcp");
	check_port("192.0.2.1:22:22", "192.0.2.1:22:22/tcp");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (port_parse(bad[i], &p, &err) == 0)
			CHECK_FAIL("'%s' is taken for a port", bad[i]);
	}
}

static void test_port_host(void)
{
	struct port p;
	struct err err;
	bool any;

	CHECK_EQ(port_parse_host("8080/udp", &p, &any, &err), 0);
	CHECK(any && p.udp && p.host == 8080);
	CHECK_EQ(port_parse_host("0.0.0.0:8080", &p, &any, &err), 0);
	CHECK(!any && !p.udp && p.addr == 0);
	CHECK(port_parse_host("1.2.3.4:8080:80", &p, &any, &err) < 0);
	CHECK(port_parse_host("x", &p, &any, &err) < 0);
}

static void test_port_list(void)
{
	static const char text[] = "network0_ports=\"8080:80 nonsense  0.0.0.0:53:53/udp\"\n";
	struct gconf *g = NULL;
	struct port *ports;
	struct err err;
	size_t n;

	CHECK_EQ(gconf_parse("g.conf", text, strlen(text), &g, &err), 0);
	CHECK_EQ(port_load(g, 0, &ports, &n), 0);
	CHECK_EQ(n, 2);
	CHECK(ports[0].host == 8080 && ports[1].udp && ports[1].addr == 0);
	free(ports);
	CHECK_EQ(port_load(g, 1, &ports, &n), 0);
	CHECK_EQ(n, 0);
	free(ports);
	gconf_free(g);
}

/* A socket on an address and port 0; *port is what it got. */
static int bind_to(int type, uint32_t addr, uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(addr) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, type, 0);

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sa, len) == 0);
	CHECK(type == SOCK_DGRAM || listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) == 0);
	*port = ntohs(sa.sin_port);
	return fd;
}

static void test_holder(void)
{
	char got[128], want[64];
	uint16_t port;
	int fd = bind_to(SOCK_STREAM, 0x7f000001, &port);

	snprintf(want, sizeof(want), "test_nat (pid %d)", (int)getpid());
	CHECK_EQ(holder_find(0x7f000001, port, false, got, sizeof(got)), 0);
	CHECK_STR(got, want);
	CHECK_EQ(holder_find(0, port, false, got, sizeof(got)), 0);
	CHECK_STR(got, want);
	CHECK_EQ(holder_find(0x7f000002, port, false, got, sizeof(got)), 0);
	CHECK_STR(got, "");
	close(fd);
	CHECK_EQ(holder_find(0x7f000001, port, false, got, sizeof(got)), 0);
	CHECK_STR(got, "");
	fd = bind_to(SOCK_DGRAM, 0, &port);
	CHECK_EQ(holder_find(0x7f000001, port, true, got, sizeof(got)), 0);
	CHECK_STR(got, want);
	close(fd);
}

static const struct test_case cases[] = {
	{ "open chains", test_wall_open },
	{ "policy", test_wall_policy },
	{ "last rule", test_wall_last_rule },
	{ "calls", test_wall_calls },
	{ "ufw", test_wall_ufw },
	{ "input and output", test_wall_input },
	{ "removes its own", test_wall_removes },
	{ "rules of others", test_wall_foreign },
	{ "odd names", test_wall_odd_names },
	{ "port words", test_port_words },
	{ "port of the host", test_port_host },
	{ "port list", test_port_list },
	{ "holder", test_holder },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
