/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "manager/guestconf.h"
#include "manager/port.h"
#include "util/clock.h"
#include "util/macros.h"
#include "util/str.h"

#define LOOK_MS 200
#define SSH_PORT 22
#define SSH_MS 1000
/* A guest that is busy says hello late, and later with each caller who does not wait for it. */
#define HELLO_MS 10000
#define CONSOLE_SIZE (128u << 10)
/* The end of what a system that has booted prints on its serial port. */
#define PROMPT "(login|Username): *$"

enum condition { BOOTED, IP, SSH, OFF, TEXT };

struct wait {
	const struct vm *vm;
	struct guest g;
	enum condition what;
	regex_t regex;
	char *console; /* CONSOLE_SIZE */
	char found[512]; /* what is printed at the end */
	bool quiet; /* it is not */
	const char *hint; /* why it has not come true so far */
};

/* Removes what moves the cursor and changes colours, and ends of lines of terminals. */
static void strip(char *text)
{
	char *out = text;

	for (const char *p = text; *p; p++) {
		if (p[0] == '\033' && p[1] == '[') {
			p += 2 + strspn(p + 2, "0123456789;?");
			if (!*p)
				break;
		} else if (*p != '\r') {
			*out++ = *p;
		}
	}
	*out = '\0';
}

static bool said(struct wait *w)
{
	int r = vm_read_console(&w->g, w->console, CONSOLE_SIZE);

	w->hint = r == -EBUSY ? "; its console is in use by somebody else" : "";
	if (r < 0)
		return false;
	strip(w->console);
	return regexec(&w->regex, w->console, 0, NULL, 0) == 0;
}

/* Whether what listens there speaks SSH. */
static bool speaks_ssh(const char *addr, unsigned port)
{
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	bool is_v6 = inet_pton(AF_INET6, addr, &v6.sin6_addr) == 1;
	struct pollfd p = { .events = POLLOUT };
	char banner[4];
	bool ok;

	if (!is_v6 && inet_pton(AF_INET, addr, &v4.sin_addr) != 1)
		return false;
	p.fd = socket(is_v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p.fd < 0)
		return false;
	ok = connect(p.fd, is_v6 ? (void *)&v6 : (void *)&v4, is_v6 ? sizeof(v6) : sizeof(v4)) ==
		     0 ||
	     (errno == EINPROGRESS && poll(&p, 1, SSH_MS) > 0);
	p.events = POLLIN;
	ok = ok && poll(&p, 1, HELLO_MS) > 0 &&
	     recv(p.fd, banner, sizeof(banner), 0) == sizeof(banner) &&
	     memcmp(banner, "SSH-", sizeof(banner)) == 0;
	close(p.fd);
	return ok;
}

/* Ports of this host that lead to the guest's SSH. */
static bool try_forwards(struct wait *w, const struct gconf *conf)
{
	struct port *ports;
	bool found = false;
	size_t count;

	for (unsigned n = 0; !found && gconf_getf(conf, "network%u_type", n); n++) {
		if (port_load(conf, n, &ports, &count) < 0)
			continue;
		for (size_t i = 0; !found && i < count; i++) {
			struct in_addr a = { htonl(ports[i].addr ? ports[i].addr
								 : INADDR_LOOPBACK) };
			char text[INET_ADDRSTRLEN];

			found = ports[i].guest == SSH_PORT && !ports[i].udp &&
				inet_ntop(AF_INET, &a, text, sizeof(text)) &&
				speaks_ssh(text, ports[i].host);
			if (found &&
			    snprintf(w->found, sizeof(w->found), "%s:%u", text, ports[i].host) < 0)
				w->found[0] = '\0';
		}
		free(ports);
	}
	return found;
}

static bool try_addresses(struct wait *w, const char *addresses)
{
	for (const char *p = addresses; *(p += strspn(p, " ")); p += strcspn(p, " ")) {
		char addr[INET6_ADDRSTRLEN];

		size_t len = strcspn(p, " ");

		if (len >= sizeof(addr))
			continue;
		memcpy(addr, p, len);
		addr[len] = '\0';
		if (!speaks_ssh(addr, SSH_PORT))
			continue;
		if (snprintf(w->found, sizeof(w->found), strchr(addr, ':') ? "[%s]:22" : "%s:22",
			     addr) < 0)
			w->found[0] = '\0';
		return true;
	}
	return false;
}

/* Whether the guest has an address; or, if ssh, whether it answers there. */
static bool is_reached(struct wait *w, bool ssh)
{
	char addresses[512];
	struct gconf *conf;
	bool found;

	if (gconf_load(w->g.conf, &conf, NULL) < 0)
		return false;
	found = vm_addresses(w->vm, &w->g, conf, addresses, sizeof(addresses)) == 0;
	w->hint = !found && port_is_user(&w->g, conf, 0)
			  ? "; it is behind user networking, where this host sees no address and "
			    "reaches it by 'vm port add' only"
			  : "";
	if (ssh)
		found = (found && try_addresses(w, addresses)) || try_forwards(w, conf);
	else if (found)
		(void)str_copy(w->found, sizeof(w->found), addresses);
	gconf_free(conf);
	return found;
}

static bool is_true(struct wait *w)
{
	switch (w->what) {
	case IP:
		return is_reached(w, false);
	case SSH:
		return is_reached(w, true);
	case TEXT:
		return said(w);
	default:
		if (is_reached(w, false) || said(w))
			return true;
		return is_reached(w, true);
	}
}

static int wait_until(struct wait *w, const char *name, const char *what, uint64_t end)
{
	struct run_state state;

	for (;;) {
		run_query(&w->g, &state);
		/* Between two runs of a guest that restarts, its supervisor is there. */
		if (state.kind == RUN_STOPPED && !run_supervised(&w->g)) {
			if (w->what == OFF)
				return 0;
			return ui_error(K(021) "%s is off; 'vm why %s' tells the reason", name,
					name);
		}
		if (state.kind == RUN_LOCKED)
			return ui_error(K(022) "%s appears to be running on %s (locked)", name,
					state.host);
		if (w->what != OFF && state.kind == RUN_RUNNING && is_true(w)) {
			if ((w->what == IP || w->what == SSH) && w->found[0] && !w->quiet)
				puts(w->found);
			return 0;
		}
		if (clock_mono_ns() >= end) {
			ui_error(K(044) "%s is not there in time: %s%s", name, what,
				 w->hint ? w->hint : "");
			return VM_TIMEOUT;
		}
		poll(NULL, 0, LOOK_MS);
	}
}

static int parse(struct wait *w, const char *what)
{
	static const char *const words[] = { "booted", "ip", "ssh", "off" };
	const char *regex = PROMPT;
	char text[256];
	int r;

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(what, words[i]) == 0)
			w->what = (enum condition)i;
	}
	if (str_starts(what, "text:")) {
		w->what = TEXT;
		regex = what + 5;
	} else if (strcmp(what, words[w->what]) != 0) {
		return ui_error(K(004) "'%s' is none of: booted ip ssh off text:REGEX", what);
	}
	r = regcomp(&w->regex, regex, REG_EXTENDED | REG_NOSUB | REG_NEWLINE);
	if (r == 0)
		return 0;
	regerror(r, &w->regex, text, sizeof(text));
	return ui_error(K(004) "'%s' is not a regular expression: %s", regex, text);
}

int vm_wait(const struct vm *vm, const char *name, const char *what, unsigned seconds)
{
	uint64_t end = clock_mono_ns() + seconds * NS_PER_SEC;
	struct wait w = { .vm = vm };
	int status;

	if (vm_find(vm, name, &w.g) || parse(&w, what))
		return VM_FAILED;
	w.console = malloc(CONSOLE_SIZE);
	status = w.console ? wait_until(&w, name, what, end) : ui_error(K(080) "out of memory");
	free(w.console);
	regfree(&w.regex);
	return status;
}

int vm_wait_ssh(const struct vm *vm, const struct guest *g, unsigned seconds, char *out,
		size_t size)
{
	struct wait w = { .vm = vm, .g = *g, .what = SSH, .quiet = true };
	int status = 0;

	if (!is_reached(&w, true)) {
		if (isatty(STDERR_FILENO))
			fprintf(stderr, "Waiting for %s to answer by SSH...\n", g->name);
		status = wait_until(&w, g->name, "ssh", clock_mono_ns() + seconds * NS_PER_SEC);
	}
	if (status)
		return status;
	return str_copy(out, size, w.found) < 0
		       ? ui_error(K(053) "%s: its address is too long", g->name)
		       : 0;
}

int verb_wait(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "timeout", required_argument, NULL, 't' }, { 0 } };
	uint64_t seconds = VM_WAIT_SECONDS;
	int c;

	while ((c = ui_options(argc, argv, "", longs)) != -1) {
		if (c != 't')
			return ui_usage(vm);
		if (str_u64(optarg, &seconds) < 0 || seconds > 86400 * 365)
			return ui_error(K(004) "'%s' is not a number of seconds", optarg);
	}
	if (argc - optind != 2)
		return ui_usage(vm);
	return vm_wait(vm, argv[optind], argv[optind + 1], (unsigned)seconds);
}
