/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/usage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "util/fd.h"
#include "util/str.h"

#define ANSWER_MS 2000

/* The entry of a device, a new one if need be; NULL: there are too many. */
static struct usage_io *find_io(struct usage *u, bool disk, const char *name, size_t len)
{
	struct usage_io *io;

	for (unsigned int i = 0; i < u->count; i++) {
		io = &u->io[i];
		if (io->disk == disk && strncmp(io->name, name, len) == 0 && !io->name[len])
			return io;
	}
	if (u->count == USAGE_IO_MAX || len >= sizeof(io->name))
		return NULL;
	io = &u->io[u->count++];
	*io = (struct usage_io){ .disk = disk };
	memcpy(io->name, name, len);
	return io;
}

static uint64_t tap_bytes(const char *tap, const char *what, uint64_t otherwise)
{
	char path[128], *text;
	size_t len;
	uint64_t n;

	if (file_path(path, sizeof(path), "/sys/class/net/%s/statistics/%s", tap, what) < 0 ||
	    fd_read_file(path, 65536, &text, &len) < 0)
		return otherwise;
	text[strcspn(text, "\n")] = '\0';
	n = str_u64(text, &n) == 0 ? n : otherwise;
	free(text);
	return n;
}

/* The name of a tap comes before the card's counters, which it then stands for: it has what the kernel moved, too. */
struct tap {
	char name[32];
	const struct usage_io *io;
};

/* "disk.nvme-0:4.0.read=4096", cut at the sign. */
static void read_line(struct usage *u, const char *key, const char *value, struct tap *tap)
{
	bool disk = str_starts(key, "disk.");
	const char *name = strchr(key, '.'), *what = strrchr(key, '.');
	struct usage_io *io;
	uint64_t n = 0;

	if (strcmp(key, "exits") == 0)
		(void)str_u64(value, &u->exits);
	if ((!disk && !str_starts(key, "net.")) || what == name)
		return;
	io = find_io(u, disk, name + 1, (size_t)(what - name - 1));
	if (!io)
		return;
	(void)str_u64(value, &n);
	what++;
	if (strcmp(what, "tap") == 0 && !strchr(value, '/') &&
	    str_copy(tap->name, sizeof(tap->name), value) == 0)
		tap->io = io;
	else if (strcmp(what, "read") == 0)
		io->in = n;
	else if (strcmp(what, "written") == 0)
		io->out = n;
	else if (strcmp(what, "received") == 0)
		io->in = tap->io == io ? tap_bytes(tap->name, "tx_bytes", n) : n;
	else if (strcmp(what, "sent") == 0)
		io->out = tap->io == io ? tap_bytes(tap->name, "rx_bytes", n) : n;
}

static void read_stats(struct usage *u, char *reply)
{
	struct tap tap = { "" };

	for (char *line = reply, *end; *line; line = end) {
		size_t len = strcspn(line, "\n");
		char *sign;

		end = line + len + (line[len] != '\0');
		line[len] = '\0';
		sign = strchr(line, '=');
		if (!sign)
			continue;
		*sign = '\0';
		read_line(u, line, sign + 1, &tap);
	}
}

static void ask(const struct guest *g, struct usage *u)
{
	char reply[16384], text[32];

	if (ctl_command(g, "status", ANSWER_MS, reply, sizeof(reply), NULL) < 0)
		return;
	(void)ctl_value(reply, "state", u->state, sizeof(u->state));
	(void)ctl_value(reply, "reason", u->reason, sizeof(u->reason));
	if (ctl_value(reply, "cpus", text, sizeof(text)) == 0)
		(void)str_u64(text, &u->cpus);
	if (ctl_value(reply, "memory", text, sizeof(text)) == 0)
		(void)str_u64(text, &u->memory);
	u->answers = ctl_command(g, "stats", ANSWER_MS, reply, sizeof(reply), NULL) == 0;
	if (u->answers)
		read_stats(u, reply);
}

void usage_get(const struct guest *g, struct usage *out)
{
	*out = (struct usage){ .answers = false };
	memcpy(out->guest, g->name, sizeof(out->guest));
	run_query(g, &out->run);
	if (out->run.kind != RUN_RUNNING)
		return;
	if (run_usage(out->run.pid, &out->process) < 0)
		out->process = (struct run_usage){ 0 };
	ask(g, out);
}

struct usages {
	bool running;
	struct usage *list;
	size_t count, room;
};

static int add(void *arg, const struct guest *g)
{
	struct usages *u = arg;
	struct usage *list = u->list;

	if (u->count == u->room) {
		u->room = u->room ? 2 * u->room : 16;
		list = realloc(list, u->room * sizeof(*list));
		if (!list)
			return -ENOMEM;
		u->list = list;
	}
	usage_get(g, &list[u->count]);
	u->count += !u->running || list[u->count].run.kind == RUN_RUNNING;
	return 0;
}

int usage_list(const struct store *s, bool running, struct usage **out, size_t *count)
{
	struct usages u = { .running = running };
	int r = store_each(s, add, &u);

	if (r < 0 && r != -EACCES) {
		free(u.list);
		return r;
	}
	*out = u.list;
	*count = u.count;
	return r;
}

struct usage_io usage_sum(const struct usage *u, bool disk)
{
	struct usage_io sum = { .disk = disk };

	for (unsigned int i = 0; i < u->count; i++) {
		if (u->io[i].disk != disk)
			continue;
		sum.in += u->io[i].in;
		sum.out += u->io[i].out;
	}
	return sum;
}
