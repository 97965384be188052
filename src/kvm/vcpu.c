/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/err.h"
#include "util/fd.h"
#include "util/log.h"
#include "util/thread.h"

#define KICK_SIGNAL SIGUSR1

int kvm_vcpu_make(struct kvm *k, unsigned int index, struct err *err)
{
	struct kvm_vcpu *v = &k->cpus[index];
	void *run;

	*v = (struct kvm_vcpu){
		.kvm = k, .index = index, .fd = -1, .stats_fd = -1, .parked = true
	};
	v->apic_id = kvm_cpuid_apic_id(&k->cfg, index);
	v->fd = ioctl(k->vm_fd, KVM_CREATE_VCPU, v->apic_id);
	if (v->fd < 0)
		return err_set(err, -errno, "cannot create vCPU %u: %s", index, strerror(errno));
	run = mmap(NULL, k->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED)
		return err_set(err, -errno, "cannot map the state of vCPU %u: %s", index,
			       strerror(errno));
	v->run = run;
	v->stats_fd = ioctl(v->fd, KVM_GET_STATS_FD, NULL);
	return 0;
}

void kvm_vcpu_destroy(struct kvm_vcpu *v)
{
	if (v->run)
		munmap(v->run, v->kvm->run_size);
	fd_close(&v->stats_fd);
	fd_close(&v->fd);
	kvm_state_free(v);
}

static void stop(struct kvm_vcpu *v, enum kvm_stop why, const char *text)
{
	v->kvm->events.stopped(v->kvm->events.arg, why, text);
}

static void stop_internal_error(struct kvm_vcpu *v)
{
	struct kvm_regs regs = { 0 };
	struct kvm_sregs sregs = { 0 };
	char text[256], bytes[64] = "";
	unsigned int n = v->run->emulation_failure.insn_size;

	ioctl(v->fd, KVM_GET_REGS, &regs);
	ioctl(v->fd, KVM_GET_SREGS, &sregs);
	if (v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    v->run->internal.ndata >= 4 &&
	    (v->run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES))
		for (unsigned int i = 0; i < MIN(n, 15u); i++)
			snprintf(bytes + 3 * i, sizeof(bytes) - 3 * i, " %02x",
				 v->run->emulation_failure.insn_bytes[i]);
	snprintf(text, sizeof(text),
		 "vCPU %u: KVM internal error %u at %04x:%llx (base %llx, cr0 %llx)%s%s", v->index,
		 v->run->internal.suberror, sregs.cs.selector, regs.rip, sregs.cs.base, sregs.cr0,
		 bytes[0] ? ", instruction" : "", bytes);
	stop(v, KVM_STOP_ERROR, text);
}

static void handle_msr(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	bool write = run->exit_reason == KVM_EXIT_X86_WRMSR;

	log_limited(LOG_LEVEL_INFO, "kvm", "vCPU %u: %s of unknown MSR %x%s", v->index,
		    write ? "write" : "read", run->msr.index,
		    v->kvm->cfg.strict_msr ? "" : " ignored");
	run->msr.error = v->kvm->cfg.strict_msr;
	if (!write)
		run->msr.data = 0;
}

/* Handles the exit that KVM_RUN returned with. False: the vCPU cannot go on by itself. */
static bool handle_exit(struct kvm_vcpu *v)
{
	struct kvm_run *run = v->run;
	char text[80];

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		v->user_io++;
		kvm_exit_io(v->kvm->bus, run, (char *)run + run->io.data_offset);
		return true;
	case KVM_EXIT_MMIO:
		v->user_mmio++;
		kvm_exit_mmio(v->kvm->bus, run);
		return true;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		handle_msr(v);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_HYPERV:
		break;
	case KVM_EXIT_SHUTDOWN:
		snprintf(text, sizeof(text), "triple fault on vCPU %u", v->index);
		stop(v, KVM_STOP_TRIPLE_FAULT, text);
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		stop_internal_error(v);
		return false;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(text, sizeof(text), "vCPU %u: the processor refuses entry, reason %llx",
			 v->index,
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		stop(v, KVM_STOP_ERROR, text);
		return false;
	default:
		snprintf(text, sizeof(text), "vCPU %u: unknown exit reason %u", v->index,
			 run->exit_reason);
		stop(v, KVM_STOP_ERROR, text);
		return false;
	}
	v->user_other++;
	return true;
}

/* Says "parked" and waits until the vCPU may run. False: the thread is to end. */
static bool wait_for_run(struct kvm_vcpu *v)
{
	struct kvm *k = v->kvm;
	bool run;

	pthread_mutex_lock(&k->lock);
	v->parked = true;
	pthread_cond_broadcast(&k->changed);
	while (k->wish == KVM_WISH_PARK || (v->stuck && k->wish == KVM_WISH_RUN))
		pthread_cond_wait(&k->changed, &k->lock);
	run = k->wish == KVM_WISH_RUN;
	v->parked = false;
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&k->lock);
	return run;
}

static void *vcpu_thread(void *arg)
{
	struct kvm_vcpu *v = arg;
	struct kvm *k = v->kvm;
	char name[16];
	sigset_t kick;

	/* Whoever started us may have blocked it. */
	sigemptyset(&kick);
	sigaddset(&kick, KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	snprintf(name, sizeof(name), "vcpu%u", v->index);
	pthread_setname_np(pthread_self(), name);
	while (wait_for_run(v)) {
		if (v->index == 0 && !k->first_run_ns)
			__atomic_store_n(&k->first_run_ns, clock_mono_ns(), __ATOMIC_RELAXED);
		/* immediate_exit ends this with EINTR once the access of the last exit is complete. */
		for (;;) {
			if (ioctl(v->fd, KVM_RUN, NULL) < 0) {
				if (errno == EAGAIN)
					continue;
				if (errno == EINTR &&
				    __atomic_load_n(&v->run->immediate_exit, __ATOMIC_SEQ_CST))
					break;
				if (errno == EINTR)
					continue;
				v->stuck = true;
				stop(v, KVM_STOP_ERROR, strerror(errno));
				break;
			}
			if (!handle_exit(v)) {
				v->stuck = true;
				break;
			}
		}
	}
	return NULL;
}

static void on_kick(int sig)
{
	(void)sig;
}

int kvm_vcpu_spawn(struct kvm_vcpu *v, struct err *err)
{
	struct sigaction sa = { .sa_handler = on_kick };
	int r;

	sigaction(KICK_SIGNAL, &sa, NULL);
	r = thread_start(&v->thread, vcpu_thread, v);
	if (r < 0)
		return err_set(err, r, "cannot start the thread of vCPU %u: %s", v->index,
			       strerror(-r));
	v->thread_made = true;
	return 0;
}

void kvm_vcpu_kick(struct kvm_vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->thread_made)
		pthread_kill(v->thread, KICK_SIGNAL);
}
