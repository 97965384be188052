/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "bench/tb_ahci.h"
#include "fuzz/fuzz.h"
#include "hw/models.h"
#include "util/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Port 0 has a disk, port 1 a CD drive. */
struct driver {
	struct tb_ahci port[2];
};

static void start(struct fz_script *s, struct fz *f)
{
	struct driver *drv = s->arg;

	(void)f;
	tb_alloc_reset(s->tb);
	for (unsigned int i = 0; i < 2; i++)
		tb_ahci_start(&drv->port[i], s->d, i);
}

static unsigned int some_prds(struct fz_script *s, struct fz *f, struct tb_prd *prds,
			      unsigned int max)
{
	static const uint32_t sizes[] = { 512, 512, 4096, 2048, 16384, 2, 8, 65536 };
	unsigned int n = fz_pick(f, max + 1);

	if (fz_u8(f) % 32 == 0) { /* more than one request of the disk can take */
		for (unsigned int i = 0; i < TB_AHCI_PRDS; i++)
			prds[i] =
				(struct tb_prd){ s->arena + 512 * (i % 64), 1u << fz_pick(f, 10) };
		return TB_AHCI_PRDS;
	}
	for (unsigned int i = 0; i < n; i++) {
		prds[i] = (struct tb_prd){ s->arena + 0x8000 + (fz_u8(f) << 6),
					   sizes[fz_pick(f, ARRAY_LEN(sizes))] };
		if (fz_u8(f) % 64 == 0)
			prds[i].addr = fz_value(f);
		if (fz_u8(f) % 32 == 0)
			prds[i].len = fz_u32(f) % (4 * MIB) + 1;
	}
	return n;
}

static void disk_command(struct fz_script *s, struct fz *f)
{
	static const uint8_t cmds[] = { 0x25, 0x35, 0x60, 0x61, 0x60, 0x61, 0xc8, 0xca,
					0x06, 0x06, 0x2f, 0xe7, 0xea, 0xec, 0xef, 0x3d,
					0x24, 0x34, 0x42, 0xc6, 0xe0, 0xe5 };
	struct tb_ahci *a = &((struct driver *)s->arg)->port[0];
	unsigned int slot = fz_pick(f, 32), n;
	struct tb_prd prds[TB_AHCI_PRDS];
	struct tb_fis fis = { .cmd = cmds[fz_pick(f, ARRAY_LEN(cmds))], .device = 0x40 };
	bool queued = fis.cmd == 0x60 || fis.cmd == 0x61;

	fis.lba = fz_u8(f) % 16 ? fz_pick(f, 2048) : fz_value(f);
	fis.count = fz_u8(f) % 8 ? fz_u8(f) % 32 : fz_u16(f);
	fis.feature = fz_u8(f) % 2 ? 1 : fz_u8(f);
	if (queued && fz_u8(f) % 16)
		fis.count = (uint16_t)(slot << 3);
	if (fz_u8(f) % 32 == 0)
		fis.cmd = fz_u8(f);
	if (fz_u8(f) % 16 == 0)
		fis = (struct tb_fis){ .flags = 1, .control = fz_bool(f) ? 4 : 0 };
	n = some_prds(s, f, prds, 6);
	tb_ahci_build(a, slot, &fis, fz_bool(f), prds, n);
	if (fz_u8(f) % 32 == 0)
		tb_ahci_header(a, slot, fz_u32(f),
			       fz_u8(f) % 2 ? tb_ahci_table(a, slot) : fz_value(f));
	tb_ahci_issue(a, fz_u8(f) % 16 ? BIT(slot) : fz_u32(f), queued);
}

static void cd_command(struct fz_script *s, struct fz *f)
{
	static const uint8_t ops[] = { 0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x28,
				       0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbd, 0xbe };
	const struct tb_fis fis = { .cmd = fz_u8(f) % 16 ? 0xa0 : 0xa1, .feature = 1 };
	struct tb_ahci *a = &((struct driver *)s->arg)->port[1];
	unsigned int slot = fz_pick(f, 32), n;
	struct tb_prd prds[TB_AHCI_PRDS];
	uint8_t packet[12] = { ops[fz_pick(f, ARRAY_LEN(ops))] };

	for (unsigned int i = 1; i < 12; i++)
		packet[i] = fz_u8(f) % 2 ? fz_u8(f) : 0;
	n = some_prds(s, f, prds, 6);
	tb_ahci_build(a, slot, &fis, false, prds, n);
	tb_ahci_packet(a, slot, packet);
	tb_ahci_issue(a, BIT(slot), false);
}

/* What drivers do after errors, and the resets. */
static void control(struct fz_script *s, struct fz *f)
{
	struct tb_ahci *a = &((struct driver *)s->arg)->port[fz_bool(f)];

	switch (fz_pick(f, 6)) {
	case 0:
		tb_ahci_w(a, TB_AHCI_SCTL, 1);
		tb_ahci_w(a, TB_AHCI_SCTL, 0);
		break;
	case 1:
		tb_w32(s->d, TB_AHCI_BAR, TB_AHCI_GHC, 1);
		break;
	case 2:
		tb_ahci_w(a, TB_AHCI_PIS, UINT32_MAX);
		tb_w32(s->d, TB_AHCI_BAR, TB_AHCI_IS, UINT32_MAX);
		break;
	default:
		tb_ahci_w(a, TB_AHCI_CMD, 0x10);
		tb_ahci_w(a, TB_AHCI_CMD, 0x11);
		break;
	}
}

/* Ranges of TRIM, where commands take their data from. */
static void ranges(struct fz_script *s, struct fz *f)
{
	for (unsigned int i = fz_pick(f, 80); i; i--)
		put_le64(tb_mem(s->tb, s->arena + 0x8000 + 8 * i, 8),
			 fz_u8(f) % 16 ? fz_u8(f) | (uint64_t)fz_u8(f) << 48 : fz_value(f));
}

static void one_operation(struct fz_script *s, struct fz *f)
{
	switch (fz_pick(f, 8)) {
	case 0:
		start(s, f);
		break;
	case 1:
	case 2:
		control(s, f);
		break;
	case 3:
		ranges(s, f);
		break;
	case 4:
		cd_command(s, f);
		break;
	default:
		disk_command(s, f);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fz f = fz_of(data, size);
	struct driver drv;
	struct fz_script s;

	fz_start(&s, &ahci_ops, "port.0.path=mem:1M\nport.1.type=cd\nport.1.path=mem:1M\n",
		 one_operation);
	s.arg = &drv;
	start(&s, &f);
	fz_run(&s, &f);
	fz_end(&s);
	return 0;
}
