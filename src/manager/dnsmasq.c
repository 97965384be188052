/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/dnsmasq.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "manager/file.h"
#include "manager/nat_priv.h"
#include "manager/prog.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

/*
 * Files in the switch's folder. "process" says which process it is: its number, its start time and
 * the boot of the host, which together belong to no other process ever. It is written by that
 * process itself before it becomes dnsmasq, so that no command that is killed leaves one behind
 * that nobody knows. (dnsmasq closes every descriptor it is given, so it cannot hold a lock.)
 */
#define FILE_CONF "dnsmasq.conf"
#define FILE_LEASES "leases"
#define FILE_READY "pid"
#define FILE_PROCESS "process"

#define READY_MS 10000
#define POLL_MS 2
#define TERM_MS 3000
#define FILE_MAX (4u << 20)
/* RFC 1035 s2.3.4 */
#define LABEL_MAX 63
#define DOMAIN "vm"

static const char *ip_text(uint32_t addr, char out[INET_ADDRSTRLEN])
{
	struct in_addr a = { .s_addr = htonl(addr) };

	return inet_ntop(AF_INET, &a, out, INET_ADDRSTRLEN);
}

/* A guest's name as one label of DNS; "" if it cannot be one. */
static void make_label(const char *name, char out[LABEL_MAX + 1])
{
	size_t len = strlen(name);

	out[0] = '\0';
	if (len > LABEL_MAX)
		return;
	for (size_t i = 0; i <= len; i++)
		out[i] = (char)(name[i] == '.' || name[i] == '_' ? '-' : tolower(name[i]));
}

/* Guests that were copied have the same MAC address; dnsmasq wants to hear of it once. */
static bool is_repeated(const struct nat_net *net, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (strcasecmp(net->hosts[k].mac, net->hosts[i].mac) == 0)
			return true;
	}
	return false;
}

static void put_hosts(FILE *f, const struct nat_net *net)
{
	char a[INET_ADDRSTRLEN], label[LABEL_MAX + 1];

	for (size_t i = 0; i < net->n_hosts; i++) {
		const struct nat_host *h = &net->hosts[i];

		if (is_repeated(net, i))
			continue;
		make_label(h->guest, label);
		fprintf(f, "dhcp-host=%s", h->mac);
		if (h->offset)
			fprintf(f, ",%s", ip_text(net->net + h->offset, a));
		if (h->offset && net->v6)
			fprintf(f, ",[::%x]", h->offset);
		/* A name leads to one interface: the guest's first. Without domain, "ignore" or "12h" is no name. */
		if (label[0] && (i == 0 || strcmp(h->guest, h[-1].guest) != 0))
			fprintf(f, ",%s." DOMAIN, label);
		fputc('\n', f);
	}
}

static void put_ranges(FILE *f, const struct nat_net *net)
{
	char a[INET_ADDRSTRLEN], b[INET_ADDRSTRLEN], mask[INET_ADDRSTRLEN];
	char prefix[INET6_ADDRSTRLEN];
	struct in6_addr p = net->gateway6;

	fprintf(f, "dhcp-range=%s,%s,%s,12h\n", ip_text(net->net + nat_static_last(net) + 1, a),
		ip_text(net->net + nat_last(net), b),
		ip_text(net->len ? ~0u << (32 - net->len) : 0, mask));
	if (!net->v6)
		return;
	memset(p.s6_addr + 8, 0, 8);
	inet_ntop(AF_INET6, &p, prefix, sizeof(prefix));
	/* "::" ends the text of a prefix whose second half is zero. */
	fprintf(f, "enable-ra\ndhcp-range=%s1:0,%s1:ffff,slaac,ra-names,64,12h\n", prefix, prefix);
}

static void put_conf(FILE *f, const char *dir, const struct nat_net *net)
{
	fprintf(f, "# Made by vm for switch %s, interface %u: changes get lost.\n", net->name,
		if_nametoindex(net->bridge));
	fprintf(f, "interface=%s\nexcept-interface=lo\nbind-dynamic\n", net->bridge);
	fprintf(f, "pid-file=%s/" FILE_READY "\ndhcp-leasefile=%s/" FILE_LEASES "\n", dir, dir);
	/* Names are those of the guests, whatever a guest calls itself. */
	fputs("domain=" DOMAIN "\nlocal=/" DOMAIN
	      "/\nno-hosts\ndomain-needed\nbogus-priv\ndhcp-ignore-names\n",
	      f);
	fputs("dhcp-authoritative\nquiet-dhcp\nquiet-dhcp6\nquiet-ra\n", f);
	put_ranges(f, net);
	put_hosts(f, net);
}

static char *conf_text(const char *dir, const struct nat_net *net)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	put_conf(f, dir, net);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

/* True if the file holds that text. */
static bool has_text(const char *path, const char *text)
{
	char *old;
	size_t len;
	bool same;

	if (fd_read_file(path, FILE_MAX, &old, &len) < 0)
		return false;
	same = strcmp(old, text) == 0;
	free(old);
	return same;
}

/* What tells a process from all others, from field 22 of /proc/PID/stat and the boot. -ESRCH. */
static int process_text(pid_t pid, char *out, size_t size)
{
	char path[64], *text, *boot, *p;
	unsigned long long start = 0;
	size_t len;
	int r;

	if (snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid) < 0 ||
	    fd_read_file(path, 4096, &text, &len) < 0)
		return -ESRCH;
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		start = strtoull(p + 1, NULL, 10);
	free(text);
	r = fd_read_file("/proc/sys/kernel/random/boot_id", 256, &boot, &len);
	if (r < 0)
		return r;
	r = file_path(out, size, "%d %llu %s", (int)pid, start, boot);
	free(boot);
	return r;
}

static bool has_ended(int pidfd, int ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* Returns a descriptor of the process that dir's file names. -ESRCH: it is gone. */
static int open_process(const char *dir)
{
	char path[PATH_MAX], now[128], *text;
	pid_t pid;
	size_t len;
	int fd, r = file_path(path, sizeof(path), "%s/" FILE_PROCESS, dir);

	if (r < 0)
		return r;
	r = fd_read_file(path, sizeof(now) - 1, &text, &len);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	pid = (pid_t)strtol(text, NULL, 10);
	fd = pid > 1 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	/* The descriptor keeps the number from being used again while it is compared. */
	if (fd >= 0 &&
	    (process_text(pid, now, sizeof(now)) < 0 || strcmp(now, text) != 0 || has_ended(fd, 0)))
		fd_close(&fd);
	free(text);
	return fd < 0 ? -ESRCH : fd;
}

/* Whether the one that was started for this folder is alive. */
static bool is_alive(const char *dir)
{
	int fd = open_process(dir);
	bool alive = fd >= 0;

	fd_close(&fd);
	return alive;
}

/* SIGTERM, and SIGKILL if that does not help. */
static int end_process(int fd)
{
	if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	if (has_ended(fd, TERM_MS))
		return 0;
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	return has_ended(fd, TERM_MS) ? 0 : -ETIMEDOUT;
}

static void remove_file(const char *dir, const char *name)
{
	char path[PATH_MAX];

	if (file_path(path, sizeof(path), "%s/%s", dir, name) == 0)
		unlink(path);
}

int dnsmasq_down(const char *dir, struct err *err)
{
	int fd = open_process(dir), r;

	if (fd < 0)
		return fd == -ESRCH ? 0
				    : err_set(err, fd, "cannot read %s/" FILE_PROCESS ": %s", dir,
					      strerror(-fd));
	r = end_process(fd);
	close(fd);
	if (r < 0)
		return err_set(err, r, K(072) "cannot end dnsmasq of %s: %s", dir, strerror(-r));
	remove_file(dir, FILE_PROCESS);
	remove_file(dir, FILE_READY);
	return 0;
}

/* The host that an IPv4 address now belongs to, or NULL. */
static const struct nat_host *host_at(const struct nat_net *net, const char *address)
{
	struct in_addr a;

	if (inet_pton(AF_INET, address, &a) != 1)
		return NULL;
	for (size_t i = 0; i < net->n_hosts; i++) {
		if (net->hosts[i].offset && ntohl(a.s_addr) == net->net + net->hosts[i].offset)
			return &net->hosts[i];
	}
	return NULL;
}

/*
 * Leases of addresses that belong to another guest now would keep that one from its own. A line is
 * "EXPIRY MAC ADDRESS NAME ID".
 */
static int prune_leases(const char *dir, const struct nat_net *net, struct err *err)
{
	char path[PATH_MAX], *text = NULL, *out;
	size_t len = 0, kept = 0;
	int r = file_path(path, sizeof(path), "%s/" FILE_LEASES, dir);

	if (r == 0)
		r = fd_read_file(path, FILE_MAX, &text, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : err_set(err, r, "cannot read the leases in %s", dir);
	out = malloc(len + 1);
	for (char *p = text; out && p && *p;) {
		size_t n = strcspn(p, "\n");
		char mac[32], address[64];
		const struct nat_host *h = NULL;

		n += p[n] == '\n';
		if (sscanf(p, "%*s %31s %63s", mac, address) == 2)
			h = host_at(net, address);
		if (!h || strcasecmp(h->mac, mac) == 0) {
			memcpy(out + kept, p, n);
			kept += n;
		}
		p += n;
	}
	r = out ? 0 : err_set(err, -ENOMEM, K(080) "out of memory");
	if (r == 0 && kept != len)
		r = file_write_atomic(path, out, kept, 0644, err);
	free(out);
	free(text);
	return r;
}

/* In the child: becomes dnsmasq, in the foreground, so that it stays this process. */
static void become_dnsmasq(const char *path, const char *dir, int messages)
{
	char conf[PATH_MAX + 32], process[PATH_MAX], text[128];
	struct err err;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null >= 0 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && dup2(messages, 2) == 2 &&
	    setsid() >= 0 && chdir("/") == 0 &&
	    file_path(conf, sizeof(conf), "--conf-file=%s/" FILE_CONF, dir) == 0 &&
	    file_path(process, sizeof(process), "%s/" FILE_PROCESS, dir) == 0 &&
	    process_text(getpid(), text, sizeof(text)) == 0 &&
	    file_write_atomic(process, text, strlen(text), 0644, &err) == 0)
		execl(path, "dnsmasq", "--keep-in-foreground", conf, (char *)NULL);
	dprintf(messages, "cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* What a dnsmasq that ended at once has said. */
static int report_end(const char *name, int messages, struct err *err)
{
	char text[400] = "";
	ssize_t n = pread(messages, text, sizeof(text) - 1, 0);
	const char *line = text;

	if (n > 0)
		text[n] = '\0';
	line += strspn(line, "\n");
	text[(size_t)(line - text) + strcspn(line, "\n")] = '\0';
	return err_set(err, -EIO, K(072) "switch %s: %s", name,
		       *line ? line : "dnsmasq ended and does not say why");
}

/* It writes its pid file when all its sockets are open. process: -1 if it is gone already. */
static int wait_ready(const char *dir, const struct nat_net *net, int process, int messages,
		      struct err *err)
{
	uint64_t end = clock_mono_ns() + READY_MS * NS_PER_MS;
	char path[PATH_MAX];
	int r = file_path(path, sizeof(path), "%s/" FILE_READY, dir);

	while (r == 0 && process >= 0 && !has_ended(process, POLL_MS)) {
		if (access(path, F_OK) == 0)
			return 0;
		if (clock_mono_ns() >= end)
			return err_set(err, -ETIMEDOUT,
				       K(072) "switch %s: dnsmasq does not get ready", net->name);
	}
	remove_file(dir, FILE_PROCESS);
	return report_end(net->name, messages, err);
}

/*
 * Runs it as nobody's child, so that whoever started it need not wait for it. Returns a descriptor
 * of the process, or -errno.
 */
static int spawn(const char *path, const char *dir, int messages)
{
	pid_t pid, grandchild = 0;
	int pipes[2], fd;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0) {
		grandchild = fork();
		if (grandchild == 0)
			become_dnsmasq(path, dir, messages);
		_exit(fd_write_full(pipes[1], &grandchild, sizeof(grandchild)) < 0);
	}
	fd_close(&pipes[1]);
	if (pid > 0) {
		(void)fd_read_full(pipes[0], &grandchild, sizeof(grandchild));
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(&pipes[0]);
	if (grandchild <= 0)
		return -EAGAIN;
	fd = (int)syscall(SYS_pidfd_open, grandchild, 0);
	return fd < 0 ? -errno : fd;
}

static int start(const char *dir, const struct nat_net *net, struct err *err)
{
	int messages, process, r;
	char path[PATH_MAX];

	r = prog_find("dnsmasq", path, sizeof(path));
	if (r < 0)
		return err_set(err, r,
			       K(031) "switch %s has no DHCP and DNS: the program dnsmasq is not "
				      "installed (package dnsmasq-base)",
			       net->name);
	remove_file(dir, FILE_READY);
	messages = memfd_create("messages", MFD_CLOEXEC);
	process = messages < 0 ? -errno : spawn(path, dir, messages);
	if (process < 0 && process != -ESRCH)
		r = err_set(err, process, K(072) "cannot run dnsmasq: %s", strerror(-process));
	else
		r = wait_ready(dir, net, process, messages, err);
	fd_close(&process);
	fd_close(&messages);
	return r;
}

int dnsmasq_up(const char *dir, const struct nat_net *net, struct err *err)
{
	char path[PATH_MAX], *text = conf_text(dir, net);
	int r = file_path(path, sizeof(path), "%s/" FILE_CONF, dir);

	if (r < 0 || !text) {
		free(text);
		return err_set(err, -ENOMEM, K(080) "out of memory");
	}
	if (has_text(path, text) && is_alive(dir)) {
		free(text);
		return 0;
	}
	r = dnsmasq_down(dir, err);
	if (r == 0)
		r = prune_leases(dir, net, err);
	if (r == 0)
		r = file_write_atomic(path, text, strlen(text), 0644, err);
	free(text);
	return r < 0 ? r : start(dir, net, err);
}
