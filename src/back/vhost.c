/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/vhost.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mem/mem.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define NODE "/dev/vhost-net"
#define RINGS 2u
#define DROP_MAX 10000u /* more than taps queue */

/* What it has to know of virtio to be of use: INDIRECT_DESC, EVENT_IDX, VERSION_1, and of the card MRG_RXBUF. */
#define FEATURES (BIT64(28) | BIT64(29) | BIT64(32) | BIT64(15))

static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static int set_memory(int fd, const struct mem *m)
{
	const struct mem_region *r;
	size_t n = mem_regions(m, &r);
	_Alignas(struct vhost_memory)
		uint8_t room[sizeof(struct vhost_memory) +
			     MEM_MAX_REGIONS * sizeof(struct vhost_memory_region)] = { 0 };
	struct vhost_memory *table = (void *)room;

	table->nregions = (uint32_t)n;
	for (size_t i = 0; i < n; i++)
		table->regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = r[i].gpa,
			.memory_size = r[i].len,
			.userspace_addr = (uintptr_t)r[i].host,
		};
	return call(fd, VHOST_SET_MEM_TABLE, table);
}

int vhost_open(const struct mem *m, struct err *err)
{
	uint64_t features = 0;
	int fd = open(NODE, O_RDWR | O_CLOEXEC), rc;

	if (fd < 0)
		return err_set(err, -errno, "%s: %s%s", NODE, strerror(errno),
			       errno == ENOENT ? "; try: modprobe vhost_net" : "");
	rc = call(fd, VHOST_SET_OWNER, NULL);
	if (rc == 0)
		rc = call(fd, VHOST_GET_FEATURES, &features);
	if (rc == 0 && (features & FEATURES) != FEATURES)
		rc = -EOPNOTSUPP;
	if (rc == 0)
		rc = set_memory(fd, m);
	if (rc == 0)
		return fd;
	fd_close(&fd);
	return err_set(err, rc, "%s cannot be used: %s", NODE, strerror(-rc));
}

int vhost_set_call(int fd, unsigned int ring, int call_fd)
{
	struct vhost_vring_file file = { .index = ring, .fd = call_fd };

	return call(fd, VHOST_SET_VRING_CALL, &file);
}

static int set_ring(int fd, unsigned int i, const struct vhost_ring *r)
{
	struct vhost_vring_state num = { .index = i, .num = r->size };
	struct vhost_vring_state base = { .index = i, .num = r->next };
	struct vhost_vring_file kick = { .index = i, .fd = r->kick };
	struct vhost_vring_file broken = { .index = i, .fd = r->err };
	struct vhost_vring_addr addr = {
		.index = i,
		.desc_user_addr = (uintptr_t)r->desc,
		.avail_user_addr = (uintptr_t)r->avail,
		.used_user_addr = (uintptr_t)r->used,
	};
	int rc = call(fd, VHOST_SET_VRING_NUM, &num);

	if (rc == 0)
		rc = call(fd, VHOST_SET_VRING_BASE, &base);
	if (rc == 0)
		rc = call(fd, VHOST_SET_VRING_ADDR, &addr);
	if (rc == 0)
		rc = call(fd, VHOST_SET_VRING_KICK, &kick);
	if (rc == 0)
		rc = call(fd, VHOST_SET_VRING_ERR, &broken);
	return rc == 0 ? vhost_set_call(fd, i, r->call) : rc;
}

static int set_tap(int fd, unsigned int ring, int tap)
{
	struct vhost_vring_file file = { .index = ring, .fd = tap };

	return call(fd, VHOST_NET_SET_BACKEND, &file);
}

int vhost_start(int fd, uint64_t features, struct vhost_ring *rings, int tap)
{
	int rc;

	features &= FEATURES;
	rc = call(fd, VHOST_SET_FEATURES, &features);
	for (unsigned int i = 0; rc == 0 && i < RINGS; i++)
		rc = set_ring(fd, i, &rings[i]);
	if (rc < 0)
		return rc;
	for (unsigned int i = 0; rc == 0 && i < RINGS; i++)
		rc = set_tap(fd, i, tap);
	if (rc < 0)
		vhost_stop(fd, rings); /* the first may have run for a moment */
	return rc;
}

void vhost_stop(int fd, struct vhost_ring *rings)
{
	for (unsigned int i = 0; i < RINGS; i++) {
		struct vhost_vring_state base = { .index = i };

		(void)set_tap(fd, i, -1); /* waits until the ring is at rest */
		if (call(fd, VHOST_GET_VRING_BASE, &base) == 0)
			rings[i].next = (uint16_t)base.num;
	}
}

void vhost_drop_frames(int tap)
{
	uint8_t byte;

	/* With less than room for a header the tap drops a frame and says EINVAL. */
	for (unsigned int i = 0; i < DROP_MAX; i++)
		if (read(tap, &byte, sizeof(byte)) < 0 && errno != EINVAL)
			return;
}
