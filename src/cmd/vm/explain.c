/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "codes.h"
#include "ui_json.h"
#include "vm.h"

/* Columns of a line of text. */
#define WIDTH 80

static json_t *to_json(const struct code *c)
{
	return json_pack("{s:s, s:i, s:s, s:s}", "code", c->name, "status", c->status, "meaning",
			 c->meaning, "fix", c->fix);
}

int verb_explain(struct vm *vm, int argc, char **argv)
{
	const struct code *c;
	json_t *list;
	bool json;

	if (ui_json_option(argc, argv, &json) < 0 || argc - optind > 1)
		return ui_usage(vm);
	c = optind < argc ? code_find(argv[optind]) : NULL;
	if (optind < argc && !c)
		return ui_error("there is no code '%s'; 'vm explain' lists them", argv[optind]);
	list = json_array();
	if (c && json)
		json_array_append_new(list, to_json(c));
	else if (c) {
		printf("%s (exit status %d)\n", c->name, c->status);
		ui_wrap(stdout, "  ", 2, c->meaning);
		ui_wrap(stdout, "  ", 2, c->fix);
	}
	while (optind == argc && (c = code_next(c))) {
		if (json)
			json_array_append_new(list, to_json(c));
		else
			printf("%s  %.*s\n", c->name, WIDTH - 6, c->meaning);
	}
	if (json)
		return ui_json_print(json_pack("{s:o}", "codes", list));
	json_decref(list);
	return 0;
}
