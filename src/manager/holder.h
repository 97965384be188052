/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_HOLDER_H
#define MANAGER_HOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Who listens on a port of this host: "NAME (pid N)", "a program that is not yours", or "" if nobody
 * does. addr is in host byte order, 0 stands for all addresses.
 */
int holder_find(uint32_t addr, uint16_t port, bool udp, char *out, size_t size);

#endif
