/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "conf/conf.h"
#include "fw/layout.h"
#include "fw/linux.h"
#include "util/clock.h"
#include "util/str.h"

/* INTx of PCI devices: I/O APIC pins 16 to 19. */
#define PCI_GSI_BASE 16
/* Firmware of Debian 12 takes longer the wider the address space is. */
#define PHYS_BITS_MAX 40

static void on_stopped(void *arg, enum kvm_stop why, const char *text)
{
	machine_fail(arg, why == KVM_STOP_TRIPLE_FAULT ? WISH_TRIPLE_FAULT : WISH_FAIL, text);
}

static void on_request(void *arg, enum bus_request what)
{
	machine_wish(arg, what == BUS_RESET ? WISH_RESET : WISH_POWEROFF);
}

/* RAM up to 2 GiB, the rest from 4 GiB: what the firmware expects of this chipset. */
static int make_memory(struct machine *m, struct err *err)
{
	uint64_t low = MIN(m->set.memory_size, FW_LOW_RAM_MAX);
	unsigned int flags =
		(m->set.memory_wired ? MEM_WIRED : 0) | (m->set.memory_in_core ? MEM_IN_CORE : 0);
	int r;

	m->mem = mem_new();
	if (!m->mem)
		return err_set(err, -ENOMEM, "out of memory");
	r = mem_add_ram(m->mem, 0, low, flags, err);
	if (r == 0 && m->set.memory_size > low)
		r = mem_add_ram(m->mem, FW_HIGH_RAM, m->set.memory_size - low, flags, err);
	return r;
}

static int make_kvm(struct machine *m, struct err *err)
{
	const struct kvm_events events = { .stopped = on_stopped, .request = on_request, .arg = m };
	const struct kvm_config cfg = {
		.sockets = (unsigned int)m->set.sockets,
		.cores = (unsigned int)m->set.cores,
		.threads = (unsigned int)m->set.threads,
		.phys_bits = PHYS_BITS_MAX,
		.top = FW_HIGH_RAM + m->set.memory_size,
		.strict_msr = m->set.strict_msr,
	};
	int r = kvm_check(err);

	if (r == 0 && m->set.bootrom)
		r = kvm_check_firmware(err);
	if (r == 0)
		r = kvm_new(&cfg, &events, &m->kvm, err);
	if (r < 0)
		return r;
	m->bus = bus_new(&kvm_bus_ops, m->kvm);
	m->pci = m->bus ? pci_bus_new(m->bus, PCI_GSI_BASE) : NULL;
	return m->pci ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* The lock that says "this guest runs" belongs to this process and to none of its children. */
static int take_lock_fd(struct machine *m, struct err *err)
{
	uint64_t fd;

	if (!m->set.lock_fd)
		return 0;
	if (str_u64(m->set.lock_fd, &fd) < 0 || fd > INT32_MAX ||
	    fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_set(err, -EBADF, "%s: %s is not an open descriptor",
			       conf_where(m->conf, "lock.fd"), m->set.lock_fd);
	return 0;
}

static int get_fbuf_str(struct machine *m, const char *name, char *out, size_t size,
			struct err *err)
{
	char key[64];
	int r;

	snprintf(key, sizeof(key), "%s.%s", m->fbuf_node, name);
	r = conf_get_str(m->conf, key, out, size, err);
	return r == -ENOENT ? 0 : r;
}

static int make_viewer(struct machine *m, struct err *err)
{
	char address[256] = "", password[64] = "", file[4096] = "", tls[4096] = "", key[64];
	struct viewer_config cfg = { .guest = m->set.name };
	int r;

	if (!m->screen)
		return 0;
	r = get_fbuf_str(m, "rfb", address, sizeof(address), err);
	if (r == 0)
		r = get_fbuf_str(m, "tcp", address, sizeof(address), err);
	if (r == 0)
		r = get_fbuf_str(m, "password", password, sizeof(password), err);
	if (r == 0)
		r = get_fbuf_str(m, "password_file", file, sizeof(file), err);
	if (r == 0)
		r = get_fbuf_str(m, "tls_file", tls, sizeof(tls), err);
	snprintf(key, sizeof(key), "%s.wait", m->fbuf_node);
	if (r == 0)
		r = conf_get_bool(m->conf, key, &m->wait_viewer, err);
	if (r < 0 && r != -ENOENT)
		return r;
	cfg.address = address[0] ? address : "127.0.0.1:5900";
	cfg.password = password[0] ? password : NULL;
	cfg.password_file = file[0] ? file : NULL;
	cfg.tls_file = tls[0] ? tls : NULL;
	r = viewer_new(m->loop, m->screen, &cfg, &m->viewer, err);
	explicit_bzero(password, sizeof(password));
	return r;
}

/* Each interrupt vector and queue that the guest uses is a descriptor: the usual soft limit of 1024 is too low. */
static void raise_descriptor_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return;
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
}

static int build(struct machine *m, struct err *err)
{
	int r = settings_init(&m->set, m->conf, err);

	if (r < 0)
		return r;
	raise_descriptor_limit();
	m->loop = loop_new(LOOP_AUTO, err);
	if (!m->loop)
		return -ENOMEM;
	r = take_lock_fd(m, err);
	if (r == 0)
		r = machine_run_init(m, err);
	if (r == 0)
		r = make_memory(m, err);
	if (r == 0)
		r = make_kvm(m, err);
	if (r == 0)
		r = machine_add_devices(m, err);
	if (r == 0)
		r = machine_add_firmware(m, err);
	if (r == 0)
		r = make_viewer(m, err);
	if (r == 0 && m->set.control_path)
		r = control_new(m->loop, m->set.control_path, machine_commands, m, &m->control,
				err);
	return r == 0 ? kvm_start(m->kvm, m->bus, m->mem, err) : r;
}

int machine_new(const struct conf *conf, struct machine **out, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->conf = conf;
	m->signal_fd = -1;
	m->signals.fd = -1;
	list_init(&m->devs);
	list_init(&m->usernets);
	pthread_mutex_init(&m->fail_lock, NULL);
	r = build(m, err);
	if (r < 0) {
		machine_free(m);
		return r;
	}
	*out = m;
	return 0;
}

/* From the outside in: nobody may call into what is gone. */
void machine_free(struct machine *m)
{
	if (!m)
		return;
	if (m->screen)
		screen_on_clients(m->screen, NULL, NULL);
	control_free(m->control);
	viewer_free(m->viewer);
	if (m->kvm)
		kvm_pause(m->kvm);
	machine_free_firmware(m);
	machine_free_devices(m);
	while (!list_empty(&m->usernets))
		usernet_free(list_first(&m->usernets, struct usernet, link));
	pci_bus_free(m->pci);
	bus_free(m->bus);
	kvm_free(m->kvm);
	mem_free(m->mem);
	if (m->loop)
		machine_run_fini(m);
	loop_free(m->loop);
	settings_fini(&m->set);
	pthread_mutex_destroy(&m->fail_lock);
	free(m);
}

int machine_load(struct machine *m, struct err *err)
{
	struct fw_entry e;
	struct kvm_entry64 entry;
	int r;

	if (!m->linux_boot)
		return 0;
	r = fw_linux_load(m->linux_boot, &e, err);
	if (r < 0)
		return r;
	entry = (struct kvm_entry64){
		.rip = e.rip,
		.rsp = e.rsp,
		.rsi = e.rsi,
		.cr3 = e.cr3,
		.gdt_base = e.gdt_base,
		.gdt_limit = e.gdt_limit,
		.cs = e.cs,
		.ds = e.ds,
	};
	return kvm_set_entry64(m->kvm, &entry, err);
}
