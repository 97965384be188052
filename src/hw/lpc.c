/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/lpc.h"

#include <string.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "pci/pci.h"
#include "util/bytes.h"
#include "util/canary.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/log.h"

/*
 * The LPC bridge of ICH9 (Intel ICH9 datasheet, s13): ACPI power management block, reset ports, and the registers that
 * firmware programs for interrupt routing, which have no effect as all PCI interrupts are wired to the I/O APIC.
 */
#define PCICMD 0x04u /* s13.1.3: decoding and mastering cannot be switched off */
#define PCICMD_FIXED 0x0007u
#define PCICMD_WRITABLE 0x0140u
#define PMBASE 0x40u /* s13.1.13 */
#define ACPI_CNTL 0x44u
#define ACPI_EN BIT(7)
#define PIRQA_ROUT 0x60u
#define PIRQE_ROUT 0x68u
#define RCBA 0xf0u
#define RCBA_ENABLE BIT(0)
#define RCBA_SIZE 0x4000

#define PM_SIZE 128
#define PM_TIMER_OFFSET 8
#define PM_TIMER_HZ 3579545ull
#define PM_TIMER_MASK 0xffffffull
#define SCI_GSI 9

/* PM1 status, enable and control bits (ACPI 6.4 s4.8.3). */
#define PM1_TMR BIT(0)
#define PM1_GBL BIT(5)
#define PM1_PWRBTN BIT(8)
#define PM1_RTC BIT(10)
#define PM1_WAK BIT(15)
#define PM1_EN_BITS (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC)
#define PM1_CNT_SCI_EN BIT(0)
#define PM1_CNT_SLP_TYP 0x1c00u
#define PM1_CNT_SLP_EN BIT(13)
#define GPE0_BYTES 8

#define RESET_CPU BIT(2) /* port CF9: reset on its rising edge */
#define RESET_TYPE 0x0au
#define PORT92_A20 BIT(1)
#define PORT92_RESET BIT(0)
#define DEBUG_PORT_ID 0xe9

struct lpc {
	struct pci_fn fn;
	struct dev_region pm, pm_timer, rcba, port92, portcf9, post, debug;
	struct bus_irq sci;
	struct dev_timer
		carry; /* next change of the PM timer's top bit, while its interrupt is enabled */
	uint16_t pm1_sts, pm1_en, pm1_cnt;
	uint8_t gpe_sts[GPE0_BYTES], gpe_en[GPE0_BYTES];
	uint8_t a20, rst_cnt;
};

static struct lpc *lpc_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct lpc, fn);
}

static void update_sci(struct lpc *l)
{
	bool level = l->pm1_sts & l->pm1_en;

	for (unsigned int i = 0; i < GPE0_BYTES; i++)
		level = level || (l->gpe_sts[i] & l->gpe_en[i]);
	bus_irq_set(&l->sci, level);
}

static uint64_t pm_ticks(uint64_t ns)
{
	return (uint64_t)((__extension__(unsigned __int128) ns * PM_TIMER_HZ) / NS_PER_SEC);
}

/* The timer's interrupt comes when its top bit changes, every 2.3 seconds; no system leaves it enabled for long. */
static void arm_carry(struct lpc *l)
{
	uint64_t half = (PM_TIMER_MASK + 1) / 2, left;

	if (!(l->pm1_en & PM1_TMR)) {
		dev_timer_cancel(&l->carry);
		return;
	}
	left = half - pm_ticks(clock_mono_ns()) % half;
	dev_timer_set(&l->carry,
		      loop_now(l->fn.dev.env.loop) + left * NS_PER_SEC / PM_TIMER_HZ + 1);
}

static void on_carry(struct dev *d)
{
	struct lpc *l = lpc_of(d);

	l->pm1_sts |= PM1_TMR;
	update_sci(l);
	arm_carry(l);
}

static uint64_t pm1_sts_read(void *model, unsigned int i)
{
	const struct lpc *l = model;

	return (l->pm1_sts >> (8 * i)) & 0xff;
}

static void pm1_sts_write(void *model, unsigned int i, uint64_t value)
{
	struct lpc *l = model;

	l->pm1_sts &= (uint16_t) ~(value << (8 * i));
	if (!CANARY)
		update_sci(l);
}

static uint64_t pm1_en_read(void *model, unsigned int i)
{
	const struct lpc *l = model;

	(void)i;
	return l->pm1_en;
}

static void pm1_en_write(void *model, unsigned int i, uint64_t value)
{
	struct lpc *l = model;

	(void)i;
	l->pm1_en = (uint16_t)value;
	arm_carry(l);
	update_sci(l);
}

static uint64_t pm1_cnt_read(void *model, unsigned int i)
{
	const struct lpc *l = model;

	(void)i;
	return l->pm1_cnt;
}

/* SLP_EN with type 0 is S5, as \_S5 and the firmware say; there are no other sleep states. */
static void pm1_cnt_write(void *model, unsigned int i, uint64_t value)
{
	struct lpc *l = model;

	(void)i;
	l->pm1_cnt = (uint16_t)((value & PM1_CNT_SLP_TYP) | PM1_CNT_SCI_EN);
	if ((value & PM1_CNT_SLP_EN) && !(value & PM1_CNT_SLP_TYP))
		bus_request(l->fn.dev.env.bus, BUS_POWEROFF);
}

static uint64_t gpe_sts_read(void *model, unsigned int i)
{
	const struct lpc *l = model;

	return l->gpe_sts[i];
}

static void gpe_sts_write(void *model, unsigned int i, uint64_t value)
{
	struct lpc *l = model;

	l->gpe_sts[i] &= (uint8_t)~value;
	update_sci(l);
}

static uint64_t gpe_en_read(void *model, unsigned int i)
{
	const struct lpc *l = model;

	return l->gpe_en[i];
}

static void gpe_en_write(void *model, unsigned int i, uint64_t value)
{
	struct lpc *l = model;

	l->gpe_en[i] = (uint8_t)value;
	update_sci(l);
}

/* ICH9 s13.8.3. Status bytes are single registers: a byte write must not clear the other byte. */
static const struct reg pm_regs[] = {
	{ .offset = 0x00,
	  .width = 1,
	  .count = 2,
	  .name = "PM1_STS",
	  .read = pm1_sts_read,
	  .write = pm1_sts_write },
	{ .offset = 0x02,
	  .width = 2,
	  .flags = REG_PART,
	  .name = "PM1_EN",
	  .wmask = PM1_EN_BITS,
	  .read = pm1_en_read,
	  .write = pm1_en_write },
	{ .offset = 0x04,
	  .width = 2,
	  .flags = REG_PART,
	  .name = "PM1_CNT",
	  .wmask = PM1_CNT_SCI_EN | PM1_CNT_SLP_TYP | PM1_CNT_SLP_EN,
	  .read = pm1_cnt_read,
	  .write = pm1_cnt_write },
	{ .offset = 0x20,
	  .width = 1,
	  .count = GPE0_BYTES,
	  .name = "GPE0_STS",
	  .read = gpe_sts_read,
	  .write = gpe_sts_write },
	{ .offset = 0x28,
	  .width = 1,
	  .count = GPE0_BYTES,
	  .name = "GPE0_EN",
	  .read = gpe_en_read,
	  .write = gpe_en_write },
};
static const struct reg_table pm_table = REG_TABLE(pm_regs, 0x00);

/* Read millions of times during a boot, from any vCPU: no lock, no state. */
static uint64_t pm_timer_read(struct dev *d, uint64_t offset, unsigned int size)
{
	uint64_t ticks = pm_ticks(clock_mono_ns()) & PM_TIMER_MASK;

	(void)d;
	(void)size;
	return ticks >> (8 * offset);
}

static void ignore_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)d;
	(void)offset;
	(void)size;
	(void)value;
}

static uint64_t read_zero(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)d;
	(void)offset;
	(void)size;
	return 0;
}

static uint64_t port92_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)offset;
	(void)size;
	return lpc_of(d)->a20;
}

/* A20 is never masked: the bit is only remembered. */
static void port92_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)offset;
	(void)size;
	lpc_of(d)->a20 = value & PORT92_A20;
	if (value & PORT92_RESET)
		bus_request(d->env.bus, BUS_RESET);
}

static uint64_t portcf9_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)offset;
	(void)size;
	return lpc_of(d)->rst_cnt;
}

static void portcf9_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)offset;
	(void)size;
	lpc_of(d)->rst_cnt = value & RESET_TYPE;
	if (value & RESET_CPU)
		bus_request(d->env.bus, BUS_RESET);
}

static void post_write(struct dev *d, uint64_t offset, unsigned int size, uint64_t value)
{
	(void)offset;
	(void)size;
	log_limited(LOG_LEVEL_DEBUG, d->env.name, "POST code %02x", (unsigned int)(value & 0xff));
}

static uint64_t post_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)d;
	(void)offset;
	(void)size;
	return UINT64_MAX;
}

static uint64_t debug_read(struct dev *d, uint64_t offset, unsigned int size)
{
	(void)d;
	(void)offset;
	(void)size;
	return DEBUG_PORT_ID;
}

static void region_move(struct dev_region *r, enum bus_kind kind, bool on, uint64_t base)
{
	struct bus *bus = r->dev->env.bus;

	if (r->region.mapped && (!on || r->region.base != base))
		bus_unmap(bus, &r->region);
	if (on && !r->region.mapped)
		bus_map(bus, &r->region, kind, base);
}

static void remap(struct lpc *l)
{
	struct pci_fn *fn = &l->fn;
	uint32_t pmbase = get_le32(pci_cfg(fn, PMBASE)) & ~0x7fu;
	uint32_t rcba = get_le32(pci_cfg(fn, RCBA));
	bool pm = pci_cfg(fn, ACPI_CNTL)[0] & ACPI_EN;

	region_move(&l->pm, BUS_PORT, pm && pmbase, pmbase);
	region_move(&l->pm_timer, BUS_PORT, pm && pmbase, pmbase + PM_TIMER_OFFSET);
	region_move(&l->rcba, BUS_MEM, rcba & RCBA_ENABLE, rcba & ~(RCBA_SIZE - 1u));
}

static void config_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	(void)offset;
	(void)size;
	remap(container_of(fn, struct lpc, fn));
}

static const struct pci_desc desc = {
	.vendor = 0x8086,
	.device = 0x2918,
	.class_code = 0x060100,
	.revision = 2,
	.config_written = config_written,
};

static void power_on(struct lpc *l)
{
	struct pci_fn *fn = &l->fn;

	/* Firmware looks for serial ports and keyboard only behind a bridge that decodes I/O ports. */
	pci_cfg_reg(fn, PCICMD, 2, PCICMD_FIXED, PCICMD_WRITABLE, 0);
	pci_cfg_reg(fn, PMBASE, 4, 1, 0xff80, 0);
	pci_cfg_reg(fn, ACPI_CNTL, 1, 0, 0x87, 0);
	for (unsigned int i = 0; i < 4; i++) {
		pci_cfg_reg(fn, PIRQA_ROUT + i, 1, 0x80, 0x8f, 0);
		pci_cfg_reg(fn, PIRQE_ROUT + i, 1, 0x80, 0x8f, 0);
	}
	pci_cfg_reg(fn, RCBA, 4, 0, 0xffffc001, 0);
	l->pm1_sts = l->pm1_en = 0;
	l->pm1_cnt = PM1_CNT_SCI_EN;
	l->a20 = PORT92_A20;
	l->rst_cnt = 0;
	memset(l->gpe_sts, 0, sizeof(l->gpe_sts));
	memset(l->gpe_en, 0, sizeof(l->gpe_en));
	arm_carry(l);
	update_sci(l);
	remap(l);
}

static int map_ports(struct lpc *l, struct err *err)
{
	struct {
		struct dev_region *r;
		uint16_t port;
		int priority;
	} ports[] = { { &l->port92, 0x92, 0 },
		      { &l->portcf9, 0xcf9, 1 },
		      { &l->post, 0x80, 0 },
		      { &l->debug, 0x402, 0 } };

	for (size_t i = 0; i < ARRAY_LEN(ports); i++) {
		int r;

		ports[i].r->region.priority = ports[i].priority;
		r = bus_map(l->fn.dev.env.bus, &ports[i].r->region, BUS_PORT, ports[i].port);
		if (r < 0)
			return err_set(err, r, "cannot map port %x", ports[i].port);
	}
	return 0;
}

static int lpc_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct lpc *l = lpc_of(d);
	int r = pci_fn_init(&l->fn, &desc, err);

	(void)conf;
	if (r < 0)
		return r;
	bus_irq_init(env->bus, &l->sci, SCI_GSI);
	dev_timer_init(&l->carry, d, on_carry);
	dev_region_init_regs(&l->pm, d, PM_SIZE, &pm_table);
	dev_region_init_ops(&l->pm_timer, d, 4, pm_timer_read, ignore_write);
	l->pm_timer.lock_free = true;
	l->pm_timer.region.priority = 1;
	dev_region_init_ops(&l->rcba, d, RCBA_SIZE, read_zero, ignore_write);
	dev_region_init_ops(&l->port92, d, 1, port92_read, port92_write);
	dev_region_init_ops(&l->portcf9, d, 1, portcf9_read, portcf9_write);
	dev_region_init_ops(&l->post, d, 1, post_read, post_write);
	dev_region_init_ops(&l->debug, d, 1, debug_read, ignore_write);
	power_on(l);
	return map_ports(l, err);
}

static void lpc_reset(struct dev *d)
{
	pci_fn_reset(pci_fn_of(d));
	power_on(lpc_of(d));
}

static void lpc_fini(struct dev *d)
{
	struct lpc *l = lpc_of(d);
	struct dev_region *all[] = { &l->pm,	  &l->pm_timer, &l->rcba, &l->port92,
				     &l->portcf9, &l->post,	&l->debug };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i]->region.mapped)
			bus_unmap(d->env.bus, &all[i]->region);
	if (l->carry.dev)
		dev_timer_cancel(&l->carry);
	pci_fn_fini(&l->fn);
}

void lpc_power_button(struct dev *d)
{
	struct lpc *l = lpc_of(d);

	dev_lock(d);
	l->pm1_sts |= PM1_PWRBTN;
	update_sci(l);
	dev_unlock(d);
}

static const struct conf_key keys[] = { CONF_KEY_END };

const struct dev_ops lpc_ops = {
	.model = "lpc",
	.help = "ICH9 LPC bridge with power management and reset ports, in slot 31",
	.keys = keys,
	.size = sizeof(struct lpc),
	.init = lpc_init,
	.reset = lpc_reset,
	.fini = lpc_fini,
};
