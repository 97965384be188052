/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_BOOTORDER_H
#define FW_BOOTORDER_H

#include <stddef.h>
#include <stdint.h>

struct dev;
struct err;

enum fw_boot_kind {
	FW_BOOT_FUNCTION, /* whatever hangs below the PCI function: NVMe */
	FW_BOOT_AHCI, /* unit is the port */
	FW_BOOT_VIRTIO_BLK,
	FW_BOOT_VIRTIO_SCSI, /* unit is the target */
	FW_BOOT_NIC,
	FW_BOOT_USB_STORAGE, /* unit is the port, from 1 */
};

struct fw_boot_entry {
	enum fw_boot_kind kind;
	uint8_t devfn; /* on bus 0 */
	unsigned int unit;
};

/* Writes the OpenFirmware path of an entry. 0 or -ENAMETOOLONG; 96 bytes are enough for all. */
int fw_boot_path(const struct fw_boot_entry *e, char *buf, size_t size);
/* Adds the file bootorder with the entries in their order; nothing if n is 0. */
int fw_bootorder_add(const struct fw_boot_entry *entries, size_t n, struct dev *fwcfg,
		     struct err *err);
/* How long the firmware waits for a key before it boots, 0 to FW_BOOT_WAIT_MAX seconds. */
#define FW_BOOT_WAIT_MAX 65
int fw_boot_wait_add(unsigned int seconds, struct dev *fwcfg, struct err *err);

#endif
