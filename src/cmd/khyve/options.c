/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/khyve/slot.h"
#include "conf/conf.h"
#include "util/err.h"
#include "util/macros.h"
#include "util/str.h"

struct flag {
	char letter;
	const char *key, *value; /* written when the flag takes no argument */
	int (*fn)(struct conf *c, const char *arg, struct err *err);
	const char *operand; /* NULL: none */
	int bad_status;
	const char *help; /* NULL: not in the usage text */
};

static int set(struct conf *c, const char *key, const char *value, const char *flag,
	       const char *arg, struct err *err)
{
	char *where = str_format("%s %s", flag, arg);
	int r = where ? conf_set(c, key, value, where, err)
		      : err_set(err, -ENOMEM, "out of memory");

	free(where);
	return r;
}

/* -c [[cpus=]N][,sockets=n][,cores=n][,threads=n] */
static int opt_cpus(struct conf *c, const char *arg, struct err *err)
{
	static const char *const names[] = { "cpus", "sockets", "cores", "threads" };
	char *copy = strdup(arg), *rest = copy, *word;
	int r = 0;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	while (r == 0 && (word = strsep(&rest, ","))) {
		char *eq = strchr(word, '=');
		const char *name = "cpus", *value = word;
		bool known = !eq;

		if (eq) {
			*eq = '\0';
			name = word;
			value = eq + 1;
		}
		for (size_t i = 0; i < ARRAY_LEN(names); i++)
			known = known || strcmp(name, names[i]) == 0;
		if (known)
			r = set(c, name, value, "-c", arg, err);
		else
			r = err_set(err, -EINVAL,
				    "-c %s: unknown part \"%s\": use "
				    "[cpus=]N,sockets=N,cores=N,threads=N",
				    arg, name);
	}
	free(copy);
	return r;
}

/* -m SIZE: a bare number means megabytes. */
static int opt_memory(struct conf *c, const char *arg, struct err *err)
{
	char *text;
	int r;

	if (arg[0] && strspn(arg, "0123456789") == strlen(arg)) {
		text = str_format("%sM", arg);
		r = text ? set(c, "memory.size", text, "-m", arg, err) : -ENOMEM;
		free(text);
		return r;
	}
	return set(c, "memory.size", arg, "-m", arg, err);
}

/* -l comN,BACKEND | bootrom,CODE[,VARS][,key=value...] */
static int opt_lpc(struct conf *c, const char *arg, struct err *err)
{
	char *copy = strdup(arg), *rest, *word;
	int r = -EINVAL;

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	rest = copy;
	word = strsep(&rest, ",");
	if (str_starts(word, "com") && word[3] >= '1' && word[3] <= '4' && !word[4] && rest &&
	    *rest) {
		char key[] = "lpc.comN.path";

		key[7] = word[3];
		r = set(c, key, rest, "-l", arg, err);
	} else if (strcmp(word, "bootrom") == 0 && rest && *rest) {
		r = set(c, "bootrom", strsep(&rest, ","), "-l", arg, err);
		if (r == 0 && rest && *rest && !strchr(rest, '='))
			r = set(c, "bootvars", strsep(&rest, ","), "-l", arg, err);
		while (r == 0 && rest && *rest) {
			char *eq, *pair = strsep(&rest, ",");
			char key[64];

			eq = strchr(pair, '=');
			if (!eq) {
				/* CODE,VARS,... or a bare option */
				r = set(c, "bootvars", pair, "-l", arg, err);
				continue;
			}
			*eq = '\0';
			if (snprintf(key, sizeof(key), "lpc.%s", pair) >= (int)sizeof(key))
				r = err_set(err, -EINVAL, "-l %s: option name too long", arg);
			else
				r = set(c, key, eq + 1, "-l", arg, err);
		}
	} else {
		err_set(err, -EINVAL, "-l %s: not understood; -l help lists what there is", arg);
	}
	free(copy);
	return r;
}

static int opt_set(struct conf *c, const char *arg, struct err *err)
{
	char *where = str_format("-o %s", arg);
	int r = where ? conf_set_assignment(c, arg, where, err)
		      : err_set(err, -ENOMEM, "out of memory");

	free(where);
	return r;
}

static int opt_uuid(struct conf *c, const char *arg, struct err *err)
{
	return set(c, "uuid", arg, "-U", arg, err);
}

static int opt_layout(struct conf *c, const char *arg, struct err *err)
{
	return set(c, "keyboard.layout", arg, "-K", arg, err);
}

static int opt_missing(struct conf *c, const char *arg, struct err *err)
{
	(void)c;
	return err_set(err, -ENOTSUP,
		       "option with argument \"%s\" is not available in this version", arg);
}

static const struct flag flags[] = {
	{ 'A', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'C', "memory.guest_in_core", "true", NULL, NULL, 0, "guest memory in core dumps" },
	{ 'D', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'G', NULL, NULL, opt_missing, "", OPTIONS_BAD_USAGE, NULL },
	{ 'H', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'I', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'K', NULL, NULL, opt_layout, "LAYOUT", OPTIONS_BAD_VALUE, NULL },
	{ 'M', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'P', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'S', "memory.wired", "true", NULL, NULL, 0, "lock guest memory into RAM" },
	{ 'U', NULL, NULL, opt_uuid, "UUID", OPTIONS_BAD_VALUE, "SMBIOS system UUID" },
	{ 'W', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'Y', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'a', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'c', NULL, NULL, opt_cpus, "[cpus=]N[,sockets=N][,cores=N][,threads=N]",
	  OPTIONS_BAD_USAGE, "vCPUs and their topology" },
	{ 'e', NULL, NULL, NULL, NULL, 0, NULL },
	{ 'f', NULL, NULL, opt_missing, "", OPTIONS_BAD_USAGE, NULL },
	{ 'k', NULL, NULL, conf_load_file, "FILE", OPTIONS_BAD_VALUE, "read key=value lines" },
	{ 'l', NULL, NULL, opt_lpc, "help|comN,BACKEND|bootrom,CODE[,VARS]", OPTIONS_BAD_USAGE,
	  "serial port or firmware" },
	{ 'm', NULL, NULL, opt_memory, "SIZE[K|M|G|T]", OPTIONS_BAD_VALUE,
	  "guest memory; a bare number means megabytes" },
	{ 'n', NULL, NULL, opt_missing, "", OPTIONS_BAD_USAGE, NULL },
	{ 'o', NULL, NULL, opt_set, "KEY=VALUE", OPTIONS_BAD_USAGE, "set one key" },
	{ 'p', NULL, NULL, opt_missing, "", OPTIONS_BAD_USAGE, NULL },
	{ 'r', NULL, NULL, opt_missing, "", OPTIONS_BAD_USAGE, NULL },
	{ 's', NULL, NULL, slot_parse, "help|[BUS:]SLOT[:FUNCTION],MODEL[,OPTIONS]",
	  OPTIONS_BAD_VALUE, "put a device into a PCI slot" },
	{ 'u', "rtc.use_localtime", "false", NULL, NULL, 0, "clock chip holds UTC" },
	{ 'w', "x86.strictmsr", "false", NULL, NULL, 0, "ignore unknown MSRs" },
	{ 'x', NULL, NULL, NULL, NULL, 0, NULL },
};

void options_usage(FILE *f)
{
	fprintf(f, "Usage: khyve [-ACDHPSWYaeuwx] [options] NAME\n");
	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		const struct flag *fl = &flags[i];

		if (fl->help)
			fprintf(f, "    -%c%s%s\n          %s\n", fl->letter,
				fl->operand ? " " : "", fl->operand ? fl->operand : "", fl->help);
	}
	fprintf(f, "    -A -D -H -I -M -P -W -Y -a -e -x -K LAYOUT\n"
		   "          accepted for bhyve's sake, no effect\n"
		   "    -h    this text\n"
		   "    -v    version\n"
		   "Exit status: 1 powered off, 2 halted, 3 triple fault, 4 error.\n");
}

void options_help_lpc(FILE *f)
{
	fprintf(f, "com1\ncom2\ncom3\ncom4\nbootrom\n");
}

static int name_guest(struct conf *c, int argc, char **argv, int *status, struct err *err)
{
	if (argc - optind > 1) {
		*status = 1;
		return err_set(err, -EINVAL, "one guest name is enough: \"%s\" is too much",
			       argv[optind + 1]);
	}
	*status = OPTIONS_BAD_VALUE;
	if (optind < argc)
		return conf_set(c, "name", argv[optind], "the guest name", err);
	return 0;
}

static const struct flag *flag_find(int letter)
{
	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		if (flags[i].letter == letter)
			return &flags[i];
	return NULL;
}

int options_parse(struct conf *c, int argc, char **argv, enum options_action *action, int *status,
		  struct err *err)
{
	char spec[2 * ARRAY_LEN(flags) + 8] = ":hv";
	size_t n = strlen(spec);
	int letter, r;

	for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
		spec[n++] = flags[i].letter;
		if (flags[i].operand)
			spec[n++] = ':';
	}
	spec[n] = '\0';
	*action = OPTIONS_RUN;
	while ((letter = getopt(argc, argv, spec)) != -1) {
		const struct flag *fl = flag_find(letter);

		*status = 1;
		if (letter == 'h' || letter == 'v') {
			*action = letter == 'h' ? OPTIONS_HELP : OPTIONS_VERSION;
			return 0;
		}
		if (letter == ':')
			return err_set(err, -EINVAL, "-%c needs an argument; -h shows which",
				       optopt);
		if (!fl)
			return err_set(err, -EINVAL, "unknown option -%c; -h lists all", optopt);
		if ((letter == 's' || letter == 'l') && strcmp(optarg, "help") == 0) {
			*action = letter == 's' ? OPTIONS_HELP_SLOTS : OPTIONS_HELP_LPC;
			return 0;
		}
		*status = fl->bad_status ? fl->bad_status : OPTIONS_BAD_VALUE;
		r = 0;
		if (fl->fn)
			r = fl->fn(c, optarg, err);
		else if (fl->key)
			r = conf_setf(c, NULL, err, fl->key, "%s", fl->value);
		if (r < 0)
			return r;
	}
	return name_guest(c, argc, argv, status, err);
}
