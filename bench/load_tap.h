/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef BENCH_LOAD_TAP_H
#define BENCH_LOAD_TAP_H

#include <err.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/*
 * tap0 in a name space of its own, up, and a packet socket on it, whose frames start with struct net_hdr without its
 * last field. Returns the socket; a failure ends the program.
 */
static inline int load_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "tap0" };
	struct sockaddr_ll addr = { .sll_family = AF_PACKET };
	const int size = 64 * 1024 * 1024, on = 1;
	int fd, packet;

	if (unshare(CLONE_NEWNET) < 0)
		err(1, "cannot make a network name space");
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) == 1)
		close(fd);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0)
		err(1, "cannot make a tap");
	close(fd);
	packet = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	ifr.ifr_flags = IFF_UP;
	if (packet < 0 || ioctl(packet, SIOCSIFFLAGS, &ifr) < 0)
		err(1, "cannot set the tap up");
	addr.sll_ifindex = (int)if_nametoindex("tap0");
	if (bind(packet, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    setsockopt(packet, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0 ||
	    setsockopt(packet, SOL_PACKET, 15 /* PACKET_VNET_HDR */, &on, sizeof(on)) < 0)
		err(1, "cannot set a packet socket up");
	return packet;
}

#endif
