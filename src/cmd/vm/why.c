/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/ctl.h"
#include "manager/glog.h"
#include "ui_json.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define TAIL 65536
#define ANSWER_MS 1000
#define TEXT_SIZE 1024

/* What the logs say about a guest's last run. */
struct story {
	char time[64]; /* of the line that tells its end, or its beginning if it has none */
	bool begun, ended; /* khyve was started, khyve has ended */
	int status;
	char fatal[TEXT_SIZE]; /* why it could not be started, or not again */
	char *khyve; /* what khyve said in that run */
};

/* The reason as a word for programs, and as a sentence. */
struct reason {
	const char *word;
	char text[TEXT_SIZE];
};

/* The last part of a log, from the start of a line. Freed by the caller; NULL: there is none. */
static char *read_tail(const struct guest *g, const char *file)
{
	char path[PATH_MAX], *text, *eol;
	struct stat st;
	off_t from;
	ssize_t n;
	int fd;

	if (run_path(g, file, path, sizeof(path)) < 0)
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	text = fd < 0 ? NULL : malloc(TAIL + 1);
	if (!text || fstat(fd, &st) < 0) {
		free(text);
		fd_close(&fd);
		return NULL;
	}
	from = MAX(st.st_size - TAIL, 0);
	n = pread(fd, text, TAIL, from);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	eol = from ? strchr(text, '\n') : NULL;
	if (eol)
		memmove(text, eol + 1, strlen(eol + 1) + 1);
	return text;
}

static void read_line(struct story *s, const char *line)
{
	const char *text = strstr(line, ": ");
	int status;

	if (!text)
		return;
	text += 2;
	if (str_starts(text, "initialising")) {
		s->begun = s->ended = false;
		s->fatal[0] = '\0';
	} else if (str_starts(text, "starting khyve")) {
		s->begun = true;
		s->ended = false;
	} else if (sscanf(text, "khyve exited with status %d", &status) == 1) {
		s->ended = true;
		s->status = status;
	} else if (str_starts(text, "fatal; ")) {
		(void)str_copy(s->fatal, sizeof(s->fatal), text + 7);
	} else {
		return;
	}
	if (snprintf(s->time, sizeof(s->time), "%.*s", (int)(text - 2 - line), line) < 0)
		s->time[0] = '\0';
}

static void read_story(const struct guest *g, struct story *s)
{
	char *text = read_tail(g, GLOG_FILE), *mark = NULL;

	*s = (struct story){ .khyve = read_tail(g, RUN_LOG) };
	for (char *p = text; p && *p;) {
		size_t len = strcspn(p, "\n");
		bool more = p[len] != '\0';

		p[len] = '\0';
		read_line(s, p);
		p += len + more;
	}
	free(text);
	for (char *p = s->khyve; p && (p = strstr(p, ": run ")); p++)
		mark = strchr(p, '\n');
	if (mark)
		memmove(s->khyve, mark + 1, strlen(mark + 1) + 1);
}

/* khyve's last words. */
static const char *last_words(struct story *s)
{
	size_t len = s->khyve ? strlen(s->khyve) : 0;
	char *line;

	while (len > 0 && s->khyve[len - 1] == '\n')
		s->khyve[--len] = '\0';
	if (len == 0)
		return "";
	line = strrchr(s->khyve, '\n');
	return line ? line + 1 : s->khyve;
}

static bool khyve_said(const struct story *s, const char *words)
{
	return s->khyve && strstr(s->khyve, words);
}

static void set(struct reason *r, const char *word, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void set(struct reason *r, const char *word, const char *fmt, ...)
{
	va_list ap;

	r->word = word;
	va_start(ap, fmt);
	if (vsnprintf(r->text, sizeof(r->text), fmt, ap) < 0)
		r->text[0] = '\0';
	va_end(ap);
}

static void add(struct reason *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* More of the same line. */
static void add(struct reason *r, const char *fmt, ...)
{
	size_t len = strlen(r->text);
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(r->text + len, sizeof(r->text) - len, fmt, ap) < 0)
		r->text[len] = '\0';
	va_end(ap);
}

static void judge_signal(const struct guest *g, int sig, struct reason *r)
{
	if (sig == 9)
		set(r, "killed",
		    "its khyve was killed: by somebody, by 'vm poweroff' because it did not answer, "
		    "or by the kernel because the host ran out of memory (dmesg tells)");
	else
		set(r, "crashed",
		    "its khyve ended by signal %d (%s), which is khyve's fault; please report it "
		    "with %s/khyve.log",
		    sig, strsignal(sig), g->dir);
}

static void judge_status(const struct guest *g, struct story *s, struct reason *r)
{
	static const char off[] = "the guest was switched off: by itself, or by 'vm stop' or "
				  "'vm poweroff'";

	if (s->status == 0)
		set(r, "reset", "the guest restarted itself, and on_restart says to stop then");
	else if (s->status == 1)
		set(r, "off", "%s", off);
	else if (s->status == 2)
		set(r, "halted", "the guest has halted its processors");
	else if (s->status == 3)
		set(r, "triple-fault",
		    "the guest's processor failed to handle an error of its own again and again "
		    "right after each reset (triple fault): its boot code does not suit this "
		    "machine, or its disk is damaged");
	else if (s->status == 127)
		set(r, "no-khyve", "khyve could not be run: %s", last_words(s));
	else if (s->status > 128)
		judge_signal(g, s->status - 128, r);
	else
		set(r, "error", "khyve failed: %s", last_words(s));
}

static void judge_off(const struct guest *g, struct story *s, struct reason *r)
{
	if (s->fatal[0])
		set(r, "fatal", "it was not started%s: %s", s->ended ? " again" : "", s->fatal);
	else if (!s->begun)
		set(r, "never-started", "it has not been started so far, as far as its log goes");
	else if (!s->ended)
		set(r, "gone",
		    "its khyve and its supervisor ended without a word: both were "
		    "killed, or the host went down");
	else
		judge_status(g, s, r);
	if (khyve_said(s, strerror(ENOSPC)))
		add(r, "; before, a disk of the host was full ('df %s')", g->dir);
	else if (khyve_said(s, strerror(ENOMEM)))
		add(r, "; the host did not have the memory");
}

/* Words of a firmware that has found nothing to boot from. */
static const char *const no_boot[] = { "No bootable option or device was found",
				       "No bootable device", "UEFI Interactive Shell" };

static void judge_console(const struct guest *g, struct reason *r)
{
	char *console = malloc(TAIL);

	if (!console || vm_read_console(g, console, TAIL) < 0) {
		free(console);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(no_boot); i++) {
		if (strstr(console, no_boot[i]))
			set(r, "nothing-to-boot",
			    "the firmware has found nothing to boot from: no disk has a system, "
			    "or it was installed for another firmware; 'vm install %s ISO' "
			    "installs one",
			    g->name);
	}
	free(console);
}

static void judge_running(const struct guest *g, const struct run_state *state, struct reason *r)
{
	char reply[4096], text[256] = "", why[512] = "";
	bool found;

	if (ctl_command(g, "status", ANSWER_MS, reply, sizeof(reply), NULL) < 0) {
		set(r, "silent", "it runs, but its khyve (pid %d) does not answer",
		    (int)state->pid);
		return;
	}
	(void)ctl_value(reply, "state", text, sizeof(text));
	set(r, "running", "it runs");
	found = ctl_value(reply, "reason", why, sizeof(why)) == 0;
	if (strcmp(text, "paused") == 0) {
		set(r, found ? "disk" : "paused", "it is paused%s%s", found ? ": " : "",
		    found ? why : "");
	} else if (strcmp(text, "waiting") == 0) {
		found = ctl_value(reply, "vnc", text, sizeof(text)) == 0;
		set(r, "waiting", "it waits for a VNC client%s%s before it boots",
		    found ? " on " : "", found ? text : "");
	} else {
		judge_console(g, r);
	}
}

int verb_why(struct vm *vm, int argc, char **argv)
{
	static const char *const kinds[] = { "stopped", "running", "locked" };
	struct run_state state;
	struct reason r;
	struct story s;
	struct guest g;
	bool json;

	if (ui_json_option(argc, argv, &json) < 0 || argc - optind != 1)
		return ui_usage(vm);
	if (vm_find(vm, argv[optind], &g))
		return VM_FAILED;
	run_query(&g, &state);
	read_story(&g, &s);
	if (state.kind == RUN_LOCKED)
		set(&r, "elsewhere", "it runs on %s, which shares the datastore", state.host);
	else if (state.kind == RUN_RUNNING)
		judge_running(&g, &state, &r);
	else
		judge_off(&g, &s, &r);
	free(s.khyve);
	ui_json_clean(r.text);
	if (json)
		return ui_json_print(json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", g.name,
					       "state", kinds[state.kind], "reason", r.word, "text",
					       r.text, "time", ui_json_text(s.time), "status",
					       state.kind == RUN_STOPPED && s.ended
						       ? json_integer(s.status)
						       : json_null()));
	printf("%s is %s", g.name,
	       state.kind == RUN_RUNNING  ? "on"
	       : state.kind == RUN_LOCKED ? "locked"
					  : "off");
	printf("%s%s: %s\n", s.time[0] ? " since " : "", s.time, r.text);
	return 0;
}
