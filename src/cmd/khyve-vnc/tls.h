/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_TLS_H
#define CMD_KHYVE_VNC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct err;

/* OpenSSL, which is loaded only if a screen has TLS: it is larger than all of khyve-vnc. One thread. */
struct tls;
struct tls_conn;

/* Reads private key and certificate, both PEM, from the beginning of fd, which stays the caller's. */
int tls_new(int fd, struct tls **out, struct err *err);
void tls_free(struct tls *t);

/*
 * The server's end on a non-blocking socket. anonymous: without a certificate, for viewers that want none. SIGPIPE must
 * be ignored. NULL when out of memory.
 */
struct tls_conn *tls_accept(struct tls *t, int fd, bool anonymous);
/* Says nothing to the other side. NULL is fine. */
void tls_close(struct tls_conn *c);

/* 1: done. 0: call again when there is something to read, or room to write if *write. -errno: it failed. */
int tls_handshake(struct tls_conn *c, bool *write);
/* As recv() and send() that do not block; 0: the other side ended. -errno; -EAGAIN: not now. */
ssize_t tls_read(struct tls_conn *c, void *buf, size_t len);
ssize_t tls_write(struct tls_conn *c, const void *buf, size_t len);
/* There is more to read that is in the socket no longer. */
bool tls_pending(const struct tls_conn *c);

#endif
