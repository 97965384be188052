/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/usb.h"

#include <string.h>

#include "util/bytes.h"
#include "util/macros.h"

/* Standard requests (USB 2.0 s9.4), as type << 8 | request */
enum {
	GET_DEVICE_STATUS = 0x8000,
	GET_INTERFACE_STATUS = 0x8100,
	GET_ENDPOINT_STATUS = 0x8200,
	CLEAR_ENDPOINT_FEATURE = 0x0201,
	SET_ENDPOINT_FEATURE = 0x0203,
	GET_DESCRIPTOR = 0x8006,
	GET_CONFIGURATION = 0x8008,
	SET_CONFIGURATION = 0x0009,
	GET_INTERFACE = 0x810a,
	SET_INTERFACE = 0x010b,
};

#define DESC_DEVICE 1
#define DESC_CONFIG 2
#define DESC_STRING 3
#define FEATURE_HALT 0
#define LANGUAGE 0x0409
#define STALL (-1)

const struct usb_ep *usb_ep_find(const struct usb_dev *u, unsigned int dci)
{
	for (size_t i = 0; i < u->ops->neps; i++)
		if (usb_dci(u->ops->eps[i].address) == dci)
			return &u->ops->eps[i];
	return NULL;
}

static int give(uint8_t *buf, size_t size, const void *what, size_t len)
{
	size_t n = MIN(len, size);

	memcpy(buf, what, n);
	return (int)n;
}

/* s9.6.7 */
static int give_string(const struct usb_dev *u, unsigned int index, uint8_t *buf, size_t size)
{
	const char *text[] = { NULL, "khyve", u->product, u->serial };
	uint8_t desc[2 + 2 * 40] = { 4, DESC_STRING, LANGUAGE & 0xff, LANGUAGE >> 8 };

	if (index >= ARRAY_LEN(text) || (index && !text[index]))
		return STALL;
	for (size_t i = 0; index && text[index][i] && 2 * i + 4 <= sizeof(desc); i++) {
		put_le16(desc + 2 + 2 * i, (uint8_t)text[index][i]);
		desc[0] = (uint8_t)(4 + 2 * i);
	}
	return give(buf, size, desc, desc[0]);
}

static int get_descriptor(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	unsigned int index = s->value & 0xff;

	switch (s->value >> 8) {
	case DESC_DEVICE:
		return give(buf, size, u->ops->device, u->ops->device[0]);
	case DESC_CONFIG:
		return index ? STALL
			     : give(buf, size, u->ops->config, get_le16(u->ops->config + 2));
	case DESC_STRING:
		return give_string(u, index, buf, size);
	default:
		return STALL;
	}
}

/* The bit of the endpoint that the request is about, 0: none. */
static uint32_t endpoint_bit(const struct usb_dev *u, const struct usb_setup *s)
{
	unsigned int dci = usb_dci((uint8_t)s->index);

	return u->configuration && usb_ep_find(u, dci) ? BIT(dci) : 0;
}

static int endpoint_request(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	uint32_t bit = endpoint_bit(u, s);
	bool control = (s->index & 15) == 0;
	uint8_t status[2] = { (u->halted & bit) != 0, 0 };

	if (!bit && !control)
		return STALL;
	if (s->type & USB_DIR_IN)
		return give(buf, size, status, sizeof(status));
	if (s->value != FEATURE_HALT)
		return STALL;
	if (s->request == (SET_ENDPOINT_FEATURE & 0xff))
		u->halted |= bit;
	else
		u->halted &= ~bit;
	/* Who waits is to see it. */
	if (bit)
		u->wakeup(u, (uint8_t)s->index);
	return 0;
}

static int set_configuration(struct usb_dev *u, unsigned int value)
{
	if (value > 1)
		return STALL;
	usb_reset(u);
	u->configuration = (uint8_t)value;
	return 0;
}

int usb_control(struct usb_dev *u, const struct usb_setup *s, uint8_t *buf, size_t size)
{
	static const uint8_t self_powered[2] = { 1, 0 }, zero[2] = { 0, 0 };

	if (s->type & USB_DIR_IN)
		size = MIN(size, (size_t)s->length);
	switch (s->type << 8 | s->request) {
	case GET_DEVICE_STATUS:
		return give(buf, size, self_powered, 2);
	case GET_INTERFACE_STATUS:
		return u->configuration && !s->index ? give(buf, size, zero, 2) : STALL;
	case GET_ENDPOINT_STATUS:
	case CLEAR_ENDPOINT_FEATURE:
	case SET_ENDPOINT_FEATURE:
		return endpoint_request(u, s, buf, size);
	case GET_DESCRIPTOR:
		return get_descriptor(u, s, buf, size);
	case GET_CONFIGURATION:
		return give(buf, size, &u->configuration, 1);
	case SET_CONFIGURATION:
		return set_configuration(u, s->value);
	case GET_INTERFACE:
		return u->configuration && !s->index ? give(buf, size, zero, 1) : STALL;
	case SET_INTERFACE:
		return u->configuration && !s->index && !s->value ? 0 : STALL;
	default:
		return u->ops->request(u, s, buf, size);
	}
}

enum usb_result usb_move(struct usb_dev *u, const struct usb_ep *ep, void *buf, size_t len,
			 size_t *n)
{
	uint32_t bit = BIT(usb_dci(ep->address));
	enum usb_result res;

	*n = 0;
	if (!u->configuration || u->halted & bit)
		return USB_STALL;
	if (ep->address & USB_DIR_IN)
		res = u->ops->in(u, ep->address, buf, len, n);
	else
		res = u->ops->out(u, ep->address, buf, len, n);
	if (res == USB_STALL)
		u->halted |= bit;
	return res;
}

void usb_reset(struct usb_dev *u)
{
	u->configuration = 0;
	u->halted = 0;
	u->ops->reset(u);
}
