/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "hw/rtc.h"
#include "util/clock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t get(struct fz_script *s, uint8_t index)
{
	tb_out(s->tb, RTC_PORT, 1, index);
	return (uint8_t)tb_in(s->tb, RTC_PORT + 1, 1);
}

static void put(struct fz_script *s, uint8_t index, uint8_t value)
{
	tb_out(s->tb, RTC_PORT, 1, index);
	tb_out(s->tb, RTC_PORT + 1, 1, value);
}

/* However long nobody answers it, the clock costs no more than one timer per kind of interrupt. */
static void advance(struct fz_script *s, struct fz *f)
{
	struct loop_stats before, after;

	loop_stats_get(tb_loop(s->tb), &before);
	tb_advance(s->tb, fz_u32(f) * 1000ull);
	loop_stats_get(tb_loop(s->tb), &after);
	assert(after.callbacks - before.callbacks <= 8);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	uint8_t index = (uint8_t)fz_pick(f, 14);

	switch (fz_pick(f, 4)) {
	case 0:
		get(s, index);
		break;
	case 1:
		put(s, index, fz_u8(f));
		break;
	case 2:
		advance(s, f);
		break;
	default:
		get(s, 0x0c); /* answers the interrupt */
		assert(!tb_wire(s->tb, RTC_IRQ));
		assert(get(s, 0x0d) == 0x80);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct fz_script s;

	fz_start(&s, &rtc_ops, NULL, one_operation);
	s.ports[0].base = RTC_PORT;
	s.ports[0].len = 2;
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
