/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "util/err.h"

struct sample {
	char *name;
	bool wired;
	uint64_t cpus, memory;
	int vga;
};

static const char *const modes[] = { "io", "on", "off", NULL };
static const char *const skip[] = { "pci", "lpc", NULL };

static const struct conf_key keys[] = {
	{ .name = "name", .type = CONF_STR, .offset = offsetof(struct sample, name), .max = 32 },
	{ .name = "memory.wired", .type = CONF_BOOL, .offset = offsetof(struct sample, wired) },
	{ .name = "cpus",
	  .type = CONF_U64,
	  .offset = offsetof(struct sample, cpus),
	  .def = "1",
	  .min = 1,
	  .max = 255 },
	{ .name = "memory.size",
	  .type = CONF_SIZE,
	  .offset = offsetof(struct sample, memory),
	  .def = "256M" },
	{ .name = "vga",
	  .type = CONF_ENUM,
	  .offset = offsetof(struct sample, vga),
	  .choices = modes },
	{ .name = "vcpu.#.cpuset", .type = CONF_STR },
	{ .name = "x86.vmexit_on_hlt", .type = CONF_BOOL, .ignored = true },
	CONF_KEY_END,
};

static char *dump(const struct conf *c, size_t *len)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, len);

	conf_dump(c, f);
	fclose(f);
	return text;
}

/* A dump loads again and gives the same dump. */
static void check_round_trip(const struct conf *c)
{
	struct conf *again = conf_new();
	size_t len, len2;
	char *text = dump(c, &len), *text2;

	if (len <= 1 << 20) {
		assert(conf_load_text(again, "dump", text, len, NULL) == 0);
		text2 = dump(again, &len2);
		assert(len == len2 && memcmp(text, text2, len) == 0);
		free(text2);
	}
	free(text);
	conf_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *c = conf_new();
	struct sample s = { 0 };
	struct err err = { "" };
	char buf[64];
	int r = conf_load_text(c, "fuzz", (const char *)data, size, &err);

	assert((r < 0) == (*err.text != '\0'));
	check_round_trip(c);
	conf_get_str(c, "name", buf, sizeof(buf), &err);
	if (conf_bind(c, "", keys, &s, skip, &err) == 0) {
		assert(s.cpus >= 1 && s.cpus <= 255 && s.vga >= 0 && s.vga < 3);
		assert(!s.name || strlen(s.name) <= 32);
	} else {
		assert(!s.name);
	}
	conf_unbind(keys, &s);
	if (conf_freeze(c, &err) == 0)
		assert(conf_set(c, "name", "x", NULL, NULL) < 0);
	conf_free(c);
	return 0;
}
