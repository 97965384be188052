/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager/datastore.h"
#include "manager/file.h"
#include "manager/removed.h"
#include "manager/uplink.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

static int verb_help(struct vm *vm, int argc, char **argv);
static int verb_version(struct vm *vm, int argc, char **argv);

#define MEDIA_OPTIONS                                                                   \
	"-4, -6          fetch by IPv4 or by IPv6 only\n"                               \
	"-d STORE        datastore\n"                                                   \
	"--sha256 HASH   what the file has to be; a CHECKSUM may also be of SHA-512\n"  \
	"--keyring FILE  the checksums beside it have to be signed by a key of these\n" \
	"--json          for programs"

static const struct verb verbs[] = {
	{ "init", verb_init, NEED_CONFIG, "init", NULL },
	{ "get", verb_get, NEED_STORE,
	  "get [--json] all\n"
	  "get [--json] SETTING...\n"
	  "get [--json] NAME [KEY...]",
	  "--json  for programs" },
	{ "set", verb_set, NEED_CHANGE, "set SETTING=VALUE...\nset NAME KEY=VALUE...", NULL },
	{ "list", verb_list, NEED_STORE, "list [-rv] [-t TAG] [--json]",
	  "-r      only guests that run\n"
	  "-t TAG  only guests with this tag\n"
	  "-v      also processor time, memory and age of running guests\n"
	  "--json  for programs" },
	{ "info", verb_info, NEED_STORE, "info [--json] [NAME...]", "--json  for programs" },
	{ "create", verb_create, NEED_CHANGE,
	  "create [-d STORE] [-t TEMPLATE] [-s SIZE] [-c CPUS] [-m MEMORY] [-i IMAGE] NAME\n"
	  "create -C [-k KEYFILE | -u USERDATA] [-n NETCONFIG] ... NAME",
	  "-t TEMPLATE  file in .templates or one that comes with khyve (default: default)\n"
	  "-s SIZE      size of the first disk, such as 20G\n"
	  "-c CPUS      number of virtual processors\n"
	  "-m MEMORY    memory, such as 2G\n"
	  "-d STORE     datastore (default: default)\n"
	  "-i IMAGE     file in .img or elsewhere that the first disk is a copy of\n"
	  "-C           the guest has cloud-init: give it a CD with its first settings\n"
	  "-k KEYFILE   public keys that may log in\n"
	  "-u USERDATA  user-data of your own\n"
	  "-n NETCONFIG options with ; between: interface= ip= gateway4= gateway6=\n"
	  "             nameservers= searchdomains= hostname=" },
	{ "rename", verb_rename, NEED_CHANGE, "rename NAME NEWNAME", NULL },
	{ "destroy", verb_destroy, NEED_CHANGE, "destroy [-f] NAME\ndestroy NAME@SNAPSHOT",
	  "-f  do not ask, and remove it for good: it does not go to the trash" },
	{ "trash", verb_trash, NEED_CHANGE,
	  "trash list [--json]\ntrash restore NAME\ntrash empty [-f] [NAME]",
	  "-f      do not ask\n--json  for programs", VERB_OURS },
	{ "protect", verb_protect, NEED_CHANGE, "protect NAME on|off", NULL, VERB_OURS },
	{ "snapshot", verb_snapshot, NEED_CHANGE, "snapshot [-f] NAME[@SNAPSHOT]",
	  "-f  also of a guest that runs: it is paused for it" },
	{ "rollback", verb_rollback, NEED_CHANGE, "rollback [-r] NAME@SNAPSHOT",
	  "-r  remove the snapshots that are newer" },
	{ "clone", verb_clone, NEED_CHANGE, "clone NAME[@SNAPSHOT] NEWNAME", NULL },
	{ "migrate", verb_migrate, NEED_CHANGE,
	  "migrate [-1|-2] [-tnx] [-r NEWNAME] [-d STORE] NAME HOST",
	  "-1          only copy what there is now; the guest runs on\n"
	  "-2          stop it and copy the rest\n"
	  "-t          copy twice before it is stopped\n"
	  "-n          do not start it on the other host\n"
	  "-x          move it to the trash here when it is there\n"
	  "-r NEWNAME  its name there\n"
	  "-d STORE    the datastore there" },
	{ "install", verb_install, NEED_CHANGE,
	  "install [-fi] [--wait [--timeout SECONDS]] NAME ISO",
	  "-f  stay in the foreground, serial port on this terminal\n"
	  "-i  attach this terminal to the serial port" },
	{ "start", verb_start, NEED_CHANGE,
	  "start [-fi] [--wait [--timeout SECONDS]] NAME...\nstart -n NAME",
	  "-f  stay in the foreground, serial port on this terminal\n"
	  "-i  attach this terminal to the serial port\n"
	  "-n  print the configuration for khyve(8) and start nothing" },
	{ "stop", verb_stop, NEED_CHANGE, "stop [-t SECONDS [-f]] NAME...",
	  "-t SECONDS  wait that long for the guests to be off\n"
	  "-f          switch off those that are not off by then" },
	{ "restart", verb_restart, NEED_CHANGE, "restart NAME", NULL },
	{ "add", verb_add, NEED_CHANGE, "add -d disk -s SIZE NAME\nadd -d network -s SWITCH NAME",
	  "-d KIND  what to add: disk or network\n"
	  "-s SIZE  size of the disk, such as 20G, or name of the switch" },
	{ "disk", verb_disk, NEED_CHANGE,
	  "disk list [--json] NAME\n"
	  "disk resize NAME NUMBER SIZE|+SIZE\n"
	  "disk remove [-f] NAME NUMBER",
	  "-f      do not ask\n--json  for programs", VERB_OURS },
	{ "remove", verb_remove, NEED_CHANGE, "remove -d network NUMBER NAME",
	  "-d KIND  what to remove: network; the guest must be stopped", VERB_OURS },
	{ "reset", verb_reset, NEED_CHANGE, "reset [-f] NAME", "-f  do not ask" },
	{ "poweroff", verb_poweroff, NEED_CHANGE, "poweroff [-f] NAME", "-f  do not ask" },
	{ "startall", verb_startall, NEED_CHANGE, "startall", NULL },
	{ "stopall", verb_stopall, NEED_CHANGE, "stopall [-f] [-t SECONDS] [-k]",
	  "-f          all at once, without the order of vm_list\n"
	  "-t SECONDS  wait that long for the guests to be off (default: 90)\n"
	  "-k          switch off those that are not off by then" },
	{ "console", verb_console, NEED_STORE, "console [-w] NAME [com1|com2]",
	  "-w  wait for the guest to start" },
	{ "cd", verb_cd, NEED_CHANGE, "cd [-f] NAME [insert ISO|eject]",
	  "-f  eject also if the guest has locked the drive", VERB_OURS },
	{ "iso", verb_iso, NEED_CHANGE,
	  "iso [-d STORE] [--json]\n"
	  "iso [-46] [-d STORE] [--sha256 HASH] [--keyring FILE] URL|FILE [CHECKSUM]",
	  MEDIA_OPTIONS },
	{ "img", verb_img, NEED_CHANGE,
	  "img [-d STORE] [--json]\n"
	  "img [-46] [-d STORE] [--sha256 HASH] [--keyring FILE] URL|FILE [CHECKSUM]",
	  MEDIA_OPTIONS },
	{ "image", verb_image, NEED_CHANGE,
	  "image list [--json]\n"
	  "image create [-d DESCRIPTION] [-u] NAME\n"
	  "image provision [-d STORE] UUID NEWNAME\n"
	  "image destroy UUID",
	  "-d TEXT  description, or the datastore that the guest is made in\n"
	  "-u       do not compress\n"
	  "--json   for programs" },
	{ "datastore", verb_datastore, NEED_CHANGE,
	  "datastore list [--json]\n"
	  "datastore add NAME FOLDER|zfs:DATASET\n"
	  "datastore iso|img NAME FOLDER\n"
	  "datastore remove NAME",
	  "--json  for programs" },
	{ "switch", verb_switch, NEED_STORE,
	  "switch create [-t TYPE] [-i IFACE] [-n VLAN] [-b BRIDGE] [-m MTU] [-a CIDR] [-p] NAME\n"
	  "switch list [--json]\n"
	  "switch info [--json] [NAME...]\n"
	  "switch add|remove [--now] NAME IFACE\n"
	  "switch confirm NAME\n"
	  "switch vlan NAME ID\n"
	  "switch address NAME CIDR [delete]\n"
	  "switch address NAME none\n"
	  "switch private NAME on|off\n"
	  "switch nat NAME on|off\n"
	  "switch destroy NAME",
	  "-t TYPE         standard (default): a bridge; nat: a network of its own behind this host;\n"
	  "                vxlan: a bridge across hosts; manual: a bridge of yours\n"
	  "-i IFACE        the first port; of vxlan: what it goes by\n"
	  "-n VLAN         VLAN of all ports, 1 to 4094, or the number of the VXLAN\n"
	  "-b BRIDGE       the bridge of a manual switch\n"
	  "-m MTU          largest packet\n"
	  "-a CIDR         address of this host on the switch, such as 192.0.2.1/24\n"
	  "-p              guests do not reach each other\n"
	  "--now           do not wait for the gateway or a confirmation\n"
	  "--json          for programs" },
	{ "port", verb_port, NEED_CHANGE,
	  "port add NAME [ADDRESS:]HOSTPORT:GUESTPORT[/udp]\n"
	  "port remove NAME [ADDRESS:]HOSTPORT[/udp]\n"
	  "port list [--json] [NAME]",
	  "--json  for programs", VERB_OURS },
	{ "tags", verb_tags, NEED_STORE,
	  "tags add|remove NAME TAG...\n"
	  "tags list [--json] NAME\n"
	  "tags find [--json] TAG",
	  "--json  for programs" },
	{ "configure", verb_configure, NEED_CHANGE,
	  "configure NAME [meta-data|network-config|user-data]", NULL },
	{ "edit", verb_configure, NEED_CHANGE, "edit NAME [meta-data|network-config|user-data]",
	  NULL },
	{ "wait", verb_wait, NEED_STORE,
	  "wait [--timeout SECONDS] NAME booted|ip|ssh|off|text:REGEX",
	  "--timeout SECONDS  how long (default: 300)", VERB_OURS },
	{ "ssh", verb_ssh, NEED_CHANGE, "ssh [-l USER] [--timeout SECONDS] NAME [COMMAND...]",
	  "-l USER            who to be in the guest (default: its ssh_user)\n"
	  "--timeout SECONDS  how long to wait for an answer (default: 60)",
	  VERB_OURS },
	{ "up", verb_up, NEED_CONFIG,
	  "up [--offline] [--timeout SECONDS] [-t -s -c -m VALUE] [-k KEYFILE] [-l USER]"
	  " IMAGE [NAME]",
	  "--offline          fetch nothing; 'debian' is built from this host's own package mirror\n"
	  "--timeout SECONDS  how long to wait until it can be logged into (default: 600)\n"
	  "-t -s -c -m        as of create\n"
	  "-k KEYFILE         public keys that may log in (default: yours, or one made for vm ssh)\n"
	  "-l USER            who to be in the guest, if the image is none that vm knows",
	  VERB_OURS },
	{ "exec", verb_exec, NEED_CHANGE,
	  "exec [-l USER] [--timeout SECONDS] NAME COMMAND [ARGUMENT...]",
	  "-l USER            who to be in the guest (default: its ssh_user)\n"
	  "--timeout SECONDS  how long to wait for an answer (default: 60)",
	  VERB_OURS },
	{ "cp", verb_cp, NEED_CHANGE,
	  "cp [-r] [-l USER] FILE NAME:PATH\ncp [-r] [-l USER] NAME:PATH FILE",
	  "-r       folders with all that is in them\n"
	  "-l USER  who to be in the guest (default: its ssh_user)",
	  VERB_OURS },
	{ "log", verb_log, NEED_STORE, "log [-fk] [-n LINES] NAME",
	  "-f        go on with what is added, until ^C\n"
	  "-k        what khyve said, not what happened to the guest\n"
	  "-n LINES  only the last lines",
	  VERB_OURS },
	{ "why", verb_why, NEED_STORE, "why [--json] NAME", "--json  for programs", VERB_OURS },
	{ "events", verb_events, NEED_STORE, "events [-f] [--json] [NAME]",
	  "-f      what happens from now on, until ^C; else what has happened\n"
	  "--json  for programs, one object per line",
	  VERB_OURS },
	{ "top", verb_top, NEED_STORE, "top [--json]", "--json  for programs", VERB_OURS },
	{ "metrics", verb_metrics, NEED_STORE, "metrics", NULL, VERB_OURS },
	{ "screenshot", verb_screenshot, NEED_STORE, "screenshot NAME [FILE.png]", NULL,
	  VERB_OURS },
	{ "type", verb_type, NEED_STORE, "type NAME TEXT", "-  as TEXT: from standard input",
	  VERB_OURS },
	{ "key", verb_key, NEED_STORE, "key NAME CHORD...", NULL, VERB_OURS },
	{ "suspend", verb_suspend, NEED_STORE, "suspend NAME...",
	  "not there yet: khyve cannot save the state of a running guest", VERB_HIDDEN },
	{ "suspendall", verb_suspendall, NEED_STORE, "suspendall [-f]",
	  "not there yet: khyve cannot save the state of a running guest", VERB_HIDDEN },
	{ "resume", verb_resume, NEED_STORE, "resume NAME",
	  "not there yet: khyve cannot save the state of a running guest", VERB_HIDDEN },
	{ "discard", verb_discard, NEED_STORE, "discard [-f] NAME",
	  "-f  no error if there is no saved state, which there never is yet", VERB_HIDDEN },
	{ "passthru", verb_passthru, NEED_STORE, "passthru",
	  "not there yet: khyve has no VFIO device model", VERB_HIDDEN },
	{ "_receive", verb_receive, NEED_CHANGE, "_receive begin|end|start [-d STORE] NAME [OLD]",
	  NULL, VERB_HIDDEN },
	{ "_run", verb_run, NEED_CONFIG, "_run [-fa] [-r FD] NAME [ISO]", NULL, VERB_HIDDEN },
	{ "doctor", verb_doctor, NEED_CONFIG, "doctor [--json]", "--json  for programs",
	  VERB_OURS },
	{ "explain", verb_explain, NEED_NOTHING, "explain [--json] [CODE]", "--json  for programs",
	  VERB_OURS },
	{ "_complete", verb_complete, NEED_CONFIG, "_complete -- [WORD...]", NULL, VERB_HIDDEN },
	{ "version", verb_version, NEED_NOTHING, "version", NULL },
	{ "help", verb_help, NEED_NOTHING, "help [COMMAND]", NULL },
	{ "usage", verb_help, NEED_NOTHING, "usage", NULL },
};

const struct verb *vm_verb(size_t i)
{
	return i < ARRAY_LEN(verbs) ? &verbs[i] : NULL;
}

/* How far in a line goes on if it has to: as what is behind two blanks in it, or a little. */
static size_t hang_of(const char *line, size_t len)
{
	const char *gap = memmem(line, len, "  ", 2);

	return gap ? (size_t)(gap - line) + strspn(gap, " ") : 4;
}

/* Lines of text, each behind an indent. */
static void print_lines(FILE *f, const char *prefix, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		ui_wrap(f, prefix, (int)(strlen(prefix) + hang_of(text, len)), text);
		text += len + (text[len] == '\n');
	}
}

static bool has_dry_run(const struct verb *v)
{
	static const char *const names[] = {
		"create",    "rename",	  "destroy",  "trash",	 "protect", "snapshot", "rollback",
		"clone",     "migrate",	  "add",      "remove",	 "disk",    "set",	"install",
		"start",     "stop",	  "startall", "stopall", "restart", "reset",	"poweroff",
		"cd",	     "iso",	  "img",      "image",	 "switch",  "port",	"tags",
		"datastore", "configure", "edit",     "up",
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(v->name, names[i]) == 0)
			return true;
	}
	return false;
}

static void print_help(FILE *f, const struct verb *v)
{
	fputs("Usage:\n", f);
	print_lines(f, "    vm ", v->synopsis);
	if (v->options || has_dry_run(v))
		fputs("\nOptions:\n", f);
	if (v->options)
		print_lines(f, "    ", v->options);
	if (has_dry_run(v))
		print_lines(f, "    ", "--dry-run  say what would be done, and do nothing");
}

int ui_usage(const struct vm *vm)
{
	fflush(stdout);
	print_help(stderr, vm->verb);
	return VM_USAGE;
}

static void print_usage(void)
{
	puts("Usage:");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (verbs[i].kind != VERB_HIDDEN)
			print_lines(stdout, "    vm ", verbs[i].synopsis);
	}
	puts("");
	ui_wrap(stdout, "", 0,
		"A command may be shortened as long as it is unique. 'vm help COMMAND' tells its "
		"options.");
}

/* Says which commands a word could mean. */
static const struct verb *report_word(const char *word, unsigned matches)
{
	const char *names[ARRAY_LEN(verbs)], *near;

	if (matches > 1) {
		ui_error(K(001) "ambiguous command '%s'", word);
		return NULL;
	}
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		names[i] = verbs[i].name;
	near = str_nearest(word, names, ARRAY_LEN(names));
	if (near)
		ui_error(K(001) "unknown command '%s' (did you mean '%s'?)", word, near);
	else
		ui_error(K(001) "unknown command '%s'; 'vm help' lists them", word);
	return NULL;
}

/* The verbs that a word is the beginning of, ours or vm-bhyve's. Returns how many they are. */
static unsigned match_verbs(const char *word, bool ours, const struct verb **out)
{
	unsigned matches = 0;

	for (size_t i = 0; *word && i < ARRAY_LEN(verbs); i++) {
		if ((verbs[i].kind == VERB_OURS) == ours &&
		    strncasecmp(word, verbs[i].name, strlen(word)) == 0) {
			*out = &verbs[i];
			matches++;
		}
	}
	return matches;
}

/*
 * A command by its name or a unique prefix, in any case of letters; an exact match wins. NULL:
 * reported.
 */
static const struct verb *find_verb(const char *word)
{
	const struct verb *found = NULL;
	unsigned matches;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcasecmp(word, verbs[i].name) == 0)
			return &verbs[i];
	}
	matches = match_verbs(word, false, &found);
	if (matches == 0)
		matches = match_verbs(word, true, &found);
	return matches == 1 ? found : report_word(word, matches);
}

static int verb_help(struct vm *vm, int argc, char **argv)
{
	const struct verb *v;

	(void)vm;
	if (argc < 2) {
		print_usage();
		return 0;
	}
	v = find_verb(argv[1]);
	if (!v)
		return VM_FAILED;
	print_help(stdout, v);
	return 0;
}

static int verb_version(struct vm *vm, int argc, char **argv)
{
	(void)vm;
	(void)argc;
	(void)argv;
	puts("khyve: virtual machine management v" KHYVE_VERSION);
	return 0;
}

int verb_init(struct vm *vm, int argc, char **argv)
{
	char from[PATH_MAX], to[PATH_MAX], *text;
	struct err err;
	size_t len;
	int r;

	(void)argv;
	if (argc > 1)
		return ui_usage(vm);
	if (store_make(&vm->store, true, &err) < 0)
		return ui_error("%s", err.text);
	if (file_path(to, sizeof(to), "%s/.templates/default.conf", vm->store.dir) < 0 ||
	    file_path(from, sizeof(from), "%s/default.conf", vm->store.share) < 0)
		return ui_error(K(053) "%s: the path is too long", vm->store.dir);
	if (access(to, F_OK) == 0)
		return vm_init_switches(vm);
	r = fd_read_file(from, 1 << 20, &text, &len);
	if (r < 0)
		return ui_error("cannot read %s: %s: is khyve installed whole?", from,
				strerror(-r));
	r = file_write_atomic(to, text, len, 0644, &err);
	free(text);
	return r < 0 ? ui_error("%s", err.text) : vm_init_switches(vm);
}

/* Takes --dry-run out of the words of a command that has it. */
static int take_dry_run(struct vm *vm, int argc, char **argv)
{
	bool has = has_dry_run(vm->verb);
	int kept = 0;

	for (int i = 0; i < argc; i++) {
		if (has && strcmp(argv[i], "--dry-run") == 0)
			vm->dry_run = true;
		else
			argv[kept++] = argv[i];
	}
	argv[kept] = NULL;
	return kept;
}

__attribute__((format(printf, 2, 0))) static bool would(const struct vm *vm, const char *fmt,
							va_list ap)
{
	if (!vm->dry_run)
		return false;
	fputs("would ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	return true;
}

bool vm_would(const struct vm *vm, const char *fmt, ...)
{
	va_list ap;
	bool r;

	va_start(ap, fmt);
	r = would(vm, fmt, ap);
	va_end(ap);
	return r;
}

int vm_done(const struct vm *vm, int r, const struct err *err, const char *fmt, ...)
{
	va_list ap;

	if (r < 0)
		return ui_error("%s", err->text);
	va_start(ap, fmt);
	(void)would(vm, fmt, ap);
	va_end(ap);
	return 0;
}

static bool wants_help(int argc, char **argv)
{
	return argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
}

/* A datastore that is not there harms nothing else, but its guests are missing. */
static void warn_missing(const struct store *s)
{
	for (size_t i = 0; i < s->other_count; i++) {
		if (s->others[i].kind == DATASTORE_GUESTS && !datastore_is_there(&s->others[i]))
			ui_warning("datastore %s is not mounted: %s", s->others[i].name,
				   s->others[i].path);
	}
}

static int prepare(struct vm *vm, struct err *err)
{
	int r = 0;

	if (vm->verb->need == NEED_NOTHING)
		return 0;
	r = store_open(&vm->store, err);
	vm->store.dry_run = vm->dry_run;
	if (r == 0 &&
	    (vm->verb->need == NEED_STORE || (vm->dry_run && vm->verb->need == NEED_CHANGE)))
		r = store_check(&vm->store, err);
	if (r == 0 && vm->verb->need >= NEED_STORE)
		warn_missing(&vm->store);
	if (vm->dry_run)
		return r;
	if (r == 0 && vm->verb->need == NEED_CHANGE)
		r = store_make(&vm->store, false, err);
	if (r == 0 && vm->verb->need == NEED_CHANGE)
		(void)removed_empty(&vm->store, NULL, time(NULL) - REMOVED_DAYS * 86400, NULL);
	return r;
}

static void warn(const char *text)
{
	ui_warning("%s", text);
}

static int run(int argc, char **argv)
{
	struct vm vm = { 0 };
	struct err err = { "" };
	int status;

	setlocale(LC_CTYPE, "C.UTF-8");
	umask(022);
	if (argc < 2)
		return ui_error(K(001) "no command specified; 'vm help' lists them");
	vm.verb = find_verb(argv[1]);
	if (!vm.verb)
		return VM_FAILED;
	if (wants_help(argc - 1, argv + 1)) {
		print_help(stdout, vm.verb);
		return 0;
	}
	argc = take_dry_run(&vm, argc, argv);
	if (prepare(&vm, &err) < 0)
		return ui_error("%s", err.text);
	if (!vm.dry_run && vm.verb->need >= NEED_STORE && vm.verb->run != verb_switch &&
	    uplink_repair(&vm.store, warn, &err) < 0)
		ui_error("%s", err.text);
	status = vm.verb->run(&vm, argc - 1, argv + 1);
	store_close(&vm.store);
	if (fflush(stdout) != 0 || ferror(stdout))
		return ui_error("cannot write the output: %s", strerror(errno));
	return status;
}

int main(int argc, char **argv)
{
	return ui_status(run(argc, argv));
}
