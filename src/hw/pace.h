/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_PACE_H
#define HW_PACE_H

#include <stdint.h>

/*
 * When to look at a send queue. A kick costs the guest an exit and us a turn of the loop, more than a small frame does.
 * So once small frames follow each other so fast that several more are to be expected soon, the queue is looked at by a
 * timer instead. How soon is measured in what a turn for one frame takes us. A guest that waits for an answer to each of
 * its frames is not held up: as many frames that come as go are no stream, nor are those far apart. Two looks that find
 * nothing end it.
 */
struct pace {
	uint64_t began_ns; /* the batch */
	uint64_t cost_ns; /* of a turn for one frame, of late */
	uint64_t empty_ns; /* the queue was found empty */
	uint64_t gap_ns; /* from frame to frame, of late */
	unsigned int frames, answers; /* sent and received since then */
	unsigned int in_vain; /* looks in a row that found nothing */
	uint32_t longest; /* of those sent */
};

/* There is no stream: at first, and when the driver has gone. */
void pace_reset(struct pace *p);
/* A frame of len bytes was taken. */
static inline void pace_frame(struct pace *p, uint32_t len)
{
	if (len > p->longest)
		p->longest = len;
}
/* A frame was received. */
static inline void pace_answer(struct pace *p)
{
	p->answers++;
}
/* Around a batch of frames that goes to the line. */
static inline void pace_begin(struct pace *p, uint64_t now)
{
	p->began_ns = now;
}
void pace_end(struct pace *p, uint64_t now, unsigned int frames);
/* The queue is empty. When to look at it next, or 0: the guest must kick. */
uint64_t pace_empty(struct pace *p, uint64_t now);

#endif
