/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "back/input.h"
#include "dev/dev.h"
#include "hw/usb.h"
#include "util/err.h"
#include "util/macros.h"

/* Tablet and keyboard (Device Class Definition for Human Interface Devices 1.11; HID Usage Tables 1.12). */

/* Class requests (HID s7.1, s7.2), as type << 8 | request */
enum {
	HID_GET_DESCRIPTOR = 0x8106,
	HID_GET_REPORT = 0xa101,
	HID_GET_IDLE = 0xa102,
	HID_GET_PROTOCOL = 0xa103,
	HID_SET_REPORT = 0x2109,
	HID_SET_IDLE = 0x210a,
	HID_SET_PROTOCOL = 0x210b,
};

#define DESC_HID 0x21
#define DESC_REPORT 0x22
#define REPORT_INPUT 1
#define REPORT_OUTPUT 2
#define ENDPOINT 0x81
#define REPORT_MAX 8
#define QUEUE 64 /* a person pastes text */

#define USAGE_ROLL_OVER 1
#define USAGE_FIRST 4
#define USAGE_MODIFIERS 0xe0
#define PAUSE 0xe11d
#define AXIS_MAX 0x7fff

struct hid {
	struct usb_dev usb;
	struct dev *dev;
	struct input_sink sink;
	const uint8_t *report_desc;
	uint16_t report_desc_len;
	uint8_t report_len;
	uint8_t idle, protocol;
	uint8_t now[REPORT_MAX]; /* the newest report */
	uint8_t queue[QUEUE][REPORT_MAX];
	unsigned int head, count;
	uint8_t keys[256 / 8]; /* keyboard: usages that are down */
	uint8_t leds;
	unsigned int buttons; /* tablet: as last told, with the wheel's bits */
};

static struct hid *hid_of(struct usb_dev *u)
{
	return container_of(u, struct hid, usb);
}

/* --- descriptors --- */

#define LE16(v) ((v)&0xff), ((v) >> 8)
#define DEVICE_DESC(product)                                                                 \
	{                                                                                    \
		18, 1, LE16(0x0200), 0, 0, 0, 64, LE16(0xfb5d), LE16(product), LE16(0x0100), \
			USB_STR_MANUFACTURER, USB_STR_PRODUCT, 0, 1                          \
	}
/* Configuration, interface, HID, endpoint: an interrupt each 2^(6-1) microframes, 4 ms. */
#define CONFIG_DESC(subclass, protocol, report_len)                                           \
	{                                                                                     \
		9, 2, LE16(34), 1, 1, 0, 0xc0, 0, 9, 4, 0, 0, 1, 3, subclass, protocol, 0, 9, \
			DESC_HID, LE16(0x0111), 0, 1, DESC_REPORT, LE16(report_len), 7, 5,    \
			ENDPOINT, 3, LE16(REPORT_MAX), 6                                      \
	}
#define HID_DESC_AT 18

static const uint8_t tablet_report[] = { 0x05, 0x01, 0x09, 0x02,
					 0xa1, 0x01, /* generic desktop, mouse: application */
					 0x09, 0x01, 0xa1, 0x00, /* pointer: physical */
					 0x05, 0x09, 0x19, 0x01,
					 0x29, 0x05, /* buttons 1 to 5 */
					 0x15, 0x00, 0x25, 0x01,
					 0x95, 0x05, 0x75, 0x01,
					 0x81, 0x02, /* a bit each */
					 0x95, 0x01, 0x75, 0x03,
					 0x81, 0x03, /* 3 bits of padding */
					 0x05, 0x01, 0x09, 0x30,
					 0x09, 0x31, /* X, Y */
					 0x15, 0x00, 0x26, LE16(AXIS_MAX),
					 0x35, 0x00, 0x46, LE16(AXIS_MAX),
					 0x75, 0x10, 0x95, 0x02,
					 0x81, 0x02, /* absolute */
					 0x09, 0x38, 0x15, 0x81,
					 0x25, 0x7f, 0x35, 0x00,
					 0x45, 0x00, 0x75, 0x08,
					 0x95, 0x01, 0x81, 0x06, /* wheel: relative */
					 0xc0, 0xc0 };

static const uint8_t keyboard_report
	[] = { 0x05,	   0x01, 0x09, 0x06, 0xa1, 0x01, /* generic desktop, keyboard: application */
	       0x05,	   0x07, 0x19, 0xe0, 0x29, 0xe7,       0x15, 0x00, 0x25,
	       0x01,	   0x75, 0x01, 0x95, 0x08, 0x81,       0x02, /* modifiers, a bit each */
	       0x95,	   0x01, 0x75, 0x08, 0x81, 0x03, /* reserved */
	       0x05,	   0x08, 0x19, 0x01, 0x29, 0x05,       0x95, 0x05, 0x75,
	       0x01,	   0x91, 0x02, /* LEDs */
	       0x95,	   0x01, 0x75, 0x03, 0x91, 0x03, /* 3 bits of padding */
	       0x05,	   0x07, 0x19, 0x00, 0x2a, LE16(0xff), 0x15, 0x00, 0x26,
	       LE16(0xff), 0x95, 0x06, 0x75, 0x08, 0x81,       0x00, /* six keys */
	       0xc0 };

static const uint8_t tablet_device[] = DEVICE_DESC(0x0001);
static const uint8_t keyboard_device[] = DEVICE_DESC(0x0002);
static const uint8_t tablet_config[] = CONFIG_DESC(0, 0, sizeof(tablet_report));
static const uint8_t keyboard_config[] = CONFIG_DESC(1, 1, sizeof(keyboard_report));
static const struct usb_ep hid_eps[] = { { ENDPOINT, USB_EP_INTERRUPT } };

/* --- reports --- */

/* merge: the newest one that waits may be replaced, nothing is lost by it. So it is when there is no room. */
static void queue_report(struct hid *h, const uint8_t *report, bool merge)
{
	memcpy(h->now, report, REPORT_MAX);
	if ((!merge || !h->count) && h->count < QUEUE)
		h->count++;
	memcpy(h->queue[(h->head + h->count - 1) % QUEUE], report, REPORT_MAX);
	h->usb.wakeup(&h->usb, ENDPOINT);
}

static enum usb_result hid_in(struct usb_dev *u, uint8_t ep, void *buf, size_t len, size_t *n)
{
	struct hid *h = hid_of(u);

	(void)ep;
	if (!h->count)
		return USB_NAK;
	*n = MIN(len, h->report_len);
	memcpy(buf, h->queue[h->head], *n);
	h->head = (h->head + 1) % QUEUE;
	h->count--;
	return *n < len ? USB_SHORT : USB_OK;
}

/* Num, caps, scroll lock, to the order of PS/2. */
static void set_leds(struct hid *h, uint8_t leds)
{
	const struct input *in = h->dev->env.input;

	if (leds == h->leds)
		return;
	h->leds = leds;
	if (in && in->leds)
		in->leds(in->leds_arg, (leds & 1u) << 1 | (leds & 2u) << 1 | (leds & 4u) >> 2);
}

static void hid_reset(struct usb_dev *u)
{
	struct hid *h = hid_of(u);

	h->head = h->count = 0;
	h->idle = 0;
	h->protocol = 1;
	set_leds(h, 0);
	memset(h->keys, 0, sizeof(h->keys));
	memset(h->now, 0, sizeof(h->now));
}

static int get_descriptor(struct hid *h, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	const uint8_t *hid_desc = h->usb.ops->config + HID_DESC_AT;
	size_t n = MIN(size, (s->value >> 8) == DESC_HID ? hid_desc[0] : h->report_desc_len);

	if (s->value != DESC_HID << 8 && s->value != DESC_REPORT << 8)
		return -1;
	memcpy(buf, s->value >> 8 == DESC_HID ? hid_desc : h->report_desc, n);
	return (int)n;
}

static int hid_request(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	struct hid *h = hid_of(u);
	bool keyboard = h->usb.ops->config[15];

	if (s->index || (!u->configuration && (s->type & 0x60)))
		return -1;
	switch (s->type << 8 | s->request) {
	case HID_GET_DESCRIPTOR:
		return get_descriptor(h, s, buf, size);
	case HID_GET_REPORT:
		if (s->value != REPORT_INPUT << 8 || size < h->report_len)
			return -1;
		memcpy(buf, h->now, h->report_len);
		return h->report_len;
	case HID_GET_IDLE:
	case HID_GET_PROTOCOL:
		if (!size)
			return -1;
		buf[0] = s->request == (HID_GET_IDLE & 0xff) ? h->idle : h->protocol;
		return 1;
	case HID_SET_REPORT:
		if (!keyboard || s->value != REPORT_OUTPUT << 8 || s->length != 1)
			return -1;
		set_leds(h, buf[0] & 7);
		return 0;
	case HID_SET_IDLE:
		h->idle = (uint8_t)(s->value >> 8);
		return 0;
	case HID_SET_PROTOCOL:
		if (!keyboard || s->value > 1)
			return -1;
		h->protocol = (uint8_t)s->value;
		return 0;
	default:
		return -1;
	}
}

static void hid_free(struct usb_dev *u)
{
	struct hid *h = hid_of(u);

	input_remove(h->dev->env.input, &h->sink);
	free(h);
}

static bool in_use(const struct hid *h)
{
	return h->usb.configuration && h->usb.listening(&h->usb, ENDPOINT);
}

/* --- tablet: buttons, X, Y, wheel --- */

static unsigned int scale(int v, int size)
{
	return size > 1 ? (unsigned int)v * AXIS_MAX / (unsigned int)(size - 1) : 0;
}

static void tablet_move(struct hid *h, unsigned int x, unsigned int y, unsigned int buttons)
{
	unsigned int pressed = buttons & ~h->buttons;
	int wheel = (pressed & BIT(3) ? 1 : 0) - (pressed & BIT(4) ? 1 : 0);
	/* left, right, middle, back, forward */
	uint8_t held = (uint8_t)((buttons & 1) | (buttons & 4) >> 1 | (buttons & 2) << 1 |
				 (buttons >> 4 & 0x18));
	uint8_t report[REPORT_MAX] = { held,	   (uint8_t)x,	      (uint8_t)(x >> 8),
				       (uint8_t)y, (uint8_t)(y >> 8), (uint8_t)wheel };
	const uint8_t *last = h->queue[(h->head + h->count + QUEUE - 1) % QUEUE];

	h->buttons = buttons;
	/* Movement alone takes the place of movement alone. */
	queue_report(h, report, !wheel && h->count && last[0] == held && !last[5]);
	h->now[5] = 0;
}

static bool tablet_pointer(void *arg, int x, int y, int width, int height, unsigned int buttons)
{
	struct hid *h = arg;
	bool taken;

	dev_lock(h->dev);
	taken = in_use(h);
	if (taken)
		tablet_move(h, scale(x, width), scale(y, height), buttons);
	dev_unlock(h->dev);
	return taken;
}

/* --- keyboard: modifiers, reserved, six keys --- */

/* Usages of set 1 make codes 01-59 */
static const uint8_t usages[] = {
	0x00, 0x29, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x2d, 0x2e, 0x2a,
	0x2b, 0x14, 0x1a, 0x08, 0x15, 0x17, 0x1c, 0x18, 0x0c, 0x12, 0x13, 0x2f, 0x30, 0x28, 0xe0,
	0x04, 0x16, 0x07, 0x09, 0x0a, 0x0b, 0x0d, 0x0e, 0x0f, 0x33, 0x34, 0x35, 0xe1, 0x31, 0x1d,
	0x1b, 0x06, 0x19, 0x05, 0x11, 0x10, 0x36, 0x37, 0x38, 0xe5, 0x55, 0xe2, 0x2c, 0x39, 0x3a,
	0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x40, 0x41, 0x42, 0x43, 0x53, 0x47, 0x5f, 0x60, 0x61, 0x56,
	0x5c, 0x5d, 0x5e, 0x57, 0x59, 0x5a, 0x5b, 0x62, 0x63, 0x46, 0x00, 0x64, 0x44, 0x45, 0x67,
};

/* Of the others, by scancode */
static const struct {
	uint16_t scancode;
	uint8_t usage;
} more_usages[] = {
	{ 0x70, 0x88 },	  { 0x73, 0x87 },   { 0x79, 0x8a },   { 0x7b, 0x8b },	{ 0x7d, 0x89 },
	{ 0x7e, 0x85 },	  { 0xe01c, 0x58 }, { 0xe01d, 0xe4 }, { 0xe020, 0x7f }, { 0xe02e, 0x81 },
	{ 0xe030, 0x80 }, { 0xe035, 0x54 }, { 0xe037, 0x46 }, { 0xe038, 0xe6 }, { 0xe046, 0x48 },
	{ 0xe047, 0x4a }, { 0xe048, 0x52 }, { 0xe049, 0x4b }, { 0xe04b, 0x50 }, { 0xe04d, 0x4f },
	{ 0xe04f, 0x4d }, { 0xe050, 0x51 }, { 0xe051, 0x4e }, { 0xe052, 0x49 }, { 0xe053, 0x4c },
	{ 0xe05b, 0xe3 }, { 0xe05c, 0xe7 }, { 0xe05d, 0x65 }, { 0xe05e, 0x66 }, { PAUSE, 0x48 },
};

static uint8_t usage_of(uint16_t scancode)
{
	if (scancode < ARRAY_LEN(usages))
		return usages[scancode];
	if (scancode >= 0x64 && scancode <= 0x6e) /* F13 to F23 */
		return (uint8_t)(scancode + 4);
	for (size_t i = 0; i < ARRAY_LEN(more_usages); i++)
		if (more_usages[i].scancode == scancode)
			return more_usages[i].usage;
	return 0;
}

static void keyboard_report_now(struct hid *h)
{
	uint8_t report[REPORT_MAX] = { h->keys[USAGE_MODIFIERS / 8] };
	unsigned int n = 2;

	for (unsigned int u = USAGE_FIRST; u < USAGE_MODIFIERS; u++) {
		if (!(h->keys[u / 8] & BIT(u % 8)))
			continue;
		if (n < REPORT_MAX)
			report[n] = (uint8_t)u;
		n++;
	}
	if (n > REPORT_MAX)
		memset(report + 2, USAGE_ROLL_OVER, REPORT_MAX - 2);
	if (memcmp(report, h->now, REPORT_MAX) != 0)
		queue_report(h, report, false);
}

static bool keyboard_key(void *arg, uint16_t scancode, int down)
{
	struct hid *h = arg;
	uint8_t usage = usage_of(scancode);
	bool taken;

	dev_lock(h->dev);
	taken = in_use(h);
	if (taken && usage) {
		if (down)
			h->keys[usage / 8] |= (uint8_t)BIT(usage % 8);
		else
			h->keys[usage / 8] &= (uint8_t)~BIT(usage % 8);
		keyboard_report_now(h);
	}
	dev_unlock(h->dev);
	return taken;
}

static enum input_state keyboard_state(void *arg)
{
	struct hid *h = arg;
	enum input_state state = INPUT_READY;

	dev_lock(h->dev);
	if (!in_use(h))
		state = INPUT_DEAF;
	else if (h->count > 0)
		state = INPUT_BUSY;
	dev_unlock(h->dev);
	return state;
}

/* --- making them --- */

static const struct usb_ops tablet_ops = {
	.device = tablet_device,
	.config = tablet_config,
	.eps = hid_eps,
	.neps = ARRAY_LEN(hid_eps),
	.request = hid_request,
	.in = hid_in,
	.reset = hid_reset,
	.free = hid_free,
};

static const struct usb_ops keyboard_ops = {
	.device = keyboard_device,
	.config = keyboard_config,
	.eps = hid_eps,
	.neps = ARRAY_LEN(hid_eps),
	.request = hid_request,
	.in = hid_in,
	.reset = hid_reset,
	.free = hid_free,
};

static struct hid *hid_new(struct dev *d, const struct usb_ops *ops, struct err *err)
{
	struct hid *h = calloc(1, sizeof(*h));

	if (!h) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	h->usb.ops = ops;
	h->dev = d;
	h->sink.arg = h;
	hid_reset(&h->usb);
	if (d->env.input)
		input_add(d->env.input, &h->sink, true);
	return h;
}

struct usb_dev *usb_tablet_new(struct dev *d, struct err *err)
{
	struct hid *h = hid_new(d, &tablet_ops, err);

	if (!h)
		return NULL;
	h->usb.product = "USB tablet";
	h->report_desc = tablet_report;
	h->report_desc_len = sizeof(tablet_report);
	h->report_len = 6;
	h->sink.pointer = tablet_pointer;
	return &h->usb;
}

struct usb_dev *usb_keyboard_new(struct dev *d, struct err *err)
{
	struct hid *h = hid_new(d, &keyboard_ops, err);

	if (!h)
		return NULL;
	h->usb.product = "USB keyboard";
	h->report_desc = keyboard_report;
	h->report_desc_len = sizeof(keyboard_report);
	h->report_len = REPORT_MAX;
	h->sink.key = keyboard_key;
	h->sink.state = keyboard_state;
	return &h->usb;
}
