/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_COMMANDS_H
#define CMD_KHYVE_NET_COMMANDS_H

#include "machine/control.h"

struct gate;
struct loop;
struct wire;

/* What the commands look at. */
struct commands {
	struct loop *loop;
	struct gate *gate;
	const struct wire *wire;
};

/*
 * The commands of the control socket, for control_new() with a struct commands as its argument:
 *
 *	help
 *	quit
 *	status
 *	forward list
 *	forward add tcp|udp [ADDR:]PORT [GUESTADDR:]GUESTPORT
 *	forward remove tcp|udp [ADDR:]PORT
 */
extern const struct control_cmd commands_table[];

#endif
