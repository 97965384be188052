/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef TESTS_BENCH_TB_NVME_H
#define TESTS_BENCH_TB_NVME_H

#include "bench/tb.h"
#include "hw/nvme_spec.h"

/* The driver's side of an NVMe controller on the bench. Queue n completes into queue n unless made otherwise. */
#define TB_NVME_QUEUES 64

struct tb_nvme_queue {
	gpa_t sq, cq;
	uint32_t sq_size, cq_size;
	uint32_t tail, head; /* of the submission and the completion queue */
	bool phase;
};

struct tb_nvme {
	struct tb *tb;
	struct dev *dev;
	struct tb_nvme_queue q[TB_NVME_QUEUES];
	uint16_t next_cid;
	gpa_t shadows, events; /* pages of shadow doorbells, 0: none */
	uint32_t rings; /* atomic; doorbells of I/O queues that were rung */
};

/* BARs and MSI-X (if msix) on; the controller still disabled. */
void tb_nvme_init(struct tb_nvme *n, struct dev *d, bool msix);
/* Admin queues of these sizes, CC.EN. True if the controller became ready. */
bool tb_nvme_enable(struct tb_nvme *n, uint32_t sq_size, uint32_t cq_size);
/* CC.EN = 0 and runs. True if CSTS is 0. */
bool tb_nvme_disable(struct tb_nvme *n);
uint32_t tb_nvme_csts(struct tb_nvme *n);
/* Creates a pair of I/O queues with interrupts on that vector. Returns the first status that is not 0. */
uint16_t tb_nvme_pair(struct tb_nvme *n, unsigned int id, uint32_t entries, uint16_t vector);
/* tb_nvme_init with MSI-X, admin queues of 32, one pair of I/O queues: asserts that all goes well. */
void tb_nvme_start(struct tb_nvme *n, struct dev *d, uint32_t entries);

/* Puts a command with a fresh id into the queue; returns the id. push_as keeps the id of cmd. */
uint16_t tb_nvme_push(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd);
void tb_nvme_push_as(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd);
/* Shadow doorbells from now on, until the controller is enabled again. Returns the status. */
uint16_t tb_nvme_dbbuf(struct tb_nvme *n);
/* The submission queue's doorbell, or its shadow. */
void tb_nvme_ring(struct tb_nvme *n, unsigned int queue);
/* Takes the next completion if there is one. */
bool tb_nvme_pop(struct tb_nvme *n, unsigned int queue, struct nvme_cqe *out);
/* The completion queue's doorbell, or its shadow. */
void tb_nvme_ack(struct tb_nvme *n, unsigned int queue);
void tb_nvme_bell(struct tb_nvme *n, unsigned int queue, bool completion, uint32_t value);

#define TB_NVME_NONE 0xffff /* no completion came */
/* Pushes, rings, runs, takes the completion, acknowledges. Returns the status without phase; dw0 may be NULL. */
uint16_t tb_nvme_do(struct tb_nvme *n, unsigned int queue, const struct nvme_sqe *cmd,
		    uint32_t *dw0);

/* Commands. */
struct nvme_sqe tb_nvme_rw(uint8_t opcode, uint64_t lba, uint32_t blocks, gpa_t prp1, gpa_t prp2);
struct nvme_sqe tb_nvme_admin(uint8_t opcode, uint32_t nsid, gpa_t prp1, uint32_t cdw10,
			      uint32_t cdw11);

#endif
