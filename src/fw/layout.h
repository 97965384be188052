/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef FW_LAYOUT_H
#define FW_LAYOUT_H

#include "util/macros.h"

/*
 * The fixed places of the machine. What the firmware chooses (PCI windows, ECAM, power block) is read back from the
 * chipset; FW_DIRECT_* are our own choices when no firmware runs.
 *
 *   00000000  RAM up to 2 GiB              FEC00000  I/O APIC
 *   80000000  free, or firmware's windows  FED1C000  chipset block, 16 KiB, reads 0
 *   C0000000  32-bit BARs (direct boot)    FEE00000  local APICs, MSI
 *   E0000000  ECAM (direct boot)           FEFFC000  KVM's identity map page and TSS, 16 KiB
 *   100000000 RAM above 2 GiB              ........  flash: variables, then code, ends at 4 GiB
 */
#define FW_LOW_RAM_MAX (2 * GIB)
#define FW_HIGH_RAM (4 * GIB)

#define FW_IOAPIC 0xfec00000u
#define FW_RCBA 0xfed1c000u
#define FW_RCBA_LEN 0x4000u
#define FW_LAPIC 0xfee00000u
#define FW_KVM_PAGES 0xfeffc000u
#define FW_KVM_PAGES_LEN 0x4000u
#define FW_FLASH_MAX (16 * MIB) /* variables and code together */
#define FW_PCI_MEM_END 0xfec00000u /* 32-bit BARs stay below */
#define FW_ECAM_LEN 0x10000000u
/* AMD processors with 40 or more address bits reserve this for HyperTransport. */
#define FW_AMD_HOLE 0xfd00000000ull
#define FW_AMD_HOLE_LEN 0x300000000ull

#define FW_PORT_RTC 0x70
#define FW_PORT_RESET 0xcf9
#define FW_PORT_FWCFG 0x510
#define FW_PORT_FWCFG_LEN 12

#define FW_LPC_DEVFN 0xf8 /* 1f.0 */
#define FW_LPC_PMBASE 0x40 /* config offsets, ICH9 datasheet s13.1.13, s13.1.14 */
#define FW_LPC_ACPI_CNTL 0x44
#define FW_PM_LEN 0x80

#define FW_IRQ_SCI 9
#define FW_IRQ_RTC 8
#define FW_IRQ_KBD 1
#define FW_IRQ_MOUSE 12

#define FW_DIRECT_PMBASE 0x600
#define FW_DIRECT_ECAM 0xe0000000u
#define FW_DIRECT_MEM 0xc0000000u
#define FW_DIRECT_MEM_END 0xe0000000u
#define FW_DIRECT_IO 0x6000
#define FW_DIRECT_IO_END 0x10000

/* COM1-4: ports and interrupts. */
#define FW_COMS 4
static inline unsigned int fw_com_port(unsigned int n)
{
	static const unsigned short ports[FW_COMS] = { 0x3f8, 0x2f8, 0x3e8, 0x2e8 };

	return ports[n % FW_COMS];
}

static inline unsigned int fw_com_irq(unsigned int n)
{
	return n % 2 ? 3 : 4;
}

#endif
