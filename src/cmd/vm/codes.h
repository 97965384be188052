/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_VM_CODES_H
#define CMD_VM_CODES_H

/* What a message stands for, whatever names are in its text. */
struct code {
	const char *name; /* "K031" */
	int status; /* the command's exit status if it fails for this */
	const char *meaning, *fix;
};

/* For a message without a code: what the system's own words in it stand for. NULL: it has none. */
const struct code *code_of_system(const char *text);
/* By its name, in any case of letters. NULL: there is none. */
const struct code *code_find(const char *name);
/* All of them, one after the other; NULL: the first one, and behind the last. */
const struct code *code_next(const struct code *c);

#endif
