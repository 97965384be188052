/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <errno.h>

#include "bench/tb.h"
#include "dev/probe.h"
#include "run.h"
#include "util/bytes.h"
#include "util/err.h"

#define VECTORS PROBE_VECTORS
#define BAR_REGS PROBE_BAR_REGS
#define BAR_IO PROBE_BAR_IO
#define BAR_MEM PROBE_BAR_MEM
#define BELL PROBE_BELL
#define PBA PROBE_PBA

struct setup {
	struct tb *tb;
	struct dev *d;
	struct probe *p;
};

static struct setup make_with(const struct tb_opts *opts)
{
	struct setup s = { .tb = tb_new(opts) };

	s.d = tb_add(s.tb, &probe_ops, NULL, NULL);
	CHECK(s.d);
	s.p = probe_of(s.d);
	return s;
}

/* Enumerated, MSI-X on. */
static struct setup make(void)
{
	struct setup s = make_with(NULL);

	tb_pci_enable(s.d);
	CHECK_EQ(tb_msix_enable(s.d), VECTORS);
	return s;
}

static void fire(struct setup *s, unsigned int vector)
{
	dev_lock(s->d);
	pci_msix_fire(&s->p->fn, vector);
	dev_unlock(s->d);
}

static void raise_irq(struct dev *d, bool on)
{
	dev_lock(d);
	if (on)
		pci_irq_raise(pci_fn_of(d));
	else
		pci_irq_lower(pci_fn_of(d));
	dev_unlock(d);
}

/* --- identity and configuration --- */

static void test_identity(void)
{
	struct setup s = make_with(NULL);

	CHECK_EQ(tb_cfg_read(s.d, 0x00, 4), 0x56781234);
	CHECK_EQ(tb_cfg_read(s.d, 0x08, 4), 0x01080207);
	CHECK_EQ(tb_cfg_read(s.d, 0x2c, 4), 0xdef09abc);
	CHECK_EQ(tb_cfg_read(s.d, 0x0e, 1), 0);
	CHECK_EQ(tb_cfg_read(s.d, 0x3d, 1), 1);
	CHECK_EQ(tb_cfg_read(s.d, 0x04, 4), 0x00100000);
	tb_cfg_write(s.d, 0x3c, 1, 0x2a);
	CHECK_EQ(tb_cfg_read(s.d, 0x3c, 2), 0x012a);
	/* Firmware probes what COMMAND can do. */
	tb_cfg_write(s.d, 0x04, 2, 0xffff);
	CHECK_EQ(tb_cfg_read(s.d, 0x04, 2), 0x0547);
	tb_cfg_write(s.d, 0x04, 2, 0);
	CHECK_EQ(tb_cfg_read(s.d, 0x04, 2), 0);
	tb_free(s.tb);
}

static void test_settings_and_errors(void)
{
	struct tb *tb = tb_new(NULL);
	struct dev *d;
	struct err err;

	d = tb_add(tb, &probe_ops, "value=77\nfail=false", &err);
	CHECK(d && probe_of(d)->reg == 77);
	CHECK(!tb_add(tb, &probe_ops, "fail=true", &err));
	CHECK_STR(err.text, "told to fail");
	CHECK(!tb_add(tb, &probe_ops, "valu=1", &err));
	CHECK(strstr(err.text, "value"));
	/* The slot of a failed device is free again; a taken one is refused. */
	CHECK(!pci_bus_find(tb_pci(tb), 2 << 3));
	tb_next_slot(tb, 1 << 3);
	CHECK(!tb_add(tb, &probe_ops, NULL, &err));
	CHECK(strstr(err.text, "taken by probe-0:1.0"));
	tb_free(tb);
}

static void test_multi_function(void)
{
	struct setup s = make_with(NULL);
	struct dev *other;

	tb_next_slot(s.tb, 1 << 3 | 2);
	other = tb_add(s.tb, &probe_msi_ops, NULL, NULL);
	CHECK(other);
	CHECK_EQ(tb_cfg_read(s.d, 0x0e, 1), 0x80);
	CHECK_EQ(tb_cfg_read(s.d, 0x0c, 4), 0x00800000);
	CHECK_EQ(tb_cfg_read(other, 0x0c, 2), 0);
	CHECK_EQ(tb_cfg_read(other, 0x0e, 1), 0x80);
	tb_free(s.tb);
}

/* G-15: every offset and size; read-only bits stay, nothing is read beyond. */
static void test_every_config_access(void)
{
	struct setup s = make_with(NULL);
	uint8_t before[PCI_CFG_SIZE];

	memcpy(before, s.p->fn.cfg, sizeof(before));
	for (unsigned int offset = 0; offset < 4100; offset++)
		for (unsigned int size = 1; size <= 4; size *= 2) {
			uint32_t v = pci_bus_cfg_read(tb_pci(s.tb), 0, s.p->fn.devfn, offset, size);

			CHECK(size == 4 || v >> (8 * size) == 0);
			if (offset >= 4096 || offset + size > 4096)
				CHECK_EQ(v, UINT32_MAX >> (32 - 8 * size));
			else if (offset >= 256)
				CHECK_EQ(v, 0);
			pci_bus_cfg_write(tb_pci(s.tb), 0, s.p->fn.devfn, offset, size, UINT32_MAX);
			pci_bus_cfg_write(tb_pci(s.tb), 0, s.p->fn.devfn, offset, size, 0);
		}
	CHECK_EQ(pci_bus_cfg_read(tb_pci(s.tb), 0, s.p->fn.devfn, 254, 4), 0);
	for (unsigned int i = 0; i < PCI_CFG_SIZE; i++) {
		unsigned int fixed = (uint8_t) ~(s.p->fn.wmask[i] | s.p->fn.w1c[i]);

		if (i != 0xf0)
			CHECK_EQ(s.p->fn.cfg[i] & fixed, before[i] & fixed);
	}
	CHECK(s.p->config_writes > 1000);
	tb_free(s.tb);
}

static void test_own_registers(void)
{
	struct setup s = make_with(NULL);

	tb_cfg_write(s.d, 0xe0, 4, 0xffff4455);
	CHECK_EQ(tb_cfg_read(s.d, 0xe0, 4), 0x00114455);
	tb_cfg_write(s.d, 0xe1, 1, 0x99);
	CHECK_EQ(tb_cfg_read(s.d, 0xe0, 4), 0x00119955);
	*pci_cfg(&s.p->fn, 0xe3) = 0x81;
	tb_cfg_write(s.d, 0xe3, 1, 0x01);
	CHECK_EQ(tb_cfg_read(s.d, 0xe3, 1), 0x80);
	/* The model refreshes a window before each read. */
	CHECK_EQ(tb_cfg_read(s.d, 0xf0, 1), 1);
	CHECK_EQ(tb_cfg_read(s.d, 0xf0, 4), 2);
	CHECK_EQ(tb_cfg_read(s.d, 0xf4, 4), 0);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(tb_cfg_read(s.d, 0xe0, 4), 0x00112233);
	CHECK_EQ(tb_cfg_read(s.d, 0xf0, 1), 3);
	tb_free(s.tb);
}

static void test_capabilities(void)
{
	struct setup s = make_with(NULL);
	unsigned int msix = tb_cap(s.d, 0x11, 0), exp = tb_cap(s.d, 0x10, 0);
	unsigned int own = tb_cap(s.d, 0x09, 0), second = tb_cap(s.d, 0x09, 1);

	CHECK(msix >= 0x40 && exp && own && second > own);
	CHECK(!tb_cap(s.d, 0x05, 0) && !tb_cap(s.d, 0x09, 2));
	CHECK_EQ(tb_cfg_read(s.d, msix + 2, 2), VECTORS - 1);
	CHECK_EQ(tb_cfg_read(s.d, msix + 4, 4), 4096 | BAR_REGS);
	CHECK_EQ(tb_cfg_read(s.d, msix + 8, 4), PBA | BAR_REGS);
	tb_cfg_write(s.d, msix + 2, 2, 0xffff);
	CHECK_EQ(tb_cfg_read(s.d, msix + 2, 2), 0xc000 | (VECTORS - 1));
	CHECK_EQ(tb_cfg_read(s.d, exp + 2, 2) & 0xff, 0x92);
	CHECK_EQ(tb_cfg_read(s.d, own + 2, 2), 0x0201);
	CHECK_EQ(tb_cfg_read(s.d, own + 4, 4), 0x06050403);
	tb_cfg_write(s.d, own + 2, 2, 0xffff);
	tb_cfg_write(s.d, own + 4, 4, 0xffffffff);
	CHECK_EQ(tb_cfg_read(s.d, own + 2, 2), 0x0201);
	CHECK_EQ(tb_cfg_read(s.d, own + 4, 4), 0x06050fff);
	CHECK_EQ(tb_cfg_read(s.d, second + 2, 1), 1);
	tb_free(s.tb);
}

/* --- the ways to config space --- */

static void test_ports(void)
{
	struct setup s = make_with(NULL);
	uint32_t aim = 0x80000000 | (uint32_t)s.p->fn.devfn << 8;

	tb_out(s.tb, 0xcf8, 4, aim | 0x7f000003);
	CHECK_EQ(tb_in(s.tb, 0xcf8, 4), aim);
	CHECK_EQ(tb_in(s.tb, 0xcfc, 4), 0x56781234);
	CHECK_EQ(tb_in(s.tb, 0xcfc, 2), 0x1234);
	CHECK_EQ(tb_in(s.tb, 0xcfd, 2), 0x7812);
	CHECK_EQ(tb_in(s.tb, 0xcff, 1), 0x56);
	/* Over the end of the data port. */
	CHECK_EQ(tb_in(s.tb, 0xcfe, 4), 0xffff5678);
	/* Narrow accesses do not reach the latch. */
	tb_out(s.tb, 0xcf8, 2, 0);
	tb_out(s.tb, 0xcf9, 1, 6);
	tb_out(s.tb, 0xcfb, 1, 0);
	CHECK_EQ(tb_in(s.tb, 0xcf8, 4), aim);
	CHECK_EQ(tb_in(s.tb, 0xcf8, 1), 0xff);
	/* Not enabled. */
	tb_out(s.tb, 0xcf8, 4, aim & 0x7fffffff);
	CHECK_EQ(tb_in(s.tb, 0xcfc, 4), UINT32_MAX);
	tb_out(s.tb, 0xcfc, 4, 0);
	pci_bus_reset(tb_pci(s.tb));
	CHECK_EQ(tb_in(s.tb, 0xcf8, 4), 0);
	tb_free(s.tb);
}

/* G-18 */
static void test_absent_functions(void)
{
	struct setup s = make_with(NULL);

	for (uint32_t bdf = 0; bdf < 0x10000; bdf++) {
		if (bdf == s.p->fn.devfn)
			continue;
		tb_out(s.tb, 0xcf8, 4, 0x80000000 | bdf << 8);
		CHECK_EQ(tb_in(s.tb, 0xcfc, 4), UINT32_MAX);
		tb_out(s.tb, 0xcfc, 4, 0x12345678);
	}
	CHECK_EQ(tb_cfg_read(s.d, 0, 4), 0x56781234);
	tb_free(s.tb);
}

static void test_ecam(void)
{
	struct setup s = make_with(NULL);
	uint64_t base = 0xe0000000, fn = base + ((uint64_t)s.p->fn.devfn << 12);

	CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), UINT64_MAX);
	CHECK_EQ(pci_bus_set_ecam(tb_pci(s.tb), base), 0);
	CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), base);
	CHECK_EQ(tb_read(s.tb, fn, 4), 0x56781234);
	CHECK_EQ(tb_read(s.tb, fn, 8), 0x0010000056781234);
	CHECK_EQ(tb_read(s.tb, fn + 3, 1), 0x56);
	CHECK_EQ(tb_read(s.tb, fn + 0x100, 4), 0);
	CHECK_EQ(tb_read(s.tb, fn + 0xffe, 4), UINT32_MAX);
	CHECK_EQ(tb_read(s.tb, fn + 0x1000, 4), UINT32_MAX);
	CHECK_EQ(tb_read(s.tb, fn + (1 << 20), 4), UINT32_MAX);
	CHECK_EQ(tb_read(s.tb, base + 256 * MIB - 4, 4), UINT32_MAX);
	tb_write(s.tb, fn + 0xe0, 8, 0xabcdef);
	CHECK_EQ(tb_cfg_read(s.d, 0xe0, 4), 0x0011cdef);
	CHECK_EQ(pci_bus_set_ecam(tb_pci(s.tb), 0xb0000000), 0);
	CHECK_EQ(tb_read(s.tb, fn, 4), UINT32_MAX);
	CHECK_EQ(tb_read(s.tb, fn - 0x30000000, 4), 0x56781234);
	CHECK(pci_bus_set_ecam(tb_pci(s.tb), UINT64_MAX - 4095) < 0);
	CHECK_EQ(pci_bus_ecam(tb_pci(s.tb)), UINT64_MAX);
	CHECK_EQ(pci_bus_set_ecam(tb_pci(s.tb), UINT64_MAX), 0);
	tb_free(s.tb);
}

static void count_functions(void *arg, struct pci_fn *fn)
{
	unsigned int *last = arg;

	CHECK(fn->devfn > *last);
	*last = fn->devfn;
}

static void test_bus(void)
{
	struct setup s = make_with(NULL);
	unsigned int last = 0;

	tb_next_slot(s.tb, 9 << 3);
	CHECK(tb_add(s.tb, &probe_msi_ops, NULL, NULL));
	CHECK_EQ(pci_bus_gsi(tb_pci(s.tb), 1 << 3, 1), 17);
	CHECK_EQ(pci_bus_gsi(tb_pci(s.tb), 1 << 3, 4), 16);
	CHECK_EQ(pci_bus_gsi(tb_pci(s.tb), 9 << 3 | 3, 2), 18);
	pci_bus_each(tb_pci(s.tb), count_functions, &last);
	CHECK_EQ(last, 9 << 3);
	tb_free(s.tb);
}

/* --- BARs --- */

static void test_bar_sizing(void)
{
	struct setup s = make_with(NULL);

	/* Sizing with decode on must map nothing: the halves in every order. */
	tb_cfg_write(s.d, 0x04, 2, 7);
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		tb_cfg_write(s.d, 0x10 + 4 * bar, 4, UINT32_MAX);
	CHECK_EQ(tb_cfg_read(s.d, 0x10, 4), 0xffffc004);
	CHECK_EQ(tb_cfg_read(s.d, 0x14, 4), 0xffffffff);
	CHECK_EQ(tb_cfg_read(s.d, 0x18, 4), 0xffffffe1);
	CHECK_EQ(tb_cfg_read(s.d, 0x1c, 4), 0xffffe008);
	CHECK_EQ(tb_cfg_read(s.d, 0x20, 4), 0);
	CHECK_EQ(tb_cfg_read(s.d, 0x30, 4), 0);
	CHECK_EQ(s.p->moves, 0);
	tb_cfg_write(s.d, 0x14, 4, 0);
	CHECK_EQ(s.p->moves, 0);
	tb_cfg_write(s.d, 0x10, 4, 0xc0000000);
	CHECK_EQ(s.p->moved_to[BAR_REGS], 0xc0000000);
	tb_cfg_write(s.d, 0x14, 4, UINT32_MAX);
	CHECK_EQ(s.p->moved_to[BAR_REGS], UINT64_MAX);
	tb_free(s.tb);
}

static void test_bars_work(void)
{
	struct setup s = make();

	CHECK_EQ(tb_bar_size(s.d, BAR_REGS), 0x4000);
	CHECK_EQ(tb_bar_size(s.d, BAR_IO), 0x20);
	CHECK_EQ(tb_bar_size(s.d, BAR_MEM), 8192);
	CHECK_EQ(tb_bar_size(s.d, 1) | tb_bar_size(s.d, 4), 0);
	tb_w32(s.d, BAR_REGS, 0x10, 0xcafe1234);
	CHECK_EQ(tb_r32(s.d, BAR_REGS, 0x10), 0xcafe1234);
	CHECK_EQ(tb_r64(s.d, BAR_REGS, 0x0c), 0xcafe123400000000);
	CHECK_EQ(tb_r8(s.d, BAR_REGS, 0x13), 0xca);
	CHECK_EQ(tb_r32(s.d, BAR_REGS, 0x3ffc), 0);
	CHECK_EQ(tb_r16(s.d, BAR_IO, 6), 0x62);
	tb_w16(s.d, BAR_IO, 6, 1);
	CHECK_EQ(s.p->io_writes, 1);
	/* Host memory mapped by the model. */
	CHECK_EQ(tb_slots(s.tb), 1);
	tb_w64(s.d, BAR_MEM, 4096, 0x1122334455667788);
	CHECK_EQ(get_le64(s.p->memory + 4096), 0x1122334455667788);
	CHECK_EQ(tb_r16(s.d, BAR_MEM, 4098), 0x5566);
	tb_free(s.tb);
}

/* Where a register of the BAR answers, whatever stands there otherwise. */
static bool answers_at(struct setup *s, uint64_t base)
{
	s->p->reg = 0x600d600d;
	return tb_read(s->tb, base + 0x10, 4) == 0x600d600d;
}

static void place(struct setup *s, uint64_t addr)
{
	tb_cfg_write(s->d, 0x10, 4, (uint32_t)addr);
	tb_cfg_write(s->d, 0x14, 4, (uint32_t)(addr >> 32));
}

/* G-12 */
static void test_bars_move(void)
{
	static const uint64_t good[] = { 0xd0000000, 1ull << 32, (1ull << 40) - 0x4000,
					 0xfebf0000 };
	static const uint64_t bad[] = { 0, 1ull << 63, 1ull << 52, UINT64_MAX - 0x3fff,
					0xffffc000 };
	struct setup s = make();
	uint64_t old = tb_bar(s.d, BAR_REGS);

	CHECK(answers_at(&s, old));
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		place(&s, good[i]);
		CHECK(answers_at(&s, good[i]));
		CHECK(!answers_at(&s, old));
		CHECK_EQ(s.p->moved_to[BAR_REGS], good[i]);
		old = good[i];
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		place(&s, bad[i]);
		CHECK_EQ(s.p->moved_to[BAR_REGS], UINT64_MAX);
		CHECK_EQ(s.p->fn.bars[BAR_REGS].addr, UINT64_MAX);
		CHECK(!answers_at(&s, old) && !answers_at(&s, bad[i]));
		CHECK_EQ(tb_doorbells(s.tb), 0);
	}
	place(&s, 0xd0000000);
	CHECK(answers_at(&s, 0xd0000000));
	/* Decode off and on. */
	tb_cfg_write(s.d, 0x04, 2, 5);
	CHECK(!answers_at(&s, 0xd0000000));
	CHECK_EQ(tb_in(s.tb, (uint16_t)tb_bar(s.d, BAR_IO), 1), 1);
	tb_cfg_write(s.d, 0x04, 2, 6);
	CHECK(answers_at(&s, 0xd0000000));
	CHECK_EQ(tb_in(s.tb, (uint16_t)tb_bar(s.d, BAR_IO), 1), 0xff);
	/* Ports end at 64 KiB. */
	tb_cfg_write(s.d, 0x04, 2, 7);
	tb_cfg_write(s.d, 0x18, 4, 0x10000);
	CHECK_EQ(s.p->moved_to[BAR_IO], UINT64_MAX);
	tb_cfg_write(s.d, 0x18, 4, 0xffe0);
	CHECK_EQ(s.p->moved_to[BAR_IO], 0xffe0);
	CHECK_EQ(tb_in(s.tb, 0xfff0, 2), 0x102);
	tb_free(s.tb);
}

static void test_bar_over_ram_and_bars(void)
{
	struct setup s = make();
	uint64_t ram = 2 * MIB;

	/* RAM stays in front. */
	place(&s, ram);
	tb_write(s.tb, ram + 0x10, 4, 0x11111111);
	CHECK_EQ(tb_read(s.tb, ram + 0x10, 4), 0x11111111);
	CHECK_EQ(s.p->reg, 0);
	/* DMA does not reach the BAR either. */
	CHECK_EQ(get_le32(tb_mem(s.tb, ram + 0x10, 4)), 0x11111111);
	/* Host memory over RAM is refused, and comes back. */
	tb_cfg_write(s.d, 0x1c, 4, (uint32_t)ram);
	CHECK_EQ(tb_slots(s.tb), 0);
	tb_cfg_write(s.d, 0x1c, 4, 0xd1000000);
	CHECK_EQ(tb_slots(s.tb), 1);
	CHECK_EQ(tb_slot(s.tb, 0)->gpa, 0xd1000000);
	/* Over another BAR of the same device: the slot is memory, and memory is in front. */
	place(&s, 0xd1000000);
	CHECK(!answers_at(&s, 0xd1000000));
	CHECK_EQ(tb_read(s.tb, 0xd1002000, 4), 0);
	tb_cfg_write(s.d, 0x1c, 4, 0xd2000000);
	CHECK(answers_at(&s, 0xd1000000));
	/* Both change places in one go. */
	tb_cfg_write(s.d, 0x04, 2, 0);
	place(&s, 0xd2000000);
	tb_cfg_write(s.d, 0x1c, 4, 0xd1000000);
	tb_cfg_write(s.d, 0x04, 2, 7);
	CHECK(answers_at(&s, 0xd2000000));
	CHECK_EQ(tb_slot(s.tb, 0)->gpa, 0xd1000000);
	tb_free(s.tb);
}

static void test_dirty_pages(void)
{
	struct setup s = make();
	uint64_t bitmap = 0;

	tb_w8(s.d, BAR_MEM, 4096, 1);
	CHECK_EQ(bus_slot_dirty(tb_bus(s.tb), &s.p->slot, &bitmap), 0);
	CHECK_EQ(bitmap, 2);
	CHECK_EQ(bus_slot_dirty(tb_bus(s.tb), &s.p->slot, &bitmap), 0);
	CHECK_EQ(bitmap, 0);
	tb_free(s.tb);
}

static void test_doorbells_follow(void)
{
	struct setup s = make();

	CHECK_EQ(tb_doorbells(s.tb), 1);
	tb_w32(s.d, BAR_REGS, BELL, 1);
	CHECK_EQ(s.p->kicks, 0);
	tb_run(s.tb);
	CHECK_EQ(s.p->kicks, 1);
	CHECK_EQ(s.p->bell_writes, 0);
	/* Another width is not the doorbell's. */
	tb_w16(s.d, BAR_REGS, BELL, 1);
	tb_run(s.tb);
	CHECK_EQ(s.p->kicks, 1);
	place(&s, 0xd0000000);
	CHECK_EQ(tb_doorbells(s.tb), 1);
	tb_write(s.tb, 0xd0000000 + BELL, 4, 1);
	tb_run(s.tb);
	CHECK_EQ(s.p->kicks, 2);
	tb_write(s.tb, tb_bar(s.d, BAR_REGS) + BELL, 4, 1);
	tb_run(s.tb);
	CHECK_EQ(s.p->kicks, 2);
	dev_lock(s.d);
	pci_doorbell_del(&s.p->fn, &s.p->bell);
	pci_doorbell_del(&s.p->fn, &s.p->bell);
	dev_unlock(s.d);
	tb_write(s.tb, 0xd0000000 + BELL, 4, 1);
	CHECK_EQ(s.p->bell_writes, 1);
	dev_lock(s.d);
	CHECK_EQ(pci_doorbell_add(&s.p->fn, &s.p->bell), 0);
	dev_unlock(s.d);
	CHECK_EQ(tb_doorbells(s.tb), 1);
	tb_free(s.tb);
}

static void test_without_doorbells(void)
{
	struct setup s = make_with(&(struct tb_opts){ .no_doorbells = true, .no_slots = true });

	tb_pci_enable(s.d);
	tb_w32(s.d, BAR_REGS, BELL, 1);
	CHECK_EQ(s.p->bell_writes, 1);
	CHECK_EQ(tb_r32(s.d, BAR_MEM, 0), UINT32_MAX);
	tb_free(s.tb);
}

static void test_dma_follows_bus_master(void)
{
	struct setup s = make_with(NULL);
	uint32_t v;

	CHECK_EQ(dma_read(&s.p->fn.dma, 0, &v, 4), -EFAULT);
	tb_pci_enable(s.d);
	CHECK_EQ(dma_read(&s.p->fn.dma, 0, &v, 4), 0);
	/* G-03: not its own BAR, not the APIC. */
	CHECK_EQ(dma_read(&s.p->fn.dma, tb_bar(s.d, BAR_REGS), &v, 4), -EFAULT);
	CHECK_EQ(dma_write(&s.p->fn.dma, tb_bar(s.d, BAR_MEM), &v, 4), -EFAULT);
	CHECK_EQ(dma_write(&s.p->fn.dma, 0xfee00000, &v, 4), -EFAULT);
	tb_bus_master(s.d, false);
	CHECK_EQ(dma_read(&s.p->fn.dma, 0, &v, 4), -EFAULT);
	tb_free(s.tb);
}

/* --- messages --- */

static void test_msix_fires(void)
{
	struct setup s = make();
	uint64_t addr;
	uint32_t data;

	for (unsigned int i = 0; i < VECTORS; i++) {
		fire(&s, i);
		for (unsigned int k = 0; k < VECTORS; k++)
			CHECK_EQ(tb_irqs(s.d, k), k == i);
	}
	tb_last_msi(s.tb, &addr, &data);
	CHECK_EQ(addr, 0xfee00000);
	CHECK_EQ(data, VECTORS - 1);
	CHECK_EQ(tb_msis(s.tb), VECTORS);
	/* M-02 */
	fire(&s, VECTORS);
	fire(&s, 0xffff);
	fire(&s, UINT32_MAX);
	CHECK_EQ(tb_msis(s.tb), 0);
	/* The guest moves a vector; a new target takes effect at the next one. */
	tb_w32(s.d, BAR_REGS, 4096 + 16, 0xfee01000);
	tb_w64(s.d, BAR_REGS, 4096 + 24, 0x0000000000004242);
	fire(&s, 1);
	tb_last_msi(s.tb, &addr, &data);
	CHECK_EQ(addr, 0xfee01000);
	CHECK_EQ(data, 0x4242);
	tb_msix_disable(s.d);
	fire(&s, 0);
	CHECK_EQ(tb_irqs(s.d, 0), 0);
	tb_free(s.tb);
}

/* M-01 */
static void test_msix_table_edges(void)
{
	struct setup s = make();

	for (uint64_t offset = 4096 - 8; offset < PBA + 16; offset++)
		for (unsigned int size = 1; size <= 8; size *= 2) {
			uint64_t addr = tb_bar(s.d, BAR_REGS) + offset;
			uint64_t v = tb_read(s.tb, addr, size);
			bool past = offset >= 4096 + 16 * VECTORS;

			CHECK(size == 8 || v >> (8 * size) == 0);
			if (past || (offset >= 4096 && (size < 4 || offset % size)))
				CHECK_EQ(v, 0);
			if (past || size < 4 || offset % size)
				tb_write(s.tb, addr, size, UINT64_MAX);
		}
	/* None of those writes changed anything. */
	for (unsigned int i = 0; i < VECTORS; i++) {
		CHECK_EQ(tb_r64(s.d, BAR_REGS, 4096 + 16 * i), 0xfee00000);
		CHECK_EQ(tb_r64(s.d, BAR_REGS, 4096 + 16 * i + 8), i);
	}
	/* Only the mask bit of the control word is there; the pending bits are read-only. */
	tb_w32(s.d, BAR_REGS, 4096 + 12, UINT32_MAX);
	CHECK_EQ(tb_r32(s.d, BAR_REGS, 4096 + 12), 1);
	tb_w64(s.d, BAR_REGS, PBA, UINT64_MAX);
	CHECK_EQ(tb_r64(s.d, BAR_REGS, PBA), 0);
	tb_free(s.tb);
}

/* M-03 */
static void test_msix_bad_addresses(void)
{
	static const uint64_t bad[] = {
		0, 0x1000, 0xfed00000, 0xfef00000, 0x1fee00000, UINT64_MAX
	};
	struct setup s = make();

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		tb_w64(s.d, BAR_REGS, 4096, bad[i]);
		fire(&s, 0);
		CHECK_EQ(tb_msis(s.tb), 0);
		CHECK(!tb_msix_pending(s.d, 0));
	}
	tb_w64(s.d, BAR_REGS, 4096, 0xfee00000);
	fire(&s, 0);
	CHECK_EQ(tb_irqs(s.d, 0), 1);
	tb_free(s.tb);
}

/* A route that the host refuses for now is asked for again; the interrupt waits for it. */
static void test_msix_route_refused(void)
{
	struct setup s = make();

	tb_refuse_routes(s.tb, true);
	fire(&s, 0);
	CHECK_EQ(tb_msis(s.tb), 0);
	CHECK(tb_msix_pending(s.d, 0));
	tb_refuse_routes(s.tb, false);
	fire(&s, 0);
	CHECK_EQ(tb_irqs(s.d, 0), 1);
	CHECK(!tb_msix_pending(s.d, 0));
	tb_w32(s.d, BAR_REGS, 4096 + 8, 3);
	tb_refuse_routes(s.tb, true);
	fire(&s, 0);
	tb_refuse_routes(s.tb, false);
	tb_msix_mask(s.d, 0, false);
	CHECK_EQ(tb_irqs(s.d, 3), 1);
	tb_free(s.tb);
}

/* M-04 */
static void test_msix_masks(void)
{
	struct setup s = make();

	for (unsigned int i = 0; i < 10000; i++) {
		unsigned int v = i % VECTORS;

		tb_msix_mask(s.d, v, true);
		for (unsigned int k = 0; k <= i % 3; k++)
			fire(&s, v);
		CHECK(tb_msix_pending(s.d, v));
		CHECK_EQ(tb_irqs(s.d, v), 0);
		tb_msix_mask(s.d, v, false);
		CHECK_EQ(tb_irqs(s.d, v), 1);
		CHECK(!tb_msix_pending(s.d, v));
	}
	tb_msix_mask(s.d, 2, true);
	tb_msix_mask(s.d, 2, false);
	CHECK_EQ(tb_msis(s.tb), 10000);
	tb_free(s.tb);
}

/* M-05 */
static void test_modes_change_with_interrupts_waiting(void)
{
	struct setup s = make();

	tb_msix_function_mask(s.d, true);
	fire(&s, 0);
	fire(&s, 3);
	fire(&s, 3);
	CHECK_EQ(tb_msis(s.tb), 0);
	CHECK(tb_msix_pending(s.d, 3));
	tb_msix_mask(s.d, 3, true);
	tb_msix_function_mask(s.d, false);
	CHECK_EQ(tb_irqs(s.d, 0), 1);
	CHECK_EQ(tb_irqs(s.d, 3), 0);
	tb_msix_mask(s.d, 3, false);
	CHECK_EQ(tb_irqs(s.d, 3), 1);
	/* Bus master off: a message is a write, so it waits. */
	tb_bus_master(s.d, false);
	fire(&s, 1);
	CHECK_EQ(tb_irqs(s.d, 1), 0);
	tb_bus_master(s.d, true);
	CHECK_EQ(tb_irqs(s.d, 1), 1);
	/* From messages to the wire and back with the interrupt still up. */
	raise_irq(s.d, true);
	CHECK_EQ(tb_irqs(s.d, 0), 1);
	CHECK(!tb_intx(s.d));
	tb_msix_disable(s.d);
	CHECK(tb_intx(s.d));
	tb_msix_enable(s.d);
	CHECK(!tb_intx(s.d));
	CHECK_EQ(tb_irqs(s.d, 0), 1);
	raise_irq(s.d, false);
	tb_msix_disable(s.d);
	CHECK(!tb_intx(s.d));
	tb_free(s.tb);
}

static void test_intx(void)
{
	struct setup s = make_with(NULL);

	raise_irq(s.d, true);
	raise_irq(s.d, true);
	CHECK(tb_intx(s.d));
	CHECK_EQ(tb_rises(s.tb, 17), 1);
	CHECK_EQ(tb_cfg_read(s.d, 6, 2) & 8, 8);
	/* INTx disable takes the wire, not the status. */
	tb_cfg_write(s.d, 4, 2, 0x400);
	CHECK(!tb_intx(s.d));
	CHECK_EQ(tb_cfg_read(s.d, 6, 2) & 8, 8);
	tb_cfg_write(s.d, 4, 2, 0);
	CHECK(tb_intx(s.d));
	raise_irq(s.d, false);
	CHECK(!tb_intx(s.d));
	CHECK_EQ(tb_cfg_read(s.d, 6, 2) & 8, 0);
	dev_lock(s.d);
	pci_intx_set(&s.p->fn, true);
	dev_unlock(s.d);
	CHECK(tb_intx(s.d));
	CHECK(tb_reset(s.tb));
	CHECK(!tb_intx(s.d));
	raise_irq(s.d, true);
	tb_free(s.tb);
}

static void test_intx_is_shared(void)
{
	struct setup s = make_with(NULL);
	struct dev *other;

	tb_next_slot(s.tb, 5 << 3);
	other = tb_add(s.tb, &probe_ops, NULL, NULL);
	raise_irq(s.d, true);
	raise_irq(other, true);
	raise_irq(s.d, false);
	CHECK(tb_intx(s.d));
	raise_irq(other, false);
	CHECK(!tb_intx(s.d));
	tb_free(s.tb);
}

static void test_msi(void)
{
	struct tb *tb = tb_new(NULL);
	struct dev *d = tb_add(tb, &probe_msi_ops, NULL, NULL);
	unsigned int cap;
	uint64_t addr;
	uint32_t data;

	CHECK(d);
	tb_pci_enable(d);
	cap = tb_cap(d, 5, 0);
	CHECK_EQ(tb_cfg_read(d, cap + 2, 2), 0x80);
	CHECK_EQ(tb_cfg_read(d, 4, 2), 4);
	raise_irq(d, true);
	CHECK(tb_wire(tb, 18));
	tb_msi_enable(d);
	/* Told again, as a message; the wire is down. */
	CHECK_EQ(tb_irqs(d, 0), 1);
	CHECK(!tb_wire(tb, 18));
	raise_irq(d, true);
	CHECK_EQ(tb_irqs(d, 0), 1);
	tb_cfg_write(d, cap + 12, 2, 0x1234);
	tb_cfg_write(d, cap + 4, 4, 0xfee05003);
	raise_irq(d, true);
	tb_last_msi(tb, &addr, &data);
	CHECK_EQ(addr, 0xfee05000);
	CHECK_EQ(data, 0x1234);
	CHECK_EQ(tb_msis(tb), 3);
	/* A place that the host refuses for now is asked for again. */
	tb_cfg_write(d, cap + 12, 2, 0x4321);
	tb_refuse_routes(tb, true);
	raise_irq(d, true);
	CHECK_EQ(tb_msis(tb), 0);
	tb_refuse_routes(tb, false);
	raise_irq(d, true);
	tb_last_msi(tb, &addr, &data);
	CHECK_EQ(data, 0x4321);
	CHECK_EQ(tb_msis(tb), 1);
	tb_cfg_write(d, cap + 8, 4, 1);
	raise_irq(d, true);
	tb_cfg_write(d, cap + 8, 4, 0);
	tb_bus_master(d, false);
	raise_irq(d, true);
	CHECK_EQ(tb_msis(tb), 0);
	tb_cfg_write(d, cap + 2, 2, 0);
	CHECK(tb_wire(tb, 18));
	tb_free(tb);
}

/* --- life --- */

static void test_reset(void)
{
	struct setup s = make();

	tb_msix_mask(s.d, 1, true);
	fire(&s, 1);
	CHECK(tb_reset(s.tb));
	CHECK_EQ(tb_cfg_read(s.d, 4, 2), 0);
	CHECK_EQ(tb_cfg_read(s.d, 0x10, 4), 4);
	CHECK_EQ(tb_doorbells(s.tb) + tb_slots(s.tb), 0);
	CHECK(!answers_at(&s, tb_bar(s.d, BAR_REGS)));
	CHECK_EQ(tb_cfg_read(s.d, tb_cap(s.d, 0x11, 0) + 2, 2), VECTORS - 1);
	tb_pci_enable(s.d);
	CHECK_EQ(tb_r64(s.d, BAR_REGS, 4096), 0);
	CHECK_EQ(tb_r32(s.d, BAR_REGS, 4096 + 12), 1);
	CHECK(!tb_msix_pending(s.d, 1));
	tb_msix_enable(s.d);
	CHECK_EQ(tb_msis(s.tb), 0);
	fire(&s, 1);
	CHECK_EQ(tb_irqs(s.d, 1), 1);
	tb_free(s.tb);
}

/* G-08 and G-12 together: one vCPU reads and writes everywhere while another moves BARs and switches decoding. */
static void *hammer(void *arg)
{
	struct setup *s = arg;

	for (unsigned int i = 0; i < 4000; i++) {
		uint64_t offset = i * 7919u % 0x4000;
		unsigned int size = 1u << i % 4;

		tb_write(s->tb, 0xd0000000 + offset, size, i);
		tb_read(s->tb, 0xd4000000 + offset, size);
		if (i % 16 == 0)
			pci_bus_cfg_read(tb_pci(s->tb), 0, s->p->fn.devfn, i % 256, 4);
	}
	return NULL;
}

static void test_two_vcpus(void)
{
	struct setup s = make_with(&(struct tb_opts){ .no_doorbells = true, .no_slots = true });
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, hammer, &s), 0);
	for (unsigned int i = 0; i < 2000; i++) {
		tb_cfg_write(s.d, 4, 2, i % 3 ? 7 : 0);
		place(&s, i % 2 ? 0xd0000000 : 0xd4000000);
		fire(&s, i % VECTORS);
	}
	pthread_join(thread, NULL);
	tb_free(s.tb);
}

int main(int argc, char **argv)
{
	static const struct test_case cases[] = {
		{ "identity", test_identity },
		{ "settings_and_errors", test_settings_and_errors },
		{ "multi_function", test_multi_function },
		{ "every_config_access", test_every_config_access },
		{ "own_registers", test_own_registers },
		{ "capabilities", test_capabilities },
		{ "ports", test_ports },
		{ "absent_functions", test_absent_functions },
		{ "ecam", test_ecam },
		{ "bus", test_bus },
		{ "bar_sizing", test_bar_sizing },
		{ "bars_work", test_bars_work },
		{ "bars_move", test_bars_move },
		{ "bar_over_ram_and_bars", test_bar_over_ram_and_bars },
		{ "dirty_pages", test_dirty_pages },
		{ "doorbells_follow", test_doorbells_follow },
		{ "without_doorbells", test_without_doorbells },
		{ "dma_follows_bus_master", test_dma_follows_bus_master },
		{ "msix_fires", test_msix_fires },
		{ "msix_table_edges", test_msix_table_edges },
		{ "msix_bad_addresses", test_msix_bad_addresses },
		{ "msix_route_refused", test_msix_route_refused },
		{ "msix_masks", test_msix_masks },
		{ "modes_change_with_interrupts_waiting",
		  test_modes_change_with_interrupts_waiting },
		{ "intx", test_intx },
		{ "intx_is_shared", test_intx_is_shared },
		{ "msi", test_msi },
		{ "reset", test_reset },
		{ "two_vcpus", test_two_vcpus },
	};

	return RUN_CASES(cases, argc, argv);
}
