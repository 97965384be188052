/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hw/ahci_priv.h"
#include "util/bytes.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/macros.h"

/* ATAPI CD drives: packets of MMC-6 and SPC-4 (sections of MMC-6 unless noted). Discs have one data track. */

#define REASON_DONE 0x03u /* interrupt reason: command, to the host */
#define CD_BLOCKS_MAX 450000u /* more is a DVD */
#define PROFILE_CD 0x0008u
#define PROFILE_DVD 0x0010u
#define LEAD_OUT 0xaau

/* ATA commands that a packet device knows */
enum {
	ATA_DEVICE_RESET = 0x08,
	ATA_DIAGNOSTIC = 0x90,
	ATA_PACKET = 0xa0,
	ATA_IDENTIFY_PACKET = 0xa1,
	ATA_STANDBY_IMMEDIATE = 0xe0,
	ATA_IDLE_IMMEDIATE = 0xe1,
	ATA_SLEEP = 0xe6,
	ATA_IDENTIFY = 0xec,
	ATA_SET_FEATURES = 0xef,
};

/* Sense keys and additional codes (SPC-4 annex D) */
#define SENSE_NONE ((struct ahci_sense){ 0, 0, 0 })
#define SENSE_NO_MEDIUM ((struct ahci_sense){ 2, 0x3a, 0 })
#define SENSE_READ_ERROR ((struct ahci_sense){ 3, 0x11, 0 })
#define SENSE_BAD_OPCODE ((struct ahci_sense){ 5, 0x20, 0 })
#define SENSE_BAD_LBA ((struct ahci_sense){ 5, 0x21, 0 })
#define SENSE_BAD_FIELD ((struct ahci_sense){ 5, 0x24, 0 })
#define SENSE_NO_SAVED_PAGES ((struct ahci_sense){ 5, 0x39, 0 })
#define SENSE_LOCKED ((struct ahci_sense){ 5, 0x53, 2 })
#define SENSE_NEW_MEDIUM ((struct ahci_sense){ 6, 0x28, 0 })

void ahci_atapi_reset(struct ahci_port *p)
{
	p->sense = SENSE_NONE;
	p->locked = false;
	p->medium_changed = p->eject_wanted = p->medium_removed = false;
}

static void good(struct ahci_req *r)
{
	r->port->sense = SENSE_NONE;
	ahci_cmd_done(r);
}

static void check_condition(struct ahci_req *r, struct ahci_sense sense)
{
	r->port->sense = sense;
	ahci_cmd_error(r, (uint8_t)(sense.key << 4));
}

/* Sends at most alloc bytes of a reply; a shorter PRDT is no error, the drive just sends less. */
static void reply(struct ahci_req *r, void *buf, size_t len, size_t alloc)
{
	int64_t n = ahci_copy(r, true, buf, MIN(len, alloc));

	if (n < 0) {
		ahci_cmd_fatal(r, AHCI_IS_HBFS);
		return;
	}
	/* what went over the wire, for hosts that look at the byte count */
	put_le16(r->cfis + 5, (uint16_t)n);
	good(r);
}

static uint8_t *clear_buf(struct ahci_req *r, size_t len)
{
	return memset(r->port->buf, 0, len);
}

static uint32_t blocks_of(const struct ahci_port *p)
{
	return (uint32_t)MIN(p->info.size / ATAPI_BLOCK, UINT32_MAX);
}

/* --- what the drive is --- */

static void put_text(uint8_t *at, size_t len, const char *s)
{
	size_t n = MIN(strlen(s), len);

	memset(at, ' ', len);
	memcpy(at, s, n);
}

/* SPC-4 s6.6 */
static void inquiry(struct ahci_req *r)
{
	const struct ahci_port_conf *c = r->port->conf;
	uint8_t *b = clear_buf(r, 36);

	if (r->acmd[1] & 1) {
		/* vital product data: only the list of pages, which holds itself */
		if (r->acmd[2]) {
			check_condition(r, SENSE_BAD_FIELD);
			return;
		}
		b[0] = 0x05;
		b[3] = 1;
		reply(r, b, 5, get_be16(r->acmd + 3));
		return;
	}
	b[0] = 0x05; /* CD/DVD */
	b[1] = 0x80; /* removable */
	b[3] = 0x21; /* ATAPI, response format */
	b[4] = 36 - 5;
	put_text(b + 8, 8, "KHYVE");
	put_text(b + 16, 16, c->model ? c->model : "DVD-ROM");
	put_text(b + 32, 4, c->rev ? c->rev : "001");
	reply(r, b, 36, get_be16(r->acmd + 3));
}

/* SPC-4 s6.39, fixed format */
static void request_sense(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 18);

	b[0] = 0x70;
	b[2] = r->port->sense.key;
	b[7] = 18 - 8;
	b[12] = r->port->sense.asc;
	b[13] = r->port->sense.ascq;
	reply(r, b, 18, r->acmd[4]);
}

/* Pages of MODE SENSE (s7): the error recovery page and the capabilities. Returns the length. */
static size_t mode_pages(uint8_t *b, unsigned int page)
{
	size_t n = 0;

	if (page == 0x01 || page == 0x3f) {
		b[n] = 0x01;
		b[n + 1] = 6;
		b[n + 3] = 5; /* retries */
		n += 8;
	}
	if (page == 0x2a || page == 0x3f) {
		uint8_t *c = b + n;

		c[0] = 0x2a;
		c[1] = 18;
		c[2] = 0x3b; /* reads CD-R, CD-RW, DVD-ROM, DVD-R */
		c[4] = 0x70; /* multi session, mode 2 forms */
		c[6] = 0x29; /* tray, eject, lock */
		put_be16(c + 8, 706); /* kB/s, 4 speed */
		put_be16(c + 12, 512); /* buffer, KiB */
		put_be16(c + 14, 706);
		n += 20;
	}
	return n;
}

static void mode_sense(struct ahci_req *r, bool ten)
{
	uint8_t *b = clear_buf(r, 64);
	size_t head = ten ? 8 : 4, n = mode_pages(b + head, r->acmd[2] & 0x3f);
	size_t alloc = ten ? get_be16(r->acmd + 7) : r->acmd[4];

	if (r->acmd[2] >> 6 == 3) {
		check_condition(r, SENSE_NO_SAVED_PAGES);
		return;
	}
	if (!n) {
		check_condition(r, SENSE_BAD_FIELD);
		return;
	}
	n += head;
	if (ten) {
		put_be16(b, (uint16_t)(n - 2));
		b[2] = r->port->medium ? 0x01 : 0x70; /* data disc, or none */
	} else {
		b[0] = (uint8_t)(n - 1);
		b[1] = r->port->medium ? 0x01 : 0x70;
	}
	reply(r, b, n, alloc);
}

/* s5.3, s6.6: the features that a read-only drive must have. */
static size_t add_feature(uint8_t *b, size_t at, uint16_t code, bool current, size_t len)
{
	put_be16(b + at, code);
	b[at + 2] = (uint8_t)(0x02 | (current ? 1 : 0)); /* persistent */
	b[at + 3] = (uint8_t)len;
	return at + 4;
}

static void get_configuration(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 96);
	struct ahci_port *p = r->port;
	bool dvd = blocks_of(p) > CD_BLOCKS_MAX;
	size_t n = 8;

	if (p->medium)
		put_be16(b + 6, dvd ? PROFILE_DVD : PROFILE_CD);
	n = add_feature(b, n, 0x0000, true, 8); /* profiles */
	put_be16(b + n, PROFILE_DVD);
	b[n + 2] = p->medium && dvd;
	put_be16(b + n + 4, PROFILE_CD);
	b[n + 6] = p->medium && !dvd;
	n = add_feature(b, n + 8, 0x0001, true, 8); /* core: ATAPI */
	put_be32(b + n, 2);
	n = add_feature(b, n + 8, 0x0003, true, 4); /* removable: tray, eject, lock */
	b[n] = 0x29;
	n = add_feature(b, n + 4, 0x0010, p->medium, 8); /* random readable */
	put_be32(b + n, ATAPI_BLOCK);
	put_be16(b + n + 4, 1);
	n = add_feature(b, n + 8, 0x001e, p->medium && !dvd, 4); /* CD read */
	n = add_feature(b, n + 4, 0x001f, p->medium && dvd, 4); /* DVD read */
	n += 4;
	put_be32(b, (uint32_t)(n - 4));
	reply(r, b, n, get_be16(r->acmd + 7));
}

/* --- the disc --- */

static void read_capacity(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 8);

	put_be32(b, blocks_of(r->port) - 1);
	put_be32(b + 4, ATAPI_BLOCK);
	reply(r, b, 8, 8);
}

/* An address as a number, or as minute, second, frame with the 2 seconds before block 0. */
static void put_address(uint8_t *b, uint32_t lba, bool msf)
{
	if (!msf) {
		put_be32(b, lba);
		return;
	}
	lba += 150;
	b[0] = 0;
	b[1] = (uint8_t)(lba / 75 / 60);
	b[2] = (uint8_t)(lba / 75 % 60);
	b[3] = (uint8_t)(lba % 75);
}

static size_t toc_entry(uint8_t *b, uint8_t track, uint32_t lba, bool msf)
{
	b[1] = 0x14; /* data track */
	b[2] = track;
	put_address(b + 4, lba, msf);
	return 8;
}

/* Format 2: the three points of the lead-in and the track. */
static size_t raw_toc_entry(uint8_t *b, uint8_t point, uint8_t value, uint32_t lba)
{
	b[0] = 1; /* session */
	b[1] = 0x14;
	b[3] = point;
	if (value)
		b[8] = value;
	else
		put_address(b + 7, lba, true);
	if (!value)
		b[7] = 0;
	return 11;
}

/* s6.25 */
static void read_toc(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 64);
	bool msf = r->acmd[1] & 2;
	unsigned int format = r->acmd[2] & 0x0f, start = r->acmd[6];
	uint32_t blocks = blocks_of(r->port);
	size_t n = 4;

	if (!format)
		format = r->acmd[9] >> 6; /* where ATAPI had it first */
	b[2] = b[3] = 1; /* first and last track or session */
	if (format == 0 && (start <= 1 || start == LEAD_OUT)) {
		if (start <= 1)
			n += toc_entry(b + n, 1, 0, msf);
		n += toc_entry(b + n, LEAD_OUT, blocks, msf);
	} else if (format == 1) {
		n += toc_entry(b + n, 1, 0, msf);
	} else if (format == 2) {
		n += raw_toc_entry(b + n, 0xa0, 1, 0);
		n += raw_toc_entry(b + n, 0xa1, 1, 0);
		n += raw_toc_entry(b + n, 0xa2, 0, blocks);
		n += raw_toc_entry(b + n, 1, 0, 0);
	} else {
		check_condition(r, SENSE_BAD_FIELD);
		return;
	}
	put_be16(b, (uint16_t)(n - 2));
	reply(r, b, n, get_be16(r->acmd + 7));
}

/* s6.21: finished, one session, one track. */
static void read_disc_information(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 34);

	if (r->acmd[1] & 7) {
		check_condition(r, SENSE_BAD_FIELD);
		return;
	}
	put_be16(b, 32);
	b[2] = 0x0e;
	b[3] = b[4] = b[5] = b[6] = 1;
	b[7] = 0x20; /* unrestricted use */
	memset(b + 16, 0xff, 8); /* no lead-in and lead-out to write */
	reply(r, b, 34, get_be16(r->acmd + 7));
}

static void read_done(struct ahci_req *r, int res)
{
	struct ahci_port *p = r->port;

	if (res == 0) {
		good(r);
	} else if (res == -EFAULT || res == -EOVERFLOW) {
		ahci_cmd_fatal(r, res == -EFAULT ? AHCI_IS_HBFS : AHCI_IS_OFS);
	} else {
		log_limited(LOG_LEVEL_WARN, p->hba->fn.dev.env.name,
			    "port %u: reading byte %" PRIu64 " of %s failed: %s", p->index,
			    r->req.offset, p->info.path ? p->info.path : "the disc",
			    strerror(-res));
		check_condition(r, SENSE_READ_ERROR);
	}
}

static void read_blocks(struct ahci_req *r, uint32_t lba, uint32_t count)
{
	if (!range_inside(lba, count, blocks_of(r->port))) {
		check_condition(r, SENSE_BAD_LBA);
		return;
	}
	r->done = read_done;
	ahci_transfer(r, BLK_READ, 0, (uint64_t)lba * ATAPI_BLOCK, (uint64_t)count * ATAPI_BLOCK);
}

/* s6.17 READ CD: user data of data sectors only. */
static void read_cd(struct ahci_req *r)
{
	uint32_t count = (uint32_t)r->acmd[6] << 16 | get_be16(r->acmd + 7);
	uint8_t want = r->acmd[9] & 0xf8, type = r->acmd[1] >> 2 & 7;

	if (!count || !want)
		good(r);
	else if (want != 0x10 || type == 1 || (r->acmd[10] & 7))
		check_condition(r, SENSE_BAD_FIELD);
	else
		read_blocks(r, get_be32(r->acmd + 2), count);
}

/* --- the tray --- */

/* s6.42 */
static void start_stop(struct ahci_req *r)
{
	struct ahci_port *p = r->port;
	bool load_eject = r->acmd[4] & 2, start = r->acmd[4] & 1;

	if (load_eject && !start && p->locked) {
		check_condition(r, SENSE_LOCKED);
		return;
	}
	if (load_eject) {
		p->medium_changed = start && !p->medium && p->disk;
		p->medium = start && p->disk;
	}
	good(r);
}

/* s6.7, polled only: one class, media. */
static void get_event_status(struct ahci_req *r)
{
	struct ahci_port *p = r->port;
	uint8_t *b = clear_buf(r, 8);
	size_t n = 4;

	if (!(r->acmd[1] & 1)) {
		check_condition(r, SENSE_BAD_FIELD);
		return;
	}
	b[3] = 0x10; /* supported classes */
	if (r->acmd[4] & 0x10) {
		b[2] = 0x04;
		/* asked to eject, new media, removed */
		b[4] = p->eject_wanted ? 0x01 : p->medium_changed ? 0x02 : p->medium_removed * 3;
		p->eject_wanted = p->medium_removed = false;
		b[5] = p->medium ? 0x02 : p->disk ? 0x01 : 0; /* present, or the tray is open */
		n = 8;
	} else {
		b[2] = 0x80; /* no such event */
	}
	put_be16(b, (uint16_t)(n - 2));
	reply(r, b, n, get_be16(r->acmd + 7));
}

static int tray_insert(struct ahci_port *p, const char *path, struct err *err)
{
	const struct blk_spec spec = { .path = (char *)(uintptr_t)path, .ro = true };
	struct blk *disk;

	if (p->medium)
		return err_set(err, -EBUSY, "there is a disc in the drive; eject it first");
	disk = dev_blk_open(&p->hba->fn.dev, &spec, ahci_work, err);
	if (!disk)
		return -EIO;
	dev_blk_close(&p->hba->fn.dev, p->disk);
	p->disk = disk;
	p->info = *blk_info_get(disk);
	p->medium = p->medium_changed = true;
	return 1;
}

int ahci_atapi_tray(struct ahci_port *p, enum dev_tray what, const char *path, struct err *err)
{
	if (what == DEV_TRAY_LOOK)
		return p->medium;
	if (p->in_flight)
		return err_set(err, -EBUSY, "the guest is reading from the drive; try again");
	if (what == DEV_TRAY_INSERT)
		return tray_insert(p, path, err);
	if (p->locked && p->medium && what == DEV_TRAY_EJECT) {
		p->eject_wanted = true;
		return err_set(err, -EBUSY,
			       "the guest has locked the drive; it has been asked to eject the "
			       "disc, or take it out by force");
	}
	p->medium_removed = p->medium;
	p->medium = p->medium_changed = p->locked = false;
	dev_blk_close(&p->hba->fn.dev, p->disk);
	p->disk = NULL;
	p->info = (struct blk_info){ .sector = 512, .physical_sector = 512 };
	return 0;
}

/* s6.11 */
static void mechanism_status(struct ahci_req *r)
{
	uint8_t *b = clear_buf(r, 8);

	b[1] = r->port->medium || !r->port->disk ? 0 : 0x10; /* door open */
	reply(r, b, 8, get_be16(r->acmd + 8));
}

/* --- dispatch --- */

enum { NEEDS_MEDIUM = 1 };

static void test_unit_ready(struct ahci_req *r)
{
	good(r);
}

static void prevent_removal(struct ahci_req *r)
{
	r->port->locked = r->acmd[4] & 1;
	good(r);
}

static void mode_sense_6(struct ahci_req *r)
{
	mode_sense(r, false);
}

static void mode_sense_10(struct ahci_req *r)
{
	mode_sense(r, true);
}

static void read_10(struct ahci_req *r)
{
	read_blocks(r, get_be32(r->acmd + 2), get_be16(r->acmd + 7));
}

static void read_12(struct ahci_req *r)
{
	read_blocks(r, get_be32(r->acmd + 2), get_be32(r->acmd + 6));
}

static void seek(struct ahci_req *r)
{
	if (get_be32(r->acmd + 2) < blocks_of(r->port))
		good(r);
	else
		check_condition(r, SENSE_BAD_LBA);
}

struct packet {
	uint8_t opcode, flags;
	void (*run)(struct ahci_req *r);
};

static const struct packet packets[] = {
	{ 0x00, NEEDS_MEDIUM, test_unit_ready },
	{ 0x03, 0, request_sense },
	{ 0x12, 0, inquiry },
	{ 0x1a, 0, mode_sense_6 },
	{ 0x1b, 0, start_stop },
	{ 0x1e, 0, prevent_removal },
	{ 0x25, NEEDS_MEDIUM, read_capacity },
	{ 0x28, NEEDS_MEDIUM, read_10 },
	{ 0x2b, NEEDS_MEDIUM, seek },
	{ 0x43, NEEDS_MEDIUM, read_toc },
	{ 0x46, 0, get_configuration },
	{ 0x4a, 0, get_event_status },
	{ 0x51, NEEDS_MEDIUM, read_disc_information },
	{ 0x5a, 0, mode_sense_10 },
	{ 0xa8, NEEDS_MEDIUM, read_12 },
	{ 0xbb, 0, test_unit_ready }, /* SET CD SPEED: any */
	{ 0xbd, 0, mechanism_status },
	{ 0xbe, NEEDS_MEDIUM, read_cd },
};

static void packet(struct ahci_req *r)
{
	struct ahci_port *p = r->port;

	r->cfis[12] = REASON_DONE; /* whatever comes of it */
	for (size_t i = 0; i < ARRAY_LEN(packets); i++) {
		if (packets[i].opcode != r->acmd[0])
			continue;
		if ((packets[i].flags & NEEDS_MEDIUM) && !p->medium) {
			check_condition(r, SENSE_NO_MEDIUM);
		} else if ((packets[i].flags & NEEDS_MEDIUM) && p->medium_changed) {
			p->medium_changed = false;
			check_condition(r, SENSE_NEW_MEDIUM);
		} else {
			packets[i].run(r);
		}
		return;
	}
	check_condition(r, SENSE_BAD_OPCODE);
}

void ahci_atapi_command(struct ahci_req *r)
{
	switch (r->cfis[2]) {
	case ATA_PACKET:
		packet(r);
		break;
	case ATA_IDENTIFY_PACKET:
		ahci_identify(r);
		break;
	case ATA_SET_FEATURES:
	case ATA_DEVICE_RESET:
	case ATA_DIAGNOSTIC:
	case ATA_STANDBY_IMMEDIATE:
	case ATA_IDLE_IMMEDIATE:
	case ATA_SLEEP:
		ahci_cmd_done(r);
		break;
	case ATA_IDENTIFY:
		/* ACS-3 s7.12.3: aborted, with the signature */
		r->cfis[4] = r->cfis[12] = 1;
		r->cfis[5] = 0x14;
		r->cfis[6] = 0xeb;
		ahci_cmd_error(r, ATA_E_ABRT);
		break;
	default:
		ahci_cmd_error(r, ATA_E_ABRT);
		break;
	}
}
