/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/viewer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "back/listen.h"
#include "back/screen.h"
#include "loop/loop.h"
#include "machine/machine.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"
#include "util/str.h"

#define PROGRAM "khyve-vnc"
#define RESTART_DELAY_NS (1 * NS_PER_SEC)

struct viewer {
	struct loop *loop;
	struct screen *screen;
	char *guest;
	char program[4096];
	char address[160];
	char password[64]; /* "" for none */
	int listen_fd, tls_fd; /* the latter -1: no TLS */
	pid_t pid; /* 0: not running */
	struct loop_timer restart;
};

int machine_find_program(const char *name, char *out, size_t size)
{
	static const char *const places[] = { ".", "../libexec/khyve" };
	char dir[4096];
	ssize_t n = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *slash;

	if (n < 0)
		return -errno;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		char path[sizeof(dir) + 64];

		if (snprintf(path, sizeof(path), "%s/%s/%s", dir, places[i], name) >=
		    (int)sizeof(path))
			return -ENAMETOOLONG;
		if (access(path, X_OK) == 0)
			return str_copy(out, size, path);
	}
	return -ENOENT;
}

/* A pipe that holds the password: it is in no argument list, environment or file. */
static int password_pipe(const char *password)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	if (fd_write_full(fds[1], password, strlen(password)) < 0)
		fd_close(&fds[0]);
	fd_close(&fds[1]);
	return fds[0];
}

/* The child, between fork and exec: only what a forked copy of a threaded program may do. */
static void child(struct viewer *v, pid_t parent, const int *fds, char *const *argv)
{
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	fd_inherit_none();
	for (; *fds != -2; fds++)
		if (*fds >= 0)
			fd_set_inherit(*fds);
	execv(v->program, argv);
	_exit(127);
}

static void on_gone(void *arg)
{
	struct viewer *v = arg;

	/* Whatever state it is in, it is of no use without the link; SIGCHLD brings the next one. */
	if (v->pid > 0)
		kill(v->pid, SIGKILL);
}

static int spawn(struct viewer *v)
{
	char path[32], screen_arg[16], ctl_arg[16], listen_arg[16], password_arg[16], tls_arg[16];
	char *argv[] = { (char *)PROGRAM,
			 (char *)"--screen-fd",
			 screen_arg,
			 (char *)"--ctl-fd",
			 ctl_arg,
			 (char *)"--listen-fd",
			 listen_arg,
			 (char *)"--name",
			 v->guest,
			 NULL,
			 NULL,
			 NULL,
			 NULL,
			 NULL };
	size_t n = 9;
	int pair[2], screen_fd, password_fd = -1, r = 0;
	pid_t parent = getpid();

	snprintf(path, sizeof(path), "/proc/self/fd/%d", screen_memfd(v->screen));
	screen_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (screen_fd < 0)
		return -errno;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		r = -errno;
		fd_close(&screen_fd);
		return r;
	}
	fd_set_nonblock(pair[0]);
	snprintf(screen_arg, sizeof(screen_arg), "%d", screen_fd);
	snprintf(ctl_arg, sizeof(ctl_arg), "%d", pair[1]);
	snprintf(listen_arg, sizeof(listen_arg), "%d", v->listen_fd);
	if (v->password[0]) {
		password_fd = password_pipe(v->password);
		snprintf(password_arg, sizeof(password_arg), "%d", password_fd);
		argv[n++] = (char *)"--password-fd";
		argv[n++] = password_arg;
	}
	if (v->tls_fd >= 0) {
		snprintf(tls_arg, sizeof(tls_arg), "%d", v->tls_fd);
		argv[n++] = (char *)"--tls-fd";
		argv[n++] = tls_arg;
	}
	v->pid = fork();
	if (v->pid == 0) {
		const int fds[] = { screen_fd, pair[1], v->listen_fd, password_fd, v->tls_fd, -2 };

		child(v, parent, fds, argv);
	}
	if (v->pid < 0) {
		r = -errno;
		v->pid = 0;
		fd_close(&pair[0]);
	}
	fd_close(&pair[1]);
	fd_close(&screen_fd);
	fd_close(&password_fd);
	return r < 0 ? r : screen_attach(v->screen, pair[0], on_gone, v);
}

static void on_restart(struct loop_timer *t)
{
	struct viewer *v = container_of(t, struct viewer, restart);
	int r = spawn(v);

	if (r < 0)
		log_limited(LOG_LEVEL_WARN, "viewer", "cannot start %s again: %s", PROGRAM,
			    strerror(-r));
	if (v->pid == 0)
		loop_timer_set(t, loop_now(v->loop) + RESTART_DELAY_NS);
}

static int read_password(struct viewer *v, const struct viewer_config *cfg, struct err *err)
{
	char *text = NULL;
	size_t len;
	int r;

	if (cfg->password)
		r = str_copy(v->password, sizeof(v->password), cfg->password);
	else if (!cfg->password_file)
		return 0;
	else if ((r = fd_read_file(cfg->password_file, 4096, &text, &len)) < 0)
		return err_set(err, r, "cannot read the password file %s: %s", cfg->password_file,
			       strerror(-r));
	else
		r = 0;
	if (text) {
		text[strcspn(text, "\r\n")] = '\0';
		r = str_copy(v->password, sizeof(v->password), text);
		explicit_bzero(text, len);
		free(text);
	}
	if (r < 0)
		return err_set(err, r, "the VNC password is too long: VNC looks at 8 characters");
	if (!v->password[0])
		return err_set(err, -EINVAL, "the VNC password is empty: leave it out for none");
	return 0;
}

static int open_tls(struct viewer *v, const char *path, struct err *err)
{
	v->tls_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (v->tls_fd >= 0)
		return 0;
	return err_set(err, -errno, "cannot read the screen's key and certificate %s: %s", path,
		       strerror(errno));
}

int viewer_new(struct loop *l, struct screen *screen, const struct viewer_config *cfg,
	       struct viewer **out, struct err *err)
{
	struct viewer *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->loop = l;
	v->screen = screen;
	v->guest = strdup(cfg->guest);
	v->listen_fd = v->tls_fd = -1;
	loop_timer_init(l, &v->restart, on_restart);
	r = machine_find_program(PROGRAM, v->program, sizeof(v->program));
	if (r < 0)
		err_set(err, r, "cannot find the program %s beside khyve or in its libexec folder",
			PROGRAM);
	if (r == 0)
		r = read_password(v, cfg, err);
	if (r == 0 && cfg->tls_file)
		r = open_tls(v, cfg->tls_file, err);
	if (r == 0) {
		v->listen_fd = listen_open(cfg->address, v->address, sizeof(v->address), err);
		r = v->listen_fd < 0 ? err_prefix(err, v->listen_fd, "VNC") : 0;
	}
	if (r == 0) {
		r = spawn(v);
		if (r < 0)
			err_set(err, r, "cannot start %s: %s", v->program, strerror(-r));
	}
	if (r < 0) {
		viewer_free(v);
		return r;
	}
	*out = v;
	return 0;
}

void viewer_free(struct viewer *v)
{
	if (!v)
		return;
	loop_timer_cancel(&v->restart);
	screen_detach(v->screen);
	if (v->pid > 0) {
		kill(v->pid, SIGKILL);
		waitpid(v->pid, NULL, 0);
	}
	if (v->listen_fd >= 0)
		listen_unlink(v->address);
	fd_close(&v->listen_fd);
	fd_close(&v->tls_fd);
	explicit_bzero(v->password, sizeof(v->password));
	free(v->guest);
	free(v);
}

void viewer_reap(struct viewer *v)
{
	int status;

	if (!v || v->pid <= 0 || waitpid(v->pid, &status, WNOHANG) != v->pid)
		return;
	v->pid = 0;
	screen_detach(v->screen);
	log_limited(LOG_LEVEL_WARN, "viewer", "%s ended (%s %d): starting it again", PROGRAM,
		    WIFSIGNALED(status) ? "signal" : "status",
		    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	loop_timer_set(&v->restart, loop_now(v->loop) + RESTART_DELAY_NS);
}

const char *viewer_address(const struct viewer *v)
{
	return v ? v->address : "";
}
