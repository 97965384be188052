/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>

#include "back/input.h"
#include "bench/tb_xhci.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

/* Tablet and keyboard behind the controller, standard requests, and who gets the person's input. */
#define IN 3
#define TABLET 1
#define KEYBOARD 2

struct setup {
	struct tb *tb;
	struct dev *ps2;
	struct tb_xhci x;
	unsigned int tablet, keyboard; /* slots */
	unsigned int leds, led_calls;
};

static void on_leds(void *arg, unsigned int leds)
{
	struct setup *s = arg;

	s->leds = leds;
	s->led_calls++;
}

/* Both devices beside the PS/2 ones, the tablet configured. */
static struct setup *make_plugged(void)
{
	struct setup *s = calloc(1, sizeof(*s));
	struct err err = { 0 };
	struct dev *d;

	s->tb = tb_new(NULL);
	tb_input(s->tb)->leds = on_leds;
	tb_input(s->tb)->leds_arg = s;
	d = tb_add(s->tb, &xhci_ops, "slot.1.device=tablet\nslot.2.device=keyboard\n", &err);
	if (!d)
		CHECK_FAIL("tb_add: %s", err.text);
	s->ps2 = tb_add(s->tb, &i8042_ops, NULL, &err);
	tb_xhci_init(&s->x, d, true);
	tb_xhci_start(&s->x);
	s->tablet = tb_xhci_attach(&s->x, TABLET);
	tb_xhci_configure(&s->x, s->tablet);
	s->keyboard = tb_xhci_attach(&s->x, KEYBOARD);
	return s;
}

static struct setup *make(void)
{
	struct setup *s = make_plugged();

	tb_xhci_configure(&s->x, s->keyboard);
	return s;
}

static void done(struct setup *s)
{
	tb_free(s->tb);
	free(s);
}

static void point(struct setup *s, int x, int y, unsigned int buttons)
{
	input_pointer(tb_input(s->tb), x, y, 1024, 768, buttons);
}

static void key(struct setup *s, uint16_t code, int down)
{
	input_key(tb_input(s->tb), code, down);
}

/* The next report of that device: its length, 0 for none. */
static uint32_t report(struct setup *s, unsigned int slot, uint8_t out[8])
{
	gpa_t buf = s->x.buf + 64 * slot;
	uint32_t n, code = tb_xhci_transfer(&s->x, slot, IN, buf, 8, &n);

	if (!code) {
		/* takes the transfer back */
		CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_STOP_ENDPOINT, 0, slot << 24 | IN << 16),
			 XHCI_SUCCESS);
		CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_SET_DEQUEUE,
					 (s->x.ring[slot][IN].base +
					  s->x.ring[slot][IN].next * XHCI_TRB_SIZE) |
						 s->x.ring[slot][IN].cycle,
					 slot << 24 | IN << 16),
			 XHCI_SUCCESS);
		tb_xhci_bell(&s->x, slot, IN);
		return 0;
	}
	memcpy(out, tb_mem(s->tb, buf, 8), 8);
	return n;
}

static void expect_pointer(struct setup *s, uint8_t buttons, unsigned int x, unsigned int y,
			   int wheel)
{
	uint8_t r[8];

	CHECK_EQ(report(s, s->tablet, r), 6);
	CHECK_EQ(r[0], buttons);
	CHECK_EQ(get_le16(r + 1), x);
	CHECK_EQ(get_le16(r + 3), y);
	CHECK_EQ((int8_t)r[5], wheel);
}

static void expect_keys(struct setup *s, uint64_t keys)
{
	uint8_t r[8];

	CHECK_EQ(report(s, s->keyboard, r), 8);
	CHECK_EQ(get_le64(r), keys);
}

static void expect_none(struct setup *s, unsigned int slot)
{
	uint8_t r[8];

	CHECK_EQ(report(s, slot, r), 0);
}

static int request(struct setup *s, unsigned int slot, uint8_t type, uint8_t req, uint16_t value,
		   uint16_t index, uint16_t length)
{
	struct usb_setup u = { type, req, value, index, length };
	int n = tb_xhci_control(&s->x, slot, &u);
	struct tb_xhci_ring *r = &s->x.ring[slot][1];

	if (n >= 0)
		return n;
	/* as a driver does after a stall */
	CHECK_EQ(n, -XHCI_STALL);
	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_RESET_ENDPOINT, 0, slot << 24 | 1 << 16),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_SET_DEQUEUE,
				 (r->base + r->next * XHCI_TRB_SIZE) | r->cycle,
				 slot << 24 | 1 << 16),
		 XHCI_SUCCESS);
	return -1;
}

static uint8_t *buf(struct setup *s)
{
	return tb_mem(s->tb, s->x.buf, 512);
}

/* --- tablet --- */

static void tablet_reports(void)
{
	struct setup *s = make();

	expect_none(s, s->tablet);
	point(s, 0, 0, 0);
	expect_pointer(s, 0, 0, 0, 0);
	point(s, 1023, 767, 1);
	expect_pointer(s, 1, 32767, 32767, 0);
	point(s, 512, 384, 2 | 4);
	expect_pointer(s, 6, 16399, 16404, 0);
	point(s, 512, 384, 8);
	point(s, 512, 384, 0);
	point(s, 512, 384, 16);
	point(s, 512, 384, 16); /* held: it does not turn again */
	expect_pointer(s, 0, 16399, 16404, 1);
	expect_pointer(s, 0, 16399, 16404, 0);
	expect_pointer(s, 0, 16399, 16404, -1);
	expect_pointer(s, 0, 16399, 16404, 0);
	point(s, 512, 384, 0x80);
	point(s, 512, 384, 0x101);
	expect_pointer(s, 8, 16399, 16404, 0);
	expect_pointer(s, 17, 16399, 16404, 0);
	point(s, 512, 384, 0);
	expect_pointer(s, 0, 16399, 16404, 0);
	expect_none(s, s->tablet);
	done(s);
}

/* A short buffer takes what fits. */
static void tablet_short_buffer(void)
{
	struct setup *s = make();
	uint32_t n;

	point(s, 1023, 0, 0);
	CHECK_EQ(tb_xhci_transfer(&s->x, s->tablet, IN, s->x.buf, 3, &n), XHCI_SUCCESS);
	CHECK_EQ(n, 3);
	expect_none(s, s->tablet);
	done(s);
}

/* movement merges, clicks do not until the queue is full, and the newest always arrives. */
static void tablet_flood(void)
{
	struct setup *s = make();
	unsigned int n = 0;
	uint8_t r[8];

	for (int i = 0; i < 1000000; i++)
		point(s, i % 1024, 3, 0);
	expect_pointer(s, 0, 575 * 32767 / 1023, 3 * 32767 / 767, 0);
	expect_none(s, s->tablet);
	point(s, 1, 1, 1);
	point(s, 2, 1, 0);
	point(s, 3, 1, 0);
	expect_pointer(s, 1, 32, 42, 0);
	expect_pointer(s, 0, 96, 42, 0);
	for (int i = 0; i < 1000; i++)
		point(s, i, 1, i & 1);
	while (report(s, s->tablet, r))
		n++;
	CHECK_EQ(n, 64);
	CHECK_EQ(r[0], 1);
	CHECK_EQ(get_le16(r + 1), 999 * 32767 / 1023);
	done(s);
}

/* --- keyboard --- */

static void keyboard_reports(void)
{
	struct setup *s = make();

	key(s, 0x1e, 1);
	key(s, 0x1e, 1); /* repeated: the guest does that itself */
	expect_keys(s, 0x040000);
	key(s, 0x2a, 1);
	key(s, 0xe01d, 1);
	expect_keys(s, 0x040002);
	expect_keys(s, 0x040012);
	key(s, 0x1e, 0);
	key(s, 0x2a, 0);
	key(s, 0xe01d, 0);
	expect_keys(s, 0x000012);
	expect_keys(s, 0x000010);
	expect_keys(s, 0);
	/* pause, and what has no usage */
	key(s, 0xe11d, 1);
	expect_keys(s, 0x480000);
	key(s, 0xe11d, 0);
	expect_keys(s, 0);
	key(s, 0x5a, 1);
	key(s, 0xe001, 1);
	key(s, 0x66, 1);
	expect_keys(s, 0x6a0000);
	key(s, 0x66, 0);
	expect_keys(s, 0);
	expect_none(s, s->keyboard);
	done(s);
}

/* Who types in the name of a person waits until the guest has fetched what was typed before. */
static void typing_waits(void)
{
	struct setup *s = make();
	struct input *in = tb_input(s->tb);

	CHECK(!input_busy(in));
	for (int i = 0; i < 100; i++) {
		CHECK(input_key(in, 0x1e, 1));
		CHECK(input_key(in, 0x1e, 0));
		CHECK(input_busy(in));
		expect_keys(s, 0x040000);
		CHECK(input_busy(in));
		expect_keys(s, 0);
		CHECK(!input_busy(in));
	}
	done(s);
}

/* A key that went to the PS/2 keyboard, which the guest does not look at any more, keeps none from the USB one. */
static void typing_moves_on(void)
{
	struct setup *s = make_plugged();
	struct input *in = tb_input(s->tb);

	CHECK(input_key(in, 0x1e, 1));
	CHECK(input_key(in, 0x1e, 0));
	CHECK(input_busy(in));
	tb_xhci_configure(&s->x, s->keyboard);
	CHECK(!input_busy(in));
	CHECK(input_key(in, 0x1e, 1));
	expect_keys(s, 0x040000);
	CHECK(input_key(in, 0x1e, 0));
	expect_keys(s, 0);
	done(s);
}

/* Seven keys at once: roll over, until one is released. */
static void keyboard_roll_over(void)
{
	struct setup *s = make();

	for (uint16_t code = 0x10; code < 0x16; code++)
		key(s, code, 1);
	for (int i = 0; i < 5; i++) {
		uint8_t r[8];

		CHECK_EQ(report(s, s->keyboard, r), 8);
	}
	expect_keys(s, 0x1c1a171514080000ull);
	key(s, 0x1e, 1);
	expect_keys(s, 0x0101010101010000ull);
	key(s, 0x10, 0);
	expect_keys(s, 0x1c1a171508040000ull);
	done(s);
}

static void keyboard_leds(void)
{
	static const unsigned int ps2[] = { 0, 2, 4, 6, 1, 3, 5, 7 };
	struct setup *s = make();

	for (uint8_t leds = 1; leds < 8; leds++) {
		buf(s)[0] = leds;
		CHECK_EQ(request(s, s->keyboard, 0x21, 9, 0x0200, 0, 1), 1);
		CHECK_EQ(s->leds, ps2[leds]);
		CHECK_EQ(s->led_calls, leds);
	}
	CHECK_EQ(request(s, s->keyboard, 0x21, 9, 0x0200, 0, 1), 1);
	CHECK_EQ(s->led_calls, 7);
	/* other reports, other lengths, the tablet */
	CHECK_EQ(request(s, s->keyboard, 0x21, 9, 0x0100, 0, 1), -1);
	CHECK_EQ(request(s, s->keyboard, 0x21, 9, 0x0201, 0, 1), -1);
	CHECK_EQ(request(s, s->keyboard, 0x21, 9, 0x0200, 0, 2), -1);
	CHECK_EQ(request(s, s->tablet, 0x21, 9, 0x0200, 0, 1), -1);
	CHECK_EQ(s->led_calls, 7);
	/* a reset of the port switches them off */
	tb_xhci_w(&s->x, XHCI_PORTSC + 16, XHCI_PORT_PP | XHCI_PORT_PR);
	CHECK_EQ(s->leds, 0);
	done(s);
}

/* --- requests --- */

static void descriptors(void)
{
	struct setup *s = make();

	for (unsigned int slot = s->tablet; slot <= s->keyboard; slot++) {
		unsigned int report_len;

		CHECK_EQ(request(s, slot, 0x80, 6, 0x0100, 0, 255), 18);
		CHECK_EQ(buf(s)[0], 18);
		CHECK_EQ(buf(s)[7], 64);
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0200, 0, 9), 9);
		CHECK_EQ(get_le16(buf(s) + 2), 34);
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0200, 0, 255), 34);
		CHECK_EQ(buf(s)[9 + 5], 3);
		CHECK_EQ(buf(s)[9 + 7], slot == s->keyboard);
		report_len = get_le16(buf(s) + 18 + 7);
		CHECK_EQ(request(s, slot, 0x81, 6, 0x2200, 0, 255), report_len);
		CHECK_EQ(buf(s)[report_len - 1], 0xc0);
		CHECK_EQ(request(s, slot, 0x81, 6, 0x2100, 0, 255), 9);
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0300, 0, 255), 4);
		CHECK_EQ(get_le16(buf(s) + 2), 0x0409);
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0301, 0x409, 255), 12);
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0302, 0x409, 255),
			 slot == s->tablet ? 22 : 26);
		CHECK_EQ(buf(s)[8], ' ');
		CHECK_EQ(request(s, slot, 0x80, 6, 0x0303, 0x409, 255), -1);
	}
	done(s);
}

/* every type and index, short and long: a stall, or no more than was asked for. */
static void every_descriptor(void)
{
	struct setup *s = make();

	for (unsigned int value = 0; value < 0x10000; value += value & 15 ? 0xf1 : 1) {
		int n = request(s, s->keyboard, 0x80 | (value & 1), 6, (uint16_t)value, 0,
				value & 2 ? 300 : 5);

		CHECK(n <= (value & 2 ? 255 : 5));
		if (s->x.ring[s->keyboard][1].base == 0)
			break;
	}
	CHECK_EQ(request(s, s->keyboard, 0x80, 6, 0x0100, 0, 255), 18);
	done(s);
}

static void standard_requests(void)
{
	struct setup *s = make();
	unsigned int t = s->tablet;

	CHECK_EQ(request(s, t, 0x80, 8, 0, 0, 1), 1);
	CHECK_EQ(buf(s)[0], 1);
	CHECK_EQ(request(s, t, 0x80, 0, 0, 0, 2), 2);
	CHECK_EQ(get_le16(buf(s)), 1);
	CHECK_EQ(request(s, t, 0x81, 0, 0, 0, 2), 2);
	CHECK_EQ(request(s, t, 0x81, 0, 0, 1, 2), -1);
	CHECK_EQ(request(s, t, 0x81, 10, 0, 0, 1), 1);
	CHECK_EQ(request(s, t, 0x01, 11, 0, 0, 0), 0);
	CHECK_EQ(request(s, t, 0x01, 11, 1, 0, 0), -1);
	/* halt and resume the interrupt endpoint */
	CHECK_EQ(request(s, t, 0x02, 3, 0, 0x81, 0), 0);
	CHECK_EQ(request(s, t, 0x82, 0, 0, 0x81, 2), 2);
	CHECK_EQ(get_le16(buf(s)), 1);
	CHECK_EQ(tb_xhci_transfer(&s->x, t, IN, s->x.buf, 8, NULL), XHCI_STALL);
	CHECK_EQ(request(s, t, 0x02, 1, 0, 0x81, 0), 0);
	CHECK_EQ(request(s, t, 0x82, 0, 0, 0x81, 2), 2);
	CHECK_EQ(get_le16(buf(s)), 0);
	CHECK_EQ(request(s, t, 0x82, 0, 0, 0x80, 2), 2);
	CHECK_EQ(request(s, t, 0x82, 0, 0, 0x82, 2), -1);
	CHECK_EQ(request(s, t, 0x02, 1, 5, 0x81, 0), -1);
	/* remote wake-up, test mode, SET_ADDRESS, bad configuration */
	CHECK_EQ(request(s, t, 0x00, 3, 1, 0, 0), -1);
	CHECK_EQ(request(s, t, 0x00, 5, 9, 0, 0), -1);
	CHECK_EQ(request(s, t, 0x00, 9, 2, 0, 0), -1);
	CHECK_EQ(request(s, t, 0x00, 9, 0, 0, 0), 0);
	CHECK_EQ(request(s, t, 0x80, 8, 0, 0, 1), 1);
	CHECK_EQ(buf(s)[0], 0);
	CHECK_EQ(request(s, t, 0x81, 10, 0, 0, 1), -1);
	CHECK_EQ(request(s, t, 0xa1, 1, 0x0100, 0, 6), -1);
	done(s);
}

static void hid_requests(void)
{
	struct setup *s = make();

	point(s, 1023, 767, 1);
	CHECK_EQ(request(s, s->tablet, 0xa1, 1, 0x0100, 0, 8), 6);
	CHECK_EQ(get_le32(buf(s)), 0xff7fff01);
	CHECK_EQ(request(s, s->tablet, 0xa1, 1, 0x0100, 0, 3), -1);
	CHECK_EQ(request(s, s->tablet, 0xa1, 1, 0x0200, 0, 8), -1);
	CHECK_EQ(request(s, s->keyboard, 0x21, 10, 0x7d00, 0, 0), 0);
	CHECK_EQ(request(s, s->keyboard, 0xa1, 2, 0, 0, 1), 1);
	CHECK_EQ(buf(s)[0], 0x7d);
	CHECK_EQ(request(s, s->keyboard, 0xa1, 3, 0, 0, 1), 1);
	CHECK_EQ(buf(s)[0], 1);
	CHECK_EQ(request(s, s->keyboard, 0x21, 11, 0, 0, 0), 0);
	CHECK_EQ(request(s, s->keyboard, 0xa1, 3, 0, 0, 1), 1);
	CHECK_EQ(buf(s)[0], 0);
	CHECK_EQ(request(s, s->keyboard, 0x21, 11, 2, 0, 0), -1);
	CHECK_EQ(request(s, s->tablet, 0x21, 11, 0, 0, 0), -1);
	CHECK_EQ(request(s, s->tablet, 0xa1, 2, 0, 0, 0), -1);
	/* all the others */
	for (unsigned int req = 0; req < 256; req++) {
		if (req == 2 || req == 3)
			continue;
		CHECK_EQ(request(s, s->keyboard, 0xa1, (uint8_t)req, 0xffff, 0, 8), -1);
		if (req != 10)
			CHECK_EQ(request(s, s->keyboard, 0x21, (uint8_t)req, 0xffff, 0, 0), -1);
		CHECK_EQ(request(s, s->keyboard, 0xa1, (uint8_t)req, 0x0100, 1, 8), -1);
		CHECK_EQ(request(s, s->keyboard, 0xc0, (uint8_t)req, 0x0100, 0, 8), -1);
	}
	done(s);
}

/* --- who gets it --- */

static bool ps2_has(struct setup *s, bool aux)
{
	uint32_t status = tb_in(s->tb, 0x64, 1);

	if ((status & 1) && !!(status & 0x20) == aux) {
		tb_in(s->tb, 0x60, 1);
		return true;
	}
	return false;
}

/* The PS/2 ones get what the guest does not want from the USB ones. */
static void routing(void)
{
	struct setup *s = make();

	key(s, 0x10, 1);
	CHECK(!ps2_has(s, false));
	expect_keys(s, 0x140000);
	key(s, 0x10, 0);
	expect_keys(s, 0);
	/* not configured any more */
	CHECK_EQ(request(s, s->keyboard, 0x00, 9, 0, 0, 0), 0);
	key(s, 0x10, 1);
	CHECK(ps2_has(s, false));
	/* a key goes up where it went down */
	CHECK_EQ(request(s, s->keyboard, 0x00, 9, 1, 0, 0), 0);
	key(s, 0x10, 0);
	CHECK(ps2_has(s, false));
	expect_none(s, s->keyboard);
	key(s, 0x11, 1);
	expect_keys(s, 0x1a0000);
	/* the controller stands still: a firmware has left it so */
	tb_xhci_w(&s->x, XHCI_USBCMD, 0);
	key(s, 0x12, 1);
	CHECK(ps2_has(s, false));
	key(s, 0x12, 0);
	CHECK(ps2_has(s, false));
	tb_xhci_w(&s->x, XHCI_USBCMD, XHCI_CMD_RS);
	key(s, 0x12, 1);
	CHECK(!ps2_has(s, false));
	done(s);
}

static void pointer_routing(void)
{
	struct setup *s = make();

	/* the mouse reports */
	tb_out(s->tb, 0x64, 1, 0xd4);
	tb_out(s->tb, 0x60, 1, 0xf4);
	CHECK(ps2_has(s, true));
	point(s, 5, 5, 0);
	point(s, 9, 5, 1);
	CHECK(!ps2_has(s, true));
	expect_pointer(s, 0, 160, 213, 0);
	expect_pointer(s, 1, 288, 213, 0);
	/* the tablet goes while a button is held */
	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_STOP_ENDPOINT, 0, s->tablet << 24 | IN << 16),
		 XHCI_SUCCESS);
	point(s, 20, 5, 1);
	CHECK(ps2_has(s, true));
	done(s);
}

/* Who had the button down hears of its release. */
static void buttons_do_not_stick(void)
{
	struct setup *s = make();

	tb_out(s->tb, 0x64, 1, 0xd4);
	tb_out(s->tb, 0x60, 1, 0xf4);
	CHECK(ps2_has(s, true));
	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_STOP_ENDPOINT, 0, s->tablet << 24 | IN << 16),
		 XHCI_SUCCESS);
	point(s, 5, 5, 1);
	CHECK_EQ(tb_in(s->tb, 0x60, 1), 0x09);
	CHECK(ps2_has(s, true) && ps2_has(s, true));
	tb_xhci_bell(&s->x, s->tablet, IN);
	point(s, 5, 5, 1);
	CHECK_EQ(tb_in(s->tb, 0x60, 1), 0x08);
	expect_pointer(s, 1, 160, 213, 0);
	done(s);
}

static void sinks_are_given_back(void)
{
	struct setup *s = make();
	struct input *in = tb_input(s->tb);
	struct input_sink extra = { .arg = s };

	key(s, 0x10, 1);
	point(s, 1, 1, 1);
	input_add(in, &extra, true); /* takes nothing */
	key(s, 0x11, 1);
	point(s, 2, 1, 1);
	expect_keys(s, 0x140000);
	expect_keys(s, 0x1a140000);
	input_remove(in, &extra);
	input_remove(in, &extra);
	done(s);
}

static const struct test_case cases[] = {
	{ "tablet_reports", tablet_reports },
	{ "tablet_short_buffer", tablet_short_buffer },
	{ "tablet_flood (X-12)", tablet_flood },
	{ "keyboard_reports", keyboard_reports },
	{ "typing_waits", typing_waits },
	{ "typing_moves_on", typing_moves_on },
	{ "keyboard_roll_over", keyboard_roll_over },
	{ "keyboard_leds", keyboard_leds },
	{ "descriptors", descriptors },
	{ "every_descriptor (X-08)", every_descriptor },
	{ "standard_requests", standard_requests },
	{ "hid_requests (X-08)", hid_requests },
	{ "routing", routing },
	{ "pointer_routing", pointer_routing },
	{ "buttons_do_not_stick", buttons_do_not_stick },
	{ "sinks_are_given_back", sinks_are_given_back },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
