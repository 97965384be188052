/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "back/net.h"
#include "loop/loop.h"
#include "run.h"
#include "util/err.h"
#include "util/macros.h"

/* A request with its memory; the frame's first byte after the addresses tells frames apart. */
struct op {
	struct net_req req;
	struct line *line;
	struct iovec iov[4];
	uint8_t buf[NET_HDR_LEN + 2048];
	int res;
	unsigned int done, order;
};

struct line {
	struct loop *l;
	struct net *a, *b;
	unsigned int readable, links, enters, leaves, order;
	bool up, inside;
};

static void op_done(struct net_req *r, int res)
{
	struct op *o = container_of(r, struct op, req);

	o->res = res;
	o->done++;
	o->order = ++o->line->order;
}

/* Splits the buffer such that the header is in two pieces. */
static struct net_req *op_start(struct line *t, struct op *o, size_t len)
{
	o->line = t;
	o->iov[0] = (struct iovec){ o->buf, 5 };
	o->iov[1] = (struct iovec){ o->buf + 5, 0 };
	o->iov[2] = (struct iovec){ o->buf + 5, NET_HDR_LEN - 5 + len };
	o->req = (struct net_req){ .iov = o->iov, .iovcnt = 3, .done = op_done };
	o->done = 0;
	return &o->req;
}

static void op_fill(struct op *o, uint8_t mark, size_t len)
{
	memset(o->buf, 0, NET_HDR_LEN);
	for (size_t i = 0; i < len; i++)
		o->buf[NET_HDR_LEN + i] = (uint8_t)(mark + i);
}

static void run(struct line *t)
{
	for (int i = 0; i < 200 && loop_step(t->l, false); i++)
		;
}

static int send_now(struct line *t, struct net *n, struct op *o, uint8_t mark, size_t len)
{
	struct net_req *r = op_start(t, o, len);

	op_fill(o, mark, len);
	net_send(n, 0, &r, 1);
	CHECK_EQ(o->done, 0);
	run(t);
	CHECK_EQ(o->done, 1);
	return o->res;
}

static int recv_now(struct line *t, struct net *n, unsigned int q, struct op *o, size_t len)
{
	struct net_req *r = op_start(t, o, len);

	net_recv(n, q, &r, 1);
	CHECK_EQ(o->done, 0);
	run(t);
	CHECK_EQ(o->done, 1);
	return o->res;
}

static void on_readable(void *arg, unsigned int q)
{
	struct line *t = arg;

	(void)q;
	CHECK(t->inside);
	t->readable++;
	if (t->readable == 3)
		net_want(t->b, 0, false);
}

static void on_link(void *arg, bool up)
{
	struct line *t = arg;

	CHECK(t->inside);
	t->links++;
	t->up = up;
}

static void on_enter(void *arg)
{
	struct line *t = arg;

	CHECK(!t->inside);
	t->inside = true;
	t->enters++;
}

static void on_leave(void *arg)
{
	struct line *t = arg;

	CHECK(t->inside);
	t->inside = false;
	t->leaves++;
}

static const struct net_events events = {
	.readable = on_readable, .link = on_link, .enter = on_enter, .leave = on_leave
};

static void line_new(struct line *t, unsigned int queues, unsigned int depth)
{
	*t = (struct line){ .l = loop_new(LOOP_FAKE, NULL) };
	CHECK(t->l);
	CHECK_EQ(net_open_pair(t->l, queues, depth, &t->a, &t->b), 0);
}

static void check_balanced(const struct net *n)
{
	struct net_stats s;

	net_stats_get(n, &s);
	CHECK_EQ(s.accepted, s.completed);
}

static void line_free(struct line *t)
{
	check_balanced(t->a);
	check_balanced(t->b);
	CHECK_EQ(t->enters, t->leaves);
	net_close(t->a);
	net_close(t->b);
	loop_free(t->l);
}

static void pair_carries_frames(void)
{
	struct net_stats s;
	struct line t;
	struct op *o = calloc(2, sizeof(*o));

	line_new(&t, 1, 4);
	CHECK_EQ(recv_now(&t, t.b, 0, &o[1], 100), -EAGAIN);
	CHECK_EQ(send_now(&t, t.a, &o[0], 7, 60), 0);
	memset(o[1].buf, 0xff, sizeof(o[1].buf));
	CHECK_EQ(recv_now(&t, t.b, 0, &o[1], 100), NET_HDR_LEN + 60);
	CHECK_EQ(o[1].buf[10], 1); /* num_buffers */
	CHECK_EQ(o[1].buf[11], 0);
	CHECK(memcmp(o[1].buf + NET_HDR_LEN, o[0].buf + NET_HDR_LEN, 60) == 0);
	CHECK_EQ(o[1].buf[NET_HDR_LEN + 60], 0xff);
	CHECK_EQ(recv_now(&t, t.a, 0, &o[1], 100), -EAGAIN);
	net_stats_get(t.a, &s);
	CHECK_EQ(s.tx_frames, 1);
	CHECK_EQ(s.tx_bytes, 60);
	CHECK_EQ(s.failed, 0);
	net_stats_get(t.b, &s);
	CHECK_EQ(s.rx_frames, 1);
	CHECK_EQ(s.rx_bytes, 60);
	CHECK_EQ(s.failed, 0); /* an empty line is no failure */
	line_free(&t);
	free(o);
}

static void pair_is_bounded(void)
{
	struct line t;
	struct op *o = calloc(1, sizeof(*o));

	line_new(&t, 1, 2);
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), 0);
	CHECK_EQ(send_now(&t, t.a, o, 2, 60), 0);
	CHECK_EQ(send_now(&t, t.a, o, 3, 60), -ENOBUFS);
	CHECK_EQ(recv_now(&t, t.b, 0, o, 60), NET_HDR_LEN + 60); /* fits exactly */
	CHECK_EQ(o->buf[NET_HDR_LEN], 1);
	CHECK_EQ(recv_now(&t, t.b, 0, o, 59), -EMSGSIZE);
	CHECK_EQ(recv_now(&t, t.b, 0, o, 60), -EAGAIN);
	CHECK_EQ(send_now(&t, t.a, o, 4, 60), 0); /* left behind: close frees it */
	line_free(&t);
	free(o);
}

static void bad_headers_are_refused(void)
{
	static const struct {
		struct net_hdr h;
		size_t len;
		int res;
	} rows[] = {
		{ { 0 }, 13, -EINVAL },
		{ { 0 }, 14, 0 },
		{ { .hdr_len = 60 }, 60, 0 },
		{ { .hdr_len = 61 }, 60, -EINVAL },
		{ { .flags = 1, .csum_start = 34, .csum_offset = 24 }, 60, 0 },
		{ { .flags = 1, .csum_start = 34, .csum_offset = 25 }, 60, -EINVAL },
		{ { .flags = 1, .csum_start = 0xffff, .csum_offset = 0xffff }, 60, -EINVAL },
		{ { .flags = 1, .csum_start = 13, .csum_offset = 6 }, 60, -EINVAL },
		{ { .flags = 1, .gso_type = 1, .gso_size = 8, .csum_start = 34, .csum_offset = 16 },
		  60,
		  0 },
		{ { .flags = 1, .gso_type = 1, .csum_start = 34, .csum_offset = 16 }, 60, -EINVAL },
		{ { .gso_type = 1, .gso_size = 8 }, 60, -EINVAL },
		{ { .flags = 1, .gso_type = 3, .gso_size = 8, .csum_start = 34, .csum_offset = 6 },
		  60,
		  -EINVAL },
		{ { .flags = 1, .gso_type = 0x80, .gso_size = 8, .csum_start = 34 }, 60, -EINVAL },
		{ { .flags = 1, .gso_type = 0x85, .gso_size = 8, .csum_start = 34 }, 60, -EINVAL },
	};
	struct line t;
	struct op *o = calloc(1, sizeof(*o));
	struct net_req *r;

	line_new(&t, 1, 16);
	net_set_offloads(t.b, NET_O_ALL);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		r = op_start(&t, o, rows[i].len);
		op_fill(o, 0, rows[i].len);
		memcpy(o->buf, &rows[i].h, sizeof(rows[i].h));
		net_send(t.a, 0, &r, 1);
		run(&t);
		if (o->res != rows[i].res)
			CHECK_FAIL("row %zu gives %d", i, o->res);
	}
	r = op_start(&t, o, 0); /* shorter than the header */
	o->iov[2].iov_len = NET_HDR_LEN - 6;
	net_send(t.a, 0, &r, 1);
	run(&t);
	CHECK_EQ(o->res, -EINVAL);
	o->iov[2].iov_len = NET_FRAME_MAX - 4;
	net_send(t.a, 0, &r, 1);
	run(&t);
	CHECK_EQ(o->res, -EINVAL);
	o->iov[0].iov_len = o->iov[1].iov_len = SIZE_MAX;
	net_send(t.a, 0, &r, 1);
	net_recv(t.b, 0, &r, 0);
	run(&t);
	CHECK_EQ(o->res, -EINVAL);
	o->req.iovcnt = 0;
	net_send(t.a, 0, &r, 1);
	run(&t);
	CHECK_EQ(o->res, -EINVAL);
	o->req.iovcnt = NET_IOV_MAX + 1;
	net_recv(t.a, 0, &r, 1);
	run(&t);
	CHECK_EQ(o->res, -EINVAL);
	line_free(&t);
	free(o);
}

static void readable_is_level_triggered(void)
{
	struct line t;
	struct op *o = calloc(1, sizeof(*o));

	line_new(&t, 1, 4);
	net_set_events(t.b, &events, &t);
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), 0);
	CHECK_EQ(t.readable, 0); /* off at first */
	net_want(t.b, 0, true);
	CHECK_EQ(t.readable, 0); /* not inside the call */
	run(&t);
	CHECK_EQ(t.readable, 3); /* again and again, until the third switched it off */
	net_want(t.b, 0, true);
	net_want(t.b, 0, false);
	run(&t);
	CHECK_EQ(t.readable, 3);
	CHECK_EQ(recv_now(&t, t.b, 0, o, 60), NET_HDR_LEN + 60);
	net_want(t.b, 0, true);
	run(&t);
	CHECK_EQ(t.readable, 3);
	line_free(&t);
	free(o);
}

static void results_come_in_one_batch(void)
{
	struct line t;
	struct op *o = calloc(8, sizeof(*o));
	struct net_req *r[8];

	line_new(&t, 1, 8);
	net_set_events(t.a, &events, &t);
	for (int i = 0; i < 8; i++) {
		r[i] = op_start(&t, &o[i], 60);
		op_fill(&o[i], (uint8_t)i, 60);
	}
	net_send(t.a, 0, r, 8);
	run(&t);
	CHECK_EQ(t.enters, 1);
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(o[i].done, 1);
		CHECK_EQ(o[i].order, i + 1);
		CHECK_EQ(recv_now(&t, t.b, 0, &o[i], 60), NET_HDR_LEN + 60);
		CHECK_EQ(o[i].buf[NET_HDR_LEN], i);
	}
	line_free(&t);
	free(o);
}

static void queues_are_apart(void)
{
	struct line t;
	struct op *o = calloc(1, sizeof(*o));
	struct net_req *r;

	line_new(&t, 4, 4);
	CHECK_EQ(net_set_queues(t.b, 0), -EINVAL);
	CHECK_EQ(net_set_queues(t.b, 5), -EINVAL);
	for (unsigned int queues = 1; queues <= 4; queues += 3) {
		CHECK_EQ(net_set_queues(t.b, queues), 0);
		r = op_start(&t, o, 60);
		op_fill(o, 1, 60);
		net_send(t.a, 2, &r, 1);
		run(&t);
		CHECK_EQ(recv_now(&t, t.b, queues == 1 ? 2 : 0, o, 60), -EAGAIN);
		CHECK_EQ(recv_now(&t, t.b, queues == 1 ? 0 : 2, o, 60), NET_HDR_LEN + 60);
	}
	line_free(&t);
	free(o);
}

static void cables_can_be_pulled(void)
{
	struct line t;
	struct op *o = calloc(1, sizeof(*o));

	line_new(&t, 1, 4);
	net_set_events(t.a, &events, &t);
	CHECK(net_link_up(t.a));
	net_pair_link(t.b, false);
	run(&t);
	CHECK_EQ(t.links, 1);
	CHECK(!t.up && !net_link_up(t.a) && !net_link_up(t.b));
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), -ENETDOWN);
	net_pair_link(t.b, true);
	net_pair_link(t.b, false);
	run(&t);
	CHECK_EQ(t.links, 1); /* never looked up */
	net_pair_link(t.b, true);
	run(&t);
	CHECK_EQ(t.links, 2);
	CHECK(t.up);
	net_close(t.b);
	run(&t);
	CHECK_EQ(t.links, 3);
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), -ENETDOWN);
	CHECK_EQ(recv_now(&t, t.a, 0, o, 60), -EAGAIN);
	net_close(t.a);
	loop_free(t.l);
	free(o);
}

static void none_is_down(void)
{
	const struct net_spec spec = { .backend = "none", .queues = 3 }, nothing = { 0 };
	struct op *o = calloc(1, sizeof(*o));
	struct line t = { .l = loop_new(LOOP_FAKE, NULL) };

	t.a = net_open(t.l, &nothing, NULL);
	t.b = net_open(t.l, &spec, NULL);
	CHECK(t.a && t.b);
	CHECK(!net_link_up(t.a));
	CHECK_EQ(net_info_get(t.a)->queues, 1);
	CHECK_EQ(net_info_get(t.b)->queues, 3);
	CHECK_EQ(net_tap_fd(t.b, 0), -1);
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), -ENETDOWN);
	CHECK_EQ(recv_now(&t, t.a, 0, o, 60), -EAGAIN);
	line_free(&t);
	free(o);
}

static void unknown_back_ends_are_named(void)
{
	const struct net_spec spec = { .backend = "bridge0" };
	struct loop *l = loop_new(LOOP_FAKE, NULL);
	struct err err = { 0 };

	CHECK(!net_open(l, &spec, &err));
	CHECK(strstr(err.text, "bridge0: not a network back end"));
	loop_free(l);
}

static void faults_fail_and_hold(void)
{
	struct net_fault f = { .fail_nth = 2, .fail_errno = EIO };
	struct op *o = calloc(3, sizeof(*o));
	struct net_req *r[3];
	struct line t;

	line_new(&t, 1, 4);
	t.a = net_open_fault(t.l, t.a);
	CHECK(t.a && net_link_up(t.a));
	net_fault_set(t.a, &f);
	for (int i = 0; i < 3; i++) {
		r[i] = op_start(&t, &o[i], 60);
		op_fill(&o[i], (uint8_t)i, 60);
	}
	net_send(t.a, 0, r, 3);
	run(&t);
	CHECK_EQ(o[0].res, 0);
	CHECK_EQ(o[1].res, -EIO);
	CHECK_EQ(o[2].res, 0);
	CHECK_EQ(o[1].order, 2); /* in their order */
	f = (struct net_fault){ .hold = true };
	net_fault_set(t.a, &f);
	for (int i = 0; i < 3; i++)
		o[i].done = 0;
	net_send(t.a, 0, r, 2);
	net_recv(t.a, 0, &r[2], 1);
	run(&t);
	CHECK_EQ(o[0].done + o[1].done + o[2].done, 0);
	CHECK_EQ(net_fault_release(t.a, 1), 2);
	run(&t);
	CHECK_EQ(o[0].done, 1);
	CHECK_EQ(o[1].done + o[2].done, 0);
	CHECK_EQ(net_fault_release(t.a, 9), 0);
	run(&t);
	CHECK_EQ(o[1].done + o[2].done, 2);
	CHECK_EQ(o[2].res, -EAGAIN);
	net_fault_set(t.a, &(struct net_fault){ .fail_nth = -1, .fail_errno = ENOBUFS });
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), -ENOBUFS);
	CHECK_EQ(recv_now(&t, t.a, 0, o, 60), -ENOBUFS);
	line_free(&t);
	free(o);
}

static void faults_pass_events_on(void)
{
	struct op *o = calloc(1, sizeof(*o));
	struct line t;

	line_new(&t, 1, 4);
	t.b = net_open_fault(t.l, t.b);
	net_set_events(t.b, &events, &t);
	net_want(t.b, 0, true);
	CHECK_EQ(send_now(&t, t.a, o, 1, 60), 0);
	CHECK_EQ(t.readable, 3);
	net_pair_link(t.a, false);
	run(&t);
	CHECK_EQ(t.links, 1);
	CHECK(!t.up && !net_link_up(t.b));
	line_free(&t);
	free(o);
}

static const struct test_case cases[] = {
	{ "pair carries frames", pair_carries_frames },
	{ "pair is bounded", pair_is_bounded },
	{ "bad headers are refused", bad_headers_are_refused },
	{ "readable is level-triggered", readable_is_level_triggered },
	{ "results come in one batch", results_come_in_one_batch },
	{ "queues are apart", queues_are_apart },
	{ "cables can be pulled", cables_can_be_pulled },
	{ "none is down", none_is_down },
	{ "unknown back ends are named", unknown_back_ends_are_named },
	{ "faults fail and hold", faults_fail_and_hold },
	{ "faults pass events on", faults_pass_events_on },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
