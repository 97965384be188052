/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "hw/ahci_priv.h"
#include "util/bytes.h"
#include "util/canary.h"
#include "util/checked.h"
#include "util/log.h"
#include "util/macros.h"

/* ATA disks: ATA8-ACS and the parts of ACS-3 that guests look for. Section numbers are of ACS-3. */

#define MULTIPLE_MAX 128
#define TRIM_BLOCKS_MAX (AHCI_BUF / 512) /* word 105 */
#define LBA28_MAX 0x0fffffffu
#define LBA48_MAX ((uint64_t)0x0000ffffffffffff)

enum {
	CMD_DSM = 0x06,
	CMD_READ_SECTORS = 0x20,
	CMD_READ_SECTORS_EXT = 0x24,
	CMD_READ_DMA_EXT = 0x25,
	CMD_READ_MULTIPLE_EXT = 0x29,
	CMD_READ_LOG_EXT = 0x2f,
	CMD_WRITE_SECTORS = 0x30,
	CMD_WRITE_SECTORS_EXT = 0x34,
	CMD_WRITE_DMA_EXT = 0x35,
	CMD_WRITE_MULTIPLE_EXT = 0x39,
	CMD_WRITE_DMA_FUA_EXT = 0x3d,
	CMD_VERIFY = 0x40,
	CMD_VERIFY_EXT = 0x42,
	CMD_NCQ_READ = 0x60,
	CMD_NCQ_WRITE = 0x61,
	CMD_DIAGNOSTIC = 0x90,
	CMD_INIT_PARAMETERS = 0x91,
	CMD_READ_MULTIPLE = 0xc4,
	CMD_WRITE_MULTIPLE = 0xc5,
	CMD_SET_MULTIPLE = 0xc6,
	CMD_READ_DMA = 0xc8,
	CMD_WRITE_DMA = 0xca,
	CMD_WRITE_MULTIPLE_FUA_EXT = 0xce,
	CMD_STANDBY_IMMEDIATE = 0xe0,
	CMD_IDLE_IMMEDIATE = 0xe1,
	CMD_STANDBY = 0xe2,
	CMD_IDLE = 0xe3,
	CMD_CHECK_POWER = 0xe5,
	CMD_SLEEP = 0xe6,
	CMD_FLUSH = 0xe7,
	CMD_FLUSH_EXT = 0xea,
	CMD_IDENTIFY = 0xec,
	CMD_SET_FEATURES = 0xef,
};

void ahci_ata_reset(struct ahci_port *p)
{
	p->multiple = 0;
	p->spun_down = false;
}

/* Copies a block of data to the guest and ends the command. Data in by PIO. */
static void reply(struct ahci_req *r, void *buf, size_t len)
{
	int64_t n = ahci_copy(r, true, buf, len);

	r->pio_in = true;
	if (n < 0)
		ahci_cmd_fatal(r, AHCI_IS_HBFS);
	else if ((size_t)n < len)
		ahci_cmd_fatal(r, AHCI_IS_OFS);
	else
		ahci_cmd_done(r);
}

/* --- IDENTIFY DEVICE (s7.12) --- */

static void put_word(uint8_t *id, unsigned int word, uint64_t value)
{
	put_le16(id + 2 * (size_t)word, (uint16_t)value);
}

/* ATA strings: blank padded, the two characters of a word swapped. */
static void put_string(uint8_t *id, unsigned int word, unsigned int words, const char *s)
{
	char text[41];
	int n = snprintf(text, sizeof(text), "%-40.40s", s);

	for (unsigned int i = 0; n == 40 && i < words; i++) {
		id[2 * (word + i)] = (uint8_t)text[2 * i + 1];
		id[2 * (word + i) + 1] = (uint8_t)text[2 * i];
	}
}

static uint64_t sectors_of(const struct ahci_port *p)
{
	return p->info.size / p->info.sector;
}

static void identify_names(const struct ahci_port *p, uint8_t *id)
{
	const char *model = p->cd ? "KHYVE SATA DVD ROM" : "KHYVE SATA DISK";

	put_string(id, 10, 10, p->serial);
	put_string(id, 23, 4, p->conf->rev ? p->conf->rev : "001");
	put_string(id, 27, 20, p->conf->model ? p->conf->model : model);
}

static void identify_modes(uint8_t *id)
{
	put_word(id, 53, 0x0006); /* words 64-70 and 88 are valid */
	put_word(id, 63, 0x0007); /* multiword DMA 0-2 */
	put_word(id, 64, 0x0003); /* PIO 3 and 4 */
	for (unsigned int w = 65; w <= 68; w++)
		put_word(id, w, 120);
	put_word(id, 80, 0x01f0); /* ATA/ATAPI-4 to ATA8-ACS */
	put_word(id, 88, 0x407f); /* UDMA 6 selected */
	put_word(id, 222, 0x1020); /* SATA transport */
}

static void identify_size(const struct ahci_port *p, uint8_t *id)
{
	uint64_t n = sectors_of(p);
	uint32_t ratio = p->info.physical_sector / p->info.sector, words = p->info.sector / 2;

	put_word(id, 1, 16383);
	put_word(id, 3, 16);
	put_word(id, 6, 63);
	put_le32(id + 2 * 60, (uint32_t)MIN(n, LBA28_MAX));
	put_le64(id + 2 * 100, MIN(n, LBA48_MAX));
	put_word(id, 106,
		 0x4000 | (ratio > 1 ? 0x2000 : 0) | (words > 256 ? 0x1000 : 0) |
			 (ratio ? (uint32_t)__builtin_ctz(ratio) : 0));
	if (words > 256)
		put_le32(id + 2 * 117, words);
	put_word(id, 209, 0x4000);
}

static void identify_features(const struct ahci_port *p, uint8_t *id)
{
	/* write cache; FLUSH CACHE, FLUSH CACHE EXT, 48-bit; FUA and logs. 82-84 supported, 85-87 enabled */
	put_word(id, 82, 0x0068);
	put_word(id, 83, 0x7400);
	put_word(id, 84, 0x4060);
	put_word(id, 85, 0x0048 | (p->write_cache ? 0x20 : 0));
	put_word(id, 86, 0x3400);
	put_word(id, 87, 0x4060);
	if (p->info.discard && !p->info.read_only) {
		put_word(id, 69, 0x4020); /* what is trimmed reads as zeroes */
		put_word(id, 105, TRIM_BLOCKS_MAX);
		put_word(id, 169, 1);
	}
	put_word(id, 217, p->conf->nmrr);
}

static void checksum(uint8_t *id)
{
	uint8_t sum = 0xa5;

	id[510] = 0xa5;
	for (unsigned int i = 0; i < 510; i++)
		sum = (uint8_t)(sum + id[i]);
	id[511] = (uint8_t)-sum;
}

static void identify_disk(const struct ahci_port *p, uint8_t *id)
{
	put_word(id, 0, 0x0040);
	put_word(id, 47, 0x8000 | MULTIPLE_MAX);
	put_word(id, 49, 0x0f00); /* DMA, LBA, IORDY */
	put_word(id, 50, 0x4000);
	put_word(id, 59, p->multiple ? 0x100u | p->multiple : 0);
	put_word(id, 75, AHCI_SLOTS - 1);
	put_word(id, 76, 0x010e); /* NCQ, three generations */
	identify_modes(id);
	identify_size(p, id);
	identify_features(p, id);
}

/* IDENTIFY PACKET DEVICE (s7.13) */
static void identify_cd(uint8_t *id)
{
	put_word(id, 0, 0x85c0); /* ATAPI, CD-ROM, removable, 12-byte packets */
	put_word(id, 49, 0x0f00);
	put_word(id, 50, 0x4000);
	put_word(id, 76, 0x000e);
	identify_modes(id);
	put_word(id, 82, 0x0210); /* DEVICE RESET, PACKET */
	put_word(id, 83, 0x4000);
	put_word(id, 84, 0x4000);
	put_word(id, 85, 0x0210);
	put_word(id, 87, 0x4000);
}

void ahci_identify(struct ahci_req *r)
{
	uint8_t *id = r->port->buf;

	memset(id, 0, 512);
	if (r->port->cd)
		identify_cd(id);
	else
		identify_disk(r->port, id);
	identify_names(r->port, id);
	checksum(id);
	reply(r, id, 512);
}

/* --- reading and writing --- */

/* The disk is done with a transfer, a flush or a discard. */
static void disk_done(struct ahci_req *r, int res)
{
	struct ahci_port *p = r->port;

	if (res == 0) {
		ahci_cmd_done(r);
		return;
	}
	if (res == -EFAULT || res == -EOVERFLOW) {
		ahci_cmd_fatal(r, res == -EFAULT ? AHCI_IS_HBFS : AHCI_IS_OFS);
		return;
	}
	log_limited(LOG_LEVEL_WARN, p->hba->fn.dev.env.name,
		    "port %u: request at byte %" PRIu64 " of %s failed: %s", p->index,
		    r->req.offset, p->info.path ? p->info.path : "the disk", strerror(-res));
	ahci_cmd_error(r, r->req.op == BLK_READ ? ATA_E_UNC : ATA_E_ABRT);
}

struct extent {
	uint64_t lba, count; /* logical sectors */
};

static struct extent extent28(const uint8_t *cfis)
{
	struct extent e = { .count = cfis[12] ? cfis[12] : 256 };

	e.lba = get_le32(cfis + 4) & LBA28_MAX; /* bits 27:24 are those of the device register */
	return e;
}

static uint64_t lba48(const uint8_t *cfis)
{
	return get_le16(cfis + 4) | (uint64_t)cfis[6] << 16 | (uint64_t)cfis[8] << 24 |
	       (uint64_t)cfis[9] << 32 | (uint64_t)cfis[10] << 40;
}

static struct extent extent48(const uint8_t *cfis)
{
	uint16_t count = get_le16(cfis + 12);

	return (struct extent){ .lba = lba48(cfis), .count = count ? count : 65536 };
}

/* NCQ: the count is where others have features, and the other way round (s7.16). */
static struct extent extent_ncq(const uint8_t *cfis)
{
	uint32_t count = cfis[3] | (uint32_t)cfis[11] << 8;

	return (struct extent){ .lba = lba48(cfis), .count = count ? count : 65536 };
}

/* Checks the extent and starts the transfer. LBA addressing only. */
static void transfer(struct ahci_req *r, enum blk_op op, struct extent e, bool fua)
{
	struct ahci_port *p = r->port;

	if (!(r->cfis[7] & 0x40) || (op == BLK_WRITE && p->info.read_only)) {
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	if (!range_inside(e.lba, e.count, sectors_of(p))) {
		ahci_cmd_error(r, ATA_E_IDNF);
		return;
	}
	p->spun_down = false;
	r->done = disk_done;
	ahci_transfer(r, op, op == BLK_WRITE && (fua || !p->write_cache) ? BLK_FUA : 0,
		      e.lba * p->info.sector, e.count * p->info.sector);
}

static void read_pio(struct ahci_req *r, struct extent e)
{
	r->pio_in = true;
	transfer(r, BLK_READ, e, false);
}

/* Verify has nothing to move: the extent is checked. */
static void verify(struct ahci_req *r, struct extent e)
{
	if (range_inside(e.lba, e.count, sectors_of(r->port)))
		ahci_cmd_done(r);
	else
		ahci_cmd_error(r, ATA_E_IDNF);
}

static void flush(struct ahci_req *r)
{
	if (r->port->info.read_only) {
		ahci_cmd_done(r);
		return;
	}
	r->done = disk_done;
	ahci_request(r, BLK_FLUSH, 0, 0);
}

/* --- DATA SET MANAGEMENT, TRIM (s7.6) --- */

/* Takes the next range with something in it, together with those that continue it. */
static bool trim_next(struct ahci_req *r, struct extent *e)
{
	const uint8_t *list = r->port->buf;

	e->count = 0;
	for (; r->range < r->ranges; r->range++) {
		uint64_t v = get_le64(list + 8 * (size_t)r->range);

		if (!(v >> 48))
			continue;
		if (e->count && e->lba + e->count != (v & LBA48_MAX))
			break;
		if (!e->count)
			e->lba = v & LBA48_MAX;
		e->count += v >> 48;
	}
	return e->count != 0;
}

static void trim_done(struct ahci_req *r, int res)
{
	struct ahci_port *p = r->port;
	struct extent e;

	if (res == 0 && trim_next(r, &e)) {
		ahci_request(r, BLK_DISCARD, e.lba * p->info.sector, e.count * p->info.sector);
		return;
	}
	disk_done(r, res);
}

static void trim(struct ahci_req *r)
{
	struct ahci_port *p = r->port;
	uint32_t blocks = get_le16(r->cfis + 12);
	int64_t n;

	if (!(r->cfis[3] & 1) || !p->info.discard || p->info.read_only || !blocks ||
	    (blocks > TRIM_BLOCKS_MAX && !CANARY)) {
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	n = ahci_copy(r, false, p->buf, 512 * blocks);
	if (n < 512 * blocks) {
		ahci_cmd_fatal(r, n < 0 ? AHCI_IS_HBFS : AHCI_IS_OFS);
		return;
	}
	r->ranges = 64 * blocks;
	for (r->range = 0; r->range < r->ranges; r->range++) {
		uint64_t v = get_le64(p->buf + 8 * (size_t)r->range);

		if (v >> 48 && !range_inside(v & LBA48_MAX, v >> 48, sectors_of(p))) {
			ahci_cmd_error(r, ATA_E_IDNF);
			return;
		}
	}
	r->range = 0;
	r->done = trim_done;
	trim_done(r, 0);
}

/* --- the rest --- */

/* READ LOG EXT (s7.24): the directory and the queued error log, one block each. */
static void read_log(struct ahci_req *r)
{
	uint8_t *log = r->port->buf;
	bool first = !r->cfis[5] && !r->cfis[9]; /* page number */
	uint8_t sum = 0;

	memset(log, 0, 512);
	if (get_le16(r->cfis + 12) != 1 || !first || (r->cfis[4] != 0x00 && r->cfis[4] != 0x10)) {
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	if (r->cfis[4] == 0x00) {
		put_le16(log, 1); /* version */
		put_le16(log + 2 * 0x10, 1); /* blocks of log 10h */
	} else {
		memcpy(log, r->port->ncq_log, sizeof(r->port->ncq_log));
		for (unsigned int i = 0; i < 511; i++)
			sum = (uint8_t)(sum + log[i]);
		log[511] = (uint8_t)-sum;
	}
	reply(r, log, 512);
}

/* SET FEATURES (s7.45) */
static void set_features(struct ahci_req *r)
{
	switch (r->cfis[3]) {
	case 0x02:
		r->port->write_cache = true;
		break;
	case 0x82:
		/* what was written before must not stay volatile */
		r->port->write_cache = false;
		flush(r);
		return;
	case 0x03: /* transfer mode: any */
	case 0x05: /* APM, and off */
	case 0x85:
	case 0x10: /* SATA features, and off */
	case 0x90:
	case 0x55: /* look ahead off, on */
	case 0xaa:
	case 0x66: /* keep settings over resets, or not */
	case 0xcc:
		break;
	default:
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	ahci_cmd_done(r);
}

static void set_multiple(struct ahci_req *r)
{
	unsigned int n = r->cfis[12];

	if (n > MULTIPLE_MAX || (n & (n - 1))) {
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	r->port->multiple = (uint8_t)n;
	ahci_cmd_done(r);
}

static void standby(struct ahci_req *r, bool down)
{
	r->port->spun_down = down;
	if (down)
		flush(r); /* s7.50: caches are written before */
	else
		ahci_cmd_done(r);
}

static void other_command(struct ahci_req *r)
{
	switch (r->cfis[2]) {
	case CMD_IDENTIFY:
		ahci_identify(r);
		break;
	case CMD_SET_FEATURES:
		set_features(r);
		break;
	case CMD_SET_MULTIPLE:
		set_multiple(r);
		break;
	case CMD_READ_LOG_EXT:
		read_log(r);
		break;
	case CMD_STANDBY:
	case CMD_STANDBY_IMMEDIATE:
	case CMD_SLEEP:
		standby(r, true);
		break;
	case CMD_IDLE:
	case CMD_IDLE_IMMEDIATE:
		standby(r, false);
		break;
	case CMD_CHECK_POWER:
		r->cfis[12] = r->port->spun_down ? 0x00 : 0xff;
		ahci_cmd_done(r);
		break;
	case CMD_DIAGNOSTIC:
	case CMD_INIT_PARAMETERS:
		ahci_cmd_done(r);
		break;
	default:
		ahci_cmd_error(r, ATA_E_ABRT);
		break;
	}
}

void ahci_ata_command(struct ahci_req *r)
{
	const uint8_t *c = r->cfis;

	switch (c[2]) {
	case CMD_NCQ_READ:
	case CMD_NCQ_WRITE:
		transfer(r, c[2] == CMD_NCQ_WRITE ? BLK_WRITE : BLK_READ, extent_ncq(c),
			 c[7] & 0x80);
		break;
	case CMD_READ_DMA:
		transfer(r, BLK_READ, extent28(c), false);
		break;
	case CMD_READ_DMA_EXT:
		transfer(r, BLK_READ, extent48(c), false);
		break;
	case CMD_READ_SECTORS:
	case CMD_READ_MULTIPLE:
		read_pio(r, extent28(c));
		break;
	case CMD_READ_SECTORS_EXT:
	case CMD_READ_MULTIPLE_EXT:
		read_pio(r, extent48(c));
		break;
	case CMD_WRITE_DMA:
	case CMD_WRITE_SECTORS:
	case CMD_WRITE_MULTIPLE:
		transfer(r, BLK_WRITE, extent28(c), false);
		break;
	case CMD_WRITE_DMA_EXT:
	case CMD_WRITE_SECTORS_EXT:
	case CMD_WRITE_MULTIPLE_EXT:
		transfer(r, BLK_WRITE, extent48(c), false);
		break;
	case CMD_WRITE_DMA_FUA_EXT:
	case CMD_WRITE_MULTIPLE_FUA_EXT:
		transfer(r, BLK_WRITE, extent48(c), true);
		break;
	case CMD_VERIFY:
		verify(r, extent28(c));
		break;
	case CMD_VERIFY_EXT:
		verify(r, extent48(c));
		break;
	case CMD_FLUSH:
	case CMD_FLUSH_EXT:
		flush(r);
		break;
	case CMD_DSM:
		trim(r);
		break;
	default:
		other_command(r);
		break;
	}
}
