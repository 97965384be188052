/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#include "hw/nvme_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* s5.15: what Identify returns. Offsets are those of the figures; what is not set is zero: not offered. */

#define IDENT_SIZE 4096

enum {
	CNS_NAMESPACE = 0,
	CNS_CONTROLLER = 1,
	CNS_NAMESPACE_LIST = 2,
	CNS_NAMESPACE_NAMES = 3,
};

/* ASCII fields are padded with spaces. */
static void put_text(uint8_t *out, size_t size, const char *text)
{
	size_t len = strnlen(text, size);

	memset(out, ' ', size);
	memcpy(out, text, len);
}

/* s5.15.2.2 */
static void ident_controller(const struct nvme *n, uint8_t *out)
{
	uint64_t id = n->ns[0].eui64;

	put_le16(out, n->desc.vendor);
	put_le16(out + 2, n->desc.subvendor);
	put_text(out + 4, 20, n->serial);
	put_text(out + 24, 40, "khyve NVMe");
	put_text(out + 64, 8, "1.0");
	out[72] = 6; /* RAB: recommended burst 64 */
	out[77] = NVME_MDTS;
	put_le32(out + 80, NVME_VERSION);
	put_le32(out + 92, NVME_WANT_NS_CHANGED); /* OAES */
	out[111] = 1; /* CNTRLTYPE: I/O controller */
	put_le16(out + 256, BIT(1) | BIT(8)); /* OACS: Format NVM, Doorbell Buffer Config */
	out[258] = 3; /* ACL: 4 aborts */
	out[259] = NVME_AER_MAX - 1;
	out[260] = 3; /* FRMW: one slot, read-only */
	out[261] = 0x05; /* LPA: SMART per namespace; offsets and long logs */
	out[262] = NVME_LOG_ENTRIES - 1;
	put_le16(out + 266, 343); /* WCTEMP, Kelvin */
	put_le16(out + 268, 353); /* CCTEMP */
	out[512] = NVME_SQES << 4 | NVME_SQES;
	out[513] = NVME_CQES << 4 | NVME_CQES;
	put_le32(out + 516, n->nn);
	/* ONCS: Compare, Dataset Management, Write Zeroes, Verify */
	put_le16(out + 520, (uint16_t)(BIT(0) | (n->dsm ? BIT(2) : 0) |
				       (n->write_zeroes ? BIT(3) : 0) | BIT(7)));
	out[525] = 0x07; /* VWC: present; Flush takes the broadcast namespace */
	snprintf((char *)out + 768, 256,
		 "nqn.2014-08.org.nvmexpress:uuid:%08" PRIx32 "-%04x-4%03x-8%03x-%012" PRIx64,
		 (uint32_t)(id >> 32), (unsigned int)(id >> 16 & 0xffff),
		 (unsigned int)(id >> 4 & 0xfff), (unsigned int)(id & 0xfff), id & 0xffffffffffff);
	put_le16(out + 2048, 2500); /* power state 0: 25 W */
}

/* s5.15.2.1 */
static void ident_namespace(const struct nvme *n, const struct nvme_ns *ns, uint8_t *out)
{
	const struct blk_info *info = blk_info_get(ns->blk);
	uint32_t per_physical = info->physical_sector >> ns->block_shift;

	put_le64(out, ns->blocks);
	put_le64(out + 8, ns->blocks);
	put_le64(out + 16, ns->blocks);
	if (per_physical > 1) {
		out[24] = BIT(4); /* NSFEAT: the preferences below are valid */
		put_le16(out + 64, (uint16_t)(per_physical - 1)); /* NPWG */
		put_le16(out + 66, (uint16_t)(per_physical - 1)); /* NPWA */
		put_le16(out + 68, (uint16_t)(per_physical - 1)); /* NPDG */
		put_le16(out + 70, (uint16_t)(per_physical - 1)); /* NPDA */
	}
	if (n->dsm && !ns->read_only)
		out[33] = BIT(3); /* DLFEAT: Write Zeroes may deallocate */
	out[99] = ns->read_only; /* NSATTR */
	put_be64(out + 120, ns->eui64);
	out[25] = ns->nformats - 1; /* NLBAF */
	out[26] = ns->format; /* FLBAS */
	for (unsigned int i = 0; i < ns->nformats; i++)
		out[130 + 4 * i] = ns->formats[i]; /* LBADS */
}

/* s5.15.2.1: of an inactive one, zeroes. */
static uint16_t ident_one(const struct nvme *n, uint32_t nsid, uint8_t *out)
{
	if (!nsid || nsid > n->nn)
		return NVME_SC_INVALID_NS | NVME_DNR;
	if (n->ns[nsid - 1].blk)
		ident_namespace(n, &n->ns[nsid - 1], out);
	return NVME_SC_OK;
}

/* s5.15.2.3: those above nsid; the last two values cannot be asked for. */
static uint16_t ident_list(struct nvme *n, uint32_t nsid, uint8_t *out)
{
	if (nsid >= NVME_NSID_ALL - 1)
		return NVME_SC_INVALID_NS | NVME_DNR;
	for (const struct nvme_ns *ns = nvme_ns_next(n, nsid); ns; ns = nvme_ns_next(n, ns->id)) {
		put_le32(out, ns->id);
		out += 4;
	}
	return NVME_SC_OK;
}

/* s5.15.2.4: type 1, length 8: EUI-64. */
static uint16_t ident_names(const struct nvme *n, uint32_t nsid, uint8_t *out)
{
	if (!nsid || nsid > n->nn)
		return NVME_SC_INVALID_NS | NVME_DNR;
	if (!n->ns[nsid - 1].blk)
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	out[0] = 1;
	out[1] = 8;
	put_be64(out + 4, n->ns[nsid - 1].eui64);
	return NVME_SC_OK;
}

uint16_t nvme_identify(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint8_t data[IDENT_SIZE] = { 0 };
	uint16_t status = NVME_SC_OK;

	switch (cmd->cdw10 & 0xff) {
	case CNS_NAMESPACE:
		status = ident_one(n, cmd->nsid, data);
		break;
	case CNS_CONTROLLER:
		ident_controller(n, data);
		break;
	case CNS_NAMESPACE_LIST:
		status = ident_list(n, cmd->nsid, data);
		break;
	case CNS_NAMESPACE_NAMES:
		status = ident_names(n, cmd->nsid, data);
		break;
	default:
		status = NVME_SC_INVALID_FIELD | NVME_DNR;
	}
	if (status)
		return status;
	return nvme_data_out(n, cmd, data, sizeof(data), sizeof(data));
}
