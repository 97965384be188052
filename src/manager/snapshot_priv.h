/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SNAPSHOT_PRIV_H
#define MANAGER_SNAPSHOT_PRIV_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct gconf;
struct guest;
struct progress;

#define SNAPSHOT_DIR ".snap"
/* The guest's file in a snapshot, whatever the guest is called; its time is the snapshot's. */
#define SNAPSHOT_CONF "guest.conf"

int snapshot_path(const struct guest *g, const char *name, char *out, size_t size, struct err *err);
/* Whether a file of the guest's folder is what a snapshot keeps, besides the guest's own file. */
bool snapshot_is_part(const char *name);
/* Copies and syncs these from one folder to another. */
int snapshot_copy(const char *from, const char *to, struct progress *p, struct err *err);

/* The same of a guest that runs: it stands still only while its files are copied. */
int snapshot_copy_live(const struct guest *g, const char *to, struct progress *p, struct err *err);
/* Removes what only one guest can have: UUID, MAC addresses, names of interfaces, ports. */
void snapshot_unset_unique(struct gconf *conf);

#endif
