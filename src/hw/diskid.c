/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/diskid.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/err.h"

uint64_t diskid_hash(const char *s)
{
	uint64_t h = 0xcbf29ce484222325;

	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 0x100000001b3;
	return h;
}

int diskid_make(const char *ser, const char *path, char *out, struct err *err)
{
	uint64_t h;
	int n;

	if (ser) {
		size_t len = strlen(ser);

		if (!len || len > DISKID_LEN)
			return err_set(err, -EINVAL,
				       "ser=%s: a serial number has 1 to 20 characters", ser);
		for (size_t i = 0; i < len; i++)
			if (ser[i] < ' ' || ser[i] > '~')
				return err_set(err, -EINVAL,
					       "ser: only printable ASCII characters are allowed");
		memcpy(out, ser, len + 1);
		return 0;
	}
	h = diskid_hash(path ? path : "");
	n = snprintf(out, DISKID_LEN + 1, "KHYVE-%04X-%04X-%04X", (unsigned int)(h >> 32 & 0xffff),
		     (unsigned int)(h >> 16 & 0xffff), (unsigned int)(h & 0xffff));
	return n == DISKID_LEN ? 0 : -EINVAL;
}
