/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve/slot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf/conf.h"
#include "hw/table.h"
#include "util/canary.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

/* Models whose first word has a name of its own. */
static const struct {
	const char *model, *first;
} first_words[] = {
	{ "virtio-blk", "path" },    { "nvme", "path" },     { "fbuf", "tcp" },
	{ "virtio-net", "backend" }, { "e1000", "backend" },
};

struct slot {
	struct conf *conf;
	const char *arg; /* whole text after -s */
	char node[48]; /* pci.B.S.F[.port.N or .slot.N] */
	size_t base_len; /* of pci.B.S.F */
	struct err *err;
};

static int set(const struct slot *s, const char *name, const char *value)
{
	char key[128], where[256];

	if (snprintf(key, sizeof(key), "%s.%s", s->node, name) >= (int)sizeof(key))
		return err_set(s->err, -EINVAL, "-s %s: option name too long", s->arg);
	snprintf(where, sizeof(where), "-s %s", s->arg);
	return conf_set(s->conf, key, value, where, s->err);
}

/* "k=v" is a variable, a bare word a true one. */
static int set_word(const struct slot *s, char *word)
{
	char *eq = strchr(word, '=');

	if (!eq)
		return set(s, word, "true");
	*eq = '\0';
	return set(s, word, eq + 1);
}

/* ahci: [hd:|cd:]PATH[,options] any number of times; ahci-hd and ahci-cd: one path of that type. */
static int parse_ahci(struct slot *s, const char *model, char *rest)
{
	const char *type = strcmp(model, "ahci-cd") == 0 ? "cd" : "hd";
	bool single = strcmp(model, "ahci") != 0;
	int port = -1, r = set(s, "device", "ahci");
	char *word;

	while (r == 0 && (word = strsep(&rest, ","))) {
		bool prefixed = str_starts(word, "hd:") || str_starts(word, "cd:");

		if (prefixed || port < 0) {
			if (single && port >= 0)
				return err_set(s->err, -EINVAL,
					       "-s %s: one disk only; use ahci for more", s->arg);
			snprintf(s->node + s->base_len, sizeof(s->node) - s->base_len, ".port.%d",
				 ++port);
			r = set(s, "type", prefixed ? (word[0] == 'c' ? "cd" : "hd") : type);
			if (r == 0)
				r = set(s, "path", prefixed ? word + 3 : word);
		} else {
			r = set_word(s, word);
		}
	}
	return r;
}

/* The length of the device's name if the word is one for the next port: "tablet" or "disk:PATH". 0: an option. */
static size_t usb_device(const char *word, int ports)
{
	static const char *const names[] = { "none", "tablet", "keyboard", "disk" };
	size_t len = strcspn(word, ":=");

	if (word[len] == '=')
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strlen(names[i]) == len && strncmp(word, names[i], len) == 0)
			return len;
	/* What is no device is complained about where the settings are checked. */
	return ports ? 0 : len;
}

/* xhci: devices for ports 1, 2 and so on, each with options behind it. */
static int parse_xhci(struct slot *s, char *rest)
{
	int port = 0, r = set(s, "device", "xhci");
	char *word;

	while (r == 0 && (word = strsep(&rest, ","))) {
		size_t len = usb_device(word, port);
		bool path = word[len] == ':';

		if (!len) {
			r = set_word(s, word);
			continue;
		}
		word[len] = '\0';
		snprintf(s->node + s->base_len, sizeof(s->node) - s->base_len, ".slot.%d", ++port);
		r = set(s, "device", word);
		if (r == 0 && path)
			r = set(s, "path", word + len + 1);
	}
	return r;
}

static int parse_options(struct slot *s, const char *model, char *rest)
{
	const char *first = NULL;
	char *word;
	int r = set(s, "device", model);

	for (size_t i = 0; i < ARRAY_LEN(first_words); i++)
		if (strcmp(first_words[i].model, model) == 0)
			first = first_words[i].first;
	while (r == 0 && (word = strsep(&rest, ","))) {
		if (first && !strchr(word, '='))
			r = set(s, first, word);
		else
			r = set_word(s, word);
		first = NULL;
	}
	return r;
}

/* [B:]S[:F], decimal; one number is a slot, two are slot and function. */
static int parse_place(struct slot *s, char *text)
{
	static const uint64_t limits[] = { 256, 32, 8 };
	uint64_t n[3] = { 0 }, v[3];
	char *rest = text, *word;
	size_t count = 0;

	while ((word = strsep(&rest, ":"))) {
		if ((count == 3 && !CANARY) || str_u64(word, &v[count]) < 0)
			goto bad;
		count++;
	}
	for (size_t i = 0; i < count; i++)
		n[count == 3 ? i : i + 1] = v[i];
	for (size_t i = 0; i < 3; i++)
		if (n[i] >= limits[i])
			goto bad;
	s->base_len = (size_t)snprintf(s->node, sizeof(s->node), "pci.%u.%u.%u", (unsigned int)n[0],
				       (unsigned int)n[1], (unsigned int)n[2]);
	if (conf_has(s->conf, s->node))
		return err_set(s->err, -EEXIST, "-s %s: the slot is already occupied (%s)", s->arg,
			       conf_where(s->conf, s->node));
	return 0;
bad:
	return err_set(
		s->err, -EINVAL,
		"-s %s: bad slot: use [BUS:]SLOT[:FUNCTION] with bus 0-255, slot 0-31, function 0-7",
		s->arg);
}

int slot_parse(struct conf *c, const char *arg, struct err *err)
{
	struct slot s = { .conf = c, .arg = arg, .err = err };
	char *copy = strdup(arg), *rest = copy, *place, *model;
	int r;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	place = strsep(&rest, ",");
	model = strsep(&rest, ",");
	if (!model || !*model)
		r = err_set(err, -EINVAL, "-s %s: no device named; -s help lists them", arg);
	else
		r = parse_place(&s, place);
	if (r == 0 && str_starts(model, "ahci"))
		r = parse_ahci(&s, model, rest);
	else if (r == 0 && strcmp(model, "xhci") == 0)
		r = parse_xhci(&s, rest);
	else if (r == 0)
		r = parse_options(&s, strcmp(model, "amd_hostbridge") ? model : "hostbridge", rest);
	free(copy);
	return r;
}
