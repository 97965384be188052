/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/macros.h"
#include "vm.h"

#define NAME_WIDTH 28
#define BAR_WIDTH 16

/* "700 MB", in the units that download sites use. */
static void format_bytes(uint64_t bytes, char *out, size_t size)
{
	const char *const units[] = { "B", "kB", "MB", "GB", "TB" };
	double v = (double)bytes;
	unsigned i = 0;

	for (; v >= 9999.5 && i + 1 < ARRAY_LEN(units); i++)
		v /= 1000;
	if (snprintf(out, size, "%.0f %s", v, units[i]) < 0)
		out[0] = '\0';
}

/* One line that is written over: "debian.iso [#######    ]  42% of 631 MB  11 MBps 00m34s". */
static void show(void *arg, uint64_t have, uint64_t total, uint64_t rate)
{
	char size[32], speed[32], bar[BAR_WIDTH + 1];
	uint64_t left = total > have && rate ? (total - have) / rate : 0;
	unsigned done = total ? (unsigned)(100.0 * (double)MIN(have, total) / (double)total) : 0;

	format_bytes(total ? total : have, size, sizeof(size));
	format_bytes(rate, speed, sizeof(speed));
	if (total) {
		memset(bar, ' ', BAR_WIDTH);
		memset(bar, '#', done * BAR_WIDTH / 100);
		bar[BAR_WIDTH] = '\0';
		printf("\r%-*.*s [%s] %3u%% of %s", NAME_WIDTH, NAME_WIDTH, (const char *)arg, bar,
		       done, size);
	} else {
		printf("\r%-*.*s %s", NAME_WIDTH, NAME_WIDTH, (const char *)arg, size);
	}
	if (rate)
		printf("  %sps %02llum%02llus", speed, (unsigned long long)(left / 60),
		       (unsigned long long)(left % 60));
	fputs("\033[K", stdout);
	/* The last word. */
	if (!rate && have == total)
		putchar('\n');
	fflush(stdout);
}

struct progress *ui_progress(struct progress *p, const char *name)
{
	const char *term = getenv("TERM");

	if (!isatty(STDOUT_FILENO) || (term && strcmp(term, "dumb") == 0))
		return NULL;
	*p = (struct progress){ .show = show, .arg = (void *)name };
	return p;
}
