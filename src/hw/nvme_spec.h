/* SPDX-License-Identifier: BSD-2-Clause */
/* Copyright (c) 2026 the khyve authors */
#ifndef HW_NVME_SPEC_H
#define HW_NVME_SPEC_H

#include "util/bytes.h"
#include "util/macros.h"

/* What both sides of an NVMe controller must agree on: NVM Express 1.4, numbers and layouts only. */

/* s3.1: registers of BAR 0 */
#define NVME_REG_CAP 0x00
#define NVME_REG_VS 0x08
#define NVME_REG_INTMS 0x0c
#define NVME_REG_INTMC 0x10
#define NVME_REG_CC 0x14
#define NVME_REG_CSTS 0x1c
#define NVME_REG_AQA 0x24
#define NVME_REG_ASQ 0x28
#define NVME_REG_ACQ 0x30
#define NVME_DOORBELLS 0x1000 /* SQ y tail at + 8 * y, CQ y head at + 8 * y + 4 */
#define NVME_BAR_SIZE 0x4000

#define NVME_VERSION 0x00010400u
#define NVME_PAGE 4096u /* CC.MPS 0, the only size offered */

#define NVME_CC_EN BIT(0)
#define NVME_CC_CSS_SHIFT 4
#define NVME_CC_MPS_SHIFT 7
#define NVME_CC_AMS_SHIFT 11
#define NVME_CC_SHN_SHIFT 14
#define NVME_CC_IOSQES_SHIFT 16
#define NVME_CC_IOCQES_SHIFT 20
#define NVME_CC_WMASK 0x00fffff1u
#define NVME_SQES 6 /* log2 of an entry's size */
#define NVME_CQES 4

#define NVME_CSTS_RDY BIT(0)
#define NVME_CSTS_CFS BIT(1)
#define NVME_CSTS_SHST_BUSY (1u << 2)
#define NVME_CSTS_SHST_DONE (2u << 2)
#define NVME_CSTS_SHST_MASK (3u << 2)

/* s4.2: submission queue entry */
struct nvme_sqe {
	le32 cdw0; /* opcode 7:0, fuse 9:8, reserved 13:10, psdt 15:14, command id 31:16 */
	le32 nsid;
	le32 cdw2, cdw3;
	le64 mptr;
	le64 prp1, prp2;
	le32 cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};

/* s4.6: completion queue entry */
struct nvme_cqe {
	le32 dw0, dw1;
	le16 sq_head, sq_id;
	le16 cid;
	le16 status; /* phase bit 0, then the status field */
};

_Static_assert(sizeof(struct nvme_sqe) == 64, "wire format");
_Static_assert(sizeof(struct nvme_cqe) == 16, "wire format");

#define NVME_NSID_ALL 0xffffffffu

enum nvme_admin_opcode {
	NVME_ADM_DELETE_SQ = 0x00,
	NVME_ADM_CREATE_SQ = 0x01,
	NVME_ADM_GET_LOG = 0x02,
	NVME_ADM_DELETE_CQ = 0x04,
	NVME_ADM_CREATE_CQ = 0x05,
	NVME_ADM_IDENTIFY = 0x06,
	NVME_ADM_ABORT = 0x08,
	NVME_ADM_SET_FEATURES = 0x09,
	NVME_ADM_GET_FEATURES = 0x0a,
	NVME_ADM_ASYNC_EVENT = 0x0c,
	NVME_ADM_FORMAT = 0x80,
	NVME_ADM_DBBUF = 0x7c, /* s5.7 */
};

enum nvme_io_opcode {
	NVME_CMD_FLUSH = 0x00,
	NVME_CMD_WRITE = 0x01,
	NVME_CMD_READ = 0x02,
	NVME_CMD_COMPARE = 0x05,
	NVME_CMD_WRITE_ZEROES = 0x08,
	NVME_CMD_DSM = 0x09,
	NVME_CMD_VERIFY = 0x0c,
};

/* CDW12 of reads and writes (s6.9, s6.15, s6.16) */
#define NVME_RW_FUA BIT(30)
#define NVME_WZ_DEAC BIT(25)
#define NVME_RW_DTYPE_MASK (0xfu << 20) /* writes */
/* CDW11 of Dataset Management (s6.7) */
#define NVME_DSM_AD BIT(2)
#define NVME_DSM_RANGES 256

struct nvme_dsm_range {
	le32 attributes;
	le32 blocks;
	le64 lba;
};

/* s4.6.1: status field, type << 8 | code; DNR is its bit 14 */
#define NVME_DNR 0x4000
enum nvme_status {
	NVME_SC_OK = 0x000,
	NVME_SC_INVALID_OPCODE = 0x001,
	NVME_SC_INVALID_FIELD = 0x002,
	NVME_SC_CID_CONFLICT = 0x003,
	NVME_SC_DATA_TRANSFER = 0x004,
	NVME_SC_INTERNAL = 0x006,
	NVME_SC_INVALID_NS = 0x00b,
	NVME_SC_SEQUENCE = 0x00c,
	NVME_SC_PRP_OFFSET = 0x013,
	NVME_SC_WRITE_PROTECTED = 0x020,
	NVME_SC_LBA_RANGE = 0x080,
	NVME_SC_CAPACITY = 0x081,
	NVME_SC_FORMAT_IN_PROGRESS = 0x084,
	NVME_SC_CQ_INVALID = 0x100,
	NVME_SC_QUEUE_ID = 0x101,
	NVME_SC_QUEUE_SIZE = 0x102,
	NVME_SC_AER_LIMIT = 0x105,
	NVME_SC_VECTOR = 0x108,
	NVME_SC_LOG_PAGE = 0x109,
	NVME_SC_INVALID_FORMAT = 0x10a,
	NVME_SC_QUEUE_DELETION = 0x10c,
	NVME_SC_NOT_SAVEABLE = 0x10d,
	NVME_SC_FEATURE_NOT_NS = 0x10f,
	NVME_SC_WRITE_FAULT = 0x280,
	NVME_SC_READ_ERROR = 0x281,
	NVME_SC_COMPARE_FAILURE = 0x285,
};

/* s5.21.1 */
enum nvme_feature {
	NVME_FEAT_ARBITRATION = 0x01,
	NVME_FEAT_POWER = 0x02,
	NVME_FEAT_TEMPERATURE = 0x04,
	NVME_FEAT_ERROR_RECOVERY = 0x05,
	NVME_FEAT_WRITE_CACHE = 0x06,
	NVME_FEAT_QUEUES = 0x07,
	NVME_FEAT_COALESCING = 0x08,
	NVME_FEAT_VECTOR = 0x09,
	NVME_FEAT_ATOMICITY = 0x0a,
	NVME_FEAT_ASYNC_EVENT = 0x0b,
};

/* s5.14.1 */
enum nvme_log_page {
	NVME_LOG_ERROR = 0x01,
	NVME_LOG_SMART = 0x02,
	NVME_LOG_FIRMWARE = 0x03,
	NVME_LOG_CHANGED_NS = 0x04,
};

#define NVME_LOG_ENTRIES 4 /* of 64 bytes in the error log */
#define NVME_AER_MAX 4
#define NVME_MDTS 9 /* 2^9 pages: 2 MiB */

/* s5.2: type << 3 | information */
enum nvme_event {
	NVME_EVENT_BAD_REGISTER = 0,
	NVME_EVENT_BAD_VALUE = 1,
	NVME_EVENT_RELIABILITY = 1 << 3,
	NVME_EVENT_NS_CHANGED = 2 << 3,
};

/* s5.21.1.11: which events are wanted */
#define NVME_WANT_RELIABILITY BIT(2)
#define NVME_WANT_NS_CHANGED BIT(8)

#endif
