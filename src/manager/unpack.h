/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_UNPACK_H
#define MANAGER_UNPACK_H

#include <stdbool.h>
#include <stddef.h>

struct err;
struct progress;

/* What an image may be packed in, by the end of its name: .xz .gz .bz2 .zst .lz4, .tar and both. */
bool unpack_is_packed(const char *name);
/* The name less these ends, if it is not that of a tar file: false. */
bool unpack_stem(const char *name, char *out, size_t size);
/*
 * The name of what is in a packed file: the file's own less these ends; what comes out of a tar file
 * gets the end that it has there. -EINVAL: the tar file does not hold exactly one file.
 */
int unpack_name(const char *from, const char *name, char *out, size_t size, struct err *err);
/*
 * Writes what is in it to fd, an empty file; blocks of zeroes become holes. progress counts bytes of
 * the packed file and may be NULL. -EBADMSG: it is damaged.
 */
int unpack_file(const char *from, int fd, struct progress *progress, struct err *err);

/*
 * Unpacks the regular files of a tar file into a folder, mode 0600, and syncs them. -EINVAL: one has a
 * name that want does not want, or that is not in the folder.
 */
int unpack_folder(const char *from, const char *dir, bool (*want)(const char *name),
		  struct progress *progress, struct err *err);

#endif
