/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "dev/probe.h"
#include "fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t msix_at(struct fz_script *s, unsigned int vector, unsigned int field)
{
	return tb_bar(s->d, PROBE_BAR_REGS) + 4096 + 16 * vector + 4 * field;
}

/* What a message may look like: nothing but a local APIC is ever written to. */
static void check_messages(struct fz_script *s)
{
	uint64_t addr;
	uint32_t data;

	if (!tb_msis(s->tb))
		return;
	tb_last_msi(s->tb, &addr, &data);
	assert(addr >> 20 == 0xfee);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	uint32_t aim;

	switch (fz_pick(f, 8)) {
	case 0:
		tb_w32(s->d, PROBE_BAR_REGS, PROBE_FIRE, fz_pick(f, PROBE_VECTORS + 1));
		break;
	case 1:
		tb_w32(s->d, PROBE_BAR_REGS, PROBE_LEVEL, fz_bool(f));
		break;
	case 2: /* an MSI-X table entry, mask bits mostly */
		tb_write(s->tb, msix_at(s, fz_pick(f, 128), fz_bool(f) ? 3 : fz_pick(f, 4)), 4,
			 fz_value(f));
		break;
	case 3:
		tb_msix_function_mask(s->d, fz_bool(f));
		break;
	case 4: /* a BAR to a place that makes sense */
		tb_cfg_write(s->d, 0x10 + 4 * fz_pick(f, 6), 4,
			     fz_bool(f) ? 0xc0000000u + fz_u8(f) * 0x1000u : fz_u16(f));
		break;
	case 5:
		tb_w64(s->d, PROBE_BAR_REGS, PROBE_DMA, fz_value(f));
		break;
	case 6:
		aim = 0x80000000u | (uint32_t)pci_fn_of(s->d)->devfn << 8;
		tb_out(s->tb, 0xcf8, 4, aim | fz_u8(f));
		tb_out(s->tb, (uint16_t)(0xcfc + fz_pick(f, 4)), 1u << fz_pick(f, 3), fz_u32(f));
		break;
	default:
		(void)pci_bus_set_ecam(tb_pci(s->tb), 0xe0000000u);
		tb_read(s->tb, 0xe0000000u + fz_u16(f) + fz_u8(f) * 4096u, 1u << fz_pick(f, 4));
		break;
	}
	check_messages(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct fz_script s;

	fz_start(&s, &probe_ops, NULL, one_operation);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
