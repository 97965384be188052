/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "cmd/khyve-net/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cmd/khyve-net/seccomp.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/macros.h"

#define NOBODY 65534
#define MEMORY_MAX (768 * MIB) /* on top of what is in use */
#define RESOLV_CONF "/etc/resolv.conf"

/* Bytes of private writable memory in use, which is what RLIMIT_DATA counts; 0: unknown. */
static uint64_t data_size(void)
{
	char text[256];
	unsigned long pages = 0;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	fd_close(&fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	if (sscanf(text, "%*u %*u %*u %*u %*u %lu", &pages) != 1)
		return 0;
	return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int set_limit(__rlimit_resource_t what, uint64_t value)
{
	struct rlimit lim;

	if (getrlimit(what, &lim) < 0)
		return -errno;
	lim.rlim_max = MIN(lim.rlim_max, value);
	lim.rlim_cur = lim.rlim_max;
	return setrlimit(what, &lim) < 0 ? -errno : 0;
}

static int limit(unsigned int max_fds, struct err *err)
{
	uint64_t data = data_size();
	int r = set_limit(RLIMIT_NOFILE, max_fds);

	if (r == 0)
		r = set_limit(RLIMIT_CORE, 0);
	if (r == 0 && data)
		r = set_limit(RLIMIT_DATA, data + MEMORY_MAX);
	return r < 0 ? err_set(err, r, "cannot set limits: %s", strerror(-r)) : 0;
}

/* Root becomes nobody. The wish to die with the parent, which a change of identity cancels, is kept. */
static int drop_root(void)
{
	pid_t parent = getppid();
	int death = 0;

	prctl(PR_GET_PDEATHSIG, &death);
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		return -errno;
	if (death && prctl(PR_SET_PDEATHSIG, death) < 0)
		return -errno;
	if (death && getppid() != parent)
		raise(death);
	return 0;
}

/* In a user namespace, for example, somebody who is not root may have capabilities. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int drop_identity(struct err *err)
{
	int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;

	if (r == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		r = -errno;
	if (r == 0 && geteuid() == 0)
		r = drop_root();
	/* A user namespace may know root only: what is left then is to do without its capabilities. */
	if (r == -EINVAL || r == -EPERM)
		r = 0;
	if (r == 0)
		r = drop_capabilities();
	return r < 0 ? err_set(err, r, "cannot give up privileges: %s", strerror(-r)) : 0;
}

/* The file may be replaced at any time, so its folder is what stays readable. */
static void allow_resolv_conf(int ruleset)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE };
	char path[PATH_MAX], *slash;

	if (!realpath(RESOLV_CONF, path))
		return;
	slash = strrchr(path, '/');
	if (!slash || slash == path)
		return;
	*slash = '\0';
	rule.parent_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return;
	(void)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

/* Rights that came after the first Landlock; the kernel's headers may be older than the kernel. */
static uint64_t landlock_rights(long abi)
{
	uint64_t all = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1;

	if (abi >= 2)
		all |= 1ull << 13; /* refer */
	if (abi >= 3)
		all |= 1ull << 14; /* truncate */
	if (abi >= 5)
		all |= 1ull << 15; /* ioctl of devices */
	return all;
}

static int lock_files(struct err *err)
{
	/* As of ABI 6; older kernels take the beginning. */
	struct {
		uint64_t files, net, scopes;
	} attr = { 0 };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size = abi >= 6 ? sizeof(attr) : sizeof(attr.files);
	int fd, r = 0;

	if (abi < 1) {
		log_debug("jail", "this kernel has no Landlock");
		return 0;
	}
	attr.files = landlock_rights(abi);
	if (abi >= 6)
		attr.scopes = 3; /* abstract UNIX sockets, signals */
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return err_set(err, -errno, "Landlock: %s", strerror(errno));
	allow_resolv_conf(fd);
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = err_set(err, -errno, "Landlock: %s", strerror(errno));
	close(fd);
	return r;
}

int jail_enter(unsigned int max_fds, struct err *err)
{
	int r = limit(max_fds, err);

	if (r == 0)
		r = drop_identity(err);
	if (r == 0)
		r = lock_files(err);
	if (r == 0) {
		r = seccomp_enter();
		if (r < 0)
			err_set(err, r, "cannot filter system calls: %s", strerror(-r));
	}
	return r;
}
