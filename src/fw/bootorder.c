/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/bootorder.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fw/fwcfg.h"
#include "util/bytes.h"
#include "util/err.h"

#define PATH_MAX_LEN 96

/* Slot and function are hexadecimal; function 0 is left out. */
int fw_boot_path(const struct fw_boot_entry *e, char *buf, size_t size)
{
	char at[16];
	unsigned int slot = e->devfn >> 3, function = e->devfn & 7;
	int n = -1;

	snprintf(at, sizeof(at), function ? "%x,%x" : "%x", slot, function);
	switch (e->kind) {
	case FW_BOOT_FUNCTION:
		n = snprintf(buf, size, "/pci@i0cf8/pci@%s", at);
		break;
	case FW_BOOT_AHCI:
		/* These very identifiers make the firmware look at the port. */
		n = snprintf(buf, size, "/pci@i0cf8/pci8086,2922@%s/drive@%x/disk@0", at, e->unit);
		break;
	case FW_BOOT_VIRTIO_BLK:
		n = snprintf(buf, size, "/pci@i0cf8/scsi@%s/disk@0,0", at);
		break;
	case FW_BOOT_VIRTIO_SCSI:
		n = snprintf(buf, size, "/pci@i0cf8/scsi@%s/channel@0/disk@%x,0", at, e->unit);
		break;
	case FW_BOOT_NIC:
		n = snprintf(buf, size, "/pci@i0cf8/ethernet@%s/ethernet-phy@0", at);
		break;
	case FW_BOOT_USB_STORAGE:
		n = snprintf(buf, size, "/pci@i0cf8/usb@%s/storage@%x/channel@0/disk@0,0", at,
			     e->unit);
		break;
	}
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* One path per line; the final byte is a NUL. */
int fw_bootorder_add(const struct fw_boot_entry *entries, size_t n, struct dev *fwcfg,
		     struct err *err)
{
	char text[4096] = "";
	size_t len = 0;

	if (n == 0)
		return 0;
	for (size_t i = 0; i < n; i++) {
		char path[PATH_MAX_LEN];

		if (fw_boot_path(&entries[i], path, sizeof(path)) < 0 ||
		    len + strlen(path) + 2 > sizeof(text))
			return err_set(err, -E2BIG, "too many devices with a bootindex");
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? "\n" : "",
					path);
	}
	return fwcfg_add_file(fwcfg, "bootorder", text, len + 1, err);
}

/* The file is in milliseconds; the firmware looks at it only with the boot menu on. */
int fw_boot_wait_add(unsigned int seconds, struct dev *fwcfg, struct err *err)
{
	uint8_t menu[2], wait[2];
	int r;

	put_le16(menu, 1);
	put_le16(wait, (uint16_t)(1000 * seconds));
	r = fwcfg_add_item(fwcfg, FWCFG_BOOT_MENU, menu, sizeof(menu), err);
	return r < 0 ? r : fwcfg_add_file(fwcfg, "etc/boot-menu-wait", wait, sizeof(wait), err);
}
