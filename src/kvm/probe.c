/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/err.h"
#include "util/fd.h"

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_IRQCHIP, "in-kernel interrupt controllers" },
	{ KVM_CAP_PIT2, "in-kernel timer" },
	{ KVM_CAP_USER_MEMORY, "user memory slots" },
	{ KVM_CAP_READONLY_MEM, "read-only memory slots" },
	{ KVM_CAP_IRQFD, "irqfd" },
	{ KVM_CAP_IOEVENTFD, "ioeventfd" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "user space MSR handling" },
};

static int open_kvm(struct err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT)
		return err_set(
			err, -ENOENT,
			"/dev/kvm does not exist: load the module kvm_intel or kvm_amd, and switch "
			"virtualization (VT-x, AMD-V) on in the firmware setup of this machine");
	if (errno == EACCES)
		return err_set(
			err, -EACCES,
			"no permission for /dev/kvm: add yourself to its group (usermod -aG kvm "
			"USER, then log in again) or run as root");
	return err_set(err, -errno, "cannot open /dev/kvm: %s", strerror(errno));
}

int kvm_check(struct err *err)
{
	int fd = open_kvm(err), r = 0;

	if (fd < 0)
		return fd;
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		r = err_set(err, -ENOTSUP, "/dev/kvm does not speak KVM API version %d",
			    KVM_API_VERSION);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(needed); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			r = err_set(
				err, -ENOTSUP,
				"this kernel's KVM lacks %s: a kernel of Linux 5.10 or newer is needed",
				needed[i].name);
	fd_close(&fd);
	return r;
}

/* True if /proc/cpuinfo lists VT-x or AMD-V; firmware certainly runs then. */
static bool cpu_has_virtualization(void)
{
	char *text, *flags;
	size_t len;
	bool found = false;

	if (fd_read_file("/proc/cpuinfo", 4 << 20, &text, &len) < 0)
		return false;
	flags = strstr(text, "\nflags");
	if (flags) {
		char *end = strchr(flags + 1, '\n');

		if (end)
			*end = '\0';
		found = strstr(flags, " vmx") || strstr(flags, " svm");
	}
	free(text);
	return found;
}

/* fwait; fninit; mov al,1; out 0x80,al; hlt: how the firmware's first steps look to an emulator. */
static const uint8_t probe_code[] = { 0x9b, 0xdb, 0xe3, 0xb0, 0x01, 0xe6, 0x80, 0xf4 };
#define PROBE_ADDR 0x1000u

static bool probe_runs(int kvm_fd, int vm_fd, void *page)
{
	struct kvm_userspace_memory_region r = { .guest_phys_addr = PROBE_ADDR,
						 .memory_size = 4096,
						 .userspace_addr = (uint64_t)(uintptr_t)page };
	int size = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), cpu;
	struct kvm_regs regs = { .rip = PROBE_ADDR, .rflags = 2 };
	struct kvm_run *run = MAP_FAILED;
	struct kvm_sregs s;
	bool ok = false;

	if (ioctl(vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return false;
	cpu = ioctl(vm_fd, KVM_CREATE_VCPU, 0);
	if (cpu >= 0 && size > 0)
		run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	if (run != MAP_FAILED && ioctl(cpu, KVM_GET_SREGS, &s) == 0) {
		s.cs.base = 0;
		s.cs.selector = 0;
		ok = ioctl(cpu, KVM_SET_SREGS, &s) == 0 && ioctl(cpu, KVM_SET_REGS, &regs) == 0 &&
		     ioctl(cpu, KVM_RUN, NULL) == 0 && run->exit_reason == KVM_EXIT_IO;
	}
	if (run != MAP_FAILED)
		munmap(run, (size_t)size);
	fd_close(&cpu);
	return ok;
}

int kvm_check_firmware(struct err *err)
{
	int fd, vm;
	void *page;
	bool ok = false;

	if (cpu_has_virtualization())
		return 0;
	fd = open_kvm(err);
	if (fd < 0)
		return fd;
	vm = kvm_create_vm(fd);
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm >= 0 && page != MAP_FAILED) {
		memcpy(page, probe_code, sizeof(probe_code));
		ok = probe_runs(fd, vm, page);
	}
	if (page != MAP_FAILED)
		munmap(page, 4096);
	fd_close(&vm);
	fd_close(&fd);
	if (ok)
		return 0;
	return err_set(
		err, -ENOTSUP,
		"this machine has no hardware virtualization that can run firmware: /dev/kvm exists, "
		"but the processor offers neither VT-x nor AMD-V. Switch it on in the firmware setup; "
		"on a virtual machine, ask its host for nested virtualization");
}
