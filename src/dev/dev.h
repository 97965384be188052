/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef DEV_DEV_H
#define DEV_DEV_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "back/blk.h"
#include "back/net.h"
#include "bus/bus.h"
#include "loop/loop.h"

struct aml;
struct bus_region;
struct chr;
struct conf_key;
struct dev;
struct err;
struct input;
struct mem;
struct pci_slot;
struct reg_table;
struct screen;
struct state;

/* All that a model may touch of the world. Valid until the device is gone. */
struct env {
	const char *name; /* instance, for logs: "nvme-0:4.0" */
	const char *guest; /* whose device it is; may be NULL */
	struct loop *loop;
	struct bus *bus;
	const struct mem *mem;
	struct pci_slot *slot; /* where a PCI function goes; NULL for devices that are not on PCI */
	struct input *input;
	struct screen *screen; /* for the display model; NULL: the machine has no screen */
	const struct env_ops *ops;
	void *arg;
};

/* How back ends are opened: the machine opens files, the bench hands in memory and fault disks. */
struct env_ops {
	struct blk *(*blk_open)(const struct env *env, const struct blk_spec *spec,
				struct err *err);
	struct chr *(*chr_open)(const struct env *env, const char *spec, struct err *err);
	struct net *(*net_open)(const struct env *env, const struct net_spec *spec,
				struct err *err);
	/* A disk's trouble (blk_trouble_get) began or ended. Loop's thread, device locked. May be NULL. */
	void (*disk_trouble)(const struct env *env);
};

/* What is wanted of a CD drive. EJECT asks a guest that has locked the tray, FORCE takes the disc out all the same. */
enum dev_tray { DEV_TRAY_LOOK, DEV_TRAY_EJECT, DEV_TRAY_FORCE, DEV_TRAY_INSERT };

/* A model: one const instance each, listed in hw/table.c. All calls are made with the device lock held. */
struct dev_ops {
	const char *model; /* value of the .device key: "nvme" */
	const char *help; /* one line for -s help */
	const struct conf_key *keys; /* every setting */
	size_t size, conf_size; /* instance and typed settings: the core allocates both, zeroed */
	int (*init)(struct dev *d, const struct env *env, const void *conf, struct err *err);
	/* First run only, before any vCPU. May be NULL. */
	int (*start)(struct dev *d, struct err *err);
	/*
	 * Stop producing work; work that arrives is only recorded. Call dev_paused(d) when nothing is in flight, at
	 * once or later. NULL: paused at once.
	 */
	void (*pause)(struct dev *d);
	/* Look at the rings once and go on. May be NULL. */
	void (*resume)(struct dev *d);
	/* Power-on state; only while paused. */
	void (*reset)(struct dev *d);
	/* Frees what init made; must accept a half-made instance. May be NULL. */
	void (*fini)(struct dev *d);
	/*
	 * Network cards: plugs the cable in (1), pulls it (0) or leaves it (-1); returns whether the link is up now.
	 * In every state. NULL: no network card.
	 */
	bool (*link)(struct dev *d, int plug);
	/* A disk of dev_disk() has grown: tells the guest. NULL: this model's disks do not. */
	void (*grown)(struct dev *d, struct blk *disk);
	/* dev_tray() of the model's drive-th CD drive, -ENOENT without a text: there are fewer. NULL: has none. */
	int (*tray)(struct dev *d, unsigned int drive, enum dev_tray what, const char *path,
		    struct err *err);
	/* Adds the device's objects to the DSDT. May be NULL. */
	void (*acpi)(const struct dev *d, struct aml *aml);
};

enum dev_state { DEV_MADE, DEV_RUNNING, DEV_PAUSING, DEV_PAUSED };

/* The first member of every model's instance. Only the core touches it. */
struct dev {
	const struct dev_ops *ops;
	struct env env;
	char name[32]; /* env.name points here */
	void *conf; /* typed settings, kept for the life of the device */
	pthread_mutex_t lock;
	enum dev_state state;
	bool on_loop; /* under the lock: the holder runs on the loop's thread */
	bool leaving; /* dev_free() has begun: nothing is scheduled any more */
	void (*on_paused)(struct dev *d, void *arg);
	void *on_paused_arg;
	struct list timers, posts; /* of struct dev_timer and dev_post */
	struct list batches; /* of the disks and lines it opened */
	struct list link; /* for the owner of the device */
};

/*
 * Allocates the instance, keeps conf (malloc'ed, of ops->conf_size; freed with the device through conf_unbind) and
 * calls init. env is copied, what it points to is not. Loop's thread. On failure nothing is left and conf is freed.
 */
int dev_new(const struct dev_ops *ops, const struct env *env, void *conf, struct dev **out,
	    struct err *err);
/*
 * Only while made or paused, on the loop's thread, with no vCPU running any more. Timers and posts are cancelled
 * before fini. NULL is fine.
 */
void dev_free(struct dev *d);

/* Life cycle: made -> running <-> paused -> gone, paused -> reset -> paused. Wrong transitions assert. Loop's thread. */
int dev_start(struct dev *d, struct err *err);
/* on_paused runs with the lock held, on the loop's thread, inside the call or later. */
void dev_pause(struct dev *d, void (*on_paused)(struct dev *d, void *arg), void *arg);
void dev_resume(struct dev *d);
void dev_reset(struct dev *d);
/* ops->link, which must exist. Loop's thread. */
bool dev_link(struct dev *d, int plug);

/* The n-th disk takes over its image's new size. 0, or -errno and err set. Loop's thread. */
int dev_grow(struct dev *d, unsigned int n, struct err *err);
/* 1: there is a disc in the drive now, 0: there is none, -ENOENT: no such drive, or -errno and err set. Loop's thread. */
int dev_tray(struct dev *d, unsigned int drive, enum dev_tray what, const char *path,
	     struct err *err);

/* --- for models --- */
/* Said by the model once it has nothing in flight after pause. */
void dev_paused(struct dev *d);
static inline bool dev_is_running(const struct dev *d)
{
	return d->state == DEV_RUNNING;
}

/*
 * The three ways in, each of which takes the lock: a region whose handler is a register table or a pair of functions
 * of the model; callbacks of the loop; batches of disk completions.
 */
struct dev_region {
	struct bus_region region;
	struct dev *dev;
	const struct reg_table *regs; /* or: */
	uint64_t (*read)(struct dev *d, uint64_t offset, unsigned int size);
	void (*write)(struct dev *d, uint64_t offset, unsigned int size, uint64_t value);
	bool lock_free; /* set after init: handlers run without the lock (PM timer, doorbell stores) */
};

void dev_region_init_regs(struct dev_region *r, struct dev *d, uint64_t len,
			  const struct reg_table *regs);
void dev_region_init_ops(struct dev_region *r, struct dev *d, uint64_t len,
			 uint64_t (*read)(struct dev *, uint64_t, unsigned int),
			 void (*write)(struct dev *, uint64_t, unsigned int, uint64_t));

#define DEV_NEVER UINT64_MAX

struct dev_timer {
	struct loop_timer timer; /* fires at the deadline or earlier: then it is set again */
	struct loop_post post; /* tells the loop of a deadline set on another thread */
	struct dev *dev;
	void (*fn)(struct dev *d);
	uint64_t deadline_ns; /* DEV_NEVER: not armed */
	uint64_t loop_deadline_ns; /* when the loop will look, DEV_NEVER: it will not */
	struct list link;
};
/* In init. Timers and posts must stay where they are until the device is freed. Lock held, as for all below. */
void dev_timer_init(struct dev_timer *t, struct dev *d, void (*fn)(struct dev *d));
/* Absolute time of the loop's clock in ns. Any thread: the loop is told by a post if needed. fn runs once. */
void dev_timer_set(struct dev_timer *t, uint64_t deadline_ns);
/* Any thread. fn does not run any more. */
void dev_timer_cancel(struct dev_timer *t);
static inline bool dev_timer_armed(const struct dev_timer *t)
{
	return t->deadline_ns != DEV_NEVER;
}

struct dev_post {
	struct loop_post post;
	struct dev *dev;
	void (*fn)(struct dev *d);
	struct list link;
};
void dev_post_init(struct dev_post *p, struct dev *d, void (*fn)(struct dev *d));
/* Runs fn soon on the loop's thread with the lock held. Any thread, also without the lock. */
void dev_post(struct dev_post *p);
/* Loop's thread. */
void dev_post_cancel(struct dev_post *p);

/* An eventfd on the loop: the kick of a doorbell. Made and ended on the loop's thread. */
struct dev_event {
	struct loop_fd watch;
	struct dev *dev;
	void (*fn)(struct dev_event *e); /* several kicks may come as one */
	int fd;
	unsigned int index; /* for the model */
};
int dev_event_init(struct dev_event *e, struct dev *d, unsigned int index,
		   void (*fn)(struct dev_event *e), struct err *err);
void dev_event_fini(struct dev_event *e); /* accepts one never made (zeroed) */

/*
 * Opens a disk whose completions arrive with the lock held; batch_end (may be NULL) runs after each batch. The model
 * closes it with blk_close() in fini. NULL and err set on failure.
 */
struct blk *dev_blk_open(struct dev *d, const struct blk_spec *spec,
			 void (*batch_end)(struct dev *d), struct err *err);

/*
 * Opens a line whose completions and events (each may be NULL) arrive with the lock held; batch_end runs after each
 * batch. The model closes it with net_close() in fini. NULL and err set on failure.
 */
struct dev_net_events {
	void (*readable)(struct dev *d, unsigned int q);
	void (*link)(struct dev *d, bool up);
	void (*batch_end)(struct dev *d);
};
struct net *dev_net_open(struct dev *d, const struct net_spec *spec,
			 const struct dev_net_events *ev, struct err *err);

/* Closes one before fini; nothing may be in flight. NULL is fine. */
void dev_blk_close(struct dev *d, struct blk *disk);
/* The n-th disk that the model has opened, NULL: there are fewer. Loop's thread. */
struct blk *dev_disk(struct dev *d, unsigned int n);
/* The same of its lines. */
struct net *dev_line(struct dev *d, unsigned int n);

/* For entries that are none of the above (input sinks, chr callbacks), on any thread. */
void dev_lock(struct dev *d);
void dev_unlock(struct dev *d);

#endif
