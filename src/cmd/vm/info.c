/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "manager/ctl.h"
#include "manager/file.h"
#include "manager/guestconf.h"
#include "ui_json.h"
#include "util/macros.h"
#include "util/str.h"

#define RULE "------------------------"

struct info {
	struct vm *vm;
	json_t *guests; /* NULL: for a person */
};

static const char *or_text(const char *s, const char *def)
{
	return s && *s ? s : def;
}

static int disk_path(const struct guest *g, const struct gconf *conf, unsigned n, char *out,
		     size_t size)
{
	const char *name = gconf_getf(conf, "disk%u_name", n);
	const char *dev = gconf_getf(conf, "disk%u_dev", n);

	if (!name)
		return -ENOENT;
	return dev && strcmp(dev, "custom") == 0 ? file_path(out, size, "%s", name)
						 : run_path(g, name, out, size);
}

static void print_disk(const struct guest *g, const struct gconf *conf, unsigned n)
{
	char path[PATH_MAX] = "-", total[64] = "-", used[64] = "-";
	struct stat st;

	if (disk_path(g, conf, n, path, sizeof(path)) == 0 && stat(path, &st) == 0) {
		ui_bytes((uint64_t)st.st_size, total, sizeof(total));
		ui_bytes((uint64_t)st.st_blocks * 512, used, sizeof(used));
	}
	printf("\n  virtual-disk\n    number: %u\n", n);
	printf("    device-type: %s\n", or_text(gconf_getf(conf, "disk%u_dev", n), "file"));
	printf("    emulation: %s\n", or_text(gconf_getf(conf, "disk%u_type", n), "-"));
	printf("    options: %s\n", or_text(gconf_getf(conf, "disk%u_opts", n), "-"));
	printf("    system-path: %s\n", path);
	printf("    bytes-size: %s\n    bytes-used: %s\n", total, used);
}

#define ANSWER_MS 500

const char *vm_stall_reason(const struct guest *g, unsigned ms, char *out, size_t size)
{
	char reply[4096];

	return ctl_command(g, "status", ms, reply, sizeof(reply), NULL) == 0 &&
			       ctl_value(reply, "reason", out, size) == 0
		       ? out
		       : NULL;
}

static void print_running(const struct guest *g, const struct run_state *state)
{
	static const char *const ports[] = { "com1", "com2", "vnc" };
	char text[PATH_MAX];
	struct run_usage u;

	if (vm_stall_reason(g, ANSWER_MS, text, sizeof(text)))
		printf("  paused: %s\n", text);
	if (run_usage(state->pid, &u) == 0) {
		ui_bytes(u.resident, text, sizeof(text));
		printf("  memory-resident: %s\n", text);
	}
	printf("\n  console-ports\n");
	for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
		if (run_console(g, ports[i], text, sizeof(text)) == 0)
			printf("    %s: %s\n", ports[i], text);
	}
}

static void print_topology(const struct gconf *conf)
{
	const char *sockets = gconf_get(conf, "cpu_sockets");

	if (!sockets)
		return;
	printf("  cpu-topology: sockets=%s", sockets);
	if (gconf_get(conf, "cpu_cores"))
		printf(", cores=%s", gconf_get(conf, "cpu_cores"));
	if (gconf_get(conf, "cpu_threads"))
		printf(", threads=%s", gconf_get(conf, "cpu_threads"));
	putchar('\n');
}

static void print_guest(const struct vm *vm, const struct guest *g, struct gconf *conf,
			const struct run_state *state)
{
	printf(RULE "\nVirtual Machine: %s\n" RULE "\n", g->name);
	if (state->kind == RUN_RUNNING)
		printf("  state: running (%d)\n", (int)state->pid);
	else if (state->kind == RUN_LOCKED)
		printf("  state: locked (%s)\n", state->host);
	else
		puts("  state: stopped");
	printf("  datastore: %s\n", g->store);
	printf("  loader: %s\n", or_text(gconf_get(conf, "loader"), "none"));
	printf("  uuid: %s\n", or_text(gconf_get(conf, "uuid"), "auto"));
	printf("  cpu: %s\n", or_text(gconf_get(conf, "cpu"), "-"));
	print_topology(conf);
	printf("  memory: %s\n", or_text(gconf_get(conf, "memory"), "-"));
	if (state->kind == RUN_RUNNING)
		print_running(g, state);
	for (unsigned n = 0; gconf_getf(conf, "network%u_type", n); n++)
		info_network(vm, g, conf, n, state->kind == RUN_RUNNING);
	for (unsigned n = 0; gconf_getf(conf, "disk%u_type", n); n++)
		print_disk(g, conf, n);
	info_snapshots(g);
	putchar('\n');
}

static json_t *disk_json(const struct guest *g, const struct gconf *conf, unsigned n)
{
	json_t *o = json_object();
	char path[PATH_MAX] = "";
	struct stat st;
	bool found = disk_path(g, conf, n, path, sizeof(path)) == 0 && stat(path, &st) == 0;

	json_object_set_new(o, "number", json_integer(n));
	ui_json_set(o, "device-type", or_text(gconf_getf(conf, "disk%u_dev", n), "file"));
	ui_json_set(o, "emulation", gconf_getf(conf, "disk%u_type", n));
	ui_json_set(o, "options", gconf_getf(conf, "disk%u_opts", n));
	ui_json_set(o, "system-path", path);
	json_object_set_new(o, "bytes-size", found ? json_integer(st.st_size) : json_null());
	json_object_set_new(o, "bytes-used",
			    found ? json_integer(st.st_blocks * 512) : json_null());
	return o;
}

static void add_running(json_t *o, const struct guest *g, const struct run_state *state)
{
	static const char *const ports[] = { "com1", "com2", "vnc" };
	bool running = state->kind == RUN_RUNNING;
	json_t *consoles = json_object();
	char text[PATH_MAX];
	struct run_usage u;

	json_object_set_new(o, "pid", running ? json_integer(state->pid) : json_null());
	ui_json_set(o, "paused",
		    running ? vm_stall_reason(g, ANSWER_MS, text, sizeof(text)) : NULL);
	json_object_set_new(o, "memory-resident",
			    running && run_usage(state->pid, &u) == 0
				    ? json_integer((json_int_t)u.resident)
				    : json_null());
	for (size_t i = 0; running && i < ARRAY_LEN(ports); i++) {
		if (run_console(g, ports[i], text, sizeof(text)) == 0)
			ui_json_set(consoles, ports[i], text);
	}
	json_object_set_new(o, "console-ports", consoles);
}

static void add_json(struct info *info, const struct guest *g, struct gconf *conf,
		     const struct run_state *state)
{
	static const char *const kinds[] = { "stopped", "running", "locked" };
	const char *cpu = gconf_get(conf, "cpu"), *memory = gconf_get(conf, "memory");
	json_t *o = json_object(), *disks = json_array(), *networks = json_array();
	uint64_t n;

	ui_json_set(o, "name", g->name);
	ui_json_set(o, "state", kinds[state->kind]);
	ui_json_set(o, "host", state->host);
	ui_json_set(o, "datastore", g->store);
	ui_json_set(o, "loader", gconf_get(conf, "loader"));
	ui_json_set(o, "uuid", gconf_get(conf, "uuid"));
	json_object_set_new(
		o, "cpu", cpu && str_u64(cpu, &n) == 0 ? json_integer((json_int_t)n) : json_null());
	json_object_set_new(o, "memory",
			    memory && str_size(memory, MIB, &n) == 0 ? json_integer((json_int_t)n)
								     : json_null());
	add_running(o, g, state);
	for (unsigned i = 0; gconf_getf(conf, "network%u_type", i); i++)
		json_array_append_new(networks, info_network_json(info->vm, g, conf, i,
								  state->kind == RUN_RUNNING));
	for (unsigned i = 0; gconf_getf(conf, "disk%u_type", i); i++)
		json_array_append_new(disks, disk_json(g, conf, i));
	json_object_set_new(o, "network-interfaces", networks);
	json_object_set_new(o, "virtual-disks", disks);
	json_object_set_new(o, "snapshots", info_snapshots_json(g));
	json_array_append_new(info->guests, o);
}

static int show_guest(void *arg, const struct guest *g)
{
	struct info *info = arg;
	struct run_state state;
	struct gconf *conf;
	struct err err;

	if (gconf_load(g->conf, &conf, &err) < 0) {
		ui_warning("%s", err.text);
		return 0;
	}
	run_query(g, &state);
	if (state.kind == RUN_STOPPED)
		run_clean(g);
	if (info->guests)
		add_json(info, g, conf, &state);
	else
		print_guest(info->vm, g, conf, &state);
	gconf_free(conf);
	return 0;
}

static int show_named(struct info *info, int argc, char **argv)
{
	char near[VM_NEAR_SIZE];
	struct guest g;

	for (int i = 0; i < argc; i++) {
		if (store_find(&info->vm->store, argv[i], &g) < 0)
			return ui_error(K(010) "unable to locate virtual machine '%s'%s", argv[i],
					vm_near(info->vm, argv[i], near));
		show_guest(info, &g);
	}
	return 0;
}

int verb_info(struct vm *vm, int argc, char **argv)
{
	struct info info = { .vm = vm };
	bool json;
	int r;

	if (ui_json_option(argc, argv, &json) < 0)
		return ui_usage(vm);
	info.guests = json ? json_array() : NULL;
	if (optind < argc)
		r = show_named(&info, argc - optind, argv + optind);
	else
		r = store_each(&vm->store, show_guest, &info) < 0
			    ? ui_error("not all guests in %s can be read", vm->store.dir)
			    : 0;
	if (json && r == 0)
		return ui_json_print(json_pack("{s:o}", "guests", info.guests));
	json_decref(info.guests);
	return r;
}
