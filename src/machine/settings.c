/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/settings.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "fw/bootorder.h"
#include "kvm/kvm.h"
#include "util/err.h"
#include "util/macros.h"

#define KEY(name_, type_, member, def_, help_)                                                 \
	{                                                                                      \
		.name = (name_), .type = (type_), .offset = offsetof(struct settings, member), \
		.def = (def_), .help = (help_)                                                 \
	}
#define STR(name_, member, help_) KEY(name_, CONF_STR, member, NULL, help_)
#define STR_DEF(name_, member, def_, help_) KEY(name_, CONF_STR, member, def_, help_)
#define BOOL(name_, member, def_, help_) KEY(name_, CONF_BOOL, member, def_, help_)
/* Means nothing here, but configurations made for bhyve have it. */
#define IGNORED(name_)                                                                            \
	{                                                                                         \
		.name = (name_), .type = CONF_STR, .ignored = true, .help = "accepted, no effect" \
	}

#define MEMORY_MIN (32 * MIB)
#define MEMORY_MAX (4096 * GIB)

const struct conf_key settings_keys[] = {
	STR("name", name, "name of the virtual machine"),
	STR("uuid", uuid, "SMBIOS system UUID; derived from name and host name if not given"),
	{ .name = "cpus",
	  .type = CONF_U64,
	  .offset = offsetof(struct settings, cpus),
	  .max = 65535,
	  .help = "vCPUs; the product of sockets, cores and threads" },
	{ .name = "sockets",
	  .type = CONF_U64,
	  .offset = offsetof(struct settings, sockets),
	  .max = 65535,
	  .help = "processor packages" },
	{ .name = "cores",
	  .type = CONF_U64,
	  .offset = offsetof(struct settings, cores),
	  .max = 65535,
	  .help = "cores of a package" },
	{ .name = "threads",
	  .type = CONF_U64,
	  .offset = offsetof(struct settings, threads),
	  .max = 65535,
	  .help = "threads of a core" },
	{ .name = "memory.size",
	  .type = CONF_SIZE,
	  .offset = offsetof(struct settings, memory_size),
	  .def = "256M",
	  .min = MEMORY_MIN,
	  .max = MEMORY_MAX,
	  .help = "guest memory" },
	BOOL("memory.wired", memory_wired, "false", "lock guest memory into RAM"),
	BOOL("memory.guest_in_core", memory_in_core, "false", "guest memory in core dumps"),
	BOOL("rtc.use_localtime", rtc_localtime, "true", "clock chip holds local time, else UTC"),
	BOOL("x86.strictmsr", strict_msr, "true", "unknown MSRs fault in the guest"),
	{ .name = "bootrom",
	  .alias = "lpc.bootrom",
	  .type = CONF_STR,
	  .offset = offsetof(struct settings, bootrom),
	  .help = "UEFI firmware code image" },
	{ .name = "bootvars",
	  .alias = "lpc.bootvars",
	  .type = CONF_STR,
	  .offset = offsetof(struct settings, bootvars),
	  .help = "this guest's UEFI variable store" },
	STR("linux.kernel", kernel, "bzImage to start without firmware"),
	STR("linux.initrd", initrd, "initial RAM disk for linux.kernel"),
	STR("linux.cmdline", cmdline, "command line for linux.kernel"),
	STR("lpc.com1.path", com[0], "serial port COM1: stdio, pty, unix:PATH, file:PATH, ..."),
	STR("lpc.com2.path", com[1], "serial port COM2"),
	STR("lpc.com3.path", com[2], "serial port COM3"),
	STR("lpc.com4.path", com[3], "serial port COM4"),
	STR("control.path", control_path, "UNIX socket that takes commands"),
	STR("lock.fd", lock_fd, "inherited descriptor with the lock that says the guest runs"),
	BOOL("reboot.exit", reboot_exit, "false", "a guest reboot ends khyve with status 0"),
	BOOL("boot.once", boot_once, "false",
	     "every bootindex counts only until the guest first reboots"),
	{ .name = "boot.wait",
	  .type = CONF_U64,
	  .offset = offsetof(struct settings, boot_wait),
	  .max = FW_BOOT_WAIT_MAX,
	  .help = "seconds that the firmware waits for a key before it boots" },
	STR_DEF("bios.vendor", bios_vendor, "khyve", "SMBIOS type 0"),
	STR_DEF("bios.version", bios_version, KHYVE_VERSION, "SMBIOS type 0"),
	STR_DEF("bios.release_date", bios_date, "01/01/2026", "SMBIOS type 0"),
	STR_DEF("system.manufacturer", system_manufacturer, "khyve", "SMBIOS type 1"),
	STR_DEF("system.product_name", system_product, "khyve", "SMBIOS type 1"),
	STR_DEF("system.version", system_version, "1.0", "SMBIOS type 1"),
	STR_DEF("system.serial_number", system_serial, "None", "SMBIOS type 1"),
	STR_DEF("system.sku", system_sku, "None", "SMBIOS type 1"),
	STR_DEF("system.family_name", system_family, "Virtual Machine", "SMBIOS type 1"),
	STR_DEF("board.manufacturer", board_manufacturer, "khyve", "SMBIOS type 2"),
	STR_DEF("board.product_name", board_product, "khyve", "SMBIOS type 2"),
	STR_DEF("board.version", board_version, "1.0", "SMBIOS type 2"),
	STR_DEF("board.serial_number", board_serial, "None", "SMBIOS type 2"),
	STR_DEF("board.asset_tag", board_asset, "None", "SMBIOS type 2"),
	STR_DEF("chassis.manufacturer", chassis_manufacturer, "khyve", "SMBIOS type 3"),
	STR_DEF("chassis.version", chassis_version, "1.0", "SMBIOS type 3"),
	STR_DEF("chassis.serial_number", chassis_serial, "None", "SMBIOS type 3"),
	STR_DEF("chassis.asset_tag", chassis_asset, "None", "SMBIOS type 3"),
	STR_DEF("chassis.sku", chassis_sku, "None", "SMBIOS type 3"),
	IGNORED("acpi_tables"),
	IGNORED("acpi_tables_in_memory"),
	IGNORED("board.location"),
	IGNORED("config.dump"),
	IGNORED("destroy_on_poweroff"),
	IGNORED("keyboard.layout"),
	IGNORED("lpc.fwcfg"),
	IGNORED("monitor"),
	IGNORED("pci.enable_bars"),
	IGNORED("virtio_msix"),
	IGNORED("x86.mptable"),
	IGNORED("x86.strictio"),
	IGNORED("x86.verbosemsr"),
	IGNORED("x86.vmexit_on_hlt"),
	IGNORED("x86.vmexit_on_pause"),
	IGNORED("x86.x2apic"),
	CONF_KEY_END,
};

/* As bhyve: cpus alone means that many sockets; without cpus it is the product; both must agree. */
static int check_topology(struct settings *s, const struct conf *conf, struct err *err)
{
	bool cpus = conf_has(conf, "cpus");
	bool parts =
		conf_has(conf, "sockets") || conf_has(conf, "cores") || conf_has(conf, "threads");
	uint64_t product;

	if ((cpus && s->cpus == 0) || (conf_has(conf, "sockets") && s->sockets == 0) ||
	    (conf_has(conf, "cores") && s->cores == 0) ||
	    (conf_has(conf, "threads") && s->threads == 0))
		return err_set(err, -EINVAL, "%s: a guest needs at least 1 vCPU",
			       conf_where(conf, cpus ? "cpus" : "sockets"));
	if (!parts) {
		s->sockets = cpus ? s->cpus : 1;
		s->cores = s->threads = 1;
	}
	s->sockets = MAX(s->sockets, 1);
	s->cores = MAX(s->cores, 1);
	s->threads = MAX(s->threads, 1);
	product = s->sockets * s->cores * s->threads;
	if (cpus && product != s->cpus)
		return err_set(
			err, -EINVAL,
			"%s: cpus=%llu, but sockets x cores x threads is %llu: make them equal or "
			"leave cpus out",
			conf_where(conf, "cpus"), (unsigned long long)s->cpus,
			(unsigned long long)product);
	if (product > KVM_MAX_CPUS)
		return err_set(err, -EINVAL, "%s: %llu vCPUs: at most %d are possible",
			       conf_where(conf, cpus ? "cpus" : "sockets"),
			       (unsigned long long)product, KVM_MAX_CPUS);
	s->cpus = product;
	return 0;
}

static int check_memory(const struct settings *s, const struct conf *conf, struct err *err)
{
	struct sysinfo si;
	uint64_t host;

	if (s->memory_size % MIB)
		return err_set(err, -EINVAL, "%s: guest memory must be a multiple of 1M",
			       conf_where(conf, "memory.size"));
	if (sysinfo(&si) < 0)
		return 0;
	host = (uint64_t)si.totalram * si.mem_unit;
	if (s->memory_size > host)
		return err_set(
			err, -ENOMEM,
			"%s: guest memory of %lluM is larger than this host's %lluM: choose less",
			conf_where(conf, "memory.size"), (unsigned long long)(s->memory_size / MIB),
			(unsigned long long)(host / MIB));
	return 0;
}

static int check_boot(const struct settings *s, struct err *err)
{
	if (s->bootrom && s->kernel)
		return err_set(err, -EINVAL, "both bootrom and linux.kernel are set: choose one");
	if (!s->bootrom && !s->kernel)
		return err_set(err, -EINVAL,
			       "nothing to boot: give firmware (-l bootrom,CODE,VARS) or a kernel "
			       "(-o linux.kernel=FILE)");
	if (s->bootvars && !s->bootrom)
		return err_set(err, -EINVAL, "bootvars needs bootrom");
	if (!s->kernel && (s->initrd || s->cmdline))
		return err_set(err, -EINVAL, "linux.initrd and linux.cmdline need linux.kernel");
	return 0;
}

static int check_serial(const struct settings *s, struct err *err)
{
	int stdio = 0;

	for (size_t i = 0; i < ARRAY_LEN(s->com); i++)
		stdio += s->com[i] && strcmp(s->com[i], "stdio") == 0;
	if (stdio > 1)
		return err_set(
			err, -EINVAL,
			"%d serial ports on stdio: only one can have it; give the others pty or "
			"unix:PATH",
			stdio);
	return 0;
}

int settings_init(struct settings *s, const struct conf *conf, struct err *err)
{
	static const char *const skip[] = { "pci", NULL };
	int r = conf_bind(conf, "", settings_keys, s, skip, err);

	if (r < 0)
		return r;
	r = check_topology(s, conf, err);
	if (r == 0)
		r = check_memory(s, conf, err);
	if (r == 0)
		r = check_boot(s, err);
	if (r == 0)
		r = check_serial(s, err);
	if (r == 0 && (!s->name || !s->name[0]))
		r = err_set(err, -EINVAL, "the guest has no name: give it as the last argument");
	if (r < 0)
		settings_fini(s);
	return r;
}

void settings_fini(struct settings *s)
{
	conf_unbind(settings_keys, s);
}
