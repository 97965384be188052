/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Layout: header, id text, descriptors of fixed size with a name behind each, data (Documentation/virt/kvm/api.rst). */
uint64_t kvm_stats_read(int stats_fd, const char *name)
{
	struct kvm_stats_header h;
	uint64_t value = 0;
	char *descs;
	size_t size;

	if (stats_fd < 0 || pread(stats_fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h))
		return 0;
	size = sizeof(struct kvm_stats_desc) + h.name_size;
	descs = calloc(h.num_desc, size);
	if (!descs)
		return 0;
	if (pread(stats_fd, descs, h.num_desc * size, h.desc_offset) ==
	    (ssize_t)(h.num_desc * size)) {
		for (uint32_t i = 0; i < h.num_desc; i++) {
			const struct kvm_stats_desc *d = (const void *)(descs + i * size);

			if (strncmp(d->name, name, h.name_size) != 0)
				continue;
			if (pread(stats_fd, &value, sizeof(value), h.data_offset + d->offset) !=
			    (ssize_t)sizeof(value))
				value = 0;
			break;
		}
	}
	free(descs);
	return value;
}
