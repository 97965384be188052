/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_tun.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "back/net.h"
#include "frame.h"
#include "loop/loop.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/macros.h"

/*
 * Taps in a network name space of this process's own; a packet socket stands for the host behind the tap. Frames are of
 * an ethertype that nobody else uses.
 */
#define TYPE 0x88b5 /* IEEE 802 local experimental */
#define OPS 64

struct op {
	struct net_req req;
	struct iovec iov[3]; /* the last is the line's */
	uint8_t hdr[NET_HDR_LEN], buf[2048];
	int res;
	unsigned int done;
};

struct tap {
	struct loop *l;
	struct net *n;
	int packet;
	unsigned int readable[NET_QUEUES_MAX], links;
	bool up;
	struct op ops[OPS];
};

/* --- the host's side --- */

static int if_ioctl(unsigned long what, struct ifreq *ifr, const char *name)
{
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc;

	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	rc = ioctl(s, what, ifr) < 0 ? -errno : 0;
	close(s);
	return rc;
}

static void set_up(const char *name, bool up)
{
	struct ifreq ifr = { 0 };

	CHECK_EQ(if_ioctl(SIOCGIFFLAGS, &ifr, name), 0);
	ifr.ifr_flags = (short)(up ? ifr.ifr_flags | IFF_UP : ifr.ifr_flags & ~IFF_UP);
	CHECK_EQ(if_ioctl(SIOCSIFFLAGS, &ifr, name), 0);
}

static int tun_open(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		CHECK_FAIL("cannot open %s: %s", name, strerror(errno));
	return fd;
}

static void tap_make(const char *name, int flags)
{
	int fd = tun_open(name, IFF_TAP | IFF_NO_PI | flags);

	CHECK_EQ(ioctl(fd, TUNSETPERSIST, 1), 0);
	close(fd);
	set_up(name, true);
}

static void tap_remove(const char *name, int flags)
{
	int fd = tun_open(name, IFF_TAP | IFF_NO_PI | flags);

	CHECK_EQ(ioctl(fd, TUNSETPERSIST, 0), 0);
	close(fd);
}

static int packet_open_type(const char *name, uint16_t type)
{
	struct sockaddr_ll addr = { .sll_family = AF_PACKET,
				    .sll_protocol = __builtin_bswap16(type),
				    .sll_ifindex = (int)if_nametoindex(name) };
	struct timeval limit = { .tv_sec = 5 };
	int s = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);

	CHECK(s >= 0);
	CHECK_EQ(bind(s, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return s;
}

static int packet_open(const char *name)
{
	return packet_open_type(name, TYPE);
}

static void frame_fill(uint8_t *f, size_t len, uint8_t mark)
{
	memset(f, mark, len);
	memset(f, 0xff, 6);
	memset(f + 6, 0x02, 6);
	put_be16(f + 12, TYPE);
}

/* --- the line --- */

static void on_readable(void *arg, unsigned int q)
{
	struct tap *t = arg;

	t->readable[q]++;
	net_want(t->n, q, false);
}

static void on_link(void *arg, bool up)
{
	struct tap *t = arg;

	t->links++;
	t->up = up;
}

static struct net *must_open(struct loop *l, char *backend, unsigned int queues)
{
	const struct net_spec spec = { .backend = backend, .queues = queues };
	struct err err = { 0 };
	struct net *n = net_open(l, &spec, &err);

	if (!n)
		CHECK_FAIL("net_open: %s", err.text);
	return n;
}

static struct tap *tap_new(enum loop_engine engine, char *backend, const char *name,
			   unsigned int queues)
{
	static const struct net_events events = { .readable = on_readable, .link = on_link };
	struct tap *t = calloc(1, sizeof(*t));

	t->l = loop_new(engine, NULL);
	CHECK(t->l);
	t->n = must_open(t->l, backend, queues);
	net_set_events(t->n, &events, t);
	t->packet = packet_open(name);
	return t;
}

static void tap_free(struct tap *t)
{
	struct net_stats s;

	net_stats_get(t->n, &s);
	CHECK_EQ(s.accepted, s.completed);
	net_close(t->n);
	loop_free(t->l);
	close(t->packet);
	free(t);
}

/* Until *flag is at least what is wanted, or for 2 seconds. */
static void run_until(struct tap *t, const unsigned int *flag, unsigned int want)
{
	for (int i = 0; i < 2000 && *flag < want; i++)
		if (!loop_step(t->l, false))
			usleep(1000);
	CHECK(*flag >= want);
}

static void run_a_while(struct tap *t)
{
	for (int idle = 0; idle < 20; idle++) {
		while (loop_step(t->l, false))
			;
		usleep(1000);
	}
}

static void op_done(struct net_req *r, int res)
{
	struct op *o = container_of(r, struct op, req);

	o->res = res;
	o->done++;
}

static struct net_req *op_start(struct tap *t, unsigned int i, size_t len)
{
	struct op *o = &t->ops[i];

	o->iov[0] = (struct iovec){ o->hdr, sizeof(o->hdr) };
	o->iov[1] = (struct iovec){ o->buf, len };
	o->req = (struct net_req){ .iov = o->iov, .iovcnt = 2, .done = op_done };
	o->done = 0;
	memset(o->hdr, 0, sizeof(o->hdr));
	return &o->req;
}

static int send_one(struct tap *t, size_t len, uint8_t mark)
{
	struct net_req *r = op_start(t, 0, len);

	frame_fill(t->ops[0].buf, len, mark);
	net_send(t->n, 0, &r, 1);
	CHECK_EQ(t->ops[0].done, 0);
	run_until(t, &t->ops[0].done, 1);
	return t->ops[0].res;
}

static int recv_one(struct tap *t, unsigned int q, size_t len)
{
	struct net_req *r = op_start(t, 0, len);

	net_recv(t->n, q, &r, 1);
	CHECK_EQ(t->ops[0].done, 0);
	run_until(t, &t->ops[0].done, 1);
	return t->ops[0].res;
}

static void host_sends(struct tap *t, size_t len, uint8_t mark)
{
	uint8_t f[2048];

	frame_fill(f, len, mark);
	CHECK_EQ(send(t->packet, f, len, 0), len);
}

/* --- cases --- */

static void carries_frames(enum loop_engine engine)
{
	uint8_t f[2048];
	struct tap *t;

	tap_make("tap0", 0);
	t = tap_new(engine, "tap0", "tap0", 1);
	CHECK(net_link_up(t->n));
	CHECK_EQ(net_info_get(t->n)->mtu, 1500);
	CHECK_EQ(net_info_get(t->n)->queues, 1);
	CHECK(net_info_get(t->n)->offloads & NET_O_CSUM);
	CHECK_STR(net_info_get(t->n)->name, "tap0");
	CHECK(net_tap_fd(t->n, 0) >= 0);
	CHECK_EQ(recv_one(t, 0, 100), -EAGAIN);
	CHECK_EQ(send_one(t, 60, 7), 0);
	CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
	CHECK_EQ(f[59], 7);
	host_sends(t, 100, 9);
	CHECK_EQ(recv_one(t, 0, 100), NET_HDR_LEN + 100); /* fits exactly */
	CHECK_EQ(t->ops[0].buf[99], 9);
	CHECK_EQ(t->ops[0].hdr[10], 1); /* num_buffers */
	CHECK_EQ(t->ops[0].hdr[0], 0);
	host_sends(t, 100, 9);
	host_sends(t, 101, 8);
	host_sends(t, 60, 7);
	t->ops[0].buf[99] = 0x55;
	CHECK_EQ(recv_one(t, 0, 99), -EMSGSIZE);
	CHECK_EQ(t->ops[0].buf[99], 0x55);
	CHECK_EQ(recv_one(t, 0, 0), -EMSGSIZE);
	CHECK_EQ(recv_one(t, 0, 100), NET_HDR_LEN + 60);
	tap_free(t);
	tap_remove("tap0", 0);
}

static void tells_when_frames_wait(enum loop_engine engine)
{
	struct tap *t;

	tap_make("tap0", 0);
	t = tap_new(engine, "tap:tap0", "tap0", 1);
	host_sends(t, 60, 1);
	run_a_while(t);
	CHECK_EQ(t->readable[0], 0);
	net_want(t->n, 0, true);
	run_until(t, &t->readable[0], 1);
	net_want(t->n, 0, true); /* it still waits: level-triggered */
	run_until(t, &t->readable[0], 2);
	CHECK_EQ(recv_one(t, 0, 100), NET_HDR_LEN + 60);
	net_want(t->n, 0, true);
	run_a_while(t);
	CHECK_EQ(t->readable[0], 2);
	tap_free(t);
	tap_remove("tap0", 0);
}

static void follows_the_link(enum loop_engine engine)
{
	struct tap *t;

	tap_make("tap0", 0);
	set_up("tap0", false);
	t = tap_new(engine, "tap0", "tap0", 1);
	CHECK(!net_link_up(t->n));
	CHECK_EQ(send_one(t, 60, 1), -ENETDOWN);
	set_up("tap0", true);
	run_until(t, &t->links, 1);
	CHECK(t->up && net_link_up(t->n));
	CHECK_EQ(send_one(t, 60, 1), 0);
	set_up("tap0", false);
	CHECK_EQ(send_one(t, 60, 1), -ENETDOWN); /* whether we know already or not */
	run_until(t, &t->links, 2);
	CHECK(!t->up);
	tap_free(t);
	tap_remove("tap0", 0);
}

/* The interface goes away under us: no busy loop, no error but a link that is down. */
static void survives_removal(enum loop_engine engine)
{
	struct loop_stats before, after;
	struct tap *t;
	int s;

	tap_make("tap0", 0);
	t = tap_new(engine, "tap0", "tap0", 1);
	net_want(t->n, 0, true);
	run_a_while(t);
	s = system("ip link del tap0");
	CHECK_EQ(s, 0);
	run_until(t, &t->links, 1);
	CHECK(!t->up);
	CHECK_EQ(send_one(t, 60, 1), -ENETDOWN);
	CHECK_EQ(recv_one(t, 0, 60), -EAGAIN);
	net_want(t->n, 0, false);
	net_want(t->n, 0, true);
	run_a_while(t);
	loop_stats_get(t->l, &before);
	run_a_while(t);
	loop_stats_get(t->l, &after);
	CHECK_EQ(after.callbacks, before.callbacks);
	tap_free(t);
}

/* The kernel segments and checksums for a guest that does not; a guest that does gets large frames as they are. */
static void headers_work(enum loop_engine engine)
{
	uint8_t f[2048] = { 0 };
	struct net_req *r;
	struct tap *t;

	tap_make("tap0", 0);
	t = tap_new(engine, "tap0", "tap0", 1);
	r = op_start(t, 0, 60);
	frame_fill(t->ops[0].buf, 60, 0);
	t->ops[0].hdr[0] = NET_HDR_NEEDS_CSUM;
	put_le16(t->ops[0].hdr + 6, 20);
	put_le16(t->ops[0].hdr + 8, 4);
	put_be16(t->ops[0].buf + 20, 0x1234);
	net_send(t->n, 0, &r, 1);
	run_until(t, &t->ops[0].done, 1);
	CHECK_EQ(t->ops[0].res, 0);
	CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
	net_set_offloads(t->n, NET_O_ALL);
	net_set_offloads(t->n, 0);
	net_set_offloads(t->n, NET_O_CSUM | NET_O_TSO4);
	t->ops[0].hdr[1] = NET_GSO_TCPV4; /* it is no such frame */
	put_le16(t->ops[0].hdr + 4, 8);
	t->ops[0].done = 0;
	net_send(t->n, 0, &r, 1);
	run_until(t, &t->ops[0].done, 1);
	CHECK_EQ(t->ops[0].res, -EINVAL);
	tap_free(t);
	tap_remove("tap0", 0);
}

static void queues_come_and_go(enum loop_engine engine)
{
	struct tap *t;
	uint8_t f[2048];

	tap_make("tap0", IFF_MULTI_QUEUE);
	t = tap_new(engine, "tap0", "tap0", 1);
	CHECK_EQ(net_info_get(t->n)->queues, 1);
	tap_free(t);
	t = tap_new(engine, "tap0", "tap0", 4);
	CHECK_EQ(net_info_get(t->n)->queues, 4);
	for (unsigned int q = 0; q < 4; q++)
		net_want(t->n, q, true);
	run_a_while(t);
	for (int i = 0; i < 32; i++)
		host_sends(t, 60, (uint8_t)i);
	run_until(t, &t->readable[0], 1);
	CHECK_EQ(t->readable[1] + t->readable[2] + t->readable[3], 0);
	for (int i = 0; i < 32; i++)
		CHECK_EQ(recv_one(t, 0, 60), NET_HDR_LEN + 60);
	CHECK_EQ(recv_one(t, 3, 60), -EAGAIN); /* detached */
	CHECK_EQ(net_set_queues(t->n, 4), 0);
	CHECK_EQ(recv_one(t, 3, 60), -EAGAIN);
	for (unsigned int q = 0; q < 4; q++) {
		struct net_req *r = op_start(t, 0, 60);

		frame_fill(t->ops[0].buf, 60, (uint8_t)q);
		net_send(t->n, q, &r, 1);
		run_until(t, &t->ops[0].done, 1);
		CHECK_EQ(t->ops[0].res, 0);
		CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
		CHECK_EQ(f[40], q);
	}
	CHECK_EQ(net_set_queues(t->n, 1), 0);
	run_a_while(t);
	host_sends(t, 60, 9);
	CHECK_EQ(recv_one(t, 0, 60), NET_HDR_LEN + 60);
	tap_free(t);
	tap_remove("tap0", IFF_MULTI_QUEUE);
	/* "At most": one made for a single queue has one. */
	tap_make("tap0", 0);
	t = tap_new(engine, "tap0", "tap0", 4);
	CHECK_EQ(net_info_get(t->n)->queues, 1);
	tap_free(t);
	tap_remove("tap0", 0);
}

static void takes_descriptors(enum loop_engine engine)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	int a = tun_open("tap0", flags), b = tun_open("tap0", flags);
	char spec[32];
	uint8_t f[2048];
	struct tap *t;

	set_up("tap0", true);
	snprintf(spec, sizeof(spec), "fd:%d:%d", a, b);
	fd_set_inherit(a); /* as whoever starts us has to */
	fd_set_inherit(b);
	t = tap_new(engine, spec, "tap0", 0);
	CHECK(fcntl(a, F_GETFD) == FD_CLOEXEC && fcntl(b, F_GETFD) == FD_CLOEXEC);
	CHECK_STR(net_info_get(t->n)->name, "tap0");
	CHECK_EQ(net_info_get(t->n)->queues, 2);
	CHECK_EQ(net_info_get(t->n)->mtu, 1500);
	CHECK_EQ(net_tap_fd(t->n, 1), b);
	CHECK(net_link_up(t->n));
	CHECK_EQ(send_one(t, 60, 7), 0);
	CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
	set_up("tap0", false);
	run_until(t, &t->links, 1);
	tap_free(t);
	CHECK(fcntl(a, F_GETFD) < 0 && fcntl(b, F_GETFD) < 0);
	CHECK_EQ(if_nametoindex("tap0"), 0);
}

struct setter {
	struct net *n;
	atomic_bool stop;
};

static void *set_and_reset(void *arg)
{
	struct setter *s = arg;

	for (unsigned int i = 0; !atomic_load(&s->stop); i++) {
		net_set_offloads(s->n, i % 3 ? NET_O_CSUM | NET_O_TSO4 : 0);
		if (net_set_queues(s->n, 1 + i % 4) < 0 || !net_link_up(s->n))
			return s;
	}
	return NULL;
}

/* A vCPU sets offloads and queues while the loop carries frames. */
static void settings_come_from_any_thread(enum loop_engine engine)
{
	struct setter s = { 0 };
	pthread_t thread;
	struct tap *t;
	void *failed;

	tap_make("tap0", IFF_MULTI_QUEUE);
	t = tap_new(engine, "tap0", "tap0", 4);
	s.n = t->n;
	CHECK_EQ(pthread_create(&thread, NULL, set_and_reset, &s), 0);
	for (int i = 0; i < 200; i++) {
		for (unsigned int q = 0; q < 4; q++)
			net_want(t->n, q, true);
		host_sends(t, 60, (uint8_t)i);
		CHECK_EQ(send_one(t, 60, 1), 0);
		for (unsigned int q = 0; q < 4; q++)
			if (recv_one(t, q, 60) != -EAGAIN)
				CHECK_EQ(t->ops[0].res, NET_HDR_LEN + 60);
	}
	atomic_store(&s.stop, true);
	CHECK_EQ(pthread_join(thread, &failed), 0);
	CHECK(!failed);
	CHECK_EQ(net_set_queues(t->n, 1), 0);
	while (recv_one(t, 0, 60) != -EAGAIN)
		;
	for (unsigned int q = 0; q < 4; q++)
		t->readable[q] = 0;
	net_want(t->n, 0, true);
	run_a_while(t);
	host_sends(t, 60, 1);
	run_until(t, &t->readable[0], 1);
	tap_free(t);
	tap_remove("tap0", IFF_MULTI_QUEUE);
}

/* A batch of frames costs one system call, the one that waits. */
static void batches_cost_one_call(void)
{
	struct loop_stats before, after;
	struct net_req *r[OPS];
	struct tap *t;
	unsigned int done;

	tap_make("tap0", 0);
	t = tap_new(LOOP_URING, "tap0", "tap0", 1);
	run_a_while(t);
	for (unsigned int i = 0; i < OPS; i++) {
		r[i] = op_start(t, i, 60);
		frame_fill(t->ops[i].buf, 60, (uint8_t)i);
	}
	loop_stats_get(t->l, &before);
	net_send(t->n, 0, r, OPS);
	loop_step(t->l, true);
	loop_stats_get(t->l, &after);
	CHECK_EQ(after.waits - before.waits, 1);
	done = 0;
	for (unsigned int i = 0; i < OPS; i++)
		done += t->ops[i].done;
	CHECK_EQ(done, OPS);
	for (unsigned int i = 0; i < OPS; i++) {
		uint8_t f[2048];

		CHECK_EQ(t->ops[i].res, 0);
		CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
		CHECK_EQ(f[20], i); /* in their order */
	}
	for (int round = 0; round < 2; round++) { /* the first one teaches how many there are */
		for (unsigned int i = 0; i < OPS / 2; i++)
			host_sends(t, 60, (uint8_t)i);
		for (unsigned int i = 0; i < OPS; i++)
			r[i] = op_start(t, i, 60);
		loop_stats_get(t->l, &before);
		net_recv(t->n, 0, r, OPS);
		while (!t->ops[OPS - 1].done)
			loop_step(t->l, true);
		loop_stats_get(t->l, &after);
		CHECK(after.waits - before.waits <= (round ? 1 : 4));
		for (unsigned int i = 0; i < OPS; i++) {
			CHECK_EQ(t->ops[i].done, 1);
			CHECK_EQ(t->ops[i].res, i < OPS / 2 ? (int)NET_HDR_LEN + 60 : -EAGAIN);
			if (i < OPS / 2)
				CHECK_EQ(t->ops[i].buf[20], i);
		}
	}
	tap_free(t);
	tap_remove("tap0", 0);
}

/* From here on this process sees a kernel as old as Linux 6.1. */
static void see_an_old_kernel(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_preadv2, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_ioctl, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TUNSETOFFLOAD, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, 0x60, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { ARRAY_LEN(code), code };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

/* The last case, as it changes what the process sees. */
static void old_kernels_work(void)
{
	struct net_req *list[OPS];
	const struct frame_kind k = { .udp = true };
	uint8_t *big = malloc(66000), f[2048];
	struct frame whole, seg;
	struct net_req *r[3];
	struct tap *t;

	see_an_old_kernel();
	tap_make("tap0", 0);
	t = tap_new(LOOP_URING, "tap0", "tap0", 1);
	CHECK_EQ(net_info_get(t->n)->offloads, NET_O_ALL & ~NET_O_USO);
	frame_make(&whole, big, &k, 3000);
	frame_set(big + 12, 0x0800);
	close(t->packet);
	t->packet = packet_open_type("tap0", 0x0800);
	for (unsigned int i = 0; i < 3; i++) {
		r[i] = op_start(t, i, 60);
		frame_fill(t->ops[i].buf, 60, (uint8_t)i);
		put_be16(t->ops[i].buf + 12, 0x0800);
	}
	t->ops[1].iov[1] = (struct iovec){ big, whole.len };
	t->ops[1].hdr[0] = NET_HDR_NEEDS_CSUM;
	t->ops[1].hdr[1] = NET_GSO_UDP_L4;
	put_le16(t->ops[1].hdr + 4, 1400);
	put_le16(t->ops[1].hdr + 6, (uint16_t)whole.l4);
	put_le16(t->ops[1].hdr + 8, 6);
	net_send(t->n, 0, r, 3);
	run_until(t, &t->ops[2].done, 1);
	for (unsigned int i = 0; i < 3; i++)
		CHECK_EQ(t->ops[i].res, 0);
	CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
	CHECK_EQ(f[40], 0);
	for (unsigned int i = 0; i < 3; i++) {
		ssize_t len = recv(t->packet, f, sizeof(f), 0);

		CHECK_EQ(len, (i < 2 ? 1400 : 200) + (int)whole.payload);
		CHECK(frame_parse(&seg, f, (size_t)len) && frame_sums_ok(&seg));
		CHECK(memcmp(f + seg.payload, big + whole.payload + 1400 * i,
			     (size_t)len - seg.payload) == 0);
	}
	CHECK_EQ(recv(t->packet, f, sizeof(f), 0), 60);
	CHECK_EQ(f[40], 2);
	/* Reads without RWF_NOWAIT, each with its cancellation. */
	for (unsigned int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < 20; i++)
			host_sends(t, 60, (uint8_t)i);
		for (unsigned int i = 0; i < OPS; i++)
			list[i] = op_start(t, i, 60);
		net_recv(t->n, 0, list, OPS);
		run_until(t, &t->ops[OPS - 1].done, 1);
		for (unsigned int i = 0; i < OPS; i++) {
			CHECK_EQ(t->ops[i].done, 1);
			CHECK_EQ(t->ops[i].res, i < 20 ? (int)NET_HDR_LEN + 60 : -EAGAIN);
			if (i < 20)
				CHECK_EQ(t->ops[i].buf[20], i);
		}
	}
	tap_free(t);
	tap_remove("tap0", 0);
	free(big);
}

static void check_error(char *backend, const char *text)
{
	const struct net_spec spec = { .backend = backend };
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	struct err err = { 0 };

	CHECK(!net_open(l, &spec, &err));
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" says \"%s\"", backend, err.text);
	loop_free(l);
}

static void errors_say_what_to_do(void)
{
	char spec[32];
	int fd;

	check_error("tap7", "tap7 does not exist; make it with: ip tuntap add tap7 mode tap");
	check_error("vmnet7", "vmnet7 does not exist");
	check_error("tap:nosuch", "nosuch does not exist");
	CHECK_EQ(if_nametoindex("tap7"), 0); /* looking did not make it */
	check_error("tap:lo", "lo is not a tap");
	check_error("tap:", "not the name of an interface");
	check_error("tap:a-name-that-is-too-long", "not the name of an interface");
	check_error("tapx", "not a network back end");
	check_error("fd:", "is no open descriptor");
	check_error("fd:999", "\"999\" is no open descriptor");
	check_error("fd:3x", "\"3x\" is no open descriptor");
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	snprintf(spec, sizeof(spec), "fd:%d", fd);
	check_error(spec, "is not an open tap");
	CHECK(fcntl(fd, F_GETFD) < 0); /* taken over all the same */
	fd = tun_open("tap0", IFF_TAP | IFF_NO_PI);
	snprintf(spec, sizeof(spec), "fd:%d", fd);
	check_error(spec, "open the tap with IFF_TAP, IFF_NO_PI and IFF_VNET_HDR");
	fd = tun_open("tap0", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	snprintf(spec, sizeof(spec), "fd:%d:%d", fd, fd);
	check_error(spec, "is there twice");
	tap_make("tap0", 0);
	fd = tun_open("tap0", IFF_TAP | IFF_NO_PI);
	check_error("tap0", "tap0 is in use by another program");
	close(fd);
	tap_remove("tap0", 0);
}

#define BOTH(name)                     \
	static void name##_uring(void) \
	{                              \
		name(LOOP_URING);      \
	}                              \
	static void name##_epoll(void) \
	{                              \
		name(LOOP_EPOLL);      \
	}
#define BOTH_CASES(name)                     \
	{ #name " uring", name##_uring },    \
	{                                    \
#name " epoll", name##_epoll \
	}

BOTH(carries_frames)
BOTH(tells_when_frames_wait)
BOTH(follows_the_link)
BOTH(survives_removal)
BOTH(headers_work)
BOTH(queues_come_and_go)
BOTH(takes_descriptors)
BOTH(settings_come_from_any_thread)

static const struct test_case cases[] = {
	BOTH_CASES(carries_frames),
	BOTH_CASES(tells_when_frames_wait),
	BOTH_CASES(follows_the_link),
	BOTH_CASES(survives_removal),
	BOTH_CASES(headers_work),
	BOTH_CASES(queues_come_and_go),
	BOTH_CASES(takes_descriptors),
	BOTH_CASES(settings_come_from_any_thread),
	{ "batches cost one call", batches_cost_one_call },
	{ "errors say what to do", errors_say_what_to_do },
	{ "old kernels work", old_kernels_work },
};

/* A name space of our own; silent about IPv6, whose frames would come between ours. */
static const char *enter_name_space(void)
{
	struct loop *l;
	int fd;

	if (unshare(CLONE_NEWNET) < 0)
		return "no right to make a network name space";
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return "no /dev/net/tun";
	close(fd);
	fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			return "cannot switch IPv6 off";
		close(fd);
	}
	l = loop_new(LOOP_URING, NULL);
	if (!l)
		return "no io_uring";
	loop_free(l);
	return NULL;
}

int main(int argc, char **argv)
{
	const char *why = enter_name_space();

	if (why) {
		printf("SKIPPED, all cases: %s\n", why);
		return 77;
	}
	return RUN_CASES(cases, argc, argv);
}
