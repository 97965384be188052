/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <string.h>

#include "util/clock.h"

#define LOG_SIZE_MAX 512

/* --- asynchronous events (s5.2) --- */

void nvme_events_reset(struct nvme *n)
{
	n->naer = 0;
	n->events_due = 0;
	n->events_masked = 0;
}

uint16_t nvme_async_event(struct nvme *n, const struct nvme_sqe *cmd)
{
	struct nvme_sq *admin = &n->sq[0];

	if (n->naer == NVME_AER_MAX)
		return NVME_SC_AER_LIMIT | NVME_DNR;
	n->aer_cid[n->naer++] = nvme_cid(cmd);
	/* It may stay for ever: it must not hold back the queue's deletion, nor room that other commands need. */
	admin->inflight--;
	admin->cq->room++;
	nvme_events_send(n);
	return NVME_LATER;
}

/* One event of the type error is sent; the next ones wait until the guest has read the error log. */
void nvme_events_send(struct nvme *n)
{
	uint32_t due = n->events_due & ~n->events_masked;
	unsigned int event;

	if (!due || !n->naer)
		return;
	event = (unsigned int)__builtin_ctz(due);
	if (!nvme_complete_event(n, n->aer_cid[0], NVME_LOG_ERROR << 16 | event << 8))
		return;
	n->naer--;
	memmove(n->aer_cid, n->aer_cid + 1, n->naer * sizeof(n->aer_cid[0]));
	n->events_due &= ~BIT(event);
	n->events_masked = UINT32_MAX;
}

void nvme_event(struct nvme *n, enum nvme_event event)
{
	nvme_log_error(n, 0xffff, 0xffff, NVME_SC_INVALID_FIELD);
	n->events_due |= BIT(event);
}

/* --- log pages (s5.14) --- */

void nvme_log_error(struct nvme *n, uint16_t sq, uint16_t cid, uint16_t status)
{
	struct nvme_log_entry *e = &n->log[n->errors++ % NVME_LOG_ENTRIES];

	e->count = n->errors;
	e->sq = sq;
	e->cid = cid;
	e->status = status;
}

/* s5.14.1.1: newest first. */
static size_t log_errors(const struct nvme *n, uint8_t *out)
{
	for (unsigned int i = 0; i < NVME_LOG_ENTRIES && i < n->errors; i++) {
		const struct nvme_log_entry *e = &n->log[(n->errors - 1 - i) % NVME_LOG_ENTRIES];
		uint8_t *p = out + 64 * (size_t)i;

		put_le64(p, e->count);
		put_le16(p + 8, e->sq);
		put_le16(p + 10, e->cid);
		put_le16(p + 12, (uint16_t)(e->status << 1));
		put_le16(p + 14, 0xffff); /* parameter error location: none */
	}
	return 64 * (size_t)NVME_LOG_ENTRIES;
}

/* s5.14.1.2: data units are 1000 x 512 bytes, rounded up. */
static size_t log_smart(const struct nvme *n, uint8_t *out)
{
	struct blk_stats stats;
	uint64_t hours = (loop_now(n->fn.dev.env.loop) - n->made_ns) / (3600 * NS_PER_SEC);

	blk_stats_get(n->blk, &stats);
	put_le16(out + 1, 308); /* composite temperature, Kelvin */
	out[3] = 100; /* available spare, % */
	out[4] = 10; /* its threshold */
	put_le64(out + 32, (stats.read_bytes + 511999) / 512000);
	put_le64(out + 48, (stats.write_bytes + 511999) / 512000);
	put_le64(out + 64, n->reads);
	put_le64(out + 80, n->writes);
	put_le64(out + 112, 1); /* power cycles */
	put_le64(out + 128, hours);
	put_le64(out + 160, n->media_errors);
	put_le64(out + 176, n->errors);
	return 512;
}

/* s5.14.1.3: slot 1 is active. */
static size_t log_firmware(uint8_t *out)
{
	out[0] = 1;
	memcpy(out + 8, "1.0     ", 8);
	return 512;
}

uint16_t nvme_get_log(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint64_t dwords = (cmd->cdw10 >> 16 | (uint64_t)(cmd->cdw11 & 0xffff) << 16) + 1;
	uint64_t offset = cmd->cdw12 | (uint64_t)cmd->cdw13 << 32;
	bool keep_events = cmd->cdw10 & BIT(15);
	uint8_t page = cmd->cdw10 & 0xff, data[LOG_SIZE_MAX] = { 0 };
	uint16_t status;
	size_t size;

	if (page != NVME_LOG_ERROR && page != NVME_LOG_SMART && page != NVME_LOG_FIRMWARE)
		return NVME_SC_LOG_PAGE | NVME_DNR;
	if (cmd->nsid > 1 && cmd->nsid != NVME_NSID_ALL)
		return NVME_SC_INVALID_NS | NVME_DNR;
	if (page == NVME_LOG_ERROR)
		size = log_errors(n, data);
	else
		size = page == NVME_LOG_SMART ? log_smart(n, data) : log_firmware(data);
	if (offset & 3 || offset > size || dwords * 4 > (uint64_t)NVME_PAGE << NVME_MDTS)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	size = MIN(size - offset, dwords * 4);
	status = nvme_data_out(n, cmd, data + offset, size, dwords * 4);
	if (!status && page == NVME_LOG_ERROR && !keep_events)
		n->events_masked = 0;
	return status;
}
