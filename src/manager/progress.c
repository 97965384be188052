/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/progress.h"

#include <stddef.h>

#include "util/clock.h"

#define EVERY_NS (500 * NS_PER_MS)

void progress_begin(struct progress *p, uint64_t have, uint64_t total)
{
	if (!p)
		return;
	p->have = p->first = have;
	p->total = total;
	p->start_ns = p->shown_ns = clock_mono_ns();
}

void progress_to(struct progress *p, uint64_t have)
{
	uint64_t now, spent;

	if (!p || !p->show)
		return;
	p->have = have;
	now = clock_mono_ns();
	if (now - p->shown_ns < EVERY_NS)
		return;
	p->shown_ns = now;
	spent = now - p->start_ns;
	p->show(p->arg, have, p->total,
		have > p->first ? (uint64_t)((double)(have - p->first) * 1e9 / (double)spent) : 0);
}

void progress_add(struct progress *p, uint64_t bytes)
{
	if (p)
		progress_to(p, p->have + bytes);
}

void progress_end(struct progress *p)
{
	if (p && p->show)
		p->show(p->arg, p->total ? p->total : p->have, p->total ? p->total : p->have, 0);
}
