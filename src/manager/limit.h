/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_LIMIT_H
#define MANAGER_LIMIT_H

#include "util/err.h"

struct gconf;
struct guest;

/*
 * limit_pcpu, limit_rbps, limit_wbps, limit_riops and limit_wiops of a guest's file, kept by a
 * control group (cgroup v2) khyve/NAME.
 */

/* -EINVAL if one of them is not a number; the text names it. */
int limit_check(struct gconf *conf, struct err *err);
/* Says what is missing on this host for the limits of a file; "" if nothing is. Changes nothing. */
void limit_probe(struct gconf *conf, struct err *warning);
/*
 * Makes the group. Returns the descriptor through which a process joins it, or -ENOENT if the file
 * has no limits. warning: what cannot be limited on this host, and what is missing for it; "" if nothing is.
 */
int limit_open(const struct guest *g, struct gconf *conf, struct err *warning);
/* Of the calling process. */
void limit_join(int fd);
/* Removes the group, whose processes have ended. */
void limit_remove(const struct guest *g);

#endif
