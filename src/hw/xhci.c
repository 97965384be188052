/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>
#include <string.h>

#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "hw/xhci_priv.h"
#include "util/err.h"
#include "util/log.h"

#define MICROFRAME_NS 125000

static struct xhci *xhci_of(struct dev *d)
{
	return container_of(pci_fn_of(d), struct xhci, fn);
}

void xhci_fail(struct xhci *x, const char *why)
{
	log_limited(LOG_LEVEL_WARN, x->fn.dev.env.name, "host controller error: %s", why);
	x->sts |= XHCI_STS_HCE | XHCI_STS_HCH;
}

/* s4.17.2. A message takes the pending bit with it (s5.5.2.1). */
void xhci_interrupt_update(struct xhci *x)
{
	if (!(x->iman & XHCI_IMAN_IP) || !(x->iman & XHCI_IMAN_IE) || !(x->cmd & XHCI_CMD_INTE)) {
		pci_irq_lower(&x->fn);
		return;
	}
	pci_irq_raise(&x->fn);
	if (!x->fn.messages)
		return;
	x->iman &= ~XHCI_IMAN_IP;
	pci_irq_lower(&x->fn);
}

/* --- ports (s4.19) --- */

void xhci_port_change(struct xhci *x, unsigned int port, uint32_t bits)
{
	struct xhci_port *p = &x->port[port];

	/* s4.19.2: told when the first of them appears. */
	if (!(p->sc & XHCI_PORT_CHANGES))
		p->event = true;
	p->sc |= bits;
	x->sts |= XHCI_STS_PCD;
}

static void port_set_link(struct xhci_port *p, uint32_t state)
{
	p->sc = (p->sc & ~XHCI_PORT_PLS_MASK) | state << XHCI_PORT_PLS_SHIFT;
}

static void ports_reset(struct xhci *x)
{
	for (unsigned int i = 1; i <= XHCI_PORTS; i++) {
		struct xhci_port *p = &x->port[i];

		p->event = false;
		p->sc = XHCI_PORT_PP;
		port_set_link(p, p->usb ? XHCI_PLS_POLLING : XHCI_PLS_RX_DETECT);
		if (!p->usb)
			continue;
		usb_reset(p->usb);
		p->sc |= XHCI_PORT_CCS | XHCI_SPEED_HIGH << XHCI_PORT_SPEED_SHIFT;
		xhci_port_change(x, i, XHCI_PORT_CSC);
	}
}

/* s4.19.1.1.6: what a reset takes milliseconds for is done at once. */
static void port_reset(struct xhci *x, unsigned int port)
{
	struct xhci_port *p = &x->port[port];

	if (!p->usb)
		return;
	usb_reset(p->usb);
	port_set_link(p, XHCI_PLS_U0);
	p->sc |= XHCI_PORT_PED;
	xhci_port_change(x, port, XHCI_PORT_PRC);
}

/* s4.15: U3 is suspended; U0, directly or by way of Resume, ends that. */
static void port_link(struct xhci *x, unsigned int port, uint32_t state)
{
	struct xhci_port *p = &x->port[port];
	bool suspended = (p->sc & XHCI_PORT_PLS_MASK) != XHCI_PLS_U0 << XHCI_PORT_PLS_SHIFT;

	if (!(p->sc & XHCI_PORT_PED) ||
	    (state != XHCI_PLS_U0 && state != XHCI_PLS_U3 && state != XHCI_PLS_RESUME))
		return;
	port_set_link(p, state);
	if (state == XHCI_PLS_U0 && suspended)
		xhci_port_change(x, port, XHCI_PORT_PLC);
}

static uint64_t read_port(void *model, unsigned int index)
{
	/* The other registers of a port have nothing to say. */
	return index % 4 ? 0 : ((struct xhci *)model)->port[index / 4 + 1].sc;
}

static void write_port(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;
	unsigned int port = index / 4 + 1;
	struct xhci_port *p = &x->port[port];
	uint32_t v = (uint32_t)value, keep = XHCI_PORT_PIC_MASK | XHCI_PORT_WAKE;

	if (index % 4)
		return;
	p->sc &= ~(v & XHCI_PORT_CHANGES);
	p->sc = (p->sc & ~keep) | (v & keep);
	if (v & XHCI_PORT_PED && p->sc & XHCI_PORT_PED) {
		p->sc &= ~XHCI_PORT_PED;
		port_set_link(p, XHCI_PLS_POLLING);
	}
	if (v & XHCI_PORT_PR)
		port_reset(x, port);
	else if (v & XHCI_PORT_LWS)
		port_link(x, port, (v & XHCI_PORT_PLS_MASK) >> XHCI_PORT_PLS_SHIFT);
	if (p->event)
		dev_post(&x->kick);
}

static void send_port_events(struct xhci *x)
{
	for (unsigned int i = 1; i <= XHCI_PORTS; i++) {
		if (!x->port[i].event)
			continue;
		if (!xhci_running(x) || !xhci_event_room(x))
			return;
		x->port[i].event = false;
		xhci_event(x, (uint64_t)i << 24, (uint32_t)XHCI_SUCCESS << 24,
			   XHCI_ER_PORT << XHCI_TRB_TYPE_SHIFT);
	}
}

/* --- work, on the loop's thread --- */

static void xhci_run(struct dev *d)
{
	struct xhci *x = xhci_of(d);

	if (!dev_is_running(d) || !x->fn.dma.on || !xhci_running(x))
		return;
	send_port_events(x);
	xhci_commands_run(x);
	for (unsigned int slot = 1; slot <= XHCI_SLOTS; slot++)
		for (unsigned int dci = 1; x->slot[slot].enabled && dci < XHCI_EPS; dci++)
			xhci_ep_run(x, slot, dci);
}

/* A disk's requests have completed. */
static void xhci_batch_end(struct dev *d)
{
	struct xhci *x = xhci_of(d);

	for (unsigned int i = 1; i <= XHCI_PORTS; i++) {
		const struct usb_dev *u = x->port[i].usb;

		if (u && u->ops->busy && u->ops->busy(u))
			return;
	}
	if (x->pausing)
		dev_paused(d);
	x->pausing = false;
}

static struct xhci_ep *find_ep(const struct usb_dev *u, uint8_t address)
{
	struct xhci *x = u->host;

	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		if (x->slot[i].usb == u)
			return &x->slot[i].ep[usb_dci(address)];
	return NULL;
}

static void wakeup(struct usb_dev *u, uint8_t address)
{
	struct xhci_ep *ep = find_ep(u, address);

	if (!ep || ep->state != XHCI_EP_RUNNING)
		return;
	ep->ready = true;
	dev_post(&((struct xhci *)u->host)->kick);
}

static bool listening(const struct usb_dev *u, uint8_t address)
{
	const struct xhci_ep *ep = find_ep(u, address);

	return ep && ep->state == XHCI_EP_RUNNING && xhci_running(u->host);
}

/* --- operational registers (s5.4) --- */

/* All but what PCI keeps: the state after HCRST. */
static void controller_reset(struct xhci *x)
{
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		xhci_slot_disable(&x->slot[i]);
	x->cmd = x->dnctrl = x->config = x->iman = x->erstsz = 0;
	x->sts = XHCI_STS_HCH;
	x->imod = 4000;
	x->dcbaap = x->erstba = x->erdp = 0;
	x->ehb = false;
	x->events.valid = x->saved.valid = false;
	x->commands = (struct xhci_ring){ 0 };
	x->commands_on = x->commands_ready = x->commands_stop = false;
	ports_reset(x);
	xhci_interrupt_update(x);
}

static uint64_t read_cmd(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->cmd;
}

/* s4.23.2: the registers are the guest's to save; the place in the event ring is ours. */
static void save_restore(struct xhci *x, uint32_t v)
{
	if (!(x->sts & XHCI_STS_HCH))
		return;
	if (v & XHCI_CMD_CSS)
		x->saved = x->events;
	if (v & XHCI_CMD_CRS && x->saved.valid)
		x->events = x->saved;
	else if (v & XHCI_CMD_CRS)
		x->sts |= XHCI_STS_SRE;
}

static void write_cmd(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;
	uint32_t v = (uint32_t)value, old = x->cmd;

	(void)index;
	if (v & XHCI_CMD_HCRST) {
		controller_reset(x);
		return;
	}
	x->cmd = v & (XHCI_CMD_RS | XHCI_CMD_INTE | XHCI_CMD_HSEE | XHCI_CMD_EWE);
	save_restore(x, v);
	if (!(x->cmd & XHCI_CMD_RS)) {
		x->sts |= XHCI_STS_HCH;
		x->commands_on = false;
	} else if (!(old & XHCI_CMD_RS) && !(x->sts & XHCI_STS_HCE)) {
		x->sts &= ~XHCI_STS_HCH;
		x->run_ns = loop_now(x->fn.dev.env.loop);
		dev_post(&x->kick);
	}
	xhci_interrupt_update(x);
}

static uint64_t read_sts(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->sts;
}

static void write_sts(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct xhci *)model)->sts &=
		~((uint32_t)value & (XHCI_STS_EINT | XHCI_STS_PCD | XHCI_STS_SRE));
}

static uint64_t read_one(void *model, unsigned int index)
{
	(void)model;
	(void)index;
	return 1; /* PAGESIZE: 4 KiB */
}

static uint64_t read_crcr(void *model, unsigned int index)
{
	const struct xhci *x = model;

	return index == 0 && x->commands_on ? XHCI_CRCR_CRR : 0;
}

/* s5.4.5: while commands run, only stopping them counts. */
static void write_crcr(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;
	uint64_t v = value & UINT32_MAX;

	if (index == 0 && x->commands_on && v & (XHCI_CRCR_CS | XHCI_CRCR_CA)) {
		x->commands_on = false;
		x->commands_stop = x->commands_ready = true;
		dev_post(&x->kick);
	} else if (!x->commands_on && index == 0) {
		x->commands.deq = (x->commands.deq & ~(uint64_t)UINT32_MAX) | (v & ~0x3full);
		x->commands.cycle = v & XHCI_CRCR_RCS;
	} else if (!x->commands_on) {
		x->commands.deq = (x->commands.deq & UINT32_MAX) | v << 32;
	}
}

static uint64_t read_config(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->config;
}

static void write_config(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;

	(void)index;
	if (x->sts & XHCI_STS_HCH)
		x->config = MIN((uint32_t)value, XHCI_SLOTS);
}

static uint64_t read_dnctrl(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->dnctrl;
}

static void write_dnctrl(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct xhci *)model)->dnctrl = (uint32_t)value;
}

/* --- runtime registers (s5.5) --- */

static uint64_t read_mfindex(void *model, unsigned int index)
{
	const struct xhci *x = model;

	(void)index;
	if (x->sts & XHCI_STS_HCH)
		return 0;
	return (loop_now(x->fn.dev.env.loop) - x->run_ns) / MICROFRAME_NS & 0x3fff;
}

static uint64_t read_iman(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->iman;
}

static void write_iman(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;

	(void)index;
	x->iman = (x->iman & ~(uint32_t)value & XHCI_IMAN_IP) | ((uint32_t)value & XHCI_IMAN_IE);
	xhci_interrupt_update(x);
}

static uint64_t read_imod(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->imod;
}

/* Kept only: the guest gets no more interrupts than it says it has handled (EHB). */
static void write_imod(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct xhci *)model)->imod = (uint32_t)value;
}

static uint64_t read_erstsz(void *model, unsigned int index)
{
	(void)index;
	return ((struct xhci *)model)->erstsz;
}

static void write_erstsz(void *model, unsigned int index, uint64_t value)
{
	(void)index;
	((struct xhci *)model)->erstsz = (uint32_t)value;
}

/* Replaces one half of a 64-bit register. */
static uint64_t with_half(uint64_t old, unsigned int index, uint64_t value)
{
	return (old & ~(UINT64_C(0xffffffff) << (32 * index))) | value << (32 * index);
}

static uint64_t read_erstba(void *model, unsigned int index)
{
	return ((struct xhci *)model)->erstba >> (32 * index) & UINT32_MAX;
}

/* While it runs the ring stays where it was (s5.5.2.3.2). */
static void write_erstba(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;

	if (!(x->sts & XHCI_STS_HCH))
		return;
	x->erstba = with_half(x->erstba, index, value) & ~0x3full;
	x->events.valid = false;
}

static uint64_t read_erdp(void *model, unsigned int index)
{
	const struct xhci *x = model;
	uint64_t v = (x->erdp & ~(uint64_t)XHCI_ERDP_EHB) | (x->ehb ? XHCI_ERDP_EHB : 0);

	return v >> (32 * index) & UINT32_MAX;
}

/* s5.5.2.3.3: what has come since is told at once; what waited for room goes on. */
static void write_erdp(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;

	x->erdp = with_half(x->erdp, index, value);
	if (index == 0 && value & XHCI_ERDP_EHB) {
		x->ehb = xhci_running(x) && xhci_events_wait(x);
		if (x->ehb) {
			x->iman |= XHCI_IMAN_IP;
			x->sts |= XHCI_STS_EINT;
			xhci_interrupt_update(x);
		}
	}
	dev_post(&x->kick);
}

static uint64_t read_dcbaap(void *model, unsigned int index)
{
	return ((struct xhci *)model)->dcbaap >> (32 * index) & UINT32_MAX;
}

static void write_dcbaap(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;

	x->dcbaap = with_half(x->dcbaap, index, value) & ~0x3full;
}

/* --- doorbells (s5.6) --- */

static void write_doorbell(void *model, unsigned int index, uint64_t value)
{
	struct xhci *x = model;
	unsigned int target = value & 0xff, stream = (unsigned int)value >> 16;
	struct xhci_ep *ep;

	if (x->sts & (XHCI_STS_HCH | XHCI_STS_HCE))
		return;
	if (index == 0) {
		if (target)
			return;
		x->commands_on = x->commands_ready = true;
		x->commands_budget = XHCI_BUDGET;
		dev_post(&x->kick);
		return;
	}
	if (!target || target >= XHCI_EPS || stream || !x->slot[index].enabled)
		return;
	ep = &x->slot[index].ep[target];
	if (ep->state != XHCI_EP_RUNNING && ep->state != XHCI_EP_STOPPED)
		return;
	if (ep->state == XHCI_EP_STOPPED && x->fn.dma.on) {
		ep->state = XHCI_EP_RUNNING;
		xhci_ctx_write(x, &x->slot[index], target);
	}
	ep->ready = true;
	ep->budget = XHCI_BUDGET;
	dev_post(&x->kick);
}

static uint64_t read_zero(void *model, unsigned int index)
{
	(void)model;
	(void)index;
	return 0;
}

/* --- fixed registers: capabilities (s5.3) and the list of protocols (s7.2) --- */

static uint64_t read_cap(void *model, unsigned int index)
{
	static const uint32_t caps[] = {
		0x0100u << 16 | XHCI_OPER, /* version 1.0 */
		XHCI_PORTS << 24 | 1 << 8 | XHCI_SLOTS, /* one interrupter */
		0, /* one segment of event ring, no scratchpad */
		0,
		(XHCI_EXTCAP / 4) << 16 | 1, /* 64-bit addresses, contexts of 32 bytes */
		XHCI_DOORBELLS,
		XHCI_RUNTIME,
	};

	(void)model;
	return caps[index];
}

static uint64_t read_extcap(void *model, unsigned int index)
{
	static const uint32_t protocols[] = {
		0x02000000u | 4 << 8 | 2, /* USB 2.0, the next one 4 words on */
		0x20425355, /* "USB " */
		XHCI_USB2_PORTS << 8 | 1,
		0,
		0x03000000u | 2, /* USB 3.0 */
		0x20425355,
		XHCI_USB3_PORTS << 8 | (XHCI_USB2_PORTS + 1),
		0,
	};

	(void)model;
	return protocols[index];
}

/* Whole registers only (s5.1). */
#define REG(offset_, name_, count_, read_, write_)                                   \
	{                                                                            \
		.offset = (offset_), .width = 4, .count = (count_), .name = (name_), \
		.read = (read_), .write = (write_)                                   \
	}

static const struct reg xhci_regs[] = {
	REG(XHCI_CAPLENGTH, "CAP", 7, read_cap, NULL),
	REG(XHCI_USBCMD, "USBCMD", 1, read_cmd, write_cmd),
	REG(XHCI_USBSTS, "USBSTS", 1, read_sts, write_sts),
	REG(XHCI_PAGESIZE, "PAGESIZE", 1, read_one, NULL),
	REG(XHCI_DNCTRL, "DNCTRL", 1, read_dnctrl, write_dnctrl),
	REG(XHCI_CRCR, "CRCR", 2, read_crcr, write_crcr),
	REG(XHCI_DCBAAP, "DCBAAP", 2, read_dcbaap, write_dcbaap),
	REG(XHCI_CONFIG, "CONFIG", 1, read_config, write_config),
	REG(XHCI_PORTSC, "PORT", XHCI_PORTS * 4, read_port, write_port),
	REG(XHCI_EXTCAP, "EXTCAP", 8, read_extcap, NULL),
	REG(XHCI_MFINDEX, "MFINDEX", 1, read_mfindex, NULL),
	REG(XHCI_IMAN, "IMAN", 1, read_iman, write_iman),
	REG(XHCI_IMOD, "IMOD", 1, read_imod, write_imod),
	REG(XHCI_ERSTSZ, "ERSTSZ", 1, read_erstsz, write_erstsz),
	REG(XHCI_ERSTBA, "ERSTBA", 2, read_erstba, write_erstba),
	REG(XHCI_ERDP, "ERDP", 2, read_erdp, write_erdp),
	REG(XHCI_DOORBELLS, "DOORBELL", XHCI_SLOTS + 1, read_zero, write_doorbell),
};

static const struct reg_table xhci_table = REG_TABLE(xhci_regs, 0);

/* --- PCI and life cycle --- */

/* Bus master or the way of interrupts may have been switched. */
static void xhci_config_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	struct xhci *x = container_of(fn, struct xhci, fn);

	(void)offset;
	(void)size;
	xhci_interrupt_update(x);
	if (fn->dma.on)
		dev_post(&x->kick);
}

static const struct pci_desc xhci_desc = {
	.vendor = 0x8086,
	.device = 0x1e31,
	.class_code = 0x0c0330,
	.revision = 4,
	.intx_pin = 1,
	.bars = { [0] = { .kind = PCI_BAR_MEM64, .size = XHCI_BAR_SIZE, .regs = &xhci_table } },
	.msix = { .vectors = 1, .bar = 0, .table = XHCI_MSIX, .pba = XHCI_MSIX + 0x800 },
	.express = true,
	.config_written = xhci_config_written,
};

enum { DEVICE_NONE, DEVICE_TABLET, DEVICE_KEYBOARD, DEVICE_DISK };

static int plug(struct xhci *x, unsigned int port, const struct xhci_slot_conf *c, struct err *err)
{
	struct dev *d = &x->fn.dev;
	struct usb_dev *u;

	if (c->device == DEVICE_DISK && !c->blk.path)
		return err_set(err, -EINVAL, "slot.%u: a disk needs a path", port);
	if (c->device != DEVICE_DISK && (c->blk.path || c->ser || c->bootindex))
		return err_set(err, -EINVAL, "slot.%u: path, ser and bootindex are for a disk",
			       port);
	if (c->device == DEVICE_NONE)
		return 0;
	if (c->device == DEVICE_TABLET)
		u = usb_tablet_new(d, err);
	else if (c->device == DEVICE_KEYBOARD)
		u = usb_keyboard_new(d, err);
	else
		u = usb_disk_new(d, &c->blk, c->ser, xhci_batch_end, err);
	if (!u)
		return err_prefix(err, -EIO, "slot.%u", port);
	u->wakeup = wakeup;
	u->listening = listening;
	u->host = x;
	u->port = port;
	x->port[port].usb = u;
	return 0;
}

static int xhci_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct xhci *x = xhci_of(d);
	const struct xhci_conf *c = conf;
	int r;

	(void)env;
	dev_post_init(&x->kick, d, xhci_run);
	r = pci_fn_init(&x->fn, &xhci_desc, err);
	if (r == 0 && (c->slot[0].device || c->slot[0].blk.path))
		r = err_set(err, -EINVAL, "slot.0: slots are numbered from 1 to %u",
			    XHCI_USB2_PORTS);
	for (unsigned int i = 1; r == 0 && i <= XHCI_USB2_PORTS; i++)
		r = plug(x, i, &c->slot[i], err);
	if (r < 0)
		return r;
	pci_cfg_reg(&x->fn, 0x60, 1, 0x30, 0, 0); /* SBRN: USB 3.0 (s5.2.3) */
	pci_cfg_reg(&x->fn, 0x61, 1, 0x20, 0x3f, 0); /* FLADJ */
	controller_reset(x);
	return 0;
}

static void xhci_fini(struct dev *d)
{
	struct xhci *x = xhci_of(d);

	dev_post_cancel(&x->kick);
	for (unsigned int i = 1; i <= XHCI_PORTS; i++)
		if (x->port[i].usb)
			x->port[i].usb->ops->free(x->port[i].usb);
	pci_fn_fini(&x->fn);
}

static void xhci_pause(struct dev *d)
{
	xhci_of(d)->pausing = true;
	xhci_batch_end(d);
}

static void xhci_resume(struct dev *d)
{
	dev_post(&xhci_of(d)->kick);
}

static void xhci_reset(struct dev *d)
{
	struct xhci *x = xhci_of(d);

	controller_reset(x);
	for (unsigned int i = 1; i <= XHCI_PORTS; i++)
		if (x->port[i].usb && x->port[i].usb->ops->power_on)
			x->port[i].usb->ops->power_on(x->port[i].usb);
	pci_fn_reset(&x->fn);
}

static const char *const devices[] = { [DEVICE_NONE] = "none",
				       [DEVICE_TABLET] = "tablet",
				       [DEVICE_KEYBOARD] = "keyboard",
				       [DEVICE_DISK] = "disk",
				       NULL };

#define SLOT_KEY(name_, type_, member_, ...)                                          \
	{                                                                             \
		.name = "slot.#." name_, .type = type_, .count = XHCI_USB2_PORTS + 1, \
		.stride = sizeof(struct xhci_slot_conf),                              \
		.offset = offsetof(struct xhci_conf, slot[0].member_), __VA_ARGS__    \
	}

static const struct conf_key xhci_keys[] = {
	SLOT_KEY("device", CONF_ENUM, device, .choices = devices,
		 .help = "what is plugged into port 1 to 4"),
	BLK_SPEC_KEYS_ARRAY("slot.#.", struct xhci_conf, slot[0].blk, XHCI_USB2_PORTS + 1,
			    sizeof(struct xhci_slot_conf)),
	SLOT_KEY("ser", CONF_STR, ser,
		 .help = "serial number, at most 20 characters; default: made from the path"),
	SLOT_KEY("bootindex", CONF_U64, bootindex, .help = "position in the boot order, from 1"),
	CONF_KEY_END
};

const struct dev_ops xhci_ops = {
	.model = "xhci",
	.help = "USB 3 controller with tablet, keyboard and disks",
	.keys = xhci_keys,
	.size = sizeof(struct xhci),
	.conf_size = sizeof(struct xhci_conf),
	.init = xhci_init,
	.pause = xhci_pause,
	.resume = xhci_resume,
	.reset = xhci_reset,
	.fini = xhci_fini,
};
