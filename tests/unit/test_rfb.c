/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* The RFB server: handshakes, authentication, bad input (rows V-01 to V-11), keys, limits. */
#include <netinet/in.h>

#include "unit/rfb_bench.h"

static void des_vectors(void)
{
	static const struct {
		const char *key, *in,
			*out; /* 8 bytes each; the classic worked example, and NIST SP 800-17 ones */
	} vectors[] = {
		{ "\x13\x34\x57\x79\x9b\xbc\xdf\xf1", "\x01\x23\x45\x67\x89\xab\xcd\xef",
		  "\x85\xe8\x13\x54\x0f\x0a\xb4\x05" },
		{ "\x01\x01\x01\x01\x01\x01\x01\x01", "\x80\0\0\0\0\0\0\0",
		  "\x95\xf8\xa5\xe5\xdd\x31\xd9\x00" },
		{ "\x80\x01\x01\x01\x01\x01\x01\x01", "\0\0\0\0\0\0\0\0",
		  "\x95\xa8\xd7\x28\x13\xda\xa9\x4d" },
		{ "\x7c\xa1\x10\x45\x4a\x1a\x6e\x57", "\x01\xa1\xd6\xd0\x39\x77\x67\x42",
		  "\x69\x0f\x5b\x0d\x9a\x26\x93\x9b" },
	};

	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		uint8_t out[8];

		des_encrypt_block((const uint8_t *)vectors[i].key, (const uint8_t *)vectors[i].in,
				  out);
		CHECK(memcmp(out, vectors[i].out, 8) == 0);
	}
}

static void handshakes(void)
{
	static const unsigned int minors[] = { 3, 5, 7, 8, 889 };

	for (size_t i = 0; i < ARRAY_LEN(minors); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_new(b);

		viewer_handshake(v, minors[i] == 5 ? 3 : minors[i], NULL);
		CHECK_EQ(v->width, 800);
		CHECK_EQ(v->height, 600);
		CHECK_STR(v->name, "test guest");
		CHECK_EQ(b->clients, 1);
		viewer_request_all(v, false);
		viewer_update(v);
		viewer_free(v);
		bench_settle(b);
		CHECK_EQ(b->clients, 0);
		bench_free(b);
	}
}

static void old_version_number_is_3_3(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_new(b);

	viewer_version(v, "RFB 003.005\n");
	CHECK_EQ(viewer_recv_u32(v), RFB_SECURITY_NONE);
	viewer_init(v);
	viewer_free(v);
	bench_free(b);
}

static void password_right(void)
{
	static const unsigned int minors[] = { 3, 7, 8 };

	for (size_t i = 0; i < ARRAY_LEN(minors); i++) {
		struct bench *b = bench_new("s3cr3t", 4);
		struct viewer *v = viewer_new(b);

		viewer_handshake(v, minors[i], "s3cr3t");
		CHECK_EQ(b->clients, 1);
		viewer_free(v);
		bench_free(b);
	}
}

/* Only the first 8 characters count, as everywhere. */
static void password_long(void)
{
	struct bench *b = bench_new("12345678", 4);
	struct viewer *v = viewer_new(b);

	viewer_handshake(v, 8, "123456789");
	viewer_free(v);
	bench_free(b);
}

static uint32_t try_password(struct bench *b, const char *password, uint64_t *took)
{
	struct viewer *v = viewer_new(b);
	uint64_t start = loop_now(b->loop);
	char reason[80];
	uint32_t result;

	viewer_version(v, "RFB 003.008\n");
	CHECK_EQ(viewer_recv_u16(v), 0x102);
	viewer_send(v, "\2", 1);
	viewer_answer(v, password);
	result = viewer_result(v, 8, reason, sizeof(reason));
	CHECK_STR(reason, result ? "Wrong password" : "");
	*took = loop_now(b->loop) - start;
	viewer_free(v);
	return result;
}

/* V-03: each failure makes the next answer wait longer, up to a bound; success ends that. */
static void password_wrong(void)
{
	struct bench *b = bench_new("right", 4);
	uint64_t took, expect = AUTH_DELAY_FIRST_NS;

	CHECK_EQ(try_password(b, "wrong", &took), 1);
	CHECK(took < NS_PER_MS);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(try_password(b, "wrong", &took), 1);
		CHECK(took >= expect - 2 * NS_PER_MS && took <= expect + 2 * NS_PER_MS);
		expect = MIN(expect * 2, AUTH_DELAY_MAX_NS);
	}
	CHECK_EQ(b->clients, 0);
	CHECK_EQ(try_password(b, "right", &took), 0);
	CHECK(took >= AUTH_DELAY_MAX_NS - 2 * NS_PER_MS);
	CHECK_EQ(try_password(b, "right", &took), 0);
	CHECK(took < NS_PER_MS);
	bench_free(b);
}

/* V-03 at length, on the table alone: memory is bounded, other addresses are not delayed, the delay is forgotten. */
static void password_guessing(void)
{
	static const uint8_t challenge[16] = "0123456789abcdef";
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_storage sa = { 0 };
	uint8_t answer[16] = { 1 };
	struct auth_peer bad, other = { .key = 1 };
	uint64_t now = NS_PER_SEC;
	struct auth a;

	auth_init(&a, "right");
	in6.sin6_addr.s6_addr[0] = 0x20;
	memcpy(&sa, &in6, sizeof(in6));
	bad = auth_peer_of(&sa);
	for (int i = 0; i < 100000; i++) {
		CHECK(!auth_check(&a, bad, challenge, answer, now));
		now = auth_not_before(&a, bad, now);
	}
	CHECK(now > 100000 * (AUTH_DELAY_MAX_NS - NS_PER_MS) - 100 * NS_PER_SEC);
	CHECK_EQ(auth_not_before(&a, other, now), 0);
	/* The low half of an IPv6 address is the attacker's to choose. */
	in6.sin6_addr.s6_addr[15] = 77;
	memcpy(&sa, &in6, sizeof(in6));
	CHECK(auth_not_before(&a, auth_peer_of(&sa), now - 1) >= now);
	for (uint64_t i = 0; i < 1000; i++)
		auth_check(&a, (struct auth_peer){ .key = 1000 + i }, challenge, answer, now + i);
	CHECK_EQ(auth_not_before(&a, bad, now + AUTH_FORGET_NS), 0);
}

/* A wait for an earlier failure outlasts the handshake's time without being cut off. */
static void password_waits_do_not_time_out(void)
{
	struct bench *b = bench_new("right", 4);
	struct viewer *v[6];
	char reason[80];
	uint64_t took;

	for (int i = 0; i < 8; i++)
		CHECK_EQ(try_password(b, "wrong", &took), 1);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		v[i] = viewer_new(b);
		viewer_version(v[i], "RFB 003.008\n");
		CHECK_EQ(viewer_recv_u16(v[i]), 0x102);
		viewer_send(v[i], "\2", 1);
		viewer_answer(v[i], i < 5 ? "wrong" : "right");
	}
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		CHECK_EQ(viewer_result(v[i], 8, reason, sizeof(reason)), i < 5);
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		viewer_free(v[i]);
	bench_free(b);
}

/* V-01. */
static void version_garbage(void)
{
	static const char *const garbage[] = { "GET / HTTP/1.1\r\n", "RFB 004.000\n",
					       "RFB 003.002\n",	     "RFB 003.0x8\n",
					       "RFB 003.008 ",	     "\r\n" };

	for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_new(b);

		viewer_send(v, garbage[i], strlen(garbage[i]));
		CHECK(viewer_closed(v));
		CHECK_EQ(b->server->handshakes, 0);
		viewer_free(v);
		bench_free(b);
	}
}

/* V-01: silence, half a version, one byte a second; at every step of the handshake. */
static void handshake_times_out(void)
{
	static const char *const starts[] = { "", "RFB 003.008", "RFB 003.008\n", "RFB 003.008\n\1",
					      "RFB 003.003\n" };

	for (size_t i = 0; i < ARRAY_LEN(starts); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_new(b);

		viewer_send(v, starts[i], strlen(starts[i]));
		bench_advance(b, CLIENT_HANDSHAKE_NS - NS_PER_MS);
		CHECK(!viewer_closed(v));
		bench_advance(b, NS_PER_MS);
		CHECK(viewer_closed(v));
		CHECK_EQ(b->server->handshakes + b->server->viewers, 0);
		viewer_free(v);
		bench_free(b);
	}
}

static void handshake_dripping(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_new(b);
	unsigned int i;

	for (i = 0; i < 12 && !viewer_closed(v); i++) {
		viewer_send(v, &"RFB 003.008\n"[i], 1);
		bench_advance(b, NS_PER_SEC);
	}
	CHECK_EQ(i, 10);
	viewer_free(v);
	bench_free(b);
}

/* V-02. */
static void security_not_offered(void)
{
	static const struct {
		const char *password;
		char choice;
	} cases[] = {
		{ NULL, 2 }, { NULL, 0 }, { NULL, 19 }, { "pw", 1 }, { "pw", 0 }, { "pw", 16 }
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct bench *b = bench_new(cases[i].password, 4);
		struct viewer *v = viewer_new(b);
		char reason[80];

		viewer_version(v, "RFB 003.008\n");
		CHECK_EQ(viewer_recv_u16(v), cases[i].password ? 0x102 : 0x101);
		viewer_send(v, &cases[i].choice, 1);
		viewer_send(v, "\1", 1); /* as if it were in */
		CHECK_EQ(viewer_result(v, 8, reason, sizeof(reason)), 1);
		CHECK_STR(reason, "This security type is not offered");
		bench_advance(b, CLIENT_LINGER_NS);
		CHECK(viewer_closed(v));
		CHECK_EQ(b->client_reports, 0);
		viewer_free(v);
		bench_free(b);
	}
}

/* V-02: a 3.3 viewer is told the type; with a password set that is never None. */
static void old_viewer_needs_password(void)
{
	struct bench *b = bench_new("pw", 4);
	struct viewer *v = viewer_new(b);
	char reason[80];

	viewer_version(v, "RFB 003.003\n");
	CHECK_EQ(viewer_recv_u32(v), RFB_SECURITY_VNC);
	viewer_answer(v, "no");
	CHECK_EQ(viewer_result(v, 3, reason, sizeof(reason)), 1);
	bench_advance(b, CLIENT_LINGER_NS);
	CHECK(viewer_closed(v));
	viewer_free(v);
	bench_free(b);
}

/* V-04. */
static void encodings_cut(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b), *w = viewer_ready(b);
	uint8_t m[4] = { RFB_SET_ENCODINGS, 0, 0xff, 0xff }, junk[3] = { 0x80 };

	viewer_send(v, m, sizeof(m));
	viewer_send(v, junk, sizeof(junk));
	bench_settle(b);
	CHECK_EQ(b->server->viewers, 2);
	viewer_free(v);
	bench_settle(b);
	CHECK_EQ(b->server->viewers, 1);
	/* All 65535, of any value, then a request: it is in step still. */
	viewer_send(w, m, sizeof(m));
	for (uint32_t i = 0; i < 65535; i++) {
		uint8_t e[4];

		put_be32(e, i * 2654435761u | 0x80000000);
		viewer_send(w, e, sizeof(e));
	}
	viewer_request_all(w, false);
	viewer_update(w);
	CHECK(w->n_raw > 0);
	viewer_free(w);
	bench_free(b);
}

static void set_format(struct viewer *v, const char *format)
{
	uint8_t m[20] = { RFB_SET_PIXEL_FORMAT };

	memcpy(m + 4, format, 13);
	viewer_send(v, m, sizeof(m));
}

/* V-05. */
static void pixel_format_nonsense(void)
{
	static const char *const formats[] = {
		"\0\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* 0 bits */
		"\7\7\0\1\0\7\0\7\0\3\0\3\6", /* 7 */
		"\x18\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* 24 */
		"\x40\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* 64 */
		"\x20\x00\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* depth 0 */
		"\x20\x21\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* depth > bits */
		"\x20\x18\0\0\0\xff\0\xff\0\xff\x10\x08\0", /* colour map */
		"\x20\x18\0\1\0\0\0\xff\0\xff\x10\x08\0", /* maximum 0 */
		"\x20\x18\0\1\0\xff\0\xfe\0\xff\x10\x08\0", /* not 2^n - 1 */
		"\x20\x18\0\1\0\xff\0\xff\0\xff\xff\x08\0", /* shift 255 */
		"\x20\x18\0\1\0\xff\0\xff\0\xff\x19\x08\0", /* beyond the top */
		"\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\x08", /* overlap */
		"\x10\x10\0\1\0\xff\0\xff\0\xff\x10\x08\0", /* not in 16 bits */
	};

	for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_ready(b);

		set_format(v, formats[i]);
		CHECK(viewer_closed(v));
		viewer_free(v);
		bench_free(b);
	}
}

/* V-06: skipped without being kept; lengths that no text has end the connection. */
static void cut_text(void)
{
	static const uint32_t lengths[] = { 0,		1,	    5000, 1 << 20,
					    0x80000000, 0xffffffff, -4u,  (16 << 20) + 1 };
	static char text[1 << 20];

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct bench *b = bench_new(NULL, 4);
		struct viewer *v = viewer_ready(b);
		uint8_t m[8] = { RFB_CUT_TEXT };

		put_be32(m + 4, lengths[i]);
		viewer_send(v, m, sizeof(m));
		if (lengths[i] > 16 << 20) {
			CHECK(viewer_closed(v));
		} else {
			viewer_send(v, text, lengths[i]);
			viewer_request_all(v, false);
			viewer_update(v);
		}
		viewer_free(v);
		bench_free(b);
	}
}

static void unknown_messages(void)
{
	for (unsigned int type = 0; type < 256; type++) {
		struct bench *b;
		struct viewer *v;
		uint8_t m = (uint8_t)type;

		if (type == 0 || (type >= 2 && type <= 6) || type == 248 || type == 251 ||
		    type == 255)
			continue;
		b = bench_new(NULL, 4);
		v = viewer_ready(b);
		viewer_send(v, &m, 1);
		CHECK(viewer_closed(v));
		viewer_free(v);
		bench_free(b);
	}
}

/* V-09: the number of viewers and of handshakes is bounded; memory stays flat. */
static void too_many_connections(void)
{
	struct bench *b = bench_new(NULL, 2);
	struct viewer *one = viewer_ready(b), *two = viewer_ready(b), *v;
	struct sockaddr_storage from = { .ss_family = AF_UNIX };
	int fds[1000];
	char reason[80];

	v = viewer_new(b);
	viewer_version(v, "RFB 003.008\n");
	CHECK_EQ(viewer_recv_u16(v), 0x101);
	viewer_send(v, "\1", 1);
	CHECK_EQ(viewer_result(v, 8, reason, sizeof(reason)), 1);
	CHECK_STR(reason, "Too many viewers are connected");
	viewer_free(v);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
		int pair[2];

		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
		fds[i] = pair[0];
		CHECK(server_add(b->server, pair[1], &from));
		CHECK(b->server->handshakes <= SERVER_HANDSHAKES_MAX);
		if (i % 3 == 0)
			CHECK_EQ(send(pair[0], "RFB 003.0", 9, 0), 9);
		bench_step(b);
	}
	/* Who is in is not disturbed, and the place of one who leaves is free. */
	viewer_request_all(one, false);
	viewer_update(one);
	viewer_free(two);
	v = viewer_ready(b);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i]);
	bench_settle(b);
	CHECK_EQ(b->server->viewers, 2);
	CHECK_EQ(b->server->handshakes, 0);
	viewer_free(one);
	viewer_free(v);
	bench_free(b);
}

/* V-09: a connection that ends at any byte of a whole session. */
static void cut_at_every_byte(void)
{
	static const char session[] =
		"RFB 003.008\n\1\1"
		"\0\0\0\0\x10\x10\0\1\0\x1f\0\x3f\0\x1f\x0b\x05\0\0\0\0"
		"\2\0\0\4\0\0\0\x10\xff\xff\xfe\xfe\xff\xff\xff\x21\xff\xff\xfe\xcc"
		"\3\0\0\0\0\0\x03\x20\x02\x58"
		"\4\1\0\0\0\0\0\x61\5\1\0\1\0\1\6\0\0\0\0\0\0\3abc"
		"\xff\0\0\1\0\0\0\x61\0\0\0\x1e"
		"\xfb\0\1\0\1\0\1\0\0\0\0\0\0\0\0\0\1\0\1\0\0\0\0\0";

	for (size_t len = 0; len < sizeof(session); len++) {
		struct bench *b = bench_new(NULL, 2);
		struct viewer *v = viewer_new(b);

		viewer_send(v, session, len);
		bench_settle(b);
		shutdown(v->fd, SHUT_RDWR);
		viewer_free(v);
		bench_settle(b);
		CHECK_EQ(b->server->viewers, 0);
		CHECK_EQ(b->server->handshakes, 0);
		CHECK_EQ(b->clients, 0);
		bench_free(b);
	}
}

/* --- input --- */

struct key {
	uint16_t scancode;
	int down;
};

static void check_keys(struct bench *b, const struct key *want, size_t n)
{
	bench_settle(b);
	for (size_t i = 0; i < n && i < b->n_keys; i++) {
		CHECK_EQ(b->keys[i].scancode, want[i].scancode);
		CHECK_EQ(b->keys[i].down, want[i].down);
	}
	CHECK_EQ(b->n_keys, n);
	b->n_keys = 0;
}

#define CHECK_KEYS(b, ...)                                 \
	check_keys(b, (const struct key[]){ __VA_ARGS__ }, \
		   ARRAY_LEN(((const struct key[]){ __VA_ARGS__ })))

static void tap(struct viewer *v, uint32_t keysym)
{
	viewer_key(v, keysym, true);
	viewer_key(v, keysym, false);
}

static void keysyms(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	struct screen_msg_leds caps = { .hdr = { SCREEN_MSG_LEDS, sizeof(caps) }, .leds = 4 };

	tap(v, 'a');
	tap(v, 0xff0d);
	tap(v, 0xff54);
	CHECK_KEYS(b, { 0x1e, 1 }, { 0x1e, 0 }, { 0x1c, 1 }, { 0x1c, 0 }, { 0xe050, 1 },
		   { 0xe050, 0 });
	/* Shift held by the viewer, as it is. */
	viewer_key(v, 0xffe1, true);
	tap(v, 'A');
	tap(v, '!');
	viewer_key(v, 0xffe1, false);
	CHECK_KEYS(b, { 0x2a, 1 }, { 0x1e, 1 }, { 0x1e, 0 }, { 0x02, 1 }, { 0x02, 0 }, { 0x2a, 0 });
	/* A viewer that names the character only, or whose layout has it elsewhere. */
	tap(v, 'A');
	CHECK_KEYS(b, { 0x2a, 1 }, { 0x1e, 1 }, { 0x2a, 0 }, { 0x1e, 0 });
	viewer_key(v, 0xffe2, true);
	tap(v, '1');
	viewer_key(v, 0xffe2, false);
	CHECK_KEYS(b, { 0x36, 1 }, { 0x36, 0 }, { 0x02, 1 }, { 0x36, 1 }, { 0x02, 0 }, { 0x36, 0 });
	/* Caps Lock does for letters what Shift does. */
	CHECK_EQ(send(b->ctl, &caps, sizeof(caps), 0), sizeof(caps));
	bench_settle(b);
	tap(v, 'A');
	tap(v, '1');
	CHECK_KEYS(b, { 0x1e, 1 }, { 0x1e, 0 }, { 0x02, 1 }, { 0x02, 0 });
	viewer_free(v);
	bench_free(b);
}

/* Shift let go first: the release has another name than the press, and must not leave a key stuck. */
static void keysym_release_differs(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_key(v, 0xffe1, true);
	viewer_key(v, '"', true); /* Shift-2 on a German keyboard */
	viewer_key(v, 0xffe1, false);
	viewer_key(v, '2', false);
	CHECK_KEYS(b, { 0x2a, 1 }, { 0x28, 1 }, { 0x2a, 0 }, { 0x28, 0 });
	viewer_free(v);
	bench_free(b);
}

static void qemu_key(struct viewer *v, uint32_t keycode, bool down)
{
	uint8_t m[12] = { RFB_QEMU, 0, 0, down };

	put_be32(m + 8, keycode);
	viewer_send(v, m, sizeof(m));
}

static void qemu_keys(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	qemu_key(v, 0x1e, true);
	qemu_key(v, 0x1e, false);
	qemu_key(v, 0x9d, true);
	qemu_key(v, 0x9d, false);
	qemu_key(v, 0xc6, true);
	qemu_key(v, 0xc6, false);
	qemu_key(v, 0x54, true);
	qemu_key(v, 0x54, false);
	CHECK_KEYS(b, { 0x1e, 1 }, { 0x1e, 0 }, { 0xe01d, 1 }, { 0xe01d, 0 }, { 0xe11d, 1 },
		   { 0xe11d, 0 }, { 0xe037, 1 }, { 0xe037, 0 });
	qemu_key(v, 0, true);
	qemu_key(v, 0x80, true);
	qemu_key(v, 0x100, true);
	qemu_key(v, 0xffffffff, true);
	check_keys(b, NULL, 0);
	viewer_send(v, "\xff\1\0\0", 4); /* audio: never offered */
	CHECK(viewer_closed(v));
	viewer_free(v);
	bench_free(b);
}

/* V-11: unknown keysyms are ignored; nothing is ever sent that is no scancode. */
static void all_keysyms(void)
{
	struct keysym_key key;
	unsigned int known = 0;

	for (uint64_t k = 0; k <= 0xffffffff; k += k < 0x20000 ? 1 : 65521) {
		if (!keysym_find((uint32_t)k, &key))
			continue;
		known++;
		CHECK(k < 0x10000);
		CHECK(key_index(key.scancode) != 0);
		CHECK_EQ(key_from_index(key_index(key.scancode)), key.scancode);
	}
	CHECK(known > 95 + 60);
	for (unsigned int i = 1; i < KEY_INDEX_MAX; i++)
		CHECK_EQ(key_index(key_from_index(i)), i);
	for (uint32_t q = 0; q < 0x20000; q++)
		CHECK(keysym_from_qemu(q) == 0 || key_index(keysym_from_qemu(q)) != 0);
}

static void keys_released_on_leaving(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	uint8_t pointer[6] = { RFB_POINTER, 0xe5, 0, 7, 0, 9 };

	viewer_key(v, 0xffe3, true);
	qemu_key(v, 0xb8, true);
	viewer_key(v, 0xff13, true);
	viewer_send(v, pointer, sizeof(pointer));
	bench_settle(b);
	CHECK_EQ(b->pointer.x, 7);
	CHECK_EQ(b->pointer.y, 9);
	CHECK_EQ(b->pointer.buttons, 0x85);
	CHECK_EQ(b->n_keys, 3);
	b->n_keys = 0;
	viewer_free(v);
	CHECK_KEYS(b, { 0x1d, 0 }, { 0xe11d, 0 }, { 0xe038, 0 });
	CHECK_EQ(b->pointer.buttons, 0);
	CHECK_EQ(b->pointer.x, 7);
	bench_free(b);
}

/* V-11: khyve does not read while a viewer floods. Presses may be lost, a release never is; nothing grows. */
static void key_flood(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);
	uint64_t down[KEY_INDEX_MAX / 64] = { 0 };

	bench_settle(b);
	b->deaf = true;
	for (int i = 0; i < 5000; i++) {
		uint8_t pointer[6] = { RFB_POINTER, 0, (uint8_t)(i >> 8), (uint8_t)i, 0, 1 };

		viewer_key(v, 'a' + (unsigned int)i % 26, i / 26 % 2 == 0);
		viewer_send(v, pointer, sizeof(pointer));
	}
	viewer_free(v);
	bench_settle(b);
	b->deaf = false;
	bench_settle(b);
	CHECK(b->n_keys > 26 && b->n_keys < BENCH_LOG);
	for (unsigned int i = 0; i < b->n_keys; i++) {
		unsigned int k = key_index(b->keys[i].scancode);

		if (b->keys[i].down)
			down[k / 64] |= BIT64(k % 64);
		else
			down[k / 64] &= ~BIT64(k % 64);
	}
	for (size_t i = 0; i < ARRAY_LEN(down); i++)
		CHECK_EQ(down[i], 0);
	CHECK_EQ(b->pointer.x, 4999);
	CHECK_EQ(b->clients, 0);
	bench_free(b);
}

/* --- the link --- */

static void khyve_leaves(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v = viewer_ready(b);

	viewer_key(v, 'a', true);
	bench_settle(b);
	fd_close(&b->ctl);
	loop_run(b->loop); /* ends at once */
	CHECK(b->server->ended);
	CHECK_EQ(b->server->end_error, 0);
	viewer_free(v);
	bench_free(b);
}

static void khyve_talks_nonsense(void)
{
	struct screen_msg_frame f = { .hdr = { SCREEN_MSG_FRAME, sizeof(f) } };
	const struct {
		uint32_t type, size, sent;
	} cases[] = {
		{ SCREEN_MSG_FRAME, sizeof(f), sizeof(f) - 8 },
		{ SCREEN_MSG_FRAME, sizeof(f) - 8, sizeof(f) - 8 },
		{ SCREEN_MSG_KEY, 16, 16 },
		{ 0, 8, 8 },
		{ SCREEN_MSG_LEDS, 8, 8 },
		{ 1000, sizeof(f), sizeof(f) },
		{ SCREEN_MSG_LEDS, 4, 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct bench *b = bench_new(NULL, 4);

		f.hdr.type = cases[i].type;
		f.hdr.size = cases[i].size;
		CHECK_EQ(send(b->ctl, &f, cases[i].sent, 0), cases[i].sent);
		bench_settle(b);
		CHECK(b->server->ended);
		CHECK_EQ(b->server->end_error, -EPROTO);
		bench_free(b);
	}
}

/* khyve says nothing: the viewer gets the last known size after a moment, not never. */
static void khyve_silent(void)
{
	struct bench *b = bench_new(NULL, 4);
	struct viewer *v;

	b->mute = true;
	v = viewer_ready(b);
	CHECK_EQ(v->width, SCREEN_MIN_WIDTH);
	viewer_request_all(v, false);
	viewer_update(v);
	bench_advance(b, 60 * NS_PER_SEC);
	CHECK_EQ(b->refreshes, 1);
	viewer_free(v);
	bench_free(b);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "des_vectors", des_vectors },
		{ "handshakes", handshakes },
		{ "old_version_number_is_3_3", old_version_number_is_3_3 },
		{ "password_right", password_right },
		{ "password_long", password_long },
		{ "password_wrong", password_wrong },
		{ "password_guessing", password_guessing },
		{ "password_waits_do_not_time_out", password_waits_do_not_time_out },
		{ "version_garbage", version_garbage },
		{ "handshake_times_out", handshake_times_out },
		{ "handshake_dripping", handshake_dripping },
		{ "security_not_offered", security_not_offered },
		{ "old_viewer_needs_password", old_viewer_needs_password },
		{ "encodings_cut", encodings_cut },
		{ "pixel_format_nonsense", pixel_format_nonsense },
		{ "cut_text", cut_text },
		{ "unknown_messages", unknown_messages },
		{ "too_many_connections", too_many_connections },
		{ "cut_at_every_byte", cut_at_every_byte },
		{ "keysyms", keysyms },
		{ "keysym_release_differs", keysym_release_differs },
		{ "qemu_keys", qemu_keys },
		{ "all_keysyms", all_keysyms },
		{ "keys_released_on_leaving", keys_released_on_leaving },
		{ "key_flood", key_flood },
		{ "khyve_leaves", khyve_leaves },
		{ "khyve_talks_nonsense", khyve_talks_nonsense },
		{ "khyve_silent", khyve_silent },
	};

	return RUN_CASES(cases, argc, argv);
}
