/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_FD_H
#define UTIL_FD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Closes *fd if it is not negative and sets it to -1. */
void fd_close(int *fd);

/* Loop until all bytes are moved. 0, or -errno; end of file before len is -EIO (reads). Retry EINTR. */
int fd_read_full(int fd, void *buf, size_t len);
int fd_write_full(int fd, const void *buf, size_t len);
int fd_pread_full(int fd, void *buf, size_t len, uint64_t offset);
int fd_pwrite_full(int fd, const void *buf, size_t len, uint64_t offset);

/* Reads a whole regular file of at most max bytes; *out is malloc'ed, NUL-terminated behind len. -EFBIG if larger. */
int fd_read_file(const char *path, size_t max, char **out, size_t *len);

/* New memfd of size bytes, close-on-exec, sealed against resizing. Returns the descriptor or -errno. */
int fd_memfd(const char *name, uint64_t size);
int fd_set_nonblock(int fd);
/*
 * In a child between fork and exec: no descriptor but 0 to 2 is inherited, whoever opened it. Before Linux 5.11 it does
 * nothing.
 */
void fd_inherit_none(void);
/* Clears close-on-exec, for descriptors that a child is to inherit. */
int fd_set_inherit(int fd);

/* eventfd, non-blocking, close-on-exec. Returns the descriptor or -errno. */
int fd_event_new(void);
void fd_event_set(int fd);
/* Resets the counter; returns what it was (0 if it was not set). */
uint64_t fd_event_clear(int fd);

/* Send or receive bytes with descriptors (SCM_RIGHTS). recv stores at most *nfds and sets it. Return bytes or -errno. */
ssize_t fd_send_fds(int sock, const void *buf, size_t len, const int *fds, size_t nfds);
ssize_t fd_recv_fds(int sock, void *buf, size_t len, int *fds, size_t *nfds);

#endif
