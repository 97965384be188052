/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MANAGER_RTNL_PRIV_H
#define MANAGER_RTNL_PRIV_H

#include <libmnl/libmnl.h>

#include "manager/rtnl.h"

/* Room for the largest message that is built here. */
struct rtnl_msg {
	union {
		struct nlmsghdr h;
		char buf[2048];
	};
};

/* A request with a family header of size bytes, all zero. Returns that header. */
void *rtnl_start(struct rtnl_msg *m, uint16_t type, uint16_t flags, size_t size);
/* Sends one request and waits for its acknowledgement. */
int rtnl_talk(struct rtnl *r, struct rtnl_msg *m);
/* rtnl_dump of a request that is built already, which may also ask for one thing without NLM_F_DUMP. */
int rtnl_dump_msg(struct rtnl *r, struct rtnl_msg *m,
		  int (*fn)(void *arg, const struct nlmsghdr *h), void *arg);

#endif
