/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_BLK_PRIV_H
#define BACK_BLK_PRIV_H

#include "back/blk.h"
#include "loop/loop.h"
#include "util/list.h"
#include "util/macros.h"

struct blk_ops {
	/* A request that passed the checks of blk_submit(). Answered through blk_done(), not inside. */
	void (*submit)(struct blk *b, struct blk_req *r);
	void (*close)(struct blk *b); /* frees the instance; nothing is in flight */
	/* How large the image is now. NULL: its size is what it is. */
	int (*size)(const struct blk *b, uint64_t *size);
};

/* First member of every engine's instance. Loop's thread only. */
struct blk {
	const struct blk_ops *ops;
	struct loop *loop;
	struct blk_info info;
	char *path; /* owned: info.path */
	struct blk_stats stats;
	bool failed; /* sticky: a flush or FUA write has failed */
	bool unsafe; /* nothing is flushed */
	bool durable; /* every write is durable: it fails as a flush does */
	void (*enter)(void *), (*leave)(void *);
	void *batch_arg;
	struct blk_work *done, **done_end; /* results waiting to be told, oldest first */
	struct loop_post post; /* tells them */
	struct loop_idle idle; /* tells them at the end of the step that brought them */
	/* blk_policy.c */
	int on_nospace, on_error;
	int trouble; /* -errno that began it, 0: none */
	enum blk_op trouble_op;
	bool stop, giving_up;
	struct list parked; /* struct blk_work, failed and kept */
	unsigned int retrying; /* taken from there and on their way again */
	struct loop_timer retry;
	void (*changed)(void *);
	void *changed_arg;
};

/* Where a request stands: not the engine's (refused, or given up), the engine's, there once more. */
enum blk_run { BLK_REFUSED, BLK_RUNS, BLK_RUNS_AGAIN };

enum blk_phase { BLK_XFER, BLK_SYNC, BLK_PUNCH, BLK_ZERO_RANGE, BLK_ZERO_WRITE };

/* What an engine keeps per request, in req->priv. */
struct blk_work {
	struct loop_io io; /* file engines: the system call that is to be made next */
	struct blk *b;
	struct list link;
	struct blk_work *next; /* in blk.done */
	uint64_t moved; /* bytes done so far */
	struct iovec part;
	int res;
	uint16_t tries;
	uint8_t phase;
	uint8_t run; /* enum blk_run */
	bool probing; /* file engines: a durable write had no space; looks whether it was the write */
};

_Static_assert(sizeof(struct blk_work) <= sizeof(((struct blk_req *)0)->priv), "blk_req.priv");

static inline struct blk_work *blk_work_of(struct blk_req *r)
{
	return (struct blk_work *)(void *)r->priv;
}

static inline struct blk_req *blk_req_of(struct blk_work *w)
{
	return container_of((void **)(void *)w, struct blk_req, priv[0]);
}

/* For engines. info and path are set by the caller. */
void blk_init(struct blk *b, const struct blk_ops *ops, struct loop *l);
void blk_fini(struct blk *b);
/* The request's result, from anywhere on the loop's thread: told by a post. */
void blk_done(struct blk_req *r, int res);
/* The same from a callback of the loop: told at the end of this step, in one batch with others. */
void blk_done_step(struct blk_req *r, int res);

/* blk_policy.c */
void blk_policy_init(struct blk *b);
void blk_policy_fini(struct blk *b);
/* Looks at a result before it is told. True: the request is kept. */
bool blk_policy_keeps(struct blk *b, struct blk_work *w, int res);
/* After results were told: the trouble may be over. */
void blk_policy_look(struct blk *b);

/* blk_open.c: an open image, checked and locked. */
struct blk_image {
	int fd;
	int cached_fd; /* the same file without O_DIRECT, for requests that it cannot take; -1 without nocache */
	int lock_fd; /* backing file of a loop device, -1: none */
	uint32_t align; /* of memory, offset and length with O_DIRECT */
};

/* blk_file.c: the engines for images. Takes the descriptors of image over, also on failure. */
struct blk *blk_file_new(struct loop *l, const struct blk_image *image, const struct blk_info *info,
			 const struct blk_spec *spec, struct err *err);

/* blk_lock.c: whole-file OFD lock, a read lock if read_only. -EBUSY with a text that names the holder. */
int blk_lock(int fd, const char *path, bool read_only, struct err *err);

#endif
