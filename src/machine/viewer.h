/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_VIEWER_H
#define MACHINE_VIEWER_H

struct err;
struct loop;
struct screen;

/*
 * khyve-vnc as a child of khyve: binds the listening socket, starts the program with the screen's memfd and one end
 * of a socket pair, and starts it again when it dies. Every function accepts NULL for "no screen". Main thread.
 */
struct viewer;

struct viewer_config {
	const char *guest; /* name for the title bar */
	const char *address; /* as listen_open() takes it */
	const char *password; /* NULL: none */
	const char *password_file; /* first line is the password; NULL: none */
	const char *tls_file; /* private key and certificate; NULL: no TLS */
};

/* Binds now, so that a port that is taken is refused before the guest runs, and starts the program. */
int viewer_new(struct loop *l, struct screen *screen, const struct viewer_config *cfg,
	       struct viewer **out, struct err *err);
/* Ends the program and waits for it. */
void viewer_free(struct viewer *v);
/* SIGCHLD arrived. */
void viewer_reap(struct viewer *v);
/* "127.0.0.1:5900", "[::]:5900" or "unix:PATH". */
const char *viewer_address(const struct viewer *v);

#endif
