/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "back/blk_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#define FILE_TRIES 100 /* of a system call that says EINTR or EAGAIN */
#define FILE_ZEROES (1 * MIB) /* written at a time where the file system cannot zero a range */
#define POOL_THREADS 2

/*
 * Images. A request is a row of system calls, each described by work->io: file_prepare() sets the next one up and
 * file_advance() looks at its result. Who makes the call is the difference between the two engines: the loop's ring, or
 * a small pool of threads where there is none.
 */
struct blk_file {
	struct blk b;
	struct blk_image image;
	void *zeroes;
	/* One flush runs at a time and serves all that came before it: the kernel reports a lost write only once. */
	struct list flush_wait; /* struct blk_work */
	struct blk_work *flush_active;
	/* the pool */
	pthread_t threads[POOL_THREADS];
	unsigned int nthreads;
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t cond;
	struct list todo, finished; /* struct blk_work */
	bool stop;
	struct loop_post reap;
};

static struct blk_file *file_of(struct blk *b)
{
	return container_of(b, struct blk_file, b);
}

/* --- the row of system calls --- */

static bool file_fua(const struct blk_file *f, const struct blk_req *r)
{
	return !f->b.unsafe && (f->b.durable || (r->flags & BLK_FUA));
}

/* The descriptor that can take this transfer: O_DIRECT wants everything aligned. */
static int file_fd(const struct blk_file *f, const struct loop_io *io)
{
	uint64_t bits = io->offset;

	if (f->image.cached_fd < 0)
		return f->image.fd;
	for (unsigned int i = 0; i < io->iovcnt; i++)
		bits |= (uintptr_t)io->iov[i].iov_base | io->iov[i].iov_len;
	return bits % f->image.align ? f->image.cached_fd : f->image.fd;
}

/* The vectors behind the first `moved` bytes: a rest of one vector alone, or a tail of the caller's array. */
static void file_rest(struct blk_work *w, const struct blk_req *r)
{
	uint64_t skip = w->moved;
	unsigned int i = 0;

	while (i < r->iovcnt && skip >= r->iov[i].iov_len)
		skip -= r->iov[i++].iov_len;
	assert(i < r->iovcnt);
	if (skip) {
		w->part.iov_base = (char *)r->iov[i].iov_base + skip;
		w->part.iov_len = r->iov[i].iov_len - skip;
		w->io.iov = &w->part;
		w->io.iovcnt = 1;
	} else {
		w->io.iov = &r->iov[i];
		w->io.iovcnt = MIN(r->iovcnt - i, IOV_MAX);
	}
}

static void file_prepare(struct blk_file *f, struct blk_work *w, enum blk_phase phase)
{
	const struct blk_req *r = blk_req_of(w);
	struct loop_io *io = &w->io;

	w->phase = (uint8_t)phase;
	io->fd = f->image.fd;
	io->offset = r->offset + w->moved;
	io->len = r->len;
	io->flags = 0;
	io->nowait = false;
	switch (phase) {
	case BLK_XFER:
		io->op = r->op == BLK_READ ? LOOP_OP_READV : LOOP_OP_WRITEV;
		io->flags = r->op == BLK_WRITE && file_fua(f, r) ? RWF_DSYNC : 0;
		file_rest(w, r);
		io->fd = file_fd(f, io);
		break;
	case BLK_ZERO_WRITE:
		io->op = LOOP_OP_WRITEV;
		io->flags = file_fua(f, r) ? RWF_DSYNC : 0;
		w->part.iov_base = f->zeroes;
		w->part.iov_len = MIN(r->len - w->moved, FILE_ZEROES);
		io->iov = &w->part;
		io->iovcnt = 1;
		io->fd = file_fd(f, io);
		break;
	case BLK_SYNC:
		io->op = LOOP_OP_FSYNC;
		io->flags = 1; /* data only */
		break;
	case BLK_PUNCH:
		io->op = LOOP_OP_FALLOCATE;
		io->flags = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
		break;
	case BLK_ZERO_RANGE:
		io->op = LOOP_OP_FALLOCATE;
		io->flags = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
		break;
	}
}

static enum blk_phase file_first_phase(const struct blk_req *r)
{
	switch (r->op) {
	case BLK_FLUSH:
		return BLK_SYNC;
	case BLK_DISCARD:
		return BLK_PUNCH;
	case BLK_WRITE_ZEROES:
		return r->flags & BLK_UNMAP ? BLK_PUNCH : BLK_ZERO_RANGE;
	default:
		return BLK_XFER;
	}
}

static bool file_finish(struct blk_work *w, int res)
{
	w->res = res;
	return true;
}

static bool file_next(struct blk_file *f, struct blk_work *w, enum blk_phase phase)
{
	file_prepare(f, w, phase);
	return false;
}

static bool file_advance_range(struct blk_file *f, struct blk_work *w, int res)
{
	const struct blk_req *r = blk_req_of(w);

	if (res == 0)
		return file_fua(f, r) ? file_next(f, w, BLK_SYNC) : file_finish(w, 0);
	if (res != -EOPNOTSUPP || r->op == BLK_DISCARD)
		return file_finish(w, res);
	return file_next(f, w, w->phase == BLK_PUNCH ? BLK_ZERO_RANGE : BLK_ZERO_WRITE);
}

/*
 * A durable write says that there is no space: if a plain one says so too, nothing was written and nothing is lost. Else
 * it was the kernel that could not write out what it had taken before.
 */
static bool file_probe(struct blk_work *w)
{
	w->probing = true;
	w->io.flags = 0;
	return false;
}

/* Result of the call that w->io describes. True: w->res is the request's result. False: w->io is to be made. */
static bool file_advance(struct blk_file *f, struct blk_work *w, int res)
{
	const struct blk_req *r = blk_req_of(w);

	if ((res == -EINTR || res == -EAGAIN) && w->tries++ < FILE_TRIES)
		return false;
	switch ((enum blk_phase)w->phase) {
	case BLK_SYNC:
		return file_finish(w, res);
	case BLK_PUNCH:
	case BLK_ZERO_RANGE:
		return file_advance_range(f, w, res);
	case BLK_XFER:
	case BLK_ZERO_WRITE:
		break;
	}
	if (res == -ENOSPC && w->io.flags & RWF_DSYNC)
		return file_probe(w);
	if (res < 0)
		return file_finish(w, res);
	if (w->probing)
		return file_finish(w, -EIO);
	if (res == 0) /* reads: the file became shorter under us */
		return file_finish(w, -EIO);
	w->moved += (unsigned int)res;
	assert(w->moved <= r->len);
	if (w->moved == r->len)
		return file_finish(w, 0);
	return file_next(f, w, (enum blk_phase)w->phase);
}

/* The result as a model wants it; the reason goes to the log. */
static int file_result(const struct blk_file *f, const struct blk_work *w)
{
	static const char *const names[] = { [BLK_READ] = "read",
					     [BLK_WRITE] = "write",
					     [BLK_FLUSH] = "flush",
					     [BLK_DISCARD] = "discard",
					     [BLK_WRITE_ZEROES] = "write zeroes" };
	const struct blk_req *r = blk_req_of((struct blk_work *)(uintptr_t)w);

	if (w->res == 0)
		return 0;
	log_limited(LOG_LEVEL_WARN, "disk", "%s: %s of %llu bytes at %llu: %s", f->b.info.path,
		    names[r->op], (unsigned long long)r->len, (unsigned long long)r->offset,
		    strerror(-w->res));
	if (w->res == -EDQUOT)
		return -ENOSPC;
	return w->res == -ENOSPC || w->res == -EOPNOTSUPP ? w->res : -EIO;
}

/* --- flushes, one at a time --- */

static void file_launch(struct blk_file *f, struct blk_work *w);

static void file_flush_start(struct blk_file *f)
{
	if (f->flush_active || list_empty(&f->flush_wait))
		return;
	f->flush_active = list_first(&f->flush_wait, struct blk_work, link);
	list_remove(&f->flush_active->link);
	file_launch(f, f->flush_active);
}

/* Loop's thread, inside a callback. */
static void file_complete(struct blk_file *f, struct blk_work *w)
{
	int res = file_result(f, w);

	blk_done_step(blk_req_of(w), res);
	if (w != f->flush_active)
		return;
	f->flush_active = NULL;
	if (res < 0) {
		while (!list_empty(&f->flush_wait)) {
			struct blk_work *next = list_first(&f->flush_wait, struct blk_work, link);

			list_remove(&next->link);
			blk_done_step(blk_req_of(next), -EIO);
		}
	}
	file_flush_start(f);
}

static void file_submit(struct blk *b, struct blk_req *r)
{
	struct blk_file *f = file_of(b);
	struct blk_work *w = blk_work_of(r);

	w->moved = 0;
	w->tries = 0;
	w->probing = false;
	file_prepare(f, w, file_first_phase(r));
	if (r->op != BLK_FLUSH) {
		file_launch(f, w);
		return;
	}
	list_append(&f->flush_wait, &w->link);
	file_flush_start(f);
}

/* --- on the loop's ring --- */

static void ring_done(struct loop_io *io, int res)
{
	struct blk_work *w = container_of(io, struct blk_work, io);
	struct blk_file *f = file_of(w->b);

	if (file_advance(f, w, res))
		file_complete(f, w);
	else
		loop_io_submit(f->b.loop, io);
}

/* --- on threads --- */

static int pool_call(const struct loop_io *io)
{
	ssize_t n = -1;

	switch (io->op) {
	case LOOP_OP_READV:
		n = preadv2(io->fd, io->iov, (int)io->iovcnt, (off_t)io->offset, io->flags);
		break;
	case LOOP_OP_WRITEV:
		n = pwritev2(io->fd, io->iov, (int)io->iovcnt, (off_t)io->offset, io->flags);
		break;
	case LOOP_OP_FSYNC:
		n = fdatasync(io->fd);
		break;
	case LOOP_OP_FALLOCATE:
		n = fallocate(io->fd, io->flags, (off_t)io->offset, (off_t)io->len);
		break;
	}
	return n < 0 ? -errno : (int)n;
}

static void *pool_main(void *arg)
{
	struct blk_file *f = arg;

	pthread_mutex_lock(&f->lock);
	for (;;) {
		struct blk_work *w;

		while (!f->stop && list_empty(&f->todo))
			pthread_cond_wait(&f->cond, &f->lock);
		if (list_empty(&f->todo))
			break;
		w = list_first(&f->todo, struct blk_work, link);
		list_remove(&w->link);
		pthread_mutex_unlock(&f->lock);
		while (!file_advance(f, w, pool_call(&w->io)))
			;
		pthread_mutex_lock(&f->lock);
		list_append(&f->finished, &w->link);
		loop_post(&f->reap);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

static void pool_reap(struct loop_post *p)
{
	struct blk_file *f = container_of(p, struct blk_file, reap);

	pthread_mutex_lock(&f->lock);
	while (!list_empty(&f->finished)) {
		struct blk_work *w = list_first(&f->finished, struct blk_work, link);

		list_remove(&w->link);
		pthread_mutex_unlock(&f->lock);
		file_complete(f, w);
		pthread_mutex_lock(&f->lock);
	}
	pthread_mutex_unlock(&f->lock);
}

static int pool_start(struct blk_file *f, struct err *err)
{
	for (; f->nthreads < POOL_THREADS; f->nthreads++) {
		int r = thread_start(&f->threads[f->nthreads], pool_main, f);

		if (r < 0)
			return err_set(err, r, "%s: cannot start a thread: %s", f->b.info.path,
				       strerror(-r));
	}
	return 0;
}

static void pool_stop(struct blk_file *f)
{
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
	for (unsigned int i = 0; i < f->nthreads; i++)
		pthread_join(f->threads[i], NULL);
}

/* --- common --- */

static void file_launch(struct blk_file *f, struct blk_work *w)
{
	if (!f->nthreads) {
		w->io.done = ring_done;
		loop_io_submit(f->b.loop, &w->io);
		return;
	}
	pthread_mutex_lock(&f->lock);
	list_append(&f->todo, &w->link);
	pthread_cond_signal(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void file_close(struct blk *b)
{
	struct blk_file *f = file_of(b);

	pool_stop(f);
	loop_post_cancel(&f->reap);
	fd_close(&f->image.cached_fd);
	fd_close(&f->image.lock_fd);
	fd_close(&f->image.fd);
	if (f->zeroes)
		munmap(f->zeroes, FILE_ZEROES);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->cond);
	blk_fini(b);
	free(f);
}

static int file_size(const struct blk *b, uint64_t *size)
{
	const struct blk_file *f = container_of(b, struct blk_file, b);
	struct stat st;

	if (fstat(f->image.fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(f->image.fd, BLKGETSIZE64, size) < 0 ? -errno : 0;
	*size = (uint64_t)st.st_size;
	return 0;
}

struct blk *blk_file_new(struct loop *l, const struct blk_image *image, const struct blk_info *info,
			 const struct blk_spec *spec, struct err *err)
{
	static const struct blk_ops ops = { .submit = file_submit,
					    .close = file_close,
					    .size = file_size };
	struct blk_file *f = calloc(1, sizeof(*f));

	assert(f); /* a start-time allocation of a few hundred bytes */
	f->image = *image;
	list_init(&f->flush_wait);
	list_init(&f->todo);
	list_init(&f->finished);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	blk_init(&f->b, &ops, l);
	loop_post_init(l, &f->reap, pool_reap);
	f->b.info = *info;
	f->b.path = strdup(spec->path);
	f->b.info.path = f->b.path ? f->b.path : "disk";
	f->zeroes = mmap(NULL, FILE_ZEROES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (f->zeroes == MAP_FAILED) {
		f->zeroes = NULL;
		err_set(err, -ENOMEM, "%s: out of memory", f->b.info.path);
		goto fail;
	}
	if (loop_engine_get(l) != LOOP_URING && pool_start(f, err) < 0)
		goto fail;
	return &f->b;
fail:
	file_close(&f->b);
	return NULL;
}
