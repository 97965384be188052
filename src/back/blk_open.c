/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "back/blk_priv.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/str.h"

#define SECTOR_MIN 512
#define SECTOR_MAX 8192

/* --- what the host says about the image --- */

/* A line of /sys/dev/block/MAJOR:MINOR/NAME. */
static int sys_block_read(dev_t dev, const char *name, char *out, size_t size)
{
	char path[128], *text;
	size_t len;
	int rc;

	if (snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(dev), minor(dev), name) >=
	    (int)sizeof(path))
		return -ENAMETOOLONG;
	rc = fd_read_file(path, 4096, &text, &len);
	if (rc < 0)
		return rc;
	text[strcspn(text, "\n")] = '\0';
	rc = str_copy(out, size, text);
	free(text);
	return rc;
}

/* Whether space can be given back. Asked beyond the end, where there is nothing to lose. */
static bool image_can_punch(int fd, const struct stat *st, uint64_t size)
{
	char text[32];
	uint64_t max;

	if (S_ISREG(st->st_mode))
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)ALIGN_UP(size, MIB), 4096) == 0;
	if (sys_block_read(st->st_rdev, "queue/write_zeroes_max_bytes", text, sizeof(text)) < 0 &&
	    sys_block_read(st->st_rdev, "../queue/write_zeroes_max_bytes", text, sizeof(text)) < 0)
		return false;
	return str_u64(text, &max) == 0 && max > 0;
}

/* Alignment that O_DIRECT asks for (statx since Linux 6.1), or a block. */
static uint32_t image_direct_align(int fd, uint32_t fallback)
{
	struct statx stx = { 0 };

	if (syscall(__NR_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) < 0 ||
	    !(stx.stx_mask & STATX_DIOALIGN) || !stx.stx_dio_offset_align)
		return MAX(fallback, 4096u);
	return MAX(stx.stx_dio_mem_align, stx.stx_dio_offset_align);
}

static int info_from_file(const struct stat *st, struct blk_info *info)
{
	uint32_t block = (uint32_t)st->st_blksize;

	info->size = (uint64_t)st->st_size;
	info->sector = SECTOR_MIN;
	info->physical_sector = block >= SECTOR_MIN && block <= 4096 ? block : 4096;
	return 0;
}

static int info_from_device(int fd, const char *path, struct blk_info *info, struct err *err)
{
	int logical;
	unsigned int physical;

	if (ioctl(fd, BLKGETSIZE64, &info->size) < 0 || ioctl(fd, BLKSSZGET, &logical) < 0 ||
	    ioctl(fd, BLKPBSZGET, &physical) < 0)
		return err_set(err, -errno, "%s: cannot get its size: %s", path, strerror(errno));
	info->sector = (uint32_t)logical;
	info->physical_sector = physical;
	return 0;
}

static bool sector_valid(uint64_t n)
{
	return n >= SECTOR_MIN && n <= SECTOR_MAX && !(n & (n - 1));
}

/* "L" or "L/P". */
static int info_set_sectors(const char *text, const char *path, struct blk_info *info,
			    struct err *err)
{
	char logical[16];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	uint64_t l, p;

	if (len >= sizeof(logical))
		goto bad;
	memcpy(logical, text, len);
	logical[len] = '\0';
	if (str_u64(logical, &l) < 0 || !sector_valid(l))
		goto bad;
	p = l;
	if (slash && (str_u64(slash + 1, &p) < 0 || !sector_valid(p) || p < l))
		goto bad;
	info->sector = (uint32_t)l;
	info->physical_sector = (uint32_t)p;
	return 0;
bad:
	return err_set(err, -EINVAL,
		       "%s: sectorsize=%s: give a power of two from %d to %d, and after a slash a "
		       "physical size not below it",
		       path, text, SECTOR_MIN, SECTOR_MAX);
}

static int info_check(const struct blk_info *info, const char *path, struct err *err)
{
	if (info->size == 0)
		return err_set(err, -EINVAL, "%s: the image is empty; size it with truncate -s",
			       path);
	if (info->size % info->sector)
		return err_set(err, -EINVAL,
			       "%s: its size of %llu bytes is not a multiple of the sector (%u); "
			       "extend it with truncate -s",
			       path, (unsigned long long)info->size, info->sector);
	return 0;
}

static const char *file_kind(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device";
	default:
		return "neither a file nor a block device";
	}
}

/* --- opening --- */

static int open_given(const struct blk_spec *spec, int *out, struct err *err)
{
	uint64_t n;
	int flags;

	if (str_u64(spec->path + 3, &n) < 0 || n > INT32_MAX ||
	    fcntl((int)n, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, -EBADF, "%s: no such open descriptor", spec->path);
	flags = fcntl((int)n, F_GETFL);
	if (!spec->ro && (flags & O_ACCMODE) != O_RDWR)
		return err_set(err, -EACCES, "%s: it is not open for writing; add the option ro",
			       spec->path);
	*out = (int)n;
	return 0;
}

/* O_NONBLOCK, so that a pipe or a modem cannot hang us; symbolic links are the user's business. */
static int open_path(const struct blk_spec *spec, int *out, struct err *err)
{
	int flags = (spec->ro ? O_RDONLY : O_RDWR) | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	int fd = open(spec->path, flags), rc = -errno;

	if (fd >= 0) {
		*out = fd;
		return 0;
	}
	if (rc == -EISDIR)
		return err_set(err, -EINVAL, "%s: it is a directory, not a disk image", spec->path);
	if (rc == -EACCES && !spec->ro && access(spec->path, R_OK) == 0)
		return err_set(err, rc,
			       "%s: no permission to write; add the option ro, or change its mode",
			       spec->path);
	return err_set(err, rc, "%s: cannot open it: %s", spec->path, strerror(-rc));
}

/* Somebody else may use a loop device's file directly: its lock is taken too. */
static int lock_backing_file(dev_t dev, bool ro, int *out, struct err *err)
{
	char path[1024];
	int fd, rc;

	if (sys_block_read(dev, "loop/backing_file", path, sizeof(path)) < 0)
		return 0;
	fd = open(path, (ro ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0; /* deleted or on another mount: nobody can name it */
	rc = blk_lock(fd, path, ro, err);
	if (rc < 0) {
		fd_close(&fd);
		return rc;
	}
	*out = fd;
	return 0;
}

/* Refuses what is in use otherwise: mounted, part of a RAID, or another machine's. */
static int claim_device(const char *path, int *fd, struct err *err)
{
	int claimed = open(path, O_RDWR | O_EXCL | O_CLOEXEC), rc = -errno;

	if (claimed < 0)
		return err_set(err, rc, "%s: cannot use the device alone: %s", path,
			       rc == -EBUSY ? "it is mounted or in use; unmount it first"
					    : strerror(-rc));
	fd_close(fd);
	*fd = claimed;
	return 0;
}

/* A second descriptor without O_DIRECT, and O_DIRECT on the first. */
static int image_go_direct(struct blk_image *im, const struct blk_spec *spec, uint32_t sector,
			   struct err *err)
{
	char path[64];
	int flags;

	if (snprintf(path, sizeof(path), "/proc/self/fd/%d", im->fd) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	im->cached_fd = open(path, (spec->ro ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (im->cached_fd < 0)
		return err_set(err, -errno, "%s: cannot open it a second time: %s", spec->path,
			       strerror(errno));
	flags = fcntl(im->fd, F_GETFL);
	if (flags < 0 || fcntl(im->fd, F_SETFL, flags | O_DIRECT) < 0)
		return err_set(
			err, -errno,
			"%s: its file system does not do O_DIRECT; remove the option nocache",
			spec->path);
	im->align = image_direct_align(im->fd, sector);
	return 0;
}

static int image_inspect(struct blk_image *im, const struct blk_spec *spec, const struct stat *st,
			 struct blk_info *info, struct err *err)
{
	int flags = fcntl(im->fd, F_GETFL), rc;

	/* io_uring and threads are to wait for the disk. */
	if (flags < 0 || fcntl(im->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return err_set(err, -errno, "%s: %s", spec->path, strerror(errno));
	rc = S_ISREG(st->st_mode) ? info_from_file(st, info)
				  : info_from_device(im->fd, spec->path, info, err);
	if (rc == 0 && spec->sectorsize)
		rc = info_set_sectors(spec->sectorsize, spec->path, info, err);
	if (rc == 0)
		rc = info_check(info, spec->path, err);
	if (rc < 0)
		return rc;
	info->read_only = spec->ro;
	info->write_zeroes = !spec->ro;
	info->discard = !spec->ro && !spec->nodelete && image_can_punch(im->fd, st, info->size);
	return 0;
}

static int image_open(const struct blk_spec *spec, struct blk_image *im, struct blk_info *info,
		      struct err *err)
{
	bool given = str_starts(spec->path, "fd:");
	struct stat st;
	int rc;

	rc = given ? open_given(spec, &im->fd, err) : open_path(spec, &im->fd, err);
	if (rc < 0)
		return rc;
	if (fstat(im->fd, &st) < 0)
		return err_set(err, -errno, "%s: %s", spec->path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, -EINVAL, "%s: it is %s, not a disk image", spec->path,
			       file_kind(st.st_mode));
	if (S_ISBLK(st.st_mode) && !spec->ro && !given) {
		rc = claim_device(spec->path, &im->fd, err);
		if (rc < 0)
			return rc;
	}
	rc = blk_lock(im->fd, spec->path, spec->ro, err);
	if (rc == 0 && S_ISBLK(st.st_mode))
		rc = lock_backing_file(st.st_rdev, spec->ro, &im->lock_fd, err);
	if (rc == 0)
		rc = image_inspect(im, spec, &st, info, err);
	if (rc == 0 && spec->nocache)
		rc = image_go_direct(im, spec, info->sector, err);
	return rc;
}

static struct blk *open_mem(struct loop *l, const struct blk_spec *spec, struct err *err)
{
	struct blk_info info = { .sector = SECTOR_MIN };
	struct blk *b;

	if (str_size(spec->path + 4, 1, &info.size) < 0) {
		err_set(err, -EINVAL, "%s: give a size, such as mem:64M", spec->path);
		return NULL;
	}
	if (spec->sectorsize && info_set_sectors(spec->sectorsize, spec->path, &info, err) < 0)
		return NULL;
	if (info_check(&info, spec->path, err) < 0)
		return NULL;
	b = blk_open_mem(l, info.size, info.sector);
	if (!b) {
		err_set(err, -ENOMEM, "%s: out of memory", spec->path);
		return NULL;
	}
	if (info.physical_sector)
		b->info.physical_sector = info.physical_sector;
	b->info.read_only = spec->ro;
	b->info.discard = !spec->ro && !spec->nodelete;
	return b;
}

static struct blk *open_any(struct loop *l, const struct blk_spec *spec, struct err *err)
{
	struct blk_image im = { .fd = -1, .cached_fd = -1, .lock_fd = -1, .align = 1 };
	struct blk_info info = { 0 };

	if (!spec->path || !*spec->path) {
		err_set(err, -EINVAL, "no disk image given; set path");
		return NULL;
	}
	if (str_starts(spec->path, "mem:"))
		return open_mem(l, spec, err);
	if (image_open(spec, &im, &info, err) < 0) {
		fd_close(&im.cached_fd);
		fd_close(&im.lock_fd);
		fd_close(&im.fd);
		return NULL;
	}
	return blk_file_new(l, &im, &info, spec, err);
}

struct blk *blk_open(struct loop *l, const struct blk_spec *spec, struct err *err)
{
	struct blk_spec own = *spec;
	struct blk *b;

	if (spec->cache == BLK_CACHE_UNSAFE && spec->sync) {
		err_set(err, -EINVAL, "%s: sync and cache=unsafe exclude each other",
			spec->path ? spec->path : "disk");
		return NULL;
	}
	own.nocache |= spec->cache == BLK_CACHE_NONE;
	b = open_any(l, &own, err);
	if (!b)
		return NULL;
	b->unsafe = spec->cache == BLK_CACHE_UNSAFE;
	b->on_nospace = spec->on_nospace;
	b->on_error = spec->on_error;
	b->durable = spec->sync;
	return b;
}
