/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/test_virtio_net.h"

#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/fd.h"

/*
 * The card with the kernel's vhost-net and a tap, in a network name space of our own. A packet socket on the tap is the
 * outside. The device sees the frames of neither direction: what arrives, the kernel moved.
 */
#define TYPE 0x88b5 /* as make_frame() has it */
#define FRAMES 40

static int outside;

static int if_flags(const char *name, bool up)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;
	struct ifreq ifr = { .ifr_flags = 0 };

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	rc = ioctl(s, SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	if (rc == 0)
		rc = ioctl(s, SIOCSIFFLAGS, &ifr);
	close(s);
	return rc;
}

static int tap_persist(int on, int flags)
{
	struct ifreq ifr = { .ifr_name = "tap0" };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), rc;

	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | flags);
	rc = ioctl(fd, TUNSETIFF, &ifr);
	if (rc == 0)
		rc = ioctl(fd, TUNSETPERSIST, on);
	close(fd);
	return rc;
}

static int packet_open(void)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET,
				    .sll_protocol = __builtin_bswap16(TYPE),
				    .sll_ifindex = (int)if_nametoindex("tap0") };
	struct timeval limit = { .tv_sec = 10 };
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	CHECK(s >= 0);
	CHECK_EQ(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return s;
}

/* What an earlier case may have left when it failed goes first. */
static void setup_vhost(uint64_t features, unsigned int pairs, bool msi_fds)
{
	const struct tb_opts opts = { .engine = LOOP_EPOLL, .msi_fds = msi_fds };
	char conf[64];
	struct err err = { "" };

	tb_free(tb);
	tb = NULL;
	if (outside)
		close(outside);
	(void)tap_persist(0, 0);
	(void)tap_persist(0, IFF_MULTI_QUEUE);
	CHECK_EQ(tap_persist(1, pairs > 1 ? IFF_MULTI_QUEUE : 0), 0);
	CHECK_EQ(if_flags("tap0", true), 0);
	outside = packet_open();
	tb = tb_new(&opts);
	snprintf(conf, sizeof(conf), "backend=tap0\nvhost=on\nqueues=%u\n", pairs);
	d = tb_add(tb, &virtio_net_ops, conf, &err);
	if (!d)
		CHECK_FAIL("%s", err.text);
	start(features, 2 * pairs + !!(features & VNET_F_CTRL_VQ));
}

static struct vnet_vhost *vhost(unsigned int pair)
{
	return &vnet_of(virtio_of(d))->vhost[pair];
}

/* The kernel works on its own time. */
static bool wait_used(unsigned int q)
{
	for (int i = 0; i < 5000; i++) {
		if (tb_vq_used_idx(&vq[q]) != vq[q].seen)
			return true;
		usleep(1000);
	}
	return false;
}

static void out(unsigned int q, size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	tx_post_hdr(q, NULL, len);
	tb_virtio_kick(d, q);
	CHECK(wait_used(q));
	tx_check_used(q);
	CHECK_EQ(recv(outside, got, sizeof(got), 0), len);
	CHECK(memcmp(got, frame, len) == 0);
}

static void in_send(size_t len, unsigned int seed)
{
	make_frame(len, seed, NULL);
	CHECK_EQ(send(outside, frame, len, 0), len);
}

static void in(size_t len, unsigned int seed)
{
	rx_fill(0, 1, 2048);
	in_send(len, seed);
	CHECK(wait_used(0));
	rx_check(len, seed);
}

static void check_passes(unsigned int seed)
{
	in(100, seed);
	out(1, 200, seed + 1);
	CHECK(!needs_reset());
}

/* --- cases --- */

static void test_frames(void)
{
	setup_vhost(F_MRG, 1, false);
	CHECK(vhost(0)->running);
	for (unsigned int i = 0; i < FRAMES; i++)
		check_passes(i);
	tb_run(tb);
	CHECK(tb_irqs(d, 1) && tb_irqs(d, 2));
	/* one that takes several buffers */
	rx_fill(0, 8, 512);
	in_send(1500, 9);
	CHECK(wait_used(0));
	rx_check(1500, 9);
}

static void test_features(void)
{
	uint64_t f;

	setup_vhost(F_MRG, 1, false);
	f = tb_virtio_offered(d);
	CHECK(!(f & VNET_F_CTRL_VLAN));
	CHECK_EQ(!(f & VNET_F_HOST_USO), !(vnet_of(virtio_of(d))->offloads & NET_O_USO));
	/* neither event indices nor merged buffers */
	for (unsigned int i = 0; i < 4; i++) {
		start(F_BASE | (i & 1 ? VNET_F_MRG_RXBUF : 0) | (i & 2 ? BIT64(29) : 0), 2);
		CHECK(vhost(0)->running);
		rx_fill(0, 1, 2048);
		in_send(300, i);
		CHECK(wait_used(0));
		if (i & 1)
			rx_check(300, i);
		out(1, 400, i);
	}
}

static void test_resets(void)
{
	setup_vhost(F_MRG, 1, false);
	for (unsigned int i = 0; i < FRAMES; i++) {
		/* with frames of both directions under way */
		rx_fill(0, 16, 2048);
		in_send(100, i);
		make_frame(100, i, NULL);
		tx_post_hdr(1, NULL, 100);
		tb_virtio_kick(d, 1);
		if (i % 2) {
			tb_virtio_set_status(d, 0);
			CHECK_EQ(tb_virtio_status(d), 0);
		} else {
			CHECK(tb_reset(tb));
		}
		CHECK(!vhost(0)->running);
		start(F_MRG, 2);
		CHECK(vhost(0)->running);
		while (recv(outside, got, sizeof(got), MSG_DONTWAIT) > 0)
			;
	}
	/* what came in meanwhile may still wait at the tap */
	rx_fill(0, 200, 2048);
	usleep(100000);
	while (rx_next(0, NULL) >= 0)
		;
	check_passes(5);
}

static void test_pause(void)
{
	setup_vhost(F_MRG, 1, false);
	for (unsigned int i = 0; i < FRAMES; i++) {
		check_passes(i);
		CHECK(tb_pause(tb));
		CHECK(!vhost(0)->running);
		/* what comes meanwhile waits */
		rx_fill(0, 1, 2048);
		in_send(100, i);
		make_frame(300, i, NULL);
		tx_post_hdr(1, NULL, 300);
		tb_virtio_kick(d, 1);
		tb_resume(tb);
		tb_run(tb);
		CHECK(vhost(0)->running);
		CHECK(wait_used(0) && wait_used(1));
		rx_check(100, i);
		tx_check_used(1);
		CHECK_EQ(recv(outside, got, sizeof(got), 0), 300);
	}
}

static void test_link(void)
{
	setup_vhost(F_MRG, 1, false);
	check_passes(1);
	for (unsigned int i = 0; i < 5; i++) {
		CHECK(!dev_link(d, 0));
		CHECK(!vhost(0)->running);
		/* nothing passes: what is sent is given back, what comes is not kept for later */
		make_frame(300, i, NULL);
		tx_post_hdr(1, NULL, 300);
		tb_virtio_kick(d, 1);
		CHECK_EQ(tb_vq_used_idx(&vq[1]), (uint16_t)(vq[1].seen + 1));
		tx_check_used(1);
		in_send(500, i);
		CHECK(dev_link(d, 1));
		tb_run(tb);
		CHECK(vhost(0)->running);
		check_passes(i);
	}
	/* the tap's own */
	CHECK_EQ(if_flags("tap0", false), 0);
	tb_run(tb);
	CHECK(!vhost(0)->running);
	CHECK_EQ(if_flags("tap0", true), 0);
	tb_run(tb);
	CHECK(vhost(0)->running);
	close(outside);
	outside = packet_open();
	check_passes(7);
}

static void test_master(void)
{
	setup_vhost(F_MRG, 1, false);
	check_passes(1);
	rx_fill(0, 1, 2048);
	tb_cfg_write(d, 4, 2, 2);
	CHECK(!vhost(0)->running);
	in_send(100, 2);
	usleep(50000);
	CHECK_EQ(tb_vq_used_idx(&vq[0]), vq[0].seen);
	tb_cfg_write(d, 4, 2, 6);
	tb_run(tb);
	CHECK(wait_used(0));
	rx_check(100, 2);
	check_passes(3);
}

static uint64_t fired(unsigned int vector)
{
	return fd_event_clear(pci_fn_of(d)->msix[vector].msi.fd);
}

/* Interrupts go where the guest wants them, and wait in the pending bits while masked. */
static void test_vectors(void)
{
	setup_vhost(F_MRG, 1, true);
	in(100, 1);
	CHECK(fired(1));
	CHECK_EQ(vhost(0)->rings[0].call, pci_fn_of(d)->msix[1].msi.fd);
	tb_msix_mask(d, 1, true);
	CHECK_EQ(vhost(0)->rings[0].call, vhost(0)->call[0].fd);
	in(100, 2);
	tb_run(tb);
	CHECK_EQ(fired(1), 0);
	CHECK(tb_msix_pending(d, 1));
	tb_msix_mask(d, 1, false);
	CHECK_EQ(fired(1), 1);
	in(100, 3);
	CHECK(fired(1));
	tb_msix_function_mask(d, true);
	in(100, 4);
	tb_run(tb);
	CHECK_EQ(fired(1), 0);
	tb_msix_function_mask(d, false);
	CHECK_EQ(fired(1), 1);
	/* to another vector, and to none */
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_SELECT, 0);
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_VECTOR, 2);
	fired(2);
	in(100, 5);
	CHECK(fired(2) && !fired(1));
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_VECTOR, 0xffff);
	in(100, 6);
	tb_run(tb);
	CHECK(!fired(1) && !fired(2));
	tb_w16(d, TB_V_BAR, TB_V_QUEUE_VECTOR, 1);
	/* the wire */
	tb_msix_disable(d);
	in(100, 7);
	tb_run(tb);
	CHECK(tb_intx(d));
	CHECK_EQ(tb_r8(d, TB_V_BAR, TB_V_ISR), 1);
	CHECK(!tb_intx(d));
}

static void broken(unsigned int q, gpa_t addr)
{
	const struct tb_buf b = { addr, 2048, q == 0 };

	setup_vhost(F_MRG, 1, false);
	check_passes(1);
	tb_vq_add(&vq[q], &b, 1);
	tb_virtio_kick(d, q);
	in_send(100, 2);
	for (int i = 0; i < 200 && !needs_reset(); i++)
		tb_run(tb);
	CHECK(needs_reset());
	CHECK(!vhost(0)->running);
	CHECK(tb_irqs(d, 0));
	/* the next driver gets the frame that the last one could not */
	start(F_MRG, 2);
	rx_fill(0, 1, 2048);
	CHECK(wait_used(0));
	rx_check(100, 2);
	check_passes(3);
}

static void test_broken(void)
{
	broken(1, 0xfee00000);
	broken(1, UINT64_MAX - 100);
	broken(0, 0xfee00000);
}

static uint8_t command(uint8_t class, uint8_t cmd, uint16_t value)
{
	const struct tb_buf b[] = { { ctl_mem, 4, false }, { ctl_mem + 64, 1, true } };
	uint8_t *p = tb_mem(tb, ctl_mem, 65);
	uint32_t id, len;

	p[0] = class;
	p[1] = cmd;
	put_le16(p + 2, value);
	p[64] = 0xee;
	tb_vq_add(&vq[4], b, 2);
	tb_virtio_kick(d, 4);
	CHECK(tb_vq_used(&vq[4], &id, &len));
	return p[64];
}

static void test_pairs(void)
{
	setup_vhost((F_CTRL & ~VNET_F_CTRL_VLAN) | VNET_F_MQ, 2, false);
	CHECK(vhost(0)->running && !vhost(1)->running);
	for (unsigned int i = 0; i < 5; i++) {
		CHECK_EQ(command(4, 0, 2), 0);
		tb_run(tb);
		CHECK(vhost(0)->running && vhost(1)->running);
		out(1, 100, i);
		out(3, 200, i);
		CHECK_EQ(command(4, 0, 1), 0);
		CHECK(vhost(0)->running && !vhost(1)->running);
		out(1, 100, i);
		/* what is sent on the other one is given back */
		make_frame(300, i, NULL);
		tx_post_hdr(3, NULL, 300);
		tb_virtio_kick(d, 3);
		tx_check_used(3);
	}
	check_passes(1);
}

static const struct test_case cases[] = {
	{ "vhost: frames", test_frames },
	{ "vhost: features", test_features },
	{ "vhost: resets with frames under way", test_resets },
	{ "vhost: pauses", test_pause },
	{ "vhost: the link", test_link },
	{ "vhost: bus master", test_master },
	{ "vhost: vectors", test_vectors },
	{ "vhost: broken chains", test_broken },
	{ "vhost: queue pairs", test_pairs },
};

int main(int argc, char **argv)
{
	const char *why = NULL;
	int rc, fd;

	if (access("/dev/vhost-net", R_OK | W_OK) < 0)
		why = "no /dev/vhost-net, or no right to open it";
	else if (unshare(CLONE_NEWNET) < 0)
		why = "no right to make a network name space";
	if (why) {
		printf("SKIPPED, all cases: %s\n", why);
		return 77;
	}
	/* IPv6 would send frames of its own, which the card gets */
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, "1", 1) != 1)
		return 1;
	rc = RUN_CASES(cases, argc, argv);
	tb_free(tb);
	return rc;
}
