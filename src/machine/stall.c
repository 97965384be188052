/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "machine/machine_priv.h"

bool machine_trouble(struct machine *m, struct dev **dev, struct blk_trouble *out)
{
	struct dev *d;
	struct blk *b;

	list_for_each(d, &m->devs, link) {
		for (unsigned int i = 0; (b = dev_disk(d, i)); i++) {
			if (blk_trouble_get(b, out)) {
				*dev = d;
				return true;
			}
		}
	}
	return false;
}

static void each_disk(struct machine *m, void (*fn)(struct blk *b))
{
	struct dev *d;
	struct blk *b;

	list_for_each(d, &m->devs, link)
		for (unsigned int i = 0; (b = dev_disk(d, i)); i++)
			fn(b);
}

void machine_disks_retry(struct machine *m)
{
	each_disk(m, blk_retry);
}

void machine_disks_give_up(struct machine *m)
{
	each_disk(m, blk_give_up);
}
