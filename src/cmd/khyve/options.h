/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_KHYVE_OPTIONS_H
#define CMD_KHYVE_OPTIONS_H

#include <stdbool.h>
#include <stdio.h>

struct conf;
struct err;

/* What the command line asks for besides the keys it writes. */
enum options_action {
	OPTIONS_RUN,
	OPTIONS_HELP,
	OPTIONS_HELP_SLOTS,
	OPTIONS_HELP_LPC,
	OPTIONS_VERSION
};

/* The exit status that goes with a failed parse, as bhyve's: EX_USAGE for malformed options, 4 for bad values. */
enum options_status { OPTIONS_BAD_VALUE = 4, OPTIONS_BAD_USAGE = 64 };

/*
 * Turns the command line of bhyve(8) into keys of c, left to right, last write wins. 0, or a negative errno with err
 * and *status set.
 */
int options_parse(struct conf *c, int argc, char **argv, enum options_action *action, int *status,
		  struct err *err);
void options_usage(FILE *f);
void options_help_lpc(FILE *f);

#endif
