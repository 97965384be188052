/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_UART_H
#define HW_UART_H

#include <stdint.h>

/* Settings of one serial port; the machine fills them from lpc.comN. */
struct uart_conf {
	uint64_t index; /* 0..3: COM1..COM4 */
	char *path; /* as chr_open() takes it; NULL: connected to nothing */
};

#define UART_PORTS 4
#define UART_SIZE 8

/* I/O port and ISA interrupt of a serial port. */
struct uart_place {
	uint16_t port;
	uint8_t irq;
};
extern const struct uart_place uart_places[UART_PORTS];

#endif
