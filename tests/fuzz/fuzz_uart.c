/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "back/chr.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "hw/uart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COM1 0x3f8

/* Takes what the port has received: never more than a FIFO holds. */
static void drain(struct fz_script *s)
{
	unsigned int n = 0;

	tb_out(s->tb, COM1 + 3, 1, 0x03);
	while (tb_in(s->tb, COM1 + 5, 1) & 1) {
		tb_in(s->tb, COM1, 1);
		assert(++n <= 16);
	}
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	switch (fz_pick(f, 6)) {
	case 0: /* loop-back, so that there is something to receive */
		tb_out(s->tb, COM1 + 4, 1, 0x10 | fz_u8(f));
		break;
	case 1:
		tb_out(s->tb, COM1 + 3, 1, fz_bool(f) ? 0x03 : 0x83);
		break;
	case 2:
		tb_out(s->tb, COM1 + 2, 1, fz_u8(f));
		break;
	case 3:
		for (unsigned int n = fz_pick(f, 20); n > 0; n--)
			tb_out(s->tb, COM1, 1, n);
		break;
	case 4:
		tb_out(s->tb, COM1 + 1, 1, fz_u8(f));
		/* Enabled, gated and pending, or low. */
		assert(!tb_wire(s->tb, 4) || !(tb_in(s->tb, COM1 + 2, 1) & 1));
		break;
	default:
		drain(s);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct fz_script s;

	fz_start(&s, &uart_ops, "path=ring", one_operation);
	s.ports[0].base = COM1;
	s.ports[0].len = UART_SIZE;
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
