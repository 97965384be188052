/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_CHR_H
#define BACK_CHR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct loop;

/*
 * A byte channel to the outside for serial ports. Writing never blocks: bytes go into a 64 KiB ring of the newest
 * output and from there to whoever is connected; a reader that comes late first gets the ring. Kinds, by spec text:
 *   stdio               standard input and output, raw while the guest runs, restored by chr_close
 *   pty[,link=PATH]     a new pseudo terminal; chr_name() tells the path
 *   unix:PATH           listening UNIX socket, mode 0600, one client at a time; a new one replaces none
 *   file:PATH           append output to a file, no input
 *   tcp=ADDR:PORT       listening TCP socket, one client at a time
 *   /dev/...            an existing terminal device
 *   ring                nothing outside: only the ring (tests read it)
 */
struct chr;

#define CHR_RING_SIZE 65536

struct chr *chr_open(struct loop *l, const char *spec, struct err *err);
/* NULL is fine. Removes the socket or link it made. */
void chr_close(struct chr *c);
/* Path or address that a person connects to, for messages; "" if none. */
const char *chr_name(const struct chr *c);

/* Loop's thread or any other one holding the device's lock (internally locked). Always takes everything. */
void chr_write(struct chr *c, const void *buf, size_t len);
/*
 * Input arrives through fn on the loop's thread in pieces of at most what room(arg) returns at that moment; while
 * room is 0 nothing is read from outside. chr_kick() after room grew (any thread).
 */
void chr_set_input(struct chr *c, void (*fn)(void *arg, const uint8_t *buf, size_t len),
		   size_t (*room)(void *arg), void *arg);
void chr_kick(struct chr *c);
/* Copies the newest bytes of the ring, at most size; returns the count. */
size_t chr_peek(const struct chr *c, void *buf, size_t size);

#endif
