/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef UTIL_THREAD_H
#define UTIL_THREAD_H

#include <pthread.h>

/*
 * pthread_create with a stack of THREAD_STACK bytes: the usual 8 MiB would be given a huge page of 2 MiB. Returns 0 or
 * -errno.
 */
#define THREAD_STACK (512u * 1024)
int thread_start(pthread_t *t, void *(*fn)(void *arg), void *arg);

#endif
