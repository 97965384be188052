/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_XHCI_PRIV_H
#define HW_XHCI_PRIV_H

#include "back/blk.h"
#include "hw/usb.h"
#include "hw/xhci_spec.h"
#include "pci/pci.h"

/*
 * Registers are written by vCPUs; rings are read only by the loop, after a doorbell. Whatever a ring or a context says is
 * copied once, checked, and the copy used. Events are never lost: nothing that makes one is done before there is room.
 */

#define XHCI_BUDGET 4096u /* TRBs taken from a ring per doorbell */
#define XHCI_LINKS_MAX 16u /* link TRBs in a row */
#define XHCI_EVENTS_MAX 3u /* that one TRB makes at most */
#define XHCI_CONTROL_MAX 512u /* bytes of a control transfer */
#define XHCI_EPS 32u /* indexed by context number; 0 is not used */

/* Reader's end of a command or transfer ring. */
struct xhci_ring {
	uint64_t deq;
	bool cycle;
};

struct xhci_ep {
	enum xhci_ep_state state;
	const struct usb_ep *usb; /* NULL: the control endpoint */
	struct xhci_ring ring;
	uint32_t ctx[8]; /* as the guest gave it */
	bool ready; /* in xhci.ready */
	uint32_t budget;
	struct xhci_trb trb; /* the one being worked on */
	bool latched; /* trb is valid */
	uint32_t done; /* bytes of it */
	uint32_t edtla; /* bytes since the last Event Data TRB (s4.11.5.2) */
	bool is_short; /* the rest of this TD is skipped */
	bool told; /* an event has told that */
};

/* A control transfer (USB 2.0 s8.5.3). */
struct xhci_control {
	struct usb_setup setup;
	bool open; /* between setup and status stage */
	int result; /* bytes in buf, negative: stall; of IN requests */
	uint32_t pos; /* bytes moved */
	uint8_t buf[XHCI_CONTROL_MAX];
};

struct xhci_slot {
	bool enabled;
	enum xhci_slot_state state;
	uint64_t ctx_addr; /* output device context */
	uint32_t ctx[8];
	struct usb_dev *usb; /* NULL: not addressed yet */
	struct xhci_control control;
	struct xhci_ep ep[XHCI_EPS];
};

struct xhci_port {
	struct usb_dev *usb; /* NULL: nothing is plugged in */
	uint32_t sc;
	bool event; /* a Port Status Change Event is to be sent */
};

/* The event ring as it was checked. */
struct xhci_events {
	bool valid;
	uint64_t base;
	uint32_t size; /* TRBs */
	uint32_t enq;
	bool cycle;
};

/* Of a port; number n is at n. */
struct xhci_slot_conf {
	int device;
	char *ser;
	uint64_t bootindex;
	struct blk_spec blk;
};

struct xhci_conf {
	struct xhci_slot_conf slot[XHCI_USB2_PORTS + 1];
};

struct xhci {
	struct pci_fn fn;
	struct dev_post kick;
	uint32_t cmd, sts, dnctrl, config;
	uint64_t dcbaap;
	uint32_t iman, imod, erstsz;
	uint64_t erstba, erdp;
	bool ehb; /* event handler busy */
	struct xhci_events events, saved;
	struct xhci_ring commands;
	bool commands_on; /* CRR */
	bool commands_ready; /* there may be some */
	uint32_t commands_budget;
	bool commands_stop; /* the guest is to be told that they have stopped */
	uint64_t run_ns; /* when it was last set running */
	struct xhci_port port[XHCI_PORTS + 1]; /* from 1 */
	struct xhci_slot slot[XHCI_SLOTS + 1]; /* from 1 */
	bool pausing;
};

/* xhci.c */
static inline bool xhci_running(const struct xhci *x)
{
	return !(x->sts & (XHCI_STS_HCH | XHCI_STS_HCE));
}
/* Host controller error: nothing but a reset helps (s4.24.1). */
void xhci_fail(struct xhci *x, const char *why);
void xhci_interrupt_update(struct xhci *x);
/* Sends nothing; the caller kicks. */
void xhci_port_change(struct xhci *x, unsigned int port, uint32_t bits);

/* xhci_ring.c */
/*
 * Looks at the TRB that is next: 1 with a copy (ring->deq is its address), 0 if there is none yet, or -1: the ring is
 * broken. Follows links. xhci_ring_advance() takes it.
 */
int xhci_ring_peek(struct xhci *x, struct xhci_ring *ring, struct xhci_trb *out);
static inline void xhci_ring_advance(struct xhci_ring *ring)
{
	ring->deq += XHCI_TRB_SIZE;
}
/* Whether one more TRB may be worked on. */
bool xhci_event_room(struct xhci *x);
/* There is room. type and flags go into control. */
void xhci_event(struct xhci *x, uint64_t param, uint32_t status, uint32_t control);
static inline bool xhci_events_wait(const struct xhci *x)
{
	return x->events.valid &&
	       (x->erdp & ~0xfull) != x->events.base + x->events.enq * XHCI_TRB_SIZE;
}

/* xhci_command.c */
void xhci_commands_run(struct xhci *x);
void xhci_slot_disable(struct xhci_slot *s);
/* Writes a context of the slot (0: the slot's own) to the guest's memory. */
void xhci_ctx_write(struct xhci *x, struct xhci_slot *s, unsigned int dci);

/* xhci_transfer.c */
/* Works on the endpoint's ring as far as possible. */
void xhci_ep_run(struct xhci *x, unsigned int slot, unsigned int dci);
/* Forgets what is in progress. */
void xhci_ep_drop(struct xhci_ep *ep);
void xhci_transfer_event(struct xhci *x, unsigned int slot, unsigned int dci, uint32_t code,
			 uint32_t residue);

#endif
