/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "bench/tb_nvme.h"
#include "hw/table.h"
#include "run.h"
#include "util/clock.h"

/* Doorbells from several threads against a loop that really sleeps: no command may be forgotten. */

#define VCPUS 2
#define COMMANDS 5000
#define PATIENCE (10 * NS_PER_SEC)

struct fix {
	struct tb *tb;
	struct tb_nvme nv;
	atomic_uint running;
	struct vcpu {
		struct fix *f;
		unsigned int queue;
		uint32_t seed, submitted, completed;
		bool stuck;
	} vcpus[VCPUS];
};

static uint32_t next_random(struct vcpu *v)
{
	v->seed = v->seed * 1664525 + 1013904223;
	return v->seed >> 16;
}

static void submit_some(struct vcpu *v)
{
	struct nvme_sqe cmd =
		tb_nvme_rw(NVME_CMD_READ, next_random(v) % 1000, 1, 0x20000 + 0x1000 * v->queue, 0);
	uint32_t n = 1 + next_random(v) % 4;

	for (uint32_t i = 0; i < n && v->submitted - v->completed < 15; i++, v->submitted++) {
		cmd.cdw0 = NVME_CMD_READ | v->submitted << 16;
		tb_nvme_push_as(&v->f->nv, v->queue, &cmd);
	}
	tb_nvme_ring(&v->f->nv, v->queue);
}

/* Takes at least one completion, sometimes only one; sometimes acknowledges late. */
static bool take_some(struct vcpu *v)
{
	uint64_t start = clock_mono_ns();
	struct nvme_cqe e;

	while (!tb_nvme_pop(&v->f->nv, v->queue, &e)) {
		if (clock_mono_ns() - start > PATIENCE)
			return false;
		sched_yield();
	}
	do {
		if (e.status >> 1)
			return false;
		v->completed++;
	} while (next_random(v) % 4 && tb_nvme_pop(&v->f->nv, v->queue, &e));
	tb_nvme_ack(&v->f->nv, v->queue);
	return true;
}

static void *vcpu_main(void *arg)
{
	struct vcpu *v = arg;

	while (v->completed < COMMANDS && !v->stuck) {
		submit_some(v);
		if (!take_some(v))
			v->stuck = true;
	}
	while (v->completed < v->submitted && !v->stuck)
		v->stuck = !take_some(v);
	if (atomic_fetch_sub(&v->f->running, 1) == 1)
		loop_stop(tb_loop(v->f->tb));
	return NULL;
}

static void race(enum loop_engine engine, bool msix, bool shadows)
{
	const struct tb_opts opts = { .engine = engine };
	pthread_t threads[VCPUS];
	struct dev *d;
	struct fix f;

	f.tb = tb_new(&opts);
	d = tb_add(f.tb, hw_find("nvme"), "ioslots=8\n", NULL);
	CHECK(d);
	tb_nvme_init(&f.nv, d, msix);
	CHECK(tb_nvme_enable(&f.nv, 8, 8));
	atomic_store(&f.running, VCPUS);
	for (unsigned int i = 0; i < VCPUS; i++) {
		f.vcpus[i] = (struct vcpu){ .f = &f, .queue = 1 + i, .seed = i };
		/* smaller than what is submitted at once: commands wait for room, too */
		CHECK_EQ(tb_nvme_pair(&f.nv, 1 + i, 16, msix ? (uint16_t)(1 + i) : 0), 0);
	}
	if (shadows)
		CHECK_EQ(tb_nvme_dbbuf(&f.nv), 0);
	for (unsigned int i = 0; i < VCPUS; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, vcpu_main, &f.vcpus[i]), 0);
	loop_run(tb_loop(f.tb));
	for (unsigned int i = 0; i < VCPUS; i++)
		pthread_join(threads[i], NULL);
	tb_run(f.tb);
	for (unsigned int i = 0; i < VCPUS; i++) {
		CHECK(!f.vcpus[i].stuck);
		CHECK_EQ(f.vcpus[i].completed, f.vcpus[i].submitted);
		if (msix)
			CHECK(tb_irqs(d, 1 + i) > 0);
	}
	if (!msix)
		CHECK(!tb_intx(d));
	CHECK(tb_balanced(f.tb));
	tb_free(f.tb);
}

static void nv21_messages(void)
{
	race(LOOP_EPOLL, true, false);
}

static void nv17_shadows(void)
{
	race(LOOP_EPOLL, true, true);
}

static void nv17_shadows_wire(void)
{
	race(LOOP_EPOLL, false, true);
}

static void nv21_wire(void)
{
	race(LOOP_EPOLL, false, false);
}

static void nv21_ring(void)
{
	struct loop *l = loop_new(LOOP_URING, NULL);

	/* Where io_uring is forbidden, khyve uses epoll. */
	if (!l)
		return;
	loop_free(l);
	race(LOOP_URING, true, false);
	race(LOOP_URING, true, true);
}

static const struct test_case cases[] = {
	{ "nv21_messages", nv21_messages }, { "nv21_wire", nv21_wire },
	{ "nv17_shadows", nv17_shadows },   { "nv17_shadows_wire", nv17_shadows_wire },
	{ "nv21_ring", nv21_ring },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
