/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <stdlib.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/ahci_priv.h"
#include "hw/models.h"
#include "util/err.h"
#include "util/macros.h"

/* Registers of AHCI 1.3.1 s3 and life cycle. */

#define ABAR 5
#define PORT_BASE 0x100u
#define PORT_STRIDE 0x80u
#define PORTS_4K 30u /* that fit into a BAR of 4 KiB */

/* s3.1.1: AHCI only, 32 slots, generation 3, CLO, NCQ, 64-bit; NP is added */
#define CAP                                                                                   \
	(BIT(31) | BIT(30) | BIT(24) | 3u << 20 | BIT(18) | (AHCI_SLOTS - 1) << 8 | BIT(14) | \
	 BIT(13))
#define VERSION 0x00010301u
#define GHC_AE BIT(31)
#define GHC_IE BIT(1)
#define GHC_HR BIT(0)

/* PxCMD (s3.3.7) */
#define CMD_ST BIT(0)
#define CMD_SUD BIT(1)
#define CMD_POD BIT(2)
#define CMD_CLO BIT(3)
#define CMD_FRE BIT(4)
#define CMD_CCS_SHIFT 8
#define CMD_FR BIT(14)
#define CMD_CR BIT(15)
#define CMD_ATAPI BIT(24)

#define IE_MASK 0xfdc000ffu
#define IS_W1C 0xfd8000afu /* not PCS and PRCS, which mirror SERR, nor UFS */
#define SERR_MASK 0x07ff0f03u
#define SCTL_MASK 0x00000fffu
#define SSTS_OFFLINE 4u

/* Configuration space of ICH9 (ICH9 datasheet s15.1): MAP and PCS */
#define CFG_MAP 0x90u
#define CFG_PCS 0x92u

static struct ahci *ahci_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct ahci, fn);
}

/* s5.6.2: IS shows the ports with an enabled event; messages are sent again for what is still there after a write. */
void ahci_irq_update(struct ahci *h)
{
	for (unsigned int i = 0; i < h->ports; i++)
		if (h->port[i].is & h->port[i].ie)
			h->is |= BIT(i);
	if (!h->ie || !h->is)
		pci_irq_lower(&h->fn);
	else if (h->event)
		pci_irq_raise(&h->fn);
	h->event = false;
}

static void irq_changed(struct ahci *h)
{
	h->event = true;
	ahci_irq_update(h);
}

/* --- the controller's registers --- */

static uint64_t cap_read(void *m, unsigned int i)
{
	(void)i;
	return CAP | (((struct ahci *)m)->ports - 1);
}

static uint64_t ghc_read(void *m, unsigned int i)
{
	const struct ahci *h = m;

	(void)i;
	return GHC_AE | (h->ie ? GHC_IE : 0) | (h->resetting ? GHC_HR : 0);
}

/* s10.4.3: HR reads as one until the ports stand still. */
static void hba_reset(struct ahci *h)
{
	h->ie = h->event = false;
	h->is = 0;
	h->resetting = false;
	for (unsigned int i = 0; i < h->ports; i++) {
		if (!h->port[i].present)
			continue;
		ahci_port_reset(&h->port[i]);
		h->resetting |= h->port[i].stale != 0;
	}
	ahci_irq_update(h);
}

static void ghc_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci *h = m;

	(void)i;
	if (value & GHC_HR) {
		hba_reset(h);
		return;
	}
	h->ie = value & GHC_IE;
	irq_changed(h);
}

static uint64_t is_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct ahci *)m)->is;
}

static void is_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci *h = m;

	(void)i;
	h->is &= ~(uint32_t)value;
	irq_changed(h);
}

static uint64_t pi_read(void *m, unsigned int i)
{
	(void)i;
	return ((struct ahci *)m)->implemented;
}

static uint64_t vs_read(void *m, unsigned int i)
{
	(void)m;
	(void)i;
	return VERSION;
}

/* --- the ports' registers; those of a port that is not implemented read as zero --- */

static struct ahci_port *port_of(void *m, unsigned int i)
{
	struct ahci_port *p = &((struct ahci *)m)->port[i];

	return p->present ? p : NULL;
}

static uint64_t half_read(const uint64_t *at, bool high)
{
	return high ? *at >> 32 : (uint32_t)*at;
}

static void half_write(uint64_t *at, bool high, uint64_t value)
{
	if (high)
		*at = (uint32_t)*at | value << 32;
	else
		*at = (*at & ~(uint64_t)UINT32_MAX) | value;
}

static uint64_t clb_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? half_read(&p->clb, false) : 0;
}

static void clb_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p)
		half_write(&p->clb, false, value);
}

static uint64_t clbu_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? half_read(&p->clb, true) : 0;
}

static void clbu_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p)
		half_write(&p->clb, true, value);
}

static uint64_t fb_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? half_read(&p->fb, false) : 0;
}

static void fb_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p)
		half_write(&p->fb, false, value);
}

static uint64_t fbu_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? half_read(&p->fb, true) : 0;
}

static void fbu_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p)
		half_write(&p->fb, true, value);
}

static uint64_t pis_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->is : 0;
}

static void pis_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (!p)
		return;
	p->is &= ~(uint32_t)value;
	ahci_irq_update(p->hba);
}

static uint64_t pie_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->ie : 0;
}

static void pie_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (!p)
		return;
	p->ie = (uint32_t)value;
	irq_changed(p->hba);
}

static uint64_t pcmd_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);
	uint32_t v = CMD_SUD | CMD_POD;

	if (!p)
		return 0;
	if (p->st)
		v |= CMD_ST | (uint32_t)p->ccs << CMD_CCS_SHIFT;
	if (p->st || p->in_flight)
		v |= CMD_CR;
	if (p->fre)
		v |= CMD_FRE | CMD_FR;
	return v | (p->cd ? CMD_ATAPI : 0);
}

static void pcmd_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (!p)
		return;
	ahci_port_fre(p, value & CMD_FRE);
	if (value & CMD_CLO)
		p->status &= (uint8_t) ~(ATA_S_BSY | 0x08); /* s3.3.7: BSY and DRQ */
	if (value & CMD_ST)
		ahci_port_start(p);
	else
		ahci_port_stop(p);
}

static uint64_t tfd_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? (uint32_t)p->error << 8 | p->status : 0;
}

static uint64_t sig_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->sig : 0;
}

static uint64_t ssts_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->ssts : 0;
}

static uint64_t sctl_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->sctl : 0;
}

/* s3.3.11: DET 1 resets the link until it is taken back, 4 puts it to sleep. */
static void sctl_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);
	unsigned int before, now = value & 0xf;

	if (!p)
		return;
	before = p->sctl & 0xf;
	p->sctl = (uint32_t)value;
	if (now == before)
		return;
	if (now == 1 || now == SSTS_OFFLINE) {
		ahci_port_comreset(p);
		p->ssts = now == SSTS_OFFLINE ? SSTS_OFFLINE : 0;
	} else if (now == 0 && before == 1) {
		ahci_port_link_up(p);
	}
}

static uint64_t serr_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->serr : 0;
}

static void serr_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p)
		p->serr &= ~(uint32_t)value;
}

static uint64_t sact_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->sact : 0;
}

static void sact_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (p && p->st)
		p->sact |= (uint32_t)value;
}

static uint64_t ci_read(void *m, unsigned int i)
{
	const struct ahci_port *p = port_of(m, i);

	return p ? p->ci : 0;
}

/* Commands are fetched on the loop's thread. */
static void ci_write(void *m, unsigned int i, uint64_t value)
{
	struct ahci_port *p = port_of(m, i);

	if (!p || !p->st)
		return;
	p->ci |= (uint32_t)value;
	dev_post(&p->hba->work);
}

#define PORT_REG(offset_, name_, read_, write_, mask_)                               \
	{                                                                            \
		.offset = PORT_BASE + (offset_), .width = 4, .count = AHCI_PORTS,    \
		.stride = PORT_STRIDE, .name = name_, .wmask = mask_, .read = read_, \
		.write = write_                                                      \
	}

static const struct reg ahci_regs[] = {
	{ .offset = 0x00, .width = 4, .name = "CAP", .read = cap_read },
	{ .offset = 0x04, .width = 4, .name = "GHC", .read = ghc_read, .write = ghc_write },
	{ .offset = 0x08, .width = 4, .name = "IS", .read = is_read, .write = is_write },
	{ .offset = 0x0c, .width = 4, .name = "PI", .read = pi_read },
	{ .offset = 0x10, .width = 4, .name = "VS", .read = vs_read },
	PORT_REG(0x00, "PxCLB", clb_read, clb_write, 0xfffffc00),
	PORT_REG(0x04, "PxCLBU", clbu_read, clbu_write, 0),
	PORT_REG(0x08, "PxFB", fb_read, fb_write, 0xffffff00),
	PORT_REG(0x0c, "PxFBU", fbu_read, fbu_write, 0),
	PORT_REG(0x10, "PxIS", pis_read, pis_write, IS_W1C),
	PORT_REG(0x14, "PxIE", pie_read, pie_write, IE_MASK),
	PORT_REG(0x18, "PxCMD", pcmd_read, pcmd_write, 0),
	PORT_REG(0x20, "PxTFD", tfd_read, NULL, 0),
	PORT_REG(0x24, "PxSIG", sig_read, NULL, 0),
	PORT_REG(0x28, "PxSSTS", ssts_read, NULL, 0),
	PORT_REG(0x2c, "PxSCTL", sctl_read, sctl_write, SCTL_MASK),
	PORT_REG(0x30, "PxSERR", serr_read, serr_write, SERR_MASK),
	PORT_REG(0x34, "PxSACT", sact_read, sact_write, 0),
	PORT_REG(0x38, "PxCI", ci_read, ci_write, 0),
};

static const struct reg_table ahci_table = REG_TABLE(ahci_regs, 0);

static uint64_t abar_read(struct dev *d, uint64_t offset, unsigned int size)
{
	return reg_read(&ahci_table, ahci_of(d), offset, size);
}

static void abar_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	reg_write(&ahci_table, ahci_of(d), offset, size, value);
}

/* --- life cycle --- */

void ahci_work(struct dev *d)
{
	ahci_run(ahci_of(d));
}

static int port_alloc(struct ahci_port *p)
{
	p->buf = calloc(1, AHCI_BUF);
	p->reqs = calloc(AHCI_SLOTS, sizeof(*p->reqs));
	return p->buf && p->reqs ? 0 : -ENOMEM;
}

/* A port with a path has a drive with a medium; a CD drive may be empty. */
static int port_init(struct ahci *h, unsigned int i, const struct ahci_port_conf *c,
		     struct err *err)
{
	struct ahci_port *p = &h->port[i];
	struct blk_spec spec = c->blk;
	int r;

	p->hba = h;
	p->index = i;
	p->conf = c;
	p->cd = c->type == AHCI_CD;
	p->info.sector = p->info.physical_sector = 512;
	if (!c->blk.path && !p->cd)
		return 0;
	r = diskid_make(c->ser, c->blk.path, p->serial, err);
	if (r < 0)
		return err_prefix(err, r, "%s: port %u", h->fn.dev.env.name, i);
	if (port_alloc(p) < 0)
		return err_set(err, -ENOMEM, "%s: out of memory", h->fn.dev.env.name);
	if (c->blk.path) {
		spec.ro |= p->cd;
		p->disk = dev_blk_open(&h->fn.dev, &spec, ahci_work, err);
		if (!p->disk)
			return -EIO;
		p->info = *blk_info_get(p->disk);
	}
	p->present = true;
	h->implemented |= BIT(i);
	h->ports = i + 1;
	return 0;
}

/* Power-on: the tray is closed, the write cache on. */
static void power_on(struct ahci *h)
{
	for (unsigned int i = 0; i < h->ports; i++) {
		struct ahci_port *p = &h->port[i];

		if (!p->present)
			continue;
		p->write_cache = true;
		p->medium = p->cd && p->disk;
		p->clb = p->fb = 0;
		if (p->disk)
			blk_clear_error(p->disk);
	}
	hba_reset(h);
}

static int ahci_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct ahci *h = ahci_of(d);
	const struct ahci_conf *c = conf;
	int r;

	for (unsigned int i = 0; i < AHCI_PORTS; i++) {
		r = port_init(h, i, &c->port[i], err);
		if (r < 0)
			return r;
	}
	if (!h->ports)
		return err_set(err, -EINVAL,
			       "%s: no port has a disk: set port.0.path, or port.0.type=cd for an "
			       "empty drive",
			       env->name);
	h->pci = (struct pci_desc){
		.vendor = 0x8086,
		.device = 0x2922,
		.class_code = 0x010601,
		.revision = 2,
		.intx_pin = 1,
		.bars = { [ABAR] = { .kind = PCI_BAR_MEM32,
				     .size = h->ports > PORTS_4K ? 8192 : 4096,
				     .read = abar_read,
				     .write = abar_write } },
		.msi = true,
	};
	r = pci_fn_init(&h->fn, &h->pci, err);
	if (r < 0)
		return r;
	pci_cfg_reg(&h->fn, CFG_MAP, 2, 0x0040, 0, 0); /* AHCI mode */
	pci_cfg_reg(&h->fn, CFG_PCS, 2, h->implemented & 0x3f, 0x3f, 0);
	dev_post_init(&h->work, d, ahci_work);
	power_on(h);
	return 0;
}

static void ahci_fini(struct dev *d)
{
	struct ahci *h = ahci_of(d);

	pci_fn_fini(&h->fn);
	for (unsigned int i = 0; i < AHCI_PORTS; i++) {
		blk_close(h->port[i].disk);
		free(h->port[i].reqs);
		free(h->port[i].buf);
	}
}

/* Nothing is fetched from now on; what is in progress ends. */
static void ahci_pause(struct dev *d)
{
	ahci_run(ahci_of(d));
}

static void ahci_resume(struct dev *d)
{
	dev_post(&ahci_of(d)->work);
}

/* The guest sees it when it looks: at the next reset of the port, or when told to rescan. */
static void ahci_grown(struct dev *d, struct blk *disk)
{
	struct ahci *h = ahci_of(d);

	for (unsigned int i = 0; i < h->ports; i++)
		if (h->port[i].disk == disk)
			h->port[i].info.size = blk_info_get(disk)->size;
}

static int ahci_tray(struct dev *d, unsigned int drive, enum dev_tray what, const char *path,
		     struct err *err)
{
	struct ahci *h = ahci_of(d);

	for (unsigned int i = 0; i < h->ports; i++)
		if (h->port[i].present && h->port[i].cd && drive-- == 0)
			return ahci_atapi_tray(&h->port[i], what, path, err);
	return -ENOENT;
}

static void ahci_reset(struct dev *d)
{
	struct ahci *h = ahci_of(d);

	power_on(h);
	pci_fn_reset(&h->fn);
}

static const char *const port_types[] = { [AHCI_HD] = "hd", [AHCI_CD] = "cd", NULL };

#define PORT_KEY(name_, type_, member_, ...)                                       \
	{                                                                          \
		.name = "port.#." name_, .type = type_, .count = AHCI_PORTS,       \
		.stride = sizeof(struct ahci_port_conf),                           \
		.offset = offsetof(struct ahci_conf, port[0].member_), __VA_ARGS__ \
	}

static const struct conf_key ahci_keys[] = {
	PORT_KEY("type", CONF_ENUM, type, .choices = port_types,
		 .help = "hd: disk, cd: CD drive, which may lack a path"),
	BLK_SPEC_KEYS_ARRAY("port.#.", struct ahci_conf, port[0].blk, AHCI_PORTS,
			    sizeof(struct ahci_port_conf)),
	PORT_KEY("ser", CONF_STR, ser,
		 .help = "serial number, at most 20 characters; default: made from the path"),
	PORT_KEY("rev", CONF_STR, rev, .help = "firmware revision, at most 8 characters", .max = 8),
	PORT_KEY("model", CONF_STR, model, .help = "model name, at most 40 characters", .max = 40),
	PORT_KEY("nmrr", CONF_U64, nmrr, .max = 0xfffe,
		 .help = "rotation rate in rpm; 0: not told, 1: solid state"),
	PORT_KEY("bootindex", CONF_U64, bootindex, .help = "position in the boot order, from 1"),
	CONF_KEY_END
};

const struct dev_ops ahci_ops = {
	.model = "ahci",
	.help = "SATA controller with disks and CD drives",
	.keys = ahci_keys,
	.size = sizeof(struct ahci),
	.conf_size = sizeof(struct ahci_conf),
	.init = ahci_init,
	.pause = ahci_pause,
	.resume = ahci_resume,
	.reset = ahci_reset,
	.grown = ahci_grown,
	.tray = ahci_tray,
	.fini = ahci_fini,
};
