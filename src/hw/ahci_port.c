/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "hw/ahci_priv.h"
#include "util/bytes.h"
#include "util/log.h"
#include "util/macros.h"

/* Command header (AHCI 1.3.1 s4.2.2) */
#define HEADER_SIZE 32u
#define HEADER_CFL 0x1fu
#define HEADER_A BIT(5)

/* Command table (s4.2.3) */
#define TABLE_ACMD 0x40u
#define TABLE_PRDT 0x80u
#define PRD_SIZE 16u
#define PRD_BYTES 0x3fffffu /* minus one */

/* Received FIS area (s4.2.1) */
#define FB_PSFIS 0x20u
#define FB_RFIS 0x40u
#define FB_SDBFIS 0x58u

/* FIS types (Serial ATA 3.3 s10.5) */
#define FIS_H2D 0x27u
#define FIS_D2H 0x34u
#define FIS_PIO_SETUP 0x5fu
#define FIS_SDB 0xa1u
#define FIS_I 0x40u /* interrupt */
#define FIS_D 0x20u /* to the host */
#define FIS_C 0x80u /* command, not control */
#define CONTROL_SRST 0x04u

#define ATA_NCQ_READ 0x60u
#define ATA_NCQ_WRITE 0x61u

#define SIG_ATA 0x00000101u
#define SIG_ATAPI 0xeb140101u
#define SSTS_UP 0x133u /* device present, generation 3, active */

/* --- what the port tells the guest --- */

static void raise_is(struct ahci_port *p, uint32_t bits)
{
	p->is |= bits;
	p->hba->event = true;
}

/* s6.2: the port stands still until software clears ST. */
static void port_fatal(struct ahci_port *p, uint32_t bits)
{
	p->halted = true;
	raise_is(p, bits);
}

static void post_fis(struct ahci_port *p, uint32_t at, const void *fis, size_t len)
{
	if (p->fre && dma_write(&p->hba->fn.dma, p->run_fb + at, fis, len) < 0)
		port_fatal(p, AHCI_IS_HBFS);
}

/* Register FIS. cfis: the command it answers. */
static void post_d2h(struct ahci_port *p, const uint8_t *cfis, bool interrupt)
{
	uint8_t fis[20] = { FIS_D2H };

	fis[1] = interrupt ? FIS_I : 0;
	fis[2] = p->status;
	fis[3] = p->error;
	memcpy(fis + 4, cfis + 4, 7); /* LBA and device */
	fis[12] = cfis[12];
	fis[13] = cfis[13];
	post_fis(p, FB_RFIS, fis, sizeof(fis));
	if (interrupt)
		raise_is(p, AHCI_IS_DHRS);
}

/* Linux takes the status of a PIO read from here. */
static void post_pio_setup(struct ahci_port *p, const struct ahci_req *r)
{
	uint8_t fis[20] = { FIS_PIO_SETUP, FIS_I | FIS_D };

	fis[2] = p->status;
	memcpy(fis + 4, r->cfis + 4, 7);
	fis[12] = r->cfis[12];
	fis[13] = r->cfis[13];
	fis[15] = p->status;
	put_le16(fis + 16, (uint16_t)MIN(r->moved, 0xfffe));
	post_fis(p, FB_PSFIS, fis, sizeof(fis));
	raise_is(p, AHCI_IS_PSS);
}

static void post_sdb(struct ahci_port *p, uint32_t tags)
{
	uint8_t fis[8] = { FIS_SDB, FIS_I };

	fis[2] = p->status & 0x77;
	fis[3] = p->error;
	put_le32(fis + 4, tags);
	post_fis(p, FB_SDBFIS, fis, sizeof(fis));
	p->sact &= ~tags;
	raise_is(p, AHCI_IS_SDBS);
}

/* The tags that completed since the last look, in one FIS. */
static void report_tags(struct ahci_port *p)
{
	uint32_t tags = p->done_tags;

	p->done_tags = 0;
	if (tags && !p->halted)
		post_sdb(p, tags);
}

/* The FIS that a drive sends after a reset (s5.2.2.2), without interrupt. */
static void post_signature(struct ahci_port *p)
{
	uint8_t like[20] = { 0 };

	p->sig = p->cd ? SIG_ATAPI : SIG_ATA;
	p->status = p->cd ? 0 : ATA_S_GOOD;
	p->error = 1;
	like[4] = (uint8_t)(p->sig >> 8);
	like[5] = (uint8_t)(p->sig >> 16);
	like[6] = (uint8_t)(p->sig >> 24);
	like[12] = (uint8_t)p->sig;
	post_d2h(p, like, false);
}

/* --- resets --- */

/* Forgets every command. What is at the disk turns stale. */
static void forget(struct ahci_port *p)
{
	p->generation++;
	p->stale = p->in_flight;
	p->ci = p->sact = 0;
	p->queued = p->done_tags = 0;
	p->busy = -1;
	p->halted = false;
	p->ccs = 0;
}

static void drive_reset(struct ahci_port *p)
{
	if (p->cd)
		ahci_atapi_reset(p);
	else
		ahci_ata_reset(p);
}

void ahci_port_start(struct ahci_port *p)
{
	if (p->st)
		return;
	p->st = true;
	p->run_clb = p->clb;
	p->halted = false;
}

void ahci_port_stop(struct ahci_port *p)
{
	if (!p->st)
		return;
	p->st = false;
	forget(p);
}

void ahci_port_fre(struct ahci_port *p, bool on)
{
	if (on && !p->fre)
		p->run_fb = p->fb;
	p->fre = on;
}

void ahci_port_comreset(struct ahci_port *p)
{
	forget(p);
	p->srst = p->link_pending = false;
	p->ssts = 0;
	p->status = 0x7f;
	p->error = 0;
}

void ahci_port_link_up(struct ahci_port *p)
{
	p->link_pending = p->stale != 0;
	if (p->link_pending)
		return;
	drive_reset(p);
	p->ssts = SSTS_UP;
	post_signature(p);
}

void ahci_port_reset(struct ahci_port *p)
{
	ahci_port_comreset(p);
	p->st = p->fre = false;
	p->is = p->ie = p->sctl = p->serr = 0;
	p->sig = UINT32_MAX;
	ahci_port_link_up(p);
}

/* SRST is set by one control FIS and cleared by the next (SATA 3.3 s11.4). */
static void control_fis(struct ahci_port *p, struct ahci_req *r)
{
	bool srst = r->cfis[15] & CONTROL_SRST, ended = p->srst && !srst;
	uint32_t ci = p->ci & ~BIT(r->slot);

	p->srst = srst;
	if (srst) {
		forget(p);
		p->status = ATA_S_BSY;
	}
	p->ci = ci;
	if (ended) { /* fetched only when nothing is stale any more */
		drive_reset(p);
		post_signature(p);
	}
}

/* --- data --- */

struct prd {
	gpa_t addr;
	uint32_t len;
};

static int prd_read(const struct ahci_req *r, struct prd *out)
{
	uint8_t e[PRD_SIZE];

	if (dma_read(&r->port->hba->fn.dma, r->prdt + PRD_SIZE * (uint64_t)r->prd, e, sizeof(e)) <
	    0)
		return -EFAULT;
	out->addr = get_le64(e);
	out->len = (get_le32(e + 12) & PRD_BYTES) + 1;
	return 0;
}

/* Moves the cursor on by n bytes of the current entry. */
static void prd_use(struct ahci_req *r, const struct prd *e, uint32_t n)
{
	r->prd_done += n;
	if (r->prd_done >= e->len) {
		r->prd++;
		r->prd_done = 0;
	}
}

/*
 * Collects pieces of guest memory from the cursor on, at most max bytes. Returns the number of pieces with *total
 * bytes, or -EFAULT. The guest may shorten an entry between two looks: then nothing of it is left.
 */
static int gather(struct ahci_req *r, uint64_t max, uint64_t *total)
{
	int n = 0;

	*total = 0;
	while (n < AHCI_IOV && *total < max && r->prd < r->prdtl) {
		uint32_t part;
		struct prd e;
		int k;

		if (prd_read(r, &e) < 0)
			return -EFAULT;
		if (r->prd_done >= e.len) {
			prd_use(r, &e, 0);
			continue;
		}
		part = (uint32_t)MIN(e.len - r->prd_done, max - *total);
		k = dma_iov(&r->port->hba->fn.dma, e.addr + r->prd_done, part, r->iov + n,
			    AHCI_IOV - n);
		if (k == -E2BIG && n)
			break;
		if (k < 0)
			return -EFAULT;
		n += k;
		*total += part;
		prd_use(r, &e, part);
	}
	return n;
}

int64_t ahci_copy(struct ahci_req *r, bool to_guest, void *buf, size_t len)
{
	uint8_t *at = buf;
	uint64_t total, done = 0;

	while (done < len) {
		int n = gather(r, len - done, &total);

		if (n < 0)
			return n;
		if (!total)
			break;
		for (int i = 0; i < n; i++) {
			if (to_guest)
				memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
			else
				memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
			at += r->iov[i].iov_len;
		}
		done += total;
	}
	r->moved += (uint32_t)done;
	return (int64_t)done;
}

/* Shortens the pieces by cut bytes at the end. */
static int trim(struct iovec *iov, int n, uint64_t cut)
{
	while (cut) {
		uint64_t part = MIN(cut, iov[n - 1].iov_len);

		iov[n - 1].iov_len -= part;
		cut -= part;
		if (!iov[n - 1].iov_len)
			n--;
	}
	return n;
}

/* Puts the cursor where it was and moves it on by n bytes. */
static int rewind_to(struct ahci_req *r, uint32_t prd, uint32_t prd_done, uint64_t n)
{
	uint64_t total;

	r->prd = prd;
	r->prd_done = prd_done;
	while (n && r->prd < r->prdtl) {
		struct prd e;

		if (prd_read(r, &e) < 0)
			return -EFAULT;
		total = e.len > r->prd_done ? MIN(n, e.len - r->prd_done) : 0;
		n -= total;
		prd_use(r, &e, (uint32_t)total);
	}
	return 0;
}

/* Hands the request to the disk at the end of ahci_run. */
static void enqueue(struct ahci_req *r)
{
	struct ahci_port *p = r->port;

	p->batch[p->nbatch++] = &r->req;
	p->in_flight++;
}

/* Submits as much of the transfer as fits into one request. 0, -EFAULT or -EOVERFLOW. */
static int next_part(struct ahci_req *r)
{
	uint32_t prd = r->prd, prd_done = r->prd_done, sector = r->port->info.sector;
	uint64_t total, extra;
	int n = gather(r, r->left, &total);

	if (n < 0)
		return n;
	extra = total % sector;
	if (extra) {
		n = trim(r->iov, n, extra);
		total -= extra;
		if (rewind_to(r, prd, prd_done, total) < 0)
			return -EFAULT;
	}
	if (!total)
		return -EOVERFLOW;
	r->req.offset = r->offset;
	r->req.len = total;
	r->req.iov = r->iov;
	r->req.iovcnt = (unsigned int)n;
	r->offset += total;
	r->left -= total;
	enqueue(r);
	return 0;
}

void ahci_transfer(struct ahci_req *r, enum blk_op op, unsigned int flags, uint64_t offset,
		   uint64_t len)
{
	int res;

	r->req.op = op;
	r->req.flags = flags;
	r->offset = offset;
	r->left = len;
	res = len ? next_part(r) : 0;
	if (res < 0 || !len)
		r->done(r, res);
}

void ahci_request(struct ahci_req *r, enum blk_op op, uint64_t offset, uint64_t len)
{
	r->req.op = op;
	r->req.flags = 0;
	r->req.offset = offset;
	r->req.len = len;
	r->req.iov = NULL;
	r->req.iovcnt = 0;
	r->left = 0;
	enqueue(r);
}

void ahci_blk_done(struct blk_req *req, int res)
{
	struct ahci_req *r = container_of(req, struct ahci_req, req);
	struct ahci_port *p = r->port;

	p->in_flight--;
	if (r->generation != p->generation) {
		if (--p->stale == 0 && p->link_pending)
			ahci_port_link_up(p);
		return;
	}
	if (p->halted)
		return; /* an error of another tag ended this one too */
	if (res == 0 && (req->op == BLK_READ || req->op == BLK_WRITE)) {
		r->moved += (uint32_t)req->len;
		if (r->left) {
			res = next_part(r);
			if (res == 0)
				return;
		}
	}
	r->done(r, res);
}

/* --- the end of a command --- */

static void end_unqueued(struct ahci_req *r, bool failed)
{
	struct ahci_port *p = r->port;
	uint8_t count[4];

	put_le32(count, r->moved);
	(void)dma_write(&p->hba->fn.dma, p->run_clb + HEADER_SIZE * r->slot + 4, count,
			sizeof(count));
	p->busy = -1;
	if (!failed)
		p->ci &= ~BIT(r->slot); /* s5.3.8: a failed command keeps its bit */
	if (r->pio_in && !failed)
		post_pio_setup(p, r);
	post_d2h(p, r->cfis, true);
}

void ahci_cmd_done(struct ahci_req *r)
{
	struct ahci_port *p = r->port;

	p->error = 0;
	p->status = ATA_S_GOOD;
	if (r->ncq) {
		p->queued &= ~BIT(r->slot);
		p->done_tags |= BIT(r->slot);
		return;
	}
	end_unqueued(r, false);
}

/* Log page 10h (ACS-3 s9.14). cfis: of the failed command; queued: it was one, with this tag. */
static void ncq_log(struct ahci_port *p, const uint8_t *cfis, bool queued, uint8_t tag)
{
	uint8_t *log = p->ncq_log;

	memset(log, 0, sizeof(p->ncq_log));
	log[0] = queued ? tag : 0x80;
	log[2] = p->status;
	log[3] = p->error;
	memcpy(log + 4, cfis + 4, 7);
	log[12] = cfis[12];
	log[13] = cfis[13];
}

/* A queued command failed, or one that is not queued among them: all of them end (SATA 3.3 s13.6.3). */
static void ncq_error(struct ahci_port *p, const uint8_t *cfis, bool queued, uint8_t tag)
{
	ncq_log(p, cfis, queued, tag);
	post_sdb(p, 0);
	if (queued)
		p->sact |= BIT(tag);
}

void ahci_cmd_error(struct ahci_req *r, uint8_t error)
{
	struct ahci_port *p = r->port;

	report_tags(p); /* what completed before the error did complete */
	p->error = error;
	p->status = ATA_S_GOOD | ATA_S_ERR;
	if (r->ncq || p->queued)
		ncq_error(p, r->cfis, r->ncq, r->slot);
	else
		end_unqueued(r, true);
	port_fatal(p, AHCI_IS_TFES);
}

void ahci_cmd_fatal(struct ahci_req *r, uint32_t is)
{
	if (is == AHCI_IS_OFS) {
		raise_is(r->port, is);
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	log_limited(LOG_LEVEL_WARN, r->port->hba->fn.dev.env.name,
		    "port %u: PRDT of slot %u is not in memory", r->port->index, r->slot);
	r->port->status |= ATA_S_ERR;
	port_fatal(r->port, is);
}

/* --- the start of a command --- */

static bool is_ncq(const uint8_t *cfis)
{
	return cfis[2] == ATA_NCQ_READ || cfis[2] == ATA_NCQ_WRITE;
}

/* Copies header and table of a slot. 0, -EFAULT, or -EINVAL when it holds no register FIS. */
static int fetch(struct ahci_port *p, struct ahci_req *r)
{
	uint8_t header[HEADER_SIZE], table[TABLE_ACMD + sizeof(r->acmd)];
	const struct dma *dma = &p->hba->fn.dma;
	uint32_t flags, cfl;
	gpa_t at;

	if (dma_read(dma, p->run_clb + HEADER_SIZE * r->slot, header, sizeof(header)) < 0)
		return -EFAULT;
	at = get_le64(header + 8) & ~0x7full;
	if (dma_read(dma, at, table, sizeof(table)) < 0)
		return -EFAULT;
	flags = get_le32(header);
	cfl = flags & HEADER_CFL;
	memcpy(r->cfis, table, sizeof(r->cfis));
	memcpy(r->acmd, table + TABLE_ACMD, sizeof(r->acmd));
	r->generation = p->generation;
	r->prdt = at + TABLE_PRDT;
	r->prdtl = flags >> 16;
	r->prd = r->prd_done = r->moved = 0;
	r->left = 0;
	r->ncq = r->pio_in = false;
	r->done = NULL;
	/* s4.2.2: 2 to 16 dwords */
	return cfl < 2 || cfl > 16 || r->cfis[0] != FIS_H2D ? -EINVAL : 0;
}

/* Queued commands: the tag is the slot (s5.6.4.1). */
static void start_ncq(struct ahci_port *p, struct ahci_req *r)
{
	r->ncq = true;
	p->ci &= ~BIT(r->slot);
	p->sact |= BIT(r->slot);
	p->queued |= BIT(r->slot);
	if (p->cd || r->cfis[12] >> 3 != r->slot)
		ahci_cmd_error(r, ATA_E_ABRT);
	else
		ahci_ata_command(r);
}

static void start_slot(struct ahci_port *p, unsigned int slot)
{
	struct ahci_req *r = &p->reqs[slot];
	int res;

	p->ccs = (uint8_t)slot;
	if (p->queued & BIT(slot)) {
		/* the tag is in use and its request at the disk: fail without touching that */
		p->error = ATA_E_ABRT;
		p->status = ATA_S_GOOD | ATA_S_ERR;
		ncq_error(p, r->cfis, true, (uint8_t)slot);
		port_fatal(p, AHCI_IS_TFES);
		return;
	}
	r->port = p;
	r->slot = (uint8_t)slot;
	r->req.done = ahci_blk_done;
	res = fetch(p, r);
	if (res == -EFAULT) {
		log_limited(LOG_LEVEL_WARN, p->hba->fn.dev.env.name,
			    "port %u: command list or table is not in memory", p->index);
		port_fatal(p, AHCI_IS_HBFS);
		return;
	}
	if (res == 0 && !(r->cfis[1] & FIS_C)) {
		control_fis(p, r);
		return;
	}
	if (res == 0 && is_ncq(r->cfis)) {
		start_ncq(p, r);
		return;
	}
	p->busy = (int)slot;
	if (res < 0 || p->queued || p->srst) {
		ahci_cmd_error(r, ATA_E_ABRT);
		return;
	}
	p->status = ATA_S_BSY | ATA_S_DRDY;
	if (p->cd)
		ahci_atapi_command(r);
	else
		ahci_ata_command(r);
}

static bool may_fetch(const struct ahci_port *p)
{
	return p->st && p->ci && p->busy < 0 && !p->halted && !p->stale && p->ssts == SSTS_UP &&
	       p->hba->fn.dma.on && dev_is_running(&p->hba->fn.dev);
}

static void port_run(struct ahci_port *p)
{
	/* each turn clears a bit of CI, makes the port busy or halts it; vCPUs wait for the lock */
	while (may_fetch(p))
		start_slot(p, (unsigned int)__builtin_ctz(p->ci));
	report_tags(p);
	if (p->nbatch) {
		blk_submit(p->disk, p->batch, p->nbatch);
		p->nbatch = 0;
	}
}

void ahci_run(struct ahci *h)
{
	unsigned int in_flight = 0, stale = 0;

	for (unsigned int i = 0; i < h->ports; i++) {
		struct ahci_port *p = &h->port[i];

		if (!p->present)
			continue;
		port_run(p);
		in_flight += p->in_flight;
		stale += p->stale;
	}
	if (!stale)
		h->resetting = false;
	ahci_irq_update(h);
	if (h->fn.dev.state == DEV_PAUSING && !in_flight)
		dev_paused(&h->fn.dev);
}
