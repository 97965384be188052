/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_CTL_H
#define MANAGER_CTL_H

#include <stddef.h>

struct err;
struct guest;

/*
 * A guest's control socket: lines of text. khyve greets "khyve 1"; a command is answered by
 * key=value lines and "ok", or by "err NAME text".
 */

/*
 * Connects to a socket in the guest's folder, however long its path is. Returns the descriptor or
 * -errno.
 */
int ctl_connect(const struct guest *g, const char *socket_name);

/*
 * Sends one command and copies the answer's key=value lines to out (may be NULL). All of it takes
 * at most ms milliseconds. -ECONNREFUSED or -ENOENT: nobody listens; -ETIMEDOUT; -EPROTO: not an
 * answer; -EREMOTEIO: khyve refused, its text is in err.
 */
int ctl_command(const struct guest *g, const char *command, unsigned ms, char *out, size_t size,
		struct err *err);
/* The same with another program that works for the guest. */
struct ctl_where {
	const struct guest *g;
	const char *socket; /* in the guest's folder */
	const char *who; /* the program's name, for messages */
	int *fd; /* takes a descriptor that comes with the answer, or -1; NULL: none is wanted */
};
int ctl_command_at(const struct ctl_where *at, const char *command, unsigned ms, char *out,
		   size_t size, struct err *err);
/* The value of a key in such lines. -ENOENT. */
int ctl_value(const char *lines, const char *key, char *out, size_t size);

#endif
