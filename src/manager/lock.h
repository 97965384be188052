/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_LOCK_H
#define MANAGER_LOCK_H

#include <stdbool.h>

/*
 * Kernel locks (open file description locks): they belong to the descriptor and to its copies in
 * children, and are gone when the last of them is closed, however its process ended.
 */

/*
 * Opens (or creates, mode 0644) the file and takes the exclusive lock without waiting. Returns the
 * descriptor, close-on-exec; -EAGAIN if somebody holds it. The file is still the one at path when
 * this returns.
 */
int lock_take(const char *path);
/* Removes the file and frees the lock. Only for a lock taken by lock_take. */
void lock_drop(const char *path, int *fd);
/* True if somebody holds the lock of the file; never takes it. A missing file is not held. */
bool lock_held(const char *path);

/*
 * An exclusive lock on a folder, held until the descriptor is closed: serialises edits inside it.
 * Waits if wait.
 */
int lock_dir(const char *path, bool wait);

#endif
