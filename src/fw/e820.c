/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "fw/e820.h"

#include "fw/fwcfg.h"
#include "fw/layout.h"

/* Regions come in ascending order, and KVM's pages lie between low and high RAM. */
size_t fw_e820(const struct mem *m, bool amd_hole, struct fw_e820_entry out[FW_E820_MAX])
{
	const struct mem_region *r;
	size_t regions = mem_regions(m, &r), n = 0, i = 0;

	for (; i < regions && r[i].gpa < FW_KVM_PAGES; i++)
		out[n++] = (struct fw_e820_entry){ r[i].gpa, r[i].len, FW_E820_RAM };
	out[n++] = (struct fw_e820_entry){ FW_KVM_PAGES, FW_KVM_PAGES_LEN, FW_E820_RESERVED };
	for (; i < regions; i++)
		out[n++] = (struct fw_e820_entry){ r[i].gpa, r[i].len, FW_E820_RAM };
	if (amd_hole)
		out[n++] = (struct fw_e820_entry){ FW_AMD_HOLE, FW_AMD_HOLE_LEN, FW_E820_RESERVED };
	return n;
}

int fw_e820_add(const struct mem *m, bool amd_hole, struct dev *fwcfg, struct err *err)
{
	struct fw_e820_entry map[FW_E820_MAX];
	size_t n = fw_e820(m, amd_hole, map);

	return fwcfg_add_file(fwcfg, "etc/e820", map, n * sizeof(map[0]), err);
}
