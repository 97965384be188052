/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_UPLINK_H
#define MANAGER_UPLINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#include "manager/store.h"

struct err;
struct rtnl;
struct switch_conf;
struct switch_edit;

/*
 * An interface of the host that becomes a port of a switch, or stops being one. What the kernel keeps on it -
 * addresses, routes of all tables, neighbours that somebody entered - moves to the bridge with it, or back, within one
 * system call: there is no moment at which the host has lost its address.
 */
struct uplink;

enum uplink_way { UPLINK_JOIN, UPLINK_LEAVE };

/* Why an interface of the host cannot be a port of the switch, with what to do instead. Changes nothing. */
int uplink_check(struct rtnl *r, const struct switch_conf *c, const char *iface, struct err *err);

/*
 * Reads what is to move. iface is the interface as system.conf names it; for a switch with a VLAN, it is the VLAN
 * interface on it, which has to be there, that becomes the port. -EBUSY, -ENOTSUP and
 * others with a text that says why the interface cannot be had and what to do instead; nothing is changed.
 */
int uplink_new(struct rtnl *r, const struct switch_conf *c, const char *iface, enum uplink_way way,
	       struct uplink **out, struct err *err);
void uplink_free(struct uplink *u);
/* True if something of the host moves. */
bool uplink_moves(const struct uplink *u);
/* True if the host may be cut off: it moves, or stays behind the other ports of a bridge that loses this one. */
bool uplink_risks(const struct uplink *u);
/* The name of the interface that has the addresses when it is undone. */
const char *uplink_home(const struct uplink *u);

/* Does it; if a part of it fails, all is undone. -ENOTRECOVERABLE: not even that worked. May be repeated. */
int uplink_run(struct rtnl *r, const struct uplink *u, struct err *err);
/* Puts everything back as it was, whatever part of it was done. */
int uplink_undo(struct rtnl *r, const struct uplink *u, struct err *err);

/* Whether the host's gateways answer at home (before) or at their new place. */
enum uplink_answer { UPLINK_NO_GATEWAY, UPLINK_SILENT, UPLINK_ANSWERS };
/* Asks, and waits up to ms milliseconds for all of those that answered before. */
enum uplink_answer uplink_ask_before(struct rtnl *r, struct uplink *u, unsigned int ms);
enum uplink_answer uplink_ask_after(struct rtnl *r, const struct uplink *u, unsigned int ms);

/* The journal of a change that is not confirmed yet. */
int uplink_save(const struct uplink *u, const char *path, struct err *err);
/* -ESTALE: of an earlier boot, when all it says is history. */
int uplink_load(const char *path, struct uplink **out, struct err *err);

/* --- changes that wait for a confirmation (uplink_watch.c) --- */

#define UPLINK_SECONDS 30

/*
 * Runs u in a process of its own, which outlives the caller: it records the port in system.conf when the gateways
 * answer or somebody confirms, and undoes all after UPLINK_SECONDS. e is the edit that u was made under; it is over
 * when this returns, saved or not. tell gets a line about what is waited for. now: no wait. 0: done and recorded;
 * -ETIMEDOUT: undone.
 */
int uplink_apply(struct rtnl *r, struct switch_edit *e, struct uplink *u, bool now,
		 void (*tell)(const char *text), struct err *err);
/* Keeps a change that waits. -ENOENT. */
int uplink_confirm(const struct store *s, const char *name, struct err *err);
/* -EBUSY with a text if a change of the switch waits for confirmation. */
int uplink_check_pending(const struct store *s, const char *name, struct err *err);
/*
 * Undoes changes whose process was killed. tell gets a line for each; without root's rights, one that says what to do.
 */
int uplink_repair(const struct store *s, void (*tell)(const char *text), struct err *err);

#endif
