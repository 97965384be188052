/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_UNIT_RFB_BENCH_H
#define TESTS_UNIT_RFB_BENCH_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <jpeglib.h>

#include "run.h"

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/des.h"
#include "cmd/khyve-vnc/rfb.h"
#include "cmd/khyve-vnc/server.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

/*
 * The real RFB server on a fake loop, with the two ends that it talks to: khyve's side of the link and viewers that
 * decode what they get. The clock moves only when nothing else can happen.
 */
#define BENCH __attribute__((unused)) static
#define BENCH_LOG 4096

struct bench {
	struct loop *loop;
	struct server *server;
	int memfd, ctl; /* khyve's end */
	uint8_t *vram;
	struct screen_msg_frame frame; /* the answer to the next REFRESH */
	bool mute; /* khyve answers nothing */
	bool deaf; /* khyve reads nothing */
	unsigned int refreshes, clients, client_reports;
	struct screen_msg_key keys[BENCH_LOG];
	unsigned int n_keys;
	struct screen_msg_pointer pointer;
	unsigned int n_pointers;
	int greedy[4]; /* viewers that read all and ask for the whole screen again, all the time */
	unsigned int n_greedy;
};

struct viewer {
	struct bench *b;
	int fd;
	unsigned int width, height;
	char name[SERVER_NAME_MAX + 1];
	unsigned int bytes_pp; /* of Raw and of CPIXEL in ZRLE, both little endian, blue lowest */
	unsigned int cpixel_bytes;
	bool tpixel; /* Tight has pixels of three bytes, 0xrrggbb in fb */
	uint32_t *fb; /* SCREEN_MAX_WIDTH pixels per line */
	z_stream z, tight, zlib;
	/* TLS, if there is any: as send() and recv() */
	void *tls;
	ssize_t (*tls_send)(void *tls, const void *data, size_t len);
	ssize_t (*tls_recv)(void *tls, void *data, size_t len);
	bool jpeg; /* may come; its pixels are 0xrrggbb in fb */
	unsigned int n_hextile, n_zlib, n_jpeg;
	unsigned int n_rects, n_raw, n_zrle, n_tight, n_size, n_ext_size, n_qemu, n_leds, leds;
	unsigned int ext_reason, ext_status;
	unsigned int n_cursor, n_name, n_buttons, n_ends, n_fences, n_requests;
	bool sulks; /* leaves fences unanswered */
	uint32_t fence_flags; /* of the last answer */
	uint8_t fence_len, fence[64];
	uint64_t received;
};

BENCH void bench_mode(struct bench *b, unsigned int width, unsigned int height)
{
	b->frame.width = width;
	b->frame.height = height;
	b->frame.stride = width * 4;
	b->frame.mode_serial++;
	memset(b->frame.dirty, 0xff, sizeof(b->frame.dirty));
}

BENCH struct bench *bench_new_tls(const char *password, unsigned int max_viewers, int tls_fd)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct server_config conf = { .password = password,
				      .tls_fd = tls_fd,
				      .name = "test guest",
				      .max_viewers = max_viewers };
	struct err err = { .text = "" };
	int pair[2];

	log_set(-1, LOG_LEVEL_ERROR);
	b->loop = loop_new(LOOP_FAKE, &err);
	CHECK(b->loop);
	b->memfd = fd_memfd("test", SCREEN_VRAM_SIZE);
	CHECK(b->memfd >= 0);
	b->vram = mmap(NULL, SCREEN_VRAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->memfd, 0);
	CHECK(b->vram != MAP_FAILED);
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	b->ctl = pair[0];
	conf.screen_fd = b->memfd;
	conf.ctl_fd = pair[1];
	b->server = calloc(1, sizeof(*b->server));
	CHECK_EQ(server_init(b->server, b->loop, &conf, &err), 0);
	b->frame.hdr = (struct screen_msg_hdr){ SCREEN_MSG_FRAME, sizeof(b->frame) };
	bench_mode(b, 800, 600);
	return b;
}

BENCH struct bench *bench_new(const char *password, unsigned int max_viewers)
{
	return bench_new_tls(password, max_viewers, -1);
}

BENCH void bench_free(struct bench *b)
{
	int ctl = b->server->link.watch.fd;

	server_fini(b->server);
	fd_close(&ctl);
	fd_close(&b->ctl);
	free(b->server);
	loop_free(b->loop);
	munmap(b->vram, SCREEN_VRAM_SIZE);
	fd_close(&b->memfd);
	free(b);
}

/* khyve's side of one message. False: there was none. */
BENCH bool bench_khyve(struct bench *b)
{
	union {
		struct screen_msg_hdr hdr;
		struct screen_msg_key key;
		struct screen_msg_pointer pointer;
		struct screen_msg_clients clients;
	} m;
	ssize_t n = b->deaf ? -1 : recv(b->ctl, &m, sizeof(m), MSG_DONTWAIT);

	if (n <= 0)
		return false;
	CHECK_EQ(m.hdr.size, n);
	switch (m.hdr.type) {
	case SCREEN_MSG_REFRESH:
		b->refreshes++;
		if (b->mute)
			break;
		CHECK_EQ(send(b->ctl, &b->frame, sizeof(b->frame), 0), sizeof(b->frame));
		memset(b->frame.dirty, 0, sizeof(b->frame.dirty));
		break;
	case SCREEN_MSG_KEY:
		if (b->n_keys < BENCH_LOG)
			b->keys[b->n_keys] = m.key;
		b->n_keys++;
		break;
	case SCREEN_MSG_POINTER:
		b->pointer = m.pointer;
		b->n_pointers++;
		break;
	case SCREEN_MSG_CLIENTS:
		b->clients = m.clients.count;
		b->client_reports++;
		break;
	default:
		CHECK_FAIL("message type %u", m.hdr.type);
	}
	return true;
}

BENCH int bench_greedy(struct bench *b)
{
	static const uint8_t request[10] = {
		RFB_UPDATE_REQUEST, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff
	};
	static char sink[1 << 20];
	int ran = 0;

	for (unsigned int i = 0; i < b->n_greedy; i++) {
		if (recv(b->greedy[i], sink, sizeof(sink), MSG_DONTWAIT) <= 0)
			continue;
		CHECK_EQ(send(b->greedy[i], request, sizeof(request), MSG_DONTWAIT),
			 sizeof(request));
		ran++;
	}
	return ran;
}

/* One step of everybody; returns what ran. */
BENCH int bench_step(struct bench *b)
{
	int ran = loop_step(b->loop, false) + bench_greedy(b);

	while (bench_khyve(b))
		ran++;
	return ran;
}

/* Until nothing happens without time going by. */
BENCH void bench_settle(struct bench *b)
{
	for (int quiet = 0, i = 0; quiet < 2; i++) {
		CHECK(i < 100000);
		quiet = bench_step(b) ? 0 : quiet + 1;
	}
}

BENCH void bench_advance(struct bench *b, uint64_t ns)
{
	bench_settle(b);
	loop_fake_advance(b->loop, ns);
	bench_settle(b);
}

BENCH void bench_dirty(struct bench *b, size_t start, size_t len)
{
	for (size_t p = start / 4096; p <= (start + len - 1) / 4096; p++)
		b->frame.dirty[p / 64] |= BIT64(p % 64);
}

BENCH void bench_pixel(struct bench *b, unsigned int x, unsigned int y, uint32_t rgb)
{
	size_t at = b->frame.offset + (size_t)y * b->frame.stride + x * 4;

	put_le32(b->vram + at, rgb);
	bench_dirty(b, at, 4);
}

BENCH void bench_fill(struct bench *b, struct rect r, uint32_t rgb)
{
	for (unsigned int y = r.y; y < r.y + r.h; y++)
		for (unsigned int x = r.x; x < r.x + r.w; x++)
			bench_pixel(b, x, y, rgb);
}

/* kind 0: noise, 1: few colours, 2: long runs, 3: gradients, 4: text-like. With garbage in the unused byte. */
BENCH void bench_picture(struct bench *b, unsigned int kind)
{
	uint32_t seed = 12345 + kind;

	for (unsigned int y = 0; y < b->frame.height; y++) {
		for (unsigned int x = 0; x < b->frame.width; x++) {
			uint32_t rgb;

			seed = seed * 1664525 + 1013904223;
			rgb = seed;
			if (kind == 1)
				rgb = (seed >> 24) % 13 * 0x10203;
			else if (kind == 2)
				rgb = (x / 300 + y / 3) * 0x314159;
			else if (kind == 3)
				rgb = x << 16 | y << 8 | (x + y);
			else if (kind == 4)
				rgb = (seed >> 30 ? 0xffffff : 0) | 0xab000000;
			bench_pixel(b, x, y, rgb);
		}
	}
}

/* --- a viewer --- */

BENCH struct viewer *viewer_new(struct bench *b)
{
	struct sockaddr_storage from = { .ss_family = AF_UNIX };
	struct viewer *v = calloc(1, sizeof(*v));
	int pair[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	v->b = b;
	v->fd = pair[0];
	v->bytes_pp = 4;
	v->cpixel_bytes = 3;
	v->tpixel = true;
	v->fb = calloc(SCREEN_MAX_WIDTH * SCREEN_MAX_HEIGHT, 4);
	CHECK_EQ(inflateInit(&v->z), Z_OK);
	CHECK_EQ(inflateInit(&v->tight), Z_OK);
	CHECK_EQ(inflateInit(&v->zlib), Z_OK);
	CHECK(server_add(b->server, pair[1], &from));
	return v;
}

BENCH void viewer_free(struct viewer *v)
{
	fd_close(&v->fd);
	inflateEnd(&v->z);
	inflateEnd(&v->tight);
	inflateEnd(&v->zlib);
	free(v->fb);
	free(v);
}

BENCH void viewer_send(struct viewer *v, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		const char *p = (const char *)data + done;
		ssize_t n = v->tls ? v->tls_send(v->tls, p, len - done)
				   : send(v->fd, p, len - done, MSG_NOSIGNAL);

		CHECK(n > 0 || errno == EAGAIN);
		done += n > 0 ? (size_t)n : 0;
		bench_step(v->b);
	}
}

/* True: len bytes. False: the server closed the connection before. */
BENCH bool viewer_try_recv(struct viewer *v, void *data, size_t len)
{
	int idle = 0;

	for (size_t done = 0; done < len;) {
		char *p = (char *)data + done;
		ssize_t n = v->tls ? v->tls_recv(v->tls, p, len - done)
				   : recv(v->fd, p, len - done, MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return false;
		if (n > 0) {
			done += (size_t)n;
			v->received += (size_t)n;
			idle = 0;
			continue;
		}
		if (bench_step(v->b) == 0) {
			loop_fake_advance(v->b->loop, NS_PER_MS);
			CHECK(++idle < 60000);
		}
	}
	return true;
}

BENCH void viewer_recv(struct viewer *v, void *data, size_t len)
{
	CHECK(viewer_try_recv(v, data, len));
}

BENCH unsigned int viewer_recv_u8(struct viewer *v)
{
	uint8_t b;

	viewer_recv(v, &b, 1);
	return b;
}

BENCH unsigned int viewer_recv_u16(struct viewer *v)
{
	uint8_t b[2];

	viewer_recv(v, b, 2);
	return get_be16(b);
}

BENCH uint32_t viewer_recv_u32(struct viewer *v)
{
	uint8_t b[4];

	viewer_recv(v, b, 4);
	return get_be32(b);
}

/* True once the server has closed the connection. */
BENCH bool viewer_closed(struct viewer *v)
{
	char b;
	ssize_t n;

	bench_settle(v->b);
	do
		n = recv(v->fd, &b, 1, MSG_DONTWAIT);
	while (n > 0);
	return n == 0 || errno != EAGAIN;
}

BENCH void viewer_version(struct viewer *v, const char *version)
{
	char hello[13] = "";

	viewer_recv(v, hello, 12);
	CHECK_STR(hello, "RFB 003.008\n");
	viewer_send(v, version, strlen(version));
}

/* The security result, with the reason that 3.8 gives. */
BENCH uint32_t viewer_result(struct viewer *v, unsigned int minor, char *reason, size_t size)
{
	uint32_t result = viewer_recv_u32(v), len;

	reason[0] = '\0';
	if (result == 0 || minor < 8)
		return result;
	len = viewer_recv_u32(v);
	CHECK(len < size);
	viewer_recv(v, reason, len);
	reason[len] = '\0';
	return result;
}

BENCH void viewer_answer(struct viewer *v, const char *password)
{
	uint8_t challenge[16], answer[16], key[8] = { 0 };

	viewer_recv(v, challenge, 16);
	for (size_t i = 0; i < 8 && password[i]; i++)
		for (int bit = 0; bit < 8; bit++)
			key[i] |= (uint8_t)(((unsigned char)password[i] >> bit & 1) << (7 - bit));
	des_encrypt_block(key, challenge, answer);
	des_encrypt_block(key, challenge + 8, answer + 8);
	viewer_send(v, answer, 16);
}

BENCH void viewer_name(struct viewer *v)
{
	uint32_t len = viewer_recv_u32(v);

	CHECK(len <= SERVER_NAME_MAX);
	memset(v->name, 0, sizeof(v->name));
	viewer_recv(v, v->name, len);
}

BENCH void viewer_init(struct viewer *v)
{
	uint8_t format[16];

	viewer_send(v, "\1", 1);
	v->width = viewer_recv_u16(v);
	v->height = viewer_recv_u16(v);
	viewer_recv(v, format, 16);
	CHECK(memcmp(format, "\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0", 13) == 0);
	viewer_name(v);
}

/* Up to ServerInit. password NULL: security type None. */
BENCH void viewer_handshake(struct viewer *v, unsigned int minor, const char *password)
{
	unsigned int type = password ? RFB_SECURITY_VNC : RFB_SECURITY_NONE;
	char version[13], reason[80];

	snprintf(version, sizeof(version), "RFB 003.%03u\n", minor);
	viewer_version(v, version);
	if (minor == 3) {
		CHECK_EQ(viewer_recv_u32(v), type);
	} else {
		uint8_t choice = (uint8_t)type;

		CHECK_EQ(viewer_recv_u8(v), 1);
		CHECK_EQ(viewer_recv_u8(v), type);
		viewer_send(v, &choice, 1);
	}
	if (password)
		viewer_answer(v, password);
	if (password || minor >= 8)
		CHECK_EQ(viewer_result(v, minor, reason, sizeof(reason)), 0);
	viewer_init(v);
}

BENCH struct viewer *viewer_ready(struct bench *b)
{
	struct viewer *v = viewer_new(b);

	viewer_handshake(v, 8, NULL);
	return v;
}

BENCH void viewer_encodings(struct viewer *v, const int32_t *list, size_t n)
{
	uint8_t m[4 + 4 * 32] = { RFB_SET_ENCODINGS };

	put_be16(m + 2, (uint16_t)n);
	for (size_t i = 0; i < n; i++)
		put_be32(m + 4 + 4 * i, (uint32_t)list[i]);
	viewer_send(v, m, 4 + 4 * n);
}

BENCH void viewer_request(struct viewer *v, bool incremental, struct rect r)
{
	uint8_t m[10] = { RFB_UPDATE_REQUEST, incremental };

	put_be16(m + 2, (uint16_t)r.x);
	put_be16(m + 4, (uint16_t)r.y);
	put_be16(m + 6, (uint16_t)r.w);
	put_be16(m + 8, (uint16_t)r.h);
	viewer_send(v, m, sizeof(m));
}

BENCH void viewer_request_all(struct viewer *v, bool incremental)
{
	viewer_request(v, incremental, (struct rect){ .w = v->width, .h = v->height });
}

BENCH void viewer_key(struct viewer *v, uint32_t keysym, bool down)
{
	uint8_t m[8] = { RFB_KEY, down };

	put_be32(m + 4, keysym);
	viewer_send(v, m, sizeof(m));
}

BENCH uint32_t pixel_at(const struct viewer *v, const uint8_t *p)
{
	uint32_t px = 0;

	for (unsigned int i = 0; i < v->bytes_pp; i++)
		px |= (uint32_t)p[i] << (8 * i);
	return px;
}

BENCH void viewer_pixels_raw(struct viewer *v, struct rect r)
{
	uint8_t line[SCREEN_MAX_WIDTH * 4];

	for (unsigned int y = r.y; y < r.y + r.h; y++) {
		viewer_recv(v, line, (size_t)r.w * v->bytes_pp);
		for (unsigned int i = 0; i < r.w; i++)
			v->fb[y * SCREEN_MAX_WIDTH + r.x + i] =
				pixel_at(v, line + (size_t)i * v->bytes_pp);
	}
}

BENCH void viewer_pixels_zlib(struct viewer *v, struct rect r)
{
	size_t len = viewer_recv_u32(v), room = (size_t)r.w * r.h * v->bytes_pp;
	uint8_t *packed = malloc(len), *plain = malloc(room);

	viewer_recv(v, packed, len);
	v->zlib.next_in = packed;
	v->zlib.avail_in = (uInt)len;
	v->zlib.next_out = plain;
	v->zlib.avail_out = (uInt)room;
	CHECK_EQ(inflate(&v->zlib, Z_SYNC_FLUSH), Z_OK);
	CHECK_EQ(v->zlib.avail_in, 0);
	CHECK_EQ(v->zlib.avail_out, 0);
	for (unsigned int i = 0; i < r.w * r.h; i++)
		v->fb[(r.y + i / r.w) * SCREEN_MAX_WIDTH + r.x + i % r.w] =
			pixel_at(v, plain + (size_t)i * v->bytes_pp);
	free(packed);
	free(plain);
}

BENCH uint32_t viewer_recv_pixel(struct viewer *v)
{
	uint8_t b[4];

	viewer_recv(v, b, v->bytes_pp);
	return pixel_at(v, b);
}

BENCH void viewer_fill(struct viewer *v, struct rect r, uint32_t px)
{
	for (unsigned int i = 0; i < r.w * r.h; i++)
		v->fb[(r.y + i / r.w) * SCREEN_MAX_WIDTH + r.x + i % r.w] = px;
}

/* RFC 6143 s7.7.4. What one tile hands on is checked to be allowed. */
BENCH void viewer_pixels_hextile(struct viewer *v, struct rect r)
{
	uint32_t bg = 0, fg = 0;
	bool bg_known = false, fg_known = false;

	for (unsigned int i = 0, cols = (r.w + 15) / 16; i < cols * ((r.h + 15) / 16); i++) {
		struct rect t = { r.x + i % cols * 16, r.y + i / cols * 16, 16, 16 };
		unsigned int sub = viewer_recv_u8(v), n;

		rect_clip(&t, &r);
		CHECK(sub < 32);
		if (sub & 1) {
			viewer_pixels_raw(v, t);
			bg_known = fg_known = false;
			continue;
		}
		if (sub & 2)
			bg = viewer_recv_pixel(v);
		if (sub & 4)
			fg = viewer_recv_pixel(v);
		bg_known |= sub & 2;
		fg_known |= sub & 4;
		CHECK(bg_known && !((sub & 4) && (sub & 16)));
		viewer_fill(v, t, bg);
		n = sub & 8 ? viewer_recv_u8(v) : 0;
		CHECK(n > 0 || !(sub & 8));
		CHECK(!n || sub & 16 || fg_known);
		while (n--) {
			uint32_t px = sub & 16 ? viewer_recv_pixel(v) : fg;
			unsigned int xy = viewer_recv_u8(v), wh = viewer_recv_u8(v);
			struct rect s = { xy >> 4, xy & 15, (wh >> 4) + 1, (wh & 15) + 1 };

			CHECK(s.x + s.w <= t.w && s.y + s.h <= t.h);
			s.x += t.x;
			s.y += t.y;
			viewer_fill(v, s, px);
		}
		if (sub & 16)
			fg_known = false;
	}
}

struct zrle_in {
	const uint8_t *p, *end;
	unsigned int cpixel_bytes;
};

BENCH unsigned int zrle_u8(struct zrle_in *in)
{
	CHECK(in->p < in->end);
	return *in->p++;
}

BENCH uint32_t zrle_cpixel(struct zrle_in *in)
{
	uint32_t v = 0;

	for (unsigned int i = 0; i < in->cpixel_bytes; i++)
		v |= zrle_u8(in) << (8 * i);
	return v;
}

BENCH unsigned int zrle_length(struct zrle_in *in)
{
	unsigned int n = 1, b;

	do {
		b = zrle_u8(in);
		n += b;
	} while (b == 255);
	return n;
}

/* The pixels of one tile, w x h, RFC 6143 s7.7.6. */
BENCH void zrle_tile(struct zrle_in *in, uint32_t *px, unsigned int w, unsigned int h)
{
	unsigned int sub = zrle_u8(in), n = sub & 0x7f, done = 0;
	unsigned int bits = n <= 2 ? 1 : n <= 4 ? 2 : 4;
	uint32_t pal[128] = { 0 };

	CHECK(sub <= 16 || sub == 128 || sub >= 130);
	for (unsigned int i = 0; i < n; i++)
		pal[i] = zrle_cpixel(in);
	while (done < w * h) {
		unsigned int len = 1, i;

		if (sub == 0) {
			px[done++] = zrle_cpixel(in);
		} else if (sub == 1) {
			px[done++] = pal[0];
		} else if (sub <= 16) { /* one line */
			for (i = 0; i < w; i++)
				px[done++] = pal[in->p[i * bits / 8] >> (8 - bits - i * bits % 8) &
						 ((1u << bits) - 1)];
			in->p += (w * bits + 7) / 8;
			CHECK(in->p <= in->end);
		} else {
			uint32_t rgb;

			i = sub == 128 ? 0x80 : zrle_u8(in);
			rgb = sub == 128 ? zrle_cpixel(in) : pal[i & 0x7f];
			if (i & 0x80)
				len = zrle_length(in);
			CHECK(done + len <= w * h);
			while (len--)
				px[done++] = rgb;
		}
	}
}

BENCH void viewer_pixels_zrle(struct viewer *v, struct rect r)
{
	size_t len = viewer_recv_u32(v), room = (size_t)r.w * r.h * 4 + 65536;
	uint8_t *packed = malloc(len), *plain = malloc(room);
	struct zrle_in in = { .p = plain, .cpixel_bytes = v->cpixel_bytes };

	viewer_recv(v, packed, len);
	v->z.next_in = packed;
	v->z.avail_in = (uInt)len;
	v->z.next_out = plain;
	v->z.avail_out = (uInt)room;
	CHECK_EQ(inflate(&v->z, Z_SYNC_FLUSH), Z_OK);
	CHECK_EQ(v->z.avail_in, 0);
	in.end = v->z.next_out;
	for (unsigned int y = r.y; y < r.y + r.h; y += 64) {
		for (unsigned int x = r.x; x < r.x + r.w; x += 64) {
			unsigned int w = MIN(64u, r.x + r.w - x), h = MIN(64u, r.y + r.h - y);
			uint32_t px[64 * 64];

			zrle_tile(&in, px, w, h);
			for (unsigned int i = 0; i < w * h; i++)
				v->fb[(y + i / w) * SCREEN_MAX_WIDTH + x + i % w] = px[i];
		}
	}
	CHECK(in.p == in.end);
	free(packed);
	free(plain);
}

BENCH uint32_t tight_pixel(const struct viewer *v, const uint8_t **p)
{
	uint32_t px = 0;
	unsigned int n = v->tpixel ? 3 : v->bytes_pp;

	for (unsigned int i = 0; i < n; i++)
		px |= (uint32_t)(*p)[i] << 8 * (v->tpixel ? 2 - i : i);
	*p += n;
	return px;
}

BENCH size_t tight_length(struct viewer *v)
{
	uint8_t byte = 0x80;
	size_t len = 0;

	for (unsigned int shift = 0; shift < 21 && byte & 0x80; shift += 7) {
		byte = (uint8_t)viewer_recv_u8(v);
		len |= (size_t)(byte & (shift < 14 ? 0x7f : 0xff)) << shift;
	}
	return len;
}

BENCH void viewer_pixels_jpeg(struct viewer *v, struct rect r)
{
	size_t len = tight_length(v);
	uint8_t *data = malloc(len);
	struct jpeg_decompress_struct d;
	struct jpeg_error_mgr errors;

	CHECK(v->jpeg && v->bytes_pp > 1);
	viewer_recv(v, data, len);
	d.err = jpeg_std_error(&errors); /* which ends the program */
	jpeg_create_decompress(&d);
	jpeg_mem_src(&d, data, len);
	CHECK_EQ(jpeg_read_header(&d, TRUE), JPEG_HEADER_OK);
	d.out_color_space = JCS_EXT_BGRX;
	jpeg_start_decompress(&d);
	CHECK(d.output_width == r.w && d.output_height == r.h);
	while (d.output_scanline < r.h) {
		uint32_t *px = &v->fb[(r.y + d.output_scanline) * SCREEN_MAX_WIDTH + r.x];
		JSAMPROW row = (JSAMPROW)px;

		jpeg_read_scanlines(&d, &row, 1);
		for (unsigned int i = 0; i < r.w; i++)
			px[i] &= 0xffffff;
	}
	jpeg_finish_decompress(&d);
	jpeg_destroy_decompress(&d);
	free(data);
	v->n_jpeg++;
}

/* len bytes of pixels or indexes, compressed or not (rfbproto 7.7.7). */
BENCH void tight_data(struct viewer *v, uint8_t *plain, size_t len)
{
	size_t packed_len;
	uint8_t *packed;

	if (len < 12) {
		viewer_recv(v, plain, len);
		return;
	}
	packed_len = tight_length(v);
	packed = malloc(packed_len + 1);
	viewer_recv(v, packed, packed_len);
	v->tight.next_in = packed;
	v->tight.avail_in = (uInt)packed_len;
	v->tight.next_out = plain;
	v->tight.avail_out = (uInt)len;
	CHECK_EQ(inflate(&v->tight, Z_SYNC_FLUSH), Z_OK);
	CHECK_EQ(v->tight.avail_in, 0);
	CHECK_EQ(v->tight.avail_out, 0);
	free(packed);
}

BENCH void viewer_pixels_tight(struct viewer *v, struct rect r)
{
	unsigned int control = viewer_recv_u8(v), size = v->tpixel ? 3 : v->bytes_pp, n = 0;
	size_t line = (size_t)r.w * size;
	uint8_t *plain = malloc(line * r.h + 1024);
	uint8_t colours[256 * 4];
	uint32_t palette[256] = { 0 };
	const uint8_t *p = colours, *row = plain;

	if (control == 0x90) {
		free(plain);
		viewer_pixels_jpeg(v, r);
		return;
	}
	if (control == 0x80)
		n = 1;
	else if (control == 0x40) {
		CHECK_EQ(viewer_recv_u8(v), 1);
		n = viewer_recv_u8(v) + 1;
		CHECK(n > 1);
		line = n == 2 ? (r.w + 7) / 8 : r.w;
	} else {
		CHECK_EQ(control, 0);
	}
	viewer_recv(v, colours, (size_t)n * size);
	for (unsigned int i = 0; i < n; i++)
		palette[i] = tight_pixel(v, &p);
	if (n != 1)
		tight_data(v, plain, line * r.h);
	for (unsigned int y = 0; y < r.h; y++, row += line) {
		p = row;
		for (unsigned int x = 0; x < r.w; x++) {
			uint32_t *px = &v->fb[(r.y + y) * SCREEN_MAX_WIDTH + r.x + x];

			if (n == 0)
				*px = tight_pixel(v, &p);
			else if (n == 1)
				*px = palette[0];
			else
				*px = palette[n == 2 ? row[x / 8] >> (7 - x % 8) & 1 : row[x]];
		}
	}
	free(plain);
}

BENCH void viewer_ext_size(struct viewer *v, struct rect r)
{
	uint8_t screens[20];

	viewer_recv(v, screens, sizeof(screens));
	CHECK_EQ(screens[0], 1);
	CHECK_EQ(get_be16(screens + 12), r.w);
	CHECK_EQ(get_be16(screens + 14), r.h);
	v->n_ext_size++;
	v->ext_reason = r.x;
	v->ext_status = r.y;
	v->width = r.w;
	v->height = r.h;
}

/* False: no encoding of pixels. */
BENCH bool viewer_pixels(struct viewer *v, struct rect r, int32_t encoding)
{
	if (encoding < 0)
		return false;
	CHECK(r.w > 0 && r.h > 0 && r.x + r.w <= v->width && r.y + r.h <= v->height);
	switch (encoding) {
	case RFB_ENC_RAW:
		v->n_raw++;
		viewer_pixels_raw(v, r);
		return true;
	case RFB_ENC_HEXTILE:
		v->n_hextile++;
		viewer_pixels_hextile(v, r);
		return true;
	case RFB_ENC_ZLIB:
		v->n_zlib++;
		viewer_pixels_zlib(v, r);
		return true;
	case RFB_ENC_TIGHT:
		v->n_tight++;
		viewer_pixels_tight(v, r);
		return true;
	case RFB_ENC_ZRLE:
		v->n_zrle++;
		viewer_pixels_zrle(v, r);
		return true;
	default:
		return false;
	}
}

BENCH void viewer_rect(struct viewer *v)
{
	struct rect r;
	int32_t encoding;

	r.x = viewer_recv_u16(v);
	r.y = viewer_recv_u16(v);
	r.w = viewer_recv_u16(v);
	r.h = viewer_recv_u16(v);
	encoding = (int32_t)viewer_recv_u32(v);
	v->n_rects++;
	if (viewer_pixels(v, r, encoding))
		return;
	switch (encoding) {
	case RFB_ENC_DESKTOP_SIZE:
		v->n_size++;
		v->width = r.w;
		v->height = r.h;
		break;
	case RFB_ENC_EXT_DESKTOP_SIZE:
		viewer_ext_size(v, r);
		break;
	case RFB_ENC_QEMU_KEYS:
		v->n_qemu++;
		break;
	case RFB_ENC_CURSOR:
		CHECK(r.w == 0 && r.h == 0);
		v->n_cursor++;
		break;
	case RFB_ENC_DESKTOP_NAME:
		viewer_name(v);
		v->n_name++;
		break;
	case RFB_ENC_EXT_BUTTONS:
		v->n_buttons++;
		break;
	case RFB_ENC_QEMU_LEDS:
		v->leds = viewer_recv_u8(v);
		v->n_leds++;
		break;
	default:
		CHECK_FAIL("encoding %d", encoding);
	}
}

/* A request is answered; an answer is kept. */
BENCH void viewer_fence(struct viewer *v)
{
	uint8_t m[9 + 64] = { RFB_FENCE };

	viewer_recv(v, m + 1, 8);
	CHECK(m[8] <= 64);
	viewer_recv(v, m + 9, m[8]);
	if (get_be32(m + 4) & RFB_FENCE_REQUEST) {
		v->n_requests++;
		put_be32(m + 4, get_be32(m + 4) & 7);
		if (!v->sulks)
			viewer_send(v, m, 9 + m[8]);
		return;
	}
	v->n_fences++;
	v->fence_flags = get_be32(m + 4);
	v->fence_len = m[8];
	memcpy(v->fence, m + 9, m[8]);
}

/* Takes one message in; returns its type. */
BENCH unsigned int viewer_message(struct viewer *v)
{
	unsigned int type = viewer_recv_u8(v), n;

	switch (type) {
	case RFB_FRAMEBUFFER_UPDATE:
		viewer_recv_u8(v);
		n = viewer_recv_u16(v);
		v->n_rects = 0;
		CHECK(n > 0);
		while (n--)
			viewer_rect(v);
		break;
	case RFB_FENCE:
		viewer_fence(v);
		break;
	case RFB_CONTINUOUS_UPDATES:
		v->n_ends++;
		break;
	default:
		CHECK_FAIL("message %u", type);
	}
	return type;
}

/* Waits for one update and takes it in, and all other messages before it. */
BENCH void viewer_update(struct viewer *v)
{
	while (viewer_message(v) != RFB_FRAMEBUFFER_UPDATE)
		;
}

/* No byte comes for a while. */
BENCH bool viewer_quiet(struct viewer *v)
{
	char b;

	bench_advance(v->b, NS_PER_SEC);
	return recv(v->fd, &b, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

/* Asks for the whole screen as it is after a moment, and gets it. */
BENCH void viewer_refresh(struct viewer *v)
{
	bench_advance(v->b, 20 * NS_PER_MS);
	viewer_request_all(v, false);
	viewer_update(v);
}

/* Whether the viewer sees what the guest drew: true colour 8:8:8 formats. */
BENCH bool viewer_sees_screen(const struct viewer *v)
{
	const struct bench *b = v->b;

	for (unsigned int y = 0; y < b->frame.height; y++) {
		for (unsigned int x = 0; x < b->frame.width; x++) {
			uint32_t want = get_le32(b->vram + b->frame.offset +
						 (size_t)y * b->frame.stride + x * 4);

			if (v->fb[y * SCREEN_MAX_WIDTH + x] != (want & 0xffffff))
				return false;
		}
	}
	return true;
}

#endif
