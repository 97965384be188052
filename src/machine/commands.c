/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/log.h"
#include "util/str.h"

static int no_operand(const char *operand, struct err *err)
{
	return operand && *operand ? err_set(err, -EINVAL, "takes no operand") : 0;
}

static int cmd_status(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	struct machine *m = arg;
	int r = no_operand(operand, err);
	struct blk_trouble trouble;
	struct dev *d;

	if (r < 0)
		return r;
	control_reply(c, "name", "%s", m->set.name);
	control_reply(c, "state", "%s", machine_state_name(m));
	if (machine_trouble(m, &d, &trouble))
		control_reply(c, "reason", "%s", trouble.text);
	control_reply(c, "pid", "%d", (int)getpid());
	control_reply(c, "cpus", "%llu", (unsigned long long)m->set.cpus);
	control_reply(c, "memory", "%llu", (unsigned long long)m->set.memory_size);
	control_reply(c, "uptime", "%llu",
		      m->started_ns
			      ? (unsigned long long)((clock_mono_ns() - m->started_ns) / NS_PER_SEC)
			      : 0ull);
	control_reply(c, "resets", "%llu", (unsigned long long)m->resets);
	if (m->viewer) {
		control_reply(c, "vnc", "%s", viewer_address(m->viewer));
		control_reply(c, "viewers", "%u", screen_clients(m->screen));
	}
	for (int i = 0; i < 4; i++) {
		char key[8];

		if (!m->set.com[i])
			continue;
		snprintf(key, sizeof(key), "com%d", i + 1);
		control_reply(c, key, "%s", m->set.com[i]);
	}
	return 0;
}

static void reply_count(struct control_client *c, const char *kind, const struct dev *d,
			unsigned int n, const char *what, uint64_t value)
{
	char key[64], number[12] = "";

	if (n)
		snprintf(number, sizeof(number), ".%u", n);
	snprintf(key, sizeof(key), "%s.%s%s.%s", kind, d->name, number, what);
	control_reply(c, key, "%llu", (unsigned long long)value);
}

/* What went to and from each disk and card, seen from the guest, in bytes. */
static void reply_io(struct machine *m, struct control_client *c)
{
	char key[64];
	struct blk_stats disk;
	struct net_stats line;
	const struct blk *b;
	const struct net *l;
	struct dev *d;

	list_for_each(d, &m->devs, link) {
		for (unsigned int i = 0; (b = dev_disk(d, i)); i++) {
			blk_stats_get(b, &disk);
			reply_count(c, "disk", d, i, "read", disk.read_bytes);
			reply_count(c, "disk", d, i, "written", disk.write_bytes);
			reply_count(c, "disk", d, i, "requests", disk.completed);
		}
		for (unsigned int i = 0; (l = dev_line(d, i)); i++) {
			/* The kernel may move frames by itself (vhost): only the tap has seen all. */
			if (net_tap_fd(l, 0) >= 0) {
				snprintf(key, sizeof(key), "net.%s.tap", d->name);
				control_reply(c, key, "%s", net_info_get(l)->name);
			}
			net_stats_get(l, &line);
			reply_count(c, "net", d, i, "received", line.rx_bytes);
			reply_count(c, "net", d, i, "sent", line.tx_bytes);
		}
	}
}

static int cmd_stats(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	struct machine *m = arg;
	struct kvm_stats k;
	struct loop_stats l;
	int r = no_operand(operand, err);

	if (r < 0)
		return r;
	kvm_stats_get(m->kvm, &k);
	loop_stats_get(m->loop, &l);
	control_reply(c, "exits", "%llu", (unsigned long long)k.exits);
	control_reply(c, "exits.io", "%llu", (unsigned long long)k.user_io);
	control_reply(c, "exits.mmio", "%llu", (unsigned long long)k.user_mmio);
	control_reply(c, "exits.other", "%llu", (unsigned long long)k.user_other);
	control_reply(c, "loop.waits", "%llu", (unsigned long long)l.waits);
	control_reply(c, "loop.callbacks", "%llu", (unsigned long long)l.callbacks);
	reply_io(m, c);
	return 0;
}

static int wish(void *arg, const char *operand, enum machine_wish w, struct err *err)
{
	int r = no_operand(operand, err);

	if (r == 0)
		machine_wish(arg, w);
	return r;
}

static int cmd_pause(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)c;
	return wish(arg, operand, WISH_PAUSE, err);
}

static int cmd_resume(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)c;
	return wish(arg, operand, WISH_RESUME, err);
}

static int cmd_reset(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)c;
	return wish(arg, operand, WISH_RESET, err);
}

static int cmd_quit(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)c;
	return wish(arg, operand, WISH_QUIT, err);
}

static int cmd_poweroff(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	int r = no_operand(operand, err);

	(void)c;
	if (r == 0)
		machine_power_button(arg);
	return r;
}

/* The network card that a person means: its name, or its number in the order of the slots. NULL: none. */
static struct dev *find_card(struct machine *m, const char *which)
{
	uint64_t wanted = UINT64_MAX, n = 0;
	struct dev *d;

	(void)str_u64(which, &wanted);
	list_for_each(d, &m->devs, link)
		if (d->ops->link && (n++ == wanted || strcmp(d->name, which) == 0))
			return d;
	return NULL;
}

static int cmd_link(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	struct machine *m = arg;
	char which[64] = "", how[8] = "";
	bool up;
	struct dev *d;

	if (!operand || !*operand) {
		list_for_each(d, &m->devs, link)
			if (d->ops->link)
				control_reply(c, d->name, "%s", dev_link(d, -1) ? "up" : "down");
		return 0;
	}
	if (sscanf(operand, "%63s %7s", which, how) != 2 ||
	    (strcmp(how, "up") != 0 && strcmp(how, "down") != 0))
		return err_set(err, -EINVAL, "use: link, or link CARD up|down");
	d = find_card(m, which);
	if (!d)
		return err_set(err, -ENOENT, "no network card %s; link alone lists them", which);
	up = dev_link(d, how[0] == 'u');
	control_reply(c, d->name, "%s", up ? "up" : "down");
	return 0;
}

static int cmd_log_level(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	(void)arg;
	if (!operand) {
		control_reply(c, "level", "%s", names[log_level_get()]);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(operand, names[i]) == 0) {
			log_set_level((enum log_level)i);
			return 0;
		}
	}
	return err_set(err, -EINVAL, "level is error, warn, info or debug");
}

static int cmd_events(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)arg;
	if (no_operand(operand, err) < 0)
		return -EINVAL;
	control_subscribe(c);
	return 0;
}

static int cmd_help(void *arg, struct control_client *c, const char *operand, struct err *err)
{
	(void)arg;
	(void)operand;
	(void)err;
	for (const struct control_cmd *cmd = machine_commands; cmd->name; cmd++)
		control_reply(c, cmd->name, "%s", cmd->help);
	return 0;
}

const struct control_cmd machine_commands[] = {
	{ "status", "state, pid, screen and console addresses", cmd_status },
	{ "stats", "counters since the start", cmd_stats },
	{ "pause", "stop the vCPUs and drain the devices", cmd_pause },
	{ "resume", "go on after pause", cmd_resume },
	{ "reset", "hard reset, as the button of a machine", cmd_reset },
	{ "poweroff", "press the ACPI power button", cmd_poweroff },
	{ "quit", "switch off at once", cmd_quit },
	{ "link", "network cards; CARD up|down: plug the cable in or pull it", cmd_link },
	{ "disk", "disks; NAME grow: take over the image's new size", machine_cmd_disk },
	{ "cd", "DRIVE look|eject|force, or DRIVE insert PATH: change the disc", machine_cmd_cd },
	{ "screen", "the screen's size, and its memory as a descriptor", machine_cmd_screen },
	{ "key",
	  "CODE...: press keys together (scancodes, in hexadecimal); none: whether it would work",
	  machine_cmd_key },
	{ "log-level", "show or set: error, warn, info, debug", cmd_log_level },
	{ "events", "report state changes on this connection", cmd_events },
	{ "help", "this list", cmd_help },
	{ NULL, NULL, NULL },
};
