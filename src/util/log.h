/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_LOG_H
#define UTIL_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* One per call site. At most LOG_BURST lines per LOG_WINDOW_NS, then one line with the count dropped. */
struct log_site {
	uint64_t window_start_ns;
	uint32_t lines, dropped;
};

#define LOG_BURST 10
#define LOG_WINDOW_NS 5000000000ull

/* Sets the descriptor that lines go to (-1: nowhere; the default is 2) and the lowest level kept. Any thread. */
void log_set(int fd, enum log_level level);
void log_set_level(enum log_level level);
enum log_level log_level_get(void);

/* Writes one line in one write(2), "LEVEL tag: text". tag names the module or device instance. Any thread. */
void log_write(enum log_level level, const char *tag, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for lines that a guest or a peer can cause, limited per call site. Any thread. */
void log_write_limited(struct log_site *site, enum log_level level, const char *tag,
		       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

#define log_error(tag, ...) log_write(LOG_LEVEL_ERROR, tag, __VA_ARGS__)
#define log_warn(tag, ...) log_write(LOG_LEVEL_WARN, tag, __VA_ARGS__)
#define log_info(tag, ...) log_write(LOG_LEVEL_INFO, tag, __VA_ARGS__)
#define log_debug(tag, ...) log_write(LOG_LEVEL_DEBUG, tag, __VA_ARGS__)
#define log_limited(level, tag, ...)                                    \
	do {                                                            \
		static struct log_site log_site_;                       \
		log_write_limited(&log_site_, level, tag, __VA_ARGS__); \
	} while (0)

#endif
