/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_SMBIOS_H
#define FW_SMBIOS_H

#include <stdint.h>

#include "mem/mem.h"

struct dev;
struct err;

/* Strings of bhyve_config(5); NULL: left out. */
struct fw_smbios_spec {
	const char *bios_vendor, *bios_version, *bios_date;
	const char *system_manufacturer, *system_product, *system_version, *system_serial,
		*system_sku, *system_family;
	const char *board_manufacturer, *board_product, *board_version, *board_serial, *board_asset,
		*board_location;
	const char *chassis_manufacturer, *chassis_version, *chassis_serial, *chassis_asset,
		*chassis_sku;
	uint8_t uuid[16]; /* as written: 00112233-4455-... is 00 11 22 33 44 55 */
	unsigned int sockets, cores, threads;
	const struct mem *mem; /* for the sizes */
};

/* "00112233-4455-6677-8899-aabbccddeeff", any case. 0 or -EINVAL. */
int fw_uuid_parse(const char *text, uint8_t uuid[16]);

/* For firmware: adds etc/smbios/smbios-anchor and etc/smbios/smbios-tables. */
int fw_smbios_add(const struct fw_smbios_spec *s, struct dev *fwcfg, struct err *err);
/* For direct boot: writes the anchor at gpa and the structures behind it, at most max bytes. */
int fw_smbios_place(const struct fw_smbios_spec *s, gpa_t gpa, uint64_t max, struct err *err);

#endif
