/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "back/listen.h"
#include "cmd/khyve-net/commands.h"
#include "cmd/khyve-net/forward.h"
#include "cmd/khyve-net/gate.h"
#include "cmd/khyve-net/jail.h"
#include "cmd/khyve-net/nat.h"
#include "cmd/khyve-net/wire.h"
#include "loop/loop.h"
#include "machine/control.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"

#define EXIT_USAGE 2
#define HOSTNAME_MAX 32 /* libslirp's room for it, with the zero */

struct options {
	const char *listen, *control;
	struct nat_config nat;
	uint64_t end_seconds; /* 0: never */
	uint64_t ready_fd; /* 0: none */
	bool keep_going; /* a forward that cannot be opened is left out */
	enum log_level level;
	size_t nforwards;
	struct forward forwards[NAT_FORWARDS_MAX];
};

struct program {
	struct loop *loop;
	int listen_fd;
	struct control *control;
	struct commands commands;
	struct gate gate;
	struct wire wire;
	struct loop_timer end;
	uint64_t end_ns;
};

static const char usage[] =
	"usage: khyve-net [-46Lkrv] [-c PATH] [-e SECONDS] [-f FORWARD] [-H NAME] [-m MTU]\n"
	"                 [-R FD] -l PATH|fd:N\n"
	"\n"
	"Connects a guest to the network of this user, without privileges.\n"
	"  -l PATH     listen for khyve there (fd:N: on this open SOCK_SEQPACKET socket)\n"
	"  -c PATH     control socket: status, forward list|add|remove\n"
	"  -f FORWARD  \"tcp|udp [ADDR:]PORT [GUESTADDR:]GUESTPORT\": a port of the host leads to the\n"
	"              guest; on 127.0.0.1 without ADDR\n"
	"  -4, -6      only IPv4, only IPv6\n"
	"  -e SECONDS  end when khyve has been away for so long\n"
	"  -H NAME     the guest's host name\n"
	"  -k          go on without a port of -f that cannot be opened\n"
	"  -L          the guest may use what listens on the host's loopback, as 10.0.2.2\n"
	"  -m MTU      largest packet, 576 to 65521; 1500\n"
	"  -r          the guest reaches nobody by itself: only forwards\n"
	"  -R FD       write \"ready\" there when everything is open\n"
	"  -v          say more; twice: much more\n";

static int parse_number(const char *text, uint64_t min, uint64_t max, uint64_t *out,
			struct err *err)
{
	uint64_t v = 0;

	if (str_u64(text, &v) < 0 || v < min || v > max)
		return err_set(err, -EINVAL, "\"%s\" is not a number from %llu to %llu", text,
			       (unsigned long long)min, (unsigned long long)max);
	*out = v;
	return 0;
}

static int parse_option(struct options *o, int option, const char *arg, struct err *err)
{
	uint64_t v = 0;
	int r = 0;

	switch (option) {
	case 'c':
		o->control = arg;
		break;
	case 'R':
		return parse_number(arg, 1, 1u << 20, &o->ready_fd, err);
	case 'e':
		return parse_number(arg, 1, 86400, &o->end_seconds, err);
	case 'f':
		if (o->nforwards == NAT_FORWARDS_MAX)
			return err_set(err, -E2BIG, "more than %d forwards", NAT_FORWARDS_MAX);
		r = forward_parse(arg, &o->forwards[o->nforwards], err);
		o->nforwards += r == 0;
		break;
	case 'H':
		if (strlen(arg) > HOSTNAME_MAX)
			return err_set(err, -EINVAL, "a host name has at most %d characters",
				       HOSTNAME_MAX);
		o->nat.hostname = arg;
		break;
	case 'l':
		o->listen = arg;
		break;
	default: /* m */
		r = parse_number(arg, NAT_MTU_MIN, NAT_MTU_MAX, &v, err);
		o->nat.mtu = r == 0 ? (unsigned int)v : 0;
	}
	return r;
}

static void parse_flag(struct options *o, int option)
{
	if (option == '4')
		o->nat.ip6 = false;
	else if (option == '6')
		o->nat.ip4 = false;
	else if (option == 'L')
		o->nat.host_loopback = true;
	else if (option == 'k')
		o->keep_going = true;
	else if (option == 'r')
		o->nat.closed = true;
	else
		o->level = o->level == LOG_LEVEL_WARN ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
}

static int parse_options(struct options *o, int argc, char **argv, struct err *err)
{
	int option;

	while ((option = getopt(argc, argv, "46Lkrvc:e:f:H:l:m:R:")) != -1) {
		if (option == '?')
			return err_set(err, -EINVAL, "see usage");
		if (strchr("46Lkrv", option)) {
			parse_flag(o, option);
			continue;
		}
		if (parse_option(o, option, optarg, err) < 0)
			return err_prefix(err, -EINVAL, "-%c", option);
	}
	if (optind != argc || !o->listen)
		return err_set(err, -EINVAL, "%s", o->listen ? "too many words" : "-l is missing");
	if (!o->nat.ip4 && !o->nat.ip6)
		return err_set(err, -EINVAL, "-4 and -6 exclude each other");
	if (o->nat.ip6 && o->nat.mtu < 1280) {
		if (!o->nat.ip4)
			return err_set(err, -EINVAL, "-m: IPv6 needs at least 1280");
		o->nat.ip6 = false;
	}
	return 0;
}

/* --- the parts know nothing of each other; this connects them --- */

static void on_frame(void *arg, uint8_t *frame, size_t len)
{
	struct program *p = arg;

	gate_in(&p->gate, frame, len);
}

static void on_busy(void *arg, bool busy)
{
	struct program *p = arg;

	nat_hold(p->gate.nat, busy);
}

static void send_frame(void *arg, const void *frame, size_t len)
{
	struct program *p = arg;

	wire_send(&p->wire, frame, len);
}

static void on_end(struct loop_timer *t)
{
	struct program *p = container_of(t, struct program, end);

	uint64_t now = loop_now(p->loop);

	if (wire_connected(&p->wire) || now - p->wire.left_ns < p->end_ns) {
		loop_timer_set(t, (wire_connected(&p->wire) ? now : p->wire.left_ns) + p->end_ns);
		return;
	}
	log_info("net", "khyve has gone: ending");
	loop_stop(p->loop);
}

static int open_listen(struct program *p, const struct options *o, struct err *err)
{
	uint64_t fd;

	if (!str_starts(o->listen, "fd:"))
		return p->listen_fd = listen_open_packets(o->listen, err);
	if (str_u64(o->listen + 3, &fd) < 0 || fd > 1u << 20)
		return err_set(err, -EINVAL, "%s: not a descriptor", o->listen);
	p->listen_fd = (int)fd;
	return fd_set_nonblock(p->listen_fd);
}

static int start_nat(struct program *p, const struct options *o, struct err *err)
{
	struct nat_config cfg = o->nat;
	int r;

	cfg.send = send_frame;
	cfg.arg = p;
	r = gate_init(&p->gate, p->loop, &cfg, err);
	for (size_t i = 0; r == 0 && i < o->nforwards; i++) {
		r = nat_forward_add(p->gate.nat, &o->forwards[i], err);
		if (r < 0 && o->keep_going) {
			log_warn("net", "%s", err->text);
			r = 0;
		}
	}
	return r;
}

static int start(struct program *p, const struct options *o, struct err *err)
{
	int r = open_listen(p, o, err);

	if (r < 0)
		return r;
	r = start_nat(p, o, err);
	if (r < 0)
		return r;
	p->wire.on_frame = on_frame;
	p->wire.on_busy = on_busy;
	p->wire.arg = p;
	p->wire.owner = getuid();
	r = wire_init(&p->wire, p->loop, p->listen_fd);
	if (r < 0)
		return err_set(err, r, "%s: cannot watch: %s", o->listen, strerror(-r));
	p->commands = (struct commands){ p->loop, &p->gate, &p->wire };
	if (o->control)
		r = control_new(p->loop, o->control, commands_table, &p->commands, &p->control,
				err);
	if (r < 0)
		return r;
	loop_timer_init(p->loop, &p->end, on_end);
	p->end_ns = o->end_seconds * NS_PER_SEC;
	if (p->end_ns)
		loop_timer_set(&p->end, loop_now(p->loop) + p->end_ns);
	return jail_enter(NAT_FD_MAX, err);
}

int main(int argc, char **argv)
{
	struct options *o = calloc(1, sizeof(*o));
	struct program *p = calloc(1, sizeof(*p));
	struct err err = { "out of memory" };
	int r;

	if (!o || !p) {
		free(o);
		free(p);
		return 1;
	}
	o->level = LOG_LEVEL_WARN;
	o->nat = (struct nat_config){ .mtu = NAT_MTU_DEFAULT, .ip4 = true, .ip6 = true };
	if (parse_options(o, argc, argv, &err) < 0) {
		fprintf(stderr, "khyve-net: %s\n%s", err.text, usage);
		free(o);
		free(p);
		return EXIT_USAGE;
	}
	log_set(STDERR_FILENO, o->level);
	signal(SIGPIPE, SIG_IGN);
	p->listen_fd = -1;
	/* epoll on purpose: no file I/O happens here, and io_uring would go round the filter of system calls. */
	p->loop = loop_new(LOOP_EPOLL, &err);
	r = p->loop ? start(p, o, &err) : -ENOMEM;
	if (r < 0) {
		fprintf(stderr, "khyve-net: %s\n", err.text);
		_exit(1);
	}
	if (o->ready_fd) {
		(void)fd_write_full((int)o->ready_fd, "ready\n", 6);
		close((int)o->ready_fd);
	}
	loop_run(p->loop);
	/* Nothing is left to write, and what runs at an exit may want more than the jail allows. */
	_exit(0);
}
