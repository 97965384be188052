/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/tb_nvme.h"
#include "hw/table.h"

/*
 * nvme_load [-e]: reads of 4 KiB from a disk in memory, 32 at a time, for bench/nvme_count. The guest's doorbell is
 * rung once for all 32, or with -e for each.
 */
#define DEPTH 32
#define ROUNDS 1000

/* All that khyve does: from the doorbells until the completions are in the queue. Counted by name. */
void khyve_side(struct tb_nvme *nv, bool each);
__attribute__((noinline)) void khyve_side(struct tb_nvme *nv, bool each)
{
	uint32_t size = nv->q[1].sq_size, first = nv->q[1].tail + size - DEPTH + 1;

	for (uint32_t i = 0; each && i < DEPTH - 1; i++)
		tb_nvme_bell(nv, 1, false, (first + i) % size);
	tb_nvme_ring(nv, 1);
	while (loop_step(tb_loop(nv->tb), false))
		;
}

int main(int argc, char **argv)
{
	struct tb *tb = tb_new(NULL);
	struct dev *d = tb_add(tb, hw_find("nvme"), NULL, NULL);
	bool each = argc > 1 && argv[1][1] == 'e';
	struct tb_nvme nv;
	struct nvme_cqe e;

	tb_nvme_start(&nv, d, 512);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < DEPTH; i++) {
			struct nvme_sqe cmd = tb_nvme_rw(NVME_CMD_READ, (round + i) % 1000 * 8, 8,
							 0x20000 + 4096 * i, 0);

			tb_nvme_push(&nv, 1, &cmd);
		}
		khyve_side(&nv, each);
		for (uint32_t i = 0; i < DEPTH; i++)
			if (!tb_nvme_pop(&nv, 1, &e) || e.status >> 1)
				abort();
		tb_nvme_ack(&nv, 1);
	}
	printf("%d\n", ROUNDS * DEPTH);
	tb_free(tb);
	return 0;
}
