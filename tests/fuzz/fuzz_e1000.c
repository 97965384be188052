/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <string.h>

#include "bench/tb_e1000.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * A driver that mostly does what is right, with rings of 32 and all its frames in the arena. A zero byte, which is also
 * what a script that has ended reads, always stands for the well-formed choice.
 */
#define ENTRIES 32
#define DATA (E1000_TXD_DEXT | E1000_TXD_DTYP_DATA << E1000_TXD_DTYP_SHIFT)
#define BOTH_SUMS (E1000_TXD_IXSM | E1000_TXD_TXSM)

/* The rings have fixed places, so that a script of any length fits into memory. */
static void bring_up(struct tb_e1000 *e)
{
	tb_alloc_reset(e->tb);
	tb_reserve(e->tb, FZ_ARENA, 4096);
	tb_e1000_rings(e, ENTRIES, ENTRIES);
	tb_e1000_w(e, E1000_IMS, E1000_INT_ALL);
	tb_e1000_w(e, E1000_TCTL, E1000_TCTL_EN | E1000_TCTL_PSP);
	tb_e1000_w(e, E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_UPE);
}

/* A byte that is mostly left as it is. */
static uint8_t bent(struct fz *f, uint8_t good)
{
	return fz_u8(f) % 16 == 15 ? fz_u8(f) : good;
}

/* Buffer of a descriptor: in the arena, sometimes anything. */
static uint64_t buffer(struct fz_script *s, struct fz *f)
{
	if (fz_u8(f) % 32 == 31)
		return fz_value(f);
	return s->arena + fz_pick(f, FZ_ARENA / 2);
}

/* A frame in one to five pieces that follow each other in memory. */
static void push_frame(struct tb_e1000 *e, struct fz *f, uint64_t addr, uint32_t len, uint32_t bits,
		       uint32_t upper)
{
	uint32_t pieces = 1 + fz_pick(f, 5);

	for (uint32_t i = 1; i < pieces; i++) {
		uint32_t n = MIN(len, fz_pick(f, 300));

		tb_e1000_push(e, addr, n | bits, upper);
		addr += n;
		len -= n;
	}
	if (fz_u8(f) % 16 != 15)
		bits |= E1000_TXD_EOP;
	tb_e1000_push(e, addr, len | bits, upper);
	if (fz_u8(f) % 4 != 3)
		tb_e1000_w(e, E1000_TDT, e->tx_tail);
}

static uint32_t command_bits(struct fz *f)
{
	uint8_t v = fz_u8(f);

	return E1000_TXD_RS | (v & 1 ? E1000_TXD_IDE : 0) | (v & 2 ? E1000_TXD_VLE : 0);
}

static void send_legacy(struct fz_script *s, struct fz *f)
{
	uint32_t sums = fz_bool(f) ? E1000_TXD_IC | (uint32_t)fz_u8(f) << 16 : 0;

	push_frame(s->arg, f, buffer(s, f), fz_pick(f, 2000), sums | command_bits(f),
		   (uint32_t)fz_u8(f) << 8 | (uint32_t)fz_u16(f) << 16);
}

/* Headers at addr, the fields that checks look at being right most of the time. */
static void put_headers(struct fz_script *s, struct fz *f, uint64_t addr, bool ip6)
{
	uint8_t h[74] = { 2 };
	unsigned int tcp = ip6 ? 54 : 34;

	put_be16(h + 12, ip6 ? 0x86dd : 0x0800);
	h[14] = bent(f, ip6 ? 0x60 : 0x45);
	h[ip6 ? 20 : 23] = bent(f, 6);
	h[tcp + 12] = bent(f, 0x50);
	mem_write(tb_memory(s->tb), addr, h, sizeof(h));
}

/* Context and frame, for checksums or segmentation. */
static void send_offload(struct fz_script *s, struct fz *f)
{
	static const uint16_t sizes[] = { 1460, 1000, 100, 9000, 7, 0, 65535, 1 };
	uint64_t addr = s->arena + fz_pick(f, FZ_ARENA / 2), low;
	bool ip6 = fz_bool(f), tso = fz_u8(f) % 4 != 3;
	uint32_t payload = fz_pick(f, 20000), lower, bits = DATA | command_bits(f);
	uint8_t tucss = bent(f, ip6 ? 54 : 34), hdrlen = bent(f, ip6 ? 74 : 54);
	struct tb_e1000 *e = s->arg;

	put_headers(s, f, addr, ip6);
	low = bent(f, 14) | (uint64_t)bent(f, 24) << 8 | (uint64_t)bent(f, 33) << 16 |
	      (uint64_t)tucss << 32 | (uint64_t)bent(f, (uint8_t)(tucss + 16)) << 40;
	lower = E1000_TXD_DEXT | E1000_TUCMD_TCP | (ip6 ? 0 : E1000_TUCMD_IP);
	lower |= fz_u8(f) % 16 == 15 ? (uint32_t)fz_value(f) & E1000_TXD_LEN_MASK : payload;
	if (fz_u8(f) % 8 != 7)
		tb_e1000_push(e, low, lower,
			      (uint32_t)hdrlen << 8 | (uint32_t)sizes[fz_pick(f, ARRAY_LEN(sizes))]
							      << 16);
	if (tso)
		bits |= E1000_TXD_TSE;
	push_frame(e, f, addr, hdrlen + payload, bits, tso ? BOTH_SUMS : fz_u16(f));
}

/* A frame from outside: for the guest, for all, tagged, or noise. */
static void receive(struct fz_script *s, struct fz *f)
{
	static const uint8_t kinds[][14] = {
		{ 0x58, 0x9c, 0xfc, 1, 2, 3, 2, 2, 2, 2, 2, 2, 8, 0 },
		{ 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 2, 2, 2, 2, 2, 8, 0 },
		{ 1, 0, 0x5e, 0, 0, 0xfb, 2, 2, 2, 2, 2, 2, 0x86, 0xdd },
		{ 0x58, 0x9c, 0xfc, 1, 2, 3, 2, 2, 2, 2, 2, 2, 0x81, 0 },
	};
	static uint8_t frame[17000];
	uint8_t how = fz_u8(f);
	struct net_hdr h = { .flags = how & 0x10 ? NET_HDR_DATA_VALID : 0 };
	size_t len = how & 0x20 ? fz_pick(f, sizeof(frame)) : 14u + fz_u8(f);

	memcpy(frame, kinds[how % 4], 14);
	frame[14] = bent(f, 0x45);
	frame[15] = fz_u8(f);
	if (how & 0x40) {
		h.flags = NET_HDR_NEEDS_CSUM;
		h.csum_start = bent(f, 34);
		h.csum_offset = bent(f, 16);
	}
	if (tb_net_peer(s->tb, 0))
		tb_net_queue(s->tb, 0, 0, &h, frame, len);
}

/* The guest's loop: take what came, give buffers back. */
static void take(struct fz_script *s, struct fz *f)
{
	struct tb_e1000 *e = s->arg;
	uint64_t info;

	tb_run(s->tb);
	for (uint32_t i = 0; i < ENTRIES && tb_e1000_pop(e, &info); i++)
		;
	tb_e1000_r(e, E1000_ICR);
	tb_e1000_w(e, E1000_RDT, (e->rx_seen + ENTRIES - 1 - fz_pick(f, 8)) % ENTRIES);
}

/* Another buffer for a receive descriptor. */
static void place_buffer(struct fz_script *s, struct fz *f)
{
	struct tb_e1000 *e = s->arg;
	uint64_t addr = buffer(s, f);

	mem_write(tb_memory(s->tb), e->rx + 16 * fz_pick(f, ENTRIES), &addr, sizeof(addr));
}

/* Registers that drivers write while they run. */
static void control(struct fz_script *s, struct fz *f)
{
	static const struct {
		uint16_t reg;
		uint32_t mask, set;
	} writes[] = {
		{ E1000_RCTL, 0xffffffff, E1000_RCTL_EN },
		{ E1000_TCTL, 0xfffffffa, E1000_TCTL_EN },
		{ E1000_CTRL, 0xffffffff & ~E1000_CTRL_RST, E1000_CTRL_SLU },
		{ E1000_ITR, 0xffff, 0 },
		{ E1000_TIDV, 0xff, 0 },
		{ E1000_TADV, 0xff, 0 },
		{ E1000_RDTR, 0xff, 0 },
		{ E1000_RADV, 0xff, 0 },
		{ E1000_RXCSUM, 0x300, 0 },
		{ E1000_MDIC, 0xffff, 1u << 26 | 1u << 21 },
		{ E1000_RDT, 0x3f, 0 },
		{ E1000_TDT, 0x3f, 0 },
		{ E1000_RDH, 0x3f, 0 },
		{ E1000_TDH, 0x3f, 0 },
		{ E1000_RDLEN, 0x7ff, 0 },
		{ E1000_TDLEN, 0x7ff, 0 },
	};
	struct tb_e1000 *e = s->arg;
	unsigned int i = fz_pick(f, ARRAY_LEN(writes) + 4);

	if (i < ARRAY_LEN(writes)) {
		tb_e1000_w(e, writes[i].reg, (fz_u32(f) & writes[i].mask) | writes[i].set);
		return;
	}
	if (i == ARRAY_LEN(writes))
		tb_e1000_w(e, E1000_CTRL, E1000_CTRL_RST);
	bring_up(e);
}

/* What happens to the line and the cable. */
static void line(struct fz_script *s, struct fz *f)
{
	struct net_fault fault = { .fail_errno = 5 };

	switch (fz_pick(f, 5)) {
	case 0:
		tb_net_fault(s->tb, 0, NULL);
		break;
	case 1:
		fault.hold = true;
		fault.fail_nth = (int)fz_pick(f, 4);
		tb_net_fault(s->tb, 0, &fault);
		break;
	case 2:
		net_fault_release(tb_net(s->tb, 0), 1 + fz_pick(f, 4));
		break;
	case 3:
		tb_net_link(s->tb, 0, fz_bool(f));
		break;
	default:
		dev_link(s->d, fz_bool(f));
		break;
	}
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	static void (*const ops[])(struct fz_script *, struct fz *) = {
		send_offload, send_offload, send_offload, send_legacy, send_legacy,
		receive,      receive,	    receive,	  take,	       take,
		place_buffer, control,	    line,
	};

	ops[fz_pick(f, ARRAY_LEN(ops))](s, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct tb_e1000 e;
	struct fz_script s;

	fz_start(&s, &e1000_ops, "mac=58:9c:fc:01:02:03\n", one_operation);
	tb_e1000_init(&e, s.d);
	s.arg = &e;
	bring_up(&e);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
