/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/tb.h"
#include "bench/tb_priv.h"

#define DEPTH 1024 /* frames that wait on a queue pair */

struct net *tb_net_open(struct tb *tb, const struct net_spec *spec, struct err *err)
{
	unsigned int queues = spec->queues ? (unsigned int)spec->queues : 1;
	struct tb_line *t = &tb->nets[tb->nnets];

	assert(tb->nnets < TB_MAX_NETS);
	*t = (struct tb_line){ 0 };
	if (spec->backend) {
		t->line = net_open(tb->loop, spec, err);
		if (!t->line)
			return NULL;
	} else {
		int rc = net_open_pair(tb->loop, queues, DEPTH, &t->line, &t->peer);

		assert(rc == 0);
		net_set_offloads(t->peer, NET_O_ALL);
		rc = net_set_queues(t->peer, queues);
		assert(rc == 0);
		t->cable = t->line;
	}
	if (tb->opts.faults)
		t->line = net_open_fault(tb->loop, t->line);
	assert(t->line);
	tb->nnets++;
	return t->line;
}

void tb_net_drop(struct tb *tb, unsigned int keep)
{
	while (tb->nnets > keep)
		net_close(tb->nets[--tb->nnets].peer);
}

static struct tb_line *line_of(struct tb *tb, unsigned int n)
{
	assert(n < tb->nnets);
	return &tb->nets[n];
}

struct net *tb_net(struct tb *tb, unsigned int n)
{
	return n < tb->nnets ? tb->nets[n].line : NULL;
}

struct net *tb_net_peer(struct tb *tb, unsigned int n)
{
	return line_of(tb, n)->peer;
}

void tb_net_link(struct tb *tb, unsigned int n, bool up)
{
	net_pair_link(line_of(tb, n)->cable, up);
	tb_run(tb);
}

void tb_net_fault(struct tb *tb, unsigned int n, const struct net_fault *f)
{
	static const struct net_fault none;

	assert(tb->opts.faults);
	net_fault_set(line_of(tb, n)->line, f ? f : &none);
	if (!f)
		net_fault_release(line_of(tb, n)->line, SIZE_MAX);
}

/* --- frames from and to the outside --- */

struct outside {
	struct net_req req;
	struct iovec iov[3]; /* one to spare */
	struct net_hdr hdr;
	bool finished;
	int res;
};

static void outside_done(struct net_req *r, int res)
{
	struct outside *o = container_of(r, struct outside, req);

	o->finished = true;
	o->res = res;
}

static struct net_req *outside_start(struct outside *o, void *frame, size_t len)
{
	o->iov[0] = (struct iovec){ &o->hdr, sizeof(o->hdr) };
	o->iov[1] = (struct iovec){ frame, len };
	o->req.iov = o->iov;
	o->req.iovcnt = 2;
	o->req.done = outside_done;
	return &o->req;
}

/* The peer's own requests complete by a post, which a single step runs. */
static int outside_end(struct tb *tb, struct outside *o)
{
	for (int i = 0; i < 100 && !o->finished; i++)
		loop_step(tb->loop, false);
	assert(o->finished);
	return o->res;
}

int tb_net_queue(struct tb *tb, unsigned int n, unsigned int q, const struct net_hdr *hdr,
		 const void *frame, size_t len)
{
	struct outside o = { .finished = false };
	struct net_req *r = outside_start(&o, (void *)(uintptr_t)frame, len);

	if (hdr)
		o.hdr = *hdr;
	net_send(line_of(tb, n)->peer, q, &r, 1);
	return outside_end(tb, &o);
}

int tb_net_put(struct tb *tb, unsigned int n, const void *frame, size_t len)
{
	int rc = tb_net_queue(tb, n, 0, NULL, frame, len);

	tb_run(tb);
	return rc;
}

int tb_net_take(struct tb *tb, unsigned int n, unsigned int q, struct net_hdr *hdr, void *buf,
		size_t size)
{
	struct outside o = { .finished = false };
	struct net_req *r = outside_start(&o, buf, size);
	int rc;

	net_recv(line_of(tb, n)->peer, q, &r, 1);
	rc = outside_end(tb, &o);
	if (rc >= 0 && hdr)
		*hdr = o.hdr;
	return rc < 0 ? rc : rc - (int)sizeof(o.hdr);
}

/* Takes all that waits at one end. */
static void drain(struct tb *tb, struct net *end)
{
	static uint8_t frame[NET_FRAME_MAX];
	unsigned int q = 0;

	while (q < net_info_get(end)->queues) {
		struct outside o = { .finished = false };
		struct net_req *r = outside_start(&o, frame, sizeof(frame));

		net_recv(end, q, &r, 1);
		q += outside_end(tb, &o) == -EAGAIN;
	}
}

void tb_net_clear(struct tb *tb, unsigned int n)
{
	struct tb_line *t = line_of(tb, n);

	if (!t->peer)
		return;
	net_pair_link(t->cable, true);
	drain(tb, t->peer);
	drain(tb, t->cable);
}

int tb_net_next(struct tb *tb, unsigned int n, struct net_hdr *hdr, void *buf, size_t size)
{
	unsigned int queues = net_info_get(line_of(tb, n)->peer)->queues;
	int rc = -EAGAIN;

	tb_run(tb);
	for (unsigned int q = 0; q < queues && rc == -EAGAIN; q++)
		rc = tb_net_take(tb, n, q, hdr, buf, size);
	return rc;
}

struct net_stats tb_net_stats(struct tb *tb, unsigned int n)
{
	struct net_stats s;

	net_stats_get(line_of(tb, n)->line, &s);
	return s;
}
