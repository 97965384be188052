/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* The RFB server: every encoding in every pixel format, decoded and compared with what the guest drew. */
#include "unit/rfb_bench.h"

static const int32_t encodings[] = { RFB_ENC_RAW, RFB_ENC_HEXTILE, RFB_ENC_ZLIB, RFB_ENC_TIGHT,
				     RFB_ENC_ZRLE };

static const struct format {
	unsigned int bits, depth;
	bool big;
	unsigned int max[3], shift[3]; /* red, green, blue */
	unsigned int cpixel_bytes,
		cpixel_skip; /* RFC 6143 s7.7.5: bytes of the wire left out in front */
} formats[] = {
	{ 8, 8, false, { 7, 7, 3 }, { 0, 3, 6 }, 1, 0 }, /* BGR233 */
	{ 8, 8, true, { 7, 7, 3 }, { 5, 2, 0 }, 1, 0 }, /* RGB332: order means nothing */
	{ 8, 6, false, { 3, 3, 3 }, { 4, 2, 0 }, 1, 0 },
	{ 16, 16, false, { 31, 63, 31 }, { 11, 5, 0 }, 2, 0 },
	{ 16, 16, true, { 31, 63, 31 }, { 11, 5, 0 }, 2, 0 },
	{ 16, 15, false, { 31, 31, 31 }, { 0, 5, 10 }, 2, 0 },
	{ 16, 15, true, { 31, 31, 31 }, { 10, 5, 0 }, 2, 0 },
	{ 32, 24, false, { 255, 255, 255 }, { 16, 8, 0 }, 3, 0 },
	{ 32, 24, true, { 255, 255, 255 }, { 16, 8, 0 }, 3, 1 },
	{ 32, 24, false, { 255, 255, 255 }, { 0, 8, 16 }, 3, 0 },
	{ 32, 24, true, { 255, 255, 255 }, { 24, 16, 8 }, 3, 0 },
	{ 32, 24, false, { 255, 255, 255 }, { 24, 16, 8 }, 3, 1 },
	{ 32, 32, false, { 255, 255, 255 }, { 16, 8, 0 }, 4, 0 },
	{ 32, 30, false, { 1023, 1023, 1023 }, { 20, 10, 0 }, 4, 0 },
	{ 32, 30, true, { 1023, 1023, 1023 }, { 20, 10, 0 }, 4, 0 },
};

static void set_format(struct viewer *v, const struct format *f, int32_t encoding)
{
	uint8_t m[20] = { RFB_SET_PIXEL_FORMAT, 0,	0, 0, (uint8_t)f->bits,
			  (uint8_t)f->depth,	f->big, 1 };

	for (int i = 0; i < 3; i++) {
		put_be16(m + 8 + 2 * i, (uint16_t)f->max[i]);
		m[14 + i] = (uint8_t)f->shift[i];
	}
	viewer_send(v, m, sizeof(m));
	v->bytes_pp = f->bits / 8;
	v->cpixel_bytes = f->cpixel_bytes;
	v->tpixel = encoding == RFB_ENC_TIGHT && f->bits == 32 && f->depth == 24;
}

/* What the viewer's decoders make of a pixel: its bytes on the wire as a little endian number. */
static uint32_t expected(const struct format *f, int32_t encoding, uint32_t rgb)
{
	uint32_t value = 0, wire = 0;

	if (encoding == RFB_ENC_TIGHT && f->bits == 32 && f->depth == 24)
		return rgb & 0xffffff;
	for (int i = 0; i < 3; i++) {
		uint32_t colour = rgb >> (16 - 8 * i) & 0xff;

		value |= (colour * f->max[i] + 127) / 255 << f->shift[i];
	}
	for (unsigned int i = 0; i < f->bits; i += 8)
		wire |= (value >> (f->big ? f->bits - 8 - i : i) & 0xff) << i;
	if (encoding == RFB_ENC_ZRLE && f->cpixel_bytes == 3)
		return wire >> (8 * f->cpixel_skip) & 0xffffff;
	return wire;
}

static uint32_t guest_pixel(const struct bench *b, unsigned int x, unsigned int y)
{
	return get_le32(b->vram + b->frame.offset + (size_t)y * b->frame.stride + x * 4) & 0xffffff;
}

static void compare(const struct viewer *v, const struct format *f, int32_t encoding)
{
	for (unsigned int y = 0; y < v->height; y++)
		for (unsigned int x = 0; x < v->width; x++)
			CHECK_EQ(v->fb[y * SCREEN_MAX_WIDTH + x],
				 expected(f, encoding, guest_pixel(v->b, x, y)));
}

static unsigned int count(const struct viewer *v, int32_t encoding)
{
	switch (encoding) {
	case RFB_ENC_HEXTILE:
		return v->n_hextile;
	case RFB_ENC_ZLIB:
		return v->n_zlib;
	case RFB_ENC_TIGHT:
		return v->n_tight;
	case RFB_ENC_ZRLE:
		return v->n_zrle;
	default:
		return v->n_raw;
	}
}

/* One viewer changes its format from picture to picture: streams go on. */
static void formats_exact(void)
{
	for (size_t e = 0; e < ARRAY_LEN(encodings); e++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v;

		bench_mode(b, 525, 71);
		v = viewer_ready(b);
		viewer_encodings(v, &encodings[e], 1);
		for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
			set_format(v, &formats[i], encodings[e]);
			for (unsigned int kind = 0; kind < 5; kind++) {
				bench_picture(b, kind);
				viewer_refresh(v);
				compare(v, &formats[i], encodings[e]);
			}
		}
		CHECK(count(v, encodings[e]) > 0);
		viewer_free(v);
		bench_free(b);
	}
}

/* Every size of a rectangle up to two tiles, and beyond the edge of a piece. */
static void sizes(void)
{
	for (size_t e = 0; e < ARRAY_LEN(encodings); e++) {
		struct bench *b = bench_new(NULL, 4);
		const struct format *f = &formats[7];
		struct viewer *v;

		bench_mode(b, 66, 40);
		bench_picture(b, 4);
		v = viewer_ready(b);
		viewer_encodings(v, &encodings[e], 1);
		viewer_refresh(v);
		for (unsigned int w = 1; w <= 34; w++) {
			for (unsigned int h = 1; h <= 34; h += 1 + h / 3) {
				struct rect r = { 66 - w, 40 - h, w, h };

				for (unsigned int y = r.y; y < 40; y++)
					memset(v->fb + y * SCREEN_MAX_WIDTH + r.x, 0xee, w * 4);
				viewer_request(v, false, r);
				viewer_update(v);
				compare(v, f, encodings[e]);
			}
		}
		viewer_free(v);
		bench_free(b);
	}
}

/* s7.5.2: the first that we know; none of them: Raw. A change in the middle of an update is fine. */
static void order(void)
{
	static const int32_t wishes[] = { 2, 1, RFB_ENC_ZLIB, RFB_ENC_RAW, RFB_ENC_TIGHT };
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_encodings(v, wishes, 5);
	viewer_refresh(v);
	CHECK(v->n_zlib > 0 && v->n_raw + v->n_tight == 0);
	viewer_encodings(v, wishes, 2);
	viewer_refresh(v);
	CHECK(v->n_raw > 0 && v->n_tight == 0);
	for (size_t e = 0; e < ARRAY_LEN(encodings); e++) {
		bench_picture(b, e % 5);
		loop_fake_advance(b->loop, 20 * NS_PER_MS);
		viewer_request_all(v, false);
		for (int i = 0; i < 6; i++)
			bench_step(b);
		viewer_encodings(v, &encodings[e], 1);
		viewer_update(v);
		CHECK(viewer_sees_screen(v));
	}
	viewer_free(v);
	bench_free(b);
}

/* No piece is longer than it may be, whatever is on it. */
static void bounded(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;

	bench_mode(b, 1024, 128);
	bench_picture(b, 0);
	v = viewer_ready(b);
	for (size_t e = 0; e < ARRAY_LEN(encodings); e++) {
		uint64_t before = v->received;

		viewer_encodings(v, &encodings[e], 1);
		viewer_refresh(v);
		CHECK(viewer_sees_screen(v));
		CHECK(v->received - before < 1024 * 128 * 4 * 102 / 100);
	}
	viewer_free(v);
	bench_free(b);
}

static unsigned int difference(const struct viewer *v, unsigned int *worst)
{
	uint64_t sum = 0;

	*worst = 0;
	for (unsigned int y = 0; y < v->height; y++) {
		for (unsigned int x = 0; x < v->width; x++) {
			uint32_t want = guest_pixel(v->b, x, y);
			uint32_t got = v->fb[y * SCREEN_MAX_WIDTH + x];

			for (unsigned int s = 0; s < 24; s += 8) {
				unsigned int d = (unsigned int)abs((int)(want >> s & 0xff) -
								   (int)(got >> s & 0xff));

				sum += d;
				*worst = MAX(*worst, d);
			}
		}
	}
	return (unsigned int)(sum * 100 / (v->width * v->height * 3ull));
}

/* A slope of all colours without edges. */
static void draw_slope(struct bench *b)
{
	for (unsigned int y = 0; y < b->frame.height; y++)
		for (unsigned int x = 0; x < b->frame.width; x++)
			bench_pixel(b, x, y,
				    (x / 2 % 256) << 16 | y % 256 << 8 | ((x + y) / 4 % 256));
}

/* Each level is closer to the picture than the one before, and longer; pieces of few colours stay exact. */
static void jpeg_levels(void)
{
	struct bench *b = bench_new(NULL, 4);
	uint64_t before, bytes = 0, lossless;
	unsigned int worst, last = 500;
	struct viewer *v;

	bench_mode(b, 500, 250);
	draw_slope(b);
	v = viewer_ready(b);
	viewer_encodings(v, (int32_t[]){ RFB_ENC_TIGHT }, 1);
	before = v->received;
	viewer_refresh(v);
	lossless = v->received - before;
	CHECK(viewer_sees_screen(v));
	v->jpeg = true;
	for (int32_t level = 0; level < 10; level++) {
		int32_t list[] = { RFB_ENC_TIGHT, RFB_ENC_QUALITY_WORST + level };
		unsigned int off;

		viewer_encodings(v, list, 2);
		before = v->received;
		viewer_refresh(v);
		off = difference(v, &worst);
		CHECK(off < 500 && off <= last + 20); /* hundredths */
		CHECK(v->received - before + 200 > bytes);
		bytes = v->received - before;
		last = off;
	}
	CHECK(last <= 60 && worst <= 6);
	CHECK(bytes < lossless);
	CHECK(v->n_jpeg >= 40);
	last = v->n_jpeg;
	bench_picture(b, 4);
	viewer_refresh(v);
	CHECK(viewer_sees_screen(v));
	CHECK_EQ(v->n_jpeg, last);
	viewer_free(v);
	bench_free(b);
}

/* 16 bits may have JPEG, 8 bits may not. */
static void jpeg_formats(void)
{
	static const int32_t list[] = { -23, RFB_ENC_TIGHT };
	struct bench *b = bench_new(NULL, 4);
	unsigned int worst, had;
	struct viewer *v;

	bench_mode(b, 500, 250);
	draw_slope(b);
	v = viewer_ready(b);
	v->jpeg = true;
	viewer_encodings(v, list, 2);
	set_format(v, &formats[4], RFB_ENC_TIGHT);
	viewer_refresh(v);
	CHECK(v->n_jpeg > 0);
	CHECK(difference(v, &worst) <= 60);
	had = v->n_jpeg;
	set_format(v, &formats[0], RFB_ENC_TIGHT);
	viewer_refresh(v);
	CHECK_EQ(v->n_jpeg, had);
	compare(v, &formats[0], RFB_ENC_TIGHT);
	viewer_free(v);
	bench_free(b);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "formats_exact", formats_exact },
		{ "sizes", sizes },
		{ "order", order },
		{ "bounded", bounded },
		{ "jpeg_levels", jpeg_levels },
		{ "jpeg_formats", jpeg_formats },
	};

	return RUN_CASES(cases, argc, argv);
}
