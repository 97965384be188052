/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/uart.h"

#include <errno.h>

#include "back/chr.h"
#include "bus/reg.h"
#include "conf/conf.h"
#include "hw/models.h"
#include "util/canary.h"
#include "util/err.h"

/* A PC16550D (National Semiconductor, 1995). Transmission takes no time, so the transmitter is always empty. */
#define FIFO_SIZE 16

#define IER_RDA BIT(0)
#define IER_THRE BIT(1)
#define IER_RLS BIT(2)
#define IER_MSI BIT(3)
#define IER_BITS 0x0fu
#define IIR_NONE 0x01u
#define IIR_MSI 0x00u
#define IIR_THRE 0x02u
#define IIR_RDA 0x04u
#define IIR_RLS 0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFOS 0xc0u
#define FCR_ENABLE BIT(0)
#define FCR_CLEAR_RX BIT(1)
#define LCR_DLAB BIT(7)
#define MCR_DTR BIT(0)
#define MCR_RTS BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3) /* on a PC: gate of the interrupt line */
#define MCR_LOOP BIT(4)
#define MCR_BITS 0x1fu
#define LSR_DR BIT(0)
#define LSR_OE BIT(1)
#define LSR_THRE BIT(5)
#define LSR_TEMT BIT(6)
#define MSR_CTS BIT(4)
#define MSR_DSR BIT(5)
#define MSR_RI BIT(6)
#define MSR_DCD BIT(7)

const struct uart_place uart_places[UART_PORTS] = {
	{ 0x3f8, 4 }, { 0x2f8, 3 }, { 0x3e8, 4 }, { 0x2e8, 3 }
};

struct uart {
	struct dev dev;
	struct dev_region region;
	struct bus_irq irq;
	struct chr *chr;
	uint8_t ier, lcr, mcr, msr_delta, scratch;
	uint16_t divisor;
	bool fifo_on, overrun, thre_pending;
	uint8_t trigger;
	uint8_t fifo[FIFO_SIZE];
	uint8_t head, count;
};

static struct uart *uart_of(struct dev *d)
{
	return container_of(d, struct uart, dev);
}

static unsigned int capacity(const struct uart *u)
{
	return u->fifo_on ? FIFO_SIZE : 1;
}

/* The highest interrupt that is enabled and pending, as IIR shows it (s8.5). */
static uint8_t pending(const struct uart *u)
{
	if ((u->ier & IER_RLS) && u->overrun)
		return IIR_RLS;
	if ((u->ier & IER_RDA) && u->count >= (u->fifo_on ? u->trigger : 1))
		return IIR_RDA;
	if ((u->ier & IER_RDA) && u->count)
		return IIR_TIMEOUT;
	if ((u->ier & IER_THRE) && u->thre_pending)
		return IIR_THRE;
	if ((u->ier & IER_MSI) && u->msr_delta)
		return IIR_MSI;
	return IIR_NONE;
}

static void update_irq(struct uart *u)
{
	bool gate = (u->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;

	bus_irq_set(&u->irq, gate && pending(u) != IIR_NONE);
}

static void receive(struct uart *u, uint8_t byte)
{
	if (u->count >= capacity(u) && !CANARY) {
		u->overrun = true;
		return;
	}
	u->fifo[(u->head + u->count++) % FIFO_SIZE] = byte;
}

static uint64_t data_read(void *model, unsigned int i)
{
	struct uart *u = model;
	uint8_t byte = 0;

	(void)i;
	if (u->lcr & LCR_DLAB)
		return u->divisor & 0xff;
	if (u->count) {
		byte = u->fifo[u->head];
		u->head = (uint8_t)((u->head + 1) % FIFO_SIZE);
		u->count--;
		if (u->chr)
			chr_kick(u->chr);
	}
	update_irq(u);
	return byte;
}

static void data_write(void *model, unsigned int i, uint64_t value)
{
	struct uart *u = model;
	uint8_t byte = (uint8_t)value;

	(void)i;
	if (u->lcr & LCR_DLAB) {
		u->divisor = (uint16_t)((u->divisor & 0xff00) | byte);
		return;
	}
	if (u->mcr & MCR_LOOP)
		receive(u, byte);
	else if (u->chr)
		chr_write(u->chr, &byte, 1);
	u->thre_pending = true;
	/* The line falls and rises: a driver that counts edges sees the transmitter empty again. */
	bus_irq_set(&u->irq, false);
	update_irq(u);
}

static uint64_t ier_read(void *model, unsigned int i)
{
	struct uart *u = model;

	(void)i;
	return u->lcr & LCR_DLAB ? u->divisor >> 8 : u->ier;
}

static void ier_write(void *model, unsigned int i, uint64_t value)
{
	struct uart *u = model;

	(void)i;
	if (u->lcr & LCR_DLAB) {
		u->divisor = (uint16_t)((u->divisor & 0xff) | (value & 0xff) << 8);
		return;
	}
	if (!(u->ier & IER_THRE) && (value & IER_THRE))
		u->thre_pending = true;
	u->ier = value & IER_BITS;
	update_irq(u);
}

static uint64_t iir_read(void *model, unsigned int i)
{
	struct uart *u = model;
	uint8_t iir = pending(u);

	(void)i;
	if (iir == IIR_THRE) {
		u->thre_pending = false;
		update_irq(u);
	}
	return iir | (u->fifo_on ? IIR_FIFOS : 0);
}

static void fcr_write(void *model, unsigned int i, uint64_t value)
{
	static const uint8_t triggers[] = { 1, 4, 8, 14 };
	struct uart *u = model;
	bool on = value & FCR_ENABLE;

	(void)i;
	if (on != u->fifo_on || (value & FCR_CLEAR_RX)) {
		u->head = u->count = 0;
		if (u->chr)
			chr_kick(u->chr);
	}
	u->fifo_on = on;
	u->trigger = triggers[(value >> 6) & 3];
	update_irq(u);
}

static uint64_t lcr_read(void *model, unsigned int i)
{
	(void)i;
	return ((struct uart *)model)->lcr;
}

static void lcr_write(void *model, unsigned int i, uint64_t value)
{
	(void)i;
	((struct uart *)model)->lcr = (uint8_t)value;
}

static uint64_t mcr_read(void *model, unsigned int i)
{
	(void)i;
	return ((struct uart *)model)->mcr;
}

/* Modem inputs: a connected line, or in loop-back mode the outputs (s8.6). */
static uint8_t modem_inputs(const struct uart *u)
{
	uint8_t in = 0;

	if (!(u->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	in |= u->mcr & MCR_RTS ? MSR_CTS : 0;
	in |= u->mcr & MCR_DTR ? MSR_DSR : 0;
	in |= u->mcr & MCR_OUT1 ? MSR_RI : 0;
	in |= u->mcr & MCR_OUT2 ? MSR_DCD : 0;
	return in;
}

static void mcr_write(void *model, unsigned int i, uint64_t value)
{
	struct uart *u = model;
	uint8_t before = modem_inputs(u);

	(void)i;
	u->mcr = value & MCR_BITS;
	u->msr_delta |= (uint8_t)((before ^ modem_inputs(u)) >> 4);
	if (u->chr && !(u->mcr & MCR_LOOP))
		chr_kick(u->chr);
	update_irq(u);
}

static uint64_t lsr_read(void *model, unsigned int i)
{
	struct uart *u = model;
	uint8_t lsr = LSR_THRE | LSR_TEMT;

	(void)i;
	lsr |= u->count ? LSR_DR : 0;
	lsr |= u->overrun ? LSR_OE : 0;
	u->overrun = false;
	update_irq(u);
	return lsr;
}

static uint64_t msr_read(void *model, unsigned int i)
{
	struct uart *u = model;
	uint8_t msr = modem_inputs(u) | u->msr_delta;

	(void)i;
	u->msr_delta = 0;
	update_irq(u);
	return msr;
}

static uint64_t scratch_read(void *model, unsigned int i)
{
	(void)i;
	return ((struct uart *)model)->scratch;
}

static void scratch_write(void *model, unsigned int i, uint64_t value)
{
	(void)i;
	((struct uart *)model)->scratch = (uint8_t)value;
}

static const struct reg regs[] = {
	{ .offset = 0, .width = 1, .name = "RBR/THR/DLL", .read = data_read, .write = data_write },
	{ .offset = 1, .width = 1, .name = "IER/DLM", .read = ier_read, .write = ier_write },
	{ .offset = 2, .width = 1, .name = "IIR/FCR", .read = iir_read, .write = fcr_write },
	{ .offset = 3, .width = 1, .name = "LCR", .read = lcr_read, .write = lcr_write },
	{ .offset = 4, .width = 1, .name = "MCR", .read = mcr_read, .write = mcr_write },
	{ .offset = 5, .width = 1, .name = "LSR", .read = lsr_read },
	{ .offset = 6, .width = 1, .name = "MSR", .read = msr_read },
	{ .offset = 7, .width = 1, .name = "SCR", .read = scratch_read, .write = scratch_write },
};
static const struct reg_table table = REG_TABLE(regs, 0xff);

/* --- the outside, on the loop's thread --- */

static size_t input_room(void *arg)
{
	struct uart *u = arg;
	size_t room;

	dev_lock(&u->dev);
	/* In loop-back mode the receiver is cut off from the line (s8.6). */
	room = u->mcr & MCR_LOOP ? 0 : capacity(u) - MIN(u->count, capacity(u));
	dev_unlock(&u->dev);
	return room;
}

static void input(void *arg, const uint8_t *buf, size_t len)
{
	struct uart *u = arg;

	dev_lock(&u->dev);
	for (size_t i = 0; i < len; i++)
		receive(u, buf[i]);
	update_irq(u);
	dev_unlock(&u->dev);
}

static void power_on(struct uart *u)
{
	u->ier = u->mcr = u->msr_delta = u->scratch = 0;
	u->lcr = 0;
	u->divisor = 12; /* 9600 baud */
	u->fifo_on = u->overrun = u->thre_pending = false;
	u->trigger = 1;
	u->head = u->count = 0;
	update_irq(u);
}

static int uart_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	const struct uart_conf *c = conf;
	const struct uart_place *place = &uart_places[c->index];
	struct uart *u = uart_of(d);
	int r;

	bus_irq_init(env->bus, &u->irq, place->irq);
	power_on(u);
	dev_region_init_regs(&u->region, d, UART_SIZE, &table);
	r = bus_map(env->bus, &u->region.region, BUS_PORT, place->port);
	if (r < 0)
		return err_set(err, r, "cannot map port %x", place->port);
	if (!c->path)
		return 0;
	u->chr = env->ops->chr_open(env, c->path, err);
	if (!u->chr)
		return -EINVAL;
	chr_set_input(u->chr, input, input_room, u);
	return 0;
}

static void uart_reset(struct dev *d)
{
	struct uart *u = uart_of(d);

	power_on(u);
	if (u->chr)
		chr_kick(u->chr); /* what waited outside has room now */
}

static void uart_fini(struct dev *d)
{
	struct uart *u = uart_of(d);

	if (u->region.region.mapped)
		bus_unmap(d->env.bus, &u->region.region);
	chr_close(u->chr);
}

static const struct conf_key keys[] = {
	{ .name = "index",
	  .type = CONF_U64,
	  .offset = offsetof(struct uart_conf, index),
	  .max = UART_PORTS - 1,
	  .help = "0 for COM1 to 3 for COM4" },
	{ .name = "path",
	  .type = CONF_STR,
	  .offset = offsetof(struct uart_conf, path),
	  .help = "stdio, pty, unix:PATH, tcp=ADDRESS:PORT, file:PATH, a terminal device, or ring" },
	CONF_KEY_END,
};

const struct dev_ops uart_ops = {
	.model = "uart",
	.help = "serial port, 16550A",
	.keys = keys,
	.size = sizeof(struct uart),
	.conf_size = sizeof(struct uart_conf),
	.init = uart_init,
	.reset = uart_reset,
	.fini = uart_fini,
};
