/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/khyve/options.h"
#include "conf/conf.h"
#include "hw/table.h"
#include "machine/machine.h"
#include "util/err.h"

static int complain(const struct err *err, int status)
{
	fprintf(stderr, "khyve: %s\n", err->text);
	return status;
}

static bool wants_dump(const struct conf *c)
{
	struct err err;
	bool dump = false;

	return conf_get_bool(c, "config.dump", &dump, &err) == 0 && dump;
}

static int run(struct conf *c)
{
	enum machine_exit status;
	struct machine *m;
	struct err err = { "" };

	if (conf_freeze(c, &err) < 0)
		return complain(&err, MACHINE_EXIT_ERROR);
	if (wants_dump(c)) {
		conf_dump(c, stdout);
		return 1;
	}
	if (machine_new(c, &m, &err) < 0)
		return complain(&err, MACHINE_EXIT_ERROR);
	status = machine_run(m, &err);
	machine_free(m);
	if (status == MACHINE_EXIT_ERROR || status == MACHINE_EXIT_TRIPLE_FAULT)
		complain(&err, status);
	return status;
}

int main(int argc, char **argv)
{
	enum options_action action;
	struct conf *c = conf_new();
	struct err err = { "" };
	int status;

	if (!c)
		return MACHINE_EXIT_ERROR;
	if (options_parse(c, argc, argv, &action, &status, &err) < 0) {
		conf_free(c);
		return complain(&err, status);
	}
	status = 0;
	switch (action) {
	case OPTIONS_RUN:
		status = run(c);
		break;
	case OPTIONS_HELP:
		options_usage(stdout);
		break;
	case OPTIONS_HELP_SLOTS:
		hw_print(stdout);
		break;
	case OPTIONS_HELP_LPC:
		options_help_lpc(stdout);
		break;
	case OPTIONS_VERSION:
		printf("khyve %s\n", KHYVE_VERSION);
		break;
	}
	conf_free(c);
	return status;
}
