/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/rtc.h"

#include <string.h>
#include <time.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "util/canary.h"
#include "util/clock.h"
#include "util/err.h"

/*
 * MC146818A real-time clock (Motorola, 1984) with 128 bytes of RAM. Nothing ticks while nobody is interested: time and
 * flags are worked out when they are read, and a timer runs only for the next event whose interrupt is enabled.
 */
#define RTC_RAM 128
#define REG_SEC 0x00u
#define REG_SEC_ALARM 0x01u
#define REG_MIN 0x02u
#define REG_MIN_ALARM 0x03u
#define REG_HOUR 0x04u
#define REG_HOUR_ALARM 0x05u
#define REG_WEEKDAY 0x06u
#define REG_DAY 0x07u
#define REG_MONTH 0x08u
#define REG_YEAR 0x09u
#define REG_A 0x0au
#define REG_B 0x0bu
#define REG_C 0x0cu
#define REG_D 0x0du
#define REG_CENTURY 0x32u /* by convention of PCs; named in the FADT */

#define A_UIP BIT(7)
#define A_DIVIDER 0x70u
#define A_DIVIDER_RUN 0x20u /* 32.768 kHz; others stop or reset the divider */
#define A_RATE 0x0fu
#define B_SET BIT(7)
#define B_UIE BIT(4)
#define B_BINARY BIT(2)
#define B_24H BIT(1)
#define C_IRQF BIT(7)
#define C_PF BIT(6) /* at the place of PIE, AIE and UIE in register B */
#define C_AF BIT(5)
#define C_UF BIT(4)
#define C_FLAGS (C_PF | C_AF | C_UF)
#define B_ENABLES C_FLAGS
#define D_VRT BIT(7)
#define HOUR_PM BIT(7)
#define ALARM_ANY \
	0xc0u /* both top bits: matches every value (s "Time, calendar and alarm locations") */

#define UIP_NS (244 * NS_PER_US)
#define CRYSTAL_HZ 32768ull
#define DAY_SEC 86400

struct rtc {
	struct dev dev;
	struct dev_region region;
	struct bus_irq irq;
	struct dev_timer timer;
	uint8_t index;
	uint8_t ram[RTC_RAM]; /* time registers in it are meaningful only while stopped */
	/*
	 * The clock shows the loop's time + phase_ns, in whole seconds, + offset_sec: the host's time at the start, or
	 * what the guest has set since.
	 */
	uint64_t phase_ns;
	int64_t offset_sec;
	uint64_t looked_ns; /* position up to which the flags in register C are right */
};

static struct rtc *rtc_of(struct dev *d)
{
	return container_of(d, struct rtc, dev);
}

/* --- positions on the clock's own scale, in ns --- */

static uint64_t rtc_position(const struct rtc *r)
{
	return loop_now(r->dev.env.loop) + r->phase_ns;
}

static int64_t seconds_at(const struct rtc *r, uint64_t position)
{
	return (int64_t)(position / NS_PER_SEC) + r->offset_sec;
}

static bool stopped(const struct rtc *r)
{
	return (r->ram[REG_B] & B_SET) || (r->ram[REG_A] & A_DIVIDER) != A_DIVIDER_RUN;
}

static uint64_t crystal_ticks(uint64_t position)
{
	return position / NS_PER_SEC * CRYSTAL_HZ + position % NS_PER_SEC * CRYSTAL_HZ / NS_PER_SEC;
}

/* The first position at which that many ticks have passed. */
static uint64_t crystal_position(uint64_t ticks)
{
	return ticks / CRYSTAL_HZ * NS_PER_SEC +
	       (ticks % CRYSTAL_HZ * NS_PER_SEC + CRYSTAL_HZ - 1) / CRYSTAL_HZ;
}

/* Crystal ticks per periodic interrupt as a power of two, or -1: none (table 5: rates 1 and 2 repeat 8 and 9). */
static int rate_shift(const struct rtc *r)
{
	unsigned int rate = r->ram[REG_A] & A_RATE;

	if (!rate || (r->ram[REG_A] & A_DIVIDER) != A_DIVIDER_RUN)
		return -1;
	return (int)(rate <= 2 ? rate + 6 : rate - 1);
}

/* --- register formats --- */

static uint8_t encode(const struct rtc *r, int value)
{
	if (r->ram[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *r, uint8_t byte)
{
	if (r->ram[REG_B] & B_BINARY)
		return byte;
	return (byte >> 4) * 10 + (byte & 0x0f);
}

static uint8_t encode_hour(const struct rtc *r, int hour)
{
	if (r->ram[REG_B] & B_24H)
		return encode(r, hour);
	return (uint8_t)(encode(r, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0));
}

static int decode_hour(const struct rtc *r, uint8_t byte)
{
	if (r->ram[REG_B] & B_24H)
		return decode(r, byte);
	return decode(r, (uint8_t)(byte & ~HOUR_PM)) % 12 + (byte & HOUR_PM ? 12 : 0);
}

/* Fills the time registers for that second. */
static void registers_from(struct rtc *r, int64_t sec)
{
	time_t t = (time_t)sec;
	struct tm tm = { 0 };

	gmtime_r(&t, &tm);
	r->ram[REG_SEC] = encode(r, tm.tm_sec);
	r->ram[REG_MIN] = encode(r, tm.tm_min);
	r->ram[REG_HOUR] = encode_hour(r, tm.tm_hour);
	r->ram[REG_WEEKDAY] = encode(r, tm.tm_wday + 1);
	r->ram[REG_DAY] = encode(r, tm.tm_mday);
	r->ram[REG_MONTH] = encode(r, tm.tm_mon + 1);
	r->ram[REG_YEAR] = encode(r, (tm.tm_year + 1900) % 100);
	r->ram[REG_CENTURY] = encode(r, (tm.tm_year + 1900) / 100);
}

/* What the time registers say. Nonsense (second 75, month 0) is carried over as timegm() does. */
static int64_t registers_to(const struct rtc *r)
{
	struct tm tm = {
		.tm_sec = decode(r, r->ram[REG_SEC]),
		.tm_min = decode(r, r->ram[REG_MIN]),
		.tm_hour = decode_hour(r, r->ram[REG_HOUR]),
		.tm_mday = decode(r, r->ram[REG_DAY]),
		.tm_mon = decode(r, r->ram[REG_MONTH]) - 1,
		.tm_year =
			decode(r, r->ram[REG_CENTURY]) * 100 + decode(r, r->ram[REG_YEAR]) - 1900,
	};

	return timegm(&tm);
}

/* --- flags and the interrupt --- */

#define ANY (-1)
#define NEVER (-2)

/* The value below n that a register would show as that alarm byte. */
static int alarm_value(const struct rtc *r, uint8_t alarm, int n,
		       uint8_t (*show)(const struct rtc *r, int value))
{
	if ((alarm & ALARM_ANY) == ALARM_ANY)
		return ANY;
	for (int i = 0; i < n; i++)
		if (show(r, i) == alarm)
			return i;
	return NEVER;
}

/* The first second from `from` on that matches the alarm, or INT64_MAX. */
static int64_t alarm_next(const struct rtc *r, int64_t from)
{
	int hour = alarm_value(r, r->ram[REG_HOUR_ALARM], 24, encode_hour);
	int min = alarm_value(r, r->ram[REG_MIN_ALARM], 60, encode);
	int sec = alarm_value(r, r->ram[REG_SEC_ALARM], 60, encode);
	int64_t t = from;

	if (hour == NEVER || min == NEVER || sec == NEVER)
		return INT64_MAX;
	/* To the next second, minute, hour that match; each step leaves the smaller units at their start. */
	while (t <= from + DAY_SEC) {
		int day = (int)((t % DAY_SEC + DAY_SEC) % DAY_SEC);

		if (hour != ANY && day / 3600 != hour)
			t += 3600 - day % 3600;
		else if (min != ANY && day / 60 % 60 != min)
			t += 60 - day % 60;
		else if (sec != ANY && day % 60 != sec)
			t++;
		else
			return t;
	}
	return INT64_MAX;
}

/* Sets the flags for what happened since the last look, and the interrupt line. */
static void look(struct rtc *r)
{
	uint64_t now = rtc_position(r);
	int shift = rate_shift(r);
	uint8_t flags = r->ram[REG_C] & C_FLAGS;

	if (shift >= 0 && crystal_ticks(now) >> shift != crystal_ticks(r->looked_ns) >> shift)
		flags |= C_PF;
	if (!stopped(r) && now / NS_PER_SEC != r->looked_ns / NS_PER_SEC) {
		flags |= C_UF;
		if (alarm_next(r, seconds_at(r, r->looked_ns) + 1) <= seconds_at(r, now))
			flags |= C_AF;
	}
	r->looked_ns = now;
	if (flags & r->ram[REG_B] & B_ENABLES)
		flags |= C_IRQF;
	r->ram[REG_C] = flags;
	bus_irq_set(&r->irq, flags & C_IRQF);
}

/* Arms the timer for the next event that would raise the line. After look(). */
static void arm(struct rtc *r)
{
	uint8_t wanted = r->ram[REG_B] & B_ENABLES & (uint8_t)~r->ram[REG_C];
	uint64_t next = UINT64_MAX;
	int shift = rate_shift(r);

	/* While the line is up no edge can come: the guest's pace limits ours. */
	if (r->ram[REG_C] & C_IRQF)
		wanted = 0;
	if ((wanted & C_PF) && shift >= 0)
		next = crystal_position(((crystal_ticks(r->looked_ns) >> shift) + 1) << shift);
	if ((wanted & C_UF) && !stopped(r))
		next = MIN(next, (r->looked_ns / NS_PER_SEC + 1) * NS_PER_SEC);
	if ((wanted & C_AF) && !stopped(r)) {
		int64_t at = alarm_next(r, seconds_at(r, r->looked_ns) + 1);

		if (at != INT64_MAX)
			next = MIN(next, (uint64_t)(at - r->offset_sec) * NS_PER_SEC);
	}
	if (next == UINT64_MAX)
		dev_timer_cancel(&r->timer);
	else
		dev_timer_set(&r->timer, next - r->phase_ns);
}

static void on_timer(struct dev *d)
{
	look(rtc_of(d));
	arm(rtc_of(d));
}

/* --- setting the time --- */

/* The clock shows sec from now on. */
static void set_seconds(struct rtc *r, int64_t sec)
{
	r->offset_sec = sec - (int64_t)(rtc_position(r) / NS_PER_SEC);
	r->looked_ns = rtc_position(r);
}

/* A reset of the divider makes the next second begin half a second after its release (s "Divider control"). */
static void restart_divider(struct rtc *r)
{
	uint64_t into = rtc_position(r) % NS_PER_SEC;

	r->phase_ns += NS_PER_SEC + NS_PER_SEC / 2 - into;
}

/* Takes the registers for the time, when the clock starts again. */
static void start_clock(struct rtc *r, bool divider_was_reset)
{
	if (divider_was_reset)
		restart_divider(r);
	set_seconds(r, registers_to(r));
}

static bool is_time(uint8_t index)
{
	return index <= REG_YEAR ? !(index <= REG_HOUR_ALARM && (index & 1)) : index == REG_CENTURY;
}

/* A and B can stop and start the clock. What it shows stays in the registers while it stands. */
static void control_write(struct rtc *r, uint8_t index, uint8_t value)
{
	bool stood = stopped(r);
	bool reset = (r->ram[REG_A] & A_DIVIDER) != A_DIVIDER_RUN;

	look(r);
	if (!stood)
		registers_from(r, seconds_at(r, r->looked_ns));
	if (index == REG_B) {
		/* The format bits say how to read the registers; running time is converted. */
		r->ram[REG_B] = value & B_SET ? (uint8_t)(value & ~B_UIE) : value;
	} else {
		r->ram[REG_A] = (uint8_t)(value & ~A_UIP);
	}
	if (stood && !stopped(r))
		start_clock(r, reset);
	look(r);
	arm(r);
}

/* --- registers --- */

static uint64_t data_read(void *model, unsigned int i)
{
	struct rtc *r = model;
	uint8_t value;

	(void)i;
	if (is_time(r->index) && !stopped(r))
		registers_from(r, seconds_at(r, rtc_position(r)));
	value = r->ram[r->index];
	if (r->index == REG_A && !stopped(r) && rtc_position(r) % NS_PER_SEC >= NS_PER_SEC - UIP_NS)
		value |= A_UIP;
	if (r->index != REG_C)
		return value;
	look(r);
	value = r->ram[REG_C];
	r->ram[REG_C] = 0;
	bus_irq_set(&r->irq, false);
	arm(r);
	return value;
}

static void data_write(void *model, unsigned int i, uint64_t value)
{
	struct rtc *r = model;
	uint8_t byte = (uint8_t)value;

	(void)i;
	if (r->index == REG_C || r->index == REG_D)
		return; /* read-only */
	if (r->index == REG_A || r->index == REG_B) {
		control_write(r, r->index, byte);
		return;
	}
	look(r);
	if (is_time(r->index) && !stopped(r)) {
		registers_from(r, seconds_at(r, r->looked_ns));
		r->ram[r->index] = byte;
		set_seconds(r, registers_to(r));
	} else {
		r->ram[r->index] = byte;
	}
	arm(r);
}

/* Bit 7 gates the NMI on a PC; nothing here makes one. */
static void index_write(void *model, unsigned int i, uint64_t value)
{
	(void)i;
	((struct rtc *)model)->index = value & (CANARY ? 0xff : RTC_RAM - 1);
}

static const struct reg regs[] = {
	{ .offset = 0, .width = 1, .name = "index", .write = index_write },
	{ .offset = 1, .width = 1, .name = "data", .read = data_read, .write = data_write },
};
static const struct reg_table table = REG_TABLE(regs, 0xff);

/* --- life cycle --- */

static int64_t host_seconds(bool local)
{
	time_t t = (time_t)(clock_real_ns() / NS_PER_SEC);
	struct tm tm;

	if (local && localtime_r(&t, &tm))
		t += tm.tm_gmtoff;
	return t;
}

static int rtc_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	const struct rtc_conf *c = conf;
	struct rtc *r = rtc_of(d);
	int rc;

	bus_irq_init(env->bus, &r->irq, RTC_IRQ);
	dev_timer_init(&r->timer, d, on_timer);
	r->ram[REG_A] = A_DIVIDER_RUN | 6; /* as a PC's firmware leaves it: 1024 Hz */
	r->ram[REG_B] = B_24H;
	r->ram[REG_D] = D_VRT;
	/* The clock's seconds begin with those of the host. */
	r->phase_ns = NS_PER_SEC + clock_real_ns() % NS_PER_SEC - loop_now(env->loop) % NS_PER_SEC;
	set_seconds(r, host_seconds(c->use_localtime));
	dev_region_init_regs(&r->region, d, 2, &table);
	rc = bus_map(env->bus, &r->region.region, BUS_PORT, RTC_PORT);
	return rc < 0 ? err_set(err, rc, "cannot map port %x", RTC_PORT) : 0;
}

/* RAM and time are on a battery; the reset line clears the interrupt enables and flags (s "RESET"). */
static void rtc_reset(struct dev *d)
{
	struct rtc *r = rtc_of(d);

	r->index = 0;
	control_write(r, REG_B, r->ram[REG_B] & (uint8_t) ~(B_SET | B_ENABLES));
	control_write(r, REG_A, A_DIVIDER_RUN | (r->ram[REG_A] & A_RATE));
	r->ram[REG_C] = 0;
	bus_irq_set(&r->irq, false);
	arm(r);
}

static void rtc_fini(struct dev *d)
{
	struct rtc *r = rtc_of(d);

	if (r->region.region.mapped)
		bus_unmap(d->env.bus, &r->region.region);
	if (r->timer.dev)
		dev_timer_cancel(&r->timer);
}

static const struct conf_key keys[] = {
	{ .name = "use_localtime",
	  .type = CONF_BOOL,
	  .offset = offsetof(struct rtc_conf, use_localtime),
	  .def = "true",
	  .help = "show the host's local time instead of UTC" },
	CONF_KEY_END,
};

const struct dev_ops rtc_ops = {
	.model = "rtc",
	.help = "real-time clock, MC146818A",
	.keys = keys,
	.size = sizeof(struct rtc),
	.conf_size = sizeof(struct rtc_conf),
	.init = rtc_init,
	.reset = rtc_reset,
	.fini = rtc_fini,
};
