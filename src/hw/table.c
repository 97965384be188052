/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/table.h"

#include <stddef.h>
#include <string.h>

#include "hw/models.h"

const struct dev_ops *const hw_table[] = {
	&ahci_ops,	 &e1000_ops,	  &fbuf_ops,	   &hostbridge_ops, &lpc_ops, &nvme_ops,
	&virtio_blk_ops, &virtio_net_ops, &virtio_rnd_ops, &xhci_ops,	    NULL,
};

const struct dev_ops *hw_find(const char *model)
{
	for (size_t i = 0; hw_table[i]; i++)
		if (strcmp(hw_table[i]->model, model) == 0)
			return hw_table[i];
	return NULL;
}

void hw_print(FILE *f)
{
	for (size_t i = 0; hw_table[i]; i++)
		fprintf(f, "%-14s %s\n", hw_table[i]->model, hw_table[i]->help);
}
