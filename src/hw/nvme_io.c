/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "util/checked.h"

/* --- requests --- */

static void req_free(struct nvme_req *r)
{
	struct nvme *n = r->n;

	if (r->buf) {
		n->free_bufs[n->nfree_bufs++] = r->buf;
		r->buf = NULL;
	}
	r->next_free = n->free_reqs;
	n->free_reqs = r;
}

/* sq_run() has seen that one is free. */
static struct nvme_req *req_new(struct nvme *n, struct nvme_sq *sq, const struct nvme_sqe *cmd)
{
	struct nvme_req *r = n->free_reqs;

	n->free_reqs = r->next_free;
	r->sq = sq;
	r->cid = nvme_cid(cmd);
	r->blk.flags = 0;
	r->next = NULL;
	return r;
}

struct nvme_buf *nvme_req_buf(struct nvme_req *r)
{
	return r->buf = r->n->free_bufs[--r->n->nfree_bufs];
}

uint16_t nvme_status_of(enum blk_op op, int res)
{
	if (res == 0)
		return NVME_SC_OK;
	switch (res) {
	case -ENOSPC:
	case -EDQUOT:
		return NVME_SC_CAPACITY;
	case -EROFS:
		return NVME_SC_WRITE_PROTECTED | NVME_DNR;
	case -EOPNOTSUPP:
		/* Deallocation is advice (s6.7). */
		return op == BLK_DISCARD ? NVME_SC_OK : NVME_SC_INVALID_OPCODE | NVME_DNR;
	case -EIO:
		return op == BLK_READ ? NVME_SC_READ_ERROR : NVME_SC_WRITE_FAULT;
	default:
		return NVME_SC_INTERNAL;
	}
}

/* s5.14.1.2: critical warning bit 2 comes with it. */
void nvme_note_failure(struct nvme *n, struct nvme_ns *ns)
{
	ns->media_errors++;
	if (!blk_failed(ns->blk) || ns->unreliable)
		return;
	ns->unreliable = true;
	nvme_event(n, NVME_EVENT_RELIABILITY);
}

static void req_done(struct blk_req *blk, int res)
{
	struct nvme_req *r = container_of(blk, struct nvme_req, blk);
	struct nvme *n = r->n;
	uint16_t status = nvme_status_of(blk->op, res);

	n->inflight--;
	if (status) {
		nvme_note_failure(n, r->ns);
	} else if (r->next && n->state != NVME_RESETTING) {
		status = r->next(r);
		if (status == NVME_LATER)
			return;
	}
	nvme_complete(n, r->sq, r->cid, status, 0);
	req_free(r);
}

static void flush_done(struct blk_req *blk, int res);

static void flush_ns(struct nvme *n, struct nvme_ns *ns)
{
	n->flush_ns = ns;
	n->flush.op = BLK_FLUSH;
	n->flush.done = flush_done;
	n->inflight++;
	ns->batch[ns->nbatch++] = &n->flush;
}

static void flush_done(struct blk_req *blk, int res)
{
	struct nvme *n = container_of(blk, struct nvme, flush);
	struct nvme_ns *next = nvme_ns_next(n, n->flush_ns->id);

	n->inflight--;
	if (res)
		nvme_note_failure(n, n->flush_ns);
	if (n->state != NVME_SHUTTING)
		return;
	if (next)
		flush_ns(n, next);
	else
		n->state = NVME_SHUT;
}

/* Shutdown's own flush of all namespaces, one after the other (s7.6.2). */
void nvme_start_flush(struct nvme *n)
{
	flush_ns(n, nvme_ns_next(n, 0));
	nvme_submit(n);
}

int nvme_io_init(struct nvme *n, unsigned int slots)
{
	unsigned int bufs = MIN(slots, (unsigned int)NVME_BUFS);

	n->reqs = calloc(slots, sizeof(*n->reqs));
	n->bufs = calloc(bufs, sizeof(*n->bufs));
	n->free_bufs = calloc(bufs, sizeof(struct nvme_buf *));
	if (!n->reqs || !n->bufs || !n->free_bufs)
		return -ENOMEM;
	for (unsigned int i = slots; i-- > 0;) {
		n->reqs[i].n = n;
		n->reqs[i].blk.done = req_done;
		req_free(&n->reqs[i]);
	}
	for (unsigned int i = bufs; i-- > 0;)
		n->free_bufs[n->nfree_bufs++] = &n->bufs[i];
	return 0;
}

void nvme_io_fini(struct nvme *n)
{
	assert(n->inflight == 0);
	free(n->reqs);
	free(n->bufs);
	free(n->free_bufs);
}

/* --- commands --- */

/* Turns the PRPs into the request's pieces. */
static uint16_t req_map(struct nvme *n, struct nvme_req *r, const struct nvme_sqe *cmd)
{
	uint64_t span = r->blk.len + cmd->prp1 % NVME_PAGE;
	bool small = span <= (uint64_t)NVME_IOV_INLINE * NVME_PAGE;
	struct iovec *iov = small ? r->iov : nvme_req_buf(r)->u.iov;

	r->blk.iov = iov;
	return nvme_prp_map(&n->fn.dma, cmd, r->blk.len, iov,
			    small ? NVME_IOV_INLINE : NVME_IOV_MAX, &r->blk.iovcnt);
}

/* s6.9, s6.15. */
static uint16_t io_transfer(struct nvme *n, struct nvme_req *r, const struct nvme_sqe *cmd)
{
	bool write = (cmd->cdw0 & 0xff) == NVME_CMD_WRITE;
	struct nvme_ns *ns = r->ns;
	uint16_t status;

	if ((cmd->cdw12 & 0xffff) >= ns->blocks_max || cmd->mptr)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	if (write && cmd->cdw12 & NVME_RW_DTYPE_MASK)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	status = nvme_req_range(r, cmd);
	if (status)
		return status;
	if (write && ns->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_DNR;
	status = req_map(n, r, cmd);
	if (status)
		return status;
	if (write) {
		r->blk.op = BLK_WRITE;
		if (cmd->cdw12 & NVME_RW_FUA || !n->feat.write_cache)
			r->blk.flags = BLK_FUA;
		ns->writes++;
	} else {
		r->blk.op = BLK_READ;
		ns->reads++;
	}
	return nvme_req_start(r);
}

/* s6.16. */
static uint16_t io_write_zeroes(struct nvme *n, struct nvme_req *r, const struct nvme_sqe *cmd)
{
	uint16_t status;

	if (!n->write_zeroes)
		return NVME_SC_INVALID_OPCODE | NVME_DNR;
	status = nvme_req_range(r, cmd);
	if (status)
		return status;
	if (r->ns->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_DNR;
	r->blk.op = BLK_WRITE_ZEROES;
	r->blk.iov = NULL;
	r->blk.iovcnt = 0;
	if (cmd->cdw12 & NVME_RW_FUA || !n->feat.write_cache)
		r->blk.flags |= BLK_FUA;
	if (cmd->cdw12 & NVME_WZ_DEAC && n->dsm)
		r->blk.flags |= BLK_UNMAP;
	return nvme_req_start(r);
}

/* One range after the other, with the same request. */
static uint16_t dsm_next(struct nvme_req *r)
{
	const struct nvme_dsm_range *range = &r->buf->u.ranges[r->range++];

	if (r->range > r->ranges)
		return NVME_SC_OK;
	r->blk.offset = range->lba << r->ns->block_shift;
	r->blk.len = (uint64_t)range->blocks << r->ns->block_shift;
	return nvme_req_start(r);
}

/* s6.7: all ranges are checked before the first one is acted on. */
static uint16_t io_dsm(struct nvme *n, struct nvme_req *r, const struct nvme_sqe *cmd)
{
	unsigned int count = (cmd->cdw10 & 0xff) + 1, kept = 0;
	struct nvme_dsm_range *ranges;
	uint16_t status;

	if (!n->dsm)
		return NVME_SC_INVALID_OPCODE | NVME_DNR;
	ranges = nvme_req_buf(r)->u.ranges;
	status = nvme_data_in(n, cmd, ranges, count * sizeof(*ranges));
	if (status)
		return status;
	for (unsigned int i = 0; i < count; i++) {
		if (!range_inside(ranges[i].lba, ranges[i].blocks, r->ns->blocks))
			return NVME_SC_LBA_RANGE | NVME_DNR;
		if (ranges[i].blocks)
			ranges[kept++] = ranges[i];
	}
	if (!(cmd->cdw11 & NVME_DSM_AD) || !kept)
		return NVME_SC_OK;
	if (r->ns->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_DNR;
	r->blk.op = BLK_DISCARD;
	r->blk.iov = NULL;
	r->blk.iovcnt = 0;
	r->range = 0;
	r->ranges = (uint16_t)kept;
	r->next = dsm_next;
	return dsm_next(r);
}

static uint16_t io_flush(struct nvme_req *r)
{
	r->blk.op = BLK_FLUSH;
	r->blk.offset = 0;
	r->blk.len = 0;
	r->blk.iov = NULL;
	r->blk.iovcnt = 0;
	return nvme_req_start(r);
}

/* Of all namespaces, one after the other. */
static uint16_t flush_next(struct nvme_req *r)
{
	struct nvme_ns *ns = nvme_ns_next(r->n, r->range);

	if (!ns)
		return NVME_SC_OK;
	r->ns = ns;
	r->range = (uint16_t)ns->id;
	return io_flush(r);
}

static uint16_t io_flush_all(struct nvme_req *r)
{
	r->range = 0;
	r->next = flush_next;
	return flush_next(r);
}

/* A command whose namespace takes none. */
__attribute__((noinline)) static uint16_t io_elsewhere(struct nvme *n, struct nvme_req *r,
						       const struct nvme_sqe *cmd)
{
	uint16_t status;

	switch (cmd->cdw0 & 0xff) {
	case NVME_CMD_FLUSH:
		if (cmd->nsid == NVME_NSID_ALL)
			return n->format.ns ? NVME_SC_FORMAT_IN_PROGRESS : io_flush_all(r);
		break;
	case NVME_CMD_READ:
	case NVME_CMD_WRITE:
	case NVME_CMD_WRITE_ZEROES:
	case NVME_CMD_DSM:
	case NVME_CMD_COMPARE:
	case NVME_CMD_VERIFY:
		break;
	default:
		return NVME_SC_INVALID_OPCODE | NVME_DNR;
	}
	status = nvme_ns_status(n, cmd->nsid);
	return status ? status : NVME_SC_FORMAT_IN_PROGRESS;
}

static uint16_t io_dispatch(struct nvme *n, struct nvme_req *r, const struct nvme_sqe *cmd)
{
	uint8_t opcode = cmd->cdw0 & 0xff;
	uint32_t place = cmd->nsid - 1;
	struct nvme_ns *ns = place < NVME_NS_MAX ? n->ready_ns[place] : NULL;

	if (!ns)
		return io_elsewhere(n, r, cmd);
	r->ns = ns;
	if (opcode == NVME_CMD_READ || opcode == NVME_CMD_WRITE)
		return io_transfer(n, r, cmd);
	switch (opcode) {
	case NVME_CMD_FLUSH:
		return io_flush(r);
	case NVME_CMD_WRITE_ZEROES:
		return io_write_zeroes(n, r, cmd);
	case NVME_CMD_DSM:
		return io_dsm(n, r, cmd);
	case NVME_CMD_COMPARE:
		return nvme_io_compare(r, cmd);
	case NVME_CMD_VERIFY:
		return nvme_io_verify(r, cmd);
	default:
		return NVME_SC_INVALID_OPCODE | NVME_DNR;
	}
}

uint16_t nvme_io_command(struct nvme *n, struct nvme_sq *sq, const struct nvme_sqe *cmd)
{
	struct nvme_req *r = req_new(n, sq, cmd);
	uint16_t status = io_dispatch(n, r, cmd);

	if (status != NVME_LATER)
		req_free(r);
	return status;
}
