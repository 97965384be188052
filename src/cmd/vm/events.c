/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/glog.h"
#include "ui_json.h"
#include "util/fd.h"
#include "util/list.h"
#include "util/macros.h"
#include "util/str.h"

/*
 * vm events: what happens to guests. vm writes part of it to each guest's log, where it also is afterwards; khyve tells
 * the rest to those who listen at its control socket.
 */

#define LOOK_MS 200
#define LOG_PIECE 65536
#define LINE_SIZE 4096

/* What lines of the log stand for; without a word of its own a line is a "log". */
static const struct {
	const char *text, *word;
} words[] = {
	{ "initialising", "prepare" },	{ "starting khyve", "start" },
	{ "khyve exited", "exit" },	{ "fatal; ", "fatal" },
	{ "warning; ", "warning" },	{ "restarting", "restart" },
	{ "stopped", "stopped" },	{ "snapshot ", "snapshot" },
	{ "rolled back ", "rollback" }, { "cloned from ", "made" },
	{ "made from image ", "made" }, { "renamed from ", "rename" },
	{ "resized disk ", "disk" },	{ "removed disk ", "disk" },
};

struct event {
	const char *guest, *time, *text;
	bool khyve; /* it said that; else vm did */
};

/* A line that was, for all of them to be put in order. */
struct past {
	time_t when;
	char *time, *text; /* one allocation */
	char guest[STORE_NAME_MAX + 1];
};

/* A guest that is listened to. */
struct watched {
	struct list link;
	struct guest g;
	bool present;
	off_t offset; /* read up to here in its log */
	int sock; /* of khyve, -1: it does not listen */
	bool fresh; /* it has begun since we look: what it is now is news */
	char state[16]; /* the last one that was told; "": none */
	char in[LINE_SIZE];
	size_t len;
};

struct events {
	struct vm *vm;
	const char *name; /* of the one guest that is wanted, NULL: all */
	bool json, started;
	struct list guests;
	struct past *past;
	size_t count, room;
};

static const char *word_of(const struct event *e, char *buf, size_t size)
{
	if (e->khyve) {
		size_t len = MIN(strcspn(e->text, " "), size - 1);

		memcpy(buf, e->text, len);
		buf[len] = '\0';
		return buf;
	}
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (str_starts(e->text, words[i].text))
			return words[i].word;
	}
	return "log";
}

/* One line. -EIO: nobody reads them any more. */
static int print(const struct events *ev, const struct event *e)
{
	char word[32];
	json_t *o;

	if (!ev->json) {
		printf("%s %s %s\n", e->time, e->guest, e->text);
		return ferror(stdout) ? -EIO : 0;
	}
	o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "time", e->time, "guest", e->guest,
		      "source", e->khyve ? "khyve" : "vm", "event", word_of(e, word, sizeof(word)),
		      "text", e->text, "version", UI_JSON_VERSION);
	if (!o || json_dumpf(o, stdout, JSON_COMPACT) < 0) {
		json_decref(o);
		return -EIO;
	}
	json_decref(o);
	putchar('\n');
	return 0;
}

static void clean(char *text)
{
	ui_json_clean(text);
	for (; *text; text++) {
		if (iscntrl((unsigned char)*text))
			*text = ' ';
	}
}

/* "TIME: text" in parts. False: it is none, or one that only tells a guest's settings at its start. */
static bool split(char *line, char **text)
{
	char *end = strstr(line, ": ");

	if (!end || end[2] == ' ' || !isdigit((unsigned char)*line))
		return false;
	*end = '\0';
	*text = end + 2;
	clean(line);
	clean(*text);
	return true;
}

/* Calls fn for each whole line of the log behind *offset, which moves on. */
static int read_log(const struct guest *g, off_t *offset, int (*fn)(void *arg, char *line),
		    void *arg)
{
	char path[PATH_MAX], *buf = NULL;
	struct stat st;
	ssize_t n = 0;
	int fd = -1, r = 0;

	if (run_path(g, GLOG_FILE, path, sizeof(path)) == 0)
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == *offset ||
	    !(buf = malloc(LOG_PIECE + 1))) {
		fd_close(&fd);
		return 0;
	}
	/* It was packed and begins again. */
	if (st.st_size < *offset)
		*offset = 0;
	while (r == 0 && (n = pread(fd, buf, LOG_PIECE, *offset)) > 0) {
		char *line = buf, *end;

		buf[n] = '\0';
		while (r == 0 && (end = memchr(line, '\n', (size_t)(buf + n - line)))) {
			*end = '\0';
			r = fn(arg, line);
			line = end + 1;
		}
		if (line == buf)
			break; /* the rest is being written */
		*offset += line - buf;
	}
	free(buf);
	close(fd);
	return r;
}

/* --- what has happened --- */

struct gather {
	struct events *ev;
	const char *guest;
};

static int keep_line(void *arg, char *line)
{
	struct gather *ga = arg;
	struct events *ev = ga->ev;
	struct tm tm = { 0 };
	struct past *p;
	char *text, *copy;
	long zone;

	if (!split(line, &text))
		return 0;
	if (ev->count == ev->room) {
		ev->room = ev->room ? 2 * ev->room : 256;
		p = realloc(ev->past, ev->room * sizeof(*p));
		if (!p)
			return -ENOMEM;
		ev->past = p;
	}
	copy = str_format("%s%c%s", line, '\n', text);
	if (!copy || !strptime(line, "%Y-%m-%dT%H:%M:%S%z", &tm)) {
		free(copy);
		return copy ? 0 : -ENOMEM;
	}
	p = &ev->past[ev->count++];
	zone = tm.tm_gmtoff;
	p->when = timegm(&tm) - zone;
	p->time = copy;
	p->text = strchr(copy, '\n') + 1;
	p->text[-1] = '\0';
	memcpy(p->guest, ga->guest, strlen(ga->guest) + 1);
	return 0;
}

static int gather(void *arg, const struct guest *g)
{
	struct gather ga = { .ev = arg, .guest = g->name };
	off_t offset = 0;

	return read_log(g, &offset, keep_line, &ga);
}

/* By time; what a guest's log has is in its order, and the allocation's order is that of the lines. */
static int earlier(const void *a, const void *b)
{
	const struct past *x = *(const struct past *const *)a, *y = *(const struct past *const *)b;

	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	return x < y ? -1 : x > y;
}

static int print_past(const struct events *ev)
{
	const struct past **order = calloc(ev->count + 1, sizeof(*order));
	int r = order ? 0 : -ENOMEM;

	for (size_t i = 0; order && i < ev->count; i++)
		order[i] = &ev->past[i];
	if (order)
		qsort(order, ev->count, sizeof(struct past *), earlier);
	for (size_t i = 0; r == 0 && i < ev->count; i++)
		r = print(ev, &(struct event){ .guest = order[i]->guest,
					       .time = order[i]->time,
					       .text = order[i]->text });
	free(order);
	return r;
}

static int show_past(struct events *ev)
{
	struct guest g;
	int r;

	if (ev->name && vm_find(ev->vm, ev->name, &g))
		return VM_FAILED;
	r = ev->name ? gather(ev, &g) : store_each(&ev->vm->store, gather, ev);
	if (r == 0 || r == -EACCES) {
		int printed = print_past(ev);

		r = printed < 0 ? printed : r;
	}
	for (size_t i = 0; i < ev->count; i++)
		free(ev->past[i].time);
	free(ev->past);
	if (r == -EACCES)
		return ui_error(
			"some guests in %s belong to somebody else and are not shown; run as root",
			ev->vm->store.dir);
	return r < 0 && r != -EIO ? ui_error("%s", strerror(-r)) : 0;
}

/* --- what happens --- */

struct told {
	struct events *ev;
	struct watched *w;
};

static int tell_line(void *arg, char *line)
{
	const struct told *t = arg;
	char *text;

	if (!split(line, &text))
		return 0;
	return print(t->ev, &(struct event){ .guest = t->w->g.name, .time = line, .text = text });
}

static int tell_log(struct events *ev, struct watched *w)
{
	struct told t = { ev, w };

	return read_log(&w->g, &w->offset, tell_line, &t);
}

/* Said by khyve now. What vm wrote before comes before it. */
static int tell(struct events *ev, struct watched *w, const char *text)
{
	char now[GLOG_TIME_SIZE];
	int r = tell_log(ev, w);

	glog_time(now);
	return r < 0 ? r
		     : print(ev, &(struct event){ .guest = w->g.name,
						  .time = now,
						  .text = text,
						  .khyve = true });
}

static int tell_state(struct events *ev, struct watched *w, const char *state, bool silent)
{
	char text[32];

	if (strcmp(w->state, state) == 0 || str_copy(w->state, sizeof(w->state), state) < 0)
		return 0;
	if (silent || snprintf(text, sizeof(text), "state %s", state) < 0)
		return 0;
	return tell(ev, w, text);
}

/* khyve's lines: events, and the status that was asked for when it was found. */
static int hear(struct events *ev, struct watched *w, char *line)
{
	clean(line);
	if (str_starts(line, "event state ")) {
		/* News even if it is the same again, as after a reset. */
		w->state[0] = '\0';
		return tell_state(ev, w, line + 12, false);
	}
	if (str_starts(line, "event "))
		return tell(ev, w, line + 6);
	if (str_starts(line, "state="))
		return tell_state(ev, w, line + 6, !w->fresh);
	return 0;
}

static int read_khyve(struct events *ev, struct watched *w)
{
	ssize_t n = recv(w->sock, w->in + w->len, sizeof(w->in) - w->len, MSG_DONTWAIT);
	char *line = w->in, *end;
	int r = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	w->len += n > 0 ? (size_t)n : 0;
	while (r == 0 && (end = memchr(line, '\n', w->len - (size_t)(line - w->in)))) {
		*end = '\0';
		r = hear(ev, w, line);
		line = end + 1;
	}
	w->len -= (size_t)(line - w->in);
	memmove(w->in, line, w->len);
	if (n <= 0 || w->len == sizeof(w->in)) {
		fd_close(&w->sock);
		w->len = 0;
	}
	return r;
}

/* Listens to a khyve that there is now, and tells of one that has gone without a word. */
static int connect_khyve(struct events *ev, struct watched *w)
{
	static const char hello[] = "events\nstatus\n";

	w->sock = ctl_connect(&w->g, RUN_CONTROL);
	if (w->sock < 0)
		return w->state[0] && (w->sock == -ENOENT || w->sock == -ECONNREFUSED)
			       ? tell_state(ev, w, "off", false)
			       : 0;
	if (send(w->sock, hello, sizeof(hello) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(hello) - 1)
		fd_close(&w->sock);
	return 0;
}

static struct watched *find(struct events *ev, const struct guest *g)
{
	struct watched *w;

	list_for_each(w, &ev->guests, link)
		if (strcmp(w->g.dir, g->dir) == 0)
			return w;
	w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	w->g = *g;
	w->sock = -1;
	w->fresh = ev->started;
	list_append(&ev->guests, &w->link);
	return w;
}

static int ignore_line(void *arg, char *line)
{
	(void)arg;
	(void)line;
	return 0;
}

static int look(void *arg, const struct guest *g)
{
	struct events *ev = arg;
	struct watched *w;
	int r;

	if (ev->name && strcmp(ev->name, g->name) != 0)
		return 0;
	w = find(ev, g);
	if (!w)
		return -ENOMEM;
	w->present = true;
	/* What was before we came is not news. */
	r = ev->started ? tell_log(ev, w) : read_log(g, &w->offset, ignore_line, NULL);
	if (r == 0 && w->sock < 0) {
		r = connect_khyve(ev, w);
		w->fresh |= w->sock < 0;
	}
	return r;
}

static void forget(struct watched *w)
{
	list_remove(&w->link);
	fd_close(&w->sock);
	free(w);
}

/* Finds guests that are new, and forgets those that are gone. */
static int look_at_all(struct events *ev)
{
	struct watched *w, *next;
	int r;

	list_for_each(w, &ev->guests, link)
		w->present = false;
	r = store_each(&ev->vm->store, look, ev);
	list_for_each_safe(w, next, &ev->guests, link) {
		if (!w->present)
			forget(w);
	}
	ev->started = true;
	return r == -EACCES ? 0 : r;
}

/* Waits until one of them says something, or it is time to look for others. */
static int listen_to_all(struct events *ev)
{
	struct pollfd *p;
	struct watched *w;
	size_t n = 0;
	int r = 0;

	list_for_each(w, &ev->guests, link)
		n++;
	p = calloc(n + 1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	n = 0;
	list_for_each(w, &ev->guests, link)
		p[n++] = (struct pollfd){ .fd = w->sock, .events = POLLIN };
	p[n] = (struct pollfd){ .fd = STDOUT_FILENO };
	if (poll(p, n + 1, LOOK_MS) > 0) {
		r = p[n].revents ? -EPIPE : 0;
		n = 0;
		list_for_each(w, &ev->guests, link) {
			if (r == 0 && p[n++].revents)
				r = read_khyve(ev, w);
		}
	}
	free(p);
	return r;
}

static int follow(struct events *ev)
{
	struct watched *w, *next;
	struct guest g;
	int r = 0;

	if (ev->name && vm_find(ev->vm, ev->name, &g))
		return VM_FAILED;
	while (r == 0) {
		r = look_at_all(ev);
		if (r == 0 && fflush(stdout) != 0)
			r = -EPIPE;
		if (r == 0)
			r = listen_to_all(ev);
	}
	list_for_each_safe(w, next, &ev->guests, link)
		forget(w);
	/* Nobody reads it any more: that is an end like any other. */
	return r == -EPIPE || r == -EIO ? 0 : ui_error("%s", strerror(-r));
}

int verb_events(struct vm *vm, int argc, char **argv)
{
	static const struct option longs[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	struct events ev = { .vm = vm };
	bool on = false;
	int c;

	while ((c = ui_options(argc, argv, "f", longs)) != -1) {
		if (c != 'f' && c != 'j')
			return ui_usage(vm);
		on |= c == 'f';
		ev.json |= c == 'j';
	}
	if (argc - optind > 1)
		return ui_usage(vm);
	ev.name = argv[optind];
	list_init(&ev.guests);
	return on ? follow(&ev) : show_past(&ev);
}
