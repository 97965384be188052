/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_CONTROL_H
#define MACHINE_CONTROL_H

#include <stddef.h>

struct err;
struct loop;

/*
 * The control socket: a UNIX stream socket, mode 0600, that greets with "khyve 1", takes one command per line (at
 * most CONTROL_LINE_MAX bytes) and answers with "key=value" lines and then "ok" or "err NAME text". After "events"
 * the connection also gets "event NAME key=value..." lines. Peers of other users than root and our own are refused.
 */
struct control;
struct control_client;

#define CONTROL_LINE_MAX 4096
#define CONTROL_CLIENTS_MAX 16

/* One command. The handler answers with control_reply lines; it returns 0 for "ok" or sets err for "err". */
struct control_cmd {
	const char *name;
	const char *help;
	int (*fn)(void *arg, struct control_client *c, const char *operand, struct err *err);
};

/* path is bound here; a socket left by a dead process is replaced, one with a listener behind it is an error. */
int control_new(struct loop *l, const char *path, const struct control_cmd *cmds, void *arg,
		struct control **out, struct err *err);
/* Unlinks the socket. NULL is fine. */
void control_free(struct control *c);

/* One "key=value" line; control characters in the value become '?'. */
void control_reply(struct control_client *c, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A copy of the descriptor goes with the answer (SCM_RIGHTS); one per answer. -errno: there can be no copy. */
int control_reply_fd(struct control_client *c, int fd);
/* This connection wants events. */
void control_subscribe(struct control_client *c);
/* One event line to every subscriber. */
void control_event(struct control *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
