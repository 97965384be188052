/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/uplink_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/lock.h"
#include "manager/rtnl.h"
#include "manager/switch.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define SUFFIX ".move"
/* How long a gateway may take to be believed in before and after. */
#define ASK_BEFORE_MS 1500
#define ASK_MS 200
/* When a person is told that something is waited for. */
#define QUIET_MS 3000

static int journal_path(const struct store *s, const char *name, char *out, size_t size)
{
	return file_path(out, size, "%s/.config/switches/%s" SUFFIX, s->dir, name);
}

/* Whether system.conf says already what the change is for. */
static bool is_recorded(struct gconf *g, const struct uplink *u)
{
	struct switch_conf c;

	return switch_read(g, u->name, &c, NULL) == 0 &&
	       switch_has_port(&c, u->iface) == (u->way == UPLINK_JOIN);
}

static int record(struct switch_edit *e, const struct uplink *u, struct err *err)
{
	struct switch_conf c;
	int r = switch_read(e->conf, u->name, &c, err);

	if (r < 0)
		return r;
	if (switch_has_port(&c, u->iface) == (u->way == UPLINK_JOIN))
		return 0;
	if (switch_note_port(&c, u->iface, u->way == UPLINK_JOIN) < 0)
		return err_set(err, -E2BIG, "switch %s has too many ports", u->name);
	return switch_write(e->conf, &c, err);
}

/* Only once it is recorded: should this process die before, what is recorded shows that the change stays. */
static void settle(struct rtnl *r, const struct uplink *u, const char *path)
{
	if (path)
		unlink(path);
	if (u->way == UPLINK_LEAVE && !uplink_moves(u))
		switch_port_drop(r, u->name, u->port);
}

/* The change stays. Ends the edit. */
static int keep(struct rtnl *r, struct switch_edit *e, const struct uplink *u, const char *path,
		struct err *err)
{
	int result = record(e, u, err);

	if (result == 0)
		result = switch_edit_end(e, true, err);
	else
		(void)switch_edit_end(e, false, NULL);
	if (result == 0)
		settle(r, u, path);
	return result;
}

static int undo(struct rtnl *r, const struct uplink *u, const char *path, struct err *err)
{
	int result = uplink_undo(r, u, err);

	if (result < 0)
		return result;
	if (u->way == UPLINK_JOIN)
		switch_port_drop(r, u->name, u->port);
	if (path)
		unlink(path);
	return 0;
}

/* Nothing of a change that failed stays. What is not back yet keeps its journal: the next command tries again. */
static void forget(struct rtnl *r, const struct uplink *u, const char *path, int result)
{
	if (path && result == -ENOTRECOVERABLE)
		return;
	if (path)
		unlink(path);
	if (r && u->way == UPLINK_JOIN)
		switch_port_drop(r, u->name, u->port);
}

/* What cannot be recorded does not stay: the next command would put it back anyhow, and nobody would know why. */
static int keep_or_undo(struct rtnl *r, struct switch_edit *e, const struct uplink *u,
			const char *path, struct err *err)
{
	const struct store *s = e->store;
	int result = keep(r, e, u, path, err);
	struct err ignored;

	if (result == 0 || switch_edit_begin(s, e, &ignored) < 0)
		return result;
	/* Unless it is recorded though the folder could not be synced, or somebody else was faster. */
	if (is_recorded(e->conf, u))
		settle(r, u, path);
	else if (!path || access(path, F_OK) == 0)
		(void)undo(r, u, path, &ignored);
	(void)switch_edit_end(e, false, NULL);
	return result;
}

/* The process that waits. */
struct watch {
	const struct store *s;
	struct uplink *u;
	struct rtnl *r;
	char path[PATH_MAX];
	int report, lock;
	uint64_t start;
	bool told;
};

static void tell_parent(const struct watch *w, const char *what, const char *text)
{
	char line[640];

	/* Nobody may be there any more to read it. */
	if (file_path(line, sizeof(line), "%s %s\n", what, text) == 0)
		(void)fd_write_full(w->report, line, strlen(line));
}

static void tell_waiting(struct watch *w, enum uplink_answer answer)
{
	char text[512];

	if (w->told)
		return;
	w->told = true;
	if (file_path(text, sizeof(text),
		      "%s; 'vm switch confirm %s' keeps the change, else all is as before in %d s",
		      answer == UPLINK_SILENT ? K(043) "the gateway does not answer any more"
					      : "no gateway was there to ask before",
		      w->u->name, UPLINK_SECONDS) == 0)
		tell_parent(w, "waiting", text);
}

/* Under the lock: keeps or undoes, unless somebody else has decided. */
static void decide(struct watch *w, bool stay)
{
	struct switch_edit e;
	struct err err = { "" };
	int r = switch_edit_begin(w->s, &e, &err);

	if (r < 0 || access(w->path, F_OK) < 0) {
		tell_parent(w, r < 0 ? "failed" : "kept", err.text);
		if (r == 0)
			(void)switch_edit_end(&e, false, NULL);
		return;
	}
	if (stay) {
		r = keep_or_undo(w->r, &e, w->u, w->path, &err);
		tell_parent(w, r < 0 ? "failed" : "kept", err.text);
		return;
	}
	r = undo(w->r, w->u, w->path, &err);
	(void)switch_edit_end(&e, false, NULL);
	tell_parent(w, r < 0 ? "failed" : "undone", err.text);
}

/* Until the gateways answer, somebody confirms, or the time is over. */
static void wait_answer(struct watch *w)
{
	uint64_t end = w->start + UPLINK_SECONDS * NS_PER_SEC;

	while (clock_mono_ns() < end) {
		enum uplink_answer answer = uplink_ask_after(w->r, w->u, ASK_MS);

		if (answer == UPLINK_ANSWERS) {
			decide(w, true);
			return;
		}
		if (answer == UPLINK_NO_GATEWAY ||
		    clock_mono_ns() - w->start > QUIET_MS * NS_PER_MS)
			tell_waiting(w, answer);
		if (answer == UPLINK_NO_GATEWAY)
			poll(NULL, 0, ASK_MS);
		if (access(w->path, F_OK) < 0)
			break;
	}
	decide(w, false);
}

/* In the child. It has the caller's lock until the change is made, and the journal's until it is decided. */
static void watch(struct watch *w, struct switch_edit *e)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM };
	int result, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct err err = { "" };

	setsid();
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	w->lock = lock_take(w->path);
	result = w->lock < 0 ? w->lock : rtnl_open(&w->r, &err);
	if (result == 0)
		result = uplink_run(w->r, w->u, &err);
	if (result < 0) {
		forget(w->r, w->u, w->path, result);
		tell_parent(w, "failed", err.text[0] ? err.text : "cannot lock the journal");
		return;
	}
	w->start = clock_mono_ns();
	(void)switch_edit_end(e, false, NULL);
	wait_answer(w);
}

/* Passes on what the child says until it is done. */
static int follow(const struct store *s, int fd, pid_t pid, void (*tell)(const char *text),
		  struct err *err)
{
	FILE *f = fdopen(fd, "r");
	int r = -EINTR;
	char line[640];

	while (f && fgets(line, sizeof(line), f)) {
		char *text = strchr(line, ' ');

		line[strcspn(line, "\n")] = '\0';
		if (!text)
			continue;
		*text++ = '\0';
		if (strcmp(line, "waiting") == 0)
			tell(text);
		else if (strcmp(line, "kept") == 0)
			r = 0;
		else if (strcmp(line, "undone") == 0)
			r = err_set(err, -ETIMEDOUT,
				    K(044) "not confirmed within %d s: all is as it was before",
				    UPLINK_SECONDS);
		else
			r = err_set(err, -EIO, "%s", text);
	}
	if (f)
		fclose(f);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r != -EINTR)
		return r;
	/* It was killed. */
	(void)uplink_repair(s, tell, NULL);
	return err_set(err, r, "interrupted: nothing has changed");
}

static int apply_watched(struct switch_edit *e, struct watch *w, void (*tell)(const char *text),
			 struct err *err)
{
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	r = uplink_save(w->u, w->path, err);
	pid = r < 0 ? -1 : fork();
	if (pid == 0) {
		close(fds[0]);
		w->report = fds[1];
		watch(w, e);
		_exit(0);
	}
	if (pid < 0) {
		r = r < 0 ? r : err_set(err, -errno, "cannot fork: %s", strerror(errno));
		unlink(w->path);
		close(fds[0]);
	}
	close(fds[1]);
	(void)switch_edit_end(e, false, NULL);
	return pid < 0 ? r : follow(w->s, fds[0], pid, tell, err);
}

int uplink_apply(struct rtnl *r, struct switch_edit *e, struct uplink *u, bool now,
		 void (*tell)(const char *text), struct err *err)
{
	struct watch w = { .s = e->store, .u = u, .report = -1, .lock = -1 };
	bool risks = uplink_risks(u);
	int result = journal_path(e->store, u->name, w.path, sizeof(w.path));

	if (result < 0)
		err_set(err, result, K(053) "the path of the datastore is too long");
	else if (risks && !now)
		(void)uplink_ask_before(r, u, ASK_BEFORE_MS);
	if (result == 0 && risks && !now)
		return apply_watched(e, &w, tell, err);
	if (result == 0 && risks)
		result = uplink_save(u, w.path, err);
	if (result == 0)
		result = uplink_run(r, u, err);
	if (result == 0)
		return keep_or_undo(r, e, u, risks ? w.path : NULL, err);
	forget(r, u, risks ? w.path : NULL, result);
	(void)switch_edit_end(e, false, NULL);
	return result;
}

int uplink_confirm(const struct store *s, const char *name, struct err *err)
{
	struct switch_edit e;
	struct uplink *u = NULL;
	struct rtnl *r = NULL;
	char path[PATH_MAX];
	int result = journal_path(s, name, path, sizeof(path));

	if (result < 0)
		return err_set(err, result, K(005) "invalid switch name - '%.64s'", name);
	result = switch_edit_begin(s, &e, err);
	if (result < 0)
		return result;
	result =
		access(path, F_OK) < 0
			? err_set(err, -ENOENT,
				  "nothing of switch %s waits for confirmation; it is kept, or undone, already",
				  name)
			: uplink_load(path, &u, err);
	if (result == 0)
		result = rtnl_open(&r, err);
	/* Its process is gone, perhaps before it did anything. */
	if (result == 0 && !s->dry_run && !lock_held(path))
		result = uplink_run(r, u, err);
	if (result == 0 && !s->dry_run)
		result = keep(r, &e, u, path, err);
	else
		(void)switch_edit_end(&e, false, NULL);
	rtnl_close(r);
	uplink_free(u);
	return result;
}

int uplink_check_pending(const struct store *s, const char *name, struct err *err)
{
	char path[PATH_MAX];

	if (journal_path(s, name, path, sizeof(path)) < 0 || access(path, F_OK) < 0)
		return 0;
	return err_set(
		err, -EBUSY,
		K(023) "a change of switch %s waits for 'vm switch confirm %s', or for its end within %d s",
		name, name, UPLINK_SECONDS);
}

/* Under the lock, for a journal that nobody holds. */
static int repair_one(struct switch_edit *e, const char *path, void (*tell)(const char *text),
		      struct err *err)
{
	char text[512];
	struct uplink *u;
	struct rtnl *r;
	int result = uplink_load(path, &u, err);

	if (result == -ESTALE) {
		unlink(path);
		return 0;
	}
	if (result < 0)
		return result;
	if (is_recorded(e->conf, u)) {
		unlink(path);
		uplink_free(u);
		return 0;
	}
	result = rtnl_open(&r, err);
	if (result == 0) {
		result = undo(r, u, path, err);
		rtnl_close(r);
	}
	if (result == 0 &&
	    file_path(text, sizeof(text),
		      "a change of switch %s was interrupted: %s is as it was before", u->name,
		      uplink_home(u)) == 0)
		tell(text);
	uplink_free(u);
	return result;
}

static int repair_path(const struct store *s, const char *path, void (*tell)(const char *text),
		       struct err *err)
{
	struct switch_edit e;
	int r;

	if (geteuid() != 0) {
		tell("a change of a switch was interrupted: run 'vm init' as root to undo it");
		return 0;
	}
	r = switch_edit_begin(s, &e, err);
	if (r < 0)
		return r;
	if (access(path, F_OK) == 0 && !lock_held(path))
		r = repair_one(&e, path, tell, err);
	(void)switch_edit_end(&e, false, NULL);
	return r < 0 ? err_prefix(
			       err, r,
			       "a change of a switch was interrupted and cannot be undone (correct it with ip(8), then remove %s)",
			       path)
		     : 0;
}

int uplink_repair(const struct store *s, void (*tell)(const char *text), struct err *err)
{
	char dir[PATH_MAX], path[PATH_MAX];
	struct dirent *d;
	int r = 0;
	DIR *folder;

	if (file_path(dir, sizeof(dir), "%s/.config/switches", s->dir) < 0 ||
	    !(folder = opendir(dir)))
		return 0;
	while (r == 0 && (d = readdir(folder))) {
		size_t len = strlen(d->d_name), suffix = strlen(SUFFIX);

		if (d->d_name[0] == '.' || len <= suffix ||
		    strcmp(d->d_name + len - suffix, SUFFIX) != 0 ||
		    file_path(path, sizeof(path), "%s/%s", dir, d->d_name) < 0)
			continue;
		if (!lock_held(path))
			r = repair_path(s, path, tell, err);
	}
	closedir(folder);
	return r;
}
