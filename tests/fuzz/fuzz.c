/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>

#include "util/clock.h"
#include "util/log.h"

#define MAX_OPS 2000
#define USES 32 /* inputs that share a bench */

/* Making a bench takes longer than most inputs: one is used for some, and is renewed between them. */
struct kept {
	struct tb *tb;
	struct dev *d;
	unsigned int uses;
};

static struct kept *kept_bench(void)
{
	static struct kept k;

	return &k;
}

uint64_t fz_value(struct fz *f)
{
	uint8_t how = fz_u8(f);

	switch (how % 8) {
	case 0:
		return how / 8;
	case 1:
		return fz_u8(f);
	case 2:
		return BIT64(fz_u8(f) % 64);
	case 3:
		return UINT64_MAX - fz_u8(f);
	case 4: /* a page of the arena */
		return 1 * MIB + (fz_u8(f) % 16) * 4096u;
	case 5: /* around the end of RAM */
		return TB_RAM + fz_u8(f) - 128u;
	case 6:
		return fz_u32(f);
	default:
		return fz_u64(f);
	}
}

void fz_start(struct fz_script *s, const struct dev_ops *ops, const char *conf,
	      void (*op)(struct fz_script *s, struct fz *f))
{
	const struct tb_opts opts = { .faults = true, .disk_size = 1 * MIB, .screen = true };
	struct kept *k = kept_bench();
	struct pci_fn *fn;

	log_set(-1, LOG_LEVEL_ERROR);
	if (k->tb) {
		tb_renew(k->tb);
	} else {
		k->tb = tb_new(&opts);
		k->d = tb_add(k->tb, ops, conf, NULL);
		assert(k->d);
	}
	*s = (struct fz_script){ .tb = k->tb, .d = k->d, .op = op };
	s->arena = tb_reserve(s->tb, FZ_ARENA, 4096);
	fn = pci_bus_find(tb_pci(s->tb), s->d->env.slot->devfn);
	s->pci = fn && &fn->dev == s->d;
	if (!s->pci)
		return;
	tb_pci_enable(s->d);
	if (tb_cap(s->d, 0x11, 0))
		tb_msix_enable(s->d);
	for (unsigned int i = 0; i < PCI_BARS; i++)
		if (tb_bar_size(s->d, i))
			s->bars[s->nbars++] = i;
}

struct tb *fz_bench(void)
{
	static struct tb *tb;

	if (tb)
		tb_renew(tb);
	else
		tb = tb_new(NULL);
	return tb;
}

/* --- operations --- */

/* An offset in len bytes: mostly aligned to the access, sometimes not, sometimes over the end. */
static uint64_t offset_in(struct fz *f, uint64_t len, unsigned int size)
{
	uint64_t offset = (len > 65536 ? fz_u32(f) : fz_u16(f)) % len;

	return fz_u8(f) % 16 ? ALIGN_DOWN(offset, size) : offset;
}

static unsigned int access_size(struct fz *f)
{
	static const uint8_t sizes[] = { 4, 4, 4, 4, 8, 2, 1, 1 };

	return sizes[fz_pick(f, ARRAY_LEN(sizes))];
}

static void access_mmio(struct fz_script *s, struct fz *f, uint64_t base, uint64_t len)
{
	unsigned int size = access_size(f);
	uint64_t addr = base + offset_in(f, len, size);

	if (fz_u8(f) % 4)
		tb_write(s->tb, addr, size, fz_value(f));
	else
		tb_read(s->tb, addr, size);
}

static void access_port(struct fz_script *s, struct fz *f, uint16_t base, uint16_t len)
{
	unsigned int size = MIN(access_size(f), 4u);
	uint16_t port = (uint16_t)(base + offset_in(f, len, size));

	if (fz_u8(f) % 4)
		tb_out(s->tb, port, size, (uint32_t)fz_value(f));
	else
		tb_in(s->tb, port, size);
}

static void op_registers(struct fz_script *s, struct fz *f)
{
	unsigned int bar, port = fz_pick(f, FZ_MAX_PORTS);

	if (s->nbars) {
		bar = s->bars[fz_pick(f, s->nbars)];
		if (pci_fn_of(s->d)->desc->bars[bar].kind == PCI_BAR_IO)
			access_port(s, f, (uint16_t)tb_bar(s->d, bar),
				    (uint16_t)tb_bar_size(s->d, bar));
		else
			access_mmio(s, f, tb_bar(s->d, bar), tb_bar_size(s->d, bar));
	} else if (s->mmio && (fz_bool(f) || !s->ports[port].len)) {
		access_mmio(s, f, s->mmio, s->mmio_len);
	} else if (s->ports[port].len) {
		access_port(s, f, s->ports[port].base, s->ports[port].len);
	}
}

static void op_config(struct fz_script *s, struct fz *f)
{
	unsigned int size = MIN(access_size(f), 4u), offset = fz_u8(f) & ~(size - 1);

	if (!s->pci)
		return;
	if (fz_u8(f) % 4)
		tb_cfg_write(s->d, offset, size, (uint32_t)fz_value(f));
	else
		tb_cfg_read(s->d, offset, size);
}

/* Back to a state in which the device does something. */
static void op_enable(struct fz_script *s, struct fz *f)
{
	(void)f;
	if (!s->pci)
		return;
	tb_pci_enable(s->d);
	if (tb_cap(s->d, 0x11, 0))
		tb_msix_enable(s->d);
}

static void op_bus_master(struct fz_script *s, struct fz *f)
{
	if (s->pci)
		tb_bus_master(s->d, fz_bool(f));
}

static void op_ram(struct fz_script *s, struct fz *f)
{
	gpa_t at = s->arena + fz_pick(f, FZ_ARENA - 256);
	unsigned int n = fz_pick(f, 33);

	if (fz_u8(f) % 8 == 0) {
		mem_fill(tb_memory(s->tb), at, fz_u8(f), 256);
		return;
	}
	at = ALIGN_DOWN(at, 4);
	for (unsigned int i = 0; i < n; i += 4)
		tb_write(s->tb, at + i, 4, fz_u32(f));
}

static void op_value_to_ram(struct fz_script *s, struct fz *f)
{
	gpa_t at = s->arena + ALIGN_DOWN(fz_pick(f, FZ_ARENA - 8), 8u);

	tb_write(s->tb, at, 8, fz_value(f));
}

static void op_run(struct fz_script *s, struct fz *f)
{
	(void)f;
	tb_run(s->tb);
}

static void op_advance(struct fz_script *s, struct fz *f)
{
	tb_advance(s->tb, fz_u16(f) * 10 * NS_PER_US);
}

static void op_fault(struct fz_script *s, struct fz *f)
{
	static const int errors[] = { EIO, ENOSPC, EINVAL, EROFS, EOPNOTSUPP };
	struct blk_fault fault = {
		.fail_nth = (int)fz_pick(f, 4) - 1,
		.fail_errno = errors[fz_pick(f, ARRAY_LEN(errors))],
		.fail_op = (int)fz_pick(f, 6) - 1,
		.hold = fz_bool(f),
	};

	if (tb_disk(s->tb, 0))
		tb_fault(s->tb, 0, &fault);
}

/* Completions in any order. */
static void op_release(struct fz_script *s, struct fz *f)
{
	unsigned int index = fz_pick(f, 8), n = 1 + fz_pick(f, 4);

	if (tb_disk(s->tb, 0))
		blk_fault_release(tb_disk(s->tb, 0), index, n);
}

static void finish_pause(struct fz_script *s)
{
	if (!tb_pause(s->tb)) {
		tb_release_all(s->tb);
		assert(tb_pause(s->tb));
	}
}

/* The first one only asks; requests that are held keep the device from being paused. */
static void op_pause(struct fz_script *s, struct fz *f)
{
	if (!s->paused) {
		tb_pause(s->tb);
		s->paused = true;
		return;
	}
	finish_pause(s);
	if (fz_bool(f))
		dev_reset(s->d);
	tb_resume(s->tb);
	s->paused = false;
}

static void op_anywhere(struct fz_script *s, struct fz *f)
{
	uint64_t addr = fz_value(f);
	unsigned int size = access_size(f);

	/* Not into RAM, where nobody looks. */
	if (addr < TB_RAM)
		tb_out(s->tb, (uint16_t)addr, MIN(size, 4u), (uint32_t)fz_value(f));
	else
		tb_write(s->tb, addr, size, fz_value(f));
}

static void op_own(struct fz_script *s, struct fz *f)
{
	if (s->op)
		s->op(s, f);
	else
		op_registers(s, f);
}

void fz_run(struct fz_script *s, struct fz *f)
{
	static void (*const ops[])(struct fz_script *, struct fz *) = {
		op_own,	      op_own,	       op_own,	      op_own,	    op_own,	op_own,
		op_registers, op_registers,    op_registers,  op_registers, op_run,	op_run,
		op_ram,	      op_value_to_ram, op_config,     op_release,   op_advance, op_fault,
		op_pause,     op_enable,       op_bus_master, op_anywhere,
	};

	for (int i = 0; i < MAX_OPS && f->left; i++)
		ops[fz_pick(f, ARRAY_LEN(ops))](s, f);
}

void fz_end(struct fz_script *s)
{
	struct kept *k = kept_bench();

	/* Every request that was accepted completes, whatever the guest did (R7). */
	tb_release_all(s->tb);
	finish_pause(s);
	assert(tb_balanced(s->tb));
	if (++k->uses < USES)
		return;
	tb_free(k->tb);
	*k = (struct kept){ 0 };
}
