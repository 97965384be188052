/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <assert.h>

#include "pci/pci_priv.h"
#include "util/bytes.h"

/* Where the next capability goes and which byte will point to it. */
struct builder {
	struct pci_fn *fn;
	unsigned int next, link;
};

/* Appends a capability of len bytes behind its header. Returns its offset. */
static uint8_t add_cap(struct builder *b, uint8_t id, unsigned int len)
{
	unsigned int at = b->next;

	assert(at + 2 + len <= PCI_CFG_SIZE);
	b->fn->cfg[b->link] = (uint8_t)at;
	b->fn->cfg[at] = id;
	b->link = at + 1;
	b->next = ALIGN_UP(at + 2 + len, 4u);
	return (uint8_t)at;
}

/* PCI 3.0 s6.8.2 */
static void add_msix(struct builder *b)
{
	const struct pci_desc *desc = b->fn->desc;
	uint8_t at = add_cap(b, CAP_MSIX, 10);

	b->fn->cap_msix = at;
	pci_cfg_reg(b->fn, at + 2u, 2, desc->msix.vectors - 1u, 0xc000, 0);
	pci_cfg_reg(b->fn, at + 4u, 4, desc->msix.table | desc->msix.bar, 0, 0);
	pci_cfg_reg(b->fn, at + 8u, 4, desc->msix.pba | desc->msix.bar, 0, 0);
}

/* PCI 3.0 s6.8.1: one vector, 64-bit address */
static void add_msi(struct builder *b)
{
	uint8_t at = add_cap(b, CAP_MSI, 12);

	b->fn->cap_msi = at;
	pci_cfg_reg(b->fn, at + 2u, 2, 0x0080, 0x0001, 0);
	pci_cfg_reg(b->fn, at + 4u, 4, 0, 0xfffffffc, 0);
	pci_cfg_reg(b->fn, at + 8u, 4, 0, 0xffffffff, 0);
	pci_cfg_reg(b->fn, at + 12u, 2, 0, 0xffff, 0);
}

/* PCI Express 3.0 s7.8: an endpoint integrated into the root complex, so there is no link. */
static void add_express(struct builder *b)
{
	uint8_t at = add_cap(b, CAP_EXPRESS, 0x3a);

	b->fn->cap_exp = at;
	pci_cfg_reg(b->fn, at + 2u, 2, 9u << 4 | 2, 0, 0); /* type 9, version 2 */
	/* Device capabilities: role-based error reporting, function level reset */
	pci_cfg_reg(b->fn, at + 4u, 4, BIT(15) | (b->fn->desc->flr ? BIT(28) : 0), 0, 0);
	/* Device control: error enables, relaxed ordering, extended tags, no snoop, read request size (512). */
	pci_cfg_reg(b->fn, at + 8u, 2, 0x2810, 0x791f, 0);
	pci_cfg_reg(b->fn, at + 10u, 2, 0, 0, 0x000f);
}

static void add_fixed(struct builder *b, const struct pci_cap *cap)
{
	unsigned int at = add_cap(b, cap->id, cap->len) + 2u;

	for (unsigned int i = 0; i < cap->len; i++)
		pci_cfg_reg(b->fn, at + i, 1, cap->data[i], cap->wmask ? cap->wmask[i] : 0, 0);
}

void pci_caps_build(struct pci_fn *fn)
{
	const struct pci_desc *desc = fn->desc;
	struct builder b = { .fn = fn, .next = CFG_FIRST_CAP, .link = CFG_CAPS };

	if (desc->msix.vectors)
		add_msix(&b);
	else if (desc->msi)
		add_msi(&b);
	if (desc->express)
		add_express(&b);
	for (size_t i = 0; i < desc->ncaps; i++)
		add_fixed(&b, &desc->caps[i]);
	if (b.link != CFG_CAPS)
		fn->cfg[CFG_STATUS] |= STATUS_CAPS;
}
