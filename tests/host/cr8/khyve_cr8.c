/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
/*
 * Keeps KVM's interception of CR8 writes switched on, for the test host only.
 *
 * QEMU's TCG aborts ("tcg_handle_interrupt: assertion failed: (bql_locked())") when a nested guest
 * writes CR8 while KVM has an interrupt window open. kvm_amd starts with CR8 writes intercepted,
 * and svm_update_cr8_intercept() later lifts that; here that function is replaced by an empty one.
 *
 * Kernel modules that use kprobes must declare a GPL-compatible licence; nothing of this file is
 * part of khyve.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

struct kvm_vcpu;

static noinline void leave_intercepted(struct kvm_vcpu *vcpu, int tpr, int irr)
{
	barrier();
}

/*
 * The probe sits on the function's ftrace entry: the call into it has just been made, so it is
 * enough to continue elsewhere. The stack pointer must stay as it is.
 */
static int redirect(struct kprobe *probe, struct pt_regs *regs)
{
	regs->ip = (unsigned long)leave_intercepted;
	return 1;
}

static struct kprobe update_probe = {
	.symbol_name = "kvm_amd:svm_update_cr8_intercept",
	.pre_handler = redirect,
};

static int __init cr8_init(void)
{
	return register_kprobe(&update_probe);
}

static void __exit cr8_exit(void)
{
	unregister_kprobe(&update_probe);
}

module_init(cr8_init);
module_exit(cr8_exit);
MODULE_DESCRIPTION("Keep CR8 write interception on in kvm_amd under QEMU TCG");
MODULE_LICENSE("Dual BSD/GPL");
