/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/mac.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dev/dev.h"
#include "hw/diskid.h"
#include "pci/pci.h"
#include "util/err.h"
#include "util/str.h"

bool mac_is_station(const uint8_t *mac)
{
	static const uint8_t zero[MAC_LEN];

	return !(mac[0] & 1) && memcmp(mac, zero, MAC_LEN) != 0;
}

int mac_make(const struct env *env, const char *text, uint8_t *mac, struct err *err)
{
	uint8_t out[MAC_LEN] = { 0x58, 0x9c, 0xfc };
	unsigned int devfn = env->slot ? env->slot->devfn : 0;
	char seed[256];
	uint64_t h;

	if (text) {
		if (str_mac(text, out) < 0)
			return err_set(err, -EINVAL,
				       "mac=%s: use six bytes, as in 58:9c:fc:01:02:03", text);
		if (!mac_is_station(out))
			return err_set(err, -EINVAL,
				       "mac=%s: this is not the address of one card: make the "
				       "first byte even, and not all bytes zero",
				       text);
	} else {
		(void)snprintf(seed, sizeof(seed), "%u-%u-%s", devfn >> 3, devfn & 7,
			       env->guest ? env->guest : "");
		h = diskid_hash(seed);
		h ^= h >> 24 ^ h >> 48;
		for (int i = 0; i < 3; i++)
			out[3 + i] = (uint8_t)(h >> 8 * i);
	}
	memcpy(mac, out, MAC_LEN);
	return 0;
}
