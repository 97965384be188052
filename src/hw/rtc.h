/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_RTC_H
#define HW_RTC_H

#include <stdbool.h>

/* Settings of the real-time clock; the machine fills them from rtc. */
struct rtc_conf {
	bool use_localtime; /* show the host's local time instead of UTC */
};

#define RTC_PORT 0x70 /* index; data behind it */
#define RTC_IRQ 8

#endif
