/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_MAC_H
#define HW_MAC_H

#include <stdbool.h>
#include <stdint.h>

#define MAC_LEN 6

struct env;
struct err;

/*
 * The address of a network card: text ("58:9c:fc:01:02:03") if given, else 58:9c:fc and three bytes made of the guest's
 * name and the slot, so that it stays the same as long as these do, also when another model takes the slot. 0, or
 * -EINVAL with a text when it is not six bytes or no address of a card.
 */
int mac_make(const struct env *env, const char *text, uint8_t *mac, struct err *err);
/* An address that a card may have: neither a group's nor zero. */
bool mac_is_station(const uint8_t *mac);

#endif
