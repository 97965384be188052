/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>
#include <time.h>

#include "bench/tb.h"
#include "hw/models.h"
#include "hw/rtc.h"
#include "run.h"
#include "util/clock.h"
#include "util/err.h"

#define A 0x0a
#define B 0x0b
#define C 0x0c
#define D 0x0d
#define CENTURY 0x32
#define SET 0x80
#define PIE 0x40
#define AIE 0x20
#define UIE 0x10
#define BINARY 0x04
#define H24 0x02

static uint8_t get(struct tb *tb, uint8_t reg)
{
	tb_out(tb, 0x70, 1, reg);
	return (uint8_t)tb_in(tb, 0x71, 1);
}

static void put(struct tb *tb, uint8_t reg, uint8_t value)
{
	tb_out(tb, 0x70, 1, reg);
	tb_out(tb, 0x71, 1, value);
}

static struct tb *make(const char *conf)
{
	struct tb *tb = tb_new(NULL);
	struct err err = { 0 };

	if (!tb_add(tb, &rtc_ops, conf, &err))
		CHECK_FAIL("tb_add: %s", err.text);
	return tb;
}

/* Sets the time as firmware and kernels do, with the divider held, so that the next second begins in 500 ms. */
static void set_time(struct tb *tb, const uint8_t v[6], uint8_t century)
{
	static const uint8_t regs[6] = { 0, 2, 4, 7, 8, 9 };
	uint8_t b = get(tb, B), a = get(tb, A) & 0x7f;

	put(tb, B, b | SET);
	put(tb, A, a | 0x70);
	for (int i = 0; i < 6; i++)
		put(tb, regs[i], v[i]);
	put(tb, CENTURY, century);
	put(tb, B, b);
	put(tb, A, a);
}

static void expect_time(struct tb *tb, const uint8_t v[6])
{
	static const uint8_t regs[6] = { 0, 2, 4, 7, 8, 9 };

	for (int i = 0; i < 6; i++)
		if (get(tb, regs[i]) != v[i])
			CHECK_FAIL("register %d is %02x, not %02x", regs[i], get(tb, regs[i]),
				   v[i]);
}

#define TIME(...) ((const uint8_t[6]){ __VA_ARGS__ })

static void reset_values(void)
{
	struct tb *tb = make(NULL);

	CHECK_EQ(get(tb, A) & 0x7f, 0x26);
	CHECK_EQ(get(tb, B), H24);
	CHECK_EQ(get(tb, C), 0);
	CHECK_EQ(get(tb, D), 0x80);
	for (uint8_t i = 0x0e; i < 0x80; i++)
		if (i != CENTURY)
			CHECK_EQ(get(tb, i), 0);
	CHECK_EQ(tb_in(tb, 0x70, 1), 0xff);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_free(tb);
}

static int64_t read_unix_time(struct tb *tb)
{
	struct tm tm = { 0 };

	put(tb, B, H24 | BINARY);
	tm.tm_sec = get(tb, 0);
	tm.tm_min = get(tb, 2);
	tm.tm_hour = get(tb, 4);
	tm.tm_mday = get(tb, 7);
	tm.tm_mon = get(tb, 8) - 1;
	tm.tm_year = get(tb, CENTURY) * 100 + get(tb, 9) - 1900;
	return timegm(&tm);
}

static void shows_the_hosts_time(void)
{
	struct tb *tb;
	int64_t host, offset;
	struct tm tm;
	time_t now;

	setenv("TZ", "KHY-5:30", 1); /* east of Greenwich */
	tzset();
	tb = make("use_localtime=false");
	host = (int64_t)(clock_real_ns() / NS_PER_SEC);
	CHECK(llabs(read_unix_time(tb) - host) <= 2);
	gmtime_r(&(time_t){ host }, &tm);
	CHECK(abs((int)get(tb, 6) - (tm.tm_wday + 1)) <= 1 || get(tb, 6) == 1);
	tb_free(tb);
	tb = make(NULL);
	now = time(NULL);
	localtime_r(&now, &tm);
	offset = tm.tm_gmtoff;
	CHECK_EQ(offset, 5 * 3600 + 1800);
	CHECK(llabs(read_unix_time(tb) - now - offset) <= 2);
	tb_free(tb);
	unsetenv("TZ");
	tzset();
}

static void runs_in_every_format(void)
{
	struct tb *tb = make(NULL);

	/* BCD, 24 h: over the end of a leap year's February */
	set_time(tb, TIME(0x58, 0x59, 0x23, 0x28, 0x02, 0x24), 0x20);
	expect_time(tb, TIME(0x58, 0x59, 0x23, 0x28, 0x02, 0x24));
	tb_advance(tb, 499 * NS_PER_MS);
	CHECK_EQ(get(tb, 0), 0x58);
	tb_advance(tb, 2 * NS_PER_MS);
	CHECK_EQ(get(tb, 0), 0x59);
	tb_advance(tb, NS_PER_SEC);
	expect_time(tb, TIME(0x00, 0x00, 0x00, 0x29, 0x02, 0x24));
	CHECK_EQ(get(tb, 6), 5); /* a Thursday; Sunday is 1 */
	/* the same clock in binary, and in 12 h */
	put(tb, B, BINARY | H24);
	expect_time(tb, TIME(0, 0, 0, 29, 2, 24));
	CHECK_EQ(get(tb, CENTURY), 20);
	put(tb, B, BINARY);
	CHECK_EQ(get(tb, 4), 12);
	tb_advance(tb, 13 * 3600 * NS_PER_SEC);
	CHECK_EQ(get(tb, 4), 0x80 | 1);
	put(tb, B, 0);
	CHECK_EQ(get(tb, 4), 0x81);
	tb_advance(tb, 10 * 3600 * NS_PER_SEC);
	CHECK_EQ(get(tb, 4), 0x80 | 0x11);
	set_time(tb, TIME(0x00, 0x00, 0x92, 0x31, 0x12, 0x99), 0x19); /* 12 pm is noon */
	put(tb, B, H24);
	expect_time(tb, TIME(0x00, 0x00, 0x12, 0x31, 0x12, 0x99));
	tb_advance(tb, 12 * 3600 * NS_PER_SEC);
	expect_time(tb, TIME(0x00, 0x00, 0x00, 0x01, 0x01, 0x00));
	CHECK_EQ(get(tb, CENTURY), 0x20);
	tb_free(tb);
}

/* While SET is up the registers stand still and hold what is written. */
static void set_holds_the_clock(void)
{
	struct tb *tb = make(NULL);

	set_time(tb, TIME(0x10, 0x20, 0x03, 0x04, 0x05, 0x26), 0x20);
	put(tb, B, SET | UIE | H24);
	CHECK_EQ(get(tb, B), SET | H24); /* SET clears UIE */
	tb_advance(tb, 100 * NS_PER_SEC);
	expect_time(tb, TIME(0x10, 0x20, 0x03, 0x04, 0x05, 0x26));
	CHECK_EQ(get(tb, A) & 0x80, 0);
	put(tb, 0, 0x7b); /* not a time yet */
	CHECK_EQ(get(tb, 0), 0x7b);
	put(tb, 0, 0x30);
	put(tb, B, H24);
	expect_time(tb, TIME(0x30, 0x20, 0x03, 0x04, 0x05, 0x26));
	tb_advance(tb, NS_PER_SEC);
	CHECK_EQ(get(tb, 0), 0x31);
	/* Written while it runs. */
	put(tb, 2, 0x45);
	expect_time(tb, TIME(0x31, 0x45, 0x03, 0x04, 0x05, 0x26));
	tb_free(tb);
}

static void update_in_progress(void)
{
	struct tb *tb = make(NULL);

	set_time(tb, TIME(0, 0, 0, 1, 1, 0x26), 0x20);
	CHECK_EQ(get(tb, A), 0x26);
	tb_advance(tb, 500 * NS_PER_MS - 200 * NS_PER_US);
	CHECK_EQ(get(tb, A), 0xa6);
	tb_advance(tb, 300 * NS_PER_US);
	CHECK_EQ(get(tb, A), 0x26);
	put(tb, A, 0xa6); /* read-only */
	CHECK_EQ(get(tb, A), 0x26);
	tb_free(tb);
}

static void update_interrupt(void)
{
	struct tb *tb = make(NULL);

	set_time(tb, TIME(0, 0, 0, 1, 1, 0x26), 0x20);
	get(tb, C);
	put(tb, B, UIE | H24);
	tb_advance(tb, 499 * NS_PER_MS);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_advance(tb, NS_PER_MS);
	CHECK(tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, C) & 0xb0, 0x90);
	CHECK(!tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, C), 0);
	tb_rises(tb, RTC_IRQ);
	for (int i = 0; i < 5; i++) {
		tb_advance(tb, NS_PER_SEC);
		CHECK_EQ(get(tb, C) & 0x90, 0x90);
	}
	CHECK_EQ(tb_rises(tb, RTC_IRQ), 5);
	/* Without reading C there is no second edge. */
	tb_advance(tb, 10 * NS_PER_SEC);
	CHECK_EQ(tb_rises(tb, RTC_IRQ), 1);
	put(tb, B, H24);
	CHECK(!(get(tb, C) & 0x80) || !tb_wire(tb, RTC_IRQ));
	tb_advance(tb, 3 * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, C) & 0x90, 0x10); /* the flag comes without its enable, too */
	tb_free(tb);
}

static void periodic_interrupt(void)
{
	/* Hz by rate; 1 and 2 repeat 8 and 9. */
	static const unsigned int hz[16] = { 0,	  256, 128, 8192, 4096, 2048, 1024, 512,
					     256, 128, 64,  32,	  16,	8,    4,    2 };
	struct tb *tb = make(NULL);

	for (unsigned int rate = 0; rate < 16; rate++) {
		unsigned int ticks = 0;

		put(tb, B, H24);
		put(tb, A, (uint8_t)(0x20 | rate));
		get(tb, C);
		put(tb, B, PIE | H24);
		tb_rises(tb, RTC_IRQ);
		for (unsigned int us = 0; us < 1000000; us += 100) {
			tb_advance(tb, 100 * NS_PER_US);
			if (tb_wire(tb, RTC_IRQ)) {
				CHECK_EQ(get(tb, C) & 0xc0, 0xc0);
				ticks++;
			}
		}
		CHECK(ticks >= (hz[rate] ? hz[rate] - 1 : 0) && ticks <= hz[rate] + 1);
		CHECK_EQ(tb_rises(tb, RTC_IRQ), ticks);
	}
	/* The divider in reset: none. */
	put(tb, A, 0x76);
	get(tb, C);
	tb_advance(tb, NS_PER_SEC);
	CHECK_EQ(get(tb, C), 0);
	tb_free(tb);
}

static void alarm_interrupt(void)
{
	struct tb *tb = make(NULL);

	set_time(tb, TIME(0x00, 0x00, 0x08, 0x01, 0x01, 0x26), 0x20);
	put(tb, 1, 0x30);
	put(tb, 3, 0x15);
	put(tb, 5, 0x09);
	get(tb, C);
	put(tb, B, AIE | H24);
	tb_advance(tb, (75 * 60 + 29) * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_advance(tb, NS_PER_SEC);
	CHECK(tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, 4), 0x09);
	CHECK_EQ(get(tb, C) & 0xa0, 0xa0);
	tb_advance(tb, 3600 * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_advance(tb, 23 * 3600 * NS_PER_SEC);
	CHECK(tb_wire(tb, RTC_IRQ)); /* the next day */
	get(tb, C);
	/* every minute at :05, any hour and minute */
	put(tb, 1, 0x05);
	put(tb, 3, 0xc0);
	put(tb, 5, 0xff);
	tb_rises(tb, RTC_IRQ);
	for (int i = 0; i < 600; i++) {
		tb_advance(tb, NS_PER_SEC);
		if (tb_wire(tb, RTC_IRQ)) {
			CHECK_EQ(get(tb, 0), 0x05);
			get(tb, C);
		}
	}
	CHECK_EQ(tb_rises(tb, RTC_IRQ), 10);
	/* on the hour, and on the minute */
	set_time(tb, TIME(0x30, 0x59, 0x08, 0x01, 0x01, 0x26), 0x20);
	put(tb, 1, 0x00);
	put(tb, 3, 0x00);
	put(tb, 5, 0x10);
	get(tb, C);
	tb_advance(tb, 3629 * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_advance(tb, NS_PER_SEC);
	CHECK(tb_wire(tb, RTC_IRQ));
	put(tb, 3, 0x02);
	get(tb, C);
	tb_advance(tb, 119 * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	tb_advance(tb, NS_PER_SEC);
	CHECK(tb_wire(tb, RTC_IRQ));
	/* one that no clock shows */
	put(tb, 5, 0x30);
	get(tb, C);
	tb_advance(tb, 50 * 3600 * NS_PER_SEC);
	CHECK(!tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, C) & 0x20, 0);
	tb_free(tb);
}

static void nvram_and_reset(void)
{
	struct tb *tb = make(NULL);

	for (unsigned int i = 0x0e; i < 0x80; i++)
		if (i != CENTURY)
			put(tb, (uint8_t)i, (uint8_t)(i * 3));
	for (unsigned int i = 0x0e; i < 0x80; i++)
		if (i != CENTURY)
			CHECK_EQ(get(tb, (uint8_t)(i | 0x80)), (uint8_t)(i * 3)); /* bit 7: NMI */
	set_time(tb, TIME(0x00, 0x30, 0x10, 0x02, 0x03, 0x31), 0x20);
	get(tb, C);
	put(tb, A, 0x2f);
	put(tb, B, PIE | UIE | AIE | H24);
	tb_advance(tb, 10 * NS_PER_SEC);
	CHECK(tb_wire(tb, RTC_IRQ));
	CHECK(tb_reset(tb));
	CHECK(!tb_wire(tb, RTC_IRQ));
	CHECK_EQ(get(tb, B), H24);
	CHECK_EQ(get(tb, A) & 0x7f, 0x2f);
	expect_time(tb, TIME(0x10, 0x30, 0x10, 0x02, 0x03, 0x31)); /* the battery keeps it */
	CHECK_EQ(get(tb, 0x40), 0xc0);
	/* Reset in the middle of setting: it goes on from what was written. */
	put(tb, B, SET | H24);
	put(tb, 0, 0x45);
	CHECK(tb_reset(tb));
	CHECK_EQ(get(tb, 0), 0x45);
	tb_advance(tb, NS_PER_SEC);
	CHECK_EQ(get(tb, 0), 0x46);
	tb_free(tb);
}

static void pause_keeps_time(void)
{
	struct tb *tb = make(NULL);

	set_time(tb, TIME(0x00, 0x00, 0x00, 0x01, 0x01, 0x26), 0x20);
	CHECK(tb_pause(tb));
	tb_advance(tb, 90 * NS_PER_SEC);
	tb_resume(tb);
	CHECK_EQ(get(tb, 2), 0x01);
	CHECK_EQ(get(tb, 0), 0x30);
	tb_free(tb);
}

/* K-03: every index with every value, in every format, while interrupts are on; nothing hangs or spins. */
static void garbage(void)
{
	struct tb *tb = make(NULL);
	unsigned int seed = 3;

	for (unsigned int round = 0; round < 4; round++)
		for (unsigned int reg = 0; reg < 256; reg++)
			for (unsigned int v = 0; v < 256; v++) {
				put(tb, B, (uint8_t)(PIE | AIE | UIE | round << 1));
				put(tb, (uint8_t)reg, (uint8_t)v);
				get(tb, (uint8_t)reg);
				if (v % 16 == 0)
					tb_advance(tb, (uint64_t)rand_r(&seed));
			}
	put(tb, A, 0x26);
	put(tb, B, H24);
	set_time(tb, TIME(0x00, 0x00, 0x00, 0x01, 0x01, 0x26), 0x20);
	tb_advance(tb, NS_PER_SEC);
	CHECK_EQ(get(tb, 0), 0x01);
	tb_free(tb);
}

/* The fastest rate costs one timer per interrupt that the guest takes. */
static void storm_is_bounded(void)
{
	struct tb *tb = make(NULL);
	struct loop_stats before, after;

	put(tb, A, 0x23);
	put(tb, B, PIE | UIE | AIE | H24);
	loop_stats_get(tb_loop(tb), &before);
	tb_advance(tb, 60 * NS_PER_SEC);
	loop_stats_get(tb_loop(tb), &after);
	CHECK(after.callbacks - before.callbacks <= 4);
	CHECK(tb_wire(tb, RTC_IRQ));
	tb_free(tb);
}

/* G-08 */
static void odd_widths(void)
{
	struct tb *tb = make(NULL);
	static const unsigned int sizes[] = { 1, 2, 4 };

	tb_out(tb, 0x70, 2, 0x5a40); /* index, then data */
	CHECK_EQ(get(tb, 0x40), 0x5a);
	CHECK_EQ(tb_in(tb, 0x70, 2), 0x5aff);
	for (unsigned int port = 0x6d; port < 0x74; port++)
		for (size_t s = 0; s < ARRAY_LEN(sizes); s++) {
			tb_out(tb, (uint16_t)port, sizes[s], 0xffffffff);
			tb_in(tb, (uint16_t)port, sizes[s]);
			tb_out(tb, (uint16_t)port, sizes[s], 0);
			tb_in(tb, (uint16_t)port, sizes[s]);
		}
	CHECK_EQ(get(tb, D), 0x80);
	tb_free(tb);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "reset values", reset_values },
		{ "shows the host's time", shows_the_hosts_time },
		{ "runs in every format", runs_in_every_format },
		{ "SET holds the clock", set_holds_the_clock },
		{ "update in progress", update_in_progress },
		{ "update interrupt", update_interrupt },
		{ "periodic interrupt", periodic_interrupt },
		{ "alarm interrupt", alarm_interrupt },
		{ "NVRAM and reset", nvram_and_reset },
		{ "pause keeps time", pause_keeps_time },
		{ "garbage (K-03)", garbage },
		{ "storm is bounded (K-03)", storm_is_bounded },
		{ "odd widths (G-08)", odd_widths },
	};

	return RUN_CASES(cases, argc, argv);
}
