/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/guestconf.h"
#include "manager/table.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"

#define TEXT 64
/* What is shown does not hang on a khyve that does. */
#define ANSWER_MS 200

struct listing {
	struct vm *vm;
	bool running_only, verbose, json;
	const char *tag; /* NULL: all */
	struct table *table;
	json_t *guests;
};

/* What one row shows. */
struct row {
	const struct guest *g;
	struct gconf *conf; /* NULL: cannot be read */
	struct run_state state;
	char stall[600]; /* why it does not go on although it runs, or "" */
	char vnc[128], state_text[sizeof(((struct run_state *)0)->host) + TEXT];
	unsigned autostart;
};

static const char *or_dash(const char *s)
{
	return s && *s ? s : "-";
}

static const char *get(const struct row *row, const char *key)
{
	return row->conf ? gconf_get(row->conf, key) : NULL;
}

static void read_row(struct row *row, const struct vm *vm, const struct guest *g)
{
	int n;

	*row = (struct row){ .g = g, .autostart = store_autostart(&vm->store, g->name) };
	if (gconf_load(g->conf, &row->conf, NULL) < 0)
		row->conf = NULL;
	run_query(g, &row->state);
	/*
	 * What a killed supervisor left goes now; if we may not remove it, the next command will.
	 */
	if (row->state.kind == RUN_STOPPED)
		run_clean(g);
	if (row->state.kind != RUN_RUNNING || !row->conf ||
	    !gconf_bool(row->conf, "graphics", false) ||
	    run_console(g, "vnc", row->vnc, sizeof(row->vnc)) < 0)
		row->vnc[0] = '\0';
	if (row->state.kind != RUN_RUNNING ||
	    !vm_stall_reason(g, ANSWER_MS, row->stall, sizeof(row->stall)))
		row->stall[0] = '\0';
	if (row->state.kind == RUN_RUNNING)
		n = snprintf(row->state_text, sizeof(row->state_text), "%s (%d)",
			     row->stall[0] ? "Stalled" : "Running", (int)row->state.pid);
	else if (row->state.kind == RUN_LOCKED)
		n = snprintf(row->state_text, sizeof(row->state_text), "Locked (%s)",
			     row->state.host);
	else
		n = snprintf(row->state_text, sizeof(row->state_text), "Stopped");
	if (n < 0)
		row->state_text[0] = '\0';
}

/* As ps prints it, with "d " behind the days: "3d 04:05:06", "04:05:06", "05:06". */
static void format_age(double seconds, char *out, size_t size)
{
	unsigned long t = seconds > 0 ? (unsigned long)seconds : 0;
	unsigned long d = t / 86400, h = t / 3600 % 24, m = t / 60 % 60, s = t % 60;
	int n;

	if (d)
		n = snprintf(out, size, "%lud %02lu:%02lu:%02lu", d, h, m, s);
	else if (h)
		n = snprintf(out, size, "%02lu:%02lu:%02lu", h, m, s);
	else
		n = snprintf(out, size, "%02lu:%02lu", m, s);
	if (n < 0)
		out[0] = '\0';
}

static void format_size(uint64_t bytes, char *out, size_t size)
{
	const char *units = "BKMGTP";
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 1024 && i < 5; i++)
		v /= 1024;
	if (snprintf(out, size, "%.2f%c", v, units[i]) < 0)
		out[0] = '\0';
}

static void add_usage(struct listing *l, const struct row *row)
{
	char cpu[TEXT] = "-", rsz[TEXT] = "-", age[TEXT] = "-";
	struct run_usage u;

	if (row->state.kind == RUN_RUNNING && run_usage(row->state.pid, &u) == 0) {
		double percent = u.age_seconds > 0 ? 100 * u.cpu_seconds / u.age_seconds : 0;

		if (snprintf(cpu, sizeof(cpu), "%.1f", percent) < 0)
			cpu[0] = '\0';
		format_size(u.resident, rsz, sizeof(rsz));
		format_age(u.age_seconds, age, sizeof(age));
	}
	table_add(l->table, "%5s", cpu);
	table_add(l->table, "%8s", rsz);
	table_add(l->table, "%14s", age);
}

/* The tags key with commas for blanks. */
static void format_tags(const struct row *row, char *out, size_t size)
{
	const char *tags = get(row, "tags"), *word;
	size_t len, n = 0;

	while ((word = vm_next_tag(&tags, &len)) && n + len + 2 <= size) {
		if (n)
			out[n++] = ',';
		memcpy(out + n, word, len);
		n += len;
	}
	out[n] = '\0';
	if (n == 0)
		(void)str_copy(out, size, "-");
}

static void add_row(struct listing *l, const struct row *row)
{
	const char *loader = get(row, "loader");
	char tags[256];

	table_add(l->table, "%s", row->g->name);
	table_add(l->table, "%s", row->g->store);
	table_add(l->table, "%s", loader && *loader ? loader : "none");
	table_add(l->table, "%s", or_dash(get(row, "cpu")));
	table_add(l->table, "%s", or_dash(get(row, "memory")));
	table_add(l->table, "%s", or_dash(row->vnc));
	if (row->autostart)
		table_add(l->table, "Yes [%u]", row->autostart);
	else
		table_add(l->table, "No");
	if (l->verbose)
		add_usage(l, row);
	table_add(l->table, "%s", row->state_text);
	format_tags(row, tags, sizeof(tags));
	table_add(l->table, "%s", tags);
}

static void add_json(struct listing *l, const struct row *row)
{
	static const char *const kinds[] = { "stopped", "running", "locked" };
	const char *cpu = get(row, "cpu"), *memory = get(row, "memory");
	json_t *o = json_object();
	uint64_t n;

	json_object_set_new(o, "name", json_string(row->g->name));
	json_object_set_new(o, "datastore", json_string(row->g->store));
	json_object_set_new(o, "loader", ui_json_text(get(row, "loader")));
	json_object_set_new(
		o, "cpu", cpu && str_u64(cpu, &n) == 0 ? json_integer((json_int_t)n) : json_null());
	json_object_set_new(o, "memory",
			    memory && str_size(memory, MIB, &n) == 0 ? json_integer((json_int_t)n)
								     : json_null());
	json_object_set_new(o, "vnc", ui_json_text(row->vnc));
	json_object_set_new(o, "autostart",
			    row->autostart ? json_integer(row->autostart) : json_null());
	json_object_set_new(o, "state", json_string(kinds[row->state.kind]));
	json_object_set_new(o, "pid",
			    row->state.kind == RUN_RUNNING ? json_integer(row->state.pid)
							   : json_null());
	json_object_set_new(o, "paused", ui_json_text(row->stall));
	json_object_set_new(o, "host", ui_json_text(row->state.host));
	json_object_set_new(o, "tags", vm_tags_json(get(row, "tags")));
	json_array_append_new(l->guests, o);
}

static int list_guest(void *arg, const struct guest *g)
{
	struct listing *l = arg;
	struct row row;

	read_row(&row, l->vm, g);
	if ((!l->running_only || row.state.kind != RUN_STOPPED) &&
	    (!l->tag || vm_has_tag(get(&row, "tags"), l->tag))) {
		if (l->json)
			add_json(l, &row);
		else
			add_row(l, &row);
	}
	gconf_free(row.conf);
	return 0;
}

static int print_table(struct listing *l)
{
	static const char *const plain[] = { "NAME", "DATASTORE", "LOADER", "CPU", "MEMORY",
					     "VNC",  "AUTO",	  "STATE",  "TAGS" };
	/* DATASTORE, LOADER, TAGS */
	const size_t spare[] = { 1, 2, l->verbose ? 11 : 8 };
	int r;

	l->table = table_new(ARRAY_LEN(plain) + (l->verbose ? 3 : 0));
	if (!l->table)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
		if (l->verbose && i == 7) {
			table_add(l->table, "%5s", "%CPU");
			table_add(l->table, "%8s", "RSZ");
			table_add(l->table, "%14s", "UPTIME");
		}
		table_add(l->table, "%s", plain[i]);
	}
	r = store_each(&l->vm->store, list_guest, l);
	if (ui_columns())
		table_fit(l->table, ui_columns(), spare, ARRAY_LEN(spare));
	if (r == 0 || r == -EACCES)
		table_print(l->table, stdout);
	table_free(l->table);
	return r;
}

static int print_json(struct listing *l)
{
	int r;

	l->guests = json_array();
	r = store_each(&l->vm->store, list_guest, l);
	if (r < 0 && r != -EACCES) {
		json_decref(l->guests);
		return r;
	}
	return ui_json_print(json_pack("{s:o}", "guests", l->guests)) ? -ENOMEM : r;
}

int verb_list(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	struct listing l = { .vm = vm };
	int c, r;

	while ((c = ui_options(argc, argv, "rvt:", longs)) != -1) {
		switch (c) {
		case 'r':
			l.running_only = true;
			break;
		case 'v':
			l.verbose = true;
			break;
		case 't':
			l.tag = optarg;
			break;
		case 'j':
			l.json = true;
			break;
		default:
			return ui_usage(vm);
		}
	}
	if (optind < argc)
		return ui_usage(vm);
	r = l.json ? print_json(&l) : print_table(&l);
	if (r == -EACCES)
		return ui_error(
			K(034) "some guests in %s belong to somebody else and are not shown; run as root",
			vm->store.dir);
	return r < 0 ? ui_error("%s: %s", vm->store.dir, strerror(-r)) : 0;
}
