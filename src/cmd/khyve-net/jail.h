/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_JAIL_H
#define CMD_KHYVE_NET_JAIL_H

struct err;

/*
 * Locks this process in, for good: what the guest makes of it then can use the sockets it has, make Internet sockets,
 * and read the host's resolv.conf. In order, each a little harder:
 *
 *	limits      descriptors (max_fds), memory, no core file
 *	identity    root becomes nobody, without groups and capabilities; no_new_privs for all
 *	files       Landlock, where the kernel has it: only the folder of resolv.conf, only for reading
 *	calls       a seccomp filter: the calls that are needed, and of these no other kind of socket, no file for
 *	            writing, no executable memory. What only an attacker calls ends the process.
 *
 * Everything that needs more has to be open. 0 or -errno with a text.
 */
int jail_enter(unsigned int max_fds, struct err *err);

#endif
