/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/rfb.h"
#include "cmd/khyve-vnc/server.h"
#include "util/canary.h"

void update_request(struct client *c, bool incremental, struct rect r)
{
	struct rect screen = { .w = c->width, .h = c->height };

	if (incremental && c->flow.continuous)
		return;
	if (!CANARY && !rect_clip(&r, &screen))
		return;
	if (!incremental) {
		damage_add_rect(&c->damage, &r);
		if (!c->await_frame && !server_frame_is_new(c->server))
			client_await_frame(c);
	}
	/* Several requests become one for all they ask for. */
	rect_join(&c->request, &r);
	c->requested = true;
}

static void put_rect(struct client *c, const struct rect *r, int32_t encoding)
{
	client_put_u16(c, (uint16_t)r->x);
	client_put_u16(c, (uint16_t)r->y);
	client_put_u16(c, (uint16_t)r->w);
	client_put_u16(c, (uint16_t)r->h);
	client_put_u32(c, (uint32_t)encoding);
}

static void put_update_header(struct client *c, unsigned int rects)
{
	client_put_u8(c, RFB_FRAMEBUFFER_UPDATE);
	client_put_u8(c, 0);
	client_put_u16(c, (uint16_t)rects);
}

/* reason 0: as the guest wants it; 1: the answer to this viewer. status 1: prohibited. One screen. */
static void put_ext_size(struct client *c, unsigned int reason, unsigned int status)
{
	struct rect r = { .x = reason, .y = status, .w = c->width, .h = c->height };

	put_rect(c, &r, RFB_ENC_EXT_DESKTOP_SIZE);
	client_put_u32(c, 1u << 24);
	client_put_u32(c, 0);
	client_put_u32(c, 0);
	client_put_u16(c, (uint16_t)c->width);
	client_put_u16(c, (uint16_t)c->height);
	client_put_u32(c, 0);
}

static void end_request(struct client *c)
{
	c->requested = false;
	c->request = (struct rect){ 0 };
}

/* The viewer could follow a change of size. */
static bool size_differs(const struct client *c)
{
	const struct view *v = &c->server->view;

	return (c->caps.resize || c->caps.ext_resize) &&
	       (v->width != c->width || v->height != c->height);
}

/* The size goes out in an update of its own: what follows is in the new size, and needs a new request. */
static void put_size(struct client *c)
{
	const struct view *v = &c->server->view;
	struct rect screen = { .w = v->width, .h = v->height };

	if (size_differs(c))
		damage_add_rect(&c->damage, &screen);
	c->width = screen.w;
	c->height = screen.h;
	put_update_header(c, 1);
	if (c->caps.ext_resize)
		put_ext_size(c, 0, 0);
	else
		put_rect(c, &screen, RFB_ENC_DESKTOP_SIZE);
	c->notices.size = false;
	end_request(c);
}

static void put_notices(struct client *c)
{
	if (c->notices.size_refused)
		put_ext_size(c, 1, 1);
	if (c->notices.qemu_keys)
		put_rect(c, &(struct rect){ .w = c->width, .h = c->height }, RFB_ENC_QEMU_KEYS);
	if (c->notices.leds) {
		put_rect(c, &(struct rect){ 0 }, RFB_ENC_QEMU_LEDS);
		client_put_u8(c, (uint8_t)(c->server->leds & 7));
	}
	if (c->notices.cursor) /* of no size: the guest draws its own */
		put_rect(c, &(struct rect){ 0 }, RFB_ENC_CURSOR);
	if (c->notices.name) {
		put_rect(c, &(struct rect){ 0 }, RFB_ENC_DESKTOP_NAME);
		client_put_u32(c, (uint32_t)strlen(c->server->name));
		client_put(c, c->server->name, strlen(c->server->name));
	}
	if (c->notices.ext_buttons)
		put_rect(c, &(struct rect){ 0 }, RFB_ENC_EXT_BUTTONS);
	c->notices = (struct client_notices){ 0 };
}

static unsigned int count_notices(const struct client_notices *n)
{
	return (unsigned int)n->size_refused + n->qemu_keys + n->leds + n->cursor + n->name +
	       n->ext_buttons;
}

/* What the next update is to show. False: none is wanted now. */
static bool wanted(const struct client *c, struct rect *region)
{
	struct rect open = { 0 };

	if (c->await_frame)
		return false;
	*region = c->requested ? c->request : (struct rect){ 0 };
	if (flow_open(c, &open))
		rect_join(region, &open);
	return c->requested || open.w;
}

/* Starts an update if one was asked for and there is something to tell. */
static int start(struct client *c)
{
	struct rect screen = { .w = c->width, .h = c->height }, region;
	unsigned int n = count_notices(&c->notices);

	if (!wanted(c, &region))
		return 0;
	if (c->notices.size || size_differs(c)) {
		put_size(c);
		return 1;
	}
	damage_split(&c->damage, &region, &screen, &c->todo);
	n += damage_count(&c->todo);
	if (n == 0)
		return 0;
	c->conv = c->next_conv;
	c->todo_region = region;
	/* Known before, so that LastRect is not needed: vncsnapshot names it and does not know it. */
	put_update_header(c, n);
	put_notices(c);
	c->updating = true;
	end_request(c);
	return 1;
}

/* Data of the encodings that have a stream. Bytes, or -errno. */
static int encode_zrle(struct client *c, const struct rect *r, uint8_t *dst)
{
	if (!c->zrle)
		c->zrle = zrle_new();
	return c->zrle ? zrle_encode(c->zrle, &c->server->view, &c->conv, r, dst) : -ENOMEM;
}

static int encode_tight(struct client *c, const struct rect *r, uint8_t *dst)
{
	if (!c->tight)
		c->tight = tight_new();
	return c->tight
		       ? tight_encode(c->tight, &c->server->view, &c->conv, r, c->caps.quality, dst)
		       : -ENOMEM;
}

static int encode_zlib(struct client *c, const struct rect *r, uint8_t *dst)
{
	if (!c->zlib)
		c->zlib = zlib_new();
	return c->zlib ? zlib_encode(c->zlib, &c->server->view, &c->conv, r, dst) : -ENOMEM;
}

static int put_piece(struct client *c, const struct rect *r)
{
	const struct view *v = &c->server->view;
	uint8_t *dst;
	int len;

	put_rect(c, r, c->caps.encoding);
	dst = c->out + c->out_len;
	switch (c->caps.encoding) {
	case RFB_ENC_ZRLE:
		len = encode_zrle(c, r, dst);
		break;
	case RFB_ENC_TIGHT:
		len = encode_tight(c, r, dst);
		break;
	case RFB_ENC_ZLIB:
		len = encode_zlib(c, r, dst);
		break;
	case RFB_ENC_HEXTILE:
		len = (int)enc_hextile(v, &c->conv, r, dst);
		break;
	default:
		len = (int)enc_raw(v, &c->conv, r, dst);
	}
	if (len < 0)
		return len;
	c->out_len += (size_t)len;
	return 1;
}

int update_step(struct client *c)
{
	struct rect r;
	int rc;

	if (!c->updating) {
		if (flow_put(c))
			return 1;
		rc = start(c);
		if (rc <= 0 || !c->updating)
			return rc;
	}
	if (!damage_next(&c->todo, &r)) {
		c->updating = false;
		flow_update_done(c);
		/* There may be notices in the output, and a fence or another request may have come meanwhile. */
		return 1;
	}
	rect_clip(&r, &c->todo_region);
	return put_piece(c, &r);
}
