/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_DISK_H
#define MANAGER_DISK_H

#include <stdbool.h>
#include <stdint.h>

struct err;
struct progress;

/*
 * Disk images as they come from elsewhere: raw, or qcow2, which only the program qemu-img can read.
 * What points to other files (a qcow2 with a backing file) is refused: it could be any file of the
 * host. So are other formats, with the command that converts them.
 */
struct disk_image {
	bool raw;
	uint64_t size; /* of the disk, bytes */
};

/* Looks at the first bytes of an image. -EINVAL: not one that can be used. */
int disk_image_probe(const char *image, struct disk_image *out, struct err *err);
/*
 * Makes the raw disk image path (which must not exist, mode 0600) from image: by reference where the
 * file system can, else by a copy that keeps holes, or by qemu-img. Both paths are absolute. Its size
 * is then size bytes, or with 0 the image's own. It is on disk when this returns; nothing is left at path if it fails.
 * progress may be NULL. -EFBIG: the image is larger than size; -ENOENT: there is no qemu-img.
 */
int disk_image_put(const char *image, const char *path, uint64_t size, struct progress *progress,
		   struct err *err);

#endif
