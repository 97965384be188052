/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/port.h"
#include "manager/prog.h"
#include "manager/run.h"
#include "util/clock.h"
#include "util/macros.h"
#include "util/str.h"

#define SSH_PORT 22
#define SSH_SECONDS 60
/* Ports of this host that lead to guests' SSH behind user networking. */
#define FORWARD_FIRST 2200
#define FORWARD_LAST 2999
#define ARGS_MAX 1024
/* Between two tries to log in. */
#define LOGIN_MS 1000

/* A guest that answers, and the command line of ssh or scp for it. */
struct target {
	struct guest g;
	char addr[64], port[8];
	char user[64];
	char known[2 * PATH_MAX], alias[300], keys[5][PATH_MAX];
	char *argv[ARGS_MAX + 1];
	size_t argc;
};

static void add(struct target *t, const char *word)
{
	if (t->argc < ARGS_MAX)
		t->argv[t->argc++] = (char *)word;
}

/* Whether a port of this host leads to the guest's SSH already. */
static bool is_forwarded(const struct gconf *conf)
{
	struct port *ports;
	bool found = false;
	size_t count;

	for (unsigned n = 0; gconf_getf(conf, "network%u_type", n); n++) {
		if (port_load(conf, n, &ports, &count) < 0)
			continue;
		for (size_t i = 0; i < count; i++)
			found |= ports[i].guest == SSH_PORT && !ports[i].udp;
		free(ports);
	}
	return found;
}

/* A guest that only user networking connects is reached by a port of this host's loopback. */
static int need_forward(const struct vm *vm, const struct guest *g, struct gconf *conf,
			struct err *err)
{
	char addresses[512];
	bool user = false;
	int r = -EEXIST;

	for (unsigned n = 0; gconf_getf(conf, "network%u_type", n); n++)
		user |= port_is_user(g, conf, n);
	if (!user || is_forwarded(conf) ||
	    vm_addresses(vm, g, conf, addresses, sizeof(addresses)) == 0)
		return 0;
	for (uint16_t p = FORWARD_FIRST; r == -EEXIST && p <= FORWARD_LAST; p++) {
		const struct port port = { .addr = 0x7f000001, .host = p, .guest = SSH_PORT };

		r = vm_port_add(vm, g, &port, err);
	}
	return r;
}

/* ~/.ssh and the store may hold keys. */
static void find_keys(struct target *t, const struct store *s)
{
	static const char *const own[] = { "id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk" };
	const char *home = getenv("HOME");
	size_t count = 0;

	if (file_path(t->keys[0], sizeof(t->keys[0]), "%s/" VM_KEY, s->dir) < 0 ||
	    access(t->keys[0], R_OK) < 0)
		return;
	count++;
	for (size_t i = 0; home && i < ARRAY_LEN(own); i++) {
		if (file_path(t->keys[count], PATH_MAX, "%s/.ssh/%s", home, own[i]) == 0 &&
		    access(t->keys[count], R_OK) == 0)
			count++;
	}
	for (size_t i = 0; i < count; i++) {
		add(t, "-i");
		add(t, t->keys[i]);
	}
}

/* The options that ssh and scp have in common. The guest's keys are known by its UUID. */
static int add_options(struct target *t, const struct store *s, const struct gconf *conf,
		       const char *port_option)
{
	const char *uuid = gconf_get(conf, "uuid"), *head = "UserKnownHostsFile=\"";
	size_t len = strlen(head);

	memcpy(t->known, head, len);
	if (strlen(t->g.dir) + sizeof("/known_hosts") > PATH_MAX)
		return ui_error(K(053) "%s: the path is too long", t->g.dir);
	/* ssh expands what stands behind a percent sign. */
	for (const char *p = t->g.dir; *p; p++) {
		if (*p == '%')
			t->known[len++] = '%';
		t->known[len++] = *p;
	}
	(void)str_copy(t->known + len, sizeof(t->known) - len, "/known_hosts\"");
	if (file_path(t->alias, sizeof(t->alias), "HostKeyAlias=%s",
		      uuid && *uuid ? uuid : t->g.name) < 0)
		return ui_error(K(053) "%s: uuid is too long", t->g.conf);
	add(t, port_option);
	add(t, t->port);
	add(t, "-o");
	add(t, t->known);
	add(t, "-o");
	add(t, t->alias);
	add(t, "-oGlobalKnownHostsFile=/dev/null");
	add(t, "-oStrictHostKeyChecking=accept-new");
	add(t, "-oCheckHostIP=no");
	add(t, "-oHashKnownHosts=no");
	add(t, "-oLogLevel=ERROR");
	find_keys(t, s);
	return 0;
}

/* ADDR:PORT or [ADDR]:PORT. */
static int split_address(struct target *t, const char *where)
{
	const char *colon = strrchr(where, ':');
	bool v6 = where[0] == '[';

	return file_path(t->addr, sizeof(t->addr), "%.*s", (int)(colon - where) - 2 * v6,
			 where + v6) < 0 ||
			       str_copy(t->port, sizeof(t->port), colon + 1) < 0
		       ? ui_error(K(053) "%s: its address is too long", t->g.name)
		       : 0;
}

/* Waits for the guest and begins the command line of a program. */
static int prepare(struct vm *vm, struct target *t, const char *name, const char *program,
		   unsigned seconds)
{
	char where[128];
	const char *user;
	struct run_state state;
	struct gconf *conf;
	struct err err;
	int r;

	if (vm_find(vm, name, &t->g))
		return VM_FAILED;
	run_query(&t->g, &state);
	if (state.kind != RUN_RUNNING)
		return ui_error(K(021) "%s is not running; 'vm start %s' starts it", name, name);
	if (gconf_load(t->g.conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	user = gconf_get(conf, "ssh_user");
	if (!t->user[0] && user && str_copy(t->user, sizeof(t->user), user) < 0)
		t->user[0] = '\0';
	r = need_forward(vm, &t->g, conf, &err) < 0 ? ui_error("%s", err.text) : 0;
	if (r == 0)
		r = vm_wait_ssh(vm, &t->g, seconds, where, sizeof(where));
	if (r == 0)
		r = split_address(t, where);
	add(t, program);
	if (r == 0)
		r = add_options(t, &vm->store, conf, strcmp(program, "scp") == 0 ? "-P" : "-p");
	gconf_free(conf);
	return r;
}

/* Becomes the program, whose exit status is the command's. */
static int become(struct target *t)
{
	char path[PATH_MAX];

	if (t->argc == ARGS_MAX)
		return ui_error("too many words for a command");
	t->argv[t->argc] = NULL;
	if (prog_find(t->argv[0], path, sizeof(path)) < 0)
		return ui_error(
			K(031) "the program %s is not installed: apt-get install openssh-client",
			t->argv[0]);
	fflush(stdout);
	execv(path, t->argv);
	return ui_error("cannot run %s: %s", path, strerror(errno));
}

/* Options of all three, up to the first other word. */
static int parse(struct vm *vm, int argc, char **argv, struct target *t, unsigned *seconds,
		 bool *recursive)
{
	static const struct option longs[] = { { "timeout", required_argument, NULL, 't' }, { 0 } };
	uint64_t n = SSH_SECONDS;
	int c;

	while ((c = ui_options(argc, argv, recursive ? "+l:r" : "+l:", longs)) != -1) {
		if (c == 'l' && (!*optarg || str_copy(t->user, sizeof(t->user), optarg) < 0))
			return ui_error(K(004) "'%s' is not the name of a user", optarg);
		if (c == 't' && (str_u64(optarg, &n) < 0 || n > 86400))
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
		if (c == '?' || c == ':')
			return ui_usage(vm);
		if (c == 'r')
			*recursive = true;
	}
	*seconds = (unsigned)n;
	return 0;
}

/* One command for the guest's shell, in which each word is what it is here; malloc'ed. */
static char *quote_words(int count, char **words)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	for (int i = 0; f && i < count; i++) {
		fputs(i ? " '" : "'", f);
		for (const char *p = words[i]; *p; p++) {
			if (*p == '\'')
				fputs("'\\", f);
			fputc(*p, f);
			if (*p == '\'')
				fputc('\'', f);
		}
		fputc('\'', f);
	}
	if (f && fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

/* exec gives the guest's shell words as they are, ssh gives it text. */
static int run(struct vm *vm, int argc, char **argv, bool exec)
{
	struct target *t = calloc(1, sizeof(*t));
	char *command = NULL;
	unsigned seconds = 0;
	int r;

	if (!t)
		return ui_error(K(080) "out of memory");
	r = parse(vm, argc, argv, t, &seconds, NULL);
	if (r == 0 && argc - optind < (exec ? 2 : 1))
		r = ui_usage(vm);
	if (r == 0)
		r = prepare(vm, t, argv[optind], "ssh", seconds);
	if (r == 0 && exec) {
		command = quote_words(argc - optind - 1, argv + optind + 1);
		r = command ? 0 : ui_error(K(080) "out of memory");
	}
	if (r == 0) {
		if (t->user[0]) {
			add(t, "-l");
			add(t, t->user);
		}
		if (exec)
			add(t, "-T");
		add(t, "--");
		add(t, t->addr);
		if (exec)
			add(t, command);
		for (int i = optind + 1; !exec && i < argc; i++)
			add(t, argv[i]);
		r = become(t);
	}
	free(command);
	free(t);
	return r;
}

int verb_ssh(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, false);
}

int verb_exec(struct vm *vm, int argc, char **argv)
{
	return run(vm, argc, argv, true);
}

/* Runs the command line to its end without a word. Returns the exit status. */
static int try(const struct target *t)
{
	posix_spawn_file_actions_t fa;
	char path[PATH_MAX];
	pid_t pid;
	int status = -1;

	if (prog_find(t->argv[0], path, sizeof(path)) < 0 || posix_spawn_file_actions_init(&fa))
		return VM_FAILED;
	for (int fd = 0; fd < 3; fd++)
		(void)posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
	if (posix_spawn(&pid, path, &fa, NULL, t->argv, environ) == 0) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	posix_spawn_file_actions_destroy(&fa);
	return WIFEXITED(status) ? WEXITSTATUS(status) : VM_FAILED;
}

int vm_wait_login(struct vm *vm, const char *name, unsigned seconds)
{
	static const char *const more[] = { "-oBatchMode=yes", "-oConnectTimeout=10", "--" };
	uint64_t end = clock_mono_ns() + seconds * NS_PER_SEC;
	struct target *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return ui_error(K(080) "out of memory");
	r = prepare(vm, t, name, "ssh", seconds);
	if (r == 0 && t->user[0]) {
		add(t, "-l");
		add(t, t->user);
		for (size_t i = 0; i < ARRAY_LEN(more); i++)
			add(t, more[i]);
		add(t, t->addr);
		add(t, "true");
		while (r == 0 && try(t) != 0) {
			if (clock_mono_ns() >= end) {
				ui_error("%s answers, but does not let %s in", name, t->user);
				r = VM_TIMEOUT;
			}
			poll(NULL, 0, LOGIN_MS);
		}
	}
	free(t);
	return r;
}

/* The guest's name in NAME:PATH; false for a file of this host. */
static bool is_remote(const char *text, char *name, size_t size)
{
	size_t len = strcspn(text, ":/");

	return text[len] == ':' && file_path(name, size, "%.*s", (int)len, text) == 0;
}

int verb_cp(struct vm *vm, int argc, char **argv)
{
	struct target *t = calloc(1, sizeof(*t));
	char name[STORE_NAME_MAX + 1] = "", other[STORE_NAME_MAX + 1] = "", *remote = NULL;
	bool recursive = false, to = false;
	unsigned seconds = 0;
	int r;

	if (!t)
		return ui_error(K(080) "out of memory");
	r = parse(vm, argc, argv, t, &seconds, &recursive);
	if (r == 0 && argc - optind != 2)
		r = ui_usage(vm);
	if (r == 0) {
		to = is_remote(argv[optind + 1], name, sizeof(name));
		if (is_remote(argv[optind], to ? other : name, sizeof(name)) == to)
			r = ui_error("one of the two has to be NAME:PATH, the other one a file of "
				     "this host");
	}
	if (r == 0)
		r = prepare(vm, t, name, "scp", seconds);
	if (r == 0) {
		const char *path = strchr(argv[optind + to], ':') + 1;

		remote = str_format("%s%s[%s]:%s", t->user, t->user[0] ? "@" : "", t->addr, path);
		if (recursive)
			add(t, "-r");
		add(t, "--");
		add(t, to ? argv[optind] : remote);
		add(t, to ? remote : argv[optind + 1]);
		r = remote ? become(t) : ui_error(K(080) "out of memory");
	}
	free(remote);
	free(t);
	return r;
}
