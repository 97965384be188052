/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "back/input.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "hw/ps2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DATA 0x60
#define COMMAND 0x64

/* Takes everything: the keyboard has no more than its queue, the output buffer and what translation adds. */
static void drain(struct fz_script *s)
{
	unsigned int kbd = 0, all = 0;
	uint8_t status;

	while ((status = (uint8_t)tb_in(s->tb, COMMAND, 1)) & 1) {
		kbd += !(status & 0x20);
		tb_in(s->tb, DATA, 1);
		assert(kbd <= PS2_QUEUE + 1);
		assert(++all < 2000);
	}
	assert(!tb_wire(s->tb, 1) && !tb_wire(s->tb, 12));
}

static void move(struct fz_script *s, struct fz *f)
{
	int x = fz_u16(f), y = fz_u16(f);

	input_pointer(tb_input(s->tb), x, y, 1024, 768, fz_u8(f) & 0x1f);
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	static const uint16_t codes[] = { 0x1e, 0xe048, 0xe11d, 0x58, 0x7f };
	uint16_t code;

	switch (fz_pick(f, 8)) {
	case 0:
	case 1:
		code = codes[fz_pick(f, ARRAY_LEN(codes))];
		for (unsigned int n = 1 + fz_pick(f, 4); n > 0; n--)
			input_key(tb_input(s->tb), code, (int)(n & 1));
		break;
	case 2:
		move(s, f);
		break;
	case 3:
		tb_out(s->tb, COMMAND, 1, 0xd4);
		tb_out(s->tb, DATA, 1, 0xe6u + fz_pick(f, 26));
		break;
	case 4:
		tb_out(s->tb, DATA, 1, 0xedu + fz_pick(f, 19));
		break;
	case 5:
		tb_out(s->tb, COMMAND, 1, fz_u8(f));
		tb_out(s->tb, DATA, 1, fz_u8(f));
		break;
	case 6:
		input_key(tb_input(s->tb), fz_u16(f), fz_bool(f));
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

	fz_start(&s, &i8042_ops, NULL, one_operation);
	s.ports[0].base = DATA;
	s.ports[1].base = COMMAND;
	s.ports[0].len = s.ports[1].len = 1;
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
