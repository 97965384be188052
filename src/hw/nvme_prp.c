/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <string.h>

#define ENTRY_SIZE sizeof(uint64_t)
#define PAGE_MASK ((uint64_t)NVME_PAGE - 1)

/* Neighbouring pages are gathered into one range before memory is looked up. */
struct walk {
	const struct dma *dma;
	struct iovec *iov;
	unsigned int max, count;
	gpa_t start;
	uint64_t len;
};

static uint16_t walk_flush(struct walk *w)
{
	int pieces;

	if (!w->len)
		return NVME_SC_OK;
	pieces = dma_iov(w->dma, w->start, w->len, w->iov + w->count, (int)(w->max - w->count));
	if (pieces < 0)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	w->count += (unsigned int)pieces;
	w->len = 0;
	return NVME_SC_OK;
}

static uint16_t walk_add(struct walk *w, gpa_t gpa, uint64_t len)
{
	uint16_t status;

	if (w->len && w->start + w->len == gpa) {
		w->len += len;
		return NVME_SC_OK;
	}
	status = walk_flush(w);
	w->start = gpa;
	w->len = len;
	return status;
}

/* s4.3: a page of a transfer after the first one. */
static uint16_t walk_page(struct walk *w, gpa_t page, uint64_t *left)
{
	uint64_t len = MIN(*left, (uint64_t)NVME_PAGE);

	if (page & PAGE_MASK)
		return NVME_SC_PRP_OFFSET | NVME_DNR;
	if (!page)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	*left -= len;
	return walk_add(w, page, len);
}

/*
 * s4.3: the list at list describes left bytes. Each list page is read once; its last entry is the address of the
 * next one if more pages remain than it can name. That one must start a page, so every step covers 511 pages.
 */
static uint16_t walk_list(struct walk *w, gpa_t list, uint64_t left)
{
	uint64_t entries[NVME_PAGE / ENTRY_SIZE];

	if (list & (ENTRY_SIZE - 1))
		return NVME_SC_PRP_OFFSET | NVME_DNR;
	while (left) {
		uint64_t pages = (left + PAGE_MASK) / NVME_PAGE;
		uint64_t n = (NVME_PAGE - (list & PAGE_MASK)) / ENTRY_SIZE;
		bool chained = pages > n;

		n = MIN(n, pages);
		if (!list || dma_read(w->dma, list, entries, n * ENTRY_SIZE) < 0)
			return NVME_SC_DATA_TRANSFER | NVME_DNR;
		for (uint64_t i = 0; i < n - chained; i++) {
			uint16_t status = walk_page(w, entries[i], &left);

			if (status)
				return status;
		}
		if (!chained)
			break;
		list = entries[n - 1];
		if (list & PAGE_MASK)
			return NVME_SC_PRP_OFFSET | NVME_DNR;
	}
	return walk_flush(w);
}

/* More than what is left of the first page. Kept apart so that the short way saves no registers. */
__attribute__((noinline)) static uint16_t map_pages(const struct dma *dma,
						    const struct nvme_sqe *cmd, uint64_t len,
						    struct iovec *iov, unsigned int max,
						    unsigned int *count)
{
	struct walk w = {
		.dma = dma,
		.iov = iov,
		.max = max,
		.start = cmd->prp1,
		.len = NVME_PAGE - (cmd->prp1 & PAGE_MASK),
	};
	uint16_t status;

	len -= w.len;
	if (len > NVME_PAGE) {
		status = walk_list(&w, cmd->prp2, len);
	} else {
		status = walk_page(&w, cmd->prp2, &len);
		if (!status)
			status = walk_flush(&w);
	}
	if (!status)
		*count = w.count;
	return status;
}

uint16_t nvme_prp_map(const struct dma *dma, const struct nvme_sqe *cmd, uint64_t len,
		      struct iovec *iov, unsigned int max, unsigned int *count)
{
	gpa_t prp1 = cmd->prp1;

	if (prp1 & 3)
		return NVME_SC_PRP_OFFSET | NVME_DNR;
	if (!prp1)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	if (len > NVME_PAGE - (prp1 & PAGE_MASK))
		return map_pages(dma, cmd, len, iov, max, count);
	/* A page never lies in two pieces of memory. */
	if (dma_iov(dma, prp1, len, iov, 1) < 0)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	*count = 1;
	return NVME_SC_OK;
}

uint16_t nvme_data_out(struct nvme *n, const struct nvme_sqe *cmd, const void *buf, size_t len,
		       uint64_t total)
{
	const uint8_t *from = buf;
	unsigned int count;
	uint16_t status;

	status = nvme_prp_map(&n->fn.dma, cmd, total, n->scratch, NVME_IOV_MAX, &count);
	if (status)
		return status;
	for (unsigned int i = 0; i < count; i++) {
		uint8_t *to = n->scratch[i].iov_base;
		size_t part = MIN(len, n->scratch[i].iov_len);

		memcpy(to, from, part);
		memset(to + part, 0, n->scratch[i].iov_len - part);
		from += part;
		len -= part;
	}
	return NVME_SC_OK;
}

uint16_t nvme_data_in(struct nvme *n, const struct nvme_sqe *cmd, void *buf, size_t len)
{
	uint8_t *to = buf;
	unsigned int count;
	uint16_t status;

	status = nvme_prp_map(&n->fn.dma, cmd, len, n->scratch, NVME_IOV_MAX, &count);
	if (status)
		return status;
	for (unsigned int i = 0; i < count; i++) {
		memcpy(to, n->scratch[i].iov_base, n->scratch[i].iov_len);
		to += n->scratch[i].iov_len;
	}
	return NVME_SC_OK;
}
