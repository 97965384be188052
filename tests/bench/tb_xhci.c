/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_xhci.h"

#include <assert.h>
#include <string.h>

#define NORMAL (XHCI_TR_NORMAL << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_ISP | XHCI_TRB_IOC)

uint32_t tb_xhci_r(struct tb_xhci *x, unsigned int reg)
{
	return tb_r32(x->d, 0, reg);
}

void tb_xhci_w(struct tb_xhci *x, unsigned int reg, uint32_t v)
{
	tb_w32(x->d, 0, reg, v);
}

void tb_xhci_init(struct tb_xhci *x, struct dev *d, bool msix)
{
	memset(x, 0, sizeof(*x));
	x->tb = tb_of(d);
	x->d = d;
	tb_pci_enable(d);
	if (msix)
		tb_msix_enable(d);
}

/* Empties a ring, making it first; the link at its end toggles. */
static void ring_init(struct tb_xhci *x, struct tb_xhci_ring *r)
{
	struct xhci_trb *trbs;

	if (!r->base)
		r->base = tb_alloc(x->tb, TB_XHCI_RING * XHCI_TRB_SIZE, 4096);
	r->next = 0;
	r->cycle = true;
	trbs = tb_mem(x->tb, r->base, TB_XHCI_RING * XHCI_TRB_SIZE);
	memset(trbs, 0, TB_XHCI_RING * XHCI_TRB_SIZE);
}

static void write_twice(struct tb_xhci *x, unsigned int reg, uint64_t v)
{
	tb_xhci_w(x, reg, (uint32_t)v);
	tb_xhci_w(x, reg + 4, (uint32_t)(v >> 32));
}

void tb_xhci_start(struct tb_xhci *x)
{
	uint64_t *erst, *dcbaa;

	if (!x->dcbaa) {
		x->dcbaa = tb_alloc(x->tb, 4096, 4096);
		x->erst = tb_alloc(x->tb, 64, 64);
		x->events = tb_alloc(x->tb, TB_XHCI_EVENTS * XHCI_TRB_SIZE, 4096);
		x->input = tb_alloc(x->tb, 4096, 4096);
		x->buf = tb_alloc(x->tb, 4096, 4096);
		for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
			x->ctx[i] = tb_alloc(x->tb, XHCI_DEVICE_CTX_SIZE, 64);
	}
	ring_init(x, &x->commands);
	memset(tb_mem(x->tb, x->events, TB_XHCI_EVENTS * XHCI_TRB_SIZE), 0,
	       TB_XHCI_EVENTS * XHCI_TRB_SIZE);
	x->event_next = 0;
	x->event_cycle = true;
	erst = tb_mem(x->tb, x->erst, 16);
	erst[0] = x->events;
	erst[1] = TB_XHCI_EVENTS;
	dcbaa = tb_mem(x->tb, x->dcbaa, 8 * (XHCI_SLOTS + 1));
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		dcbaa[i] = x->ctx[i];
	tb_xhci_w(x, XHCI_USBCMD, 0);
	tb_xhci_w(x, XHCI_CONFIG, XHCI_SLOTS);
	write_twice(x, XHCI_DCBAAP, x->dcbaa);
	write_twice(x, XHCI_CRCR, x->commands.base | XHCI_CRCR_RCS);
	tb_xhci_w(x, XHCI_ERSTSZ, 1);
	write_twice(x, XHCI_ERDP, x->events);
	write_twice(x, XHCI_ERSTBA, x->erst);
	tb_xhci_w(x, XHCI_IMAN, XHCI_IMAN_IE);
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_RS | XHCI_CMD_INTE);
	tb_run(x->tb);
}

gpa_t tb_xhci_push(struct tb_xhci *x, unsigned int slot, unsigned int dci, uint64_t param,
		   uint32_t status, uint32_t control)
{
	struct tb_xhci_ring *r = slot ? &x->ring[slot][dci] : &x->commands;
	struct xhci_trb trb = { param, status, control | (r->cycle ? XHCI_TRB_CYCLE : 0) };
	gpa_t at = r->base + r->next * XHCI_TRB_SIZE;

	assert(r->base);
	mem_write(tb_memory(x->tb), at, &trb, sizeof(trb));
	if (++r->next == TB_XHCI_RING - 1) {
		trb = (struct xhci_trb){ r->base, 0,
					 XHCI_TR_LINK << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_TC |
						 (r->cycle ? XHCI_TRB_CYCLE : 0) };
		mem_write(tb_memory(x->tb), at + XHCI_TRB_SIZE, &trb, sizeof(trb));
		r->next = 0;
		r->cycle = !r->cycle;
	}
	return at;
}

void tb_xhci_bell(struct tb_xhci *x, unsigned int slot, unsigned int dci)
{
	tb_xhci_w(x, XHCI_DOORBELLS + 4 * slot, dci);
	tb_run(x->tb);
}

bool tb_xhci_next(struct tb_xhci *x)
{
	struct xhci_trb trb;

	tb_run(x->tb);
	mem_read(tb_memory(x->tb), x->events + x->event_next * XHCI_TRB_SIZE, &trb, sizeof(trb));
	if ((trb.control & XHCI_TRB_CYCLE) != x->event_cycle)
		return false;
	x->event = trb;
	if (++x->event_next == TB_XHCI_EVENTS) {
		x->event_next = 0;
		x->event_cycle = !x->event_cycle;
	}
	write_twice(x, XHCI_ERDP, (x->events + x->event_next * XHCI_TRB_SIZE) | XHCI_ERDP_EHB);
	return true;
}

uint32_t tb_xhci_code(struct tb_xhci *x)
{
	while (tb_xhci_next(x))
		if (XHCI_TRB_TYPE(x->event.control) != XHCI_ER_PORT)
			return x->event.status >> 24;
	return 0;
}

uint32_t tb_xhci_command(struct tb_xhci *x, enum xhci_trb_type type, uint64_t param,
			 uint32_t control)
{
	gpa_t at = tb_xhci_push(x, 0, 0, param, 0, (uint32_t)type << XHCI_TRB_TYPE_SHIFT | control);

	tb_xhci_bell(x, 0, 0);
	while (tb_xhci_code(x)) {
		if (XHCI_TRB_TYPE(x->event.control) != XHCI_ER_COMMAND || x->event.param != at)
			continue;
		x->slot = x->event.control >> 24;
		return x->event.status >> 24;
	}
	return 0;
}

uint32_t *tb_xhci_input(struct tb_xhci *x, unsigned int n)
{
	return tb_mem(x->tb, x->input + n * XHCI_CTX_SIZE, XHCI_CTX_SIZE);
}

void tb_xhci_address_input(struct tb_xhci *x, unsigned int slot, unsigned int port)
{
	memset(tb_mem(x->tb, x->input, XHCI_INPUT_CTX_SIZE), 0, XHCI_INPUT_CTX_SIZE);
	tb_xhci_add_input(x, slot, 1, XHCI_EP_CONTROL);
	tb_xhci_input(x, 0)[1] = 3;
	tb_xhci_input(x, 1)[0] = 1u << 27 | XHCI_SPEED_HIGH << 20;
	tb_xhci_input(x, 1)[1] = port << 16;
}

void tb_xhci_add_input(struct tb_xhci *x, unsigned int slot, unsigned int dci,
		       enum xhci_ep_type type)
{
	uint32_t *ctx = tb_xhci_input(x, 1 + dci);
	struct tb_xhci_ring *r = &x->ring[slot][dci];

	ring_init(x, r);
	tb_xhci_input(x, 0)[1] |= 1u << dci | 1;
	tb_xhci_input(x, 1)[0] = 31u << 27;
	ctx[0] = 0;
	ctx[1] = 64u << 16 | (uint32_t)type << 3 | 3 << 1;
	ctx[2] = (uint32_t)r->base | 1;
	ctx[3] = (uint32_t)(r->base >> 32);
}

unsigned int tb_xhci_state(struct tb_xhci *x, unsigned int slot, unsigned int dci)
{
	const uint32_t *ctx = tb_mem(x->tb, x->ctx[slot] + dci * XHCI_CTX_SIZE, XHCI_CTX_SIZE);

	return dci ? ctx[0] & 7 : ctx[3] >> XHCI_SLOT_STATE_SHIFT;
}

unsigned int tb_xhci_attach(struct tb_xhci *x, unsigned int port)
{
	unsigned int reg = XHCI_PORTSC + 16 * (port - 1);
	uint32_t code;

	tb_xhci_w(x, reg, XHCI_PORT_PP | XHCI_PORT_PR | XHCI_PORT_CSC);
	tb_xhci_w(x, reg, XHCI_PORT_PP | XHCI_PORT_PRC);
	assert(tb_xhci_r(x, reg) & XHCI_PORT_PED);
	code = tb_xhci_command(x, XHCI_CR_ENABLE_SLOT, 0, 0);
	assert(code == XHCI_SUCCESS);
	tb_xhci_address_input(x, x->slot, port);
	code = tb_xhci_command(x, XHCI_CR_ADDRESS_DEVICE, x->input, x->slot << 24);
	assert(code == XHCI_SUCCESS);
	return x->slot;
}

void tb_xhci_configure(struct tb_xhci *x, unsigned int slot)
{
	struct usb_setup get = { 0x80, 6, 0x0200, 0, 255 }, set = { 0, 9, 1, 0, 0 };
	const uint8_t *desc = tb_mem(x->tb, x->buf, 256);
	int len = tb_xhci_control(x, slot, &get);
	uint32_t code;

	assert(len > 9);
	memset(tb_mem(x->tb, x->input, XHCI_INPUT_CTX_SIZE), 0, XHCI_INPUT_CTX_SIZE);
	for (int i = 0; i < len; i += desc[i])
		if (desc[i + 1] == 5)
			tb_xhci_add_input(x, slot, usb_dci(desc[i + 2]),
					  desc[i + 3] | (desc[i + 2] & USB_DIR_IN ? 4 : 0));
	code = tb_xhci_command(x, XHCI_CR_CONFIGURE_ENDPOINT, x->input, slot << 24);
	assert(code == XHCI_SUCCESS);
	len = tb_xhci_control(x, slot, &set);
	assert(len == 0);
}

int tb_xhci_control(struct tb_xhci *x, unsigned int slot, const struct usb_setup *s)
{
	bool in = s->type & USB_DIR_IN;
	uint64_t setup = s->type | (uint64_t)s->request << 8 | (uint64_t)s->value << 16 |
			 (uint64_t)s->index << 32 | (uint64_t)s->length << 48;
	int moved = s->length;

	tb_xhci_push(x, slot, 1, setup, 8, XHCI_TR_SETUP << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IDT);
	if (s->length)
		tb_xhci_push(x, slot, 1, x->buf, s->length,
			     XHCI_TR_DATA << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_ISP |
				     (in ? XHCI_TRB_DIR_IN : 0));
	tb_xhci_push(x, slot, 1, 0, 0, XHCI_TR_STATUS << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IOC);
	tb_xhci_bell(x, slot, 1);
	for (;;) {
		uint32_t code = tb_xhci_code(x);

		if (code == XHCI_SHORT_PACKET)
			moved -= (int)(x->event.status & 0xffffff);
		else if (code == XHCI_SUCCESS)
			return moved;
		else
			return code ? -(int)code : -1000;
	}
}

uint32_t tb_xhci_transfer(struct tb_xhci *x, unsigned int slot, unsigned int dci, gpa_t buf,
			  uint32_t len, uint32_t *moved)
{
	uint32_t code;

	tb_xhci_push(x, slot, dci, buf, len, NORMAL);
	tb_xhci_bell(x, slot, dci);
	code = tb_xhci_code(x);
	if (moved)
		*moved = code ? len - (x->event.status & 0xffffff) : 0;
	return code;
}
