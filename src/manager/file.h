/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_FILE_H
#define MANAGER_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct err;

/* snprintf for a path: 0, or -ENAMETOOLONG with out holding an empty string. */
int file_path(char *out, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The last component of a path; path itself if it has no slash. */
const char *file_base(const char *path);

/*
 * Puts the bytes on disk under a temporary name in the same folder, then renames: old or new,
 * never half.
 */
int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, struct err *err);
/*
 * Removes what file_write_atomic left in a folder when it was killed: of the files whose names end
 * so (such), or of all others. Only with the lock that serialises those who write these.
 */
void file_clear_temps(const char *dir, const char *ends, bool such);
/*
 * Puts the bytes on disk in a file that nobody looks at yet, such as one in .trash. With it goes
 * what was made in its folder before.
 */
int file_write_new(const char *path, const void *buf, size_t len, mode_t mode, struct err *err);
/* Writes back a folder's entries. A failure means that a rename may be lost in a power cut. */
int file_sync_dir(const char *dir);
/* The same, once path in that folder is what it is to be; err says that it is, and what may happen. */
int file_settle(const char *dir, const char *path, struct err *err);
/* Renames a folder to a name that nothing has: -EEXIST, never replaces. */
int file_move_new(const char *from, const char *to);
/* mkdir -p. Folders that exist are fine. */
int file_make_dirs(const char *path, mode_t mode, struct err *err);
/* Removes name below dirfd and all that is in it, following no link. -ENOENT on the way is fine. */
int file_remove_tree(int dirfd, const char *name);
/*
 * Creates path (which must not exist) as a sparse file of size bytes, mode 0600. It is on disk when
 * a file of its folder that names it is.
 */
int file_make_sparse(const char *path, uint64_t size, struct err *err);

#endif
