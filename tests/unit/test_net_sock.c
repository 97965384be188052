/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "back/net.h"
#include "frame.h"
#include "loop/loop.h"
#include "run.h"
#include "util/bytes.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"

/* The line under test, and the program at the other end of its socket. */
struct sock {
	struct loop *l;
	struct net *n;
	char dir[64], path[300];
	int listener, peer;
	unsigned int readable, links;
	bool up;
};

struct op {
	struct net_req req;
	struct iovec iov[4];
	uint8_t buf[NET_HDR_LEN + 66000];
	int res;
	unsigned int done;
};

static void op_done(struct net_req *r, int res)
{
	struct op *o = container_of(r, struct op, req);

	o->res = res;
	o->done++;
}

static void on_readable(void *arg, unsigned int q)
{
	struct sock *s = arg;

	s->readable++;
	net_want(s->n, q, false);
}

static void on_link(void *arg, bool up)
{
	struct sock *s = arg;

	s->links++;
	s->up = up;
}

/* bind() knows short paths only. */
static void start_listening(struct sock *s, int type)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char here[300];

	s->listener = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	CHECK(getcwd(here, sizeof(here)));
	*strrchr(s->path, '/') = 0;
	CHECK_EQ(chdir(s->path), 0);
	s->path[strlen(s->path)] = '/';
	snprintf(addr.sun_path, sizeof(addr.sun_path), "net.sock");
	CHECK_EQ(bind(s->listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_EQ(chdir(here), 0);
	CHECK_EQ(listen(s->listener, 4), 0);
}

static void stop_listening(struct sock *s)
{
	close(s->listener);
	CHECK_EQ(unlink(s->path), 0);
}

static void accept_peer(struct sock *s)
{
	struct timeval limit = { .tv_sec = 5 };

	s->peer = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(s->peer >= 0);
	CHECK_EQ(setsockopt(s->peer, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
}

static void make_dir(struct sock *s)
{
	snprintf(s->dir, sizeof(s->dir), "/tmp/test_net-XXXXXX");
	CHECK(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/net.sock", s->dir);
}

static void open_line(struct sock *s, enum loop_engine engine)
{
	static const struct net_events events = { .readable = on_readable, .link = on_link };
	char backend[320];
	const struct net_spec spec = { .backend = backend, .queues = 4 };
	struct err err = { 0 };

	snprintf(backend, sizeof(backend), "socket:%s", s->path);
	s->l = loop_new(engine, NULL);
	CHECK(s->l);
	s->n = net_open(s->l, &spec, &err);
	if (!s->n)
		CHECK_FAIL("net_open: %s", err.text);
	net_set_events(s->n, &events, s);
}

static struct sock *sock_new(enum loop_engine engine)
{
	struct sock *s = calloc(1, sizeof(*s));

	make_dir(s);
	start_listening(s, SOCK_SEQPACKET);
	open_line(s, engine);
	accept_peer(s);
	return s;
}

static void sock_free(struct sock *s)
{
	struct net_stats st;

	net_stats_get(s->n, &st);
	CHECK_EQ(st.accepted, st.completed);
	net_close(s->n);
	loop_free(s->l);
	close(s->peer);
	stop_listening(s);
	CHECK_EQ(rmdir(s->dir), 0);
	free(s);
}

static void run_until(struct sock *s, const unsigned int *flag, unsigned int want)
{
	for (int i = 0; i < 5000 && *flag < want; i++)
		if (!loop_step(s->l, false))
			usleep(1000);
	CHECK(*flag >= want);
}

static struct net_req *op_start(struct op *o, size_t len)
{
	o->iov[0] = (struct iovec){ o->buf, 5 };
	o->iov[1] = (struct iovec){ o->buf + 5, MIN((size_t)20, NET_HDR_LEN - 5 + len) };
	o->iov[2] = (struct iovec){ o->buf + 25, NET_HDR_LEN - 5 + len - o->iov[1].iov_len };
	o->req = (struct net_req){ .iov = o->iov, .iovcnt = 3, .done = op_done };
	o->done = 0;
	return &o->req;
}

static int send_one(struct sock *s, struct op *o, size_t len)
{
	struct net_req *r = op_start(o, len);

	net_send(s->n, 0, &r, 1);
	CHECK_EQ(o->done, 0);
	run_until(s, &o->done, 1);
	return o->res;
}

static int recv_one(struct sock *s, struct op *o, size_t len)
{
	struct net_req *r = op_start(o, len);

	net_recv(s->n, 0, &r, 1);
	CHECK_EQ(o->done, 0);
	run_until(s, &o->done, 1);
	return o->res;
}

static void carries_frames(enum loop_engine engine)
{
	struct sock *s = sock_new(engine);
	struct op *o = calloc(1, sizeof(*o));
	uint8_t *f = malloc(66000);

	CHECK(net_link_up(s->n));
	CHECK_EQ(net_info_get(s->n)->queues, 1);
	CHECK_EQ(net_info_get(s->n)->offloads, 0);
	for (size_t i = 0; i < 1514; i++)
		o->buf[NET_HDR_LEN + i] = (uint8_t)(i + 1);
	CHECK_EQ(send_one(s, o, 1514), 0);
	CHECK_EQ(recv(s->peer, f, 66000, 0), 1514);
	for (size_t i = 0; i < 1514; i++)
		CHECK_EQ(f[i], (uint8_t)(i + 1));
	CHECK_EQ(recv_one(s, o, 2000), -EAGAIN);
	CHECK_EQ(send(s->peer, f, 1514, 0), 1514);
	memset(o->buf, 0xee, sizeof(o->buf));
	CHECK_EQ(recv_one(s, o, 1514), 1514 + NET_HDR_LEN); /* fits exactly */
	CHECK(memcmp(o->buf + NET_HDR_LEN, f, 1514) == 0);
	CHECK_EQ(get_le64(o->buf), 0);
	CHECK_EQ(get_le32(o->buf + 8), 0x10000); /* num_buffers 1 */
	CHECK_EQ(send(s->peer, f, 60, 0), 60);
	net_want(s->n, 0, true);
	run_until(s, &s->readable, 1);
	net_want(s->n, 0, true);
	run_until(s, &s->readable, 2);
	CHECK_EQ(recv_one(s, o, 60), 60 + NET_HDR_LEN);
	sock_free(s);
	free(f);
	free(o);
}

static void bad_packets_are_dropped(enum loop_engine engine)
{
	struct sock *s = sock_new(engine);
	struct op *o = calloc(1, sizeof(*o));
	struct net_stats st;
	uint8_t *f = calloc(1, 70000);

	CHECK_EQ(send(s->peer, f, 61, 0), 61);
	CHECK_EQ(send(s->peer, f, 65553 + 1, 0), 65554); /* more than any frame */
	CHECK_EQ(send(s->peer, f, 13, 0), 13);
	CHECK_EQ(send(s->peer, f, 1, 0), 1);
	CHECK_EQ(send(s->peer, f, 60, 0), 60);
	CHECK_EQ(send(s->peer, f, 60, 0), 60);
	CHECK_EQ(recv_one(s, o, 60), -EMSGSIZE);
	CHECK_EQ(recv_one(s, o, 66000), -EMSGSIZE);
	CHECK_EQ(recv_one(s, o, 60), 60 + NET_HDR_LEN);
	op_start(o, 0);
	o->iov[2].iov_len = 0;
	o->iov[1].iov_len = 3;
	net_recv(s->n, 0, &(struct net_req *){ &o->req }, 1);
	run_until(s, &o->done, 1);
	CHECK_EQ(o->res, -EMSGSIZE);
	net_stats_get(s->n, &st);
	CHECK_EQ(st.failed, 5);
	CHECK_EQ(st.rx_frames, 1);
	CHECK(net_link_up(s->n));
	/* One packet without bytes cannot be told from the end: the connection is made anew. */
	CHECK_EQ(send(s->peer, f, 0, 0), 0);
	CHECK_EQ(recv_one(s, o, 60), -EAGAIN);
	CHECK(!net_link_up(s->n));
	run_until(s, &s->links, 2);
	CHECK(net_link_up(s->n));
	sock_free(s);
	free(f);
	free(o);
}

static void full_buffers_drop(enum loop_engine engine)
{
	struct sock *s = sock_new(engine);
	struct op *o = calloc(1, sizeof(*o));
	int sent = 0;

	while (sent < 100000 && send_one(s, o, 60000) == 0)
		sent++;
	CHECK_EQ(o->res, -ENOBUFS);
	CHECK(sent > 0 && net_link_up(s->n));
	CHECK_EQ(recv(s->peer, o->buf, 66000, 0), 60000);
	CHECK_EQ(send_one(s, o, 60000), 0);
	sock_free(s);
	free(o);
}

static void comes_back(enum loop_engine engine)
{
	struct sock *s = sock_new(engine);
	struct op *o = calloc(1, sizeof(*o));
	uint8_t f[64] = { 0 };

	close(s->peer);
	run_until(s, &s->links, 1); /* noticed without a request */
	CHECK(!s->up && !net_link_up(s->n));
	CHECK_EQ(send_one(s, o, 60), -ENETDOWN);
	CHECK_EQ(recv_one(s, o, 60), -EAGAIN);
	net_want(s->n, 0, true); /* kept over the break */
	run_until(s, &s->links, 2);
	CHECK(s->up);
	accept_peer(s);
	CHECK_EQ(send_one(s, o, 60), 0);
	CHECK_EQ(recv(s->peer, f, sizeof(f), 0), 60);
	CHECK_EQ(send(s->peer, f, 60, 0), 60);
	run_until(s, &s->readable, 1);
	CHECK_EQ(recv_one(s, o, 60), 60 + NET_HDR_LEN);
	stop_listening(s);
	close(s->peer);
	CHECK_EQ(send_one(s, o, 60), -ENETDOWN); /* noticed by the request */
	run_until(s, &s->links, 3);
	start_listening(s, SOCK_SEQPACKET);
	run_until(s, &s->links, 4);
	accept_peer(s);
	sock_free(s);
	free(o);
}

/* Nobody there at first; then the waits between attempts: 100 ms, doubled up to 2 s. */
static void backs_off(void)
{
	struct sock *s = calloc(1, sizeof(*s));
	uint64_t ms = 0;

	make_dir(s);
	open_line(s, LOOP_FAKE);
	CHECK(!net_link_up(s->n));
	for (; ms < 3000; ms += 10) /* attempts at 100, 300, 700, 1500, 3100, 5100 */
		loop_fake_advance(s->l, 10 * NS_PER_MS);
	start_listening(s, SOCK_SEQPACKET);
	for (; !net_link_up(s->n) && ms < 10000; ms += 10)
		loop_fake_advance(s->l, 10 * NS_PER_MS);
	CHECK_EQ(ms, 3100);
	accept_peer(s);
	stop_listening(s);
	close(s->peer);
	for (int i = 0; i < 100; i++)
		loop_step(s->l, false);
	CHECK(!net_link_up(s->n));
	CHECK_EQ(s->links, 0); /* up and down at once is not told */
	start_listening(s, SOCK_SEQPACKET);
	for (ms = 0; !net_link_up(s->n) && ms < 10000; ms += 10)
		loop_fake_advance(s->l, 10 * NS_PER_MS);
	CHECK_EQ(ms, 2000); /* it never carried a frame: the waits do not start over */
	accept_peer(s);
	sock_free(s);
}

static void long_paths_work(void)
{
	struct sock *s = calloc(1, sizeof(*s));
	char inner[200];
	size_t n;

	make_dir(s);
	n = (size_t)snprintf(inner, sizeof(inner), "%s/", s->dir);
	memset(inner + n, 'x', 150);
	inner[n + 150] = 0;
	CHECK_EQ(mkdir(inner, 0700), 0);
	snprintf(s->path, sizeof(s->path), "%s/net.sock", inner);
	CHECK(strlen(s->path) > sizeof(((struct sockaddr_un *)0)->sun_path));
	start_listening(s, SOCK_SEQPACKET);
	open_line(s, LOOP_AUTO);
	CHECK(net_link_up(s->n));
	accept_peer(s);
	net_close(s->n);
	loop_free(s->l);
	close(s->peer);
	stop_listening(s);
	CHECK_EQ(rmdir(inner), 0);
	CHECK_EQ(rmdir(s->dir), 0);
	free(s);
}

static void guests_offloads_are_done_here(enum loop_engine engine)
{
	const struct frame_kind k = { .tcp_options = 12, .tcp_flags = 0x18 };
	struct sock *s = sock_new(engine);
	struct op *o = calloc(1, sizeof(*o));
	uint8_t *f = malloc(66000);
	size_t got = 0;
	struct frame whole, seg;

	frame_make(&whole, o->buf + NET_HDR_LEN, &k, 30000);
	memset(o->buf, 0, NET_HDR_LEN);
	o->buf[0] = NET_HDR_NEEDS_CSUM;
	o->buf[1] = NET_GSO_TCPV4;
	put_le16(o->buf + 4, 1448);
	put_le16(o->buf + 6, (uint16_t)whole.l4);
	put_le16(o->buf + 8, 16);
	CHECK_EQ(send_one(s, o, whole.len), 0);
	while (got < 30000) {
		ssize_t len = recv(s->peer, f, 66000, 0);

		CHECK(len > 0 && len <= 1514);
		CHECK(frame_parse(&seg, f, (size_t)len) && frame_sums_ok(&seg));
		CHECK(memcmp(f + seg.payload, whole.data + whole.payload + got,
			     seg.len - seg.payload) == 0);
		got += seg.len - seg.payload;
	}
	CHECK_EQ(got, 30000);
	o->buf[1] = NET_GSO_NONE;
	put_le16(o->buf + 4, 0);
	CHECK_EQ(send_one(s, o, whole.len), 0);
	CHECK_EQ(recv(s->peer, f, 66000, 0), whole.len);
	CHECK(frame_parse(&seg, f, whole.len) && frame_sums_ok(&seg));
	o->buf[1] = NET_GSO_TCPV6;
	put_le16(o->buf + 4, 1448);
	CHECK_EQ(send_one(s, o, whole.len), -EINVAL);
	sock_free(s);
	free(f);
	free(o);
}

static void check_error(const char *path, const char *text)
{
	char backend[320];
	const struct net_spec spec = { .backend = backend };
	struct loop *l = loop_new(LOOP_AUTO, NULL);
	struct err err = { 0 };

	snprintf(backend, sizeof(backend), "socket:%s", path);
	CHECK(!net_open(l, &spec, &err));
	if (!strstr(err.text, text))
		CHECK_FAIL("it says \"%s\"", err.text);
	loop_free(l);
}

static void errors_say_what_to_do(void)
{
	struct sock *s = calloc(1, sizeof(*s));
	char name[260];

	make_dir(s);
	start_listening(s, SOCK_STREAM);
	check_error(s->path, "is no SOCK_SEQPACKET socket");
	stop_listening(s);
	check_error("", "the path of a socket must follow");
	check_error("/tmp/", "the path of a socket must follow");
	memset(name, 'x', 200);
	name[200] = 0;
	check_error(name, "cannot connect: File name too long");
	CHECK_EQ(rmdir(s->dir), 0);
	free(s);
}

#define BOTH(name)                     \
	static void name##_uring(void) \
	{                              \
		name(LOOP_AUTO);       \
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
BOTH(bad_packets_are_dropped)
BOTH(full_buffers_drop)
BOTH(comes_back)
BOTH(guests_offloads_are_done_here)

static const struct test_case cases[] = {
	BOTH_CASES(carries_frames),
	BOTH_CASES(bad_packets_are_dropped),
	BOTH_CASES(full_buffers_drop),
	BOTH_CASES(comes_back),
	BOTH_CASES(guests_offloads_are_done_here),
	{ "backs off", backs_off },
	{ "long paths work", long_paths_work },
	{ "errors say what to do", errors_say_what_to_do },
};

int main(int argc, char **argv)
{
	log_set(-1, LOG_LEVEL_ERROR);
	return RUN_CASES(cases, argc, argv);
}
