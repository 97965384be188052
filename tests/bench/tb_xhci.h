/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_XHCI_H
#define TESTS_BENCH_TB_XHCI_H

#include "bench/tb.h"
#include "hw/usb.h"
#include "hw/xhci_spec.h"

/* The driver's side of an xHCI controller on the bench. Rings have a page: 255 TRBs and a link. */
#define TB_XHCI_RING 256u
#define TB_XHCI_EVENTS 64u /* in the event ring */

struct tb_xhci_ring {
	gpa_t base; /* 0: none */
	uint32_t next;
	bool cycle;
};

struct tb_xhci {
	struct tb *tb;
	struct dev *d;
	gpa_t dcbaa, erst, events, input, buf; /* buf: a page for control transfers */
	gpa_t ctx[XHCI_SLOTS + 1]; /* output contexts */
	uint32_t event_next;
	bool event_cycle;
	struct tb_xhci_ring commands;
	struct tb_xhci_ring ring[XHCI_SLOTS + 1][32];
	unsigned int slot; /* of the last command's completion */
	struct xhci_trb event; /* the last one taken */
};

uint32_t tb_xhci_r(struct tb_xhci *x, unsigned int reg);
void tb_xhci_w(struct tb_xhci *x, unsigned int reg, uint32_t v);
/* BARs and MSI-X (if msix) on. */
void tb_xhci_init(struct tb_xhci *x, struct dev *d, bool msix);
/* Everything in memory and registers as drivers do it; the controller runs. Memory is taken at the first call only. */
void tb_xhci_start(struct tb_xhci *x);

/* Puts a TRB into the command ring (slot 0) or a transfer ring, with its cycle bit; returns its address. */
gpa_t tb_xhci_push(struct tb_xhci *x, unsigned int slot, unsigned int dci, uint64_t param,
		   uint32_t status, uint32_t control);
/* Rings the doorbell and runs. */
void tb_xhci_bell(struct tb_xhci *x, unsigned int slot, unsigned int dci);
/* Runs and takes the next event into x->event. */
bool tb_xhci_next(struct tb_xhci *x);
/* As tb_xhci_next, passing over those of ports; its completion code, 0: none. */
uint32_t tb_xhci_code(struct tb_xhci *x);

/* A command of this type with these bits; returns the completion code, 0: none came. */
uint32_t tb_xhci_command(struct tb_xhci *x, enum xhci_trb_type type, uint64_t param,
			 uint32_t control);
/* Words of the input context: its own (0), slot (1), endpoint dci (1 + dci). */
uint32_t *tb_xhci_input(struct tb_xhci *x, unsigned int n);
/* Clears the input context and fills it for Address Device on that port. */
void tb_xhci_address_input(struct tb_xhci *x, unsigned int slot, unsigned int port);
/* Adds one endpoint of this type to the input context, with a ring of its own. */
void tb_xhci_add_input(struct tb_xhci *x, unsigned int slot, unsigned int dci,
		       enum xhci_ep_type type);
/* State of an endpoint, or (dci 0) of the slot, in the output context. */
unsigned int tb_xhci_state(struct tb_xhci *x, unsigned int slot, unsigned int dci);

/* Port reset, Enable Slot, Address Device: the slot. All three assert. */
unsigned int tb_xhci_attach(struct tb_xhci *x, unsigned int port);
/* The endpoints of the device's descriptor, and SET_CONFIGURATION. Asserts. */
void tb_xhci_configure(struct tb_xhci *x, unsigned int slot);

/* A control transfer through x->buf: bytes moved, or minus the completion code of its failure; -1000: none came. */
int tb_xhci_control(struct tb_xhci *x, unsigned int slot, const struct usb_setup *s);
/* One transfer of one TRB; completion code, 0: none yet. *moved (may be NULL) gets the bytes. */
uint32_t tb_xhci_transfer(struct tb_xhci *x, unsigned int slot, unsigned int dci, gpa_t buf,
			  uint32_t len, uint32_t *moved);

#endif
