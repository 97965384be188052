/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cmd/khyve-vnc/server.h"
#include "util/err.h"
#include "util/str.h"

#define EXIT_USAGE 2

struct options {
	struct server_config conf;
	int listen_fds[SERVER_MAX_LISTEN];
	int password_fd;
};

static const char usage[] =
	"usage: khyve-vnc --screen-fd FD --ctl-fd FD --listen-fd FD[,FD...]\n"
	"                 [--password-fd FD] [--tls-fd FD] [--name NAME] [--max-clients N]\n"
	"\n"
	"Shows the screen of a guest over VNC. khyve starts it and hands it the descriptors;\n"
	"see khyve-vnc(8).\n";

static int parse_number(const char *option, const char *text, uint64_t max, uint64_t *out,
			struct err *err)
{
	uint64_t v = 0;

	if (str_u64(text, &v) < 0 || v > max)
		return err_set(err, -EINVAL, "%s: \"%s\" is not a number from 0 to %llu", option,
			       text, (unsigned long long)max);
	*out = v;
	return 0;
}

static int parse_fd(const char *option, const char *text, int *fd, struct err *err)
{
	uint64_t v = 0;
	int rc = parse_number(option, text, 1 << 20, &v, err);

	if (rc == 0)
		*fd = (int)v;
	return rc;
}

static int parse_listen_fds(struct options *o, char *list, struct err *err)
{
	char *item;

	while ((item = strsep(&list, ","))) {
		int rc;

		if (o->conf.n_listen == SERVER_MAX_LISTEN)
			return err_set(err, -E2BIG, "--listen-fd: more than %d descriptors",
				       SERVER_MAX_LISTEN);
		rc = parse_fd("--listen-fd", item, &o->listen_fds[o->conf.n_listen], err);
		if (rc < 0)
			return rc;
		o->conf.n_listen++;
	}
	return 0;
}

static int parse_option(struct options *o, int option, char *arg, struct err *err)
{
	uint64_t v = 0;
	int rc;

	switch (option) {
	case 's':
		return parse_fd("--screen-fd", arg, &o->conf.screen_fd, err);
	case 'c':
		return parse_fd("--ctl-fd", arg, &o->conf.ctl_fd, err);
	case 'l':
		return parse_listen_fds(o, arg, err);
	case 'p':
		return parse_fd("--password-fd", arg, &o->password_fd, err);
	case 't':
		return parse_fd("--tls-fd", arg, &o->conf.tls_fd, err);
	case 'n':
		o->conf.name = arg;
		return 0;
	default:
		rc = parse_number("--max-clients", arg, SERVER_VIEWERS_MAX, &v, err);
		if (rc == 0 && v == 0)
			rc = err_set(err, -EINVAL, "--max-clients: must be 1 at least");
		if (rc == 0)
			o->conf.max_viewers = (unsigned int)v;
		return rc;
	}
}

/* 0, or an exit status. */
static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "screen-fd", required_argument, NULL, 's' },
		{ "ctl-fd", required_argument, NULL, 'c' },
		{ "listen-fd", required_argument, NULL, 'l' },
		{ "password-fd", required_argument, NULL, 'p' },
		{ "tls-fd", required_argument, NULL, 't' },
		{ "name", required_argument, NULL, 'n' },
		{ "max-clients", required_argument, NULL, 'm' },
		{ 0 },
	};
	struct err err;
	int option;

	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (option == '?') {
			fputs(usage, stderr);
			return EXIT_USAGE;
		}
		if (parse_option(o, option, optarg, &err) < 0) {
			fprintf(stderr, "khyve-vnc: %s\n", err.text);
			return EXIT_USAGE;
		}
	}
	if (optind == argc && o->conf.screen_fd >= 0 && o->conf.ctl_fd >= 0 && o->conf.n_listen)
		return 0;
	fputs(usage, stderr);
	return EXIT_USAGE;
}

static int serve(const struct options *o, struct err *err)
{
	struct loop *loop;
	struct server *s;
	int rc;

	/* epoll on purpose: no file I/O happens here, and it leaves the kernel less to be attacked at than io_uring. */
	loop = loop_new(LOOP_EPOLL, err);
	if (!loop)
		return -ENOMEM;
	s = calloc(1, sizeof(*s));
	rc = s ? server_init(s, loop, &o->conf, err) : err_set(err, -ENOMEM, "out of memory");
	if (rc == 0) {
		loop_run(loop);
		rc = s->end_error;
		if (rc == -EPROTO)
			err_set(err, rc, "khyve sent a message that makes no sense");
		else if (rc < 0)
			err_set(err, rc, "the link to khyve broke: %s", strerror(-rc));
		server_fini(s);
	}
	free(s);
	loop_free(loop);
	return rc;
}

int main(int argc, char **argv)
{
	struct options o = { .conf = { .screen_fd = -1,
				       .ctl_fd = -1,
				       .name = "khyve",
				       .max_viewers = SERVER_VIEWERS_DEFAULT },
			     .password_fd = -1 };
	char password[AUTH_PASSWORD_MAX + 1];
	struct err err;
	int status = parse_options(&o, argc, argv);
	int rc = 0;

	if (status)
		return status;
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the password stays out of core files */
	o.conf.listen_fds = o.listen_fds;
	if (o.password_fd >= 0) {
		rc = auth_read_password(o.password_fd, password, &err);
		close(o.password_fd);
		o.conf.password = password;
	}
	if (rc == 0)
		rc = serve(&o, &err);
	explicit_bzero(password, sizeof(password));
	if (rc < 0)
		fprintf(stderr, "khyve-vnc: %s\n", err.text);
	return rc < 0 ? 1 : 0;
}
