/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "util/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/clock.h"

/* Where lines go and the lowest level kept: the one piece of process-wide state (design law 6). */
static _Atomic int log_fd = 2;
static _Atomic int log_lowest = LOG_LEVEL_INFO;

void log_set(int fd, enum log_level level)
{
	atomic_store(&log_fd, fd);
	atomic_store(&log_lowest, (int)level);
}

void log_set_level(enum log_level level)
{
	atomic_store(&log_lowest, (int)level);
}

enum log_level log_level_get(void)
{
	return (enum log_level)atomic_load(&log_lowest);
}

static bool log_wanted(enum log_level level)
{
	return (int)level <= atomic_load(&log_lowest) && atomic_load(&log_fd) >= 0;
}

/* One line, one write: lines of several threads never mix, and guest bytes cannot forge a line of their own. */
static void __attribute__((format(printf, 3, 0)))
log_line(enum log_level level, const char *tag, const char *fmt, va_list ap)
{
	static const char *const names[] = { "ERROR", "WARN", "INFO", "DEBUG" };
	char line[1024];
	size_t len;
	ssize_t n;

	snprintf(line, sizeof(line), "%s %.64s: ", names[level], tag);
	len = strlen(line);
	vsnprintf(line + len, sizeof(line) - 1 - len, fmt, ap);
	len = strlen(line);
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	n = write(atomic_load(&log_fd), line, len);
	(void)n; /* nobody to tell */
}

void log_write(enum log_level level, const char *tag, const char *fmt, ...)
{
	va_list ap;

	if (!log_wanted(level))
		return;
	va_start(ap, fmt);
	log_line(level, tag, fmt, ap);
	va_end(ap);
}

/* Opens a new window if the old one is over. Returns how many lines the old one dropped. */
static uint32_t site_roll(struct log_site *site, uint64_t now)
{
	uint64_t start = __atomic_load_n(&site->window_start_ns, __ATOMIC_RELAXED);

	if (start && now - start < LOG_WINDOW_NS)
		return 0;
	if (!__atomic_compare_exchange_n(&site->window_start_ns, &start, now, false,
					 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return 0; /* another thread did it */
	__atomic_store_n(&site->lines, 0, __ATOMIC_RELAXED);
	return __atomic_exchange_n(&site->dropped, 0, __ATOMIC_RELAXED);
}

void log_write_limited(struct log_site *site, enum log_level level, const char *tag,
		       const char *fmt, ...)
{
	uint32_t dropped;
	va_list ap;

	if (!log_wanted(level))
		return;
	dropped = site_roll(site, clock_mono_ns());
	if (dropped)
		log_write(level, tag, "%u more lines like the next one were dropped", dropped);
	if (__atomic_load_n(&site->lines, __ATOMIC_RELAXED) >= LOG_BURST) {
		__atomic_fetch_add(&site->dropped, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_fetch_add(&site->lines, 1, __ATOMIC_RELAXED);
	va_start(ap, fmt);
	log_line(level, tag, fmt, ap);
	va_end(ap);
}
