/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "hw/xhci_priv.h"

/* Commands (s4.6): each returns its completion code. */
struct command {
	struct xhci *x;
	struct xhci_trb trb;
	unsigned int slot, dci; /* as the TRB says; slot becomes the new one of Enable Slot */
	struct xhci_slot *s; /* NULL: none such */
};

/* s6.2.5: the control context and the contexts behind it, as copied */
struct input {
	uint32_t drop, add;
	uint32_t ctx[32][8]; /* by context number */
};

#define ADD_SLOT BIT(0)
#define ADD_CONTROL BIT(1)

/* --- contexts --- */

void xhci_ctx_write(struct xhci *x, struct xhci_slot *s, unsigned int dci)
{
	const struct xhci_ep *ep = &s->ep[dci];
	uint32_t out[8];

	if (dci) {
		memcpy(out, ep->ctx, sizeof(out));
		out[0] = (out[0] & ~7u) | ep->state;
		out[2] = (uint32_t)ep->ring.deq | ep->ring.cycle;
		out[3] = (uint32_t)(ep->ring.deq >> 32);
	} else {
		memcpy(out, s->ctx, sizeof(out));
		out[3] = (uint32_t)s->state << XHCI_SLOT_STATE_SHIFT;
		if (s->state >= XHCI_SLOT_ADDRESSED)
			out[3] |= (uint32_t)(s - x->slot); /* the address */
	}
	if (dma_write(&x->fn.dma, s->ctx_addr + dci * XHCI_CTX_SIZE, out, sizeof(out)) < 0)
		xhci_fail(x, "cannot write a device context");
}

static bool read_input(const struct command *c, struct input *in)
{
	uint32_t all[33][8];

	_Static_assert(sizeof(all) == XHCI_INPUT_CTX_SIZE, "layout");
	if (c->trb.param & 0xf || dma_read(&c->x->fn.dma, c->trb.param, all, sizeof(all)) < 0)
		return false;
	in->drop = all[0][0];
	in->add = all[0][1];
	memcpy(in->ctx, all[1], sizeof(in->ctx));
	return true;
}

static void ep_open(struct xhci_ep *ep, const uint32_t *ctx, const struct usb_ep *usb)
{
	memset(ep, 0, sizeof(*ep));
	memcpy(ep->ctx, ctx, sizeof(ep->ctx));
	ep->usb = usb;
	ep->state = XHCI_EP_RUNNING;
	ep->ring.deq = (ctx[2] | (uint64_t)ctx[3] << 32) & ~0xfull;
	ep->ring.cycle = ctx[2] & 1;
}

/* Disabled ones show it in the guest's memory. */
static void ep_close(struct command *c, unsigned int dci)
{
	if (c->s->ep[dci].state == XHCI_EP_DISABLED)
		return;
	memset(&c->s->ep[dci], 0, sizeof(c->s->ep[dci]));
	xhci_ctx_write(c->x, c->s, dci);
}

/* --- slots --- */

static enum xhci_code enable_slot(struct command *c)
{
	for (unsigned int i = 1; i <= (c->x->config & 0xff); i++) {
		struct xhci_slot *s = &c->x->slot[i];

		if (s->enabled)
			continue;
		memset(s, 0, sizeof(*s));
		s->enabled = true;
		c->slot = i;
		return XHCI_SUCCESS;
	}
	return XHCI_NO_SLOTS;
}

void xhci_slot_disable(struct xhci_slot *s)
{
	memset(s, 0, sizeof(*s));
}

static enum xhci_code disable_slot(struct command *c)
{
	xhci_slot_disable(c->s);
	return XHCI_SUCCESS;
}

/* s4.6.5: no hubs, so no routes; the device must be there, and no other slot may have it. */
static bool address_valid(const struct command *c, const struct input *in)
{
	const uint32_t *slot = in->ctx[0], *control = in->ctx[1];
	unsigned int port = XHCI_SLOT_PORT(slot[1]);

	if (in->drop || (in->add & 3) != (ADD_SLOT | ADD_CONTROL) ||
	    slot[0] & XHCI_SLOT_ROUTE_MASK || !XHCI_SLOT_ENTRIES(slot[0]) || !port ||
	    port > XHCI_PORTS || !c->x->port[port].usb || slot[2] >> 22 ||
	    XHCI_EP_TYPE(control[1]) != XHCI_EP_CONTROL)
		return false;
	for (unsigned int i = 1; i <= XHCI_SLOTS; i++)
		if (&c->x->slot[i] != c->s && c->x->slot[i].usb == c->x->port[port].usb)
			return false;
	return true;
}

static enum xhci_code address_device(struct command *c)
{
	bool block = c->trb.control & XHCI_TRB_BSR;
	struct xhci_slot *s = c->s;
	struct input in;
	le64 ctx_addr;

	if (s->state > (block ? XHCI_SLOT_ENABLED : XHCI_SLOT_DEFAULT))
		return XHCI_CONTEXT_STATE_ERROR;
	if (!read_input(c, &in))
		return XHCI_PARAMETER_ERROR;
	if (!address_valid(c, &in))
		return XHCI_TRB_ERROR;
	if (!(c->x->port[XHCI_SLOT_PORT(in.ctx[0][1])].sc & XHCI_PORT_PED))
		return XHCI_TRANSACTION_ERROR;
	if (dma_read(&c->x->fn.dma, c->x->dcbaap + 8 * c->slot, &ctx_addr, sizeof(ctx_addr)) < 0 ||
	    !dma_ring(&c->x->fn.dma, ctx_addr, XHCI_DEVICE_CTX_SIZE, 64))
		return XHCI_PARAMETER_ERROR;
	s->ctx_addr = ctx_addr;
	memcpy(s->ctx, in.ctx[0], sizeof(s->ctx));
	s->usb = c->x->port[XHCI_SLOT_PORT(s->ctx[1])].usb;
	s->state = block ? XHCI_SLOT_DEFAULT : XHCI_SLOT_ADDRESSED;
	s->control.open = false;
	ep_open(&s->ep[1], in.ctx[1], NULL);
	xhci_ctx_write(c->x, s, 0);
	xhci_ctx_write(c->x, s, 1);
	return XHCI_SUCCESS;
}

/* s4.6.11 */
static enum xhci_code reset_device(struct command *c)
{
	if (c->s->state < XHCI_SLOT_ADDRESSED)
		return XHCI_CONTEXT_STATE_ERROR;
	for (unsigned int dci = 2; dci < XHCI_EPS; dci++)
		ep_close(c, dci);
	c->s->control.open = false;
	c->s->state = XHCI_SLOT_DEFAULT;
	usb_reset(c->s->usb);
	c->s->ctx[0] = (c->s->ctx[0] & ~(31u << 27)) | 1u << 27;
	xhci_ctx_write(c->x, c->s, 0);
	return XHCI_SUCCESS;
}

/* --- endpoints --- */

static uint32_t type_of(const struct usb_ep *ep)
{
	return (uint32_t)ep->type | (ep->address & USB_DIR_IN ? 4 : 0);
}

/* What the guest says must be what the device is. */
static bool endpoint_valid(const struct usb_ep *ep, const uint32_t *ctx)
{
	return ep && XHCI_EP_TYPE(ctx[1]) == type_of(ep) && !XHCI_EP_PSTREAMS(ctx[0]);
}

static bool configuration_valid(const struct command *c, const struct input *in)
{
	if ((in->drop | in->add) & ADD_CONTROL || in->drop & ADD_SLOT)
		return false;
	if (in->add & ADD_SLOT && !XHCI_SLOT_ENTRIES(in->ctx[0][0]))
		return false;
	for (unsigned int dci = 2; dci < XHCI_EPS; dci++) {
		const struct usb_ep *ep = usb_ep_find(c->s->usb, dci);

		if (in->add & BIT(dci) && !endpoint_valid(ep, in->ctx[dci]))
			return false;
	}
	return true;
}

static void close_endpoints(struct command *c)
{
	for (unsigned int dci = 2; dci < XHCI_EPS; dci++)
		ep_close(c, dci);
	c->s->state = XHCI_SLOT_ADDRESSED;
	xhci_ctx_write(c->x, c->s, 0);
}

/* s4.6.6. FreeBSD adds endpoints that exist: they start afresh. */
static enum xhci_code configure_endpoint(struct command *c)
{
	struct xhci_slot *s = c->s;
	struct input in;
	bool any = false;

	if (s->state < XHCI_SLOT_ADDRESSED)
		return XHCI_CONTEXT_STATE_ERROR;
	if (c->trb.control & XHCI_TRB_DC) {
		close_endpoints(c);
		return XHCI_SUCCESS;
	}
	if (!read_input(c, &in) || !configuration_valid(c, &in))
		return XHCI_PARAMETER_ERROR;
	for (unsigned int dci = 2; dci < XHCI_EPS; dci++) {
		if (in.drop & BIT(dci))
			ep_close(c, dci);
		if (in.add & BIT(dci)) {
			ep_open(&s->ep[dci], in.ctx[dci], usb_ep_find(s->usb, dci));
			xhci_ctx_write(c->x, s, dci);
		}
		any |= s->ep[dci].state != XHCI_EP_DISABLED;
	}
	if (in.add & ADD_SLOT)
		s->ctx[0] = (s->ctx[0] & ~(31u << 27)) | (in.ctx[0][0] & 31u << 27);
	s->state = any ? XHCI_SLOT_CONFIGURED : XHCI_SLOT_ADDRESSED;
	xhci_ctx_write(c->x, s, 0);
	return XHCI_SUCCESS;
}

/* s4.6.7: of the slot the exit latency, of the control endpoint the packet size */
static enum xhci_code evaluate_context(struct command *c)
{
	struct xhci_slot *s = c->s;
	struct input in;

	if (s->state < XHCI_SLOT_DEFAULT)
		return XHCI_CONTEXT_STATE_ERROR;
	if (!read_input(c, &in) || in.drop || in.add & ~(ADD_SLOT | ADD_CONTROL) ||
	    (in.add & ADD_SLOT && in.ctx[0][2] >> 22))
		return XHCI_PARAMETER_ERROR;
	if (in.add & ADD_SLOT) {
		s->ctx[1] = (s->ctx[1] & ~0xffffu) | (in.ctx[0][1] & 0xffff);
		xhci_ctx_write(c->x, s, 0);
	}
	if (in.add & ADD_CONTROL) {
		s->ep[1].ctx[1] = (s->ep[1].ctx[1] & 0xffff) | (in.ctx[1][1] & ~0xffffu);
		xhci_ctx_write(c->x, s, 1);
	}
	return XHCI_SUCCESS;
}

/* The endpoint of the command, if it is enabled; else *code says why not. */
static struct xhci_ep *endpoint(struct command *c, enum xhci_code *code)
{
	*code = XHCI_TRB_ERROR;
	if (!c->dci)
		return NULL;
	*code = XHCI_ENDPOINT_NOT_ENABLED;
	return c->s->ep[c->dci].state == XHCI_EP_DISABLED ? NULL : &c->s->ep[c->dci];
}

/* s4.6.8 */
static enum xhci_code reset_endpoint(struct command *c)
{
	enum xhci_code code;
	struct xhci_ep *ep = endpoint(c, &code);

	if (!ep)
		return code;
	if (ep->state != XHCI_EP_HALTED)
		return XHCI_CONTEXT_STATE_ERROR;
	ep->state = XHCI_EP_STOPPED;
	xhci_ctx_write(c->x, c->s, c->dci);
	return XHCI_SUCCESS;
}

/* s4.6.9: tells how far the TRB in progress has come. */
static enum xhci_code stop_endpoint(struct command *c)
{
	enum xhci_code code;
	struct xhci_ep *ep = endpoint(c, &code);

	if (!ep)
		return code;
	if (ep->state != XHCI_EP_RUNNING)
		return XHCI_CONTEXT_STATE_ERROR;
	ep->state = XHCI_EP_STOPPED;
	if (ep->latched)
		xhci_transfer_event(c->x, c->slot, c->dci, XHCI_STOPPED,
				    XHCI_TRB_LEN(ep->trb.status) - ep->done);
	ep->latched = ep->ready = false;
	xhci_ctx_write(c->x, c->s, c->dci);
	return XHCI_SUCCESS;
}

/* s4.6.10 */
static enum xhci_code set_dequeue(struct command *c)
{
	enum xhci_code code;
	struct xhci_ep *ep = endpoint(c, &code);

	if (!ep)
		return code;
	if (ep->state != XHCI_EP_STOPPED && ep->state != XHCI_EP_ERROR)
		return XHCI_CONTEXT_STATE_ERROR;
	if (c->trb.status >> 16)
		return XHCI_TRB_ERROR; /* streams */
	xhci_ep_drop(ep);
	ep->state = XHCI_EP_STOPPED;
	ep->ring.deq = c->trb.param & ~0xfull;
	ep->ring.cycle = c->trb.param & 1;
	xhci_ctx_write(c->x, c->s, c->dci);
	return XHCI_SUCCESS;
}

/* --- the ring --- */

static enum xhci_code dispatch(struct command *c)
{
	static enum xhci_code (*const slot_commands[])(struct command *) = {
		[XHCI_CR_DISABLE_SLOT] = disable_slot,
		[XHCI_CR_ADDRESS_DEVICE] = address_device,
		[XHCI_CR_CONFIGURE_ENDPOINT] = configure_endpoint,
		[XHCI_CR_EVALUATE_CONTEXT] = evaluate_context,
		[XHCI_CR_RESET_ENDPOINT] = reset_endpoint,
		[XHCI_CR_STOP_ENDPOINT] = stop_endpoint,
		[XHCI_CR_SET_DEQUEUE] = set_dequeue,
		[XHCI_CR_RESET_DEVICE] = reset_device,
	};
	unsigned int type = XHCI_TRB_TYPE(c->trb.control);

	if (type == XHCI_CR_NOOP || type == XHCI_CR_ENABLE_SLOT) {
		c->slot = 0;
		return type == XHCI_CR_NOOP ? XHCI_SUCCESS : enable_slot(c);
	}
	if (type >= ARRAY_LEN(slot_commands) || !slot_commands[type] || !c->slot ||
	    c->slot > XHCI_SLOTS)
		return XHCI_TRB_ERROR;
	c->s = &c->x->slot[c->slot];
	return c->s->enabled ? slot_commands[type](c) : XHCI_SLOT_NOT_ENABLED;
}

static void completion(struct xhci *x, unsigned int slot, enum xhci_code code)
{
	xhci_event(x, x->commands.deq, (uint32_t)code << 24,
		   slot << 24 | XHCI_ER_COMMAND << XHCI_TRB_TYPE_SHIFT);
}

void xhci_commands_run(struct xhci *x)
{
	while (x->commands_ready && xhci_running(x) && xhci_event_room(x)) {
		struct command c = { .x = x };
		enum xhci_code code;
		int r;

		/* s4.6.1.2 */
		if (x->commands_stop) {
			x->commands_stop = false;
			x->commands_ready = x->commands_on;
			completion(x, 0, XHCI_COMMAND_RING_STOPPED);
			continue;
		}
		r = x->commands_budget ? xhci_ring_peek(x, &x->commands, &c.trb) : 0;
		x->commands_ready = r == 1;
		if (r < 0)
			xhci_fail(x, "broken command ring");
		if (r != 1)
			return;
		x->commands_budget--;
		c.slot = c.trb.control >> 24;
		c.dci = c.trb.control >> 16 & 31;
		code = dispatch(&c);
		completion(x, c.slot, code);
		xhci_ring_advance(&x->commands);
	}
}
