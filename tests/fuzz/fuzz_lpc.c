/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "fuzz/fuzz.h"
#include "hw/lpc.h"
#include "hw/models.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PM 0x600
#define SCI 9

/* The block at its usual place; its wire says what its registers say. */
static void check(struct fz_script *s)
{
	uint32_t sts_en;

	tb_cfg_write(s->d, 0x40, 4, PM | 1);
	tb_cfg_write(s->d, 0x44, 1, 0x80);
	sts_en = tb_in(s->tb, PM, 4);
	assert(tb_wire(s->tb, SCI) == ((sts_en & sts_en >> 16 & 0xffff) != 0));
	assert(tb_in(s->tb, PM + 4, 2) & 1); /* SCI_EN */
	assert(tb_in(s->tb, PM + 8, 4) <= 0xffffff);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	switch (fz_pick(f, 7)) {
	case 0:
		lpc_power_button(s->d);
		break;
	case 1:
		tb_out(s->tb, PM + 2, 2, fz_bool(f) ? 0x101 : fz_u16(f));
		break;
	case 2:
		tb_out(s->tb, PM, 1u << fz_pick(f, 3), fz_bool(f) ? 0x8521 : fz_u32(f));
		break;
	case 3:
		tb_out(s->tb, PM + 4, 2, fz_u16(f));
		break;
	case 4:
		tb_cfg_write(s->d, fz_bool(f) ? 0x40 : 0xf0, 4, fz_u32(f));
		break;
	case 5:
		tb_cfg_write(s->d, 0x44, 1, fz_u8(f));
		break;
	default:
		check(s);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct fz_script s;

	fz_start(&s, &lpc_ops, NULL, one_operation);
	s.ports[0].base = PM;
	s.ports[0].len = 0x80;
	s.ports[1].base = 0x92;
	s.ports[2].base = 0xcf8;
	s.ports[1].len = 1;
	s.ports[2].len = 8;
	fz_run(&s, &f);
	check(&s);
	fz_end(&s);
	return 0;
}
