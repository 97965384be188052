/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "aml/aml.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aml/aml_priv.h"
#include "util/bytes.h"

/* Opcodes that only this file writes (ACPI 6.4 s20.2). */
enum {
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXT = 0x5b,
	OP_IF = 0xa0,
	OP_ELSE = 0xa1,
	EXT_DEVICE = 0x82,
	END_TAG = 0x79,
};

void aml_init(struct aml *a)
{
	memset(a, 0, sizeof(*a));
}

void aml_fini(struct aml *a)
{
	free(a->buf);
	a->buf = NULL;
}

int aml_error(const struct aml *a)
{
	if (a->error)
		return a->error;
	return a->depth ? -EINVAL : 0;
}

static void fail(struct aml *a, int error)
{
	if (!a->error)
		a->error = error;
}

/* Makes room for len more bytes. False once anything went wrong. */
static bool reserve(struct aml *a, size_t len)
{
	size_t room = a->room ? a->room : 1024;
	uint8_t *buf;

	if (a->error)
		return false;
	if (a->room - a->len >= len)
		return true;
	while (room - a->len < len)
		room *= 2;
	buf = realloc(a->buf, room);
	if (!buf) {
		fail(a, -ENOMEM);
		return false;
	}
	a->buf = buf;
	a->room = room;
	return true;
}

void aml_put(struct aml *a, const void *data, size_t len)
{
	if (len == 0 || !reserve(a, len))
		return;
	memcpy(a->buf + a->len, data, len);
	a->len += len;
}

static void put_byte(struct aml *a, unsigned int v)
{
	const uint8_t byte = (uint8_t)v;

	aml_put(a, &byte, 1);
}

static void insert(struct aml *a, size_t at, const uint8_t *data, size_t len)
{
	if (!reserve(a, len))
		return;
	memmove(a->buf + at + len, a->buf + at, a->len - at);
	memcpy(a->buf + at, data, len);
	a->len += len;
}

/* Copies one name segment, padded to four characters (s20.2.2). Returns its length in s, 0 if it is bad. */
static size_t put_segment(struct aml *a, const char *s)
{
	char seg[4] = { '_', '_', '_', '_' };
	size_t n = 0;

	while (isupper((unsigned char)s[n]) || s[n] == '_' || (n && isdigit((unsigned char)s[n]))) {
		if (n == sizeof(seg))
			return 0;
		seg[n] = s[n];
		n++;
	}
	aml_put(a, seg, sizeof(seg));
	return n;
}

void aml_ref(struct aml *a, const char *name)
{
	unsigned int segments = 1;
	size_t n;

	while (*name == '\\' || *name == '^')
		put_byte(a, (unsigned char)*name++);
	if (!*name) {
		put_byte(a, 0); /* NullName */
		return;
	}
	for (const char *p = name; *p; p++)
		segments += *p == '.';
	if (segments == 2)
		put_byte(a, OP_DUAL_NAME);
	if (segments > 2) {
		put_byte(a, OP_MULTI_NAME);
		put_byte(a, segments);
	}
	while (segments--) {
		n = put_segment(a, name);
		if (n == 0 || name[n] != (segments ? '.' : '\0')) {
			fail(a, -EINVAL);
			return;
		}
		name += n + 1;
	}
}

/* The body that starts here gets its length when it is closed. */
static void open_body(struct aml *a, bool resources)
{
	if (a->depth == AML_DEPTH_MAX)
		fail(a, -EINVAL);
	if (a->error)
		return;
	a->open[a->depth].at = a->len;
	a->open[a->depth].resources = resources;
	a->depth++;
}

void aml_begin_scope(struct aml *a, const char *name)
{
	put_byte(a, OP_SCOPE);
	open_body(a, false);
	aml_ref(a, name);
}

void aml_begin_device(struct aml *a, const char *name)
{
	put_byte(a, OP_EXT);
	put_byte(a, EXT_DEVICE);
	open_body(a, false);
	aml_ref(a, name);
}

void aml_begin_method(struct aml *a, const char *name, unsigned int args, bool serialized)
{
	if (args > 7)
		fail(a, -EINVAL);
	put_byte(a, OP_METHOD);
	open_body(a, false);
	aml_ref(a, name);
	put_byte(a, args | (serialized ? 8u : 0u));
}

void aml_begin_package(struct aml *a, unsigned int count)
{
	if (count > 255)
		fail(a, -EINVAL);
	put_byte(a, OP_PACKAGE);
	open_body(a, false);
	put_byte(a, count);
}

void aml_begin_if(struct aml *a)
{
	put_byte(a, OP_IF);
	open_body(a, false);
}

void aml_begin_else(struct aml *a)
{
	put_byte(a, OP_ELSE);
	open_body(a, false);
}

void aml_begin_resources(struct aml *a, const char *name)
{
	aml_name(a, name);
	put_byte(a, OP_BUFFER);
	open_body(a, true);
}

/* Encodes a package length that covers itself and len bytes (s20.2.4). Returns its size. */
static size_t package_length(uint8_t out[4], size_t len)
{
	size_t n = len + 1 < 0x40 ? 1 : len + 2 < 0x1000 ? 2 : len + 3 < 0x100000 ? 3 : 4;

	len += n;
	if (n == 1) {
		out[0] = (uint8_t)len;
		return 1;
	}
	out[0] = (uint8_t)((n - 1) << 6 | (len & 0xf));
	for (size_t i = 1; i < n; i++)
		out[i] = (uint8_t)(len >> (4 + 8 * (i - 1)));
	return n;
}

/* Encodes an integer in its shortest form (s20.2.3). Returns its size. */
static size_t integer(uint8_t out[9], uint64_t v)
{
	size_t n = v <= UINT8_MAX ? 1 : v <= UINT16_MAX ? 2 : v <= UINT32_MAX ? 4 : 8;

	if (v <= 1) {
		out[0] = (uint8_t)v;
		return 1;
	}
	out[0] = n == 1 ? OP_BYTE : n == 2 ? OP_WORD : n == 4 ? OP_DWORD : OP_QWORD;
	memcpy(out + 1, &v, n);
	return n + 1;
}

void aml_end(struct aml *a)
{
	static const uint8_t end_tag[2] = { END_TAG, 0 };
	uint8_t head[9] = { 0 };
	size_t at;

	if (!a->error && a->depth == 0)
		fail(a, -EINVAL);
	if (a->error)
		return;
	a->depth--;
	at = a->open[a->depth].at;
	if (a->open[a->depth].resources) {
		aml_put(a, end_tag, sizeof(end_tag));
		insert(a, at, head, integer(head, a->len - at));
	}
	insert(a, at, head, package_length(head, a->len - at));
}

void aml_name(struct aml *a, const char *name)
{
	put_byte(a, OP_NAME);
	aml_ref(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
	uint8_t buf[9];
	size_t len = integer(buf, v);

	aml_put(a, buf, len);
}

void aml_string(struct aml *a, const char *s)
{
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p > 0x7f)
			fail(a, -EINVAL);
	put_byte(a, OP_STRING);
	aml_put(a, s, strlen(s) + 1);
}

void aml_buffer(struct aml *a, const void *data, size_t len)
{
	put_byte(a, OP_BUFFER);
	open_body(a, false);
	aml_int(a, len);
	aml_put(a, data, len);
	aml_end(a);
}

/* Value of a hexadecimal digit, or -1. */
static int hex_digit(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;
	uint8_t buf[5] = { OP_DWORD };

	for (size_t i = 0; i < 7; i++) {
		bool ok = i < 3 ? isupper((unsigned char)id[i]) : hex_digit(id[i]) >= 0;

		if (!ok) {
			fail(a, -EINVAL);
			return;
		}
		v = i < 3 ? v << 5 | (uint32_t)(id[i] - 0x40) : v << 4 | (uint32_t)hex_digit(id[i]);
	}
	put_be32(buf + 1, v);
	aml_put(a, buf, sizeof(buf));
}

void aml_uuid(struct aml *a, const char *uuid)
{
	/* Byte n of the buffer is at this digit of the text: the first three groups are little-endian. */
	static const uint8_t at[16] = { 6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34 };
	uint8_t bytes[16];

	if (strlen(uuid) != 36) {
		fail(a, -EINVAL);
		return;
	}
	for (size_t i = 0; i < sizeof(bytes); i++) {
		int hi = hex_digit(uuid[at[i]]), lo = hex_digit(uuid[at[i] + 1]);

		if (hi < 0 || lo < 0) {
			fail(a, -EINVAL);
			return;
		}
		bytes[i] = (uint8_t)(hi << 4 | lo);
	}
	aml_buffer(a, bytes, sizeof(bytes));
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_string(struct aml *a, const char *name, const char *s)
{
	aml_name(a, name);
	aml_string(a, s);
}

void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisa_id(a, id);
}

void aml_op(struct aml *a, enum aml_op op)
{
	put_byte(a, op);
}
