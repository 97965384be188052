/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/* VeNCrypt 0.2 (rfbproto: VeNCrypt): TLS first, then one of the ways to log in. */
#include <errno.h>
#include <string.h>

#include "cmd/khyve-vnc/client.h"
#include "cmd/khyve-vnc/rfb.h"
#include "cmd/khyve-vnc/server.h"
#include "util/bytes.h"

#define NAME_MAX_LEN 255 /* of a user or a password */

/* Those with a certificate first: viewers take the first that they know. */
static const struct {
	uint32_t number;
	bool anonymous;
	enum client_login login;
} subtypes[] = {
	{ 261, false, LOGIN_VNC },  { 262, false, LOGIN_PLAIN }, { 258, true, LOGIN_VNC },
	{ 259, true, LOGIN_PLAIN }, { 260, false, LOGIN_NONE },	 { 257, true, LOGIN_NONE },
};

static bool offered(const struct client *c, size_t i)
{
	return (subtypes[i].login != LOGIN_NONE) == c->server->auth.required;
}

ssize_t vencrypt_handle_version(struct client *c, const uint8_t *in, size_t len)
{
	unsigned int n = 0;

	if (len < 2)
		return 0;
	if (in[0] != 0 || in[1] != 2) {
		client_put_u8(c, 1);
		client_set_state(c, CLIENT_CLOSING);
		return 2;
	}
	client_put_u8(c, 0);
	for (size_t i = 0; i < ARRAY_LEN(subtypes); i++)
		n += offered(c, i);
	client_put_u8(c, (uint8_t)n);
	for (size_t i = 0; i < ARRAY_LEN(subtypes); i++)
		if (offered(c, i))
			client_put_u32(c, subtypes[i].number);
	client_set_state(c, CLIENT_SUBTYPE);
	return 2;
}

ssize_t vencrypt_handle_subtype(struct client *c, const uint8_t *in, size_t len)
{
	if (len < 4)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(subtypes); i++) {
		if (!offered(c, i) || subtypes[i].number != get_be32(in))
			continue;
		/* What came before the keys were made would pass for what came after. */
		if (len > 4)
			return -EPROTO;
		c->anonymous = subtypes[i].anonymous;
		c->login = subtypes[i].login;
		client_put_u8(c, 1);
		client_set_state(c, CLIENT_TLS);
		return 4;
	}
	client_put_u8(c, 0);
	client_set_state(c, CLIENT_CLOSING);
	return 4;
}

int vencrypt_step(struct client *c)
{
	int rc;

	if (!c->tls)
		c->tls = tls_accept(c->server->tls, c->watch.fd, c->anonymous);
	if (!c->tls)
		return -ENOMEM;
	rc = tls_handshake(c->tls, &c->tls_writes);
	if (rc <= 0)
		return rc;
	c->tls_writes = false;
	return rfb_start_login(c);
}

/* The name of the user is anybody's: there is one password for the screen. */
ssize_t vencrypt_handle_plain(struct client *c, const uint8_t *in, size_t len)
{
	uint32_t name, password;
	int rc;

	if (len < 8)
		return 0;
	name = get_be32(in);
	password = get_be32(in + 4);
	if (name > NAME_MAX_LEN || password > NAME_MAX_LEN)
		return -EPROTO;
	if (len < 8 + name + password)
		return 0;
	c->password_right = auth_is_password(&c->server->auth, in + 8 + name, password);
	rc = rfb_check_response(c);
	return rc < 0 ? rc : (ssize_t)(8 + name + password);
}
