/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/guestconf.h"
#include "manager/keys.h"
#include "manager/lock.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define EDITOR_WORDS 16
#define FILE_MAX (1 << 20)

static void warn_text(void *arg, const char *text)
{
	(void)arg;
	ui_warning("%s", text);
}

/* ^C is for the editor alone: what it has written must not be lost. Returns what posix_spawnp does. */
static int spawn_and_wait(char *const *argv, int *status)
{
	static const int signals[] = { SIGINT, SIGQUIT };
	struct sigaction ignore = { .sa_handler = SIG_IGN }, were[ARRAY_LEN(signals)];
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t pid;
	int r;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		sigaddset(&set, signals[i]);
		sigaction(signals[i], &ignore, &were[i]);
	}
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	r = posix_spawnp(&pid, argv[0], NULL, &attr, argv, environ);
	while (r == 0 && waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	posix_spawnattr_destroy(&attr);
	for (size_t i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &were[i], NULL);
	return r;
}

/* The editor's words, split at blanks; no shell takes part. */
static int run_editor(const char *editor, char *path)
{
	char copy[1024], *argv[EDITOR_WORDS + 2];
	int argc = 0, r, status = 0;

	if (str_copy(copy, sizeof(copy), editor) < 0)
		return ui_error(K(053) "EDITOR is too long");
	for (char *p = copy; argc < EDITOR_WORDS && *(p += strspn(p, " \t"));) {
		argv[argc++] = p;
		p += strcspn(p, " \t");
		if (*p)
			*p++ = '\0';
	}
	if (argc == 0)
		return ui_error("EDITOR is empty");
	argv[argc++] = path;
	argv[argc] = NULL;
	r = spawn_and_wait(argv, &status);
	if (r)
		return ui_error("cannot run %s: %s; set EDITOR", argv[0], strerror(r));
	return WIFEXITED(status) ? WEXITSTATUS(status)
				 : ui_error("the editor was killed, nothing was changed");
}

static bool holds(const char *path, const char *text, size_t len)
{
	char *now = NULL;
	size_t now_len;
	bool same = fd_read_file(path, FILE_MAX, &now, &now_len) == 0 && now_len == len &&
		    memcmp(now, text, len) == 0;

	free(now);
	return same;
}

/* Puts the copy in place of the file, which held text when the copy was made. */
static int take_copy(const struct guest *g, const char *path, const char *text, size_t len,
		     const char *copy)
{
	char *made, mine[PATH_MAX];
	struct err err;
	size_t made_len;
	int lock, status = 0, r = fd_read_file(copy, FILE_MAX, &made, &made_len);

	if (r < 0)
		return ui_error("cannot read %s: %s; nothing was changed", copy, strerror(-r));
	/* Others who change the guest's files wait. It may have another name meanwhile, or be gone. */
	lock = lock_dir(g->dir, true);
	if (lock >= 0 && holds(path, text, len)) {
		if ((made_len != len || memcmp(made, text, len) != 0) &&
		    file_write_atomic(path, made, made_len, 0600, &err) < 0)
			status = ui_error("%s", err.text);
	} else if (file_path(mine, sizeof(mine), "%s/.config/%s.mine", g->home, file_base(path)) <
			   0 ||
		   file_write_atomic(mine, made, made_len, 0600, &err) < 0) {
		status = ui_error(K(023) "another command changed %s meanwhile; your text is lost",
				  path);
	} else {
		status = ui_error(K(023) "another command changed %s meanwhile; your text is in %s",
				  path, mine);
	}
	fd_close(&lock);
	free(made);
	return status;
}

/* The editor gets a copy: whatever ends it, or this command, half a text never takes effect. */
static int edit_file(const struct vm *vm, const struct guest *g, const char *editor,
		     const char *path)
{
	char stage[PATH_MAX], copy[PATH_MAX], *text = NULL;
	struct store around;
	struct err err;
	size_t len;
	int lock, status, r;

	if (vm_would(vm, "open %s with %s", path, editor))
		return 0;
	r = fd_read_file(path, FILE_MAX, &text, &len);
	if (r < 0)
		return ui_error("cannot read %s: %s", path, strerror(-r));
	store_around(g, &around);
	r = store_stage(&around, g->name, stage, sizeof(stage), &lock, &err);
	if (r < 0) {
		free(text);
		return ui_error("%s", err.text);
	}
	r = file_path(copy, sizeof(copy), "%s/%s", stage, file_base(path)) < 0
		    ? err_set(&err, -ENAMETOOLONG, "%s: the path is too long", stage)
		    : file_write_new(copy, text, len, 0600, &err);
	status = r < 0 ? ui_error("%s", err.text) : run_editor(editor, copy);
	if (status == 0)
		status = take_copy(g, path, text, len, copy);
	free(text);
	(void)file_remove_tree(AT_FDCWD, stage);
	close(lock);
	return status;
}

/* One of the files that a guest with cloud-init gets its first settings from. */
static int edit_seed(const struct vm *vm, const struct guest *g, const char *editor,
		     const char *which)
{
	static const char *const files[] = { "meta-data", "network-config", "user-data" };
	char path[PATH_MAX], seed[PATH_MAX];
	bool known = false;
	int c;

	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		known |= strcmp(which, files[i]) == 0;
	if (!known)
		return ui_error(K(004) "'%s' is none of: meta-data network-config user-data",
				which);
	if (file_path(path, sizeof(path), "%s/.cloud-init/%s", g->dir, which) < 0 ||
	    run_path(g, "seed.iso", seed, sizeof(seed)) < 0)
		return ui_error(K(053) "%s: the path is too long", g->dir);
	if (access(path, F_OK) < 0)
		return ui_error("cloud-init is not enabled for this guest");
	c = vm->dry_run || access(seed, F_OK) < 0
		    ? 0
		    : ui_ask("cloud-init has run already. changes won't take "
			     "effect. edit anyway?");
	if (c)
		return c == UI_NO ? 0 : c;
	return edit_file(vm, g, editor, path);
}

int verb_configure(struct vm *vm, int argc, char **argv)
{
	const char *env = getenv("EDITOR"), *editor = env && *env ? env : "vi";
	struct gconf *conf;
	struct guest g;
	struct err err;
	char near[VM_NEAR_SIZE];
	int status;

	if (argc != 2 && argc != 3)
		return ui_usage(vm);
	if (store_find(&vm->store, argv[1], &g) < 0)
		return ui_error(K(010) "cannot locate configuration file for virtual machine: %s%s",
				argv[1], vm_near(vm, argv[1], near));
	if (argc == 3)
		return edit_seed(vm, &g, editor, argv[2]);
	status = edit_file(vm, &g, editor, g.conf);
	if (status)
		return status;
	if (gconf_load(g.conf, &conf, &err) < 0)
		return ui_error("%s", err.text);
	keys_check(conf, warn_text, NULL);
	gconf_free(conf);
	return 0;
}
