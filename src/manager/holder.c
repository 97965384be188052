/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/holder.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "manager/file.h"
#include "util/fd.h"
#include "util/str.h"

#define TABLE_MAX (16u << 20)
/* Socket states of /proc/net: a listening TCP socket, a UDP socket without peer. */
#define STATE_LISTEN 0x0a
#define STATE_BOUND 0x07

/* The IPv4 address of a line's hexadecimal address; one of IPv6 that takes IPv4 as well is 0. */
static bool read_addr(const char *hex, uint32_t *out)
{
	uint32_t words[4] = { 0 };

	if (strlen(hex) == 8) {
		if (sscanf(hex, "%8x", &words[0]) != 1)
			return false;
		*out = ntohl(words[0]);
		return true;
	}
	if (sscanf(hex, "%8x%8x%8x%8x", &words[0], &words[1], &words[2], &words[3]) != 4 ||
	    words[0] || words[1])
		return false;
	*out = ntohl(words[3]);
	return (!words[2] && !words[3]) || words[2] == htonl(0xffff);
}

/* The inode of a socket that has the port, or 0. */
static unsigned long find_socket(const char *path, uint32_t addr, uint16_t port, unsigned state)
{
	unsigned long inode, found = 0;
	unsigned local, st;
	char *text, hex[40];
	uint32_t a;
	size_t len;

	if (fd_read_file(path, TABLE_MAX, &text, &len) < 0)
		return 0;
	for (const char *p = strchr(text, '\n'); p && p[1] && !found; p = strchr(p + 1, '\n')) {
		if (sscanf(p + 1, " %*[^:]: %39[0-9A-F]:%x %*s %x %*s %*s %*s %*s %*s %lu", hex,
			   &local, &st, &inode) == 4 &&
		    local == port && st == state && read_addr(hex, &a) &&
		    (!a || !addr || a == addr))
			found = inode ? inode : 1;
	}
	free(text);
	return found;
}

/* Whether one of the process's descriptors is the socket. */
static bool has_socket(const char *pid, const char *want)
{
	char path[PATH_MAX], link[64];
	struct dirent *e;
	bool found = false;
	DIR *d;

	if (file_path(path, sizeof(path), "/proc/%s/fd", pid) < 0)
		return false;
	d = opendir(path);
	while (d && !found && (e = readdir(d))) {
		ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

		if (n > 0) {
			link[n] = '\0';
			found = strcmp(link, want) == 0;
		}
	}
	if (d)
		closedir(d);
	return found;
}

static int name_process(const char *pid, char *out, size_t size)
{
	char path[64], *name = NULL;
	size_t len;
	int r = file_path(path, sizeof(path), "/proc/%.20s/comm", pid);

	if (r == 0)
		r = fd_read_file(path, 256, &name, &len);
	if (r < 0 || !name)
		return r;
	name[strcspn(name, "\n")] = '\0';
	r = file_path(out, size, "%s (pid %s)", name, pid);
	free(name);
	return r;
}

static int name_holder(unsigned long inode, char *out, size_t size)
{
	char want[64];
	struct dirent *e;
	DIR *d;
	int r = file_path(want, sizeof(want), "socket:[%lu]", inode);

	if (r < 0)
		return r;
	r = -ENOENT;
	d = opendir("/proc");
	while (d && r < 0 && (e = readdir(d))) {
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && has_socket(e->d_name, want))
			r = name_process(e->d_name, out, size);
	}
	if (d)
		closedir(d);
	return r < 0 ? str_copy(out, size, "a program that is not yours") : 0;
}

int holder_find(uint32_t addr, uint16_t port, bool udp, char *out, size_t size)
{
	unsigned state = udp ? STATE_BOUND : STATE_LISTEN;
	unsigned long inode =
		find_socket(udp ? "/proc/self/net/udp" : "/proc/self/net/tcp", addr, port, state);

	if (!inode)
		inode = find_socket(udp ? "/proc/self/net/udp6" : "/proc/self/net/tcp6", addr, port,
				    state);
	if (!inode)
		return str_copy(out, size, "");
	return name_holder(inode, out, size);
}
