/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_WALL_H
#define MANAGER_WALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct nat_net;

/*
 * The chains of Docker, ufw, firewalld and of the user's own rules. A packet has to pass the
 * chains of all tables, so what one of them refuses is lost, whatever ours say. The rules here
 * let our switches pass such a chain at the last moment: behind all of its own decisions, before
 * the rule or the policy that refuses the rest.
 */

/* Comments of our rules in others' chains begin so. */
#define WALL_MARK "khyve "

/*
 * Writes the commands for nft that bring one table's rules of ours up to date. ruleset is what
 * "nft -j list ruleset" says. Nothing is written if there is nothing to do.
 */
void wall_update(FILE *f, const json_t *ruleset, const json_t *table, const struct nat_net *nets,
		 size_t n);
/* Whether a chain refuses IPv4 packets that pass through this host and that it does not know. */
bool wall_stops_forward(const json_t *ruleset);

#endif
