/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_SECCOMP_H
#define CMD_KHYVE_NET_SECCOMP_H

/* Leaves this process the system calls of a user-mode network. Needs no_new_privs. 0 or -errno. */
int seccomp_enter(void);

#endif
