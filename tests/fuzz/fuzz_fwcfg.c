/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "fw/fwcfg.h"
#include "util/bytes.h"
#include "util/log.h"

/* A guest at the ports and the DMA interface of fw_cfg, checked against a model of what it must read. */

#define DESC 0x1000
#define BUF 0x2000
#define ROM_LEN 300
#define RAM_LEN 28
#define LAZY_LEN 40
#define KEY_ROM 0x20
#define KEY_RAM 0x21
#define KEY_LAZY 0x22

enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

struct world {
	struct tb *tb;
	struct dev *d;
	uint8_t rom[ROM_LEN], ram[RAM_LEN], lazy[LAZY_LEN];
	unsigned int made;
	uint16_t key;
	uint64_t offset;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void make_lazy(void *arg)
{
	struct world *w = arg;

	memset(w->lazy, (int)++w->made, sizeof(w->lazy));
	assert(fwcfg_replace_file(w->d, "lazy", w->lazy, sizeof(w->lazy)) == 0);
}

/* What the item under the selected key holds. NULL: not in the model (or nothing). */
static const uint8_t *model_item(const struct world *w, uint64_t *len)
{
	switch (w->key & 0xbfff) {
	case 0:
		*len = 4;
		return (const uint8_t *)"QEMU";
	case KEY_ROM:
		*len = ROM_LEN;
		return w->rom;
	case KEY_RAM:
		*len = RAM_LEN;
		return w->ram;
	case KEY_LAZY:
		*len = LAZY_LEN;
		return w->lazy;
	default:
		*len = 0;
		return NULL;
	}
}

static bool in_model(const struct world *w)
{
	unsigned int key = w->key & 0xbfff;

	return key != 1 && key != 0x19; /* their contents are not checked */
}

static void model_select(struct world *w, uint16_t key)
{
	w->key = key;
	w->offset = 0;
}

/* The next byte that the guest must see. */
static uint8_t model_byte(struct world *w)
{
	uint64_t len;
	const uint8_t *item = model_item(w, &len);

	return item && w->offset < len ? item[w->offset++] : 0;
}

static void op_select(struct world *w, struct fz *f)
{
	uint16_t key = fz_bool(f) ? (uint16_t)(0x20 + fz_pick(f, 4)) : fz_u16(f);

	tb_out(w->tb, 0x510, 2, key);
	model_select(w, key);
}

static void op_read(struct world *w, struct fz *f)
{
	unsigned int n = fz_u8(f);

	while (n--) {
		uint8_t got = (uint8_t)tb_in(w->tb, 0x511, 1);

		assert(!in_model(w) || got == model_byte(w));
	}
}

static void start(struct world *w, uint64_t at)
{
	tb_out(w->tb, 0x514, 4, __builtin_bswap32((uint32_t)(at >> 32)));
	tb_out(w->tb, 0x518, 4, __builtin_bswap32((uint32_t)at));
}

/* Control words that mean one thing, lengths around the ends of items: results are known. */
static void op_transfer(struct world *w, struct fz *f)
{
	static const uint32_t kinds[] = { DMA_READ, DMA_WRITE, DMA_SKIP, 0 };
	uint32_t kind = kinds[fz_pick(f, 4)], control = kind, len = fz_u8(f), i;
	uint8_t *d = tb_mem(w->tb, DESC, 16), *buf = tb_mem(w->tb, BUF, 512);
	uint64_t item_len;
	bool fits;

	if (fz_bool(f)) {
		uint16_t key = (uint16_t)(0x20 + fz_pick(f, 4));

		control |= DMA_SELECT | (uint32_t)key << 16;
		model_select(w, key);
	}
	for (i = 0; i < 8; i++)
		buf[i] = fz_u8(f);
	put_be32(d, control);
	put_be32(d + 4, len);
	put_be64(d + 8, BUF);
	start(w, DESC);
	model_item(w, &item_len);
	if (!in_model(w))
		return;
	fits = (w->key & 0xbfff) == KEY_RAM && len <= item_len - w->offset;
	assert(get_be32(d) == (kind == DMA_WRITE && !fits ? DMA_ERROR : 0));
	if (kind == DMA_READ)
		for (i = 0; i < len; i++)
			assert(buf[i] == model_byte(w));
	if (kind == DMA_WRITE && fits) {
		memcpy(w->ram + w->offset, buf, len);
		w->offset += len;
	}
	if (kind == DMA_SKIP)
		w->offset += MIN(len, item_len - w->offset);
}

/* Anything at all in the descriptor, which may lie anywhere. What was selected is unknown afterwards. */
static void op_any_dma(struct world *w, struct fz *f)
{
	uint64_t at = fz_bool(f) ? DESC : fz_value(f);
	uint8_t *d = tb_mem(w->tb, DESC, 16);

	/* Writes to the writable item would leave the model behind. */
	put_be32(d, fz_u32(f) & ~(uint32_t)DMA_WRITE);
	put_be32(d + 4, fz_bool(f) ? fz_u32(f) : fz_u16(f));
	put_be64(d + 8, fz_value(f));
	if (at == DESC)
		start(w, at);
	else if (at >= TB_RAM - 16)
		start(w, at); /* not RAM: nothing may happen */
	op_select(w, f);
}

static void op_port(struct world *w, struct fz *f)
{
	uint16_t port = (uint16_t)(0x510 + fz_pick(f, 12));
	unsigned int size = 1u << fz_pick(f, 3);

	/* The low half of the address would start something unknown. */
	if (fz_bool(f) && port + size <= 0x518)
		tb_out(w->tb, port, size, fz_u32(f));
	else
		tb_in(w->tb, port, size);
	op_select(w, f);
}

static void op_reset(struct world *w, struct fz *f)
{
	dev_pause(w->d, NULL, NULL);
	dev_reset(w->d);
	dev_resume(w->d);
	memset(w->ram, 0, sizeof(w->ram));
	op_select(w, f);
}

static void make_world(struct world *w)
{
	struct env env;

	memset(w, 0, sizeof(*w));
	w->tb = fz_bench();
	env = (struct env){ .name = "fwcfg",
			    .loop = tb_loop(w->tb),
			    .bus = tb_bus(w->tb),
			    .mem = tb_memory(w->tb) };
	for (unsigned int i = 0; i < ROM_LEN; i++)
		w->rom[i] = (uint8_t)(i * 13 + 1);
	w->key = 0xffff;
	assert(dev_new(&fwcfg_ops, &env, NULL, &w->d, NULL) == 0);
	assert(fwcfg_add_file(w->d, "rom", w->rom, ROM_LEN, NULL) == 0);
	assert(fwcfg_add_writable(w->d, "ram", RAM_LEN, NULL, NULL, NULL) == 0);
	assert(fwcfg_add_file(w->d, "lazy", w->lazy, LAZY_LEN, NULL) == 0);
	fwcfg_on_select(w->d, "lazy", make_lazy, w);
	assert(dev_start(w->d, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ops[])(struct world *,
				   struct fz *) = { op_select,	op_read, op_transfer, op_transfer,
						    op_any_dma, op_port, op_reset };
	struct fz f = fz_of(data, size);
	struct world w;

	log_set(-1, LOG_LEVEL_ERROR);
	make_world(&w);
	for (unsigned int i = 0; f.left && i < 500; i++)
		ops[fz_pick(&f, ARRAY_LEN(ops))](&w, &f);
	dev_pause(w.d, NULL, NULL);
	dev_free(w.d);
	return 0;
}
