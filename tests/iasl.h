/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_IASL_H
#define TESTS_IASL_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run.h"
#include "util/fd.h"

/* ACPI tables through Intel's compiler: what it decodes, and whether it takes it back without a word. */

static inline int iasl_missing(void)
{
	return system("command -v iasl >/dev/null 2>&1") != 0;
}

/* Runs a command made for one table; the exit status must be 0. */
static inline void iasl_run(const char *what, const char *dir, const char *name)
{
	char cmd[512];

	snprintf(cmd, sizeof(cmd), "cd %s && iasl %s %s >%s.log 2>&1", dir, what, name, name);
	if (system(cmd) != 0)
		CHECK_FAIL("%s failed, see %s/%s.log", cmd, dir, name);
}

static inline char *iasl_read(const char *dir, const char *name)
{
	char path[256], *text;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	if (fd_read_file(path, 4 << 20, &text, &len) < 0)
		CHECK_FAIL("%s cannot be read", path);
	return text;
}

/*
 * Disassembles the table; for AML also compiles the result again, which must give no error, warning or remark. Returns the
 * text (malloc'ed).
 */
static inline char *iasl_disassemble(const uint8_t *table, size_t len, const char *name, int is_aml)
{
	char dir[] = "/tmp/khyve-iasl-XXXXXX", file[64], cmd[128], *text, *log;
	FILE *f;

	CHECK(mkdtemp(dir));
	snprintf(cmd, sizeof(cmd), "%s/%s.dat", dir, name);
	f = fopen(cmd, "wb");
	CHECK(f && fwrite(table, 1, len, f) == len);
	fclose(f);
	snprintf(file, sizeof(file), "%s.dat", name);
	iasl_run("-d", dir, file);
	snprintf(file, sizeof(file), "%s.dsl", name);
	text = iasl_read(dir, file);
	if (is_aml) {
		iasl_run("-p again", dir, file);
		snprintf(file, sizeof(file), "%s.dsl.log", name);
		log = iasl_read(dir, file);
		if (!strstr(log, "0 Errors, 0 Warnings, 0 Remarks"))
			CHECK_FAIL("iasl says:\n%s\nabout:\n%s", log, text);
		free(log);
	}
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK(system(cmd) == 0);
	return text;
}

#endif
