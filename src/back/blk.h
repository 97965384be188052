/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BACK_BLK_H
#define BACK_BLK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "util/clock.h"
#include "util/list.h"

struct err;
struct loop;

/*
 * A disk on the host: a raw file, a block device, memory, or a fault injector. The format is never probed. Requests
 * are asynchronous, vectored and batched; every accepted request completes exactly once, on the loop's thread, never
 * inside blk_submit. The caller owns the request and its iovecs until done.
 *
 * Rules kept by every engine: the size is fixed at open and no request changes it (blk_grow does); short transfers are continued;
 * reads past a truncated end give an error; a failed flush or FUA write makes all later flushes and writes fail with
 * -EIO until blk_clear_error() ("sticky", as the kernel forgets the error after reporting it once).
 *
 * A request that fails may be kept instead of told, as on_nospace and on_error say: see struct blk_trouble.
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
	bool transient; /* what it holds is gone when it is closed */
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
	int cache; /* enum blk_cache */
	int on_nospace; /* enum blk_on_nospace */
	int on_error; /* enum blk_on_error */
};

/* NONE is nocache; UNSAFE: flushes do nothing, so that a crash of the host may lose what the guest has flushed. */
enum blk_cache { BLK_CACHE_WRITEBACK, BLK_CACHE_NONE, BLK_CACHE_UNSAFE };
extern const char *const blk_cache_choices[];

/* What becomes of a request that the host has no space for, or that it fails otherwise. */
enum blk_on_nospace { BLK_NOSPACE_PAUSE, BLK_NOSPACE_ERROR };
enum blk_on_error { BLK_ERROR_REPORT, BLK_ERROR_PAUSE, BLK_ERROR_STOP };
extern const char *const blk_on_nospace_choices[], *const blk_on_error_choices[];

/*
 * Key-table entries for a struct that has a `struct blk_spec` member; see conf/conf.h. The array form is for names like
 * "port.#.path": member_ is that of the first of count_ elements, stride_ bytes apart.
 */
#define BLK_SPEC_KEY(prefix_, name_, type_, member_, count_, stride_, ...)                  \
	{                                                                                   \
		.name = prefix_ name_, .offset = offsetof(type_, member_), .count = count_, \
		.stride = stride_, __VA_ARGS__                                              \
	}
#define BLK_SPEC_KEYS_ARRAY(prefix_, type_, member_, count_, stride_)                                \
	BLK_SPEC_KEY(prefix_, "path", type_, member_.path, count_, stride_, .type = CONF_STR,        \
		     .help = "image file or block device"),                                          \
		BLK_SPEC_KEY(prefix_, "nocache", type_, member_.nocache, count_, stride_,            \
			     .type = CONF_BOOL,                                                      \
			     .help = "bypass the host's page cache (O_DIRECT)"),                     \
		BLK_SPEC_KEY(prefix_, "sync", type_, member_.sync, count_, stride_,                  \
			     .alias = prefix_ "direct", .type = CONF_BOOL,                           \
			     .help = "every write is durable (O_SYNC)"),                             \
		BLK_SPEC_KEY(prefix_, "ro", type_, member_.ro, count_, stride_, .type = CONF_BOOL,   \
			     .help = "read-only"),                                                   \
		BLK_SPEC_KEY(prefix_, "nodelete", type_, member_.nodelete, count_, stride_,          \
			     .type = CONF_BOOL, .help = "do not offer discard to the guest"),        \
		BLK_SPEC_KEY(prefix_, "sectorsize", type_, member_.sectorsize, count_, stride_,      \
			     .type = CONF_STR, .help = "logical[/physical] sector size in bytes"),   \
		BLK_SPEC_KEY(                                                                        \
			prefix_, "cache", type_, member_.cache, count_, stride_,                     \
			.type = CONF_ENUM, .choices = blk_cache_choices,                             \
			.help = "writeback (default), none (nocache), or unsafe: no flushes"),       \
		BLK_SPEC_KEY(                                                                        \
			prefix_, "on_nospace", type_, member_.on_nospace, count_, stride_,           \
			.type = CONF_ENUM, .choices = blk_on_nospace_choices,                        \
			.help = "host out of space: pause (default) until there is some, or error"), \
		BLK_SPEC_KEY(                                                                        \
			prefix_, "on_error", type_, member_.on_error, count_, stride_,               \
			.type = CONF_ENUM, .choices = blk_on_error_choices,                          \
			.help = "other errors: report (default) to the guest, pause or stop it")
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

/*
 * Takes over the size that the image has now, which must not be smaller: 0, or -errno and err set. Loop's thread; the
 * owner tells its guest.
 */
int blk_grow(struct blk *b, struct err *err);

struct blk_stats {
	uint64_t accepted, completed, failed;
	uint64_t read_bytes, write_bytes, flushes;
};
void blk_stats_get(const struct blk *b, struct blk_stats *out);
/* A flush or FUA write has failed: nothing more is written until blk_clear_error(). */
bool blk_failed(const struct blk *b);
/* Forgets a sticky flush failure, and that blk_give_up() was called. */
void blk_clear_error(struct blk *b);

/*
 * What keeps a disk from working. Nobody is told and nothing is kept before blk_set_trouble(). With a policy to pause, the requests that failed are kept: the owner is to stop the
 * guest and calls blk_retry() when a person says so; those that want space are tried again every two seconds. A failed
 * flush is never tried again: it fails when the others are. With a policy to stop, the error is told and the owner is to
 * end the guest. changed(arg) is called on the loop's thread when trouble begins and when it is over.
 */
struct blk_trouble {
	int error; /* positive errno, 0: none */
	bool stop;
	char text[512]; /* for a person */
};
#define BLK_RETRY_NS (2 * NS_PER_SEC)
void blk_set_trouble(struct blk *b, void (*changed)(void *arg), void *arg);
bool blk_trouble_get(const struct blk *b, struct blk_trouble *out);
void blk_retry(struct blk *b);
/* Tells the errors of what is kept, and keeps nothing any more until blk_clear_error(). */
void blk_give_up(struct blk *b);

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
