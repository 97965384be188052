/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "dev/probe.h"

#include <errno.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "util/err.h"

struct probe_conf {
	uint64_t value;
	bool fail;
};

struct probe *probe_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct probe, fn);
}

static uint64_t reg_get(void *model, unsigned int index)
{
	(void)index;
	return ((struct probe *)model)->reg;
}

static void reg_set(void *model, unsigned int index, uint64_t v)
{
	(void)index;
	((struct probe *)model)->reg = (uint32_t)v;
}

static void bell_set(void *model, unsigned int index, uint64_t v)
{
	(void)index;
	(void)v;
	((struct probe *)model)->bell_writes++;
}

static void fire_set(void *model, unsigned int index, uint64_t v)
{
	(void)index;
	pci_msix_fire(model, (unsigned int)v);
}

static void level_set(void *model, unsigned int index, uint64_t v)
{
	(void)index;
	if (v)
		pci_irq_raise(model);
	else
		pci_irq_lower(model);
}

static void dma_set(void *model, unsigned int index, uint64_t v)
{
	struct probe *p = model;

	(void)index;
	(void)dma_write(&p->fn.dma, v, &p->reg, sizeof(p->reg));
}

static const struct reg probe_regs[] = {
	{ .offset = PROBE_REG, .width = 4, .name = "REG", .read = reg_get, .write = reg_set },
	{ .offset = PROBE_FIRE, .width = 4, .name = "FIRE", .write = fire_set },
	{ .offset = PROBE_LEVEL, .width = 4, .name = "LEVEL", .write = level_set },
	{ .offset = PROBE_DMA, .width = 8, .name = "DMA", .write = dma_set },
	{ .offset = PROBE_BELL, .width = 4, .name = "BELL", .write = bell_set },
};
static const struct reg_table probe_table = REG_TABLE(probe_regs, 0);

static uint64_t io_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)d;
	return offset << 4 | size;
}

static void io_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)offset;
	(void)size;
	(void)value;
	probe_of(d)->io_writes++;
}

static void on_config(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	(void)offset;
	(void)size;
	container_of(fn, struct probe, fn)->config_writes++;
}

/* A window that answers with how often it was looked at. */
static void on_reading(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	if (offset <= 0xf0 && 0xf0 < offset + size)
		(*pci_cfg(fn, 0xf0))++;
}

static void on_moved(struct pci_fn *fn, unsigned int bar, uint64_t addr)
{
	struct probe *p = container_of(fn, struct probe, fn);

	p->moves++;
	p->moved_to[bar] = addr;
	if (bar != PROBE_BAR_MEM)
		return;
	bus_slot_del(fn->dev.env.bus, &p->slot);
	p->slot.gpa = addr;
	if (addr != UINT64_MAX)
		(void)bus_slot_add(fn->dev.env.bus, &p->slot);
}

static const uint8_t cap_data[6] = { 1, 2, 3, 4, 5, 6 };
static const uint8_t cap_wmask[6] = { 0, 0, 0xff, 0x0f, 0, 0 };
static const struct pci_cap probe_caps[] = {
	{ .id = 0x09, .len = 6, .data = cap_data, .wmask = cap_wmask },
	{ .id = 0x09, .len = 1, .data = cap_data },
};

static const struct pci_desc probe_desc = {
	.vendor = 0x1234,
	.device = 0x5678,
	.subvendor = 0x9abc,
	.subdevice = 0xdef0,
	.class_code = 0x010802,
	.revision = 7,
	.intx_pin = 1,
	.bars = { [PROBE_BAR_REGS] = { .kind = PCI_BAR_MEM64,
				       .size = 0x4000,
				       .regs = &probe_table },
		  [PROBE_BAR_IO] = { .kind = PCI_BAR_IO,
				     .size = 0x20,
				     .read = io_read,
				     .write = io_write },
		  [PROBE_BAR_MEM] = { .kind = PCI_BAR_MEM32, .prefetch = true, .size = 8192 } },
	.msix = { .vectors = PROBE_VECTORS,
		  .bar = PROBE_BAR_REGS,
		  .table = 4096,
		  .pba = PROBE_PBA },
	.express = true,
	.caps = probe_caps,
	.ncaps = ARRAY_LEN(probe_caps),
	.config_written = on_config,
	.config_reading = on_reading,
	.bar_moved = on_moved,
};

static const struct pci_desc msi_desc = {
	.vendor = 0x1234,
	.device = 0x0001,
	.class_code = 0x010601,
	.intx_pin = 2,
	.msi = true,
};

static void on_kick(struct dev_event *e)
{
	probe_of(e->dev)->kicks++;
}

static int probe_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	const struct probe_conf *c = conf;
	struct probe *p = probe_of(d);
	int ret = pci_fn_init(&p->fn, &probe_desc, err);

	(void)env;
	if (ret < 0)
		return ret;
	if (c->fail)
		return err_set(err, -EIO, "told to fail");
	p->reg = (uint32_t)c->value;
	pci_cfg_reg(&p->fn, 0xe0, 4, 0x00112233, 0x0000ffff, 0xff000000);
	p->slot.host = p->memory;
	p->slot.len = sizeof(p->memory);
	p->slot.log_dirty = true;
	ret = dev_event_init(&p->kick, d, 0, on_kick, err);
	if (ret < 0)
		return ret;
	p->bell = (struct pci_doorbell){ .bell = { .size = 4, .fd = p->kick.fd },
					 .bar = PROBE_BAR_REGS,
					 .offset = PROBE_BELL };
	return pci_doorbell_add(&p->fn, &p->bell);
}

static void probe_reset(struct dev *d)
{
	pci_fn_reset(pci_fn_of(d));
}

static void probe_fini(struct dev *d)
{
	struct probe *p = probe_of(d);

	pci_fn_fini(&p->fn);
	dev_event_fini(&p->kick);
}

static const struct conf_key probe_keys[] = {
	{ .name = "value", .type = CONF_U64, .offset = offsetof(struct probe_conf, value) },
	{ .name = "fail", .type = CONF_BOOL, .offset = offsetof(struct probe_conf, fail) },
	CONF_KEY_END,
};

const struct dev_ops probe_ops = {
	.model = "probe",
	.keys = probe_keys,
	.size = sizeof(struct probe),
	.conf_size = sizeof(struct probe_conf),
	.init = probe_init,
	.reset = probe_reset,
	.fini = probe_fini,
};

static int msi_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	(void)env;
	(void)conf;
	return pci_fn_init(pci_fn_of(d), &msi_desc, err);
}

static void msi_fini(struct dev *d)
{
	pci_fn_fini(pci_fn_of(d));
}

const struct dev_ops probe_msi_ops = {
	.model = "msi",
	.size = sizeof(struct pci_fn),
	.init = msi_init,
	.reset = probe_reset,
	.fini = msi_fini,
};
