/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <string.h>

#include "back/input.h"
#include "bench/tb_xhci.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A driver's mostly valid operations on a controller with all three devices: the first input byte says how far it is set
 * up before the script begins. Memory of rings and contexts is taken once per input.
 */
#define DEVICES 3
#define NORMAL (XHCI_TR_NORMAL << XHCI_TRB_TYPE_SHIFT)

static const uint8_t eps[] = { 3, 3, 3, 4, 1, 2, 5, 31 };

static unsigned int any_slot(struct fz *f)
{
	uint8_t v = fz_u8(f);

	return v < 240 ? 1u + v % DEVICES : v % (XHCI_SLOTS + 1);
}

static uint64_t pointer(struct fz_script *s, struct fz *f)
{
	uint8_t v = fz_u8(f);

	return v < 224 ? s->arena + 64ull * v : fz_value(f);
}

/* A TRB into a ring that exists, with a field spoilt now and then. */
static void push(struct tb_xhci *x, struct fz *f, unsigned int slot, unsigned int dci,
		 struct xhci_trb trb)
{
	if (slot && (slot > XHCI_SLOTS || !x->ring[slot][dci].base))
		return;
	switch (fz_pick(f, 32)) {
	case 29:
		trb.param = fz_value(f);
		break;
	case 30:
		trb.status = (uint32_t)fz_value(f);
		break;
	case 31:
		trb.control ^= BIT(fz_pick(f, 32)) & ~XHCI_TRB_CYCLE;
		break;
	}
	tb_xhci_push(x, slot, dci, trb.param, trb.status, trb.control);
}

static void bell(struct tb_xhci *x, struct fz *f, unsigned int slot, unsigned int dci)
{
	uint8_t v = fz_u8(f);

	if (v % 8 != 7)
		tb_xhci_w(x, XHCI_DOORBELLS + 4 * slot, dci);
	else
		tb_xhci_w(x, XHCI_DOORBELLS + 4 * fz_u8(f), (uint32_t)fz_value(f));
	if (v % 4 != 3)
		while (tb_xhci_next(x))
			;
}

static void control(struct fz_script *s, struct fz *f)
{
	static const uint16_t requests[] = { 0x8006, 0x8106, 0x8000, 0x8200, 0x0009, 0x0201,
					     0x0203, 0xa101, 0xa102, 0xa103, 0x2109, 0x210a,
					     0x210b, 0x21ff, 0xa1fe, 0x8008, 0x810a, 0x010b };
	static const uint16_t values[] = { 1, 0x0100, 0x0200, 0x0302, 0x2200, 0 };
	static const uint16_t indexes[] = { 0, 0x81, 0x02 };
	struct tb_xhci *x = s->arg;
	uint16_t req = requests[fz_pick(f, ARRAY_LEN(requests))];
	uint64_t value = fz_u8(f) % 4 != 3 ? values[fz_pick(f, ARRAY_LEN(values))] : fz_u16(f);
	uint64_t length = fz_u8(f) % 8 != 7 ? fz_pick(f, 65) : fz_u16(f);
	uint64_t index = indexes[fz_pick(f, ARRAY_LEN(indexes))];
	unsigned int slot = any_slot(f);
	uint32_t dir = req & 0x8000 ? XHCI_TRB_DIR_IN : 0;

	push(x, f, slot, 1,
	     (struct xhci_trb){ (uint64_t)(req >> 8) | (uint64_t)(req & 0xff) << 8 | value << 16 |
					index << 32 | length << 48,
				8, XHCI_TR_SETUP << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IDT });
	if (length)
		push(x, f, slot, 1,
		     (struct xhci_trb){ pointer(s, f), (uint32_t)length,
					XHCI_TR_DATA << XHCI_TRB_TYPE_SHIFT | dir });
	push(x, f, slot, 1,
	     (struct xhci_trb){ 0, 0, XHCI_TR_STATUS << XHCI_TRB_TYPE_SHIFT | XHCI_TRB_IOC });
	bell(x, f, slot, 1);
}

static void transfer(struct fz_script *s, struct fz *f)
{
	struct tb_xhci *x = s->arg;
	unsigned int slot = any_slot(f), dci = eps[fz_pick(f, ARRAY_LEN(eps))];
	uint32_t len = fz_u8(f) % 8 != 7 ? fz_pick(f, 64) * 64u : (uint32_t)fz_value(f);
	uint32_t type = fz_u8(f) % 8 != 7 ? XHCI_TR_NORMAL : fz_pick(f, 64);

	push(x, f, slot, dci,
	     (struct xhci_trb){ pointer(s, f), len,
				type << XHCI_TRB_TYPE_SHIFT | (fz_u8(f) & 0x74) });
	bell(x, f, slot, dci);
}

/* A whole command of the disk: wrapper, data, status. */
static void disk_command(struct fz_script *s, struct fz *f)
{
	static const uint8_t opcodes[] = { 0x28, 0x2a, 0x35, 0x12, 0x1a, 0x25, 0x03, 0x88,
					   0x8a, 0xa8, 0xaa, 0x5a, 0x9e, 0x23, 0xa0, 0x2f };
	struct tb_xhci *x = s->arg;
	uint8_t *cbw = tb_mem(s->tb, s->arena, 31);
	uint8_t op = opcodes[fz_pick(f, ARRAY_LEN(opcodes))], how = fz_u8(f);
	bool in = op != 0x2a && op != 0x8a && op != 0xaa;
	uint32_t blocks = fz_pick(f, fz_u8(f) % 4 == 3 ? 600 : 4);

	memset(cbw, 0, 31);
	put_le32(cbw, 0x43425355);
	put_le32(cbw + 4, how);
	put_le32(cbw + 8, how % 4 == 3 ? (uint32_t)fz_value(f) : blocks * 512);
	cbw[12] = in == (how % 16 != 15) ? 0x80 : 0;
	cbw[14] = 10;
	cbw[15] = op;
	cbw[19] = fz_u8(f);
	put_be16(cbw + 22, (uint16_t)blocks);
	if (how % 32 == 31)
		cbw[fz_pick(f, 31)] = fz_u8(f);
	push(x, f, 3, 4, (struct xhci_trb){ s->arena, 31, NORMAL | XHCI_TRB_IOC });
	bell(x, f, 3, 4);
	for (uint32_t i = 0; blocks && i < 5; i++) {
		uint32_t part = MIN(blocks * 512, 65536u);

		blocks -= part / 512;
		push(x, f, 3, in ? 3 : 4,
		     (struct xhci_trb){ s->arena, part, NORMAL | XHCI_TRB_IOC | XHCI_TRB_ISP });
	}
	bell(x, f, 3, in ? 3 : 4);
	push(x, f, 3, 3, (struct xhci_trb){ s->arena + 4096, 13, NORMAL | XHCI_TRB_IOC });
	bell(x, f, 3, 3);
}

static void command(struct fz_script *s, struct fz *f)
{
	struct tb_xhci *x = s->arg;
	uint32_t type = XHCI_CR_ENABLE_SLOT + fz_pick(f, 9), slot = any_slot(f);
	unsigned int dci = eps[fz_pick(f, ARRAY_LEN(eps))];
	struct xhci_trb trb = { x->input, 0, type << XHCI_TRB_TYPE_SHIFT | slot << 24 | dci << 16 };

	if (type == XHCI_CR_SET_DEQUEUE && slot && slot <= XHCI_SLOTS)
		trb.param = (x->ring[slot][dci].base + x->ring[slot][dci].next * XHCI_TRB_SIZE) |
			    x->ring[slot][dci].cycle;
	if (type == XHCI_CR_ADDRESS_DEVICE)
		tb_xhci_address_input(x, slot, 1 + fz_pick(f, 4));
	if (fz_u8(f) % 8 == 7)
		tb_xhci_input(x, fz_pick(f, 33))[fz_pick(f, 8)] = (uint32_t)fz_value(f);
	if (fz_u8(f) % 16 == 15)
		trb.control |= XHCI_TRB_BSR;
	push(x, f, 0, 0, trb);
	bell(x, f, 0, 0);
}

static void set_up(struct tb_xhci *x, unsigned int devices)
{
	tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
	tb_xhci_start(x);
	for (unsigned int i = 1; i <= devices; i++)
		tb_xhci_configure(x, tb_xhci_attach(x, i));
}

static void person(struct fz_script *s, struct fz *f)
{
	struct input *in = tb_input(s->tb);
	unsigned int n = 1 + fz_pick(f, 24);

	if (fz_bool(f))
		for (int x = fz_u8(f); n--; x++)
			input_pointer(in, x, fz_u8(f), 256, 256, fz_u8(f) & 31);
	else
		while (n--)
			input_key(in, fz_u16(f), fz_bool(f));
}

static void controller(struct fz_script *s, struct fz *f)
{
	static const uint16_t regs[] = { XHCI_USBCMD, XHCI_USBSTS, XHCI_PORTSC, XHCI_PORTSC + 32,
					 XHCI_CRCR,   XHCI_IMAN,   XHCI_ERDP,	XHCI_ERSTSZ,
					 XHCI_ERSTBA, XHCI_CONFIG, XHCI_DCBAAP };
	struct tb_xhci *x = s->arg;

	switch (fz_pick(f, 4)) {
	case 0:
		tb_xhci_w(x, regs[fz_pick(f, ARRAY_LEN(regs))], (uint32_t)fz_value(f));
		break;
	case 1:
		tb_xhci_w(x, XHCI_USBCMD, fz_bool(f) ? XHCI_CMD_RS : 0);
		break;
	case 2:
		tb_xhci_w(x, XHCI_PORTSC + 16 * fz_pick(f, 4), XHCI_PORT_PR | fz_u32(f));
		break;
	default:
		tb_release_all(s->tb);
		tb_xhci_w(x, XHCI_USBCMD, XHCI_CMD_HCRST);
		tb_run(s->tb);
		tb_xhci_start(x);
		break;
	}
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	static void (*const ops[])(struct fz_script *, struct fz *) = {
		transfer,     transfer, control, control, disk_command,
		disk_command, person,	person,	 command, controller,
	};

	ops[fz_pick(f, ARRAY_LEN(ops))](s, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct tb_xhci x;
	struct fz_script s;

	fz_start(
		&s, &xhci_ops,
		"slot.1.device=tablet\nslot.2.device=keyboard\nslot.3.device=disk\nslot.3.path=mem:1M\n",
		one_operation);
	tb_xhci_init(&x, s.d, fz_u8(&f) % 4 != 3);
	s.arg = &x;
	set_up(&x, DEVICES - fz_pick(&f, DEVICES + 1));
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
