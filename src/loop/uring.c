/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "loop/loop_priv.h"
#include "util/clock.h"
#include "util/err.h"

#define URING_ENTRIES 256
#define URING_CQ_ENTRIES 1024

/*
 * user_data: the low three bits say what the rest is. A struct loop_io pointer has them clear. A poll carries slot
 * and generation, so a completion that was on its way when the watch was removed or changed finds nobody.
 */
enum uring_tag { TAG_IO = 0, TAG_POLL = 1, TAG_NONE = 2 };
#define TAG_MASK 7u
#define SLOT_BITS 24

struct uring_state {
	struct io_uring ring;
	bool enabled; /* the ring belongs to the thread that first enters it */
	bool cancel_all; /* one entry ends all reads of a descriptor (Linux 5.19) */
	int nowait_fd; /* its reads are to be ended before the next wait; -1: none */
	uint32_t *dirty; /* slots whose poll has to be looked at before the next wait */
	uint32_t ndirty, dirty_cap;
};

static uint64_t poll_data(uint32_t slot, uint32_t gen)
{
	return (uint64_t)gen << (SLOT_BITS + 3) | (uint64_t)slot << 3 | TAG_POLL;
}

/* The cheapest mode that the kernel has (6.1: completions only run when the loop asks for them). */
static int uring_setup(struct uring_state *u)
{
	static const unsigned int modes[] = {
		IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_R_DISABLED | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
		IORING_SETUP_R_DISABLED,
	};
	int rc = -EINVAL;

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]) && rc == -EINVAL; i++) {
		struct io_uring_params p = { .flags = modes[i] | IORING_SETUP_CQSIZE,
					     .cq_entries = URING_CQ_ENTRIES };

		rc = io_uring_queue_init_params(URING_ENTRIES, &u->ring, &p);
		if (rc == 0 && !(p.features & IORING_FEAT_EXT_ARG)) {
			io_uring_queue_exit(&u->ring);
			return -ENOSYS;
		}
		u->cancel_all = p.flags & IORING_SETUP_SINGLE_ISSUER; /* younger */
	}
	return rc;
}

static int uring_init(struct loop *l, struct err *err)
{
	struct uring_state *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return err_set(err, -ENOMEM, "out of memory");
	u->nowait_fd = -1;
	rc = uring_setup(u);
	if (rc < 0) {
		free(u);
		return err_set(err, rc, "cannot set up io_uring: %s", strerror(-rc));
	}
	l->engine = u;
	return 0;
}

/*
 * On the loop's thread, before its first system call on the ring. liburing 2.3 declares io_uring_enable_rings() but its
 * shared library does not export it.
 */
static void uring_enable(struct uring_state *u)
{
	long rc = syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS,
			  NULL, 0);

	assert(rc == 0);
	(void)io_uring_register_ring_fd(&u->ring); /* only spares a descriptor lookup */
	u->enabled = true;
}

static struct io_uring_sqe *uring_sqe(struct loop *l)
{
	struct uring_state *u = l->engine;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

	while (!sqe) {
		if (!u->enabled)
			uring_enable(u);
		l->stats.waits++;
		(void)io_uring_submit(&u->ring);
		sqe = io_uring_get_sqe(&u->ring);
	}
	return sqe;
}

/* --- descriptors --- */

static void uring_mark(struct loop *l, uint32_t slot)
{
	struct uring_state *u = l->engine;

	if (l->slots[slot].dirty)
		return;
	l->slots[slot].dirty = true;
	u->dirty[u->ndirty++] = slot;
}

/* Keeps room for one entry per slot, so that marking never allocates. */
static int uring_fd_update(struct loop *l, uint32_t slot)
{
	struct uring_state *u = l->engine;

	if (u->dirty_cap < l->nslots) {
		uint32_t *dirty = realloc(u->dirty, l->nslots * sizeof(*dirty));

		if (!dirty)
			return -ENOMEM;
		u->dirty = dirty;
		u->dirty_cap = l->nslots;
	}
	uring_mark(l, slot);
	return 0;
}

static void uring_disarm(struct loop *l, uint32_t slot)
{
	struct loop_slot *s = &l->slots[slot];
	struct io_uring_sqe *sqe = uring_sqe(l);

	io_uring_prep_poll_remove(sqe, poll_data(slot, s->gen));
	io_uring_sqe_set_data64(sqe, TAG_NONE);
	s->gen++;
	s->armed = 0;
	if (s->w)
		s->w->priv.gen = s->gen;
}

static void uring_fd_del(struct loop *l, uint32_t slot)
{
	if (l->slots[slot].armed)
		uring_disarm(l, slot);
}

static void uring_arm(struct loop *l, uint32_t slot)
{
	struct loop_slot *s = &l->slots[slot];
	struct io_uring_sqe *sqe;

	s->dirty = false;
	if (!s->w || s->armed == s->w->events)
		return;
	if (s->armed)
		uring_disarm(l, slot);
	if (!s->w->events)
		return;
	sqe = uring_sqe(l);
	if (s->w->events & EPOLLET)
		io_uring_prep_poll_multishot(sqe, s->w->fd, s->w->events & ~(unsigned int)EPOLLET);
	else
		io_uring_prep_poll_add(sqe, s->w->fd, s->w->events);
	io_uring_sqe_set_data64(sqe, poll_data(slot, s->gen));
	s->armed = s->w->events;
}

static int uring_poll_done(struct loop *l, uint64_t data, int res, unsigned int flags)
{
	uint32_t slot = (uint32_t)(data >> 3) & (BIT(SLOT_BITS) - 1);
	uint32_t gen = (uint32_t)(data >> (SLOT_BITS + 3));

	if (!l->slots[slot].w || l->slots[slot].gen != gen)
		return 0;
	/* A one-shot poll is armed again before the next wait, which makes it level-triggered. */
	if (!(flags & IORING_CQE_F_MORE)) {
		l->slots[slot].armed = 0;
		uring_mark(l, slot);
	}
	if (res == -ECANCELED)
		return 0; /* along with reads of the descriptor */
	return loop_slot_dispatch(l, slot, gen, res < 0 ? EPOLLERR : (unsigned int)res);
}

/* --- file I/O --- */

/*
 * Reads that would wait for data are ended at once by an entry behind them: one for all of a descriptor where the
 * kernel can, which then leaves no frame for a read that was submitted before another. What is done already is not found.
 */
static void uring_end_reads(struct loop *l)
{
	struct uring_state *u = l->engine;
	struct io_uring_sqe *sqe;
	int fd = u->nowait_fd;

	if (fd < 0)
		return;
	u->nowait_fd = -1;
	sqe = uring_sqe(l);
	io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_sqe_set_data64(sqe, TAG_NONE);
}

static void uring_end_read(struct loop *l, struct loop_io *io)
{
	struct uring_state *u = l->engine;
	struct io_uring_sqe *sqe;

	if (u->cancel_all) {
		u->nowait_fd = io->fd;
		return;
	}
	sqe = uring_sqe(l);
	io_uring_prep_cancel(sqe, io, 0);
	if (u->ring.features & IORING_FEAT_CQE_SKIP) /* Linux 5.17 */
		io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_sqe_set_data64(sqe, TAG_NONE);
}

static void uring_io_submit(struct loop *l, struct loop_io *io)
{
	struct uring_state *u = l->engine;
	struct io_uring_sqe *sqe;

	if (u->nowait_fd != io->fd || !io->nowait)
		uring_end_reads(l);
	sqe = uring_sqe(l);
	switch (io->op) {
	case LOOP_OP_READV:
		io_uring_prep_readv2(sqe, io->fd, io->iov, io->iovcnt, io->offset, io->flags);
		break;
	case LOOP_OP_WRITEV:
		io_uring_prep_writev2(sqe, io->fd, io->iov, io->iovcnt, io->offset, io->flags);
		break;
	case LOOP_OP_FSYNC:
		io_uring_prep_fsync(sqe, io->fd, (unsigned int)io->flags);
		break;
	case LOOP_OP_FALLOCATE:
		io_uring_prep_fallocate(sqe, io->fd, io->flags, (off_t)io->offset, (off_t)io->len);
		break;
	}
	io_uring_sqe_set_data(sqe, io);
	if (io->nowait)
		uring_end_read(l, io);
}

/* Nobody waits for its completion, so that it neither wakes the loop nor takes room. */
static bool uring_event_set(struct loop *l, int fd)
{
	static const uint64_t one = 1;
	struct uring_state *u = l->engine;
	struct io_uring_sqe *sqe;

	if (!(u->ring.features & IORING_FEAT_CQE_SKIP))
		return false;
	sqe = uring_sqe(l);
	io_uring_prep_write(sqe, fd, &one, sizeof(one), 0);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	io_uring_sqe_set_data64(sqe, TAG_NONE);
	return true;
}

static void uring_io_flush(struct loop *l)
{
	struct uring_state *u = l->engine;

	uring_end_reads(l);
	if (!io_uring_sq_ready(&u->ring))
		return;
	if (!u->enabled)
		uring_enable(u);
	l->stats.waits++;
	(void)io_uring_submit(&u->ring);
}

/* --- waiting --- */

static void uring_wait(struct loop *l, uint64_t timeout_ns)
{
	struct uring_state *u = l->engine;
	struct __kernel_timespec ts = { .tv_sec = (long long)(timeout_ns / NS_PER_SEC),
					.tv_nsec = (long long)(timeout_ns % NS_PER_SEC) };
	struct io_uring_cqe *cqe;

	if (!u->enabled)
		uring_enable(u);
	if (timeout_ns == 0) {
		uring_io_flush(l);
		(void)io_uring_peek_cqe(&u->ring, &cqe); /* runs completions that are due */
		return;
	}
	l->stats.waits++;
	(void)io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1,
					       timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
}

static int uring_cqe_done(struct loop *l, uint64_t data, int res, unsigned int flags)
{
	struct loop_io *io;

	if ((data & TAG_MASK) == TAG_POLL)
		return uring_poll_done(l, data, res, flags);
	if ((data & TAG_MASK) == TAG_NONE)
		return 0;
	io = (struct loop_io *)(uintptr_t)data;
	l->ios--;
	l->stats.callbacks++;
	io->done(io, res == -ECANCELED && io->nowait ? -EAGAIN : res);
	return 1;
}

static int uring_poll(struct loop *l, uint64_t timeout_ns)
{
	struct uring_state *u = l->engine;
	uint32_t ndirty = u->ndirty;
	struct io_uring_cqe *cqe;
	unsigned int n;
	int ran = 0;

	uring_end_reads(l); /* before watches of the same descriptor */
	u->ndirty = 0;
	for (uint32_t i = 0; i < ndirty; i++)
		uring_arm(l, u->dirty[i]);
	uring_wait(l, timeout_ns);
	/* Only what is there now: peeking at an empty queue may enter the kernel. */
	n = MIN(io_uring_cq_ready(&u->ring), LOOP_BATCH);
	for (; n > 0 && io_uring_peek_cqe(&u->ring, &cqe) == 0; n--) {
		uint64_t data = cqe->user_data;
		unsigned int flags = cqe->flags;
		int res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		ran += uring_cqe_done(l, data, res, flags);
	}
	return ran;
}

static void uring_fini(struct loop *l)
{
	struct uring_state *u = l->engine;
	struct io_uring_cqe *cqe;

	/* The kernel ends a ring in its own time: files whose watches are gone must not stay open until then. */
	if (u->enabled)
		uring_io_flush(l);
	while (u->enabled && io_uring_peek_cqe(&u->ring, &cqe) == 0)
		io_uring_cqe_seen(&u->ring, cqe);
	io_uring_queue_exit(&u->ring);
	free(u->dirty);
	free(u);
}

static uint64_t uring_now(struct loop *l)
{
	(void)l;
	return clock_mono_ns();
}

const struct loop_engine_ops loop_uring_ops = {
	.engine = LOOP_URING,
	.init = uring_init,
	.fini = uring_fini,
	.fd_update = uring_fd_update,
	.fd_del = uring_fd_del,
	.poll = uring_poll,
	.io_submit = uring_io_submit,
	.io_flush = uring_io_flush,
	.event_set = uring_event_set,
	.now = uring_now,
};
