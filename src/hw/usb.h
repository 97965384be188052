/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_USB_H
#define HW_USB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blk_spec;
struct dev;
struct err;
struct usb_dev;

/*
 * A USB device as its controller sees it: high speed, one configuration (1) with one interface (0). Plain state under
 * the controller's lock; all calls on the loop's thread, but for usb_reset(). What is said about USB is USB 2.0.
 */

/* s9.3 */
struct usb_setup {
	uint8_t type, request;
	uint16_t value, index, length;
};

#define USB_DIR_IN 0x80u

enum usb_ep_type { USB_EP_CONTROL, USB_EP_ISOCH, USB_EP_BULK, USB_EP_INTERRUPT };

struct usb_ep {
	uint8_t address; /* with USB_DIR_IN */
	enum usb_ep_type type;
};

/* What became of some bytes of a transfer */
enum usb_result {
	USB_OK, /* all are moved */
	USB_SHORT, /* IN: the device has sent all it has, which is less */
	USB_NAK, /* not all yet: the device calls wakeup when there is more, or room for more */
	USB_STALL,
};

struct usb_ops {
	const uint8_t *device; /* descriptors; that of the configuration says how long it is */
	const uint8_t *config;
	const struct usb_ep *eps; /* besides the control endpoint */
	size_t neps;
	/*
	 * Class requests, and descriptors of the interface. buf holds s->length bytes of an OUT request, or takes size
	 * bytes: returns how many, or -1 for a stall.
	 */
	int (*request)(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size);
	/* Moves bytes of a transfer on a configured endpoint; *n says how many, whatever the result. Never for len 0. */
	enum usb_result (*in)(struct usb_dev *u, uint8_t ep, void *buf, size_t len, size_t *n);
	/* buf may change at any time: it is guest memory. NULL: the device has no such endpoint. */
	enum usb_result (*out)(struct usb_dev *u, uint8_t ep, const void *buf, size_t len,
			       size_t *n);
	/* A bus reset; what the host does for it is dropped when it ends. Any thread. */
	void (*reset)(struct usb_dev *u);
	/* After a reset with nothing in flight. NULL: there is nothing more to it. */
	void (*power_on)(struct usb_dev *u);
	/* Whether the host still does something for it. NULL: never. */
	bool (*busy)(const struct usb_dev *u);
	void (*free)(struct usb_dev *u);
};

enum usb_string { USB_STR_MANUFACTURER = 1, USB_STR_PRODUCT, USB_STR_SERIAL };

/* The first member of every device's instance. */
struct usb_dev {
	const struct usb_ops *ops;
	const char *product, *serial;
	uint8_t configuration;
	uint32_t halted; /* endpoints, by usb_dci() */
	/* By the controller: look at the endpoint again. */
	void (*wakeup)(struct usb_dev *u, uint8_t ep);
	/* By the controller: whether the guest has set the endpoint going. */
	bool (*listening)(const struct usb_dev *u, uint8_t ep);
	void *host;
	unsigned int port;
};

/* Number of an endpoint's context (xHCI 1.0 s4.5.1). */
static inline unsigned int usb_dci(uint8_t address)
{
	return (address & 15u) * 2 + (address & USB_DIR_IN ? 1 : 0);
}

/* NULL: there is no such endpoint. */
const struct usb_ep *usb_ep_find(const struct usb_dev *u, unsigned int dci);
/* A request to the control endpoint, standard ones included (s9.4); as ops->request. */
int usb_control(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size);
/* Moves bytes if the endpoint is configured and not halted; len is not 0. A stall halts it. */
enum usb_result usb_move(struct usb_dev *u, const struct usb_ep *ep, void *buf, size_t len,
			 size_t *n);
void usb_reset(struct usb_dev *u);

/*
 * Devices; d is the controller. The caller fills in wakeup and the rest, and ends it with ops->free. NULL and err set
 * on failure.
 */
struct usb_dev *usb_tablet_new(struct dev *d, struct err *err);
struct usb_dev *usb_keyboard_new(struct dev *d, struct err *err);
/* ser as diskid_make() takes it. batch_end runs after each batch of completions. */
struct usb_dev *usb_disk_new(struct dev *d, const struct blk_spec *spec, const char *ser,
			     void (*batch_end)(struct dev *d), struct err *err);

#endif
