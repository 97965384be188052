/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/*
 * Fuzzes the control socket: what its clients send, in which pieces, whether they read the answers, and how they come
 * and go. The commands are the machine's own, on a machine of which there is no more than they use.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "kvm/kvm_priv.h"
#include "machine/machine_priv.h"
#include "util/fd.h"
#include "util/log.h"

#define CLIENTS 3
#define COMMANDS 15
#define WISHES (WISH_QUIT | WISH_RESET | WISH_PAUSE | WISH_RESUME)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct client {
	int fd;
	bool cut; /* has sent a line that is too long, or let answers pile up */
	size_t line; /* bytes of the line that is being sent */
	uint8_t first; /* its first byte */
	unsigned int asked, answered; /* lines */
	char in[CONTROL_LINE_MAX]; /* the line that is being read */
	size_t in_len;
	bool greeted;
};

struct world {
	struct loop *loop;
	struct tb *tb;
	struct machine m;
	struct kvm kvm;
	char path[64];
	struct client clients[CLIENTS];
};

static void on_act(struct loop_post *p)
{
	struct machine *m = container_of(p, struct machine, act);

	assert(m->wishes && !(m->wishes & ~(uint32_t)WISHES));
	m->wishes = 0;
}

static void step(struct world *w)
{
	for (int i = 0; loop_step(w->loop, false); i++)
		assert(i < 10000);
}

/* --- what a client sees --- */

static void read_line(struct client *c)
{
	const char *line = c->in;

	c->in[c->in_len] = '\0';
	for (size_t i = 0; i < c->in_len; i++)
		assert((uint8_t)line[i] >= 0x20 && line[i] != 0x7f);
	if (!c->greeted)
		assert(strcmp(line, "khyve 1") == 0);
	else if (strcmp(line, "ok") == 0 || strncmp(line, "err E", 5) == 0)
		c->answered++;
	else
		assert(strncmp(line, "event ", 6) == 0 || strchr(line, '='));
	c->greeted = true;
	c->in_len = 0;
	assert(c->answered <= c->asked);
}

static void drop(struct client *c)
{
	fd_close(&c->fd);
	*c = (struct client){ .fd = -1 };
}

/* Reads all that comes. Only who misbehaved is cut off, and everybody else gets an answer to each line. */
static void drain(struct world *w, struct client *c)
{
	char buf[8192];
	ssize_t n;

	if (c->fd < 0)
		return;
	step(w);
	while ((n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			assert(c->in_len < sizeof(c->in) - 1);
			if (buf[i] == '\n')
				read_line(c);
			else
				c->in[c->in_len++] = buf[i];
		}
		step(w);
	}
	if (n == 0 || c->cut) {
		assert(c->cut);
		drop(c);
		return;
	}
	assert(c->answered == c->asked && c->in_len == 0);
}

/* Notes what the client must get for these bytes. */
static void note(struct client *c, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] != '\n') {
			if (c->line++ == 0)
				c->first = p[i];
			/* The newline has to fit as well. */
			c->cut |= c->line >= CONTROL_LINE_MAX;
			continue;
		}
		if (c->line && c->first && !(c->line == 1 && c->first == '\r'))
			c->asked++;
		c->line = 0;
	}
}

static void send_bytes(struct world *w, struct client *c, const void *p, size_t len)
{
	ssize_t n;

	if (c->fd < 0)
		return;
	n = send(c->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		note(c, p, (size_t)n);
	else
		c->cut = true;
	/* No more than this can wait in khyve and in the socket without a reader, and that it is cut off is right. */
	c->cut |= c->asked - c->answered > 40;
	step(w);
}

/* --- operations --- */

static void connect_client(struct world *w, struct client *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int rc;

	drop(c);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", w->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert(c->fd >= 0);
	rc = connect(c->fd, (struct sockaddr *)&a, sizeof(a));
	assert(rc == 0);
	step(w);
}

static void send_raw(struct world *w, struct fz *f, struct client *c)
{
	size_t n = fz_u8(f);
	char fill[CONTROL_LINE_MAX];

	n = MIN(n, f->left);
	if (n && f->p[0] == 0xff) {
		memset(fill, 'x', sizeof(fill));
		send_bytes(w, c, fill, sizeof(fill) - f->p[n - 1] % 4);
	}
	send_bytes(w, c, f->p, n);
	f->p += n;
	f->left -= n;
}

/* A command, once or some times in one piece. */
static void send_command(struct world *w, struct fz *f, struct client *c)
{
	static const char *const operands[] = { "",	 "",  "",   " error",  " debug",
						" 0 up", " ", "\r", " 0 down", " 1d 38 e053" };
	unsigned int which = fz_pick(f, COMMANDS + 1), times = fz_u8(f);
	const char *name = which < COMMANDS ? machine_commands[which].name : "nothing";
	char line[64], text[CONTROL_LINE_MAX];
	int n = snprintf(line, sizeof(line), "%s%s\n", name,
			 operands[fz_pick(f, ARRAY_LEN(operands))]);
	size_t len = 0;

	times = times < 128 ? 1 : 2 * (times - 127); /* up to more answers than may wait */
	while (times-- && len + (size_t)n <= sizeof(text)) {
		memcpy(text + len, line, (size_t)n);
		len += (size_t)n;
	}
	send_bytes(w, c, text, len);
}

static void one_operation(struct world *w, struct fz *f)
{
	struct client *c = &w->clients[fz_pick(f, CLIENTS)];

	switch (fz_pick(f, 8)) {
	case 0:
		connect_client(w, c);
		break;
	case 1:
		drop(c);
		step(w);
		break;
	case 2:
	case 3:
		send_raw(w, f, c);
		break;
	case 4:
	case 5:
		send_command(w, f, c);
		break;
	case 6:
		control_event(w->m.control, "state %.*s", (int)MIN(f->left, 20u),
			      (const char *)f->p);
		break;
	default:
		drain(w, c);
		break;
	}
}

static void start(struct world *w, struct fz *f)
{
	static char name[] = "a name\n\x7f";
	static struct dev *lpc, *card;
	struct machine *m = &w->m;
	int rc;

	log_set(-1, LOG_LEVEL_ERROR);
	memset(w, 0, sizeof(*w));
	w->tb = fz_bench();
	if (!lpc) {
		lpc = tb_add(w->tb, &lpc_ops, NULL, NULL);
		card = tb_add(w->tb, &e1000_ops, NULL, NULL);
		assert(lpc && card);
	}
	w->loop = m->loop = tb_loop(w->tb);
	m->set.name = name;
	m->kvm = &w->kvm;
	m->state = fz_bool(f) ? MACHINE_WAITING : MACHINE_PAUSED;
	m->lpc = lpc;
	assert(machine_commands[COMMANDS - 1].name && !machine_commands[COMMANDS].name);
	list_init(&m->devs);
	list_append(&m->devs, &lpc->link);
	list_append(&m->devs, &card->link);
	loop_post_init(m->loop, &m->act, on_act);
	snprintf(w->path, sizeof(w->path), "/dev/shm/khyve-fuzz-control-%d", (int)getpid());
	rc = control_new(m->loop, w->path, machine_commands, m, &m->control, NULL);
	assert(rc == 0);
	for (unsigned int i = 0; i < CLIENTS; i++)
		w->clients[i].fd = -1;
	connect_client(w, &w->clients[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w;
	struct fz f = fz_of(data, size);
	bool rest;

	start(&w, &f);
	while (f.left)
		one_operation(&w, &f);
	for (unsigned int i = 0; i < CLIENTS; i++)
		drain(&w, &w.clients[i]);
	control_free(w.m.control);
	for (unsigned int i = 0; i < CLIENTS; i++)
		drop(&w.clients[i]);
	step(&w);
	rest = tb_pause(w.tb);
	assert(rest);
	return 0;
}
