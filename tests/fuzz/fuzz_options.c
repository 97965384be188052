/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <getopt.h>
#include <string.h>

#include "cmd/khyve/options.h"
#include "conf/conf.h"
#include "fuzz/fuzz.h"
#include "util/err.h"
#include "util/macros.h"

/* bhyve(8)'s command line: what is accepted is a set of keys, what is not comes with a reason and a status. */

#define WORDS 24
#define WORD_LEN 300

/* What gets past the first checks; %s of a real command line follow from the bytes themselves. */
static const char *const starts[] = {
	"",	  "-c",	       "-m",	   "-s",	  "-l",		 "-o",
	"-U",	  "-p",	       "-k/none",  "-A",	  "-H",		 "-h",
	"com1,",  "1:0,ahci,", "0,nvme,",  "2:3,ahci-hd", "cpus=4,",	 "bootrom,",
	"1:2:3,", "hd:/x,cd:", "sockets=", "pci.0.1.0.",  "virtio-blk,", "fbuf,tcp=",
};

/* One word, ended by a zero byte. */
static void make_word(struct fz *f, char *out)
{
	const char *start = starts[fz_pick(f, ARRAY_LEN(starts))];
	size_t len = strlen(start);

	memcpy(out, start, len);
	while (len < WORD_LEN - 1 && f->left) {
		char c = (char)fz_u8(f);

		if (!c)
			break;
		out[len++] = c;
	}
	out[len] = '\0';
}

/* -k would read files of this machine, and a word may begin anywhere: leave those out. */
static bool reads_files(const char *word)
{
	return word[0] == '-' && word[1] != '-' && strchr(word, 'k');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum options_action none = (enum options_action)99;
	struct fz f = fz_of(data, size);
	char words[WORDS][WORD_LEN], name[] = "khyve", *argv[WORDS + 2] = { name };
	enum options_action action = none;
	struct err err = { 0 };
	struct conf *c = conf_new();
	int argc = 1, status = 0, r;

	assert(c);
	while (f.left && argc <= WORDS) {
		make_word(&f, words[argc - 1]);
		if (reads_files(words[argc - 1]))
			continue;
		argv[argc] = words[argc - 1];
		argc++;
	}
	optind = 0;
	opterr = 0;
	r = options_parse(c, argc, argv, &action, &status, &err);
	if (r < 0) {
		assert(err.text[0] && memchr(err.text, '\0', sizeof(err.text)));
		/* 1: an option that does not exist, or lacks its argument. */
		assert(status == 1 || status == OPTIONS_BAD_VALUE || status == OPTIONS_BAD_USAGE);
	} else {
		assert(r == 0 && action != none);
	}
	conf_free(c);
	return 0;
}
