/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "bench/tb_xhci.h"
#include "hw/models.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

/* The disk: Bulk-Only Transport 1.0 and SCSI. */
#define BULK_IN 3
#define BULK_OUT 4
#define SECTOR 512u
#define DISK_SIZE (8 * MIB)
#define DATA (1 * MIB) /* of s->data */

struct setup {
	struct tb *tb;
	struct tb_xhci x;
	unsigned int slot;
	gpa_t cbw, csw, data;
	uint32_t tag, residue;
};

static struct setup *make_with(const char *conf)
{
	const struct tb_opts opts = { .faults = true };
	struct setup *s = calloc(1, sizeof(*s));
	struct err err = { 0 };
	char text[256];
	struct dev *d;

	snprintf(text, sizeof(text),
		 "slot.3.device=disk\nslot.3.path=mem:8M\nslot.3.ser=ABC123\n%s", conf);
	s->tb = tb_new(&opts);
	d = tb_add(s->tb, &xhci_ops, text, &err);
	if (!d)
		CHECK_FAIL("tb_add: %s", err.text);
	tb_xhci_init(&s->x, d, true);
	tb_xhci_start(&s->x);
	s->slot = tb_xhci_attach(&s->x, 3);
	tb_xhci_configure(&s->x, s->slot);
	s->cbw = tb_alloc(s->tb, 64, 64);
	s->csw = tb_alloc(s->tb, 64, 64);
	s->data = tb_alloc(s->tb, DATA, 4096);
	return s;
}

static struct setup *make(void)
{
	return make_with("");
}

static void done(struct setup *s)
{
	tb_release_all(s->tb);
	CHECK(tb_balanced(s->tb));
	tb_free(s->tb);
	free(s);
}

static uint8_t *data(struct setup *s)
{
	return tb_mem(s->tb, s->data, DATA);
}

/* An endpoint that has stalled works again, as a driver does it. */
static void clear_halt(struct setup *s, unsigned int dci)
{
	struct usb_setup clear = { 0x02, 1, 0, dci == BULK_IN ? 0x81 : 0x02, 0 };
	struct tb_xhci_ring *r = &s->x.ring[s->slot][dci];

	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_RESET_ENDPOINT, 0, s->slot << 24 | dci << 16),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_SET_DEQUEUE,
				 (r->base + r->next * XHCI_TRB_SIZE) | r->cycle,
				 s->slot << 24 | dci << 16),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_control(&s->x, s->slot, &clear), 0);
}

static uint32_t send_cbw(struct setup *s, const uint8_t *cdb, uint32_t len, bool in)
{
	uint8_t *cbw = tb_mem(s->tb, s->cbw, 31);

	memset(cbw, 0, 31);
	put_le32(cbw, 0x43425355);
	put_le32(cbw + 4, ++s->tag);
	put_le32(cbw + 8, len);
	cbw[12] = in ? 0x80 : 0;
	cbw[14] = 16;
	memcpy(cbw + 15, cdb, 16);
	return tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw, 31, NULL);
}

/* The status of the command; -1: none yet. */
static int get_csw(struct setup *s)
{
	const uint8_t *csw = tb_mem(s->tb, s->csw, 13);
	uint32_t code = tb_xhci_transfer(&s->x, s->slot, BULK_IN, s->csw, 13, NULL);

	if (code == XHCI_STALL) {
		clear_halt(s, BULK_IN);
		code = tb_xhci_transfer(&s->x, s->slot, BULK_IN, s->csw, 13, NULL);
	}
	if (!code)
		return -1;
	CHECK_EQ(code, XHCI_SUCCESS);
	CHECK_EQ(get_le32(csw), 0x53425355);
	CHECK_EQ(get_le32(csw + 4), s->tag);
	s->residue = get_le32(csw + 8);
	return csw[12];
}

#define PIECE 65536u

/* One TD of any length to or from s->data. Its completion code, 0: none yet; *moved gets the bytes. */
static uint32_t bulk(struct setup *s, unsigned int dci, uint32_t len, uint32_t *moved)
{
	const uint32_t normal = XHCI_TR_NORMAL << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_CH;
	gpa_t trbs[DATA / PIECE];
	uint32_t n = 0, code;

	for (uint32_t at = 0; at < len; at += PIECE)
		trbs[n++] = tb_xhci_push(&s->x, s->slot, dci, s->data + at, MIN(len - at, PIECE),
					 normal);
	tb_xhci_push(&s->x, s->slot, dci, 0, 0,
		     XHCI_TR_EVENT_DATA << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IOC);
	tb_xhci_bell(&s->x, s->slot, dci);
	code = tb_xhci_code(&s->x);
	*moved = code ? s->x.event.status & 0xffffff : 0;
	if (!code || s->x.event.control & XHCI_TRB_ED)
		return code;
	for (uint32_t i = 0; i < n; i++)
		if (s->x.event.param == trbs[i])
			*moved = i * PIECE + MIN(len - i * PIECE, PIECE) - *moved;
	return code;
}

/* A whole command; the status, -1: it hangs. *moved may be NULL. */
static int command(struct setup *s, const uint8_t *cdb, uint32_t len, bool in, uint32_t *moved)
{
	unsigned int dci = in ? BULK_IN : BULK_OUT;
	uint32_t n = 0, code = XHCI_SUCCESS;

	CHECK_EQ(send_cbw(s, cdb, len, in), XHCI_SUCCESS);
	if (len)
		code = bulk(s, dci, len, &n);
	if (moved)
		*moved = n;
	if (!code)
		return -1;
	if (code == XHCI_STALL)
		clear_halt(s, dci);
	return get_csw(s);
}

#define CDB(...) ((const uint8_t[16]){ __VA_ARGS__ })
#define RW10(op, lba, n)                                                                \
	CDB(op, 0, 0, (uint8_t)((lba) >> 16), (uint8_t)((lba) >> 8), (uint8_t)(lba), 0, \
	    (uint8_t)((n) >> 8), (uint8_t)(n))
#define READ(lba, n) RW10(0x28, lba, n)
#define WRITE(lba, n) RW10(0x2a, lba, n)
#define SYNC CDB(0x35)

/* Key, code, qualifier of the last failure. */
static uint32_t sense(struct setup *s)
{
	CHECK_EQ(command(s, CDB(0x03, 0, 0, 0, 18), 18, true, NULL), 0);
	return (uint32_t)data(s)[2] << 16 | (uint32_t)data(s)[12] << 8 | data(s)[13];
}

static void fill(struct setup *s, uint32_t seed, uint32_t len)
{
	for (uint32_t i = 0; i < len; i += 4)
		put_le32(data(s) + i, seed + i);
}

static bool filled(struct setup *s, uint32_t seed, uint32_t len)
{
	for (uint32_t i = 0; i < len; i += 4)
		if (get_le32(data(s) + i) != seed + i)
			return false;
	return true;
}

static void inquiry(struct setup *s, uint8_t page, const char *text, uint32_t at)
{
	memset(data(s), 0, 256);
	CHECK_EQ(command(s, CDB(0x12, 1, page, 0, 255), 255, true, NULL), 0);
	CHECK_EQ(data(s)[1], page);
	CHECK_EQ(255 - s->residue, 4u + data(s)[3]);
	CHECK(memcmp(data(s) + at, text, strlen(text)) == 0);
}

static void what_it_is(void)
{
	struct setup *s = make();
	uint32_t n;

	CHECK_EQ(command(s, CDB(0x12, 0, 0, 0, 36), 36, true, &n), 0);
	CHECK_EQ(n, 36);
	CHECK_EQ(s->residue, 0);
	CHECK(memcmp(data(s) + 8, "KHYVE   USB disk        1.0 ", 28) == 0);
	CHECK_EQ(command(s, CDB(0x12, 0, 0, 0, 255), 255, true, &n), 0);
	CHECK_EQ(n, 36);
	CHECK_EQ(s->residue, 219);
	inquiry(s, 0x00, "\x00\x80\x83", 4);
	inquiry(s, 0x80, "ABC123", 4);
	inquiry(s, 0x83, "KHYVE   ABC123", 8);
	CHECK_EQ(command(s, CDB(0x12, 1, 0xb0, 0, 255), 255, true, NULL), 1);
	CHECK_EQ(sense(s), 0x052400);
	CHECK_EQ(sense(s), 0);
	CHECK_EQ(command(s, CDB(0), 0, false, NULL), 0);
	CHECK_EQ(command(s, CDB(0x25), 8, true, NULL), 0);
	CHECK_EQ(get_be32(data(s)), DISK_SIZE / SECTOR - 1);
	CHECK_EQ(get_be32(data(s) + 4), SECTOR);
	CHECK_EQ(command(s, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 32, true, NULL),
		 0);
	CHECK_EQ(get_be64(data(s)), DISK_SIZE / SECTOR - 1);
	CHECK_EQ(command(s, CDB(0x9e, 0x11), 32, true, NULL), 1);
	CHECK_EQ(command(s, CDB(0x23, 0, 0, 0, 0, 0, 0, 0, 12), 12, true, NULL), 0);
	CHECK_EQ(get_be32(data(s) + 4), DISK_SIZE / SECTOR);
	CHECK_EQ(command(s, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), 16, true, NULL), 0);
	CHECK_EQ(get_be32(data(s)), 8);
	CHECK_EQ(command(s, CDB(0x1a, 0, 0x3f, 0, 192), 192, true, &n), 0);
	CHECK_EQ(n, 24);
	CHECK_EQ(data(s)[2], 0x10);
	CHECK_EQ(data(s)[4], 0x08);
	CHECK_EQ(data(s)[6], 0x04);
	CHECK_EQ(command(s, CDB(0x5a, 0, 0x48, 0, 0, 0, 0, 0, 64), 64, true, &n), 0);
	CHECK_EQ(n, 28);
	CHECK_EQ(data(s)[10], 0);
	CHECK_EQ(command(s, CDB(0x1a, 0, 0x01, 0, 192), 192, true, NULL), 1);
	CHECK_EQ(command(s, CDB(0x1b), 0, false, NULL), 0);
	CHECK_EQ(command(s, CDB(0x1e), 0, false, NULL), 0);
	CHECK_EQ(command(s, CDB(0xff), 0, false, NULL), 1);
	CHECK_EQ(sense(s), 0x052000);
	done(s);
}

/* Sizes below, at and above the device's buffer, in TDs of one and of many TRBs. */
static void read_and_write(void)
{
	static const uint16_t counts[] = { 1, 7, 256, 257, 600, 2048 };
	struct setup *s = make();
	uint32_t n;

	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		uint32_t len = counts[i] * SECTOR;

		fill(s, 77 * counts[i], len);
		CHECK_EQ(command(s, WRITE(100, counts[i]), len, false, &n), 0);
		CHECK_EQ(n, len);
		memset(data(s), 0, len);
		CHECK_EQ(command(s, READ(100, counts[i]), len, true, &n), 0);
		CHECK_EQ(n, len);
		CHECK_EQ(s->residue, 0);
		CHECK(filled(s, 77 * counts[i], len));
	}
	/* the other sizes of commands */
	CHECK_EQ(command(s, CDB(0xa8, 0, 0, 0, 0, 100, 0, 0, 0, 2), 1024, true, NULL), 0);
	CHECK(filled(s, 77 * 2048, 1024));
	CHECK_EQ(command(s, CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 2), 1024, true, NULL),
		 0);
	CHECK(filled(s, 77 * 2048, 1024));
	CHECK_EQ(command(s, CDB(0xaa, 8, 0, 0, 0, 3, 0, 0, 0, 1), 512, false, NULL), 0);
	CHECK_EQ(command(s, CDB(0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 1), 512, false, NULL), 0);
	CHECK_EQ(command(s, RW10(0x2f, 4, 1), 0, false, NULL), 0);
	CHECK_EQ(command(s, SYNC, 0, false, NULL), 0);
	CHECK_EQ(command(s, CDB(0x91), 0, false, NULL), 0);
	done(s);
}

static void bad_ranges(void)
{
	struct setup *s = make();
	uint32_t end = DISK_SIZE / SECTOR;

	CHECK_EQ(command(s, READ(end - 1, 1), 512, true, NULL), 0);
	CHECK_EQ(command(s, READ(end - 1, 2), 1024, true, NULL), 1);
	CHECK_EQ(sense(s), 0x052100);
	CHECK_EQ(command(s, READ(end, 1), 512, true, NULL), 1);
	CHECK_EQ(command(s, WRITE(end, 1), 512, false, NULL), 1);
	CHECK_EQ(s->residue, 512);
	CHECK_EQ(sense(s), 0x052100);
	CHECK_EQ(command(s, CDB(0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff), 512, true, NULL),
		 1);
	CHECK_EQ(command(s,
			 CDB(0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
			     0xff, 0xff),
			 512, true, NULL),
		 1);
	CHECK_EQ(command(s, RW10(0x2f, end, 1), 0, false, NULL), 1);
	CHECK_EQ(command(s, READ(0, 0), 0, true, NULL), 0);
	done(s);
}

/* What host and device expect differs (the thirteen cases of s6.7). */
static void thirteen_cases(void)
{
	struct setup *s = make();
	uint32_t n;

	CHECK_EQ(command(s, CDB(0), 0, false, NULL), 0); /* 1 */
	CHECK_EQ(command(s, READ(0, 1), 0, false, NULL), 2); /* 2 */
	CHECK_EQ(command(s, WRITE(0, 1), 0, false, NULL), 2); /* 3 */
	CHECK_EQ(command(s, CDB(0), 512, true, &n), 0); /* 4 */
	CHECK_EQ(n, 0);
	CHECK_EQ(s->residue, 512);
	CHECK_EQ(command(s, READ(0, 1), 1024, true, &n), 0); /* 5 */
	CHECK_EQ(n, 512);
	CHECK_EQ(s->residue, 512);
	CHECK_EQ(command(s, READ(0, 1), 512, true, NULL), 0); /* 6 */
	CHECK_EQ(command(s, READ(0, 3), 1024, true, &n), 2); /* 7 */
	CHECK_EQ(n, 1024);
	CHECK_EQ(command(s, WRITE(0, 1), 512, true, NULL), 2); /* 8 */
	CHECK_EQ(command(s, CDB(0), 512, false, NULL), 0); /* 9 */
	CHECK_EQ(s->residue, 512);
	CHECK_EQ(command(s, READ(0, 1), 512, false, NULL), 2); /* 10 */
	CHECK_EQ(command(s, WRITE(0, 1), 1024, false, &n), 0); /* 11 */
	CHECK_EQ(n, 512);
	CHECK_EQ(s->residue, 512);
	CHECK_EQ(command(s, WRITE(0, 1), 512, false, NULL), 0); /* 12 */
	CHECK_EQ(command(s, WRITE(0, 2), 512, false, &n), 2); /* 13 */
	CHECK_EQ(n, 512);
	CHECK_EQ(command(s, READ(0, 1), 512, true, NULL), 0);
	/* less than a sector */
	CHECK_EQ(command(s, WRITE(0, 1), 100, false, &n), 2);
	CHECK_EQ(n, 0);
	CHECK_EQ(command(s, READ(0, 1), 512, true, NULL), 0);
	done(s);
}

static void recover(struct setup *s)
{
	static const struct usb_setup reset = { 0x21, 0xff, 0, 0, 0 };

	CHECK_EQ(tb_xhci_control(&s->x, s->slot, &reset), 0);
	clear_halt(s, BULK_OUT);
	CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_IN, s->csw, 13, NULL), 0);
	CHECK_EQ(send_cbw(s, CDB(0), 0, false), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	CHECK_EQ(command(s, CDB(0), 0, false, NULL), 0);
}

/* Command wrappers that are none: both endpoints stall until the reset of s3.1. */
static void bad_wrappers(void)
{
	static const struct {
		uint8_t at, value, len;
	} bad[] = { { 0, 0, 31 },   { 12, 1, 31 },  { 13, 1, 31 }, { 14, 0, 31 },
		    { 14, 17, 31 }, { 14, 16, 32 }, { 14, 16, 64 } };
	struct setup *s = make();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CHECK_EQ(command(s, CDB(0), 0, false, NULL), 0);
		*(uint8_t *)tb_mem(s->tb, s->cbw + bad[i].at, 1) = bad[i].value;
		CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw, bad[i].len, NULL),
			 XHCI_STALL);
		clear_halt(s, BULK_OUT);
		CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw, 31, NULL), XHCI_STALL);
		recover(s);
	}
	/* in two pieces it is one */
	CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw, 11, NULL), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw + 11, 20, NULL), XHCI_SUCCESS);
	CHECK_EQ(get_csw(s), 0);
	/* no room for the status */
	CHECK_EQ(send_cbw(s, CDB(0), 0, false), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_IN, s->csw, 12, NULL), XHCI_STALL);
	clear_halt(s, BULK_IN);
	CHECK_EQ(tb_xhci_transfer(&s->x, s->slot, BULK_OUT, s->cbw, 31, NULL), XHCI_STALL);
	recover(s);
	done(s);
}

static void class_requests(void)
{
	struct setup *s = make();
	struct usb_setup max_lun = { 0xa1, 0xfe, 0, 0, 1 }, bad = { 0xa1, 0xfd, 0, 0, 1 };
	struct usb_setup serial = { 0x80, 6, 0x0303, 0x409, 255 };

	CHECK_EQ(tb_xhci_control(&s->x, s->slot, &max_lun), 1);
	CHECK_EQ(*(uint8_t *)tb_mem(s->tb, s->x.buf, 1), 0);
	CHECK_EQ(tb_xhci_control(&s->x, s->slot, &serial), 14);
	CHECK_EQ(tb_xhci_control(&s->x, s->slot, &bad), -XHCI_STALL);
	done(s);
}

static void read_only(void)
{
	struct setup *s = make_with("slot.3.ro=true\n");

	CHECK_EQ(command(s, WRITE(0, 1), 512, false, NULL), 1);
	CHECK_EQ(sense(s), 0x072700);
	CHECK_EQ(command(s, CDB(0x1a, 0, 0x3f, 0, 192), 192, true, NULL), 0);
	CHECK_EQ(data(s)[2], 0x90);
	CHECK_EQ(command(s, READ(0, 1), 512, true, NULL), 0);
	done(s);
}

/* Each request of the host's disk fails in turn; the command says so, the next one works. */
static void host_errors(void)
{
	static const struct {
		int error;
		uint32_t read, write;
	} rows[] = { { EIO, 0x031100, 0x030c00 },
		     { ENOSPC, 0x072707, 0x072707 },
		     { EINVAL, 0x044400, 0x044400 },
		     { EROFS, 0x072700, 0x072700 } };
	struct setup *s = make_with("slot.3.on_nospace=error\n");

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct blk_fault f = { .fail_nth = 1, .fail_errno = rows[i].error, .fail_op = -1 };

		for (int nth = 1; nth <= 3; nth++) {
			f.fail_nth = nth;
			tb_fault(s->tb, 0, &f);
			CHECK_EQ(command(s, READ(0, 600), 600 * SECTOR, true, NULL), 1);
			CHECK_EQ(sense(s), rows[i].read);
			tb_fault(s->tb, 0, &f);
			CHECK_EQ(command(s, WRITE(0, 600), 600 * SECTOR, false, NULL), 1);
			CHECK_EQ(sense(s), rows[i].write);
			tb_fault(s->tb, 0, NULL);
			CHECK_EQ(command(s, WRITE(0, 600), 600 * SECTOR, false, NULL), 0);
		}
	}
	done(s);
}

/* A flush that failed is not forgotten before the guest's reset. */
static void failed_flush(void)
{
	struct setup *s = make();
	struct blk_fault f = { .fail_nth = 1, .fail_errno = EIO, .fail_op = BLK_FLUSH };

	tb_fault(s->tb, 0, &f);
	CHECK_EQ(command(s, SYNC, 0, false, NULL), 1);
	CHECK_EQ(sense(s), 0x030c00);
	tb_fault(s->tb, 0, NULL);
	done(s);
}

/* the host takes its time, and the guest does not wait. */
static void taken_away_in_flight(void)
{
	struct setup *s = make();
	struct blk_fault f = { .hold = true, .fail_op = -1 };

	for (int way = 0; way < 6; way++) {
		bool in = way & 1;

		tb_fault(s->tb, 0, &f);
		CHECK_EQ(command(s, in ? READ(0, 1) : WRITE(0, 1), 512, in, NULL), -1);
		if (way < 2) {
			CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_STOP_ENDPOINT, 0,
						 s->slot << 24 | BULK_IN << 16),
				 XHCI_SUCCESS);
			CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_DISABLE_SLOT, 0, s->slot << 24),
				 XHCI_SUCCESS);
		} else if (way < 4) {
			tb_xhci_w(&s->x, XHCI_USBCMD, XHCI_CMD_HCRST);
			tb_xhci_start(&s->x);
		} else {
			CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_RESET_DEVICE, 0, s->slot << 24),
				 XHCI_SUCCESS);
			CHECK_EQ(tb_xhci_command(&s->x, XHCI_CR_DISABLE_SLOT, 0, s->slot << 24),
				 XHCI_SUCCESS);
		}
		memset(data(s), 0xee, 512);
		s->slot = tb_xhci_attach(&s->x, 3);
		tb_xhci_configure(&s->x, s->slot);
		/* the next command waits for the old request, which touches nothing of the guest's */
		CHECK_EQ(send_cbw(s, CDB(0), 0, false), 0);
		CHECK_EQ(data(s)[0], 0xee);
		tb_fault(s->tb, 0, NULL);
		CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
		CHECK_EQ(get_csw(s), 0);
		CHECK_EQ(data(s)[0], 0xee);
		CHECK_EQ(command(s, READ(0, 1), 512, true, NULL), 0);
	}
	done(s);
}

/* Pause waits for the host's disk; what the guest did meanwhile is seen to after. */
static void pause_in_flight(void)
{
	struct setup *s = make();
	struct blk_fault f = { .hold = true, .fail_op = -1 };

	tb_fault(s->tb, 0, &f);
	CHECK_EQ(command(s, READ(0, 300), 300 * SECTOR, true, NULL), -1);
	CHECK(!tb_pause(s->tb));
	tb_fault(s->tb, 0, NULL);
	CHECK(tb_pause(s->tb));
	CHECK_EQ(tb_xhci_code(&s->x), 0);
	tb_resume(s->tb);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	CHECK_EQ(get_csw(s), 0);
	tb_fault(s->tb, 0, &f);
	CHECK_EQ(command(s, SYNC, 0, false, NULL), -1);
	tb_fault(s->tb, 0, NULL);
	CHECK(tb_reset(s->tb));
	done(s);
}

/* A transfer is stopped half way and goes on where it was. */
static void stopped_half_way(void)
{
	struct setup *s = make();
	struct blk_fault f = { .hold = true, .fail_op = -1 };
	uint32_t len = 600 * SECTOR;
	int held;

	fill(s, 5, len);
	CHECK_EQ(command(s, WRITE(0, 600), len, false, NULL), 0);
	memset(data(s), 0, len);
	CHECK_EQ(send_cbw(s, READ(0, 600), len, true), XHCI_SUCCESS);
	tb_fault(s->tb, 0, &f);
	/* a TRB has 17 bits of length, and the device's buffer as much */
	for (held = 0; held < 3; held++)
		tb_xhci_push(&s->x, s->slot, BULK_IN, s->data + (uint32_t)held * 102400, 102400,
			     XHCI_TR_NORMAL << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IOC);
	tb_xhci_bell(&s->x, s->slot, BULK_IN);
	blk_fault_release(tb_disk(s->tb, 0), 0, 1);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_code(&s->x), 0);
	tb_xhci_push(&s->x, 0, 0, 0, 0,
		     XHCI_CR_STOP_ENDPOINT << XHCI_TRB_TYPE_SHIFT | s->slot << 24 | BULK_IN << 16);
	tb_xhci_bell(&s->x, 0, 0);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_STOPPED);
	CHECK_EQ(s->x.event.status & 0xffffff, 2 * 102400 - 131072);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	tb_fault(s->tb, 0, NULL);
	tb_xhci_bell(&s->x, s->slot, BULK_IN);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_code(&s->x), XHCI_SUCCESS);
	CHECK_EQ(get_csw(s), 0);
	CHECK(filled(s, 5, len));
	done(s);
}

static const struct test_case cases[] = {
	{ "what_it_is", what_it_is },
	{ "read_and_write", read_and_write },
	{ "bad_ranges", bad_ranges },
	{ "thirteen_cases", thirteen_cases },
	{ "bad_wrappers", bad_wrappers },
	{ "class_requests", class_requests },
	{ "read_only", read_only },
	{ "host_errors", host_errors },
	{ "failed_flush", failed_flush },
	{ "taken_away_in_flight (X-10)", taken_away_in_flight },
	{ "pause_in_flight", pause_in_flight },
	{ "stopped_half_way (X-10)", stopped_half_way },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
