/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_NET_GATE_H
#define CMD_KHYVE_NET_GATE_H

#include <stddef.h>
#include <stdint.h>

#include "cmd/khyve-net/filter.h"
#include "cmd/khyve-net/frag.h"

struct err;
struct loop;
struct nat;
struct nat_config;

/* The way of every frame between the guest and libslirp: the length, the filter, the pieces, the filter again. */
struct gate {
	struct loop *loop;
	struct nat *nat;
	void (*send)(void *arg, const void *frame, size_t len);
	void *arg;
	size_t frame_max;
	uint64_t dropped; /* of what the guest sent */
	struct filter filter;
	struct frag frag;
};

/* g is zeroed. Frames for the guest go to cfg's send. 0 or -errno with a text. */
int gate_init(struct gate *g, struct loop *l, const struct nat_config *cfg, struct err *err);
void gate_fini(struct gate *g);
/* A frame from the guest, of at least 14 bytes; it may be changed. */
void gate_in(struct gate *g, uint8_t *frame, size_t len);

#endif
