/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_VM_SWITCH_SHOW_H
#define CMD_VM_SWITCH_SHOW_H

struct vm;

/* vm switch list and vm switch info. They return the exit status. */
int switch_list(struct vm *vm, int argc, char **argv);
int switch_info(struct vm *vm, int argc, char **argv);

#endif
