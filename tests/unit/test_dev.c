/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/dev.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bus/reg.h"
#include "run.h"
#include "util/err.h"
#include "util/fd.h"

/* A model that writes down what happens to it. */
struct toy {
	struct dev dev;
	struct dev_region regs, raw;
	struct dev_timer timer;
	struct dev_post post;
	struct dev_event event;
	uint64_t deadline; /* writing the register sets the timer to it */
	uint32_t value;
	unsigned int fired, posted, kicked, started, resumed, resets, batches, completions;
	bool pause_later, fail_init, fail_start;
	struct blk *blk;
	int *fini_count;
};

struct toy_conf {
	bool fail_init, fail_start, pause_later;
	int *fini_count;
};

static struct toy *toy_of(struct dev *d)
{
	return container_of(d, struct toy, dev);
}

static uint64_t value_read(void *model, unsigned int index)
{
	(void)index;
	return ((struct toy *)model)->value;
}

static void value_write(void *model, unsigned int index, uint64_t v)
{
	struct toy *t = model;

	(void)index;
	t->value = (uint32_t)v;
	dev_timer_set(&t->timer, t->deadline);
}

static const struct reg toy_regs[] = {
	{ .offset = 4, .width = 4, .name = "VALUE", .read = value_read, .write = value_write },
};
static const struct reg_table toy_table = REG_TABLE(toy_regs, 0);

static uint64_t raw_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)size;
	return toy_of(d)->value + offset;
}

static void raw_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)offset;
	(void)size;
	(void)value;
	dev_post(&toy_of(d)->post);
}

static void toy_timer(struct dev *d)
{
	toy_of(d)->fired++;
}

static void toy_post(struct dev *d)
{
	toy_of(d)->posted++;
}

static void toy_kick(struct dev_event *e)
{
	toy_of(e->dev)->kicked += e->index;
}

static int toy_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	const struct toy_conf *c = conf;
	struct toy *t = toy_of(d);

	t->fini_count = c->fini_count;
	t->fail_start = c->fail_start;
	t->pause_later = c->pause_later;
	dev_timer_init(&t->timer, d, toy_timer);
	dev_post_init(&t->post, d, toy_post);
	if (c->fail_init) {
		/* Left pending: the core has to see to it. */
		dev_timer_set(&t->timer, 0);
		dev_post(&t->post);
		return err_set(err, -EINVAL, "%s: no", env->name);
	}
	dev_region_init_regs(&t->regs, d, 16, &toy_table);
	dev_region_init_ops(&t->raw, d, 16, raw_read, raw_write);
	if (bus_map(env->bus, &t->regs.region, BUS_MEM, 0x1000) < 0 ||
	    bus_map(env->bus, &t->raw.region, BUS_PORT, 0x100) < 0)
		return err_set(err, -ENOSPC, "full");
	return dev_event_init(&t->event, d, 1, toy_kick, err);
}

static int toy_start(struct dev *d, struct err *err)
{
	if (toy_of(d)->fail_start)
		return err_set(err, -EIO, "will not start");
	toy_of(d)->started++;
	return 0;
}

static void toy_pause(struct dev *d)
{
	if (!toy_of(d)->pause_later)
		dev_paused(d);
}

static void toy_resume(struct dev *d)
{
	toy_of(d)->resumed++;
}

static void toy_reset(struct dev *d)
{
	toy_of(d)->resets++;
	toy_of(d)->value = 0;
}

static void toy_fini(struct dev *d)
{
	struct toy *t = toy_of(d);

	dev_event_fini(&t->event);
	bus_unmap(d->env.bus, &t->regs.region);
	bus_unmap(d->env.bus, &t->raw.region);
	blk_close(t->blk);
	(*t->fini_count)++;
	/* Too late: must not be scheduled any more. */
	dev_post(&t->post);
	dev_timer_set(&t->timer, 0);
}

static const struct dev_ops toy_ops = {
	.model = "toy",
	.size = sizeof(struct toy),
	.conf_size = sizeof(struct toy_conf),
	.init = toy_init,
	.start = toy_start,
	.pause = toy_pause,
	.resume = toy_resume,
	.reset = toy_reset,
	.fini = toy_fini,
};

static struct blk *open_mem(const struct env *env, const struct blk_spec *spec, struct err *err)
{
	if (spec->ro) {
		err_set(err, -EROFS, "read-only");
		return NULL;
	}
	return blk_open_mem(env->loop, 1 << 20, 512);
}

static const struct env_ops env_ops = { .blk_open = open_mem };
static const struct bus_host_ops no_host = { .irq_set = NULL };

struct world {
	struct env env;
	int finis;
};

static struct world make_world(void)
{
	struct world w = { .env = { .name = "toy-0", .ops = &env_ops } };

	w.env.loop = loop_new(LOOP_FAKE, NULL);
	w.env.bus = bus_new(&no_host, NULL);
	CHECK(w.env.loop && w.env.bus);
	return w;
}

/* Also checks that nothing was left on the loop: loop_free() asserts it. */
static void end_world(struct world *w)
{
	bus_free(w->env.bus);
	loop_free(w->env.loop);
}

static int make_toy(struct world *w, struct toy_conf c, struct dev **out, struct err *err)
{
	struct toy_conf *conf = malloc(sizeof(*conf));

	*conf = c;
	conf->fini_count = &w->finis;
	return dev_new(&toy_ops, &w->env, conf, out, err);
}

static struct toy *new_toy(struct world *w)
{
	struct dev *d = NULL;

	CHECK_EQ(make_toy(w, (struct toy_conf){ 0 }, &d, NULL), 0);
	return toy_of(d);
}

static void run(struct world *w)
{
	for (int i = 0; i < 100 && loop_step(w->env.loop, false); i++)
		;
}

static void count_paused(struct dev *d, void *arg)
{
	CHECK_EQ(d->state, DEV_PAUSED);
	(*(int *)arg)++;
}

static void test_life_cycle(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);
	int paused = 0;

	CHECK_EQ(t->dev.state, DEV_MADE);
	CHECK(!dev_is_running(&t->dev));
	CHECK_EQ(dev_start(&t->dev, NULL), 0);
	CHECK(dev_is_running(&t->dev));
	CHECK_EQ(t->started, 1);
	t->value = 5;
	dev_pause(&t->dev, count_paused, &paused);
	CHECK_EQ(paused, 1);
	dev_reset(&t->dev);
	dev_reset(&t->dev);
	CHECK_EQ(t->value, 0);
	dev_resume(&t->dev);
	CHECK_EQ(t->resumed, 1);
	dev_pause(&t->dev, NULL, NULL);
	dev_free(&t->dev);
	dev_free(NULL);
	CHECK_EQ(w.finis, 1);
	end_world(&w);
}

static void test_pause_completes_later(void)
{
	struct world w = make_world();
	struct dev *d;
	int paused = 0;

	CHECK_EQ(make_toy(&w, (struct toy_conf){ .pause_later = true }, &d, NULL), 0);
	CHECK_EQ(dev_start(d, NULL), 0);
	dev_pause(d, count_paused, &paused);
	CHECK_EQ(d->state, DEV_PAUSING);
	CHECK(!dev_is_running(d));
	CHECK_EQ(paused, 0);
	dev_lock(d);
	dev_paused(d);
	dev_unlock(d);
	CHECK_EQ(paused, 1);
	dev_free(d);
	end_world(&w);
}

static void test_failed_init_leaves_nothing(void)
{
	struct world w = make_world();
	struct dev *d = NULL;
	struct err err;

	CHECK_EQ(make_toy(&w, (struct toy_conf){ .fail_init = true }, &d, &err), -EINVAL);
	CHECK(!d);
	CHECK_STR(err.text, "toy-0: no");
	CHECK_EQ(w.finis, 1);
	run(&w);
	end_world(&w);
}

static void test_failed_start_can_be_freed(void)
{
	struct world w = make_world();
	struct dev *d = NULL;
	struct err err;

	CHECK_EQ(make_toy(&w, (struct toy_conf){ .fail_start = true }, &d, NULL), 0);
	CHECK_EQ(dev_start(d, &err), -EIO);
	CHECK_STR(err.text, "will not start");
	CHECK_EQ(d->state, DEV_MADE);
	dev_free(d);
	end_world(&w);
}

/* Runs fn in a child and checks that an assertion stopped it. */
static void check_asserts(void (*fn)(struct dev *d), struct dev *d)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		const struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		close(2);
		fn(d);
		_exit(0);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void start(struct dev *d)
{
	dev_start(d, NULL);
}

static void pause_dev(struct dev *d)
{
	dev_pause(d, NULL, NULL);
}

static void test_wrong_transitions_assert(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);

	check_asserts(dev_resume, &t->dev);
	check_asserts(dev_reset, &t->dev);
	check_asserts(pause_dev, &t->dev);
	start(&t->dev);
	check_asserts(start, &t->dev);
	check_asserts(dev_reset, &t->dev);
	check_asserts(dev_resume, &t->dev);
	check_asserts(dev_free, &t->dev);
	check_asserts(dev_paused, &t->dev);
	pause_dev(&t->dev);
	check_asserts(pause_dev, &t->dev);
	check_asserts(start, &t->dev);
	dev_free(&t->dev);
	end_world(&w);
}

static void test_regions(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);

	t->deadline = DEV_NEVER;
	bus_write(w.env.bus, BUS_MEM, 0x1004, 4, 0x12345678);
	CHECK_EQ(bus_read(w.env.bus, BUS_MEM, 0x1004, 4), 0x12345678);
	CHECK_EQ(bus_read(w.env.bus, BUS_MEM, 0x1006, 1), 0x34);
	CHECK_EQ(bus_read(w.env.bus, BUS_PORT, 0x102, 4), 0x1234567a);
	t->regs.lock_free = true;
	/* With the lock held by us: a handler that took it would hang. */
	dev_lock(&t->dev);
	CHECK_EQ(bus_read(w.env.bus, BUS_MEM, 0x1004, 4), 0x12345678);
	dev_unlock(&t->dev);
	dev_free(&t->dev);
	CHECK_EQ(bus_read(w.env.bus, BUS_MEM, 0x1004, 4), 0xffffffff);
	end_world(&w);
}

static void set_timer(struct toy *t, uint64_t deadline)
{
	dev_lock(&t->dev);
	dev_timer_set(&t->timer, deadline);
	dev_unlock(&t->dev);
}

static void test_timer_through_a_register(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);

	t->deadline = loop_now(w.env.loop) + 1000;
	bus_write(w.env.bus, BUS_MEM, 0x1004, 4, 1);
	CHECK(dev_timer_armed(&t->timer));
	/* The loop's own timers are the loop's thread's business: only the post may touch them. */
	CHECK(!loop_timer_armed(&t->timer.timer));
	run(&w);
	CHECK(loop_timer_armed(&t->timer.timer));
	loop_fake_advance(w.env.loop, 999);
	CHECK_EQ(t->fired, 0);
	loop_fake_advance(w.env.loop, 1);
	CHECK_EQ(t->fired, 1);
	CHECK(!dev_timer_armed(&t->timer));
	loop_fake_advance(w.env.loop, 10000);
	CHECK_EQ(t->fired, 1);
	dev_free(&t->dev);
	end_world(&w);
}

static void test_timer_moves(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);
	uint64_t now = loop_now(w.env.loop);

	/* Later: the loop looks at the old time and sets it again. */
	set_timer(t, now + 100);
	run(&w);
	set_timer(t, now + 500);
	loop_fake_advance(w.env.loop, 499);
	CHECK_EQ(t->fired, 0);
	loop_fake_advance(w.env.loop, 1);
	CHECK_EQ(t->fired, 1);
	/* Earlier. */
	set_timer(t, now + 5000);
	run(&w);
	set_timer(t, now + 1000);
	run(&w);
	loop_fake_advance(w.env.loop, 500);
	CHECK_EQ(t->fired, 2);
	loop_fake_advance(w.env.loop, 10000);
	CHECK_EQ(t->fired, 2);
	/* Cancelled, before and after the loop knows. */
	now = loop_now(w.env.loop);
	set_timer(t, now + 10);
	dev_timer_cancel(&t->timer);
	run(&w);
	loop_fake_advance(w.env.loop, 100);
	set_timer(t, now + 200);
	run(&w);
	dev_timer_cancel(&t->timer);
	loop_fake_advance(w.env.loop, 1000);
	CHECK_EQ(t->fired, 2);
	/* In the past: at the next step. */
	set_timer(t, 0);
	run(&w);
	CHECK_EQ(t->fired, 3);
	dev_free(&t->dev);
	end_world(&w);
}

static void test_free_with_things_pending(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);

	set_timer(t, loop_now(w.env.loop) + 1000);
	run(&w);
	set_timer(t, 0); /* the loop's timer is armed and a post is pending */
	dev_post(&t->post);
	fd_event_set(t->event.fd);
	dev_free(&t->dev);
	run(&w);
	loop_fake_advance(w.env.loop, 100000);
	CHECK_EQ(w.finis, 1);
	end_world(&w);
}

static void test_posts_and_events(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);
	struct dev_event never = { 0 };

	bus_write(w.env.bus, BUS_PORT, 0x100, 1, 0);
	bus_write(w.env.bus, BUS_PORT, 0x100, 1, 0);
	CHECK_EQ(t->posted, 0);
	run(&w);
	CHECK_EQ(t->posted, 1);
	dev_post(&t->post);
	dev_post_cancel(&t->post);
	run(&w);
	CHECK_EQ(t->posted, 1);
	for (unsigned int i = 1; i <= 3; i++) {
		fd_event_set(t->event.fd);
		run(&w);
		CHECK_EQ(t->kicked, i);
	}
	run(&w);
	CHECK_EQ(t->kicked, 3);
	dev_event_fini(&never);
	dev_free(&t->dev);
	end_world(&w);
}

static void on_batch(struct dev *d)
{
	toy_of(d)->batches++;
}

static struct toy *completing; /* for on_done, which gets only the request */

static void on_done(struct blk_req *req, int res)
{
	(void)req;
	completing->completions += res == 0;
	/* The lock is held by the core, and by nobody a second time. */
	CHECK_EQ(pthread_mutex_trylock(&completing->dev.lock), EBUSY);
}

static void test_disk_completions_hold_the_lock(void)
{
	struct world w = make_world();
	struct toy *t = new_toy(&w);
	const struct blk_spec ro = { .ro = true }, rw = { .ro = false };
	char buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	struct blk_req req[2];
	struct blk_req *reqs[2] = { &req[0], &req[1] };
	struct err err;

	CHECK(!dev_blk_open(&t->dev, &ro, on_batch, &err));
	CHECK_STR(err.text, "read-only");
	t->blk = dev_blk_open(&t->dev, &rw, on_batch, &err);
	CHECK(t->blk);
	for (int i = 0; i < 2; i++)
		req[i] = (struct blk_req){
			.op = BLK_READ, .len = 512, .iov = &iov, .iovcnt = 1, .done = on_done
		};
	completing = t;
	dev_lock(&t->dev);
	blk_submit(t->blk, reqs, 2);
	dev_unlock(&t->dev);
	CHECK_EQ(t->completions, 0);
	run(&w);
	CHECK_EQ(t->completions, 2);
	CHECK(t->batches >= 1);
	dev_free(&t->dev);
	end_world(&w);
}

/* A vCPU sets the timer and posts through registers while the loop runs. */
static void *vcpu(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 20000; i++) {
		bus_write(w->env.bus, BUS_MEM, 0x1004, 4, (uint64_t)i);
		bus_write(w->env.bus, BUS_PORT, 0x100, 1, 0);
	}
	return NULL;
}

static void test_registers_from_another_thread(void)
{
	struct world w = make_world();
	struct toy *t;
	pthread_t thread;
	struct dev *d;

	loop_free(w.env.loop);
	w.env.loop = loop_new(LOOP_EPOLL, NULL);
	CHECK_EQ(make_toy(&w, (struct toy_conf){ 0 }, &d, NULL), 0);
	t = toy_of(d);
	t->deadline = 1;
	CHECK_EQ(pthread_create(&thread, NULL, vcpu, &w), 0);
	for (int i = 0; i < 5000; i++)
		loop_step(w.env.loop, false);
	pthread_join(thread, NULL);
	run(&w);
	CHECK(t->fired >= 1 && t->posted >= 1);
	CHECK_EQ(t->value, 19999);
	dev_free(d);
	end_world(&w);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "life_cycle", test_life_cycle },
		{ "pause_completes_later", test_pause_completes_later },
		{ "failed_init_leaves_nothing", test_failed_init_leaves_nothing },
		{ "failed_start_can_be_freed", test_failed_start_can_be_freed },
		{ "wrong_transitions_assert", test_wrong_transitions_assert },
		{ "regions", test_regions },
		{ "timer_through_a_register", test_timer_through_a_register },
		{ "timer_moves", test_timer_moves },
		{ "free_with_things_pending", test_free_with_things_pending },
		{ "posts_and_events", test_posts_and_events },
		{ "disk_completions_hold_the_lock", test_disk_completions_hold_the_lock },
		{ "registers_from_another_thread", test_registers_from_another_thread },
	};

	return RUN_CASES(cases, argc, argv);
}
