/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "kvm/kvm_priv.h"

#include <string.h>

#include "bus/bus.h"

static uint64_t load(const uint8_t *p, unsigned int size)
{
	uint64_t v = 0;

	memcpy(&v, p, size);
	return v;
}

static void store(uint8_t *p, unsigned int size, uint64_t v)
{
	memcpy(p, &v, size);
}

/* One string instruction is one exit with count elements for the same port. */
void kvm_exit_io(struct bus *bus, const struct kvm_run *run, void *data)
{
	unsigned int size = run->io.size;
	uint8_t *p = data;

	for (uint32_t i = 0; i < run->io.count; i++, p += size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(bus, BUS_PORT, run->io.port, size, load(p, size));
		else
			store(p, size, bus_read(bus, BUS_PORT, run->io.port, size));
	}
}

/* KVM cuts at page ends, so a length may be anything from 1 to 8: hand it on in powers of two. */
void kvm_exit_mmio(struct bus *bus, struct kvm_run *run)
{
	uint64_t addr = run->mmio.phys_addr;
	uint8_t *p = run->mmio.data;
	unsigned int left = MIN(run->mmio.len, (uint32_t)sizeof(run->mmio.data));

	while (left) {
		unsigned int size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;

		if (run->mmio.is_write)
			bus_write(bus, BUS_MEM, addr, size, load(p, size));
		else
			store(p, size, bus_read(bus, BUS_MEM, addr, size));
		addr += size;
		p += size;
		left -= size;
	}
}
