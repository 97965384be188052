/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

/*
 * Format NVM (s5.23): zeroes are written to all of a namespace, with the space given back where the disk can do that,
 * and flushed. One command at a time, one namespace after the other. While it runs they take no commands.
 */
#define STEP (64 * MIB) /* a reset or a pause waits for one */

#define SES_USER_DATA 1

/* All that the command names are as before, or formatted, from now on. */
static void release(struct nvme *n)
{
	struct nvme_format *f = &n->format;

	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id))
		n->ready_ns[ns->id - 1] = ns;
	f->ns = NULL;
	f->left = 0;
	f->parked = false;
}

static void finish(struct nvme *n, uint16_t status)
{
	release(n);
	nvme_complete(n, &n->sq[0], n->format.cid, status, 0);
}

/* Starts what comes next: the next piece of zeroes, or the flush behind them. */
static void step(struct nvme *n)
{
	struct nvme_format *f = &n->format;
	const struct blk_info *info = blk_info_get(f->ns->blk);

	f->blk.offset += f->blk.len;
	f->blk.len = MIN(info->size - f->blk.offset, STEP);
	f->blk.op = f->blk.len ? BLK_WRITE_ZEROES : BLK_FLUSH;
	f->blk.flags = f->blk.len && info->discard ? BLK_UNMAP : 0;
	if (!f->blk.len)
		f->blk.offset = 0;
	n->inflight++;
	f->ns->batch[f->ns->nbatch++] = &f->blk;
}

/* The next one of those that are left. False: there is none. */
static bool next_namespace(struct nvme *n)
{
	struct nvme_format *f = &n->format;

	if (!f->left)
		return false;
	f->ns = &n->ns[__builtin_ctz(f->left)];
	f->left &= f->left - 1;
	f->blk.offset = f->blk.len = 0;
	return true;
}

static void format_done(struct blk_req *blk, int res)
{
	struct nvme *n = container_of(blk, struct nvme, format.blk);
	struct nvme_format *f = &n->format;

	n->inflight--;
	if (res)
		nvme_note_failure(n, f->ns);
	else if (blk->op == BLK_FLUSH)
		nvme_ns_set_format(f->ns, f->lbaf);
	if (res || n->state == NVME_RESETTING || (blk->op == BLK_FLUSH && !next_namespace(n))) {
		finish(n, nvme_status_of(blk->op, res));
		return;
	}
	if (n->pausing)
		f->parked = true;
	else
		step(n);
}

void nvme_format_resume(struct nvme *n)
{
	if (!n->format.parked)
		return;
	n->format.parked = false;
	step(n);
	nvme_submit(n);
}

void nvme_format_drop(struct nvme *n)
{
	if (!n->format.parked)
		return;
	release(n);
	n->sq[0].inflight--;
}

/* What speaks against it. Commands in flight come to their end first (s5.23). */
static uint16_t check(const struct nvme_ns *ns, const struct nvme_sqe *cmd)
{
	struct blk_stats stats;

	/* No metadata, so no protection information. */
	if ((cmd->cdw10 & 15) >= ns->nformats || cmd->cdw10 >> 5 & 7)
		return NVME_SC_INVALID_FORMAT | NVME_DNR;
	if (ns->read_only)
		return NVME_SC_WRITE_PROTECTED | NVME_DNR;
	blk_stats_get(ns->blk, &stats);
	return ns->nbatch || stats.accepted != stats.completed ? NVME_SC_SEQUENCE : NVME_SC_OK;
}

uint16_t nvme_format(struct nvme *n, const struct nvme_sqe *cmd)
{
	bool all = cmd->nsid == NVME_NSID_ALL;
	uint16_t status = all ? NVME_SC_OK : nvme_ns_status(n, cmd->nsid);
	struct nvme_format *f = &n->format;
	uint32_t chosen = 0;

	if (status)
		return status;
	/* Cryptographic erase is not offered (FNA). */
	if ((cmd->cdw10 >> 9 & 7) > SES_USER_DATA)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	if (f->ns)
		return NVME_SC_FORMAT_IN_PROGRESS;
	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id)) {
		if (!all && ns->id != cmd->nsid)
			continue;
		status = check(ns, cmd);
		if (status)
			return status;
		chosen |= BIT(ns->id - 1);
	}
	f->left = chosen;
	f->cid = nvme_cid(cmd);
	f->lbaf = cmd->cdw10 & 15;
	f->blk.done = format_done;
	for (; chosen; chosen &= chosen - 1)
		n->ready_ns[__builtin_ctz(chosen)] = NULL;
	next_namespace(n);
	step(n);
	return NVME_LATER;
}
