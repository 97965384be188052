/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_PORT_H
#define MANAGER_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "manager/store.h"

struct err;
struct gconf;

/*
 * A port of the host that leads to a port of a guest. They are kept in the guest's file,
 * networkN_ports="ADDR:HOST:GUEST/PROTO ...".
 */
struct port {
	uint32_t addr; /* of the host, in host byte order; 0: all of them */
	uint16_t host, guest; /* guest 0: to say which port of the host is meant */
	bool udp;
};

#define PORT_TEXT 48

/* Reads [ADDR:]HOST:GUEST[/tcp|/udp]; no address means loopback. */
int port_parse(const char *text, struct port *out, struct err *err);
/* Reads [ADDR:]HOST[/tcp|/udp]. *any: it names no address. */
int port_parse_host(const char *text, struct port *out, bool *any, struct err *err);
/* ADDR:HOST:GUEST/PROTO, or ADDR:HOST/PROTO of one without a guest's port. */
void port_format(const struct port *p, char out[PORT_TEXT]);

/* The ports of interface n of a guest, malloc'ed; words that are not ports are left out. */
int port_load(const struct gconf *g, unsigned n, struct port **out, size_t *count);

/*
 * Writes a port into the guest's file, at the interface that can have one. *nic: which one. -EEXIST: it
 * leads elsewhere already, or a program of this host has it; the text names the holder.
 */
int port_add(const struct store *s, const struct guest *g, const struct port *p, unsigned *nic,
	     struct err *err);
/* Removes the port from the guest's file; *found is what it was. -ENOENT. */
int port_remove(const struct guest *g, const struct port *p, bool any, struct port *found,
		unsigned *nic, struct err *err);
/* True if interface n is behind user networking, where khyve-net has the ports. */
bool port_is_user(const struct guest *guest, struct gconf *g, unsigned n);

#endif
