/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* The RFB server: fences, continuous updates, and the small extensions. */
#include "unit/rfb_bench.h"

#define FENCE_BYTES 9

static const int32_t flow[] = { RFB_ENC_ZRLE, RFB_ENC_FENCE, RFB_ENC_CONTINUOUS_UPDATES };

static void send_fence(struct viewer *v, uint32_t flags, const void *payload, uint8_t len)
{
	uint8_t m[FENCE_BYTES + 255] = { RFB_FENCE, 0, 0, 0, 0, 0, 0, 0, len };

	put_be32(m + 4, flags);
	memcpy(m + FENCE_BYTES, payload, len);
	viewer_send(v, m, FENCE_BYTES + len);
}

static void enable(struct viewer *v, bool on, struct rect r)
{
	uint8_t m[10] = { RFB_CONTINUOUS_UPDATES, on };

	put_be16(m + 2, (uint16_t)r.x);
	put_be16(m + 4, (uint16_t)r.y);
	put_be16(m + 6, (uint16_t)r.w);
	put_be16(m + 8, (uint16_t)r.h);
	viewer_send(v, m, sizeof(m));
}

static void enable_all(struct viewer *v)
{
	enable(v, true, (struct rect){ .w = v->width, .h = v->height });
}

static struct viewer *ready(struct bench *b)
{
	struct viewer *v = viewer_ready(b);

	viewer_encodings(v, flow, ARRAY_LEN(flow));
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	CHECK_EQ(viewer_message(v), RFB_CONTINUOUS_UPDATES);
	return v;
}

static void set_format(struct viewer *v, const char *format)
{
	uint8_t m[20] = { RFB_SET_PIXEL_FORMAT };

	memcpy(m + 4, format, 13);
	viewer_send(v, m, sizeof(m));
}

/* Told once, at the first SetEncodings that names them. */
static void announced(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);

	viewer_encodings(v, flow, ARRAY_LEN(flow));
	CHECK(viewer_quiet(v));
	viewer_refresh(v);
	CHECK(viewer_sees_screen(v));
	viewer_encodings(v, NULL, 0);
	viewer_refresh(v);
	CHECK_EQ(v->n_requests, 1);
	CHECK_EQ(v->n_ends, 1);
	viewer_free(v);
	bench_free(b);
}

/* Answers have the payload, the flags that we know, and come in order. */
static void fences_answered(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);
	uint8_t payload[65];

	for (unsigned int i = 0; i <= 64; i++) {
		memset(payload, (int)i, sizeof(payload));
		send_fence(v, 0xfffffffb & ~(i & 3), payload, (uint8_t)i);
		if (i % 2)
			continue;
		while (v->n_fences <= i)
			CHECK_EQ(viewer_message(v), RFB_FENCE);
		CHECK_EQ(v->fence_len, i);
		CHECK_EQ(v->fence_flags, 3 & ~(i & 3));
		CHECK(memcmp(v->fence, payload, i) == 0);
	}
	CHECK(viewer_quiet(v));
	/* Answers to nothing are nothing. */
	for (int i = 0; i < 20; i++)
		send_fence(v, 7, payload, 64);
	CHECK(viewer_quiet(v));
	send_fence(v, RFB_FENCE_REQUEST, payload, 65);
	CHECK(viewer_closed(v));
	viewer_free(v);
	bench_free(b);
}

/* A fence in every step of an update is answered after it, and what follows the fence waits. */
static void fence_within_an_update(void)
{
	for (int steps = 0; steps < 40; steps++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = ready(b);

		bench_settle(b);
		bench_picture(b, 3);
		loop_fake_advance(b->loop, 20 * NS_PER_MS);
		viewer_request_all(v, false);
		for (int i = 0; i < steps; i++)
			bench_step(b);
		send_fence(v, RFB_FENCE_REQUEST | 2, "x", 1);
		viewer_key(v, 'a', true);
		viewer_request_all(v, false);
		while (v->n_fences == 0)
			viewer_message(v);
		viewer_update(v);
		bench_settle(b);
		CHECK(viewer_sees_screen(v));
		CHECK_EQ(b->n_keys, 1);
		viewer_free(v);
		bench_free(b);
	}
}

/* A viewer that does not read has one fence waiting, not more, and its keys wait as well. */
static void fence_flood(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);
	uint8_t m[FENCE_BYTES + 64] = { RFB_FENCE, 0, 0, 0, 0x80, 0, 0, 1, 64 };
	struct client *c = list_first(&b->server->clients, struct client, link);
	ssize_t n = 1;

	for (int i = 0; i < 100000 && n > 0; i++) {
		n = send(v->fd, m, sizeof(m), MSG_DONTWAIT | MSG_NOSIGNAL);
		bench_step(b);
		CHECK(c->out_len <= sizeof(m));
	}
	CHECK(n < 0 && errno == EAGAIN);
	viewer_free(v);
	bench_settle(b);
	CHECK_EQ(b->server->viewers, 0);
	bench_free(b);
}

/* SyncNext: what comes before the answer is in the old format, all after it in the new one. */
static void sync_next(void)
{
	for (int steps = 0; steps < 40; steps++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = ready(b);

		viewer_encodings(v, flow + 1, ARRAY_LEN(flow) - 1); /* Raw */
		bench_picture(b, 3);
		enable_all(v);
		for (int i = 0; i < steps; i++)
			bench_step(b);
		send_fence(v, RFB_FENCE_REQUEST | RFB_FENCE_SYNC_NEXT, "", 0);
		for (int i = 0; i < steps; i++)
			bench_step(b);
		CHECK_EQ(v->n_fences, 0);
		set_format(v, "\x10\x10\0\1\0\x1f\0\x3f\0\x1f\x0b\x05\0");
		while (v->n_fences == 0)
			viewer_message(v);
		CHECK_EQ(v->fence_flags, RFB_FENCE_SYNC_NEXT);
		v->bytes_pp = 2;
		viewer_refresh(v);
		CHECK_EQ(v->fb[0], 0);
		CHECK_EQ(v->fb[255] & 0xf800, 0xf800);
		viewer_free(v);
		bench_free(b);
	}
}

/* SyncNext waits for the whole of the next message; one whose next message is a fence is not forgotten. */
static void sync_next_whole(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);
	uint8_t text[8 + 3000] = { RFB_CUT_TEXT, 0, 0, 0, 0, 0, 3000 >> 8, 3000 & 0xff };
	static const uint8_t encodings[] = { RFB_SET_ENCODINGS, 0, 0, 2, 0, 0, 0, 16 };

	send_fence(v, RFB_FENCE_REQUEST | RFB_FENCE_SYNC_NEXT, "a", 1);
	viewer_send(v, text, sizeof(text) - 1);
	CHECK(viewer_quiet(v));
	viewer_send(v, text, 1);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	send_fence(v, RFB_FENCE_REQUEST | RFB_FENCE_SYNC_NEXT, "b", 1);
	viewer_send(v, encodings, sizeof(encodings));
	CHECK(viewer_quiet(v));
	viewer_send(v, "\0\0\0\7", 4);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	CHECK_EQ(v->fence[0], 'b');
	send_fence(v, RFB_FENCE_REQUEST | RFB_FENCE_SYNC_NEXT, "c", 1);
	send_fence(v, RFB_FENCE_REQUEST | RFB_FENCE_SYNC_NEXT, "d", 1);
	viewer_key(v, 'a', true);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	CHECK_EQ(v->fence[0], 'c');
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	CHECK_EQ(v->fence[0], 'd');
	viewer_free(v);
	bench_free(b);
}

/* Changes arrive without being asked for; none arrive after the end. */
static void continuous(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);

	enable_all(v);
	viewer_update(v);
	for (unsigned int kind = 0; kind < 5; kind++) {
		bench_picture(b, kind);
		while (!viewer_sees_screen(v))
			viewer_update(v);
	}
	/* Incremental requests are nothing now, others are honoured. */
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	viewer_request_all(v, true);
	CHECK(viewer_quiet(v));
	viewer_request(v, false, (struct rect){ 5, 5, 7, 8 });
	viewer_update(v);
	CHECK_EQ(v->n_rects, 1);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	enable(v, false, (struct rect){ 0 });
	CHECK_EQ(viewer_message(v), RFB_CONTINUOUS_UPDATES);
	bench_picture(b, 1);
	CHECK(viewer_quiet(v));
	/* The end is told each time; then it is as before. */
	enable(v, false, (struct rect){ 0 });
	CHECK_EQ(viewer_message(v), RFB_CONTINUOUS_UPDATES);
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK(viewer_sees_screen(v));
	CHECK(viewer_quiet(v));
	viewer_free(v);
	bench_free(b);
}

/* Only the part that was asked for, which may lie anywhere. */
static void continuous_part(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);

	viewer_refresh(v);
	bench_settle(b);
	enable(v, true, (struct rect){ 64, 16, 64, 16 });
	CHECK(viewer_quiet(v));
	bench_pixel(b, 10, 10, 0x111111);
	bench_pixel(b, 200, 10, 0x111111);
	CHECK(viewer_quiet(v));
	bench_pixel(b, 70, 20, 0x222222);
	viewer_update(v);
	CHECK_EQ(v->fb[20 * SCREEN_MAX_WIDTH + 70], 0x222222);
	CHECK_EQ(v->fb[10 * SCREEN_MAX_WIDTH + 10], 0);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	enable(v, true, (struct rect){ 65535, 65535, 65535, 65535 });
	bench_pixel(b, 70, 20, 0x333333);
	CHECK(viewer_quiet(v));
	enable_all(v);
	while (!viewer_sees_screen(v))
		viewer_update(v);
	viewer_free(v);
	bench_free(b);
}

/* Without our word that we know it, the message is none. */
static void continuous_unasked(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	enable_all(v);
	CHECK(viewer_closed(v));
	viewer_free(v);
	bench_free(b);
}

/* One that reads all but answers no fence gets a bounded amount, then nothing; an answer lets it go on. */
static void unanswered(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;
	uint64_t got;

	bench_mode(b, 320, 200);
	v = ready(b);
	bench_picture(b, 0);
	v->sulks = true;
	enable_all(v);
	for (unsigned int i = 0; i < 50; i++) {
		while (!viewer_quiet(v))
			viewer_message(v);
		bench_picture(b, i % 2);
	}
	CHECK(v->n_requests >= 3 && v->n_requests <= 1 + FLOW_FENCES);
	got = v->received;
	CHECK(got < 2 * FLOW_BYTES + 320 * 200 * 4);
	/* It is told of nothing, so it costs nothing. */
	{
		struct loop_stats before, after;

		loop_stats_get(b->loop, &before);
		bench_advance(b, 3600 * NS_PER_SEC);
		loop_stats_get(b->loop, &after);
		CHECK_EQ(after.callbacks, before.callbacks);
	}
	v->sulks = false;
	for (unsigned int n = v->n_requests; n; n--)
		send_fence(v, 1, "", 0);
	while (!viewer_sees_screen(v))
		viewer_update(v);
	viewer_free(v);
	bench_free(b);
}

/* Nothing changes: nothing is sent, and the looks at the screen become rare. */
static void continuous_idle(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);
	unsigned int refreshes;

	enable_all(v);
	viewer_update(v);
	CHECK_EQ(viewer_message(v), RFB_FENCE);
	bench_advance(b, 10 * NS_PER_SEC);
	refreshes = b->refreshes;
	for (int i = 0; i < 10000; i++)
		bench_advance(b, NS_PER_MS);
	CHECK(b->refreshes - refreshes >= 35 && b->refreshes - refreshes < 90);
	CHECK(viewer_quiet(v));
	viewer_free(v);
	bench_free(b);
}

/* A viewer that stopped reading is dropped after its time, continuous or not. */
static void continuous_stalled(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;

	bench_mode(b, 3840, 2160);
	bench_picture(b, 0);
	v = ready(b);
	viewer_encodings(v, flow + 1, ARRAY_LEN(flow) - 1);
	enable_all(v);
	for (int i = 0; i < 29; i++)
		bench_advance(b, NS_PER_SEC);
	CHECK_EQ(b->server->viewers, 1);
	bench_advance(b, 3 * NS_PER_SEC);
	CHECK_EQ(b->server->viewers, 0);
	viewer_free(v);
	bench_free(b);
}

/* The size goes out unasked too, for those who can follow it. */
static void continuous_resize(void)
{
	static const int32_t resizing[] = { RFB_ENC_ZRLE, RFB_ENC_FENCE, RFB_ENC_CONTINUOUS_UPDATES,
					    RFB_ENC_EXT_DESKTOP_SIZE };
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = ready(b);

	viewer_encodings(v, resizing, ARRAY_LEN(resizing));
	enable_all(v);
	viewer_update(v);
	CHECK_EQ(v->n_ext_size, 1);
	viewer_update(v);
	bench_mode(b, 1024, 768);
	while (v->width != 1024)
		viewer_update(v);
	enable_all(v);
	bench_picture(b, 3);
	while (!viewer_sees_screen(v))
		viewer_update(v);
	viewer_free(v);
	bench_free(b);
}

/* Cursor, name and buttons are told once, with the next update. */
static void small_notices(void)
{
	static const int32_t all[] = { RFB_ENC_CURSOR, RFB_ENC_DESKTOP_NAME, RFB_ENC_EXT_BUTTONS,
				       RFB_ENC_QEMU_LEDS };
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_refresh(v);
	viewer_encodings(v, all, ARRAY_LEN(all));
	memset(v->name, 'x', 5);
	viewer_request_all(v, true);
	viewer_update(v);
	CHECK_EQ(v->n_rects, 4);
	CHECK_EQ(v->n_cursor, 1);
	CHECK_EQ(v->n_buttons, 1);
	CHECK_EQ(v->n_name, 1);
	CHECK_STR(v->name, "test guest");
	viewer_request_all(v, true);
	CHECK(viewer_quiet(v));
	viewer_free(v);
	bench_free(b);
}

/* Back and forward; a byte more only from those who said so. */
static void buttons(void)
{
	static const int32_t extended[] = { RFB_ENC_EXT_BUTTONS };
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_send(v, "\5\x80\0\1\0\2", 6);
	bench_settle(b);
	CHECK_EQ(b->pointer.buttons, 0x80);
	viewer_encodings(v, extended, 1);
	viewer_send(v, "\5\x80\0\3\0\4", 6);
	bench_settle(b);
	CHECK_EQ(b->pointer.x, 1);
	viewer_send(v, "\2", 1);
	bench_settle(b);
	CHECK_EQ(b->pointer.x, 3);
	CHECK_EQ(b->pointer.buttons, 0x100);
	viewer_send(v, "\5\xff\0\3\0\4\xff\5\x1f\0\5\0\6", 13);
	bench_settle(b);
	CHECK_EQ(b->pointer.x, 5);
	CHECK_EQ(b->pointer.buttons, 0x1f);
	viewer_send(v, "\5\x81\0\3\0\4\3", 7);
	bench_settle(b);
	CHECK_EQ(b->pointer.buttons, 0x181);
	viewer_free(v);
	bench_settle(b);
	CHECK_EQ(b->pointer.buttons, 0);
	bench_free(b);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "announced", announced },
		{ "fences_answered", fences_answered },
		{ "fence_within_an_update", fence_within_an_update },
		{ "fence_flood (V-08)", fence_flood },
		{ "sync_next", sync_next },
		{ "sync_next_whole", sync_next_whole },
		{ "continuous", continuous },
		{ "continuous_part", continuous_part },
		{ "continuous_unasked", continuous_unasked },
		{ "unanswered", unanswered },
		{ "continuous_idle", continuous_idle },
		{ "continuous_stalled (V-08)", continuous_stalled },
		{ "continuous_resize", continuous_resize },
		{ "small_notices", small_notices },
		{ "buttons", buttons },
	};

	return RUN_CASES(cases, argc, argv);
}
