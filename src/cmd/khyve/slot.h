/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_SLOT_H
#define CMD_KHYVE_SLOT_H

struct conf;
struct err;

/* bhyve's -s [BUS:]SLOT[:FUNCTION],MODEL[,OPTIONS] as keys below pci.BUS.SLOT.FUNCTION. */
int slot_parse(struct conf *c, const char *arg, struct err *err);

#endif
