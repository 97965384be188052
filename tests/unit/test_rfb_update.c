/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* The RFB server: pictures, sizes, formats, and that no viewer harms another (rows F-01, V-07, V-08, V-10). */
#include "unit/rfb_bench.h"

static const int32_t zrle[] = { RFB_ENC_ZRLE, RFB_ENC_TIGHT };
static const int32_t tight[] = { RFB_ENC_TIGHT };
static const int32_t everything[] = { RFB_ENC_ZRLE, RFB_ENC_EXT_DESKTOP_SIZE, RFB_ENC_DESKTOP_SIZE,
				      RFB_ENC_QEMU_KEYS, RFB_ENC_QEMU_LEDS };
static const int32_t old_resize[] = { RFB_ENC_ZRLE, RFB_ENC_DESKTOP_SIZE };

static void set_format(struct viewer *v, const char *format)
{
	uint8_t m[20] = { RFB_SET_PIXEL_FORMAT };

	memcpy(m + 4, format, 13);
	viewer_send(v, m, sizeof(m));
}

/* Every kind of picture arrives pixel by pixel, in all encodings, and so do the changes from one to the next. */
static void pictures(void)
{
	for (unsigned int encoding = 0; encoding < 3; encoding++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v;

		bench_mode(b, 719, 403);
		v = viewer_ready(b);
		viewer_encodings(v, encoding == 2 ? tight : zrle, encoding > 0);
		viewer_request_all(v, false);
		viewer_update(v);
		for (unsigned int kind = 0; kind < 5; kind++) {
			bench_picture(b, kind);
			viewer_request_all(v, true);
			viewer_update(v);
			CHECK(viewer_sees_screen(v));
		}
		CHECK((v->n_raw > 0) == (encoding == 0) && (v->n_zrle > 0) == (encoding == 1) &&
		      (v->n_tight > 0) == (encoding == 2));
		viewer_free(v);
		bench_free(b);
	}
}

/* Only what changed is sent: one pixel is one tile, nothing is nothing. */
static void damage_is_small(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	uint64_t before;

	viewer_request_all(v, false);
	viewer_update(v);
	before = v->received;
	viewer_request_all(v, true);
	bench_pixel(b, 100, 100, 0x123456);
	viewer_update(v);
	CHECK_EQ(v->received - before, 4 + 12 + TILE_WIDTH * TILE_HEIGHT * 4);
	CHECK(viewer_sees_screen(v));
	/* Dirty pages whose pixels are as before are not sent. */
	before = v->received;
	viewer_request_all(v, true);
	memset(b->frame.dirty, 0xff, sizeof(b->frame.dirty));
	bench_advance(b, NS_PER_SEC);
	CHECK_EQ(v->received, before);
	CHECK_EQ(recv(v->fd, &before, 1, MSG_DONTWAIT), -1);
	viewer_free(v);
	bench_free(b);
}

/* Nobody waits: nothing happens at all. Somebody waits and nothing changes: a look at the screen now and then. */
static void idle_costs_nothing(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct loop_stats before, after;
	unsigned int refreshes;
	struct viewer *v;

	bench_advance(b, NS_PER_SEC);
	loop_stats_get(b->loop, &before);
	bench_advance(b, 3600 * NS_PER_SEC);
	loop_stats_get(b->loop, &after);
	CHECK_EQ(after.callbacks, before.callbacks);
	CHECK_EQ(b->refreshes, 0);
	v = viewer_ready(b);
	viewer_request_all(v, false);
	viewer_update(v);
	/* It has what it asked for and does not ask again. */
	bench_advance(b, NS_PER_SEC);
	loop_stats_get(b->loop, &before);
	refreshes = b->refreshes;
	bench_advance(b, 3600 * NS_PER_SEC);
	loop_stats_get(b->loop, &after);
	CHECK_EQ(after.callbacks, before.callbacks);
	CHECK_EQ(b->refreshes, refreshes);
	viewer_request_all(v, true);
	for (int i = 0; i < 10000; i++)
		bench_advance(b, NS_PER_MS);
	CHECK(b->refreshes - refreshes >= 35 && b->refreshes - refreshes < 90);
	viewer_free(v);
	bench_free(b);
}

/* A busy screen is looked at 60 times a second, not more, however often viewers ask. */
static void refresh_is_paced(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	uint64_t start = loop_now(b->loop), took;
	unsigned int refreshes = b->refreshes, frames = 60;

	viewer_encodings(v, zrle, 1);
	viewer_request_all(v, false);
	viewer_update(v);
	for (unsigned int i = 0; i < frames; i++) {
		bench_pixel(b, i, i, 0xff0000 + i);
		viewer_request_all(v, true);
		viewer_update(v);
	}
	took = loop_now(b->loop) - start;
	CHECK(took > NS_PER_SEC * 95 / 100 && took < NS_PER_SEC * 125 / 100);
	CHECK(b->refreshes - refreshes >= frames && b->refreshes - refreshes <= frames + 20);
	/* A key makes it look closely again at once after a quiet time. */
	viewer_request_all(v, true);
	for (int i = 0; i < 5000; i++)
		bench_advance(b, NS_PER_MS);
	start = loop_now(b->loop);
	viewer_key(v, 'a', true);
	bench_pixel(b, 0, 0, 0xabcdef);
	viewer_update(v);
	CHECK(loop_now(b->loop) - start < 20 * NS_PER_MS);
	viewer_free(v);
	bench_free(b);
}

/* What one wants is shown to it, and the copy of the screen is right again after nobody looked for a while. */
static void screen_changes_while_nobody_looks(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	bench_picture(b, 3);
	viewer_request_all(v, false);
	viewer_update(v);
	viewer_free(v);
	bench_settle(b);
	bench_picture(b, 4);
	memset(b->frame.dirty, 0, sizeof(b->frame.dirty)); /* khyve forgot to say so */
	v = viewer_ready(b);
	viewer_request_all(v, false);
	viewer_update(v);
	CHECK(viewer_sees_screen(v));
	viewer_free(v);
	bench_free(b);
}

/* --- formats --- */

static const struct format {
	const char *wire; /* 13 bytes */
	unsigned int bytes, cpixel_bytes;
	uint32_t white, red; /* as read little endian from the wire, the low bytes of Raw */
	uint32_t white_c, red_c; /* the same of a CPIXEL */
} formats[] = {
	/* RGB565, little and big endian */
	{ "\x10\x10\0\1\0\x1f\0\x3f\0\x1f\x0b\x05\0", 2, 2, 0xffff, 0xf800, 0xffff, 0xf800 },
	{ "\x10\x10\1\1\0\x1f\0\x3f\0\x1f\x0b\x05\0", 2, 2, 0xffff, 0x00f8, 0xffff, 0x00f8 },
	/* BGR233 */
	{ "\x08\x08\0\1\0\7\0\7\0\3\0\3\6", 1, 1, 0xff, 0x07, 0xff, 0x07 },
	/* 32 bit: other order; big endian; colours in the upper three bytes; depth 32; 10 bits each */
	{ "\x20\x18\0\1\0\xff\0\xff\0\xff\0\x08\x10", 4, 3, 0xffffff, 0x0000ff, 0xffffff,
	  0x0000ff },
	{ "\x20\x18\1\1\0\xff\0\xff\0\xff\x10\x08\0", 4, 3, 0xffffff00, 0xff00, 0xffffff, 0xff },
	{ "\x20\x18\0\1\0\xff\0\xff\0\xff\x18\x10\x08", 4, 3, 0xffffff00, 0xff000000, 0xffffff,
	  0xff0000 },
	{ "\x20\x18\1\1\0\xff\0\xff\0\xff\x18\x10\x08", 4, 3, 0xffffff, 0xff, 0xffffff, 0xff },
	{ "\x20\x20\0\1\0\xff\0\xff\0\xff\x10\x08\0", 4, 4, 0xffffff, 0xff0000, 0xffffff,
	  0xff0000 },
	{ "\x20\x1e\0\1\3\xff\3\xff\3\xff\x14\x0a\0", 4, 4, 0x3fffffff, 0x3ff00000, 0x3fffffff,
	  0x3ff00000 },
};

static void pixel_formats(void)
{
	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		const struct format *f = &formats[i];

		for (unsigned int encoding = 0; encoding < 3; encoding++) {
			bool rgb = encoding == 2 && f->bytes == 4 && f->wire[1] == 24;
			uint32_t white = rgb ? 0xffffff : encoding == 1 ? f->white_c : f->white;
			uint32_t red = rgb ? 0xff0000 : encoding == 1 ? f->red_c : f->red;
			struct bench *b = bench_new(NULL, 4);
			struct viewer *v = viewer_ready(b);
			const uint32_t *line = v->fb + 40 * SCREEN_MAX_WIDTH;

			set_format(v, f->wire);
			v->bytes_pp = f->bytes;
			v->cpixel_bytes = f->cpixel_bytes;
			v->tpixel = rgb;
			if (encoding == 2)
				viewer_encodings(v, tight, 1);
			else
				viewer_encodings(v, zrle, encoding);
			bench_fill(b, (struct rect){ 70, 40, 3, 1 }, 0xffffffff);
			bench_fill(b, (struct rect){ 73, 40, 2, 1 }, 0xffff0000);
			viewer_refresh(v);
			CHECK_EQ(line[69], 0);
			CHECK_EQ(line[70], white);
			CHECK_EQ(line[72], white);
			CHECK_EQ(line[73], red);
			CHECK_EQ(line[75], 0);
			viewer_free(v);
			bench_free(b);
		}
	}
}

/* The format changes in the middle of an update: that update is finished in the old one. */
static void format_changes_between_updates(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;

	bench_mode(b, 1920, 1080);
	v = viewer_ready(b);
	bench_picture(b, 3);
	loop_fake_advance(b->loop, 20 * NS_PER_MS);
	viewer_request_all(v, false);
	for (int i = 0; i < 20; i++)
		bench_step(b);
	set_format(v, "\x10\x10\0\1\0\x1f\0\x3f\0\x1f\x0b\x05\0");
	viewer_update(v);
	CHECK(viewer_sees_screen(v));
	v->bytes_pp = 2;
	viewer_refresh(v);
	CHECK_EQ(v->fb[0], 0);
	CHECK_EQ(v->fb[255] & 0xf800, 0xf800);
	viewer_free(v);
	bench_free(b);
}

/* --- requests --- */

/* V-07. */
static void requests_outside(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_request(v, false, (struct rect){ 800, 0, 10, 10 });
	viewer_request(v, false, (struct rect){ 0, 600, 10, 10 });
	viewer_request(v, false, (struct rect){ 65535, 65535, 65535, 65535 });
	viewer_request(v, false, (struct rect){ 5, 5, 0, 0 });
	bench_advance(b, NS_PER_SEC);
	CHECK(!v->b->server->viewers || recv(v->fd, &(char){ 0 }, 1, MSG_DONTWAIT) < 0);
	viewer_request(v, false, (struct rect){ 790, 590, 65535, 65535 });
	viewer_update(v);
	CHECK_EQ(v->n_rects, 1);
	CHECK_EQ(v->received, 14 + 4 + 24 + 10 + 4 + 12 + 10 * 10 * 4);
	viewer_free(v);
	bench_free(b);
}

/* V-07: a million requests are one. */
static void requests_coalesce(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	static uint8_t many[10 * 1000];

	viewer_request_all(v, false);
	viewer_update(v);
	for (size_t i = 0; i < sizeof(many); i += 10) {
		many[i] = RFB_UPDATE_REQUEST;
		many[i + 1] = 1;
		put_be16(many + i + 6, 800);
		put_be16(many + i + 8, 600);
	}
	for (int i = 0; i < 1000; i++)
		viewer_send(v, many, sizeof(many));
	bench_pixel(b, 1, 1, 0x010101);
	viewer_update(v);
	bench_pixel(b, 1, 1, 0x020202);
	bench_advance(b, NS_PER_SEC);
	CHECK(recv(v->fd, many, 1, MSG_DONTWAIT) < 0);
	viewer_free(v);
	bench_free(b);
}

/* Parts of the screen are asked for: those only come, to the pixel, and the rest is not forgotten. */
static void partial_requests(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;

	bench_picture(b, 3);
	v = viewer_ready(b);
	for (unsigned int y = 0; y < 600; y += 37) {
		for (unsigned int x = 0; x < 800; x += 101) {
			viewer_request(v, true, (struct rect){ x, y, 101, 37 });
			viewer_update(v);
		}
	}
	CHECK(viewer_sees_screen(v));
	viewer_free(v);
	bench_free(b);
}

/* --- sizes --- */

static void resize(const int32_t *encodings, size_t n)
{
	static const struct {
		unsigned int w, h;
	} sizes[] = { { 1024, 768 }, { 641, 481 }, { 3840, 2160 }, { 640, 480 }, { 1, 1 } };
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_encodings(v, encodings, n);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		bench_mode(b, sizes[i].w, sizes[i].h);
		bench_picture(b, 2 + i % 2);
		for (int tries = 0; v->width != sizes[i].w; tries++) {
			CHECK(tries < 3);
			viewer_request_all(v, true);
			viewer_update(v);
		}
		CHECK_EQ(v->height, sizes[i].h);
		viewer_request_all(v, true);
		viewer_update(v);
		CHECK(viewer_sees_screen(v));
	}
	viewer_free(v);
	bench_free(b);
}

static void resize_desktop_size(void)
{
	resize(old_resize, ARRAY_LEN(old_resize));
}

static void resize_extended(void)
{
	resize(everything, ARRAY_LEN(everything));
}

/* A viewer that knows no resize keeps its size: a part of a larger screen, black beside a smaller one. */
static void resize_unknown(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_refresh(v);
	bench_mode(b, 1024, 768);
	bench_fill(b, (struct rect){ 0, 0, 1024, 768 }, 0x00ff00);
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK_EQ(v->fb[599 * SCREEN_MAX_WIDTH + 799], 0x00ff00);
	bench_mode(b, 640, 480);
	bench_fill(b, (struct rect){ 0, 0, 640, 480 }, 0x0000ff);
	viewer_refresh(v);
	CHECK_EQ(v->width, 800);
	CHECK_EQ(v->fb[479 * SCREEN_MAX_WIDTH + 639], 0x0000ff);
	CHECK_EQ(v->fb[479 * SCREEN_MAX_WIDTH + 640], 0);
	CHECK_EQ(v->fb[599 * SCREEN_MAX_WIDTH + 799], 0);
	viewer_free(v);
	bench_free(b);
}

/* What the extensions announce. */
static void notices(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	struct screen_msg_leds leds = { .hdr = { SCREEN_MSG_LEDS, sizeof(leds) }, .leds = 2 };
	uint8_t wish[8 + 16] = { RFB_SET_DESKTOP_SIZE, 0, 4, 0, 3, 0, 1 };

	viewer_encodings(v, everything, ARRAY_LEN(everything));
	viewer_request_all(v, false);
	viewer_update(v);
	CHECK_EQ(v->n_ext_size, 1);
	viewer_request_all(v, false);
	viewer_update(v);
	CHECK_EQ(v->n_qemu, 1);
	CHECK_EQ(v->n_leds, 1);
	CHECK_EQ(v->leds, 0);
	CHECK(viewer_sees_screen(v));
	/* Alone, without any pixels. */
	CHECK_EQ(send(b->ctl, &leds, sizeof(leds), 0), sizeof(leds));
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK_EQ(v->leds, 2);
	CHECK_EQ(v->n_rects, 1);
	viewer_send(v, wish, sizeof(wish));
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK_EQ(v->n_ext_size, 2);
	CHECK_EQ(v->ext_reason, 1);
	CHECK_EQ(v->ext_status, 1);
	CHECK_EQ(v->width, 800);
	/* Nothing of that is told to one who does not know it. */
	viewer_encodings(v, NULL, 0);
	leds.leds = 4;
	CHECK_EQ(send(b->ctl, &leds, sizeof(leds), 0), sizeof(leds));
	viewer_send(v, wish, sizeof(wish));
	viewer_request_all(v, false);
	viewer_update(v);
	CHECK_EQ(v->n_ext_size + v->n_leds, 4);
	viewer_free(v);
	bench_free(b);
}

/* F-01: what khyve may say about the screen, and what ends the link. */
static void modes_at_the_limits(void)
{
	const struct {
		uint32_t width, height, stride, offset;
		bool ok;
	} cases[] = {
		{ 0, 0, 0, 0, true },
		{ 0, 600, 0, 0, true },
		{ 800, 0, 3200, 0, true },
		{ SCREEN_MAX_WIDTH, SCREEN_MAX_HEIGHT, SCREEN_MAX_WIDTH * 4, 0, true },
		{ SCREEN_MAX_WIDTH + 1, 600, SCREEN_MAX_WIDTH * 4 + 4, 0, false },
		{ 800, SCREEN_MAX_HEIGHT + 1, 3200, 0, false },
		{ 800, 600, 3199, 0, false },
		{ 801, 601, 3207, 3, true },
		{ 800, 600, 3200, SCREEN_VRAM_SIZE - 3200 * 600, true },
		{ 800, 600, 3200, SCREEN_VRAM_SIZE - 3200 * 600 + 1, false },
		{ 800, 1, SCREEN_VRAM_SIZE, 0, true },
		{ 800, 1, SCREEN_VRAM_SIZE + 1, 0, false },
		{ 800, 600, 0xffffffff, 0, false },
		{ 800, 600, 3200, 0xffffffff, false },
		{ 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_ready(b);

		viewer_request_all(v, false);
		viewer_update(v);
		memset(b->frame.dirty, 0xff, sizeof(b->frame.dirty));
		b->frame.width = cases[i].width;
		b->frame.height = cases[i].height;
		b->frame.stride = cases[i].stride;
		b->frame.offset = cases[i].offset;
		viewer_request_all(v, true);
		for (int j = 0; j < 100; j++)
			bench_advance(b, 10 * NS_PER_MS);
		CHECK_EQ(b->server->ended, !cases[i].ok);
		viewer_free(v);
		bench_free(b);
	}
}

/* F-01: any mode after any other, with viewers that know resize and that do not, none of them reading to the end. */
static void modes_at_random(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v[3];
	uint32_t seed = 7;

	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		v[i] = viewer_ready(b);
	viewer_encodings(v[1], old_resize, ARRAY_LEN(old_resize));
	viewer_encodings(v[2], everything, ARRAY_LEN(everything));
	for (int i = 0; i < 1000; i++) {
		static char sink[100000];

		seed = seed * 1664525 + 1013904223;
		bench_mode(b, seed >> 8 & 0x7ff, seed >> 20 & 0x3ff);
		b->frame.stride += seed >> 30;
		b->frame.offset = seed & 0xfff;
		v[seed >> 16 & 1]->width = 65535;
		viewer_request_all(v[seed >> 16 & 1], seed & 1);
		viewer_request_all(v[2], true);
		loop_fake_advance(b->loop, 17 * NS_PER_MS);
		for (size_t j = 0; j < ARRAY_LEN(v); j++)
			if (recv(v[j]->fd, sink, sizeof(sink), MSG_DONTWAIT) == 0)
				CHECK_FAIL("viewer %zu was dropped", j);
		for (int j = 0; j < 5; j++)
			bench_step(b);
	}
	CHECK(!b->server->ended);
	CHECK_EQ(b->server->viewers, 3);
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		viewer_free(v[i]);
	bench_free(b);
}

/* F-02's end: the guest turns the display off, and on again. */
static void screen_off(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	bench_picture(b, 3);
	viewer_refresh(v);
	CHECK(viewer_sees_screen(v));
	b->frame.width = b->frame.height = 0;
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK_EQ(v->width, 800);
	for (unsigned int i = 0; i < 800 * 600; i++)
		CHECK(v->fb[i / 800 * SCREEN_MAX_WIDTH + i % 800] == 0);
	b->frame.width = 800;
	b->frame.height = 600;
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK(viewer_sees_screen(v));
	viewer_free(v);
	bench_free(b);
}

/* --- viewers among each other --- */

static struct viewer *stalled_viewer(struct bench *b, bool with_zrle)
{
	struct viewer *v = viewer_ready(b);

	viewer_encodings(v, zrle, with_zrle);
	viewer_request_all(v, false);
	bench_settle(b);
	return v;
}

/* V-08: what waits for a viewer that does not read is one piece at most, and after 30 s it is gone. */
static void stalled(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct client *c;
	struct viewer *v;

	bench_mode(b, 3840, 2160);
	bench_picture(b, 0);
	v = stalled_viewer(b, false);
	c = list_first(&b->server->clients, struct client, link);
	CHECK(c->out_len > 0 && c->out_len <= ENC_MAX_SIZE + 64);
	for (int i = 0; i < 29; i++) {
		viewer_request_all(v, false);
		viewer_key(v, 'a', true);
		bench_advance(b, NS_PER_SEC);
		CHECK(c->out_len <= ENC_MAX_SIZE + 64);
	}
	CHECK_EQ(b->server->viewers, 1);
	bench_advance(b, 2 * NS_PER_SEC);
	CHECK_EQ(b->server->viewers, 0);
	CHECK_EQ(b->clients, 0);
	viewer_free(v);
	bench_free(b);
}

/* A slow reader is not a stalled one. */
static void slow(void)
{
	struct bench *b = bench_new(NULL, 4);
	static char sink[300000];
	struct viewer *v;

	bench_mode(b, 3840, 2160);
	bench_picture(b, 0);
	v = stalled_viewer(b, false);
	for (int i = 0; i < 20; i++) {
		bench_advance(b, 20 * NS_PER_SEC);
		CHECK(recv(v->fd, sink, sizeof(sink), MSG_DONTWAIT) > 0);
		bench_settle(b);
	}
	CHECK_EQ(b->server->viewers, 1);
	viewer_free(v);
	bench_free(b);
}

/*
 * Other viewers stall, drip, half-connect and redraw 8 megapixels of noise all the time. The callbacks that run until
 * a new viewer has its first frame are counted: its own, and one slice of each other in between. No time goes by.
 */
static void first_frame_is_prompt(void)
{
	struct bench *b = bench_new(NULL, 8);
	struct viewer *stall[2], *busy[2], *drip, *half, *v;
	struct loop_stats before, after;
	uint64_t start, alone;

	bench_mode(b, 1024, 768);
	bench_picture(b, 1);
	v = viewer_ready(b);
	loop_stats_get(b->loop, &before);
	viewer_request_all(v, false);
	viewer_update(v);
	loop_stats_get(b->loop, &after);
	alone = after.callbacks - before.callbacks;
	CHECK(alone < 120);
	viewer_free(v);

	bench_mode(b, 3840, 2160);
	bench_picture(b, 0);
	for (int i = 0; i < 2; i++) {
		stall[i] = stalled_viewer(b, i);
		busy[i] = stalled_viewer(b, i);
	}
	drip = viewer_new(b);
	viewer_send(drip, "RFB", 3);
	half = viewer_ready(b);
	viewer_send(half, "\3\1\0", 3);
	bench_settle(b);
	for (int i = 0; i < 2; i++)
		b->greedy[b->n_greedy++] = busy[i]->fd;
	start = loop_now(b->loop);
	v = viewer_ready(b);
	v->width = 1024;
	v->height = 768;
	loop_stats_get(b->loop, &before);
	viewer_request_all(v, false);
	viewer_update(v);
	loop_stats_get(b->loop, &after);
	/* Four others had at most a slice, a request read and a socket event each for every callback of this one. */
	CHECK(after.callbacks - before.callbacks <= alone * (1 + 4 * 3));
	CHECK_EQ(loop_now(b->loop), start);
	for (unsigned int i = 0; i < 1024 * 768; i++)
		CHECK(v->fb[i / 1024 * SCREEN_MAX_WIDTH + i % 1024] ==
		      (get_le32(b->vram + (i / 1024 * 3840 + i % 1024) * 4ull) & 0xffffff));
	b->n_greedy = 0;
	viewer_free(v);
	viewer_free(half);
	viewer_free(drip);
	for (int i = 0; i < 2; i++) {
		viewer_free(stall[i]);
		viewer_free(busy[i]);
	}
	bench_free(b);
}

/* No slice is longer than a piece: the work of one callback is bounded whatever the size of the screen. */
static void slices_are_bounded(void)
{
	struct damage d = { 0 };
	struct rect r;
	uint64_t area = 0;

	damage_add_rect(&d, &(struct rect){ .w = SCREEN_MAX_WIDTH, .h = SCREEN_MAX_HEIGHT });
	CHECK(damage_count(&d) < 1000);
	while (damage_next(&d, &r)) {
		CHECK(r.w * r.h <= PIECE_MAX_PIXELS);
		area += r.w * r.h;
	}
	CHECK_EQ(area, SCREEN_MAX_WIDTH * SCREEN_MAX_HEIGHT);
	CHECK(damage_empty(&d));
	/* The most rectangles there can be: their number has 16 bits in an update. */
	for (unsigned int y = 0; y < TILE_ROWS; y++)
		d.row[y] = y % 2 ? 0x0555555555555555 : 0x0aaaaaaaaaaaaaaa;
	CHECK_EQ(damage_count(&d), TILE_ROWS * TILE_COLS / 2);
}

/* Two viewers with their own formats and encodings see the same. */
static void two_viewers(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b), *w = viewer_ready(b);

	viewer_encodings(w, zrle, 1);
	viewer_refresh(v);
	viewer_refresh(w);
	for (unsigned int kind = 0; kind < 5; kind++) {
		bench_picture(b, kind);
		viewer_request_all(v, true);
		viewer_request_all(w, true);
		viewer_update(v);
		viewer_update(w);
		CHECK(viewer_sees_screen(v));
		CHECK(viewer_sees_screen(w));
	}
	CHECK_EQ(b->clients, 2);
	viewer_free(v);
	viewer_free(w);
	bench_free(b);
}

/* V-10: gone after any number of steps of a large update, and in the middle of a resize. */
static void gone_in_mid_update(void)
{
	for (int steps = 0; steps < 60; steps++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_ready(b), *w = viewer_ready(b);
		static char sink[65536];

		viewer_encodings(v, everything, steps % 2 ? ARRAY_LEN(everything) : 0);
		bench_fill(b, (struct rect){ 0, 0, 700, 500 }, 0x00ff00 + (unsigned int)steps);
		viewer_request_all(v, false);
		for (int i = 0; i < steps; i++) {
			if (i == steps / 2)
				bench_mode(b, 1280, 1024);
			bench_step(b);
			recv(v->fd, sink, sizeof(sink), MSG_DONTWAIT);
			loop_fake_advance(b->loop, 5 * NS_PER_MS);
		}
		viewer_free(v);
		viewer_request_all(w, false);
		viewer_update(w);
		CHECK_EQ(b->server->viewers, 1);
		viewer_free(w);
		bench_free(b);
	}
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "pictures", pictures },
		{ "damage_is_small", damage_is_small },
		{ "idle_costs_nothing", idle_costs_nothing },
		{ "refresh_is_paced", refresh_is_paced },
		{ "screen_changes_while_nobody_looks", screen_changes_while_nobody_looks },
		{ "pixel_formats", pixel_formats },
		{ "format_changes_between_updates", format_changes_between_updates },
		{ "requests_outside", requests_outside },
		{ "requests_coalesce", requests_coalesce },
		{ "partial_requests", partial_requests },
		{ "resize_desktop_size", resize_desktop_size },
		{ "resize_extended", resize_extended },
		{ "resize_unknown", resize_unknown },
		{ "notices", notices },
		{ "modes_at_the_limits", modes_at_the_limits },
		{ "modes_at_random", modes_at_random },
		{ "screen_off", screen_off },
		{ "stalled", stalled },
		{ "slow", slow },
		{ "first_frame_is_prompt", first_frame_is_prompt },
		{ "slices_are_bounded", slices_are_bounded },
		{ "two_viewers", two_viewers },
		{ "gone_in_mid_update", gone_in_mid_update },
	};

	return RUN_CASES(cases, argc, argv);
}
