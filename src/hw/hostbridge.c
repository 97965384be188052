/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/models.h"

#include "conf/conf.h"
#include "pci/pci.h"
#include "util/bytes.h"

/*
 * The memory controller hub of Q35 (Intel 3 Series Express Chipset, s5.1), as far as firmware programs it: PCIEXBAR
 * places the ECAM window; PAM and SMRAM are only stored, since 0xC0000-0xFFFFF is always RAM.
 */
#define PCIEXBAR 0x60u
#define PCIEXBAR_ENABLE BIT(0)
#define PCIEXBAR_LENGTH 0x6u /* 00: 256 MiB, the only length offered */
#define PCIEXBAR_BASE 0xf0000000u
#define PAM0 0x90u
#define SMRAM 0x9du

struct hostbridge {
	struct pci_fn fn;
};

static void config_written(struct pci_fn *fn, unsigned int offset, unsigned int size)
{
	uint64_t bar;

	if (offset >= PCIEXBAR + 8 || offset + size <= PCIEXBAR)
		return;
	bar = get_le64(pci_cfg(fn, PCIEXBAR));
	pci_bus_set_ecam(fn->bus, bar & PCIEXBAR_ENABLE ? bar & ~0xfffffffull : UINT64_MAX);
}

static const struct pci_desc desc = {
	.vendor = 0x8086,
	.device = 0x29c0,
	.class_code = 0x060000,
	.config_written = config_written,
};

static void chipset_registers(struct pci_fn *fn)
{
	pci_cfg_reg(fn, PCIEXBAR, 4, 0, PCIEXBAR_BASE | PCIEXBAR_ENABLE, 0);
	pci_cfg_reg(fn, PCIEXBAR + 4, 4, 0, 0xf, 0); /* bits 35:32 */
	for (unsigned int i = 0; i < 7; i++)
		pci_cfg_reg(fn, PAM0 + i, 1, 0, 0x33, 0);
	pci_cfg_reg(fn, SMRAM, 1, 0x02, 0x78, 0);
	pci_cfg_reg(fn, SMRAM + 1, 1, 0, 0x87, 0);
}

static int hostbridge_init(struct dev *d, const struct env *env, const void *conf, struct err *err)
{
	struct pci_fn *fn = pci_fn_of(d);
	int r = pci_fn_init(fn, &desc, err);

	(void)env;
	(void)conf;
	if (r == 0)
		chipset_registers(fn);
	return r;
}

static void hostbridge_reset(struct dev *d)
{
	struct pci_fn *fn = pci_fn_of(d);

	pci_fn_reset(fn);
	chipset_registers(fn);
	pci_bus_set_ecam(fn->bus, UINT64_MAX);
}

static void hostbridge_fini(struct dev *d)
{
	pci_fn_fini(pci_fn_of(d));
}

static const struct conf_key keys[] = { CONF_KEY_END };

const struct dev_ops hostbridge_ops = {
	.model = "hostbridge",
	.help = "Q35 host bridge, in slot 0",
	.keys = keys,
	.size = sizeof(struct hostbridge),
	.init = hostbridge_init,
	.reset = hostbridge_reset,
	.fini = hostbridge_fini,
};
