/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_CHR_PRIV_H
#define BACK_CHR_PRIV_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <termios.h>

#include "back/chr.h"
#include "back/listen.h"
#include "loop/loop.h"

struct chr {
	struct loop *loop;
	char name[PATH_MAX]; /* what a person connects to */

	/* The newest output. Bytes are numbered from 0; head is the next one, sent the next one for the reader. */
	pthread_mutex_t lock;
	uint64_t head, sent;
	uint8_t *ring; /* CHR_RING_SIZE */
	struct loop_post work; /* send output, look for room again */

	/* Loop's thread only. */
	struct loop_fd in, out; /* the reader, if attached; -1 each where there is none */
	int in_fd, out_fd; /* owned */
	bool attached, eof, socket;
	bool regular; /* output goes to a file: an error, a full disk say, may pass */
	struct listener listener;
	int listen_fd; /* -1: none */
	int master; /* pseudo terminal, -1: none */
	struct loop_timer look; /* for somebody opening it, or for room in the file */

	void (*fn)(void *arg, const uint8_t *buf, size_t len);
	size_t (*room)(void *arg);
	void *arg;
	atomic_bool starved; /* input waits for room */

	/* To be undone at the end. */
	char remove[PATH_MAX]; /* link to the pseudo terminal */
	int tty; /* terminal in raw mode, -1: none */
	struct termios saved;
};

/* Takes two descriptors over (either may be -1) as the reader and writer at the other end; replays the ring. */
int chr_attach(struct chr *c, int in_fd, int out_fd, bool socket);
/* Closes them. A pseudo terminal or listening socket goes on waiting. */
void chr_detach(struct chr *c);

/* chr_open.c: sets the kind up. */
int chr_open_kind(struct chr *c, const char *spec, struct err *err);

#endif
