/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include "manager/table.h"
#include "manager/usage.h"
#include "ui_json.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/macros.h"

/* vm top: what guests use now, from two looks at the counters of all. On a terminal again and again. */

#define FIRST_MS 500
#define SNAPSHOT_MS 1000
#define EVERY_MS 2000

/* What a guest uses within a second. */
struct rates {
	const struct usage *now;
	double cpu; /* processors */
	uint64_t disk_in, disk_out, net_in, net_out, exits;
};

struct look {
	struct usage *list;
	size_t count;
	uint64_t ns;
};

struct top {
	const struct vm *vm;
	struct look before, now;
	struct rates *rates; /* of now's guests, the busiest first */
	bool hidden; /* some guests are not ours to look at */
};

static uint64_t rate(uint64_t before, uint64_t now, double seconds)
{
	return now > before ? (uint64_t)((double)(now - before) / seconds + 0.5) : 0;
}

/* The same run of the guest at the look before; NULL: it was not there. */
static const struct usage *find_before(const struct look *l, const struct usage *u)
{
	for (size_t i = 0; i < l->count; i++) {
		if (l->list[i].run.pid == u->run.pid && l->list[i].run.start == u->run.start &&
		    strcmp(l->list[i].guest, u->guest) == 0)
			return &l->list[i];
	}
	return NULL;
}

/* What began after the look before has its counters since its start, which is no longer ago. */
static struct rates rates_of(const struct look *before, const struct usage *u, double seconds)
{
	static const struct usage none;
	const struct usage *old = find_before(before, u);
	struct usage_io disk = usage_sum(u, true), net = usage_sum(u, false), disk0, net0;
	double cpu;

	if (!old)
		old = &none;
	disk0 = usage_sum(old, true);
	net0 = usage_sum(old, false);
	cpu = (u->process.cpu_seconds - old->process.cpu_seconds) / seconds;
	return (struct rates){ .now = u,
			       .cpu = MAX(cpu, 0),
			       .disk_in = rate(disk0.in, disk.in, seconds),
			       .disk_out = rate(disk0.out, disk.out, seconds),
			       .net_in = rate(net0.in, net.in, seconds),
			       .net_out = rate(net0.out, net.out, seconds),
			       .exits = rate(old->exits, u->exits, seconds) };
}

static int busier(const void *a, const void *b)
{
	const struct rates *x = a, *y = b;

	if (x->cpu != y->cpu)
		return x->cpu > y->cpu ? -1 : 1;
	return strcmp(x->now->guest, y->now->guest);
}

/* Looks, and compares with the look before. */
static int look(struct top *t)
{
	double seconds;
	int r;

	free(t->before.list);
	t->before = t->now;
	t->now = (struct look){ .ns = clock_mono_ns() };
	seconds = (double)(t->now.ns - t->before.ns) / NS_PER_SEC;
	r = usage_list(&t->vm->store, true, &t->now.list, &t->now.count);
	t->hidden = r == -EACCES;
	if (r < 0 && r != -EACCES)
		return r;
	free(t->rates);
	t->rates = calloc(t->now.count + 1, sizeof(*t->rates));
	if (!t->rates)
		return -ENOMEM;
	/* The first look has nothing to compare with; nobody shows it. */
	for (size_t i = 0; i < t->now.count; i++)
		t->rates[i] = rates_of(&t->before, &t->now.list[i], seconds);
	qsort(t->rates, t->now.count, sizeof(*t->rates), busier);
	return 0;
}

static void add_bytes(struct table *t, uint64_t bytes)
{
	const char *units = "BKMGTP";
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i < 5; i++)
		v /= 1024;
	table_add(t, i ? "%7.1f%c" : "%7.0f%c", v, units[i]);
}

static const char *state_text(const struct usage *u)
{
	if (!u->answers)
		return "does not answer";
	return u->reason[0] ? u->reason : u->state;
}

static void add_row(struct table *t, const struct rates *r)
{
	const struct usage *u = r->now;

	table_add(t, "%s", u->guest);
	table_add(t, "%6.1f", 100 * r->cpu);
	table_add(t, u->answers ? "%4llu" : "   -", (unsigned long long)u->cpus);
	add_bytes(t, u->process.resident);
	add_bytes(t, r->disk_in);
	add_bytes(t, r->disk_out);
	add_bytes(t, r->net_in);
	add_bytes(t, r->net_out);
	table_add(t, "%8llu", (unsigned long long)r->exits);
	table_add(t, "%s", state_text(u));
}

/* At most this many guests. */
static int print(const struct top *t, size_t rows)
{
	static const char *const heading[] = { "NAME",	   "  %CPU",   "CPUS",	   "     RSZ",
					       "  READ/s", " WRITE/s", "  RECV/s", "  SENT/s",
					       " EXITS/s", "STATE" };
	struct table *table = table_new(ARRAY_LEN(heading));

	if (!table)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(heading); i++)
		table_add(table, "%s", heading[i]);
	for (size_t i = 0; i < MIN(t->now.count, rows); i++)
		add_row(table, &t->rates[i]);
	table_print(table, stdout);
	table_free(table);
	return fflush(stdout) ? -errno : 0;
}

static json_t *guest_json(const struct rates *r)
{
	const struct usage *u = r->now;
	json_t *o = json_pack("{s:s, s:i, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name",
			      u->guest, "pid", (int)u->run.pid, "cpu-percent", 100 * r->cpu,
			      "memory-resident", (json_int_t)u->process.resident, "uptime",
			      (json_int_t)u->process.age_seconds, "disk-read",
			      (json_int_t)r->disk_in, "disk-written", (json_int_t)r->disk_out,
			      "network-received", (json_int_t)r->net_in, "network-sent",
			      (json_int_t)r->net_out, "exits", (json_int_t)r->exits);

	ui_json_set(o, "state", u->answers ? u->state : NULL);
	ui_json_set(o, "reason", u->reason);
	json_object_set_new(o, "cpu", u->answers ? json_integer((json_int_t)u->cpus) : json_null());
	json_object_set_new(o, "memory",
			    u->answers ? json_integer((json_int_t)u->memory) : json_null());
	return o;
}

static int print_json(const struct top *t)
{
	json_t *guests = json_array();

	for (size_t i = 0; i < t->now.count; i++)
		json_array_append_new(guests, guest_json(&t->rates[i]));
	return ui_json_print(json_pack("{s:o}", "guests", guests));
}

/* --- on a terminal --- */

static size_t terminal_rows(void)
{
	struct winsize w;

	/* The heading takes one, and the last one stays empty. */
	return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 3 ? w.ws_row - 2u : SIZE_MAX;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* True: a signal, or q. */
static bool is_over(int signals, bool keys, int ms)
{
	struct pollfd p[2] = { { .fd = signals, .events = POLLIN },
			       { .fd = keys ? STDIN_FILENO : -1, .events = POLLIN } };
	uint64_t end = clock_mono_ns() + (uint64_t)ms * NS_PER_MS, now;
	char key;

	while ((now = clock_mono_ns()) < end) {
		if (poll(p, 2, (int)((end - now) / NS_PER_MS) + 1) < 0 && errno != EINTR)
			return true;
		if (p[0].revents)
			return true;
		if (p[1].revents && (read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q'))
			return true;
	}
	return false;
}

static int watch(struct top *t)
{
	int signals = open_signals(), ms = FIRST_MS, r;
	struct termios saved, raw;
	bool keys = tcgetattr(STDIN_FILENO, &saved) == 0;

	if (keys) {
		raw = saved;
		raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	/* The other screen, without cursor, long lines cut. */
	fputs("\033[?1049h\033[?25l\033[?7l", stdout);
	r = look(t);
	while (r == 0 && !is_over(signals, keys, ms)) {
		r = look(t);
		fputs("\033[H\033[2J", stdout);
		if (r == 0)
			r = print(t, terminal_rows());
		ms = EVERY_MS;
	}
	fputs("\033[?7h\033[?25h\033[?1049l", stdout);
	if (keys)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	fd_close(&signals);
	return r;
}

static int snapshot(struct top *t)
{
	int r = look(t);

	if (r == 0)
		poll(NULL, 0, SNAPSHOT_MS);
	return r == 0 ? look(t) : r;
}

int verb_top(struct vm *vm, int argc, char **argv)
{
	struct top t = { .vm = vm };
	int r, status = 0;
	bool json;

	if (ui_json_option(argc, argv, &json) < 0 || optind != argc)
		return ui_usage(vm);
	if (!json && isatty(STDOUT_FILENO)) {
		r = watch(&t);
	} else {
		r = snapshot(&t);
		if (r == 0 && json)
			status = print_json(&t);
		else if (r == 0)
			r = print(&t, SIZE_MAX);
	}
	if (r < 0)
		status = ui_error("%s: %s", vm->store.dir, strerror(-r));
	else if (t.hidden)
		status = ui_error(
			"some guests in %s belong to somebody else and are not shown; run as root",
			vm->store.dir);
	free(t.before.list);
	free(t.now.list);
	free(t.rates);
	return status;
}
