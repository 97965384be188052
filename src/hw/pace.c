/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/pace.h"

#include "util/clock.h"
#include "util/macros.h"

#define LOOK_COST 32u /* the delay at most: what so many turns take us */
#define LOOK_MAX_NS (2 * NS_PER_MS) /* ... and no longer than this, on a very slow machine */
#define LOOK_MIN 4u /* frames to be expected meanwhile, or kicks are better */
#define LOOK_FRAMES \
	64u /* the delay is over when so many are to be expected: the guest's queue has an end */
#define LOOK_ANSWERED 8u /* shortens the delay of a stream that is answered now and then */
#define LOOKS_IN_VAIN 1u /* in a row, before the stream counts as ended */
#define SMALL_FRAME \
	2048u /* longer ones are worth a kick, and their sender may wait for them to be sent */

void pace_reset(struct pace *p)
{
	p->gap_ns = LOOK_MAX_NS;
	p->frames = p->answers = 0;
	p->in_vain = 0;
	p->longest = 0;
}

/*
 * That we had to wait for a processor is not a turn's cost: what is long counts little. Frames that came together
 * take less each than one alone, and together no less than it.
 */
void pace_end(struct pace *p, uint64_t now, unsigned int frames)
{
	uint64_t turn = MIN(now - p->began_ns, LOOK_MAX_NS), each = turn / MAX(frames, 1);

	if (each > p->cost_ns)
		p->cost_ns = (15 * p->cost_ns + each) / 16;
	else if (turn < p->cost_ns)
		p->cost_ns = (p->cost_ns + turn) / 2;
	p->frames += frames;
}

/* A pause now and then, as a busy host makes, does not end a stream: a long gap counts for four usual ones at most. */
static uint64_t pace_average(uint64_t average, uint64_t gap)
{
	return gap > average ? (7 * average + MIN(gap, 4 * average)) / 8 : (3 * average + gap) / 4;
}

uint64_t pace_empty(struct pace *p, uint64_t now)
{
	uint64_t delay = MIN(p->cost_ns * LOOK_COST, LOOK_MAX_NS);
	uint64_t gap = MIN(now - p->empty_ns, 2 * LOOK_MAX_NS);

	/* Somebody may wait for the answer to what came. */
	if (p->answers)
		delay /= LOOK_ANSWERED;
	if (!p->frames) {
		/* The stream has ended: some frames have to show that there is one again. */
		if (p->in_vain++ >= LOOKS_IN_VAIN)
			p->gap_ns = MAX(p->gap_ns, delay / LOOK_MIN + 1);
	} else {
		p->in_vain = 0;
		p->gap_ns = p->longest > SMALL_FRAME || p->answers >= p->frames
				    ? LOOK_MAX_NS
				    : pace_average(p->gap_ns, gap / p->frames);
		p->empty_ns = now;
		p->frames = p->answers = 0;
		p->longest = 0;
	}
	if (p->gap_ns * LOOK_MIN >= delay)
		return 0;
	return now + MIN(delay, p->gap_ns * LOOK_FRAMES);
}
