/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PLAN_PRIV_H
#define MANAGER_PLAN_PRIV_H

#include "manager/plan.h"

/* Everything that the parts of the compiler share. */
struct plan_job {
	struct plan *p;
	const struct guest *guest;
	struct gconf *g;
	const struct plan_opts *opts;
	struct err *err;
};

/*
 * Sets a key of khyve's tree to a text that is not to be expanded; from is the guest key that it
 * comes from.
 */
int plan_put(struct plan_job *j, const char *from, const char *key, const char *value);
/* The same for a device's setting, pci.0.SLOT.FUNC.NAME. */
int plan_put_dev(struct plan_job *j, const char *from, unsigned slot_func, const char *name,
		 const char *value);
#define PLAN_FUNC(slot, func) ((slot)*8u + (func))

int plan_disks(struct plan_job *j);
int plan_install(struct plan_job *j);
int plan_screen(struct plan_job *j);
int plan_nets(struct plan_job *j);

#endif
