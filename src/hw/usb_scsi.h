/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_USB_SCSI_H
#define HW_USB_SCSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blk_info;

#define USB_SCSI_BUF (128 * 1024) /* a multiple of every sector size */

/* What a disk answers to SCSI commands (SPC-4, SBC-3). Plain state; who moves the data reads the second half. */
struct usb_scsi {
	uint64_t blocks;
	uint32_t sector, physical;
	bool read_only;
	const char *serial;
	struct {
		uint8_t key, asc, ascq;
	} sense;

	/* of the command: */
	uint32_t reply; /* bytes for the host in the buffer */
	uint64_t offset, todo; /* bytes of the medium to read or write */
	bool out; /* todo is written */
	bool fua;
	bool flush;
};

/* serial is kept. */
void usb_scsi_init(struct usb_scsi *s, const struct blk_info *info, const char *serial);
/* Takes a command of 16 bytes; buf has USB_SCSI_BUF. It failed if sense.key is not 0. */
void usb_scsi_command(struct usb_scsi *s, const uint8_t *cdb, uint8_t *buf);
/* The host's disk gave -errno to a request of the command, which ends. */
void usb_scsi_io_error(struct usb_scsi *s, bool read, int res);

#endif
