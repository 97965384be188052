/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "util/err.h"
#include "util/log.h"

static struct nvme *nvme_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct nvme, fn);
}

/* --- enable, disable, shut down (s3.1.5, s3.1.6, s7.6) --- */

static void nvme_fail(struct nvme *n, const char *why)
{
	log_limited(LOG_LEVEL_WARN, n->fn.dev.env.name, "CC.EN: %s: controller fatal status", why);
	n->state = NVME_FAILED;
	n->csts |= NVME_CSTS_CFS;
}

static const char *cc_complaint(uint32_t cc)
{
	if (cc >> NVME_CC_CSS_SHIFT & 7)
		return "CC.CSS is not the NVM command set";
	if (cc >> NVME_CC_MPS_SHIFT & 15)
		return "CC.MPS is not 4 KiB";
	if (cc >> NVME_CC_AMS_SHIFT & 7)
		return "CC.AMS is not round robin";
	if ((cc >> NVME_CC_IOSQES_SHIFT & 15) != NVME_SQES)
		return "CC.IOSQES is not 6";
	if ((cc >> NVME_CC_IOCQES_SHIFT & 15) != NVME_CQES)
		return "CC.IOCQES is not 4";
	return NULL;
}

/* The admin rings are looked up once, here. */
static void nvme_enable(struct nvme *n)
{
	uint32_t sq_size = (n->aqa & 0xfff) + 1, cq_size = (n->aqa >> 16 & 0xfff) + 1;
	const char *complaint = cc_complaint(n->cc);
	void *sq, *cq;

	if (complaint) {
		nvme_fail(n, complaint);
		return;
	}
	if (sq_size < 2 || cq_size < 2) {
		nvme_fail(n, "AQA has a queue of one entry");
		return;
	}
	sq = dma_ring(&n->fn.dma, n->asq, sq_size * sizeof(struct nvme_sqe), NVME_PAGE);
	cq = dma_ring(&n->fn.dma, n->acq, cq_size * sizeof(struct nvme_cqe), NVME_PAGE);
	if (!sq || !cq) {
		nvme_fail(n, "ASQ or ACQ is not an aligned address of memory");
		return;
	}
	nvme_features_reset(n);
	nvme_events_reset(n);
	nvme_cq_open(n, 0, cq, cq_size);
	n->cq[0].vector = 0;
	n->cq[0].irq_on = true;
	nvme_sq_open(n, 0, sq, sq_size, &n->cq[0]);
	n->state = NVME_READY;
	n->csts = NVME_CSTS_RDY;
}

/* Queues, masks and status to power-on state; CC, AQA, ASQ and ACQ stay (s7.3.2). */
static void nvme_disable(struct nvme *n)
{
	nvme_format_drop(n);
	nvme_queues_close(n);
	n->state = NVME_DISABLED;
	n->csts = 0;
	n->intms = 0;
	n->starved = 0;
	n->ready = 0;
}

/* What a reset of the function leaves. */
static void nvme_power_on(struct nvme *n)
{
	nvme_disable(n);
	n->cc = 0;
	n->aqa = 0;
	n->asq = 0;
	n->acq = 0;
	__atomic_store_n(&n->pin, true, __ATOMIC_SEQ_CST);
	nvme_features_reset(n);
	nvme_events_reset(n);
}

/* PCI Express 3.0 s6.6.2: the registers are reset when nothing is in flight any more. */
static void nvme_flr(struct pci_fn *fn)
{
	struct nvme *n = container_of(fn, struct nvme, fn);

	n->in_flr = true;
	n->cc = 0;
	nvme_dbbuf_drop(n);
	n->state = NVME_RESETTING;
	nvme_drained(n);
}

/* Acts on what waits for n->inflight to be 0. While pausing that comes first: the rest is looked at on resume. */
void nvme_drained(struct nvme *n)
{
	if (n->inflight)
		return;
	if (n->state == NVME_RESETTING) {
		nvme_disable(n);
		if (n->cc & NVME_CC_EN)
			nvme_enable(n);
	}
	if (n->in_flr) {
		n->in_flr = false;
		nvme_power_on(n);
		pci_flr_done(&n->fn);
	}
	if (n->pausing) {
		n->pausing = false;
		dev_paused(&n->fn.dev);
		return;
	}
	if (n->state == NVME_SHUTTING && dev_is_running(&n->fn.dev))
		nvme_start_flush(n);
	if (n->state == NVME_SHUT)
		n->csts = (n->csts & ~NVME_CSTS_SHST_MASK) | NVME_CSTS_SHST_DONE;
}

static uint64_t read_cap(void *model, unsigned int index)
{
	const struct nvme *n = model;

	(void)index;
	/* s3.1.1: MQES; CQR; TO 30 s; DSTRD 0; CSS: NVM command set; MPSMIN = MPSMAX = 4 KiB */
	return (n->conf->qsz - 1) | BIT64(16) | 60ull << 24 | BIT64(37);
}

static uint64_t read_vs(void *model, unsigned int index)
{
	(void)model;
	(void)index;
	return NVME_VERSION;
}

static uint64_t read_intms(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->intms;
}

static void write_intms(void *model, unsigned int index, uint64_t value)
{
	struct nvme *n = model;

	(void)index;
	n->intms |= (uint32_t)value;
	nvme_pin_update(n);
}

static void write_intmc(void *model, unsigned int index, uint64_t value)
{
	struct nvme *n = model;

	(void)index;
	n->intms &= ~(uint32_t)value;
	nvme_pin_update(n);
}

static uint64_t read_cc(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->cc;
}

/* s3.1.5 */
static void write_cc(void *model, unsigned int index, uint64_t value)
{
	struct nvme *n = model;
	uint32_t old = n->cc;

	(void)index;
	n->cc = (uint32_t)value;
	if (n->state == NVME_RESETTING)
		return;
	if (old & ~n->cc & NVME_CC_EN) {
		n->state = NVME_RESETTING;
		nvme_dbbuf_drop(n);
		nvme_drained(n);
		return;
	}
	if (~old & n->cc & NVME_CC_EN && n->state == NVME_DISABLED)
		nvme_enable(n);
	if (!(n->cc >> NVME_CC_SHN_SHIFT & 3) || n->csts & NVME_CSTS_SHST_MASK)
		return;
	if (n->state != NVME_READY) {
		n->csts |= NVME_CSTS_SHST_DONE;
		return;
	}
	n->state = NVME_SHUTTING;
	n->csts |= NVME_CSTS_SHST_BUSY;
	/* The flush is started on the loop's thread. */
	dev_post(&n->kick);
}

static uint64_t read_csts(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->csts;
}

static uint64_t read_aqa(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->aqa;
}

static void write_aqa(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct nvme *)model)->aqa = (uint32_t)value;
}

static uint64_t read_asq(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->asq;
}

static void write_asq(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct nvme *)model)->asq = value;
}

static uint64_t read_acq(void *model, unsigned int index)
{
	(void)index;
	return ((struct nvme *)model)->acq;
}

static void write_acq(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct nvme *)model)->acq = value;
}

/* s3.1. NSSR, controller memory buffer and boot partitions are not offered: they read as zero. */
static const struct reg nvme_regs[] = {
	{ .offset = NVME_REG_CAP, .width = 8, .name = "CAP", .read = read_cap },
	{ .offset = NVME_REG_VS, .width = 4, .name = "VS", .read = read_vs },
	{ .offset = NVME_REG_INTMS,
	  .width = 4,
	  .name = "INTMS",
	  .read = read_intms,
	  .write = write_intms },
	{ .offset = NVME_REG_INTMC,
	  .width = 4,
	  .name = "INTMC",
	  .read = read_intms,
	  .write = write_intmc },
	{ .offset = NVME_REG_CC,
	  .width = 4,
	  .name = "CC",
	  .wmask = NVME_CC_WMASK,
	  .read = read_cc,
	  .write = write_cc },
	{ .offset = NVME_REG_CSTS, .width = 4, .name = "CSTS", .read = read_csts },
	{ .offset = NVME_REG_AQA,
	  .width = 4,
	  .name = "AQA",
	  .wmask = 0x0fff0fff,
	  .read = read_aqa,
	  .write = write_aqa },
	{ .offset = NVME_REG_ASQ,
	  .width = 8,
	  .flags = REG_PART,
	  .name = "ASQ",
	  .wmask = ~0xfffull,
	  .read = read_asq,
	  .write = write_asq },
	{ .offset = NVME_REG_ACQ,
	  .width = 8,
	  .flags = REG_PART,
	  .name = "ACQ",
	  .wmask = ~0xfffull,
	  .read = read_acq,
	  .write = write_acq },
};

static const struct reg_table nvme_table = REG_TABLE(nvme_regs, 0);

/* --- PCI --- */

/* The doorbells lie over BAR 0 as a region of their own that takes no lock. */
static void nvme_bar_moved(struct pci_fn *fn, unsigned int bar, uint64_t addr)
{
	struct nvme *n = container_of(fn, struct nvme, fn);

	if (bar != 0)
		return;
	if (n->bells.region.mapped)
		bus_unmap(fn->dev.env.bus, &n->bells.region);
	if (addr != UINT64_MAX &&
	    bus_map(fn->dev.env.bus, &n->bells.region, BUS_MEM, addr + NVME_DOORBELLS) < 0)
		log_limited(LOG_LEVEL_WARN, fn->dev.env.name, "no room for the doorbells");
}

/* MSI-X or bus master may have been switched. What the wire told until now is told again by message. */
static void nvme_config_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	struct nvme *n = container_of(fn, struct nvme, fn);
	bool pin = !pci_msix_enabled(fn);

	(void)offset;
	(void)size;
	if (n->pin && !pin)
		nvme_mark_unread(n);
	__atomic_store_n(&n->pin, pin, __ATOMIC_SEQ_CST);
	nvme_pin_update(n);
	nvme_signal(n);
	if (fn->dma.on && n->state == NVME_READY)
		dev_post(&n->kick);
}

static const struct pci_desc nvme_desc = {
	.vendor = 0xfb5d,
	.device = 0x0a0a,
	.subvendor = 0xfb5d,
	.subdevice = 0x0a0a,
	.class_code = 0x010802,
	.intx_pin = 1,
	.bars = {
		[0] = { .kind = PCI_BAR_MEM64, .size = NVME_BAR_SIZE, .regs = &nvme_table },
		[4] = { .kind = PCI_BAR_MEM32, .size = 0x2000 },
	},
	.msix = { .bar = 4, .table = 0, .pba = 0x1000 },
	.express = true,
	.config_written = nvme_config_written,
	.flr = nvme_flr,
	.bar_moved = nvme_bar_moved,
};

/* --- life cycle --- */

static void nvme_kick(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	if (n->state == NVME_SHUTTING && dev_is_running(d))
		nvme_drained(n);
	nvme_run(d);
	if (n->pin && n->shadows)
		nvme_pin_update(n);
}

void nvme_batch_end(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	nvme_submit(n);
	nvme_signal(n);
	nvme_drained(n);
	n->ready |= n->starved | n->shadowed;
	n->starved = 0;
	if (n->ready)
		nvme_run(d);
}

static int nvme_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct nvme *n = nvme_of(d);
	int res;

	n->conf = conf;
	n->nqueues = (unsigned int)n->conf->maxq + 1;
	n->desc = nvme_desc;
	n->desc.msix.vectors = (uint16_t)n->nqueues;
	n->pin = true;
	n->made_ns = loop_now(env->loop);
	dev_post_init(&n->kick, d, nvme_kick);
	nvme_coalesce_init(n);
	dev_region_init_ops(&n->bells, d, NVME_BAR_SIZE - NVME_DOORBELLS, nvme_bell_read,
			    nvme_bell_write);
	n->bells.lock_free = true;
	n->bells.region.priority = 1;
	res = pci_fn_init(&n->fn, &n->desc, err);
	if (res < 0)
		return res;
	res = nvme_ns_init(n, err);
	if (res < 0)
		return res;
	for (unsigned int i = 0; i < n->nqueues; i++) {
		n->sq[i].cids = calloc(1, 65536 / 8);
		if (!n->sq[i].cids)
			return err_set(err, -ENOMEM, "out of memory");
	}
	if (nvme_io_init(n, (unsigned int)n->conf->ioslots) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	nvme_features_reset(n);
	return 0;
}

static void nvme_fini(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	dev_post_cancel(&n->kick);
	if (n->bells.region.mapped)
		bus_unmap(d->env.bus, &n->bells.region);
	nvme_ns_fini(n);
	nvme_io_fini(n);
	for (unsigned int i = 0; i < n->nqueues; i++)
		free(n->sq[i].cids);
	pci_fn_fini(&n->fn);
}

static void nvme_pause(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	n->pausing = true;
	nvme_drained(n);
}

static void nvme_resume(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	nvme_format_resume(n);
	nvme_drained(n);
	nvme_coalesce_flush(n);
	n->ready |= n->starved;
	n->starved = 0;
	nvme_run(d);
}

static void nvme_reset(struct dev *d)
{
	struct nvme *n = nvme_of(d);

	nvme_power_on(n);
	pci_fn_reset(&n->fn);
	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id)) {
		blk_clear_error(ns->blk);
		ns->unreliable = false;
	}
}

/* s5.2: the guest asks for the list of changed namespaces, and identifies them again. */
static void nvme_grown(struct dev *d, struct blk *disk)
{
	struct nvme *n = nvme_of(d);

	nvme_ns_grown(n, disk);
	nvme_event(n, NVME_EVENT_NS_CHANGED);
	dev_post(&n->kick);
}

static const char *const dsm_choices[] = { "auto", "enable", "disable", NULL };

#define KEY_NUMBER(member, default_, min_, max_, help_)                                          \
	{                                                                                        \
		.name = #member, .type = CONF_U64, .offset = offsetof(struct nvme_conf, member), \
		.def = (default_), .min = (min_), .max = (max_), .help = (help_)                 \
	}

static const struct conf_key nvme_keys[] = {
	BLK_SPEC_KEYS(struct nvme_conf, first.blk),
	BLK_SPEC_KEYS_ARRAY("ns.#.", struct nvme_conf, ns[0].blk, NVME_NS_MAX + 1,
			    sizeof(struct nvme_ns_conf)),
	{ .name = "ns.#.eui64",
	  .type = CONF_U64,
	  .offset = offsetof(struct nvme_conf, ns[0].eui64),
	  .count = NVME_NS_MAX + 1,
	  .stride = sizeof(struct nvme_ns_conf),
	  .help = "that of a further namespace" },
	KEY_NUMBER(maxq, "16", 1, NVME_MAX_QUEUES - 1, "I/O queue pairs"),
	KEY_NUMBER(qsz, "2048", 2, 65536, "entries per queue at most"),
	KEY_NUMBER(ioslots, "256", 1, 4096, "commands in flight at most"),
	KEY_NUMBER(sectsz, NULL, 0, 0, "sector size in bytes: 512, 4096 or 8192"),
	KEY_NUMBER(ram, NULL, 0, 1u << 20, "size in MiB of a disk in memory instead of a path"),
	{ .name = "eui64",
	  .type = CONF_U64,
	  .offset = offsetof(struct nvme_conf, first.eui64),
	  .help = "IEEE extended unique identifier (default: from the path)" },
	KEY_NUMBER(bootindex, NULL, 0, 0, "position in the boot order, from 1"),
	{ .name = "ser",
	  .type = CONF_STR,
	  .offset = offsetof(struct nvme_conf, ser),
	  .help = "serial number, at most 20 characters (default: from the path)" },
	{ .name = "dsm",
	  .type = CONF_ENUM,
	  .offset = offsetof(struct nvme_conf, dsm),
	  .def = "auto",
	  .choices = dsm_choices,
	  .help = "offer Dataset Management (discard) to the guest" },
	CONF_KEY_END,
};

const struct dev_ops nvme_ops = {
	.model = "nvme",
	.help = "NVMe 1.4 controller with one or more disks",
	.keys = nvme_keys,
	.size = sizeof(struct nvme),
	.conf_size = sizeof(struct nvme_conf),
	.init = nvme_init,
	.pause = nvme_pause,
	.resume = nvme_resume,
	.reset = nvme_reset,
	.grown = nvme_grown,
	.fini = nvme_fini,
};
