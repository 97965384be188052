/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "hw/lpc.h"
#include "util/clock.h"
#include "util/fd.h"
#include "util/log.h"

void machine_wish(struct machine *m, enum machine_wish wish)
{
	/* Of pause and resume the later one counts. Both come from the main thread only. */
	if (wish == WISH_PAUSE || wish == WISH_RESUME)
		__atomic_fetch_and(&m->wishes, ~(uint32_t)(WISH_PAUSE | WISH_RESUME),
				   __ATOMIC_ACQ_REL);
	__atomic_fetch_or(&m->wishes, wish, __ATOMIC_ACQ_REL);
	loop_post(&m->act);
}

void machine_fail(struct machine *m, enum machine_wish wish, const char *text)
{
	pthread_mutex_lock(&m->fail_lock);
	if (!m->fail.text[0] || wish == WISH_FAIL)
		err_set(&m->fail, -EIO, "%s", text);
	pthread_mutex_unlock(&m->fail_lock);
	machine_wish(m, wish);
}

const char *machine_state_name(const struct machine *m)
{
	static const char *const names[] = {
		[MACHINE_WAITING] = "waiting", [MACHINE_RUNNING] = "running",
		[MACHINE_STALLED] = "paused",  [MACHINE_PAUSED] = "paused",
		[MACHINE_BUSY] = "busy",       [MACHINE_OFF] = "off",
	};

	return names[m->state];
}

static void enter_state(struct machine *m, enum machine_state state)
{
	m->state = state;
	control_event(m->control, "state %s", machine_state_name(m));
}

void machine_power_button(struct machine *m)
{
	if (m->state == MACHINE_WAITING)
		machine_wish(m, WISH_QUIT);
	else
		lpc_power_button(m->lpc);
}

static void finish(struct machine *m, enum machine_exit status)
{
	m->exit = status;
	enter_state(m, MACHINE_OFF);
	loop_stop(m->loop);
}

static void go(struct machine *m)
{
	struct dev *d;

	list_for_each(d, &m->devs, link)
		dev_resume(d);
	kvm_run(m->kvm);
	enter_state(m, MACHINE_RUNNING);
}

static void reset(struct machine *m)
{
	struct err err = { "" };
	struct dev *d;

	/* What the guest did until its vCPUs were parked must not reset the next one. */
	__atomic_fetch_and(&m->wishes, ~(uint32_t)(WISH_RESET | WISH_TRIPLE_FAULT),
			   __ATOMIC_ACQ_REL);
	list_for_each(d, &m->devs, link)
		dev_reset(d);
	pci_bus_reset(m->pci);
	machine_reset_firmware(m);
	if (kvm_reset(m->kvm, &err) < 0 || machine_load(m, &err) < 0) {
		machine_fail(m, WISH_FAIL, err.text);
		finish(m, MACHINE_EXIT_ERROR);
		return;
	}
	m->resets++;
	m->reset_ns = clock_mono_ns();
	control_event(m->control, "reset %llu", (unsigned long long)m->resets);
	log_limited(LOG_LEVEL_INFO, "machine", "guest reset");
	if (m->resume_paused)
		enter_state(m, MACHINE_PAUSED);
	else
		go(m);
}

/* Everything is still: do what the transition was for. */
static void on_drained(struct loop_post *p)
{
	struct machine *m = container_of(p, struct machine, drained);

	switch (m->doing) {
	case WISH_FAIL:
		finish(m, MACHINE_EXIT_ERROR);
		break;
	case WISH_QUIT:
	case WISH_POWEROFF:
		finish(m, MACHINE_EXIT_POWEROFF);
		break;
	case WISH_TRIPLE_FAULT:
		finish(m, MACHINE_EXIT_TRIPLE_FAULT);
		break;
	case WISH_RESET:
		if (m->set.reboot_exit)
			finish(m, MACHINE_EXIT_RESET);
		else
			reset(m);
		break;
	default:
		enter_state(m, MACHINE_PAUSED);
	}
	if (__atomic_load_n(&m->wishes, __ATOMIC_ACQUIRE))
		loop_post(&m->act);
}

static void on_dev_paused(struct dev *d, void *arg)
{
	struct machine *m = arg;

	(void)d;
	if (--m->pausing == 0)
		loop_post(&m->drained);
}

static void drain(struct machine *m, uint32_t wish)
{
	struct dev *d;

	m->doing = wish;
	m->resume_paused = m->state == MACHINE_PAUSED;
	if (wish != WISH_PAUSE)
		machine_disks_give_up(m);
	if (m->state != MACHINE_RUNNING && m->state != MACHINE_STALLED) {
		/* The devices are paused already, or were never started. */
		m->state = MACHINE_BUSY;
		loop_post(&m->drained);
		return;
	}
	m->state = MACHINE_BUSY;
	kvm_pause(m->kvm);
	m->pausing = 1;
	list_for_each(d, &m->devs, link) {
		m->pausing++;
		dev_pause(d, on_dev_paused, m);
	}
	on_dev_paused(NULL, m);
}

/* A guest that faults right after each reset would do so for ever. */
static uint32_t judge_triple_fault(struct machine *m)
{
	uint64_t now = clock_mono_ns();

	log_limited(LOG_LEVEL_WARN, "machine", "%s", m->fail.text);
	if (now - MAX(m->reset_ns, m->started_ns) < MACHINE_FAULT_WINDOW_NS)
		m->faults++;
	else
		m->faults = 1;
	if (m->faults >= MACHINE_FAULTS_MAX)
		return WISH_TRIPLE_FAULT;
	pthread_mutex_lock(&m->fail_lock);
	m->fail.text[0] = '\0';
	pthread_mutex_unlock(&m->fail_lock);
	return WISH_RESET;
}

/* A disk's trouble began or ended. */
static void look_at_disks(struct machine *m)
{
	struct blk_trouble t;
	struct dev *d;
	bool trouble = machine_trouble(m, &d, &t);

	if (trouble && t.stop) {
		machine_fail(m, WISH_FAIL, t.text);
	} else if (trouble && m->state == MACHINE_RUNNING) {
		kvm_pause(m->kvm);
		enter_state(m, MACHINE_STALLED);
		control_event(m->control, "disk %s reason=%s", d->name, t.text);
	} else if (!trouble && m->state == MACHINE_STALLED) {
		kvm_run(m->kvm);
		enter_state(m, MACHINE_RUNNING);
	}
}

/*
 * While devices drain only this is acted on: what the disks keep is in flight, so it must not keep the machine from an
 * end. A pause waits for it.
 */
static void while_draining(struct machine *m)
{
	uint32_t ends = WISH_FAIL | WISH_QUIT | WISH_POWEROFF | WISH_TRIPLE_FAULT | WISH_RESET;

	if (__atomic_load_n(&m->wishes, __ATOMIC_ACQUIRE) & ends)
		machine_disks_give_up(m);
	else if (__atomic_load_n(&m->wishes, __ATOMIC_ACQUIRE) & WISH_RESUME)
		machine_disks_retry(m);
}

static void on_act(struct loop_post *p)
{
	struct machine *m = container_of(p, struct machine, act);
	uint32_t wishes, wish;

	if (m->state == MACHINE_BUSY)
		while_draining(m);
	if (m->state == MACHINE_BUSY || m->state == MACHINE_OFF)
		return; /* looked at again when drained */
	if (__atomic_fetch_and(&m->wishes, ~(uint32_t)WISH_LOOK, __ATOMIC_ACQ_REL) & WISH_LOOK)
		look_at_disks(m);
	wishes = __atomic_exchange_n(&m->wishes, 0, __ATOMIC_ACQ_REL);
	wish = wishes & -wishes;
	if (!wish)
		return;
	if (wish == WISH_TRIPLE_FAULT)
		wish = judge_triple_fault(m);
	/* What comes after an end is void; a pause or resume is looked at again after the reset. */
	if (wish == WISH_RESET && m->state != MACHINE_WAITING)
		__atomic_fetch_or(&m->wishes, wishes & (WISH_PAUSE | WISH_RESUME),
				  __ATOMIC_ACQ_REL);
	if (wish == WISH_RESUME && m->state == MACHINE_PAUSED)
		go(m);
	else if (wish == WISH_RESUME && m->state == MACHINE_STALLED)
		machine_disks_retry(m);
	else if (wish == WISH_PAUSE ? m->state == MACHINE_RUNNING || m->state == MACHINE_STALLED
				    : wish < WISH_PAUSE &&
					      !(wish == WISH_RESET && m->state == MACHINE_WAITING))
		drain(m, wish);
}

static void on_signal(struct loop_fd *w, unsigned int events)
{
	struct machine *m = container_of(w, struct machine, signals);
	struct signalfd_siginfo si;
	struct usernet *u;

	(void)events;
	if (read(w->fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo != SIGCHLD) {
		machine_power_button(m);
		return;
	}
	viewer_reap(m->viewer);
	list_for_each(u, &m->usernets, link) {
		usernet_reap(u);
	}
}

int machine_run_init(struct machine *m, struct err *err)
{
	sigset_t set;
	int r;

	/* Our parent may ignore it, and then there would be none and no child to wait for. */
	signal(SIGCHLD, SIG_DFL);
	loop_post_init(m->loop, &m->act, on_act);
	loop_post_init(m->loop, &m->drained, on_drained);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	m->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (m->signal_fd < 0)
		return err_set(err, -errno, "cannot watch signals: %s", strerror(errno));
	m->signals.fn = on_signal;
	r = loop_fd_add(m->loop, &m->signals, m->signal_fd, EPOLLIN);
	return r < 0 ? err_set(err, r, "cannot watch signals: %s", strerror(-r)) : 0;
}

void machine_run_fini(struct machine *m)
{
	loop_post_cancel(&m->act);
	loop_post_cancel(&m->drained);
	loop_fd_del(&m->signals);
	fd_close(&m->signal_fd);
}

static int start(struct machine *m, struct err *err)
{
	struct dev *d;
	int r = machine_load(m, err);

	/* Devices that run cannot be freed: what may fail comes first. */
	if (r < 0)
		return r;
	list_for_each(d, &m->devs, link) {
		r = dev_start(d, err);
		if (r < 0)
			return r;
	}
	m->started_ns = clock_mono_ns();
	kvm_run(m->kvm);
	enter_state(m, MACHINE_RUNNING);
	return 0;
}

/* A viewer has come: the guest that waited for it may start. */
static void on_viewers(void *arg, unsigned int count)
{
	struct machine *m = arg;
	struct err err;

	control_event(m->control, "viewers %u", count);
	if (m->state == MACHINE_WAITING && count && start(m, &err) < 0) {
		machine_fail(m, WISH_FAIL, err.text);
		finish(m, MACHINE_EXIT_ERROR);
	}
}

enum machine_exit machine_run(struct machine *m, struct err *err)
{
	m->exit = MACHINE_EXIT_ERROR;
	if (m->screen)
		screen_on_clients(m->screen, on_viewers, m);
	if (m->wait_viewer)
		enter_state(m, MACHINE_WAITING);
	else if (start(m, err) < 0)
		return MACHINE_EXIT_ERROR;
	if (__atomic_load_n(&m->wishes, __ATOMIC_ACQUIRE))
		loop_post(&m->act);
	loop_run(m->loop);
	if (m->exit == MACHINE_EXIT_ERROR || m->exit == MACHINE_EXIT_TRIPLE_FAULT)
		*err = m->fail;
	return m->exit;
}
