/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/*
 * Fuzzes the RFB server: what viewers send, how they come, read and go, and what khyve says, in any order, on a fake
 * loop. The first byte chooses whether there is a password; then come operations, one byte and its arguments each.
 */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/rfb.h"
#include "cmd/khyve-vnc/server.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"

#define VIEWERS 3

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	const uint8_t *p;
	size_t left;
	struct loop *loop;
	struct server *server;
	int memfd, ctl, server_ctl;
	uint8_t *vram;
	bool drawn;
	struct screen_msg_frame frame;
	int viewers[VIEWERS];
};

static uint8_t take(struct fuzz *f)
{
	if (!f->left)
		return 0;
	f->left--;
	return *f->p++;
}

static uint16_t take16(struct fuzz *f)
{
	uint16_t high = take(f);

	return (uint16_t)(high << 8 | take(f));
}

/* False: there was nothing to answer. */
static bool answer_refresh(struct fuzz *f)
{
	uint64_t m[16];
	bool any = false;

	while (recv(f->ctl, m, sizeof(m), MSG_DONTWAIT) > 0) {
		if (((struct screen_msg_hdr *)m)->type != SCREEN_MSG_REFRESH)
			continue;
		send(f->ctl, &f->frame, sizeof(f->frame), MSG_DONTWAIT | MSG_NOSIGNAL);
		memset(f->frame.dirty, 0, sizeof(f->frame.dirty));
		any = true;
	}
	return any;
}

static void step(struct fuzz *f, int n)
{
	for (int i = 0; i < n; i++) {
		int ran = loop_step(f->loop, false);

		if (!answer_refresh(f) && !ran)
			break;
	}
}

static void drain(struct fuzz *f, int viewer)
{
	static char sink[65536];

	for (int i = 0; i < 20 && recv(viewer, sink, sizeof(sink), MSG_DONTWAIT) > 0; i++)
		step(f, 2);
}

static void connect_viewer(struct fuzz *f, int *viewer)
{
	struct sockaddr_storage from = { .ss_family = AF_UNIX };
	int pair[2], rc;

	fd_close(viewer);
	rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair);
	assert(rc == 0);
	*viewer = pair[0];
	server_add(f->server, pair[1], &from);
}

/* As far as a viewer gets that knows its way. */
static void handshake(struct fuzz *f, int *viewer)
{
	connect_viewer(f, viewer);
	send(*viewer, "RFB 003.008\n\1\1", 14, MSG_DONTWAIT | MSG_NOSIGNAL);
	step(f, 6);
	loop_fake_advance(f->loop, 20 * NS_PER_MS);
	step(f, 6);
	drain(f, *viewer);
}

static void set_mode(struct fuzz *f)
{
	uint8_t kind = take(f);

	f->frame.width = take16(f) & (kind & 1 ? 0xffff : 0x1ff);
	f->frame.height = take16(f) & (kind & 1 ? 0xffff : 0x1ff);
	f->frame.stride = f->frame.width * 4 + (kind & 2 ? take16(f) : 0);
	f->frame.offset = kind & 4 ? (uint32_t)take16(f) << 10 : 0;
	f->frame.mode_serial += kind >> 7;
	f->frame.dirty[0] |= UINT64_MAX;
}

static void draw(struct fuzz *f)
{
	uint32_t at = (uint32_t)take16(f) << 4, n = take(f);

	f->drawn = true;
	for (uint32_t i = 0; i < n; i++)
		f->vram[at + i * 5] = (uint8_t)(f->left ? f->p[0] + i * i : i);
	f->frame.dirty[at / 4096 / 64] |= BIT64(at / 4096 % 64);
}

static void send_bytes(struct fuzz *f, int viewer)
{
	size_t n = take(f);

	n = MIN(n, f->left);
	send(viewer, f->p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	f->p += n;
	f->left -= n;
	step(f, 2);
}

static size_t known_encodings(struct fuzz *f, uint8_t *m)
{
	static const int32_t known[] = { RFB_ENC_RAW,
					 RFB_ENC_HEXTILE,
					 RFB_ENC_ZLIB,
					 RFB_ENC_TIGHT,
					 RFB_ENC_ZRLE,
					 RFB_ENC_DESKTOP_SIZE,
					 RFB_ENC_CURSOR,
					 RFB_ENC_QEMU_KEYS,
					 RFB_ENC_QEMU_LEDS,
					 RFB_ENC_FENCE,
					 RFB_ENC_CONTINUOUS_UPDATES,
					 RFB_ENC_EXT_BUTTONS,
					 RFB_ENC_EXT_DESKTOP_SIZE,
					 RFB_ENC_DESKTOP_NAME };
	uint8_t n = take(f) % 8;

	put_be16(m + 2, n);
	for (uint8_t i = 0; i < n; i++) {
		uint8_t which = take(f);

		put_be32(m + 4 + 4 * i, which & 0x80
						? (uint32_t)(RFB_ENC_QUALITY_WORST + which % 10)
						: (uint32_t)known[which % ARRAY_LEN(known)]);
	}
	return 4u + 4u * n;
}

/* A message that a viewer may send, with arguments that may be wrong. */
static void send_known(struct fuzz *f, int viewer)
{
	static const uint8_t formats[][13] = { "\x20\x18\0\1\0\xff\0\xff\0\xff\x10\x08\0",
					       "\x10\x10\1\1\0\x1f\0\x3f\0\x1f\x0b\x05\0",
					       "\x08\x08\0\1\0\7\0\7\0\3\0\3\6" };
	static const uint8_t types[] = { RFB_SET_PIXEL_FORMAT,	 RFB_SET_ENCODINGS,
					 RFB_UPDATE_REQUEST,	 RFB_POINTER,
					 RFB_CONTINUOUS_UPDATES, RFB_FENCE };
	static const size_t sizes[] = { 20, 0, 10, 7, 10, 9 };
	uint8_t m[128] = { 0 }, kind = take(f), which = kind % ARRAY_LEN(types);
	size_t len = sizes[which];

	m[0] = types[which];
	if (m[0] == RFB_SET_PIXEL_FORMAT) {
		memcpy(m + 4, formats[kind / 8 % 3], 13);
	} else if (m[0] == RFB_SET_ENCODINGS) {
		len = known_encodings(f, m);
	} else if (m[0] == RFB_FENCE) {
		m[4] = kind & 0x80;
		m[7] = take(f) & 7;
		m[8] = take(f) % 65;
		len += m[8];
	} else {
		m[1] = take(f);
		put_be16(m + 6, kind & 0x80 ? take16(f) : 0xffff);
		put_be16(m + 8, kind & 0x80 ? take16(f) : 0xffff);
	}
	send(viewer, m, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	step(f, 2);
}

static void operation(struct fuzz *f)
{
	uint8_t op = take(f);
	int *viewer = &f->viewers[op >> 4 & 3 ? (op >> 4 & 3) - 1 : 0];
	struct screen_msg_leds leds = { .hdr = { SCREEN_MSG_LEDS, sizeof(leds) }, .leds = op };

	switch (op & 0xf) {
	case 0:
		connect_viewer(f, viewer);
		break;
	case 1:
		handshake(f, viewer);
		break;
	case 2:
		fd_close(viewer);
		break;
	case 3:
		drain(f, *viewer);
		break;
	case 4:
		set_mode(f);
		break;
	case 5:
		loop_fake_advance(f->loop, NS_PER_MS << (take(f) & 15));
		break;
	case 6:
		draw(f);
		break;
	case 7:
		send(f->ctl, &leds, sizeof(leds), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 8:
	case 9:
	case 10:
		send_known(f, *viewer);
		break;
	default:
		send_bytes(f, *viewer);
	}
	step(f, 1);
}

/* What must hold whatever happens. */
static void check(const struct fuzz *f)
{
	const struct server *s = f->server;
	unsigned int viewers = 0, handshakes = 0;
	const struct client *c;

	list_for_each(c, &s->clients, link) {
		viewers += c->viewer;
		handshakes += !c->viewer;
		assert(c->out_start + c->out_len <= sizeof(c->out));
		assert(c->flow.unanswered <= FLOW_FENCES);
		assert(c->width <= SCREEN_MAX_WIDTH && c->height <= SCREEN_MAX_HEIGHT);
	}
	assert(viewers == s->viewers && viewers <= s->max_viewers);
	assert(handshakes == s->handshakes && handshakes <= SERVER_HANDSHAKES_MAX);
}

#define DRAWN (2 * MIB) /* what draw() reaches, rounded up */

/* One video memory for all inputs: its pages take longer to get than an input to run. */
static void get_vram(struct fuzz *f)
{
	static int fd = -1;
	static uint8_t *vram;

	if (fd < 0) {
		fd = fd_memfd("fuzz", SCREEN_VRAM_SIZE);
		vram = mmap(NULL, SCREEN_VRAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		assert(fd >= 0 && vram != MAP_FAILED);
	}
	f->memfd = fd;
	f->vram = vram;
}

static void start(struct fuzz *f)
{
	struct server_config conf = { .name = "fuzz",
				      .password = take(f) & 1 ? "password" : NULL,
				      .max_viewers = 2 };
	struct err err;
	int pair[2], rc;

	log_set(-1, LOG_LEVEL_ERROR);
	f->loop = loop_new(LOOP_FAKE, &err);
	get_vram(f);
	rc = socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair);
	assert(f->loop && rc == 0);
	f->ctl = pair[0];
	f->server_ctl = pair[1];
	conf.screen_fd = f->memfd;
	conf.ctl_fd = pair[1];
	f->server = calloc(1, sizeof(*f->server));
	rc = server_init(f->server, f->loop, &conf, &err);
	assert(rc == 0);
	f->frame = (struct screen_msg_frame){ .hdr = { SCREEN_MSG_FRAME, sizeof(f->frame) },
					      .width = 200,
					      .height = 100,
					      .stride = 800 };
	for (int i = 0; i < VIEWERS; i++)
		f->viewers[i] = -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = { .p = data, .left = size };

	start(&f);
	while (f.left && !f.server->ended) {
		operation(&f);
		check(&f);
	}
	for (int i = 0; i < VIEWERS; i++)
		fd_close(&f.viewers[i]);
	step(&f, 3);
	/* One that waits for an answer of ours is noticed when that is due. */
	loop_fake_advance(f.loop, AUTH_DELAY_MAX_NS);
	step(&f, 3);
	check(&f);
	assert(f.server->ended || f.server->viewers + f.server->handshakes == 0);
	server_fini(f.server);
	free(f.server);
	fd_close(&f.ctl);
	fd_close(&f.server_ctl);
	loop_free(f.loop);
	if (f.drawn)
		memset(f.vram, 0, DRAWN);
	return 0;
}
