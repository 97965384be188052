/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "hw/xhci_priv.h"

/* What becomes of the TRB that is being worked on. */
enum step {
	STEP_DONE, /* go on with the next one */
	STEP_WAIT, /* the device has nothing now */
	STEP_STALL,
	STEP_BAD, /* malformed */
};

#define PIECES 4 /* of memory in one buffer: it has few regions */

struct job {
	struct xhci *x;
	struct xhci_slot *s;
	struct xhci_ep *ep;
	unsigned int slot, dci;
};

void xhci_transfer_event(struct xhci *x, unsigned int slot, unsigned int dci, uint32_t code,
			 uint32_t residue)
{
	xhci_event(x, x->slot[slot].ep[dci].ring.deq, code << 24 | residue,
		   slot << 24 | dci << 16 | XHCI_ER_TRANSFER << XHCI_TRB_TYPE_SHIFT);
}

void xhci_ep_drop(struct xhci_ep *ep)
{
	ep->latched = false;
	ep->done = ep->edtla = 0;
	ep->is_short = ep->told = false;
}

/* The TRB has been worked on; len is what it asked for. At its end a TD starts afresh (s4.11.2.4). */
static enum step finish(struct job *j, uint32_t len)
{
	struct xhci_ep *ep = j->ep;
	uint32_t control = ep->trb.control;
	bool tell = control & XHCI_TRB_IOC || (ep->is_short && control & XHCI_TRB_ISP);

	ep->edtla = (ep->edtla + ep->done) & 0xffffff;
	if (tell && !ep->told)
		xhci_transfer_event(j->x, j->slot, j->dci,
				    ep->is_short ? XHCI_SHORT_PACKET : XHCI_SUCCESS,
				    len - ep->done);
	ep->told |= tell && ep->is_short;
	if (!(control & XHCI_TRB_CH)) {
		ep->is_short = ep->told = false;
		ep->edtla = 0;
	}
	return STEP_DONE;
}

/* s6.4.4.2 */
static enum step event_data(struct job *j)
{
	struct xhci_ep *ep = j->ep;
	uint32_t code = ep->is_short ? XHCI_SHORT_PACKET : XHCI_SUCCESS;

	if (ep->trb.control & XHCI_TRB_IOC)
		xhci_event(j->x, ep->trb.param, code << 24 | ep->edtla,
			   j->slot << 24 | j->dci << 16 | XHCI_TRB_ED |
				   XHCI_ER_TRANSFER << XHCI_TRB_TYPE_SHIFT);
	ep->edtla = 0;
	if (!(ep->trb.control & XHCI_TRB_CH))
		ep->is_short = ep->told = false;
	return STEP_DONE;
}

/* --- data --- */

/* Control data goes through the slot's buffer. */
static enum usb_result control_bytes(struct xhci_control *c, void *buf, size_t len, size_t *n)
{
	bool in = c->setup.type & USB_DIR_IN;
	uint32_t end = in ? (uint32_t)MAX(c->result, 0) : c->setup.length;

	if (!c->open || (in && c->result < 0) || end > sizeof(c->buf))
		return USB_STALL;
	*n = MIN(len, end - c->pos);
	if (in)
		memcpy(buf, c->buf + c->pos, *n);
	else
		memcpy(c->buf + c->pos, buf, *n);
	c->pos += (uint32_t)*n;
	if (*n == len)
		return USB_OK;
	return in ? USB_SHORT : USB_STALL;
}

static enum usb_result move(struct job *j, void *buf, size_t len, size_t *n)
{
	enum usb_result res;

	*n = 0;
	if (j->ep->usb)
		res = usb_move(j->s->usb, j->ep->usb, buf, len, n);
	else
		res = control_bytes(&j->s->control, buf, len, n);
	j->ep->done += (uint32_t)*n;
	return res;
}

static enum step move_data(struct job *j, uint32_t len)
{
	const struct xhci_trb *trb = &j->ep->trb;
	struct iovec iov[PIECES] = { { .iov_base = &j->ep->trb.param, .iov_len = len } };
	uint32_t done = j->ep->done;
	int pieces = 1;

	if (trb->control & XHCI_TRB_IDT)
		iov[0] = (struct iovec){ (uint8_t *)&j->ep->trb.param + done, len - done };
	else
		pieces = dma_iov(&j->x->fn.dma, trb->param + done, len - done, iov, PIECES);
	if (pieces < 0)
		return STEP_BAD;
	for (int i = 0; i < pieces; i++) {
		size_t n;

		switch (move(j, iov[i].iov_base, iov[i].iov_len, &n)) {
		case USB_OK:
			break;
		case USB_SHORT:
			j->ep->is_short = true;
			return STEP_DONE;
		case USB_NAK:
			return STEP_WAIT;
		case USB_STALL:
			return STEP_STALL;
		}
	}
	return STEP_DONE;
}

/* s6.4.1.1, s6.4.1.2.2 */
static enum step data(struct job *j, bool in)
{
	struct xhci_ep *ep = j->ep;
	uint32_t len = XHCI_TRB_LEN(ep->trb.status);
	enum step step = STEP_DONE;

	if (ep->trb.control & XHCI_TRB_IDT && (in || len > sizeof(ep->trb.param)))
		return STEP_BAD;
	if (ep->done < len && !ep->is_short)
		step = move_data(j, len);
	return step == STEP_DONE ? finish(j, len) : step;
}

/* --- control transfers (s3.2.9) --- */

static enum step setup_stage(struct job *j)
{
	const struct xhci_trb *trb = &j->ep->trb;
	struct xhci_control *c = &j->s->control;

	if (!(trb->control & XHCI_TRB_IDT) || XHCI_TRB_LEN(trb->status) != 8)
		return STEP_BAD;
	c->setup = (struct usb_setup){
		.type = (uint8_t)trb->param,
		.request = (uint8_t)(trb->param >> 8),
		.value = (uint16_t)(trb->param >> 16),
		.index = (uint16_t)(trb->param >> 32),
		.length = (uint16_t)(trb->param >> 48),
	};
	c->open = true;
	c->pos = 0;
	c->result = 0;
	if (c->setup.type & USB_DIR_IN && c->setup.length) {
		c->result = usb_control(j->s->usb, &c->setup, c->buf, sizeof(c->buf));
		c->result = MIN(c->result, c->setup.length);
	}
	j->ep->done = 8;
	return finish(j, 8);
}

static enum step data_stage(struct job *j)
{
	bool in = j->s->control.setup.type & USB_DIR_IN;

	if (!j->s->control.open || in != !!(j->ep->trb.control & XHCI_TRB_DIR_IN))
		return STEP_STALL;
	return data(j, in);
}

/* Requests that send data, or none, are acted on only now. */
static enum step status_stage(struct job *j)
{
	struct xhci_control *c = &j->s->control;
	bool open = c->open;

	c->open = false;
	if (!open)
		return STEP_STALL;
	if (!(c->setup.type & USB_DIR_IN && c->setup.length)) {
		if (c->pos != (c->setup.type & USB_DIR_IN ? 0 : c->setup.length))
			return STEP_STALL;
		c->result = usb_control(j->s->usb, &c->setup, c->buf, sizeof(c->buf));
	}
	return c->result < 0 ? STEP_STALL : finish(j, 0);
}

static enum step control_trb(struct job *j)
{
	bool in = j->s->control.setup.type & USB_DIR_IN;

	switch (XHCI_TRB_TYPE(j->ep->trb.control)) {
	case XHCI_TR_SETUP:
		return setup_stage(j);
	case XHCI_TR_DATA:
		return data_stage(j);
	case XHCI_TR_NORMAL: /* more of the data */
		return j->s->control.open ? data(j, in) : STEP_STALL;
	case XHCI_TR_STATUS:
		return status_stage(j);
	default:
		return STEP_BAD;
	}
}

/* --- rings --- */

static enum step one_trb(struct job *j)
{
	struct xhci_ep *ep = j->ep;

	if (XHCI_TRB_INTERRUPTER(ep->trb.status))
		return STEP_BAD;
	switch (XHCI_TRB_TYPE(ep->trb.control)) {
	case XHCI_TR_NOOP:
		return finish(j, 0);
	case XHCI_TR_EVENT_DATA:
		return event_data(j);
	case XHCI_TR_NORMAL:
		if (ep->usb)
			return data(j, ep->usb->address & USB_DIR_IN);
		break;
	}
	return ep->usb ? STEP_BAD : control_trb(j);
}

/* 1: ep->trb is the next one. One that was stopped half way goes on where it was, if it is still the same (s4.6.9). */
static int latch(struct xhci *x, struct xhci_ep *ep)
{
	struct xhci_trb trb;
	int r = 1;

	if (!ep->latched) {
		r = xhci_ring_peek(x, &ep->ring, &trb);
		if (r == 1 && memcmp(&trb, &ep->trb, sizeof(trb)) != 0)
			ep->done = 0;
		if (r == 1)
			ep->trb = trb;
	}
	ep->latched = r == 1;
	return r;
}

/* s4.10.2: the endpoint stops until the guest has seen to it. */
static void halt(struct job *j, enum step step)
{
	struct xhci_ep *ep = j->ep;
	uint32_t len = XHCI_TRB_LEN(ep->trb.status);
	uint32_t code = step == STEP_STALL ? XHCI_STALL : XHCI_TRB_ERROR;

	ep->state = step == STEP_STALL ? XHCI_EP_HALTED : XHCI_EP_ERROR;
	j->s->control.open &= ep->usb != NULL;
	xhci_transfer_event(j->x, j->slot, j->dci, code, len - MIN(len, ep->done));
	xhci_ctx_write(j->x, j->s, j->dci);
	xhci_ep_drop(ep);
}

void xhci_ep_run(struct xhci *x, unsigned int slot, unsigned int dci)
{
	struct xhci_slot *s = &x->slot[slot];
	struct job j = { .x = x, .s = s, .ep = &s->ep[dci], .slot = slot, .dci = dci };
	struct xhci_ep *ep = j.ep;

	while (ep->ready && xhci_running(x) && xhci_event_room(x)) {
		enum step step;
		int r;

		ep->ready = ep->state == XHCI_EP_RUNNING && ep->budget;
		if (!ep->ready)
			return;
		r = latch(x, ep);
		ep->ready = r == 1;
		if (r < 0)
			xhci_fail(x, "broken transfer ring");
		if (r != 1)
			return;
		ep->budget--;
		step = one_trb(&j);
		if (step == STEP_DONE) {
			ep->latched = false;
			ep->done = 0;
			xhci_ring_advance(&ep->ring);
		} else if (step == STEP_WAIT) {
			ep->ready = false;
		} else {
			halt(&j, step);
		}
	}
}
