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
	put_le16(out + 256, BIT(8)); /* OACS: Doorbell Buffer Config */
	out[258] = 3; /* ACL: 4 aborts */
	out[259] = NVME_AER_MAX - 1;
	out[260] = 3; /* FRMW: one slot, read-only */
	out[261] = 0x05; /* LPA: SMART per namespace; offsets and long logs */
	out[262] = NVME_LOG_ENTRIES - 1;
	put_le16(out + 266, 343); /* WCTEMP, Kelvin */
	put_le16(out + 268, 353); /* CCTEMP */
	out[512] = NVME_SQES << 4 | NVME_SQES;
	out[513] = NVME_CQES << 4 | NVME_CQES;
	put_le32(out + 516, 1); /* NN */
	/* ONCS: Compare, Dataset Management, Write Zeroes, Verify */
	put_le16(out + 520, (uint16_t)(BIT(0) | (n->dsm ? BIT(2) : 0) |
				       (n->write_zeroes ? BIT(3) : 0) | BIT(7)));
	out[525] = 0x07; /* VWC: present; Flush takes the broadcast namespace */
	snprintf((char *)out + 768, 256,
		 "nqn.2014-08.org.nvmexpress:uuid:%08" PRIx32 "-%04x-4%03x-8%03x-%012" PRIx64,
		 (uint32_t)(n->eui64 >> 32), (unsigned int)(n->eui64 >> 16 & 0xffff),
		 (unsigned int)(n->eui64 >> 4 & 0xfff), (unsigned int)(n->eui64 & 0xfff),
		 n->eui64 & 0xffffffffffff);
	put_le16(out + 2048, 2500); /* power state 0: 25 W */
}

/* s5.15.2.1 */
static void ident_namespace(const struct nvme *n, uint8_t *out)
{
	const struct blk_info *info = blk_info_get(n->blk);
	uint32_t per_physical = info->physical_sector / info->sector;

	put_le64(out, n->blocks);
	put_le64(out + 8, n->blocks);
	put_le64(out + 16, n->blocks);
	if (per_physical > 1) {
		out[24] = BIT(4); /* NSFEAT: the preferences below are valid */
		put_le16(out + 64, (uint16_t)(per_physical - 1)); /* NPWG */
		put_le16(out + 66, (uint16_t)(per_physical - 1)); /* NPWA */
		put_le16(out + 68, (uint16_t)(per_physical - 1)); /* NPDG */
		put_le16(out + 70, (uint16_t)(per_physical - 1)); /* NPDA */
	}
	if (n->dsm && n->write_zeroes)
		out[33] = BIT(3); /* DLFEAT: Write Zeroes may deallocate */
	out[99] = n->read_only; /* NSATTR */
	put_be64(out + 120, n->eui64);
	out[130] = (uint8_t)n->block_shift; /* LBAF0.LBADS */
}

uint16_t nvme_identify(struct nvme *n, const struct nvme_sqe *cmd)
{
	uint8_t data[IDENT_SIZE] = { 0 };

	switch (cmd->cdw10 & 0xff) {
	case CNS_NAMESPACE:
		if (cmd->nsid != 1)
			return NVME_SC_INVALID_NS | NVME_DNR;
		ident_namespace(n, data);
		break;
	case CNS_CONTROLLER:
		ident_controller(n, data);
		break;
	case CNS_NAMESPACE_LIST:
		/* s5.15.2.3: those above NSID; the last two values cannot be asked for */
		if (cmd->nsid >= NVME_NSID_ALL - 1)
			return NVME_SC_INVALID_NS | NVME_DNR;
		put_le32(data, cmd->nsid == 0);
		break;
	case CNS_NAMESPACE_NAMES:
		/* s5.15.2.4: type 1, length 8: EUI-64 */
		if (cmd->nsid != 1)
			return NVME_SC_INVALID_NS | NVME_DNR;
		data[0] = 1;
		data[1] = 8;
		put_be64(data + 4, n->eui64);
		break;
	default:
		return NVME_SC_INVALID_FIELD | NVME_DNR;
	}
	return nvme_data_out(n, cmd, data, sizeof(data), sizeof(data));
}
