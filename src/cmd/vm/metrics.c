/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "manager/usage.h"
#include "util/macros.h"

/*
 * vm metrics: OpenMetrics text (its version 1.0), which Prometheus and others read. All samples of one family stand
 * together, so all guests are asked before anything is printed.
 */

struct samples {
	struct usage *list;
	size_t count;
};

enum what { UP, PAUSED, STALLED, CPUS, MEMORY, RESIDENT, CPU_SECONDS, UPTIME, EXITS };

/* Of guests as a whole. Units are the ends of names, as the format wants it. */
static const struct family {
	enum what what;
	const char *name, *type, *unit, *help;
} families[] = {
	{ UP, "running", "gauge", NULL, "1: the guest runs on this host." },
	{ PAUSED, "paused", "gauge", NULL, "1: its processors stand still." },
	{ STALLED, "stalled", "gauge", NULL,
	  "1: a disk that the host fails keeps it from going on." },
	{ CPUS, "cpus", "gauge", NULL, "Virtual processors." },
	{ MEMORY, "memory_bytes", "gauge", "bytes", "Memory of the guest." },
	{ RESIDENT, "resident_bytes", "gauge", "bytes", "Memory of the host that its khyve has." },
	{ CPU_SECONDS, "cpu_seconds", "counter", "seconds", "Processor time of its khyve." },
	{ UPTIME, "uptime_seconds", "gauge", "seconds", "Age of its khyve." },
	{ EXITS, "exits", "counter", NULL, "Exits of its processors to KVM." },
};

/* Of each disk or network card: bytes. */
static const struct io_family {
	bool disk, in;
	const char *name, *label, *help;
} io_families[] = {
	{ true, true, "disk_read_bytes", "disk", "Bytes that the guest read." },
	{ true, false, "disk_written_bytes", "disk", "Bytes that the guest wrote." },
	{ false, true, "network_received_bytes", "card", "Bytes that the guest received." },
	{ false, false, "network_sent_bytes", "card", "Bytes that the guest sent." },
};

/* False: it is not known. */
static bool value_of(const struct usage *u, enum what what, double *out)
{
	const double values[] = {
		[UP] = u->run.kind == RUN_RUNNING,
		[PAUSED] = strcmp(u->state, "paused") == 0,
		[STALLED] = u->reason[0] != '\0',
		[CPUS] = (double)u->cpus,
		[MEMORY] = (double)u->memory,
		[RESIDENT] = (double)u->process.resident,
		[CPU_SECONDS] = u->process.cpu_seconds,
		[UPTIME] = u->process.age_seconds,
		[EXITS] = (double)u->exits,
	};

	*out = values[what];
	if (what == UP)
		return true;
	if (what == RESIDENT || what == CPU_SECONDS || what == UPTIME)
		return u->process.age_seconds > 0;
	return u->answers;
}

static void print_head(const char *name, const char *type, const char *unit, const char *help)
{
	printf("# TYPE khyve_guest_%s %s\n", name, type);
	if (unit)
		printf("# UNIT khyve_guest_%s %s\n", name, unit);
	printf("# HELP khyve_guest_%s %s\n", name, help);
}

static void print_family(const struct family *f, const struct samples *s)
{
	bool counter = strcmp(f->type, "counter") == 0;
	double value;

	print_head(f->name, f->type, f->unit, f->help);
	for (size_t i = 0; i < s->count; i++) {
		if (value_of(&s->list[i], f->what, &value))
			printf("khyve_guest_%s%s{guest=\"%s\"} %.15g\n", f->name,
			       counter ? "_total" : "", s->list[i].guest, value);
	}
}

static void print_io(const struct io_family *f, const struct samples *s)
{
	print_head(f->name, "counter", "bytes", f->help);
	for (size_t i = 0; i < s->count; i++) {
		const struct usage *u = &s->list[i];

		for (unsigned int n = 0; n < u->count; n++) {
			const struct usage_io *io = &u->io[n];

			if (io->disk == f->disk)
				printf("khyve_guest_%s_total{guest=\"%s\",%s=\"%s\"} %llu\n",
				       f->name, s->list[i].guest, f->label, io->name,
				       (unsigned long long)(f->in ? io->in : io->out));
		}
	}
}

int verb_metrics(struct vm *vm, int argc, char **argv)
{
	struct samples s = { NULL };
	int r;

	if (ui_option(argc, argv, "") != -1 || optind != argc)
		return ui_usage(vm);
	r = usage_list(&vm->store, false, &s.list, &s.count);
	if (r < 0 && r != -EACCES)
		return ui_error("%s: %s", vm->store.dir, strerror(-r));
	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		print_family(&families[i], &s);
	for (size_t i = 0; i < ARRAY_LEN(io_families); i++)
		print_io(&io_families[i], &s);
	puts("# EOF");
	free(s.list);
	return 0;
}
