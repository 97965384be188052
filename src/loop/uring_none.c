/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "loop/loop_priv.h"
#include "util/err.h"

/* Stands in for uring.c where liburing is missing. */
static int none_init(struct loop *l, struct err *err)
{
	(void)l;
	return err_set(err, -ENOSYS, "io_uring: this program was built without liburing");
}

const struct loop_engine_ops loop_uring_ops = {
	.engine = LOOP_URING,
	.init = none_init,
};
