/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <string.h>

/*
 * Compare and Verify (s6.6, s6.18): the blocks are read into a buffer of ours, a piece at a time, and looked at there.
 */

/* Reads what comes next; r->left counts what comes after it. */
static uint16_t read_piece(struct nvme_req *r, uint64_t len)
{
	r->iov[0] = (struct iovec){ r->buf->bounce, len };
	r->blk.op = BLK_READ;
	r->blk.iov = r->iov;
	r->blk.iovcnt = 1;
	r->blk.len = len;
	r->left -= len;
	return nvme_req_start(r);
}

static uint16_t next_piece(struct nvme_req *r)
{
	r->blk.offset += r->blk.len;
	return r->left ? read_piece(r, MIN(r->left, (uint64_t)NVME_BOUNCE)) : NVME_SC_OK;
}

/* s6.18: no data moves, the blocks must be readable. */
uint16_t nvme_io_verify(struct nvme_req *r, const struct nvme_sqe *cmd)
{
	uint16_t status = nvme_req_range(r, cmd);

	if (status)
		return status;
	nvme_req_buf(r);
	r->next = next_piece;
	r->left = r->blk.len;
	return read_piece(r, MIN(r->left, (uint64_t)NVME_BOUNCE));
}

/* The guest's pieces from r->range on hold what the piece just read is to be; those used up are cut off. */
static bool same(struct nvme_req *r)
{
	const uint8_t *read = r->buf->bounce;
	uint64_t left = r->blk.len;

	while (left) {
		struct iovec *iov = &r->buf->u.iov[r->range];
		size_t part = MIN(left, iov->iov_len);

		if (memcmp(read, iov->iov_base, part) != 0)
			return false;
		read += part;
		left -= part;
		iov->iov_base = (uint8_t *)iov->iov_base + part;
		iov->iov_len -= part;
		if (!iov->iov_len)
			r->range++;
	}
	return true;
}

static uint16_t compare_piece(struct nvme_req *r)
{
	return same(r) ? next_piece(r) : NVME_SC_COMPARE_FAILURE;
}

/* s6.6: the guest's data is looked at when the disk's is there. */
uint16_t nvme_io_compare(struct nvme_req *r, const struct nvme_sqe *cmd)
{
	unsigned int count;
	uint16_t status;

	if ((cmd->cdw12 & 0xffff) >= r->ns->blocks_max || cmd->mptr)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	status = nvme_req_range(r, cmd);
	if (status)
		return status;
	status = nvme_prp_map(&r->n->fn.dma, cmd, r->blk.len, nvme_req_buf(r)->u.iov, NVME_IOV_MAX,
			      &count);
	if (status)
		return status;
	r->next = compare_piece;
	r->range = 0;
	r->left = r->blk.len;
	return read_piece(r, MIN(r->left, (uint64_t)NVME_BOUNCE));
}
