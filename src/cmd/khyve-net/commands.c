/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/commands.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "cmd/khyve-net/forward.h"
#include "cmd/khyve-net/gate.h"
#include "cmd/khyve-net/nat.h"
#include "cmd/khyve-net/wire.h"
#include "loop/loop.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

static int cmd_status(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	const struct commands *s = arg;
	const struct filter *filter = &s->gate->filter;
	char text[INET6_ADDRSTRLEN];
	size_t forwards = 0;

	if (operand)
		return err_set(err, -EINVAL, "status takes no operand");
	while (nat_forward_get(s->gate->nat, forwards))
		forwards++;
	control_reply(c, "link", "%s", wire_connected(s->wire) ? "up" : "down");
	if (filter->guest4.s_addr)
		control_reply(c, "guest4", "%s",
			      inet_ntop(AF_INET, &filter->guest4, text, sizeof(text)));
	if (!IN6_IS_ADDR_UNSPECIFIED(&filter->guest6))
		control_reply(c, "guest6", "%s",
			      inet_ntop(AF_INET6, &filter->guest6, text, sizeof(text)));
	control_reply(c, "flows", "%u", nat_flows(s->gate->nat));
	control_reply(c, "forwards", "%zu", forwards);
	control_reply(c, "in_frames", "%llu", (unsigned long long)s->wire->stats.in_frames);
	control_reply(c, "in_bytes", "%llu", (unsigned long long)s->wire->stats.in_bytes);
	control_reply(c, "in_dropped", "%llu",
		      (unsigned long long)s->wire->stats.in_dropped + s->gate->dropped);
	control_reply(c, "out_frames", "%llu", (unsigned long long)s->wire->stats.out_frames);
	control_reply(c, "out_bytes", "%llu", (unsigned long long)s->wire->stats.out_bytes);
	control_reply(c, "out_dropped", "%llu", (unsigned long long)s->wire->stats.out_dropped);
	return 0;
}

static void list_forwards(const struct commands *s, struct control_client *c)
{
	const struct forward *f;

	for (size_t i = 0; (f = nat_forward_get(s->gate->nat, i)); i++) {
		char text[FORWARD_TEXT_MAX];

		forward_format(f, text, sizeof(text));
		control_reply(c, "forward", "%s", text);
	}
}

static int cmd_forward(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	const struct commands *s = arg;
	struct forward f;
	int r;

	if (operand && strcmp(operand, "list") == 0) {
		list_forwards(s, c);
		return 0;
	}
	if (operand && str_starts(operand, "add ")) {
		r = forward_parse(operand + 4, &f, err);
		return r < 0 ? r : nat_forward_add(s->gate->nat, &f, err);
	}
	if (operand && str_starts(operand, "remove ")) {
		r = forward_parse_host(operand + 7, &f, err);
		return r < 0 ? r : nat_forward_remove(s->gate->nat, &f, err);
	}
	return err_set(err, -EINVAL, "use: forward list, forward add, forward remove; see help");
}

static int cmd_quit(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	const struct commands *s = arg;

	(void)c;
	(void)operand;
	(void)err;
	loop_stop(s->loop);
	return 0;
}

static int cmd_help(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)arg;
	(void)operand;
	(void)err;
	for (const struct control_cmd *cmd = commands_table; cmd->name; cmd++)
		control_reply(c, cmd->name, "%s", cmd->help);
	return 0;
}

const struct control_cmd commands_table[] = {
	{ "help", "what can be said here", cmd_help },
	{ "status", "link, the guest's addresses, counters", cmd_status },
	{ "quit", "end", cmd_quit },
	{ "forward",
	  "list | add tcp|udp [ADDR:]PORT [GUESTADDR:]GUESTPORT | remove tcp|udp [ADDR:]PORT",
	  cmd_forward },
	{ 0 },
};
