/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <sys/socket.h>
#include <unistd.h>

#include "back/screen.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct viewer {
	int fd;
	bool gone;
};

static void on_gone(void *arg)
{
	((struct viewer *)arg)->gone = true;
}

static void attach(struct fz_script *s)
{
	struct viewer *v = s->arg;
	int pair[2], ret = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair);

	assert(ret == 0);
	if (v->fd >= 0)
		close(v->fd);
	*v = (struct viewer){ .fd = pair[1] };
	ret = screen_attach(tb_screen(s->tb), pair[0], on_gone, v);
	assert(ret == 0);
}

/* What the viewer program relies on: every frame lies inside the video memory. */
static void read_answers(struct viewer *v)
{
	struct screen_msg_frame f;

	while (recv(v->fd, &f, sizeof(f), MSG_DONTWAIT) > 0) {
		if (f.hdr.type != SCREEN_MSG_FRAME)
			continue;
		assert(f.width <= SCREEN_MAX_WIDTH && f.height <= SCREEN_MAX_HEIGHT);
		assert(f.stride >= f.width * 4 && (f.width == 0) == (f.height == 0));
		assert((uint64_t)f.stride * f.height <= SCREEN_VRAM_SIZE - f.offset);
	}
}

static void message(struct fz_script *s, struct fz *f)
{
	static const uint8_t sizes[] = { 8, 16, 16, 16 };
	struct viewer *v = s->arg;
	uint32_t msg[8], type = 1 + fz_pick(f, 4);

	msg[0] = fz_u8(f) % 16 != 15 ? type : fz_u32(f);
	msg[1] = fz_u8(f) % 16 != 15 ? sizes[type - 1] : fz_pick(f, 33);
	for (int i = 2; i < 8; i++)
		msg[i] = 0;
	msg[2] = fz_bool(f) ? fz_u8(f) | (uint32_t)fz_u8(f) << 16 : fz_u32(f);
	msg[3] = fz_u8(f);
	if (v->gone)
		attach(s);
	send(v->fd, msg, fz_u8(f) % 16 != 15 ? MIN(msg[1], 32u) : fz_pick(f, 33),
	     MSG_DONTWAIT | MSG_NOSIGNAL);
	tb_run(s->tb);
	read_answers(v);
}

/* A mode near the limits, in any order of registers. */
static void set_mode(struct fz_script *s, struct fz *f)
{
	static const uint16_t widths[] = { 640, 800, 1024, 1920, 3840, 3841, 639, 0 };
	static const uint16_t heights[] = { 480, 600, 768, 1080, 2160, 2161, 479, 0 };

	tb_w16(s->d, 2, 0x500 + 2 * 3, 32);
	tb_w16(s->d, 2, 0x500 + 2 * 1, widths[fz_pick(f, 8)]);
	tb_w16(s->d, 2, 0x500 + 2 * 2, heights[fz_pick(f, 8)]);
	tb_w16(s->d, 2, 0x500 + 2 * (6 + fz_pick(f, 4)), fz_bool(f) ? 0 : fz_u16(f));
	/* mostly without the clearing of the picture, which is slow */
	tb_w16(s->d, 2, 0x500 + 2 * 4, fz_u8(f) % 16 != 15 ? 0xc1 : 0x41);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	switch (fz_pick(f, 6)) {
	case 0:
	case 1:
		message(s, f);
		break;
	case 2:
		set_mode(s, f);
		break;
	case 3:
		tb_w16(s->d, 2, 0x500 + 2 * fz_pick(f, 12), fz_u16(f));
		break;
	case 4:
		tb_write(s->tb, tb_bar(s->d, 0) + fz_u32(f) % SCREEN_VRAM_SIZE, 4, fz_u32(f));
		break;
	default:
		tb_cfg_write(s->d, 0x10, 4,
			     fz_bool(f) ? 0xc0000000u + ((uint32_t)fz_u8(f) << 25) : fz_u32(f));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct viewer v = { .fd = -1 };
	struct fz f = fz_of(data, size);
	struct fz_script s;

	fz_start(&s, &fbuf_ops, NULL, one_operation);
	s.arg = &v;
	attach(&s);
	fz_run(&s, &f);
	screen_detach(tb_screen(s.tb));
	close(v.fd);
	fz_end(&s);
	return 0;
}
