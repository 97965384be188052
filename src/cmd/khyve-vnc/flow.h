/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_VNC_FLOW_H
#define CMD_KHYVE_VNC_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cmd/khyve-vnc/damage.h"

struct client;

/*
 * Fences and continuous updates (rfbproto: ClientFence, ServerFence, EnableContinuousUpdates). One fence of the viewer
 * is kept at a time: until it is answered, nothing more is read. Continuous updates go out until too much of them is
 * unanswered, so that what a viewer gets is never older than its line is slow.
 */
#define FLOW_PAYLOAD_MAX 64
#define FLOW_FENCES 8 /* of ours that may be unanswered */
#define FLOW_BYTES (256 * 1024) /* sent and unanswered: more only if it is one update */

struct flow {
	bool fence_told, continuous_told; /* the viewer knows that we know */
	bool fence_due, end_due; /* ServerFence, EndOfContinuousUpdates to be sent */
	bool continuous;
	struct rect region; /* of continuous updates, as the viewer gave it */

	enum flow_fence {
		FLOW_NO_FENCE,
		FLOW_NEW, /* the message is being read */
		FLOW_SYNC_NEXT, /* answered when the next message is done */
		FLOW_DUE, /* answered between two updates */
	} fence;
	uint32_t fence_flags;
	uint8_t fence_len, payload[FLOW_PAYLOAD_MAX];

	unsigned int head, unanswered; /* our fences */
	uint64_t at[FLOW_FENCES]; /* where in the stream they stand */
	uint64_t answered_at, last_at;
};

/* The viewer named the pseudo-encodings. */
void flow_fences(struct client *c);
void flow_continuous(struct client *c);
/* Messages of the viewer: as the handlers of rfb.c. */
ssize_t flow_handle_fence(struct client *c, const uint8_t *in, size_t len);
ssize_t flow_handle_enable(struct client *c, const uint8_t *in, size_t len);
/* A message, or a part of one, was taken in. whole: nothing of it is to come. */
void flow_handled(struct client *c, bool whole);

/* Nothing more may be read until flow_put() has been called. */
bool flow_blocked(const struct client *c);
/* Continuous updates are on and one may go out: *region is what of. */
bool flow_open(const struct client *c, struct rect *region);
/* Between two updates, into the empty output: what is due. False: nothing. */
bool flow_put(struct client *c);
/* The last bytes of an update were put into the output. */
void flow_update_done(struct client *c);

#endif
