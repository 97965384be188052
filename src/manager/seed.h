/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_SEED_H
#define MANAGER_SEED_H

struct err;
struct gconf;
struct guest;

/*
 * What cloud-init in a guest gets its first settings from (its data source NoCloud): the files
 * meta-data, user-data and network-config in NAME/.cloud-init, and the CD made of them at the first
 * start, seed.iso with label cidata.
 */
#define SEED_ISO "seed.iso"
#define SEED_DIR ".cloud-init"

/* What vm create takes; each may be NULL. */
struct seed_spec {
	const char *key; /* file with public keys of SSH */
	const char *user_data; /* file that is taken as it is, instead of keys */
	const char *network; /* "ip=192.0.2.2/24;gateway4=192.0.2.1": vm-bhyve's -n */
};

/* Whether all of it can be read and means something, before anything is made. */
int seed_check(const struct seed_spec *spec, struct err *err);
/*
 * Writes the files into dir, the folder of a guest in the making, and adds the CD to its file conf,
 * which has uuid and network0_mac.
 */
int seed_fill(const struct seed_spec *spec, const char *dir, const char *name, struct gconf *conf,
	      struct err *err);
/*
 * Makes the CD if the guest has the files and no CD. A guest without meta-data is a clone: it gets one, with
 * its own name, UUID and MAC address. Only with the supervisor's lock.
 */
int seed_make(const struct guest *g, const struct gconf *conf, struct err *err);
/* Gives a clone in folder to what makes cloud-init see a new machine there. */
int seed_clone(const char *from, const char *to, struct err *err);

#endif
