/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/khyve-net/jail.h"
#include "cmd/khyve-net/seccomp.h"
#include "run.h"
#include "util/err.h"
#include "util/macros.h"

/*
 * What somebody would try who has taken khyve-net over. Each attempt is made in a process of its own that has locked
 * itself in; it must fail there, or end it.
 */

#define FDS 64
#define STR(s) ((uintptr_t)(s))
#define X32 0x40000000
#define ESCAPED 250
#define NO_JAIL 251
#define REFUSED 252

struct attempt {
	const char *name;
	long nr;
	uintptr_t args[6];
};

static char scratch[4096] __attribute__((aligned(4096)));
static char *const none[] = { NULL };

static const struct attempt attempts[] = {
	{ "create a file",
	  SYS_openat,
	  { AT_FDCWD, STR("/tmp/khyve-net-escape"), O_WRONLY | O_CREAT, 0600 } },
	{ "create a file, old call",
	  SYS_open,
	  { STR("/tmp/khyve-net-escape"), O_RDWR | O_CREAT, 0600 } },
	{ "creat", SYS_creat, { STR("/tmp/khyve-net-escape"), 0600 } },
	{ "open for writing", SYS_openat, { AT_FDCWD, STR("/dev/zero"), O_RDWR } },
	{ "truncate while opening", SYS_openat, { AT_FDCWD, STR("/dev/zero"), O_TRUNC } },
	{ "a file without a name",
	  SYS_openat,
	  { AT_FDCWD, STR("/tmp"), O_TMPFILE | O_RDWR, 0600 } },
	{ "own memory", SYS_openat, { AT_FDCWD, STR("/proc/self/mem"), O_RDWR } },
	{ "openat2", SYS_openat2, { AT_FDCWD, STR("/etc"), STR(scratch), 24 } },
	{ "a handle of a file",
	  SYS_name_to_handle_at,
	  { AT_FDCWD, STR("/etc"), STR(scratch), STR(scratch), 0 } },
	{ "unlink", SYS_unlink, { STR("/tmp/khyve-net-escape") } },
	{ "unlinkat", SYS_unlinkat, { AT_FDCWD, STR("/tmp/khyve-net-escape"), 0 } },
	{ "rename", SYS_rename, { STR("/tmp/a"), STR("/tmp/b") } },
	{ "mkdir", SYS_mkdir, { STR("/tmp/khyve-net-escape"), 0700 } },
	{ "mkdirat", SYS_mkdirat, { AT_FDCWD, STR("/tmp/khyve-net-escape"), 0700 } },
	{ "mknod", SYS_mknod, { STR("/tmp/khyve-net-escape"), 0010600, 0 } },
	{ "symlink", SYS_symlink, { STR("/etc/passwd"), STR("/tmp/khyve-net-escape") } },
	{ "link", SYS_link, { STR("/etc/passwd"), STR("/tmp/khyve-net-escape") } },
	{ "chmod", SYS_chmod, { STR("/tmp/khyve-net-escape"), 0777 } },
	{ "chown", SYS_chown, { STR("/tmp/khyve-net-escape"), 0, 0 } },
	{ "chroot", SYS_chroot, { STR("/tmp") } },
	{ "chdir", SYS_chdir, { STR("/") } },
	{ "a UNIX socket", SYS_socket, { AF_UNIX, SOCK_STREAM, 0 } },
	{ "a netlink socket", SYS_socket, { AF_NETLINK, SOCK_RAW, 0 } },
	{ "a packet socket", SYS_socket, { AF_PACKET, SOCK_RAW, 0 } },
	{ "a vsock", SYS_socket, { AF_VSOCK, SOCK_STREAM, 0 } },
	{ "a crypto socket", SYS_socket, { AF_ALG, SOCK_SEQPACKET, 0 } },
	{ "a raw socket", SYS_socket, { AF_INET, SOCK_RAW, 255 } },
	{ "a raw IPv6 socket", SYS_socket, { AF_INET6, SOCK_RAW, 255 } },
	{ "a socket pair", SYS_socketpair, { AF_UNIX, SOCK_STREAM, 0, STR(scratch) } },
	{ "run a program", SYS_execve, { STR("/bin/true"), STR(none), STR(none) } },
	{ "execveat", SYS_execveat, { AT_FDCWD, STR("/bin/true"), STR(none), STR(none), 0 } },
	{ "fork", SYS_fork, { 0 } },
	{ "clone", SYS_clone, { SIGCHLD } },
	{ "clone3", SYS_clone3, { STR(scratch), 64 } },
	{ "kill the parent", SYS_kill, { 1, 0 } },
	{ "kill itself and all", SYS_kill, { (uintptr_t)-1, 0 } },
	{ "send a signal by descriptor", SYS_pidfd_open, { 1, 0 } },
	{ "trace", SYS_ptrace, { 16, 1, 0, 0 } },
	{ "read a process", SYS_process_vm_readv, { 1, STR(scratch), 1, STR(scratch), 1, 0 } },
	{ "write a process", SYS_process_vm_writev, { 1, STR(scratch), 1, STR(scratch), 1, 0 } },
	{ "compare processes", SYS_kcmp, { 1, 1, 0, 0, 0 } },
	{ "executable memory",
	  SYS_mmap,
	  { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, (uintptr_t)-1, 0 } },
	{ "make memory executable",
	  SYS_mprotect,
	  { STR(scratch), 4096, PROT_READ | PROT_WRITE | PROT_EXEC } },
	{ "the same with a key",
	  SYS_pkey_mprotect,
	  { STR(scratch), 4096, PROT_EXEC, (uintptr_t)-1 } },
	{ "a file in memory", SYS_memfd_create, { STR("x"), 0 } },
	{ "become root", SYS_setuid, { 0 } },
	{ "become root, all three", SYS_setresuid, { 0, 0, 0 } },
	{ "join groups", SYS_setgroups, { 1, STR(scratch) } },
	{ "take capabilities", SYS_capset, { STR(scratch), STR(scratch) } },
	{ "become dumpable", SYS_prctl, { PR_SET_DUMPABLE, 1 } },
	{ "raise a limit", SYS_prlimit64, { 0, RLIMIT_NOFILE, STR(scratch), 0 } },
	{ "a namespace", SYS_unshare, { CLONE_NEWUSER } },
	{ "another's namespace", SYS_setns, { 0, 0 } },
	{ "mount", SYS_mount, { STR("x"), STR("/tmp/khyve-net-escape"), STR("tmpfs"), 0, 0 } },
	{ "open a tree of mounts", SYS_open_tree, { AT_FDCWD, STR("/"), 1 } },
	{ "umount", SYS_umount2, { STR("/tmp/khyve-net-escape"), 0 } },
	{ "io_uring", SYS_io_uring_setup, { 4, STR(scratch) } },
	{ "asynchronous I/O", SYS_io_setup, { 4, STR(scratch) } },
	{ "userfaultfd", SYS_userfaultfd, { 1 } },
	{ "bpf", SYS_bpf, { 0, STR(scratch), 48 } },
	{ "perf", SYS_perf_event_open, { STR(scratch), 0, (uintptr_t)-1, (uintptr_t)-1, 0 } },
	{ "keys", SYS_keyctl, { 0, (uintptr_t)-3, 0 } },
	{ "add a key", SYS_add_key, { STR("user"), STR("x"), STR("y"), 1, (uintptr_t)-3 } },
	{ "load a module", SYS_init_module, { STR(scratch), 1, STR("") } },
	{ "kexec", SYS_kexec_load, { 0, 0, 0, 0 } },
	{ "reboot", SYS_reboot, { 0xfee1dead, 672274793, 0, 0 } },
	{ "ports", SYS_iopl, { 3 } },
	{ "shared memory", SYS_shmget, { 0, 4096, 01600 } },
	{ "a message queue", SYS_mq_open, { STR("x"), O_RDWR | O_CREAT, 0600, 0 } },
	{ "watch files", SYS_inotify_init1, { 0 } },
	{ "another personality", SYS_personality, { 0x0040000 } },
	{ "the kernel's log", SYS_syslog, { 3, STR(scratch), 100 } },
	{ "fake input of a terminal", SYS_ioctl, { 0, 0x5412, STR("x") } },
	{ "a call of x32", SYS_getpid | X32, { 0 } },
	{ "a pipe", SYS_pipe2, { STR(scratch), 0 } },
	{ "copy between files", SYS_splice, { 0, 0, 1, 0, 1, 0 } },
	{ "another filter", SYS_seccomp, { 0, 0, 0 } },
};

/* In a child: 0 and what the call returned, or how it ended. */
static int try(const struct attempt *a)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		const uintptr_t *x = a->args;
		struct err err;

		if (jail_enter(FDS, &err) < 0)
			_exit(NO_JAIL);
		if (syscall(a->nr, x[0], x[1], x[2], x[3], x[4], x[5]) >= 0)
			_exit(ESCAPED);
		/* Anything else would be a matter of the arguments. */
		_exit(errno == EPERM || errno == EACCES || errno == ENOTTY ? REFUSED : errno);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? REFUSED : -WTERMSIG(status);
	return WEXITSTATUS(status);
}

static void test_escape(void)
{
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		int r = try(&attempts[i]);

		if (r != REFUSED)
			CHECK_FAIL("%s: %s (%d)", attempts[i].name,
				   r == ESCAPED ? "it works" : "it ended otherwise", r);
	}
	CHECK(ARRAY_LEN(attempts) >= 60);
}

/* With the filter of calls alone, against a process that nothing else protects: our parent. */
static int try_call(long nr, uintptr_t a, uintptr_t b, uintptr_t c)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || seccomp_enter() < 0)
			_exit(NO_JAIL);
		if (nr == SYS_tgkill && !a)
			a = b = (uintptr_t)getpid();
		_exit(syscall(nr, a, b, c) >= 0 ? ESCAPED : errno);
	}
	CHECK(pid > 0);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGSYS ? REFUSED : -WTERMSIG(status);
	return WEXITSTATUS(status);
}

static void test_signals(void)
{
	uintptr_t victim = (uintptr_t)getpid();

	CHECK_EQ(try_call(SYS_tgkill, victim, victim, 0), REFUSED);
	CHECK_EQ(try_call(SYS_tgkill, 0, 0, 0), ESCAPED); /* itself: how abort() works */
	CHECK_EQ(try_call(SYS_fcntl, 0, F_SETOWN, victim), REFUSED);
	CHECK_EQ(try_call(SYS_fcntl, 0, F_SETOWN_EX, STR(scratch)), REFUSED);
	CHECK_EQ(try_call(SYS_fcntl, 0, F_SETSIG, SIGKILL), REFUSED);
	CHECK_EQ(try_call(SYS_fcntl, 0, F_GETFL, 0), ESCAPED);
	CHECK_EQ(try_call(SYS_fcntl, 0, F_GETFD, 0), ESCAPED);
}

/* No protocol that the kernel would first have to load. */
static void test_sockets(void)
{
	static const uintptr_t families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_STREAM, 132), EPERM); /* SCTP */
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_STREAM, 262), EPERM); /* MPTCP */
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_DCCP, 0), EPERM);
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_SEQPACKET, 0), EPERM);
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP),
			 ESCAPED);
		CHECK_EQ(try_call(SYS_socket, families[i], SOCK_DGRAM | SOCK_NONBLOCK, 0), ESCAPED);
	}
	/* libslirp tries both for echo requests and goes on without. */
	CHECK(try_call(SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_ICMP) != EPERM);
	CHECK(try_call(SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP) != REFUSED);
}

/* libslirp asks for the interface in "nameserver fe80::1%eth0"; the C library wants a UNIX socket for that first. */
static void test_scopes(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct err err;

		if (jail_enter(FDS, &err) < 0)
			_exit(NO_JAIL);
		_exit(if_nametoindex("lo") ? ESCAPED : errno);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), ESCAPED);
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void test_files(void)
{
	static const struct attempt secret = { "read",
					       SYS_openat,
					       { AT_FDCWD, STR("/usr/bin/env"), O_RDONLY } };
	static const struct attempt folder = { "list",
					       SYS_openat,
					       { AT_FDCWD, STR("/"), O_RDONLY | O_DIRECTORY } };
	static const struct attempt resolv = { "resolver",
					       SYS_openat,
					       { AT_FDCWD, STR("/etc/resolv.conf"), O_RDONLY } };

	if (has_landlock()) {
		CHECK_EQ(try(&secret), REFUSED);
		CHECK_EQ(try(&folder), REFUSED);
	}
	if (access("/etc/resolv.conf", R_OK) == 0)
		CHECK_EQ(try(&resolv), ESCAPED);
}

/* What it is there for. */
static void test_work(void)
{
	static const struct attempt work[] = {
		{ "TCP", SYS_socket, { AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0 } },
		{ "UDP", SYS_socket, { AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0 } },
		{ "memory",
		  SYS_mmap,
		  { 0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, (uintptr_t)-1,
		    0 } },
		{ "random numbers", SYS_getrandom, { STR(scratch), 8, 0 } },
	};

	for (size_t i = 0; i < ARRAY_LEN(work); i++)
		CHECK_EQ(try(&work[i]), ESCAPED);
}

static void test_identity(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct err err;
		bool ok = jail_enter(FDS, &err) == 0 && geteuid() != 0;

		ok = ok && open("/etc/hostname", O_RDONLY) < FDS;
		for (int i = 0; ok && i < 2 * FDS; i++)
			(void)socket(AF_INET, SOCK_DGRAM, 0);
		ok = ok && socket(AF_INET, SOCK_DGRAM, 0) < 0 && errno == EMFILE;
		_exit(ok ? 0 : 1);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status, 0);
}

static const struct test_case cases[] = {
	{ "jail: ways out", test_escape },
	{ "jail: signals", test_signals },
	{ "jail: sockets", test_sockets },
	{ "jail: names of interfaces", test_scopes },
	{ "jail: files", test_files },
	{ "jail: work", test_work },
	{ "jail: identity and limits", test_identity },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
