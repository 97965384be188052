/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "manager/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager/prog.h"
#include "manager/progress.h"
#include "manager/storage.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

#define HEAD 512u
/* qcow2 specification, "Header": offsets, and the bit of a file whose data is in another one. */
#define QCOW2_BACKING 8
#define QCOW2_SIZE 24
#define QCOW2_CRYPT 32
#define QCOW2_INCOMPATIBLE 72
#define QCOW2_EXTERNAL_DATA 4u

/* Formats that are not raw, by what stands at an offset. */
static const struct {
	const char *name, *bytes;
	size_t at, len;
} foreign[] = {
	{ "vmdk", "KDMV", 0, 4 },
	{ "vmdk", "# Disk DescriptorFile", 0, 21 },
	{ "vhdx", "vhdxfile", 0, 8 },
	{ "vpc", "conectix", 0, 8 },
	{ "vdi", "\x7f\x10\xda\xbe", 64, 4 },
	{ "qed", "QED", 0, 4 },
};

static int probe_qcow2(const char *image, const uint8_t *head, struct disk_image *out,
		       struct err *err)
{
	uint32_t version = get_be32(head + 4);
	const char *why = NULL;

	if (version != 2 && version != 3)
		why = "is a qcow2 image of a version that is not known";
	else if (get_be64(head + QCOW2_BACKING))
		why = "is only what changed since another image, which it needs";
	else if (version == 3 && get_be64(head + QCOW2_INCOMPATIBLE) & QCOW2_EXTERNAL_DATA)
		why = "has its data in another file";
	else if (get_be32(head + QCOW2_CRYPT))
		why = "is encrypted";
	if (why)
		return err_set(err, -EINVAL,
			       "%s %s; make a whole one with 'qemu-img convert -O raw'", image,
			       why);
	*out = (struct disk_image){ .size = get_be64(head + QCOW2_SIZE) };
	return 0;
}

int disk_image_probe(const char *image, struct disk_image *out, struct err *err)
{
	uint8_t head[HEAD] = { 0 };
	int fd = open(image, O_RDONLY | O_CLOEXEC), r = 0;
	struct stat st = { 0 };
	off_t size = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		r = -errno;
	/* A block device has its size at its end. */
	if (r == 0 && (size = lseek(fd, 0, SEEK_END)) < 0)
		r = -errno;
	if (r == 0 && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		r = -EINVAL;
	if (r == 0)
		r = fd_pread_full(fd, head, MIN((size_t)size, sizeof(head)), 0);
	fd_close(&fd);
	if (r < 0)
		return err_set(err, r, "cannot read %s: %s", image, strerror(-r));
	if (memcmp(head, "QFI\xfb", 4) == 0)
		return probe_qcow2(image, head, out, err);
	for (size_t i = 0; i < ARRAY_LEN(foreign); i++) {
		if (memcmp(head + foreign[i].at, foreign[i].bytes, foreign[i].len) == 0)
			return err_set(err, -EINVAL,
				       "%s is a %s image; convert it: qemu-img convert -O raw",
				       image, foreign[i].name);
	}
	if (size == 0)
		return err_set(err, -EINVAL, "%s is empty", image);
	*out = (struct disk_image){ .raw = true, .size = (uint64_t)size };
	return 0;
}

static int copy_raw(const char *image, int to, struct progress *p)
{
	int from = open(image, O_RDONLY | O_CLOEXEC), r;

	if (from < 0)
		return -errno;
	r = storage_copy(from, to, p);
	close(from);
	return r;
}

/* What is missing at the end of a qcow2 file would be read as zeroes without a word: so check first. */
static int convert(const char *image, const char *path, struct err *err)
{
	const char *const check[] = { "qemu-img", "check", "-f", "qcow2", "--", image, NULL };
	const char *const argv[] = { "qemu-img", "convert", "-f",  "qcow2", "-O",
				     "raw",	 "--",	    image, path,    NULL };
	int r = prog_run(check, NULL, NULL, err);

	if (r == -ENOENT)
		return err_set(
			err, r,
			K(031) "%s is in qcow2 format, which the program qemu-img converts, and it is not "
			       "installed: apt install qemu-utils",
			image);
	if (r < 0)
		return err_prefix(err, r, "%s is damaged", image);
	return prog_run(argv, NULL, NULL, err);
}

/* Fills the file at path, which is open as fd. */
static int fill(const char *image, const struct disk_image *d, const char *path, int fd,
		struct progress *p, struct err *err)
{
	int r;

	if (!d->raw)
		return convert(image, path, err);
	r = copy_raw(image, fd, p);
	return r < 0 ? err_set(err, r, "cannot copy %s to %s: %s", image, path, strerror(-r)) : 0;
}

int disk_image_put(const char *image, const char *path, uint64_t size, struct progress *progress,
		   struct err *err)
{
	struct disk_image d;
	int fd, r = disk_image_probe(image, &d, err);

	if (r < 0)
		return r;
	if (size && d.size > size)
		return err_set(err, -EFBIG,
			       "%s holds a disk of %llu MiB, which is more than %llu MiB", image,
			       (unsigned long long)(d.size / MIB),
			       (unsigned long long)(size / MIB));
	/* Disks have whole sectors of 512 bytes. */
	if (!size)
		size = ALIGN_UP(d.size, (uint64_t)512);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(err, -errno, "cannot make disk image %s: %s", path, strerror(errno));
	r = fill(image, &d, path, fd, progress, err);
	if (r == 0 && (fchmod(fd, 0600) < 0 || ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0))
		r = err_set(err, -errno, "cannot make disk image %s: %s", path, strerror(errno));
	close(fd);
	if (r < 0)
		unlink(path);
	else
		progress_end(progress);
	return r;
}
