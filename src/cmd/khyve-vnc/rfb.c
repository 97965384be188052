/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-vnc/rfb.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/server.h"
#include "util/bytes.h"
#include "util/log.h"

#define CUT_TEXT_MAX (16 * MIB) /* longer ones are no text */

/* A handler looks at the bytes in hand. It returns how many it took, 0 if the message is not complete, or -errno. */

/* --- handshake, RFC 6143 s7.1 to s7.3 --- */

/* Says why in the protocol's words, and closes. */
static int refuse(struct client *c, const char *reason)
{
	client_put_u32(c, 1); /* SecurityResult: failed */
	if (c->minor >= 8) {
		client_put_u32(c, (uint32_t)strlen(reason));
		client_put(c, reason, strlen(reason));
	}
	client_set_state(c, CLIENT_CLOSING);
	return 0;
}

static int admit(struct client *c)
{
	if (!server_admit(c->server, c))
		return refuse(c, "Too many viewers are connected");
	/* Without authentication, only 3.8 has a SecurityResult (s7.1.2), and VeNCrypt. */
	if (c->server->auth.required || c->minor >= 8 || c->tls)
		client_put_u32(c, 0);
	client_set_state(c, CLIENT_INIT);
	return 0;
}

static int send_challenge(struct client *c)
{
	if (getrandom(c->challenge, sizeof(c->challenge), 0) != sizeof(c->challenge))
		return -EIO;
	client_put(c, c->challenge, sizeof(c->challenge));
	client_set_state(c, CLIENT_RESPONSE);
	return 0;
}

static unsigned int security_type(const struct client *c)
{
	if (c->server->tls)
		return RFB_SECURITY_VENCRYPT;
	return c->server->auth.required ? RFB_SECURITY_VNC : RFB_SECURITY_NONE;
}

int rfb_start_login(struct client *c)
{
	if (c->login == LOGIN_VNC)
		return send_challenge(c);
	if (c->login == LOGIN_NONE)
		return admit(c);
	client_set_state(c, CLIENT_PLAIN);
	return 0;
}

static int start_security(struct client *c)
{
	c->login = c->server->auth.required ? LOGIN_VNC : LOGIN_NONE;
	if (!c->server->tls)
		return rfb_start_login(c);
	client_put_u8(c, 0); /* VeNCrypt 0.2 */
	client_put_u8(c, 2);
	client_set_state(c, CLIENT_VENCRYPT);
	return 0;
}

/* s7.1.2: in 3.3 the server decides, and its only types then were None and VNC. */
static int start_security_3_3(struct client *c)
{
	static const char reason[] = "This screen is shown to viewers that know VeNCrypt only";

	if (!c->server->tls) {
		client_put_u32(c, security_type(c));
		return start_security(c);
	}
	client_put_u32(c, 0);
	client_put_u32(c, sizeof(reason) - 1);
	client_put(c, reason, sizeof(reason) - 1);
	client_set_state(c, CLIENT_CLOSING);
	return 0;
}

static bool is_digits(const uint8_t *s)
{
	return s[0] >= '0' && s[0] <= '9' && s[1] >= '0' && s[1] <= '9' && s[2] >= '0' &&
	       s[2] <= '9';
}

static ssize_t handle_version(struct client *c, const uint8_t *in, size_t len)
{
	unsigned int minor;
	int rc = 0;

	if (memcmp(in, "RFB 003.", MIN(len, (size_t)8)) != 0)
		return -EPROTO;
	if (len < 12)
		return 0;
	if (!is_digits(in + 8) || in[11] != '\n')
		return -EPROTO;
	minor = (in[8] - '0') * 100u + (in[9] - '0') * 10u + (in[10] - '0');
	if (minor < 3)
		return -EPROTO;
	/* s7.1.1: other numbers count as 3.3; those above 3.8 are viewers that know 3.8 as well. */
	c->minor = minor >= 8 ? 8 : minor == 7 ? 7 : 3;
	if (c->minor == 3) {
		rc = start_security_3_3(c);
	} else {
		client_put_u8(c, 1);
		client_put_u8(c, (uint8_t)security_type(c));
		client_set_state(c, CLIENT_SECURITY);
	}
	return rc < 0 ? rc : 12;
}

static ssize_t handle_security(struct client *c, const uint8_t *in, size_t len)
{
	int rc;

	(void)len;
	if (in[0] != security_type(c))
		rc = refuse(c, "This security type is not offered");
	else
		rc = start_security(c);
	return rc < 0 ? rc : 1;
}

int rfb_check_response(struct client *c)
{
	struct auth *a = &c->server->auth;
	uint64_t now = loop_now(c->server->loop), when = auth_not_before(a, c->peer, now);

	if (now < when) {
		/* The wait is ours, so it does not count against the viewer. */
		client_set_state(c, CLIENT_DELAY);
		loop_timer_set(&c->gate, when);
		loop_timer_set(&c->deadline, when + CLIENT_HANDSHAKE_NS);
		return 0;
	}
	auth_count(a, c->peer, c->password_right, now);
	if (c->password_right)
		return admit(c);
	log_limited(LOG_LEVEL_WARN, "vnc", "wrong password from a viewer");
	return refuse(c, "Wrong password");
}

static ssize_t handle_response(struct client *c, const uint8_t *in, size_t len)
{
	int rc;

	if (len < AUTH_CHALLENGE_SIZE)
		return 0;
	c->password_right = auth_is_response(&c->server->auth, c->challenge, in);
	rc = rfb_check_response(c);
	return rc < 0 ? rc : AUTH_CHALLENGE_SIZE;
}

void rfb_server_init(struct client *c)
{
	const struct server *s = c->server;
	uint8_t native[PIXEL_FORMAT_SIZE];

	c->width = s->view.width;
	c->height = s->view.height;
	damage_add_rect(&c->damage, &(struct rect){ .w = c->width, .h = c->height });
	client_put_u16(c, (uint16_t)c->width);
	client_put_u16(c, (uint16_t)c->height);
	pixel_format_native(native);
	client_put(c, native, sizeof(native));
	client_put_u32(c, (uint32_t)strlen(s->name));
	client_put(c, s->name, strlen(s->name));
	client_set_state(c, CLIENT_RUN);
}

/* The byte asks to be alone (s7.3.1). A new viewer never throws out another, so it is not looked at. */
static ssize_t handle_init(struct client *c, const uint8_t *in, size_t len)
{
	(void)in;
	(void)len;
	if (server_frame_is_new(c->server))
		rfb_server_init(c);
	else
		client_set_state(c, CLIENT_FRAME);
	return 1;
}

/* --- messages of a running connection, s7.5 --- */

static ssize_t handle_pixel_format(struct client *c, const uint8_t *in, size_t len)
{
	int rc;

	if (len < 4 + PIXEL_FORMAT_SIZE)
		return 0;
	rc = pixel_conv_init(&c->next_conv, in + 4);
	return rc < 0 ? rc : 4 + PIXEL_FORMAT_SIZE;
}

static ssize_t handle_encodings(struct client *c, const uint8_t *in, size_t len)
{
	if (len < 4)
		return 0;
	c->encodings_left = get_be16(in + 2);
	c->caps = (struct client_caps){ .quality = -1 };
	c->notices = (struct client_notices){ 0 };
	return 4;
}

/* s7.5.2: the viewer names first what it likes best. */
static void choose_encoding(struct client *c, int32_t encoding)
{
	if (c->caps.chosen)
		return;
	if (encoding != RFB_ENC_RAW && encoding != RFB_ENC_HEXTILE && encoding != RFB_ENC_ZLIB &&
	    encoding != RFB_ENC_TIGHT && encoding != RFB_ENC_ZRLE)
		return;
	c->caps.chosen = true;
	c->caps.encoding = encoding;
}

static void add_encoding(struct client *c, int32_t encoding)
{
	choose_encoding(c, encoding);
	if (encoding >= RFB_ENC_QUALITY_WORST && encoding <= RFB_ENC_QUALITY_BEST)
		c->caps.quality = encoding - RFB_ENC_QUALITY_WORST;
	if (encoding == RFB_ENC_DESKTOP_SIZE)
		c->caps.resize = true;
	if (encoding == RFB_ENC_EXT_DESKTOP_SIZE)
		c->caps.ext_resize = c->notices.size = true;
	if (encoding == RFB_ENC_QEMU_KEYS)
		c->caps.qemu_keys = c->notices.qemu_keys = true;
	if (encoding == RFB_ENC_QEMU_LEDS)
		c->caps.leds = c->notices.leds = true;
	if (encoding == RFB_ENC_CURSOR)
		c->notices.cursor = true;
	if (encoding == RFB_ENC_DESKTOP_NAME)
		c->notices.name = true;
	if (encoding == RFB_ENC_EXT_BUTTONS)
		c->caps.ext_buttons = c->notices.ext_buttons = true;
	if (encoding == RFB_ENC_FENCE)
		flow_fences(c);
	if (encoding == RFB_ENC_CONTINUOUS_UPDATES)
		flow_continuous(c);
}

static ssize_t handle_update_request(struct client *c, const uint8_t *in, size_t len)
{
	if (len < 10)
		return 0;
	update_request(c, in[1] != 0,
		       (struct rect){ .x = get_be16(in + 2),
				      .y = get_be16(in + 4),
				      .w = get_be16(in + 6),
				      .h = get_be16(in + 8) });
	return 10;
}

static ssize_t handle_key(struct client *c, const uint8_t *in, size_t len)
{
	if (len < 8)
		return 0;
	input_keysym(c, get_be32(in + 4), in[1] != 0);
	return 8;
}

/* With extended buttons the highest bit says that a byte with those from the eighth on follows. */
static ssize_t handle_pointer(struct client *c, const uint8_t *in, size_t len)
{
	bool extended = c->caps.ext_buttons && len >= 2 && in[1] & 0x80;
	ssize_t size = extended ? 7 : 6;
	unsigned int buttons;

	if (len < (size_t)size)
		return 0;
	buttons = extended ? (in[1] & 0x7fu) | (unsigned int)in[6] << 7 : in[1];
	input_pointer(c, get_be16(in + 2), get_be16(in + 4), (uint16_t)buttons);
	return size;
}

static ssize_t handle_cut_text(struct client *c, const uint8_t *in, size_t len)
{
	uint32_t text;

	if (len < 8)
		return 0;
	text = get_be32(in + 4);
	if (text > CUT_TEXT_MAX)
		return -EPROTO;
	c->skip = text;
	return 8;
}

/* The guest decides on the size: refused with the next update, whatever was wished for. */
static ssize_t handle_set_desktop_size(struct client *c, const uint8_t *in, size_t len)
{
	if (len < 8)
		return 0;
	c->skip = in[6] * 16u;
	c->notices.size_refused = c->caps.ext_resize;
	return 8;
}

/* Only the extended key event, submessage 0, exists: the others were never offered. */
static ssize_t handle_qemu(struct client *c, const uint8_t *in, size_t len)
{
	uint16_t scancode;
	bool down;

	if (len >= 2 && in[1] != 0)
		return -EPROTO;
	if (len < 12)
		return 0;
	down = get_be16(in + 2) != 0;
	scancode = keysym_from_qemu(get_be32(in + 8));
	if (scancode)
		input_scancode(c, scancode, down);
	else
		input_keysym(c, get_be32(in + 4), down);
	return 12;
}

static ssize_t handle_message(struct client *c, const uint8_t *in, size_t len)
{
	switch (in[0]) {
	case RFB_SET_PIXEL_FORMAT:
		return handle_pixel_format(c, in, len);
	case RFB_SET_ENCODINGS:
		return handle_encodings(c, in, len);
	case RFB_UPDATE_REQUEST:
		return handle_update_request(c, in, len);
	case RFB_KEY:
		return handle_key(c, in, len);
	case RFB_POINTER:
		return handle_pointer(c, in, len);
	case RFB_CUT_TEXT:
		return handle_cut_text(c, in, len);
	case RFB_CONTINUOUS_UPDATES:
		return flow_handle_enable(c, in, len);
	case RFB_FENCE:
		return flow_handle_fence(c, in, len);
	case RFB_SET_DESKTOP_SIZE:
		return handle_set_desktop_size(c, in, len);
	case RFB_QEMU:
		return handle_qemu(c, in, len);
	default:
		return -EPROTO;
	}
}

static ssize_t handle_part(struct client *c, const uint8_t *in, size_t len)
{
	if (c->skip) {
		uint32_t n = (uint32_t)MIN(len, (size_t)c->skip);

		c->skip -= n;
		return n;
	}
	if (c->encodings_left) {
		if (len < 4)
			return 0;
		c->encodings_left--;
		add_encoding(c, (int32_t)get_be32(in));
		return 4;
	}
	return handle_message(c, in, len);
}

static ssize_t handle_run(struct client *c, const uint8_t *in, size_t len)
{
	ssize_t n = flow_blocked(c) ? 0 : handle_part(c, in, len);

	if (n > 0)
		flow_handled(c, c->skip == 0 && c->encodings_left == 0);
	return n;
}

int rfb_input(struct client *c)
{
	static ssize_t (*const handlers[])(struct client *, const uint8_t *, size_t) = {
		[CLIENT_VERSION] = handle_version,
		[CLIENT_SECURITY] = handle_security,
		[CLIENT_VENCRYPT] = vencrypt_handle_version,
		[CLIENT_SUBTYPE] = vencrypt_handle_subtype,
		[CLIENT_RESPONSE] = handle_response,
		[CLIENT_PLAIN] = vencrypt_handle_plain,
		[CLIENT_INIT] = handle_init,
		[CLIENT_RUN] = handle_run,
		[CLIENT_CLOSING] = NULL, /* as CLIENT_TLS, CLIENT_DELAY and CLIENT_FRAME */
	};
	size_t pos = 0;
	ssize_t n = 1;

	while (n > 0 && pos < c->in_len && handlers[c->state]) {
		n = handlers[c->state](c, c->in + pos, c->in_len - pos);
		if (n < 0)
			return (int)n;
		pos += (size_t)n;
	}
	c->in_len -= pos;
	memmove(c->in, c->in + pos, c->in_len);
	if (c->state == CLIENT_CLOSING)
		c->in_len = 0;
	return 0;
}
