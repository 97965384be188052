/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/usb_scsi.h"

#include <errno.h>
#include <string.h>

#include "back/blk.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/macros.h"

/* SPC-4 and SBC-3 unless noted */
enum opcode {
	TEST_UNIT_READY = 0x00,
	REQUEST_SENSE = 0x03,
	INQUIRY = 0x12,
	MODE_SENSE_6 = 0x1a,
	START_STOP_UNIT = 0x1b,
	PREVENT_REMOVAL = 0x1e,
	READ_FORMAT_CAPACITIES = 0x23, /* MMC-6 */
	READ_CAPACITY_10 = 0x25,
	READ_10 = 0x28,
	WRITE_10 = 0x2a,
	VERIFY_10 = 0x2f,
	SYNCHRONIZE_CACHE_10 = 0x35,
	MODE_SENSE_10 = 0x5a,
	READ_16 = 0x88,
	WRITE_16 = 0x8a,
	SYNCHRONIZE_CACHE_16 = 0x91,
	SERVICE_ACTION_IN_16 = 0x9e,
	REPORT_LUNS = 0xa0,
	READ_12 = 0xa8,
	WRITE_12 = 0xaa,
};

#define READ_CAPACITY_16 0x10
#define FUA BIT(3) /* of byte 1 */
#define PAGE_CACHING 0x08
#define PAGE_ALL 0x3f
#define CACHING_LEN 20

/* Sense keys and additional codes (SPC-4 annex D) */
#define MEDIUM_ERROR 3
#define HARDWARE_ERROR 4
#define ILLEGAL_REQUEST 5
#define DATA_PROTECT 7
#define ASC_WRITE_ERROR 0x0c
#define ASC_READ_ERROR 0x11
#define ASC_BAD_OPCODE 0x20
#define ASC_BAD_LBA 0x21
#define ASC_BAD_FIELD 0x24
#define ASC_WRITE_PROTECTED 0x27
#define ASC_SPACE_ALLOCATION 0x07 /* with ascq */

static void fail(struct usb_scsi *s, uint8_t key, uint8_t asc)
{
	s->sense.key = key;
	s->sense.asc = asc;
	s->sense.ascq = 0;
}

/* len bytes of buf, of which the host takes no more than alloc. */
static void reply(struct usb_scsi *s, size_t len, uint32_t alloc)
{
	s->reply = (uint32_t)MIN(len, alloc);
}

static void put_text(uint8_t *at, size_t len, const char *text)
{
	size_t n = MIN(strlen(text), len);

	memset(at, ' ', len);
	memcpy(at, text, n);
}

/* SPC-4 s7.8: the list of pages, serial number, identification */
static void inquiry_page(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	size_t serial = strlen(s->serial), n;

	b[1] = cdb[2];
	switch (cdb[2]) {
	case 0x00:
		b[5] = 0x80;
		b[6] = 0x83;
		n = 3;
		break;
	case 0x80:
		memcpy(b + 4, s->serial, serial);
		n = serial;
		break;
	case 0x83:
		b[4] = 2; /* ASCII */
		b[5] = 1; /* T10 vendor identification */
		b[7] = (uint8_t)(8 + serial);
		put_text(b + 8, 8, "KHYVE");
		memcpy(b + 16, s->serial, serial);
		n = 12 + serial;
		break;
	default:
		fail(s, ILLEGAL_REQUEST, ASC_BAD_FIELD);
		return;
	}
	b[3] = (uint8_t)n;
	reply(s, 4 + n, get_be16(cdb + 3));
}

/* SPC-4 s6.6 */
static void inquiry(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	if (cdb[1] & 1) {
		inquiry_page(s, cdb, b);
		return;
	}
	b[2] = 5; /* SPC-3 */
	b[3] = 2; /* response format */
	b[4] = 36 - 5;
	put_text(b + 8, 8, "KHYVE");
	put_text(b + 16, 16, "USB disk");
	put_text(b + 32, 4, "1.0");
	reply(s, 36, get_be16(cdb + 3));
}

/* SPC-4 s6.39, fixed format; what was told is forgotten. */
static void request_sense(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	b[0] = 0x70;
	b[2] = s->sense.key;
	b[7] = 18 - 8;
	b[12] = s->sense.asc;
	b[13] = s->sense.ascq;
	s->sense.key = s->sense.asc = s->sense.ascq = 0;
	reply(s, 18, cdb[4]);
}

/* SPC-4 s6.11; SBC-3 s6.5.5: there is a write cache. */
static void mode_sense(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	bool ten = cdb[0] == MODE_SENSE_10;
	unsigned int page = cdb[2] & 0x3f, head = ten ? 8 : 4;
	uint8_t protect = s->read_only ? 0x80 : 0, fua = 0x10;
	uint32_t len = head + CACHING_LEN;

	if ((page != PAGE_CACHING && page != PAGE_ALL) || cdb[2] >> 6 == 3) {
		fail(s, ILLEGAL_REQUEST, ASC_BAD_FIELD);
		return;
	}
	if (ten) {
		put_be16(b, (uint16_t)(len - 2));
		b[3] = protect | fua;
	} else {
		b[0] = (uint8_t)(len - 1);
		b[2] = protect | fua;
	}
	b[head] = PAGE_CACHING;
	b[head + 1] = CACHING_LEN - 2;
	if (cdb[2] >> 6 != 1) /* not what can be changed: nothing can */
		b[head + 2] = 0x04; /* WCE */
	reply(s, len, ten ? get_be16(cdb + 7) : cdb[4]);
}

static uint32_t last_block_32(const struct usb_scsi *s)
{
	return (uint32_t)MIN(s->blocks - 1, UINT32_MAX);
}

/* SBC-3 s5.15, s5.16; MMC-6 s6.23 */
static void capacity(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	if (cdb[0] == READ_CAPACITY_10) {
		put_be32(b, last_block_32(s));
		put_be32(b + 4, s->sector);
		reply(s, 8, 8);
	} else if (cdb[0] == READ_FORMAT_CAPACITIES) {
		b[3] = 8;
		put_be32(b + 4, (uint32_t)MIN(s->blocks, UINT32_MAX));
		put_be32(b + 8, s->sector);
		b[8] = 2; /* formatted */
		reply(s, 12, get_be16(cdb + 7));
	} else if ((cdb[1] & 0x1f) == READ_CAPACITY_16) {
		put_be64(b, s->blocks - 1);
		put_be32(b + 8, s->sector);
		b[13] = (uint8_t)__builtin_ctz(s->physical / s->sector);
		reply(s, 32, get_be32(cdb + 10));
	} else {
		fail(s, ILLEGAL_REQUEST, ASC_BAD_FIELD);
	}
}

static void report_luns(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	b[3] = 8;
	reply(s, 16, get_be32(cdb + 6));
}

/* Blocks of READ, WRITE and VERIFY; the group of the opcode says where they stand. */
static bool range(struct usb_scsi *s, const uint8_t *cdb)
{
	uint64_t lba = get_be32(cdb + 2), count = get_be16(cdb + 7);

	if (cdb[0] >> 5 == 4) {
		lba = get_be64(cdb + 2);
		count = get_be32(cdb + 10);
	} else if (cdb[0] >> 5 == 5) {
		count = get_be32(cdb + 6);
	}
	if (!range_inside(lba, count, s->blocks)) {
		fail(s, ILLEGAL_REQUEST, ASC_BAD_LBA);
		return false;
	}
	s->offset = lba * s->sector;
	s->todo = count * s->sector;
	return true;
}

static void write_blocks(struct usb_scsi *s, const uint8_t *cdb)
{
	if (s->read_only) {
		fail(s, DATA_PROTECT, ASC_WRITE_PROTECTED);
		return;
	}
	s->out = true;
	s->fua = cdb[1] & FUA;
	(void)range(s, cdb);
}

static void dispatch(struct usb_scsi *s, const uint8_t *cdb, uint8_t *b)
{
	switch (cdb[0]) {
	case TEST_UNIT_READY:
	case START_STOP_UNIT:
	case PREVENT_REMOVAL:
		break;
	case REQUEST_SENSE:
		request_sense(s, cdb, b);
		break;
	case INQUIRY:
		inquiry(s, cdb, b);
		break;
	case MODE_SENSE_6:
	case MODE_SENSE_10:
		mode_sense(s, cdb, b);
		break;
	case READ_FORMAT_CAPACITIES:
	case READ_CAPACITY_10:
	case SERVICE_ACTION_IN_16:
		capacity(s, cdb, b);
		break;
	case READ_10:
	case READ_12:
	case READ_16:
		(void)range(s, cdb);
		break;
	case WRITE_10:
	case WRITE_12:
	case WRITE_16:
		write_blocks(s, cdb);
		break;
	case VERIFY_10:
		if (range(s, cdb))
			s->todo = 0;
		break;
	case SYNCHRONIZE_CACHE_10:
	case SYNCHRONIZE_CACHE_16:
		s->flush = true;
		break;
	case REPORT_LUNS:
		report_luns(s, cdb, b);
		break;
	default:
		fail(s, ILLEGAL_REQUEST, ASC_BAD_OPCODE);
	}
}

void usb_scsi_command(struct usb_scsi *s, const uint8_t *cdb, uint8_t *buf)
{
	s->reply = 0;
	s->offset = s->todo = 0;
	s->out = s->fua = s->flush = false;
	if (cdb[0] != REQUEST_SENSE)
		s->sense.key = s->sense.asc = s->sense.ascq = 0;
	memset(buf, 0, 64); /* longer than every reply */
	dispatch(s, cdb, buf);
}

void usb_scsi_io_error(struct usb_scsi *s, bool read, int res)
{
	s->todo = 0;
	if (res == -EROFS) {
		fail(s, DATA_PROTECT, ASC_WRITE_PROTECTED);
	} else if (res == -ENOSPC || res == -EDQUOT) {
		fail(s, DATA_PROTECT, ASC_WRITE_PROTECTED);
		s->sense.ascq = ASC_SPACE_ALLOCATION; /* space allocation failed write protect */
	} else if (res == -EIO) {
		fail(s, MEDIUM_ERROR, read ? ASC_READ_ERROR : ASC_WRITE_ERROR);
	} else {
		fail(s, HARDWARE_ERROR, 0x44); /* internal target failure */
	}
}

void usb_scsi_init(struct usb_scsi *s, const struct blk_info *info, const char *serial)
{
	s->blocks = info->size / info->sector;
	s->sector = info->sector;
	s->physical = MAX(info->physical_sector, info->sector);
	s->read_only = info->read_only;
	s->serial = serial;
}
