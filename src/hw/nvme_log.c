/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <string.h>

#include "util/clock.h"
#include "util/macros.h"

#define LOG_SIZE_MAX 4096

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

#define TYPE_EVENTS(event) (0xffu << ((event) & ~7u)) /* all of the event's type */

/* The log page that the guest reads after an event of this type; only then is the next one sent. */
static const uint8_t event_pages[] = { NVME_LOG_ERROR, NVME_LOG_SMART, NVME_LOG_CHANGED_NS };

void nvme_events_send(struct nvme *n)
{
	uint32_t due;

	while ((due = n->events_due & ~n->events_masked) && n->naer) {
		unsigned int event = (unsigned int)__builtin_ctz(due), type = event >> 3;

		if (!nvme_complete_event(n, n->aer_cid[0],
					 (uint32_t)event_pages[type] << 16 | (event & 7) << 8 |
						 type))
			return;
		n->naer--;
		memmove(n->aer_cid, n->aer_cid + 1, n->naer * sizeof(n->aer_cid[0]));
		n->events_due &= ~BIT(event);
		n->events_masked |= TYPE_EVENTS(event);
	}
}

void nvme_event(struct nvme *n, enum nvme_event event)
{
	if ((event == NVME_EVENT_RELIABILITY && !(n->feat.events & NVME_WANT_RELIABILITY)) ||
	    (event == NVME_EVENT_NS_CHANGED && !(n->feat.events & NVME_WANT_NS_CHANGED)))
		return;
	if (!(event >> 3))
		nvme_log_error(n, 0xffff, 0xffff, NVME_SC_INVALID_FIELD);
	n->events_due |= BIT(event);
}

static void page_read(struct nvme *n, uint8_t page)
{
	for (unsigned int type = 0; type < ARRAY_LEN(event_pages); type++)
		if (event_pages[type] == page)
			n->events_masked &= ~TYPE_EVENTS(type << 3);
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

/* s5.14.1.2: of one namespace (LPA bit 0) or of all. Data units are 1000 x 512 bytes, rounded up. */
static size_t log_smart(struct nvme *n, uint32_t nsid, uint8_t *out)
{
	uint64_t hours = (loop_now(n->fn.dev.env.loop) - n->made_ns) / (3600 * NS_PER_SEC);
	uint64_t reads = 0, writes = 0, errors = 0, read_bytes = 0, write_bytes = 0;

	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id)) {
		struct blk_stats stats;

		if (nsid && nsid != NVME_NSID_ALL && nsid != ns->id)
			continue;
		blk_stats_get(ns->blk, &stats);
		read_bytes += stats.read_bytes;
		write_bytes += stats.write_bytes;
		reads += ns->reads;
		writes += ns->writes;
		errors += ns->media_errors;
		if (blk_failed(ns->blk))
			out[0] = BIT(2); /* critical warning: reliability */
	}
	put_le16(out + 1, 308); /* composite temperature, Kelvin */
	out[3] = 100; /* available spare, % */
	out[4] = 10; /* its threshold */
	put_le64(out + 32, (read_bytes + 511999) / 512000);
	put_le64(out + 48, (write_bytes + 511999) / 512000);
	put_le64(out + 64, reads);
	put_le64(out + 80, writes);
	put_le64(out + 112, 1); /* power cycles */
	put_le64(out + 128, hours);
	put_le64(out + 160, errors);
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

/* s5.14.1.4: namespaces whose identity changed since this was read. */
static size_t log_changed(const struct nvme *n, uint8_t *out)
{
	for (uint32_t left = n->ns_changed; left; left &= left - 1) {
		put_le32(out, (uint32_t)__builtin_ctz(left) + 1);
		out += 4;
	}
	return 4096;
}

/* The page's contents and size, 0: there is none. */
static size_t log_page(struct nvme *n, uint8_t page, uint32_t nsid, uint8_t *out)
{
	switch (page) {
	case NVME_LOG_ERROR:
		return log_errors(n, out);
	case NVME_LOG_SMART:
		return log_smart(n, nsid, out);
	case NVME_LOG_FIRMWARE:
		return log_firmware(out);
	case NVME_LOG_CHANGED_NS:
		return log_changed(n, out);
	default:
		return 0;
	}
}

uint16_t nvme_get_log(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint64_t dwords = (cmd->cdw10 >> 16 | (uint64_t)(cmd->cdw11 & 0xffff) << 16) + 1;
	uint64_t offset = cmd->cdw12 | (uint64_t)cmd->cdw13 << 32;
	bool keep_events = cmd->cdw10 & BIT(15);
	uint8_t page = cmd->cdw10 & 0xff, data[LOG_SIZE_MAX] = { 0 };
	uint16_t status;
	size_t size = log_page(n, page, cmd->nsid, data);

	if (!size)
		return NVME_SC_LOG_PAGE | NVME_DNR;
	if (cmd->nsid && cmd->nsid != NVME_NSID_ALL) {
		status = nvme_ns_status(n, cmd->nsid);
		if (status)
			return status;
	}
	if (offset & 3 || offset > size || dwords * 4 > (uint64_t)NVME_PAGE << NVME_MDTS)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	size = MIN(size - offset, dwords * 4);
	status = nvme_data_out(n, cmd, data + offset, size, dwords * 4);
	if (!status && !keep_events) {
		page_read(n, page);
		if (page == NVME_LOG_CHANGED_NS) {
			n->ns_changed = 0;
			/* What came since the last notice is in the list that was just read. */
			n->events_due &= ~BIT(NVME_EVENT_NS_CHANGED);
		}
	}
	return status;
}
