/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef CMD_VM_VM_H
#define CMD_VM_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "manager/run.h"
#include "manager/store.h"
#include "util/err.h"

/* Exit statuses. */
#define VM_FAILED 1
#define VM_USAGE 2
#define VM_NOT_FOUND 3
#define VM_STATE 4
#define VM_BUSY 5
#define VM_HOST 6
#define VM_TIMEOUT 7

struct verb;

/* What every verb gets. */
struct vm {
	struct store store;
	const struct verb *verb;
	bool dry_run; /* --dry-run: say what would be done */
};

/* What a verb needs before it runs. */
enum vm_need { NEED_NOTHING, NEED_CONFIG, NEED_STORE, NEED_CHANGE };

/*
 * VERB_OURS: not vm-bhyve's: never in the way of a shortened command that its users know.
 * VERB_HIDDEN: not in the list of commands.
 */
enum verb_kind { VERB_KNOWN, VERB_OURS, VERB_HIDDEN };

struct verb {
	const char *name;
	int (*run)(struct vm *vm, int argc,
		   char **argv); /* argv[0] is the verb; returns the exit status */
	enum vm_need need;
	const char *synopsis; /* one line per form, without "vm" */
	const char *options; /* one line each, NULL: none */
	enum verb_kind kind;
};

int verb_init(struct vm *vm, int argc, char **argv);
int verb_list(struct vm *vm, int argc, char **argv);
int verb_info(struct vm *vm, int argc, char **argv);
int verb_create(struct vm *vm, int argc, char **argv);
int verb_destroy(struct vm *vm, int argc, char **argv);
int verb_add(struct vm *vm, int argc, char **argv);
int verb_remove(struct vm *vm, int argc, char **argv);
int verb_configure(struct vm *vm, int argc, char **argv);
int verb_iso(struct vm *vm, int argc, char **argv);
int verb_img(struct vm *vm, int argc, char **argv);
int verb_datastore(struct vm *vm, int argc, char **argv);
int verb_disk(struct vm *vm, int argc, char **argv);
int verb_image(struct vm *vm, int argc, char **argv);
int verb_install(struct vm *vm, int argc, char **argv);
int verb_start(struct vm *vm, int argc, char **argv);
int verb_startall(struct vm *vm, int argc, char **argv);
int verb_run(struct vm *vm, int argc, char **argv);
int verb_switch(struct vm *vm, int argc, char **argv);
int verb_stop(struct vm *vm, int argc, char **argv);
int verb_restart(struct vm *vm, int argc, char **argv);
int verb_reset(struct vm *vm, int argc, char **argv);
int verb_poweroff(struct vm *vm, int argc, char **argv);
int verb_port(struct vm *vm, int argc, char **argv);
int verb_console(struct vm *vm, int argc, char **argv);
int verb_snapshot(struct vm *vm, int argc, char **argv);
int verb_rollback(struct vm *vm, int argc, char **argv);
int verb_clone(struct vm *vm, int argc, char **argv);
int verb_trash(struct vm *vm, int argc, char **argv);
int verb_ssh(struct vm *vm, int argc, char **argv);
int verb_exec(struct vm *vm, int argc, char **argv);
int verb_cp(struct vm *vm, int argc, char **argv);
int verb_up(struct vm *vm, int argc, char **argv);
int verb_migrate(struct vm *vm, int argc, char **argv);
int verb_receive(struct vm *vm, int argc, char **argv);
int verb_wait(struct vm *vm, int argc, char **argv);
int verb_log(struct vm *vm, int argc, char **argv);
int verb_cd(struct vm *vm, int argc, char **argv);
int verb_events(struct vm *vm, int argc, char **argv);
int verb_top(struct vm *vm, int argc, char **argv);
int verb_metrics(struct vm *vm, int argc, char **argv);
int verb_screenshot(struct vm *vm, int argc, char **argv);
int verb_type(struct vm *vm, int argc, char **argv);
int verb_key(struct vm *vm, int argc, char **argv);
int verb_why(struct vm *vm, int argc, char **argv);
int verb_complete(struct vm *vm, int argc, char **argv);
int verb_protect(struct vm *vm, int argc, char **argv);
int verb_doctor(struct vm *vm, int argc, char **argv);
int verb_explain(struct vm *vm, int argc, char **argv);
int verb_get(struct vm *vm, int argc, char **argv);
int verb_set(struct vm *vm, int argc, char **argv);
int verb_rename(struct vm *vm, int argc, char **argv);
int verb_stopall(struct vm *vm, int argc, char **argv);
int verb_tags(struct vm *vm, int argc, char **argv);
int verb_suspend(struct vm *vm, int argc, char **argv);
int verb_suspendall(struct vm *vm, int argc, char **argv);
int verb_resume(struct vm *vm, int argc, char **argv);
int verb_discard(struct vm *vm, int argc, char **argv);
int verb_passthru(struct vm *vm, int argc, char **argv);

/*
 * "vm: ERROR: text [CODE]" on standard error; returns VM_FAILED. What the code asks for instead is
 * the status that main exits with.
 */
int ui_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ui_warning(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "  ! text" on standard output, where progress is shown; returns VM_FAILED. */
int ui_failure(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints the verb's help to standard error and returns VM_USAGE. */
int ui_usage(const struct vm *vm);
/* What to exit with after VM_FAILED: what the first message stands for. */
int ui_status(int status);
/*
 * Asks until the answer begins with y or n. 0: yes. Else the exit status of the command: 0 for no,
 * VM_FAILED with a message when there is nobody to answer.
 */
#define UI_NO (-1)
int ui_ask(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/*
 * A line of text (up to its end or \n) in lines of at most 80 columns, on f: behind first, which is as
 * it is; further lines behind hang blanks. Words in brackets stay together.
 */
void ui_wrap(FILE *f, const char *first, int hang, const char *text);
/* Columns of the terminal that standard output is; 0: it is none. */
size_t ui_columns(void);
/* Local time as ISO 8601 with the zone. */
#define UI_TIME_SIZE 64
void ui_time(time_t t, char out[UI_TIME_SIZE]);
/* "1168134144 (1.087G)" */
void ui_bytes(uint64_t bytes, char *out, size_t size);
/*
 * Sets up a line on the terminal that shows how far something has come: a name, which must stay, bar,
 * rate and rest. NULL if nobody watches.
 */
struct progress;
struct progress *ui_progress(struct progress *p, const char *name);
/* getopt; an option that the verb lacks has been reported when this returns '?'. */
int ui_option(int argc, char **argv, const char *options);
/* The same with long options; '?' and ':' have been reported. */
struct option;
int ui_options(int argc, char **argv, const char *options, const struct option *longs);
/* For verbs whose only option is --json. -1: another one, which has been reported. */
int ui_json_option(int argc, char **argv, bool *json);

struct gconf;
struct json_t;

/* The next word of the value of tags (may be NULL), which moves on; NULL: no more (tags.c). */
const char *vm_next_tag(const char **tags, size_t *len);
/* Whether the value of tags holds a tag; all of them as an array. */
bool vm_has_tag(const char *tags, const char *tag);
struct json_t *vm_tags_json(const char *tags);

/* The part of vm info about network card n (info_net.c); running: it has a tap. */
void info_network(const struct vm *vm, const struct guest *g, struct gconf *conf, unsigned n,
		  bool running);
struct json_t *info_network_json(const struct vm *vm, const struct guest *g, struct gconf *conf,
				 unsigned n, bool running);
/* The part of vm info about snapshots (snapshot.c). */
void info_snapshots(const struct guest *g);
struct json_t *info_snapshots_json(const struct guest *g);
/* Why a guest that runs does not go on: a disk that the host fails. NULL: none, or no answer within ms. */
const char *vm_stall_reason(const struct guest *g, unsigned ms, char *out, size_t size);
/* Makes sure that a guest stays off until run_unlock_supervisor(). 0, or reported. */
int vm_hold(const struct guest *g, int *lock);
/* Warns of disks that are not in the guest's folder, which have no part in what is done to it. */
void vm_warn_custom(const struct guest *g, const char *what);
/* vm destroy NAME@SNAP. Returns the exit status. */
int vm_destroy_snapshot(struct vm *vm, const char *word);
/* Addresses of the guest that this host knows, with blanks between. -ENOENT: none. */
int vm_addresses(const struct vm *vm, const struct guest *g, struct gconf *conf, char *out,
		 size_t size);
/* What the guest's first serial port has said, as far as it is remembered; -EBUSY: it is in use. */
int vm_read_console(const struct guest *g, char *out, size_t size);
/* Waits as vm wait does. Returns the exit status. */
int vm_wait(const struct vm *vm, const char *name, const char *what, unsigned seconds);
#define VM_WAIT_SECONDS 300
/* Waits until a guest answers by SSH; where, as ADDR:PORT. Returns the exit status. */
int vm_wait_ssh(const struct vm *vm, const struct guest *g, unsigned seconds, char *out,
		size_t size);
/* Waits until a guest lets its ssh_user in, or if it has none until it answers by SSH. */
int vm_wait_login(struct vm *vm, const char *name, unsigned seconds);
/* Where vm ssh looks for a key besides the caller's, in the store. */
#define VM_KEY_DIR ".config/ssh"
#define VM_KEY VM_KEY_DIR "/id_ed25519"
/* Presses the power button, as vm stop does. Returns the exit status. */
int vm_press(const struct guest *g);
/* Starts a guest in the background, as vm start does. Returns the exit status. */
int vm_start(struct vm *vm, const char *name);
/* Forwards a port, in the guest's file and at once. */
struct port;
int vm_port_add(const struct vm *vm, const struct guest *g, const struct port *p, struct err *err);
/* " (did you mean 'NAME'?)", or "" if no guest has a name that is near. */
#define VM_NEAR_SIZE (STORE_NAME_MAX + 32)
const char *vm_near(const struct vm *vm, const char *name, char out[VM_NEAR_SIZE]);
/* With --dry-run: prints "would ..." and is true. Behind all checks, before anything is done. */
bool vm_would(const struct vm *vm, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * The end of a verb: an error if r is negative, "would ..." with --dry-run. Returns the exit status. For
 * what checks all it can and then does nothing, as the store's dry_run asks it to.
 */
int vm_done(const struct vm *vm, int r, const struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Whether vm protect keeps the guest from being lost. VM_FAILED: yes, and that was said. */
int vm_protected(const struct guest *g);
/* All verbs, one after the other; NULL: no more. */
const struct verb *vm_verb(size_t i);
/* Finds a guest or says that it does not exist, as every verb does. */
int vm_find(const struct vm *vm, const char *name, struct guest *out);
/* The same, if it runs on this host. */
int vm_find_running(const struct vm *vm, const char *name, struct guest *out);
/* Starts vm _run in the background. Returns the descriptor that reports (super.h), or -errno. */
int vm_spawn(const struct guest *g, const char *iso, bool adopt, struct err *err);
/* Brings all switches up, as root; says what does not work. Returns the exit status. */
int vm_init_switches(struct vm *vm);
/* Path of khyve: the environment's KHYVE, else beside this program. */
int vm_khyve(char *out, size_t size, struct err *err);
/* Attaches the terminal to a serial port until ^]. Returns the exit status. */
int vm_attach(const struct guest *g, const char *port);

#endif
