/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef MACHINE_SETTINGS_H
#define MACHINE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "conf/conf.h"

struct err;

/* The settings of the machine itself: every key that is not below pci. Names are those of bhyve_config(5). */
struct settings {
	char *name, *uuid;
	uint64_t cpus, sockets, cores, threads;
	uint64_t memory_size;
	bool memory_wired, memory_in_core;
	bool rtc_localtime;
	bool strict_msr;
	char *bootrom, *bootvars;
	char *kernel, *initrd, *cmdline;
	char *com[4];
	char *control_path;
	char *lock_fd;
	bool reboot_exit;
	bool boot_once;
	uint64_t boot_wait;
	char *bios_vendor, *bios_version, *bios_date;
	char *system_manufacturer, *system_product, *system_version, *system_serial, *system_sku,
		*system_family;
	char *board_manufacturer, *board_product, *board_version, *board_serial, *board_asset;
	char *chassis_manufacturer, *chassis_version, *chassis_serial, *chassis_asset, *chassis_sku;
};

extern const struct conf_key settings_keys[];

/*
 * Binds and checks the settings: the product of the topology, sizes against the host, what excludes what. Missing
 * topology values are derived. settings_fini accepts a zeroed struct.
 */
int settings_init(struct settings *s, const struct conf *conf, struct err *err);
void settings_fini(struct settings *s);

#endif
