/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "back/blk.h"
#include "loop/loop.h"
#include "run.h"
#include "util/err.h"

/* Images that cannot be opened, for reasons that are rarer than those of test_blk. */

static void refused(const struct blk_spec *spec, const char *text)
{
	struct loop *l = loop_new(LOOP_EPOLL, NULL);
	struct err err = { .text = "" };
	struct blk *b = blk_open(l, spec, &err);

	CHECK(!b);
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" does not say \"%s\"", err.text, text);
	loop_free(l);
}

static void memory(void)
{
	refused(&(struct blk_spec){ .path = (char[]){ "mem:4194304T" } },
		"mem:4194304T: out of memory");
	refused(&(struct blk_spec){ .path = (char[]){ "mem:1M" }, .sectorsize = (char[]){ "100" } },
		"sectorsize=100");
	refused(&(struct blk_spec){ .path = (char[]){ "mem:1000" } }, "not a multiple");
}

/* A descriptor for a UNIX socket, and a path of one. */
static void sockets(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/khyve-test-XXXXXX", text[16];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(mkdtemp(dir) != NULL);
	CHECK(snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/s", dir) > 0);
	CHECK_EQ(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	refused(&(struct blk_spec){ .path = addr.sun_path }, "cannot open it");
	unlink(addr.sun_path);
	rmdir(dir);
	snprintf(text, sizeof(text), "fd:%d", fd);
	refused(&(struct blk_spec){ .path = text }, "it is a socket, not a disk image");
}

/* A descriptor that names a file and opens nothing. */
static void path_only(void)
{
	char path[] = "/tmp/khyve-test-XXXXXX", text[16];
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, 4096), 0);
	close(fd);
	snprintf(text, sizeof(text), "fd:%d", open(path, O_PATH | O_CLOEXEC));
	refused(&(struct blk_spec){ .path = text, .ro = true }, "cannot lock it");
	unlink(path);
}

/* Files that the page cache cannot be left out of. */
static void no_direct(void)
{
	static char path[] = "/sys/kernel/uevent_seqnum";

	if (access(path, R_OK) < 0) {
		printf("skip %s: no sysfs here\n", test_run_.name);
		return;
	}
	refused(&(struct blk_spec){ .path = path, .ro = true, .nocache = true },
		"remove the option nocache");
	refused(&(struct blk_spec){ .path = path, .ro = true, .cache = BLK_CACHE_NONE },
		"remove the option nocache");
}

static const struct test_case cases[] = {
	{ "memory", memory },
	{ "sockets", sockets },
	{ "path_only", path_only },
	{ "no_direct", no_direct },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
