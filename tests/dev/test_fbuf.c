/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/input.h"
#include "back/screen.h"
#include "bench/tb.h"
#include "hw/fbuf_edid.h"
#include "hw/table.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

/* The display, and khyve's end of the link to the viewer program. */

enum { ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, VRAM };

struct fix {
	struct tb *tb;
	struct dev *dev;
	int viewer; /* the other end of the link */
	int gone;
	unsigned int clients;
	uint16_t key;
	int down, x, y, width, height;
	unsigned int buttons, keys, pointers;
	struct input_sink sink;
	struct screen_msg_frame frame;
};

static void on_gone(void *arg)
{
	((struct fix *)arg)->gone++;
}

static void on_clients(void *arg, unsigned int count)
{
	((struct fix *)arg)->clients = count;
}

static bool on_key(void *arg, uint16_t scancode, int down)
{
	struct fix *f = arg;

	f->keys++;
	f->key = scancode;
	f->down = down;
	return true;
}

static bool on_pointer(void *arg, int x, int y, int width, int height, unsigned int buttons)
{
	struct fix *f = arg;

	f->pointers++;
	f->x = x;
	f->y = y;
	f->width = width;
	f->height = height;
	f->buttons = buttons;
	return true;
}

static void attach(struct fix *f)
{
	int pair[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	CHECK_EQ(screen_attach(tb_screen(f->tb), pair[0], on_gone, f), 0);
	f->viewer = pair[1];
}

static void fix_start(struct fix *f, const char *conf)
{
	const struct tb_opts opts = { .screen = true };
	struct err err = { .text = "" };

	*f = (struct fix){ .viewer = -1 };
	f->tb = tb_new(&opts);
	f->dev = tb_add(f->tb, hw_find("fbuf"), conf, &err);
	if (!f->dev)
		CHECK_FAIL("%s", err.text);
	tb_pci_enable(f->dev);
	f->sink = (struct input_sink){ .key = on_key, .pointer = on_pointer, .arg = f };
	input_add(tb_input(f->tb), &f->sink, true);
	screen_on_clients(tb_screen(f->tb), on_clients, f);
}

static void fix_end(struct fix *f)
{
	if (f->viewer >= 0)
		close(f->viewer);
	tb_free(f->tb);
}

static void dispi(struct fix *f, unsigned int reg, uint16_t value)
{
	tb_w16(f->dev, 2, 0x500 + 2 * reg, value);
}

static uint16_t dispi_get(struct fix *f, unsigned int reg)
{
	return tb_r16(f->dev, 2, 0x500 + 2 * reg);
}

/* In the firmware's order. */
static void mode_set(struct fix *f, uint16_t width, uint16_t height)
{
	dispi(f, ENABLE, 0);
	dispi(f, BANK, 0);
	dispi(f, X_OFFSET, 0);
	dispi(f, Y_OFFSET, 0);
	dispi(f, BPP, 32);
	dispi(f, XRES, width);
	dispi(f, VIRT_WIDTH, width);
	dispi(f, YRES, height);
	dispi(f, VIRT_HEIGHT, height);
	dispi(f, ENABLE, 0x41);
}

static void say(struct fix *f, const void *msg, size_t size)
{
	CHECK_EQ(send(f->viewer, msg, size, 0), size);
	tb_run(f->tb);
}

/* Receives one message of that type into buf; false if none or the link is closed. */
static bool hear(struct fix *f, uint32_t type, void *buf, size_t size)
{
	struct screen_msg_hdr *hdr = buf;

	if (recv(f->viewer, buf, size, MSG_DONTWAIT) != (ssize_t)size)
		return false;
	return hdr->type == type && hdr->size == size;
}

static void refresh(struct fix *f)
{
	struct screen_msg_hdr msg = { SCREEN_MSG_REFRESH, sizeof(msg) };
	struct screen_msg_leds leds;

	hear(f, SCREEN_MSG_LEDS, &leds, sizeof(leds));
	say(f, &msg, sizeof(msg));
	CHECK(hear(f, SCREEN_MSG_FRAME, &f->frame, sizeof(f->frame)));
}

static unsigned int dirty_pages(const struct fix *f)
{
	unsigned int n = 0;

	for (size_t i = 0; i < ARRAY_LEN(f->frame.dirty); i++)
		n += (unsigned int)__builtin_popcountll(f->frame.dirty[i]);
	return n;
}

/* --- registers --- */

static void reset_values(void)
{
	struct fix f;

	fix_start(&f, NULL);
	CHECK_EQ(tb_cfg_read(f.dev, 0, 4), 0x11111234);
	CHECK_EQ(tb_cfg_read(f.dev, 8, 4), 0x03800002);
	CHECK_EQ(tb_bar_size(f.dev, 0), SCREEN_VRAM_SIZE);
	CHECK_EQ(tb_bar_size(f.dev, 2), 4096);
	CHECK_EQ(dispi_get(&f, ID), 0xb0c5);
	CHECK_EQ(dispi_get(&f, VRAM), SCREEN_VRAM_SIZE / 65536);
	for (unsigned int reg = XRES; reg < VRAM; reg++)
		CHECK_EQ(dispi_get(&f, reg), 0);
	CHECK_EQ(tb_r32(f.dev, 2, 0x600), 8);
	CHECK_EQ(tb_r32(f.dev, 2, 0x604), 0x1e1e1e1e);
	CHECK_EQ(tb_slots(f.tb), 1);
	CHECK_EQ(tb_slot(f.tb, 0)->gpa, tb_bar(f.dev, 0));
	CHECK(tb_slot(f.tb, 0)->log_dirty);
	fix_end(&f);
}

static void registers(void)
{
	struct fix f;

	fix_start(&f, NULL);
	dispi(&f, ID, 0);
	dispi(&f, VRAM, 1);
	CHECK_EQ(dispi_get(&f, ID), 0xb0c5);
	CHECK_EQ(dispi_get(&f, VRAM), 512);
	dispi(&f, XRES, 800);
	dispi(&f, YRES, 600);
	CHECK_EQ(tb_r32(f.dev, 2, 0x502), 600u << 16 | 800);
	/* capabilities instead of values */
	dispi(&f, ENABLE, 2);
	CHECK_EQ(dispi_get(&f, XRES), SCREEN_MAX_WIDTH);
	CHECK_EQ(dispi_get(&f, YRES), SCREEN_MAX_HEIGHT);
	CHECK_EQ(dispi_get(&f, BPP), 32);
	/* no VGA: all ones, writes vanish */
	tb_w8(f.dev, 2, 0x402, 1);
	CHECK_EQ(tb_r8(f.dev, 2, 0x41a), 0xff);
	/* every offset and width */
	for (uint64_t at = 0; at < 4096; at++) {
		for (unsigned int size = 1; size <= 8; size *= 2) {
			tb_read(f.tb, tb_bar(f.dev, 2) + at, size);
			tb_write(f.tb, tb_bar(f.dev, 2) + at, size, UINT64_MAX);
		}
	}
	tb_run(f.tb);
	fix_end(&f);
}

static void edid_blocks(void)
{
	static const struct {
		const char *conf;
		unsigned int width, height;
	} cases[] = {
		{ NULL, 1024, 768 },
		{ "w=1366\nh=700\n", 1366, 700 },
		{ "w=1920\nh=1080\n", 1920, 1080 },
		{ "w=3840\nh=2160\n", 3840, 2160 },
		{ "w=640\nh=480\n", 640, 480 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t e[EDID_SIZE], sum = 0;
		struct fix f;

		fix_start(&f, cases[i].conf);
		for (unsigned int at = 0; at < EDID_SIZE; at++) {
			e[at] = tb_r8(f.dev, 2, at);
			sum = (uint8_t)(sum + e[at]);
		}
		CHECK_EQ(sum, 0);
		CHECK_EQ(get_le64(e), 0x00ffffffffffff00ull);
		CHECK_EQ(e[126], 0);
		CHECK_EQ(e[56] | (e[58] >> 4) << 8, cases[i].width);
		CHECK_EQ(e[59] | (e[61] >> 4) << 8, cases[i].height);
		/* pixel clock: 60 pictures a second including blanking */
		unsigned int h = cases[i].width + (unsigned int)(e[57] | (e[58] & 15) << 8);
		unsigned int v = cases[i].height + (unsigned int)(e[60] | (e[61] & 15) << 8);
		CHECK_EQ(get_le16(e + 54) * 10000ull / h / v, 60);
		CHECK_EQ(tb_r8(f.dev, 2, EDID_SIZE), 0);
		fix_end(&f);
	}
}

static void bad_settings(void)
{
	static const char *const cases[] = { "w=639\n", "w=3841\n", "h=479\n", "h=2161\n" };
	const struct tb_opts opts = { .screen = true };
	struct err err = { .text = "" };
	struct tb *tb = tb_new(&opts);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		CHECK(!tb_add(tb, hw_find("fbuf"), cases[i], &err));
	CHECK(tb_add(tb, hw_find("fbuf"), "rfb=127.0.0.1:5900\nvga=io\nwait=true\n", &err));
	CHECK(!tb_add(tb, hw_find("fbuf"), NULL, &err));
	CHECK(strstr(err.text, "only one display"));
	tb_free(tb);
	tb = tb_new(NULL);
	CHECK(!tb_add(tb, hw_find("fbuf"), NULL, &err));
	CHECK(strstr(err.text, "no screen"));
	tb_free(tb);
}

/* --- modes --- */

static void mode_as_firmware_sets_it(void)
{
	uint32_t serial;
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	refresh(&f);
	CHECK_EQ(f.frame.width, 0);
	CHECK_EQ(f.frame.height, 0);
	serial = f.frame.mode_serial;
	memset(screen_vram(tb_screen(f.tb)), 0xee, SCREEN_VRAM_SIZE);
	mode_set(&f, 1024, 768);
	refresh(&f);
	CHECK_EQ(f.frame.width, 1024);
	CHECK_EQ(f.frame.height, 768);
	CHECK_EQ(f.frame.stride, 4096);
	CHECK_EQ(f.frame.offset, 0);
	CHECK(f.frame.mode_serial != serial);
	CHECK_EQ(dirty_pages(&f), SCREEN_PAGES);
	/* the picture was cleared, and only the picture */
	CHECK_EQ(tb_r32(f.dev, 0, 4096 * 768 - 4), 0);
	CHECK_EQ(tb_r32(f.dev, 0, 4096 * 768), 0xeeeeeeee);
	serial = f.frame.mode_serial;
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 0);
	CHECK_EQ(f.frame.mode_serial, serial);
	/* with the bit that keeps the picture */
	tb_w32(f.dev, 0, 0, 0x12345678);
	dispi(&f, ENABLE, 0);
	dispi(&f, ENABLE, 0xc1);
	CHECK_EQ(tb_r32(f.dev, 0, 0), 0x12345678);
	fix_end(&f);
}

static void f01_mode_limits(void)
{
	static const struct {
		uint16_t width, height, virt_width, x, y, bpp;
		bool legal;
	} cases[] = {
		{ 640, 480, 0, 0, 0, 32, true },
		{ 639, 480, 0, 0, 0, 32, false },
		{ 640, 479, 0, 0, 0, 32, false },
		{ 0, 0, 0, 0, 0, 32, false },
		{ 1, 1, 0, 0, 0, 32, false },
		{ 641, 481, 0, 0, 0, 32, true },
		{ 3840, 2160, 0, 0, 0, 32, true },
		{ 3841, 2160, 0, 0, 0, 32, false },
		{ 3840, 2161, 0, 0, 0, 32, false },
		{ 65535, 65535, 65535, 65535, 65535, 32, false },
		{ 1024, 768, 0, 0, 0, 24, false },
		{ 1024, 768, 0, 0, 0, 0, false },
		{ 1024, 768, 2048, 1024, 0, 32, true },
		{ 1024, 768, 2048, 1025, 0, 32, false },
		{ 1024, 768, 100, 0, 0, 32, true }, /* virtual width below width: width */
		{ 1024, 768, 65535, 0, 0, 32, false },
		{ 1024, 768, 10922, 0, 0, 32, true }, /* 10922 * 4 * 768 is just below 32 MiB */
		{ 1024, 768, 10923, 0, 0, 32, false },
		{ 1024, 768, 1024, 0, 7424, 32, true }, /* the last line that fits */
		{ 1024, 768, 1024, 0, 7425, 32, false },
		{ 3840, 2160, 3840, 1, 0, 32, false },
	};
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t end;

		dispi(&f, ENABLE, 0);
		dispi(&f, BPP, cases[i].bpp);
		dispi(&f, XRES, cases[i].width);
		dispi(&f, YRES, cases[i].height);
		dispi(&f, VIRT_WIDTH, cases[i].virt_width);
		dispi(&f, X_OFFSET, cases[i].x);
		dispi(&f, Y_OFFSET, cases[i].y);
		dispi(&f, ENABLE, 0x41);
		refresh(&f);
		if ((f.frame.width != 0) != cases[i].legal)
			CHECK_FAIL("case %zu: width %u", i, f.frame.width);
		CHECK_EQ(f.frame.width, cases[i].legal ? cases[i].width : 0);
		CHECK_EQ(f.frame.height, cases[i].legal ? cases[i].height : 0);
		end = f.frame.offset + (uint64_t)f.frame.stride * f.frame.height;
		CHECK(end <= SCREEN_VRAM_SIZE);
	}
	fix_end(&f);
}

/* Registers changed one by one while the mode is on: each frame is one consistent, legal snapshot. */
static void f01_changes_while_on(void)
{
	uint32_t seed = 1;
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 1024, 768);
	for (int i = 0; i < 5000; i++) {
		seed = seed * 1664525 + 1013904223;
		dispi(&f, XRES + (seed >> 8) % 9, (uint16_t)(seed >> 16));
		if (i % 3 == 0)
			mode_set(&f, 640 + (seed >> 16) % 3300, 480 + (seed >> 20) % 1800);
		refresh(&f);
		CHECK(f.frame.width <= SCREEN_MAX_WIDTH && f.frame.height <= SCREEN_MAX_HEIGHT);
		CHECK(f.frame.stride >= 4 * f.frame.width);
		CHECK(f.frame.offset + (uint64_t)f.frame.stride * f.frame.height <=
		      SCREEN_VRAM_SIZE);
	}
	fix_end(&f);
}

/* A page flip: the offset moves while the mode is on. */
static void panning(void)
{
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 800, 600);
	dispi(&f, Y_OFFSET, 600);
	dispi(&f, VIRT_WIDTH, 1000);
	dispi(&f, X_OFFSET, 10);
	refresh(&f);
	CHECK_EQ(f.frame.stride, 4000);
	CHECK_EQ(f.frame.offset, 600 * 4000 + 40);
	CHECK_EQ(dirty_pages(&f), SCREEN_PAGES);
	fix_end(&f);
}

/* --- dirty pages --- */

static void dirty_log_is_exact(void)
{
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 1024, 768);
	refresh(&f);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 0);
	tb_w32(f.dev, 0, 5 * 4096 + 8, 1);
	tb_w64(f.dev, 0, 101 * 4096 - 4, 1);
	tb_w8(f.dev, 0, SCREEN_VRAM_SIZE - 1, 1);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 4);
	CHECK_EQ(f.frame.dirty[0], BIT64(5));
	CHECK_EQ(f.frame.dirty[1], BIT64(100 - 64) | BIT64(101 - 64));
	CHECK_EQ(f.frame.dirty[SCREEN_PAGES / 64 - 1], BIT64(63));
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 0);
	fix_end(&f);
}

/* BAR moved, off, and over RAM: nothing that was drawn is missed, and nothing is reported twice. */
static void f02_bar_moves(void)
{
	uint64_t to;
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 1024, 768);
	refresh(&f);
	tb_w32(f.dev, 0, 0, 0xabcdef);
	to = tb_bar(f.dev, 0) + 4 * SCREEN_VRAM_SIZE;
	tb_cfg_write(f.dev, 0x10, 4, (uint32_t)to);
	CHECK_EQ(tb_slots(f.tb), 1);
	CHECK_EQ(tb_slot(f.tb, 0)->gpa, to);
	CHECK_EQ(tb_read(f.tb, to, 4), 0xabcdef);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), SCREEN_PAGES);
	tb_write(f.tb, to + 4096, 4, 1);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 1);
	/* decoding off: the picture stays, nothing changes any more */
	tb_cfg_write(f.dev, 4, 2, 0);
	CHECK_EQ(tb_slots(f.tb), 0);
	refresh(&f);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), 0);
	CHECK_EQ(f.frame.width, 1024);
	/* over RAM: the host refuses; RAM stays RAM */
	tb_cfg_write(f.dev, 0x10, 4, 0);
	tb_cfg_write(f.dev, 0x14, 4, 0);
	tb_write(f.tb, 0x2000000 - 0x1800000, 4, 0x77);
	tb_cfg_write(f.dev, 0x10, 4, 0x2000000);
	tb_cfg_write(f.dev, 4, 2, 2);
	refresh(&f);
	tb_cfg_write(f.dev, 0x10, 4, (uint32_t)to);
	CHECK_EQ(tb_read(f.tb, to, 4), 0xabcdef);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), SCREEN_PAGES);
	fix_end(&f);
}

static void no_slot_for_it(void)
{
	const struct tb_opts opts = { .screen = true, .no_slots = true };
	struct tb *tb = tb_new(&opts);
	struct dev *d = tb_add(tb, hw_find("fbuf"), NULL, NULL);

	CHECK(d);
	tb_pci_enable(d);
	CHECK_EQ(tb_slots(tb), 0);
	CHECK_EQ(tb_r32(d, 0, 0), UINT32_MAX);
	tb_free(tb);
}

static void machine_reset(void)
{
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 1024, 768);
	refresh(&f);
	CHECK(tb_reset(f.tb));
	CHECK_EQ(tb_slots(f.tb), 0);
	refresh(&f);
	CHECK_EQ(f.frame.width, 0);
	tb_pci_enable(f.dev);
	CHECK_EQ(dispi_get(&f, XRES), 0);
	mode_set(&f, 800, 600);
	refresh(&f);
	CHECK_EQ(f.frame.width, 800);
	fix_end(&f);
}

/* --- the link --- */

/* A viewer that comes later gets everything; the old one is cut off. */
static void second_viewer(void)
{
	struct fix f;
	int old;

	fix_start(&f, NULL);
	attach(&f);
	mode_set(&f, 1024, 768);
	refresh(&f);
	refresh(&f);
	old = f.viewer;
	attach(&f);
	refresh(&f);
	CHECK_EQ(dirty_pages(&f), SCREEN_PAGES);
	close(old);
	close(f.viewer);
	f.viewer = -1;
	tb_run(f.tb);
	CHECK_EQ(f.gone, 1);
	fix_end(&f);
}

static void keys_and_pointer(void)
{
	struct screen_msg_key key = { .hdr = { SCREEN_MSG_KEY, sizeof(key) },
				      .scancode = 0xe05b,
				      .down = 1 };
	struct screen_msg_pointer p = {
		.hdr = { SCREEN_MSG_POINTER, sizeof(p) }, .x = 5, .y = 7, .buttons = 3
	};
	struct screen_msg_leds leds;
	struct fix f;

	fix_start(&f, NULL);
	tb_input(f.tb)->leds(tb_input(f.tb)->leds_arg, 2);
	attach(&f);
	CHECK(hear(&f, SCREEN_MSG_LEDS, &leds, sizeof(leds)));
	CHECK_EQ(leds.leds, 2);
	tb_input(f.tb)->leds(tb_input(f.tb)->leds_arg, 4);
	CHECK(hear(&f, SCREEN_MSG_LEDS, &leds, sizeof(leds)));
	CHECK_EQ(leds.leds, 4);
	say(&f, &key, sizeof(key));
	CHECK_EQ(f.key, 0xe05b);
	CHECK_EQ(f.down, 1);
	/* no mode, no pointer */
	say(&f, &p, sizeof(p));
	CHECK_EQ(f.pointers, 0);
	mode_set(&f, 1024, 768);
	say(&f, &p, sizeof(p));
	CHECK_EQ(f.x, 5);
	CHECK_EQ(f.y, 7);
	CHECK_EQ(f.buttons, 3);
	CHECK_EQ(f.width, 1024);
	p.x = p.y = 0xffff;
	say(&f, &p, sizeof(p));
	CHECK_EQ(f.x, 1023);
	CHECK_EQ(f.y, 767);
	fix_end(&f);
}

static void client_count(void)
{
	struct screen_msg_clients msg = { .hdr = { SCREEN_MSG_CLIENTS, sizeof(msg) }, .count = 2 };
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	say(&f, &msg, sizeof(msg));
	CHECK_EQ(f.clients, 2);
	CHECK_EQ(screen_clients(tb_screen(f.tb)), 2);
	close(f.viewer);
	f.viewer = -1;
	tb_run(f.tb);
	CHECK_EQ(f.clients, 0);
	fix_end(&f);
}

/* Anything that is not exactly a message of the protocol closes the link, and a new one works. */
struct blinker {
	const struct input *input;
	bool stop; /* atomic */
};

static void *blink(void *arg)
{
	struct blinker *b = arg;

	for (unsigned int i = 0; !__atomic_load_n(&b->stop, __ATOMIC_RELAXED); i++)
		b->input->leds(b->input->leds_arg, i & 7);
	return NULL;
}

/* The guest blinks from a vCPU while the viewer goes: nobody else who gets its descriptor hears of it. */
static void leds_while_detaching(void)
{
	struct fix f;
	struct blinker b = { .stop = false };
	int wrong = 0;
	pthread_t t;

	fix_start(&f, NULL);
	b.input = tb_input(f.tb);
	CHECK_EQ(pthread_create(&t, NULL, blink, &b), 0);
	for (int i = 0; i < 2000; i++) {
		int other[2];
		char byte;

		attach(&f);
		screen_detach(tb_screen(f.tb));
		CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, other), 0);
		wrong += recv(other[0], &byte, 1, MSG_DONTWAIT) > 0;
		wrong += recv(other[1], &byte, 1, MSG_DONTWAIT) > 0;
		close(other[0]);
		close(other[1]);
		close(f.viewer);
	}
	__atomic_store_n(&b.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	f.viewer = -1;
	fix_end(&f);
	CHECK_EQ(wrong, 0);
}

static void bad_messages(void)
{
	static const struct {
		uint32_t type, size, sent;
		uint16_t first, second; /* of the body */
	} cases[] = {
		{ SCREEN_MSG_REFRESH, 8, 7, 0, 0 },
		{ SCREEN_MSG_REFRESH, 8, 9, 0, 0 },
		{ SCREEN_MSG_REFRESH, 16, 16, 0, 0 },
		{ SCREEN_MSG_REFRESH, 9, 8, 0, 0 },
		{ SCREEN_MSG_KEY, 16, 12, 0x1e, 1 },
		{ SCREEN_MSG_KEY, 12, 12, 0x1e, 1 },
		{ SCREEN_MSG_KEY, 16, 16, 0x1e, 2 },
		{ SCREEN_MSG_KEY, 16, 16, 0, 1 },
		{ SCREEN_MSG_KEY, 16, 16, 0x80, 1 },
		{ SCREEN_MSG_KEY, 16, 16, 0xe0ff, 1 },
		{ SCREEN_MSG_KEY, 16, 16, 0xe11e, 1 },
		{ SCREEN_MSG_KEY, 16, 16, 0xffff, 1 },
		{ SCREEN_MSG_KEY, 16, 32, 0x1e, 1 },
		{ SCREEN_MSG_POINTER, 8, 8, 0, 0 },
		{ SCREEN_MSG_CLIENTS, 8, 8, 0, 0 },
		{ SCREEN_MSG_FRAME, 1056, 1056, 0, 0 },
		{ SCREEN_MSG_LEDS, 16, 16, 0, 0 },
		{ 0, 8, 8, 0, 0 },
		{ 5, 8, 8, 0, 0 },
		{ UINT32_MAX, 8, 8, 0, 0 },
		{ SCREEN_MSG_REFRESH, UINT32_MAX, 8, 0, 0 },
		{ SCREEN_MSG_KEY, 16, 1, 0, 0 },
	};
	struct fix f;

	fix_start(&f, NULL);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint8_t msg[2048] = { 0 };

		attach(&f);
		put_le32(msg, cases[i].type);
		put_le32(msg + 4, cases[i].size);
		put_le16(msg + 8, cases[i].first);
		put_le16(msg + 10, cases[i].second);
		say(&f, msg, cases[i].sent);
		if (f.gone != (int)i + 1)
			CHECK_FAIL("message %zu was taken", i);
		close(f.viewer);
	}
	CHECK_EQ(f.keys, 0);
	attach(&f);
	refresh(&f);
	fix_end(&f);
}

/* A viewer that asks without reading is cut off; nothing grows. */
static void viewer_that_does_not_read(void)
{
	struct screen_msg_hdr msg = { SCREEN_MSG_REFRESH, sizeof(msg) };
	struct fix f;

	fix_start(&f, NULL);
	attach(&f);
	for (int i = 0; i < 100000 && !f.gone; i++) {
		if (send(f.viewer, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		tb_run(f.tb);
	}
	CHECK_EQ(f.gone, 1);
	fix_end(&f);
}

static void message_fuzz(void)
{
	uint32_t seed = 7;
	struct fix f;

	fix_start(&f, NULL);
	mode_set(&f, 1024, 768);
	attach(&f);
	for (int i = 0; i < 20000; i++) {
		uint32_t msg[16] = { 0 };

		for (int k = 0; k < 16; k++) {
			seed = seed * 1664525 + 1013904223;
			msg[k] = seed >> 3;
		}
		if (seed >> 30)
			msg[0] = 1 + (seed >> 8) % 5;
		if (seed >> 31)
			msg[1] = (seed >> 12) % 2 ? 8 : 16;
		if (seed >> 29 & 1) {
			msg[2] &= 0x0001007f;
			msg[3] &= 0x1f;
		}
		say(&f, msg, msg[1] <= 64 && msg[1] ? msg[1] : 8 + (seed >> 16) % 56);
		while (recv(f.viewer, msg, sizeof(msg), MSG_DONTWAIT) > 0)
			;
		if (f.gone) {
			f.gone = 0;
			close(f.viewer);
			attach(&f);
		}
	}
	CHECK(f.keys > 0 && f.pointers > 0);
	refresh(&f);
	fix_end(&f);
}

static const struct test_case cases[] = {
	{ "reset_values", reset_values },
	{ "registers", registers },
	{ "edid_blocks", edid_blocks },
	{ "bad_settings", bad_settings },
	{ "mode_as_firmware_sets_it", mode_as_firmware_sets_it },
	{ "f01_mode_limits", f01_mode_limits },
	{ "f01_changes_while_on", f01_changes_while_on },
	{ "panning", panning },
	{ "dirty_log_is_exact", dirty_log_is_exact },
	{ "f02_bar_moves", f02_bar_moves },
	{ "no_slot_for_it", no_slot_for_it },
	{ "machine_reset", machine_reset },
	{ "second_viewer", second_viewer },
	{ "keys_and_pointer", keys_and_pointer },
	{ "client_count", client_count },
	{ "leds_while_detaching", leds_while_detaching },
	{ "bad_messages", bad_messages },
	{ "viewer_that_does_not_read", viewer_that_does_not_read },
	{ "message_fuzz", message_fuzz },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
