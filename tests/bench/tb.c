/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "back/chr.h"
#include "back/screen.h"
#include "bench/tb_priv.h"
#include "conf/conf.h"
#include "util/err.h"

#define ALLOC_START (1 * MIB)
#define MAX_STEPS 10000 /* more: a model that wakes itself for ever */

/* --- what models open --- */

static struct blk *open_disk(const struct env *env, const struct blk_spec *spec, struct err *err)
{
	struct tb *tb = env->arg;
	struct blk_spec copy = *spec;
	char path[32];
	struct blk *b;

	assert(tb->ndisks < TB_MAX_DISKS);
	if (!copy.path) {
		snprintf(path, sizeof(path), "mem:%llu", (unsigned long long)tb->opts.disk_size);
		copy.path = path;
	}
	b = blk_open(tb->loop, &copy, err);
	if (b && tb->opts.faults) {
		b = blk_open_fault(tb->loop, b);
		assert(b);
	}
	if (b)
		tb->disks[tb->ndisks++] = b;
	return b;
}

static struct chr *open_chr(const struct env *env, const char *spec, struct err *err)
{
	struct tb *tb = env->arg;
	struct chr *c = chr_open(tb->loop, spec, err);

	assert(tb->nchrs < TB_MAX_DISKS);
	if (c)
		tb->chrs[tb->nchrs++] = c;
	return c;
}

static struct net *open_net(const struct env *env, const struct net_spec *spec, struct err *err)
{
	return tb_net_open(env->arg, spec, err);
}

static void disk_trouble(const struct env *env)
{
	((struct tb *)env->arg)->troubles++;
}

unsigned int tb_troubles(struct tb *tb)
{
	unsigned int n = tb->troubles;

	tb->troubles = 0;
	return n;
}

static const struct env_ops env_ops = { .blk_open = open_disk,
					.chr_open = open_chr,
					.net_open = open_net,
					.disk_trouble = disk_trouble };

/* --- the machine --- */

/* A test touches few pages; clearing a huge one takes longer than most tests. */
static void use_small_pages(const struct mem *m)
{
	const struct mem_region *r;
	size_t n = mem_regions(m, &r);

	for (size_t i = 0; i < n; i++)
		(void)madvise(r[i].host, r[i].len, MADV_NOHUGEPAGE);
}

struct tb *tb_new(const struct tb_opts *opts)
{
	struct tb *tb = calloc(1, sizeof(*tb));
	int bad = 0;

	assert(tb);
	if (opts)
		tb->opts = *opts;
	if (tb->opts.engine == LOOP_AUTO)
		tb->opts.engine = LOOP_FAKE;
	if (!tb->opts.disk_size)
		tb->opts.disk_size = 8 * MIB;
	tb->next_slot = 1 << 3;
	tb->next_gpa = ALLOC_START;
	tb->next_mmio = TB_MMIO;
	tb->next_port = TB_PORTS;
	pthread_mutex_init(&tb->host.lock, NULL);
	tb->loop = loop_new(tb->opts.engine, NULL);
	tb->mem = mem_new();
	tb->bus = bus_new(&tb_host_ops, tb);
	assert(tb->loop && tb->mem && tb->bus);
	if (tb->opts.screen) {
		tb->screen = screen_new(tb->loop, &tb->input, NULL);
		assert(tb->screen);
	}
	bad |= mem_add_ram(tb->mem, 0, TB_RAM, 0, NULL);
	if (tb->opts.high_ram) {
		bad |= mem_add_ram(tb->mem, TB_RAM, TB_HIGH_RAM, 0, NULL);
		bad |= mem_add_ram(tb->mem, TB_HIGH_GPA, TB_HIGH_RAM, 0, NULL);
	}
	use_small_pages(tb->mem);
	tb->pci = pci_bus_new(tb->bus, 16);
	assert(!bad && tb->pci);
	return tb;
}

void tb_free(struct tb *tb)
{
	if (!tb)
		return;
	if (!tb_pause(tb)) {
		tb_release_all(tb);
		assert(tb_pause(tb));
	}
	while (tb->ndevs > 0)
		dev_free(tb->devs[--tb->ndevs].dev);
	tb_run(tb);
	tb_net_drop(tb, 0);
	for (unsigned int i = 0; i < TB_MAX_SLOTS; i++)
		assert(!tb->host.slots[i].slot);
	assert(tb->host.nbells == 0);
	screen_free(tb->screen);
	pci_bus_free(tb->pci);
	bus_free(tb->bus);
	mem_free(tb->mem);
	loop_free(tb->loop);
	pthread_mutex_destroy(&tb->host.lock);
	free(tb);
}

/* Binds "key=value" lines to the model's table. NULL and err set on failure. */
static void *bind_conf(const struct dev_ops *ops, const char *text, struct err *err)
{
	static const struct conf_key none[] = { CONF_KEY_END };
	char *copy = strdup(text ? text : ""), *at = copy, *line;
	struct conf *c = conf_new();
	void *out = calloc(1, ops->conf_size ? ops->conf_size : 1);
	int ret = 0;

	assert(copy && c && out);
	while (ret == 0 && (line = strsep(&at, "\n"))) {
		char whole[512];

		if (!*line)
			continue;
		assert(snprintf(whole, sizeof(whole), "dev.%s", line) < (int)sizeof(whole));
		ret = conf_set_assignment(c, whole, "the bench", err);
	}
	if (ret == 0)
		ret = conf_bind(c, "dev", ops->keys ? ops->keys : none, out, NULL, err);
	conf_free(c);
	free(copy);
	if (ret == 0)
		return out;
	free(out);
	return NULL;
}

struct dev *tb_add(struct tb *tb, const struct dev_ops *ops, const char *conf, struct err *err)
{
	unsigned int ndisks = tb->ndisks, nchrs = tb->nchrs, nnets = tb->nnets;
	struct tb_dev *t = &tb->devs[tb->ndevs];
	struct env env = { .name = t->name,
			   .loop = tb->loop,
			   .bus = tb->bus,
			   .mem = tb->mem,
			   .slot = &t->slot,
			   .input = &tb->input,
			   .screen = tb->screen,
			   .ops = &env_ops,
			   .arg = tb };
	void *typed = bind_conf(ops, conf, err);

	if (!typed)
		return NULL;
	assert(tb->ndevs < TB_MAX_DEVS);
	*t = (struct tb_dev){ .slot = { .bus = tb->pci, .devfn = tb->next_slot } };
	snprintf(t->name, sizeof(t->name), "%s-0:%u.%u", ops->model, tb->next_slot >> 3,
		 tb->next_slot & 7u);
	if (dev_new(ops, &env, typed, &t->dev, err) < 0)
		goto fail;
	if (dev_start(t->dev, err) < 0) {
		dev_free(t->dev);
		goto fail;
	}
	if (pci_bus_find(tb->pci, tb->next_slot))
		tb->next_slot = (uint8_t)((tb->next_slot | 7u) + 1u);
	tb->ndevs++;
	return t->dev;
fail:
	/* The model has closed what it had opened. */
	tb->ndisks = ndisks;
	tb->nchrs = nchrs;
	tb_net_drop(tb, nnets);
	t->dev = NULL;
	return NULL;
}

void tb_next_slot(struct tb *tb, uint8_t devfn)
{
	tb->next_slot = devfn;
}

struct tb *tb_of(const struct dev *d)
{
	return d->env.arg;
}

struct tb_dev *tb_dev_of(const struct dev *d)
{
	struct tb *tb = tb_of(d);

	for (unsigned int i = 0; i < tb->ndevs; i++)
		if (tb->devs[i].dev == d)
			return &tb->devs[i];
	assert(!"a device of this bench");
	return NULL;
}

struct loop *tb_loop(struct tb *tb)
{
	return tb->loop;
}

struct bus *tb_bus(struct tb *tb)
{
	return tb->bus;
}

struct pci_bus *tb_pci(struct tb *tb)
{
	return tb->pci;
}

const struct mem *tb_memory(struct tb *tb)
{
	return tb->mem;
}

struct input *tb_input(struct tb *tb)
{
	return &tb->input;
}

struct screen *tb_screen(struct tb *tb)
{
	return tb->screen;
}

/* --- running --- */

int tb_run(struct tb *tb)
{
	int idle_ms = tb->opts.engine == LOOP_FAKE ? 0 : 20, idle = 0, total = 0;

	for (int i = 0;; i++) {
		int n = loop_step(tb->loop, false);

		assert(i < MAX_STEPS);
		total += n;
		if (n) {
			idle = 0;
		} else if (idle++ < idle_ms) {
			usleep(1000);
		} else {
			break;
		}
	}
	return total;
}

void tb_advance(struct tb *tb, uint64_t ns)
{
	tb_run(tb);
	loop_fake_advance(tb->loop, ns);
	tb_run(tb);
}

bool tb_pause(struct tb *tb)
{
	bool all = true;

	for (unsigned int i = 0; i < tb->ndevs; i++)
		if (tb->devs[i].dev->state == DEV_RUNNING)
			dev_pause(tb->devs[i].dev, NULL, NULL);
	tb_run(tb);
	for (unsigned int i = 0; i < tb->ndevs; i++)
		if (tb->devs[i].dev->state == DEV_PAUSING)
			all = false;
	return all;
}

void tb_resume(struct tb *tb)
{
	for (unsigned int i = 0; i < tb->ndevs; i++)
		dev_resume(tb->devs[i].dev);
}

bool tb_reset(struct tb *tb)
{
	if (!tb_pause(tb))
		return false;
	for (unsigned int i = 0; i < tb->ndevs; i++)
		dev_reset(tb->devs[i].dev);
	pci_bus_reset(tb->pci);
	tb_resume(tb);
	return true;
}

static void disk_done(struct blk_req *r, int res)
{
	(void)r;
	assert(res == 0);
}

/* Zero bytes again, if it was written to. */
static void clear_disk(struct tb *tb, unsigned int n)
{
	struct blk *b = tb->disks[n];
	struct blk_req zero = { .op = BLK_WRITE_ZEROES,
				.len = b ? blk_info_get(b)->size : 0,
				.done = disk_done },
		       *list = &zero;
	struct blk_stats s;

	if (!b)
		return;
	blk_stats_get(b, &s);
	if (s.write_bytes == tb->written[n])
		return;
	blk_submit(b, &list, 1);
	tb_run(tb);
	blk_stats_get(b, &s);
	tb->written[n] = s.write_bytes;
}

void tb_renew(struct tb *tb)
{
	const struct mem_region *r;
	size_t n = mem_regions(tb->mem, &r);

	for (size_t i = 0; i < n; i++)
		(void)madvise(r[i].host, r[i].len, MADV_DONTNEED);
	for (unsigned int i = 0; i < tb->ndevs; i++) {
		if (tb->devs[i].dev->ops->link)
			dev_link(tb->devs[i].dev, 1);
		dev_reset(tb->devs[i].dev);
		memset(tb->devs[i].irqs, 0, sizeof(tb->devs[i].irqs));
	}
	for (unsigned int i = 0; i < tb->ndisks; i++)
		clear_disk(tb, i);
	for (unsigned int i = 0; i < tb->nnets; i++)
		tb_net_clear(tb, i);
	pci_bus_reset(tb->pci);
	tb_resume(tb);
	tb_run(tb);
	tb_host_clear(&tb->host);
	tb_alloc_reset(tb);
}

/* --- guest memory --- */

void *tb_mem(struct tb *tb, gpa_t gpa, uint64_t len)
{
	void *p = mem_ring(tb->mem, gpa, len, 1);

	assert(p);
	return p;
}

gpa_t tb_reserve(struct tb *tb, uint64_t size, uint64_t align)
{
	gpa_t gpa = ALIGN_UP(tb->next_gpa, align);

	assert(gpa + size <= TB_RAM);
	tb->next_gpa = gpa + size;
	return gpa;
}

gpa_t tb_alloc(struct tb *tb, uint64_t size, uint64_t align)
{
	gpa_t gpa = tb_reserve(tb, size, align);

	mem_fill(tb->mem, gpa, 0, size);
	return gpa;
}

void tb_alloc_reset(struct tb *tb)
{
	tb->next_gpa = ALLOC_START;
}

/* --- back ends --- */

struct blk *tb_disk(struct tb *tb, unsigned int n)
{
	return n < tb->ndisks ? tb->disks[n] : NULL;
}

void tb_forget_disk(struct tb *tb, unsigned int n)
{
	tb->disks[n] = NULL;
}

struct chr *tb_chr(struct tb *tb, unsigned int n)
{
	return n < tb->nchrs ? tb->chrs[n] : NULL;
}

void tb_fault(struct tb *tb, unsigned int n, const struct blk_fault *f)
{
	static const struct blk_fault none = { .fail_op = -1 };

	assert(tb->opts.faults && n < tb->ndisks);
	blk_fault_set(tb->disks[n], f ? f : &none);
	if (f)
		return;
	blk_fault_release(tb->disks[n], 0, SIZE_MAX);
	blk_retry(tb->disks[n]);
}

void tb_release_all(struct tb *tb)
{
	if (!tb->opts.faults)
		return;
	/* What was held may have failed, and is kept then: twice. */
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < tb->ndisks; i++)
			if (tb->disks[i])
				tb_fault(tb, i, NULL);
		for (unsigned int i = 0; i < tb->nnets; i++)
			tb_net_fault(tb, i, NULL);
		tb_run(tb);
	}
}

bool tb_balanced(struct tb *tb)
{
	for (unsigned int i = 0; i < tb->ndisks; i++) {
		struct blk_stats s = { 0 };

		if (tb->disks[i])
			blk_stats_get(tb->disks[i], &s);
		if (s.accepted != s.completed)
			return false;
	}
	for (unsigned int i = 0; i < tb->nnets; i++) {
		struct net_stats s = tb_net_stats(tb, i);

		if (s.accepted != s.completed)
			return false;
	}
	return true;
}
