/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdio.h>

#include "aml/aml.h"
#include "dev/dev.h"
#include "fw/acpi_priv.h"
#include "fw/layout.h"
#include "pci/pci.h"
#include "util/list.h"

#define PCI_DEVICES 32
#define STATUS_ALL 0x0f /* present, enabled, shown, working (ACPI 6.4 s6.3.7) */
#define STATUS_HIDDEN 0x0b
/* What the system may control by itself: hot-plug, PME, AER, capability structure (PCI Firmware 3.2 s4.5.1). */
#define OSC_CONTROL 0x1d

static bool range_exists(const struct acpi_range *r)
{
	return r->first <= r->last;
}

static void write_windows(struct aml *a, const struct acpi_view *v)
{
	aml_begin_resources(a, "_CRS");
	aml_res_bus_window(a, 0, FW_LAST_BUS);
	aml_res_io(a, 0xcf8, 8);
	aml_res_io_window(a, 0, 0xcf7);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_mem32_window(a, 0xa0000, 0xbffff, true);
	for (unsigned int i = 0; i < ARRAY_LEN(v->mem32); i++)
		if (range_exists(&v->mem32[i]))
			aml_res_mem32_window(a, (uint32_t)v->mem32[i].first,
					     (uint32_t)v->mem32[i].last, false);
	if (range_exists(&v->mem64))
		aml_res_mem64_window(a, v->mem64.first, v->mem64.last, true);
	aml_end(a);
}

/* Fixed wires to the I/O APIC, no link devices: address, pin, 0, GSI (ACPI 6.4 s6.2.13). */
static void write_routing(struct aml *a, const struct fw_acpi_spec *s)
{
	aml_name(a, "_PRT");
	aml_begin_package(a, (PCI_DEVICES - 1) * 4);
	for (unsigned int device = 1; device < PCI_DEVICES; device++) {
		for (unsigned int pin = 0; pin < 4; pin++) {
			aml_begin_package(a, 4);
			aml_int(a, device << 16 | 0xffff);
			aml_int(a, pin);
			aml_int(a, 0);
			aml_int(a, pci_bus_gsi(s->pci, (uint8_t)(device << 3), (uint8_t)(pin + 1)));
			aml_end(a);
		}
	}
	aml_end(a);
}

static void write_field(struct aml *a, unsigned int offset, const char *name)
{
	aml_op(a, AML_CREATE_DWORD_FIELD);
	aml_op(a, AML_ARG0 + 3);
	aml_int(a, offset);
	aml_ref(a, name);
}

/* Hands the native PCI Express features to the system (ACPI 6.4 s6.2.11). */
static void write_os_control(struct aml *a)
{
	aml_begin_method(a, "_OSC", 4, true);
	write_field(a, 0, "CDW1");
	aml_begin_if(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG0);
	aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
	write_field(a, 8, "CDW3");
	aml_op(a, AML_AND);
	aml_ref(a, "CDW3");
	aml_int(a, OSC_CONTROL);
	aml_ref(a, "CDW3");
	aml_end(a);
	aml_begin_else(a);
	aml_op(a, AML_OR); /* unrecognised UUID */
	aml_ref(a, "CDW1");
	aml_int(a, 4);
	aml_ref(a, "CDW1");
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG0 + 3);
	aml_end(a);
}

/* A device on the ISA side: up to two port ranges and one interrupt. */
static void write_isa(struct aml *a, const char *name, const char *id, const uint16_t ports[2][2],
		      int irq)
{
	aml_begin_device(a, name);
	aml_name_eisa_id(a, "_HID", id);
	aml_name_int(a, "_STA", STATUS_ALL);
	aml_begin_resources(a, "_CRS");
	for (unsigned int i = 0; i < 2; i++)
		if (ports[i][1])
			aml_res_io(a, ports[i][0], (uint8_t)ports[i][1]);
	if (irq >= 0)
		aml_res_irq(a, (unsigned int)irq);
	aml_end(a);
	aml_end(a);
}

static void write_com(struct aml *a, unsigned int n)
{
	const char name[5] = { 'C', 'O', 'M', (char)('1' + n) };

	aml_begin_device(a, name);
	aml_name_eisa_id(a, "_HID", "PNP0501");
	aml_name_int(a, "_UID", n + 1);
	aml_name_int(a, "_STA", STATUS_ALL);
	aml_begin_resources(a, "_CRS");
	aml_res_io(a, (uint16_t)fw_com_port(n), 8);
	aml_res_irq(a, fw_com_irq(n));
	aml_end(a);
	aml_end(a);
}

static void write_lpc(struct aml *a, const struct fw_acpi_spec *s, const struct acpi_view *v)
{
	static const uint16_t rtc[2][2] = { { FW_PORT_RTC, 8 } };
	static const uint16_t kbd[2][2] = { { 0x60, 1 }, { 0x64, 1 } };
	static const uint16_t none[2][2] = { { 0 } };
	const uint16_t board[2][2] = { { v->pmbase, FW_PM_LEN }, { 0x92, 1 } };

	aml_begin_device(a, "LPC");
	aml_name_int(a, "_ADR", 0x1f0000);
	write_isa(a, "RTC", "PNP0B00", rtc, FW_IRQ_RTC);
	if (s->i8042) {
		write_isa(a, "KBD", "PNP0303", kbd, FW_IRQ_KBD);
		write_isa(a, "MOU", "PNP0F13", none, FW_IRQ_MOUSE);
	}
	for (unsigned int i = 0; i < FW_COMS; i++)
		if (s->coms & BIT(i))
			write_com(a, i);
	write_isa(a, "BRD", "PNP0C02", board, -1);
	aml_end(a);
}

static void write_fwcfg(struct aml *a)
{
	aml_begin_device(a, "FWCF");
	aml_name_string(a, "_HID", "QEMU0002");
	aml_name_int(a, "_STA", STATUS_HIDDEN);
	aml_begin_resources(a, "_CRS");
	aml_res_io(a, FW_PORT_FWCFG, FW_PORT_FWCFG_LEN);
	aml_end(a);
	aml_end(a);
}

static void write_pci(struct aml *a, const struct fw_acpi_spec *s, const struct acpi_view *v)
{
	aml_begin_device(a, "PCI0");
	aml_name_eisa_id(a, "_HID", "PNP0A08");
	aml_name_eisa_id(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_BBN", 0);
	write_windows(a, v);
	write_routing(a, s);
	write_os_control(a);
	write_lpc(a, s, v);
	if (s->fwcfg)
		write_fwcfg(a);
	aml_end(a);
}

/* Memory that nobody may use for BARs. Linux uses ECAM only if it is listed here. */
static void write_reservations(struct aml *a, const struct fw_acpi_spec *s,
			       const struct acpi_view *v)
{
	aml_begin_device(a, "MBRD");
	aml_name_eisa_id(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 1);
	aml_begin_resources(a, "_CRS");
	if (v->ecam <= UINT32_MAX - FW_ECAM_LEN + 1)
		aml_res_mem32(a, (uint32_t)v->ecam, FW_ECAM_LEN);
	aml_res_mem32(a, FW_RCBA, FW_RCBA_LEN);
	aml_res_mem32(a, FW_KVM_PAGES, FW_KVM_PAGES_LEN);
	if (s->flash_base)
		aml_res_mem32(a, (uint32_t)s->flash_base, (uint32_t)(FW_HIGH_RAM - s->flash_base));
	aml_end(a);
	aml_end(a);
}

static void write_processor(struct aml *a, unsigned int n)
{
	char name[8];

	if (snprintf(name, sizeof(name), "C%03X", n & 0xfff) < 0)
		return;
	aml_begin_device(a, name);
	aml_name_string(a, "_HID", "ACPI0007");
	aml_name_int(a, "_UID", n);
	aml_end(a);
}

static void write_models(struct aml *a, const struct list *devs)
{
	struct dev *d;

	list_for_each(d, devs, link) {
		if (!d->ops->acpi)
			continue;
		dev_lock(d);
		d->ops->acpi(d, a);
		dev_unlock(d);
	}
}

/* \_S5: sleep type 0, as firmware's own shutdown uses it (ACPI 6.4 s7.4.2). */
static void write_power_off(struct aml *a)
{
	aml_name(a, "\\_S5");
	aml_begin_package(a, 4);
	for (unsigned int i = 0; i < 4; i++)
		aml_int(a, 0);
	aml_end(a);
}

void acpi_write_dsdt(struct aml *a, const struct fw_acpi_spec *s, const struct acpi_view *v)
{
	aml_begin_scope(a, "\\_SB");
	write_pci(a, s, v);
	write_reservations(a, s, v);
	for (unsigned int i = 0; i < s->cpus; i++)
		write_processor(a, i);
	if (s->devs)
		write_models(a, s->devs);
	aml_end(a);
	write_power_off(a);
}
