/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/seccomp.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/macros.h"

/*
 * Allowed as they are: the loop, sockets that exist, memory, time, and what the C library and the sanitizers do by
 * themselves.
 */
static const unsigned short allowed[] = {
	SYS_epoll_pwait2,
	SYS_epoll_pwait,
	SYS_epoll_wait,
	SYS_epoll_ctl,
	SYS_poll,
	SYS_ppoll,
	SYS_recvfrom,
	SYS_recvmsg,
	SYS_recvmmsg,
	SYS_sendto,
	SYS_sendmsg,
	SYS_sendmmsg,
	SYS_read,
	SYS_readv,
	SYS_write,
	SYS_writev,
	SYS_close,
	SYS_accept,
	SYS_accept4,
	SYS_bind,
	SYS_connect,
	SYS_listen,
	SYS_shutdown,
	SYS_getsockname,
	SYS_getpeername,
	SYS_getsockopt,
	SYS_setsockopt,
	SYS_lseek,
	SYS_fstat,
	SYS_newfstatat,
	SYS_stat,
	SYS_brk,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_clock_nanosleep,
	SYS_restart_syscall,
	SYS_futex,
	SYS_getrandom,
	SYS_getpid,
	SYS_gettid,
	SYS_geteuid,
	SYS_sched_yield,
	SYS_rt_sigaction,
	SYS_rt_sigprocmask,
	SYS_rt_sigreturn,
	SYS_sigaltstack,
	SYS_exit,
	SYS_exit_group,
};

/*
 * Allowed if each argument named here has one of its values, or these bits of it clear; else see refusal(). The rules
 * of one call follow each other, and of these the ones of one argument.
 */
struct arg_rule {
	unsigned short nr, arg;
	unsigned int mask, value; /* (argument & mask) == value */
};

#define SOCKET_TYPE 0xfu /* the rest are flags */
#define OWN_PID 0u /* stands for it */

static const struct arg_rule limited[] = {
	{ SYS_socket, 0, ~0u, AF_INET },
	{ SYS_socket, 0, ~0u, AF_INET6 },
	/* What the kernel would have to load first has had many a hole. */
	{ SYS_socket, 1, SOCKET_TYPE, SOCK_STREAM },
	{ SYS_socket, 1, SOCKET_TYPE, SOCK_DGRAM },
	{ SYS_socket, 1, SOCKET_TYPE, SOCK_RAW }, /* refused by the kernel; libslirp asks */
	{ SYS_socket, 2, ~0u, IPPROTO_IP },
	{ SYS_socket, 2, ~0u, IPPROTO_ICMP },
	{ SYS_socket, 2, ~0u, IPPROTO_TCP },
	{ SYS_socket, 2, ~0u, IPPROTO_UDP },
	{ SYS_socket, 2, ~0u, IPPROTO_ICMPV6 },
	/* Descriptors can send signals, too. */
	{ SYS_fcntl, 1, ~0u, F_GETFD },
	{ SYS_fcntl, 1, ~0u, F_SETFD },
	{ SYS_fcntl, 1, ~0u, F_GETFL },
	{ SYS_fcntl, 1, ~0u, F_SETFL },
	{ SYS_tgkill, 0, ~0u, OWN_PID },
	{ SYS_openat, 2, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, O_RDONLY },
	{ SYS_open, 1, O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND, O_RDONLY },
	{ SYS_mmap, 2, PROT_EXEC, 0 },
	{ SYS_mprotect, 2, PROT_EXEC, 0 },
	{ SYS_ioctl, 1, ~0u, FIONREAD },
	{ SYS_ioctl, 1, ~0u, FIONBIO },
	{ SYS_ioctl, 1, ~0u, SIOCGIFINDEX },
	{ SYS_ioctl, 1, ~0u, SIOCGIFNAME },
	{ SYS_ioctl, 1, ~0u, TCGETS }, /* the C library asks whether its output is a terminal */
};

/* What no bug of ours calls. */
static const unsigned short hostile[] = {
	SYS_execve,
	SYS_execveat,
	SYS_fork,
	SYS_vfork,
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kill,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_unshare,
	SYS_setns,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_keyctl,
	SYS_add_key,
	SYS_request_key,
	SYS_init_module,
	SYS_finit_module,
	SYS_kexec_load,
	SYS_setuid,
	SYS_setgid,
	SYS_setresuid,
	SYS_setresgid,
	SYS_personality,
	SYS_name_to_handle_at,
	SYS_open_by_handle_at,
	SYS_pidfd_getfd,
	SYS_socketpair,
	SYS_unlink,
	SYS_unlinkat,
	SYS_rename,
	SYS_renameat,
	SYS_renameat2,
	SYS_link,
	SYS_symlink,
	SYS_mkdir,
	SYS_chmod,
	SYS_fchmodat,
	SYS_truncate,
	SYS_memfd_create,
	SYS_openat2,
};

#define DATA_NR offsetof(struct seccomp_data, nr)
#define DATA_ARCH offsetof(struct seccomp_data, arch)
/* The low half of an argument; the kernel ignores the other one of an int. */
#define DATA_ARG(n) (offsetof(struct seccomp_data, args) + 8 * (n))
#define X32_BIT 0x40000000u

struct program {
	struct sock_filter code[512];
	unsigned short len;
};

static void emit(struct program *p, struct sock_filter op)
{
	assert(p->len < ARRAY_LEN(p->code));
	p->code[p->len++] = op;
}

/* Ends the filter with this answer if the call is nr. */
static void answer(struct program *p, unsigned int nr, unsigned int action)
{
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/*
 * The C library has its ways with a terminal, and tries a UNIX socket before others to look an interface up: neither is
 * worth an end.
 */
static unsigned int refusal(unsigned short nr)
{
	switch (nr) {
	case SYS_ioctl:
		return SECCOMP_RET_ERRNO | ENOTTY;
	case SYS_socket:
		return SECCOMP_RET_ERRNO | EPERM;
	default:
		return SECCOMP_RET_KILL_PROCESS;
	}
}

/* Goes on behind the rules of one argument, from *i on, if one of them fits. */
static void check_arg(struct program *p, size_t *i)
{
	const struct arg_rule *r = &limited[*i];
	size_t n = 0;

	while (*i + n < ARRAY_LEN(limited) && r[n].nr == r->nr && r[n].arg == r->arg)
		n++;
	for (size_t k = 0; k < n; k++) {
		unsigned int value = r->nr == SYS_tgkill ? (unsigned int)getpid() : r[k].value;
		unsigned char to_end = (unsigned char)(3 * (n - 1 - k) + 1);

		emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_ARG(r->arg)));
		emit(p, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, r[k].mask));
		emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, to_end, 0));
	}
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, refusal(r->nr)));
	*i += n;
}

/* The rules of one call, from *i on. */
static void answer_limited(struct program *p, size_t *i)
{
	unsigned short nr = limited[*i].nr, jump = p->len;

	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 0));
	while (*i < ARRAY_LEN(limited) && limited[*i].nr == nr)
		check_arg(p, i);
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	p->code[jump].jf = (unsigned char)(p->len - jump - 1);
}

int seccomp_enter(void)
{
	struct program p = { .len = 0 };
	struct sock_fprog prog = { .filter = p.code };

	emit(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_ARCH));
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, DATA_NR));
	emit(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
		answer(&p, allowed[i], SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < ARRAY_LEN(limited);)
		answer_limited(&p, &i);
	for (size_t i = 0; i < ARRAY_LEN(hostile); i++)
		answer(&p, hostile[i], SECCOMP_RET_KILL_PROCESS);
	emit(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
	prog.len = p.len;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -errno : 0;
}
