/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_GUEST_H
#define MANAGER_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "manager/store.h"

struct err;
struct gconf;
struct progress;
struct seed_spec;

/* What vm create takes. NULL or 0: what the template says. */
struct guest_spec {
	const char *template, *cpu, *memory;
	const char *datastore; /* NULL: the default one */
	uint64_t disk_size;
	const struct seed_spec *seed; /* cloud-init, or NULL */
	const char *image; /* absolute path of what the first disk is a copy of, or NULL */
	struct progress *progress; /* of the copy; may be NULL */
	const char *ssh_user; /* or NULL */
};

#define GUEST_DISK_SIZE (20ull << 30)

/* Makes a guest from a template, whole or not at all. -EEXIST if there is one of that name. */
int guest_create(const struct store *s, const char *name, const struct guest_spec *spec,
		 struct err *err);
/* Gives a whole folder the place and name of a guest that does not exist. -EEXIST. */
int guest_move(const char *from, const struct guest *to, struct err *err);
/*
 * Gives the guest another name. Only with the supervisor's lock, which has to be dropped by the new
 * name, *out. If it is killed, the guest has the old name or the new one.
 */
int guest_rename(const struct store *s, const struct guest *g, const char *name, struct guest *out,
		 struct err *err);
/*
 * Loads the guest's file under the lock that serialises edits; guest_edit_end frees both. Who has
 * changed it calls gconf_save before.
 */
int guest_edit_begin(const struct guest *g, struct gconf **conf, int *lock, struct err *err);
void guest_edit_end(struct gconf *conf, int lock);
/* Adds disk image diskN.img of size bytes with the emulation of the last disk. */
int guest_add_disk(const struct guest *g, uint64_t size, struct err *err);

/* A disk, as the guest's file has it. */
struct guest_disk {
	unsigned number;
	char type[64];
	char path[PATH_MAX]; /* "": the file does not say */
	bool custom; /* not in the guest's folder */
	bool there;
	uint64_t size, used; /* bytes, if it is there */
};

#define GUEST_DISKS_MAX 64
/* The disks in the order of their numbers; at most GUEST_DISKS_MAX. Returns how many. */
int guest_disks(const struct guest *g, struct guest_disk *out, struct err *err);
/*
 * Takes a disk out of the guest's file, and then its image, unless it is custom, off the disk. The
 * number stays free if others follow. Only with the supervisor's lock. -ENOENT; -EBUSY: it is the only
 * one.
 */
int guest_remove_disk(const struct guest *g, unsigned n, struct err *err);
/* Makes an image larger. Only with the supervisor's lock. -EINVAL: it would be smaller. */
int guest_resize_disk(const struct guest *g, unsigned n, uint64_t size, struct err *err);
/* Adds a network interface of the last one's type, connected to a switch. */
int guest_add_network(const struct guest *g, const char *network, struct err *err);
/* Gives the guest a UUID if its file has none: firmware and guest systems remember it. */
int guest_need_uuid(const struct guest *g, struct err *err);
/* Gives each network card a MAC address of its own, for ever, that has none. */
int guest_need_macs(const struct guest *g, struct err *err);
/*
 * Removes network card n. Its number stays free, so that no other card moves to another slot, unless it is the last.
 */
int guest_remove_network(const struct guest *g, unsigned int n, struct err *err);
/* A size for a disk image: bytes with an optional suffix K M G T, at least 1 MiB. */
int guest_disk_size(const char *text, uint64_t *out, struct err *err);

#endif
