/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_RUN_H
#define TESTS_RUN_H

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

/*
 * The project's test runner. A test program has one const table of cases and calls run_cases() from main. A failed
 * check ends its case. Output: "ok NAME" or "FAIL NAME: FILE:LINE: what", then "N passed, N failed".
 */
struct test_case {
	const char *name;
	void (*fn)(void);
};

struct test_run {
	jmp_buf leave;
	const char *name;
	int failed;
};

static struct test_run test_run_;

#define CHECK_FAIL(...)                                                         \
	do {                                                                    \
		printf("FAIL %s: %s:%d: ", test_run_.name, __FILE__, __LINE__); \
		printf(__VA_ARGS__);                                            \
		printf("\n");                                                   \
		longjmp(test_run_.leave, 1);                                    \
	} while (0)

#define CHECK(cond)                              \
	do {                                     \
		if (!(cond))                     \
			CHECK_FAIL("%s", #cond); \
	} while (0)

#define CHECK_EQ(got, want)                                                         \
	do {                                                                        \
		unsigned long long got_ = (unsigned long long)(got);                \
		unsigned long long want_ = (unsigned long long)(want);              \
		if (got_ != want_)                                                  \
			CHECK_FAIL("%s is %lld (0x%llx), not %lld (0x%llx)", #got,  \
				   (long long)got_, got_, (long long)want_, want_); \
	} while (0)

#define CHECK_STR(got, want)                                                                 \
	do {                                                                                 \
		const char *got_ = (got), *want_ = (want);                                   \
		if (!got_ || strcmp(got_, want_) != 0)                                       \
			CHECK_FAIL("%s is \"%s\", not \"%s\"", #got, got_ ? got_ : "(null)", \
				   want_);                                                   \
	} while (0)

/* Runs the cases whose names contain argv[1], or all. Returns the exit status for main. */
static int run_cases(const struct test_case *cases, size_t n, int argc, char **argv)
{
	volatile int passed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (volatile size_t i = 0; i < n; i++) {
		if (argc > 1 && !strstr(cases[i].name, argv[1]))
			continue;
		test_run_.name = cases[i].name;
		if (setjmp(test_run_.leave) == 0) {
			cases[i].fn();
			passed++;
			printf("ok %s\n", cases[i].name);
		} else {
			test_run_.failed++;
		}
	}
	printf("%d passed, %d failed\n", passed, test_run_.failed);
	return test_run_.failed ? 1 : 0;
}

#define RUN_CASES(cases, argc, argv) \
	run_cases(cases, sizeof(cases) / sizeof((cases)[0]), argc, argv)

#endif
