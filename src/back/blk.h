/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_BLK_H
#define BACK_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/list.h"

struct err;
struct loop;

/*
 * A disk on the host: a raw file, a block device, memory, or a fault injector. The format is never probed. Requests
 * are asynchronous, vectored and batched; every accepted request completes exactly once, on the loop's thread, never
 * inside blk_submit. The caller owns the request and its iovecs until done.
 *
 * Rules kept by every engine: the size is fixed at open and no request changes it; short transfers are continued;
 * reads past a truncated end give an error; a failed flush or FUA write makes all later flushes and writes fail with
 * -EIO until blk_clear_error() ("sticky", as the kernel forgets the error after reporting it once).
 */
enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_WRITE_ZEROES };

enum blk_req_flags {
	BLK_FUA = 1 << 0, /* the write is on stable storage when done is called */
	BLK_UNMAP = 1 << 1, /* WRITE_ZEROES: space may be freed */
};

struct blk_req {
	enum blk_op op;
	unsigned int flags;
	/* bytes, multiples of the logical sector; len is the sum of the iovs for READ and WRITE */
	uint64_t offset, len;
	const struct iovec *iov;
	unsigned int iovcnt;
	/* res: 0 or -errno (-EIO, -ENOSPC, -EINVAL out of range or unaligned, -EROFS, -EOPNOTSUPP). */
	void (*done)(struct blk_req *req, int res);
	void *priv[16]; /* for the engine */
};

struct blk;

struct blk_info {
	uint64_t size; /* bytes */
	uint32_t sector; /* logical sector: 512..8192 */
	uint32_t physical_sector;
	bool read_only, discard, write_zeroes;
	const char *path; /* for messages */
};

/* How a disk is to be opened: the settings that all disk models share. */
struct blk_spec {
	/* file or block device; "fd:N" one already open, which the disk takes over; "mem:SIZE" a disk in memory */
	char *path;
	bool nocache; /* O_DIRECT */
	bool sync; /* O_SYNC */
	bool ro;
	bool nodelete; /* no discard */
	char *sectorsize; /* "L[/P]" */
};

/*
 * Key-table entries for a struct that has a `struct blk_spec` member; see conf/conf.h. The array form is for names like
 * "port.#.path": member_ is that of the first of count_ elements, stride_ bytes apart.
 */
#define BLK_SPEC_KEY(prefix_, name_, type_, member_, count_, stride_, ...)                  \
	{                                                                                   \
		.name = prefix_ name_, .offset = offsetof(type_, member_), .count = count_, \
		.stride = stride_, __VA_ARGS__                                              \
	}
#define BLK_SPEC_KEYS_ARRAY(prefix_, type_, member_, count_, stride_)                              \
	BLK_SPEC_KEY(prefix_, "path", type_, member_.path, count_, stride_, .type = CONF_STR,      \
		     .help = "image file or block device"),                                        \
		BLK_SPEC_KEY(prefix_, "nocache", type_, member_.nocache, count_, stride_,          \
			     .type = CONF_BOOL,                                                    \
			     .help = "bypass the host's page cache (O_DIRECT)"),                   \
		BLK_SPEC_KEY(prefix_, "sync", type_, member_.sync, count_, stride_,                \
			     .alias = prefix_ "direct", .type = CONF_BOOL,                         \
			     .help = "every write is durable (O_SYNC)"),                           \
		BLK_SPEC_KEY(prefix_, "ro", type_, member_.ro, count_, stride_, .type = CONF_BOOL, \
			     .help = "read-only"),                                                 \
		BLK_SPEC_KEY(prefix_, "nodelete", type_, member_.nodelete, count_, stride_,        \
			     .type = CONF_BOOL, .help = "do not offer discard to the guest"),      \
		BLK_SPEC_KEY(prefix_, "sectorsize", type_, member_.sectorsize, count_, stride_,    \
			     .type = CONF_STR, .help = "logical[/physical] sector size in bytes")
#define BLK_SPEC_KEYS(type_, member_) BLK_SPEC_KEYS_ARRAY("", type_, member_, 0, 0)

/*
 * Opens and locks the image (whole-file OFD lock: write lock, or read lock when read-only) and picks the engine: the
 * loop's ring, else a pool of threads. NULL with a text that says what to do on failure.
 */
struct blk *blk_open(struct loop *l, const struct blk_spec *spec, struct err *err);
/* size bytes of zeroed memory. */
struct blk *blk_open_mem(struct loop *l, uint64_t size, uint32_t sector);
/* Waits for nothing: no request may be in flight. NULL is fine. */
void blk_close(struct blk *b);
const struct blk_info *blk_info_get(const struct blk *b);

/* Loop's thread. Cannot fail: errors arrive through done. Requests past the end or on a read-only disk fail cleanly. */
void blk_submit(struct blk *b, struct blk_req *const *reqs, size_t n);

/*
 * Hooks around each batch of done calls, so that the owner takes its lock once and signals once per batch:
 * enter(arg); done...done; leave(arg).
 */
void blk_set_batch(struct blk *b, void (*enter)(void *), void (*leave)(void *), void *arg);

struct blk_stats {
	uint64_t accepted, completed, failed;
	uint64_t read_bytes, write_bytes, flushes;
};
void blk_stats_get(const struct blk *b, struct blk_stats *out);
/* A flush or FUA write has failed: nothing more is written until blk_clear_error(). */
bool blk_failed(const struct blk *b);
/* Forgets a sticky flush failure. */
void blk_clear_error(struct blk *b);

/* --- the fault engine, for tests: wraps another disk (and owns it) --- */
struct blk_fault {
	int fail_nth; /* fail the n-th valid request from now (1 = next) with fail_errno; 0: none; -1: all */
	int fail_errno; /* positive errno */
	int fail_op; /* only count requests of this enum blk_op; -1: any */
	bool hold; /* keep completions until blk_fault_release */
};
struct blk *blk_open_fault(struct loop *l, struct blk *inner);
void blk_fault_set(struct blk *b, const struct blk_fault *f);
/*
 * Lets go of up to n held requests from the index-th oldest on (0 = oldest): they complete at the next step of the loop.
 * Returns how many are still held.
 */
size_t blk_fault_release(struct blk *b, size_t index, size_t n);

#endif
