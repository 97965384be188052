/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include "util/canary.h"

#define INVALID_FIELD (NVME_SC_INVALID_FIELD | NVME_DNR)

/* --- queues --- */

static bool queue_id_valid(const struct nvme *n, uint32_t id)
{
	return id >= 1 && id < n->nqueues;
}

/* What both Create commands check: size, contiguity, address. Sets the count of entries. */
static uint16_t ring_check(const struct nvme *n, const struct nvme_sqe *cmd, uint32_t *entries)
{
	uint32_t size = (cmd->cdw10 >> 16) + 1;

	if (size < 2 || size > n->conf->qsz)
		return NVME_SC_QUEUE_SIZE | NVME_DNR;
	/* CAP.CQR: physically contiguous queues only. */
	if (!(cmd->cdw11 & 1))
		return INVALID_FIELD;
	if (cmd->prp1 % NVME_PAGE)
		return NVME_SC_PRP_OFFSET | NVME_DNR;
	*entries = size;
	return NVME_SC_OK;
}

/* s5.3 */
static uint16_t create_cq(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint32_t id = cmd->cdw10 & 0xffff, vector = cmd->cdw11 >> 16, entries;
	uint16_t status;
	void *ring;

	if (!queue_id_valid(n, id) || n->cq[id].size)
		return NVME_SC_QUEUE_ID | NVME_DNR;
	status = ring_check(n, cmd, &entries);
	if (status)
		return status;
	if (vector >= n->desc.msix.vectors || (n->pin && vector))
		return NVME_SC_VECTOR | NVME_DNR;
	ring = dma_ring(&n->fn.dma, cmd->prp1, (uint64_t)entries * sizeof(struct nvme_cqe),
			NVME_PAGE);
	if (!ring)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	n->cq[id].vector = (uint16_t)vector;
	n->cq[id].irq_on = cmd->cdw11 & 2;
	nvme_cq_open(n, id, ring, entries);
	return NVME_SC_OK;
}

/* s5.4 */
static uint16_t create_sq(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint32_t id = cmd->cdw10 & 0xffff, cq = cmd->cdw11 >> 16, entries;
	uint16_t status;
	void *ring;

	if (!queue_id_valid(n, id) || n->sq[id].size || !queue_id_valid(n, cq))
		return NVME_SC_QUEUE_ID | NVME_DNR;
	if (!n->cq[cq].size)
		return NVME_SC_CQ_INVALID | NVME_DNR;
	status = ring_check(n, cmd, &entries);
	if (status)
		return status;
	ring = dma_ring(&n->fn.dma, cmd->prp1, (uint64_t)entries * sizeof(struct nvme_sqe),
			NVME_PAGE);
	if (!ring)
		return NVME_SC_DATA_TRANSFER | NVME_DNR;
	nvme_sq_open(n, id, ring, entries, &n->cq[cq]);
	return NVME_SC_OK;
}

/* s5.6: the commands already fetched complete first. */
static uint16_t delete_sq(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint32_t id = cmd->cdw10 & 0xffff;
	struct nvme_sq *sq = &n->sq[id % NVME_MAX_QUEUES];

	if (!queue_id_valid(n, id) || !sq->size || sq->deleting)
		return NVME_SC_QUEUE_ID | NVME_DNR;
	if (!sq->inflight || CANARY) {
		nvme_sq_close(n, sq);
		return NVME_SC_OK;
	}
	sq->deleting = true;
	sq->delete_cid = nvme_cid(cmd);
	return NVME_LATER;
}

/* s5.5 */
static uint16_t delete_cq(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint32_t id = cmd->cdw10 & 0xffff;

	if (!queue_id_valid(n, id) || !n->cq[id].size)
		return NVME_SC_QUEUE_ID | NVME_DNR;
	if (n->cq[id].nsqs)
		return NVME_SC_QUEUE_DELETION | NVME_DNR;
	nvme_cq_close(&n->cq[id]);
	n->posted &= ~BIT64(id);
	nvme_pin_update(n);
	return NVME_SC_OK;
}

static bool io_queues_exist(const struct nvme *n)
{
	for (unsigned int i = 1; i < n->nqueues; i++)
		if (n->cq[i].size || n->sq[i].size)
			return true;
	return false;
}

/* --- features (s5.21.1) --- */

#define TEMP_OVER_DEFAULT 343 /* Kelvin, as WCTEMP of Identify */

void nvme_features_reset(struct nvme *n)
{
	n->feat = (struct nvme_features){
		.temp_over = TEMP_OVER_DEFAULT,
		.write_cache = true,
	};
	for (struct nvme_ns *ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id))
		ns->error_recovery = 0;
}

/* The features that are just numbers: where they are kept and which bits they have. */
static uint32_t *feature_word(struct nvme *n, uint8_t feature, uint32_t *mask)
{
	switch (feature) {
	case NVME_FEAT_ARBITRATION:
		*mask = 0xffffff07;
		return &n->feat.arbitration;
	case NVME_FEAT_COALESCING:
		*mask = 0xffff;
		return &n->feat.coalescing;
	case NVME_FEAT_ATOMICITY:
		*mask = 1;
		return &n->feat.atomicity;
	case NVME_FEAT_ASYNC_EVENT:
		*mask = 0x1f | NVME_WANT_NS_CHANGED;
		return &n->feat.events;
	default:
		return NULL;
	}
}

/* s5.21.1.4: only the composite temperature. NULL: no such sensor or threshold. */
static uint32_t *temperature_word(struct nvme *n, uint32_t cdw11, bool set)
{
	uint32_t sensor = cdw11 >> 16 & 15, type = cdw11 >> 20 & 3;

	if (type > 1 || (sensor && !(set && sensor == 15)))
		return NULL;
	return type ? &n->feat.temp_under : &n->feat.temp_over;
}

static uint16_t set_vector(struct nvme *n, uint32_t cdw11)
{
	uint32_t vector = cdw11 & 0xffff;

	if (vector >= n->desc.msix.vectors)
		return INVALID_FIELD;
	if (cdw11 & BIT(16))
		n->feat.no_coalescing |= BIT64(vector);
	else
		n->feat.no_coalescing &= ~BIT64(vector);
	return NVME_SC_OK;
}

/* s5.21.1.7: everything is always granted. */
static uint16_t set_queues(struct nvme *n, uint32_t cdw11, uint32_t *dw0)
{
	if ((cdw11 & 0xffff) == 0xffff || cdw11 >> 16 == 0xffff)
		return INVALID_FIELD;
	if (io_queues_exist(n))
		return NVME_SC_SEQUENCE | NVME_DNR;
	*dw0 = (n->nqueues - 2) * 0x10001u;
	return NVME_SC_OK;
}

/* s5.21.1.5: of one namespace, and set of all. */
static uint16_t set_error_recovery(struct nvme *n, uint32_t nsid, uint32_t cdw11)
{
	struct nvme_ns *ns;

	/* DULBE is not offered (NSFEAT). */
	if (cdw11 & ~0xffffu)
		return INVALID_FIELD;
	for (ns = nvme_ns_next(n, 0); ns; ns = nvme_ns_next(n, ns->id))
		if (nsid == ns->id || nsid == NVME_NSID_ALL)
			ns->error_recovery = cdw11;
	return NVME_SC_OK;
}

/* s5.21: most features are the controller's. */
static uint16_t feature_nsid_check(const struct nvme *n, uint8_t feature, uint32_t nsid, bool set)
{
	uint16_t status;

	if (feature == NVME_FEAT_ERROR_RECOVERY)
		return set && nsid == NVME_NSID_ALL ? NVME_SC_OK : nvme_ns_status(n, nsid);
	if (!nsid || nsid == NVME_NSID_ALL)
		return NVME_SC_OK;
	status = nvme_ns_status(n, nsid);
	return status || !set ? status : NVME_SC_FEATURE_NOT_NS | NVME_DNR;
}

static uint16_t set_features(struct nvme *n, const struct nvme_sqe *cmd, uint32_t *dw0)
{
	uint8_t feature = cmd->cdw10 & 0xff;
	uint32_t mask, *word;
	uint16_t status;

	if (cmd->cdw10 & BIT(31))
		return NVME_SC_NOT_SAVEABLE | NVME_DNR;
	status = feature_nsid_check(n, feature, cmd->nsid, true);
	if (status)
		return status;
	word = feature_word(n, feature, &mask);
	if (word) {
		/* Notices that are not offered are asked for all the same by some; they get none. */
		if (cmd->cdw11 & ~mask && feature != NVME_FEAT_ASYNC_EVENT)
			return INVALID_FIELD;
		*word = cmd->cdw11 & mask;
		nvme_coalesce_flush(n);
		return NVME_SC_OK;
	}
	switch (feature) {
	case NVME_FEAT_POWER:
		/* One power state. */
		return cmd->cdw11 & 0x1f ? INVALID_FIELD : NVME_SC_OK;
	case NVME_FEAT_TEMPERATURE:
		word = temperature_word(n, cmd->cdw11, true);
		if (!word)
			return INVALID_FIELD;
		*word = cmd->cdw11 & 0xffff;
		return NVME_SC_OK;
	case NVME_FEAT_ERROR_RECOVERY:
		return set_error_recovery(n, cmd->nsid, cmd->cdw11);
	case NVME_FEAT_WRITE_CACHE:
		n->feat.write_cache = cmd->cdw11 & 1;
		return NVME_SC_OK;
	case NVME_FEAT_QUEUES:
		return set_queues(n, cmd->cdw11, dw0);
	case NVME_FEAT_VECTOR:
		return set_vector(n, cmd->cdw11);
	default:
		return INVALID_FIELD;
	}
}

/* s5.14. Only current values: saving and selecting are not offered (ONCS bit 4). */
static uint16_t get_features(struct nvme *n, const struct nvme_sqe *cmd, uint32_t *dw0)
{
	uint8_t feature = cmd->cdw10 & 0xff;
	uint32_t mask, vector = cmd->cdw11 & 0xffff, *word;
	uint16_t status;

	if (cmd->cdw10 >> 8 & 7)
		return INVALID_FIELD;
	status = feature_nsid_check(n, feature, cmd->nsid, false);
	if (status)
		return status;
	word = feature_word(n, feature, &mask);
	if (word) {
		*dw0 = *word;
		return NVME_SC_OK;
	}
	switch (feature) {
	case NVME_FEAT_POWER:
		return NVME_SC_OK;
	case NVME_FEAT_TEMPERATURE:
		word = temperature_word(n, cmd->cdw11, false);
		if (!word)
			return INVALID_FIELD;
		*dw0 = *word;
		return NVME_SC_OK;
	case NVME_FEAT_ERROR_RECOVERY:
		*dw0 = n->ns[cmd->nsid - 1].error_recovery;
		return NVME_SC_OK;
	case NVME_FEAT_WRITE_CACHE:
		*dw0 = n->feat.write_cache;
		return NVME_SC_OK;
	case NVME_FEAT_QUEUES:
		*dw0 = (n->nqueues - 2) * 0x10001u;
		return NVME_SC_OK;
	case NVME_FEAT_VECTOR:
		if (vector >= n->desc.msix.vectors)
			return INVALID_FIELD;
		*dw0 = vector | (n->feat.no_coalescing & BIT64(vector) ? BIT(16) : 0);
		return NVME_SC_OK;
	default:
		return INVALID_FIELD;
	}
}

uint16_t nvme_admin_command(struct nvme *n, const struct nvme_sqe *cmd, uint32_t *dw0)
{
	switch (cmd->cdw0 & 0xff) {
	case NVME_ADM_DELETE_SQ:
		return delete_sq(n, cmd);
	case NVME_ADM_CREATE_SQ:
		return create_sq(n, cmd);
	case NVME_ADM_GET_LOG:
		return nvme_get_log(n, cmd);
	case NVME_ADM_DELETE_CQ:
		return delete_cq(n, cmd);
	case NVME_ADM_CREATE_CQ:
		return create_cq(n, cmd);
	case NVME_ADM_IDENTIFY:
		return nvme_identify(n, cmd);
	case NVME_ADM_ABORT:
		/* s5.1: what was fetched runs to its end; bit 0: not aborted. */
		*dw0 = 1;
		return NVME_SC_OK;
	case NVME_ADM_SET_FEATURES:
		return set_features(n, cmd, dw0);
	case NVME_ADM_GET_FEATURES:
		return get_features(n, cmd, dw0);
	case NVME_ADM_ASYNC_EVENT:
		return nvme_async_event(n, cmd);
	case NVME_ADM_FORMAT:
		return nvme_format(n, cmd);
	case NVME_ADM_DBBUF:
		return nvme_dbbuf_config(n, cmd);
	default:
		return NVME_SC_INVALID_OPCODE | NVME_DNR;
	}
}
