/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdlib.h>

#include "back/input.h"
#include "bench/tb_xhci.h"
#include "hw/models.h"
#include "run.h"
#include "util/err.h"

/* The controller itself; X-nn are the rows of bad input that the model was designed against. */
#define PORTSC(port) (XHCI_PORTSC + 16 * ((port)-1))
#define T(type) ((uint32_t)(type) << XHCI_TRB_TYPE_SHIFT)
#define TABLET "slot.1.device=tablet\n"
#define UNMAPPED 0xd0000000u /* neither RAM nor a register */
#define IN 3 /* the interrupt endpoint */

static const struct usb_setup get_device = { 0x80, 6, 0x0100, 0, 64 };
static const struct usb_setup set_config = { 0x00, 9, 1, 0, 0 };

static struct tb_xhci *make_with(const char *conf, const struct tb_opts *opts, bool msix)
{
	struct tb_xhci *x = calloc(1, sizeof(*x));
	struct err err = { 0 };
	struct tb *tb = tb_new(opts);
	struct dev *d = tb_add(tb, &xhci_ops, conf, &err);

	if (!d)
		CHECK_FAIL("tb_add: %s", err.text);
	tb_xhci_init(x, d, msix);
	return x;
}

static struct tb_xhci *make(void)
{
	struct tb_xhci *x = make_with(TABLET, NULL, true);

	tb_xhci_start(x);
	return x;
}

static void done(struct tb_xhci *x)
{
	struct tb *tb = x->tb;

	tb_free(tb);
	free(x);
}

static bool failed(struct tb_xhci *x)
{
	return tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_HCE;
}

/* As a driver that finds its controller dead. */
static void revive(struct tb_xhci *x)
{
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
	CHECK(!failed(x));
	tb_xhci_start(x);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
}

static unsigned int configured(struct tb_xhci *x)
{
	unsigned int slot = tb_xhci_attach(x, 1);

	tb_xhci_configure(x, slot);
	return slot;
}

static void move(struct tb_xhci *x, int px)
{
	input_pointer(tb_input(x->tb), px, 5, 1024, 768, 0);
	tb_run(x->tb);
}

/* --- registers --- */

static void reset_values(void)
{
	struct tb_xhci *x = make_with(TABLET, NULL, false);

	CHECK_EQ(tb_xhci_r(x, XHCI_CAPLENGTH), 0x01000020);
	CHECK_EQ(tb_r8(x->d, 0, 0), XHCI_OPER);
	CHECK_EQ(tb_r16(x->d, 0, 2), 0x0100);
	CHECK_EQ(tb_xhci_r(x, XHCI_HCSPARAMS1), 8u << 24 | 1 << 8 | 8);
	CHECK_EQ(tb_xhci_r(x, XHCI_DBOFF), XHCI_DOORBELLS);
	CHECK_EQ(tb_xhci_r(x, XHCI_RTSOFF), XHCI_RUNTIME);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBCMD), 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_HCH, XHCI_STS_HCH);
	CHECK_EQ(tb_xhci_r(x, XHCI_PAGESIZE), 1);
	CHECK_EQ(tb_xhci_r(x, XHCI_CRCR), 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_MFINDEX), 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_IMOD), 4000);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00020ee1);
	CHECK_EQ(tb_xhci_r(x, PORTSC(2)), 0x000002a0);
	CHECK_EQ(tb_xhci_r(x, PORTSC(8)), 0x000002a0);
	CHECK_EQ(tb_cfg_read(x->d, 0x60, 1), 0x30);
	CHECK_EQ(tb_cfg_read(x->d, 9, 1), 0x30);
	CHECK_EQ(tb_bar_size(x->d, 0), XHCI_BAR_SIZE);
	done(x);
}

/* Both protocols, in a list that ends. */
static void protocols(void)
{
	struct tb_xhci *x = make_with(TABLET, NULL, false);
	unsigned int at = (tb_xhci_r(x, XHCI_HCCPARAMS1) >> 16) * 4;

	CHECK_EQ(tb_xhci_r(x, at), 0x02000402);
	CHECK_EQ(tb_xhci_r(x, at + 4), 0x20425355);
	CHECK_EQ(tb_xhci_r(x, at + 8), 0x0401);
	at += 16;
	CHECK_EQ(tb_xhci_r(x, at), 0x03000002);
	CHECK_EQ(tb_xhci_r(x, at + 8), 0x0405);
	done(x);
}

/* Narrow writes do nothing, reads of any width work, 64-bit registers can be written at once. */
static void odd_widths(void)
{
	struct tb_xhci *x = make_with(TABLET, NULL, false);

	tb_w64(x->d, 0, XHCI_DCBAAP, 0x123456789abcdeffull);
	CHECK_EQ(tb_r64(x->d, 0, XHCI_DCBAAP), 0x123456789abcdec0ull);
	tb_w8(x->d, 0, XHCI_USBCMD, 1);
	tb_w16(x->d, 0, PORTSC(1) + 2, 0xffff);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBCMD), 0);
	CHECK_EQ(tb_r8(x->d, 0, PORTSC(1) + 2), 2);
	tb_xhci_w(x, XHCI_DNCTRL, 0x5);
	CHECK_EQ(tb_r16(x->d, 0, XHCI_DNCTRL), 5);
	tb_xhci_w(x, XHCI_IMOD, 0x77);
	CHECK_EQ(tb_xhci_r(x, XHCI_IMOD), 0x77);
	tb_xhci_w(x, XHCI_ERSTSZ, 3);
	CHECK_EQ(tb_xhci_r(x, XHCI_ERSTSZ), 3);
	tb_w64(x->d, 0, XHCI_ERSTBA, 0x100000040ull);
	CHECK_EQ(tb_r64(x->d, 0, XHCI_ERSTBA), 0x100000040ull);
	tb_w64(x->d, 0, XHCI_ERDP, 0x100000050ull);
	CHECK_EQ(tb_r64(x->d, 0, XHCI_ERDP), 0x100000050ull);
	tb_xhci_w(x, XHCI_CONFIG, 255);
	CHECK_EQ(tb_xhci_r(x, XHCI_CONFIG), XHCI_SLOTS);
	CHECK_EQ(tb_xhci_r(x, XHCI_DOORBELLS), 0);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1) + 4), 0);
	done(x);
}

static void run_and_halt(void)
{
	struct tb_xhci *x = make();

	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_HCH, 0);
	tb_advance(x->tb, 1000000);
	CHECK_EQ(tb_xhci_r(x, XHCI_MFINDEX), 8);
	tb_xhci_w(x, XHCI_USBCMD, 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_HCH, XHCI_STS_HCH);
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	tb_xhci_bell(x, 0, 0);
	while (tb_xhci_next(x))
		CHECK_EQ(XHCI_TRB_TYPE(x->event.control), XHCI_ER_PORT);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS | XHCI_CMD_INTE);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	CHECK(!failed(x));
	done(x);
}

/* --- interrupts --- */

static void message_per_handler(void)
{
	struct tb_xhci *x = make();

	/* the port's event at start */
	CHECK_EQ(tb_irqs(x->d, 0), 1);
	CHECK(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_EINT);
	CHECK(tb_xhci_r(x, XHCI_ERDP) & XHCI_ERDP_EHB);
	CHECK_EQ(tb_xhci_r(x, XHCI_IMAN), XHCI_IMAN_IE);
	/* while the handler is busy, none */
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	tb_xhci_bell(x, 0, 0);
	CHECK_EQ(tb_irqs(x->d, 0), 0);
	/* it takes one and leaves one */
	CHECK(tb_xhci_next(x));
	CHECK_EQ(tb_irqs(x->d, 0), 1);
	CHECK(tb_xhci_next(x));
	CHECK_EQ(tb_irqs(x->d, 0), 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_ERDP) & XHCI_ERDP_EHB, 0);
	tb_xhci_w(x, XHCI_USBSTS, XHCI_STS_EINT | XHCI_STS_PCD);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS), 0);
	done(x);
}

static void wire(void)
{
	struct tb_xhci *x = make_with(TABLET, NULL, false);

	tb_xhci_start(x);
	CHECK(tb_intx(x->d));
	CHECK_EQ(tb_xhci_r(x, XHCI_IMAN), XHCI_IMAN_IE | XHCI_IMAN_IP);
	tb_xhci_w(x, XHCI_IMAN, XHCI_IMAN_IE | XHCI_IMAN_IP);
	CHECK(!tb_intx(x->d));
	CHECK(tb_xhci_next(x));
	tb_xhci_w(x, XHCI_IMAN, 0);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	CHECK(!tb_intx(x->d));
	/* what happened meanwhile is told when interrupts are enabled */
	tb_xhci_w(x, XHCI_IMAN, XHCI_IMAN_IE);
	CHECK(tb_intx(x->d));
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS);
	CHECK(!tb_intx(x->d));
	done(x);
}

/* --- ports --- */

static void port_states(void)
{
	struct tb_xhci *x = make();

	CHECK(tb_xhci_next(x));
	CHECK_EQ(x->event.param, 1u << 24);
	CHECK_EQ(XHCI_TRB_TYPE(x->event.control), XHCI_ER_PORT);
	/* while CSC is set, another change is not told */
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_PR);
	CHECK(!tb_xhci_next(x));
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00220e03);
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_CHANGES);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00000e03);
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_PR);
	CHECK(tb_xhci_next(x));
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_CHANGES);
	/* suspend, resume */
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_LWS | XHCI_PLS_U3 << 5);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00000e63);
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_LWS | XHCI_PLS_RESUME << 5);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00000fe3);
	CHECK(!tb_xhci_next(x));
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_LWS);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00400e03);
	CHECK(tb_xhci_next(x));
	/* a state that software cannot choose */
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_LWS | 9 << 5);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00400e03);
	/* disable */
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_PED);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00400ee1);
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_LWS | XHCI_PLS_U3 << 5);
	CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00400ee1);
	/* wake bits stay; an empty port cannot be reset */
	tb_xhci_w(x, PORTSC(2), XHCI_PORT_PP | XHCI_PORT_PR | XHCI_PORT_WAKE);
	CHECK_EQ(tb_xhci_r(x, PORTSC(2)), 0x0e0002a0);
	done(x);
}

/* --- commands --- */

static void life_of_a_slot(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1), first;

	CHECK_EQ(slot, 1);
	CHECK_EQ(tb_xhci_state(x, slot, 0), XHCI_SLOT_ADDRESSED);
	CHECK_EQ(tb_xhci_state(x, slot, 1), XHCI_EP_RUNNING);
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	tb_xhci_configure(x, slot);
	CHECK_EQ(tb_xhci_state(x, slot, 0), XHCI_SLOT_CONFIGURED);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_RUNNING);
	/* deconfigure */
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_CONFIGURE_ENDPOINT, 0, slot << 24 | XHCI_TRB_DC),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, 0), XHCI_SLOT_ADDRESSED);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_DISABLED);
	tb_xhci_configure(x, slot);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_DEVICE, 0, slot << 24), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, 0), XHCI_SLOT_DEFAULT);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_DISABLED);
	tb_xhci_address_input(x, slot, 1);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, x->input, slot << 24), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_DISABLE_SLOT, 0, slot << 24), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_DISABLE_SLOT, 0, slot << 24), XHCI_SLOT_NOT_ENABLED);
	for (first = 1; first <= XHCI_SLOTS; first++)
		CHECK_EQ(tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0), XHCI_NO_SLOTS);
	done(x);
}

static void evaluate_context(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1);

	tb_xhci_input(x, 1)[1] = 0x1234;
	tb_xhci_input(x, 2)[1] = 512u << 16;
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_EVALUATE_CONTEXT, x->input, slot << 24), XHCI_SUCCESS);
	CHECK_EQ(*(uint32_t *)tb_mem(x->tb, x->ctx[slot] + 4, 4), 1u << 16 | 0x1234);
	CHECK_EQ(*(uint32_t *)tb_mem(x->tb, x->ctx[slot] + 36, 4),
		 512u << 16 | XHCI_EP_CONTROL << 3 | 3 << 1);
	tb_xhci_input(x, 0)[1] = 4;
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_EVALUATE_CONTEXT, x->input, slot << 24),
		 XHCI_PARAMETER_ERROR);
	tb_xhci_input(x, 0)[1] = 1;
	tb_xhci_input(x, 1)[2] = 1u << 22; /* */
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_EVALUATE_CONTEXT, x->input, slot << 24),
		 XHCI_PARAMETER_ERROR);
	done(x);
}

/* Stops with a transfer waiting: it is told once, and goes on after the doorbell. */
static void stop_and_restart(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);
	gpa_t at, buf = tb_alloc(x->tb, 64, 64);

	at = tb_xhci_push(x, slot, IN, buf, 8, T(XHCI_TR_NORMAL) | XHCI_TRB_IOC);
	tb_xhci_bell(x, slot, IN);
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_STOP_ENDPOINT) | slot << 24 | IN << 16);
	tb_xhci_bell(x, 0, 0);
	CHECK_EQ(tb_xhci_code(x), XHCI_STOPPED);
	CHECK_EQ(x->event.param, at);
	CHECK_EQ(x->event.status & 0xffffff, 8);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_STOPPED);
	CHECK_EQ(*(uint64_t *)tb_mem(x->tb, x->ctx[slot] + IN * 32 + 8, 8), at | 1);
	/* events in between are for nobody */
	move(x, 3);
	CHECK_EQ(tb_xhci_code(x), 0);
	tb_xhci_bell(x, slot, IN);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_RUNNING);
	move(x, 4);
	CHECK_EQ(tb_xhci_code(x), XHCI_SHORT_PACKET);
	CHECK_EQ(x->event.param, at);
	CHECK_EQ(x->event.status & 0xffffff, 2);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_STOP_ENDPOINT, 0, slot << 24 | IN << 16), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_STOP_ENDPOINT, 0, slot << 24 | IN << 16),
		 XHCI_CONTEXT_STATE_ERROR);
	/* the ring moves elsewhere */
	at = tb_alloc(x->tb, 4096, 4096);
	x->ring[slot][IN] = (struct tb_xhci_ring){ at, 0, true };
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, at | 1, slot << 24 | IN << 16),
		 XHCI_SUCCESS);
	move(x, 5);
	CHECK_EQ(tb_xhci_transfer(x, slot, IN, buf, 6, NULL), 0);
	move(x, 6);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, at | 1, slot << 24 | IN << 16),
		 XHCI_CONTEXT_STATE_ERROR);
	done(x);
}

static void command_ring_stops(void)
{
	struct tb_xhci *x = make();

	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_r(x, XHCI_CRCR), XHCI_CRCR_CRR);
	/* the pointer cannot be changed while it runs */
	tb_w64(x->d, 0, XHCI_CRCR, UNMAPPED);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	tb_xhci_w(x, XHCI_CRCR, XHCI_CRCR_CA);
	CHECK_EQ(tb_xhci_code(x), XHCI_COMMAND_RING_STOPPED);
	CHECK_EQ(tb_xhci_r(x, XHCI_CRCR), 0);
	/* stopping what has stopped says nothing */
	tb_xhci_w(x, XHCI_CRCR, XHCI_CRCR_CS | x->commands.base | XHCI_CRCR_RCS);
	CHECK_EQ(tb_xhci_code(x), 0);
	memset(tb_mem(x->tb, x->commands.base, 4096), 0, 4096);
	x->commands = (struct tb_xhci_ring){ x->commands.base, 0, true };
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	for (int i = 0; i < 600; i++) /* over the link, twice */
		CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	done(x);
}

/* --- transfers --- */

/* Event Data: bytes of the whole TD, the guest's own number. */
static void event_data(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1);
	uint64_t setup = 0x0012000001000680ull; /* GET_DESCRIPTOR, device, 18 bytes */

	tb_xhci_push(x, slot, 1, setup, 8, T(XHCI_TR_SETUP) | XHCI_TRB_IDT);
	tb_xhci_push(x, slot, 1, x->buf, 10, T(XHCI_TR_DATA) | XHCI_TRB_DIR_IN | XHCI_TRB_CH);
	tb_xhci_push(x, slot, 1, x->buf + 100, 20, T(XHCI_TR_NORMAL) | XHCI_TRB_CH);
	tb_xhci_push(x, slot, 1, 0, 0, T(XHCI_TR_NORMAL) | XHCI_TRB_CH);
	tb_xhci_push(x, slot, 1, 0x1122334455667788ull, 0, T(XHCI_TR_EVENT_DATA) | XHCI_TRB_IOC);
	tb_xhci_push(x, slot, 1, 0, 0, T(XHCI_TR_STATUS) | XHCI_TRB_CH);
	tb_xhci_push(x, slot, 1, 0x99, 0, T(XHCI_TR_EVENT_DATA) | XHCI_TRB_IOC);
	tb_xhci_bell(x, slot, 1);
	CHECK_EQ(tb_xhci_code(x), XHCI_SHORT_PACKET);
	CHECK_EQ(x->event.param, 0x1122334455667788ull);
	CHECK_EQ(x->event.status & 0xffffff, 18);
	CHECK(x->event.control & XHCI_TRB_ED);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	CHECK_EQ(x->event.param, 0x99);
	CHECK_EQ(*(uint8_t *)tb_mem(x->tb, x->buf, 1), 18);
	CHECK_EQ(*(uint16_t *)tb_mem(x->tb, x->buf + 100, 2), 0x0001);
	/* no operation */
	tb_xhci_push(x, slot, 1, 0, 0, T(XHCI_TR_NOOP) | XHCI_TRB_IOC);
	tb_xhci_bell(x, slot, 1);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	done(x);
}

/* A stall halts the endpoint until the guest has seen to it. */
static void stall_and_recover(void)
{
	static const struct usb_setup bad = { 0x80, 6, 0x0900, 0, 64 };
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1);
	struct tb_xhci_ring *r = &x->ring[slot][1];

	CHECK_EQ(tb_xhci_control(x, slot, &bad), -XHCI_STALL);
	CHECK_EQ(tb_xhci_state(x, slot, 1), XHCI_EP_HALTED);
	/* neither the doorbell nor Set TR Dequeue Pointer helps yet */
	tb_xhci_bell(x, slot, 1);
	CHECK_EQ(tb_xhci_code(x), 0);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, r->base, slot << 24 | 1 << 16),
		 XHCI_CONTEXT_STATE_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_ENDPOINT, 0, slot << 24 | 1 << 16), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, 1), XHCI_EP_STOPPED);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_ENDPOINT, 0, slot << 24 | 1 << 16),
		 XHCI_CONTEXT_STATE_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, (r->base + r->next * 16) | 1,
				 slot << 24 | 1 << 16),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	done(x);
}

/* --- bad input --- */

/* */
static void doorbells(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);

	tb_alloc(x->tb, 64, 64);
	for (unsigned int s = 0; s < 256; s++)
		for (unsigned int target = 0; target < 256; target += s <= XHCI_SLOTS ? 1 : 51)
			tb_xhci_w(x, XHCI_DOORBELLS + 4 * s, target | (target & 1) << 16);
	tb_run(x->tb);
	for (unsigned int s = 0; s <= XHCI_SLOTS; s++)
		for (unsigned int target = 0; target < 256; target++)
			tb_xhci_bell(x, s, target);
	CHECK(!failed(x));
	CHECK_EQ(tb_xhci_code(x), 0);
	tb_xhci_w(x, XHCI_DOORBELLS + 4 * slot, IN | 5u << 16); /* no streams */
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	done(x);
}

/* */
static void every_command_every_slot(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);

	for (unsigned int type = 0; type < 64; type++) {
		bool known = type >= XHCI_CR_DISABLE_SLOT && type <= XHCI_CR_RESET_DEVICE;

		if (type == XHCI_TR_LINK || type == XHCI_CR_ENABLE_SLOT || type == XHCI_CR_NOOP)
			continue;
		for (unsigned int s = 0; s < 256; s++) {
			uint32_t want = known && s >= 1 && s <= XHCI_SLOTS ? XHCI_SLOT_NOT_ENABLED
									   : XHCI_TRB_ERROR;

			if (s != slot)
				CHECK_EQ(tb_xhci_command(x, type, x->input, s << 24 | 1 << 16),
					 want);
		}
	}
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	/* endpoints that are not there */
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_STOP_ENDPOINT, 0, slot << 24), XHCI_TRB_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_ENDPOINT, 0, slot << 24 | 9 << 16),
		 XHCI_ENDPOINT_NOT_ENABLED);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, 0, slot << 24 | 31 << 16),
		 XHCI_ENDPOINT_NOT_ENABLED);
	done(x);
}

static void try_events(uint32_t sz, uint64_t base, uint64_t segment, uint32_t size)
{
	struct tb_xhci *x = make();
	uint64_t *erst = tb_mem(x->tb, x->erst, 16);

	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
	erst[0] = segment ? segment : x->events;
	erst[1] = size;
	tb_xhci_w(x, XHCI_ERSTSZ, sz);
	tb_w64(x->d, 0, XHCI_ERSTBA, base ? base : x->erst);
	tb_w64(x->d, 0, XHCI_ERDP, erst[0]);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS);
	tb_run(x->tb);
	CHECK(failed(x));
	CHECK(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_HCH);
	/* and nothing but a reset helps */
	tb_xhci_w(x, XHCI_USBCMD, 0);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS);
	CHECK(failed(x));
	revive(x);
	done(x);
}

/* */
static void event_ring(void)
{
	struct tb_xhci *x;

	try_events(0, 0, 0, 64);
	try_events(0x10000, 0, 0, 64);
	try_events(1, UNMAPPED, 0, 64);
	try_events(1, 0, UNMAPPED, 64);
	try_events(1, 0, TB_RAM - 64, 64);
	try_events(1, 0, 0x2010, 64);
	for (uint32_t size = 0; size < 70000; size = size < 15 ? 15 : size == 15 ? 4097 : 65535) {
		try_events(65535, 0, 0, size);
		if (size == 65535)
			break;
	}
	/* rewritten while it runs: what was checked counts */
	x = make();
	tb_xhci_w(x, XHCI_ERSTSZ, 65535);
	tb_w64(x->d, 0, XHCI_ERSTBA, UNMAPPED);
	memset(tb_mem(x->tb, x->erst, 16), 0xff, 16);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	done(x);
}

/* no room, or a dequeue pointer outside: commands wait, none is lost. */
static void event_ring_full(void)
{
	struct tb_xhci *x = make();
	unsigned int n = 0;

	for (int i = 0; i < 200; i++)
		tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	tb_xhci_bell(x, 0, 0);
	tb_w64(x->d, 0, XHCI_ERDP, UNMAPPED | XHCI_ERDP_EHB);
	tb_run(x->tb);
	tb_w64(x->d, 0, XHCI_ERDP, x->events - 16);
	tb_run(x->tb);
	CHECK(!failed(x));
	tb_w64(x->d, 0, XHCI_ERDP, x->events);
	while (tb_xhci_code(x))
		n++;
	CHECK_EQ(n, 200);
	done(x);
}

/* */
static void broken_rings(void)
{
	struct tb_xhci *x = make();
	struct xhci_trb *trb;

	/* a link to itself */
	tb_xhci_push(x, 0, 0, x->commands.base, 0, T(XHCI_TR_LINK));
	tb_xhci_bell(x, 0, 0);
	CHECK(failed(x));
	revive(x);
	/* a command ring that is not memory, at first or after a link */
	tb_xhci_push(x, 0, 0, UNMAPPED, 0, T(XHCI_TR_LINK));
	tb_xhci_bell(x, 0, 0);
	CHECK(failed(x));
	revive(x);
	/* commands for ever: a link back that does not toggle the cycle */
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	trb = tb_mem(x->tb, x->commands.base, 32);
	trb[0].control = XHCI_TRB_CYCLE | T(XHCI_CR_NOOP);
	trb[2] = (struct xhci_trb){ x->commands.base, 0, XHCI_TRB_CYCLE | T(XHCI_TR_LINK) };
	tb_xhci_bell(x, 0, 0);
	for (int i = 0; i < 5000; i++)
		if (!tb_xhci_next(x))
			break;
	CHECK(!tb_xhci_next(x));
	CHECK(!failed(x));
	revive(x);
	done(x);
}

/* transfers without end are given up until the next doorbell. */
static void endless_transfers(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);
	struct xhci_trb *trb = tb_mem(x->tb, x->ring[slot][IN].base, 64);

	trb[0] = (struct xhci_trb){ 0, 0, 1 | T(XHCI_TR_NORMAL) | XHCI_TRB_CH };
	trb[1] = (struct xhci_trb){ x->ring[slot][IN].base, 0, 1 | T(XHCI_TR_LINK) };
	for (int i = 0; i < 10; i++)
		tb_xhci_bell(x, slot, IN);
	CHECK(!failed(x));
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	trb[0] = (struct xhci_trb){ x->ring[slot][IN].base, 0, 1 | T(XHCI_TR_LINK) };
	tb_xhci_bell(x, slot, IN);
	CHECK(failed(x));
	revive(x);
	done(x);
}

static uint32_t configure(struct tb_xhci *x, unsigned int slot)
{
	return tb_xhci_command(x, XHCI_CR_CONFIGURE_ENDPOINT, x->input, slot << 24);
}

/* */
static void input_contexts(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1);

	for (unsigned int dci = 2; dci < 32; dci++)
		for (unsigned int type = 0; type < 8; type++) {
			tb_xhci_address_input(x, slot, 1);
			tb_xhci_input(x, 0)[1] = 1u << dci | 1;
			tb_xhci_input(x, 1 + dci)[1] = type << 3;
			CHECK_EQ(configure(x, slot), dci == IN && type == XHCI_EP_INTERRUPT_IN
							     ? XHCI_SUCCESS
							     : XHCI_PARAMETER_ERROR);
		}
	/* added again, and dropped and added: it starts afresh */
	tb_xhci_configure(x, slot);
	tb_xhci_configure(x, slot);
	tb_xhci_input(x, 0)[0] = 1u << IN;
	CHECK_EQ(configure(x, slot), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_RUNNING);
	tb_xhci_input(x, 0)[1] = 1;
	CHECK_EQ(configure(x, slot), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, slot, IN), XHCI_EP_DISABLED);
	CHECK_EQ(tb_xhci_state(x, slot, 0), XHCI_SLOT_ADDRESSED);
	/* control endpoint, slot context, entries, streams */
	for (uint32_t bits = 0; bits < 4; bits++) {
		tb_xhci_input(x, 0)[0] = bits;
		tb_xhci_input(x, 0)[1] = bits ? 1 : 3;
		CHECK_EQ(configure(x, slot), XHCI_PARAMETER_ERROR);
	}
	tb_xhci_add_input(x, slot, IN, XHCI_EP_INTERRUPT_IN);
	tb_xhci_input(x, 0)[0] = 0;
	tb_xhci_input(x, 0)[1] = 1u << IN | 1;
	tb_xhci_input(x, 1 + IN)[0] = 1 << 10;
	CHECK_EQ(configure(x, slot), XHCI_PARAMETER_ERROR);
	tb_xhci_input(x, 1 + IN)[0] = 0xff << 16 | 0x300; /* interval, mult: nobody cares */
	tb_xhci_input(x, 1)[0] = 0;
	CHECK_EQ(configure(x, slot), XHCI_PARAMETER_ERROR);
	tb_xhci_input(x, 1)[0] = 3u << 27;
	CHECK_EQ(configure(x, slot), XHCI_SUCCESS);
	done(x);
}

static uint32_t address(struct tb_xhci *x, uint32_t bits)
{
	return tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, x->input, 1u << 24 | bits);
}

/* */
static void addresses(void)
{
	struct tb_xhci *x = make();

	tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0);
	CHECK_EQ(configure(x, 1), XHCI_CONTEXT_STATE_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_DEVICE, 0, 1u << 24), XHCI_CONTEXT_STATE_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_EVALUATE_CONTEXT, x->input, 1u << 24),
		 XHCI_CONTEXT_STATE_ERROR);
	for (unsigned int port = 0; port < 256; port++) {
		tb_xhci_address_input(x, 1, port);
		CHECK_EQ(address(x, 0), port == 1 ? XHCI_TRANSACTION_ERROR : XHCI_TRB_ERROR);
	}
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_PR);
	tb_xhci_address_input(x, 1, 1);
	tb_xhci_input(x, 1)[0] |= 0x10; /* route */
	CHECK_EQ(address(x, 0), XHCI_TRB_ERROR);
	tb_xhci_address_input(x, 1, 1);
	tb_xhci_input(x, 1)[2] = 1u << 22; /* */
	CHECK_EQ(address(x, 0), XHCI_TRB_ERROR);
	tb_xhci_address_input(x, 1, 1);
	tb_xhci_input(x, 2)[1] = XHCI_EP_BULK_IN << 3;
	CHECK_EQ(address(x, 0), XHCI_TRB_ERROR);
	tb_xhci_address_input(x, 1, 1);
	CHECK_EQ(address(x, XHCI_TRB_BSR), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_state(x, 1, 0), XHCI_SLOT_DEFAULT);
	CHECK_EQ(address(x, XHCI_TRB_BSR), XHCI_CONTEXT_STATE_ERROR);
	tb_xhci_address_input(x, 1, 1);
	CHECK_EQ(address(x, 0), XHCI_SUCCESS);
	CHECK_EQ(address(x, 0), XHCI_CONTEXT_STATE_ERROR);
	/* one device, two slots */
	tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0);
	tb_xhci_address_input(x, 2, 1);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, x->input, 2u << 24), XHCI_TRB_ERROR);
	done(x);
}

/* The endpoint's state after these three stages (a control of 0: none). */
static unsigned int stages(const struct xhci_trb *trbs, size_t n)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1), state;

	for (size_t i = 0; i < n; i++)
		tb_xhci_push(x, slot, 1, trbs[i].param == 1 ? x->buf : trbs[i].param,
			     trbs[i].status, trbs[i].control);
	tb_xhci_bell(x, slot, 1);
	CHECK(!failed(x));
	while (tb_xhci_code(x))
		;
	state = tb_xhci_state(x, slot, 1);
	done(x);
	return state;
}

#define SETUP(param)                                        \
	{                                                   \
		(param), 8, T(XHCI_TR_SETUP) | XHCI_TRB_IDT \
	}
#define GET(len) SETUP(0x0000000001000680ull | (uint64_t)(len) << 48)
#define DATA_IN(len)                                                       \
	{                                                                  \
		1, (len), T(XHCI_TR_DATA) | XHCI_TRB_DIR_IN | XHCI_TRB_ISP \
	}
#define DATA_OUT(len)                     \
	{                                 \
		1, (len), T(XHCI_TR_DATA) \
	}
#define STATUS                                         \
	{                                              \
		0, 0, T(XHCI_TR_STATUS) | XHCI_TRB_IOC \
	}
#define STAGES(...)                                      \
	stages((const struct xhci_trb[]){ __VA_ARGS__ }, \
	       sizeof((const struct xhci_trb[]){ __VA_ARGS__ }) / sizeof(struct xhci_trb))

/* */
static void control_stages(void)
{
	CHECK_EQ(STAGES(GET(18), DATA_IN(18), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(18), GET(18), DATA_IN(18), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(18), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(65535), DATA_IN(65535), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(18), DATA_IN(0), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(18), DATA_IN(0x1ffff), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(0), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(GET(18), DATA_IN(64), DATA_IN(64), STATUS), XHCI_EP_RUNNING);
	CHECK_EQ(STAGES(DATA_IN(18)), XHCI_EP_HALTED);
	CHECK_EQ(STAGES(STATUS), XHCI_EP_HALTED);
	CHECK_EQ(STAGES(GET(18), DATA_IN(18), STATUS, STATUS), XHCI_EP_HALTED);
	CHECK_EQ(STAGES(GET(18), DATA_OUT(18)), XHCI_EP_HALTED);
	CHECK_EQ(STAGES({ 1, 8, T(XHCI_TR_NORMAL) }), XHCI_EP_HALTED);
	/* data longer than wLength, and shorter, and more than any request takes */
	CHECK_EQ(STAGES(SETUP(0x0004000000000921ull), DATA_OUT(8), STATUS), XHCI_EP_HALTED);
	CHECK_EQ(STAGES(SETUP(0x0004000000000921ull), DATA_OUT(2), STATUS), XHCI_EP_HALTED);
	CHECK_EQ(STAGES(SETUP(0xffff000000000921ull), DATA_OUT(65535), STATUS), XHCI_EP_HALTED);
	/* immediate data: 8 bytes at most, and only to the device */
	CHECK_EQ(STAGES({ 0x01000680, 9, T(XHCI_TR_SETUP) | XHCI_TRB_IDT }), XHCI_EP_ERROR);
	CHECK_EQ(STAGES({ 1, 8, T(XHCI_TR_SETUP) }), XHCI_EP_ERROR);
	CHECK_EQ(STAGES(GET(18), { 1, 8, T(XHCI_TR_DATA) | XHCI_TRB_DIR_IN | XHCI_TRB_IDT }),
		 XHCI_EP_ERROR);
	CHECK_EQ(STAGES(SETUP(0x0009000000000921ull), { 1, 9, T(XHCI_TR_DATA) | XHCI_TRB_IDT }),
		 XHCI_EP_ERROR);
	/* no memory there; X-11: no such interrupter; isochronous */
	CHECK_EQ(STAGES(GET(18), { UNMAPPED, 18, T(XHCI_TR_DATA) | XHCI_TRB_DIR_IN }),
		 XHCI_EP_ERROR);
	CHECK_EQ(STAGES(GET(18), { 1, 1u << 22 | 18, T(XHCI_TR_DATA) | XHCI_TRB_DIR_IN }),
		 XHCI_EP_ERROR);
	CHECK_EQ(STAGES({ 1, 8, T(XHCI_TR_ISOCH) }), XHCI_EP_ERROR);
}

/* An endpoint in error: Set TR Dequeue Pointer is the way out (s4.6.10). */
static void error_and_recover(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = tb_xhci_attach(x, 1);
	struct tb_xhci_ring *r = &x->ring[slot][1];

	tb_xhci_push(x, slot, 1, 0, 0, T(XHCI_TR_ISOCH));
	tb_xhci_bell(x, slot, 1);
	CHECK_EQ(tb_xhci_code(x), XHCI_TRB_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_RESET_ENDPOINT, 0, slot << 24 | 1 << 16),
		 XHCI_CONTEXT_STATE_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_SET_DEQUEUE, (r->base + r->next * 16) | 1,
				 slot << 24 | 1 << 16),
		 XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_control(x, slot, &get_device), 18);
	done(x);
}

/* */
static void context_addresses(void)
{
	static const uint64_t bad[] = { UNMAPPED, 0x2010, TB_MMIO, UINT64_MAX & ~63ull };
	struct tb_xhci *x = make();
	uint64_t *dcbaa = tb_mem(x->tb, x->dcbaa, 16);

	tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0);
	tb_xhci_w(x, PORTSC(1), XHCI_PORT_PP | XHCI_PORT_PR);
	tb_xhci_address_input(x, 1, 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		dcbaa[1] = bad[i];
		CHECK_EQ(address(x, 0), XHCI_PARAMETER_ERROR);
	}
	dcbaa[1] = TB_RAM - XHCI_DEVICE_CTX_SIZE + 64;
	CHECK_EQ(address(x, 0), XHCI_PARAMETER_ERROR);
	dcbaa[1] = x->ctx[1];
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, UNMAPPED, 1u << 24),
		 XHCI_PARAMETER_ERROR);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, x->input + 4, 1u << 24),
		 XHCI_PARAMETER_ERROR);
	tb_w64(x->d, 0, XHCI_DCBAAP, UNMAPPED);
	CHECK_EQ(address(x, 0), XHCI_PARAMETER_ERROR);
	tb_w64(x->d, 0, XHCI_DCBAAP, x->dcbaa);
	CHECK_EQ(address(x, 0), XHCI_SUCCESS);
	done(x);
}

/* --- life cycle --- */

/* Without bus master everything waits. */
static void bus_master_off(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);

	tb_bus_master(x->d, false);
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	tb_xhci_bell(x, 0, 0);
	move(x, 9);
	CHECK_EQ(tb_xhci_code(x), 0);
	CHECK(!failed(x));
	tb_bus_master(x->d, true);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_transfer(x, slot, IN, x->buf, 6, NULL), XHCI_SUCCESS);
	done(x);
}

/* with a transfer waiting, the controller is reset; the driver starts over. */
static void controller_reset(void)
{
	struct tb_xhci *x = make();

	for (int i = 0; i < 3; i++) {
		unsigned int slot = configured(x);

		CHECK_EQ(tb_xhci_transfer(x, slot, IN, x->buf, 8, NULL), 0);
		tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
		CHECK_EQ(tb_xhci_r(x, XHCI_USBCMD), 0);
		CHECK_EQ(tb_xhci_r(x, PORTSC(1)), 0x00020ee1);
		move(x, i);
		CHECK_EQ(tb_xhci_code(x), 0);
		tb_xhci_start(x);
	}
	configured(x);
	done(x);
}

/* the slot goes with a transfer waiting. */
static void slot_goes(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);

	CHECK_EQ(tb_xhci_transfer(x, slot, IN, x->buf, 8, NULL), 0);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_DISABLE_SLOT, 0, slot << 24), XHCI_SUCCESS);
	move(x, 1);
	CHECK_EQ(tb_xhci_code(x), 0);
	configured(x);
	done(x);
}

static void pause_and_reset(void)
{
	struct tb_xhci *x = make();
	unsigned int slot = configured(x);

	CHECK(tb_pause(x->tb));
	tb_xhci_push(x, 0, 0, 0, 0, T(XHCI_CR_NOOP));
	tb_xhci_bell(x, 0, 0);
	CHECK_EQ(tb_xhci_code(x), 0);
	tb_resume(x->tb);
	CHECK_EQ(tb_xhci_code(x), XHCI_SUCCESS);
	CHECK_EQ(tb_xhci_control(x, slot, &set_config), 0);
	CHECK(tb_reset(x->tb));
	tb_pci_enable(x->d);
	tb_msix_enable(x->d);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBCMD), 0);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & ~XHCI_STS_PCD, XHCI_STS_HCH);
	tb_xhci_start(x);
	configured(x);
	done(x);
}

/* s4.23.2: as a driver whose machine sleeps. */
static void save_and_restore(void)
{
	struct tb_xhci *x = make();

	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	tb_xhci_w(x, XHCI_USBCMD, 0);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_CSS);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBCMD), 0);
	tb_w64(x->d, 0, XHCI_ERSTBA, x->erst);
	tb_w64(x->d, 0, XHCI_CRCR, (x->commands.base + 16 * x->commands.next) | 1);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_CRS);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_SRE, 0);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS | XHCI_CMD_INTE);
	CHECK_EQ(tb_xhci_command(x, XHCI_CR_NOOP, 0, 0), XHCI_SUCCESS);
	/* nothing saved */
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_CRS);
	CHECK_EQ(tb_xhci_r(x, XHCI_USBSTS) & XHCI_STS_SRE, XHCI_STS_SRE);
	done(x);
}

static void refuse(const char *conf, const char *text)
{
	struct tb *tb = tb_new(NULL);
	struct err err = { 0 };

	CHECK(!tb_add(tb, &xhci_ops, conf, &err));
	if (!strstr(err.text, text))
		CHECK_FAIL("\"%s\" is not in \"%s\"", text, err.text);
	tb_free(tb);
}

static void settings(void)
{
	struct tb *tb = tb_new(NULL);

	CHECK(tb_add(tb, &xhci_ops, NULL, NULL)); /* nothing plugged in */
	CHECK(tb_add(tb, &xhci_ops, "slot.1.device=none\nslot.4.device=tablet\n", NULL));
	tb_free(tb);
	refuse("slot.0.device=tablet\n", "numbered from 1 to 4");
	refuse("slot.5.device=tablet\n", "slot");
	refuse("slot.1.device=mouse\n", "mouse");
	refuse("slot.1.device=disk\n", "slot.1: a disk needs a path");
	refuse("slot.2.device=tablet\nslot.2.ser=1\n", "slot.2: path, ser and bootindex");
	refuse("slot.2.device=disk\nslot.2.path=x\nslot.2.ser=0123456789012345678901\n", "slot.2");
}

static const struct test_case cases[] = {
	{ "reset_values", reset_values },
	{ "protocols", protocols },
	{ "odd_widths", odd_widths },
	{ "run_and_halt", run_and_halt },
	{ "message_per_handler", message_per_handler },
	{ "wire", wire },
	{ "port_states", port_states },
	{ "life_of_a_slot", life_of_a_slot },
	{ "evaluate_context", evaluate_context },
	{ "stop_and_restart", stop_and_restart },
	{ "command_ring_stops", command_ring_stops },
	{ "event_data", event_data },
	{ "stall_and_recover", stall_and_recover },
	{ "doorbells (X-01)", doorbells },
	{ "every_command_every_slot (X-02)", every_command_every_slot },
	{ "event_ring (X-03)", event_ring },
	{ "event_ring_full (X-03)", event_ring_full },
	{ "broken_rings (X-04)", broken_rings },
	{ "endless_transfers (X-04, X-09)", endless_transfers },
	{ "input_contexts (X-05)", input_contexts },
	{ "addresses (X-06, X-11)", addresses },
	{ "control_stages (X-07, X-11)", control_stages },
	{ "error_and_recover", error_and_recover },
	{ "context_addresses (X-13)", context_addresses },
	{ "bus_master_off", bus_master_off },
	{ "controller_reset (X-10)", controller_reset },
	{ "slot_goes (X-10)", slot_goes },
	{ "pause_and_reset", pause_and_reset },
	{ "save_and_restore", save_and_restore },
	{ "settings", settings },
};

int main(int argc, char **argv)
{
	return RUN_CASES(cases, argc, argv);
}
