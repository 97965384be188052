/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_RUN_H
#define MANAGER_RUN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "manager/store.h"

/*
 * Whether a guest runs, derived and never stored: it runs if and only if its khyve holds the
 * kernel lock on NAME/run.lock. Only the holder of the lock on NAME/supervisor.lock may start a
 * khyve or clean up after one; the supervisor (vm _run) holds it for as long as it lives. A guest
 * outlives a killed supervisor.
 */
enum run_kind { RUN_STOPPED, RUN_RUNNING, RUN_LOCKED };

struct run_state {
	enum run_kind kind; /* RUN_LOCKED: it runs on another host that shares the store */
	pid_t pid; /* of khyve; 0 if unknown */
	uint64_t start; /* its start time in clock ticks after boot, from /proc */
	char host[256];
};

/*
 * Names of the files inside a guest's folder. Sockets are bound relative to it: their paths would
 * not fit.
 */
#define RUN_LOCK "run.lock"
#define RUN_SUPERVISOR "supervisor.lock"
#define RUN_CONSOLE "console"
#define RUN_RESTART "restart"
#define RUN_OFF "poweroff"
#define RUN_CONF "khyve.run"
#define RUN_CONTROL "control.sock"
#define RUN_PASSWORD "vnc.password"
#define RUN_TLS "vnc.pem" /* stays from run to run */
#define RUN_LOG "khyve.log"
/* Cards that may have sockets, net0.sock and net0.ctl and so on. */
#define RUN_NETS_MAX 8

void run_query(const struct guest *g, struct run_state *out);
/* Path of a file of the guest's folder. */
int run_path(const struct guest *g, const char *file, char *out, size_t size);

/*
 * Takes the supervisor's lock. Returns the descriptor; -EAGAIN if a supervisor or a cleaner holds
 * it.
 */
int run_lock_supervisor(const struct guest *g);
void run_unlock_supervisor(const struct guest *g, int *fd);
/* True if a supervisor looks after the guest. */
bool run_supervised(const struct guest *g);

/*
 * Opens, empties and locks run.lock. Only with the supervisor's lock. Returns the descriptor or
 * -EAGAIN.
 */
int run_lock_guest(const struct guest *g);
/* In the process that is to become khyve: writes host, pid and start time into the lock file. */
int run_write_owner(int lock);

/* Removes sockets, locks and files of a run that has ended. Only with the supervisor's lock. */
void run_remove_files(const struct guest *g);
/* The same if nobody runs or looks after the guest: what a killed supervisor left. */
void run_clean(const struct guest *g);

/* Waits until the guest's khyve is gone and, if supervised, its supervisor too. -ETIMEDOUT. */
int run_wait_stopped(const struct guest *g, unsigned milliseconds);
/* SIGKILL to khyve, only if the pid is still the process that took the lock. -ESRCH. */
int run_kill(const struct run_state *state);

/* The value of a line of NAME/console ("vnc", "com1"). -ENOENT. */
int run_console(const struct guest *g, const char *what, char *out, size_t size);

/* Resident bytes, CPU time and age of a process. -ESRCH. */
struct run_usage {
	uint64_t resident;
	double cpu_seconds, age_seconds;
};
int run_usage(pid_t pid, struct run_usage *out);

#endif
