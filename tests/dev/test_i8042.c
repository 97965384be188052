/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>

#include "back/input.h"
#include "bench/tb.h"
#include "hw/models.h"
#include "run.h"
#include "util/err.h"

#define OBF 0x01
#define AUX 0x20
#define KBD_IRQ 1
#define MOUSE_IRQ 12

struct setup {
	struct tb *tb;
	struct dev *d;
	unsigned int leds, led_calls;
};

static void on_leds(void *arg, unsigned int leds)
{
	struct setup *s = arg;

	s->leds = leds;
	s->led_calls++;
}

static struct setup *make(void)
{
	struct setup *s = calloc(1, sizeof(*s));
	struct err err = { 0 };

	s->tb = tb_new(NULL);
	tb_input(s->tb)->leds = on_leds;
	tb_input(s->tb)->leds_arg = s;
	s->d = tb_add(s->tb, &i8042_ops, NULL, &err);
	if (!s->d)
		CHECK_FAIL("tb_add: %s", err.text);
	return s;
}

static void done(struct setup *s)
{
	tb_free(s->tb);
	free(s);
}

static uint8_t status(struct setup *s)
{
	return (uint8_t)tb_in(s->tb, 0x64, 1);
}

static uint8_t get(struct setup *s)
{
	return (uint8_t)tb_in(s->tb, 0x60, 1);
}

static void command(struct setup *s, uint8_t cmd)
{
	tb_out(s->tb, 0x64, 1, cmd);
}

static void kbd(struct setup *s, uint8_t byte)
{
	tb_out(s->tb, 0x60, 1, byte);
}

static void mouse(struct setup *s, uint8_t byte)
{
	command(s, 0xd4);
	kbd(s, byte);
}

static void set_cfg(struct setup *s, uint8_t cfg)
{
	command(s, 0x60);
	kbd(s, cfg);
}

static uint8_t cfg(struct setup *s)
{
	command(s, 0x20);
	return get(s);
}

static void key(struct setup *s, uint16_t code, int down)
{
	input_key(tb_input(s->tb), code, down);
}

static void point(struct setup *s, int x, int y, unsigned int buttons)
{
	input_pointer(tb_input(s->tb), x, y, 1024, 768, buttons);
}

/* Exactly these bytes come, from keyboard or mouse, and then none. */
static void expect_from(struct setup *s, bool aux, const uint8_t *want, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t st = status(s), byte;

		if (!(st & OBF))
			CHECK_FAIL("byte %zu of %zu is missing", i + 1, n);
		CHECK_EQ((st & AUX) != 0, aux);
		byte = get(s);
		if (byte != want[i])
			CHECK_FAIL("byte %zu is %02x, not %02x", i + 1, byte, want[i]);
	}
	CHECK_EQ(status(s) & OBF, 0);
}

#define BYTES(...) ((const uint8_t[]){ __VA_ARGS__ }), sizeof((const uint8_t[]){ __VA_ARGS__ })
#define EXPECT(s, ...) expect_from(s, false, BYTES(__VA_ARGS__))
#define EXPECT_AUX(s, ...) expect_from(s, true, BYTES(__VA_ARGS__))

static void reset_values(void)
{
	struct setup *s = make();

	for (int i = 0; i < 2; i++) {
		CHECK_EQ(status(s) & (OBF | AUX), 0);
		CHECK_EQ(cfg(s), 0x47);
		CHECK(!tb_wire(s->tb, KBD_IRQ) && !tb_wire(s->tb, MOUSE_IRQ));
		set_cfg(s, 0x30);
		key(s, 0x1e, 1);
		CHECK(tb_reset(s->tb));
	}
	done(s);
}

/* What both OVMF releases send. */
static void firmware_sequence(void)
{
	struct setup *s = make();

	command(s, 0xad);
	command(s, 0xa7);
	command(s, 0xaa);
	EXPECT(s, 0x55);
	set_cfg(s, 0x67);
	command(s, 0xab);
	EXPECT(s, 0x00);
	command(s, 0xae);
	kbd(s, 0xff);
	EXPECT(s, 0xfa, 0xaa);
	kbd(s, 0xf0);
	EXPECT(s, 0xfa);
	kbd(s, 0x02);
	EXPECT(s, 0xfa);
	kbd(s, 0xf4);
	EXPECT(s, 0xfa);
	kbd(s, 0xed);
	EXPECT(s, 0xfa);
	kbd(s, 0x00);
	EXPECT(s, 0xfa);
	key(s, 0x1e, 1);
	key(s, 0x1e, 0);
	EXPECT(s, 0x1e, 0x9e);
	CHECK_EQ(cfg(s), 0x67);
	done(s);
}

static void controller_commands(void)
{
	struct setup *s = make();

	command(s, 0xa9);
	EXPECT(s, 0x00);
	command(s, 0xc0);
	EXPECT(s, 0x80);
	command(s, 0xd0);
	CHECK_EQ(get(s) & 3, 3); /* no reset, A20 on */
	command(s, 0xd2);
	kbd(s, 0x5a);
	EXPECT(s, 0x5a);
	command(s, 0xd3);
	kbd(s, 0xa5);
	EXPECT_AUX(s, 0xa5);
	command(s, 0xa7);
	CHECK_EQ(cfg(s) & 0x20, 0x20);
	command(s, 0xa8);
	CHECK_EQ(cfg(s) & 0x20, 0);
	command(s, 0xad);
	CHECK_EQ(cfg(s) & 0x10, 0x10);
	command(s, 0xae);
	CHECK_EQ(cfg(s) & 0x10, 0);
	set_cfg(s, 0xff);
	CHECK_EQ(cfg(s), 0x77);
	CHECK_EQ(tb_requests(s->tb, BUS_RESET), 0);
	done(s);
}

static void resets_the_machine(void)
{
	struct setup *s = make();

	command(s, 0xfe);
	CHECK_EQ(tb_requests(s->tb, BUS_RESET), 1);
	command(s, 0xff); /* pulses nothing */
	CHECK_EQ(tb_requests(s->tb, BUS_RESET), 0);
	command(s, 0xd1);
	kbd(s, 0x03);
	CHECK_EQ(tb_requests(s->tb, BUS_RESET), 0);
	command(s, 0xd1);
	kbd(s, 0x02);
	CHECK_EQ(tb_requests(s->tb, BUS_RESET), 1);
	done(s);
}

static void interrupts(void)
{
	struct setup *s = make();

	key(s, 0x1e, 1);
	key(s, 0x30, 1);
	CHECK(tb_wire(s->tb, KBD_IRQ));
	CHECK_EQ(tb_rises(s->tb, KBD_IRQ), 1);
	CHECK_EQ(get(s), 0x1e);
	CHECK_EQ(tb_rises(s->tb, KBD_IRQ), 1); /* one edge for each byte */
	CHECK_EQ(get(s), 0x30);
	CHECK(!tb_wire(s->tb, KBD_IRQ));
	set_cfg(s, 0x46);
	key(s, 0x1e, 1);
	CHECK(!tb_wire(s->tb, KBD_IRQ));
	CHECK(status(s) & OBF);
	get(s);
	mouse(s, 0xf4);
	CHECK(tb_wire(s->tb, MOUSE_IRQ));
	CHECK(!tb_wire(s->tb, KBD_IRQ));
	EXPECT_AUX(s, 0xfa);
	CHECK(!tb_wire(s->tb, MOUSE_IRQ));
	set_cfg(s, 0x44);
	point(s, 10, 10, 0);
	point(s, 11, 10, 0);
	CHECK(status(s) & AUX);
	CHECK(!tb_wire(s->tb, MOUSE_IRQ));
	done(s);
}

static void disabled_keyboard_waits(void)
{
	struct setup *s = make();

	command(s, 0xad);
	key(s, 0x1e, 1);
	key(s, 0x1e, 0);
	CHECK_EQ(status(s) & OBF, 0);
	command(s, 0xae);
	EXPECT(s, 0x1e, 0x9e);
	done(s);
}

static void scan_codes(void)
{
	struct setup *s = make();

	/* translated: set 1 */
	key(s, 0xe048, 1);
	key(s, 0xe048, 0);
	EXPECT(s, 0xe0, 0x48, 0xe0, 0xc8);
	key(s, 0xe11d, 1);
	key(s, 0xe11d, 0);
	EXPECT(s, 0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5);
	/* not translated: set 2 */
	set_cfg(s, 0x07);
	key(s, 0x1e, 1);
	key(s, 0x1e, 0);
	EXPECT(s, 0x1c, 0xf0, 0x1c);
	key(s, 0xe048, 1);
	key(s, 0xe048, 0);
	EXPECT(s, 0xe0, 0x75, 0xe0, 0xf0, 0x75);
	key(s, 0xe11d, 1);
	key(s, 0xe11d, 0);
	EXPECT(s, 0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77);
	key(s, 0x3b, 1); /* F1 */
	key(s, 0x41, 1); /* F7 */
	key(s, 0x57, 1); /* F11 */
	key(s, 0x58, 1); /* F12 */
	key(s, 0x56, 1); /* the 102nd key */
	EXPECT(s, 0x05, 0x83, 0x78, 0x07, 0x61);
	key(s, 0xe05b, 1); /* left Windows */
	key(s, 0xe05d, 1); /* menu */
	EXPECT(s, 0xe0, 0x1f, 0xe0, 0x2f);
	/* set 1 without translation */
	kbd(s, 0xf0);
	kbd(s, 0x01);
	EXPECT(s, 0xfa);
	key(s, 0x1e, 1);
	EXPECT(s, 0x1e);
	kbd(s, 0xf0);
	EXPECT(s, 0xfa);
	kbd(s, 0x00);
	EXPECT(s, 0xfa, 0x01);
	kbd(s, 0xf0);
	EXPECT(s, 0xfa);
	kbd(s, 0x03);
	EXPECT(s, 0xfe);
	done(s);
}

/* The table that translation uses in a real controller (set 2 to set 1) must lead back to where a key came from. */
static void every_key_in_set2(void)
{
	static const uint8_t to_set1[] = {
		0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f,
		0x29, 0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f,
		0x1e, 0x11, 0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39,
		0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e,
		0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b,
		0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74,
		0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56,
		0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
		0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49,
		0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54,
	};
	struct setup *s = make();

	set_cfg(s, 0x07);
	for (unsigned int code = 1; code < 0x80; code++) {
		uint8_t set2;

		key(s, (uint16_t)code, 1);
		set2 = get(s);
		CHECK_EQ(status(s) & OBF, 0);
		CHECK(set2 < sizeof(to_set1));
		if (to_set1[set2] != code)
			CHECK_FAIL("key %02x sends %02x, which is key %02x", code, set2,
				   to_set1[set2]);
	}
	done(s);
}

static void keyboard_commands(void)
{
	struct setup *s = make();

	kbd(s, 0xee);
	EXPECT(s, 0xee);
	kbd(s, 0xf2);
	EXPECT(s, 0xfa, 0xab, 0x41); /* as translation shows it */
	set_cfg(s, 0x07);
	kbd(s, 0xf2);
	EXPECT(s, 0xfa, 0xab, 0x83);
	kbd(s, 0xf3);
	EXPECT(s, 0xfa);
	kbd(s, 0x20);
	EXPECT(s, 0xfa);
	kbd(s, 0xf5);
	EXPECT(s, 0xfa);
	key(s, 0x1e, 1);
	CHECK_EQ(status(s) & OBF, 0);
	kbd(s, 0xf4);
	EXPECT(s, 0xfa);
	key(s, 0x1e, 1);
	EXPECT(s, 0x1c);
	kbd(s, 0xfe); /* once more */
	EXPECT(s, 0x1c);
	kbd(s, 0xf6);
	EXPECT(s, 0xfa);
	kbd(s, 0x55);
	EXPECT(s, 0xfe);
	/* A command instead of the operand. */
	kbd(s, 0xed);
	EXPECT(s, 0xfa);
	kbd(s, 0xf4);
	EXPECT(s, 0xfa);
	CHECK_EQ(s->led_calls, 0);
	kbd(s, 0xed);
	kbd(s, 0x06);
	CHECK_EQ(s->leds, 6);
	CHECK_EQ(s->led_calls, 1);
	CHECK(tb_reset(s->tb));
	CHECK_EQ(s->leds, 0); /* whoever shows them learns of a reset */
	done(s);
}

static void mouse_commands(void)
{
	struct setup *s = make();

	mouse(s, 0xff);
	EXPECT_AUX(s, 0xfa, 0xaa, 0x00);
	mouse(s, 0xf2);
	EXPECT_AUX(s, 0xfa, 0x00);
	mouse(s, 0xe9);
	EXPECT_AUX(s, 0xfa, 0x00, 0x02, 100);
	mouse(s, 0xe8);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0x03);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0xe7);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0xf4);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0xe9);
	EXPECT_AUX(s, 0xfa, 0x30, 0x03, 100);
	mouse(s, 0xee);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0x42); /* wrap mode echoes */
	EXPECT_AUX(s, 0x42);
	mouse(s, 0xec);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0xf0);
	EXPECT_AUX(s, 0xfa);
	point(s, 5, 5, 0);
	point(s, 7, 4, 1);
	CHECK_EQ(status(s) & OBF, 0); /* remote: only when asked */
	mouse(s, 0xeb);
	EXPECT_AUX(s, 0xfa, 0x09, 2, 1);
	mouse(s, 0x12);
	EXPECT_AUX(s, 0xfe);
	done(s);
}

static void knock(struct setup *s, uint8_t a, uint8_t b, uint8_t c)
{
	const uint8_t rates[] = { a, b, c };

	for (int i = 0; i < 3; i++) {
		mouse(s, 0xf3);
		EXPECT_AUX(s, 0xfa);
		mouse(s, rates[i]);
		EXPECT_AUX(s, 0xfa);
	}
}

static void mouse_packets(void)
{
	struct setup *s = make();

	point(s, 100, 100, 0);
	point(s, 120, 100, 0);
	CHECK_EQ(status(s) & OBF, 0); /* not enabled yet */
	mouse(s, 0xf6);
	EXPECT_AUX(s, 0xfa);
	mouse(s, 0xf4);
	EXPECT_AUX(s, 0xfa);
	point(s, 123, 102, 0);
	EXPECT_AUX(s, 0x28, 3, 0xfe);
	point(s, 123, 102, 1);
	EXPECT_AUX(s, 0x09, 0, 0);
	point(s, 122, 102, 7);
	EXPECT_AUX(s, 0x1f, 0xff, 0);
	point(s, 122, 102, 0);
	EXPECT_AUX(s, 0x08, 0, 0);
	/* a long way: several packets */
	point(s, 722, 102, 0);
	EXPECT_AUX(s, 0x08, 255, 0, 0x08, 255, 0, 0x08, 90, 0);
	/* the wheel is nothing to a plain mouse */
	point(s, 722, 102, 8);
	point(s, 722, 102, 0);
	CHECK_EQ(status(s) & OBF, 0);
	knock(s, 200, 100, 80);
	mouse(s, 0xf2);
	EXPECT_AUX(s, 0xfa, 0x03);
	point(s, 722, 102, 8);
	EXPECT_AUX(s, 0x08, 0, 0, 0xff);
	point(s, 722, 102, 0);
	point(s, 722, 102, 16);
	EXPECT_AUX(s, 0x08, 0, 0, 0x01);
	/* nor are buttons that it does not have */
	point(s, 722, 102, 0x180);
	CHECK_EQ(status(s) & OBF, 0);
	knock(s, 200, 200, 80);
	mouse(s, 0xf2);
	EXPECT_AUX(s, 0xfa, 0x04);
	/* back, forward */
	point(s, 722, 102, 0x80);
	EXPECT_AUX(s, 0x08, 0, 0, 0x10);
	point(s, 722, 102, 0x181);
	EXPECT_AUX(s, 0x09, 0, 0, 0x30);
	point(s, 722, 102, 8);
	EXPECT_AUX(s, 0x08, 0, 0, 0x0f);
	mouse(s, 0xff);
	EXPECT_AUX(s, 0xfa, 0xaa, 0x00);
	mouse(s, 0xf2);
	EXPECT_AUX(s, 0xfa, 0x00);
	done(s);
}

/* K-02: nobody reads; whole keys and packets are kept or lost, never halves. */
static void overflow(void)
{
	struct setup *s = make();
	unsigned int bytes = 0, packets = 0;

	for (int i = 0; i < 10000; i++) {
		key(s, 0xe048, 1);
		key(s, 0xe048, 0);
	}
	while (status(s) & OBF) {
		CHECK_EQ(get(s), 0xe0);
		CHECK_EQ(get(s) & 0x7f, 0x48);
		bytes += 2;
	}
	CHECK(bytes >= 16 && bytes <= 128);
	mouse(s, 0xf4);
	EXPECT_AUX(s, 0xfa);
	for (int i = 0; i < 10000; i++)
		point(s, i % 1000, i % 700, (unsigned int)i & 1);
	while ((status(s) & (OBF | AUX)) == (OBF | AUX)) {
		CHECK_EQ(get(s) & 0xc8, 0x08); /* always the first byte of a packet */
		get(s);
		get(s);
		CHECK(++packets < 1000);
	}
	CHECK(packets >= 5);
	/* It still works. */
	key(s, 0x1e, 1);
	EXPECT(s, 0x1e);
	done(s);
}

/* K-02: every controller command with every operand, then bytes to keyboard and mouse at random. */
static void every_command(void)
{
	struct setup *s = make();
	unsigned int seed = 11;

	for (unsigned int cmd = 0; cmd < 256; cmd++)
		for (unsigned int data = 0; data < 256; data++) {
			command(s, (uint8_t)cmd);
			kbd(s, (uint8_t)data);
			get(s);
			if (data % 32 == 0)
				key(s, (uint16_t)((unsigned int)rand_r(&seed) & 0xe17f), 1);
		}
	for (unsigned int first = 0; first < 256; first++)
		for (unsigned int second = 0; second < 256; second++) {
			mouse(s, (uint8_t)first);
			mouse(s, (uint8_t)second);
			if (second % 16 == 0)
				point(s, (int)((unsigned int)rand_r(&seed) % 4000), 5, first);
			kbd(s, (uint8_t)first);
			kbd(s, (uint8_t)second);
			status(s);
			if (second & 1)
				get(s);
		}
	CHECK(tb_reset(s->tb));
	command(s, 0xaa);
	EXPECT(s, 0x55);
	key(s, 0x1e, 1);
	EXPECT(s, 0x1e);
	done(s);
}

static void reset_in_mid_packet(void)
{
	struct setup *s = make();

	mouse(s, 0xf4);
	EXPECT_AUX(s, 0xfa);
	point(s, 1, 1, 0);
	point(s, 9, 9, 1);
	get(s);
	CHECK(tb_reset(s->tb));
	CHECK_EQ(status(s) & OBF, 0);
	CHECK(!tb_wire(s->tb, MOUSE_IRQ));
	point(s, 20, 20, 1);
	CHECK_EQ(status(s) & OBF, 0);
	key(s, 0xe11d, 1);
	get(s);
	mouse(s, 0xff);
	CHECK(tb_reset(s->tb));
	CHECK_EQ(status(s) & OBF, 0);
	done(s);
}

static void sinks_are_given_back(void)
{
	struct tb *tb = tb_new(NULL);
	struct dev *d = tb_add(tb, &i8042_ops, NULL, NULL);

	CHECK(d && tb_input(tb)->sinks);
	CHECK(tb_pause(tb));
	input_key(tb_input(tb), 0x1e, 1); /* recorded */
	tb_resume(tb);
	CHECK_EQ(tb_in(tb, 0x60, 1), 0x1e);
	tb_free(tb);
}

/* Who types in the name of a person waits for the guest: then the queue, which loses what does not fit, is never full. */
static void typing_waits(void)
{
	struct setup *s = make();
	struct input *in = tb_input(s->tb);

	CHECK(!input_busy(in));
	for (int i = 0; i < 100; i++) {
		CHECK(input_key(in, 0xe053, 1));
		CHECK(input_busy(in));
		CHECK(input_key(in, 0xe053, 0));
		CHECK_EQ(get(s), 0xe0);
		CHECK_EQ(get(s), 0x53);
		CHECK_EQ(get(s), 0xe0);
		CHECK(input_busy(in)); /* one byte is left */
		CHECK_EQ(get(s), 0xd3);
		CHECK(!input_busy(in));
	}
	kbd(s, 0xf5); /* the guest does not listen */
	CHECK_EQ(get(s), 0xfa);
	CHECK(!input_key(in, 0x1e, 1));
	CHECK(!input_key(in, 0x1e, 0));
	CHECK(!input_busy(in));
	kbd(s, 0xf4);
	CHECK_EQ(get(s), 0xfa);
	CHECK(input_key(in, 0x1e, 1));
	CHECK_EQ(get(s), 0x1e);
	done(s);
}

/* G-08 */
static void odd_widths(void)
{
	struct setup *s = make();

	for (unsigned int size = 1; size <= 4; size *= 2)
		for (unsigned int port = 0x5d; port < 0x68; port++) {
			tb_in(s->tb, (uint16_t)port, size);
			tb_out(s->tb, (uint16_t)port, size, 0xffffffff);
			tb_in(s->tb, (uint16_t)port, size);
		}
	CHECK_EQ(tb_in(s->tb, 0x64, 2) >> 8, 0xff);
	CHECK_EQ(tb_in(s->tb, 0x61, 1), 0xff); /* the timer's, not ours */
	done(s);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "reset values", reset_values },
		{ "firmware sequence", firmware_sequence },
		{ "controller commands", controller_commands },
		{ "resets the machine", resets_the_machine },
		{ "interrupts", interrupts },
		{ "disabled keyboard waits", disabled_keyboard_waits },
		{ "scan codes", scan_codes },
		{ "typing waits for the guest", typing_waits },
		{ "every key in set 2", every_key_in_set2 },
		{ "keyboard commands", keyboard_commands },
		{ "mouse commands", mouse_commands },
		{ "mouse packets", mouse_packets },
		{ "overflow (K-02)", overflow },
		{ "every command (K-02)", every_command },
		{ "reset in mid packet (K-02)", reset_in_mid_packet },
		{ "sinks are given back", sinks_are_given_back },
		{ "odd widths (G-08)", odd_widths },
	};

	return RUN_CASES(cases, argc, argv);
}
