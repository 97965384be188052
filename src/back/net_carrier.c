/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "back/net_carrier.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/fd.h"
#include "util/macros.h"
#include "util/str.h"

#define LOWER_UP (1u << 16) /* <linux/if.h>, which does not go with <net/if.h> */

/* Asks for the state; the answer comes as any other message. */
static int carrier_ask(struct net_carrier *c)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg m;
	} ask = { .h = { .nlmsg_len = sizeof(ask),
			 .nlmsg_type = RTM_GETLINK,
			 .nlmsg_flags = NLM_F_REQUEST },
		  .m = { .ifi_family = AF_UNSPEC, .ifi_index = c->index } };

	return send(c->fd, &ask, sizeof(ask), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void carrier_message(struct net_carrier *c, const struct nlmsghdr *h)
{
	const struct ifinfomsg *m = NLMSG_DATA(h);

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)) || m->ifi_index != c->index)
		return;
	if (h->nlmsg_type == RTM_NEWLINK) {
		c->up = (m->ifi_flags & IFF_UP) && (m->ifi_flags & LOWER_UP);
	} else if (h->nlmsg_type == RTM_DELLINK && m->ifi_family == AF_UNSPEC) {
		c->up = false;
		c->gone = true;
	}
}

/* Reads all that waits. Only the kernel can send to this socket's port and groups. */
static void carrier_read(struct net_carrier *c)
{
	_Alignas(struct nlmsghdr) char buf[16384];
	const struct nlmsghdr *h;
	ssize_t n;

	for (int i = 0; i < 64; i++) {
		n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT);
		if (n < 0 && errno == ENOBUFS) {
			(void)carrier_ask(c); /* some were lost */
			continue;
		}
		if (n <= 0)
			return;
		for (h = (const void *)buf; NLMSG_OK(h, n); h = NLMSG_NEXT(h, n))
			carrier_message(c, h);
	}
}

static void carrier_fn(struct loop_fd *w, unsigned int events)
{
	struct net_carrier *c = container_of(w, struct net_carrier, watch);
	bool up = c->up, gone = c->gone;

	(void)events;
	carrier_read(c);
	if (up != c->up || gone != c->gone)
		c->changed(c);
}

static int carrier_start(struct net_carrier *c, struct loop *l, const char *name, unsigned int *mtu)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK };
	struct ifreq ifr = { 0 };
	int rc;

	c->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (c->fd < 0 || bind(c->fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	if (str_copy(ifr.ifr_name, sizeof(ifr.ifr_name), name) < 0)
		return -ENODEV;
	if (ioctl(c->fd, SIOCGIFINDEX, &ifr) < 0)
		return -errno;
	c->index = ifr.ifr_ifindex;
	if (ioctl(c->fd, SIOCGIFMTU, &ifr) < 0)
		return -errno;
	rc = carrier_ask(c);
	if (rc < 0)
		return rc;
	carrier_read(c);
	c->watch.fn = carrier_fn;
	rc = loop_fd_add(l, &c->watch, c->fd, EPOLLIN);
	if (rc == 0 && mtu)
		*mtu = (unsigned int)ifr.ifr_mtu;
	return rc;
}

int net_carrier_open(struct net_carrier *c, struct loop *l, const char *name, unsigned int *mtu)
{
	int rc;

	c->up = c->gone = false;
	rc = carrier_start(c, l, name, mtu);
	if (rc < 0)
		net_carrier_close(c);
	return rc;
}

void net_carrier_refresh(struct net_carrier *c)
{
	if (carrier_ask(c) == 0)
		carrier_read(c);
}

void net_carrier_close(struct net_carrier *c)
{
	if (c->fd < 0)
		return;
	loop_fd_del(&c->watch);
	fd_close(&c->fd);
}
