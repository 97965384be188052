/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "back/blk.h"
#include "dev/dev.h"
#include "hw/diskid.h"
#include "hw/usb.h"
#include "hw/usb_scsi.h"
#include "util/bytes.h"
#include "util/canary.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"

/*
 * A disk (USB Mass Storage Class, Bulk-Only Transport 1.0). Data passes through a buffer of the device's own, so that the
 * guest may take an endpoint away at any time while the host reads or writes.
 */
#define ENDPOINT_IN 0x81
#define ENDPOINT_OUT 0x02
#define PACKET 512

/* Class requests (s3), as type << 8 | request */
enum { BOT_RESET = 0x21ff, BOT_GET_MAX_LUN = 0xa1fe };

#define CBW_SIGNATURE 0x43425355u
#define CBW_LEN 31u
#define CSW_SIGNATURE 0x53425355u
#define CSW_LEN 13u
#define CSW_PHASE_ERROR 2

#define LE16(v) ((v)&0xff), ((v) >> 8)
static const uint8_t disk_device[] = { 18,
				       1,
				       LE16(0x0200),
				       0,
				       0,
				       0,
				       64,
				       LE16(0xfb5d),
				       LE16(0x0003),
				       LE16(0x0100),
				       USB_STR_MANUFACTURER,
				       USB_STR_PRODUCT,
				       USB_STR_SERIAL,
				       1 };
static const uint8_t disk_config[] = { 9,
				       2,
				       LE16(32),
				       1,
				       1,
				       0,
				       0xc0,
				       0, /* configuration */
				       9,
				       4,
				       0,
				       0,
				       2,
				       8,
				       6,
				       0x50,
				       0, /* interface: mass storage, SCSI, bulk only */
				       7,
				       5,
				       ENDPOINT_IN,
				       2,
				       LE16(PACKET),
				       0, /* endpoints */
				       7,
				       5,
				       ENDPOINT_OUT,
				       2,
				       LE16(PACKET),
				       0 };
static const struct usb_ep disk_eps[] = { { ENDPOINT_IN, USB_EP_BULK },
					  { ENDPOINT_OUT, USB_EP_BULK } };

/* What the host is to do next (s5, figure 1). */
enum phase {
	PHASE_COMMAND,
	PHASE_IN,
	PHASE_OUT,
	PHASE_STATUS,
	PHASE_BROKEN, /* both endpoints stall until a reset (s5.3.1) */
};

struct disk {
	struct usb_dev usb;
	struct dev *dev;
	struct blk *blk;
	struct usb_scsi scsi;
	char serial[DISKID_LEN + 1];
	enum phase phase;
	uint8_t cbw[CBW_LEN];
	size_t cbw_len; /* bytes of it that have come */
	uint32_t tag;
	uint32_t left; /* bytes that the host still expects to move: the residue at the end */
	uint32_t pos, have; /* of buf: next byte for the host, bytes in there */
	uint8_t status;
	struct blk_req req;
	struct iovec iov;
	bool busy; /* req is in flight */
	bool stale; /* and nobody waits for it any more */
	uint8_t buf[USB_SCSI_BUF];
};

static struct disk *disk_of(struct usb_dev *u)
{
	return container_of(u, struct disk, usb);
}

/* --- the host's disk --- */

static void wake(struct disk *k)
{
	k->usb.wakeup(&k->usb, ENDPOINT_IN);
	k->usb.wakeup(&k->usb, ENDPOINT_OUT);
}

/* Transfers that wait at either endpoint may be meant now. */
static void set_phase(struct disk *k, enum phase phase)
{
	k->phase = phase;
	wake(k);
}

static void io_failed(struct disk *k, int res)
{
	log_limited(LOG_LEVEL_WARN, k->dev->env.name,
		    "port %u: request at byte %" PRIu64 " of the disk failed: %s", k->usb.port,
		    k->req.offset, strerror(-res));
	usb_scsi_io_error(&k->scsi, k->req.op == BLK_READ, res);
	k->status = 1;
	k->have = k->pos = 0;
}

static void io_done(struct blk_req *req, int res)
{
	struct disk *k = container_of(req, struct disk, req);

	k->busy = false;
	if (k->stale) {
		k->stale = false;
	} else if (res < 0) {
		io_failed(k, res);
	} else if (req->op == BLK_READ) {
		k->have = (uint32_t)req->len;
		k->pos = 0;
	}
	if (req->op == BLK_WRITE)
		k->have = 0;
	wake(k);
}

static void io_start(struct disk *k, enum blk_op op, uint32_t len)
{
	struct blk_req *req = &k->req;

	k->iov = (struct iovec){ .iov_base = k->buf, .iov_len = len };
	req->op = op;
	req->flags = op == BLK_WRITE && k->scsi.fua ? BLK_FUA : 0;
	req->offset = k->scsi.offset;
	req->len = len;
	req->iov = op == BLK_FLUSH ? NULL : &k->iov;
	req->iovcnt = op == BLK_FLUSH ? 0 : 1;
	k->scsi.offset += len;
	k->scsi.todo -= len;
	k->busy = true;
	blk_submit(k->blk, &req, 1);
}

/* --- commands --- */

/* s6.2.1, s6.2.2 */
static bool cbw_valid(const uint8_t *cbw)
{
	return get_le32(cbw) == CBW_SIGNATURE && !(cbw[12] & 0x7f) && !cbw[13] && cbw[14] >= 1 &&
	       cbw[14] <= 16;
}

/* The thirteen cases of s6.7: what host and device expect may differ. */
static void command(struct disk *k)
{
	bool in = k->cbw[12] & USB_DIR_IN, refused;
	uint32_t len = get_le32(k->cbw + 8);
	uint64_t own;

	k->cbw_len = 0;
	k->tag = get_le32(k->cbw + 4);
	k->left = len;
	k->have = k->pos = 0;
	k->status = 0;
	usb_scsi_command(&k->scsi, k->cbw + 15, k->buf);
	if (k->scsi.sense.key)
		k->status = 1;
	k->have = k->scsi.out ? 0 : k->scsi.reply;
	own = k->scsi.todo + k->have;
	refused = own && len && k->scsi.out == in;
	if (own > len || refused) {
		k->status = CSW_PHASE_ERROR;
		if (refused)
			k->scsi.todo = k->have = 0;
		k->scsi.todo = MIN(k->scsi.todo, ALIGN_DOWN((uint64_t)len, k->scsi.sector));
	}
	if (k->scsi.flush)
		io_start(k, BLK_FLUSH, 0);
	set_phase(k, !len ? PHASE_STATUS : in ? PHASE_IN : PHASE_OUT);
}

static enum usb_result command_bytes(struct disk *k, const void *buf, size_t len, size_t *n)
{
	if (k->busy)
		return USB_NAK;
	if (len > CBW_LEN - k->cbw_len) {
		set_phase(k, PHASE_BROKEN);
		return USB_STALL;
	}
	memcpy(k->cbw + k->cbw_len, buf, len);
	k->cbw_len += len;
	*n = len;
	if (k->cbw_len < CBW_LEN)
		return USB_OK;
	if (!cbw_valid(k->cbw)) {
		set_phase(k, PHASE_BROKEN);
		return USB_STALL;
	}
	command(k);
	return USB_OK;
}

/* --- data and status --- */

/* The device has no more data, but the host expects some. */
static enum usb_result data_end(struct disk *k, size_t n)
{
	set_phase(k, PHASE_STATUS);
	return n % PACKET ? USB_SHORT : USB_STALL;
}

static enum usb_result data_in(struct disk *k, uint8_t *buf, size_t len, size_t *n)
{
	if (k->busy)
		return USB_NAK;
	while (*n < len && k->left) {
		uint32_t part;

		if (k->pos == k->have && !k->scsi.todo)
			return data_end(k, *n);
		if (k->pos == k->have) {
			io_start(k, BLK_READ, (uint32_t)MIN(k->scsi.todo, sizeof(k->buf)));
			return USB_NAK;
		}
		part = (uint32_t)MIN(len - *n, MIN(k->have - k->pos, k->left));
		memcpy(buf + *n, k->buf + k->pos, part);
		k->pos += part;
		k->left -= part;
		*n += part;
	}
	if (!k->left)
		set_phase(k, PHASE_STATUS);
	return *n < len ? USB_SHORT : USB_OK;
}

/* Bytes that are collected before they go to the host's disk. */
static uint32_t chunk(const struct disk *k)
{
	return (uint32_t)MIN(k->scsi.todo, CANARY ? UINT32_MAX : sizeof(k->buf));
}

static enum usb_result data_out(struct disk *k, const uint8_t *buf, size_t len, size_t *n)
{
	while (*n < len) {
		uint32_t part;

		if (k->busy)
			return USB_NAK;
		part = (uint32_t)MIN(len - *n, MIN(chunk(k) - k->have, k->left));
		if (!part) {
			set_phase(k, PHASE_STATUS);
			return USB_STALL;
		}
		memcpy(k->buf + k->have, buf + *n, part);
		k->have += part;
		k->left -= part;
		*n += part;
		if (k->have == chunk(k))
			io_start(k, BLK_WRITE, k->have);
	}
	if (!k->left)
		set_phase(k, PHASE_STATUS);
	return USB_OK;
}

/* s5.2 */
static enum usb_result status_in(struct disk *k, uint8_t *buf, size_t len, size_t *n)
{
	uint8_t csw[CSW_LEN];

	if (k->busy)
		return USB_NAK;
	if (len < CSW_LEN) {
		set_phase(k, PHASE_BROKEN);
		return USB_STALL;
	}
	put_le32(csw, CSW_SIGNATURE);
	put_le32(csw + 4, k->tag);
	put_le32(csw + 8, k->left);
	csw[12] = k->status;
	memcpy(buf, csw, CSW_LEN);
	*n = CSW_LEN;
	set_phase(k, PHASE_COMMAND);
	return len > CSW_LEN ? USB_SHORT : USB_OK;
}

static enum usb_result disk_in(struct usb_dev *u, uint8_t ep, void *buf, size_t len, size_t *n)
{
	struct disk *k = disk_of(u);

	(void)ep;
	switch (k->phase) {
	case PHASE_IN:
		return data_in(k, buf, len, n);
	case PHASE_STATUS:
		return status_in(k, buf, len, n);
	case PHASE_BROKEN:
		return USB_STALL;
	default:
		return USB_NAK;
	}
}

static enum usb_result disk_out(struct usb_dev *u, uint8_t ep, const void *buf, size_t len,
				size_t *n)
{
	struct disk *k = disk_of(u);

	(void)ep;
	switch (k->phase) {
	case PHASE_COMMAND:
		return command_bytes(k, buf, len, n);
	case PHASE_OUT:
		return data_out(k, buf, len, n);
	case PHASE_BROKEN:
		return USB_STALL;
	default:
		return USB_NAK;
	}
}

static void disk_reset(struct usb_dev *u)
{
	struct disk *k = disk_of(u);

	k->phase = PHASE_COMMAND;
	k->cbw_len = 0;
	k->stale = k->busy;
	k->have = k->pos = 0;
}

static int disk_request(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	if (!u->configuration || s->index || s->value)
		return -1;
	switch (s->type << 8 | s->request) {
	case BOT_RESET:
		disk_reset(u);
		wake(disk_of(u));
		return 0;
	case BOT_GET_MAX_LUN:
		if (!size)
			return -1;
		buf[0] = 0;
		return 1;
	default:
		return -1;
	}
}

static bool disk_busy(const struct usb_dev *u)
{
	return container_of(u, const struct disk, usb)->busy;
}

static void disk_free(struct usb_dev *u)
{
	struct disk *k = disk_of(u);

	blk_close(k->blk);
	free(k);
}

static void disk_power_on(struct usb_dev *u)
{
	blk_clear_error(disk_of(u)->blk);
}

static const struct usb_ops disk_ops = {
	.device = disk_device,
	.config = disk_config,
	.eps = disk_eps,
	.neps = ARRAY_LEN(disk_eps),
	.request = disk_request,
	.in = disk_in,
	.out = disk_out,
	.reset = disk_reset,
	.power_on = disk_power_on,
	.busy = disk_busy,
	.free = disk_free,
};

struct usb_dev *usb_disk_new(struct dev *d, const struct blk_spec *spec, const char *ser,
			     void (*batch_end)(struct dev *d), struct err *err)
{
	struct disk *k = calloc(1, sizeof(*k));

	if (!k) {
		err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	k->usb.ops = &disk_ops;
	k->usb.product = "USB disk";
	k->usb.serial = k->serial;
	k->dev = d;
	k->req.done = io_done;
	if (diskid_make(ser, spec->path, k->serial, err) < 0 ||
	    !(k->blk = dev_blk_open(d, spec, batch_end, err))) {
		free(k);
		return NULL;
	}
	usb_scsi_init(&k->scsi, blk_info_get(k->blk), k->serial);
	return &k->usb;
}
