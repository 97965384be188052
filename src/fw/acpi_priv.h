/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_ACPI_PRIV_H
#define FW_ACPI_PRIV_H

#include <stdint.h>

#include "fw/acpi.h"

struct aml;

/* There is one PCI bus and no bridge. What the tables name, systems search: device by device, at two exits each. */
#define FW_LAST_BUS 0

/* What the chipset says at the moment the tables are made. Ranges are inclusive; first > last means none. */
struct acpi_range {
	uint64_t first, last;
};

struct acpi_view {
	uint64_t ecam; /* UINT64_MAX: off */
	uint16_t pmbase;
	struct acpi_range mem32[2]; /* PCI windows below 4 GiB, around ECAM */
	struct acpi_range mem64;
};

void acpi_look(const struct fw_acpi_spec *s, struct acpi_view *v);

/* Writes the body of the DSDT. */
void acpi_write_dsdt(struct aml *a, const struct fw_acpi_spec *s, const struct acpi_view *v);

#endif
