/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_CERT_H
#define MANAGER_CERT_H

struct err;

/*
 * Makes sure that path holds a private key and its certificate, both PEM, mode 0600: what is there stays. The new one
 * is signed by itself and names this host, localhost and name.
 */
int cert_ensure(const char *path, const char *name, struct err *err);

#endif
