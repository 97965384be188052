/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_COMMANDS_H
#define CMD_KHYVE_NET_COMMANDS_H

#include "machine/control.h"

struct filter;
struct nat;
struct wire;

/* What the commands look at. */
struct commands {
	struct nat *nat;
	const struct wire *wire;
	const struct filter *filter;
};

/*
 * The commands of the control socket, for control_new() with a struct commands as its argument:
 *
 *	help
 *	status
 *	forward list
 *	forward add tcp|udp [ADDR:]PORT [GUESTADDR:]GUESTPORT
 *	forward remove tcp|udp [ADDR:]PORT
 */
extern const struct control_cmd commands_table[];

#endif
