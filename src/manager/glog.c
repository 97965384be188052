/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/glog.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "manager/file.h"
#include "manager/run.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define LOG_MAX MIB
#define LINE_MAX_BYTES 4096

void glog_time(char out[GLOG_TIME_SIZE])
{
	time_t now = time(NULL);
	struct tm tm;
	size_t n = 0;

	if (localtime_r(&now, &tm))
		n = strftime(out, GLOG_TIME_SIZE - 1, "%Y-%m-%dT%H:%M:%S%z", &tm);
	/* strftime writes +0100, ISO 8601's long form wants +01:00. */
	if (n >= 3) {
		memmove(out + n - 1, out + n - 2, 2);
		out[n - 2] = ':';
		n++;
	}
	out[n] = '\0';
}

/* "2026-01-12T07:40:01+01:00: " */
static size_t put_time(char *out, size_t size)
{
	char now[GLOG_TIME_SIZE];
	int n;

	glog_time(now);
	n = snprintf(out, size, "%s: ", now);
	return n > 2 && (size_t)n < size ? (size_t)n : 0;
}

__attribute__((format(printf, 3, 0))) static void append(const struct guest *g, const char *file,
							 const char *fmt, va_list ap)
{
	char path[PATH_MAX], line[LINE_MAX_BYTES], code[ERR_CODE_SIZE];
	size_t len = put_time(line, sizeof(line));
	int fd, n;

	n = vsnprintf(line + len, sizeof(line) - len - 1, fmt, ap);
	if (n < 0 || g->dry_run || run_path(g, file, path, sizeof(path)) < 0)
		return;
	err_take_code(line + len, code);
	len += strnlen(line + len, sizeof(line) - len - 2);
	line[len++] = '\n';
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (fd < 0)
		return;
	(void)fd_write_full(fd, line, len);
	close(fd);
}

void glog_write(const struct guest *g, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(g, GLOG_FILE, fmt, ap);
	va_end(ap);
}

void glog_mark(const struct guest *g, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(g, RUN_LOG, fmt, ap);
	va_end(ap);
}

static int pack(int from, const char *to)
{
	char buf[16384];
	gzFile gz = gzopen(to, "wbe");
	ssize_t n = 0;
	int r = 0;

	if (!gz)
		return -ENOMEM;
	while (r == 0 && (n = read(from, buf, sizeof(buf))) > 0)
		r = gzwrite(gz, buf, (unsigned)n) == (int)n ? 0 : -EIO;
	if (gzclose(gz) != Z_OK || n < 0)
		r = -EIO;
	return r;
}

void glog_rotate(const struct guest *g, const char *file)
{
	char path[PATH_MAX], packed[PATH_MAX], temp[PATH_MAX];
	struct stat st;
	int fd;

	if (run_path(g, file, path, sizeof(path)) < 0 ||
	    file_path(packed, sizeof(packed), "%s.0.gz", path) < 0 ||
	    file_path(temp, sizeof(temp), "%s.new", packed) < 0)
		return;
	fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size >= LOG_MAX) {
		if (pack(fd, temp) == 0 && rename(temp, packed) == 0)
			(void)!ftruncate(fd, 0);
		else
			unlink(temp);
	}
	close(fd);
}

void glog_last_line(const struct guest *g, const char *file, uint64_t offset, char *out,
		    size_t size)
{
	char path[PATH_MAX], buf[LINE_MAX_BYTES];
	struct stat st;
	uint64_t from;
	ssize_t n = 0;
	char *last;
	int fd;

	out[0] = '\0';
	if (run_path(g, file, path, sizeof(path)) < 0)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && (uint64_t)st.st_size > offset) {
		from = MAX(offset,
			   (uint64_t)st.st_size - MIN((uint64_t)st.st_size, sizeof(buf) - 1));
		n = pread(fd, buf, sizeof(buf) - 1, (off_t)from);
	}
	close(fd);
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	if (n <= 0)
		return;
	buf[n] = '\0';
	for (ssize_t i = 0; i < n; i++) {
		if (iscntrl((unsigned char)buf[i]) && buf[i] != '\n')
			buf[i] = ' ';
	}
	last = strrchr(buf, '\n');
	if (file_path(out, size, "%s", last ? last + 1 : buf) < 0)
		out[0] = '\0';
}
