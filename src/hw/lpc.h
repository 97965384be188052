/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_LPC_H
#define HW_LPC_H

#include <stdint.h>

struct dev;

/* Presses the ACPI power button (ACPI 6.4 s4.8.2.2.1). Any thread that holds no device lock. */
void lpc_power_button(struct dev *lpc);

#endif
