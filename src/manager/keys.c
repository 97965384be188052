/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/keys.h"

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "manager/guestconf.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

#define KEY_MAX 128
#define TEXT_MAX 512
/* More than a person reads. */
#define WARNINGS_MAX 20

/* # stands for a decimal number. */
static const char *const used_keys[] = {
	"loader",
	"cpu",
	"cpu_sockets",
	"cpu_cores",
	"cpu_threads",
	"memory",
	"wired_memory",
	"utctime",
	"uuid",
	"comports",
	"loader_timeout",
	"uefi_vars",
	"bhyve_options",
	"disk#_type",
	"disk#_name",
	"disk#_dev",
	"disk#_opts",
	"disk#_size",
	"graphics",
	"graphics_port",
	"graphics_listen",
	"graphics_res",
	"graphics_wait",
	"graphics_tls",
	"vnc_password",
	"virt_random",
	"xhci_mouse",
	"kernel",
	"initrd",
	"cmdline",
	"on_restart",
	"on_fault",
	"priority",
	"tags",
	"protect",
	"ssh_user",
	"prestart",
	"poststart",
	"prestop",
	"poststop",
	"limit_pcpu",
	"limit_rbps",
	"limit_wbps",
	"limit_riops",
	"limit_wiops",
	"network#_type",
	"network#_switch",
	"network#_mac",
	"network#_device",
	"network#_name",
	"network#_span",
	"network#_vlan",
	"network#_limit_in",
	"network#_limit_out",
	"network#_ports",
};

/*
 * Accepted everywhere else, without effect here: the hypervisor decides, or there is nothing to
 * decide on Linux.
 */
static const char *const quiet_keys[] = {
	"ignore_bad_msr",    "ignore_msr",	 "debug", "hostbridge",
	"ahci_device_limit", "zfs_dataset_opts", "fwcfg", "zfs_zvol_opts",
};

/* Keys of vm-bhyve that a person sets for an effect that is not there yet. */
static const char *const later_keys[] = {
	"sound",
	"sound_play",
	"sound_rec",
	"virt_console#",
	"passthru#",
	"passthru#_options",
	"start_slot",
	"install_slot",
	"nulliso_fix",
	"graphics_vga",
	"bhyveload_loader",
	"bhyveload_args",
	"grub_install#",
	"grub_run#",
	"grub_run_partition",
	"grub_run_dir",
	"grub_run_no_partition",
	"grub_run_file",
	"guest",
	"uefi",
};

struct check {
	const struct gconf *g;
	void (*warn)(void *arg, const char *text);
	void *arg;
	unsigned warnings;
};

static void warn_line(struct check *c, const struct gconf_line *line, const char *what)
{
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof(text), "%s:%u: %s", gconf_path(c->g), line->number, what);

	/* A cut text is still a warning. */
	if (n > 0 && c->warnings++ < WARNINGS_MAX)
		c->warn(c->arg, text);
}

/* Puts # for each run of digits. False if the key is longer than any known one. */
static bool key_pattern(const char *key, char *out, size_t size)
{
	size_t n = 0;

	while (*key) {
		if (n + 1 >= size)
			return false;
		if (isdigit((unsigned char)*key)) {
			out[n++] = '#';
			key += strspn(key, "0123456789");
		} else {
			out[n++] = *key++;
		}
	}
	out[n] = '\0';
	return true;
}

const char *keys_name(size_t i)
{
	return i < ARRAY_LEN(used_keys) ? used_keys[i] : NULL;
}

static bool is_in(const char *pattern, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(pattern, list[i]) == 0)
			return true;
	}
	return false;
}

/* The nearest known key with the number that was typed put back in. */
static void unknown_text(const char *key, const char *pattern, char *out, size_t size)
{
	const char *near = str_nearest(pattern, used_keys, ARRAY_LEN(used_keys));
	const char *digits = key + strcspn(key, "0123456789");
	const char *hash = near ? strchr(near, '#') : NULL;
	int n;

	if (!near)
		n = snprintf(out, size, K(041) "unknown key '%.64s'", key);
	else if (hash)
		n = snprintf(out, size, K(041) "unknown key '%.64s' (did you mean '%.*s%.*s%s'?)",
			     key, (int)(hash - near), near,
			     *digits ? (int)strspn(digits, "0123456789") : 1,
			     *digits ? digits : "0", hash + 1);
	else
		n = snprintf(out, size, K(041) "unknown key '%.64s' (did you mean '%s'?)", key,
			     near);
	if (n < 0)
		out[0] = '\0';
}

enum keys_kind keys_find(const char *key, char *text, size_t size)
{
	char pattern[KEY_MAX];

	text[0] = '\0';
	if (!key_pattern(key, pattern, sizeof(pattern))) {
		(void)str_copy(text, size, K(041) "unknown key");
		return KEYS_UNKNOWN;
	}
	if (is_in(pattern, used_keys, ARRAY_LEN(used_keys)))
		return KEYS_USED;
	if (is_in(pattern, quiet_keys, ARRAY_LEN(quiet_keys)))
		return KEYS_QUIET;
	if (is_in(pattern, later_keys, ARRAY_LEN(later_keys))) {
		if (snprintf(text, size, "'%.64s' has no effect", key) < 0)
			text[0] = '\0';
		return KEYS_LATER;
	}
	unknown_text(key, pattern, text, size);
	return KEYS_UNKNOWN;
}

static void check_key(struct check *c, const struct gconf_line *line)
{
	char text[TEXT_MAX / 2];

	if (keys_find(line->key, text, sizeof(text)) >= KEYS_LATER)
		warn_line(c, line, text);
}

/* A second line of a key that is not read, because the first one counts. */
static void check_twice(struct check *c, const struct gconf_line *line)
{
	char text[TEXT_MAX / 2];

	for (size_t i = 0; i + 1 < line->number; i++) {
		struct gconf_line before = gconf_line(c->g, i);

		if (!before.key || strcmp(before.key, line->key) != 0)
			continue;
		if (snprintf(text, sizeof(text), "'%.64s' is given twice, line %u counts",
			     line->key, before.number) > 0)
			warn_line(c, line, text);
		return;
	}
}

static void check_ignored(struct check *c, const struct gconf_line *line)
{
	const char *p = line->text + strspn(line->text, " \t\r\n");

	if (*p == '\0' || *p == '#')
		return;
	if (!strchr(p, '='))
		warn_line(c, line, "ignored: not a key=\"value\" line");
	else
		warn_line(c, line, "ignored: a key starts in column 1 with a small letter");
}

/* Numbered keys count from 0; what stands behind a gap is not read. */
static void check_gap(struct check *c, const struct gconf_line *line, const char *kind)
{
	char text[TEXT_MAX / 2];
	unsigned n = 0, used = 0;
	char end;

	if (!str_starts(line->key, kind) ||
	    sscanf(line->key + strlen(kind), "%4u_type%c", &n, &end) != 1 ||
	    !strstr(line->key, "_type"))
		return;
	while (gconf_getf(c->g, "%s%u_type", kind, used))
		used++;
	if (n <= used)
		return;
	if (snprintf(text, sizeof(text), "%s%u is not used, because there is no %s%u", kind, n,
		     kind, used) > 0)
		warn_line(c, line, text);
}

void keys_check(const struct gconf *g, void (*warn)(void *arg, const char *text), void *arg)
{
	struct check c = { .g = g, .warn = warn, .arg = arg };

	for (size_t i = 0; i < gconf_count(g) && c.warnings < WARNINGS_MAX; i++) {
		struct gconf_line line = gconf_line(g, i);
		size_t len = line.key ? strlen(line.key) : 0;

		if (!line.key) {
			check_ignored(&c, &line);
		} else if (len > 0 && (line.key[len - 1] == ' ' || line.key[len - 1] == '\t')) {
			warn_line(&c, &line, "ignored: a blank stands before =");
		} else {
			check_key(&c, &line);
			check_twice(&c, &line);
			check_gap(&c, &line, "disk");
			check_gap(&c, &line, "network");
		}
	}
}
